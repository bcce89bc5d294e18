/*
 * avx512_tile.h - many queries against many rows, for both AVX-512 tables.
 *
 * Sixteen rows are turned on their side, so that one register has the same four bytes of each, and
 * four bytes of a query are set against all of them: no sum has to be taken across a register, and
 * a block of rows, once turned, serves all queries from the first-level cache. Four queries and
 * four registers of rows at a time keep sixteen sums in registers: half a load for a product.
 *
 * Included where the table's own target region begins, with its step.
 */
#ifndef ANNEX_KERNEL_AVX512_TILE_H
#define ANNEX_KERNEL_AVX512_TILE_H

#include "kernel/avx512.h"

TARGET_BEGIN(AVX512_PLAIN)

enum {
    TILE_QUERIES = 4,
    TILE_LANES = 16,    /* rows in a register */
    TILE_REGISTERS = 4, /* of rows */
    TILE_ROWS = TILE_LANES * TILE_REGISTERS,
    TILE_DEPTH_BYTES = 512 /* of each row at a time: a block is 32 KiB */
};

struct avx512_tile {
    const uint8_t *rows[TILE_ROWS]; /* past the last one the first stands in */
    size_t n_rows, registers;
    size_t from_bytes, depth_bytes; /* the part of the rows that is turned */
    __m512i turned[TILE_DEPTH_BYTES / 4 * TILE_REGISTERS];
};

/* to[j * TILE_REGISTERS] = bytes 4j..4j+3 of sixteen rows, for 64 bytes of each. */
ROWS_INLINE void tile_turn(const uint8_t *const rows[TILE_LANES], size_t from_bytes, __m512i *to)
{
    __m512i four[4][4]; /* [g][c]: words c, 4 + c, 8 + c, 12 + c of rows 4g..4g+3 */
    for (size_t g = 0; g < 4; g++) {
        __m512i a = _mm512_loadu_si512(rows[4 * g] + from_bytes);
        __m512i b = _mm512_loadu_si512(rows[4 * g + 1] + from_bytes);
        __m512i c = _mm512_loadu_si512(rows[4 * g + 2] + from_bytes);
        __m512i d = _mm512_loadu_si512(rows[4 * g + 3] + from_bytes);
        __m512i ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b);
        __m512i cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
        four[g][0] = _mm512_unpacklo_epi64(ab_low, cd_low);
        four[g][1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        four[g][2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        four[g][3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    for (size_t c = 0; c < 4; c++) {
        __m512i even01 = _mm512_shuffle_i32x4(four[0][c], four[1][c], 0x88);
        __m512i even23 = _mm512_shuffle_i32x4(four[2][c], four[3][c], 0x88);
        __m512i odd01 = _mm512_shuffle_i32x4(four[0][c], four[1][c], 0xdd);
        __m512i odd23 = _mm512_shuffle_i32x4(four[2][c], four[3][c], 0xdd);
        to[c * TILE_REGISTERS] = _mm512_shuffle_i32x4(even01, even23, 0x88);
        to[(4 + c) * TILE_REGISTERS] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
        to[(8 + c) * TILE_REGISTERS] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
        to[(12 + c) * TILE_REGISTERS] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
    }
}

/* The lanes of register r that are rows. */
ROWS_INLINE __mmask16 tile_mask(const struct avx512_tile *tile, size_t r)
{
    size_t left = tile->n_rows - r * TILE_LANES;
    return left < TILE_LANES ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
}

/* Adds the products of four queries with `registers` registers of rows to out[c][0..n_rows). */
ROWS_INLINE void tile_score(avx512_step *step, size_t registers, const struct avx512_tile *tile,
                            const int8_t *const queries[TILE_QUERIES],
                            int32_t *const out[TILE_QUERIES])
{
    __m512i sums[TILE_QUERIES][TILE_REGISTERS];
    for (size_t c = 0; c < TILE_QUERIES; c++) {
        for (size_t r = 0; r < registers; r++) {
            __mmask16 before = tile->from_bytes ? tile_mask(tile, r) : 0;
            sums[c][r] = _mm512_maskz_loadu_epi32(before, out[c] + r * TILE_LANES);
        }
    }
    for (size_t j = 0; j < tile->depth_bytes / 4; j++) {
        const __m512i *rows = tile->turned + j * TILE_REGISTERS;
        for (size_t c = 0; c < TILE_QUERIES; c++) {
            int32_t four;
            memcpy(&four, queries[c] + tile->from_bytes + 4 * j, sizeof four);
            for (size_t r = 0; r < registers; r++) {
                sums[c][r] = step(sums[c][r], rows[r], _mm512_set1_epi32(four));
            }
        }
    }
    for (size_t c = 0; c < TILE_QUERIES; c++) {
        for (size_t r = 0; r < registers; r++) {
            _mm512_mask_storeu_epi32(out[c] + r * TILE_LANES, tile_mask(tile, r), sums[c][r]);
        }
    }
}

ROWS_INLINE void tile_queries(avx512_step *step, const struct avx512_tile *tile,
                              const int8_t *queries, size_t query_stride_bytes, size_t n_queries,
                              int32_t *out, size_t out_stride)
{
    for (size_t first = 0; first < n_queries; first += TILE_QUERIES) {
        const int8_t *four[TILE_QUERIES]; /* past the end the last query stands in */
        int32_t *to[TILE_QUERIES];
        for (size_t c = 0; c < TILE_QUERIES; c++) {
            size_t at = first + c < n_queries ? first + c : n_queries - 1;
            four[c] = queries + at * query_stride_bytes;
            to[c] = out + at * out_stride;
        }
        switch (tile->registers) {
        case 1:
            tile_score(step, 1, tile, four, to);
            break;
        case 2:
            tile_score(step, 2, tile, four, to);
            break;
        case 3:
            tile_score(step, 3, tile, four, to);
            break;
        default:
            tile_score(step, 4, tile, four, to);
            break;
        }
    }
}

ROWS_INLINE void avx512_tile(avx512_step *step, const int8_t *queries, size_t query_stride_bytes,
                             size_t n_queries, const uint8_t *rows, size_t stride_bytes,
                             size_t bytes, const uint32_t *ids, size_t n, int32_t *out)
{
    struct avx512_tile tile;
    size_t parts = (bytes + TILE_DEPTH_BYTES - 1) / TILE_DEPTH_BYTES;
    size_t depth = parts ? (bytes / parts + 63) / 64 * 64 : 0; /* equal parts: none is short */
    for (size_t first = 0; first < n; first += TILE_ROWS) {
        tile.n_rows = n - first < TILE_ROWS ? n - first : TILE_ROWS;
        tile.registers = (tile.n_rows + TILE_LANES - 1) / TILE_LANES;
        for (size_t i = 0; i < tile.registers * TILE_LANES; i++) {
            size_t at = first + (i < tile.n_rows ? i : 0);
            tile.rows[i] = rows + (ids ? ids[at] : at) * stride_bytes;
        }
        tile.from_bytes = 0;
        do {
            tile.depth_bytes = bytes - tile.from_bytes < depth ? bytes - tile.from_bytes : depth;
            for (size_t j = 0; j < tile.depth_bytes; j += 64) {
                for (size_t r = 0; r < tile.registers; r++) {
                    tile_turn(tile.rows + r * TILE_LANES, tile.from_bytes + j,
                              tile.turned + j / 4 * TILE_REGISTERS + r);
                }
            }
            tile_queries(step, &tile, queries, query_stride_bytes, n_queries, out + first, n);
            tile.from_bytes += tile.depth_bytes;
        } while (tile.from_bytes < bytes);
    }
}

TARGET_END

#endif
