/*
 * db_list.c - the indexes of all schemas and how they are. An index that cannot be read is listed
 * too, with the reason. No segment is opened, but for those in files of their own.
 */
#include "catalog/catalog.h"

struct list_block {
    annex_env env;
    struct arena arena;
    size_t capacity;
    annex_db_index items[];
};

static void list_block_free(struct list_block *block)
{
    annex_env env = block->env;
    arena_free(&block->arena);
    memory_free(&env, block, sizeof *block + block->capacity * sizeof block->items[0], 1);
}

static annex_status list_block_new(annex_db *db, size_t capacity, struct list_block **block,
                                   annex_error *error)
{
    uint64_t bytes = 0;
    *block = NULL;
    if (!checked_multiply(capacity, sizeof(annex_db_index), &bytes) ||
        !checked_add(bytes, sizeof **block, &bytes)) {
        return error_nomem(error, UINT64_MAX);
    }
    TRY(memory_new(&db->env, bytes, 1, block, error));
    (*block)->env = db->env;
    (*block)->arena.env = &(*block)->env;
    (*block)->capacity = capacity;
    return ANNEX_OK;
}

/* ---- one index -------------------------------------------------------------------------------*/

static annex_status list_copy(struct arena *arena, const char *text, const char **out,
                              annex_error *error)
{
    return arena_text(arena, text, strlen(text), out, error);
}

/* Whether the index can be trusted, without reading segments or log. */
static annex_status list_look(annex_db *db, struct catalog_index *index, annex_error *error)
{
    TRY(catalog_inspect(db, index, error));
    for (size_t i = 0; i < index->n_parts && index->stale.message[0] == '\0'; i++) {
        annex_error why = {ANNEX_OK, ""};
        if (store_look(db, index, &index->parts[i], &why) != ANNEX_OK) {
            index->stale = why;
        }
    }
    return index->stale.message[0] == '\0' ? log_look(db, index, error) : ANNEX_OK;
}

/* Only after changes: a look at the vectors costs more than the rest. */
static annex_status list_look_at_vectors(annex_db *db, struct catalog_index *index,
                                         const annex_db_index *item, annex_error *error)
{
    struct definition before = index->definition;
    bool outgrown = false;
    if (item->delta_rows == 0 && item->rows > 0) {
        return ANNEX_OK;
    }
    annex_status status = catalog_outgrown(db, index, &outgrown, error);
    index->definition.format = before.format; /* until a sync takes them over */
    index->definition.dimension = before.dimension;
    return status;
}

static void list_sum_parts(const struct catalog_index *index, annex_db_index *item)
{
    uint64_t largest = 0;
    double recall = 0;
    item->family = "flat";
    for (size_t i = 0; i < index->n_parts; i++) {
        const struct catalog_part *part = &index->parts[i];
        item->rows += part->slots - part->n_dead;
        item->dead_rows += part->n_dead;
        item->bytes += part->bytes;
        recall += part->recall * (double)(part->slots - part->n_dead);
        if (part->slots >= largest) {
            largest = part->slots;
            annex_family family = ANNEX_FLAT;
            (void)annex_family_parse(part->family, &family, NULL);
            item->family =
                engine_name_is_valid(part->family) ? part->family : annex_family_name(family);
        }
    }
    item->segments = index->n_parts;
    item->recall = item->rows > 0 ? recall / (double)item->rows : 1;
}

static annex_status list_define_keys(const struct definition *definition, struct arena *arena,
                                     annex_db_index *item, annex_error *error)
{
    const char **columns = NULL;
    TRY(arena_new(arena, definition->n_keys, sizeof *columns, &columns, error));
    item->keys = "";
    for (size_t i = 0; i < definition->n_keys; i++) {
        TRY(list_copy(arena, definition->keys[i], &columns[i], error));
        TRY(arena_printf(arena, &item->keys, error, "%s%s%s", item->keys, i > 0 ? ", " : "",
                         columns[i]));
    }
    item->key_columns = columns;
    item->n_key_columns = definition->n_keys;
    return ANNEX_OK;
}

