/*
 * definition.c - what an index is: the options of annex_db_create as a person writes them, and the
 * complete definition as the catalog keeps it. Both are JSON objects read through one table of
 * members, so that each name, type and bound stands once.
 *
 * Invariants
 *   1. A definition that was read has every member within its bounds, wherever the text came from.
 *   2. definition_read(definition_write(d)) equals d.
 */
#include "catalog/catalog.h"

#include <jansson.h>

/* ---- members ---------------------------------------------------------------------------------*/

struct member_reader {
    struct arena *arena;
    struct definition *definition;
    const char *name;
    annex_error *error;
};

typedef annex_status (*member_read)(struct member_reader *reader, json_t *value);

static annex_status member_wrong(struct member_reader *reader, const char *expected)
{
    return error_set(reader->error, ANNEX_INVALID, "the option \"%s\" must be %s", reader->name,
                     expected);
}

static annex_status member_text(struct member_reader *reader, json_t *value, const char **out)
{
    if (!json_is_string(value)) {
        return member_wrong(reader, "a string");
    }
    const char *text = json_string_value(value);
    size_t bytes = json_string_length(value);
    if (memchr(text, '\0', bytes) != NULL) {
        return member_wrong(reader, "a string without zero characters");
    }
    return arena_text(reader->arena, text, bytes, out, reader->error);
}

static annex_status member_number(struct member_reader *reader, json_t *value, uint32_t least,
                                  uint32_t most, uint32_t *out)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < least || number > most) {
        return error_set(reader->error, ANNEX_INVALID,
                         "the option \"%s\" must be an integer from %u to %u", reader->name, least,
                         most);
    }
    *out = (uint32_t)number;
    return ANNEX_OK;
}

static annex_status read_key(struct member_reader *reader, json_t *value)
{
    struct definition *definition = reader->definition;
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n == 0 || n > ANNEX_MAX_KEY_COLUMNS) {
        return member_wrong(reader, "the name of a column, or an array of 1 to 8 names");
    }
    for (size_t i = 0; i < n; i++) {
        json_t *name = json_is_array(value) ? json_array_get(value, i) : value;
        TRY(member_text(reader, name, &definition->keys[i]));
        for (size_t j = 0; j < i; j++) {
            if (strcmp(definition->keys[i], definition->keys[j]) == 0) {
                return error_set(reader->error, ANNEX_INVALID, "the key names column %s twice",
                                 definition->keys[i]);
            }
        }
    }
    definition->n_keys = n;
    return ANNEX_OK;
}

static annex_status read_where(struct member_reader *reader, json_t *value)
{
    return member_text(reader, value, &reader->definition->where);
}

static annex_status read_model(struct member_reader *reader, json_t *value)
{
    return member_text(reader, value, &reader->definition->model);
}

static annex_status read_metric(struct member_reader *reader, json_t *value)
{
    const char *text = NULL;
    TRY(member_text(reader, value, &text));
    return annex_metric_parse(text, &reader->definition->metric, reader->error);
}

static annex_status read_format(struct member_reader *reader, json_t *value)
{
    const char *text = NULL;
    TRY(member_text(reader, value, &text));
    return annex_format_parse(text, &reader->definition->format, reader->error);
}

static annex_status read_index(struct member_reader *reader, json_t *value)
{
    const char *text = NULL;
    TRY(member_text(reader, value, &text));
    if (annex_family_parse(text, &reader->definition->family, NULL) != ANNEX_OK) {
        return member_wrong(reader, "\"auto\", \"flat\", \"graph\" or \"ivf\"");
    }
    return ANNEX_OK;
}

static annex_status read_codes(struct member_reader *reader, json_t *value)
{
    const char *text = NULL;
    TRY(member_text(reader, value, &text));
    return annex_codes_parse(text, &reader->definition->codes, reader->error);
}

static annex_status read_storage(struct member_reader *reader, json_t *value)
{
    const char *text = NULL;
    TRY(member_text(reader, value, &text));
    if (strcmp(text, "database") != 0 && strcmp(text, "file") != 0) {
        return member_wrong(reader, "\"database\" or \"file\"");
    }
    reader->definition->in_file = text[0] == 'f';
    return ANNEX_OK;
}

static annex_status read_recall(struct member_reader *reader, json_t *value)
{
    double recall = json_number_value(value);
    if (!json_is_number(value) || !(recall > 0) || recall > 1) {
        return member_wrong(reader, "a number above 0 and at most 1");
    }
    reader->definition->recall = recall;
    return ANNEX_OK;
}

