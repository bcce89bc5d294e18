/*
 * test_file.c - files of vectors: every kind is written, read back, and refused when it is odd.
 *
 * The files are made here byte by byte, in a folder of their own, so that reader and writer are not
 * only tested against each other. HDF5 is in test_file_hdf5.c.
 */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "fault.h"

#define NPY_F4(shape) "{'descr': '<f4', 'fortran_order': False, 'shape': " shape ", }"

static char folder[64];
static char path_text[256];

/* ---- Helpers ----------------------------------------------------------------------------------*/

/* The path of a file in the test's folder; valid until the next call. */
static const char *path_to(const char *name)
{
    snprintf(path_text, sizeof path_text, "%s/%s", folder, name);
    return path_text;
}

static void put(const char *name, const void *data, size_t bytes)
{
    FILE *file = fopen(path_to(name), "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void put_npy_version(const char *name, int version, const char *header, const void *data,
                            size_t bytes)
{
    char file[512];
    uint32_t length = (uint32_t)strlen(header);
    size_t length_bytes = version == 1 ? 2 : 4;

    memcpy(file, "\x93NUMPY", 6);
    file[6] = (char)version;
    file[7] = 0;
    memcpy(file + 8, &length, length_bytes);
    memcpy(file + 8 + length_bytes, header, length);
    assert_true(8 + length_bytes + length + bytes <= sizeof file);
    memcpy(file + 8 + length_bytes + length, data, bytes);
    put(name, file, 8 + length_bytes + length + bytes);
}

static void put_npy(const char *name, const char *header, const void *data, size_t bytes)
{
    put_npy_version(name, 1, header, data, bytes);
}

static int clear_folder(void)
{
    DIR *open_folder = opendir(folder);
    struct dirent *entry;

    assert_non_null(open_folder);
    while ((entry = readdir(open_folder)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            remove(path_to(entry->d_name));
        }
    }
    return closedir(open_folder);
}

static size_t count_files(void)
{
    size_t n = 0;
    DIR *open_folder = opendir(folder);
    struct dirent *entry;

    assert_non_null(open_folder);
    while ((entry = readdir(open_folder)) != NULL) {
        n += entry->d_name[0] != '.';
    }
    closedir(open_folder);
    return n;
}

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/annex-test-file-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    clear_folder();
    return rmdir(folder);
}

static annex_reader *open_reader(const char *name)
{
    annex_env env = annex_env_default();
    annex_reader *reader;
    annex_error error;

    if (annex_reader_open(&env, path_to(name), NULL, &reader, &error) != ANNEX_OK) {
        fail_msg("%s: %s", name, error.message);
    }
    return reader;
}

static void assert_refused(const char *name, annex_status status, const char *message)
{
    annex_env env = annex_env_default();
    annex_reader *reader = (annex_reader *)&env;
    annex_error error;

    assert_int_equal(annex_reader_open(&env, path_to(name), NULL, &reader, &error), status);
    assert_null(reader);
    if (strstr(error.message, message) == NULL || strstr(error.message, folder) == NULL) {
        fail_msg("%s", error.message);
    }
}

/* Reads all rows, which must be `rows` x `dimension` and equal `expected`. */
static void assert_rows(annex_reader *reader, const float *expected, size_t rows, size_t dimension)
{
    annex_rows source = annex_reader_rows(reader);
    annex_batch batch;
    annex_error error;
    size_t row = 0;

    for (;;) {
        if (source.next(source.context, &batch, &error) != ANNEX_OK) {
            fail_msg("%s", error.message);
        }
        if (batch.n == 0) {
            break;
        }
        assert_null(batch.keys);
        assert_true(batch.n <= rows - row);
        assert_memory_equal(batch.vectors, expected + row * dimension,
                            batch.n * dimension * sizeof(float));
        row += batch.n;
    }
    assert_int_equal(row, rows);
}

static void assert_file(const char *name, const char *kind, annex_format format,
                        const float *expected, size_t rows, size_t dimension)
{
    annex_reader *reader = open_reader(name);
    annex_rows source = annex_reader_rows(reader);
    annex_reader_info info;

    annex_reader_describe(reader, &info);
    assert_int_equal(info.rows, rows);
    assert_int_equal(info.dimension, dimension);
    assert_int_equal(info.format, format);
    assert_int_equal(info.metric, 0);
    assert_string_equal(info.kind, kind);
    assert_rows(reader, expected, rows, dimension);
    assert_int_equal(source.rewind(source.context, NULL), ANNEX_OK);
    assert_rows(reader, expected, rows, dimension);
    annex_reader_close(reader);
}

