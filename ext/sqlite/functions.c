/*
 * functions.c - the SQL functions that manage indexes: annex_create, annex_copy, annex_default,
 * annex_sync, annex_optimize, annex_check, annex_drop, annex_rename, annex_status,
 * annex_engine_load; and annex_vector, which reads a row.
 *
 * What they return is for a person to read and for a program to parse: a JSON object where there is
 * something to count, else the name of the index; annex_status a sentence that begins with the
 * state; annex_check "ok" like PRAGMA integrity_check. Everything else is an error.
 */
#include <string.h>

#include "annex-engine.h"
#include "sqlite/extension.h"

bool function_text(sqlite3_value *argument, const char *what, const char **text, annex_error *error)
{
    *text = NULL;
    if (sqlite3_value_type(argument) != SQLITE_TEXT) {
        static const char *const names[] = {"an integer", "a number", "text", "a blob", "NULL"};

        connection_refuse(error, "the %s must be text, not %s", what,
                          names[sqlite3_value_type(argument) - SQLITE_INTEGER]);
        return false;
    }
    *text = (const char *)sqlite3_value_text(argument);
    if (*text == NULL) {
        connection_refuse(error, "out of memory reading the %s", what);
        return false;
    }
    if (strlen(*text) != (size_t)sqlite3_value_bytes(argument)) {
        connection_refuse(error, "the %s contains a zero byte", what);
        return false;
    }
    return true;
}

const annex_db_index *function_find_index(const annex_db_index *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        const annex_db_index *index = &list[i];
        size_t schema_bytes = strlen(index->schema);

        if (sqlite3_stricmp(index->name, name) == 0 ||
            (sqlite3_strnicmp(index->schema, name, (int)schema_bytes) == 0 &&
             name[schema_bytes] == '.' &&
             sqlite3_stricmp(index->name, name + schema_bytes + 1) == 0)) {
            return index;
        }
    }
    for (size_t i = 0; i < n; i++) { /* a table or collection stands for its default index */
        if (list[i].is_default && list[i].n_sources == 0 &&
            sqlite3_stricmp(list[i].source, name) == 0) {
            return &list[i];
        }
    }
    return NULL;
}

annex_status function_no_index(const char *name, annex_error *error)
{
    connection_refuse(error, "there is no index %s; annex_indexes lists those there are", name);
    error->status = ANNEX_NOT_FOUND;
    return error->status;
}

/* One call of a function that needs the annex_db. */
struct call {
    sqlite3_context *context;
    annex_db *annex;
    const char *texts[4]; /* the first arguments */
    annex_error error;
};

/*
 * The annex_db, and the first `n` arguments as text, `names` for the messages. After false the
 * error is the result of the function and call_end must not be called.
 */
static bool call_begin(struct call *call, sqlite3_context *context, int n,
                       sqlite3_value **arguments, const char *const *names)
{
    bool usable = true;

    *call = (struct call){.context = context};
    for (int i = 0; i < n && usable; i++) {
        usable = function_text(arguments[i], names[i], &call->texts[i], &call->error);
    }
    usable = usable &&
             connection_begin(sqlite3_user_data(context), &call->annex, &call->error) == ANNEX_OK;
    if (!usable) {
        connection_fail_function(context, &call->error);
    }
    return usable;
}

/* Ends the call; an error becomes the result of the function. True when there was none. */
static bool call_end(struct call *call, annex_status status)
{
    connection_end(sqlite3_user_data(call->context));
    if (status != ANNEX_OK) {
        connection_fail_function(call->context, &call->error);
    }
    return status == ANNEX_OK;
}

/* ---- Making and changing ----------------------------------------------------------------------*/

static const char *const index_names[] = {"name of the index", "new name of the index"};

/* What was made under a name. */
static annex_status functions_describe(struct call *call, const char *name)
{
    annex_db_index *list = NULL;
    size_t n = 0;
    annex_status status = annex_db_list(call->annex, &list, &n, &call->error);
    const annex_db_index *index = function_find_index(list, n, name);

    if (index != NULL) {
        char *text = sqlite3_mprintf("{\"rows\":%llu,\"dimension\":%u,\"metric\":\"%s\","
                                     "\"family\":\"%s\",\"recall\":%!.4g}",
                                     (unsigned long long)index->rows, (unsigned)index->dimension,
                                     index->metric, index->family, index->recall);

        sqlite3_result_text(call->context, text, -1, sqlite3_free);
    }
    annex_db_list_free(call->annex, list, n);
    return status;
}

