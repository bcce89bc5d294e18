/*
 * sqlite_inspect.c - whether triggers and log of an index are those that sqlite_log.c would make,
 * in the snapshot of the caller.
 *
 * Invariants
 *   1. Everything that is compared goes into the fingerprint, so that the same fingerprint needs no
 *      second look.
 *   2. Renamed columns are followed only when all texts are ours under the new names.
 */
#include "host/sqlite_host.h"

/* ---- what is there now ------------------------------------------------------------------------*/

enum { LOG_MOST_BESIDE = 8 };

/* Texts of sqlite_schema; NULL: not there. */
struct log_objects {
    const char *log;
    const char *triggers[SQLITE_LOG_TRIGGERS];
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
    for (size_t i = 0; i < SQLITE_LOG_TRIGGERS; i++) {
        if (strncmp(name, log->log, prefix) == 0 &&
            strcmp(name + prefix, sqlite_log_suffixes[i]) == 0) {
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
    for (size_t i = 0; i < SQLITE_LOG_TRIGGERS; i++) {
        if (objects->triggers[i] == NULL) {
            return arena_printf(arena, what, error, "the trigger %s%s", log->log,
                                sqlite_log_suffixes[i]);
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
    for (size_t i = 0; i < SQLITE_LOG_TRIGGERS; i++) {
        TRY(sqlite_log_trigger_text(arena, log, i, &expected, error));
        if (!log_text_is(objects->triggers[i], "CREATE TRIGGER ", expected)) {
            return arena_printf(arena, what, error, "the trigger %s%s", log->log,
                                sqlite_log_suffixes[i]);
        }
    }
    TRY(sqlite_log_table_text(arena, log, &expected, error));
    if (!log_text_is(objects->log, "CREATE TABLE ", expected)) {
        return arena_printf(arena, what, error, "the table %s", log->log);
    }
    return ANNEX_OK;
}

annex_status sqlite_log_outdated(struct host *host, const struct host_log *log, struct arena *arena,
                                 bool *outdated, int64_t *place, annex_error *error)
{
    struct log_objects objects;
    const char *expected = NULL;
    TRY(log_read(host, log, arena, &objects, error));
    TRY(sqlite_log_table_text(arena, log, &expected, error));
    *place = objects.log_place;
    *outdated = objects.log != NULL &&
                (!log_text_is(objects.log, "CREATE TABLE ", expected) || log_is_older(&objects));
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
