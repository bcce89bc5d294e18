/*
 * calibrate.c - what part of the true neighbours a walk finds, by effort: measured with rows that
 * are not in the graph yet, against a scan of the vectors as they came. Searches may then ask for a
 * recall.
 *
 * Reranking is exact, so a true neighbour is found when it is among the rows that would be
 * reranked.
 */
#include <math.h>

#include "build/build.h"

static const uint32_t efforts[] = {10,  14,  20,  28,  40,  56,   80,   112,
                                   160, 224, 320, 448, 640, 1024, 2048, 4096};

_Static_assert(ARRAY_LENGTH(efforts) == ANNEX_MAX_RECALL_POINTS, "one point for each effort");

struct calibrate_job {
    const struct builder *builder;
    const struct graph *graph;
    const uint32_t *slot_of; /* [n] by slot before ordering */
    struct progress progress;
    unsigned threads;
    uint32_t effort;
    float reach;
    struct walk *walks;    /* one a worker */
    struct query *queries; /* one a worker */
    uint32_t *hits;        /* [held rows] */
};

/* True neighbours among the candidates of a search, or that are equal to one for all we know. */
static uint32_t count_met(const struct calibrate_job *job, const struct walk *walk, size_t wanted,
                          const struct held_out *held)
{
    const struct builder *builder = job->builder;
    struct candidates all = {.walk = walk,
                             .same = builder->same,
                             .errors = builder->errors,
                             .slots = builder->n,
                             .wanted = wanted};
    size_t row_bytes = builder->codec.row_bytes;
    bool met[INDEX_CALIBRATED_K] = {false};
    uint32_t n = 0;
    for (; candidates_next(&all); candidates_take(&all)) {
        const uint8_t *row = builder->codes + all.slot * row_bytes;
        for (uint32_t i = 0; i < held->n; i++) {
            uint32_t truth = job->slot_of[walk_id(held->nearest[i])];
            if (met[i]) {
                continue;
            }
            met[i] = truth == all.slot ||
                     ((!builder->errors || builder->errors[truth] == builder->errors[all.slot]) &&
                      memcmp(builder->codes + truth * row_bytes, row, row_bytes) == 0);
            n += met[i];
        }
    }
    return n;
}

static annex_status calibrate_range(void *argument, unsigned worker, size_t first, size_t end,
                                    annex_error *error)
{
    struct calibrate_job *job = argument;
    struct walk *walk = &job->walks[worker];
    (void)error;
    for (size_t h = first; h < end; h++) {
        const struct held_out *held = &job->builder->held[h];
        struct query *query = &job->queries[worker];
        codec_query_set(query, held->vector);
        walk->reach = job->reach;
        walk->near = walk->least = walk->wanted = INDEX_CALIBRATED_K;
        graph_walk(job->graph, query, index_window(job->reach, job->effort), walk);
        size_t n = index_rerank(INDEX_CALIBRATED_K, job->effort, query->exact);
        bool any = job->builder->options.metric == ANNEX_IP && query->norm == 0; /* all as near */
        job->hits[h] = any ? held->n : count_met(job, walk, n, held);
    }
    return ANNEX_OK;
}

static float recall_of(const struct calibrate_job *job)
{
    uint64_t hits = 0, all = 0;
    for (uint32_t h = 0; h < job->builder->n_held_rows; h++) {
        hits += job->hits[h];
        all += job->builder->held[h].n;
    }
    return all ? (float)((double)hits / (double)all) : 1;
}

/* Walks all rows held back with job->effort and job->reach. */
static annex_status calibrate_walk(struct calibrate_job *job, annex_error *error)
{
    const struct builder *builder = job->builder;
    size_t capacity = MAX(index_window(job->reach, job->effort),
                          index_rerank(INDEX_CALIBRATED_K, job->effort, false));
    for (unsigned t = 0; t < job->threads; t++) {
        walk_free(&builder->env, &job->walks[t]);
        TRY(walk_new(&builder->env, builder->n, (uint32_t)MIN(capacity, builder->n), 0,
                     &job->walks[t], error));
    }
    return progress_for(&job->progress, job->threads, builder->n_held_rows, 4, calibrate_range, job,
                        error);
}