static annex_status read_dimension(struct member_reader *reader, json_t *value)
{
    return member_number(reader, value, 1, ANNEX_MAX_DIMENSION, &reader->definition->dimension);
}

static annex_status read_degree(struct member_reader *reader, json_t *value)
{
    TRY(member_number(reader, value, 8, 128, &reader->definition->degree));
    return reader->definition->degree % 8 == 0 ? ANNEX_OK : member_wrong(reader, "a multiple of 8");
}

static annex_status read_effort(struct member_reader *reader, json_t *value)
{
    return member_number(reader, value, 4, 65536, &reader->definition->effort);
}

static annex_status read_threads(struct member_reader *reader, json_t *value)
{
    return member_number(reader, value, 0, 1024, &reader->definition->threads);
}

static annex_status read_collection(struct member_reader *reader, json_t *value)
{
    TRY(member_text(reader, value, &reader->definition->collection));
    return reader->definition->collection[0] != '\0'
               ? ANNEX_OK
               : member_wrong(reader, "the name of a collection");
}

static annex_status member_boolean(struct member_reader *reader, json_t *value, bool *out)
{
    if (!json_is_boolean(value)) {
        return member_wrong(reader, "true or false");
    }
    *out = json_is_true(value);
    return ANNEX_OK;
}

static annex_status read_default(struct member_reader *reader, json_t *value)
{
    return member_boolean(reader, value, &reader->definition->is_default);
}

static annex_status read_engine(struct member_reader *reader, json_t *value)
{
    const char *text = NULL;
    TRY(member_text(reader, value, &text));
    if (strcmp(text, annex_engine_native()->name) == 0) {
        text = "";
    } else if (!engine_name_is_valid(text)) {
        return member_wrong(reader, "the name of an engine, such as \"annex\"");
    }
    reader->definition->engine = text;
    return ANNEX_OK;
}

static annex_status read_engine_options(struct member_reader *reader, json_t *value)
{
    char *text = NULL;
    if (!json_is_object(value)) {
        return member_wrong(reader, "a JSON object");
    }
    size_t bytes = json_dumpb(value, NULL, 0, JSON_COMPACT);
    TRY(arena_new(reader->arena, bytes + 1, 1, &text, reader->error));
    (void)json_dumpb(value, text, bytes, JSON_COMPACT);
    reader->definition->engine_options = text;
    return ANNEX_OK;
}

/* The next ones are kept in the catalog only. */

static annex_status read_table(struct member_reader *reader, json_t *value)
{
    return member_text(reader, value, &reader->definition->table);
}

static annex_status read_column(struct member_reader *reader, json_t *value)
{
    return member_text(reader, value, &reader->definition->column);
}

static annex_status read_options(struct member_reader *reader, json_t *value)
{
    return member_text(reader, value, &reader->definition->options);
}

static annex_status read_watched(struct member_reader *reader, json_t *value)
{
    struct definition *definition = reader->definition;
    size_t n = json_array_size(value);
    TRY(arena_new(reader->arena, n, sizeof *definition->watched, &definition->watched,
                  reader->error));
    for (size_t i = 0; i < n; i++) {
        TRY(member_text(reader, json_array_get(value, i), &definition->watched[i]));
    }
    definition->n_watched = n;
    return ANNEX_OK;
}

static annex_status read_integer_key(struct member_reader *reader, json_t *value)
{
    return member_boolean(reader, value, &reader->definition->integer_key);
}

static annex_status read_collection_id(struct member_reader *reader, json_t *value)
{
    if (!json_is_integer(value)) {
        return member_wrong(reader, "an integer");
    }
    reader->definition->collection_id = json_integer_value(value);
    return ANNEX_OK;
}

static annex_status read_sources(struct member_reader *reader, json_t *value)
{
    return member_number(reader, value, 2, SOURCES_MOST, &reader->definition->n_sources);
}

static annex_status read_build_ms(struct member_reader *reader, json_t *value)
{
    return member_number(reader, value, 0, UINT32_MAX, &reader->definition->build_ms);
}

static annex_status read_catalog(struct member_reader *reader, json_t *value)
{
    if (!json_is_integer(value) || json_integer_value(value) > CATALOG_FORMAT) {
        return error_set(reader->error, ANNEX_TOO_NEW,
                         "this index was made by a newer Annex (catalog format %lld, this one "
                         "reads up to %d); install a newer Annex",
                         (long long)json_integer_value(value), CATALOG_FORMAT);
    }
    return ANNEX_OK;
}

