/*
 * cmd_similar.c - annex similar: what `llm similar` prints, from llm's own database.
 *
 * Options, output, messages and exit codes are those of llm. What llm needs a model for, content
 * that is to be embedded, is refused: vectors are what Annex knows.
 */
#include "commands.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "python_json.h"
#include "queries.h"

/* As llm prints an error. */
static int fail(const char *sentence)
{
    fprintf(stderr, "Error: %s\n", sentence);
    return EXIT_FAILED;
}

/* Where llm keeps its embeddings; freed by free(). */
static char *database_path(const struct session *session)
{
    const char *given = session_option(session, OPTION_DATABASE)->text;
    const char *set = getenv("LLM_EMBEDDINGS_DB");
    const char *folder = getenv("LLM_USER_PATH"), *config = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    const char *path = given != NULL ? given : set;
    char text[4096];
    if (path != NULL && path[0] != '\0') {
        snprintf(text, sizeof(text), "%s", path);
    } else if (folder != NULL && folder[0] != '\0') {
        snprintf(text, sizeof(text), "%s/embeddings.db", folder);
    } else if (config != NULL && config[0] != '\0') {
        snprintf(text, sizeof(text), "%s/io.datasette.llm/embeddings.db", config);
    } else {
        snprintf(text, sizeof(text), "%s/.config/io.datasette.llm/embeddings.db",
                 home != NULL ? home : "");
    }
    char *copy = session_memory(strlen(text) + 1, 1);
    memcpy(copy, text, strlen(text) + 1);
    return copy;
}

