/*
 * similar.c - what `llm similar` finds: the items of one collection of llm that are most like a
 * vector, or like one of them, with their contents.
 *
 * Scores are computed as llm does: doubles summed from left to right, the dot product over the
 * shorter of the two vectors. An index only proposes candidates, some more than are wanted, because
 * its distances are of another arithmetic; without one every item is looked at.
 *
 * Invariants
 *   1. An item that is answered was read, and its score computed, in the snapshot of the answer.
 *   2. Items of one score come in the order of their ids.
 */
#include <math.h>
#include <stdlib.h>

#include "catalog/search.h"

/* Candidates beyond those that are wanted: as many may have scores that rounding mixes up. */
enum { SIMILAR_SPARE_ROWS = 32 };

struct similar {
    annex_db *db;
    const annex_db_similar_request *request;
    annex_similar *result;
    const char *schema, *schema_sql;
    int64_t collection;
    const char *id;       /* left out; NULL: none */
    const double *vector; /* of the question, [dimension] */
    size_t dimension;
    struct buffer rows; /* struct annex_similar_row */
    const char *where;  /* of the prefix and the id that is left out; "" */
};

struct annex_similar {
    annex_env env;
    struct arena arena;
    annex_similar_row *rows;
    size_t n;
};

/* ---- the arithmetic of llm -------------------------------------------------------------------*/

static double similar_length(const double *vector, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += vector[i] * vector[i];
    }
    return pow(sum, 0.5);
}

/* NaN when there is no score: one of them is zero. */
static double similar_score(const struct similar *self, const double *other, size_t n)
{
    double dot = 0;
    for (size_t i = 0; i < MIN(n, self->dimension); i++) {
        dot += other[i] * self->vector[i];
    }
    double lengths = similar_length(other, n) * similar_length(self->vector, self->dimension);
    return lengths > 0 ? dot / lengths : (double)NAN;
}

/* Best first; what has no score comes last. */
static int similar_compare(const void *left, const void *right)
{
    const annex_similar_row *a = left, *b = right;
    if (isnan(a->score) || isnan(b->score)) {
        return (isnan(a->score) != 0) - (isnan(b->score) != 0);
    }
    int order = (a->score < b->score) - (a->score > b->score);
    if (order == 0) {
        order = memcmp(a->id, b->id, MIN(a->id_bytes, b->id_bytes));
    }
    return order != 0 ? order : (a->id_bytes > b->id_bytes) - (a->id_bytes < b->id_bytes);
}

/* ---- items -----------------------------------------------------------------------------------*/

/* *copy = a column as text or blob in the result; NULL stays NULL. */
static annex_status similar_copy(struct similar *self, struct host_statement *statement, int column,
                                 annex_value *copy, annex_error *error)
{
    const char *data = NULL;
    self->db->host->type->column(statement, column, copy);
    if (copy->type == ANNEX_TEXT || copy->type == ANNEX_BLOB) {
        TRY(arena_text(&self->result->arena, copy->data, copy->bytes, &data, error));
        copy->data = data;
    }
    return ANNEX_OK;
}

/* A vector of the table, in the arena. */
static annex_status similar_vector(struct arena *arena, const annex_value *value,
                                   const double **vector, size_t *n, annex_error *error)
{
    double *copy = NULL;
    *n = value->type == ANNEX_BLOB ? value->bytes / sizeof(float) : 0;
    TRY(arena_new(arena, *n, sizeof *copy, &copy, error));
    for (size_t i = 0; i < *n; i++) {
        float element;
        memcpy(&element, (const char *)value->data + i * sizeof element, sizeof element);
        copy[i] = (double)element;
    }
    *vector = copy;
    return ANNEX_OK;
}

