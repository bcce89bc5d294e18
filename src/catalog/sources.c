/*
 * sources.c - an index over several sources: how the options of annex_db_create name them, what its
 * members are called, and which index is the default one of a source.
 *
 * Invariants
 *   1. A user gives no index a name with a dot; so "mix.posts" is the member of "mix" for posts.
 *   2. Members come in the order in which their sources were given, everywhere.
 */
#include "catalog/catalog.h"

#include <jansson.h>
#include <strings.h>

enum { LABEL_BYTES = 100 };

/* ---- names -----------------------------------------------------------------------------------*/

bool sources_is_member(const char *name)
{
    return strchr(name, '.') != NULL;
}

const char *sources_name(const struct catalog_index *index)
{
    const struct definition *definition = &index->definition;
    return definition->collection[0] != '\0' ? definition->collection : index->table;
}

unsigned sources_kind(const struct catalog_index *index)
{
    return index->definition.collection[0] != '\0' ? SOURCE_COLLECTION : SOURCE_TABLE;
}

const char *sources_label(const struct catalog_index *index)
{
    const char *dot = strchr(index->name, '.');
    return dot != NULL ? dot + 1 : sources_name(index);
}

/* ---- options ---------------------------------------------------------------------------------*/

/* *out = the object as text. */
static annex_status options_dump(struct arena *arena, const json_t *object, const char **out,
                                 annex_error *error)
{
    char *text = NULL;
    size_t bytes = json_dumpb(object, NULL, 0, JSON_COMPACT);
    TRY(arena_new(arena, bytes + 1, 1, &text, error));
    (void)json_dumpb(object, text, bytes, JSON_COMPACT);
    *out = text;
    return ANNEX_OK;
}

static annex_status options_text(struct arena *arena, const json_t *value, const char *name,
                                 const char **out, annex_error *error)
{
    const char *text = json_string_value(value);
    if (text == NULL || text[0] == '\0' || strlen(text) != json_string_length(value)) {
        return error_set(error, ANNEX_INVALID, "the option \"%s\" of a source must be a text",
                         name);
    }
    return arena_text(arena, text, strlen(text), out, error);
}

/* Takes {"table": "tils", "column": …, "name": …}; the rest goes over the options of the whole. */
static annex_status spec_read(struct arena *arena, const json_t *base, const json_t *object,
                              struct source_spec *spec, annex_error *error)
{
    static const char *const known[] = {"table", "column", "name",          "key",
                                        "where", "format", "llm_collection"};
    const char *name = NULL;
    json_t *value = NULL;
    json_t *merged = json_copy((json_t *)base);
    annex_status status = merged != NULL ? ANNEX_OK : error_nomem(error, 0);
    TRY_CLEANUP(status);
    (void)json_object_del(merged, "key"); /* of the first source */
    (void)json_object_del(merged, "where");
    if (!json_is_object(object)) {
        TRY_CLEANUP(error_set(error, ANNEX_INVALID,
                              "a source must be an object such as {\"table\": \"posts\"}"));
    }
    json_object_foreach((json_t *)object, name, value)
    {
        size_t i = 0;
        while (i < ARRAY_LENGTH(known) && strcmp(known[i], name) != 0) {
            i++;
        }
        if (i == ARRAY_LENGTH(known)) {
            TRY_CLEANUP(option_unknown(name, known, i, error));
        } else if (i > 2) {
            (void)json_object_set(merged, name, value);
        } else {
            const char **const to[] = {&spec->table, &spec->column, &spec->label};
            TRY_CLEANUP(options_text(arena, value, name, to[i], error));
        }
    }
    status = options_dump(arena, merged, &spec->options, error);
cleanup:
    json_decref(merged);
    return status;
}

/* The first source is that of the arguments, the further ones are in `sources`. */
static annex_status split_sources(struct arena *arena, const json_t *base, const json_t *sources,
                                  struct source_spec *specs, annex_error *error)
{
    TRY(options_dump(arena, base, &specs[0].options, error));
    for (size_t i = 0; i < json_array_size(sources); i++) {
        specs[i + 1] = (struct source_spec){.label = "", .column = specs[0].column, .table = ""};
        TRY(spec_read(arena, base, json_array_get(sources, i), &specs[i + 1], error));
        if (specs[i + 1].table[0] == '\0') {
            return error_set(error, ANNEX_INVALID,
                             "a source needs a \"table\"; {\"table\": \"posts\", \"column\": "
                             "\"embedding\"}");
        }
    }
    return ANNEX_OK;
}

