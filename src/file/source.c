/*
 * source.c - opens a file of vectors by its kind, reads rows.
 */
#include <inttypes.h>

#include "file/source.h"

static const struct source_kind source_kinds[] = {
    {".npy", "npy", npy_read_header, ELEMENT_F32},
    {".fvecs", "fvecs", fvecs_read_header, ELEMENT_F32},
    {".bvecs", "bvecs", fvecs_read_header, ELEMENT_U8},
    {".ivecs", "ivecs", fvecs_read_header, ELEMENT_I32},
    {".fbin", "fbin", fbin_read_header, ELEMENT_F32},
    {".u8bin", "u8bin", fbin_read_header, ELEMENT_U8},
    {".i8bin", "i8bin", fbin_read_header, ELEMENT_I8},
    {".hdf5", "hdf5", hdf5_read_header, ELEMENT_F32},
    {".h5", "hdf5", hdf5_read_header, ELEMENT_F32},
};

const struct source_kind *source_kind_find(const char *path)
{
    size_t length = strlen(path);

    for (size_t i = 0; i < ARRAY_LENGTH(source_kinds); i++) {
        size_t ending = strlen(source_kinds[i].ending);

        if (length > ending && strcmp(path + length - ending, source_kinds[i].ending) == 0) {
            return &source_kinds[i];
        }
    }
    return NULL;
}

static annex_status source_open_file(struct source *source, annex_error *error)
{
    const annex_io *io = &source->env->io;
    int failure = io->open(io->context, source->path, ANNEX_OPEN_READ, &source->file);

    if (failure != 0) {
        source->file = NULL;
        return error_io(error, failure, "open", source->path);
    }
    failure = io->size(io->context, source->file, &source->file_bytes);
    return failure == 0 ? ANNEX_OK : error_io(error, failure, "find the size of", source->path);
}

annex_status source_open(struct source *source, const annex_env *env, const char *path,
                         const char *dataset, annex_error *error)
{
    annex_status status;

    *source = (struct source){
        .env = env, .path = path, .dataset = dataset, .kind = source_kind_find(path)};
    if (source->kind == NULL) {
        return error_set(error, ANNEX_UNSUPPORTED,
                         "cannot tell what %s holds: the name of a file of vectors ends in .npy, "
                         ".fvecs, .bvecs, .ivecs, .fbin, .u8bin, .i8bin, .hdf5 or .h5",
                         path);
    }
    source->element = source->kind->element;
    source->format = element_format(source->element);
    TRY_CLEANUP(source_open_file(source, error));
    TRY_CLEANUP(source->kind->read_header(source, error));
    return ANNEX_OK;

cleanup:
    source_close(source);
    return status;
}

void source_close(struct source *source)
{
    if (source->hdf5 != NULL) {
        hdf5_close(source);
    }
    if (source->file != NULL) {
        const annex_io *io = &source->env->io;

        (void)io->close(io->context, source->file); /* nothing was written */
    }
    *source = (struct source){0};
}

/* Checks the dimension in front of each row and closes the gaps. */
static annex_status source_strip_prefixes(const struct source *source, uint64_t first, size_t n,
                                          char *elements, annex_error *error)
{
    size_t stride = source_stride(source);
    size_t row_bytes = stride - source->prefix_bytes;

    for (size_t i = 0; i < n; i++) {
        uint32_t dimension;

        memcpy(&dimension, elements + i * stride, sizeof dimension);
        if (dimension != source->dimension) {
            return error_set(error, ANNEX_DAMAGED,
                             "row %" PRIu64 " of %s says that it has %" PRIu32
                             " elements; row 0 has %" PRIu32,
                             first + i, source->path, dimension, source->dimension);
        }
        memmove(elements + i * row_bytes, elements + i * stride + source->prefix_bytes, row_bytes);
    }
    return ANNEX_OK;
}

annex_status source_read(struct source *source, uint64_t first, size_t n, void *elements,
                         annex_error *error)
{
    size_t stride = source_stride(source);

    assert(first <= source->rows && n <= source->rows - first);
    if (source->hdf5 != NULL) {
        return hdf5_read_rows(source, first, n, elements, error);
    }
    TRY(source_read_bytes(source, source->data_offset + first * stride, elements, n * stride,
                          error));
    if (source->prefix_bytes > 0) {
        TRY(source_strip_prefixes(source, first, n, elements, error));
    }
    return ANNEX_OK;
}
