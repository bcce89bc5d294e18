/*
 * save.c - annex_index_save: writes a changed index as a fresh image, without its deleted rows.
 *
 * The sweep (mend.c) comes first: then no edge leads to a row that is left out. Codes that do not
 * fit are renewed (refit.c). Live slots move together; new rows of a graph go next to near ones, or
 * the order that a build gave them (order.c) would be lost row by row. A deleted row that stood for
 * living twins hands its place in the graph to one of them.
 */
#include <stdlib.h>

#include "build/change.h"

#define SAVE_GONE UINT32_MAX

/* Old slot -> new slot, and the arrays of the image that differ from the index's. */
struct save {
    annex_index *index;
    uint32_t n;      /* live rows */
    uint32_t *moved; /* [slots] new slot; SAVE_GONE */
    uint32_t *old;   /* [n] */
    uint8_t *codes;  /* [n x row_bytes] */
    float *errors;   /* [n] */
    int64_t *keys;   /* [n] */
    char *key_bytes;
    uint64_t n_key_bytes;
    uint32_t *same;       /* [n] */
    uint32_t *neighbours; /* [n x degree], ids in new slots */
    uint32_t *linked;     /* [n] rows of the new graph */
    uint32_t *places;     /* [n] the slots whose edges they take */
    uint32_t n_linked;
    uint32_t entries[GRAPH_MAX_ENTRIES];
    uint32_t n_entries;
    float reach[2];
    struct ivf_list *lists; /* [n_lists + 1]; of lists */
    uint8_t *blocks;
};

/* Whose place a row goes to: its own, or for a new one that of a neighbour older than itself. */
static uint32_t find_place(const annex_index *index, const uint32_t *places, uint32_t slot)
{
    uint32_t degree = index->header.degree;
    if (!index->owned || slot < index->owned->ordered || index->header.family != ANNEX_GRAPH) {
        return slot;
    }
    const uint32_t *row = index->graph.neighbours + (size_t)slot * degree;
    for (uint32_t i = 0; i < degree && row[i] < index->slots; i++) {
        if (row[i] < slot) {
            return places[row[i]];
        }
    }
    return slot;
}

static annex_status number_rows(struct save *save, annex_error *error)
{
    const annex_index *index = save->index;
    uint32_t slots = index->slots, *places = save->moved, *ends, n = 0;
    TRY(memory_new(&index->env, slots, sizeof *ends, &ends, error));
    for (uint32_t slot = 0; slot < slots; slot++) {
        places[slot] = find_place(index, places, slot);
        ends[places[slot]] += index_is_live(index, slot);
    }
    for (uint32_t place = 0; place < slots; place++) {
        uint32_t first = n;
        n += ends[place];
        ends[place] = first;
    }
    for (uint32_t slot = 0; slot < slots; slot++) {
        uint32_t place = places[slot];
        save->moved[slot] = SAVE_GONE;
        if (index_is_live(index, slot)) {
            save->moved[slot] = ends[place]++;
            save->old[save->moved[slot]] = slot;
        }
    }
    save->n = n;
    memory_free(&index->env, ends, slots, sizeof *ends);
    return ANNEX_OK;
}

static uint32_t twin(const annex_index *index, uint32_t slot)
{
    return index->same ? MIN(index->same[slot], index->slots - 1) : slot;
}

/* Whether a row has a place in the graph, which one of each ring has. */
static bool has_place(const annex_index *index, uint32_t slot)
{
    const uint32_t *row = index->graph.neighbours + (size_t)slot * index->header.degree;
    bool has = row[0] < index->slots;
    for (uint32_t i = 0; i < index->graph.n_entries && !has; i++) {
        has = index->graph.entries[i] == slot;
    }
    return has;
}

/*
 * For each ring with a living row: the slot that has its place in the graph, and the living row
 * that has it from now on. Edges to the slot become edges to that row.
 */
