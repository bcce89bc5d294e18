/*
 * fuzz_vector_text.c - the input is a vector as JSON text. What can be read must come back the same
 * bits after it was written and read again, and every number must be what the C library reads.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CAPACITY = 64, TEXT_BYTES = CAPACITY * 24 };

/* glibc's strtof rounds correctly, and JSON's numbers are a part of what it reads. */
static void compare_with_strtof(const uint8_t *data, size_t size, const float *vector, size_t n)
{
    char *text = malloc(size + 1);
    char *position;

    FUZZ_REQUIRE(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    position = strchr(text, '[') + 1;
    for (size_t i = 0; i < n; i++) {
        float expected = strtof(position, &position);

        FUZZ_REQUIRE(memcmp(&expected, &vector[i], sizeof expected) == 0);
        position += strspn(position, " \t\r\n,");
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float vector[CAPACITY];
    float again[CAPACITY];
    char text[TEXT_BYTES];
    size_t n = 0;
    size_t n_again = 0;
    size_t length;
    annex_error error;
    annex_status status =
        annex_vector_parse((const char *)data, size, vector, CAPACITY, &n, &error);

    if (status != ANNEX_OK) {
        FUZZ_REQUIRE(memchr(error.message, 0, sizeof error.message) != NULL);
        FUZZ_REQUIRE(status != ANNEX_FULL || n > CAPACITY);
        return 0;
    }
    FUZZ_REQUIRE(n <= CAPACITY);
    for (size_t i = 0; i < n; i++) {
        FUZZ_REQUIRE(isfinite(vector[i]));
    }
    compare_with_strtof(data, size, vector, n);
    length = annex_vector_format(vector, n, text, sizeof text);
    FUZZ_REQUIRE(length < sizeof text && strlen(text) == length);
    status = annex_vector_parse(text, length, again, CAPACITY, &n_again, &error);
    FUZZ_REQUIRE(status == ANNEX_OK && n_again == n);
    FUZZ_REQUIRE(memcmp(vector, again, n * sizeof(float)) == 0);
    return 0;
}
