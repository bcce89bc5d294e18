/*
 * parallel.c - loops over ranges on several threads.
 *
 * Invariants
 *   1. Ranges are handed out in ascending order, and a range that was handed out is always worked
 *      on. So the failing range with the lowest number is reached whatever the threads do, and it
 *      is the one that is reported: errors do not depend on timing.
 *   2. Reports are made by the calling thread only, after a range of its own.
 *   3. When parallel_for returns no thread is inside `work` any more.
 * Does not: keep threads between calls (there is no pool, so that a process may fork).
 */
#include <pthread.h>
#include <stdatomic.h>

#include "base/base.h"

#define PARALLEL_MAX_THREADS 512

struct parallel_job {
    parallel_work work;
    void *argument;
    struct progress *progress; /* NULL: nobody asks */
    pthread_t caller;
    size_t n;
    size_t grain;
    atomic_size_t next; /* number of the next range */
    atomic_bool stop;
    pthread_mutex_t lock; /* guards what follows */
    annex_status status;
    size_t failed_first;
    annex_error failure;
};

unsigned parallel_threads(const annex_env *env, unsigned wanted)
{
    if (wanted == 0) {
        wanted = env->threads.count(env->threads.context);
    }
    return MIN(MAX(wanted, 1), PARALLEL_MAX_THREADS);
}

static void parallel_fail(struct parallel_job *job, annex_status status, size_t first,
                          const annex_error *failure)
{
    atomic_store_explicit(&job->stop, true, memory_order_relaxed);
    pthread_mutex_lock(&job->lock);
    if (job->status == ANNEX_OK || first < job->failed_first) {
        job->status = status;
        job->failed_first = first;
        job->failure = *failure;
    }
    pthread_mutex_unlock(&job->lock);
}

/* Reports belong to the thread that made the call. */
static annex_status parallel_report(struct parallel_job *job, annex_error *failure)
{
    if (job->progress == NULL || !pthread_equal(pthread_self(), job->caller)) {
        return ANNEX_OK;
    }
    return progress_update(job->progress, job->progress->done, failure);
}

static void parallel_worker(void *argument, unsigned worker)
{
    struct parallel_job *job = argument;
    size_t ranges = job->n / job->grain + (job->n % job->grain != 0);
    annex_error failure;

    while (!atomic_load_explicit(&job->stop, memory_order_relaxed)) {
        size_t range = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
        size_t first;
        annex_status status;

        if (range >= ranges) {
            return;
        }
        first = range * job->grain;
        failure.status = ANNEX_OK;
        failure.message[0] = '\0';
        status = job->work(job->argument, worker, first, first + MIN(job->grain, job->n - first),
                           &failure);
        if (status == ANNEX_OK) {
            status = parallel_report(job, &failure);
        }
        if (status != ANNEX_OK) {
            parallel_fail(job, status, first, &failure);
            return;
        }
    }
}

static annex_status parallel_run(const annex_env *env, struct parallel_job job, unsigned threads,
                                 annex_error *error)
{
    size_t ranges = job.n / job.grain + (job.n % job.grain != 0);

    job.caller = pthread_self();
    threads = (unsigned)MIN((size_t)MAX(threads, 1), ranges);
    pthread_mutex_init(&job.lock, NULL);
    if (threads > 1) {
        env->threads.run(env->threads.context, threads, parallel_worker, &job);
    } else {
        parallel_worker(&job, 0);
    }
    pthread_mutex_destroy(&job.lock);
    if (job.status != ANNEX_OK && error != NULL) {
        *error = job.failure;
        error->status = job.status;
    }
    return job.status;
}

annex_status parallel_for(const annex_env *env, unsigned threads, size_t n, size_t grain,
                          parallel_work work, void *argument, annex_error *error)
{
    struct parallel_job job = {
        .work = work, .argument = argument, .n = n, .grain = MAX(grain, 1), .status = ANNEX_OK};

    return parallel_run(env, job, threads, error);
}

annex_status progress_for(struct progress *progress, unsigned threads, size_t n, size_t grain,
                          parallel_work work, void *argument, annex_error *error)
{
    struct parallel_job job = {.work = work,
                               .argument = argument,
                               .progress = progress,
                               .n = n,
                               .grain = MAX(grain, 1),
                               .status = ANNEX_OK};

    return parallel_run(progress->env, job, threads, error);
}
