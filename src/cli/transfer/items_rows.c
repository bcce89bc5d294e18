/*
 * items_rows.c - the items of a database: of an index, a table, or a collection of llm.
 *
 * All statements read in one transaction, begun before the first question: what is exported is the
 * database at one moment. An index only says where its vectors are; they come from the table.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "transfer/sql.h"
#include "transfer/transfer.h"

/* One table, or one collection. */
struct part {
    char *source; /* begins each key of an index over several sources; NULL: of a single one */
    sqlite3_stmt *statement;
    annex_format format;
    int n_key;
    int content; /* columns behind the vector: 0 none, 1 content and metadata, 2 those of llm */
};

/* What a part is made of; all borrowed. */
struct place {
    const char *schema, *table, *vector, *where;
    const char *const *keys;
    size_t n_keys;
    const char *collection;         /* of llm; NULL: an ordinary table */
    const char *content, *metadata; /* columns; of llm: what is selected */
    const char *hash;
};

struct rows_source {
    struct items base;
    struct session *session;
    sqlite3 *db;
    struct part *parts;
    size_t n_parts, part;
    float *elements;
    size_t capacity;
    uint64_t other_keys; /* which are no single integer */
};

/* ---- statements -------------------------------------------------------------------------------*/

/* With its table: SQLite takes a bare name in quotes that is no column for a text. */
static char *put_column(char *sql, const struct place *place, const char *column)
{
    sql = sql_append(sql, "%z \"%w\".", place->table);
    return sql_append(sql, "%z\"%w\"", column);
}

static char *put_from(char *sql, const struct place *place)
{
    sql = sql_append(sql, "%z FROM \"%w\".", place->schema);
    return sql_append(sql, "%z\"%w\"", place->table);
}

/* The condition in lines of its own, so that it may end in a comment. */
static char *put_where(char *sql, const struct rows_source *source, const struct place *place)
{
    const char *asked = session_option(source->session, OPTION_WHERE)->text;
    sql = sql_append(sql, "%z WHERE %s",
                     place->collection != NULL
                         ? "collection_id = (SELECT id FROM collections WHERE name = ?1)"
                         : "1");
    if (place->where[0] != '\0') {
        sql = sql_append(sql, "%z AND (%s\n)", place->where);
    }
    return asked == NULL ? sql : sql_append(sql, "%z AND (%s\n)", asked);
}

static void add_part_name(struct part *part, const struct place *place)
{
    if (place->collection != NULL) {
        sqlite3_bind_text(part->statement, 1, place->collection, -1, SQLITE_TRANSIENT);
    }
}

static annex_status prepare_rows(struct rows_source *source, struct part *part,
                                 const struct place *place, annex_error *error)
{
    char *sql = sqlite3_mprintf("SELECT");
    for (size_t i = 0; i < place->n_keys; i++) {
        sql = sql_append(put_column(sql, place, place->keys[i]), "%z%s", ",");
    }
    sql = put_column(sql, place, place->vector);
    part->n_key = (int)place->n_keys;
    if (place->collection != NULL) {
        sql = sql_append(sql, "%z, %s, metadata", place->content);
        sql = sql_append(sql, "%z, %s", place->hash);
        part->content = 2;
    } else if (place->content != NULL || place->metadata != NULL) {
        const char *columns[] = {place->content, place->metadata};
        for (size_t i = 0; i < 2; i++) {
            sql = sql_append(sql, "%z,%s", columns[i] == NULL ? " NULL" : "");
            sql = columns[i] == NULL ? sql : put_column(sql, place, columns[i]);
        }
        part->content = 1;
    }
    source->base.has_text |= part->content > 0;
    sql = put_where(put_from(sql, place), source, place);
    annex_status status = sql_prepare_text(source->db, &part->statement, sql, error);
    if (status == ANNEX_OK) {
        add_part_name(part, place);
    }
    return status;
}

/* How many rows there are, and how many of them have keys that are no integer. */
static annex_status count_rows(struct rows_source *source, const struct place *place,
                               annex_error *error)
{
    struct part counted = {0};
    int64_t counts[2];
    char *sql = sqlite3_mprintf("SELECT count(*), count(*) FILTER (WHERE typeof(");
    sql = put_column(sql, place, place->keys[0]);
    sql = sql_append(sql, "%z) <> %s)", "'integer'");
    sql = put_where(put_from(sql, place), source, place);
    annex_status status = sql_prepare_text(source->db, &counted.statement, sql, error);
    if (status == ANNEX_OK) {
        add_part_name(&counted, place);
        status = sql_integers(counted.statement, counts, 2, NULL, error);
    }
    if (status == ANNEX_OK) {
        source->base.total += (uint64_t)counts[0];
        source->other_keys += place->n_keys > 1 ? (uint64_t)counts[0] : (uint64_t)counts[1];
    }
    sqlite3_finalize(counted.statement);
    return status;
}

