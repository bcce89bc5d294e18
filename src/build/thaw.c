/*
 * thaw.c - giving an index memory of its own, so that it can be changed.
 */
#include <inttypes.h>

#include "build/change.h"

/* The codes of lists are elsewhere: one row is what is coded before it is turned into bits. */
static uint32_t code_rows(const annex_index *index, const struct owned *owned)
{
    return index->header.family == ANNEX_IVF ? 1 : owned->capacity;
}

static void owned_free(const annex_index *index, struct owned *owned)
{
    const annex_env *env = &index->env;
    size_t n = owned->capacity;
    linker_free(env, &owned->linker);
    if (index->header.family == ANNEX_IVF) {
        lists_free(index, owned);
    }
    memory_free(env, owned->codes, code_rows(index, owned), index->codec.row_bytes);
    memory_free(env, owned->errors, n, sizeof *owned->errors);
    memory_free(env, owned->raw, n, stored_bytes(&index->codec, index_stored(index)));
    memory_free(env, owned->neighbours, n, index->header.degree * 4);
    memory_free(env, owned->same, n, sizeof *owned->same);
    memory_free(env, owned->before, n, sizeof *owned->before);
    memory_free(env, owned->gone, bitmap_words(n), sizeof *owned->gone);
    memory_free(env, owned->paths.parent, n, sizeof *owned->paths.parent);
    memory_free(env, owned->pairs, index->header.degree, MEND_NEAR * sizeof *owned->pairs);
    memory_free(env, owned->keys, n, sizeof *owned->keys);
    memory_free(env, owned->key_bytes, owned->key_capacity, 1);
    memory_free(env, owned->key_hash, owned->hash_size, sizeof *owned->key_hash);
    memory_free(env, owned->dead, bitmap_words(n), 8);
    memory_free(env, owned->center, index->codec.dimension, sizeof *owned->center);
    memory_free(env, owned, 1, sizeof *owned);
}

static void free_owned(annex_index *index)
{
    owned_free(index, index->owned);
    index->owned = NULL;
}

void thaw_hash(struct owned *owned, struct key_view key, uint32_t slot)
{
    uint64_t mask = owned->hash_size - 1, i = key_hash(key) & mask;
    while (owned->key_hash[i]) {
        i = (i + 1) & mask;
    }
    owned->key_hash[i] = slot + 1;
}

/* ---- filling new arrays ----------------------------------------------------------------------*/

static annex_status copy_array(const annex_env *env, uint32_t slots, uint32_t capacity,
                               const void *from, size_t bytes, void *out, annex_error *error)
{
    void *copy;
    TRY(memory_new(env, capacity, bytes, &copy, error));
    if (slots && from) {
        memcpy(copy, from, slots * bytes);
    }
    memcpy(out, &copy, sizeof copy);
    return ANNEX_OK;
}

static annex_status copy_rows(const annex_index *index, struct owned *owned, annex_error *error)
{
    const annex_env *env = &index->env;
    uint32_t n = index->slots, capacity = owned->capacity;
    bool lists = index->header.family == ANNEX_IVF;
    TRY(copy_array(env, lists ? 0 : n, code_rows(index, owned), index->graph.rows,
                   index->codec.row_bytes, &owned->codes, error));
    TRY(copy_array(env, n, capacity, index->keys, 8, &owned->keys, error));
    TRY(copy_array(env, (uint32_t)bitmap_words(n), (uint32_t)bitmap_words(capacity), index->dead, 8,
                   &owned->dead, error));
    if (!codec_is_bits(index->codec.metric)) {
        if (!lists) {
            TRY(copy_array(env, n, capacity, index->errors, 4, &owned->errors, error));
        }
        TRY(copy_array(env, index->codec.dimension, index->codec.dimension, index->codec.center, 4,
                       &owned->center, error));
    }
    if (index->keeps_raw) {
        size_t bytes = stored_bytes(&index->codec, index_stored(index));
        TRY(memory_new(env, capacity, bytes, &owned->raw, error));
        for (uint32_t slot = 0; slot < n; slot++) {
            memcpy(owned->raw + slot * bytes, index_raw(index, slot), bytes);
        }
    }
    return ANNEX_OK;
}

