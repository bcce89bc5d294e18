/*
 * vec0_query.c - the cursors of vec0 tables: all rows, the row of a key, neighbours of a vector.
 *
 * Invariants
 *   1. Rows are read from t_rows; the index only says which, and how far away they are.
 *   2. Wide columns are read only when the statement uses them, and the rows of neighbours not at
 *      all when it uses nothing but the key and the distance.
 *   3. Distances are rounded to f32, as those of sqlite-vec are, before anything looks at them.
 */
#include <stdint.h>
#include <string.h>

#include "sqlite/vec/vec0.h"

struct query_cursor {
    sqlite3_vtab_cursor base;
    struct vec0_plan plan;
    int number;           /* idxNum, for which `rows` was prepared */
    sqlite3_stmt *rows;   /* of a scan; of one key otherwise. NULL until needed */
    bool has_row;         /* `rows` stands on the row */
    bool looked;          /* nearest: `rows` was asked for it */
    annex_result *result; /* nearest … */
    size_t at;
    size_t end;
};

static struct vec0_table *query_table(const struct query_cursor *cursor)
{
    return (struct vec0_table *)cursor->base.pVtab;
}

int vec0_open(sqlite3_vtab *base, sqlite3_vtab_cursor **cursor)
{
    struct query_cursor *query = sqlite3_malloc64(sizeof *query);

    (void)base;
    if (query == NULL) {
        return SQLITE_NOMEM;
    }
    memset(query, 0, sizeof *query);
    *cursor = &query->base;
    return SQLITE_OK;
}

static void query_clear(struct query_cursor *cursor)
{
    sqlite3_reset(cursor->rows);
    if (cursor->result != NULL) {
        annex_result_free(cursor->result);
        cursor->result = NULL;
        connection_leave(query_table(cursor)->connection);
    }
    cursor->has_row = false;
    cursor->looked = false;
    cursor->at = 0;
    cursor->end = 0;
}

int vec0_close(sqlite3_vtab_cursor *base)
{
    struct query_cursor *cursor = (struct query_cursor *)base;

    query_clear(cursor);
    sqlite3_finalize(cursor->rows);
    sqlite3_free(cursor);
    return SQLITE_OK;
}

/* ---- Rows of the table ------------------------------------------------------------------------*/

/* SELECT with every column at its place; NULL stands for those that are not needed. */
static char *query_select(const struct vec0_table *table, const struct vec0_plan *plan)
{
    const struct vec0_declaration *declaration = &table->declaration;
    sqlite3_str *sql = sqlite3_str_new(table->handle);
    unsigned vector = 0;

    sqlite3_str_appendall(sql, "SELECT ");
    for (size_t i = 0; i < declaration->n && (i == 0 || !plan->any_order); i++) {
        const struct vec0_column *column = &declaration->columns[i];
        bool read = column->role == VEC0_VECTOR      ? (plan->vectors >> vector++ & 1) != 0
                    : column->role == VEC0_AUXILIARY ? plan->auxiliary
                                                     : true;

        sqlite3_str_appendall(sql, i == 0 ? "" : ", ");
        if (read) {
            vec0_append_name(sql, column);
        } else {
            sqlite3_str_appendall(sql, "NULL");
        }
    }
    sqlite3_str_appendf(sql, " FROM \"%w\".\"%w_rows\"", table->schema, table->name);
    if (plan->kind != VEC0_SCAN) {
        sqlite3_str_appendall(sql, " WHERE ");
        vec0_append_name(sql, &declaration->columns[0]);
        sqlite3_str_appendall(sql, " = ?1");
    } else if (!plan->any_order) {
        sqlite3_str_appendall(sql, " NOT INDEXED"); /* in the order in which they were inserted */
    }
    return sqlite3_str_finish(sql);
}

static bool query_prepare(struct query_cursor *cursor, annex_error *error)
{
    struct vec0_table *table = query_table(cursor);
    char *sql;

    if (cursor->rows == NULL) {
        sql = query_select(table, &cursor->plan);
        (void)statement_prepare(table->handle, &cursor->rows, error, "%s", sql);
        sqlite3_free(sql);
    }
    return cursor->rows != NULL;
}

static int query_step(struct query_cursor *cursor)
{
    annex_error error;

    if (statement_step(cursor->rows, &cursor->has_row, &error) != ANNEX_OK) {
        return vec0_fail(query_table(cursor), &error);
    }
    return SQLITE_OK;
}

