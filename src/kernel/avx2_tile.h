/*
 * avx2_tile.h - many queries against many rows, as in avx512_tile.h: eight rows are turned on their
 * side, so that one register has the same four bytes of each, and four bytes of a query are set
 * against all of them. Four queries and two registers of rows at a time keep eight sums.
 *
 * Included by avx2.c alone, behind its steps and inside its target region.
 */
#ifndef ANNEX_KERNEL_AVX2_TILE_H
#define ANNEX_KERNEL_AVX2_TILE_H

enum {
    TILE_QUERIES = 4,
    TILE_LANES = 8,     /* rows in a register */
    TILE_REGISTERS = 2, /* of rows */
    TILE_ROWS = TILE_LANES * TILE_REGISTERS,
    TILE_DEPTH_BYTES = 1024 /* of each row at a time: a block is 16 KiB */
};

struct tile {
    const uint8_t *rows[TILE_ROWS]; /* past the last one the first stands in */
    size_t n_rows;
    size_t from_bytes, depth_bytes; /* the part of the rows that is turned */
    __m256i turned[TILE_DEPTH_BYTES / 4 * TILE_REGISTERS];
};

/* to[j * TILE_REGISTERS] = bytes 4j..4j+3 of eight rows, for 32 bytes of each. */
ROWS_INLINE void tile_turn(const uint8_t *const rows[TILE_LANES], size_t from_bytes, __m256i *to)
{
    __m256i four[2][4]; /* [g][c]: words c and 4 + c of rows 4g..4g+3 */
    for (size_t g = 0; g < 2; g++) {
        __m256i a = load(rows[4 * g] + from_bytes), b = load(rows[4 * g + 1] + from_bytes);
        __m256i c = load(rows[4 * g + 2] + from_bytes), d = load(rows[4 * g + 3] + from_bytes);
        __m256i ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
        __m256i cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
        four[g][0] = _mm256_unpacklo_epi64(ab_low, cd_low);
        four[g][1] = _mm256_unpackhi_epi64(ab_low, cd_low);
        four[g][2] = _mm256_unpacklo_epi64(ab_high, cd_high);
        four[g][3] = _mm256_unpackhi_epi64(ab_high, cd_high);
    }
    for (size_t c = 0; c < 4; c++) {
        to[c * TILE_REGISTERS] = _mm256_permute2x128_si256(four[0][c], four[1][c], 0x20);
        to[(4 + c) * TILE_REGISTERS] = _mm256_permute2x128_si256(four[0][c], four[1][c], 0x31);
    }
}

/* The lanes of register r that are rows. */
ROWS_INLINE __m256i tile_mask(const struct tile *tile, size_t r)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    int left = (int)tile->n_rows - (int)(r * TILE_LANES);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left), lane);
}

/* Adds the products of four queries to out[c][0..n_rows). */
ROWS_INLINE void tile_score(const struct tile *tile, const int8_t *const queries[TILE_QUERIES],
                            int32_t *const out[TILE_QUERIES])
{
    __m256i sums[TILE_QUERIES][TILE_REGISTERS];
    for (size_t c = 0; c < TILE_QUERIES; c++) {
        for (size_t r = 0; r < TILE_REGISTERS; r++) {
            __m256i before = tile->from_bytes ? tile_mask(tile, r) : _mm256_setzero_si256();
            sums[c][r] = _mm256_maskload_epi32(out[c] + r * TILE_LANES, before);
        }
    }
    for (size_t j = 0; j < tile->depth_bytes / 4; j++) {
        const __m256i *rows = tile->turned + j * TILE_REGISTERS;
        for (size_t c = 0; c < TILE_QUERIES; c++) {
            int32_t four;
            memcpy(&four, queries[c] + tile->from_bytes + 4 * j, sizeof four);
            for (size_t r = 0; r < TILE_REGISTERS; r++) {
                sums[c][r] = step_q8_dot(sums[c][r], rows[r], _mm256_set1_epi32(four));
            }
        }
    }
    for (size_t c = 0; c < TILE_QUERIES; c++) {
        for (size_t r = 0; r < TILE_REGISTERS; r++) {
            _mm256_maskstore_epi32(out[c] + r * TILE_LANES, tile_mask(tile, r), sums[c][r]);
        }
    }
}

ROWS_INLINE void tile_queries(const struct tile *tile, const int8_t *queries,
                              size_t query_stride_bytes, size_t n_queries, int32_t *out,
                              size_t out_stride)
{
    for (size_t first = 0; first < n_queries; first += TILE_QUERIES) {
        const int8_t *four[TILE_QUERIES]; /* past the end the last query stands in */
        int32_t *to[TILE_QUERIES];
        for (size_t c = 0; c < TILE_QUERIES; c++) {
            size_t at = first + c < n_queries ? first + c : n_queries - 1;
            four[c] = queries + at * query_stride_bytes;
            to[c] = out + at * out_stride;
        }
        tile_score(tile, four, to);
    }
}

static void avx2_q8_tile(const int8_t *queries, size_t query_stride_bytes, size_t n_queries,
                         const uint8_t *rows, size_t stride_bytes, size_t bytes,
                         const uint32_t *ids, size_t n, int32_t *out)
{
    struct tile tile;
    size_t parts = (bytes + TILE_DEPTH_BYTES - 1) / TILE_DEPTH_BYTES;
    size_t depth = parts ? (bytes / parts + 63) / 64 * 64 : 0; /* equal parts: none is short */
    for (size_t first = 0; first < n; first += TILE_ROWS) {
        tile.n_rows = n - first < TILE_ROWS ? n - first : TILE_ROWS;
        for (size_t i = 0; i < TILE_ROWS; i++) {
            size_t at = first + (i < tile.n_rows ? i : 0);
            tile.rows[i] = rows + (ids ? ids[at] : at) * stride_bytes;
        }
        tile.from_bytes = 0;
        do {
            tile.depth_bytes = bytes - tile.from_bytes < depth ? bytes - tile.from_bytes : depth;
            for (size_t j = 0; j < tile.depth_bytes; j += 32) {
                for (size_t r = 0; r < TILE_REGISTERS; r++) {
                    tile_turn(tile.rows + r * TILE_LANES, tile.from_bytes + j,
                              tile.turned + j / 4 * TILE_REGISTERS + r);
                }
            }
            tile_queries(&tile, queries, query_stride_bytes, n_queries, out + first, n);
            tile.from_bytes += tile.depth_bytes;
        } while (tile.from_bytes < bytes);
    }
}

#endif
