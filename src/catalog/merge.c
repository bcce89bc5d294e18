/*
 * merge.c - a search over several sources: each member of the index is asked in the snapshot that
 * the caller holds, and the answers are merged by (distance, key, source).
 *
 * Invariants
 *   1. An answer is that of one table with all rows in it: the k nearest of the k nearest of each.
 *   2. Keys are compared as SQLite compares values, whatever the members keep of them.
 *   3. The limits max_scan and timeout_ms hold for all members together.
 */
#include "catalog/search.h"

#include <math.h>
#include <stdlib.h>

/* A row of an answer. */
struct merge_row {
    double distance;
    const char *key; /* memcmp is the order */
    size_t n_key;
    uint32_t source;
    uint32_t row; /* in the answer of its source */
};

struct merge {
    annex_db *db;
    struct arena scratch;
    const annex_db_request *request;
    const char **names; /* [n], qualified */
    size_t *columns;    /* [n], of their keys */
    size_t n;
    annex_result **results; /* [n] */
    struct merge_row after; /* the place that the answer begins behind */
    annex_spent spent;      /* unless the request has its own */
    void *vector;           /* of the row that the query is like */
    size_t vector_bytes;
    annex_result *result;
};

/* ---- order -----------------------------------------------------------------------------------*/

static int merge_compare(const void *left, const void *right)
{
    const struct merge_row *a = left, *b = right;
    int order = (a->distance > b->distance) - (a->distance < b->distance);
    if (order == 0) {
        order = memcmp(a->key, b->key, MIN(a->n_key, b->n_key));
    }
    if (order == 0) {
        order = (a->n_key > b->n_key) - (a->n_key < b->n_key);
    }
    return order != 0 ? order : (a->source > b->source) - (a->source < b->source);
}

/* The bytes of a key of any shape; values behind the last that is not NULL are none of it. */
static annex_status merge_encode(struct merge *self, const annex_value *values, size_t n,
                                 struct merge_row *row, annex_error *error)
{
    struct buffer buffer = {0};
    struct rowkey key;
    while (n > 0 && values[n - 1].type == ANNEX_NULL) {
        n--;
    }
    struct rowkey_shape shape = {.integer = false, .n_columns = n};
    annex_status status = rowkey_encode(&self->db->env, shape, values, &buffer, &key, error);
    if (status == ANNEX_OK) {
        status = arena_text(&self->scratch, n > 0 ? key.bytes : "", key.n_bytes, &row->key, error);
        row->n_key = key.n_bytes;
    }
    buffer_free(&self->db->env, &buffer);
    return status;
}

/* ---- asking ----------------------------------------------------------------------------------*/

static annex_status merge_ask_once(struct merge *self, size_t source,
                                   const annex_db_request *request, annex_error *error)
{
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    annex_result_free(self->results[source]);
    self->results[source] = NULL;
    TRY(catalog_open(self->db, self->names[source], &index, &hold, error));
    annex_status status = search_index(self->db, index, request, &self->results[source], error);
    self->db->host->type->finish(hold);
    return status;
}

/* How many rows of an answer are behind the place that the merged one begins behind. */
static annex_status merge_count_behind(struct merge *self, size_t source, size_t *n,
                                       annex_error *error)
{
    const annex_result *result = self->results[source];
    size_t columns = result->key_columns, first = 0;
    for (bool before = true; before && first < result->n; first += before) {
        struct merge_row row = {.distance = result->distances[first], .source = (uint32_t)source};
        TRY(merge_encode(self, &result->keys[first * columns], columns, &row, error));
        before = merge_compare(&row, &self->after) <= 0;
    }
    *n = result->n - first;
    return ANNEX_OK;
}

/*
 * An answer that begins behind a place: members know no places in each other's order, so they are
 * asked for all rows from the distance on, and for more when too many are before the place.
 */
