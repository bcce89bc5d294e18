/*
 * store.c - the bytes of segments: built, put into the database in chunks or beside it as a file,
 * opened again.
 *
 * Invariants
 *   1. A segment in the cache was verified before it got its name, which is its content.
 *   2. An opened segment fits the index: metric, dimension, kind of key, number of rows, content.
 *   3. Nothing outside the database is removed before the database has forgotten it.
 */
#include "catalog/catalog.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Measured: 16 KiB to 4 MiB read alike (2 GB/s); from 1 MiB on less than 0.2 % goes to pages. */
enum { STORE_CHUNK_BYTES = 1 << 20 };

/* ---- paths -----------------------------------------------------------------------------------*/

/* The file of the database. One in memory has none: then segments beside it are not found. */
static annex_status store_database(annex_db *db, const struct catalog_index *index,
                                   const char **database, annex_error *error)
{
    *database = db->host->type->file(db->host, index->schema);
    return *database != NULL
               ? ANNEX_OK
               : error_set(error, ANNEX_NOT_FOUND,
                           "the database is not in a file, so there is no place beside it for the "
                           "segments of index %s; create it with {\"storage\": \"database\"}",
                           index->name);
}

/* The path of a file beside the database. */
static annex_status store_beside(annex_db *db, const struct catalog_index *index,
                                 struct arena *arena, const char *file, const char **path,
                                 annex_error *error)
{
    const char *database = NULL;
    *path = NULL;
    TRY(store_database(db, index, &database, error));
    const char *slash = strrchr(database, '/');
    int folder = slash != NULL ? (int)(slash - database) + 1 : 0;
    return arena_printf(arena, path, error, "%.*s%s", folder, database, file);
}

/* "docs.db.annex-<index>-<content>" */
static annex_status store_file_name(annex_db *db, struct catalog_index *index,
                                    const uint64_t content[2], const char **file,
                                    annex_error *error)
{
    const char *database = NULL;
    char text[CONTENT_TEXT_BYTES];
    char name[65];
    size_t n = 0;
    TRY(store_database(db, index, &database, error));
    const char *slash = strrchr(database, '/');
    for (; index->name[n] != '\0' && n < sizeof name - 1; n++) {
        char c = index->name[n];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '_' || c == '-';
        name[n] = plain ? c : '_';
    }
    name[n] = '\0';
    return arena_printf(&index->arena, file, error, "%s.annex-%s-%s",
                        slash != NULL ? slash + 1 : database, name, content_print(content, text));
}

/* Where a part is mapped from; "" when it can only be held in memory. */
static annex_status store_path(annex_db *db, const struct catalog_index *index,
                               const struct catalog_part *part, struct arena *arena,
                               const char **path, annex_error *error)
{
    char content[CONTENT_TEXT_BYTES];
    const char *directory = NULL;
    if (part->file[0] != '\0') {
        return store_beside(db, index, arena, part->file, path, error);
    }
    *path = "";
    TRY(cache_directory(arena, &directory, error));
    if (directory[0] == '\0') {
        return ANNEX_OK;
    }
    return arena_printf(arena, path, error, "%s/%s.annex", directory,
                        content_print(part->content, content));
}

/* ---- engines ---------------------------------------------------------------------------------*/

annex_status store_engine(annex_db *db, const char *index_name, const char *name,
                          const annex_engine **engine, annex_error *error)
{
    *engine = engine_find(&db->engines, name);
    if (*engine != NULL) {
        return ANNEX_OK;
    }
    return error_set(error, ANNEX_UNSUPPORTED,
                     "index %s needs the engine %s, which is not loaded; run "
                     "annex_engine_load('<its file>'), or give --load-engine <its file>",
                     index_name, name);
}

/* A part says in place of the family that another engine than the native one made it. */
static annex_status store_part_engine(annex_db *db, const struct catalog_index *index,
                                      const struct catalog_part *part, const annex_engine **engine,
                                      annex_error *error)
{
    bool plugin = engine_name_is_valid(part->family);
    return store_engine(db, index->name, plugin ? part->family : "", engine, error);
}

