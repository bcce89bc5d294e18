/*
 * test_build_memory.c - how much memory a build takes: counted, so that it is the same everywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "fault.h"
#include "rows.h"

/* What a build into a file took at most; 0 when it was refused for its limit. */
static uint64_t peak_of(struct rows *rows, const annex_build_options *options, uint64_t *file_bytes)
{
    char folder[] = "/tmp/annex-memory-XXXXXX", path[64];
    struct fault fault;
    annex_rows source = rows_source(rows);
    annex_index *index = NULL;
    annex_error error = {0};
    annex_index_info info = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/i.annex", folder);
    fault_init(&fault, NULL);
    annex_status status = annex_build(&fault.env, options, &source, path, &index, &error);
    uint64_t peak = fault.peak_bytes;
    if (index) {
        annex_index_describe(index, &info);
        unlink(path);
    }
    rmdir(folder);
    annex_index_close(index);
    fault_free(&fault);
    if (status && !(status == ANNEX_NOMEM && options->max_memory_bytes)) {
        fail_msg("%s", error.message);
    }
    *file_bytes = info.bytes;
    return status ? 0 : peak;
}

static void build__graph__takes_little_more_than_its_file(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint32_t n, dimension, degree, effort;
        enum shape shape;
    } builds[] = {
        {"default", 20000, 128, 0, 0, SHAPE_CLUSTERS},
        {"quick", 20000, 128, 32, 16, SHAPE_CLUSTERS},
        {"wide", 12000, 512, 8, 8, SHAPE_CLUSTERS}, /* most of it codes */
    };
    for (size_t i = 0; i < ARRAY_LENGTH(builds); i++) {
        struct rows rows =
            rows_make(ANNEX_L2, builds[i].dimension, builds[i].n, builds[i].shape, 1);
        annex_build_options options = rows_options(&rows);
        uint64_t file;
        options.family = ANNEX_GRAPH;
        options.raw = ANNEX_RAW_NONE;
        options.degree = builds[i].degree;
        options.effort = builds[i].effort;
        uint64_t peak = peak_of(&rows, &options, &file);
        if ((double)peak > 1.35 * (double)file) {
            fail_msg("%s: %zu bytes for a file of %zu", builds[i].what, (size_t)peak, (size_t)file);
        }
        rows_free(&rows);
    }
}

/*
 * Raises the limit until it is enough. Without what it leaves for things that do not grow with the
 * rows, it has to hold what was taken, and must not be far more.
 */
static void check_limit(struct rows *rows, annex_build_options options)
{
    enum { CONSTANT = 15 << 20, STEP = 128 << 10 };
    uint64_t peak = 0, file;
    for (uint64_t limit = CONSTANT; !peak; limit += STEP) {
        options.max_memory_bytes = limit;
        peak = peak_of(rows, &options, &file);
        uint64_t most = limit - CONSTANT;
        if (peak && (peak > most || most > 2 * peak)) {
            fail_msg("%s: %zu bytes were taken, and %zu allowed", annex_family_name(options.family),
                     (size_t)peak, (size_t)most);
        }
    }
}

static void build__least_limit_that_is_accepted__is_kept(void **state)
{
    (void)state;
    for (int family = ANNEX_FLAT; family <= ANNEX_IVF; family++) {
        for (int bytes = 0; bytes < 2; bytes++) {
            struct rows rows = rows_make(ANNEX_COSINE, 8, 20000, SHAPE_CLUSTERS, 1);
            annex_build_options options = rows_options(&rows);
            if (bytes) {
                rows_make_byte_keys(&rows, 1);
                options.key_kind = ANNEX_KEY_BYTES;
            }
            options.family = (annex_family)family;
            options.codes = ANNEX_CODES_Q8;
            options.degree = options.effort = 8;
            check_limit(&rows, options);
            rows_free(&rows);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(build__graph__takes_little_more_than_its_file),
        cmocka_unit_test(build__least_limit_that_is_accepted__is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
