/*
 * filtered.c - walks of a graph by searches with a filter.
 *
 * A short walk that ignores the filter finds the neighbourhood of the query; the share of rows that
 * pass there tells what to expect. Then the cheapest way is taken (plan.c has the costs):
 *
 *   widened    the same walk with a window widened by that share: failing rows lead on, too
 *   two hops   only passing rows are scored and kept; failing neighbours are looked through to
 *              theirs (ACORN-1, Patel et al., SIGMOD 2024), and failing rows near the query are
 *              bridges to begin with (without them it comes to nothing where few rows pass)
 *   none       the caller scans the passing rows: where they are few, and where those near the
 *              query are much rarer than elsewhere. Then the nearest are far off, lie apart, and no
 *              walk finds them all.
 *
 * Invariants
 *   1. A walk by two hops that has cost as much as the scan is given up: it costs twice at most.
 *   2. Walks that an answer is taken from end as those without a filter do, by reach and window.
 *   3. A row with duplicates passes when one of them does; search.c asks for each.
 * Does not: rerank, scan, keep anything from one query to the next.
 */
#include <math.h>

#include "index/plan.h"

enum {
    PROBE = 16,           /* window of the walk that finds the neighbourhood */
    EXPECTED = 8,         /* passing rows that it keeps so many rows for, to count them */
    MAX_PROBE_POOL = 512, /* rows */
    FAR = 8,              /* times fewer pass near the query than elsewhere: they avoid it */
    BRIDGES = 8,          /* failing rows near the query whose neighbours are looked at */
    AHEAD = 4             /* lists prefetched */
};

/* A share of passing rows at which the first walk may as well be the last. */
#define COMMON 0.4f
/* Of the passing rows that a walk should find: with fewer it was too narrow. */
#define FULL 0.7f
/* The same of a walk that no reach ends: hard queries need a wider window than others. */
#define PROBE_FULL 2

struct filtered {
    const struct plan *plan;
    annex_index *index;
    struct scratch *scratch;
    struct walk *walk;
    const uint64_t *allowed, *dead;
    const uint32_t *same;
};

/* ---- what passes -----------------------------------------------------------------------------*/

static inline bool passes_alone(const struct filtered *self, uint32_t slot)
{
    return (!self->allowed || bitmap_get(self->allowed, slot)) &&
           (!self->dead || !bitmap_get(self->dead, slot));
}

/* Whether the slot or one with the same code passes. */
static inline bool passes(const struct filtered *self, uint32_t slot)
{
    const uint32_t *same = self->same;
    if (passes_alone(self, slot)) {
        return true;
    }
    if (!same) {
        return false;
    }
    uint32_t member = same[slot];
    for (uint32_t steps = 0; member != slot && steps < self->index->slots; steps++) {
        if (member >= self->index->slots) {
            return false; /* damage */
        }
        if (passes_alone(self, member)) {
            return true;
        }
        member = same[member];
    }
    return false;
}

/* ---- two hops --------------------------------------------------------------------------------*/

/* Appends the passing, unmarked neighbours of `id` to ids[n]. */
static uint32_t look_at(const struct filtered *self, uint32_t id, uint32_t *ids, uint32_t n)
{
    const struct filtered copy = *self; /* which no store below may change */
    const uint32_t *list = graph_neighbours(&self->index->graph, id);
    uint32_t degree = self->index->graph.degree, slots = self->index->slots;
    for (uint32_t i = 0; i < degree && list[i] < slots; i++) {
        if (passes(&copy, list[i]) && walk_mark(copy.walk, list[i])) {
            ids[n++] = list[i];
        }
    }
    return n;
}

/* The unmarked passing rows one or two steps from `id`; *lists: read. */
static uint32_t reach(const struct filtered *self, uint32_t id, uint32_t *ids, uint32_t *lists)
{
    const uint32_t *list = graph_neighbours(&self->index->graph, id);
    uint32_t n = look_at(self, id, ids, 0), enough = self->index->graph.degree / PLAN_ENOUGH;
    *lists = 1;
    for (uint32_t i = 0; i < self->index->graph.degree && n < enough; i++) {
        uint32_t ahead = MIN(i + AHEAD, self->index->graph.degree - 1);
        if (list[i] >= self->index->slots) {
            break; /* GRAPH_END, or damage */
        }
        if (list[ahead] < self->index->slots) {
            graph_prefetch(&self->index->graph, list[ahead]);
        }
        /* Rows that pass are marked already; of others a mark says that they were looked at. */
        if (walk_mark(self->walk, list[i])) {
            n = look_at(self, list[i], ids, n);
            (*lists)++;
        }
    }
    return n;
}

