/* cmd_import.c - annex import: vectors and keys from files into a table or a collection of llm. */
#include "commands.h"

#include <string.h>

#include "progress.h"
#include "transfer/transfer.h"

/* NULL, or what is wrong with the options. */
static const char *find_misuse(const struct session *session)
{
    bool table = session_has(session, OPTION_TABLE);
    if (table == session_has(session, OPTION_LLM_COLLECTION)) {
        return "annex import fills --table or --llm-collection: one of the two";
    }
    if (session_has(session, OPTION_REPLACE) && session_has(session, OPTION_IGNORE)) {
        return "--replace and --ignore exclude each other";
    }
    if (table && session_has(session, OPTION_MODEL)) {
        return "--model is for --llm-collection; annex create --model names that of a table";
    }
    if (!table && (session_has(session, OPTION_VECTOR) || session_has(session, OPTION_KEY) ||
                   session_has(session, OPTION_CONTENT) || session_has(session, OPTION_METADATA))) {
        return "a collection of llm has columns of its own; --table has others";
    }
    return NULL;
}

static annex_status open_source(struct session *session, struct items **source, annex_error *error)
{
    const char *path = session->arguments.operands[1];
    const char *format = session_option(session, OPTION_FORMAT)->text;
    bool npy = format != NULL ? strcmp(format, "npy") == 0 : transfer_ends_with(path, ".npy");
    if (npy) {
        return items_open_npy(session, path, source, error);
    }
    if (format == NULL && strcmp(path, "-") != 0 && !transfer_ends_with(path, ".jsonl") &&
        !transfer_ends_with(path, ".nl") && !transfer_ends_with(path, ".ndjson")) {
        return session_error(error, ANNEX_INVALID,
                             "cannot tell what %s holds: --format npy or --format jsonl", path);
    }
    return items_open_jsonl(path, source, error);
}

static void print_report(const struct session *session, const struct sink *sink, double seconds)
{
    bool table = session_has(session, OPTION_TABLE);
    struct record record;
    record_begin(&record, session->mode);
    record_text(&record, table ? "table" : "collection",
                session_option(session, table ? OPTION_TABLE : OPTION_LLM_COLLECTION)->text);
    record_count(&record, "rows", sink->added + sink->replaced + sink->ignored);
    record_count(&record, "added", sink->added);
    record_count(&record, "replaced", sink->replaced);
    record_count(&record, "ignored", sink->ignored);
    record_count(&record, "dimension", sink->dimension);
    record_real(&record, "seconds", seconds);
    record_end(&record);
}

static int run(struct session *session)
{
    const char *misuse = find_misuse(session);
    if (misuse != NULL) {
        return session_usage("%s", misuse);
    }
    annex_error error = {0};
    struct items *source = NULL;
    struct sink *sink = NULL;
    double start = progress_clock();
    annex_status status = open_source(session, &source, &error);
    if (status == ANNEX_OK) {
        status = session_has(session, OPTION_TABLE)
                     ? sink_open_table(session, source, &sink, &error)
                     : sink_open_llm(session, source, &sink, &error);
    }
    if (status == ANNEX_OK) {
        status = transfer_run(source, sink, "importing", &error);
    }
    if (status == ANNEX_OK) {
        progress_clear();
        print_report(session, sink, progress_clock() - start);
    }
    sink_close(sink);
    items_close(source);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

const struct command command_import = {
    .id = COMMAND_IMPORT,
    .name = "import",
    .operands = "DATABASE FILE",
    .least_operands = 2,
    .most_operands = 2,
    .summary = "fill a table or collection from .npy or JSON lines",
    .description =
        "FILE is what annex export writes: a .npy with its keys beside it, or JSON lines, an\n"
        "object with id, embedding, content and metadata each; - reads those from standard\n"
        "input. Vectors become blobs of f32 in a table, which is made when there is none, or\n"
        "items of a collection of llm, in the tables that llm itself makes.\n"
        "All of it is imported, or nothing: a wrong vector, a broken line or a key that is\n"
        "there already leaves the database as it was. Indexes of the table see the rows at\n"
        "once.",
    .examples = "annex import docs.db docs.npy --table docs\n"
                "annex import docs.db docs.jsonl --table docs --key slug --replace\n"
                "annex import embeddings.db posts.jsonl --llm-collection posts --model 3-small",
    .run = run,
};
