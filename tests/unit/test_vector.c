/*
 * test_vector.c - names of metrics and formats, widening, and vectors as text: against the C
 * library's strtof (in the C locale, correctly rounded by glibc), on chosen and on seeded random
 * input.
 */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/decimal.h"

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- Names and sizes --------------------------------------------------------------------------*/

static void metric_names__every_metric__read_back(void **state)
{
    (void)state;
    for (int i = ANNEX_L2; i <= ANNEX_JACCARD; i++) {
        annex_metric metric;

        assert_int_equal(annex_metric_parse(annex_metric_name((annex_metric)i), &metric, NULL),
                         ANNEX_OK);
        assert_int_equal(metric, i);
    }
    assert_null(annex_metric_name((annex_metric)0));
    assert_null(annex_metric_name((annex_metric)7));
}

static void metric_parse__other_names__are_known(void **state)
{
    annex_metric metric;

    (void)state;
    assert_int_equal(annex_metric_parse("euclidean", &metric, NULL), ANNEX_OK);
    assert_int_equal(metric, ANNEX_L2);
    assert_int_equal(annex_metric_parse("angular", &metric, NULL), ANNEX_OK);
    assert_int_equal(metric, ANNEX_COSINE);
    assert_int_equal(annex_metric_parse("dot", &metric, NULL), ANNEX_OK);
    assert_int_equal(metric, ANNEX_IP);
    assert_int_equal(annex_metric_parse("manhattan", &metric, NULL), ANNEX_OK);
    assert_int_equal(metric, ANNEX_L1);
}

static void metric_parse__unknown_name__is_refused_with_the_list(void **state)
{
    annex_metric metric = ANNEX_L2;
    annex_error error;

    (void)state;
    assert_int_equal(annex_metric_parse("L2", &metric, &error), ANNEX_INVALID);
    assert_int_equal(metric, 0);
    assert_non_null(strstr(error.message, "\"L2\""));
    assert_non_null(strstr(error.message, "cosine"));
}

static void format_names__every_format__read_back(void **state)
{
    annex_format format;
    annex_error error;

    (void)state;
    for (int i = ANNEX_FORMAT_AUTO; i <= ANNEX_F64; i++) {
        assert_int_equal(annex_format_parse(annex_format_name((annex_format)i), &format, NULL),
                         ANNEX_OK);
        assert_int_equal(format, i);
    }
    assert_null(annex_format_name((annex_format)9));
    assert_int_equal(annex_format_parse("float", &format, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "\"float\""));
}

static void vector_bytes__bits_are_packed(void **state)
{
    (void)state;
    assert_int_equal(annex_vector_bytes(ANNEX_L2, 384), 1536);
    assert_int_equal(annex_vector_bytes(ANNEX_HAMMING, 1), 1);
    assert_int_equal(annex_vector_bytes(ANNEX_HAMMING, 8), 1);
    assert_int_equal(annex_vector_bytes(ANNEX_JACCARD, 9), 2);
    assert_int_equal(annex_vector_bytes(ANNEX_JACCARD, SIZE_MAX), SIZE_MAX / 8 + 1);
}

/* ---- Widening ---------------------------------------------------------------------------------*/

/* By the definition of IEEE 754 binary16. */
static float half_by_definition(uint16_t half)
{
    int exponent = half >> 10 & 31;
    int fraction = half & 1023;
    double sign = half & 0x8000 ? -1 : 1;

    if (exponent == 31) {
        return fraction == 0 ? (float)(sign * (double)INFINITY) : NAN;
    }
    return (float)(exponent == 0 ? sign * ldexp(fraction, -24)
                                 : sign * ldexp(1024 + fraction, exponent - 25));
}

static void widen__every_f16__is_exact(void **state)
{
    static uint16_t from[65536];
    static float to[65536];

    (void)state;
    for (size_t i = 0; i < 65536; i++) {
        from[i] = (uint16_t)i;
    }
    assert_int_equal(annex_vector_widen(ANNEX_F16, from, 65536, to, NULL), ANNEX_OK);
    for (size_t i = 0; i < 65536; i++) {
        float expected = half_by_definition((uint16_t)i);

        if (isnan(expected)) {
            assert_true(isnan(to[i]));
        } else {
            assert_int_equal(bits_of(to[i]), bits_of(expected));
        }
    }
}

