/*
 * fence.h - for tests of kernels: operands that lie against pages that may not be touched, and
 * random bytes.
 */
#ifndef ANNEX_TEST_FENCE_H
#define ANNEX_TEST_FENCE_H

#include <stddef.h>
#include <stdint.h>

/* Memory between two pages that end the program when they are touched. */
struct fence {
    uint8_t *map;
    size_t map_bytes;
    uint8_t *start, *end;
};

struct fence fence_create(size_t bytes);
void fence_destroy(struct fence *f);

/* Set it for the same numbers again. */
extern uint64_t random_state;
uint64_t random_u64(void);
void random_bytes(void *to, size_t bytes);
/* Bytes at the ends of their range: all the same, or each another one. */
void extreme_bytes(void *to, size_t bytes);

#endif
