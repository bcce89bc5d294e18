/*
 * exact.c - exact answers: flat.c finds candidates, rank.c gives them their distances.
 *
 * Many queries are answered in groups, so that each row read from memory serves all of a group.
 * With more groups than threads each thread takes groups; otherwise the threads share the rows of
 * one group after the other, and what they found is put together. Answers are those of the queries
 * one by one, whatever the groups and threads: the candidates are the same (flat.c).
 */
#include <math.h>

#include "index/exact.h"

#include "index/flat.h"

enum {
    GROUP_MOST = 128,       /* queries: their products with a block fit the second-level cache */
    GROUP_WORTH = 64,       /* queries from which on a group of its own keeps a thread busy */
    GROUP_MULTIPLE = 4,     /* what tiles do at a time */
    ROWS_AT_A_TIME = 16384, /* of a thread that shares the rows with others */
    THREAD_WORTH_BYTES = 1 << 20, /* of codes to score */
};

/* ---- one query -------------------------------------------------------------------------------*/

/* Exact distances of candidates that are complete up to `limit` for the nearest `want`. */
static annex_status rank_candidates(annex_index *index, struct scratch *scratch, size_t k,
                                    size_t want, float limit, const annex_search_options *options,
                                    annex_error *error)
{
    for (;;) {
        size_t dropped;
        TRY(rank_sort(index, scratch, error));
        TRY(rank_exact(index, scratch, want, options, &dropped, error));
        /* Rows that turned out to be gone may have pushed out others: those are beyond `limit`. */
        bool complete = scratch->n_items >= k && scratch->items[k - 1].order <= limit;
        if (dropped == 0 || complete || want >= index->live || scratch->cut) {
            return ANNEX_OK;
        }
        want = MIN(index->live, 2 * want + dropped);
        TRY(flat_nearest(index, scratch, want, options, &limit, error));
    }
}

annex_status exact_one(annex_index *index, struct scratch *scratch, size_t k,
                       const annex_search_options *options, annex_error *error)
{
    float limit;
    TRY(flat_nearest(index, scratch, k, options, &limit, error));
    return rank_candidates(index, scratch, k, k, limit, options, error);
}

/* ---- a group of queries ----------------------------------------------------------------------*/

/* What one thread keeps for a group. */
struct group {
    size_t first, n; /* the queries it was prepared for; n 0: none */
    struct flat flat;
    struct flat_scan *scans; /* [most] */
    struct scratch *each;    /* [most] with a query, candidates and a heap; no walk, no vectors */
    uint8_t *memory;         /* [most] prepared queries */
    int32_t *dots;           /* [most * FLAT_BLOCK] */
};

struct exact_job {
    const struct exact_search *search;
    struct scratch **scratches; /* [threads] taken by each when it begins */
    struct group *groups;       /* [threads] */
    unsigned threads;
    size_t most; /* queries in a group */
    size_t n_groups;
    size_t first, n; /* the group whose rows are shared */
    pthread_t caller;
};

static void group_free(const struct exact_job *job, struct group *group)
{
    const annex_index *index = job->search->index;
    const annex_env *env = &index->env;
    for (size_t q = 0; group->each && q < job->most; q++) {
        struct scratch *one = &group->each[q];
        memory_free(env, one->items, one->items_capacity, sizeof *one->items);
        memory_free(env, one->heap, one->heap_capacity, sizeof *one->heap);
    }
    memory_free(env, group->scans, job->most, sizeof *group->scans);
    memory_free(env, group->each, job->most, sizeof *group->each);
    memory_free(env, group->memory, job->most, codec_query_bytes(&index->codec));
    memory_free(env, group->dots, job->most * FLAT_BLOCK, sizeof *group->dots);
}