static void widen__other_formats__are_exact_and_need_no_alignment(void **state)
{
    static const signed char i8[] = {0, -128, -1, 0, 127};
    static const unsigned char u8[] = {0, 0, 1, 128, 255};
    static const double f64[] = {0.1, -1e300, 1e-60, 3.0};
    char shifted[64];
    float to[4];

    (void)state;
    assert_int_equal(annex_vector_widen(ANNEX_I8, i8 + 1, 4, to, NULL), ANNEX_OK);
    assert_true(to[0] == -128 && to[1] == -1 && to[2] == 0 && to[3] == 127);
    assert_int_equal(annex_vector_widen(ANNEX_U8, u8 + 1, 4, to, NULL), ANNEX_OK);
    assert_true(to[0] == 0 && to[1] == 1 && to[2] == 128 && to[3] == 255);

    memcpy(shifted + 1, f64, sizeof f64);
    assert_int_equal(annex_vector_widen(ANNEX_F64, shifted + 1, 4, to, NULL), ANNEX_OK);
    assert_true(to[0] == 0.1f && to[1] == -INFINITY && to[2] == 0 && to[3] == 3);

    memcpy(shifted + 1, "\x80\x3f\x20\xc1", 4); /* bf16: the upper halves of 1.0 and -10.0 */
    assert_int_equal(annex_vector_widen(ANNEX_BF16, shifted + 1, 2, to, NULL), ANNEX_OK);
    assert_true(to[0] == 1 && to[1] == -10);

    memcpy(shifted + 1, "\0\0\x80\x3f", 4);
    assert_int_equal(annex_vector_widen(ANNEX_F32, shifted + 1, 1, to, NULL), ANNEX_OK);
    assert_true(to[0] == 1);
}

static void widen__formats_without_numbers__are_refused(void **state)
{
    static const annex_format refused[] = {ANNEX_FORMAT_AUTO, ANNEX_BITS, ANNEX_JSON,
                                           (annex_format)99};
    annex_error error;
    float to;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(refused); i++) {
        assert_int_equal(annex_vector_widen(refused[i], "abcd", 1, &to, &error), ANNEX_INVALID);
        assert_non_null(strstr(error.message, "cannot be widened"));
    }
}

/* ---- Numbers ----------------------------------------------------------------------------------*/

static void assert_reads_as_strtof(const char *text)
{
    float value = NAN;
    float expected = strtof(text, NULL);
    size_t length = decimal_parse(text, strlen(text), &value);

    if (length != strlen(text) || bits_of(value) != bits_of(expected)) {
        fail_msg("%s: read %zu characters, %a instead of %a", text, length, (double)value,
                 (double)expected);
    }
}

static void decimal_parse__chosen_numbers__are_nearest(void **state)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "0.0",
        "-0e5",
        "0e999999999999999999999",
        "1",
        "-1",
        "10",
        "0.1",
        "1e0",
        "1E+2",
        "1e-2",
        "123456789012345678901234567890",
        "0.000000000000000000000000000000000000000000001",
        /* The largest, the middle to infinity and its neighbours. */
        "3.4028234663852886e38",
        "3.4028235677973366e38",
        "340282356779733661637539395458142568447",
        "340282356779733661637539395458142568448",
        "340282356779733661637539395458142568449",
        "1e39",
        "-1e39",
        "1e400",
        "1e99999999999999999999",
        /* Subnormals: the least, its half and beside it. */
        "1.401298464324817e-45",
        "7.006492321624085e-46",
        "7.0064923216240853e-46",
        "7.0064923216240854e-46",
        "7.006492321624085354618e-46",
        "7.0064923216240853546186479164495806564013097093825788587853e-46",
        "7.0064923216240853546186479164495806564013097093825788587853e-46",
        "1.17549435e-38",
        "1.1754943508222875e-38",
        "1.1754942807573643e-38",
        "1.1754942807573642918e-38",
        "1e-46",
        "1e-65",
        "1e-66",
        "1e-99999999999999999999",
        /* Middles between two f32, even and odd below, exact and by a hair off. */
        "16777217",
        "16777219",
        "16777217.0000000000000000000000000000000000000000000000000001",
        "16777216.999999999999999999999999999999999999999999999999999999999999999999999999999",
        "1.00000005960464477539062500",
        "1.00000005960464477539062501",
        "1.00000005960464477539062499",
        "1.00000017881393432617187500",
        "1.00000017881393432617187499",
        "1.00000017881393432617187501",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        assert_reads_as_strtof(texts[i]);
    }
}

