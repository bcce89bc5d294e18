/*
 * rows.h - rows for tests: sources to build from, shapes of data, and a model that finds neighbours
 * the slow way, in double precision.
 */
#ifndef ANNEX_TEST_ROWS_H
#define ANNEX_TEST_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex.h"

uint64_t rows_random(uint64_t *state);
double rows_uniform(uint64_t *state); /* [0, 1) */
double rows_gaussian(uint64_t *state);

/* A table of rows in memory that can be read as annex_rows. */
struct rows {
    annex_metric metric;
    uint32_t dimension;
    size_t vector_bytes;
    size_t n;
    char *vectors; /* [n x vector_bytes] */
    int64_t *keys;
    char *key_bytes;    /* NULL: integer keys */
    uint64_t *key_ends; /* [n] */
    size_t batch;       /* rows given at once; 0: all */
    size_t next;
    unsigned passes; /* times rewind was called */
    /* Called before a batch is given, to change what it holds. */
    void (*meddle)(struct rows *rows, annex_batch *batch);
};

enum shape {
    SHAPE_GAUSSIAN,
    SHAPE_CLUSTERS, /* few directions inside each of 32 clusters, as embeddings have */
    SHAPE_BYTES,    /* whole numbers 0 to 255 */
    SHAPE_SIGNED,   /* whole numbers -128 to 127 */
    SHAPE_HEAVY,    /* a few huge elements */
    SHAPE_ONE_HOT,
    SHAPE_EQUAL,
    SHAPE_SORTED
};

/* Rows with keys 0, 1, … Bit metrics take bits at random, whatever the shape. */
struct rows rows_make(annex_metric metric, uint32_t dimension, size_t n, enum shape shape,
                      uint64_t seed);
/* Replaces the keys by byte keys of many lengths, the first one empty. */
void rows_make_byte_keys(struct rows *rows, uint64_t seed);
void rows_free(struct rows *rows);
annex_rows rows_source(struct rows *rows);
const void *rows_at(const struct rows *rows, size_t i);
float *rows_vector(struct rows *rows, size_t i);
annex_batch rows_batch(const struct rows *rows, size_t first, size_t n);
/* Order of keys of two rows. */
int rows_compare_keys(const struct rows *rows, size_t a, size_t b);

/* The distance of two vectors in double precision; NaN for a zero vector under cosine. */
double model_distance(annex_metric metric, uint32_t dimension, const void *a, const void *b);

struct model_hit {
    double distance;
    size_t row;
};

/*
 * All rows that have a distance and pass (NULL: all), ascending by (distance, key); returns how
 * many. `hits` has room for rows->n.
 */
size_t model_search(const struct rows *rows, const void *query, const bool *passes,
                    struct model_hit *hits);

/* Builds in memory; fails the test when that fails. */
annex_index *rows_build(struct rows *rows, const annex_build_options *options);
annex_build_options rows_options(const struct rows *rows);

#endif
