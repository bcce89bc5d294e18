/*
 * sqlite_table.c - how a SQLite table is described: its columns, and the key that names its rows.
 *
 * A key must outlive everything that may happen to a table. An INTEGER PRIMARY KEY, another primary
 * key and a unique index that admits no NULL do; an implicit rowid does not, since VACUUM may
 * renumber it.
 */
#include "host/sqlite_host.h"

#include <strings.h>

annex_status sqlite_schemas(struct host *host, struct arena *arena, const char ***names, size_t *n,
                            annex_error *error)
{
    struct host_statement *statement = NULL;
    bool row = true;
    *names = NULL;
    *n = 0;
    size_t capacity = 16;
    TRY(arena_new(arena, capacity, sizeof **names, names, error));
    annex_status status = host_prepare(host, &statement, error, "PRAGMA database_list");
    while (status == ANNEX_OK) {
        status = host->type->step(statement, &row, error);
        if (status != ANNEX_OK || !row) {
            break;
        }
        if (*n == capacity) {
            const char **more = NULL;
            TRY_CLEANUP(arena_new(arena, 2 * capacity, sizeof *more, &more, error));
            memcpy(more, *names, capacity * sizeof *more);
            *names = more;
            capacity *= 2;
        }
        status = host_text(host, statement, 1, arena, &(*names)[*n], error);
        *n += status == ANNEX_OK;
    }
cleanup:
    host->type->finish(statement);
    return status;
}

annex_status sqlite_has_table(struct host *host, const char *schema, const char *table,
                              bool *present, annex_error *error)
{
    struct arena scratch = {host->env, NULL};
    struct host_statement *statement = NULL;
    const char *quoted = NULL;
    annex_status status = ANNEX_OK;
    *present = false;
    TRY_CLEANUP(host_quote(&scratch, schema, &quoted, error));
    TRY_CLEANUP(host_prepare(host, &statement, error,
                             "SELECT 1 FROM %s.sqlite_schema "
                             "WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE",
                             quoted));
    TRY_CLEANUP(host_bind_text(host, statement, 1, table, error));
    TRY_CLEANUP(host->type->step(statement, present, error));
cleanup:
    host->type->finish(statement);
    arena_free(&scratch);
    return status;
}

/* ---- columns ---------------------------------------------------------------------------------*/

struct table_reader {
    struct host *host;
    struct arena *arena;
    const char *schema_quoted;
    const char *table_quoted;
    struct host_table *table;
    bool without_rowid;
    const char *integer_column; /* declared INTEGER and alone in the primary key */
};

/* Refuses what is not a table of rows that triggers can watch, and takes the stored spelling. */
static annex_status table_read_kind(struct table_reader *reader, const char *table,
                                    annex_error *error)
{
    struct host *host = reader->host;
    struct host_statement *statement = NULL;
    const char *kind = "";
    bool row = false;
    annex_status status = host_prepare(host, &statement, error, "PRAGMA %s.table_list(%s)",
                                       reader->schema_quoted, reader->table_quoted);
    TRY_CLEANUP(status);
    TRY_CLEANUP(host->type->step(statement, &row, error));
    if (!row) {
        status = error_set(error, ANNEX_NOT_FOUND, "there is no table %s in schema %s", table,
                           reader->table->schema);
        goto cleanup;
    }
    TRY_CLEANUP(host_text(host, statement, 1, reader->arena, &reader->table->name, error));
    TRY_CLEANUP(host_text(host, statement, 2, reader->arena, &kind, error));
    reader->without_rowid = host_integer(host, statement, 4) != 0;
    if (strcmp(kind, "table") != 0) {
        status = error_set(error, ANNEX_UNSUPPORTED,
                           "%s is a %s, and SQLite can watch changes of ordinary tables only; "
                           "index the table that holds its rows",
                           table, kind);
    }
cleanup:
    host->type->finish(statement);
    return status;
}

