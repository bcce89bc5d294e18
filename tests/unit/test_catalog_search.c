/*
 * test_catalog_search.c - requests: filters, ranges, rows as queries, answers in parts, cut ones,
 * rows chosen among those found, and what is wrong with a request.
 */
#include "fault.h"
#include "scene.h"

static void filters__find_k_rows_whenever_k_match(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION];
    annex_value keys[2000];
    scene_docs(scene, 3000);
    scene_run(scene, "UPDATE docs SET lang = 'de' WHERE id % 2");
    scene_create(scene, NULL);
    scene_run(scene,
              "UPDATE docs SET lang = 'fr' WHERE id % 100 = 7; DELETE FROM docs WHERE id = 8");
    scene_fill(scene, "INSERT INTO docs(lang, vec) VALUES ('de', ?1)", 50);
    scene_vector(query);
    for (int few = 0; few < 2; few++) {
        annex_db_request request = scene_request(query, 40);
        request.where = few ? "lang = 'fr'" : "lang = 'de' AND docs.id <> 12";
        scene_compare(scene->db, scene->plain, "id",
                      few ? "docs WHERE lang = 'fr'" : "docs WHERE lang = 'de' AND id <> 12",
                      &request, query);
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
        scene_compare(scene->db, scene->plain, "id",
                      few ? "docs WHERE id BETWEEN 1200 AND 1299 AND id NOT IN (1204, 1205)"
                          : "docs WHERE id BETWEEN 1200 AND 3199 AND id NOT IN (1204, 1205)",
                      &request, query);
        request.where = "lang = 'en'";
        scene_compare(scene->db, scene->plain, "id",
                      few ? "docs WHERE id BETWEEN 1200 AND 1299 AND id NOT IN (1204, 1205) AND "
                            "lang = 'en'"
                          : "docs WHERE id BETWEEN 1200 AND 3199 AND id NOT IN (1204, 1205) AND "
                            "lang = 'en'",
                      &request, query);
    }
    annex_db_request request = scene_request(query, 5);
    annex_result *result = NULL;
    request.where = "nope = 1";
    scene_refused(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                  ANNEX_INVALID, "no such column: nope");
    request.where = "1); DELETE FROM docs; --";
    scene_refused(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                  ANNEX_INVALID, "condition");
}

static void within_and_like__find_all_and_not_itself(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION];
    scene_docs(scene, 300);
    scene_create(scene, NULL);
    scene_fill(scene, "INSERT INTO docs(lang, vec) VALUES ('de', ?1)", 20);
    scene_vector(query);
    annex_db_request request = scene_request(query, 10);
    request.has_distance = 1;
    request.distance = 1.4;
    request.options = NULL;
    scene_compare(scene->db, scene->plain, "id", "docs", &request, query);
    annex_value key = {.type = ANNEX_TEXT, .data = "310", .bytes = 3};
    void *vector = NULL;
    size_t bytes = 0;
    annex_metric metric;
    uint32_t dimension = 0;
    scene_ok(scene, annex_db_vector(scene->db, "idx", &key, 1, &vector, &bytes, &metric, &dimension,
                                    &scene->error));
    assert_int_equal(bytes, sizeof query);
    memcpy(query, vector, bytes);
    annex_db_free(scene->db, vector, bytes);
    request = scene_request(query, 10);
    request.like = &key;
    scene_compare(scene->db, scene->plain, "id", "docs WHERE id <> 310", &request, query);
    key = (annex_value){.type = ANNEX_INTEGER, .integer = 5000};
    annex_result *result = NULL;
    scene_refused(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                  ANNEX_NOT_FOUND, "no row 5000");
}

static void any_k__gives_what_there_is(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 50);
    scene_create(scene, NULL);
    scene_run(scene, "DELETE FROM docs WHERE id < 4");
    scene_compare_exact(scene, "id", "docs", 0);
    scene_compare_exact(scene, "id", "docs", 47);
    scene_compare_exact(scene, "id", "docs", 48);
    scene_compare_exact(scene, "id", "docs", SIZE_MAX);
    float query[DIMENSION];
    annex_value key = {.type = ANNEX_INTEGER, .integer = 9};
    void *vector = NULL;
    size_t bytes = 0;
    annex_metric metric;
    uint32_t dimension = 0;
    scene_ok(scene, annex_db_vector(scene->db, "idx", &key, 1, &vector, &bytes, &metric, &dimension,
                                    &scene->error));
    memcpy(query, vector, sizeof query);
    annex_db_free(scene->db, vector, bytes);
    annex_db_request request = scene_request(query, SIZE_MAX);
    request.like = &key;
    scene_compare(scene->db, scene->plain, "id", "docs WHERE id <> 9", &request, query);
    request.has_distance = 1;
    request.distance = 1.5;
    request.where = "id % 2";
    scene_compare(scene->db, scene->plain, "id", "docs WHERE id <> 9 AND id % 2", &request, query);
}

