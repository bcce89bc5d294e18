/*
 * test_codec.c - what codes promise: bounds hold for every kind of number, scores do not depend on
 * the processor, lossless codes lose nothing, distances of queries and rows agree with formulas.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "quant/codec.h"
#include "rows.h"

/* A codec over some rows, the coded rows, and a query. */
struct coded {
    annex_env env;
    struct codec codec;
    float *center;
    uint8_t *codes;
    float *errors;
    float *units; /* what was coded: unit vectors under cosine */
    struct query query;
    void *query_memory;
    size_t n;
};

static void code_rows(struct coded *coded, struct rows *rows)
{
    struct coded c = {.env = annex_env_default(), .n = rows->n};
    struct codec_survey survey;
    assert_int_equal(codec_survey_new(&c.env, rows->dimension, &survey, NULL), ANNEX_OK);
    c.units = malloc((rows->n + 1) * rows->vector_bytes);
    memcpy(c.units, rows->vectors, rows->n * rows->vector_bytes);
    for (size_t i = 0; i < rows->n; i++) {
        float *unit = c.units + i * rows->dimension;
        if (rows->metric == ANNEX_COSINE) {
            codec_normalize(rows_at(rows, i), unit, rows->dimension);
        }
        codec_survey_add(&survey, rows->dimension, unit);
    }
    c.center = calloc(rows->dimension, sizeof *c.center);
    codec_choose(&c.codec, rows->metric, rows->dimension, &survey, c.center);
    codec_survey_free(&c.env, rows->dimension, &survey);
    c.codes = aligned_alloc(64, round_up((rows->n + 1) * c.codec.row_bytes, 64));
    c.errors = calloc(rows->n + 1, sizeof *c.errors);
    for (size_t i = 0; i < rows->n; i++) {
        codec_encode(&c.codec, c.units + i * rows->dimension, c.codes + i * c.codec.row_bytes,
                     &c.errors[i]);
    }
    c.query_memory = aligned_alloc(64, codec_query_bytes(&c.codec));
    *coded = c;
    codec_query_init(&coded->codec, &coded->query, c.query_memory);
}

static void coded_free(struct coded *c)
{
    free(c->center);
    free(c->codes);
    free(c->errors);
    free(c->units);
    free(c->query_memory);
}

/* Bounds hold for what codec_exact computes, and for the true order distance up to its rounding. */
static void check_bounds(struct rows *rows, const float *query)
{
    struct coded c;
    code_rows(&c, rows);
    codec_query_set(&c.query, query);
    float *scores = calloc(rows->n + 1, sizeof *scores);
    codec_score_fine(&c.query, c.codes, NULL, rows->n, scores);
    for (size_t i = 0; i < rows->n; i++) {
        float exact = codec_exact(&c.query, c.units + i * rows->dimension);
        float lower = codec_lower(&c.query, scores[i], c.errors[i]);
        float upper = codec_upper(&c.query, scores[i], c.errors[i]);
        if (!(lower <= exact && exact <= upper)) {
            fail_msg("%s d=%u row %zu: %.9g <= %.9g <= %.9g does not hold (score %.9g, lost %.9g)",
                     annex_metric_name(rows->metric), rows->dimension, i, (double)lower,
                     (double)exact, (double)upper, (double)scores[i], (double)c.errors[i]);
        }
    }
    free(scores);
    coded_free(&c);
}

static const annex_metric float_metrics[] = {ANNEX_L2, ANNEX_IP, ANNEX_COSINE, ANNEX_L1};
static const uint32_t dimensions[] = {1, 2, 3, 7, 8, 31, 64, 65, 100, 384, 1500};

static void scale_rows(struct rows *rows, float factor)
{
    for (size_t i = 0; i < rows->n * rows->dimension; i++) {
        rows_vector(rows, 0)[i] *= factor;
    }
}

