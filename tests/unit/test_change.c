/*
 * test_change.c - inserting, updating, deleting and saving, against a model that does the same to a
 * table; recall after many changes; readers beside a writer.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "images.h"
#include "rows.h"

enum { KEYS = 400, MAX_BATCH = 24, K = 10 };

/* What should be in the index: a vector for each live key. */
struct world {
    annex_metric metric;
    uint32_t dimension;
    bool byte_keys;
    bool bytes; /* vectors are whole numbers at first */
    size_t vector_bytes;
    char *vectors; /* [KEYS x vector_bytes] */
    bool live[KEYS];
    bool zero[KEYS]; /* zero vectors under cosine: not in the index */
    annex_index *index;
    uint64_t random;
    size_t step;
};

/* Key i as bytes: empty, short or long, with zeros inside. */
static size_t key_text_of(size_t i, char text[128])
{
    if (i == 0) {
        return 0;
    }
    memset(text, 0, 128);
    memcpy(text, &i, 2);
    return 2 + i % 3 * 30;
}

/* ---- changes with a model --------------------------------------------------------------------*/

/* A batch under construction. */
struct draft {
    size_t n;
    size_t keys[MAX_BATCH];
    int64_t integers[MAX_BATCH];
    char key_bytes[MAX_BATCH * 128];
    uint64_t key_ends[MAX_BATCH];
    char *vectors;
};

static int64_t integer_key(size_t i)
{
    return i == 1 ? INT64_MIN : i == 2 ? INT64_MAX : (int64_t)i * 7919 - 100000;
}

static void draft_add(struct world *world, struct draft *draft, size_t key, const void *vector)
{
    uint64_t end = draft->n ? draft->key_ends[draft->n - 1] : 0;
    draft->keys[draft->n] = key;
    draft->integers[draft->n] = integer_key(key);
    draft->key_ends[draft->n] = end + key_text_of(key, draft->key_bytes + end);
    memcpy(draft->vectors + draft->n * world->vector_bytes, vector, world->vector_bytes);
    draft->n++;
}

static annex_batch draft_batch(const struct world *world, const struct draft *draft)
{
    annex_batch batch = {.n = draft->n, .vectors = draft->vectors};
    if (world->byte_keys) {
        batch.key_bytes = draft->key_bytes;
        batch.key_ends = draft->key_ends;
    } else {
        batch.keys = draft->integers;
    }
    return batch;
}

static void new_vector(struct world *world, char *vector)
{
    float *x = (float *)(void *)vector;
    uint64_t kind = rows_random(&world->random) % 8;
    if (world->metric == ANNEX_HAMMING) {
        for (size_t i = 0; i < world->vector_bytes; i++) {
            vector[i] = (char)rows_random(&world->random);
        }
        return;
    }
    if (kind < 2) { /* a twin, of a row that may be dead */
        memcpy(vector, world->vectors + rows_random(&world->random) % KEYS * world->vector_bytes,
               world->vector_bytes);
        return;
    }
    for (uint32_t j = 0; j < world->dimension; j++) {
        x[j] = world->bytes ? (float)(rows_random(&world->random) % 200)
                            : (float)rows_gaussian(&world->random) + (float)kind;
        x[j] = kind == 2 && world->metric == ANNEX_COSINE && world->step % 5 == 0 ? 0 : x[j];
    }
}

static bool is_zero(const struct world *world, const char *vector)
{
    bool zero = world->metric == ANNEX_COSINE;
    for (uint32_t j = 0; zero && j < world->dimension; j++) {
        zero = ((const float *)(const void *)vector)[j] == 0;
    }
    return zero;
}

static void apply(struct world *world, const struct draft *draft, bool live)
{
    for (size_t i = 0; i < draft->n; i++) {
        size_t key = draft->keys[i];
        const char *vector = draft->vectors + i * world->vector_bytes;
        world->live[key] = live && !is_zero(world, vector);
        if (live) {
            memcpy(world->vectors + key * world->vector_bytes, vector, world->vector_bytes);
        }
    }
}

