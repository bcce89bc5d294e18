/*
 * test_catalog_fresh.c - whatever a program without Annex does to the table, the next answer knows
 * it.
 *
 * Random changes are seeded; every batch is compared with the oracle. See also
 * tests/blackbox/test_freshness.py, which does the same from several processes.
 */
#include "fault.h"
#include "scene.h"

/* ---- random changes ---------------------------------------------------------------------------*/

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
    uint64_t choice = random_below(&scene_seed, 10);
    if (choice < 5) {
        scene_run_with_vector(scene, kind->insert);
    } else if (choice < 7) {
        scene_run_with_vector(scene, kind->update);
    } else if (choice < 9) {
        scene_run(scene, kind->delete);
    } else {
        scene_run(scene, kind->rekey);
    }
}

static void random_changes__are_answered_at_once(struct scene *scene, const struct table_kind *kind,
                                                 uint64_t seed)
{
    char rest[200];
    scene_seed = seed;
    snprintf(rest, sizeof rest, "docs WHERE %s", kind->where);
    scene_run(scene, kind->create);
    scene_fill(scene, kind->insert, 100);
    scene_create(scene, kind->options);
    for (int batch = 0; batch < 40; batch++) {
        bool undo = random_below(&scene_seed, 5) == 0;
        scene_run(scene, "BEGIN");
        for (int i = 0; i < 10; i++) {
            change_at_random(scene, kind);
        }
        scene_run(scene, undo ? "ROLLBACK" : "COMMIT");
        scene_compare_exact(scene, kind->keys, rest, 7);
        scene_compare_exact(scene, kind->keys, rest, 500);
        if (random_below(&scene_seed, 4) == 0) {
            annex_sync_report report;
            scene_ok(scene, annex_db_sync(scene->db, "idx", &report, &scene->error));
            assert_false(report.rebuilt);
            assert_true(report.segments <= 9);
            scene_compare_exact(scene, kind->keys, rest, 7);
        }
        if (batch == 20) {
            scene_run(scene, "VACUUM");
        }
    }
    scene_ok(scene, annex_db_optimize(scene->db, "idx", NULL, &scene->error));
    scene_compare_exact(scene, kind->keys, rest, 500);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
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

/* ---- transactions -----------------------------------------------------------------------------*/

static void open_transaction__is_seen_by_its_own_search(void **state)
{
    struct scene *scene = *state;
    annex_db *db = NULL;
    float query[DIMENSION];
    scene_docs(scene, 50);
    scene_create(scene, NULL);
    scene_ok(scene, annex_db_adopt_sqlite(&scene->env, scene->plain, &db, &scene->error));
    scene_vector(query);
    annex_db_request request = scene_request(query, 100);
    scene_run(scene, "BEGIN; DELETE FROM docs WHERE id < 10");
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_run(scene, "SAVEPOINT a");
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_run(scene, "ROLLBACK TO a");
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_ok(scene, annex_db_sync(db, "idx", NULL, &scene->error));
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    scene_run(scene, "ROLLBACK");
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    assert_int_equal(sqlite3_get_autocommit(scene->plain), 1);
    scene_ok(scene, annex_db_check(db, "idx", &scene->error));
    annex_db_close(db);
}

static void old_snapshot__is_answered_from_itself(void **state)
{
    struct scene *scene = *state;
    annex_db *db = NULL;
    float query[DIMENSION];
    scene_docs(scene, 50);
    scene_run(scene, "PRAGMA journal_mode = WAL");
    scene_create(scene, NULL);
    scene_ok(scene, annex_db_adopt_sqlite(&scene->env, scene->plain, &db, &scene->error));
    scene_vector(query);
    annex_db_request request = scene_request(query, 100);
    scene_run(scene, "BEGIN; SELECT count(*) FROM docs");
    sqlite3 *other = NULL;
    sqlite3_open(scene->path, &other);
    sqlite3_exec(other, "DELETE FROM docs WHERE id % 2", NULL, NULL, NULL);
    sqlite3_close(other);
    scene_ok(scene, annex_db_optimize(scene->db, "idx", NULL, &scene->error));
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    scene_run(scene, "COMMIT");
    scene_compare(db, scene->plain, "id", "docs", &request, query);
    annex_db_close(db);
}

/* ---- lost triggers, cut logs ------------------------------------------------------------------*/

static void expect_stale_and_mended(struct scene *scene, const char *reason)
{
    char plan[200];
    annex_sync_report report;
    scene->warning[0] = '\0';
    if (strstr(scene_plan(scene, plan), "exact scan of the table (stale") == NULL ||
        strstr(scene->warning, reason) == NULL) {
        fail_msg("plan \"%s\", warning \"%s\" without \"%s\"", plan, scene->warning, reason);
    }
    scene_compare_exact(scene, "id", "docs", 20);
    assert_string_equal(scene_state(scene), "stale");
    scene_refused(scene, annex_db_check(scene->db, "idx", &scene->error), ANNEX_DAMAGED, reason);
    scene_ok(scene, annex_db_sync(scene->db, "idx", &report, &scene->error));
    assert_true(report.swept);
    assert_null(strstr(scene_plan(scene, plan), "stale"));
    assert_string_equal(scene_state(scene), "fresh");
    scene_compare_exact(scene, "id", "docs", 20);
    scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    scene_compare_exact(scene, "id", "docs", 20);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void dropped_trigger__is_noticed_and_mended(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 30);
    scene_create(scene, NULL);
    scene_run(scene, "DROP TRIGGER annex_log_1_delete; DELETE FROM docs WHERE id < 5");
    expect_stale_and_mended(scene, "is gone");
    scene_run(scene,
              "DROP TRIGGER annex_log_1_insert; CREATE TRIGGER annex_log_1_insert AFTER INSERT ON "
              "docs BEGIN SELECT 1; END; DELETE FROM docs WHERE id < 8");
    expect_stale_and_mended(scene, "was changed");
}

static void rebuilt_table__is_noticed_and_mended(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 30);
    scene_create(scene, NULL);
    scene_run(scene, "BEGIN; CREATE TABLE new(id INTEGER PRIMARY KEY, vec BLOB, lang TEXT);"
                     "INSERT INTO new SELECT id + 100, vec, lang FROM docs WHERE id > 3;"
                     "DROP TABLE docs; ALTER TABLE new RENAME TO docs; COMMIT");
    expect_stale_and_mended(scene, "is gone");
}

