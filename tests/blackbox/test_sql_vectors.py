"""The SQL functions that need no index: annex_distance, annex_encode and annex_decode."""

import json
import math

import numpy
import pytest

from sql_ask import refusal, value

pytestmark = pytest.mark.isa


@pytest.fixture
def db(connect):
    return connect()


def reference(metric, a, b):
    a, b = a.astype(numpy.float64), b.astype(numpy.float64)
    if metric == "l2":
        return math.sqrt(((a - b) ** 2).sum())
    if metric == "ip":
        return -float(a @ b)
    if metric == "cosine":
        return 1 - float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    return float(abs(a - b).sum())


# ---- annex_distance ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine", "l1"])
@pytest.mark.parametrize("dimension", [1, 3, 16, 17, 384, 1000])
def test_distance_of_blobs__is_that_of_numpy(db, metric, dimension):
    rng = numpy.random.default_rng(dimension)
    a, b = rng.standard_normal((2, dimension)).astype("<f4")
    got = value(db, "annex_distance(?, ?, ?)", metric, a.tobytes(), b.tobytes())
    assert got == pytest.approx(reference(metric, a, b), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name, same_as", [
    ("euclidean", "l2"), ("angular", "cosine"), ("dot", "ip"), ("manhattan", "l1"),
])
def test_other_name_of_a_metric__is_the_same_metric(db, name, same_as):
    sql = "annex_distance(?, '[1,2]', '[3,5]')"
    assert value(db, sql, name) == value(db, sql, same_as)


def test_blob_and_json__are_mixed_freely(db):
    blob = numpy.array([3, 4], "<f4").tobytes()
    assert value(db, "annex_distance('l2', '[0, 0]', ?)", blob) == 5
    assert value(db, "annex_distance('l2', ?, ' [0,\n0] ')", blob) == 5


@pytest.mark.parametrize("format, dtype", [
    ("f16", "<f2"), ("f64", "<f8"), ("i8", "i1"), ("u8", "u1"),
])
def test_format_of_the_blobs__is_the_fourth_argument(db, format, dtype):
    a, b = numpy.array([[1, 2, 3], [4, 6, 3]], dtype)
    assert value(db, "annex_distance('l2', ?, ?, ?)", a.tobytes(), b.tobytes(), format) == 5


def test_bits__compare_as_blobs_and_as_json(db):
    assert value(db, "annex_distance('hamming', x'ff00', x'0f01')") == 5
    assert value(db, "annex_distance('hamming', '[1,0,1]', '[0,0,1]')") == 1
    assert value(db, "annex_distance('hamming', '[1,0,1]', x'01')") == 1
    assert value(db, "annex_distance('jaccard', x'07', x'0e')") == 0.5
    assert value(db, "annex_distance('jaccard', x'00', x'00')") == 0


def test_null__gives_null(db):
    assert value(db, "annex_distance('l2', NULL, '[1]')") is None
    assert value(db, "annex_distance('l2', '[1]', NULL)") is None


def test_zero_vector_under_cosine__has_no_distance(db):
    assert value(db, "annex_distance('cosine', '[0,0]', '[1,0]')") is None


def test_constant_json_argument_over_many_rows__gives_the_same_as_a_blob(db):
    rng = numpy.random.default_rng(5)
    rows = rng.standard_normal((200, 8)).astype("<f4")
    query = rng.standard_normal(8).astype("<f4")
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
    db.executemany("INSERT INTO t(v) VALUES (?)", [(r.tobytes(),) for r in rows])
    sql = "SELECT annex_distance('l2', v, ?) FROM t ORDER BY id"
    from_blob = db.execute(sql, [query.tobytes()]).fetchall()
    assert db.execute(sql, [json.dumps(query.tolist())]).fetchall() == from_blob
    # The metric, and with it the meaning of the constant, may change from row to row.
    mixed = ("SELECT annex_distance(iif(id % 2, 'hamming', 'l2'), '[1,0,1]', '[0,0,1]')"
             " FROM t WHERE id <= 4 ORDER BY id")
    assert [d for (d,) in db.execute(mixed)] == [1, 1, 1, 1]


