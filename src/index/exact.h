/*
 * exact.h - exact answers for one query or many.
 */
#ifndef ANNEX_EXACT_H
#define ANNEX_EXACT_H

#include "index/index.h"

/* ---- exact.c ---------------------------------------------------------------------------------*/

/* What annex_index_search was asked for, checked. */
struct exact_search {
    annex_index *index;
    const annex_search_options *options;
    size_t k; /* at least 1, at most the live rows */
    const char *queries;
    size_t n_queries;
    annex_hit *hits;
    size_t hits_stride; /* of a query */
    size_t *found;
};

/* The nearest k of the query that was set, in scratch->items. */
annex_status exact_one(annex_index *index, struct scratch *scratch, size_t k,
                       const annex_search_options *options, annex_error *error);
/* How many threads the search is worth. */
unsigned exact_threads(const struct exact_search *search);
/* Each of the threads takes its scratch: scratches[threads], with what was counted. */
annex_status exact_many(const struct exact_search *search, struct scratch **scratches,
                        unsigned threads, annex_error *error);

#endif
