/*
 * budget.c - how many rows a search may look at (max_scan), until when it may take (timeout_ms),
 * and whether it still is wanted. A search that comes to its limit answers with what it has found;
 * one that is not wanted any more is an error.
 *
 * Invariant: what several searches share (annex_spent) counts the time inside of them only.
 */
#include "catalog/search.h"

#include <time.h>

uint64_t budget_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void budget_begin(struct budget *budget, const struct search_settings *settings,
                  const annex_spent *spent)
{
    *budget = (struct budget){.most_rows = settings->max_scan,
                              .allowed_us = UINT64_C(1000) * settings->timeout_ms};
    budget->started_us = budget_now_us();
    if (spent != NULL) {
        budget->rows = spent->rows;
        budget->started_us -= MIN(spent->microseconds, budget->started_us);
    }
}

uint64_t budget_room(const struct budget *budget)
{
    return budget->most_rows == 0 ? UINT64_MAX
                                  : budget->most_rows - MIN(budget->most_rows, budget->rows);
}

bool budget_is_over(struct budget *budget)
{
    if (budget->cut == BUDGET_GOOD && budget->allowed_us > 0 &&
        budget_now_us() - budget->started_us >= budget->allowed_us) {
        budget->cut = BUDGET_TIME;
    }
    return budget->cut != BUDGET_GOOD;
}

bool budget_take_row(struct budget *budget)
{
    if (budget_room(budget) == 0 && budget->cut == BUDGET_GOOD) {
        budget->cut = BUDGET_ROWS;
    }
    if (budget_is_over(budget)) {
        return false;
    }
    budget->rows++;
    return true;
}

void budget_end(const struct budget *budget, annex_spent *spent)
{
    if (spent != NULL) {
        spent->rows = budget->rows;
        spent->microseconds = budget_now_us() - budget->started_us;
    }
}

annex_status search_poll(const annex_env *env, annex_error *error)
{
    const annex_log *log = &env->log;
    bool stop = log->progress != NULL && log->progress(log->context, "searching", 0, 0) != 0;
    return stop ? error_set(error, ANNEX_CANCELLED, "the search was cancelled") : ANNEX_OK;
}

annex_status search_poll_at(const annex_env *env, size_t step, annex_error *error)
{
    return step % SEARCH_POLL_STEPS == SEARCH_POLL_STEPS - 1 ? search_poll(env, error) : ANNEX_OK;
}