@pytest.mark.parametrize("sql, sentence", [
    ("annex_distance('l2', '[1,2]', '[1,2,3]')", "2 elements and the second 3"),
    ("annex_distance('l2', x'0000803f', '[1,2]')", "1 elements and the second 2"),
    ("annex_distance('hamming', '[1,0]', '[1,0,1]')", "2 elements and the second 3"),
    ("annex_distance('hamming', x'ff', x'ffff')", "8 elements and the second 16"),
    ("annex_distance('l3', '[1]', '[1]')", 'no metric "l3"'),
    ("annex_distance(NULL, '[1]', '[1]')", "metric must be text, not NULL"),
    ("annex_distance(2, '[1]', '[1]')", "metric must be text, not an integer"),
    ("annex_distance('l2', 5, '[1]')", "blob or a JSON array"),
    ("annex_distance('l2', '[1]', 1.5)", "blob or a JSON array"),
    ("annex_distance('l2', x'000000', '[1]')", "3 bytes is not a vector of f32"),
    ("annex_distance('l2', x'0000c07f', '[1]')", "element 0"),
    ("annex_distance('l2', x'0000807f', '[1]')", "element 0"),
    ("annex_distance('l2', '[1,[2]]', '[1,2]')", "element 1"),
    ("annex_distance('l2', '[1,NaN]', '[1,2]')", "element 1"),
    ("annex_distance('l2', '{}', '[1,2]')", "JSON array"),
    ("annex_distance('hamming', '[0,2]', x'01')", "element 1 of the vector is 2"),
    ("annex_distance('l2', x'00', x'00', 'q8')", 'no vector format "q8"'),
    ("annex_distance('l2', x'00', x'00', 'json')", "not a format of blobs"),
    ("annex_distance('l2', '[1]')", "wrong number of arguments"),
])
def test_bad_argument_of_distance__is_refused_in_one_sentence(db, sql, sentence):
    assert sentence in refusal(db, sql)


# ---- annex_encode, annex_decode ------------------------------------------------------------------


def test_encode__gives_little_endian_f32(db):
    encoded = numpy.array([1, -2.5, 3e-4], "<f4").tobytes()
    assert value(db, "annex_encode('[1, -2.5, 3e-4]')") == encoded
    assert value(db, "annex_encode('[]')") == b""


@pytest.mark.parametrize("format, dtype", [("f16", "<f2"), ("f32", "<f4"), ("f64", "<f8")])
def test_encode_to_floats__rounds_as_numpy_does(db, format, dtype):
    rng = numpy.random.default_rng(3)
    exponents = rng.integers(-26, 16, 2000)
    numbers = (rng.uniform(-2, 2, 2000) * 2.0 ** exponents).astype("<f4")
    numbers = numbers[abs(numbers) < 65504]
    # The middle between two neighbours of f16, where a tie goes to the even one.
    ties = numpy.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 2.0**-25, 3 * 2.0**-25, 65519], "<f4")
    numbers = numpy.concatenate([numbers, ties, -ties])
    got = value(db, "annex_encode(?, ?)", json.dumps(numbers.tolist()), format)
    assert got == numbers.astype(dtype).tobytes()


def test_encode_to_bf16__rounds_to_nearest_even(db):
    numbers = numpy.array([1, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -3.14159, 1e38, 0], "<f4")
    blob = value(db, "annex_encode(?, 'bf16')", json.dumps(numbers.tolist()))
    got = numpy.frombuffer(blob, "<u2")
    widened = (got.astype("<u4") << 16).view("<f4")
    assert widened.tolist()[:3] == [1, 1, 1 + 2.0**-6]
    assert widened == pytest.approx(numbers, rel=2.0**-8)


def test_encode_to_integers_and_bits__keeps_them(db):
    assert value(db, "annex_encode('[-128, 0, 127]', 'i8')") == b"\x80\x00\x7f"
    assert value(db, "annex_encode('[0, 255]', 'u8')") == b"\x00\xff"
    assert value(db, "annex_encode('[1,0,0,0,0,0,0,1,1]', 'bits')") == b"\x81\x01"


