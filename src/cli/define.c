/*
 * define.c - the options that define an index, as JSON for annex_db_create and annex_db_copy.
 *
 * What is said once holds for every table; what is said as often as --table, for one each.
 */
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
    {OPTION_METRIC, "metric"}, {OPTION_INDEX, "index"}, {OPTION_STORAGE, "storage"},
    {OPTION_FORMAT, "format"}, {OPTION_CODES, "codes"}, {OPTION_MODEL, "model"},
};
static const struct member counts[] = {
    {OPTION_DIMENSION, "dimension"},
    {OPTION_DEGREE, "degree"},
    {OPTION_BUILD_EFFORT, "effort"},
    {OPTION_THREADS, "threads"},
};

/* The value of an option for table `which`; "" when there is none. */
static const char *text_of(const struct session *session, enum option_id id, size_t which)
{
    const struct arguments *arguments = &session->arguments;
    size_t n = arguments_count(arguments, id);
    const char *text = arguments_text(arguments, id, n == 1 ? 0 : which);
    return text != NULL ? text : "";
}

/* What a source has of its own. */
static void put_source(struct emitter *json, const struct session *session, size_t which)
{
    const char *key = text_of(session, OPTION_KEY, which);
    const char *where = text_of(session, OPTION_WHERE, which);
    if (key[0] != '\0') {
        put_key(json, key);
    }
    if (where[0] != '\0') {
        emit_key(json, "where");
        emit_text(json, where);
    }
}

/* The tables behind the first one. */
static void put_sources(struct emitter *json, const struct session *session)
{
    size_t n = arguments_count(&session->arguments, OPTION_TABLE);
    if (n < 2) {
        return;
    }
    emit_key(json, "sources");
    emit_begin(json, '[');
    for (size_t i = 1; i < n; i++) {
        emit_begin(json, '{');
        emit_key(json, "table");
        emit_text(json, arguments_text(&session->arguments, OPTION_TABLE, i));
        emit_key(json, "column");
        emit_text(json, text_of(session, OPTION_VECTOR, i));
        put_source(json, session, i);
        emit_end(json, '}');
    }
    emit_end(json, ']');
}

static void put_collections(struct emitter *json, const struct session *session)
{
    const struct arguments *arguments = &session->arguments;
    size_t n = arguments_count(arguments, OPTION_LLM_COLLECTION);
    if (n == 0) {
        return;
    }
    emit_key(json, "llm_collection");
    if (n > 1) {
        emit_begin(json, '[');
    }
    for (size_t i = 0; i < n; i++) {
        emit_text(json, arguments_text(arguments, OPTION_LLM_COLLECTION, i));
    }
    if (n > 1) {
        emit_end(json, ']');
    }
}

static void put_all(struct emitter *json, const struct session *session)
{
    put_source(json, session, 0);
    if (session->arguments.command->id == COMMAND_COPY && session_has(session, OPTION_VECTOR)) {
        emit_key(json, "column");
        emit_text(json, text_of(session, OPTION_VECTOR, 0));
    }
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        if (session_has(session, texts[i].id)) {
            emit_key(json, texts[i].name);
            emit_text(json, session_option(session, texts[i].id)->text);
        }
    }
    for (size_t i = 0; i < ARRAY_LENGTH(counts); i++) {
        if (session_has(session, counts[i].id)) {
            emit_key(json, counts[i].name);
            emit_count(json, session_option(session, counts[i].id)->count);
        }
    }
    if (session_has(session, OPTION_RECALL)) {
        emit_key(json, "recall");
        emit_real(json, session_option(session, OPTION_RECALL)->real);
    }
    if (session_has(session, OPTION_ENGINE)) {
        emit_key(json, "engine");
        emit_text(json, session_option(session, OPTION_ENGINE)->text);
    }
    if (session_has(session, OPTION_ENGINE_OPTIONS)) {
        emit_key(json, "engine_options");
        emit_raw(json, session_option(session, OPTION_ENGINE_OPTIONS)->text);
    }
    if (session_has(session, OPTION_DEFAULT)) {
        emit_key(json, "default");
        emit_bool(json, true);
    }
    put_collections(json, session);
    put_sources(json, session);
}

char *define_options(const struct session *session)
{
    char *text = NULL;
    size_t bytes;
    FILE *stream = open_memstream(&text, &bytes);
    if (stream == NULL) {
        return NULL;
    }
    struct emitter json = EMITTER_INIT(stream);
    emit_begin(&json, '{');
    put_all(&json, session);
    emit_end(&json, '}');
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
