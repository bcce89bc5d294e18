/*
 * rotation.h - a random rotation of vectors in O(d log d): afterwards every element has about the
 * same spread, whatever the data, so that few bits an element suffice.
 *
 * Four rounds, each of which flips random signs and applies the fast Hadamard transform to the
 * longest power of two of elements: the first ones, then the last ones, in turn. Where that leaves
 * elements out, the two halves are mixed in the middle (after Gao et al., RaBitQ, SIGMOD 2024).
 *
 * Invariants
 *   1. A rotation is its seed and its dimension: there is nothing to store or to free.
 *   2. Lengths and distances stay what they were, but for the rounding of some 4 log2(d) additions.
 *   3. Each result is one fixed sequence of float operations: the same bits on every processor.
 * Does not: pad, center, scale.
 */
#ifndef ANNEX_ROTATION_H
#define ANNEX_ROTATION_H

#include "base/base.h"
#include "kernel/kernel.h"

struct rotation {
    const struct kernels *kernels;
    uint64_t seed;
    uint32_t dimension;
    uint32_t window; /* the largest power of two that is not above the dimension */
    float scale;     /* of a window: 1 / sqrt(window) */
};

struct rotation rotation_make(uint64_t seed, uint32_t dimension);
/* to = the rotated `from`; both [dimension], may be the same. */
void rotation_apply(const struct rotation *rotation, const float *from, float *to);
/* The reverse. */
void rotation_undo(const struct rotation *rotation, const float *from, float *to);

/* By how much, for each unit of its length, rounding may move a rotated vector: at most. */
float rotation_loss(const struct rotation *rotation);

#endif
