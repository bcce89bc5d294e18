/*
 * hybrid_text.c - the half of annex_hybrid that searches by words: FTS5, asked in SQL.
 *
 * Invariants
 *   1. A row of the answer is a row of the indexed table that fulfils the condition of the index,
 *      in the snapshot that is held. An FTS5 table with external content may name rows that are
 *      gone; they are passed over before they take a rank.
 *   2. The rowid of the FTS5 table is that of the indexed table, whatever the key of the index is,
 *      unless the option fts_key names columns of the FTS5 table that hold the key. Several rows of
 *      it may then have one key (the paragraphs of a document): the best of them counts.
 *   3. Rows of equal rank come in the order of their keys.
 */
#include <math.h>
#include <string.h>

#include "sqlite/declaration.h"
#include "sqlite/hybrid/hybrid.h"
#include "sqlite/statement.h"

struct hybrid_text {
    sqlite3 *handle;
    char *identity; /* what this was opened for */
    char *schema;   /* of the index and its table */
    char *table;
    char *where;  /* the condition of the index, or "" */
    char *rowid;  /* how its rowid is called: a column may take the name */
    char *fts;    /* the FTS5 table */
    char *fts_in; /* its schema */
    char *keys[ANNEX_MAX_KEY_COLUMNS];
    size_t n_keys;
    sqlite3_stmt *search;
    sqlite3_stmt *holds[2];
};

void hybrid_text_free(struct hybrid_text *text)
{
    if (text == NULL) {
        return;
    }
    sqlite3_finalize(text->search);
    sqlite3_finalize(text->holds[0]);
    sqlite3_finalize(text->holds[1]);
    sqlite3_free(text->identity);
    sqlite3_free(text->schema);
    sqlite3_free(text->table);
    sqlite3_free(text->where);
    for (size_t i = 0; i < text->n_keys; i++) {
        sqlite3_free(text->keys[i]);
    }
    sqlite3_free(text->rowid);
    sqlite3_free(text->fts);
    sqlite3_free(text->fts_in);
    sqlite3_free(text);
}

size_t hybrid_text_key_columns(const struct hybrid_text *text)
{
    return text->n_keys;
}

/* ---- The index and its table ------------------------------------------------------------------*/

static annex_status text_copy_index(struct hybrid_text *text, const annex_db_index *index,
                                    annex_error *error)
{
    bool copied;

    if (index->n_key_columns == 0) {
        connection_refuse(error, "%s", index->reason);
        error->status = ANNEX_DAMAGED;
        return error->status;
    }
    text->schema = sqlite3_mprintf("%s", index->schema);
    text->table = sqlite3_mprintf("%s", index->table);
    text->where = sqlite3_mprintf("%s", index->where);
    copied = text->schema != NULL && text->table != NULL && text->where != NULL;
    for (size_t i = 0; i < index->n_key_columns; i++) {
        text->keys[i] = sqlite3_mprintf("%s", index->key_columns[i]);
        copied = copied && text->keys[i] != NULL;
    }
    text->n_keys = index->n_key_columns;
    return copied ? ANNEX_OK : statement_nomem(error);
}

static annex_status text_find_index(struct hybrid_text *text, struct connection *connection,
                                    const char *name, annex_error *error)
{
    annex_db *annex;
    annex_db_index *list = NULL;
    const annex_db_index *index;
    size_t n = 0;
    annex_status status = connection_begin(connection, &annex, error);

    if (status != ANNEX_OK) {
        return status;
    }
    status = annex_db_list(annex, &list, &n, error);
    index = function_find_index(list, n, name);
    if (index != NULL && index->n_sources > 0) {
        connection_refuse(error,
                          "annex_hybrid works with one source, and index %s has %d: name "
                          "one, as in '%s.<source>'",
                          index->name, (int)index->n_sources, index->name);
        status = ANNEX_INVALID;
    } else if (index != NULL) {
        status = text_copy_index(text, index, error);
    } else if (status == ANNEX_OK) {
        status = function_no_index(name, error);
    }
    annex_db_list_free(annex, list, n);
    connection_end(connection);
    return status;
}

