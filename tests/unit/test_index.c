/*
 * test_index.c - what searches find: exact answers against a model, filters, distances within,
 * keys, and vectors from outside.
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

static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP,      ANNEX_COSINE,
                                       ANNEX_L1, ANNEX_HAMMING, ANNEX_JACCARD};
static const uint32_t dimensions[] = {1, 2, 3, 7, 8, 31, 64, 65, 100, 384};
static const size_t sizes[] = {0, 1, 2, 63, 64, 65, 1000};

static annex_search_options exact_options(void)
{
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = ANNEX_EFFORT_EXACT;
    return options;
}

/* Row of the source that a hit stands for: keys of integer sets say so, others are looked up. */
static size_t source_row(const struct rows *rows, const annex_index *index, const annex_hit *hit)
{
    if (!rows->key_ends) {
        for (size_t i = 0; i < rows->n; i++) {
            size_t row = ((size_t)hit->key + i) % rows->n; /* mostly key i is row i */
            if (rows->keys[row] == hit->key) {
                return row;
            }
        }
        fail_msg("no row has the key %lld", (long long)hit->key);
    }
    const void *key;
    size_t bytes;
    assert_int_equal(annex_index_key_bytes(index, hit->row, &key, &bytes, NULL), ANNEX_OK);
    for (size_t i = 0; i < rows->n; i++) {
        uint64_t begin = i ? rows->key_ends[i - 1] : 0;
        if (rows->key_ends[i] - begin == bytes && !memcmp(rows->key_bytes + begin, key, bytes)) {
            return i;
        }
    }
    fail_msg("no row has the key of row %u", hit->row);
    return 0;
}

static double norm_of(const struct rows *rows, const float *vector)
{
    double squares = 0;
    for (uint32_t j = 0; rows->metric <= ANNEX_L1 && j < rows->dimension; j++) {
        squares += (double)vector[j] * vector[j];
    }
    return sqrt(squares);
}

/*
 * The hits are the model's first ones: distances agree, rows are the same wherever float rounding
 * leaves no doubt, order is by (distance, key).
 */
static void check_hits(const struct rows *rows, const annex_index *index, const void *query,
                       const annex_hit *hits, size_t found, const struct model_hit *expected,
                       size_t n_expected)
{
    assert_int_equal(found, n_expected);
    double norm = 0, norm_query = norm_of(rows, query);
    for (size_t i = 0; i < n_expected; i++) {
        norm = MAX(norm, fabs(expected[i].distance));
    }
    for (size_t i = 0; rows->metric == ANNEX_IP && i < rows->n; i++) {
        norm = MAX(norm, norm_query * norm_of(rows, rows_at(rows, i)));
    }
    for (size_t i = 0; i < found; i++) {
        double tolerance = 2e-6 * norm + (rows->metric == ANNEX_COSINE ? 2e-6 : 0);
        if (rows->metric == ANNEX_L2) {
            tolerance = MAX(tolerance, 1e-4 * expected[i].distance);
        }
        size_t row = source_row(rows, index, &hits[i]);
        double truly = model_distance(rows->metric, rows->dimension, query, rows_at(rows, row));
        if (fabs(hits[i].distance - truly) > tolerance ||
            fabs(truly - expected[i].distance) > tolerance) {
            fail_msg("%s d=%u n=%zu: hit %zu is row %zu at %.9g (truly %.9g), expected row %zu at "
                     "%.9g",
                     annex_metric_name(rows->metric), rows->dimension, rows->n, i, row,
                     hits[i].distance, truly, expected[i].row, expected[i].distance);
        }
        if (i > 0) {
            size_t before = source_row(rows, index, &hits[i - 1]);
            assert_true(hits[i - 1].distance < hits[i].distance ||
                        (hits[i - 1].distance == hits[i].distance &&
                         rows_compare_keys(rows, before, row) < 0));
        }
    }
}

