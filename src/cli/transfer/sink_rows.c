/*
 * sink_rows.c - see sink_rows.h; and annex import --table, an ordinary table.
 *
 * The key must be unique in the table: rows are found by it, and SQLite says so when it is not. A
 * row that is there keeps its other columns when an item replaces it. A key that the column would
 * store as another one (7 for "007") is refused: it would not be found again.
 */
#include "transfer/sink_rows.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- rows of any table ------------------------------------------------------------------------*/

annex_value rows_sink_vector(const struct rows_sink *sink, const struct item *item)
{
    size_t bytes = sink->source->bits ? (item->dimension + 7) / 8 : item->dimension * sizeof(float);
    return (annex_value){.type = ANNEX_BLOB, .data = item->vector, .bytes = bytes};
}

static char *append_columns(char *sql, const struct row_target *target, size_t from, size_t to,
                            const char *first, const char *others)
{
    for (size_t i = from; i < to; i++) {
        sql = sql_append(sql, i == from ? first : others, target->columns[i]);
    }
    return sql;
}

static annex_status prepare_insert(struct rows_sink *sink, annex_error *error)
{
    const struct row_target *target = &sink->target;
    char *sql = sqlite3_mprintf("INSERT INTO main.\"%w\" (", target->table);
    sql = append_columns(sql, target, 0, target->n_columns, "%z\"%w\"", "%z, \"%w\"");
    for (size_t i = 0; i < target->n_columns; i++) {
        sql = sql_append(sql, "%z%s", i == 0 ? ") VALUES (?" : ", ?");
    }
    sql = append_columns(sql, target, 0, target->n_key, "%z) ON CONFLICT (\"%w\"", "%z, \"%w\"");
    sql = append_columns(sql, target, 0, target->n_key, "%z) DO NOTHING RETURNING \"%w\"",
                         "%z, \"%w\"");
    annex_status status = sql_prepare_text(sink->db, &sink->insert, sql, error);
    if (status == ANNEX_HOST && strstr(error->message, "ON CONFLICT") != NULL) {
        return session_error(error, ANNEX_INVALID,
                             "the key is not unique in the table %s: it needs a primary key or a "
                             "unique index over just these columns; --key names others",
                             target->table);
    }
    return status;
}

static annex_status prepare_update(struct rows_sink *sink, annex_error *error)
{
    const struct row_target *target = &sink->target;
    char *sql = sqlite3_mprintf("UPDATE main.\"%w\" SET ", target->table);
    for (size_t i = target->n_key; i < target->n_columns; i++) {
        char parameter[16];
        snprintf(parameter, sizeof(parameter), "?%u", (unsigned)i + 1);
        sql = sql_append(sql,
                         i == target->n_key ? "%z\"%w\" = " : "%z, \"%w\" = ", target->columns[i]);
        sql = sql_append(sql, "%z%s", parameter);
    }
    for (size_t i = 0; i < target->n_key; i++) {
        char parameter[16];
        snprintf(parameter, sizeof(parameter), "?%u", (unsigned)i + 1);
        sql = sql_append(sql, i == 0 ? "%z WHERE \"%w\" IS " : "%z AND \"%w\" IS ",
                         target->columns[i]);
        sql = sql_append(sql, "%z%s", parameter);
    }
    return sql_prepare_text(sink->db, &sink->update, sql, error);
}

/* What SQLite says about an item. */
static annex_status host_error(const struct rows_sink *sink, const struct item *item,
                               annex_error *error)
{
    char why[ANNEX_ERROR_BYTES];
    annex_status status = sql_error(sink->db, error);
    memcpy(why, error->message, sizeof(why));
    return status == ANNEX_HOST ? transfer_error(sink->source, item, error, status, "%s", why)
                                : status;
}

