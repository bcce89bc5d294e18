/*
 * sqlite.c - a SQLite connection as a host: statements, transactions, errors.
 *
 * Invariants
 *   1. A connection that was adopted is never closed, and is left in the transaction state in which
 *      it was found.
 *   2. Reading statements that were finished are kept, reset and without bindings, for the next one
 *      with the same text: preparing costs more than a search. They hold no lock and no snapshot,
 *      and are finalized when the host is closed, which must come before sqlite3_close.
 */
#include "host/sqlite_host.h"

enum { SQLITE_HOST_IDLE_STATEMENTS = 32 };

struct host_statement {
    struct sqlite_host *owner;
    sqlite3_stmt *handle;
    struct host_statement *next; /* while idle */
};

/* The status for a result code, with the text of the connection. */
static annex_status sqlite_error(sqlite3 *connection, int code, annex_error *error)
{
    const char *text = sqlite3_errmsg(connection);
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(error, ANNEX_BUSY,
                         "SQLite: %s; another statement or program uses the database, try again",
                         text);
    case SQLITE_NOMEM:
        return error_set(error, ANNEX_NOMEM, "SQLite: out of memory");
    case SQLITE_READONLY:
        return error_set(error, ANNEX_READ_ONLY, "SQLite: %s", text);
    case SQLITE_INTERRUPT:
        return error_set(error, ANNEX_CANCELLED, "SQLite: %s", text);
    case SQLITE_FULL:
        return error_set(error, ANNEX_FULL, "SQLite: %s", text);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return error_set(error, ANNEX_IO, "SQLite: %s", text);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(error, ANNEX_DAMAGED, "SQLite: %s", text);
    case SQLITE_TOOBIG:
        return error_set(error, ANNEX_FULL, "SQLite: %s", text);
    default:
        return error_set(error, ANNEX_HOST, "SQLite: %s", text);
    }
}

/* ---- statements ------------------------------------------------------------------------------*/

static void sqlite_discard(struct host_statement *statement)
{
    sqlite3_finalize(statement->handle);
    memory_free(statement->owner->host.env, statement, 1, sizeof *statement);
}

/* A kept statement with this text, or NULL. */
static struct host_statement *sqlite_take_idle(struct sqlite_host *self, const char *sql)
{
    for (struct host_statement **link = &self->idle; *link != NULL; link = &(*link)->next) {
        struct host_statement *statement = *link;
        if (strcmp(sqlite3_sql(statement->handle), sql) == 0) {
            *link = statement->next;
            return statement;
        }
    }
    return NULL;
}

static void sqlite_keep_idle(struct sqlite_host *self, struct host_statement *statement)
{
    sqlite3_reset(statement->handle);
    sqlite3_clear_bindings(statement->handle);
    statement->next = self->idle;
    self->idle = statement;
    struct host_statement **link = &self->idle;
    for (int i = 0; i < SQLITE_HOST_IDLE_STATEMENTS && *link != NULL; i++) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        sqlite_discard(*link);
        *link = NULL;
    }
}

static annex_status sqlite_prepare(struct host *host, const char *sql,
                                   struct host_statement **statement, annex_error *error)
{
    struct sqlite_host *self = (struct sqlite_host *)host;
    struct host_statement *made = NULL;
    const char *tail = "";
    *statement = sqlite_take_idle(self, sql);
    if (*statement != NULL) {
        return ANNEX_OK;
    }
    TRY(memory_new(host->env, 1, sizeof *made, &made, error));
    made->owner = self;
    int code = sqlite3_prepare_v3(self->connection, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                  &made->handle, &tail);
    annex_status status = ANNEX_OK;
    if (code != SQLITE_OK) {
        status = sqlite_error(self->connection, code, error);
    } else if (made->handle == NULL || tail[strspn(tail, " \t\r\n")] != '\0') {
        status = error_set(error, ANNEX_INVALID, "it is not one SQL statement");
    }
    if (status != ANNEX_OK) {
        sqlite_discard(made);
        return status;
    }
    *statement = made;
    return ANNEX_OK;
}

