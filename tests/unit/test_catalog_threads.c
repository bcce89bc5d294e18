/*
 * test_catalog_threads.c - one database, many threads, each with a connection of its own: readers
 * compare in their own snapshots, writers write with SQLite alone, one keeps the index in order.
 *
 * What threads share is the library and the cache of segments. Run it under the thread sanitizer.
 */
#include "scene.h"

#include <pthread.h>
#include <stdatomic.h>

enum { READERS = 6, WRITERS = 2, WRITES = 150, SYNCS = 30 };

struct crowd {
    const struct scene *scene;
    atomic_int working; /* writers and the one who syncs */
    atomic_int searches;
    atomic_int wrong;
};

/* A connection, and an annex_db that adopts it. */
struct visitor {
    sqlite3 *connection;
    annex_db *db;
    annex_error error;
    uint64_t seed;
};

static void visitor_open(const struct crowd *crowd, uint64_t seed, struct visitor *visitor)
{
    annex_env env = annex_env_default();
    *visitor = (struct visitor){.seed = seed};
    (void)sqlite3_open(crowd->scene->path, &visitor->connection);
    sqlite3_busy_timeout(visitor->connection, 30000);
    (void)sqlite3_exec(visitor->connection, "PRAGMA synchronous = OFF", NULL, NULL, NULL);
    (void)annex_db_adopt_sqlite(&env, visitor->connection, &visitor->db, &visitor->error);
}

static void visitor_close(struct visitor *visitor)
{
    annex_db_close(visitor->db);
    sqlite3_close(visitor->connection);
}

static bool visitor_run(struct visitor *visitor, const char *sql)
{
    return sqlite3_exec(visitor->connection, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static int64_t visitor_count(struct visitor *visitor)
{
    sqlite3_stmt *statement = NULL;
    int64_t n = -1;
    (void)sqlite3_prepare_v2(visitor->connection, "SELECT count(vec) FROM docs", -1, &statement,
                             NULL);
    if (sqlite3_step(statement) == SQLITE_ROW) {
        n = sqlite3_column_int64(statement, 0);
    }
    sqlite3_finalize(statement);
    return n;
}

static void visitor_vector(struct visitor *visitor, float *vector)
{
    for (size_t i = 0; i < DIMENSION; i++) {
        vector[i] = (float)random_below(&visitor->seed, 2001) / 1000.0f - 1.0f;
    }
}

/* Within one snapshot: every row of the table, nearest first, each once. */
static bool visitor_is_right(struct visitor *visitor)
{
    float query[DIMENSION];
    annex_result *result = NULL;
    visitor_vector(visitor, query);
    annex_db_request request = scene_request(query, MAX_ROWS);
    bool right = visitor_run(visitor, "BEGIN");
    int64_t expected = visitor_count(visitor);
    right = right &&
            annex_db_search(visitor->db, "idx", &request, &result, &visitor->error) == ANNEX_OK;
    right = right && (int64_t)annex_result_count(result) == expected;
    for (size_t i = 1; right && i < annex_result_count(result); i++) {
        double before = annex_result_distance(result, i - 1);
        double here = annex_result_distance(result, i);
        right = before < here || (before == here && annex_result_key(result, i - 1, 0).integer <
                                                        annex_result_key(result, i, 0).integer);
    }
    annex_result_free(result);
    return visitor_run(visitor, "COMMIT") && right;
}

static void *crowd_read(void *context)
{
    struct crowd *crowd = context;
    struct visitor visitor;
    int searches = 0;
    visitor_open(crowd, (uint64_t)(uintptr_t)&visitor, &visitor);
    while (searches == 0 || atomic_load(&crowd->working) > 0) {
        atomic_fetch_add(&crowd->wrong, !visitor_is_right(&visitor));
        searches++;
        if (searches % 20 == 0) { /* connections come and go */
            visitor_close(&visitor);
            visitor_open(crowd, (uint64_t)searches, &visitor);
        }
    }
    atomic_fetch_add(&crowd->searches, searches);
    visitor_close(&visitor);
    return NULL;
}

static bool crowd_write_once(struct visitor *visitor, sqlite3_stmt *insert)
{
    float vector[DIMENSION];
    char sql[100];
    visitor_vector(visitor, vector);
    snprintf(sql, sizeof sql, "DELETE FROM docs WHERE id = %d",
             (int)random_below(&visitor->seed, 400));
    sqlite3_bind_int64(insert, 1, (int64_t)random_below(&visitor->seed, 400));
    sqlite3_bind_blob(insert, 2, vector, sizeof vector, SQLITE_TRANSIENT);
    bool done = visitor_run(visitor, "BEGIN IMMEDIATE") && visitor_run(visitor, sql) &&
                sqlite3_step(insert) == SQLITE_DONE;
    sqlite3_reset(insert);
    return visitor_run(visitor, random_below(&visitor->seed, 5) == 0 ? "ROLLBACK" : "COMMIT") &&
           done;
}

static void *crowd_write(void *context)
{
    struct crowd *crowd = context;
    struct visitor visitor;
    sqlite3_stmt *insert = NULL;
    visitor_open(crowd, (uint64_t)(uintptr_t)&visitor, &visitor);
    (void)sqlite3_prepare_v2(
        visitor.connection, "INSERT OR REPLACE INTO docs VALUES (?1, 'en', ?2)", -1, &insert, NULL);
    for (int i = 0; i < WRITES; i++) {
        atomic_fetch_add(&crowd->wrong, !crowd_write_once(&visitor, insert));
    }
    sqlite3_finalize(insert);
    visitor_close(&visitor);
    atomic_fetch_sub(&crowd->working, 1);
    return NULL;
}

static void *crowd_sync(void *context)
{
    struct crowd *crowd = context;
    struct visitor visitor;
    visitor_open(crowd, 1, &visitor);
    for (int i = 0; i < SYNCS; i++) {
        annex_status status = i % 10 == 9
                                  ? annex_db_optimize(visitor.db, "idx", NULL, &visitor.error)
                                  : annex_db_sync(visitor.db, "idx", NULL, &visitor.error);
        atomic_fetch_add(&crowd->wrong, status != ANNEX_OK && status != ANNEX_BUSY);
    }
    visitor_close(&visitor);
    atomic_fetch_sub(&crowd->working, 1);
    return NULL;
}

static void crowd_of_threads(struct scene *scene, const char *options)
{
    struct crowd crowd = {.scene = scene};
    pthread_t threads[READERS + WRITERS + 1];
    int n = 0;
    atomic_store(&crowd.working, WRITERS + 1);
    scene_run(scene, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF");
    scene_docs(scene, 300);
    scene_create(scene, options);
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_create(&threads[n++], NULL, crowd_write, &crowd), 0);
    }
    assert_int_equal(pthread_create(&threads[n++], NULL, crowd_sync, &crowd), 0);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[n++], NULL, crowd_read, &crowd), 0);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&crowd.wrong), 0);
    assert_true(atomic_load(&crowd.searches) >= READERS);
    scene_compare_exact(scene, "id", "docs", 500);
    scene_ok(scene, annex_db_check(scene->db, "idx", &scene->error));
}

static void threads_with_a_connection_each__read_and_write_one_index(void **state)
{
    crowd_of_threads(*state, NULL);
}

static void threads__share_segments_in_files(void **state)
{
    crowd_of_threads(*state, "{\"storage\":\"file\",\"index\":\"graph\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(threads_with_a_connection_each__read_and_write_one_index),
        SCENE(threads__share_segments_in_files),
    };
    return cmocka_run_group_tests_name("catalog_threads", tests, NULL, NULL);
}
