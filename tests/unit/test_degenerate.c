/*
 * test_degenerate.c - data that break indexes: equal rows, duplicates, zeros, huge and tiny norms,
 * sorted input, one to three dimensions, constant columns, and every number of rows around the
 * blocks of kernels. Each is built, inserted row by row behind one row, and inserted again after
 * everything was deleted; every way must find what a scan in double precision finds, by distance.
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

enum {
    N = 4200,
    QUERIES = 40,
    K = 10,
};

#define LEAST 0.99 /* recall, where it was asked for */

/* ---- shapes ----------------------------------------------------------------------------------*/

typedef float element_function(size_t i, size_t j, uint64_t *random);
typedef void shape_function(struct rows *rows, uint64_t *random); /* alters normal rows */

static void fill(struct rows *rows, element_function *element, uint64_t *random)
{
    for (size_t i = 0; i < rows->n; i++) {
        for (size_t j = 0; j < rows->dimension; j++) {
            rows_vector(rows, i)[j] = element(i, j, random);
        }
    }
}

static float normal(size_t i, size_t j, uint64_t *random)
{
    (void)i, (void)j;
    return (float)rows_gaussian(random);
}

static float equal(size_t i, size_t j, uint64_t *random)
{
    (void)i, (void)random;
    return (float)j + 0.25f;
}

static float two_values(size_t i, size_t j, uint64_t *random)
{
    (void)random;
    return i % 3 ? 1.5f : (float)j;
}

static float one_hot(size_t i, size_t j, uint64_t *random)
{
    (void)random;
    return j == i % 16 ? 1 : 0;
}

static float sorted(size_t i, size_t j, uint64_t *random)
{
    return (float)i * 0.01f + (float)(j == 0) + 1e-3f * normal(i, j, random);
}

static float constant_columns(size_t i, size_t j, uint64_t *random)
{
    return j % 4 ? 7 : normal(i, j, random);
}

static float huge(size_t i, size_t j, uint64_t *random)
{
    return 1e15f * normal(i, j, random);
}

static float tiny(size_t i, size_t j, uint64_t *random)
{
    return 1e-12f * normal(i, j, random);
}

static float small_beside_large(size_t i, size_t j, uint64_t *random)
{
    return (j == 0 ? 1e6f : 1.0f) * normal(i, j, random);
}

static void shape_duplicates(struct rows *rows, uint64_t *random)
{
    for (size_t i = 1; i < rows->n; i++) {
        if (rows_random(random) % 10 < 3) {
            memcpy(rows_vector(rows, i), rows_at(rows, rows_random(random) % i),
                   rows->vector_bytes);
        }
    }
}

static void shape_some_zeros(struct rows *rows, uint64_t *random)
{
    (void)random;
    for (size_t i = 0; i < rows->n; i += 3) {
        memset(rows_vector(rows, i), 0, rows->vector_bytes);
    }
}

static void shape_lognormal(struct rows *rows, uint64_t *random)
{
    for (size_t i = 0; i < rows->n; i++) {
        float length = (float)exp(2 * rows_gaussian(random));
        for (size_t j = 0; j < rows->dimension; j++) {
            rows_vector(rows, i)[j] *= length;
        }
    }
}

static const struct {
    const char *name;
    element_function *element;
    shape_function *alter; /* optional */
    uint32_t dimension;
} shapes[] = {
    {"equal rows", equal, NULL, 12},
    {"two distinct rows", two_values, NULL, 12},
    {"duplicates", normal, shape_duplicates, 12},
    {"zero vectors", normal, shape_some_zeros, 12},
    {"one-hot rows", one_hot, NULL, 16},
    {"lognormal lengths", normal, shape_lognormal, 12},
    {"huge lengths", huge, NULL, 12},
    {"tiny lengths", tiny, NULL, 12},
    {"sorted rows", sorted, NULL, 12},
    {"constant columns", constant_columns, NULL, 12},
    {"one large column", small_beside_large, NULL, 12},
    {"one dimension", normal, NULL, 1},
    {"two dimensions", normal, NULL, 2},
    {"three dimensions", normal, NULL, 3},
};

/* ---- asking ----------------------------------------------------------------------------------*/

/*
 * Rows among the answers that are as near as the K nearest are, of all that should be there. Asked
 * for are rows, or what is `beside` them.
 */
