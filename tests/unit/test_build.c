/*
 * test_build.c - what annex_build refuses, what it makes of strange rows, and that it makes the
 * same bytes on any number of threads and any processor.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "fault.h"
#include "images.h"
#include "kernel/kernel.h"
#include "rows.h"

static annex_status try_build(struct rows *rows, const annex_build_options *options,
                              annex_error *error)
{
    struct fault fault;
    fault_init(&fault, NULL);
    annex_rows source = rows_source(rows);
    annex_index *index = NULL;
    annex_status status = annex_build(&fault.env, options, &source, NULL, &index, error);
    assert_true((status == ANNEX_OK) == (index != NULL));
    if (index) {
        annex_error found;
        annex_status check = annex_index_check(index, &found);
        if (check) {
            fail_msg("annex_index_check: %s", found.message);
        }
    }
    annex_index_close(index);
    fault_free(&fault);
    return status;
}

/* ---- what is refused -------------------------------------------------------------------------*/

static void build__not_finite_elements__are_refused_by_name(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const char *const says[] = {"is NaN", "is infinite", "is infinite"};
    for (int metric = ANNEX_L2; metric <= ANNEX_L1; metric++) {
        for (int b = 0; b < 3; b++) {
            for (int bytes = 0; bytes < 2; bytes++) {
                struct rows rows = rows_make((annex_metric)metric, 9, 100, SHAPE_GAUSSIAN, 1);
                annex_error error;
                if (bytes) {
                    rows_make_byte_keys(&rows, 1);
                }
                rows.keys[42] = -4242;
                rows_vector(&rows, 42)[8] = bad[b];
                annex_build_options options = rows_options(&rows);
                assert_int_equal(try_build(&rows, &options, &error), ANNEX_INVALID);
                assert_non_null(strstr(error.message, "element 8"));
                assert_non_null(strstr(error.message, bytes ? "key '" : "key -4242"));
                assert_non_null(strstr(error.message, says[b]));
                rows_free(&rows);
            }
        }
    }
}

static void build__vectors_too_long_for_floats__are_refused_except_under_cosine(void **state)
{
    (void)state;
    for (int metric = ANNEX_L2; metric <= ANNEX_L1; metric++) {
        struct rows rows = rows_make((annex_metric)metric, 4, 50, SHAPE_GAUSSIAN, 1);
        annex_build_options options = rows_options(&rows);
        annex_error error;
        rows_vector(&rows, 7)[1] = 2e19f;
        annex_status status = try_build(&rows, &options, &error);
        assert_int_equal(status, metric == ANNEX_COSINE ? ANNEX_OK : ANNEX_INVALID);
        if (status) {
            assert_non_null(strstr(error.message, "key 7 is too long"));
        }
        rows_free(&rows);
    }
}

static void build__two_rows_with_one_key__are_refused(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 3, 5000, SHAPE_GAUSSIAN, 1);
    annex_build_options options = rows_options(&rows);
    annex_error error;
    for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
        options.family = (annex_family)family;
        rows.keys[4999] = 17;
        assert_int_equal(try_build(&rows, &options, &error), ANNEX_INVALID);
        assert_non_null(strstr(error.message, "key 17"));
    }
    rows_free(&rows);
    rows = rows_make(ANNEX_L2, 3, 50, SHAPE_GAUSSIAN, 1);
    rows_make_byte_keys(&rows, 3);
    rows.key_ends[1] = rows.key_ends[0] = 0; /* two empty keys */
    options = rows_options(&rows);
    assert_int_equal(try_build(&rows, &options, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "key ''"));
    rows_free(&rows);
}

static void expect_invalid(struct rows *rows, const annex_build_options *options, const char *says)
{
    annex_error error = {0};
    assert_int_equal(try_build(rows, options, &error), ANNEX_INVALID);
    if (!strstr(error.message, says)) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, says);
    }
}

