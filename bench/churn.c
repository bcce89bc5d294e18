/*
 * churn.c - what changes do to a graph: bench_churn [OPTION...] FILE
 *
 *   --metric NAME   l2 (default), cosine, ip, l1
 *   --rows N        rows in the index (20000)
 *   --rounds N      (20)
 *   --percent P     rows replaced in all, in percent (50): each round deletes its part of them, at
 *                   random, and inserts as many new ones
 *   --drift         new rows come from another part of the data than the first ones
 *   --reopen        save the index and open it again after each round, as a sync does
 *   --degree N      of the graph
 *   --seed N        of the choice of rows and queries (1)
 *   --every N       rounds between two measurements (5)
 *
 * Prints, after some of the rounds, recall at 10, codes scored and hops a query for three indexes
 * over the same rows: built afresh, changed in memory, and saved after the changes; how many codes
 * the other two score for the recall of the first, as a multiple; and how many live rows no walk
 * can reach. Counts, not times: they are the same on any machine.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/index.h"

enum { QUERIES = 2000, K = 10, PART = 64, CLOSE = 256 };

static const uint32_t efforts[] = {10, 14, 20, 28, 40, 56, 80, 112};
enum { EFFORTS = ARRAY_LENGTH(efforts) };
static const annex_env *env;

struct arguments {
    const char *file;
    annex_metric metric;
    uint32_t rows, rounds, percent, degree, every, seed;
    bool drift, reopen;
};

struct churn {
    struct arguments asked;
    uint32_t dimension;
    size_t n_vectors; /* [n_vectors x dimension]; the row with key i is vector i */
    float *vectors;
    float *queries;  /* [QUERIES x dimension] */
    int64_t *live;   /* [rows] keys of the rows that are there */
    size_t next_key; /* rows from here on are new */
    size_t next;     /* of `live`, as a source */
    uint64_t random;
};

static void must(annex_status status, const annex_error *error)
{
    if (status) {
        fprintf(stderr, "bench_churn: %s\n", error->message);
        exit(1);
    }
}

static void *must_have(void *memory)
{
    if (!memory) {
        fprintf(stderr, "bench_churn: out of memory\n");
        exit(1);
    }
    return memory;
}

/* ---- the data --------------------------------------------------------------------------------*/

/* Vectors of the file in a random order: the first QUERIES are the queries. */
static void read_vectors(struct churn *churn)
{
    annex_error error;
    annex_reader *reader;
    annex_reader_info info;
    annex_batch batch;
    must(annex_reader_open(env, churn->asked.file, NULL, &reader, &error), &error);
    annex_reader_describe(reader, &info);
    size_t n = info.rows, d = churn->dimension = info.dimension;
    size_t wanted =
        churn->asked.rows + (size_t)churn->asked.rows * churn->asked.percent / 100 + QUERIES;
    if (n < wanted) {
        fprintf(stderr, "bench_churn: %s has %zu rows, %zu are needed\n", churn->asked.file, n,
                wanted);
        exit(1);
    }
    float *all = must_have(malloc(n * d * sizeof *all));
    annex_rows rows = annex_reader_rows(reader);
    must(rows.rewind(rows.context, &error), &error);
    for (size_t i = 0; i < n; i += batch.n) {
        must(rows.next(rows.context, &batch, &error), &error);
        memcpy(all + i * d, batch.vectors, batch.n * d * sizeof *all);
    }
    annex_reader_close(reader);
    for (size_t i = 0; i < wanted; i++) {
        size_t j = i + random_below(&churn->random, n - i);
        for (size_t c = 0; i != j && c < d; c++) {
            float swap = all[i * d + c];
            all[i * d + c] = all[j * d + c];
            all[j * d + c] = swap;
        }
    }
    churn->queries = all;
    churn->vectors = all + QUERIES * d;
    churn->n_vectors = wanted - QUERIES;
}

struct place {
    double side;
    size_t row;
};

static int compare_places(const void *a, const void *b)
{
    double x = ((const struct place *)a)->side, y = ((const struct place *)b)->side;
    return x < y ? -1 : x > y;
}

