/*
 * sweep.c - removing files beside the database that no index names any more. They stay behind when
 * a transaction of the caller is rolled back after an index was built in it, or when a program dies
 * between building and committing.
 *
 * Invariants
 *   1. Runs with the lock for writing in a transaction of our own, so that nobody is between
 *      building and committing (a caller's transaction that has written nothing yet excepted: its
 *      index is then stale, and the next sync builds it anew).
 *   2. Only names of the form "<database>.annex-<...>-<32 hexadecimal digits>" are touched, and
 *      these with ".tmp-<16 hexadecimal digits>", which a program leaves that dies while it writes.
 */
#include <dirent.h>

#include "catalog/catalog.h"

enum { SWEEP_CONTENT_CHARACTERS = CONTENT_TEXT_BYTES - 1, SWEEP_RANDOM_CHARACTERS = 16 };

/* The length of a name without ".tmp-<16 hexadecimal digits>". */
static size_t sweep_length(const char *name)
{
    size_t length = strlen(name);
    size_t suffix = strlen(".tmp-") + SWEEP_RANDOM_CHARACTERS;
    const char *tail = length > suffix ? name + length - suffix : "";
    bool temporary = strncmp(tail, ".tmp-", strlen(".tmp-")) == 0 &&
                     strspn(tail + strlen(".tmp-"), "0123456789abcdef") == SWEEP_RANDOM_CHARACTERS;
    return temporary ? length - suffix : length;
}

static bool sweep_is_ours(const char *name, const char *database)
{
    size_t prefix = strlen(database);
    size_t length = sweep_length(name);
    char text[CONTENT_TEXT_BYTES];
    uint64_t content[2];
    if (length <= prefix + strlen(".annex-") + SWEEP_CONTENT_CHARACTERS ||
        strncmp(name, database, prefix) != 0 ||
        strncmp(name + prefix, ".annex-", strlen(".annex-")) != 0) {
        return false;
    }
    memcpy(text, name + length - SWEEP_CONTENT_CHARACTERS, SWEEP_CONTENT_CHARACTERS);
    text[SWEEP_CONTENT_CHARACTERS] = '\0';
    return content_parse(text, content);
}

/* Whether annex_part names the file now, or did before this transaction. */
static annex_status sweep_is_used(annex_db *db, const struct catalog_index *index,
                                  struct host_statement *statement, const char *name, bool *used,
                                  annex_error *error)
{
    *used = false;
    for (size_t i = 0; i < index->n_parts && !*used; i++) {
        *used = strcmp(index->parts[i].file, name) == 0;
    }
    if (*used) {
        return ANNEX_OK;
    }
    TRY(host_bind_text(db->host, statement, 1, name, error));
    annex_status status = db->host->type->step(statement, used, error);
    db->host->type->reset(statement);
    return status;
}

annex_status store_sweep(annex_db *db, const struct catalog_index *index, annex_error *error)
{
    const char *database = db->host->type->file(db->host, index->schema);
    struct arena scratch = {&db->env, NULL};
    struct host_statement *statement = NULL;
    const char *slash = database != NULL ? strrchr(database, '/') : NULL;
    const char *folder = NULL, *path = NULL;
    if (slash == NULL || !index->definition.in_file) {
        return ANNEX_OK;
    }
    annex_status status =
        arena_text(&scratch, database, (size_t)(slash - database) + 1, &folder, error);
    DIR *directory = status == ANNEX_OK ? opendir(folder) : NULL;
    TRY_CLEANUP(status);
    TRY_CLEANUP(host_prepare(db->host, &statement, error,
                             "SELECT 1 FROM %s.annex_part WHERE file = ?1", index->schema_sql));
    for (struct dirent *entry = NULL; directory != NULL && (entry = readdir(directory)) != NULL;) {
        bool used = false;
        if (!sweep_is_ours(entry->d_name, slash + 1)) {
            continue;
        }
        TRY_CLEANUP(sweep_is_used(db, index, statement, entry->d_name, &used, error));
        if (!used) {
            TRY_CLEANUP(arena_printf(&scratch, &path, error, "%s%s", folder, entry->d_name));
            (void)db->env.io.remove(db->env.io.context, path);
        }
    }
cleanup:
    if (directory != NULL) {
        closedir(directory);
    }
    db->host->type->finish(statement);
    arena_free(&scratch);
    return status;
}
