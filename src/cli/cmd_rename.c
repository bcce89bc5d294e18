/* cmd_rename.c - annex rename. */
#include "commands.h"

static int run(struct session *session)
{
    annex_error error = {0};
    annex_db *db = NULL;
    const char *const *operands = session->arguments.operands;
    annex_status status = target_open_database(session, 0, &db, &error);
    if (status == ANNEX_OK) {
        status = annex_db_rename(db, operands[1], operands[2], &error);
    }
    annex_db_close(db);
    if (status != ANNEX_OK) {
        return session_fail(&error);
    }
    session_remark(session, "%s is now called %s", operands[1], operands[2]);
    return EXIT_OK;
}

const struct command command_rename = {
    .id = COMMAND_RENAME,
    .name = "rename",
    .operands = "DATABASE INDEX NEW_NAME",
    .least_operands = 3,
    .most_operands = 3,
    .summary = "give an index another name",
    .description = "Only the name changes; nothing is built.",
    .examples = "annex rename docs.db docs_idx documents",
    .run = run,
};