/* ---- npy --------------------------------------------------------------------------------------*/

static const float six[] = {1, -2, 3, 4, 5, 127};

static void npy__every_type__is_widened(void **state)
{
    static const float fractions[] = {0.5f, -2, INFINITY, 0.1f, 65504, 3};
    static const uint16_t f2[] = {0x3800, 0xc000, 0x7c00, 0x2e66, 0x7bff, 0x4200};
    static const double f8[] = {1, -2, 3, 4, 5, 127};
    static const int8_t i1[] = {1, -2, 3, 4, 5, 127};
    static const uint8_t u1[] = {1, 254, 3, 4, 5, 127};
    static const int32_t i4[] = {1, -2, 3, 4, 5, 127};
    static const uint32_t u4[] = {1, 4294967295, 3, 4, 5, 127};
    static const int64_t i8[] = {1, -2, 3, 4, 5, 127};
    float expected[6];

    (void)state;
    put_npy("a.npy", NPY_F4("(2, 3)"), fractions, sizeof fractions);
    assert_file("a.npy", "npy", ANNEX_F32, fractions, 2, 3);
    memcpy(expected, fractions, sizeof expected);
    expected[3] = 0x1.998p-4f;
    put_npy("a.npy", "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }", f2, sizeof f2);
    assert_file("a.npy", "npy", ANNEX_F16, expected, 2, 3);
    put_npy("a.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", f8, sizeof f8);
    assert_file("a.npy", "npy", ANNEX_F64, six, 2, 3);
    put_npy("a.npy", "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 3), }", i1, sizeof i1);
    assert_file("a.npy", "npy", ANNEX_I8, six, 2, 3);
    memcpy(expected, six, sizeof expected);
    expected[1] = 254;
    put_npy("a.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }", u1, sizeof u1);
    assert_file("a.npy", "npy", ANNEX_U8, expected, 2, 3);
    put_npy("a.npy", "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", i4, sizeof i4);
    assert_file("a.npy", "npy", ANNEX_FORMAT_AUTO, six, 2, 3);
    expected[1] = 4294967296.0f;
    put_npy("a.npy", "{'descr': '<u4', 'fortran_order': False, 'shape': (2, 3), }", u4, sizeof u4);
    assert_file("a.npy", "npy", ANNEX_FORMAT_AUTO, expected, 2, 3);
    put_npy("a.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }", i8, sizeof i8);
    assert_file("a.npy", "npy", ANNEX_FORMAT_AUTO, six, 2, 3);
}

static void npy__versions_and_ways_to_write_the_header__are_read(void **state)
{
    static const char *const headers[] = {
        "{'shape':(2,3),'fortran_order':False,'descr':'<f4'}",
        "{\"descr\": \"<f4\", \"fortran_order\": False, \"shape\": (2L, 3L,)}            \n",
        "  { 'descr' : '<f4' ,\n 'fortran_order' : False , 'shape' : ( 2 , 3 ) , } \n",
    };

    (void)state;
    for (int version = 1; version <= 3; version++) {
        for (size_t i = 0; i < ARRAY_LENGTH(headers); i++) {
            put_npy_version("a.npy", version, headers[i], six, sizeof six);
            assert_file("a.npy", "npy", ANNEX_F32, six, 2, 3);
        }
    }
}

static void npy__headers_that_are_no_dictionary__are_refused(void **state)
{
    static const char *const headers[] = {
        "",
        "x",
        "{",
        "{}",
        "{'descr'",
        "{'descr': <f4}",
        "{'descr': '<f4}",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [2, 3]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)",
        "{descr: '<f4', 'fortran_order': False, 'shape': (2, 3)}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(headers); i++) {
        put_npy("a.npy", headers[i], six, sizeof six);
        assert_refused("a.npy", ANNEX_DAMAGED, "is not a dictionary of descr, fortran_order");
    }
}

