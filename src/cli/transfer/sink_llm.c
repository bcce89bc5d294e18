/*
 * sink_llm.c - items into a collection of llm's database.
 *
 * A new file gets the tables that llm 0.10 and later make, and the record of its migrations, so
 * that llm finds nothing to do. content_hash is what llm would have computed: MD5 of the content;
 * an item without content keeps the hash that came with it, and otherwise gets that of its vector,
 * which no content has. Does not: migrate an older file, which llm does whenever it opens one.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "transfer/md5.h"
#include "transfer/sink_rows.h"

struct llm_sink {
    struct rows_sink rows;
    int64_t collection, now;
    unsigned char hash[MD5_BYTES];
    char id[32];
};

/* To the letter what llm makes. */
static const char schema[] =
    "CREATE TABLE IF NOT EXISTS \"_sqlite_migrations\" (\n"
    "   \"id\" INTEGER PRIMARY KEY,\n"
    "   \"migration_set\" TEXT,\n"
    "   \"name\" TEXT,\n"
    "   \"applied_at\" TEXT\n"
    ");\n"
    "CREATE UNIQUE INDEX IF NOT EXISTS \"idx__sqlite_migrations_migration_set_name\"\n"
    "    ON \"_sqlite_migrations\" (\"migration_set\", \"name\");\n"
    "CREATE TABLE \"collections\" (\n"
    "   \"id\" INTEGER PRIMARY KEY,\n"
    "   \"name\" TEXT,\n"
    "   \"model\" TEXT\n"
    ");\n"
    "CREATE UNIQUE INDEX \"idx_collections_name\"\n"
    "    ON \"collections\" (\"name\");\n"
    "CREATE TABLE \"embeddings\" (\n"
    "   \"collection_id\" INTEGER REFERENCES \"collections\"(\"id\"),\n"
    "   \"id\" TEXT,\n"
    "   \"embedding\" BLOB,\n"
    "   \"content\" TEXT,\n"
    "   \"content_blob\" BLOB,\n"
    "   \"content_hash\" BLOB,\n"
    "   \"metadata\" TEXT,\n"
    "   \"updated\" INTEGER,\n"
    "   PRIMARY KEY (\"collection_id\", \"id\")\n"
    ");\n"
    "CREATE INDEX \"idx_embeddings_content_hash\"\n"
    "    ON \"embeddings\" (\"content_hash\");\n"
    "INSERT INTO \"_sqlite_migrations\" (migration_set, name, applied_at)\n"
    "SELECT 'llm.embeddings', value, strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now')\n"
    "FROM json_each('[\"m001_create_tables\", \"m002_foreign_key\", \"m003_add_updated\", "
    "\"m004_store_content_hash\", \"m005_add_content_blob\"]');\n";

static annex_status make_tables(struct llm_sink *sink, annex_error *error)
{
    static const char *const wanted[] = {"updated", "content_hash", "content_blob"};
    sqlite3 *db = sink->rows.db;
    sqlite3_stmt *statement = NULL;
    int64_t tables = 0;
    annex_status status = sql_prepare(db, &statement, error,
                                      "SELECT count(*) FROM sqlite_schema WHERE type = 'table' "
                                      "AND name IN ('collections', 'embeddings')");
    if (status == ANNEX_OK) {
        status = sql_integers(statement, &tables, 1, NULL, error);
    }
    sqlite3_finalize(statement);
    if (status == ANNEX_OK && tables == 0) {
        return sql_run(db, error, schema);
    }
    bool has = true;
    for (size_t i = 0; status == ANNEX_OK && has && i < ARRAY_LENGTH(wanted); i++) {
        status = sql_has_column(db, "main", "embeddings", wanted[i], &has, error);
    }
    if (status == ANNEX_OK && !has) {
        return session_error(error, ANNEX_INVALID,
                             "%s has no tables as llm 0.10 or later makes them; `llm collections "
                             "list -d FILE` brings older ones up to date",
                             sink->rows.session->arguments.operands[0]);
    }
    return status;
}

/* The collection that is there: of the model that was named, and of the dimension of the items. */
static annex_status check_collection(const struct llm_sink *sink, const char *name,
                                     const char *model, int64_t bytes, const struct item *item,
                                     annex_error *error)
{
    const char *asked = session_option(sink->rows.session, OPTION_MODEL)->text;
    if (asked != NULL && (model == NULL || strcmp(asked, model) != 0)) {
        return session_error(error, ANNEX_INVALID,
                             "the collection \"%s\" holds vectors of the model %s, not of %s; "
                             "import into another collection",
                             name, model != NULL ? model : "(none)", asked);
    }
    if (bytes > 0 && (uint64_t)bytes != item->dimension * sizeof(float)) {
        return session_error(error, ANNEX_INVALID,
                             "the collection \"%s\" holds vectors of %" PRId64 " elements, and the "
                             "first item has %zu; import into another collection",
                             name, bytes / 4, item->dimension);
    }
    return ANNEX_OK;
}

