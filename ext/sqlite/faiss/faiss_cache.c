/*
 * faiss_cache.c - what faiss_search remembers of the tables it searched: their vectors, and whether
 * there is an index.
 *
 * Invariants
 *   1. What is remembered is used in the same state of the database only. SQLite counts the commits
 *      it sees in a file, its own and those of others (SQLITE_FCNTL_DATA_VERSION). The count starts
 *      anew when a schema is detached and attached: then the statement kept for each table is
 *      prepared anew, which counts too.
 *   2. Inside a transaction that writes, nothing is remembered and nothing remembered is used: a
 *      rollback to a savepoint would not show.
 *   3. Nor is it for views and virtual tables, whose content may come from anywhere, for databases
 *      that sqlite3_deserialize may replace without a trace, nor for a connection that reads
 *      uncommitted changes of others.
 *   4. There are at most CACHE_BYTES of vectors and CACHE_TABLES tables; those used last stay.
 */
#include <string.h>

#include "sqlite/faiss/faiss.h"
#include "sqlite/statement.h"

#define CACHE_BYTES ((size_t)1 << 30)
#define CACHE_TABLES 64

/* ---- Entries ----------------------------------------------------------------------------------*/

void faiss_cache_drop(struct faiss_cache *cache, struct faiss_table *table)
{
    for (size_t i = 0; i < table->n_blocks; i++) {
        faiss_block_free(table->blocks[i]);
    }
    sqlite3_free(table->blocks);
    cache->bytes -= table->bytes;
    table->blocks = NULL;
    table->n_blocks = 0;
    table->n_room = 0;
    table->bytes = 0;
    table->is_too_large = false;
    table->kept.valid = false;
}

/* Takes the entry that *link points to out of the list and frees it. */
static void cache_forget(struct faiss_cache *cache, struct faiss_table **link)
{
    struct faiss_table *table = *link;

    *link = table->next;
    faiss_cache_drop(cache, table);
    sqlite3_finalize(table->look);
    sqlite3_free(table->index);
    sqlite3_free(table->schema);
    sqlite3_free(table->name);
    sqlite3_free(table);
}

static void cache_free(void *argument)
{
    struct faiss_cache *cache = argument;

    while (cache->first != NULL) {
        cache_forget(cache, &cache->first);
    }
    sqlite3_free(cache);
}

struct faiss_cache *faiss_cache_of(struct connection *connection)
{
    struct faiss_cache *cache = connection_kept(connection);

    if (cache == NULL) {
        cache = sqlite3_malloc64(sizeof *cache);
        if (cache != NULL) {
            *cache = (struct faiss_cache){0};
            connection_keep(connection, cache, cache_free);
        }
    }
    return cache;
}

/* The entry becomes the first; NULL when there is none. */
static struct faiss_table *cache_find(struct faiss_cache *cache, const char *schema,
                                      const char *name)
{
    for (struct faiss_table **link = &cache->first; *link != NULL; link = &(*link)->next) {
        struct faiss_table *table = *link;

        if (sqlite3_stricmp(table->schema, schema) == 0 &&
            sqlite3_stricmp(table->name, name) == 0) {
            *link = table->next;
            table->next = cache->first;
            cache->first = table;
            return table;
        }
    }
    return NULL;
}

static struct faiss_table *cache_add(struct faiss_cache *cache, const char *schema,
                                     const char *name)
{
    struct faiss_table **link = &cache->first;
    struct faiss_table *table = sqlite3_malloc64(sizeof *table);

    if (table == NULL) {
        return NULL;
    }
    *table = (struct faiss_table){.schema = sqlite3_mprintf("%s", schema),
                                  .name = sqlite3_mprintf("%s", name),
                                  .next = cache->first};
    cache->first = table;
    if (table->schema == NULL || table->name == NULL) {
        cache_forget(cache, &cache->first);
        return NULL;
    }
    for (size_t i = 0; i < CACHE_TABLES && *link != NULL; i++) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        cache_forget(cache, link);
    }
    return table;
}

