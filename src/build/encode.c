/*
 * encode.c - the second pass over the source: codes every row, and finds by brute force the true
 * nearest rows of those held back.
 */
#include "build/build.h"

/* One batch of the source, worked on by several threads. */
struct encode_job {
    struct builder *builder;
    const annex_batch *batch;
    uint64_t row;   /* of the source, of the batch's first row */
    uint32_t first; /* slot of the batch's first row that is indexed */
    uint32_t n;     /* rows of the batch that are indexed */
    uint64_t vectors_sum, keys_sum;
    float *units;          /* [n x dimension] rows, when they are not the batch's vectors */
    struct query *queries; /* of the rows held back */
    float *work;           /* [threads x dimension] */
};

static bool is_zero(const float *vector, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        if (vector[j] != 0) {
            return false;
        }
    }
    return true;
}

static annex_status put_key(struct builder *builder, struct key_view key, uint32_t slot,
                            uint64_t *key_bytes, annex_error *error)
{
    builder->keys[slot] = key.number;
    if (key.bytes) {
        if (key.n_bytes > builder->n_key_bytes - *key_bytes) {
            return build_source_changed(error);
        }
        memcpy(builder->key_bytes + *key_bytes, key.bytes, key.n_bytes);
        *key_bytes += key.n_bytes;
        builder->keys[slot] = (int64_t)*key_bytes;
    }
    return ANNEX_OK;
}

/* Keys, and rows where they are not the vectors; under cosine without the zero ones. */
static annex_status gather(struct encode_job *job, uint64_t *key_bytes, annex_error *error)
{
    struct builder *builder = job->builder;
    uint32_t dimension = builder->options.dimension;
    bool cosine = builder->options.metric == ANNEX_COSINE;
    job->n = 0;
    if (!job->batch->vectors ||
        (builder->options.key_kind == ANNEX_KEY_BYTES && !job->batch->key_ends)) {
        return build_source_changed(error);
    }
    for (size_t i = 0; i < job->batch->n; i++) {
        uint64_t row = job->row + i;
        struct key_view key = build_batch_key(builder->options.key_kind, job->batch, i, row);
        const void *given = (const char *)job->batch->vectors + i * builder->vector_bytes;
        const float *vector = given;
        job->vectors_sum += build_vector_hash(builder, given, row);
        if (key.n_bytes > 65535) {
            return build_source_changed(error);
        }
        job->keys_sum += build_key_hash(key, row);
        if (cosine && is_zero(vector, dimension)) {
            continue;
        }
        if (job->first + job->n >= builder->n) {
            return build_source_changed(error);
        }
        if (build_alters(builder)) {
            build_row(builder, vector, job->units + (size_t)job->n * dimension);
        }
        TRY(put_key(builder, key, job->first + job->n, key_bytes, error));
        job->n++;
    }
    return ANNEX_OK;
}

static const char *job_vector(const struct encode_job *job, size_t i)
{
    const void *vectors = job->units ? job->units : job->batch->vectors;
    return (const char *)vectors + i * job->builder->vector_bytes;
}

static annex_status encode_range(void *argument, unsigned worker, size_t first, size_t end,
                                 annex_error *error)
{
    struct encode_job *job = argument;
    struct builder *builder = job->builder;
    float *work = job->work + worker * builder->options.dimension;
    (void)error;
    for (size_t i = first; i < end; i++) {
        size_t slot = job->first + i;
        float lost;
        codec_encode(&builder->codec, job_vector(job, i),
                     builder->codes + slot * builder->codec.row_bytes, work, &lost);
        if (builder->errors) {
            builder->errors[slot] = lost;
        }
    }
    return ANNEX_OK;
}

/* ---- true neighbours of the rows held back ----------------------------------------------------*/

static void offer(struct held_out *held, walk_item item)
{
    uint32_t i = held->n;
    if (i == INDEX_CALIBRATED_K) {
        if (item >= held->nearest[--i]) {
            return;
        }
    } else {
        held->n++;
    }
    for (; i > 0 && held->nearest[i - 1] > item; i--) {
        held->nearest[i] = held->nearest[i - 1];
    }
    held->nearest[i] = item;
}

bool build_is_held(const struct builder *builder, uint64_t slot)
{
    for (uint32_t i = 0; i < builder->n_held_rows; i++) {
        if (builder->held[i].row == slot) {
            return true;
        }
    }
    return false;
}

