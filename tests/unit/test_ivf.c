/*
 * test_ivf.c - an index of lists finds what it says it finds, exactly when asked to, the same on
 * every processor, and in few bytes.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "kernel/kernel.h"
#include "rows.h"

enum { K = 10 };

static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP, ANNEX_COSINE};

static annex_index *build(struct rows *rows, annex_raw raw)
{
    annex_build_options options = rows_options(rows);
    options.family = ANNEX_IVF;
    options.raw = raw;
    annex_index *index = rows_build(rows, &options);
    assert_int_equal(annex_index_check(index, NULL), ANNEX_OK);
    return index;
}

static size_t search(const annex_index *index, const void *query, size_t k,
                     const annex_search_options *options, annex_hit *hits)
{
    annex_error error = {0};
    size_t found = 0;
    if (annex_index_search(index, query, 1, k, options, hits, &found, &error)) {
        fail_msg("search: %s", error.message);
    }
    return found;
}

/* The share of the true neighbours of some rows' surroundings that a search finds. */
static double recall_of(const struct rows *rows, const annex_index *index,
                        const annex_search_options *options)
{
    enum { QUERIES = 40 };
    struct model_hit *model = calloc(rows->n, sizeof *model);
    size_t met = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        const void *query = rows_at(rows, q * rows->n / QUERIES);
        annex_hit hits[K];
        size_t n = model_search(rows, query, NULL, model);
        assert_int_equal(search(index, query, K, options, hits), MIN(n, K));
        double farthest = model[K - 1].distance;
        for (size_t i = 0; i < K; i++) {
            double distance = model_distance(rows->metric, rows->dimension, query,
                                             rows_at(rows, (size_t)hits[i].key));
            met += distance <= farthest + 1e-6 * (1 + fabs(farthest));
        }
    }
    free(model);
    return (double)met / (QUERIES * K);
}

static void search__efforts_that_were_measured__find_what_they_say(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct rows rows = rows_make(metrics[m], 48, 6000, SHAPE_CLUSTERS, 3);
        annex_index *index = build(&rows, ANNEX_RAW_KEEP);
        annex_index_info info;
        annex_index_describe(index, &info);
        assert_int_equal(info.family, ANNEX_IVF);
        assert_true(info.n_recall_points > 0);
        for (uint32_t i = 0; i < info.n_recall_points; i++) {
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            options.effort = info.recall_points[i].effort;
            double recall = recall_of(&rows, index, &options);
            if (recall < (double)info.recall_points[i].recall - 0.06) {
                fail_msg("%s effort %u: recall %g, said to be %g", annex_metric_name(metrics[m]),
                         options.effort, recall, (double)info.recall_points[i].recall);
            }
        }
        assert_true((double)info.recall_points[info.n_recall_points - 1].recall > 0.97);
        annex_index_close(index);
        rows_free(&rows);
    }
}

static void search__exact_effort__is_the_model(void **state)
{
    (void)state;
    static const enum shape shapes[] = {SHAPE_GAUSSIAN, SHAPE_CLUSTERS, SHAPE_BYTES, SHAPE_HEAVY,
                                        SHAPE_ONE_HOT,  SHAPE_EQUAL,    SHAPE_SORTED};
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = ANNEX_EFFORT_EXACT;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        for (size_t s = 0; s < ARRAY_LENGTH(shapes); s++) {
            struct rows rows = rows_make(metrics[m], 1 + 11 * (uint32_t)s, 700, shapes[s], s);
            annex_index *index = build(&rows, ANNEX_RAW_KEEP);
            assert_true(recall_of(&rows, index, &options) == 1);
            annex_index_close(index);
            rows_free(&rows);
        }
    }
}

static void build__few_rows__every_one_is_found(void **state)
{
    (void)state;
    for (size_t n = 0; n < 70; n += 1 + n / 8) {
        struct rows rows = rows_make(ANNEX_L2, 5, n, SHAPE_GAUSSIAN, n);
        annex_index *index = build(&rows, ANNEX_RAW_AUTO);
        annex_hit hits[80];
        float query[5] = {0};
        assert_int_equal(search(index, query, 80, NULL, hits), n);
        annex_index_close(index);
        rows_free(&rows);
    }
}