static void search_and_check(struct rows *rows, const annex_index *index, const void *query,
                             size_t k, const annex_search_options *options, const bool *passes,
                             struct model_hit *model)
{
    annex_hit *hits = calloc(k + 1, sizeof *hits);
    size_t found = 99;
    annex_error error = {0};
    if (annex_index_search(index, query, 1, k, options, hits, &found, &error)) {
        fail_msg("search: %s", error.message);
    }
    size_t n = model_search(rows, query, passes, model);
    check_hits(rows, index, query, hits, found, model, MIN(n, k));
    free(hits);
}

static void check_set(struct rows *rows, const annex_build_options *build)
{
    annex_search_options options = exact_options();
    annex_index *index = rows_build(rows, build);
    struct rows queries = rows_make(rows->metric, rows->dimension, 4, SHAPE_GAUSSIAN, 1234);
    struct model_hit *model = calloc(rows->n + 1, sizeof *model);
    const size_t ks[] = {0, 1, 10, rows->n, rows->n + 7};
    if (rows->n > 2) {
        memcpy(rows_vector(&queries, 0), rows_at(rows, 1), rows->vector_bytes);
        memcpy(rows_vector(&queries, 1), rows_at(rows, rows->n - 1), rows->vector_bytes);
    }
    for (size_t q = 0; q < queries.n; q++) {
        for (size_t i = 0; i < ARRAY_LENGTH(ks); i++) {
            search_and_check(rows, index, rows_at(&queries, q), ks[i], &options, NULL, model);
        }
    }
    assert_int_equal(annex_index_check(index, NULL), ANNEX_OK);
    free(model);
    rows_free(&queries);
    annex_index_close(index);
}

static void exact__every_metric_dimension_and_size__equals_the_model(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        for (size_t d = 0; d < ARRAY_LENGTH(dimensions); d++) {
            for (size_t s = 0; s < ARRAY_LENGTH(sizes); s++) {
                struct rows rows =
                    rows_make(metrics[m], dimensions[d], sizes[s], SHAPE_CLUSTERS, d * 100 + s);
                annex_build_options build = rows_options(&rows);
                build.raw = ANNEX_RAW_KEEP;
                check_set(&rows, &build);
                rows_free(&rows);
            }
        }
    }
}

static void exact__every_shape__equals_the_model(void **state)
{
    (void)state;
    static const enum shape shapes[] = {SHAPE_GAUSSIAN, SHAPE_BYTES, SHAPE_SIGNED, SHAPE_HEAVY,
                                        SHAPE_ONE_HOT,  SHAPE_EQUAL, SHAPE_SORTED};
    for (size_t m = 0; m < 4; m++) {
        for (size_t s = 0; s < ARRAY_LENGTH(shapes); s++) {
            struct rows rows = rows_make(metrics[m], 50, 700, shapes[s], s);
            annex_build_options build = rows_options(&rows);
            rows.batch = 33;
            check_set(&rows, &build);
            build.family = ANNEX_GRAPH;
            check_set(&rows, &build);
            rows_free(&rows);
        }
    }
}

static void exact__graph_of_6000_rows__equals_the_model(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct rows rows = rows_make(metrics[m], 24, 6000, SHAPE_CLUSTERS, m);
        annex_build_options build = rows_options(&rows);
        check_set(&rows, &build);
        rows_free(&rows);
    }
}

static void exact__byte_keys__break_ties_in_order_of_bytes(void **state)
{
    (void)state;
    static const enum shape shapes[] = {SHAPE_EQUAL, SHAPE_ONE_HOT, SHAPE_GAUSSIAN};
    for (size_t s = 0; s < ARRAY_LENGTH(shapes); s++) {
        for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
            struct rows rows = rows_make(ANNEX_L2, 9, 300, shapes[s], 3);
            rows_make_byte_keys(&rows, s);
            annex_build_options build = rows_options(&rows);
            build.family = (annex_family)family;
            check_set(&rows, &build);
            rows_free(&rows);
        }
    }
}

