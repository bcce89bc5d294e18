/* cmd_copy.c - annex copy: another index of the same definition. */
#include "commands.h"

#include <stdlib.h>

static int run(struct session *session)
{
    annex_error error = {0};
    annex_db *db = NULL;
    struct target_indexes indexes = {0};
    const char *const *operands = session->arguments.operands;
    char *changes = define_options(session);
    if (changes == NULL) {
        session_error(&error, ANNEX_NOMEM, "out of memory");
        return session_fail(&error);
    }
    annex_status status = target_open_database(session, 0, &db, &error);
    if (status == ANNEX_OK) {
        status = annex_db_copy(db, operands[1], operands[2], changes, &error);
    }
    if (status == ANNEX_OK) {
        status = target_index_named(session, db, operands[2], &indexes, &error);
    }
    if (status == ANNEX_OK) {
        info_print_index(session, indexes.first);
    }
    target_indexes_free(db, &indexes);
    annex_db_close(db);
    free(changes);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

const struct command command_copy = {
    .id = COMMAND_COPY,
    .name = "copy",
    .operands = "DATABASE INDEX NEW_NAME",
    .least_operands = 3,
    .most_operands = 3,
    .summary = "build another index of the same definition",
    .description = "Builds NEW_NAME over the sources of INDEX as they are now. Options that are\n"
                   "given are changed: another kind of index to compare with, or the vectors of\n"
                   "another model. INDEX stays; annex default makes the switch.",
    .examples = "annex copy docs.db docs_idx trial --index ivf\n"
                "annex copy docs.db docs_idx docs_v2 --vector embedding_v2 --model v2\n"
                "annex default docs.db docs_v2",
    .run = run,
};
