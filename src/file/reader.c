/*
 * reader.c - annex_reader: the rows of one file of vectors, or of all files in a folder.
 *
 * Invariants
 *   1. All files have one kind, one type of element and one dimension. No rows are fine; empty
 *      files, which say no dimension, are passed over.
 *   2. Memory does not grow with the number of rows: a block of rows as stored and the same block
 *      as f32, a few MiB each, and a path and a number for each file.
 *   3. One file is open at a time. Its header is read and checked anew whenever it is opened.
 *
 * Does not look for NaN: whoever builds an index does, and knows the row.
 */
#include <inttypes.h>
#include <stdio.h>

#include "file/listing.h"
#include "file/source.h"

#define READER_BLOCK_BYTES ((size_t)4 << 20)
#define READER_MAX_BLOCK_ROWS ((size_t)4096)

struct annex_reader {
    annex_env env;
    annex_reader_info info;
    char *dataset; /* NULL for the default */
    struct listing listing;
    uint64_t
        *first_rows; /* [listing.n + 1]: file i holds rows first_rows[i] .. first_rows[i + 1] */
    size_t current;  /* the file that `source` is, when it is open */
    struct source source;
    enum element element;
    uint64_t next_row;
    size_t block_rows;
    size_t stride;  /* bytes of a row as stored */
    void *stored;   /* [block_rows x stride] */
    float *widened; /* [block_rows x dimension]; NULL when `stored` are f32 */
};

/* ---- Files ------------------------------------------------------------------------------------*/

static annex_status reader_open_file(annex_reader *reader, size_t i, annex_error *error)
{
    source_close(&reader->source);
    reader->current = i;
    return source_open(&reader->source, &reader->env, reader->listing.paths[i], reader->dataset,
                       error);
}

/* The first file that says a dimension says what the reader holds. */
static void reader_take_shape(annex_reader *reader)
{
    const struct source *source = &reader->source;

    reader->element = source->element;
    reader->stride = source_stride(source);
    reader->info.dimension = source->dimension;
    reader->info.format = source->format;
    reader->info.metric = source->metric;
    snprintf(reader->info.kind, sizeof reader->info.kind, "%s", source->kind->name);
}

static bool reader_fits_shape(const annex_reader *reader)
{
    return strcmp(reader->source.kind->name, reader->info.kind) == 0 &&
           reader->source.element == reader->element &&
           reader->source.dimension == reader->info.dimension;
}

/* The other files must be alike. */
static annex_status reader_check_shape(const annex_reader *reader, annex_error *error)
{
    const struct source *source = &reader->source;
    const annex_reader_info *info = &reader->info;

    if (reader_fits_shape(reader)) {
        return ANNEX_OK;
    }
    return error_set(error, ANNEX_INVALID,
                     "the files of a folder must be alike: %s is %s with %" PRIu32
                     " %s a row, and files before it are %s with %" PRIu32 " %s",
                     source->path, source->kind->name, source->dimension,
                     element_name(source->element), info->kind, info->dimension,
                     element_name(reader->element));
}

static annex_status reader_open_files(annex_reader *reader, annex_error *error)
{
    annex_reader_info *info = &reader->info;

    for (size_t i = 0; i < reader->listing.n; i++) {
        TRY(reader_open_file(reader, i, error));
        reader->first_rows[i] = info->rows;
        if (info->dimension == 0) {
            reader_take_shape(reader);
        } else if (reader->source.dimension > 0) {
            TRY(reader_check_shape(reader, error));
        }
        if (!checked_add(info->rows, reader->source.rows, &info->rows)) {
            return error_set(error, ANNEX_DAMAGED, "%s says that it has %" PRIu64 " rows",
                             reader->source.path, reader->source.rows);
        }
    }
    reader->first_rows[reader->listing.n] = info->rows;
    return ANNEX_OK;
}

