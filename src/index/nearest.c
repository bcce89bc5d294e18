/*
 * nearest.c - one query answered by walking the graph: candidates of the walk, and exact distances
 * for those that may be among the nearest.
 *
 * A walk without a filter ends by its reach; one that ends where distances hardly differ goes on
 * wider, if a recall was promised. Whatever was found, an answer with fewer than k rows is replaced
 * by that of a scan: min(k, passing rows) are always found.
 */
#include <math.h>

#include "index/exact.h"
#include "index/plan.h"

/* ---- walking ---------------------------------------------------------------------------------*/

enum { WALK_POLL_ROWS = 1 << 14 };

/* walk.check: within max_scan, and asking progress and stop from time to time. */
static uint32_t walk_check(void *context, struct walk *walk, uint32_t n)
{
    struct scratch *scratch = context;
    uint64_t room = scratch_room(scratch);
    if (n > room) {
        n = (uint32_t)room;
        scratch->cut = true;
    } else if (scratch_stops(scratch)) {
        n = 0;
    }
    walk->check_at = walk->scored + MIN(WALK_POLL_ROWS, room) + 1;
    return n;
}

static void walk_polls(struct scratch *scratch)
{
    struct walk *walk = &scratch->walk;
    walk->check = walk_check;
    walk->check_context = scratch;
    walk->check_at = walk->scored + MIN(WALK_POLL_ROWS, scratch_room(scratch)) + 1;
}

static annex_status walk_graph(struct scratch *scratch, uint32_t window, annex_error *error)
{
    walk_polls(scratch);
    graph_walk(&scratch->index->graph, &scratch->query, window, &scratch->walk);
    return scratch_halt(scratch, error);
}

/* ---- candidates ------------------------------------------------------------------------------*/

/*
 * What a code loses has no direction of its own: along the one that matters it is the norm over the
 * root of the dimension, and seldom more than CERTAIN times that.
 */
static float likely_loss(const annex_index *index, uint32_t slot)
{
    enum { CERTAIN = 2 };
    float part = CERTAIN / sqrtf((float)index->codec.dimension);
    return index->errors ? index->errors[slot] * MIN(part, 1) : 0;
}

/* By all that is known of two rows. */
static bool are_as_near(const annex_index *index, float score, uint32_t slot, struct ranked other)
{
    return score == other.order &&
           (!index->errors || index->errors[slot] == index->errors[other.slot]);
}

/*
 * Whether a row, no nearer by its score, may be nearer than another. The query's own rounding is
 * left out: it is the same for rows near each other.
 */
static bool may_be_nearer(const struct scratch *scratch, float score, uint32_t slot,
                          struct ranked than)
{
    const annex_index *index = scratch->index;
    const struct query *query = &scratch->query;
    float loss = likely_loss(index, slot), other = likely_loss(index, than.slot);
    return codec_lower(query, score, loss) <= codec_upper(query, than.order, other) &&
           !are_as_near(index, score, slot, than);
}

/*
 * The passing rows of the pool, nearest first, with the rows that have the same code: `wanted`, and
 * behind them those whose codes do not tell whether they belong to the k nearest.
 */
static annex_status collect(const struct plan *plan, struct scratch *scratch, size_t wanted,
                            annex_error *error)
{
    annex_index *index = plan->index;
    size_t more = scratch->query.exact || wanted <= plan->k ? 0 : CANDIDATES_MORE;
    struct candidates all = {.walk = &scratch->walk,
                             .same = index->same,
                             .errors = index->errors,
                             .slots = index->slots,
                             .wanted = MIN(wanted, SIZE_MAX - more) + more};
    scratch->n_items = 0;
    while (candidates_next(&all)) {
        float score = walk_score(scratch->walk.pool[all.at]);
        if (all.n >= wanted &&
            !may_be_nearer(scratch, score, all.slot, scratch->items[plan->k - 1])) {
            break;
        }
        if (filter_passes(index, plan->options, all.slot)) {
            TRY(scratch_push(index, scratch, score, all.slot, error));
            candidates_take(&all);
        }
    }
    return ANNEX_OK;
}