static bool is_same(const annex_value *a, const annex_value *b)
{
    if (a->type != b->type) {
        return false;
    }
    switch (a->type) {
    case ANNEX_NULL:
        return true;
    case ANNEX_INTEGER:
        return a->integer == b->integer;
    case ANNEX_REAL:
        return a->real == b->real;
    default:
        return a->bytes == b->bytes && (a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
    }
}

/* Compares the key that was stored with the one that was to be. */
static annex_status check_key(const struct rows_sink *sink, const struct item *item,
                              const annex_value *values, annex_error *error)
{
    for (size_t i = 0; i < sink->target.n_key; i++) {
        annex_value stored = sql_value(sink->insert, (int)i);
        if (!is_same(&stored, &values[i])) {
            char key[96];
            transfer_describe_key(item, key);
            return transfer_error(sink->source, item, error, ANNEX_INVALID,
                                  "the column %s does not keep the key %s as it is: its type is "
                                  "another",
                                  sink->target.columns[i], key);
        }
    }
    return ANNEX_OK;
}

static annex_status replace_row(struct rows_sink *sink, const struct item *item,
                                const annex_value *values, annex_error *error)
{
    for (size_t i = 0; i < sink->target.n_columns; i++) {
        sql_bind(sink->update, (int)i + 1, &values[i]);
    }
    int code = sqlite3_step(sink->update);
    sqlite3_reset(sink->update);
    sink->base.replaced++;
    return code == SQLITE_DONE ? ANNEX_OK : host_error(sink, item, error);
}

/* There is a row with the key of the item. */
static annex_status meet_row(struct rows_sink *sink, const struct item *item,
                             const annex_value *values, annex_error *error)
{
    if (session_has(sink->session, OPTION_REPLACE)) {
        return replace_row(sink, item, values, error);
    }
    if (session_has(sink->session, OPTION_IGNORE)) {
        sink->base.ignored++;
        return ANNEX_OK;
    }
    char key[96];
    transfer_describe_key(item, key);
    return transfer_error(sink->source, item, error, ANNEX_EXISTS,
                          "the key %s is there already; --replace or --ignore says what to do",
                          key);
}

static annex_status put_row(struct sink *base, const struct item *item, annex_error *error)
{
    struct rows_sink *sink = (struct rows_sink *)base;
    annex_value values[ROW_COLUMNS] = {0};
    annex_status status = ANNEX_OK;
    if (sink->insert == NULL) {
        status = sink->prepare(sink, item, error);
        if (status == ANNEX_OK) {
            status = prepare_insert(sink, error);
        }
        if (status == ANNEX_OK) {
            status = prepare_update(sink, error);
        }
    }
    if (status == ANNEX_OK) {
        status = sink->values(sink, item, values, error);
    }
    if (status != ANNEX_OK) {
        return status;
    }
    for (size_t i = 0; i < sink->target.n_columns; i++) {
        sql_bind(sink->insert, (int)i + 1, &values[i]);
    }
    int code = sqlite3_step(sink->insert);
    if (code == SQLITE_ROW) {
        base->added++;
        status = check_key(sink, item, values, error);
    } else if (code != SQLITE_DONE) {
        status = host_error(sink, item, error);
    }
    sqlite3_reset(sink->insert);
    return code == SQLITE_DONE ? meet_row(sink, item, values, error) : status;
}

static annex_status commit_rows(struct sink *base, annex_error *error)
{
    struct rows_sink *sink = (struct rows_sink *)base;
    annex_status status = sql_run(sink->db, error, "COMMIT");
    sink->committed = status == ANNEX_OK;
    return status;
}

/* Removes a file that was made for nothing. Nobody else has put anything into it: it is empty. */
static void remove_new(const struct rows_sink *sink)
{
    const annex_io *io = &sink->session->env.io;
    const char *path = sink->session->arguments.operands[0];
    struct stat about;
    sqlite3 *db = NULL;
    annex_error ignored;
    /* On a full disk the journal was left; a reader takes back what it says. */
    if (sql_open(path, SQLITE_OPEN_READWRITE, &db, &ignored) == ANNEX_OK) {
        sql_run(db, &ignored, "SELECT count(*) FROM sqlite_schema");
        sqlite3_close(db);
    }
    if (stat(path, &about) == 0 && about.st_size == 0) {
        io->remove(io->context, path);
    }
}

static void close_rows(struct sink *base)
{
    struct rows_sink *sink = (struct rows_sink *)base;
    sqlite3_finalize(sink->insert);
    sqlite3_finalize(sink->update);
    sqlite3_close(sink->db); /* takes back what was not committed */
    if (sink->is_new && !sink->committed) {
        remove_new(sink);
    }
    free(sink);
}

annex_status rows_sink_begin(struct rows_sink *sink, struct session *session,
                             const struct items *source, annex_error *error)
{
    const char *path = session->arguments.operands[0];
    struct stat about;
    sink->base = (struct sink){.put = put_row, .commit = commit_rows, .close = close_rows};
    sink->session = session;
    sink->source = source;
    bool is_new = stat(path, &about) != 0 && strncmp(path, "file:", 5) != 0;
    annex_status status =
        sql_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &sink->db, error);
    if (status == ANNEX_OK) {
        sink->is_new = is_new;
        status = sql_run(sink->db, error, "BEGIN IMMEDIATE");
    }
    return status;
}