static annex_status choose_linked(struct save *save, annex_error *error)
{
    const annex_index *index = save->index;
    uint64_t *met;
    TRY(memory_new(&index->env, bitmap_words(index->slots), 8, &met, error));
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        uint32_t place = SAVE_GONE, heir = SAVE_GONE;
        for (uint32_t i = slot; !bitmap_get(met, i); i = twin(index, i)) {
            bitmap_set(met, i);
            place = place == SAVE_GONE && has_place(index, i) ? i : place;
            heir = heir == SAVE_GONE && index_is_live(index, i) ? i : heir;
        }
        if (heir == SAVE_GONE) {
            continue;
        }
        place = place == SAVE_GONE ? heir : place;
        heir = index_is_live(index, place) ? place : heir;
        save->moved[place] = save->moved[heir];
        save->places[save->n_linked] = place;
        save->linked[save->n_linked++] = save->moved[heir];
    }
    memory_free(&index->env, met, bitmap_words(index->slots), 8);
    return ANNEX_OK;
}

static void copy_rings(struct save *save)
{
    const annex_index *index = save->index;
    for (uint32_t i = 0; i < save->n; i++) {
        uint32_t next = twin(index, save->old[i]);
        for (uint32_t steps = 0; !index_is_live(index, next) && steps < index->slots; steps++) {
            next = twin(index, next);
        }
        save->same[i] = index_is_live(index, next) ? save->moved[next] : i;
    }
}

static annex_status copy_rows(struct save *save, annex_error *error)
{
    const annex_index *index = save->index;
    size_t row_bytes = index->codec.row_bytes;
    for (uint32_t i = 0; i < save->n; i++) {
        uint32_t slot = save->old[i];
        if (save->codes) {
            memcpy(save->codes + i * row_bytes, index_code(index, slot), row_bytes);
        }
        if (index->errors) {
            save->errors[i] = index->errors[slot];
        }
        struct key_view key = key_of(index, slot);
        save->keys[i] = key.number;
        if (key.n_bytes > index->n_key_bytes - save->n_key_bytes) {
            return error_set(error, ANNEX_DAMAGED, "the keys of the index overlap; build it again");
        }
        if (key.n_bytes) {
            memcpy(save->key_bytes + save->n_key_bytes, key.bytes, key.n_bytes);
        }
        if (key.bytes) {
            save->n_key_bytes += key.n_bytes;
            save->keys[i] = (int64_t)save->n_key_bytes;
        }
    }
    return ANNEX_OK;
}

/* ---- edges -----------------------------------------------------------------------------------*/

/* The neighbours of what was `slot`, now `self`: after the sweep none of them is gone. */
static void copy_edges(struct save *save, uint32_t slot, uint32_t self)
{
    const annex_index *index = save->index;
    uint32_t degree = index->header.degree, n = 0;
    const uint32_t *row = index->graph.neighbours + (size_t)slot * degree;
    uint32_t *to = save->neighbours + (size_t)self * degree;
    for (uint32_t i = 0; i < degree && row[i] < index->slots; i++) {
        uint32_t id = save->moved[row[i]];
        if (id != SAVE_GONE && id != self) {
            to[n++] = id;
        }
    }
}

static uint32_t add_entry(uint32_t *entries, uint32_t n, uint32_t entry)
{
    for (uint32_t i = 0; i < n; i++) {
        if (entries[i] == entry) {
            return n;
        }
    }
    entries[n] = entry;
    return n + 1;
}

static void copy_entries(struct save *save)
{
    const struct graph *graph = &save->index->graph;
    for (uint32_t i = 0; i < graph->n_entries; i++) {
        uint32_t entry = save->moved[MIN(graph->entries[i], graph->slots - 1)];
        if (entry != SAVE_GONE) {
            save->n_entries = add_entry(save->entries, save->n_entries, entry);
        }
    }
    /* From all over the index: rows with near numbers are near each other. */
    uint32_t wanted = MIN(save->n_linked, BUILD_ENTRIES);
    for (uint32_t i = 0; i < wanted && save->n_entries < wanted; i++) {
        uint32_t place = (uint32_t)((uint64_t)i * save->n_linked / wanted);
        save->n_entries = add_entry(save->entries, save->n_entries, save->linked[place]);
    }
}

/* ---- reach -----------------------------------------------------------------------------------*/

struct save_walks {
    const struct save *save;
    const struct graph *graph;
    struct query query;
    float *vector;
};

