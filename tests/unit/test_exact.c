/*
 * test_exact.c - exact search for many queries at once, or by several threads, gives the answers of
 * the queries one by one: the same rows, the same bits, the same order, whatever is asked for.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "rows.h"

enum { QUERIES = 150, K_MOST = 64 };

struct fixture {
    struct rows rows;
    annex_index *index;
    uint64_t *allowed;
};

static struct fixture fixture_make(annex_metric metric, uint32_t dimension, size_t n,
                                   enum shape shape, annex_raw raw)
{
    struct fixture fixture = {.rows = rows_make(metric, dimension, n, shape, metric + n)};
    annex_build_options build = rows_options(&fixture.rows);
    build.family = ANNEX_FLAT;
    build.raw = raw;
    fixture.index = rows_build(&fixture.rows, &build);
    fixture.allowed = calloc((n + 63) / 64, sizeof *fixture.allowed);
    uint64_t random = 5;
    for (size_t i = 0; i < n; i++) {
        bool block = i / 700 % 2 == 0; /* none of some blocks, all of others, a part of the rest */
        if (i < 1000 || (block && rows_random(&random) % 3 == 0)) {
            bitmap_set(fixture.allowed, i);
        }
    }
    return fixture;
}

static void fixture_free(struct fixture *fixture)
{
    annex_index_close(fixture->index);
    rows_free(&fixture->rows);
    free(fixture->allowed);
}

struct answer {
    annex_hit hits[QUERIES * K_MOST];
    size_t found[QUERIES];
    annex_search_stats stats;
};

/* The first `n` rows are the queries, `at_once` of them a call. */
static void search(const struct fixture *fixture, size_t n, size_t at_once, size_t k,
                   unsigned threads, annex_search_options options, struct answer *answer)
{
    memset(answer, 0, sizeof *answer);
    options.effort = ANNEX_EFFORT_EXACT;
    options.threads = threads;
    for (size_t i = 0; i < n; i += at_once) {
        annex_error error;
        annex_search_stats stats;
        options.stats = &stats;
        annex_status status =
            annex_index_search(fixture->index, rows_at(&fixture->rows, i), MIN(at_once, n - i), k,
                               &options, answer->hits + i * k, answer->found + i, &error);
        assert_string_equal(status ? error.message : "", "");
        answer->stats.distances += stats.distances;
        answer->stats.reranked += stats.reranked;
        answer->stats.cut += stats.cut;
    }
}

static void check_same(const struct answer *a, const struct answer *b, size_t n, size_t k)
{
    for (size_t q = 0; q < n; q++) {
        assert_int_equal(a->found[q], b->found[q]);
        for (size_t i = 0; i < a->found[q]; i++) {
            const annex_hit *x = &a->hits[q * k + i], *y = &b->hits[q * k + i];
            if (memcmp(&x->distance, &y->distance, sizeof x->distance) != 0 || x->row != y->row ||
                x->key != y->key) {
                fail_msg("query %zu, place %zu: row %u at %a, alone row %u at %a", q, i, y->row,
                         y->distance, x->row, x->distance);
            }
        }
    }
    assert_int_equal(a->stats.distances, b->stats.distances);
    assert_int_equal(a->stats.reranked, b->stats.reranked);
    assert_int_equal(a->stats.cut, b->stats.cut);
}

/* Batches of some sizes on some threads, against the queries one by one. */
static void check_batches(const struct fixture *fixture, size_t n, size_t k,
                          annex_search_options options)
{
    static struct answer alone, together;
    search(fixture, n, 1, k, 1, options, &alone);
    for (unsigned threads = 1; threads <= 3; threads++) {
        search(fixture, n, n, k, threads, options, &together);
        check_same(&alone, &together, n, k);
    }
    search(fixture, n, 3, k, 2, options, &together);
    check_same(&alone, &together, n, k);
}

static int accept_some(void *context, uint32_t row, int64_t key)
{
    (void)context;
    return row % 5 != 2 && key % 7 != 3;
}

static void check_options(const struct fixture *fixture)
{
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    check_batches(fixture, QUERIES, 10, options);
    check_batches(fixture, 5, K_MOST, options);
    options.allowed = fixture->allowed;
    check_batches(fixture, 40, 10, options);
    options.accept = accept_some;
    check_batches(fixture, 9, 10, options);
    options.allowed = NULL;
    check_batches(fixture, 9, 33, options);
    options.max_scan = 1000;
    check_batches(fixture, 40, 10, options);
    options = (annex_search_options)ANNEX_SEARCH_OPTIONS_INIT;
    annex_hit hits[20];
    size_t found;
    assert_int_equal(
        annex_index_search(fixture->index, fixture->rows.vectors, 1, 20, NULL, hits, &found, NULL),
        ANNEX_OK);
    annex_place place = {.distance = hits[12].distance, .key = hits[12].key};
    options.after = &place;
    check_batches(fixture, 40, 10, options);
}

