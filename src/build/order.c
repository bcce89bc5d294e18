/*
 * order.c - the order of slots, and rows with equal codes.
 *
 * Rows are sorted by the nearest of some pivots, and pivots are chained so that neighbours in the
 * chain are near each other: a walk then finds much of what it needs in pages and cache lines it
 * has touched (Coleman et al., NeurIPS 2022). The vectors themselves stay where they are; raw_row
 * leads to them.
 */
#include <math.h>
#include <stdlib.h>

#include "build/build.h"

enum {
    ROWS_PER_PIVOT = 256,
    MAX_PIVOTS = 1024,
    MIN_ROWS = 4096 /* fewer fit the caches in any order */
};

/* Starts at the first pivot and always goes on to the nearest one not visited. */
static void chain_pivots(struct query *query, size_t row_bytes, const uint8_t *pivots, uint32_t n,
                         uint8_t *chained, float *scores, bool *used)
{
    uint32_t current = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *row = pivots + current * row_bytes;
        used[current] = true;
        memcpy(chained + i * row_bytes, row, row_bytes);
        codec_query_set_row(query, row);
        codec_score(query, pivots, NULL, n, scores);
        float best = INFINITY;
        for (uint32_t j = 0; j < n; j++) {
            if (!used[j] && scores[j] < best) {
                best = scores[j];
                current = j;
            }
        }
    }
}

struct assign_job {
    const struct builder *builder;
    const uint8_t *pivots;
    uint32_t n_pivots;
    struct query *queries; /* one a worker */
    float *scores;         /* [workers x n_pivots] */
    uint64_t *places;      /* [n] nearest pivot << 32 | slot */
};

static annex_status assign_range(void *argument, unsigned worker, size_t first, size_t end,
                                 annex_error *error)
{
    struct assign_job *job = argument;
    const struct builder *builder = job->builder;
    struct query *query = &job->queries[worker];
    float *scores = job->scores + (size_t)worker * job->n_pivots;
    (void)error;
    for (size_t slot = first; slot < end; slot++) {
        codec_query_set_row(query, builder->codes + slot * builder->codec.row_bytes);
        codec_score(query, job->pivots, NULL, job->n_pivots, scores);
        uint32_t best = 0;
        for (uint32_t j = 1; j < job->n_pivots; j++) {
            best = scores[j] < scores[best] ? j : best;
        }
        job->places[slot] = (uint64_t)best << 32 | slot;
    }
    return ANNEX_OK;
}

