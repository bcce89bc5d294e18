/*
 * test_kernel_codes.c - kernels for codes of 4 bits and of 16-bit floats: every table gives the
 * bits of the reference for every width and kind of value, and none reads behind its operands,
 * which lie against a page that may not be touched. The reference agrees with plain formulas.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/half.h"
#include "kernel/kernel.h"

/* Memory whose last byte lies before a page that ends the program when it is touched. */
struct edge {
    uint8_t *map, *end;
    size_t map_bytes;
};

static struct edge edge_create(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes / page + 1) * page;
    struct edge edge = {.map_bytes = inside + page};
    edge.map = mmap(NULL, edge.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(edge.map != MAP_FAILED);
    assert_int_equal(mprotect(edge.map, inside, PROT_READ | PROT_WRITE), 0);
    edge.end = edge.map + inside;
    return edge;
}

static void edge_destroy(struct edge *edge)
{
    munmap(edge->map, edge->map_bytes);
}

/* ---- 16-bit floats ---------------------------------------------------------------------------*/

typedef float (*half_kernel)(const float *a, const uint16_t *b, size_t n);
enum { HALF_KERNELS = 6 };
static const char *const half_names[HALF_KERNELS] = {"f16_dot",  "f16_l2",  "f16_l1",
                                                     "bf16_dot", "bf16_l2", "bf16_l1"};

static half_kernel half_kernel_of(const struct kernels *k, int which)
{
    const half_kernel all[HALF_KERNELS] = {k->f16_dot,  k->f16_l2,  k->f16_l1,
                                           k->bf16_dot, k->bf16_l2, k->bf16_l1};
    return all[which];
}

static bool same_bits(float a, float b)
{
    return half_bits(a) == half_bits(b) || (isnan(a) && isnan(b));
}

static void check_halves(const float *a, const uint16_t *b, size_t n)
{
    for (int which = 0; which < HALF_KERNELS; which++) {
        float want = half_kernel_of(&kernels_ref, which)(a, b, n);
        const struct kernels *k;
        for (size_t t = 0; (k = kernel_available(t)); t++) {
            float got = half_kernel_of(k, which)(a, b, n);
            if (!same_bits(want, got)) {
                fail_msg("%s %s, n = %zu: %a, ref says %a", k->name, half_names[which], n,
                         (double)got, (double)want);
            }
        }
    }
}

enum { LONGEST = 1100 };

/* `special`: any bits at all, so infinities, NaN, denormals and sums that vanish to -0. */
static void check_halves_of(bool special)
{
    uint64_t random = 3 + special;
    struct edge a_edge = edge_create(LONGEST * sizeof(float)), b_edge = edge_create(LONGEST * 2);
    for (size_t n = 0; n <= LONGEST; n += n < 300 ? 1 : 97) {
        float *a = (float *)(void *)(a_edge.end - n * sizeof *a);
        uint16_t *b = (uint16_t *)(void *)(b_edge.end - n * sizeof *b);
        for (size_t i = 0; i < n; i++) {
            uint64_t bits = random_next(&random);
            a[i] =
                special ? half_of_bits((uint32_t)bits) : (float)((double)(int64_t)bits * 0x1p-63);
            b[i] = special ? (uint16_t)(bits >> 32) : f16_narrow((float)(bits >> 40) * 0x1p-24f);
        }
        check_halves(a, b, n);
    }
    edge_destroy(&a_edge);
    edge_destroy(&b_edge);
}

static void halves__ordinary_values__same_bits_as_ref(void **state)
{
    (void)state;
    check_halves_of(false);
}

static void halves__any_bits__same_bits_as_ref(void **state)
{
    (void)state;
    check_halves_of(true);
}

