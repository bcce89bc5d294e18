/*
 * refit.c - renewing the codes and the graph of an index that has outgrown them.
 *
 * A codec is fitted to the rows that an index is built from, and recall is measured with them. Rows
 * inserted later may be of another kind, most of all when there was only one row to begin with:
 * then codes lose much, or are cut off. So each time an index has grown by a quarter, and before it
 * is saved, what its codes lose of some rows is compared with what a codec fitted to all rows would
 * lose. When that is much less, or when as many rows were inserted into a graph as it was built
 * from, the index is built anew from its vectors, beside searches, and taken over. So a graph that
 * is changed for ever decays no further than one whose rows were replaced once; all these builds
 * have no more than two rows for each that was inserted, and a build costs less than inserts do.
 *
 * Invariants
 *   1. Rows keep their slots: what callers know of row numbers stays true.
 *   2. The index is as before until all is there; then it is replaced in one step.
 * Does not: look at lists, whose centroids are fitted once, nor at rows of which only codes that
 * lose something are left.
 */
#include <inttypes.h>

#include "build/change.h"

enum {
    BATCH = 256,   /* rows read at once */
    SAMPLE = 1024, /* rows whose losses are compared */
    LEAST = 32,    /* rows; fewer are as good as scanned */
    WORTH = 4      /* times the squares lost by a codec that fits */
};

/* The vector of a slot, as far as the index still knows it. */
static void read_vector(const annex_index *index, uint32_t slot, void *vector)
{
    const void *raw = index_raw(index, slot);
    if (raw) {
        stored_unpack(&index->codec, index_stored(index), raw, vector);
    } else {
        codec_decode(&index->codec, index_code(index, slot), vector);
    }
}

/* ---- whether it is time -----------------------------------------------------------------------*/

/* Whether as many rows were inserted as there were when the index was built. */
static bool is_turned_over(const annex_index *index)
{
    const struct segment_header *header = &index->header;
    uint64_t fitted = header->fitted ? header->fitted : index->slots;
    uint64_t grown = index->live > fitted ? index->live - fitted : 0; /* files that do not count */
    return MAX(header->inserted, grown) >= MAX(fitted, LEAST);
}

static void survey_rows(const annex_index *index, struct codec_survey *survey, float *vector)
{
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        if (index_is_live(index, slot)) {
            read_vector(index, slot, vector);
            codec_survey_add(survey, index->codec.dimension, vector);
        }
    }
}

static bool loses_more(const annex_index *index, const struct codec *fitted, float *vector,
                       float *work, uint8_t *row)
{
    double now = 0, then = 0;
    uint32_t step = index->slots / SAMPLE + 1;
    for (uint32_t slot = 0; slot < index->slots; slot += step) {
        if (index_is_live(index, slot)) {
            float lost;
            read_vector(index, slot, vector);
            codec_encode(fitted, vector, row, work, &lost);
            now += (double)index->errors[slot] * index->errors[slot];
            then += (double)lost * lost;
        }
    }
    return now > WORTH * then;
}

static annex_status compare_losses(const annex_index *index, bool *worth, annex_error *error)
{
    const annex_env *env = &index->env;
    const struct codec *codec = &index->codec;
    size_t dimension = codec->dimension;
    struct codec_form form = {.metric = codec->metric,
                              .dimension = codec->dimension,
                              .codes = codec->codes,
                              .rotated = codec->rotated,
                              .seed = index->header.seed};
    struct codec_survey survey = {0};
    struct codec fitted;
    float *floats = NULL;
    uint8_t *row = NULL;
    annex_status status;
    TRY_CLEANUP(codec_survey_new(env, codec->dimension, &survey, error));
    TRY_CLEANUP(memory_new(env, dimension, 3 * sizeof *floats, &floats, error));
    TRY_CLEANUP(memory_new(env, codec->row_bytes, 1, &row, error));
    survey_rows(index, &survey, floats);
    codec_choose(&fitted, &form, &survey, floats + dimension);
    *worth = loses_more(index, &fitted, floats, floats + 2 * dimension, row);
cleanup:
    codec_survey_free(env, codec->dimension, &survey);
    memory_free(env, floats, dimension, 3 * sizeof *floats);
    memory_free(env, row, codec->row_bytes, 1);
    return status;
}

static annex_status is_worth(const annex_index *index, bool *worth, annex_error *error)
{
    bool known = index->keeps_raw || index->codec.lossless;
    *worth = false;
    if (index->header.family == ANNEX_IVF || !known || index->live < LEAST) {
        return ANNEX_OK;
    }
    *worth = index->header.family == ANNEX_GRAPH && is_turned_over(index);
    return *worth || index->codec.lossless ? ANNEX_OK : compare_losses(index, worth, error);
}

