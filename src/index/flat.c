/*
 * flat.c - the exact scan: every row's code is scored, and bounds on what the codes lose tell which
 * rows can be among the answers. Only those need their exact distance (rank.c).
 *
 * Several queries are scanned for together: a block of rows is read from memory once, and while it
 * is in the cache all queries are scored against it. Codes that are multiplied get a first look
 * (coarse.c) at half the price; only rows that pass it are scored with all of the query.
 *
 * Invariant: what is left as candidates does not depend on the queries scanned for together, nor on
 * how the rows were divided: after flat_settle, it is the rows whose lower bound is at most the
 * k-th smallest upper bound.
 * Does not: sort, know of threads (exact.c).
 */
#include <math.h>

#include "index/flat.h"

/* A block and what the queries make of it. */
struct block {
    size_t n;
    bool all; /* rows first..first + n - 1; otherwise ids[0..n) */
    uint32_t first;
    uint32_t ids[FLAT_BLOCK];
    float scales[FLAT_BLOCK], biases[FLAT_BLOCK];
    float most_lost; /* the largest of errors */
};

static uint32_t block_slot(const struct block *block, size_t i)
{
    return block->all ? block->first + (uint32_t)i : block->ids[i];
}

/* ---- which rows ------------------------------------------------------------------------------*/

/* The rows of a word of the bitmaps that pass them. */
static uint64_t passing_word(const struct flat *flat, uint32_t word)
{
    uint64_t bits = flat->options->allowed ? flat->options->allowed[word] : UINT64_MAX;
    return flat->index->dead ? bits & ~flat->index->dead[word] : bits;
}

/* Moves *first on to `end`, or behind as many rows that pass as a block has room for. */
static void block_gather(const struct flat *flat, uint32_t *first, uint32_t end,
                         struct block *block)
{
    const annex_search_options *options = flat->options;
    uint32_t slot = *first;
    size_t n = 0;
    block->first = slot;
    block->all = !options->allowed && !options->accept && !flat->index->dead;
    if (block->all) {
        *first = MIN(slot + FLAT_BLOCK, end);
        block->n = *first - slot;
        return;
    }
    while (slot < end && n + 64 <= FLAT_BLOCK) {
        if (options->allowed && options->allowed[slot / 64] == 0) {
            slot = MIN(slot - slot % 64 + 64, end); /* few pass: most words are empty */
            continue;
        }
        uint64_t bits = passing_word(flat, slot / 64) & UINT64_MAX << slot % 64;
        uint32_t base = slot - slot % 64;
        slot = MIN(base + 64, end);
        bits &= UINT64_MAX >> (base + 64 - slot);
        for (; bits; bits &= bits - 1) {
            block->ids[n] = base + (uint32_t)__builtin_ctzll(bits);
            n += !options->accept || filter_passes(flat->index, options, block->ids[n]);
        }
    }
    block->all = n == slot - *first; /* mostly so: codes in a row are read faster than named ones */
    block->n = n;
    *first = slot;
}

static float block_loss(const annex_index *index, const struct block *block)
{
    float most = 0;
    for (size_t i = 0; index->errors && i < block->n; i++) {
        float lost = index->errors[block_slot(block, i)];
        most = MAX(most, lost);
    }
    return most;
}

/* ---- the scan --------------------------------------------------------------------------------*/

/*
 * Takes the rows among slots[0..n), with their fine scores, that can be answers; those with scores
 * above `reach` cannot.
 */
static annex_status consider(const struct flat *flat, struct flat_scan *scan, float reach,
                             const uint32_t *slots, const float *scores, size_t n,
                             annex_error *error)
{
    annex_index *index = flat->index;
    struct scratch *scratch = scan->scratch;
    for (size_t i = 0; i < n; i++) {
        if (scores[i] > reach) {
            continue;
        }
        float lost = index->errors ? index->errors[slots[i]] : 0;
        float lower = codec_lower(&scratch->query, scores[i], lost);
        if (lower > scan->limit) {
            continue;
        }
        float upper = flat->k ? codec_upper(&scratch->query, scores[i], lost) : 0;
        if (flat->k && upper < flat->floor) {
            continue;
        }
        TRY(scratch_push(index, scratch, lower, slots[i], error));
        if (flat->k && lower > flat->clear) {
            scratch_offer(scratch, flat->k, upper);
            if (scratch->n_heap == flat->k) {
                scan->limit = MIN(scan->limit, scratch->heap[0]);
            }
        }
    }
    if (flat->k && scratch->n_items > scan->compact_at) {
        scratch_keep_within(scan->scratch, scan->limit);
        scan->compact_at = MAX(scan->compact_at, 2 * scratch->n_items);
    }
    return ANNEX_OK;
}

