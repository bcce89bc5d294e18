/*
 * graph.c - the walk. The inner loop of Annex: every line here is paid a thousand times a query.
 *
 * One hop takes the EXPAND best unexpanded rows at once, gathers their unvisited neighbours, scores
 * them in one call (which prefetches codes ahead), and merges the few that are good enough into the
 * pool. Nothing is allocated.
 */
#include "index/graph.h"

enum {
    EXPAND = 2,      /* rows expanded in one hop: their cache misses overlap */
    DESCENT = 4,     /* hops with one row each: what is second best there is far behind the best */
    MERGE_ROOM = 16, /* behind the pool, for what a merge pushes out */
    GROUP = 16,      /* candidates merged at a time */
    TOUCHED = 1 << 14
};

_Static_assert(GRAPH_MAX_ENTRIES <= EXPAND * GRAPH_MAX_DEGREE, "entries are scored in one call");

annex_status walk_new(const annex_env *env, uint32_t slots, uint32_t capacity,
                      uint32_t expanded_capacity, struct walk *walk, annex_error *error)
{
    *walk = (struct walk){.capacity = capacity,
                          .room = capacity,
                          .slots = slots,
                          .touched_capacity = MIN(slots, TOUCHED),
                          .expanded_capacity = expanded_capacity,
                          .check_at = UINT64_MAX};
    annex_status status =
        memory_new(env, capacity + MERGE_ROOM, sizeof *walk->pool, &walk->pool, error);
    if (!status) {
        status = memory_new(env, bitmap_words(slots), 8, &walk->visited, error);
    }
    if (!status) {
        status = memory_new(env, walk->touched_capacity + 1, 4, &walk->touched, error);
    }
    if (!status) {
        status = memory_new(env, expanded_capacity, sizeof *walk->expanded, &walk->expanded, error);
    }
    if (status) {
        walk_free(env, walk);
    }
    return status;
}

void walk_free(const annex_env *env, struct walk *walk)
{
    memory_free(env, walk->pool, walk->room + MERGE_ROOM, sizeof *walk->pool);
    memory_free(env, walk->visited, bitmap_words(walk->slots), 8);
    memory_free(env, walk->touched, walk->touched_capacity + 1, 4);
    memory_free(env, walk->expanded, walk->expanded_capacity, sizeof *walk->expanded);
    *walk = (struct walk){0};
}

void walk_forget(struct walk *walk)
{
    if (walk->n_touched > walk->touched_capacity) {
        memset(walk->visited, 0, bitmap_words(walk->slots) * 8);
    }
    for (uint32_t i = 0; i < MIN(walk->n_touched, walk->touched_capacity); i++) {
        walk->visited[walk->touched[i] / 64] = 0;
    }
    walk->n_touched = 0;
}

/*
 * Scores that differ by less do not tell which row is nearer, because the query is a code, too: as
 * each of its elements is off by unit / √12, scores are by twice that times its length. Rows near
 * each other share most of this. The part they do not share was found by trial.
 */
static float query_noise(const struct query *query)
{
    const struct codec *codec = query->codec;
    bool products = codec->codes == ANNEX_CODES_Q8 || codec->codes == ANNEX_CODES_Q4;
    bool squares = codec->metric == ANNEX_L2 || codec->metric == ANNEX_COSINE;
    float part = 0.577f / 32;
    return products && squares && !query->exact ? part * query->norm * query->scale : 0;
}

walk_item walk_bar(const struct query *query, const struct walk *walk, uint32_t least)
{
    if (walk->reach == 0 || walk->size < MAX(walk->near, least)) {
        return UINT64_MAX;
    }
    /* Distances count from the least one possible: under ip that is the product of the norms. */
    const struct codec *codec = query->codec;
    float zero = codec->metric == ANNEX_IP ? -query->norm * codec->max_norm : 0;
    float near = walk_score(walk->pool[walk->near - 1]);
    float limit = near + MAX(walk->reach * MAX(near - zero, 0), query_noise(query));
    return walk_item_of(MAX(limit, walk_score(walk->pool[least - 1])), GRAPH_END >> 1);
}

