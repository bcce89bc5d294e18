/*
 * measure.h - recall and speed of an index along effort.
 *
 * What is measured
 *   recall     of the k rows found, the share that is among the k nearest. A row as near as the
 *              k-th nearest counts whatever its number (relative slack TIE_SLACK), and counts once.
 *   qps        queries per second in the best of MEASURE_PASSES passes over all queries. With one
 *              thread every query is a call of its own; with more all queries are one call.
 *   batch_qps  the same with all queries in one call, whatever the number of threads.
 *   p50, p99   microseconds a call took in that pass; NaN with more threads.
 *   hops, distances, exact, bytes
 *              what a query did on average: rows whose neighbours it looked at, distances it
 *              computed (approximate and exact ones), the exact ones among them, bytes it read.
 *   open       milliseconds to open the file as programs do, mapped: cold after the system was
 *              asked to drop it from its memory, warm the best of MEASURE_PASSES right after.
 */
#ifndef ANNEX_CLI_MEASURE_H
#define ANNEX_CLI_MEASURE_H

#include "queries.h"

#define MEASURE_PASSES 3
#define MEASURE_POINTS 64
#define TIE_SLACK 1e-6

struct point {
    uint32_t effort;
    double recall;
    double qps, batch_qps;
    double p50_us, p99_us;
    double hops, distances, exact, bytes;
};

struct evaluation {
    const struct session *session;
    const annex_index *index;
    annex_index_info info;
    struct queries queries;
    size_t k; /* at most the rows of the index */
    uint32_t threads;
    uint32_t *truth; /* [n x k] rows of the index, ascending */
    double *limits;  /* [n] the distance of the k-th nearest with slack; NULL: rows alone count */
    annex_hit *hits; /* [n x k] of the last search */
    size_t *found;   /* [n] */
    double exact_qps;
    double open_cold_ms, open_warm_ms;
    struct point points[MEASURE_POINTS];
    size_t n_points;
};

/* Measures how long opening the file takes. Before the index is loaded: pages in use stay. */
annex_status measure_open(struct evaluation *evaluation, annex_error *error);

/* truth.c: from --truth, from the file of the queries, or by exact search. */
annex_status truth_get(struct evaluation *evaluation, annex_error *error);

/* Answers all queries at an effort on all threads, into evaluation->hits. */
annex_status measure_answers(struct evaluation *evaluation, uint32_t effort,
                             annex_search_stats *stats, annex_error *error);

/* Chooses efforts from k upwards until recall is high, closer together around the usual targets. */
annex_status measure_sweep(struct evaluation *evaluation, annex_error *error);
/* Measures recall at efforts that were given, "10,20,40". */
annex_status measure_listed(struct evaluation *evaluation, const char *efforts, annex_error *error);
/* Measures the speed of all points, and of exact search. */
annex_status measure_speed(struct evaluation *evaluation, annex_error *error);

/* plot.c: recall and queries per second as a drawing. */
annex_status plot_write(const struct evaluation *evaluation, const char *title, const char *path,
                        annex_error *error);

#endif