/* The mean square of what codes lose of the live rows among slots first .. end - 1. */
static double mean_loss(const annex_index *index, uint32_t first, uint32_t end)
{
    double sum = 0;
    uint32_t n = 0;
    for (uint32_t slot = first; slot < end; slot++) {
        if (index_is_live(index, slot)) {
            sum += (double)index->errors[slot] * index->errors[slot];
            n++;
        }
    }
    return n > 0 ? sum / n : 0;
}

bool refit_is_due(const annex_index *index, const annex_index *before)
{
    uint64_t fitted = before->header.fitted ? before->header.fitted : before->slots;
    if (is_turned_over(index) || 2 * (uint64_t)index->live <= fitted ||
        index->keeps_raw != before->keeps_raw) { /* codes were lossless, and are no longer */
        return true;
    }
    return index->errors != NULL && index->slots > before->slots &&
           mean_loss(index, before->slots, index->slots) >
               WORTH * mean_loss(index, 0, before->slots);
}

/* ---- the living rows as a source --------------------------------------------------------------*/

/* Their keys are their slots. */
struct living {
    const annex_index *index;
    uint32_t slot;
    char *vectors; /* [BATCH] */
    int64_t keys[BATCH];
};

static annex_status rewind_living(void *context, annex_error *error)
{
    struct living *living = context;
    (void)error;
    living->slot = 0;
    return ANNEX_OK;
}

static annex_status next_living(void *context, annex_batch *batch, annex_error *error)
{
    struct living *living = context;
    const annex_index *index = living->index;
    size_t bytes = codec_vector_bytes(&index->codec);
    (void)error;
    *batch = (annex_batch){.vectors = living->vectors, .keys = living->keys};
    for (; living->slot < index->slots && batch->n < BATCH; living->slot++) {
        if (index_is_live(index, living->slot)) {
            read_vector(index, living->slot, living->vectors + batch->n * bytes);
            living->keys[batch->n++] = living->slot;
        }
    }
    return ANNEX_OK;
}

/* Bytes may turn into other codes where they do not serve; what was asked for stays. */
static annex_status build_living(const annex_index *index, annex_index **fresh, annex_error *error)
{
    const struct segment_header *header = &index->header;
    annex_env env = index->env;
    annex_build_options options = ANNEX_BUILD_OPTIONS_INIT;
    struct living living = {.index = index};
    annex_rows rows = {.context = &living, .next = next_living, .rewind = rewind_living};
    size_t bytes = codec_vector_bytes(&index->codec);
    options.metric = index->codec.metric;
    options.dimension = index->codec.dimension;
    options.family = (annex_family)header->family;
    options.degree = header->degree;
    options.effort = header->degree ? MAX(header->build_effort, header->degree / 2) : 0;
    options.seed = header->seed;
    options.codes = index->codec.codes == ANNEX_CODES_Q8 ? ANNEX_CODES_AUTO : index->codec.codes;
    options.raw = ANNEX_RAW_NONE;
    env.log.progress = NULL; /* it is a step of something else, which is not cancelled by it */
    TRY(memory_new(&env, BATCH, bytes, &living.vectors, error));
    annex_status status = annex_build(&env, &options, &rows, NULL, fresh, error);
    memory_free(&env, living.vectors, BATCH, bytes);
    return status;
}

/* ---- taking over ------------------------------------------------------------------------------*/

/* Arrays by slot, of what was built by other numbers. */
struct spread {
    uint32_t n; /* slots */
    size_t row_bytes, edge_bytes;
    uint8_t *codes;
    float *errors;
    uint32_t *neighbours, *same;
    uint32_t entries[GRAPH_MAX_ENTRIES];
};

static annex_status spread_new(const annex_index *index, const annex_index *fresh,
                               struct spread *spread, annex_error *error)
{
    const annex_env *env = &index->env;
    bool graph = index->header.family == ANNEX_GRAPH;
    *spread = (struct spread){.n = index->slots,
                              .row_bytes = fresh->codec.row_bytes,
                              .edge_bytes = index->header.degree * sizeof(uint32_t)};
    TRY(memory_new(env, spread->n, spread->row_bytes, &spread->codes, error));
    if (fresh->errors) {
        TRY(memory_new(env, spread->n, sizeof *spread->errors, &spread->errors, error));
    }
    if (graph) {
        TRY(memory_new_raw(env, spread->n, spread->edge_bytes, &spread->neighbours, error));
        TRY(memory_new_raw(env, spread->n, sizeof *spread->same, &spread->same, error));
    }
    return ANNEX_OK;
}

static void spread_free(const annex_env *env, struct spread *spread)
{
    memory_free(env, spread->codes, spread->n, spread->row_bytes);
    memory_free(env, spread->errors, spread->n, sizeof *spread->errors);
    memory_free(env, spread->neighbours, spread->n, spread->edge_bytes);
    memory_free(env, spread->same, spread->n, sizeof *spread->same);
}