/* Asks with a stranger, a row itself, and a near copy of a row. */
static void check_with_queries(struct rows *rows, float factor)
{
    struct rows queries = rows_make(rows->metric, rows->dimension, 3, SHAPE_GAUSSIAN, 99);
    bool zero, usable = true;
    scale_rows(&queries, factor);
    memcpy(rows_vector(&queries, 1), rows_at(rows, 5), rows->vector_bytes);
    for (size_t j = 0; j < rows->dimension; j++) {
        rows_vector(&queries, 2)[j] = rows_vector(rows, 6)[j] * (1 + 1e-3f * (float)(j % 3));
    }
    for (size_t i = 0; i < rows->n; i++) {
        usable = usable && codec_accepts(rows->metric, rows_at(rows, i), rows->dimension, &zero);
    }
    for (size_t q = 0; usable && q < queries.n; q++) {
        const float *query = rows_at(&queries, q);
        if (codec_accepts(rows->metric, query, rows->dimension, &zero) && !zero) {
            check_bounds(rows, query);
        }
    }
    rows_free(&queries);
}

static void bounds__every_shape_and_size_of_numbers__hold(void **state)
{
    static const float factors[] = {1, 1e-3f, 1e6f, 1e15f, 1e-18f, 1e-22f, 1e-30f, 1e-42f};
    static const enum shape shapes[] = {SHAPE_GAUSSIAN, SHAPE_CLUSTERS, SHAPE_BYTES, SHAPE_SIGNED,
                                        SHAPE_HEAVY,    SHAPE_ONE_HOT,  SHAPE_EQUAL, SHAPE_SORTED};
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(float_metrics); m++) {
        for (size_t d = 0; d < ARRAY_LENGTH(dimensions); d++) {
            for (size_t s = 0; s < ARRAY_LENGTH(shapes); s++) {
                for (size_t f = 0; f < ARRAY_LENGTH(factors); f++) {
                    struct rows rows =
                        rows_make(float_metrics[m], dimensions[d], 40, shapes[s], 7 * d + s);
                    scale_rows(&rows, factors[f]);
                    check_with_queries(&rows, factors[f]);
                    rows_free(&rows);
                }
            }
        }
    }
}

static void bounds__rows_far_from_zero_and_near_each_other__hold(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(float_metrics); m++) {
        for (size_t d = 0; d < ARRAY_LENGTH(dimensions); d++) {
            struct rows rows = rows_make(float_metrics[m], dimensions[d], 100, SHAPE_GAUSSIAN, d);
            for (size_t i = 0; i < rows.n * rows.dimension; i++) {
                rows_vector(&rows, 0)[i] = 1000 + 0.01f * rows_vector(&rows, 0)[i];
            }
            check_bounds(&rows, rows_at(&rows, 3));
            rows_free(&rows);
        }
    }
}

static void query__outside_of_all_rows__is_bounded_too(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(float_metrics); m++) {
        struct rows rows = rows_make(float_metrics[m], 40, 100, SHAPE_BYTES, 5);
        struct rows far = rows_make(float_metrics[m], 40, 1, SHAPE_HEAVY, 6);
        scale_rows(&far, 1e5f);
        check_bounds(&rows, rows_at(&far, 0));
        rows_free(&rows);
        rows_free(&far);
    }
}

static void codes__whole_numbers_within_a_byte__lose_nothing(void **state)
{
    (void)state;
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_L1, ANNEX_IP};
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        enum shape shape = metrics[m] == ANNEX_IP ? SHAPE_SIGNED : SHAPE_BYTES;
        struct rows rows = rows_make(metrics[m], 70, 50, shape, 11);
        struct coded c;
        code_rows(&c, &rows);
        float vector[70];
        assert_true(c.codec.lossless);
        for (size_t i = 0; i < rows.n; i++) {
            assert_true(c.errors[i] == 0);
            codec_decode(&c.codec, c.codes + i * c.codec.row_bytes, vector);
            assert_memory_equal(vector, rows_at(&rows, i), sizeof vector);
        }
        codec_query_set(&c.query, rows_at(&rows, 0));
        assert_true(c.query.exact);
        float scores[50];
        codec_score(&c.query, c.codes, NULL, rows.n, scores);
        for (size_t i = 0; i < rows.n; i++) {
            assert_true(scores[i] == codec_exact(&c.query, rows_at(&rows, i)));
        }
        coded_free(&c);
        rows_free(&rows);
    }
}

