/*
 * test_seed.c - near rows from partitions: leaves cover all rows whatever their shape, lists hold
 * true distances and most of the nearest rows, and neither depends on threads or processors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "build/partition.h"
#include "build/seed.h"
#include "rows.h"

/* Rows as codes. */
struct coded {
    annex_env env;
    struct codec codec;
    float *center;
    uint8_t *codes;
    uint32_t *ids; /* every row but each seventh, descending */
    uint32_t n, n_ids;
};

static struct coded code_rows(annex_metric metric, annex_codes codes, uint32_t n, enum shape shape)
{
    struct rows rows = rows_make(metric, 24, n, shape, n);
    struct coded c = {.env = annex_env_default(), .n = n};
    struct codec_survey survey;
    float lost, work[24];
    assert_int_equal(codec_survey_new(&c.env, rows.dimension, &survey, NULL), ANNEX_OK);
    for (uint32_t i = 0; i < n && !codec_is_bits(metric); i++) {
        codec_survey_add(&survey, rows.dimension, rows_at(&rows, i));
    }
    c.center = calloc(rows.dimension, sizeof *c.center);
    struct codec_form form = {.metric = metric, .dimension = rows.dimension, .codes = codes};
    codec_choose(&c.codec, &form, &survey, c.center);
    codec_survey_free(&c.env, rows.dimension, &survey);
    assert_int_equal(memory_new(&c.env, n, c.codec.row_bytes, &c.codes, NULL), ANNEX_OK);
    c.ids = calloc(n, sizeof *c.ids);
    for (uint32_t i = 0; i < n; i++) {
        codec_encode(&c.codec, rows_at(&rows, i), c.codes + (size_t)i * c.codec.row_bytes, work,
                     &lost);
        if (i % 7) {
            c.ids[n - 1 - c.n_ids] = i;
            c.n_ids++;
        }
    }
    memmove(c.ids, c.ids + n - c.n_ids, c.n_ids * sizeof *c.ids);
    rows_free(&rows);
    return c;
}

static void free_coded(struct coded *c)
{
    memory_free(&c->env, c->codes, c->n, c->codec.row_bytes);
    free(c->center);
    free(c->ids);
}

/* ---- partitions ------------------------------------------------------------------------------*/

static void partition__rows_of_any_shape__leaves_hold_each_row_once(void **state)
{
    (void)state;
    static const enum shape shapes[] = {SHAPE_GAUSSIAN, SHAPE_CLUSTERS, SHAPE_HEAVY,
                                        SHAPE_ONE_HOT,  SHAPE_EQUAL,    SHAPE_SORTED};
    static const uint32_t sizes[] = {8, 40, 300, 6000};
    for (size_t s = 0; s < ARRAY_LENGTH(shapes) * ARRAY_LENGTH(sizes); s++) {
        struct coded c = code_rows(ANNEX_L2, ANNEX_CODES_Q8, sizes[s % ARRAY_LENGTH(sizes)],
                                   shapes[s / ARRAY_LENGTH(sizes)]);
        struct partition partition = {.env = &c.env,
                                      .codec = &c.codec,
                                      .rows = c.codes,
                                      .threads = 2,
                                      .leaf_rows = 40,
                                      .random = s,
                                      .capacity = c.n_ids};
        struct progress progress;
        bool *met = calloc(c.n, sizeof *met);
        uint32_t rows, all = 0;
        assert_int_equal(progress_begin(&progress, &c.env, "testing", 1, NULL), ANNEX_OK);
        assert_int_equal(partition_new(&partition, NULL), ANNEX_OK);
        assert_int_equal(partition_make(&partition, c.ids, c.n_ids, &progress, NULL), ANNEX_OK);
        for (size_t i = 0; i < partition.n_parts; i++) {
            const uint32_t *leaf = partition_leaf(&partition, i, &rows);
            assert_in_range(rows, 1, 40);
            for (uint32_t j = 0; j < rows; j++, all++) {
                assert_true(leaf[j] % 7 != 0 && !met[leaf[j]]);
                met[leaf[j]] = true;
            }
        }
        assert_int_equal(all, c.n_ids);
        free(met);
        partition_free(&partition);
        free_coded(&c);
    }
}

/* ---- seeds -----------------------------------------------------------------------------------*/

enum { KEEP = 16 };

static walk_item *find_seeds(const struct coded *c, unsigned threads, const struct kernels *kernels,
                             const uint64_t *known)
{
    struct codec codec = c->codec;
    codec.kernels = kernels;
    struct seed_options options = {.codec = &codec,
                                   .rows = c->codes,
                                   .threads = threads,
                                   .rounds = 6,
                                   .keep = KEEP,
                                   .random = 3};
    struct progress progress;
    size_t bytes = (size_t)c->n * KEEP * sizeof(walk_item);
    walk_item *lists = malloc(bytes);
    memset(lists, 0xff, bytes);
    assert_int_equal(progress_begin(&progress, &c->env, "testing", 100, NULL), ANNEX_OK);
    assert_int_equal(
        seed_rows(&c->env, &options, c->ids, c->n_ids, known, lists, &progress, 100, NULL),
        ANNEX_OK);
    assert_int_equal(progress.done, 100);
    return lists;
}