static annex_status sqlite_bind(struct host_statement *statement, int parameter,
                                const annex_value *value, annex_error *error)
{
    sqlite3_stmt *handle = statement->handle;
    const void *data = value->data != NULL ? value->data : "";
    int code = SQLITE_OK;
    switch (value->type) {
    case ANNEX_INTEGER:
        code = sqlite3_bind_int64(handle, parameter, value->integer);
        break;
    case ANNEX_REAL:
        code = sqlite3_bind_double(handle, parameter, value->real);
        break;
    case ANNEX_TEXT:
        code =
            sqlite3_bind_text64(handle, parameter, data, value->bytes, SQLITE_STATIC, SQLITE_UTF8);
        break;
    case ANNEX_BLOB:
        code = sqlite3_bind_blob64(handle, parameter, data, value->bytes, SQLITE_STATIC);
        break;
    default:
        code = sqlite3_bind_null(handle, parameter);
        break;
    }
    return code == SQLITE_OK ? ANNEX_OK : sqlite_error(statement->owner->connection, code, error);
}

static annex_status sqlite_step(struct host_statement *statement, bool *row, annex_error *error)
{
    int code = sqlite3_step(statement->handle);
    *row = code == SQLITE_ROW;
    if (code == SQLITE_ROW || code == SQLITE_DONE) {
        return ANNEX_OK;
    }
    annex_status status = sqlite_error(statement->owner->connection, code, error);
    sqlite3_reset(statement->handle);
    return status;
}

static void sqlite_column(struct host_statement *statement, int column, annex_value *value)
{
    sqlite3_stmt *handle = statement->handle;
    memset(value, 0, sizeof *value);
    switch (sqlite3_column_type(handle, column)) {
    case SQLITE_INTEGER:
        value->type = ANNEX_INTEGER;
        value->integer = sqlite3_column_int64(handle, column);
        break;
    case SQLITE_FLOAT:
        value->type = ANNEX_REAL;
        value->real = sqlite3_column_double(handle, column);
        break;
    case SQLITE_TEXT:
        value->type = ANNEX_TEXT;
        value->data = sqlite3_column_text(handle, column);
        value->bytes = (size_t)sqlite3_column_bytes(handle, column);
        break;
    case SQLITE_BLOB:
        value->type = ANNEX_BLOB;
        value->data = sqlite3_column_blob(handle, column);
        value->bytes = (size_t)sqlite3_column_bytes(handle, column);
        break;
    default:
        value->type = ANNEX_NULL;
        break;
    }
    /* NULL with a length is how SQLite reports that a conversion ran out of memory. */
    if (value->data == NULL && (value->type == ANNEX_TEXT || value->type == ANNEX_BLOB)) {
        value->data = "";
        value->bytes = 0;
    }
}

static void sqlite_reset(struct host_statement *statement)
{
    sqlite3_reset(statement->handle);
}

static void sqlite_finish(struct host_statement *statement)
{
    if (statement == NULL) {
        return;
    }
    if (sqlite3_stmt_readonly(statement->handle)) {
        sqlite_keep_idle(statement->owner, statement);
    } else {
        sqlite_discard(statement);
    }
}

/* ---- transactions ----------------------------------------------------------------------------*/

/* Also within a statement that writes: SQLite commits when it ends. */
static bool sqlite_in_transaction(struct host *host)
{
    sqlite3 *connection = ((struct sqlite_host *)host)->connection;
    return !sqlite3_get_autocommit(connection) ||
           sqlite3_txn_state(connection, NULL) == SQLITE_TXN_WRITE;
}

