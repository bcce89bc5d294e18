/*
 * test_index_parts.c - answers in pages, and answers that are cut: by max_scan, by stop, by
 * somebody who cancels.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "rows.h"

static annex_place place_behind(const annex_index *index, const annex_hit *hit, bool bytes)
{
    annex_place place = {.distance = hit->distance, .key = hit->key};
    if (bytes) {
        assert_int_equal(
            annex_index_key_bytes(index, hit->row, &place.key_bytes, &place.n_key_bytes, NULL),
            ANNEX_OK);
    }
    return place;
}

/* Reads the answer in pages and compares it with the whole. */
static void check_pages(struct rows *rows, annex_family family, size_t page)
{
    annex_build_options build = rows_options(rows);
    build.family = family;
    annex_index *index = rows_build(rows, &build);
    annex_hit *all = calloc(rows->n, sizeof *all), *hits = calloc(page, sizeof *hits);
    size_t n_all = 0, n = 0, read = 0;
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    annex_place place = {.distance = -INFINITY, .before_keys = 1};
    options.effort = ANNEX_EFFORT_EXACT;
    assert_int_equal(
        annex_index_search(index, rows_at(rows, 5), 1, rows->n, &options, all, &n_all, NULL),
        ANNEX_OK);
    options.effort = 0; /* pages are exact whatever the effort */
    options.after = &place;
    do {
        assert_int_equal(
            annex_index_search(index, rows_at(rows, 5), 1, page, &options, hits, &n, NULL),
            ANNEX_OK);
        assert_int_equal(n, MIN(page, n_all - read));
        for (size_t i = 0; i < n; i++, read++) {
            assert_true(hits[i].distance == all[read].distance && hits[i].row == all[read].row);
        }
        if (n > 0) {
            place = place_behind(index, &hits[n - 1], rows->key_ends != NULL);
        }
    } while (n > 0);
    assert_int_equal(read, n_all);
    free(all);
    free(hits);
    annex_index_close(index);
}

static void pages__any_metric_and_family__join_to_the_whole_answer(void **state)
{
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP,      ANNEX_COSINE,
                                           ANNEX_L1, ANNEX_HAMMING, ANNEX_JACCARD};
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct rows rows = rows_make(metrics[m], 24, 900, SHAPE_CLUSTERS, m);
        check_pages(&rows, ANNEX_FLAT, 7);
        check_pages(&rows, ANNEX_GRAPH, 64);
        rows_free(&rows);
    }
}

static void pages__rows_as_far_as_each_other__continue_by_key(void **state)
{
    (void)state;
    for (int bytes = 0; bytes < 2; bytes++) {
        static const enum shape shapes[] = {SHAPE_EQUAL, SHAPE_ONE_HOT};
        for (size_t s = 0; s < ARRAY_LENGTH(shapes); s++) {
            struct rows rows = rows_make(ANNEX_L2, 16, 500, shapes[s], s);
            if (bytes) {
                rows_make_byte_keys(&rows, 9);
            }
            check_pages(&rows, ANNEX_FLAT, 3);
            check_pages(&rows, ANNEX_GRAPH, 100);
            rows_free(&rows);
        }
    }
}

static void page__from_a_distance_on__begins_with_the_first_row_there(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 8, 300, SHAPE_BYTES, 1);
    annex_build_options build = rows_options(&rows);
    annex_index *index = rows_build(&rows, &build);
    annex_hit all[300], hits[300];
    size_t n_all = 0, n = 0;
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    assert_int_equal(annex_index_search(index, rows_at(&rows, 0), 1, 300, NULL, all, &n_all, NULL),
                     ANNEX_OK);
    annex_place place = {.distance = all[120].distance, .before_keys = 1};
    options.after = &place;
    assert_int_equal(annex_index_search(index, rows_at(&rows, 0), 1, 300, &options, hits, &n, NULL),
                     ANNEX_OK);
    assert_true(n >= n_all - 120 && hits[0].distance == all[120].distance);
    place.distance = INFINITY;
    assert_int_equal(annex_index_search(index, rows_at(&rows, 0), 1, 300, &options, hits, &n, NULL),
                     ANNEX_OK);
    assert_int_equal(n, 0);
    annex_error error;
    place.distance = (double)NAN;
    assert_int_equal(
        annex_index_search(index, rows_at(&rows, 0), 1, 300, &options, hits, &n, &error),
        ANNEX_INVALID);
    assert_non_null(strstr(error.message, "NaN"));
    annex_index_close(index);
    rows_free(&rows);
}

/* ---- cut --------------------------------------------------------------------------------------*/

