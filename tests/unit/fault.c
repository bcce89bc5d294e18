/*
 * fault.c - see fault.h.
 */
#include "fault.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fault_block {
    struct fault_block *next;
    void *pointer;
    size_t bytes;
};

/* Counts a call; true when it shall fail. */
static bool fault_strikes(struct fault *fault, enum fault_target target)
{
    bool strikes = false;

    pthread_mutex_lock(&fault->lock);
    if (target == FAULT_MEMORY) {
        fault->allocations++;
    } else {
        fault->io_calls++;
    }
    if (target == fault->target) {
        fault->calls++;
        strikes = fault->calls == fault->fail_at || (fault->forever && fault->triggered);
        fault->triggered = fault->triggered || strikes;
    }
    pthread_mutex_unlock(&fault->lock);
    return strikes;
}

static void fault_count(struct fault *fault, uint64_t *counter, int by)
{
    pthread_mutex_lock(&fault->lock);
    *counter += (uint64_t)(int64_t)by;
    pthread_mutex_unlock(&fault->lock);
}

/* ---- memory ----------------------------------------------------------------------------------*/

static void *fault_allocate(void *context, size_t bytes, size_t alignment)
{
    struct fault *fault = context;
    struct fault_block *block;

    if (fault_strikes(fault, FAULT_MEMORY)) {
        return NULL;
    }
    block = malloc(sizeof *block);
    if (block == NULL) {
        return NULL;
    }
    block->bytes = bytes;
    block->pointer = fault->inner.memory.allocate(fault->inner.memory.context, bytes, alignment);
    if (block->pointer == NULL) {
        free(block);
        return NULL;
    }
    memset(block->pointer, 0xa5, bytes);
    pthread_mutex_lock(&fault->lock);
    block->next = fault->blocks;
    fault->blocks = block;
    fault->live_bytes += bytes;
    if (fault->live_bytes > fault->peak_bytes) {
        fault->peak_bytes = fault->live_bytes;
    }
    pthread_mutex_unlock(&fault->lock);
    return block->pointer;
}

static void fault_release(void *context, void *pointer, size_t bytes)
{
    struct fault *fault = context;
    struct fault_block *block;

    if (pointer == NULL) {
        return;
    }
    pthread_mutex_lock(&fault->lock);
    for (struct fault_block **at = &fault->blocks;; at = &(*at)->next) {
        block = *at;
        if (block == NULL || block->pointer == pointer) {
            if (block != NULL) {
                *at = block->next;
                fault->live_bytes -= block->bytes;
            }
            break;
        }
    }
    pthread_mutex_unlock(&fault->lock);
    if (block == NULL || block->bytes != bytes) {
        /* May be another thread than the test's: cmocka's longjmp would be wrong. */
        fprintf(stderr, "released %p as %zu bytes, allocated were %zu\n", pointer, bytes,
                block == NULL ? 0 : block->bytes);
        abort();
    }
    fault->inner.memory.release(fault->inner.memory.context, pointer, bytes);
    free(block);
}

/* ---- files -----------------------------------------------------------------------------------*/

static int fault_open(void *context, const char *path, annex_open_mode mode, void **file)
{
    struct fault *fault = context;
    int failure;

    *file = NULL;
    if (fault_strikes(fault, FAULT_IO)) {
        return fault->fail_errno;
    }
    failure = fault->inner.io.open(fault->inner.io.context, path, mode, file);
    fault_count(fault, &fault->open_files, failure == 0);
    return failure;
}

static int fault_close(void *context, void *file)
{
    struct fault *fault = context;
    bool strikes = fault_strikes(fault, FAULT_IO);
    int failure = fault->inner.io.close(fault->inner.io.context, file);

    fault_count(fault, &fault->open_files, -1);
    return strikes ? fault->fail_errno : failure;
}

static int fault_size(void *context, void *file, uint64_t *bytes)
{
    struct fault *fault = context;

    *bytes = 0;
    if (fault_strikes(fault, FAULT_IO)) {
        return fault->fail_errno;
    }
    return fault->inner.io.size(fault->inner.io.context, file, bytes);
}

static int fault_read(void *context, void *file, void *buffer, size_t bytes, uint64_t offset)
{
    struct fault *fault = context;

    if (fault_strikes(fault, FAULT_IO)) {
        memset(buffer, 0xa5, bytes);
        return fault->fail_errno;
    }
    return fault->inner.io.read(fault->inner.io.context, file, buffer, bytes, offset);
}

