/*
 * test_degenerate_clusters.c - rows in clusters so far apart that hardly an edge leads from one to
 * another: a walk that starts in others must come to the one where its answers are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "images.h"
#include "rows.h"

enum { N = 12000, CLUSTERS = 60, QUERIES = 1000, WIDTH = 64, K = 10 };

/* Rows and, behind them, queries. */
static struct rows make_rows(annex_metric metric)
{
    struct rows rows = rows_make(metric, WIDTH, N + QUERIES, SHAPE_GAUSSIAN, 1);
    static float centers[CLUSTERS][WIDTH];
    uint64_t random = 5;
    for (size_t i = 0; i < (size_t)CLUSTERS * WIDTH; i++) {
        centers[i / WIDTH][i % WIDTH] = (float)rows_gaussian(&random);
    }
    for (size_t i = 0; i < rows.n; i++) {
        const float *center = centers[rows_random(&random) % CLUSTERS];
        for (size_t j = 0; j < WIDTH; j++) {
            rows_vector(&rows, i)[j] = center[j] + 0.25f * (float)rows_gaussian(&random);
        }
    }
    return rows;
}

/* Asks with the default effort. */
static void expect_found(const annex_index *index, const struct rows *rows, const char *what)
{
    static annex_hit truth[QUERIES * K], hits[QUERIES * K];
    size_t found[QUERIES], all = 0, lost = 0;
    annex_search_options exact = ANNEX_SEARCH_OPTIONS_INIT;
    exact.effort = ANNEX_EFFORT_EXACT;
    const char *queries = rows_at(rows, N);
    assert_int_equal(annex_index_search(index, queries, QUERIES, K, &exact, truth, found, NULL),
                     ANNEX_OK);
    assert_int_equal(annex_index_search(index, queries, QUERIES, K, NULL, hits, found, NULL),
                     ANNEX_OK);
    for (size_t q = 0; q < QUERIES; q++) {
        size_t met = 0;
        for (size_t i = 0; i < K * K; i++) {
            met += hits[q * K + i / K].key == truth[q * K + i % K].key;
        }
        all += met;
        lost += met == 0;
    }
    if (all < QUERIES * K * 95 / 100 || lost > QUERIES * 3 / 1000) {
        fail_msg("%s, %s: recall %.4f, and nothing found for %zu of %d queries", what,
                 annex_metric_name(rows->metric), (double)all / (QUERIES * K), lost, QUERIES);
    }
}

static void run(annex_metric metric)
{
    struct rows rows = make_rows(metric);
    annex_build_options options = rows_options(&rows);
    annex_env env = annex_env_default();
    annex_error error = {0};
    annex_index *saved;
    options.family = ANNEX_GRAPH;
    options.degree = 16; /* a fraction of a cluster */
    rows.n = N;
    annex_index *index = rows_build(&rows, &options);
    expect_found(index, &rows, "built");
    annex_batch batch = rows_batch(&rows, 0, N / 10);
    assert_int_equal(annex_index_delete(index, &batch, &error), ANNEX_OK);
    expect_found(index, &rows, "a tenth deleted");
    if (annex_index_save(index, test_path, &error) ||
        annex_index_open(&env, test_path, 0, &saved, &error) || annex_index_check(saved, &error)) {
        fail_msg("%s", error.message);
    }
    expect_found(saved, &rows, "saved");
    annex_index_close(saved);
    annex_index_close(index);
    rows_free(&rows);
}

static void clusters__l2__are_not_missed(void **state)
{
    (void)state;
    run(ANNEX_L2);
}

static void clusters__cosine__are_not_missed(void **state)
{
    (void)state;
    run(ANNEX_COSINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters__l2__are_not_missed),
        cmocka_unit_test(clusters__cosine__are_not_missed),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