/* The exact decimal expansion of the middle above `value`, perhaps with more digits behind. */
static void write_middle(float value, const char *more, char *text, size_t bytes)
{
    double middle = (double)value + ((double)nextafterf(value, INFINITY) - (double)value) / 2;
    int n = snprintf(text, bytes, "%.149f", middle);

    n = n < 0 ? 0 : n;
    snprintf(text + n, bytes - (size_t)n, "%s", more);
}

static void decimal_parse__middles_with_many_digits__are_decided_by_the_last(void **state)
{
    uint64_t random = 1;

    (void)state;
    for (int i = 0; i < 2000; i++) {
        float value = float_of((uint32_t)(random_next(&random) % bits_of(1e30f)));
        char text[600];

        write_middle(value, "", text, sizeof text);
        assert_reads_as_strtof(text);
        write_middle(value, "0000000000000000000000000001", text, sizeof text);
        assert_reads_as_strtof(text);
        write_middle(value, "e0", text, sizeof text);
        assert_reads_as_strtof(text);
    }
}

static void decimal_parse__random_numbers__are_nearest(void **state)
{
    uint64_t random = 2;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint64_t digits = random_next(&random) >> random_below(&random, 64);
        int exponent = (int)random_below(&random, 120) - 70;
        char text[64];

        snprintf(text, sizeof text, "%llu.%llue%d", (unsigned long long)digits,
                 (unsigned long long)random_below(&random, 1000), exponent);
        assert_reads_as_strtof(text);
        snprintf(text, sizeof text, "%.17g", (double)float_of((uint32_t)digits & 0x7f7fffff));
        if (strchr(text, '+') == NULL) {
            assert_reads_as_strtof(text);
        }
    }
}

static void decimal_parse__huge_shifts__cancel_out(void **state)
{
    enum { ZEROS = 100000 };
    static char text[ZEROS + 32];
    float value;
    int n;

    (void)state;
    n = snprintf(text, sizeof text, "0.%0*d25e%d", ZEROS, 0, ZEROS + 1);
    assert_int_equal(decimal_parse(text, (size_t)n, &value), n);
    assert_true(value == 2.5f);
    n = snprintf(text, sizeof text, "25%0*de-%d", ZEROS, 0, ZEROS + 1);
    assert_int_equal(decimal_parse(text, (size_t)n, &value), n);
    assert_true(value == 2.5f);
}

static void decimal_parse__what_is_no_json_number__is_refused(void **state)
{
    static const char *const texts[] = {"",   "-",   "+1",  ".5", "-.5", "1.",  "1.e5", "1e",
                                        "e5", "1e+", "1e-", "x",  "NaN", "inf", " 1",   "--1"};
    float value;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        assert_int_equal(decimal_parse(texts[i], strlen(texts[i]), &value), 0);
    }
    /* What follows a number is not looked at. */
    assert_int_equal(decimal_parse("01", 2, &value), 1);
    assert_int_equal(decimal_parse("1.5,2", 5, &value), 3);
    assert_int_equal(decimal_parse("1234", 2, &value), 2);
    assert_true(value == 12);
}

/* The least number of digits for which the C library's text reads back. */
static int digits_needed(float value)
{
    int digits = 1;
    char text[64];

    for (; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, (double)value);
        if (strtof(text, NULL) == value) {
            break;
        }
    }
    return digits;
}

static int digits_in(const char *text)
{
    int digits = 0;
    int zeros = 0;

    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text >= '1' && *text <= '9') {
            digits += zeros + 1;
            zeros = 0;
        } else if (*text == '0' && digits > 0) {
            zeros++;
        }
    }
    return digits;
}

static void assert_formats_shortest(float value)
{
    char text[DECIMAL_MAX_BYTES + 1];
    size_t length = decimal_format(value, text);
    float again;

    assert_in_range(length, 1, DECIMAL_MAX_BYTES);
    text[length] = '\0';
    if (bits_of(strtof(text, NULL)) != bits_of(value) ||
        decimal_parse(text, length, &again) != length || bits_of(again) != bits_of(value)) {
        fail_msg("%a was written as %s", (double)value, text);
    }
    if (value != 0 && digits_in(text) > digits_needed(value)) {
        fail_msg("%s has more digits than %.*e", text, digits_needed(value) - 1, (double)value);
    }
}

