/*
 * connection.c - one annex_db for each connection: its life, its interrupts, its errors.
 *
 * Invariants
 *   1. The annex_db holds prepared statements, and sqlite3_close refuses while there are any.
 *      SQLite disconnects virtual tables before it looks, so the annex_db is closed by
 *      connection_detach_table, which xDisconnect of every table of Annex calls.
 *      connection_begin therefore makes sure that at least one (annex_indexes) is connected.
 *   2. SQLite may end a module before its tables, so tables hold references too.
 *   3. A connection that was not closed after all (a statement of the user was still open) opens a
 *      new annex_db with the next call.
 */
#include <stdarg.h>
#include <stdio.h>

#include "sqlite/extension.h"

struct connection {
    sqlite3 *handle;
    annex_db *annex;
    sqlite3_stmt *poll; /* see connection_is_interrupted */
    void *kept;         /* see connection_keep */
    void (*free_kept)(void *kept);
    unsigned references;
    unsigned users; /* cursors and a call that use the annex_db */
    bool detached;  /* close the annex_db when the last of them ends */
    bool busy;      /* between connection_begin and connection_end */
};

/*
 * A statement that does nothing for about a thousand steps of SQLite's virtual machine. Running it
 * is how the work of Annex, which is one step to SQLite, notices sqlite3_interrupt and gives
 * progress handlers their turn: sqlite3_is_interrupted is new in 3.41 and does not know of
 * handlers.
 */
static const char connection_poll_sql[] =
    "WITH RECURSIVE annex_poll(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM annex_poll LIMIT 100)"
    " SELECT max(i) FROM annex_poll";

struct connection *connection_new(sqlite3 *handle)
{
    struct connection *connection = sqlite3_malloc64(sizeof *connection);

    if (connection != NULL) {
        *connection = (struct connection){.handle = handle, .references = 1};
    }
    return connection;
}

void connection_hold(struct connection *connection)
{
    connection->references++;
}

/*
 * Closes the annex_db, now or when nothing uses it any more. That ends statements, which may let go
 * of the last table of Annex and so come here once more.
 */
static void connection_detach(struct connection *connection)
{
    annex_db *annex = connection->annex;
    sqlite3_stmt *poll = connection->poll;
    void *kept = connection->kept;

    connection->detached = connection->users > 0;
    if (!connection->detached) {
        connection->annex = NULL;
        connection->poll = NULL;
        connection->kept = NULL;
        if (kept != NULL) {
            connection->free_kept(kept);
        }
        annex_db_close(annex);
        sqlite3_finalize(poll);
    }
}

void connection_release(void *argument)
{
    struct connection *connection = argument;

    if (--connection->references == 0) {
        connection->users = 0;
        connection_detach(connection);
        sqlite3_free(connection);
    }
}

void connection_enter(struct connection *connection)
{
    connection->users++;
}

void connection_leave(struct connection *connection)
{
    connection->users--;
    if (connection->detached) {
        connection_detach(connection);
    }
}

/* ---- What annex_db is told about this connection ----------------------------------------------*/

bool connection_is_interrupted(struct connection *connection)
{
    int code = SQLITE_OK;

    if (connection->poll == NULL) {
        code = sqlite3_prepare_v3(connection->handle, connection_poll_sql, -1,
                                  SQLITE_PREPARE_PERSISTENT, &connection->poll, NULL);
    }
    if (code == SQLITE_OK) {
        sqlite3_step(connection->poll);
        code = sqlite3_reset(connection->poll);
    }
    return code == SQLITE_INTERRUPT;
}

static int connection_progress(void *context, const char *phase, uint64_t done, uint64_t total)
{
    (void)phase;
    (void)done;
    (void)total;
    return connection_is_interrupted(context);
}

static void connection_message(void *context, annex_level level, const char *text)
{
    (void)context;
    sqlite3_log(level == ANNEX_LOG_WARNING ? SQLITE_WARNING : SQLITE_NOTICE, "annex: %s", text);
}

/* Connects annex_indexes, so that its xDisconnect comes when the connection is closed. */
static annex_status connection_await_close(struct connection *connection, annex_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code =
        sqlite3_prepare_v2(connection->handle, "SELECT 1 FROM annex_indexes", -1, &statement, NULL);

    if (code != SQLITE_OK) {
        connection_refuse(error, "%s", sqlite3_errmsg(connection->handle));
        error->status = code == SQLITE_INTERRUPT ? ANNEX_CANCELLED : ANNEX_HOST;
    }
    sqlite3_finalize(statement);
    return code == SQLITE_OK ? ANNEX_OK : error->status;
}