/* `name`: of the source, when there are several. */
static annex_status add_part(struct rows_source *source, const struct place *place,
                             const char *name, annex_format format, annex_error *error)
{
    struct part *part = &source->parts[source->n_parts++];
    part->format = format;
    if (name != NULL) {
        part->source = memcpy(session_memory(strlen(name) + 1, 1), name, strlen(name) + 1);
        source->other_keys++;
    }
    annex_status status = prepare_rows(source, part, place, error);
    return status == ANNEX_OK ? count_rows(source, place, error) : status;
}

/* ---- what is asked for ------------------------------------------------------------------------*/

static annex_status add_collection(struct rows_source *source, const char *schema,
                                   const char *collection, const char *where, const char *name,
                                   annex_error *error)
{
    static const char *const keys[] = {"id"};
    struct place place = {.schema = schema,
                          .table = "embeddings",
                          .vector = "embedding",
                          .where = where,
                          .keys = keys,
                          .n_keys = 1,
                          .collection = collection};
    bool blob = false, hash = false; /* came with llm 0.10 and 0.9 */
    annex_status status =
        sql_has_column(source->db, schema, place.table, "content_blob", &blob, error);
    if (status == ANNEX_OK) {
        status = sql_has_column(source->db, schema, place.table, "content_hash", &hash, error);
    }
    place.content = blob ? "coalesce(content, content_blob)" : "content";
    place.hash = hash ? "content_hash" : "NULL";
    return status == ANNEX_OK ? add_part(source, &place, name, ANNEX_F32, error) : status;
}

/* The collection must be there: without it the statements give no rows. */
static annex_status open_collection(struct rows_source *source, annex_error *error)
{
    const char *name = session_option(source->session, OPTION_LLM_COLLECTION)->text;
    sqlite3_stmt *statement = NULL;
    bool found = false;
    annex_status status =
        sql_prepare(source->db, &statement, error, "SELECT 1 FROM collections WHERE name = ?1");
    if (status == ANNEX_OK) {
        sqlite3_bind_text(statement, 1, name, -1, SQLITE_TRANSIENT);
        status = sql_integers(statement, NULL, 0, &found, error);
    }
    sqlite3_finalize(statement);
    if (status == ANNEX_OK && !found) {
        return session_error(error, ANNEX_NOT_FOUND, "%s has no collection \"%s\"",
                             source->base.name, name);
    }
    return status == ANNEX_OK ? add_collection(source, "main", name, "", NULL, error) : status;
}

static annex_status open_table(struct rows_source *source, annex_error *error)
{
    const struct session *session = source->session;
    const char *keys[TRANSFER_KEYS];
    const char *format = session_option(session, OPTION_VECTOR_FORMAT)->text;
    const char *key = session_option(session, OPTION_KEY)->text;
    const char *typed = key != NULL ? key : "id";
    struct place place = {.schema = "main",
                          .table = session_option(session, OPTION_TABLE)->text,
                          .vector = session_option(session, OPTION_VECTOR)->text,
                          .where = "",
                          .keys = keys,
                          .content = session_option(session, OPTION_CONTENT)->text,
                          .metadata = session_option(session, OPTION_METADATA)->text};
    annex_format parsed = ANNEX_FORMAT_AUTO;
    annex_status status = format == NULL ? ANNEX_OK : annex_format_parse(format, &parsed, error);
    if (status != ANNEX_OK) {
        return status;
    }
    char *copy = session_memory(strlen(typed) + 1, 1);
    memcpy(copy, typed, strlen(typed) + 1);
    place.n_keys = transfer_split_names(copy, keys);
    status = place.n_keys > 0 ? add_part(source, &place, NULL, parsed, error)
                              : session_error(error, ANNEX_INVALID, "--key names no column");
    free(copy);
    return status;
}

static bool is_of_llm(const annex_db_index *index)
{
    json_t *options = json_loads(index->options, 0, NULL);
    bool is = json_object_get(options, "llm_collection") != NULL;
    json_decref(options);
    return is;
}

