/*
 * test_kernel_tile.c - kernels for many queries and many rows: every table gives the bits of the
 * reference for every shape, and none reads or writes a byte that is not its own.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fence.h"
#include "kernel/kernel.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum { ROW_BYTES_MAX = 65536 };

struct tile_case {
    const int8_t *queries;
    const uint8_t *rows;
    size_t query_stride_bytes, n_queries, stride_bytes, bytes, n;
    const uint32_t *ids;
};

static void check_tile(const struct tile_case *c, const struct fence *f_out)
{
    static int32_t want[2048];
    size_t cells = c->n_queries * c->n;
    assert_true(cells <= COUNT(want));
    kernels_ref.q8_tile(c->queries, c->query_stride_bytes, c->n_queries, c->rows, c->stride_bytes,
                        c->bytes, c->ids, c->n, want);
    int32_t *out = (int32_t *)(void *)(f_out->end - cells * sizeof *out);
    const struct kernels *k;
    for (size_t t = 0; (k = kernel_available(t)); t++) {
        memset(f_out->start, 0x55, (size_t)(f_out->end - f_out->start));
        k->q8_tile(c->queries, c->query_stride_bytes, c->n_queries, c->rows, c->stride_bytes,
                   c->bytes, c->ids, c->n, out);
        for (size_t i = 0; i < cells; i++) {
            if (out[i] != want[i]) {
                fail_msg("%s q8_tile, %zu bytes, query %zu of %zu, row %zu of %zu%s: %d, not %d",
                         k->name, c->bytes, i / c->n, c->n_queries, i % c->n, c->n,
                         c->ids ? " by id" : "", out[i], want[i]);
            }
        }
        assert_int_equal(((uint8_t *)out)[-1], 0x55);
    }
}

static void check_tiles_of_width(size_t bytes, size_t n_queries, size_t n, size_t gap)
{
    enum { KINDS = 2 };
    size_t stride = bytes + gap, query_stride = bytes + gap % 9;
    struct fence f_rows = fence_create(n * stride), f_queries = fence_create(n_queries * stride);
    struct fence f_out = fence_create(n_queries * n * sizeof(int32_t) + 1);
    uint32_t ids[300];
    for (int kind = 0; kind < KINDS; kind++) {
        size_t used = n * stride - gap, queries_used = n_queries * query_stride - gap % 9;
        uint8_t *rows = kind ? f_rows.start : f_rows.end - used;
        uint8_t *queries = kind ? f_queries.start : f_queries.end - queries_used;
        (kind ? extreme_bytes : random_bytes)(rows, used);
        (kind ? extreme_bytes : random_bytes)(queries, queries_used);
        for (size_t i = 0; i < n; i++) {
            ids[i] = (uint32_t)(random_u64() % n);
        }
        struct tile_case c = {
            (const int8_t *)queries, rows, query_stride, n_queries, stride, bytes, n, NULL};
        check_tile(&c, &f_out);
        c.ids = ids;
        check_tile(&c, &f_out);
    }
    fence_destroy(&f_rows);
    fence_destroy(&f_queries);
    fence_destroy(&f_out);
}

static void q8_tile__every_shape__same_as_ref(void **state)
{
    (void)state;
    static const size_t wide_bytes[] = {512, 576, 1024, 1088, 1536, 4096};
    static const size_t counts[] = {1, 15, 16, 17, 31, 33, 47, 63, 64, 65, 127, 129, 200};
    random_state = 21;
    for (size_t i = 0; i < COUNT(counts); i++) {
        for (size_t n_queries = 1; n_queries <= 9; n_queries++) {
            check_tiles_of_width(KERNEL_Q8_MULTIPLE * (i % 4 + 1), n_queries, counts[i], 8);
        }
    }
    for (size_t i = 0; i < COUNT(wide_bytes); i++) {
        check_tiles_of_width(wide_bytes[i], 5, 65 + i, 13);
        check_tiles_of_width(wide_bytes[i], 30, 3, 0);
    }
    check_tiles_of_width(ROW_BYTES_MAX, 3, 17, 8);
}

static void q8_tile__no_queries_rows_or_bytes__as_ref(void **state)
{
    (void)state;
    const int8_t queries[2 * KERNEL_Q8_MULTIPLE] = {1};
    const uint8_t rows[2 * KERNEL_Q8_MULTIPLE] = {1};
    const size_t bytes = KERNEL_Q8_MULTIPLE;
    const struct kernels *k;
    for (size_t t = 0; (k = kernel_available(t)); t++) {
        int32_t out[2] = {7, 7};
        k->q8_tile(queries, bytes, 0, rows, bytes, bytes, NULL, 2, out);
        k->q8_tile(queries, bytes, 2, rows, bytes, bytes, NULL, 0, out);
        assert_int_equal(out[0], 7);
        k->q8_tile(queries, 0, 1, rows, 0, 0, NULL, 2, out);
        assert_int_equal(out[0], 0);
        assert_int_equal(out[1], 0);
    }
}

static float any_float(bool special)
{
    static const float specials[] = {0.0f, -0.0f, 1.0f, INFINITY, -INFINITY, NAN, 3.4e38f};
    uint64_t random = random_u64();
    return special ? specials[random % COUNT(specials)] : (float)((double)random / 0x1p63 - 1);
}

/* Limits that pick nothing, everything, the scores that equal them, and one that is no number. */
static void q8_pick__every_length_and_limit__same_as_ref(void **state)
{
    (void)state;
    enum { MOST = 70 };
    struct fence f[3] = {fence_create(MOST * 4), fence_create(MOST * 4), fence_create(MOST * 4)};
    random_state = 31;
    for (size_t n = 0; n <= MOST; n++) {
        int32_t *dots = (int32_t *)(void *)f[0].end - n;
        float *scales = (float *)(void *)f[1].end - n, *biases = (float *)(void *)f[2].end - n;
        for (size_t i = 0; i < n; i++) {
            dots[i] = (int32_t)(random_u64() % 2000) - 1000;
            scales[i] = any_float(n % 5 == 4);
            biases[i] = any_float(n % 7 == 6) * 100;
        }
        float at = n ? biases[n / 2] + -2.5f * (scales[n / 2] * (float)(dots[n / 2] - 7)) : 0;
        const float limits[] = {at, -INFINITY, INFINITY, 0, 300, NAN};
        for (size_t l = 0; l < COUNT(limits); l++) {
            uint32_t want[MOST + 1], got[MOST + 1];
            uint32_t n_want =
                kernels_ref.q8_pick(dots, scales, biases, n, 7, -2.5f, limits[l], want);
            const struct kernels *k;
            for (size_t t = 0; (k = kernel_available(t)); t++) {
                assert_int_equal(k->q8_pick(dots, scales, biases, n, 7, -2.5f, limits[l], got),
                                 n_want);
                assert_memory_equal(got, want, n_want * sizeof *got);
            }
        }
    }
    for (size_t i = 0; i < COUNT(f); i++) {
        fence_destroy(&f[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q8_tile__every_shape__same_as_ref),
        cmocka_unit_test(q8_tile__no_queries_rows_or_bytes__as_ref),
        cmocka_unit_test(q8_pick__every_length_and_limit__same_as_ref),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
