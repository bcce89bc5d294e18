/*
 * rank.c - exact distances for candidates, and their final order.
 */
#include <math.h>

#include "index/index.h"

/* ---- order -----------------------------------------------------------------------------------*/

static bool rank_before(const annex_index *index, struct ranked a, struct ranked b)
{
    if (a.order != b.order) {
        return a.order < b.order;
    }
    return key_compare(key_of(index, a.slot), key_of(index, b.slot)) < 0;
}

static void rank_sink(const annex_index *index, struct ranked *items, size_t n, size_t i)
{
    struct ranked item = items[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) {
            break;
        }
        child += child + 1 < n && rank_before(index, items[child], items[child + 1]);
        if (!rank_before(index, item, items[child])) {
            break;
        }
        items[i] = items[child];
        i = child;
    }
    items[i] = item;
}

/* Long sorts look from time to time whether they are still wanted. */
static annex_status rank_poll(struct scratch *scratch, size_t i, annex_error *error)
{
    enum { POLL_STEPS = 1 << 14 };
    if (i % POLL_STEPS == 0 && i > 0) {
        bool cut = scratch->cut; /* what was found is sorted in any case */
        (void)scratch_stops(scratch);
        scratch->cut = cut;
        return scratch_halt(scratch, error);
    }
    return ANNEX_OK;
}

enum { NEARLY_SORTED = 256 }; /* items of a walk come in the order of their codes' distances */

/* Heapsort: in place, no worst case, and the comparison needs the index. */
annex_status rank_sort(annex_index *index, struct scratch *scratch, annex_error *error)
{
    struct ranked *items = scratch->items;
    size_t n = scratch->n_items;
    if (n <= NEARLY_SORTED) {
        for (size_t i = 1; i < n; i++) {
            struct ranked item = items[i];
            size_t j = i;
            for (; j > 0 && rank_before(index, item, items[j - 1]); j--) {
                items[j] = items[j - 1];
            }
            items[j] = item;
        }
        return ANNEX_OK;
    }
    for (size_t i = n / 2; i-- > 0;) {
        rank_sink(index, items, n, i);
        TRY(rank_poll(scratch, i, error));
    }
    for (size_t end = n - 1; end > 0; end--) {
        TRY(rank_poll(scratch, end, error));
        struct ranked swap = items[0];
        items[0] = items[end];
        items[end] = swap;
        rank_sink(index, items, end, 0);
    }
    return ANNEX_OK;
}

/* ---- exact distances -------------------------------------------------------------------------*/

/* Exact order distances from vectors that the caller of the search supplies. */
static annex_status from_fetch(annex_index *index, struct scratch *scratch,
                               const annex_search_options *options, struct ranked *items, size_t n,
                               unsigned char *present, annex_error *error)
{
    uint32_t slots[RANK_BLOCK];
    size_t vector_bytes = codec_vector_bytes(&index->codec);
    for (size_t i = 0; i < n; i++) {
        slots[i] = items[i].slot;
        present[i] = 0;
    }
    TRY(options->fetch(options->fetch_context, slots, n, scratch->vectors, present, error));
    for (size_t i = 0; i < n; i++) {
        char *vector = (char *)scratch->vectors + i * vector_bytes;
        if (!present[i]) {
            continue;
        }
        if (index->codec.metric == ANNEX_COSINE) {
            present[i] = codec_normalize((float *)vector, (float *)vector, index->codec.dimension);
        }
        if (index_stored(index) != ANNEX_CODES_AUTO) { /* codes and bounds are of such vectors */
            const float *given = (const float *)(const void *)vector;
            stored_round(&index->codec, index_stored(index), given, (float *)(void *)vector);
        }
        items[i].order = codec_exact(&scratch->query, vector);
        present[i] = present[i] && !isnan(items[i].order); /* no distance: nothing to be found */
    }
    return ANNEX_OK;
}

static void prefetch_raw(const annex_index *index, struct ranked item, size_t bytes)
{
    const char *raw = index_raw(index, item.slot);
    for (size_t j = 0; j < bytes; j += 64) {
        __builtin_prefetch(raw + j);
    }
}

