/*
 * seed.h - near rows for every row, from partitions instead of from a search.
 *
 * Rows in one leaf of a partition are compared with each other: many products of the same few rows,
 * which stay in the cache. A few partitions find most of the nearest rows (Dobson et al., PiPNN,
 * 2026) at a fraction of what walks cost.
 *
 * Invariant: the lists depend on the rows, their order and `random` only.
 * Does not: link. batch.c does.
 */
#ifndef ANNEX_SEED_H
#define ANNEX_SEED_H

#include "index/graph.h"

#define SEED_NONE UINT64_MAX /* closes a list that is not full */

struct seed_options {
    const struct codec *codec;
    const uint8_t *rows;
    unsigned threads;
    uint32_t rounds; /* partitions */
    uint32_t keep;   /* rows in a list */
    uint64_t random;
};

/*
 * Finds near rows among ids[0..n) for those of them whose bit in `known` is 0: `keep` items at
 * lists + id * keep, the nearest first, which have to be SEED_NONE before. Counts `units` on.
 */
annex_status seed_rows(const annex_env *env, const struct seed_options *options,
                       const uint32_t *ids, uint32_t n, const uint64_t *known, walk_item *lists,
                       struct progress *progress, uint64_t units, annex_error *error);

#endif