static int compare_places(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/*
 * array[i] = array[old slot of i] for rows of `bytes`, cycle by cycle: a second array of codes
 * would be the most memory that a build needs. `moved` is a bitmap, `spare` a row
 * of codes, which is longer than a key.
 */
static void permute(const struct builder *builder, void *array, size_t bytes, uint64_t *moved,
                    char *spare)
{
    char *rows = array;
    if (!rows) {
        return;
    }
    memset(moved, 0, bitmap_words(builder->n) * 8);
    for (uint32_t first = 0; first < builder->n; first++) {
        uint32_t to = first;
        if (bitmap_get(moved, first)) {
            continue;
        }
        memcpy(spare, rows + first * bytes, bytes);
        for (uint32_t from; (from = builder->raw_row[to]) != first; to = from) {
            memcpy(rows + to * bytes, rows + from * bytes, bytes);
            bitmap_set(moved, from);
        }
        memcpy(rows + to * bytes, spare, bytes);
    }
}

/* Keys are end offsets: lengths move, and so do the bytes. */
static annex_status permute_byte_keys(struct builder *builder, annex_error *error)
{
    int64_t *ends;
    char *bytes;
    const annex_env *env = &builder->env;
    TRY(memory_new_raw(env, builder->n, sizeof *ends, &ends, error));
    annex_status status = memory_new_raw(env, builder->n_key_bytes, 1, &bytes, error);
    if (status) {
        memory_free(env, ends, builder->n, sizeof *ends);
        return status;
    }
    int64_t end = 0;
    for (uint32_t i = 0; i < builder->n; i++) {
        uint32_t old = builder->raw_row[i];
        int64_t begin = old ? builder->keys[old - 1] : 0;
        int64_t length = builder->keys[old] - begin;
        if (length) {
            memcpy(bytes + end, builder->key_bytes + begin, (size_t)length);
        }
        ends[i] = end += length;
    }
    memory_free(env, builder->keys, builder->n, sizeof *ends);
    memory_free(env, builder->key_bytes, builder->n_key_bytes, 1);
    builder->keys = ends;
    builder->key_bytes = bytes;
    return ANNEX_OK;
}

annex_status build_move_rows(struct builder *builder, const uint64_t *places, annex_error *error)
{
    const annex_env *env = &builder->env;
    size_t words = bitmap_words(builder->n), row_bytes = builder->codec.row_bytes;
    uint64_t *moved = NULL;
    char *spare = NULL;
    annex_status status;
    TRY_CLEANUP(memory_new_raw(env, builder->n, 4, &builder->raw_row, error));
    for (uint32_t i = 0; i < builder->n; i++) {
        builder->raw_row[i] = (uint32_t)places[i];
    }
    TRY_CLEANUP(memory_new_raw(env, words, 8, &moved, error));
    TRY_CLEANUP(memory_new_raw(env, row_bytes, 1, &spare, error));
    permute(builder, builder->codes, row_bytes, moved, spare);
    permute(builder, builder->errors, sizeof *builder->errors, moved, spare);
    if (builder->options.key_kind == ANNEX_KEY_BYTES) {
        status = permute_byte_keys(builder, error);
    } else {
        permute(builder, builder->keys, sizeof *builder->keys, moved, spare);
    }
cleanup:
    memory_free(env, moved, words, 8);
    memory_free(env, spare, row_bytes, 1);
    return status;
}

static annex_status choose_pivots(struct builder *builder, struct assign_job *job, uint8_t *pivots,
                                  annex_error *error)
{
    size_t row_bytes = builder->codec.row_bytes;
    uint64_t random = builder->options.seed ^ 0x91707;
    uint8_t *sample = NULL;
    bool *used = NULL;
    annex_status status;
    TRY_CLEANUP(memory_new(&builder->env, job->n_pivots, row_bytes, &sample, error));
    TRY_CLEANUP(memory_new(&builder->env, job->n_pivots, sizeof *used, &used, error));
    for (uint32_t i = 0; i < job->n_pivots; i++) {
        memcpy(sample + i * row_bytes,
               builder->codes + random_below(&random, builder->n) * row_bytes, row_bytes);
    }
    chain_pivots(&job->queries[0], row_bytes, sample, job->n_pivots, pivots, job->scores, used);
cleanup:
    memory_free(&builder->env, sample, job->n_pivots, row_bytes);
    memory_free(&builder->env, used, job->n_pivots, sizeof *used);
    return status;
}

annex_status build_order(struct builder *builder, annex_error *error)
{
    const annex_env *env = &builder->env;
    unsigned threads = parallel_threads(env, builder->options.threads);
    size_t query_bytes = codec_query_bytes(&builder->codec), row_bytes = builder->codec.row_bytes;
    struct assign_job job = {.builder = builder,
                             .n_pivots = MIN(builder->n / ROWS_PER_PIVOT, MAX_PIVOTS)};
    uint8_t *pivots = NULL;
    char *memory = NULL;
    struct progress progress;
    annex_status status;
    if (builder->n < MIN_ROWS) {
        return ANNEX_OK;
    }
    TRY_CLEANUP(memory_new(env, threads, sizeof *job.queries, &job.queries, error));
    TRY_CLEANUP(memory_new(env, threads, query_bytes, &memory, error));
    for (unsigned t = 0; t < threads; t++) {
        codec_query_init(&builder->codec, &job.queries[t], memory + t * query_bytes);
    }
    TRY_CLEANUP(
        memory_new(env, (size_t)threads * job.n_pivots, sizeof *job.scores, &job.scores, error));
    TRY_CLEANUP(memory_new(env, job.n_pivots, row_bytes, &pivots, error));
    TRY_CLEANUP(memory_new_raw(env, builder->n, sizeof *job.places, &job.places, error));
    TRY_CLEANUP(choose_pivots(builder, &job, pivots, error));
    job.pivots = pivots;
    TRY_CLEANUP(progress_begin(&progress, env, "ordering", builder->n, error));
    TRY_CLEANUP(progress_for(&progress, threads, builder->n, 256, assign_range, &job, error));
    TRY_CLEANUP(progress_update(&progress, builder->n, error));
    qsort(job.places, builder->n, sizeof *job.places, compare_places);
    status = build_move_rows(builder, job.places, error);
cleanup:
    memory_free(env, job.queries, threads, sizeof *job.queries);
    memory_free(env, memory, threads, query_bytes);
    memory_free(env, job.scores, (size_t)threads * job.n_pivots, sizeof *job.scores);
    memory_free(env, pivots, job.n_pivots, row_bytes);
    memory_free(env, job.places, builder->n, sizeof *job.places);
    return status;
}

/* ---- rows with equal codes --------------------------------------------------------------------*/

/*
 * Rings of slots with equal codes. Only the first of a ring is linked: a thousand equal rows would
 * otherwise fill each other's neighbour lists and cut the group off. Leaves the firsts in `linked`.
 */
annex_status build_find_same(struct builder *builder, annex_error *error)
{
    const annex_env *env = &builder->env;
    size_t row_bytes = builder->codec.row_bytes;
    uint64_t size = 16;
    uint32_t *table = NULL;
    annex_status status;
    while (size < (uint64_t)builder->n * 2) {
        size *= 2;
    }
    TRY_CLEANUP(memory_new(env, size, sizeof *table, &table, error));
    TRY_CLEANUP(memory_new_raw(env, builder->n, 4, &builder->same, error));
    TRY_CLEANUP(memory_new_raw(env, builder->n, 4, &builder->linked, error));
    for (uint32_t slot = 0; slot < builder->n; slot++) {
        const uint8_t *row = builder->codes + slot * row_bytes;
        uint64_t i = hash_bytes(row, row_bytes, 0) & (size - 1);
        while (table[i] && memcmp(builder->codes + (table[i] - 1) * row_bytes, row, row_bytes)) {
            i = (i + 1) & (size - 1);
        }
        if (table[i]) { /* joins the ring behind its first */
            uint32_t first = table[i] - 1;
            builder->same[slot] = builder->same[first];
            builder->same[first] = slot;
        } else {
            table[i] = slot + 1;
            builder->same[slot] = slot;
            builder->linked[builder->n_linked++] = slot;
        }
    }
    if (builder->n_linked == builder->n) {
        memory_free(env, builder->same, builder->n, 4);
        builder->same = NULL;
    }
cleanup:
    memory_free(env, table, size, sizeof *table);
    return status;
}
