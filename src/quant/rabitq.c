/*
 * rabitq.c - see rabitq.h.
 */
#include "quant/rabitq.h"

#include <float.h>
#include <math.h>

#include "quant/codec.h"

enum { GROUP = 4, NIBBLES = 16 };

struct rabitq rabitq_make(uint64_t seed, uint32_t dimension)
{
    uint32_t groups = (dimension + GROUP - 1) / GROUP;
    return (struct rabitq){.kernels = kernel_table(),
                           .rotation = rotation_make(seed, dimension),
                           .dimension = dimension,
                           .groups = groups,
                           .block_bytes =
                               groups * NIBBLES + 2 * RABITQ_ROWS * (uint32_t)sizeof(float)};
}

/* ---- rows ------------------------------------------------------------------------------------*/

static void put_nibble(uint8_t *group, uint32_t place, uint8_t nibble)
{
    uint8_t *byte = &group[place % NIBBLES];
    bool high = place >= NIBBLES;
    *byte = (uint8_t)(high ? (*byte & 0x0f) | nibble << 4 : (*byte & 0xf0) | nibble);
}

static uint8_t get_nibble(const uint8_t *group, uint32_t place)
{
    uint8_t byte = group[place % NIBBLES];
    return place >= NIBBLES ? byte >> 4 : byte & 0x0f;
}

static void put_factors(const struct rabitq *rabitq, uint8_t *block, uint32_t place, float add,
                        float scale)
{
    float *adds = rabitq_adds(rabitq, block);
    adds[place] = add;
    adds[RABITQ_ROWS + place] = scale;
}

struct rabitq_residual rabitq_encode(const struct rabitq *rabitq, const float *row,
                                     const float *centroid, bool inner_product, float *work,
                                     uint8_t *block, uint32_t place)
{
    const struct kernels *k = rabitq->kernels;
    uint32_t n = rabitq->dimension;
    float norm_squared = k->f32_l2(row, centroid, n), sum = k->f32_l1(row, centroid, n);
    uint8_t nibble = 0;
    for (uint32_t j = 0; j < n; j++) {
        bool positive = row[j] >= centroid[j];
        work[j] = positive ? 1 : -1;
        nibble = (uint8_t)(nibble | (unsigned)positive << j % GROUP);
        if (j % GROUP == GROUP - 1 || j == n - 1) {
            put_nibble(block + (size_t)(j / GROUP) * NIBBLES, place, nibble);
            nibble = 0;
        }
    }
    if (!(sum > 0) || !(norm_squared > 0)) { /* the centroid itself, or so near that floats end */
        put_factors(rabitq, block, place, 0, 0);
        return (struct rabitq_residual){.radius = sqrtf(norm_squared)};
    }
    float scale = norm_squared / sum;
    float along = inner_product ? 0 : 2 * scale * k->f32_dot(work, centroid, n);
    put_factors(rabitq, block, place, inner_product ? 0 : norm_squared + along, scale);
    float cosine_squared = sum / norm_squared * (sum / (float)n);
    return (struct rabitq_residual){.radius = sqrtf(norm_squared),
                                    .spread = sqrtf(MAX(0, 1 - cosine_squared))};
}

void rabitq_copy(const struct rabitq *rabitq, const uint8_t *from, uint32_t from_place, uint8_t *to,
                 uint32_t to_place)
{
    for (uint32_t g = 0; g < rabitq->groups; g++) {
        put_nibble(to + (size_t)g * NIBBLES, to_place,
                   get_nibble(from + (size_t)g * NIBBLES, from_place));
    }
    put_factors(rabitq, to, to_place, rabitq_add(rabitq, from)[from_place],
                rabitq_scale(rabitq, from)[from_place]);
}

bool rabitq_equal(const struct rabitq *rabitq, const uint8_t *a, uint32_t a_place, const uint8_t *b,
                  uint32_t b_place)
{
    for (uint32_t g = 0; g < rabitq->groups; g++) {
        if (get_nibble(a + (size_t)g * NIBBLES, a_place) !=
            get_nibble(b + (size_t)g * NIBBLES, b_place)) {
            return false;
        }
    }
    return rabitq_add(rabitq, a)[a_place] == rabitq_add(rabitq, b)[b_place] &&
           rabitq_scale(rabitq, a)[a_place] == rabitq_scale(rabitq, b)[b_place];
}