/* Finds a name of the rowid that no column has taken, and whether the table has one at all. */
static annex_status text_find_rowid(struct hybrid_text *text, annex_error *error)
{
    sqlite3_stmt *statement;
    bool row;
    annex_status status = statement_ask(
        text->handle, &statement, &row, text->table, text->schema, error,
        "SELECT column1 FROM (VALUES ('rowid'), ('_rowid_'), ('oid')) WHERE column1 NOT IN"
        " (SELECT lower(name) FROM pragma_table_xinfo(?1, ?2)) LIMIT 1");

    if (status == ANNEX_OK && row) {
        status = statement_copy(statement, 0, &text->rowid, error);
    }
    sqlite3_finalize(statement);
    if (status != ANNEX_OK) {
        return status;
    }
    if (row) {
        status = statement_prepare(text->handle, &statement, error, "SELECT %s FROM \"%w\".\"%w\"",
                                   text->rowid, text->schema, text->table);
        sqlite3_finalize(statement);
        if (status != ANNEX_HOST) {
            return status; /* "no such column" is ANNEX_HOST */
        }
    }
    connection_refuse(error,
                      "table %s has no rowid that %s could share; keep its key in a column of the "
                      "FTS5 table and name it: {\"fts_key\": \"%s\"}",
                      text->table, text->fts, text->keys[0]);
    return error->status;
}

/* ---- The FTS5 table ---------------------------------------------------------------------------*/

static bool text_is_fts5(sqlite3_stmt *statement)
{
    struct declaration declaration;
    const char *sql = (const char *)sqlite3_column_text(statement, 1);

    return sql != NULL && declaration_read(sql, strlen(sql), &declaration) &&
           piece_names(declaration.module, "fts5");
}

static annex_status text_find_fts(struct hybrid_text *text, const char *fts_table,
                                  annex_error *error)
{
    sqlite3_stmt *statement = NULL;
    const char *name;
    bool row = false;
    /* In the schema that the name says, else in that of the index. */
    annex_status status =
        statement_split(text->handle, fts_table, text->schema, &text->fts_in, &name, error);

    if (status == ANNEX_OK) {
        status = statement_ask(text->handle, &statement, &row, name, NULL, error,
                               "SELECT name, sql FROM \"%w\".sqlite_schema"
                               " WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')",
                               text->fts_in);
    }
    if (status == ANNEX_OK && !row) {
        connection_refuse(
            error,
            "there is no table %s in schema %s; annex_hybrid needs an FTS5 table over "
            "the rows of %s",
            name, text->fts_in, text->table);
        status = error->status = ANNEX_NOT_FOUND;
    }
    if (status == ANNEX_OK && !text_is_fts5(statement)) {
        connection_refuse(error,
                          "%s is not an FTS5 table; make one over the rows of %s with CREATE "
                          "VIRTUAL TABLE ... USING fts5(...)",
                          name, text->table);
        status = error->status;
    }
    if (status == ANNEX_OK) {
        status = statement_copy(statement, 0, &text->fts, error);
    }
    sqlite3_finalize(statement);
    return status;
}

/* ---- The statement ----------------------------------------------------------------------------*/

/* Appends how the two tables are joined: by rowid, or by the columns that fts_key names. */
static annex_status text_write_join(struct hybrid_text *text, const char *fts_key, sqlite3_str *sql,
                                    annex_error *error)
{
    sqlite3_stmt *statement;
    size_t n = 0;
    bool row;
    annex_status status;

    if (fts_key == NULL) {
        sqlite3_str_appendall(sql, "d.r = f.rowid");
        return ANNEX_OK;
    }
    status = statement_ask(text->handle, &statement, &row, fts_key, NULL, error,
                           "SELECT value FROM json_each(?1)");
    for (; status == ANNEX_OK && row; n++) {
        sqlite3_str_appendf(sql, "%sd.k%d = f.\"%w\"", n > 0 ? " AND " : "", (int)n,
                            sqlite3_column_text(statement, 0));
        status = statement_step(statement, &row, error);
    }
    sqlite3_finalize(statement);
    if (status == ANNEX_OK && n != text->n_keys) {
        connection_refuse(error, "fts_key names %llu columns, and the key of the index has %llu",
                          (unsigned long long)n, (unsigned long long)text->n_keys);
        status = error->status;
    }
    return status;
}

