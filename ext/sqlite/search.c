/*
 * search.c - the table-valued functions annex_search(index, query, k, options) and
 * annex_within(index, query, distance, options): what xFilter and a cursor do. search_plan.c says
 * which conditions reach them, stream.c where the rows come from.
 */
#include <math.h>
#include <string.h>

#include "sqlite/search.h"
#include "sqlite/stream.h"

struct search_cursor {
    sqlite3_vtab_cursor base;
    struct stream stream;
    sqlite3_int64 row;                          /* counted from 1 */
    sqlite3_value *arguments[SEARCH_ARGUMENTS]; /* copies, NULL for those left out */
    struct keylist keys;
};

/* ---- The table --------------------------------------------------------------------------------*/

static int search_connect_as(sqlite3 *handle, struct connection *connection, bool within,
                             sqlite3_vtab **table)
{
    static const char columns[] =
        "CREATE TABLE x(key, key2, key3, key4, distance REAL, \"index\" HIDDEN, query HIDDEN,"
        " %s HIDDEN, options HIDDEN, plan HIDDEN, complete HIDDEN, key5 HIDDEN,"
        " key6 HIDDEN, key7 HIDDEN, key8 HIDDEN, source HIDDEN)";
    struct search_table *search;
    char *declaration = sqlite3_mprintf(columns, within ? "max_distance" : "k");
    int code;

    *table = NULL;
    if (declaration == NULL) {
        return SQLITE_NOMEM;
    }
    code = sqlite3_declare_vtab(handle, declaration);
    sqlite3_free(declaration);
    if (code != SQLITE_OK) {
        return code;
    }
    search = sqlite3_malloc64(sizeof *search);
    if (search == NULL) {
        return SQLITE_NOMEM;
    }
    *search = (struct search_table){.connection = connection, .within = within};
    *table = &search->base;
    connection_hold(connection);
    return SQLITE_OK;
}

static int search_connect(sqlite3 *handle, void *connection, int n, const char *const *arguments,
                          sqlite3_vtab **table, char **message)
{
    (void)n;
    (void)arguments;
    (void)message;
    return search_connect_as(handle, connection, false, table);
}

static int within_connect(sqlite3 *handle, void *connection, int n, const char *const *arguments,
                          sqlite3_vtab **table, char **message)
{
    (void)n;
    (void)arguments;
    (void)message;
    return search_connect_as(handle, connection, true, table);
}

static int search_disconnect(sqlite3_vtab *table)
{
    struct search_table *search = (struct search_table *)table;

    connection_detach_table(search->connection);
    sqlite3_free(search);
    return SQLITE_OK;
}

/* ---- Searching --------------------------------------------------------------------------------*/

static int search_open(sqlite3_vtab *table, sqlite3_vtab_cursor **cursor)
{
    struct search_cursor *search = sqlite3_malloc64(sizeof *search);

    (void)table;
    if (search == NULL) {
        return SQLITE_NOMEM;
    }
    memset(search, 0, sizeof *search);
    *cursor = &search->base;
    return SQLITE_OK;
}

static void search_clear(struct search_cursor *search)
{
    stream_close(&search->stream);
    for (int i = 0; i < SEARCH_ARGUMENTS; i++) {
        sqlite3_value_free(search->arguments[i]);
        search->arguments[i] = NULL;
    }
    keylist_free(&search->keys);
    search->row = 1;
}

