/* cmd_drop.c - annex drop. */
#include "commands.h"

static int run(struct session *session)
{
    annex_error error = {0};
    annex_db *db = NULL;
    const char *const *operands = session->arguments.operands;
    annex_status status = target_open_database(session, 0, &db, &error);
    if (status == ANNEX_OK) {
        status = annex_db_drop(db, operands[1], &error);
    }
    annex_db_close(db);
    if (status != ANNEX_OK) {
        return session_fail(&error);
    }
    session_remark(session, "dropped %s; its table is as it was", operands[1]);
    return EXIT_OK;
}

const struct command command_drop = {
    .id = COMMAND_DROP,
    .name = "drop",
    .operands = "DATABASE INDEX",
    .least_operands = 2,
    .most_operands = 2,
    .summary = "remove an index",
    .description = "Removes the index, its triggers and its change log. The table stays as it is.\n"
                   "The space in the database file is free for other use; VACUUM gives it back.",
    .examples = "annex drop docs.db docs_idx",
    .run = run,
};