static double recall_by_distance(const annex_index *index, const struct rows *rows, bool beside,
                                 struct model_hit *model)
{
    size_t met = 0, all = 0;
    uint64_t random = 9;
    float *query = malloc(rows->vector_bytes);
    for (size_t q = 0; q < QUERIES; q++) {
        annex_hit hits[K];
        size_t found;
        annex_error error = {0};
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        options.recall = 0.99;
        memcpy(query, rows_at(rows, rows_random(&random) % rows->n), rows->vector_bytes);
        for (size_t j = 0; beside && j < rows->dimension; j++) {
            query[j] *= 1 + 0.1f * (float)rows_gaussian(&random);
        }
        size_t n = model_search(rows, query, NULL, model);
        if (n == 0) {
            continue; /* a zero vector under cosine */
        }
        n = MIN(n, K);
        if (annex_index_search(index, query, 1, K, &options, hits, &found, &error)) {
            fail_msg("%s", error.message);
        }
        assert_int_equal(found, n);
        double farthest = model[n - 1].distance;
        for (size_t i = 0; i < n; i++) {
            double truly = model_distance(rows->metric, rows->dimension, query,
                                          rows_at(rows, (size_t)hits[i].key));
            met += truly <= farthest + 1e-5 * fabs(farthest) + 1e-6 * fabs(model[0].distance);
            assert_true(isfinite(hits[i].distance));
        }
        all += n;
    }
    free(query);
    return all ? (double)met / (double)all : 1;
}

static annex_index *build_family(struct rows *rows, annex_family family, size_t n)
{
    size_t all = rows->n;
    annex_build_options options = rows_options(rows);
    options.family = family;
    options.degree = 32;
    rows->n = n;
    annex_index *index = rows_build(rows, &options);
    rows->n = all;
    return index;
}

static void insert_singly(annex_index *index, const struct rows *rows, size_t first)
{
    annex_error error = {0};
    for (size_t i = first; i < rows->n; i++) {
        annex_batch batch = rows_batch(rows, i, 1);
        if (annex_index_insert(index, &batch, &error)) {
            fail_msg("%s", error.message);
        }
    }
}

static void delete_all(annex_index *index, const struct rows *rows)
{
    annex_error error = {0};
    for (size_t i = 0; i < rows->n; i++) {
        annex_batch batch = rows_batch(rows, i, 1);
        uint32_t row;
        if (annex_index_find(index, (int64_t)i, &row, NULL) == ANNEX_OK &&
            annex_index_delete(index, &batch, &error)) {
            fail_msg("%s", error.message);
        }
    }
}

/* Asks for 99 %. */
static void expect_found(const annex_index *index, const struct rows *rows, const char *what)
{
    struct model_hit *model = calloc(rows->n, sizeof *model);
    annex_error error = {0};
    if (annex_index_check(index, &error)) {
        fail_msg("%s, %s: %s", what, annex_metric_name(rows->metric), error.message);
    }
    double recall = recall_by_distance(index, rows, false, model);
    double beside = recall_by_distance(index, rows, true, model);
    if (recall < LEAST || beside < LEAST) {
        fail_msg("%s, %s: recall %.4f of rows, %.4f beside them", what,
                 annex_metric_name(rows->metric), recall, beside);
    }
    free(model);
}

/* Builds, inserts and deletes; asks each time. */
static void run(struct rows *rows, annex_family family, const char *what)
{
    annex_env env = annex_env_default();
    annex_error error = {0};
    annex_index *saved, *index = build_family(rows, family, rows->n);
    expect_found(index, rows, what);
    if (rows->n == N && rows->metric != ANNEX_L2) { /* the others with few rows: time */
        annex_index_close(index);
        return;
    }
    delete_all(index, rows);
    insert_singly(index, rows, 0);
    expect_found(index, rows, what);
    annex_index_close(index);
    index = build_family(rows, family, MIN(rows->n, 1));
    insert_singly(index, rows, MIN(rows->n, 1));
    expect_found(index, rows, what);
    assert_int_equal(annex_index_save(index, test_path, &error), ANNEX_OK);
    assert_int_equal(annex_index_open(&env, test_path, 0, &saved, &error), ANNEX_OK);
    expect_found(saved, rows, what);
    annex_index_close(index);
    annex_index_close(saved);
}

/* ---- the tests -------------------------------------------------------------------------------*/

static void run_shapes(annex_metric metric)
{
    for (size_t s = 0; s < ARRAY_LENGTH(shapes); s++) {
        struct rows rows = rows_make(metric, shapes[s].dimension, N, SHAPE_GAUSSIAN, 1);
        uint64_t random = 77 + s;
        fill(&rows, shapes[s].element, &random);
        if (shapes[s].alter) {
            shapes[s].alter(&rows, &random);
        }
        run(&rows, ANNEX_GRAPH, shapes[s].name);
        rows.n = 300;
        run(&rows, ANNEX_FLAT, shapes[s].name);
        run(&rows, ANNEX_GRAPH, shapes[s].name);
        rows_free(&rows);
    }
}

