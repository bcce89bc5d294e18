/*
 * test_stored.c - vectors stored as f16 or bf16: the index is one of the rounded vectors, in every
 * answer, after every change.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/half.h"
#include "rows.h"

enum { N = 1500, D = 40, K = 10, QUERIES = 20 };

static const annex_raw raws[] = {ANNEX_RAW_F16, ANNEX_RAW_BF16};

static annex_index *build(struct rows *rows, annex_family family, annex_raw raw)
{
    annex_build_options options = rows_options(rows);
    options.family = family;
    options.raw = raw;
    return rows_build(rows, &options);
}

/* Written here once more: what the rounding has to be. */
static void round_rows(struct rows *rows, annex_raw raw)
{
    for (size_t i = 0; i < rows->n; i++) {
        float *vector = rows_vector(rows, i);
        double norm = 0;
        for (uint32_t j = 0; j < rows->dimension; j++) {
            norm += (double)vector[j] * vector[j];
        }
        for (uint32_t j = 0; j < rows->dimension; j++) {
            float x = rows->metric == ANNEX_COSINE ? (float)(vector[j] / sqrt(norm)) : vector[j];
            vector[j] =
                raw == ANNEX_RAW_F16 ? f16_widen(f16_narrow(x)) : bf16_widen(bf16_narrow(x));
        }
    }
}

static size_t search(annex_index *index, const void *query, const annex_search_options *options,
                     annex_hit *hits)
{
    annex_error error = {0};
    size_t found = 0;
    assert_int_equal(annex_index_search(index, query, 1, K, options, hits, &found, &error),
                     ANNEX_OK);
    return found;
}

/* Under cosine rounded vectors have no unit length any more, which their distances show. */
static double slack_of(annex_metric metric, annex_raw raw)
{
    double bits = raw == ANNEX_RAW_F16 ? 11 : 8;
    return metric == ANNEX_COSINE ? 2 * exp2(-bits) : 1e-5;
}

/* Every exact answer has the nearest of `rounded`, by the distances of those. */
static void check_exact(annex_index *index, const struct rows *rounded, annex_raw raw,
                        const annex_search_options *options)
{
    struct model_hit *model = calloc(rounded->n, sizeof *model);
    for (size_t q = 0; q < QUERIES; q++) {
        annex_hit hits[K];
        const void *query = rows_at(rounded, q * 7);
        model_search(rounded, query, NULL, model);
        assert_int_equal(search(index, query, options, hits), K);
        for (size_t i = 0; i < K; i++) {
            double slack = slack_of(rounded->metric, raw) * (1 + fabs(model[i].distance));
            slack += model[i].distance == 0 ? 1e-3 : 0; /* the root of what rounds to zero */
            assert_true(fabs(hits[i].distance - model[i].distance) <= slack);
        }
    }
    free(model);
}

static void search__every_metric_and_family__is_of_the_rounded_vectors(void **state)
{
    (void)state;
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = ANNEX_EFFORT_EXACT;
    for (int metric = ANNEX_L2; metric <= ANNEX_L1; metric++) {
        for (int family = ANNEX_FLAT; family <= (metric == ANNEX_L1 ? ANNEX_GRAPH : ANNEX_IVF);
             family++) {
            for (size_t r = 0; r < ARRAY_LENGTH(raws); r++) {
                struct rows rows = rows_make((annex_metric)metric, D, N, SHAPE_CLUSTERS, 3);
                annex_index *index = build(&rows, (annex_family)family, raws[r]);
                annex_index_info info;
                annex_index_describe(index, &info);
                assert_int_equal(info.raw, raws[r]);
                assert_int_equal(info.raw_bytes, N * D * 2);
                round_rows(&rows, raws[r]);
                check_exact(index, &rows, raws[r], &options);
                for (uint32_t row = 0; row < N; row += 37) {
                    float vector[D];
                    int64_t key;
                    assert_int_equal(annex_index_key(index, row, &key, NULL), ANNEX_OK);
                    assert_int_equal(annex_index_vector(index, row, vector, NULL), ANNEX_OK);
                    assert_memory_equal(vector, rows_at(&rows, (size_t)key), sizeof vector);
                }
                annex_index_close(index);
                rows_free(&rows);
            }
        }
    }
}

/* Without cosine there is nothing but rounding: the answers are those of rows rounded before. */
static void search__rows_rounded_before__gives_the_same_bits(void **state)
{
    (void)state;
    for (int metric = ANNEX_L2; metric <= ANNEX_IP; metric++) {
        for (size_t r = 0; r < ARRAY_LENGTH(raws); r++) {
            struct rows rows = rows_make((annex_metric)metric, D, N, SHAPE_GAUSSIAN, 8);
            annex_index *halves = build(&rows, ANNEX_GRAPH, raws[r]);
            round_rows(&rows, raws[r]);
            annex_index *whole = build(&rows, ANNEX_GRAPH, ANNEX_RAW_KEEP);
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            for (options.effort = 16; options.effort <= 64; options.effort *= 4) {
                for (size_t q = 0; q < QUERIES; q++) {
                    annex_hit a[K], b[K];
                    memset(a, 0, sizeof a);
                    memset(b, 0, sizeof b);
                    assert_int_equal(search(halves, rows_at(&rows, q), &options, a), K);
                    assert_int_equal(search(whole, rows_at(&rows, q), &options, b), K);
                    assert_memory_equal(a, b, sizeof a);
                }
            }
            annex_index_close(halves);
            annex_index_close(whole);
            rows_free(&rows);
        }
    }
}

