/*
 * change.c - inserting, updating and deleting rows of an open index.
 *
 * A new row gets the slot behind the last one. A deleted row keeps its slot as a tombstone that
 * walks pass through; the rows that pointed at it are linked to the rows behind it (after Xu et
 * al., IP-DiskANN, 2025), so that recall does not sink until annex_index_save leaves it out.
 *
 * Invariants
 *   1. A batch is checked as a whole and memory for it reserved before anything changes; after that
 *      nothing can fail: a change is all or nothing.
 *   2. Slots are never reused while the index is open: row numbers stay what they were.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "build/change.h"

/* ---- checks ----------------------------------------------------------------------------------*/

static struct key_view batch_key(const annex_index *index, const annex_batch *batch, size_t i)
{
    return build_batch_key(index->header.key_kind, batch, i,
                           0); /* changes always name their keys */
}

static annex_status check_batch(const annex_index *index, const annex_batch *batch,
                                annex_error *error)
{
    bool integers = index->header.key_kind == ANNEX_KEY_INTEGER;
    if (batch->n && (integers ? !batch->keys : !batch->key_ends)) {
        return error_set(error, ANNEX_INVALID, "a change needs %s keys",
                         integers ? "integer" : "byte");
    }
    for (size_t i = 0; i < batch->n; i++) {
        struct key_view key = batch_key(index, batch, i);
        if (key.n_bytes > 65535) {
            return error_set(error, ANNEX_INVALID,
                             "a key has %zu bytes, expected at most 65535 bytes", key.n_bytes);
        }
    }
    return ANNEX_OK;
}

static annex_status check_vectors(const annex_index *index, const annex_batch *batch,
                                  annex_error *error)
{
    uint32_t dimension = index->codec.dimension;
    for (size_t i = 0; !codec_is_bits(index->codec.metric) && i < batch->n; i++) {
        const float *vector = (const float *)batch->vectors + i * dimension;
        bool zero;
        if (!codec_accepts(index->codec.metric, vector, dimension, &zero)) {
            char text[64], what[96];
            snprintf(what, sizeof what, "the vector with key %s",
                     key_text(batch_key(index, batch, i), text));
            return codec_refuse(vector, dimension, what, error);
        }
    }
    return ANNEX_OK;
}

static int compare_keys(const void *a, const void *b)
{
    return key_compare(*(const struct key_view *)a, *(const struct key_view *)b);
}

/* No key twice in the batch; each key present, absent, or either (expect 1, 0, -1). */
static annex_status check_keys(const annex_index *index, const annex_batch *batch, int expect,
                               annex_error *error)
{
    struct key_view *sorted;
    char text[64];
    annex_status status = ANNEX_OK;
    TRY(memory_new(&index->env, batch->n, sizeof *sorted, &sorted, error));
    for (size_t i = 0; i < batch->n && !status; i++) {
        uint32_t slot;
        struct key_view key = batch_key(index, batch, i);
        sorted[i] = key;
        bool found = key_find(index, key, &slot);
        if (expect == 0 && found) {
            status = error_set(error, ANNEX_EXISTS,
                               "the index already has the key %s; use annex_index_update",
                               key_text(key, text));
        } else if (expect == 1 && !found) {
            status =
                error_set(error, ANNEX_NOT_FOUND, "no row has the key %s", key_text(key, text));
        }
    }
    if (!status && batch->n) {
        qsort(sorted, batch->n, sizeof *sorted, compare_keys);
    }
    for (size_t i = 1; i < batch->n && !status; i++) {
        if (key_compare(sorted[i - 1], sorted[i]) == 0) {
            status = error_set(error, ANNEX_INVALID, "the change names the key %s twice",
                               key_text(sorted[i], text));
        }
    }
    memory_free(&index->env, sorted, batch->n, sizeof *sorted);
    return status;
}

/* ---- edges -----------------------------------------------------------------------------------*/

static uint32_t *row_of(const annex_index *index, uint32_t slot)
{
    return index->owned->neighbours + (size_t)slot * index->header.degree;
}

static uint32_t count_edges(const annex_index *index, const uint32_t *row)
{
    uint32_t n = 0;
    while (n < index->header.degree && row[n] < index->slots) {
        n++;
    }
    return n;
}

static bool has_edge(const annex_index *index, uint32_t from, uint32_t to)
{
    const uint32_t *row = row_of(index, from);
    for (uint32_t i = 0; i < count_edges(index, row); i++) {
        if (row[i] == to) {
            return true;
        }
    }
    return false;
}

/* Whether a row is pointed at by one of its own neighbours other than `except`. */
static bool has_other_edge(const annex_index *index, uint32_t slot, uint32_t except)
{
    const uint32_t *row = row_of(index, slot);
    for (uint32_t i = 0; i < count_edges(index, row); i++) {
        if (row[i] != except && has_edge(index, row[i], slot)) {
            return true;
        }
    }
    return false;
}