/*
 * Lets the next walk end by its reach, as a search without a filter does: of 1 / share times as
 * many rows. It keeps the nearest `wanted` in any case. Returns its window.
 */
static uint32_t set_reach(const struct filtered *self, float share, float window, float wanted)
{
    const struct plan *plan = self->plan;
    struct walk *walk = self->walk;
    float slots = (float)self->index->slots;
    walk->reach = index_reach(self->index->header.reach, plan->effort);
    walk->near = (uint32_t)MIN(INDEX_CALIBRATED_K / share, slots);
    walk->least = (uint32_t)MIN((float)plan->k / share, slots);
    walk->wanted = (uint32_t)MIN(MAX(window, wanted), slots);
    return index_window(walk->reach, (uint32_t)MIN(window, slots));
}

/* The nearest row of the pool not expanded yet among the first `window`; false when there is none.
 */
static bool next_row(struct filtered *self, uint32_t window, uint32_t *cursor, uint32_t *id)
{
    struct walk *walk = self->walk;
    walk_item bar = walk_bar(&self->scratch->query, walk, walk->least);
    for (; *cursor < MIN(window, walk->size) && walk->pool[*cursor] < bar; (*cursor)++) {
        if (!(walk->pool[*cursor] & 1)) {
            walk->pool[*cursor] |= 1;
            *id = walk_id(walk->pool[*cursor]);
            return true;
        }
    }
    return false;
}

/*
 * Goes on from the rows that a walk kept: those that pass, and through the nearest that do not.
 * False when it cost as much as `budget`.
 */
static bool walk_two_hops(struct filtered *self, uint32_t steps, size_t wanted, float budget)
{
    struct walk *walk = self->walk;
    uint32_t ids[2 * GRAPH_MAX_DEGREE], bridges[BRIDGES], n_bridges = 0, cursor = 0;
    uint32_t kept = walk->size, window = set_reach(self, 1, (float)steps, (float)wanted);
    float cost = 0;
    walk->capacity = MIN(MAX(window, walk->wanted), walk->room);
    walk->size = 0;
    for (uint32_t i = 0; i < kept; i++) {
        uint32_t id = walk_id(walk->pool[i]);
        if (passes(self, id) && walk->size < walk->capacity) {
            walk->pool[walk->size++] = walk->pool[i] & ~UINT64_C(1);
            (void)walk_mark(walk, id);
        } else if (n_bridges < BRIDGES) {
            bridges[n_bridges++] = id;
        }
    }
    for (uint32_t step = 0; cost < budget; step++) {
        uint32_t id, lists;
        if (step < n_bridges) {
            id = bridges[step];
        } else if (!next_row(self, window, &cursor, &id)) {
            break;
        }
        uint32_t n = reach(self, id, ids, &lists), more = walk_room(walk, n);
        uint32_t lowest = walk_absorb(&self->index->graph, &self->scratch->query, walk, ids, more);
        cursor = MIN(cursor, lowest);
        if (more < n) {
            break;
        }
        cost += plan_step_cost(self->index, n, lists);
        walk->hops += lists;
    }
    walk->reach = 0;
    walk_forget(walk);
    return cost < budget;
}

static bool is_over(const struct filtered *self)
{
    return self->scratch->cut || self->scratch->cancelled;
}

/* ---- choice ----------------------------------------------------------------------------------*/

/* How many of the nearest n rows that a walk kept pass. */
static uint32_t count_kept(const struct filtered *self, uint32_t n_kept)
{
    const annex_search_options *options = self->plan->options;
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_kept; i++) {
        uint32_t id = walk_id(self->walk->pool[i]);
        n += options->accept ? filter_passes(self->index, options, id) : passes(self, id);
    }
    return n;
}

