/*
 * ivf.c - searching lists: which ones are near, and which of their rows can be among the nearest.
 */
#include "index/ivf.h"

#include <math.h>

#include "index/index.h"

/*
 * How many standard deviations an estimate may be off in searches that need not be certain. The
 * bounds of RaBitQ hold with 1.9; a row is lost only when it is also among the nearest.
 */
#define USUAL_ERROR 1.9f
/* What floats may be off, relatively, in some tens of operations and sums in 32 lanes. */
#define ROUNDING 1e-5f

bool ivf_supports(annex_metric metric)
{
    return metric == ANNEX_L2 || metric == ANNEX_IP || metric == ANNEX_COSINE;
}

/* ---- bounds ----------------------------------------------------------------------------------*/

/* Of the order distances of a list's rows. */
struct bounds {
    float base;     /* the order distance of the centroid */
    float factor;   /* of scale * product */
    float margin;   /* of scale: what an estimate may be off */
    float lost;     /* of distances, or of products with the query */
    float rounding; /* relatively */
    bool squares;
};

static struct bounds bounds_of(const struct ivf *ivf, const struct codec *codec,
                               const struct rabitq_query *query, uint32_t list, float distance,
                               bool certain)
{
    const struct ivf_list *row = &ivf->lists[list];
    bool ip = codec->metric == ANNEX_IP;
    float n = (float)ivf->rabitq.dimension, factor = ip ? 1 : 2;
    float norm = ip ? query->norm : sqrtf(MAX(0, distance));
    float deviations = certain ? sqrtf(n) : USUAL_ERROR * sqrtf(n / MAX(1, n - 1));
    float slack = certain ? query->slack : 2 * query->slack / sqrtf((float)ivf->rabitq.groups);
    return (struct bounds){.base = distance,
                           .factor = factor,
                           .margin = factor * (row->spread * norm * deviations + slack),
                           .lost = certain ? row->lost * (ip ? query->norm : 1) : 0,
                           .rounding = certain ? ROUNDING : 0,
                           .squares = !ip};
}

/* No margin: there is nothing to make the estimates better. */
static struct bounds no_bounds(struct bounds bounds)
{
    bounds.margin = bounds.lost = bounds.rounding = 0;
    return bounds;
}

static float beyond_loss(const struct bounds *bounds, float order, float sign)
{
    if (!bounds->squares) {
        return order + sign * bounds->lost;
    }
    float root = sqrtf(MAX(0, order)) + sign * bounds->lost;
    return root > 0 ? root * root : 0;
}

/* The lower and the upper bound of a row. */
static void bound_row(const struct bounds *bounds, float add, float scale, float product,
                      float *lower, float *upper)
{
    float along = bounds->factor * scale * product;
    float order = bounds->base + add - along;
    float error = scale * bounds->margin +
                  bounds->rounding * (fabsf(bounds->base) + fabsf(add) + fabsf(along));
    *lower = beyond_loss(bounds, order - error, -1);
    *upper = beyond_loss(bounds, order + error, 1);
}

static float product_of(const struct rabitq_query *query, int32_t sum)
{
    return query->step * (float)sum + query->base;
}

float ivf_lower(const struct ivf *ivf, const struct codec *codec, const struct rabitq_query *query,
                uint32_t slot, float centroid_distance)
{
    const struct rabitq *rabitq = &ivf->rabitq;
    const uint8_t *block = ivf_block(ivf, (uint8_t *)(uintptr_t)ivf->blocks, slot);
    uint32_t place = slot % RABITQ_ROWS;
    struct bounds bounds =
        bounds_of(ivf, codec, query, ivf_list_of(ivf, slot), centroid_distance, false);
    int32_t sums[RABITQ_ROWS];
    float lower, upper;
    rabitq_sums(rabitq, query, block, sums);
    bound_row(&bounds, rabitq_add(rabitq, block)[place], rabitq_scale(rabitq, block)[place],
              product_of(query, sums[place]), &lower, &upper);
    return lower;
}

/* ---- preparing -------------------------------------------------------------------------------*/

