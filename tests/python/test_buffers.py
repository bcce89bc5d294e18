"""What may be given as vectors, queries and keys, and what is refused with which sentence."""

import array
import subprocess
import sys

import numpy
import pytest

import annex


@pytest.mark.parametrize("dtype", ["f4", "f2", "f8", "i1", "u1"])
def test_each_element_type__is_what_its_float32_would_be(dtype):
    rows = numpy.random.default_rng(2).integers(0, 100, (3000, 96)).astype(dtype)
    wide = annex.Index.build(rows.astype("f4"), path=None)
    index = annex.Index.build(rows)
    query = rows[11:14]
    for some in (query, query.astype("f4")):
        keys, distances = index.search(some, 6)
        expected, expected_distances = wide.search(query.astype("f4"), 6)
        assert keys.tolist() == expected.tolist()
        assert distances.tolist() == expected_distances.tolist()
    index.insert(rows[:2] + 1, [9000, 9001])
    assert index.search(rows[0] + 1, 1)[0].tolist() == [9000]
    assert index.within(rows[0] + 1, 0)[0].tolist() == [9000]


def test_text_keys_over_several_batches__belong_to_their_rows():
    rows = numpy.random.default_rng(3).standard_normal((3000, 200)).astype("f2")
    index = annex.Index.build(rows, [f"row {i}" for i in range(3000)])
    assert index.search(rows[[0, 1499, 2999]], 1)[0] == [["row 0"], ["row 1499"], ["row 2999"]]


def test_vectors__are_read_where_they_lie(tmp_path):
    """A file mapped read-only serves, and so does a list, an array, a bytes object."""
    rows = numpy.random.default_rng(2).random((100, 4), dtype="f4")
    numpy.save(tmp_path / "rows.npy", rows)
    mapped = numpy.load(tmp_path / "rows.npy", mmap_mode="r")
    flat = array.array("f", rows.ravel().tolist())
    view = memoryview(flat).cast("B").cast("f", [100, 4])
    for given, more in ((mapped, {}), (rows.tolist(), {}), (view, {}), (flat, {"dimension": 4}),
                        (tuple(map(tuple, rows.tolist())), {})):
        index = annex.Index.build(given, **more)
        for query in (rows[6], rows[6].tolist(), array.array("f", rows[6].tolist())):
            assert index.search(query, 1)[0].tolist() == [6]