/* What does not change while the index is looked at. */
static annex_status list_define(const struct catalog_index *index, struct arena *arena,
                                annex_db_index *item, annex_error *error)
{
    const struct definition *definition = &index->definition;
    TRY(list_copy(arena, index->table, &item->table, error));
    TRY(list_copy(arena, definition->column, &item->column, error));
    TRY(list_copy(arena, definition->where, &item->where, error));
    TRY(list_copy(arena, definition->options, &item->options, error));
    TRY(list_define_keys(definition, arena, item, error));
    TRY(list_copy(arena, definition->model, &item->model, error));
    TRY(list_copy(arena, sources_name(index), &item->source, error));
    item->metric = annex_metric_name(definition->metric);
    item->format = annex_format_name(definition->format);
    item->storage = definition->in_file ? "file" : "database";
    item->dimension = definition->dimension;
    item->is_default = definition->is_default;
    item->is_member = sources_is_member(index->name);
    item->n_sources = definition->n_sources;
    item->build_seconds = definition->build_ms / 1e3;
    return ANNEX_OK;
}

static annex_status list_describe(annex_db *db, struct catalog_index *index, struct arena *arena,
                                  annex_db_index *item, annex_error *error)
{
    list_sum_parts(index, item);
    TRY(list_copy(arena, item->family, &item->family, error));
    TRY(list_define(index, arena, item, error)); /* also when the table is gone */
    if (item->n_sources > 0) {
        return ANNEX_OK; /* list_sum_sources tells the rest */
    }
    TRY(list_look(db, index, error));
    TRY(list_define(index, arena, item, error)); /* table and columns may have been renamed */
    if (index->stale.message[0] == '\0') {
        TRY(delta_count(db, index, &item->delta_rows, error));
        TRY(list_look_at_vectors(db, index, item, error));
    }
    if (index->stale.message[0] != '\0') {
        item->state = "stale";
        return list_copy(arena, index->stale.message, &item->reason, error);
    }
    item->state = item->delta_rows > 0 ? "delta" : "fresh";
    return ANNEX_OK;
}

static annex_status list_add(annex_db *db, const char *schema, const char *name,
                             struct arena *arena, annex_db_index *item, annex_error *error)
{
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    annex_error why = {ANNEX_OK, ""};
    *item = (annex_db_index){.table = "",
                             .column = "",
                             .keys = "",
                             .where = "",
                             .metric = "",
                             .family = "",
                             .format = "",
                             .storage = "",
                             .state = "stale",
                             .reason = "",
                             .options = "{}",
                             .source = "",
                             .model = ""};
    TRY(list_copy(arena, schema, &item->schema, error));
    TRY(list_copy(arena, name, &item->name, error));
    item->is_member = sources_is_member(name);
    annex_status status = catalog_open_in(db, schema, name, &index, &hold, &why);
    if (status == ANNEX_OK) {
        status = list_describe(db, index, arena, item, &why);
    }
    db->host->type->finish(hold);
    if (status == ANNEX_NOMEM || status == ANNEX_BUSY || status == ANNEX_CANCELLED) {
        return error_set(error, status, "%s", why.message);
    }
    if (status != ANNEX_OK) {
        item->state = "stale";
        return list_copy(arena, why.message, &item->reason, error);
    }
    return ANNEX_OK;
}

/* ---- an index over several sources ------------------------------------------------------------*/

/* Adds a text unless it is what was said last: "posts, tils", but "embedding". */
static annex_status list_join(struct arena *arena, const char **list, const char *text,
                              annex_error *error)
{
    size_t length = strlen(*list), more = strlen(text);
    bool said = length >= more && strcmp(*list + length - more, text) == 0 &&
                (length == more || (*list)[length - more - 1] == ' ');
    return said ? ANNEX_OK
                : arena_printf(arena, list, error, "%s%s%s", *list, length > 0 ? ", " : "", text);
}