static annex_status add_index(struct rows_source *source, const annex_db_index *index,
                              const char *name, annex_error *error)
{
    if (is_of_llm(index)) {
        return add_collection(source, index->schema, index->source, index->where, name, error);
    }
    struct place place = {.schema = index->schema,
                          .table = index->table,
                          .vector = index->column,
                          .where = index->where,
                          .keys = index->key_columns,
                          .n_keys = index->n_key_columns,
                          .content = session_option(source->session, OPTION_CONTENT)->text,
                          .metadata = session_option(source->session, OPTION_METADATA)->text};
    annex_format format = ANNEX_FORMAT_AUTO;
    if (index->n_key_columns == 0) {
        return session_error(error, ANNEX_INVALID, "the index %s cannot be read: %s", index->name,
                             index->reason);
    }
    annex_status status = annex_format_parse(index->format, &format, error);
    return status == ANNEX_OK ? add_part(source, &place, name, format, error) : status;
}

/* Whether an index is a member of `whole`: "whole.source". */
static bool is_member_of(const annex_db_index *index, const annex_db_index *whole)
{
    size_t n = strlen(whole->name);
    return index->is_member && strcmp(index->schema, whole->schema) == 0 &&
           strncmp(index->name, whole->name, n) == 0 && index->name[n] == '.';
}

static annex_status add_indexes(struct rows_source *source, const struct target_indexes *indexes,
                                annex_error *error)
{
    source->parts = session_memory(indexes->n_list + 1, sizeof(*source->parts));
    if (indexes->first->n_sources == 0) {
        return add_index(source, indexes->first, NULL, error);
    }
    annex_status status = ANNEX_OK;
    for (size_t i = 0; status == ANNEX_OK && i < indexes->n_list; i++) {
        const annex_db_index *index = &indexes->list[i];
        if (is_member_of(index, indexes->first)) {
            status = add_index(source, index, index->source, error);
        }
    }
    return status;
}

static annex_status open_index(struct rows_source *source, annex_error *error)
{
    struct target_indexes indexes = {0};
    annex_db *db = NULL;
    annex_status status = annex_db_adopt_sqlite(&source->session->env, source->db, &db, error);
    if (status == ANNEX_OK) {
        status = target_index_get(source->session, db, &indexes, error);
    }
    if (status == ANNEX_OK) {
        status = add_indexes(source, &indexes, error);
    }
    target_indexes_free(db, &indexes);
    annex_db_close(db);
    return status;
}

/* ---- rows -------------------------------------------------------------------------------------*/

static annex_status no_vector(const struct rows_source *source, const struct item *item,
                              const char *type, annex_error *error)
{
    return transfer_error(&source->base, item, error, ANNEX_INVALID,
                          "%s is no vector; leave the row out with --where, or say with "
                          "--vector-format how the column stores vectors",
                          type);
}

static void reserve(struct rows_source *source, size_t n)
{
    if (source->capacity < n) {
        free(source->elements);
        source->elements = session_memory(n, sizeof(float));
        source->capacity = n;
    }
}

static annex_status read_text(struct rows_source *source, const annex_value *value,
                              struct item *item, annex_error *error)
{
    size_t n = 0;
    reserve(source, 1);
    annex_status status = annex_vector_parse(value->data, value->bytes, source->elements,
                                             source->capacity, &n, error);
    if (status == ANNEX_FULL && n <= ANNEX_MAX_DIMENSION) {
        reserve(source, n);
        status = annex_vector_parse(value->data, value->bytes, source->elements, source->capacity,
                                    &n, error);
    }
    if (status == ANNEX_FULL) {
        return transfer_error(&source->base, item, error, ANNEX_INVALID,
                              "the vector has %zu elements; a vector has 1 to %d", n,
                              ANNEX_MAX_DIMENSION);
    }
    if (status != ANNEX_OK) {
        char why[256];
        snprintf(why, sizeof(why), "%.255s", error->message);
        return transfer_error(&source->base, item, error, ANNEX_INVALID, "%s", why);
    }
    item->vector = source->elements;
    item->dimension = n;
    return ANNEX_OK;
}

static size_t element_bytes(annex_format format)
{
    switch (format) {
    case ANNEX_F64:
        return 8;
    case ANNEX_F16:
    case ANNEX_BF16:
        return 2;
    case ANNEX_I8:
    case ANNEX_U8:
        return 1;
    default:
        return 4;
    }
}

