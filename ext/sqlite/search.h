/*
 * search.h - what planning (search_plan.c) and running (search.c) of annex_search and annex_within
 * share: the columns, and what a plan hands to xFilter.
 */
#ifndef ANNEX_EXT_SEARCH_H
#define ANNEX_EXT_SEARCH_H

#include "sqlite/extension.h"

enum {
    COLUMN_KEY = 0, /* and three more */
    COLUMN_DISTANCE = 4,
    COLUMN_INDEX, /* from here on hidden: the arguments … */
    COLUMN_QUERY,
    COLUMN_BOUND, /* k, or the distance of annex_within */
    COLUMN_OPTIONS,
    COLUMN_PLAN,     /* … how the answer was found, */
    COLUMN_COMPLETE, /* whether it was not cut, keys that few indexes have, … */
    COLUMN_KEY5,
    COLUMN_SOURCE = COLUMN_KEY5 + 4 /* and the source of a row */
};

#define SEARCH_VISIBLE_KEYS 4

/*
 * The values that xFilter gets, in this order, each if its bit in idxNum is set; then as many IN
 * lists on the key as the bits above count. SQLite filters by any more of them.
 */
enum {
    VALUE_INDEX,
    VALUE_QUERY,
    VALUE_BOUND,
    VALUE_OPTIONS,
    VALUE_LIMIT,  /* the rest is of use without a k only */
    VALUE_OFFSET, /* … and SQLite looks at it again */
    VALUE_LEAST,  /* distance >= */
    VALUE_MOST,   /* distance <= */
    VALUE_EQUAL,  /* distance = */
    VALUE_KEY,    /* key = */
    SEARCH_VALUES
};

#define SEARCH_ARGUMENTS (VALUE_OPTIONS + 1)
#define SEARCH_HAS(value) (1 << (value))
#define SEARCH_LISTS_SHIFT SEARCH_VALUES
#define SEARCH_MAX_LISTS 7

struct search_table {
    sqlite3_vtab base;
    struct connection *connection;
    bool within;
};

/* xBestIndex of both. */
int search_best_index(sqlite3_vtab *table, sqlite3_index_info *info);

#endif
