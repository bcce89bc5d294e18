/*
 * test_catalog.c - defining an index: keys, options, formats, tables that do not fit, calls that
 * fail.
 */
#include "fault.h"
#include "scene.h"

/* ---- parts ------------------------------------------------------------------------------------*/

static void encoded_keys__sort_as_sqlite_sorts_values(void **state)
{
    struct scene *scene = *state;
    sqlite3_stmt *statement = NULL;
    struct buffer buffers[2] = {{0}, {0}};
    struct arena arena = {&scene->env, NULL};
    struct rowkey_shape shape = {false, 1};
    struct rowkey previous = {0};
    int n = 0;
    scene_run(scene,
              "CREATE TABLE k(v); INSERT INTO k VALUES (1), (-1), (0), (2.5), (1e300), (-1e-300),"
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
        scene_ok(scene, rowkey_decode(shape, &key, &arena, &back, &scene->error));
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
    scene_ok(scene, definition_parse(&arena,
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
    scene_ok(scene, definition_write(&arena, &first, &text, &scene->error));
    scene_ok(scene, definition_read(&arena, text, &second, &scene->error));
    scene_ok(scene, definition_write(&arena, &second, &again, &scene->error));
    assert_string_equal(text, again);
    assert_int_equal(second.metric, ANNEX_COSINE);
    assert_int_equal(second.degree, 32);
    assert_true(second.in_file);
    arena_free(&arena);
}

/* ---- creating ---------------------------------------------------------------------------------*/

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
        {"{\"index\":\"hnsw\"}", "\"graph\""},
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
    scene_docs(scene, 3);
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        annex_status status =
            annex_db_create(scene->db, "idx", "docs", "vec", cases[i].options, &scene->error);
        assert_true(status == ANNEX_INVALID || status == ANNEX_UNSUPPORTED);
        scene_refused(scene, status, status, cases[i].says);
    }
    /* Nothing was left behind. */
    assert_int_equal(scene_number(scene, "SELECT count(*) FROM sqlite_schema"), 1);
}

static void create__exact_search_equals_brute_force(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    scene_docs(scene, 500);
    scene_create(scene, NULL);
    for (int i = 0; i < 10; i++) {
        scene_compare_exact(scene, "id", "docs", 10);
    }
    scene_compare_exact(scene, "id", "docs", 0);
    scene_compare_exact(scene, "id", "docs", 1000);
    assert_non_null(strstr(scene_plan(scene, plan), "effort=exact segments=1 delta=0"));
    assert_string_equal(scene_state(scene), "fresh");
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void bad_rows__are_named_and_nothing_is_created(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 20);
    scene_run(scene, "INSERT INTO docs VALUES (77, 'en', x'0000803f')");
    scene_refused(scene, annex_db_create(scene->db, "idx", "docs", "vec", NULL, &scene->error),
                  ANNEX_INVALID, "row 77 of docs cannot be indexed: it has 4 bytes");
    scene_run(scene, "UPDATE docs SET vec = x'0000c07f0000c07f0000c07f0000c07f0000c07f0000c07f"
                     "0000c07f0000c07f' WHERE id = 77");
    scene_refused(scene, annex_db_create(scene->db, "idx", "docs", "vec", NULL, &scene->error),
                  ANNEX_INVALID, "element 0 is NaN");
    scene_run(scene, "UPDATE docs SET vec = 12 WHERE id = 77");
    scene_refused(scene, annex_db_create(scene->db, "idx", "docs", "vec", NULL, &scene->error),
                  ANNEX_INVALID, "numbers, not vectors");
    scene_run(scene, "UPDATE docs SET vec = NULL WHERE id = 77");
    scene_create(scene, NULL);
    scene_compare_exact(scene, "id", "docs", 30);
}

static void table_without_a_key__is_refused_with_what_mends_it(void **state)
{
    struct scene *scene = *state;
    scene_run(scene,
              "CREATE TABLE docs(name TEXT, vec BLOB); CREATE VIEW v AS SELECT * FROM docs;");
    scene_fill(scene, "INSERT INTO docs VALUES (hex(randomblob(4)), ?1)", 5);
    scene_refused(scene, annex_db_create(scene->db, "idx", "docs", "vec", NULL, &scene->error),
                  ANNEX_INVALID, "VACUUM may renumber");
    scene_refused(
        scene,
        annex_db_create(scene->db, "idx", "docs", "vec", "{\"key\":\"name\"}", &scene->error),
        ANNEX_INVALID, "CREATE UNIQUE INDEX");
    scene_refused(scene, annex_db_create(scene->db, "idx", "v", "vec", NULL, &scene->error),
                  ANNEX_UNSUPPORTED, "is a view");
    scene_refused(scene, annex_db_create(scene->db, "idx", "nope", "vec", NULL, &scene->error),
                  ANNEX_NOT_FOUND, "no table nope");
    scene_refused(
        scene,
        annex_db_create(scene->db, "idx", "docs", "nope", "{\"key\":\"name\"}", &scene->error),
        ANNEX_INVALID, "unique");
    scene_run(scene, "CREATE UNIQUE INDEX by_name ON docs(name)");
    scene_create(scene, "{\"key\":\"name\"}");
    scene_compare_exact(scene, "name", "docs", 5);
    scene_refused(
        scene,
        annex_db_create(scene->db, "idx", "docs", "vec", "{\"key\":\"name\"}", &scene->error),
        ANNEX_EXISTS, "already");
}

static void empty_table__learns_its_dimension(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 0);
    scene_create(scene, NULL);
    scene_compare_exact(scene, "id", "docs", 5);
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    scene_fill(scene, "INSERT INTO docs(vec) VALUES (?1)", 5);
    scene_compare_exact(scene, "id", "docs", 5);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    scene_compare_exact(scene, "id", "docs", 5);
    scene_run(scene, "DELETE FROM docs");
    scene_compare_exact(scene, "id", "docs", 5);
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    scene_compare_exact(scene, "id", "docs", 5);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

/* How many rows a query given as JSON finds. */
static size_t count_found(struct scene *scene, const char *query)
{
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    annex_result *result = NULL;
    request.query = (annex_value){.type = ANNEX_TEXT, .data = query, .bytes = strlen(query)};
    scene_ok(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error));
    size_t n = annex_result_count(result);
    annex_result_free(result);
    return n;
}

