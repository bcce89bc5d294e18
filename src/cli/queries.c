/* queries.c - see queries.h. */
#include "queries.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "progress.h"

#define MAX_QUERY_TEXT (16u << 20) /* more than 65,535 numbers of any length in use */

/* Standard input up to its end, terminated. */
static annex_status read_standard_input(char **text, annex_error *error)
{
    size_t capacity = 1u << 16, bytes = 0;
    char *data = session_memory(capacity, 1);
    for (;;) {
        ssize_t n = read(STDIN_FILENO, data + bytes, capacity - 1 - bytes);
        if (progress_interrupted()) {
            free(data);
            return session_error(error, ANNEX_CANCELLED, "interrupted");
        }
        if (n < 0) {
            int reason = errno;
            free(data);
            return session_error(error, ANNEX_IO, "cannot read standard input: %s",
                                 strerror(reason));
        }
        if (n == 0) {
            data[bytes] = '\0';
            *text = data;
            return ANNEX_OK;
        }
        bytes += (size_t)n;
        if (bytes == capacity - 1 && capacity >= MAX_QUERY_TEXT) {
            free(data);
            return session_error(error, ANNEX_INVALID,
                                 "standard input is longer than %u bytes; one query is expected",
                                 MAX_QUERY_TEXT);
        }
        if (bytes == capacity - 1) {
            char *larger = session_memory(2 * capacity, 1);
            memcpy(larger, data, bytes);
            free(data);
            data = larger;
            capacity *= 2;
        }
    }
}

annex_status queries_parse(const char *text, struct queries *queries, annex_error *error)
{
    *queries = (struct queries){0};
    if (strcmp(text, "-") == 0) {
        annex_status status = read_standard_input(&queries->text, error);
        if (status != ANNEX_OK) {
            return status;
        }
    } else {
        size_t bytes = strlen(text) + 1;
        queries->text = memcpy(session_memory(bytes, 1), text, bytes);
    }
    queries->vectors = session_memory(ANNEX_MAX_DIMENSION, sizeof(float));
    size_t n = 0;
    annex_status status = annex_vector_parse(queries->text, strlen(queries->text), queries->vectors,
                                             ANNEX_MAX_DIMENSION, &n, error);
    if (status == ANNEX_OK && n == 0) {
        status = session_error(error, ANNEX_INVALID, "the query has no elements");
    }
    queries->n = 1;
    queries->dimension = (uint32_t)n;
    return status;
}

/* All rows of an open reader as f32, [rows x dimension], freed by free(). */
static annex_status queries_read_rows(annex_reader *reader, float **vectors, annex_error *error)
{
    annex_reader_info info;
    annex_reader_describe(reader, &info);
    size_t row_floats = info.dimension, used = 0;
    *vectors = session_memory(info.rows, row_floats * sizeof(float));
    annex_rows rows = annex_reader_rows(reader);
    for (;;) {
        annex_batch batch = {0};
        annex_status status = rows.next(rows.context, &batch, error);
        if (status == ANNEX_OK && progress_interrupted()) {
            status = session_error(error, ANNEX_CANCELLED, "interrupted");
        }
        if (status != ANNEX_OK || batch.n == 0) {
            return status;
        }
        if (batch.n > info.rows - used) {
            return session_error(error, ANNEX_DAMAGED, "more rows than the file announced");
        }
        memcpy(*vectors + used * row_floats, batch.vectors, batch.n * row_floats * sizeof(float));
        used += batch.n;
    }
}

annex_status queries_read(const struct session *session, const char *path, const char *dataset,
                          struct queries *queries, annex_error *error)
{
    *queries = (struct queries){0};
    annex_reader *reader = NULL;
    annex_status status =
        annex_reader_open(&session->env, path, dataset != NULL ? dataset : "test", &reader, error);
    if (status != ANNEX_OK) {
        return status;
    }
    annex_reader_info info;
    annex_reader_describe(reader, &info);
    if (info.format == ANNEX_BITS) {
        status = session_error(error, ANNEX_UNSUPPORTED,
                               "%s holds bits; queries from files are numbers", path);
    }
    if (status == ANNEX_OK) {
        status = queries_read_rows(reader, &queries->vectors, error);
    }
    queries->n = (size_t)info.rows;
    queries->dimension = info.dimension;
    queries->metric = info.metric;
    annex_reader_close(reader);
    return status;
}

void queries_free(struct queries *queries)
{
    free(queries->vectors);
    free(queries->text);
    *queries = (struct queries){0};
}

annex_status queries_fit(const struct queries *queries, uint32_t dimension, annex_error *error)
{
    if (queries->dimension == dimension) {
        return ANNEX_OK;
    }
    return session_error(error, ANNEX_INVALID,
                         "the query has %" PRIu32
                         " elements, the vectors of the index have %" PRIu32,
                         queries->dimension, dimension);
}

annex_status queries_pack(struct queries *queries, annex_error *error)
{
    size_t row_bytes = (queries->dimension + 7) / 8;
    unsigned char *packed = session_memory(queries->n, row_bytes);
    for (size_t q = 0; q < queries->n; q++) {
        const float *vector = queries->vectors + q * queries->dimension;
        for (size_t i = 0; i < queries->dimension; i++) {
            if (vector[i] != 0.0f && vector[i] != 1.0f) {
                free(packed);
                return session_error(error, ANNEX_INVALID,
                                     "element %zu of query %zu is %g; the index holds bits, 0 or 1",
                                     i, q, (double)vector[i]);
            }
            packed[q * row_bytes + i / 8] |= (unsigned char)((vector[i] == 1.0f) << i % 8);
        }
    }
    memcpy(queries->vectors, packed, queries->n * row_bytes);
    free(packed);
    return ANNEX_OK;
}
