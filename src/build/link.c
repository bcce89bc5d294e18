/*
 * link.c - inserting rows into the graph in frozen batches.
 */
#include "build/link.h"

#include <stdlib.h>

enum {
    MAX_BATCH_SHARE = 50, /* a batch is at most 1/50 of what is linked */
    GRAIN = 16
};

annex_status linker_new(const annex_env *env, const struct graph *graph,
                        const struct link_options *options, struct linker *linker,
                        annex_error *error)
{
    size_t query_bytes = codec_query_bytes(graph->codec);
    *linker = (struct linker){.graph = graph, .options = *options};
    linker->max_items = 4 * options->effort + 4 * GRAPH_MAX_DEGREE;
    annex_status status =
        walk_new(env, graph->slots, options->effort, 4 * options->effort, &linker->walk, error);
    if (!status) {
        status = memory_new(env, 2, query_bytes, &linker->query_memory, error);
    }
    if (!status) {
        status = memory_new(env, linker->max_items, sizeof *linker->items, &linker->items, error);
    }
    if (status) {
        linker_free(env, linker);
        return status;
    }
    codec_query_init(graph->codec, &linker->row, linker->query_memory);
    codec_query_init(graph->codec, &linker->candidate, (char *)linker->query_memory + query_bytes);
    return ANNEX_OK;
}

void linker_free(const annex_env *env, struct linker *linker)
{
    walk_free(env, &linker->walk);
    if (linker->graph) {
        memory_free(env, linker->query_memory, 2, codec_query_bytes(linker->graph->codec));
    }
    memory_free(env, linker->items, linker->max_items, sizeof *linker->items);
    *linker = (struct linker){0};
}

static int compare_items(const void *a, const void *b)
{
    walk_item x = *(const walk_item *)a, y = *(const walk_item *)b;
    return x < y ? -1 : x > y;
}

static const uint8_t *row_at(const struct graph *graph, uint32_t id)
{
    return graph->rows + (size_t)id * graph->codec->row_bytes;
}

/* Scores of l2, cosine and ip are squared distances: alpha counts twice. */
static float prune_factor(const struct linker *linker)
{
    annex_metric metric = linker->graph->codec->metric;
    float alpha = linker->options.alpha;
    bool squared = metric == ANNEX_L2 || metric == ANNEX_COSINE || metric == ANNEX_IP;
    return squared ? alpha * alpha : alpha;
}

/* Whether one of the chosen rows is nearer to the candidate than `limit`, by the factor. */
static bool occluded(struct linker *linker, uint32_t candidate, float limit, float factor,
                     const uint32_t *chosen, uint32_t n)
{
    enum { BLOCK = 16 };
    float scores[BLOCK];
    codec_query_set_row(&linker->candidate, row_at(linker->graph, candidate));
    for (uint32_t i = 0; i < n; i += BLOCK) {
        uint32_t count = MIN(n - i, BLOCK);
        codec_score(&linker->candidate, linker->graph->rows, chosen + i, count, scores);
        for (uint32_t j = 0; j < count; j++) {
            if (factor * scores[j] <= limit) {
                return true;
            }
        }
    }
    return false;
}

/*
 * Chooses neighbours of the row in linker->row among items[0..n) sorted; at most `degree`, written
 * to chosen. Returns how many.
 */
static uint32_t linker_prune(struct linker *linker, const walk_item *items, uint32_t n,
                             uint32_t degree, uint32_t *chosen)
{
    float factor = prune_factor(linker);
    uint32_t count = 0;
    for (uint32_t i = 0; i < n && count < degree; i++) {
        uint32_t id = walk_id(items[i]);
        if (!occluded(linker, id, walk_score(items[i]), factor, chosen, count)) {
            chosen[count++] = id;
        }
    }
    return count;
}

