/*
 * catalog.h - named indexes in a database: defined, built, kept fresh, searched. The design:
 *
 *   annex_index   one row an index: definition (JSON), version, watermark (seq, nonce) of the log
 *   annex_part    the segments of an index: size, content hash, bitmap of dead rows
 *   annex_segment the bytes of the segments in chunks;  annex_log_<id>  keys changed by anybody
 *
 * An answer = segments (rows that are dead or in the log masked) + exact scan of the logged keys +
 * candidates re-read from the table, all in one snapshot, which a statement kept at its first row
 * holds. Sync folds the log into segments (fold.c), in one transaction.
 * Every change gives the index row a new random version; what a connection keeps in memory (opened
 * segments, delta) is valid for one version and one last log row (seq, nonce), so that rollbacks,
 * other processes and old snapshots need no special care. When triggers or log are not as they
 * were left, the index is stale: answers come from the table itself until a sync has compared the
 * table with the segments and taken in what differs.
 * The segments are of an engine (engine.h), which need not be the native one.
 * Files: definition options rowkey column naming (words) - catalog inspect schema store part sweep
 * cache log source sources collection compare (kept) - db db_create db_names db_search db_sync
 * db_check db_list db_vector sample similar (verbs). A search has more files, which share search.h.
 */
#ifndef ANNEX_CATALOG_H
#define ANNEX_CATALOG_H

#include "engine/engine.h"
#include "host/host.h"
#include "quant/codec.h"

/*
 * Of the catalog tables; a reader refuses greater ones.
 * 2: several sources, collections, default, seconds of the build.
 */
#define CATALOG_FORMAT 2

/* ---- definition.c: what an index is -----------------------------------------------------------*/

/* Text lives in the arena it was parsed into. Zero or "" means: not given, chosen. */
struct definition {
    const char *table;
    const char *column;
    const char *keys[ANNEX_MAX_KEY_COLUMNS];
    size_t n_keys;
    bool integer_key; /* ANNEX_KEY_INTEGER, otherwise ANNEX_KEY_BYTES of rowkey_encode */
    const char *where;
    const char *model;
    const char *collection;     /* of llm: only its rows are indexed; "": all of the table */
    int64_t collection_id;      /* at the last sync; 0: there was no such collection */
    uint32_t n_sources;         /* 0: the index has a table of its own; otherwise members */
    bool is_default;            /* of its source */
    const char *options;        /* as the user gave them */
    const char *engine;         /* "": the native one */
    const char *engine_options; /* JSON object for it */
    const char **watched; /* columns whose change matters besides the keys: vector, condition */
    size_t n_watched;
    annex_metric metric;
    annex_format format;
    annex_family family;
    annex_codes codes;
    double recall;
    bool in_file;
    uint32_t dimension; /* 0: no row has told it yet */
    uint32_t degree;
    uint32_t effort;
    uint32_t threads;
    uint32_t build_ms; /* the last time that all rows were built */
};

#define SOURCES_MOST 64

/* Parses the options of annex_db_create (NULL: none) over the defaults. */
annex_status definition_parse(struct arena *arena, const char *options,
                              struct definition *definition, annex_error *error);
/* The reverse pair for the catalog: everything, resolved. */
annex_status definition_write(struct arena *arena, const struct definition *definition,
                              const char **text, annex_error *error);
annex_status definition_read(struct arena *arena, const char *text, struct definition *definition,
                             annex_error *error);

/* False until rows have told format and dimension. */
bool definition_is_complete(const struct definition *definition);

/* ---- options.c: options as a person writes them -----------------------------------------------*/

struct json_t;
/* Parses text that must be a JSON object, which the caller owns. */
annex_status options_open(const char *text, struct json_t **object, annex_error *error);
/* The error for a member that is none of those known; it suggests the nearest. */
annex_status option_unknown(const char *name, const char *const *known, size_t n_known,
                            annex_error *error);

/* ---- rowkey.c: how a row is named -------------------------------------------------------------*/