static void build__options_out_of_range__are_refused(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 3, 50, SHAPE_GAUSSIAN, 1);
    const annex_build_options good = rows_options(&rows);
    annex_build_options o;
    static const uint32_t degrees[] = {1, 4, 7, 12, 136, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_LENGTH(degrees); i++) {
        o = good;
        o.degree = degrees[i];
        expect_invalid(&rows, &o, "degree");
    }
    static const uint32_t efforts[] = {1, 31, 4097, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_LENGTH(efforts); i++) {
        o = good;
        o.effort = efforts[i];
        expect_invalid(&rows, &o, "effort");
    }
    o = good;
    o.struct_bytes = 0;
    expect_invalid(&rows, &o, "struct_bytes");
    o = good;
    o.metric = (annex_metric)0;
    expect_invalid(&rows, &o, "metric");
    o = good;
    o.dimension = 0;
    expect_invalid(&rows, &o, "dimension");
    o.dimension = ANNEX_MAX_DIMENSION + 1;
    expect_invalid(&rows, &o, "dimension");
    o = good;
    o.family = (annex_family)4;
    expect_invalid(&rows, &o, "family");
    o = good;
    o.raw = (annex_raw)-1;
    expect_invalid(&rows, &o, "raw");
    o = good;
    o.key_kind = (annex_key_kind)2;
    expect_invalid(&rows, &o, "key kind");
    o = good;
    o.key_kind = ANNEX_KEY_BYTES; /* and the source has none */
    expect_invalid(&rows, &o, "keys");
    rows_free(&rows);
}

static void no_order(struct rows *rows, annex_batch *batch)
{
    static uint64_t ends[3] = {9, 4, 12};
    (void)rows;
    if (batch->n) {
        batch->n = 3;
        batch->key_ends = ends;
    }
}

static void build__byte_keys_that_cannot_be__are_refused(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 3, 50, SHAPE_GAUSSIAN, 1);
    rows_make_byte_keys(&rows, 3);
    annex_build_options options = rows_options(&rows);
    rows.meddle = no_order;
    expect_invalid(&rows, &options, "key");
    rows_free(&rows);
    rows = rows_make(ANNEX_L2, 3, 1, SHAPE_GAUSSIAN, 1);
    rows_make_byte_keys(&rows, 3);
    rows.key_bytes = realloc(rows.key_bytes, 65536);
    memset(rows.key_bytes, 'x', 65536);
    rows.key_ends[0] = 65536;
    options = rows_options(&rows);
    expect_invalid(&rows, &options, "65536 bytes");
    annex_error error;
    rows.key_ends[0] = 65535;
    assert_int_equal(try_build(&rows, &options, &error), ANNEX_OK);
    rows_free(&rows);
}

static void build__memory_limit__is_kept_before_work_begins(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 64, 6000, SHAPE_GAUSSIAN, 1);
    annex_build_options options = rows_options(&rows);
    annex_error error;
    options.max_memory_bytes = 1 << 20;
    assert_int_equal(try_build(&rows, &options, &error), ANNEX_NOMEM);
    assert_int_equal(rows.passes, 1);
    options.max_memory_bytes = 1 << 30;
    assert_int_equal(try_build(&rows, &options, &error), ANNEX_OK);
    rows_free(&rows);
}

/* ---- sources that change ---------------------------------------------------------------------*/

static int change_at; /* pass whose batches are changed */
static int change_kind;

enum {
    CHANGE_VECTOR,
    CHANGE_NAN,
    CHANGE_KEY,
    CHANGE_FEWER,
    CHANGE_MORE,
    CHANGE_KEY_LENGTH,
    CHANGES
};

static void change_batch(struct rows *rows, annex_batch *batch)
{
    static int64_t keys[100];
    static uint64_t ends[100];
    static float vectors[100 * 9];
    if (rows->passes != (unsigned)change_at || batch->n != 40) {
        return;
    }
    memcpy(vectors, batch->vectors, 40 * 9 * sizeof(float));
    batch->vectors = vectors;
    if (batch->keys) {
        memcpy(keys, batch->keys, 40 * 8);
        batch->keys = keys;
    } else {
        memcpy(ends, batch->key_ends, 40 * 8);
        batch->key_ends = ends;
    }
    switch (change_kind) {
    case CHANGE_VECTOR:
        vectors[100] += 1;
        break;
    case CHANGE_NAN:
        vectors[100] = NAN;
        break;
    case CHANGE_KEY:
        keys[3] = 1000000;
        break;
    case CHANGE_FEWER:
        batch->n = 39;
        break;
    case CHANGE_MORE: /* 40 new rows behind the last */
        batch->n = 41;
        keys[40] = 777;
        ends[40] = ends[39];
        break;
    case CHANGE_KEY_LENGTH:
        for (int i = 5; i < 40; i++) {
            ends[i]--;
        }
        break;
    }
}