static void cut_log__is_noticed_and_mended(void **state)
{
    struct scene *scene = *state;
    scene_docs(scene, 30);
    scene_create(scene, NULL);
    scene_run(scene, "DELETE FROM docs WHERE id < 5; DELETE FROM annex_log_1");
    expect_stale_and_mended(scene, "change log");
    scene_run(scene, "UPDATE annex_log_1 SET nonce = nonce + 1");
    expect_stale_and_mended(scene, "change log");
    scene_run(scene, "DELETE FROM docs WHERE id < 9; DELETE FROM docs WHERE id < 12;"
                     "DELETE FROM annex_log_1 WHERE seq = (SELECT max(seq) - 1 FROM annex_log_1)");
    char plan[200];
    assert_non_null(strstr(scene_plan(scene, plan), "stale"));
    scene_compare_exact(scene, "id", "docs", 20);
}

/* What differs, 17 changes, is a small segment beside 2,000 rows, and taken in by 300. */
static void sweep_takes_in(struct scene *scene, int rows, uint64_t segments)
{
    annex_sync_report report;
    scene_docs(scene, rows);
    scene_create(scene, NULL);
    scene_run(scene, "DROP TRIGGER annex_log_1_update; DROP TRIGGER annex_log_1_delete;"
                     "DROP TRIGGER annex_log_1_insert; DELETE FROM docs WHERE id < 5");
    scene_run_with_vector(scene, "UPDATE docs SET vec = ?1 WHERE id BETWEEN 10 AND 12");
    scene_run_with_vector(scene, "INSERT INTO docs(id, vec) VALUES (9000, ?1)");
    scene_run(scene, "UPDATE docs SET lang = 'xx' WHERE id > 20; UPDATE docs SET vec = NULL "
                     "WHERE id = 13");
    scene_ok(scene, annex_db_sync(scene->db, "idx", &report, &scene->error));
    assert_true(report.swept);
    assert_false(report.rebuilt);
    assert_int_equal(report.inserted, 3 + 1);
    assert_int_equal(report.deleted, 4 + 3 + 1);
    assert_int_equal(report.segments, segments);
    scene_compare_exact(scene, "id", "docs", 4000);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void sweep__takes_in_what_differs_and_no_more(void **state)
{
    sweep_takes_in(*state, 2000, 2);
}

static void sweep_of_a_small_table__lets_its_segment_grow(void **state)
{
    sweep_takes_in(*state, 300, 1);
}

static void sweep_of_a_table_as_it_was__builds_nothing(void **state)
{
    struct scene *scene = *state;
    annex_sync_report report;
    scene_docs(scene, 100);
    scene_create(scene, NULL);
    scene_run(scene, "BEGIN; CREATE TABLE new(id INTEGER PRIMARY KEY, vec BLOB, lang TEXT);"
                     "INSERT INTO new SELECT id, vec, lang FROM docs;"
                     "DROP TABLE docs; ALTER TABLE new RENAME TO docs; COMMIT");
    scene_ok(scene, annex_db_sync(scene->db, "idx", &report, &scene->error));
    assert_true(report.swept && !report.rebuilt);
    assert_int_equal(report.inserted + report.deleted, 0);
    assert_int_equal(report.segments, 1);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void sweep_after_most_rows_changed__builds_anew(void **state)
{
    struct scene *scene = *state;
    annex_sync_report report;
    scene_docs(scene, 100);
    scene_create(scene, NULL);
    scene_run(scene, "DROP TRIGGER annex_log_1_delete");
    for (int i = 0; i < 90; i++) {
        scene_run_with_vector(scene, "INSERT INTO docs(vec) VALUES (?1)");
    }
    scene_ok(scene, annex_db_sync(scene->db, "idx", &report, &scene->error));
    assert_true(report.swept && report.rebuilt);
    assert_int_equal(report.segments, 1);
    scene_compare_exact(scene, "id", "docs", 400);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void renamed_columns__are_followed(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    scene_docs(scene, 30);
    scene_create(scene, "{\"where\":\"\\\"lang\\\" = 'en' AND id > 0\"}");
    scene_run(scene, "BEGIN; ALTER TABLE docs RENAME COLUMN id TO lang2;"
                     "ALTER TABLE docs RENAME COLUMN lang TO id;"
                     "ALTER TABLE docs RENAME COLUMN vec TO \"the \"\"vec\"\"\"");
    scene_run_with_vector(scene, "INSERT INTO docs(\"the \"\"vec\"\"\", id) VALUES (?1, 'en')");
    scene_run(scene, "COMMIT");
    assert_null(strstr(scene_plan(scene, plan), "stale"));
    scene_run(scene, "BEGIN; ALTER TABLE docs RENAME TO papers");
    scene_run(scene, "ALTER TABLE papers RENAME COLUMN lang2 TO \"key\"");
    assert_null(strstr(scene_plan(scene, plan), "stale"));
    scene_run(scene, "ROLLBACK");
    assert_null(strstr(scene_plan(scene, plan), "stale"));
    assert_string_equal(scene_state(scene), "delta");
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
    scene_run(scene, "ALTER TABLE docs RENAME COLUMN id TO language");
    scene_run(scene, "ALTER TABLE docs RENAME COLUMN lang2 TO id");
    scene_run(scene, "ALTER TABLE docs RENAME COLUMN \"the \"\"vec\"\"\" TO vec");
    scene_compare_exact(scene, "id", "docs WHERE language = 'en'", 20);
}

/* Searches and syncs an index that lost a trigger, after its columns were renamed. */
static annex_status mend_everything(struct scene *scene, const annex_env *env)
{
    annex_db *db = NULL;
    annex_db_index *list = NULL;
    size_t n = 0;
    annex_error error;
    annex_result *result = NULL;
    float query[DIMENSION] = {1};
    annex_db_request request = scene_request(query, 10);
    annex_status status = annex_db_open(env, scene->path, 0, &db, &error);
    if (status == ANNEX_OK) {
        status = annex_db_search(db, "idx", &request, &result, &error);
        annex_result_free(result);
    }
    if (status == ANNEX_OK) {
        scene_run(scene, "DROP TRIGGER annex_log_1_delete; DELETE FROM docs WHERE number < 4;"
                         "INSERT INTO docs(vector, lang) SELECT vector, lang FROM docs LIMIT 2");
        status = annex_db_list(db, &list, &n, &error);
        annex_db_list_free(db, list, n);
    }
    if (status == ANNEX_OK) {
        status = annex_db_sync(db, "idx", NULL, &error);
    }
    annex_db_close(db);
    return status;
}

static void failing_memory__stops_no_later_sync(void **state)
{
    struct scene *scene = *state;
    struct fault fault;
    fault_init(&fault, &scene->env);
    for (uint64_t n = 1; fault_loop(&fault, FAULT_MEMORY, n, false); n++) {
        scene_docs(scene, 30);
        scene_create(scene, "{\"where\":\"lang = 'en'\"}");
        scene_run(scene, "ALTER TABLE docs RENAME COLUMN id TO number;"
                         "ALTER TABLE docs RENAME COLUMN vec TO vector");
        annex_status status = mend_everything(scene, &fault.env);
        assert_true(status == ANNEX_OK || status == ANNEX_NOMEM);
        fault_disarm(&fault);
        scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
        scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
        scene_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
        scene_run(scene, "DROP TABLE docs");
    }
    fault_free(&fault);
}

static void renamed_table__is_followed(void **state)
{
    struct scene *scene = *state;
    char plan[200];
    scene_docs(scene, 30);
    scene_create(scene, NULL);
    scene_run(scene, "ALTER TABLE docs RENAME TO \"my papers\"");
    scene_run_with_vector(scene, "INSERT INTO \"my papers\"(vec) VALUES (?1)");
    scene_compare_exact(scene, "id", "\"my papers\"", 20);
    assert_null(strstr(scene_plan(scene, plan), "stale"));
    scene_ok(scene, annex_db_sync(scene->db, "idx", NULL, &scene->error));
    scene_compare_exact(scene, "id", "\"my papers\"", 20);
    scene_run(scene, "DROP TABLE \"my papers\"");
    float query[DIMENSION] = {0};
    annex_db_request request = scene_request(query, 1);
    annex_result *result = NULL;
    scene_refused(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error),
                  ANNEX_NOT_FOUND, "is gone");
    scene_ok(scene, annex_db_drop(scene->db, "idx", &scene->error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(integer_keys__are_fresh),
        SCENE(text_keys__are_fresh),
        SCENE(compound_keys__are_fresh),
        SCENE(condition_and_blind_replace__are_fresh),
        SCENE(open_transaction__is_seen_by_its_own_search),
        SCENE(old_snapshot__is_answered_from_itself),
        SCENE(dropped_trigger__is_noticed_and_mended),
        SCENE(rebuilt_table__is_noticed_and_mended),
        SCENE(cut_log__is_noticed_and_mended),
        SCENE(sweep__takes_in_what_differs_and_no_more),
        SCENE(sweep_of_a_small_table__lets_its_segment_grow),
        SCENE(sweep_of_a_table_as_it_was__builds_nothing),
        SCENE(sweep_after_most_rows_changed__builds_anew),
        SCENE(renamed_columns__are_followed),
        SCENE(failing_memory__stops_no_later_sync),
        SCENE(renamed_table__is_followed),
    };
    return cmocka_run_group_tests_name("catalog_fresh", tests, NULL, NULL);
}
