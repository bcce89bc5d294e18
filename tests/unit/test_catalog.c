/*
 * test_catalog.c - indexes in a SQLite database, through annex_db_*.
 *
 * The oracle reads the table with SQLite alone, compares every row with the query and sorts by
 * (distance, key). Writers use a connection of their own that knows nothing of Annex. Random tests
 * are seeded, and the seed is in the name of what fails.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "catalog/catalog.h"
#include "fault.h"

enum { DIMENSION = 8, MAX_ROWS = 4096 };

/* ---- a database with two connections ---------------------------------------------------------*/

struct scene {
    char folder[64];
    char path[96];
    sqlite3 *plain; /* a program without Annex */
    annex_db *db;
    annex_error error;
    char warning[ANNEX_ERROR_BYTES];
    annex_env env;
};

static void scene_message(void *context, annex_level level, const char *text)
{
    struct scene *scene = context;
    if (level == ANNEX_LOG_WARNING) {
        snprintf(scene->warning, sizeof scene->warning, "%s", text);
    }
}

static int scene_setup(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    snprintf(scene->folder, sizeof scene->folder, "/tmp/annex-test-XXXXXX");
    assert_non_null(mkdtemp(scene->folder));
    setenv("XDG_CACHE_HOME", scene->folder, 1);
    snprintf(scene->path, sizeof scene->path, "%s/docs.db", scene->folder);
    assert_int_equal(sqlite3_open(scene->path, &scene->plain), SQLITE_OK);
    scene->env = annex_env_default();
    scene->env.log = (annex_log){.context = scene, .message = scene_message};
    assert_int_equal(
        annex_db_open(&scene->env, scene->path, ANNEX_DB_CREATE, &scene->db, &scene->error),
        ANNEX_OK);
    *state = scene;
    return 0;
}

static int scene_teardown(void **state)
{
    struct scene *scene = *state;
    char command[128];
    annex_db_close(scene->db);
    sqlite3_close(scene->plain);
    snprintf(command, sizeof command, "rm -rf %s", scene->folder);
    assert_int_equal(system(command), 0);
    free(scene);
    return 0;
}

static void run(struct scene *scene, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(scene->plain, sql, NULL, NULL, &message) != SQLITE_OK) {
        fail_msg("%s: %s", sql, message);
    }
}

static void expect_ok(struct scene *scene, annex_status status)
{
    if (status != ANNEX_OK) {
        fail_msg("%s: %s", annex_status_name(status), scene->error.message);
    }
}

static void expect_error(struct scene *scene, annex_status status, annex_status expected,
                         const char *part)
{
    assert_int_equal(status, expected);
    if (strstr(scene->error.message, part) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", scene->error.message, part);
    }
}

static uint64_t seed_state;

static void random_vector(float *vector)
{
    for (size_t i = 0; i < DIMENSION; i++) {
        vector[i] = (float)random_below(&seed_state, 2001) / 1000.0f - 1.0f;
    }
}

