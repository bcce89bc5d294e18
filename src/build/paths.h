/*
 * paths.h - what keeps every row of a changing graph reachable.
 *
 * Each linked row has a parent: a linked row with an edge to it. Entries are their own parents. So
 * following parents from any row leads to an entry, and the way back is a path that a walk can
 * take. Edges from parents are the only ones that may not go before their row has another parent.
 *
 * Invariants
 *   1. parent[row] is GRAPH_END (not linked), the row itself (an entry), or a linked row that has
 *      an edge to it. There are no cycles.
 *   2. Neighbour lists are changed by these functions only; they hold no row twice.
 * Does not: choose edges (mend.c), know of deleted rows, twins or codes.
 */
#ifndef ANNEX_PATHS_H
#define ANNEX_PATHS_H

#include "index/graph.h"

struct paths {
    uint32_t *neighbours; /* [slots x degree], lists closed by GRAPH_END */
    uint32_t *parent;     /* [slots] */
    uint32_t degree;
    uint32_t slots;
    uint32_t room_at; /* where the last search for room ended */
};

static inline uint32_t *paths_row(const struct paths *paths, uint32_t slot)
{
    return paths->neighbours + (size_t)slot * paths->degree;
}
static inline bool paths_is_linked(const struct paths *paths, uint32_t slot)
{
    return paths->parent[slot] != GRAPH_END;
}

uint32_t paths_count_edges(const struct paths *paths, uint32_t slot);
bool paths_has_edge(const struct paths *paths, uint32_t from, uint32_t to);
/* Adds an edge; false when it is not there and there is no place for it. */
bool paths_add(struct paths *paths, uint32_t from, uint32_t to);
/* Replaces the list of a row; edges to its children that are not in ids[0..n) may have to stay. */
void paths_put(struct paths *paths, uint32_t slot, const uint32_t *ids, uint32_t n);
/*
 * Gives a row a parent: a neighbour that links to it, else one of near[0..n), else any row. False
 * when there is no other linked row that is not behind it.
 */
bool paths_hang(struct paths *paths, uint32_t slot, const uint32_t *near, uint32_t n);
/* Gives all children of a row, which leaves the graph, other parents. */
void paths_leave(struct paths *paths, uint32_t slot, const uint32_t *near, uint32_t n);
/* Parents of all rows that can be reached from `slot` and have none yet. queue is [slots]. */
void paths_spread(struct paths *paths, uint32_t slot, uint32_t *queue);

#endif