static void npy__types_that_are_no_numbers_of_this_machine__are_refused(void **state)
{
    static const struct {
        const char *descr;
        const char *message;
    } cases[] = {
        {"'>f4'", "holds big-endian numbers (>f4); save it with .astype('<f4')"},
        {"'|O'", "holds elements of type '|O'; f2, f4,"},
        {"'|b1'", "holds elements of type '|b1'"},
        {"'<f16'", "holds elements of type '<f16'"},
        {"'<U8'", "holds elements of type '<U8'"},
        {"''", "holds elements of type ''"},
        {"'\xc3\xa4'", "holds elements of type ''"},
        {"[('x', '<f4')]", "holds records"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        char header[128];

        snprintf(header, sizeof header, "{'descr': %s, 'fortran_order': False, 'shape': (2, 3), }",
                 cases[i].descr);
        put_npy("a.npy", header, six, sizeof six);
        assert_refused("a.npy", ANNEX_UNSUPPORTED, cases[i].message);
    }
}

static void npy__shapes_that_are_no_rows_of_vectors__are_refused(void **state)
{
    (void)state;
    put_npy("a.npy", NPY_F4("()"), six, 4);
    assert_refused("a.npy", ANNEX_INVALID, "an array of no dimensions");
    put_npy("a.npy", NPY_F4("(6,)"), six, sizeof six);
    assert_refused("a.npy", ANNEX_INVALID, "an array of one dimension");
    put_npy("a.npy", NPY_F4("(1, 2, 3)"), six, sizeof six);
    assert_refused("a.npy", ANNEX_INVALID, "an array of three or more dimensions");
    put_npy("a.npy", NPY_F4("(1, 1, 1, 2, 3)"), six, sizeof six);
    assert_refused("a.npy", ANNEX_INVALID, "an array of three or more dimensions");
    put_npy("a.npy", NPY_F4("(0, 3)"), six, 0);
    assert_refused("a.npy", ANNEX_INVALID, "has no rows");
    put_npy("a.npy", NPY_F4("(6, 0)"), six, 0);
    assert_refused("a.npy", ANNEX_INVALID, "rows of 0 elements; a vector has 1 to 65535");
    put_npy("a.npy", NPY_F4("(1, 65536)"), six, sizeof six);
    assert_refused("a.npy", ANNEX_INVALID, "rows of 65536 elements");
    put_npy("a.npy", "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", six, 24);
    assert_refused("a.npy", ANNEX_UNSUPPORTED, "column after column (Fortran order)");
}

static void npy__sizes_that_do_not_fit_the_file__are_refused(void **state)
{
    (void)state;
    put_npy("a.npy", NPY_F4("(2, 3)"), six, 23);
    assert_refused("a.npy", ANNEX_DAMAGED, "2 rows of 3 f32, as its header says, need");
    put_npy("a.npy", NPY_F4("(1, 3)"), six, sizeof six);
    assert_refused("a.npy", ANNEX_DAMAGED, "it is of another kind, or files were joined");
    put_npy("a.npy", NPY_F4("(18446744073709551615, 65535)"), six, sizeof six);
    assert_refused("a.npy", ANNEX_DAMAGED, "it is cut off");
    put_npy("a.npy", NPY_F4("(4611686018427387905, 1)"), six, sizeof six);
    assert_refused("a.npy", ANNEX_DAMAGED, "it is cut off");
    put("a.npy", "", 0);
    assert_refused("a.npy", ANNEX_DAMAGED, "is not a NumPy array file: it has 0 bytes only");
    put("a.npy", "PK\3\4 this is a .npz", 19);
    assert_refused("a.npy", ANNEX_DAMAGED, "does not begin with \\x93NUMPY");
    put("a.npy", "\x93NUMPY\1\0", 8);
    assert_refused("a.npy", ANNEX_DAMAGED, "is cut off: it ends after 8 bytes");
    put("a.npy", "\x93NUMPY\2\0\1\0\0", 11);
    assert_refused("a.npy", ANNEX_DAMAGED, "is cut off");
    put("a.npy", "\x93NUMPY\1\0\x76\0{", 11);
    assert_refused("a.npy", ANNEX_DAMAGED, "says that its header has 118");
    put("a.npy", "\x93NUMPY\2\0\xff\xff\xff\xff{", 13);
    assert_refused("a.npy", ANNEX_DAMAGED, "says that its header has 4294967295");
    put("a.npy", "\x93NUMPY\4\0\1\0\0\0{", 13);
    assert_refused("a.npy", ANNEX_UNSUPPORTED, "of version 4");
}

/* ---- fvecs, fbin ------------------------------------------------------------------------------*/

static void fvecs__every_kind__is_read(void **state)
{
    static const uint32_t f32[] = {2, 0x3f800000, 0xc0000000, 2, 0x40400000, 0x40800000};
    static const unsigned char u8[] = {2, 0, 0, 0, 1, 255, 2, 0, 0, 0, 3, 4};
    static const int32_t i32[] = {2, 1, -2, 2, 3, 4};
    static const float wide[] = {1, 255, 3, 4};

    (void)state;
    put("a.fvecs", f32, sizeof f32);
    assert_file("a.fvecs", "fvecs", ANNEX_F32, six, 2, 2);
    put("a.bvecs", u8, sizeof u8);
    assert_file("a.bvecs", "bvecs", ANNEX_U8, wide, 2, 2);
    put("a.ivecs", i32, sizeof i32);
    assert_file("a.ivecs", "ivecs", ANNEX_FORMAT_AUTO, six, 2, 2);
}

static void fvecs__odd_files__are_refused(void **state)
{
    static const uint32_t file[] = {2, 0, 0, 2, 0, 0};
    static const uint32_t none[] = {0, 0};
    static const uint32_t negative[] = {0xffffffff, 0};
    static const uint32_t wide[] = {65536, 0};

    (void)state;
    put("a.fvecs", "", 0);
    assert_refused("a.fvecs", ANNEX_INVALID, "has no rows");
    put("a.fvecs", file, 3);
    assert_refused("a.fvecs", ANNEX_DAMAGED, "is cut off: it ends after 3 bytes");
    put("a.fvecs", file, 23);
    assert_refused("a.fvecs", ANNEX_DAMAGED, "23 bytes, which is no multiple of a row: 2 f32, as");
    put("a.fvecs", none, sizeof none);
    assert_refused("a.fvecs", ANNEX_INVALID, "rows of 0 elements");
    put("a.fvecs", negative, sizeof negative);
    assert_refused("a.fvecs", ANNEX_INVALID, "rows of 4294967295 elements");
    put("a.fvecs", wide, sizeof wide);
    assert_refused("a.fvecs", ANNEX_INVALID, "rows of 65536 elements");
}

static void fvecs__a_row_of_another_dimension__stops_the_reading(void **state)
{
    static const uint32_t file[] = {2, 0, 0, 2, 0, 0, 1, 0, 0};
    annex_reader *reader;
    annex_rows rows;
    annex_batch batch;
    annex_error error;

    (void)state;
    put("a.fvecs", file, sizeof file);
    reader = open_reader("a.fvecs");
    rows = annex_reader_rows(reader);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rows.next(rows.context, &batch, &error), ANNEX_DAMAGED);
        assert_int_equal(batch.n, 0);
        assert_non_null(strstr(error.message, "row 2 of "));
        assert_non_null(strstr(error.message, "a.fvecs says that it has 1 elements; row 0 has 2"));
    }
    annex_reader_close(reader);
}

