/* plan.h - what a search does, decided once for all its queries; filtered.c decides more for each.
 */
#ifndef ANNEX_PLAN_H
#define ANNEX_PLAN_H

#include "index/index.h"

/* A walk by two hops looks no further once it has seen degree / PLAN_ENOUGH passing rows. */
#define PLAN_ENOUGH 3

struct plan {
    annex_index *index;
    const annex_search_options *options;
    size_t k;
    uint32_t effort;  /* ANNEX_EFFORT_EXACT: what follows is not set */
    uint32_t window;  /* of a walk, in rows that pass, or lists to look at; 0: scan */
    uint64_t passing; /* rows that pass the filters */
    bool filtered;    /* some do not */
};

void plan_make(annex_index *index, const annex_search_options *options, size_t k,
               struct plan *plan);

/* Costs in one unit. `share`: of the rows where the walk goes, how many pass. */
float plan_scan_cost(const struct plan *plan);
float plan_walk_cost(const struct plan *plan, float window);
float plan_two_hop_cost(const struct plan *plan, uint32_t window, float share);
/* Of a step by two hops that scored rows and read lists of neighbours. */
float plan_step_cost(const annex_index *index, uint32_t scored, uint32_t lists);
/* Such steps see more rows each than others do; `apart`: not where passing rows are rarer. */
uint32_t plan_two_hop_window(const struct plan *plan, bool apart);

/* ---- nearest.c -------------------------------------------------------------------------------*/

/* The nearest k of the query that was set, in scratch->items, by a walk where one finds them. */
annex_status graph_nearest(const struct plan *plan, struct scratch *scratch, annex_error *error);
/* All passing rows that a walk with this window keeps, in scratch->items, by their codes. */
annex_status graph_candidates(annex_index *index, struct scratch *scratch, uint32_t window,
                              const annex_search_options *options, annex_error *error);

/* ---- filtered.c ------------------------------------------------------------------------------*/

/*
 * Walks with a filter and leaves the nearest rows found in scratch->walk.pool, failing ones among
 * them. !*found: a scan is better, or is needed.
 */
annex_status filtered_walk(const struct plan *plan, struct scratch *scratch, size_t wanted,
                           bool *found, annex_error *error);

#endif
