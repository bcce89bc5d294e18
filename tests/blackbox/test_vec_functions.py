"""The functions of sqlite-vec that the entry point sqlite3_annex_vec_init offers.

tools/vec_tests.py runs sqlite-vec's own tests; here are those that they lack."""

import json
import math
import sqlite3
import struct

import numpy
import pytest

from conftest import EXTENSION, VEC
from sql_ask import refusal, value

F32, BIT, INT8, JSON = 223, 224, 225, 74


@pytest.fixture
def db(connect):
    return connect(entry_point=VEC)


def f32(*elements):
    return struct.pack(f"<{len(elements)}f", *elements)


def names(db, kind):
    return {row[0] for row in db.execute(f"SELECT name FROM pragma_{kind}_list")}


# ---- The entry point -----------------------------------------------------------------------------


def test_normal_entry_point__offers_nothing_of_sqlite_vec(connect):
    db = connect()
    assert not {name for name in names(db, "function") if name.startswith("vec_")}
    assert not {"vec0", "vec_each"} & names(db, "module")


def test_entry_point_of_its_own__offers_both(connect):
    db = connect(extension=False)
    db.enable_load_extension(True)
    db.execute("SELECT load_extension(?, ?)", (str(EXTENSION), VEC)).fetchone()
    assert {"annex_search", "vec_each"} <= names(db, "module")
    assert value(db, "annex_distance('l2', '[0]', vec_f32('[2]'))") == 2


def test_loading_again__in_any_order_and_while_in_use__changes_nothing(db):
    db.enable_load_extension(True)
    running = db.execute("SELECT vec_f32(value) FROM json_each('[\"[1]\", \"[2]\"]')")
    assert next(running) == (f32(1),)
    for entry_point in (VEC, "sqlite3_annex_init", VEC):
        value(db, "load_extension(?, ?)", str(EXTENSION), entry_point)
    assert next(running) == (f32(2),)
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    db.execute("INSERT INTO t(v) VALUES (vec_f32('[1, 2]'))")
    value(db, "annex_create('i', 't', 'v')")
    assert db.execute("SELECT distance FROM annex_search('i', '[1, 2]', 1)").fetchall() == [(0,)]


def test_connection_that_has_sqlite_vec__is_refused_and_left_alone(connect):
    db = connect()
    db.create_function("vec_version", 0, lambda: "v0.1.9")
    db.enable_load_extension(True)
    said = refusal(db, "load_extension(?, ?)", str(EXTENSION), VEC)
    assert "sqlite-vec v0.1.9 is already loaded" in said
    assert "vec_each" not in names(db, "module")


def test_versions__name_what_is_emulated_and_who_does(db):
    assert value(db, "vec_version()") == "v0.1.9+annex." + value(db, "annex_version()")
    assert value(db, "vec_debug()").split("\n")[3] == "Build flags: " + value(db, "annex_isa()")


# ---- Reading vectors -----------------------------------------------------------------------------


@pytest.mark.parametrize("text, elements", [
    ("[1,2,3]", [1, 2, 3]),
    (" \n\t\r[ 1 , 2 ]", [1, 2]),
    ("[.5, -.5, +3, 1e2, 5.]", [.5, -.5, 3, 100, 5]),
    ("[1 2,,3,]", [1, 2, 3]),
    ("[1, 2", [1, 2]),
    ("[1] and more", [1]),
    ("[1-2.5.5]", [1, -2.5, .5]),
    ("[0x10]", [16]),
    ("[1e-310, -0.0]", [0, -0.0]),
    ("[16777217, 0.1]", [16777216, 0.1]),
])
def test_json_as_loose_as_sqlite_vec_reads_it__is_read(db, text, elements):
    assert value(db, "vec_f32(?)", text) == f32(*elements)
    assert value(db, "vec_length(?)", text) == len(elements)


@pytest.mark.parametrize("text, sentence", [
    ("", "zero-length vectors are not supported."),
    ("[]", "zero-length vectors are not supported."),
    ("[", "zero-length vectors are not supported."),
    ("1]", "JSON array parsing error: Input does not start with '['"),
    (" ", "JSON array parsing error: Input does not start with '['"),
    ("\0[1]", "JSON array parsing error: Input does not start with '['"),
    ("[,1]", "JSON parsing error"),
    ("[ ]", "JSON parsing error"),
    ("[1;2]", "JSON parsing error"),
    ("[1\0002]", "JSON parsing error"),
    ("[[1]]", "JSON parsing error"),
    ('["1"]', "JSON parsing error"),
    ("[null]", "JSON parsing error"),
    ("[1e400]", "JSON parsing error"),
    ("[1e-400]", "JSON parsing error"),
    ("[0, 1e39]", "invalid float32 vector: element 1 is Inf"),
    ("[-inf]", "invalid float32 vector: element 0 is Inf"),
    ("[nan]", "invalid float32 vector: element 0 is NaN"),
])
def test_json_that_is_no_vector__is_refused_in_the_words_of_sqlite_vec(db, text, sentence):
    assert refusal(db, "vec_f32(?)", text) == sentence
    assert refusal(db, "vec_length(?)", text) == sentence
    assert refusal(db, "vec_add('[1]', ?)", text) == "Error reading 2nd vector: " + sentence


