/*
 * test_filters.c - searches of a graph with filters that let many or few rows pass, wherever they
 * are: what part of the true neighbours is found, how many rows, and after how much work.
 */
#include <float.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "rows.h"

enum { ROWS = 16000, QUERIES = 12, DIMENSION = 64, K = 10, K_MAX = 100 };

enum place {
    RANDOM,
    NEAR, /* the rows nearest to the query */
    FAR,  /* the farthest */
    AWAY, /* the rows nearest to one of the farther half */
    PLACES
};

static const char *const place_names[PLACES] = {"random", "near", "far", "away"};
static const double shares[] = {1, 0.5, 0.3, 0.1, 0.01, 0.001, 0.0001};

/* An index, and which of its rows pass. Keys are the numbers of rows in the source. */
struct world {
    struct rows rows, queries;
    annex_index *index;
    annex_index_info info;
    uint32_t *slot_of; /* [rows] */
    bool *passes;      /* [rows] by key */
    uint64_t *allowed; /* bitmap of slots */
    size_t n_passing;
    struct model_hit *model; /* [rows] */
    size_t calls;            /* of pass_by_key */
};

/* ---- the world --------------------------------------------------------------------------------*/

static struct world world_of(struct rows rows)
{
    struct world world = {.rows = rows};
    world.queries = rows_make(rows.metric, rows.dimension, QUERIES, SHAPE_GAUSSIAN, 1);
    world.rows.n -= QUERIES; /* of the same kind: the last ones */
    memcpy(world.queries.vectors, rows_at(&rows, world.rows.n), QUERIES * rows.vector_bytes);
    annex_build_options build = rows_options(&world.rows);
    build.family = ANNEX_GRAPH;
    world.index = rows_build(&world.rows, &build);
    annex_index_describe(world.index, &world.info);
    world.slot_of = calloc(world.rows.n, sizeof *world.slot_of);
    world.passes = calloc(world.rows.n, sizeof *world.passes);
    world.allowed = calloc(bitmap_words(world.info.slots), sizeof *world.allowed);
    world.model = calloc(world.rows.n, sizeof *world.model);
    for (uint32_t slot = 0; slot < world.info.slots; slot++) {
        int64_t key;
        assert_int_equal(annex_index_key(world.index, slot, &key, NULL), ANNEX_OK);
        world.slot_of[key] = slot;
    }
    return world;
}

static void world_free(struct world *world)
{
    annex_index_close(world->index);
    rows_free(&world->rows);
    rows_free(&world->queries);
    free(world->slot_of);
    free(world->passes);
    free(world->allowed);
    free(world->model);
}

static void let_pass(struct world *world, size_t row)
{
    world->n_passing += !world->passes[row];
    world->passes[row] = true;
    bitmap_set(world->allowed, world->slot_of[row]);
}

static void let_none_pass(struct world *world)
{
    memset(world->passes, 0, world->rows.n * sizeof *world->passes);
    memset(world->allowed, 0, bitmap_words(world->info.slots) * sizeof *world->allowed);
    world->n_passing = 0;
}

static void filter_place(struct world *world, size_t q, double share, enum place place)
{
    uint64_t random = q + 7;
    size_t n = world->rows.n, m = (size_t)((double)n * share + 0.5);
    let_none_pass(world);
    model_search(&world->rows, rows_at(&world->queries, q), NULL, world->model);
    if (place == AWAY) {
        size_t other = world->model[n / 2 + rows_random(&random) % (n / 2)].row;
        model_search(&world->rows, rows_at(&world->rows, other), NULL, world->model);
    }
    for (size_t i = 0; i < n; i++) {
        bool passes = place == RANDOM ? rows_uniform(&random) < share
                      : place == FAR  ? i >= n - m
                                      : i < m;
        if (passes) {
            let_pass(world, place == RANDOM ? i : world->model[i].row);
        }
    }
}

