/*
 * test_file_read.c - files of vectors of every kind are read, and every odd one is refused with a
 * sentence. HDF5 is in test_file_hdf5.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/base.h"
#include "fault.h"
#include "vector_files.h"

/* ---- npy --------------------------------------------------------------------------------------*/

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
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(2, 3)"), fractions, sizeof fractions);
    files_assert_rows("a.npy", "npy", ANNEX_F32, fractions, 2, 3);
    memcpy(expected, fractions, sizeof expected);
    expected[3] = 0x1.998p-4f;
    files_put_npy("a.npy", 1, NPY_HEADER("<f2", "(2, 3)"), f2, sizeof f2);
    files_assert_rows("a.npy", "npy", ANNEX_F16, expected, 2, 3);
    files_put_npy("a.npy", 1, NPY_HEADER("<f8", "(2, 3)"), f8, sizeof f8);
    files_assert_rows("a.npy", "npy", ANNEX_F64, files_six, 2, 3);
    files_put_npy("a.npy", 1, NPY_HEADER("|i1", "(2, 3)"), i1, sizeof i1);
    files_assert_rows("a.npy", "npy", ANNEX_I8, files_six, 2, 3);
    memcpy(expected, files_six, sizeof expected);
    expected[1] = 254;
    files_put_npy("a.npy", 1, NPY_HEADER("|u1", "(2, 3)"), u1, sizeof u1);
    files_assert_rows("a.npy", "npy", ANNEX_U8, expected, 2, 3);
    files_put_npy("a.npy", 1, NPY_HEADER("<i4", "(2, 3)"), i4, sizeof i4);
    files_assert_rows("a.npy", "npy", ANNEX_FORMAT_AUTO, files_six, 2, 3);
    expected[1] = 4294967296.0f;
    files_put_npy("a.npy", 1, NPY_HEADER("<u4", "(2, 3)"), u4, sizeof u4);
    files_assert_rows("a.npy", "npy", ANNEX_FORMAT_AUTO, expected, 2, 3);
    files_put_npy("a.npy", 1, NPY_HEADER("<i8", "(2, 3)"), i8, sizeof i8);
    files_assert_rows("a.npy", "npy", ANNEX_FORMAT_AUTO, files_six, 2, 3);
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
            files_put_npy("a.npy", version, headers[i], files_six, sizeof files_six);
            files_assert_rows("a.npy", "npy", ANNEX_F32, files_six, 2, 3);
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
        files_put_npy("a.npy", 1, headers[i], files_six, sizeof files_six);
        files_assert_refused("a.npy", ANNEX_DAMAGED, "is not a dictionary of descr, fortran_order");
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
        files_put_npy("a.npy", 1, header, files_six, sizeof files_six);
        files_assert_refused("a.npy", ANNEX_UNSUPPORTED, cases[i].message);
    }
}

static void npy__integers_in_one_dimension__are_a_row_each(void **state)
{
    (void)state;
    static const int64_t keys[] = {7, -1, INT64_MAX};
    int64_t read[2] = {0};
    annex_reader *reader;
    annex_reader_info info;

    files_put_npy("a.npy", 1, NPY_HEADER("<i8", "(3,)"), keys, sizeof keys);
    reader = files_open("a.npy");
    annex_reader_describe(reader, &info);
    assert_int_equal(info.rows, 3);
    assert_int_equal(info.dimension, 1);
    assert_int_equal(annex_reader_integers(reader, 1, 2, read, NULL), ANNEX_OK);
    assert_true(read[0] == -1 && read[1] == INT64_MAX);
    annex_reader_close(reader);
}

