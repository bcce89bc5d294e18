/*
 * flat.c - exact search, driven by flat.py: bench_flat ROWS QUERIES METRIC [CODES]
 *
 * Builds a flat index of the rows in memory, says "ready ROWS DIMENSION QUERIES", then answers each
 * line "BATCH K THREADS SEARCHES" by searching so many times, BATCH queries at a time, and saying
 * the seconds it took, those of processors, and the sum of all distances. So engines take turns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "annex.h"

static annex_env env;

static void must(annex_status status, const annex_error *error)
{
    if (status) {
        fprintf(stderr, "bench_flat: %s\n", error->message);
        exit(1);
    }
}

static void *must_have(void *memory)
{
    if (!memory) {
        fprintf(stderr, "bench_flat: out of memory\n");
        exit(1);
    }
    return memory;
}

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static annex_index *build(const char *path, annex_metric metric, annex_codes codes)
{
    annex_build_options options = ANNEX_BUILD_OPTIONS_INIT;
    annex_error error;
    annex_reader *reader;
    annex_reader_info info;
    annex_index *index;
    must(annex_reader_open(&env, path, NULL, &reader, &error), &error);
    annex_reader_describe(reader, &info);
    annex_rows rows = annex_reader_rows(reader);
    options.metric = metric;
    options.dimension = info.dimension;
    options.family = ANNEX_FLAT;
    options.codes = codes;
    must(annex_build(&env, &options, &rows, NULL, &index, &error), &error);
    annex_reader_close(reader);
    return index;
}

static float *read_queries(const char *path, size_t dimension, size_t *n)
{
    annex_error error;
    annex_reader *reader;
    annex_reader_info info;
    annex_batch batch;
    must(annex_reader_open(&env, path, "test", &reader, &error), &error);
    annex_reader_describe(reader, &info);
    if (info.dimension != dimension) {
        fprintf(stderr, "bench_flat: %s has other dimensions than the rows\n", path);
        exit(1);
    }
    float *queries = must_have(malloc(info.rows * dimension * sizeof *queries));
    annex_rows rows = annex_reader_rows(reader);
    must(rows.rewind(rows.context, &error), &error);
    for (*n = 0; *n < info.rows; *n += batch.n) {
        must(rows.next(rows.context, &batch, &error), &error);
        memcpy(queries + *n * dimension, batch.vectors, batch.n * dimension * sizeof *queries);
    }
    annex_reader_close(reader);
    return queries;
}

int main(int argc, char **argv)
{
    annex_metric metric;
    annex_error error;
    annex_index_info info;
    size_t n_queries, batch, k, searches;
    unsigned threads;
    annex_codes codes = ANNEX_CODES_AUTO;
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: bench_flat ROWS QUERIES METRIC [CODES]\n");
        return 2;
    }
    env = annex_env_default();
    must(annex_metric_parse(argv[3], &metric, &error), &error);
    if (argc == 5) {
        must(annex_codes_parse(argv[4], &codes, &error), &error);
    }
    annex_index *index = build(argv[1], metric, codes);
    annex_index_describe(index, &info);
    float *queries = read_queries(argv[2], info.dimension, &n_queries);
    printf("ready %llu %u %zu\n", (unsigned long long)info.rows, info.dimension, n_queries);
    fflush(stdout);
    while (scanf("%zu %zu %u %zu", &batch, &k, &threads, &searches) == 4 && batch <= n_queries) {
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        annex_hit *hits = must_have(malloc(batch * k * sizeof *hits));
        size_t *found = must_have(malloc(batch * sizeof *found));
        double sum = 0, seconds = 0, processor = 0;
        options.effort = ANNEX_EFFORT_EXACT;
        options.threads = threads;
        for (size_t i = 0; i < searches; i++) {
            size_t first = i * batch % (n_queries - batch + 1);
            double start = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
            must(annex_index_search(index, queries + first * info.dimension, batch, k, &options,
                                    hits, found, &error),
                 &error);
            seconds += now(CLOCK_MONOTONIC) - start;
            processor += now(CLOCK_PROCESS_CPUTIME_ID) - used;
            for (size_t j = 0; j < batch * k; j++) {
                sum += hits[j].distance;
            }
        }
        printf("%.9f %.9f %.9g\n", seconds, processor, sum);
        fflush(stdout);
        free(hits);
        free(found);
    }
    annex_index_close(index);
    free(queries);
    return 0;
}