static void great_delta__is_read_from_the_table(void **state)
{
    struct scene *scene = *state;
    annex_result *result = NULL;
    scene_run(scene, "CREATE TABLE docs(id INTEGER PRIMARY KEY, vec BLOB);"
                     "INSERT INTO docs(vec) VALUES (randomblob(60000)), (randomblob(60000))");
    scene_create(scene, "{\"format\":\"i8\"}");
    scene_run(scene, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300) "
                     "INSERT INTO docs(vec) SELECT randomblob(60000) FROM n");
    annex_value key = {.type = ANNEX_INTEGER, .integer = 200};
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    request.like = &key;
    request.k = 400;
    scene_ok(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error));
    assert_int_equal(annex_result_count(result), 301);
    annex_result_free(result);
}

/* ---- parts ------------------------------------------------------------------------------------*/

static annex_result *search_now(struct scene *scene, const annex_db_request *request)
{
    annex_result *result = NULL;
    scene_ok(scene, annex_db_search(scene->db, "idx", request, &result, &scene->error));
    return result;
}

static bool same_row(const annex_result *a, size_t i, const annex_result *b, size_t j)
{
    annex_value x = annex_result_key(a, i, 0), y = annex_result_key(b, j, 0);
    return annex_result_distance(a, i) == annex_result_distance(b, j) && x.type == y.type &&
           x.integer == y.integer && x.bytes == y.bytes &&
           (x.bytes == 0 || memcmp(x.data, y.data, x.bytes) == 0);
}

/* Reads the whole in parts of `rows`, each of which begins behind the one before. */
static void read_in_parts(struct scene *scene, annex_db_request request, size_t rows)
{
    request.k = SIZE_MAX;
    annex_result *whole = search_now(scene, &request), *part = NULL, *before = NULL;
    annex_value key;
    size_t read = 0;
    request.k = rows;
    request.goes_on = 1;
    do {
        part = search_now(scene, &request);
        assert_true(annex_result_exact(part) && annex_result_complete(part));
        for (size_t i = 0; i < annex_result_count(part); i++) {
            assert_true(same_row(part, i, whole, read + i));
        }
        read += annex_result_count(part);
        annex_result_free(before);
        before = part;
        if (annex_result_count(part) > 0) {
            size_t last = annex_result_count(part) - 1;
            key = annex_result_key(part, last, 0);
            request.has_after = 1;
            request.after_distance = annex_result_distance(part, last);
            request.after_key = &key;
        }
    } while (annex_result_count(before) > 0);
    assert_int_equal(read, annex_result_count(whole));
    annex_result_free(before);
    annex_result_free(whole);
}

static void parts__join_to_the_whole_in_any_state_of_the_index(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION];
    scene_docs(scene, 700);
    scene_create(scene, "{\"index\":\"graph\"}");
    scene_vector(query);
    annex_db_request request = scene_request(query, 10);
    request.options = NULL;
    for (int step = 0; step < 4; step++) {
        if (step == 1) {
            scene_fill(scene, "INSERT INTO docs(lang, vec) VALUES ('de', ?1)", 90);
            scene_run(scene, "UPDATE docs SET vec = (SELECT vec FROM docs WHERE id = 9) "
                             "WHERE id % 10 = 3; DELETE FROM docs WHERE id % 17 = 5");
        } else if (step == 2) {
            scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
        } else if (step == 3) {
            scene_run(scene, "CREATE TABLE t AS SELECT * FROM docs; DROP TABLE docs;"
                             "CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, vec BLOB);"
                             "INSERT INTO docs SELECT * FROM t");
            assert_string_equal(scene_state(scene), "stale");
        }
        request.exact = 1;
        request.where = NULL;
        read_in_parts(scene, request, 37);
        request.where = "lang = 'de' OR id % 3 = 0";
        read_in_parts(scene, request, 20);
        request.where = "id % 100 = 7";
        read_in_parts(scene, request, 3);
    }
}

