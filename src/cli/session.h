/*
 * session.h - one run of the command: its environment, its messages, its exit code.
 *
 * Invariants
 *   1. Results go to standard output; everything else goes through here to standard error.
 *   2. A failure prints one sentence and becomes one of the exit codes below.
 */
#ifndef ANNEX_CLI_SESSION_H
#define ANNEX_CLI_SESSION_H

#include "annex.h"
#include "options.h"
#include "out.h"

enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_DAMAGED = 4,
    EXIT_BUSY = 5,
    EXIT_INTERRUPTED = 130
};

struct session {
    annex_env env;
    struct arguments arguments;
    enum out_mode mode;
};

/* Sets up the environment, messages, progress and Ctrl-C for arguments that are already parsed. */
void session_open(struct session *session);

static inline const struct option_value *session_option(const struct session *session,
                                                        enum option_id id)
{
    return &session->arguments.options[id];
}
static inline bool session_has(const struct session *session, enum option_id id)
{
    return session->arguments.options[id].given;
}

/* Prints "annex: <sentence>" on standard error, whatever --quiet says. */
void session_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for remarks, which --quiet silences. */
void session_remark(const struct session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints the error's sentence and returns its exit code. */
int session_fail(const annex_error *error);
/* Prints the sentence and returns EXIT_USAGE. */
int session_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Fills `error` with a sentence of the command's own. Returns `status`. */
annex_status session_error(annex_error *error, annex_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Zeroed memory for n things of `bytes` each, freed by free(); the program ends without it. */
void *session_memory(size_t n, size_t bytes);

/* Whether terminal escapes are wanted on a stream: a terminal, no NO_COLOR, no dumb terminal. */
bool session_has_colour(int descriptor);

/* Refuses when `path` exists and --force was not given. */
annex_status session_may_write(const struct session *session, const char *path, annex_error *error);

/* Ends the program's output: whether all of it could be written. */
int session_close_output(int code);

#endif
