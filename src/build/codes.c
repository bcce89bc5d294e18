/*
 * codes.c - how rows are coded: by measuring, on the rows held back, what codes lose. The same rows
 * give the same choice everywhere: nothing is timed.
 */
#include <math.h>

#include "build/build.h"

static struct codec_form wish(const struct builder *builder, annex_codes codes, bool rotated)
{
    return (struct codec_form){.metric = builder->options.metric,
                               .dimension = builder->options.dimension,
                               .codes = builder->bits ? ANNEX_CODES_BITS : codes,
                               .rotated = rotated,
                               .seed = builder->options.seed};
}

/* The sum of squares that the codec chosen last loses of the rows held back. */
static double measure_loss(const struct builder *builder, uint8_t *row, float *work)
{
    double sum = 0;
    for (uint32_t h = 0; h < builder->n_held_rows; h++) {
        float lost;
        codec_encode(&builder->codec, builder->held[h].vector, row, work, &lost);
        sum += (double)lost * lost;
    }
    return sum;
}

/* The same of the codec that `form` wishes for, which it becomes. */
static annex_status try_codes(struct builder *builder, struct codec_form form, double *loss,
                              annex_error *error)
{
    const annex_env *env = &builder->env;
    uint32_t dimension = form.dimension;
    float *work = NULL;
    uint8_t *row = NULL;
    annex_status status;
    codec_choose(&builder->codec, &form, &builder->survey, builder->center);
    uint32_t row_bytes = builder->codec.row_bytes;
    TRY_CLEANUP(memory_new(env, dimension, sizeof *work, &work, error));
    TRY_CLEANUP(memory_new(env, row_bytes, 1, &row, error));
    *loss = measure_loss(builder, row, work);
cleanup:
    memory_free(env, work, dimension, sizeof *work);
    memory_free(env, row, row_bytes, 1);
    return status;
}

/*
 * auto: bytes. Where a few elements are much larger than the others, they take the scale of a row
 * for themselves; then vectors are rotated, if that at least halves the loss. It costs a query a
 * microsecond or two.
 */
annex_status build_choose_codes(struct builder *builder, annex_error *error)
{
    annex_codes codes = builder->options.codes;
    struct codec_form plain = wish(builder, codes, false);
    bool lists = builder->options.family == ANNEX_IVF; /* whose own codes are rotated */
    double plain_loss, rotated_loss;
    codec_choose(&builder->codec, &plain, &builder->survey, builder->center);
    if (builder->codec.codes != ANNEX_CODES_Q8 || builder->codec.fixed_scale > 0 || lists) {
        return ANNEX_OK;
    }
    TRY(try_codes(builder, plain, &plain_loss, error));
    TRY(try_codes(builder, wish(builder, codes, true), &rotated_loss, error));
    if (!(rotated_loss < plain_loss / 2)) {
        codec_choose(&builder->codec, &plain, &builder->survey, builder->center);
    }
    return ANNEX_OK;
}

/* ---- whether codes tell neighbours apart ------------------------------------------------------*/

enum {
    ASKED = 64,      /* of the rows held back */
    WITHIN = 24,     /* how far down the codes' own ranking a true neighbour may be */
    SCORE_ROWS = 256 /* scored at once */
};

struct ranking_job {
    const struct builder *builder;
    struct query *queries; /* one a worker */
    uint32_t found[ASKED]; /* true neighbours within */
};