static annex_status create_collection(struct llm_sink *sink, const char *name, annex_error *error)
{
    const char *model = session_option(sink->rows.session, OPTION_MODEL)->text;
    sqlite3_stmt *statement = NULL;
    if (model == NULL) {
        return session_error(error, ANNEX_INVALID,
                             "the collection \"%s\" is new: --model says which model made the "
                             "vectors, so that llm can embed queries with it",
                             name);
    }
    annex_status status =
        sql_prepare(sink->rows.db, &statement, error,
                    "INSERT INTO collections (name, model) VALUES (%Q, %Q)", name, model);
    if (status == ANNEX_OK) {
        status = sql_integers(statement, NULL, 0, NULL, error);
    }
    sqlite3_finalize(statement);
    sink->collection = sqlite3_last_insert_rowid(sink->rows.db);
    return status;
}

static annex_status find_collection(struct llm_sink *sink, const struct item *item,
                                    annex_error *error)
{
    const char *name = session_option(sink->rows.session, OPTION_LLM_COLLECTION)->text;
    sqlite3_stmt *statement = NULL;
    annex_status status = sql_prepare(
        sink->rows.db, &statement, error,
        "SELECT id, (SELECT length(embedding) FROM embeddings WHERE collection_id = c.id LIMIT 1), "
        "model FROM collections c WHERE name = %Q",
        name);
    if (status != ANNEX_OK) {
        return status;
    }
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        sink->collection = sqlite3_column_int64(statement, 0);
        status = check_collection(sink, name, (const char *)sqlite3_column_text(statement, 2),
                                  sqlite3_column_int64(statement, 1), item, error);
    } else if (code != SQLITE_DONE) {
        status = sql_error(sink->rows.db, error);
    }
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? create_collection(sink, name, error) : status;
}

static annex_status prepare_llm(struct rows_sink *rows, const struct item *item, annex_error *error)
{
    static const char *const columns[] = {"collection_id", "id",           "embedding", "content",
                                          "content_blob",  "content_hash", "metadata",  "updated"};
    struct llm_sink *sink = (struct llm_sink *)rows;
    annex_status status = make_tables(sink, error);
    memcpy(rows->target.columns, columns, sizeof(columns));
    rows->target.n_columns = ARRAY_LENGTH(columns);
    rows->target.n_key = 2;
    return status == ANNEX_OK ? find_collection(sink, item, error) : status;
}

/* Ids of llm are texts. */
static annex_status take_id(struct llm_sink *sink, const struct item *item, annex_value *id,
                            annex_error *error)
{
    *id = item->key[0];
    if (item->n_key == 1 && id->type == ANNEX_TEXT) {
        return ANNEX_OK;
    }
    if (item->n_key == 1 && id->type == ANNEX_INTEGER) {
        int n = snprintf(sink->id, sizeof(sink->id), "%" PRId64, id->integer);
        *id = (annex_value){.type = ANNEX_TEXT, .data = sink->id, .bytes = (size_t)n};
        return ANNEX_OK;
    }
    return transfer_error(sink->rows.source, item, error, ANNEX_INVALID,
                          "llm has ids that are one text or integer");
}

/* Metadata of llm is an object, and an empty one is none. */
static annex_status take_metadata(const struct llm_sink *sink, const struct item *item,
                                  annex_value *metadata, annex_error *error)
{
    const char *text = item->metadata.data;
    *metadata = item->metadata;
    if (metadata->type == ANNEX_NULL) {
        return ANNEX_OK;
    }
    if (metadata->bytes < 2 || text[0] != '{') {
        return transfer_error(sink->rows.source, item, error, ANNEX_INVALID,
                              "metadata of llm is a JSON object");
    }
    if (metadata->bytes == 2) {
        *metadata = (annex_value){.type = ANNEX_NULL};
    }
    return ANNEX_OK;
}

static annex_status llm_values(struct rows_sink *rows, const struct item *item, annex_value *values,
                               annex_error *error)
{
    struct llm_sink *sink = (struct llm_sink *)rows;
    const annex_value none = {.type = ANNEX_NULL}, *content = &item->content;
    annex_value vector = rows_sink_vector(rows, item);
    const annex_value *hashed = content->type != ANNEX_NULL ? content : &vector;
    annex_status status = take_id(sink, item, &values[1], error);
    if (status == ANNEX_OK) {
        status = take_metadata(sink, item, &values[6], error);
    }
    values[0] = (annex_value){.type = ANNEX_INTEGER, .integer = sink->collection};
    values[2] = vector;
    values[3] = content->type == ANNEX_TEXT ? *content : none;
    values[4] = content->type == ANNEX_BLOB ? *content : none;
    if (content->type == ANNEX_NULL && item->content_hash.type == ANNEX_BLOB) {
        values[5] = item->content_hash;
    } else {
        md5_digest(hashed->data, hashed->bytes, sink->hash);
        values[5] =
            (annex_value){.type = ANNEX_BLOB, .data = sink->hash, .bytes = sizeof(sink->hash)};
    }
    values[7] = (annex_value){.type = ANNEX_INTEGER, .integer = sink->now};
    return status;
}

annex_status sink_open_llm(struct session *session, const struct items *source,
                           struct sink **opened, annex_error *error)
{
    struct llm_sink *sink = session_memory(1, sizeof(*sink));
    annex_status status = rows_sink_begin(&sink->rows, session, source, error);
    sink->rows.prepare = prepare_llm;
    sink->rows.values = llm_values;
    sink->rows.target.table = "embeddings";
    sink->now = (int64_t)time(NULL);
    *opened = &sink->rows.base;
    if (status == ANNEX_OK && source->bits) {
        return session_error(error, ANNEX_UNSUPPORTED, "llm has vectors of f32, not bits");
    }
    return status;
}