static void exact__keys_at_the_ends_of_integers__are_ordered_as_numbers(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L1, 3, 100, SHAPE_EQUAL, 1);
    for (size_t i = 0; i < rows.n; i++) {
        rows.keys[i] = (int64_t)(i % 2 ? i * 1000003 : -i * 77777);
    }
    rows.keys[7] = INT64_MIN;
    rows.keys[9] = INT64_MAX;
    rows.keys[11] = -1;
    annex_build_options build = rows_options(&rows);
    check_set(&rows, &build);
    annex_index *index = rows_build(&rows, &build);
    uint32_t row;
    int64_t key;
    assert_int_equal(annex_index_find(index, INT64_MIN, &row, NULL), ANNEX_OK);
    assert_int_equal(annex_index_key(index, row, &key, NULL), ANNEX_OK);
    assert_true(key == INT64_MIN);
    assert_int_equal(annex_index_find(index, INT64_MAX, &row, NULL), ANNEX_OK);
    assert_int_equal(annex_index_find(index, 5555, &row, NULL), ANNEX_NOT_FOUND);
    assert_int_equal(annex_index_find_bytes(index, "a", 1, &row, NULL), ANNEX_INVALID);
    assert_int_equal(annex_index_key(index, 100, &key, NULL), ANNEX_INVALID);
    annex_index_close(index);
    rows_free(&rows);
}

static void byte_keys__empty_long_and_binary__are_found(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 4, 2000, SHAPE_GAUSSIAN, 1);
    rows_make_byte_keys(&rows, 4);
    annex_build_options build = rows_options(&rows);
    build.family = ANNEX_GRAPH;
    annex_index *index = rows_build(&rows, &build);
    for (size_t i = 0; i < rows.n; i++) {
        uint64_t begin = i ? rows.key_ends[i - 1] : 0;
        const void *key;
        size_t bytes;
        uint32_t row;
        assert_int_equal(annex_index_find_bytes(index, rows.key_bytes + begin,
                                                rows.key_ends[i] - begin, &row, NULL),
                         ANNEX_OK);
        assert_int_equal(annex_index_key_bytes(index, row, &key, &bytes, NULL), ANNEX_OK);
        assert_int_equal(bytes, rows.key_ends[i] - begin);
        assert_memory_equal(key, rows.key_bytes + begin, bytes);
        float vector[4];
        assert_int_equal(annex_index_vector(index, row, vector, NULL), ANNEX_OK);
        assert_memory_equal(vector, rows_at(&rows, i), sizeof vector);
    }
    uint32_t row;
    assert_int_equal(annex_index_find_bytes(index, NULL, 0, &row, NULL), ANNEX_OK);
    assert_int_equal(annex_index_find_bytes(index, "no such key", 11, &row, NULL), ANNEX_NOT_FOUND);
    annex_index_close(index);
    rows_free(&rows);
}

/* ---- vectors from outside -------------------------------------------------------------------*/

struct outside {
    struct rows *rows;
    const annex_index *index;
    const bool *gone;
    size_t asked;
    annex_status fails;
};

static annex_status fetch_outside(void *context, const uint32_t *slots, size_t n, void *vectors,
                                  unsigned char *present, annex_error *error)
{
    struct outside *outside = context;
    outside->asked += n;
    if (outside->fails) {
        return error_set(error, outside->fails, "the source is away");
    }
    for (size_t i = 0; i < n; i++) {
        int64_t key;
        assert_int_equal(annex_index_key(outside->index, slots[i], &key, NULL), ANNEX_OK);
        present[i] = !outside->gone[key];
        memcpy((char *)vectors + i * outside->rows->vector_bytes,
               rows_at(outside->rows, (size_t)key), outside->rows->vector_bytes);
    }
    return ANNEX_OK;
}

