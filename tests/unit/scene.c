/*
 * scene.c - see scene.h.
 */
#include "scene.h"

/* ---- a database with two connections ---------------------------------------------------------*/

static void scene_message(void *context, annex_level level, const char *text)
{
    struct scene *scene = context;
    if (level == ANNEX_LOG_WARNING) {
        snprintf(scene->warning, sizeof scene->warning, "%s", text);
    }
}

int scene_setup(void **state)
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

int scene_teardown(void **state)
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

void scene_run(struct scene *scene, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(scene->plain, sql, NULL, NULL, &message) != SQLITE_OK) {
        fail_msg("%s: %s", sql, message);
    }
}

void scene_ok(struct scene *scene, annex_status status)
{
    if (status != ANNEX_OK) {
        fail_msg("%s: %s", annex_status_name(status), scene->error.message);
    }
}

void scene_refused(struct scene *scene, annex_status status, annex_status expected,
                   const char *part)
{
    assert_int_equal(status, expected);
    if (strstr(scene->error.message, part) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", scene->error.message, part);
    }
}

uint64_t scene_seed;

void scene_vector(float *vector)
{
    for (size_t i = 0; i < DIMENSION; i++) {
        vector[i] = (float)random_below(&scene_seed, 2001) / 1000.0f - 1.0f;
    }
}

/* Runs `sql`, whose ?1 is a random vector. */
void scene_run_with_vector(struct scene *scene, const char *sql)
{
    float vector[DIMENSION];
    sqlite3_stmt *statement = NULL;
    scene_vector(vector);
    if (sqlite3_prepare_v2(scene->plain, sql, -1, &statement, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", sql, sqlite3_errmsg(scene->plain));
    }
    sqlite3_bind_blob(statement, 1, vector, sizeof vector, SQLITE_STATIC);
    if (sqlite3_step(statement) != SQLITE_DONE) {
        fail_msg("%s: %s", sql, sqlite3_errmsg(scene->plain));
    }
    sqlite3_finalize(statement);
}

void scene_fill(struct scene *scene, const char *sql, int rows)
{
    scene_run(scene, "BEGIN");
    for (int i = 0; i < rows; i++) {
        scene_run_with_vector(scene, sql);
    }
    scene_run(scene, "COMMIT");
}

void scene_docs(struct scene *scene, int rows)
{
    scene_seed = 1;
    scene_run(scene, "CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, vec BLOB)");
    scene_fill(scene, "INSERT INTO docs(lang, vec) VALUES ('en', ?1)", rows);
}

void scene_create(struct scene *scene, const char *options)
{
    scene_ok(scene, annex_db_create(scene->db, "idx", "docs", "vec", options, &scene->error));
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
static size_t scene_brute_force(sqlite3 *connection, const char *keys, const char *rest,
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

static void scene_print_key(const annex_result *result, size_t i, char *text, size_t bytes)
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

annex_db_request scene_request(const float *query, size_t k)
{
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    request.query =
        (annex_value){.type = ANNEX_BLOB, .data = query, .bytes = DIMENSION * sizeof(float)};
    request.k = k;
    request.options = "{\"effort\":\"exact\"}";
    return request;
}

/* The first `k` answers are those of the oracle, or all of them when there are fewer. */
void scene_compare(annex_db *db, sqlite3 *connection, const char *keys, const char *rest,
                   const annex_db_request *request, const float *query)
{
    static struct answer answers[MAX_ROWS];
    annex_result *result = NULL;
    annex_error error;
    size_t n = scene_brute_force(connection, keys, rest, ANNEX_L2, query, answers);
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
        scene_print_key(result, i, key, sizeof key);
        assert_string_equal(key, answers[i].key);
        assert_true(fabs(annex_result_distance(result, i) - answers[i].distance) < 1e-5);
    }
    annex_result_free(result);
}

void scene_compare_exact(struct scene *scene, const char *keys, const char *rest, size_t k)
{
    float query[DIMENSION];
    scene_vector(query);
    annex_db_request request = scene_request(query, k);
    scene_compare(scene->db, scene->plain, keys, rest, &request, query);
}

const char *scene_plan(struct scene *scene, char plan[200])
{
    float query[DIMENSION] = {1};
    annex_db_request request = scene_request(query, 1);
    annex_result *result = NULL;
    scene_ok(scene, annex_db_search(scene->db, "idx", &request, &result, &scene->error));
    snprintf(plan, 200, "%s", annex_result_plan(result));
    annex_result_free(result);
    return plan;
}

const char *scene_state(struct scene *scene)
{
    static char state[ANNEX_ERROR_BYTES];
    annex_db_index *list = NULL;
    size_t n = 0;
    scene_ok(scene, annex_db_list(scene->db, &list, &n, &scene->error));
    assert_int_equal(n, 1);
    snprintf(state, sizeof state, "%s", list[0].state);
    annex_db_list_free(scene->db, list, n);
    return state;
}

void scene_reopen(struct scene *scene)
{
    annex_db_close(scene->db);
    scene->db = NULL;
    scene_ok(scene, annex_db_open(&scene->env, scene->path, 0, &scene->db, &scene->error));
}

void scene_shell(struct scene *scene, const char *command)
{
    char line[256];
    snprintf(line, sizeof line, "cd %s && %s", scene->folder, command);
    assert_int_equal(system(line), 0);
}

int64_t scene_number(struct scene *scene, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(scene->plain, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return number;
}