/* Up to `n` distinct keys that are live, are not, or either (1, 0, -1), with new vectors. */
static void draft_fill(struct world *world, struct draft *draft, size_t n, int live)
{
    char *vector = malloc(world->vector_bytes);
    draft->n = 0;
    size_t start = rows_random(&world->random) % KEYS;
    for (size_t i = 0; i < KEYS && draft->n < n; i++) {
        size_t key = (start + i * 7) % KEYS;
        if (live < 0 || world->live[key] == (live != 0)) {
            new_vector(world, vector);
            draft_add(world, draft, key, vector);
        }
    }
    free(vector);
}

static struct rows world_rows(const struct world *world, size_t *keys)
{
    struct rows rows = rows_make(world->metric, world->dimension, KEYS, SHAPE_GAUSSIAN, 1);
    rows.n = 0;
    for (size_t key = 0; key < KEYS; key++) {
        if (world->live[key]) {
            keys[rows.n] = key;
            memcpy(rows.vectors + rows.n * rows.vector_bytes,
                   world->vectors + key * world->vector_bytes, world->vector_bytes);
            rows.n++;
        }
    }
    return rows;
}

static size_t key_of_hit(const struct world *world, const annex_hit *hit)
{
    if (!world->byte_keys) {
        for (size_t i = 0; i < KEYS; i++) {
            if (integer_key(i) == hit->key) {
                return i;
            }
        }
        fail_msg("no such key");
    }
    const void *key;
    size_t bytes, i = 0;
    assert_int_equal(annex_index_key_bytes(world->index, hit->row, &key, &bytes, NULL), ANNEX_OK);
    memcpy(&i, key, MIN(bytes, 2));
    return i;
}

static void world_ask(struct world *world, const struct rows *rows, const size_t *keys,
                      const void *query)
{
    struct model_hit model[KEYS];
    size_t n = MIN(model_search(rows, query, NULL, model), K);
    for (int exact = 0; exact < 2; exact++) {
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        annex_hit hits[K];
        size_t found;
        bool seen[KEYS] = {false};
        annex_error error = {0};
        options.effort = exact ? ANNEX_EFFORT_EXACT : 8;
        if (annex_index_search(world->index, query, 1, K, &options, hits, &found, &error)) {
            fail_msg("step %zu: %s", world->step, error.message);
        }
        assert_int_equal(found, n);
        for (size_t i = 0; i < found; i++) {
            size_t key = key_of_hit(world, &hits[i]);
            assert_true(world->live[key]);
            assert_false(seen[key]);
            seen[key] = true;
            double truly = model_distance(world->metric, world->dimension, query,
                                          world->vectors + key * world->vector_bytes);
            double tolerance = 1e-4 * (fabs(truly) + 1);
            if (fabs(hits[i].distance - truly) > tolerance ||
                (exact && fabs(truly - model[i].distance) > tolerance)) {
                fail_msg("%s step %zu, hit %zu of %s: %.9g, truly %.9g, expected %.9g",
                         annex_metric_name(world->metric), world->step, i,
                         exact ? "a scan" : "a walk", hits[i].distance, truly, model[i].distance);
            }
        }
    }
    (void)keys;
}

static void world_check(struct world *world)
{
    size_t keys[KEYS];
    struct rows rows = world_rows(world, keys);
    annex_index_info info;
    annex_index_describe(world->index, &info);
    assert_int_equal(info.rows, rows.n);
    annex_error error = {0};
    if (annex_index_check(world->index, &error)) { /* at any time, not only when saved */
        fail_msg("step %zu: %s", world->step, error.message);
    }
    char *query = malloc(world->vector_bytes);
    do {
        new_vector(world, query);
    } while (is_zero(world, query));
    world_ask(world, &rows, keys, query);
    if (rows.n) {
        world_ask(world, &rows, keys, rows_at(&rows, world->step % rows.n));
    }
    for (size_t i = 0; i < 10; i++) {
        size_t key = rows_random(&world->random) % KEYS;
        char text[128];
        size_t bytes = key_text_of(key, text);
        uint32_t row;
        annex_status status = world->byte_keys
                                  ? annex_index_find_bytes(world->index, text, bytes, &row, NULL)
                                  : annex_index_find(world->index, integer_key(key), &row, NULL);
        assert_int_equal(status, world->live[key] ? ANNEX_OK : ANNEX_NOT_FOUND);
    }
    free(query);
    rows_free(&rows);
}