static void fbin__every_kind__is_read(void **state)
{
    static const uint32_t f32[] = {2, 2, 0x3f800000, 0xc0000000, 0x40400000, 0x40800000};
    static const unsigned char bytes[] = {2, 0, 0, 0, 2, 0, 0, 0, 1, 254, 3, 4};
    static const float wide[] = {1, 254, 3, 4};

    (void)state;
    put("a.fbin", f32, sizeof f32);
    assert_file("a.fbin", "fbin", ANNEX_F32, six, 2, 2);
    put("a.u8bin", bytes, sizeof bytes);
    assert_file("a.u8bin", "u8bin", ANNEX_U8, wide, 2, 2);
    put("a.i8bin", bytes, sizeof bytes);
    assert_file("a.i8bin", "i8bin", ANNEX_I8, six, 2, 2);
}

static void fbin__odd_files__are_refused(void **state)
{
    static const uint32_t file[] = {2, 2, 0, 0, 0, 0, 0};
    static const uint32_t no_rows[] = {0, 2};
    static const uint32_t no_columns[] = {2, 0};
    static const uint32_t huge[] = {0xffffffff, 65535, 0};

    (void)state;
    put("a.fbin", file, 7);
    assert_refused("a.fbin", ANNEX_DAMAGED, "is cut off: it ends after 7 bytes");
    put("a.fbin", file, 20);
    assert_refused("a.fbin", ANNEX_DAMAGED, "20 bytes, but 2 rows of 2 f32, as its header says");
    put("a.fbin", file, 28);
    assert_refused("a.fbin", ANNEX_DAMAGED, "need 24: it is of another kind");
    put("a.fbin", no_rows, sizeof no_rows);
    assert_refused("a.fbin", ANNEX_INVALID, "has no rows");
    put("a.fbin", no_columns, sizeof no_columns);
    assert_refused("a.fbin", ANNEX_INVALID, "rows of 0 elements");
    put("a.fbin", huge, sizeof huge);
    assert_refused("a.fbin", ANNEX_DAMAGED, "it is cut off");
}

