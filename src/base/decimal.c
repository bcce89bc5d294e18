/*
 * decimal.c - the f32 nearest to a decimal number, and the shortest decimal for an f32.
 *
 * Reading takes two steps. A double estimate, one multiplication or division by a power of ten, is
 * off by less than ESTIMATE_ULPS units in its last place. A double has 29 bits more than an f32, so
 * the estimate decides unless it lies that close to the middle between two f32 - for texts that
 * were written from an f32 or a double, practically never. Then big integers decide exactly.
 * Subnormal results always take the exact way.
 *
 * Writing searches the least number of digits, 1 to 9, that read back; 9 always do (IEEE 754).
 *
 * Invariant: a struct number stands for digits.more x 10^exponent, where `more` are the digits of
 * the text that did not fit, in front of `more_end`; it may contain the decimal point.
 */
#include "base/decimal.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/base.h"

/* Rounding of the digits, of the power and of the operation, half an ulp to one ulp each. */
#define ESTIMATE_ULPS 4
#define NUMBER_DIGITS 19 /* decimal digits that fit 64 bits */
/* The middle of two f32 has at most 112 significant digits; digits after these only break a tie. */
#define EXACT_DIGITS 128
/* Explicit exponents are clamped here: beyond any text's number of digits, far from overflow. */
#define EXPONENT_LIMIT INT64_C(100000000000000000)
#define LEAST_EXPONENT (-65) /* 10^19 x 10^-66 is below half of the least subnormal, 7e-46 */
#define INFINITE_EXPONENT 39

struct number {
    uint64_t digits;
    int64_t exponent;
    const char *more;
    const char *more_end;
};

static const double powers_of_ten[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
    1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27,
    1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41,
    1e42, 1e43, 1e44, 1e45, 1e46, 1e47, 1e48, 1e49, 1e50, 1e51, 1e52, 1e53, 1e54, 1e55,
    1e56, 1e57, 1e58, 1e59, 1e60, 1e61, 1e62, 1e63, 1e64, 1e65,
};

static double scale_by_ten(double value, int exponent)
{
    return exponent < 0 ? value / powers_of_ten[-exponent] : value * powers_of_ten[exponent];
}

static float float_from_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- Exact comparison -------------------------------------------------------------------------*/

/*
 * A whole number in base 2^32, lowest word first; words from `n` on are not set. The largest needed
 * is EXACT_DIGITS digits (426 bits) shifted by 150, or 25 bits times 10^174 (579 bits).
 */
struct whole {
    size_t n;
    uint32_t word[24];
};

static void whole_set(struct whole *whole, uint64_t value)
{
    whole->n = 2;
    whole->word[0] = (uint32_t)value;
    whole->word[1] = (uint32_t)(value >> 32);
}

