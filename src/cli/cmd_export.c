/* cmd_export.c - annex export: an index, a table or a collection into files of other programs. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "progress.h"
#include "transfer/transfer.h"

enum export_format { EXPORT_NPY, EXPORT_JSONL, EXPORT_LLM };

static enum export_format choose_format(const struct session *session, const char *output)
{
    const char *format = session_option(session, OPTION_FORMAT)->text;
    if (format == NULL) {
        bool lines = transfer_ends_with(output, ".jsonl") || strcmp(output, "-") == 0;
        return lines ? EXPORT_JSONL : EXPORT_NPY;
    }
    return strcmp(format, "llm") == 0     ? EXPORT_LLM
           : strcmp(format, "jsonl") == 0 ? EXPORT_JSONL
                                          : EXPORT_NPY;
}

/* NULL, or what is wrong with the options. */
static const char *find_misuse(const struct session *session)
{
    bool table = session_has(session, OPTION_TABLE);
    bool collection = session_has(session, OPTION_LLM_COLLECTION);
    bool index = session->arguments.n_operands > 1;
    bool file = target_is_index_file(session->arguments.operands[0]);
    if (!session_has(session, OPTION_OUTPUT)) {
        return "annex export needs -o, the file to write, such as posts.npy or posts.jsonl";
    }
    if (strcmp(session_option(session, OPTION_OUTPUT)->text, "-") == 0 &&
        choose_format(session, "-") == EXPORT_NPY) {
        return "standard output takes JSON lines; .npy needs the name of a file";
    }
    if (table + collection + index > 1) {
        return "an index, --table and --llm-collection exclude each other";
    }
    if (file && (table || collection || index || session_has(session, OPTION_WHERE) ||
                 session_has(session, OPTION_CONTENT) || session_has(session, OPTION_METADATA))) {
        return "an index file has vectors and keys only: no table, index, content or condition";
    }
    if (table != session_has(session, OPTION_VECTOR) ||
        (!table && session_has(session, OPTION_KEY))) {
        return "--table needs --vector, the column to export; --vector and --key need --table";
    }
    if (collection &&
        (session_has(session, OPTION_CONTENT) || session_has(session, OPTION_METADATA))) {
        return "a collection of llm has columns of its own for content and metadata";
    }
    if (!table && session_has(session, OPTION_VECTOR_FORMAT)) {
        return "--vector-format is for --table: an index knows how its column stores vectors";
    }
    return NULL;
}

static void print_report(const struct session *session, const char *output, const char *keys,
                         const struct items *source, const struct sink *sink, double seconds)
{
    struct record record;
    record_begin(&record, session->mode);
    record_text(&record, "file", output);
    if (keys[0] != '\0') {
        record_text(&record, "keys", keys);
    }
    record_count(&record, "rows", sink->added);
    record_count(&record, "without_vector", source->skipped);
    record_count(&record, "dimension", sink->dimension);
    record_real(&record, "seconds", seconds);
    record_end(&record);
}

static annex_status open_source(struct session *session, struct items **source, annex_error *error)
{
    return target_is_index_file(session->arguments.operands[0])
               ? items_open_index(session, source, error)
               : items_open_rows(session, source, error);
}

static annex_status open_sink(struct session *session, const char *output,
                              const struct items *source, struct sink **sink, char keys[4096],
                              annex_error *error)
{
    enum export_format format = choose_format(session, output);
    if (format == EXPORT_NPY) {
        return sink_open_npy(session, output, source, sink, keys, error);
    }
    return sink_open_jsonl(session, output, source, format == EXPORT_LLM, sink, error);
}

static int run(struct session *session)
{
    const char *misuse = find_misuse(session),
               *typed = session_option(session, OPTION_OUTPUT)->text;
    if (misuse != NULL) {
        return session_usage("%s", misuse);
    }
    annex_error error = {0};
    struct items *source = NULL;
    struct sink *sink = NULL;
    char output[4096], keys[4096] = "";
    double start = progress_clock();
    bool named = choose_format(session, typed) != EXPORT_NPY || transfer_ends_with(typed, ".npy");
    if (snprintf(output, sizeof(output), "%s%s", typed, named ? "" : ".npy") >=
        (int)sizeof(output)) {
        return session_usage("the name of the output is too long");
    }
    annex_status status = open_source(session, &source, &error);
    if (status == ANNEX_OK) {
        status = open_sink(session, output, source, &sink, keys, &error);
    }
    if (status == ANNEX_OK) {
        status = transfer_run(source, sink, "exporting", &error);
    }
    if (status == ANNEX_OK) {
        progress_clear();
        if (strcmp(output, "-") != 0) {
            print_report(session, output, keys, source, sink, progress_clock() - start);
        }
    }
    sink_close(sink);
    items_close(source);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

const struct command command_export = {
    .id = COMMAND_EXPORT,
    .name = "export",
    .operands = "TARGET [INDEX]",
    .least_operands = 1,
    .most_operands = 2,
    .summary = "write vectors and keys as .npy or JSON lines",
    .description =
        "TARGET is an index file that stores its vectors, or a database: then the vectors of\n"
        "an index come from its table as it is now, or with --table or --llm-collection from\n"
        "rows that need no index.\n"
        "OUT.npy holds the vectors as f32, one row each; the keys are beside it, integers in\n"
        "OUT.keys.npy, all others in OUT.keys.jsonl. OUT.jsonl has an object for each row:\n"
        "id, embedding, and content and metadata where there are any; --format llm writes\n"
        "what llm embed-multi reads, ids and content. Any number of rows takes the same\n"
        "memory; files appear when they are complete.",
    .examples = "annex export docs.db docs_idx -o docs.npy\n"
                "annex export embeddings.db --llm-collection posts -o posts.jsonl\n"
                "annex export docs.db --table docs --vector embedding -o docs.jsonl\n"
                "annex export my.annex -o my.npy --force --json",
    .run = run,
};