class Tensor:
    """What gives a NumPy array, but no buffer."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values


def test_tensors__are_arrays():
    rows = numpy.eye(5, dtype="f4")
    assert annex.Index.build(Tensor(rows)).search(Tensor(rows[2]), 1)[0].tolist() == [2]


REFUSED = [
    (numpy.zeros((3, 4), ">f4"), ValueError, "big-endian"),
    (numpy.zeros((3, 4), "i4"), TypeError, "'i'; l2 takes float32"),
    (numpy.zeros((3, 4), "c8"), TypeError, "'Zf'"),
    (numpy.zeros((3, 8), "f4")[:, ::2], ValueError, "numpy.ascontiguousarray"),
    (numpy.zeros((4, 3), "f4").T, ValueError, "numpy.ascontiguousarray"),
    (numpy.zeros((2, 3, 4), "f4"), ValueError, "3 axes"),
    (numpy.float32(1), ValueError, "0 axes"),
    (numpy.zeros((3, 0), "f4"), ValueError, "0 elements a row"),
    (numpy.zeros((1, 65536), "f4"), ValueError, "65536 elements a row"),
    (numpy.array([["a"]]), TypeError, "'1w'"),
    ([[1.0, 2.0], [3.0]], ValueError, "row 1 has 1 elements and row 0 has 2"),
    ([[]], ValueError, "row 0 has no elements"),
    ([numpy.ones(3), numpy.ones(2)], ValueError, "row 1 has 2 elements and row 0 has 3"),
    ([[[1.0]]], TypeError, "lists of numbers: must be real number, not list"),
    (["a"], TypeError, "lists of numbers: must be real number, not str"),
    ("abc", TypeError, "lists of numbers"),
    (2.5, TypeError, "lists of numbers"),
    (None, TypeError, "None"),
    (numpy.zeros((3, 4), "i8"), TypeError, r"a\.astype\('float32'\)"),
    (numpy.full((3, 4), numpy.nan, "f4"), annex.InvalidError, "key 0 is NaN"),
    (numpy.array([[1, 2], [3, numpy.inf]], "f4"), annex.InvalidError,
     "element 1 of the vector with key 1 is infinite"),
]


@pytest.mark.parametrize("vectors, kind, text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_vectors__is_refused(vectors, kind, text):
    with pytest.raises(kind, match=text):
        annex.Index.build(vectors)


def test_queries_and_changes_of_another_shape__are_refused():
    index = annex.Index.build(numpy.eye(4, dtype="f4"))
    for call in (lambda v: index.search(v), lambda v: index.within(v, 1),
                 lambda v: index.insert(v, [9])):
        with pytest.raises(ValueError, match="have 3 elements a row; a vector of this index has 4"):
            call(numpy.zeros((1, 3), "f4"))
        with pytest.raises(annex.InvalidError, match="NaN"):
            call(numpy.full((1, 4), numpy.nan, "f4"))
    with pytest.raises(ValueError, match=r"2 queries in one row; give them as \[2, 4\]"):
        index.search(numpy.zeros(8, "f4"))
    for empty in ([], numpy.zeros(0, "f4")):
        with pytest.raises(ValueError, match="the query is empty; a vector of this index has 4"):
            index.search(empty)
    with pytest.raises(ValueError, match="2 queries; give one"):
        index.within(numpy.zeros((2, 4), "f4"), 1)
    with pytest.raises(ValueError, match="k is -1"):
        index.search(numpy.zeros(4, "f4"), -1)
    with pytest.raises(annex.InvalidError):
        annex.Index.build(numpy.eye(4, dtype="f4"), metric="cosine").search(numpy.zeros(4, "f4"))


@pytest.mark.parametrize("arguments, kind, text", [
    ({"k": 2.5}, TypeError, "k is 2.5; it is a number of rows"),
    ({"k": "3"}, TypeError, "k is '3'"),
    ({"k": None}, TypeError, "k is None"),
    ({"k": -1}, ValueError, "k is -1; it cannot be negative"),
    ({"recall": "high"}, ValueError, "the recall is 'high'"),
    ({"timeout": "1"}, ValueError, "the timeout is '1'"),
    ({"threads": 1.5}, TypeError, "threads is 1.5; it is a whole number"),
    ({"mask": [True] * 4}, TypeError, "pass numpy.asarray"),
])
def test_arguments_of_another_type__are_refused_by_name(arguments, kind, text):
    index = annex.Index.build(numpy.eye(4, dtype="f4"))
    with pytest.raises(kind, match=text):
        index.search([1, 0, 0, 0], **arguments)


def test_arguments_that_numpy_made__are_numbers():
    index = annex.Index.build(numpy.eye(4, dtype="f4"))
    assert index.search([0, 1, 0, 0], numpy.int64(2), recall=numpy.float32(0.5))[0][0] == 1
    assert index.search([0, 1, 0, 0], 1, effort=numpy.int32(8), timeout=numpy.float32(9))[0] == [1]


@pytest.mark.parametrize("arguments, text", [
    ({"metric": None}, "metric is None; it is a name, such as 'cosine'"),
    ({"family": 3}, "family is 3"),
    ({"progress": 5}, "progress is 5"),
    ({"degree": 1.5}, "degree is 1.5"),
    ({"dimension": "4"}, "dimension is '4'"),
])
def test_options_of_another_type__are_refused_by_name(arguments, text):
    with pytest.raises(TypeError, match=text):
        annex.Index.build(numpy.eye(4, dtype="f4"), **arguments)


def test_lists_of_arrays__are_rows():
    rows = numpy.eye(3, dtype="f4")
    index = annex.Index.build(list(rows))
    assert index.search(list(rows[1:]), 1)[0].tolist() == [[1], [2]]
    assert index.search([array.array("d", [0, 0, 1])], 1)[0].tolist() == [[2]]
    assert annex.distances("l2", rows[0], [rows[0], rows[1]])[0] == 0


def test_text_keys_of_a_generator__are_text():
    index = annex.Index.build(numpy.eye(3, dtype="f4"), (letter for letter in "abc"))
    assert index.search([0, 1, 0], 1)[0] == ["b"] and "b" in index
    index.delete(["b"])


@pytest.mark.parametrize("keys, kind, text", [
    ([1, 2], ValueError, "3 vectors and 2 keys"),
    ([1, 2, 2], annex.InvalidError, "2"),
    ([1, "a", 3], TypeError, "all integers, all text or all bytes"),
    ([1.5, 2.5, 3.5], TypeError, "all integers"),
    ([1, 2**70, 2], ValueError, f"the key {2**70} does not fit"),
    ([1, -(2**63) - 1, 2], ValueError, "does not fit"),
    (5, TypeError, r"as a list: \[5\]"),
    (numpy.array([1.0, 2.0, 3.0]), TypeError, "not float64"),
    (numpy.array([2**63, 1, 2], dtype="u8"), ValueError, "does not fit"),
    (array.array("i", [1, 2, 3]), TypeError, "int64"),
    ("abc", TypeError, "as a list"),
    (["x" * 70000, "y", "z"], annex.InvalidError, "65535"),
])
def test_what_are_no_keys__is_refused(keys, kind, text):
    with pytest.raises(kind, match=text):
        annex.Index.build(numpy.eye(3, dtype="f4"), keys)


def test_keys_of_the_other_kind__are_refused():
    numbers = annex.Index.build(numpy.eye(3, dtype="f4"))
    text = annex.Index.build(numpy.eye(3, dtype="f4"), ["a", "b", "c"])
    for call in (lambda i, k: i.search([1, 0, 0], keys=k), lambda i, k: i.delete(k),
                 lambda i, k: i.insert(numpy.eye(3, dtype="f4")[:1], k)):
        with pytest.raises(TypeError, match="are integers"):
            call(numbers, ["a"])
        with pytest.raises(TypeError, match="are text"):
            call(text, [1])
    with pytest.raises(TypeError, match="a mask needs integer keys"):
        text.search([1, 0, 0], mask=b"\1")
    with pytest.raises(TypeError, match="one bool for each key"):
        numbers.search([1, 0, 0], mask=numpy.ones(3, "i4"))
    with pytest.raises(TypeError, match="give the keys"):
        numbers.insert(numpy.eye(3, dtype="f4"), None)


def test_distances_and_blobs():
    assert annex.distance("l2", [0, 0], [3, 4]) == 5
    assert annex.distances("ip", [1, 2], [[1, 1], [0, 3]]).tolist() == [-3, -6]
    assert annex.distance("hamming", b"\x0f", b"\x01") == 3
    assert annex.distances("hamming", b"\x0f", b"\x01\xff", dimension=8).tolist() == [3, 4]
    blob = annex.encode([1, -2])
    assert blob == bytes.fromhex("0000803f000000c0")
    assert annex.decode(blob).tolist() == [1, -2]
    with pytest.raises(ValueError, match="5 bytes"):
        annex.decode(b"12345")
    for wrong, axes in ((None, 0), (numpy.eye(2), 2)):
        with pytest.raises(ValueError, match=f"encode takes one vector, .* {axes} axes"):
            annex.encode(wrong)
    with pytest.raises(ValueError, match="the queries have 0 elements"):
        annex.distance("l2", [], [])


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None  # importing it fails
import array, annex
rows = [[(i * 7 % 13) / 3, i % 5, i / 10] for i in range(100)]
index = annex.Index.build(rows)
keys, distances = index.search(rows[4], 3)
assert isinstance(keys, memoryview) and keys.format == "q" and keys[0] == 4, keys
assert distances.format == "d" and distances[0] == 0
keys, distances = index.search(rows[:7], 3)
assert keys.shape == distances.shape == (7, 3) and keys[6, 0] == 6
assert index.search(rows[4], 0)[0].tolist() == [] and index.search(rows[:2], 0)[0].tolist() == []
assert index.search(rows[4], 5, keys=[1, 9])[0].tolist() in ([1, 9], [9, 1])
assert index.search(rows[4], 5, keys=[])[0].tolist() == []
assert index.search(rows[4], 5, mask=b"\\0\\1")[0].tolist() == [1]
keys, distances = index.within(rows[4], 0.5)
assert keys[0] == 4 and distances[0] == 0 and index.within(rows[4], -1)[0].tolist() == []
index.insert([[9.0, 9.0, 9.0]], [500])
assert index.search([9, 9, 9], 1)[0].tolist() == [500] and index.vector(500).tolist() == [9, 9, 9]
assert annex.Index.build(rows, [str(i) for i in range(100)]).search(rows[4], 1)[0] == ["4"]
assert annex.distance("l2", [0, 0], [3, 4]) == 5
assert annex.decode(annex.encode([1, 2])).tolist() == [1, 2]
bits = annex.Index.build(bytes(range(64)), metric="hamming", dimension=8)
assert bits.search(b"\\7", 1)[0].tolist() == [7] and bits.vector(7).tolist() == [7]
assert index.evaluate(memoryview(array.array("f", rows[4] + rows[5])).cast("B").cast("f", [2, 3]),
                      3)[0].recall == 1
"""


def test_without_numpy__results_are_memoryviews():
    subprocess.run([sys.executable, "-c", WITHOUT_NUMPY], check=True, timeout=60)
