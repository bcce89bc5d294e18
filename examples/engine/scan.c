/*
 * scan.c - a whole engine in 150 lines: it keeps the vectors and looks at all of them. Exact, and
 * slow beyond some 10,000 rows; a place to begin from. Image: struct head, the vectors. Memory is
 * malloc's, to be short.
 */
#define ANNEX_ENGINE_PLUGIN
#include "annex-engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct head {
    uint32_t metric, dimension, rows, zero;
};

struct annex_engine_index {
    struct head head;
    const char *image; /* the head, and [rows x dimension] vectors */
    size_t bytes;
    void *built; /* the image, or NULL when it is Annex's */
};

static annex_status fail(annex_error *error, annex_status status, const char *message)
{
    snprintf(error->message, sizeof error->message, "%s", message);
    return error->status = status;
}

static double apart(const struct head *head, const float *a, const float *b)
{
    double square = 0, dot = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < head->dimension; i++) {
        square += (double)(a[i] - b[i]) * (a[i] - b[i]);
        dot += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    }
    return head->metric == ANNEX_L2   ? square
           : head->metric == ANNEX_IP ? -dot
                                      : -dot / sqrt(aa * bb);
}

static void scan_close(annex_engine_index *index)
{
    free(index != NULL ? index->built : NULL), free(index);
}

static annex_status scan_open(const annex_env *env, const char *path, const void *image,
                              uint64_t bytes, unsigned flags, annex_engine_index **out,
                              annex_error *error)
{
    (void)env, (void)path, (void)flags;
    annex_engine_index *index = calloc(1, sizeof *index);
    if (index == NULL) {
        return fail(error, ANNEX_NOMEM, "no memory");
    }
    memcpy(&index->head, image, sizeof index->head); /* Annex has compared the checksum */
    index->image = image, index->bytes = bytes;
    return *out = index, ANNEX_OK;
}

static annex_status scan_build(const annex_env *env, const annex_build_options *options,
                               const char *json, const annex_rows *rows, const char *path,
                               annex_engine_index **out, annex_error *error)
{
    struct head head = {options->metric, options->dimension, 0, 0};
    size_t row_bytes = sizeof(float) * head.dimension, bytes = sizeof head;
    (void)json;
    if (head.metric > ANNEX_COSINE) {
        return fail(error, ANNEX_UNSUPPORTED, "it knows the metrics l2, ip and cosine");
    }
    char *image = malloc(bytes);
    for (annex_batch batch; image != NULL; bytes += batch.n * row_bytes) {
        annex_status status = rows->next(rows->context, &batch, error);
        if (status != ANNEX_OK) {
            free(image);
            return status;
        }
        head.rows += (uint32_t)batch.n;
        if (batch.n == 0) {
            break;
        }
        char *more = realloc(image, bytes + batch.n * row_bytes);
        more != NULL ? (void)memcpy(more + bytes, batch.vectors, batch.n * row_bytes) : free(image);
        image = more;
    }
    if (image == NULL ||
        scan_open(env, path, memcpy(image, &head, sizeof head), bytes, 0, out, error)) {
        free(image);
        return fail(error, ANNEX_NOMEM, "no memory");
    }
    (*out)->built = image;
    return ANNEX_OK;
}

static void scan_describe(const annex_engine_index *index, annex_engine_info *info)
{
    info->rows = index->head.rows;
    info->recall = 1;
}

static annex_status scan_save(const annex_engine_index *index, annex_engine_write write,
                              void *context, annex_error *error)
{
    return write(context, index->image, index->bytes, error);
}

static annex_status scan_search(const annex_engine_index *index, const void *queries, size_t n,
                                size_t k, const annex_search_options *options, annex_hit *hits,
                                size_t *found, annex_error *error)
{
    const struct head *head = &index->head;
    const float *vectors = (const float *)(const void *)(index->image + sizeof *head);
    (void)error;
    for (size_t q = 0; q < n; q++, hits += k) {
        const float *query = (const float *)queries + q * head->dimension;
        found[q] = 0;
        for (uint32_t row = 0; row < head->rows; row++) {
            const uint64_t *allowed = options->allowed;
            if (allowed != NULL && !(allowed[row / 64] >> row % 64 & 1)) {
                continue;
            }
            double distance = apart(head, query, vectors + (size_t)row * head->dimension);
            options->stats->distances++;
            if (found[q] == k && !(distance < hits[k - 1].distance)) {
                continue;
            }
            size_t at = found[q] < k ? found[q]++ : k - 1;
            for (; at > 0 && hits[at - 1].distance > distance; at--) {
                hits[at] = hits[at - 1];
            }
            hits[at] = (annex_hit){.distance = distance, .row = row};
        }
    }
    return ANNEX_OK;
}

const annex_engine *annex_engine_entry(uint32_t abi)
{
    static const annex_engine scan = {.abi = ANNEX_ENGINE_ABI,
                                      .struct_bytes = sizeof scan,
                                      .name = "scan",
                                      .build = scan_build,
                                      .open = scan_open,
                                      .close = scan_close,
                                      .describe = scan_describe,
                                      .save = scan_save,
                                      .search = scan_search};
    return abi == ANNEX_ENGINE_ABI ? &scan : NULL;
}