static annex_status copy_keys(const annex_index *index, struct owned *owned, uint64_t key_capacity,
                              annex_error *error)
{
    owned->key_capacity = key_capacity;
    TRY(memory_new(&index->env, owned->key_capacity, 1, &owned->key_bytes, error));
    if (index->n_key_bytes) {
        memcpy(owned->key_bytes, index->key_bytes, index->n_key_bytes);
    }
    uint64_t size = 16;
    while (size < 2 * (uint64_t)owned->capacity) {
        size *= 2;
    }
    TRY(memory_new(&index->env, size, 4, &owned->key_hash, error));
    owned->hash_size = size;
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        if (index_is_live(index, slot)) {
            thaw_hash(owned, key_of(index, slot), slot);
        }
    }
    return ANNEX_OK;
}

/*
 * Searches compare every id with the number of slots; code that changes a graph does not. So what a
 * damaged file could have put there is taken out once, here.
 */
static void bound_neighbours(const annex_index *index, struct owned *owned)
{
    uint32_t degree = index->header.degree;
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        uint32_t *row = owned->neighbours + (size_t)slot * degree, n = 0;
        while (n < degree && row[n] < index->slots) {
            n++;
        }
        for (; n < degree; n++) {
            row[n] = GRAPH_END;
        }
    }
}

/* Rings are a permutation of the slots; anything else is replaced by rings of one. */
static annex_status bound_rings(const annex_index *index, struct owned *owned, annex_error *error)
{
    uint64_t *met;
    bool whole = index->same != NULL;
    TRY(memory_new(&index->env, bitmap_words(index->slots), 8, &met, error));
    for (uint32_t slot = 0; slot < index->slots && whole; slot++) {
        whole = owned->same[slot] < index->slots && !bitmap_get(met, owned->same[slot]);
        if (whole) {
            bitmap_set(met, owned->same[slot]);
        }
    }
    for (uint32_t slot = 0; slot < index->slots && !whole; slot++) {
        owned->same[slot] = slot;
    }
    memory_free(&index->env, met, bitmap_words(index->slots), 8);
    return ANNEX_OK;
}

/* What no file holds: from the older memory, or found out. */
static annex_status copy_paths(annex_index *index, struct owned *owned, annex_error *error)
{
    const annex_env *env = &index->env;
    const struct owned *older = index->owned;
    uint32_t n = index->slots, capacity = owned->capacity, words = (uint32_t)bitmap_words(n);
    TRY(copy_array(env, words, (uint32_t)bitmap_words(capacity), older ? older->gone : NULL, 8,
                   &owned->gone, error));
    TRY(copy_array(env, n, capacity, older ? older->before : NULL, 4, &owned->before, error));
    TRY(copy_array(env, n, capacity, older ? older->paths.parent : NULL, 4, &owned->paths.parent,
                   error));
    TRY(memory_new_raw(env, index->header.degree, MEND_NEAR * sizeof *owned->pairs, &owned->pairs,
                       error));
    owned->paths.neighbours = owned->neighbours;
    owned->paths.degree = index->header.degree;
    owned->paths.slots = n;
    owned->ordered = older ? older->ordered : n;
    owned->enough = older ? older->enough : 0;
    owned->sweep_at = older ? older->sweep_at : 0;
    owned->sweep_left = older ? older->sweep_left : 0;
    if (!older && index->dead) { /* a graph of the living rows: see refit.c */
        memcpy(owned->gone, index->dead, words * sizeof *owned->gone);
    }
    return older ? ANNEX_OK : mend_start(index, owned, error);
}

