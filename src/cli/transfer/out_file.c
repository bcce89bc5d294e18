/* out_file.c - see out_file.h. */
#include "transfer/out_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_BYTES ((size_t)1 << 20)

static annex_status fail(const struct out_file *out, int reason, const char *what,
                         annex_error *error)
{
    return session_error(error, reason == ENOSPC ? ANNEX_FULL : ANNEX_IO, "cannot %s %s: %s", what,
                         out->path, strerror(reason));
}

annex_status out_file_open(struct out_file *out, const annex_env *env, const char *path,
                           annex_error *error)
{
    *out = (struct out_file){.env = env};
    if (snprintf(out->path, sizeof(out->path), "%s", path) >= (int)sizeof(out->path)) {
        return session_error(error, ANNEX_INVALID, "the name %.60s... is too long", path);
    }
    int reason = EEXIST;
    for (unsigned i = 0; i < 1000 && reason == EEXIST; i++) {
        snprintf(out->temporary, sizeof(out->temporary), "%s.tmp-%ld-%u", path, (long)getpid(), i);
        reason = env->io.open(env->io.context, out->temporary, ANNEX_OPEN_CREATE, &out->file);
    }
    if (reason != 0) {
        out->file = NULL;
        out->temporary[0] = '\0'; /* it is somebody else's */
        return fail(out, reason, "create", error);
    }
    out->block = session_memory(BLOCK_BYTES, 1);
    return ANNEX_OK;
}

static annex_status flush(struct out_file *out, annex_error *error)
{
    const annex_io *io = &out->env->io;
    int reason = io->write(io->context, out->file, out->block, out->block_bytes, out->bytes);
    if (reason != 0) {
        return fail(out, reason, "write", error);
    }
    out->bytes += out->block_bytes;
    out->block_bytes = 0;
    return ANNEX_OK;
}

annex_status out_file_write(struct out_file *out, const void *data, size_t bytes,
                            annex_error *error)
{
    const char *from = data;
    while (bytes > 0) {
        size_t room = BLOCK_BYTES - out->block_bytes, n = bytes < room ? bytes : room;
        memcpy(out->block + out->block_bytes, from, n);
        out->block_bytes += n;
        from += n;
        bytes -= n;
        if (out->block_bytes == BLOCK_BYTES) {
            annex_status status = flush(out, error);
            if (status != ANNEX_OK) {
                return status;
            }
        }
    }
    return ANNEX_OK;
}

annex_status out_file_npy_header(struct out_file *out, const char *descr, uint64_t rows,
                                 uint64_t columns, annex_error *error)
{
    static const char start[] = "\x93NUMPY\x01\x00\x76"; /* version 1.0, 118 bytes of text */
    char header[NPY_HEADER_BYTES], shape[64];
    if (columns > 0) {
        snprintf(shape, sizeof(shape), "(%" PRIu64 ", %" PRIu64 ")", rows, columns);
    } else {
        snprintf(shape, sizeof(shape), "(%" PRIu64 ",)", rows);
    }
    memset(header, ' ', sizeof(header));
    memcpy(header, start, sizeof(start)); /* with the terminator: the upper byte of the length */
    int n = snprintf(header + sizeof(start), sizeof(header) - sizeof(start),
                     "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape);
    header[sizeof(start) + (size_t)n] = ' ';
    header[NPY_HEADER_BYTES - 1] = '\n';
    annex_status status = flush(out, error);
    if (status != ANNEX_OK) {
        return status;
    }
    const annex_io *io = &out->env->io;
    int reason = io->write(io->context, out->file, header, sizeof(header), 0);
    return reason == 0 ? ANNEX_OK : fail(out, reason, "write", error);
}

annex_status out_file_finish(struct out_file *out, annex_error *error)
{
    const annex_io *io = &out->env->io;
    annex_status status = flush(out, error);
    if (status != ANNEX_OK) {
        return status;
    }
    int reason = io->sync(io->context, out->file);
    int closed = io->close(io->context, out->file);
    out->file = NULL;
    return reason == 0 && closed == 0 ? ANNEX_OK
                                      : fail(out, reason != 0 ? reason : closed, "write", error);
}

annex_status out_file_rename(struct out_file *out, annex_error *error)
{
    const annex_io *io = &out->env->io;
    int reason = io->rename(io->context, out->temporary, out->path);
    if (reason != 0) {
        return fail(out, reason, "rename what was written to", error);
    }
    out->temporary[0] = '\0';
    char folder[OUT_FILE_NAME] = ".";
    const char *slash = strrchr(out->path, '/');
    if (slash != NULL) {
        snprintf(folder, sizeof(folder), "%.*s", (int)(slash - out->path + 1), out->path);
    }
    reason = io->sync_directory(io->context, folder);
    return reason == 0 ? ANNEX_OK : fail(out, reason, "sync the folder of", error);
}

void out_file_abort(struct out_file *out)
{
    if (out->env == NULL) {
        return;
    }
    const annex_io *io = &out->env->io;
    if (out->file != NULL) {
        io->close(io->context, out->file);
    }
    if (out->temporary[0] != '\0') {
        io->remove(io->context, out->temporary);
    }
    free(out->block);
    *out = (struct out_file){0};
}
