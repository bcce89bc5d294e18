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

/* What rows are coded as: q8, unless a test says otherwise. */
struct wish {
    annex_codes codes;
    bool rotated;
};
static const struct wish wishes[] = {
    {ANNEX_CODES_Q8, false},  {ANNEX_CODES_Q8, true},    {ANNEX_CODES_Q4, true},
    {ANNEX_CODES_F16, false}, {ANNEX_CODES_BF16, false}, {ANNEX_CODES_F32, false},
};

static void code_rows_as(struct coded *coded, struct rows *rows, struct wish wish)
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
    struct codec_form form = {.metric = rows->metric,
                              .dimension = rows->dimension,
                              .codes = wish.codes,
                              .rotated = wish.rotated,
                              .seed = 5};
    codec_choose(&c.codec, &form, &survey, c.center);
    codec_survey_free(&c.env, rows->dimension, &survey);
    float *work = malloc(rows->dimension * sizeof *work);
    c.codes = aligned_alloc(64, round_up((rows->n + 1) * c.codec.row_bytes, 64));
    c.errors = calloc(rows->n + 1, sizeof *c.errors);
    for (size_t i = 0; i < rows->n; i++) {
        codec_encode(&c.codec, c.units + i * rows->dimension, c.codes + i * c.codec.row_bytes, work,
                     &c.errors[i]);
    }
    free(work);
    c.query_memory = aligned_alloc(64, codec_query_bytes(&c.codec));
    *coded = c;
    codec_query_init(&coded->codec, &coded->query, c.query_memory);
}

