/*
 * test_file_write.c - files of vectors are written as other programs expect them, read back the
 * same in bounded memory, and are complete or absent after a failure.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "fault.h"
#include "vector_files.h"

/* ---- Many rows ----------- --------------------------------------------------------------------*/

struct counting_rows {
    uint32_t dimension;
    uint64_t rows;
    uint64_t next;
    float *block;
};

enum { COUNTING_BLOCK = 1000 };

/* Row r holds r * dimension, r * dimension + 1 … modulo 127. */
static annex_status counting_next(void *context, annex_batch *batch, annex_error *error)
{
    struct counting_rows *source = context;

    (void)error;
    *batch = (annex_batch){.vectors = source->block};
    for (; batch->n < COUNTING_BLOCK && source->next < source->rows; batch->n++, source->next++) {
        for (uint32_t i = 0; i < source->dimension; i++) {
            source->block[batch->n * source->dimension + i] =
                (float)((source->next * source->dimension + i) % 127);
        }
    }
    return ANNEX_OK;
}

static annex_status counting_rewind(void *context, annex_error *error)
{
    (void)error;
    ((struct counting_rows *)context)->next = 0;
    return ANNEX_OK;
}

static annex_status write_counting(const annex_env *env, const char *path, uint64_t rows,
                                   uint32_t dimension, annex_format format, annex_error *error)
{
    struct counting_rows source = {.dimension = dimension, .rows = rows, .next = 5};
    annex_rows view = {&source, counting_next, counting_rewind};
    annex_status status;

    source.block = malloc((size_t)COUNTING_BLOCK * dimension * sizeof(float));
    assert_non_null(source.block);
    status = annex_vectors_write(env, path, &view, dimension, format, error);
    free(source.block);
    return status;
}

static void write_and_read__many_rows__stay_the_same_in_bounded_memory(void **state)
{
    static const struct {
        const char *name;
        annex_format format;
    } cases[] = {
        {"big.npy", ANNEX_FORMAT_AUTO}, {"big.npy", ANNEX_F16},  {"big.npy", ANNEX_F64},
        {"big.npy", ANNEX_I8},          {"big.npy", ANNEX_U8},   {"big.fvecs", ANNEX_F32},
        {"big.bvecs", ANNEX_U8},        {"big.fbin", ANNEX_F32}, {"big.u8bin", ANNEX_FORMAT_AUTO},
        {"big.i8bin", ANNEX_I8},
    };
    enum { ROWS = 20011, DIMENSION = 67 };

    (void)state;
    for (size_t c = 0; c < ARRAY_LENGTH(cases); c++) {
        struct fault fault;
        annex_reader *reader;
        annex_rows rows;
        annex_batch batch;
        uint64_t next = 0;

        fault_init(&fault, NULL);
        assert_int_equal(write_counting(&fault.env, files_path(cases[c].name), ROWS, DIMENSION,
                                        cases[c].format, NULL),
                         ANNEX_OK);
        assert_int_equal(
            annex_reader_open(&fault.env, files_path(cases[c].name), NULL, &reader, NULL),
            ANNEX_OK);
        rows = annex_reader_rows(reader);
        for (;;) {
            assert_int_equal(rows.next(rows.context, &batch, NULL), ANNEX_OK);
            if (batch.n == 0) {
                break;
            }
            for (size_t i = 0; i < batch.n * DIMENSION; i++) {
                assert_true(((const float *)batch.vectors)[i] ==
                            (float)((next * DIMENSION + i) % 127));
            }
            next += batch.n;
        }
        assert_int_equal(next, ROWS);
        annex_reader_close(reader);
        assert_in_range(fault.peak_bytes, 1, 16 << 20);
        fault_free(&fault);
        remove(files_path(cases[c].name));
    }
}

/* ---- Writing ----------------------------------------------------------------------------------*/

static annex_status one_batch_next(void *context, annex_batch *batch, annex_error *error)
{
    annex_batch *only = context;

    (void)error;
    *batch = *only;
    only->n = 0;
    return ANNEX_OK;
}

static annex_status no_rewind(void *context, annex_error *error)
{
    (void)context;
    (void)error;
    return ANNEX_OK;
}

