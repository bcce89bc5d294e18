/*
 * test_catalog_sources.c - an index over several sources: places in a merged answer, rows that are
 * like one of a source, definitions, collections of llm, calls that fail.
 */
#include "fault.h"
#include "scene.h"

/* docs(id, vec) and notes(book, name, vec), half of whose vectors are those of docs. */
static void make_sources(struct scene *scene, int rows)
{
    scene_docs(scene, rows);
    scene_run(scene, "CREATE TABLE notes(book INTEGER, name TEXT, vec BLOB, "
                     "PRIMARY KEY(book, name)) WITHOUT ROWID;"
                     "INSERT INTO notes SELECT id % 3, 'note ' || id, vec FROM docs "
                     "WHERE id % 2 = 0");
    for (int i = 0; i < rows / 2; i++) {
        scene_run_with_vector(scene, "INSERT INTO notes SELECT 7, 'more ' || count(*), ?1 "
                                     "FROM notes");
    }
}

static const char both[] = "{\"sources\":[{\"table\":\"notes\"}]}";

static void make_index(struct scene *scene, int rows)
{
    make_sources(scene, rows);
    scene_ok(scene, annex_db_create(scene->db, "mix", "docs", "vec", both, &scene->error));
}

/* ---- answers ----------------------------------------------------------------------------------*/

static bool same_row(const annex_result *a, size_t i, const annex_result *b, size_t j)
{
    bool same = annex_result_distance(a, i) == annex_result_distance(b, j) &&
                annex_result_source(a, i) == annex_result_source(b, j);
    for (size_t c = 0; c < annex_result_key_columns(a); c++) {
        annex_value x = annex_result_key(a, i, c), y = annex_result_key(b, j, c);
        same = same && x.type == y.type && x.integer == y.integer && x.bytes == y.bytes &&
               (x.bytes == 0 || memcmp(x.data, y.data, x.bytes) == 0);
    }
    return same;
}

static void parts_of_a_merged_answer__join_to_the_whole(void **state)
{
    enum { ROWS = 60, MOST = 200 };
    static const size_t sizes[] = {1, 2, 7, 50};
    struct scene *scene = *state;
    float query[DIMENSION];
    make_index(scene, ROWS);
    scene_run(scene, "UPDATE docs SET vec = (SELECT vec FROM docs WHERE id = 9) WHERE id > 40");
    scene_vector(query);
    annex_db_request request = scene_request(query, MOST);
    annex_result *whole = NULL;
    scene_ok(scene, annex_db_search(scene->db, "mix", &request, &whole, &scene->error));
    assert_int_equal(annex_result_count(whole), ROWS + ROWS / 2 + ROWS / 2);
    assert_int_equal(annex_result_key_columns(whole), 2);
    for (size_t s = 0; s < ARRAY_LENGTH(sizes); s++) {
        annex_result *part = NULL;
        size_t n = 0;
        request = scene_request(query, sizes[s]);
        request.goes_on = request.exact = 1;
        do {
            annex_value key[ANNEX_MAX_KEY_COLUMNS];
            annex_result *next = NULL;
            if (part != NULL) {
                size_t last = annex_result_count(part) - 1;
                for (size_t c = 0; c < 2; c++) {
                    key[c] = annex_result_key(part, last, c);
                }
                request.has_after = 1;
                request.after_key = key;
                request.after_distance = annex_result_distance(part, last);
                request.after_source = annex_result_source(part, last);
            }
            scene_ok(scene, annex_db_search(scene->db, "mix", &request, &next, &scene->error));
            annex_result_free(part);
            part = next;
            for (size_t i = 0; i < annex_result_count(part); i++) {
                assert_true(same_row(part, i, whole, n++));
            }
        } while (annex_result_count(part) == sizes[s]);
        assert_int_equal(n, annex_result_count(whole));
        annex_result_free(part);
    }
    annex_result_free(whole);
}

