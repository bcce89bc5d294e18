/*
 * engine.c - an opened segment. One of the native engine is an annex_index and nothing else; one of
 * a plug-in is its frame, mapped or in memory, and what the plug-in made of the image inside.
 */
#include "engine/engine.h"
#include "index/index.h"

annex_index *engine_native_index(const struct engine_index *index)
{
    bool native = index->engine->flags & ANNEX_ENGINE_FILES;
    return native ? (annex_index *)index->handle : NULL;
}

/* ---- opening ----------------------------------------------------------------------------------*/

void engine_close(struct engine_index *index)
{
    if (index == NULL) {
        return;
    }
    annex_env env = index->env;
    index->engine->close(index->handle);
    if (index->file != NULL) {
        if (index->image != NULL) {
            env.io.unmap(env.io.context, index->image, index->bytes);
        }
        (void)env.io.close(env.io.context, index->file);
    }
    buffer_free(&env, &index->owned);
    memory_free(&env, index, 1, sizeof *index);
}

static annex_status engine_new(const annex_env *env, const annex_engine *engine,
                               struct engine_index **index, annex_error *error)
{
    TRY(memory_new(env, 1, sizeof **index, index, error));
    (*index)->env = *env;
    (*index)->engine = engine;
    return ANNEX_OK;
}

/* Reads the frame at index->image, and gives what is inside to the plug-in. */
static annex_status engine_read(struct engine_index *index, annex_error *error)
{
    const annex_engine *engine = index->engine;
    const struct frame *frame = &index->frame;
    annex_engine_info info = {.struct_bytes = sizeof info};
    annex_error why = {ANNEX_OK, ""};
    TRY(frame_read(engine->name, index->image, index->bytes, &index->frame, error));
    annex_status status = engine->open(&index->env, NULL, frame->engine_image, frame->engine_bytes,
                                       0, &index->handle, &why);
    if (status != ANNEX_OK) {
        index->handle = NULL;
        return engine_failed(engine, status, &why, error);
    }
    engine->describe(index->handle, &info);
    return info.rows == frame->rows
               ? ANNEX_OK
               : error_set(error, ANNEX_DAMAGED, "the engine %s finds %llu rows in a segment of %u",
                           engine->name, (unsigned long long)info.rows, frame->rows);
}

static annex_status engine_map(struct engine_index *index, const char *path, annex_error *error)
{
    const annex_io *io = &index->env.io;
    int failure = io->open(io->context, path, ANNEX_OPEN_READ, &index->file);
    if (failure != 0) {
        index->file = NULL;
        return error_io(error, failure, "open", path);
    }
    failure = io->size(io->context, index->file, &index->bytes);
    if (failure == 0 && index->bytes == 0) {
        return error_set(error, ANNEX_DAMAGED, "%s is empty", path);
    }
    if (failure == 0) {
        failure = io->map(io->context, index->file, index->bytes, &index->image);
    }
    if (failure != 0) {
        index->image = NULL;
        return error_io(error, failure, "map", path);
    }
    return engine_read(index, error);
}

static annex_status engine_open_any(const annex_env *env, const annex_engine *engine,
                                    const char *path, const void *image, uint64_t bytes,
                                    struct engine_index **out, annex_error *error)
{
    struct engine_index *index = NULL;
    *out = NULL;
    TRY(engine_new(env, engine, &index, error));
    annex_status status = ANNEX_OK;
    if (engine->flags & ANNEX_ENGINE_FILES) {
        status = engine->open(env, path, image, bytes, path != NULL ? 0 : ANNEX_INDEX_VERIFY,
                              &index->handle, error);
    } else if (path != NULL) {
        status = engine_map(index, path, error);
    } else {
        index->image = image;
        index->bytes = bytes;
        status = engine_read(index, error);
    }
    if (status != ANNEX_OK) {
        engine_close(index);
        return status;
    }
    *out = index;
    return ANNEX_OK;
}

annex_status engine_open(const annex_env *env, const annex_engine *engine, const char *path,
                         struct engine_index **index, annex_error *error)
{
    return engine_open_any(env, engine, path, NULL, 0, index, error);
}

annex_status engine_open_image(const annex_env *env, const annex_engine *engine, const void *image,
                               uint64_t bytes, struct engine_index **index, annex_error *error)
{
    return engine_open_any(env, engine, NULL, image, bytes, index, error);
}

/* ---- building ---------------------------------------------------------------------------------*/

static annex_status engine_build_native(const annex_env *env, const annex_engine *engine,
                                        const annex_build_options *options, const char *json,
                                        const annex_rows *rows, const char *path,
                                        struct engine_index **out, annex_error *error)
{
    struct engine_index *index = NULL;
    TRY(engine_new(env, engine, &index, error));
    annex_status status = engine->build(env, options, json, rows, path, &index->handle, error);
    if (status != ANNEX_OK) {
        engine_close(index);
        return status;
    }
    *out = index;
    return ANNEX_OK;
}

