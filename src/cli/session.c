/* session.c - see session.h. */
#include "session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "progress.h"

bool session_has_colour(int descriptor)
{
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(descriptor) && (no_colour == NULL || no_colour[0] == '\0') && terminal != NULL &&
           strcmp(terminal, "dumb") != 0;
}

static void say(const char *format, va_list values) __attribute__((format(printf, 1, 0)));

static void say(const char *format, va_list values)
{
    progress_clear();
    fflush(stdout); /* so that a terminal shows both in their order */
    fputs(session_has_colour(STDERR_FILENO) ? "\033[1mannex:\033[0m " : "annex: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
}

void session_say(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    say(format, values);
    va_end(values);
}

void session_remark(const struct session *session, const char *format, ...)
{
    if (session_has(session, OPTION_QUIET)) {
        return;
    }
    va_list values;
    va_start(values, format);
    say(format, values);
    va_end(values);
}

int session_usage(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    say(format, values);
    va_end(values);
    return EXIT_USAGE;
}

annex_status session_error(annex_error *error, annex_status status, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(error->message, sizeof(error->message), format, values);
    va_end(values);
    error->status = status;
    return status;
}

int session_fail(const annex_error *error)
{
    switch (error->status) {
    case ANNEX_OK:
        return EXIT_OK;
    case ANNEX_CANCELLED:
        session_say("interrupted; nothing was changed");
        return EXIT_INTERRUPTED;
    case ANNEX_NOT_FOUND:
        session_say("%s", error->message);
        return EXIT_NOT_FOUND;
    case ANNEX_DAMAGED:
        session_say("%s", error->message);
        return EXIT_DAMAGED;
    case ANNEX_BUSY:
        session_say("%s", error->message);
        return EXIT_BUSY;
    default:
        session_say("%s", error->message);
        return EXIT_FAILED;
    }
}

void *session_memory(size_t n, size_t bytes)
{
    void *memory = calloc(n > 0 ? n : 1, bytes > 0 ? bytes : 1);
    if (memory == NULL) {
        session_say("out of memory: %zu times %zu bytes were wanted", n, bytes);
        exit(EXIT_FAILED);
    }
    return memory;
}

annex_status session_may_write(const struct session *session, const char *path, annex_error *error)
{
    struct stat status;
    if (session_has(session, OPTION_FORCE) || lstat(path, &status) != 0) {
        return ANNEX_OK;
    }
    return session_error(error, ANNEX_EXISTS, "%s exists; --force replaces it", path);
}

static void on_message(void *context, annex_level level, const char *text)
{
    const struct session *session = context;
    if (level == ANNEX_LOG_WARNING || session_has(session, OPTION_VERBOSE)) {
        session_remark(session, "%s", text);
    }
}

void session_open(struct session *session)
{
    session->env = annex_env_default();
    session->env.log.context = session;
    session->env.log.message = on_message;
    session->env.log.progress = progress_report;
    session->mode = session_has(session, OPTION_JSON)    ? OUT_JSON
                    : session_has(session, OPTION_JSONL) ? OUT_JSONL
                    : session_has(session, OPTION_CSV)   ? OUT_CSV
                                                         : OUT_TABLE;
    const char *terminal = getenv("TERM");
    bool dumb = terminal == NULL || strcmp(terminal, "dumb") == 0;
    progress_start(isatty(STDERR_FILENO) && !dumb && !session_has(session, OPTION_QUIET));
}

int session_close_output(int code)
{
    progress_clear();
    bool failed = ferror(stdout) != 0;
    failed |= fflush(stdout) != 0;
    if (failed && code == EXIT_OK) {
        session_say("cannot write the results: %s", strerror(errno));
        return EXIT_FAILED;
    }
    return code;
}
