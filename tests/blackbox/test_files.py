"""Files of vectors that other programs wrote, through `annex vectors`: numpy's and h5py's own, and
the raw layouts as their users write them. What is odd is refused in one sentence with the name."""

import json

import h5py
import numpy as np
import pytest

ROWS, DIMENSION = 300, 17
KINDS = {".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}
BINS = {".fbin": "<f4", ".u8bin": "u1", ".i8bin": "i1"}


def make(dtype):
    """Rows that the type holds exactly, but for f2, f4 and f8, which hold fractions."""
    random = np.random.default_rng(11)
    if np.dtype(dtype).kind == "f":
        return random.standard_normal((ROWS, DIMENSION)).astype(dtype)
    low = 0 if np.dtype(dtype).kind == "u" else -100
    return random.integers(low, 120, (ROWS, DIMENSION)).astype(dtype)


def write_vecs(path, rows):
    """Each row after its dimension."""
    with open(path, "wb") as file:
        for row in rows:
            file.write(np.uint32(len(row)).tobytes() + row.tobytes())


def write_bin(path, rows):
    path.write_bytes(np.array(rows.shape, "<u4").tobytes() + rows.tobytes())


@pytest.fixture
def read(annex, tmp_path):
    """What Annex reads from a file, as text and as a .npy that it wrote: the two must agree."""

    def run(name, *options):
        lines = annex("vectors", name, *options, "--head", 10**6).stdout.splitlines()
        printed = np.array([json.loads(line) for line in lines], "f4")
        annex("vectors", name, *options, "-o", "read.npy", "--force")
        written = np.load(tmp_path / "read.npy")
        assert written.dtype == np.dtype("<f4")
        assert np.array_equal(printed, written)
        return written

    return run


@pytest.fixture
def refused(annex):
    """A file that must not be readable: one line on standard error that has the words."""

    def run(name, *words, code=1):
        line = annex("vectors", name, code=code).stderr
        assert line.count("\n") == 1 and line.startswith("annex: ")
        assert all(word in line for word in (name, *words)), line

    return run


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "i1", "u1", "<i4", "<u4", "<i8"])
def test_npy__every_type(read, tmp_path, dtype):
    rows = make(dtype)
    np.save(tmp_path / "a.npy", rows)
    assert np.array_equal(read("a.npy"), rows.astype("f4"))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy__every_version(read, tmp_path, version):
    rows = make("<f4")
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, rows, version=version)
    assert np.array_equal(read("a.npy"), rows)


@pytest.mark.parametrize(
    "array, words",
    [
        (np.asfortranarray(make("<f4")), ["Fortran order"]),
        (make(">f4"), ["big-endian"]),
        (make("<f4")[0], ["one dimension"]),
        (make("<f4")[None], ["three or more dimensions"]),
        (np.float32(1), ["no dimensions"]),
        (make("<f4") > 0, ["|b1"]),
        (make("<f4").astype("c8"), ["<c8"]),
        (np.array([[1, "a"]], object), ["|O"]),
        (np.zeros((2, 2), [("x", "f4")]), ["records"]),
        (np.zeros((2, 0), "f4"), ["0 elements"]),
        (np.zeros((1, 65536), "f4"), ["65536 elements", "65535"]),
    ],
)
def test_npy__odd_arrays_are_refused(refused, tmp_path, array, words):
    np.save(tmp_path / "odd.npy", array, allow_pickle=True)
    refused("odd.npy", *words)


def test_npy__every_cut_is_refused(annex, tmp_path):
    np.save(tmp_path / "whole.npy", np.ones((2, 3), "f4"))
    whole = (tmp_path / "whole.npy").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.npy").write_bytes(whole[:length])
        assert "cut.npy" in annex("vectors", "cut.npy", code=4).stderr


@pytest.mark.parametrize("ending", KINDS)
def test_vecs__every_kind(read, refused, tmp_path, ending):
    rows = np.abs(make(KINDS[ending]))
    name = "a" + ending
    write_vecs(tmp_path / name, rows)
    assert np.array_equal(read(name), rows.astype("f4"))
    write_vecs(tmp_path / name, list(rows) + [rows[0, :5]])
    refused(name, code=4)
    (tmp_path / name).write_bytes(b"")
    refused(name, "empty")


@pytest.mark.parametrize("ending", BINS)
def test_bin__every_kind(read, refused, tmp_path, ending):
    rows = make(BINS[ending])
    name = "a" + ending
    write_bin(tmp_path / name, rows)
    assert np.array_equal(read(name), rows.astype("f4"))
    with open(tmp_path / name, "ab") as file:
        file.write(b"x")
    refused(name, "need", code=4)


