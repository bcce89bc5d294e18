/*
 * group.c - the option group: the best row of each group, as many groups as rows are wanted.
 *
 * Wider and wider searches are made until enough groups were found or the rows end. A group is what
 * GROUP BY makes one, by the bytes of texts: 1 and 1.0 are one value, and NULL is a group of its
 * own.
 */
#include "catalog/search.h"

struct grouping {
    struct search *search;
    struct host_statement *statement; /* the value of a row */
    struct rowkey_set seen;
    struct buffer buffer;
    bool null_seen;
};

static annex_status grouping_open(struct grouping *self, annex_error *error)
{
    annex_db *db = self->search->db;
    struct catalog_index *index = self->search->index;
    struct arena scratch = {&db->env, NULL};
    const char *condition = NULL, *column = NULL;
    annex_error why = {ANNEX_OK, ""};
    annex_status status = source_key_condition(index, &scratch, &condition, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(source_column(index, &scratch, self->search->settings.group, &column, error));
    status = host_prepare(db->host, &self->statement, &why, "SELECT %s FROM %s WHERE %s", column,
                          index->table_sql, condition);
    if (status != ANNEX_OK) {
        status = error_set(error, status == ANNEX_HOST ? ANNEX_INVALID : status,
                           "the rows cannot be grouped by %s: %s", self->search->settings.group,
                           why.message);
    }
cleanup:
    arena_free(&scratch);
    return status;
}

/* Whether the value is the first of its group. */
static annex_status grouping_is_new(struct grouping *self, const annex_value *value, bool *fresh,
                                    annex_error *error)
{
    const annex_env *env = &self->search->db->env;
    struct rowkey_shape shape = {.integer = false, .n_columns = 1};
    struct rowkey key;
    size_t position = 0;
    if (value->type == ANNEX_NULL) {
        *fresh = !self->null_seen;
        self->null_seen = true;
        return ANNEX_OK;
    }
    self->buffer.bytes = 0;
    annex_status status = rowkey_encode(env, shape, value, &self->buffer, &key, error);
    if (status == ANNEX_INVALID) {
        return error_set(error, ANNEX_INVALID,
                         "the rows cannot be grouped by %s: it has a value of %zu bytes, and the "
                         "longest may have 65,000",
                         self->search->settings.group, value->bytes);
    }
    TRY(status);
    return rowkey_set_add(env, &self->seen, &key, &position, fresh, error);
}

/* The same for a row. One that is gone is none. */
static annex_status grouping_look(struct grouping *self, const struct rowkey *key, bool *fresh,
                                  annex_error *error)
{
    annex_db *db = self->search->db;
    const struct host_type *type = db->host->type;
    struct rowkey_shape shape = self->search->index->shape;
    struct arena scratch = {&db->env, NULL};
    annex_value values[ANNEX_MAX_KEY_COLUMNS], value;
    bool row = false;
    *fresh = false;
    annex_status status = rowkey_decode(shape, key, &scratch, values, error);
    TRY_CLEANUP(status);
    for (size_t i = 0; i < shape.n_columns; i++) {
        TRY_CLEANUP(type->bind(self->statement, (int)i + 1, &values[i], error));
    }
    TRY_CLEANUP(type->step(self->statement, &row, error));
    if (row) {
        type->column(self->statement, 0, &value);
        status = grouping_is_new(self, &value, fresh, error);
    }
cleanup:
    type->reset(self->statement);
    arena_free(&scratch);
    return status;
}

/* Keeps the first row of each group, up to `wanted`. */
static annex_status grouping_keep(struct grouping *self, size_t wanted, annex_error *error)
{
    struct ranking *ranking = &self->search->ranking;
    struct offer *items = NULL;
    size_t kept = 0;
    rowkey_set_clear(&self->seen);
    self->null_seen = false;
    TRY(ranking_sort(ranking, &items, error));
    for (size_t i = 0; i < ranking->n && kept < wanted; i++) {
        bool fresh = false;
        if (kept > 0 && budget_is_over(&self->search->budget)) {
            break;
        }
        TRY(search_poll_at(&self->search->db->env, i, error));
        TRY(grouping_look(self, &items[i].key, &fresh, error));
        items[kept] = items[i];
        kept += fresh;
    }
    ranking->n = kept;
    return ANNEX_OK;
}

annex_status group_check(const struct search *search, annex_error *error)
{
    if (search->settings.group != NULL && search->request->goes_on) {
        return error_set(error, ANNEX_INVALID,
                         "the option \"group\" gives the best rows of k groups, and this search "
                         "has no k; give one");
    }
    return ANNEX_OK;
}

annex_status group_search(struct search *search, size_t wanted, annex_error *error)
{
    enum { LEAST_ROWS = 64, ROWS_A_GROUP = 4 };
    struct grouping self = {.search = search, .seen = {.integer = false}};
    size_t limit =
        MAX((size_t)LEAST_ROWS, wanted > SIZE_MAX / ROWS_A_GROUP ? wanted : ROWS_A_GROUP * wanted);
    annex_status status = grouping_open(&self, error);
    TRY_CLEANUP(status);
    for (bool more = wanted > 0; more;) {
        TRY_CLEANUP(search_round(search, limit, error));
        /* An answer with fewer rows than asked for has all there are. */
        more = !search->request->has_distance && search->ranking.n == limit;
        TRY_CLEANUP(grouping_keep(&self, wanted, error));
        more = more && search->ranking.n < wanted && !budget_is_over(&search->budget);
        limit = limit > SIZE_MAX / ROWS_A_GROUP ? SIZE_MAX : ROWS_A_GROUP * limit;
    }
cleanup:
    search->db->host->type->finish(self.statement);
    rowkey_set_free(&search->db->env, &self.seen);
    buffer_free(&search->db->env, &self.buffer);
    return status;
}
