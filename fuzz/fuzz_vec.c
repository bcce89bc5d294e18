/*
 * fuzz_vec.c - the input is two arguments of the functions of sqlite-vec, each text or a blob that
 * is taken as f32, int8 or bits. Byte 0 says which, byte 1 how long the first is; both follow.
 *
 * Every function is called with them. What could be read must fit together: the length, the JSON
 * and the rows of vec_each of one vector, and the distance of a vector from itself.
 */
#include <stdlib.h>
#include <string.h>

#include "sqlite/vec/vec.h"
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES = 4096 };

/* a and b stand for the arguments. */
static const char *const expressions[] = {
    "vec_type(a)",
    "vec_length(a) = json_array_length(vec_to_json(a))",
    "vec_length(a) = (SELECT count(value) FROM vec_each(a))",
    "vec_slice(a, vec_length(b), vec_length(a)) IS NOT NULL",
    "vec_normalize(a) IS NOT NULL",
    "vec_length(vec_quantize_binary(a)) = vec_length(a)",
    "vec_length(vec_quantize_int8(a, 'unit')) > 0",
    "vec_length(vec_add(a, b)) = vec_length(a)",
    "vec_length(vec_sub(a, b)) = vec_length(b)",
    "vec_distance_l2(a, b) >= 0",
    "vec_distance_l1(a, b) >= 0",
    "vec_distance_cosine(a, b) IS NULL OR vec_distance_cosine(a, b) >= -0.001",
    "vec_distance_hamming(a, b) <= vec_length(a)",
    "vec_distance_l2(a, a) = 0",
    "vec_distance_hamming(a, a) = 0",
};

static void fuzz_register(sqlite3 *db, const struct function *functions)
{
    for (const struct function *f = functions; f->name != NULL; f++) {
        FUZZ_REQUIRE(sqlite3_create_function_v2(db, f->name, f->most_arguments,
                                                SQLITE_UTF8 | f->flags, NULL, f->call, NULL, NULL,
                                                NULL) == SQLITE_OK);
    }
}

static sqlite3 *fuzz_open(void)
{
    sqlite3 *db = NULL;

    FUZZ_REQUIRE(sqlite3_open(":memory:", &db) == SQLITE_OK);
    fuzz_register(db, vec_functions);
    fuzz_register(db, vec_pair_functions);
    FUZZ_REQUIRE(sqlite3_create_module_v2(db, "vec_each", &vec_each_module, NULL, NULL) ==
                 SQLITE_OK);
    return db;
}

/* `expression` with a and b in the words that `kinds` says, two bits each. */
static char *fuzz_sql(const char *expression, unsigned kinds)
{
    static const char *const wrappers[] = {"?", "vec_f32(?", "vec_int8(?", "vec_bit(?"};
    sqlite3_str *sql = sqlite3_str_new(NULL);

    sqlite3_str_appendall(sql, "SELECT ");
    for (const char *at = expression; *at != '\0'; at++) {
        bool is_argument = (*at == 'a' || *at == 'b') && strchr(" ,()", at[1]) != NULL &&
                           at > expression && strchr(" (", at[-1]) != NULL;
        unsigned kind = *at == 'a' ? kinds & 3 : kinds >> 2 & 3;

        if (is_argument) {
            sqlite3_str_appendf(sql, "%s%d%s", wrappers[kind], *at == 'a' ? 1 : 2,
                                kind == 0 ? "" : ")");
        } else {
            sqlite3_str_appendchar(sql, 1, *at);
        }
    }
    return sqlite3_str_finish(sql);
}

static void fuzz_bind(sqlite3_stmt *statement, int i, bool is_text, const uint8_t *data,
                      size_t bytes)
{
    const char *bound = bytes > 0 ? (const char *)data : "";

    if (is_text) {
        sqlite3_bind_text(statement, i, bound, (int)bytes, SQLITE_TRANSIENT);
    } else {
        sqlite3_bind_blob(statement, i, bound, (int)bytes, SQLITE_TRANSIENT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sqlite3 *db;
    size_t split;

    if (size < 2 || size > INPUT_BYTES) {
        return 0;
    }
    db = fuzz_open();
    split = data[1] < size - 2 ? data[1] : size - 2;
    for (size_t i = 0; i < sizeof expressions / sizeof expressions[0]; i++) {
        char *sql = fuzz_sql(expressions[i], data[0]);
        sqlite3_stmt *statement = NULL;

        FUZZ_REQUIRE(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
        fuzz_bind(statement, 1, data[0] >> 4 & 1, data + 2, split);
        fuzz_bind(statement, 2, data[0] >> 5 & 1, data + 2 + split, size - 2 - split);
        if (sqlite3_step(statement) == SQLITE_ROW) {
            FUZZ_REQUIRE(i == 0 || sqlite3_column_int(statement, 0) == 1);
        } else {
            FUZZ_REQUIRE(sqlite3_errcode(db) == SQLITE_ERROR && *sqlite3_errmsg(db) != '\0');
        }
        sqlite3_finalize(statement);
        sqlite3_free(sql);
    }
    sqlite3_close(db);
    return 0;
}
