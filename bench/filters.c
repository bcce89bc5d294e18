/*
 * filters.c - searches with filters of every share and place: bench_filters INDEX VECTORS [QUERIES]
 *
 * VECTORS is an HDF5 file with a data set "test". For each query, share and correlation the bitmap
 * is made from the exact order of all rows by distance to that query:
 *
 *   random   rows drawn by chance
 *   near     the rows nearest to the query: its region
 *   far      the rows farthest from the query
 *   away     the rows nearest to some row of the farther half: another region
 *
 * Prints a JSON array: recall by distance at k = 10 and the default effort, the fewest rows that
 * came back (of min(k, passing)), processor time beside the same search without a filter and beside
 * the exact search with it, and how many queries walked, scanned, or did both. The three kinds of
 * search take turns, all queries at a time, and the best round of each counts.
 */
#include <annex.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { K = 10, ROUNDS = 5, QUERIES_MAX = 1000 };

enum place { RANDOM, NEAR, FAR, AWAY, PLACES };
enum kind { PLAIN, FILTERED, EXACT, KINDS };

static const char *const place_names[PLACES] = {"random", "near", "far", "away"};
static const double shares[] = {1, 0.5, 0.1, 0.01, 0.001, 0.0001};

struct bench {
    annex_env env;
    annex_index *index;
    annex_index_info info;
    size_t n, n_queries, words;
    float *rows;       /* [n x dimension] */
    float *queries;    /* [n_queries x dimension] */
    uint32_t *near;    /* [n_queries x n] rows by distance to the query */
    uint32_t *around;  /* [n_queries x n] by distance to a row of the farther half */
    uint64_t *allowed; /* [n_queries x words] */
};

struct outcome {
    double seconds[KINDS];
    double recall, short_of;
    uint64_t walked, scanned, both;
};

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "bench_filters: %s\n", what);
    exit(1);
}

static void require(annex_status status, const annex_error *error)
{
    if (status) {
        fail(error->message);
    }
}

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n, size);
    if (!memory) {
        fail("out of memory");
    }
    return memory;
}