/* The thread's scratch and group, made at its first use. */
static annex_status group_take(struct exact_job *job, unsigned worker, annex_error *error)
{
    annex_index *index = job->search->index;
    const annex_env *env = &index->env;
    struct group *group = &job->groups[worker];
    size_t query_bytes = codec_query_bytes(&index->codec);
    if (!job->scratches[worker]) {
        TRY(scratch_take(index, job->search->options, &job->scratches[worker], error));
    }
    job->scratches[worker]->reports = pthread_equal(pthread_self(), job->caller) != 0;
    if (group->dots) {
        return ANNEX_OK;
    }
    TRY(memory_new(env, job->most, sizeof *group->scans, &group->scans, error));
    TRY(memory_new(env, job->most, sizeof *group->each, &group->each, error));
    TRY(memory_new(env, job->most, query_bytes, &group->memory, error));
    for (size_t q = 0; q < job->most; q++) {
        struct scratch *one = &group->each[q];
        group->scans[q].scratch = one;
        one->index = index;
        one->options = job->search->options;
        codec_query_init(&index->codec, &one->query, group->memory + q * query_bytes);
        TRY(scratch_reserve_heap(index, one, job->search->k, error));
    }
    TRY(memory_new_raw(env, job->most * FLAT_BLOCK, sizeof *group->dots, &group->dots, error));
    return ANNEX_OK;
}

/* Prepares queries [first, first + n). */
static annex_status group_begin(struct exact_job *job, unsigned worker, size_t first, size_t n,
                                annex_error *error)
{
    const struct exact_search *search = job->search;
    struct group *group = &job->groups[worker];
    size_t vector_bytes = codec_vector_bytes(&search->index->codec);
    for (size_t q = 0; q < n; q++) {
        const char *query = search->queries + (first + q) * vector_bytes;
        struct scratch *one = &group->each[q];
        TRY(index_check_query(search->index, query, error));
        codec_query_set(&one->query, query);
        one->scanned = one->reranked = 0;
        one->cut = false;
        one->reports = q == 0 && job->scratches[worker]->reports;
    }
    group->first = first;
    group->n = n;
    group->flat = (struct flat){.index = search->index,
                                .options = search->options,
                                .k = search->k,
                                .scans = group->scans,
                                .n = n,
                                .dots = group->dots};
    flat_begin(&group->flat, INFINITY);
    return ANNEX_OK;
}

/* The answer to query q of a group, from what all threads that scanned for it have found. */
static annex_status group_answer(struct exact_job *job, struct group *group, struct scratch *worker,
                                 size_t q, annex_error *error)
{
    const struct exact_search *search = job->search;
    struct flat_scan *scan = &group->scans[q];
    struct scratch *one = scan->scratch;
    flat_settle(scan);
    one->vectors = worker->vectors;
    one->reports = worker->reports;
    annex_status status = rank_candidates(search->index, one, search->k, search->k, scan->limit,
                                          search->options, error);
    one->vectors = NULL;
    worker->scanned += one->scanned;
    worker->reranked += one->reranked;
    worker->n_cut += one->cut;
    if (status == ANNEX_OK) {
        size_t at = group->first + q;
        search->found[at] = MIN(search->k, one->n_items);
        rank_write_hits(search->index, one, search->found[at],
                        search->hits + at * search->hits_stride);
    }
    return status;
}

/* ---- threads that take groups ----------------------------------------------------------------*/

static annex_status take_groups(void *argument, unsigned worker, size_t first, size_t end,
                                annex_error *error)
{
    struct exact_job *job = argument;
    struct group *group = &job->groups[worker];
    TRY(group_take(job, worker, error));
    for (size_t i = first * job->most; i < MIN(end * job->most, job->search->n_queries);
         i += job->most) {
        TRY(group_begin(job, worker, i, MIN(job->most, job->search->n_queries - i), error));
        TRY(flat_scan(&group->flat, 0, job->search->index->slots, error));
        for (size_t q = 0; q < group->n; q++) {
            TRY(group_answer(job, group, job->scratches[worker], q, error));
        }
    }
    return ANNEX_OK;
}

