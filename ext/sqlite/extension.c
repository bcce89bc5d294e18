/*
 * extension.c - the entry point: registers the functions and table-valued functions of Annex with
 * one connection. docs/SQL.md describes them for users.
 *
 * How each may be used follows from what it touches (SQLite, "Security considerations"):
 *   - those that compute from their arguments only are deterministic and innocuous: indexes on
 *     expressions, generated columns and triggers may use them;
 *   - those that change the database or write files are direct-only: a view or trigger in a
 *     database from a stranger cannot call them;
 *   - annex_search, annex_within, annex_hybrid, annex_vector, annex_status, annex_indexes and
 *     faiss_search read what the connection may read. They are neither: views may use them as long
 *     as the schema is trusted, because a search may write to the cache of segments.
 */
#include "sqlite/extension.h"
#include "sqlite/faiss/faiss.h"

#undef SQLITE_EXTENSION_INIT3
SQLITE_EXTENSION_INIT1

/* sqlite3_vtab_in and sqlite3_vtab_rhs_value. */
#define EXTENSION_LEAST_SQLITE 3038000

__attribute__((visibility("default"))) int sqlite3_annex_init(sqlite3 *handle, char **message,
                                                              const sqlite3_api_routines *api);

int extension_add_functions(sqlite3 *handle, struct connection *connection,
                            const struct function *functions)
{
    for (const struct function *f = functions; f->name != NULL; f++) {
        for (int n = f->least_arguments; n <= f->most_arguments; n++) {
            int code;

            connection_hold(connection);
            code = sqlite3_create_function_v2(handle, f->name, n, SQLITE_UTF8 | f->flags,
                                              connection, f->call, NULL, NULL, connection_release);
            if (code != SQLITE_OK) {
                return code;
            }
        }
    }
    return SQLITE_OK;
}

static int extension_add_tables(sqlite3 *handle, struct connection *connection)
{
    static const struct {
        const char *name;
        const sqlite3_module *module;
    } tables[] = {
        {"annex_search", &search_module},
        {"annex_within", &within_module},
        {"annex_hybrid", &hybrid_module},
        {"annex_indexes", &indexes_module},
    };

    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        int code;

        connection_hold(connection);
        code = sqlite3_create_module_v2(handle, tables[i].name, tables[i].module, connection,
                                        connection_release);
        if (code != SQLITE_OK) {
            return code;
        }
    }
    return SQLITE_OK;
}

/* What annex_connection lends to this version only: another one may have other structures. */
static const char extension_pointer_type[] = "annex_connection " ANNEX_VERSION_TEXT;

/*
 * annex_connection(pointer) stores the connection where the pointer points. SQL has no pointers, so
 * it is of use to extension_find only.
 */
static void extension_lend(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct connection **to = sqlite3_value_pointer(arguments[0], extension_pointer_type);

    (void)n;
    if (to != NULL) {
        *to = sqlite3_user_data(context);
    }
}

static const struct function extension_functions[] = {
    {"annex_connection", 1, 1, SQLITE_DIRECTONLY, extension_lend},
    {NULL, 0, 0, 0, NULL},
};

/*
 * Loading twice is loading once: functions in use by a statement cannot be registered anew, and the
 * statement may be the one that loads, SELECT load_extension(…). True when Annex is loaded; then
 * *connection is NULL when it is another version.
 */
static bool extension_find(sqlite3 *handle, struct connection **connection)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(handle, "SELECT annex_connection(?1)", -1, &statement, NULL);

    *connection = NULL;
    if (code == SQLITE_OK) {
        sqlite3_bind_pointer(statement, 1, connection, extension_pointer_type, NULL);
        sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
    return code == SQLITE_OK;
}

static int extension_register(sqlite3 *handle, struct connection *connection)
{
    int code = extension_add_tables(handle, connection);

    if (code == SQLITE_OK) {
        code = extension_add_functions(handle, connection, index_functions);
    }
    if (code == SQLITE_OK) {
        code = extension_add_functions(handle, connection, vector_functions);
    }
    if (code == SQLITE_OK) {
        code = extension_add_functions(handle, connection, import_functions);
    }
    if (code == SQLITE_OK) {
        code = extension_add_functions(handle, connection, faiss_functions);
    }
    if (code == SQLITE_OK) {
        code = faiss_add_aggregates(handle);
    }
    if (code == SQLITE_OK) { /* last: says that all are there */
        code = extension_add_functions(handle, connection, extension_functions);
    }
    return code;
}

int extension_load(sqlite3 *handle, struct connection **connection, char **message)
{
    int code;

    *connection = NULL;
    if (sqlite3_libversion_number() < EXTENSION_LEAST_SQLITE) {
        *message = sqlite3_mprintf("Annex needs SQLite 3.38 or newer; this is SQLite %s",
                                   sqlite3_libversion());
        return SQLITE_ERROR;
    }
    if (extension_find(handle, connection)) {
        return SQLITE_OK;
    }
    *connection = connection_new(handle);
    if (*connection == NULL) {
        return SQLITE_NOMEM;
    }
    code = extension_register(handle, *connection);
    connection_release(*connection);
    if (code != SQLITE_OK) {
        *connection = NULL;
    }
    return code;
}

int sqlite3_annex_init(sqlite3 *handle, char **message, const sqlite3_api_routines *api)
{
    struct connection *connection;

    SQLITE_EXTENSION_INIT2(api);
    return extension_load(handle, &connection, message);
}