static annex_status sqlite_begin(struct host *host, annex_error *error)
{
    struct sqlite_host *self = (struct sqlite_host *)host;
    assert(self->depth == 0);
    self->outermost = !sqlite_in_transaction(host);
    self->changing = false;
    self->savepoint = false;
    if (self->outermost) {
        TRY(host_run(host, error, "BEGIN IMMEDIATE"));
    }
    annex_status status = sqlite_prepare(host, "SELECT 1", &self->probe, error);
    if (status == ANNEX_OK) {
        status = sqlite_prepare(host, "BEGIN IMMEDIATE", &self->undo, error);
    }
    self->depth = 1;
    if (status != ANNEX_OK) {
        host->type->rollback(host);
    }
    return status;
}

static void sqlite_end(struct sqlite_host *self)
{
    sqlite_finish(self->probe);
    sqlite_finish(self->undo);
    self->probe = NULL;
    self->undo = NULL;
    self->depth = 0;
}

static annex_status sqlite_change(struct host *host, annex_error *error)
{
    struct sqlite_host *self = (struct sqlite_host *)host;
    assert(self->depth == 1 && !self->changing);
    if (!self->outermost && !sqlite3_get_autocommit(self->connection)) {
        annex_status status = host_run(host, error, "SAVEPOINT annex");
        /* ANNEX_BUSY: no savepoint can be set while a statement of the caller writes. */
        if (status != ANNEX_OK && status != ANNEX_BUSY) {
            return status;
        }
        self->savepoint = status == ANNEX_OK;
    }
    self->changing = true;
    return ANNEX_OK;
}

static annex_status sqlite_commit(struct host *host, annex_error *error)
{
    struct sqlite_host *self = (struct sqlite_host *)host;
    if (self->outermost || self->savepoint) {
        TRY(host_run(host, error, self->outermost ? "COMMIT" : "RELEASE annex"));
    }
    sqlite_end(self);
    return ANNEX_OK;
}

static annex_status sqlite_run_rollback(struct sqlite_host *self)
{
    if (self->outermost) {
        return host_run(&self->host, NULL, "ROLLBACK");
    }
    TRY(host_run(&self->host, NULL, "ROLLBACK TO annex"));
    return host_run(&self->host, NULL, "RELEASE annex");
}

static void sqlite_rollback(struct host *host)
{
    struct sqlite_host *self = (struct sqlite_host *)host;
    if (self->depth == 0) {
        return;
    }
    /* Some errors have made SQLite roll back by itself; then there is nothing left to undo. */
    bool needed = self->outermost || self->savepoint;
    if (needed && sqlite_in_transaction(host) && sqlite_run_rollback(self) != ANNEX_OK &&
        self->undo != NULL) {
        /*
         * After sqlite3_interrupt every statement fails until the one of the user has ended, and so
         * does ROLLBACK. But one that would have written makes SQLite roll back when it fails, as
         * an interrupted INSERT does.
         */
        (void)sqlite3_step(self->undo->handle);
    }
    sqlite_end(self);
}

static bool sqlite_interrupted(struct host *host)
{
    struct sqlite_host *self = (struct sqlite_host *)host;
    if (self->probe == NULL) {
        return false;
    }
    int code = sqlite3_step(self->probe->handle);
    sqlite3_reset(self->probe->handle);
    return code == SQLITE_INTERRUPT;
}

