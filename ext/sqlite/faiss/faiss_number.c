/*
 * faiss_number.c - a double as Python's repr writes it: 0.1, 1e+16, NaN. The shortest decimal that
 * reads back to the same double and, of those, the nearest to it.
 *
 * Numbers from 1e-10 to 1e17, most of those in vectors, take exact arithmetic in 128 bits. For the
 * others snprintf and strtod of the C library, which are exact too, look for it; neither sees a
 * decimal point here, so that the locale does not matter.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite/faiss/faiss.h"

#define NUMBER_DIGITS 17                           /* any double reads back from so many */
#define LEAST_SHORTEST UINT64_C(10000000000000000) /* 10^16, the first number with so many */
#define MOST_FIVES 27                              /* 5^27 fits 63 bits */

__extension__ typedef unsigned __int128 wide;

/* digits x 10^exponent */
struct decimal {
    uint64_t digits;
    int exponent;
};

/* ---- Exact ------------------------------------------------------------------------------------*/

/* A number scaled by a power of ten: whole / 2^shift, and how far others read back as it. */
struct scaled {
    wide whole;
    int shift;
    wide below;
    wide above;
    bool is_closed; /* the ends of the interval read back too */
};

/* significand x 2^exponent x 10^tens. False when that cannot be said exactly here. */
static bool scaled_set(struct scaled *scaled, uint64_t significand, int exponent, int tens)
{
    uint64_t fives = 1;

    scaled->shift = 2 - exponent - tens;
    if (tens < 0 || tens > MOST_FIVES || scaled->shift < 0 || scaled->shift > 64) {
        return false;
    }
    for (int i = 0; i < tens; i++) {
        fives *= 5;
    }
    /* In quarters of the last place: at a power of two the next number below is half as far. */
    scaled->whole = (wide)significand * 4 * fives;
    scaled->above = (wide)fives * 2;
    scaled->below = (wide)fives * (significand == UINT64_C(1) << (DBL_MANT_DIG - 1) ? 1 : 2);
    scaled->is_closed = significand % 2 == 0;
    return true;
}

/* The nearest multiple of `unit`. False when no multiple reads back. */
static bool scaled_round(const struct scaled *scaled, uint64_t unit, uint64_t *rounded)
{
    uint64_t low = (uint64_t)(scaled->whole >> scaled->shift) / unit;
    wide down = scaled->whole - ((wide)(low * unit) << scaled->shift);
    wide up = ((wide)unit << scaled->shift) - down;
    bool down_reads = down < scaled->below || (down == scaled->below && scaled->is_closed);
    bool up_reads = up < scaled->above || (up == scaled->above && scaled->is_closed);
    bool is_down = down < up || (down == up && low % 2 == 0);

    *rounded = ((is_down ? down_reads : !up_reads) ? low : low + 1) * unit;
    return down_reads || up_reads;
}

/* False for numbers that are too small or too large for it. */
static bool decimal_exact(double value, struct decimal *decimal)
{
    struct scaled scaled;
    uint64_t unit = 10;
    uint64_t rounded;
    int binary;
    double fraction = frexp(value, &binary);
    uint64_t significand = (uint64_t)ldexp(fraction, DBL_MANT_DIG);
    /* The exponent of the first digit, or one less. */
    int first = (int)floor((binary - 1) * 0.30102999566398120);

    for (int tens = NUMBER_DIGITS - 1 - first; tens >= NUMBER_DIGITS - 2 - first; tens--) {
        if (!scaled_set(&scaled, significand, binary - DBL_MANT_DIG, tens)) {
            return false;
        }
        decimal->exponent = -tens;
        if (scaled.whole >> scaled.shift < LEAST_SHORTEST * 10) {
            break;
        }
    }
    if (!scaled_round(&scaled, 1, &decimal->digits)) {
        return false;
    }
    while (unit <= LEAST_SHORTEST && scaled_round(&scaled, unit, &rounded)) {
        decimal->digits = rounded;
        unit *= 10;
    }
    return true;
}

