/*
 * plan.c - what a search does: scan, walk the graph, or walk it with a filter in mind.
 *
 * Decisions compare costs that are counted, never timed, so that equal searches take equal ways on
 * every machine. The unit is a cache line of codes read in order, 3 to 4 ns; what the rest costs
 * was measured in it with bench/filters.c. A scan reads the code of every row that passes; a walk
 * scores some rows for each candidate in its window, at random, and needs a window that grows as
 * passing rows get rarer; a walk by two hops (filtered.c) reads the lists of failing rows instead.
 *
 * How many rows pass is counted for bitmaps and estimated for an `accept`. It says nothing of where
 * they are: filtered.c looks at the neighbourhood of each query and asks for costs again.
 */
#include "index/plan.h"

#include <math.h>

enum {
    SAMPLE = 128,      /* rows asked to estimate how many an `accept` lets pass */
    COUNT_WORDS = 128, /* of a bitmap, counted at a time */
    LINE_BYTES = 64
};

/* All in lines. */
#define GATHERED 2.2f  /* a line of a row that is named, not next */
#define WALKED 3.0f    /* a line of a row scored by a walk, with all that goes with it */
#define START_ROWS 400 /* rows that a walk scores until it is where its answer lies */
#define STEP_ROWS 16   /* rows that it scores for each candidate in its window */
#define ASKED 4.0f     /* a call of `accept` */
#define WORD 0.25f     /* a word of a bitmap in which nothing passes */
#define TESTED 1.0f    /* a row looked up in a bitmap */
#define LISTED 10.0f   /* a list of neighbours */

#define WALKS_WITH_FILTER 4 /* that a scan may cost to be preferred */

/* ---- counting --------------------------------------------------------------------------------*/

/* The bits among the first `words` words that are set in both. */
static uint64_t count_common(const struct kernels *kernels, const uint64_t *map,
                             const uint64_t *other, size_t words)
{
    uint64_t n = 0;
    for (size_t w = 0; w < words; w += COUNT_WORDS) {
        int32_t count;
        kernels->bits_and((const uint8_t *)(map + w), (const uint8_t *)(other + w), COUNT_WORDS * 8,
                          MIN(words - w, COUNT_WORDS) * 8, NULL, 1, &count);
        n += (uint64_t)count;
    }
    return n;
}

/* How many rows pass the filters: counted for a bitmap, estimated for a function. */
static uint64_t count_passing(const annex_index *index, const annex_search_options *options)
{
    const struct kernels *kernels = index->codec.kernels;
    const uint64_t *allowed = options->allowed;
    size_t whole = index->slots / 64;
    uint64_t n = index->live;
    if (allowed) {
        n = count_common(kernels, allowed, allowed, whole);
        n -= index->dead ? count_common(kernels, allowed, index->dead, whole) : 0;
        for (uint32_t slot = (uint32_t)whole * 64; slot < index->slots; slot++) {
            n += bitmap_get(allowed, slot) && index_is_live(index, slot);
        }
    }
    if (options->accept && index->slots > SAMPLE) {
        uint64_t passed = 0;
        for (uint64_t i = 0; i < SAMPLE; i++) {
            uint32_t slot = (uint32_t)(i * index->slots / SAMPLE);
            passed += filter_passes(index, options, slot);
        }
        n = MIN(n, passed * index->slots / SAMPLE);
    }
    return n;
}

/* ---- costs, in lines -------------------------------------------------------------------------*/

static float row_lines(const annex_index *index)
{
    return (float)index->codec.row_bytes / LINE_BYTES;
}

float plan_scan_cost(const struct plan *plan)
{
    const annex_index *index = plan->index;
    float rows = (float)plan->passing, words = (float)index->slots / 64;
    bool named = plan->passing < index->slots - index->slots / 8;
    float asked = plan->options->accept ? (float)index->slots * ASKED : 0;
    return rows * row_lines(index) * (named ? GATHERED : 1) + words * WORD + asked;
}

float plan_walk_cost(const struct plan *plan, float window)
{
    return (START_ROWS + STEP_ROWS * window) * WALKED * row_lines(plan->index);
}

float plan_step_cost(const annex_index *index, uint32_t scored, uint32_t lists)
{
    float list = LISTED + (float)index->graph.degree * TESTED;
    return (float)scored * WALKED * row_lines(index) + (float)lists * list;
}

uint32_t plan_two_hop_window(const struct plan *plan, bool apart)
{
    uint32_t window = apart ? plan->window : plan->window - plan->window / 4;
    return (uint32_t)MAX(window, plan->k);
}

/* Half of the rows that the lists name have been seen before. */
float plan_two_hop_cost(const struct plan *plan, uint32_t window, float share)
{
    float degree = (float)plan->index->graph.degree, enough = degree / PLAN_ENOUGH;
    float lists = MIN(1 + 2 * enough / (degree * share), degree);
    float scored = MIN(lists * degree * share / 2, degree);
    return (float)window * plan_step_cost(plan->index, (uint32_t)scored, (uint32_t)lists);
}

/* ---- the plan --------------------------------------------------------------------------------*/

static uint32_t effort_for(const annex_index *index, const annex_search_options *options)
{
    if (options->effort) {
        return options->effort;
    }
    if (options->recall == 0) {
        return index->header.default_effort ? index->header.default_effort : ANNEX_EFFORT_EXACT;
    }
    for (uint32_t i = 0; i < index->n_recall && options->recall < 1; i++) {
        if (index->recall[i].recall >= index_measured_for(options->recall)) {
            return index->recall[i].effort;
        }
    }
    return ANNEX_EFFORT_EXACT; /* more than the walk was measured to give */
}

/* The recall table is for k = 10; more neighbours need more work for the same recall. */
static uint32_t walk_window(const annex_index *index, const annex_search_options *options,
                            uint32_t effort, size_t k)
{
    size_t more = options->effort || k <= INDEX_CALIBRATED_K ? 0 : (k - INDEX_CALIBRATED_K) * 3 / 2;
    return (uint32_t)MIN(MAX(effort + more, k), index->slots);
}

/* As many lists as hold so many passing rows as `effort` lists have rows without a filter. */
static uint32_t lists_window(const struct plan *plan)
{
    double lists = plan->effort;
    for (size_t n = plan->k / INDEX_CALIBRATED_K; n > 1 && !plan->options->effort; n /= 2) {
        lists += plan->effort / 2.0;
    }
    lists = ceil(lists * plan->index->slots / (double)plan->passing);
    return (uint32_t)MIN(lists, plan->index->ivf.n_lists);
}

void plan_make(annex_index *index, const annex_search_options *options, size_t k, struct plan *plan)
{
    uint32_t effort = effort_for(index, options);
    *plan = (struct plan){.index = index, .options = options, .k = k, .effort = effort};
    if (effort == ANNEX_EFFORT_EXACT || index->header.family == ANNEX_FLAT || options->after) {
        plan->effort = ANNEX_EFFORT_EXACT;
        return;
    }
    plan->passing = count_passing(index, options);
    /* Dead rows have left the graph. */
    plan->filtered = options->accept || plan->passing < index->live;
    if (plan->passing == 0) {
        return;
    }
    if (index->header.family == ANNEX_IVF) {
        plan->window = lists_window(plan);
    } else {
        plan->window = walk_window(index, options, effort, k);
        /* With a filter several walks may be needed, and to look whether they are costs one. */
        float walks = plan->filtered ? WALKS_WITH_FILTER : 1;
        bool scan = plan_scan_cost(plan) <= walks * plan_walk_cost(plan, (float)plan->window);
        plan->window = scan ? 0 : plan->window;
    }
}
