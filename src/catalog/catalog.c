/*
 * catalog.c - finding an index in the catalog and keeping what was read of it.
 *
 * Invariants
 *   1. What is kept of an index is used only while annex_index holds the version it was read under.
 *   2. Handles of segments outlive a version: they are taken over by content.
 *   3. Text from the catalog is data: a condition is run only after the host accepted it again,
 *      with core functions alone.
 */
#include "catalog/catalog.h"

#include <strings.h>

enum { CATALOG_KEPT_INDEXES = SOURCES_MOST + 8 }; /* all that one search needs, and some */

annex_status catalog_new(annex_db *db, const char *schema, const char *name,
                         struct catalog_index **out, annex_error *error)
{
    struct catalog_index *index = NULL;
    *out = NULL;
    TRY(memory_new(&db->env, 1, sizeof *index, &index, error));
    index->arena.env = &db->env;
    annex_status status = arena_text(&index->arena, schema, strlen(schema), &index->schema, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(arena_text(&index->arena, name, strlen(name), &index->name, error));
    TRY_CLEANUP(host_quote(&index->arena, schema, &index->schema_sql, error));
    index->definition.table = index->definition.collection = "";
    *out = index;
    return ANNEX_OK;
cleanup:
    catalog_close(db, index);
    return status;
}

static void part_free(annex_db *db, struct catalog_part *part)
{
    store_close(db, part);
    memory_free(&db->env, part->dead, bitmap_words(part->slots), sizeof *part->dead);
    memory_free(&db->env, part->allowed, bitmap_words(part->slots), sizeof *part->allowed);
    part->dead = part->allowed = NULL;
}

void catalog_close(annex_db *db, struct catalog_index *index)
{
    if (index == NULL) {
        return;
    }
    for (size_t i = 0; i < index->n_parts; i++) {
        part_free(db, &index->parts[i]);
    }
    rowkey_set_free(&db->env, &index->delta.keys);
    buffer_free(&db->env, &index->delta.states);
    buffer_free(&db->env, &index->delta.vectors);
    arena_free(&index->arena);
    memory_free(&db->env, index, 1, sizeof *index);
}

void catalog_close_all(annex_db *db)
{
    while (db->indexes != NULL) {
        struct catalog_index *index = db->indexes;
        db->indexes = index->next;
        catalog_close(db, index);
    }
}

void catalog_forget(struct catalog_index *index)
{
    index->version = 0;
    index->id = 0; /* no index has this number */
}

/* ---- reading ---------------------------------------------------------------------------------*/

static annex_status catalog_damaged(const struct catalog_index *index, const char *what,
                                    annex_error *error)
{
    char call[CALL_TEXT_BYTES];
    return error_set(error, ANNEX_DAMAGED,
                     "the catalog of index %s is damaged (%s); run %s and create it again",
                     index->name, what, catalog_call(index, "annex_drop", call));
}

static annex_status part_read(annex_db *db, struct catalog_index *index,
                              struct host_statement *statement, struct catalog_part *part,
                              annex_error *error)
{
    struct host *host = db->host;
    const char *content = NULL;
    annex_value dead, recall;
    int64_t slots = host_integer(host, statement, 1);
    int64_t bytes = host_integer(host, statement, 2);
    *part = (struct catalog_part){.id = host_integer(host, statement, 0)};
    if (slots < 0 || slots > (int64_t)ANNEX_MAX_ROWS || bytes <= 0) {
        return catalog_damaged(index, "a size in annex_part", error);
    }
    part->bytes = (uint64_t)bytes;
    TRY(host_text(host, statement, 3, &index->arena, &content, error));
    TRY(host_text(host, statement, 5, &index->arena, &part->file, error));
    TRY(host_text(host, statement, 6, &index->arena, &part->family, error));
    if (!content_parse(content, part->content) || strchr(part->file, '/') != NULL) {
        return catalog_damaged(index, "a name in annex_part", error);
    }
    host->type->column(statement, 4, &dead);
    host->type->column(statement, 7, &recall);
    part->recall = recall.type == ANNEX_REAL ? recall.real : 0;
    size_t words = bitmap_words((size_t)slots);
    if (dead.type != ANNEX_NULL && dead.bytes != words * sizeof(uint64_t)) {
        return catalog_damaged(index, "the deleted rows in annex_part", error);
    }
    TRY(memory_new(&db->env, words, sizeof *part->dead, &part->dead, error));
    annex_status status = memory_new(&db->env, words, sizeof *part->allowed, &part->allowed, error);
    if (status != ANNEX_OK) {
        memory_free(&db->env, part->dead, words, sizeof *part->dead);
        part->dead = NULL;
        return status;
    }
    part->slots = (uint64_t)slots;
    if (dead.bytes > 0) {
        memcpy(part->dead, dead.data, dead.bytes);
    }
    part->n_dead = bitmap_count(part->dead, part->slots);
    return ANNEX_OK;
}

annex_status catalog_read_parts(annex_db *db, struct catalog_index *index, annex_error *error)
{
    struct host *host = db->host;
    struct host_statement *statement = NULL;
    size_t capacity = 0;
    bool row = true;
    annex_status status = host_prepare(
        host, &statement, error,
        "SELECT id, slots, bytes, content, dead, file, family, recall FROM %s.annex_part "
        "WHERE index_id = %lld ORDER BY id",
        index->schema_sql, (long long)index->id);
    while (status == ANNEX_OK) {
        TRY_CLEANUP(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        if (index->n_parts == capacity) {
            struct catalog_part *more = NULL;
            capacity = MAX((size_t)16, 2 * capacity);
            TRY_CLEANUP(arena_new(&index->arena, capacity, sizeof *more, &more, error));
            if (index->n_parts > 0) {
                memcpy(more, index->parts, index->n_parts * sizeof *more);
            }
            index->parts = more;
        }
        TRY_CLEANUP(part_read(db, index, statement, &index->parts[index->n_parts], error));
        index->n_parts++;
    }
cleanup:
    host->type->finish(statement);
    if (status == ANNEX_HOST) { /* somebody dropped the table: the index is stale, not an error */
        bool present = true;
        annex_status looked =
            host->type->has_table(host, index->schema, "annex_part", &present, NULL);
        status = looked == ANNEX_OK && !present ? ANNEX_OK : status;
    }
    return status;
}

/* Opened segments of an older version that are still in use. */
static void catalog_take_handles(struct catalog_index *index, struct catalog_index *older)
{
    for (size_t i = 0; i < index->n_parts; i++) {
        struct catalog_part *to = &index->parts[i];
        for (size_t j = older->n_parts; j-- > 0;) { /* what was built last is what is stored */
            struct catalog_part *from = &older->parts[j];
            if (from->index != NULL && to->bytes == from->bytes && to->slots == from->slots &&
                memcmp(to->content, from->content, sizeof to->content) == 0) {
                to->index = from->index;
                to->image = from->image;
                to->info = from->info;
                from->index = NULL;
                from->image = NULL;
                break;
            }
        }
    }
}

static annex_status catalog_load(annex_db *db, const char *schema, const char *name,
                                 struct host_statement *row, struct catalog_index **out,
                                 annex_error *error)
{
    struct catalog_index *index = NULL;
    const char *text = NULL;
    *out = NULL;
    TRY(catalog_new(db, schema, name, &index, error));
    index->id = host_integer(db->host, row, 0);
    index->version = host_integer(db->host, row, 1);
    index->seq = host_integer(db->host, row, 2);
    index->nonce = host_integer(db->host, row, 3);
    index->parts_expected = host_integer(db->host, row, 5);
    annex_status status = host_text(db->host, row, 4, &index->arena, &text, error);
    TRY_CLEANUP(status);
    annex_error why = {ANNEX_OK, ""};
    status = definition_read(&index->arena, text, &index->definition, &why);
    if (status != ANNEX_OK) {
        char call[CALL_TEXT_BYTES];
        bool damaged = status == ANNEX_DAMAGED;
        TRY_CLEANUP(error_set(error, status, "%s%s%s%s", why.message, damaged ? "; run " : "",
                              damaged ? catalog_call(index, "annex_drop", call) : "",
                              damaged ? " and create it again" : ""));
    }
    index->collection_now = index->definition.collection_id;
    TRY_CLEANUP(catalog_name(index, error));
    TRY_CLEANUP(catalog_read_parts(db, index, error));
    *out = index;
    return ANNEX_OK;
cleanup:
    catalog_close(db, index);
    return status;
}

annex_status catalog_find(annex_db *db, const char *schema, const char *name,
                          struct host_statement **hold, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    const char *quoted = NULL;
    bool present = false, row = false;
    *hold = NULL;
    annex_status status = host_quote(&scratch, schema, &quoted, error);
    TRY_CLEANUP(status);
    status = host_prepare(db->host, hold, error,
                          "SELECT id, version, seq, nonce, definition, parts FROM %s.annex_index "
                          "WHERE name = ?1",
                          quoted);
    if (status == ANNEX_OK) {
        status = host_bind_text(db->host, *hold, 1, name, error);
    }
    if (status == ANNEX_OK) {
        status = db->host->type->step(*hold, &row, error);
    }
    if (status == ANNEX_HOST) { /* a schema without a catalog is no error */
        annex_status looked =
            db->host->type->has_table(db->host, schema, "annex_index", &present, NULL);
        status = looked == ANNEX_OK && !present ? ANNEX_OK : status;
    }
cleanup:
    if (!row) {
        db->host->type->finish(*hold);
        *hold = NULL;
    }
    arena_free(&scratch);
    return status;
}

/* Puts an index first among the kept ones; closes what has not been used for long. */
static void catalog_keep(annex_db *db, struct catalog_index *index)
{
    index->next = db->indexes;
    db->indexes = index;
    struct catalog_index **link = &db->indexes;
    for (size_t i = 0; i < CATALOG_KEPT_INDEXES && *link != NULL; i++) {
        link = &(*link)->next;
    }
    while (*link != NULL) {
        struct catalog_index *last = *link;
        *link = last->next;
        catalog_close(db, last);
    }
}

static annex_status catalog_refresh(annex_db *db, const char *schema, const char *name,
                                    struct host_statement *hold, struct catalog_index **out,
                                    annex_error *error)
{
    struct catalog_index *kept = NULL;
    struct catalog_index **link = &db->indexes;
    while (*link != NULL &&
           (strcmp((*link)->schema, schema) != 0 || strcmp((*link)->name, name) != 0)) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        kept = *link;
        *link = kept->next;
    }
    if (kept == NULL || kept->id != host_integer(db->host, hold, 0) ||
        kept->version != host_integer(db->host, hold, 1)) {
        struct catalog_index *index = NULL;
        annex_status status = catalog_load(db, schema, name, hold, &index, error);
        if (status == ANNEX_OK && kept != NULL) {
            catalog_take_handles(index, kept);
        }
        catalog_close(db, kept);
        TRY(status);
        kept = index;
    }
    kept->stale.message[0] = '\0';
    kept->beyond_sync = false;
    if (kept->parts_expected != (int64_t)kept->n_parts) {
        char call[CALL_TEXT_BYTES];
        error_set(&kept->stale, ANNEX_OK, "annex_part has %zu of its %lld segments; run %s",
                  kept->n_parts, (long long)kept->parts_expected,
                  catalog_call(kept, "annex_sync", call));
    }
    catalog_keep(db, kept);
    *out = kept;
    return ANNEX_OK;
}

annex_status catalog_locate(annex_db *db, struct arena *arena, const char *qualified,
                            const char **schema, const char **name, struct host_statement **hold,
                            annex_error *error)
{
    const char **schemas = schema;
    size_t n = 1;
    *hold = NULL;
    TRY(schema_split(db, arena, qualified, schema, name, error));
    if (*schema == NULL) {
        TRY(db->host->type->schemas(db->host, arena, &schemas, &n, error));
    }
    for (size_t i = 0; i < n; i++) {
        TRY(catalog_find(db, schemas[i], *name, hold, error));
        if (*hold != NULL) {
            *schema = schemas[i];
            return ANNEX_OK;
        }
    }
    return error_set(error, ANNEX_NOT_FOUND,
                     "there is no index %s; annex_indexes lists those there are", qualified);
}

annex_status catalog_open_in(annex_db *db, const char *schema, const char *name,
                             struct catalog_index **index, struct host_statement **hold,
                             annex_error *error)
{
    *index = NULL;
    TRY(catalog_find(db, schema, name, hold, error));
    if (*hold == NULL) {
        return error_set(error, ANNEX_NOT_FOUND, "there is no index %s in schema %s", name, schema);
    }
    annex_status status = catalog_refresh(db, schema, name, *hold, index, error);
    if (status != ANNEX_OK) {
        db->host->type->finish(*hold);
        *hold = NULL;
    }
    return status;
}

annex_status catalog_open(annex_db *db, const char *qualified, struct catalog_index **index,
                          struct host_statement **hold, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    const char *schema = NULL, *name = NULL;
    *index = NULL;
    annex_status status = catalog_locate(db, &scratch, qualified, &schema, &name, hold, error);
    if (status == ANNEX_OK) {
        status = catalog_refresh(db, schema, name, *hold, index, error);
    }
    if (status != ANNEX_OK) {
        db->host->type->finish(*hold);
        *hold = NULL;
    }
    arena_free(&scratch);
    return status;
}