static void decimal_format__powers_of_two_and_random_f32__are_shortest(void **state)
{
    uint64_t random = 3;

    (void)state;
    for (uint32_t exponent = 0; exponent < 255; exponent++) {
        for (uint32_t fraction = 0; fraction < 3; fraction++) {
            assert_formats_shortest(float_of(exponent << 23 | fraction));
            assert_formats_shortest(float_of((exponent << 23 | 0x7fffff) - fraction));
        }
    }
    for (int i = 0; i < 100000; i++) {
        uint32_t bits = (uint32_t)random_next(&random);

        if (isfinite(float_of(bits))) {
            assert_formats_shortest(float_of(bits));
        }
    }
}

static void decimal_format__chosen_numbers__look_as_people_write_them(void **state)
{
    static const struct {
        float value;
        const char *text;
    } cases[] = {
        {0.0f, "0"},
        {-0.0f, "-0"},
        {1.0f, "1"},
        {-2.5f, "-2.5"},
        {0.1f, "0.1"},
        {1200.0f, "1200"},
        {16777216, "16777216"},
        {123456789, "123456790"},
        {1e9f, "1e9"},
        {1.5e10f, "1.5e10"},
        {0.0001f, "0.0001"},
        {0.00001f, "0.00001"},
        {1e-6f, "1e-6"},
        {1.25e-7f, "1.25e-7"},
        {FLT_MAX, "3.4028235e38"},
        {FLT_MIN, "1.1754944e-38"},
        {1e-45f, "1e-45"},
        {0.33333334f, "0.33333334"},
        {NAN, "null"},
        {-INFINITY, "null"},
        {9.5367431640625e-07f, "9.536743e-7"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        char text[DECIMAL_MAX_BYTES + 1];

        text[decimal_format(cases[i].value, text)] = '\0';
        assert_string_equal(text, cases[i].text);
    }
}

/* ---- Vectors as text --------------------------------------------------------------------------*/

static void vector_parse__arrays__are_read(void **state)
{
    static const char text[] = " [0.1,\t2 ,\r\n -3e-4 ] \n";
    float vector[3];
    size_t n;

    (void)state;
    assert_int_equal(annex_vector_parse(text, strlen(text), vector, 3, &n, NULL), ANNEX_OK);
    assert_int_equal(n, 3);
    assert_true(vector[0] == 0.1f && vector[1] == 2 && vector[2] == -3e-4f);
    assert_int_equal(annex_vector_parse(" [ ] ", 5, NULL, 0, &n, NULL), ANNEX_OK);
    assert_int_equal(n, 0);
}

static void vector_parse__more_elements_than_room__are_counted_and_checked(void **state)
{
    annex_error error;
    float vector[2] = {9, 9};
    size_t n;

    (void)state;
    assert_int_equal(annex_vector_parse("[1,2,3]", 7, vector, 1, &n, &error), ANNEX_FULL);
    assert_int_equal(n, 3);
    assert_true(vector[0] == 1 && vector[1] == 9);
    assert_non_null(strstr(error.message, "3 elements"));
    assert_int_equal(annex_vector_parse("[1,2,3]", 7, NULL, 0, &n, NULL), ANNEX_FULL);
    assert_int_equal(n, 3);
    assert_int_equal(annex_vector_parse("[1,2,x]", 7, vector, 1, &n, NULL), ANNEX_INVALID);
    assert_int_equal(n, 0);
}

static void vector_parse__anything_else__is_refused_with_the_place(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"", "expected '[' after 0 elements, found the end of the text"},
        {"1, 2", "expected '[' after 0 elements, found '1'"},
        {"[", "element 0 of the vector is not a JSON number: it begins with the end of the text"},
        {"[1,]", "element 1 of the vector is not a JSON number: it begins with ']'"},
        {"[1,NaN]", "element 1 of the vector is not a JSON number: it begins with 'N'"},
        {"[Infinity]", "element 0"},
        {"[null]", "element 0"},
        {"[[1],[2]]", "element 0 of the vector is not a JSON number: it begins with '['"},
        {"[\"1\"]", "element 0"},
        {"[1 2]", "expected ',' or ']' after 1 elements, found '2'"},
        {"[01]", "expected ',' or ']' after 1 elements, found '1'"},
        {"[1.5.2]", "found '.'"},
        {"[1,2", "expected ',' or ']' after 2 elements, found the end of the text"},
        {"[1] x", "expected the end of the text after 1 elements, found 'x'"},
        {"[1]]", "found ']'"},
        {"[\xc3\xa4]", "byte 0xc3"},
        {"[1,3.5e38]", "element 1 of the vector, 3.5e38, is beyond the range of f32"},
        {"[-1e39]", "element 0"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        annex_error error;
        float vector[4];
        size_t n = 7;

        assert_int_equal(
            annex_vector_parse(cases[i].text, strlen(cases[i].text), vector, 4, &n, &error),
            ANNEX_INVALID);
        assert_int_equal(n, 0);
        if (strstr(error.message, cases[i].message) == NULL) {
            fail_msg("%s: %s", cases[i].text, error.message);
        }
    }
}

