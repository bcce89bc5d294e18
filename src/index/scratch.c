/*
 * scratch.c - working memory of searches, kept with the index and used again, so that a search
 * allocates nothing once there are as many as threads that search.
 */
#include "index/index.h"

static void lists_free(const annex_index *index, struct ivf_scratch *lists)
{
    const annex_env *env = &index->env;
    memory_free(env, lists->memory, 1, rabitq_query_bytes(&index->ivf.rabitq));
    memory_free(env, lists->distances, lists->n_lists, sizeof *lists->distances);
    memory_free(env, lists->order, lists->n_lists, sizeof *lists->order);
    *lists = (struct ivf_scratch){0};
}

static void scratch_free(annex_index *index, struct scratch *scratch)
{
    const annex_env *env = &index->env;
    walk_free(env, &scratch->walk);
    lists_free(index, &scratch->ivf);
    memory_free(env, scratch->query_memory, 1, scratch->query_bytes);
    memory_free(env, scratch->items, scratch->items_capacity, sizeof *scratch->items);
    memory_free(env, scratch->heap, scratch->heap_capacity, sizeof *scratch->heap);
    memory_free(env, scratch->vectors, RANK_BLOCK, codec_vector_bytes(&index->codec));
    memory_free(env, scratch, 1, sizeof *scratch);
}

static annex_status scratch_new(annex_index *index, struct scratch **out, annex_error *error)
{
    const annex_env *env = &index->env;
    struct scratch *scratch;
    TRY(memory_new(env, 1, sizeof *scratch, &scratch, error));
    annex_status status;
    scratch->query_bytes = codec_query_bytes(&index->codec);
    TRY_CLEANUP(memory_new(env, 1, scratch->query_bytes, &scratch->query_memory, error));
    TRY_CLEANUP(
        memory_new(env, RANK_BLOCK, codec_vector_bytes(&index->codec), &scratch->vectors, error));
    codec_query_init(&index->codec, &scratch->query, scratch->query_memory);
    scratch->index = index;
    *out = scratch;
    return ANNEX_OK;
cleanup:
    scratch_free(index, scratch);
    return status;
}

annex_status scratch_take(annex_index *index, const annex_search_options *options,
                          struct scratch **scratch, annex_error *error)
{
    annex_status status = ANNEX_OK;
    pthread_mutex_lock(&index->scratch_lock);
    *scratch = index->scratch;
    if (*scratch) {
        index->scratch = (*scratch)->next;
    }
    pthread_mutex_unlock(&index->scratch_lock);
    if (*scratch && (*scratch)->query_bytes != codec_query_bytes(&index->codec)) {
        scratch_free(index, *scratch); /* of codes that were replaced meanwhile */
        *scratch = NULL;
    }
    if (!*scratch) {
        status = scratch_new(index, scratch, error);
    }
    if (*scratch) {
        (*scratch)->options = options;
        (*scratch)->cut = (*scratch)->cancelled = false;
    }
    return status;
}

void scratch_return(annex_index *index, struct scratch *scratch)
{
    if (!scratch) {
        return;
    }
    pthread_mutex_lock(&index->scratch_lock);
    scratch->next = index->scratch;
    index->scratch = scratch;
    pthread_mutex_unlock(&index->scratch_lock);
}

void scratch_free_all(annex_index *index)
{
    while (index->scratch) {
        struct scratch *scratch = index->scratch;
        index->scratch = scratch->next;
        scratch_free(index, scratch);
    }
}

/* What a larger pool takes over: counts, where walks end, and who is asked. */
static void walk_carry_on(struct walk *walk, const struct walk *before)
{
    walk->hops = before->hops;
    walk->scored = before->scored;
    walk->reach = before->reach;
    walk->near = before->near;
    walk->least = before->least;
    walk->wanted = before->wanted;
    walk->check_at = before->check_at;
    walk->check = before->check;
    walk->check_context = before->check_context;
}

annex_status scratch_reserve_pool(annex_index *index, struct scratch *scratch, uint32_t capacity,
                                  annex_error *error)
{
    if (scratch->walk.slots >= index->slots && scratch->walk.room >= capacity) {
        scratch->walk.capacity = capacity;
        return ANNEX_OK;
    }
    struct walk before = scratch->walk;
    walk_free(&index->env, &scratch->walk);
    TRY(walk_new(&index->env, index->slots, MAX(capacity, 256), 0, &scratch->walk, error));
    walk_carry_on(&scratch->walk, &before);
    return ANNEX_OK;
}

