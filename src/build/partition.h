/*
 * partition.h - rows in leaves of a few hundred that are near each other.
 *
 * Random rows are pivots, every row goes to its nearest pivot, and what is still too large is split
 * again. Two partitions by other random numbers cut a neighbourhood in other places: rows that are
 * near share a leaf of one of them.
 *
 * Invariants
 *   1. The leaves are disjoint, cover all rows and have at most leaf_rows of them.
 *   2. They depend on the rows, their order and the random numbers only, not on threads.
 * Does not: compare the rows of a leaf. seed.c does.
 */
#ifndef ANNEX_PARTITION_H
#define ANNEX_PARTITION_H

#include "quant/codec.h"

struct partition_part;

struct partition {
    const annex_env *env;
    const struct codec *codec;
    const uint8_t *rows;
    unsigned threads;
    uint32_t leaf_rows;
    uint64_t random;
    uint32_t capacity;
    uint32_t n;
    uint32_t *order;              /* [n] row ids, leaf after leaf */
    struct partition_part *parts; /* the leaves, when partition_make is done */
    uint32_t n_parts;
    /* Of partition_make. */
    uint32_t *next_order;
    struct partition_part *next_parts;
    uint32_t max_parts;
    uint8_t *nearest; /* [n] number of the pivot */
    uint8_t *pivots;  /* [max_pivots] rows */
    uint32_t max_pivots;
    struct query *queries; /* one a thread */
    char *query_memory;
};

/* Room for `capacity` rows; the fields up to that one are as given. Freed by partition_free even
   when this fails. */
annex_status partition_new(struct partition *partition, annex_error *error);
void partition_free(struct partition *partition);
/* Splits rows ids[0..n), n <= capacity, by the next random numbers. */
annex_status partition_make(struct partition *partition, const uint32_t *ids, uint32_t n,
                            struct progress *progress, annex_error *error);
/* The rows of leaf i < n_parts. */
const uint32_t *partition_leaf(const struct partition *partition, size_t i, uint32_t *n);

#endif