/* -n as llm takes it: an integer of any sign. */
static bool parse_number(const char *text, int64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

/* Whether something is JSON that python_json can write. */
static bool is_json(const annex_value *value)
{
    json_t *json = json_loadb(value->data, value->bytes,
                              JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
    bool valid = json != NULL && memchr(value->data, '\0', value->bytes) == NULL;
    json_decref(json);
    return valid;
}

static void print_row(const annex_similar_row *row)
{
    fputs("{\"id\": ", stdout);
    python_text(stdout, row->id, row->id_bytes);
    fputs(", \"score\": ", stdout);
    python_real(stdout, row->score);
    fputs(", \"content\": ", stdout);
    if (row->content.type == ANNEX_NULL) {
        fputs("null", stdout);
    } else {
        python_text(stdout, row->content.data, row->content.bytes);
    }
    fputs(", \"metadata\": ", stdout);
    if (row->metadata.bytes == 0) {
        fputs("null", stdout);
    } else {
        python_json(stdout, row->metadata.data, row->metadata.bytes);
    }
    fputs("}\n", stdout);
}

/* Values that Python takes for nothing: {}, [], "", 0, false, null. */
static bool is_empty(const annex_value *value)
{
    json_t *json = json_loadb(value->data, value->bytes,
                              JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
    bool empty = json == NULL || json_is_null(json) || json_is_false(json) ||
                 (json_is_object(json) && json_object_size(json) == 0) ||
                 (json_is_array(json) && json_array_size(json) == 0) ||
                 (json_is_string(json) && json_string_length(json) == 0) ||
                 (json_is_number(json) && json_number_value(json) == 0);
    json_decref(json);
    return empty;
}

static void print_plain(const annex_similar_row *row)
{
    fwrite(row->id, 1, row->id_bytes, stdout);
    fputs(" (", stdout);
    python_real(stdout, row->score);
    fputs(")\n\n", stdout);
    if (row->content.bytes > 0) {
        python_indent(stdout, row->content.data, row->content.bytes);
        putchar('\n');
    }
    if (row->metadata.bytes > 0 && !is_empty(&row->metadata)) {
        fputs("  ", stdout);
        python_json(stdout, row->metadata.data, row->metadata.bytes);
        putchar('\n');
    }
    putchar('\n');
}

static int print_all(const struct session *session, const annex_similar *result)
{
    bool plain = session_has(session, OPTION_PLAIN);
    for (size_t i = 0; i < annex_similar_count(result); i++) {
        const annex_similar_row *row = annex_similar_at(result, i);
        if (row->metadata.bytes > 0 && !is_json(&row->metadata)) {
            fprintf(stderr, "Error: the metadata of %s is not JSON\n", row->id);
            return EXIT_FAILED;
        }
    }
    for (size_t i = 0; i < annex_similar_count(result); i++) {
        (plain ? print_plain : print_row)(annex_similar_at(result, i));
    }
    return EXIT_OK;
}

/* --vector as doubles, which is what llm compares with; freed by free(). */
static annex_status parse_vector(const char *text, double **vector, size_t *n, annex_error *error)
{
    struct queries queries = {0};
    annex_status status = queries_parse(text, &queries, error);
    json_t *json = status == ANNEX_OK ? json_loads(queries.text, 0, NULL) : NULL;
    if (status == ANNEX_OK && json == NULL) {
        status = session_error(error, ANNEX_INVALID, "the vector is not a JSON array of numbers");
    }
    *n = json_array_size(json);
    *vector = session_memory(*n + 1, sizeof(**vector));
    for (size_t i = 0; i < *n; i++) {
        (*vector)[i] = json_number_value(json_array_get(json, i));
    }
    json_decref(json);
    queries_free(&queries);
    return status;
}

static int ask(struct session *session, const char *path, const annex_db_similar_request *request)
{
    annex_error error = {0};
    annex_db *db = NULL;
    annex_similar *result = NULL;
    annex_status status = annex_db_open(&session->env, path, ANNEX_DB_READ_ONLY, &db, &error);
    if (status == ANNEX_NOT_FOUND) { /* llm makes the file, and finds it empty */
        return fail("No embeddings table found in database");
    }
    if (status == ANNEX_OK) {
        status = target_load_engines(session, db, &error);
    }
    if (status == ANNEX_OK) {
        status = annex_db_similar(db, request, &result, &error);
    }
    int code = status != ANNEX_OK ? fail(error.message) : print_all(session, result);
    annex_similar_free(result);
    annex_db_close(db);
    return code;
}

/* What there is no model for. */
static int refuse_content(const struct session *session)
{
    if (session_has(session, OPTION_CONTENT) || session_has(session, OPTION_INPUT)) {
        return fail("annex has no embedding model: give an ID, or the vector of the content with "
                    "--vector; the plug-in annex[llm] lets llm similar embed it and search here");
    }
    return fail("Must provide content or an ID for the comparison");
}

/* The options but for the question itself; false after a usage error. */
static bool read_request(const struct session *session, annex_db_similar_request *request,
                         char options[64])
{
    const char *number = session_option(session, OPTION_NUMBER)->text;
    request->collection = session->arguments.operands[0];
    request->prefix = session_option(session, OPTION_PREFIX)->text;
    request->index = session_option(session, OPTION_INDEX)->text;
    if (number != NULL && !parse_number(number, &request->number)) {
        session_usage("--number is an integer, not \"%s\"", number);
        return false;
    }
    if (session_has(session, OPTION_RECALL)) {
        snprintf(options, 64, "{\"recall\": %.17g}", session_option(session, OPTION_RECALL)->real);
        request->options = options;
    }
    return true;
}

static int run(struct session *session)
{
    annex_db_similar_request request = ANNEX_DB_SIMILAR_REQUEST_INIT;
    const char *id = session->arguments.operands[1];
    annex_error error = {0};
    double *vector = NULL;
    char options[64];
    bool has_id = id != NULL && id[0] != '\0';
    if (!read_request(session, &request, options)) {
        return EXIT_USAGE;
    }
    if (!has_id && !session_has(session, OPTION_QUERY)) {
        return refuse_content(session);
    }
    if (has_id) {
        request.id = id;
    } else if (parse_vector(session_option(session, OPTION_QUERY)->text, &vector,
                            &request.dimension, &error) != ANNEX_OK) {
        free(vector);
        return fail(error.message);
    }
    request.vector = vector;
    char *path = database_path(session);
    int code = ask(session, path, &request);
    free(path);
    free(vector);
    return code;
}

const struct command command_similar = {
    .id = COMMAND_SIMILAR,
    .name = "similar",
    .operands = "COLLECTION [ID]",
    .least_operands = 1,
    .most_operands = 2,
    .summary = "what llm similar gives, from llm's database",
    .description =
        "Prints the items of a collection of llm that are most like the item ID, or like\n"
        "--vector: the same lines as llm similar, from the default index of the collection\n"
        "where there is one, else from all items. Nothing is embedded: for --content use\n"
        "llm similar with the plug-in.",
    .examples = "annex similar posts post-17 -d embeddings.db -n 3\n"
                "annex similar posts post-17 --prefix 2024/ --plain\n"
                "llm embed -m 3-small -c 'vector indexes' | annex similar posts --vector -",
    .run = run,
};