/* One source for each collection, of the same table. */
static annex_status split_collections(struct arena *arena, json_t *base, const json_t *names,
                                      struct source_spec *specs, annex_error *error)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        specs[i] = specs[0];
        (void)json_object_set(base, "llm_collection", json_array_get(names, i));
        TRY(options_dump(arena, base, &specs[i].options, error));
    }
    return ANNEX_OK;
}

static annex_status split_object(struct arena *arena, json_t *object, struct source_spec **specs,
                                 size_t *n, annex_error *error)
{
    json_t *sources = json_incref(json_object_get(object, "sources"));
    json_t *collections = json_incref(json_object_get(object, "llm_collection"));
    struct source_spec first = **specs;
    bool listed = json_is_array(collections);
    annex_status status = ANNEX_OK;
    size_t count = listed ? json_array_size(collections) : 1 + json_array_size(sources);
    if ((sources != NULL && (listed || !json_is_array(sources))) || count == 0) {
        TRY_CLEANUP(error_set(error, ANNEX_INVALID,
                              "the option \"sources\" must be an array of objects such as "
                              "{\"table\": \"posts\"}, \"llm_collection\" a name or an array of "
                              "names, and several of one only"));
    }
    if (count > SOURCES_MOST) {
        TRY_CLEANUP(error_set(error, ANNEX_INVALID,
                              "an index has at most %d sources, not %zu; make several indexes",
                              SOURCES_MOST, count));
    }
    (void)json_object_del(object, "sources");
    TRY_CLEANUP(arena_new(arena, count, sizeof **specs, specs, error));
    (*specs)[0] = first;
    *n = count;
    status = listed ? split_collections(arena, object, collections, *specs, error)
                    : split_sources(arena, object, sources, *specs, error);
cleanup:
    json_decref(sources);
    json_decref(collections);
    return status;
}

annex_status sources_split(struct arena *arena, const char *table, const char *column,
                           const char *options, struct source_spec **specs, size_t *n,
                           annex_error *error)
{
    json_t *object = NULL;
    TRY(arena_new(arena, 1, sizeof **specs, specs, error));
    **specs = (struct source_spec){.label = "", .table = table, .column = column};
    (*specs)->options = options;
    *n = 1;
    if (options == NULL ||
        (strstr(options, "\"sources\"") == NULL && strstr(options, "\"llm_collection\"") == NULL)) {
        return ANNEX_OK; /* as they were given: they are kept */
    }
    TRY(options_open(options, &object, error));
    annex_status status = split_object(arena, object, specs, n, error);
    json_decref(object);
    return status;
}

/* The options as given, and what ALTER TABLE has changed since, as options. */
static annex_status options_of_now(const struct definition *definition, json_t *object,
                                   annex_error *error)
{
    json_t *keys = json_array();
    int failed = 0;
    for (size_t i = 0; i < definition->n_keys; i++) {
        failed |= json_array_append_new(keys, json_string(definition->keys[i]));
    }
    failed |= json_object_set_new(object, "key", keys);
    if (definition->where[0] != '\0') {
        failed |= json_object_set_new(object, "where", json_string(definition->where));
    }
    (void)json_object_del(object, "default"); /* there is one already */
    return failed == 0 ? ANNEX_OK : error_nomem(error, 0);
}