@pytest.mark.parametrize("text, result", [
    ("[127, -128 0]", [127, -128, 0]),
    ("[128]", "JSON parsing error: value out of range for int8"),
    ("[99999999999999999999]", "JSON parsing error"),
    ("[1.5]", "JSON parsing error"),
    ("[x]", "JSON parsing error"),
    ("[]", "zero-length vectors are not supported."),
])
def test_json_of_int8__is_whole_numbers_in_range(db, text, result):
    if isinstance(result, str):
        assert refusal(db, "vec_int8(?)", text) == result
    else:
        assert value(db, "vec_int8(?)", text) == struct.pack(f"{len(result)}b", *result)


@pytest.mark.parametrize("sql, argument, sentence", [
    ("vec_f32(?)", None, "Input must have type BLOB (compact format) or TEXT (JSON), found NULL"),
    ("vec_f32(?)", 1, "Input must have type BLOB (compact format) or TEXT (JSON), found INTEGER"),
    ("vec_type(?)", .5, "Input must have type BLOB (compact format) or TEXT (JSON), found FLOAT"),
    ("vec_int8(?)", None, "Unknown type for int8 vector."),
    ("vec_bit(?)", "[1]", "Unknown type for bitvector."),
    ("vec_f32(?)", b"", "zero-length vectors are not supported."),
    ("vec_int8(?)", b"", "zero-length vectors are not supported."),
    ("vec_bit(?)", b"", "zero-length vectors are not supported."),
    ("vec_f32(?)", b"12345",
     "invalid float32 vector BLOB length. Must be divisible by 4, found 5"),
    ("vec_f32(?)", f32(1, math.nan), "invalid float32 vector: element 1 is NaN"),
    ("vec_f32(?)", f32(-math.inf), "invalid float32 vector: element 0 is Inf"),
])
def test_what_is_no_vector__is_refused_in_the_words_of_sqlite_vec(db, sql, argument, sentence):
    assert refusal(db, sql, argument) == sentence


def test_blob_at_any_address__is_read(db):
    for before in range(8):
        db.execute("CREATE TABLE t(a, v)")
        db.execute("INSERT INTO t VALUES (zeroblob(?), ?)", (before, f32(1, 2, 3)))
        assert value(db, "vec_to_json(v) FROM t") == "[1.000000,2.000000,3.000000]"
        db.execute("DROP TABLE t")


def test_long_json__is_read_whole(db):
    elements = numpy.random.default_rng(1).standard_normal(100_000).astype("<f4")
    assert value(db, "vec_f32(?)", json.dumps(elements.tolist())) == elements.tobytes()


# ---- Types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql, subtype", [
    ("vec_f32('[1]')", F32), ("vec_int8('[1]')", INT8), ("vec_bit(x'01')", BIT),
    ("vec_add('[1]', '[1]')", F32), ("vec_sub(vec_int8('[1]'), vec_int8('[1]'))", INT8),
    ("vec_slice(vec_bit(x'0102'), 8, 16)", BIT), ("vec_normalize('[1]')", F32),
    ("vec_quantize_binary('[1,1,1,1,1,1,1,1]')", BIT),
    ("vec_quantize_int8('[1]', 'unit')", INT8), ("vec_to_json('[1]')", JSON),
    ("vec_length('[1]')", 0),
])
def test_result__has_the_subtype_that_says_what_it_is(db, sql, subtype):
    assert value(db, f"subtype({sql})") == subtype


def test_type__follows_the_subtype_and_is_lost_in_a_table(db):
    assert value(db, "vec_type(vec_int8('[1,2,3,4]'))") == "int8"
    assert value(db, "vec_type(vec_bit(x'00'))") == "bit"
    assert value(db, "vec_type(json_array(1, 2))") == "float32"
    db.execute("CREATE TABLE t AS SELECT vec_int8('[0,0,0,0]') AS v")
    assert value(db, "vec_type(v) FROM t") == "float32"
    assert value(db, "vec_length(vec_int8(v)) FROM t") == 4


def test_two_types_or_dimensions__do_not_mix(db):
    assert refusal(db, "vec_distance_l2('[1]', vec_int8('[1]'))") == (
        "Vector type mistmatch. First vector has type float32, while the second has type int8.")
    assert refusal(db, "vec_add(vec_bit(x'01'), vec_bit(x'0102'))") == (
        "Vector dimension mistmatch. First vector has 8 dimensions, while the second has 16 "
        "dimensions.")