static int query_rows(struct query_cursor *cursor, sqlite3_value **values)
{
    annex_error error;

    if (!query_prepare(cursor, &error)) {
        return vec0_fail(query_table(cursor), &error);
    }
    if (cursor->plan.kind == VEC0_POINT) {
        int code = sqlite3_bind_value(cursor->rows, 1, values[0]);

        if (code != SQLITE_OK) {
            return code;
        }
    }
    return query_step(cursor);
}

/* ---- Neighbours -------------------------------------------------------------------------------*/

static double query_distance(const struct query_cursor *cursor, size_t i)
{
    return (double)(float)annex_result_distance(cursor->result, i);
}

/* The first row that is not before the bound; distances ascend. `open`: nor at it. */
static size_t query_find(const struct query_cursor *cursor, double at, bool open)
{
    size_t low = 0;
    size_t high = annex_result_count(cursor->result);

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        double distance = query_distance(cursor, middle);

        if (distance < at || (open && distance == at)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t query_add(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

/* Leaves the rows between the bounds, behind the offset, at most k of them. */
static void query_cut(struct query_cursor *cursor, const struct vec0_request *request, size_t k,
                      size_t offset)
{
    size_t first =
        request->lower.given ? query_find(cursor, request->lower.at, request->lower.open) : 0;

    cursor->end = request->upper.given ? query_find(cursor, request->upper.at, !request->upper.open)
                                       : annex_result_count(cursor->result);
    cursor->at = query_add(first, offset);
    if (cursor->end > query_add(cursor->at, k)) {
        cursor->end = cursor->at + k;
    }
}

/*
 * Searches for all rows that are wanted. Rows nearer than the lower bound take places of the
 * search, so it is made larger until enough lie behind them.
 */
static annex_status query_search(struct query_cursor *cursor, annex_db *annex, const char *index,
                                 const struct vec0_request *request, annex_error *error)
{
    annex_db_request search = ANNEX_DB_REQUEST_INIT;
    size_t offset = request->offset > 0 ? (size_t)request->offset : 0;
    size_t k = request->k < 0 ? SIZE_MAX : (size_t)request->k;
    size_t wanted = query_add(k, offset);
    annex_status status;

    search.query.type = ANNEX_BLOB;
    search.query.data = request->query.elements;
    search.query.bytes = request->query.bytes;
    search.keys = request->keys.keys;
    search.n_keys = request->keys.n;
    search.has_keys = request->has_keys;
    search.where = request->where;
    search.k = wanted;
    for (;;) {
        size_t found;

        status = annex_db_search(annex, index, &search, &cursor->result, error);
        if (status == ANNEX_NOT_FOUND) {
            const char *table = query_table(cursor)->name;

            connection_refuse(
                error,
                "the index %s is gone; INSERT INTO \"%s\"(\"%s\") VALUES ('optimize') "
                "makes it again",
                index, table, table);
        }
        if (status != ANNEX_OK) {
            return status;
        }
        found = annex_result_count(cursor->result);
        if (!request->lower.given || found < search.k ||
            found - query_find(cursor, request->lower.at, request->lower.open) >= wanted) {
            query_cut(cursor, request, k, offset);
            return ANNEX_OK;
        }
        annex_result_free(cursor->result);
        cursor->result = NULL;
        search.k = query_add(search.k, query_add(search.k, search.k));
    }
}

static int query_nearest(struct query_cursor *cursor, const char *text, sqlite3_value **values)
{
    struct vec0_table *table = query_table(cursor);
    const struct vec0_column *column = &table->declaration.columns[cursor->plan.column];
    struct vec0_request request;
    annex_status status = ANNEX_OK;
    annex_error error;
    annex_db *annex;
    char *index;

    if (!vec0_request_read(table, column, text, values, &request, &error)) {
        return vec0_fail(table, &error);
    }
    index = vec0_index_name(table, column);
    if (index == NULL) {
        status = statement_nomem(&error);
    } else if (!request.empty && request.k != 0) {
        status = connection_begin(table->connection, &annex, &error);
        if (status == ANNEX_OK) {
            status = query_search(cursor, annex, index, &request, &error);
            if (cursor->result != NULL) {
                connection_enter(table->connection); /* for the result */
            }
            connection_end(table->connection);
        }
    }
    sqlite3_free(index);
    vec0_request_free(&request);
    return status == ANNEX_OK ? SQLITE_OK : vec0_fail(table, &error);
}

/* Makes `rows` stand on the row of the neighbour, if it is still there. */
static int query_look(struct query_cursor *cursor)
{
    struct vec0_table *table = query_table(cursor);
    annex_value key = annex_result_key(cursor->result, cursor->at, 0);
    annex_error error;
    int code;

    if (!query_prepare(cursor, &error)) {
        return vec0_fail(table, &error);
    }
    cursor->looked = true;
    sqlite3_reset(cursor->rows);
    code = key.type == ANNEX_INTEGER ? sqlite3_bind_int64(cursor->rows, 1, key.integer)
                                     : sqlite3_bind_text64(cursor->rows, 1, key.data, key.bytes,
                                                           SQLITE_TRANSIENT, SQLITE_UTF8);
    return code == SQLITE_OK ? query_step(cursor) : code;
}

/* ---- The cursor -------------------------------------------------------------------------------*/

int vec0_filter(sqlite3_vtab_cursor *base, int number, const char *text, int n,
                sqlite3_value **values)
{
    struct query_cursor *cursor = (struct query_cursor *)base;

    (void)n;
    query_clear(cursor);
    if (cursor->number != number) {
        sqlite3_finalize(cursor->rows);
        cursor->rows = NULL;
    }
    cursor->number = number;
    cursor->plan = vec0_plan_unpack(number);
    return cursor->plan.kind == VEC0_NEAREST ? query_nearest(cursor, text, values)
                                             : query_rows(cursor, values);
}

int vec0_next(sqlite3_vtab_cursor *base)
{
    struct query_cursor *cursor = (struct query_cursor *)base;

    if (cursor->plan.kind != VEC0_NEAREST) {
        return query_step(cursor);
    }
    cursor->at++;
    cursor->looked = false;
    cursor->has_row = false;
    return SQLITE_OK;
}

int vec0_eof(sqlite3_vtab_cursor *base)
{
    const struct query_cursor *cursor = (const struct query_cursor *)base;

    return cursor->plan.kind == VEC0_NEAREST ? cursor->at >= cursor->end : !cursor->has_row;
}

static void query_hidden(const struct query_cursor *cursor, sqlite3_context *context, int hidden)
{
    if (hidden == VEC0_COLUMN_DISTANCE && cursor->plan.kind == VEC0_NEAREST) {
        sqlite3_result_double(context, query_distance(cursor, cursor->at));
    }
}

static void query_vector(sqlite3_context *context, const struct vec0_column *column,
                         sqlite3_value *value)
{
    sqlite3_result_value(context, value);
    if (sqlite3_value_type(value) == SQLITE_BLOB) {
        sqlite3_result_subtype(context, (unsigned)column->elements);
    }
}

int vec0_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int i)
{
    struct query_cursor *cursor = (struct query_cursor *)base;
    const struct vec0_declaration *declaration = &query_table(cursor)->declaration;
    int code = SQLITE_OK;

    if (sqlite3_vtab_nochange(context)) {
        return SQLITE_OK;
    }
    if (i >= (int)declaration->n) {
        query_hidden(cursor, context, i - (int)declaration->n);
        return SQLITE_OK;
    }
    if (cursor->plan.kind == VEC0_NEAREST && i == 0) {
        annex_value key = annex_result_key(cursor->result, cursor->at, 0);

        connection_result(context, &key);
        return SQLITE_OK;
    }
    if (cursor->plan.kind == VEC0_NEAREST && !cursor->looked) {
        code = query_look(cursor);
    }
    if (code == SQLITE_OK && cursor->has_row) {
        sqlite3_value *value = sqlite3_column_value(cursor->rows, i);

        if (declaration->columns[i].role == VEC0_VECTOR) {
            query_vector(context, &declaration->columns[i], value);
        } else {
            sqlite3_result_value(context, value);
        }
    }
    return code;
}

int vec0_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
    const struct query_cursor *cursor = (const struct query_cursor *)base;

    *rowid = cursor->plan.kind == VEC0_NEAREST
                 ? annex_result_key(cursor->result, cursor->at, 0).integer
                 : sqlite3_column_int64(cursor->rows, 0);
    return SQLITE_OK;
}