@pytest.mark.parametrize("format", ["f32", "f16", "bf16", "f64", "i8", "u8"])
def test_decode_of_encode__is_the_vector(db, format):
    text = "[1,2,127,0,3]"
    assert value(db, "annex_decode(annex_encode(?1, ?2), ?2)", text, format) == text


def test_decode__writes_as_few_digits_as_read_back_the_same(db):
    numbers = numpy.random.default_rng(9).standard_normal(500).astype("<f4")
    text = value(db, "annex_decode(?)", numbers.tobytes())
    assert numpy.array(json.loads(text), "<f4").tobytes() == numbers.tobytes()
    assert value(db, "annex_decode(annex_encode('[0.1]'))") == "[0.1]"
    assert value(db, "annex_decode(x'')") == "[]"
    assert value(db, "annex_decode(x'05', 'bits')") == "[1,0,1,0,0,0,0,0]"


def test_decode__is_json_to_sqlite(db):
    assert value(db, "json_object('v', annex_decode(x'0000803f'))") == '{"v":[1]}'
    elements = "json_each(annex_decode(annex_encode('[1,2,3]')))"
    assert value(db, f"(SELECT sum(value) FROM {elements})") == 6


def test_null__is_neither_encoded_nor_decoded(db):
    assert value(db, "annex_encode(NULL)") is None
    assert value(db, "annex_decode(NULL, 'f16')") is None


@pytest.mark.parametrize("sql, sentence", [
    ("annex_encode(5)", "JSON array as text"),
    ("annex_encode(x'00')", "JSON array as text"),
    ("annex_encode('5')", "JSON array"),
    ("annex_encode('[1,')", "element 1"),
    ("annex_encode('[1] x')", "end of the text"),
    ("annex_encode('[1e99]')", "range of f32"),
    ("annex_encode('[65520]', 'f16')", "element 0 of the vector, 65520, cannot be stored as f16"),
    ("annex_encode('[3.4e38]', 'bf16')", "cannot be stored as bf16"),
    ("annex_encode('[1, 1.5]', 'i8')", "element 1 of the vector, 1.5, cannot be stored as i8"),
    ("annex_encode('[128]', 'i8')", "cannot be stored as i8"),
    ("annex_encode('[-1]', 'u8')", "cannot be stored as u8"),
    ("annex_encode('[0.5]', 'bits')", "only 0 and 1"),
    ("annex_encode('[1]', 'f8')", 'no vector format "f8"'),
    ("annex_encode('[1]', 'auto')", "not a format of blobs"),
    ("annex_encode('[1]', NULL)", "format must be text, not NULL"),
    ("annex_decode('[1]')", "takes a blob"),
    ("annex_decode(x'00')", "1 bytes is not a vector of f32"),
    ("annex_decode(x'0000c07f')", "element 0 of the vector is NaN"),
    ("annex_decode(x'0000803f000080ff')", "element 1 of the vector is infinite"),
])
def test_bad_argument_of_encode_and_decode__is_refused_in_one_sentence(db, sql, sentence):
    assert sentence in refusal(db, sql)


def test_more_than_the_greatest_dimension__is_refused(db):
    assert "65536 elements" in refusal(db, "annex_encode(?)", json.dumps([0] * 65536))


# ---- Where they may be used ----------------------------------------------------------------------


def test_pure_functions__serve_in_expression_indexes_and_generated_columns(db):
    db.execute("PRAGMA trusted_schema = 0")
    db.execute("CREATE TABLE t(j TEXT, v BLOB GENERATED ALWAYS AS (annex_encode(j)) STORED)")
    db.execute("CREATE INDEX norm ON t(annex_distance('l2', v, '[0,0]'))")
    db.execute("INSERT INTO t(j) VALUES ('[3,4]'), ('[6,8]')")
    far = db.execute("SELECT j FROM t WHERE annex_distance('l2', v, '[0,0]') > 7").fetchall()
    assert far == [("[6,8]",)]


def test_version_and_isa__name_the_library_and_its_kernels(db):
    assert value(db, "annex_version()").count(".") == 2
    assert value(db, "annex_isa()") in ("ref", "avx2", "avx512", "avx512vnni", "neon")
