/*
 * fbin.c - the header of .fbin, .u8bin and .i8bin files: u32 rows, u32 dimension.
 */
#include "file/source.h"

annex_status fbin_read_header(struct source *source, annex_error *error)
{
    uint32_t header[2];

    TRY(source_read_bytes(source, 0, header, sizeof header, error));
    TRY(source_check_dimension(source, header[1], error));
    source->rows = header[0];
    source->dimension = header[1];
    source->data_offset = sizeof header;
    return source_check_size(source, error);
}
