/*
 * element.c - the elements that files of vectors hold, and what they become.
 *
 * Integers of 32 and 64 bits are rounded to the nearest f32 when they are read as vectors.
 */
#include "file/source.h"

static const struct {
    const char *name;
    size_t bytes;
    annex_format format;
    bool is_integer;
} element_table[] = {
    [ELEMENT_F32] = {"f32", 4, ANNEX_F32, false},
    [ELEMENT_F16] = {"f16", 2, ANNEX_F16, false},
    [ELEMENT_F64] = {"f64", 8, ANNEX_F64, false},
    [ELEMENT_I8] = {"i8", 1, ANNEX_I8, true},
    [ELEMENT_U8] = {"u8", 1, ANNEX_U8, true},
    [ELEMENT_I32] = {"i32", 4, ANNEX_FORMAT_AUTO, true},
    [ELEMENT_U32] = {"u32", 4, ANNEX_FORMAT_AUTO, true},
    [ELEMENT_I64] = {"i64", 8, ANNEX_FORMAT_AUTO, true},
};

size_t element_bytes(enum element element)
{
    return element_table[element].bytes;
}

const char *element_name(enum element element)
{
    return element_table[element].name;
}

annex_format element_format(enum element element)
{
    return element_table[element].format;
}

bool element_is_integer(enum element element)
{
    return element_table[element].is_integer;
}

static int64_t element_integer(enum element element, const void *from, size_t i)
{
    switch (element) {
    case ELEMENT_I8:
        return ((const int8_t *)from)[i];
    case ELEMENT_U8:
        return ((const uint8_t *)from)[i];
    case ELEMENT_I32:
        return ((const int32_t *)from)[i];
    case ELEMENT_U32:
        return ((const uint32_t *)from)[i];
    case ELEMENT_I64:
        return ((const int64_t *)from)[i];
    case ELEMENT_F32:
    case ELEMENT_F16:
    case ELEMENT_F64:
        break;
    }
    assert(!"the element is an integer");
    return 0;
}

void element_integers(enum element element, const void *from, size_t n, int64_t *to)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = element_integer(element, from, i);
    }
}

void element_widen(enum element element, const void *from, size_t n, float *to)
{
    if (element_table[element].format != ANNEX_FORMAT_AUTO) {
        annex_status status = annex_vector_widen(element_table[element].format, from, n, to, NULL);

        assert(status == ANNEX_OK);
        (void)status;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)element_integer(element, from, i);
    }
}
