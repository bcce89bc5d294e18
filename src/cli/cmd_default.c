/* cmd_default.c - annex default: the index that a table or collection stands for. */
#include "commands.h"

/* Which sources have one. */
static annex_status print_defaults(struct session *session, annex_db *db, annex_error *error)
{
    static const char *const columns[] = {"source", "index"};
    struct target_indexes indexes = {0};
    struct list list;
    annex_status status = target_indexes_get(session, db, &indexes, error);
    if (status == ANNEX_OK) {
        list_begin(&list, session->mode, columns, ARRAY_LENGTH(columns), false);
        for (size_t i = 0; i < indexes.n; i++) {
            if (indexes.first[i].is_default && indexes.first[i].n_sources == 0) {
                list_text(&list, indexes.first[i].source);
                list_text(&list, indexes.first[i].name);
            }
        }
        list_end(&list);
    }
    target_indexes_free(db, &indexes);
    return status;
}

static int run(struct session *session)
{
    annex_error error = {0};
    annex_db *db = NULL;
    bool off = session_has(session, OPTION_OFF);
    bool asks = session->arguments.n_operands == 1;
    const char *index = session->arguments.operands[1];
    if (asks && off) {
        return session_usage("--off needs the name of an index");
    }
    annex_status status = target_open_database(session, asks ? ANNEX_DB_READ_ONLY : 0, &db, &error);
    if (status == ANNEX_OK) {
        status =
            asks ? print_defaults(session, db, &error) : annex_db_default(db, index, !off, &error);
    }
    annex_db_close(db);
    if (status != ANNEX_OK) {
        return session_fail(&error);
    }
    if (!asks) {
        session_remark(session, off ? "%s is no default index now" : "%s is the default index now",
                       index);
    }
    return EXIT_OK;
}

const struct command command_default = {
    .id = COMMAND_DEFAULT,
    .name = "default",
    .operands = "DATABASE [INDEX]",
    .least_operands = 1,
    .most_operands = 2,
    .summary = "choose the index that a table or collection stands for",
    .description =
        "A search by the name of a table or of a collection uses its default index. INDEX\n"
        "becomes the default of all its sources at once, in one transaction: searches see\n"
        "the one index or the other. Without INDEX the defaults are listed.",
    .examples = "annex default docs.db docs_v2\n"
                "annex search docs.db docs --query '[0.1, 0.2, 0.3]'\n"
                "annex default docs.db docs_v2 --off",
    .run = run,
};
