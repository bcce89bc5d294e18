/*
 * search.c - the table-valued functions annex_search(index, query, k, options) and
 * annex_within(index, query, distance, options).
 *
 * Invariants
 *   1. What a filter means does not depend on the plan. Only `key IN (…)` is a filter of the
 *      search: SQLite tells it apart (sqlite3_vtab_in), and a plan in which its values are not
 *      known yet is refused. Everything else, `key = ?` too, is left to SQLite and so applies to
 *      the k nearest: a join on the key must not turn "the rows of docs among the k nearest" into
 *      "the k nearest rows of docs" as soon as SQLite makes docs the outer loop.
 *   2. SQLite checks key IN (…) once more, by its own rules of comparison.
 *   3. Rows come in the order of (distance, key). ORDER BY is taken over only when it is exactly
 *      `distance` ascending; LIMIT and OFFSET are never taken over: k says how many rows there are.
 *   4. Costs are high, because a search costs as much as thousands of rows of a table: SQLite then
 *      searches once and looks up the rows of other tables by key, not the other way round.
 */
#include <math.h>
#include <string.h>

#include "extension.h"

enum {
    COLUMN_KEY = 0, /* and three more */
    COLUMN_DISTANCE = 4,
    COLUMN_INDEX, /* from here on hidden: the arguments … */
    COLUMN_QUERY,
    COLUMN_BOUND, /* k, or the distance of annex_within */
    COLUMN_OPTIONS,
    COLUMN_PLAN, /* … how the answer was found, and keys that few indexes have */
    COLUMN_KEY5
};

#define SEARCH_ARGUMENTS 4
#define SEARCH_VISIBLE_KEYS 4
/* As many IN lists as idxNum can count beside the arguments; SQLite filters by any more of them. */
#define SEARCH_MAX_LISTS 7
#define SEARCH_DEFAULT_K 10

/* idxNum: a bit for each argument that xFilter gets, the number of IN lists above them. */
#define SEARCH_HAS(argument) (1 << (argument))
#define SEARCH_LISTS_SHIFT SEARCH_ARGUMENTS

enum { ARGUMENT_INDEX, ARGUMENT_QUERY, ARGUMENT_BOUND, ARGUMENT_OPTIONS };

struct search_table {
    sqlite3_vtab base;
    struct connection *connection;
    bool within;
};

struct search_cursor {
    sqlite3_vtab_cursor base;
    annex_result *result; /* NULL: no rows */
    size_t row;
    size_t rows;
    sqlite3_value *arguments[SEARCH_ARGUMENTS]; /* copies, NULL for those left out */
};

/* ---- The table --------------------------------------------------------------------------------*/

