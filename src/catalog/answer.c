/*
 * answer.c - the fresh search of one index: what the caller's transaction would find if it compared
 * every row.
 *
 * Invariants
 *   1. Everything is read in one snapshot, held by the statement that found the index.
 *   2. A row that is answered exists in that snapshot with the vector its distance was computed
 *      from: candidates of segments are re-read from the table.
 *   3. A segment that cannot be used, lost triggers or a cut log cost time, never rows: the table
 *      itself is scanned, and a warning says so and what to run.
 */
#include "catalog/search.h"

/* ---- what there is to search ------------------------------------------------------------------*/

/* Whether segments that cannot be opened are a reason to do without them. */
static bool search_can_do_without(annex_status status)
{
    return status == ANNEX_DAMAGED || status == ANNEX_NOT_FOUND || status == ANNEX_TOO_NEW ||
           status == ANNEX_IO || status == ANNEX_UNSUPPORTED;
}

/* Finds out whether segments and log can be trusted; index->stale says why not. */
static annex_status search_look(struct search *search, annex_error *error)
{
    struct catalog_index *index = search->index;
    annex_error why = {ANNEX_OK, ""};
    TRY(catalog_inspect(search->db, index, error));
    if (index->stale.message[0] != '\0') {
        return ANNEX_OK;
    }
    annex_status status = store_open_all(search->db, index, &why);
    if (search_can_do_without(status)) {
        index->stale = why;
        return ANNEX_OK;
    }
    if (status != ANNEX_OK) {
        return error_set(error, status, "%s", why.message);
    }
    return delta_refresh(search->db, index, error);
}

static annex_status search_like(struct search *search, annex_error *error)
{
    const struct catalog_index *index = search->index;
    enum vector_state state = VECTOR_NONE;
    char text[KEY_TEXT_BYTES];
    TRY(source_fetch_row(&search->fetch, search->request->like, search->query, &state,
                         &search->skipped_bytes, &search->skipped, error));
    if (state != VECTOR_GOOD) {
        return error_set(error, ANNEX_NOT_FOUND,
                         "there is no row %s with a vector in table %s, within index %s",
                         rowkey_print(search->request->like, index->shape.n_columns, text),
                         index->table, index->name);
    }
    search->has_skipped = true;
    return ANNEX_OK;
}

static annex_status search_read_query(struct search *search, annex_error *error)
{
    size_t bytes = search->fetch.reader.bytes;
    TRY(memory_new_raw(&search->db->env, bytes, 1, &search->query, error));
    TRY(memory_new_raw(&search->db->env, bytes, 1, &search->vector, error));
    TRY(search->request->like != NULL
            ? search_like(search, error)
            : vector_read_query(&search->fetch.reader, &search->request->query, search->query,
                                error));
    annex_metric metric = search->fetch.reader.metric;
    uint32_t dimension = search->fetch.reader.dimension;
    TRY(memory_new_raw(&search->db->env, measure_bytes(metric, dimension), 1,
                       &search->measure_memory, error));
    measure_set(&search->measure, metric, dimension, search->measure_memory, search->query);
    return ANNEX_OK;
}

static void search_free_measure(struct search *search)
{
    if (search->measure_memory != NULL) {
        const struct vector_reader *reader = &search->fetch.reader;
        memory_free(&search->db->env, search->measure_memory,
                    measure_bytes(reader->metric, reader->dimension), 1);
    }
}

/* The rounds that it takes, and the choice among what they find. */
static annex_status search_answer(struct search *search, annex_error *error)
{
    const struct search_settings *settings = &search->settings;
    size_t k = search->request->k;
    size_t wanted = settings->has_mmr ? diversify_candidates(settings, k) : k;
    bool stale = search->index->stale.message[0] != '\0';
    TRY(filter_resolve(search->db, search->index, search->request, stale, &search->budget,
                       &search->filter, error));
    if (settings->group != NULL) {
        TRY(group_search(search, search->request->has_distance ? SIZE_MAX : wanted, error));
    } else {
        TRY(search_round(search, wanted, error));
    }
    return settings->has_mmr ? diversify(search, k, error) : ANNEX_OK;
}

/* What the options did, behind what the search did. */
static annex_status search_plan_options(struct search *search, annex_error *error)
{
    const struct search_settings *settings = &search->settings;
    annex_result *result = search->result;
    struct arena *arena = &result->arena;
    if (settings->group != NULL) {
        TRY(arena_printf(arena, &result->plan, error, "%s group=%s", result->plan,
                         settings->group));
    }
    if (settings->has_mmr) {
        TRY(arena_printf(arena, &result->plan, error, "%s mmr=%g of %zu", result->plan,
                         settings->mmr, diversify_candidates(settings, search->request->k)));
    }
    if (search->budget.cut == BUDGET_ROWS) {
        TRY(arena_printf(arena, &result->plan, error, "%s, cut at max_scan=%llu", result->plan,
                         (unsigned long long)settings->max_scan));
    } else if (search->budget.cut == BUDGET_TIME) {
        TRY(arena_printf(arena, &result->plan, error, "%s, cut after %u ms", result->plan,
                         settings->timeout_ms));
    }
    result->complete = search->budget.cut == BUDGET_GOOD;
    result->exact = !search->walked;
    return ANNEX_OK;
}

