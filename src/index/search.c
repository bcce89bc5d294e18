/*
 * search.c - annex_index_search and annex_index_within: checks, one query, many queries, and the
 * answer.
 *
 * plan.c chooses between walking the graph (nearest.c), lists and scanning.
 */
#include <math.h>

#include "index/exact.h"
#include "index/plan.h"

/* ---- checks ----------------------------------------------------------------------------------*/

static annex_status check_options(const annex_search_options *options, annex_error *error)
{
    if (options->struct_bytes != sizeof *options) {
        return error_set(error, ANNEX_INVALID,
                         "annex_search_options.struct_bytes is %zu, expected %zu: use "
                         "ANNEX_SEARCH_OPTIONS_INIT",
                         options->struct_bytes, sizeof *options);
    }
    if (options->effort && options->recall != 0) {
        return error_set(error, ANNEX_INVALID, "give an effort or a recall, not both");
    }
    if (!(options->recall >= 0 && options->recall <= 1)) {
        return error_set(error, ANNEX_INVALID, "recall is %g, expected more than 0 and at most 1",
                         options->recall);
    }
    if (options->after && isnan(options->after->distance)) {
        return error_set(error, ANNEX_INVALID, "the distance of annex_search_options.after is NaN");
    }
    return ANNEX_OK;
}

/* ---- one query -------------------------------------------------------------------------------*/

static annex_status search_one(const struct plan *plan, struct scratch *scratch, const void *query,
                               annex_hit *hits, size_t *found, annex_error *error)
{
    annex_index *index = plan->index;
    TRY(index_check_query(index, query, error));
    if (plan->k == 0) {
        return ANNEX_OK;
    }
    uint64_t scanned = scratch->scanned, scored = scratch->walk.scored;
    scratch->scanned = scratch->walk.scored = 0; /* max_scan is for one query */
    scratch->cut = false;
    codec_query_set(&scratch->query, query);
    if (index->header.family == ANNEX_IVF) {
        TRY(ivf_nearest(index, scratch, plan->k, plan->window, error));
    } else {
        TRY(plan->window ? graph_nearest(plan, scratch, error)
                         : exact_one(index, scratch, plan->k, plan->options, error));
    }
    *found = MIN(plan->k, scratch->n_items);
    rank_write_hits(index, scratch, *found, hits);
    scratch->scanned += scanned;
    scratch->walk.scored += scored;
    scratch->n_cut += scratch->cut;
    return ANNEX_OK;
}

/* ---- many queries ----------------------------------------------------------------------------*/

struct search_job {
    struct plan plan;
    const char *queries;
    size_t k; /* as asked: the stride of hits */
    annex_hit *hits;
    size_t *found;
    struct scratch **scratches; /* one a worker */
    pthread_t caller;
};

static annex_status search_range(void *argument, unsigned worker, size_t first, size_t end,
                                 annex_error *error)
{
    struct search_job *job = argument;
    annex_index *index = job->plan.index;
    size_t vector_bytes = codec_vector_bytes(&index->codec);
    if (!job->scratches[worker]) {
        TRY(scratch_take(index, job->plan.options, &job->scratches[worker], error));
    }
    job->scratches[worker]->reports = pthread_equal(pthread_self(), job->caller) != 0;
    for (size_t i = first; i < end; i++) {
        TRY(search_one(&job->plan, job->scratches[worker], job->queries + i * vector_bytes,
                       job->hits + i * job->k, &job->found[i], error));
    }
    return ANNEX_OK;
}

/* What the counted work has read: neighbour lists, codes, and vectors or codes in their place. */
static uint64_t bytes_read(const annex_index *index, const struct scratch *scratch)
{
    const struct codec *codec = &index->codec;
    bool vectors = index->raw || scratch->options->fetch;
    bool lists = index->header.family == ANNEX_IVF;
    size_t code = lists ? index->ivf.rabitq.block_bytes / RABITQ_ROWS : codec->row_bytes;
    return scratch->walk.hops * index->graph.degree * sizeof *index->graph.neighbours +
           (scratch->walk.scored + scratch->scanned) * code +
           scratch->reranked *
               (vectors ? stored_bytes(codec, index_stored(index)) : codec->row_bytes);
}

/* Adds up what the scratches counted, and gives them back. */
static void search_finish(annex_index *index, struct scratch **scratches, unsigned n,
                          annex_search_stats *stats)
{
    for (unsigned i = 0; i < n; i++) {
        struct scratch *scratch = scratches[i];
        if (scratch && stats) {
            stats->hops += scratch->walk.hops;
            stats->distances += scratch->walk.scored + scratch->scanned;
            stats->reranked += scratch->reranked;
            stats->cut += scratch->n_cut;
            stats->bytes += bytes_read(index, scratch);
        }
        if (scratch) {
            scratch->walk.hops = scratch->walk.scored = 0;
            scratch->scanned = scratch->reranked = scratch->n_cut = 0;
        }
        scratch_return(index, scratch);
    }
}

