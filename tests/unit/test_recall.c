/*
 * test_recall.c - walks find what the index says they find: recall measured against the model on
 * rows of several shapes, at every effort that the index lists.
 */
#include <float.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "rows.h"

static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP, ANNEX_COSINE, ANNEX_L1};

/* The distance of the k-th neighbour of each query. */
static double *truth_of(const struct rows *rows, const struct rows *queries, size_t k)
{
    struct model_hit *model = calloc(rows->n, sizeof *model);
    double *truth = calloc(queries->n, sizeof *truth);
    for (size_t q = 0; q < queries->n; q++) {
        assert_true(model_search(rows, rows_at(queries, q), NULL, model) >= k);
        truth[q] = model[k - 1].distance;
    }
    free(model);
    return truth;
}

/* The share of hits that are no farther than the k-th neighbour. */
static double recall_of(const struct rows *rows, const annex_index *index,
                        const struct rows *queries, size_t k, const double *truth,
                        const annex_search_options *options)
{
    annex_hit *hits = calloc(k, sizeof *hits);
    size_t met = 0;
    for (size_t q = 0; q < queries->n; q++) {
        size_t found;
        assert_int_equal(
            annex_index_search(index, rows_at(queries, q), 1, k, options, hits, &found, NULL),
            ANNEX_OK);
        assert_int_equal(found, k);
        for (size_t i = 0; i < k; i++) {
            double distance = model_distance(rows->metric, rows->dimension, rows_at(queries, q),
                                             rows_at(rows, (size_t)hits[i].key));
            met += distance <= truth[q] + 1e-6 * fabs(truth[q]) + 1e-9;
        }
    }
    free(hits);
    return (double)met / (double)(k * queries->n);
}

/* Rows and queries of the same kind: the last `n_queries` rows are taken out. */
static struct rows take_queries(struct rows *rows, size_t n_queries)
{
    struct rows queries = rows_make(rows->metric, rows->dimension, n_queries, SHAPE_GAUSSIAN, 1);
    rows->n -= n_queries;
    memcpy(queries.vectors, rows_at(rows, rows->n), n_queries * rows->vector_bytes);
    return queries;
}

static void check_recall(annex_metric metric, uint32_t dimension, size_t n, enum shape shape)
{
    enum { QUERIES = 100 };
    struct rows rows = rows_make(metric, dimension, n + QUERIES, shape, 77);
    struct rows queries = take_queries(&rows, QUERIES);
    annex_build_options build = rows_options(&rows);
    build.family = ANNEX_GRAPH;
    annex_index *index = rows_build(&rows, &build);
    annex_index_info info;
    annex_index_describe(index, &info);
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    assert_true(info.n_recall_points > 0);
    double *truth = truth_of(&rows, &queries, 10);
    for (uint32_t i = 0; i < info.n_recall_points; i += 2) {
        options.effort = info.recall_points[i].effort;
        double recall = recall_of(&rows, index, &queries, 10, truth, &options);
        double said = (double)info.recall_points[i].recall;
        double noise =
            4 * sqrt(said * (1 - said) / 250) + 0.01; /* neighbours are not independent */
        if (recall < said - noise) {
            fail_msg("%s d=%u shape %d effort %u: recall %.3f, the index says %.3f",
                     annex_metric_name(metric), dimension, (int)shape, options.effort, recall,
                     said);
        }
    }
    options.effort = 0;
    static const double wanted[] = {0.5, 0.9, 0.95, 0.99};
    for (size_t i = 0; i < ARRAY_LENGTH(wanted); i++) {
        options.recall = wanted[i];
        assert_true(recall_of(&rows, index, &queries, 10, truth, &options) >= wanted[i] - 0.04);
    }
    options.recall = 1;
    assert_true(recall_of(&rows, index, &queries, 10, truth, &options) == 1);
    options.recall = 0;
    assert_true(recall_of(&rows, index, &queries, 10, truth, &options) >= 0.9);
    double *truth_100 = truth_of(&rows, &queries, 100);
    assert_true(recall_of(&rows, index, &queries, 100, truth_100, &options) >= 0.9);
    free(truth);
    free(truth_100);
    annex_index_close(index);
    rows_free(&rows);
    rows_free(&queries);
}

static void recall__structured_rows__is_what_the_index_says(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        check_recall(metrics[m], 32, 6000, SHAPE_CLUSTERS);
    }
    check_recall(ANNEX_HAMMING, 128, 6000, SHAPE_CLUSTERS);
    check_recall(ANNEX_JACCARD, 128, 6000, SHAPE_CLUSTERS);
    check_recall(ANNEX_L2, 8, 6000, SHAPE_GAUSSIAN);
    check_recall(ANNEX_L2, 16, 6000, SHAPE_BYTES);
    check_recall(ANNEX_L2, 16, 6000, SHAPE_SORTED);
    check_recall(ANNEX_IP, 16, 6000, SHAPE_HEAVY);
}

static void recall__many_equal_rows__is_found_too(void **state)
{
    (void)state;
    for (int share = 0; share < 3; share++) { /* 30 %, ten of each, nearly all */
        enum { QUERIES = 50 };
        struct rows rows = rows_make(ANNEX_L2, 20, 6000 + QUERIES, SHAPE_CLUSTERS, 5);
        struct rows queries = take_queries(&rows, QUERIES);
        for (size_t i = 1; i < rows.n; i++) {
            size_t from = share == 0 ? (i % 10 < 3 ? i / 2 : i) : share == 1 ? i % 600 : i % 5;
            memmove(rows_vector(&rows, i), rows_at(&rows, from), rows.vector_bytes);
        }
        annex_build_options build = rows_options(&rows);
        build.family = ANNEX_GRAPH;
        annex_index *index = rows_build(&rows, &build);
        annex_index_info info;
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        annex_index_describe(index, &info);
        assert_int_equal(annex_index_check(index, NULL), ANNEX_OK);
        double *truth = truth_of(&rows, &queries, 10);
        double recall = recall_of(&rows, index, &queries, 10, truth, &options);
        free(truth);
        if (recall < 0.9 || info.default_effort > 320) {
            fail_msg("share %d: recall %.3f at the default effort %u", share, recall,
                     info.default_effort);
        }
        annex_index_close(index);
        rows_free(&rows);
        rows_free(&queries);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall__structured_rows__is_what_the_index_says),
        cmocka_unit_test(recall__many_equal_rows__is_found_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