/* The place that the answer begins behind. */
static annex_status search_read_after(struct search *search, annex_error *error)
{
    const annex_db_request *request = search->request;
    struct rowkey key = {0};
    if (!request->has_after) {
        return ANNEX_OK;
    }
    if (request->after_key != NULL) {
        TRY(rowkey_encode(&search->db->env, search->index->shape, request->after_key,
                          &search->after_bytes, &key, error));
    }
    search->after = (annex_place){.distance = request->after_distance,
                                  .key = key.integer,
                                  .key_bytes = key.bytes,
                                  .n_key_bytes = key.n_bytes,
                                  .before_keys = request->after_key == NULL};
    search->ranking.after = &search->after;
    return ANNEX_OK;
}

/* Vectors of two models say nothing about each other, also when their dimensions are the same. */
static annex_status search_check_model(const struct search *search, annex_error *error)
{
    const struct catalog_index *index = search->index;
    const char *asked = search->settings.model, *held = index->definition.model;
    return asked == NULL || held[0] == '\0' || strcmp(asked, held) == 0
               ? ANNEX_OK
               : error_set(error, ANNEX_INVALID,
                           "index %s holds vectors of the model %s, and the query is of %s; embed "
                           "the query with %s, or search an index of the other model",
                           index->name, held, asked, held);
}

static annex_status search_name_source(struct search *search, annex_error *error)
{
    annex_result *result = search->result;
    const char *label = sources_label(search->index);
    TRY(arena_new(&result->arena, 1, sizeof *result->names, &result->names, error));
    return arena_text(&result->arena, label, strlen(label), result->names, error);
}

/* Everything between finding the index and the result; the snapshot is held by the caller. */
static annex_status search_run(struct search *search, annex_error *error)
{
    const annex_db_request *request = search->request;
    struct catalog_index *index = search->index;
    TRY(settings_parse(&search->result->arena, request->options, &search->settings, error));
    TRY(diversify_check(search, error));
    TRY(group_check(search, error));
    TRY(search_check_model(search, error));
    budget_begin(&search->budget, &search->settings, request->spent);
    TRY(search_look(search, error));
    TRY(search_name_source(search, error));
    if (!definition_is_complete(&index->definition)) { /* it was made over an empty table */
        TRY(source_learn(search->db, index, error));
    }
    if (!definition_is_complete(&index->definition)) {
        search->result->plan = "the index is empty";
        search->result->key_columns = index->shape.n_columns;
        return ANNEX_OK;
    }
    search->ranking = (struct ranking){.arena = &search->result->arena,
                                       .env = &search->db->env,
                                       .within = request->has_distance != 0,
                                       .radius = request->distance};
    TRY(source_fetch_open(search->db, index, &search->fetch, error));
    TRY(search_read_query(search, error));
    TRY(search_read_after(search, error));
    TRY(search_answer(search, error));
    TRY(search_plan_options(search, error));
    budget_end(&search->budget, request->spent);
    return result_fill(search->result, index->shape, &search->ranking, error);
}

annex_status search_index(annex_db *db, struct catalog_index *index,
                          const annex_db_request *request, annex_result **result,
                          annex_error *error)
{
    struct search search = {.db = db, .request = request, .index = index};
    struct definition *definition = &index->definition;
    annex_format format = definition->format;
    uint32_t dimension = definition->dimension;
    *result = NULL;
    TRY(result_new(&db->env, &search.result, error));
    annex_status status = search_run(&search, error);
    filter_free(db, index, &search.filter);
    memory_free(&db->env, search.query, search.fetch.reader.bytes, 1);
    memory_free(&db->env, search.vector, search.fetch.reader.bytes, 1);
    search_free_measure(&search);
    source_fetch_close(&search.fetch);
    definition->format = format; /* what was learned holds for this snapshot only */
    definition->dimension = dimension;
    if (search.ranking.env != NULL) {
        ranking_free(&search.ranking);
    }
    buffer_free(&db->env, &search.skipped_bytes);
    buffer_free(&db->env, &search.after_bytes);
    if (status != ANNEX_OK) {
        annex_result_free(search.result);
        return status;
    }
    *result = search.result;
    return ANNEX_OK;
}