/* Runs `sql`, whose ?1 is a random vector. */
static void run_with_vector(struct scene *scene, const char *sql)
{
    float vector[DIMENSION];
    sqlite3_stmt *statement = NULL;
    random_vector(vector);
    if (sqlite3_prepare_v2(scene->plain, sql, -1, &statement, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", sql, sqlite3_errmsg(scene->plain));
    }
    sqlite3_bind_blob(statement, 1, vector, sizeof vector, SQLITE_STATIC);
    if (sqlite3_step(statement) != SQLITE_DONE) {
        fail_msg("%s: %s", sql, sqlite3_errmsg(scene->plain));
    }
    sqlite3_finalize(statement);
}

static void fill(struct scene *scene, const char *sql, int rows)
{
    run(scene, "BEGIN");
    for (int i = 0; i < rows; i++) {
        run_with_vector(scene, sql);
    }
    run(scene, "COMMIT");
}

static void make_docs(struct scene *scene, int rows)
{
    seed_state = 1;
    run(scene, "CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, vec BLOB)");
    fill(scene, "INSERT INTO docs(lang, vec) VALUES ('en', ?1)", rows);
}

static void create(struct scene *scene, const char *options)
{
    expect_ok(scene, annex_db_create(scene->db, "idx", "docs", "vec", options, &scene->error));
}

/* ---- the oracle ------------------------------------------------------------------------------*/

struct answer {
    double distance;
    char key[80];
    int order;
};

static int answer_compare(const void *a, const void *b)
{
    const struct answer *x = a, *y = b;
    if (x->distance != y->distance) {
        return x->distance < y->distance ? -1 : 1;
    }
    return x->order - y->order;
}

/* `keys` is "id" or "a, b"; the rest is SQL of the table. */
static size_t brute_force(sqlite3 *connection, const char *keys, const char *rest,
                          annex_metric metric, const float *query, struct answer *answers)
{
    char sql[512];
    sqlite3_stmt *statement = NULL;
    size_t n = 0;
    snprintf(sql, sizeof sql, "SELECT vec, %s FROM %s ORDER BY %s", keys, rest, keys);
    if (sqlite3_prepare_v2(connection, sql, -1, &statement, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", sql, sqlite3_errmsg(connection));
    }
    while (sqlite3_step(statement) == SQLITE_ROW) {
        struct answer *answer = &answers[n];
        if (sqlite3_column_bytes(statement, 0) != DIMENSION * sizeof(float)) {
            continue;
        }
        float vector[DIMENSION];
        memcpy(vector, sqlite3_column_blob(statement, 0), sizeof vector);
        assert_int_equal(annex_distance(metric, DIMENSION, query, vector, &answer->distance, NULL),
                         ANNEX_OK);
        answer->order = (int)n++;
        answer->key[0] = '\0';
        for (int i = 1; i < sqlite3_column_count(statement); i++) {
            size_t used = strlen(answer->key);
            snprintf(answer->key + used, sizeof answer->key - used, "|%s",
                     (const char *)sqlite3_column_text(statement, i));
        }
        assert_true(n < MAX_ROWS);
    }
    sqlite3_finalize(statement);
    qsort(answers, n, sizeof *answers, answer_compare);
    return n;
}

static void print_key(const annex_result *result, size_t i, char *text, size_t bytes)
{
    text[0] = '\0';
    for (size_t column = 0; column < annex_result_key_columns(result); column++) {
        annex_value value = annex_result_key(result, i, column);
        size_t used = strlen(text);
        if (value.type == ANNEX_INTEGER) {
            snprintf(text + used, bytes - used, "|%lld", (long long)value.integer);
        } else {
            snprintf(text + used, bytes - used, "|%.*s", (int)value.bytes,
                     (const char *)value.data);
        }
    }
}

static annex_db_request exact_request(const float *query, size_t k)
{
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    request.query =
        (annex_value){.type = ANNEX_BLOB, .data = query, .bytes = DIMENSION * sizeof(float)};
    request.k = k;
    request.options = "{\"effort\":\"exact\"}";
    return request;
}

/* The first `k` answers are those of the oracle, or all of them when there are fewer. */
static void compare(annex_db *db, sqlite3 *connection, const char *keys, const char *rest,
                    const annex_db_request *request, const float *query)
{
    static struct answer answers[MAX_ROWS];
    annex_result *result = NULL;
    annex_error error;
    size_t n = brute_force(connection, keys, rest, ANNEX_L2, query, answers);
    if (annex_db_search(db, "idx", request, &result, &error) != ANNEX_OK) {
        fail_msg("%s", error.message);
    }
    size_t expected = MIN(n, request->k);
    if (request->has_distance) {
        for (expected = 0; expected < n && answers[expected].distance <= request->distance;) {
            expected++;
        }
    }
    assert_int_equal(annex_result_count(result), expected);
    for (size_t i = 0; i < expected; i++) {
        char key[80];
        print_key(result, i, key, sizeof key);
        assert_string_equal(key, answers[i].key);
        assert_true(fabs(annex_result_distance(result, i) - answers[i].distance) < 1e-5);
    }
    annex_result_free(result);
}

static void compare_exact(struct scene *scene, const char *keys, const char *rest, size_t k)
{
    float query[DIMENSION];
    random_vector(query);
    annex_db_request request = exact_request(query, k);
    compare(scene->db, scene->plain, keys, rest, &request, query);
}

static const char *plan_of(struct scene *scene, char plan[200])
{
    float query[DIMENSION] = {1};
    annex_db_request request = exact_request(query, 1);
    annex_result *result = NULL;
    expect_ok(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error));
    snprintf(plan, 200, "%s", annex_result_plan(result));
    annex_result_free(result);
    return plan;
}

static const char *state_of(struct scene *scene)
{
    static char state[ANNEX_ERROR_BYTES];
    annex_db_index *list = NULL;
    size_t n = 0;
    expect_ok(scene, annex_db_list(scene->db, &list, &n, &scene->error));
    assert_int_equal(n, 1);
    snprintf(state, sizeof state, "%s", list[0].state);
    annex_db_list_free(scene->db, list, n);
    return state;
}

/* ---- parts -----------------------------------------------------------------------------------*/

static void encoded_keys__sort_as_sqlite_sorts_values(void **state)
{
    struct scene *scene = *state;
    sqlite3_stmt *statement = NULL;
    struct buffer buffers[2] = {{0}, {0}};
    struct arena arena = {&scene->env, NULL};
    struct rowkey_shape shape = {false, 1};
    struct rowkey previous = {0};
    int n = 0;
    run(scene, "CREATE TABLE k(v); INSERT INTO k VALUES (1), (-1), (0), (2.5), (1e300), (-1e-300),"
               "(9223372036854775807), (9223372036854775806), (9007199254740993), (-9e18), (''),"
               "(9007199254740992.0), ('a'), ('b'), ('ab'), (char(97, 0)), (char(97, 0, 98)),"
               "('a' || char(1)), (x''), (x'00'), (x'0000'), (x'00ff'), (x'01'), (x'ff'), ('Z'),"
               "(-9223372036854775808), (9e999), (-9e999), (9223372036854775807.0), (0.1)");
    sqlite3_prepare_v2(scene->plain, "SELECT v, typeof(v) FROM k ORDER BY v", -1, &statement, NULL);
    while (sqlite3_step(statement) == SQLITE_ROW) {
        annex_value value = {0}, back = {0};
        struct rowkey key;
        int type = sqlite3_column_type(statement, 0);
        value.type = type == SQLITE_INTEGER ? ANNEX_INTEGER
                     : type == SQLITE_FLOAT ? ANNEX_REAL
                     : type == SQLITE_TEXT  ? ANNEX_TEXT
                                            : ANNEX_BLOB;
        value.integer = sqlite3_column_int64(statement, 0);
        value.real = sqlite3_column_double(statement, 0);
        value.data = sqlite3_column_blob(statement, 0);
        value.bytes = (size_t)sqlite3_column_bytes(statement, 0);
        buffers[n % 2].bytes = 0;
        assert_int_equal(
            rowkey_encode(&scene->env, shape, &value, &buffers[n % 2], &key, &scene->error),
            ANNEX_OK);
        assert_true(n == 0 || rowkey_compare(&previous, &key) < 0);
        expect_ok(scene, rowkey_decode(shape, &key, &arena, &back, &scene->error));
        if (value.type == ANNEX_TEXT || value.type == ANNEX_BLOB) {
            assert_int_equal(back.type, value.type);
            assert_int_equal(back.bytes, value.bytes);
            assert_memory_equal(back.data, value.bytes > 0 ? value.data : "", value.bytes);
        } else if (value.type == ANNEX_INTEGER) {
            assert_int_equal(back.integer, value.integer);
        }
        previous = key;
        n++;
    }
    assert_int_equal(n, 30);
    sqlite3_finalize(statement);
    buffer_free(&scene->env, &buffers[0]);
    buffer_free(&scene->env, &buffers[1]);
    arena_free(&arena);
}

static void definition__comes_back_from_the_catalog(void **state)
{
    struct scene *scene = *state;
    struct arena arena = {&scene->env, NULL};
    struct definition first, second;
    const char *text = NULL, *again = NULL;
    const char *watched[] = {"vec", "a \"b\""};
    expect_ok(scene, definition_parse(&arena,
                                      "{\"key\":[\"a\",\"b\"],\"where\":\"lang = 'en'\","
                                      "\"metric\":\"cosine\",\"index\":\"graph\",\"recall\":0.9,"
                                      "\"storage\":\"file\",\"format\":\"f16\",\"dimension\":12,"
                                      "\"degree\":32,\"effort\":100,\"threads\":2,"
                                      "\"model\":\"m\"}",
                                      &first, &scene->error));
    first.table = "t";
    first.column = "v";
    first.watched = watched;
    first.n_watched = 2;
    expect_ok(scene, definition_write(&arena, &first, &text, &scene->error));
    expect_ok(scene, definition_read(&arena, text, &second, &scene->error));
    expect_ok(scene, definition_write(&arena, &second, &again, &scene->error));
    assert_string_equal(text, again);
    assert_int_equal(second.metric, ANNEX_COSINE);
    assert_int_equal(second.degree, 32);
    assert_true(second.in_file);
    arena_free(&arena);
}

static void wrong_options__are_named_with_what_helps(void **state)
{
    static const struct {
        const char *options, *says;
    } cases[] = {
        {"{\"metrik\":\"l2\"}", "did you mean \"metric\""},
        {"{\"table\":\"x\"}", "there is no option \"table\""},
        {"{\"zzzzzzzzzz\":1}", "there are: key, where"},
        {"{\"metric\":\"l3\"}", "l2, ip"},
        {"{\"recall\":1.5}", "at most 1"},
        {"{\"degree\":9}", "multiple of 8"},
        {"{\"degree\":4096}", "from 8 to 128"},
        {"{\"index\":\"ivf\"}", "\"graph\""},
        {"{\"key\":[]}", "1 to 8"},
        {"{\"key\":[\"a\",\"a\"]}", "twice"},
        {"{\"metric\":\"hamming\",\"format\":\"f32\"}", "compares bits"},
        {"{\"format\":\"bits\"}", "hamming or jaccard"},
        {"{\"format\":\"f64\"}", "f32"},
        {"[1]", "JSON object"},
        {"{", "not JSON"},
        {"{\"where\":1}", "a string"},
        {"{\"threads\":-1}", "from 0"},
    };
    struct scene *scene = *state;
    make_docs(scene, 3);
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        annex_status status =
            annex_db_create(scene->db, "idx", "docs", "vec", cases[i].options, &scene->error);
        assert_true(status == ANNEX_INVALID || status == ANNEX_UNSUPPORTED);
        expect_error(scene, status, status, cases[i].says);
    }
    /* Nothing was left behind. */
    sqlite3_stmt *statement = NULL;
    sqlite3_prepare_v2(scene->plain, "SELECT count(*) FROM sqlite_schema", -1, &statement, NULL);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(statement, 0), 1);
    sqlite3_finalize(statement);
}