/* Products of all queries with the rows of a block, flat->dots[q * n + i]. */
static void multiply(const struct flat *flat, const struct block *block)
{
    enum { TILE_PAYS = 4 }; /* queries */
    const struct codec *codec = &flat->index->codec;
    const uint8_t *rows = index_code(flat->index, block->all ? block->first : 0);
    const uint32_t *ids = block->all ? NULL : block->ids;
    if (flat->n >= TILE_PAYS) {
        const struct query *first = &flat->scans[0].scratch->query;
        codec->kernels->q8_tile((const int8_t *)first->code, codec_query_bytes(codec), flat->n,
                                rows, codec->row_bytes, codec->code_bytes, ids, block->n,
                                flat->dots);
        return;
    }
    for (size_t q = 0; q < flat->n; q++) {
        const struct query *query = &flat->scans[q].scratch->query;
        codec->kernels->q8_dot((const int8_t *)query->code, rows, codec->row_bytes,
                               codec->code_bytes, ids, block->n, flat->dots + q * block->n);
    }
}

/* The first look: only rows that may be within the limit are scored with all of the query. */
static annex_status scan_products(const struct flat *flat, struct block *block, annex_error *error)
{
    const annex_index *index = flat->index;
    const struct codec *codec = &index->codec;
    uint32_t picked[FLAT_BLOCK];
    float scores[FLAT_BLOCK];
    multiply(flat, block);
    codec_coarse_terms(codec, index_code(index, block->all ? block->first : 0),
                       block->all ? NULL : block->ids, block->n, block->scales, block->biases);
    for (size_t q = 0; q < flat->n; q++) {
        struct flat_scan *scan = &flat->scans[q];
        const struct query *query = &scan->scratch->query;
        float limit = codec_coarse_limit(query, &scan->coarse, scan->limit, block->most_lost);
        size_t n = codec->kernels->q8_pick(flat->dots + q * block->n, block->scales, block->biases,
                                           block->n, query->offset, query->c, limit, picked);
        for (size_t i = 0; i < n; i++) {
            picked[i] = block_slot(block, picked[i]);
        }
        codec_score_fine(query, index->graph.rows, picked, n, scores);
        TRY(consider(flat, scan, INFINITY, picked, scores, n, error));
    }
    return ANNEX_OK;
}

static annex_status scan_scores(const struct flat *flat, struct block *block, annex_error *error)
{
    const uint8_t *rows = index_code(flat->index, block->all ? block->first : 0);
    float scores[FLAT_BLOCK];
    const uint32_t *ids = block->all ? NULL : block->ids;
    for (size_t i = 0; block->all && i < block->n; i++) {
        block->ids[i] = block->first + (uint32_t)i;
    }
    for (size_t q = 0; q < flat->n; q++) {
        struct flat_scan *scan = &flat->scans[q];
        const struct query *query = &scan->scratch->query;
        float reach = codec_coarse_limit(query, &scan->coarse, scan->limit, block->most_lost);
        codec_score_fine(query, rows, ids, block->n, scores);
        TRY(consider(flat, scan, reach, block->ids, scores, block->n, error));
    }
    return ANNEX_OK;
}

static annex_status scan_block(const struct flat *flat, uint32_t *first, uint32_t end,
                               annex_error *error)
{
    struct block block;
    block_gather(flat, first, end, &block);
    uint64_t room = scratch_room(flat->scans[0].scratch); /* of all: they have seen the same rows */
    bool cut = block.n > room;
    block.n = MIN(block.n, room);
    block.most_lost = block_loss(flat->index, &block);
    for (size_t q = 0; q < flat->n; q++) {
        flat->scans[q].scratch->scanned += block.n;
        flat->scans[q].scratch->cut |= cut;
    }
    return flat->products ? scan_products(flat, &block, error) : scan_scores(flat, &block, error);
}

