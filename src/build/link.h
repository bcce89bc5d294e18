/*
 * link.h - making the graph: which rows become neighbours.
 *
 * Rows are inserted in a seeded random order, in batches. Every row of a batch searches the same
 * frozen graph, is linked to what it met after pruning, and then all reverse edges of the batch are
 * added, target by target (Dobson et al., ParlayANN, PPoPP 2024). So the graph does not depend on
 * the number of threads.
 *
 * A batch that sees nothing of itself has to be small, 2 % of what is there, unless a partition has
 * told its rows which others are near (seed.h). Then each batch is as large as what is there: rows
 * that came early keep the long edges of a sparse graph, and less effort is enough.
 *
 * Pruning (Subramanya et al., DiskANN, NeurIPS 2019, algorithm 2): going from the nearest candidate
 * outward, a candidate is dropped when a neighbour already chosen is nearer to it, by the factor
 * alpha, than the row itself is.
 *
 * Invariants
 *   1. All decisions use scores of codes and the total order (score, id): the same rows and options
 *      give the same graph on any processor.
 *   2. A row's neighbours are distinct, never the row itself, and at most `degree`.
 *   3. Every linked row can be reached from the entries when linking is done.
 * Does not: code rows, write files, find duplicates.
 */
#ifndef ANNEX_LINK_H
#define ANNEX_LINK_H

#include "index/graph.h"

struct link_options {
    uint32_t degree;
    uint32_t effort; /* candidates kept by the search of an insertion */
    float alpha;     /* of distances, not squared ones; > 1 keeps longer edges */
    uint32_t threads;
};

/* Working memory of one thread. */
struct linker {
    const struct graph *graph;
    struct link_options options;
    const uint64_t *dead; /* optional bitmap: rows that nothing is linked to any more */
    struct walk walk;
    struct query row;       /* the row that is linked */
    struct query candidate; /* the candidate that is tested */
    void *query_memory;
    walk_item *items; /* [max_items] candidates of one row */
    uint32_t max_items;
    /* Of pruning, [max_items] each: candidates left, their scores from the row and from one of
       them. */
    uint32_t *left;
    float *limits, *scores;
};

annex_status linker_new(const annex_env *env, const struct graph *graph,
                        const struct link_options *options, struct linker *linker,
                        annex_error *error);
void linker_free(const annex_env *env, struct linker *linker);
/* Prunes ids[0..n) with their scores from one row into that row's `neighbours`. */
void linker_choose(struct linker *linker, const uint32_t *ids, const float *scores, uint32_t n,
                   uint32_t *neighbours);
/* Searches for `row` and writes its neighbours, closed by GRAPH_END. */
void linker_insert(struct linker *linker, uint32_t row, uint32_t *neighbours);
/*
 * The same at less effort for a row of which near ones are known: up to n items, see seed.h,
 * which may lie where the neighbours will be.
 */
void linker_insert_seeded(struct linker *linker, uint32_t row, const void *seeds, uint32_t n,
                          uint32_t *neighbours);
/* Adds edges target -> sources[0..n) to the target's list, pruning it when it overflows. */
void linker_add_reverse(struct linker *linker, uint32_t target, const uint32_t *sources, uint32_t n,
                        uint32_t *neighbours);

/*
 * Links rows order[0..n) into `neighbours` ([slots x degree]), which starts full of GRAPH_END where
 * nothing is linked yet; rows in order[0..n_linked) already are. Progress "linking".
 */
annex_status link_rows(const annex_env *env, struct graph *graph, uint32_t *neighbours,
                       const struct link_options *options, const uint32_t *order, uint32_t n_linked,
                       uint32_t n, annex_error *error);

#endif