static void world_save(struct world *world)
{
    annex_env env = annex_env_default();
    annex_error error = {0};
    annex_index_info info;
    if (annex_index_save(world->index, test_path, &error)) {
        fail_msg("save: %s", error.message);
    }
    annex_index_describe(world->index, &info);
    assert_false(info.dirty);
    world_check(world); /* the open one goes on */
    annex_index *saved = NULL;
    if (annex_index_open(&env, test_path, ANNEX_INDEX_VERIFY, &saved, &error) ||
        annex_index_check(saved, &error)) {
        fail_msg("step %zu: the saved file: %s", world->step, error.message);
    }
    if (rows_random(&world->random) % 2) {
        annex_index *swap = world->index;
        world->index = saved;
        saved = swap;
    }
    annex_index_close(saved);
    world_check(world);
}

/* Changes that must fail as a whole. */
static void world_fail(struct world *world, struct draft *draft)
{
    annex_error error;
    annex_batch batch;
    draft_fill(world, draft, 5, 0);
    if (draft->n < 2) {
        return;
    }
    size_t first = draft->keys[0];
    draft_add(world, draft, first, draft->vectors);
    batch = draft_batch(world, draft);
    assert_int_equal(annex_index_insert(world->index, &batch, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "twice"));
    batch.n--;
    if (world->metric != ANNEX_HAMMING) {
        float *x = (float *)(void *)(draft->vectors + (batch.n - 1) * world->vector_bytes);
        x[world->dimension - 1] = INFINITY;
        assert_int_equal(annex_index_insert(world->index, &batch, &error), ANNEX_INVALID);
        x[world->dimension - 1] = 1e19f;
        assert_int_equal(annex_index_update(world->index, &batch, &error),
                         world->metric == ANNEX_COSINE ? ANNEX_OK : ANNEX_INVALID);
        if (world->metric == ANNEX_COSINE) {
            draft->n--;
            apply(world, draft, true);
            return;
        }
    }
    assert_int_equal(annex_index_delete(world->index, &batch, &error), ANNEX_NOT_FOUND);
    draft_fill(world, draft, 3, 1);
    batch = draft_batch(world, draft);
    if (batch.n) {
        assert_int_equal(annex_index_insert(world->index, &batch, &error), ANNEX_EXISTS);
    }
    draft_fill(world, draft, 3, 0);
    batch = draft_batch(world, draft);
    batch.keys = NULL;
    batch.key_ends = NULL;
    assert_int_equal(annex_index_insert(world->index, &batch, &error), ANNEX_INVALID);
}

static void world_step(struct world *world, struct draft *draft)
{
    annex_error error = {0};
    annex_status status = ANNEX_OK;
    annex_batch batch;
    uint64_t what = rows_random(&world->random) % 40;
    size_t n = 1 + rows_random(&world->random) % MAX_BATCH;
    if (what < 12) {
        draft_fill(world, draft, n, 0);
        batch = draft_batch(world, draft);
        status = annex_index_insert(world->index, &batch, &error);
        apply(world, draft, true);
    } else if (what < 20) {
        draft_fill(world, draft, n, -1);
        batch = draft_batch(world, draft);
        status = annex_index_update(world->index, &batch, &error);
        apply(world, draft, true);
    } else if (what < 32) {
        draft_fill(world, draft, n, 1);
        batch = draft_batch(world, draft);
        batch.vectors = NULL;
        status = annex_index_delete(world->index, &batch, &error);
        apply(world, draft, false);
    } else if (what < 36) {
        world_fail(world, draft);
    } else if (what < 39) {
        world_save(world);
    } else {
        do { /* everything goes */
            draft_fill(world, draft, MAX_BATCH, 1);
            batch = draft_batch(world, draft);
            status = status ? status : annex_index_delete(world->index, &batch, &error);
            apply(world, draft, false);
        } while (draft->n);
    }
    if (status) {
        fail_msg("step %zu: %s", world->step, error.message);
    }
}