/* ---- threads that share the rows of a group --------------------------------------------------*/

static annex_status share_rows(void *argument, unsigned worker, size_t first, size_t end,
                               annex_error *error)
{
    struct exact_job *job = argument;
    struct group *group = &job->groups[worker];
    TRY(group_take(job, worker, error));
    if (group->n == 0 || group->first != job->first) {
        TRY(group_begin(job, worker, job->first, job->n, error));
    }
    return flat_scan(&group->flat, (uint32_t)first, (uint32_t)end, error);
}

/* Query q of the group, whose candidates lie with all threads that had some of its rows. */
static annex_status share_answers(void *argument, unsigned worker, size_t first, size_t end,
                                  annex_error *error)
{
    struct exact_job *job = argument;
    struct group *whole = NULL;
    TRY(group_take(job, worker, error));
    for (unsigned t = 0; t < job->threads; t++) {
        struct group *part = &job->groups[t];
        if (part->n == 0 || part->first != job->first) {
            continue; /* came too late to get rows */
        }
        whole = whole ? whole : part;
        for (size_t q = first; part != whole && q < end; q++) {
            TRY(flat_merge(&whole->flat, &whole->scans[q], &part->scans[q], error));
        }
    }
    for (size_t q = first; whole && q < end; q++) {
        TRY(group_answer(job, whole, job->scratches[worker], q, error));
    }
    return ANNEX_OK;
}

static annex_status share_groups(struct exact_job *job, annex_error *error)
{
    const struct exact_search *search = job->search;
    const annex_env *env = &search->index->env;
    for (size_t first = 0; first < search->n_queries; first += job->most) {
        job->first = first;
        job->n = MIN(job->most, search->n_queries - first);
        TRY(parallel_for(env, job->threads, search->index->slots, ROWS_AT_A_TIME, share_rows, job,
                         error));
        TRY(parallel_for(env, job->threads, job->n, GROUP_MULTIPLE, share_answers, job, error));
    }
    return ANNEX_OK;
}

/* ---- all -------------------------------------------------------------------------------------*/

unsigned exact_threads(const struct exact_search *search)
{
    const annex_search_options *options = search->options;
    const annex_index *index = search->index;
    if (search->n_queries <= 1 && options->threads <= 1) {
        return 1;
    }
    unsigned threads = parallel_threads(&index->env, options->threads);
    if (options->max_scan) { /* the first so many rows: they cannot be shared */
        threads = (unsigned)MIN(threads, search->n_queries);
    }
    double bytes = (double)index->slots * index->codec.row_bytes * (double)search->n_queries;
    return (unsigned)MIN(threads, bytes / THREAD_WORTH_BYTES + 1);
}

annex_status exact_many(const struct exact_search *search, struct scratch **scratches,
                        unsigned threads, annex_error *error)
{
    const annex_env *env = &search->index->env;
    size_t n = search->n_queries;
    struct exact_job job = {
        .search = search, .scratches = scratches, .threads = threads, .caller = pthread_self()};
    bool share = threads > 1 && !search->options->max_scan && n < (size_t)threads * GROUP_WORTH;
    size_t groups = (n + GROUP_MOST - 1) / GROUP_MOST;
    groups = share ? groups : MIN(round_up(groups, threads), n);
    job.most = round_up((n + groups - 1) / groups, GROUP_MULTIPLE);
    job.n_groups = (n + job.most - 1) / job.most;
    TRY(memory_new(env, threads, sizeof *job.groups, &job.groups, error));
    annex_status status =
        share ? share_groups(&job, error)
              : parallel_for(env, threads, job.n_groups, 1, take_groups, &job, error);
    for (unsigned t = 0; t < threads; t++) {
        group_free(&job, &job.groups[t]);
    }
    memory_free(env, job.groups, threads, sizeof *job.groups);
    return status;
}
