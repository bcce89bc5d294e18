/*
 * codec.h - how a vector becomes a code, and how codes are compared with a query.
 *
 * One row in memory: [ code, code_bytes | f32 scale | f32 bias ], row_bytes apart.
 *
 *   q8         code j is a byte c; the value it stands for is center[j] + scale * (c - 128).
 *              `scale` belongs to the row (Aguerrebere et al., LVQ, VLDB 2023), so that rows of
 *              different spread keep their precision. l1: one scale and center for all rows.
 *   q4         half a byte n for element j of the rotated, centred vector: scale * (2 n - 15); in
 *              blocks of 64 bytes, which kernel.h describes. Not for l1, which no rotation keeps.
 *   f16, bf16, f32   the elements as such floats, times `fixed_scale`, a power of two: 1, but for
 *              f16 of large numbers.
 *   bits       the packed bits, padded with zero; bias = number of set bits.
 *
 * q8 may be rotated too. Cosine rows are unit vectors under l2.
 *
 * A query is prepared once (struct query) and then scores any number of rows. Scores are "order
 * distances": cheap numbers that rank like the metric (squared distances for l2 and cosine).
 * codec_distance turns one into the distance that users see.
 *
 * Invariants
 *   1. Scores depend on the row and the query only: not on the processor, not on neighbours in a
 *      batch (exact integer products, or sums of floats in the kernels' one order).
 *   2. |true order root - code's| is bounded by `errors`: see codec_lower.
 *   3. Padding bytes hold 128 (q8) or 0 (others), which contribute nothing.
 *   4. Vectors that codec_accepts have finite scores and distances, never NaN.
 * Does not: keep rows, reject NaN (callers do), know of graphs.
 */
#ifndef ANNEX_CODEC_H
#define ANNEX_CODEC_H

#include "base/base.h"
#include "kernel/kernel.h"
#include "quant/rotation.h"

#define CODEC_TERM_BYTES 8
#define CODEC_FINE_UNITS 254 /* steps of query.fine in one step of query.code */
/* Longer vectors have squared distances that are no floats any more. */
#define CODEC_MAX_NORM 4e18

/* What makes a codec: chosen once, then kept in the header of an index. */
struct codec_form {
    annex_metric metric;
    uint32_t dimension;
    annex_codes codes; /* never auto */
    bool rotated;
    uint64_t seed;       /* of the rotation */
    bool lossless;       /* codes hold the vectors exactly */
    float fixed_scale;   /* > 0: every row has this scale (l1, lossless, floats) */
    float max_norm;      /* ip: largest norm of a row */
    const float *center; /* [dimension]; NULL for bits */
};

struct codec {
    const struct kernels *kernels;
    annex_metric metric;
    uint32_t dimension;
    annex_codes codes;
    bool rotated;
    bool lossless;
    float fixed_scale;
    float max_norm;
    const float *center;
    struct rotation rotation;
    uint32_t code_bytes; /* padded to the kernels' multiple */
    uint32_t row_bytes;
};

/* What has to be known about all rows before the first is coded. Gathered in row order. */
struct codec_survey {
    uint64_t n;
    double *sum; /* [dimension] */
    float min, max;
    double max_norm_squared;
    bool integral;  /* every element is a whole number */
    bool f16, bf16; /* every element is such a float */
};

/* A query ready to score rows. Lives as long as its memory, which codec_query_new allocates. */
struct query {
    const struct codec *codec;
    float *vector;  /* [dimension] as given, unit length under cosine; bits: NULL */
    float *target;  /* [dimension] what codes are compared with: centred and rotated as rows are */
    uint8_t *code;  /* of target: an s8 an element, padded; or u8 for l1, or bits */
    int8_t *fine;   /* as code: what it leaves over, 1/254 of its unit; exact scans */
    float scale;    /* unit of `code` */
    int32_t offset; /* of the products: what rows are shifted by, times the sum of code */
    int32_t fine_offset;
    /* score = a + b * bias + c * scale * dot */
    float a, b, c;
    float norm;     /* of the query */
    float residual; /* norm of what code + fine lose */
    bool exact;     /* scores are exact: the codec and this query lose nothing */
};

