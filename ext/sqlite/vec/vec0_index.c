/*
 * vec0_index.c - the Annex indexes of a vec0 table, one for each vector column: made, renamed and
 * dropped with it, and brought up to date at the commit of many changes.
 *
 * Invariants
 *   1. An index that is gone stops neither DROP TABLE nor ALTER TABLE.
 *   2. Whether the indexes could be brought up to date never decides on a commit: searches are
 *      right without that.
 */
#include <string.h>

#include "sqlite/vec/vec0.h"

/*
 * Changed rows that are searched one by one before an index takes them in: so many, and one in so
 * many of its rows. A graph is built anew then, which takes long, so it waits until it has doubled.
 */
#define INDEX_LEAST_DELTA 1000
#define INDEX_FLAT_SHARE 10
#define INDEX_GRAPH_SHARE 1

/* ---- Names ------------------------------------------------------------------------------------*/

/* Without the schema. The names of indexes have no dots: what is in front of one is a schema. */
static char *index_plain_name(const char *table, const struct vec0_column *column)
{
    char *name = sqlite3_mprintf("%s_%.*s", table, (int)column->name.bytes, column->name.text);

    for (char *at = name; at != NULL && *at != '\0'; at++) {
        *at = *at == '.' ? '_' : *at;
    }
    return name;
}

char *vec0_index_name(const struct vec0_table *table, const struct vec0_column *column)
{
    char *plain = index_plain_name(table->name, column);
    char *name = plain == NULL ? NULL : sqlite3_mprintf("%s.%s", table->schema, plain);

    sqlite3_free(plain);
    return name;
}

/* ---- Each index -------------------------------------------------------------------------------*/

/* One of them, between connection_begin and connection_end. */
struct index_call {
    struct vec0_table *table;
    annex_db *annex;
    const struct vec0_column *column;
    const char *name;      /* of the index */
    const char *new_table; /* name of the table that is renamed */
};

typedef annex_status index_work(const struct index_call *call, annex_error *error);

static annex_status index_for_column(struct index_call *call, index_work *work, annex_error *error)
{
    char *name = vec0_index_name(call->table, call->column);
    annex_status status;

    if (name == NULL) {
        return statement_nomem(error);
    }
    call->name = name;
    status = work(call, error);
    sqlite3_free(name);
    return status;
}

/* Calls `work` for each vector column; the first error ends it. */
static annex_status index_for_each(struct vec0_table *table, const char *new_table,
                                   index_work *work, annex_error *error)
{
    const struct vec0_declaration *declaration = &table->declaration;
    struct index_call call = {.table = table, .new_table = new_table};
    annex_status status = connection_begin(table->connection, &call.annex, error);

    if (status != ANNEX_OK) {
        return status;
    }
    for (size_t i = 1; i < declaration->n && status == ANNEX_OK; i++) {
        if (declaration->columns[i].role == VEC0_VECTOR) {
            call.column = &declaration->columns[i];
            status = index_for_column(&call, work, error);
        }
    }
    connection_end(table->connection);
    return status;
}

/* ---- With the table ---------------------------------------------------------------------------*/

static annex_status index_create(const struct index_call *call, annex_error *error)
{
    const struct vec0_column *column = call->column;
    char *rows = sqlite3_mprintf("%s.%s_rows", call->table->schema, call->table->name);
    char *vector = sqlite3_mprintf("%.*s", (int)column->name.bytes, column->name.text);
    char *options = sqlite3_mprintf(
        "{\"dimension\": %d, \"metric\": \"%s\", \"format\": \"%s\", \"index\": \"%s\"}",
        (int)column->dimension, annex_metric_name(column->metric),
        annex_format_name(vec0_format(column)), column->approximate ? "auto" : "flat");
    annex_status status =
        rows != NULL && vector != NULL && options != NULL
            ? annex_db_create(call->annex, call->name, rows, vector, options, error)
            : statement_nomem(error);

    sqlite3_free(options);
    sqlite3_free(vector);
    sqlite3_free(rows);
    return status;
}

static annex_status index_drop(const struct index_call *call, annex_error *error)
{
    annex_status status = annex_db_drop(call->annex, call->name, error);

    return status == ANNEX_NOT_FOUND ? ANNEX_OK : status;
}

static annex_status index_rename(const struct index_call *call, annex_error *error)
{
    char *to = index_plain_name(call->new_table, call->column);
    annex_status status =
        to == NULL ? statement_nomem(error) : annex_db_rename(call->annex, call->name, to, error);

    sqlite3_free(to);
    return status == ANNEX_NOT_FOUND ? ANNEX_OK : status;
}

annex_status vec0_create_indexes(struct vec0_table *table, annex_error *error)
{
    return index_for_each(table, NULL, index_create, error);
}

annex_status vec0_drop_indexes(struct vec0_table *table, annex_error *error)
{
    return index_for_each(table, NULL, index_drop, error);
}

annex_status vec0_rename_indexes(struct vec0_table *table, const char *name, annex_error *error)
{
    return index_for_each(table, name, index_rename, error);
}

/* ---- After changes ----------------------------------------------------------------------------*/

/* Makes an index that somebody has dropped again. */
static annex_status index_optimize(const struct index_call *call, annex_error *error)
{
    annex_status status = annex_db_optimize(call->annex, call->name, NULL, error);

    return status == ANNEX_NOT_FOUND ? index_create(call, error) : status;
}

annex_status vec0_optimize_indexes(struct vec0_table *table, annex_error *error)
{
    return index_for_each(table, NULL, index_optimize, error);
}

/* Syncs the index when many rows wait, and notes when to look again. */
static annex_status index_take_in(const struct index_call *call, const annex_db_index *index,
                                  annex_error *error)
{
    struct vec0_table *table = call->table;
    uint64_t most =
        index->rows / (call->column->approximate ? INDEX_GRAPH_SHARE : INDEX_FLAT_SHARE);
    annex_status status = ANNEX_OK;
    uint64_t left;

    most = most < INDEX_LEAST_DELTA ? INDEX_LEAST_DELTA : most;
    if (index->delta_rows >= most) {
        status = annex_db_sync(call->annex, call->name, NULL, error);
    }
    left = index->delta_rows >= most ? most : most - index->delta_rows;
    table->look_after = left < table->look_after ? left : table->look_after;
    return status;
}

static annex_status index_sync(const struct index_call *call, annex_error *error)
{
    annex_db_index *list;
    size_t n;
    annex_status status = annex_db_list(call->annex, &list, &n, error);
    const annex_db_index *index = function_find_index(list, n, call->name);

    if (index != NULL) {
        status = index_take_in(call, index, error);
    }
    annex_db_list_free(call->annex, list, n);
    return status;
}

int vec0_sync(sqlite3_vtab *base)
{
    struct vec0_table *table = (struct vec0_table *)base;
    annex_error error;

    if (table->changes == 0 || table->changes < table->look_after) {
        return SQLITE_OK;
    }
    table->changes = 0;
    table->look_after = UINT64_MAX;
    if (index_for_each(table, NULL, index_sync, &error) == ANNEX_OK) {
        return SQLITE_OK;
    }
    sqlite3_log(SQLITE_WARNING, "annex: the indexes of %s could not take its changes in: %s",
                table->name, error.message);
    table->look_after = INDEX_LEAST_DELTA;
    /* Some errors make SQLite roll back: then there is nothing left to commit. */
    return sqlite3_txn_state(table->handle, table->schema) == SQLITE_TXN_WRITE
               ? SQLITE_OK
               : vec0_fail(table, &error);
}
