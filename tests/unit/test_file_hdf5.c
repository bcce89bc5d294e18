/*
 * test_file_hdf5.c - HDF5 files in the layout of ann-benchmarks, written here with libhdf5. Without
 * libhdf5 the tests say so and do nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "fault.h"
#include "vector_files.h"

#if defined(__has_include)
#    if __has_include(<hdf5.h>)
#        define HAVE_HDF5
#    endif
#endif

#ifdef HAVE_HDF5

#    include <hdf5.h>

static const double values[] = {1, -2, 3, 4, 5, 127};

static hid_t half_type(hid_t order_type)
{
    hid_t type = H5Tcopy(order_type);

    assert_true(H5Tset_fields(type, 15, 10, 5, 0, 10) >= 0);
    assert_true(H5Tset_size(type, 2) >= 0);
    assert_true(H5Tset_ebias(type, 15) >= 0);
    return type;
}

static hid_t create_file(const char *name)
{
    hid_t file = H5Fcreate(files_path(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(file >= 0);
    return file;
}

/* A data set of doubles, stored as `type`, compressed in chunks when chunk_rows is not 0. */
static void put_dataset(hid_t file, const char *name, int rank, const hsize_t *shape, hid_t type,
                        hsize_t chunk_rows, const double *data)
{
    hid_t space = H5Screate_simple(rank, shape, NULL);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t dataset;

    if (chunk_rows > 0) {
        const hsize_t chunk[] = {chunk_rows, shape[1]};

        assert_true(H5Pset_chunk(creation, 2, chunk) >= 0);
        assert_true(H5Pset_deflate(creation, 1) >= 0);
    }
    dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(dataset >= 0);
    if (data != NULL) {
        assert_true(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    }
    H5Dclose(dataset);
    H5Pclose(creation);
    H5Sclose(space);
}

static void put_matrix(hid_t file, const char *name, hid_t type)
{
    static const hsize_t shape[] = {2, 3};

    put_dataset(file, name, 2, shape, type, 0, values);
}

static void put_distance(hid_t file, const char *text, bool variable)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t type = H5Tcopy(H5T_C_S1);
    hid_t attribute;

    H5Tset_size(type, variable ? H5T_VARIABLE : strlen(text));
    attribute = H5Acreate2(file, "distance", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0);
    assert_true(H5Awrite(attribute, type, variable ? (const void *)&text : text) >= 0);
    H5Aclose(attribute);
    H5Tclose(type);
    H5Sclose(space);
}

static annex_status open_dataset(const char *name, const char *dataset, annex_reader **reader,
                                 annex_error *error)
{
    annex_env env = annex_env_default();

    return annex_reader_open(&env, files_path(name), dataset, reader, error);
}

static void hdf5__every_type__is_read(void **state)
{
    hid_t little_half = half_type(H5T_IEEE_F32LE);
    hid_t big_half = half_type(H5T_IEEE_F32BE);
    const struct {
        hid_t type;
        annex_format format;
    } cases[] = {
        {H5T_IEEE_F32LE, ANNEX_F32},
        {H5T_IEEE_F32BE, ANNEX_F32},
        {H5T_IEEE_F64LE, ANNEX_F64},
        {little_half, ANNEX_F16},
        {big_half, ANNEX_F32},
        {H5T_STD_I8LE, ANNEX_I8},
        {H5T_STD_I16LE, ANNEX_FORMAT_AUTO},
        {H5T_STD_I32LE, ANNEX_FORMAT_AUTO},
        {H5T_STD_I64BE, ANNEX_FORMAT_AUTO},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        hid_t file = create_file("a.hdf5");

        put_matrix(file, "train", cases[i].type);
        H5Fclose(file);
        files_assert_rows("a.hdf5", "hdf5", cases[i].format, files_six, 2, 3);
    }
    H5Tclose(big_half);
    H5Tclose(little_half);
}

static void hdf5__no_rows__are_read_as_none(void **state)
{
    static const hsize_t shape[] = {0, 3};
    hid_t file = create_file("a.hdf5");

    (void)state;
    put_dataset(file, "train", 2, shape, H5T_IEEE_F32LE, 0, NULL);
    H5Fclose(file);
    files_assert_rows("a.hdf5", "hdf5", ANNEX_F32, files_six, 0, 3);
}