static annex_status copy_graph(annex_index *index, struct owned *owned, annex_error *error)
{
    const annex_env *env = &index->env;
    uint32_t n = index->slots, capacity = owned->capacity;
    TRY(copy_array(env, n, capacity, index->graph.neighbours, index->header.degree * 4,
                   &owned->neighbours, error));
    TRY(copy_array(env, n, capacity, index->same, 4, &owned->same, error));
    bound_neighbours(index, owned);
    TRY(bound_rings(index, owned, error));
    for (uint32_t i = 0; i < index->graph.n_entries; i++) {
        owned->entries[i] = MIN(index->graph.entries[i], n - 1);
    }
    struct link_options options = {.degree = index->header.degree,
                                   .effort = index->header.build_effort,
                                   .alpha = index->header.alpha,
                                   .threads = 1};
    struct graph view = index->graph;
    view.slots = capacity; /* the walk needs room for all of them */
    TRY(linker_new(env, &view, &options, &owned->linker, error));
    owned->linker.graph = &index->graph;
    TRY(copy_paths(index, owned, error));
    owned->linker.dead = owned->gone;
    return ANNEX_OK;
}

static void install(annex_index *index, struct owned *owned)
{
    if (index->owned) {
        owned_free(index, index->owned);
    }
    index->owned = owned;
    index->free_owned = free_owned;
    index->codec.center = owned->center;
    if (index->header.family == ANNEX_IVF) {
        lists_install(index, owned);
    }
    index->graph.rows = owned->codes;
    index->graph.neighbours = owned->neighbours;
    index->graph.entries = owned->entries;
    index->errors = owned->errors;
    index->raw = owned->raw;
    index->raw_row = NULL;
    index->same = owned->same;
    index->keys = owned->keys;
    index->key_bytes = owned->key_bytes;
    index->key_hash = owned->key_hash;
    index->hash_size = owned->hash_size;
    index->dead = owned->dead;
}

annex_status thaw_copy(annex_index *index, uint32_t capacity, uint64_t key_capacity,
                       struct owned **out, annex_error *error)
{
    struct owned *owned;
    TRY(memory_new(&index->env, 1, sizeof *owned, &owned, error));
    owned->capacity = capacity;
    annex_status status = copy_rows(index, owned, error);
    if (!status) {
        status = copy_keys(index, owned, key_capacity, error);
    }
    if (!status && index->header.family == ANNEX_GRAPH) {
        status = copy_graph(index, owned, error);
    }
    if (!status && index->header.family == ANNEX_IVF) {
        status = lists_thaw(index, owned, error);
    }
    if (status) {
        owned_free(index, owned);
        return status;
    }
    *out = owned;
    return ANNEX_OK;
}

annex_status thaw(annex_index *index, uint32_t more, uint64_t key_bytes, annex_error *error)
{
    struct owned *owned = index->owned;
    uint64_t wanted = (uint64_t)index->slots + more, keys = index->n_key_bytes + key_bytes;
    if (wanted > ANNEX_MAX_ROWS) {
        return error_set(error, ANNEX_FULL,
                         "the index would have %" PRIu64
                         " rows, and an index file holds at most %u",
                         wanted, ANNEX_MAX_ROWS);
    }
    if (owned && wanted <= owned->capacity && keys <= owned->key_capacity) {
        return ANNEX_OK;
    }
    /* A quarter more, so that single rows do not copy everything each time. */
    uint32_t capacity = (uint32_t)MIN(wanted + wanted / 4 + 64, ANNEX_MAX_ROWS);
    uint64_t refit_at = owned ? owned->refit_at : 0;
    TRY(thaw_copy(index, capacity, keys + index->n_key_bytes / 4, &owned, error));
    owned->refit_at = refit_at;
    index->header.fitted = index->header.fitted ? index->header.fitted : index->slots;
    install(index, owned);
    return ANNEX_OK;
}

void thaw_replace(annex_index *index, const annex_index *next, struct owned *owned)
{
    install(index, owned);
    index->codec = next->codec;
    index->codec.center = owned->center;
    index->header = next->header;
    memcpy(index->recall, next->recall, sizeof index->recall);
    index->n_recall = next->n_recall;
    index->graph.n_entries = next->graph.n_entries;
    owned->linker.graph = &index->graph;
    owned->linker.row.codec = owned->linker.candidate.codec = &index->codec;
}