static const struct member {
    const char *name;
    member_read read;
} members[] = {
    {"key", read_key},
    {"where", read_where},
    {"metric", read_metric},
    {"index", read_index},
    {"recall", read_recall},
    {"storage", read_storage},
    {"format", read_format},
    {"dimension", read_dimension},
    {"degree", read_degree},
    {"effort", read_effort},
    {"threads", read_threads},
    {"model", read_model},
    {"codes", read_codes},
    {"llm_collection", read_collection},
    {"default", read_default},
    {"engine", read_engine},
    {"engine_options", read_engine_options},
    {"catalog", read_catalog},
    {"table", read_table},
    {"column", read_column},
    {"integer_key", read_integer_key},
    {"options", read_options},
    {"watched", read_watched},
    {"collection_id", read_collection_id},
    {"sources", read_sources},
    {"build_ms", read_build_ms},
};
enum { OPTION_MEMBERS = 17 }; /* the first ones may be given by a user */

static annex_status definition_apply(struct arena *arena, const char *text, size_t n_members,
                                     struct definition *definition, annex_error *error)
{
    json_t *object = NULL, *value = NULL;
    const char *name = NULL;
    const char *known[ARRAY_LENGTH(members)];
    for (size_t i = 0; i < n_members; i++) {
        known[i] = members[i].name;
    }
    TRY(options_open(text, &object, error));
    annex_status status = ANNEX_OK;
    json_object_foreach(object, name, value)
    {
        size_t i = 0;
        while (i < n_members && strcmp(members[i].name, name) != 0) {
            i++;
        }
        if (i == n_members) {
            TRY_CLEANUP(option_unknown(name, known, n_members, error));
        }
        struct member_reader reader = {arena, definition, name, error};
        TRY_CLEANUP(members[i].read(&reader, value));
    }
cleanup:
    json_decref(object);
    return status;
}

/* An engine other than the native one has options of its own. */
static annex_status definition_check_engine(const struct definition *definition, annex_error *error)
{
    bool native = definition->engine[0] == '\0';
    if (native && strcmp(definition->engine_options, "{}") != 0) {
        return error_set(error, ANNEX_INVALID,
                         "\"engine_options\" are for another engine; the engine annex has index, "
                         "codes, degree and effort");
    }
    if (!native &&
        (definition->family != ANNEX_FAMILY_AUTO || definition->codes != ANNEX_CODES_AUTO ||
         definition->degree > 0 || definition->effort > 0)) {
        return error_set(error, ANNEX_INVALID,
                         "index, codes, degree and effort are options of the engine annex; give "
                         "those of the engine %s as \"engine_options\"",
                         definition->engine);
    }
    return ANNEX_OK;
}

/* What the members say together. */
static annex_status definition_check(const struct definition *definition, annex_error *error)
{
    bool bits = codec_is_bits(definition->metric);
    annex_format format = definition->format;
    if (format == ANNEX_F64) {
        return error_set(error, ANNEX_UNSUPPORTED,
                         "columns of f64 vectors are not supported; store them as f32");
    }
    if (bits && format != ANNEX_FORMAT_AUTO && format != ANNEX_BITS && format != ANNEX_JSON) {
        return error_set(error, ANNEX_INVALID,
                         "the metric %s compares bits, and the format %s holds numbers; use the "
                         "format bits or another metric",
                         annex_metric_name(definition->metric), annex_format_name(format));
    }
    if (!bits && format == ANNEX_BITS) {
        return error_set(error, ANNEX_INVALID,
                         "the format bits needs the metric hamming or jaccard, not %s",
                         annex_metric_name(definition->metric));
    }
    TRY(codec_check_codes(definition->metric, definition->codes, error));
    TRY(definition_check_engine(definition, error));
    if (definition->degree > 0 && definition->effort > 0 &&
        definition->effort < definition->degree / 2) {
        return error_set(error, ANNEX_INVALID,
                         "the effort %u is too small for the degree %u; give at least %u",
                         definition->effort, definition->degree, definition->degree / 2);
    }
    return ANNEX_OK;
}

annex_status definition_parse(struct arena *arena, const char *options,
                              struct definition *definition, annex_error *error)
{
    memset(definition, 0, sizeof *definition);
    definition->recall = 0.95;
    definition->where = definition->model = definition->table = definition->column = "";
    definition->collection = definition->engine = "";
    definition->engine_options = "{}";
    bool given = options != NULL && options[strspn(options, " \t\r\n")] != '\0';
    definition->options = given ? options : "{}";
    if (given) {
        TRY(definition_apply(arena, options, OPTION_MEMBERS, definition, error));
    }
    if (definition->metric == 0) {
        definition->metric = definition->collection[0] != '\0' ? ANNEX_COSINE : ANNEX_L2;
    }
    return definition_check(definition, error);
}

