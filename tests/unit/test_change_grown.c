/*
 * test_change_grown.c - indexes that grow by inserts from one row, or behind one that is unlike all
 * others: they find what a fresh build of the same rows finds, before and after they are saved, and
 * being built anew on the way costs no more than twice the work.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "images.h"
#include "rows.h"

#define LEAST 0.99 /* recall, where it was asked for */

enum { N = 5000, QUERIES = 100, K = 10, EFFORT = 40 };

/* Messages of the library about builds on the way. */
struct renewals {
    unsigned n;
    size_t rows; /* that these builds had */
};

static void count_renewal(void *context, annex_level level, const char *text)
{
    struct renewals *renewals = context;
    const char *rows = strstr(text, "built anew from its ");
    assert_int_equal(level, ANNEX_LOG_INFO);
    if (rows) {
        renewals->n++;
        renewals->rows += strtoul(rows + strlen("built anew from its "), NULL, 10);
    }
}

/* ---- asking ----------------------------------------------------------------------------------*/

struct grown {
    struct rows all; /* queries are behind the first N */
    annex_hit truth[QUERIES * K];
};

/* Rows as near as the K-th nearest, of all that should be. */
static double recall(const annex_index *index, const struct grown *grown, bool measured)
{
    static annex_hit hits[QUERIES * K];
    size_t found[QUERIES], met = 0;
    annex_error error = {0};
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = measured ? 0 : EFFORT;
    options.recall = measured ? 0.99 : 0;
    if (annex_index_check(index, &error) ||
        annex_index_search(index, rows_at(&grown->all, N), QUERIES, K, &options, hits, found,
                           &error)) {
        fail_msg("%s", error.message);
    }
    for (size_t i = 0; i < QUERIES * K; i++) {
        double farthest = grown->truth[i / K * K + K - 1].distance;
        assert_int_equal(found[i / K], K);
        met += hits[i].distance <= farthest + 1e-5 * fabs(farthest);
    }
    return (double)met / (QUERIES * K);
}

static annex_index *build(struct grown *grown, size_t n, struct renewals *renewals)
{
    annex_env env = annex_env_default();
    annex_build_options options = rows_options(&grown->all);
    annex_rows source;
    annex_index *index = NULL;
    annex_error error = {0};
    env.log = (annex_log){.context = renewals, .message = renewals ? count_renewal : NULL};
    options.family = ANNEX_GRAPH;
    options.degree = 32;
    grown->all.n = n;
    source = rows_source(&grown->all);
    if (annex_build(&env, &options, &source, NULL, &index, &error)) {
        fail_msg("%s", error.message);
    }
    grown->all.n = N + QUERIES;
    return index;
}

static void expect_as_fresh(const annex_index *index, const annex_index *fresh,
                            const struct grown *grown, const char *what)
{
    double asked = recall(index, grown, true), plain = recall(index, grown, false);
    double fresh_asked = recall(fresh, grown, true), fresh_plain = recall(fresh, grown, false);
    if (asked < MIN(LEAST, fresh_asked - 0.01) || plain < fresh_plain - 0.01) {
        fail_msg("%s, %s: recall %.4f where 0.99 was asked, afresh %.4f; %.4f by effort, afresh "
                 "%.4f",
                 what, annex_metric_name(grown->all.metric), asked, fresh_asked, plain,
                 fresh_plain);
    }
}

