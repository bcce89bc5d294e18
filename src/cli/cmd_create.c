/* cmd_create.c - annex create: an index over a column of a table. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

/* "a" as a text, "a, b" as an array of texts. */
static void put_key(struct emitter *json, const char *columns)
{
    emit_key(json, "key");
    bool several = strchr(columns, ',') != NULL;
    if (several) {
        emit_begin(json, '[');
    }
    for (;;) {
        columns += strspn(columns, " ");
        size_t n = strcspn(columns, ","), length = n;
        while (length > 0 && columns[length - 1] == ' ') {
            length--;
        }
        emit_bytes(json, columns, length);
        if (columns[n] == '\0') {
            break;
        }
        columns += n + 1;
    }
    if (several) {
        emit_end(json, ']');
    }
}

/* Options of the command line and what annex_db_create calls them. */
struct member {
    enum option_id id;
    const char *name;
};
static const struct member texts[] = {
    {OPTION_WHERE, "where"},     {OPTION_METRIC, "metric"}, {OPTION_INDEX, "index"},
    {OPTION_STORAGE, "storage"}, {OPTION_FORMAT, "format"}, {OPTION_CODES, "codes"},
};
static const struct member counts[] = {
    {OPTION_DIMENSION, "dimension"},
    {OPTION_DEGREE, "degree"},
    {OPTION_BUILD_EFFORT, "effort"},
    {OPTION_THREADS, "threads"},
};

/* The options of annex_db_create, freed by free(); NULL when memory is out. */
static char *options_json(const struct session *session)
{
    char *text = NULL;
    size_t bytes;
    FILE *stream = open_memstream(&text, &bytes);
    if (stream == NULL) {
        return NULL;
    }
    struct emitter json = EMITTER_INIT(stream);
    emit_begin(&json, '{');
    if (session_has(session, OPTION_KEY)) {
        put_key(&json, session_option(session, OPTION_KEY)->text);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        if (session_has(session, texts[i].id)) {
            emit_key(&json, texts[i].name);
            emit_text(&json, session_option(session, texts[i].id)->text);
        }
    }
    for (size_t i = 0; i < ARRAY_LENGTH(counts); i++) {
        if (session_has(session, counts[i].id)) {
            emit_key(&json, counts[i].name);
            emit_count(&json, session_option(session, counts[i].id)->count);
        }
    }
    if (session_has(session, OPTION_RECALL)) {
        emit_key(&json, "recall");
        emit_real(&json, session_option(session, OPTION_RECALL)->real);
    }
    emit_end(&json, '}');
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static int run(struct session *session)
{
    if (!session_has(session, OPTION_TABLE) || !session_has(session, OPTION_VECTOR)) {
        return session_usage("annex create needs --table and --vector, the table and the column "
                             "that hold the vectors");
    }
    annex_error error = {0};
    annex_db *db = NULL;
    struct target_indexes indexes = {0};
    char *options = options_json(session);
    if (options == NULL) {
        session_error(&error, ANNEX_NOMEM, "out of memory");
        return session_fail(&error);
    }
    annex_status status = target_open_database(session, 0, &db, &error);
    if (status == ANNEX_OK) {
        status = annex_db_create(db, session->arguments.operands[1],
                                 session_option(session, OPTION_TABLE)->text,
                                 session_option(session, OPTION_VECTOR)->text, options, &error);
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
        "Format, dimension and kind of index are found out from the rows.",
    .examples = "annex create docs.db docs_idx --table docs --vector embedding --metric cosine\n"
                "annex create docs.db de_idx --table docs --vector embedding \\\n"
                "    --where \"lang = 'de'\" --recall 0.99",
    .run = run,
};