static int pass_by_key(void *context, uint32_t row, int64_t key)
{
    struct world *world = context;
    assert_int_equal(world->slot_of[key], row);
    world->calls++;
    return world->passes[key];
}

/* How many of the hits are true neighbours among the passing rows; there must be min(k, passing).
 */
static size_t count_right(struct world *world, size_t q, size_t k,
                          const annex_search_options *options, size_t *expected)
{
    annex_hit hits[K_MAX];
    size_t found, right = 0;
    const void *query = rows_at(&world->queries, q);
    size_t n = model_search(&world->rows, query, world->passes, world->model);
    assert_int_equal(annex_index_search(world->index, query, 1, k, options, hits, &found, NULL),
                     ANNEX_OK);
    *expected = MIN(n, k);
    assert_int_equal(found, *expected);
    for (size_t i = 0; i < found; i++) {
        double limit = world->model[found - 1].distance;
        assert_true(world->passes[hits[i].key]);
        right += hits[i].distance <= limit + 1e-5 * fabs(limit);
    }
    return right;
}

/* ---- every share and place --------------------------------------------------------------------*/

static void check_cell(struct world *world, double share, enum place place, bool by_function)
{
    size_t right = 0, wanted = 0;
    uint64_t work = 0, allowed_work = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        annex_search_stats stats = {0};
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        size_t expected;
        annex_hit hits[K];
        options.stats = &stats;
        assert_int_equal(annex_index_search(world->index, rows_at(&world->queries, q), 1, K,
                                            &options, hits, &expected, NULL),
                         ANNEX_OK);
        uint64_t unfiltered = stats.distances;
        filter_place(world, q, share, place);
        options.allowed = by_function ? NULL : world->allowed;
        options.accept = by_function ? pass_by_key : NULL;
        options.accept_context = world;
        right += count_right(world, q, K, &options, &expected);
        wanted += expected;
        work += stats.distances;
        allowed_work += MAX(4 * unfiltered, world->n_passing + world->n_passing / 4);
    }
    if ((double)right < 0.95 * (double)wanted) {
        fail_msg("%g of the rows, %s: recall %.3f", share, place_names[place],
                 (double)right / (double)wanted);
    }
    if (!by_function && work > allowed_work) {
        fail_msg("%g of the rows, %s: %lu distances, at most %lu expected", share,
                 place_names[place], (unsigned long)work, (unsigned long)allowed_work);
    }
}

static void
filter__any_share_anywhere__finds_the_nearest_without_more_work_than_a_scan(void **state)
{
    for (size_t s = 0; s < ARRAY_LENGTH(shares); s++) {
        for (enum place place = RANDOM; place < PLACES; place++) {
            check_cell(*state, shares[s], place, false);
        }
    }
}

static void filter__by_a_function__finds_the_same(void **state)
{
    static const double some[] = {0.5, 0.1, 0.001};
    for (size_t s = 0; s < ARRAY_LENGTH(some); s++) {
        for (enum place place = RANDOM; place < FAR; place++) {
            check_cell(*state, some[s], place, true);
        }
    }
}

static void filter__of_a_third__walks_instead_of_scanning(void **state)
{
    struct world *world = *state;
    for (enum place place = RANDOM; place < FAR; place++) {
        uint64_t distances = 0, passing = 0;
        for (size_t q = 0; q < QUERIES; q++) {
            annex_search_stats stats;
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            size_t expected;
            filter_place(world, q, 0.3, place);
            options.stats = &stats;
            options.allowed = world->allowed;
            (void)count_right(world, q, K, &options, &expected);
            assert_true(stats.hops > 0);
            distances += stats.distances;
            passing += world->n_passing;
        }
        assert_true(distances < passing / 2);
    }
}

/* ---- few rows, and all but few ----------------------------------------------------------------*/

