/* cmd_optimize.c - annex optimize. */
#include "commands.h"

static int run(struct session *session)
{
    return sync_run(session, annex_db_optimize);
}

const struct command command_optimize = {
    .id = COMMAND_OPTIMIZE,
    .name = "optimize",
    .operands = "DATABASE [INDEX]",
    .least_operands = 1,
    .most_operands = 2,
    .summary = "merge an index into one segment",
    .description =
        "Every sync adds a segment or rewrites a small one. After many of them one segment\n"
        "is smaller and faster. It takes about as long as creating the index.\n"
        "Without INDEX all indexes of the database are optimized.",
    .examples = "annex optimize docs.db docs_idx",
    .run = run,
};
