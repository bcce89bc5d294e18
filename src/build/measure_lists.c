/*
 * measure_lists.c - what part of the true neighbours searches in lists find, by effort: measured
 * with the rows held back, which are in the lists and not among their own neighbours.
 *
 * Ranking is exact, so a true neighbour is found when its list is looked at and the lower bound of
 * its distance does not exceed the largest distance of the answer. Both are known without a search.
 */
#include "build/build.h"

static const uint32_t efforts[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256};

_Static_assert(ARRAY_LENGTH(efforts) == ANNEX_MAX_RECALL_POINTS, "one point for each effort");

/* Working memory of one thread. */
struct measure_worker {
    struct query query;
    struct rabitq_query bits;
    float *centred;   /* [dimension] */
    float *distances; /* [n_lists] */
};

struct measure_job {
    const struct builder *builder;
    struct ivf ivf;
    const uint32_t *slot_of; /* [n] by slot before ordering */
    struct measure_worker *workers;
    uint32_t (*found)[ANNEX_MAX_RECALL_POINTS]; /* [held rows] by effort */
};

/* How many lists are nearer than that of a slot. */
static uint32_t rank_of(const struct measure_job *job, const float *distances, uint32_t list)
{
    uint32_t rank = 0;
    for (uint32_t l = 0; l < job->ivf.n_lists; l++) {
        rank += distances[l] < distances[list] || (distances[l] == distances[list] && l < list);
    }
    return rank;
}

static annex_status measure_range(void *argument, unsigned worker, size_t first, size_t end,
                                  annex_error *error)
{
    struct measure_job *job = argument;
    struct measure_worker *own = &job->workers[worker];
    const struct codec *codec = &job->builder->codec;
    (void)error;
    for (size_t h = first; h < end; h++) {
        const struct held_out *held = &job->builder->held[h];
        codec_query_set(&own->query, held->vector);
        for (uint32_t j = 0; j < codec->dimension; j++) {
            own->centred[j] = own->query.vector[j] - codec->center[j];
        }
        rabitq_query_set(&job->ivf.rabitq, &own->bits, own->centred);
        codec_score_fine(&own->query, job->ivf.centroids, NULL, job->ivf.n_lists, own->distances);
        for (uint32_t i = 0; i < held->n; i++) {
            uint32_t slot = job->slot_of[walk_id(held->nearest[i])];
            uint32_t list = ivf_list_of(&job->ivf, slot);
            float lower = ivf_lower(&job->ivf, codec, &own->bits, slot, own->distances[list]);
            uint32_t rank = rank_of(job, own->distances, list);
            bool kept = lower <= walk_score(held->nearest[held->n - 1]);
            for (size_t e = 0; e < ARRAY_LENGTH(efforts); e++) {
                job->found[h][e] += kept && rank < efforts[e];
            }
        }
    }
    return ANNEX_OK;
}

static void sum_up(struct builder *builder, const struct measure_job *job)
{
    for (size_t e = 0; e < ARRAY_LENGTH(efforts); e++) {
        uint64_t found = 0, all = 0;
        for (uint32_t h = 0; h < builder->n_held_rows; h++) {
            found += job->found[h][e];
            all += builder->held[h].n;
        }
        uint32_t effort = MIN(efforts[e], builder->n_lists);
        float recall = all ? (float)((double)found / (double)all) : 1;
        builder->recall[builder->n_recall++] =
            (annex_recall_point){.effort = effort, .recall = recall};
        if (effort == builder->n_lists || recall >= 0.999f) {
            break;
        }
    }
}

static annex_status worker_new(const struct measure_job *job, struct measure_worker *worker,
                               char *memory, annex_error *error)
{
    const struct codec *codec = &job->builder->codec;
    const annex_env *env = &job->builder->env;
    codec_query_init(codec, &worker->query, memory);
    rabitq_query_init(&job->ivf.rabitq, &worker->bits, memory + codec_query_bytes(codec));
    TRY(memory_new(env, codec->dimension, sizeof *worker->centred, &worker->centred, error));
    return memory_new(env, job->ivf.n_lists, sizeof *worker->distances, &worker->distances, error);
}

annex_status build_calibrate_lists(struct builder *builder, annex_error *error)
{
    const annex_env *env = &builder->env;
    unsigned threads = parallel_threads(env, builder->options.threads);
    struct measure_job job = {.builder = builder, .ivf = build_lists(builder)};
    size_t bytes =
        round_up(codec_query_bytes(&builder->codec) + rabitq_query_bytes(&job.ivf.rabitq), 64);
    uint32_t *slot_of = NULL, n_held = builder->n_held_rows;
    char *memory = NULL;
    struct progress progress;
    annex_status status;
    if (n_held == 0) {
        return ANNEX_OK;
    }
    TRY_CLEANUP(memory_new_raw(env, builder->n, sizeof *slot_of, &slot_of, error));
    for (uint32_t slot = 0; slot < builder->n; slot++) {
        slot_of[builder->raw_row ? builder->raw_row[slot] : slot] = slot;
    }
    job.slot_of = slot_of;
    TRY_CLEANUP(memory_new(env, threads, sizeof *job.workers, &job.workers, error));
    TRY_CLEANUP(memory_new(env, threads, bytes, &memory, error));
    TRY_CLEANUP(memory_new(env, n_held, sizeof *job.found, &job.found, error));
    for (unsigned t = 0; t < threads; t++) {
        TRY_CLEANUP(worker_new(&job, &job.workers[t], memory + t * bytes, error));
    }
    TRY_CLEANUP(progress_begin(&progress, env, "measuring", n_held, error));
    TRY_CLEANUP(progress_for(&progress, threads, n_held, 4, measure_range, &job, error));
    TRY_CLEANUP(progress_update(&progress, n_held, error));
    sum_up(builder, &job);
cleanup:
    for (unsigned t = 0; job.workers && t < threads; t++) {
        memory_free(env, job.workers[t].centred, builder->codec.dimension, sizeof(float));
        memory_free(env, job.workers[t].distances, job.ivf.n_lists, sizeof(float));
    }
    memory_free(env, job.workers, threads, sizeof *job.workers);
    memory_free(env, memory, threads, bytes);
    memory_free(env, job.found, n_held, sizeof *job.found);
    memory_free(env, slot_of, builder->n, sizeof *slot_of);
    return status;
}
