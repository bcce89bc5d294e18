/*
 * db_check.c - compares an index with its table, row by row, and every byte of it with its
 * checksums.
 *
 * The first thing that is wrong is reported in one sentence with what to run. Nothing is changed,
 * but a damaged copy in the cache is made anew. Segments hold codes, not vectors: a vector counts
 * as the same when it lies within what codes lose.
 */
#include "catalog/catalog.h"

#include <math.h>

#include "index/index.h"

struct check {
    annex_db *db;
    struct catalog_index *index;
    struct source_rows rows;
    struct progress progress;
    void *coded;     /* the vector that a segment holds */
    uint64_t *found; /* for each part, rows of the table that are in it */
    uint64_t n_rows;
};

/* ---- one row ---------------------------------------------------------------------------------*/

/* Under cosine segments hold the unit vector, so the vector of the table is scaled likewise. */
static bool check_same_vector(const struct check *check, const struct catalog_part *part,
                              uint32_t row, const void *vector)
{
    const annex_index_info *info = &part->info;
    size_t n = check->rows.reader.dimension;
    const float *expected = vector;
    const float *coded = check->coded;
    double norm = 0, off = 0;
    if (vector_is_bits(info->metric)) {
        return memcmp(vector, coded, check->rows.reader.bytes) == 0;
    }
    for (size_t i = 0; i < n; i++) {
        norm += (double)expected[i] * expected[i];
    }
    double scale = info->metric == ANNEX_COSINE ? 1 / sqrt(norm) : 1;
    for (size_t i = 0; i < n; i++) {
        double difference = scale * expected[i] - coded[i];
        off += difference * difference;
    }
    double lost = part->index->errors != NULL ? part->index->errors[row] : 0;
    return sqrt(off) <= 1.01 * lost + 1e-5 * (1 + scale * sqrt(norm));
}

static annex_status check_row_failed(struct check *check, const struct rowkey *key,
                                     const char *what, annex_error *error)
{
    annex_value values[ANNEX_MAX_KEY_COLUMNS];
    char text[KEY_TEXT_BYTES];
    struct arena scratch = {&check->db->env, NULL};
    annex_status status = rowkey_decode(check->index->shape, key, &scratch, values, error);
    if (status == ANNEX_OK) {
        status = error_set(error, ANNEX_DAMAGED, "row %s of %s %s index %s; run annex_optimize",
                           rowkey_print(values, check->index->shape.n_columns, text),
                           check->index->table, what, check->index->name);
    }
    arena_free(&scratch);
    return status;
}

static annex_status check_row(struct check *check, const struct rowkey *key, const void *vector,
                              annex_error *error)
{
    struct catalog_index *index = check->index;
    unsigned times = 0;
    size_t position = 0;
    if (rowkey_set_find(&index->delta.keys, key, &position)) {
        return ANNEX_OK;
    }
    for (size_t i = 0; i < index->n_parts; i++) {
        struct catalog_part *part = &index->parts[i];
        uint32_t row = 0;
        if (!part_find(part, key, &row) || part_is_dead(part, row)) {
            continue;
        }
        times++;
        check->found[i]++;
        TRY(annex_index_vector(part->index, row, check->coded, error));
        if (!check_same_vector(check, part, row, vector)) {
            return check_row_failed(check, key, "has another vector than", error);
        }
    }
    if (times != 1) {
        return check_row_failed(check, key, times == 0 ? "is missing in" : "is twice in", error);
    }
    return ANNEX_OK;
}

/* ---- all of them -----------------------------------------------------------------------------*/

static annex_status check_table(struct check *check, annex_error *error)
{
    annex_batch batch;
    annex_rows view = source_rows_view(&check->rows);
    TRY(progress_begin(&check->progress, &check->db->env, "checking rows", 0, error));
    do {
        TRY(view.next(view.context, &batch, error));
        for (size_t i = 0; i < batch.n; i++) {
            struct rowkey key = rowkey_set_at(&check->rows.batch, i);
            const char *vector = (const char *)batch.vectors + i * check->rows.reader.bytes;
            TRY(check_row(check, &key, vector, error));
        }
        check->n_rows += batch.n;
        TRY(progress_update(&check->progress, check->n_rows, error));
    } while (batch.n > 0);
    if (check->rows.left_out > 0) {
        return error_set(error, ANNEX_INVALID, "%s; correct or delete the row (%llu such rows)",
                         check->rows.first_left_out, (unsigned long long)check->rows.left_out);
    }
    return ANNEX_OK;
}

/* Rows that segments would find and the table does not have. */
static annex_status check_extra(struct check *check, annex_error *error)
{
    struct catalog_index *index = check->index;
    for (size_t i = 0; i < index->n_parts; i++) {
        uint64_t live = bitmap_count(index->parts[i].allowed, index->parts[i].slots);
        if (live != check->found[i]) {
            return error_set(error, ANNEX_DAMAGED,
                             "index %s holds %lld rows that table %s does not have (they are never "
                             "answered); run annex_optimize",
                             index->name, (long long)(live - check->found[i]), index->table);
        }
    }
    return ANNEX_OK;
}

static annex_status check_rows(struct check *check, annex_error *error)
{
    annex_db *db = check->db;
    struct catalog_index *index = check->index;
    annex_status status = source_rows_open(db, index, NULL, "", false, &check->rows, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(memory_new(&db->env, check->rows.reader.bytes, 1, &check->coded, error));
    TRY_CLEANUP(memory_new(&db->env, index->n_parts, sizeof *check->found, &check->found, error));
    TRY_CLEANUP(check_table(check, error));
    TRY_CLEANUP(check_extra(check, error));
cleanup:
    memory_free(&db->env, check->coded, check->rows.reader.bytes, 1);
    memory_free(&db->env, check->found, index->n_parts, sizeof *check->found);
    source_rows_close(&check->rows);
    return status;
}

static annex_status check_run(struct check *check, annex_error *error)
{
    struct catalog_index *index = check->index;
    TRY(catalog_inspect(check->db, index, error));
    for (size_t i = 0; i < index->n_parts; i++) {
        TRY(store_verify(check->db, index, &index->parts[i], error));
    }
    TRY(store_open_all(check->db, index, error));
    if (index->stale.message[0] == '\0') {
        TRY(delta_refresh(check->db, index, error));
    }
    if (index->stale.message[0] != '\0') {
        return error_set(error, ANNEX_DAMAGED, "index %s is stale: %s", index->name,
                         index->stale.message);
    }
    /* Before the first sync of an index over an empty table there is nothing to compare with. */
    return definition_is_complete(&index->definition) ? check_rows(check, error) : ANNEX_OK;
}

annex_status annex_db_check(annex_db *db, const char *name, annex_error *error)
{
    struct check check = {.db = db};
    struct host_statement *hold = NULL;
    TRY(catalog_open(db, name, &check.index, &hold, error));
    annex_status status = check_run(&check, error);
    db->host->type->finish(hold);
    return status;
}