/* Takes the item under a statement of id, embedding, content, metadata. */
static annex_status similar_take(struct similar *self, struct host_statement *statement,
                                 annex_error *error)
{
    struct arena scratch = {&self->db->env, NULL};
    annex_similar_row row = {.score = (double)NAN};
    annex_value id, embedding;
    const double *vector = NULL;
    size_t n = 0;
    self->db->host->type->column(statement, 1, &embedding);
    annex_status status = similar_vector(&scratch, &embedding, &vector, &n, error);
    if (status == ANNEX_OK) {
        row.score = similar_score(self, vector, n);
    }
    arena_free(&scratch);
    if (status != ANNEX_OK || isnan(row.score)) {
        return status;
    }
    TRY(similar_copy(self, statement, 0, &id, error));
    TRY(similar_copy(self, statement, 2, &row.content, error));
    TRY(similar_copy(self, statement, 3, &row.metadata, error));
    row.id = id.data != NULL ? id.data : "";
    row.id_bytes = id.bytes;
    return buffer_append(&self->db->env, &self->rows, &row, sizeof row, error);
}

/* The items that fulfil a condition with one parameter. */
static annex_status similar_read(struct similar *self, struct host_statement *statement,
                                 annex_error *error)
{
    bool row = true;
    for (size_t i = 0;; i++) {
        TRY(search_poll_at(&self->db->env, i, error));
        TRY(self->db->host->type->step(statement, &row, error));
        if (!row) {
            return ANNEX_OK;
        }
        TRY(similar_take(self, statement, error));
    }
}

#define SIMILAR_SELECT                                                                      \
    "SELECT \"embeddings\".\"id\", \"embeddings\".\"embedding\", "                          \
    "\"embeddings\".\"content\", \"embeddings\".\"metadata\" FROM %s.\"embeddings\" WHERE " \
    "\"embeddings\".\"collection_id\" = %lld AND "

/* Every item of the collection. */
static annex_status similar_scan(struct similar *self, annex_error *error)
{
    struct host_statement *statement = NULL;
    annex_status status =
        host_prepare(self->db->host, &statement, error, SIMILAR_SELECT "(%s)", self->schema_sql,
                     (long long)self->collection, self->where[0] != '\0' ? self->where : "1");
    if (status == ANNEX_OK) {
        status = similar_read(self, statement, error);
    }
    self->db->host->type->finish(statement);
    return status;
}

/* The items that an index has found. */
static annex_status similar_take_found(struct similar *self, const annex_result *found,
                                       annex_error *error)
{
    const struct host_type *type = self->db->host->type;
    struct host_statement *statement = NULL;
    annex_status status =
        host_prepare(self->db->host, &statement, error, SIMILAR_SELECT "\"embeddings\".\"id\" = ?1",
                     self->schema_sql, (long long)self->collection);
    for (size_t i = 0; status == ANNEX_OK && i < found->n; i++) {
        TRY_CLEANUP(type->bind(statement, 1, &found->keys[i * found->key_columns + 1], error));
        status = similar_read(self, statement, error);
        type->reset(statement);
    }
cleanup:
    type->finish(statement);
    return status;
}

/* ---- the question ----------------------------------------------------------------------------*/

static annex_status similar_not_found(const char *what, annex_error *error)
{
    return error_set(error, ANNEX_NOT_FOUND, "%s", what); /* the words of llm */
}

/* The vector of the item that is asked about. */
static annex_status similar_read_id(struct similar *self, annex_error *error)
{
    struct host_statement *statement = NULL;
    annex_value embedding;
    bool row = false;
    annex_status status = host_prepare(
        self->db->host, &statement, error,
        "SELECT \"embedding\" FROM %s.\"embeddings\" WHERE \"collection_id\" = %lld AND "
        "\"id\" = ?1",
        self->schema_sql, (long long)self->collection);
    TRY_CLEANUP(status);
    TRY_CLEANUP(host_bind_text(self->db->host, statement, 1, self->id, error));
    TRY_CLEANUP(self->db->host->type->step(statement, &row, error));
    if (!row) {
        TRY_CLEANUP(similar_not_found("ID not found in collection", error));
    }
    self->db->host->type->column(statement, 0, &embedding);
    status =
        similar_vector(&self->result->arena, &embedding, &self->vector, &self->dimension, error);
cleanup:
    self->db->host->type->finish(statement);
    return status;
}

