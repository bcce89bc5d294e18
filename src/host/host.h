/*
 * host.h - a database behind one small interface. The catalog speaks to it in plain SQL with
 * numbered parameters (?1, ?2 ...); what differs between databases is a function of struct
 * host_type.
 *
 * Invariants
 *   1. A statement that was reset or finished holds no lock and no snapshot (the host may keep it
 *      to save preparing it again); one that was stepped to a row and not reset keeps its
 *      snapshot open.
 *   2. Values of columns are borrowed until the next step, reset or finish; bound values must stay
 *      until the statement is reset or bound anew.
 *   3. begin .. commit is all or nothing, inside the caller's transaction if there is one.
 *   4. The change log is written by triggers in core SQL, so that programs without Annex keep it.
 * Does not: know what an index is (catalog/), interpret vectors or keys.
 */
#ifndef ANNEX_HOST_H
#define ANNEX_HOST_H

#include "host/arena.h"

struct host_type;

struct host {
    const struct host_type *type;
    const annex_env *env; /* of the annex_db */
};

struct host_statement;

struct host_column {
    const char *name;
    bool not_null;
    unsigned key_position; /* 1-based place in the primary key, 0: not part of it */
};

/* A table as the host describes it. Text lives in the arena given to describe. */
struct host_table {
    const char *schema;
    const char *name;
    struct host_column *columns;
    size_t n_columns;
    const char *keys[ANNEX_MAX_KEY_COLUMNS]; /* names a row for ever: unique, never renumbered */
    size_t n_keys;
    bool integer_key; /* one key column that can hold nothing but 64-bit integers */
};

/* What the change log of one index watches. */
struct host_log {
    const char *schema;
    const char *log;   /* table of the log; the triggers are named after it */
    const char *table; /* table that is watched */
    const char *const *keys;
    size_t n_keys;
    const char *const *watched; /* columns whose change matters, besides the keys */
    size_t n_watched;
    bool scoped;               /* only rows whose first key column … */
    int64_t scope;             /* … is this number */
    const char *const *beside; /* further tables that log_inspect looks for */
    size_t n_beside;
    uint64_t fingerprint; /* of what log_inspect found good under these names; 0: not known */
};

enum host_log_state {
    HOST_LOG_GOOD = 0,
    HOST_LOG_MISSING = 1, /* a trigger, the log, or a table beside it is gone */
    HOST_LOG_CHANGED = 2, /* a trigger or the log has another text */
    HOST_LOG_OLDER = 3    /* the table was made anew, and the triggers with it */
};

/* Text lives in the arena given to log_inspect, or where the host_log has it. */
struct host_log_found {
    enum host_log_state state;
    uint64_t fingerprint; /* of what is there; the same one needs no second look */
    const char *what;     /* is missing or changed: "the trigger annex_log_7_insert" */
    const char *table;    /* as it is called now */
    const char **keys;    /* [n_keys] as they are called now */
    const char **watched; /* [n_watched] */
};

struct host_type {
    const char *name;
    void (*close)(struct host *host);

    annex_status (*prepare)(struct host *host, const char *sql, struct host_statement **statement,
                            annex_error *error);
    annex_status (*bind)(struct host_statement *statement, int parameter, const annex_value *value,
                         annex_error *error);
    annex_status (*step)(struct host_statement *statement, bool *row, annex_error *error);
    void (*column)(struct host_statement *statement, int column, annex_value *value);
    void (*reset)(struct host_statement *statement);
    void (*finish)(struct host_statement *statement); /* NULL is allowed */

    /*
     * begin takes the lock for writing, unless the caller has a transaction open; change must come
     * before the first write and sets the savepoint inside the caller's transaction. In between is
     * the time for long work: when it is given up, the caller's transaction was not touched.
     * Within a statement of the caller that writes there is no savepoint: when something fails
     * after change, the caller fails the statement. If that leaves parts of it behind, the index
     * is found to be stale.
     */
    annex_status (*begin)(struct host *host, annex_error *error); /* ANNEX_BUSY when locked */
    annex_status (*change)(struct host *host, annex_error *error);
    annex_status (*commit)(struct host *host, annex_error *error);
    void (*rollback)(struct host *host);
    bool (*in_transaction)(struct host *host);
    bool (*interrupted)(struct host *host); /* the user of the connection asked to stop */