/* rank and key columns of what matches ?1, the best ?2 of them. */
static annex_status text_write_search(struct hybrid_text *text, const char *fts_key,
                                      sqlite3_str *sql, annex_error *error)
{
    annex_status status;

    sqlite3_str_appendall(sql, fts_key != NULL ? "SELECT min(f.rank)" : "SELECT f.rank");
    for (size_t i = 0; i < text->n_keys; i++) {
        sqlite3_str_appendf(sql, ", d.k%d", (int)i);
    }
    sqlite3_str_appendf(sql, " FROM \"%w\".\"%w\" AS f CROSS JOIN (SELECT ", text->fts_in,
                        text->fts);
    if (fts_key == NULL) {
        sqlite3_str_appendf(sql, "\"%w\".%s AS r, ", text->table, text->rowid);
    }
    for (size_t i = 0; i < text->n_keys; i++) {
        sqlite3_str_appendf(sql, "%s\"%w\".\"%w\" AS k%d", i > 0 ? ", " : "", text->table,
                            text->keys[i], (int)i);
    }
    sqlite3_str_appendf(sql, " FROM \"%w\".\"%w\" WHERE (%s\n)", text->schema, text->table,
                        text->where[0] != '\0' ? text->where : "1");
    for (size_t i = 0; i < text->n_keys; i++) {
        sqlite3_str_appendf(sql, " AND \"%w\".\"%w\" IS NOT NULL", text->table, text->keys[i]);
    }
    sqlite3_str_appendall(sql, ") AS d ON ");
    status = text_write_join(text, fts_key, sql, error);
    if (status != ANNEX_OK) {
        return status;
    }
    sqlite3_str_appendf(sql, " WHERE f.\"%w\" MATCH ?1%s", text->fts,
                        fts_key != NULL ? " GROUP BY 2" : "");
    for (size_t i = 1; fts_key != NULL && i < text->n_keys; i++) {
        sqlite3_str_appendf(sql, ", %d", (int)i + 2);
    }
    sqlite3_str_appendall(sql, " ORDER BY 1");
    for (size_t i = 0; i < text->n_keys; i++) {
        sqlite3_str_appendf(sql, ", %d COLLATE BINARY", (int)i + 2);
    }
    sqlite3_str_appendall(sql, " LIMIT ?2");
    return ANNEX_OK;
}

static annex_status text_prepare(struct hybrid_text *text, const char *fts_key, annex_error *error)
{
    sqlite3_str *sql = sqlite3_str_new(text->handle);
    annex_error why = {ANNEX_OK, ""};
    annex_status status = text_write_search(text, fts_key, sql, error);
    char *written = sqlite3_str_finish(sql);

    if (status != ANNEX_OK) {
        sqlite3_free(written);
        return status;
    }
    if (written == NULL) {
        return statement_nomem(error);
    }
    status = statement_prepare(text->handle, &text->search, &why, "%s", written);
    sqlite3_free(written);
    for (int i = 0; status == ANNEX_OK && i < 2; i++) {
        status = statement_prepare(text->handle, &text->holds[i], &why,
                                   "SELECT 1 FROM \"%w\".sqlite_schema",
                                   i == 0 ? text->schema : text->fts_in);
    }
    if (status != ANNEX_OK) {
        connection_refuse(error, "%s and %s cannot be searched together: %s", text->table,
                          text->fts, why.message);
        error->status = status;
    }
    return status;
}

annex_status hybrid_text_open(sqlite3 *handle, struct connection *connection, const char *index,
                              const char *fts_table, const char *fts_key, struct hybrid_text **text,
                              annex_error *error)
{
    char *identity = sqlite3_mprintf("%Q,%Q,%Q", index, fts_table, fts_key);
    struct hybrid_text *fresh;
    annex_status status;

    if (identity != NULL && *text != NULL && strcmp(identity, (*text)->identity) == 0) {
        sqlite3_free(identity);
        return ANNEX_OK;
    }
    hybrid_text_free(*text);
    *text = NULL;
    fresh = sqlite3_malloc64(sizeof *fresh);
    if (fresh == NULL || identity == NULL) {
        sqlite3_free(identity);
        sqlite3_free(fresh);
        return statement_nomem(error);
    }
    *fresh = (struct hybrid_text){.handle = handle, .identity = identity};
    status = text_find_index(fresh, connection, index, error);
    if (status == ANNEX_OK) {
        status = text_find_fts(fresh, fts_table, error);
    }
    if (status == ANNEX_OK && fts_key == NULL) {
        status = text_find_rowid(fresh, error);
    }
    if (status == ANNEX_OK) {
        status = text_prepare(fresh, fts_key, error);
    }
    if (status != ANNEX_OK) {
        hybrid_text_free(fresh);
        return status;
    }
    *text = fresh;
    return ANNEX_OK;
}

/* ---- Searching --------------------------------------------------------------------------------*/