@pytest.mark.parametrize("ending", [".npy", ".fvecs", ".bvecs", ".fbin", ".u8bin", ".i8bin"])
def test_written_files__are_what_the_others_write(annex, tmp_path, ending):
    rows = np.abs(make("i1"))
    dtype = {**KINDS, **BINS, ".npy": "<f4"}[ending]
    np.save(tmp_path / "rows.npy", rows)
    annex("vectors", "rows.npy", "-o", "a" + ending)
    if ending == ".npy":
        np.save(tmp_path / "expected", rows.astype(dtype))
    else:
        write = write_vecs if ending in KINDS else write_bin
        write(tmp_path / "expected.npy", rows.astype(dtype))
    assert (tmp_path / ("a" + ending)).read_bytes() == (tmp_path / "expected.npy").read_bytes()


@pytest.mark.parametrize("dtype", ["f2", "f8", "i1", "u1"])
def test_written_npy__has_the_type_that_was_asked_for(annex, tmp_path, dtype):
    rows = np.abs(make("i1"))
    np.save(tmp_path / "rows.npy", rows.astype("f4"))
    name = {"f2": "f16", "f8": "f64"}.get(dtype, dtype.replace("1", "8"))
    annex("vectors", "rows.npy", "-o", "a.npy", "--format", name)
    written = np.load(tmp_path / "a.npy")
    assert written.dtype == np.dtype(dtype) and np.array_equal(written, rows)


def test_written_file__what_does_not_fit_is_refused_and_leaves_no_file(annex, tmp_path):
    np.save(tmp_path / "rows.npy", np.array([[1, 2], [3, 0.5]], "f4"))
    error = annex("vectors", "rows.npy", "-o", "a.u8bin", code=1).stderr
    assert "element 1 of row 1 is 0.5" in error
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["rows.npy"]


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", "i1", "u1", "<i2", "<i8"])
def test_hdf5__every_type_compressed_or_not(read, tmp_path, dtype):
    rows = make(dtype)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["train"] = rows
        file.create_dataset("small", data=rows, chunks=(7, 5), compression="gzip")
        file.create_dataset("large", data=rows, chunks=(299, 16), compression="gzip", shuffle=True)
    for name in ("train", "small", "large"):
        assert np.array_equal(read("a.hdf5", "--dataset", name), rows.astype("f4"))


def test_hdf5__ann_benchmarks_layout(annex, tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["train"], file["test"] = make("<f4"), make("<f4")[:3]
        file["neighbors"] = np.arange(6, dtype="i4").reshape(3, 2)
        file.attrs["distance"] = "angular"
    about = json.loads(annex("vectors", "a.hdf5", "--json").stdout)
    assert (about["kind"], about["rows"], about["metric"]) == ("hdf5", ROWS, "cosine")
    about = json.loads(annex("vectors", "a.hdf5", "--dataset", "neighbors", "--json").stdout)
    assert (about["rows"], about["dimension"], about["format"]) == (3, 2, "integer")
    assert 'no data set "x"' in annex("vectors", "a.hdf5", "--dataset", "x", code=3).stderr


def test_hdf5__odd_files_are_refused(refused, tmp_path):
    with h5py.File(tmp_path / "text.hdf5", "w") as file:
        file["train"] = np.array([["a", "b"]], "S1")
    refused("text.hdf5", "neither floating-point numbers nor integers")
    with h5py.File(tmp_path / "flat.hdf5", "w") as file:
        file["train"] = np.zeros(3)
    refused("flat.hdf5", "1 dimensions")
    with h5py.File(tmp_path / "lzf.hdf5", "w") as file:
        file.create_dataset("train", data=make("<f4"), compression="lzf")
    refused("lzf.hdf5", 'compressed by "lzf"', "gzip")
    (tmp_path / "other.hdf5").write_bytes(b"\x93NUMPY and more")
    refused("other.hdf5", "not an HDF5 file", code=4)


def test_folder__files_in_the_order_of_names(read, refused, tmp_path):
    rows = make("<f4")
    (tmp_path / "parts").mkdir()
    for i, part in enumerate(np.array_split(rows, 12)):
        np.save(tmp_path / "parts" / f"part-{i:02}.npy", part)
    np.save(tmp_path / "parts" / "none.npy", rows[:0])
    (tmp_path / "parts" / "about.json").write_text("{}")
    assert np.array_equal(read("parts"), rows)
    np.save(tmp_path / "parts" / "part-05.npy", rows[:, :3])
    refused("parts", "part-05.npy", "3 f32 a row", "17 f32")


def test_folder__without_vectors_is_not_found(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused("empty", "holds no files of vectors", code=3)


def test_text__has_as_few_digits_as_numpy(annex, tmp_path):
    bits = np.random.default_rng(3).integers(0, 2**32, 4000, dtype=np.uint32)
    rows = bits.view("f4").reshape(-1, 8)
    rows = rows[np.isfinite(rows).all(axis=1)]
    np.save(tmp_path / "a.npy", rows)
    printed = annex("vectors", "a.npy", "--head", 10**6).stdout.splitlines()
    for line, row in zip(printed, rows):
        for text, number in zip(line.strip("[]").split(","), row):
            assert np.float32(text) == number
            few = np.format_float_scientific(number, unique=True, trim="-")
            assert significant(text) == significant(few)


def significant(text):
    digits = text.lower().split("e")[0].replace(".", "").strip("-0")
    return len(digits)