static void filter__nothing_one_row_or_fewer_than_k_pass__all_of_them_come(void **state)
{
    struct world *world = *state;
    static const size_t counts[] = {0, 1, 2, K - 1, K, K + 1};
    for (size_t c = 0; c < ARRAY_LENGTH(counts); c++) {
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        size_t expected;
        let_none_pass(world);
        for (size_t i = 0; i < counts[c]; i++) {
            let_pass(world, i * 997 % world->rows.n);
        }
        options.allowed = world->allowed;
        size_t right = count_right(world, c, K, &options, &expected);
        assert_int_equal(right, expected);
        options.accept = pass_by_key;
        options.accept_context = world;
        right = count_right(world, c, K, &options, &expected);
        assert_int_equal(right, expected);
    }
}

/* The nearest rows are out: those behind them come, and a small hole needs no scan. */
static void filter__leaves_a_hole_around_the_query__rows_behind_it_are_found(void **state)
{
    struct world *world = *state;
    static const size_t holes[] = {1, 10, 60};
    for (size_t h = 0; h < ARRAY_LENGTH(holes); h++) {
        size_t right = 0, wanted = 0;
        for (size_t q = 0; q < QUERIES; q++) {
            annex_search_stats stats;
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            size_t expected;
            filter_place(world, q, 1, FAR);
            for (size_t i = 0; i < holes[h]; i++) {
                world->passes[world->model[i].row] = false;
                bitmap_clear(world->allowed, world->slot_of[world->model[i].row]);
            }
            options.allowed = world->allowed;
            options.stats = &stats;
            right += count_right(world, q, K, &options, &expected);
            wanted += expected;
            assert_true(holes[h] > K || stats.distances < ROWS / 4);
        }
        assert_true((double)right >= 0.95 * (double)wanted);
    }
}

/*
 * A walk that ends early has seen rows beyond the hole, where it started: they are the rim of what
 * it saw, not the nearest that pass.
 */
static void filter__fifth_around_the_query_fails__rows_at_the_rim_are_not_the_answer(void **state)
{
    struct world *world = *state;
    static const uint32_t efforts[] = {48, 60, 72};
    static const double most[] = {0.75, 0.8, 0.85};
    size_t right = 0, wanted = 0, expected;
    for (size_t cell = 0; cell < ARRAY_LENGTH(efforts) * ARRAY_LENGTH(most); cell++) {
        for (size_t q = 0; q < QUERIES; q++) {
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            filter_place(world, q, most[cell % ARRAY_LENGTH(most)], FAR);
            options.allowed = world->allowed;
            options.effort = efforts[cell / ARRAY_LENGTH(most)];
            right += count_right(world, q, K, &options, &expected);
            wanted += expected;
        }
    }
    if (right < wanted) {
        fail_msg("%zu of %zu found", right, wanted);
    }
}

/* ---- together with other options --------------------------------------------------------------*/

static void filter__with_large_k_or_a_recall__finds_as_much(void **state)
{
    struct world *world = *state;
    for (int with_k = 0; with_k < 2; with_k++) {
        size_t right = 0, wanted = 0, k = with_k ? K_MAX : K;
        for (size_t q = 0; q < QUERIES; q++) {
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            size_t expected;
            filter_place(world, q, 0.25, RANDOM);
            options.allowed = world->allowed;
            options.recall = with_k ? 0 : 0.99;
            right += count_right(world, q, k, &options, &expected);
            wanted += expected;
        }
        assert_true((double)right >= (with_k ? 0.95 : 0.98) * (double)wanted);
    }
}

static void filter__with_max_scan__is_cut_there(void **state)
{
    struct world *world = *state;
    static const uint64_t limits[] = {1, 50, 300, 700};
    for (size_t i = 0; i < ARRAY_LENGTH(limits); i++) {
        annex_search_stats stats;
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        annex_hit hits[K];
        size_t found;
        filter_place(world, i, 0.25, RANDOM);
        options.allowed = world->allowed;
        options.stats = &stats;
        options.max_scan = limits[i];
        assert_int_equal(annex_index_search(world->index, rows_at(&world->queries, i), 1, K,
                                            &options, hits, &found, NULL),
                         ANNEX_OK);
        assert_true(stats.distances <= limits[i] && found <= K);
        for (size_t h = 0; h < found; h++) {
            assert_true(world->passes[hits[h].key]);
        }
    }
}