static void empty_index_over_vectors_of_several_kinds__follows_the_first_row(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 0);
    scene_create(scene, NULL);
    scene_run(scene, "INSERT INTO docs(id, vec) VALUES "
                     "(1, '[1,2,3,4]'), (2, '[1,2]'), (3, '[3,4]'), (4, '[5,6,7,8]')");
    assert_int_equal(count_found(scene, "[1,2,3,4]"), 2);
    scene_run(scene, "DELETE FROM docs WHERE id = 1");
    assert_int_equal(count_found(scene, "[1,2]"), 2);
    scene_run(scene, "INSERT INTO docs(id, vec) VALUES (0, '[0,0,0,1]')");
    assert_int_equal(count_found(scene, "[1,2,3,4]"), 2);
    scene_run(scene, "UPDATE docs SET vec = x'0000803f000000400000404000008040' WHERE id = 0");
    assert_int_equal(count_found(scene, "[1,2,3,4]"), 1);
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
        scene_run(scene, sql);
        scene_create(scene, cases[i].options);
        scene_ok(scene, annex_db_list(scene->db, &list, &n, &scene->error));
        assert_string_equal(list[0].format, cases[i].format);
        assert_int_equal(list[0].dimension, cases[i].dimension);
        annex_db_list_free(scene->db, list, n);
        annex_value key = {.type = ANNEX_INTEGER, .integer = 1};
        annex_db_request request = ANNEX_DB_REQUEST_INIT;
        annex_result *result = NULL;
        request.like = &key;
        scene_ok(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error));
        assert_int_equal(annex_result_count(result), 1);
        assert_int_equal(annex_result_key(result, 0, 0).integer, 2);
        annex_result_free(result);
        scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
        scene_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
    }
}

static void condition__must_depend_on_one_row(void **state)
{
    static const char *const bad[] = {
        "{\"where\":\"id IN (SELECT 1)\"}", "{\"where\":\"id > random()\"}",
        "{\"where\":\"1) OR (1\"}",         "{\"where\":\"nope = 1\"}",
        "{\"where\":\"id = (\"}",           "{\"where\":\"\\\"lnag\\\" = 'en'\"}",
    };
    struct scene *scene = *state;
    scene_docs(scene, 10);
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        annex_status status =
            annex_db_create(scene->db, "idx", "docs", "vec", bad[i], &scene->error);
        assert_true(status == ANNEX_INVALID || status == ANNEX_HOST || i == 2);
        if (status == ANNEX_OK) {
            scene_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
        }
    }
}