static void fetch__rows_that_are_gone__leave_at_least_k_others(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
            struct rows rows = rows_make(metrics[m], 20, 3000, SHAPE_CLUSTERS, m);
            annex_build_options build = rows_options(&rows);
            build.family = (annex_family)family;
            build.raw = ANNEX_RAW_NONE;
            annex_index *index = rows_build(&rows, &build);
            bool *gone = calloc(rows.n, 1), *passes = calloc(rows.n, 1);
            struct model_hit *model = calloc(rows.n + 1, sizeof *model);
            struct outside outside = {&rows, index, gone, 0, ANNEX_OK};
            const void *query = rows_at(&rows, 5);
            /* The nearest 300 are gone; then all but 7; then all. */
            static const size_t left[] = {3000, 2700, 7, 0};
            for (size_t l = 0; l < ARRAY_LENGTH(left); l++) {
                model_search(&rows, query, NULL, model);
                for (size_t i = 0; i < rows.n; i++) {
                    gone[model[i].row] = i < rows.n - left[l];
                    passes[model[i].row] = !gone[model[i].row];
                }
                annex_search_options options = exact_options();
                options.fetch = fetch_outside;
                options.fetch_context = &outside;
                search_and_check(&rows, index, query, 10, &options, passes, model);
                annex_hit hits[10];
                size_t found;
                options.effort = 30;
                assert_int_equal(
                    annex_index_search(index, query, 1, 10, &options, hits, &found, NULL),
                    ANNEX_OK);
                assert_int_equal(found, MIN(left[l], 10));
                for (size_t i = 0; i < found; i++) {
                    assert_false(gone[hits[i].key]);
                }
            }
            outside.fails = ANNEX_HOST;
            annex_search_options options = exact_options();
            options.fetch = fetch_outside;
            options.fetch_context = &outside;
            annex_hit hits[10];
            size_t found = 3;
            annex_error error;
            assert_int_equal(
                annex_index_search(index, query, 1, 10, &options, hits, &found, &error),
                ANNEX_HOST);
            assert_string_equal(error.message, "the source is away");
            assert_int_equal(found, 0);
            free(gone);
            free(passes);
            free(model);
            annex_index_close(index);
            rows_free(&rows);
        }
    }
}

static void no_vectors__distances__are_numbers_near_the_true_ones(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct rows rows = rows_make(metrics[m], 64, 1000, SHAPE_CLUSTERS, m);
        annex_build_options build = rows_options(&rows);
        annex_search_options options = exact_options();
        build.raw = ANNEX_RAW_NONE;
        annex_index *index = rows_build(&rows, &build);
        for (size_t q = 0; q < 50; q++) {
            annex_hit hits[1000];
            size_t found;
            assert_int_equal(
                annex_index_search(index, rows_at(&rows, q), 1, 1000, &options, hits, &found, NULL),
                ANNEX_OK);
            assert_int_equal(found, 1000);
            for (size_t i = 0; i < found; i++) {
                double truly = model_distance(metrics[m], 64, rows_at(&rows, q),
                                              rows_at(&rows, (size_t)hits[i].key));
                assert_true(isfinite(hits[i].distance));
                double size = metrics[m] == ANNEX_IP ? norm_of(&rows, rows_at(&rows, q)) * 10 : 10;
                assert_true(fabs(hits[i].distance - truly) <= 0.02 * (fabs(truly) + size));
            }
        }
        annex_index_close(index);
        rows_free(&rows);
    }
}

/* ---- filters ---------------------------------------------------------------------------------*/

static int accept_flagged(void *context, uint32_t row, int64_t key)
{
    const bool *passes = context;
    (void)row;
    return passes[key];
}

static void check_filter(struct rows *rows, const annex_index *index, const bool *passes,
                         const void *query)
{
    annex_index_info info;
    annex_index_describe(index, &info);
    uint64_t *allowed = calloc((info.slots + 63) / 64 + 1, sizeof *allowed);
    size_t n_passing = 0;
    struct model_hit *model = calloc(rows->n + 1, sizeof *model);
    for (uint32_t row = 0; row < info.slots; row++) {
        int64_t key;
        annex_index_key(index, row, &key, NULL);
        allowed[row / 64] |= (uint64_t)passes[key] << (row % 64);
        n_passing += passes[key];
    }
    allowed[info.slots / 64] |= info.slots % 64 ? ~UINT64_C(0) << (info.slots % 64) : 0;
    for (int use = 0; use < 3; use++) { /* bitmap, function, both */
        annex_search_options options = exact_options();
        options.allowed = use != 1 ? allowed : NULL;
        options.accept = use != 0 ? accept_flagged : NULL;
        options.accept_context = (void *)(uintptr_t)passes;
        search_and_check(rows, index, query, 10, &options, passes, model);
        static const uint32_t efforts[] = {0, 1, 10, 100};
        for (size_t e = 0; e < ARRAY_LENGTH(efforts); e++) {
            annex_hit hits[20];
            size_t found;
            options.effort = efforts[e];
            assert_int_equal(annex_index_search(index, query, 1, 20, &options, hits, &found, NULL),
                             ANNEX_OK);
            assert_int_equal(found, MIN(n_passing, 20));
            for (size_t i = 0; i < found; i++) {
                assert_true(passes[hits[i].key]);
            }
        }
    }
    free(allowed);
    free(model);
}

