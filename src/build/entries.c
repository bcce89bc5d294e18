/*
 * entries.c - more rows where walks start, for data in clusters.
 *
 * Clusters that are far apart have few edges between them, and a narrow walk that starts in others
 * may never come to the one where its answers are. So once the graph is linked some rows are walked
 * to. One that the walk does not even come near becomes an entry, and leads others to its cluster.
 * Where rows are missed one by one entries help few others, and each costs every query a distance:
 * unless they leave less than a quarter missed of rows that had no part in choosing them, they are
 * given up. (Clusters leave a tenth and less, text a half.)
 *
 * Does not: depend on threads: each row is walked to from the entries that the ones before it left.
 */
#include "build/build.h"

enum {
    CHOOSING = 4096, /* rows that may become entries */
    JUDGING = 2048,  /* rows that tell what entries are worth */
    FEWEST = 1000,   /* rows of a graph; narrow walks see most of a smaller one */
    PASSES = 3,      /* entries of some clusters draw walks away from others */
    WINDOW = 10,     /* of the narrowest walk that is measured */
    TOLERATED = 256  /* one row in so many may be missed */
};

struct probe {
    struct graph *graph;
    const uint32_t *rows; /* [n_judging] that judge, then [n_choosing] that choose */
    uint32_t n_judging, n_choosing;
    struct query query;
    struct walk walk;
};

/* Whether a walk to the row meets it or one of its neighbours. */
static bool comes_near(struct probe *probe, uint32_t row)
{
    const struct graph *graph = probe->graph;
    const uint32_t *near = graph_neighbours(graph, row);
    codec_query_set_row(&probe->query, graph->rows + (size_t)row * graph->codec->row_bytes);
    graph_walk(graph, &probe->query, WINDOW, &probe->walk);
    for (uint32_t i = 0; i < probe->walk.size; i++) {
        uint32_t met = walk_id(probe->walk.pool[i]);
        if (met == row) {
            return true;
        }
        for (uint32_t j = 0; j < graph->degree && near[j] != GRAPH_END; j++) {
            if (near[j] == met) {
                return true;
            }
        }
    }
    return false;
}

static uint32_t count_missed(struct probe *probe)
{
    uint32_t missed = 0;
    for (uint32_t i = 0; i < probe->n_judging; i++) {
        missed += !comes_near(probe, probe->rows[i]);
    }
    return missed;
}

static void choose_entries(struct probe *probe, uint32_t *entries)
{
    const uint32_t *rows = probe->rows + probe->n_judging;
    struct graph *graph = probe->graph;
    uint32_t before = 0;
    for (int pass = 0; pass < PASSES && before != graph->n_entries; pass++) {
        before = graph->n_entries;
        for (uint32_t i = 0; i < probe->n_choosing && graph->n_entries < GRAPH_MAX_ENTRIES; i++) {
            if (!comes_near(probe, rows[i])) {
                entries[graph->n_entries++] = rows[i];
            }
        }
    }
}

annex_status build_add_entries(struct builder *builder, struct graph *graph, uint32_t n_linked,
                               annex_error *error)
{
    const annex_env *env = &builder->env;
    size_t query_bytes = codec_query_bytes(&builder->codec);
    struct probe probe = {.graph = graph, .rows = builder->linked + graph->n_entries};
    void *memory = NULL;
    annex_status status;
    if (n_linked < FEWEST) {
        return ANNEX_OK;
    }
    probe.n_judging = MIN(n_linked / 4, JUDGING);
    probe.n_choosing = MIN(n_linked - graph->n_entries - probe.n_judging, CHOOSING);
    TRY_CLEANUP(memory_new(env, 1, query_bytes, &memory, error));
    TRY_CLEANUP(walk_new(env, graph->slots, WINDOW, 0, &probe.walk, error));
    codec_query_init(&builder->codec, &probe.query, memory);
    uint32_t missed = count_missed(&probe);
    if (missed > probe.n_judging / TOLERATED) {
        choose_entries(&probe, builder->entries);
        if (count_missed(&probe) > missed / 4) {
            graph->n_entries = builder->n_entries;
        }
        builder->n_entries = graph->n_entries;
    }
cleanup:
    walk_free(env, &probe.walk);
    memory_free(env, memory, 1, query_bytes);
    return status;
}
