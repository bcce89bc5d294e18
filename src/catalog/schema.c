/*
 * schema.c - the catalog tables: made, read, written, removed. They are ordinary tables beside the
 * table that is indexed:
 *
 *   annex_index(id, name, version, seq, nonce, definition, parts)    parts: how many there must be
 *   annex_part(id, index_id, slots, bytes, content, dead, file, family, recall)
 *   annex_segment(part, chunk, data)
 *
 * Every change of an index goes with a new random version in annex_index, made by the host.
 */
#include "catalog/catalog.h"

#include <stdio.h>

static const char *const catalog_tables[] = {"annex_index", "annex_part", "annex_segment"};

annex_status schema_create_tables(annex_db *db, const char *schema_sql, annex_error *error)
{
    TRY(host_run(db->host, error,
                 "CREATE TABLE IF NOT EXISTS %s.annex_index(id INTEGER PRIMARY KEY, "
                 "name TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, seq INTEGER NOT NULL, "
                 "nonce INTEGER NOT NULL, definition TEXT NOT NULL, parts INTEGER NOT NULL)",
                 schema_sql));
    TRY(host_run(db->host, error,
                 "CREATE TABLE IF NOT EXISTS %s.annex_part(id INTEGER PRIMARY KEY, "
                 "index_id INTEGER NOT NULL, slots INTEGER NOT NULL, bytes INTEGER NOT NULL, "
                 "content TEXT NOT NULL, dead BLOB, file TEXT NOT NULL, family TEXT NOT NULL, "
                 "recall REAL NOT NULL)",
                 schema_sql));
    return host_run(db->host, error,
                    "CREATE TABLE IF NOT EXISTS %s.annex_segment(part INTEGER NOT NULL, "
                    "chunk INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(part, chunk))",
                    schema_sql);
}

annex_status schema_drop_tables(annex_db *db, const char *schema_sql, annex_error *error)
{
    struct host_statement *statement = NULL;
    annex_error why = {ANNEX_OK, ""};
    bool row = false;
    TRY(host_prepare(db->host, &statement, error, "SELECT 1 FROM %s.annex_index LIMIT 1",
                     schema_sql));
    annex_status status = db->host->type->step(statement, &row, error);
    db->host->type->finish(statement);
    for (size_t i = 0; status == ANNEX_OK && !row && i < ARRAY_LENGTH(catalog_tables); i++) {
        status = host_run(db->host, &why, "DROP TABLE %s.%s", schema_sql, catalog_tables[i]);
        if (status == ANNEX_BUSY) {
            return ANNEX_OK; /* a statement of the caller reads; the tables stay, empty */
        }
        if (status != ANNEX_OK) {
            return error_set(error, status, "%s", why.message);
        }
    }
    return status;
}

annex_status schema_split(annex_db *db, struct arena *arena, const char *qualified,
                          const char **schema, const char **name, annex_error *error)
{
    const char *dot = strchr(qualified, '.');
    const char **schemas = NULL;
    size_t n = 0;
    *schema = NULL;
    *name = qualified;
    if (dot == NULL) {
        return ANNEX_OK;
    }
    TRY(db->host->type->schemas(db->host, arena, &schemas, &n, error));
    for (size_t i = 0; i < n; i++) {
        if (strlen(schemas[i]) == (size_t)(dot - qualified) &&
            strncasecmp(schemas[i], qualified, (size_t)(dot - qualified)) == 0) {
            *schema = schemas[i];
            *name = dot + 1;
        }
    }
    return ANNEX_OK;
}

/* ---- rows ------------------------------------------------------------------------------------*/

annex_status schema_insert_index(annex_db *db, struct catalog_index *index, annex_error *error)
{
    struct host *host = db->host;
    struct host_statement *statement = NULL;
    bool row = false;
    annex_status status = ANNEX_OK;
    TRY_CLEANUP(
        host_prepare(host, &statement, error,
                     "INSERT INTO %s.annex_index(name, version, seq, nonce, definition, parts) "
                     "VALUES (?1, random(), 0, 0, '', 0) RETURNING id",
                     index->schema_sql));
    TRY_CLEANUP(host_bind_text(host, statement, 1, index->name, error));
    TRY_CLEANUP(host->type->step(statement, &row, error));
    index->id = host_integer(host, statement, 0);
    TRY_CLEANUP(host_finish_step(host, statement, error));
cleanup:
    host->type->finish(statement);
    return status;
}