static void max_scan__any_number__looks_at_no_more_rows_and_says_so(void **state)
{
    static const uint64_t limits[] = {1, 63, 64, 500, 5999, 6000, 100000};
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 32, 6000, SHAPE_CLUSTERS, 3);
    for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
        annex_build_options build = rows_options(&rows);
        build.family = (annex_family)family;
        annex_index *index = rows_build(&rows, &build);
        annex_hit hits[2 * 50];
        size_t found[2];
        for (size_t i = 0; i < ARRAY_LENGTH(limits); i++) {
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            annex_search_stats stats, free_stats;
            options.effort = 200;
            options.stats = &free_stats;
            assert_int_equal(
                annex_index_search(index, rows.vectors, 2, 50, &options, hits, found, NULL),
                ANNEX_OK);
            options.max_scan = limits[i];
            options.stats = &stats;
            assert_int_equal(
                annex_index_search(index, rows.vectors, 2, 50, &options, hits, found, NULL),
                ANNEX_OK);
            assert_true(stats.distances <= 2 * limits[i]);
            assert_true(found[0] <= 50 && found[0] >= MIN(50, limits[i]));
            assert_true((stats.cut == 0) == (stats.distances == free_stats.distances));
            for (size_t j = 1; j < found[0]; j++) {
                assert_true(hits[j - 1].distance <= hits[j].distance);
            }
        }
        annex_index_close(index);
    }
    rows_free(&rows);
}

static int stop_after(void *context)
{
    int *asked = context;
    return --*asked < 0;
}

static void stop__asked_in_a_scan_a_walk_and_while_ranking__ends_with_what_was_found(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 4, 70000, SHAPE_GAUSSIAN, 3);
    annex_build_options build = rows_options(&rows);
    build.degree = 8;
    build.effort = 8;
    annex_index *index = rows_build(&rows, &build);
    annex_hit *hits = calloc(rows.n, sizeof *hits);
    for (int walk = 0; walk < 2; walk++) {
        for (int asked = 0; asked < 10; asked++) {
            int left = asked;
            size_t found = 0;
            annex_search_stats stats;
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            options.effort = walk ? 20000 : ANNEX_EFFORT_EXACT;
            options.stop = stop_after;
            options.stop_context = &left;
            options.stats = &stats;
            assert_int_equal(
                annex_index_search(index, rows.vectors, 1, 500, &options, hits, &found, NULL),
                ANNEX_OK);
            assert_int_equal(stats.cut, left < 0);
            assert_true(found > 0 && (found == 500 || left < 0));
            assert_true(left < 0 || asked > 2);
        }
    }
    free(hits);
    annex_index_close(index);
    rows_free(&rows);
}

static int cancel_after(void *context, const char *phase, uint64_t done, uint64_t total)
{
    (void)phase;
    (void)done;
    (void)total;
    return stop_after(context);
}

static void cancel__in_a_long_walk_or_sort__is_an_error_and_the_next_search_works(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 4, 70000, SHAPE_GAUSSIAN, 3);
    annex_build_options build = rows_options(&rows);
    annex_env env = annex_env_default();
    annex_rows source = rows_source(&rows);
    annex_index *index = NULL;
    int left = 1 << 30;
    env.log = (annex_log){.context = &left, .progress = cancel_after};
    build.degree = 8;
    build.effort = 8;
    assert_int_equal(annex_build(&env, &build, &source, NULL, &index, NULL), ANNEX_OK);
    annex_hit *hits = calloc(rows.n, sizeof *hits);
    for (int walk = 0; walk < 2; walk++) {
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        size_t found = 0;
        options.effort = walk ? 1000 : ANNEX_EFFORT_EXACT;
        size_t k = walk ? 1000 : rows.n;
        left = 1 << 30;
        assert_int_equal(
            annex_index_search(index, rows.vectors, 1, k, &options, hits, &found, NULL), ANNEX_OK);
        assert_int_equal(found, k);
        int asked = (1 << 30) - left;
        assert_true(walk || asked > 10); /* while scanning and while sorting twice */
        for (int i = 0; i < asked; i++) {
            left = i;
            assert_int_equal(
                annex_index_search(index, rows.vectors, 1, k, &options, hits, &found, NULL),
                ANNEX_CANCELLED);
            assert_int_equal(found, 0);
        }
    }
    free(hits);
    annex_index_close(index);
    rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages__any_metric_and_family__join_to_the_whole_answer),
        cmocka_unit_test(pages__rows_as_far_as_each_other__continue_by_key),
        cmocka_unit_test(page__from_a_distance_on__begins_with_the_first_row_there),
        cmocka_unit_test(max_scan__any_number__looks_at_no_more_rows_and_says_so),
        cmocka_unit_test(stop__asked_in_a_scan_a_walk_and_while_ranking__ends_with_what_was_found),
        cmocka_unit_test(cancel__in_a_long_walk_or_sort__is_an_error_and_the_next_search_works),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
