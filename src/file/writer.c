/*
 * writer.c - annex_vectors_write: rows into a .npy, .fvecs, .bvecs, .fbin, .u8bin or .i8bin file.
 *
 * The number of rows is known at the end only, so room is left for the header, which is written
 * last; the file appears under its name complete or not at all (replace.c).
 *
 * Invariant: what cannot be stored as wanted - 0.5 or 300 as u8, 1e6 as f16 - is refused with row
 * and element; only the rounding of a finite f32 to f16 loses digits.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/half.h"
#include "file/source.h"

#define NPY_HEADER_BYTES 128
#define WRITER_BLOCK_BYTES ((size_t)1 << 20)

enum writer_kind { WRITE_NPY, WRITE_FVECS, WRITE_FBIN };

static const struct {
    const char *ending;
    enum writer_kind kind;
    annex_format format; /* ANNEX_FORMAT_AUTO: the caller may choose */
} writer_endings[] = {
    {".npy", WRITE_NPY, ANNEX_FORMAT_AUTO}, {".fvecs", WRITE_FVECS, ANNEX_F32},
    {".bvecs", WRITE_FVECS, ANNEX_U8},      {".fbin", WRITE_FBIN, ANNEX_F32},
    {".u8bin", WRITE_FBIN, ANNEX_U8},       {".i8bin", WRITE_FBIN, ANNEX_I8},
};

struct writer {
    const annex_env *env;
    const char *path;
    enum writer_kind kind;
    annex_format format;
    uint32_t dimension;
    size_t header_bytes;
    size_t prefix_bytes;
    size_t row_bytes; /* prefix and elements */
    size_t block_rows;
    char *block; /* [block_rows x row_bytes] */
    uint64_t rows;
    struct replace_file replace;
};

/* ---- Elements ---------------------------------------------------------------------------------*/

static size_t narrow_bytes(annex_format format)
{
    switch (format) {
    case ANNEX_F64:
        return 8;
    case ANNEX_F32:
        return 4;
    case ANNEX_F16:
        return 2;
    default:
        return 1;
    }
}

/* Stores one element; false when the format does not have the value. */
static bool narrow_element(annex_format format, float value, char *to)
{
    double wide = (double)value;
    uint16_t half;

    switch (format) {
    case ANNEX_F64:
        memcpy(to, &wide, sizeof wide);
        return true;
    case ANNEX_F32:
        memcpy(to, &value, sizeof value);
        return true;
    case ANNEX_F16:
        if (isfinite(value) && fabsf(value) > F16_LARGEST) {
            return false;
        }
        half = f16_narrow(value);
        memcpy(to, &half, sizeof half);
        return true;
    case ANNEX_I8:
        if (!(value >= -128 && value <= 127 && value == truncf(value))) {
            return false;
        }
        *to = (char)(int)value;
        return true;
    case ANNEX_U8:
        if (!(value >= 0 && value <= 255 && value == truncf(value))) {
            return false;
        }
        *to = (char)(int)value;
        return true;
    default:
        return false;
    }
}

static annex_status writer_store_row(struct writer *writer, const float *vector, char *to,
                                     annex_error *error)
{
    size_t bytes = narrow_bytes(writer->format);

    memcpy(to, &writer->dimension, writer->prefix_bytes);
    to += writer->prefix_bytes;
    for (uint32_t i = 0; i < writer->dimension; i++) {
        if (!narrow_element(writer->format, vector[i], to + i * bytes)) {
            return error_set(error, ANNEX_INVALID,
                             "element %" PRIu32 " of row %" PRIu64 " is %.9g, which %s cannot "
                             "hold; write f32, or scale the vectors",
                             i, writer->rows, (double)vector[i], annex_format_name(writer->format));
        }
    }
    return ANNEX_OK;
}

/* ---- The file ---------------------------------------------------------------------------------*/

static annex_status writer_choose(struct writer *writer, annex_format format, annex_error *error)
{
    size_t length = strlen(writer->path);
    annex_format wanted = format == ANNEX_FORMAT_AUTO ? ANNEX_F32 : format;

    for (size_t i = 0; i < ARRAY_LENGTH(writer_endings); i++) {
        size_t ending = strlen(writer_endings[i].ending);

        if (length > ending &&
            strcmp(writer->path + length - ending, writer_endings[i].ending) == 0) {
            bool free_choice = writer_endings[i].format == ANNEX_FORMAT_AUTO;

            writer->kind = writer_endings[i].kind;
            writer->format = free_choice ? wanted : writer_endings[i].format;
            if (format != ANNEX_FORMAT_AUTO && format != writer->format) {
                const char *name = annex_format_name(format);

                return error_set(error, ANNEX_INVALID, "a %s file holds %s, not %s",
                                 writer_endings[i].ending, annex_format_name(writer->format),
                                 name == NULL ? "that format" : name);
            }
            return ANNEX_OK;
        }
    }
    return error_set(error, ANNEX_UNSUPPORTED,
                     "cannot tell how to write %s: the name must end in .npy, .fvecs, .bvecs, "
                     ".fbin, .u8bin or .i8bin",
                     writer->path);
}