static void build__source_that_changes_while_it_is_read__is_refused(void **state)
{
    (void)state;
    for (int metric = ANNEX_L2; metric <= ANNEX_L1; metric++) {
        for (int bytes = 0; bytes < 2; bytes++) {
            for (change_at = 2; change_at <= 3; change_at++) {
                for (change_kind = 0; change_kind < CHANGES; change_kind++) {
                    if (change_kind == (bytes ? CHANGE_KEY : CHANGE_KEY_LENGTH) ||
                        (change_at == 3 &&
                         (change_kind == CHANGE_KEY || change_kind == CHANGE_KEY_LENGTH))) {
                        continue; /* the third pass reads vectors only */
                    }
                    struct rows rows =
                        rows_make((annex_metric)metric, 9, bytes ? 40 : 200, SHAPE_GAUSSIAN, 1);
                    if (bytes) {
                        rows_make_byte_keys(&rows, 1);
                    }
                    rows.batch = 40;
                    rows.meddle = change_batch;
                    annex_build_options options = rows_options(&rows);
                    options.family = ANNEX_GRAPH;
                    options.raw = ANNEX_RAW_KEEP;
                    expect_invalid(&rows, &options, "again");
                    rows_free(&rows);
                }
            }
        }
    }
}

static annex_status fail_next(void *context, annex_batch *batch, annex_error *error)
{
    (void)context;
    (void)batch;
    return error_set(error, ANNEX_HOST, "the table is gone");
}

static void build__source_that_fails__gives_its_error(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 3, 50, SHAPE_GAUSSIAN, 1);
    annex_build_options options = rows_options(&rows);
    annex_env env = annex_env_default();
    annex_rows source = rows_source(&rows);
    annex_index *index;
    annex_error error;
    source.next = fail_next;
    assert_int_equal(annex_build(&env, &options, &source, NULL, &index, &error), ANNEX_HOST);
    assert_string_equal(error.message, "the table is gone");
    assert_null(index);
    rows_free(&rows);
}

/* ---- strange rows ----------------------------------------------------------------------------*/

/* Builds, checks, and asks for the neighbours of some rows: numbers, all rows, itself first. */
static void check_strange(struct rows *rows, annex_family family)
{
    annex_build_options options = rows_options(rows);
    options.family = family;
    annex_index *index = rows_build(rows, &options);
    annex_error error = {0};
    annex_index_info info;
    annex_index_describe(index, &info);
    if (annex_index_check(index, &error)) {
        fail_msg("%s", error.message);
    }
    annex_hit *hits = calloc(rows->n, sizeof *hits);
    annex_search_options search = ANNEX_SEARCH_OPTIONS_INIT;
    for (int exact = 0; exact < 2; exact++) {
        search.effort = exact ? ANNEX_EFFORT_EXACT : 0;
        for (size_t q = 0; q < rows->n; q += rows->n / 7 + 1) {
            size_t found;
            assert_int_equal(
                annex_index_search(index, rows_at(rows, q), 1, 20, &search, hits, &found, NULL),
                ANNEX_OK);
            assert_int_equal(found, MIN(20, info.rows));
            double nearest = model_distance(rows->metric, rows->dimension, rows_at(rows, q),
                                            rows_at(rows, (size_t)hits[0].key));
            double itself =
                model_distance(rows->metric, rows->dimension, rows_at(rows, q), rows_at(rows, q));
            for (size_t i = 0; i < found; i++) {
                assert_false(isnan(hits[i].distance));
                assert_true(i == 0 || hits[i - 1].distance <= hits[i].distance);
            }
            assert_true(nearest <= itself + 1e-6 * (fabs(itself) + 1e-6));
        }
    }
    free(hits);
    annex_index_close(index);
}