/* ---- the same everywhere ---------------------------------------------------------------------*/

static void build__any_threads_and_processor__gives_the_same_bytes_and_answers(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_COSINE, 70, 3000, SHAPE_CLUSTERS, 9);
    const struct kernels *k;
    uint64_t content[2] = {0, 0};
    annex_hit expected[K];
    const char *before = getenv("ANNEX_CPU");
    char *saved = before ? strdup(before) : NULL;
    for (size_t t = 0; (k = kernel_available(t)); t++) {
        for (uint32_t threads = 1; threads <= 3; threads += 2) {
            setenv("ANNEX_CPU", k->name, 1);
            annex_build_options options = rows_options(&rows);
            options.family = ANNEX_IVF;
            options.threads = threads;
            annex_index *index = rows_build(&rows, &options);
            annex_index_info info;
            annex_hit hits[K];
            annex_search_options effort = ANNEX_SEARCH_OPTIONS_INIT;
            effort.effort = 3;
            annex_index_describe(index, &info);
            assert_int_equal(search(index, rows_at(&rows, 5), K, &effort, hits), K);
            if (t == 0 && threads == 1) {
                memcpy(content, info.content, sizeof content);
                memcpy(expected, hits, sizeof expected);
            }
            assert_memory_equal(content, info.content, sizeof content);
            assert_memory_equal(expected, hits, sizeof expected);
            annex_index_close(index);
        }
    }
    if (saved) {
        setenv("ANNEX_CPU", saved, 1);
    } else {
        unsetenv("ANNEX_CPU");
    }
    free(saved);
    rows_free(&rows);
}

/* ---- filters and vectors from elsewhere -------------------------------------------------------*/

static void search__filters_of_every_share__find_min_of_k_and_passing(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 24, 5000, SHAPE_CLUSTERS, 5);
    annex_index *index = build(&rows, ANNEX_RAW_KEEP);
    uint64_t *allowed = calloc(bitmap_words(rows.n), 8), random = 1;
    static const size_t shares[] = {1, 3, 30, 700, 2500, 5000};
    for (size_t s = 0; s < ARRAY_LENGTH(shares); s++) {
        size_t passing = 0;
        memset(allowed, 0, bitmap_words(rows.n) * 8);
        for (size_t i = 0; i < rows.n; i++) {
            if (rows_random(&random) % shares[s] == 0) {
                bitmap_set(allowed, i);
                passing++;
            }
        }
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        options.allowed = allowed;
        options.effort = 2;
        for (size_t q = 0; q < 20; q++) {
            annex_hit hits[K];
            size_t found = search(index, rows_at(&rows, q * 31), K, &options, hits);
            assert_int_equal(found, MIN(K, passing));
            for (size_t i = 0; i < found; i++) {
                assert_true(bitmap_get(allowed, hits[i].row));
                assert_true(i == 0 || hits[i - 1].distance <= hits[i].distance);
            }
        }
    }
    free(allowed);
    annex_index_close(index);
    rows_free(&rows);
}

struct table {
    const struct rows *rows;
    const annex_index *index;
};

/* Every third row is gone. */
static annex_status fetch(void *context, const uint32_t *slots, size_t n, void *vectors,
                          unsigned char *present, annex_error *error)
{
    const struct table *table = context;
    for (size_t i = 0; i < n; i++) {
        int64_t key;
        assert_int_equal(annex_index_key(table->index, slots[i], &key, error), ANNEX_OK);
        present[i] = key % 3 != 0;
        memcpy((char *)vectors + i * table->rows->vector_bytes, rows_at(table->rows, (size_t)key),
               table->rows->vector_bytes);
    }
    return ANNEX_OK;
}