/* ---- Names and folders ------------------------------------------------------------------------*/

static void open__a_name_that_says_nothing__is_refused_with_the_list(void **state)
{
    (void)state;
    put("vectors.txt", "1", 1);
    assert_refused("vectors.txt", ANNEX_UNSUPPORTED, "ends in .npy, .fvecs");
    put("npy", "1", 1);
    assert_refused("npy", ANNEX_UNSUPPORTED, "ends in .npy, .fvecs");
}

static void open__a_file_that_is_not_there__is_not_found(void **state)
{
    (void)state;
    assert_refused("missing.npy", ANNEX_NOT_FOUND, "missing.npy");
    assert_refused("missing.hdf5", ANNEX_NOT_FOUND, "missing.hdf5");
}

static void folder__its_files__are_read_in_the_order_of_names(void **state)
{
    static const float expected[] = {5, 6, 1, 2, 3, 4, 7, 8};

    (void)state;
    clear_folder();
    put_npy("b.npy", NPY_F4("(2, 2)"), expected + 2, 16);
    put_npy("a10.npy", NPY_F4("(1, 2)"), expected, 8);
    put_npy("a2.npy", NPY_F4("(0, 2)"), expected, 0);
    put_npy("c.npy", NPY_F4("(1, 2)"), expected + 6, 8);
    put_npy(".hidden.npy", NPY_F4("(6,)"), six, sizeof six);
    put("README", "not vectors", 11);
    put("metadata.json", "{}", 2);
    assert_int_equal(mkdir(path_to("x.npy"), 0700), 0);
    assert_file(".", "npy", ANNEX_F32, expected, 4, 2);
    assert_file("./", "npy", ANNEX_F32, expected, 4, 2);
    clear_folder();
}

static void folder__files_that_are_not_alike__are_refused(void **state)
{
    static const uint32_t fvecs[] = {2, 0, 0};
    static const int8_t i1[] = {1, 2};

    (void)state;
    clear_folder();
    put_npy("a.npy", NPY_F4("(1, 2)"), six, 8);
    put_npy("b.npy", NPY_F4("(1, 3)"), six, 12);
    assert_refused(".", ANNEX_INVALID,
                   "b.npy is npy with 3 f32 a row, and files before it are npy");
    put_npy("b.npy", "{'descr': '|i1', 'fortran_order': False, 'shape': (1, 2), }", i1, 2);
    assert_refused(".", ANNEX_INVALID, "b.npy is npy with 2 i8 a row");
    remove(path_to("b.npy"));
    put("b.fvecs", fvecs, sizeof fvecs);
    assert_refused(".", ANNEX_INVALID, "b.fvecs is fvecs with 2 f32 a row");
    put("b.fvecs", fvecs, 5);
    assert_refused(".", ANNEX_DAMAGED, "b.fvecs has 5 bytes");
    clear_folder();
}

static void folder__without_vectors__is_refused(void **state)
{
    (void)state;
    clear_folder();
    assert_refused(".", ANNEX_NOT_FOUND, "holds no files of vectors");
    put_npy("a.npy", NPY_F4("(0, 2)"), six, 0);
    put("b.fvecs", "", 0);
    assert_refused(".", ANNEX_INVALID, "has no rows");
    clear_folder();
}

static void folder__a_file_that_changes__stops_the_reading(void **state)
{
    annex_reader *reader;
    annex_rows rows;
    annex_batch batch;
    annex_error error;

    (void)state;
    clear_folder();
    put_npy("a.npy", NPY_F4("(1, 2)"), six, 8);
    put_npy("b.npy", NPY_F4("(1, 2)"), six, 8);
    reader = open_reader(".");
    put_npy("a.npy", NPY_F4("(2, 2)"), six, 16);
    rows = annex_reader_rows(reader);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rows.next(rows.context, &batch, &error), ANNEX_INVALID);
        assert_non_null(strstr(error.message, "a.npy changed while it was read"));
    }
    put_npy("a.npy", NPY_F4("(1, 2)"), six, 8);
    assert_int_equal(rows.next(rows.context, &batch, &error), ANNEX_OK);
    assert_int_equal(batch.n, 1);
    annex_reader_close(reader);
    clear_folder();
}