static void part_from_a_distance_on__and_within_another(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION];
    scene_docs(scene, 300);
    scene_create(scene, NULL);
    scene_vector(query);
    annex_db_request request = scene_request(query, 300);
    annex_result *whole = search_now(scene, &request);
    request.has_after = 1;
    request.after_distance = annex_result_distance(whole, 100);
    annex_result *part = search_now(scene, &request);
    assert_int_equal(annex_result_count(part), 200);
    assert_true(same_row(part, 0, whole, 100));
    annex_result_free(part);
    request.has_distance = 1;
    request.distance = annex_result_distance(whole, 149);
    part = search_now(scene, &request);
    assert_int_equal(annex_result_count(part), 50);
    annex_result_free(part);
    annex_result_free(whole);
    annex_value null = {.type = ANNEX_NULL};
    request.after_key = &null;
    scene_refused(scene, annex_db_search(scene->db, "idx", &request, &part, &scene->error),
                  ANNEX_INVALID, "not an integer");
    request.after_key = NULL;
    request.after_distance = (double)NAN;
    scene_refused(scene, annex_db_search(scene->db, "idx", &request, &part, &scene->error),
                  ANNEX_INVALID, "NaN");
}

/* ---- cut answers ------------------------------------------------------------------------------*/

static void budget__is_shared_by_parts_and_told(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION];
    annex_spent spent = {0};
    scene_docs(scene, 500);
    scene_create(scene, "{\"index\":\"flat\"}");
    scene_fill(scene, "INSERT INTO docs(lang, vec) VALUES ('de', ?1)", 20);
    scene_vector(query);
    annex_db_request request = scene_request(query, 5);
    request.options = "{\"max_scan\":1200}";
    request.spent = &spent;
    for (int i = 0; i < 3; i++) {
        annex_result *result = search_now(scene, &request);
        assert_int_equal(annex_result_count(result), 5);
        assert_int_equal(annex_result_complete(result), i < 2);
        assert_int_equal(spent.rows, i < 2 ? 520 * (i + 1) : 1200);
        assert_true(i < 2 || strstr(annex_result_plan(result), ", cut at max_scan=1200"));
        annex_result_free(result);
    }
    annex_result *result = search_now(scene, &request);
    assert_int_equal(annex_result_count(result), 0);
    assert_false(annex_result_complete(result));
    annex_result_free(result);
    request.options = "{\"timeout_ms\":5}";
    spent = (annex_spent){.microseconds = 5000};
    result = search_now(scene, &request);
    assert_false(annex_result_complete(result));
    assert_non_null(strstr(annex_result_plan(result), ", cut after 5 ms"));
    annex_result_free(result);
}

static void exactness__is_that_of_what_was_done(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION];
    scene_docs(scene, 4000);
    scene_create(scene, "{\"index\":\"graph\"}");
    scene_vector(query);
    annex_db_request request = scene_request(query, 5);
    for (int i = 0; i < 3; i++) {
        request.options = i == 0 ? "{\"effort\":20}" : i == 1 ? "{\"effort\":\"exact\"}" : "{}";
        request.exact = i == 2;
        annex_result *result = search_now(scene, &request);
        assert_int_equal(annex_result_exact(result), i > 0);
        annex_result_free(result);
    }
}

/* ---- the program does not want it any more ----------------------------------------------------*/

struct patience {
    int left, asked;
};

static int patience_ends(void *context, const char *phase, uint64_t done, uint64_t total)
{
    struct patience *patience = context;
    (void)phase, (void)done, (void)total;
    patience->asked++;
    return patience->left-- <= 0;
}

/* Every time that the search asks is once the last one. */
static void cancel_everywhere(struct scene *scene, const annex_db_request *request, int least)
{
    struct patience patience = {.left = 1 << 30};
    annex_env env = scene->env;
    env.log = (annex_log){.context = &patience, .progress = patience_ends};
    for (int i = 0, asked = 1; i <= asked; i++) {
        annex_db *db = NULL;
        annex_result *result = NULL;
        patience.asked = 0;
        patience.left = i > 0 ? i - 1 : 1 << 30;
        scene_ok(scene, annex_db_open(&env, scene->path, 0, &db, &scene->error));
        annex_status status = annex_db_search(db, "idx", request, &result, &scene->error);
        assert_int_equal(status, i > 0 ? ANNEX_CANCELLED : ANNEX_OK);
        asked = i > 0 ? asked : patience.asked;
        annex_result_free(result);
        annex_db_close(db);
    }
    assert_true(patience.asked >= least);
}