static annex_status sqlite_schema_version(struct host *host, const char *schema, int64_t *version,
                                          annex_error *error)
{
    struct arena scratch = {host->env, NULL};
    struct host_statement *statement = NULL;
    const char *quoted = NULL;
    bool row = false;
    *version = 0;
    annex_status status = host_quote(&scratch, schema, &quoted, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(host_prepare(host, &statement, error, "PRAGMA %s.schema_version", quoted));
    TRY_CLEANUP(sqlite_step(statement, &row, error));
    *version = host_integer(host, statement, 0);
cleanup:
    sqlite_finish(statement);
    arena_free(&scratch);
    return status;
}

/* ---- the connection --------------------------------------------------------------------------*/

static bool sqlite_read_only(struct host *host, const char *schema)
{
    return sqlite3_db_readonly(((struct sqlite_host *)host)->connection, schema) == 1;
}

static const char *sqlite_file(struct host *host, const char *schema)
{
    const char *path = sqlite3_db_filename(((struct sqlite_host *)host)->connection, schema);
    return path != NULL && path[0] != '\0' ? path : NULL;
}

static void sqlite_close(struct host *host)
{
    struct sqlite_host *self = (struct sqlite_host *)host;
    if (self == NULL) {
        return;
    }
    assert(self->depth == 0);
    while (self->idle != NULL) {
        struct host_statement *statement = self->idle;
        self->idle = statement->next;
        sqlite_discard(statement);
    }
    if (self->owned) {
        sqlite3_close(self->connection);
    }
    memory_free(host->env, self, 1, sizeof *self);
}

static const struct host_type sqlite_type = {
    .name = "sqlite",
    .close = sqlite_close,
    .prepare = sqlite_prepare,
    .bind = sqlite_bind,
    .step = sqlite_step,
    .column = sqlite_column,
    .reset = sqlite_reset,
    .finish = sqlite_finish,
    .begin = sqlite_begin,
    .change = sqlite_change,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .in_transaction = sqlite_in_transaction,
    .interrupted = sqlite_interrupted,
    .read_only = sqlite_read_only,
    .file = sqlite_file,
    .schemas = sqlite_schemas,
    .has_table = sqlite_has_table,
    .describe = sqlite_describe,
    .condition = sqlite_condition,
    .condition_rename = sqlite_condition_rename,
    .schema_version = sqlite_schema_version,
    .log_create = sqlite_log_create,
    .log_inspect = sqlite_log_inspect,
    .log_repair = sqlite_log_repair,
    .log_drop = sqlite_log_drop,
};

annex_status sqlite_adopt(const annex_env *env, void *connection, struct host **host,
                          annex_error *error)
{
    struct sqlite_host *self = NULL;
    *host = NULL;
    if (connection == NULL) {
        return error_set(error, ANNEX_INVALID, "there is no SQLite connection to use");
    }
    if (sqlite3_libversion_number() < 3038000) {
        return error_set(error, ANNEX_UNSUPPORTED,
                         "Annex needs SQLite 3.38 or newer; this program has %s",
                         sqlite3_libversion());
    }
    TRY(memory_new(env, 1, sizeof *self, &self, error));
    self->host.type = &sqlite_type;
    self->host.env = env;
    self->connection = connection;
    *host = &self->host;
    return ANNEX_OK;
}

annex_status sqlite_open(const annex_env *env, const char *target, unsigned flags,
                         struct host **host, annex_error *error)
{
    sqlite3 *connection = NULL;
    int mode = flags & ANNEX_DB_READ_ONLY ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    if (flags & ANNEX_DB_CREATE && !(flags & ANNEX_DB_READ_ONLY)) {
        mode |= SQLITE_OPEN_CREATE;
    }
    *host = NULL;
    int code = sqlite3_open_v2(target, &connection, mode | SQLITE_OPEN_URI, NULL);
    annex_status status = ANNEX_OK;
    if (code == SQLITE_OK) {
        sqlite3_busy_timeout(connection, 5000);
        /* Opening is lazy: the first look tells whether this is a database at all. */
        code = sqlite3_exec(connection, "PRAGMA schema_version", NULL, NULL, NULL);
    }
    if (code == SQLITE_CANTOPEN) {
        status =
            error_set(error, ANNEX_NOT_FOUND,
                      "cannot open the database %s: it does not exist or may not be read", target);
    } else if (code == SQLITE_NOTADB) {
        status = error_set(error, ANNEX_INVALID, "%s is not a SQLite database", target);
    } else if (code != SQLITE_OK) {
        status = sqlite_error(connection, code, error);
    } else {
        status = sqlite_adopt(env, connection, host, error);
    }
    if (status != ANNEX_OK) {
        sqlite3_close(connection);
        return status;
    }
    ((struct sqlite_host *)*host)->owned = true;
    return ANNEX_OK;
}