static void run_world(annex_metric metric, annex_family family, bool byte_keys, bool bytes,
                      annex_raw raw, size_t steps)
{
    struct world world = {.metric = metric,
                          .dimension = metric == ANNEX_HAMMING ? 40 : 6,
                          .byte_keys = byte_keys,
                          .bytes = bytes,
                          .random = (uint64_t)metric * 100 + family * 10 + byte_keys};
    world.vector_bytes = annex_vector_bytes(metric, world.dimension);
    world.vectors = calloc(KEYS, world.vector_bytes);
    struct rows empty = rows_make(metric, world.dimension, 0, SHAPE_GAUSSIAN, 1);
    if (bytes) { /* what the codec decides is decided by the first rows */
        rows_free(&empty);
        empty = rows_make(metric, world.dimension, 100, SHAPE_BYTES, 1);
        for (size_t i = 0; i < 100; i++) {
            empty.keys[i] = integer_key(i);
            world.live[i] = true;
        }
        memcpy(world.vectors, empty.vectors, 100 * world.vector_bytes);
    }
    annex_build_options options = rows_options(&empty);
    options.family = family;
    options.raw = raw;
    options.degree = 8;
    options.key_kind = byte_keys ? ANNEX_KEY_BYTES : ANNEX_KEY_INTEGER;
    world.index = rows_build(&empty, &options);
    struct draft *draft = calloc(1, sizeof *draft);
    draft->vectors = calloc(MAX_BATCH + 1, world.vector_bytes);
    for (world.step = 0; world.step < steps; world.step++) {
        world.bytes = world.bytes && world.step < steps / 2; /* then codes lose something */
        world_step(&world, draft);
        world_check(&world);
    }
    world_save(&world);
    free(draft->vectors);
    free(draft);
    free(world.vectors);
    annex_index_close(world.index);
    rows_free(&empty);
}

static void changes__integer_keys__follow_the_model(void **state)
{
    (void)state;
    for (int metric = ANNEX_L2; metric <= ANNEX_HAMMING; metric++) {
        run_world((annex_metric)metric, ANNEX_GRAPH, false, false, ANNEX_RAW_KEEP, 700);
        run_world((annex_metric)metric, ANNEX_FLAT, false, false, ANNEX_RAW_KEEP, 250);
    }
}

static void changes__byte_keys__follow_the_model(void **state)
{
    (void)state;
    run_world(ANNEX_L2, ANNEX_GRAPH, true, false, ANNEX_RAW_KEEP, 700);
    run_world(ANNEX_COSINE, ANNEX_GRAPH, true, false, ANNEX_RAW_KEEP, 400);
    run_world(ANNEX_L1, ANNEX_FLAT, true, false, ANNEX_RAW_KEEP, 400);
}

static void changes__codes_that_stop_being_lossless__follow_the_model(void **state)
{
    (void)state;
    run_world(ANNEX_L2, ANNEX_GRAPH, false, true, ANNEX_RAW_AUTO, 500);
    run_world(ANNEX_L1, ANNEX_GRAPH, false, true, ANNEX_RAW_NONE, 500);
    run_world(ANNEX_L2, ANNEX_FLAT, false, true, ANNEX_RAW_AUTO, 300);
    run_world(ANNEX_L2, ANNEX_FLAT, false, true, ANNEX_RAW_KEEP, 300);
    run_world(ANNEX_L2, ANNEX_GRAPH, false, true, ANNEX_RAW_KEEP, 300);
}

