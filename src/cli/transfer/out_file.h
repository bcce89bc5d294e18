/*
 * out_file.h - a file that is written from front to back and appears under its name whole, or not
 * at all; files of several parts appear one after the other.
 */
#ifndef ANNEX_CLI_OUT_FILE_H
#define ANNEX_CLI_OUT_FILE_H

#include "session.h"

#define OUT_FILE_NAME 4096
#define NPY_HEADER_BYTES 128

struct out_file {
    const annex_env *env;
    void *file; /* of annex_env.io; NULL: none is open */
    char path[OUT_FILE_NAME], temporary[OUT_FILE_NAME + 32];
    char *block;
    size_t block_bytes;
    uint64_t bytes; /* written before the block */
};

/* Closed by out_file_abort, also after a failure; begins as zero. */
annex_status out_file_open(struct out_file *out, const annex_env *env, const char *path,
                           annex_error *error);
annex_status out_file_write(struct out_file *out, const void *data, size_t bytes,
                            annex_error *error);
/* Writes the header of a .npy over the first bytes; columns 0: an array of one dimension. */
annex_status out_file_npy_header(struct out_file *out, const char *descr, uint64_t rows,
                                 uint64_t columns, annex_error *error);
/* All is on the disk under the temporary name; only out_file_rename may follow. */
annex_status out_file_finish(struct out_file *out, annex_error *error);
annex_status out_file_rename(struct out_file *out, annex_error *error);
/* Removes what has not been renamed. */
void out_file_abort(struct out_file *out);

#endif