/* ---- creating --------------------------------------------------------------------------------*/

static void create__exact_search_equals_brute_force(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    make_docs(scene, 500);
    create(scene, NULL);
    for (int i = 0; i < 10; i++) {
        compare_exact(scene, "id", "docs", 10);
    }
    compare_exact(scene, "id", "docs", 0);
    compare_exact(scene, "id", "docs", 1000);
    assert_non_null(strstr(plan_of(scene, plan), "effort=exact segments=1 delta=0"));
    assert_string_equal(state_of(scene), "fresh");
    expect_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void bad_rows__are_named_and_nothing_is_created(void **state)
{
    struct scene *scene = *state;
    make_docs(scene, 20);
    run(scene, "INSERT INTO docs VALUES (77, 'en', x'0000803f')");
    expect_error(scene, annex_db_create(scene->db, "idx", "docs", "vec", NULL, &scene->error),
                 ANNEX_INVALID, "row 77 of docs cannot be indexed: it has 4 bytes");
    run(scene, "UPDATE docs SET vec = x'0000c07f0000c07f0000c07f0000c07f0000c07f0000c07f"
               "0000c07f0000c07f' WHERE id = 77");
    expect_error(scene, annex_db_create(scene->db, "idx", "docs", "vec", NULL, &scene->error),
                 ANNEX_INVALID, "element 0 is NaN");
    run(scene, "UPDATE docs SET vec = 12 WHERE id = 77");
    expect_error(scene, annex_db_create(scene->db, "idx", "docs", "vec", NULL, &scene->error),
                 ANNEX_INVALID, "numbers, not vectors");
    run(scene, "UPDATE docs SET vec = NULL WHERE id = 77");
    create(scene, NULL);
    compare_exact(scene, "id", "docs", 30);
}

static void table_without_a_key__is_refused_with_what_mends_it(void **state)
{
    struct scene *scene = *state;
    run(scene, "CREATE TABLE docs(name TEXT, vec BLOB); CREATE VIEW v AS SELECT * FROM docs;");
    fill(scene, "INSERT INTO docs VALUES (hex(randomblob(4)), ?1)", 5);
    expect_error(scene, annex_db_create(scene->db, "idx", "docs", "vec", NULL, &scene->error),
                 ANNEX_INVALID, "VACUUM may renumber");
    expect_error(
        scene,
        annex_db_create(scene->db, "idx", "docs", "vec", "{\"key\":\"name\"}", &scene->error),
        ANNEX_INVALID, "CREATE UNIQUE INDEX");
    expect_error(scene, annex_db_create(scene->db, "idx", "v", "vec", NULL, &scene->error),
                 ANNEX_UNSUPPORTED, "is a view");
    expect_error(scene, annex_db_create(scene->db, "idx", "nope", "vec", NULL, &scene->error),
                 ANNEX_NOT_FOUND, "no table nope");
    expect_error(
        scene,
        annex_db_create(scene->db, "idx", "docs", "nope", "{\"key\":\"name\"}", &scene->error),
        ANNEX_INVALID, "unique");
    run(scene, "CREATE UNIQUE INDEX by_name ON docs(name)");
    create(scene, "{\"key\":\"name\"}");
    compare_exact(scene, "name", "docs", 5);
    expect_error(
        scene,
        annex_db_create(scene->db, "idx", "docs", "vec", "{\"key\":\"name\"}", &scene->error),
        ANNEX_EXISTS, "already");
}

static void empty_table__learns_its_dimension(void **state)
{
    struct scene *scene = *state;
    make_docs(scene, 0);
    create(scene, NULL);
    compare_exact(scene, "id", "docs", 5);
    expect_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    fill(scene, "INSERT INTO docs(vec) VALUES (?1)", 5);
    compare_exact(scene, "id", "docs", 5);
    expect_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
    expect_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    compare_exact(scene, "id", "docs", 5);
    run(scene, "DELETE FROM docs");
    compare_exact(scene, "id", "docs", 5);
    expect_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    compare_exact(scene, "id", "docs", 5);
    expect_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

/* ---- freshness -------------------------------------------------------------------------------*/

struct table_kind {
    const char *create, *keys, *options, *where;
    const char *insert, *update, *delete, *rekey;
};

static const struct table_kind kinds[] = {
    {"CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, vec BLOB)", "id", NULL, "1",
     "INSERT OR REPLACE INTO docs VALUES (abs(random()) % 300, 'en', ?1)",
     "UPDATE docs SET vec = ?1 WHERE id % 50 = abs(random()) % 50",
     "DELETE FROM docs WHERE id = (SELECT id FROM docs ORDER BY random() LIMIT 1)",
     "UPDATE OR REPLACE docs SET rowid = abs(random()) % 300 WHERE id = "
     "(SELECT id FROM docs ORDER BY random() LIMIT 1)"},
    {"CREATE TABLE docs(id TEXT PRIMARY KEY COLLATE NOCASE, lang TEXT, vec BLOB)", "id", NULL, "1",
     "INSERT OR REPLACE INTO docs VALUES (substr('aAbBcC', abs(random()) % 6 + 1, 1) || "
     "abs(random()) % 50, 'en', ?1)",
     "UPDATE docs SET vec = ?1 WHERE id LIKE 'a' || abs(random()) % 50",
     "DELETE FROM docs WHERE id = (SELECT id FROM docs ORDER BY random() LIMIT 1)",
     "UPDATE OR REPLACE docs SET id = upper(id) WHERE id = "
     "(SELECT id FROM docs ORDER BY random() LIMIT 1)"},
    {"CREATE TABLE docs(part, id INTEGER, lang TEXT, vec BLOB, PRIMARY KEY(part, id)) "
     "WITHOUT ROWID",
     "part, id", NULL, "1",
     "INSERT INTO docs VALUES (abs(random()) % 3, abs(random()) % 100, 'en', ?1) "
     "ON CONFLICT DO UPDATE SET vec = excluded.vec",
     "UPDATE docs SET vec = ?1 WHERE id = abs(random()) % 100",
     "DELETE FROM docs WHERE id = abs(random()) % 100 AND part = 1",
     "UPDATE OR REPLACE docs SET part = 'p' || part WHERE id = abs(random()) % 100 AND "
     "typeof(part) = 'integer'"},
    {"CREATE TABLE docs(id INTEGER PRIMARY KEY, other INTEGER UNIQUE, lang TEXT, vec BLOB)", "id",
     "{\"where\":\"lang = 'en' AND id > 10\"}", "lang = 'en' AND id > 10",
     "INSERT OR REPLACE INTO docs VALUES (abs(random()) % 300, abs(random()) % 100, 'en', ?1)",
     "UPDATE docs SET lang = iif(lang = 'en', 'de', 'en') WHERE id % 20 = abs(random()) % 20 "
     "AND ?1 IS NOT NULL",
     "DELETE FROM docs WHERE id = (SELECT id FROM docs ORDER BY random() LIMIT 1)",
     "UPDATE docs SET lang = NULL WHERE id % 20 = abs(random()) % 20"},
};

static void change_at_random(struct scene *scene, const struct table_kind *kind)
{
    uint64_t choice = random_below(&seed_state, 10);
    if (choice < 5) {
        run_with_vector(scene, kind->insert);
    } else if (choice < 7) {
        run_with_vector(scene, kind->update);
    } else if (choice < 9) {
        run(scene, kind->delete);
    } else {
        run(scene, kind->rekey);
    }
}

static void random_changes__are_answered_at_once(struct scene *scene, const struct table_kind *kind,
                                                 uint64_t seed)
{
    char rest[200];
    seed_state = seed;
    snprintf(rest, sizeof rest, "docs WHERE %s", kind->where);
    run(scene, kind->create);
    fill(scene, kind->insert, 100);
    create(scene, kind->options);
    for (int batch = 0; batch < 40; batch++) {
        bool undo = random_below(&seed_state, 5) == 0;
        run(scene, "BEGIN");
        for (int i = 0; i < 10; i++) {
            change_at_random(scene, kind);
        }
        run(scene, undo ? "ROLLBACK" : "COMMIT");
        compare_exact(scene, kind->keys, rest, 7);
        compare_exact(scene, kind->keys, rest, 500);
        if (random_below(&seed_state, 4) == 0) {
            annex_sync_report report;
            expect_ok(scene, annex_db_sync(scene->db, "idx", &report, &scene->error));
            assert_false(report.rebuilt);
            assert_true(report.segments <= 9);
            compare_exact(scene, kind->keys, rest, 7);
        }
        if (batch == 20) {
            run(scene, "VACUUM");
        }
    }
    expect_ok(scene, annex_db_optimize(scene->db, "idx", NULL, &scene->error));
    compare_exact(scene, kind->keys, rest, 500);
    expect_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void integer_keys__are_fresh(void **state)
{
    random_changes__are_answered_at_once(*state, &kinds[0], 11);
}

static void text_keys__are_fresh(void **state)
{
    random_changes__are_answered_at_once(*state, &kinds[1], 12);
}

static void compound_keys__are_fresh(void **state)
{
    random_changes__are_answered_at_once(*state, &kinds[2], 13);
}

static void condition_and_blind_replace__are_fresh(void **state)
{
    random_changes__are_answered_at_once(*state, &kinds[3], 14);
}

static void open_transaction__is_seen_by_its_own_search(void **state)
{
    struct scene *scene = *state;
    annex_db *db = NULL;
    float query[DIMENSION];
    make_docs(scene, 50);
    create(scene, NULL);
    expect_ok(scene, annex_db_adopt_sqlite(&scene->env, scene->plain, &db, &scene->error));
    random_vector(query);
    annex_db_request request = exact_request(query, 100);
    run(scene, "BEGIN; DELETE FROM docs WHERE id < 10");
    compare(db, scene->plain, "id", "docs", &request, query);
    run(scene, "SAVEPOINT a");
    run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    compare(db, scene->plain, "id", "docs", &request, query);
    run(scene, "ROLLBACK TO a");
    run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    compare(db, scene->plain, "id", "docs", &request, query);
    expect_ok(scene, annex_db_sync(db, "idx", NULL, &scene->error));
    compare(db, scene->plain, "id", "docs", &request, query);
    run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    run(scene, "ROLLBACK");
    compare(db, scene->plain, "id", "docs", &request, query);
    run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    compare(db, scene->plain, "id", "docs", &request, query);
    assert_int_equal(sqlite3_get_autocommit(scene->plain), 1);
    expect_ok(scene, annex_db_check(db, "idx", &scene->error));
    annex_db_close(db);
}

static void old_snapshot__is_answered_from_itself(void **state)
{
    struct scene *scene = *state;
    annex_db *db = NULL;
    float query[DIMENSION];
    make_docs(scene, 50);
    run(scene, "PRAGMA journal_mode = WAL");
    create(scene, NULL);
    expect_ok(scene, annex_db_adopt_sqlite(&scene->env, scene->plain, &db, &scene->error));
    random_vector(query);
    annex_db_request request = exact_request(query, 100);
    run(scene, "BEGIN; SELECT count(*) FROM docs");
    sqlite3 *other = NULL;
    sqlite3_open(scene->path, &other);
    sqlite3_exec(other, "DELETE FROM docs WHERE id % 2", NULL, NULL, NULL);
    sqlite3_close(other);
    expect_ok(scene, annex_db_optimize(scene->db, "idx", NULL, &scene->error));
    compare(db, scene->plain, "id", "docs", &request, query);
    run(scene, "COMMIT");
    compare(db, scene->plain, "id", "docs", &request, query);
    annex_db_close(db);
}

/* ---- staleness -------------------------------------------------------------------------------*/

static void expect_stale_and_mended(struct scene *scene, const char *reason)
{
    char plan[200];
    annex_sync_report report;
    scene->warning[0] = '\0';
    if (strstr(plan_of(scene, plan), "exact scan of the table (stale") == NULL ||
        strstr(scene->warning, reason) == NULL) {
        fail_msg("plan \"%s\", warning \"%s\" without \"%s\"", plan, scene->warning, reason);
    }
    compare_exact(scene, "id", "docs", 20);
    assert_string_equal(state_of(scene), "stale");
    expect_error(scene, annex_db_check(scene->db, "idx", &scene->error), ANNEX_DAMAGED, reason);
    expect_ok(scene, annex_db_sync(scene->db, "idx", &report, &scene->error));
    assert_true(report.rebuilt);
    assert_null(strstr(plan_of(scene, plan), "stale"));
    assert_string_equal(state_of(scene), "fresh");
    compare_exact(scene, "id", "docs", 20);
    run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    compare_exact(scene, "id", "docs", 20);
    expect_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void dropped_trigger__is_noticed_and_mended(void **state)
{
    struct scene *scene = *state;
    make_docs(scene, 30);
    create(scene, NULL);
    run(scene, "DROP TRIGGER annex_log_1_delete; DELETE FROM docs WHERE id < 5");
    expect_stale_and_mended(scene, "are gone");
    run(scene, "DROP TRIGGER annex_log_1_insert; CREATE TRIGGER annex_log_1_insert AFTER INSERT ON "
               "docs BEGIN SELECT 1; END; DELETE FROM docs WHERE id < 8");
    expect_stale_and_mended(scene, "were changed");
}

static void rebuilt_table__is_noticed_and_mended(void **state)
{
    struct scene *scene = *state;
    make_docs(scene, 30);
    create(scene, NULL);
    run(scene, "BEGIN; CREATE TABLE new(id INTEGER PRIMARY KEY, vec BLOB, lang TEXT);"
               "INSERT INTO new SELECT id + 100, vec, lang FROM docs WHERE id > 3;"
               "DROP TABLE docs; ALTER TABLE new RENAME TO docs; COMMIT");
    expect_stale_and_mended(scene, "are gone");
}

static void cut_log__is_noticed_and_mended(void **state)
{
    struct scene *scene = *state;
    make_docs(scene, 30);
    create(scene, NULL);
    run(scene, "DELETE FROM docs WHERE id < 5; DELETE FROM annex_log_1");
    expect_stale_and_mended(scene, "change log");
    run(scene, "UPDATE annex_log_1 SET nonce = nonce + 1");
    expect_stale_and_mended(scene, "change log");
    run(scene, "DELETE FROM docs WHERE id < 9; DELETE FROM docs WHERE id < 12;"
               "DELETE FROM annex_log_1 WHERE seq = (SELECT max(seq) - 1 FROM annex_log_1)");
    char plan[200];
    assert_non_null(strstr(plan_of(scene, plan), "stale"));
    compare_exact(scene, "id", "docs", 20);
}

static void renamed_table__is_followed(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    make_docs(scene, 30);
    create(scene, NULL);
    run(scene, "ALTER TABLE docs RENAME TO \"my papers\"");
    run_with_vector(scene, "INSERT INTO \"my papers\"(vec) VALUES (?1)");
    compare_exact(scene, "id", "\"my papers\"", 20);
    assert_null(strstr(plan_of(scene, plan), "stale"));
    expect_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    compare_exact(scene, "id", "\"my papers\"", 20);
    run(scene, "DROP TABLE \"my papers\"");
    float query[DIMENSION] = {0};
    annex_db_request request = exact_request(query, 1);
    annex_result *result = NULL;
    expect_error(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                 ANNEX_NOT_FOUND, "is gone");
    expect_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
}

/* ---- where the bytes are ---------------------------------------------------------------------*/

static void reopen(struct scene *scene)
{
    annex_db_close(scene->db);
    scene->db = NULL;
    expect_ok(scene, annex_db_open(&scene->env, scene->path, 0, &scene->db, &scene->error));
}

static void shell(struct scene *scene, const char *command)
{
    char line[256];
    snprintf(line, sizeof line, "cd %s && %s", scene->folder, command);
    assert_int_equal(system(line), 0);
}

static void cache__can_be_deleted_or_damaged_at_any_time(void **state)
{
    struct scene *scene = *state;
    make_docs(scene, 200);
    create(scene, NULL);
    compare_exact(scene, "id", "docs", 10);
    shell(scene, "test $(ls annex | wc -l) = 1 && rm -r annex");
    compare_exact(scene, "id", "docs", 10);
    reopen(scene);
    compare_exact(scene, "id", "docs", 10);
    shell(scene, "test $(ls annex | wc -l) = 1 && "
                 "test $(stat -c %a annex) = 700 && test $(stat -c %a annex/*) = 600");
    reopen(scene);
    shell(scene, "for f in annex/*; do head -c 100 $f > t; mv t $f; done");
    compare_exact(scene, "id", "docs", 10);
    shell(scene, "rm -r annex; touch annex"); /* no place for a cache */
    reopen(scene);
    compare_exact(scene, "id", "docs", 10);
    run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    expect_ok(scene, annex_db_optimize(scene->db, "idx", NULL, &scene->error));
    reopen(scene);
    compare_exact(scene, "id", "docs", 10);
    expect_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void damaged_chunks__cost_a_rebuild(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    make_docs(scene, 200);
    create(scene, NULL);
    run(scene, "UPDATE annex_segment SET data = "
               "CAST(substr(data, 1, 500) || zeroblob(length(data) - 500) AS BLOB)");
    expect_error(scene, annex_db_check(scene->db, "idx", &scene->error), ANNEX_DAMAGED, "damaged");
    shell(scene, "rm -r annex");
    reopen(scene);
    assert_non_null(strstr(plan_of(scene, plan), "stale"));
    compare_exact(scene, "id", "docs", 10);
    expect_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    assert_null(strstr(plan_of(scene, plan), "stale"));
    run(scene, "DELETE FROM annex_segment");
    shell(scene, "rm -r annex");
    reopen(scene);
    assert_non_null(strstr(plan_of(scene, plan), "stale"));
    expect_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    expect_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void files_beside_the_database__are_used_and_removed(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    make_docs(scene, 100);
    create(scene, "{\"storage\":\"file\"}");
    shell(scene, "ls | grep -q '^docs.db.annex-idx-' && test $(ls | grep -c annex-idx) = 1");
    reopen(scene);
    compare_exact(scene, "id", "docs", 10);
    run(scene, "DELETE FROM docs WHERE id < 60");
    expect_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    shell(scene, "test $(ls | grep -c annex-idx) = 1");
    reopen(scene);
    shell(scene, "rm docs.db.annex-idx-*");
    assert_non_null(strstr(plan_of(scene, plan), "stale"));
    assert_string_equal(state_of(scene), "stale");
    compare_exact(scene, "id", "docs", 10);
    expect_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    assert_null(strstr(plan_of(scene, plan), "stale"));
    expect_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
    shell(scene, "test $(ls | grep -c annex-idx) = 0");
}

static void read_only_database__is_searched(void **state)
{
    struct scene *scene = *state;
    make_docs(scene, 100);
    create(scene, NULL);
    run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    annex_db_close(scene->db);
    scene->db = NULL;
    expect_ok(scene, annex_db_open(&scene->env, scene->path, ANNEX_DB_READ_ONLY, &scene->db,
                                   &scene->error));
    compare_exact(scene, "id", "docs", 200);
    expect_error(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error), ANNEX_READ_ONLY,
                 "reading only");
    expect_error(scene, annex_db_create(scene->db, "b", "docs", "vec", NULL, &scene->error),
                 ANNEX_READ_ONLY, "reading only");
    compare_exact(scene, "id", "docs", 200);
}

static void attached_schema__has_its_own_indexes(void **state)
{
    struct scene *scene = *state;
    annex_db *db = NULL;
    char sql[200];
    float query[DIMENSION];
    make_docs(scene, 40);
    sqlite3 *connection = NULL;
    sqlite3_open(":memory:", &connection);
    snprintf(sql, sizeof sql, "ATTACH '%s' AS \"other one\"", scene->path);
    assert_int_equal(sqlite3_exec(connection, sql, NULL, NULL, NULL), SQLITE_OK);
    expect_ok(scene, annex_db_adopt_sqlite(&scene->env, connection, &db, &scene->error));
    expect_ok(scene, annex_db_create(db, "other one.idx", "docs", "vec", NULL, &scene->error));
    run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    random_vector(query);
    annex_db_request request = exact_request(query, 100);
    compare(db, scene->plain, "id", "docs", &request, query);
    expect_ok(scene, annex_db_sync(db, "other one.idx", NULL, &scene->error));
    compare(db, scene->plain, "id", "docs", &request, query);
    expect_ok(scene, annex_db_rename(db, "idx", "new", &scene->error));
    expect_error(scene, annex_db_check(db, "idx", &scene->error), ANNEX_NOT_FOUND, "idx");
    expect_ok(scene, annex_db_check(db, "other one.new", &scene->error));
    expect_ok(scene, annex_db_drop(db, "new", &scene->error));
    annex_db_close(db);
    sqlite3_close(connection);
    sqlite3_stmt *statement = NULL;
    sqlite3_prepare_v2(scene->plain, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'annex%'",
                       -1, &statement, NULL);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(statement, 0), 0);
    sqlite3_finalize(statement);
}

/* ---- requests --------------------------------------------------------------------------------*/

static void filters__find_k_rows_whenever_k_match(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION];
    annex_value keys[2000];
    make_docs(scene, 3000);
    run(scene, "UPDATE docs SET lang = 'de' WHERE id % 2");
    create(scene, NULL);
    run(scene, "UPDATE docs SET lang = 'fr' WHERE id % 100 = 7; DELETE FROM docs WHERE id = 8");
    fill(scene, "INSERT INTO docs(lang, vec) VALUES ('de', ?1)", 50);
    random_vector(query);
    for (int few = 0; few < 2; few++) {
        annex_db_request request = exact_request(query, 40);
        request.where = few ? "lang = 'fr'" : "lang = 'de' AND docs.id <> 12";
        compare(scene->db, scene->plain, "id",
                few ? "docs WHERE lang = 'fr'" : "docs WHERE lang = 'de' AND id <> 12", &request,
                query);
        request.where = NULL;
        request.has_keys = 1;
        request.keys = keys;
        request.n_keys = few ? 100 : 2000;
        for (int i = 0; i < 2000; i++) {
            keys[i] = (annex_value){.type = ANNEX_INTEGER, .integer = i + 1200};
        }
        keys[3] = (annex_value){.type = ANNEX_TEXT, .data = "1203", .bytes = 4};
        keys[4] = (annex_value){.type = ANNEX_NULL};
        keys[5] = keys[6];
        compare(scene->db, scene->plain, "id",
                few ? "docs WHERE id BETWEEN 1200 AND 1299 AND id NOT IN (1204, 1205)"
                    : "docs WHERE id BETWEEN 1200 AND 3199 AND id NOT IN (1204, 1205)",
                &request, query);
        request.where = "lang = 'en'";
        compare(scene->db, scene->plain, "id",
                few ? "docs WHERE id BETWEEN 1200 AND 1299 AND id NOT IN (1204, 1205) AND "
                      "lang = 'en'"
                    : "docs WHERE id BETWEEN 1200 AND 3199 AND id NOT IN (1204, 1205) AND "
                      "lang = 'en'",
                &request, query);
    }
    annex_db_request request = exact_request(query, 5);
    annex_result *result = NULL;
    request.where = "nope = 1";
    expect_error(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                 ANNEX_INVALID, "no such column: nope");
    request.where = "1); DELETE FROM docs; --";
    expect_error(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                 ANNEX_INVALID, "condition");
}

static void within_and_like__find_all_and_not_itself(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION];
    make_docs(scene, 300);
    create(scene, NULL);
    fill(scene, "INSERT INTO docs(lang, vec) VALUES ('de', ?1)", 20);
    random_vector(query);
    annex_db_request request = exact_request(query, 10);
    request.has_distance = 1;
    request.distance = 1.4;
    request.options = NULL;
    compare(scene->db, scene->plain, "id", "docs", &request, query);
    annex_value key = {.type = ANNEX_TEXT, .data = "310", .bytes = 3};
    void *vector = NULL;
    size_t bytes = 0;
    annex_metric metric;
    uint32_t dimension = 0;
    expect_ok(scene, annex_db_vector(scene->db, "idx", &key, 1, &vector, &bytes, &metric,
                                     &dimension, &scene->error));
    assert_int_equal(bytes, sizeof query);
    memcpy(query, vector, bytes);
    annex_db_free(scene->db, vector, bytes);
    request = exact_request(query, 10);
    request.like = &key;
    compare(scene->db, scene->plain, "id", "docs WHERE id <> 310", &request, query);
    key = (annex_value){.type = ANNEX_INTEGER, .integer = 5000};
    annex_result *result = NULL;
    expect_error(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                 ANNEX_NOT_FOUND, "no row 5000");
}

static void wrong_queries__are_explained(void **state)
{
    static const struct {
        const char *query, *options, *says;
    } cases[] = {
        {"[1,2,3]", NULL, "3 dimensions, and the index has 8"},
        {"[1,2", NULL, "does not fit"},
        {"nope", NULL, "does not fit"},
        {"[1,0,0,0,0,0,0,0]", "{\"efort\":3}", "did you mean \"effort\""},
        {"[1,0,0,0,0,0,0,0]", "{\"effort\":3,\"recall\":0.5}", "not both"},
        {"[1,0,0,0,0,0,0,0]", "{\"effort\":\"max\"}", "\"exact\" or an integer"},
        {"[0,0,0,0,0,0,0,0]", NULL, "zero vector"},
    };
    struct scene *scene = *state;
    make_docs(scene, 30);
    create(scene, "{\"metric\":\"cosine\"}");
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        annex_db_request request = ANNEX_DB_REQUEST_INIT;
        annex_result *result = NULL;
        request.query = (annex_value){
            .type = ANNEX_TEXT, .data = cases[i].query, .bytes = strlen(cases[i].query)};
        request.options = cases[i].options;
        expect_error(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                     ANNEX_INVALID, cases[i].says);
        assert_null(result);
    }
}

static void formats__are_detected(void **state)
{
    static const struct {
        const char *values, *options, *format;
        uint32_t dimension;
    } cases[] = {
        {"('[1,2,3]'), ('[0.5,-1,2]')", NULL, "json", 3},
        {"(x'0000803f00000000'), (x'000000000000803f')", NULL, "f32", 2},
        {"(x'003c0000'), (x'0000003c')", "{\"dimension\":2}", "f16", 2},
        {"(x'ff00'), (x'0ff0')", "{\"metric\":\"hamming\"}", "bits", 16},
        {"(x'01ff'), (x'7f80')", "{\"format\":\"i8\"}", "i8", 2},
        {"('[1,0,1,1]'), ('[0,0,1,0]')", "{\"metric\":\"jaccard\"}", "json", 4},
    };
    struct scene *scene = *state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        char sql[300];
        annex_db_index *list = NULL;
        size_t n = 0;
        snprintf(sql, sizeof sql,
                 "DROP TABLE IF EXISTS docs; CREATE TABLE docs(id INTEGER PRIMARY KEY, vec);"
                 "INSERT INTO docs(vec) VALUES %s",
                 cases[i].values);
        run(scene, sql);
        create(scene, cases[i].options);
        expect_ok(scene, annex_db_list(scene->db, &list, &n, &scene->error));
        assert_string_equal(list[0].format, cases[i].format);
        assert_int_equal(list[0].dimension, cases[i].dimension);
        annex_db_list_free(scene->db, list, n);
        annex_value key = {.type = ANNEX_INTEGER, .integer = 1};
        annex_db_request request = ANNEX_DB_REQUEST_INIT;
        annex_result *result = NULL;
        request.like = &key;
        expect_ok(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error));
        assert_int_equal(annex_result_count(result), 1);
        assert_int_equal(annex_result_key(result, 0, 0).integer, 2);
        annex_result_free(result);
        expect_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
        expect_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
    }
}