static void npy__shapes_that_are_no_rows_of_vectors__are_refused(void **state)
{
    (void)state;
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "()"), files_six, 4);
    files_assert_refused("a.npy", ANNEX_INVALID, "an array of no dimensions");
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(6,)"), files_six, sizeof files_six);
    files_assert_refused("a.npy", ANNEX_INVALID, "an array of one dimension");
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(1, 2, 3)"), files_six, sizeof files_six);
    files_assert_refused("a.npy", ANNEX_INVALID, "an array of three or more dimensions");
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(1, 1, 1, 2, 3)"), files_six, sizeof files_six);
    files_assert_refused("a.npy", ANNEX_INVALID, "an array of three or more dimensions");
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(6, 0)"), files_six, 0);
    files_assert_refused("a.npy", ANNEX_INVALID, "rows of 0 elements; a vector has 1 to 65535");
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(1, 65536)"), files_six, sizeof files_six);
    files_assert_refused("a.npy", ANNEX_INVALID, "rows of 65536 elements");
    files_put_npy("a.npy", 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }",
                  files_six, 24);
    files_assert_refused("a.npy", ANNEX_UNSUPPORTED, "column after column (Fortran order)");
}

static void npy__sizes_that_do_not_fit_the_file__are_refused(void **state)
{
    (void)state;
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(2, 3)"), files_six, 23);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "2 rows of 3 f32, as its header says, need");
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(1, 3)"), files_six, sizeof files_six);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "it is of another kind, or files were joined");
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(18446744073709551615, 65535)"), files_six,
                  sizeof files_six);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "it is cut off");
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(4611686018427387905, 1)"), files_six,
                  sizeof files_six);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "it is cut off");
    files_put("a.npy", "", 0);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "is not a NumPy array file: it has 0 bytes only");
    files_put("a.npy", "PK\3\4 this is a .npz", 19);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "does not begin with \\x93NUMPY");
    files_put("a.npy", "\x93NUMPY\1\0", 8);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "is cut off: it ends after 8 bytes");
    files_put("a.npy", "\x93NUMPY\2\0\1\0\0", 11);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "is cut off");
    files_put("a.npy", "\x93NUMPY\1\0\x76\0{", 11);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "says that its header has 118");
    files_put("a.npy", "\x93NUMPY\2\0\xff\xff\xff\xff{", 13);
    files_assert_refused("a.npy", ANNEX_DAMAGED, "says that its header has 4294967295");
    files_put("a.npy", "\x93NUMPY\4\0\1\0\0\0{", 13);
    files_assert_refused("a.npy", ANNEX_UNSUPPORTED, "of version 4");
}

/* ---- fvecs, fbin ------------------------------------------------------------------------------*/

static void fvecs__every_kind__is_read(void **state)
{
    static const uint32_t f32[] = {2, 0x3f800000, 0xc0000000, 2, 0x40400000, 0x40800000};
    static const unsigned char u8[] = {2, 0, 0, 0, 1, 255, 2, 0, 0, 0, 3, 4};
    static const int32_t i32[] = {2, 1, -2, 2, 3, 4};
    static const float wide[] = {1, 255, 3, 4};

    (void)state;
    files_put("a.fvecs", f32, sizeof f32);
    files_assert_rows("a.fvecs", "fvecs", ANNEX_F32, files_six, 2, 2);
    files_put("a.bvecs", u8, sizeof u8);
    files_assert_rows("a.bvecs", "bvecs", ANNEX_U8, wide, 2, 2);
    files_put("a.ivecs", i32, sizeof i32);
    files_assert_rows("a.ivecs", "ivecs", ANNEX_FORMAT_AUTO, files_six, 2, 2);
}

static void fvecs__odd_files__are_refused(void **state)
{
    static const uint32_t file[] = {2, 0, 0, 2, 0, 0};
    static const uint32_t none[] = {0, 0};
    static const uint32_t negative[] = {0xffffffff, 0};
    static const uint32_t wide[] = {65536, 0};

    (void)state;
    files_put("a.fvecs", "", 0);
    files_assert_refused("a.fvecs", ANNEX_INVALID, "is empty");
    files_put("a.fvecs", file, 3);
    files_assert_refused("a.fvecs", ANNEX_DAMAGED, "is cut off: it ends after 3 bytes");
    files_put("a.fvecs", file, 23);
    files_assert_refused("a.fvecs", ANNEX_DAMAGED,
                         "23 bytes, which is no multiple of a row: 2 f32, as");
    files_put("a.fvecs", none, sizeof none);
    files_assert_refused("a.fvecs", ANNEX_INVALID, "rows of 0 elements");
    files_put("a.fvecs", negative, sizeof negative);
    files_assert_refused("a.fvecs", ANNEX_INVALID, "rows of 4294967295 elements");
    files_put("a.fvecs", wide, sizeof wide);
    files_assert_refused("a.fvecs", ANNEX_INVALID, "rows of 65536 elements");
}