static annex_status list_add_source(struct arena *arena, annex_db_index *whole,
                                    const annex_db_index *source, size_t n_before,
                                    annex_error *error)
{
    static const char *const states[] = {"fresh", "delta", "stale"};
    size_t worst = 0;
    TRY(list_join(arena, &whole->table, source->table, error));
    TRY(list_join(arena, &whole->column, source->column, error));
    TRY(list_join(arena, &whole->keys, source->keys, error));
    TRY(list_join(arena, &whole->source, source->source, error));
    for (size_t i = 0; i < ARRAY_LENGTH(states); i++) {
        bool either = strcmp(source->state, states[i]) == 0 || strcmp(whole->state, states[i]) == 0;
        worst = either ? i : worst;
    }
    whole->state = states[worst];
    whole->reason = whole->reason[0] == '\0' ? source->reason : whole->reason;
    whole->family = source->rows >= whole->rows ? source->family : whole->family;
    whole->format = source->format;
    whole->storage = source->storage;
    whole->dimension = source->dimension;
    whole->is_default = (n_before == 0 || whole->is_default) && source->is_default;
    double rows = (double)(whole->rows + source->rows);
    double sum = whole->recall * (double)whole->rows + source->recall * (double)source->rows;
    whole->recall = rows > 0 ? sum / rows : 1;
    whole->rows += source->rows;
    whole->delta_rows += source->delta_rows;
    whole->dead_rows += source->dead_rows;
    whole->segments += source->segments;
    whole->bytes += source->bytes;
    whole->build_seconds += source->build_seconds;
    if (source->n_key_columns > whole->n_key_columns) {
        whole->n_key_columns = source->n_key_columns;
        whole->key_columns = source->key_columns;
    }
    return ANNEX_OK;
}

static annex_status list_sum_sources(struct arena *arena, annex_db_index *whole,
                                     const annex_db_index *items, size_t n, annex_error *error)
{
    size_t length = strlen(whole->name), found = 0;
    whole->state = "fresh";
    whole->table = whole->column = whole->keys = whole->source = "";
    whole->n_key_columns = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(items[i].schema, whole->schema) == 0 &&
            strncmp(items[i].name, whole->name, length) == 0 && items[i].name[length] == '.') {
            TRY(list_add_source(arena, whole, &items[i], found, error));
            found++;
        }
    }
    if (found != whole->n_sources) {
        whole->state = "stale";
        return arena_printf(arena, &whole->reason, error,
                            "%zu of the %zu sources of index %s are in annex_index; run "
                            "annex_drop('%s') and create it again",
                            found, whole->n_sources, whole->name, whole->name);
    }
    return ANNEX_OK;
}

/* ---- all of them -----------------------------------------------------------------------------*/

/* The names of a schema, read to the end first: describing an index runs other statements. */
static annex_status list_names(annex_db *db, const char *schema, struct arena *arena,
                               struct buffer *names, annex_error *error)
{
    const char **plain = NULL;
    size_t n = 0;
    TRY(sources_names(db, arena, schema, "ORDER BY name", &plain, &n, error));
    for (size_t i = 0; i < n; i++) {
        const char *pair[2] = {schema, plain[i]};
        TRY(buffer_append(&db->env, names, pair, sizeof pair, error));
    }
    return ANNEX_OK;
}

annex_status annex_db_list(annex_db *db, annex_db_index **list, size_t *n, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct list_block *block = NULL;
    struct buffer names = {0};
    const char **schemas = NULL;
    size_t n_schemas = 0;
    *list = NULL;
    *n = 0;
    annex_status status = db->host->type->schemas(db->host, &scratch, &schemas, &n_schemas, error);
    for (size_t i = 0; status == ANNEX_OK && i < n_schemas; i++) {
        status = list_names(db, schemas[i], &scratch, &names, error);
    }
    TRY_CLEANUP(status);
    size_t count = names.bytes / (2 * sizeof(char *));
    if (count == 0) {
        goto cleanup;
    }
    TRY_CLEANUP(list_block_new(db, count, &block, error));
    for (size_t i = 0; i < count; i++) {
        const char *const *pair = (const char *const *)names.data + 2 * i;
        TRY_CLEANUP(list_add(db, pair[0], pair[1], &block->arena, &block->items[i], error));
    }
    for (size_t i = 0; i < count; i++) {
        if (block->items[i].n_sources > 0) {
            TRY_CLEANUP(
                list_sum_sources(&block->arena, &block->items[i], block->items, count, error));
        }
    }
    *list = block->items;
    *n = count;
cleanup:
    if (status != ANNEX_OK && block != NULL) {
        list_block_free(block);
    }
    buffer_free(&db->env, &names);
    arena_free(&scratch);
    return status;
}

void annex_db_list_free(annex_db *db, annex_db_index *list, size_t n)
{
    (void)db, (void)n;
    if (list != NULL) {
        list_block_free((struct list_block *)((char *)list - offsetof(struct list_block, items)));
    }
}