static void filter__any_share_of_rows__finds_min_k_passing(void **state)
{
    (void)state;
    static const double shares[] = {0, 0.0003, 0.003, 0.03, 0.3, 0.9, 1};
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m += 2) {
        for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
            struct rows rows = rows_make(metrics[m], 16, 6001, SHAPE_CLUSTERS, m);
            annex_build_options build = rows_options(&rows);
            build.family = (annex_family)family;
            annex_index *index = rows_build(&rows, &build);
            bool *passes = calloc(rows.n, 1);
            uint64_t random = 5;
            for (size_t s = 0; s < ARRAY_LENGTH(shares); s++) {
                for (size_t i = 0; i < rows.n; i++) {
                    passes[i] = rows_uniform(&random) < shares[s];
                }
                check_filter(&rows, index, passes, rows_at(&rows, 17));
            }
            /* One row; the nearest only; the farthest only. */
            memset(passes, 0, rows.n);
            passes[4000] = true;
            check_filter(&rows, index, passes, rows_at(&rows, 17));
            struct model_hit *model = calloc(rows.n, sizeof *model);
            size_t n = model_search(&rows, rows_at(&rows, 17), NULL, model);
            for (int far = 0; far < 2; far++) {
                memset(passes, 0, rows.n);
                for (size_t i = 0; i < 50; i++) {
                    passes[model[far ? n - 1 - i : i].row] = true;
                }
                check_filter(&rows, index, passes, rows_at(&rows, 17));
            }
            free(model);
            free(passes);
            annex_index_close(index);
            rows_free(&rows);
        }
    }
}

/* ---- within ----------------------------------------------------------------------------------*/

static void within__any_distance__gives_all_rows_up_to_it(void **state)
{
    (void)state;
    static const size_t ranks[] = {0, 1, 20, 300, 1999};
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
            struct rows rows = rows_make(metrics[m], 30, 2000, SHAPE_CLUSTERS, 8);
            annex_build_options build = rows_options(&rows);
            build.family = (annex_family)family;
            annex_index *index = rows_build(&rows, &build);
            struct model_hit *model = calloc(rows.n, sizeof *model);
            annex_hit *all = calloc(rows.n, sizeof *all), *hits;
            size_t found, n;
            const void *query = rows_at(&rows, 3);
            annex_search_options options = exact_options();
            annex_search_stats stats;
            options.stats = &stats;
            assert_int_equal(
                annex_index_search(index, query, 1, rows.n, &options, all, &found, NULL), ANNEX_OK);
            for (size_t r = 0; r < ARRAY_LENGTH(ranks); r++) {
                /* A distance that was an answer contains the row that has it. */
                double distance = all[ranks[r]].distance;
                size_t expected = ranks[r];
                while (expected < found && all[expected].distance <= distance) {
                    expected++;
                }
                memset(&stats, 0xff, sizeof stats);
                assert_int_equal(
                    annex_index_within(index, query, distance, &options, &hits, &n, NULL),
                    ANNEX_OK);
                assert_int_equal(n, expected);
                for (size_t i = 0; i < n; i++) {
                    assert_true(hits[i].distance == all[i].distance && hits[i].key == all[i].key &&
                                hits[i].row == all[i].row);
                }
                assert_true(stats.distances <= 2 * rows.n);
                annex_hits_free(index, hits, n);
            }
            /* The limits. */
            assert_int_equal(annex_index_within(index, query, INFINITY, NULL, &hits, &n, NULL),
                             ANNEX_OK);
            assert_int_equal(n, rows.n);
            annex_hits_free(index, hits, n);
            assert_int_equal(annex_index_within(index, query, -INFINITY, NULL, &hits, &n, NULL),
                             ANNEX_OK);
            assert_int_equal(n, 0);
            annex_hits_free(index, hits, n);
            assert_int_equal(annex_index_within(index, query, 1e200, NULL, &hits, &n, NULL),
                             ANNEX_OK);
            assert_int_equal(n, rows.n);
            annex_hits_free(index, hits, n);
            assert_int_equal(annex_index_within(index, query, (double)NAN, NULL, &hits, &n, NULL),
                             ANNEX_INVALID);
            /* With an effort: rows that are within, all of the model. */
            options.effort = 50;
            assert_int_equal(
                annex_index_within(index, query, all[20].distance, &options, &hits, &n, NULL),
                ANNEX_OK);
            assert_true(n >= 15);
            for (size_t i = 0; i < n; i++) {
                assert_true(hits[i].distance <= all[20].distance);
            }
            annex_hits_free(index, hits, n);
            free(all);
            free(model);
            annex_index_close(index);
            rows_free(&rows);
        }
    }
}

