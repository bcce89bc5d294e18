/*
 * test_index_faults.c - memory that runs out at any allocation, files that fail at any call, and
 * callers that cancel at any report: the right status, nothing leaked, the old file whole, and the
 * index as usable as before.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "fault.h"
#include "images.h"
#include "rows.h"

static struct rows some_rows(annex_metric metric, size_t n)
{
    return rows_make(metric, 12, n, SHAPE_CLUSTERS, 7);
}

static annex_build_options graph_options(const struct rows *rows, uint32_t threads)
{
    annex_build_options options = rows_options(rows);
    options.family = ANNEX_GRAPH;
    options.degree = 32;
    options.effort = 16;
    options.threads = threads;
    return options;
}

/* Opens the file and searches it; the number of its rows, or SIZE_MAX without a file. */
static size_t rows_of_file(const char *path, const struct rows *rows)
{
    annex_env env = annex_env_default();
    annex_index *index;
    annex_error error;
    annex_index_info info;
    annex_hit hit;
    size_t found;
    annex_status status = annex_index_open(&env, path, ANNEX_INDEX_VERIFY, &index, &error);
    if (status == ANNEX_NOT_FOUND) {
        return SIZE_MAX;
    }
    if (status || annex_index_check(index, &error)) {
        fail_msg("%s", error.message);
    }
    annex_index_describe(index, &info);
    assert_int_equal(annex_index_search(index, rows_at(rows, 0), 1, 1, NULL, &hit, &found, NULL),
                     ANNEX_OK);
    annex_index_close(index);
    return (size_t)info.rows;
}

/* Removes temporary files, which only a disk that refuses to remove them may leave behind. */
static void sweep_folder(bool allowed)
{
    DIR *folder = opendir(test_folder);
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        char path[320];
        if (strstr(entry->d_name, ".tmp-")) {
            assert_true(allowed);
            snprintf(path, sizeof path, "%s/%s", test_folder, entry->d_name);
            remove(path);
        }
    }
    closedir(folder);
}

/* ---- building --------------------------------------------------------------------------------*/

static annex_status build_with(const annex_env *env, struct rows *rows,
                               const annex_build_options *options, const char *path,
                               annex_error *error)
{
    annex_rows source = rows_source(rows);
    annex_index *index = NULL;
    annex_status status = annex_build(env, options, &source, path, &index, error);
    assert_true((status == ANNEX_OK) == (index != NULL));
    annex_index_close(index);
    return status;
}

static void build__memory_runs_out__says_so_and_leaves_nothing(void **state)
{
    (void)state;
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_COSINE, ANNEX_HAMMING};
    for (size_t m = 0; m < ARRAY_LENGTH(metrics); m++) {
        struct rows rows = some_rows(metrics[m], 4200);
        if (m > 0) {
            rows_free(&rows);
            rows = some_rows(metrics[m], 300);
            rows_make_byte_keys(&rows, 3);
        }
        annex_build_options options = graph_options(&rows, 2);
        struct fault fault;
        fault_init(&fault, NULL);
        for (uint64_t n = 1; fault_loop(&fault, FAULT_MEMORY, n, n % 2); n++) {
            annex_error error = {0};
            annex_status status = build_with(&fault.env, &rows, &options, NULL, &error);
            assert_int_equal(status, fault.triggered ? ANNEX_NOMEM : ANNEX_OK);
            assert_true(!status || error.message[0]);
        }
        fault_free(&fault);
        rows_free(&rows);
    }
}

static void build__memory_runs_out_for_a_file__old_file_stays(void **state)
{
    (void)state;
    struct rows old = some_rows(ANNEX_L2, 100), rows = some_rows(ANNEX_L2, 300);
    annex_env env = annex_env_default();
    annex_error error = {0};
    annex_build_options options = graph_options(&rows, 1);
    struct fault fault;
    fault_init(&fault, NULL);
    assert_int_equal(build_with(&env, &old, &options, test_path, &error), ANNEX_OK);
    for (uint64_t n = 1; fault_loop(&fault, FAULT_MEMORY, n, true); n++) {
        annex_status status = build_with(&fault.env, &rows, &options, test_path, &error);
        assert_int_equal(status, fault.triggered ? ANNEX_NOMEM : ANNEX_OK);
        assert_int_equal(rows_of_file(test_path, &rows), status ? 100 : 300);
    }
    fault_free(&fault);
    rows_free(&old);
    rows_free(&rows);
}