static void names_with_everything_in_them__work(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION];
    scene_seed = 5;
    scene_run(scene, "CREATE TABLE \"do\"\"cs; --'\"(\"i d\"\"'\" TEXT, \"select\" INTEGER, "
                     "\"v.e'c\"\"\" BLOB, PRIMARY KEY(\"select\", \"i d\"\"'\"))");
    scene_fill(scene, "INSERT INTO \"do\"\"cs; --'\" VALUES ('x''' || abs(random()), 3, ?1)", 20);
    scene_ok(scene, annex_db_create(scene->db, "i d'\"x;", "do\"cs; --'", "V.E'C\"",
                                    "{\"where\":\"\\\"select\\\" > 2 -- all\"}", &scene->error));
    scene_fill(scene, "INSERT INTO \"do\"\"cs; --'\" VALUES ('y''', abs(random()), ?1)", 20);
    scene_vector(query);
    annex_db_request request = scene_request(query, 100);
    annex_result *result = NULL;
    scene_ok(scene, annex_db_search(scene->db, "i d'\"x;", &request, &result, &scene->error));
    assert_int_equal(annex_result_count(result), 40);
    assert_int_equal(annex_result_key_columns(result), 2);
    assert_int_equal(annex_result_key(result, 0, 0).type, ANNEX_INTEGER);
    annex_result_free(result);
    scene_ok(scene, annex_db_sync(scene->db, "i d'\"x;", NULL, &scene->error));
    scene_ok(scene, annex_db_check(scene->db, "i d'\"x;", &scene->error));
    scene_ok(scene, annex_db_rename(scene->db, "i d'\"x;", "\xc3\xa9", &scene->error));
    scene_refused(scene, annex_db_rename(scene->db, "\xc3\xa9", "", &scene->error), ANNEX_INVALID,
                  "cannot be the name");
    scene_ok(scene, annex_db_drop(scene->db, "\xc3\xa9", &scene->error));
    assert_int_equal(
        scene_number(scene, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'annex%'"), 0);
}

static void generated_vector__is_fresh(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    scene_run(scene, "CREATE TABLE docs(id INTEGER PRIMARY KEY, doc TEXT, "
                     "vec TEXT AS (json_extract(doc, '$.v')));"
                     "INSERT INTO docs(doc) VALUES ('{\"v\":[1,0,0,0,0,0,0,0]}')");
    scene_create(scene, NULL);
    scene_run(scene, "UPDATE docs SET doc = json_set(doc, '$.v[1]', 5)");
    assert_non_null(strstr(scene_plan(scene, plan), "delta=1"));
    float query[DIMENSION] = {1, 5};
    annex_db_request request = scene_request(query, 10);
    annex_result *result = NULL;
    scene_ok(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error));
    assert_int_equal(annex_result_count(result), 1);
    assert_true(annex_result_distance(result, 0) == 0);
    annex_result_free(result);
    scene_run(scene, "UPDATE docs SET doc = json_set(doc, '$.title', 'x')");
    assert_int_equal(scene_number(scene, "SELECT count(*) FROM annex_log_1"), 2);
}

static void every_metric__is_checked_and_found(void **state)
{
    static const char *const metrics[] = {"l2", "ip", "cosine", "l1"};
    struct scene *scene = *state;
    scene_docs(scene, 700);
    scene_run(scene, "INSERT INTO docs(vec) VALUES (zeroblob(32))");
    for (size_t i = 0; i < ARRAY_LENGTH(metrics); i++) {
        char options[60];
        annex_result *result = NULL;
        float query[DIMENSION];
        snprintf(options, sizeof options, "{\"metric\":\"%s\"}", metrics[i]);
        scene_create(scene, options);
        scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
        scene_vector(query);
        annex_db_request request = scene_request(query, 5000);
        scene_ok(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error));
        /* A zero vector has no direction, so it is not in an index under cosine. */
        assert_int_equal(annex_result_count(result), i == 2 ? 700 : 701);
        for (size_t j = 1; j < annex_result_count(result); j++) {
            assert_true(annex_result_distance(result, j - 1) <= annex_result_distance(result, j));
        }
        annex_result_free(result);
        scene_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
    }
}