static void functions_create(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    static const char *const names[] = {"name of the index", "name of the table",
                                        "name of the column", "options"};
    struct call call;
    annex_status status;

    if (n == 4 && sqlite3_value_type(arguments[3]) == SQLITE_NULL) {
        n = 3;
    }
    if (!call_begin(&call, context, n, arguments, names)) {
        return;
    }
    status = annex_db_create(call.annex, call.texts[0], call.texts[1], call.texts[2], call.texts[3],
                             &call.error);
    if (status == ANNEX_OK) {
        status = functions_describe(&call, call.texts[0]);
    }
    call_end(&call, status);
}

static void functions_copy(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    static const char *const names[] = {"name of the index", "name of the copy", "options"};
    struct call call;
    annex_status status;

    if (n == 3 && sqlite3_value_type(arguments[2]) == SQLITE_NULL) {
        n = 2;
    }
    if (!call_begin(&call, context, n, arguments, names)) {
        return;
    }
    status = annex_db_copy(call.annex, call.texts[0], call.texts[1], call.texts[2], &call.error);
    if (status == ANNEX_OK) {
        status = functions_describe(&call, call.texts[1]);
    }
    call_end(&call, status);
}

static void functions_default(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct call call;
    int on = n < 2 || sqlite3_value_int(arguments[1]) != 0;

    if (call_begin(&call, context, 1, arguments, index_names) &&
        call_end(&call, annex_db_default(call.annex, call.texts[0], on, &call.error))) {
        sqlite3_result_value(context, arguments[0]);
    }
}

typedef annex_status functions_fold(annex_db *annex, const char *index, annex_sync_report *report,
                                    annex_error *error);

static void functions_call_fold(sqlite3_context *context, sqlite3_value **arguments,
                                functions_fold *fold)
{
    struct call call;
    annex_sync_report report = {0};

    if (call_begin(&call, context, 1, arguments, index_names) &&
        call_end(&call, fold(call.annex, call.texts[0], &report, &call.error))) {
        char *text =
            sqlite3_mprintf("{\"inserted\":%llu,\"deleted\":%llu,\"segments\":%llu,\"rebuilt\":%s,"
                            "\"swept\":%s}",
                            (unsigned long long)report.inserted, (unsigned long long)report.deleted,
                            (unsigned long long)report.segments, report.rebuilt ? "true" : "false",
                            report.swept ? "true" : "false");

        sqlite3_result_text(context, text, -1, sqlite3_free);
    }
}

static void functions_sync(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    functions_call_fold(context, arguments, annex_db_sync);
}

static void functions_optimize(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    functions_call_fold(context, arguments, annex_db_optimize);
}

static void functions_check(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct call call;

    (void)n;
    if (call_begin(&call, context, 1, arguments, index_names) &&
        call_end(&call, annex_db_check(call.annex, call.texts[0], &call.error))) {
        sqlite3_result_text(context, "ok", -1, SQLITE_STATIC);
    }
}

static void functions_drop(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct call call;

    (void)n;
    if (call_begin(&call, context, 1, arguments, index_names) &&
        call_end(&call, annex_db_drop(call.annex, call.texts[0], &call.error))) {
        sqlite3_result_value(context, arguments[0]);
    }
}

static void functions_rename(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct call call;

    (void)n;
    if (call_begin(&call, context, 2, arguments, index_names) &&
        call_end(&call, annex_db_rename(call.annex, call.texts[0], call.texts[1], &call.error))) {
        sqlite3_result_value(context, arguments[1]);
    }
}

/*
 * Loading an engine is running code, as load_extension() is, so who may do one may do the other:
 * without a file that function only says whether it is allowed.
 */
static bool functions_may_load(sqlite3 *handle)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(handle, "SELECT load_extension(NULL)", -1, &statement, NULL);

    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
    return code == SQLITE_ROW;
}

static void functions_engine_load(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    static const char *const names[] = {"path of the engine"};
    struct call call;
    const char *name = NULL;
    annex_status status;

    (void)n;
    if (!functions_may_load(sqlite3_context_db_handle(context))) {
        sqlite3_result_error(context,
                             "loading an engine is not allowed here; the program must allow "
                             "load_extension() on this connection",
                             -1);
        return;
    }
    if (!call_begin(&call, context, 1, arguments, names)) {
        return;
    }
    status = annex_db_engine_load(call.annex, call.texts[0], &name, &call.error);
    if (call_end(&call, status)) {
        sqlite3_result_text(context, name, -1, SQLITE_TRANSIENT);
    }
}