static void changes__lists__follow_the_model(void **state)
{
    (void)state;
    for (int metric = ANNEX_L2; metric <= ANNEX_COSINE; metric++) {
        run_world((annex_metric)metric, ANNEX_IVF, false, false, ANNEX_RAW_KEEP, 250);
    }
    run_world(ANNEX_L2, ANNEX_IVF, true, false, ANNEX_RAW_AUTO, 250);
    run_world(ANNEX_L2, ANNEX_IVF, false, true, ANNEX_RAW_AUTO, 250);
}

/* ---- larger ----------------------------------------------------------------------------------*/

static double recall_at(struct rows *rows, annex_index *index, struct rows *queries,
                        uint32_t effort)
{
    struct model_hit *model = calloc(rows->n, sizeof *model);
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = effort;
    size_t met = 0;
    for (size_t q = 0; q < queries->n; q++) {
        annex_hit hits[K];
        size_t found;
        assert_int_equal(
            annex_index_search(index, rows_at(queries, q), 1, K, &options, hits, &found, NULL),
            ANNEX_OK);
        assert_int_equal(found, K);
        model_search(rows, rows_at(queries, q), NULL, model);
        for (size_t i = 0; i < K; i++) {
            for (size_t j = 0; j < K; j++) {
                met += hits[i].key == rows->keys[model[j].row];
            }
        }
    }
    free(model);
    return (double)met / (double)(queries->n * K);
}

static void churn__half_of_the_rows_replaced__keeps_recall(void **state)
{
    (void)state;
    enum { N = 6000, QUERIES = 200 };
    static const struct {
        annex_metric metric;
        enum shape shape;
    } sets[] = {
        {ANNEX_L2, SHAPE_CLUSTERS}, {ANNEX_COSINE, SHAPE_GAUSSIAN}, {ANNEX_IP, SHAPE_CLUSTERS}};
    for (size_t s = 0; s < ARRAY_LENGTH(sets); s++) {
        struct rows all = rows_make(sets[s].metric, 16, N + N / 2 + QUERIES, sets[s].shape, 31);
        struct rows queries = rows_make(sets[s].metric, 16, QUERIES, SHAPE_GAUSSIAN, 1);
        memcpy(queries.vectors, rows_at(&all, N + N / 2), QUERIES * all.vector_bytes);
        all.n = N;
        annex_build_options options = rows_options(&all);
        options.degree = 32;
        annex_index *index = rows_build(&all, &options);
        annex_error error = {0};
        for (size_t i = 0; i < N / 2; i += 50) { /* every second row goes, in a random order */
            int64_t gone[50];
            for (size_t j = 0; j < 50; j++) {
                gone[j] = (int64_t)((i + j) * 2 * 1009 % N);
            }
            annex_batch batch = {.n = 50, .keys = gone};
            assert_int_equal(annex_index_delete(index, &batch, &error), ANNEX_OK);
            batch = rows_batch(&all, N + i, 50);
            assert_int_equal(annex_index_insert(index, &batch, &error), ANNEX_OK);
        }
        /* What should be there: the odd rows and the new ones. */
        struct rows now = rows_make(sets[s].metric, 16, N, SHAPE_GAUSSIAN, 1);
        now.n = 0;
        for (size_t i = 0; i < N + N / 2; i++) {
            if (i >= N || i % 2) {
                memcpy(rows_vector(&now, now.n), rows_at(&all, i), all.vector_bytes);
                now.keys[now.n++] = (int64_t)i;
            }
        }
        annex_index *fresh = rows_build(&now, &options), *saved;
        annex_env env = annex_env_default();
        assert_int_equal(annex_index_save(index, test_path, &error), ANNEX_OK);
        assert_int_equal(annex_index_open(&env, test_path, 0, &saved, &error), ANNEX_OK);
        if (annex_index_check(saved, &error)) {
            fail_msg("%s", error.message);
        }
        for (uint32_t effort = 20; effort <= 80; effort *= 2) {
            double expected = recall_at(&now, fresh, &queries, effort);
            double churned = recall_at(&now, index, &queries, effort);
            double after = recall_at(&now, saved, &queries, effort);
            if (churned < expected - 0.03 || after < expected - 0.03) {
                fail_msg("%s effort %u: fresh %.4f, changed %.4f, saved %.4f",
                         annex_metric_name(sets[s].metric), effort, expected, churned, after);
            }
        }
        annex_index_close(index);
        annex_index_close(fresh);
        annex_index_close(saved);
        rows_free(&all);
        rows_free(&now);
        rows_free(&queries);
    }
}