/* Pruning may have refused every edge to a new row: one has to stay, or it is never found. */
static void ensure_edge(annex_index *index, uint32_t slot)
{
    const uint32_t *own = row_of(index, slot);
    uint32_t n = count_edges(index, own);
    for (uint32_t i = 0; i < n; i++) {
        if (has_edge(index, own[i], slot)) {
            return;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *row = row_of(index, own[i]), edges = count_edges(index, row);
        if (edges < index->header.degree) {
            row[edges] = slot;
            return;
        }
        for (uint32_t j = edges; j-- > 0;) {
            if (has_other_edge(index, row[j], own[i])) {
                row[j] = slot;
                return;
            }
        }
    }
    row_of(index, own[0])[index->header.degree - 1] = slot;
}

/* Walks start at the slot: nothing alive that could lead to it was met. */
static void add_entry(annex_index *index, uint32_t slot)
{
    uint32_t *entries = index->owned->entries, i = index->graph.n_entries;
    if (i < GRAPH_MAX_ENTRIES) {
        entries[index->graph.n_entries++] = slot;
        return;
    }
    while (--i > 0 && index_is_live(index, entries[i])) {
    }
    entries[i] = slot;
}

/* Puts the slot into the ring of a row with the same code, which the walk of its insertion met. */
static bool join_twins(annex_index *index, uint32_t slot)
{
    enum { AMONG = 8 }; /* twins have the lowest score, but not alone */
    struct owned *owned = index->owned;
    const struct walk *walk = &owned->linker.walk;
    size_t row_bytes = index->codec.row_bytes;
    for (uint32_t i = 0; i < MIN(walk->size, AMONG); i++) {
        uint32_t met = walk_id(walk->pool[i]);
        if (memcmp(index_code(index, met), index_code(index, slot), row_bytes) == 0) {
            owned->same[slot] = owned->same[met];
            owned->same[met] = slot;
            return true;
        }
    }
    return false;
}

/* The slots take part in walks only from here on: `graph.slots` grows last. */
static void link_slot(annex_index *index, uint32_t slot)
{
    struct owned *owned = index->owned;
    struct linker *linker = &owned->linker;
    uint32_t *row = row_of(index, slot), own[GRAPH_MAX_DEGREE];
    owned->same[slot] = slot;
    linker_insert(linker, slot, row);
    index->graph.slots = index->slots = slot + 1;
    if (join_twins(index, slot)) { /* found through the one that is linked */
        memset(row, 0xff, index->header.degree * 4);
        return;
    }
    uint32_t n = count_edges(index, row);
    if (n == 0) {
        add_entry(index, slot);
        return;
    }
    memcpy(own, row, n * sizeof *own);
    for (uint32_t i = 0; i < n; i++) {
        linker_add_reverse(linker, own[i], &slot, 1, row_of(index, own[i]));
    }
    ensure_edge(index, slot);
}

/* ---- one row ---------------------------------------------------------------------------------*/

/* Rows that are no bytes end the losslessness of codes: the vectors have to be kept from now on. */
static annex_status keep_vectors(annex_index *index, annex_error *error)
{
    struct owned *owned = index->owned;
    size_t bytes = codec_vector_bytes(&index->codec);
    TRY(memory_new(&index->env, owned->capacity, bytes, &owned->raw, error));
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        codec_decode(&index->codec, index_code(index, slot), owned->raw + slot * bytes);
    }
    index->raw = owned->raw;
    index->keeps_raw = true;
    index->codec.lossless = false;
    index->header.lossless = 0;
    return ANNEX_OK;
}

static bool is_exact_batch(const annex_index *index, const annex_batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        if (!codec_holds(&index->codec,
                         (const float *)batch->vectors + i * index->codec.dimension)) {
            return false;
        }
    }
    return true;
}

static void raise_max_norm(annex_index *index, const float *vector)
{
    double sum = 0;
    for (uint32_t j = 0; j < index->codec.dimension; j++) {
        sum += (double)vector[j] * vector[j];
    }
    float norm = nextafterf((float)sqrt(sum), INFINITY);
    index->codec.max_norm = index->header.max_norm = MAX(index->codec.max_norm, norm);
}

/* `unit`: room for two vectors. */
static void add_row(annex_index *index, struct key_view key, const void *vector, float *unit)
{
    struct owned *owned = index->owned;
    uint32_t slot = index->slots;
    float lost;
    if (index->codec.metric == ANNEX_COSINE) {
        if (!codec_normalize(vector, unit, index->codec.dimension)) {
            index->header.skipped++;
            return;
        }
        vector = unit;
    }
    if (index->codec.metric == ANNEX_IP) {
        raise_max_norm(index, vector);
    }
    codec_encode(&index->codec, vector, owned->codes + (size_t)slot * index->codec.row_bytes,
                 unit + index->codec.dimension, &lost);
    if (owned->errors) {
        owned->errors[slot] = lost;
    }
    if (owned->raw) {
        size_t bytes = codec_vector_bytes(&index->codec);
        memcpy(owned->raw + slot * bytes, vector, bytes);
    }
    owned->keys[slot] = key.number;
    if (key.bytes) {
        memcpy(owned->key_bytes + index->n_key_bytes, key.bytes, key.n_bytes);
        index->n_key_bytes += key.n_bytes;
        owned->keys[slot] = (int64_t)index->n_key_bytes;
    }
    bitmap_clear(owned->dead, slot);
    if (index->header.family == ANNEX_GRAPH) {
        link_slot(index, slot);
    } else {
        index->graph.slots = index->slots = slot + 1;
    }
    thaw_hash(owned, key_of(index, slot), slot);
    index->live++;
}