static void run(annex_metric metric, enum shape shape, bool zero_first, size_t step)
{
    struct grown grown = {.all = rows_make(metric, 16, N + QUERIES, shape, 7)};
    struct renewals renewals = {0};
    size_t found[QUERIES];
    annex_env env = annex_env_default();
    annex_error error = {0};
    annex_search_options exact = ANNEX_SEARCH_OPTIONS_INIT;
    exact.effort = ANNEX_EFFORT_EXACT;
    if (zero_first) {
        memset(grown.all.vectors, 0, grown.all.vector_bytes);
    }
    annex_index *fresh = build(&grown, N, NULL), *index = build(&grown, 1, &renewals), *saved;
    assert_int_equal(annex_index_search(fresh, rows_at(&grown.all, N), QUERIES, K, &exact,
                                        grown.truth, found, &error),
                     ANNEX_OK);
    for (size_t i = 1; i < N; i += step) {
        annex_batch batch = rows_batch(&grown.all, i, MIN(step, N - i));
        if (annex_index_insert(index, &batch, &error)) {
            fail_msg("%s", error.message);
        }
    }
    expect_as_fresh(index, fresh, &grown, "in memory");
    assert_int_equal(annex_index_save(index, test_path, &error), ANNEX_OK);
    assert_in_range(renewals.rows, renewals.n, 2 * N);
    assert_int_equal(annex_index_open(&env, test_path, 0, &saved, &error), ANNEX_OK);
    expect_as_fresh(saved, fresh, &grown, "saved");
    annex_index_close(saved);
    annex_index_close(index);
    annex_index_close(fresh);
    rows_free(&grown.all);
}

/* ---- the tests -------------------------------------------------------------------------------*/

static void grown__from_one_row__finds_what_a_fresh_build_finds(void **state)
{
    (void)state;
    for (int metric = ANNEX_L2; metric <= ANNEX_JACCARD; metric++) {
        run((annex_metric)metric, SHAPE_GAUSSIAN, false, 10);
    }
}

static void grown__clusters_in_batches__finds_what_a_fresh_build_finds(void **state)
{
    (void)state;
    for (int metric = ANNEX_L2; metric <= ANNEX_L1; metric++) {
        run((annex_metric)metric, SHAPE_CLUSTERS, false, 100);
    }
}

static void grown__behind_a_zero_vector__finds_what_a_fresh_build_finds(void **state)
{
    (void)state;
    run(ANNEX_L2, SHAPE_GAUSSIAN, true, 1);
    run(ANNEX_IP, SHAPE_GAUSSIAN, true, 10);
    run(ANNEX_L1, SHAPE_GAUSSIAN, true, 10);
}

/* Row numbers are what callers know rows by: they stay, also around deleted rows. */
static void grown__built_anew__keeps_row_numbers_keys_and_deletions(void **state)
{
    (void)state;
    struct grown grown = {.all = rows_make(ANNEX_L1, 8, N + QUERIES, SHAPE_GAUSSIAN, 3)};
    struct renewals renewals = {0};
    annex_index *index = build(&grown, 1, &renewals);
    annex_error error = {0};
    uint32_t row;
    for (size_t i = 1; i < 2000; i++) {
        annex_batch batch = rows_batch(&grown.all, i, 1);
        assert_int_equal(annex_index_insert(index, &batch, &error), ANNEX_OK);
        batch = rows_batch(&grown.all, i - 1, 1);
        if (i % 2) {
            assert_int_equal(annex_index_delete(index, &batch, &error), ANNEX_OK);
        }
    }
    assert_true(renewals.n > 0);
    for (size_t i = 0; i < 2000; i++) {
        annex_status expected = i % 2 ? ANNEX_OK : ANNEX_NOT_FOUND;
        float vector[8];
        assert_int_equal(annex_index_find(index, (int64_t)i, &row, &error), expected);
        if (i % 2) {
            assert_int_equal(row, i);
            assert_int_equal(annex_index_vector(index, row, vector, &error), ANNEX_OK);
            assert_memory_equal(vector, rows_at(&grown.all, i), sizeof vector);
        }
    }
    if (annex_index_check(index, &error)) {
        fail_msg("%s", error.message);
    }
    annex_index_close(index);
    rows_free(&grown.all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grown__from_one_row__finds_what_a_fresh_build_finds),
        cmocka_unit_test(grown__clusters_in_batches__finds_what_a_fresh_build_finds),
        cmocka_unit_test(grown__behind_a_zero_vector__finds_what_a_fresh_build_finds),
        cmocka_unit_test(grown__built_anew__keeps_row_numbers_keys_and_deletions),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