static void delete_some(const struct fixture *fixture)
{
    int64_t keys[300];
    for (size_t i = 0; i < ARRAY_LENGTH(keys); i++) {
        keys[i] = (int64_t)(i * 3 + 7);
    }
    annex_batch batch = {.n = ARRAY_LENGTH(keys), .keys = keys};
    annex_error error;
    annex_status status = annex_index_delete(fixture->index, &batch, &error);
    assert_string_equal(status ? error.message : "", "");
}

static void batch__any_metric_and_options__answers_of_the_queries_one_by_one(void **state)
{
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP,      ANNEX_COSINE,
                                           ANNEX_L1, ANNEX_HAMMING, ANNEX_JACCARD};
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct fixture fixture =
            fixture_make(metrics[m], m % 2 ? 40 : 100, 1700, SHAPE_CLUSTERS, ANNEX_RAW_AUTO);
        check_options(&fixture);
        delete_some(&fixture);
        check_options(&fixture);
        fixture_free(&fixture);
    }
}

static void batch__rows_as_far_as_each_other__answers_of_the_queries_one_by_one(void **state)
{
    static const enum shape shapes[] = {SHAPE_EQUAL,  SHAPE_ONE_HOT, SHAPE_BYTES,
                                        SHAPE_SIGNED, SHAPE_HEAVY,   SHAPE_SORTED};
    (void)state;
    for (size_t s = 0; s < ARRAY_LENGTH(shapes); s++) {
        for (annex_metric metric = ANNEX_L2; metric <= ANNEX_COSINE; metric++) {
            struct fixture fixture =
                fixture_make(metric, 20, 1500, shapes[s], s % 2 ? ANNEX_RAW_NONE : ANNEX_RAW_AUTO);
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            check_batches(&fixture, QUERIES, 17, options);
            options.allowed = fixture.allowed;
            check_batches(&fixture, 20, 17, options);
            fixture_free(&fixture);
        }
    }
}

static void batch__more_neighbours_than_rows__all_rows_for_each_query(void **state)
{
    (void)state;
    for (size_t n = 0; n < 40; n += 13) {
        struct fixture fixture = fixture_make(ANNEX_L2, 7, n, SHAPE_GAUSSIAN, ANNEX_RAW_AUTO);
        float queries[6 * 7] = {0};
        annex_hit hits[6 * 60];
        size_t found[6];
        assert_int_equal(annex_index_search(fixture.index, queries, 6, 60, NULL, hits, found, NULL),
                         ANNEX_OK);
        for (size_t q = 0; q < 6; q++) {
            assert_int_equal(found[q], n);
        }
        fixture_free(&fixture);
    }
}

/* Enough rows that threads share them, also for one query. */
static void threads__that_share_the_rows__answers_of_one_thread(void **state)
{
    (void)state;
    struct fixture fixture = fixture_make(ANNEX_COSINE, 24, 40000, SHAPE_CLUSTERS, ANNEX_RAW_AUTO);
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    static struct answer alone, shared;
    search(&fixture, 30, 1, 12, 1, options, &alone);
    for (unsigned threads = 2; threads <= 4; threads++) {
        search(&fixture, 30, 1, 12, threads, options, &shared);
        check_same(&alone, &shared, 30, 12);
        search(&fixture, 30, 30, 12, threads, options, &shared);
        check_same(&alone, &shared, 30, 12);
    }
    options.allowed = fixture.allowed;
    options.accept = accept_some;
    check_batches(&fixture, 10, 12, options);
    fixture_free(&fixture);
}

/* ---- rows that turn out to be gone, and ends before the end -----------------------------------*/

struct outside {
    const struct rows *rows;
    unsigned gone; /* one row in so many */
};

static annex_status fetch_outside(void *context, const uint32_t *slots, size_t n, void *vectors,
                                  unsigned char *present, annex_error *error)
{
    const struct outside *outside = context;
    (void)error;
    for (size_t i = 0; i < n; i++) {
        present[i] = slots[i] % outside->gone != 0;
        memcpy((char *)vectors + i * outside->rows->vector_bytes, rows_at(outside->rows, slots[i]),
               outside->rows->vector_bytes);
    }
    return ANNEX_OK;
}

static void batch__fetched_rows_that_are_gone__answers_of_the_queries_one_by_one(void **state)
{
    (void)state;
    for (unsigned gone = 2; gone < 5; gone++) {
        struct fixture fixture = fixture_make(ANNEX_L2, 16, 2000, SHAPE_CLUSTERS, ANNEX_RAW_NONE);
        struct outside outside = {&fixture.rows, gone};
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        options.fetch = fetch_outside;
        options.fetch_context = &outside;
        check_batches(&fixture, 60, 20, options);
        fixture_free(&fixture);
    }
}