static void change__insert_save_and_open__rounds_as_the_build_does(void **state)
{
    (void)state;
    char path[] = "/tmp/annex_stored_XXXXXX";
    close(mkstemp(path));
    annex_env env = annex_env_default();
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = ANNEX_EFFORT_EXACT;
    for (int family = ANNEX_FLAT; family <= ANNEX_IVF; family++) {
        for (size_t r = 0; r < ARRAY_LENGTH(raws); r++) {
            struct rows rows = rows_make(r ? ANNEX_COSINE : ANNEX_L2, D, N, SHAPE_CLUSTERS, 4);
            struct rows some = rows;
            some.n = N - 300;
            annex_index *index = build(&some, (annex_family)family, raws[r]);
            annex_batch batch = rows_batch(&rows, some.n, 300);
            annex_error error = {0};
            assert_int_equal(annex_index_insert(index, &batch, &error), ANNEX_OK);
            round_rows(&rows, raws[r]);
            check_exact(index, &rows, raws[r], &options);
            assert_int_equal(annex_index_save(index, path, &error), ANNEX_OK);
            annex_index_close(index);
            assert_int_equal(annex_index_open(&env, path, ANNEX_INDEX_VERIFY, &index, &error),
                             ANNEX_OK);
            annex_index_info info;
            annex_index_describe(index, &info);
            assert_int_equal(info.raw, raws[r]);
            assert_int_equal(info.raw_bytes, N * D * 2);
            check_exact(index, &rows, raws[r], &options);
            annex_index_close(index);
            rows_free(&rows);
        }
    }
    unlink(path);
}

struct table {
    const struct rows *rows;
    annex_index *index;
};

static annex_status fetch(void *context, const uint32_t *slots, size_t n, void *vectors,
                          unsigned char *present, annex_error *error)
{
    const struct table *table = context;
    (void)error;
    for (size_t i = 0; i < n; i++) {
        int64_t key;
        assert_int_equal(annex_index_key(table->index, slots[i], &key, NULL), ANNEX_OK);
        memcpy((char *)vectors + i * table->rows->vector_bytes, rows_at(table->rows, (size_t)key),
               table->rows->vector_bytes);
        present[i] = 1;
    }
    return ANNEX_OK;
}

static void search__vectors_from_outside__are_rounded_too(void **state)
{
    (void)state;
    for (int metric = ANNEX_L2; metric <= ANNEX_COSINE; metric++) {
        struct rows rows = rows_make((annex_metric)metric, D, N, SHAPE_CLUSTERS, 5);
        annex_index *index = build(&rows, ANNEX_FLAT, ANNEX_RAW_BF16);
        struct table table = {&rows, index};
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT, fetching = options;
        fetching.fetch = fetch;
        fetching.fetch_context = &table;
        for (size_t q = 0; q < QUERIES; q++) {
            annex_hit a[K], b[K];
            memset(a, 0, sizeof a);
            memset(b, 0, sizeof b);
            search(index, rows_at(&rows, q), &options, a);
            search(index, rows_at(&rows, q), &fetching, b);
            assert_memory_equal(a, b, sizeof a);
        }
        annex_index_close(index);
        rows_free(&rows);
    }
}

static void build__what_halves_cannot_be__is_refused(void **state)
{
    (void)state;
    annex_env env = annex_env_default();
    annex_error error = {0};
    struct rows rows = rows_make(ANNEX_L2, D, 50, SHAPE_GAUSSIAN, 6);
    annex_index *index = build(&rows, ANNEX_FLAT, ANNEX_RAW_F16);
    float kept = rows_vector(&rows, 7)[3];
    rows_vector(&rows, 7)[3] = -65536;
    annex_batch batch = rows_batch(&rows, 7, 1);
    assert_int_equal(annex_index_update(index, &batch, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "key 7 has an element beyond 65504"));
    annex_index_close(index);
    annex_rows source = rows_source(&rows);
    annex_build_options options = rows_options(&rows);
    options.raw = ANNEX_RAW_F16;
    assert_int_equal(annex_build(&env, &options, &source, NULL, &index, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "key 7 has an element beyond 65504"));
    annex_index_close(build(&rows, ANNEX_FLAT, ANNEX_RAW_BF16));
    rows_vector(&rows, 7)[3] = kept;
    options.raw = (annex_raw)5;
    assert_int_equal(annex_build(&env, &options, &source, NULL, &index, &error), ANNEX_INVALID);
    rows_free(&rows);
    rows = rows_make(ANNEX_HAMMING, D, 50, SHAPE_GAUSSIAN, 6);
    source = rows_source(&rows);
    options = rows_options(&rows);
    options.raw = ANNEX_RAW_F16;
    assert_int_equal(annex_build(&env, &options, &source, NULL, &index, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "hamming are bits"));
    rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search__every_metric_and_family__is_of_the_rounded_vectors),
        cmocka_unit_test(search__rows_rounded_before__gives_the_same_bits),
        cmocka_unit_test(change__insert_save_and_open__rounds_as_the_build_does),
        cmocka_unit_test(search__vectors_from_outside__are_rounded_too),
        cmocka_unit_test(build__what_halves_cannot_be__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
