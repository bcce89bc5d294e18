/*
 * test_churn.c - graphs whose rows are replaced for a long time: they find as much as a fresh build
 * of the same rows, at the same cost, and every living row can be reached at any time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "build/change.h"
#include "images.h"
#include "rows.h"

enum { N = 4000, ROUNDS = 20, ROUND = N / 2 / ROUNDS, QUERIES = 400, K = 10 };

static const uint32_t efforts[] = {10, 14, 20, 28, 40, 56, 80};

/* N rows of which `live` names the ones that are there; rows behind them come later. */
struct churn {
    struct rows all, queries, now;
    int64_t live[N];
    size_t next;
    uint64_t random;
    annex_build_options options;
    annex_index *index;
};

static int side_of_first(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static struct churn churn_new(annex_metric metric, uint32_t dimension, bool drift, uint32_t degree)
{
    struct churn churn = {.random = 5};
    size_t n = N + N / 2;
    churn.all = rows_make(metric, dimension, n + QUERIES, SHAPE_CLUSTERS, 71);
    churn.queries = rows_make(metric, dimension, QUERIES, SHAPE_GAUSSIAN, 1);
    churn.now = rows_make(metric, dimension, N, SHAPE_GAUSSIAN, 1);
    memcpy(churn.queries.vectors, rows_at(&churn.all, n), QUERIES * churn.all.vector_bytes);
    if (drift) { /* new rows come from where the first element is large */
        qsort(churn.all.vectors, n, churn.all.vector_bytes, side_of_first);
    }
    for (size_t i = 0; i < N; i++) {
        churn.live[i] = (int64_t)i;
    }
    churn.next = N;
    churn.all.n = N;
    churn.options = rows_options(&churn.all);
    churn.options.family = ANNEX_GRAPH;
    churn.options.degree = degree;
    churn.index = rows_build(&churn.all, &churn.options);
    return churn;
}

static void churn_free(struct churn *churn)
{
    annex_index_close(churn->index);
    rows_free(&churn->all);
    rows_free(&churn->queries);
    rows_free(&churn->now);
}

static void churn_round(struct churn *churn)
{
    int64_t gone[ROUND];
    annex_error error = {0};
    for (size_t i = 0; i < ROUND; i++) {
        size_t last = N - 1 - i, at = rows_random(&churn->random) % (last + 1);
        gone[i] = churn->live[at];
        churn->live[at] = churn->live[last];
        churn->live[last] = (int64_t)(churn->next + i);
    }
    annex_batch batch = {.n = ROUND, .keys = gone};
    assert_int_equal(annex_index_delete(churn->index, &batch, &error), ANNEX_OK);
    batch = rows_batch(&churn->all, churn->next, ROUND);
    assert_int_equal(annex_index_insert(churn->index, &batch, &error), ANNEX_OK);
    churn->next += ROUND;
    if (annex_index_check(churn->index, &error)) {
        fail_msg("%s", error.message);
    }
}

static annex_index *build_afresh(struct churn *churn)
{
    for (size_t i = 0; i < N; i++) {
        churn->now.keys[i] = churn->live[i];
        memcpy(rows_vector(&churn->now, i), rows_at(&churn->all, (size_t)churn->live[i]),
               churn->all.vector_bytes);
    }
    return rows_build(&churn->now, &churn->options);
}

static annex_index *save_and_open(annex_index *index)
{
    annex_env env = annex_env_default();
    annex_error error = {0};
    annex_index *saved = NULL;
    if (annex_index_save(index, test_path, &error) ||
        annex_index_open(&env, test_path, 0, &saved, &error) || annex_index_check(saved, &error)) {
        fail_msg("%s", error.message);
    }
    return saved;
}

struct found {
    double recall;
    double distances; /* of codes, a query */
};

static struct found ask(const annex_index *index, const struct churn *churn, uint32_t effort,
                        const annex_hit *truth, annex_hit *hits)
{
    annex_search_stats stats;
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    size_t found[QUERIES], met = 0;
    options.effort = effort;
    options.stats = &stats;
    assert_int_equal(
        annex_index_search(index, churn->queries.vectors, QUERIES, K, &options, hits, found, NULL),
        ANNEX_OK);
    for (size_t i = 0; truth && i < QUERIES * K * K; i++) {
        met += hits[i / K].key == truth[i / (K * K) * K + i % K].key;
    }
    return (struct found){.recall = (double)met / (QUERIES * K),
                          .distances = (double)stats.distances / QUERIES};
}

/* What the fresh index finds for so many distances: between the efforts that were measured. */
static double recall_for(const struct found *curve, double distances)
{
    size_t i = 1;
    while (i + 1 < ARRAY_LENGTH(efforts) && curve[i].distances < distances) {
        i++;
    }
    double part =
        (distances - curve[i - 1].distances) / (curve[i].distances - curve[i - 1].distances);
    return curve[i - 1].recall + MIN(part, 1) * (curve[i].recall - curve[i - 1].recall);
}

/*
 * Not worse than afresh by more than the luck of QUERIES queries. Compared at equal distances: how
 * far an effort reaches was measured by each build for itself.
 */
static void compare_with_fresh(struct churn *churn, const char *name)
{
    static annex_hit truth[QUERIES * K], hits[QUERIES * K];
    annex_index *fresh = build_afresh(churn), *saved = save_and_open(churn->index);
    annex_index *indexes[] = {churn->index, saved};
    struct found curve[ARRAY_LENGTH(efforts)];
    ask(fresh, churn, ANNEX_EFFORT_EXACT, NULL, truth);
    for (size_t e = 0; e < ARRAY_LENGTH(efforts); e++) {
        curve[e] = ask(fresh, churn, efforts[e], truth, hits);
    }
    for (size_t e = 0; e < ARRAY_LENGTH(efforts); e++) {
        for (size_t i = 0; i < ARRAY_LENGTH(indexes); i++) {
            struct found found = ask(indexes[i], churn, efforts[e], truth, hits);
            double expected = recall_for(curve, found.distances);
            double ratio = found.distances / curve[e].distances;
            if (found.recall < expected - 0.015 || ratio > 1.25) {
                fail_msg("%s, %s, effort %u: recall %.4f, afresh %.4f; distances %.1f, afresh %.1f",
                         name, i ? "saved" : "in memory", efforts[e], found.recall, expected,
                         found.distances, curve[e].distances);
            }
        }
    }
    annex_index_close(fresh);
    annex_index_close(saved);
}

static void run_churn(annex_metric metric, bool drift, uint32_t degree)
{
    struct churn churn = churn_new(metric, 24, drift, degree);
    for (int round = 0; round < ROUNDS; round++) {
        churn_round(&churn);
    }
    compare_with_fresh(&churn, annex_metric_name(metric));
    churn_free(&churn);
}

/* ---- the tests -------------------------------------------------------------------------------*/

static void churn__half_of_the_rows_replaced__finds_what_a_fresh_build_finds_at_its_cost(void **s)
{
    (void)s;
    run_churn(ANNEX_L2, false, 32);
    run_churn(ANNEX_COSINE, false, 64);
    run_churn(ANNEX_IP, false, 32);
}

static void churn__rows_from_elsewhere__finds_what_a_fresh_build_finds_at_its_cost(void **s)
{
    (void)s;
    run_churn(ANNEX_L2, true, 32);
    run_churn(ANNEX_IP, true, 32);
}

static void churn__lists_of_eight__leaves_no_row_unreachable(void **s)
{
    (void)s;
    struct churn churn = churn_new(ANNEX_L2, 6, false, 8);
    for (int round = 0; round < ROUNDS; round++) {
        churn_round(&churn); /* checks */
    }
    churn_free(&churn);
}

static void delete__of_nearly_all_rows__leaves_the_rest_reachable(void **s)
{
    (void)s;
    struct churn churn = churn_new(ANNEX_L2, 6, false, 8);
    annex_error error = {0};
    annex_index_info info;
    for (size_t first = 0; first < N - 10; first += 105) { /* in order: whole regions go */
        annex_batch batch = {.n = 105, .keys = churn.live + first};
        assert_int_equal(annex_index_delete(churn.index, &batch, &error), ANNEX_OK);
        if (annex_index_check(churn.index, &error)) {
            fail_msg("%s", error.message);
        }
    }
    annex_index_describe(churn.index, &info);
    assert_int_equal(info.rows, 10);
    annex_index *saved = save_and_open(churn.index);
    annex_index_close(saved);
    churn_free(&churn);
}

/*
 * Rows are replaced by parts, and saved and opened between, as syncs do. What was counted is kept,
 * until all rows have been replaced: then a build is due, or done where there are vectors.
 */
static void replace_all(annex_raw raw)
{
    enum { ROWS = 500, PART = 100 };
    struct rows rows = rows_make(ANNEX_L2, 24, 2 * ROWS, SHAPE_CLUSTERS, 4);
    annex_build_options options = rows_options(&rows);
    annex_error error = {0};
    options.family = ANNEX_GRAPH;
    options.raw = raw;
    rows.n = ROWS;
    annex_index *index = rows_build(&rows, &options);
    rows.n = 2 * ROWS;
    for (size_t first = 0; first < ROWS; first += PART) {
        annex_index *next = save_and_open(index);
        annex_batch gone = rows_batch(&rows, first, PART);
        annex_batch fresh = rows_batch(&rows, ROWS + first, PART);
        assert_int_equal(next->header.inserted, first);
        assert_int_equal(annex_index_delete(next, &gone, &error), ANNEX_OK);
        assert_int_equal(annex_index_insert(next, &fresh, &error), ANNEX_OK);
        bool due = first + PART == ROWS && raw == ANNEX_RAW_NONE; /* otherwise it is done */
        assert_int_equal(refit_is_due(next, index), due);
        annex_index_close(index);
        index = next;
    }
    annex_index *saved = save_and_open(index);
    assert_int_equal(saved->header.inserted, raw == ANNEX_RAW_NONE ? ROWS : 0);
    assert_int_equal(saved->header.fitted, ROWS);
    annex_index_close(saved);
    annex_index_close(index);
    rows_free(&rows);
}

static void churn__all_rows_replaced__a_build_is_due_or_done(void **s)
{
    (void)s;
    replace_all(ANNEX_RAW_NONE);
    replace_all(ANNEX_RAW_AUTO);
}

/* A vector that was deleted is somebody's secret. */
static void save__after_a_delete__leaves_no_byte_of_the_vector_in_the_file(void **s)
{
    (void)s;
    for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
        struct rows rows = rows_make(ANNEX_L2, 16, 500, SHAPE_GAUSSIAN, 3);
        annex_build_options options = rows_options(&rows);
        options.family = (annex_family)family;
        annex_index *index = rows_build(&rows, &options);
        annex_batch batch = rows_batch(&rows, 77, 1);
        annex_error error = {0};
        for (int deleted = 0; deleted < 2; deleted++) {
            if (deleted) {
                assert_int_equal(annex_index_delete(index, &batch, &error), ANNEX_OK);
            }
            assert_int_equal(annex_index_save(index, test_path, &error), ANNEX_OK);
            FILE *file = fopen(test_path, "rb");
            static char bytes[1 << 20];
            size_t n = fread(bytes, 1, sizeof bytes, file);
            fclose(file);
            assert_in_range(n, 1, sizeof bytes - 1);
            /* Two elements in a row are in no other vector. */
            bool there = memmem(bytes, n, rows_at(&rows, 77), 2 * sizeof(float)) != NULL;
            assert_int_equal(there, !deleted);
        }
        annex_index_close(index);
        rows_free(&rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            churn__half_of_the_rows_replaced__finds_what_a_fresh_build_finds_at_its_cost),
        cmocka_unit_test(churn__rows_from_elsewhere__finds_what_a_fresh_build_finds_at_its_cost),
        cmocka_unit_test(churn__lists_of_eight__leaves_no_row_unreachable),
        cmocka_unit_test(delete__of_nearly_all_rows__leaves_the_rest_reachable),
        cmocka_unit_test(churn__all_rows_replaced__a_build_is_due_or_done),
        cmocka_unit_test(save__after_a_delete__leaves_no_byte_of_the_vector_in_the_file),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
