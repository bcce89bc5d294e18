/*
 * segments.c - the rows of one segment, offered to a search. Their distances are those of the
 * vectors that the table holds now.
 */
#include "catalog/search.h"

struct part_search {
    struct search *search;
    struct catalog_part *part;
};

/* annex_search_options.fetch: the vectors that the table holds now. */
static annex_status part_fetch(void *context, const uint32_t *rows, size_t n, void *vectors,
                               unsigned char *present, annex_error *error)
{
    struct part_search *self = context;
    struct source_fetch *fetch = &self->search->fetch;
    struct rowkey_shape shape = self->search->index->shape;
    for (size_t i = 0; i < n; i++) {
        char *vector = (char *)vectors + i * fetch->reader.bytes;
        enum vector_state state = VECTOR_NONE;
        struct rowkey key;
        TRY(part_row_key(self->part, shape, rows[i], &key, error));
        TRY(source_fetch_key(fetch, &key, vector, &state, error));
        present[i] = state == VECTOR_GOOD;
    }
    return ANNEX_OK;
}

/* annex_search_options.stop */
static int part_stop(void *context)
{
    struct search *search = context;
    return budget_is_over(&search->budget);
}

static void part_options(struct search *search, size_t part, struct part_search *context,
                         annex_search_options *options)
{
    const struct catalog_index *index = search->index;
    const struct search_settings *settings = &search->settings;
    *options = (annex_search_options)ANNEX_SEARCH_OPTIONS_INIT;
    options->effort = settings->effort;
    options->threads = settings->threads;
    options->recall = settings->recall;
    if (settings->effort == 0 && settings->recall == 0 && !search->request->has_distance) {
        options->recall = index->definition.recall;
    }
    if (search->request->exact) {
        options->effort = ANNEX_EFFORT_EXACT;
        options->recall = 0;
    }
    if (search->request->has_after) {
        options->after = &search->after;
    }
    if (settings->max_scan > 0) {
        options->max_scan = budget_room(&search->budget);
    }
    if (settings->timeout_ms > 0) {
        options->stop = part_stop;
        options->stop_context = search;
    }
    if (search->filter.active) {
        options->allowed = search->filter.allowed[part];
    } else if (index->parts[part].n_dead > 0 || index->delta.keys.n > 0) {
        options->allowed = index->parts[part].allowed;
    }
    options->fetch = part_fetch;
    options->fetch_context = context;
}

static annex_status search_offer_hits(struct search *search, const struct catalog_part *part,
                                      const annex_hit *hits, size_t n, annex_error *error)
{
    for (size_t i = 0; i < n; i++) {
        struct rowkey key;
        TRY(part_row_key(part, search->index->shape, hits[i].row, &key, error));
        if (!search_skips(search, &key)) {
            TRY(ranking_add(&search->ranking, hits[i].distance, &key, error));
        }
        TRY(search_poll_at(&search->db->env, i, error));
    }
    return ANNEX_OK;
}

static void search_count(struct search *search, const annex_search_stats *stats)
{
    search->budget.rows += stats->distances;
    search->walked = search->walked || stats->hops > 0;
    if (stats->cut > 0 && !budget_is_over(&search->budget)) {
        search->budget.cut = BUDGET_ROWS;
    }
}

annex_status search_part(struct search *search, size_t i, annex_error *error)
{
    struct catalog_part *part = &search->index->parts[i];
    const annex_env *env = &search->db->env;
    struct part_search context = {search, part};
    annex_search_options options;
    annex_search_stats stats = {0};
    annex_hit *hits = NULL;
    size_t n = 0;
    annex_status status = ANNEX_OK;
    if (budget_room(&search->budget) == 0 && part->slots > 0) {
        search->budget.cut = BUDGET_ROWS;
        return ANNEX_OK;
    }
    part_options(search, i, &context, &options);
    options.stats = &stats;
    if (search->request->has_distance) {
        TRY(engine_within(part->index, search->query, search->request->distance, &options, &hits,
                          &n, error));
        search_count(search, &stats);
        status = search_offer_hits(search, part, hits, n, error);
        engine_hits_free(part->index, hits, n);
        return status;
    }
    /* One more than asked for, in case the row that the query was taken from is among them. */
    size_t k = MIN(MIN(search->ranking.limit, part->slots) + search->has_skipped, part->slots);
    TRY(memory_new_raw(env, k, sizeof *hits, &hits, error));
    status = engine_search(part->index, search->query, k, &options, hits, &n, error);
    search_count(search, &stats);
    if (status == ANNEX_OK) {
        status = search_offer_hits(search, part, hits, n, error);
    }
    memory_free(env, hits, k, sizeof *hits);
    return status;
}
