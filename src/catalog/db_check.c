/*
 * db_check.c - compares an index with its table, row by row, and every byte of it with its
 * checksums.
 *
 * The first thing that is wrong is reported in one sentence with what to run. Nothing is changed,
 * but a damaged copy in the cache is made anew.
 */
#include "catalog/catalog.h"

struct check {
    annex_db *db;
    struct catalog_index *index;
    uint64_t n_extra; /* rows that segments would find and the table does not have */
};

static annex_status check_found(void *context, enum compare_finding finding,
                                const struct rowkey *key, annex_error *error)
{
    static const char *const names[] = {"is missing in", "has another vector than", "is twice in"};
    struct check *check = context;
    const struct catalog_index *index = check->index;
    annex_value values[ANNEX_MAX_KEY_COLUMNS];
    char text[KEY_TEXT_BYTES], call[CALL_TEXT_BYTES];
    struct arena scratch = {&check->db->env, NULL};
    if (finding == COMPARE_EXTRA) {
        check->n_extra++; /* all of them tell more than the first */
        return ANNEX_OK;
    }
    annex_status status = rowkey_decode(index->shape, key, &scratch, values, error);
    if (status == ANNEX_OK) {
        status =
            error_set(error, ANNEX_DAMAGED, "row %s of %s %s index %s; run %s",
                      rowkey_print(values, index->shape.n_columns, text), index->table,
                      names[finding], index->name, catalog_call(index, "annex_optimize", call));
    }
    arena_free(&scratch);
    return status;
}

static annex_status check_rows(struct check *check, annex_error *error)
{
    const struct catalog_index *index = check->index;
    struct compare_report report;
    char call[CALL_TEXT_BYTES];
    TRY(compare_table(check->db, check->index, check_found, check, &report, error));
    if (report.left_out > 0) {
        return error_set(error, ANNEX_INVALID, "%s; correct or delete the row (%llu such rows)",
                         report.first_left_out, (unsigned long long)report.left_out);
    }
    if (check->n_extra > 0) {
        return error_set(error, ANNEX_DAMAGED,
                         "index %s holds %llu rows that table %s does not have (they are never "
                         "answered); run %s",
                         index->name, (unsigned long long)check->n_extra, index->table,
                         catalog_call(index, "annex_optimize", call));
    }
    return ANNEX_OK;
}

static annex_status check_stale(const struct catalog_index *index, annex_error *error)
{
    return index->stale.message[0] == '\0'
               ? ANNEX_OK
               : error_set(error, ANNEX_DAMAGED, "index %s is stale: %s", index->name,
                           index->stale.message);
}

static annex_status check_run(struct check *check, annex_error *error)
{
    struct catalog_index *index = check->index;
    TRY(catalog_inspect(check->db, index, error));
    TRY(check_stale(index, error));
    for (size_t i = 0; i < index->n_parts; i++) {
        TRY(store_verify(check->db, index, &index->parts[i], error));
    }
    TRY(store_open_all(check->db, index, error));
    TRY(delta_refresh(check->db, index, error));
    TRY(check_stale(index, error));
    /* Before the first sync of an index over an empty table there is nothing to compare with. */
    return definition_is_complete(&index->definition) ? check_rows(check, error) : ANNEX_OK;
}

static annex_status check_one(annex_db *db, const char *name, annex_error *error)
{
    struct check check = {.db = db};
    struct host_statement *hold = NULL;
    TRY(catalog_open(db, name, &check.index, &hold, error));
    annex_status status = check_run(&check, error);
    db->host->type->finish(hold);
    return status;
}

annex_status annex_db_check(annex_db *db, const char *name, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    const char **names = NULL;
    size_t n = 0;
    annex_status status = sources_list(db, &scratch, name, &names, &n, NULL, error);
    for (size_t i = 0; status == ANNEX_OK && i < n; i++) {
        status = check_one(db, names[i], error);
    }
    arena_free(&scratch);
    return status;
}