annex_status schema_update_index(annex_db *db, struct catalog_index *index, annex_error *error)
{
    struct host *host = db->host;
    struct host_statement *statement = NULL;
    const char *text = NULL;
    annex_status status = definition_write(&index->arena, &index->definition, &text, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(host_prepare(host, &statement, error,
                             "UPDATE %s.annex_index SET version = random(), seq = ?1, nonce = ?2, "
                             "definition = ?3, name = ?4, parts = ?6 WHERE id = ?5",
                             index->schema_sql));
    TRY_CLEANUP(host_bind_integer(host, statement, 1, index->seq, error));
    TRY_CLEANUP(host_bind_integer(host, statement, 2, index->nonce, error));
    TRY_CLEANUP(host_bind_text(host, statement, 3, text, error));
    TRY_CLEANUP(host_bind_text(host, statement, 4, index->name, error));
    TRY_CLEANUP(host_bind_integer(host, statement, 5, index->id, error));
    TRY_CLEANUP(host_bind_integer(host, statement, 6, index->parts_expected, error));
    TRY_CLEANUP(host_finish_step(host, statement, error));
cleanup:
    host->type->finish(statement);
    return status;
}

annex_status schema_insert_part(annex_db *db, struct catalog_index *index,
                                struct catalog_part *part, annex_error *error)
{
    struct host *host = db->host;
    struct host_statement *statement = NULL;
    annex_value recall = {.type = ANNEX_REAL, .real = part->recall};
    char content[CONTENT_TEXT_BYTES];
    bool row = false;
    annex_status status = ANNEX_OK;
    TRY_CLEANUP(host_prepare(
        host, &statement, error,
        "INSERT INTO %s.annex_part(index_id, slots, bytes, content, file, family, recall) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id",
        index->schema_sql));
    TRY_CLEANUP(host_bind_integer(host, statement, 1, index->id, error));
    TRY_CLEANUP(host_bind_integer(host, statement, 2, (int64_t)part->slots, error));
    TRY_CLEANUP(host_bind_integer(host, statement, 3, (int64_t)part->bytes, error));
    content_print(part->content, content);
    TRY_CLEANUP(host_bind_text(host, statement, 4, content, error));
    TRY_CLEANUP(host_bind_text(host, statement, 5, part->file, error));
    TRY_CLEANUP(host_bind_text(host, statement, 6, part->family, error));
    TRY_CLEANUP(host->type->bind(statement, 7, &recall, error));
    TRY_CLEANUP(host->type->step(statement, &row, error));
    part->id = host_integer(host, statement, 0);
    TRY_CLEANUP(host_finish_step(host, statement, error));
cleanup:
    host->type->finish(statement);
    return status;
}

annex_status schema_update_dead(annex_db *db, struct catalog_index *index,
                                const struct catalog_part *part, annex_error *error)
{
    struct host *host = db->host;
    struct host_statement *statement = NULL;
    annex_value dead = {.type = ANNEX_BLOB,
                        .data = part->dead,
                        .bytes = bitmap_words(part->slots) * sizeof(uint64_t)};
    annex_status status = ANNEX_OK;
    TRY_CLEANUP(host_prepare(host, &statement, error,
                             "UPDATE %s.annex_part SET dead = ?1 WHERE id = ?2",
                             index->schema_sql));
    TRY_CLEANUP(host->type->bind(statement, 1, &dead, error));
    TRY_CLEANUP(host_bind_integer(host, statement, 2, part->id, error));
    TRY_CLEANUP(host_finish_step(host, statement, error));
cleanup:
    host->type->finish(statement);
    return status;
}

annex_status schema_delete_part(annex_db *db, struct catalog_index *index, int64_t part,
                                annex_error *error)
{
    TRY(host_run(db->host, error, "DELETE FROM %s.annex_segment WHERE part = %lld",
                 index->schema_sql, (long long)part));
    return host_run(db->host, error, "DELETE FROM %s.annex_part WHERE id = %lld", index->schema_sql,
                    (long long)part);
}

annex_status schema_delete_parts(annex_db *db, const struct catalog_index *index,
                                 annex_error *error)
{
    TRY(host_run(db->host, error,
                 "DELETE FROM %s.annex_segment WHERE part IN "
                 "(SELECT id FROM %s.annex_part WHERE index_id = %lld)",
                 index->schema_sql, index->schema_sql, (long long)index->id));
    return host_run(db->host, error, "DELETE FROM %s.annex_part WHERE index_id = %lld",
                    index->schema_sql, (long long)index->id);
}