static int stop_after(void *context)
{
    return atomic_fetch_sub((atomic_int *)context, 1) <= 0;
}

static void batch__stopped__every_query_that_was_cut_is_counted(void **state)
{
    (void)state;
    struct fixture fixture = fixture_make(ANNEX_L2, 16, 40000, SHAPE_GAUSSIAN, ANNEX_RAW_AUTO);
    static struct answer answer;
    for (unsigned threads = 1; threads <= 3; threads++) {
        for (int asked = 0; asked < 200; asked = asked * 3 + 1) {
            atomic_int left = asked;
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            options.stop = stop_after;
            options.stop_context = &left;
            search(&fixture, QUERIES, QUERIES, 10, threads, options, &answer);
            assert_true((answer.stats.cut > 0) == (atomic_load(&left) < 0));
            assert_true(asked > 0 || answer.stats.cut == QUERIES);
            for (size_t q = 0; q < QUERIES; q++) {
                assert_int_equal(answer.found[q], 10);
            }
        }
    }
    fixture_free(&fixture);
}

static int cancel_after(void *context, const char *phase, uint64_t done, uint64_t total)
{
    (void)phase;
    (void)done;
    (void)total;
    return stop_after(context);
}

static void batch__cancelled__is_an_error_and_the_next_search_works(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 16, 40000, SHAPE_GAUSSIAN, 1);
    annex_build_options build = rows_options(&rows);
    annex_env env = annex_env_default();
    annex_rows source = rows_source(&rows);
    annex_index *index = NULL;
    atomic_int left = 1 << 30;
    env.log = (annex_log){.context = &left, .progress = cancel_after};
    build.family = ANNEX_FLAT;
    assert_int_equal(annex_build(&env, &build, &source, NULL, &index, NULL), ANNEX_OK);
    annex_hit hits[QUERIES * 5];
    size_t found[QUERIES];
    for (unsigned threads = 1; threads <= 2; threads++) {
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        options.threads = threads;
        for (int asked = 0; asked < 3; asked++) {
            left = asked;
            annex_status status =
                annex_index_search(index, rows.vectors, QUERIES, 5, &options, hits, found, NULL);
            assert_true(status == ANNEX_CANCELLED || threads > 1); /* the other may do it all */
            assert_true(status == ANNEX_OK || found[QUERIES - 1] == 0);
        }
        left = 1 << 30;
        assert_int_equal(
            annex_index_search(index, rows.vectors, QUERIES, 5, &options, hits, found, NULL),
            ANNEX_OK);
        assert_int_equal(found[QUERIES - 1], 5);
    }
    annex_index_close(index);
    rows_free(&rows);
}

static void batch__a_query_that_has_no_distances__is_refused_as_a_whole(void **state)
{
    (void)state;
    struct fixture fixture = fixture_make(ANNEX_COSINE, 8, 3000, SHAPE_GAUSSIAN, ANNEX_RAW_AUTO);
    for (unsigned threads = 1; threads <= 2; threads++) {
        float queries[QUERIES * 8];
        annex_hit hits[QUERIES];
        size_t found[QUERIES];
        annex_error error;
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        options.threads = threads;
        memcpy(queries, fixture.rows.vectors, sizeof queries);
        memset(queries + 100 * 8, 0, 8 * sizeof *queries);
        queries[140 * 8] = NAN;
        assert_int_equal(
            annex_index_search(fixture.index, queries, QUERIES, 1, &options, hits, found, &error),
            ANNEX_INVALID);
        assert_non_null(strstr(error.message, "zero vector")); /* the first one is named */
        for (size_t q = 0; q < QUERIES; q++) {
            assert_int_equal(found[q], 0);
        }
    }
    fixture_free(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch__any_metric_and_options__answers_of_the_queries_one_by_one),
        cmocka_unit_test(batch__rows_as_far_as_each_other__answers_of_the_queries_one_by_one),
        cmocka_unit_test(batch__more_neighbours_than_rows__all_rows_for_each_query),
        cmocka_unit_test(threads__that_share_the_rows__answers_of_one_thread),
        cmocka_unit_test(batch__fetched_rows_that_are_gone__answers_of_the_queries_one_by_one),
        cmocka_unit_test(batch__stopped__every_query_that_was_cut_is_counted),
        cmocka_unit_test(batch__cancelled__is_an_error_and_the_next_search_works),
        cmocka_unit_test(batch__a_query_that_has_no_distances__is_refused_as_a_whole),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
