/*
 * index.h - what an open annex_index is, for this room and build/.
 *
 * An index is arrays by slot (row number): codes, neighbours, keys … They point into a segment's
 * image until the first change; then build/change.c copies them to memory of their own (`owned`).
 *
 * Invariants
 *   1. A slot below `slots` is live or its bit in `dead` is set. Dead slots keep their code and
 *      edges, for walks that still pass through them, and are never found.
 *   2. Slots with the same code form a ring through `same`; only one of them, the representative,
 *      is in the graph. Without duplicates `same` is NULL.
 *   3. Searches hold `lock` for reading, changes for writing.
 * Order of calls in this room: search.c plans, nearest.c, flat.c and ivf.c find candidates, rank.c
 * gives them exact distances and sorts them.
 */
#ifndef ANNEX_INDEX_H
#define ANNEX_INDEX_H

#include <pthread.h>

#include "index/graph.h"
#include "index/ivf.h"
#include "quant/stored.h"
#include "segment/segment.h"

#define INDEX_CALIBRATED_K 10
#define INDEX_MAX_BUILD_EFFORT 4096

struct annex_index {
    annex_env env;
    struct segment *segment; /* NULL once owned */
    void *image;             /* built in memory: freed with the index */
    uint64_t image_bytes;
    struct segment_header header;
    struct codec codec;
    struct graph graph; /* codes of every family; edges of a graph */
    struct ivf ivf;     /* of lists, which have no codes in `graph` */
    uint32_t slots;
    uint32_t live;
    uint64_t *dead;      /* bitmap [capacity]; NULL: all live */
    const float *errors; /* [slots]; NULL for bits */
    const uint8_t *raw;  /* vectors as header.raw_code says; NULL: none stored */
    bool keeps_raw;      /* vectors are stored, also when there are no rows yet */
    const uint32_t *raw_row;
    const uint32_t *same;
    const int64_t *keys;
    const char *key_bytes;
    uint64_t n_key_bytes;
    const uint32_t *key_hash; /* [hash_size] slot + 1, 0: empty */
    uint64_t hash_size;
    struct annex_recall_point recall[ANNEX_MAX_RECALL_POINTS];
    uint32_t n_recall;
    bool dirty;
    /* What build/change.c owns once the index was changed, and how to free it. */
    struct owned *owned;
    void (*free_owned)(struct annex_index *index);
    pthread_mutex_t turn; /* taken before `lock`: readers who follow each other starve no writer */
    pthread_rwlock_t lock;
    pthread_mutex_t scratch_lock;
    struct scratch *scratch; /* free ones */
};

/* ---- index.c ---------------------------------------------------------------------------------*/

/* Makes an index of an opened segment, which it takes over (also on failure). */
annex_status index_new(const annex_env *env, struct segment *segment, void *image,
                       uint64_t image_bytes, annex_index **index, annex_error *error);
/* For searches. Small accessors take `lock` alone: a filter may call them during a search. */
static inline void index_begin_read(annex_index *index)
{
    pthread_mutex_lock(&index->turn);
    pthread_rwlock_rdlock(&index->lock);
    pthread_mutex_unlock(&index->turn);
}
static inline void index_begin_write(annex_index *index)
{
    pthread_mutex_lock(&index->turn);
    pthread_rwlock_wrlock(&index->lock);
    pthread_mutex_unlock(&index->turn);
}
static inline bool index_is_live(const annex_index *index, uint32_t slot)
{
    return !index->dead || !bitmap_get(index->dead, slot);
}
static inline const uint8_t *index_code(const annex_index *index, uint32_t slot)
{
    return index->graph.rows + (size_t)slot * index->codec.row_bytes;
}
/* How vectors are stored, here or for what `fetch` gives: see stored.h. */
static inline annex_codes index_stored(const annex_index *index)
{
    return (annex_codes)index->header.raw_code;
}
/* Refuses a query that has no distances. */
annex_status index_check_query(const annex_index *index, const void *vector, annex_error *error);
/* The stored vector of a slot, or NULL. */
const void *index_raw(const annex_index *index, uint32_t slot);

/* ---- key.c: slot <-> key ---------------------------------------------------------------------*/

