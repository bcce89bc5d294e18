/*
 * test_engine.c - the native engine as a table, and what Annex puts around the segments of others:
 * keys, checksums, exact answers; under every failing allocation and file, and with every byte
 * damaged.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "fault.h"
#include "images.h"
#include "rows.h"

enum { N = 120, D = 12, K = 10 };

/* ---- an engine that only counts its rows, and proposes the first ones -------------------------*/

struct annex_engine_index {
    annex_env env;
    uint32_t rows;
};

static annex_status few_open(const annex_env *env, const char *path, const void *image,
                             uint64_t bytes, unsigned flags, annex_engine_index **out,
                             annex_error *error)
{
    assert_null(path);
    assert_int_equal(flags, 0);
    assert_int_equal((uintptr_t)image % 64, 0);
    if (bytes != sizeof(uint32_t)) {
        return error_set(error, ANNEX_DAMAGED, "no count");
    }
    TRY(memory_new(env, 1, sizeof **out, out, error));
    (*out)->env = *env;
    memcpy(&(*out)->rows, image, sizeof(uint32_t));
    return ANNEX_OK;
}

static annex_status few_build(const annex_env *env, const annex_build_options *options,
                              const char *json, const annex_rows *rows, const char *path,
                              annex_engine_index **out, annex_error *error)
{
    _Alignas(64) uint32_t n = 0;
    annex_batch batch = {0};
    (void)options;
    assert_string_equal(json, "{}");
    do {
        TRY(rows->next(rows->context, &batch, error));
        assert_null(batch.keys);
        assert_null(batch.key_bytes);
        n += (uint32_t)batch.n;
    } while (batch.n > 0);
    return few_open(env, path, &n, sizeof n, 0, out, error);
}

static void few_close(annex_engine_index *index)
{
    if (index != NULL) {
        annex_env env = index->env;
        memory_free(&env, index, 1, sizeof *index);
    }
}

static void few_describe(const annex_engine_index *index, annex_engine_info *info)
{
    info->rows = index->rows;
}

static annex_status few_save(const annex_engine_index *index, annex_engine_write put, void *context,
                             annex_error *error)
{
    return put(context, &index->rows, sizeof index->rows, error);
}

static annex_status few_search(const annex_engine_index *index, const void *queries,
                               size_t n_queries, size_t k, const annex_search_options *options,
                               annex_hit *hits, size_t *found, annex_error *error)
{
    (void)queries, (void)options, (void)error;
    assert_int_equal(n_queries, 1);
    *found = MIN(k / 2, index->rows);
    for (uint32_t i = 0; i < *found; i++) {
        hits[i].row = i;
    }
    return ANNEX_OK;
}

static const annex_engine few = {.abi = ANNEX_ENGINE_ABI,
                                 .struct_bytes = sizeof few,
                                 .name = "few",
                                 .build = few_build,
                                 .open = few_open,
                                 .close = few_close,
                                 .describe = few_describe,
                                 .save = few_save,
                                 .search = few_search};

/* ---- what a test asks -------------------------------------------------------------------------*/

static annex_status fetch(void *context, const uint32_t *wanted, size_t n, void *vectors,
                          unsigned char *present, annex_error *error)
{
    const struct rows *rows = context;
    (void)error;
    for (size_t i = 0; i < n; i++) {
        memcpy((char *)vectors + i * rows->vector_bytes, rows_at(rows, wanted[i]),
               rows->vector_bytes);
        present[i] = 1;
    }
    return ANNEX_OK;
}

static annex_search_options search_options(struct rows *rows)
{
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.fetch = fetch;
    options.fetch_context = rows;
    return options;
}

static annex_status build(const annex_env *env, struct rows *rows, const char *path,
                          struct engine_index **index)
{
    annex_build_options options = rows_options(rows);
    annex_rows source = rows_source(rows);
    annex_error error;
    return engine_build(env, &few, &options, "{}", &source, path, index, &error);
}

