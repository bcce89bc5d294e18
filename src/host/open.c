/*
 * open.c - which database a target names. There is one host, SQLite; what names another database is
 * refused here.
 */
#include "host/host.h"

annex_status host_open(const annex_env *env, const char *target, unsigned flags, struct host **host,
                       annex_error *error)
{
    bool file = strncmp(target, "file:", 5) == 0;
    bool other = strncmp(target, "odbc:", 5) == 0 || (!file && strstr(target, "://") != NULL);
    *host = NULL;
    if (other) {
        return error_set(error, ANNEX_UNSUPPORTED,
                         "cannot open %s: this version of Annex opens SQLite databases only; give "
                         "a path or a file: URI",
                         target);
    }
    return sqlite_open(env, target, flags, host, error);
}