/* build_walks of rows from all over the graph, each of which finds itself first. */
static annex_status walks_of_linked(void *context, uint32_t effort, float reach, double *hops,
                                    annex_error *error)
{
    enum { QUERIES = 100 };
    struct save_walks *walks = context;
    const struct save *save = walks->save;
    const struct graph *graph = walks->graph;
    uint32_t window = MIN(index_window(reach, effort), graph->slots);
    struct walk walk;
    TRY(walk_new(&save->index->env, graph->slots, window, 0, &walk, error));
    walk.reach = reach;
    walk.near = walk.least = walk.wanted = INDEX_CALIBRATED_K + 1;
    for (uint32_t i = 0; i < QUERIES; i++) {
        uint32_t row = save->linked[(uint64_t)i * save->n_linked / QUERIES];
        codec_decode(graph->codec, graph->rows + (size_t)row * graph->codec->row_bytes,
                     walks->vector);
        codec_query_set(&walks->query, walks->vector);
        graph_walk(graph, &walks->query, window, &walk);
    }
    *hops = (double)walk.hops / QUERIES;
    walk_free(&save->index->env, &walk);
    return ANNEX_OK;
}

/* A changed graph has another reach than the one that it was built as. */
static annex_status measure_reach(struct save *save, const struct graph *graph, annex_error *error)
{
    const annex_env *env = &save->index->env;
    const struct codec *codec = graph->codec;
    struct save_walks walks = {.save = save, .graph = graph};
    void *memory = NULL;
    annex_status status;
    save->reach[0] = save->reach[1] = 0;
    if (save->n_linked <= BUILD_REACH_ROWS || save->index->header.reach[0] == 0) {
        return ANNEX_OK;
    }
    TRY_CLEANUP(memory_new(env, 1, codec_query_bytes(codec), &memory, error));
    TRY_CLEANUP(memory_new(env, 1, codec_vector_bytes(codec), &walks.vector, error));
    codec_query_init(codec, &walks.query, memory);
    status = build_find_reach(walks_of_linked, &walks, save->reach, error);
cleanup:
    memory_free(env, memory, 1, codec_query_bytes(codec));
    memory_free(env, walks.vector, 1, codec_vector_bytes(codec));
    return status;
}

static annex_status copy_graph(struct save *save, annex_error *error)
{
    annex_index *index = save->index;
    const annex_env *env = &index->env;
    struct link_options options = {.degree = index->header.degree,
                                   .effort = index->header.build_effort,
                                   .alpha = index->header.alpha,
                                   .threads = 1};
    struct graph graph = {.codec = &index->codec,
                          .rows = save->codes,
                          .neighbours = save->neighbours,
                          .degree = options.degree,
                          .slots = save->n,
                          .entries = save->entries};
    memset(save->neighbours, 0xff, (size_t)save->n * options.degree * 4);
    for (uint32_t i = 0; i < save->n_linked; i++) {
        copy_edges(save, save->places[i], save->linked[i]);
    }
    copy_entries(save);
    graph.n_entries = save->n_entries;
    TRY(repair_reach(env, &graph, save->neighbours, &options, save->linked, save->n_linked, error));
    return measure_reach(save, &graph, error);
}

/* ---- the image -------------------------------------------------------------------------------*/

static annex_status write_raw(void *context, struct segment_writer *writer, annex_error *error)
{
    const struct save *save = context;
    const annex_index *index = save->index;
    size_t bytes = stored_bytes(&index->codec, index_stored(index));
    for (uint32_t i = 0; i < save->n; i++) {
        TRY(segment_writer_append(writer, SECTION_RAW, index_raw(index, save->old[i]), bytes,
                                  error));
    }
    return ANNEX_OK;
}

static annex_status write_image(struct save *save, const char *path, annex_error *error)
{
    const annex_index *index = save->index;
    bool graph = index->header.family == ANNEX_GRAPH;
    struct image image = {
        .env = index->env,
        .header = index->header,
        .codes = save->codes,
        .errors = save->errors,
        .center = codec_is_bits(index->codec.metric) ? NULL : index->codec.center,
        .neighbours = graph ? save->neighbours : NULL,
        .entries = graph ? save->entries : NULL,
        .n_entries = save->n_entries,
        .keys = save->keys,
        .key_bytes = index->header.key_kind == ANNEX_KEY_BYTES ? save->key_bytes : NULL,
        .n_key_bytes = save->n_key_bytes,
        .same = graph ? save->same : NULL,
        .recall = index->recall,
        .n_recall = index->n_recall,
        .row_bytes = index->codec.row_bytes,
        .raw_row_bytes = index->keeps_raw ? stored_bytes(&index->codec, index_stored(index)) : 0,
        .write_raw = write_raw,
        .raw_context = save,
    };
    if (index->header.family == ANNEX_IVF) {
        image.ivf = index->ivf;
        image.ivf.lists = save->lists;
        image.ivf.blocks = save->blocks;
    }
    image.header.slots = save->n;
    memcpy(image.header.reach, save->reach, sizeof save->reach);
    struct segment_writer *writer;
    TRY(emit_image(&image, path, &writer, error));
    return segment_writer_finish(writer, &image.header, error);
}