/* Sorts the vectors from the side of one of them to the side of another one. */
static void sort_vectors(struct churn *churn)
{
    size_t d = churn->dimension, n = churn->n_vectors, bytes = d * sizeof(float);
    struct place *places = must_have(malloc(n * sizeof *places));
    float *sorted = must_have(malloc(n * bytes));
    for (size_t i = 0; i < n; i++) {
        double a = 0, b = 0;
        for (size_t c = 0; c < d; c++) {
            double x = churn->vectors[i * d + c];
            double to_a = x - churn->queries[c], to_b = x - churn->queries[d + c];
            a += to_a * to_a;
            b += to_b * to_b;
        }
        places[i] = (struct place){.side = a - b, .row = i};
    }
    qsort(places, n, sizeof *places, compare_places);
    for (size_t i = 0; i < n; i++) {
        memcpy(sorted + i * d, churn->vectors + places[i].row * d, bytes);
    }
    memcpy(churn->vectors, sorted, n * bytes);
    free(sorted);
    free(places);
}

/* ---- indexes ---------------------------------------------------------------------------------*/

static annex_status next_live(void *context, annex_batch *batch, annex_error *error)
{
    static float vectors[PART * 4096];
    struct churn *churn = context;
    size_t d = churn->dimension;
    (void)error;
    *batch = (annex_batch){.vectors = vectors, .keys = churn->live + churn->next};
    for (; batch->n < PART && churn->next < churn->asked.rows; batch->n++) {
        memcpy(vectors + batch->n * d, churn->vectors + (size_t)churn->live[churn->next++] * d,
               d * sizeof *vectors);
    }
    return ANNEX_OK;
}

static annex_status rewind_live(void *context, annex_error *error)
{
    (void)error;
    ((struct churn *)context)->next = 0;
    return ANNEX_OK;
}

static annex_index *build(struct churn *churn)
{
    annex_build_options options = ANNEX_BUILD_OPTIONS_INIT;
    annex_rows rows = {.context = churn, .next = next_live, .rewind = rewind_live};
    annex_index *index;
    annex_error error;
    options.metric = churn->asked.metric;
    options.dimension = churn->dimension;
    options.family = ANNEX_GRAPH;
    options.degree = churn->asked.degree;
    must(annex_build(env, &options, &rows, NULL, &index, &error), &error);
    return index;
}

static annex_index *save(annex_index *index)
{
    char path[] = "/tmp/bench_churn_XXXXXX";
    annex_index *saved;
    annex_error error;
    int file = mkstemp(path);
    must(file < 0 ? ANNEX_IO : ANNEX_OK, &(annex_error){ANNEX_IO, "no temporary file"});
    must(annex_index_save(index, path, &error), &error);
    must(annex_index_open(env, path, ANNEX_INDEX_LOAD, &saved, &error), &error);
    remove(path);
    return saved;
}

/* One round: every part deletes rows at random and then inserts new ones under new keys. */
static void change(struct churn *churn, annex_index *index, size_t n)
{
    annex_error error;
    for (size_t done = 0; done < n;) {
        int64_t gone[PART], fresh[PART];
        size_t part = MIN(PART, n - done);
        for (size_t i = 0; i < part; i++) { /* distinct: each goes behind those already drawn */
            size_t last = churn->asked.rows - 1 - i;
            size_t at = random_below(&churn->random, last + 1);
            gone[i] = churn->live[at];
            churn->live[at] = churn->live[last];
            fresh[i] = (int64_t)(churn->next_key + i);
            churn->live[last] = fresh[i];
        }
        annex_batch batch = {.n = part, .keys = gone};
        must(annex_index_delete(index, &batch, &error), &error);
        batch = (annex_batch){.n = part,
                              .keys = fresh,
                              .vectors = churn->vectors + churn->next_key * churn->dimension};
        must(annex_index_insert(index, &batch, &error), &error);
        churn->next_key += part;
        done += part;
    }
}

/* ---- measuring -------------------------------------------------------------------------------*/

static void reach_row(const annex_index *index, uint64_t *reached, uint32_t *queue, uint32_t *n,
                      uint32_t slot)
{
    for (; !bitmap_get(reached, slot); slot = index->same ? index->same[slot] : slot) {
        bitmap_set(reached, slot);
        queue[(*n)++] = slot;
    }
}