struct key_view {
    int64_t number;
    const char *bytes; /* NULL for integer keys */
    size_t n_bytes;
};

struct key_view key_of(const annex_index *index, uint32_t slot);
/* Order of keys: numeric, or memcmp with the shorter first. */
int key_compare(struct key_view a, struct key_view b);
uint64_t key_hash(struct key_view key);
/* The live slot of a key; false when there is none. */
bool key_find(const annex_index *index, struct key_view key, uint32_t *slot);
/* "7", or "'abc'" shortened, for messages. */
const char *key_text(struct key_view key, char text[64]);

/* ---- scratch.c: working memory of one searching thread ----------------------------------------*/

/* A candidate for the answer. */
struct ranked {
    float order; /* order distance: exact after rank_exact, else the code's lower bound */
    uint32_t slot;
};

struct scratch {
    struct scratch *next;
    struct walk walk;
    struct query query;
    void *query_memory; /* [query_bytes] */
    size_t query_bytes;
    struct ivf_scratch ivf;
    struct ranked *items; /* [items_capacity] */
    size_t n_items, items_capacity;
    float *heap; /* [heap_capacity] the k smallest upper bounds, largest first */
    size_t n_heap, heap_capacity;
    void *vectors;  /* [RANK_BLOCK vectors] fetched, or one decoded */
    bool reports;   /* used by the thread that made the call, which alone may call log.progress */
    bool cancelled; /* by log.progress */
    bool cut;       /* by max_scan or stop: the answer is what was found so far */
    uint64_t reranked, scanned;
    /* Of the search on its way. */
    annex_index *index;
    const annex_search_options *options;
    uint64_t n_cut; /* searches */
};

enum { RANK_BLOCK = 64 };

/* For a search with these options, which holds `lock`. */
annex_status scratch_take(annex_index *index, const annex_search_options *options,
                          struct scratch **scratch, annex_error *error);
void scratch_return(annex_index *index, struct scratch *scratch);
void scratch_free_all(annex_index *index);
annex_status scratch_reserve_pool(annex_index *index, struct scratch *scratch, uint32_t capacity,
                                  annex_error *error);
annex_status scratch_reserve_heap(annex_index *index, struct scratch *scratch, size_t capacity,
                                  annex_error *error);
/* scratch->ivf, of an index with lists. */
annex_status scratch_reserve_lists(annex_index *index, struct scratch *scratch, annex_error *error);
/* Keeps `value` in scratch->heap if it is among the k smallest so far; heap[0] is the largest kept.
 */
void scratch_offer(struct scratch *scratch, size_t k, float value);
/* How many more codes the search may look at. */
uint64_t scratch_room(const struct scratch *scratch);
/* Asks progress and stop: true when the search is to end now, as scratch_halt tells. */
bool scratch_stops(struct scratch *scratch);
/* ANNEX_CANCELLED when that was the reason. */
annex_status scratch_halt(const struct scratch *scratch, annex_error *error);
/* Drops the items whose order is above `limit`. */
void scratch_keep_within(struct scratch *scratch, float limit);
annex_status scratch_push(annex_index *index, struct scratch *scratch, float order, uint32_t slot,
                          annex_error *error);

/* ---- rerank (inline) -------------------------------------------------------------------------*/

/* Candidates of a walk that get their exact distance: all it takes when scores are exact already.
 */
static inline size_t index_rerank(size_t k, uint32_t window, bool scores_are_exact)
{
    return scores_are_exact ? k : k + 16 + window / 8;
}

/* ---- candidates (inline) ---------------------------------------------------------------------*/

enum { CANDIDATES_MORE = 1024 };

/*
 * The rows that a walk found, nearest first, each with the rows that have the same code, until
 * `wanted` are taken. Rows with the same code that lose something else by it are not equal, and
 * their order is not known: up to CANDIDATES_MORE of them do not count.
 */
struct candidates {
    const struct walk *walk;
    const uint32_t *same; /* as annex_index has them */
    const float *errors;
    uint32_t slots;
    size_t wanted;
    uint32_t slot; /* the candidate */
    uint32_t at;   /* of the pool */
    uint32_t steps;
    size_t n, more;
};

