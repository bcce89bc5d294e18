/*
 * batch.c - linking all rows, batch after batch: see link.h.
 */
#include <stdlib.h>

#include "build/link.h"
#include "build/seed.h"

enum {
    MAX_BATCH_SHARE = 50, /* a batch without seeds is at most 1/50 of what is linked */
    SEED_FROM = 2048,     /* rows linked before batches have seeds */
    GROWTH = 2,           /* rows behind a batch with seeds: so many times those before it */
    SEED_EFFORT = 8,      /* a partition for each so much effort: */
    MIN_ROUNDS = 3,
    MAX_ROUNDS = 8,
    EDGES_PER_ROW = 3, /* room for reverse edges that are added together */
    STEPS = 64,        /* reports of a batch */
    SINGLY = 64,       /* rows that are linked one by one */
    GRAIN = 16,
    REVERSE_GRAIN = 256
};

struct batch {
    const annex_env *env;
    const struct graph *graph;
    const struct link_options *options;
    unsigned threads;
    struct progress progress;
    uint32_t *neighbours;
    struct linker *linkers; /* one a thread */
    uint32_t *rows;         /* [n] of the batch, those with near numbers together */
    const uint32_t *some;   /* of `rows`: what is inserted now */
    bool seeded;
    uint64_t *known;   /* bitmap of the rows that are linked */
    uint32_t *sources; /* [max_edges] of edges, those to one target together */
    uint32_t *ends;    /* [slots] where in `sources` those to a target end, and to the next begin */
    size_t max_edges;
};

/* ---- edges in one direction ------------------------------------------------------------------*/

static annex_status insert_range(void *argument, unsigned worker, size_t first, size_t end,
                                 annex_error *error)
{
    struct batch *batch = argument;
    struct linker *linker = &batch->linkers[worker];
    uint32_t degree = batch->graph->degree;
    (void)error;
    for (size_t i = first; i < end; i++) {
        uint32_t *list = batch->neighbours + (size_t)batch->some[i] * degree;
        if (batch->seeded) {
            linker_insert_seeded(linker, batch->some[i], list, degree / 2, list);
        } else {
            linker_insert(linker, batch->some[i], list);
        }
    }
    return ANNEX_OK;
}

/* Partitions are half of a quick build: what walks look for less hard need not be found so well. */
static uint32_t seed_rounds(uint32_t effort)
{
    return MIN(MAX(effort / SEED_EFFORT, MIN_ROUNDS), MAX_ROUNDS);
}

/* Until they are linked, rows keep their seeds where their neighbours will be. */
static annex_status find_seeds(struct batch *batch, const uint32_t *order, uint32_t end,
                               uint64_t units, annex_error *error)
{
    const struct graph *graph = batch->graph;
    struct seed_options options = {.codec = graph->codec,
                                   .rows = graph->rows,
                                   .threads = batch->threads,
                                   .rounds = seed_rounds(batch->options->effort),
                                   .keep = graph->degree / 2,
                                   .random = hash_mix((uint64_t)order[0] << 32 | end)};
    memcpy(batch->rows, order, end * sizeof *order);
    return seed_rows(batch->env, &options, batch->rows, end, batch->known,
                     (walk_item *)batch->neighbours, &batch->progress, units, error);
}

static annex_status insert_rows(struct batch *batch, uint32_t n, uint64_t units, annex_error *error)
{
    uint32_t step = n / STEPS + GRAIN * batch->threads;
    uint64_t done = batch->progress.done;
    for (uint32_t first = 0; first < n; first += step) {
        uint32_t count = MIN(step, n - first);
        batch->some = batch->rows + first;
        TRY(progress_for(&batch->progress, batch->threads, count, GRAIN, insert_range, batch,
                         error));
        TRY(progress_update(&batch->progress, done + units * (first + count) / n, error));
    }
    return ANNEX_OK;
}

/* ---- edges back ------------------------------------------------------------------------------*/

static annex_status reverse_range(void *argument, unsigned worker, size_t first, size_t end,
                                  annex_error *error)
{
    struct batch *batch = argument;
    (void)error;
    for (size_t target = first; target < end; target++) {
        uint32_t begin = target ? batch->ends[target - 1] : 0;
        uint32_t n = MIN(batch->ends[target] - begin, 3 * GRAPH_MAX_DEGREE);
        if (n > 0) {
            linker_add_reverse(&batch->linkers[worker], (uint32_t)target, batch->sources + begin, n,
                               batch->neighbours + target * batch->graph->degree);
        }
    }
    return ANNEX_OK;
}

/* Of how many of rows[0..n) there is room for the edges: one at least. Counts them in `ends`. */
static uint32_t count_edges(struct batch *batch, const uint32_t *rows, uint32_t n)
{
    uint32_t degree = batch->graph->degree, done = 0;
    size_t count = 0;
    memset(batch->ends, 0, batch->graph->slots * sizeof *batch->ends);
    for (; done < n && count + degree <= batch->max_edges; done++) {
        const uint32_t *list = batch->neighbours + (size_t)rows[done] * degree;
        for (uint32_t j = 0; j < degree && list[j] != GRAPH_END; j++) {
            batch->ends[list[j]]++;
            count++;
        }
    }
    return done;
}