/* ---- Many rows, integers ----------------------------------------------------------------------*/

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
        assert_int_equal(write_counting(&fault.env, path_to(cases[c].name), ROWS, DIMENSION,
                                        cases[c].format, NULL),
                         ANNEX_OK);
        assert_int_equal(annex_reader_open(&fault.env, path_to(cases[c].name), NULL, &reader, NULL),
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
        remove(path_to(cases[c].name));
    }
}

static void integers__of_any_rows__are_exact(void **state)
{
    static const int64_t i8[] = {1, -2, INT64_MAX, INT64_MIN, 5, 6};
    static const int32_t ivecs[] = {3, 1, -2, INT32_MAX, 3, INT32_MIN, 5, 6};
    annex_reader *reader;
    annex_error error;
    int64_t values[6];

    (void)state;
    put_npy("a.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }", i8, sizeof i8);
    reader = open_reader("a.npy");
    assert_int_equal(annex_reader_integers(reader, 0, 2, values, NULL), ANNEX_OK);
    assert_memory_equal(values, i8, sizeof i8);
    assert_int_equal(annex_reader_integers(reader, 1, 1, values, NULL), ANNEX_OK);
    assert_memory_equal(values, i8 + 3, 24);
    assert_int_equal(annex_reader_integers(reader, 2, 0, NULL, NULL), ANNEX_OK);
    assert_int_equal(annex_reader_integers(reader, 1, 2, values, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "rows 1 to 3 were asked for; there are 2"));
    assert_int_equal(annex_reader_integers(reader, 3, 0, values, &error), ANNEX_INVALID);
    assert_int_equal(annex_reader_integers(reader, UINT64_MAX, 2, values, NULL), ANNEX_INVALID);
    annex_reader_close(reader);

    put("a.ivecs", ivecs, sizeof ivecs);
    reader = open_reader("a.ivecs");
    assert_int_equal(annex_reader_integers(reader, 0, 2, values, NULL), ANNEX_OK);
    assert_true(values[0] == 1 && values[2] == INT32_MAX && values[3] == INT32_MIN);
    annex_reader_close(reader);

    put_npy("a.npy", NPY_F4("(2, 3)"), six, sizeof six);
    reader = open_reader("a.npy");
    assert_int_equal(annex_reader_integers(reader, 0, 1, values, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "a.npy holds f32, not integers"));
    annex_reader_close(reader);
}

static void integers__of_narrow_types_and_between_batches__leave_the_batch_alone(void **state)
{
    static const uint8_t u1[] = {1, 254, 3, 4};
    static const int8_t i1[] = {1, -2, 3, 4};
    static const uint32_t u4[] = {1, 4294967295, 3, 4};
    annex_reader *reader;
    annex_rows rows;
    annex_batch batch;
    int64_t values[4];

    (void)state;
    clear_folder();
    put_npy("a.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }", u1, sizeof u1);
    put_npy("b.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2), }", u1, 2);
    reader = open_reader(".");
    rows = annex_reader_rows(reader);
    assert_int_equal(rows.next(rows.context, &batch, NULL), ANNEX_OK);
    assert_int_equal(batch.n, 2);
    assert_int_equal(annex_reader_integers(reader, 1, 2, values, NULL), ANNEX_OK);
    assert_true(values[0] == 3 && values[1] == 4 && values[2] == 1 && values[3] == 254);
    assert_true(((const float *)batch.vectors)[1] == 254);
    assert_int_equal(rows.next(rows.context, &batch, NULL), ANNEX_OK);
    assert_true(batch.n == 1 && ((const float *)batch.vectors)[1] == 254);
    annex_reader_close(reader);
    clear_folder();

    put_npy("a.npy", "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 2), }", i1, sizeof i1);
    reader = open_reader("a.npy");
    assert_int_equal(annex_reader_integers(reader, 0, 2, values, NULL), ANNEX_OK);
    assert_true(values[1] == -2);
    annex_reader_close(reader);
    put_npy("a.npy", "{'descr': '<u4', 'fortran_order': False, 'shape': (2, 2), }", u4, sizeof u4);
    reader = open_reader("a.npy");
    assert_int_equal(annex_reader_integers(reader, 0, 2, values, NULL), ANNEX_OK);
    assert_true(values[1] == 4294967295);
    annex_reader_close(reader);
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

    return annex_vectors_write(&env, path_to(name), &rows, dimension, format, error);
}

