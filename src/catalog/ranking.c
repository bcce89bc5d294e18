/*
 * ranking.c - the best k of what is offered, by (distance, key).
 *
 * While limited, the items are a binary heap with the worst first, so that an offer which is not
 * good enough costs one comparison. The bytes of keys that were accepted are kept in the arena,
 * also of those that were pushed out again: k log n of them, not n.
 */
#include "catalog/search.h"

#include <stdlib.h>

static int offer_compare(const struct offer *a, const struct offer *b)
{
    if (a->distance != b->distance) {
        return a->distance < b->distance ? -1 : 1;
    }
    return rowkey_compare(&a->key, &b->key);
}

static int offer_order(const void *a, const void *b)
{
    return offer_compare(a, b);
}

static void ranking_sink(struct offer *items, size_t n, struct offer item)
{
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) {
            break;
        }
        child += child + 1 < n && offer_compare(&items[child + 1], &items[child]) > 0;
        if (offer_compare(&item, &items[child]) >= 0) {
            break;
        }
        items[at] = items[child];
        at = child;
    }
    items[at] = item;
}

static void ranking_rise(struct offer *items, size_t at)
{
    struct offer item = items[at];
    while (at > 0 && offer_compare(&item, &items[(at - 1) / 2]) > 0) {
        items[at] = items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    items[at] = item;
}

static bool offer_is_behind(const struct offer *item, const annex_place *place)
{
    struct rowkey key = {place->key, place->key_bytes, place->n_key_bytes};
    return item->distance > place->distance ||
           (item->distance == place->distance &&
            (place->before_keys || rowkey_compare(&item->key, &key) > 0));
}

annex_status ranking_add(struct ranking *ranking, double distance, const struct rowkey *key,
                         annex_error *error)
{
    struct offer item = {distance, *key};
    struct offer *items = (struct offer *)ranking->items.data;
    bool full = !ranking->within && ranking->n == ranking->limit;
    if (ranking->within ? !(distance <= ranking->radius)
                        : full && (ranking->limit == 0 || offer_compare(&item, &items[0]) >= 0)) {
        return ANNEX_OK;
    }
    if (ranking->after != NULL && !offer_is_behind(&item, ranking->after)) {
        return ANNEX_OK;
    }
    if (key->bytes != NULL) {
        TRY(arena_text(ranking->arena, key->bytes, key->n_bytes, &item.key.bytes, error));
    }
    if (full) {
        ranking_sink(items, ranking->n, item);
        return ANNEX_OK;
    }
    TRY(buffer_append(ranking->env, &ranking->items, &item, sizeof item, error));
    if (!ranking->within) {
        ranking_rise((struct offer *)ranking->items.data, ranking->n);
    }
    ranking->n++;
    return ANNEX_OK;
}

/* Takes the worst off the heap again and again, which can be left in between. */
static annex_status ranking_sort_many(struct ranking *ranking, annex_error *error)
{
    struct offer *items = (struct offer *)ranking->items.data;
    for (size_t i = 1; ranking->within && i < ranking->n; i++) {
        ranking_rise(items, i);
        TRY(search_poll_at(ranking->env, i, error));
    }
    for (size_t end = ranking->n - 1; end > 0; end--) {
        struct offer last = items[end];
        items[end] = items[0];
        ranking_sink(items, end, last);
        TRY(search_poll_at(ranking->env, end, error));
    }
    return ANNEX_OK;
}

annex_status ranking_sort(struct ranking *ranking, struct offer **items, annex_error *error)
{
    enum { MANY = 1 << 16 };
    bool many = ranking->n > MANY && !ranking->sorted;
    *items = (struct offer *)ranking->items.data;
    if (many) {
        TRY(ranking_sort_many(ranking, error));
    } else if (ranking->n > 0 && !ranking->sorted) {
        qsort(*items, ranking->n, sizeof(struct offer), offer_order);
    }
    ranking->sorted = true;
    return ANNEX_OK;
}

void ranking_free(struct ranking *ranking)
{
    buffer_free(ranking->env, &ranking->items);
    ranking->n = 0;
    ranking->sorted = false;
}