/* Brings the sources of counted edges together, in the order of the batch for each target. */
static void gather_sources(struct batch *batch, const uint32_t *rows, uint32_t n)
{
    uint32_t degree = batch->graph->degree, begin = 0;
    for (uint32_t target = 0; target < batch->graph->slots; target++) {
        uint32_t count = batch->ends[target];
        batch->ends[target] = begin;
        begin += count;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *list = batch->neighbours + (size_t)rows[i] * degree;
        for (uint32_t j = 0; j < degree && list[j] != GRAPH_END; j++) {
            batch->sources[batch->ends[list[j]]++] = rows[i];
        }
    }
}

static annex_status reverse_rows(struct batch *batch, uint32_t n, annex_error *error)
{
    for (uint32_t first = 0; first < n;) {
        uint32_t count = count_edges(batch, batch->rows + first, n - first);
        gather_sources(batch, batch->rows + first, count);
        TRY(progress_for(&batch->progress, batch->threads, batch->graph->slots, REVERSE_GRAIN,
                         reverse_range, batch, error));
        first += count;
    }
    return ANNEX_OK;
}

/* ---- batches ---------------------------------------------------------------------------------*/

/* Where the batch behind `linked` rows ends. */
static uint32_t batch_end(uint32_t linked, uint32_t n, bool *seeded)
{
    *seeded = linked >= SEED_FROM && n - linked > linked / GROWTH;
    if (*seeded) {
        uint32_t end = n;
        while (end / GROWTH > linked) {
            end /= GROWTH;
        }
        return end;
    }
    uint32_t size = MAX(linked / MAX_BATCH_SHARE, 1);
    if (linked >= SINGLY && linked < SEED_FROM) {
        size = MAX(size, linked / 4);
    }
    uint32_t limit = linked < SEED_FROM && n > SEED_FROM ? SEED_FROM : n;
    return linked < SINGLY ? linked + 1 : MIN(linked + size, limit);
}

static int compare_rows(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static annex_status link_batch(struct batch *batch, const uint32_t *order, uint32_t linked,
                               uint32_t end, annex_error *error)
{
    uint32_t n = end - linked, seeding = batch->seeded ? n / 2 : 0;
    if (batch->seeded) {
        TRY(find_seeds(batch, order, end, seeding, error));
    }
    memcpy(batch->rows, order + linked, n * sizeof *order);
    qsort(batch->rows, n, sizeof *batch->rows, compare_rows);
    TRY(insert_rows(batch, n, n - seeding, error));
    TRY(reverse_rows(batch, n, error));
    for (uint32_t i = 0; i < n; i++) {
        bitmap_set(batch->known, batch->rows[i]);
    }
    return ANNEX_OK;
}

/* For rows n_linked to n. */
static annex_status batch_new(struct batch *batch, uint32_t n_linked, uint32_t n,
                              annex_error *error)
{
    const annex_env *env = batch->env;
    size_t degree = batch->graph->degree, all = (n - n_linked) * degree;
    batch->max_edges = MAX(MIN((size_t)n * EDGES_PER_ROW, all), degree);
    TRY(memory_new(env, batch->threads, sizeof *batch->linkers, &batch->linkers, error));
    for (unsigned t = 0; t < batch->threads; t++) {
        TRY(linker_new(env, batch->graph, batch->options, &batch->linkers[t], error));
    }
    TRY(memory_new_raw(env, n, sizeof *batch->rows, &batch->rows, error));
    TRY(memory_new(env, bitmap_words(batch->graph->slots), 8, &batch->known, error));
    TRY(memory_new_raw(env, batch->max_edges, sizeof *batch->sources, &batch->sources, error));
    return memory_new_raw(env, batch->graph->slots, sizeof *batch->ends, &batch->ends, error);
}

static void batch_free(struct batch *batch, uint32_t n)
{
    const annex_env *env = batch->env;
    for (unsigned t = 0; batch->linkers && t < batch->threads; t++) {
        linker_free(env, &batch->linkers[t]);
    }
    memory_free(env, batch->linkers, batch->threads, sizeof *batch->linkers);
    memory_free(env, batch->rows, n, sizeof *batch->rows);
    memory_free(env, batch->known, bitmap_words(batch->graph->slots), 8);
    memory_free(env, batch->sources, batch->max_edges, sizeof *batch->sources);
    memory_free(env, batch->ends, batch->graph->slots, sizeof *batch->ends);
}

annex_status link_rows(const annex_env *env, struct graph *graph, uint32_t *neighbours,
                       const struct link_options *options, const uint32_t *order, uint32_t n_linked,
                       uint32_t n, annex_error *error)
{
    struct batch batch = {.env = env,
                          .graph = graph,
                          .options = options,
                          .threads = parallel_threads(env, options->threads),
                          .neighbours = neighbours};
    annex_status status;
    TRY_CLEANUP(batch_new(&batch, n_linked, n, error));
    for (uint32_t i = 0; i < n_linked; i++) {
        bitmap_set(batch.known, order[i]);
    }
    TRY_CLEANUP(progress_begin(&batch.progress, env, "linking", n, error));
    while (n_linked < n) {
        uint32_t end = batch_end(n_linked, n, &batch.seeded);
        TRY_CLEANUP(link_batch(&batch, order, n_linked, end, error));
        n_linked = end;
        TRY_CLEANUP(progress_update(&batch.progress, n_linked, error));
    }
cleanup:
    batch_free(&batch, n);
    return status;
}