static int search_close(sqlite3_vtab_cursor *cursor)
{
    search_clear((struct search_cursor *)cursor);
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static bool search_is_null(sqlite3_value *value)
{
    return value == NULL || sqlite3_value_type(value) == SQLITE_NULL;
}

bool search_read_k(sqlite3_value *value, size_t *k, annex_error *error)
{
    double real;

    switch (sqlite3_value_numeric_type(value)) {
    case SQLITE_INTEGER:
        if (sqlite3_value_int64(value) >= 0) {
            *k = (size_t)sqlite3_value_int64(value);
            return true;
        }
        connection_refuse(error, "k is %lld; it is the number of rows wanted, 0 or more",
                          (long long)sqlite3_value_int64(value));
        return false;
    case SQLITE_FLOAT:
        real = sqlite3_value_double(value);
        if (real >= 0 && real < 0x1p53 && real == floor(real)) {
            *k = (size_t)real;
            return true;
        }
        connection_refuse(error, "k is %g; it is the number of rows wanted, an integer", real);
        return false;
    default:
        connection_refuse(error, "k is not a number; it is the number of rows wanted, an integer");
        return false;
    }
}

static bool search_read_distance(sqlite3_value *value, double *distance, annex_error *error)
{
    int type = value == NULL ? SQLITE_NULL : sqlite3_value_numeric_type(value);

    *distance = 0;
    if (value == NULL) {
        connection_refuse(error, "annex_within needs a distance: "
                                 "annex_within('index', query, distance)");
        return false;
    }
    if (type != SQLITE_INTEGER && type != SQLITE_FLOAT && type != SQLITE_NULL) {
        connection_refuse(error, "the distance of annex_within is not a number");
        return false;
    }
    *distance = sqlite3_value_double(value);
    return true;
}

/* The arguments as a request that borrows from them. */
static bool search_read_request(struct search_cursor *search, bool within, annex_error *error)
{
    struct stream *stream = &search->stream;
    sqlite3_value **arguments = search->arguments;
    sqlite3_value *options = arguments[VALUE_OPTIONS];

    if (arguments[VALUE_INDEX] == NULL || arguments[VALUE_QUERY] == NULL) {
        connection_refuse(error, "%s needs the name of an index and a query: %s",
                          within ? "annex_within" : "annex_search",
                          within ? "annex_within('index', query, distance)"
                                 : "annex_search('index', query, k)");
        return false;
    }
    if (!function_text(arguments[VALUE_INDEX], "name of the index", &stream->index, error)) {
        return false;
    }
    stream->request.query = connection_value(arguments[VALUE_QUERY]);
    if (!search_is_null(options) &&
        !function_text(options, "options", &stream->request.options, error)) {
        return false;
    }
    stream->request.has_distance = within;
    stream->endless = !within && search_is_null(arguments[VALUE_BOUND]);
    if (stream->endless) {
        return true;
    }
    return within ? search_read_distance(arguments[VALUE_BOUND], &stream->request.distance, error)
                  : search_read_k(arguments[VALUE_BOUND], &stream->request.k, error);
}

/* A query or a distance that is NULL matches nothing, as a comparison with NULL does. */
static bool search_is_empty(const struct search_cursor *search, bool within)
{
    return search_is_null(search->arguments[VALUE_QUERY]) ||
           (within && search_is_null(search->arguments[VALUE_BOUND]));
}

/* LIMIT + OFFSET, when both are numbers of rows. */
static size_t search_read_hint(sqlite3_value *limit, sqlite3_value *offset)
{
    enum { MOST = 1 << 20 };
    sqlite3_int64 rows = limit == NULL ? 0 : sqlite3_value_int64(limit);
    sqlite3_int64 before = offset == NULL ? 0 : sqlite3_value_int64(offset);

    if (rows <= 0 || rows > MOST) {
        return 0;
    }
    return (size_t)rows + (size_t)(before < 0 ? 0 : before > MOST ? MOST : before);
}

/* A bound that the distance of rows is compared with; what is no number bounds nothing here. */
static void search_read_bounds(struct stream *stream, sqlite3_value **values)
{
    for (int i = VALUE_LEAST; i <= VALUE_EQUAL; i++) {
        int type = values[i] == NULL ? SQLITE_NULL : sqlite3_value_numeric_type(values[i]);
        double bound;

        if (type != SQLITE_INTEGER && type != SQLITE_FLOAT) {
            continue;
        }
        bound = sqlite3_value_double(values[i]);
        if (i != VALUE_MOST && bound > stream->least) {
            stream->least = bound;
        }
        if (i != VALUE_LEAST && bound < stream->most) {
            stream->most = bound;
        }
    }
}

/* Copies the arguments, which xColumn may be asked for; *n = how many values they are. */
static int search_read_arguments(struct search_cursor *search, int plan, sqlite3_value **given,
                                 sqlite3_value *values[SEARCH_VALUES], int *n)
{
    *n = 0;
    for (int i = 0; i < SEARCH_VALUES; i++) {
        values[i] = (plan & SEARCH_HAS(i)) != 0 ? given[(*n)++] : NULL;
    }
    for (int i = 0; i < SEARCH_ARGUMENTS; i++) {
        if (values[i] != NULL) {
            search->arguments[i] = sqlite3_value_dup(values[i]);
            if (search->arguments[i] == NULL) {
                return SQLITE_NOMEM;
            }
        }
    }
    return SQLITE_OK;
}

/* Reads the IN lists, and the one key that a search without a k may be for. */
static int search_read_keys(struct search_cursor *search, sqlite3_value **lists, int n_lists,
                            sqlite3_value *key)
{
    struct stream *stream = &search->stream;
    struct keylist *keys = &search->keys;
    bool one = stream->endless && key != NULL;
    int code = SQLITE_OK;

    keys->connection = stream->connection;
    if (one) {
        code = keylist_add(keys, key);
    }
    for (int i = 0; i < n_lists && code == SQLITE_OK; i++) {
        struct keylist more = {.connection = stream->connection};

        code = keylist_read(i == 0 && !one ? keys : &more, lists[i]);
        if ((i > 0 || one) && code == SQLITE_OK) {
            code = keylist_intersect(keys, &more);
        }
        keylist_free(&more);
    }
    stream->request.keys = keys->keys;
    stream->request.n_keys = keys->n;
    stream->request.has_keys = one || n_lists > 0;
    return code;
}

static int search_filter(sqlite3_vtab_cursor *cursor, int plan, const char *description, int n,
                         sqlite3_value **given)
{
    struct search_cursor *search = (struct search_cursor *)cursor;
    struct search_table *table = (struct search_table *)cursor->pVtab;
    struct stream *stream = &search->stream;
    sqlite3_value *values[SEARCH_VALUES];
    annex_error error;
    int n_values;
    int code;

    (void)description;
    (void)n;
    search_clear(search);
    *stream = (struct stream){.connection = table->connection,
                              .request = ANNEX_DB_REQUEST_INIT,
                              .least = -INFINITY,
                              .most = INFINITY};
    connection_enter(stream->connection);
    code = search_read_arguments(search, plan, given, values, &n_values);
    if (code != SQLITE_OK) {
        return code;
    }
    if (!search_read_request(search, table->within, &error)) {
        return connection_fail_table(&table->base, &error);
    }
    stream->hint = search_read_hint(values[VALUE_LIMIT], values[VALUE_OFFSET]);
    search_read_bounds(stream, values);
    code =
        search_read_keys(search, given + n_values, plan >> SEARCH_LISTS_SHIFT, values[VALUE_KEY]);
    if (code != SQLITE_OK || search_is_empty(search, table->within)) {
        return code;
    }
    return stream_open(stream, &error) == ANNEX_OK ? SQLITE_OK
                                                   : connection_fail_table(&table->base, &error);
}

/* ---- Rows -------------------------------------------------------------------------------------*/

static int search_next(sqlite3_vtab_cursor *cursor)
{
    struct search_cursor *search = (struct search_cursor *)cursor;
    annex_error error;

    search->row++;
    return stream_next(&search->stream, &error) == ANNEX_OK
               ? SQLITE_OK
               : connection_fail_table(cursor->pVtab, &error);
}

static int search_eof(sqlite3_vtab_cursor *cursor)
{
    return stream_is_over(&((struct search_cursor *)cursor)->stream);
}

static int search_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid)
{
    *rowid = ((struct search_cursor *)cursor)->row;
    return SQLITE_OK;
}

