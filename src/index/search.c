/*
 * search.c - annex_index_search and annex_index_within: checks, one query, many queries, and the
 * answer.
 *
 * plan.c chooses between walking the graph and scanning. Whatever was chosen, an answer with fewer
 * than k rows is replaced by that of a scan: min(k, passing rows) are always found.
 */
#include <math.h>

#include "index/exact.h"
#include "index/plan.h"

/* ---- checks ----------------------------------------------------------------------------------*/

annex_status search_check_query(const annex_index *index, const void *vector, annex_error *error)
{
    annex_metric metric = index->codec.metric;
    bool zero;
    if (codec_is_bits(metric)) {
        return ANNEX_OK;
    }
    if (!codec_accepts(metric, vector, index->codec.dimension, &zero)) {
        return codec_refuse(vector, index->codec.dimension, "the query", error);
    }
    if (zero && metric == ANNEX_COSINE) {
        return error_set(error, ANNEX_INVALID,
                         "the query is a zero vector, which has no cosine distance to anything");
    }
    return ANNEX_OK;
}

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

enum { WALK_POLL_ROWS = 1 << 14 };

/* walk.check: within max_scan, and asking progress and stop from time to time. */
static uint32_t walk_check(void *context, struct walk *walk, uint32_t n)
{
    struct scratch *scratch = context;
    uint64_t room = scratch_room(scratch);
    if (n > room) {
        n = (uint32_t)room;
        scratch->cut = true;
    } else if (scratch_stops(scratch)) {
        n = 0;
    }
    walk->check_at = walk->scored + MIN(WALK_POLL_ROWS, room) + 1;
    return n;
}

static void walk_polls(struct scratch *scratch)
{
    struct walk *walk = &scratch->walk;
    walk->check = walk_check;
    walk->check_context = scratch;
    walk->check_at = walk->scored + MIN(WALK_POLL_ROWS, scratch_room(scratch)) + 1;
}

static annex_status walk_graph(struct scratch *scratch, uint32_t window, annex_error *error)
{
    walk_polls(scratch);
    graph_walk(&scratch->index->graph, &scratch->query, window, &scratch->walk);
    return scratch_halt(scratch, error);
}

/* ---- candidates ------------------------------------------------------------------------------*/

/*
 * What a code loses has no direction of its own: along the one that matters it is the norm over the
 * root of the dimension, and seldom more than CERTAIN times that.
 */
static float likely_loss(const annex_index *index, uint32_t slot)
{
    enum { CERTAIN = 2 };
    float part = CERTAIN / sqrtf((float)index->codec.dimension);
    return index->errors ? index->errors[slot] * MIN(part, 1) : 0;
}

/* By all that is known of two rows. */
static bool are_as_near(const annex_index *index, float score, uint32_t slot, struct ranked other)
{
    return score == other.order &&
           (!index->errors || index->errors[slot] == index->errors[other.slot]);
}

/*
 * Whether a row, no nearer by its score, may be nearer than another. The query's own rounding is
 * left out: it is the same for rows near each other.
 */
static bool may_be_nearer(const struct scratch *scratch, float score, uint32_t slot,
                          struct ranked than)
{
    const annex_index *index = scratch->index;
    const struct query *query = &scratch->query;
    float loss = likely_loss(index, slot), other = likely_loss(index, than.slot);
    return codec_lower(query, score, loss) <= codec_upper(query, than.order, other) &&
           !are_as_near(index, score, slot, than);
}

/*
 * The passing rows of the pool, nearest first, with the rows that have the same code: `wanted`, and
 * behind them those whose codes do not tell whether they belong to the k nearest.
 */
static annex_status collect(const struct plan *plan, struct scratch *scratch, size_t wanted,
                            annex_error *error)
{
    annex_index *index = plan->index;
    size_t more = scratch->query.exact || wanted <= plan->k ? 0 : CANDIDATES_MORE;
    struct candidates all = {.walk = &scratch->walk,
                             .same = index->same,
                             .errors = index->errors,
                             .slots = index->slots,
                             .wanted = MIN(wanted, SIZE_MAX - more) + more};
    scratch->n_items = 0;
    while (candidates_next(&all)) {
        float score = walk_score(scratch->walk.pool[all.at]);
        if (all.n >= wanted &&
            !may_be_nearer(scratch, score, all.slot, scratch->items[plan->k - 1])) {
            break;
        }
        if (filter_passes(index, plan->options, all.slot)) {
            TRY(scratch_push(index, scratch, score, all.slot, error));
            candidates_take(&all);
        }
    }
    return ANNEX_OK;
}

/* ---- a walk without a filter -----------------------------------------------------------------*/

/* Distances that differ by less, relatively, are no slope to walk along. */
#define LEVEL 0.001f

/*
 * Whether the farthest row that the walk kept is hardly farther than the k-th: then there are more
 * such rows, and nothing led to the nearest of them.
 */
