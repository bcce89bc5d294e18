/*
 * listing.h - the files that a path stands for: itself, or the files of vectors in that folder.
 *
 * A folder's files are ordered by the bytes of their names; names that do not end like a file of
 * vectors, hidden files and folders inside are left out. annex_env.io has no way to list a folder,
 * so this is the one place that asks the operating system directly.
 */
#ifndef ANNEX_FILE_LISTING_H
#define ANNEX_FILE_LISTING_H

#include "base/base.h"

struct listing {
    bool is_folder;
    size_t n;
    const char **paths; /* [n], point into `text` */
    struct buffer text;
};

/* A folder without files of vectors is ANNEX_NOT_FOUND. On failure nothing is kept. */
annex_status listing_read(struct listing *listing, const annex_env *env, const char *path,
                          annex_error *error);
void listing_free(struct listing *listing, const annex_env *env);

#endif
