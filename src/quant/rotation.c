/*
 * rotation.c - see rotation.h. Loops add and multiply element by element, so that compilers may do
 * several at a time without another result.
 */
#include "quant/rotation.h"

#include <math.h>

enum { ROUNDS = 4, BLOCK = 8, SIGNS = 32 };

struct rotation rotation_make(uint64_t seed, uint32_t dimension)
{
    uint32_t window = 1;
    while (window <= dimension / 2) {
        window *= 2;
    }
    return (struct rotation){.seed = seed,
                             .dimension = dimension,
                             .window = window,
                             .scale = (float)(1 / sqrt((double)window))};
}

/* Signs come from one random word for every 32 elements of a round. */
static void flip_signs(const struct rotation *rotation, uint32_t round, float *x)
{
    uint32_t bits[SIGNS];
    for (uint32_t j = 0; j < SIGNS; j++) {
        bits[j] = 1u << j;
    }
    uint64_t random = rotation->seed + round;
    for (uint32_t i = 0; i < rotation->dimension; i += SIGNS) {
        uint32_t word = (uint32_t)random_next(&random);
        uint32_t n = MIN(SIGNS, rotation->dimension - i);
        for (uint32_t j = 0; j < n; j++) {
            x[i + j] = word & bits[j] ? -x[i + j] : x[i + j];
        }
    }
}

/* (a, b) -> (a + b, a - b) for all pairs `length` apart, of n elements. */
static void add_pairs(float *restrict x, uint32_t n, uint32_t length)
{
    for (uint32_t i = 0; i < n; i += 2 * length) {
        float *restrict low = x + i, *restrict high = x + i + length;
        for (uint32_t j = 0; j < length; j++) {
            float a = low[j], b = high[j];
            low[j] = a + b;
            high[j] = a - b;
        }
    }
}

/* The last three steps of a transform: the same additions as add_pairs would do. */
static void add_within_blocks(float *x, uint32_t n, float scale)
{
    for (uint32_t i = 0; i < n; i += BLOCK) {
        float *b = x + i;
        float a0 = b[0] + b[4], a1 = b[1] + b[5], a2 = b[2] + b[6], a3 = b[3] + b[7];
        float a4 = b[0] - b[4], a5 = b[1] - b[5], a6 = b[2] - b[6], a7 = b[3] - b[7];
        float c0 = a0 + a2, c1 = a1 + a3, c2 = a0 - a2, c3 = a1 - a3;
        float c4 = a4 + a6, c5 = a5 + a7, c6 = a4 - a6, c7 = a5 - a7;
        b[0] = (c0 + c1) * scale;
        b[1] = (c0 - c1) * scale;
        b[2] = (c2 + c3) * scale;
        b[3] = (c2 - c3) * scale;
        b[4] = (c4 + c5) * scale;
        b[5] = (c4 - c5) * scale;
        b[6] = (c6 + c7) * scale;
        b[7] = (c6 - c7) * scale;
    }
}

/* Its own reverse, but for rounding: the matrix is symmetric and orthogonal. */
static void hadamard(float *x, uint32_t n, float scale)
{
    uint32_t length = n / 2;
    for (; length >= BLOCK; length /= 2) {
        add_pairs(x, n, length);
    }
    if (n >= BLOCK) {
        add_within_blocks(x, n, scale);
        return;
    }
    for (; length > 0; length /= 2) {
        add_pairs(x, n, length);
    }
    for (uint32_t i = 0; i < n; i++) {
        x[i] *= scale;
    }
}

/* Turns every pair of the two halves by an eighth and mirrors it; an odd element stays. */
static void mix_halves(const struct rotation *rotation, float *x)
{
    const float eighth = 0.70710678f;
    uint32_t half = rotation->dimension / 2;
    float *restrict low = x, *restrict high = x + (rotation->dimension - half);
    for (uint32_t i = 0; i < half; i++) {
        float a = low[i], b = high[i];
        low[i] = (a + b) * eighth;
        high[i] = (a - b) * eighth;
    }
}

/*
 * Once, when both windows have spread what they cover: earlier or more often, half of an element
 * that a window leaves out would escape the next one too.
 */
static bool mixes_after(const struct rotation *rotation, uint32_t round)
{
    return rotation->window < rotation->dimension && round == ROUNDS / 2 - 1;
}

static float *window_of(const struct rotation *rotation, uint32_t round, float *x)
{
    return round % 2 ? x + (rotation->dimension - rotation->window) : x;
}

void rotation_apply(const struct rotation *rotation, const float *from, float *to)
{
    memmove(to, from, rotation->dimension * sizeof *to);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        flip_signs(rotation, round, to);
        hadamard(window_of(rotation, round, to), rotation->window, rotation->scale);
        if (mixes_after(rotation, round)) {
            mix_halves(rotation, to);
        }
    }
}

void rotation_undo(const struct rotation *rotation, const float *from, float *to)
{
    memmove(to, from, rotation->dimension * sizeof *to);
    for (uint32_t round = ROUNDS; round-- > 0;) {
        if (mixes_after(rotation, round)) {
            mix_halves(rotation, to);
        }
        hadamard(window_of(rotation, round, to), rotation->window, rotation->scale);
        flip_signs(rotation, round, to);
    }
}

float rotation_loss(const struct rotation *rotation)
{
    /* Each step keeps lengths and rounds once, relatively to what it gives. Constants round too. */
    uint32_t steps = 4;
    for (uint32_t length = 1; length < rotation->window; length *= 2) {
        steps++;
    }
    return (float)(ROUNDS * steps + 4) * 6e-8f;
}