/* A key as segments know it: an integer, or bytes whose memcmp order is the order of the values. */
struct rowkey {
    int64_t integer;
    const char *bytes; /* NULL for integer keys */
    size_t n_bytes;
};

struct rowkey_shape {
    bool integer;
    size_t n_columns;
};

#define KEY_TEXT_BYTES 100

/* Appends to `buffer` when the key has bytes; `key` borrows them. ANNEX_INVALID for NULL parts. */
annex_status rowkey_encode(const annex_env *env, struct rowkey_shape shape,
                           const annex_value *values, struct buffer *buffer, struct rowkey *key,
                           annex_error *error);
/* values[n_columns]; text and blobs are copied to the arena. ANNEX_DAMAGED for what is no key. */
annex_status rowkey_decode(struct rowkey_shape shape, const struct rowkey *key, struct arena *arena,
                           annex_value *values, annex_error *error);
int rowkey_compare(const struct rowkey *a, const struct rowkey *b);
/* For messages: 7, or ('a', 3). Returns `text`. */
const char *rowkey_print(const annex_value *values, size_t n, char text[KEY_TEXT_BYTES]);

/* A set of keys in order of arrival, laid out as annex_batch wants them. */
struct rowkey_set {
    size_t n;
    struct buffer integers; /* int64_t[n] */
    struct buffer bytes;
    struct buffer ends; /* uint64_t[n] */
    uint32_t *slots;    /* position + 1 by hash, linear probing; 0: empty */
    size_t n_slots;
    bool integer;
};

annex_status rowkey_set_add(const annex_env *env, struct rowkey_set *set, const struct rowkey *key,
                            size_t *position, bool *added, annex_error *error);
bool rowkey_set_find(const struct rowkey_set *set, const struct rowkey *key, size_t *position);
struct rowkey rowkey_set_at(const struct rowkey_set *set, size_t position);
void rowkey_set_clear(struct rowkey_set *set);
void rowkey_set_free(const annex_env *env, struct rowkey_set *set);

/* ---- column.c: values of the column as vectors ------------------------------------------------*/

enum vector_state {
    VECTOR_GOOD = 0,
    VECTOR_NONE = 1, /* NULL, or zero under cosine: the row is not in the index */
    VECTOR_BAD = 2   /* another dimension, NaN, another type */
};

struct vector_reader {
    const annex_env *env;
    annex_metric metric;
    annex_format format;
    uint32_t dimension;
    size_t bytes;   /* of one vector as Annex takes it */
    float *scratch; /* [dimension], for bits given as JSON */
};

annex_status vector_reader_open(const annex_env *env, const struct definition *definition,
                                struct vector_reader *reader, annex_error *error);
void vector_reader_close(struct vector_reader *reader);
/* Fills `vector` ([bytes]); `why` (may be NULL) says what is wrong with a bad value. */
enum vector_state vector_read(const struct vector_reader *reader, const annex_value *value,
                              void *vector, annex_error *why);
/* A query: JSON text, or a blob in the column's format or f32. */
annex_status vector_read_query(const struct vector_reader *reader, const annex_value *value,
                               void *vector, annex_error *error);

#define VECTOR_SAMPLES 32
/*
 * Completes format and dimension of a definition from `n` values of the column. With n = 0 they
 * stay open.
 */
annex_status vector_detect(const annex_env *env, const annex_value *samples, size_t n,
                           struct definition *definition, annex_error *error);

/* ---- the open index ---------------------------------------------------------------------------*/

struct catalog_part {
    int64_t id;
    uint64_t slots;
    uint64_t bytes;
    uint64_t content[2];
    const char *file;   /* storage = file: its name beside the database; "" otherwise */
    const char *family; /* of the native engine, or the name of another engine */
    double recall;      /* measured, of a search without options */
    uint64_t *dead;     /* bitmap over slots */
    uint64_t n_dead;
    uint64_t *allowed;          /* neither dead nor in the delta */
    struct engine_index *index; /* NULL until store_open */
    void *image;                /* when it could not be mapped */
    annex_index_info info;
    bool dead_changed;
};

