/* measure.c - see measure.h. */
#include "measure.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "progress.h"

#define SLICE_QUERIES 256 /* queries between two looks at Ctrl-C */
#define SWEEP_FROM 10     /* or a quarter of k */
#define SWEEP_FACTOR 1.19 /* four steps double the effort */
#define SWEEP_RECALL 0.995
#define SWEEP_LEAST_POINTS 10
#define SWEEP_EFFORT 1000000
#define TARGET_HALVINGS 2
#define EXACT_QUERIES 100
#define EXACT_SECONDS 1.0

static annex_status cancelled(annex_error *error)
{
    return session_error(error, ANNEX_CANCELLED, "interrupted");
}

/* ---- opening ----------------------------------------------------------------------------------*/

/* Asks the system to forget what it holds of a file; without rights or support it stays warm. */
static void forget_file(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        close(file);
    }
}

annex_status measure_open(struct evaluation *evaluation, annex_error *error)
{
    const char *path = evaluation->session->arguments.operands[0];
    forget_file(path);
    for (int pass = 0; pass <= MEASURE_PASSES; pass++) {
        annex_index *index;
        double start = progress_clock();
        annex_status status = annex_index_open(&evaluation->session->env, path, 0, &index, error);
        double took = 1e3 * (progress_clock() - start);
        if (status != ANNEX_OK) {
            return status;
        }
        annex_index_close(index);
        if (pass == 0) {
            evaluation->open_cold_ms = took;
        } else if (pass == 1 || took < evaluation->open_warm_ms) {
            evaluation->open_warm_ms = took;
        }
    }
    return ANNEX_OK;
}

/* ---- recall -----------------------------------------------------------------------------------*/