static void search__vectors_by_fetch_and_rows_gone__is_the_model_of_the_rest(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_COSINE, 33, 1500, SHAPE_GAUSSIAN, 6);
    annex_index *index = build(&rows, ANNEX_RAW_NONE);
    struct table table = {&rows, index};
    struct model_hit *model = calloc(rows.n, sizeof *model);
    bool *passes = calloc(rows.n, sizeof *passes);
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.fetch = fetch;
    options.fetch_context = &table;
    options.effort = ANNEX_EFFORT_EXACT;
    for (size_t i = 0; i < rows.n; i++) {
        passes[i] = i % 3 != 0;
    }
    for (size_t q = 0; q < 10; q++) {
        annex_hit hits[K];
        model_search(&rows, rows_at(&rows, q), passes, model);
        assert_int_equal(search(index, rows_at(&rows, q), K, &options, hits), K);
        for (size_t i = 0; i < K; i++) {
            assert_true(fabs(hits[i].distance - model[i].distance) < 1e-5);
        }
    }
    free(model);
    free(passes);
    annex_index_close(index);
    rows_free(&rows);
}

static void search__no_vectors__gives_estimates_near_the_distances(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct rows rows = rows_make(metrics[m], 256, 3000, SHAPE_GAUSSIAN, 7);
        annex_index *index = build(&rows, ANNEX_RAW_NONE);
        annex_index_info info;
        annex_index_describe(index, &info);
        assert_false(info.has_raw);
        for (size_t q = 0; q < 10; q++) {
            annex_hit hits[K];
            const void *query = rows_at(&rows, q);
            assert_int_equal(search(index, query, K, NULL, hits), K);
            for (size_t i = 0; i < K; i++) {
                double truly =
                    model_distance(metrics[m], 256, query, rows_at(&rows, (size_t)hits[i].key));
                double off = fabs(hits[i].distance - truly);
                if (off > (metrics[m] == ANNEX_COSINE ? 0.25 : 80)) {
                    fail_msg("%s: %g, truly %g", annex_metric_name(metrics[m]), hits[i].distance,
                             truly);
                }
            }
        }
        float vector[256];
        assert_int_equal(annex_index_vector(index, 0, vector, NULL), ANNEX_OK);
        annex_index_close(index);
        rows_free(&rows);
    }
}

static void build__768_dimensions_without_vectors__takes_less_than_a_sixteenth(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_COSINE, 768, 3000, SHAPE_CLUSTERS, 8);
    annex_index *index = build(&rows, ANNEX_RAW_NONE);
    annex_index_info info;
    annex_index_describe(index, &info);
    double share = (double)info.bytes / ((double)rows.n * 768 * 4);
    if (share > 0.06) {
        fail_msg("%g of the vectors", share);
    }
    annex_index_close(index);
    rows_free(&rows);
}

/* ---- refusals --------------------------------------------------------------------------------*/

static void build__metric_or_codes_that_lists_do_not_have__is_refused(void **state)
{
    (void)state;
    annex_env env = annex_env_default();
    struct rows rows = rows_make(ANNEX_L1, 8, 10, SHAPE_GAUSSIAN, 1);
    annex_rows source = rows_source(&rows);
    annex_build_options options = rows_options(&rows);
    annex_index *index;
    annex_error error = {0};
    options.family = ANNEX_IVF;
    assert_int_equal(annex_build(&env, &options, &source, NULL, &index, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "metric l1"));
    options.metric = ANNEX_L2;
    options.codes = ANNEX_CODES_F16;
    assert_int_equal(annex_build(&env, &options, &source, NULL, &index, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "f16"));
    rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search__efforts_that_were_measured__find_what_they_say),
        cmocka_unit_test(search__exact_effort__is_the_model),
        cmocka_unit_test(build__few_rows__every_one_is_found),
        cmocka_unit_test(build__any_threads_and_processor__gives_the_same_bytes_and_answers),
        cmocka_unit_test(search__filters_of_every_share__find_min_of_k_and_passing),
        cmocka_unit_test(search__vectors_by_fetch_and_rows_gone__is_the_model_of_the_rest),
        cmocka_unit_test(search__no_vectors__gives_estimates_near_the_distances),
        cmocka_unit_test(build__768_dimensions_without_vectors__takes_less_than_a_sixteenth),
        cmocka_unit_test(build__metric_or_codes_that_lists_do_not_have__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