/* The file that holds a row. */
static size_t reader_find_file(const annex_reader *reader, uint64_t row)
{
    size_t low = 0;
    size_t high = reader->listing.n;

    assert(row < reader->info.rows);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (reader->first_rows[middle] <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Opens the file that holds a row, unless it is open. */
static annex_status reader_go_to(annex_reader *reader, uint64_t row, annex_error *error)
{
    size_t i = reader_find_file(reader, row);

    if (i == reader->current && reader->source.env != NULL) {
        return ANNEX_OK;
    }
    TRY(reader_open_file(reader, i, error));
    if (reader->source.rows != reader->first_rows[i + 1] - reader->first_rows[i] ||
        !reader_fits_shape(reader)) {
        source_close(&reader->source);
        return error_set(error, ANNEX_INVALID, "%s changed while it was read; read it again",
                         reader->listing.paths[i]);
    }
    return ANNEX_OK;
}

/* Reads up to n rows of one file into reader->stored; *n becomes how many. */
static annex_status reader_read_stored(annex_reader *reader, uint64_t row, size_t *n,
                                       annex_error *error)
{
    uint64_t end;

    TRY(reader_go_to(reader, row, error));
    end = reader->first_rows[reader->current + 1];
    *n = (size_t)MIN(MIN(*n, reader->block_rows), end - row);
    return source_read(&reader->source, row - reader->first_rows[reader->current], *n,
                       reader->stored, error);
}

/* ---- Opening ----------------------------------------------------------------------------------*/

static annex_status reader_copy_dataset(annex_reader *reader, const char *dataset,
                                        annex_error *error)
{
    if (dataset == NULL) {
        return ANNEX_OK;
    }
    TRY(memory_new_raw(&reader->env, strlen(dataset) + 1, 1, &reader->dataset, error));
    memcpy(reader->dataset, dataset, strlen(dataset) + 1);
    return ANNEX_OK;
}

static annex_status reader_new_blocks(annex_reader *reader, annex_error *error)
{
    size_t row_bytes = (size_t)reader->info.dimension * sizeof(float);
    size_t rows = MIN(READER_BLOCK_BYTES / row_bytes, READER_MAX_BLOCK_ROWS);

    reader->block_rows = (size_t)MIN(MAX(rows, 1), reader->info.rows);
    TRY(memory_new_raw(&reader->env, reader->block_rows, reader->stride, &reader->stored, error));
    if (reader->element != ELEMENT_F32) {
        TRY(memory_new_raw(&reader->env, reader->block_rows, row_bytes, &reader->widened, error));
    }
    return ANNEX_OK;
}

annex_status annex_reader_open(const annex_env *env, const char *path, const char *dataset,
                               annex_reader **reader, annex_error *error)
{
    annex_reader *new_reader;
    annex_status status;

    *reader = NULL;
    TRY(memory_new(env, 1, sizeof *new_reader, &new_reader, error));
    new_reader->env = *env;
    TRY_CLEANUP(reader_copy_dataset(new_reader, dataset, error));
    TRY_CLEANUP(listing_read(&new_reader->listing, env, path, error));
    TRY_CLEANUP(memory_new(env, new_reader->listing.n + 1, sizeof *new_reader->first_rows,
                           &new_reader->first_rows, error));
    TRY_CLEANUP(reader_open_files(new_reader, error));
    if (new_reader->info.dimension == 0) {
        status =
            error_set(error, ANNEX_INVALID, "%s is empty: it does not even say a dimension", path);
        goto cleanup;
    }
    TRY_CLEANUP(reader_new_blocks(new_reader, error));
    *reader = new_reader;
    return ANNEX_OK;

cleanup:
    annex_reader_close(new_reader);
    return status;
}

void annex_reader_close(annex_reader *reader)
{
    annex_env env;
    size_t row_bytes;

    if (reader == NULL) {
        return;
    }
    env = reader->env;
    row_bytes = (size_t)reader->info.dimension * sizeof(float);
    source_close(&reader->source);
    memory_free(&env, reader->widened, reader->block_rows, row_bytes);
    memory_free(&env, reader->stored, reader->block_rows, reader->stride);
    memory_free(&env, reader->first_rows, reader->listing.n + 1, sizeof *reader->first_rows);
    listing_free(&reader->listing, &env);
    if (reader->dataset != NULL) {
        memory_free(&env, reader->dataset, strlen(reader->dataset) + 1, 1);
    }
    memory_free(&env, reader, 1, sizeof *reader);
}

void annex_reader_describe(const annex_reader *reader, annex_reader_info *info)
{
    *info = reader->info;
}

/* ---- Rows -------------------------------------------------------------------------------------*/

static annex_status reader_next(void *context, annex_batch *batch, annex_error *error)
{
    annex_reader *reader = context;
    size_t n = reader->block_rows;

    *batch = (annex_batch){0};
    if (reader->next_row == reader->info.rows) {
        return ANNEX_OK;
    }
    TRY(reader_read_stored(reader, reader->next_row, &n, error));
    if (reader->widened != NULL) {
        element_widen(reader->element, reader->stored, n * reader->info.dimension, reader->widened);
    }
    batch->n = n;
    batch->vectors = reader->widened != NULL ? reader->widened : reader->stored;
    reader->next_row += n;
    return ANNEX_OK;
}

static annex_status reader_rewind(void *context, annex_error *error)
{
    annex_reader *reader = context;

    (void)error;
    reader->next_row = 0;
    return ANNEX_OK;
}

annex_rows annex_reader_rows(annex_reader *reader)
{
    return (annex_rows){.context = reader, .next = reader_next, .rewind = reader_rewind};
}

annex_status annex_reader_integers(annex_reader *reader, uint64_t first, size_t n, int64_t *values,
                                   annex_error *error)
{
    if (first > reader->info.rows || n > reader->info.rows - first) {
        return error_set(error, ANNEX_INVALID,
                         "rows %" PRIu64 " to %" PRIu64 " were asked for; there are %" PRIu64,
                         first, first + n, reader->info.rows);
    }
    if (!element_is_integer(reader->element)) {
        return error_set(error, ANNEX_INVALID, "%s holds %s, not integers",
                         reader->listing.paths[0], element_name(reader->element));
    }
    while (n > 0) {
        size_t block = n;

        TRY(reader_read_stored(reader, first, &block, error));
        element_integers(reader->element, reader->stored, block * reader->info.dimension, values);
        values += block * reader->info.dimension;
        first += block;
        n -= block;
    }
    return ANNEX_OK;
}
