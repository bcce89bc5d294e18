/*
 * kmeans.h - centroids of coded rows (Lloyd, 1957), and which of them is nearest to a row.
 *
 * Rows and centroids are codes of one codec: assignment compares them by the kernels of every
 * search, and what counts as a centroid is what its code stands for.
 *
 * Invariants
 *   1. The same rows, ids and seed give the same centroids for any number of threads and on any
 *      processor: distances are those of codes, ties go to the lower number, and each mean adds its
 *      rows up in the order of ids.
 *   2. While there are more different rows than centroids, no centroid of a training is left
 *      without rows but by the last round.
 * Does not: choose samples, balance, order rows (build/ivf.c).
 */
#ifndef ANNEX_KMEANS_H
#define ANNEX_KMEANS_H

#include "quant/codec.h"

/* Working memory, for calls one after the other. */
struct kmeans {
    const annex_env *env;
    const struct codec *codec;
    const uint8_t *rows;
    unsigned threads;
    struct query *queries; /* [threads] */
    char *memory;
    float *scores;  /* [threads x 1024] */
    float *vectors; /* [threads x dimension] */
    double *sums;   /* [threads x dimension] */
    struct progress *progress;
};

/* Rows of clusters: those of c are ids[bounds[c] .. bounds[c + 1]), ascending. */
struct clusters {
    uint32_t n;
    uint32_t n_rows;
    uint32_t *bounds; /* [n + 1] */
    uint32_t *ids;    /* [n_rows] */
};

annex_status kmeans_new(const annex_env *env, const struct codec *codec, const uint8_t *rows,
                        unsigned threads, struct progress *progress, struct kmeans *kmeans,
                        annex_error *error);
void kmeans_free(struct kmeans *kmeans);

/* Trains `centroids` ([n_centroids] coded rows) on the rows ids[0..n), n >= n_centroids > 0. */
annex_status kmeans_train(struct kmeans *kmeans, const uint32_t *ids, uint32_t n,
                          uint32_t n_centroids, uint64_t seed, uint8_t *centroids,
                          annex_error *error);
/* nearest[i] = the centroid of row ids[i]. */
annex_status kmeans_assign(struct kmeans *kmeans, const uint32_t *ids, uint32_t n,
                           const uint8_t *centroids, uint32_t n_centroids, uint32_t *nearest,
                           annex_error *error);
/* Each centroid becomes the mean of its rows; one without rows stays. */
annex_status kmeans_update(struct kmeans *kmeans, const struct clusters *clusters,
                           uint8_t *centroids, annex_error *error);
/* The nearest of centroids[0..n) to the query of a worker, and its distance. */
uint32_t kmeans_nearest(struct kmeans *kmeans, unsigned worker, const uint8_t *centroids,
                        uint32_t n, float *distance);

/* Sorts ids[0..n) by their clusters, in the order given within each. */
annex_status clusters_new(const annex_env *env, const uint32_t *ids, const uint32_t *cluster_of,
                          uint32_t n, uint32_t n_clusters, struct clusters *clusters,
                          annex_error *error);
void clusters_free(const annex_env *env, struct clusters *clusters);

#endif
