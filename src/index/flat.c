/*
 * flat.c - the exact scan: every row's code is scored, and bounds on what the codes lose tell which
 * rows can be among the answers. Only those need their exact distance (rank.c).
 *
 * The scan reads dimension + 8 bytes a row in order, at the speed of memory.
 */
#include <math.h>

#include "index/index.h"

enum { BLOCK = 256 };

/* ---- the scan --------------------------------------------------------------------------------*/

struct scan {
    annex_index *index;
    struct scratch *scratch;
    const annex_search_options *options;
    size_t k;    /* 0: all rows within `limit` */
    float limit; /* rows with a lower bound above it are no candidates */
    /* Rows with an upper bound below `floor` are not behind options->after; those with a lower
     * bound above `clear` are, and the others are found out by rank.c. */
    float floor, clear;
};

/* The rows of [first, end) that pass, as ids; *all when every one does. */
static size_t passing(const struct scan *scan, uint32_t first, uint32_t end, uint32_t *ids,
                      bool *all)
{
    const annex_index *index = scan->index;
    *all = !scan->options->allowed && !scan->options->accept && !index->dead;
    if (*all) {
        return end - first;
    }
    size_t n = 0;
    for (uint32_t slot = first; slot < end; slot++) {
        if (scan->options->allowed && slot % 64 == 0 && scan->options->allowed[slot / 64] == 0) {
            slot += 63;
            continue;
        }
        if (filter_passes(index, scan->options, slot)) {
            ids[n++] = slot;
        }
    }
    *all = n == end - first; /* mostly so: consecutive codes are read faster than named ones */
    return n;
}

static void compact(struct scan *scan)
{
    struct scratch *scratch = scan->scratch;
    size_t kept = 0;
    for (size_t i = 0; i < scratch->n_items; i++) {
        if (scratch->items[i].order <= scan->limit) {
            scratch->items[kept++] = scratch->items[i];
        }
    }
    scratch->n_items = kept;
}

static annex_status scan_block(struct scan *scan, uint32_t first, uint32_t end, annex_error *error)
{
    annex_index *index = scan->index;
    struct scratch *scratch = scan->scratch;
    uint32_t ids[BLOCK];
    float scores[BLOCK];
    bool all;
    size_t n = passing(scan, first, end, ids, &all);
    uint64_t room = scratch_room(scratch);
    if (n > room) {
        n = room;
        scratch->cut = true;
    }
    const uint8_t *rows = all ? index_code(index, first) : index->graph.rows;
    codec_score_fine(&scratch->query, rows, all ? NULL : ids, n, scores);
    scratch->scanned += n;
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = all ? first + (uint32_t)i : ids[i];
        float lost = index->errors ? index->errors[slot] : 0;
        float lower = codec_lower(&scratch->query, scores[i], lost);
        if (lower > scan->limit) {
            continue;
        }
        float upper = scan->k ? codec_upper(&scratch->query, scores[i], lost) : 0;
        if (scan->k && upper < scan->floor) {
            continue;
        }
        TRY(scratch_push(index, scratch, lower, slot, error));
        if (scan->k && lower > scan->clear) {
            scratch_offer(scratch, scan->k, upper);
            if (scratch->n_heap == scan->k) {
                scan->limit = MIN(scan->limit, scratch->heap[0]);
            }
        }
    }
    return ANNEX_OK;
}

static annex_status scan_all(struct scan *scan, annex_error *error)
{
    annex_index *index = scan->index;
    struct scratch *scratch = scan->scratch;
    size_t compact_at = MAX(4 * scan->k, 4096);
    uint32_t poll_rows = scan->options->stop ? 1u << 14 : 1u << 16;
    scratch->n_items = scratch->n_heap = 0;
    for (uint32_t first = 0; first < index->slots && !scratch->cut; first += BLOCK) {
        TRY(scan_block(scan, first, MIN(first + BLOCK, index->slots), error));
        if (scan->k && scratch->n_items > compact_at) {
            compact(scan);
            compact_at = MAX(compact_at, 2 * scratch->n_items);
        }
        if (first % poll_rows == 0 && scratch_stops(scratch)) {
            TRY(scratch_halt(scratch, error));
        }
    }
    compact(scan);
    return ANNEX_OK;
}

annex_status flat_nearest(annex_index *index, struct scratch *scratch, size_t k,
                          const annex_search_options *options, float *limit, annex_error *error)
{
    struct scan scan = {.index = index,
                        .scratch = scratch,
                        .options = options,
                        .k = k,
                        .limit = INFINITY,
                        .floor = -INFINITY,
                        .clear = -INFINITY};
    if (options->after) {
        /* The square of a negative distance is a place far behind. */
        bool first = index->codec.metric == ANNEX_L2 && options->after->distance < 0;
        float order = first ? -INFINITY : codec_order(&index->codec, options->after->distance);
        scan.floor = nextafterf(order, -INFINITY);
        scan.clear = nextafterf(order, INFINITY);
    }
    TRY(scratch_reserve_heap(index, scratch, k, error));
    TRY(scan_all(&scan, error));
    *limit = scan.limit;
    return ANNEX_OK;
}

annex_status flat_within(annex_index *index, struct scratch *scratch, float order,
                         const annex_search_options *options, annex_error *error)
{
    struct scan scan = {.index = index, .scratch = scratch, .options = options, .limit = order};
    return scan_all(&scan, error);
}