/* 'text' with its quotes doubled. */
static annex_status similar_literal(struct arena *arena, const char *text, const char **out,
                                    annex_error *error)
{
    char *to = NULL;
    size_t n = 0;
    TRY(arena_new(arena, 2 * strlen(text) + 3, 1, &to, error));
    to[n++] = '\'';
    for (; *text != '\0'; text++) {
        to[n++] = *text;
        if (*text == '\'') {
            to[n++] = '\'';
        }
    }
    to[n] = '\'';
    *out = to;
    return ANNEX_OK;
}

/* `%` and `_` in a prefix are wildcards, and ASCII letters have no case, as in llm. */
static annex_status similar_condition(struct similar *self, annex_error *error)
{
    struct arena *arena = &self->result->arena;
    const char *prefix = self->request->prefix, *literal = NULL;
    self->where = "";
    if (prefix != NULL && prefix[0] != '\0') {
        TRY(similar_literal(arena, prefix, &literal, error));
        TRY(arena_printf(arena, &self->where, error, "\"embeddings\".\"id\" LIKE %s || '%%'",
                         literal));
    }
    if (self->id != NULL) {
        TRY(similar_literal(arena, self->id, &literal, error));
        TRY(arena_printf(arena, &self->where, error, "%s%s\"embeddings\".\"id\" <> %s", self->where,
                         self->where[0] != '\0' ? " AND " : "", literal));
    }
    return ANNEX_OK;
}

/* Which schema has the table, and the number of the collection. */
static annex_status similar_find(struct similar *self, annex_error *error)
{
    struct arena *arena = &self->result->arena;
    const char **schemas = NULL, *model = NULL;
    size_t n = 0;
    bool present = false;
    TRY(self->db->host->type->schemas(self->db->host, arena, &schemas, &n, error));
    for (size_t i = 0; i < n && !present; i++) {
        TRY(self->db->host->type->has_table(self->db->host, schemas[i], "embeddings", &present,
                                            error));
        self->schema = schemas[i];
    }
    if (!present) {
        return similar_not_found("No embeddings table found in database", error);
    }
    TRY(host_quote(arena, self->schema, &self->schema_sql, error));
    TRY(collection_find(self->db, self->schema, self->request->collection, arena, &self->collection,
                        &model, error));
    return self->collection != 0 ? ANNEX_OK : similar_not_found("Collection does not exist", error);
}

/* ---- the index -------------------------------------------------------------------------------*/

/* Opens the member of an index over several sources that is the collection. */
static annex_status similar_open_member(struct similar *self, struct catalog_index **index,
                                        struct host_statement **hold, annex_error *error)
{
    const char *member = NULL;
    annex_status status = arena_printf(&self->result->arena, &member, error, "%s.%s.%s",
                                       (*index)->schema, (*index)->name, self->request->collection);
    self->db->host->type->finish(*hold);
    *hold = NULL;
    return status == ANNEX_OK ? catalog_open(self->db, member, index, hold, error) : status;
}

/* Opens the index that is named, or the default one; *index is NULL without a default. */
static annex_status similar_open(struct similar *self, struct catalog_index **index,
                                 struct host_statement **hold, annex_error *error)
{
    const char *name = self->request->index, *collection = self->request->collection;
    if (name == NULL) {
        return sources_default(self->db, collection, SOURCE_COLLECTION, index, hold, error);
    }
    TRY(catalog_open(self->db, name, index, hold, error));
    if ((*index)->definition.n_sources > 0) {
        TRY(similar_open_member(self, index, hold, error));
    }
    if (strcmp((*index)->definition.collection, collection) == 0) {
        return ANNEX_OK;
    }
    self->db->host->type->finish(*hold);
    *hold = NULL;
    return error_set(error, ANNEX_INVALID, "index %s is not over collection %s", name, collection);
}