static annex_status truth_range(void *argument, unsigned worker, size_t first, size_t end,
                                annex_error *error)
{
    enum { TILE = 64 }; /* rows that stay in the first cache while all queries pass over them */
    struct encode_job *job = argument;
    struct builder *builder = job->builder;
    (void)worker;
    (void)error;
    for (uint32_t tile = 0; tile < job->n; tile += TILE) {
        for (size_t h = first; h < end; h++) {
            for (uint32_t i = tile; i < MIN(tile + TILE, job->n); i++) {
                float order = codec_exact(&job->queries[h], job_vector(job, i));
                walk_item item = walk_item_of(order, job->first + i);
                struct held_out *held = &builder->held[h];
                if ((held->n < INDEX_CALIBRATED_K || item < held->nearest[held->n - 1]) &&
                    !build_is_held(builder, job->first + i)) {
                    offer(held, item);
                }
            }
        }
    }
    return ANNEX_OK;
}

/* ---- the pass --------------------------------------------------------------------------------*/

static annex_status encode_batches(struct builder *builder, struct encode_job *job,
                                   annex_error *error)
{
    const annex_env *env = &builder->env;
    unsigned threads = parallel_threads(env, builder->options.threads);
    size_t units_rows = 0;
    uint64_t key_bytes = 0;
    struct progress progress;
    annex_status status;
    TRY_CLEANUP(progress_begin(&progress, env, "coding", builder->n, error));
    TRY_CLEANUP(builder->source->rewind(builder->source->context, error));
    for (;;) {
        annex_batch batch = {0};
        TRY_CLEANUP(builder->source->next(builder->source->context, &batch, error));
        if (batch.n == 0) {
            break;
        }
        if (build_alters(builder) && batch.n > units_rows) {
            memory_free(env, job->units, units_rows, builder->vector_bytes);
            job->units = NULL;
            units_rows = batch.n;
            TRY_CLEANUP(memory_new_raw(env, units_rows, builder->vector_bytes, &job->units, error));
        }
        job->batch = &batch;
        TRY_CLEANUP(gather(job, &key_bytes, error));
        TRY_CLEANUP(progress_for(&progress, threads, job->n, 256, encode_range, job, error));
        if (builder->family != ANNEX_FLAT) {
            TRY_CLEANUP(
                progress_for(&progress, threads, builder->n_held_rows, 8, truth_range, job, error));
        }
        job->row += batch.n;
        job->first += job->n;
        TRY_CLEANUP(progress_update(&progress, job->first, error));
    }
    if (job->first != builder->n || job->vectors_sum != builder->vectors_sum ||
        job->keys_sum != builder->keys_sum) {
        status = build_source_changed(error);
    }
cleanup:
    memory_free(env, job->units, units_rows, builder->vector_bytes);
    return status;
}

annex_status build_encode(struct builder *builder, annex_error *error)
{
    const annex_env *env = &builder->env;
    struct encode_job job = {.builder = builder};
    size_t query_bytes = codec_query_bytes(&builder->codec);
    size_t n_work = parallel_threads(env, builder->options.threads) * builder->options.dimension;
    char *memory = NULL;
    annex_status status;
    TRY_CLEANUP(memory_new(env, n_work, sizeof *job.work, &job.work, error));
    TRY_CLEANUP(memory_new_raw(env, builder->n, builder->codec.row_bytes, &builder->codes, error));
    TRY_CLEANUP(memory_new_raw(env, builder->n, sizeof *builder->keys, &builder->keys, error));
    TRY_CLEANUP(memory_new_raw(env, builder->n_key_bytes, 1, &builder->key_bytes, error));
    if (!builder->bits) {
        TRY_CLEANUP(
            memory_new_raw(env, builder->n, sizeof *builder->errors, &builder->errors, error));
    }
    TRY_CLEANUP(memory_new(env, BUILD_HELD_OUT, sizeof *job.queries, &job.queries, error));
    TRY_CLEANUP(memory_new(env, BUILD_HELD_OUT, query_bytes, &memory, error));
    for (uint32_t h = 0; h < builder->n_held_rows; h++) {
        codec_query_init(&builder->codec, &job.queries[h], memory + h * query_bytes);
        codec_query_set(&job.queries[h], builder->held[h].vector);
    }
    status = encode_batches(builder, &job, error);
cleanup:
    memory_free(env, job.queries, BUILD_HELD_OUT, sizeof *job.queries);
    memory_free(env, memory, BUILD_HELD_OUT, query_bytes);
    memory_free(env, job.work, n_work, sizeof *job.work);
    return status;
}

void build_forget_codes(struct builder *builder)
{
    const annex_env *env = &builder->env;
    memory_free(env, builder->codes, builder->n, builder->codec.row_bytes);
    memory_free(env, builder->errors, builder->n, sizeof *builder->errors);
    memory_free(env, builder->keys, builder->n, sizeof *builder->keys);
    memory_free(env, builder->key_bytes, builder->n_key_bytes, 1);
    builder->codes = NULL;
    builder->errors = NULL;
    builder->keys = NULL;
    builder->key_bytes = NULL;
    for (uint32_t h = 0; h < builder->n_held_rows; h++) {
        builder->held[h].n = 0;
    }
}
