/* support.c - the environment of the fuzz targets; see support.h. */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST_ALLOCATION_BYTES ((size_t)64 << 20)

void fuzz_fail(const char *property, const char *file, int line)
{
    fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, property);
    abort();
}

static void *fuzz_allocate(void *context, size_t bytes, size_t alignment)
{
    void *pointer = NULL;

    (void)context;
    if (bytes > LARGEST_ALLOCATION_BYTES || posix_memalign(&pointer, alignment, bytes) != 0) {
        return NULL;
    }
    return pointer;
}

static void fuzz_release(void *context, void *pointer, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(pointer);
}

static int fuzz_open(void *context, const char *path, annex_open_mode mode, void **file)
{
    (void)path;
    *file = NULL;
    if (mode != ANNEX_OPEN_READ) {
        return EACCES;
    }
    *file = context;
    return 0;
}

static int fuzz_close(void *context, void *file)
{
    FUZZ_REQUIRE(file == context);
    return 0;
}

static int fuzz_size(void *context, void *file, uint64_t *bytes)
{
    const struct fuzz_input *input = context;

    FUZZ_REQUIRE(file == context);
    *bytes = input->size;
    return 0;
}

static int fuzz_read(void *context, void *file, void *buffer, size_t bytes, uint64_t offset)
{
    const struct fuzz_input *input = context;

    FUZZ_REQUIRE(file == context);
    if (offset > input->size || bytes > input->size - offset) {
        return EIO;
    }
    if (bytes > 0) {
        memcpy(buffer, input->data + offset, bytes);
    }
    return 0;
}

static int fuzz_write(void *context, void *file, const void *buffer, size_t bytes, uint64_t offset)
{
    (void)context;
    (void)file;
    (void)buffer;
    (void)bytes;
    (void)offset;
    return EROFS;
}

static int fuzz_sync(void *context, void *file)
{
    (void)context;
    (void)file;
    return EROFS;
}

static int fuzz_rename(void *context, const char *from, const char *to)
{
    (void)context;
    (void)from;
    (void)to;
    return EROFS;
}

static int fuzz_path(void *context, const char *path)
{
    (void)context;
    (void)path;
    return EROFS;
}

static int fuzz_map(void *context, void *file, uint64_t bytes, const void **address)
{
    const struct fuzz_input *input = context;
    void *copy = NULL;

    FUZZ_REQUIRE(file == context);
    *address = NULL;
    if (bytes > input->size) {
        return EIO;
    }
    /* A copy of the exact size: a read past the end is seen. */
    if (posix_memalign(&copy, 4096, bytes + !bytes) != 0) {
        return ENOMEM;
    }
    memcpy(copy, input->data, bytes);
    *address = copy;
    return 0;
}

static void fuzz_unmap(void *context, const void *address, uint64_t bytes)
{
    (void)context;
    (void)bytes;
    free((void *)(uintptr_t)address);
}

static unsigned fuzz_thread_count(void *context)
{
    (void)context;
    return 1;
}

static void fuzz_run(void *context, unsigned n, void (*work)(void *argument, unsigned i),
                     void *argument)
{
    (void)context;
    for (unsigned i = 0; i < n; i++) {
        work(argument, i);
    }
}

annex_env fuzz_env(struct fuzz_input *input)
{
    annex_env env = {
        .memory = {NULL, fuzz_allocate, fuzz_release},
        .io =
            {
                .context = input,
                .open = fuzz_open,
                .close = fuzz_close,
                .size = fuzz_size,
                .read = fuzz_read,
                .write = fuzz_write,
                .sync = fuzz_sync,
                .rename = fuzz_rename,
                .remove = fuzz_path,
                .sync_directory = fuzz_path,
                .map = fuzz_map,
                .unmap = fuzz_unmap,
            },
        .threads = {NULL, fuzz_thread_count, fuzz_run},
        .log = {NULL, NULL, NULL},
    };

    return env;
}

/* What was read; only so that the reads are not left out. */
static volatile uint8_t fuzz_seen;

/* Reads every row; how many there were, or UINT64_MAX after an error. */
static uint64_t fuzz_count_rows(const annex_rows *rows, const annex_reader_info *info)
{
    uint64_t total = 0;
    size_t row_bytes = info->format == ANNEX_BITS ? (info->dimension + 7) / 8
                                                  : (size_t)info->dimension * sizeof(float);

    for (;;) {
        annex_batch batch;
        annex_error error;

        if (rows->next(rows->context, &batch, &error) != ANNEX_OK) {
            FUZZ_REQUIRE(memchr(error.message, 0, sizeof error.message) != NULL);
            return UINT64_MAX;
        }
        if (batch.n == 0) {
            return total;
        }
        /* Touch both ends of what is promised to be there. */
        fuzz_seen ^= ((const uint8_t *)batch.vectors)[0];
        fuzz_seen ^= ((const uint8_t *)batch.vectors)[batch.n * row_bytes - 1];
        total += batch.n;
        FUZZ_REQUIRE(total <= info->rows);
    }
}

void fuzz_read_vectors(struct fuzz_input *input, const char *path)
{
    annex_env env = fuzz_env(input);
    annex_reader *reader = NULL;
    annex_reader_info info;
    annex_error error;
    annex_rows rows;
    uint64_t first;
    int64_t integers[16];

    if (annex_reader_open(&env, path, NULL, &reader, &error) != ANNEX_OK) {
        FUZZ_REQUIRE(reader == NULL && memchr(error.message, 0, sizeof error.message) != NULL);
        return;
    }
    annex_reader_describe(reader, &info);
    FUZZ_REQUIRE(info.rows == 0 || info.dimension > 0);
    FUZZ_REQUIRE(info.dimension <= ANNEX_MAX_DIMENSION);
    rows = annex_reader_rows(reader);
    first = fuzz_count_rows(&rows, &info);
    if (rows.rewind(rows.context, &error) == ANNEX_OK) {
        FUZZ_REQUIRE(fuzz_count_rows(&rows, &info) == first);
    }
    if (info.dimension > 0 && info.dimension <= 16 && info.rows > 0) {
        (void)annex_reader_integers(reader, info.rows - 1, 1, integers, &error);
    }
    annex_reader_close(reader);
}