/* ---- an ordinary table ------------------------------------------------------------------------*/

struct table_sink {
    struct rows_sink rows;
    char *key; /* names of the columns, cut */
    const char *keys[TRANSFER_KEYS];
    const char *vector, *content, *metadata;
    bool has_content, has_metadata; /* columns of the table */
};

static const char *name_of(const struct session *session, enum option_id id, const char *usual)
{
    const char *name = session_option(session, id)->text;
    return name != NULL ? name : usual;
}

static const char *type_of(const annex_value *value)
{
    switch (value->type) {
    case ANNEX_INTEGER:
        return "INTEGER";
    case ANNEX_REAL:
        return "REAL";
    case ANNEX_TEXT:
        return "TEXT";
    default:
        return "BLOB";
    }
}

/* A table that is right for the first item. */
static annex_status create_table(struct table_sink *sink, const struct item *item,
                                 annex_error *error)
{
    const struct row_target *target = &sink->rows.target;
    char *sql = sqlite3_mprintf("CREATE TABLE main.\"%w\" (", target->table);
    for (size_t i = 0; i < item->n_key; i++) {
        sql = sql_append(sql, "%z\n  \"%w\" ", sink->keys[i]);
        sql = sql_append(sql, "%z%s", type_of(&item->key[i]));
        sql = sql_append(sql, "%z%s", item->n_key > 1 ? " NOT NULL," : " NOT NULL PRIMARY KEY,");
    }
    sql = sql_append(sql, "%z\n  \"%w\" BLOB NOT NULL", sink->vector);
    if (sink->has_content) {
        sql = sql_append(sql, "%z,\n  \"%w\"", sink->content);
        sql = sql_append(sql, "%z,\n  \"%w\" TEXT", sink->metadata);
    }
    for (size_t i = 0; item->n_key > 1 && i < item->n_key; i++) {
        sql = sql_append(sql, i == 0 ? "%z,\n  PRIMARY KEY (\"%w\"" : "%z, \"%w\"", sink->keys[i]);
    }
    sql = sql_append(sql, "%z%s", item->n_key > 1 ? ")\n)" : "\n)");
    annex_status status = sql == NULL ? session_error(error, ANNEX_NOMEM, "out of memory")
                                      : sql_run(sink->rows.db, error, sql);
    sqlite3_free(sql);
    return status;
}