/* Keys changed since the last sync, and what the table holds for them now. */
struct delta {
    struct rowkey_set keys;
    int64_t last_seq, last_nonce; /* of the log row up to which it was read */
    bool loaded;
    struct buffer states;  /* enum delta_state, one byte a key */
    struct buffer vectors; /* a vector a key, valid where states says so */
    annex_format format;   /* of the column when they were read, and dimension */
    uint32_t dimension;
    /* A row was not there in a transaction, whose rollback may bring it back without a log row. */
    bool unsure;
    int64_t schema_version; /* when the absent were looked up */
};

struct catalog_index {
    struct catalog_index *next;
    struct arena arena;
    const char *schema, *name;
    const char *schema_sql; /* quoted */
    const char *table;      /* as it is called now */
    const char *table_sql;  /* quoted, with schema */
    const char *column_sql; /* quoted, before the names of its columns */
    const char *log;        /* annex_log_<id> */
    const char *log_sql;    /* quoted, with schema */
    bool where_checked;     /* the condition was accepted by the host */
    int64_t id, version;
    int64_t seq, nonce; /* watermark: the last log row inside the segments */
    struct definition definition;
    struct rowkey_shape shape;
    struct catalog_part *parts;
    size_t n_parts;
    int64_t parts_expected; /* other than n_parts: somebody deleted some, the index is stale */
    uint64_t fingerprint;   /* of triggers and log when they were found good; 0: not looked yet */
    int64_t schema_version; /* of the schema when the table was found to fit; 0: not looked yet */
    int64_t schema_seen;    /* number of the schema in the snapshot that was inspected last */
    int64_t collection_now; /* the number of its collection in that snapshot */
    struct delta delta;
    annex_error stale; /* message: why the index cannot be trusted; "" when it can */
    bool followed;     /* names were changed since the definition was written */
    bool beyond_sync;  /* a sync does not mend that; the message says what does */
};

struct annex_db {
    annex_env env; /* as given, but for log.progress, which also obeys the host */
    annex_log user_log;
    struct host *host;
    struct engine_list engines;
    struct catalog_index *indexes; /* opened, most recently used first */
};

/* ---- naming.c: what an index and what belongs to it are called --------------------------------*/

/* Names that follow from schema, table and id of an index. */
annex_status catalog_name(struct catalog_index *index, annex_error *error);
/* The same of the table alone, whose name may have changed. */
annex_status catalog_name_table(struct catalog_index *index, const char *table, annex_error *error);
#define CALL_TEXT_BYTES 300
/* "annex_sync('aux.docs_idx')": what messages say to run. Returns `text`. */
const char *catalog_call(const struct catalog_index *index, const char *function,
                         char text[CALL_TEXT_BYTES]);

/* ---- catalog.c, schema.c: the catalog tables --------------------------------------------------*/

annex_status schema_create_tables(annex_db *db, const char *schema_sql, annex_error *error);
/* Removes the catalog tables when no index is left. */
annex_status schema_drop_tables(annex_db *db, const char *schema_sql, annex_error *error);
/* Splits "aux.name" when aux is a schema; otherwise *schema is NULL and *name all of it. */
annex_status schema_split(annex_db *db, struct arena *arena, const char *qualified,
                          const char **schema, const char **name, annex_error *error);
/*
 * Finds an index and brings what is kept of it up to date. *hold is a statement at its row: while
 * it lives, the snapshot stays. The caller finishes it.
 */
annex_status catalog_open(annex_db *db, const char *name, struct catalog_index **index,
                          struct host_statement **hold, annex_error *error);
/* The same in one schema. */
annex_status catalog_open_in(annex_db *db, const char *schema, const char *name,
                             struct catalog_index **index, struct host_statement **hold,
                             annex_error *error);