static annex_status save_locked(struct save *save, const char *path, annex_error *error)
{
    annex_index *index = save->index;
    const annex_env *env = &index->env;
    uint32_t live = index->live;
    bool graph = index->header.family == ANNEX_GRAPH;
    bool ivf = index->header.family == ANNEX_IVF;
    size_t edge_bytes = index->header.degree * 4, block_bytes = index->ivf.rabitq.block_bytes;
    size_t n_lists = index->ivf.n_lists + UINT64_C(1);
    annex_status status;
    TRY_CLEANUP(memory_new(env, index->slots, 4, &save->moved, error));
    TRY_CLEANUP(memory_new(env, live, 4, &save->old, error));
    if (ivf) {
        TRY_CLEANUP(memory_new(env, n_lists, sizeof *save->lists, &save->lists, error));
        TRY_CLEANUP(memory_new(env, rabitq_blocks(live), block_bytes, &save->blocks, error));
    } else {
        TRY_CLEANUP(memory_new(env, live, index->codec.row_bytes, &save->codes, error));
    }
    TRY_CLEANUP(memory_new(env, live, 8, &save->keys, error));
    TRY_CLEANUP(memory_new(env, index->n_key_bytes, 1, &save->key_bytes, error));
    if (index->errors) {
        TRY_CLEANUP(memory_new(env, live, 4, &save->errors, error));
    }
    TRY_CLEANUP(number_rows(save, error));
    if (ivf) {
        TRY_CLEANUP(lists_save_order(index, save->old, save->n, save->lists, error));
        lists_save_blocks(index, save->old, save->n, save->blocks);
    }
    TRY_CLEANUP(copy_rows(save, error));
    if (graph && live > 0) {
        TRY_CLEANUP(memory_new(env, live, 4, &save->same, error));
        TRY_CLEANUP(memory_new(env, live, 4, &save->linked, error));
        TRY_CLEANUP(memory_new(env, live, 4, &save->places, error));
        TRY_CLEANUP(memory_new(env, live, edge_bytes, &save->neighbours, error));
        copy_rings(save);
        TRY_CLEANUP(choose_linked(save, error));
        TRY_CLEANUP(copy_graph(save, error));
    }
    status = write_image(save, path, error);
cleanup:
    memory_free(env, save->moved, index->slots, 4);
    memory_free(env, save->old, live, 4);
    memory_free(env, save->codes, ivf ? 0 : live, index->codec.row_bytes);
    memory_free(env, save->lists, n_lists, sizeof *save->lists);
    memory_free(env, save->blocks, rabitq_blocks(live), block_bytes);
    memory_free(env, save->keys, live, 8);
    memory_free(env, save->key_bytes, index->n_key_bytes, 1);
    memory_free(env, save->errors, index->errors ? live : 0, 4);
    memory_free(env, save->same, graph ? live : 0, 4);
    memory_free(env, save->linked, graph ? live : 0, 4);
    memory_free(env, save->places, graph ? live : 0, 4);
    memory_free(env, save->neighbours, graph ? live : 0, edge_bytes);
    return status;
}

/* Searches go on beside all but the steps of the sweep; the caller is the one writer. */
annex_status annex_index_save(annex_index *index, const char *path, annex_error *error)
{
    struct save save = {.index = index};
    while (index->owned && index->owned->sweep_left > 0) {
        index_begin_write(index);
        mend_some(index);
        pthread_rwlock_unlock(&index->lock);
    }
    if (index->owned) {
        refit(index);
    }
    index_begin_read(index);
    annex_status status = save_locked(&save, path, error);
    pthread_rwlock_unlock(&index->lock);
    if (!status) {
        index_begin_write(index);
        index->dirty = false;
        pthread_rwlock_unlock(&index->lock);
    }
    return status;
}