/* Whether the table is there, and which columns it has. */
static annex_status look_at_table(struct table_sink *sink, bool *there, annex_error *error)
{
    const char *table = sink->rows.target.table;
    sqlite3 *db = sink->rows.db;
    sqlite3_stmt *statement = NULL;
    annex_status status =
        sql_prepare(db, &statement, error, "SELECT 1 FROM pragma_table_info(%Q, 'main')", table);
    if (status == ANNEX_OK) {
        status = sql_integers(statement, NULL, 0, there, error);
    }
    sqlite3_finalize(statement);
    if (status == ANNEX_OK) {
        status = sql_has_column(db, "main", table, sink->content, &sink->has_content, error);
    }
    if (status == ANNEX_OK) {
        status = sql_has_column(db, "main", table, sink->metadata, &sink->has_metadata, error);
    }
    return status;
}

static annex_status prepare_table(struct rows_sink *rows, const struct item *item,
                                  annex_error *error)
{
    struct table_sink *sink = (struct table_sink *)rows;
    struct row_target *target = &rows->target;
    bool there = false;
    size_t n = transfer_split_names(sink->key, sink->keys);
    if (n != item->n_key) {
        return session_error(error, ANNEX_INVALID,
                             "keys have %zu parts, and --key names %zu columns: name as many",
                             item->n_key, n);
    }
    annex_status status = look_at_table(sink, &there, error);
    if (status == ANNEX_OK && !there) {
        sink->has_content = sink->has_metadata = rows->source->has_text;
        status = create_table(sink, item, error);
    }
    for (size_t i = 0; i < n; i++) {
        target->columns[i] = sink->keys[i];
    }
    target->n_key = n;
    target->columns[n++] = sink->vector;
    if (sink->has_content && rows->source->has_text) {
        target->columns[n++] = sink->content;
    }
    if (sink->has_metadata && rows->source->has_text) {
        target->columns[n++] = sink->metadata;
    }
    target->n_columns = n;
    return status;
}

static annex_status no_column(const struct table_sink *sink, const struct item *item,
                              const char *what, const char *column, annex_error *error)
{
    return transfer_error(sink->rows.source, item, error, ANNEX_INVALID,
                          "the item has %s, and the table %s no column %s; add it, or name another "
                          "with --%s",
                          what, sink->rows.target.table, column, what);
}

static annex_status table_values(struct rows_sink *rows, const struct item *item,
                                 annex_value *values, annex_error *error)
{
    const struct table_sink *sink = (const struct table_sink *)rows;
    size_t n = rows->target.n_key;
    if (item->content.type != ANNEX_NULL && !sink->has_content) {
        return no_column(sink, item, "content", sink->content, error);
    }
    if (item->metadata.type != ANNEX_NULL && !sink->has_metadata) {
        return no_column(sink, item, "metadata", sink->metadata, error);
    }
    memcpy(values, item->key, n * sizeof(*values));
    values[n++] = rows_sink_vector(rows, item);
    if (sink->has_content) {
        values[n++] = item->content;
    }
    values[n] = item->metadata;
    return ANNEX_OK;
}

static void close_table(struct sink *base)
{
    struct table_sink *sink = (struct table_sink *)base;
    free(sink->key);
    close_rows(base);
}

annex_status sink_open_table(struct session *session, const struct items *source,
                             struct sink **opened, annex_error *error)
{
    struct table_sink *sink = session_memory(1, sizeof(*sink));
    const char *key = name_of(session, OPTION_KEY, "id");
    annex_status status = rows_sink_begin(&sink->rows, session, source, error);
    sink->rows.base.close = close_table;
    sink->rows.prepare = prepare_table;
    sink->rows.values = table_values;
    sink->rows.target.table = session_option(session, OPTION_TABLE)->text;
    sink->key = memcpy(session_memory(strlen(key) + 1, 1), key, strlen(key) + 1);
    sink->vector = name_of(session, OPTION_VECTOR, "embedding");
    sink->content = name_of(session, OPTION_CONTENT, "content");
    sink->metadata = name_of(session, OPTION_METADATA, "metadata");
    *opened = &sink->rows.base;
    return status;
}
