/*
 * native.c - the engine of Annex as a table: annex_index_* by other names.
 *
 * Its segments hold keys and checksums themselves, so they need no frame around them.
 */
#include "engine/engine.h"
#include "index/index.h"

static annex_index *native_of(const annex_engine_index *index)
{
    union {
        const annex_engine_index *from;
        annex_index *to;
    } handle = {.from = index};
    return handle.to;
}

static annex_status native_build(const annex_env *env, const annex_build_options *options,
                                 const char *json, const annex_rows *rows, const char *path,
                                 annex_engine_index **index, annex_error *error)
{
    (void)json;
    annex_index *built = NULL;
    annex_status status = annex_build(env, options, rows, path, &built, error);
    *index = (annex_engine_index *)built;
    return status;
}

static annex_status native_open(const annex_env *env, const char *path, const void *image,
                                uint64_t bytes, unsigned flags, annex_engine_index **index,
                                annex_error *error)
{
    annex_index *opened = NULL;
    annex_status status = path != NULL
                              ? annex_index_open(env, path, flags, &opened, error)
                              : annex_index_open_image(env, image, bytes, flags, &opened, error);
    *index = (annex_engine_index *)opened;
    return status;
}

static void native_close(annex_engine_index *index)
{
    annex_index_close(native_of(index));
}

/* Exact below the effort that searches take when they name none. */
static double native_recall(const annex_index_info *info)
{
    double recall = info->default_effort == 0 ? 1 : 0;
    for (uint32_t i = 0; i < info->n_recall_points; i++) {
        if (info->recall_points[i].effort <= info->default_effort) {
            recall = MAX(recall, (double)info->recall_points[i].recall);
        }
    }
    return recall;
}

static void native_describe(const annex_engine_index *index, annex_engine_info *info)
{
    annex_index_info own;
    annex_index_describe(native_of(index), &own);
    info->rows = own.slots;
    info->recall = native_recall(&own);
}

static annex_status native_save(const annex_engine_index *index, annex_engine_write put,
                                void *context, annex_error *error)
{
    const annex_index *own = native_of(index);
    if (own->segment == NULL || own->dirty) {
        return error_set(error, ANNEX_UNSUPPORTED,
                         "an index that was changed has no image; annex_index_save writes one to a "
                         "file");
    }
    return put(context, own->segment->image, own->segment->image_bytes, error);
}

static annex_status native_search(const annex_engine_index *index, const void *queries,
                                  size_t n_queries, size_t k, const annex_search_options *options,
                                  annex_hit *hits, size_t *found, annex_error *error)
{
    return annex_index_search(native_of(index), queries, n_queries, k, options, hits, found, error);
}

static annex_status native_add(annex_engine_index *index, const annex_batch *batch,
                               annex_error *error)
{
    return annex_index_insert(native_of(index), batch, error);
}

static annex_status native_remove(annex_engine_index *index, const uint32_t *rows, size_t n,
                                  annex_error *error)
{
    annex_index *own = native_of(index);
    struct buffer keys = {0}, ends = {0};
    annex_index_info info;
    annex_status status = ANNEX_OK;
    annex_index_describe(own, &info);
    bool integer = info.key_kind == ANNEX_KEY_INTEGER;
    for (size_t i = 0; i < n; i++) {
        int64_t key = 0;
        const void *bytes = &key;
        size_t n_bytes = sizeof key;
        TRY_CLEANUP(integer ? annex_index_key(own, rows[i], &key, error)
                            : annex_index_key_bytes(own, rows[i], &bytes, &n_bytes, error));
        TRY_CLEANUP(buffer_append(&own->env, &keys, bytes, n_bytes, error));
        uint64_t end = keys.bytes;
        TRY_CLEANUP(buffer_append(&own->env, &ends, &end, sizeof end, error));
    }
    annex_batch batch = {.n = n};
    if (integer) {
        batch.keys = (const int64_t *)(const void *)keys.data;
    } else {
        batch.key_bytes = keys.data;
        batch.key_ends = (const uint64_t *)(const void *)ends.data;
    }
    status = n > 0 ? annex_index_delete(own, &batch, error) : ANNEX_OK;
cleanup:
    buffer_free(&own->env, &keys);
    buffer_free(&own->env, &ends);
    return status;
}

static const annex_engine native_engine = {
    .abi = ANNEX_ENGINE_ABI,
    .flags = ANNEX_ENGINE_FILES,
    .struct_bytes = sizeof(annex_engine),
    .name = "annex",
    .build = native_build,
    .open = native_open,
    .close = native_close,
    .describe = native_describe,
    .save = native_save,
    .search = native_search,
    .add = native_add,
    .remove = native_remove,
};

const annex_engine *annex_engine_native(void)
{
    return &native_engine;
}