/* *hold stands at the row of the index, or is NULL when the schema has none of this name. */
annex_status catalog_find(annex_db *db, const char *schema, const char *name,
                          struct host_statement **hold, annex_error *error);
/* Only finds the row of an index, whose definition may be unreadable. */
annex_status catalog_locate(annex_db *db, struct arena *arena, const char *qualified,
                            const char **schema, const char **name, struct host_statement **hold,
                            annex_error *error);
annex_status catalog_read_parts(annex_db *db, struct catalog_index *index, annex_error *error);
/* An index of which nothing is known yet, not in the list of opened ones. */
annex_status catalog_new(annex_db *db, const char *schema, const char *name,
                         struct catalog_index **index, annex_error *error);
/* Forgets what is kept, so that the next catalog_open reads it anew. Opened segments are reused. */
void catalog_forget(struct catalog_index *index);
void catalog_close(annex_db *db, struct catalog_index *index); /* NULL is allowed */
void catalog_close_all(annex_db *db);
annex_status schema_insert_index(annex_db *db, struct catalog_index *index, annex_error *error);
/* Writes definition and watermark under a new version. */
annex_status schema_update_index(annex_db *db, struct catalog_index *index, annex_error *error);
annex_status schema_insert_part(annex_db *db, struct catalog_index *index,
                                struct catalog_part *part, annex_error *error);
annex_status schema_update_dead(annex_db *db, struct catalog_index *index,
                                const struct catalog_part *part, annex_error *error);
annex_status schema_delete_part(annex_db *db, struct catalog_index *index, int64_t part,
                                annex_error *error);
/* All that carry the number of the index. */
annex_status schema_delete_parts(annex_db *db, const struct catalog_index *index,
                                 annex_error *error);

/* ---- sources.c: an index over several sources -------------------------------------------------*/

/* One source as annex_db_create takes it. */
struct source_spec {
    const char *label; /* "": by the table or collection */
    const char *table, *column, *options;
};

/* What the options "sources" and "llm_collection" make of a table: one source, or several. */
annex_status sources_split(struct arena *arena, const char *table, const char *column,
                           const char *options, struct source_spec **specs, size_t *n,
                           annex_error *error);
/* The options of a copy: those of `definition` as it is now, with the members of `changes` (NULL:
 * none), among which "column" may be. */
annex_status sources_copy_options(struct arena *arena, const struct definition *definition,
                                  const char *changes, const char **column, const char **out,
                                  annex_error *error);
/* What a source is called outside of its index: the collection, else the table. */
const char *sources_name(const struct catalog_index *index);
enum { SOURCE_TABLE = 1, SOURCE_COLLECTION = 2 };
unsigned sources_kind(const struct catalog_index *index);
/* What it is called in answers: what follows the dot in the name of a member. */
const char *sources_label(const struct catalog_index *index);
bool sources_is_member(const char *name);
/*
 * The indexes that a verb is done to: the members, qualified by their schema, or the index itself.
 * `whole` (may be NULL) gets the qualified name of an index that has members, otherwise NULL.
 */
annex_status sources_list(annex_db *db, struct arena *arena, const char *qualified,
                          const char ***names, size_t *n, const char **whole, annex_error *error);
/* The members of an index, in plain names; none when it has a table of its own. */
annex_status sources_members(annex_db *db, struct arena *arena, const char *schema,
                             const char *name, const char ***names, size_t *n, annex_error *error);
/* The names of all indexes in a schema; `only`: "", or a condition in SQL. */
annex_status sources_names(annex_db *db, struct arena *arena, const char *schema, const char *only,
                           const char ***names, size_t *n, annex_error *error);
/* Opens an index; a name that is none may be that of a source, and stands for its default index. */
annex_status sources_open(annex_db *db, const char *name, struct catalog_index **index,
                          struct host_statement **hold, annex_error *error);
/* Only the default index of a source of some kinds; *index is NULL when there is none. */
annex_status sources_default(annex_db *db, const char *name, unsigned kinds,
                             struct catalog_index **index, struct host_statement **hold,
                             annex_error *error);
