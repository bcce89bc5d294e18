/* target.c - the first operand: a database or an index file. */
#include <string.h>

#include "annex-engine.h"
#include "commands.h"

#include <stdio.h>

static bool ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

bool target_is_index_file(const char *target)
{
    static const char index_magic[] = "\x89"
                                      "ANNEX\r\n"; /* docs/FORMAT.md */
    static const char sqlite_magic[] = "SQLite format 3";
    char start[16] = "";
    if (strncmp(target, "file:", 5) == 0 || strstr(target, "://") != NULL) {
        return false;
    }
    FILE *file = fopen(target, "rb");
    size_t n = 0;
    if (file != NULL) {
        n = fread(start, 1, sizeof(start), file);
        fclose(file);
    }
    if (n >= 8 && memcmp(start, index_magic, 8) == 0) {
        return true;
    }
    if (n == sizeof(start) && memcmp(start, sqlite_magic, sizeof(start)) == 0) {
        return false;
    }
    return ends_with(target, ".annex"); /* missing or damaged: the name decides */
}

annex_status target_load_engines(const struct session *session, annex_db *db, annex_error *error)
{
    annex_status status = ANNEX_OK;
    for (size_t i = 0; i < arguments_count(&session->arguments, OPTION_LOAD_ENGINE); i++) {
        if (status == ANNEX_OK) {
            const char *path = arguments_text(&session->arguments, OPTION_LOAD_ENGINE, i);
            status = annex_db_engine_load(db, path, NULL, error);
        }
    }
    return status;
}

annex_status target_open_database(struct session *session, unsigned flags, annex_db **db,
                                  annex_error *error)
{
    const char *target = session->arguments.operands[0];
    *db = NULL;
    if (target_is_index_file(target)) {
        return session_error(error, ANNEX_INVALID,
                             "%s is an index file; annex %s works on a database", target,
                             session->arguments.command->name);
    }
    annex_status status = annex_db_open(&session->env, target, flags, db, error);
    if (status == ANNEX_OK) {
        status = target_load_engines(session, *db, error);
    }
    if (status != ANNEX_OK) {
        annex_db_close(*db);
        *db = NULL;
    }
    return status;
}

annex_status target_open_index(struct session *session, unsigned flags, annex_index **index,
                               annex_error *error)
{
    return annex_index_open(&session->env, session->arguments.operands[0], flags, index, error);
}

annex_status target_indexes_get(struct session *session, annex_db *db,
                                struct target_indexes *indexes, annex_error *error)
{
    const struct arguments *arguments = &session->arguments;
    if (arguments->n_operands >= 2) {
        return target_index_named(session, db, arguments->operands[1], indexes, error);
    }
    *indexes = (struct target_indexes){0};
    annex_status status = annex_db_list(db, &indexes->list, &indexes->n_list, error);
    indexes->first = indexes->list;
    indexes->n = indexes->n_list;
    return status;
}

/* Whether `name` is that of the index, with its schema or without. */
static bool is_called(const annex_db_index *index, const char *name)
{
    size_t schema = strlen(index->schema);
    return strcmp(name, index->name) == 0 ||
           (strncmp(name, index->schema, schema) == 0 && name[schema] == '.' &&
            strcmp(name + schema + 1, index->name) == 0);
}

/* Whether `name` is that of a table or collection that the index stands for. */
static bool is_default_of(const annex_db_index *index, const char *name)
{
    return index->is_default && index->n_sources == 0 && strcmp(name, index->source) == 0;
}

annex_status target_index_named(struct session *session, annex_db *db, const char *name,
                                struct target_indexes *indexes, annex_error *error)
{
    const char *target = session->arguments.operands[0];
    *indexes = (struct target_indexes){0};
    annex_status status = annex_db_list(db, &indexes->list, &indexes->n_list, error);
    if (status != ANNEX_OK) {
        return status;
    }
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < indexes->n_list; i++) {
            const annex_db_index *index = &indexes->list[i];
            if (pass == 0 ? is_called(index, name) : is_default_of(index, name)) {
                indexes->first = index;
                indexes->n = 1;
                return ANNEX_OK;
            }
        }
    }
    return session_error(error, ANNEX_NOT_FOUND,
                         "%s has no index \"%s\"; annex list %s shows those it has", target, name,
                         target);
}

/* The only index that is no member of another one; false when there are several. */
static bool choose_single(struct target_indexes *indexes)
{
    const annex_db_index *single = NULL;
    size_t n = 0;
    for (size_t i = 0; i < indexes->n; i++) {
        if (!indexes->first[i].is_member) {
            single = &indexes->first[i];
            n++;
        }
    }
    if (n == 1) {
        indexes->first = single;
        indexes->n = 1;
    }
    return n == 1;
}

annex_status target_index_get(struct session *session, annex_db *db, struct target_indexes *indexes,
                              annex_error *error)
{
    const char *target = session->arguments.operands[0];
    annex_status status = target_indexes_get(session, db, indexes, error);
    if (status != ANNEX_OK || indexes->n == 1 || choose_single(indexes)) {
        return status;
    }
    if (indexes->n == 0) {
        return session_error(error, ANNEX_NOT_FOUND, "%s has no index; annex create makes one",
                             target);
    }
    char names[256] = "";
    for (size_t i = 0, used = 0; i < indexes->n && used < sizeof(names); i++) {
        int n = snprintf(names + used, sizeof(names) - used, "%s%s", i > 0 ? ", " : "",
                         indexes->first[i].name);
        used += n > 0 ? (size_t)n : 0;
    }
    return session_error(error, ANNEX_INVALID, "%s has %zu indexes; name one of them: %s", target,
                         indexes->n, names);
}

void target_indexes_free(annex_db *db, struct target_indexes *indexes)
{
    if (indexes->list != NULL) {
        annex_db_list_free(db, indexes->list, indexes->n_list);
    }
    *indexes = (struct target_indexes){0};
}