/* In groups, because each makes the pool better and spares the next one work. */
uint32_t walk_absorb(const struct graph *graph, const struct query *query, struct walk *walk,
                     const uint32_t *ids, uint32_t n)
{
    float scores[EXPAND * GRAPH_MAX_DEGREE];
    walk_item items[GROUP];
    codec_score(query, graph->rows, ids, n, scores);
    walk->scored += n;
    uint32_t lowest = UINT32_MAX;
    for (uint32_t first = 0; first < n; first += GROUP) {
        walk_item worst = walk_bar(query, walk, walk->wanted);
        if (walk->size == walk->capacity) {
            worst = MIN(worst, walk->pool[walk->size - 1]);
        }
        uint32_t kept = 0;
        for (uint32_t i = first; i < MIN(first + GROUP, n); i++) {
            walk_item item = walk_item_of(scores[i], ids[i]);
            items[kept] = item;
            kept += item < worst;
        }
        if (kept == 0) {
            continue;
        }
        uint32_t changed = query->codec->kernels->u64_merge(walk->pool, walk->size, items, kept);
        walk->size = MIN(walk->size + kept, walk->capacity);
        lowest = MIN(lowest, changed);
    }
    return lowest;
}

/* Appends the unvisited neighbours of `id` to ids[n]. */
static uint32_t gather(const struct graph *graph, struct walk *walk, uint32_t id, uint32_t *ids,
                       uint32_t n)
{
    /* The list ends at GRAPH_END, or at damage. */
    const uint32_t *row = graph_neighbours(graph, id);
    uint32_t fresh =
        graph->codec->kernels->bits_mark(row, graph->degree, graph->slots, walk->visited, ids + n);
    for (uint32_t i = 0; i < fresh; i++) {
        walk->touched[MIN(walk->n_touched + i, walk->touched_capacity)] = ids[n + i];
    }
    walk->n_touched += fresh;
    return n + fresh;
}

void graph_walk(const struct graph *graph, const struct query *query, uint32_t window,
                struct walk *walk)
{
    uint32_t ids[EXPAND * GRAPH_MAX_DEGREE + KERNEL_MARK_ROOM];
    assert(graph->n_entries <= GRAPH_MAX_ENTRIES && window <= walk->capacity);
    walk->size = walk->n_expanded = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < graph->n_entries; i++) {
        if (graph->entries[i] < graph->slots) {
            ids[n] = graph->entries[i];
            n += walk_mark(walk, ids[n]);
        }
    }
    walk_absorb(graph, query, walk, ids, walk_room(walk, n));
    uint32_t cursor = 0;
    for (uint32_t hop = 0;; hop++) {
        uint32_t limit = MIN(window, walk->size);
        uint32_t best[EXPAND], n_best = 0;
        uint32_t expand = hop < DESCENT ? 1 : EXPAND;
        walk_item bar = walk_bar(query, walk, walk->least);
        for (; cursor < limit && n_best < expand && walk->pool[cursor] < bar; cursor++) {
            if (!(walk->pool[cursor] & 1)) {
                if (walk->n_expanded < walk->expanded_capacity) {
                    walk->expanded[walk->n_expanded++] = walk->pool[cursor];
                }
                walk->pool[cursor] |= 1;
                best[n_best++] = walk_id(walk->pool[cursor]);
            }
        }
        if (n_best == 0) {
            break;
        }
        n = 0;
        for (uint32_t i = 0; i < n_best; i++) {
            n = gather(graph, walk, best[i], ids, n);
        }
        /* Likely next: unless something nearer turns up, these are expanded in the next hop. */
        for (uint32_t i = cursor, ahead = 0; i < limit && ahead < EXPAND; i++) {
            if (!(walk->pool[i] & 1)) {
                graph_prefetch(graph, walk_id(walk->pool[i]));
                ahead++;
            }
        }
        uint32_t more = walk_room(walk, n);
        if (more < n) {
            walk_absorb(graph, query, walk, ids, more);
            break;
        }
        uint32_t lowest = walk_absorb(graph, query, walk, ids, n);
        for (uint32_t i = lowest, near = 0; i < walk->size && near < EXPAND; i++) {
            if (!(walk->pool[i] & 1)) {
                graph_prefetch(graph, walk_id(walk->pool[i]));
                near++;
            }
        }
        cursor = MIN(cursor, lowest);
        walk->hops += n_best;
    }
    walk_forget(walk);
}
