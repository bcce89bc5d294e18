/*
 * diversify.c - the option mmr: rows that are near the query and far from each other.
 *
 * Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), in distances: of the candidates
 * the next one chosen has the least mmr * distance to the query - (1 - mmr) * distance to the
 * nearest row chosen before. The first is the nearest; of equal ones the nearer. What was chosen is
 * answered nearest first, as every answer is.
 */
#include "catalog/search.h"

#include <math.h>

struct diversity {
    struct search *search;
    struct offer *items; /* [n] */
    size_t n;
    size_t bytes;    /* of a vector */
    char *vectors;   /* [n] */
    double *apart;   /* [n] distance to the nearest row chosen */
    uint64_t *taken; /* bitmap */
    void *memory;    /* of measure */
    size_t memory_bytes;
};

static annex_status diversity_open(struct diversity *self, annex_error *error)
{
    struct source_fetch *fetch = &self->search->fetch;
    const annex_env *env = &self->search->db->env;
    size_t kept = 0;
    TRY(memory_new_raw(env, self->n, self->bytes, &self->vectors, error));
    TRY(memory_new_raw(env, self->n, sizeof *self->apart, &self->apart, error));
    TRY(memory_new(env, bitmap_words(self->n), sizeof *self->taken, &self->taken, error));
    TRY(memory_new(env, self->memory_bytes, 1, &self->memory, error));
    for (size_t i = 0; i < self->n; i++) {
        enum vector_state state = VECTOR_NONE;
        char *vector = self->vectors + kept * self->bytes;
        TRY(source_fetch_key(fetch, &self->items[i].key, vector, &state, error));
        self->items[kept] = self->items[i];
        self->apart[kept] = INFINITY;
        kept += state == VECTOR_GOOD;
    }
    self->search->ranking.n = kept;
    return ANNEX_OK;
}

static void diversity_close(struct diversity *self, size_t n)
{
    const annex_env *env = &self->search->db->env;
    memory_free(env, self->vectors, n, self->bytes);
    memory_free(env, self->apart, n, sizeof *self->apart);
    memory_free(env, self->taken, bitmap_words(n), sizeof *self->taken);
    memory_free(env, self->memory, self->memory_bytes, 1);
}

static size_t diversity_best(const struct diversity *self)
{
    double mmr = self->search->settings.mmr, least = INFINITY;
    size_t best = 0;
    for (size_t i = self->n; i-- > 0;) {
        /* 0 * infinity would be no number; the apart of the first choice says nothing. */
        double apart = isinf(self->apart[i]) ? 0 : self->apart[i];
        double score = mmr * self->items[i].distance - (1 - mmr) * apart;
        if (!bitmap_get(self->taken, i) && score <= least) {
            least = score;
            best = i;
        }
    }
    return best;
}

static void diversity_take(struct diversity *self, size_t chosen)
{
    const struct vector_reader *reader = &self->search->fetch.reader;
    struct measure measure;
    measure_set(&measure, reader->metric, reader->dimension, self->memory,
                self->vectors + chosen * self->bytes);
    bitmap_set(self->taken, chosen);
    for (size_t i = 0; i < self->n; i++) {
        if (!bitmap_get(self->taken, i)) {
            double distance = measure_distance(&measure, self->vectors + i * self->bytes);
            self->apart[i] = MIN(self->apart[i], distance);
        }
    }
}

static annex_status diversity_choose(struct diversity *self, size_t k, annex_error *error)
{
    size_t work = 0;
    for (size_t i = 0; i < MIN(k, self->n); i++) {
        if (i > 0 && budget_is_over(&self->search->budget)) {
            break;
        }
        diversity_take(self, i == 0 ? 0 : diversity_best(self));
        work += self->n;
        if (work >= SEARCH_POLL_STEPS) {
            work = 0;
            TRY(search_poll(&self->search->db->env, error));
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < self->n; i++) {
        self->items[kept] = self->items[i];
        kept += bitmap_get(self->taken, i);
    }
    self->search->ranking.n = kept;
    return ANNEX_OK;
}

annex_status diversify_check(const struct search *search, annex_error *error)
{
    const annex_db_request *request = search->request;
    if (!search->settings.has_mmr) {
        return ANNEX_OK;
    }
    if (request->goes_on || request->has_distance) {
        return error_set(error, ANNEX_INVALID,
                         "the option \"mmr\" chooses k rows, and this search has no k%s",
                         request->has_distance ? ", but a distance" : "; give one");
    }
    if (request->k > DIVERSIFY_MOST_ROWS) {
        return error_set(error, ANNEX_INVALID, "k is %zu; with the option \"mmr\" it is at most %d",
                         request->k, DIVERSIFY_MOST_ROWS);
    }
    return ANNEX_OK;
}

size_t diversify_candidates(const struct search_settings *settings, size_t k)
{
    size_t wanted = settings->candidates > 0 ? settings->candidates : MAX(5 * k, (size_t)50);
    return MAX(k, MIN(wanted, (size_t)DIVERSIFY_MOST_ROWS));
}

annex_status diversify(struct search *search, size_t k, annex_error *error)
{
    const struct vector_reader *reader = &search->fetch.reader;
    struct diversity self = {.search = search, .bytes = reader->bytes};
    self.memory_bytes = measure_bytes(reader->metric, reader->dimension);
    TRY(ranking_sort(&search->ranking, &self.items, error));
    self.n = search->ranking.n;
    size_t n = self.n;
    if (n == 0) {
        return ANNEX_OK;
    }
    annex_status status = diversity_open(&self, error);
    if (status == ANNEX_OK) {
        self.n = search->ranking.n;
        status = diversity_choose(&self, k, error);
    }
    diversity_close(&self, n);
    return status;
}