@pytest.mark.parametrize("sql, sentence", [
    ("vec_distance_l2(vec_bit(x'01'), vec_bit(x'01'))",
     "Cannot calculate L2 distance between two bitvectors."),
    ("vec_distance_l1(vec_bit(x'01'), vec_bit(x'01'))",
     "Cannot calculate L1 distance between two bitvectors."),
    ("vec_distance_cosine(vec_bit(x'01'), vec_bit(x'01'))",
     "Cannot calculate cosine distance between two bitvectors."),
    ("vec_distance_hamming('[1]', '[1]')",
     "Cannot calculate hamming distance between two float32 vectors."),
    ("vec_distance_hamming(vec_int8('[1]'), vec_int8('[1]'))",
     "Cannot calculate hamming distance between two int8 vectors."),
    ("vec_add(vec_bit(x'01'), vec_bit(x'01'))", "Cannot add two bitvectors together."),
    ("vec_sub(vec_bit(x'01'), vec_bit(x'01'))", "Cannot subtract two bitvectors together."),
    ("vec_normalize(vec_int8('[1]'))", "only float32 vectors are supported when normalizing"),
    ("vec_quantize_binary(vec_bit(x'01'))", "Can only binary quantize float or int8 vectors"),
    ("vec_quantize_binary('[1]')",
     "Binary quantization requires vectors with a length divisible by 8"),
    ("vec_quantize_int8('[1]', 'minmax')",
     "2nd argument to vec_quantize_int8() must be 'unit'."),
    ("vec_quantize_int8('[1]', NULL)", "2nd argument to vec_quantize_int8() must be 'unit'."),
])
def test_what_a_type_does_not_have__is_refused_in_the_words_of_sqlite_vec(db, sql, sentence):
    assert refusal(db, sql) == sentence


# ---- Results -------------------------------------------------------------------------------------


def test_sums_of_int8__wrap_around(db):
    assert value(db, "vec_add(vec_int8('[127]'), vec_int8('[1]'))") == b"\x80"
    assert value(db, "vec_sub(vec_int8('[-128]'), vec_int8('[1]'))") == b"\x7f"


@pytest.mark.parametrize("start, end, sentence", [
    (0, 2**40, "slice 'end' index is greater than the number of dimensions"),
    (-2**40, 1, "slice 'start' index must be a postive number."),
    (2, 1, "slice 'start' index is greater than 'end' index"),
    (1, 8, "start index must be divisible by 8."),
])
def test_bounds_of_a_slice__are_checked(db, start, end, sentence):
    assert refusal(db, "vec_slice(vec_bit(x'0102'), ?, ?)", start, end) == sentence


def test_quantized_to_int8__is_the_unit_range_cut_off_beyond(db):
    got = value(db, "vec_quantize_int8('[-5, -1, -0.5, 0, 0.5, 1, 5]', 'UNIT')")
    assert struct.unpack("7b", got) == (-128, -128, -64, 0, 63, 126, 127)


def test_quantized_to_bits__says_which_are_positive(db):
    assert value(db, "vec_quantize_binary('[1, 0, -1, 2, -2, -0.0, 1e-30, 3]')") == b"\xc9"
    assert value(db, "vec_quantize_binary(vec_int8('[1, 0, -1, 2, -2, 0, 1, 3]'))") == b"\xc9"


def test_json_of_a_vector__nests_in_json(db):
    assert value(db, "json_object('v', vec_to_json('[1, -0.5]'))") == '{"v":[1.000000,-0.500000]}'
    assert value(db, "vec_to_json(vec_bit(x'0f'))") == "[1,1,1,1,0,0,0,0]"


# ---- Distances -----------------------------------------------------------------------------------


def exact(metric, a, b):
    a, b = a.astype(float), b.astype(float)
    if metric == "l2":
        return math.sqrt(((a - b) ** 2).sum())
    if metric == "l1":
        return abs(a - b).sum()
    return 1 - (a @ b) / math.sqrt((a @ a) * (b @ b))


@pytest.mark.isa
@pytest.mark.parametrize("metric", ["l2", "l1", "cosine"])
@pytest.mark.parametrize("dimension", [1, 3, 16, 17, 768, 65535, 65536])
def test_distance__is_that_of_numpy(db, metric, dimension):
    rng = numpy.random.default_rng(dimension)
    a, b = rng.standard_normal((2, dimension)).astype("<f4")
    got = value(db, f"vec_distance_{metric}(?, ?)", a.tobytes(), b.tobytes())
    assert got == pytest.approx(exact(metric, a, b), rel=1e-5, abs=1e-6)
    a, b = rng.integers(-128, 128, (2, dimension), "i1")
    got = value(db, f"vec_distance_{metric}(vec_int8(?), vec_int8(?))", a.tobytes(), b.tobytes())
    assert got == pytest.approx(exact(metric, a, b), rel=1e-5, abs=1e-6)
    assert isinstance(got, int if metric == "l1" else float)


