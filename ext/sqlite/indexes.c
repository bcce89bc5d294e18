/*
 * indexes.c - the table annex_indexes: one row for each index of the connection's databases, with
 * the columns of annex_db_index in their order.
 *
 * The list is made when a scan begins and belongs to its cursor.
 */
#include <string.h>

#include "sqlite/extension.h"

static const char indexes_declaration[] =
    "CREATE TABLE x(name TEXT, schema TEXT, \"table\" TEXT, \"column\" TEXT, keys TEXT,"
    " \"where\" TEXT, metric TEXT, family TEXT, format TEXT, storage TEXT, state TEXT,"
    " reason TEXT, options TEXT, dimension INTEGER, rows INTEGER, delta_rows INTEGER,"
    " dead_rows INTEGER, segments INTEGER, bytes INTEGER, recall REAL, source TEXT, model TEXT,"
    " is_default INTEGER, sources INTEGER, build_seconds REAL)";

struct indexes_table {
    sqlite3_vtab base;
    struct connection *connection;
};

struct indexes_cursor {
    sqlite3_vtab_cursor base;
    annex_db *annex; /* that the list came from */
    annex_db_index *list;
    size_t n;
    size_t row;
};

static int indexes_connect(sqlite3 *handle, void *connection, int n, const char *const *arguments,
                           sqlite3_vtab **table, char **message)
{
    struct indexes_table *indexes;
    int code = sqlite3_declare_vtab(handle, indexes_declaration);

    (void)n;
    (void)arguments;
    (void)message;
    *table = NULL;
    if (code != SQLITE_OK) {
        return code;
    }
    indexes = sqlite3_malloc64(sizeof *indexes);
    if (indexes == NULL) {
        return SQLITE_NOMEM;
    }
    *indexes = (struct indexes_table){.connection = connection};
    *table = &indexes->base;
    connection_hold(connection);
    return SQLITE_OK;
}

static int indexes_disconnect(sqlite3_vtab *table)
{
    struct indexes_table *indexes = (struct indexes_table *)table;

    connection_detach_table(indexes->connection);
    sqlite3_free(indexes);
    return SQLITE_OK;
}

static int indexes_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    (void)table;
    info->estimatedRows = 10;
    info->estimatedCost = 1000;
    info->idxStr = (char *)"annex_indexes";
    return SQLITE_OK;
}

static int indexes_open(sqlite3_vtab *table, sqlite3_vtab_cursor **cursor)
{
    struct indexes_cursor *indexes = sqlite3_malloc64(sizeof *indexes);

    (void)table;
    if (indexes == NULL) {
        return SQLITE_NOMEM;
    }
    memset(indexes, 0, sizeof *indexes);
    *cursor = &indexes->base;
    return SQLITE_OK;
}

static void indexes_clear(struct indexes_cursor *indexes)
{
    if (indexes->annex != NULL) {
        annex_db_list_free(indexes->annex, indexes->list, indexes->n);
        connection_leave(((struct indexes_table *)indexes->base.pVtab)->connection);
    }
    indexes->annex = NULL;
    indexes->list = NULL;
    indexes->n = 0;
    indexes->row = 0;
}

static int indexes_close(sqlite3_vtab_cursor *cursor)
{
    indexes_clear((struct indexes_cursor *)cursor);
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static int indexes_filter(sqlite3_vtab_cursor *cursor, int plan, const char *description, int n,
                          sqlite3_value **values)
{
    struct indexes_cursor *indexes = (struct indexes_cursor *)cursor;
    struct indexes_table *table = (struct indexes_table *)cursor->pVtab;
    annex_db *annex;
    annex_status status;
    annex_error error;

    (void)plan;
    (void)description;
    (void)n;
    (void)values;
    indexes_clear(indexes);
    status = connection_begin(table->connection, &annex, &error);
    if (status == ANNEX_OK) {
        status = annex_db_list(annex, &indexes->list, &indexes->n, &error);
        connection_end(table->connection);
    }
    if (status != ANNEX_OK) {
        return connection_fail_table(&table->base, &error);
    }
    indexes->annex = annex;
    connection_enter(table->connection);
    return SQLITE_OK;
}

static int indexes_next(sqlite3_vtab_cursor *cursor)
{
    ((struct indexes_cursor *)cursor)->row++;
    return SQLITE_OK;
}

static int indexes_eof(sqlite3_vtab_cursor *cursor)
{
    const struct indexes_cursor *indexes = (struct indexes_cursor *)cursor;

    return indexes->row >= indexes->n;
}

static int indexes_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid)
{
    *rowid = (sqlite3_int64)((struct indexes_cursor *)cursor)->row + 1;
    return SQLITE_OK;
}

static int indexes_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column)
{
    const struct indexes_cursor *indexes = (struct indexes_cursor *)cursor;
    const annex_db_index *index = &indexes->list[indexes->row];
    const char *const texts[] = {
        index->name,  index->schema, index->table,   index->column, index->keys,
        index->where, index->metric, index->family,  index->format, index->storage,
        index->state, index->reason, index->options,
    };
    const uint64_t numbers[] = {
        index->dimension, index->rows,     index->delta_rows,
        index->dead_rows, index->segments, index->bytes,
    };
    enum { TEXTS = sizeof texts / sizeof texts[0], NUMBERS = sizeof numbers / sizeof numbers[0] };

    if (column < TEXTS) {
        sqlite3_result_text(context, texts[column], -1, SQLITE_TRANSIENT);
        return SQLITE_OK;
    }
    if (column < TEXTS + NUMBERS) {
        sqlite3_result_int64(context, (sqlite3_int64)numbers[column - TEXTS]);
        return SQLITE_OK;
    }
    switch (column - TEXTS - NUMBERS) {
    case 0:
        sqlite3_result_double(context, index->recall);
        break;
    case 1:
        sqlite3_result_text(context, index->source, -1, SQLITE_TRANSIENT);
        break;
    case 2:
        sqlite3_result_text(context, index->model, -1, SQLITE_TRANSIENT);
        break;
    case 3:
        sqlite3_result_int(context, index->is_default != 0);
        break;
    case 4:
        sqlite3_result_int64(context, index->n_sources > 0 ? (sqlite3_int64)index->n_sources : 1);
        break;
    default:
        sqlite3_result_double(context, index->build_seconds);
        break;
    }
    return SQLITE_OK;
}

const sqlite3_module indexes_module = {
    .xConnect = indexes_connect,
    .xBestIndex = indexes_best_index,
    .xDisconnect = indexes_disconnect,
    .xOpen = indexes_open,
    .xClose = indexes_close,
    .xFilter = indexes_filter,
    .xNext = indexes_next,
    .xEof = indexes_eof,
    .xColumn = indexes_column,
    .xRowid = indexes_rowid,
};