    bool (*read_only)(struct host *host, const char *schema);
    /* Path of the schema's file; NULL when it is not in a file of its own. */
    const char *(*file)(struct host *host, const char *schema);
    /* Names of the schemas in the order in which unqualified names are looked up. */
    annex_status (*schemas)(struct host *host, struct arena *arena, const char ***names, size_t *n,
                            annex_error *error);
    annex_status (*has_table)(struct host *host, const char *schema, const char *table,
                              bool *present, annex_error *error);
    /*
     * Describes a table. `keys` are the columns the user wants as key (they must be declared
     * unique); with n_keys 0 the primary key or a unique index that admits no NULL is chosen.
     */
    annex_status (*describe)(struct host *host, const char *schema, const char *table,
                             const char *const *keys, size_t n_keys, struct arena *arena,
                             struct host_table *out, annex_error *error);
    /*
     * Accepts a condition over the columns of one row (no subqueries, nothing that changes by
     * itself) and tells which columns it reads.
     */
    annex_status (*condition)(struct host *host, const struct host_table *table, const char *where,
                              struct arena *arena, const char ***columns, size_t *n,
                              annex_error *error);
    /* The condition after columns from[i] were renamed to[i]; they are all that it reads. */
    annex_status (*condition_rename)(struct host *host, const char *where, const char *const *from,
                                     const char *const *to, size_t n, struct arena *arena,
                                     const char **out, annex_error *error);
    /* A number that changes with every change of the schema; it comes again after a rollback. */
    annex_status (*schema_version)(struct host *host, const char *schema, int64_t *version,
                                   annex_error *error);

    annex_status (*log_create)(struct host *host, const struct host_log *log, annex_error *error);
    /* Names that the database itself has rewritten in the triggers, because table or columns were
       renamed, are no change. */
    annex_status (*log_inspect)(struct host *host, const struct host_log *log, struct arena *arena,
                                struct host_log_found *found, annex_error *error);
    /* Creates the triggers anew, and the log unless it is as it must be. */
    annex_status (*log_repair)(struct host *host, const struct host_log *log, annex_error *error);
    annex_status (*log_drop)(struct host *host, const struct host_log *log, annex_error *error);
};

/* ---- host.c: the same for every host ----------------------------------------------------------*/

/* Prepares "format"; for statements with parameters or rows. */
annex_status host_prepare(struct host *host, struct host_statement **statement, annex_error *error,
                          const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Runs one statement that has no parameters and whose rows do not matter. */
annex_status host_run(struct host *host, annex_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Steps a statement to its end and resets it. */
annex_status host_finish_step(struct host *host, struct host_statement *statement,
                              annex_error *error);
annex_status host_bind_integer(struct host *host, struct host_statement *statement, int parameter,
                               int64_t value, annex_error *error);
annex_status host_bind_text(struct host *host, struct host_statement *statement, int parameter,
                            const char *text, annex_error *error);
int64_t host_integer(struct host *host, struct host_statement *statement, int column);
/* *out = a copy in the arena; "" for NULL. */
annex_status host_text(struct host *host, struct host_statement *statement, int column,
                       struct arena *arena, const char **out, annex_error *error);
/* *out = "name" with quotes doubled. */
annex_status host_quote(struct arena *arena, const char *name, const char **out,
                        annex_error *error);

/* ---- sqlite.c --------------------------------------------------------------------------------*/

annex_status sqlite_open(const annex_env *env, const char *target, unsigned flags,
                         struct host **host, annex_error *error);
/* Keeps `connection`, a sqlite3 *, which stays the caller's. */
annex_status sqlite_adopt(const annex_env *env, void *connection, struct host **host,
                          annex_error *error);

/* ---- open.c -----------------------------------------------------------------------------------*/

/* Opens what `target` names: a path or file: URI of SQLite. */
annex_status host_open(const annex_env *env, const char *target, unsigned flags, struct host **host,
                       annex_error *error);

#endif
