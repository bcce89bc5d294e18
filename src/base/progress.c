/*
 * progress.c - reports to annex_log: progress some 50 times a second, messages now and then.
 *
 * Invariants: a phase is reported when it begins and when it is complete; in between a report costs
 * a look at the clock at most. Reports come from the thread that made the call.
 */
#include <stdio.h>
#include <time.h>

#include "base/base.h"

#define PROGRESS_INTERVAL_NS UINT64_C(20000000)

static uint64_t progress_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static annex_status progress_tell(struct progress *progress, uint64_t done, annex_error *error)
{
    const annex_log *log = &progress->env->log;

    if (log->progress(log->context, progress->phase, done, progress->total) != 0) {
        return error_set(error, ANNEX_CANCELLED, "cancelled while %s", progress->phase);
    }
    return ANNEX_OK;
}

annex_status progress_begin(struct progress *progress, const annex_env *env, const char *phase,
                            uint64_t total, annex_error *error)
{
    *progress = (struct progress){.env = env, .phase = phase, .total = total};
    return progress_update(progress, 0, error);
}

annex_status progress_update(struct progress *progress, uint64_t done, annex_error *error)
{
    uint64_t now;

    progress->done = done;
    if (progress->env->log.progress == NULL) {
        return ANNEX_OK;
    }
    now = progress_now_ns();
    if (now < progress->next_report_ns && done != progress->total) {
        return ANNEX_OK;
    }
    progress->next_report_ns = now + PROGRESS_INTERVAL_NS;
    return progress_tell(progress, done, error);
}

void log_message(const annex_env *env, annex_level level, const char *format, ...)
{
    char text[ANNEX_ERROR_BYTES];
    va_list arguments;

    if (env->log.message == NULL) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    env->log.message(env->log.context, level, text);
}