static void halves__values_that_f16_has__same_bits_as_f32(void **state)
{
    (void)state;
    float a[777], wide[777];
    uint16_t b[777], upper[777];
    uint64_t random = 5;
    for (size_t i = 0; i < 777; i++) {
        a[i] = (float)(random_next(&random) % 2001) - 1000;
        wide[i] = (float)(random_next(&random) % 255) - 127;
        b[i] = f16_narrow(wide[i]);
        upper[i] = bf16_narrow(wide[i]);
        assert_true(f16_widen(b[i]) == wide[i] && bf16_widen(upper[i]) == wide[i]);
    }
    const struct kernels *k;
    for (size_t t = 0; (k = kernel_available(t)); t++) {
        assert_true(k->f16_dot(a, b, 777) == k->f32_dot(a, wide, 777));
        assert_true(k->f16_l2(a, b, 777) == k->f32_l2(a, wide, 777));
        assert_true(k->f16_l1(a, b, 777) == k->f32_l1(a, wide, 777));
        assert_true(k->bf16_dot(a, upper, 777) == k->f32_dot(a, wide, 777));
        assert_true(k->bf16_l2(a, upper, 777) == k->f32_l2(a, wide, 777));
        assert_true(k->bf16_l1(a, upper, 777) == k->f32_l1(a, wide, 777));
    }
}

/* ---- conversions -----------------------------------------------------------------------------*/

static void f16__every_value_widened__narrows_to_itself(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 65536; half++) {
        float wide = f16_widen((uint16_t)half);
        if (isnan(wide)) {
            assert_true(isnan(f16_widen(f16_narrow(wide))));
        } else {
            assert_int_equal(f16_narrow(wide), half);
        }
        float upper = bf16_widen((uint16_t)half);
        assert_true(isnan(upper) ? isnan(bf16_widen(bf16_narrow(upper)))
                                 : bf16_narrow(upper) == half);
    }
}

static void f16__values_between_two__round_to_nearest_and_ties_to_even(void **state)
{
    (void)state;
    for (uint16_t half = 0; half < 0x7bff; half++) {
        float low = f16_widen(half), high = f16_widen((uint16_t)(half + 1));
        float middle = low + (high - low) / 2;
        assert_int_equal(f16_narrow(middle), half % 2 ? half + 1 : half);
        assert_int_equal(f16_narrow(nextafterf(middle, 0)), half);
        assert_int_equal(f16_narrow(nextafterf(middle, INFINITY)), half + 1);
        assert_int_equal(f16_narrow(-middle), 0x8000 | (half % 2 ? half + 1 : half));
    }
    assert_int_equal(f16_narrow(65519.996f), 0x7bff);
    assert_int_equal(f16_narrow(65520), 0x7c00);
    assert_int_equal(f16_narrow(INFINITY), 0x7c00);
    assert_int_equal(bf16_narrow(half_of_bits(0x3f808000)), 0x3f80);
    assert_int_equal(bf16_narrow(half_of_bits(0x3f818000)), 0x3f82);
    assert_int_equal(bf16_narrow(half_of_bits(0x3f808001)), 0x3f81);
}

/* ---- 4 bits ----------------------------------------------------------------------------------*/

enum { ROWS = 23, IDS = 37 };

static void check_nibbles(size_t bytes, size_t gap, bool extreme, uint64_t *random)
{
    size_t stride = bytes + gap;
    struct edge rows = edge_create(ROWS * stride), query = edge_create(2 * bytes);
    uint8_t *row = rows.end - (ROWS * stride - gap), *q = query.end - 2 * bytes;
    for (uint8_t *to = row; to < rows.end; to++) {
        *to = extreme ? 0xff : (uint8_t)random_next(random);
    }
    for (uint8_t *to = q; to < query.end; to++) {
        *to = extreme ? 0x80 : (uint8_t)random_next(random);
    }
    uint32_t ids[IDS];
    for (size_t i = 0; i < IDS; i++) {
        ids[i] = (uint32_t)(random_next(random) % ROWS);
    }
    int32_t want[IDS], got[IDS];
    const struct kernels *k;
    for (size_t n = 0; n <= IDS; n++) {
        const uint32_t *some = n > ROWS || n % 2 ? ids : NULL;
        kernels_ref.q4_dot((const int8_t *)q, row, stride, bytes, some, n, want);
        for (size_t t = 0; (k = kernel_available(t)); t++) {
            memset(got, 0x55, sizeof got);
            k->q4_dot((const int8_t *)q, row, stride, bytes, some, n, got);
            assert_memory_equal(got, want, n * sizeof *got);
            assert_true(n == IDS || got[n] == 0x55555555);
        }
    }
    edge_destroy(&rows);
    edge_destroy(&query);
}

