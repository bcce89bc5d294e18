/*
 * change_lists.c - changes of an index of lists, and their end: annex_index_save.
 *
 * A new row gets the code it would have in the list that is nearest, and lies behind all lists,
 * where every search looks at it, until annex_index_save puts it among the others. Centroids stay
 * as they are, so lists that grow much stay long until the index is built anew.
 */
#include "build/change.h"

annex_status lists_thaw(const annex_index *index, struct owned *owned, annex_error *error)
{
    const annex_env *env = &index->env;
    const struct ivf *ivf = &index->ivf;
    uint32_t block_bytes = ivf->rabitq.block_bytes, ordered = 0;
    owned->n_lists = ivf->n_lists;
    owned->block_bytes = block_bytes;
    TRY(memory_new(env, ivf->n_lists + UINT64_C(1), sizeof *owned->lists, &owned->lists, error));
    TRY(memory_new(env, ivf->n_lists, index->codec.row_bytes, &owned->centroids, error));
    TRY(memory_new(env, rabitq_blocks(owned->capacity), block_bytes, &owned->blocks, error));
    TRY(memory_new(env, owned->capacity, sizeof *owned->tail, &owned->tail, error));
    for (uint32_t list = 0; list <= ivf->n_lists; list++) { /* what a damaged file may say */
        owned->lists[list] = ivf->lists[list];
        ordered = MIN(MAX(ordered, ivf->lists[list].first), index->slots);
        owned->lists[list].first = ordered;
    }
    if (!ivf->tail) {
        owned->lists[ivf->n_lists].first = ordered = index->slots;
    }
    memcpy(owned->centroids, ivf->centroids, (size_t)ivf->n_lists * index->codec.row_bytes);
    if (index->slots) {
        memcpy(owned->blocks, ivf->blocks, rabitq_blocks(index->slots) * block_bytes);
    }
    if (index->slots > ordered) {
        memcpy(owned->tail, ivf->tail, (index->slots - ordered) * sizeof *owned->tail);
    }
    TRY(memory_new(env, 1, ivf_coder_bytes(&index->codec), &owned->coder, error));
    return kmeans_new(env, &index->codec, owned->codes, 1, NULL, &owned->kmeans, error);
}

void lists_free(const annex_index *index, struct owned *owned)
{
    const annex_env *env = &index->env;
    size_t n_lists = owned->n_lists;
    memory_free(env, owned->lists, n_lists + UINT64_C(1), sizeof *owned->lists);
    memory_free(env, owned->centroids, n_lists, index->codec.row_bytes);
    memory_free(env, owned->blocks, rabitq_blocks(owned->capacity), owned->block_bytes);
    memory_free(env, owned->tail, owned->capacity, sizeof *owned->tail);
    memory_free(env, owned->coder, 1, ivf_coder_bytes(&index->codec));
    kmeans_free(&owned->kmeans);
}

void lists_install(annex_index *index, const struct owned *owned)
{
    index->ivf.lists = owned->lists;
    index->ivf.centroids = owned->centroids;
    index->ivf.blocks = owned->blocks;
    index->ivf.tail = owned->tail;
}

void lists_insert(annex_index *index, uint32_t slot, float lost)
{
    struct owned *owned = index->owned;
    struct ivf_coder coder;
    float distance;
    codec_query_set_row(&owned->kmeans.queries[0], owned->codes);
    uint32_t list = kmeans_nearest(&owned->kmeans, 0, owned->centroids, owned->n_lists, &distance);
    ivf_coder_init(&index->codec, &coder, owned->coder);
    struct rabitq_residual residual =
        ivf_encode(&index->ivf, &index->codec, &coder, owned->codes, list,
                   ivf_block(&index->ivf, owned->blocks, slot), slot % RABITQ_ROWS);
    ivf_widen(&owned->lists[list], residual, lost);
    owned->tail[slot - owned->lists[owned->n_lists].first] = list;
}

/* ---- saving ----------------------------------------------------------------------------------*/

annex_status lists_save_order(const annex_index *index, uint32_t *old, uint32_t n,
                              struct ivf_list *lists, annex_error *error)
{
    const annex_env *env = &index->env;
    struct clusters clusters;
    uint32_t *list_of;
    TRY(memory_new_raw(env, n, sizeof *list_of, &list_of, error));
    for (uint32_t i = 0; i < n; i++) {
        list_of[i] = ivf_list_of(&index->ivf, old[i]);
    }
    annex_status status = clusters_new(env, old, list_of, n, index->ivf.n_lists, &clusters, error);
    memory_free(env, list_of, n, sizeof *list_of);
    TRY(status);
    for (uint32_t list = 0; list <= index->ivf.n_lists; list++) {
        lists[list] = index->ivf.lists[list];
        lists[list].first = clusters.bounds[list];
    }
    if (n > 0) {
        memcpy(old, clusters.ids, n * sizeof *old);
    }
    clusters_free(env, &clusters);
    return ANNEX_OK;
}

void lists_save_blocks(const annex_index *index, const uint32_t *old, uint32_t n, uint8_t *blocks)
{
    const struct ivf *ivf = &index->ivf;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *from =
            ivf->blocks + (size_t)(old[i] / RABITQ_ROWS) * ivf->rabitq.block_bytes;
        rabitq_copy(&ivf->rabitq, from, old[i] % RABITQ_ROWS, ivf_block(ivf, blocks, i),
                    i % RABITQ_ROWS);
    }
}
