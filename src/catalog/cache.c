/*
 * cache.c - where mapped copies of segments are kept: $XDG_CACHE_HOME/annex, or ~/.cache/annex, a
 * private directory with one file a segment, named by its content. Everything in it can be removed
 * at any time; what is missing is extracted again from the database.
 *
 * This is the only file of the library that reads the environment besides ANNEX_CPU, and that makes
 * directories.
 */
#include "catalog/catalog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *content_print(const uint64_t content[2], char text[CONTENT_TEXT_BYTES])
{
    snprintf(text, CONTENT_TEXT_BYTES, "%016" PRIx64 "%016" PRIx64, content[0], content[1]);
    return text;
}

bool content_parse(const char *text, uint64_t content[2])
{
    content[0] = content[1] = 0;
    for (size_t i = 0; i < CONTENT_TEXT_BYTES - 1; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
        if (digit == NULL) {
            return false;
        }
        content[i / 16] = content[i / 16] << 4 | (uint64_t)(digit - digits);
    }
    return text[CONTENT_TEXT_BYTES - 1] == '\0';
}

/* A directory of ours that nobody else can write to. */
static bool directory_is_private(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
           (info.st_mode & 022) == 0 && access(path, W_OK | X_OK) == 0;
}

annex_status cache_directory(struct arena *arena, const char **directory, annex_error *error)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    *directory = "";
    if (cache == NULL || cache[0] != '/') {
        if (home == NULL || home[0] != '/') {
            return ANNEX_OK;
        }
        TRY(arena_printf(arena, &cache, error, "%s/.cache", home));
    }
    const char *path = NULL;
    TRY(arena_printf(arena, &path, error, "%s/annex", cache));
    if (!directory_is_private(path)) {
        (void)mkdir(cache, 0700);
        (void)mkdir(path, 0700);
    }
    if (directory_is_private(path)) {
        *directory = path;
    }
    return ANNEX_OK;
}