static inline bool candidates_next(struct candidates *all)
{
    const walk_item *pool = all->walk->pool;
    if (all->steps > 0) {
        uint32_t first = walk_id(pool[all->at]);
        all->slot = all->same ? MIN(all->same[all->slot], all->slots - 1) : first;
        bool over = all->slot == first || all->steps == all->slots;
        all->at += over;
        all->steps = over ? 0 : all->steps + 1;
    }
    if (all->n >= all->wanted || all->at >= all->walk->size) {
        return false;
    }
    if (all->steps == 0) {
        all->slot = walk_id(pool[all->at]);
        all->steps = 1;
    }
    return true;
}

static inline void candidates_take(struct candidates *all)
{
    bool more = all->errors && all->more < CANDIDATES_MORE &&
                all->errors[all->slot] != all->errors[walk_id(all->walk->pool[all->at])];
    all->more += more;
    all->n += !more;
}

/* ---- measured recall (inline) ---------------------------------------------------------------*/

/*
 * The recall that must have been measured to promise `recall`: some 200 rows measured it, and rows
 * are nearer to each other than queries are to rows. On the sets tried that was up to a point.
 */
static inline float index_measured_for(double recall)
{
    return (float)(recall + (1 - recall) / 3);
}

/* ---- reach (inline) --------------------------------------------------------------------------*/

enum { INDEX_REACH_LOW = 24, INDEX_REACH_HIGH = 96 }; /* efforts whose reach the header holds */

/* The window of a walk whose reach makes it expand `effort` rows on average. */
static inline uint32_t index_window(float reach, uint32_t effort)
{
    return reach > 0 ? 2 * effort : effort;
}

/*
 * The reach (graph.h) at which queries expand `effort` rows on average, between and beyond the two
 * that were measured: it grows with the logarithm, here in steps of a power of two joined by lines.
 */
static inline float index_reach(const float reach[2], uint32_t effort)
{
    if (reach[0] == 0) {
        return 0;
    }
    uint32_t power = 31 - (uint32_t)__builtin_clz(effort | 1);
    float log2 = (float)power + (float)(effort - (1u << power)) / (float)(1u << power);
    float low = 4.5f, high = 6.5f; /* of the two efforts */
    float between = (log2 - low) / (high - low);
    return MAX(reach[0] + between * (reach[1] - reach[0]), reach[0] / 8);
}

/* ---- filter (inline) -------------------------------------------------------------------------*/

static inline bool filter_passes(const annex_index *index, const annex_search_options *options,
                                 uint32_t slot)
{
    if (!index_is_live(index, slot) || (options->allowed && !bitmap_get(options->allowed, slot))) {
        return false;
    }
    return !options->accept ||
           options->accept(options->accept_context, slot,
                           index->header.key_kind == ANNEX_KEY_INTEGER ? index->keys[slot] : 0);
}

/* ---- flat.c ----------------------------------------------------------------------------------*/

/*
 * Scans all rows that pass. Candidates for the k nearest are left in scratch->items with their
 * lower bounds; *limit is the k-th smallest upper bound: every row that is not a candidate is
 * farther.
 */
annex_status flat_nearest(annex_index *index, struct scratch *scratch, size_t k,
                          const annex_search_options *options, float *limit, annex_error *error);
/* Leaves in scratch->items every passing row whose lower bound is at most `order`. */
annex_status flat_within(annex_index *index, struct scratch *scratch, float order,
                         const annex_search_options *options, annex_error *error);

/* ---- rank.c ----------------------------------------------------------------------------------*/

/*
 * Replaces the bounds of scratch->items by exact order distances where vectors are to be had,
 * removes rows that `fetch` says are gone, and sorts by (order, key). Items must be sorted by
 * bound; it stops early when k exact ones are nearer than the next bound. *dropped counts removed
 * rows; rows that are not behind options->after are removed and not counted.
 */
annex_status rank_exact(annex_index *index, struct scratch *scratch, size_t k,
                        const annex_search_options *options, size_t *dropped, annex_error *error);
/* Sorts scratch->items by (order, key). */
annex_status rank_sort(annex_index *index, struct scratch *scratch, annex_error *error);
/* Writes the first n of scratch->items. */
void rank_write_hits(const annex_index *index, const struct scratch *scratch, size_t n,
                     annex_hit *hits);

#endif