static void code_rows(struct coded *coded, struct rows *rows)
{
    code_rows_as(coded, rows, wishes[0]);
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
static void check_bounds_of(struct coded *c, const struct rows *rows, const float *query)
{
    float *scores = calloc(rows->n + 1, sizeof *scores);
    codec_query_set(&c->query, query);
    codec_score_fine(&c->query, c->codes, NULL, rows->n, scores);
    for (size_t i = 0; i < rows->n; i++) {
        float exact = codec_exact(&c->query, c->units + i * rows->dimension);
        float lower = codec_lower(&c->query, scores[i], c->errors[i]);
        float upper = codec_upper(&c->query, scores[i], c->errors[i]);
        if (!(lower <= exact && exact <= upper)) {
            fail_msg("%s%s %s d=%u row %zu: %.9g <= %.9g <= %.9g does not hold (score %.9g, lost "
                     "%.9g)",
                     c->codec.rotated ? "rotated " : "", annex_codes_name(c->codec.codes),
                     annex_metric_name(rows->metric), rows->dimension, i, (double)lower,
                     (double)exact, (double)upper, (double)scores[i], (double)c->errors[i]);
        }
    }
    free(scores);
}

/* Of all accepted queries, under all codes. */
static void check_bounds(struct rows *rows, const struct rows *queries)
{
    for (size_t w = 0; w < ARRAY_LENGTH(wishes); w++) {
        struct coded c;
        if (!codec_allows(rows->metric, wishes[w].codes)) {
            continue;
        }
        code_rows_as(&c, rows, wishes[w]);
        for (size_t q = 0; q < queries->n; q++) {
            bool zero;
            if (codec_accepts(rows->metric, rows_at(queries, q), rows->dimension, &zero) && !zero) {
                check_bounds_of(&c, rows, rows_at(queries, q));
            }
        }
        coded_free(&c);
    }
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
    if (usable) {
        check_bounds(rows, &queries);
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
            struct rows queries = rows_make(rows.metric, rows.dimension, 1, SHAPE_GAUSSIAN, 1);
            memcpy(rows_vector(&queries, 0), rows_at(&rows, 3), rows.vector_bytes);
            check_bounds(&rows, &queries);
            rows_free(&queries);
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
        check_bounds(&rows, &far);
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

static void check_losses(annex_metric metric, struct wish wish)
{
    struct rows rows = rows_make(metric, 33, 200, SHAPE_HEAVY, 3);
    struct coded c;
    code_rows_as(&c, &rows, wish);
    for (size_t i = 0; i < rows.n; i++) {
        float vector[33];
        double squares = 0, sum = 0, norm = 0;
        codec_decode(&c.codec, c.codes + i * c.codec.row_bytes, vector);
        for (size_t j = 0; j < 33; j++) {
            double lost = (double)c.units[i * 33 + j] - vector[j];
            squares += lost * lost;
            sum += fabs(lost);
            norm += (double)c.units[i * 33 + j] * c.units[i * 33 + j];
        }
        double lost = metric == ANNEX_L1 ? sum : sqrt(squares);
        double rounding = wish.rotated ? 4e-6 * sqrt(norm) : 0;
        assert_true(fabs(lost - (double)c.errors[i]) <= 1e-3 * lost + rounding + 1e-6);
    }
    coded_free(&c);
    rows_free(&rows);
}

static void codes__any_row__say_truly_how_much_they_lose(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LENGTH(float_metrics); m++) {
        for (size_t w = 0; w < ARRAY_LENGTH(wishes); w++) {
            if (codec_allows(float_metrics[m], wishes[w].codes)) {
                check_losses(float_metrics[m], wishes[w]);
            }
        }
    }
}

static void codes__floats_that_they_have__lose_nothing_and_others_say_so(void **state)
{
    (void)state;
    static const annex_codes kinds[] = {ANNEX_CODES_F16, ANNEX_CODES_BF16, ANNEX_CODES_F32};
    for (size_t k = 0; k < ARRAY_LENGTH(kinds); k++) {
        struct rows rows = rows_make(ANNEX_L2, 21, 50, SHAPE_SIGNED, 3);
        struct rows other = rows_make(ANNEX_L2, 21, 1, SHAPE_GAUSSIAN, 4);
        struct coded c;
        float vector[21];
        scale_rows(&rows, 0.25f);
        code_rows_as(&c, &rows, (struct wish){kinds[k], false});
        assert_true(c.codec.lossless);
        for (size_t i = 0; i < rows.n; i++) {
            assert_true(c.errors[i] == 0 && codec_holds(&c.codec, rows_at(&rows, i)));
            codec_decode(&c.codec, c.codes + i * c.codec.row_bytes, vector);
            assert_memory_equal(vector, rows_at(&rows, i), sizeof vector);
        }
        assert_true(codec_holds(&c.codec, rows_at(&other, 0)) == (kinds[k] == ANNEX_CODES_F32));
        float scores[50];
        codec_query_set(&c.query, rows_at(&other, 0));
        codec_score(&c.query, c.codes, NULL, rows.n, scores);
        for (size_t i = 0; i < rows.n; i++) {
            assert_true(c.query.exact && scores[i] == codec_exact(&c.query, rows_at(&rows, i)));
        }
        coded_free(&c);
        rows_free(&rows);
        rows_free(&other);
    }
}

/* Numbers beyond 65504 share a power of two; rows that come later and are larger are clipped. */
static void f16__large_numbers__are_scaled_and_larger_ones_clipped(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 8, 20, SHAPE_GAUSSIAN, 3);
    struct coded c;
    float vector[8], work[8], lost;
    scale_rows(&rows, 1e6f);
    code_rows_as(&c, &rows, (struct wish){ANNEX_CODES_F16, false});
    assert_true(c.codec.fixed_scale > 1 &&
                exp2(round(log2((double)c.codec.fixed_scale))) == (double)c.codec.fixed_scale);
    codec_decode(&c.codec, c.codes, vector);
    assert_true(fabsf(vector[0] - rows_vector(&rows, 0)[0]) <= 1e-3f * fabsf(vector[0]));
    scale_rows(&rows, 1e6f);
    codec_encode(&c.codec, rows_at(&rows, 0), c.codes, work, &lost);
    codec_decode(&c.codec, c.codes, vector);
    for (size_t j = 0; j < 8; j++) {
        assert_true(isfinite(vector[j]));
    }
    codec_query_set(&c.query, rows_at(&rows, 1));
    float score, exact = codec_exact(&c.query, rows_at(&rows, 0));
    codec_score_fine(&c.query, c.codes, NULL, 1, &score);
    assert_true(codec_lower(&c.query, score, lost) <= exact);
    assert_true(codec_upper(&c.query, score, lost) >= exact);
    coded_free(&c);
    rows_free(&rows);
}

/* A few elements that dwarf the others leave bytes nothing to tell the others apart. */
static void q8__a_few_huge_elements__lose_less_when_rotated(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 128, 100, SHAPE_GAUSSIAN, 3);
    struct coded plain, rotated;
    for (size_t i = 0; i < rows.n; i++) {
        rows_vector(&rows, i)[17] *= 80;
    }
    code_rows_as(&plain, &rows, (struct wish){ANNEX_CODES_Q8, false});
    code_rows_as(&rotated, &rows, (struct wish){ANNEX_CODES_Q8, true});
    double sum_plain = 0, sum_rotated = 0;
    for (size_t i = 0; i < rows.n; i++) {
        sum_plain += (double)plain.errors[i];
        sum_rotated += (double)rotated.errors[i];
    }
    assert_true(sum_rotated < 0.7 * sum_plain);
    coded_free(&plain);
    coded_free(&rotated);
    rows_free(&rows);
}

/* Scores between rows are those of the vectors they stand for; ip: with the coordinate that makes
   all norms equal. */
