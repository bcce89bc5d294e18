/*
 * hybrid_fuse.c - two ranked lists become one.
 *
 * Invariants
 *   1. After fusing, each key is there once; rows are in the order of (score descending, key), so
 *      that the answer does not depend on the order of the lists or on the sort.
 *   2. A key is copied with its row: it outlives the search it came from.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite/hybrid/hybrid.h"

int hybrid_row_compare(const void *left, const void *right)
{
    const struct hybrid_row *a = left;
    const struct hybrid_row *b = right;
    int order = 0;

    for (size_t i = 0; i < a->key_columns && order == 0; i++) {
        order = keylist_compare(&a->key[i], &b->key[i]);
    }
    return order;
}

/* The values and behind them their bytes, in one allocation. */
static annex_value *hybrid_key_copy(const annex_value *key, size_t columns)
{
    size_t bytes = columns * sizeof *key;
    annex_value *copy;
    char *data;

    for (size_t i = 0; i < columns; i++) {
        bytes += key[i].bytes;
    }
    copy = sqlite3_malloc64(bytes);
    if (copy == NULL) {
        return NULL;
    }
    data = (char *)(copy + columns);
    for (size_t i = 0; i < columns; i++) {
        copy[i] = key[i];
        copy[i].data = data;
        if (key[i].bytes > 0) {
            memcpy(data, key[i].data, key[i].bytes);
        }
        data += key[i].bytes;
    }
    return copy;
}

struct hybrid_row *hybrid_rows_add(struct hybrid_rows *rows, const annex_value *key)
{
    struct hybrid_row *row;

    if (rows->n == rows->capacity) {
        size_t capacity = rows->capacity == 0 ? 64 : 2 * rows->capacity;
        struct hybrid_row *more = sqlite3_realloc64(rows->rows, capacity * sizeof *more);

        if (more == NULL) {
            return NULL;
        }
        rows->rows = more;
        rows->capacity = capacity;
    }
    row = &rows->rows[rows->n];
    *row = (struct hybrid_row){.key_columns = rows->key_columns, .distance = NAN, .bm25 = NAN};
    row->key = hybrid_key_copy(key, rows->key_columns);
    if (row->key == NULL) {
        return NULL;
    }
    rows->n++;
    return row;
}

static void hybrid_rows_cut(struct hybrid_rows *rows, size_t n)
{
    for (size_t i = n; i < rows->n; i++) {
        sqlite3_free(rows->rows[i].key);
    }
    rows->n = n;
}

void hybrid_rows_free(struct hybrid_rows *rows)
{
    hybrid_rows_cut(rows, 0);
    sqlite3_free(rows->rows);
    *rows = (struct hybrid_rows){0};
}

/* ---- Fusing -----------------------------------------------------------------------------------*/

static int hybrid_row_rank(const void *left, const void *right)
{
    const struct hybrid_row *a = left;
    const struct hybrid_row *b = right;

    if (a->score != b->score) {
        return a->score > b->score ? -1 : 1;
    }
    return hybrid_row_compare(a, b);
}

/* Neighbours of one key become the first of them. */
static void hybrid_rows_join(struct hybrid_rows *rows)
{
    size_t kept = 0;

    for (size_t i = 0; i < rows->n; i++) {
        struct hybrid_row *row = &rows->rows[i];
        struct hybrid_row *last = kept > 0 ? &rows->rows[kept - 1] : NULL;

        if (last == NULL || hybrid_row_compare(last, row) != 0) {
            rows->rows[kept++] = *row;
            continue;
        }
        for (int list = 0; list < HYBRID_LISTS; list++) {
            last->ranks[list] = last->ranks[list] == 0 ? row->ranks[list] : last->ranks[list];
        }
        last->distance = isnan(last->distance) ? row->distance : last->distance;
        last->bm25 = isnan(last->bm25) ? row->bm25 : last->bm25;
        sqlite3_free(row->key);
    }
    rows->n = kept;
}

void hybrid_rows_fuse(struct hybrid_rows *rows, const struct hybrid_options *options, size_t k)
{
    if (rows->n > 0) {
        qsort(rows->rows, rows->n, sizeof *rows->rows, hybrid_row_compare);
    }
    hybrid_rows_join(rows);
    for (size_t i = 0; i < rows->n; i++) {
        struct hybrid_row *row = &rows->rows[i];

        for (int list = 0; list < HYBRID_LISTS; list++) {
            if (row->ranks[list] > 0) {
                row->score += options->weights[list] / (options->rrf_k + (double)row->ranks[list]);
            }
        }
    }
    if (rows->n > 0) {
        qsort(rows->rows, rows->n, sizeof *rows->rows, hybrid_row_rank);
    }
    if (rows->n > k) {
        hybrid_rows_cut(rows, k);
    }
}
