/* cmd_check.c - annex check: is an index whole, and does it agree with its table? */
#include "commands.h"

static const char *const columns[] = {"index", "ok", "problem"};

static void put(struct list *list, const char *name, annex_status status, const annex_error *error)
{
    list_text(list, name);
    list_bool(list, status == ANNEX_OK);
    list_text(list, status == ANNEX_OK ? "" : error->message);
}

static int check_file(struct session *session)
{
    annex_error error = {0};
    annex_index *index = NULL;
    annex_status status = target_open_index(session, 0, &index, &error);
    if (status == ANNEX_OK) {
        status = annex_index_check(index, &error);
        annex_index_close(index);
    }
    if (status == ANNEX_OK || status == ANNEX_DAMAGED) {
        struct list list;
        list_begin(&list, session->mode, columns, ARRAY_LENGTH(columns), false);
        put(&list, session->arguments.operands[0], status, &error);
        list_end(&list);
    }
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

static int check_database(struct session *session)
{
    annex_error error = {0}, worst = {0};
    annex_db *db = NULL;
    struct target_indexes indexes = {0};
    annex_status status = target_open_database(session, ANNEX_DB_READ_ONLY, &db, &error);
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
    for (size_t i = 0; i < indexes.n && worst.status != ANNEX_CANCELLED; i++) {
        if (indexes.n > 1 && indexes.first[i].is_member) {
            continue; /* with the index it belongs to */
        }
        status = annex_db_check(db, indexes.first[i].name, &error);
        put(&list, indexes.first[i].name, status, &error);
        if (status != ANNEX_OK) {
            error.status = status;
            worst = error;
        }
    }
    list_end(&list);
    target_indexes_free(db, &indexes);
    annex_db_close(db);
    return worst.status == ANNEX_OK ? EXIT_OK : session_fail(&worst);
}

static int run(struct session *session)
{
    return target_is_index_file(session->arguments.operands[0]) ? check_file(session)
                                                                : check_database(session);
}

const struct command command_check = {
    .id = COMMAND_CHECK,
    .name = "check",
    .operands = "TARGET [INDEX]",
    .least_operands = 1,
    .most_operands = 2,
    .summary = "verify an index, byte by byte and row by row",
    .description =
        "Of an index file it reads everything: checksums, ids, keys, whether every row can\n"
        "be reached. Of a database also the triggers, the change log and every row of the\n"
        "table. Nothing is changed. The exit code is 4 when something is wrong; an index\n"
        "can always be made anew from its table: annex optimize.",
    .examples = "annex check docs.db\n"
                "annex check my.annex && cp my.annex /backup/",
    .run = run,
};