static void score__one_row_as_the_query__agrees_with_decoded_vectors(void **state)
{
    (void)state;
    enum { N = 30, D = 150 };
    for (size_t m = 0; m < ARRAY_LENGTH(float_metrics); m++) {
        for (size_t w = 0; w < ARRAY_LENGTH(wishes); w++) {
            annex_metric metric = float_metrics[m];
            if (!codec_allows(metric, wishes[w].codes)) {
                continue;
            }
            struct rows rows = rows_make(metric, D, N, SHAPE_GAUSSIAN, 8);
            struct coded c;
            static float decoded[N][D], scores[N];
            code_rows_as(&c, &rows, wishes[w]);
            double e[N], most = (double)c.codec.max_norm * (double)c.codec.max_norm;
            for (size_t i = 0; i < N; i++) {
                codec_decode(&c.codec, c.codes + i * c.codec.row_bytes, decoded[i]);
                e[i] = sqrt(fmax(0, most - codec_squared_norm(decoded[i], D)));
            }
            codec_query_set_row(&c.query, c.codes + 4 * c.codec.row_bytes);
            codec_score(&c.query, c.codes, NULL, N, scores);
            for (size_t i = 0; i < N; i++) {
                double sum = 0, l1 = 0;
                for (size_t j = 0; j < D; j++) {
                    double apart = (double)decoded[4][j] - (double)decoded[i][j];
                    sum += apart * apart;
                    l1 += fabs(apart);
                }
                if (metric == ANNEX_IP) {
                    double norms = codec_squared_norm(decoded[4], D);
                    norms += codec_squared_norm(decoded[i], D);
                    sum += 2 * most - norms - 2 * e[4] * e[i];
                }
                double expected = metric == ANNEX_L1 ? l1 : sum, found = (double)scores[i];
                if (fabs(found - expected) > 1e-4 * (expected + sum + most)) {
                    fail_msg("%s %s row %zu: %g, not %g", annex_codes_name(wishes[w].codes),
                             annex_metric_name(metric), i, found, expected);
                }
            }
            coded_free(&c);
            rows_free(&rows);
        }
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

static void check_scores_of_every_processor(annex_metric metric, struct wish wish)
{
    struct rows rows = rows_make(metric, 129, 60, SHAPE_HEAVY, 1);
    struct codec codec;
    float *center = calloc(129, sizeof *center), work[129];
    bool q8_l1 = metric == ANNEX_L1 && wish.codes == ANNEX_CODES_Q8;
    bool bytes = wish.codes == ANNEX_CODES_Q8 || wish.codes == ANNEX_CODES_Q4;
    struct codec_form form = {.metric = metric,
                              .dimension = 129,
                              .codes = wish.codes,
                              .rotated = wish.rotated,
                              .fixed_scale = q8_l1   ? 0.1f
                                             : bytes ? 0
                                                     : 1,
                              .max_norm = 50,
                              .center = center};
    codec_restore(&codec, &form);
    float first[3][60], scores[3][60];
    for (size_t t = 0; kernel_available(t); t++) {
        codec.kernels = kernel_available(t);
        uint8_t *codes = aligned_alloc(64, round_up(60 * codec.row_bytes, 64));
        void *memory = aligned_alloc(64, codec_query_bytes(&codec));
        struct query query;
        float lost;
        codec_query_init(&codec, &query, memory);
        for (size_t i = 0; i < 60; i++) {
            codec_encode(&codec, rows_at(&rows, i), codes + i * codec.row_bytes, work, &lost);
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

static void scores__every_processor__are_the_same_bits(void **state)
{
    (void)state;
    check_scores_of_every_processor(ANNEX_HAMMING, (struct wish){ANNEX_CODES_BITS, false});
    check_scores_of_every_processor(ANNEX_JACCARD, (struct wish){ANNEX_CODES_BITS, false});
    for (size_t m = 0; m < ARRAY_LENGTH(float_metrics); m++) {
        for (size_t w = 0; w < ARRAY_LENGTH(wishes); w++) {
            bool plain = float_metrics[m] != ANNEX_L1 || !wishes[w].rotated;
            if (plain && codec_allows(float_metrics[m], wishes[w].codes)) {
                check_scores_of_every_processor(float_metrics[m], wishes[w]);
            }
        }
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
        cmocka_unit_test(codes__floats_that_they_have__lose_nothing_and_others_say_so),
        cmocka_unit_test(f16__large_numbers__are_scaled_and_larger_ones_clipped),
        cmocka_unit_test(q8__a_few_huge_elements__lose_less_when_rotated),
        cmocka_unit_test(score__one_row_as_the_query__agrees_with_decoded_vectors),
        cmocka_unit_test(score__row_that_is_the_query__is_nearest),
        cmocka_unit_test(scores__every_processor__are_the_same_bits),
        cmocka_unit_test(distance__every_metric__is_the_formula),
        cmocka_unit_test(distances__of_many_rows__are_those_of_each),
        cmocka_unit_test(distances__refused_rows__are_nan_and_a_refused_query_an_error),
        cmocka_unit_test(distance__not_finite_or_too_long__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