static bool ends_on_a_level(struct scratch *scratch, uint32_t capacity, uint32_t k)
{
    struct walk *walk = &scratch->walk;
    if (walk->size < capacity || capacity < k + k / 2) {
        return false;
    }
    walk_item kth = walk->pool[k - 1], last = walk->pool[capacity - 1];
    struct ranked than = {.order = walk_score(kth), .slot = walk_id(kth)};
    if (are_as_near(scratch->index, walk_score(last), walk_id(last), than)) {
        return false;
    }
    walk->reach = LEVEL;
    walk->near = k;
    return last < walk_bar(&scratch->query, walk, k);
}

/*
 * Hard queries may use a wider window than easy ones. Where a recall was promised, a walk that ends
 * on a level goes on wider, until a scan would cost less (!*found) or it is WIDEST times as wide.
 */
static annex_status walk_reaching(const struct plan *plan, struct scratch *scratch, size_t wanted,
                                  bool *found, annex_error *error)
{
    enum { WIDER = 4, WIDEST = 16 };
    const annex_index *index = plan->index;
    struct walk *walk = &scratch->walk;
    float reach = index_reach(index->header.reach, plan->effort);
    uint32_t k = (uint32_t)plan->k, named = plan->options->effort;
    *found = true;
    for (uint32_t times = 1;; times *= WIDER) {
        uint32_t window = (uint32_t)MIN((uint64_t)plan->window * times, index->slots);
        window = MIN(index_window(reach, window), index->slots);
        uint32_t capacity = (uint32_t)MIN(MAX(window, wanted), index->slots);
        TRY(scratch_reserve_pool(plan->index, scratch, capacity, error));
        walk->reach = reach;
        walk->near = INDEX_CALIBRATED_K;
        walk->wanted = k;
        /* Who names an effort below k is content with fewer of the true ones. */
        walk->least = named ? MIN(plan->effort, k) : k;
        annex_status status = walk_graph(scratch, window, error);
        bool more = !status && !named && !scratch->cut && times < WIDEST &&
                    ends_on_a_level(scratch, capacity, k);
        walk->reach = 0;
        if (!more) {
            return status;
        }
        if (plan_walk_cost(plan, (float)window * WIDER) > plan_scan_cost(plan)) {
            *found = false;
            return ANNEX_OK;
        }
    }
}

static annex_status search_graph(const struct plan *plan, struct scratch *scratch,
                                 annex_error *error)
{
    annex_index *index = plan->index;
    bool sure = scratch->query.exact && !plan->options->fetch, found = true;
    size_t wanted = index_rerank(plan->k, plan->window, sure), dropped;
    if (plan->filtered) {
        walk_polls(scratch);
        TRY(filtered_walk(plan, scratch, wanted, &found, error));
        TRY(scratch_halt(scratch, error));
    } else {
        TRY(walk_reaching(plan, scratch, wanted, &found, error));
    }
    if (found) {
        TRY(collect(plan, scratch, wanted, error));
        TRY(rank_exact(index, scratch, 0, plan->options, &dropped, error));
    }
    bool enough = found && (scratch->n_items >= plan->k || scratch->cut);
    return enough ? ANNEX_OK : exact_one(index, scratch, plan->k, plan->options, error);
}

void search_write_hits(const annex_index *index, const struct scratch *scratch, size_t n,
                       annex_hit *hits)
{
    bool integers = index->header.key_kind == ANNEX_KEY_INTEGER;
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = scratch->items[i].slot;
        hits[i] = (annex_hit){.distance = codec_distance(&index->codec, scratch->items[i].order),
                              .key = integers ? index->keys[slot] : 0,
                              .row = slot};
    }
}

static annex_status search_one(const struct plan *plan, struct scratch *scratch, const void *query,
                               annex_hit *hits, size_t *found, annex_error *error)
{
    annex_index *index = plan->index;
    TRY(search_check_query(index, query, error));
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
        TRY(plan->window ? search_graph(plan, scratch, error)
                         : exact_one(index, scratch, plan->k, plan->options, error));
    }
    *found = MIN(plan->k, scratch->n_items);
    search_write_hits(index, scratch, *found, hits);
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
    TRY(search_check_query(index, query, error));
    codec_query_set(&scratch->query, query);
    bool walk = options->effort && options->effort != ANNEX_EFFORT_EXACT &&
                index->header.family == ANNEX_GRAPH && index->slots > 0;
    if (walk) {
        struct plan plan = {.index = index, .options = options};
        uint32_t window = MIN(options->effort, index->slots);
        TRY(scratch_reserve_pool(index, scratch, window, error));
        TRY(walk_graph(scratch, window, error));
        TRY(collect(&plan, scratch, SIZE_MAX, error));
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
        search_write_hits(index, scratch, *n, *hits);
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