/* ---- opening ---------------------------------------------------------------------------------*/

void store_close(annex_db *db, struct catalog_part *part)
{
    engine_close(part->index);
    memory_free(&db->env, part->image, part->bytes, 1);
    part->index = NULL;
    part->image = NULL;
}

/* Takes a fresh handle when it is what the catalog says; otherwise closes it. */
static bool store_fits(const struct catalog_index *index, struct catalog_part *part,
                       struct engine_index *handle)
{
    annex_index_info info;
    const struct definition *definition = &index->definition;
    annex_key_kind kind = index->shape.integer ? ANNEX_KEY_INTEGER : ANNEX_KEY_BYTES;
    engine_describe(handle, &info);
    if (memcmp(info.content, part->content, sizeof info.content) != 0 ||
        info.bytes != part->bytes || info.slots != part->slots ||
        info.metric != definition->metric || info.dimension != definition->dimension ||
        info.key_kind != kind) {
        engine_close(handle);
        return false;
    }
    part->index = handle;
    part->info = info;
    return true;
}

/* `what` may end with advice for index files, "; build it again", which does not hold here. */
static annex_status store_damaged(const struct catalog_index *index, const char *what,
                                  annex_error *error)
{
    char call[CALL_TEXT_BYTES];
    return error_set(error, ANNEX_DAMAGED, "a segment of index %s is damaged (%.*s); run %s",
                     index->name, (int)strcspn(what, ";"), what,
                     catalog_call(index, "annex_optimize", call));
}