/* ---- Reading ----------------------------------------------------------------------------------*/

/* One sentence that begins with the state and says, when there is something to do, what to run. */
static char *functions_status_text(const annex_db_index *index)
{
    bool main = sqlite3_stricmp(index->schema, "main") == 0;
    char *text = NULL;
    char *name = sqlite3_mprintf("%s%s%s", main ? "" : index->schema, main ? "" : ".", index->name);

    if (strcmp(index->state, "stale") == 0) {
        text = sqlite3_mprintf("stale: %s", index->reason);
    } else if (name != NULL && strcmp(index->state, "delta") == 0) {
        bool one = index->delta_rows == 1;

        text = sqlite3_mprintf("delta: %llu row%s of table %s changed since the last sync and %s "
                               "searched by %s; to take %s in, run annex_sync(%Q)",
                               (unsigned long long)index->delta_rows, one ? "" : "s", index->table,
                               one ? "is" : "are", one ? "itself" : "themselves",
                               one ? "it" : "them", name);
    } else if (name != NULL) {
        text = sqlite3_mprintf("fresh: index %s holds all %llu rows of column %s of table %s", name,
                               (unsigned long long)index->rows, index->column, index->table);
    }
    sqlite3_free(name);
    return text;
}

static void functions_status(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct call call;
    annex_db_index *list = NULL;
    const annex_db_index *index;
    size_t count = 0;
    annex_status status;

    (void)n;
    if (!call_begin(&call, context, 1, arguments, index_names)) {
        return;
    }
    status = annex_db_list(call.annex, &list, &count, &call.error);
    index = function_find_index(list, count, call.texts[0]);
    if (index != NULL) {
        sqlite3_result_text(context, functions_status_text(index), -1, sqlite3_free);
    } else if (status == ANNEX_OK) {
        status = function_no_index(call.texts[0], &call.error);
    }
    annex_db_list_free(call.annex, list, count);
    call_end(&call, status);
}

/* ANNEX_NOT_FOUND may mean the row or the index; only the second is an error in SQL. */
static bool functions_index_exists(struct call *call)
{
    annex_db_index *list = NULL;
    size_t n = 0;
    bool found;

    annex_db_list(call->annex, &list, &n, NULL);
    found = function_find_index(list, n, call->texts[0]) != NULL;
    annex_db_list_free(call->annex, list, n);
    return found;
}

static void functions_vector(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct call call;
    annex_value key[ANNEX_MAX_KEY_COLUMNS];
    annex_metric metric;
    uint32_t dimension;
    void *vector = NULL;
    size_t bytes = 0;
    annex_status status;

    for (int i = 1; i < n; i++) {
        key[i - 1] = connection_value(arguments[i]);
    }
    if (!call_begin(&call, context, 1, arguments, index_names)) {
        return;
    }
    status = annex_db_vector(call.annex, call.texts[0], key, (size_t)n - 1, &vector, &bytes,
                             &metric, &dimension, &call.error);
    if (status == ANNEX_OK) {
        sqlite3_result_blob64(context, vector, bytes, SQLITE_TRANSIENT);
        annex_db_free(call.annex, vector, bytes);
    } else if (status == ANNEX_NOT_FOUND && functions_index_exists(&call)) {
        status = ANNEX_OK; /* NULL */
    }
    call_end(&call, status);
}

const struct function index_functions[] = {
    {"annex_create", 3, 4, SQLITE_DIRECTONLY, functions_create},
    {"annex_copy", 2, 3, SQLITE_DIRECTONLY, functions_copy},
    {"annex_default", 1, 2, SQLITE_DIRECTONLY, functions_default},
    {"annex_sync", 1, 1, SQLITE_DIRECTONLY, functions_sync},
    {"annex_optimize", 1, 1, SQLITE_DIRECTONLY, functions_optimize},
    {"annex_check", 1, 1, SQLITE_DIRECTONLY, functions_check},
    {"annex_drop", 1, 1, SQLITE_DIRECTONLY, functions_drop},
    {"annex_rename", 2, 2, SQLITE_DIRECTONLY, functions_rename},
    {"annex_engine_load", 1, 1, SQLITE_DIRECTONLY, functions_engine_load},
    {"annex_status", 1, 1, 0, functions_status},
    {"annex_vector", 2, 1 + ANNEX_MAX_KEY_COLUMNS, 0, functions_vector},
    {NULL, 0, 0, 0, NULL},
};