annex_status sources_copy_options(struct arena *arena, const struct definition *definition,
                                  const char *changes, const char **column, const char **out,
                                  annex_error *error)
{
    json_t *object = NULL, *changed = NULL;
    bool given = changes != NULL && changes[strspn(changes, " \t\r\n")] != '\0';
    TRY(options_open(definition->options, &object, error));
    annex_status status = options_of_now(definition, object, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(arena_text(arena, definition->column, strlen(definition->column), column, error));
    if (given) {
        TRY_CLEANUP(options_open(changes, &changed, error));
        const json_t *other = json_object_get(changed, "column");
        if (other != NULL) { /* it may be of another kind */
            TRY_CLEANUP(options_text(arena, other, "column", column, error));
            (void)json_object_del(object, "format");
            (void)json_object_del(object, "dimension");
            (void)json_object_del(changed, "column");
        }
        (void)json_object_update(object, changed);
    }
    status = options_dump(arena, object, out, error);
cleanup:
    json_decref(object);
    json_decref(changed);
    return status;
}

/* ---- members ---------------------------------------------------------------------------------*/

annex_status sources_names(annex_db *db, struct arena *arena, const char *schema, const char *only,
                           const char ***names, size_t *n, annex_error *error)
{
    struct host_statement *statement = NULL;
    struct buffer list = {0};
    const char *quoted = NULL;
    bool row = true, present = false;
    *names = NULL;
    *n = 0;
    TRY(db->host->type->has_table(db->host, schema, "annex_index", &present, error));
    if (!present) {
        return ANNEX_OK;
    }
    TRY(host_quote(arena, schema, &quoted, error));
    annex_status status = host_prepare(db->host, &statement, error,
                                       "SELECT name FROM %s.annex_index %s", quoted, only);
    TRY_CLEANUP(status);
    for (;;) {
        const char *name = NULL;
        TRY_CLEANUP(db->host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        TRY_CLEANUP(host_text(db->host, statement, 0, arena, &name, error));
        TRY_CLEANUP(buffer_append(&db->env, &list, &name, sizeof name, error));
    }
    TRY_CLEANUP(arena_new(arena, list.bytes, 1, names, error));
    *n = list.bytes / sizeof **names;
    if (list.bytes > 0) {
        memcpy(*names, list.data, list.bytes);
    }
cleanup:
    db->host->type->finish(statement);
    buffer_free(&db->env, &list);
    return status;
}

annex_status sources_members(annex_db *db, struct arena *arena, const char *schema,
                             const char *name, const char ***names, size_t *n, annex_error *error)
{
    const char **all = NULL;
    size_t n_all = 0, length = strlen(name);
    *n = 0;
    TRY(sources_names(db, arena, schema, "ORDER BY id", &all, &n_all, error));
    for (size_t i = 0; i < n_all; i++) {
        if (strncmp(all[i], name, length) == 0 && all[i][length] == '.') {
            all[(*n)++] = all[i];
        }
    }
    *names = all;
    return ANNEX_OK;
}

annex_status sources_list(annex_db *db, struct arena *arena, const char *qualified,
                          const char ***names, size_t *n, const char **whole, annex_error *error)
{
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    const char *schema = NULL, *name = NULL;
    TRY(catalog_open(db, qualified, &index, &hold, error));
    uint32_t n_sources = index->definition.n_sources;
    annex_status status = arena_text(arena, index->schema, strlen(index->schema), &schema, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(arena_text(arena, index->name, strlen(index->name), &name, error));
    if (n_sources > 0) {
        TRY_CLEANUP(sources_members(db, arena, schema, name, names, n, error));
    } else {
        TRY_CLEANUP(arena_new(arena, 1, sizeof **names, names, error));
        (*names)[0] = name;
        *n = 1;
    }
    for (size_t i = 0; i < *n; i++) {
        TRY_CLEANUP(arena_printf(arena, &(*names)[i], error, "%s.%s", schema, (*names)[i]));
    }
    if (n_sources > 0 && *n != n_sources) {
        status = error_set(error, ANNEX_DAMAGED,
                           "index %s has %zu of its %u sources in annex_index; run "
                           "annex_drop('%s') and create it again",
                           name, *n, n_sources, name);
    }
    if (whole != NULL) {
        *whole = NULL;
        if (n_sources > 0) {
            TRY_CLEANUP(arena_printf(arena, whole, error, "%s.%s", schema, name));
        }
    }
cleanup:
    db->host->type->finish(hold);
    return status;
}

annex_status sources_refuse(const struct catalog_index *index, const char *what, annex_error *error)
{
    return index->definition.n_sources == 0
               ? ANNEX_OK
               : error_set(error, ANNEX_INVALID,
                           "index %s is over %u sources, and %s works with one: name it, as in "
                           "'%s.<source>'; annex_indexes lists them",
                           index->name, index->definition.n_sources, what, index->name);
}

/* ---- the default index -----------------------------------------------------------------------*/

/* As it is written in definitions; text of a user has a backslash before the quotes. */
static const char only_default[] = "WHERE instr(definition, '\"default\":true') > 0";

/* Names of collections are data, those of tables have no case. */
static bool default_is_of(const struct catalog_index *index, const char *source, unsigned kinds)
{
    unsigned kind = sources_kind(index);
    const char *name = sources_name(index);
    return index->definition.is_default && (kind & kinds) != 0 &&
           (kind == SOURCE_COLLECTION ? strcmp(name, source) == 0 : strcasecmp(name, source) == 0);
}

/* An index that cannot be read is nobody's default; what has to do with this call is an error. */
static annex_status default_open(annex_db *db, const char *schema, const char *name,
                                 struct catalog_index **index, struct host_statement **hold,
                                 annex_error *error)
{
    annex_error why = {ANNEX_OK, ""};
    annex_status status = catalog_open_in(db, schema, name, index, hold, &why);
    bool ends = status == ANNEX_NOMEM || status == ANNEX_BUSY || status == ANNEX_CANCELLED;
    return ends ? error_set(error, status, "%s", why.message) : ANNEX_OK;
}

/*
 * Opens the index that is the default one of `source` in a schema; *index stays NULL without one.
 * `inspect`: tables may have been renamed since the last sync.
 */
static annex_status default_find(annex_db *db, const char *schema, const char *source,
                                 unsigned kinds, bool inspect, struct catalog_index **index,
                                 struct host_statement **hold, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    const char **names = NULL;
    size_t n = 0;
    annex_status status = sources_names(db, &scratch, schema, only_default, &names, &n, error);
    for (size_t i = 0; status == ANNEX_OK && *index == NULL && i < n; i++) {
        TRY_CLEANUP(default_open(db, schema, names[i], index, hold, error));
        if (*index != NULL && inspect) {
            (void)catalog_inspect(db, *index, NULL);
        }
        if (*index != NULL && !default_is_of(*index, source, kinds)) {
            db->host->type->finish(*hold);
            *hold = NULL;
            *index = NULL;
        }
    }
cleanup:
    arena_free(&scratch);
    return status;
}

annex_status sources_default(annex_db *db, const char *name, unsigned kinds,
                             struct catalog_index **index, struct host_statement **hold,
                             annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    const char *schema = NULL, *source = NULL;
    const char **schemas = &schema;
    size_t n = 1;
    *index = NULL;
    *hold = NULL;
    annex_status status = schema_split(db, &scratch, name, &schema, &source, error);
    if (status == ANNEX_OK && schema == NULL) {
        status = db->host->type->schemas(db->host, &scratch, &schemas, &n, error);
    }
    for (size_t i = 0; status == ANNEX_OK && *index == NULL && i < 2 * n; i++) {
        status = default_find(db, schemas[i % n], source, kinds, i >= n, index, hold, error);
    }
    arena_free(&scratch);
    return status;
}

annex_status sources_open(annex_db *db, const char *name, struct catalog_index **index,
                          struct host_statement **hold, annex_error *error)
{
    annex_error why = {ANNEX_OK, ""};
    annex_status status = catalog_open(db, name, index, hold, &why);
    if (status == ANNEX_NOT_FOUND) {
        TRY(sources_default(db, name, SOURCE_TABLE | SOURCE_COLLECTION, index, hold, error));
        status = *index != NULL ? ANNEX_OK : ANNEX_NOT_FOUND;
    }
    return status == ANNEX_OK ? status : error_set(error, status, "%s", why.message);
}

annex_status sources_clear_default(annex_db *db, const char *schema, const char *source,
                                   unsigned kind, int64_t except, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    const char **names = NULL;
    size_t n = 0;
    annex_status status = sources_names(db, &scratch, schema, only_default, &names, &n, error);
    for (size_t i = 0; status == ANNEX_OK && i < n; i++) {
        struct catalog_index *index = NULL;
        struct host_statement *hold = NULL;
        status = default_open(db, schema, names[i], &index, &hold, error);
        db->host->type->finish(hold);
        if (index != NULL && index->id != except && default_is_of(index, source, kind)) {
            index->definition.is_default = false;
            status = schema_update_index(db, index, error);
            catalog_forget(index);
        }
    }
    arena_free(&scratch);
    return status;
}