static void rows_like_one_of_a_source__leave_out_that_one_only(void **state)
{
    struct scene *scene = *state;
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    annex_result *result = NULL;
    annex_value key[2] = {{.type = ANNEX_INTEGER, .integer = 4}};
    make_index(scene, 40);
    request.like = key;
    request.k = 100;
    scene_ok(scene, annex_db_search(scene->db, "mix", &request, &result, &scene->error));
    assert_int_equal(annex_result_count(result), 79);
    assert_string_equal(annex_result_source_name(result, 0),
                        "notes"); /* its vector is there, too */
    assert_true(annex_result_distance(result, 0) == 0);
    annex_result_free(result);
    key[0].integer = 1;
    key[1] = (annex_value){.type = ANNEX_TEXT, .data = "note 4", .bytes = 6};
    request.like_source = 1;
    scene_ok(scene, annex_db_search(scene->db, "mix", &request, &result, &scene->error));
    assert_int_equal(annex_result_count(result), 79);
    assert_string_equal(annex_result_source_name(result, 0), "docs");
    assert_int_equal(annex_result_key(result, 0, 0).integer, 4);
    assert_int_equal(annex_result_key(result, 0, 1).type, ANNEX_NULL);
    annex_result_free(result);
    request.like_source = 2;
    scene_refused(scene, annex_db_search(scene->db, "mix", &request, &result, &scene->error),
                  ANNEX_INVALID, "counted from 0");
}

static void budget__is_that_of_all_sources(void **state)
{
    struct scene *scene = *state;
    float query[DIMENSION] = {1};
    annex_spent spent = {0};
    annex_db_request request = scene_request(query, 5);
    annex_result *result = NULL;
    make_index(scene, 60);
    request.options = "{\"max_scan\":70}";
    request.spent = &spent;
    scene_ok(scene, annex_db_search(scene->db, "mix", &request, &result, &scene->error));
    assert_false(annex_result_complete(result));
    assert_true(spent.rows >= 60 && spent.rows <= 71);
    annex_result_free(result);
}

static void samples__are_rows_of_the_index_each_once(void **state)
{
    struct scene *scene = *state;
    annex_result *first = NULL, *again = NULL;
    make_index(scene, 50);
    scene_run(scene, "DELETE FROM docs WHERE id <= 10");
    scene_ok(scene, annex_db_sync(scene->db, "mix", NULL, &scene->error));
    scene_run_with_vector(scene, "INSERT INTO docs(id, vec) VALUES (1000, ?1)");
    scene_ok(scene, annex_db_sample(scene->db, "mix.docs", 30, 5, &first, &scene->error));
    scene_ok(scene, annex_db_sample(scene->db, "mix.docs", 30, 5, &again, &scene->error));
    assert_int_equal(annex_result_count(first), 30);
    for (size_t i = 0; i < 30; i++) {
        int64_t key = annex_result_key(first, i, 0).integer;
        assert_true((key > 10 && key <= 50) || key == 1000);
        assert_int_equal(annex_result_key(again, i, 0).integer, key);
        for (size_t j = 0; j < i; j++) {
            assert_true(annex_result_key(first, j, 0).integer != key);
        }
    }
    annex_result_free(first);
    annex_result_free(again);
    scene_ok(scene, annex_db_sample(scene->db, "mix.docs", 5000, 1, &first, &scene->error));
    assert_in_range(annex_result_count(first), 39, 41);
    annex_result_free(first);
    scene_refused(scene, annex_db_sample(scene->db, "mix", 5, 1, &first, &scene->error),
                  ANNEX_INVALID, "'mix.<source>'");
}

/* ---- definitions ------------------------------------------------------------------------------*/

static void definition_of_a_member__comes_back_from_the_catalog(void **state)
{
    struct scene *scene = *state;
    struct arena arena = {&scene->env, NULL};
    struct definition first, second;
    const char *text = NULL, *again = NULL;
    const char *watched[] = {"embedding"};
    scene_ok(scene, definition_parse(&arena,
                                     "{\"key\":[\"collection_id\",\"id\"],\"default\":true,"
                                     "\"llm_collection\":\"p \\\"x\\\"\"}",
                                     &first, &scene->error));
    assert_int_equal(first.metric, ANNEX_COSINE);
    first.table = "embeddings";
    first.column = "embedding";
    first.watched = watched;
    first.n_watched = 1;
    first.collection_id = INT64_MIN;
    first.build_ms = UINT32_MAX;
    scene_ok(scene, definition_write(&arena, &first, &text, &scene->error));
    scene_ok(scene, definition_read(&arena, text, &second, &scene->error));
    scene_ok(scene, definition_write(&arena, &second, &again, &scene->error));
    assert_string_equal(text, again);
    assert_true(second.is_default && second.collection_id == INT64_MIN);
    assert_string_equal(second.collection, "p \"x\"");
    assert_int_equal(second.build_ms, UINT32_MAX);
    scene_refused(scene, definition_read(&arena, "{\"sources\":1}", &second, &scene->error),
                  ANNEX_DAMAGED, "from 2 to 64");
    scene_refused(scene, definition_read(&arena, "{\"catalog\":3}", &second, &scene->error),
                  ANNEX_TOO_NEW, "install a newer Annex");
    arena_free(&arena);
}