static annex_status write_vectors(const char *name, const float *vectors, size_t n,
                                  uint32_t dimension, annex_format format, annex_error *error)
{
    annex_env env = annex_env_default();
    annex_batch batch = {.n = n, .vectors = vectors};
    annex_rows rows = {&batch, one_batch_next, no_rewind};

    return annex_vectors_write(&env, files_path(name), &rows, dimension, format, error);
}

static void write__npy__is_what_numpy_writes(void **state)
{
    char expected[128 + sizeof files_six];
    char found[sizeof expected + 1];
    FILE *file;

    (void)state;
    memset(expected, ' ', sizeof expected);
    memcpy(expected, "\x93NUMPY\1\0\x76\0", 10);
    memcpy(expected + 10, NPY_HEADER("<f4", "(2, 3)"), strlen(NPY_HEADER("<f4", "(2, 3)")));
    expected[127] = '\n';
    memcpy(expected + 128, files_six, sizeof files_six);
    assert_int_equal(write_vectors("a.npy", files_six, 2, 3, ANNEX_F32, NULL), ANNEX_OK);
    file = fopen(files_path("a.npy"), "rb");
    assert_non_null(file);
    assert_int_equal(fread(found, 1, sizeof found, file), sizeof expected);
    fclose(file);
    assert_memory_equal(found, expected, sizeof expected);
}

static void write__no_rows__read_back_as_none(void **state)
{
    (void)state;
    assert_int_equal(write_vectors("a.npy", NULL, 0, 3, ANNEX_I8, NULL), ANNEX_OK);
    files_assert_rows("a.npy", "npy", ANNEX_I8, files_six, 0, 3);
    assert_int_equal(write_vectors("a.u8bin", NULL, 0, 3, ANNEX_U8, NULL), ANNEX_OK);
    files_assert_rows("a.u8bin", "u8bin", ANNEX_U8, files_six, 0, 3);
}

static void write__f16__rounds_to_nearest_even(void **state)
{
    static const float from[] = {0x1.002p0f, 0x1.006p0f, 0x1.0021p0f, 65504.0f,
                                 0x1p-24f,   0x1p-25f,   0x1.8p-25f,  0x1.ffep-15f,
                                 -0.0f,      -INFINITY,  0x1.ffep-1f, 0x1.8p-24f};
    static const float to[] = {1.0f,     0x1.008p0f, 0x1.004p0f, 65504.0f,  0x1p-24f, 0.0f,
                               0x1p-24f, 0x1p-14f,   -0.0f,      -INFINITY, 1.0f,     0x1p-23f};

    (void)state;
    assert_int_equal(write_vectors("a.npy", from, 1, 12, ANNEX_F16, NULL), ANNEX_OK);
    files_assert_rows("a.npy", "npy", ANNEX_F16, to, 1, 12);
}

static void write__every_f16__comes_back(void **state)
{
    enum { N = 0x7c01 };
    static uint16_t halves[N];
    static float values[N];

    (void)state;
    for (uint16_t i = 0; i < N; i++) {
        halves[i] = i;
    }
    assert_int_equal(annex_vector_widen(ANNEX_F16, halves, N, values, NULL), ANNEX_OK);
    assert_int_equal(write_vectors("a.npy", values, 1, N, ANNEX_F16, NULL), ANNEX_OK);
    files_assert_rows("a.npy", "npy", ANNEX_F16, values, 1, N);
}

static void write__values_that_do_not_fit__are_refused_with_row_and_element(void **state)
{
    static const struct {
        const char *name;
        annex_format format;
        float value;
        const char *message;
    } cases[] = {
        {"b.u8bin", ANNEX_U8, 0.5f, "element 1 of row 1 is 0.5, which u8 cannot hold"},
        {"b.u8bin", ANNEX_U8, 256, "element 1 of row 1 is 256, which u8 cannot hold"},
        {"b.bvecs", ANNEX_U8, -1, "which u8 cannot hold"},
        {"b.i8bin", ANNEX_I8, 128, "which i8 cannot hold"},
        {"b.i8bin", ANNEX_I8, -129, "which i8 cannot hold"},
        {"b.npy", ANNEX_I8, NAN, "which i8 cannot hold"},
        {"b.npy", ANNEX_U8, INFINITY, "which u8 cannot hold"},
        {"b.npy", ANNEX_F16, 65520, "which f16 cannot hold"},
    };

    (void)state;
    files_clear();
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        const float vectors[] = {1, 2, 3, cases[i].value};
        annex_error error;

        assert_int_equal(write_vectors(cases[i].name, vectors, 2, 2, cases[i].format, &error),
                         ANNEX_INVALID);
        if (strstr(error.message, cases[i].message) == NULL) {
            fail_msg("%s", error.message);
        }
        assert_int_equal(files_count(), 0);
    }
}

