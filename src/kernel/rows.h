/*
 * rows.h - how the row kernels walk their rows: groups of four, prefetching ahead. A kernel only
 * says how four rows are scored: the query is loaded once for all four, and their four sums hide
 * each other's latency. Everything here is inlined into the caller's target region.
 */
#ifndef ANNEX_KERNEL_ROWS_H
#define ANNEX_KERNEL_ROWS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ROWS_INLINE static inline __attribute__((always_inline))
/* For a function with a tile of sums: GCC's -ftree-pre would copy each of them in every step. */
#if defined(__clang__)
#    define ROWS_TILE
#else
#    define ROWS_TILE __attribute__((optimize("no-tree-pre")))
#endif

enum {
    ROWS_AHEAD = 16,     /* rows between the one prefetched and the one scored */
    ROWS_TERM_BYTES = 8, /* what a quantizer may keep behind a row, fetched with it */
    ROWS_LINE_BYTES = 64
};

/* Sets sums[c] to the score of r[c] against the query. */
typedef void rows_score_four(const void *query, const uint8_t *const r[4], size_t bytes,
                             int32_t sums[4]);

/*
 * Fetches all lines of a row into the first-level cache. Rows of 128 bytes that are scored by the
 * thousand would come faster by the second level, where more misses can be under way; walks, which
 * score a few at a time and wait for each, do not.
 */
ROWS_INLINE void rows_prefetch(const uint8_t *row, size_t bytes)
{
    for (size_t j = 0; j < bytes + ROWS_TERM_BYTES; j += ROWS_LINE_BYTES) {
        __builtin_prefetch(row + j);
    }
}

ROWS_INLINE void rows_score(rows_score_four *score_four, const void *query, const uint8_t *rows,
                            size_t stride_bytes, size_t bytes, const uint32_t *ids, size_t n,
                            int32_t *out)
{
    /* Consecutive rows need no help: the hardware prefetcher sees them coming. */
    size_t fetched = ids ? 0 : n;
    for (size_t i = 0; i < n; i += 4) {
        for (; fetched < n && fetched < i + 4 + ROWS_AHEAD; fetched++) {
            rows_prefetch(rows + (size_t)ids[fetched] * stride_bytes, bytes);
        }
        const uint8_t *r[4]; /* past the end the last row stands in */
        for (size_t c = 0; c < 4; c++) {
            size_t at = i + c < n ? i + c : n - 1;
            r[c] = rows + (ids ? ids[at] : at) * stride_bytes;
        }
        int32_t sums[4];
        score_four(query, r, bytes, sums);
        if (i + 4 <= n) {
            memcpy(out + i, sums, sizeof sums);
        } else {
            memcpy(out + i, sums, (n - i) * sizeof *sums);
        }
    }
}

/*
 * Makes a function of struct kernels out of a step, which adds one register of a row against the
 * query to a sum, and a score_four, which applies it to four rows.
 */
#define ROWS_KERNEL(linkage, name, query_type, score_four, step)                             \
    ROWS_INLINE void name##_four(const void *query, const uint8_t *const r[4], size_t bytes, \
                                 int32_t sums[4])                                            \
    {                                                                                        \
        score_four(step, query, r, bytes, sums);                                             \
    }                                                                                        \
    linkage void name(const query_type *query, const uint8_t *rows, size_t stride_bytes,     \
                      size_t bytes, const uint32_t *ids, size_t n, int32_t *out)             \
    {                                                                                        \
        rows_score(name##_four, query, rows, stride_bytes, bytes, ids, n, out);              \
    }

#endif