/* ---- failing calls ----------------------------------------------------------------------------*/

static annex_status ask_in_every_way(annex_db *db, annex_error *error)
{
    float query[DIMENSION] = {1};
    annex_value like[2] = {{.type = ANNEX_INTEGER, .integer = 4}};
    annex_value after = {.type = ANNEX_INTEGER, .integer = 2};
    annex_status status = ANNEX_OK;
    for (size_t i = 0; i < 4 && status == ANNEX_OK; i++) {
        annex_db_request request = scene_request(query, 5);
        annex_result *result = NULL;
        request.like = i == 1 ? like : NULL;
        request.has_after = i == 2;
        request.after_key = &after;
        annex_value keys[2] = {after, {.type = ANNEX_NULL}};
        request.after_key = keys;
        request.has_distance = i == 3;
        request.distance = 2;
        status = annex_db_search(db, i == 0 ? "docs" : "mix", &request, &result, error);
        assert_true((status == ANNEX_OK) == (result != NULL));
        annex_result_free(result);
    }
    return status;
}

/* All that can be done to an index over two tables. */
static annex_status use_everything(struct scene *scene, const annex_env *env)
{
    annex_db *db = NULL;
    annex_db_index *list = NULL;
    size_t n = 0;
    annex_error error;
    annex_status status = annex_db_open(env, scene->path, 0, &db, &error);
    if (status == ANNEX_OK) {
        status = annex_db_create(db, "mix", "docs", "vec", both, &error);
    }
    if (status == ANNEX_OK) {
        status = annex_db_default(db, "mix", 1, &error);
    }
    if (status == ANNEX_OK) {
        status = annex_db_copy(db, "mix", "copy", "{\"default\":true}", &error);
    }
    if (status == ANNEX_OK) {
        scene_run(scene, "UPDATE notes SET vec = zeroblob(32) WHERE name = 'note 2';"
                         "INSERT INTO docs(vec) SELECT vec FROM docs LIMIT 3");
        status = ask_in_every_way(db, &error);
    }
    if (status == ANNEX_OK) {
        status = annex_db_sync(db, "mix", NULL, &error);
    }
    if (status == ANNEX_OK) {
        status = annex_db_rename(db, "copy", "other", &error);
    }
    if (status == ANNEX_OK) {
        status = annex_db_list(db, &list, &n, &error);
        annex_db_list_free(db, list, n);
    }
    if (status == ANNEX_OK) {
        status = annex_db_drop(db, "other", &error);
    }
    annex_db_close(db);
    return status;
}

/* Every index that is there has both sources, is sound, and goes. */
static void expect_whole(struct scene *scene)
{
    static const char *const names[] = {"mix", "copy", "other"};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        annex_status status = annex_db_check(scene->db, names[i], &scene->error);
        if (status != ANNEX_NOT_FOUND) {
            scene_ok(scene, status);
            scene_ok(scene, annex_db_drop(scene->db, names[i], &scene->error));
        }
    }
    assert_int_equal(scene_number(scene, "SELECT count(*) FROM sqlite_schema "
                                         "WHERE name LIKE 'annex%'"),
                     0);
}

static void fail_one_call_after_the_other(struct scene *scene, enum fault_target target)
{
    struct fault fault;
    make_sources(scene, 12);
    fault_init(&fault, &scene->env);
    for (uint64_t n = 1; fault_loop(&fault, target, n, false); n++) {
        annex_status status = use_everything(scene, &fault.env);
        assert_true(status == ANNEX_OK || status == ANNEX_NOMEM || status == ANNEX_IO);
        fault_disarm(&fault);
        expect_whole(scene);
    }
    fault_free(&fault);
}

