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
 *   4. The texts of triggers and log follow from struct host_log. Anything else in their place is a
 *      change, but for the names of table and columns, which SQLite rewrites when they are renamed.
 *   5. The log was made after its table, and so stands behind it in sqlite_schema. VACUUM, renaming
 *      and copies keep that order; a table that is dropped and made anew breaks it.
 *   6. A log of some rows (scoped) is told of a row when it is among them before or after a change.
 * Does not see: rows that REPLACE removes because of another unique column (recursive_triggers is
 * off by default). Searches find those missing when they re-read candidates.
 */
#include "host/sqlite_host.h"

const char *const sqlite_log_suffixes[SQLITE_LOG_TRIGGERS] = {"_insert", "_update", "_delete"};

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

/* "new."collection_id" = 3"; "" when all rows of the table are meant. */
static annex_status log_scope(struct arena *arena, const struct host_log *log, const char *row,
                              const char **out, annex_error *error)
{
    const char *name = NULL;
    *out = "";
    if (!log->scoped) {
        return ANNEX_OK;
    }
    TRY(host_quote(arena, log->keys[0], &name, error));
    return arena_printf(arena, out, error, "%s.%s = %lld", row, name, (long long)log->scope);
}

/* What all triggers say. */
struct log_words {
    const char *table, *trigger, *insert; /* "INSERT INTO annex_log_7(nonce, k1)" */
    const char *old_keys, *new_keys;
};

static annex_status log_word(struct arena *arena, const struct host_log *log, size_t which,
                             struct log_words *words, annex_error *error)
{
    const char *log_table = NULL, *name = NULL, *columns = NULL;
    TRY(arena_printf(arena, &name, error, "%s%s", log->log, sqlite_log_suffixes[which]));
    TRY(host_quote(arena, name, &words->trigger, error));
    TRY(host_quote(arena, log->table, &words->table, error));
    TRY(host_quote(arena, log->log, &log_table, error));
    TRY(log_keys(arena, log, NULL, &columns, error));
    TRY(log_keys(arena, log, "old", &words->old_keys, error));
    TRY(log_keys(arena, log, "new", &words->new_keys, error));
    return arena_printf(arena, &words->insert, error, "INSERT INTO %s(nonce, %s)", log_table,
                        columns);
}

static annex_status log_update_text(struct arena *arena, const struct host_log *log,
                                    const struct log_words *words, const char **out,
                                    annex_error *error)
{
    const char *head = NULL, *keys_differ = NULL, *rest_differs = NULL;
    const char *old_scope = NULL, *new_scope = NULL;
    TRY(log_differs(arena, log->keys, log->n_keys, &keys_differ, error));
    TRY(log_differs(arena, log->watched, log->n_watched, &rest_differs, error));
    TRY(arena_printf(arena, &head, error, "%s AFTER UPDATE ON %s WHEN %s OR %s BEGIN ",
                     words->trigger, words->table, keys_differ, rest_differs));
    if (log->scoped) {
        TRY(log_scope(arena, log, "old", &old_scope, error));
        TRY(log_scope(arena, log, "new", &new_scope, error));
        return arena_printf(arena, out, error,
                            "%s%s SELECT random(), %s WHERE %s; "
                            "%s SELECT random(), %s WHERE (%s) AND %s; END",
                            head, words->insert, words->old_keys, old_scope, words->insert,
                            words->new_keys, keys_differ, new_scope);
    }
    return arena_printf(
        arena, out, error, "%s%s VALUES (random(), %s); %s SELECT random(), %s WHERE %s; END", head,
        words->insert, words->old_keys, words->insert, words->new_keys, keys_differ);
}

annex_status sqlite_log_trigger_text(struct arena *arena, const struct host_log *log, size_t which,
                                     const char **out, annex_error *error)
{
    struct log_words words;
    const char *scope = NULL;
    bool insert = which == 0;
    TRY(log_word(arena, log, which, &words, error));
    if (which == 1) {
        return log_update_text(arena, log, &words, out, error);
    }
    TRY(log_scope(arena, log, insert ? "new" : "old", &scope, error));
    return arena_printf(arena, out, error,
                        "%s AFTER %s ON %s %s%s%sBEGIN %s VALUES (random(), %s); "
                        "END",
                        words.trigger, insert ? "INSERT" : "DELETE", words.table,
                        scope[0] != '\0' ? "WHEN " : "", scope, scope[0] != '\0' ? " " : "",
                        words.insert, insert ? words.new_keys : words.old_keys);
}

annex_status sqlite_log_table_text(struct arena *arena, const struct host_log *log,
                                   const char **out, annex_error *error)
{
    const char *table = NULL, *columns = NULL;
    TRY(host_quote(arena, log->log, &table, error));
    TRY(log_keys(arena, log, NULL, &columns, error));
    return arena_printf(arena, out, error,
                        "%s(seq INTEGER PRIMARY KEY, nonce INTEGER NOT NULL, %s)", table, columns);
}

annex_status sqlite_log_create(struct host *host, const struct host_log *log, annex_error *error)
{
    struct arena scratch = {host->env, NULL};
    const char *schema = NULL, *text = NULL;
    annex_status status = ANNEX_OK;
    TRY_CLEANUP(host_quote(&scratch, log->schema, &schema, error));
    TRY_CLEANUP(sqlite_log_table_text(&scratch, log, &text, error));
    TRY_CLEANUP(host_run(host, error, "CREATE TABLE IF NOT EXISTS %s.%s", schema, text));
    for (size_t i = 0; i < SQLITE_LOG_TRIGGERS; i++) {
        TRY_CLEANUP(sqlite_log_trigger_text(&scratch, log, i, &text, error));
        TRY_CLEANUP(host_run(host, error, "CREATE TRIGGER %s.%s", schema, text));
    }
cleanup:
    arena_free(&scratch);
    return status;
}