static annex_status read_blob(struct rows_source *source, annex_format format,
                              const annex_value *value, struct item *item, annex_error *error)
{
    size_t bytes = element_bytes(format);
    if (format == ANNEX_BITS) {
        item->vector = value->data;
        item->dimension = 8 * value->bytes;
        return ANNEX_OK;
    }
    if (format == ANNEX_JSON || value->bytes == 0 || value->bytes % bytes != 0) {
        char what[64];
        snprintf(what, sizeof(what), "a blob of %zu bytes", value->bytes);
        return no_vector(source, item, what, error);
    }
    item->dimension = value->bytes / bytes;
    reserve(source, item->dimension);
    item->vector = source->elements;
    return annex_vector_widen(format == ANNEX_FORMAT_AUTO ? ANNEX_F32 : format, value->data,
                              item->dimension, source->elements, error);
}

/* The row that the statement stands on. */
static annex_status read_row(struct rows_source *source, const struct part *part, struct item *item,
                             annex_error *error)
{
    annex_value vector = sql_value(part->statement, part->n_key);
    if (part->source != NULL) {
        item->key[item->n_key++] =
            (annex_value){.type = ANNEX_TEXT, .data = part->source, .bytes = strlen(part->source)};
    }
    for (int i = 0; i < part->n_key; i++) {
        item->key[item->n_key] = sql_value(part->statement, i);
        if (item->key[item->n_key++].type == ANNEX_NULL) {
            return transfer_error(&source->base, item, error, ANNEX_INVALID,
                                  "a row without a key cannot be exported");
        }
    }
    if (part->content > 0) {
        item->content = sql_value(part->statement, part->n_key + 1);
        item->metadata = sql_value(part->statement, part->n_key + 2);
    }
    if (part->content == 2) {
        item->content_hash = sql_value(part->statement, part->n_key + 3);
    }
    switch (vector.type) {
    case ANNEX_TEXT:
        return read_text(source, &vector, item, error);
    case ANNEX_BLOB:
        return read_blob(source, part->format, &vector, item, error);
    default:
        return no_vector(source, item, "a number", error);
    }
}

static annex_status next(struct items *base, struct item *item, annex_error *error)
{
    struct rows_source *source = (struct rows_source *)base;
    *item = (struct item){0};
    while (source->part < source->n_parts) {
        const struct part *part = &source->parts[source->part];
        int code = sqlite3_step(part->statement);
        if (code == SQLITE_DONE) {
            source->part++;
            continue;
        }
        if (code != SQLITE_ROW) {
            return sql_error(source->db, error);
        }
        base->done++;
        if (sqlite3_column_type(part->statement, part->n_key) != SQLITE_NULL) {
            return read_row(source, part, item, error);
        }
        base->skipped++;
    }
    return ANNEX_OK;
}

static void close_rows(struct items *base)
{
    struct rows_source *source = (struct rows_source *)base;
    for (size_t i = 0; i < source->n_parts; i++) {
        sqlite3_finalize(source->parts[i].statement);
        free(source->parts[i].source);
    }
    free(source->parts);
    free(source->elements);
    sqlite3_close(source->db);
    free(source);
}

static annex_status open_rows(struct rows_source *source, annex_error *error)
{
    struct session *session = source->session;
    annex_status status = sql_open(source->base.name, SQLITE_OPEN_READONLY, &source->db, error);
    if (status == ANNEX_OK) {
        status = sql_run(source->db, error, "BEGIN");
    }
    if (status != ANNEX_OK) {
        return status;
    }
    bool table = session_has(session, OPTION_TABLE);
    if (!table && !session_has(session, OPTION_LLM_COLLECTION)) {
        return open_index(source, error);
    }
    source->parts = session_memory(1, sizeof(*source->parts));
    return table ? open_table(source, error) : open_collection(source, error);
}

annex_status items_open_rows(struct session *session, struct items **opened, annex_error *error)
{
    struct rows_source *source = session_memory(1, sizeof(*source));
    struct items *base = &source->base;
    *base = (struct items){.next = next, .close = close_rows};
    base->name = session->arguments.operands[0];
    source->session = session;
    annex_status status = open_rows(source, error);
    if (status != ANNEX_OK) {
        close_rows(base);
        return status;
    }
    for (size_t i = 0; i < source->n_parts; i++) {
        base->bits |= source->parts[i].format == ANNEX_BITS;
    }
    base->integer_keys = source->other_keys == 0;
    *opened = base;
    return ANNEX_OK;
}