static annex_status ivf_prepare(annex_index *index, struct scratch *scratch, annex_error *error)
{
    const struct ivf *ivf = &index->ivf;
    struct ivf_scratch *own = &scratch->ivf;
    const struct codec *codec = &index->codec;
    TRY(scratch_reserve_lists(index, scratch, error));
    float *centred = scratch->vectors;
    for (uint32_t j = 0; j < codec->dimension; j++) {
        centred[j] = scratch->query.vector[j] - codec->center[j];
    }
    rabitq_query_set(&ivf->rabitq, &own->query, centred);
    codec_score_fine(&scratch->query, ivf->centroids, NULL, ivf->n_lists, own->distances);
    for (uint32_t l = 0; l < ivf->n_lists; l++) {
        own->order[l] = (uint64_t)walk_ordered_bits(own->distances[l]) << 32 | l;
    }
    return ANNEX_OK;
}

/* ---- the nearest lists, one after the other: a heap ------------------------------------------*/

static void sink_list(uint64_t *heap, uint32_t n, uint32_t i)
{
    uint64_t item = heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n) {
            break;
        }
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (item <= heap[child]) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = item;
}

static void heap_lists(uint64_t *heap, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;) {
        sink_list(heap, n, i);
    }
}

static uint32_t next_list(uint64_t *heap, uint32_t *n)
{
    uint32_t list = (uint32_t)heap[0];
    heap[0] = heap[--*n];
    if (*n) {
        sink_list(heap, *n, 0);
    }
    return list;
}

/* ---- the scan --------------------------------------------------------------------------------*/

struct lists_scan {
    annex_index *index;
    struct scratch *scratch;
    const annex_search_options *options;
    size_t k;
    bool certain;
    bool measures;      /* certain, and vectors are stored */
    bool estimates;     /* there are no vectors */
    float limit;        /* rows with a lower bound above it are no candidates */
    float floor, clear; /* see flat.c */
    uint32_t list;
    struct bounds bounds;
    size_t found;
    size_t compact_at;
};

static annex_status take_row(struct lists_scan *scan, uint32_t slot, float lower, float upper,
                             annex_error *error)
{
    struct scratch *scratch = scan->scratch;
    if (!(lower <= scan->limit) || (scan->k && upper < scan->floor) ||
        !filter_passes(scan->index, scan->options, slot)) {
        return ANNEX_OK;
    }
    if (scan->measures) { /* at once: the bounds that always hold are too wide to wait with */
        lower = upper =
            stored_exact(&scratch->query, index_stored(scan->index), index_raw(scan->index, slot));
        scratch->reranked++;
        if (!(lower <= scan->limit)) {
            return ANNEX_OK;
        }
    }
    scan->found++;
    TRY(scratch_push(scan->index, scratch, lower, slot, error));
    if (scan->k && lower > scan->clear) {
        scratch_offer(scratch, scan->k, upper);
        if (scratch->n_heap == scan->k) {
            scan->limit = MIN(scan->limit, scratch->heap[0]);
        }
    }
    return ANNEX_OK;
}

/* Which of the 32 rows are to be looked at more closely. */
static uint32_t pick_rows(const struct lists_scan *scan, const uint8_t *block, const int32_t *sums,
                          uint32_t *picked)
{
    const struct rabitq *rabitq = &scan->index->ivf.rabitq;
    const struct rabitq_query *query = &scan->scratch->ivf.query;
    const struct bounds *bounds = &scan->bounds;
    double offset = -floor(((double)query->base + bounds->margin / bounds->factor) / query->step);
    if (scan->certain || !(fabs(offset) < 1e9)) {
        for (uint32_t i = 0; i < RABITQ_ROWS; i++) {
            picked[i] = i;
        }
        return RABITQ_ROWS;
    }
    return rabitq->kernels->q8_pick(sums, rabitq_scale(rabitq, block), rabitq_add(rabitq, block),
                                    RABITQ_ROWS, (int32_t)offset - 1, -bounds->factor * query->step,
                                    scan->limit - bounds->base, picked);
}