static void write__kinds_formats_and_dimensions_that_do_not_go_together__are_refused(void **state)
{
    annex_error error;

    (void)state;
    assert_int_equal(write_vectors("a.txt", files_six, 2, 3, ANNEX_F32, &error), ANNEX_UNSUPPORTED);
    assert_non_null(strstr(error.message, "the name must end in .npy"));
    assert_int_equal(write_vectors("a.ivecs", files_six, 2, 3, ANNEX_F32, &error),
                     ANNEX_UNSUPPORTED);
    assert_int_equal(write_vectors("a.fvecs", files_six, 2, 3, ANNEX_U8, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "a .fvecs file holds f32, not u8"));
    assert_int_equal(write_vectors("a.fvecs", files_six, 2, 3, (annex_format)77, &error),
                     ANNEX_INVALID);
    assert_int_equal(write_vectors("a.npy", files_six, 2, 3, ANNEX_BF16, &error),
                     ANNEX_UNSUPPORTED);
    assert_int_equal(write_vectors("a.npy", files_six, 2, 3, ANNEX_JSON, &error),
                     ANNEX_UNSUPPORTED);
    assert_int_equal(write_vectors("a.npy", files_six, 2, 0, ANNEX_F32, &error), ANNEX_INVALID);
    assert_int_equal(write_vectors("a.npy", files_six, 2, 65536, ANNEX_F32, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "65536 elements"));
    assert_int_equal(write_vectors("no/such/folder.npy", files_six, 2, 3, ANNEX_F32, &error),
                     ANNEX_NOT_FOUND);
}

/* ---- Failures ---------------------------------------------------------------------------------*/

static void write__any_failure__leaves_the_older_file(void **state)
{
    struct fault fault;
    annex_error error;

    (void)state;
    files_clear();
    fault_init(&fault, NULL);
    for (int target = FAULT_MEMORY; target <= FAULT_IO; target++) {
        assert_int_equal(write_vectors("a.npy", files_six, 2, 3, ANNEX_F32, NULL), ANNEX_OK);
        for (uint64_t n = 1; fault_loop(&fault, (enum fault_target)target, n, false); n++) {
            annex_status status =
                write_counting(&fault.env, files_path("a.npy"), 2001, 1, ANNEX_F32, &error);

            assert_int_equal(files_count(), 1);
            assert_true(status == ANNEX_OK || status == ANNEX_NOMEM || status == ANNEX_IO);
            if (!fault.triggered) {
                assert_int_equal(status, ANNEX_OK);
            } else if (status != ANNEX_OK && strstr(error.message, "the folder of") == NULL) {
                files_assert_rows("a.npy", "npy", ANNEX_F32, files_six, 2, 3);
            }
        }
    }
    fault_free(&fault);
    files_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_and_read__many_rows__stay_the_same_in_bounded_memory),
        cmocka_unit_test(write__npy__is_what_numpy_writes),
        cmocka_unit_test(write__no_rows__read_back_as_none),
        cmocka_unit_test(write__f16__rounds_to_nearest_even),
        cmocka_unit_test(write__every_f16__comes_back),
        cmocka_unit_test(write__values_that_do_not_fit__are_refused_with_row_and_element),
        cmocka_unit_test(write__kinds_formats_and_dimensions_that_do_not_go_together__are_refused),
        cmocka_unit_test(write__any_failure__leaves_the_older_file),
    };

    return cmocka_run_group_tests(tests, files_set_up, files_tear_down);
}
