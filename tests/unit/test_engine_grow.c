/*
 * test_engine_grow.c - a segment that grows: it answers as one built from the rows that are left
 * and the new ones, the segment before it stays, and what fails or is not worth it leaves nothing.
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

enum { BUILT = 300, ADDED = 60, N = BUILT + ADDED, D = 16, K = 10, EVERY = 7 };

/* A segment of the first BUILT rows, of which each EVERYth is to go, and the others are to come. */
struct scene {
    struct rows rows; /* all of them; key i is row i */
    struct rows added;
    annex_rows source;
    uint32_t gone[BUILT];
    struct engine_change change;
    struct engine_index *before, *grown;
};

static struct scene *scene_new(const annex_env *env, annex_metric metric, annex_family family,
                               enum shape shape, bool byte_keys)
{
    struct scene *scene = calloc(1, sizeof *scene);
    scene->rows = rows_make(metric, D, N, shape, 11);
    if (byte_keys) {
        rows_make_byte_keys(&scene->rows, 12);
    }
    annex_build_options options = rows_options(&scene->rows);
    options.family = family;
    options.degree = 8;
    options.raw = ANNEX_RAW_NONE;
    scene->rows.n = BUILT;
    annex_rows source = rows_source(&scene->rows);
    annex_error error = {ANNEX_OK, ""};
    if (engine_build(env, annex_engine_native(), &options, "{}", &source, NULL, &scene->before,
                     &error)) {
        fail_msg("%s", error.message);
    }
    scene->rows.n = N;
    return scene;
}

static void scene_free(struct scene *scene)
{
    engine_close(scene->grown);
    engine_close(scene->before);
    rows_free(&scene->rows);
    free(scene);
    unlink(test_path);
}

/* Rows from BUILT on, one batch each: byte keys of a batch begin at its first byte. */
static annex_status next_added(void *context, annex_batch *batch, annex_error *error)
{
    static uint64_t end;
    struct scene *scene = context;
    struct rows *rows = &scene->rows;
    size_t i = BUILT + scene->added.next;
    (void)error;
    *batch = (annex_batch){.n = 0};
    if (i >= N) {
        return ANNEX_OK;
    }
    scene->added.next++;
    *batch = (annex_batch){.n = 1, .vectors = rows_at(rows, i), .keys = rows->keys + i};
    if (rows->key_bytes) {
        end = rows->key_ends[i] - rows->key_ends[i - 1];
        batch->keys = NULL;
        batch->key_bytes = rows->key_bytes + rows->key_ends[i - 1];
        batch->key_ends = &end;
    }
    return ANNEX_OK;
}

static annex_status rewind_added(void *context, annex_error *error)
{
    struct scene *scene = context;
    (void)error;
    scene->added.next = 0;
    return ANNEX_OK;
}

static annex_status grow(struct scene *scene, annex_error *error)
{
    scene->source = (annex_rows){scene, next_added, rewind_added};
    scene->change =
        (struct engine_change){.gone = scene->gone, .rows = &scene->source, .n_rows = ADDED};
    for (uint32_t row = 0; row < BUILT; row += EVERY) {
        scene->gone[scene->change.n_gone++] = row;
    }
    return engine_grow(scene->before, &scene->change, test_path, &scene->grown, error);
}

/* ---- what is in a segment ---------------------------------------------------------------------*/

/* The row of the scene that a row of the segment is. */
static size_t row_of(const struct scene *scene, const struct engine_index *index, uint32_t row)
{
    int64_t key = -1;
    const void *bytes = NULL;
    size_t n = 0;
    if (scene->rows.key_bytes == NULL) {
        assert_int_equal(engine_row_key(index, row, &key, NULL), ANNEX_OK);
        return (size_t)key;
    }
    assert_int_equal(engine_row_key_bytes(index, row, &bytes, &n, NULL), ANNEX_OK);
    for (size_t i = 0; i < N; i++) {
        uint64_t begin = i > 0 ? scene->rows.key_ends[i - 1] : 0;
        if (scene->rows.key_ends[i] - begin == n &&
            memcmp(scene->rows.key_bytes + begin, bytes, n) == 0) {
            return i;
        }
    }
    fail_msg("row %u has a key that no row has", row);
    return 0;
}