/* The share of the KEEP nearest rows of some that their lists have; checks the lists, too. */
static double check_lists(const struct coded *c, const walk_item *lists)
{
    struct query query;
    void *memory = aligned_alloc(64, round_up(codec_query_bytes(&c->codec), 64));
    float *scores = calloc(c->n, sizeof *scores);
    size_t hits = 0, all = 0;
    codec_query_init(&c->codec, &query, memory);
    for (uint32_t i = 0; i < c->n_ids; i += 50) {
        const walk_item *list = lists + (size_t)c->ids[i] * KEEP;
        codec_query_set_row(&query, c->codes + (size_t)c->ids[i] * c->codec.row_bytes);
        codec_score(&query, c->codes, NULL, c->n, scores);
        for (uint32_t j = 0; j < KEEP; j++, all++) {
            assert_true(list[j] != SEED_NONE && (j == 0 || list[j] > list[j - 1]));
            assert_true(walk_id(list[j]) % 7 != 0 && walk_id(list[j]) != c->ids[i]);
            assert_true(walk_score(list[j]) == scores[walk_id(list[j])]);
            uint32_t nearer = 0;
            for (uint32_t row = 0; row < c->n; row++) {
                nearer += row % 7 && row != c->ids[i] && scores[row] < walk_score(list[j]);
            }
            hits += nearer < KEEP;
        }
    }
    free(scores);
    free(memory);
    return (double)hits / (double)all;
}

static void seeds__every_metric_and_code__are_most_of_the_nearest_rows(void **state)
{
    (void)state;
    static const struct {
        annex_metric metric;
        annex_codes codes;
    } kinds[] = {{ANNEX_L2, ANNEX_CODES_Q8},
                 {ANNEX_IP, ANNEX_CODES_Q8},
                 {ANNEX_L1, ANNEX_CODES_Q8},
                 {ANNEX_L2, ANNEX_CODES_Q4},
                 {ANNEX_L2, ANNEX_CODES_F16}};
    for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++) {
        struct coded c = code_rows(kinds[i].metric, kinds[i].codes, 5000, SHAPE_CLUSTERS);
        uint64_t *known = calloc(bitmap_words(c.n), 8);
        walk_item *lists = find_seeds(&c, 2, c.codec.kernels, known);
        assert_true(check_lists(&c, lists) > 0.9);
        free(lists);
        free(known);
        free_coded(&c);
    }
}

static void seeds__rows_that_are_known__get_no_list_but_are_in_others(void **state)
{
    (void)state;
    struct coded c = code_rows(ANNEX_L2, ANNEX_CODES_Q8, 3000, SHAPE_CLUSTERS);
    uint64_t *known = calloc(bitmap_words(c.n), 8);
    size_t met = 0;
    for (uint32_t row = 0; row < c.n; row += 2) {
        bitmap_set(known, row);
    }
    walk_item *lists = find_seeds(&c, 1, c.codec.kernels, known);
    for (uint32_t row = 0; row < c.n; row++) {
        for (uint32_t j = 0; j < KEEP; j++) {
            walk_item item = lists[(size_t)row * KEEP + j];
            assert_true((item == SEED_NONE) == (row % 7 == 0 || row % 2 == 0));
            met += item != SEED_NONE && walk_id(item) % 2 == 0;
        }
    }
    assert_true(met > c.n);
    free(lists);
    free(known);
    free_coded(&c);
}

static void seeds__threads_and_processors__give_the_same_lists(void **state)
{
    (void)state;
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_IP, ANNEX_L1};
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct coded c = code_rows(metrics[m], ANNEX_CODES_Q8, 3000, SHAPE_HEAVY);
        uint64_t *known = calloc(bitmap_words(c.n), 8);
        walk_item *first = find_seeds(&c, 1, &kernels_ref, known);
        for (size_t i = 0; kernel_available(i); i++) {
            walk_item *again = find_seeds(&c, 3, kernel_available(i), known);
            assert_memory_equal(first, again, (size_t)c.n * KEEP * sizeof *first);
            free(again);
        }
        free(first);
        free(known);
        free_coded(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partition__rows_of_any_shape__leaves_hold_each_row_once),
        cmocka_unit_test(seeds__every_metric_and_code__are_most_of_the_nearest_rows),
        cmocka_unit_test(seeds__rows_that_are_known__get_no_list_but_are_in_others),
        cmocka_unit_test(seeds__threads_and_processors__give_the_same_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