static void build__file_fails__old_file_stays(void **state)
{
    (void)state;
    struct rows old = some_rows(ANNEX_L2, 100), rows = some_rows(ANNEX_L2, 300);
    annex_env env = annex_env_default();
    annex_error error = {0};
    annex_build_options options = graph_options(&rows, 1);
    struct fault fault;
    fault_init(&fault, NULL);
    for (int forever = 0; forever < 2; forever++) {
        assert_int_equal(build_with(&env, &old, &options, test_path, &error), ANNEX_OK);
        for (uint64_t n = 1; fault_loop(&fault, FAULT_IO, n, forever); n++) {
            error = (annex_error){0};
            annex_status status = build_with(&fault.env, &rows, &options, test_path, &error);
            size_t found = rows_of_file(test_path, &rows);
            if (!fault.triggered) {
                assert_int_equal(status, ANNEX_OK);
            }
            /* Once the name was given it stays, also when that may not survive a crash. */
            bool named = strstr(error.message, "cannot sync the folder") != NULL;
            assert_int_equal(found, status == ANNEX_OK || named ? 300 : 100);
            assert_true(status == ANNEX_OK || status == ANNEX_IO || status == ANNEX_FULL);
            sweep_folder(forever);
            if (found == 300) {
                assert_int_equal(build_with(&env, &old, &options, test_path, &error), ANNEX_OK);
            }
        }
        fault_check_clean(&fault);
    }
    fault_free(&fault);
    rows_free(&old);
    rows_free(&rows);
}

/* ---- an open index ---------------------------------------------------------------------------*/

/* What one round does with the index; the environment may fail at any point. */
typedef annex_status (*operation)(annex_index *index, struct rows *rows, annex_error *error);

static annex_status do_search(annex_index *index, struct rows *rows, annex_error *error)
{
    annex_hit hits[50], *within;
    size_t found[5] = {0}, n;
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.threads = 2;
    options.effort = 20;
    TRY(annex_index_search(index, rows_at(rows, 0), 5, 10, &options, hits, found, error));
    options.effort = ANNEX_EFFORT_EXACT;
    TRY(annex_index_search(index, rows_at(rows, 0), 1, 50, &options, hits, found, error));
    assert_int_equal(found[0], 50);
    TRY(annex_index_within(index, rows_at(rows, 0), 1e9, NULL, &within, &n, error));
    annex_hits_free(index, within, n);
    return ANNEX_OK;
}

static annex_status do_insert(annex_index *index, struct rows *rows, annex_error *error)
{
    annex_batch batch = rows_batch(rows, 300, 20);
    return annex_index_insert(index, &batch, error);
}

static annex_status do_update(annex_index *index, struct rows *rows, annex_error *error)
{
    annex_batch batch = rows_batch(rows, 290, 20);
    return annex_index_update(index, &batch, error);
}

static annex_status do_delete(annex_index *index, struct rows *rows, annex_error *error)
{
    annex_batch batch = rows_batch(rows, 100, 20);
    return annex_index_delete(index, &batch, error);
}

static annex_status do_save(annex_index *index, struct rows *rows, annex_error *error)
{
    (void)rows;
    return annex_index_save(index, test_path, error);
}

static annex_status do_check(annex_index *index, struct rows *rows, annex_error *error)
{
    (void)rows;
    return annex_index_check(index, error);
}

static uint64_t live_rows(const annex_index *index)
{
    annex_index_info info;
    annex_index_describe(index, &info);
    return info.rows;
}

