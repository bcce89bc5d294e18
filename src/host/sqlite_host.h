/*
 * sqlite_host.h - what the files of the SQLite host share.
 *
 * They are compiled twice: for libannex, which links libsqlite3, and with ANNEX_SQLITE_EXTENSION
 * for annex.so, which speaks to the SQLite of the program that loads it through sqlite3_api. Only
 * functions of SQLite 3.38 and older are used.
 */
#ifndef ANNEX_SQLITE_HOST_H
#define ANNEX_SQLITE_HOST_H

#include "host/host.h"

#ifdef ANNEX_SQLITE_EXTENSION
#    include <sqlite3ext.h>
SQLITE_EXTENSION_INIT3
#else
#    include <sqlite3.h>
#endif

struct sqlite_host {
    struct host host;
    sqlite3 *connection;
    struct host_statement *probe; /* "SELECT 1", to ask whether somebody interrupted */
    struct host_statement *undo;  /* within host_begin: see sqlite_rollback */
    struct host_statement *idle;  /* finished ones kept for the same text, latest first */
    bool owned;
    unsigned depth; /* of host_begin */
    bool outermost; /* begin opened the transaction itself */
    bool changing;  /* change was called … */
    bool savepoint; /* … and has set a savepoint */
};

/* ---- sqlite_table.c ---------------------------------------------------------------------------*/

annex_status sqlite_schemas(struct host *host, struct arena *arena, const char ***names, size_t *n,
                            annex_error *error);
annex_status sqlite_has_table(struct host *host, const char *schema, const char *table,
                              bool *present, annex_error *error);
annex_status sqlite_describe(struct host *host, const char *schema, const char *table,
                             const char *const *keys, size_t n_keys, struct arena *arena,
                             struct host_table *out, annex_error *error);
annex_status sqlite_condition(struct host *host, const struct host_table *table, const char *where,
                              struct arena *arena, const char ***columns, size_t *n,
                              annex_error *error);
annex_status sqlite_condition_rename(struct host *host, const char *where, const char *const *from,
                                     const char *const *to, size_t n, struct arena *arena,
                                     const char **out, annex_error *error);

/* ---- sqlite_log.c -----------------------------------------------------------------------------*/

annex_status sqlite_log_create(struct host *host, const struct host_log *log, annex_error *error);

#define SQLITE_LOG_TRIGGERS 3
/* Of the names of the triggers, behind the name of the log. */
extern const char *const sqlite_log_suffixes[SQLITE_LOG_TRIGGERS];
/* The text of trigger `which` from its name on, as sqlite_schema keeps it behind CREATE TRIGGER. */
annex_status sqlite_log_trigger_text(struct arena *arena, const struct host_log *log, size_t which,
                                     const char **out, annex_error *error);
/* The text of the log from its name on, likewise. */
annex_status sqlite_log_table_text(struct arena *arena, const struct host_log *log,
                                   const char **out, annex_error *error);

/* ---- sqlite_inspect.c -------------------------------------------------------------------------*/

/* Whether there is a log that is not as it must be, or older than its table; its place in the
 * schema. */
annex_status sqlite_log_outdated(struct host *host, const struct host_log *log, struct arena *arena,
                                 bool *outdated, int64_t *place, annex_error *error);
annex_status sqlite_log_inspect(struct host *host, const struct host_log *log, struct arena *arena,
                                struct host_log_found *found, annex_error *error);

/* ---- sqlite_repair.c --------------------------------------------------------------------------*/

annex_status sqlite_log_repair(struct host *host, const struct host_log *log, annex_error *error);
annex_status sqlite_log_drop(struct host *host, const struct host_log *log, annex_error *error);

#endif