annex_status definition_read(struct arena *arena, const char *text, struct definition *definition,
                             annex_error *error)
{
    annex_error why = {ANNEX_OK, ""};
    TRY(definition_parse(arena, NULL, definition, error));
    annex_status status = definition_apply(arena, text, ARRAY_LENGTH(members), definition, &why);
    if (status == ANNEX_OK) {
        status = definition_check(definition, &why);
    }
    if (status == ANNEX_TOO_NEW || status == ANNEX_NOMEM) {
        return error_set(error, status, "%s", why.message);
    }
    bool complete =
        definition->n_sources > 0 ||
        (definition->n_keys > 0 && definition->n_watched > 0 && definition->table[0] != '\0' &&
         definition->column[0] != '\0' && (!definition->integer_key || definition->n_keys == 1));
    if (status != ANNEX_OK || !complete) {
        return error_set(error, ANNEX_DAMAGED, "the definition in annex_index is damaged: %s",
                         status != ANNEX_OK ? why.message : "table, column or key is missing");
    }
    return ANNEX_OK;
}

bool definition_is_complete(const struct definition *definition)
{
    return definition->dimension > 0 && definition->format != ANNEX_FORMAT_AUTO;
}

/* NULL when a name is not UTF-8. */
static json_t *column_names(const char *const *names, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(array, json_string(names[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

annex_status definition_write(struct arena *arena, const struct definition *definition,
                              const char **text, annex_error *error)
{
    *text = NULL;
    json_t *keys = column_names(definition->keys, definition->n_keys);
    json_t *watched = column_names(definition->watched, definition->n_watched);
    json_t *object = json_pack(
        "{s:o, s:i, s:s, s:s, s:o, s:b, s:s, s:s, s:s, s:f, s:s, s:s, s:s, s:s}", "watched",
        watched, "catalog", CATALOG_FORMAT, "table", definition->table, "column",
        definition->column, "key", keys, "integer_key", definition->integer_key, "where",
        definition->where, "metric", annex_metric_name(definition->metric), "index",
        annex_family_name(definition->family), "recall", definition->recall, "storage",
        definition->in_file ? "file" : "database", "format", annex_format_name(definition->format),
        "model", definition->model, "options", definition->options);
    const struct {
        const char *name;
        uint32_t value;
    } numbers[] = {{"dimension", definition->dimension}, {"degree", definition->degree},
                   {"effort", definition->effort},       {"threads", definition->threads},
                   {"sources", definition->n_sources},   {"build_ms", definition->build_ms}};
    for (size_t i = 0; object != NULL && i < ARRAY_LENGTH(numbers); i++) {
        if (numbers[i].value > 0) {
            json_object_set_new(object, numbers[i].name, json_integer(numbers[i].value));
        }
    }
    if (object != NULL && definition->codes != ANNEX_CODES_AUTO) {
        json_object_set_new(object, "codes", json_string(annex_codes_name(definition->codes)));
    }
    if (object != NULL && definition->engine[0] != '\0') {
        json_object_set_new(object, "engine", json_string(definition->engine));
        json_object_set_new(object, "engine_options",
                            json_loads(definition->engine_options, 0, NULL));
    }
    if (object != NULL && definition->n_keys == 0) { /* its members have keys */
        json_object_del(object, "key");
    }
    if (object != NULL && definition->is_default) {
        json_object_set_new(object, "default", json_true());
    }
    if (object != NULL && definition->collection[0] != '\0') {
        json_object_set_new(object, "llm_collection", json_string(definition->collection));
        json_object_set_new(object, "collection_id", json_integer(definition->collection_id));
    }
    if (object == NULL) {
        return error_set(error, ANNEX_INVALID,
                         "the names of the index are not UTF-8 or memory ran out");
    }
    char *dumped = NULL;
    size_t bytes = json_dumpb(object, NULL, 0, JSON_COMPACT);
    annex_status status = arena_new(arena, bytes + 1, 1, &dumped, error);
    if (status == ANNEX_OK) {
        (void)json_dumpb(object, dumped, bytes, JSON_COMPACT);
        *text = dumped;
    }
    json_decref(object);
    return status;
}