annex_status scratch_reserve_heap(annex_index *index, struct scratch *scratch, size_t capacity,
                                  annex_error *error)
{
    if (scratch->heap_capacity >= capacity) {
        return ANNEX_OK;
    }
    memory_free(&index->env, scratch->heap, scratch->heap_capacity, sizeof *scratch->heap);
    scratch->heap = NULL;
    scratch->heap_capacity = 0;
    TRY(memory_new_raw(&index->env, capacity, sizeof *scratch->heap, &scratch->heap, error));
    scratch->heap_capacity = capacity;
    return ANNEX_OK;
}

annex_status scratch_reserve_lists(annex_index *index, struct scratch *scratch, annex_error *error)
{
    const annex_env *env = &index->env;
    const struct ivf *ivf = &index->ivf;
    struct ivf_scratch *lists = &scratch->ivf;
    annex_status status;
    if (lists->memory) {
        return ANNEX_OK;
    }
    lists->n_lists = ivf->n_lists;
    TRY_CLEANUP(memory_new(env, 1, rabitq_query_bytes(&ivf->rabitq), &lists->memory, error));
    TRY_CLEANUP(memory_new(env, ivf->n_lists, sizeof *lists->distances, &lists->distances, error));
    TRY_CLEANUP(memory_new(env, ivf->n_lists, sizeof *lists->order, &lists->order, error));
    rabitq_query_init(&ivf->rabitq, &lists->query, lists->memory);
    return ANNEX_OK;
cleanup:
    lists_free(index, lists);
    return status;
}

annex_status scratch_push(annex_index *index, struct scratch *scratch, float order, uint32_t slot,
                          annex_error *error)
{
    if (scratch->n_items == scratch->items_capacity) {
        size_t capacity = MAX(1024, 2 * scratch->items_capacity);
        struct ranked *items;
        TRY(memory_new_raw(&index->env, capacity, sizeof *items, &items, error));
        if (scratch->n_items) {
            memcpy(items, scratch->items, scratch->n_items * sizeof *items);
        }
        memory_free(&index->env, scratch->items, scratch->items_capacity, sizeof *items);
        scratch->items = items;
        scratch->items_capacity = capacity;
    }
    scratch->items[scratch->n_items++] = (struct ranked){.order = order, .slot = slot};
    return ANNEX_OK;
}

void scratch_keep_within(struct scratch *scratch, float limit)
{
    size_t kept = 0;
    for (size_t i = 0; i < scratch->n_items; i++) {
        if (scratch->items[i].order <= limit) {
            scratch->items[kept++] = scratch->items[i];
        }
    }
    scratch->n_items = kept;
}

/* ---- ending early ----------------------------------------------------------------------------*/

uint64_t scratch_room(const struct scratch *scratch)
{
    uint64_t limit = scratch->options->max_scan ? scratch->options->max_scan : UINT64_MAX;
    return limit - MIN(limit, scratch->scanned + scratch->walk.scored);
}

bool scratch_stops(struct scratch *scratch)
{
    const annex_log *log = &scratch->index->env.log;
    const annex_search_options *options = scratch->options;
    if (scratch->reports && log->progress &&
        log->progress(log->context, "scanning", scratch->scanned, scratch->index->slots)) {
        scratch->cancelled = true;
    } else if (options->stop && options->stop(options->stop_context)) {
        scratch->cut = true;
    }
    return scratch->cancelled || scratch->cut;
}

annex_status scratch_halt(const struct scratch *scratch, annex_error *error)
{
    return scratch->cancelled ? error_set(error, ANNEX_CANCELLED, "the search was cancelled")
                              : ANNEX_OK;
}

/* ---- the k smallest numbers seen: a heap with the largest on top ------------------------------*/

static void heap_sink(float *heap, size_t n, size_t i)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) {
            return;
        }
        child += child + 1 < n && heap[child + 1] > heap[child];
        if (heap[i] >= heap[child]) {
            return;
        }
        float swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
        i = child;
    }
}

void scratch_offer(struct scratch *scratch, size_t k, float value)
{
    float *heap = scratch->heap;
    if (scratch->n_heap < k) {
        size_t i = scratch->n_heap++;
        for (; i > 0 && heap[(i - 1) / 2] < value; i = (i - 1) / 2) {
            heap[i] = heap[(i - 1) / 2];
        }
        heap[i] = value;
    } else if (value < heap[0]) {
        heap[0] = value;
        heap_sink(heap, k, 0);
    }
}
