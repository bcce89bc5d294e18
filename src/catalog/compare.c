/*
 * compare.c - the table against the segments: which rows of one the other does not have.
 *
 * Segments of the native engine hold codes, not vectors, but a vector has one code only under the
 * codec of a segment: a row whose code and loss are those that the vector of today would get needs
 * nothing: answers are ranked by the vectors of the table. Around a segment of another engine there
 * is a fingerprint of each vector. So a sync mends an index that nobody watched with one pass over
 * the table and without building it anew, and a check knows what a search could miss.
 *
 * Invariants
 *   1. Every row of the table and every row that a segment may find is looked at once.
 *   2. A vector that loses more by coding than the segment says is changed: scans rely on it.
 */
#include "catalog/catalog.h"

#include "index/index.h"

struct comparison {
    annex_db *db;
    struct catalog_index *index;
    compare_found found;
    void *context;
    struct source_rows rows;
    struct progress progress;
    uint8_t *code; /* [code_bytes] of a vector, under the codec of any part */
    size_t code_bytes;
    void *lists; /* working memory for a part that is lists */
    size_t lists_bytes;
    float *unit;     /* [dimension], under cosine */
    float *work;     /* [dimension], for coding */
    uint64_t **seen; /* for each part, rows that the table has */
};

/* ---- rows of the table ------------------------------------------------------------------------*/

static bool compare_same(struct comparison *self, const struct catalog_part *part, uint32_t row,
                         const void *vector)
{
    const annex_index *index = engine_native_index(part->index);
    const struct frame *frame = &part->index->frame;
    float lost = 0;
    if (index == NULL) {
        return frame_print(frame, vector) == frame->prints[row];
    }
    if (index->codec.metric == ANNEX_COSINE) {
        codec_normalize(vector, self->unit, index->codec.dimension);
        vector = self->unit;
    }
    codec_encode(&index->codec, vector, self->code, self->work, &lost);
    if (index->header.family == ANNEX_IVF) {
        return ivf_holds(index, row, self->code, self->lists);
    }
    return memcmp(self->code, index_code(index, row), index->codec.row_bytes) == 0 &&
           (index->errors == NULL || lost <= index->errors[row]);
}

static annex_status compare_row(struct comparison *self, const struct rowkey *key,
                                const void *vector, annex_error *error)
{
    struct catalog_index *index = self->index;
    unsigned times = 0;
    bool same = true;
    size_t position = 0;
    if (rowkey_set_find(&index->delta.keys, key, &position)) {
        return ANNEX_OK;
    }
    for (size_t i = 0; i < index->n_parts; i++) {
        const struct catalog_part *part = &index->parts[i];
        uint32_t row = 0;
        if (part_find(part, key, &row) && bitmap_get(part->allowed, row)) {
            times++;
            bitmap_set(self->seen[i], row);
            same = same && compare_same(self, part, row, vector);
        }
    }
    if (times == 1 && same) {
        return ANNEX_OK;
    }
    enum compare_finding finding = times == 0  ? COMPARE_MISSING
                                   : times > 1 ? COMPARE_TWICE
                                               : COMPARE_CHANGED;
    return self->found(self->context, finding, key, error);
}

static annex_status compare_rows(struct comparison *self, struct compare_report *report,
                                 annex_error *error)
{
    annex_batch batch;
    annex_rows view = source_rows_view(&self->rows);
    TRY(progress_begin(&self->progress, &self->db->env, "comparing rows", 0, error));
    do {
        TRY(view.next(view.context, &batch, error));
        for (size_t i = 0; i < batch.n; i++) {
            struct rowkey key = rowkey_set_at(&self->rows.batch, i);
            const char *vector = (const char *)batch.vectors + i * self->rows.reader.bytes;
            TRY(compare_row(self, &key, vector, error));
        }
        report->rows += batch.n;
        TRY(progress_update(&self->progress, report->rows, error));
    } while (batch.n > 0);
    report->left_out = self->rows.left_out;
    memcpy(report->first_left_out, self->rows.first_left_out, sizeof report->first_left_out);
    return ANNEX_OK;
}

/* ---- rows of the segments ---------------------------------------------------------------------*/

static annex_status compare_part(struct comparison *self, size_t i, annex_error *error)
{
    const struct catalog_part *part = &self->index->parts[i];
    for (uint32_t row = 0; part->index != NULL && row < part->slots; row++) {
        struct rowkey key;
        if (bitmap_get(part->allowed, row) && !bitmap_get(self->seen[i], row)) {
            TRY(part_row_key(part, self->index->shape, row, &key, error));
            TRY(self->found(self->context, COMPARE_EXTRA, &key, error));
        }
    }
    return ANNEX_OK;
}

/* ---- all of them ------------------------------------------------------------------------------*/

static annex_status compare_open(struct comparison *self, annex_error *error)
{
    struct catalog_index *index = self->index;
    const annex_env *env = &self->db->env;
    TRY(source_rows_open(self->db, index, NULL, "", false, &self->rows, error));
    for (size_t i = 0; i < index->n_parts; i++) {
        const struct engine_index *opened = index->parts[i].index;
        const annex_index *native = opened != NULL ? engine_native_index(opened) : NULL;
        if (native != NULL) {
            self->code_bytes = MAX(self->code_bytes, native->codec.row_bytes); /* of any codes */
            size_t bytes = ivf_compare_bytes(native);
            self->lists_bytes = MAX(self->lists_bytes, bytes);
        }
    }
    TRY(memory_new(env, self->lists_bytes, 1, &self->lists, error));
    TRY(memory_new(env, self->code_bytes, 1, &self->code, error));
    TRY(memory_new(env, index->definition.dimension, sizeof *self->unit, &self->unit, error));
    TRY(memory_new(env, index->definition.dimension, sizeof *self->work, &self->work, error));
    TRY(memory_new(env, index->n_parts, sizeof *self->seen, &self->seen, error));
    for (size_t i = 0; i < index->n_parts; i++) {
        size_t words = bitmap_words(index->parts[i].slots);
        TRY(memory_new(env, words, sizeof *self->seen[i], &self->seen[i], error));
    }
    return ANNEX_OK;
}

static void compare_close(struct comparison *self)
{
    const struct catalog_index *index = self->index;
    const annex_env *env = &self->db->env;
    for (size_t i = 0; self->seen != NULL && i < index->n_parts; i++) {
        size_t words = bitmap_words(index->parts[i].slots);
        memory_free(env, self->seen[i], words, sizeof *self->seen[i]);
    }
    memory_free(env, self->seen, index->n_parts, sizeof *self->seen);
    memory_free(env, self->unit, index->definition.dimension, sizeof *self->unit);
    memory_free(env, self->work, index->definition.dimension, sizeof *self->work);
    memory_free(env, self->code, self->code_bytes, 1);
    memory_free(env, self->lists, self->lists_bytes, 1);
    source_rows_close(&self->rows);
}

annex_status compare_table(annex_db *db, struct catalog_index *index, compare_found found,
                           void *context, struct compare_report *report, annex_error *error)
{
    struct comparison self = {.db = db, .index = index, .found = found, .context = context};
    memset(report, 0, sizeof *report);
    annex_status status = compare_open(&self, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(compare_rows(&self, report, error));
    for (size_t i = 0; i < index->n_parts; i++) {
        TRY_CLEANUP(compare_part(&self, i, error));
    }
cleanup:
    compare_close(&self);
    return status;
}