static int search_connect_as(sqlite3 *handle, struct connection *connection, bool within,
                             sqlite3_vtab **table)
{
    static const char columns[] =
        "CREATE TABLE x(key, key2, key3, key4, distance REAL, \"index\" HIDDEN, query HIDDEN,"
        " %s HIDDEN, options HIDDEN, plan HIDDEN, key5 HIDDEN, key6 HIDDEN, key7 HIDDEN,"
        " key8 HIDDEN)";
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
    connection_attach_table(connection);
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

/* ---- Planning ---------------------------------------------------------------------------------*/

/* Which constraints of a plan are arguments and IN lists: positions in aConstraint. */
struct search_plan {
    int arguments[SEARCH_ARGUMENTS]; /* -1: not given */
    int lists[SEARCH_MAX_LISTS];
    int n_lists;
};

/* False when the plan needs a value that it does not have yet: SQLite then tries another. */
static bool search_read_constraints(sqlite3_index_info *info, struct search_plan *plan)
{
    bool unusable[SEARCH_ARGUMENTS] = {false};

    *plan = (struct search_plan){.arguments = {-1, -1, -1, -1}};
    for (int i = 0; i < info->nConstraint; i++) {
        const struct sqlite3_index_constraint *constraint = &info->aConstraint[i];
        int argument = constraint->iColumn - COLUMN_INDEX;

        if (constraint->op != SQLITE_INDEX_CONSTRAINT_EQ) {
            continue;
        }
        if (argument >= 0 && argument < SEARCH_ARGUMENTS) {
            if (!constraint->usable) {
                unusable[argument] = true;
            } else if (plan->arguments[argument] < 0) {
                plan->arguments[argument] = i;
            }
        } else if (constraint->iColumn == COLUMN_KEY && sqlite3_vtab_in(info, i, -1)) {
            if (!constraint->usable) {
                return false;
            }
            if (plan->n_lists < SEARCH_MAX_LISTS) {
                plan->lists[plan->n_lists++] = i;
            }
        }
    }
    for (int i = 0; i < SEARCH_ARGUMENTS; i++) {
        if (unusable[i] && plan->arguments[i] < 0) {
            return false;
        }
    }
    return true;
}

/* How many rows to expect: k when it is a constant of the statement. */
static sqlite3_int64 search_estimate(sqlite3_index_info *info, const struct search_plan *plan,
                                     bool within)
{
    sqlite3_value *value = NULL;
    int bound = plan->arguments[ARGUMENT_BOUND];
    sqlite3_int64 k = within ? 100 : SEARCH_DEFAULT_K;

    if (!within && bound >= 0 && sqlite3_vtab_rhs_value(info, bound, &value) == SQLITE_OK &&
        value != NULL) {
        k = sqlite3_value_int64(value);
    }
    return k < 1 ? 1 : k > 1000000 ? 1000000 : k;
}

static const char *search_describe(bool within, bool has_lists)
{
    if (within) {
        return has_lists ? "annex_within distance, key filter" : "annex_within distance";
    }
    return has_lists ? "annex_search k nearest, key filter" : "annex_search k nearest";
}

static int search_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    bool within = ((struct search_table *)table)->within;
    struct search_plan plan;
    int next = 0;

    if (!search_read_constraints(info, &plan)) {
        return SQLITE_CONSTRAINT;
    }
    info->idxNum = plan.n_lists << SEARCH_LISTS_SHIFT;
    for (int i = 0; i < SEARCH_ARGUMENTS; i++) {
        if (plan.arguments[i] >= 0) {
            info->aConstraintUsage[plan.arguments[i]].argvIndex = ++next;
            info->aConstraintUsage[plan.arguments[i]].omit = 1;
            info->idxNum |= SEARCH_HAS(i);
        }
    }
    for (int i = 0; i < plan.n_lists; i++) {
        sqlite3_vtab_in(info, plan.lists[i], 1);
        info->aConstraintUsage[plan.lists[i]].argvIndex = ++next;
    }
    info->idxStr = (char *)search_describe(within, plan.n_lists > 0);
    info->orderByConsumed = info->nOrderBy == 1 && !info->aOrderBy[0].desc &&
                            info->aOrderBy[0].iColumn == COLUMN_DISTANCE;
    info->estimatedRows = search_estimate(info, &plan, within);
    info->estimatedCost = 10000.0 + 10.0 * (double)info->estimatedRows;
    if (plan.arguments[ARGUMENT_INDEX] < 0 || plan.arguments[ARGUMENT_QUERY] < 0) {
        /* A branch of an OR does not see the arguments: never choose it. Where it is the only plan,
         * xFilter says what is missing. */
        info->estimatedCost = 1e30;
    }
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
    struct search_table *table = (struct search_table *)search->base.pVtab;

    if (search->result != NULL) {
        annex_result_free(search->result);
        search->result = NULL;
        connection_leave(table->connection);
    }
    for (int i = 0; i < SEARCH_ARGUMENTS; i++) {
        sqlite3_value_free(search->arguments[i]);
        search->arguments[i] = NULL;
    }
    search->row = 0;
    search->rows = 0;
}

static int search_close(sqlite3_vtab_cursor *cursor)
{
    search_clear((struct search_cursor *)cursor);
    sqlite3_free(cursor);
    return SQLITE_OK;
}

