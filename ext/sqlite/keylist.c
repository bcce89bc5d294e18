/*
 * keylist.c - the keys that `key IN (…)` allows, read all at once from SQLite.
 *
 * Invariant: text and blobs of a key belong to a copy of its value, kept in `owners`. Keys are
 * compared as SQLite compares values without affinity: numbers by value, then text, then blobs by
 * their bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "sqlite/extension.h"

static int keylist_grow(struct keylist *list)
{
    size_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
    annex_value *keys = sqlite3_realloc64(list->keys, capacity * sizeof *keys);
    sqlite3_value **owners;

    if (keys == NULL) {
        return SQLITE_NOMEM;
    }
    list->keys = keys;
    owners = sqlite3_realloc64(list->owners, capacity * sizeof(sqlite3_value *));
    if (owners == NULL) {
        return SQLITE_NOMEM;
    }
    list->owners = owners;
    list->capacity = capacity;
    return SQLITE_OK;
}

int keylist_add(struct keylist *list, sqlite3_value *value)
{
    sqlite3_value *owner = NULL;
    int type = sqlite3_value_type(value);

    if (type == SQLITE_NULL) {
        return SQLITE_OK;
    }
    if (list->n == list->capacity && keylist_grow(list) != SQLITE_OK) {
        return SQLITE_NOMEM;
    }
    if (type == SQLITE_TEXT || type == SQLITE_BLOB) {
        owner = sqlite3_value_dup(value);
        if (owner == NULL) {
            return SQLITE_NOMEM;
        }
    }
    list->keys[list->n] = connection_value(owner == NULL ? value : owner);
    list->owners[list->n] = owner;
    list->n++;
    return SQLITE_OK;
}

/* SQLITE_INTERRUPT from time to time, when that is what the user wants. */
static int keylist_poll(const struct keylist *list, size_t i)
{
    enum { POLL_KEYS = 1 << 15 };
    bool stop = list->connection != NULL && i % POLL_KEYS == POLL_KEYS - 1 &&
                connection_is_interrupted(list->connection);

    return stop ? SQLITE_INTERRUPT : SQLITE_OK;
}

int keylist_read(struct keylist *list, sqlite3_value *argument)
{
    sqlite3_value *value = NULL;
    int code = sqlite3_vtab_in_first(argument, &value);

    while (code == SQLITE_OK && value != NULL) {
        code = keylist_add(list, value);
        if (code == SQLITE_OK) {
            code = keylist_poll(list, list->n);
        }
        if (code == SQLITE_OK) {
            code = sqlite3_vtab_in_next(argument, &value);
        }
    }
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

void keylist_free(struct keylist *list)
{
    for (size_t i = 0; i < list->n; i++) {
        sqlite3_value_free(list->owners[i]);
    }
    sqlite3_free(list->owners);
    sqlite3_free(list->keys);
    *list = (struct keylist){0};
}

/* ---- Two lists at once: key IN (…) AND key IN (…) ---------------------------------------------*/

static int keylist_class(const annex_value *value)
{
    return value->type == ANNEX_REAL ? ANNEX_INTEGER : (int)value->type;
}

static int keylist_compare_numbers(const annex_value *a, const annex_value *b)
{
    if (a->type == ANNEX_INTEGER && b->type == ANNEX_INTEGER) {
        return (a->integer > b->integer) - (a->integer < b->integer);
    }
    /* long double holds every int64 and every double on the machines that matter; elsewhere two
     * keys beyond 2^53 may count as equal, and SQLite, which looks again, tells them apart. */
    long double x = a->type == ANNEX_INTEGER ? (long double)a->integer : (long double)a->real;
    long double y = b->type == ANNEX_INTEGER ? (long double)b->integer : (long double)b->real;

    return (x > y) - (x < y);
}

int keylist_compare(const void *left, const void *right)
{
    const annex_value *a = left;
    const annex_value *b = right;
    int order = keylist_class(a) - keylist_class(b);

    if (order != 0) {
        return order;
    }
    if (keylist_class(a) == ANNEX_INTEGER) {
        return keylist_compare_numbers(a, b);
    }
    order = memcmp(a->data, b->data, a->bytes < b->bytes ? a->bytes : b->bytes);
    return order != 0 ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

void keylist_sort(struct keylist *list)
{
    size_t i = 1;

    /* SQLite gives lists in order, mostly, and sorting a long one cannot be interrupted. */
    while (i < list->n && keylist_compare(&list->keys[i - 1], &list->keys[i]) <= 0) {
        i++;
    }
    if (i < list->n) {
        qsort(list->keys, list->n, sizeof *list->keys, keylist_compare);
    }
}

bool keylist_holds(const struct keylist *list, const annex_value *key)
{
    return list->n > 0 &&
           bsearch(key, list->keys, list->n, sizeof *list->keys, keylist_compare) != NULL;
}

int keylist_intersect(struct keylist *list, struct keylist *other)
{
    size_t kept = 0;

    keylist_sort(other);
    for (size_t i = 0; i < list->n; i++) {
        if (keylist_poll(list, i) != SQLITE_OK) {
            return SQLITE_INTERRUPT;
        }
        if (keylist_holds(other, &list->keys[i])) {
            sqlite3_value *owner = list->owners[kept];

            list->keys[kept] = list->keys[i];
            list->owners[kept] = list->owners[i];
            list->owners[i] = owner;
            kept++;
        }
    }
    for (size_t i = kept; i < list->n; i++) {
        sqlite3_value_free(list->owners[i]);
    }
    list->n = kept;
    return SQLITE_OK;
}
