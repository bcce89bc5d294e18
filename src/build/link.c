/*
 * link.c - choosing the neighbours of one row. batch.c does it for all rows.
 */
#include "build/link.h"

#include <stdlib.h>

#include "build/seed.h"

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
    if (!status) {
        status = memory_new(env, linker->max_items, sizeof *linker->left, &linker->left, error);
    }
    if (!status) {
        status = memory_new(env, linker->max_items, sizeof *linker->limits, &linker->limits, error);
    }
    if (!status) {
        status = memory_new(env, linker->max_items, sizeof *linker->scores, &linker->scores, error);
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
    memory_free(env, linker->left, linker->max_items, sizeof *linker->left);
    memory_free(env, linker->limits, linker->max_items, sizeof *linker->limits);
    memory_free(env, linker->scores, linker->max_items, sizeof *linker->scores);
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

/*
 * Chooses neighbours of the row in linker->row among items[0..n) sorted: at most `degree`, closed
 * by GRAPH_END. From one that is chosen to the next: each is prepared as a query once, and drops
 * what it is nearer to.
 */
static void linker_prune(struct linker *linker, const walk_item *items, uint32_t n,
                         uint32_t *neighbours)
{
    float factor = prune_factor(linker), *limits = linker->limits, *scores = linker->scores;
    uint32_t *left = linker->left, degree = linker->graph->degree, count = 0;
    for (uint32_t i = 0; i < n; i++) {
        left[i] = walk_id(items[i]);
        limits[i] = walk_score(items[i]);
    }
    while (n > 0 && count < degree) {
        uint32_t kept = 0;
        neighbours[count++] = left[0];
        codec_query_set_row(&linker->candidate, row_at(linker->graph, left[0]));
        codec_score(&linker->candidate, linker->graph->rows, left + 1, n - 1, scores);
        for (uint32_t i = 1; i < n; i++) {
            float limit = limits[i];
            left[kept] = left[i];
            limits[kept] = limit;
            kept += !(factor * scores[i - 1] <= limit);
        }
        n = kept;
    }
    for (; count < degree; count++) {
        neighbours[count] = GRAPH_END;
    }
}

/* Sorts items and drops repeats; returns how many are left. */
static uint32_t tidy_items(walk_item *items, uint32_t n)
{
    uint32_t kept = 0;
    qsort(items, n, sizeof *items, compare_items);
    for (uint32_t i = 0; i < n; i++) {
        if (kept == 0 || items[i] != items[kept - 1]) {
            items[kept++] = items[i];
        }
    }
    return kept;
}

/* Searches for `row`, and links it to what the walk met and to items[0..n). */
static void insert(struct linker *linker, uint32_t row, uint32_t window, uint32_t n,
                   uint32_t *neighbours)
{
    const struct graph *graph = linker->graph;
    codec_query_set_row(&linker->row, row_at(graph, row));
    graph_walk(graph, &linker->row, window, &linker->walk);
    for (uint32_t i = 0; i < linker->walk.n_expanded; i++) {
        uint32_t id = walk_id(linker->walk.expanded[i]);
        if (id != row && !(linker->dead && bitmap_get(linker->dead, id))) {
            linker->items[n++] = linker->walk.expanded[i];
        }
    }
    linker_prune(linker, linker->items, tidy_items(linker->items, n), neighbours);
}

void linker_insert(struct linker *linker, uint32_t row, uint32_t *neighbours)
{
    insert(linker, row, linker->options.effort, 0, neighbours);
}

void linker_insert_seeded(struct linker *linker, uint32_t row, const void *seeds, uint32_t n,
                          uint32_t *neighbours)
{
    uint32_t kept = 0;
    assert(n <= linker->max_items);
    memcpy(linker->items, seeds, n * sizeof *linker->items);
    while (kept < n && linker->items[kept] != SEED_NONE) {
        kept++;
    }
    insert(linker, row, MAX(linker->options.effort * 3 / 5, 1), kept, neighbours);
}

void linker_choose(struct linker *linker, const uint32_t *ids, const float *scores, uint32_t n,
                   uint32_t *neighbours)
{
    assert(n <= linker->max_items);
    for (uint32_t i = 0; i < n; i++) {
        linker->items[i] = walk_item_of(scores[i], ids[i]);
    }
    linker_prune(linker, linker->items, tidy_items(linker->items, n), neighbours);
}

void linker_add_reverse(struct linker *linker, uint32_t target, const uint32_t *sources, uint32_t n,
                        uint32_t *neighbours)
{
    const struct graph *graph = linker->graph;
    uint32_t ids[4 * GRAPH_MAX_DEGREE];
    float scores[4 * GRAPH_MAX_DEGREE];
    uint32_t degree = graph->degree, own = 0;
    while (own < degree && neighbours[own] != GRAPH_END) {
        ids[own] = neighbours[own];
        own++;
    }
    uint32_t count = own;
    for (uint32_t i = 0; i < n && count < ARRAY_LENGTH(ids); i++) {
        bool known = false;
        for (uint32_t j = 0; j < own; j++) {
            known |= ids[j] == sources[i];
        }
        ids[count] = sources[i];
        count += !known;
    }
    if (count <= degree) {
        memcpy(neighbours + own, ids + own, (count - own) * sizeof *ids);
        return;
    }
    codec_query_set_row(&linker->row, row_at(graph, target));
    codec_score(&linker->row, graph->rows, ids, count, scores);
    linker_choose(linker, ids, scores, count, neighbours);
}
