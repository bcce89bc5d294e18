/*
 * round.c - one round of a search: the nearest rows of segments and delta, of a few rows that a
 * filter named, or of the table when the index is stale; and the plan, which says which of them.
 */
#include "catalog/search.h"

static const char *search_filter_name(const annex_db_request *request)
{
    bool where = request->where != NULL && request->where[0] != '\0';
    return request->has_keys && where ? " filter=keys+where"
           : request->has_keys        ? " filter=keys"
           : where                    ? " filter=where"
                                      : "";
}

static annex_status search_plan_segments(struct search *search, annex_error *error)
{
    const struct catalog_index *index = search->index;
    const struct search_settings *settings = &search->settings;
    const char *effort = NULL, *family = "delta";
    struct arena *arena = &search->result->arena;
    uint64_t largest = 0;
    for (size_t i = 0; i < index->n_parts; i++) {
        if (index->parts[i].slots >= largest) {
            largest = index->parts[i].slots;
            family = index->parts[i].family;
        }
    }
    if (settings->effort == ANNEX_EFFORT_EXACT || search->request->exact ||
        search->request->has_after ||
        (search->request->has_distance && settings->effort == 0 && settings->recall == 0)) {
        effort = "effort=exact";
    } else if (settings->effort > 0) {
        TRY(arena_printf(arena, &effort, error, "effort=%u", settings->effort));
    } else {
        TRY(arena_printf(arena, &effort, error, "recall=%g",
                         settings->recall > 0 ? settings->recall : index->definition.recall));
    }
    return arena_printf(arena, &search->result->plan, error, "%s %s segments=%zu delta=%zu%s",
                        family, effort, index->n_parts, index->delta.keys.n,
                        search_filter_name(search->request));
}

static annex_status search_stale(struct search *search, annex_error *error)
{
    const struct catalog_index *index = search->index;
    log_message(&search->db->env, ANNEX_LOG_WARNING,
                "index %s is stale, the table itself is searched: %s", index->name,
                index->stale.message);
    TRY(arena_printf(&search->result->arena, &search->result->plan, error,
                     "exact scan of the table%s (stale: %s)", search_filter_name(search->request),
                     index->stale.message));
    return search->filter.active && search->request->has_keys
               ? search_keys(search, &search->filter.keys, NULL, error)
               : search_table(search, error);
}

annex_status search_round(struct search *search, size_t limit, annex_error *error)
{
    enum { STALE_ROWS = 1 << 18 }; /* rather than to read the table again soon */
    struct catalog_index *index = search->index;
    bool stale = index->stale.message[0] != '\0';
    bool few = search->filter.active && search->filter.few;
    ranking_free(&search->ranking);
    if (search->request->goes_on && (stale || few)) {
        limit = MAX(limit, stale ? (size_t)STALE_ROWS : search->filter.keys.n);
    }
    search->ranking.limit = limit;
    if (stale) {
        return search_stale(search, error);
    }
    if (few) {
        TRY(arena_printf(&search->result->arena, &search->result->plan, error,
                         "exact scan of %zu rows%s", search->filter.keys.n,
                         search_filter_name(search->request)));
        return search_keys(search, &search->filter.keys, NULL, error);
    }
    TRY(search_plan_segments(search, error));
    TRY(search_delta(search, error)); /* first: what is new should be found within any budget */
    for (size_t i = 0; i < index->n_parts; i++) {
        TRY(search_part(search, i, error));
    }
    return ANNEX_OK;
}
