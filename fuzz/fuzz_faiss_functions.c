/*
 * fuzz_faiss_functions.c - the input is JSON for faiss_encode, as text and as a blob; without its
 * first byte it is an id as well, and a blob for faiss_decode.
 *
 * What could be encoded must be decoded to JSON that gives the same blob, and both ways of input
 * must give one answer. An id that was written as JSON must be read back by SQLite, which ends text
 * at a zero byte.
 */
#include <string.h>

#include "sqlite/faiss/faiss.h"
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES = 4096 };

static sqlite3 *fuzz_open(void)
{
    sqlite3 *db = NULL;

    FUZZ_REQUIRE(sqlite3_open(":memory:", &db) == SQLITE_OK);
    for (const struct function *f = faiss_functions; f->name != NULL; f++) {
        FUZZ_REQUIRE(sqlite3_create_function_v2(db, f->name, f->most_arguments,
                                                SQLITE_UTF8 | f->flags, NULL, f->call, NULL, NULL,
                                                NULL) == SQLITE_OK);
    }
    FUZZ_REQUIRE(faiss_add_aggregates(db) == SQLITE_OK);
    return db;
}

/* Runs the query with the input as the text ?1 and the blob ?2: it gives 1 or an error. */
static void fuzz_run(sqlite3 *db, const char *sql, const uint8_t *data, size_t bytes)
{
    sqlite3_stmt *statement = NULL;
    const char *bound = bytes > 0 ? (const char *)data : "";

    FUZZ_REQUIRE(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
    sqlite3_bind_text(statement, 1, bound, (int)bytes, SQLITE_TRANSIENT);
    sqlite3_bind_blob(statement, 2, bound, (int)bytes, SQLITE_TRANSIENT);
    if (sqlite3_step(statement) == SQLITE_ROW) {
        FUZZ_REQUIRE(sqlite3_column_int(statement, 0) == 1);
    } else {
        FUZZ_REQUIRE(sqlite3_errcode(db) == SQLITE_ERROR && *sqlite3_errmsg(db) != '\0');
    }
    sqlite3_finalize(statement);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sqlite3 *db;

    if (size < 1 || size > INPUT_BYTES) {
        return 0;
    }
    db = fuzz_open();
    fuzz_run(db, "SELECT faiss_encode(?1) = faiss_encode(?2)", data, size);
    fuzz_run(db,
             "SELECT instr(faiss_decode(faiss_encode(?1)), 'NaN') > 0 OR"
             " faiss_encode(faiss_decode(faiss_encode(?1))) = faiss_encode(?1)",
             data, size);
    if (memchr(data, 0, size) == NULL) {
        fuzz_run(db, "SELECT json_extract(faiss_agg(?1, x'', x'', 1), '$[0]') = ?1", data + 1,
                 size - 1);
    }
    fuzz_run(db, "SELECT length(faiss_decode(?2)) >= 2", data + 1, size - 1);
    sqlite3_close(db);
    return 0;
}