static void codes__any_row__say_truly_how_much_they_lose(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(float_metrics); m++) {
        struct rows rows = rows_make(float_metrics[m], 33, 200, SHAPE_HEAVY, 3);
        struct coded c;
        code_rows(&c, &rows);
        for (size_t i = 0; i < rows.n; i++) {
            float vector[33];
            double squares = 0, sum = 0;
            codec_decode(&c.codec, c.codes + i * c.codec.row_bytes, vector);
            for (size_t j = 0; j < 33; j++) {
                double lost = (double)c.units[i * 33 + j] - vector[j];
                squares += lost * lost;
                sum += fabs(lost);
            }
            double lost = float_metrics[m] == ANNEX_L1 ? sum : sqrt(squares);
            assert_true(fabs(lost - (double)c.errors[i]) <= 1e-3 * lost + 1e-6);
        }
        coded_free(&c);
        rows_free(&rows);
    }
}

/* A score of -5 from a coarse query is no reason to call a row at distance 0 far away. */
static void score__row_that_is_the_query__is_nearest(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 300, 400, SHAPE_CLUSTERS, 21);
    struct coded c;
    code_rows(&c, &rows);
    float scores[400];
    for (size_t q = 0; q < rows.n; q++) {
        codec_query_set(&c.query, rows_at(&rows, q));
        codec_score_fine(&c.query, c.codes, NULL, rows.n, scores);
        for (size_t i = 0; i < rows.n; i++) {
            assert_true(scores[i] >= 0);
            assert_true(i == q || scores[q] <= scores[i]);
        }
    }
    coded_free(&c);
    rows_free(&rows);
}

static void scores__every_processor__are_the_same_bits(void **state)
{
    (void)state;
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP,      ANNEX_COSINE,
                                           ANNEX_L1, ANNEX_HAMMING, ANNEX_JACCARD};
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct rows rows = rows_make(metrics[m], 129, 60, SHAPE_HEAVY, 1);
        struct codec codec;
        float *center = calloc(129, sizeof *center);
        codec_restore(&codec, metrics[m], 129, false, metrics[m] == ANNEX_L1 ? 0.1f : 0, 50,
                      center);
        float first[3][60], scores[3][60];
        for (size_t t = 0; kernel_available(t); t++) {
            codec.kernels = kernel_available(t);
            uint8_t *codes = aligned_alloc(64, round_up(60 * codec.row_bytes, 64));
            void *memory = aligned_alloc(64, codec_query_bytes(&codec));
            struct query query;
            float lost;
            codec_query_init(&codec, &query, memory);
            for (size_t i = 0; i < 60; i++) {
                codec_encode(&codec, rows_at(&rows, i), codes + i * codec.row_bytes, &lost);
            }
            codec_query_set(&query, rows_at(&rows, 7));
            codec_score(&query, codes, NULL, 60, scores[0]);
            codec_score_fine(&query, codes, NULL, 60, scores[1]);
            codec_query_set_row(&query, codes + 9 * codec.row_bytes);
            codec_score(&query, codes, NULL, 60, scores[2]);
            if (t == 0) {
                memcpy(first, scores, sizeof first);
            }
            assert_memory_equal(first, scores, sizeof first);
            free(codes);
            free(memory);
        }
        free(center);
        rows_free(&rows);
    }
}

static void distance__every_metric__is_the_formula(void **state)
{
    (void)state;
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP,      ANNEX_COSINE,
                                           ANNEX_L1, ANNEX_HAMMING, ANNEX_JACCARD};
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        for (size_t d = 0; d < ARRAY_LENGTH(dimensions); d++) {
            struct rows rows = rows_make(metrics[m], dimensions[d], 20, SHAPE_GAUSSIAN, d);
            for (size_t i = 1; i < rows.n; i++) {
                double found, expected = model_distance(metrics[m], dimensions[d],
                                                        rows_at(&rows, i - 1), rows_at(&rows, i));
                assert_int_equal(annex_distance(metrics[m], dimensions[d], rows_at(&rows, i - 1),
                                                rows_at(&rows, i), &found, NULL),
                                 ANNEX_OK);
                assert_true(fabs(found - expected) <= 1e-5 * (fabs(expected) + 1));
            }
            rows_free(&rows);
        }
    }
}

