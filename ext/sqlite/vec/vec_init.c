/*
 * vec_init.c - the entry point for SQL that was written for sqlite-vec: its functions and tables by
 * their own names, besides Annex's. It has to be asked for by name,
 *
 *     .load annex sqlite3_annex_vec_init
 *
 * and refuses connections that have sqlite-vec: two extensions of which the one loaded last wins
 * would read and write each other's tables.
 */
#include <string.h>

#include "sqlite/vec/vec.h"

__attribute__((visibility("default"))) int sqlite3_annex_vec_init(sqlite3 *handle, char **message,
                                                                  const sqlite3_api_routines *api);

/* The vec_version of the connection, for sqlite3_free; NULL when it has none. */
static char *vec_find_version(sqlite3 *handle)
{
    sqlite3_stmt *statement = NULL;
    char *version = NULL;

    if (sqlite3_prepare_v2(handle, "SELECT vec_version()", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        version = sqlite3_mprintf("%s", sqlite3_column_text(statement, 0));
    }
    sqlite3_finalize(statement);
    return version;
}

static int vec_register(sqlite3 *handle, struct connection *connection)
{
    int code = sqlite3_create_module_v2(handle, "vec_each", &vec_each_module, NULL, NULL);

    if (code == SQLITE_OK) {
        code = vec0_register(handle, connection);
    }
    if (code == SQLITE_OK) {
        code = extension_add_functions(handle, connection, vec_pair_functions);
    }
    if (code == SQLITE_OK) {
        code = extension_add_functions(handle, connection, vec_functions);
    }
    return code;
}

int sqlite3_annex_vec_init(sqlite3 *handle, char **message, const sqlite3_api_routines *api)
{
    struct connection *connection;
    char *version;
    int code;

    SQLITE_EXTENSION_INIT2(api);
    code = extension_load(handle, &connection, message);
    if (code != SQLITE_OK) {
        return code;
    }
    if (connection == NULL) {
        *message =
            sqlite3_mprintf("another version of Annex than %s is already loaded", annex_version());
        return SQLITE_ERROR;
    }
    version = vec_find_version(handle);
    if (version == NULL) {
        code = vec_register(handle, connection);
    } else if (strstr(version, "+annex") == NULL) {
        *message =
            sqlite3_mprintf("sqlite-vec %s is already loaded on this connection; load either "
                            "it or the functions of the same names in Annex",
                            version);
        code = SQLITE_ERROR;
    }
    sqlite3_free(version);
    return code;
}
