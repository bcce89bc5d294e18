/*
 * listing.c - lists a folder of files of vectors; see listing.h.
 */
#include "file/listing.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "file/source.h"

static annex_status listing_add(struct listing *listing, const annex_env *env, const char *folder,
                                const char *name, annex_error *error)
{
    if (folder != NULL) {
        size_t length = strlen(folder);

        TRY(buffer_append(env, &listing->text, folder, length, error));
        if (length == 0 || folder[length - 1] != '/') {
            TRY(buffer_append(env, &listing->text, "/", 1, error));
        }
    }
    TRY(buffer_append(env, &listing->text, name, strlen(name) + 1, error));
    listing->n++;
    return ANNEX_OK;
}

static annex_status listing_read_folder(struct listing *listing, const annex_env *env, DIR *folder,
                                        const char *path, annex_error *error)
{
    for (;;) {
        struct dirent *entry;

        errno = 0;
        entry = readdir(folder);
        if (entry == NULL) {
            return errno == 0 ? ANNEX_OK : error_io(error, errno, "list", path);
        }
        if (entry->d_name[0] != '.' && entry->d_type != DT_DIR &&
            source_kind_find(entry->d_name) != NULL) {
            TRY(listing_add(listing, env, path, entry->d_name, error));
        }
    }
}

static int listing_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The text does not move any more: points into it. */
static annex_status listing_sort(struct listing *listing, const annex_env *env, annex_error *error)
{
    const char *path = listing->text.data;

    TRY(memory_new(env, listing->n, sizeof *listing->paths, &listing->paths, error));
    for (size_t i = 0; i < listing->n; i++) {
        listing->paths[i] = path;
        path += strlen(path) + 1;
    }
    qsort(listing->paths, listing->n, sizeof *listing->paths, listing_compare);
    return ANNEX_OK;
}

annex_status listing_read(struct listing *listing, const annex_env *env, const char *path,
                          annex_error *error)
{
    DIR *folder = opendir(path);
    annex_status status;

    *listing = (struct listing){.is_folder = folder != NULL};
    if (folder == NULL) {
        /* Not a folder, or one that cannot be read: opening it will tell. */
        TRY_CLEANUP(listing_add(listing, env, NULL, path, error));
    } else {
        TRY_CLEANUP(listing_read_folder(listing, env, folder, path, error));
    }
    if (listing->n == 0) {
        status = error_set(error, ANNEX_NOT_FOUND,
                           "the folder %s holds no files of vectors: .npy, .fvecs, .bvecs, .ivecs, "
                           ".fbin, .u8bin, .i8bin, .hdf5 or .h5",
                           path);
        goto cleanup;
    }
    TRY_CLEANUP(listing_sort(listing, env, error));

cleanup:
    if (folder != NULL) {
        closedir(folder);
    }
    if (status != ANNEX_OK) {
        listing_free(listing, env);
    }
    return status;
}

void listing_free(struct listing *listing, const annex_env *env)
{
    if (listing->paths != NULL) {
        memory_free(env, listing->paths, listing->n, sizeof *listing->paths);
    }
    buffer_free(env, &listing->text);
    *listing = (struct listing){0};
}