/* The nearest whole number, ties to even, of |x| < 2^22: compilers vectorise it for any processor.
 */
static inline float codec_round(float x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: from here on floats are whole numbers */
    return (x + shift) - shift;
}

/* The scale and the bias behind a row's code. */
static inline void codec_terms(const struct codec *codec, const uint8_t *row, float terms[2])
{
    memcpy(terms, row + codec->code_bytes, CODEC_TERM_BYTES);
}

/* A level as a code: in this order NaN, from a damaged file, becomes a number. */
static inline int32_t codec_clamp(float level)
{
    float below = MIN(level, 127.0f);
    return (int32_t)MAX(below, -128.0f);
}

bool codec_is_bits(annex_metric metric);
/* Bytes of a vector as given by the user. */
size_t codec_vector_bytes(const struct codec *codec);

/* The squared length; NaN or infinite when an element is. */
double codec_squared_norm(const float *vector, size_t n);
/* Whether every element is finite and the vector not too long. *zero: all elements are 0. */
bool codec_accepts(annex_metric metric, const float *vector, size_t n, bool *zero);
/* ANNEX_INVALID for a vector that codec_accepts refused; `what` names it, "the query". */
annex_status codec_refuse(const float *vector, size_t n, const char *what, annex_error *error);

annex_status codec_survey_new(const annex_env *env, uint32_t dimension, struct codec_survey *survey,
                              annex_error *error);
void codec_survey_add(struct codec_survey *survey, uint32_t dimension, const float *vector);
void codec_survey_free(const annex_env *env, uint32_t dimension, struct codec_survey *survey);

/* Whether rows can be so coded. Vectors: any code but bits, and q4 not under l1. */
bool codec_allows(annex_metric metric, annex_codes codes);
/* ANNEX_INVALID when they are not "auto" and not allowed. */
annex_status codec_check_codes(annex_metric metric, annex_codes codes, annex_error *error);
/*
 * Decides scale, center and padding for the metric, codes, rotation and seed of `wanted` (rotated
 * only where that is possible). `center` ([dimension]) is filled and kept by the codec.
 */
void codec_choose(struct codec *codec, const struct codec_form *wanted,
                  const struct codec_survey *survey, float *center);
/* The codec of an index that is read back: the decisions are given. */
void codec_restore(struct codec *codec, const struct codec_form *form);

/*
 * ip: a row longer than all others is to come. Raises max_norm, by some more than it takes so that
 * this is rare, and gives rows[0..n) the terms that go with it.
 */
void codec_raise_max_norm(struct codec *codec, float norm, uint8_t *rows, size_t n);
/* Writes unit-length `from` to `to`; false when it is zero. */
bool codec_normalize(const float *from, float *to, size_t n);
/*
 * Codes one vector (unit length under cosine) into row[row_bytes]; *error_norm is the norm (l1:
 * sum) of what was lost, rounded up. `work` is room for [dimension] floats, not the vector's own.
 */
void codec_encode(const struct codec *codec, const void *vector, uint8_t *row, float *work,
                  float *error_norm);
/* The vector a row stands for, [dimension] f32 or packed bits. */
void codec_decode(const struct codec *codec, const uint8_t *row, void *vector);
/* Whether a codec that loses nothing codes this vector, too, without loss. */
bool codec_holds(const struct codec *codec, const float *vector);

size_t codec_query_bytes(const struct codec *codec);
/* Lays the query's arrays into `memory` (codec_query_bytes, 64-byte aligned). */
void codec_query_init(const struct codec *codec, struct query *query, void *memory);
/* Prepares a user's vector (any length under cosine, which must not be zero). */
void codec_query_set(struct query *query, const void *vector);
/* Only what codec_exact needs; false for a zero vector under cosine. */
bool codec_query_set_exact(struct query *query, const void *vector);
/* Prepares a coded row as the query, for building: order distances between rows. */
void codec_query_set_row(struct query *query, const uint8_t *row);

