/*
 * hdf5_missing.c - in place of hdf5.c where libhdf5 is not installed: says so.
 */
#include "file/source.h"

annex_status hdf5_read_header(struct source *source, annex_error *error)
{
    return error_set(error, ANNEX_UNSUPPORTED,
                     "%s is an HDF5 file, which this build of Annex cannot read; build it where "
                     "libhdf5 is installed, or save the vectors as .npy",
                     source->path);
}

annex_status hdf5_read_rows(struct source *source, uint64_t first, size_t n, void *elements,
                            annex_error *error)
{
    (void)first;
    (void)n;
    (void)elements;
    return error_set(error, ANNEX_UNSUPPORTED, "%s is an HDF5 file", source->path);
}

void hdf5_close(struct source *source)
{
    (void)source;
}