/* k as SQL gives it: an integer, or text or a real number that is one (a web form sends text). */
static bool search_read_k(sqlite3_value *value, size_t *k, annex_error *error)
{
    double real;

    *k = SEARCH_DEFAULT_K;
    if (value == NULL || sqlite3_value_type(value) == SQLITE_NULL) {
        return true;
    }
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
static bool search_read_request(struct search_cursor *search, bool within, const char **index,
                                annex_db_request *request, annex_error *error)
{
    sqlite3_value **arguments = search->arguments;
    sqlite3_value *options = arguments[ARGUMENT_OPTIONS];

    if (arguments[ARGUMENT_INDEX] == NULL || arguments[ARGUMENT_QUERY] == NULL) {
        connection_refuse(error, "%s needs the name of an index and a query: %s",
                          within ? "annex_within" : "annex_search",
                          within ? "annex_within('index', query, distance)"
                                 : "annex_search('index', query, k)");
        return false;
    }
    if (!function_text(arguments[ARGUMENT_INDEX], "name of the index", index, error)) {
        return false;
    }
    request->query = connection_value(arguments[ARGUMENT_QUERY]);
    if (options != NULL && sqlite3_value_type(options) != SQLITE_NULL &&
        !function_text(options, "options", &request->options, error)) {
        return false;
    }
    request->has_distance = within;
    return within ? search_read_distance(arguments[ARGUMENT_BOUND], &request->distance, error)
                  : search_read_k(arguments[ARGUMENT_BOUND], &request->k, error);
}

/* A query or a distance that is NULL matches nothing, as a comparison with NULL does. */
static bool search_is_empty(const struct search_cursor *search, bool within)
{
    return sqlite3_value_type(search->arguments[ARGUMENT_QUERY]) == SQLITE_NULL ||
           (within && sqlite3_value_type(search->arguments[ARGUMENT_BOUND]) == SQLITE_NULL);
}

static int search_run(struct search_cursor *search, const struct keylist *list, bool filtered)
{
    struct search_table *table = (struct search_table *)search->base.pVtab;
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    const char *index;
    annex_db *annex;
    annex_status status;
    annex_error error;

    if (!search_read_request(search, table->within, &index, &request, &error)) {
        return connection_fail_table(&table->base, &error);
    }
    if (search_is_empty(search, table->within)) {
        return SQLITE_OK;
    }
    request.keys = list->keys;
    request.n_keys = list->n;
    request.has_keys = filtered;
    status = connection_begin(table->connection, &annex, &error);
    if (status == ANNEX_OK) {
        status = annex_db_search(annex, index, &request, &search->result, &error);
        connection_end(table->connection);
    }
    if (status != ANNEX_OK) {
        return connection_fail_table(&table->base, &error);
    }
    connection_enter(table->connection);
    search->rows = annex_result_count(search->result);
    return SQLITE_OK;
}

/* Copies the arguments, which xColumn may be asked for, and reads the IN lists behind them. */
static int search_read_values(struct search_cursor *search, int plan, sqlite3_value **values,
                              struct keylist *list)
{
    int next = 0;
    int n_lists = plan >> SEARCH_LISTS_SHIFT;
    int code = SQLITE_OK;

    for (int i = 0; i < SEARCH_ARGUMENTS; i++) {
        if ((plan & SEARCH_HAS(i)) != 0) {
            search->arguments[i] = sqlite3_value_dup(values[next++]);
            if (search->arguments[i] == NULL) {
                return SQLITE_NOMEM;
            }
        }
    }
    for (int i = 0; i < n_lists && code == SQLITE_OK; i++) {
        struct keylist more = {0};

        code = keylist_read(i == 0 ? list : &more, values[next++]);
        if (i > 0 && code == SQLITE_OK) {
            keylist_intersect(list, &more);
        }
        keylist_free(&more);
    }
    return code;
}

static int search_filter(sqlite3_vtab_cursor *cursor, int plan, const char *description, int n,
                         sqlite3_value **values)
{
    struct search_cursor *search = (struct search_cursor *)cursor;
    struct keylist list = {0};
    int code;

    (void)description;
    (void)n;
    search_clear(search);
    code = search_read_values(search, plan, values, &list);
    if (code == SQLITE_OK) {
        code = search_run(search, &list, plan >> SEARCH_LISTS_SHIFT > 0);
    }
    keylist_free(&list);
    return code;
}

/* ---- Rows -------------------------------------------------------------------------------------*/

static int search_next(sqlite3_vtab_cursor *cursor)
{
    ((struct search_cursor *)cursor)->row++;
    return SQLITE_OK;
}

static int search_eof(sqlite3_vtab_cursor *cursor)
{
    const struct search_cursor *search = (struct search_cursor *)cursor;

    return search->row >= search->rows;
}

static int search_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid)
{
    *rowid = (sqlite3_int64)((struct search_cursor *)cursor)->row + 1;
    return SQLITE_OK;
}

static void search_result_key(sqlite3_context *context, const struct search_cursor *search,
                              size_t column)
{
    annex_value key;

    if (column >= annex_result_key_columns(search->result)) {
        return;
    }
    key = annex_result_key(search->result, search->row, column);
    switch (key.type) {
    case ANNEX_INTEGER:
        sqlite3_result_int64(context, key.integer);
        break;
    case ANNEX_REAL:
        sqlite3_result_double(context, key.real);
        break;
    case ANNEX_TEXT:
        sqlite3_result_text64(context, key.data, key.bytes, SQLITE_TRANSIENT, SQLITE_UTF8);
        break;
    case ANNEX_BLOB:
        sqlite3_result_blob64(context, key.data, key.bytes, SQLITE_TRANSIENT);
        break;
    case ANNEX_NULL:
        break;
    }
}

static int search_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column)
{
    const struct search_cursor *search = (struct search_cursor *)cursor;

    if (column == COLUMN_DISTANCE) {
        sqlite3_result_double(context, annex_result_distance(search->result, search->row));
    } else if (column == COLUMN_PLAN) {
        sqlite3_result_text(context, annex_result_plan(search->result), -1, SQLITE_TRANSIENT);
    } else if (column >= COLUMN_KEY5) {
        search_result_key(context, search, (size_t)(column - COLUMN_KEY5) + SEARCH_VISIBLE_KEYS);
    } else if (column >= COLUMN_INDEX) {
        sqlite3_value *argument = search->arguments[column - COLUMN_INDEX];

        if (argument != NULL) {
            sqlite3_result_value(context, argument);
        }
    } else {
        search_result_key(context, search, (size_t)(column - COLUMN_KEY));
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