static annex_status writer_check(const struct writer *writer, annex_error *error)
{
    if (writer->dimension == 0 || writer->dimension > ANNEX_MAX_DIMENSION) {
        return error_set(error, ANNEX_INVALID,
                         "cannot write vectors of %" PRIu32 " elements; a vector has 1 to %d",
                         writer->dimension, ANNEX_MAX_DIMENSION);
    }
    switch (writer->format) {
    case ANNEX_F32:
    case ANNEX_F16:
    case ANNEX_F64:
    case ANNEX_I8:
    case ANNEX_U8:
        return ANNEX_OK;
    default:
        return error_set(error, ANNEX_UNSUPPORTED,
                         "a .npy file is written as f32, f16, f64, i8 or u8");
    }
}

static annex_status writer_write_rows(struct writer *writer, const annex_batch *batch,
                                      annex_error *error)
{
    const float *vectors = batch->vectors;

    for (size_t done = 0; done < batch->n;) {
        size_t n = MIN(batch->n - done, writer->block_rows);
        uint64_t offset = writer->header_bytes + writer->rows * writer->row_bytes;

        for (size_t i = 0; i < n; i++) {
            TRY(writer_store_row(writer, vectors + (done + i) * writer->dimension,
                                 writer->block + i * writer->row_bytes, error));
            writer->rows++;
        }
        TRY(replace_write(&writer->replace, writer->block, n * writer->row_bytes, offset, error));
        done += n;
    }
    return ANNEX_OK;
}

static void writer_format_npy(const struct writer *writer, char header[NPY_HEADER_BYTES])
{
    static const char start[] = "\x93NUMPY\x01\x00\x76"; /* version 1.0, 118 bytes of text */
    const char *descr = writer->format == ANNEX_F64   ? "<f8"
                        : writer->format == ANNEX_F32 ? "<f4"
                        : writer->format == ANNEX_F16 ? "<f2"
                        : writer->format == ANNEX_I8  ? "|i1"
                                                      : "|u1";
    int length;

    memset(header, ' ', NPY_HEADER_BYTES);
    memcpy(header, start, sizeof start); /* with the terminator: the upper byte of the length */
    length =
        snprintf(header + sizeof start, NPY_HEADER_BYTES - sizeof start,
                 "{'descr': '%s', 'fortran_order': False, 'shape': (%" PRIu64 ", %" PRIu32 "), }",
                 descr, writer->rows, writer->dimension);
    header[sizeof start + (size_t)length] = ' ';
    header[NPY_HEADER_BYTES - 1] = '\n';
}

static annex_status writer_write_header(struct writer *writer, annex_error *error)
{
    char npy[NPY_HEADER_BYTES];
    uint32_t fbin[2] = {(uint32_t)writer->rows, writer->dimension};

    switch (writer->kind) {
    case WRITE_NPY:
        writer_format_npy(writer, npy);
        return replace_write(&writer->replace, npy, sizeof npy, 0, error);
    case WRITE_FBIN:
        if (writer->rows > UINT32_MAX) {
            return error_set(error, ANNEX_FULL, "%s cannot hold %" PRIu64 " rows; write .npy",
                             writer->path, writer->rows);
        }
        return replace_write(&writer->replace, fbin, sizeof fbin, 0, error);
    case WRITE_FVECS:
        break;
    }
    return ANNEX_OK;
}

static void writer_lay_out(struct writer *writer)
{
    writer->header_bytes = writer->kind == WRITE_NPY    ? NPY_HEADER_BYTES
                           : writer->kind == WRITE_FBIN ? 2 * sizeof(uint32_t)
                                                        : 0;
    writer->prefix_bytes = writer->kind == WRITE_FVECS ? sizeof writer->dimension : 0;
    writer->row_bytes = writer->prefix_bytes + writer->dimension * narrow_bytes(writer->format);
    writer->block_rows = MAX(WRITER_BLOCK_BYTES / writer->row_bytes, 1);
}

static annex_status writer_copy(struct writer *writer, const annex_rows *rows, annex_error *error)
{
    annex_batch batch;

    TRY(rows->rewind(rows->context, error));
    for (;;) {
        TRY(rows->next(rows->context, &batch, error));
        if (batch.n == 0) {
            return writer_write_header(writer, error);
        }
        TRY(writer_write_rows(writer, &batch, error));
    }
}

annex_status annex_vectors_write(const annex_env *env, const char *path, const annex_rows *rows,
                                 uint32_t dimension, annex_format format, annex_error *error)
{
    struct writer writer = {.env = env, .path = path, .dimension = dimension};
    annex_status status;

    TRY(writer_choose(&writer, format, error));
    TRY(writer_check(&writer, error));
    writer_lay_out(&writer);
    TRY(memory_new_raw(env, writer.block_rows, writer.row_bytes, &writer.block, error));
    TRY_CLEANUP(replace_begin(&writer.replace, env, path, error));
    status = writer_copy(&writer, rows, error);
    if (status == ANNEX_OK) {
        status = replace_commit(&writer.replace, error);
    } else {
        replace_abort(&writer.replace);
    }

cleanup:
    memory_free(env, writer.block, writer.block_rows, writer.row_bytes);
    return status;
}