static void q4_dot__every_width_and_stride__same_as_ref(void **state)
{
    (void)state;
    uint64_t random = 9;
    for (size_t bytes = 0; bytes <= 1536; bytes += KERNEL_Q4_MULTIPLE) {
        check_nibbles(bytes, bytes % 3 ? 8 : 13, false, &random);
        check_nibbles(bytes, 8, true, &random);
    }
    check_nibbles(32768, 8, true, &random); /* the longest vectors there are: no sum overflows */
}

static void q4_dot__blocks_of_128_elements__low_halves_come_first(void **state)
{
    (void)state;
    uint8_t row[128] = {0};
    int8_t query[256] = {0};
    int32_t sum = 0;
    row[5] = 0x73;      /* elements 5 and 69 */
    row[64 + 9] = 0xf2; /* elements 137 and 201 */
    query[5] = 1;
    query[69] = -10;
    query[137] = 100;
    query[201] = -128;
    kernels_ref.q4_dot(query, row, 128, 128, NULL, 1, &sum);
    assert_int_equal(sum, 3 - 70 + 200 - 15 * 128);
}

/* ---- rotation --------------------------------------------------------------------------------*/

/* Runs a table's transform and flips of n floats that end at a page's end; reads back the bits. */
static void rotate_at_edge(const struct kernels *k, const float *from, const uint32_t *words,
                           size_t n, float *to)
{
    struct edge edge = edge_create(n * sizeof *to);
    float *x = (float *)(void *)edge.end - n;
    memcpy(x, from, n * sizeof *x);
    k->f32_flip(x, words, n);
    if ((n & (n - 1)) == 0) {
        k->f32_hadamard(x, n, 0.37f);
    }
    memcpy(to, x, n * sizeof *to);
    edge_destroy(&edge);
}

static void rotation_steps__every_length__same_bits_as_ref(void **state)
{
    (void)state;
    enum { MOST = 1024 };
    static float from[MOST], want[MOST], found[MOST];
    uint32_t words[MOST / 32];
    uint64_t random = 5;
    for (size_t n = 1; n <= MOST; n += n < 64 ? 1 : n) {
        for (size_t i = 0; i < n; i++) {
            from[i] = (float)((double)random_below(&random, 2001) / 7 - 142);
        }
        from[0] = -0.0f;
        for (size_t i = 0; i < ARRAY_LENGTH(words); i++) {
            words[i] = (uint32_t)random_next(&random);
        }
        rotate_at_edge(&kernels_ref, from, words, n, want);
        const struct kernels *k;
        for (size_t t = 0; (k = kernel_available(t)); t++) {
            rotate_at_edge(k, from, words, n, found);
            if (memcmp(found, want, n * sizeof *want) != 0) {
                fail_msg("%s differs from ref for %zu floats", k->name, n);
            }
        }
    }
}

static void f32_hadamard__two_floats__sum_and_difference(void **state)
{
    (void)state;
    float x[2] = {3, 5};
    kernels_ref.f32_hadamard(x, 2, 0.5f);
    assert_true(x[0] == 4 && x[1] == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves__ordinary_values__same_bits_as_ref),
        cmocka_unit_test(halves__any_bits__same_bits_as_ref),
        cmocka_unit_test(halves__values_that_f16_has__same_bits_as_f32),
        cmocka_unit_test(f16__every_value_widened__narrows_to_itself),
        cmocka_unit_test(f16__values_between_two__round_to_nearest_and_ties_to_even),
        cmocka_unit_test(rotation_steps__every_length__same_bits_as_ref),
        cmocka_unit_test(f32_hadamard__two_floats__sum_and_difference),
        cmocka_unit_test(q4_dot__every_width_and_stride__same_as_ref),
        cmocka_unit_test(q4_dot__blocks_of_128_elements__low_halves_come_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