static int fault_write(void *context, void *file, const void *buffer, size_t bytes, uint64_t offset)
{
    struct fault *fault = context;

    if (fault_strikes(fault, FAULT_IO)) {
        fault->inner.io.write(fault->inner.io.context, file, buffer, bytes / 2, offset);
        return fault->fail_errno;
    }
    return fault->inner.io.write(fault->inner.io.context, file, buffer, bytes, offset);
}

static int fault_sync(void *context, void *file)
{
    struct fault *fault = context;

    if (fault_strikes(fault, FAULT_IO)) {
        return fault->fail_errno;
    }
    return fault->inner.io.sync(fault->inner.io.context, file);
}

static int fault_rename(void *context, const char *from, const char *to)
{
    struct fault *fault = context;

    if (fault_strikes(fault, FAULT_IO)) {
        return fault->fail_errno;
    }
    return fault->inner.io.rename(fault->inner.io.context, from, to);
}

static int fault_remove(void *context, const char *path)
{
    struct fault *fault = context;

    if (fault_strikes(fault, FAULT_IO)) {
        return fault->fail_errno;
    }
    return fault->inner.io.remove(fault->inner.io.context, path);
}

static int fault_sync_directory(void *context, const char *path)
{
    struct fault *fault = context;

    if (fault_strikes(fault, FAULT_IO)) {
        return fault->fail_errno;
    }
    return fault->inner.io.sync_directory(fault->inner.io.context, path);
}

static int fault_map(void *context, void *file, uint64_t bytes, const void **address)
{
    struct fault *fault = context;
    int failure;

    *address = NULL;
    if (fault_strikes(fault, FAULT_IO)) {
        return fault->fail_errno;
    }
    failure = fault->inner.io.map(fault->inner.io.context, file, bytes, address);
    fault_count(fault, &fault->mappings, failure == 0);
    return failure;
}

static void fault_unmap(void *context, const void *address, uint64_t bytes)
{
    struct fault *fault = context;

    fault_count(fault, &fault->mappings, -1);
    fault->inner.io.unmap(fault->inner.io.context, address, bytes);
}

/* ---- use -------------------------------------------------------------------------------------*/

void fault_init(struct fault *fault, const annex_env *inner)
{
    *fault = (struct fault){.inner = inner == NULL ? annex_env_default() : *inner};
    pthread_mutex_init(&fault->lock, NULL);
    fault->env = (annex_env){
        .memory = {.context = fault, .allocate = fault_allocate, .release = fault_release},
        .io = {.context = fault,
               .open = fault_open,
               .close = fault_close,
               .size = fault_size,
               .read = fault_read,
               .write = fault_write,
               .sync = fault_sync,
               .rename = fault_rename,
               .remove = fault_remove,
               .sync_directory = fault_sync_directory,
               .map = fault_map,
               .unmap = fault_unmap},
        .threads = fault->inner.threads,
        .log = fault->inner.log,
    };
}

void fault_arm(struct fault *fault, enum fault_target target, uint64_t fail_at, bool forever)
{
    fault->target = target;
    fault->fail_at = fail_at;
    fault->forever = forever;
    fault->fail_errno = EIO;
    fault->calls = 0;
    fault->triggered = false;
}

void fault_disarm(struct fault *fault)
{
    fault_arm(fault, FAULT_NONE, 0, false);
}

bool fault_loop(struct fault *fault, enum fault_target target, uint64_t n, bool forever)
{
    if (n > 1) {
        fault_check_clean(fault);
        if (!fault->triggered) {
            fault_disarm(fault);
            return false;
        }
    }
    fault_arm(fault, target, n, forever);
    return true;
}

void fault_check_clean(struct fault *fault)
{
    if (fault->blocks != NULL || fault->open_files != 0 || fault->mappings != 0) {
        fail_msg("not released: %" PRIu64 " bytes of memory, %" PRIu64 " files, %" PRIu64
                 " mappings (fault %" PRIu64 ")",
                 fault->live_bytes, fault->open_files, fault->mappings, fault->fail_at);
    }
}

void fault_free(struct fault *fault)
{
    fault_check_clean(fault);
    pthread_mutex_destroy(&fault->lock);
}