static void write__npy__is_what_numpy_writes(void **state)
{
    char expected[128 + sizeof six];
    char found[sizeof expected + 1];
    FILE *file;

    (void)state;
    memset(expected, ' ', sizeof expected);
    memcpy(expected, "\x93NUMPY\1\0\x76\0", 10);
    memcpy(expected + 10, NPY_F4("(2, 3)"), strlen(NPY_F4("(2, 3)")));
    expected[127] = '\n';
    memcpy(expected + 128, six, sizeof six);
    assert_int_equal(write_vectors("a.npy", six, 2, 3, ANNEX_F32, NULL), ANNEX_OK);
    file = fopen(path_to("a.npy"), "rb");
    assert_non_null(file);
    assert_int_equal(fread(found, 1, sizeof found, file), sizeof expected);
    fclose(file);
    assert_memory_equal(found, expected, sizeof expected);
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
    assert_file("a.npy", "npy", ANNEX_F16, to, 1, 12);
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
    assert_file("a.npy", "npy", ANNEX_F16, values, 1, N);
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
    clear_folder();
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        const float vectors[] = {1, 2, 3, cases[i].value};
        annex_error error;

        assert_int_equal(write_vectors(cases[i].name, vectors, 2, 2, cases[i].format, &error),
                         ANNEX_INVALID);
        if (strstr(error.message, cases[i].message) == NULL) {
            fail_msg("%s", error.message);
        }
        assert_int_equal(count_files(), 0);
    }
}

static void write__kinds_formats_and_dimensions_that_do_not_go_together__are_refused(void **state)
{
    annex_error error;

    (void)state;
    assert_int_equal(write_vectors("a.txt", six, 2, 3, ANNEX_F32, &error), ANNEX_UNSUPPORTED);
    assert_non_null(strstr(error.message, "the name must end in .npy"));
    assert_int_equal(write_vectors("a.ivecs", six, 2, 3, ANNEX_F32, &error), ANNEX_UNSUPPORTED);
    assert_int_equal(write_vectors("a.fvecs", six, 2, 3, ANNEX_U8, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "a .fvecs file holds f32, not u8"));
    assert_int_equal(write_vectors("a.fvecs", six, 2, 3, (annex_format)77, &error), ANNEX_INVALID);
    assert_int_equal(write_vectors("a.npy", six, 2, 3, ANNEX_BF16, &error), ANNEX_UNSUPPORTED);
    assert_int_equal(write_vectors("a.npy", six, 2, 3, ANNEX_JSON, &error), ANNEX_UNSUPPORTED);
    assert_int_equal(write_vectors("a.npy", six, 2, 0, ANNEX_F32, &error), ANNEX_INVALID);
    assert_int_equal(write_vectors("a.npy", six, 2, 65536, ANNEX_F32, &error), ANNEX_INVALID);
    assert_non_null(strstr(error.message, "65536 elements"));
    assert_int_equal(write_vectors("no/such/folder.npy", six, 2, 3, ANNEX_F32, &error),
                     ANNEX_NOT_FOUND);
}

/* ---- Failures of memory and files -------------------------------------------------------------*/

static annex_status read_everything(const annex_env *env, const char *path)
{
    annex_reader *reader = NULL;
    annex_error error;
    annex_status status = annex_reader_open(env, path, "train", &reader, &error);

    if (status == ANNEX_OK) {
        annex_rows rows = annex_reader_rows(reader);
        annex_batch batch = {.n = 1};

        while (status == ANNEX_OK && batch.n > 0) {
            status = rows.next(rows.context, &batch, &error);
        }
    } else {
        assert_null(reader);
    }
    annex_reader_close(reader);
    assert_true(status == ANNEX_OK || error.message[0] != '\0');
    return status;
}