@pytest.mark.isa
@pytest.mark.parametrize("size", [1, 7, 8, 96, 8191, 8192, 100_000])
def test_hamming_distance__counts_bits(db, size):
    a, b = numpy.random.default_rng(size).bytes(size), numpy.random.default_rng(0).bytes(size)
    differing = bin(int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).count("1")
    assert value(db, "vec_distance_hamming(vec_bit(?), vec_bit(?))", a, b) == differing


def test_vectors_whose_squares_no_f32_holds__have_a_distance(db):
    assert value(db, "vec_distance_l2('[1e30, 0]', '[0, 1e30]')") == pytest.approx(2**.5 * 1e30)
    assert value(db, "vec_distance_l2('[3e38]', '[-3e38]')") == pytest.approx(6e38)
    assert value(db, "vec_distance_l1('[3e38]', '[-3e38]')") == pytest.approx(6e38)
    assert value(db, "vec_distance_cosine('[1e30, 0]', '[0, 1e30]')") == 1


def test_zero_vector_under_cosine__has_no_distance(db):
    assert value(db, "vec_distance_cosine('[0, 0]', '[1, 2]')") is None
    assert value(db, "vec_distance_cosine(vec_int8('[1]'), vec_int8('[0]'))") is None


def test_distances_of_a_whole_table_to_one_text__are_each_right(db):
    rows = numpy.random.default_rng(2).standard_normal((500, 24)).astype("<f4")
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    db.executemany("INSERT INTO t(v) VALUES (?)", [(row.tobytes(),) for row in rows])
    found = db.execute("SELECT id FROM t ORDER BY vec_distance_L2(v, ?)",
                       (json.dumps(rows[7].tolist()),)).fetchall()
    nearest = numpy.argsort(((rows - rows[7]) ** 2).sum(axis=1)) + 1
    assert [row[0] for row in found] == nearest.tolist()


# ---- vec_each ------------------------------------------------------------------------------------


def test_each__gives_a_row_for_each_element(db):
    rows = db.execute("SELECT rowid, value FROM vec_each('[1, 2.5]')").fetchall()
    assert rows == [(0, 1), (1, 2.5)]
    rows = db.execute("SELECT value FROM vec_each(vec_int8(x'01ff'))").fetchall()
    assert rows == [(1,), (-1,)]


def test_each_of_bits__begins_with_the_highest_as_in_sqlite_vec(db):
    rows = db.execute("SELECT value FROM vec_each(vec_bit(x'81c0'))").fetchall()
    assert [row[0] for row in rows] == [1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_each_joined_to_the_rows_of_a_table__reads_each_vector(db):
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    db.execute("INSERT INTO t(v) VALUES (vec_f32('[1,2]')), (vec_f32('[3]')), ('[4, 5]')")
    sums = db.execute("SELECT id, sum(value) FROM t, vec_each(t.v) GROUP BY id").fetchall()
    assert sums == [(1, 3), (2, 3), (3, 9)]
    products = db.execute("SELECT sum(a.value * b.value) FROM vec_each('[1, 2]') AS a"
                          " JOIN vec_each('[3, 4]') AS b ON a.rowid = b.rowid").fetchone()
    assert products == (11,)


def test_each_of_no_vector__says_what_is_wrong(db):
    with pytest.raises(sqlite3.OperationalError, match="found NULL"):
        db.execute("SELECT * FROM vec_each(NULL)").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="no query solution"):
        db.execute("SELECT * FROM vec_each")


# ---- Where they may be used ----------------------------------------------------------------------


def test_functions__serve_in_generated_columns_indexes_and_triggers(db):
    db.execute("PRAGMA trusted_schema = 0")
    db.execute("CREATE TABLE t(j TEXT, v BLOB GENERATED ALWAYS AS (vec_f32(j)) STORED, n)")
    db.execute("CREATE INDEX dimensions ON t(vec_length(j))")
    db.execute("CREATE TRIGGER count AFTER INSERT ON t BEGIN UPDATE t SET n ="
               " (SELECT count(*) FROM vec_each(new.j)) WHERE rowid = new.rowid; END")
    db.execute("INSERT INTO t(j) VALUES ('[3,4]'), ('[6,8,9]')")
    assert db.execute("SELECT v, n FROM t WHERE vec_length(j) = 2").fetchall() == [(f32(3, 4), 2)]