/* Scores rows ids[0..n), or 0..n. */
void codec_score(const struct query *query, const uint8_t *rows, const uint32_t *ids, size_t n,
                 float *scores);
/* The same with `fine`, for exact scans: only the rows' own loss remains. Costs twice as much. */
void codec_score_fine(const struct query *query, const uint8_t *rows, const uint32_t *ids, size_t n,
                      float *scores);
/* A lower and an upper bound of what codec_exact gives for a row scored by codec_score_fine. */
float codec_lower(const struct query *query, float score, float error_norm);
float codec_upper(const struct query *query, float score, float error_norm);
/* How far floats may be off in a score, relatively. */
float codec_rounding(const struct codec *codec);

/* The exact order distance of the query to a vector (unit length under cosine). */
float codec_exact(const struct query *query, const void *vector);
/* The user's distance of an order distance, and back. */
double codec_distance(const struct codec *codec, float order);
float codec_order(const struct codec *codec, double distance);

/* ---- coarse.c --------------------------------------------------------------------------------*/

/* What query.code alone knows of the query. */
struct coarse {
    double norm_squared;
    double lost; /* norm of what it loses */
};

/*
 * False for codes that have no products: those are scored by codec_score_fine at once, and `coarse`
 * is for limits of such scores.
 */
bool codec_coarse_set(const struct query *query, struct coarse *coarse);
/* The terms of rows ids[0..n), or 0..n, as kernels.q8_pick takes them. */
void codec_coarse_terms(const struct codec *codec, const uint8_t *rows, const uint32_t *ids,
                        size_t n, float *scales, float *biases);
/*
 * The limit for q8_pick, with query.offset and query.c, or for scores: every row that loses at most
 * `error_norm` and whose codec_lower is at most `limit` is within.
 */
float codec_coarse_limit(const struct query *query, const struct coarse *coarse, float limit,
                         float error_norm);

/* ---- row.c, for the files of this room -------------------------------------------------------*/

static inline bool codec_is_float(const struct codec *codec)
{
    return codec->codes == ANNEX_CODES_F16 || codec->codes == ANNEX_CODES_BF16 ||
           codec->codes == ANNEX_CODES_F32;
}
/* to = the vector centred, and rotated where rows are; both [dimension]. */
void codec_center(const struct codec *codec, const float *vector, float *to);
/* The reverse. */
void codec_uncenter(const struct codec *codec, float *vector);
/* What rounding in codec_center may add to a vector's loss, for each unit of its length. */
float codec_center_loss(const struct codec *codec);
/* Element j of a q4 row, -15 to 15. */
static inline int32_t codec_q4_level(const uint8_t *row, uint32_t j)
{
    uint8_t both = row[j / 128 * 64 + j % 64];
    return 2 * (j % 128 < 64 ? both & 15 : both >> 4) - 15;
}
/* The floats of a row, not yet times their scale. */
void codec_widen(const struct codec *codec, const uint8_t *row, float *to);

/* ---- distance.c -------------------------------------------------------------------------------*/

/*
 * Exact distances of one query to vectors that no index holds, by the arithmetic of every search.
 * Not to be moved once it is set: the parts point to each other.
 */
struct measure {
    struct codec codec;
    struct query query;
    float *unit;  /* [dimension] */
    bool defined; /* false: a zero query under cosine, every distance is NaN */
};

size_t measure_bytes(annex_metric metric, size_t dimension);
/* `memory` ([measure_bytes], 64-byte aligned) is kept; the query was accepted. */
void measure_set(struct measure *measure, annex_metric metric, size_t dimension, void *memory,
                 const void *query);
/* The user's distance to an accepted vector. */
double measure_distance(const struct measure *measure, const void *vector);
/* The same when the vector has unit length under cosine already, by codec_normalize. */
double measure_distance_to_unit(const struct measure *measure, const void *vector);

#endif
