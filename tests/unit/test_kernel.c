/*
 * test_kernel.c - every table of kernels this machine can run gives the bits of the reference for
 * every width, alignment, stride and kind of value; none reads or writes a byte that is not its
 * own; the reference itself is right, and as exact as its order of operations allows.
 *
 * Operands lie against pages that may not be touched, before and behind. Random data is seeded.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fence.h"
#include "kernel/kernel.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Floats */

typedef float (*float_kernel)(const float *a, const float *b, size_t n);

enum { FLOAT_KERNELS = 3, FLOATS_MAX = 4096 + 64 };

static float_kernel float_kernel_of(const struct kernels *k, int which)
{
    return which == 0 ? k->f32_dot : which == 1 ? k->f32_l2 : k->f32_l1;
}

static const char *const float_kernel_names[FLOAT_KERNELS] = {"f32_dot", "f32_l2", "f32_l1"};

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* The same bits, but one NaN is as good as another. */
static bool same_float(float a, float b)
{
    return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

static void check_floats(const float *a, const float *b, size_t n)
{
    for (int which = 0; which < FLOAT_KERNELS; which++) {
        float want = float_kernel_of(&kernels_ref, which)(a, b, n);
        const struct kernels *k;
        for (size_t t = 0; (k = kernel_available(t)); t++) {
            float got = float_kernel_of(k, which)(a, b, n);
            if (!same_float(want, got)) {
                fail_msg("%s %s, n = %zu: %a, ref says %a", k->name, float_kernel_names[which], n,
                         (double)got, (double)want);
            }
        }
    }
}

/* Against the page before, against the page behind, and at every offset within 64 bytes. */
static void check_floats_everywhere(const struct fence f[2], const float *a, const float *b,
                                    size_t n)
{
    size_t bytes = n * sizeof *a;
    for (size_t place = 0; place < 18; place++) {
        uint8_t *at[2];
        for (size_t i = 0; i < 2; i++) {
            size_t offset = (place - 2 + 5 * i) % 16 * sizeof *a;
            at[i] = place == 0 ? f[i].start : place == 1 ? f[i].end - bytes : f[i].start + offset;
        }
        memcpy(at[0], a, bytes);
        memcpy(at[1], b, bytes);
        check_floats((const float *)(const void *)at[0], (const float *)(const void *)at[1], n);
    }
}

static const size_t wide[] = {384, 385, 511, 768, 1024, 1536, 4095, 4096};
enum { NARROW = 258, WIDTHS = NARROW + sizeof wide / sizeof wide[0] };

static size_t width_of(size_t i)
{
    return i < NARROW ? i : wide[i - NARROW];
}

typedef float (*float_source)(void);

static float any_ordinary(void)
{
    return (float)((double)random_u64() / 0x1p63 - 1);
}

static float any_bits(void)
{
    uint32_t bits = (uint32_t)random_u64();
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float any_special(void)
{
    static const float special[] = {0.0f,      -0.0f,      1.0f,      -1.0f,      INFINITY,
                                    -INFINITY, NAN,        0x1p-149f, -0x1p-149f, 0x1p-126f,
                                    -0x1p-75f, 0x1.8p-75f, 3.4e38f,   -3.4e38f,   0x1p-127f};
    return special[random_u64() % COUNT(special)];
}

/* Products vanish to -0: a lane that a kernel steps once too often would become +0. */
static float any_vanishing(void)
{
    static bool negative;
    negative = !negative;
    return negative ? -0x1p-100f : 0x1p-100f;
}

static void check_floats_from(float_source source)
{
    static float a[FLOATS_MAX], b[FLOATS_MAX];
    struct fence f[2] = {fence_create(sizeof a), fence_create(sizeof b)};
    for (size_t w = 0; w < WIDTHS; w++) {
        size_t n = width_of(w);
        for (size_t i = 0; i < n; i++) {
            a[i] = source();
            b[i] = source();
        }
        check_floats_everywhere(f, a, b, n);
    }
    fence_destroy(&f[0]);
    fence_destroy(&f[1]);
}

static void f32__ordinary_values__same_bits_as_ref(void **state)
{
    (void)state;
    random_state = 1;
    check_floats_from(any_ordinary);
}

static void f32__values_of_any_size__same_bits_as_ref(void **state)
{
    (void)state;
    random_state = 2;
    check_floats_from(any_bits);
}

static void f32__nan_infinity_denormal_huge__same_bits_as_ref(void **state)
{
    (void)state;
    random_state = 3;
    for (int round = 0; round < 4; round++) {
        check_floats_from(any_special);
    }
}

static void f32__products_vanish__sign_of_zero_as_ref(void **state)
{
    (void)state;
    check_floats_from(any_vanishing);
}

/* A lane sums n / 32 terms, five additions join the lanes, a term has two roundings at most. */
static void f32__compared_with_long_double__within_the_bound_of_its_order(void **state)
{
    (void)state;
    static float a[FLOATS_MAX], b[FLOATS_MAX];
    random_state = 4;
    for (size_t w = 0; w < WIDTHS; w++) {
        size_t n = width_of(w);
        long double want[FLOAT_KERNELS] = {0}, magnitude[FLOAT_KERNELS] = {0};
        for (size_t i = 0; i < n; i++) {
            a[i] = any_ordinary();
            b[i] = any_ordinary();
            long double x = a[i], y = b[i];
            long double term[FLOAT_KERNELS] = {x * y, (x - y) * (x - y), fabsl(x - y)};
            for (int which = 0; which < FLOAT_KERNELS; which++) {
                want[which] += term[which];
                magnitude[which] += fabsl(term[which]);
            }
        }
        long double roundings = (long double)(n / 32 + 1 + 5 + 2);
        const struct kernels *k;
        for (size_t t = 0; (k = kernel_available(t)); t++) {
            for (int which = 0; which < FLOAT_KERNELS; which++) {
                long double error = fabsl(float_kernel_of(k, which)(a, b, n) - want[which]);
                long double bound = roundings * 0x1p-24L * magnitude[which] * 1.001L;
                if (error > bound) {
                    fail_msg("%s %s, n = %zu: error %Lg, bound %Lg", k->name,
                             float_kernel_names[which], n, error, bound);
                }
            }
        }
    }
}

/* Rows of bytes */

enum row_kernel { Q8_DOT, Q8_L1, BITS_XOR, BITS_AND, ROW_KERNELS };
enum { ROWS_MAX = 25, IDS_MAX = 40, ROW_BYTES_MAX = 65536, GAP_BYTES_MAX = 24 };

static const char *const row_kernel_names[ROW_KERNELS] = {"q8_dot", "q8_l1", "bits_xor",
                                                          "bits_and"};

struct row_case {
    const uint8_t *query, *rows;
    size_t stride_bytes, bytes;
    const uint32_t *ids;
    size_t n;
};

static void score(const struct kernels *k, enum row_kernel which, const struct row_case *c,
                  int32_t *out)
{
    const int8_t *signed_query = (const int8_t *)c->query;
    switch (which) {
    case Q8_DOT:
        k->q8_dot(signed_query, c->rows, c->stride_bytes, c->bytes, c->ids, c->n, out);
        break;
    case Q8_L1:
        k->q8_l1(c->query, c->rows, c->stride_bytes, c->bytes, c->ids, c->n, out);
        break;
    case BITS_XOR:
        k->bits_xor(c->query, c->rows, c->stride_bytes, c->bytes, c->ids, c->n, out);
        break;
    default:
        k->bits_and(c->query, c->rows, c->stride_bytes, c->bytes, c->ids, c->n, out);
        break;
    }
}

/* The out array too lies against a closed page. */
static void check_rows(enum row_kernel which, const struct row_case *c, const struct fence *f_out)
{
    int32_t want[IDS_MAX] = {0};
    score(&kernels_ref, which, c, want);
    int32_t *out = (int32_t *)(void *)(f_out->end - c->n * sizeof *out);
    const struct kernels *k;
    for (size_t t = 0; (k = kernel_available(t)); t++) {
        memset(f_out->start, 0x55, (size_t)(f_out->end - f_out->start));
        score(k, which, c, out);
        for (size_t i = 0; i < c->n; i++) {
            if (out[i] != want[i]) {
                fail_msg("%s %s, %zu bytes, stride %zu, row %zu of %zu%s: %d, ref says %d", k->name,
                         row_kernel_names[which], c->bytes, c->stride_bytes, i, c->n,
                         c->ids ? " by id" : "", out[i], want[i]);
            }
        }
        assert_int_equal(((uint8_t *)out)[-1], 0x55);
    }
}

typedef void (*byte_source)(void *to, size_t bytes);

/* Rows of one width, lying against either closed page, packed or with a gap, in order or by id. */
static void check_width(enum row_kernel which, size_t bytes, byte_source source)
{
    struct fence f_rows = fence_create(ROWS_MAX * (bytes + GAP_BYTES_MAX));
    struct fence f_query = fence_create(bytes);
    struct fence f_out = fence_create(IDS_MAX * sizeof(int32_t));
    static const size_t gaps[] = {0, 8, 13, GAP_BYTES_MAX};
    for (size_t g = 0; g < COUNT(gaps); g++) {
        size_t gap = gaps[g];
        size_t stride = bytes + gap, used = ROWS_MAX * stride - (bytes ? gap : stride);
        bool at_end = g % 2 == 0;
        uint8_t *rows = at_end ? f_rows.end - used : f_rows.start;
        uint8_t *query = at_end ? f_query.end - bytes : f_query.start;
        source(rows, used);
        source(query, bytes);
        uint32_t ids[IDS_MAX];
        for (size_t i = 0; i < IDS_MAX; i++) {
            ids[i] = (uint32_t)(random_u64() % ROWS_MAX);
        }
        ids[0] = ROWS_MAX - 1;
        for (size_t n = 0; n <= IDS_MAX; n = n < 20 ? n + 1 : n + 5) {
            struct row_case c = {query, rows, stride, bytes, NULL, n < ROWS_MAX ? n : ROWS_MAX};
            check_rows(which, &c, &f_out);
            c.ids = ids;
            c.n = n;
            check_rows(which, &c, &f_out);
        }
    }
    fence_destroy(&f_rows);
    fence_destroy(&f_query);
    fence_destroy(&f_out);
}

static void check_widths(enum row_kernel which, size_t multiple)
{
    static const size_t wide_bytes[] = {384, 768, 1024, 1536, 4096};
    random_state = 5 + which;
    for (size_t bytes = 0; bytes <= 320; bytes += multiple) {
        check_width(which, bytes, random_bytes);
        check_width(which, bytes, extreme_bytes);
    }
    for (size_t i = 0; i < COUNT(wide_bytes); i++) {
        check_width(which, wide_bytes[i], random_bytes);
        check_width(which, wide_bytes[i] + multiple, extreme_bytes);
    }
}

static void q8_dot__every_width_and_stride__same_as_ref(void **state)
{
    (void)state;
    check_widths(Q8_DOT, KERNEL_Q8_MULTIPLE);
}

static void q8_l1__every_width_and_stride__same_as_ref(void **state)
{
    (void)state;
    check_widths(Q8_L1, KERNEL_Q8_MULTIPLE);
}

static void bits_xor__every_width_and_stride__same_as_ref(void **state)
{
    (void)state;
    check_widths(BITS_XOR, KERNEL_BITS_MULTIPLE);
}

static void bits_and__every_width_and_stride__same_as_ref(void **state)
{
    (void)state;
    check_widths(BITS_AND, KERNEL_BITS_MULTIPLE);
}

/* The largest sums there are, known without the reference. */
static void rows__extreme_bytes_at_the_largest_width__exact_sums(void **state)
{
    (void)state;
    static const struct {
        enum row_kernel which;
        uint8_t row, query;
        int32_t each;
    } cases[] = {
        {Q8_DOT, 255, (uint8_t)-128, 255 * -128},
        {Q8_DOT, 255, 127, 255 * 127},
        {Q8_DOT, 128, (uint8_t)-128, 128 * -128},
        {Q8_DOT, 0, (uint8_t)-128, 0},
        {Q8_L1, 255, 0, 255},
        {Q8_L1, 0, 255, 255},
        {Q8_L1, 128, 127, 1},
        {BITS_XOR, 255, 0, 8},
        {BITS_XOR, 0xaa, 0x55, 8},
        {BITS_XOR, 255, 255, 0},
        {BITS_AND, 255, 255, 8},
        {BITS_AND, 0xaa, 0x55, 0},
    };
    enum { ROWS = 5 };
    static uint8_t rows[ROWS * ROW_BYTES_MAX], query[ROW_BYTES_MAX];
    for (size_t i = 0; i < COUNT(cases); i++) {
        memset(rows, cases[i].row, sizeof rows);
        memset(query, cases[i].query, sizeof query);
        struct row_case c = {query, rows, ROW_BYTES_MAX, ROW_BYTES_MAX, NULL, ROWS};
        const struct kernels *k;
        for (size_t t = 0; (k = kernel_available(t)); t++) {
            int32_t out[ROWS];
            score(k, cases[i].which, &c, out);
            for (size_t r = 0; r < ROWS; r++) {
                assert_int_equal(out[r], cases[i].each * ROW_BYTES_MAX);
            }
        }
    }
}

/* Dispatch */

static const struct kernels *best_table(void)
{
    const struct kernels *k, *best = NULL;
    for (size_t t = 0; (k = kernel_available(t)); t++) {
        best = k;
    }
    return best;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void u64_merge__every_size__same_as_sorting_everything(void **state)
{
    (void)state;
    enum { MOST = 300 };
    struct fence fence = fence_create(MOST * sizeof(uint64_t)); /* nothing behind the last place */
    uint64_t items[MOST], all[MOST];
    const struct kernels *k;
    random_state = 11;
    for (size_t t = 0; (k = kernel_available(t)); t++) {
        for (int round = 0; round < 4000; round++) {
            uint32_t n = (uint32_t)(random_u64() % (round % 8 ? 20 : 180));
            uint32_t size = (uint32_t)(random_u64() % (MOST - n));
            uint64_t *sorted = (uint64_t *)fence.end - (size + n);
            for (uint32_t i = 0; i < size + n; i++) {
                all[i] = random_u64() >> random_u64() % 60 << 12 | i; /* distinct, high bits too */
            }
            memcpy(items, all, n * sizeof *items);
            memcpy(sorted, all + n, size * sizeof *sorted);
            qsort(sorted, size, sizeof *sorted, compare_u64);
            qsort(all, size + n, sizeof *all, compare_u64);
            uint32_t lowest = size + n;
            for (uint32_t i = size + n; i-- > 0;) {
                lowest = i >= size || sorted[i] != all[i] ? i : lowest;
            }
            lowest = n ? lowest : size;
            assert_int_equal(k->u64_merge(sorted, size, items, n), lowest);
            assert_true(memcmp(sorted, all, (size + n) * sizeof *all) == 0);
        }
    }
    fence_destroy(&fence);
}

/* Lists with an end in them, with ids that come twice, of ids that are marked or not. */
static void bits_mark__any_list__same_as_ref(void **state)
{
    (void)state;
    enum { MOST = 130, LIMIT = 500, WORDS = LIMIT / 64 + 1 };
    struct fence f_ids = fence_create(MOST * sizeof(uint32_t));
    struct fence f_marks = fence_create(WORDS * sizeof(uint64_t));
    struct fence f_fresh = fence_create((MOST + KERNEL_MARK_ROOM) * sizeof(uint32_t));
    uint64_t *marks = (uint64_t *)(void *)(f_marks.end - WORDS * sizeof(uint64_t));
    uint64_t before[WORDS], want_marks[WORDS];
    uint32_t want[MOST + KERNEL_MARK_ROOM];
    random_state = 13;
    for (int round = 0; round < 4000; round++) {
        uint32_t n = (uint32_t)(random_u64() % MOST);
        uint32_t *ids = (uint32_t *)(void *)f_ids.end - n;
        uint32_t ends = round % 3 ? MOST : 20; /* one id in so many is not below the limit */
        for (uint32_t i = 0; i < n; i++) {
            bool end = random_u64() % ends == 0;
            ids[i] = end ? UINT32_MAX - (uint32_t)i : (uint32_t)(random_u64() % LIMIT);
        }
        for (size_t w = 0; w < WORDS; w++) {
            before[w] = random_u64() & (round % 2 ? random_u64() : UINT64_MAX);
        }
        memcpy(want_marks, before, sizeof before);
        uint32_t n_want = kernels_ref.bits_mark(ids, n, LIMIT, want_marks, want);
        const struct kernels *k;
        for (size_t t = 0; (k = kernel_available(t)); t++) {
            uint32_t *fresh = (uint32_t *)(void *)f_fresh.end - (n + KERNEL_MARK_ROOM);
            memcpy(marks, before, sizeof before);
            assert_int_equal(k->bits_mark(ids, n, LIMIT, marks, fresh), n_want);
            assert_memory_equal(fresh, want, n_want * sizeof *want);
            assert_memory_equal(marks, want_marks, sizeof before);
        }
    }
    fence_destroy(&f_ids);
    fence_destroy(&f_marks);
    fence_destroy(&f_fresh);
}

static void lut16_sum__every_number_of_groups__same_as_ref(void **state)
{
    (void)state;
    enum { MOST_BYTES = 16 * KERNEL_LUT_GROUPS };
    struct fence f_lut = fence_create(MOST_BYTES), f_blocks = fence_create(MOST_BYTES);
    struct fence f_sums = fence_create(KERNEL_LUT_ROWS * sizeof(uint16_t));
    uint16_t want[KERNEL_LUT_ROWS];
    uint16_t *sums = (uint16_t *)(void *)(f_sums.end - sizeof want);
    random_state = 12;
    for (size_t groups = 0; groups <= KERNEL_LUT_GROUPS; groups++) {
        bool at_end = groups % 3 != 0;
        uint8_t *lut = at_end ? f_lut.end - 16 * groups : f_lut.start;
        uint8_t *blocks = at_end ? f_blocks.end - 16 * groups : f_blocks.start;
        (groups % 2 ? random_bytes : extreme_bytes)(lut, 16 * groups);
        random_bytes(blocks, 16 * groups);
        kernels_ref.lut16_sum(lut, blocks, groups, want);
        const struct kernels *k;
        for (size_t t = 0; (k = kernel_available(t)); t++) {
            memset(sums, 0x55, sizeof want);
            k->lut16_sum(lut, blocks, groups, sums);
            if (memcmp(sums, want, sizeof want) != 0) {
                fail_msg("%s lut16_sum of %zu groups differs from ref", k->name, groups);
            }
        }
    }
    fence_destroy(&f_lut);
    fence_destroy(&f_blocks);
    fence_destroy(&f_sums);
}

/* Row r has the nibble r / 2 in each group, and the table of group g the bytes 255 - nibble. */
static void lut16_sum__most_groups_and_largest_bytes__exact_sums(void **state)
{
    (void)state;
    static uint8_t lut[16 * KERNEL_LUT_GROUPS], blocks[16 * KERNEL_LUT_GROUPS];
    for (size_t i = 0; i < sizeof lut; i++) {
        lut[i] = (uint8_t)(255 - i % 16);
        blocks[i] = (uint8_t)(i % 16 / 2 | (i % 16 / 2 + 8) << 4);
    }
    const struct kernels *k;
    for (size_t t = 0; (k = kernel_available(t)); t++) {
        uint16_t sums[KERNEL_LUT_ROWS];
        k->lut16_sum(lut, blocks, KERNEL_LUT_GROUPS, sums);
        for (size_t r = 0; r < KERNEL_LUT_ROWS; r++) {
            assert_int_equal(sums[r], (255 - r / 2) * KERNEL_LUT_GROUPS);
        }
    }
}

static void kernel_available__in_order__starts_with_ref_and_names_differ(void **state)
{
    (void)state;
    assert_ptr_equal(kernel_available(0), &kernels_ref);
    const struct kernels *a, *b;
    for (size_t i = 0; (a = kernel_available(i)); i++) {
        assert_true(a->name && a->f32_dot && a->f32_l2 && a->f32_l1 && a->q8_dot && a->q8_tile &&
                    a->q8_pick && a->q8_l1 && a->bits_xor && a->bits_and && a->lut16_sum &&
                    a->f32_hadamard && a->f32_flip && a->u64_merge && a->bits_mark);
        for (size_t j = 0; j < i; j++) {
            b = kernel_available(j);
            assert_string_not_equal(a->name, b->name);
        }
    }
}

static void kernel_table__annex_cpu__names_the_table(void **state)
{
    (void)state;
    char *before = getenv("ANNEX_CPU");
    char *saved = before ? strdup(before) : NULL;
    const struct kernels *k;
    for (size_t t = 0; (k = kernel_available(t)); t++) {
        setenv("ANNEX_CPU", k->name, 1);
        assert_ptr_equal(kernel_table(), k);
    }
    static const char *const unknown[] = {"", "AVX2", "avx", "avx5120", "no such processor"};
    for (size_t i = 0; i < COUNT(unknown); i++) {
        setenv("ANNEX_CPU", unknown[i], 1);
        assert_ptr_equal(kernel_table(), best_table());
    }
    unsetenv("ANNEX_CPU");
    assert_ptr_equal(kernel_table(), best_table());
    if (saved) {
        setenv("ANNEX_CPU", saved, 1);
    }
    free(saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32__ordinary_values__same_bits_as_ref),
        cmocka_unit_test(f32__values_of_any_size__same_bits_as_ref),
        cmocka_unit_test(f32__nan_infinity_denormal_huge__same_bits_as_ref),
        cmocka_unit_test(f32__products_vanish__sign_of_zero_as_ref),
        cmocka_unit_test(f32__compared_with_long_double__within_the_bound_of_its_order),
        cmocka_unit_test(q8_dot__every_width_and_stride__same_as_ref),
        cmocka_unit_test(q8_l1__every_width_and_stride__same_as_ref),
        cmocka_unit_test(bits_xor__every_width_and_stride__same_as_ref),
        cmocka_unit_test(bits_and__every_width_and_stride__same_as_ref),
        cmocka_unit_test(rows__extreme_bytes_at_the_largest_width__exact_sums),
        cmocka_unit_test(u64_merge__every_size__same_as_sorting_everything),
        cmocka_unit_test(bits_mark__any_list__same_as_ref),
        cmocka_unit_test(lut16_sum__every_number_of_groups__same_as_ref),
        cmocka_unit_test(lut16_sum__most_groups_and_largest_bytes__exact_sums),
        cmocka_unit_test(kernel_available__in_order__starts_with_ref_and_names_differ),
        cmocka_unit_test(kernel_table__annex_cpu__names_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