struct asked {
    const struct scene *scene;
    const struct engine_index *index;
};

static annex_status fetch(void *context, const uint32_t *wanted, size_t n, void *vectors,
                          unsigned char *present, annex_error *error)
{
    const struct asked *asked = context;
    const struct rows *rows = &asked->scene->rows;
    (void)error;
    for (size_t i = 0; i < n; i++) {
        memcpy((char *)vectors + i * rows->vector_bytes,
               rows_at(rows, row_of(asked->scene, asked->index, wanted[i])), rows->vector_bytes);
        present[i] = 1;
    }
    return ANNEX_OK;
}

/* Rows of the scene that pass are there, no others, and exact searches give the nearest of them. */
static void check_holds(const struct scene *scene, const struct engine_index *index,
                        const bool *passes, size_t n)
{
    static struct model_hit model[N];
    struct asked asked = {scene, index};
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    annex_index_info info;
    annex_hit hits[K];
    size_t found = 0;
    engine_describe(index, &info);
    assert_int_equal(info.slots, n);
    assert_int_equal(info.rows, n);
    assert_int_equal(engine_check(index, NULL), ANNEX_OK);
    for (uint32_t row = 0; row < n; row++) {
        assert_true(passes[row_of(scene, index, row)]);
    }
    options.fetch = fetch;
    options.fetch_context = &asked;
    options.effort = ANNEX_EFFORT_EXACT;
    for (size_t q = 0; q < N; q += 13) {
        const void *query = rows_at(&scene->rows, q);
        assert_int_equal(engine_search(index, query, K, &options, hits, &found, NULL), ANNEX_OK);
        assert_int_equal(found, K);
        (void)model_search(&scene->rows, query, passes, model);
        for (size_t i = 0; i < K; i++) {
            double slack = 1e-5 * (1 + fabs(model[i].distance));
            assert_true(hits[i].distance - model[i].distance <= slack);
        }
    }
}

static void check_before(const struct scene *scene)
{
    bool passes[N] = {false};
    memset(passes, true, BUILT * sizeof *passes);
    check_holds(scene, scene->before, passes, BUILT);
}

static void check_grown(const struct scene *scene)
{
    bool passes[N];
    size_t n = 0;
    for (size_t i = 0; i < N; i++) {
        passes[i] = i >= BUILT || i % EVERY != 0;
        n += passes[i];
    }
    assert_non_null(scene->grown);
    check_holds(scene, scene->grown, passes, n);
    assert_int_equal(access(test_path, F_OK), 0);
}

/* ---- tests ------------------------------------------------------------------------------------*/

static void every_kind_of_segment__holds_the_new_rows_and_not_the_old(void **state)
{
    static const struct {
        annex_metric metric;
        annex_family family;
        enum shape shape;
    } kinds[] = {
        {ANNEX_L2, ANNEX_FLAT, SHAPE_GAUSSIAN},   {ANNEX_L2, ANNEX_GRAPH, SHAPE_CLUSTERS},
        {ANNEX_COSINE, ANNEX_GRAPH, SHAPE_HEAVY}, {ANNEX_IP, ANNEX_FLAT, SHAPE_GAUSSIAN},
        {ANNEX_L1, ANNEX_GRAPH, SHAPE_GAUSSIAN},  {ANNEX_L2, ANNEX_GRAPH, SHAPE_BYTES},
        {ANNEX_L2, ANNEX_IVF, SHAPE_CLUSTERS},    {ANNEX_COSINE, ANNEX_IVF, SHAPE_GAUSSIAN},
        {ANNEX_HAMMING, ANNEX_FLAT, SHAPE_EQUAL}, {ANNEX_HAMMING, ANNEX_GRAPH, SHAPE_EQUAL},
        {ANNEX_L2, ANNEX_GRAPH, SHAPE_EQUAL},
    };
    const annex_env env = annex_env_default();
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        for (int byte_keys = 0; byte_keys < 2; byte_keys++) {
            annex_error error = {ANNEX_OK, ""};
            struct scene *scene =
                scene_new(&env, kinds[i].metric, kinds[i].family, kinds[i].shape, byte_keys);
            if (grow(scene, &error)) {
                fail_msg("%s", error.message);
            }
            check_grown(scene);
            check_before(scene);
            scene_free(scene);
        }
    }
}

