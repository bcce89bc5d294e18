/*
 * rotation.c - see rotation.h.
 */
#include "quant/rotation.h"

#include <math.h>

enum { ROUNDS = 4, SIGNS = 32, WORDS = 32 };

struct rotation rotation_make(uint64_t seed, uint32_t dimension)
{
    uint32_t window = 1;
    while (window <= dimension / 2) {
        window *= 2;
    }
    return (struct rotation){.kernels = kernel_table(),
                             .seed = seed,
                             .dimension = dimension,
                             .window = window,
                             .scale = (float)(1 / sqrt((double)window))};
}

/* Signs come from one random word for every 32 elements of a round. */
static void flip_signs(const struct rotation *rotation, uint32_t round, float *x)
{
    uint32_t words[WORDS];
    uint64_t random = rotation->seed + round;
    for (uint32_t i = 0; i < rotation->dimension; i += WORDS * SIGNS) {
        uint32_t n = MIN(WORDS * SIGNS, rotation->dimension - i);
        for (uint32_t w = 0; w * SIGNS < n; w++) {
            words[w] = (uint32_t)random_next(&random);
        }
        rotation->kernels->f32_flip(x + i, words, n);
    }
}

/* Its own reverse, but for rounding: the matrix is symmetric and orthogonal. */
static void hadamard(const struct rotation *rotation, uint32_t round, float *x)
{
    float *window = round % 2 ? x + (rotation->dimension - rotation->window) : x;
    rotation->kernels->f32_hadamard(window, rotation->window, rotation->scale);
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

void rotation_apply(const struct rotation *rotation, const float *from, float *to)
{
    memmove(to, from, rotation->dimension * sizeof *to);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        flip_signs(rotation, round, to);
        hadamard(rotation, round, to);
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
        hadamard(rotation, round, to);
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
