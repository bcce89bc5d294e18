/*
 * grow.c - a segment with some rows less and others more, written as a new one: what its graph has
 * learned stays, where a build would learn all of it again.
 *
 * Invariants
 *   1. The segment that it grows from stays as it is, and may be searched meanwhile.
 *   2. What does not come to its end leaves no file.
 * Does not: grow segments of plug-ins, whose frame names every row; they are built anew.
 */
#include "build/change.h"
#include "engine/engine.h"

enum { GROW_STEP = 64 }; /* rows removed between two looks at whether to go on */

static annex_status grow_remove(const struct engine_index *from, annex_engine_index *grown,
                                const struct engine_change *change, struct progress *progress,
                                annex_error *error)
{
    for (size_t i = 0; i < change->n_gone; i += GROW_STEP) {
        size_t n = MIN(change->n_gone - i, (size_t)GROW_STEP);
        TRY(from->engine->remove(grown, change->gone + i, n, error));
        TRY(progress_update(progress, i + n, error));
    }
    return ANNEX_OK;
}

static annex_status grow_add(const struct engine_index *from, annex_engine_index *grown,
                             const struct engine_change *change, struct progress *progress,
                             annex_error *error)
{
    const annex_rows *rows = change->rows;
    annex_batch batch;
    TRY(rows->rewind(rows->context, error));
    TRY(rows->next(rows->context, &batch, error));
    while (batch.n > 0) {
        TRY(from->engine->add(grown, &batch, error));
        TRY(progress_update(progress, progress->done + batch.n, error));
        TRY(rows->next(rows->context, &batch, error));
    }
    return ANNEX_OK;
}

annex_status engine_grow(const struct engine_index *from, const struct engine_change *change,
                         const char *path, struct engine_index **out, annex_error *error)
{
    const annex_env *env = &from->env;
    const annex_index *native = engine_native_index(from);
    annex_index *grown = NULL;
    struct progress progress;
    uint64_t bytes = 0;
    *out = NULL;
    if (native == NULL) {
        return ANNEX_OK;
    }
    const void *image = engine_image(from, &bytes);
    annex_status status = annex_index_open_image(env, image, bytes, 0, &grown, error);
    TRY_CLEANUP(status);
    annex_engine_index *handle = (annex_engine_index *)grown;
    TRY_CLEANUP(progress_begin(&progress, env, "growing", change->n_gone + change->n_rows, error));
    TRY_CLEANUP(grow_remove(from, handle, change, &progress, error));
    TRY_CLEANUP(grow_add(from, handle, change, &progress, error));
    if (refit_is_due(grown, native)) {
        goto cleanup;
    }
    status = annex_index_save(grown, path, error);
    if (status == ANNEX_OK) {
        status = engine_open(env, from->engine, path, out, error);
    }
    if (status != ANNEX_OK) { /* it may have its name although its folder could not be synced */
        (void)env->io.remove(env->io.context, path);
    }
cleanup:
    annex_index_close(grown);
    return status;
}