static annex_status search_locked(struct search_job *job, size_t n_queries, annex_error *error)
{
    annex_index *index = job->plan.index;
    const annex_search_options *options = job->plan.options;
    const struct exact_search exact = {.index = index,
                                       .options = options,
                                       .k = job->plan.k,
                                       .queries = job->queries,
                                       .n_queries = n_queries,
                                       .hits = job->hits,
                                       .hits_stride = job->k,
                                       .found = job->found};
    bool lists = index->header.family == ANNEX_IVF;
    bool walk = job->plan.window > 0 || job->plan.k == 0 || lists;
    struct scratch *one = NULL, **scratches = &one;
    unsigned threads = n_queries > 1 ? parallel_threads(&index->env, options->threads) : 1;
    threads = walk ? (unsigned)MIN(threads, MAX(n_queries, 1)) : exact_threads(&exact);
    if (threads > 1) {
        TRY(memory_new(&index->env, threads, sizeof *scratches, &scratches, error));
    }
    job->scratches = scratches;
    annex_status status;
    if (!walk && (n_queries > 1 || threads > 1)) {
        status = exact_many(&exact, scratches, threads, error);
    } else if (threads > 1) {
        status = parallel_for(&index->env, threads, n_queries, 8, search_range, job, error);
    } else {
        status = search_range(job, 0, 0, n_queries, error);
    }
    search_finish(index, scratches, threads, options->stats);
    if (threads > 1) {
        memory_free(&index->env, scratches, threads, sizeof *scratches);
    }
    return status;
}

static void clear_found(size_t *found, size_t n_queries)
{
    for (size_t i = 0; i < n_queries; i++) {
        found[i] = 0;
    }
}

annex_status annex_index_search(const annex_index *index, const void *queries, size_t n_queries,
                                size_t k, const annex_search_options *options, annex_hit *hits,
                                size_t *found, annex_error *error)
{
    const annex_search_options defaults = ANNEX_SEARCH_OPTIONS_INIT;
    options = options ? options : &defaults;
    clear_found(found, n_queries);
    TRY(check_options(options, error));
    if (options->stats) {
        *options->stats = (annex_search_stats){0};
    }
    annex_index *self =
        (annex_index *)(uintptr_t)index; /* the lock and scratch are not its value */
    index_begin_read(self);
    struct search_job job = {
        .queries = queries, .k = k, .hits = hits, .found = found, .caller = pthread_self()};
    plan_make(self, options, MIN(k, index->live), &job.plan);
    annex_status status = search_locked(&job, n_queries, error);
    pthread_rwlock_unlock(&self->lock);
    if (status) {
        clear_found(found, n_queries);
    }
    return status;
}

/* ---- within a distance -----------------------------------------------------------------------*/

static annex_status within_items(annex_index *index, struct scratch *scratch, const void *query,
                                 double distance, const annex_search_options *options,
                                 annex_error *error)
{
    /* One step up: squaring and rounding must not lose a row at exactly this distance. */
    float order = nextafterf(codec_order(&index->codec, distance), INFINITY);
    size_t dropped;
    TRY(index_check_query(index, query, error));
    codec_query_set(&scratch->query, query);
    bool walk = options->effort && options->effort != ANNEX_EFFORT_EXACT &&
                index->header.family == ANNEX_GRAPH && index->slots > 0;
    if (walk) {
        TRY(graph_candidates(index, scratch, MIN(options->effort, index->slots), options, error));
    } else if (index->header.family == ANNEX_IVF) {
        TRY(ivf_within(index, scratch, order, error));
    } else {
        TRY(flat_within(index, scratch, order, options, error));
    }
    TRY(rank_exact(index, scratch, 0, options, &dropped, error));
    while (scratch->n_items &&
           codec_distance(&index->codec, scratch->items[scratch->n_items - 1].order) > distance) {
        scratch->n_items--;
    }
    return ANNEX_OK;
}

annex_status annex_index_within(const annex_index *index, const void *query, double distance,
                                const annex_search_options *options, annex_hit **hits, size_t *n,
                                annex_error *error)
{
    const annex_search_options defaults = ANNEX_SEARCH_OPTIONS_INIT;
    options = options ? options : &defaults;
    *hits = NULL;
    *n = 0;
    TRY(check_options(options, error));
    if (isnan(distance)) {
        return error_set(error, ANNEX_INVALID, "the distance is not a number");
    }
    if (options->stats) {
        *options->stats = (annex_search_stats){0};
    }
    annex_index *self = (annex_index *)(uintptr_t)index;
    struct scratch *scratch = NULL;
    index_begin_read(self);
    bool negative = distance < 0 && index->codec.metric != ANNEX_IP;
    annex_status status = scratch_take(self, options, &scratch, error);
    if (status) {
        pthread_rwlock_unlock(&self->lock);
        return status;
    }
    scratch->reports = true;
    status = within_items(self, scratch, query, distance, options, error);
    if (!status && !negative && scratch->n_items) {
        status = memory_new_raw(&index->env, scratch->n_items, sizeof **hits, hits, error);
    }
    if (!status && !negative) {
        *n = scratch->n_items;
        rank_write_hits(index, scratch, *n, *hits);
    }
    pthread_rwlock_unlock(&self->lock);
    scratch->n_cut += scratch->cut;
    search_finish(self, &scratch, 1, options->stats);
    return status;
}

void annex_hits_free(const annex_index *index, annex_hit *hits, size_t n)
{
    memory_free(&index->env, hits, n, sizeof *hits);
}