/* Walks a little way, to see how many rows pass near the query. */
static annex_status probe(struct filtered *self, float window, float kept, uint32_t *passing,
                          annex_error *error)
{
    float slots = (float)self->index->slots;
    TRY(scratch_reserve_pool(self->index, self->scratch, (uint32_t)MIN(MAX(window, kept), slots),
                             error));
    graph_walk(&self->index->graph, &self->scratch->query, (uint32_t)MIN(window, slots),
               self->walk);
    *passing = count_kept(self, self->walk->size);
    return ANNEX_OK;
}

/*
 * Walks without regard to the filter, with the window and the reach of a search for 1 / share times
 * as many rows; *passing: how many of those that it kept pass.
 */
static annex_status walk_plainly(struct filtered *self, float share, float kept, uint32_t *passing,
                                 annex_error *error)
{
    uint32_t window = set_reach(self, share, (float)self->plan->window / share, kept);
    window = MIN(window, self->index->slots);
    TRY(scratch_reserve_pool(self->index, self->scratch, MAX(window, self->walk->wanted), error));
    graph_walk(&self->index->graph, &self->scratch->query, window, self->walk);
    self->walk->reach = 0;
    *passing = count_kept(self, self->walk->size);
    return ANNEX_OK;
}

/*
 * Looks where the query is: with a walk that may do if many rows pass, with a short one otherwise,
 * wider as long as hardly any row passes and it costs little beside the scan: the query may be in a
 * small hole. *local: the share of rows that pass.
 */
static annex_status look_around(struct filtered *self, float share, float needed, float *local,
                                bool *found, annex_error *error)
{
    enum { WIDER = 4, LITTLE = 16 };
    const struct plan *plan = self->plan;
    bool common = share >= COMMON;
    float window = common ? (float)plan->window / share : PROBE;
    float kept = common ? needed / share : MIN(EXPECTED / share, MAX_PROBE_POOL);
    float full = (float)plan->window * (common ? FULL : PROBE_FULL);
    uint32_t passing;
    TRY(common ? walk_plainly(self, share, kept, &passing, error)
               : probe(self, window, kept, &passing, error));
    for (;;) {
        *local = ((float)passing + 0.5f) / ((float)self->walk->size + 1);
        if (common) { /* passing rows at the rim of what the walk saw are not the nearest */
            uint32_t half = self->walk->size / 2;
            *local = MIN(*local, ((float)count_kept(self, half) + 0.5f) / ((float)half + 1));
        }
        *found = is_over(self) || window * *local >= full;
        window *= WIDER;
        bool dear = plan_walk_cost(plan, window) * LITTLE > plan_scan_cost(plan);
        if (*found || *local * FAR >= share || dear) {
            return ANNEX_OK;
        }
        full = (float)plan->window * PROBE_FULL;
        TRY(probe(self, window, kept, &passing, error));
    }
}

annex_status filtered_walk(const struct plan *plan, struct scratch *scratch, size_t wanted,
                           bool *found, annex_error *error)
{
    struct filtered self = {.plan = plan,
                            .index = plan->index,
                            .scratch = scratch,
                            .walk = &scratch->walk,
                            .allowed = plan->options->allowed,
                            .dead = plan->index->dead,
                            .same = plan->index->same};
    float share = (float)plan->passing / (float)plan->index->live, local;
    float needed = (float)MIN(wanted, plan->passing), scan = plan_scan_cost(plan);
    uint32_t most =
        (uint32_t)MIN(MAX(MAX(2 * plan->window, wanted), MAX_PROBE_POOL), plan->index->slots);
    TRY(scratch_reserve_pool(self.index, scratch, most, error)); /* so that the pool stays */
    TRY(look_around(&self, share, needed, &local, found, error));
    if (*found || local * FAR < share) {
        return ANNEX_OK;
    }
    float widened = plan_walk_cost(plan, (float)plan->window / local);
    uint32_t steps = plan_two_hop_window(plan, local < share / 2);
    bool close = plan->options->accept || local >= COMMON;
    float hops = close ? INFINITY : plan_two_hop_cost(plan, steps, local);
    if (hops < MIN(widened, scan)) {
        *found = walk_two_hops(&self, steps, wanted, scan) &&
                 scratch->walk.size >= MIN(steps, plan->passing);
    } else if (widened < scan) {
        uint32_t passing;
        TRY(walk_plainly(&self, local, needed / local, &passing, error));
        *found = (float)passing >= needed * FULL;
    }
    *found = *found || is_over(&self);
    return ANNEX_OK;
}
