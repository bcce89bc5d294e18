/*
 * graph.h - walking a navigable graph: best-first search over codes.
 *
 * A graph is one layer: row u has up to `degree` neighbours at neighbours[u * degree], closed by
 * GRAPH_END when fewer. A walk keeps a pool of the nearest rows seen, sorted, and expands the
 * nearest ones that are not expanded yet until the first `window` of the pool are all expanded, or
 * until the next is too far to matter (walk.reach).
 *
 * Invariants
 *   1. The pool is sorted by (score, id) and holds no row twice: its order does not depend on the
 *      order in which rows were met.
 *   2. Ids read from `neighbours` are compared with `slots` before use: a damaged file costs
 *      recall, never a read outside the image.
 *   3. After a walk `visited` is all zero again, at a cost in proportion to the walk.
 * Does not: rerank, filter, lock. index/search.c and build/ do.
 */
#ifndef ANNEX_GRAPH_H
#define ANNEX_GRAPH_H

#include "quant/codec.h"

#define GRAPH_END 0xffffffffu
#define GRAPH_MAX_DEGREE 128
#define GRAPH_MAX_ENTRIES 256

struct graph {
    const struct codec *codec;
    const uint8_t *rows;        /* [slots x codec->row_bytes] */
    const uint32_t *neighbours; /* [slots x degree] */
    uint32_t degree;
    uint32_t slots;
    const uint32_t *entries; /* [n_entries] rows where walks start */
    uint32_t n_entries;
};

/* A row seen by a walk, as one number that sorts by (score, id). The lowest bit: expanded. */
typedef uint64_t walk_item;

static inline uint32_t walk_ordered_bits(float score)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
static inline walk_item walk_item_of(float score, uint32_t id)
{
    return (uint64_t)walk_ordered_bits(score) << 32 | (uint64_t)id << 1;
}
static inline uint32_t walk_id(walk_item item)
{
    return (uint32_t)item >> 1;
}
static inline float walk_score(walk_item item)
{
    uint32_t ordered = (uint32_t)(item >> 32);
    uint32_t bits = ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered;
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* What one walk needs; made once, used for many walks, by one thread at a time. */
struct walk {
    walk_item *pool; /* [room], sorted */
    uint32_t size;
    uint32_t capacity; /* how much of the pool this walk may use */
    uint32_t room;
    uint64_t *visited; /* bitmap [slots] */
    uint32_t *touched; /* rows set in visited, up to touched_capacity of them */
    uint32_t n_touched, touched_capacity;
    uint32_t slots;
    walk_item *expanded; /* optional [expanded_capacity]: every row that was expanded, in order */
    uint32_t n_expanded, expanded_capacity;
    uint64_t hops, scored;
    /*
     * Rows farther than (1 + reach) times the distance of the pool's `near`-th are not expanded,
     * unless they are among its first `least`, nor kept, unless among its first `wanted`: easy
     * queries end early, hard ones use the window (adaptive beam search: Al-Jazzazi et al., 2025,
     * arXiv 2505.15636). 0: off.
     */
    float reach;
    uint32_t near, least, wanted;
    /*
     * Asked before rows that would bring `scored` to check_at or beyond: how many of them may be
     * scored, fewer to end the walk; it moves check_at on. Never asked with UINT64_MAX.
     */
    uint64_t check_at;
    uint32_t (*check)(void *context, struct walk *walk, uint32_t n);
    void *check_context;
};

static inline const uint32_t *graph_neighbours(const struct graph *graph, uint32_t id)
{
    return graph->neighbours + (size_t)id * graph->degree;
}
static inline void graph_prefetch(const struct graph *graph, uint32_t id)
{
    const char *row = (const char *)graph_neighbours(graph, id);
    for (uint32_t j = 0; j < graph->degree * 4; j += 64) {
        __builtin_prefetch(row + j);
    }
}

/*
 * Marks a row as seen; 1 when it was not. Half of all neighbours have been seen and no branch
 * predictor can tell which: the stores are made in any case and only the count depends.
 */
static inline uint32_t walk_mark(struct walk *walk, uint32_t id)
{
    uint64_t *word = &walk->visited[id / 64];
    uint32_t fresh = !(*word >> (id % 64) & 1);
    *word |= UINT64_C(1) << (id % 64);
    walk->touched[MIN(walk->n_touched, walk->touched_capacity)] = id;
    walk->n_touched += fresh;
    return fresh;
}
/* How many of the next n rows may be scored. */
static inline uint32_t walk_room(struct walk *walk, uint32_t n)
{
    return walk->scored + n < walk->check_at ? n : walk->check(walk->check_context, walk, n);
}
/* The first item that is too far by walk->reach, if it is not among the first `least`. */
walk_item walk_bar(const struct query *query, const struct walk *walk, uint32_t least);
/*
 * Scores ids[0..n), at most 2 * GRAPH_MAX_DEGREE, and keeps the good ones; returns the lowest
 * position of the pool that changed.
 */
uint32_t walk_absorb(const struct graph *graph, const struct query *query, struct walk *walk,
                     const uint32_t *ids, uint32_t n);
/* Takes all marks away. */
void walk_forget(struct walk *walk);

annex_status walk_new(const annex_env *env, uint32_t slots, uint32_t capacity,
                      uint32_t expanded_capacity, struct walk *walk, annex_error *error);
void walk_free(const annex_env *env, struct walk *walk);

/* Walks from the graph's entries: the pool holds the nearest rows found, at most `capacity`. */
void graph_walk(const struct graph *graph, const struct query *query, uint32_t window,
                struct walk *walk);

#endif