static void vector_format__any_room__gives_the_length(void **state)
{
    static const float vector[] = {0.1f, -2, 1e-10f};
    static const char expected[] = "[0.1,-2,1e-10]";
    char text[32];

    (void)state;
    for (size_t room = 0; room < sizeof text; room++) {
        memset(text, '#', sizeof text);
        assert_int_equal(annex_vector_format(vector, 3, text, room), strlen(expected));
        for (size_t i = room; i < sizeof text; i++) {
            assert_int_equal(text[i], '#');
        }
        if (room > strlen(expected)) {
            assert_string_equal(text, expected);
        } else if (room > 0) {
            assert_string_equal(text, "");
        }
    }
    assert_int_equal(annex_vector_format(NULL, 0, text, sizeof text), 2);
    assert_string_equal(text, "[]");
}

static void vector_text__a_locale_with_commas__changes_nothing(void **state)
{
    static const float vector[] = {0.5f, 1234.5f};
    float again[2];
    char text[32];
    size_t n;

    (void)state;
    if (setlocale(LC_ALL, "de_DE.UTF-8") == NULL && setlocale(LC_ALL, "fr_FR.UTF-8") == NULL) {
        print_message("no locale with a decimal comma is installed\n");
    }
    annex_vector_format(vector, 2, text, sizeof text);
    assert_string_equal(text, "[0.5,1234.5]");
    assert_int_equal(annex_vector_parse(text, strlen(text), again, 2, &n, NULL), ANNEX_OK);
    assert_memory_equal(vector, again, sizeof vector);
    setlocale(LC_ALL, "C");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metric_names__every_metric__read_back),
        cmocka_unit_test(metric_parse__other_names__are_known),
        cmocka_unit_test(metric_parse__unknown_name__is_refused_with_the_list),
        cmocka_unit_test(format_names__every_format__read_back),
        cmocka_unit_test(vector_bytes__bits_are_packed),
        cmocka_unit_test(widen__every_f16__is_exact),
        cmocka_unit_test(widen__other_formats__are_exact_and_need_no_alignment),
        cmocka_unit_test(widen__formats_without_numbers__are_refused),
        cmocka_unit_test(decimal_parse__chosen_numbers__are_nearest),
        cmocka_unit_test(decimal_parse__middles_with_many_digits__are_decided_by_the_last),
        cmocka_unit_test(decimal_parse__random_numbers__are_nearest),
        cmocka_unit_test(decimal_parse__huge_shifts__cancel_out),
        cmocka_unit_test(decimal_parse__what_is_no_json_number__is_refused),
        cmocka_unit_test(decimal_format__powers_of_two_and_random_f32__are_shortest),
        cmocka_unit_test(decimal_format__chosen_numbers__look_as_people_write_them),
        cmocka_unit_test(vector_parse__arrays__are_read),
        cmocka_unit_test(vector_parse__more_elements_than_room__are_counted_and_checked),
        cmocka_unit_test(vector_parse__anything_else__is_refused_with_the_place),
        cmocka_unit_test(vector_format__any_room__gives_the_length),
        cmocka_unit_test(vector_text__a_locale_with_commas__changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