annex_status hybrid_text_hold(struct hybrid_text *text, annex_error *error)
{
    annex_status status = ANNEX_OK;
    bool row;

    for (int i = 0; i < 2 && status == ANNEX_OK; i++) {
        status = statement_step(text->holds[i], &row, error);
    }
    return status;
}

void hybrid_text_release(struct hybrid_text *text)
{
    sqlite3_reset(text->holds[0]);
    sqlite3_reset(text->holds[1]);
}

static bool text_allows(const struct keylist *allowed, const annex_value *key)
{
    return allowed == NULL || keylist_holds(allowed, key);
}

static annex_status text_read_row(struct hybrid_text *text, const struct keylist *allowed,
                                  size_t *rank, struct hybrid_rows *rows, annex_error *error)
{
    annex_value key[ANNEX_MAX_KEY_COLUMNS];
    struct hybrid_row *row;

    for (size_t i = 0; i < text->n_keys; i++) {
        key[i] = connection_value(sqlite3_column_value(text->search, (int)i + 1));
    }
    if (!text_allows(allowed, &key[0])) {
        return ANNEX_OK;
    }
    row = hybrid_rows_add(rows, key);
    if (row == NULL) {
        return statement_nomem(error);
    }
    row->bm25 = sqlite3_column_double(text->search, 0);
    row->ranks[HYBRID_TEXT] = ++*rank;
    return ANNEX_OK;
}

annex_status hybrid_text_search(struct hybrid_text *text, sqlite3_value *query, size_t limit,
                                const struct keylist *allowed, struct hybrid_rows *rows,
                                annex_error *error)
{
    annex_error why;
    annex_status status = ANNEX_OK;
    size_t rank = 0;
    bool row = limit > 0;

    if (sqlite3_bind_value(text->search, 1, query) != SQLITE_OK) {
        return statement_nomem(error);
    }
    sqlite3_bind_int64(text->search, 2,
                       allowed == NULL && limit < INT64_MAX ? (sqlite3_int64)limit : -1);
    while (status == ANNEX_OK && row && rank < limit) {
        status = statement_step(text->search, &row, error);
        if (status == ANNEX_HOST) {
            why = *error;
            connection_refuse(error,
                              "FTS5 cannot search %s: %s; words in double quotes are searched for "
                              "as they are",
                              text->fts, why.message);
            status = error->status;
        } else if (status == ANNEX_OK && row) {
            status = text_read_row(text, allowed, &rank, rows, error);
        }
    }
    sqlite3_reset(text->search);
    sqlite3_clear_bindings(text->search);
    return status;
}

/* ---- Rows as a condition ----------------------------------------------------------------------*/

static void text_write_value(sqlite3_str *sql, const annex_value *value)
{
    const unsigned char *bytes = value->data;

    if (value->type == ANNEX_INTEGER) {
        sqlite3_str_appendf(sql, "%lld", (long long)value->integer);
        return;
    }
    if (value->type == ANNEX_REAL) {
        bool infinite = isinf(value->real) != 0;

        sqlite3_str_appendf(sql, infinite ? "%s9e999" : "%s%!.17g", value->real < 0 ? "-" : "",
                            fabs(value->real));
        return;
    }
    if (value->type == ANNEX_TEXT) {
        /* Up to a zero byte: such a key is not found again, and its row has no distance. */
        sqlite3_str_appendf(sql, "%.*Q", (int)value->bytes, (const char *)value->data);
        return;
    }
    sqlite3_str_appendall(sql, "x'");
    for (size_t i = 0; i < value->bytes; i++) {
        sqlite3_str_appendf(sql, "%02x", bytes[i]);
    }
    sqlite3_str_appendall(sql, "'");
}

char *hybrid_text_condition(const struct hybrid_text *text, struct hybrid_row *const *rows,
                            size_t n)
{
    sqlite3_str *sql = sqlite3_str_new(text->handle);

    for (size_t i = 0; i < text->n_keys; i++) {
        sqlite3_str_appendf(sql, "%s\"%w\".\"%w\"", i > 0 ? ", " : "(", text->table, text->keys[i]);
    }
    sqlite3_str_appendall(sql, ") IN (VALUES ");
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < text->n_keys; j++) {
            sqlite3_str_appendall(sql, j > 0 ? ", " : i > 0 ? ", (" : "(");
            text_write_value(sql, &rows[i]->key[j]);
        }
        sqlite3_str_appendall(sql, ")");
    }
    sqlite3_str_appendall(sql, ")");
    return sqlite3_str_finish(sql);
}