static void check_keys(const struct engine_index *index, const struct rows *rows)
{
    for (uint32_t i = 0; i < rows->n; i++) {
        uint64_t begin = rows->key_ends != NULL && i > 0 ? rows->key_ends[i - 1] : 0;
        const char *bytes = rows->key_bytes != NULL ? rows->key_bytes + begin : NULL;
        size_t n_bytes = bytes != NULL ? rows->key_ends[i] - begin : 0;
        int64_t integer = bytes == NULL ? rows->keys[i] : 0, key = 0;
        const void *key_bytes = NULL;
        size_t n_key_bytes = 0;
        uint32_t row = N;
        assert_int_equal(engine_find_row(index, integer, bytes, n_bytes, &row), ANNEX_OK);
        assert_int_equal(row, i);
        if (bytes == NULL) {
            assert_int_equal(engine_row_key(index, i, &key, NULL), ANNEX_OK);
            assert_int_equal(key, integer);
        } else {
            assert_int_equal(engine_row_key_bytes(index, i, &key_bytes, &n_key_bytes, NULL),
                             ANNEX_OK);
            assert_int_equal(n_key_bytes, n_bytes);
            assert_memory_equal(key_bytes, bytes, n_bytes);
        }
    }
}

static annex_status check_search(const struct engine_index *index, struct rows *rows)
{
    annex_search_options options = search_options(rows);
    struct model_hit model[N];
    annex_hit hits[K];
    annex_error error;
    size_t found = 0;
    TRY(engine_search(index, rows_at(rows, 7), K, &options, hits, &found, &error));
    assert_int_equal(found, K);
    (void)model_search(rows, rows_at(rows, 7), NULL, model);
    for (size_t i = 0; i < K; i++) {
        assert_int_equal(hits[i].row, model[i].row);
    }
    return ANNEX_OK;
}

/* ---- tests ------------------------------------------------------------------------------------*/

static void native_table__life_of_an_index__is_that_of_annex_index(void **state)
{
    (void)state;
    const annex_engine *engine = annex_engine_native();
    const annex_env env = annex_env_default();
    for (int bytes = 0; bytes < 2; bytes++) {
        struct rows rows = rows_make(ANNEX_L2, D, N, SHAPE_GAUSSIAN, 1);
        if (bytes) {
            rows_make_byte_keys(&rows, 2);
        }
        annex_build_options options = rows_options(&rows);
        annex_rows source = rows_source(&rows);
        annex_engine_index *built = NULL, *opened = NULL;
        annex_engine_info info = {.struct_bytes = sizeof info};
        annex_error error;
        assert_int_equal(engine->build(&env, &options, "{}", &source, NULL, &built, &error), 0);
        engine->describe(built, &info);
        assert_int_equal(info.rows, N);
        assert_true(info.recall == 1);
        struct engine_index wrapped = {.env = env, .engine = engine, .handle = built};
        uint64_t size = 0;
        const void *data = engine_image(&wrapped, &size);
        assert_int_equal(engine->open(&env, NULL, data, size, ANNEX_INDEX_VERIFY, &opened, &error),
                         0);
        const uint32_t gone[] = {7, 3};
        annex_hit hits[K];
        size_t found = 0;
        assert_int_equal(
            engine->search(opened, rows_at(&rows, 7), 1, K, NULL, hits, &found, &error), 0);
        assert_int_equal(hits[0].row, 7);
        assert_int_equal(engine->remove(opened, gone, 2, &error), 0);
        assert_int_equal(
            engine->search(opened, rows_at(&rows, 7), 1, K, NULL, hits, &found, &error), 0);
        assert_int_not_equal(hits[0].row, 7);
        const uint64_t end = 3;
        const int64_t key = 7;
        annex_batch again = {.n = 1, .vectors = rows_at(&rows, 7), .keys = bytes ? NULL : &key};
        again.key_bytes = bytes ? "new" : NULL;
        again.key_ends = bytes ? &end : NULL;
        assert_int_equal(engine->add(opened, &again, &error), 0);
        assert_int_equal(
            engine->search(opened, rows_at(&rows, 7), 1, K, NULL, hits, &found, &error), 0);
        assert_true(hits[0].distance == 0);
        engine->close(opened);
        engine->close(built);
        rows_free(&rows);
    }
}

static void plugin__integer_or_byte_keys__finds_rows_and_answers_exactly(void **state)
{
    (void)state;
    const annex_env env = annex_env_default();
    for (int bytes = 0; bytes < 2; bytes++) {
        struct rows rows = rows_make(ANNEX_L2, D, N, SHAPE_GAUSSIAN, 3);
        struct engine_index *index = NULL;
        annex_search_options options = search_options(&rows);
        annex_hit *hits = NULL;
        uint32_t row = 0;
        size_t n = 0;
        rows.batch = bytes ? 0 : 17;
        if (bytes) {
            rows_make_byte_keys(&rows, 4);
        }
        assert_int_equal(build(&env, &rows, NULL, &index), ANNEX_OK);
        check_keys(index, &rows);
        assert_int_equal(
            engine_find_row(index, -1, bytes ? "no such key" : NULL, bytes ? 11 : 0, &row),
            ANNEX_NOT_FOUND);
        assert_int_equal(check_search(index, &rows), ANNEX_OK);
        assert_int_equal(
            engine_within(index, rows_at(&rows, 7), INFINITY, &options, &hits, &n, NULL), ANNEX_OK);
        assert_int_equal(n, N);
        engine_hits_free(index, hits, n);
        engine_close(index);
        rows_free(&rows);
    }
}

