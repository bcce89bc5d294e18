/*
 * propose.c - an answer from the rows that a plug-in proposes: they are looked at again, with the
 * vectors that the table has, and rows that are missing up to k are found by looking at all.
 *
 * Invariants
 *   1. min(k, rows that pass) rows are found, unless max_scan or stop ended the search.
 *   2. A row number that the segment does not have, or one given twice, ends the search with an
 *      error: such an engine cannot be trusted with the others.
 */
#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>

enum { PROPOSE_BATCH = 64 };

struct proposal {
    const struct engine_index *index;
    const annex_search_options *options;
    const void *query;
    double radius; /* rows farther away are no hits */
    annex_search_stats stats;
    annex_hit *hits; /* [frame.rows] */
    size_t n;
    uint64_t *seen; /* bitmap over rows: looked at */
    void *vectors;  /* [PROPOSE_BATCH] */
    uint32_t rows[PROPOSE_BATCH];
    size_t n_rows;
    bool over; /* max_scan or stop */
};

static size_t proposal_vector_bytes(const struct proposal *self)
{
    return annex_vector_bytes(self->index->frame.metric, self->index->frame.dimension);
}

static void proposal_close(struct proposal *self)
{
    const annex_env *env = &self->index->env;
    memory_free(env, self->seen, bitmap_words(self->index->frame.rows), sizeof *self->seen);
    memory_free(env, self->vectors, PROPOSE_BATCH, proposal_vector_bytes(self));
    memory_free(env, self->hits, self->index->frame.rows, sizeof *self->hits);
}

static annex_status proposal_open(struct proposal *self, annex_error *error)
{
    const annex_env *env = &self->index->env;
    uint32_t rows = self->index->frame.rows;
    assert(self->options->fetch != NULL && self->options->accept == NULL);
    TRY(memory_new_raw(env, rows, sizeof *self->hits, &self->hits, error));
    TRY(memory_new(env, bitmap_words(rows), sizeof *self->seen, &self->seen, error));
    return memory_new_raw(env, PROPOSE_BATCH, proposal_vector_bytes(self), &self->vectors, error);
}

/* ---- distances --------------------------------------------------------------------------------*/

/* Whether a row comes behind the place where the answer shall begin. */
static bool proposal_is_behind(const struct proposal *self, uint32_t row, double distance)
{
    const annex_place *after = self->options->after;
    if (after == NULL || distance > after->distance) {
        return true;
    }
    return distance == after->distance &&
           (after->before_keys || frame_compare_key(&self->index->frame, row, after->key,
                                                    after->key_bytes, after->n_key_bytes) > 0);
}

/* Reads the vectors of the rows that were collected, and keeps those that are hits. */
static annex_status proposal_measure(struct proposal *self, annex_error *error)
{
    const struct frame *frame = &self->index->frame;
    double distances[PROPOSE_BATCH];
    unsigned char present[PROPOSE_BATCH];
    size_t n = self->n_rows;
    self->n_rows = 0;
    TRY(self->options->fetch(self->options->fetch_context, self->rows, n, self->vectors, present,
                             error));
    size_t kept = 0, bytes = proposal_vector_bytes(self);
    for (size_t i = 0; i < n; i++) {
        if (present[i]) { /* the others have no vector that could be read */
            char *vectors = self->vectors;
            memmove(vectors + kept * bytes, vectors + i * bytes, bytes);
            self->rows[kept++] = self->rows[i];
        }
    }
    TRY(annex_distances(frame->metric, frame->dimension, self->query, self->vectors, kept,
                        distances, error));
    for (size_t i = 0; i < kept; i++) {
        uint32_t row = self->rows[i];
        if (distances[i] <= self->radius && proposal_is_behind(self, row, distances[i])) {
            int64_t key = frame->keys != NULL ? frame->keys[row] : 0;
            self->hits[self->n++] = (annex_hit){.distance = distances[i], .key = key, .row = row};
        }
    }
    self->stats.reranked += n;
    return ANNEX_OK;
}

static annex_status proposal_take(struct proposal *self, uint32_t row, annex_error *error)
{
    const uint64_t *allowed = self->options->allowed;
    bitmap_set(self->seen, row);
    if (allowed != NULL && !bitmap_get(allowed, row)) {
        return ANNEX_OK;
    }
    self->rows[self->n_rows++] = row;
    return self->n_rows == PROPOSE_BATCH ? proposal_measure(self, error) : ANNEX_OK;
}

static annex_status proposal_flush(struct proposal *self, annex_error *error)
{
    return self->n_rows > 0 ? proposal_measure(self, error) : ANNEX_OK;
}

/* ---- all rows ---------------------------------------------------------------------------------*/

static bool proposal_is_over(struct proposal *self)
{
    const annex_search_options *options = self->options;
    bool over = (options->max_scan > 0 && self->stats.distances >= options->max_scan) ||
                (options->stop != NULL && options->stop(options->stop_context) != 0);
    if (over && !self->over) {
        self->stats.cut = 1;
        self->over = true;
    }
    return over;
}