static void insert__one_by_one_into_nothing__gives_a_graph_that_works(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, 16, 3000, SHAPE_CLUSTERS, 12);
    struct rows queries = rows_make(ANNEX_L2, 16, 100, SHAPE_CLUSTERS, 12);
    struct rows none = rows_make(ANNEX_L2, 16, 0, SHAPE_CLUSTERS, 12);
    annex_build_options options = rows_options(&rows);
    options.family = ANNEX_GRAPH;
    annex_index *index = rows_build(&none, &options), *fresh = rows_build(&rows, &options);
    annex_error error = {0};
    for (size_t i = 0; i < rows.n; i++) {
        annex_batch batch = rows_batch(&rows, i, 1);
        assert_int_equal(annex_index_insert(index, &batch, &error), ANNEX_OK);
    }
    if (annex_index_check(index, &error)) {
        fail_msg("%s", error.message);
    }
    double expected = recall_at(&rows, fresh, &queries, 30);
    double found = recall_at(&rows, index, &queries, 30);
    if (found < expected - 0.03) {
        fail_msg("recall %.3f, of a fresh build %.3f", found, expected);
    }
    annex_index_close(index);
    annex_index_close(fresh);
    rows_free(&rows);
    rows_free(&queries);
    rows_free(&none);
}

static void changes__equal_rows__are_all_found_and_all_deleted(void **state)
{
    (void)state;
    enum { N = 2000 };
    struct rows rows = rows_make(ANNEX_L2, 4, N, SHAPE_EQUAL, 0);
    struct rows none = rows_make(ANNEX_L2, 4, 0, SHAPE_EQUAL, 0);
    annex_build_options options = rows_options(&rows);
    options.family = ANNEX_GRAPH;
    annex_index *index = rows_build(&none, &options);
    annex_hit *hits = calloc(N, sizeof *hits);
    annex_search_options search = ANNEX_SEARCH_OPTIONS_INIT;
    annex_error error = {0};
    annex_env env = annex_env_default();
    size_t found;
    search.effort = 64;
    annex_batch batch = rows_batch(&rows, 0, N);
    assert_int_equal(annex_index_insert(index, &batch, &error), ANNEX_OK);
    for (size_t left = N; left > 0; left /= 2) {
        assert_int_equal(
            annex_index_search(index, rows_at(&rows, 0), 1, N, &search, hits, &found, &error),
            ANNEX_OK);
        assert_int_equal(found, left);
        assert_int_equal(annex_index_check(index, &error), ANNEX_OK);
        assert_int_equal(annex_index_save(index, test_path, &error), ANNEX_OK);
        annex_index *saved;
        assert_int_equal(annex_index_open(&env, test_path, 0, &saved, &error), ANNEX_OK);
        if (annex_index_check(saved, &error)) {
            fail_msg("%s", error.message);
        }
        if (left == N / 2) { /* go on with a file that has rings */
            annex_index *swap = index;
            index = saved;
            saved = swap;
        }
        annex_index_close(saved);
        /* The first half of what is left, with it the row that stands for the others. */
        batch = rows_batch(&rows, N - left, left - left / 2);
        if (left > 1) {
            assert_int_equal(annex_index_delete(index, &batch, &error), ANNEX_OK);
        }
    }
    free(hits);
    annex_index_close(index);
    rows_free(&rows);
    rows_free(&none);
}

