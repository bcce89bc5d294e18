/*
 * test_catalog_store.c - where the bytes of an index are: cache, database, files; schemas;
 * read-only databases.
 */
#include <errno.h>

#include "fault.h"
#include "scene.h"

static void cache__can_be_deleted_or_damaged_at_any_time(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 200);
    scene_create(scene, NULL);
    scene_compare_exact(scene, "id", "docs", 10);
    scene_shell(scene, "test $(ls annex | wc -l) = 1 && rm -r annex");
    scene_compare_exact(scene, "id", "docs", 10);
    scene_reopen(scene);
    scene_compare_exact(scene, "id", "docs", 10);
    scene_shell(scene, "test $(ls annex | wc -l) = 1 && "
                       "test $(stat -c %a annex) = 700 && test $(stat -c %a annex/*) = 600");
    scene_reopen(scene);
    scene_shell(scene, "for f in annex/*; do head -c 100 $f > t; mv t $f; done");
    scene_compare_exact(scene, "id", "docs", 10);
    scene_shell(scene, "rm -r annex; touch annex"); /* no place for a cache */
    scene_reopen(scene);
    scene_compare_exact(scene, "id", "docs", 10);
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    scene_ok(scene, annex_db_optimize(scene->db, "idx", NULL, &scene->error));
    scene_reopen(scene);
    scene_compare_exact(scene, "id", "docs", 10);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

/* Creates, searches and syncs "idx" through `env`, and looks at the answers. */
static void use_index(struct scene *scene, const annex_env *env)
{
    annex_db *db = NULL;
    float query[DIMENSION] = {0};
    annex_db_request request = scene_request(query, 10);
    scene_vector(query);
    scene_ok(scene, annex_db_open(env, scene->path, 0, &db, &scene->error));
    scene_ok(scene, annex_db_create(db, "idx", "docs", "vec", NULL, &scene->error));
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    scene_ok(scene, annex_db_sync(db, "idx", NULL, &scene->error));
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    annex_db_close(db);
    scene_reopen(scene);
    scene_compare(scene->db, scene->plain, "id", "docs", &request, query);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
    scene_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
}

static void cache_that_fails__costs_its_use_only(void **state)
{
    struct scene *scene = *state;
    struct fault fault;
    scene_docs(scene, 40);
    fault_init(&fault, &scene->env);
    for (int forever = 0; forever < 2; forever++) {
        for (uint64_t n = 1; fault_loop(&fault, FAULT_IO, n, forever != 0); n++) {
            fault.fail_errno = n % 2 != 0 ? ENOSPC : EIO;
            use_index(scene, &fault.env);
        }
    }
    fault_free(&fault);
}

static void no_place_for_a_cache__memory_serves(void **state)
{
    struct scene *scene = *state;
    char path[128];
    scene_docs(scene, 40);
    scene_shell(scene, "touch file && ln -s nowhere link");
    static const char *const places[] = {"file", "file/below", "missing/below", "link", "docs.db"};
    for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
        snprintf(path, sizeof path, "%s/%s", scene->folder, places[i]);
        setenv("XDG_CACHE_HOME", path, 1);
        use_index(scene, &scene->env);
    }
    setenv("XDG_CACHE_HOME", scene->folder, 1);
    scene_shell(scene, "test ! -e annex && test ! -e missing && test ! -e nowhere");
}