void linker_insert(struct linker *linker, uint32_t row, uint32_t *neighbours)
{
    const struct graph *graph = linker->graph;
    codec_query_set_row(&linker->row, row_at(graph, row));
    graph_walk(graph, &linker->row, linker->options.effort, &linker->walk);
    uint32_t n = 0;
    for (uint32_t i = 0; i < linker->walk.n_expanded; i++) {
        uint32_t id = walk_id(linker->walk.expanded[i]);
        if (id != row && !(linker->dead && bitmap_get(linker->dead, id))) {
            linker->items[n++] = linker->walk.expanded[i];
        }
    }
    qsort(linker->items, n, sizeof *linker->items, compare_items);
    uint32_t count = linker_prune(linker, linker->items, n, graph->degree, neighbours);
    for (; count < graph->degree; count++) {
        neighbours[count] = GRAPH_END;
    }
}

void linker_choose(struct linker *linker, const uint32_t *ids, const float *scores, uint32_t n,
                   uint32_t *neighbours)
{
    uint32_t degree = linker->graph->degree;
    assert(n <= linker->max_items);
    for (uint32_t i = 0; i < n; i++) {
        linker->items[i] = walk_item_of(scores[i], ids[i]);
    }
    qsort(linker->items, n, sizeof *linker->items, compare_items);
    uint32_t count = linker_prune(linker, linker->items, n, degree, neighbours);
    for (; count < degree; count++) {
        neighbours[count] = GRAPH_END;
    }
}

void linker_add_reverse(struct linker *linker, uint32_t target, const uint32_t *sources, uint32_t n,
                        uint32_t *neighbours)
{
    const struct graph *graph = linker->graph;
    uint32_t degree = graph->degree, count = 0;
    while (count < degree && neighbours[count] != GRAPH_END) {
        count++;
    }
    if (count + n <= degree) {
        memcpy(neighbours + count, sources, n * sizeof *sources);
        return;
    }
    uint32_t ids[4 * GRAPH_MAX_DEGREE];
    float scores[4 * GRAPH_MAX_DEGREE];
    n = MIN(n, ARRAY_LENGTH(ids) - count);
    memcpy(ids, neighbours, count * sizeof *ids);
    memcpy(ids + count, sources, n * sizeof *ids);
    n += count;
    codec_query_set_row(&linker->row, row_at(graph, target));
    codec_score(&linker->row, graph->rows, ids, n, scores);
    linker_choose(linker, ids, scores, n, neighbours);
}

/* ---- batches ---------------------------------------------------------------------------------*/

struct edge {
    uint32_t target, source;
};

struct batch_job {
    struct linker *linkers;
    uint32_t *neighbours;
    uint32_t degree;
    const uint32_t *rows; /* of the batch */
    struct edge *edges;   /* sorted by target */
    uint32_t *group_starts;
};

static annex_status insert_range(void *argument, unsigned worker, size_t first, size_t end,
                                 annex_error *error)
{
    struct batch_job *job = argument;
    (void)error;
    for (size_t i = first; i < end; i++) {
        uint32_t row = job->rows[i];
        linker_insert(&job->linkers[worker], row, job->neighbours + (size_t)row * job->degree);
    }
    return ANNEX_OK;
}

static annex_status reverse_range(void *argument, unsigned worker, size_t first, size_t end,
                                  annex_error *error)
{
    struct batch_job *job = argument;
    uint32_t sources[3 * GRAPH_MAX_DEGREE];
    (void)error;
    for (size_t g = first; g < end; g++) {
        uint32_t begin = job->group_starts[g];
        uint32_t n = MIN(job->group_starts[g + 1] - begin, ARRAY_LENGTH(sources));
        uint32_t target = job->edges[begin].target;
        for (uint32_t i = 0; i < n; i++) {
            sources[i] = job->edges[begin + i].source;
        }
        linker_add_reverse(&job->linkers[worker], target, sources, n,
                           job->neighbours + (size_t)target * job->degree);
    }
    return ANNEX_OK;
}

/* Sorts by target, keeping the order of the batch within a target. Radix 2^11, three passes. */
static void sort_edges(struct edge *edges, struct edge *scratch, size_t n)
{
    enum { BITS = 11, BUCKETS = 1 << BITS };
    for (int pass = 0; pass < 3; pass++) {
        size_t starts[BUCKETS + 1] = {0};
        for (size_t i = 0; i < n; i++) {
            starts[(edges[i].target >> pass * BITS & (BUCKETS - 1)) + 1]++;
        }
        for (size_t b = 0; b < BUCKETS; b++) {
            starts[b + 1] += starts[b];
        }
        for (size_t i = 0; i < n; i++) {
            scratch[starts[edges[i].target >> pass * BITS & (BUCKETS - 1)]++] = edges[i];
        }
        struct edge *swap = edges;
        edges = scratch;
        scratch = swap;
    }
    memcpy(scratch, edges, n * sizeof *edges); /* three swaps: the result is in `scratch`'s place */
}