/* Reads the chunks of a part into `image` ([part->bytes]). */
static annex_status store_read_chunks(annex_db *db, const struct catalog_index *index,
                                      const struct catalog_part *part, char *image,
                                      annex_error *error)
{
    struct host *host = db->host;
    struct host_statement *statement = NULL;
    uint64_t filled = 0;
    bool row = true;
    annex_status status =
        host_prepare(host, &statement, error,
                     "SELECT data FROM %s.annex_segment WHERE part = %lld ORDER BY chunk",
                     index->schema_sql, (long long)part->id);
    while (status == ANNEX_OK) {
        annex_value data;
        TRY_CLEANUP(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        host->type->column(statement, 0, &data);
        if (data.type != ANNEX_BLOB || data.bytes > part->bytes - filled) {
            TRY_CLEANUP(store_damaged(index, "a chunk in annex_segment is too long", error));
        }
        memcpy(image + filled, data.data, data.bytes);
        filled += data.bytes;
    }
    if (status == ANNEX_OK && filled != part->bytes) {
        status = store_damaged(index, "a chunk in annex_segment is missing", error);
    }
cleanup:
    host->type->finish(statement);
    return status;
}

/* The size that the chunks really have, before memory is taken for the size that was promised. */
static annex_status store_check_size(annex_db *db, const struct catalog_index *index,
                                     const struct catalog_part *part, annex_error *error)
{
    struct host_statement *statement = NULL;
    bool row = false;
    TRY(host_prepare(db->host, &statement, error,
                     "SELECT total(length(data)) = %llu FROM %s.annex_segment WHERE part = %lld",
                     (unsigned long long)part->bytes, index->schema_sql, (long long)part->id));
    annex_status status = db->host->type->step(statement, &row, error);
    if (status == ANNEX_OK && host_integer(db->host, statement, 0) != 1) {
        status = store_damaged(index, "chunks in annex_segment are missing", error);
    }
    db->host->type->finish(statement);
    return status;
}

/* Opens a part in memory, with every checksum compared. */
static annex_status store_open_image(annex_db *db, struct catalog_index *index,
                                     struct catalog_part *part, annex_error *error)
{
    const annex_engine *engine = NULL;
    struct engine_index *handle = NULL;
    void *image = NULL;
    annex_error why = {ANNEX_OK, ""};
    TRY(store_part_engine(db, index, part, &engine, error));
    TRY(store_check_size(db, index, part, error));
    TRY(memory_new_raw(&db->env, part->bytes, 1, &image, error));
    annex_status status = store_read_chunks(db, index, part, image, error);
    TRY_CLEANUP(status);
    status = engine_open_image(&db->env, engine, image, part->bytes, &handle, &why);
    if (status == ANNEX_DAMAGED) {
        TRY_CLEANUP(store_damaged(index, why.message, error));
    } else if (status != ANNEX_OK) {
        TRY_CLEANUP(error_set(error, status, "%s", why.message));
    }
    if (!store_fits(index, part, handle)) {
        TRY_CLEANUP(store_damaged(index, "it is not the one the catalog names", error));
    }
    part->image = image;
    return ANNEX_OK;
cleanup:
    memory_free(&db->env, image, part->bytes, 1);
    return status;
}

/* Puts a verified image into the cache and maps it; without success it stays in memory. */
static void store_move_to_cache(annex_db *db, struct catalog_index *index,
                                struct catalog_part *part, const char *path)
{
    struct replace_file file;
    struct engine_index *handle = NULL;
    if (replace_begin(&file, &db->env, path, NULL) != ANNEX_OK) {
        return;
    }
    if (replace_write(&file, part->image, part->bytes, 0, NULL) != ANNEX_OK) {
        replace_abort(&file);
        return;
    }
    if (replace_commit(&file, NULL) != ANNEX_OK ||
        engine_open(&db->env, part->index->engine, path, &handle, NULL) != ANNEX_OK) {
        return;
    }
    struct catalog_part mapped = *part;
    mapped.image = NULL;
    if (store_fits(index, &mapped, handle)) {
        store_close(db, part);
        *part = mapped;
    }
}

annex_status store_open(annex_db *db, struct catalog_index *index, struct catalog_part *part,
                        annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct engine_index *handle = NULL;
    annex_error why = {ANNEX_OK, ""};
    const char *path = NULL;
    const annex_engine *engine = NULL;
    if (part->index != NULL) {
        return ANNEX_OK;
    }
    annex_status status = store_part_engine(db, index, part, &engine, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(store_path(db, index, part, &scratch, &path, error));
    if (path[0] != '\0' && engine_open(&db->env, engine, path, &handle, &why) == ANNEX_OK &&
        store_fits(index, part, handle)) {
        if (part->file[0] == '\0') {
            cache_use(path);
        }
        goto cleanup;
    }
    if (part->file[0] != '\0') {
        char call[CALL_TEXT_BYTES];
        status =
            error_set(error, ANNEX_NOT_FOUND, "the segment %s is missing or is another one; run %s",
                      path, catalog_call(index, "annex_sync", call));
        goto cleanup;
    }
    TRY_CLEANUP(store_open_image(db, index, part, error));
    if (path[0] != '\0') {
        store_move_to_cache(db, index, part, path);
        cache_collect(&db->env);
    }
cleanup:
    arena_free(&scratch);
    return status;
}

annex_status store_look(annex_db *db, struct catalog_index *index, struct catalog_part *part,
                        annex_error *error)
{
    const annex_engine *engine = NULL;
    TRY(store_part_engine(db, index, part, &engine, error));
    return part->file[0] != '\0' ? store_open(db, index, part, error)
                                 : store_check_size(db, index, part, error);
}

annex_status store_open_all(annex_db *db, struct catalog_index *index, annex_error *error)
{
    for (size_t i = 0; i < index->n_parts; i++) {
        TRY(store_open(db, index, &index->parts[i], error));
    }
    return ANNEX_OK;
}

/* Compares every checksum of what the database holds, or of the file beside it. */
static annex_status store_verify_source(annex_db *db, struct catalog_index *index,
                                        const struct catalog_part *part, annex_error *error)
{
    struct catalog_part copy = *part;
    annex_error why = {ANNEX_OK, ""};
    copy.index = NULL;
    copy.image = NULL;
    if (part->file[0] != '\0') {
        TRY(store_open(db, index, &copy, error));
    } else {
        TRY(store_open_image(db, index, &copy, error));
    }
    annex_status status = engine_check(copy.index, &why);
    store_close(db, &copy);
    if (status == ANNEX_DAMAGED) {
        return store_damaged(index, why.message, error);
    }
    return status == ANNEX_OK ? ANNEX_OK : error_set(error, status, "%s", why.message);
}

annex_status store_verify(annex_db *db, struct catalog_index *index, struct catalog_part *part,
                          annex_error *error)
{
    TRY(store_verify_source(db, index, part, error));
    TRY(store_open(db, index, part, error));
    if (part->file[0] != '\0' || part->image != NULL) {
        return ANNEX_OK; /* there is no copy in the cache */
    }
    annex_error why = {ANNEX_OK, ""};
    annex_status status = engine_check(part->index, &why);
    if (status == ANNEX_DAMAGED) {
        log_message(&db->env, ANNEX_LOG_WARNING, "the cached copy of index %s is made anew: %s",
                    index->name, why.message);
        store_close(db, part);
        store_remove(db, index, part);
        return store_open(db, index, part, error);
    }
    return status == ANNEX_OK ? ANNEX_OK : error_set(error, status, "%s", why.message);
}

/* ---- building --------------------------------------------------------------------------------*/

/* A name for a file that is being built; the build refuses one that exists. */
static uint64_t store_random(const void *salt)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t state = (uint64_t)now.tv_sec * 1000000007 + (uint64_t)now.tv_nsec;
    state ^= (uint64_t)(uintptr_t)salt ^ (uint64_t)getpid() << 40;
    return random_next(&state);
}

static annex_status store_temporary(annex_db *db, struct catalog_index *index, struct arena *arena,
                                    const char **path, annex_error *error)
{
    unsigned long long random = store_random(arena);
    const char *directory = NULL, *file = NULL;
    *path = NULL;
    if (index->definition.in_file) { /* a name that store_sweep knows */
        const uint64_t unique[2] = {random, 0};
        TRY(store_file_name(db, index, unique, &file, error));
        return store_beside(db, index, arena, file, path, error);
    }
    TRY(cache_directory(arena, &directory, error));
    return directory[0] != '\0'
               ? arena_printf(arena, path, error, "%s/build-%016llx.annex", directory, random)
               : ANNEX_OK;
}

static annex_status store_insert_chunks(annex_db *db, const struct catalog_index *index,
                                        const struct catalog_part *part, annex_error *error)
{
    struct host *host = db->host;
    struct host_statement *statement = NULL;
    uint64_t bytes = 0;
    const char *image = engine_image(part->index, &bytes);
    annex_status status = host_prepare(host, &statement, error,
                                       "INSERT INTO %s.annex_segment(part, chunk, data) "
                                       "VALUES (%lld, ?1, ?2)",
                                       index->schema_sql, (long long)part->id);
    assert(bytes == part->bytes);
    for (uint64_t first = 0; status == ANNEX_OK && first < bytes; first += STORE_CHUNK_BYTES) {
        annex_value data = {.type = ANNEX_BLOB,
                            .data = image + first,
                            .bytes = MIN((uint64_t)STORE_CHUNK_BYTES, bytes - first)};
        TRY_CLEANUP(
            host_bind_integer(host, statement, 1, (int64_t)(first / STORE_CHUNK_BYTES), error));
        TRY_CLEANUP(host->type->bind(statement, 2, &data, error));
        TRY_CLEANUP(host_finish_step(host, statement, error));
    }
cleanup:
    host->type->finish(statement);
    return status;
}

static annex_status store_add_part(struct catalog_index *index, struct catalog_part **part,
                                   annex_error *error)
{
    struct catalog_part *parts = NULL;
    TRY(arena_new(&index->arena, index->n_parts + 1, sizeof *parts, &parts, error));
    if (index->n_parts > 0) {
        memcpy(parts, index->parts, index->n_parts * sizeof *parts);
    }
    index->parts = parts;
    *part = &parts[index->n_parts];
    (*part)->file = "";
    return ANNEX_OK;
}

/* Gives the built file its final name. A failure is no harm for a cache. */
static annex_status store_settle(annex_db *db, struct catalog_index *index,
                                 struct catalog_part *part, struct arena *scratch,
                                 const char *temporary, annex_error *error)
{
    const char *path = NULL;
    if (index->definition.in_file) {
        TRY(store_file_name(db, index, part->content, &part->file, error));
    }
    TRY(store_path(db, index, part, scratch, &path, error));
    int failed = path[0] == '\0' ? -1 : db->env.io.rename(db->env.io.context, temporary, path);
    if (failed != 0 && index->definition.in_file) {
        return error_io(error, failed, "rename", temporary);
    }
    if (failed != 0) {
        (void)db->env.io.remove(db->env.io.context, temporary);
    } else if (!index->definition.in_file) {
        cache_collect(&db->env);
    }
    return ANNEX_OK;
}

/* What was measured at the effort that a search for this recall takes. */
static double store_recall(const annex_index_info *info, double wanted)
{
    double best = 0;
    if (info->family == ANNEX_FLAT || info->n_recall_points == 0) {
        return 1;
    }
    for (uint32_t i = 0; i < info->n_recall_points && best < wanted; i++) {
        best = MAX(best, (double)info->recall_points[i].recall);
    }
    return best;
}

/* Builds into *temporary; in memory, with *temporary NULL, when there is no cache to write to. */
static annex_status store_build_part(annex_db *db, struct catalog_index *index,
                                     const annex_rows *rows, annex_family family,
                                     struct catalog_part *part, struct arena *scratch,
                                     const char **temporary, annex_error *error)
{
    const struct definition *definition = &index->definition;
    annex_build_options options = ANNEX_BUILD_OPTIONS_INIT;
    const annex_engine *engine = NULL;
    annex_error why = {ANNEX_OK, ""};
    TRY(store_engine(db, index->name, definition->engine, &engine, error));
    options.metric = definition->metric;
    options.dimension = definition->dimension;
    options.key_kind = index->shape.integer ? ANNEX_KEY_INTEGER : ANNEX_KEY_BYTES;
    options.family = family;
    options.raw = ANNEX_RAW_NONE; /* the table has them */
    options.codes = definition->codes;
    options.degree = definition->degree;
    options.effort = definition->effort;
    options.threads = definition->threads;
    TRY(store_temporary(db, index, scratch, temporary, error));
    const char *json = definition->engine_options;
    annex_status status =
        engine_build(&db->env, engine, &options, json, rows, *temporary, &part->index, &why);
    bool refused = status == ANNEX_IO || status == ANNEX_FULL;
    if (refused && *temporary != NULL && !definition->in_file) {
        log_message(&db->env, ANNEX_LOG_INFO, "index %s is built in memory: %s", index->name,
                    why.message);
        *temporary = NULL;
        return engine_build(&db->env, engine, &options, json, rows, NULL, &part->index, error);
    }
    return status == ANNEX_OK ? status : error_set(error, status, "%s", why.message);
}

/* A part that was made becomes the last one of the index, and its file gets its name. */
static annex_status store_take(annex_db *db, struct catalog_index *index, struct catalog_part *part,
                               struct arena *scratch, const char *temporary, annex_error *error)
{
    engine_describe(part->index, &part->info);
    part->slots = part->info.slots;
    part->bytes = part->info.bytes;
    part->family = engine_native_index(part->index) != NULL ? annex_family_name(part->info.family)
                                                            : index->definition.engine;
    part->recall = store_recall(&part->info, index->definition.recall);
    memcpy(part->content, part->info.content, sizeof part->content);
    index->n_parts++; /* from here on it is released with the index */
    TRY(memory_new(&db->env, bitmap_words(part->slots), 8, &part->dead, error));
    TRY(memory_new(&db->env, bitmap_words(part->slots), 8, &part->allowed, error));
    if (temporary != NULL) {
        TRY(store_settle(db, index, part, scratch, temporary, error));
    }
    if (part->slots == 0) { /* a segment without rows says nothing */
        store_remove(db, index, part);
        store_close(db, part);
        index->n_parts--;
    }
    return ANNEX_OK;
}

annex_status store_build(annex_db *db, struct catalog_index *index, const annex_rows *rows,
                         annex_family family, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct catalog_part *part = NULL;
    const char *temporary = NULL;
    annex_status status = store_add_part(index, &part, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(store_build_part(db, index, rows, family, part, &scratch, &temporary, error));
    status = store_take(db, index, part, &scratch, temporary, error);
cleanup:
    arena_free(&scratch);
    return status;
}

annex_status store_grow(annex_db *db, struct catalog_index *index, const struct catalog_part *from,
                        const annex_rows *rows, uint64_t n_rows, bool *made, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct engine_change change = {.rows = rows, .n_rows = n_rows};
    struct catalog_part *part = NULL;
    const char *temporary = NULL;
    uint32_t *gone = NULL;
    annex_error why = {ANNEX_OK, ""};
    *made = false;
    annex_status status = store_temporary(db, index, &scratch, &temporary, error);
    TRY_CLEANUP(status);
    if (temporary == NULL) {
        goto cleanup; /* without a cache segments are built in memory */
    }
    TRY_CLEANUP(store_add_part(index, &part, error));
    TRY_CLEANUP(arena_new(&scratch, (size_t)from->n_dead, sizeof *gone, &gone, error));
    for (uint32_t row = 0; row < from->slots; row++) {
        if (part_is_dead(from, row)) {
            gone[change.n_gone++] = row;
        }
    }
    change.gone = gone;
    status = engine_grow(from->index, &change, temporary, &part->index, &why);
    if (status == ANNEX_IO || status == ANNEX_FULL) {
        log_message(&db->env, ANNEX_LOG_INFO, "index %s is built anew: %s", index->name,
                    why.message);
        status = ANNEX_OK;
        goto cleanup;
    }
    TRY_CLEANUP(status == ANNEX_OK ? status : error_set(error, status, "%s", why.message));
    *made = part->index != NULL;
    if (*made) {
        TRY_CLEANUP(store_take(db, index, part, &scratch, temporary, error));
    }
cleanup:
    arena_free(&scratch);
    return status;
}

annex_status store_write(annex_db *db, struct catalog_index *index, struct catalog_part *part,
                         annex_error *error)
{
    TRY(schema_insert_part(db, index, part, error));
    /* Chunks of a part that somebody deleted from annex_part may have the same number. */
    TRY(host_run(db->host, error, "DELETE FROM %s.annex_segment WHERE part = %lld",
                 index->schema_sql, (long long)part->id));
    return part->file[0] == '\0' ? store_insert_chunks(db, index, part, error) : ANNEX_OK;
}

bool store_is_same(const struct catalog_part *a, const struct catalog_part *b)
{
    return memcmp(a->content, b->content, sizeof a->content) == 0 && strcmp(a->file, b->file) == 0;
}

void store_remove(annex_db *db, struct catalog_index *index, const struct catalog_part *part)
{
    struct arena scratch = {&db->env, NULL};
    const char *path = NULL;
    /* A file beside the database may still be needed when the caller rolls back. */
    bool keep = part->file[0] != '\0' && db->host->type->in_transaction(db->host);
    if (!keep && store_path(db, index, part, &scratch, &path, NULL) == ANNEX_OK &&
        path[0] != '\0') {
        (void)db->env.io.remove(db->env.io.context, path);
    }
    arena_free(&scratch);
}
