/*
 * cache.c - where mapped copies of segments are kept: $XDG_CACHE_HOME/annex, or ~/.cache/annex, a
 * private directory with one file a segment, named by its content. Everything in it can be removed
 * at any time; what is missing is extracted again from the database. A file that is mapped stays
 * readable when its name is removed.
 *
 * Nobody tells when a database is deleted, so files go when they were not opened for long, or when
 * all of them are too large. The time of the last change says when a file was opened last.
 *
 * This is the only file of the library that reads the environment besides ANNEX_CPU, and that makes
 * directories.
 */
#include "catalog/catalog.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CACHE_DAY = 86400, CACHE_DAYS = 30 };

#define CACHE_BYTES (UINT64_C(16) << 30) /* above that the ones that were not used for long go */

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

/* ---- what is not used any more ----------------------------------------------------------------*/

struct cache_file {
    const char *path;
    int64_t age; /* seconds since it was opened last */
    uint64_t bytes;
};

void cache_use(const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0 && time(NULL) - info.st_mtime > CACHE_DAY) {
        (void)utimensat(AT_FDCWD, path, NULL, 0);
    }
}

/* Finished segments, and what a program that died left of one. */
static bool cache_is_ours(const char *name)
{
    char text[CONTENT_TEXT_BYTES] = "";
    uint64_t content[2];
    const char *tail = strstr(name, ".annex");
    snprintf(text, sizeof text, "%.*s", CONTENT_TEXT_BYTES - 1, name);
    return tail != NULL &&
           (strncmp(name, "build-", strlen("build-")) == 0 ||
            (tail - name == CONTENT_TEXT_BYTES - 1 && content_parse(text, content)));
}

static annex_status cache_list(const annex_env *env, DIR *directory, const char *folder,
                               struct arena *arena, struct buffer *files)
{
    time_t now = time(NULL);
    for (struct dirent *entry = NULL; (entry = readdir(directory)) != NULL;) {
        struct cache_file file = {.path = NULL};
        struct stat info;
        if (!cache_is_ours(entry->d_name)) {
            continue;
        }
        TRY(arena_printf(arena, &file.path, NULL, "%s/%s", folder, entry->d_name));
        if (lstat(file.path, &info) == 0 && S_ISREG(info.st_mode)) {
            file.age = (int64_t)(now - info.st_mtime);
            file.bytes = (uint64_t)info.st_size;
            TRY(buffer_append(env, files, &file, sizeof file, NULL));
        }
    }
    return ANNEX_OK;
}

static int cache_compare_age(const void *a, const void *b)
{
    const struct cache_file *x = a, *y = b;
    return x->age > y->age ? -1 : x->age < y->age;
}

/* A segment that was not opened for long, the rest of a build, or the oldest of too many bytes. */
static bool cache_is_useless(const struct cache_file *file, uint64_t total)
{
    const char *name = strrchr(file->path, '/') + 1;
    bool finished = strchr(name, '.') - name == CONTENT_TEXT_BYTES - 1 &&
                    strcmp(name + CONTENT_TEXT_BYTES - 1, ".annex") == 0;
    int64_t days = file->age / CACHE_DAY;
    return days > 0 && (!finished || days >= CACHE_DAYS || total > CACHE_BYTES);
}

void cache_collect(const annex_env *env)
{
    struct arena scratch = {env, NULL};
    struct buffer files = {0};
    const char *folder = "";
    uint64_t total = 0;
    DIR *directory = NULL;
    if (cache_directory(&scratch, &folder, NULL) == ANNEX_OK && folder[0] != '\0') {
        directory = opendir(folder);
    }
    if (directory != NULL && cache_list(env, directory, folder, &scratch, &files) == ANNEX_OK) {
        struct cache_file *list = (struct cache_file *)files.data;
        size_t n = files.bytes / sizeof *list;
        for (size_t i = 0; i < n; i++) {
            total += list[i].bytes;
        }
        if (n > 0) {
            qsort(list, n, sizeof *list, cache_compare_age);
        }
        for (size_t i = 0; i < n; i++) {
            if (cache_is_useless(&list[i], total)) {
                total -= list[i].bytes;
                (void)env->io.remove(env->io.context, list[i].path);
            }
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    buffer_free(env, &files);
    arena_free(&scratch);
}