static annex_status find_reach(uint32_t effort, build_walks *walks, void *context, float *reach,
                               annex_error *error)
{
    enum { STEPS = 8 };
    float factor = 16; /* its square root the next time: in all 1/2000 … 30 */
    *reach = 0.125f;
    for (int step = 0; step < STEPS; step++) {
        double hops;
        TRY(walks(context, effort, *reach, &hops, error));
        *reach = hops >= effort ? *reach / factor : *reach * factor;
        factor = sqrtf(factor);
    }
    return ANNEX_OK;
}

annex_status build_find_reach(build_walks *walks, void *context, float reach[2], annex_error *error)
{
    TRY(find_reach(INDEX_REACH_LOW, walks, context, &reach[0], error));
    return find_reach(INDEX_REACH_HIGH, walks, context, &reach[1], error);
}

/* build_walks of the rows held back. */
static annex_status walks_of_held(void *context, uint32_t effort, float reach, double *hops,
                                  annex_error *error)
{
    struct calibrate_job *job = context;
    uint64_t all = 0;
    job->effort = effort;
    job->reach = reach;
    TRY(calibrate_walk(job, error));
    for (unsigned t = 0; t < job->threads; t++) {
        all += job->walks[t].hops;
    }
    *hops = (double)all / job->builder->n_held_rows;
    return ANNEX_OK;
}

static annex_status calibrate_efforts(struct builder *builder, struct calibrate_job *job,
                                      annex_error *error)
{
    TRY(progress_begin(&job->progress, &builder->env, "measuring", ARRAY_LENGTH(efforts), error));
    if (builder->n > BUILD_REACH_ROWS) {
        TRY(build_find_reach(walks_of_held, job, builder->reach, error));
    }
    for (size_t e = 0; e < ARRAY_LENGTH(efforts); e++) {
        job->effort = efforts[e];
        job->reach = index_reach(builder->reach, efforts[e]);
        if (index_window(job->reach, job->effort) > builder->n) {
            break;
        }
        TRY(calibrate_walk(job, error));
        TRY(progress_update(&job->progress, e + 1, error));
        builder->recall[builder->n_recall++] =
            (annex_recall_point){.effort = job->effort, .recall = recall_of(job)};
        if (recall_of(job) >= 0.999f) {
            break;
        }
    }
    return ANNEX_OK;
}

annex_status build_calibrate(struct builder *builder, const struct graph *graph, annex_error *error)
{
    const annex_env *env = &builder->env;
    unsigned threads = parallel_threads(env, builder->options.threads);
    size_t query_bytes = codec_query_bytes(&builder->codec);
    struct calibrate_job job = {.builder = builder, .graph = graph, .threads = threads};
    uint32_t *slot_of = NULL;
    char *memory = NULL;
    annex_status status;
    if (builder->n_held_rows == 0) {
        return ANNEX_OK;
    }
    TRY_CLEANUP(memory_new_raw(env, builder->n, sizeof *slot_of, &slot_of, error));
    for (uint32_t slot = 0; slot < builder->n; slot++) {
        slot_of[builder->raw_row ? builder->raw_row[slot] : slot] = slot;
    }
    job.slot_of = slot_of;
    TRY_CLEANUP(memory_new(env, threads, sizeof *job.walks, &job.walks, error));
    TRY_CLEANUP(memory_new(env, threads, sizeof *job.queries, &job.queries, error));
    TRY_CLEANUP(memory_new(env, threads, query_bytes, &memory, error));
    TRY_CLEANUP(memory_new(env, builder->n_held_rows, sizeof *job.hits, &job.hits, error));
    for (unsigned t = 0; t < threads; t++) {
        codec_query_init(&builder->codec, &job.queries[t], memory + t * query_bytes);
    }
    status = calibrate_efforts(builder, &job, error);
cleanup:
    for (unsigned t = 0; job.walks && t < threads; t++) {
        walk_free(env, &job.walks[t]);
    }
    memory_free(env, job.walks, threads, sizeof *job.walks);
    memory_free(env, job.queries, threads, sizeof *job.queries);
    memory_free(env, memory, threads, query_bytes);
    memory_free(env, job.hits, builder->n_held_rows, sizeof *job.hits);
    memory_free(env, slot_of, builder->n, sizeof *slot_of);
    return status;
}
