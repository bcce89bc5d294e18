/*
 * vec0.h - what the files of the vec0 module share: people's SQL for the virtual tables of
 * sqlite-vec, over an ordinary table with an Annex index for each of its vector columns.
 *
 *   t              CREATE VIRTUAL TABLE t USING vec0(emb float[384], genre text, +note text)
 *   t_rows         the rows: key, partition keys, metadata, vectors, auxiliary columns
 *   t_rows_…       an index of partition keys and metadata, so that filters do not read vectors
 *   t_emb          the Annex index over t_rows.emb, kept fresh by its triggers
 *
 * Invariants
 *   1. t_rows is the truth, and an ordinary table, not a shadow table (xShadowName): any program
 *      may read and write it, with Annex or without.
 *   2. Every change of a row is one statement on t_rows, so that it happens as a whole or not at
 *      all: no savepoint can be set within the statement of the user.
 *   3. Statements kept by a table end with xDisconnect, so that the connection can be closed.
 */
#ifndef ANNEX_VEC0_H
#define ANNEX_VEC0_H

#include "sqlite/statement.h"
#include "sqlite/vec/vec0_declare.h"

/* ---- vec0.c -----------------------------------------------------------------------------------*/

enum vec0_statement { VEC0_INSERT, VEC0_REPLACE, VEC0_DELETE, VEC0_UPDATE, VEC0_LITERAL };
#define VEC0_STATEMENTS 5

struct vec0_table {
    sqlite3_vtab base;
    sqlite3 *handle;
    struct connection *connection;
    struct vec0_declaration declaration;
    sqlite3_stmt *kept[VEC0_STATEMENTS]; /* NULL until needed */
    uint64_t updated;                    /* the columns that kept[VEC0_UPDATE] sets */
    uint64_t changes;                    /* rows changed since the last look at the indexes … */
    uint64_t look_after;                 /* … and how many are worth the next */
    const char *schema;                  /* these lie in `texts`, as what the columns are made of */
    const char *name;
    char *texts;
};

/* The columns behind those that were declared; all hidden. */
enum { VEC0_COLUMN_COMMAND, VEC0_COLUMN_DISTANCE, VEC0_COLUMN_K };

static inline bool vec0_key_is_text(const struct vec0_table *table)
{
    return table->declaration.columns[0].type == VEC0_TEXT;
}

/* Makes the error that of the table, and returns its code. */
int vec0_fail(struct vec0_table *table, const annex_error *error);
/* Makes "format" the error of the table, and returns SQLITE_ERROR. */
int vec0_refuse(struct vec0_table *table, const char *format, ...);
/* Appends "name", in quotes. */
void vec0_append_name(sqlite3_str *sql, const struct vec0_column *column);
/* Prepares table->kept[which], which is NULL, from `sql`, which is freed. NULL with an error. */
sqlite3_stmt *vec0_statement(struct vec0_table *table, enum vec0_statement which, char *sql,
                             annex_error *error);
/* Ends all that are kept. */
void vec0_end_statements(struct vec0_table *table);

/* ---- vec0_index.c -----------------------------------------------------------------------------*/

/* Name of the Annex index of a column, with the schema. NULL without memory; sqlite3_free. */
char *vec0_index_name(const struct vec0_table *table, const struct vec0_column *column);
annex_status vec0_create_indexes(struct vec0_table *table, annex_error *error);
annex_status vec0_drop_indexes(struct vec0_table *table, annex_error *error);
/* The table gets a new name. */
annex_status vec0_rename_indexes(struct vec0_table *table, const char *name, annex_error *error);
/* Takes all changes in, and makes an index again that somebody has dropped. */
annex_status vec0_optimize_indexes(struct vec0_table *table, annex_error *error);
/* xSync: takes many changes in. */
int vec0_sync(sqlite3_vtab *base);

/* ---- vec0_value.c -----------------------------------------------------------------------------*/