static annex_status table_read_columns(struct table_reader *reader, annex_error *error)
{
    struct host *host = reader->host;
    struct host_table *table = reader->table;
    struct host_statement *statement = NULL;
    size_t capacity = 0;
    size_t n_primary = 0;
    bool row = true;
    annex_status status = host_prepare(host, &statement, error, "PRAGMA %s.table_xinfo(%s)",
                                       reader->schema_quoted, reader->table_quoted);
    while (status == ANNEX_OK) {
        const char *type = "";
        TRY_CLEANUP(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        if (table->n_columns == capacity) {
            struct host_column *more = NULL;
            capacity = MAX((size_t)16, 2 * capacity);
            TRY_CLEANUP(arena_new(reader->arena, capacity, sizeof *more, &more, error));
            if (table->n_columns > 0) {
                memcpy(more, table->columns, table->n_columns * sizeof *more);
            }
            table->columns = more;
        }
        struct host_column *column = &table->columns[table->n_columns++];
        TRY_CLEANUP(host_text(host, statement, 1, reader->arena, &column->name, error));
        TRY_CLEANUP(host_text(host, statement, 2, reader->arena, &type, error));
        column->not_null = host_integer(host, statement, 3) != 0;
        column->key_position = (unsigned)host_integer(host, statement, 5);
        n_primary += column->key_position > 0;
        if (column->key_position > 0) {
            reader->integer_column = strcasecmp(type, "INTEGER") == 0 ? column->name : NULL;
        }
    }
    if (n_primary != 1 || reader->without_rowid) {
        reader->integer_column = NULL;
    }
cleanup:
    host->type->finish(statement);
    return status;
}

static struct host_column *table_column(const struct host_table *table, const char *name)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        if (strcasecmp(table->columns[i].name, name) == 0) {
            return &table->columns[i];
        }
    }
    return NULL;
}

/* ---- keys ------------------------------------------------------------------------------------*/

/* A set of columns whose values together are unique. */
struct unique_set {
    const char *columns[ANNEX_MAX_KEY_COLUMNS];
    size_t n; /* 0: it cannot be a key (expression, too many columns) */
    bool not_null;
};

