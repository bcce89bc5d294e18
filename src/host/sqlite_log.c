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

/* The text of the log from its name on, likewise. */
static annex_status log_table_text(struct arena *arena, const struct host_log *log,
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
    TRY_CLEANUP(log_table_text(&scratch, log, &text, error));
    TRY_CLEANUP(host_run(host, error, "CREATE TABLE IF NOT EXISTS %s.%s", schema, text));
    for (size_t i = 0; i < LOG_TRIGGERS; i++) {
        TRY_CLEANUP(log_trigger_text(&scratch, log, i, &text, error));
        TRY_CLEANUP(host_run(host, error, "CREATE TRIGGER %s.%s", schema, text));
    }
cleanup:
    arena_free(&scratch);
    return status;
}

/* ---- what is there now ------------------------------------------------------------------------*/

enum { LOG_MOST_BESIDE = 8 };

/* Texts of sqlite_schema; NULL: not there. */
struct log_objects {
    const char *log;
    const char *triggers[LOG_TRIGGERS];
    const char *table; /* that the triggers belong to */
    bool beside[LOG_MOST_BESIDE];
    int64_t log_place, table_place; /* in the order of their creation, which VACUUM keeps */
};

/*
 * The objects that an inspection may be about: name, table, text, place, and whether it is a table.
 * All names of ours begin alike; comparing costs less than looking for each of them.
 */
static annex_status log_list(struct host *host, const struct host_log *log, const char *table,
                             struct arena *arena, struct host_statement **statement,
                             annex_error *error)
{
    const char *schema = NULL;
    *statement = NULL;
    TRY(host_quote(arena, log->schema, &schema, error));
    TRY(host_prepare(host, statement, error,
                     "SELECT name, tbl_name, sql, rowid, type = 'table' FROM %s.sqlite_schema "
                     "WHERE (name > 'annex_' AND name < 'annex`' OR name = ?1) "
                     "AND type IN ('table', 'trigger')",
                     schema));
    return host_bind_text(host, *statement, 1, table, error);
}

/* Takes the object under the statement, if it is one of the log or the table `table`. */
static annex_status log_read_object(struct host *host, const struct host_log *log,
                                    const char *table, struct host_statement *statement,
                                    struct arena *arena, struct log_objects *objects,
                                    annex_error *error)
{
    const char *name = NULL, *text = NULL;
    size_t prefix = strlen(log->log);
    bool is_table = host_integer(host, statement, 4) != 0;
    int64_t place = host_integer(host, statement, 3);
    TRY(host_text(host, statement, 0, arena, &name, error));
    TRY(host_text(host, statement, 2, arena, &text, error));
    for (size_t i = 0; i < log->n_beside; i++) {
        objects->beside[i] = objects->beside[i] || strcmp(name, log->beside[i]) == 0;
    }
    if (strcmp(name, log->log) == 0) {
        objects->log = text;
        objects->log_place = place;
    }
    if (is_table && strcmp(name, table) == 0) {
        objects->table_place = place;
    }
    for (size_t i = 0; i < LOG_TRIGGERS; i++) {
        if (strncmp(name, log->log, prefix) == 0 && strcmp(name + prefix, log_suffixes[i]) == 0) {
            objects->triggers[i] = text;
            TRY(host_text(host, statement, 1, arena, &objects->table, error));
        }
    }
    return ANNEX_OK;
}