/* What a vector is for: errors name it. */
enum vec0_use { VEC0_QUERIED, VEC0_INSERTED, VEC0_UPDATED };
/* Reads a vector that fits the column. False: an error in the words of sqlite-vec. */
bool vec0_read_vector(const struct vec0_column *column, sqlite3_value *value, enum vec0_use use,
                      struct vec_value *vector, annex_error *error);
/* Whether a column that is no vector, and the key, take a value. A result code; see vec0_refuse. */
int vec0_check_value(struct vec0_table *table, const struct vec0_column *column,
                     sqlite3_value *value);
int vec0_check_key(struct vec0_table *table, sqlite3_value *value);

/* ---- vec0_plan.c, vec0_query.c ----------------------------------------------------------------*/

enum vec0_plan_kind { VEC0_SCAN, VEC0_POINT, VEC0_NEAREST };

/*
 * What xBestIndex tells xFilter in idxNum. The rest is text that EXPLAIN QUERY PLAN shows, in
 * which each "?" and "list" stands for the next argument, behind the query vector:
 *
 *   nearest emb k=? distance>? key in list where "genre" = ? and "n" IN list
 */
struct vec0_plan {
    enum vec0_plan_kind kind;
    unsigned column;  /* the vector column that is searched */
    unsigned vectors; /* which vector columns are read, counted among vectors */
    bool auxiliary;   /* whether an auxiliary column is read */
    bool any_order;   /* rows are only counted */
};

#define VEC0_PLAN_NEAREST "nearest "
#define VEC0_PLAN_WHERE " where "
#define VEC0_PLAN_AND " and "
#define VEC0_PLAN_LIST "list"

/* The clauses between the name of the column and the condition. */
enum vec0_clause {
    VEC0_CLAUSE_K,
    VEC0_CLAUSE_LIMIT,
    VEC0_CLAUSE_OFFSET,
    VEC0_CLAUSE_ABOVE,
    VEC0_CLAUSE_FROM,
    VEC0_CLAUSE_BELOW,
    VEC0_CLAUSE_TO,
    VEC0_CLAUSE_KEYS
};
#define VEC0_CLAUSES 8
extern const char *const vec0_clause_texts[VEC0_CLAUSES];

struct vec0_plan vec0_plan_unpack(int number);

int vec0_best_index(sqlite3_vtab *base, sqlite3_index_info *info);

int vec0_open(sqlite3_vtab *base, sqlite3_vtab_cursor **cursor);
int vec0_close(sqlite3_vtab_cursor *cursor);
int vec0_filter(sqlite3_vtab_cursor *cursor, int number, const char *text, int n,
                sqlite3_value **values);
int vec0_next(sqlite3_vtab_cursor *cursor);
int vec0_eof(sqlite3_vtab_cursor *cursor);
int vec0_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column);
int vec0_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid);

/* ---- vec0_request.c ---------------------------------------------------------------------------*/

struct vec0_bound {
    bool given;
    bool open; /* the bound itself is outside */
    double at;
};

/* A search for neighbours, as it was asked for. Zero-initialised holds nothing. */
struct vec0_request {
    struct vec_value query;
    sqlite3_int64 k; /* rows wanted behind `offset`; negative: all */
    sqlite3_int64 offset;
    struct vec0_bound lower; /* of the distance */
    struct vec0_bound upper;
    bool empty; /* no row can be found */
    bool has_keys;
    struct keylist keys;
    char *where; /* NULL: none */
};

/* Reads the arguments of xFilter by the text of its plan. False: an error, nothing to free. */
bool vec0_request_read(struct vec0_table *table, const struct vec0_column *column, const char *text,
                       sqlite3_value **values, struct vec0_request *request, annex_error *error);
void vec0_request_free(struct vec0_request *request);

/* ---- vec0_update.c ----------------------------------------------------------------------------*/

int vec0_update(sqlite3_vtab *base, int n, sqlite3_value **values, sqlite3_int64 *rowid);

#endif