static void changes_that_no_trigger_saw__are_found_by_check(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 100);
    scene_create(scene, NULL);
    scene_run(scene, "UPDATE docs SET vec = (SELECT vec FROM docs WHERE id = 2) WHERE id = 1;"
                     "DELETE FROM annex_log_1 WHERE seq > 1");
    scene_refused(scene, annex_db_check(scene->db, "idx", &scene->error), ANNEX_DAMAGED,
                  "row 1 of docs has another vector than index idx");
    scene_run(scene, "DELETE FROM docs WHERE id = 1; DELETE FROM annex_log_1 WHERE seq > 1");
    scene_refused(scene, annex_db_check(scene->db, "idx", &scene->error), ANNEX_DAMAGED,
                  "holds 1 rows that table docs does not have");
    scene_compare_exact(scene, "id", "docs", 200); /* and is never answered */
    scene_run_with_vector(scene, "INSERT INTO docs(id, vec) VALUES (500, ?1)");
    scene_run(scene, "DELETE FROM annex_log_1 WHERE seq > 1");
    scene_refused(scene, annex_db_check(scene->db, "idx", &scene->error), ANNEX_DAMAGED,
                  "row 500 of docs is missing in index idx; run annex_optimize");
    scene_ok(scene, annex_db_optimize(scene->db, "idx", NULL, &scene->error));
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

/* ---- failing calls ----------------------------------------------------------------------------*/

/* Opens, creates, searches after a change, syncs. ANNEX_OK, or the status of what failed. */
static annex_status use_everything(struct scene *scene, const annex_env *env, const char *options)
{
    annex_db *db = NULL;
    annex_error error;
    annex_result *result = NULL;
    float query[DIMENSION] = {1};
    annex_db_request request = scene_request(query, 10);
    annex_status status = annex_db_open(env, scene->path, 0, &db, &error);
    if (status == ANNEX_OK) {
        status = annex_db_create(db, "idx", "docs", "vec", options, &error);
    }
    if (status == ANNEX_OK) {
        scene_run(scene, "INSERT INTO docs(vec) SELECT vec FROM docs LIMIT 3");
        status = annex_db_search(db, "idx", &request, &result, &error);
        annex_result_free(result);
    }
    if (status == ANNEX_OK) {
        status = annex_db_sync(db, "idx", NULL, &error);
    }
    annex_db_close(db);
    return status;
}

/* Whatever is there works and is right. */
static void expect_sound(struct scene *scene)
{
    annex_db_index *list = NULL;
    size_t n = 0;
    scene_ok(scene, annex_db_list(scene->db, &list, &n, &scene->error));
    annex_db_list_free(scene->db, list, n);
    if (n > 0) {
        scene_compare_exact(scene, "id", "docs", 100);
        scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
        scene_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
    }
}

static void fail_one_call_after_the_other(struct scene *scene, enum fault_target target,
                                          bool forever, const char *options)
{
    struct fault fault;
    scene_docs(scene, 30);
    fault_init(&fault, &scene->env);
    for (uint64_t n = 1; fault_loop(&fault, target, n, forever); n++) {
        annex_status status = use_everything(scene, &fault.env, options);
        assert_true(status == ANNEX_OK || status == ANNEX_NOMEM || status == ANNEX_IO);
        assert_true(status != ANNEX_NOMEM || target == FAULT_MEMORY);
        fault_disarm(&fault);
        expect_sound(scene);
    }
    fault_free(&fault);
}

static void failing_memory__changes_nothing(void **state)
{
    fail_one_call_after_the_other(*state, FAULT_MEMORY, false, NULL);
}

static void lasting_lack_of_memory__changes_nothing(void **state)
{
    fail_one_call_after_the_other(*state, FAULT_MEMORY, true, NULL);
}

static void failing_files__change_nothing(void **state)
{
    fail_one_call_after_the_other(*state, FAULT_IO, false, NULL);
}

static void failing_files_beside_the_database__change_nothing(void **state)
{
    fail_one_call_after_the_other(*state, FAULT_IO, true, "{\"storage\":\"file\"}");
}

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
        SCENE(empty_index_over_vectors_of_several_kinds__follows_the_first_row),
        SCENE(formats__are_detected),
        SCENE(condition__must_depend_on_one_row),
        SCENE(names_with_everything_in_them__work),
        SCENE(generated_vector__is_fresh),
        SCENE(every_metric__is_checked_and_found),
        SCENE(changes_that_no_trigger_saw__are_found_by_check),
        SCENE(failing_memory__changes_nothing),
        SCENE(lasting_lack_of_memory__changes_nothing),
        SCENE(failing_files__change_nothing),
        SCENE(failing_files_beside_the_database__change_nothing),
    };
    return cmocka_run_group_tests_name("catalog", tests, NULL, NULL);
}