/* Refuses an index with members: `what` can be done with one source only. */
annex_status sources_refuse(const struct catalog_index *index, const char *what,
                            annex_error *error);
/* Takes away the mark of the default from all indexes of a source, `except` one. */
annex_status sources_clear_default(annex_db *db, const char *schema, const char *source,
                                   unsigned kind, int64_t except, annex_error *error);

/* ---- collection.c: a collection of llm as a source --------------------------------------------*/

/* Number and model of a collection now; *id = 0 when there is none. */
annex_status collection_find(annex_db *db, const char *schema, const char *name,
                             struct arena *arena, int64_t *id, const char **model,
                             annex_error *error);
/* For a new index: the table must be llm's, and the collection there. Takes number and model. */
annex_status collection_define(annex_db *db, struct catalog_index *index, annex_error *error);
/* Looks whether the name stands for the number and model that it did. */
annex_status collection_inspect(annex_db *db, struct catalog_index *index, bool *moved,
                                annex_error *error);

/* ---- inspect.c: is everything as it was left? -------------------------------------------------*/

/* What the host needs to know of the change log; it borrows from the index. */
struct host_log catalog_log(const struct catalog_index *index);
/*
 * Compares table, triggers and log with what was left, follows names that were changed, and fills
 * index->stale. An error when the table, or a column the index is made of, is gone.
 */
annex_status catalog_inspect(annex_db *db, struct catalog_index *index, annex_error *error);
/*
 * Whether all vectors of the table have another format or dimension than the index: then these are
 * learned anew, the segments are closed, and index->stale says so.
 */
annex_status catalog_outgrown(annex_db *db, struct catalog_index *index, bool *outgrown,
                              annex_error *error);

/* ---- cache.c, store.c, sweep.c: where the bytes of segments are -------------------------------*/

#define CONTENT_TEXT_BYTES 33

const char *content_print(const uint64_t content[2], char text[CONTENT_TEXT_BYTES]);
bool content_parse(const char *text, uint64_t content[2]);
/* The private directory of mapped segments, made if needed; "" when there is none to use. */
annex_status cache_directory(struct arena *arena, const char **directory, annex_error *error);
/* Notes that a file of the cache is in use. */
void cache_use(const char *path);
/* Removes what was not used for long, when something new came; best effort. */
void cache_collect(const annex_env *env);

/* Opens a part for reading: mapped from the cache or its file, or as an image in memory. */
annex_status store_open(annex_db *db, struct catalog_index *index, struct catalog_part *part,
                        annex_error *error);
annex_status store_open_all(annex_db *db, struct catalog_index *index, annex_error *error);
/* The engine of a definition; ANNEX_UNSUPPORTED says how to load it. */
annex_status store_engine(annex_db *db, const char *index_name, const char *name,
                          const annex_engine **engine, annex_error *error);
/* Closes the handle of a part. */
void store_close(annex_db *db, struct catalog_part *part);
/* Whether the bytes of a part are all there, without reading them. */
annex_status store_look(annex_db *db, struct catalog_index *index, struct catalog_part *part,
                        annex_error *error);
/*
 * Builds a segment from `rows`; unless it has no rows, it becomes the last part of the index in
 * memory. Nothing is written to the database: that is for store_write.
 */
annex_status store_build(annex_db *db, struct catalog_index *index, const annex_rows *rows,
                         annex_family family, annex_error *error);
/*
 * The same from the part `from`, with `n_rows` rows or fewer in place of its dead ones, for which
 * the engine may know a quicker way. *made: whether it did; otherwise nothing was done.
 */
annex_status store_grow(annex_db *db, struct catalog_index *index, const struct catalog_part *from,
                        const annex_rows *rows, uint64_t n_rows, bool *made, annex_error *error);
annex_status store_write(annex_db *db, struct catalog_index *index, struct catalog_part *part,
                         annex_error *error);
/*
 * For check: verifies the stored bytes of a part, and its copy in the cache, which is made anew
 * when it is damaged.
 */