/* Asks whether to go on; what one query is told holds for all. */
static annex_status poll_scan(const struct flat *flat, annex_error *error)
{
    struct scratch *first = flat->scans[0].scratch;
    if (scratch_stops(first)) {
        TRY(scratch_halt(first, error));
        for (size_t q = 1; q < flat->n; q++) {
            flat->scans[q].scratch->cut = true;
        }
    }
    return ANNEX_OK;
}

annex_status flat_scan(const struct flat *flat, uint32_t first, uint32_t end, annex_error *error)
{
    const struct scratch *scratch = flat->scans[0].scratch;
    uint64_t poll_scores = flat->options->stop ? 1u << 14 : 1u << 16, scores = poll_scores;
    while (first < end && !scratch->cut) {
        TRY(scan_block(flat, &first, end, error));
        scores += FLAT_BLOCK * flat->n;
        if (scores >= poll_scores) {
            TRY(poll_scan(flat, error));
            scores = 0;
        }
    }
    return ANNEX_OK;
}

/* ---- beginning and ending --------------------------------------------------------------------*/

void flat_begin(struct flat *flat, float limit)
{
    const annex_place *after = flat->options->after;
    flat->floor = flat->clear = -INFINITY;
    if (after && flat->k) {
        /* The square of a negative distance is a place far behind. */
        bool first = flat->index->codec.metric == ANNEX_L2 && after->distance < 0;
        float order = first ? -INFINITY : codec_order(&flat->index->codec, after->distance);
        flat->floor = nextafterf(order, -INFINITY);
        flat->clear = nextafterf(order, INFINITY);
    }
    for (size_t q = 0; q < flat->n; q++) {
        struct flat_scan *scan = &flat->scans[q];
        scan->limit = limit;
        scan->compact_at = MAX(4 * flat->k, 4096);
        scan->scratch->n_items = scan->scratch->n_heap = 0;
        flat->products = codec_coarse_set(&scan->scratch->query, &scan->coarse);
    }
}

annex_status flat_merge(const struct flat *flat, struct flat_scan *scan,
                        const struct flat_scan *other, annex_error *error)
{
    const struct scratch *from = other->scratch;
    for (size_t i = 0; i < from->n_items; i++) {
        TRY(scratch_push(flat->index, scan->scratch, from->items[i].order, from->items[i].slot,
                         error));
    }
    for (size_t i = 0; i < from->n_heap; i++) {
        scratch_offer(scan->scratch, flat->k, from->heap[i]);
    }
    if (flat->k && scan->scratch->n_heap == flat->k) {
        scan->limit = MIN(scan->limit, scan->scratch->heap[0]);
    }
    scan->scratch->scanned += from->scanned;
    scan->scratch->cut |= from->cut;
    return ANNEX_OK;
}

void flat_settle(struct flat_scan *scan)
{
    scratch_keep_within(scan->scratch, scan->limit);
}

static annex_status scan_alone(annex_index *index, struct scratch *scratch, size_t k, float *limit,
                               const annex_search_options *options, annex_error *error)
{
    int32_t dots[FLAT_BLOCK];
    struct flat_scan scan = {.scratch = scratch};
    struct flat flat = {
        .index = index, .options = options, .k = k, .scans = &scan, .n = 1, .dots = dots};
    TRY(scratch_reserve_heap(index, scratch, k, error));
    flat_begin(&flat, *limit);
    TRY(flat_scan(&flat, 0, index->slots, error));
    flat_settle(&scan);
    *limit = scan.limit;
    return ANNEX_OK;
}

annex_status flat_nearest(annex_index *index, struct scratch *scratch, size_t k,
                          const annex_search_options *options, float *limit, annex_error *error)
{
    *limit = INFINITY;
    return scan_alone(index, scratch, k, limit, options, error);
}

annex_status flat_within(annex_index *index, struct scratch *scratch, float order,
                         const annex_search_options *options, annex_error *error)
{
    return scan_alone(index, scratch, 0, &order, options, error);
}
