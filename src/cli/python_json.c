/* python_json.c - see python_json.h. */
#include "python_json.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ----------------------------------------------------------------------------------*/

/* The digits of a number, without point and exponent: d.ddd x 10^*exponent. */
static size_t shortest_digits(double value, char digits[20], int *exponent)
{
    char text[40];
    for (int n = 0; n <= 16; n++) {
        snprintf(text, sizeof(text), "%.*e", n, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    size_t n = 0;
    for (const char *c = text; *c != 'e'; c++) {
        if (*c >= '0' && *c <= '9') {
            digits[n++] = *c;
        }
    }
    *exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    return n;
}

void python_real(FILE *file, double value)
{
    char digits[20];
    int exponent;
    if (!isfinite(value)) {
        fputs(isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity", file);
        return;
    }
    size_t n = shortest_digits(fabs(value), digits, &exponent);
    if (signbit(value)) {
        fputc('-', file);
    }
    if (exponent < -4 || exponent >= 16) {
        fputc(digits[0], file);
        if (n > 1) {
            fputc('.', file);
            fwrite(digits + 1, 1, n - 1, file);
        }
        fprintf(file, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) {
        fputs("0.", file);
        for (int i = -1; i > exponent; i--) {
            fputc('0', file);
        }
        fwrite(digits, 1, n, file);
        return;
    }
    for (size_t i = 0; i < n || i <= (size_t)exponent + 1; i++) {
        if (i == (size_t)exponent + 1) {
            fputc('.', file);
        }
        fputc(i < n ? digits[i] : '0', file);
    }
}

/* ---- texts ------------------------------------------------------------------------------------*/

/* Takes one character of UTF-8; what is none is taken byte by byte, as U+FFFD. */
static uint32_t take_character(const char **text, const char *end)
{
    const unsigned char *s = (const unsigned char *)*text;
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    uint32_t character = n == 1 ? s[0] : s[0] & (0x7Fu >> n);
    if (n == 0 || n > (size_t)(end - *text)) {
        (*text)++;
        return 0xFFFD;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            (*text)++;
            return 0xFFFD;
        }
        character = character << 6 | (s[i] & 0x3Fu);
    }
    bool wrong = (n == 3 && (character < 0x800 || (character >= 0xD800 && character <= 0xDFFF))) ||
                 (n == 4 && (character < 0x10000 || character > 0x10FFFF));
    *text += wrong ? 1 : n;
    return wrong ? 0xFFFD : character;
}

static void put_character(FILE *file, uint32_t character)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = character > 0 && character < 0x80 ? strchr(plain, (int)character) : NULL;
    if (found != NULL) {
        fprintf(file, "\\%c", letters[found - plain]);
    } else if (character >= ' ' && character <= '~') {
        fputc((int)character, file);
    } else if (character < 0x10000) {
        fprintf(file, "\\u%04x", character);
    } else {
        character -= 0x10000;
        fprintf(file, "\\u%04x\\u%04x", 0xD800 + (character >> 10), 0xDC00 + (character & 0x3FF));
    }
}

void python_text(FILE *file, const char *text, size_t bytes)
{
    const char *end = text + bytes;
    fputc('"', file);
    while (text < end) {
        put_character(file, take_character(&text, end));
    }
    fputc('"', file);
}

/* ---- JSON that is written again ---------------------------------------------------------------*/

/* What stands behind a backslash. Halves of a pair are written as they are. */
static uint32_t take_escape(const char **text, const char *end)
{
    static const char letters[] = "bfnrt", means[] = "\b\f\n\r\t";
    char letter = *(*text)++;
    const char *found = letter != '\0' ? strchr(letters, letter) : NULL;
    if (letter == 'u' && end - *text >= 4) {
        char hex[5] = {(*text)[0], (*text)[1], (*text)[2], (*text)[3], '\0'};
        *text += 4;
        return (uint32_t)strtoul(hex, NULL, 16);
    }
    return found != NULL ? (unsigned char)means[found - letters] : (unsigned char)letter;
}

static const char *put_string(FILE *file, const char *text, const char *end)
{
    fputc('"', file);
    while (text < end && *text != '"') {
        if (*text == '\\' && end - text > 1) {
            text++;
            put_character(file, take_escape(&text, end));
        } else {
            put_character(file, take_character(&text, end));
        }
    }
    fputc('"', file);
    return text < end ? text + 1 : end;
}

/* A number, or one of the words. */
static const char *put_token(FILE *file, const char *text, const char *end)
{
    char number[400];
    size_t n = 0;
    while (text + n < end && memchr(" \t\r\n,:]}", text[n], 8) == NULL) {
        n++;
    }
    bool real = memchr(text, '.', n) != NULL || memchr(text, 'e', n) != NULL ||
                memchr(text, 'E', n) != NULL;
    bool is_number = *text == '-' || (*text >= '0' && *text <= '9');
    if (is_number && real && n < sizeof(number)) {
        memcpy(number, text, n);
        number[n] = '\0';
        python_real(file, strtod(number, NULL));
    } else if (n == 2 && memcmp(text, "-0", 2) == 0) {
        fputc('0', file);
    } else {
        fwrite(text, 1, n, file);
    }
    return text + n;
}

void python_json(FILE *file, const char *text, size_t bytes)
{
    const char *end = text + bytes;
    while (text < end) {
        switch (*text) {
        case ' ':
        case '\t':
        case '\r':
        case '\n':
            text++;
            break;
        case ',':
        case ':':
            fprintf(file, "%c ", *text++);
            break;
        case '[':
        case ']':
        case '{':
        case '}':
            fputc(*text++, file);
            break;
        case '"':
            text = put_string(file, text + 1, end);
            break;
        default:
            text = put_token(file, text, end);
            break;
        }
    }
}

/* ---- lines ------------------------------------------------------------------------------------*/

static bool ends_line(uint32_t character)
{
    return (character >= 0x0A && character <= 0x0D) || (character >= 0x1C && character <= 0x1E) ||
           character == 0x85 || character == 0x2028 || character == 0x2029;
}

static bool is_blank(uint32_t character)
{
    return ends_line(character) || character == ' ' || character == '\t' || character == 0x1F ||
           character == 0xA0 || character == 0x1680 ||
           (character >= 0x2000 && character <= 0x200A) || character == 0x202F ||
           character == 0x205F || character == 0x3000;
}

void python_indent(FILE *file, const char *text, size_t bytes)
{
    const char *end = text + bytes;
    while (text < end) {
        const char *line = text;
        bool blank = true, over = false;
        while (text < end && !over) {
            uint32_t character = take_character(&text, end);
            blank = blank && is_blank(character);
            over = ends_line(character);
            text += character == '\r' && text < end && *text == '\n';
        }
        fputs(blank ? "" : "  ", file);
        fwrite(line, 1, (size_t)(text - line), file);
    }
}
