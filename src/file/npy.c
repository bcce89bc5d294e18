/*
 * npy.c - the header of a NumPy array file, versions 1 to 3.
 *
 *   "\x93NUMPY" | u8 major | u8 minor | u16 or (from version 2) u32 length | text of that length
 *   {'descr': '<f4', 'fortran_order': False, 'shape': (1000, 384), }
 *
 * The text is a Python dictionary; what NumPy writes is read, with white space anywhere and the
 * keys in any order. Arrays of two dimensions, row after row, little-endian, of a plain type; an
 * array of wider integers may have one dimension: it is keys or labels, one to a row.
 */
#include <inttypes.h>

#include "file/source.h"

#define NPY_MAGIC "\x93NUMPY"
#define NPY_MAGIC_BYTES 6
/* NumPy itself refuses more than 10,000; a plain array needs 118. */
#define NPY_MAX_HEADER_BYTES 65536
#define NPY_MAX_DIMENSIONS 3 /* as many as tell apart what is wrong */

static const struct {
    const char *descr;
    enum element element;
} npy_types[] = {
    {"<f4", ELEMENT_F32}, {"<f2", ELEMENT_F16}, {"<f8", ELEMENT_F64}, {"|i1", ELEMENT_I8},
    {"|u1", ELEMENT_U8},  {"<i4", ELEMENT_I32}, {"<u4", ELEMENT_U32}, {"<i8", ELEMENT_I64},
};

struct npy_text {
    const char *c;
    const char *end;
};

struct npy_string {
    const char *data;
    size_t bytes;
};

struct npy_header {
    struct npy_string descr; /* data is NULL when it is not a string: a record */
    bool fortran_order;
    uint64_t shape[NPY_MAX_DIMENSIONS];
    size_t dimensions;
    unsigned seen; /* one bit for each key */
};

enum { NPY_DESCR = 1, NPY_ORDER = 2, NPY_SHAPE = 4, NPY_ALL = 7 };

/* ---- The text ---------------------------------------------------------------------------------*/

static bool npy_take(struct npy_text *text, const char *token)
{
    size_t length = strlen(token);

    while (text->c < text->end && (*text->c == ' ' || *text->c == '\n' || *text->c == '\t')) {
        text->c++;
    }
    if ((size_t)(text->end - text->c) < length || memcmp(text->c, token, length) != 0) {
        return false;
    }
    text->c += length;
    return true;
}

static bool npy_take_string(struct npy_text *text, struct npy_string *string)
{
    char quote = npy_take(text, "'") ? '\'' : '"';
    const char *close;

    if (quote == '"' && !npy_take(text, "\"")) {
        return false;
    }
    close = memchr(text->c, quote, (size_t)(text->end - text->c));
    if (close == NULL) {
        return false;
    }
    *string = (struct npy_string){text->c, (size_t)(close - text->c)};
    text->c = close + 1;
    return true;
}

static bool npy_take_number(struct npy_text *text, uint64_t *number)
{
    const char *start;

    npy_take(text, "");
    start = text->c;
    *number = 0;
    for (; text->c < text->end && *text->c >= '0' && *text->c <= '9'; text->c++) {
        if (!checked_multiply(*number, 10, number) ||
            !checked_add(*number, (uint64_t)(*text->c - '0'), number)) {
            return false;
        }
    }
    return text->c > start;
}

/* (), (3,), (3, 4), (3, 4,) … */
static bool npy_take_shape(struct npy_text *text, struct npy_header *header)
{
    bool more = true;

    header->dimensions = 0;
    if (!npy_take(text, "(")) {
        return false;
    }
    while (!npy_take(text, ")")) {
        uint64_t number;

        if (!more || !npy_take_number(text, &number)) {
            return false;
        }
        npy_take(text, "L"); /* Python 2 wrote long integers so */
        if (header->dimensions < NPY_MAX_DIMENSIONS) {
            header->shape[header->dimensions++] = number;
        }
        more = npy_take(text, ",");
    }
    return true;
}

static bool npy_take_entry(struct npy_text *text, struct npy_header *header)
{
    struct npy_string key;

    if (!npy_take_string(text, &key) || !npy_take(text, ":")) {
        return false;
    }
    if (key.bytes == 5 && memcmp(key.data, "descr", 5) == 0) {
        header->seen |= NPY_DESCR;
        /* A list describes a record: nothing after it needs to be understood to refuse it. */
        return npy_take(text, "[") || npy_take_string(text, &header->descr);
    }
    if (key.bytes == 13 && memcmp(key.data, "fortran_order", 13) == 0) {
        header->seen |= NPY_ORDER;
        header->fortran_order = npy_take(text, "True");
        return header->fortran_order || npy_take(text, "False");
    }
    if (key.bytes == 5 && memcmp(key.data, "shape", 5) == 0) {
        header->seen |= NPY_SHAPE;
        return npy_take_shape(text, header);
    }
    return false;
}

static bool npy_is_record(const struct npy_header *header)
{
    return (header->seen & NPY_DESCR) != 0 && header->descr.data == NULL;
}

/* False when the text is not such a dictionary. A record ends the reading: it is refused anyway. */
static bool npy_parse(const char *data, size_t bytes, struct npy_header *header)
{
    struct npy_text text = {data, data + bytes};
    bool more = true;

    if (!npy_take(&text, "{")) {
        return false;
    }
    while (!npy_take(&text, "}")) {
        if (!more || !npy_take_entry(&text, header)) {
            return false;
        }
        if (npy_is_record(header)) {
            return true;
        }
        more = npy_take(&text, ",");
    }
    return header->seen == NPY_ALL;
}

/* ---- What it says -----------------------------------------------------------------------------*/

