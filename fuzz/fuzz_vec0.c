/*
 * fuzz_vec0.c - the input is what stands between the parentheses of CREATE VIRTUAL TABLE … USING
 * vec0(…).
 *
 * What is refused is refused with a sentence. Of what is accepted, columns lie inside the input and
 * are counted right; and a table of such columns takes a row, finds it, and leaves nothing behind.
 */
#include <string.h>

#include "sqlite/vec/vec0.h"
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES = 1024 };

/* The table `found` itself is all there may be. */
#define FUZZ_COUNT \
    "INSERT INTO found SELECT count(*) FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*'"

static bool fuzz_is_refusal(const char *message)
{
    static const char start[] = "vec0 constructor error: ";

    return strncmp(message, start, sizeof start - 1) == 0;
}

/* Splits the input into arguments as SQLite does. */
static bool fuzz_declare(const char *text, size_t bytes, struct vec0_declaration *declaration,
                         annex_error *error)
{
    struct piece rest = {text, bytes};
    struct piece argument;
    bool valid = true;

    vec0_declare_begin(declaration);
    while (valid && declaration_next(&rest, &argument)) {
        valid = vec0_declare_add(declaration, argument, error);
    }
    return valid && vec0_declare_end(declaration, error);
}

static void fuzz_check(const struct vec0_declaration *declaration, const char *text, size_t bytes)
{
    size_t counts[VEC0_ROLES] = {0};

    FUZZ_REQUIRE(declaration->n >= 2 && declaration->n <= VEC0_MAX_COLUMNS);
    for (size_t i = 0; i < declaration->n; i++) {
        const struct vec0_column *column = &declaration->columns[i];

        counts[column->role]++;
        FUZZ_REQUIRE(column->name.bytes > 0 && (column->role == VEC0_KEY) == (i == 0));
        FUZZ_REQUIRE(
            (i == 0 && declaration->counts[VEC0_KEY] == 0) ||
            (column->name.text >= text && column->name.text + column->name.bytes <= text + bytes));
        FUZZ_REQUIRE(column->role != VEC0_VECTOR ||
                     (vec0_vector_bytes(column) > 0 && column->dimension <= ANNEX_MAX_DIMENSION));
    }
    for (int role = VEC0_VECTOR; role < VEC0_ROLES; role++) {
        FUZZ_REQUIRE(counts[role] == declaration->counts[role]);
    }
}

/* The declaration in other words. */
static void fuzz_append_columns(sqlite3_str *sql, const struct vec0_declaration *declaration)
{
    static const char *const behind[VEC0_ROLES] = {
        [VEC0_KEY] = " primary key", [VEC0_VECTOR] = "",    [VEC0_PARTITION] = " partition key",
        [VEC0_METADATA] = "",        [VEC0_AUXILIARY] = "",
    };

    for (size_t i = declaration->counts[VEC0_KEY] == 0; i < declaration->n; i++) {
        const struct vec0_column *column = &declaration->columns[i];
        const char *type = column->elements == VEC_F32    ? "float"
                           : column->elements == VEC_INT8 ? "int8"
                                                          : "bit";

        sqlite3_str_appendf(sql, "%s%.*s ", column->role == VEC0_AUXILIARY ? "+" : "",
                            (int)column->name.bytes, column->name.text);
        if (column->role == VEC0_VECTOR) {
            sqlite3_str_appendf(sql, "%s[%d]", type, (int)column->dimension);
        } else {
            sqlite3_str_appendf(sql, "%s%s", vec0_type_name(column->type), behind[column->role]);
        }
        sqlite3_str_appendall(sql, i + 1 < declaration->n ? ", " : "");
    }
}

/* A row of zeros, and a search for it in each vector column. The table `found` takes only 1. */
static char *fuzz_sql(const struct vec0_declaration *declaration)
{
    sqlite3_str *sql = sqlite3_str_new(NULL);

    sqlite3_str_appendall(sql, "INSERT INTO fuzzed VALUES (");
    for (size_t i = 0; i < declaration->n; i++) {
        const struct vec0_column *column = &declaration->columns[i];

        if (column->role == VEC0_VECTOR) {
            sqlite3_str_appendf(sql, "zeroblob(%d)", (int)vec0_vector_bytes(column));
        } else {
            sqlite3_str_appendall(sql, i > 0 ? "NULL" : column->type == VEC0_TEXT ? "'key'" : "7");
        }
        sqlite3_str_appendall(sql, i + 1 < declaration->n ? ", " : ");");
    }
    for (size_t i = 0; i < declaration->n; i++) {
        const struct vec0_column *column = &declaration->columns[i];

        if (column->role == VEC0_VECTOR) {
            sqlite3_str_appendall(sql, "INSERT INTO found SELECT count(*) FROM fuzzed WHERE ");
            vec0_append_name(sql, column);
            sqlite3_str_appendf(sql, " MATCH zeroblob(%d) AND k = 3;",
                                (int)vec0_vector_bytes(column));
        }
    }
    sqlite3_str_appendall(sql, "DROP TABLE fuzzed;" FUZZ_COUNT);
    return sqlite3_str_finish(sql);
}

static void fuzz_use(sqlite3 *db, const struct vec0_declaration *declaration)
{
    sqlite3_str *sql = sqlite3_str_new(NULL);
    char *text;

    sqlite3_str_appendall(sql, "CREATE VIRTUAL TABLE fuzzed USING vec0(");
    fuzz_append_columns(sql, declaration);
    sqlite3_str_appendall(sql, ")");
    text = sqlite3_str_finish(sql);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK) {
        sqlite3_free(text);
        text = fuzz_sql(declaration);
        FUZZ_REQUIRE(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK);
    } else {
        /* Two columns of one name, a name that the table needs itself or that is not UTF-8. */
        FUZZ_REQUIRE(fuzz_is_refusal(sqlite3_errmsg(db)));
        FUZZ_REQUIRE(sqlite3_exec(db, FUZZ_COUNT, NULL, NULL, NULL) == SQLITE_OK);
    }
    sqlite3_free(text);
}

static sqlite3 *fuzz_open(void)
{
    sqlite3 *db = NULL;
    struct connection *connection;

    FUZZ_REQUIRE(sqlite3_open(":memory:", &db) == SQLITE_OK);
    connection = connection_new(db);
    FUZZ_REQUIRE(vec0_register(db, connection) == SQLITE_OK);
    FUZZ_REQUIRE(sqlite3_create_module_v2(db, "annex_indexes", &indexes_module, connection,
                                          connection_release) == SQLITE_OK);
    FUZZ_REQUIRE(sqlite3_exec(db, "CREATE TABLE found(n CHECK(n = 1))", NULL, NULL, NULL) ==
                 SQLITE_OK);
    return db;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[INPUT_BYTES + 1] = "";
    struct vec0_declaration declaration;
    annex_error error;
    sqlite3 *db;

    if (size > INPUT_BYTES || memchr(data, '\0', size) != NULL) {
        return 0;
    }
    memcpy(text, data, size);
    if (!fuzz_declare(text, size, &declaration, &error)) {
        FUZZ_REQUIRE(fuzz_is_refusal(error.message));
        return 0;
    }
    fuzz_check(&declaration, text, size);
    db = fuzz_open();
    fuzz_use(db, &declaration);
    FUZZ_REQUIRE(sqlite3_close(db) == SQLITE_OK);
    return 0;
}
