/*
 * check.c - annex_index_check: reads a whole index and says the first thing that is wrong.
 *
 * Checksums find damage on the way; this also finds an index that was written wrong: ids out of
 * range, edges to dead ends, keys that do not lead back, rows that no walk can reach.
 */
#include <inttypes.h>

#include "index/index.h"

static annex_status damaged(annex_error *error, const char *what, uint32_t slot)
{
    return error_set(error, ANNEX_DAMAGED, "row %" PRIu32 " of the index %s; build it again", slot,
                     what);
}

static annex_status check_edges(const annex_index *index, annex_error *error)
{
    const struct graph *graph = &index->graph;
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        const uint32_t *row = graph->neighbours + (size_t)slot * graph->degree;
        bool ended = false;
        for (uint32_t i = 0; i < graph->degree; i++) {
            if (row[i] == GRAPH_END) {
                ended = true;
            } else if (ended || row[i] >= index->slots || row[i] == slot) {
                return damaged(error, "has a neighbour that cannot be", slot);
            }
        }
    }
    for (uint32_t i = 0; i < graph->n_entries; i++) {
        if (graph->entries[i] >= index->slots) {
            return damaged(error, "is an entry and does not exist", graph->entries[i]);
        }
    }
    return ANNEX_OK;
}

static annex_status check_keys(const annex_index *index, annex_error *error)
{
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        uint32_t found;
        if (index_is_live(index, slot) &&
            (!key_find(index, key_of(index, slot), &found) || found != slot)) {
            return damaged(error, "is not found by its key", slot);
        }
    }
    return ANNEX_OK;
}

static annex_status check_links(const annex_index *index, annex_error *error)
{
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        if (index->same && index->same[slot] >= index->slots) {
            return damaged(error, "has a twin that does not exist", slot);
        }
        if (index->raw_row && index->raw_row[slot] >= index->slots) {
            return damaged(error, "has a vector that does not exist", slot);
        }
    }
    return ANNEX_OK;
}

/* Marks a slot and its twins, and queues the ones that are new. */
static uint32_t mark(const annex_index *index, uint64_t *reached, uint32_t *queue, uint32_t n,
                     uint32_t slot)
{
    while (!bitmap_get(reached, slot)) {
        bitmap_set(reached, slot);
        queue[n++] = slot;
        slot = index->same ? index->same[slot] : slot;
    }
    return n;
}

static annex_status check_reach(const annex_index *index, annex_error *error)
{
    const struct graph *graph = &index->graph;
    uint64_t *reached = NULL;
    uint32_t *queue = NULL, n = 0;
    annex_status status;
    TRY_CLEANUP(memory_new(&index->env, bitmap_words(index->slots), 8, &reached, error));
    TRY_CLEANUP(memory_new_raw(&index->env, index->slots, sizeof *queue, &queue, error));
    for (uint32_t i = 0; i < graph->n_entries; i++) {
        n = mark(index, reached, queue, n, graph->entries[i]);
    }
    for (uint32_t next = 0; next < n; next++) {
        const uint32_t *row = graph->neighbours + (size_t)queue[next] * graph->degree;
        for (uint32_t i = 0; i < graph->degree && row[i] != GRAPH_END; i++) {
            n = mark(index, reached, queue, n, row[i]);
        }
    }
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        if (index_is_live(index, slot) && !bitmap_get(reached, slot)) {
            status = damaged(error, "cannot be reached by any search", slot);
            goto cleanup;
        }
    }
cleanup:
    memory_free(&index->env, reached, bitmap_words(index->slots), 8);
    memory_free(&index->env, queue, index->slots, sizeof *queue);
    return status;
}

annex_status annex_index_check(const annex_index *index, annex_error *error)
{
    if (index->segment) {
        TRY(segment_verify(index->segment, error));
    }
    annex_index *self = (annex_index *)(uintptr_t)index;
    annex_status status;
    index_begin_read(self);
    TRY_CLEANUP(check_links(index, error));
    TRY_CLEANUP(check_keys(index, error));
    if (index->header.family == ANNEX_IVF) {
        TRY_CLEANUP(ivf_check(index, error));
    }
    if (index->header.family == ANNEX_GRAPH && index->slots) {
        TRY_CLEANUP(check_edges(index, error));
        status = check_reach(index, error);
    }
cleanup:
    pthread_rwlock_unlock(&self->lock);
    return status;
}
