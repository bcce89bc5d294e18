/*
 * kmeans.c - see kmeans.h.
 */
#include "build/kmeans.h"

#include <math.h>

enum { ROUNDS = 8, SCORES = 1024 };

annex_status kmeans_new(const annex_env *env, const struct codec *codec, const uint8_t *rows,
                        unsigned threads, struct progress *progress, struct kmeans *kmeans,
                        annex_error *error)
{
    size_t query_bytes = codec_query_bytes(codec);
    annex_status status;
    *kmeans = (struct kmeans){
        .env = env, .codec = codec, .rows = rows, .threads = threads, .progress = progress};
    TRY_CLEANUP(memory_new(env, threads, sizeof *kmeans->queries, &kmeans->queries, error));
    TRY_CLEANUP(memory_new(env, threads, query_bytes, &kmeans->memory, error));
    TRY_CLEANUP(
        memory_new(env, (size_t)threads * SCORES, sizeof *kmeans->scores, &kmeans->scores, error));
    TRY_CLEANUP(memory_new(env, (size_t)threads * codec->dimension, sizeof *kmeans->vectors,
                           &kmeans->vectors, error));
    TRY_CLEANUP(memory_new(env, (size_t)threads * codec->dimension, sizeof *kmeans->sums,
                           &kmeans->sums, error));
    for (unsigned t = 0; t < threads; t++) {
        codec_query_init(codec, &kmeans->queries[t], kmeans->memory + t * query_bytes);
    }
    return ANNEX_OK;
cleanup:
    kmeans_free(kmeans);
    return status;
}

void kmeans_free(struct kmeans *kmeans)
{
    const annex_env *env = kmeans->env;
    if (!env) {
        return;
    }
    size_t threads = kmeans->threads, elements = threads * kmeans->codec->dimension;
    memory_free(env, kmeans->queries, threads, sizeof *kmeans->queries);
    memory_free(env, kmeans->memory, threads, codec_query_bytes(kmeans->codec));
    memory_free(env, kmeans->scores, threads * SCORES, sizeof *kmeans->scores);
    memory_free(env, kmeans->vectors, elements, sizeof *kmeans->vectors);
    memory_free(env, kmeans->sums, elements, sizeof *kmeans->sums);
    *kmeans = (struct kmeans){0};
}

/* ---- assignment ------------------------------------------------------------------------------*/

uint32_t kmeans_nearest(struct kmeans *kmeans, unsigned worker, const uint8_t *centroids,
                        uint32_t n, float *distance)
{
    float *scores = kmeans->scores + (size_t)worker * SCORES;
    uint32_t best = 0;
    *distance = INFINITY;
    for (uint32_t first = 0; first < n; first += SCORES) {
        uint32_t count = MIN(n - first, SCORES);
        codec_score(&kmeans->queries[worker], centroids + (size_t)first * kmeans->codec->row_bytes,
                    NULL, count, scores);
        for (uint32_t i = 0; i < count; i++) {
            if (scores[i] < *distance) {
                *distance = scores[i];
                best = first + i;
            }
        }
    }
    return best;
}

struct assign_job {
    struct kmeans *kmeans;
    const uint32_t *ids;
    const uint8_t *centroids;
    uint32_t n_centroids;
    uint32_t *nearest;
};

static annex_status assign_range(void *argument, unsigned worker, size_t first, size_t end,
                                 annex_error *error)
{
    struct assign_job *job = argument;
    struct kmeans *kmeans = job->kmeans;
    (void)error;
    for (size_t i = first; i < end; i++) {
        float distance;
        const uint8_t *row = kmeans->rows + (size_t)job->ids[i] * kmeans->codec->row_bytes;
        codec_query_set_row(&kmeans->queries[worker], row);
        job->nearest[i] =
            kmeans_nearest(kmeans, worker, job->centroids, job->n_centroids, &distance);
    }
    return ANNEX_OK;
}

annex_status kmeans_assign(struct kmeans *kmeans, const uint32_t *ids, uint32_t n,
                           const uint8_t *centroids, uint32_t n_centroids, uint32_t *nearest,
                           annex_error *error)
{
    struct assign_job job = {kmeans, ids, centroids, n_centroids, nearest};
    return progress_for(kmeans->progress, kmeans->threads, n, 256, assign_range, &job, error);
}

/* ---- clusters --------------------------------------------------------------------------------*/

annex_status clusters_new(const annex_env *env, const uint32_t *ids, const uint32_t *cluster_of,
                          uint32_t n, uint32_t n_clusters, struct clusters *clusters,
                          annex_error *error)
{
    *clusters = (struct clusters){.n = n_clusters, .n_rows = n};
    TRY(memory_new(env, (size_t)n_clusters + 1, 4, &clusters->bounds, error));
    annex_status status = memory_new_raw(env, n, 4, &clusters->ids, error);
    if (status) {
        clusters_free(env, clusters);
        return status;
    }
    uint32_t *bounds = clusters->bounds;
    for (uint32_t i = 0; i < n; i++) {
        bounds[cluster_of[i]]++;
    }
    for (uint32_t c = 0, end = 0; c <= n_clusters; c++) { /* ends, which filling turns to starts */
        end += bounds[c];
        bounds[c] = end;
    }
    for (uint32_t i = n; i-- > 0;) {
        clusters->ids[--bounds[cluster_of[i]]] = ids[i];
    }
    return ANNEX_OK;
}