static void from_raw(const annex_index *index, struct scratch *scratch, struct ranked *items,
                     size_t n)
{
    enum { AHEAD = 8 }; /* more would not fit the first cache together */
    annex_codes stored = index_stored(index);
    size_t bytes = stored_bytes(&index->codec, stored);
    for (size_t i = 0; i < MIN(n, AHEAD); i++) {
        prefetch_raw(index, items[i], bytes);
    }
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            prefetch_raw(index, items[i + AHEAD], bytes);
        }
        items[i].order = stored_exact(&scratch->query, stored, index_raw(index, items[i].slot));
    }
}

/*
 * Codes that lose nothing, or nothing better than codes: their own distance. Items of lists come
 * with that.
 */
static void from_codes(const annex_index *index, struct scratch *scratch, struct ranked *items,
                       size_t n)
{
    n = index->header.family == ANNEX_IVF ? 0 : n;
    for (size_t i = 0; i < n; i++) {
        if (index->codec.lossless && !scratch->query.exact) {
            codec_decode(&index->codec, index_code(index, items[i].slot), scratch->vectors);
            items[i].order = codec_exact(&scratch->query, scratch->vectors);
        } else {
            codec_score_fine(&scratch->query, index->graph.rows, &items[i].slot, 1,
                             &items[i].order);
        }
    }
}

static annex_status rank_block(annex_index *index, struct scratch *scratch,
                               const annex_search_options *options, struct ranked *items, size_t *n,
                               size_t *dropped, annex_error *error)
{
    scratch->reranked += *n;
    if (options->fetch) {
        unsigned char present[RANK_BLOCK];
        TRY(from_fetch(index, scratch, options, items, *n, present, error));
        size_t kept = 0;
        for (size_t i = 0; i < *n; i++) {
            items[kept] = items[i];
            kept += present[i] != 0;
        }
        *dropped += *n - kept;
        *n = kept;
    } else if (index->raw) {
        from_raw(index, scratch, items, *n);
    } else {
        from_codes(index, scratch, items, *n);
    }
    return ANNEX_OK;
}

/* Keeps the items behind options->after; returns how many they are. */
static size_t rank_keep_behind(const annex_index *index, const annex_place *after,
                               struct ranked *items, size_t n)
{
    struct key_view key = {after->key, after->key_bytes, after->n_key_bytes};
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        double distance = codec_distance(&index->codec, items[i].order);
        bool behind = distance > after->distance ||
                      (distance == after->distance &&
                       (after->before_keys || key_compare(key_of(index, items[i].slot), key) > 0));
        items[kept] = items[i];
        kept += behind;
    }
    return kept;
}

annex_status rank_exact(annex_index *index, struct scratch *scratch, size_t k,
                        const annex_search_options *options, size_t *dropped, annex_error *error)
{
    struct ranked *items = scratch->items;
    size_t n = scratch->n_items, done = 0; /* items[0, done) are exact */
    *dropped = 0;
    scratch->n_heap = 0;
    TRY(scratch_reserve_heap(index, scratch, k, error));
    for (size_t i = 0; i < n;) {
        /* Bounds ascend: once k exact ones are below the next bound, no later row can matter. */
        if (k && scratch->n_heap == k && items[i].order > scratch->heap[0]) {
            break;
        }
        if (options->stop && i > 0 && scratch_stops(scratch)) {
            TRY(scratch_halt(scratch, error));
            break;
        }
        size_t count = MIN(n - i, RANK_BLOCK);
        if (done < i) {
            memmove(items + done, items + i, count * sizeof *items);
        }
        i += count;
        TRY(rank_block(index, scratch, options, items + done, &count, dropped, error));
        if (options->after) {
            count = rank_keep_behind(index, options->after, items + done, count);
        }
        for (size_t j = 0; k && j < count; j++) {
            scratch_offer(scratch, k, items[done + j].order);
        }
        done += count;
    }
    scratch->n_items = done;
    return rank_sort(index, scratch, error);
}

void rank_write_hits(const annex_index *index, const struct scratch *scratch, size_t n,
                     annex_hit *hits)
{
    bool integers = index->header.key_kind == ANNEX_KEY_INTEGER;
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = scratch->items[i].slot;
        hits[i] = (annex_hit){.distance = codec_distance(&index->codec, scratch->items[i].order),
                              .key = integers ? index->keys[slot] : 0,
                              .row = slot};
    }
}