static size_t collect_edges(const struct batch_job *job, uint32_t n_rows, struct edge *edges)
{
    size_t n = 0;
    for (uint32_t i = 0; i < n_rows; i++) {
        const uint32_t *list = job->neighbours + (size_t)job->rows[i] * job->degree;
        for (uint32_t j = 0; j < job->degree && list[j] != GRAPH_END; j++) {
            edges[n++] = (struct edge){.target = list[j], .source = job->rows[i]};
        }
    }
    return n;
}

static size_t find_groups(const struct edge *edges, size_t n, uint32_t *starts)
{
    size_t groups = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || edges[i].target != edges[i - 1].target) {
            starts[groups++] = (uint32_t)i;
        }
    }
    starts[groups] = (uint32_t)n;
    return groups;
}

static uint32_t batch_size(uint32_t linked, uint32_t left, uint32_t max_batch)
{
    uint32_t size = linked < GRAPH_MAX_ENTRIES ? 1 : MAX(linked / MAX_BATCH_SHARE, 1);
    if (linked >= GRAPH_MAX_ENTRIES && linked < 4096) {
        size = MAX(size, linked / 4);
    }
    return MIN(MIN(size, max_batch), left);
}

annex_status link_rows(const annex_env *env, struct graph *graph, uint32_t *neighbours,
                       const struct link_options *options, const uint32_t *order, uint32_t n_linked,
                       uint32_t n, annex_error *error)
{
    unsigned threads = parallel_threads(env, options->threads);
    uint32_t max_batch = MAX(n / MAX_BATCH_SHARE, 1);
    size_t max_edges = (size_t)max_batch * graph->degree;
    struct linker *linkers = NULL;
    struct edge *edges = NULL, *scratch = NULL;
    uint32_t *starts = NULL;
    struct progress progress;
    annex_status status;
    TRY_CLEANUP(memory_new(env, threads, sizeof *linkers, &linkers, error));
    for (unsigned t = 0; t < threads; t++) {
        TRY_CLEANUP(linker_new(env, graph, options, &linkers[t], error));
    }
    TRY_CLEANUP(memory_new_raw(env, max_edges, sizeof *edges, &edges, error));
    TRY_CLEANUP(memory_new_raw(env, max_edges, sizeof *scratch, &scratch, error));
    TRY_CLEANUP(memory_new_raw(env, max_edges + 1, sizeof *starts, &starts, error));
    TRY_CLEANUP(progress_begin(&progress, env, "linking", n, error));
    struct batch_job job = {.linkers = linkers,
                            .neighbours = neighbours,
                            .degree = graph->degree,
                            .edges = edges,
                            .group_starts = starts};
    while (n_linked < n) {
        uint32_t size = batch_size(n_linked, n - n_linked, max_batch);
        job.rows = order + n_linked;
        TRY_CLEANUP(progress_for(&progress, threads, size, GRAIN, insert_range, &job, error));
        size_t n_edges = collect_edges(&job, size, edges);
        sort_edges(edges, scratch, n_edges);
        size_t groups = find_groups(edges, n_edges, starts);
        TRY_CLEANUP(progress_for(&progress, threads, groups, GRAIN, reverse_range, &job, error));
        n_linked += size;
        TRY_CLEANUP(progress_update(&progress, n_linked, error));
    }
cleanup:
    for (unsigned t = 0; linkers && t < threads; t++) {
        linker_free(env, &linkers[t]);
    }
    memory_free(env, linkers, threads, sizeof *linkers);
    memory_free(env, edges, max_edges, sizeof *edges);
    memory_free(env, scratch, max_edges, sizeof *scratch);
    memory_free(env, starts, max_edges + 1, sizeof *starts);
    return status;
}