static void condition__must_depend_on_one_row(void **state)
{
    static const char *const bad[] = {
        "{\"where\":\"id IN (SELECT 1)\"}", "{\"where\":\"id > random()\"}",
        "{\"where\":\"1) OR (1\"}",         "{\"where\":\"nope = 1\"}",
        "{\"where\":\"id = (\"}",
    };
    struct scene *scene = *state;
    make_docs(scene, 10);
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        annex_status status =
            annex_db_create(scene->db, "idx", "docs", "vec", bad[i], &scene->error);
        assert_true(status == ANNEX_INVALID || status == ANNEX_HOST || i == 2);
        if (status == ANNEX_OK) {
            expect_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
        }
    }
}

/* ---- failing calls ---------------------------------------------------------------------------*/

static void failing_memory__changes_nothing(void **state)
{
    struct scene *scene = *state;
    struct fault fault;
    float query[DIMENSION];
    make_docs(scene, 30);
    random_vector(query);
    fault_init(&fault, &scene->env);
    for (uint64_t n = 1; fault_loop(&fault, FAULT_MEMORY, n, false); n++) {
        annex_db *db = NULL;
        annex_error error;
        annex_result *result = NULL;
        annex_db_request request = exact_request(query, 10);
        annex_status status = annex_db_open(&fault.env, scene->path, 0, &db, &error);
        if (status == ANNEX_OK) {
            status = annex_db_create(db, "idx", "docs", "vec", NULL, &error);
        }
        if (status == ANNEX_OK) {
            run(scene, "INSERT INTO docs(vec) SELECT vec FROM docs LIMIT 3");
            status = annex_db_search(db, "idx", &request, &result, &error);
            annex_result_free(result);
        }
        if (status == ANNEX_OK) {
            status = annex_db_sync(db, "idx", NULL, &error);
        }
        assert_true(status == ANNEX_OK || status == ANNEX_NOMEM);
        annex_db_close(db);
        fault_disarm(&fault);
        annex_db_index *list = NULL;
        size_t n_list = 0;
        expect_ok(scene, annex_db_list(scene->db, &list, &n_list, &scene->error));
        annex_db_list_free(scene->db, list, n_list);
        if (n_list > 0) {
            compare_exact(scene, "id", "docs", 100);
            expect_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
            expect_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
        }
    }
    fault_free(&fault);
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, scene_setup, scene_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(encoded_keys__sort_as_sqlite_sorts_values),
        SCENE(definition__comes_back_from_the_catalog),
        SCENE(wrong_options__are_named_with_what_helps),
        SCENE(create__exact_search_equals_brute_force),
        SCENE(bad_rows__are_named_and_nothing_is_created),
        SCENE(table_without_a_key__is_refused_with_what_mends_it),
        SCENE(empty_table__learns_its_dimension),
        SCENE(integer_keys__are_fresh),
        SCENE(text_keys__are_fresh),
        SCENE(compound_keys__are_fresh),
        SCENE(condition_and_blind_replace__are_fresh),
        SCENE(open_transaction__is_seen_by_its_own_search),
        SCENE(old_snapshot__is_answered_from_itself),
        SCENE(dropped_trigger__is_noticed_and_mended),
        SCENE(rebuilt_table__is_noticed_and_mended),
        SCENE(cut_log__is_noticed_and_mended),
        SCENE(renamed_table__is_followed),
        SCENE(cache__can_be_deleted_or_damaged_at_any_time),
        SCENE(damaged_chunks__cost_a_rebuild),
        SCENE(files_beside_the_database__are_used_and_removed),
        SCENE(read_only_database__is_searched),
        SCENE(attached_schema__has_its_own_indexes),
        SCENE(filters__find_k_rows_whenever_k_match),
        SCENE(within_and_like__find_all_and_not_itself),
        SCENE(wrong_queries__are_explained),
        SCENE(formats__are_detected),
        SCENE(condition__must_depend_on_one_row),
        SCENE(failing_memory__changes_nothing),
    };
    return cmocka_run_group_tests_name("catalog", tests, NULL, NULL);
}
