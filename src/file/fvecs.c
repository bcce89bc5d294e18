/*
 * fvecs.c - the header of .fvecs, .bvecs and .ivecs files, which is the first row's dimension.
 *
 *   u32 dimension | elements (f32, u8 or i32) | u32 dimension | elements | …
 *
 * The dimensions of the other rows are compared with it when the rows are read.
 */
#include <inttypes.h>

#include "file/source.h"

annex_status fvecs_read_header(struct source *source, annex_error *error)
{
    uint32_t dimension;
    size_t stride;

    if (source->file_bytes == 0) {
        return ANNEX_OK; /* no rows, and so no dimension */
    }
    TRY(source_read_bytes(source, 0, &dimension, sizeof dimension, error));
    TRY(source_check_dimension(source, dimension, error));
    source->dimension = dimension;
    source->prefix_bytes = sizeof dimension;
    stride = source_stride(source);
    if (source->file_bytes % stride != 0) {
        return error_set(error, ANNEX_DAMAGED,
                         "%s has %" PRIu64 " bytes, which is no multiple of a row: %" PRIu32
                         " %s, as its first row says, take %zu; it is cut off, or of another kind",
                         source->path, source->file_bytes, dimension, element_name(source->element),
                         stride);
    }
    source->rows = source->file_bytes / stride;
    return ANNEX_OK;
}