static void fvecs__a_row_of_another_dimension__stops_the_reading(void **state)
{
    static const uint32_t file[] = {2, 0, 0, 2, 0, 0, 1, 0, 0};
    annex_reader *reader;
    annex_rows rows;
    annex_batch batch;
    annex_error error;

    (void)state;
    files_put("a.fvecs", file, sizeof file);
    reader = files_open("a.fvecs");
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
    files_put("a.fbin", f32, sizeof f32);
    files_assert_rows("a.fbin", "fbin", ANNEX_F32, files_six, 2, 2);
    files_put("a.u8bin", bytes, sizeof bytes);
    files_assert_rows("a.u8bin", "u8bin", ANNEX_U8, wide, 2, 2);
    files_put("a.i8bin", bytes, sizeof bytes);
    files_assert_rows("a.i8bin", "i8bin", ANNEX_I8, files_six, 2, 2);
}

static void fbin__odd_files__are_refused(void **state)
{
    static const uint32_t file[] = {2, 2, 0, 0, 0, 0, 0};
    static const uint32_t no_columns[] = {2, 0};
    static const uint32_t huge[] = {0xffffffff, 65535, 0};

    (void)state;
    files_put("a.fbin", file, 7);
    files_assert_refused("a.fbin", ANNEX_DAMAGED, "is cut off: it ends after 7 bytes");
    files_put("a.fbin", file, 20);
    files_assert_refused("a.fbin", ANNEX_DAMAGED,
                         "20 bytes, but 2 rows of 2 f32, as its header says");
    files_put("a.fbin", file, 28);
    files_assert_refused("a.fbin", ANNEX_DAMAGED, "need 24: it is of another kind");
    files_put("a.fbin", no_columns, sizeof no_columns);
    files_assert_refused("a.fbin", ANNEX_INVALID, "rows of 0 elements");
    files_put("a.fbin", huge, sizeof huge);
    files_assert_refused("a.fbin", ANNEX_DAMAGED, "it is cut off");
}

/* ---- Names and folders ------------------------------------------------------------------------*/

static void open__a_name_that_says_nothing__is_refused_with_the_list(void **state)
{
    (void)state;
    files_put("vectors.txt", "1", 1);
    files_assert_refused("vectors.txt", ANNEX_UNSUPPORTED, "ends in .npy, .fvecs");
    files_put("npy", "1", 1);
    files_assert_refused("npy", ANNEX_UNSUPPORTED, "ends in .npy, .fvecs");
}

static void open__a_file_that_is_not_there__is_not_found(void **state)
{
    (void)state;
    files_assert_refused("missing.npy", ANNEX_NOT_FOUND, "missing.npy");
    files_assert_refused("missing.hdf5", ANNEX_NOT_FOUND, "missing.hdf5");
}

static void folder__its_files__are_read_in_the_order_of_names(void **state)
{
    static const float expected[] = {5, 6, 1, 2, 3, 4, 7, 8};

    (void)state;
    files_clear();
    files_put_npy("b.npy", 1, NPY_HEADER("<f4", "(2, 2)"), expected + 2, 16);
    files_put_npy("a10.npy", 1, NPY_HEADER("<f4", "(1, 2)"), expected, 8);
    files_put_npy("a2.npy", 1, NPY_HEADER("<f4", "(0, 2)"), expected, 0);
    files_put_npy("c.npy", 1, NPY_HEADER("<f4", "(1, 2)"), expected + 6, 8);
    files_put_npy(".hidden.npy", 1, NPY_HEADER("<f4", "(6,)"), files_six, sizeof files_six);
    files_put("a.fvecs", "", 0);
    files_put("README", "not vectors", 11);
    files_put("metadata.json", "{}", 2);
    assert_int_equal(mkdir(files_path("x.npy"), 0700), 0);
    files_assert_rows(".", "npy", ANNEX_F32, expected, 4, 2);
    files_assert_rows("./", "npy", ANNEX_F32, expected, 4, 2);
    files_clear();
}