static void search_result_key(sqlite3_context *context, const struct stream *stream, size_t column)
{
    if (column < annex_result_key_columns(stream->result)) {
        annex_value key = annex_result_key(stream->result, stream->row, column);

        connection_result(context, &key);
    }
}

static int search_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column)
{
    const struct search_cursor *search = (struct search_cursor *)cursor;
    const struct stream *stream = &search->stream;

    if (column == COLUMN_DISTANCE) {
        sqlite3_result_double(context, annex_result_distance(stream->result, stream->row));
    } else if (column == COLUMN_PLAN) {
        sqlite3_result_text(context, annex_result_plan(stream->result), -1, SQLITE_TRANSIENT);
    } else if (column == COLUMN_COMPLETE) {
        sqlite3_result_int(context, annex_result_complete(stream->result));
    } else if (column == COLUMN_SOURCE) {
        sqlite3_result_text(context, annex_result_source_name(stream->result, stream->row), -1,
                            SQLITE_TRANSIENT);
    } else if (column >= COLUMN_KEY5) {
        search_result_key(context, stream, (size_t)(column - COLUMN_KEY5) + SEARCH_VISIBLE_KEYS);
    } else if (column >= COLUMN_INDEX) {
        sqlite3_value *argument = search->arguments[column - COLUMN_INDEX];

        if (argument != NULL) {
            sqlite3_result_value(context, argument);
        }
    } else {
        search_result_key(context, stream, (size_t)(column - COLUMN_KEY));
    }
    return SQLITE_OK;
}

/* Without xCreate a module is a table-valued function and nothing else. */
#define SEARCH_MODULE(connect)                                                                    \
    {                                                                                             \
        .xConnect = (connect), .xBestIndex = search_best_index, .xDisconnect = search_disconnect, \
        .xOpen = search_open, .xClose = search_close, .xFilter = search_filter,                   \
        .xNext = search_next, .xEof = search_eof, .xColumn = search_column,                       \
        .xRowid = search_rowid,                                                                   \
    }

const sqlite3_module search_module = SEARCH_MODULE(search_connect);
const sqlite3_module within_module = SEARCH_MODULE(within_connect);