static void read__any_failure__is_reported_and_leaks_nothing(void **state)
{
    static const int8_t i1[] = {1, 2, 3, 4};
    struct fault fault;
    unsigned failures = 0;

    (void)state;
    clear_folder();
    put_npy("a.npy", "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 2), }", i1, 4);
    put_npy("b.npy", "{'descr': '|i1', 'fortran_order': False, 'shape': (1, 2), }", i1, 2);
    fault_init(&fault, NULL);
    for (int forever = 0; forever <= 1; forever++) {
        for (uint64_t n = 1; fault_loop(&fault, FAULT_MEMORY, n, forever); n++) {
            annex_status status = read_everything(&fault.env, folder);

            assert_int_equal(status, fault.triggered ? ANNEX_NOMEM : ANNEX_OK);
        }
        for (uint64_t n = 1; fault_loop(&fault, FAULT_IO, n, forever); n++) {
            annex_status status = read_everything(&fault.env, folder);

            /* A file that was only read may fail to close: nothing is lost by that. */
            assert_true(status == ANNEX_OK || (status == ANNEX_IO && fault.triggered));
            failures += status == ANNEX_IO;
        }
    }
    assert_in_range(failures, 20, 1000);
    fault_free(&fault);
    clear_folder();
}

static void write__any_failure__leaves_the_older_file(void **state)
{
    struct fault fault;
    annex_error error;

    (void)state;
    clear_folder();
    fault_init(&fault, NULL);
    for (int target = FAULT_MEMORY; target <= FAULT_IO; target++) {
        assert_int_equal(write_vectors("a.npy", six, 2, 3, ANNEX_F32, NULL), ANNEX_OK);
        for (uint64_t n = 1; fault_loop(&fault, (enum fault_target)target, n, false); n++) {
            annex_status status =
                write_counting(&fault.env, path_to("a.npy"), 2001, 1, ANNEX_F32, &error);

            assert_int_equal(count_files(), 1);
            assert_true(status == ANNEX_OK || status == ANNEX_NOMEM || status == ANNEX_IO);
            if (!fault.triggered) {
                assert_int_equal(status, ANNEX_OK);
            } else if (status != ANNEX_OK && strstr(error.message, "the folder of") == NULL) {
                assert_file("a.npy", "npy", ANNEX_F32, six, 2, 3);
            }
        }
    }
    fault_free(&fault);
    clear_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npy__every_type__is_widened),
        cmocka_unit_test(npy__versions_and_ways_to_write_the_header__are_read),
        cmocka_unit_test(npy__headers_that_are_no_dictionary__are_refused),
        cmocka_unit_test(npy__types_that_are_no_numbers_of_this_machine__are_refused),
        cmocka_unit_test(npy__shapes_that_are_no_rows_of_vectors__are_refused),
        cmocka_unit_test(npy__sizes_that_do_not_fit_the_file__are_refused),
        cmocka_unit_test(fvecs__every_kind__is_read),
        cmocka_unit_test(fvecs__odd_files__are_refused),
        cmocka_unit_test(fvecs__a_row_of_another_dimension__stops_the_reading),
        cmocka_unit_test(fbin__every_kind__is_read),
        cmocka_unit_test(fbin__odd_files__are_refused),
        cmocka_unit_test(open__a_name_that_says_nothing__is_refused_with_the_list),
        cmocka_unit_test(open__a_file_that_is_not_there__is_not_found),
        cmocka_unit_test(folder__its_files__are_read_in_the_order_of_names),
        cmocka_unit_test(folder__files_that_are_not_alike__are_refused),
        cmocka_unit_test(folder__without_vectors__is_refused),
        cmocka_unit_test(folder__a_file_that_changes__stops_the_reading),
        cmocka_unit_test(write_and_read__many_rows__stay_the_same_in_bounded_memory),
        cmocka_unit_test(integers__of_any_rows__are_exact),
        cmocka_unit_test(integers__of_narrow_types_and_between_batches__leave_the_batch_alone),
        cmocka_unit_test(write__npy__is_what_numpy_writes),
        cmocka_unit_test(write__f16__rounds_to_nearest_even),
        cmocka_unit_test(write__every_f16__comes_back),
        cmocka_unit_test(write__values_that_do_not_fit__are_refused_with_row_and_element),
        cmocka_unit_test(write__kinds_formats_and_dimensions_that_do_not_go_together__are_refused),
        cmocka_unit_test(read__any_failure__is_reported_and_leaks_nothing),
        cmocka_unit_test(write__any_failure__leaves_the_older_file),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
