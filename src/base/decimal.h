/*
 * decimal.h - one f32 as JSON text and back: exact, and independent of the locale.
 *
 * Reading gives the f32 nearest to the decimal number, ties to even, for any number of digits.
 * Writing gives the fewest significant digits that read back to the same f32, and of those the
 * digits nearest to it. No memory is allocated. The processor must round to nearest, the default.
 */
#ifndef ANNEX_DECIMAL_H
#define ANNEX_DECIMAL_H

#include <stddef.h>

/* Characters of the longest text that decimal_format writes. */
#define DECIMAL_MAX_BYTES 16

/*
 * Reads the JSON number at the start of text[0 .. bytes). Returns its length, 0 when there is none.
 * A number beyond the range of f32 gives an infinity of its sign.
 */
size_t decimal_parse(const char *text, size_t bytes, float *value);

/*
 * Writes `value` into text[0 .. DECIMAL_MAX_BYTES) without a terminator and returns the length.
 * JSON has no NaN and no infinities: they become null.
 */
size_t decimal_format(float value, char *text);

#endif