static void plugin__answers_in_pages__gives_every_row_once(void **state)
{
    (void)state;
    const annex_env env = annex_env_default();
    struct rows rows = rows_make(ANNEX_L2, D, N, SHAPE_EQUAL, 3); /* keys alone order them */
    struct engine_index *index = NULL;
    annex_search_options options = search_options(&rows);
    annex_place after = {.distance = -1};
    uint64_t seen[(N + 63) / 64];
    size_t found = K, total = 0;
    memset(seen, 0, sizeof seen);
    assert_int_equal(build(&env, &rows, NULL, &index), ANNEX_OK);
    options.after = &after;
    while (found == K) {
        annex_hit hits[K];
        assert_int_equal(engine_search(index, rows_at(&rows, 0), K, &options, hits, &found, NULL),
                         ANNEX_OK);
        for (size_t i = 0; i < found; i++) {
            assert_false(bitmap_get(seen, hits[i].row));
            bitmap_set(seen, hits[i].row);
            after = (annex_place){.distance = hits[i].distance, .key = hits[i].key};
        }
        total += found;
    }
    assert_int_equal(total, N);
    engine_close(index);
    rows_free(&rows);
}

static void plugin__limits_and_filters__are_kept(void **state)
{
    (void)state;
    const annex_env env = annex_env_default();
    struct rows rows = rows_make(ANNEX_L2, D, N, SHAPE_GAUSSIAN, 5);
    struct engine_index *index = NULL;
    annex_search_options options = search_options(&rows);
    annex_search_stats stats = {0};
    annex_hit hits[N];
    size_t found = 0;
    uint64_t allowed[2] = {0};
    assert_int_equal(build(&env, &rows, NULL, &index), ANNEX_OK);
    bitmap_set(allowed, 3);
    bitmap_set(allowed, 100);
    options.allowed = allowed;
    assert_int_equal(engine_search(index, rows_at(&rows, 7), K, &options, hits, &found, NULL), 0);
    assert_int_equal(found, 2);
    assert_int_equal(hits[0].row + hits[1].row, 103);
    options.allowed = NULL;
    options.effort = ANNEX_EFFORT_EXACT;
    options.max_scan = 20;
    options.stats = &stats;
    assert_int_equal(engine_search(index, rows_at(&rows, 7), N, &options, hits, &found, NULL), 0);
    assert_true(found >= 20 && found < N);
    assert_int_equal(stats.cut, 1);
    engine_close(index);
    rows_free(&rows);
}

static void plugin__two_rows_with_one_key__is_refused(void **state)
{
    (void)state;
    const annex_env env = annex_env_default();
    struct rows rows = rows_make(ANNEX_L2, D, N, SHAPE_GAUSSIAN, 6);
    struct engine_index *index = NULL;
    rows.keys[90] = rows.keys[11];
    assert_int_equal(build(&env, &rows, NULL, &index), ANNEX_INVALID);
    assert_null(index);
    rows_free(&rows);
}

static void plugin__no_rows__is_a_valid_segment(void **state)
{
    (void)state;
    const annex_env env = annex_env_default();
    struct rows rows = rows_make(ANNEX_L2, D, 1, SHAPE_GAUSSIAN, 6);
    struct engine_index *index = NULL;
    annex_search_options options = search_options(&rows);
    annex_hit hit;
    size_t found = 1;
    rows.n = 0;
    assert_int_equal(build(&env, &rows, NULL, &index), ANNEX_OK);
    assert_int_equal(engine_search(index, rows_at(&rows, 0), 1, &options, &hit, &found, NULL), 0);
    assert_int_equal(found, 0);
    engine_close(index);
    rows.n = 1;
    rows_free(&rows);
}