static void damaged_chunks__cost_a_rebuild(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    scene_docs(scene, 200);
    scene_create(scene, NULL);
    scene_run(scene, "UPDATE annex_segment SET data = "
                     "CAST(substr(data, 1, 500) || zeroblob(length(data) - 500) AS BLOB)");
    scene_refused(scene, annex_db_check(scene->db, "idx", &scene->error), ANNEX_DAMAGED, "damaged");
    scene_shell(scene, "rm -r annex");
    scene_reopen(scene);
    assert_non_null(strstr(scene_plan(scene, plan), "stale"));
    scene_compare_exact(scene, "id", "docs", 10);
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    assert_null(strstr(scene_plan(scene, plan), "stale"));
    scene_run(scene, "DELETE FROM annex_segment");
    scene_shell(scene, "rm -r annex");
    scene_reopen(scene);
    assert_non_null(strstr(scene_plan(scene, plan), "stale"));
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void files_beside_the_database__are_used_and_removed(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    scene_docs(scene, 100);
    scene_create(scene, "{\"storage\":\"file\"}");
    scene_shell(scene, "ls | grep -q '^docs.db.annex-idx-' && test $(ls | grep -c annex-idx) = 1");
    scene_reopen(scene);
    scene_compare_exact(scene, "id", "docs", 10);
    scene_run(scene, "DELETE FROM docs WHERE id < 60");
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    scene_shell(scene, "test $(ls | grep -c annex-idx) = 1");
    scene_reopen(scene);
    scene_shell(scene, "rm docs.db.annex-idx-*");
    assert_non_null(strstr(scene_plan(scene, plan), "stale"));
    assert_string_equal(scene_state(scene), "stale");
    scene_compare_exact(scene, "id", "docs", 10);
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    assert_null(strstr(scene_plan(scene, plan), "stale"));
    scene_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
    scene_shell(scene, "test $(ls | grep -c annex-idx) = 0");
}

static void files_of_rolled_back_work__are_swept(void **state)
{
    struct scene *scene = *state;
    annex_db *db = NULL;
    scene_docs(scene, 100);
    scene_create(scene, "{\"storage\":\"file\"}");
    scene_shell(scene,
                "touch docs.db.annex-mine docs.db.annex-idx-0123456789abcdef0123456789abcdeX "
                "other.db.annex-idx-0123456789abcdef0123456789abcdef");
    scene_ok(scene, annex_db_adopt_sqlite(&scene->env, scene->plain, &db, &scene->error));
    scene_run(scene, "BEGIN; DELETE FROM docs WHERE id > 50");
    scene_ok(scene,
             annex_db_create(db, "idx2", "docs", "vec", "{\"storage\":\"file\"}", &scene->error));
    scene_ok(scene, annex_db_optimize(db, "idx", NULL, &scene->error));
    scene_run(scene, "ROLLBACK");
    annex_db_close(db);
    scene_shell(scene, "test $(ls | grep -c '^docs.db.annex-idx.*[0-9a-f]$') = 3");
    scene_compare_exact(scene, "id", "docs", 200);
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    scene_shell(scene, "test $(ls | grep -c '^docs.db.annex-idx.*[0-9a-f]$') = 1");
    scene_shell(scene, "test $(ls | grep -c annex-) = 4");
    scene_reopen(scene);
    scene_compare_exact(scene, "id", "docs", 200);
}

static void read_only_database__is_searched(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 100);
    scene_create(scene, NULL);
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    annex_db_close(scene->db);
    scene->db = NULL;
    scene_ok(scene, annex_db_open(&scene->env, scene->path, ANNEX_DB_READ_ONLY, &scene->db,
                                  &scene->error));
    scene_compare_exact(scene, "id", "docs", 200);
    scene_refused(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error), ANNEX_READ_ONLY,
                  "reading only");
    scene_refused(scene, annex_db_create(scene->db, "b", "docs", "vec", NULL, &scene->error),
                  ANNEX_READ_ONLY, "reading only");
    scene_compare_exact(scene, "id", "docs", 200);
}