static annex_status engine_write_file(const annex_env *env, const struct buffer *image,
                                      const char *path, annex_error *error)
{
    struct replace_file file;
    TRY(replace_begin(&file, env, path, error));
    annex_status status = replace_write(&file, image->data, image->bytes, 0, error);
    if (status != ANNEX_OK) {
        replace_abort(&file);
        return status;
    }
    return replace_commit(&file, error);
}

annex_status engine_build(const annex_env *env, const annex_engine *engine,
                          const annex_build_options *options, const char *json,
                          const annex_rows *rows, const char *path, struct engine_index **index,
                          annex_error *error)
{
    struct buffer image = {0};
    *index = NULL;
    if (engine->flags & ANNEX_ENGINE_FILES) {
        return engine_build_native(env, engine, options, json, rows, path, index, error);
    }
    annex_status status = frame_build(env, engine, options, json, rows, &image, error);
    TRY_CLEANUP(status);
    if (path != NULL) {
        TRY_CLEANUP(engine_write_file(env, &image, path, error));
        status = engine_open(env, engine, path, index, error);
        if (status != ANNEX_OK) {
            (void)env->io.remove(env->io.context, path);
        }
        goto cleanup;
    }
    TRY_CLEANUP(engine_open_image(env, engine, image.data, image.bytes, index, error));
    (*index)->owned = image;
    return ANNEX_OK;
cleanup:
    buffer_free(env, &image);
    return status;
}

/* ---- what there is in it ----------------------------------------------------------------------*/

void engine_describe(const struct engine_index *index, annex_index_info *info)
{
    const annex_index *native = engine_native_index(index);
    const struct frame *frame = &index->frame;
    annex_engine_info own = {.struct_bytes = sizeof own};
    if (native != NULL) {
        annex_index_describe(native, info);
        return;
    }
    index->engine->describe(index->handle, &own);
    *info = (annex_index_info){
        .metric = frame->metric,
        .dimension = frame->dimension,
        .key_kind = frame->key_kind,
        .rows = frame->rows,
        .slots = frame->rows,
        .bytes = index->bytes,
        .content = {frame->content[0], frame->content[1]},
        .n_recall_points = 1,
        .recall_points[0].recall = (float)own.recall,
    };
}

const void *engine_image(const struct engine_index *index, uint64_t *bytes)
{
    const annex_index *native = engine_native_index(index);
    *bytes = native != NULL ? native->segment->image_bytes : index->bytes;
    return native != NULL ? native->segment->image : index->image;
}

annex_status engine_find_row(const struct engine_index *index, int64_t integer, const void *bytes,
                             size_t n_bytes, uint32_t *row)
{
    const annex_index *native = engine_native_index(index);
    if (native == NULL) {
        return frame_find(&index->frame, integer, bytes, n_bytes, row);
    }
    return bytes == NULL ? annex_index_find(native, integer, row, NULL)
                         : annex_index_find_bytes(native, bytes, n_bytes, row, NULL);
}

annex_status engine_row_key(const struct engine_index *index, uint32_t row, int64_t *key,
                            annex_error *error)
{
    const annex_index *native = engine_native_index(index);
    if (native != NULL) {
        return annex_index_key(native, row, key, error);
    }
    assert(row < index->frame.rows);
    *key = index->frame.keys[row];
    return ANNEX_OK;
}

annex_status engine_row_key_bytes(const struct engine_index *index, uint32_t row, const void **key,
                                  size_t *bytes, annex_error *error)
{
    const annex_index *native = engine_native_index(index);
    if (native != NULL) {
        return annex_index_key_bytes(native, row, key, bytes, error);
    }
    assert(row < index->frame.rows);
    *key = frame_key_bytes(&index->frame, row, bytes);
    return ANNEX_OK;
}

annex_status engine_check(const struct engine_index *index, annex_error *error)
{
    const annex_index *native = engine_native_index(index);
    struct frame again;
    return native != NULL
               ? annex_index_check(native, error)
               : frame_read(index->engine->name, index->image, index->bytes, &again, error);
}

/* ---- searching --------------------------------------------------------------------------------*/

annex_status engine_search(const struct engine_index *index, const void *query, size_t k,
                           const annex_search_options *options, annex_hit *hits, size_t *found,
                           annex_error *error)
{
    return engine_native_index(index) != NULL
               ? index->engine->search(index->handle, query, 1, k, options, hits, found, error)
               : propose_search(index, query, k, options, hits, found, error);
}

annex_status engine_within(const struct engine_index *index, const void *query, double distance,
                           const annex_search_options *options, annex_hit **hits, size_t *n,
                           annex_error *error)
{
    const annex_index *native = engine_native_index(index);
    return native != NULL ? annex_index_within(native, query, distance, options, hits, n, error)
                          : propose_within(index, query, distance, options, hits, n, error);
}

void engine_hits_free(const struct engine_index *index, annex_hit *hits, size_t n)
{
    const annex_index *native = engine_native_index(index);
    if (native != NULL) {
        annex_hits_free(native, hits, n);
    } else {
        memory_free(&index->env, hits, index->frame.rows, sizeof *hits);
    }
}
