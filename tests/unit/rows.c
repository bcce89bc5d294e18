/*
 * rows.c - see rows.h.
 */
#include "rows.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint64_t rows_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

double rows_uniform(uint64_t *state)
{
    return (double)(rows_random(state) >> 11) * 0x1p-53;
}

double rows_gaussian(uint64_t *state)
{
    double u = rows_uniform(state), v = rows_uniform(state);
    return sqrt(-2 * log(u + 1e-300)) * cos(6.283185307179586 * v);
}

static bool is_bits(annex_metric metric)
{
    return metric == ANNEX_HAMMING || metric == ANNEX_JACCARD;
}

/* ---- shapes ----------------------------------------------------------------------------------*/

enum { CLUSTERS = 32, DIRECTIONS = 6 };

static void fill_clusters(struct rows *rows, uint64_t *random)
{
    size_t d = rows->dimension;
    float *basis = malloc(CLUSTERS * (DIRECTIONS + 1) * d * sizeof *basis);
    for (size_t i = 0; i < CLUSTERS * (DIRECTIONS + 1) * d; i++) {
        basis[i] = (float)rows_gaussian(random);
    }
    for (size_t i = 0; i < rows->n; i++) {
        const float *cluster =
            basis + (size_t)(rows_random(random) % CLUSTERS) * (DIRECTIONS + 1) * d;
        float *x = rows_vector(rows, i);
        memcpy(x, cluster, d * sizeof *x);
        for (size_t b = 1; b <= DIRECTIONS; b++) {
            float weight = (float)rows_gaussian(random) * 0.5f;
            for (size_t j = 0; j < d; j++) {
                x[j] += weight * cluster[b * d + j];
            }
        }
        for (size_t j = 0; j < d; j++) {
            x[j] += 0.05f * (float)rows_gaussian(random);
        }
    }
    free(basis);
}

static float element(const struct rows *rows, size_t i, size_t j, enum shape shape,
                     uint64_t *random)
{
    switch (shape) {
    case SHAPE_BYTES:
        return (float)(rows_random(random) % 256);
    case SHAPE_SIGNED:
        return (float)(rows_random(random) % 256) - 128;
    case SHAPE_HEAVY:
        return (float)(rows_gaussian(random) * exp(2 * rows_gaussian(random)));
    case SHAPE_ONE_HOT:
        return j == i % rows->dimension ? 1.0f + (float)(i / rows->dimension) : 0;
    case SHAPE_EQUAL:
        return (float)j + 0.25f;
    case SHAPE_SORTED:
        return (float)i * 0.01f + (float)j;
    case SHAPE_GAUSSIAN:
    case SHAPE_CLUSTERS:
        break;
    }
    return (float)rows_gaussian(random);
}

struct rows rows_make(annex_metric metric, uint32_t dimension, size_t n, enum shape shape,
                      uint64_t seed)
{
    struct rows rows = {.metric = metric, .dimension = dimension, .n = n};
    rows.vector_bytes = annex_vector_bytes(metric, dimension);
    rows.vectors = calloc(n + 1, rows.vector_bytes);
    rows.keys = calloc(n + 1, sizeof *rows.keys);
    uint64_t random = seed;
    for (size_t i = 0; i < n; i++) {
        rows.keys[i] = (int64_t)i;
    }
    if (is_bits(metric)) {
        for (size_t i = 0; i < n * rows.vector_bytes; i++) {
            rows.vectors[i] = (char)(rows_random(&random) & rows_random(&random));
        }
    } else if (shape == SHAPE_CLUSTERS) {
        fill_clusters(&rows, &random);
    } else {
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < dimension; j++) {
                rows_vector(&rows, i)[j] = element(&rows, i, j, shape, &random);
            }
        }
    }
    return rows;
}

void rows_make_byte_keys(struct rows *rows, uint64_t seed)
{
    uint64_t random = seed, end = 0;
    rows->key_bytes = malloc(rows->n * 300 + 1);
    rows->key_ends = malloc((rows->n + 1) * sizeof *rows->key_ends);
    for (size_t i = 0; i < rows->n; i++) {
        /* Distinct, because each holds its number; long ones now and then; every byte occurs. */
        size_t more = i ? rows_random(&random) % (i % 50 == 0 ? 290 : 8) : 0;
        for (size_t b = 0; b < more; b++) {
            rows->key_bytes[end++] = (char)rows_random(&random);
        }
        for (size_t b = 0; i && b < 4; b++) {
            rows->key_bytes[end++] = (char)(i >> (8 * b));
        }
        rows->key_ends[i] = end;
    }
}

void rows_free(struct rows *rows)
{
    free(rows->vectors);
    free(rows->keys);
    free(rows->key_bytes);
    free(rows->key_ends);
    memset(rows, 0, sizeof *rows);
}

const void *rows_at(const struct rows *rows, size_t i)
{
    return rows->vectors + i * rows->vector_bytes;
}

float *rows_vector(struct rows *rows, size_t i)
{
    return (float *)(void *)(rows->vectors + i * rows->vector_bytes);
}

/* ---- as a source -----------------------------------------------------------------------------*/