static void cancel__while_the_table_is_read__ends_the_search(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION] = {1};
    annex_db_request request = scene_request(query, 5);
    scene_docs(scene, 4000);
    scene_create(scene, NULL);
    scene_run(scene, "UPDATE docs SET vec = (SELECT vec FROM docs WHERE id = 7) WHERE id < 200");
    cancel_everywhere(scene, &request, 1);
    scene_run(scene, "DROP TRIGGER annex_log_1_update");
    cancel_everywhere(scene, &request, 4);
}

/* ---- memory -----------------------------------------------------------------------------------*/

static annex_status search_in_every_way(struct scene *scene, const annex_env *env)
{
    static const char *const options[] = {"{\"mmr\":0.5,\"group\":\"lang\"}",
                                          "{\"max_scan\":50,\"effort\":\"exact\"}",
                                          "{\"group\":\"id\",\"timeout_ms\":10000}"};
    annex_db *db = NULL;
    annex_value key = {.type = ANNEX_INTEGER, .integer = 3};
    annex_error error;
    float query[DIMENSION] = {1};
    annex_status status = annex_db_open(env, scene->path, 0, &db, &error);
    for (size_t i = 0; i <= ARRAY_LENGTH(options) && status == ANNEX_OK; i++) {
        annex_db_request request = scene_request(query, 4);
        annex_result *result = NULL;
        request.options = i < ARRAY_LENGTH(options) ? options[i] : NULL;
        request.has_after = i == ARRAY_LENGTH(options);
        request.after_key = &key;
        status = annex_db_search(db, "idx", &request, &result, &error);
        assert_true((status == ANNEX_OK) == (result != NULL));
        annex_result_free(result);
    }
    annex_db_close(db);
    return status;
}

static void search__without_memory__leaves_nothing(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 120);
    scene_create(scene, NULL);
    scene_fill(scene, "INSERT INTO docs(lang, vec) VALUES ('de', ?1)", 5);
    struct fault fault;
    fault_init(&fault, &scene->env);
    for (uint64_t n = 1; fault_loop(&fault, FAULT_MEMORY, n, false); n++) {
        annex_status status = search_in_every_way(scene, &fault.env);
        assert_true(status == ANNEX_OK || status == ANNEX_NOMEM);
        fault_disarm(&fault);
    }
    fault_free(&fault);
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
        {"[1,0,0,0,0,0,0,0]", "{\"mmr\":1.5}", "a number from 0 to 1"},
        {"[1,0,0,0,0,0,0,0]", "{\"candidates\":5}", "give \"mmr\" as well"},
        {"[1,0,0,0,0,0,0,0]", "{\"max_scan\":-1}", "an integer from 1 to"},
        {"[1,0,0,0,0,0,0,0]", "{\"group\":\"vec2\"}", "no such column"},
        {"[1,0,0,0,0,0,0,0]", "{\"group\":\"a\\u0000b\"}", "are not JSON"},
        {"[0,0,0,0,0,0,0,0]", NULL, "zero vector"},
    };
    struct scene *scene = *state;
    scene_docs(scene, 30);
    scene_create(scene, "{\"metric\":\"cosine\"}");
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        annex_db_request request = ANNEX_DB_REQUEST_INIT;
        annex_result *result = NULL;
        request.query = (annex_value){
            .type = ANNEX_TEXT, .data = cases[i].query, .bytes = strlen(cases[i].query)};
        request.options = cases[i].options;
        scene_refused(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                      ANNEX_INVALID, cases[i].says);
        assert_null(result);
    }
}

static void request_of_another_version__is_refused(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION] = {1};
    annex_db_request request = scene_request(query, 5);
    annex_result *result = NULL;
    request.struct_bytes -= 8;
    scene_refused(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                  ANNEX_INVALID, "use ANNEX_DB_REQUEST_INIT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(filters__find_k_rows_whenever_k_match),
        SCENE(within_and_like__find_all_and_not_itself),
        SCENE(any_k__gives_what_there_is),
        SCENE(great_delta__is_read_from_the_table),
        SCENE(parts__join_to_the_whole_in_any_state_of_the_index),
        SCENE(part_from_a_distance_on__and_within_another),
        SCENE(budget__is_shared_by_parts_and_told),
        SCENE(exactness__is_that_of_what_was_done),
        SCENE(cancel__while_the_table_is_read__ends_the_search),
        SCENE(search__without_memory__leaves_nothing),
        SCENE(wrong_queries__are_explained),
        SCENE(request_of_another_version__is_refused),
    };
    return cmocka_run_group_tests_name("catalog_search", tests, NULL, NULL);
}