annex_status store_verify(annex_db *db, struct catalog_index *index, struct catalog_part *part,
                          annex_error *error);
/* Whether two parts are kept in the same place. */
bool store_is_same(const struct catalog_part *a, const struct catalog_part *b);
/* Removes files and cache entries of parts that are not used any more; best effort. */
void store_remove(annex_db *db, struct catalog_index *index, const struct catalog_part *part);
/* Removes files beside the database that no index names (sweep.c). */
annex_status store_sweep(annex_db *db, const struct catalog_index *index, annex_error *error);

/* ---- part.c: rows of an open part -------------------------------------------------------------*/

/* The row of a key, dead or not; false also for a part that is not open. */
bool part_find(const struct catalog_part *part, const struct rowkey *key, uint32_t *row);
bool part_is_dead(const struct catalog_part *part, uint32_t row);
/* `key` borrows the bytes of the part. */
annex_status part_row_key(const struct catalog_part *part, struct rowkey_shape shape, uint32_t row,
                          struct rowkey *key, annex_error *error);

/* ---- log.c: which keys were changed -----------------------------------------------------------*/

enum delta_state { DELTA_UNREAD = 0, DELTA_PRESENT = 1, DELTA_ABSENT = 2 };

/*
 * Brings the delta and the masks of the parts up to the last log row. Sets index->stale when the
 * watermark is not where it was left. Parts must be open.
 */
annex_status delta_refresh(annex_db *db, struct catalog_index *index, annex_error *error);
/* Empties the delta: every row that is not dead may be found. */
void delta_clear(struct catalog_index *index);
/* One changed key: its vector has to be read anew, and segments may not find it. */
annex_status delta_add(annex_db *db, struct catalog_index *index, const struct rowkey *key,
                       annex_error *error);
/* Only looks whether the log is the one that was left, for lists. */
annex_status log_look(annex_db *db, struct catalog_index *index, annex_error *error);
/* Number of keys behind the watermark. */
annex_status delta_count(annex_db *db, struct catalog_index *index, uint64_t *rows,
                         annex_error *error);
/* Appends the first row of a new log, and reads the last one as watermark. */
annex_status log_begin(annex_db *db, struct catalog_index *index, annex_error *error);
/* Removes the rows before the watermark. */
annex_status log_trim(annex_db *db, struct catalog_index *index, annex_error *error);

/* ---- source.c: the table ----------------------------------------------------------------------*/

/* Reads current vectors by key. */
struct source_fetch {
    annex_db *db;
    struct catalog_index *index;
    struct vector_reader reader;
    struct host_statement *statement;
    struct arena scratch;
    annex_error bad; /* why the last vector was VECTOR_BAD */
};

annex_status source_fetch_open(annex_db *db, struct catalog_index *index,
                               struct source_fetch *fetch, annex_error *error);
/* VECTOR_NONE also for a row that is not there or does not fulfil the condition. */
annex_status source_fetch_key(struct source_fetch *fetch, const struct rowkey *key, void *vector,
                              enum vector_state *state, annex_error *error);
/* The same by values as a user gives them; `key` (may be NULL) is the one the table holds. */
annex_status source_fetch_row(struct source_fetch *fetch, const annex_value *values, void *vector,
                              enum vector_state *state, struct buffer *buffer, struct rowkey *key,
                              annex_error *error);
void source_fetch_close(struct source_fetch *fetch);

/* The condition of the index: what the user gave, and the collection. */
annex_status source_condition(const struct catalog_index *index, struct arena *arena,
                              const char **out, annex_error *error);
/* A column of the table, quoted: "docs"."a". */
annex_status source_column(const struct catalog_index *index, struct arena *arena,
                           const char *column, const char **out, annex_error *error);
/* "docs"."a" = ?1 AND … */
annex_status source_key_condition(struct catalog_index *index, struct arena *arena,
                                  const char **out, annex_error *error);