static void hdf5__data_sets__are_chosen_by_name(void **state)
{
    static const hsize_t shape[] = {1, 2};
    static const double neighbors[] = {9007199254740991, 7};
    hid_t file = create_file("a.h5");
    annex_reader *reader;
    annex_reader_info info;
    int64_t integers[2];

    (void)state;
    put_matrix(file, "train", H5T_IEEE_F32LE);
    put_dataset(file, "neighbors", 2, shape, H5T_STD_I64LE, 0, neighbors);
    put_dataset(file, "bytes", 2, shape, H5T_STD_U8LE, 0, values + 3);
    H5Fclose(file);
    files_assert_rows("a.h5", "hdf5", ANNEX_F32, files_six, 2, 3);

    assert_int_equal(open_dataset("a.h5", "neighbors", &reader, NULL), ANNEX_OK);
    assert_int_equal(annex_reader_integers(reader, 0, 1, integers, NULL), ANNEX_OK);
    assert_true(integers[0] == 9007199254740991 && integers[1] == 7);
    annex_reader_close(reader);

    assert_int_equal(open_dataset("a.h5", "bytes", &reader, NULL), ANNEX_OK);
    annex_reader_describe(reader, &info);
    assert_int_equal(info.format, ANNEX_U8);
    annex_reader_close(reader);
}

static void hdf5__the_attribute_distance__is_the_metric(void **state)
{
    static const struct {
        const char *text;
        annex_metric metric;
    } cases[] = {
        {"euclidean", ANNEX_L2},
        {"angular", ANNEX_COSINE},
        {"hamming", ANNEX_HAMMING},
        {"unheard-of", 0},
        {"a name that is much longer than any name of a metric", 0},
    };

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LENGTH(cases); i++) {
        hid_t file = create_file("a.hdf5");
        annex_reader *reader;
        annex_reader_info info;

        put_matrix(file, "train", H5T_IEEE_F32LE);
        put_distance(file, cases[i / 2].text, i % 2);
        H5Fclose(file);
        assert_int_equal(open_dataset("a.hdf5", NULL, &reader, NULL), ANNEX_OK);
        annex_reader_describe(reader, &info);
        assert_int_equal(info.metric, cases[i / 2].metric);
        annex_reader_close(reader);
    }
}

static void hdf5__an_attribute_distance_that_is_no_text__is_passed_over(void **state)
{
    hid_t file = create_file("a.hdf5");
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute;
    int number = 7;

    (void)state;
    put_matrix(file, "train", H5T_IEEE_F32LE);
    attribute = H5Acreate2(file, "distance", H5T_NATIVE_INT, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT, &number);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Fclose(file);
    files_assert_rows("a.hdf5", "hdf5", ANNEX_F32, files_six, 2, 3);
}

static void hdf5__many_rows_in_large_compressed_chunks__are_read_in_bounded_memory(void **state)
{
    enum { ROWS = 20011, DIMENSION = 40 };
    static const hsize_t shape[] = {ROWS, DIMENSION};
    double *data = malloc((size_t)ROWS * DIMENSION * sizeof *data);
    hid_t file = create_file("big.hdf5");
    struct fault fault;
    annex_reader *reader;
    annex_rows rows;
    annex_batch batch;
    size_t done = 0;

    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < (size_t)ROWS * DIMENSION; i++) {
        data[i] = (double)(i % 1021);
    }
    put_dataset(file, "train", 2, shape, H5T_IEEE_F32LE, 15000, data);
    H5Fclose(file);
    fault_init(&fault, NULL);
    assert_int_equal(annex_reader_open(&fault.env, files_path("big.hdf5"), NULL, &reader, NULL),
                     ANNEX_OK);
    rows = annex_reader_rows(reader);
    do {
        assert_int_equal(rows.next(rows.context, &batch, NULL), ANNEX_OK);
        for (size_t i = 0; i < batch.n * DIMENSION; i++) {
            assert_true((double)((const float *)batch.vectors)[i] == data[done + i]);
        }
        done += batch.n * DIMENSION;
    } while (batch.n > 0);
    assert_int_equal(done, (size_t)ROWS * DIMENSION);
    annex_reader_close(reader);
    assert_in_range(fault.peak_bytes, 1, 16 << 20);
    fault_free(&fault);
    free(data);
}

/* cmocka's assertions belong to the main thread: the others only count. */
struct parallel_reading {
    annex_env env;
    char paths[4][256];
    unsigned good[4];
};