bool faiss_cache_keep(struct faiss_cache *cache, struct faiss_table *table,
                      struct faiss_block *block)
{
    while (cache->bytes + block->bytes > CACHE_BYTES && cache->bytes > table->bytes) {
        struct faiss_table *last = NULL;

        for (struct faiss_table *other = cache->first; other != NULL; other = other->next) {
            last = other != table && other->bytes > 0 ? other : last;
        }
        faiss_cache_drop(cache, last);
    }
    if (table->n_blocks == table->n_room) {
        size_t room = table->n_room == 0 ? 16 : 2 * table->n_room;
        struct faiss_block **blocks = sqlite3_realloc64(table->blocks, room * sizeof *blocks);

        if (blocks == NULL) {
            return false;
        }
        table->blocks = blocks;
        table->n_room = room;
    }
    if (cache->bytes + block->bytes > CACHE_BYTES) {
        return false;
    }
    table->blocks[table->n_blocks++] = block;
    table->bytes += block->bytes;
    cache->bytes += block->bytes;
    return true;
}

/* ---- The state of a schema --------------------------------------------------------------------*/

bool faiss_stamp_equal(const struct faiss_stamp *a, const struct faiss_stamp *b)
{
    return a->valid && b->valid && a->version == b->version && a->prepared == b->prepared;
}

/* Whether the connection reads what others have not committed, which shared caches allow. */
static bool stamp_reads_uncommitted(sqlite3 *handle)
{
    sqlite3_stmt *statement = NULL;
    bool reads = true;

    if (sqlite3_prepare_v2(handle, "PRAGMA read_uncommitted", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        reads = sqlite3_column_int(statement, 0) != 0;
    }
    sqlite3_finalize(statement);
    return reads;
}

/* Whether the database is a piece of memory, as sqlite3_deserialize makes it. */
static bool stamp_is_image(sqlite3 *handle, const char *schema)
{
    char *name = NULL;
    bool is_image;

    sqlite3_file_control(handle, schema, SQLITE_FCNTL_VFSNAME, &name);
    is_image = name != NULL && strncmp(name, "memdb", strlen("memdb")) == 0;
    sqlite3_free(name);
    return is_image;
}

/* To be called while table->look has a row: reading has begun, so that the version is known. */
static void stamp_take(sqlite3 *handle, const struct faiss_table *table, bool is_ordinary,
                       struct faiss_stamp *stamp)
{
    const char *schema = table->schema;

    stamp->valid = is_ordinary && sqlite3_txn_state(handle, schema) != SQLITE_TXN_WRITE &&
                   !stamp_is_image(handle, schema) && !stamp_reads_uncommitted(handle) &&
                   sqlite3_file_control(handle, schema, SQLITE_FCNTL_DATA_VERSION,
                                        &stamp->version) == SQLITE_OK;
    stamp->prepared = sqlite3_stmt_status(table->look, SQLITE_STMTSTATUS_REPREPARE, 0);
}

/* *is_ordinary: the table is neither a view nor virtual. */
static annex_status table_look(sqlite3 *handle, struct faiss_table *table, bool *is_ordinary,
                               annex_error *error)
{
    annex_status status = ANNEX_OK;
    bool row = false;

    if (table->look == NULL) {
        status = statement_prepare(handle, &table->look, error,
                                   "SELECT type = 'table' AND rootpage > 0"
                                   " FROM \"%w\".sqlite_schema"
                                   " WHERE type IN ('table', 'view') AND name = %Q COLLATE NOCASE",
                                   table->schema, table->name);
    }
    if (status == ANNEX_OK) {
        status = statement_step(table->look, &row, error);
    }
    if (status == ANNEX_OK && !row) {
        connection_refuse(error, "there is no table %s in database %s", table->name, table->schema);
        status = ANNEX_NOT_FOUND;
        error->status = status;
    }
    *is_ordinary = row && sqlite3_column_int(table->look, 0) != 0;
    return status;
}

annex_status faiss_cache_enter(sqlite3 *handle, struct faiss_cache *cache, const char *schema,
                               const char *name, struct faiss_table **table,
                               struct faiss_stamp *now, annex_error *error)
{
    annex_status status;
    bool is_ordinary;

    *now = (struct faiss_stamp){0};
    *table = cache_find(cache, schema, name);
    if (*table == NULL) {
        *table = cache_add(cache, schema, name);
    }
    if (*table == NULL) {
        return statement_nomem(error);
    }
    status = table_look(handle, *table, &is_ordinary, error);
    if (status != ANNEX_OK) {
        cache_forget(cache, &cache->first);
        *table = NULL;
        return status;
    }
    stamp_take(handle, *table, is_ordinary, now);
    return ANNEX_OK;
}

void faiss_table_leave(struct faiss_table *table)
{
    sqlite3_reset(table->look);
}