static void build__rows_of_every_size_of_numbers__can_be_searched(void **state)
{
    (void)state;
    static const float factors[] = {1e18f, 1e15f, 1e-15f, 1e-30f, 1e-42f, 0};
    for (int metric = ANNEX_L2; metric <= ANNEX_L1; metric++) {
        for (size_t f = 0; f < ARRAY_LENGTH(factors); f++) {
            if (factors[f] == 0 && metric == ANNEX_COSINE) {
                continue;
            }
            struct rows rows = rows_make((annex_metric)metric, 5, 3000, SHAPE_GAUSSIAN, 1);
            for (size_t i = 0; i < rows.n * 5; i++) {
                float *x = rows_vector(&rows, 0) + i;
                *x = MAX(-1.5f, MIN(1.5f, *x)) * factors[f];
                *x = *x == 0 && factors[f] > 0 ? 1e-45f : *x;
            }
            check_strange(&rows, ANNEX_GRAPH);
            check_strange(&rows, ANNEX_FLAT);
            rows_free(&rows);
        }
    }
}

static void build__rows_of_strange_shapes__can_all_be_reached(void **state)
{
    (void)state;
    static const enum shape shapes[] = {SHAPE_EQUAL, SHAPE_ONE_HOT, SHAPE_SORTED, SHAPE_HEAVY};
    for (int metric = ANNEX_L2; metric <= ANNEX_L1; metric++) {
        for (size_t s = 0; s < ARRAY_LENGTH(shapes); s++) {
            struct rows rows = rows_make((annex_metric)metric, 100, 5000, shapes[s], s);
            check_strange(&rows, ANNEX_GRAPH);
            rows_free(&rows);
        }
    }
    struct rows line = rows_make(ANNEX_L2, 1, 10000, SHAPE_SORTED, 0);
    check_strange(&line, ANNEX_GRAPH);
    rows_free(&line);
    struct rows equal = rows_make(ANNEX_L2, 4, 10000, SHAPE_EQUAL, 0);
    check_strange(&equal, ANNEX_GRAPH);
    rows_free(&equal);
}

static void build__few_rows_in_a_graph__can_all_be_found(void **state)
{
    (void)state;
    for (size_t n = 0; n < 140; n = n < 70 ? n + 1 : n + 23) {
        for (int bits = 0; bits < 2; bits++) {
            struct rows rows = rows_make(bits ? ANNEX_HAMMING : ANNEX_L2, 16, n, SHAPE_GAUSSIAN, n);
            if (n) {
                check_strange(&rows, ANNEX_GRAPH);
            } else {
                annex_build_options options = rows_options(&rows);
                options.family = ANNEX_GRAPH;
                assert_int_equal(try_build(&rows, &options, NULL), ANNEX_OK);
            }
            rows_free(&rows);
        }
    }
}

static void build__zero_vectors_under_cosine__are_left_out_and_counted(void **state)
{
    (void)state;
    for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
        struct rows rows = rows_make(ANNEX_COSINE, 8, 5000, SHAPE_CLUSTERS, 1);
        for (size_t i = 0; i < rows.n; i += 3) {
            memset(rows_vector(&rows, i), 0, rows.vector_bytes);
        }
        rows.batch = 77;
        annex_build_options options = rows_options(&rows);
        options.family = (annex_family)family;
        annex_index *index = rows_build(&rows, &options);
        annex_index_info info;
        annex_index_describe(index, &info);
        assert_int_equal(info.skipped, 1667);
        assert_int_equal(info.rows, 5000 - 1667);
        assert_int_equal(annex_index_check(index, NULL), ANNEX_OK);
        uint32_t row;
        assert_int_equal(annex_index_find(index, 3, &row, NULL), ANNEX_NOT_FOUND);
        assert_int_equal(annex_index_find(index, 4, &row, NULL), ANNEX_OK);
        float vector[8];
        double distance;
        assert_int_equal(annex_index_vector(index, row, vector, NULL), ANNEX_OK);
        assert_int_equal(
            annex_distance(ANNEX_COSINE, 8, vector, rows_at(&rows, 4), &distance, NULL), ANNEX_OK);
        assert_true(distance < 1e-6);
        annex_index_close(index);
        memset(rows.vectors, 0, rows.n * rows.vector_bytes); /* all of them */
        index = rows_build(&rows, &options);
        annex_index_describe(index, &info);
        assert_int_equal(info.rows, 0);
        annex_index_close(index);
        rows_free(&rows);
    }
}

/* ---- the same bytes --------------------------------------------------------------------------*/

static char *read_all(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*bytes);
    assert_int_equal(fread(data, 1, *bytes, file), *bytes);
    fclose(file);
    return data;
}