annex_batch rows_batch(const struct rows *rows, size_t first, size_t n)
{
    annex_batch batch = {.n = n, .vectors = rows_at(rows, first)};
    if (!rows->key_ends) {
        batch.keys = rows->keys + first;
        return batch;
    }
    /* Ends count from key_bytes: a batch that starts in the middle needs its own. */
    assert_int_equal(first, 0);
    batch.key_bytes = rows->key_bytes;
    batch.key_ends = rows->key_ends;
    return batch;
}

static annex_status source_next(void *context, annex_batch *batch, annex_error *error)
{
    struct rows *rows = context;
    (void)error;
    size_t n = rows->n - rows->next;
    if (rows->batch && n > rows->batch) {
        n = rows->batch;
    }
    *batch = (annex_batch){0};
    if (n) {
        *batch = rows_batch(rows, rows->next, n);
    }
    rows->next += n;
    if (rows->meddle) {
        rows->meddle(rows, batch);
    }
    return ANNEX_OK;
}

static annex_status source_rewind(void *context, annex_error *error)
{
    struct rows *rows = context;
    (void)error;
    rows->next = 0;
    rows->passes++;
    return ANNEX_OK;
}

annex_rows rows_source(struct rows *rows)
{
    rows->next = 0;
    rows->passes = 0;
    return (annex_rows){.context = rows, .next = source_next, .rewind = source_rewind};
}

/* ---- the model -------------------------------------------------------------------------------*/

int rows_compare_keys(const struct rows *rows, size_t a, size_t b)
{
    if (!rows->key_ends) {
        return rows->keys[a] < rows->keys[b] ? -1 : rows->keys[a] > rows->keys[b];
    }
    uint64_t begin_a = a ? rows->key_ends[a - 1] : 0, begin_b = b ? rows->key_ends[b - 1] : 0;
    size_t n_a = rows->key_ends[a] - begin_a, n_b = rows->key_ends[b] - begin_b;
    int order = memcmp(rows->key_bytes + begin_a, rows->key_bytes + begin_b, n_a < n_b ? n_a : n_b);
    return order ? order : n_a < n_b ? -1 : n_a > n_b;
}

static double bits_distance(annex_metric metric, uint32_t dimension, const uint8_t *a,
                            const uint8_t *b)
{
    double common = 0, different = 0, any = 0;
    for (uint32_t j = 0; j < dimension; j++) {
        int x = a[j / 8] >> (j % 8) & 1, y = b[j / 8] >> (j % 8) & 1;
        common += x & y;
        different += x ^ y;
        any += x | y;
    }
    return metric == ANNEX_HAMMING ? different : any > 0 ? 1 - common / any : 0;
}

double model_distance(annex_metric metric, uint32_t dimension, const void *a, const void *b)
{
    if (is_bits(metric)) {
        return bits_distance(metric, dimension, a, b);
    }
    const float *x = a, *y = b;
    double squares = 0, product = 0, sum = 0, norm_x = 0, norm_y = 0;
    for (uint32_t j = 0; j < dimension; j++) {
        double difference = (double)x[j] - y[j];
        squares += difference * difference;
        product += (double)x[j] * y[j];
        sum += fabs(difference);
        norm_x += (double)x[j] * x[j];
        norm_y += (double)y[j] * y[j];
    }
    switch (metric) {
    case ANNEX_L2:
        return sqrt(squares);
    case ANNEX_IP:
        return -product;
    case ANNEX_L1:
        return sum;
    default:
        return norm_x > 0 && norm_y > 0 ? 1 - product / sqrt(norm_x * norm_y) : (double)NAN;
    }
}

static const struct rows *sorted_rows;

static int compare_hits(const void *a, const void *b)
{
    const struct model_hit *x = a, *y = b;
    if (x->distance != y->distance) {
        return x->distance < y->distance ? -1 : 1;
    }
    return rows_compare_keys(sorted_rows, x->row, y->row);
}

size_t model_search(const struct rows *rows, const void *query, const bool *passes,
                    struct model_hit *hits)
{
    size_t n = 0;
    for (size_t i = 0; i < rows->n; i++) {
        double distance = model_distance(rows->metric, rows->dimension, query, rows_at(rows, i));
        if (!isnan(distance) && (!passes || passes[i])) {
            hits[n++] = (struct model_hit){.distance = distance, .row = i};
        }
    }
    sorted_rows = rows;
    qsort(hits, n, sizeof *hits, compare_hits);
    return n;
}

/* ---- building --------------------------------------------------------------------------------*/

annex_build_options rows_options(const struct rows *rows)
{
    annex_build_options options = ANNEX_BUILD_OPTIONS_INIT;
    options.metric = rows->metric;
    options.dimension = rows->dimension;
    options.key_kind = rows->key_ends ? ANNEX_KEY_BYTES : ANNEX_KEY_INTEGER;
    options.threads = 2;
    return options;
}

annex_index *rows_build(struct rows *rows, const annex_build_options *options)
{
    annex_env env = annex_env_default();
    annex_rows source = rows_source(rows);
    annex_index *index = NULL;
    annex_error error = {0};
    if (annex_build(&env, options, &source, NULL, &index, &error)) {
        fail_msg("annex_build: %s", error.message);
    }
    return index;
}