static int compare_rows(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

/* Whether a row outside the truth is as near as the last row of the truth. */
static annex_status is_tie(const struct evaluation *evaluation, size_t q, uint32_t row,
                           float *vector, bool *tie, annex_error *error)
{
    const annex_index_info *info = &evaluation->info;
    double distance = INFINITY;
    *tie = false;
    if (evaluation->limits == NULL) {
        return ANNEX_OK;
    }
    annex_status status = annex_index_vector(evaluation->index, row, vector, error);
    if (status == ANNEX_OK) {
        status = annex_distance(info->metric, info->dimension,
                                evaluation->queries.vectors + q * info->dimension, vector,
                                &distance, error);
    }
    *tie = distance <= evaluation->limits[q];
    return status;
}

/* The recall of evaluation->hits. */
static annex_status measure_recall(const struct evaluation *evaluation, double *recall,
                                   annex_error *error)
{
    size_t k = evaluation->k;
    uint64_t good = 0;
    annex_status status = ANNEX_OK;
    float *vector = session_memory(evaluation->info.dimension, sizeof(float));
    uint32_t *rows = session_memory(k, sizeof(uint32_t));
    for (size_t q = 0; q < evaluation->queries.n && status == ANNEX_OK; q++) {
        size_t n = evaluation->found[q], good_here = 0;
        for (size_t i = 0; i < n; i++) {
            rows[i] = evaluation->hits[q * k + i].row;
        }
        qsort(rows, n, sizeof(uint32_t), compare_rows);
        for (size_t i = 0; i < n && status == ANNEX_OK; i++) {
            if (i > 0 && rows[i] == rows[i - 1]) {
                continue;
            }
            bool hit = bsearch(&rows[i], evaluation->truth + q * k, k, sizeof(uint32_t),
                               compare_rows) != NULL;
            if (!hit) {
                status = is_tie(evaluation, q, rows[i], vector, &hit, error);
            }
            good_here += hit;
        }
        good += good_here < k ? good_here : k;
    }
    free(rows);
    free(vector);
    *recall = (double)good / ((double)k * (double)evaluation->queries.n);
    return status;
}

annex_status measure_answers(struct evaluation *evaluation, uint32_t effort,
                             annex_search_stats *stats, annex_error *error)
{
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    size_t n = evaluation->queries.n, k = evaluation->k;
    options.effort = effort;
    for (size_t q = 0; q < n; q += SLICE_QUERIES) {
        size_t slice = n - q < SLICE_QUERIES ? n - q : SLICE_QUERIES;
        annex_search_stats part = {0};
        options.stats = &part;
        if (progress_report(NULL, "searching", q, n) != 0) {
            return cancelled(error);
        }
        annex_status status = annex_index_search(
            evaluation->index, evaluation->queries.vectors + q * evaluation->info.dimension, slice,
            k, &options, evaluation->hits + q * k, evaluation->found + q, error);
        if (status != ANNEX_OK) {
            return status;
        }
        if (stats != NULL) {
            stats->hops += part.hops;
            stats->distances += part.distances;
            stats->reranked += part.reranked;
            stats->bytes += part.bytes;
        }
    }
    return ANNEX_OK;
}

/* ---- efforts ----------------------------------------------------------------------------------*/

/* Adds a point, in the order of effort, with its recall. */
static annex_status add_point(struct evaluation *evaluation, uint32_t effort, annex_error *error)
{
    struct point point = {.effort = effort, .p50_us = NAN, .p99_us = NAN};
    annex_search_stats stats = {0};
    annex_status status = measure_answers(evaluation, effort, &stats, error);
    if (status == ANNEX_OK) {
        status = measure_recall(evaluation, &point.recall, error);
    }
    if (status != ANNEX_OK) {
        return status;
    }
    double n = (double)evaluation->queries.n;
    point.hops = (double)stats.hops / n;
    point.distances = (double)(stats.distances + stats.reranked) / n;
    point.exact = (double)stats.reranked / n;
    point.bytes = (double)stats.bytes / n;
    size_t place = evaluation->n_points++;
    while (place > 0 && evaluation->points[place - 1].effort > effort) {
        evaluation->points[place] = evaluation->points[place - 1];
        place--;
    }
    evaluation->points[place] = point;
    return ANNEX_OK;
}

/* Halves the gap between the efforts on both sides of a target. */
static annex_status refine(struct evaluation *evaluation, double target, annex_error *error)
{
    for (int i = 0; i < TARGET_HALVINGS; i++) {
        size_t above = 0;
        while (above < evaluation->n_points && evaluation->points[above].recall < target) {
            above++;
        }
        if (above == 0 || above == evaluation->n_points || evaluation->n_points == MEASURE_POINTS) {
            return ANNEX_OK;
        }
        uint32_t low = evaluation->points[above - 1].effort;
        uint32_t gap = evaluation->points[above].effort - low;
        if (gap < 2) {
            return ANNEX_OK;
        }
        annex_status status = add_point(evaluation, low + gap / 2, error);
        if (status != ANNEX_OK) {
            return status;
        }
    }
    return ANNEX_OK;
}

annex_status measure_sweep(struct evaluation *evaluation, annex_error *error)
{
    static const double targets[] = {0.90, 0.95, 0.99};
    uint32_t k = (uint32_t)evaluation->k;
    uint32_t quarter = k / 4 > SWEEP_FROM ? k / 4 : SWEEP_FROM;
    uint32_t effort = k < quarter ? k : quarter; /* walks may expand fewer rows than k */
    const size_t most = MEASURE_POINTS - TARGET_HALVINGS * ARRAY_LENGTH(targets);
    while (evaluation->n_points < most && effort <= SWEEP_EFFORT) {
        annex_status status = add_point(evaluation, effort, error);
        if (status != ANNEX_OK) {
            return status;
        }
        const struct point *last = &evaluation->points[evaluation->n_points - 1];
        if (last->recall >= SWEEP_RECALL && evaluation->n_points >= SWEEP_LEAST_POINTS) {
            break;
        }
        uint32_t next = (uint32_t)((double)effort * SWEEP_FACTOR);
        effort = next > effort ? next : effort + 1;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(targets); i++) {
        annex_status status = refine(evaluation, targets[i], error);
        if (status != ANNEX_OK) {
            return status;
        }
    }
    return ANNEX_OK;
}

annex_status measure_listed(struct evaluation *evaluation, const char *efforts, annex_error *error)
{
    const char *place = efforts;
    for (;;) {
        char *end;
        unsigned long effort = strtoul(place, &end, 10);
        bool digits = *place >= '0' && *place <= '9';
        if (!digits || (*end != ',' && *end != '\0') || effort < 1 || effort > SWEEP_EFFORT) {
            return session_error(error, ANNEX_INVALID,
                                 "--efforts is a list of numbers from 1 to %d such as 10,20,40, "
                                 "not \"%s\"",
                                 SWEEP_EFFORT, efforts);
        }
        if (evaluation->n_points == MEASURE_POINTS) {
            return session_error(error, ANNEX_INVALID, "--efforts has more than %d numbers",
                                 MEASURE_POINTS);
        }
        annex_status status = add_point(evaluation, (uint32_t)effort, error);
        if (status != ANNEX_OK || *end == '\0') {
            return status;
        }
        place = end + 1;
    }
}

/* ---- speed ------------------------------------------------------------------------------------*/

static int compare_reals(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/* One pass over `n` queries, one call each; took[i] seconds. Ends early after `limit` seconds. */
static annex_status pass_by_query(struct evaluation *evaluation, uint32_t effort, size_t *n,
                                  double limit, double *took, double *total, annex_error *error)
{
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = effort;
    options.threads = 1;
    double start = progress_clock(), before = start;
    for (size_t q = 0; q < *n; q++) {
        annex_status status = annex_index_search(
            evaluation->index, evaluation->queries.vectors + q * evaluation->info.dimension, 1,
            evaluation->k, &options, evaluation->hits + q * evaluation->k, evaluation->found + q,
            error);
        double after = progress_clock();
        took[q] = after - before;
        before = after;
        if (status != ANNEX_OK) {
            return status;
        }
        if (progress_interrupted()) {
            return cancelled(error);
        }
        if (after - start > limit) {
            *n = q + 1;
        }
    }
    *total = before - start;
    return ANNEX_OK;
}

/* One pass over all queries in a single call. */
static annex_status pass_at_once(struct evaluation *evaluation, uint32_t effort, double *total,
                                 annex_error *error)
{
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = effort;
    options.threads = evaluation->threads;
    double start = progress_clock();
    annex_status status =
        annex_index_search(evaluation->index, evaluation->queries.vectors, evaluation->queries.n,
                           evaluation->k, &options, evaluation->hits, evaluation->found, error);
    *total = progress_clock() - start;
    return status;
}

/* One call for each query; the point keeps the latencies of its fastest pass. */
static annex_status measure_calls(struct evaluation *evaluation, struct point *point, double *took,
                                  annex_error *error)
{
    double total = 0;
    size_t n = evaluation->queries.n;
    annex_status status =
        pass_by_query(evaluation, point->effort, &n, INFINITY, took, &total, error);
    double qps = total > 0 ? (double)n / total : 0;
    if (status == ANNEX_OK && qps > point->qps) {
        point->qps = qps;
        qsort(took, n, sizeof(double), compare_reals);
        point->p50_us = 1e6 * took[(n - 1) / 2];
        point->p99_us = 1e6 * took[(size_t)ceil(0.99 * (double)n) - 1];
    }
    return status;
}

static annex_status measure_point(struct evaluation *evaluation, struct point *point, double *took,
                                  annex_error *error)
{
    double total = 0;
    annex_status status = pass_at_once(evaluation, point->effort, &total, error);
    double qps = total > 0 ? (double)evaluation->queries.n / total : 0;
    if (status != ANNEX_OK) {
        return status;
    }
    point->batch_qps = qps > point->batch_qps ? qps : point->batch_qps;
    if (evaluation->threads == 1) {
        return measure_calls(evaluation, point, took, error);
    }
    point->qps = point->batch_qps;
    return ANNEX_OK;
}

static annex_status measure_exact(struct evaluation *evaluation, double *took, annex_error *error)
{
    for (int pass = 0; pass < MEASURE_PASSES; pass++) {
        size_t n = evaluation->queries.n < EXACT_QUERIES ? evaluation->queries.n : EXACT_QUERIES;
        double total = 0;
        annex_status status =
            pass_by_query(evaluation, ANNEX_EFFORT_EXACT, &n, EXACT_SECONDS, took, &total, error);
        if (status != ANNEX_OK) {
            return status;
        }
        double qps = total > 0 ? (double)n / total : 0;
        evaluation->exact_qps = qps > evaluation->exact_qps ? qps : evaluation->exact_qps;
    }
    return ANNEX_OK;
}

/* Passes are the outer loop: a disturbance of some seconds hits one pass of each point, not all. */
annex_status measure_speed(struct evaluation *evaluation, annex_error *error)
{
    double *took = session_memory(evaluation->queries.n, sizeof(double));
    size_t work = MEASURE_PASSES * evaluation->n_points;
    annex_status status = measure_exact(evaluation, took, error);
    for (size_t i = 0; i < work && status == ANNEX_OK; i++) {
        if (progress_report(NULL, "measuring", i, work) != 0) {
            status = cancelled(error);
            break;
        }
        status =
            measure_point(evaluation, &evaluation->points[i % evaluation->n_points], took, error);
    }
    free(took);
    return status;
}