static void read_in_parallel(void *argument, unsigned i)
{
    struct parallel_reading *reading = argument;

    for (int round = 0; round < 50; round++) {
        annex_reader *reader;
        annex_rows rows;
        annex_batch batch = {0};

        if (annex_reader_open(&reading->env, reading->paths[i], NULL, &reader, NULL) != ANNEX_OK) {
            continue;
        }
        rows = annex_reader_rows(reader);
        if (rows.next(rows.context, &batch, NULL) == ANNEX_OK && batch.n == 2 &&
            memcmp(batch.vectors, files_six, sizeof files_six) == 0) {
            reading->good[i]++;
        }
        annex_reader_close(reader);
    }
}

static void hdf5__readers_in_several_threads__do_not_disturb_each_other(void **state)
{
    struct parallel_reading reading = {.env = annex_env_default()};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LENGTH(reading.good); i++) {
        char name[16];
        hid_t file;

        snprintf(name, sizeof name, "%u.hdf5", i);
        file = create_file(name);
        put_matrix(file, "train", i % 2 ? H5T_IEEE_F64BE : H5T_STD_I8LE);
        H5Fclose(file);
        snprintf(reading.paths[i], sizeof reading.paths[i], "%s", files_path(name));
    }
    reading.env.threads.run(reading.env.threads.context, ARRAY_LENGTH(reading.good),
                            read_in_parallel, &reading);
    for (unsigned i = 0; i < ARRAY_LENGTH(reading.good); i++) {
        assert_int_equal(reading.good[i], 50);
    }
}