static annex_status log_read_with(struct host *host, const struct host_log *log, const char *table,
                                  struct arena *arena, struct log_objects *objects,
                                  annex_error *error)
{
    struct host_statement *statement = NULL;
    bool row = true;
    *objects = (struct log_objects){.table = log->table};
    assert(log->n_beside <= LOG_MOST_BESIDE);
    annex_status status = log_list(host, log, table, arena, &statement, error);
    while (status == ANNEX_OK) {
        TRY_CLEANUP(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        status = log_read_object(host, log, table, statement, arena, objects, error);
    }
cleanup:
    host->type->finish(statement);
    return status;
}

static annex_status log_read(struct host *host, const struct host_log *log, struct arena *arena,
                             struct log_objects *objects, annex_error *error)
{
    TRY(log_read_with(host, log, log->table, arena, objects, error));
    /* The triggers tell what the table is called now. */
    return strcmp(objects->table, log->table) == 0
               ? ANNEX_OK
               : log_read_with(host, log, objects->table, arena, objects, error);
}

/* A number that stands for everything log_read_with would read of this index. */
static annex_status log_fingerprint(struct host *host, const struct host_log *log,
                                    struct arena *arena, uint64_t *fingerprint, annex_error *error)
{
    struct host_statement *statement = NULL;
    size_t prefix = strlen("annex_log_");
    bool row = true;
    uint64_t hash = 1;
    annex_status status = log_list(host, log, log->table, arena, &statement, error);
    while (status == ANNEX_OK) {
        annex_value value;
        TRY_CLEANUP(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        host->type->column(statement, 0, &value);
        bool of_other = strncmp(value.data, log->log, prefix) == 0 &&
                        strncmp(value.data, log->log, strlen(log->log)) != 0;
        for (int i = 0; !of_other && i < 3; i++) {
            host->type->column(statement, i, &value);
            hash = hash_bytes(value.data, value.bytes, hash);
        }
        hash = of_other ? hash : hash_mix(hash ^ (uint64_t)host_integer(host, statement, 3));
    }
    *fingerprint = hash;
cleanup:
    host->type->finish(statement);
    return status;
}

/* *what = the first thing that should be there and is not, else NULL. */
static annex_status log_find_missing(const struct host_log *log, const struct log_objects *objects,
                                     struct arena *arena, const char **what, annex_error *error)
{
    *what = NULL;
    for (size_t i = 0; i < LOG_TRIGGERS; i++) {
        if (objects->triggers[i] == NULL) {
            return arena_printf(arena, what, error, "the trigger %s%s", log->log, log_suffixes[i]);
        }
    }
    if (objects->log == NULL) {
        return arena_printf(arena, what, error, "the table %s", log->log);
    }
    for (size_t i = 0; i < log->n_beside; i++) {
        if (!objects->beside[i]) {
            return arena_printf(arena, what, error, "the table %s", log->beside[i]);
        }
    }
    return ANNEX_OK;
}

/*
 * A table that was made after its log is another one than the log was made for: dropped and made
 * anew by a program that then made our triggers again, too. No log row tells what it changed.
 */
static bool log_is_older(const struct log_objects *objects)
{
    return objects->log != NULL && objects->log_place < objects->table_place;
}

static bool log_text_is(const char *text, const char *prefix, const char *expected)
{
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) == 0 && strcmp(text + length, expected) == 0;
}

/* *what = the first thing that has another text, else NULL. */
static annex_status log_find_changed(const struct host_log *log, const struct log_objects *objects,
                                     struct arena *arena, const char **what, annex_error *error)
{
    const char *expected = NULL;
    *what = NULL;
    for (size_t i = 0; i < LOG_TRIGGERS; i++) {
        TRY(log_trigger_text(arena, log, i, &expected, error));
        if (!log_text_is(objects->triggers[i], "CREATE TRIGGER ", expected)) {
            return arena_printf(arena, what, error, "the trigger %s%s", log->log, log_suffixes[i]);
        }
    }
    TRY(log_table_text(arena, log, &expected, error));
    if (!log_text_is(objects->log, "CREATE TABLE ", expected)) {
        return arena_printf(arena, what, error, "the table %s", log->log);
    }
    return ANNEX_OK;
}

/* ---- columns that were renamed ----------------------------------------------------------------*/

/* Moves *text behind `words`; false when it begins otherwise. */
static bool log_skip(const char **text, const char *words)
{
    size_t length = strlen(words);
    bool begins = strncmp(*text, words, length) == 0;
    *text += begins ? length : 0;
    return begins;
}

/* Takes a name in double quotes; *name is NULL when there is none. */
static annex_status log_take_name(const char **text, struct arena *arena, const char **name,
                                  annex_error *error)
{
    char *out = NULL;
    size_t n = 0;
    const char *in = *text + 1;
    *name = NULL;
    if (**text != '"') {
        return ANNEX_OK;
    }
    TRY(arena_new(arena, strlen(in) + 1, 1, &out, error));
    for (; *in != '\0' && (*in != '"' || in[1] == '"'); in++) {
        in += *in == '"';
        out[n++] = *in;
    }
    if (*in == '"') {
        *text = in + 1;
        *name = out;
    }
    return ANNEX_OK;
}

/*
 * SQLite rewrites the names of columns in triggers when ALTER TABLE renames them. So the condition
 * of the update trigger tells the names of today. Whether it is our trigger still, the caller finds
 * out by comparing all texts under these names. *followed is false when the text is another one.
 */
static annex_status log_follow(const struct host_log *log, const char *text, struct arena *arena,
                               struct host_log_found *found, bool *followed, annex_error *error)
{
    const char *from = strstr(text, " WHEN ");
    size_t n = log->n_keys + log->n_watched;
    *followed = false;
    for (size_t i = 0; from != NULL && i < n; i++) {
        const char *before = NULL, *after = NULL;
        if (!log_skip(&from, i > 0 ? " OR " : " WHEN ") || !log_skip(&from, "old.")) {
            return ANNEX_OK;
        }
        TRY(log_take_name(&from, arena, &before, error));
        if (before == NULL || !log_skip(&from, " IS NOT new.")) {
            return ANNEX_OK;
        }
        TRY(log_take_name(&from, arena, &after, error));
        if (after == NULL || !log_skip(&from, " COLLATE BINARY")) {
            return ANNEX_OK;
        }
        *(i < log->n_keys ? &found->keys[i] : &found->watched[i - log->n_keys]) = before;
    }
    *followed = from != NULL;
    return ANNEX_OK;
}

static annex_status log_compare(const struct host_log *log, const struct log_objects *objects,
                                struct arena *arena, struct host_log_found *found,
                                annex_error *error)
{
    const char *changed = NULL;
    bool followed = false;
    struct host_log now = *log;
    now.table = found->table;
    TRY(log_find_changed(&now, objects, arena, &found->what, error));
    if (found->what == NULL) {
        return ANNEX_OK;
    }
    found->state = HOST_LOG_CHANGED;
    TRY(log_follow(log, objects->triggers[1], arena, found, &followed, error));
    now.keys = found->keys;
    now.watched = found->watched;
    if (followed) {
        TRY(log_find_changed(&now, objects, arena, &changed, error));
    }
    if (followed && changed == NULL) {
        found->state = HOST_LOG_GOOD;
        return ANNEX_OK;
    }
    memcpy(found->keys, log->keys, log->n_keys * sizeof *found->keys);
    memcpy(found->watched, log->watched, log->n_watched * sizeof *found->watched);
    return ANNEX_OK;
}

annex_status sqlite_log_inspect(struct host *host, const struct host_log *log, struct arena *arena,
                                struct host_log_found *found, annex_error *error)
{
    struct log_objects objects;
    *found = (struct host_log_found){.state = HOST_LOG_GOOD, .table = log->table};
    TRY(arena_new(arena, log->n_keys, sizeof *found->keys, &found->keys, error));
    TRY(arena_new(arena, log->n_watched, sizeof *found->watched, &found->watched, error));
    memcpy(found->keys, log->keys, log->n_keys * sizeof *found->keys);
    memcpy(found->watched, log->watched, log->n_watched * sizeof *found->watched);
    TRY(log_fingerprint(host, log, arena, &found->fingerprint, error));
    if (found->fingerprint == log->fingerprint) {
        return ANNEX_OK;
    }
    TRY(log_read(host, log, arena, &objects, error));
    found->table = objects.table;
    TRY(log_find_missing(log, &objects, arena, &found->what, error));
    if (found->what != NULL) {
        found->state = HOST_LOG_MISSING;
        return ANNEX_OK;
    }
    if (log_is_older(&objects)) {
        found->state = HOST_LOG_OLDER;
        return arena_printf(arena, &found->what, error, "the table %s", found->table);
    }
    return log_compare(log, &objects, arena, found, error);
}

/* ---- making it good again ---------------------------------------------------------------------*/

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

/* A log that is not as it must be, or older than the table, goes; another one keeps its rows. */
static annex_status log_drop_changed(struct host *host, const struct host_log *log,
                                     struct arena *scratch, annex_error *error)
{
    struct log_objects objects;
    const char *expected = NULL, *schema = NULL, *table = NULL;
    TRY(log_read(host, log, scratch, &objects, error));
    TRY(log_table_text(scratch, log, &expected, error));
    if (objects.log == NULL ||
        (log_text_is(objects.log, "CREATE TABLE ", expected) && !log_is_older(&objects))) {
        return ANNEX_OK;
    }
    TRY(host_quote(scratch, log->schema, &schema, error));
    TRY(host_quote(scratch, log->log, &table, error));
    return host_run(host, error, "DROP TABLE %s.%s", schema, table);
}

annex_status sqlite_log_repair(struct host *host, const struct host_log *log, annex_error *error)
{
    struct arena scratch = {host->env, NULL};
    annex_status status = log_drop_triggers(host, log, &scratch, error);
    if (status == ANNEX_OK) {
        status = log_drop_changed(host, log, &scratch, error);
    }
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
