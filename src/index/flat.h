/*
 * flat.h - scans for several queries and of parts of the rows: what exact.c makes answers of.
 */
#ifndef ANNEX_FLAT_H
#define ANNEX_FLAT_H

#include "index/index.h"

enum { FLAT_BLOCK = 256 }; /* rows that are scored while they are in the cache */

/* One query of a scan. Its candidates are left in scratch->items with their lower bounds. */
struct flat_scan {
    struct scratch *scratch;
    float limit; /* rows with a lower bound above it are no candidates */
    size_t compact_at;
    struct coarse coarse;
};

/* Queries that are scanned for together. */
struct flat {
    annex_index *index;
    const annex_search_options *options;
    size_t k; /* 0: all rows within the limit */
    /* Four or more: their prepared queries lie codec_query_bytes apart, in this order. */
    struct flat_scan *scans;
    size_t n;
    int32_t *dots; /* [n * FLAT_BLOCK] working memory */
    /* Set by flat_begin. */
    bool products; /* codes are multiplied: dots are used */
    /* Rows with an upper bound below `floor` are not behind options->after; those with a lower
     * bound above `clear` are, and the others are found out by rank.c. */
    float floor, clear;
};

/* For queries that are set and heaps that have room for k. */
void flat_begin(struct flat *flat, float limit);
/* Scans the passing rows of [first, end); may be called for one part of the rows after another. */
annex_status flat_scan(const struct flat *flat, uint32_t first, uint32_t end, annex_error *error);
/* Adds to `scan` what another scan for the same query found among other rows. */
annex_status flat_merge(const struct flat *flat, struct flat_scan *scan,
                        const struct flat_scan *other, annex_error *error);
/* Once all rows are scanned: removes candidates that turned out to be none. */
void flat_settle(struct flat_scan *scan);

#endif
