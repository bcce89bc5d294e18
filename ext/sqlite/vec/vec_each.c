/*
 * vec_each.c - the table-valued function vec_each(vector): one row for each element.
 *
 * The bits of a byte come from the highest to the lowest, unlike in vec_to_json: sqlite-vec does
 * the same.
 */
#include <limits.h>
#include <string.h>

#include "sqlite/vec/vec.h"

enum each_column { EACH_VALUE, EACH_VECTOR };

struct each_cursor {
    sqlite3_vtab_cursor base;
    struct vec_value vector; /* owns its elements */
    size_t at;
};

static int each_connect(sqlite3 *handle, void *argument, int n, const char *const *arguments,
                        sqlite3_vtab **table, char **message)
{
    int code = sqlite3_declare_vtab(handle, "CREATE TABLE x(value, vector HIDDEN)");

    (void)argument;
    (void)n;
    (void)arguments;
    (void)message;
    if (code != SQLITE_OK) {
        return code;
    }
    sqlite3_vtab_config(handle, SQLITE_VTAB_INNOCUOUS);
    *table = sqlite3_malloc64(sizeof **table);
    if (*table == NULL) {
        return SQLITE_NOMEM;
    }
    **table = (sqlite3_vtab){0};
    return SQLITE_OK;
}

static int each_disconnect(sqlite3_vtab *table)
{
    sqlite3_free(table);
    return SQLITE_OK;
}

static int each_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    (void)table;
    for (int i = 0; i < info->nConstraint; i++) {
        if (info->aConstraint[i].iColumn == EACH_VECTOR && info->aConstraint[i].usable &&
            info->aConstraint[i].op == SQLITE_INDEX_CONSTRAINT_EQ) {
            info->aConstraintUsage[i].argvIndex = 1;
            info->aConstraintUsage[i].omit = 1;
            info->estimatedCost = 1000;
            info->estimatedRows = 1000;
            return SQLITE_OK;
        }
    }
    return SQLITE_CONSTRAINT;
}

static int each_open(sqlite3_vtab *table, sqlite3_vtab_cursor **cursor)
{
    struct each_cursor *each = sqlite3_malloc64(sizeof *each);

    (void)table;
    if (each == NULL) {
        return SQLITE_NOMEM;
    }
    *each = (struct each_cursor){0};
    *cursor = &each->base;
    return SQLITE_OK;
}

static int each_close(sqlite3_vtab_cursor *cursor)
{
    struct each_cursor *each = (struct each_cursor *)cursor;

    vec_value_free(&each->vector);
    sqlite3_free(each);
    return SQLITE_OK;
}

/* Elements that belong to an argument do not outlive the call. */
static bool each_keep(struct vec_value *vector)
{
    if (vector->owned == NULL) {
        vector->owned = sqlite3_malloc64(vector->bytes);
        if (vector->owned == NULL) {
            *vector = (struct vec_value){0};
            return false;
        }
        memcpy(vector->owned, vector->elements, vector->bytes);
        vector->elements = vector->owned;
    }
    return true;
}

static int each_filter(sqlite3_vtab_cursor *cursor, int plan, const char *unused, int n,
                       sqlite3_value **arguments)
{
    struct each_cursor *each = (struct each_cursor *)cursor;
    annex_error error;

    (void)plan;
    (void)unused;
    (void)n;
    vec_value_free(&each->vector);
    each->at = 0;
    if (!vec_value_read(arguments[0], &each->vector, &error)) {
        return connection_fail_table(cursor->pVtab, &error);
    }
    return each_keep(&each->vector) ? SQLITE_OK : SQLITE_NOMEM;
}

static int each_next(sqlite3_vtab_cursor *cursor)
{
    ((struct each_cursor *)cursor)->at++;
    return SQLITE_OK;
}

static int each_eof(sqlite3_vtab_cursor *cursor)
{
    const struct each_cursor *each = (struct each_cursor *)cursor;

    return each->at >= each->vector.dimensions;
}

static int each_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column)
{
    const struct each_cursor *each = (struct each_cursor *)cursor;
    const void *elements = each->vector.elements;
    size_t i = each->at;

    if (column != EACH_VALUE) {
        return SQLITE_OK;
    }
    switch (each->vector.type) {
    case VEC_F32:
        sqlite3_result_double(context, (double)((const float *)elements)[i]);
        break;
    case VEC_INT8:
        sqlite3_result_int(context, ((const int8_t *)elements)[i]);
        break;
    case VEC_BIT:
        sqlite3_result_int(context, ((const unsigned char *)elements)[i / CHAR_BIT] >>
                                            (CHAR_BIT - 1 - i % CHAR_BIT) &
                                        1);
        break;
    }
    return SQLITE_OK;
}

static int each_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid)
{
    *rowid = (sqlite3_int64)((struct each_cursor *)cursor)->at;
    return SQLITE_OK;
}

/* Without xCreate the module is a table-valued function and nothing else. */
const sqlite3_module vec_each_module = {
    .xConnect = each_connect,
    .xBestIndex = each_best_index,
    .xDisconnect = each_disconnect,
    .xOpen = each_open,
    .xClose = each_close,
    .xFilter = each_filter,
    .xNext = each_next,
    .xEof = each_eof,
    .xColumn = each_column,
    .xRowid = each_rowid,
};