/* Fails the operation at every call, on a fresh index each time; then it must work. */
static void fail_everywhere(operation what, enum fault_target target, bool changed_before,
                            bool lossless)
{
    annex_env env = annex_env_default();
    struct rows rows =
        lossless ? rows_make(ANNEX_L2, 12, 400, SHAPE_BYTES, 7) : some_rows(ANNEX_L2, 400);
    annex_error error = {0};
    char path[80];
    snprintf(path, sizeof path, "%s/s.annex", test_folder);
    rows.n = 300;
    if (lossless) { /* what comes is no byte */
        for (size_t i = 290 * 12; i < 400 * 12; i++) {
            rows_vector(&rows, 0)[i] += i < 300 * 12 ? 0 : 0.5f;
        }
    }
    annex_build_options options = graph_options(&rows, 1);
    assert_int_equal(build_with(&env, &rows, &options, path, &error), ANNEX_OK);
    rows.n = 100;
    assert_int_equal(build_with(&env, &rows, &options, test_path, &error), ANNEX_OK);
    struct fault fault;
    fault_init(&fault, NULL);
    for (uint64_t n = 1;; n++) {
        annex_index *index;
        fault_disarm(&fault);
        assert_int_equal(annex_index_open(&fault.env, path, 0, &index, &error), ANNEX_OK);
        if (changed_before) {
            annex_batch batch = rows_batch(&rows, 320, 5);
            assert_int_equal(annex_index_insert(index, &batch, &error), ANNEX_OK);
        }
        uint64_t before = live_rows(index);
        fault_arm(&fault, target, n, n % 2);
        error = (annex_error){0};
        annex_status status = what(index, &rows, &error);
        bool triggered = fault.triggered;
        fault_disarm(&fault);
        if (status) {
            assert_true(triggered && error.message[0]);
            assert_int_equal(status, target == FAULT_MEMORY ? ANNEX_NOMEM : ANNEX_IO);
            assert_int_equal(live_rows(index), before);
            if (what == do_save && rows_of_file(test_path, &rows) != 100) {
                /* The name had been given already. */
                assert_int_equal(build_with(&env, &rows, &options, test_path, &error), ANNEX_OK);
            }
            assert_int_equal(what(index, &rows, &error), ANNEX_OK);
            sweep_folder(target == FAULT_IO);
        }
        assert_int_equal(annex_index_check(index, &error), ANNEX_OK);
        assert_int_equal(do_search(index, &rows, &error), ANNEX_OK);
        annex_index_close(index);
        fault_check_clean(&fault);
        if (what == do_save) {
            assert_int_equal(build_with(&env, &rows, &options, test_path, &error), ANNEX_OK);
        }
        if (!triggered) {
            break;
        }
    }
    fault_free(&fault);
    remove(path);
    rows_free(&rows);
}

static void index__memory_runs_out__is_as_before(void **state)
{
    (void)state;
    static const operation operations[] = {do_search, do_insert, do_update,
                                           do_delete, do_save,   do_check};
    for (size_t i = 0; i < ARRAY_LENGTH(operations); i++) {
        fail_everywhere(operations[i], FAULT_MEMORY, false, false);
        fail_everywhere(operations[i], FAULT_MEMORY, false, true);
    }
    fail_everywhere(do_delete, FAULT_MEMORY, true, false);
    fail_everywhere(do_save, FAULT_MEMORY, true, false);
    fail_everywhere(do_save, FAULT_MEMORY, true, true);
    fail_everywhere(do_search, FAULT_MEMORY, true, false);
}

static void index__file_fails__is_as_before(void **state)
{
    (void)state;
    fail_everywhere(do_save, FAULT_IO, false, false);
    fail_everywhere(do_save, FAULT_IO, true, true);
    fail_everywhere(do_check, FAULT_IO, false, false);
}