static char *build_file(struct rows *rows, const annex_build_options *options, size_t *bytes)
{
    annex_env env = annex_env_default();
    annex_rows source = rows_source(rows);
    annex_index *index;
    annex_error error = {0};
    if (annex_build(&env, options, &source, test_path, &index, &error)) {
        fail_msg("%s", error.message);
    }
    annex_index_close(index);
    char *data = read_all(test_path, bytes);
    remove(test_path);
    return data;
}

static void build__threads_processors_and_batches__give_the_same_bytes(void **state)
{
    (void)state;
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP,      ANNEX_COSINE,
                                           ANNEX_L1, ANNEX_HAMMING, ANNEX_JACCARD};
    char *was = getenv("ANNEX_CPU") ? strdup(getenv("ANNEX_CPU")) : NULL;
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct rows rows = rows_make(metrics[m], 40, 4200, SHAPE_CLUSTERS, m);
        if (m % 2) {
            rows_make_byte_keys(&rows, m);
        }
        annex_build_options options = rows_options(&rows);
        size_t n_first, n;
        options.degree = 32;
        options.effort = 32;
        options.threads = 1;
        options.family = ANNEX_GRAPH;
        char *first = build_file(&rows, &options, &n_first);
        for (size_t t = 0; t < 5; t++) {
            const struct kernels *kernels = kernel_available(t);
            options.threads = t == 0 ? 2 : t == 1 ? 7 : t == 2 ? 0 : 1;
            rows.batch = !rows.key_ends && t > 0 ? 100 * t + 1 : 0;
            setenv("ANNEX_CPU", kernels ? kernels->name : "ref", 1);
            char *again = build_file(&rows, &options, &n);
            assert_int_equal(n, n_first);
            assert_memory_equal(first, again, n);
            free(again);
        }
        options.seed = 12345;
        char *other = build_file(&rows, &options, &n);
        assert_true(n != n_first || memcmp(first, other, n));
        free(other);
        free(first);
        rows_free(&rows);
        unsetenv("ANNEX_CPU");
    }
    if (was) {
        setenv("ANNEX_CPU", was, 1);
        free(was);
    }
}

static void build__file_and_memory__have_the_same_content(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 12, 5500, SHAPE_CLUSTERS, 3);
    annex_build_options options = rows_options(&rows);
    size_t bytes;
    char *file = build_file(&rows, &options, &bytes);
    annex_index *index = rows_build(&rows, &options);
    annex_index_info info;
    annex_index_describe(index, &info);
    assert_int_equal(info.bytes, bytes);
    assert_memory_equal(info.content, file + 56, 16); /* docs/FORMAT.md */
    annex_index_close(index);
    char *aligned = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memcpy(aligned, file, bytes);
    annex_env env = annex_env_default();
    assert_int_equal(annex_index_open_image(&env, aligned, bytes, ANNEX_INDEX_VERIFY, &index, NULL),
                     ANNEX_OK);
    assert_int_equal(annex_index_check(index, NULL), ANNEX_OK);
    annex_index_close(index);
    free(aligned);
    free(file);
    rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(build__not_finite_elements__are_refused_by_name),
        cmocka_unit_test(build__vectors_too_long_for_floats__are_refused_except_under_cosine),
        cmocka_unit_test(build__two_rows_with_one_key__are_refused),
        cmocka_unit_test(build__options_out_of_range__are_refused),
        cmocka_unit_test(build__byte_keys_that_cannot_be__are_refused),
        cmocka_unit_test(build__memory_limit__is_kept_before_work_begins),
        cmocka_unit_test(build__source_that_changes_while_it_is_read__is_refused),
        cmocka_unit_test(build__source_that_fails__gives_its_error),
        cmocka_unit_test(build__rows_of_every_size_of_numbers__can_be_searched),
        cmocka_unit_test(build__rows_of_strange_shapes__can_all_be_reached),
        cmocka_unit_test(build__few_rows_in_a_graph__can_all_be_found),
        cmocka_unit_test(build__zero_vectors_under_cosine__are_left_out_and_counted),
        cmocka_unit_test(build__threads_processors_and_batches__give_the_same_bytes),
        cmocka_unit_test(build__file_and_memory__have_the_same_content),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