static void rows_that_codes_do_not_fit__are_for_a_build(void **state)
{
    const annex_env env = annex_env_default();
    (void)state;
    for (int lossless = 0; lossless < 2; lossless++) {
        struct scene *scene =
            scene_new(&env, ANNEX_L2, ANNEX_GRAPH, lossless ? SHAPE_BYTES : SHAPE_GAUSSIAN, false);
        for (size_t i = BUILT; i < N; i++) {
            for (size_t j = 0; j < D; j++) {
                rows_vector(&scene->rows, i)[j] *= lossless ? 0.37f : 100.0f;
            }
        }
        assert_int_equal(grow(scene, NULL), ANNEX_OK);
        assert_null(scene->grown);
        assert_int_not_equal(access(test_path, F_OK), 0);
        check_before(scene);
        scene_free(scene);
    }
}

static int refuse(void *context, const char *phase, uint64_t done, uint64_t total)
{
    (void)context, (void)total;
    return strcmp(phase, "growing") == 0 && done > 0;
}

static void cancelled__leaves_nothing(void **state)
{
    annex_env env = annex_env_default();
    annex_error error = {ANNEX_OK, ""};
    env.log.progress = refuse;
    (void)state;
    struct scene *scene = scene_new(&env, ANNEX_L2, ANNEX_GRAPH, SHAPE_GAUSSIAN, false);
    assert_int_equal(grow(scene, &error), ANNEX_CANCELLED);
    assert_string_equal(error.message, "cancelled while growing");
    assert_null(scene->grown);
    assert_int_not_equal(access(test_path, F_OK), 0);
    check_before(scene);
    scene_free(scene);
}

static void every_failure(enum fault_target target)
{
    struct fault fault;
    fault_init(&fault, NULL);
    struct scene *scene = scene_new(&fault.env, ANNEX_L2, ANNEX_GRAPH, SHAPE_GAUSSIAN, true);
    uint64_t held = fault.live_bytes;
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        annex_error error = {ANNEX_OK, ""};
        fault_arm(&fault, target, n, false);
        annex_status status = grow(scene, &error);
        failed = fault.triggered;
        fault_disarm(&fault);
        if (status != ANNEX_OK) {
            assert_true(failed);
            assert_int_not_equal(error.message[0], '\0');
            assert_null(scene->grown);
            assert_int_not_equal(access(test_path, F_OK), 0);
        } else {
            check_grown(scene);
            engine_close(scene->grown);
            scene->grown = NULL;
            unlink(test_path);
        }
        assert_int_equal(fault.live_bytes, held);
    }
    check_before(scene);
    scene_free(scene);
    fault_free(&fault);
}

static void failing_memory__leaves_nothing(void **state)
{
    (void)state;
    every_failure(FAULT_MEMORY);
}

static void failing_files__leave_nothing(void **state)
{
    (void)state;
    every_failure(FAULT_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_segment__holds_the_new_rows_and_not_the_old),
        cmocka_unit_test(rows_that_codes_do_not_fit__are_for_a_build),
        cmocka_unit_test(cancelled__leaves_nothing),
        cmocka_unit_test(failing_memory__leaves_nothing),
        cmocka_unit_test(failing_files__leave_nothing),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