static void open__anything_fails__leaves_nothing(void **state)
{
    (void)state;
    annex_env env = annex_env_default();
    struct rows rows = some_rows(ANNEX_L2, 300);
    annex_build_options options = graph_options(&rows, 1);
    annex_error error = {0};
    assert_int_equal(build_with(&env, &rows, &options, test_path, &error), ANNEX_OK);
    struct fault fault;
    fault_init(&fault, NULL);
    for (int target = FAULT_MEMORY; target <= FAULT_IO; target++) {
        for (uint64_t n = 1; fault_loop(&fault, (enum fault_target)target, n, false); n++) {
            annex_index *index = (void *)&fault;
            annex_status status =
                annex_index_open(&fault.env, test_path, ANNEX_INDEX_VERIFY, &index, &error);
            assert_int_equal(status, !fault.triggered         ? ANNEX_OK
                                     : target == FAULT_MEMORY ? ANNEX_NOMEM
                                                              : ANNEX_IO);
            assert_true((status == ANNEX_OK) == (index != NULL));
            annex_index_close(index);
        }
        fault_check_clean(&fault);
    }
    fault_free(&fault);
    rows_free(&rows);
}

/* ---- cancelling ------------------------------------------------------------------------------*/

static uint64_t reports, stop_at;
static pthread_t caller;

static int count_reports(void *context, const char *phase, uint64_t done, uint64_t total)
{
    (void)context;
    (void)phase;
    assert_true(total == 0 || done <= total);
    assert_true(pthread_equal(pthread_self(), caller));
    return ++reports == stop_at;
}

static void cancel__at_any_report__leaves_nothing(void **state)
{
    (void)state;
    struct rows old = some_rows(ANNEX_L2, 100), rows = some_rows(ANNEX_L2, 4200);
    annex_build_options options = graph_options(&rows, 2);
    annex_error error = {0};
    struct fault fault;
    fault_init(&fault, NULL);
    rows.batch = 1000;
    caller = pthread_self();
    assert_int_equal(build_with(&fault.env, &old, &options, test_path, &error), ANNEX_OK);
    fault.env.log.progress = count_reports;
    for (stop_at = 1;; stop_at++) {
        reports = 0;
        annex_status status = build_with(&fault.env, &rows, &options, test_path, &error);
        fault_check_clean(&fault);
        sweep_folder(false);
        if (status == ANNEX_OK) {
            assert_true(reports < stop_at);
            break;
        }
        assert_int_equal(status, ANNEX_CANCELLED);
        assert_int_equal(rows_of_file(test_path, &rows), 100);
    }
    assert_true(stop_at > 6); /* reading, coding, linking, writing … */
    annex_index *index;
    stop_at = UINT64_MAX;
    assert_int_equal(annex_index_open(&fault.env, test_path, 0, &index, &error), ANNEX_OK);
    reports = 0;
    stop_at = 1;
    annex_hit hits[10];
    size_t found = 4;
    annex_search_options search = ANNEX_SEARCH_OPTIONS_INIT;
    search.effort = ANNEX_EFFORT_EXACT;
    assert_int_equal(
        annex_index_search(index, rows_at(&rows, 0), 1, 10, &search, hits, &found, &error),
        ANNEX_CANCELLED);
    assert_int_equal(found, 0);
    assert_int_equal(
        annex_index_search(index, rows_at(&rows, 0), 1, 10, &search, hits, &found, &error),
        ANNEX_OK);
    assert_int_equal(found, 10);
    size_t each[40]; /* from one thread of several */
    annex_hit *many = calloc(40 * 10, sizeof *many);
    search.threads = 4;
    assert_int_equal(
        annex_index_search(index, rows_at(&rows, 0), 40, 10, &search, many, each, &error),
        ANNEX_OK);
    free(many);
    annex_index_close(index);
    fault_free(&fault);
    rows_free(&old);
    rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(build__memory_runs_out__says_so_and_leaves_nothing),
        cmocka_unit_test(build__memory_runs_out_for_a_file__old_file_stays),
        cmocka_unit_test(build__file_fails__old_file_stays),
        cmocka_unit_test(index__memory_runs_out__is_as_before),
        cmocka_unit_test(index__file_fails__is_as_before),
        cmocka_unit_test(open__anything_fails__leaves_nothing),
        cmocka_unit_test(cancel__at_any_report__leaves_nothing),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
