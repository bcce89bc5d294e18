/*
 * search.h - how a question is answered: what the files of a search share.
 *
 * db_search.c reads the request; answer.c answers from one index, in rounds (round.c). A round
 * offers rows of segments (segments.c), of the delta (delta.c) or of the table (scan.c), as far as
 * the filter lets them pass, to a ranking; group.c, which may want more rounds, and diversify.c
 * choose among what was found; result.c hands it out. A budget may cut it short. An index over
 * several sources is searched source by source, and merge.c merges.
 */
#ifndef ANNEX_CATALOG_SEARCH_H
#define ANNEX_CATALOG_SEARCH_H

#include "catalog/catalog.h"

/* ---- settings.c, budget.c: what a search shall do, and may cost -------------------------------*/

struct search_settings {
    uint32_t effort; /* one of the two, or neither */
    double recall;
    uint32_t threads;
    uint32_t timeout_ms; /* 0: any */
    uint64_t max_scan;   /* 0: any */
    bool has_mmr;
    double mmr;
    uint32_t candidates; /* for mmr; 0: chosen */
    const char *group;   /* in the arena; NULL: none */
    const char *model;   /* that made the query; NULL: not said */
};

annex_status settings_parse(struct arena *arena, const char *options,
                            struct search_settings *settings, annex_error *error);

/* A clock that only goes forward. */
uint64_t budget_now_us(void);

enum budget_cut { BUDGET_GOOD = 0, BUDGET_ROWS = 1, BUDGET_TIME = 2 };

struct budget {
    uint64_t most_rows; /* 0: any */
    uint64_t rows;      /* looked at */
    uint64_t started_us, allowed_us;
    enum budget_cut cut; /* why the answer is not complete */
};

/* `spent` (may be NULL): by earlier searches that share the budget. */
void budget_begin(struct budget *budget, const struct search_settings *settings,
                  const annex_spent *spent);
uint64_t budget_room(const struct budget *budget);
/* Looks at the clock. */
bool budget_is_over(struct budget *budget);
/* One more row. False: it may not be looked at. */
bool budget_take_row(struct budget *budget);
void budget_end(const struct budget *budget, annex_spent *spent);

/* Long work asks whether it is still wanted: ANNEX_CANCELLED. */
annex_status search_poll(const annex_env *env, annex_error *error);
/* The same in every so many steps, of which `step` is one. */
#define SEARCH_POLL_STEPS 8192
annex_status search_poll_at(const annex_env *env, size_t step, annex_error *error);

/* ---- ranking.c, result.c ----------------------------------------------------------------------*/

struct offer {
    double distance;
    struct rowkey key;
};

/* The best `limit` by (distance, key); with `within`, all at most `radius` away. */
struct ranking {
    struct arena *arena; /* keeps the bytes of keys */
    const annex_env *env;
    struct buffer items; /* struct offer, a heap with the worst first while limited */
    size_t n;
    size_t limit;
    bool sorted; /* no heap any more */
    bool within;
    double radius;
    const annex_place *after; /* NULL, or only what is behind it */
};

annex_status ranking_add(struct ranking *ranking, double distance, const struct rowkey *key,
                         annex_error *error);
/* *items: [ranking->n], in order. Nothing can be added any more. */
annex_status ranking_sort(struct ranking *ranking, struct offer **items, annex_error *error);
void ranking_free(struct ranking *ranking);

/* ---- filter.c: rows that may be found ---------------------------------------------------------*/

/* So many are read from the table instead of searched for: reading a row costs ten times as much as
 * finding its place in the index, which has to be asked once. */
#define FILTER_SCAN_ROWS 100

/* A pre-filter, resolved to rows. */
struct filter {
    bool active;
    bool few;               /* `keys` is complete: reading them is cheaper than searching */
    struct rowkey_set keys; /* until there were too many of them */
    uint64_t **allowed;     /* then for each part a bitmap, within part->allowed */
    uint64_t *delta;        /* and one over the delta */
    size_t delta_words;
};

/* `table_only`: segments are not used, all keys are wanted. The filter is freed in every case. */
annex_status filter_resolve(annex_db *db, struct catalog_index *index,
                            const annex_db_request *request, bool table_only, struct budget *budget,
                            struct filter *filter, annex_error *error);
void filter_free(annex_db *db, const struct catalog_index *index, struct filter *filter);

/* ---- answer.c, round.c, merge.c: the search ---------------------------------------------------*/

/* A search on its way: what is looked for, and the best so far. */
struct search {
    annex_db *db;
    struct catalog_index *index;
    const annex_db_request *request;
    struct search_settings settings;
    struct budget budget;
    struct source_fetch fetch;
    void *query;
    void *vector; /* room for one */
    struct measure measure;
    void *measure_memory;
    struct filter filter;
    struct ranking ranking;
    bool has_skipped; /* the row that the query was taken from */
    struct rowkey skipped;
    struct buffer skipped_bytes;
    annex_place after; /* of the request */
    struct buffer after_bytes;
    bool walked; /* rows may have been missed */
    annex_result *result;
};

/* Searches one index, which has a table of its own; the caller holds the snapshot. */
annex_status search_index(annex_db *db, struct catalog_index *index,
                          const annex_db_request *request, annex_result **result,
                          annex_error *error);
/* The same for an index over several sources. */
annex_status search_merge(annex_db *db, struct catalog_index *index,
                          const annex_db_request *request, annex_result **result,
                          annex_error *error);
/* Fills the ranking with the nearest rows; `limit` of them unless within a distance. */
annex_status search_round(struct search *search, size_t limit, annex_error *error);

/* ---- segments.c, delta.c, scan.c: rows that are offered to the ranking ------------------------*/

/* Whether a row is the one that the query was taken from. */
bool search_skips(const struct search *search, const struct rowkey *key);
/* The rows of a segment. */
annex_status search_part(struct search *search, size_t part, annex_error *error);
/* The rows changed since the last sync. */
annex_status search_delta(struct search *search, annex_error *error);
/* All rows of the table that fulfil the request's condition. */
annex_status search_table(struct search *search, annex_error *error);
/* The rows of some keys: of all, or of those in the bitmap `allowed`. */
annex_status search_keys(struct search *search, const struct rowkey_set *keys,
                         const uint64_t *allowed, annex_error *error);

/* ---- group.c, diversify.c: rows chosen among those that were found ----------------------------*/

annex_status group_check(const struct search *search, annex_error *error);
/* The best rows of `wanted` groups, into the ranking. */
annex_status group_search(struct search *search, size_t wanted, annex_error *error);

#define DIVERSIFY_MOST_ROWS 10000
annex_status diversify_check(const struct search *search, annex_error *error);
/* How many rows mmr chooses from. */
size_t diversify_candidates(const struct search_settings *settings, size_t k);
/* Leaves k rows in the ranking. */
annex_status diversify(struct search *search, size_t k, annex_error *error);

/* ---- result.c ---------------------------------------------------------------------------------*/

struct annex_result {
    annex_env env;
    struct arena arena;
    size_t n, key_columns;
    double *distances;
    annex_value *keys; /* [n x key_columns] */
    const char *plan;
    const char **names; /* of the sources */
    uint32_t *sources;  /* [n] the source of each row; NULL: all are of the first */
    bool complete;
    bool exact;
};

annex_status result_new(const annex_env *env, annex_result **result, annex_error *error);
annex_status result_fill(annex_result *result, struct rowkey_shape shape, struct ranking *ranking,
                         annex_error *error);

#endif
