/*
 * fuzz_catalog.c - the input is what stands in a database where Annex wrote something else. The
 * first byte says where: the text of a trigger, the definition of the index, the key of a changed
 * row; the rest is put there.
 *
 * The index is listed, searched, synced, checked and dropped. After a trigger was edited a sync
 * that succeeds leaves a fresh index.
 */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CATALOG_BYTES = 2048 };

static const char table_sql[] =
    "CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, vector BLOB);"
    "INSERT INTO docs VALUES (1, 'en', x'0000803f00000000'), (2, 'de', x'000000000000803f'),"
    " (3, 'en', x'0000803f0000803f'), (4, NULL, NULL);";

static const char *const edits[] = {
    "UPDATE sqlite_schema SET sql = ?1 WHERE name = 'annex_log_1_update'",
    "UPDATE annex_index SET definition = ?1, version = version + 1",
    "INSERT INTO annex_log_1(nonce, k1) VALUES (7, ?1)",
};

static void fuzz_edit(sqlite3 *connection, const uint8_t *data, size_t size)
{
    sqlite3_stmt *statement = NULL;

    sqlite3_exec(connection, "PRAGMA writable_schema = 1", NULL, NULL, NULL);
    FUZZ_REQUIRE(sqlite3_prepare_v2(connection, edits[data[0] % 3], -1, &statement, NULL) ==
                 SQLITE_OK);
    sqlite3_bind_text(statement, 1, (const char *)data + 1, (int)size - 1, SQLITE_STATIC);
    sqlite3_step(statement);
    sqlite3_finalize(statement);
    sqlite3_exec(connection, "PRAGMA writable_schema = 0", NULL, NULL, NULL);
}

static void fuzz_search(annex_db *db)
{
    static const float query[2] = {1, 0};
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    annex_result *result = NULL;
    annex_error error;

    request.query.type = ANNEX_BLOB;
    request.query.data = query;
    request.query.bytes = sizeof query;
    if (annex_db_search(db, "docs_idx", &request, &result, &error) == ANNEX_OK) {
        FUZZ_REQUIRE(annex_result_count(result) <= 4);
    }
    annex_result_free(result);
}

/* Whether the list holds the one index, in this state. */
static int fuzz_is(annex_db *db, const char *state)
{
    annex_db_index *list = NULL;
    size_t n = 0;
    annex_error error;
    int is = annex_db_list(db, &list, &n, &error) == ANNEX_OK && n == 1 &&
             (strcmp(list[0].state, "stale") == 0) == (list[0].reason[0] != '\0') &&
             (state == NULL || strcmp(list[0].state, state) == 0);

    annex_db_list_free(db, list, n);
    return is;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input nothing = {data, 0};
    annex_env env = fuzz_env(&nothing);
    annex_db *db = NULL;
    sqlite3 *connection = NULL;
    annex_error error;

    if (size == 0 || size > CATALOG_BYTES) {
        return 0;
    }
    unsetenv("HOME"); /* no cache: segments stay in memory */
    unsetenv("XDG_CACHE_HOME");
    FUZZ_REQUIRE(sqlite3_open(":memory:", &connection) == SQLITE_OK);
    FUZZ_REQUIRE(sqlite3_exec(connection, table_sql, NULL, NULL, NULL) == SQLITE_OK);
    FUZZ_REQUIRE(annex_db_adopt_sqlite(&env, connection, &db, &error) == ANNEX_OK);
    FUZZ_REQUIRE(annex_db_create(db, "docs_idx", "docs", "vector", "{\"where\": \"lang = 'en'\"}",
                                 &error) == ANNEX_OK);
    fuzz_edit(connection, data, size);
    FUZZ_REQUIRE(fuzz_is(db, NULL));
    fuzz_search(db);
    if (annex_db_sync(db, "docs_idx", NULL, &error) == ANNEX_OK) {
        FUZZ_REQUIRE(data[0] % 3 != 0 || fuzz_is(db, "fresh"));
        fuzz_search(db);
    }
    (void)annex_db_check(db, "docs_idx", &error);
    (void)annex_db_drop(db, "docs_idx", &error);
    annex_db_close(db);
    FUZZ_REQUIRE(sqlite3_close(connection) == SQLITE_OK);
    return 0;
}