/* How much of the type can be shown in a message, which is UTF-8. */
static int npy_printable(const struct npy_string *string)
{
    size_t n = 0;

    while (n < MIN(string->bytes, 20) && string->data[n] >= ' ' && string->data[n] <= '~') {
        n++;
    }
    return (int)n;
}

static annex_status npy_refuse_type(const struct source *source, const struct npy_string *descr,
                                    annex_error *error)
{
    if (descr->data == NULL) {
        return error_set(error, ANNEX_UNSUPPORTED,
                         "%s holds records; save the field with the vectors, as float32",
                         source->path);
    }
    if (descr->bytes > 0 && descr->data[0] == '>') {
        return error_set(error, ANNEX_UNSUPPORTED,
                         "%s holds big-endian numbers (%.*s); save it with .astype('<f4')",
                         source->path, npy_printable(descr), descr->data);
    }
    return error_set(error, ANNEX_UNSUPPORTED,
                     "%s holds elements of type '%.*s'; f2, f4, f8, i1, u1, i4, u4 and i8 can be "
                     "read, so save it with .astype('<f4')",
                     source->path, npy_printable(descr), descr->data);
}

static annex_status npy_check_type(struct source *source, const struct npy_header *header,
                                   annex_error *error)
{
    const struct npy_string *descr = &header->descr;

    for (size_t i = 0; i < ARRAY_LENGTH(npy_types); i++) {
        if (descr->data != NULL && descr->bytes == 3 &&
            memcmp(descr->data, npy_types[i].descr, 3) == 0) {
            source->element = npy_types[i].element;
            source->format = element_format(source->element);
            return ANNEX_OK;
        }
    }
    return npy_refuse_type(source, descr, error);
}

static annex_status npy_check_shape(const struct source *source, const struct npy_header *header,
                                    annex_error *error)
{
    if (header->dimensions != 2) {
        return error_set(error, ANNEX_INVALID,
                         "%s is an array of %s; rows of vectors have two: reshape it", source->path,
                         header->dimensions == 0   ? "no dimensions, one number"
                         : header->dimensions == 1 ? "one dimension"
                                                   : "three or more dimensions");
    }
    if (header->fortran_order) {
        return error_set(error, ANNEX_UNSUPPORTED,
                         "%s is stored column after column (Fortran order); save "
                         "numpy.ascontiguousarray of it",
                         source->path);
    }
    return source_check_dimension(source, header->shape[1], error);
}

/* Finds where the text begins, and its length. */
static annex_status npy_read_start(const struct source *source, uint64_t *offset,
                                   uint32_t *text_bytes, annex_error *error)
{
    unsigned char start[NPY_MAGIC_BYTES + 2];
    uint16_t short_length = 0;

    *text_bytes = 0;
    if (source->file_bytes < sizeof start) {
        return error_set(error, ANNEX_DAMAGED,
                         "%s is not a NumPy array file: it has %" PRIu64 " bytes only",
                         source->path, source->file_bytes);
    }
    TRY(source_read_bytes(source, 0, start, sizeof start, error));
    if (memcmp(start, NPY_MAGIC, NPY_MAGIC_BYTES) != 0) {
        return error_set(error, ANNEX_DAMAGED,
                         "%s is not a NumPy array file: it does not begin with \\x93NUMPY",
                         source->path);
    }
    switch (start[NPY_MAGIC_BYTES]) {
    case 1:
        TRY(source_read_bytes(source, sizeof start, &short_length, sizeof short_length, error));
        *text_bytes = short_length;
        *offset = sizeof start + sizeof short_length;
        break;
    case 2:
    case 3:
        TRY(source_read_bytes(source, sizeof start, text_bytes, sizeof *text_bytes, error));
        *offset = sizeof start + sizeof *text_bytes;
        break;
    default:
        return error_set(error, ANNEX_UNSUPPORTED,
                         "%s is a NumPy array file of version %d; versions 1 to 3 can be read",
                         source->path, start[NPY_MAGIC_BYTES]);
    }
    if (*text_bytes > NPY_MAX_HEADER_BYTES || *text_bytes > source->file_bytes - *offset) {
        return error_set(error, ANNEX_DAMAGED,
                         "%s has %" PRIu64 " bytes and says that its header has %" PRIu32
                         " (at most %d): it is cut off or damaged",
                         source->path, source->file_bytes, *text_bytes, NPY_MAX_HEADER_BYTES);
    }
    return ANNEX_OK;
}

annex_status npy_read_header(struct source *source, annex_error *error)
{
    annex_status status;
    struct npy_header header = {0};
    uint64_t offset = 0;
    uint32_t text_bytes;
    char *text = NULL;

    TRY(npy_read_start(source, &offset, &text_bytes, error));
    TRY(memory_new_raw(source->env, text_bytes, 1, &text, error));
    TRY_CLEANUP(source_read_bytes(source, offset, text, text_bytes, error));
    if (text_bytes == 0 || !npy_parse(text, text_bytes, &header)) {
        status = error_set(error, ANNEX_DAMAGED,
                           "the header of %s is not a dictionary of descr, fortran_order and shape",
                           source->path);
        goto cleanup;
    }
    TRY_CLEANUP(npy_check_type(source, &header, error));
    if (header.dimensions == 1 && source->format == ANNEX_FORMAT_AUTO) {
        header.dimensions = 2;
        header.shape[1] = 1;
    }
    TRY_CLEANUP(npy_check_shape(source, &header, error));
    source->rows = header.shape[0];
    source->dimension = (uint32_t)header.shape[1];
    source->data_offset = offset + text_bytes;
    TRY_CLEANUP(source_check_size(source, error));

cleanup:
    memory_free(source->env, text, text_bytes, 1);
    return status;
}
