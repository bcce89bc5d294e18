/*
 * change.h - the memory of an index that is changed: between thaw.c, change.c, mend.c, refit.c and
 * save.c.
 *
 * The first change copies all arrays out of the image (thaw); from then on the index points into a
 * `struct owned`, which is replaced by a larger one when it is full.
 */
#ifndef ANNEX_CHANGE_H
#define ANNEX_CHANGE_H

#include "build/build.h"
#include "build/kmeans.h"
#include "build/paths.h"

enum { MEND_NEAR = 2 * GRAPH_MAX_DEGREE }; /* rows that are looked at around a deleted one */

struct owned {
    uint32_t capacity;     /* slots there is room for */
    uint64_t key_capacity; /* bytes of byte keys there is room for */
    uint8_t *codes;        /* [capacity x row_bytes] */
    float *errors;         /* [capacity] */
    uint8_t *raw;          /* [capacity x vector_bytes], by slot */
    int64_t *keys;         /* [capacity] */
    char *key_bytes;       /* [key_capacity] */
    uint32_t *key_hash;    /* [hash_size] */
    uint64_t hash_size;    /* power of two, >= 2 x capacity */
    uint64_t *dead;        /* bitmap [capacity] */
    float *center;         /* [dimension] */
    uint64_t refit_at;     /* slots at which the fit of the codes is looked at again */
    /* Graphs only: */
    uint32_t *neighbours; /* [capacity x degree] */
    uint32_t *same;       /* [capacity] rings */
    uint32_t *before;     /* [capacity] the same rings, backwards */
    uint64_t *gone;       /* bitmap [capacity]: dead rows that are in no ring of living ones */
    uint32_t entries[GRAPH_MAX_ENTRIES];
    struct paths paths;
    uint32_t ordered;              /* slots behind them came since the index was opened or built */
    uint32_t enough;               /* edges of a row; where there are as many, none is replaced */
    uint32_t sweep_at, sweep_left; /* the row swept last, and how many are left to sweep */
    struct linker linker;
    walk_item *pairs; /* [degree x MEND_NEAR] */
    /* Lists only, which have one row of `codes` as working memory, and no `errors`: */
    struct ivf_list *lists; /* [n_lists + 1] */
    uint8_t *centroids;     /* [n_lists] */
    uint8_t *blocks;        /* for `capacity` rows */
    uint32_t *tail;         /* [capacity] */
    uint32_t n_lists, block_bytes;
    void *coder;
    struct kmeans kmeans;
};

/*
 * Makes the index own arrays with room for `more` rows and `key_bytes` bytes of keys. On failure
 * the index is as before. The caller holds the lock for writing.
 */
annex_status thaw(annex_index *index, uint32_t more, uint64_t key_bytes, annex_error *error);
/* A copy of all arrays; those of a graph are checked. */
annex_status thaw_copy(annex_index *index, uint32_t capacity, uint64_t key_capacity,
                       struct owned **owned, annex_error *error);
/* The index becomes `next`, of which `owned` is the copy. The caller holds the lock for writing. */
void thaw_replace(annex_index *index, const annex_index *next, struct owned *owned);
/* Enters a slot into the key hash. */
void thaw_hash(struct owned *owned, struct key_view key, uint32_t slot);

/* ---- change_lists.c --------------------------------------------------------------------------*/

annex_status lists_thaw(const annex_index *index, struct owned *owned, annex_error *error);
void lists_free(const annex_index *index, struct owned *owned);
void lists_install(annex_index *index, const struct owned *owned);
/* Codes the row in owned->codes into its slot, the one behind the last. */
void lists_insert(annex_index *index, uint32_t slot, float lost);
/* Sorts the living rows old[0..n) by their lists, and fills lists[n_lists + 1]. */
annex_status lists_save_order(const annex_index *index, uint32_t *old, uint32_t n,
                              struct ivf_list *lists, annex_error *error);
void lists_save_blocks(const annex_index *index, const uint32_t *old, uint32_t n, uint8_t *blocks);

/* ---- refit.c ---------------------------------------------------------------------------------*/

/*
 * Builds a changed index anew when its codes do not fit its rows. The caller holds no lock. A
 * failure leaves the index as it is, which is good enough to go on with, and is a warning.
 */
void refit(annex_index *index);
/* The same after a change, now and then. */
void refit_grown(annex_index *index);
/*
 * Whether an index that keeps no vectors should be built anew from where they are: as many rows
 * were inserted as its codes were fitted to, or half of them are left, or codes fit the rows worse
 * that were not in `before`, the same index before the change.
 */
bool refit_is_due(const annex_index *index, const annex_index *before);

/* ---- mend.c: the graph -----------------------------------------------------------------------*/

/* Finds parents and rings of a graph that was copied from a file. */
annex_status mend_start(annex_index *index, struct owned *owned, annex_error *error);
/* Links a row that has its code; the slot is the one behind the last. */
void mend_insert(annex_index *index, uint32_t slot);
/* Takes a row out that was just marked dead. */
void mend_delete(annex_index *index, uint32_t slot);
/* A step of the sweep, if there is something to sweep; after every change. */
void mend_some(annex_index *index);

#endif
