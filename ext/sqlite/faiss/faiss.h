/*
 * faiss.h - what the files of datasette-faiss's six functions share: text as Python writes it, a
 * ranking as IndexFlatL2 gives it, vectors kept in memory.
 *
 * Invariants
 *   1. Where datasette-faiss returns text, the text here is the same, byte for byte, but for what
 *      docs/SQL.md lists as its defects. Scores are the squared distances rounded once to f32,
 *      where FAISS rounds after every addition: their last digits may differ.
 *   2. Answers are exact and those of the caller's transaction. An index, or vectors kept in
 *      memory, change how long an answer takes and nothing else.
 *   3. No database is ever written to.
 */
#ifndef ANNEX_FAISS_H
#define ANNEX_FAISS_H

#include "sqlite/extension.h"

/* ---- faiss.c ----------------------------------------------------------------------------------*/

/* Ends with a NULL name. */
extern const struct function faiss_functions[];
/* Registers faiss_agg and faiss_agg_with_scores; a result code of SQLite. */
int faiss_add_aggregates(sqlite3 *handle);

/* ---- faiss_agg.c, faiss_search.c --------------------------------------------------------------*/

void faiss_agg_step(sqlite3_context *context, int n, sqlite3_value **arguments);
void faiss_agg_end(sqlite3_context *context);
void faiss_agg_end_with_scores(sqlite3_context *context);
void faiss_search(sqlite3_context *context, int n, sqlite3_value **arguments);
void faiss_search_with_scores(sqlite3_context *context, int n, sqlite3_value **arguments);

/* ---- faiss_number.c, faiss_text.c -------------------------------------------------------------*/

#define FAISS_NUMBER_BYTES 32

/* Writes repr(value) of Python, 1.5 or NaN, without a terminator; returns its length. */
size_t faiss_number_write(double value, char text[FAISS_NUMBER_BYTES]);
/* Appends json.dumps(id) of Python. False with an error for what JSON cannot say. */
bool faiss_text_id(sqlite3_str *text, sqlite3_value *id, annex_error *error);
#define FAISS_SHOWN_BYTES 64

/* The id as a message shows it, shortened; `shown` is room for it. */
const char *faiss_text_show(sqlite3_value *id, char shown[FAISS_SHOWN_BYTES]);
/* The text becomes the result of the function; `text` is freed. */
void faiss_text_result(sqlite3_context *context, sqlite3_str *text);

/* ---- faiss_ranking.c --------------------------------------------------------------------------*/

#define FAISS_BLOCK_ROWS 256

/* Rows one behind the other. One allocation, and the ids: faiss_block_free. */
struct faiss_block {
    size_t n;
    size_t capacity; /* at most FAISS_BLOCK_ROWS */
    size_t dimension;
    size_t bytes;         /* of memory, ids included */
    int64_t first;        /* position of the first row */
    float *vectors;       /* [capacity x dimension] */
    sqlite3_value *ids[]; /* [capacity] */
};

/* NULL without memory. */
struct faiss_block *faiss_block_new(size_t dimension);
void faiss_block_clear(struct faiss_block *block);
void faiss_block_free(struct faiss_block *block);
/* Copies a row into a block that is not full. `vector` holds block->dimension elements. */
bool faiss_block_add(struct faiss_block *block, sqlite3_value *id, const void *vector,
                     annex_error *error);

struct faiss_offer {
    float score;
    int64_t position;
    sqlite3_value *id;
};

/* The k nearest of the rows that were offered. Zero-initialised is closed. */
struct faiss_ranking {
    size_t dimension;
    float *query;
    uint64_t k;
    bool is_measured;           /* annex_distances takes the query */
    struct faiss_offer *offers; /* the worst first, a heap */
    size_t n;
    size_t capacity;
};

/* Reads query and k as SQL gave them; `what` names the query in messages. */
bool faiss_ranking_open(struct faiss_ranking *ranking, const char *what, sqlite3_value *query,
                        sqlite3_value *k, annex_error *error);
void faiss_ranking_close(struct faiss_ranking *ranking);
/* Rows of lower position win among equal scores, in whatever order they are offered. */
bool faiss_ranking_offer(struct faiss_ranking *ranking, int64_t position, sqlite3_value *id,
                         const float *vector, annex_error *error);
bool faiss_ranking_offer_block(struct faiss_ranking *ranking, const struct faiss_block *block,
                               annex_error *error);
/* How much squared distances of Annex may be off, as a part of them. */
double faiss_ranking_margin(const struct faiss_ranking *ranking);
/* What was found, nearest first, becomes the result of the function. Ends the ranking. */
void faiss_ranking_result(struct faiss_ranking *ranking, sqlite3_context *context,
                          bool with_scores);

/*
 * The f32 vector in a blob, *dimension elements, not aligned. False with an error that begins with
 * the `what` for other values.
 */
bool faiss_read_blob(sqlite3_value *value, const char *what, const void **vector, size_t *dimension,
                     annex_error *error);
/* The same for a row of a table, which the error names by its id. */
bool faiss_read_row(sqlite3_value *id, sqlite3_value *value, const void **vector, size_t *dimension,
                    annex_error *error);

/* ---- faiss_cache.c ----------------------------------------------------------------------------*/

/* The state of a schema that something in memory was read from. */
struct faiss_stamp {
    bool valid; /* nothing else counts if not */
    unsigned version;
    int prepared;
};

/* A table that was searched. */
struct faiss_table {
    char *schema;
    char *name;
    sqlite3_stmt *look;        /* while it has a row, it holds the snapshot */
    struct faiss_stamp chosen; /* when `index` was looked for */
    char *index;               /* NULL: there is none that can be used */
    struct faiss_stamp kept;   /* when the blocks were read */
    bool is_too_large;         /* to be kept: there are no blocks */
    struct faiss_block **blocks;
    size_t n_blocks;
    size_t n_room;
    size_t bytes;
    struct faiss_table *next;
};

struct faiss_cache {
    struct faiss_table *first; /* used last */
    size_t bytes;
};

/* That of the connection, between connection_begin and connection_end. NULL without memory. */
struct faiss_cache *faiss_cache_of(struct connection *connection);
/*
 * Finds or makes the entry of a table and begins to look at it: until faiss_table_leave its
 * snapshot stays. *now is the state it is in, not valid when that must not be relied on later.
 */
annex_status faiss_cache_enter(sqlite3 *handle, struct faiss_cache *cache, const char *schema,
                               const char *name, struct faiss_table **table,
                               struct faiss_stamp *now, annex_error *error);
void faiss_table_leave(struct faiss_table *table);
bool faiss_stamp_equal(const struct faiss_stamp *a, const struct faiss_stamp *b);
/* Keeps the block, which it then owns. False when there is no room: nothing is kept any more. */
bool faiss_cache_keep(struct faiss_cache *cache, struct faiss_table *table,
                      struct faiss_block *block);
void faiss_cache_drop(struct faiss_cache *cache, struct faiss_table *table);

/* ---- faiss_index.c ----------------------------------------------------------------------------*/

/* Looks for an index that answers for the table: table->index. */
annex_status faiss_index_choose(annex_db *annex, struct faiss_table *table, annex_error *error);
annex_status faiss_index_search(sqlite3 *handle, annex_db *annex, const struct faiss_table *table,
                                struct faiss_ranking *ranking, annex_error *error);

#endif