static uint64_t scramble(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the rows in order ------------------------------------------------------------------------*/

struct placed {
    double distance;
    uint32_t row;
};

static int compare_placed(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    return x->distance != y->distance ? (x->distance > y->distance) - (x->distance < y->distance)
                                      : (x->row > y->row) - (x->row < y->row);
}

static void order_rows(const struct bench *bench, const float *from, uint32_t *order)
{
    static double *distances;
    static struct placed *placed;
    annex_error error;
    if (!distances) {
        distances = allocate(bench->n, sizeof *distances);
        placed = allocate(bench->n, sizeof *placed);
    }
    require(annex_distances(bench->info.metric, bench->info.dimension, from, bench->rows, bench->n,
                            distances, &error),
            &error);
    for (size_t i = 0; i < bench->n; i++) {
        placed[i] = (struct placed){distances[i], (uint32_t)i};
    }
    qsort(placed, bench->n, sizeof *placed, compare_placed);
    for (size_t i = 0; i < bench->n; i++) {
        order[i] = placed[i].row;
    }
}

/* Every so-many-th of the file: neighbours in it may be alike. */
static void read_queries(struct bench *bench, const char *path)
{
    annex_reader *reader;
    annex_reader_info info;
    annex_error error;
    annex_batch batch = {0};
    size_t dimension = bench->info.dimension, have = 0, first = 0;
    require(annex_reader_open(&bench->env, path, "test", &reader, &error), &error);
    annex_reader_describe(reader, &info);
    annex_rows rows = annex_reader_rows(reader);
    if (info.rows < bench->n_queries || info.dimension != dimension) {
        fail("the file has fewer queries, or of another dimension");
    }
    bench->queries = allocate(bench->n_queries * dimension, sizeof *bench->queries);
    for (; have < bench->n_queries; have++) {
        size_t row = have * info.rows / bench->n_queries;
        while (row >= first + batch.n) {
            first += batch.n;
            require(rows.next(rows.context, &batch, &error), &error);
            if (batch.n == 0) {
                fail("the file ends early");
            }
        }
        memcpy(bench->queries + have * dimension,
               (const float *)batch.vectors + (row - first) * dimension, dimension * sizeof(float));
    }
    annex_reader_close(reader);
}

static void prepare(struct bench *bench)
{
    size_t dimension = bench->info.dimension;
    annex_error error;
    bench->rows = allocate(bench->n * dimension, sizeof *bench->rows);
    bench->near = allocate(bench->n_queries * bench->n, sizeof *bench->near);
    bench->around = allocate(bench->n_queries * bench->n, sizeof *bench->around);
    bench->allowed = allocate(bench->n_queries * bench->words, sizeof *bench->allowed);
    for (size_t i = 0; i < bench->n; i++) {
        require(annex_index_vector(bench->index, (uint32_t)i, bench->rows + i * dimension, &error),
                &error);
    }
    for (size_t q = 0; q < bench->n_queries; q++) {
        uint32_t *near = bench->near + q * bench->n;
        order_rows(bench, bench->queries + q * dimension, near);
        size_t other = bench->n / 2 + scramble(q + 1) % (bench->n / 2);
        order_rows(bench, bench->rows + near[other] * dimension, bench->around + q * bench->n);
    }
}

/* ---- one cell of the grid ---------------------------------------------------------------------*/

static void allow(uint64_t *bitmap, uint32_t row)
{
    bitmap[row / 64] |= UINT64_C(1) << row % 64;
}

static void make_filters(struct bench *bench, double share, enum place place)
{
    size_t n = bench->n, m = (size_t)((double)n * share + 0.5);
    memset(bench->allowed, 0, bench->n_queries * bench->words * sizeof *bench->allowed);
    for (size_t q = 0; q < bench->n_queries; q++) {
        uint64_t *bitmap = bench->allowed + q * bench->words;
        const uint32_t *order = place == AWAY ? bench->around + q * n : bench->near + q * n;
        for (size_t i = 0; i < n; i++) {
            bool passes = place == RANDOM
                              ? (double)(scramble(q * n + i + 1) >> 11) * 0x1p-53 < share
                          : place == FAR ? i >= n - m
                                         : i < m;
            if (passes) {
                allow(bitmap, place == RANDOM ? (uint32_t)i : order[i]);
            }
        }
    }
}

static void search(const struct bench *bench, enum kind kind, size_t q, annex_hit hits[K],
                   size_t *found, annex_search_stats *stats)
{
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    annex_error error;
    options.threads = 1;
    options.effort = kind == EXACT ? ANNEX_EFFORT_EXACT : 0;
    options.allowed = kind == PLAIN ? NULL : bench->allowed + q * bench->words;
    options.stats = stats;
    require(annex_index_search(bench->index, bench->queries + q * bench->info.dimension, 1, K,
                               &options, hits, found, &error),
            &error);
}

static void judge(const struct bench *bench, size_t q, struct outcome *outcome)
{
    annex_hit hits[K], truth[K];
    annex_search_stats stats;
    size_t found, expected, right = 0, passing = 0;
    search(bench, EXACT, q, truth, &expected, &stats);
    search(bench, FILTERED, q, hits, &found, &stats);
    double limit = expected ? truth[expected - 1].distance * (1 + 1e-6) : 0;
    for (size_t i = 0; i < found; i++) {
        right += hits[i].distance <= limit;
    }
    for (size_t w = 0; w < bench->words; w++) {
        passing += (size_t)__builtin_popcountll(bench->allowed[q * bench->words + w]);
    }
    size_t wanted = passing < K ? passing : K;
    outcome->recall += wanted ? (double)right / (double)wanted : 1;
    outcome->short_of =
        wanted - found > outcome->short_of ? (double)(wanted - found) : outcome->short_of;
    outcome->walked += stats.hops > 0 && stats.distances < passing;
    outcome->both += stats.hops > 0 && stats.distances >= passing;
    outcome->scanned += stats.hops == 0;
}

static void measure(const struct bench *bench, struct outcome *outcome)
{
    annex_hit hits[K];
    size_t found;
    *outcome = (struct outcome){.seconds = {1e9, 1e9, 1e9}};
    for (int round = 0; round < ROUNDS; round++) {
        for (enum kind kind = PLAIN; kind < KINDS; kind++) {
            double start = cpu_seconds();
            for (size_t q = 0; q < bench->n_queries; q++) {
                search(bench, kind, q, hits, &found, NULL);
            }
            double taken = (cpu_seconds() - start) / (double)bench->n_queries;
            outcome->seconds[kind] =
                taken < outcome->seconds[kind] ? taken : outcome->seconds[kind];
        }
    }
    for (size_t q = 0; q < bench->n_queries; q++) {
        judge(bench, q, outcome);
    }
    outcome->recall /= (double)bench->n_queries;
}

static void print_cell(double share, enum place place, const struct outcome *outcome, bool last)
{
    const double *seconds = outcome->seconds;
    printf("  {\"share\": %g, \"place\": \"%s\", \"recall\": %.4f, \"missing\": %g,"
           " \"us\": %.1f, \"unfiltered_us\": %.1f, \"exact_us\": %.1f,"
           " \"walked\": %" PRIu64 ", \"scanned\": %" PRIu64 ", \"both\": %" PRIu64 "}%s\n",
           share, place_names[place], outcome->recall, outcome->short_of, seconds[FILTERED] * 1e6,
           seconds[PLAIN] * 1e6, seconds[EXACT] * 1e6, outcome->walked, outcome->scanned,
           outcome->both, last ? "" : ",");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct bench bench = {.env = annex_env_default(),
                          .n_queries = argc > 3 ? strtoul(argv[3], NULL, 10) : 100};
    annex_error error;
    if (argc < 3 || bench.n_queries == 0 || bench.n_queries > QUERIES_MAX) {
        fprintf(stderr, "usage: bench_filters INDEX VECTORS.hdf5 [QUERIES]\n");
        return 2;
    }
    require(annex_index_open(&bench.env, argv[1], ANNEX_INDEX_LOAD, &bench.index, &error), &error);
    annex_index_describe(bench.index, &bench.info);
    bench.n = bench.info.slots;
    bench.words = (bench.n + 63) / 64;
    if (bench.n < 2) {
        fail("the index has fewer than two rows");
    }
    read_queries(&bench, argv[2]);
    prepare(&bench);
    printf("[\n");
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
        for (enum place place = RANDOM; place < PLACES; place++) {
            struct outcome outcome;
            make_filters(&bench, shares[s], place);
            measure(&bench, &outcome);
            print_cell(shares[s], place, &outcome,
                       s + 1 == sizeof shares / sizeof *shares && place + 1 == PLACES);
        }
    }
    printf("]\n");
    return 0;
}
