/*
 * sqlite_repair.c - makes the change log of a SQLite table good again, or drops it.
 *
 * Invariants
 *   1. The triggers are always made anew; a log that is as it must be keeps its rows.
 *   2. A log that cannot be dropped, since somebody reads, is emptied and gets another name; the
 *      next repair drops it.
 */
#include "host/sqlite_host.h"

static annex_status log_drop_triggers(struct host *host, const struct host_log *log,
                                      struct arena *scratch, annex_error *error)
{
    const char *schema = NULL, *name = NULL, *trigger = NULL;
    TRY(host_quote(scratch, log->schema, &schema, error));
    for (size_t i = 0; i < SQLITE_LOG_TRIGGERS; i++) {
        TRY(arena_printf(scratch, &name, error, "%s%s", log->log, sqlite_log_suffixes[i]));
        TRY(host_quote(scratch, name, &trigger, error));
        TRY(host_run(host, error, "DROP TRIGGER IF EXISTS %s.%s", schema, trigger));
    }
    return ANNEX_OK;
}

/*
 * SQLite drops no table while another statement of the connection reads, such as the one that calls
 * annex_sync for every index there is. A table that has to stay is emptied; *stays says so.
 */
static annex_status log_drop_table(struct host *host, const char *table, bool *stays,
                                   annex_error *error)
{
    annex_error why = {ANNEX_OK, ""};
    annex_status status = host_run(host, &why, "DROP TABLE IF EXISTS %s", table);
    *stays = status == ANNEX_BUSY;
    if (*stays) {
        return host_run(host, error, "DELETE FROM %s", table);
    }
    return status == ANNEX_OK ? status : error_set(error, status, "%s", why.message);
}

/* Drops logs that had to stay; they are called annex_log_7_left_<a number>. */
static annex_status log_drop_left(struct host *host, const struct host_log *log, const char *schema,
                                  struct arena *scratch, annex_error *error)
{
    enum { MOST = 8 };
    struct host_statement *statement = NULL;
    const char *tables[MOST];
    size_t n = 0;
    bool row = true, stays = false;
    annex_status status = host_prepare(host, &statement, error,
                                       "SELECT name FROM %s.sqlite_schema "
                                       "WHERE type = 'table' AND instr(name, ?1 || '_left_') = 1",
                                       schema);
    TRY_CLEANUP(status);
    TRY_CLEANUP(host_bind_text(host, statement, 1, log->log, error));
    while (n < MOST) {
        const char *name = NULL;
        TRY_CLEANUP(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        TRY_CLEANUP(host_text(host, statement, 0, scratch, &name, error));
        TRY_CLEANUP(host_quote(scratch, name, &name, error));
        TRY_CLEANUP(arena_printf(scratch, &tables[n++], error, "%s.%s", schema, name));
    }
cleanup:
    host->type->finish(statement); /* before the first DROP: it reads, too */
    for (size_t i = 0; status == ANNEX_OK && i < n; i++) {
        status = log_drop_table(host, tables[i], &stays, error);
    }
    return status;
}

/* A log that is not as it must be, or older than the table, goes; another one keeps its rows. */
static annex_status log_drop_outdated(struct host *host, const struct host_log *log,
                                      struct arena *scratch, annex_error *error)
{
    const char *schema = NULL, *table = NULL;
    int64_t place = 0;
    bool outdated = false, stays = false;
    TRY(sqlite_log_outdated(host, log, scratch, &outdated, &place, error));
    TRY(host_quote(scratch, log->schema, &schema, error));
    TRY(host_quote(scratch, log->log, &table, error));
    TRY(log_drop_left(host, log, schema, scratch, error));
    if (!outdated) {
        return ANNEX_OK;
    }
    TRY(arena_printf(scratch, &table, error, "%s.%s", schema, table));
    TRY(log_drop_table(host, table, &stays, error));
    return stays ? host_run(host, error, "ALTER TABLE %s RENAME TO \"%s_left_%lld\"", table,
                            log->log, (long long)place)
                 : ANNEX_OK;
}

annex_status sqlite_log_repair(struct host *host, const struct host_log *log, annex_error *error)
{
    struct arena scratch = {host->env, NULL};
    annex_status status = log_drop_triggers(host, log, &scratch, error);
    if (status == ANNEX_OK) {
        status = log_drop_outdated(host, log, &scratch, error);
    }
    arena_free(&scratch);
    return status == ANNEX_OK ? sqlite_log_create(host, log, error) : status;
}

annex_status sqlite_log_drop(struct host *host, const struct host_log *log, annex_error *error)
{
    struct arena scratch = {host->env, NULL};
    const char *schema = NULL, *table = NULL;
    bool stays = false;
    annex_status status = log_drop_triggers(host, log, &scratch, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(host_quote(&scratch, log->schema, &schema, error));
    TRY_CLEANUP(host_quote(&scratch, log->log, &table, error));
    TRY_CLEANUP(log_drop_left(host, log, schema, &scratch, error));
    TRY_CLEANUP(arena_printf(&scratch, &table, error, "%s.%s", schema, table));
    TRY_CLEANUP(log_drop_table(host, table, &stays, error));
cleanup:
    arena_free(&scratch);
    return status;
}
