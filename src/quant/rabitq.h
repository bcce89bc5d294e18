/*
 * rabitq.h - one bit for each dimension of what a row differs from a centroid (Gao and Long,
 * RaBitQ, SIGMOD 2024, arXiv 2405.12497), in blocks of 32 rows that a register look-up scores.
 *
 * r is the rotated residual of a row, s its signs (-1, 1). Then <r, q> is estimated by
 * scale * <s, q> with scale = |r|^2 / |r|_1, and that is off by at most
 *
 *   scale * spread * |q| * sqrt(dimension)     always,
 *   scale * spread * |q| * e                   with the probability of a normal number within e,
 *
 * where spread = sqrt(1 - a^2) and a is the cosine of the angle between r and s. <s, q> is linear:
 * a query is rotated once and serves every centroid, and what the centroid contributes to the
 * squared distance is added up with |r|^2 when the row is coded:
 *
 *   |q - x|^2 = |q - c|^2 + add - 2 <r, q>       add = |r|^2 + 2 scale * <s, c>
 *   -<q, x>   = -<q, c> - <r, q>                 add = 0
 *
 * A block: [ groups x 16 bytes of nibbles | 32 f32 add | 32 f32 scale ], groups = dimension / 4
 * rounded up.
 *
 * Invariants
 *   1. Codes, factors and products are one fixed sequence of float operations: the same bits on
 *      every processor.
 *   2. Places of a block that no row has are zero: their scale says nothing.
 * Does not: keep rows, choose centroids, know of lists.
 */
#ifndef ANNEX_RABITQ_H
#define ANNEX_RABITQ_H

#include "kernel/kernel.h"
#include "quant/rotation.h"

#define RABITQ_ROWS KERNEL_LUT_ROWS

struct rabitq {
    const struct kernels *kernels;
    struct rotation rotation;
    uint32_t dimension;
    uint32_t groups;
    uint32_t block_bytes;
};

/* What one row brings to the bounds of its list. */
struct rabitq_residual {
    float radius; /* |r| */
    float spread;
};

/* A query ready to score blocks. Lives as long as its memory. */
struct rabitq_query {
    float *rotated;   /* [dimension] */
    uint8_t *lut;     /* [groups x 16] */
    float step, base; /* <s, q> = step * sum of the table + base, to within `slack` */
    float slack;
    float norm;
};

struct rabitq rabitq_make(uint64_t seed, uint32_t dimension);

static inline size_t rabitq_blocks(size_t rows)
{
    return (rows + RABITQ_ROWS - 1) / RABITQ_ROWS;
}
static inline float *rabitq_adds(const struct rabitq *rabitq, uint8_t *block)
{
    return (float *)(void *)(block + (size_t)rabitq->groups * 16);
}
static inline const float *rabitq_add(const struct rabitq *rabitq, const uint8_t *block)
{
    return (const float *)(const void *)(block + (size_t)rabitq->groups * 16);
}
static inline const float *rabitq_scale(const struct rabitq *rabitq, const uint8_t *block)
{
    return rabitq_add(rabitq, block) + RABITQ_ROWS;
}

/*
 * Codes a row into a place of a block. `row` and `centroid` are rotated, `work` is [dimension];
 * `add` is left 0 for inner products.
 */
struct rabitq_residual rabitq_encode(const struct rabitq *rabitq, const float *row,
                                     const float *centroid, bool inner_product, float *work,
                                     uint8_t *block, uint32_t place);
/* Moves a coded row; the places may be in one block. */
void rabitq_copy(const struct rabitq *rabitq, const uint8_t *from, uint32_t from_place, uint8_t *to,
                 uint32_t to_place);
/* Whether two places hold the same code. */
bool rabitq_equal(const struct rabitq *rabitq, const uint8_t *a, uint32_t a_place, const uint8_t *b,
                  uint32_t b_place);
/* The rotated residual that a code stands for, [dimension]. */
void rabitq_decode(const struct rabitq *rabitq, const uint8_t *block, uint32_t place, float *row);

size_t rabitq_query_bytes(const struct rabitq *rabitq);
/* Lays the query's arrays into `memory` (rabitq_query_bytes, 64-byte aligned). */
void rabitq_query_init(const struct rabitq *rabitq, struct rabitq_query *query, void *memory);
/* Prepares `vector` ([dimension], not rotated). */
void rabitq_query_set(const struct rabitq *rabitq, struct rabitq_query *query, const float *vector);
/* Sums of the table for the 32 rows of a block: see `step`. */
void rabitq_sums(const struct rabitq *rabitq, const struct rabitq_query *query,
                 const uint8_t *block, int32_t sums[RABITQ_ROWS]);

#endif
