/*
 * replace.c - a file that appears under its name whole, or not at all.
 *
 * Order of operations: create "<path>.tmp-<random>", write, sync, close, rename, sync the
 * directory. A crash before the rename leaves the older file (and perhaps a temporary), a crash
 * after it the new one; both are complete because the content was synced before it got its name.
 *
 * Invariant: after any failure the temporary is gone, unless removing it failed too.
 * Does not: lock. Two writers of one path each leave a whole file; the last rename stays.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#define REPLACE_ATTEMPTS 16
#define REPLACE_SUFFIX_BYTES sizeof(".tmp-0123456789abcdef")

/* The temporary's name must not be taken; EEXIST and another try settle the rest. */
static uint64_t replace_random(const void *salt)
{
    struct timespec now;
    uint64_t state;

    clock_gettime(CLOCK_REALTIME, &now);
    state = (uint64_t)now.tv_sec << 30 ^ (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 40;
    return hash_mix(state ^ hash_mix((uintptr_t)salt));
}

static size_t replace_temporary_bytes(const char *path)
{
    return strlen(path) + REPLACE_SUFFIX_BYTES;
}

static void replace_release(struct replace_file *replace)
{
    const annex_env *env = replace->env;

    if (replace->temporary != NULL) {
        memory_free(env, replace->temporary, replace_temporary_bytes(replace->path), 1);
    }
    if (replace->path != NULL) {
        memory_free(env, replace->path, strlen(replace->path) + 1, 1);
    }
    *replace = (struct replace_file){.env = env};
}

static annex_status replace_create(struct replace_file *replace, annex_error *error)
{
    const annex_io *io = &replace->env->io;
    uint64_t random = replace_random(replace);
    int failure = EEXIST;

    for (int i = 0; i < REPLACE_ATTEMPTS && failure == EEXIST; i++) {
        snprintf(replace->temporary, replace_temporary_bytes(replace->path), "%s.tmp-%016" PRIx64,
                 replace->path, random_next(&random));
        failure = io->open(io->context, replace->temporary, ANNEX_OPEN_CREATE, &replace->file);
    }
    if (failure != 0) {
        replace->file = NULL;
        return error_io(error, failure, "create", replace->path);
    }
    return ANNEX_OK;
}

annex_status replace_begin(struct replace_file *replace, const annex_env *env, const char *path,
                           annex_error *error)
{
    size_t path_bytes = strlen(path) + 1;
    annex_status status;

    *replace = (struct replace_file){.env = env};
    TRY_CLEANUP(memory_new_raw(env, path_bytes, 1, &replace->path, error));
    memcpy(replace->path, path, path_bytes);
    TRY_CLEANUP(memory_new_raw(env, replace_temporary_bytes(path), 1, &replace->temporary, error));
    TRY_CLEANUP(replace_create(replace, error));
    return ANNEX_OK;

cleanup:
    replace_release(replace);
    return status;
}

annex_status replace_write(struct replace_file *replace, const void *data, size_t bytes,
                           uint64_t offset, annex_error *error)
{
    const annex_io *io = &replace->env->io;
    int failure = io->write(io->context, replace->file, data, bytes, offset);

    return failure == 0 ? ANNEX_OK : error_io(error, failure, "write", replace->path);
}

/* The name must be durable too: syncs the directory that holds `path`. */
static annex_status replace_sync_directory(struct replace_file *replace, annex_error *error)
{
    const annex_io *io = &replace->env->io;
    const char *slash = strrchr(replace->path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - replace->path);
    int failure;

    if (slash == NULL) {
        failure = io->sync_directory(io->context, ".");
    } else {
        /* The temporary's name is not needed any more, and is long enough for the folder's. */
        memcpy(replace->temporary, replace->path, length);
        memcpy(replace->temporary + length, length == 0 ? "/" : "", length == 0 ? 2 : 1);
        failure = io->sync_directory(io->context, replace->temporary);
    }
    return failure == 0 ? ANNEX_OK : error_io(error, failure, "sync the folder of", replace->path);
}

annex_status replace_commit(struct replace_file *replace, annex_error *error)
{
    const annex_io *io = &replace->env->io;
    annex_status status = ANNEX_OK;
    int failure = io->sync(io->context, replace->file);
    int close_failure = io->close(io->context, replace->file);

    replace->file = NULL;
    failure = failure != 0 ? failure : close_failure;
    if (failure != 0) {
        status = error_io(error, failure, "sync", replace->path);
        goto cleanup;
    }
    failure = io->rename(io->context, replace->temporary, replace->path);
    if (failure != 0) {
        status = error_io(error, failure, "rename the new file to", replace->path);
        goto cleanup;
    }
    status = replace_sync_directory(replace, error);
    replace_release(replace);
    return status;

cleanup:
    replace_abort(replace);
    return status;
}

void replace_abort(struct replace_file *replace)
{
    if (replace->env == NULL || replace->temporary == NULL) {
        return;
    }
    if (replace->file != NULL) {
        replace->env->io.close(replace->env->io.context, replace->file);
    }
    replace->env->io.remove(replace->env->io.context, replace->temporary);
    replace_release(replace);
}
