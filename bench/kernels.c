/*
 * kernels.c - what one row costs each table of kernels: bench_kernels [ROUNDS]
 *
 *   cached    rows in order, in the first-level cache: the instructions alone
 *   in order  a scan of memory
 *   gathered  24 random rows for each call, as one hop of a graph search
 *   tile      in order, for 64 queries at once: a 64th of what such a row costs
 *
 * Scans stand beside the speed at which one thread reads the same memory and adds up a word of
 * each line.
 *
 * The tables take turns in every round, so that whatever else the machine does hits all of them;
 * the median of the rounds is printed. Rows have 8 bytes of terms behind them, as codes have.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kernel/kernel.h"

enum {
    MEMORY_BYTES = 256 << 20,
    CACHED_BYTES = 20000,
    TERM_BYTES = 8,
    GATHERED_ROWS = 24,
    TILE_QUERIES = 64,
    TILE_ROWS = 512,
    SCANNED_ROWS = 1024, /* for each call */
    CALLS = 256,
    TABLES_MAX = 8,
    ROUNDS_MAX = 1000
};

enum place { CACHED, IN_ORDER, GATHERED, TILE, PLACES };

static const char *const place_names[PLACES] = {"cached", "in order", "gathered", "tile"};
static int8_t query[1536 * TILE_QUERIES];
static uint8_t *memory;
static volatile float sink;