/* ---- readers beside a writer -----------------------------------------------------------------*/

struct shared {
    annex_index *index;
    struct rows *rows;
    atomic_bool stop;
    atomic_uint searches;
};

static void *read_while_written(void *argument)
{
    struct shared *shared = argument;
    uint64_t random = (uintptr_t)&random;
    while (!atomic_load(&shared->stop)) {
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        annex_hit hits[K], *within;
        size_t found, q = rows_random(&random) % 1000;
        const void *query = rows_at(shared->rows, q);
        annex_index_info info;
        options.effort = q % 3 ? 20 : ANNEX_EFFORT_EXACT;
        assert_int_equal(
            annex_index_search(shared->index, query, 1, K, &options, hits, &found, NULL), ANNEX_OK);
        assert_int_equal(found, K);
        for (size_t i = 0; i < found; i++) {
            int64_t key;
            float vector[8];
            uint32_t row;
            assert_int_equal(annex_index_key(shared->index, hits[i].row, &key, NULL), ANNEX_OK);
            assert_true(key == hits[i].key);
            assert_int_equal(annex_index_vector(shared->index, hits[i].row, vector, NULL),
                             ANNEX_OK);
            (void)annex_index_find(shared->index, key, &row, NULL);
        }
        annex_index_describe(shared->index, &info);
        assert_int_equal(annex_index_within(shared->index, query, 0.5, NULL, &within, &found, NULL),
                         ANNEX_OK);
        annex_hits_free(shared->index, within, found);
        atomic_fetch_add(&shared->searches, 1);
    }
    return NULL;
}

static void write__beside_readers__never_starves_and_never_shows_half_a_change(void **state)
{
    (void)state;
    enum { N = 1200, READERS = 3 };
    for (int family = ANNEX_FLAT; family <= ANNEX_GRAPH; family++) {
        struct rows rows = rows_make(ANNEX_L2, 8, 2 * N, SHAPE_CLUSTERS, 12);
        rows.n = N;
        annex_build_options options = rows_options(&rows);
        options.family = (annex_family)family;
        struct shared shared = {.rows = &rows};
        shared.index = rows_build(&rows, &options);
        pthread_t threads[READERS];
        for (int t = 0; t < READERS; t++) {
            assert_int_equal(pthread_create(&threads[t], NULL, read_while_written, &shared), 0);
        }
        for (size_t i = 0; i < N - 100; i += 10) {
            annex_batch batch = rows_batch(&rows, N + i, 10);
            assert_int_equal(annex_index_insert(shared.index, &batch, NULL), ANNEX_OK);
            batch = rows_batch(&rows, i, 10);
            assert_int_equal(annex_index_delete(shared.index, &batch, NULL), ANNEX_OK);
            if (i % 400 == 0) {
                assert_int_equal(annex_index_save(shared.index, test_path, NULL), ANNEX_OK);
            }
        }
        while (atomic_load(&shared.searches) < 10) {
            usleep(1000);
        }
        atomic_store(&shared.stop, true);
        for (int t = 0; t < READERS; t++) {
            pthread_join(threads[t], NULL);
        }
        annex_index_close(shared.index);
        rows_free(&rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes__integer_keys__follow_the_model),
        cmocka_unit_test(changes__byte_keys__follow_the_model),
        cmocka_unit_test(changes__lists__follow_the_model),
        cmocka_unit_test(changes__codes_that_stop_being_lossless__follow_the_model),
        cmocka_unit_test(churn__half_of_the_rows_replaced__keeps_recall),
        cmocka_unit_test(insert__one_by_one_into_nothing__gives_a_graph_that_works),
        cmocka_unit_test(changes__equal_rows__are_all_found_and_all_deleted),
        cmocka_unit_test(write__beside_readers__never_starves_and_never_shows_half_a_change),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