static void within__by_effort__gives_all_rows_that_the_walk_kept(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 30, 2000, SHAPE_CLUSTERS, 8);
    annex_build_options build = rows_options(&rows);
    build.family = ANNEX_GRAPH;
    annex_index *index = rows_build(&rows, &build);
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    annex_hit *hits;
    size_t n;
    options.effort = 1500;
    assert_int_equal(
        annex_index_within(index, rows_at(&rows, 3), INFINITY, &options, &hits, &n, NULL),
        ANNEX_OK);
    assert_int_equal(n, 1500);
    annex_hits_free(index, hits, n);
    annex_index_close(index);
    rows_free(&rows);
}

static void empty_graph__any_search__finds_nothing(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct rows rows = rows_make(metrics[m], 5, 0, SHAPE_GAUSSIAN, 8);
        struct rows queries = rows_make(metrics[m], 5, 1, SHAPE_GAUSSIAN, 9);
        annex_build_options build = rows_options(&rows);
        build.family = ANNEX_GRAPH;
        annex_index *index = rows_build(&rows, &build);
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        annex_hit hits[3], *within;
        size_t found = 7;
        options.effort = 10;
        assert_int_equal(
            annex_index_search(index, rows_at(&queries, 0), 1, 3, &options, hits, &found, NULL),
            ANNEX_OK);
        assert_int_equal(found, 0);
        assert_int_equal(
            annex_index_within(index, rows_at(&queries, 0), 10, &options, &within, &found, NULL),
            ANNEX_OK);
        assert_int_equal(found, 0);
        assert_int_equal(annex_index_check(index, NULL), ANNEX_OK);
        annex_index_close(index);
        rows_free(&rows);
        rows_free(&queries);
    }
}

/* ---- many queries, options -------------------------------------------------------------------*/

static void batch__several_threads__equals_one_at_a_time(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_COSINE, 24, 6000, SHAPE_CLUSTERS, 4);
    annex_build_options build = rows_options(&rows);
    annex_index *index = rows_build(&rows, &build);
    enum { QUERIES = 101, K = 7 };
    annex_hit *hits = calloc(2 * QUERIES * K, sizeof *hits);
    size_t found[2][QUERIES];
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    annex_search_stats stats[2] = {{0}, {0}}, one;
    options.stats = &one;
    options.threads = 1;
    for (size_t q = 0; q < QUERIES; q++) {
        assert_int_equal(annex_index_search(index, rows_at(&rows, q), 1, K, &options, hits + q * K,
                                            &found[0][q], NULL),
                         ANNEX_OK);
        stats[0].hops += one.hops;
        stats[0].distances += one.distances;
        stats[0].reranked += one.reranked;
        stats[0].bytes += one.bytes;
        /* A code is no shorter than its smallest form, one bit an element. */
        assert_true(one.bytes >= one.hops * sizeof(uint32_t) + one.distances * 24 / 8);
    }
    for (uint32_t threads = 0; threads < 5; threads++) {
        options.threads = threads;
        options.stats = &stats[1];
        memset(hits + QUERIES * K, 0, QUERIES * K * sizeof *hits);
        assert_int_equal(annex_index_search(index, rows.vectors, QUERIES, K, &options,
                                            hits + QUERIES * K, found[1], NULL),
                         ANNEX_OK);
        assert_memory_equal(found[0], found[1], sizeof found[0]);
        assert_memory_equal(hits, hits + QUERIES * K, QUERIES * K * sizeof *hits);
        assert_memory_equal(&stats[0], &stats[1], sizeof stats[0]);
    }
    assert_int_equal(annex_index_search(index, NULL, 0, K, &options, NULL, NULL, NULL), ANNEX_OK);
    free(hits);
    annex_index_close(index);
    rows_free(&rows);
}