/* The rows of one block that are in [first, end). */
static annex_status scan_block(struct lists_scan *scan, uint32_t first, uint32_t end,
                               annex_error *error)
{
    annex_index *index = scan->index;
    const struct ivf *ivf = &index->ivf;
    const struct rabitq *rabitq = &ivf->rabitq;
    const struct rabitq_query *query = &scan->scratch->ivf.query;
    const uint8_t *block = ivf_block(ivf, (uint8_t *)(uintptr_t)ivf->blocks, first);
    uint32_t base = first - first % RABITQ_ROWS, picked[RABITQ_ROWS];
    int32_t sums[RABITQ_ROWS];
    rabitq_sums(rabitq, query, block, sums);
    uint32_t n = pick_rows(scan, block, sums, picked);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t place = picked[i];
        float lower, upper;
        if (base + place < first || base + place >= end) {
            continue;
        }
        bound_row(&scan->bounds, rabitq_add(rabitq, block)[place],
                  rabitq_scale(rabitq, block)[place], product_of(query, sums[place]), &lower,
                  &upper);
        TRY(take_row(scan, base + place, lower, upper, error));
    }
    return ANNEX_OK;
}

/* Whether the filter has none of the slots of a block. */
static bool none_allowed(const struct lists_scan *scan, uint32_t slot)
{
    const uint64_t *allowed = scan->options->allowed;
    return allowed && (uint32_t)(allowed[slot / 64] >> (slot % 64 - slot % RABITQ_ROWS)) == 0;
}

static annex_status scan_range(struct lists_scan *scan, uint32_t first, uint32_t end,
                               annex_error *error)
{
    struct scratch *scratch = scan->scratch;
    while (first < end && !scratch->cut) {
        uint32_t next = MIN(end, first - first % RABITQ_ROWS + RABITQ_ROWS);
        uint64_t room = scratch_room(scratch);
        if (next - first > room) {
            next = first + (uint32_t)room;
            scratch->cut = true;
        }
        if (next > first && !none_allowed(scan, first)) {
            scratch->scanned += next - first;
            TRY(scan_block(scan, first, next, error));
        }
        first = next;
    }
    return ANNEX_OK;
}

static void use_bounds(struct lists_scan *scan, uint32_t list)
{
    const struct ivf_scratch *own = &scan->scratch->ivf;
    scan->list = list;
    scan->bounds = bounds_of(&scan->index->ivf, &scan->index->codec, &own->query, list,
                             own->distances[list], scan->certain);
    if (scan->estimates) {
        scan->bounds = no_bounds(scan->bounds);
    }
}

/* By the triangle inequality: no row of the list is near enough. */
static bool too_far(const struct lists_scan *scan, uint32_t list)
{
    const struct ivf_list *row = &scan->index->ivf.lists[list];
    if (!scan->bounds.squares || scan->estimates) {
        return false;
    }
    float nearest = (sqrtf(MAX(0, scan->bounds.base)) - row->radius - row->lost) * (1 - ROUNDING);
    return nearest > 0 && nearest * nearest > scan->limit;
}

static annex_status scan_lists(struct lists_scan *scan, uint32_t n_lists, annex_error *error)
{
    annex_index *index = scan->index;
    struct scratch *scratch = scan->scratch;
    const struct ivf *ivf = &index->ivf;
    uint64_t *heap = scratch->ivf.order;
    uint32_t left = ivf->n_lists, looked = 0;
    heap_lists(heap, left);
    for (; left > 0 && !scratch->cut; looked++) {
        if (looked >= n_lists && (scan->k == 0 || scan->found >= scan->k)) {
            break;
        }
        uint32_t list = next_list(heap, &left), first, end;
        use_bounds(scan, list);
        if (!too_far(scan, list)) {
            ivf_range(ivf, list, index->slots, &first, &end);
            TRY(scan_range(scan, first, end, error));
        }
        if (scan->k && scratch->n_items > scan->compact_at) {
            scratch_keep_within(scan->scratch, scan->limit);
            scan->compact_at = MAX(scan->compact_at, 2 * scratch->n_items);
        }
        if (looked % 64 == 63 && scratch_stops(scratch)) {
            TRY(scratch_halt(scratch, error));
        }
    }
    return ANNEX_OK;
}

/* Rows that were added since the index was written. */
static annex_status scan_tail(struct lists_scan *scan, annex_error *error)
{
    const struct ivf *ivf = &scan->index->ivf;
    uint32_t first = ivf->lists[ivf->n_lists].first;
    for (uint32_t slot = first; ivf->tail && slot < scan->index->slots; slot++) {
        use_bounds(scan, MIN(ivf->tail[slot - first], ivf->n_lists - 1));
        if (index_is_live(scan->index, slot)) {
            TRY(scan_range(scan, slot, slot + 1, error));
        }
        if (slot % 4096 == 0 && scratch_stops(scan->scratch)) {
            TRY(scratch_halt(scan->scratch, error));
        }
    }
    return ANNEX_OK;
}