/* ---- By search --------------------------------------------------------------------------------*/

/* The nearest decimal with `n` digits. */
static struct decimal decimal_nearest(double value, int n)
{
    char text[FAISS_NUMBER_BYTES];
    struct decimal decimal = {0};
    const char *c = text;

    snprintf(text, sizeof text, "%.*e", n - 1, value);
    for (; *c != 'e'; c++) {
        if (*c >= '0' && *c <= '9') {
            decimal.digits = decimal.digits * 10 + (uint64_t)(*c - '0');
        }
    }
    decimal.exponent = (int)strtol(c + 1, NULL, 10) + 1 - n;
    return decimal;
}

static bool decimal_reads_back(const struct decimal *decimal, double value)
{
    char text[FAISS_NUMBER_BYTES];

    snprintf(text, sizeof text, "%llue%d", (unsigned long long)decimal->digits, decimal->exponent);
    return strtod(text, NULL) == value;
}

/*
 * Up to 15 digits come back from any normal double unchanged (DBL_DIG), so that shorter decimals
 * show as zeros at the end. At powers of two the next decimal may do where the nearest does not.
 */
static struct decimal decimal_search(double value)
{
    struct decimal decimal = {0};

    for (int n = value < DBL_MIN ? 1 : DBL_DIG; n <= NUMBER_DIGITS; n++) {
        decimal = decimal_nearest(value, n);
        if (decimal_reads_back(&decimal, value)) {
            break;
        }
        decimal.digits++;
        if (decimal_reads_back(&decimal, value)) {
            break;
        }
    }
    return decimal;
}

/* ---- As text ----------------------------------------------------------------------------------*/

static char *put(char *out, const char *data, size_t bytes)
{
    memcpy(out, data, bytes);
    return out + bytes;
}

/* `n` digits, the point behind the first `point`: 0.0012, 3.25, 1200.0 or 1.2e-07. */
static char *number_write(char *out, const char *digits, int n, int point)
{
    static const char zeros[] = "0000000000000000";

    if (point < -3 || point > 16) {
        *out++ = digits[0];
        if (n > 1) {
            *out++ = '.';
            out = put(out, digits + 1, (size_t)n - 1);
        }
        return out + snprintf(out, FAISS_NUMBER_BYTES - NUMBER_DIGITS - 2, "e%+03d", point - 1);
    }
    if (point <= 0) {
        out = put(out, "0.", 2);
        out = put(out, zeros, (size_t)-point);
        return put(out, digits, (size_t)n);
    }
    if (point >= n) {
        out = put(out, digits, (size_t)n);
        out = put(out, zeros, (size_t)(point - n));
        return put(out, ".0", 2);
    }
    out = put(out, digits, (size_t)point);
    *out++ = '.';
    return put(out, digits + point, (size_t)(n - point));
}

size_t faiss_number_write(double value, char text[FAISS_NUMBER_BYTES])
{
    char digits[20]; /* filled from the end */
    char *first = digits + sizeof digits;
    char *out = text;
    struct decimal decimal;
    int n;

    if (!isnan(value) && signbit(value)) {
        *out++ = '-';
        value = -value;
    }
    if (isnan(value) || isinf(value) || value == 0) {
        const char *word = isnan(value) ? "NaN" : isinf(value) ? "Infinity" : "0.0";

        return (size_t)(put(out, word, strlen(word)) - text);
    }
    if (!decimal_exact(value, &decimal)) {
        decimal = decimal_search(value);
    }
    while (decimal.digits % 10 == 0) {
        decimal.digits /= 10;
        decimal.exponent++;
    }
    for (uint64_t rest = decimal.digits; rest > 0; rest /= 10) {
        *--first = (char)('0' + rest % 10);
    }
    n = (int)(digits + sizeof digits - first);
    return (size_t)(number_write(out, first, n, n + decimal.exponent) - text);
}