static void search__wrong_arguments__are_refused_and_find_nothing(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_COSINE, 3, 100, SHAPE_GAUSSIAN, 4);
    annex_build_options build = rows_options(&rows);
    annex_index *index = rows_build(&rows, &build);
    float queries[6] = {1, 2, 3, 4, NAN, 6};
    annex_hit hits[20];
    size_t found[2] = {5, 5};
    annex_error error;
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    assert_int_equal(annex_index_search(index, queries, 2, 10, NULL, hits, found, &error),
                     ANNEX_INVALID);
    assert_non_null(strstr(error.message, "element 1 of the query is NaN"));
    assert_int_equal(found[0] + found[1], 0);
    memset(queries, 0, sizeof queries);
    assert_int_equal(annex_index_search(index, queries, 1, 10, NULL, hits, found, &error),
                     ANNEX_INVALID);
    assert_non_null(strstr(error.message, "zero vector"));
    queries[2] = 1e-45f; /* tiny is not zero */
    assert_int_equal(annex_index_search(index, queries, 1, 10, NULL, hits, found, &error),
                     ANNEX_OK);
    assert_int_equal(found[0], 10);
    queries[0] = FLT_MAX;
    assert_int_equal(annex_index_search(index, queries, 1, 10, NULL, hits, found, &error),
                     ANNEX_OK);
    options.effort = 5;
    options.recall = 0.5;
    assert_int_equal(annex_index_search(index, queries, 1, 10, &options, hits, found, &error),
                     ANNEX_INVALID);
    options.effort = 0;
    static const double recalls[] = {-1, 1.1, (double)NAN};
    for (size_t i = 0; i < 3; i++) {
        options.recall = recalls[i];
        assert_int_equal(annex_index_search(index, queries, 1, 10, &options, hits, found, &error),
                         ANNEX_INVALID);
    }
    options.recall = 0;
    options.struct_bytes = 3;
    assert_int_equal(annex_index_search(index, queries, 1, 10, &options, hits, found, &error),
                     ANNEX_INVALID);
    annex_index_close(index);
    rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact__every_metric_dimension_and_size__equals_the_model),
        cmocka_unit_test(exact__every_shape__equals_the_model),
        cmocka_unit_test(exact__graph_of_6000_rows__equals_the_model),
        cmocka_unit_test(exact__byte_keys__break_ties_in_order_of_bytes),
        cmocka_unit_test(exact__keys_at_the_ends_of_integers__are_ordered_as_numbers),
        cmocka_unit_test(byte_keys__empty_long_and_binary__are_found),
        cmocka_unit_test(fetch__rows_that_are_gone__leave_at_least_k_others),
        cmocka_unit_test(no_vectors__distances__are_numbers_near_the_true_ones),
        cmocka_unit_test(filter__any_share_of_rows__finds_min_k_passing),
        cmocka_unit_test(within__any_distance__gives_all_rows_up_to_it),
        cmocka_unit_test(within__by_effort__gives_all_rows_that_the_walk_kept),
        cmocka_unit_test(empty_graph__any_search__finds_nothing),
        cmocka_unit_test(batch__several_threads__equals_one_at_a_time),
        cmocka_unit_test(search__wrong_arguments__are_refused_and_find_nothing),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
