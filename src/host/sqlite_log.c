/*
 * sqlite_log.c - the change log of a SQLite table: one ordinary table and three AFTER triggers.
 *
 *   annex_log_7(seq INTEGER PRIMARY KEY, nonce INTEGER, k1, k2 ...)      one row for each change
 *   annex_log_7_insert, annex_log_7_update, annex_log_7_delete
 *
 * Invariants
 *   1. The triggers use nothing but core SQL (random() is core), so that every program can write,
 *      also with trusted_schema off.
 *   2. Every change of a key or a watched column appends the keys it concerns: the old one and,
 *      when it differs, the new one. The values decide, not the columns that SET names, so that
 *      generated columns and aliases of the rowid are seen.
 *   3. The last row is never removed; so the numbers grow, and a number that comes again after a
 *      rollback carries another nonce.
 *   4. The text of a trigger follows from struct host_log; anything else in its place is a change.
 * Does not see: rows that REPLACE removes because of another unique column (recursive_triggers is
 * off by default). Searches find those missing when they re-read candidates.
 */
#include "host/sqlite_host.h"

enum { LOG_TRIGGERS = 3 };

static const char *const log_suffixes[LOG_TRIGGERS] = {"_insert", "_update", "_delete"};

/* "k1, k2", or with a row: "new."id", new."part"" */
static annex_status log_keys(struct arena *arena, const struct host_log *log, const char *row,
                             const char **out, annex_error *error)
{
    *out = "";
    for (size_t i = 0; i < log->n_keys; i++) {
        const char *name = NULL;
        TRY(host_quote(arena, log->keys[i], &name, error));
        const char *separator = i > 0 ? ", " : "";
        if (row == NULL) {
            TRY(arena_printf(arena, out, error, "%s%sk%zu", *out, separator, i + 1));
        } else {
            TRY(arena_printf(arena, out, error, "%s%s%s.%s", *out, separator, row, name));
        }
    }
    return ANNEX_OK;
}

/* "a differs OR b differs", by value and type, whatever the collation of the column. */
static annex_status log_differs(struct arena *arena, const char *const *columns, size_t n,
                                const char **out, annex_error *error)
{
    *out = "";
    for (size_t i = 0; i < n; i++) {
        const char *name = NULL;
        TRY(host_quote(arena, columns[i], &name, error));
        TRY(arena_printf(arena, out, error, "%s%sold.%s IS NOT new.%s COLLATE BINARY", *out,
                         i > 0 ? " OR " : "", name, name));
    }
    return ANNEX_OK;
}

/* The text of trigger `which` from its name on, as sqlite_schema keeps it behind CREATE TRIGGER. */
static annex_status log_trigger_text(struct arena *arena, const struct host_log *log, size_t which,
                                     const char **out, annex_error *error)
{
    const char *table = NULL, *log_table = NULL, *trigger = NULL, *name = NULL;
    const char *columns = NULL, *old_keys = NULL, *new_keys = NULL;
    const char *keys_differ = NULL, *rest_differs = NULL;
    TRY(arena_printf(arena, &name, error, "%s%s", log->log, log_suffixes[which]));
    TRY(host_quote(arena, name, &trigger, error));
    TRY(host_quote(arena, log->table, &table, error));
    TRY(host_quote(arena, log->log, &log_table, error));
    TRY(log_keys(arena, log, NULL, &columns, error));
    TRY(log_keys(arena, log, "old", &old_keys, error));
    TRY(log_keys(arena, log, "new", &new_keys, error));
    TRY(log_differs(arena, log->keys, log->n_keys, &keys_differ, error));
    TRY(log_differs(arena, log->watched, log->n_watched, &rest_differs, error));
    if (which == 1) {
        return arena_printf(arena, out, error,
                            "%s AFTER UPDATE ON %s WHEN %s OR %s BEGIN "
                            "INSERT INTO %s(nonce, %s) VALUES (random(), %s); "
                            "INSERT INTO %s(nonce, %s) SELECT random(), %s WHERE %s; END",
                            trigger, table, keys_differ, rest_differs, log_table, columns, old_keys,
                            log_table, columns, new_keys, keys_differ);
    }
    return arena_printf(arena, out, error,
                        "%s AFTER %s ON %s BEGIN "
                        "INSERT INTO %s(nonce, %s) VALUES (random(), %s); END",
                        trigger, which == 0 ? "INSERT" : "DELETE", table, log_table, columns,
                        which == 0 ? new_keys : old_keys);
}