/* Live rows that no walk from the entries can reach. */
static uint32_t count_unreachable(const annex_index *index)
{
    const struct graph *graph = &index->graph;
    uint64_t *reached = must_have(calloc(bitmap_words(index->slots), sizeof *reached));
    uint32_t *queue = must_have(calloc(index->slots, sizeof *queue)), n = 0, lost = 0;
    for (uint32_t i = 0; i < graph->n_entries; i++) {
        reach_row(index, reached, queue, &n, graph->entries[i]);
    }
    for (uint32_t next = 0; next < n; next++) {
        const uint32_t *row = graph->neighbours + (size_t)queue[next] * graph->degree;
        for (uint32_t i = 0; i < graph->degree && row[i] < index->slots; i++) {
            reach_row(index, reached, queue, &n, row[i]);
        }
    }
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        lost += index_is_live(index, slot) && !bitmap_get(reached, slot);
    }
    free(reached);
    free(queue);
    return lost;
}

/* Edges of a row in the mean: all, to living rows, and to rows that lie near it in memory. */
static void print_edges(const char *name, const annex_index *index)
{
    const struct graph *graph = &index->graph;
    uint64_t rows = 0, edges = 0, living = 0, close = 0;
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        const uint32_t *row = graph->neighbours + (size_t)slot * graph->degree;
        rows += index_is_live(index, slot);
        for (uint32_t i = 0; index_is_live(index, slot) && i < graph->degree; i++) {
            edges += row[i] < index->slots;
            living += row[i] < index->slots && index_is_live(index, row[i]);
            close += row[i] < index->slots && row[i] + CLOSE > slot && row[i] < slot + CLOSE;
        }
    }
    printf("   %s: %.1f edges a row, %.1f to living rows, %.1f less than %d places away, "
           "%u unreachable rows\n",
           name, (double)edges / (double)rows, (double)living / (double)rows,
           (double)close / (double)rows, CLOSE, count_unreachable(index));
}

static void ask(const annex_index *index, const struct churn *churn, uint32_t effort,
                annex_search_stats *stats, annex_hit *hits)
{
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    size_t found[QUERIES];
    annex_error error;
    options.effort = effort;
    options.stats = stats;
    must(annex_index_search(index, churn->queries, QUERIES, K, &options, hits, found, &error),
         &error);
}

static double recall(const annex_hit *hits, const annex_hit *truth)
{
    size_t met = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        for (size_t i = 0; i < K * K; i++) {
            met += hits[q * K + i / K].key == truth[q * K + i % K].key;
        }
    }
    return (double)met / (QUERIES * K);
}

enum { FRESH, CHANGED, SAVED, INDEXES };

struct curve {
    double recalls[EFFORTS], scored[EFFORTS], hops[EFFORTS];
};

static void measure_curve(const annex_index *index, const struct churn *churn,
                          const annex_hit *truth, struct curve *curve)
{
    static annex_hit hits[QUERIES * K];
    for (size_t e = 0; e < EFFORTS; e++) {
        annex_search_stats stats;
        ask(index, churn, efforts[e], &stats, hits);
        curve->recalls[e] = recall(hits, truth);
        curve->scored[e] = (double)stats.distances / QUERIES;
        curve->hops[e] = (double)stats.hops / QUERIES;
    }
}

/* Codes scored for a recall, between or beyond two efforts: log(missed) by log(scored). */
static double scored_for(const struct curve *curve, double wanted)
{
    size_t e = 1;
    while (e + 1 < EFFORTS && curve->recalls[e] < wanted) {
        e++;
    }
    double missed = log(1.0001 - wanted), first = log(1.0001 - curve->recalls[e - 1]);
    double slope =
        (log(1.0001 - curve->recalls[e]) - first) / log(curve->scored[e] / curve->scored[e - 1]);
    return curve->scored[e - 1] * exp((missed - first) / slope);
}

static void print_curves(const struct curve *curves)
{
    printf("%22s recall at 10 %15s codes scored %19s hops %13s codes x at equal recall\n%8s", "",
           "", "", "", "effort");
    for (int i = 0; i < 3; i++) {
        printf("    fresh changed   saved");
    }
    printf(" changed   saved\n");
    for (size_t e = 0; e < EFFORTS; e++) {
        printf("%8u ", efforts[e]);
        for (int i = 0; i < INDEXES; i++) {
            printf("%8.4f", curves[i].recalls[e]);
        }
        printf(" ");
        for (int i = 0; i < INDEXES; i++) {
            printf("%8.0f", curves[i].scored[e]);
        }
        printf(" ");
        for (int i = 0; i < INDEXES; i++) {
            printf("%8.1f", curves[i].hops[e]);
        }
        for (int i = CHANGED; i < INDEXES; i++) {
            double scored = scored_for(&curves[i], curves[FRESH].recalls[e]);
            printf("%8.3f", scored / curves[FRESH].scored[e]);
        }
        printf("\n");
    }
}

