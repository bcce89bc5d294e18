/*
 * fuzz_options.c - the input is the options JSON of annex_create: up to a zero byte the text given
 * to annex_db_create, behind it the options of a search.
 *
 * The table is tiny and in memory. An index that could be created must pass its check and find its
 * rows.
 */
#include <sqlite3.h>
#include <string.h>

#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPTION_BYTES = 1024 };

static const char table_sql[] =
    "CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, vector BLOB);"
    "INSERT INTO docs VALUES (1, 'en', x'0000803f00000000'), (2, 'de', x'000000000000803f'),"
    " (3, 'en', x'0000803f0000803f'), (4, NULL, NULL);";

static void fuzz_search(annex_db *db, const char *options)
{
    static const float query[2] = {1, 0};
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    annex_result *result = NULL;
    annex_error error;

    request.query.type = ANNEX_BLOB;
    request.query.data = query;
    request.query.bytes = sizeof query;
    request.options = options;
    if (annex_db_search(db, "docs_idx", &request, &result, &error) == ANNEX_OK) {
        FUZZ_REQUIRE(annex_result_count(result) <= request.k);
    }
    annex_result_free(result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char options[2 * OPTION_BYTES + 2] = {0};
    struct fuzz_input nothing = {data, 0};
    annex_env env = fuzz_env(&nothing);
    annex_db *db = NULL;
    sqlite3 *connection = NULL;
    annex_error error;

    if (size > OPTION_BYTES) {
        return 0;
    }
    memcpy(options, data, size);
    FUZZ_REQUIRE(sqlite3_open(":memory:", &connection) == SQLITE_OK);
    FUZZ_REQUIRE(sqlite3_exec(connection, table_sql, NULL, NULL, NULL) == SQLITE_OK);
    FUZZ_REQUIRE(annex_db_adopt_sqlite(&env, connection, &db, &error) == ANNEX_OK);
    if (annex_db_create(db, "docs_idx", "docs", "vector", options, &error) == ANNEX_OK) {
        FUZZ_REQUIRE(annex_db_check(db, "docs_idx", &error) == ANNEX_OK);
        fuzz_search(db, NULL);
        fuzz_search(db, options + strlen(options) + 1);
        FUZZ_REQUIRE(annex_db_drop(db, "docs_idx", &error) == ANNEX_OK);
    } else {
        FUZZ_REQUIRE(memchr(error.message, 0, sizeof error.message) != NULL);
    }
    annex_db_close(db);
    FUZZ_REQUIRE(sqlite3_close(connection) == SQLITE_OK);
    return 0;
}