void rabitq_decode(const struct rabitq *rabitq, const uint8_t *block, uint32_t place, float *row)
{
    /* `scale` makes products right on average; this makes the length right: the square of the usual
     * cosine of a rotated vector and its signs. */
    const float usual = 0.63661977f; /* 2 / pi */
    float length = rabitq_scale(rabitq, block)[place] * usual;
    for (uint32_t j = 0; j < rabitq->dimension; j++) {
        uint8_t nibble = get_nibble(block + (size_t)(j / GROUP) * NIBBLES, place);
        row[j] = nibble >> j % GROUP & 1 ? length : -length;
    }
}

/* ---- queries ---------------------------------------------------------------------------------*/

size_t rabitq_query_bytes(const struct rabitq *rabitq)
{
    return round_up(rabitq->dimension * sizeof(float), 64) + (size_t)rabitq->groups * NIBBLES;
}

void rabitq_query_init(const struct rabitq *rabitq, struct rabitq_query *query, void *memory)
{
    *query = (struct rabitq_query){.rotated = memory};
    query->lut = (uint8_t *)memory + round_up(rabitq->dimension * sizeof(float), 64);
}

/* The four elements of a group; zeros behind the last of the vector. */
static void load_group(const struct rabitq *rabitq, const float *vector, uint32_t g, float q[GROUP])
{
    for (uint32_t j = 0; j < GROUP; j++) {
        q[j] = g * GROUP + j < rabitq->dimension ? vector[g * GROUP + j] : 0;
    }
}

/* Table entries are above their smallest, which `base` adds up, in steps that the widest group
 * needs. */
static void fill_lut(const struct rabitq *rabitq, struct rabitq_query *query, float inverse)
{
    for (uint32_t g = 0; g < rabitq->groups; g++) {
        float q[GROUP], sums[NIBBLES] = {0};
        uint8_t *lut = query->lut + (size_t)g * NIBBLES;
        load_group(rabitq, query->rotated, g, q);
        for (uint32_t j = 0; j < GROUP; j++) {
            float one = MAX(2 * q[j], 0.0f) * inverse, zero = MAX(-2 * q[j], 0.0f) * inverse;
            for (uint32_t i = 0; i < NIBBLES; i++) {
                sums[i] += i >> j & 1 ? one : zero;
            }
        }
        for (uint32_t i = 0; i < NIBBLES; i++) {
            lut[i] = (uint8_t)MIN(codec_round(sums[i]), 255.0f);
        }
    }
}

void rabitq_query_set(const struct rabitq *rabitq, struct rabitq_query *query, const float *vector)
{
    float widest = 0, all = 0;
    rotation_apply(&rabitq->rotation, vector, query->rotated);
    query->norm =
        sqrtf(rabitq->kernels->f32_dot(query->rotated, query->rotated, rabitq->dimension));
    for (uint32_t g = 0; g < rabitq->groups; g++) {
        float q[GROUP];
        load_group(rabitq, query->rotated, g, q);
        float sum = (fabsf(q[0]) + fabsf(q[1])) + (fabsf(q[2]) + fabsf(q[3]));
        widest = MAX(widest, 2 * sum);
        all += sum;
    }
    query->step = widest > 0 ? MAX(widest / 255, FLT_MIN) : 1;
    query->base = -all;
    query->slack = query->step * 0.5f * (float)rabitq->groups;
    fill_lut(rabitq, query, 1 / query->step);
}

void rabitq_sums(const struct rabitq *rabitq, const struct rabitq_query *query,
                 const uint8_t *block, int32_t sums[RABITQ_ROWS])
{
    memset(sums, 0, RABITQ_ROWS * sizeof *sums);
    for (uint32_t g = 0; g < rabitq->groups; g += KERNEL_LUT_GROUPS) {
        uint16_t some[RABITQ_ROWS];
        rabitq->kernels->lut16_sum(query->lut + (size_t)g * NIBBLES, block + (size_t)g * NIBBLES,
                                   MIN(rabitq->groups - g, KERNEL_LUT_GROUPS), some);
        for (uint32_t i = 0; i < RABITQ_ROWS; i++) {
            sums[i] += some[i];
        }
    }
}