annex_status sqlite_log_create(struct host *host, const struct host_log *log, annex_error *error)
{
    struct arena scratch = {host->env, NULL};
    const char *schema = NULL, *table = NULL, *columns = NULL;
    annex_status status = ANNEX_OK;
    TRY_CLEANUP(host_quote(&scratch, log->schema, &schema, error));
    TRY_CLEANUP(host_quote(&scratch, log->log, &table, error));
    TRY_CLEANUP(log_keys(&scratch, log, NULL, &columns, error));
    TRY_CLEANUP(host_run(host, error,
                         "CREATE TABLE IF NOT EXISTS %s.%s"
                         "(seq INTEGER PRIMARY KEY, nonce INTEGER NOT NULL, %s)",
                         schema, table, columns));
    for (size_t i = 0; i < LOG_TRIGGERS; i++) {
        const char *text = NULL;
        TRY_CLEANUP(log_trigger_text(&scratch, log, i, &text, error));
        TRY_CLEANUP(host_run(host, error, "CREATE TRIGGER %s.%s", schema, text));
    }
cleanup:
    arena_free(&scratch);
    return status;
}

/* Reads name, table and text of the log and of the triggers that carry our names. */
static annex_status log_compare(struct host *host, const struct host_log *log,
                                struct host_statement *statement, struct arena *arena,
                                enum host_log_state *state, const char **table, annex_error *error)
{
    const char *texts[LOG_TRIGGERS] = {NULL};
    bool has_log = false;
    bool row = true;
    for (;;) {
        const char *name = NULL, *text = NULL;
        TRY(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        TRY(host_text(host, statement, 0, arena, &name, error));
        TRY(host_text(host, statement, 2, arena, &text, error));
        if (strcmp(name, log->log) == 0) {
            has_log = true;
            continue;
        }
        for (size_t i = 0; i < LOG_TRIGGERS; i++) {
            if (strcmp(name + strlen(log->log), log_suffixes[i]) == 0) {
                texts[i] = text;
            }
        }
        TRY(host_text(host, statement, 1, arena, table, error));
    }
    struct host_log renamed = *log;
    renamed.table = *table;
    for (size_t i = 0; i < LOG_TRIGGERS; i++) {
        const char *expected = NULL;
        if (texts[i] == NULL || !has_log) {
            *state = HOST_LOG_MISSING;
            return ANNEX_OK;
        }
        TRY(log_trigger_text(arena, &renamed, i, &expected, error));
        if (strncmp(texts[i], "CREATE TRIGGER ", 15) != 0 || strcmp(texts[i] + 15, expected) != 0) {
            *state = HOST_LOG_CHANGED;
        }
    }
    return ANNEX_OK;
}

annex_status sqlite_log_inspect(struct host *host, const struct host_log *log, struct arena *arena,
                                enum host_log_state *state, const char **table, annex_error *error)
{
    struct host_statement *statement = NULL;
    const char *schema = NULL;
    annex_status status = ANNEX_OK;
    *state = HOST_LOG_GOOD;
    *table = log->table;
    TRY(host_quote(arena, log->schema, &schema, error));
    TRY_CLEANUP(host_prepare(host, &statement, error,
                             "SELECT name, tbl_name, sql FROM %s.sqlite_schema "
                             "WHERE type IN ('table', 'trigger') AND "
                             "name IN (?1, ?1 || '_insert', ?1 || '_update', ?1 || '_delete')",
                             schema));
    TRY_CLEANUP(host_bind_text(host, statement, 1, log->log, error));
    TRY_CLEANUP(log_compare(host, log, statement, arena, state, table, error));
cleanup:
    host->type->finish(statement);
    return status;
}

static annex_status log_drop_triggers(struct host *host, const struct host_log *log,
                                      struct arena *scratch, annex_error *error)
{
    const char *schema = NULL, *name = NULL, *trigger = NULL;
    TRY(host_quote(scratch, log->schema, &schema, error));
    for (size_t i = 0; i < LOG_TRIGGERS; i++) {
        TRY(arena_printf(scratch, &name, error, "%s%s", log->log, log_suffixes[i]));
        TRY(host_quote(scratch, name, &trigger, error));
        TRY(host_run(host, error, "DROP TRIGGER IF EXISTS %s.%s", schema, trigger));
    }
    return ANNEX_OK;
}

annex_status sqlite_log_repair(struct host *host, const struct host_log *log, annex_error *error)
{
    struct arena scratch = {host->env, NULL};
    annex_status status = log_drop_triggers(host, log, &scratch, error);
    arena_free(&scratch);
    return status == ANNEX_OK ? sqlite_log_create(host, log, error) : status;
}

annex_status sqlite_log_drop(struct host *host, const struct host_log *log, annex_error *error)
{
    struct arena scratch = {host->env, NULL};
    const char *schema = NULL, *table = NULL;
    annex_status status = log_drop_triggers(host, log, &scratch, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(host_quote(&scratch, log->schema, &schema, error));
    TRY_CLEANUP(host_quote(&scratch, log->log, &table, error));
    TRY_CLEANUP(host_run(host, error, "DROP TABLE IF EXISTS %s.%s", schema, table));
cleanup:
    arena_free(&scratch);
    return status;
}