/* ---- a walk without a filter -----------------------------------------------------------------*/

/* Distances that differ by less, relatively, are no slope to walk along. */
#define LEVEL 0.001f

/*
 * Whether the farthest row that the walk kept is hardly farther than the k-th: then there are more
 * such rows, and nothing led to the nearest of them.
 */
static bool ends_on_a_level(struct scratch *scratch, uint32_t capacity, uint32_t k)
{
    struct walk *walk = &scratch->walk;
    if (walk->size < capacity || capacity < k + k / 2) {
        return false;
    }
    walk_item kth = walk->pool[k - 1], last = walk->pool[capacity - 1];
    struct ranked than = {.order = walk_score(kth), .slot = walk_id(kth)};
    if (are_as_near(scratch->index, walk_score(last), walk_id(last), than)) {
        return false;
    }
    walk->reach = LEVEL;
    walk->near = k;
    return last < walk_bar(&scratch->query, walk, k);
}

/*
 * Hard queries may use a wider window than easy ones. Where a recall was promised, a walk that ends
 * on a level goes on wider, until a scan would cost less (!*found) or it is WIDEST times as wide.
 */
static annex_status walk_reaching(const struct plan *plan, struct scratch *scratch, size_t wanted,
                                  bool *found, annex_error *error)
{
    enum { WIDER = 4, WIDEST = 16 };
    const annex_index *index = plan->index;
    struct walk *walk = &scratch->walk;
    float reach = index_reach(index->header.reach, plan->effort);
    uint32_t k = (uint32_t)plan->k, named = plan->options->effort;
    *found = true;
    for (uint32_t times = 1;; times *= WIDER) {
        uint32_t window = (uint32_t)MIN((uint64_t)plan->window * times, index->slots);
        window = MIN(index_window(reach, window), index->slots);
        uint32_t capacity = (uint32_t)MIN(MAX(window, wanted), index->slots);
        TRY(scratch_reserve_pool(plan->index, scratch, capacity, error));
        walk->reach = reach;
        walk->near = INDEX_CALIBRATED_K;
        walk->wanted = k;
        /* Who names an effort below k is content with fewer of the true ones. */
        walk->least = named ? MIN(plan->effort, k) : k;
        annex_status status = walk_graph(scratch, window, error);
        bool more = !status && !named && !scratch->cut && times < WIDEST &&
                    ends_on_a_level(scratch, capacity, k);
        walk->reach = 0;
        if (!more) {
            return status;
        }
        if (plan_walk_cost(plan, (float)window * WIDER) > plan_scan_cost(plan)) {
            *found = false;
            return ANNEX_OK;
        }
    }
}

annex_status graph_nearest(const struct plan *plan, struct scratch *scratch, annex_error *error)
{
    annex_index *index = plan->index;
    bool sure = scratch->query.exact && !plan->options->fetch, found = true;
    size_t wanted = index_rerank(plan->k, plan->window, sure), dropped;
    if (plan->filtered) {
        walk_polls(scratch);
        TRY(filtered_walk(plan, scratch, wanted, &found, error));
        TRY(scratch_halt(scratch, error));
    } else {
        TRY(walk_reaching(plan, scratch, wanted, &found, error));
    }
    if (found) {
        TRY(collect(plan, scratch, wanted, error));
        TRY(rank_exact(index, scratch, 0, plan->options, &dropped, error));
    }
    bool enough = found && (scratch->n_items >= plan->k || scratch->cut);
    return enough ? ANNEX_OK : exact_one(index, scratch, plan->k, plan->options, error);
}

annex_status graph_candidates(annex_index *index, struct scratch *scratch, uint32_t window,
                              const annex_search_options *options, annex_error *error)
{
    struct plan plan = {.index = index, .options = options};
    TRY(scratch_reserve_pool(index, scratch, window, error));
    TRY(walk_graph(scratch, window, error));
    return collect(&plan, scratch, SIZE_MAX, error);
}