static void hdf5__odd_data_sets__are_refused(void **state)
{
    static const hsize_t three[] = {1, 2, 3};
    static const hsize_t no_columns[] = {3, 0};
    static const hsize_t wide[] = {1, 65536};
    static const struct {
        const char *dataset;
        annex_status status;
        const char *message;
    } cases[] = {
        {NULL, ANNEX_NOT_FOUND, "has no data set \"train\""},
        {"group", ANNEX_NOT_FOUND, "has no data set \"group\""},
        {"flat", ANNEX_INVALID, "has 1 dimensions; rows of vectors have two"},
        {"deep", ANNEX_INVALID, "has 3 dimensions; rows of vectors have two"},
        {"no columns", ANNEX_INVALID, "rows of 0 elements"},
        {"wide", ANNEX_INVALID, "rows of 65536 elements"},
        {"text", ANNEX_UNSUPPORTED, "neither floating-point numbers nor integers"},
    };
    hid_t file = create_file("a.hdf5");
    hid_t text = H5Tcopy(H5T_C_S1);

    (void)state;
    H5Gclose(H5Gcreate2(file, "group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    put_dataset(file, "flat", 1, three, H5T_IEEE_F32LE, 0, values);
    put_dataset(file, "deep", 3, three, H5T_IEEE_F32LE, 0, values);
    put_dataset(file, "no columns", 2, no_columns, H5T_IEEE_F32LE, 0, NULL);
    put_dataset(file, "wide", 2, wide, H5T_IEEE_F32LE, 0, NULL);
    put_dataset(file, "text", 2, three, text, 0, NULL);
    H5Tclose(text);
    H5Fclose(file);
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        annex_reader *reader;
        annex_error error;

        assert_int_equal(open_dataset("a.hdf5", cases[i].dataset, &reader, &error),
                         cases[i].status);
        assert_null(reader);
        if (strstr(error.message, cases[i].message) == NULL ||
            strstr(error.message, "a.hdf5") == NULL) {
            fail_msg("%s", error.message);
        }
    }
}

static void hdf5__files_of_something_else_or_cut_off__are_refused(void **state)
{
    char bytes[4096];
    FILE *stream;
    hid_t file = create_file("a.hdf5");

    (void)state;
    put_matrix(file, "train", H5T_IEEE_F32LE);
    H5Fclose(file);
    stream = fopen(files_path("a.hdf5"), "rb");
    assert_non_null(stream);
    assert_in_range(fread(bytes, 1, sizeof bytes, stream), 700, sizeof bytes);
    fclose(stream);
    files_put("b.hdf5", bytes, 600);
    files_assert_refused("b.hdf5", ANNEX_DAMAGED, "libhdf5 cannot open");
    files_put("b.hdf5", "", 0);
    files_assert_refused("b.hdf5", ANNEX_DAMAGED, "is not an HDF5 file");
    files_put("b.hdf5", "\x93NUMPY", 6);
    files_assert_refused("b.hdf5", ANNEX_DAMAGED, "is not an HDF5 file");
    files_assert_refused("missing.hdf5", ANNEX_NOT_FOUND, "missing.hdf5");
}

/* Overwrites the first compressed chunk of "train". */
static void damage_chunk(const char *name)
{
    hid_t file = H5Fopen(files_path(name), H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t dataset = H5Dopen2(file, "train", H5P_DEFAULT);
    hid_t space = H5Dget_space(dataset);
    hsize_t place[2];
    unsigned mask;
    haddr_t address;
    hsize_t bytes;
    FILE *stream;

    assert_true(H5Dget_chunk_info(dataset, space, 0, place, &mask, &address, &bytes) >= 0);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Fclose(file);
    stream = fopen(files_path(name), "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, (long)address, SEEK_SET), 0);
    for (hsize_t i = 0; i < bytes; i++) {
        assert_int_equal(fputc('#', stream), '#');
    }
    assert_int_equal(fclose(stream), 0);
}

static void hdf5__a_damaged_chunk__stops_the_reading_in_silence(void **state)
{
    static const hsize_t shape[] = {2, 3};
    hid_t file = create_file("a.hdf5");
    annex_reader *reader;
    annex_rows rows;
    annex_batch batch;
    annex_error error;

    (void)state;
    put_dataset(file, "train", 2, shape, H5T_IEEE_F32LE, 2, values);
    H5Fclose(file);
    damage_chunk("a.hdf5");
    reader = files_open("a.hdf5");
    rows = annex_reader_rows(reader);
    assert_int_equal(rows.next(rows.context, &batch, &error), ANNEX_DAMAGED);
    assert_int_equal(batch.n, 0);
    assert_non_null(strstr(error.message, "cannot read rows 0 to 1 of data set \"train\" of"));
    annex_reader_close(reader);
}

static void hdf5__failures_of_memory_and_files__leak_nothing(void **state)
{
    struct fault fault;
    hid_t file = create_file("a.hdf5");
    hid_t half = half_type(H5T_IEEE_F32LE);

    (void)state;
    put_matrix(file, "train", half);
    H5Tclose(half);
    H5Fclose(file);
    fault_init(&fault, NULL);
    for (int target = FAULT_MEMORY; target <= FAULT_IO; target++) {
        for (uint64_t n = 1; fault_loop(&fault, (enum fault_target)target, n, false); n++) {
            annex_reader *reader;
            annex_status status =
                annex_reader_open(&fault.env, files_path("a.hdf5"), "train", &reader, NULL);

            assert_true((status == ANNEX_OK) == (reader != NULL));
            assert_true(status == ANNEX_OK || fault.triggered);
            annex_reader_close(reader);
        }
    }
    fault_free(&fault);
}

#endif

static void hdf5__without_the_library__is_left_out(void **state)
{
    (void)state;
#ifndef HAVE_HDF5
    print_message("libhdf5 is not installed: HDF5 files are not tested\n");
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef HAVE_HDF5
        cmocka_unit_test(hdf5__every_type__is_read),
        cmocka_unit_test(hdf5__no_rows__are_read_as_none),
        cmocka_unit_test(hdf5__data_sets__are_chosen_by_name),
        cmocka_unit_test(hdf5__the_attribute_distance__is_the_metric),
        cmocka_unit_test(hdf5__an_attribute_distance_that_is_no_text__is_passed_over),
        cmocka_unit_test(hdf5__many_rows_in_large_compressed_chunks__are_read_in_bounded_memory),
        cmocka_unit_test(hdf5__readers_in_several_threads__do_not_disturb_each_other),
        cmocka_unit_test(hdf5__odd_data_sets__are_refused),
        cmocka_unit_test(hdf5__files_of_something_else_or_cut_off__are_refused),
        cmocka_unit_test(hdf5__a_damaged_chunk__stops_the_reading_in_silence),
        cmocka_unit_test(hdf5__failures_of_memory_and_files__leak_nothing),
#endif
        cmocka_unit_test(hdf5__without_the_library__is_left_out),
    };

    return cmocka_run_group_tests(tests, files_set_up, files_tear_down);
}