static uint64_t random_u64(void)
{
    static uint64_t state = 1;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* other programs do not count */
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ns for each row */
static double time_q8_dot(const struct kernels *k, size_t bytes, enum place place)
{
    static uint32_t ids[CALLS * GATHERED_ROWS];
    static int32_t out[SCANNED_ROWS];
    size_t stride = bytes + TERM_BYTES, n = MEMORY_BYTES / stride;
    size_t per_call = place == CACHED     ? CACHED_BYTES / stride
                      : place == IN_ORDER ? SCANNED_ROWS
                                          : GATHERED_ROWS;
    size_t calls = place == IN_ORDER ? 8 : CALLS;
    size_t first = place == IN_ORDER ? random_u64() % (n - calls * per_call) : 0;
    for (size_t i = 0; i < CALLS * GATHERED_ROWS; i++) {
        ids[i] = (uint32_t)(random_u64() % n);
    }
    double start = now_ns();
    for (size_t call = 0; call < calls; call++) {
        size_t row = place == IN_ORDER ? first + call * per_call : 0;
        const uint32_t *chosen = place == GATHERED ? ids + call * per_call : NULL;
        k->q8_dot(query, memory + row * stride, stride, bytes, chosen, per_call, out);
    }
    return (now_ns() - start) / (double)(calls * per_call);
}

static double time_q8_tile(const struct kernels *k, size_t bytes, enum place place)
{
    static int32_t out[TILE_QUERIES * TILE_ROWS];
    size_t stride = bytes + TERM_BYTES, calls = place == TILE ? 8 : 1;
    size_t first = random_u64() % (MEMORY_BYTES / stride - calls * TILE_ROWS);
    double start = now_ns();
    for (size_t call = 0; call < calls; call++) {
        k->q8_tile(query, bytes, TILE_QUERIES, memory + (first + call * TILE_ROWS) * stride, stride,
                   bytes, NULL, TILE_ROWS, out);
    }
    return (now_ns() - start) / (double)(calls * TILE_ROWS * TILE_QUERIES);
}

/* GB/s of codes and their terms */
static double time_q8_scan(const struct kernels *k, size_t bytes, enum place place)
{
    return (double)(bytes + TERM_BYTES) / time_q8_dot(k, bytes, place);
}

/* GB/s of a thread that only reads. */
static double time_read(const struct kernels *k, size_t width, enum place place)
{
    (void)k;
    (void)width;
    (void)place;
    enum { LANES = 8, BYTES = 16 << 20 };
    uint64_t sums[LANES] = {0};
    const uint64_t *words = (const uint64_t *)(const void *)memory;
    words += random_u64() % ((MEMORY_BYTES - BYTES) / 64) * 8;
    double start = now_ns();
    for (size_t i = 0; i < BYTES / sizeof *words; i += 8 * LANES) {
        for (size_t j = 0; j < LANES; j++) {
            sums[j] += words[i + 8 * j]; /* a word of each line */
        }
    }
    double taken = now_ns() - start;
    for (size_t j = 1; j < LANES; j++) {
        sums[0] += sums[j];
    }
    sink = (float)sums[0];
    return BYTES / taken;
}

/* GB/s, counting the bytes of the rows */
static double time_f32_dot(const struct kernels *k, size_t dimension, enum place place)
{
    static float wanted[1536];
    const float *rows = (const float *)(const void *)memory;
    size_t n = MEMORY_BYTES / (dimension * sizeof *rows), calls = 2048, spread = n - calls;
    size_t first = place == IN_ORDER ? random_u64() % spread : 0;
    float sum = 0;
    double start = now_ns();
    for (size_t call = 0; call < calls; call++) {
        size_t row = place == IN_ORDER ? first + call : call % 4;
        sum += k->f32_dot(wanted, rows + row * dimension, dimension);
    }
    double taken = now_ns() - start;
    sink = sum;
    return (double)(calls * dimension * sizeof *rows) / taken;
}

typedef double (*measurement)(const struct kernels *k, size_t width, enum place place);

static void compare_tables(measurement measure, size_t width, enum place place, size_t rounds)
{
    static double taken[TABLES_MAX][ROUNDS_MAX];
    size_t tables = 0;
    while (tables < TABLES_MAX && kernel_available(tables)) {
        tables++;
    }
    for (size_t round = 0; round < rounds; round++) {
        for (size_t turn = 0; turn < tables; turn++) {
            size_t t = (turn + round) % tables;
            taken[t][round] = measure(kernel_available(t), width, place);
        }
    }
    printf("%6zu  %-8s", width, place_names[place]);
    for (size_t t = 0; t < tables; t++) {
        qsort(taken[t], rounds, sizeof *taken[t], compare_doubles);
        printf(" %10.2f", taken[t][rounds / 2]);
    }
    printf("\n");
    fflush(stdout);
}

static void print_heading(const char *what)
{
    printf("\n%s\n%6s  %-8s", what, "width", "rows");
    for (size_t t = 0; kernel_available(t); t++) {
        printf(" %10s", kernel_available(t)->name);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    static const size_t widths[] = {128, 256, 384, 768, 1536};
    size_t rounds = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 50;
    if (rounds == 0 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "bench_kernels: ROUNDS is 1 to %d\n", ROUNDS_MAX);
        return 2;
    }
    memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "bench_kernels: needs %d MB of memory\n", MEMORY_BYTES >> 20);
        return 1;
    }
    /* Floats from 0.5 to 1: denormals would be slow. */
    for (size_t i = 0; i < MEMORY_BYTES; i += 4) {
        uint32_t word = 0x3f000000u | ((uint32_t)random_u64() & 0x7fffff);
        memcpy(memory + i, &word, sizeof word);
    }
    for (size_t i = 0; i < sizeof query; i++) {
        query[i] = (int8_t)random_u64();
    }
    print_heading("q8_dot, ns for each row");
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        for (enum place place = CACHED; place < TILE; place++) {
            compare_tables(time_q8_dot, widths[w], place, rounds);
        }
        compare_tables(time_q8_tile, widths[w], TILE, rounds);
    }
    print_heading("reading, and q8_dot, GB/s");
    compare_tables(time_read, 0, IN_ORDER, rounds);
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        compare_tables(time_q8_scan, widths[w], IN_ORDER, rounds);
    }
    print_heading("f32_dot, GB/s");
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        compare_tables(time_f32_dot, widths[w], CACHED, rounds);
        compare_tables(time_f32_dot, widths[w], IN_ORDER, rounds);
    }
    return 0;
}
