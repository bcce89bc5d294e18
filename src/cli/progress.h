/*
 * progress.h - the bar on a terminal's standard error, and Ctrl-C.
 *
 * The first Ctrl-C asks: annex_log.progress returns 1 and the library gives up what it was doing,
 * leaving the old state. The second one ends the program at once.
 */
#ifndef ANNEX_CLI_PROGRESS_H
#define ANNEX_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Takes over SIGINT and SIGTERM; a bar is drawn when `bar` is set and work takes over a second. */
void progress_start(bool bar);
/* Has the form of annex_log.progress. */
int progress_report(void *context, const char *phase, uint64_t done, uint64_t total);
/* Takes the bar away, before something else is printed. */
void progress_clear(void);
bool progress_interrupted(void);

/* Seconds of a clock that never goes back. */
double progress_clock(void);

#endif