annex_status connection_begin(struct connection *connection, annex_db **annex, annex_error *error)
{
    annex_status status = ANNEX_OK;

    *annex = NULL;
    if (connection->busy) {
        connection_refuse(error, "Annex was called from inside a call of Annex: the table or "
                                 "condition of an index cannot use its functions");
        return error->status;
    }
    if (connection->annex == NULL || connection->detached) {
        status = connection_await_close(connection, error);
    }
    if (status == ANNEX_OK && connection->annex == NULL) {
        annex_env env = annex_env_default();

        env.log = (annex_log){connection, connection_message, connection_progress};
        status = annex_db_adopt_sqlite(&env, connection->handle, &connection->annex, error);
    }
    if (status == ANNEX_OK) {
        connection->busy = true;
        connection->detached = false;
        connection_enter(connection);
        *annex = connection->annex;
    }
    return status;
}

void connection_end(struct connection *connection)
{
    connection->busy = false;
    connection_leave(connection);
}

void connection_keep(struct connection *connection, void *kept, void (*free_kept)(void *kept))
{
    connection->kept = kept;
    connection->free_kept = free_kept;
}

void *connection_kept(struct connection *connection)
{
    return connection->kept;
}

void connection_detach_table(struct connection *connection)
{
    connection_detach(connection);
    connection_release(connection);
}

/* ---- Errors -----------------------------------------------------------------------------------*/

/*
 * SQLITE_NOMEM, SQLITE_IOERR and SQLITE_FULL from a function make SQLite roll back the whole
 * transaction, and SQLITE_CORRUPT makes it refuse every further write in it. What goes wrong in an
 * index concerns the index only, so these become SQLITE_ERROR and SQLITE_CORRUPT_VTAB. (When SQLite
 * itself fails inside of Annex, it has already done what it needs to.)
 */
int connection_code(annex_status status)
{
    switch (status) {
    case ANNEX_OK:
        return SQLITE_OK;
    case ANNEX_BUSY:
        return SQLITE_BUSY;
    case ANNEX_CANCELLED:
        return SQLITE_INTERRUPT;
    case ANNEX_READ_ONLY:
        return SQLITE_READONLY;
    case ANNEX_DAMAGED:
        return SQLITE_CORRUPT_VTAB;
    case ANNEX_NOMEM:
    case ANNEX_IO:
    case ANNEX_TOO_NEW:
    case ANNEX_INVALID:
    case ANNEX_NOT_FOUND:
    case ANNEX_EXISTS:
    case ANNEX_UNSUPPORTED:
    case ANNEX_FULL:
    case ANNEX_HOST:
    case ANNEX_INTERNAL:
        break;
    }
    return SQLITE_ERROR;
}

/* An interrupt keeps SQLite's own word for it, "interrupted": programs compare it. */
void connection_fail_function(sqlite3_context *context, const annex_error *error)
{
    if (error->status != ANNEX_CANCELLED) {
        sqlite3_result_error(context, error->message, -1);
    }
    sqlite3_result_error_code(context, connection_code(error->status));
}

int connection_fail_table(sqlite3_vtab *table, const annex_error *error)
{
    sqlite3_free(table->zErrMsg);
    table->zErrMsg = NULL;
    if (error->status != ANNEX_CANCELLED) {
        table->zErrMsg = sqlite3_mprintf("%s", error->message);
    }
    return connection_code(error->status);
}

void connection_refuse(annex_error *error, const char *format, ...)
{
    va_list arguments;

    error->status = ANNEX_INVALID;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
}

annex_value connection_value(sqlite3_value *value)
{
    annex_value result = {.type = ANNEX_NULL};

    switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER:
        result.type = ANNEX_INTEGER;
        result.integer = sqlite3_value_int64(value);
        break;
    case SQLITE_FLOAT:
        result.type = ANNEX_REAL;
        result.real = sqlite3_value_double(value);
        break;
    case SQLITE_TEXT:
        result.type = ANNEX_TEXT;
        result.data = sqlite3_value_text(value);
        result.bytes = (size_t)sqlite3_value_bytes(value);
        break;
    case SQLITE_BLOB:
        result.type = ANNEX_BLOB;
        result.data = sqlite3_value_blob(value);
        result.bytes = (size_t)sqlite3_value_bytes(value);
        break;
    default:
        break;
    }
    return result;
}

void connection_result(sqlite3_context *context, const annex_value *value)
{
    switch (value->type) {
    case ANNEX_INTEGER:
        sqlite3_result_int64(context, value->integer);
        break;
    case ANNEX_REAL:
        sqlite3_result_double(context, value->real);
        break;
    case ANNEX_TEXT:
        sqlite3_result_text64(context, value->data, value->bytes, SQLITE_TRANSIENT, SQLITE_UTF8);
        break;
    case ANNEX_BLOB:
        sqlite3_result_blob64(context, value->data, value->bytes, SQLITE_TRANSIENT);
        break;
    case ANNEX_NULL:
        break;
    }
}