static annex_status merge_ask_after(struct merge *self, size_t source, annex_db_request *request,
                                    annex_error *error)
{
    size_t n = 0;
    bool more = true;
    request->after_key = NULL;
    while (more) {
        TRY(merge_ask_once(self, source, request, error));
        TRY(merge_count_behind(self, source, &n, error));
        more = n < self->request->k && self->results[source]->n >= request->k && request->k > 0;
        request->k = MIN(2 * request->k, SIZE_MAX / 4);
    }
    return ANNEX_OK;
}

static annex_status merge_ask(struct merge *self, size_t source, annex_error *error)
{
    annex_db_request request = *self->request;
    request.spent = request.spent != NULL ? request.spent : &self->spent;
    if (request.like != NULL && source != request.like_source) {
        request.like = NULL;
        request.query =
            (annex_value){.type = ANNEX_BLOB, .data = self->vector, .bytes = self->vector_bytes};
    }
    return request.has_after ? merge_ask_after(self, source, &request, error)
                             : merge_ask_once(self, source, &request, error);
}

/* ---- merging ---------------------------------------------------------------------------------*/

static annex_status merge_collect(struct merge *self, struct merge_row **rows, size_t *n,
                                  annex_error *error)
{
    size_t capacity = 0;
    *n = 0;
    for (size_t i = 0; i < self->n; i++) {
        capacity += self->results[i]->n;
    }
    TRY(arena_new(&self->scratch, capacity, sizeof **rows, rows, error));
    for (size_t i = 0; i < self->n; i++) {
        const annex_result *result = self->results[i];
        for (size_t j = 0; j < result->n; j++) {
            struct merge_row row = {
                .distance = result->distances[j], .source = (uint32_t)i, .row = (uint32_t)j};
            const annex_value *key = &result->keys[j * result->key_columns];
            TRY(search_poll_at(&self->db->env, *n, error));
            TRY(merge_encode(self, key, result->key_columns, &row, error));
            if (!self->request->has_after || merge_compare(&row, &self->after) > 0) {
                (*rows)[(*n)++] = row;
            }
        }
    }
    if (*n > 0) {
        qsort(*rows, *n, sizeof **rows, merge_compare);
    }
    if (!self->request->has_distance) {
        *n = MIN(*n, self->request->k);
    }
    return ANNEX_OK;
}

static annex_status merge_copy_key(struct arena *arena, const annex_value *from, annex_value *to,
                                   annex_error *error)
{
    const char *copy = NULL;
    *to = *from;
    if (from->type == ANNEX_TEXT || from->type == ANNEX_BLOB) {
        TRY(arena_text(arena, from->data, from->bytes, &copy, error));
        to->data = copy;
    }
    return ANNEX_OK;
}

static annex_status merge_fill(struct merge *self, const struct merge_row *rows, size_t n,
                               annex_error *error)
{
    annex_result *result = self->result;
    struct arena *arena = &result->arena;
    TRY(arena_new(arena, n, sizeof *result->distances, &result->distances, error));
    TRY(arena_new(arena, n, sizeof *result->sources, &result->sources, error));
    TRY(arena_new(arena, n * result->key_columns, sizeof *result->keys, &result->keys, error));
    for (size_t i = 0; i < n; i++) {
        const annex_result *from = self->results[rows[i].source];
        result->distances[i] = rows[i].distance;
        result->sources[i] = rows[i].source;
        for (size_t c = 0; c < from->key_columns; c++) {
            TRY(merge_copy_key(arena, &from->keys[rows[i].row * from->key_columns + c],
                               &result->keys[i * result->key_columns + c], error));
        }
    }
    result->n = n;
    return ANNEX_OK;
}

/* "posts: graph recall=0.95 …; tils: flat …" */
static annex_status merge_plan(struct merge *self, annex_error *error)
{
    annex_result *result = self->result;
    struct arena *arena = &result->arena;
    TRY(arena_new(arena, self->n, sizeof *result->names, &result->names, error));
    for (size_t i = 0; i < self->n; i++) {
        const annex_result *one = self->results[i];
        const char *name = one->names[0];
        TRY(arena_text(arena, name, strlen(name), &result->names[i], error));
        TRY(arena_printf(arena, &result->plan, error, "%s%s%s: %s", result->plan, i > 0 ? "; " : "",
                         name, one->plan));
        result->complete = result->complete && one->complete;
        result->exact = result->exact && one->exact;
    }
    return ANNEX_OK;
}