static void attached_schema__has_its_own_indexes(void **state)
{
    struct scene *scene = *state;
    annex_db *db = NULL;
    char sql[200];
    float query[DIMENSION];
    scene_docs(scene, 40);
    sqlite3 *connection = NULL;
    sqlite3_open(":memory:", &connection);
    snprintf(sql, sizeof sql, "ATTACH '%s' AS \"other one\"", scene->path);
    assert_int_equal(sqlite3_exec(connection, sql, NULL, NULL, NULL), SQLITE_OK);
    scene_ok(scene, annex_db_adopt_sqlite(&scene->env, connection, &db, &scene->error));
    scene_ok(scene, annex_db_create(db, "other one.idx", "docs", "vec", NULL, &scene->error));
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    scene_vector(query);
    annex_db_request request = scene_request(query, 100);
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_ok(scene, annex_db_sync(db, "other one.idx", NULL, &scene->error));
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_ok(scene, annex_db_rename(db, "idx", "new", &scene->error));
    scene_refused(scene, annex_db_check(db, "idx", &scene->error), ANNEX_NOT_FOUND, "idx");
    scene_ok(scene, annex_db_check(db, "other one.new", &scene->error));
    scene_ok(scene, annex_db_drop(db, "new", &scene->error));
    annex_db_close(db);
    sqlite3_close(connection);
    assert_int_equal(
        scene_number(scene, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'annex%'"), 0);
}

static void immutable_database__is_searched(void **state)
{
    struct scene *scene = *state;
    char uri[140];
    scene_docs(scene, 100);
    scene_create(scene, NULL);
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    annex_db_close(scene->db);
    scene->db = NULL;
    scene_shell(scene, "rm -r annex; chmod a-w docs.db");
    snprintf(uri, sizeof uri, "file:%s?immutable=1", scene->path);
    scene_ok(scene, annex_db_open(&scene->env, uri, 0, &scene->db, &scene->error));
    scene_compare_exact(scene, "id", "docs", 200);
}

static void temporary_table__has_an_index_like_others(void **state)
{
    struct scene *scene = *state;
    annex_db *db = NULL;
    float query[DIMENSION];
    scene_seed = 3;
    scene_run(scene, "CREATE TEMP TABLE docs(id INTEGER PRIMARY KEY, vec BLOB)");
    scene_fill(scene, "INSERT INTO docs(vec) VALUES (?1)", 20);
    scene_ok(scene, annex_db_adopt_sqlite(&scene->env, scene->plain, &db, &scene->error));
    scene_ok(scene, annex_db_create(db, "idx", "docs", "vec", NULL, &scene->error));
    scene_fill(scene, "INSERT INTO docs(vec) VALUES (?1)", 5);
    scene_vector(query);
    annex_db_request request = scene_request(query, 100);
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_ok(scene, annex_db_sync(db, "idx", NULL, &scene->error));
    scene_ok(scene, annex_db_check(db, "idx", &scene->error));
    annex_db_close(db);
}

static void rolled_back_create__leaves_nothing(void **state)
{
    struct scene *scene = *state;
    annex_db *db = NULL;
    annex_db_index *list = NULL;
    size_t n = 0;
    scene_docs(scene, 20);
    scene_ok(scene, annex_db_adopt_sqlite(&scene->env, scene->plain, &db, &scene->error));
    scene_run(scene, "BEGIN");
    scene_ok(scene, annex_db_create(db, "idx", "docs", "vec", NULL, &scene->error));
    scene_ok(scene, annex_db_list(db, &list, &n, &scene->error));
    assert_int_equal(n, 1);
    annex_db_list_free(db, list, n);
    scene_run(scene, "ROLLBACK");
    scene_ok(scene, annex_db_list(db, &list, &n, &scene->error));
    assert_int_equal(n, 0);
    float query[DIMENSION] = {1};
    annex_db_request request = scene_request(query, 5);
    annex_result *result = NULL;
    scene_refused(scene, annex_db_search(db, "idx", &request, &result, &scene->error),
                  ANNEX_NOT_FOUND, "no index idx");
    scene_ok(scene, annex_db_create(db, "idx", "docs", "vec", NULL, &scene->error));
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    annex_db_close(db);
}

static void hostile_catalog__is_never_believed(void **state)
{
    static const char *const edits[] = {
        "UPDATE annex_index SET definition = '{'",
        "UPDATE annex_index SET definition = '{}'",
        "UPDATE annex_index SET definition = json_set(definition, '$.catalog', 99)",
        "UPDATE annex_index SET definition = json_set(definition, '$.where', 'writefile(1, 2)')",
        "UPDATE annex_index SET definition = json_set(definition, '$.where', '1) UNION SELECT (2')",
        "UPDATE annex_index SET definition = json_set(definition, '$.dimension', 65535)",
        "UPDATE annex_index SET definition = json_set(definition, '$.integer_key', json('false'))",
        "UPDATE annex_index SET definition = json_remove(definition, '$.key')",
        "UPDATE annex_part SET slots = 2147483000",
        "UPDATE annex_part SET slots = -1",
        "UPDATE annex_part SET bytes = 9223372036854775807",
        "UPDATE annex_part SET content = 'x'",
        "UPDATE annex_part SET file = '../../etc/passwd'",
        "UPDATE annex_part SET dead = zeroblob(3)",
        "UPDATE annex_segment SET data = zeroblob(length(data))",
        "UPDATE annex_segment SET chunk = 'x', data = 5",
        "DROP TABLE annex_part",
    };
    struct scene *scene = *state;
    scene_docs(scene, 60);
    for (size_t i = 0; i < ARRAY_LENGTH(edits); i++) {
        float query[DIMENSION] = {1};
        annex_db_request request = scene_request(query, 5);
        annex_result *result = NULL;
        scene_create(scene, NULL);
        scene_run(scene, edits[i]);
        scene_run(scene, "UPDATE annex_index SET version = random()");
        scene_shell(scene, "rm -rf annex");
        scene_reopen(scene);
        annex_status status = annex_db_search(scene->db, "idx", &request, &result, &scene->error);
        if (status == ANNEX_OK) { /* then the table itself was searched */
            if (strstr(annex_result_plan(result), "stale") == NULL) {
                fail_msg("%s: %s", edits[i], annex_result_plan(result));
            }
        }
        annex_result_free(result);
        (void)annex_db_check(scene->db, "idx", &scene->error);
        (void)annex_db_sync(scene->db, "idx", NULL, &scene->error);
        if (annex_db_drop(scene->db, "idx", &scene->error) != ANNEX_OK) {
            scene_run(scene,
                      "DROP TABLE IF EXISTS annex_index; DROP TABLE IF EXISTS annex_segment");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(cache__can_be_deleted_or_damaged_at_any_time),
        SCENE(cache_that_fails__costs_its_use_only),
        SCENE(no_place_for_a_cache__memory_serves),
        SCENE(damaged_chunks__cost_a_rebuild),
        SCENE(files_beside_the_database__are_used_and_removed),
        SCENE(files_of_rolled_back_work__are_swept),
        SCENE(read_only_database__is_searched),
        SCENE(attached_schema__has_its_own_indexes),
        SCENE(immutable_database__is_searched),
        SCENE(temporary_table__has_an_index_like_others),
        SCENE(rolled_back_create__leaves_nothing),
        SCENE(hostile_catalog__is_never_believed),
    };
    return cmocka_run_group_tests_name("catalog_store", tests, NULL, NULL);
}
