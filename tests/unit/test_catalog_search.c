/*
 * test_catalog_search.c - requests: filters, ranges, rows as queries, and what is wrong with a
 * request.
 */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(filters__find_k_rows_whenever_k_match),
        SCENE(within_and_like__find_all_and_not_itself),
        SCENE(any_k__gives_what_there_is),
        SCENE(great_delta__is_read_from_the_table),
        SCENE(wrong_queries__are_explained),
    };
    return cmocka_run_group_tests_name("catalog_search", tests, NULL, NULL);
}