static void whole_multiply_add(struct whole *whole, uint32_t factor, uint32_t summand)
{
    uint64_t carry = summand;

    for (size_t i = 0; i < whole->n; i++) {
        carry += (uint64_t)whole->word[i] * factor;
        whole->word[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry != 0) {
        assert(whole->n < ARRAY_LENGTH(whole->word));
        whole->word[whole->n++] = (uint32_t)carry;
    }
}

static void whole_multiply_power(struct whole *whole, uint32_t base, int64_t exponent)
{
    for (int64_t i = 0; i < exponent; i++) {
        whole_multiply_add(whole, base, 0);
    }
}

static uint32_t whole_word(const struct whole *whole, size_t i)
{
    return i < whole->n ? whole->word[i] : 0;
}

static int whole_compare(const struct whole *a, const struct whole *b)
{
    for (size_t i = MAX(a->n, b->n); i-- > 0;) {
        uint32_t x = whole_word(a, i);
        uint32_t y = whole_word(b, i);

        if (x != y) {
            return x < y ? -1 : 1;
        }
    }
    return 0;
}

/* Compares the number with middle x 2^power: negative, 0 or positive. */
static int number_compare(const struct number *number, uint64_t middle, int power)
{
    bool remainder = false;
    size_t taken = 0;
    int64_t exponent = number->exponent;
    struct whole left;
    struct whole right;
    int order;

    whole_set(&left, number->digits);
    for (const char *c = number->more; c < number->more_end; c++) {
        if (*c == '.') {
            continue;
        }
        if (taken < EXACT_DIGITS - NUMBER_DIGITS) {
            whole_multiply_add(&left, 10, (uint32_t)(*c - '0'));
            exponent--;
            taken++;
        } else {
            remainder = remainder || *c != '0';
        }
    }
    whole_set(&right, middle);
    whole_multiply_power(exponent < 0 ? &right : &left, 10, exponent < 0 ? -exponent : exponent);
    whole_multiply_power(power < 0 ? &left : &right, 2, power < 0 ? -power : power);
    order = whole_compare(&left, &right);
    return order == 0 && remainder ? 1 : order;
}

/* The nearest f32, given an estimate of it. */
static float number_nearest_exact(const struct number *number, double estimate)
{
    uint32_t bits;
    uint64_t significand;
    int power;
    int order;

    /* The f32 at or below: significand x 2^power. The answer is this one or the next. */
    if (estimate < FLT_MIN) {
        significand = (uint64_t)(estimate * 0x1p149);
        power = -149;
        bits = (uint32_t)significand;
    } else {
        significand = (uint64_t)ldexp(frexp(estimate, &power), 24);
        power -= 24;
        bits = (uint32_t)(power + 150) << 23 | ((uint32_t)significand & 0x7fffff);
    }
    order = number_compare(number, 2 * significand + 1, power - 1);
    if (order > 0 || (order == 0 && significand % 2 == 1)) {
        bits++; /* carries into the exponent, and from the largest f32 to infinity, as it should */
    }
    return float_from_bits(bits);
}

static float number_nearest(const struct number *number)
{
    const uint32_t middle = UINT32_C(1) << 28;
    double estimate;
    uint64_t bits;
    uint32_t below; /* the 29 bits that an f32 does not have */

    if (number->digits == 0 || number->exponent < LEAST_EXPONENT) {
        return 0.0f;
    }
    if (number->exponent >= INFINITE_EXPONENT) {
        return INFINITY;
    }
    estimate = scale_by_ten((double)number->digits, (int)number->exponent);
    if (estimate >= 0x1p128) {
        return INFINITY;
    }
    memcpy(&bits, &estimate, sizeof bits);
    below = (uint32_t)bits & (2 * middle - 1);
    if (estimate < FLT_MIN ||
        (below >= middle - ESTIMATE_ULPS && below <= middle + ESTIMATE_ULPS)) {
        return number_nearest_exact(number, estimate);
    }
    return (float)estimate;
}

/* ---- Text to number ---------------------------------------------------------------------------*/

static bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* Takes digits into the number while they fit, and marks where the others begin. */
static const char *number_take_digits(struct number *number, const char *c, const char *end,
                                      bool fraction)
{
    for (; c < end && is_digit(*c); c++) {
        if (number->digits < UINT64_C(1000000000000000000)) {
            number->digits = number->digits * 10 + (uint64_t)(*c - '0');
            number->exponent -= fraction;
        } else {
            if (number->more == NULL) {
                number->more = c;
            }
            number->exponent += !fraction;
        }
    }
    return c;
}

/* Reads an exponent after its "e". NULL when it has no digits. */
static const char *number_take_exponent(struct number *number, const char *c, const char *end)
{
    bool negative = c < end && *c == '-';
    int64_t exponent = 0;

    if (c < end && (*c == '-' || *c == '+')) {
        c++;
    }
    if (c == end || !is_digit(*c)) {
        return NULL;
    }
    for (; c < end && is_digit(*c); c++) {
        exponent = MIN(exponent * 10 + (*c - '0'), EXPONENT_LIMIT);
    }
    number->exponent += negative ? -exponent : exponent;
    return c;
}

size_t decimal_parse(const char *text, size_t bytes, float *value)
{
    const char *end = text + bytes;
    const char *c = text;
    bool negative = c < end && *c == '-';
    struct number number = {0};

    c += negative;
    if (c == end || !is_digit(*c)) {
        return 0;
    }
    /* JSON allows no zero in front of other digits. */
    c = *c == '0' ? c + 1 : number_take_digits(&number, c, end, false);
    if (c < end && *c == '.') {
        if (++c == end || !is_digit(*c)) {
            return 0;
        }
        c = number_take_digits(&number, c, end, true);
    }
    number.more_end = number.more == NULL ? NULL : c;
    if (c < end && (*c == 'e' || *c == 'E')) {
        c = number_take_exponent(&number, c + 1, end);
        if (c == NULL) {
            return 0;
        }
    }
    *value = number_nearest(&number);
    *value = negative ? -*value : *value;
    return (size_t)(c - text);
}

/* ---- Number to text ---------------------------------------------------------------------------*/

/* digits x 10^exponent, 1 to 9 digits, the last not 0. */
struct shortest {
    uint32_t digits;
    int exponent;
};

static bool reads_back(uint32_t digits, int exponent, float value)
{
    struct number number = {.digits = digits, .exponent = exponent};

    return number_nearest(&number) == value;
}

/* The decimal exponent of the first digit. */
static int first_digit_exponent(double value)
{
    int binary;
    int exponent;

    frexp(value, &binary);
    exponent =
        (int)floor((binary - 1) * 0.30102999566398120); /* log10(2): exact, or one too small */
    return scale_by_ten(value, -exponent) >= 10 ? exponent + 1 : exponent;
}

/*
 * Looks for `count` digits that read back, `nine_digits` being the value scaled to nine digits
 * before the point and `first` the exponent of the first of them.
 */
static bool shortest_try(float value, double nine_digits, int first, int count,
                         struct shortest *shortest)
{
    double scaled = nine_digits / powers_of_ten[9 - count];
    uint32_t below = (uint32_t)scaled;
    uint32_t nearer = scaled - below < 0.5 ? below : below + 1;
    /* At powers of two the interval that reads back is lopsided: the other one may be in it. */
    uint32_t farther = 2 * below + 1 - nearer;
    int exponent = first + 1 - count;
    bool near = reads_back(nearer, exponent, value);

    if (!near && !reads_back(farther, exponent, value)) {
        return false;
    }
    *shortest = (struct shortest){near ? nearer : farther, exponent};
    return true;
}

static struct shortest shortest_find(float value)
{
    int first = first_digit_exponent((double)value);
    double nine_digits = scale_by_ten((double)value, 8 - first);
    struct shortest shortest = {(uint32_t)(nine_digits + 0.5), first - 8};
    int too_few = 0;
    int enough = 9;

    while (enough - too_few > 1) {
        int count = (too_few + enough + 1) / 2;

        if (shortest_try(value, nine_digits, first, count, &shortest)) {
            enough = count;
        } else {
            too_few = count;
        }
    }
    while (shortest.digits % 10 == 0) {
        shortest.digits /= 10;
        shortest.exponent++;
    }
    return shortest;
}

static char *write_zeros(char *out, int n)
{
    for (int i = 0; i < n; i++) {
        *out++ = '0';
    }
    return out;
}

static char *write_digits(char *out, const char *digits, int n)
{
    memcpy(out, digits, (size_t)n);
    return out + n;
}

static char *write_exponent(char *out, int exponent)
{
    *out++ = 'e';
    if (exponent < 0) {
        *out++ = '-';
        exponent = -exponent;
    }
    if (exponent >= 10) {
        *out++ = (char)('0' + exponent / 10);
    }
    *out++ = (char)('0' + exponent % 10);
    return out;
}

/* `n` digits, the first of which counts 10^first: 0.00012, 3.25, 1200 or 1.2e-7. */
static char *write_number(char *out, const char *digits, int n, int first)
{
    if (first < -5 || first > 8) {
        *out++ = digits[0];
        if (n > 1) {
            *out++ = '.';
            out = write_digits(out, digits + 1, n - 1);
        }
        return write_exponent(out, first);
    }
    if (first < 0) {
        *out++ = '0';
        *out++ = '.';
        out = write_zeros(out, -1 - first);
        return write_digits(out, digits, n);
    }
    if (n <= first + 1) {
        out = write_digits(out, digits, n);
        return write_zeros(out, first + 1 - n);
    }
    out = write_digits(out, digits, first + 1);
    *out++ = '.';
    return write_digits(out, digits + first + 1, n - first - 1);
}

size_t decimal_format(float value, char *text)
{
    char digits[10]; /* filled from the end */
    char *first = digits + sizeof digits;
    char *out = text;
    struct shortest shortest;
    int n;

    if (!isfinite(value)) {
        memcpy(text, "null", 4);
        return 4;
    }
    if (signbit(value)) {
        *out++ = '-';
    }
    if (value == 0) {
        *out++ = '0';
        return (size_t)(out - text);
    }
    shortest = shortest_find(fabsf(value));
    for (uint32_t rest = shortest.digits; rest > 0; rest /= 10) {
        *--first = (char)('0' + rest % 10);
    }
    n = (int)(digits + sizeof digits - first);
    out = write_number(out, first, n, shortest.exponent + n - 1);
    assert(out - text <= DECIMAL_MAX_BYTES);
    return (size_t)(out - text);
}
