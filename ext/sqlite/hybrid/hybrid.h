/*
 * hybrid.h - what the files of annex_hybrid share: a search by vector and one by words, their two
 * lists fused by reciprocal rank.
 *
 *   score(row) = sum over the lists that hold it of  weight / (rrf_k + rank),  rank = 1, 2, 3 …
 *
 * Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
 * Learning Methods", SIGIR 2009; 60 is their constant.
 */
#ifndef ANNEX_HYBRID_H
#define ANNEX_HYBRID_H

#include "sqlite/extension.h"

/* The two lists, in the order of `weights`. */
enum hybrid_list { HYBRID_VECTOR, HYBRID_TEXT, HYBRID_LISTS };

/* ---- hybrid_options.c -------------------------------------------------------------------------*/

struct hybrid_options {
    double weights[HYBRID_LISTS];
    double rrf_k;
    size_t candidates; /* of each list, at least */
    char *search;      /* what is left for the search by vector, JSON, or NULL */
    char *fts_key;     /* JSON: columns of the FTS5 table that hold the key, or NULL: its rowid */
};

/* Without an error hybrid_options_free must follow. `json` may be NULL. */
annex_status hybrid_options_read(sqlite3 *handle, const char *json, struct hybrid_options *options,
                                 annex_error *error);
void hybrid_options_free(struct hybrid_options *options);

/* ---- hybrid_fuse.c ----------------------------------------------------------------------------*/

/* A row of the answer. A rank of 0: it is not in that list. */
struct hybrid_row {
    annex_value *key; /* [key_columns] */
    size_t key_columns;
    double score;
    double distance; /* NaN: unknown, or there is none */
    double bm25;
    size_t ranks[HYBRID_LISTS];
};

/* Zero-initialised is empty. Keys are copies. */
struct hybrid_rows {
    struct hybrid_row *rows;
    size_t n;
    size_t capacity;
    size_t key_columns;
};

/* Adds a row with a copy of the key and the rest zero. NULL without memory. */
struct hybrid_row *hybrid_rows_add(struct hybrid_rows *rows, const annex_value *key);
/* Makes one row of the two of a key, computes the scores, keeps the best `k`, best first. */
void hybrid_rows_fuse(struct hybrid_rows *rows, const struct hybrid_options *options, size_t k);
/* Two hybrid_row by their keys, column after column; for qsort and bsearch. */
int hybrid_row_compare(const void *left, const void *right);
void hybrid_rows_free(struct hybrid_rows *rows);

/* ---- hybrid_text.c ----------------------------------------------------------------------------*/

struct hybrid_text;

/*
 * Finds the index, its table and the FTS5 table, and prepares the search by words. *text may come
 * from an earlier call: it is kept when it is for the same. Freed by hybrid_text_free.
 */
annex_status hybrid_text_open(sqlite3 *handle, struct connection *connection, const char *index,
                              const char *fts_table, const char *fts_key, struct hybrid_text **text,
                              annex_error *error);
/* Between the two the connection keeps one snapshot of both tables. */
annex_status hybrid_text_hold(struct hybrid_text *text, annex_error *error);
void hybrid_text_release(struct hybrid_text *text);
/*
 * Adds the best `limit` rows that match, best first, with their ranks. Only keys of `allowed`,
 * which is sorted; NULL: all.
 */
annex_status hybrid_text_search(struct hybrid_text *text, sqlite3_value *query, size_t limit,
                                const struct keylist *allowed, struct hybrid_rows *rows,
                                annex_error *error);
size_t hybrid_text_key_columns(const struct hybrid_text *text);
/* A condition in SQL on the indexed table that holds for `n` rows. sqlite3_free; NULL: no memory.*/
char *hybrid_text_condition(const struct hybrid_text *text, struct hybrid_row *const *rows,
                            size_t n);
void hybrid_text_free(struct hybrid_text *text);

/* ---- hybrid.c, hybrid_search.c ----------------------------------------------------------------*/

enum hybrid_argument {
    ARGUMENT_INDEX,
    ARGUMENT_QUERY,
    ARGUMENT_FTS_TABLE,
    ARGUMENT_FTS_QUERY,
    ARGUMENT_K,
    ARGUMENT_OPTIONS,
    HYBRID_ARGUMENTS
};

struct hybrid_table {
    sqlite3_vtab base;
    sqlite3 *handle;
    struct connection *connection;
};

struct hybrid_cursor {
    sqlite3_vtab_cursor base;
    struct hybrid_text *text; /* kept from one xFilter to the next */
    struct hybrid_rows rows;
    size_t row;
    char *plan;
    bool complete;                              /* the search by vector was not cut */
    sqlite3_value *arguments[HYBRID_ARGUMENTS]; /* copies, NULL for those left out */
};

/*
 * Fills hybrid->rows and hybrid->plan as the arguments say. When `filtered` only keys of `keys` are
 * searched; the list is sorted. A result code of SQLite, with the sentence in the table.
 */
int hybrid_run(struct hybrid_cursor *hybrid, struct keylist *keys, bool filtered,
               bool wants_distance);

#endif