/* ---- other indexes ----------------------------------------------------------------------------*/

static void filter__rows_deleted__are_not_found_and_others_are(void **state)
{
    (void)state;
    struct world world =
        world_of(rows_make(ANNEX_COSINE, DIMENSION, 5000 + QUERIES, SHAPE_CLUSTERS, 3));
    size_t right = 0, wanted = 0;
    for (size_t i = 0; i < world.rows.n; i += 3) {
        annex_batch batch = rows_batch(&world.rows, i, 1);
        assert_int_equal(annex_index_delete(world.index, &batch, NULL), ANNEX_OK);
    }
    for (size_t q = 0; q < QUERIES; q++) {
        annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
        size_t expected;
        filter_place(&world, q, q % 2 ? 0.6 : 0.05, q % 4 < 2 ? RANDOM : NEAR);
        for (size_t i = 0; i < world.rows.n; i += 3) {
            world.passes[i] = false; /* the bitmap still has it */
        }
        options.allowed = world.allowed;
        right += count_right(&world, q, K, &options, &expected);
        wanted += expected;
    }
    assert_true((double)right >= 0.95 * (double)wanted);
    world_free(&world);
}

/* Rows of one code are in the graph as one: it leads to each that passes, and to no other. */
static void filter__one_of_equal_rows_passes__is_found_alone(void **state)
{
    (void)state;
    struct rows rows = rows_make(ANNEX_L2, DIMENSION, 8000 + QUERIES, SHAPE_CLUSTERS, 4);
    for (size_t i = 0; i < 8000; i++) {
        memmove(rows_vector(&rows, i), rows_at(&rows, i / 5 * 5), rows.vector_bytes);
    }
    struct world world = world_of(rows);
    for (int label = 0; label < 3; label++) { /* one of five, two of five, one of a few fives */
        size_t right = 0, wanted = 0;
        for (size_t q = 0; q < QUERIES; q++) {
            annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
            size_t expected;
            let_none_pass(&world);
            for (size_t i = 0; i < world.rows.n; i++) {
                size_t member = (i / 5 * 3 + q) % 5;
                bool few = label < 2 || i / 5 % 10 == 0;
                if (few && (i % 5 == member || (label == 1 && i % 5 == (member + 1) % 5))) {
                    let_pass(&world, i);
                }
            }
            options.allowed = world.allowed;
            right += count_right(&world, q, K, &options, &expected);
            wanted += expected;
        }
        assert_true((double)right >= 0.95 * (double)wanted);
    }
    world_free(&world);
}

static int make_world(void **state)
{
    static struct world world;
    world = world_of(rows_make(ANNEX_L2, DIMENSION, ROWS + QUERIES, SHAPE_CLUSTERS, 2));
    *state = &world;
    return 0;
}

static int drop_world(void **state)
{
    world_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            filter__any_share_anywhere__finds_the_nearest_without_more_work_than_a_scan),
        cmocka_unit_test(filter__by_a_function__finds_the_same),
        cmocka_unit_test(filter__of_a_third__walks_instead_of_scanning),
        cmocka_unit_test(filter__nothing_one_row_or_fewer_than_k_pass__all_of_them_come),
        cmocka_unit_test(filter__leaves_a_hole_around_the_query__rows_behind_it_are_found),
        cmocka_unit_test(filter__fifth_around_the_query_fails__rows_at_the_rim_are_not_the_answer),
        cmocka_unit_test(filter__with_large_k_or_a_recall__finds_as_much),
        cmocka_unit_test(filter__with_max_scan__is_cut_there),
        cmocka_unit_test(filter__rows_deleted__are_not_found_and_others_are),
        cmocka_unit_test(filter__one_of_equal_rows_passes__is_found_alone),
    };
    return cmocka_run_group_tests(tests, make_world, drop_world);
}