static void distances__of_many_rows__are_those_of_each(void **state)
{
    (void)state;
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP,      ANNEX_COSINE,
                                           ANNEX_L1, ANNEX_HAMMING, ANNEX_JACCARD};
    static const size_t sizes[] = {1, 77, 3000};
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        for (size_t d = 0; d < ARRAY_LENGTH(sizes); d++) {
            struct rows rows = rows_make(metrics[m], sizes[d], 9, SHAPE_CLUSTERS, d);
            double found[8], one;
            assert_int_equal(annex_distances(metrics[m], sizes[d], rows_at(&rows, 0),
                                             rows_at(&rows, 1), 8, found, NULL),
                             ANNEX_OK);
            for (size_t i = 0; i < 8; i++) {
                annex_distance(metrics[m], sizes[d], rows_at(&rows, 0), rows_at(&rows, i + 1), &one,
                               NULL);
                assert_memory_equal(&one, &found[i], sizeof one);
            }
            rows_free(&rows);
        }
    }
}

static void distances__refused_rows__are_nan_and_a_refused_query_an_error(void **state)
{
    (void)state;
    annex_error error;
    double found[4];
    float query[2] = {1, 2}, rows[8] = {1, 2, NAN, 2, INFINITY, 2, 1e30f, 2};
    assert_int_equal(annex_distances(ANNEX_L2, 2, query, rows, 4, found, NULL), ANNEX_OK);
    assert_true(found[0] == 0 && isnan(found[1]) && isnan(found[2]) && isnan(found[3]));
    query[1] = NAN;
    assert_int_equal(annex_distances(ANNEX_L2, 2, query, rows, 4, found, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "element 1 of the query is NaN"));
    assert_true(found[1] == 0);
}

static void distance__not_finite_or_too_long__is_refused(void **state)
{
    (void)state;
    annex_error error;
    double distance;
    float a[3] = {1, 2, 3}, b[3] = {1, NAN, 3};
    assert_int_equal(annex_distance(ANNEX_L2, 3, a, b, &distance, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "element 1 of the second vector is NaN"));
    b[1] = -INFINITY;
    assert_int_equal(annex_distance(ANNEX_IP, 3, b, a, &distance, &error), ANNEX_INVALID);
    assert_int_equal(annex_distance(ANNEX_COSINE, 3, b, a, &distance, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "element 1 of the first vector is infinite"));
    assert_true(distance == 0);
    b[1] = 1e30f; /* its square is no float */
    assert_int_equal(annex_distance(ANNEX_L2, 3, a, b, &distance, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "long"));
    assert_int_equal(annex_distance(ANNEX_COSINE, 3, a, b, &distance, &error), ANNEX_OK);
    assert_true(isfinite(distance));
    memset(b, 0, sizeof b);
    assert_int_equal(annex_distance(ANNEX_COSINE, 3, a, b, &distance, &error), ANNEX_OK);
    assert_true(isnan(distance));
    assert_int_equal(annex_distance(ANNEX_L2, 0, a, b, &distance, &error), ANNEX_INVALID);
    assert_int_equal(annex_distance((annex_metric)77, 3, a, b, &distance, &error), ANNEX_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds__every_shape_and_size_of_numbers__hold),
        cmocka_unit_test(bounds__rows_far_from_zero_and_near_each_other__hold),
        cmocka_unit_test(query__outside_of_all_rows__is_bounded_too),
        cmocka_unit_test(codes__whole_numbers_within_a_byte__lose_nothing),
        cmocka_unit_test(codes__any_row__say_truly_how_much_they_lose),
        cmocka_unit_test(score__row_that_is_the_query__is_nearest),
        cmocka_unit_test(scores__every_processor__are_the_same_bits),
        cmocka_unit_test(distance__every_metric__is_the_formula),
        cmocka_unit_test(distances__of_many_rows__are_those_of_each),
        cmocka_unit_test(distances__refused_rows__are_nan_and_a_refused_query_an_error),
        cmocka_unit_test(distance__not_finite_or_too_long__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