/* ---- all of it -------------------------------------------------------------------------------*/

/* Opens the members once, to know how wide their keys are. */
static annex_status merge_look(struct merge *self, const struct catalog_index *whole,
                               annex_error *error)
{
    const char *qualified = NULL;
    TRY(arena_printf(&self->scratch, &qualified, error, "%s.%s", whole->schema, whole->name));
    TRY(sources_list(self->db, &self->scratch, qualified, &self->names, &self->n, NULL, error));
    TRY(arena_new(&self->scratch, self->n, sizeof *self->results, &self->results, error));
    TRY(arena_new(&self->scratch, self->n, sizeof *self->columns, &self->columns, error));
    for (size_t i = 0; i < self->n; i++) {
        struct catalog_index *index = NULL;
        struct host_statement *hold = NULL;
        TRY(catalog_open(self->db, self->names[i], &index, &hold, error));
        self->db->host->type->finish(hold);
        self->columns[i] = index->shape.n_columns;
        self->result->key_columns = MAX(self->result->key_columns, self->columns[i]);
    }
    return ANNEX_OK;
}

/* The vector of the row that the answer is to be like, for the other sources. */
static annex_status merge_like(struct merge *self, annex_error *error)
{
    size_t source = self->request->like_source;
    annex_metric metric = 0;
    uint32_t dimension = 0;
    if (source >= self->n) {
        return error_set(error, ANNEX_INVALID,
                         "like_source is %zu, and the index has %zu sources, counted from 0",
                         source, self->n);
    }
    return annex_db_vector(self->db, self->names[source], self->request->like,
                           self->columns[source], &self->vector, &self->vector_bytes, &metric,
                           &dimension, error);
}

static annex_status merge_begin(struct merge *self, const struct catalog_index *index,
                                annex_error *error)
{
    const annex_db_request *request = self->request;
    struct search_settings settings;
    TRY(settings_parse(&self->scratch, request->options, &settings, error));
    if (settings.has_mmr || settings.group != NULL) {
        TRY(sources_refuse(index, settings.has_mmr ? "the option \"mmr\"" : "the option \"group\"",
                           error));
    }
    TRY(merge_look(self, index, error));
    if (request->like != NULL) {
        TRY(merge_like(self, error));
    }
    if (!request->has_after) {
        return ANNEX_OK;
    }
    self->after = (struct merge_row){.distance = request->after_distance, .key = ""};
    if (request->after_key == NULL) {
        self->after.distance = nextafter(request->after_distance, -INFINITY);
        return ANNEX_OK;
    }
    self->after.source = (uint32_t)request->after_source;
    return merge_encode(self, request->after_key, self->result->key_columns, &self->after, error);
}

annex_status search_merge(annex_db *db, struct catalog_index *index,
                          const annex_db_request *request, annex_result **result,
                          annex_error *error)
{
    struct merge self = {.db = db, .scratch = {&db->env, NULL}, .request = request};
    struct merge_row *rows = NULL;
    size_t n = 0;
    *result = NULL;
    TRY(result_new(&db->env, &self.result, error));
    annex_status status = merge_begin(&self, index, error);
    for (size_t i = 0; status == ANNEX_OK && i < self.n; i++) {
        status = merge_ask(&self, i, error);
    }
    TRY_CLEANUP(status);
    TRY_CLEANUP(merge_collect(&self, &rows, &n, error));
    TRY_CLEANUP(merge_fill(&self, rows, n, error));
    TRY_CLEANUP(merge_plan(&self, error));
    *result = self.result;
cleanup:
    for (size_t i = 0; self.results != NULL && i < self.n; i++) {
        annex_result_free(self.results[i]);
    }
    annex_db_free(db, self.vector, self.vector_bytes);
    arena_free(&self.scratch);
    if (status != ANNEX_OK) {
        annex_result_free(self.result);
    }
    return status;
}
