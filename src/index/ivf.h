/*
 * ivf.h - lists: every row belongs to the centroid it is near to, and is coded by one bit for each
 * dimension of what it differs from it (quant/rabitq.h). A search looks at the rows of the nearest
 * lists only, and at 1 / 30 of the bytes of their vectors.
 *
 * Slots are in the order of lists: list l has slots lists[l].first .. lists[l + 1].first, and
 * slot i is place i % 32 of block i / 32. Rows added to an open index lie behind the lists, each
 * with the number of its list in `tail`, until annex_index_save puts them in order.
 *
 * Effort is the number of lists that are looked at.
 *
 * Bounds of distances are those of rabitq.h: for exact searches the ones that always hold, for
 * others the ones that hold nearly always. When there are neither stored vectors nor
 * options->fetch, no distance can be made exact: the estimates are the answer.
 *
 * Invariants
 *   1. Centroids are codes of the index's codec, and residuals are taken from what these stand for.
 *   2. Bounds of lists read from a file are compared with `slots` before use.
 * Does not: build lists (build/ivf.c), rank by exact distances (rank.c).
 */
#ifndef ANNEX_IVF_H
#define ANNEX_IVF_H

#include "quant/codec.h"
#include "quant/rabitq.h"

struct annex_index;
struct scratch;

/* As in a file; the last one, behind all lists, has only `first`. */
struct ivf_list {
    uint32_t first;
    float radius; /* the largest residual of its rows */
    float spread; /* the largest of its rows, see rabitq.h */
    float lost;   /* how far the coded residual of a row may be from that of its vector */
};

_Static_assert(sizeof(struct ivf_list) == 16, "layout of SECTION_LISTS");

struct ivf {
    struct rabitq rabitq;
    const uint8_t *centroids;     /* [n_lists x codec.row_bytes] */
    const struct ivf_list *lists; /* [n_lists + 1] */
    const uint8_t *blocks;        /* [rabitq_blocks(slots) x rabitq.block_bytes] */
    const uint32_t *tail;         /* [slots behind the lists] their lists; NULL: none */
    uint32_t n_lists;
};

/* Working memory of one thread for coding rows. */
struct ivf_coder {
    float *vector;   /* [dimension] each */
    float *row;      /* rotated */
    float *centroid; /* rotated */
    float *work;
    uint32_t list; /* whose centroid it is; UINT32_MAX: none */
};

/* Of one search. */
struct ivf_scratch {
    struct rabitq_query query;
    void *memory;
    float *distances; /* [n_lists] of the centroids from the query */
    uint64_t *order;  /* [n_lists] distance << 32 | list, the nearest first */
    uint32_t n_lists;
};

bool ivf_supports(annex_metric metric);

static inline uint8_t *ivf_block(const struct ivf *ivf, uint8_t *blocks, uint32_t slot)
{
    return blocks + (size_t)(slot / RABITQ_ROWS) * ivf->rabitq.block_bytes;
}
/* Slots of a list, inside [0, slots) whatever a file says. */
static inline void ivf_range(const struct ivf *ivf, uint32_t list, uint32_t slots, uint32_t *first,
                             uint32_t *end)
{
    *end = MIN(ivf->lists[list + 1].first, slots);
    *first = MIN(ivf->lists[list].first, *end);
}
/* The list of a slot. */
uint32_t ivf_list_of(const struct ivf *ivf, uint32_t slot);

/* Makes the bounds of a list hold for one more row. */
static inline void ivf_widen(struct ivf_list *list, struct rabitq_residual residual, float lost)
{
    list->radius = MAX(list->radius, residual.radius);
    list->spread = MAX(list->spread, residual.spread);
    list->lost = MAX(list->lost, lost);
}

size_t ivf_coder_bytes(const struct codec *codec);
void ivf_coder_init(const struct codec *codec, struct ivf_coder *coder, void *memory);
/* Codes a row of the codec into the block of its slot. */
struct rabitq_residual ivf_encode(const struct ivf *ivf, const struct codec *codec,
                                  struct ivf_coder *coder, const uint8_t *row, uint32_t list,
                                  uint8_t *block, uint32_t place);

/*
 * The lower bound of a row's order distance, as searches that need not be certain use it: for
 * measuring what they would miss.
 */
float ivf_lower(const struct ivf *ivf, const struct codec *codec, const struct rabitq_query *query,
                uint32_t slot, float centroid_distance);

/*
 * Leaves the k nearest passing rows of the nearest `n_lists` lists in scratch->items, ranked;
 * looks at more lists while fewer than k passed. With 0 lists: of all rows, and certainly.
 */
annex_status ivf_nearest(struct annex_index *index, struct scratch *scratch, size_t k,
                         uint32_t n_lists, annex_error *error);
/* Leaves every passing row that may be within `order` in scratch->items, sorted. */
annex_status ivf_within(struct annex_index *index, struct scratch *scratch, float order,
                        annex_error *error);
/* About the vector of a slot, [dimension]. */
annex_status ivf_vector(const struct annex_index *index, uint32_t slot, float *vector,
                        annex_error *error);
/* Whether a row of the codec would get the code that a slot has. `memory`: ivf_compare_bytes. */
bool ivf_holds(const struct annex_index *index, uint32_t slot, const uint8_t *row, void *memory);
size_t ivf_compare_bytes(const struct annex_index *index);
annex_status ivf_check(const struct annex_index *index, annex_error *error);

#endif