/* As flat.c does: the square of a negative distance is a place far behind. */
static void begin_behind(const struct codec *codec, const annex_place *after,
                         struct lists_scan *scan)
{
    bool first = codec->metric == ANNEX_L2 && after->distance < 0;
    float order = first ? -INFINITY : codec_order(codec, after->distance);
    scan->floor = nextafterf(order, -INFINITY);
    scan->clear = nextafterf(order, INFINITY);
}

static annex_status ivf_collect(annex_index *index, struct scratch *scratch, size_t k,
                                uint32_t n_lists, bool certain, float order, float *limit,
                                annex_error *error)
{
    const annex_search_options *options = scratch->options;
    struct lists_scan scan = {.index = index,
                              .scratch = scratch,
                              .options = options,
                              .k = k,
                              .certain = certain,
                              .measures = certain && index->raw && !options->fetch,
                              .estimates = !index->raw && !options->fetch,
                              .limit = order,
                              .compact_at = MAX(4 * k, 4096),
                              .floor = -INFINITY,
                              .clear = -INFINITY};
    if (options->after) {
        begin_behind(&index->codec, options->after, &scan);
    }
    scratch->n_items = scratch->n_heap = 0;
    TRY(scratch_reserve_heap(index, scratch, k, error));
    if (index->slots > 0) {
        TRY(ivf_prepare(index, scratch, error));
        TRY(scan_tail(&scan, error));
        TRY(scan_lists(&scan, n_lists, error));
    }
    scratch_keep_within(scan.scratch, scan.limit);
    *limit = scan.limit;
    return rank_sort(index, scratch, error);
}

/* ---- searching -------------------------------------------------------------------------------*/

annex_status ivf_nearest(annex_index *index, struct scratch *scratch, size_t k, uint32_t n_lists,
                         annex_error *error)
{
    const annex_search_options *options = scratch->options;
    bool certain = n_lists == 0;
    n_lists = certain ? index->ivf.n_lists : MIN(n_lists, index->ivf.n_lists);
    for (size_t want = k;;) {
        float limit;
        size_t dropped;
        TRY(ivf_collect(index, scratch, want, n_lists, certain, INFINITY, &limit, error));
        TRY(rank_exact(index, scratch, want, options, &dropped, error));
        /* Rows that turned out to be gone may have pushed out others: those are beyond `limit`. */
        bool complete = scratch->n_items >= k && (!certain || scratch->items[k - 1].order <= limit);
        if (dropped == 0 || complete || want >= index->live || scratch->cut) {
            return ANNEX_OK;
        }
        want = MIN(index->live, 2 * want + dropped);
    }
}

annex_status ivf_within(annex_index *index, struct scratch *scratch, float order,
                        annex_error *error)
{
    float limit;
    return ivf_collect(index, scratch, 0, index->ivf.n_lists, true, order, &limit, error);
}

/* ---- check -----------------------------------------------------------------------------------*/

static bool is_number(float value)
{
    return value >= 0 && isfinite(value);
}

annex_status ivf_check(const annex_index *index, annex_error *error)
{
    const struct ivf *ivf = &index->ivf;
    uint32_t behind = 0;
    for (uint32_t l = 0; l <= ivf->n_lists; l++) {
        const struct ivf_list *list = &ivf->lists[l];
        bool last = l == ivf->n_lists;
        if (list->first < behind || (l == 0 && list->first > 0) || list->first > index->slots ||
            (last && !ivf->tail && list->first != index->slots) || !is_number(list->radius) ||
            !is_number(list->spread) || !is_number(list->lost)) {
            return error_set(error, ANNEX_DAMAGED, "list %u of the index cannot be; build it again",
                             l);
        }
        behind = list->first;
    }
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        const uint8_t *block = ivf_block(ivf, (uint8_t *)(uintptr_t)ivf->blocks, slot);
        float add = rabitq_add(&ivf->rabitq, block)[slot % RABITQ_ROWS];
        float scale = rabitq_scale(&ivf->rabitq, block)[slot % RABITQ_ROWS];
        if (!isfinite(add) || !is_number(scale)) {
            return error_set(error, ANNEX_DAMAGED,
                             "the code of row %u of the index is no number; build it again", slot);
        }
    }
    return ANNEX_OK;
}
