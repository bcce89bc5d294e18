/*
 * test_rotation.c - a rotation keeps lengths and angles, comes back, spreads what is concentrated,
 * and is the same for the same seed only.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "quant/codec.h"
#include "quant/rotation.h"
#include "rows.h"

static const uint32_t dimensions[] = {1,   2,   3,   5,   8,   9,    31,  64,
                                      100, 128, 257, 384, 768, 1500, 4097};

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * b[i];
    }
    return sum;
}

static void rotated__lengths_and_products__stay_what_they_were(void **state)
{
    (void)state;
    for (size_t d = 0; d < ARRAY_LENGTH(dimensions); d++) {
        uint32_t n = dimensions[d];
        struct rotation rotation = rotation_make(7, n);
        struct rows rows = rows_make(ANNEX_L2, n, 2, SHAPE_GAUSSIAN, n);
        float *a = calloc(2 * (size_t)n, sizeof *a), *b = a + n;
        rotation_apply(&rotation, rows_at(&rows, 0), a);
        rotation_apply(&rotation, rows_at(&rows, 1), b);
        double length = dot(rows_at(&rows, 0), rows_at(&rows, 0), n);
        double other = dot(rows_at(&rows, 1), rows_at(&rows, 1), n);
        assert_true(fabs(dot(a, a, n) - length) <= 2e-6 * length);
        assert_true(fabs(dot(a, b, n) - dot(rows_at(&rows, 0), rows_at(&rows, 1), n)) <=
                    2e-6 * sqrt(length * other));
        free(a);
        rows_free(&rows);
    }
}

static void rotated__undone_in_place__is_the_vector_again(void **state)
{
    (void)state;
    for (size_t d = 0; d < ARRAY_LENGTH(dimensions); d++) {
        uint32_t n = dimensions[d];
        struct rotation rotation = rotation_make(8, n);
        struct rows rows = rows_make(ANNEX_L2, n, 1, SHAPE_HEAVY, n);
        const float *given = rows_at(&rows, 0);
        double length = sqrt(dot(given, given, n));
        float *x = malloc(n * sizeof *x);
        memcpy(x, given, n * sizeof *x);
        rotation_apply(&rotation, x, x);
        rotation_undo(&rotation, x, x);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(fabs((double)x[i] - given[i]) <= 2e-6 * length);
        }
        free(x);
        rows_free(&rows);
    }
}

static void one_hot__rotated__spreads_over_all_elements(void **state)
{
    static const uint32_t wide[] = {64, 100, 384, 768, 1000, 1536};
    (void)state;
    for (size_t d = 0; d < ARRAY_LENGTH(wide); d++) {
        uint32_t n = wide[d];
        struct rotation rotation = rotation_make(9, n);
        float *x = malloc(n * sizeof *x);
        for (uint32_t hot = 0; hot < n; hot += 7) {
            for (uint32_t i = 0; i < n; i++) {
                x[i] = i == hot;
            }
            rotation_apply(&rotation, x, x);
            for (uint32_t i = 0; i < n; i++) {
                /* six standard deviations of an even spread */
                assert_true(fabsf(x[i]) <= 6 / sqrtf((float)n));
            }
        }
        free(x);
    }
}

static void rotation__same_seed__same_bits_and_another_seed__others(void **state)
{
    (void)state;
    struct rotation one = rotation_make(1, 300), again = rotation_make(1, 300);
    struct rotation two = rotation_make(2, 300);
    float given[300], a[300], b[300], c[300];
    for (int i = 0; i < 300; i++) {
        given[i] = (float)(i * i % 251 - 125);
    }
    rotation_apply(&one, given, a);
    rotation_apply(&again, given, b);
    rotation_apply(&two, given, c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    /* Files depend on these bits: they are the same for every compiler and processor. */
    assert_true(hash_bytes(a, sizeof a, 0) == UINT64_C(0x7a086b3d3b81f550));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotated__lengths_and_products__stay_what_they_were),
        cmocka_unit_test(rotated__undone_in_place__is_the_vector_again),
        cmocka_unit_test(one_hot__rotated__spreads_over_all_elements),
        cmocka_unit_test(rotation__same_seed__same_bits_and_another_seed__others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
