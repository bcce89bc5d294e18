/* cmd_sync.c - annex sync, and what it shares with annex optimize. */
#include "commands.h"

static const char *const columns[] = {"index",    "inserted", "deleted",
                                      "segments", "rebuilt",  "swept"};

int sync_run(struct session *session, maintenance work)
{
    annex_error error = {0};
    annex_db *db = NULL;
    struct target_indexes indexes = {0};
    annex_status status = target_open_database(session, 0, &db, &error);
    if (status == ANNEX_OK) {
        status = target_indexes_get(session, db, &indexes, &error);
    }
    if (status != ANNEX_OK) {
        target_indexes_free(db, &indexes);
        annex_db_close(db);
        return session_fail(&error);
    }
    struct list list;
    list_begin(&list, session->mode, columns, ARRAY_LENGTH(columns), false);
    for (size_t i = 0; i < indexes.n && status == ANNEX_OK; i++) {
        annex_sync_report report = {0};
        if (indexes.n > 1 && indexes.first[i].is_member) {
            continue; /* with the index it belongs to */
        }
        status = work(db, indexes.first[i].name, &report, &error);
        if (status == ANNEX_OK) {
            list_text(&list, indexes.first[i].name);
            list_count(&list, report.inserted);
            list_count(&list, report.deleted);
            list_count(&list, report.segments);
            list_bool(&list, report.rebuilt != 0);
            list_bool(&list, report.swept != 0);
        }
    }
    list_end(&list); /* what was done stays done, also when a later index fails */
    target_indexes_free(db, &indexes);
    annex_db_close(db);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

static int run(struct session *session)
{
    return sync_run(session, annex_db_sync);
}

const struct command command_sync = {
    .id = COMMAND_SYNC,
    .name = "sync",
    .operands = "DATABASE [INDEX]",
    .least_operands = 1,
    .most_operands = 2,
    .summary = "move changed rows into the index",
    .description =
        "Searches are right without it: rows that changed since the last sync are searched\n"
        "one by one. Many such rows make searches slower, and sync makes them fast again.\n"
        "Without INDEX all indexes of the database are synced.",
    .examples = "annex sync docs.db\n"
                "annex sync docs.db docs_idx --json",
    .run = run,
};