void clusters_free(const annex_env *env, struct clusters *clusters)
{
    memory_free(env, clusters->bounds, (size_t)clusters->n + 1, 4);
    memory_free(env, clusters->ids, clusters->n_rows, 4);
    *clusters = (struct clusters){0};
}

/* ---- means -----------------------------------------------------------------------------------*/

struct update_job {
    struct kmeans *kmeans;
    const struct clusters *clusters;
    uint8_t *centroids;
};

static annex_status update_range(void *argument, unsigned worker, size_t first, size_t end,
                                 annex_error *error)
{
    struct update_job *job = argument;
    struct kmeans *kmeans = job->kmeans;
    const struct codec *codec = kmeans->codec;
    float *vector = kmeans->vectors + (size_t)worker * codec->dimension, lost;
    double *sum = kmeans->sums + (size_t)worker * codec->dimension;
    (void)error;
    for (size_t c = first; c < end; c++) {
        uint32_t from = job->clusters->bounds[c], to = job->clusters->bounds[c + 1];
        memset(sum, 0, codec->dimension * sizeof *sum);
        for (uint32_t i = from; i < to; i++) {
            codec_decode(codec, kmeans->rows + (size_t)job->clusters->ids[i] * codec->row_bytes,
                         vector);
            for (uint32_t j = 0; j < codec->dimension; j++) {
                sum[j] += vector[j];
            }
        }
        for (uint32_t j = 0; j < codec->dimension; j++) {
            vector[j] = (float)(sum[j] / MAX(to - from, 1));
        }
        if (to > from) {
            /* The sums have done their work. */
            codec_encode(codec, vector, job->centroids + c * codec->row_bytes, (float *)(void *)sum,
                         &lost);
        }
    }
    return ANNEX_OK;
}

annex_status kmeans_update(struct kmeans *kmeans, const struct clusters *clusters,
                           uint8_t *centroids, annex_error *error)
{
    struct update_job job = {kmeans, clusters, centroids};
    return progress_for(kmeans->progress, kmeans->threads, clusters->n, 1, update_range, &job,
                        error);
}

/* ---- training --------------------------------------------------------------------------------*/

/* A centroid without rows takes a row from the middle of the largest cluster, which it halves. */
static void repair_empty(const struct kmeans *kmeans, const struct clusters *clusters,
                         uint8_t *centroids)
{
    size_t row_bytes = kmeans->codec->row_bytes;
    uint32_t largest = 0, taken = 0;
    for (uint32_t c = 1; c < clusters->n; c++) {
        uint32_t rows = clusters->bounds[c + 1] - clusters->bounds[c];
        largest = rows > clusters->bounds[largest + 1] - clusters->bounds[largest] ? c : largest;
    }
    uint32_t first = clusters->bounds[largest], rows = clusters->bounds[largest + 1] - first;
    for (uint32_t c = 0; c < clusters->n; c++) {
        if (clusters->bounds[c] == clusters->bounds[c + 1]) {
            uint32_t id = clusters->ids[first + (rows / 2 + 7 * taken++) % rows];
            memcpy(centroids + c * row_bytes, kmeans->rows + (size_t)id * row_bytes, row_bytes);
        }
    }
}

static annex_status train_round(struct kmeans *kmeans, const uint32_t *ids, uint32_t n,
                                uint32_t n_centroids, uint32_t *nearest, uint8_t *centroids,
                                annex_error *error)
{
    struct clusters clusters;
    TRY(kmeans_assign(kmeans, ids, n, centroids, n_centroids, nearest, error));
    TRY(clusters_new(kmeans->env, ids, nearest, n, n_centroids, &clusters, error));
    annex_status status = kmeans_update(kmeans, &clusters, centroids, error);
    repair_empty(kmeans, &clusters, centroids);
    clusters_free(kmeans->env, &clusters);
    return status;
}

annex_status kmeans_train(struct kmeans *kmeans, const uint32_t *ids, uint32_t n,
                          uint32_t n_centroids, uint64_t seed, uint8_t *centroids,
                          annex_error *error)
{
    size_t row_bytes = kmeans->codec->row_bytes;
    uint32_t *nearest;
    annex_status status = ANNEX_OK;
    assert(n >= n_centroids && n_centroids > 0);
    for (uint32_t c = 0; c < n_centroids; c++) { /* one from each part of the sample */
        uint64_t first = (uint64_t)c * n / n_centroids, end = (c + UINT64_C(1)) * n / n_centroids;
        uint32_t id = ids[first + random_below(&seed, end - first)];
        memcpy(centroids + c * row_bytes, kmeans->rows + (size_t)id * row_bytes, row_bytes);
    }
    TRY(memory_new_raw(kmeans->env, n, sizeof *nearest, &nearest, error));
    for (int round = 0; round < ROUNDS && !status; round++) {
        status = train_round(kmeans, ids, n, n_centroids, nearest, centroids, error);
    }
    memory_free(kmeans->env, nearest, n, sizeof *nearest);
    return status;
}