static void folder__files_that_are_not_alike__are_refused(void **state)
{
    static const uint32_t fvecs[] = {2, 0, 0};
    static const int8_t i1[] = {1, 2};

    (void)state;
    files_clear();
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(1, 2)"), files_six, 8);
    files_put_npy("b.npy", 1, NPY_HEADER("<f4", "(1, 3)"), files_six, 12);
    files_assert_refused(".", ANNEX_INVALID,
                         "b.npy is npy with 3 f32 a row, and files before it are npy");
    files_put_npy("b.npy", 1, NPY_HEADER("|i1", "(1, 2)"), i1, 2);
    files_assert_refused(".", ANNEX_INVALID, "b.npy is npy with 2 i8 a row");
    remove(files_path("b.npy"));
    files_put("b.fvecs", fvecs, sizeof fvecs);
    files_assert_refused(".", ANNEX_INVALID, "b.fvecs is fvecs with 2 f32 a row");
    files_put("b.fvecs", fvecs, 5);
    files_assert_refused(".", ANNEX_DAMAGED, "b.fvecs has 5 bytes");
    files_clear();
}

static void folder__without_vectors__is_refused(void **state)
{
    (void)state;
    files_clear();
    files_assert_refused(".", ANNEX_NOT_FOUND, "holds no files of vectors");
    files_put("b.fvecs", "", 0);
    files_put("c.bvecs", "", 0);
    files_assert_refused(".", ANNEX_INVALID, "is empty");
    files_clear();
}

static void folder__a_file_that_changes__stops_the_reading(void **state)
{
    annex_reader *reader;
    annex_rows rows;
    annex_batch batch;
    annex_error error;

    (void)state;
    files_clear();
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(1, 2)"), files_six, 8);
    files_put_npy("b.npy", 1, NPY_HEADER("<f4", "(1, 2)"), files_six, 8);
    reader = files_open(".");
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(2, 2)"), files_six, 16);
    rows = annex_reader_rows(reader);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rows.next(rows.context, &batch, &error), ANNEX_INVALID);
        assert_non_null(strstr(error.message, "a.npy changed while it was read"));
    }
    /* Another type of the same size. */
    files_put_npy("a.npy", 1, NPY_HEADER("<i4", "(1, 2)"), files_six, 8);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rows.next(rows.context, &batch, &error), ANNEX_INVALID);
    }
    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(1, 2)"), files_six, 8);
    assert_int_equal(rows.next(rows.context, &batch, &error), ANNEX_OK);
    assert_int_equal(batch.n, 1);
    annex_reader_close(reader);
    files_clear();
}

static void open__no_rows__are_read_as_none(void **state)
{
    static const uint32_t fbin[] = {0, 2};

    (void)state;
    files_clear();
    files_put_npy("a.npy", 1, NPY_HEADER("<f2", "(0, 3)"), files_six, 0);
    files_assert_rows("a.npy", "npy", ANNEX_F16, files_six, 0, 3);
    files_assert_rows(".", "npy", ANNEX_F16, files_six, 0, 3);
    files_put("a.fbin", fbin, sizeof fbin);
    files_assert_rows("a.fbin", "fbin", ANNEX_F32, files_six, 0, 2);
    files_clear();
}

/* ---- Integers ---------------------------------------------------------------------------------*/

