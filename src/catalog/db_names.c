/*
 * db_names.c - renaming, dropping, and choosing the default index of a source. Each is one
 * transaction: all of it, or nothing.
 *
 * An index over several sources is renamed and dropped with its members, which have no life of
 * their own; the default is a matter of each member.
 */
#include "catalog/catalog.h"

/* Runs in a transaction that begin has opened. */
static annex_status names_end(annex_db *db, annex_status status, annex_error *error)
{
    if (status == ANNEX_OK) {
        status = db->host->type->commit(db->host, error);
    }
    if (status != ANNEX_OK) {
        db->host->type->rollback(db->host);
    }
    return status;
}

static annex_status names_refuse_member(const char *name, const char *what, annex_error *error)
{
    return sources_is_member(name)
               ? error_set(error, ANNEX_INVALID,
                           "%s is a source of index %.*s and cannot be %s by itself", name,
                           (int)strcspn(name, "."), name, what)
               : ANNEX_OK;
}

/* ---- rename ----------------------------------------------------------------------------------*/

/* Gives one row of annex_index another name. */
static annex_status rename_one(annex_db *db, const char *schema, const char *from, const char *to,
                               annex_error *error)
{
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    TRY(catalog_open_in(db, schema, from, &index, &hold, error));
    db->host->type->finish(hold);
    annex_status status = arena_text(&index->arena, to, strlen(to), &index->name, error);
    if (status == ANNEX_OK) {
        status = schema_update_index(db, index, error);
    }
    catalog_forget(index);
    return status;
}

static annex_status rename_run(annex_db *db, const char *from, const char *to,
                               struct arena *scratch, annex_error *error)
{
    struct host_statement *hold = NULL;
    const char *schema = NULL, *old_name = NULL, *to_schema = NULL, *name = NULL;
    const char **members = NULL;
    size_t n = 0;
    TRY(catalog_locate(db, scratch, from, &schema, &old_name, &hold, error));
    db->host->type->finish(hold);
    TRY(names_refuse_member(old_name, "renamed", error));
    TRY(create_check_writable(db, schema, error));
    TRY(schema_split(db, scratch, to, &to_schema, &name, error));
    if (to_schema != NULL && strcmp(to_schema, schema) != 0) {
        return error_set(error, ANNEX_INVALID,
                         "an index cannot move to another schema; it lives beside its table in %s",
                         schema);
    }
    TRY(create_check_name(name, error));
    if (strcmp(name, old_name) != 0) {
        TRY(create_check_free(db, schema, name, error));
    }
    TRY(sources_members(db, scratch, schema, old_name, &members, &n, error));
    TRY(db->host->type->change(db->host, error));
    TRY(rename_one(db, schema, old_name, name, error));
    for (size_t i = 0; i < n; i++) {
        const char *member = NULL;
        TRY(arena_printf(scratch, &member, error, "%s%s", name, members[i] + strlen(old_name)));
        TRY(rename_one(db, schema, members[i], member, error));
    }
    return ANNEX_OK;
}

annex_status annex_db_rename(annex_db *db, const char *from, const char *to, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    TRY(db->host->type->begin(db->host, error));
    annex_status status = names_end(db, rename_run(db, from, to, &scratch, error), error);
    arena_free(&scratch);
    return status;
}

/* ---- drop ------------------------------------------------------------------------------------*/

/*
 * Forgets one row of annex_index and what belongs to it. Works also when the definition cannot be
 * read: everything is found by the number of the index.
 */
static annex_status drop_one(annex_db *db, const char *schema, const char *name,
                             struct catalog_index **out, annex_error *error)
{
    struct host_statement *hold = NULL;
    TRY(catalog_find(db, schema, name, &hold, error));
    if (hold == NULL) {
        return ANNEX_OK;
    }
    int64_t id = host_integer(db->host, hold, 0);
    db->host->type->finish(hold);
    TRY(catalog_new(db, schema, name, out, error));
    struct catalog_index *index = *out;
    index->id = id;
    TRY(catalog_name(index, error));
    (void)catalog_read_parts(db, index, NULL);
    struct host_log log = catalog_log(index);
    TRY(db->host->type->log_drop(db->host, &log, error));
    TRY(schema_create_tables(db, index->schema_sql, error)); /* somebody may have dropped one */
    TRY(schema_delete_parts(db, index, error));
    return host_run(db->host, error, "DELETE FROM %s.annex_index WHERE id = %lld",
                    index->schema_sql, (long long)id);
}