static void failing_memory__leaves_whole_indexes(void **state)
{
    fail_one_call_after_the_other(*state, FAULT_MEMORY);
}

static void failing_files__leave_whole_indexes(void **state)
{
    fail_one_call_after_the_other(*state, FAULT_IO);
}

static void make_collections(struct scene *scene)
{
    scene_run(scene, "CREATE TABLE collections(id INTEGER PRIMARY KEY, name TEXT, model TEXT);"
                     "CREATE TABLE embeddings(collection_id INTEGER, id TEXT, embedding BLOB, "
                     "content TEXT, metadata TEXT, PRIMARY KEY(collection_id, id));"
                     "INSERT INTO collections VALUES (1, 'posts', 'm'), (2, 'tils', 'm')");
    scene_fill(scene,
               "INSERT INTO embeddings SELECT 1 + count(*) % 2, 'item ' || count(*), ?1, 'some', "
               "NULL FROM embeddings",
               20);
}

static annex_status ask_similar(const struct scene *scene, const annex_env *env, const char *index)
{
    annex_db *db = NULL;
    annex_similar *result = NULL;
    annex_error error;
    annex_db_similar_request request = ANNEX_DB_SIMILAR_REQUEST_INIT;
    request.collection = "posts";
    request.id = "item 2";
    request.prefix = "ITEM";
    request.index = index;
    annex_status status = annex_db_open(env, scene->path, ANNEX_DB_READ_ONLY, &db, &error);
    if (status == ANNEX_OK) {
        status = annex_db_similar(db, &request, &result, &error);
        assert_true((status == ANNEX_OK) == (result != NULL));
    }
    if (status == ANNEX_OK) {
        assert_int_equal(annex_similar_count(result), 9);
        assert_true(annex_similar_at(result, 0)->score >= annex_similar_at(result, 8)->score);
        assert_memory_equal(annex_similar_at(result, 0)->content.data, "some", 4);
    }
    annex_similar_free(result);
    annex_db_close(db);
    return status;
}

static void similar__without_memory__leaves_nothing(void **state)
{
    struct scene *scene = *state;
    static const char *const indexes[] = {NULL, "mix"};
    make_collections(scene);
    scene_ok(scene, annex_db_create(scene->db, "mix", "embeddings", "embedding",
                                    "{\"llm_collection\":[\"posts\",\"tils\"]}", &scene->error));
    for (size_t i = 0; i < ARRAY_LENGTH(indexes); i++) {
        struct fault fault;
        fault_init(&fault, &scene->env);
        for (uint64_t n = 1; fault_loop(&fault, FAULT_MEMORY, n, false); n++) {
            annex_status status = ask_similar(scene, &fault.env, indexes[i]);
            assert_true(status == ANNEX_OK || status == ANNEX_NOMEM);
            fault_disarm(&fault);
        }
        fault_free(&fault);
    }
}

static void request_of_another_version__is_refused(void **state)
{
    struct scene *scene = *state;
    annex_db_similar_request request = ANNEX_DB_SIMILAR_REQUEST_INIT;
    annex_similar *result = NULL;
    request.collection = "posts";
    scene_refused(scene, annex_db_similar(scene->db, &request, &result, &scene->error),
                  ANNEX_INVALID, "either an id or a vector");
    request.id = "x";
    request.struct_bytes--;
    scene_refused(scene, annex_db_similar(scene->db, &request, &result, &scene->error),
                  ANNEX_INVALID, "needs struct_bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(parts_of_a_merged_answer__join_to_the_whole),
        SCENE(rows_like_one_of_a_source__leave_out_that_one_only),
        SCENE(budget__is_that_of_all_sources),
        SCENE(samples__are_rows_of_the_index_each_once),
        SCENE(definition_of_a_member__comes_back_from_the_catalog),
        SCENE(failing_memory__leaves_whole_indexes),
        SCENE(failing_files__leave_whole_indexes),
        SCENE(similar__without_memory__leaves_nothing),
        SCENE(request_of_another_version__is_refused),
    };
    return cmocka_run_group_tests_name("catalog_sources", tests, NULL, NULL);
}
