/*
 * coarse.c - the first look of an exact scan: products of the query's code alone, without `fine`,
 * against a limit so generous that no row within reach is lost. Only the few rows that pass get
 * their fine score, so a scan costs one product for each row instead of two.
 *
 * With f = |fine| the query is at most f away from its code, hence
 *   l2, cosine  distance to the code <= distance to the query + f
 *   ip          -<code, x> <= -<query, x> + f * |x|
 * and what floats may be off is added several times over. Codes without products, scored with all
 * of the query at once, use the same limit to pass by most rows without computing their bounds.
 */
#include <math.h>

#include "quant/codec.h"

#define TINY 1e-34 /* floats that underflow on the way */

bool codec_coarse_set(const struct query *query, struct coarse *coarse)
{
    const struct codec *codec = query->codec;
    *coarse = (struct coarse){.lost = query->residual};
    if (codec->metric == ANNEX_L1 || codec->codes != ANNEX_CODES_Q8) {
        return false;
    }
    const int8_t *code = (const int8_t *)query->code;
    int64_t squares = 0, fine_squares = 0;
    for (uint32_t j = 0; j < codec->code_bytes; j++) {
        squares += code[j] * code[j];
        fine_squares += query->fine[j] * query->fine[j];
    }
    double unit = query->scale;
    coarse->norm_squared = codec->metric == ANNEX_IP ? 0 : unit * unit * (double)squares;
    coarse->lost += unit * sqrt((double)fine_squares) / CODEC_FINE_UNITS;
    return true;
}

void codec_coarse_terms(const struct codec *codec, const uint8_t *rows, const uint32_t *ids,
                        size_t n, float *scales, float *biases)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = rows + (size_t)(ids ? ids[i] : i) * codec->row_bytes;
        memcpy(&scales[i], row + codec->code_bytes, sizeof *scales);
        memcpy(&biases[i], row + codec->code_bytes + sizeof *scales, sizeof *biases);
    }
    if (codec->metric == ANNEX_IP) { /* its second term is for rows among themselves */
        memset(biases, 0, n * sizeof *biases);
    }
}

float codec_coarse_limit(const struct query *query, const struct coarse *coarse, float limit,
                         float error_norm)
{
    const struct codec *codec = query->codec;
    double slack = 8.0 * codec_rounding(codec);
    double lost = (error_norm + coarse->lost) * (1 + slack);
    if (codec_is_bits(codec->metric)) {
        return limit;
    }
    if (codec->metric == ANNEX_L1) {
        return (float)((limit + lost) + (fabs((double)limit) + lost) * slack + TINY);
    }
    if (codec->metric == ANNEX_IP) {
        double longest = (double)codec->max_norm + error_norm;
        double off = query->norm * (error_norm + slack * longest) + coarse->lost * longest;
        return (float)(limit + fabs((double)limit) * slack + off * (1 + slack) + TINY);
    }
    double root = sqrt(MAX((double)limit, 0) * (1 + slack) + slack * query->a + TINY) + lost;
    double reach = root * root * (1 + slack) + slack * (query->a + coarse->norm_squared) + TINY;
    return (float)(reach - coarse->norm_squared);
}
