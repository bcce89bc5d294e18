/*
 * error.c - statuses and the sentence that goes with them.
 *
 * Invariants: a message is always terminated, and is cut only between UTF-8 characters. Nothing
 * here allocates, so that an error can be reported when there is no memory left.
 * Does not: print, or translate.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/base.h"

const char *annex_status_name(annex_status status)
{
    static const char *const names[] = {
        [ANNEX_OK] = "ok",
        [ANNEX_NOMEM] = "out of memory",
        [ANNEX_IO] = "input/output error",
        [ANNEX_DAMAGED] = "damaged",
        [ANNEX_TOO_NEW] = "too new",
        [ANNEX_BUSY] = "busy",
        [ANNEX_INVALID] = "invalid",
        [ANNEX_NOT_FOUND] = "not found",
        [ANNEX_EXISTS] = "exists",
        [ANNEX_UNSUPPORTED] = "unsupported",
        [ANNEX_CANCELLED] = "cancelled",
        [ANNEX_READ_ONLY] = "read-only",
        [ANNEX_FULL] = "full",
        [ANNEX_HOST] = "database error",
        [ANNEX_INTERNAL] = "internal error",
    };

    if ((unsigned)status >= ARRAY_LENGTH(names)) {
        return "unknown status";
    }
    return names[status];
}

/* Removes the beginning of a character whose end did not fit. */
static void error_trim_utf8(char *text, size_t length)
{
    size_t start = length;
    size_t want;
    unsigned char lead;

    while (start > 0 && length - start < 3 && ((unsigned char)text[start - 1] & 0xc0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return;
    }
    start--;
    lead = (unsigned char)text[start];
    want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (length - start < want) {
        text[start] = '\0';
    }
}

annex_status error_set(annex_error *error, annex_status status, const char *format, ...)
{
    char message[ANNEX_ERROR_BYTES]; /* an argument may be the message that is replaced */
    va_list arguments;

    if (error == NULL) {
        return status;
    }
    memset(message, 0, sizeof message);
    va_start(arguments, format);
    if (vsnprintf(message, sizeof message, format, arguments) >= (int)sizeof message) {
        error_trim_utf8(message, sizeof message - 1);
    }
    va_end(arguments);
    error->status = status;
    memcpy(error->message, message, sizeof message);
    return status;
}

#define MEMORY_ADVICE "free memory or raise the limit of the process"

annex_status error_nomem(annex_error *error, uint64_t bytes)
{
    return error_set(error, ANNEX_NOMEM,
                     "out of memory: %" PRIu64 " bytes could not be allocated; " MEMORY_ADVICE,
                     bytes);
}

static annex_status error_status_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
        return ANNEX_NOT_FOUND;
    case EEXIST:
        return ANNEX_EXISTS;
    case ENOMEM:
        return ANNEX_NOMEM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ANNEX_FULL;
    case EROFS:
        return ANNEX_READ_ONLY;
    case EBUSY:
    case EAGAIN:
        return ANNEX_BUSY;
    default:
        return ANNEX_IO;
    }
}

annex_status error_io(annex_error *error, int errno_value, const char *action, const char *path)
{
    /* strerror keeps its text per thread since glibc 2.32 (and in musl it is constant). */
    annex_status status = error_status_of_errno(errno_value);
    return error_set(error, status, "cannot %s %s: %s%s", action, path, strerror(errno_value),
                     status == ANNEX_NOMEM ? "; " MEMORY_ADVICE : "");
}