static void degenerate__l2__is_found(void **state)
{
    (void)state;
    run_shapes(ANNEX_L2);
}

static void degenerate__ip__is_found(void **state)
{
    (void)state;
    run_shapes(ANNEX_IP);
}

static void degenerate__cosine__is_found(void **state)
{
    (void)state;
    run_shapes(ANNEX_COSINE);
}

static void degenerate__l1__is_found(void **state)
{
    (void)state;
    run_shapes(ANNEX_L1);
}

/* Under l1 hundreds of sorted rows are as near to what is beside them as their codes can tell. */
static void degenerate__many_rows_of_like_codes__nearest_are_found(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L1, 12, 12000, SHAPE_GAUSSIAN, 1);
    uint64_t random = 85;
    fill(&rows, sorted, &random);
    annex_index *index = build_family(&rows, ANNEX_GRAPH, rows.n);
    expect_found(index, &rows, "many sorted rows");
    annex_index_close(index);
    rows_free(&rows);
}

static void degenerate__few_rows__are_found(void **state)
{
    (void)state;
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP, ANNEX_COSINE, ANNEX_L1};
    for (size_t n = 1; n <= 70; n++) {
        struct rows rows = rows_make(metrics[n % 4], 5, n, SHAPE_GAUSSIAN, n);
        run(&rows, ANNEX_GRAPH, "few rows");
        run(&rows, ANNEX_FLAT, "few rows");
        rows_free(&rows);
    }
}

/* Subnormal numbers square to zero: rows are found, in any order. */
static void degenerate__subnormal_rows__neither_hang_nor_fail(void **state)
{
    (void)state;
    for (int metric = ANNEX_L2; metric <= ANNEX_L1; metric++) {
        struct rows rows = rows_make((annex_metric)metric, 8, 300, SHAPE_GAUSSIAN, 3);
        for (size_t i = 0; i < 300 * 8; i++) {
            rows_vector(&rows, 0)[i] *= 1e-41f;
        }
        for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
            annex_index *index = build_family(&rows, (annex_family)family, 200);
            insert_singly(index, &rows, 200);
            annex_hit hits[K];
            size_t found;
            annex_error error = {0};
            assert_int_equal(annex_index_check(index, &error), ANNEX_OK);
            if (annex_index_search(index, rows_at(&rows, 7), 1, K, NULL, hits, &found, &error)) {
                fail_msg("%s", error.message);
            }
            assert_int_equal(found, K);
            delete_all(index, &rows);
            annex_index_close(index);
        }
        rows_free(&rows);
    }
}

/* No change and no search looks at all members of a ring: this would take hours. */
static void degenerate__hundred_thousand_equal_rows__change_and_answer_at_once(void **state)
{
    (void)state;
    enum { MANY = 100000 };
    struct rows rows = rows_make(ANNEX_L2, 4, MANY, SHAPE_EQUAL, 1);
    annex_index *index = build_family(&rows, ANNEX_GRAPH, MANY / 2);
    annex_error error = {0};
    annex_batch batch = rows_batch(&rows, MANY / 2, MANY / 2);
    assert_int_equal(annex_index_insert(index, &batch, &error), ANNEX_OK);
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = 32;
    for (size_t left = MANY; left > 1; left /= 2) {
        annex_hit hits[K];
        size_t found;
        for (int i = 0; i < 1000; i++) {
            assert_int_equal(
                annex_index_search(index, rows.vectors, 1, K, &options, hits, &found, &error),
                ANNEX_OK);
            assert_int_equal(found, MIN(left, K));
        }
        batch = rows_batch(&rows, MANY - left, left - left / 2);
        assert_int_equal(annex_index_delete(index, &batch, &error), ANNEX_OK);
    }
    assert_int_equal(annex_index_check(index, &error), ANNEX_OK);
    annex_index_close(index);
    rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(degenerate__l2__is_found),
        cmocka_unit_test(degenerate__ip__is_found),
        cmocka_unit_test(degenerate__cosine__is_found),
        cmocka_unit_test(degenerate__l1__is_found),
        cmocka_unit_test(degenerate__many_rows_of_like_codes__nearest_are_found),
        cmocka_unit_test(degenerate__few_rows__are_found),
        cmocka_unit_test(degenerate__subnormal_rows__neither_hang_nor_fail),
        cmocka_unit_test(degenerate__hundred_thousand_equal_rows__change_and_answer_at_once),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