struct drop {
    annex_db *db;
    struct arena scratch;
    struct catalog_index **dropped; /* [n], NULL where it did not come to that */
    size_t n;
};

static annex_status drop_run(struct drop *self, const char *qualified, annex_error *error)
{
    annex_db *db = self->db;
    struct host_statement *hold = NULL;
    const char *schema = NULL, *name = NULL;
    const char **members = NULL;
    size_t n = 0;
    TRY(catalog_locate(db, &self->scratch, qualified, &schema, &name, &hold, error));
    db->host->type->finish(hold);
    TRY(names_refuse_member(name, "dropped", error));
    TRY(create_check_writable(db, schema, error));
    TRY(sources_members(db, &self->scratch, schema, name, &members, &n, error));
    TRY(arena_new(&self->scratch, n + 1, sizeof *self->dropped, &self->dropped, error));
    self->n = n + 1;
    TRY(db->host->type->change(db->host, error));
    TRY(drop_one(db, schema, name, &self->dropped[0], error));
    for (size_t i = 0; i < n; i++) {
        TRY(drop_one(db, schema, members[i], &self->dropped[i + 1], error));
    }
    return schema_drop_tables(db, self->dropped[0]->schema_sql, error);
}

annex_status annex_db_drop(annex_db *db, const char *name, annex_error *error)
{
    struct drop self = {.db = db, .scratch = {&db->env, NULL}};
    TRY(db->host->type->begin(db->host, error));
    annex_status status = names_end(db, drop_run(&self, name, error), error);
    for (size_t i = 0; i < self.n; i++) {
        struct catalog_index *index = self.dropped[i];
        for (size_t j = 0; status == ANNEX_OK && index != NULL && j < index->n_parts; j++) {
            store_remove(db, index, &index->parts[j]);
        }
        catalog_close(db, index);
    }
    arena_free(&self.scratch);
    return status;
}

/* ---- default ---------------------------------------------------------------------------------*/

static annex_status default_set(annex_db *db, const char *name, bool on, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    const char *schema = NULL, *source = NULL;
    TRY(catalog_open(db, name, &index, &hold, error));
    db->host->type->finish(hold);
    int64_t id = index->id;
    unsigned kind = sources_kind(index);
    annex_status status = catalog_inspect(db, index, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(create_check_writable(db, index->schema, error));
    TRY_CLEANUP(arena_text(&scratch, index->schema, strlen(index->schema), &schema, error));
    TRY_CLEANUP(
        arena_text(&scratch, sources_name(index), strlen(sources_name(index)), &source, error));
    if (index->definition.is_default != on) {
        index->definition.is_default = on;
        status = schema_update_index(db, index, error);
    }
    catalog_forget(index);
    TRY_CLEANUP(status);
    if (on) {
        status = sources_clear_default(db, schema, source, kind, id, error);
    }
cleanup:
    arena_free(&scratch);
    return status;
}

static annex_status default_run(annex_db *db, const char *name, bool on, struct arena *scratch,
                                annex_error *error)
{
    const char **names = NULL;
    size_t n = 0;
    TRY(sources_list(db, scratch, name, &names, &n, NULL, error));
    TRY(db->host->type->change(db->host, error));
    for (size_t i = 0; i < n; i++) {
        TRY(default_set(db, names[i], on, error));
    }
    return ANNEX_OK;
}

annex_status annex_db_default(annex_db *db, const char *index, int on, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    TRY(db->host->type->begin(db->host, error));
    annex_status status = names_end(db, default_run(db, index, on != 0, &scratch, error), error);
    arena_free(&scratch);
    return status;
}