static void spread_graph(const annex_index *fresh, struct spread *spread)
{
    uint32_t degree = fresh->graph.degree;
    const int64_t *slots = fresh->keys;
    memset(spread->neighbours, 0xff, spread->n * spread->edge_bytes);
    for (uint32_t slot = 0; slot < spread->n; slot++) {
        spread->same[slot] = slot;
    }
    for (uint32_t row = 0; row < fresh->slots; row++) {
        const uint32_t *from = graph_neighbours(&fresh->graph, row);
        uint32_t *to = spread->neighbours + (size_t)slots[row] * degree;
        for (uint32_t i = 0; i < degree && from[i] < fresh->slots; i++) {
            to[i] = (uint32_t)slots[from[i]];
        }
        if (fresh->same) {
            spread->same[slots[row]] = (uint32_t)slots[fresh->same[row]];
        }
    }
    for (uint32_t i = 0; i < fresh->graph.n_entries; i++) {
        spread->entries[i] = (uint32_t)slots[fresh->graph.entries[i]];
    }
}

static void spread_rows(const annex_index *fresh, struct spread *spread)
{
    for (uint32_t row = 0; row < fresh->slots; row++) {
        size_t slot = (size_t)fresh->keys[row];
        memcpy(spread->codes + slot * spread->row_bytes, index_code(fresh, row), spread->row_bytes);
        if (spread->errors) {
            spread->errors[slot] = fresh->errors[row];
        }
    }
    if (spread->neighbours) {
        spread_graph(fresh, spread);
    }
}

/* What the index is to be, in arrays of `spread` and, where nothing changes, in its own. */
static void describe(const annex_index *index, const annex_index *fresh,
                     const struct spread *spread, annex_index *next)
{
    const struct segment_header *built = &fresh->header;
    *next = *index;
    next->owned = NULL;
    next->codec = fresh->codec;
    next->header.code = built->code;
    next->header.code_bytes = built->code_bytes;
    next->header.rotated = built->rotated;
    next->header.lossless = built->lossless;
    next->header.fixed_scale = built->fixed_scale;
    next->header.max_norm = built->max_norm;
    next->header.default_effort = built->default_effort;
    next->header.required_features |= built->required_features;
    next->header.fitted = built->fitted;
    next->header.inserted = built->inserted;
    memcpy(next->header.reach, built->reach, sizeof built->reach);
    memcpy(next->recall, fresh->recall, sizeof fresh->recall);
    next->n_recall = fresh->n_recall;
    next->errors = spread->errors;
    next->same = spread->same;
    next->graph.codec = &next->codec;
    next->graph.rows = spread->codes;
    next->graph.neighbours = spread->neighbours;
    next->graph.entries = spread->entries;
    next->graph.n_entries = fresh->graph.n_entries;
}

static annex_status take_over(annex_index *index, const annex_index *fresh, annex_error *error)
{
    struct spread spread;
    annex_index next;
    struct owned *owned;
    annex_status status;
    TRY_CLEANUP(spread_new(index, fresh, &spread, error));
    spread_rows(fresh, &spread);
    describe(index, fresh, &spread, &next);
    TRY_CLEANUP(
        thaw_copy(&next, index->owned->capacity, index->owned->key_capacity, &owned, error));
    owned->refit_at = index->owned->refit_at;
    index_begin_write(index);
    thaw_replace(index, &next, owned);
    pthread_rwlock_unlock(&index->lock);
cleanup:
    spread_free(&index->env, &spread);
    return status;
}

/* ---- the whole -------------------------------------------------------------------------------*/

static annex_status try_refit(annex_index *index, annex_error *error)
{
    bool worth;
    annex_index *fresh;
    TRY(is_worth(index, &worth, error));
    if (!worth) {
        return ANNEX_OK;
    }
    TRY(build_living(index, &fresh, error));
    annex_status status = ANNEX_OK;
    if (index->keeps_raw || fresh->codec.lossless) {
        status = take_over(index, fresh, error);
    }
    if (!status) {
        log_message(&index->env, ANNEX_LOG_INFO,
                    "an index that had outgrown its codes was built anew from its %" PRIu32 " rows",
                    index->live);
    }
    annex_index_close(fresh);
    return status;
}

void refit(annex_index *index)
{
    annex_error error = {0};
    if (try_refit(index, &error)) {
        log_message(&index->env, ANNEX_LOG_WARNING,
                    "an index that has outgrown its codes was not built anew: %s", error.message);
    }
}

void refit_grown(annex_index *index)
{
    struct owned *owned = index->owned;
    if (owned && index->slots >= owned->refit_at) {
        owned->refit_at = index->slots + index->slots / 4 + LEAST;
        refit(index);
    }
}
