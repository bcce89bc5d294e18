/*
 * header.c - what reading the header of any kind of file takes: checked reads, and the checks that
 * all kinds share.
 */
#include <inttypes.h>

#include "file/source.h"

size_t source_stride(const struct source *source)
{
    return source->prefix_bytes + (size_t)source->dimension * element_bytes(source->element);
}

annex_status source_read_bytes(const struct source *source, uint64_t offset, void *data,
                               size_t bytes, annex_error *error)
{
    const annex_io *io = &source->env->io;
    int failure;

    if (offset > source->file_bytes || bytes > source->file_bytes - offset) {
        return error_set(error, ANNEX_DAMAGED,
                         "%s is cut off: it ends after %" PRIu64
                         " bytes, its header needs %" PRIu64,
                         source->path, source->file_bytes, offset + bytes);
    }
    failure = io->read(io->context, source->file, data, bytes, offset);
    return failure == 0 ? ANNEX_OK : error_io(error, failure, "read", source->path);
}

annex_status source_check_dimension(const struct source *source, uint64_t dimension,
                                    annex_error *error)
{
    if (dimension == 0 || dimension > ANNEX_MAX_DIMENSION) {
        return error_set(error, ANNEX_INVALID,
                         "%s has rows of %" PRIu64 " elements; a vector has 1 to %d", source->path,
                         dimension, ANNEX_MAX_DIMENSION);
    }
    return ANNEX_OK;
}

annex_status source_check_size(const struct source *source, annex_error *error)
{
    uint64_t expected;

    if (!checked_multiply(source->rows, source_stride(source), &expected) ||
        !checked_add(expected, source->data_offset, &expected)) {
        expected = UINT64_MAX;
    }
    if (expected == source->file_bytes) {
        return ANNEX_OK;
    }
    return error_set(error, ANNEX_DAMAGED,
                     "%s has %" PRIu64 " bytes, but %" PRIu64 " rows of %" PRIu32
                     " %s, as its header says, need %" PRIu64 ": %s",
                     source->path, source->file_bytes, source->rows, source->dimension,
                     element_name(source->element), expected,
                     expected > source->file_bytes ? "it is cut off, or of another kind"
                                                   : "it is of another kind, or files were joined");
}
