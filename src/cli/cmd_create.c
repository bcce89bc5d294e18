/* cmd_create.c - annex create: an index over a column of a table, or of several tables. */
#include "commands.h"

#include <stdlib.h>

/* Refuses what cannot be told apart: options of one table, given for some of several. */
static int check_options(const struct session *session)
{
    static const struct {
        enum option_id id;
        const char *name;
    } each[] = {{OPTION_VECTOR, "vector"}, {OPTION_KEY, "key"}, {OPTION_WHERE, "where"}};
    size_t tables = arguments_count(&session->arguments, OPTION_TABLE);
    bool collection = session_has(session, OPTION_LLM_COLLECTION);
    if (collection && tables > 1) {
        return session_usage("--llm-collection is a source in the table embeddings; leave out "
                             "--table");
    }
    if (!collection && (tables == 0 || !session_has(session, OPTION_VECTOR))) {
        return session_usage("annex create needs --table and --vector, the table and the column "
                             "that hold the vectors, or --llm-collection");
    }
    for (size_t i = 0; i < ARRAY_LENGTH(each); i++) {
        size_t n = arguments_count(&session->arguments, each[i].id);
        if (n > 1 && n != tables) {
            return session_usage("give --%s once, or once for each --table", each[i].name);
        }
    }
    return EXIT_OK;
}

static int run(struct session *session)
{
    const char *table = arguments_text(&session->arguments, OPTION_TABLE, 0);
    const char *column = arguments_text(&session->arguments, OPTION_VECTOR, 0);
    annex_error error = {0};
    annex_db *db = NULL;
    struct target_indexes indexes = {0};
    int usage = check_options(session);
    if (usage != EXIT_OK) {
        return usage;
    }
    char *options = define_options(session);
    if (options == NULL) {
        session_error(&error, ANNEX_NOMEM, "out of memory");
        return session_fail(&error);
    }
    annex_status status = target_open_database(session, 0, &db, &error);
    if (status == ANNEX_OK) {
        status = annex_db_create(db, session->arguments.operands[1],
                                 table != NULL ? table : "embeddings",
                                 column != NULL ? column : "embedding", options, &error);
    }
    if (status == ANNEX_OK) {
        status = target_index_get(session, db, &indexes, &error);
    }
    if (status == ANNEX_OK) {
        info_print_index(session, indexes.first);
    }
    target_indexes_free(db, &indexes);
    annex_db_close(db);
    free(options);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

const struct command command_create = {
    .id = COMMAND_CREATE,
    .name = "create",
    .operands = "DATABASE INDEX",
    .least_operands = 2,
    .most_operands = 2,
    .summary = "index a column of vectors in a database",
    .description =
        "Builds an index named INDEX over --vector of --table. The table is not changed,\n"
        "and every program can go on writing to it: searches see its rows as they are.\n"
        "Format, dimension and kind of index are found out from the rows.\n"
        "With several --table or --llm-collection it is one index over all of them.",
    .examples = "annex create docs.db docs_idx --table docs --vector embedding --metric cosine\n"
                "annex create docs.db de_idx --table docs --vector embedding \\\n"
                "    --where \"lang = 'de'\" --recall 0.99\n"
                "annex create blog.db all --table posts --table tils --vector embedding\n"
                "annex create embeddings.db posts-idx --llm-collection posts --default",
    .run = run,
};