static annex_status rank_range(void *argument, unsigned worker, size_t first, size_t end,
                               annex_error *error)
{
    struct ranking_job *job = argument;
    const struct builder *builder = job->builder;
    struct query *query = &job->queries[worker];
    (void)error;
    for (size_t h = first; h < end; h++) {
        const struct held_out *held = &builder->held[h];
        uint32_t ids[INDEX_CALIBRATED_K], before[INDEX_CALIBRATED_K] = {0};
        float truth[INDEX_CALIBRATED_K], scores[SCORE_ROWS], farthest = -INFINITY;
        codec_query_set(query, held->vector);
        if (builder->options.metric == ANNEX_IP && query->norm == 0) {
            job->found[h] = held->n; /* all rows are as near */
            continue;
        }
        for (uint32_t i = 0; i < held->n; i++) {
            ids[i] = walk_id(held->nearest[i]);
        }
        codec_score(query, builder->codes, ids, held->n, truth);
        for (uint32_t i = 0; i < held->n; i++) {
            farthest = MAX(farthest, truth[i]);
        }
        for (uint32_t slot = 0; slot < builder->n; slot += SCORE_ROWS) {
            uint32_t n = MIN(SCORE_ROWS, builder->n - slot);
            codec_score(query, builder->codes + (size_t)slot * builder->codec.row_bytes, NULL, n,
                        scores);
            for (uint32_t j = 0; j < n; j++) {
                if (scores[j] > farthest || build_is_held(builder, slot + j)) {
                    continue;
                }
                for (uint32_t i = 0; i < held->n; i++) {
                    /* Of rows with the same code that are not equal, which is nearer? */
                    bool tie = scores[j] == truth[i] &&
                               builder->errors[slot + j] != builder->errors[ids[i]];
                    before[i] += scores[j] < truth[i] || tie;
                }
            }
        }
        for (uint32_t i = 0; i < held->n; i++) {
            job->found[h] += before[i] < WITHIN;
        }
    }
    return ANNEX_OK;
}

static annex_status measure_ranking(const struct builder *builder, double *recall,
                                    annex_error *error)
{
    const annex_env *env = &builder->env;
    uint32_t asked = MIN(ASKED, builder->n_held_rows), found = 0, all = 0;
    unsigned threads = parallel_threads(env, builder->options.threads);
    size_t query_bytes = codec_query_bytes(&builder->codec);
    struct ranking_job job = {.builder = builder};
    struct progress progress;
    char *memory = NULL;
    annex_status status;
    TRY_CLEANUP(memory_new(env, threads, sizeof *job.queries, &job.queries, error));
    TRY_CLEANUP(memory_new(env, threads, query_bytes, &memory, error));
    for (unsigned t = 0; t < threads; t++) {
        codec_query_init(&builder->codec, &job.queries[t], memory + t * query_bytes);
    }
    TRY_CLEANUP(progress_begin(&progress, env, "comparing", asked, error));
    TRY_CLEANUP(progress_for(&progress, threads, asked, 4, rank_range, &job, error));
    for (uint32_t h = 0; h < asked; h++) {
        found += job.found[h];
        all += builder->held[h].n;
    }
    *recall = all ? (double)found / all : 1;
cleanup:
    memory_free(env, job.queries, threads, sizeof *job.queries);
    memory_free(env, memory, threads, query_bytes);
    return status;
}

/*
 * Rows may be so near each other, for the space they fill, that bytes cannot tell them apart. Then
 * auto takes f16 if it loses an eighth at most of what bytes do, and else the vectors themselves.
 */
annex_status build_check_codes(struct builder *builder, annex_error *error)
{
    double recall, bytes_loss, f16_loss;
    bool bytes = builder->codec.codes == ANNEX_CODES_Q8 && !builder->codec.lossless;
    if (builder->options.codes != ANNEX_CODES_AUTO || !bytes) {
        return ANNEX_OK;
    }
    TRY(measure_ranking(builder, &recall, error));
    if (recall >= 0.95) {
        return ANNEX_OK;
    }
    build_forget_codes(builder);
    TRY(try_codes(builder, wish(builder, ANNEX_CODES_Q8, builder->codec.rotated), &bytes_loss,
                  error));
    TRY(try_codes(builder, wish(builder, ANNEX_CODES_F16, false), &f16_loss, error));
    if (!(f16_loss <= bytes_loss / 64)) { /* losses are squares */
        struct codec_form exact = wish(builder, ANNEX_CODES_F32, false);
        codec_choose(&builder->codec, &exact, &builder->survey, builder->center);
    }
    log_message(&builder->env, ANNEX_LOG_INFO,
                "bytes find %.0f %% of the nearest rows; the codes are %s instead", recall * 100,
                annex_codes_name(builder->codec.codes));
    return build_encode(builder, error);
}
