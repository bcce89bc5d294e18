/*
 * repair.c - making every row reachable. Pruning may leave a row without an edge that leads to it;
 * such a row would never be found.
 *
 * An unreachable row is searched for, and the nearest reachable row with a free place links to it.
 * When all places near it are taken, an edge gives way whose target has others.
 */
#include "build/build.h"

enum { ROUNDS = 8 };

struct reach {
    const struct graph *graph;
    uint32_t *neighbours;
    uint64_t *reached; /* bitmap [slots] */
    uint32_t *queue;   /* [slots] rows reached, in order */
    uint32_t *in;      /* [slots] edges that lead to a row */
};

static void spread(struct reach *reach, uint32_t n_queue, uint32_t next)
{
    const struct graph *graph = reach->graph;
    while (next < n_queue) {
        const uint32_t *row = reach->neighbours + (size_t)reach->queue[next++] * graph->degree;
        for (uint32_t i = 0; i < graph->degree && row[i] < graph->slots; i++) {
            if (!bitmap_get(reach->reached, row[i])) {
                bitmap_set(reach->reached, row[i]);
                reach->queue[n_queue++] = row[i];
            }
        }
    }
}

static void spread_from(struct reach *reach, const uint32_t *rows, uint32_t n)
{
    uint32_t n_queue = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!bitmap_get(reach->reached, rows[i])) {
            bitmap_set(reach->reached, rows[i]);
            reach->queue[n_queue++] = rows[i];
        }
    }
    spread(reach, n_queue, 0);
}

static void count_in_edges(struct reach *reach, const uint32_t *linked, uint32_t n)
{
    const struct graph *graph = reach->graph;
    memset(reach->in, 0, graph->slots * sizeof *reach->in);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *row = reach->neighbours + (size_t)linked[i] * graph->degree;
        for (uint32_t j = 0; j < graph->degree && row[j] < graph->slots; j++) {
            reach->in[row[j]]++;
        }
    }
}

/* Makes `from` link to `to`; false when it has no place that can be given up. */
static bool add_edge(struct reach *reach, uint32_t from, uint32_t to, bool may_replace)
{
    uint32_t degree = reach->graph->degree;
    uint32_t *row = reach->neighbours + (size_t)from * degree;
    for (uint32_t i = 0; i < degree; i++) {
        if (row[i] == GRAPH_END) {
            row[i] = to;
            reach->in[to]++;
            return true;
        }
    }
    for (uint32_t i = degree; may_replace && i-- > 0;) {
        if (reach->in[row[i]] > 2) {
            reach->in[row[i]]--;
            row[i] = to;
            reach->in[to]++;
            return true;
        }
    }
    return false;
}

static bool connect(struct reach *reach, struct linker *linker, uint32_t row)
{
    codec_query_set_row(&linker->row,
                        reach->graph->rows + (size_t)row * reach->graph->codec->row_bytes);
    graph_walk(reach->graph, &linker->row, linker->options.effort, &linker->walk);
    for (int may_replace = 0; may_replace < 2; may_replace++) {
        for (uint32_t i = 0; i < linker->walk.size; i++) {
            if (add_edge(reach, walk_id(linker->walk.pool[i]), row, may_replace != 0)) {
                return true;
            }
        }
    }
    return false;
}

static bool repair_round(struct reach *reach, struct linker *linker, const uint32_t *linked,
                         uint32_t n)
{
    bool all = true;
    memset(reach->reached, 0, bitmap_words(reach->graph->slots) * 8);
    spread_from(reach, reach->graph->entries, reach->graph->n_entries);
    for (uint32_t i = 0; i < n; i++) {
        if (!bitmap_get(reach->reached, linked[i])) {
            all = false;
            connect(reach, linker, linked[i]);
            spread_from(reach, &linked[i], 1);
        }
    }
    return all;
}

annex_status repair_reach(const annex_env *env, const struct graph *graph, uint32_t *neighbours,
                          const struct link_options *options, const uint32_t *linked,
                          uint32_t n_linked, annex_error *error)
{
    struct reach reach = {.graph = graph, .neighbours = neighbours};
    struct linker linker = {0};
    annex_status status;
    TRY_CLEANUP(memory_new(env, bitmap_words(graph->slots), 8, &reach.reached, error));
    TRY_CLEANUP(memory_new_raw(env, graph->slots, 4, &reach.queue, error));
    TRY_CLEANUP(memory_new_raw(env, graph->slots, 4, &reach.in, error));
    TRY_CLEANUP(linker_new(env, graph, options, &linker, error));
    count_in_edges(&reach, linked, n_linked);
    for (int round = 0; round < ROUNDS; round++) {
        if (repair_round(&reach, &linker, linked, n_linked)) {
            break;
        }
    }
cleanup:
    linker_free(env, &linker);
    memory_free(env, reach.reached, bitmap_words(graph->slots), 8);
    memory_free(env, reach.queue, graph->slots, 4);
    memory_free(env, reach.in, graph->slots, 4);
    return status;
}
