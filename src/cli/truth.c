/* truth.c - the nearest rows of each query, against which answers are judged. */
#include "measure.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"

static int compare_rows(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

/* Rows of the index for the keys of the nearest, [n x width] in the order of the file. */
static annex_status find_rows(struct evaluation *evaluation, const int64_t *keys, size_t width,
                              annex_error *error)
{
    for (size_t q = 0; q < evaluation->queries.n; q++) {
        for (size_t i = 0; i < evaluation->k; i++) {
            uint32_t *row = &evaluation->truth[q * evaluation->k + i];
            int64_t key = keys[q * width + i];
            annex_status status = annex_index_find(evaluation->index, key, row, error);
            if (status == ANNEX_NOT_FOUND) {
                return session_error(error, ANNEX_INVALID,
                                     "the true neighbours of query %zu name key %" PRId64
                                     ", which the index does not have; are they of other vectors?",
                                     q, key);
            }
            if (status != ANNEX_OK) {
                return status;
            }
        }
    }
    return ANNEX_OK;
}

static annex_status read_truth(struct evaluation *evaluation, const char *path, annex_error *error)
{
    annex_reader *reader = NULL;
    annex_status status =
        annex_reader_open(&evaluation->session->env, path, "neighbors", &reader, error);
    if (status != ANNEX_OK) {
        return status;
    }
    annex_reader_info info;
    annex_reader_describe(reader, &info);
    size_t n = evaluation->queries.n;
    int64_t *keys = NULL;
    if (info.rows < n || info.dimension < evaluation->k) {
        status = session_error(error, ANNEX_INVALID,
                               "%s has %" PRIu32 " neighbours of %" PRIu64
                               " queries; %zu of %zu are needed",
                               path, info.dimension, info.rows, evaluation->k, n);
    } else {
        keys = session_memory(n, info.dimension * sizeof(int64_t));
        status = annex_reader_integers(reader, 0, n, keys, error);
    }
    if (status == ANNEX_OK) {
        status = find_rows(evaluation, keys, info.dimension, error);
    }
    free(keys);
    annex_reader_close(reader);
    return status;
}

static annex_status search_truth(struct evaluation *evaluation, annex_error *error)
{
    if (!evaluation->info.has_raw) {
        return session_error(error, ANNEX_UNSUPPORTED,
                             "the index stores no vectors, so what is nearest must come from a "
                             "file; give --truth");
    }
    annex_status status = measure_answers(evaluation, ANNEX_EFFORT_EXACT, NULL, error);
    for (size_t i = 0; status == ANNEX_OK && i < evaluation->queries.n * evaluation->k; i++) {
        evaluation->truth[i] = evaluation->hits[i].row;
    }
    return status;
}

/* The k-th distance of each query, computed as the distances of answers will be. */
static annex_status find_limits(struct evaluation *evaluation, annex_error *error)
{
    const annex_index_info *info = &evaluation->info;
    size_t n = evaluation->queries.n, k = evaluation->k;
    float *vector = session_memory(info->dimension, sizeof(float));
    annex_status status = ANNEX_OK;
    evaluation->limits = session_memory(n, sizeof(double));
    for (size_t q = 0; q < n && status == ANNEX_OK; q++) {
        const float *query = evaluation->queries.vectors + q * info->dimension;
        double limit = -INFINITY, distance = 0;
        for (size_t i = 0; i < k && status == ANNEX_OK; i++) {
            status =
                annex_index_vector(evaluation->index, evaluation->truth[q * k + i], vector, error);
            if (status == ANNEX_OK) {
                status =
                    annex_distance(info->metric, info->dimension, query, vector, &distance, error);
            }
            limit = distance > limit ? distance : limit;
        }
        evaluation->limits[q] = limit + fabs(limit) * TIE_SLACK;
    }
    free(vector);
    return status;
}

/* Whether the file of the queries also tells their neighbours under the metric of the index. */
static bool has_neighbours(const struct evaluation *evaluation, const char *path)
{
    const struct session *session = evaluation->session;
    annex_metric metric = evaluation->queries.metric;
    annex_reader *reader = NULL;
    annex_reader_info info = {0};
    if (annex_reader_open(&session->env, path, "neighbors", &reader, NULL) != ANNEX_OK) {
        return false;
    }
    annex_reader_describe(reader, &info);
    annex_reader_close(reader);
    if (strcmp(info.kind, "hdf5") != 0 || evaluation->info.key_kind != ANNEX_KEY_INTEGER) {
        return false; /* in other files the vectors themselves were opened again */
    }
    if (metric != 0 && metric != evaluation->info.metric) {
        session_remark(session,
                       "the neighbours in %s are by %s, the index is by %s: exact search "
                       "finds them anew",
                       path, annex_metric_name(metric), annex_metric_name(evaluation->info.metric));
        return false;
    }
    if (info.dimension < evaluation->k || info.rows < evaluation->queries.n) {
        session_remark(session,
                       "%s tells %" PRIu32 " neighbours of a query: exact search finds %zu", path,
                       info.dimension, evaluation->k);
        return false;
    }
    return true;
}

annex_status truth_get(struct evaluation *evaluation, annex_error *error)
{
    const struct session *session = evaluation->session;
    const char *queries = session_option(session, OPTION_QUERIES)->text;
    annex_status status;
    if (session_has(session, OPTION_TRUTH)) {
        status = read_truth(evaluation, session_option(session, OPTION_TRUTH)->text, error);
    } else if (!session_has(session, OPTION_DATASET) && has_neighbours(evaluation, queries)) {
        status = read_truth(evaluation, queries, error);
    } else {
        status = search_truth(evaluation, error);
    }
    if (status == ANNEX_OK && evaluation->info.has_raw) {
        status = find_limits(evaluation, error);
    }
    for (size_t q = 0; q < evaluation->queries.n && status == ANNEX_OK; q++) {
        qsort(evaluation->truth + q * evaluation->k, evaluation->k, sizeof(uint32_t), compare_rows);
    }
    return status;
}