/* Those that were not looked at yet. */
static annex_status proposal_scan(struct proposal *self, annex_error *error)
{
    const uint64_t *allowed = self->options->allowed;
    struct progress progress;
    TRY(progress_begin(&progress, &self->index->env, "scanning", self->index->frame.rows, error));
    for (uint32_t row = 0; row < self->index->frame.rows; row++) {
        if (bitmap_get(self->seen, row) || (allowed != NULL && !bitmap_get(allowed, row))) {
            continue;
        }
        if (self->n_rows == 0) {
            if (proposal_is_over(self)) {
                break;
            }
            TRY(progress_update(&progress, row, error));
        }
        self->stats.distances++;
        TRY(proposal_take(self, row, error));
    }
    return proposal_flush(self, error);
}

/* ---- what the engine proposes -----------------------------------------------------------------*/

static annex_status proposal_check(struct proposal *self, const annex_hit *hits, size_t n, size_t k,
                                   annex_error *error)
{
    const char *name = self->index->engine->name;
    uint32_t rows = self->index->frame.rows;
    if (n > k) {
        return error_set(error, ANNEX_INTERNAL,
                         "the engine %s gave %zu rows when asked for %zu; it cannot be used", name,
                         n, k);
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t row = hits[i].row;
        if (row >= rows || bitmap_get(self->seen, row)) {
            return error_set(error, ANNEX_INTERNAL,
                             "the engine %s gave row %u of %u%s; it cannot be used", name, row,
                             rows, row < rows ? " twice" : "");
        }
        TRY(proposal_take(self, row, error));
    }
    return proposal_flush(self, error);
}

static annex_status proposal_ask(struct proposal *self, size_t k, annex_error *error)
{
    const struct engine_index *index = self->index;
    annex_search_options options = *self->options;
    annex_error why = {ANNEX_OK, ""};
    annex_hit *hits = NULL;
    size_t n = 0;
    options.stats = &self->stats;
    TRY(memory_new(&index->env, k, sizeof *hits, &hits, error));
    annex_status status =
        index->engine->search(index->handle, self->query, 1, k, &options, hits, &n, &why);
    status = status == ANNEX_OK ? proposal_check(self, hits, n, k, error)
                                : engine_failed(index->engine, status, &why, error);
    memory_free(&index->env, hits, k, sizeof *hits);
    self->over = self->stats.cut > 0;
    return status;
}

static size_t proposal_passing(const struct proposal *self)
{
    uint32_t rows = self->index->frame.rows;
    return self->options->allowed != NULL ? bitmap_count(self->options->allowed, rows) : rows;
}

static int proposal_compare(const void *a, const void *b, void *context)
{
    const annex_hit *x = a, *y = b;
    const struct frame *frame = context;
    return x->distance < y->distance   ? -1
           : x->distance > y->distance ? 1
                                       : frame_compare_rows(frame, x->row, y->row);
}

static void proposal_sort(struct proposal *self)
{
    struct frame frame = self->index->frame;
    if (self->n > 0) {
        qsort_r(self->hits, self->n, sizeof *self->hits, proposal_compare, &frame);
    }
}

static void proposal_count(const struct proposal *self)
{
    annex_search_stats *stats = self->options->stats;
    if (stats != NULL) {
        stats->hops += self->stats.hops;
        stats->distances += self->stats.distances;
        stats->reranked += self->stats.reranked;
        stats->cut += self->stats.cut > 0;
        stats->bytes += self->stats.bytes;
    }
}

annex_status propose_search(const struct engine_index *index, const void *query, size_t k,
                            const annex_search_options *options, annex_hit *hits, size_t *found,
                            annex_error *error)
{
    struct proposal self = {.index = index, .options = options, .query = query, .radius = INFINITY};
    bool exact = options->effort == ANNEX_EFFORT_EXACT || options->after != NULL;
    *found = 0;
    if (k == 0 || index->frame.rows == 0) {
        return ANNEX_OK;
    }
    k = MIN(k, (size_t)index->frame.rows);
    annex_status status = proposal_open(&self, error);
    TRY_CLEANUP(status);
    if (!exact) {
        TRY_CLEANUP(proposal_ask(&self, k, error));
    }
    if (exact || (!self.over && self.n < MIN(k, proposal_passing(&self)))) {
        TRY_CLEANUP(proposal_scan(&self, error));
    }
    proposal_sort(&self);
    *found = MIN(k, self.n);
    memcpy(hits, self.hits, *found * sizeof *hits);
    proposal_count(&self);
cleanup:
    proposal_close(&self);
    return status;
}

annex_status propose_within(const struct engine_index *index, const void *query, double distance,
                            const annex_search_options *options, annex_hit **hits, size_t *n,
                            annex_error *error)
{
    struct proposal self = {.index = index, .options = options, .query = query, .radius = distance};
    *hits = NULL;
    *n = 0;
    if (index->frame.rows == 0) {
        return ANNEX_OK;
    }
    annex_status status = proposal_open(&self, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(proposal_scan(&self, error));
    proposal_sort(&self);
    proposal_count(&self);
    *hits = self.hits;
    *n = self.n;
    self.hits = NULL;
cleanup:
    proposal_close(&self);
    return status;
}