static annex_status unique_read(struct table_reader *reader, const char *index,
                                struct unique_set *set, annex_error *error)
{
    struct host *host = reader->host;
    struct host_statement *statement = NULL;
    const char *quoted = NULL;
    bool row = true;
    annex_status status = ANNEX_OK;
    *set = (struct unique_set){.not_null = true};
    TRY_CLEANUP(host_quote(reader->arena, index, &quoted, error));
    TRY_CLEANUP(host_prepare(host, &statement, error, "PRAGMA %s.index_info(%s)",
                             reader->schema_quoted, quoted));
    for (;;) {
        const char *name = NULL;
        TRY_CLEANUP(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        TRY_CLEANUP(host_text(host, statement, 2, reader->arena, &name, error));
        struct host_column *column = table_column(reader->table, name);
        if (column == NULL || set->n == ANNEX_MAX_KEY_COLUMNS) {
            set->n = 0;
            break;
        }
        set->columns[set->n++] = column->name;
        set->not_null = set->not_null && column->not_null;
    }
cleanup:
    host->type->finish(statement);
    return status;
}

static bool unique_equals(const struct unique_set *set, const char *const *columns, size_t n)
{
    if (set->n != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        size_t j = 0;
        while (j < n && strcasecmp(columns[i], set->columns[j]) != 0) {
            j++;
        }
        if (j == n) {
            return false;
        }
    }
    return true;
}

static void table_take_key(struct table_reader *reader, const char *const *columns, size_t n)
{
    struct host_table *table = reader->table;
    for (size_t i = 0; i < n; i++) {
        table->keys[i] = table_column(table, columns[i])->name;
    }
    table->n_keys = n;
    table->integer_key = n == 1 && reader->integer_column != NULL &&
                         strcasecmp(columns[0], reader->integer_column) == 0;
}

/*
 * Walks the unique indexes. With `wanted`, takes the one over exactly these columns; otherwise the
 * primary key, else the narrowest index that admits no NULL.
 */
static annex_status table_find_unique(struct table_reader *reader, const char *const *wanted,
                                      size_t n_wanted, annex_error *error)
{
    struct host *host = reader->host;
    struct host_statement *statement = NULL;
    struct unique_set best = {.n = 0};
    bool row = true;
    bool best_primary = false;
    bool has_primary_index = false;
    annex_status status = host_prepare(host, &statement, error, "PRAGMA %s.index_list(%s)",
                                       reader->schema_quoted, reader->table_quoted);
    while (status == ANNEX_OK) {
        struct unique_set set;
        const char *index = NULL, *origin = NULL;
        TRY_CLEANUP(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        TRY_CLEANUP(host_text(host, statement, 1, reader->arena, &index, error));
        TRY_CLEANUP(host_text(host, statement, 3, reader->arena, &origin, error));
        bool primary = strcmp(origin, "pk") == 0;
        has_primary_index = has_primary_index || primary;
        if (host_integer(host, statement, 2) == 0 || host_integer(host, statement, 4) != 0) {
            continue; /* not unique, or over a part of the rows */
        }
        TRY_CLEANUP(unique_read(reader, index, &set, error));
        bool fits = n_wanted > 0 ? unique_equals(&set, wanted, n_wanted)
                                 : set.n > 0 && (primary || set.not_null);
        bool better = best.n == 0 || (primary && !best_primary) ||
                      (primary == best_primary && set.n < best.n);
        if (fits && better) {
            best = set;
            best_primary = primary;
        }
    }
    if (has_primary_index) {
        reader->integer_column =
            NULL; /* it is a primary key beside the rowid, not an alias of it */
    }
    bool wants_rowid = n_wanted == 1 && reader->integer_column != NULL &&
                       strcasecmp(wanted[0], reader->integer_column) == 0;
    if (wants_rowid || (n_wanted == 0 && reader->integer_column != NULL)) {
        table_take_key(reader, &reader->integer_column, 1);
    } else if (best.n > 0) {
        table_take_key(reader, n_wanted > 0 ? wanted : best.columns, best.n);
    }
cleanup:
    host->type->finish(statement);
    return status;
}

static annex_status table_check_wanted(const struct host_table *table, const char *const *wanted,
                                       size_t n_wanted, annex_error *error)
{
    for (size_t i = 0; i < n_wanted; i++) {
        if (table_column(table, wanted[i]) == NULL) {
            return error_set(error, ANNEX_NOT_FOUND, "the table %s has no column %s for the key",
                             table->name, wanted[i]);
        }
    }
    return ANNEX_OK;
}

annex_status sqlite_describe(struct host *host, const char *schema, const char *table,
                             const char *const *keys, size_t n_keys, struct arena *arena,
                             struct host_table *out, annex_error *error)
{
    struct table_reader reader = {.host = host, .arena = arena, .table = out};
    memset(out, 0, sizeof *out);
    TRY(arena_text(arena, schema, strlen(schema), &out->schema, error));
    TRY(host_quote(arena, schema, &reader.schema_quoted, error));
    TRY(host_quote(arena, table, &reader.table_quoted, error));
    TRY(table_read_kind(&reader, table, error));
    TRY(table_read_columns(&reader, error));
    TRY(table_check_wanted(out, keys, n_keys, error));
    TRY(table_find_unique(&reader, keys, n_keys, error));
    if (out->n_keys > 0) {
        return ANNEX_OK;
    }
    if (n_keys > 0) {
        return error_set(error, ANNEX_INVALID,
                         "the key of %s is not declared unique, so it could name several rows; "
                         "run CREATE UNIQUE INDEX on %s first, or choose another key",
                         table, n_keys == 1 ? keys[0] : "its columns");
    }
    return error_set(error, ANNEX_INVALID,
                     "the table %s has no key that stays the same: VACUUM may renumber its rows; "
                     "give it an INTEGER PRIMARY KEY, or a UNIQUE column that is NOT NULL and name "
                     "it with {\"key\": \"...\"}",
                     table);
}

/* ---- conditions ------------------------------------------------------------------------------*/

struct condition_columns {
    const struct host_table *table;
    bool *used;
};

static int condition_authorize(void *context, int action, const char *first, const char *second,
                               const char *schema, const char *trigger)
{
    struct condition_columns *columns = context;
    (void)first, (void)schema, (void)trigger;
    if (action == SQLITE_READ && second != NULL) {
        for (size_t i = 0; i < columns->table->n_columns; i++) {
            if (strcasecmp(columns->table->columns[i].name, second) == 0) {
                columns->used[i] = true;
            }
        }
    }
    return SQLITE_OK;
}

/*
 * An empty table with the same columns, in a database of its own, accepts the condition for a
 * partial index or not: SQLite's own rule of what depends on the row alone. The authorizer hears
 * the columns.
 */
static int condition_try(sqlite3 *sandbox, const struct host_table *table, const char *where,
                         struct condition_columns *columns)
{
    char *create = sqlite3_mprintf("CREATE TABLE \"%w\"(", table->name);
    for (size_t i = 0; create != NULL && i < table->n_columns; i++) {
        char *longer =
            sqlite3_mprintf("%z%s\"%w\"", create, i > 0 ? ", " : "", table->columns[i].name);
        create = longer;
    }
    create = create != NULL ? sqlite3_mprintf("%z)", create) : NULL;
    char *index = sqlite3_mprintf("CREATE INDEX probe ON \"%w\"(\"%w\") WHERE (%s\n)", table->name,
                                  table->columns[0].name, where);
    char *select = sqlite3_mprintf("SELECT 1 FROM \"%w\" WHERE (%s\n)", table->name, where);
    int code = SQLITE_NOMEM;
    if (create != NULL && index != NULL && select != NULL) {
        code = sqlite3_exec(sandbox, create, NULL, NULL, NULL);
        code = code == SQLITE_OK ? sqlite3_exec(sandbox, index, NULL, NULL, NULL) : code;
        sqlite3_set_authorizer(sandbox, condition_authorize, columns);
        code = code == SQLITE_OK ? sqlite3_exec(sandbox, select, NULL, NULL, NULL) : code;
    }
    sqlite3_free(create);
    sqlite3_free(index);
    sqlite3_free(select);
    return code;
}

annex_status sqlite_condition(struct host *host, const struct host_table *table, const char *where,
                              struct arena *arena, const char ***columns, size_t *n,
                              annex_error *error)
{
    struct condition_columns found = {.table = table};
    struct host_statement *statement = NULL;
    const char *schema = NULL, *name = NULL;
    annex_error why = {ANNEX_OK, ""};
    sqlite3 *sandbox = NULL;
    *columns = NULL;
    *n = 0;
    TRY(arena_new(arena, table->n_columns, sizeof *found.used, &found.used, error));
    TRY(arena_new(arena, table->n_columns, sizeof **columns, columns, error));
    TRY(host_quote(arena, table->schema, &schema, error));
    TRY(host_quote(arena, table->name, &name, error));
    /* The real table first: its message is the one that helps. */
    annex_status status = host_prepare(host, &statement, &why, "SELECT 1 FROM %s.%s WHERE (%s\n)",
                                       schema, name, where);
    host->type->finish(statement);
    if (status != ANNEX_OK) {
        return error_set(error, status == ANNEX_HOST ? ANNEX_INVALID : status,
                         "the condition (%s) does not work: %s", where, why.message);
    }
    int code = sqlite3_open(":memory:", &sandbox);
    if (code == SQLITE_OK) {
        /* A name in double quotes is a column here, never a text: typing errors shall be found. */
        sqlite3_db_config(sandbox, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
        sqlite3_db_config(sandbox, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
        code = condition_try(sandbox, table, where, &found);
    }
    if (code != SQLITE_OK) {
        status = error_set(error, ANNEX_INVALID,
                           "the condition (%s) cannot be kept fresh: it must depend on the "
                           "columns of one row only (%s)",
                           where, sqlite3_errmsg(sandbox));
    }
    sqlite3_close(sandbox);
    for (size_t i = 0; i < table->n_columns; i++) {
        if (found.used[i]) {
            (*columns)[(*n)++] = table->columns[i].name;
        }
    }
    return status;
}

/* ---- conditions whose columns were renamed ----------------------------------------------------*/

/* Runs one statement made by sqlite3_mprintf, which it frees. */
static int sandbox_run(sqlite3 *sandbox, char *sql)
{
    int code = sql != NULL ? sqlite3_exec(sandbox, sql, NULL, NULL, NULL) : SQLITE_NOMEM;
    sqlite3_free(sql);
    return code;
}

/* Through names that nobody has, so that two columns may have exchanged theirs. */
static int sandbox_rename(sqlite3 *sandbox, const char *const *from, const char *const *to,
                          size_t n)
{
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < n; i++) {
        code =
            sandbox_run(sandbox, sqlite3_mprintf("ALTER TABLE t RENAME COLUMN \"%w\" TO \"\x01%u\"",
                                                 from[i], (unsigned)i));
    }
    for (size_t i = 0; code == SQLITE_OK && i < n; i++) {
        code =
            sandbox_run(sandbox, sqlite3_mprintf("ALTER TABLE t RENAME COLUMN \"\x01%u\" TO \"%w\"",
                                                 (unsigned)i, to[i]));
    }
    return code;
}

/* A partial index is where SQLite renames columns in a condition. Its text is copied to *out. */
static int condition_try_rename(sqlite3 *sandbox, const char *where, const char *const *from,
                                const char *const *to, size_t n, struct arena *arena,
                                const char **out)
{
    static const char before[] = "CREATE INDEX probe ON t(\"\x01\") WHERE (";
    sqlite3_stmt *statement = NULL;
    char *create = sqlite3_mprintf("CREATE TABLE t(\"\x01\"");
    for (size_t i = 0; create != NULL && i < n; i++) {
        char *longer = sqlite3_mprintf("%z, \"%w\"", create, from[i]);
        create = longer;
    }
    create = create != NULL ? sqlite3_mprintf("%z)", create) : NULL;
    int code = sandbox_run(sandbox, create);
    code =
        code == SQLITE_OK ? sandbox_run(sandbox, sqlite3_mprintf("%s%s\n)", before, where)) : code;
    code = code == SQLITE_OK ? sandbox_rename(sandbox, from, to, n) : code;
    if (code == SQLITE_OK) {
        code = sqlite3_prepare_v2(sandbox, "SELECT sql FROM sqlite_schema WHERE name = 'probe'", -1,
                                  &statement, NULL);
    }
    const char *text = code == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW
                           ? (const char *)sqlite3_column_text(statement, 0)
                           : NULL;
    size_t length = text != NULL ? strlen(text) : 0;
    size_t around = strlen(before) + strlen("\n)");
    if (length >= around && arena_text(arena, text + strlen(before), length - around, out, NULL)) {
        code = SQLITE_NOMEM;
    }
    sqlite3_finalize(statement);
    return code == SQLITE_OK && *out == NULL ? SQLITE_ERROR : code;
}

annex_status sqlite_condition_rename(struct host *host, const char *where, const char *const *from,
                                     const char *const *to, size_t n, struct arena *arena,
                                     const char **out, annex_error *error)
{
    sqlite3 *sandbox = NULL;
    (void)host;
    *out = NULL;
    int code = sqlite3_open(":memory:", &sandbox);
    if (code == SQLITE_OK) {
        code = condition_try_rename(sandbox, where, from, to, n, arena, out);
    }
    annex_status status =
        code == SQLITE_OK ? ANNEX_OK
        : code == SQLITE_NOMEM
            ? error_nomem(error, 0)
            : error_set(error, ANNEX_INVALID,
                        "the condition (%s) cannot follow its columns, which were renamed (%s)",
                        where, sqlite3_errmsg(sandbox));
    sqlite3_close(sandbox);
    return status;
}