/* Gives `row`, which points at a deleted slot, the rows behind that slot to choose from. */
static void bridge(annex_index *index, uint32_t from, uint32_t slot)
{
    struct linker *linker = &index->owned->linker;
    uint32_t *row = row_of(index, from);
    const uint32_t *behind = row_of(index, slot);
    uint32_t ids[2 * GRAPH_MAX_DEGREE], n = 0;
    float scores[2 * GRAPH_MAX_DEGREE];
    for (uint32_t i = 0; i < count_edges(index, row); i++) {
        if (row[i] != slot) {
            ids[n++] = row[i];
        }
    }
    uint32_t kept = n;
    for (uint32_t i = 0; i < count_edges(index, behind); i++) {
        bool known = behind[i] == from || !index_is_live(index, behind[i]);
        for (uint32_t j = 0; j < kept && !known; j++) {
            known = ids[j] == behind[i];
        }
        if (!known) {
            ids[n++] = behind[i];
        }
    }
    codec_query_set_row(&linker->row, index_code(index, from));
    codec_score(&linker->row, index->graph.rows, ids, n, scores);
    linker_choose(linker, ids, scores, n, row);
}

/* The member of a ring that has edges; *alive when any of its members is. */
static uint32_t linked_twin(const annex_index *index, uint32_t slot, bool *alive)
{
    uint32_t linked = slot, twin = slot;
    *alive = false;
    do {
        *alive = *alive || index_is_live(index, twin);
        linked = row_of(index, twin)[0] < index->slots ? twin : linked;
        twin = index->owned->same[twin];
    } while (twin != slot);
    return linked;
}

static void delete_slot(annex_index *index, uint32_t slot)
{
    struct owned *owned = index->owned;
    bitmap_set(owned->dead, slot);
    index->live--;
    if (index->header.family != ANNEX_GRAPH) {
        return;
    }
    bool alive;
    slot = linked_twin(index, slot, &alive);
    if (alive) {
        return; /* twins are found through the ring, whoever of it is dead */
    }
    struct linker *linker = &owned->linker;
    codec_query_set_row(&linker->row, index_code(index, slot));
    graph_walk(&index->graph, &linker->row, linker->options.effort, &linker->walk);
    for (uint32_t i = 0; i < linker->walk.size; i++) {
        uint32_t from = walk_id(linker->walk.pool[i]);
        if (from != slot && index_is_live(index, from) && has_edge(index, from, slot)) {
            bridge(index, from, slot);
        }
    }
}

/* ---- public ----------------------------------------------------------------------------------*/

static annex_status change(annex_index *index, const annex_batch *batch, bool remove, bool add,
                           int expect, annex_error *error)
{
    uint64_t key_bytes = add && batch->key_ends && batch->n ? batch->key_ends[batch->n - 1] : 0;
    float *unit = NULL;
    annex_status status;
    index_begin_write(index);
    TRY_CLEANUP(check_batch(index, batch, error));
    TRY_CLEANUP(check_keys(index, batch, expect, error));
    if (add) {
        TRY_CLEANUP(check_vectors(index, batch, error));
    }
    TRY_CLEANUP(memory_new(&index->env, index->codec.dimension, 2 * sizeof *unit, &unit, error));
    TRY_CLEANUP(thaw(index, add ? (uint32_t)MIN(batch->n, ANNEX_MAX_ROWS) : 0, key_bytes, error));
    if (add && index->codec.lossless && !codec_is_bits(index->codec.metric) && !index->keeps_raw &&
        !is_exact_batch(index, batch)) {
        TRY_CLEANUP(keep_vectors(index, error));
    }
    index->dirty = index->dirty || batch->n > 0;
    for (size_t i = 0; i < batch->n; i++) {
        uint32_t slot;
        struct key_view key = batch_key(index, batch, i);
        if (remove && key_find(index, key, &slot)) {
            delete_slot(index, slot);
        }
        if (add) {
            size_t bytes = codec_vector_bytes(&index->codec);
            add_row(index, key, (const char *)batch->vectors + i * bytes, unit);
        }
        pthread_rwlock_unlock(&index->lock); /* readers wait for one row at most */
        index_begin_write(index);
    }
cleanup:
    pthread_rwlock_unlock(&index->lock);
    memory_free(&index->env, unit, index->codec.dimension, 2 * sizeof *unit);
    return status;
}

annex_status annex_index_insert(annex_index *index, const annex_batch *batch, annex_error *error)
{
    return change(index, batch, false, true, 0, error);
}

annex_status annex_index_update(annex_index *index, const annex_batch *batch, annex_error *error)
{
    return change(index, batch, true, true, -1, error);
}

annex_status annex_index_delete(annex_index *index, const annex_batch *keys, annex_error *error)
{
    return change(index, keys, true, false, 1, error);
}