static void measure(struct churn *churn, annex_index *changed, uint32_t round)
{
    static annex_hit truth[QUERIES * K];
    annex_index *indexes[INDEXES] = {build(churn), changed, save(changed)};
    static const char *const names[INDEXES] = {"fresh", "changed", "saved"};
    struct curve curves[INDEXES];
    annex_search_stats stats;
    ask(indexes[FRESH], churn, ANNEX_EFFORT_EXACT, &stats, truth);
    printf("round %u: %u rows replaced\n", round, (unsigned)(churn->next_key - churn->asked.rows));
    for (int i = 0; i < INDEXES; i++) {
        print_edges(names[i], indexes[i]);
        measure_curve(indexes[i], churn, truth, &curves[i]);
    }
    print_curves(curves);
    fflush(stdout);
    annex_index_close(indexes[FRESH]);
    annex_index_close(indexes[SAVED]);
}

/* ---- arguments -------------------------------------------------------------------------------*/

static uint32_t *number_of(struct arguments *asked, const char *name)
{
    return !strcmp(name, "--rows")      ? &asked->rows
           : !strcmp(name, "--rounds")  ? &asked->rounds
           : !strcmp(name, "--percent") ? &asked->percent
           : !strcmp(name, "--degree")  ? &asked->degree
           : !strcmp(name, "--every")   ? &asked->every
           : !strcmp(name, "--seed")    ? &asked->seed
                                        : NULL;
}

static struct arguments parse(int argc, char **argv)
{
    struct arguments asked = {
        .metric = ANNEX_L2, .rows = 20000, .rounds = 20, .percent = 50, .every = 5, .seed = 1};
    annex_error error = {0};
    for (int i = 1; i < argc; i++) {
        uint32_t *number = number_of(&asked, argv[i]);
        if (number && i + 1 < argc) {
            *number = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (!strcmp(argv[i], "--metric") && i + 1 < argc) {
            must(annex_metric_parse(argv[++i], &asked.metric, &error), &error);
        } else if (!strcmp(argv[i], "--drift")) {
            asked.drift = true;
        } else if (!strcmp(argv[i], "--reopen")) {
            asked.reopen = true;
        } else {
            asked.file = argv[i];
        }
    }
    if (!asked.file || asked.rows < 1000 || asked.rounds < 1 || asked.every < 1) {
        fprintf(stderr,
                "usage: bench_churn [--metric NAME] [--rows N] [--rounds N] [--percent P]\n"
                "                   [--drift] [--reopen] [--degree N] [--every N] [--seed N]\n"
                "                   FILE\n");
        exit(2);
    }
    return asked;
}

int main(int argc, char **argv)
{
    annex_env environment = annex_env_default();
    env = &environment;
    struct churn churn = {.asked = parse(argc, argv)};
    churn.random = churn.asked.seed;
    read_vectors(&churn);
    if (churn.asked.drift) {
        sort_vectors(&churn);
    }
    churn.live = must_have(calloc(churn.asked.rows, sizeof *churn.live));
    for (; churn.next_key < churn.asked.rows; churn.next_key++) {
        churn.live[churn.next_key] = (int64_t)churn.next_key;
    }
    annex_index *index = build(&churn);
    size_t all = churn.n_vectors - churn.asked.rows;
    for (uint32_t round = 1; round <= churn.asked.rounds; round++) {
        change(&churn, index,
               all * round / churn.asked.rounds - all * (round - 1) / churn.asked.rounds);
        if (churn.asked.reopen) {
            annex_index *saved = save(index);
            annex_index_close(index);
            index = saved;
        }
        if (round % churn.asked.every == 0 || round == churn.asked.rounds) {
            measure(&churn, index, round);
        }
    }
    annex_index_close(index);
    free(churn.queries);
    free(churn.live);
    return 0;
}