/* The key columns: "docs"."a", "docs"."b". */
annex_status source_key_list(struct catalog_index *index, struct arena *arena, const char **out,
                             annex_error *error);

/* Streams rows: the table where `where` holds ("": all of it), or the current rows of `keys`. */
struct source_rows {
    annex_db *db;
    struct catalog_index *index;
    struct vector_reader reader;
    struct host_statement *statement; /* scan of the table */
    const struct rowkey_set *keys;    /* or these, one after the other */
    struct source_fetch fetch;
    size_t next_key;
    bool finished;
    bool again;        /* the row under the statement begins the next batch */
    bool strict;       /* a bad row is an error; otherwise it is left out */
    uint64_t left_out; /* of this pass */
    char first_left_out[ANNEX_ERROR_BYTES];
    void *vectors; /* [batch_rows] */
    size_t batch_rows;
    struct rowkey_set batch;
    struct buffer key_buffer;
};

annex_status source_rows_open(annex_db *db, struct catalog_index *index,
                              const struct rowkey_set *keys, const char *where, bool strict,
                              struct source_rows *rows, annex_error *error);
annex_rows source_rows_view(struct source_rows *rows);
/* Warns when rows were left out of the last pass, which was from `rows`. */
void source_say_left_out(const struct source_rows *rows);
void source_rows_close(struct source_rows *rows);
/* Completes format and dimension of the definition from the first rows, if there are any. */
annex_status source_learn(annex_db *db, struct catalog_index *index, annex_error *error);
/* The first values of the column, for vector_detect; they live in the arena. */
annex_status source_samples(annex_db *db, struct catalog_index *index, struct arena *arena,
                            annex_value *samples, size_t capacity, size_t *n, annex_error *error);

/* ---- compare.c: the table against the segments ------------------------------------------------*/

enum compare_finding {
    COMPARE_MISSING = 0, /* a row of the table is in no segment */
    COMPARE_CHANGED = 1, /* with another vector */
    COMPARE_TWICE = 2,   /* in several segments */
    COMPARE_EXTRA = 3    /* a row of a segment is not in the table */
};

typedef annex_status (*compare_found)(void *context, enum compare_finding finding,
                                      const struct rowkey *key, annex_error *error);

struct compare_report {
    uint64_t rows, left_out; /* of the table: that can be in the index, that cannot */
    char first_left_out[ANNEX_ERROR_BYTES];
};

/*
 * Reads the whole table and calls `found` for every difference from the rows that the open segments
 * may find (part->allowed). Keys in the delta are passed over, also those that `found` adds.
 */
annex_status compare_table(annex_db *db, struct catalog_index *index, compare_found found,
                           void *context, struct compare_report *report, annex_error *error);

/* ---- db_create.c, for db_names.c --------------------------------------------------------------*/

annex_status create_check_name(const char *name, annex_error *error);
annex_status create_check_free(annex_db *db, const char *schema, const char *name,
                               annex_error *error);
annex_status create_check_writable(annex_db *db, const char *schema, annex_error *error);

/* ---- fold.c -----------------------------------------------------------------------------------*/

struct fold {
    annex_db *db;
    struct catalog_index *index;
    struct rowkey_set keys; /* of the new segment */
    bool *absorbed;         /* [n_older] segments that go into it */
    size_t n_older;         /* segments before the fold */
    size_t n_absorbed;
    uint64_t n_deleted; /* rows that became dead */
    bool anew;          /* no segment stayed: the new one was built from the table */
};

annex_status fold_open(struct fold *fold, annex_db *db, struct catalog_index *index,
                       annex_error *error);
void fold_close(struct fold *fold);
void fold_absorb(struct fold *fold, size_t part);
/* Puts the delta into segments in memory. Parts are open, but for those absorbed before. */
annex_status fold_run(struct fold *fold, annex_error *error);
/* Builds one segment from the whole table and adds it to the index in memory. */
annex_status catalog_build(annex_db *db, struct catalog_index *index, bool strict,
                           annex_error *error);

#endif