/* False in *answered when the index cannot answer: vectors of other kinds are compared by llm. */
static annex_status similar_ask(struct similar *self, struct catalog_index *index, bool *answered,
                                annex_error *error)
{
    const struct definition *definition = &index->definition;
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    annex_result *found = NULL;
    float *query = NULL;
    *answered = definition->metric == ANNEX_COSINE && definition->format == ANNEX_F32 &&
                definition->dimension == self->dimension && definition->where[0] == '\0';
    if (!*answered) {
        return ANNEX_OK;
    }
    TRY(arena_new(&self->result->arena, self->dimension, sizeof *query, &query, error));
    for (size_t i = 0; i < self->dimension; i++) {
        query[i] = (float)self->vector[i];
    }
    request.query =
        (annex_value){.type = ANNEX_BLOB, .data = query, .bytes = self->dimension * sizeof *query};
    request.k = (size_t)self->request->number + SIMILAR_SPARE_ROWS;
    request.where = self->where;
    request.options = self->request->options;
    request.exact = self->request->options == NULL;
    TRY(search_index(self->db, index, &request, &found, error));
    annex_status status = similar_take_found(self, found, error);
    annex_result_free(found);
    return status;
}

static annex_status similar_run(struct similar *self, annex_error *error)
{
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    bool answered = false;
    enum { MOST_BY_INDEX = 1 << 20 };
    TRY(similar_find(self, error));
    if (self->id != NULL) {
        TRY(similar_read_id(self, error));
    }
    if (!(similar_length(self->vector, self->dimension) > 0)) {
        return error_set(error, ANNEX_INVALID,
                         "the vector to compare with is zero, and nothing is like it");
    }
    TRY(similar_condition(self, error));
    TRY(similar_open(self, &index, &hold, error));
    annex_status status = ANNEX_OK;
    if (index != NULL && self->request->number >= 0 && self->request->number < MOST_BY_INDEX) {
        status = similar_ask(self, index, &answered, error);
    }
    if (status == ANNEX_OK && !answered) {
        status = similar_scan(self, error);
    }
    self->db->host->type->finish(hold);
    return status;
}

/* ---- the answer ------------------------------------------------------------------------------*/

static annex_status similar_finish(struct similar *self, annex_error *error)
{
    annex_similar *result = self->result;
    size_t n = self->rows.bytes / sizeof *result->rows;
    int64_t number = self->request->number;
    TRY(arena_new(&result->arena, n, sizeof *result->rows, &result->rows, error));
    if (n > 0) {
        memcpy(result->rows, self->rows.data, self->rows.bytes);
        qsort(result->rows, n, sizeof *result->rows, similar_compare);
    }
    result->n = number >= 0 && (uint64_t)number < n ? (size_t)number : n;
    return ANNEX_OK;
}

annex_status annex_db_similar(annex_db *db, const annex_db_similar_request *request,
                              annex_similar **result, annex_error *error)
{
    struct similar self = {.db = db,
                           .request = request,
                           .id = request->id,
                           .vector = request->vector,
                           .dimension = request->dimension};
    struct host_statement *snapshot = NULL;
    bool row = false;
    *result = NULL;
    if (request->struct_bytes != sizeof *request ||
        (request->id == NULL) == (request->vector == NULL)) {
        return error_set(error, ANNEX_INVALID,
                         "annex_db_similar_request needs struct_bytes %zu, and either an id or a "
                         "vector",
                         sizeof *request);
    }
    TRY(memory_new(&db->env, 1, sizeof *self.result, &self.result, error));
    self.result->env = db->env;
    self.result->arena.env = &self.result->env;
    /* Held over all statements below, so that they see one snapshot. */
    annex_status status =
        host_prepare(db->host, &snapshot, error, "SELECT 1 FROM sqlite_schema UNION ALL SELECT 1");
    TRY_CLEANUP(status);
    TRY_CLEANUP(db->host->type->step(snapshot, &row, error));
    TRY_CLEANUP(similar_run(&self, error));
    TRY_CLEANUP(similar_finish(&self, error));
    *result = self.result;
cleanup:
    db->host->type->finish(snapshot);
    buffer_free(&db->env, &self.rows);
    if (status != ANNEX_OK) {
        annex_similar_free(self.result);
    }
    return status;
}

size_t annex_similar_count(const annex_similar *result)
{
    return result->n;
}

const annex_similar_row *annex_similar_at(const annex_similar *result, size_t i)
{
    assert(i < result->n);
    return &result->rows[i];
}

void annex_similar_free(annex_similar *result)
{
    if (result == NULL) {
        return;
    }
    annex_env env = result->env;
    arena_free(&result->arena);
    memory_free(&env, result, 1, sizeof *result);
}