static void plugin__any_allocation_or_file_call_fails__leaves_nothing(void **state)
{
    (void)state;
    for (enum fault_target target = FAULT_MEMORY; target <= FAULT_IO; target++) {
        struct rows rows = rows_make(ANNEX_COSINE, D, N, SHAPE_GAUSSIAN, 7);
        struct fault fault;
        fault_init(&fault, NULL);
        for (uint64_t n = 1; fault_loop(&fault, target, n, false); n++) {
            struct engine_index *index = NULL;
            annex_status status = build(&fault.env, &rows, test_path, &index);
            if (status == ANNEX_OK) {
                (void)check_search(index, &rows);
                engine_close(index);
                index = NULL;
                if (engine_open(&fault.env, &few, test_path, &index, NULL) == ANNEX_OK) {
                    engine_close(index);
                }
            } else {
                assert_null(index);
            }
            fault_disarm(&fault);
            (void)unlink(test_path);
        }
        fault_free(&fault);
        rows_free(&rows);
    }
}

static void frame__any_byte_damaged_or_cut_off__is_refused(void **state)
{
    (void)state;
    const annex_env env = annex_env_default();
    struct rows rows = rows_make(ANNEX_L2, D, 20, SHAPE_GAUSSIAN, 8);
    struct engine_index *index = NULL, *opened = NULL;
    uint64_t bytes = 0;
    annex_error error;
    rows_make_byte_keys(&rows, 9);
    assert_int_equal(build(&env, &rows, NULL, &index), ANNEX_OK);
    const void *image = engine_image(index, &bytes);
    char *copy = aligned_alloc(64, round_up(bytes, 64));
    for (uint64_t i = 0; i < bytes; i++) {
        memcpy(copy, image, bytes);
        copy[i] ^= 0x21;
        assert_int_not_equal(engine_open_image(&env, &few, copy, bytes, &opened, &error), ANNEX_OK);
        assert_null(opened);
        memcpy(copy, image, bytes);
        assert_int_not_equal(engine_open_image(&env, &few, copy, i, &opened, &error), ANNEX_OK);
    }
    memcpy(copy, image, bytes);
    assert_int_equal(engine_open_image(&env, &few, copy, bytes, &opened, &error), ANNEX_OK);
    assert_int_equal(engine_check(opened, &error), ANNEX_OK);
    engine_close(opened);
    engine_close(index);
    free(copy);
    rows_free(&rows);
}

static void registry__tables_that_are_not_whole__are_refused(void **state)
{
    (void)state;
    const annex_env env = annex_env_default();
    static const char *const names[] = {"",      "annex", "flat",
                                        "graph", "ivf",   "auto",
                                        "A",     "a b",   "abcdefghijklmnopqrstuvwxyz012345"};
    struct engine_list list = {0};
    annex_engine engine = few;
    annex_error error;
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        engine.name = names[i];
        assert_int_equal(engine_list_add(&env, &list, &engine, &error), ANNEX_INVALID);
    }
    engine = few;
    engine.search = NULL;
    assert_int_equal(engine_list_add(&env, &list, &engine, &error), ANNEX_INVALID);
    engine = few;
    engine.flags = ANNEX_ENGINE_FILES;
    assert_int_equal(engine_list_add(&env, &list, &engine, &error), ANNEX_INVALID);
    assert_null(engine_find(&list, "few"));
    assert_int_equal(engine_list_add(&env, &list, &few, &error), ANNEX_OK);
    assert_ptr_equal(engine_find(&list, "few"), &few);
    assert_int_equal(engine_list_add(&env, &list, &few, &error), ANNEX_EXISTS);
    assert_ptr_equal(engine_find(&list, ""), annex_engine_native());
    assert_ptr_equal(engine_find(&list, "annex"), annex_engine_native());
    engine_list_free(&env, &list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(native_table__life_of_an_index__is_that_of_annex_index),
        cmocka_unit_test(plugin__integer_or_byte_keys__finds_rows_and_answers_exactly),
        cmocka_unit_test(plugin__answers_in_pages__gives_every_row_once),
        cmocka_unit_test(plugin__limits_and_filters__are_kept),
        cmocka_unit_test(plugin__two_rows_with_one_key__is_refused),
        cmocka_unit_test(plugin__no_rows__is_a_valid_segment),
        cmocka_unit_test(plugin__any_allocation_or_file_call_fails__leaves_nothing),
        cmocka_unit_test(frame__any_byte_damaged_or_cut_off__is_refused),
        cmocka_unit_test(registry__tables_that_are_not_whole__are_refused),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