static void integers__of_any_rows__are_exact(void **state)
{
    static const int64_t i8[] = {1, -2, INT64_MAX, INT64_MIN, 5, 6};
    static const int32_t ivecs[] = {3, 1, -2, INT32_MAX, 3, INT32_MIN, 5, 6};
    annex_reader *reader;
    annex_error error;
    int64_t values[6];

    (void)state;
    files_put_npy("a.npy", 1, NPY_HEADER("<i8", "(2, 3)"), i8, sizeof i8);
    reader = files_open("a.npy");
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

    files_put("a.ivecs", ivecs, sizeof ivecs);
    reader = files_open("a.ivecs");
    assert_int_equal(annex_reader_integers(reader, 0, 2, values, NULL), ANNEX_OK);
    assert_true(values[0] == 1 && values[2] == INT32_MAX && values[3] == INT32_MIN);
    annex_reader_close(reader);

    files_put_npy("a.npy", 1, NPY_HEADER("<f4", "(2, 3)"), files_six, sizeof files_six);
    reader = files_open("a.npy");
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
    files_clear();
    files_put_npy("a.npy", 1, NPY_HEADER("|u1", "(2, 2)"), u1, sizeof u1);
    files_put_npy("b.npy", 1, NPY_HEADER("|u1", "(1, 2)"), u1, 2);
    reader = files_open(".");
    rows = annex_reader_rows(reader);
    assert_int_equal(rows.next(rows.context, &batch, NULL), ANNEX_OK);
    assert_int_equal(batch.n, 2);
    assert_int_equal(annex_reader_integers(reader, 1, 2, values, NULL), ANNEX_OK);
    assert_true(values[0] == 3 && values[1] == 4 && values[2] == 1 && values[3] == 254);
    assert_true(((const float *)batch.vectors)[1] == 254);
    assert_int_equal(rows.next(rows.context, &batch, NULL), ANNEX_OK);
    assert_true(batch.n == 1 && ((const float *)batch.vectors)[1] == 254);
    annex_reader_close(reader);
    files_clear();

    files_put_npy("a.npy", 1, NPY_HEADER("|i1", "(2, 2)"), i1, sizeof i1);
    reader = files_open("a.npy");
    assert_int_equal(annex_reader_integers(reader, 0, 2, values, NULL), ANNEX_OK);
    assert_true(values[1] == -2);
    annex_reader_close(reader);
    files_put_npy("a.npy", 1, NPY_HEADER("<u4", "(2, 2)"), u4, sizeof u4);
    reader = files_open("a.npy");
    assert_int_equal(annex_reader_integers(reader, 0, 2, values, NULL), ANNEX_OK);
    assert_true(values[1] == 4294967295);
    annex_reader_close(reader);
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
    files_clear();
    files_put_npy("a.npy", 1, NPY_HEADER("|i1", "(2, 2)"), i1, 4);
    files_put_npy("b.npy", 1, NPY_HEADER("|i1", "(1, 2)"), i1, 2);
    fault_init(&fault, NULL);
    for (int forever = 0; forever <= 1; forever++) {
        for (uint64_t n = 1; fault_loop(&fault, FAULT_MEMORY, n, forever); n++) {
            annex_status status = read_everything(&fault.env, files_folder());

            assert_int_equal(status, fault.triggered ? ANNEX_NOMEM : ANNEX_OK);
        }
        for (uint64_t n = 1; fault_loop(&fault, FAULT_IO, n, forever); n++) {
            annex_status status = read_everything(&fault.env, files_folder());

            /* A file that was only read may fail to close: nothing is lost by that. */
            assert_true(status == ANNEX_OK || (status == ANNEX_IO && fault.triggered));
            failures += status == ANNEX_IO;
        }
    }
    assert_in_range(failures, 20, 1000);
    fault_free(&fault);
    files_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npy__every_type__is_widened),
        cmocka_unit_test(npy__versions_and_ways_to_write_the_header__are_read),
        cmocka_unit_test(npy__headers_that_are_no_dictionary__are_refused),
        cmocka_unit_test(npy__types_that_are_no_numbers_of_this_machine__are_refused),
        cmocka_unit_test(npy__integers_in_one_dimension__are_a_row_each),
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
        cmocka_unit_test(open__no_rows__are_read_as_none),
        cmocka_unit_test(folder__a_file_that_changes__stops_the_reading),
        cmocka_unit_test(integers__of_any_rows__are_exact),
        cmocka_unit_test(integers__of_narrow_types_and_between_batches__leave_the_batch_alone),
        cmocka_unit_test(read__any_failure__is_reported_and_leaks_nothing),
    };

    return cmocka_run_group_tests(tests, files_set_up, files_tear_down);
}
