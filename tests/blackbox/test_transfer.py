"""annex export and annex import: what leaves comes back the same, what is wrong changes nothing.
tests/ecosystem/test_llm_transfer.py has the real llm."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import time

import numpy as np
import pytest

from conftest import COMMAND
from test_llm_collections import COLLECTIONS, STEPS, embedding, make

KEYS = [
    "plain",
    "",
    " two words ",
    "line\nfeed",
    'quote"back\\slash',
    "nul\0in",
    "ünï→😀",
    "\x7f\x1b",
    "007",
]


def vectors_of(n, dimension=8, seed=3):
    """Elements of all sizes, among them the largest, the smallest and minus zero."""
    random = np.random.RandomState(seed)
    bits = random.randint(0, 2**32, (n, dimension), dtype=np.uint64).astype("<u4").view("<f4")
    rows = np.where(np.isfinite(bits), bits, np.float32(0.5)).astype("<f4")
    rows[0, :4] = [-0.0, 1e-45, 3.4028235e38, 1 / 3]
    return rows


@pytest.fixture
def database(tmp_path):
    """things(id, name, embedding, …): a table to export, with a row that has no vector."""
    db = sqlite3.connect(tmp_path / "docs.db", isolation_level=None)
    db.execute(
        "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, part INT, e BLOB, js TEXT,"
        " body TEXT, about TEXT)"
    )
    rows = vectors_of(len(KEYS))
    for i, (key, row) in enumerate(zip(KEYS, rows)):
        about = json.dumps({"n": i, "deep": [None, {"é": 1.5e-7}]}) if i % 2 else None
        db.execute(
            "INSERT INTO things VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                i * 1000 - 2,
                key,
                i % 3,
                row.tobytes(),
                json.dumps(row.astype(float).tolist()),
                "body\n" + key if i % 3 else None,
                about,
            ),
        )
    db.execute("INSERT INTO things (id, name) VALUES (99999999999999, 'no vector')")
    yield db
    db.close()


def table(path, sql="SELECT id, embedding FROM t ORDER BY 1"):
    with sqlite3.connect(path) as db:
        return db.execute(sql).fetchall()


def lines(tmp_path, name, *items):
    (tmp_path / name).write_text("".join(json.dumps(item) + "\n" for item in items))
    return name


THINGS = ["export", "docs.db", "--table", "things", "--vector", "e"]


# ---- there and back ------------------------------------------------------------------------------


def test_integer_keys__are_an_array_that_numpy_reads(annex, database, tmp_path):
    report = json.loads(annex(*THINGS, "-o", "out", "--json").stdout)
    assert report.pop("seconds") >= 0
    assert report == {
        "file": "out.npy",
        "keys": "out.keys.npy",
        "rows": len(KEYS),
        "without_vector": 1,
        "dimension": 8,
    }
    vectors, keys = np.load(tmp_path / "out.npy"), np.load(tmp_path / "out.keys.npy")
    assert vectors.dtype == "<f4" and vectors.flags.c_contiguous and keys.dtype == "<i8"
    assert vectors.tobytes() == vectors_of(len(KEYS)).tobytes()
    assert keys.tolist() == [i * 1000 - 2 for i in range(len(KEYS))]
    annex("import", "new.db", "out.npy", "--table", "t")
    assert table(tmp_path / "new.db") == list(zip(keys.tolist(), map(bytes, vectors)))


@pytest.mark.parametrize("kind", ["npy", "jsonl"])
def test_any_text_key__comes_back(annex, database, tmp_path, kind):
    annex(*THINGS, "--key", "name", "-o", f"out.{kind}")
    annex("import", "new.db", f"out.{kind}", "--table", "t")
    back = dict(table(tmp_path / "new.db"))
    assert back == {key: bytes(row) for key, row in zip(KEYS, vectors_of(len(KEYS)))}


def test_keys_of_any_type__come_back(annex, tmp_path):
    keys = [1, 2.0, 1e300, "1", b"\x00\xff", b"", "x", -(2**63), 2**63 - 1]
    with sqlite3.connect(tmp_path / "docs.db") as db:
        db.execute("CREATE TABLE things (k PRIMARY KEY, e BLOB)")
        db.execute("CREATE TABLE copy (k PRIMARY KEY, embedding BLOB)")
        db.executemany(
            "INSERT INTO things VALUES (?, ?)", [(k, vectors_of(1)[0].tobytes()) for k in keys]
        )
        db.execute("INSERT INTO things VALUES (CAST(x'ff41' AS TEXT), ?)", (bytes(8 * 4),))
    for kind in ("npy", "jsonl"):
        annex(*THINGS, "--key", "k", "-o", f"out.{kind}")
        annex("import", "docs.db", f"out.{kind}", "--table", "copy", "--key", "k", "--replace")
        same = "SELECT typeof(k), hex(k) FROM {} ORDER BY 1, 2"
        assert table(tmp_path / "docs.db", same.format("copy")) == table(
            tmp_path / "docs.db", same.format("things")
        )


def test_compound_keys__come_back(annex, database, tmp_path):
    annex(*THINGS, "--key", "part, name", "-o", "out.npy")
    done = annex("import", "new.db", "out.npy", "--table", "t", code=1)
    assert "keys have 2 parts, and --key names 1 columns" in done.stderr
    assert not (tmp_path / "new.db").exists()
    annex("import", "new.db", "out.npy", "--table", "t", "--key", "part,name")
    assert {(part, name): e for part, name, e in table(tmp_path / "new.db", "SELECT * FROM t")} == {
        (i % 3, key): bytes(row) for i, (key, row) in enumerate(zip(KEYS, vectors_of(len(KEYS))))
    }


def test_content_and_metadata__travel_in_json_lines(annex, database, tmp_path):
    annex(*THINGS, "--key", "name", "--content", "body", "--metadata", "about", "-o", "o.jsonl")
    annex("import", "new.db", "o.jsonl", "--table", "t")
    wanted = database.execute("SELECT name, e, body, about FROM things WHERE e NOT NULL ORDER BY 1")
    assert table(tmp_path / "new.db", "SELECT * FROM t ORDER BY 1") == wanted.fetchall()
    for line, row in zip((tmp_path / "o.jsonl").read_text().splitlines(), vectors_of(len(KEYS))):
        assert np.array(json.loads(line)["embedding"]).astype("<f4").tobytes() == row.tobytes()


def test_json_lines__pass_through_pipes(annex, database, tmp_path):
    text = annex(*THINGS, "--key", "name", "-o", "-").stdout
    annex("import", "new.db", "-", "--table", "t", stdin=text)
    assert len(table(tmp_path / "new.db")) == len(KEYS)


@pytest.mark.parametrize("column, form", [("js", None), ("js", "json"), ("e", "f32")])
def test_vectors_as_text_or_blobs__are_the_same(annex, database, tmp_path, column, form):
    told = ["--vector-format", form] if form else []
    annex(
        "export",
        "docs.db",
        "--table",
        "things",
        "--vector",
        column,
        "--key",
        "id",
        "-o",
        "o",
        *told,
    )
    assert np.load(tmp_path / "o.npy").tobytes() == vectors_of(len(KEYS)).tobytes()


@pytest.mark.parametrize(
    "form, dtype", [("f16", "<f2"), ("i8", "i1"), ("u8", "u1"), ("f64", "<f8")]
)
def test_narrow_and_wide_elements__are_widened_as_they_are(annex, tmp_path, form, dtype):
    rows = np.arange(24).reshape(3, 8).astype(dtype)
    with sqlite3.connect(tmp_path / "docs.db") as db:
        db.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, e BLOB)")
        db.executemany("INSERT INTO things (e) VALUES (?)", [(row.tobytes(),) for row in rows])
    annex(*THINGS, "--key", "id", "--vector-format", form, "-o", "o.npy")
    assert np.array_equal(np.load(tmp_path / "o.npy"), rows.astype("f4"))


def test_bits__stay_bytes(annex, tmp_path):
    rows = np.random.RandomState(1).randint(0, 256, (5, 3), dtype=np.uint8)
    with sqlite3.connect(tmp_path / "docs.db") as db:
        db.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, e BLOB)")
        db.executemany("INSERT INTO things (e) VALUES (?)", [(row.tobytes(),) for row in rows])
    annex(
        "create",
        "docs.db",
        "i",
        "--table",
        "things",
        "--vector",
        "e",
        "--metric",
        "hamming",
        "--format",
        "bits",
    )
    annex("export", "docs.db", "i", "-o", "o.npy")
    assert np.array_equal(np.load(tmp_path / "o.npy"), rows)
    assert "write .npy" in annex("export", "docs.db", "i", "-o", "o.jsonl", code=1).stderr
    annex("import", "new.db", "o.npy", "--table", "t", "--vector-format", "bits")
    assert [bytes(e) for _, e in table(tmp_path / "new.db")] == list(map(bytes, rows))


# ---- indexes -------------------------------------------------------------------------------------


def test_an_index__gives_the_rows_of_its_table_as_they_are_now(annex, wordnet, tmp_path):
    annex(
        "create",
        wordnet,
        "nouns",
        "--table",
        "synsets",
        "--vector",
        "embedding",
        "--metric",
        "cosine",
        "--where",
        "pos = 'noun'",
    )
    with sqlite3.connect(wordnet) as db:
        db.execute("DELETE FROM synsets WHERE id % 7 = 0")
        found = db.execute("SELECT id, embedding FROM synsets WHERE pos = 'noun'").fetchall()
    wanted = {
        key: np.frombuffer(e, "<f2" if len(e) == 768 else "<f4").astype("f4") for key, e in found
    }
    annex("export", wordnet, "-o", "o")
    keys, rows = np.load(tmp_path / "o.keys.npy"), np.load(tmp_path / "o.npy")
    assert set(keys.tolist()) == wanted.keys()
    assert all(np.array_equal(row, wanted[key]) for key, row in zip(keys.tolist(), rows))
    annex("export", wordnet, "nouns", "--where", "id < 100 -- few", "-o", "few.npy")
    assert np.load(tmp_path / "few.keys.npy").max() < 100
    assert "annex list" in annex("export", wordnet, "other", "-o", "x", code=3).stderr


def test_an_index_over_tables__begins_its_keys_with_the_source(annex, wordnet, tmp_path):
    annex(
        "create",
        wordnet,
        "both",
        "--table",
        "synsets",
        "--table",
        "queries",
        "--vector",
        "embedding",
        "--metric",
        "cosine",
    )
    annex("export", wordnet, "both", "-o", "o.npy")
    keys = [json.loads(line) for line in (tmp_path / "o.keys.jsonl").read_text().splitlines()]
    assert {key[0] for key in keys} == {"synsets", "queries"} and len(keys[0]) == 2
    annex("import", "new.db", "o.npy", "--table", "t", "--key", "source,id")
    assert len(table(tmp_path / "new.db", "SELECT 1 FROM t")) == len(keys)
    annex("export", wordnet, "both.queries", "-o", "q.npy")
    assert len(np.load(tmp_path / "q.keys.npy")) == sum(key[0] == "queries" for key in keys)


@pytest.mark.parametrize("raw, dtype", [("keep", "f4"), ("f16", "f2")])
def test_an_index_file__gives_the_vectors_that_it_stores(annex, tmp_path, raw, dtype):
    rows = np.random.RandomState(5).standard_normal((300, 16)).astype("f4")
    np.save(tmp_path / "rows.npy", rows)
    annex("build", "rows.npy", "-o", "my.annex", "--raw", raw)
    annex("export", "my.annex", "-o", "o")
    order = np.argsort(np.load(tmp_path / "o.keys.npy"))
    assert np.array_equal(np.load(tmp_path / "o.npy")[order], rows.astype(dtype).astype("f4"))


def test_an_index_file_without_vectors__is_refused(annex, tmp_path):
    np.save(tmp_path / "rows.npy", np.random.RandomState(5).standard_normal((50, 16)).astype("f4"))
    annex("build", "rows.npy", "-o", "my.annex", "--raw", "none")
    done = annex("export", "my.annex", "-o", "o", code=1)
    assert "stores no vectors" in done.stderr and "--raw keep" in done.stderr
    assert not list(tmp_path.glob("o*"))


# ---- what is there already -----------------------------------------------------------------------


def test_outputs_that_exist__are_replaced_with_force_only(annex, database, tmp_path):
    (tmp_path / "out.keys.jsonl").write_text("other keys")
    assert "--force" in annex(*THINGS, "--key", "id", "-o", "out", code=1).stderr
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.keys.jsonl"]
    annex(*THINGS, "--key", "id", "-o", "out", "--force")
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.keys.npy", "out.npy"]


@pytest.mark.parametrize("kind", ["npy", "jsonl"])
def test_a_failed_export__leaves_nothing(annex, database, tmp_path, kind):
    database.execute(
        "UPDATE things SET e = CAST(x'0000C07F' || substr(e, 5) AS BLOB) WHERE id = 3998"
    )  # NaN
    done = annex(*THINGS, "--key", "id", "-o", f"out.{kind}", code=1)
    assert "docs.db, key 3998: element 0 of the vector is NaN" in done.stderr
    database.execute("UPDATE things SET e = x'00000000' WHERE id = 3998")
    done = annex(*THINGS, "--key", "id", "-o", f"out.{kind}", code=1)
    assert "key 3998: the vector has 1 elements, those before it 8" in done.stderr
    database.execute("UPDATE things SET e = x'000000' WHERE id = 3998")
    assert "a blob of 3 bytes" in annex(*THINGS, "--key", "id", "-o", f"out.{kind}", code=1).stderr
    assert not list(tmp_path.glob("out*"))


def test_keys_that_are_there__are_an_error_or_replaced_or_ignored(annex, tmp_path):
    first = lines(
        tmp_path,
        "a.jsonl",
        {"id": 1, "embedding": [1, 2], "content": "old"},
        {"id": 2, "embedding": [3, 4]},
    )
    second = lines(
        tmp_path,
        "b.jsonl",
        {"id": 3, "embedding": [5, 6]},
        {"id": 1, "embedding": [7, 8], "content": "new", "metadata": {"a": 1}},
    )
    annex("import", "new.db", first, "--table", "t")
    before = (tmp_path / "new.db").read_bytes()
    done = annex("import", "new.db", second, "--table", "t", code=1)
    assert "b.jsonl, line 2: the key 1 is there already" in done.stderr
    assert (tmp_path / "new.db").read_bytes() == before
    report = json.loads(
        annex("import", "new.db", second, "--table", "t", "--ignore", "--json").stdout
    )
    assert (report["added"], report["replaced"], report["ignored"]) == (1, 0, 1)
    assert table(tmp_path / "new.db", "SELECT content FROM t WHERE id = 1") == [("old",)]
    report = json.loads(
        annex("import", "new.db", second, "--table", "t", "--replace", "--json").stdout
    )
    assert (report["added"], report["replaced"], report["ignored"]) == (0, 2, 0)
    assert table(tmp_path / "new.db", "SELECT * FROM t WHERE id = 1") == [
        (1, np.array([7, 8], "<f4").tobytes(), "new", '{"a": 1}')
    ]
    annex("import", "new.db", second, "--table", "t", "--replace", "--ignore", code=2)


def test_tables_of_others__keep_their_columns_and_their_indexes_fresh(annex, wordnet, tmp_path):
    annex(
        "create", wordnet, "i", "--table", "queries", "--vector", "embedding", "--metric", "cosine"
    )
    with sqlite3.connect(wordnet) as db:
        key, text = db.execute("SELECT id, text FROM queries").fetchone()
    vector = [1.0] + [0.0] * 383
    items = lines(tmp_path, "q.jsonl", {"id": key, "embedding": vector})
    with sqlite3.connect(wordnet) as db:  # as the column is: the items have f32
        assert len(db.execute("SELECT embedding FROM queries").fetchone()[0]) == 4 * 384
    annex("import", wordnet, items, "--table", "queries", "--replace")
    assert table(wordnet, f"SELECT text FROM queries WHERE id = {key}") == [(text,)]
    (hit,) = json.loads(
        annex("search", wordnet, "i", "--query", json.dumps(vector), "-k", "1", "--json").stdout
    )
    assert hit["key"] == key and hit["distance"] < 1e-6


def test_tables_that_do_not_fit__are_refused(annex, tmp_path):
    item = lines(tmp_path, "a.jsonl", {"id": "007", "embedding": [1], "content": "text"})
    with sqlite3.connect(tmp_path / "docs.db") as db:
        db.execute("CREATE TABLE loose (id TEXT, embedding, content)")
        db.execute("CREATE TABLE numbers (id INT PRIMARY KEY, embedding, content)")
        db.execute("CREATE TABLE bare (id TEXT PRIMARY KEY, embedding)")
        db.execute("CREATE TABLE other (id TEXT PRIMARY KEY, vector)")
    for name, message in {
        "loose": "the key is not unique in the table loose",
        "numbers": 'the column id does not keep the key "007" as it is',
        "bare": "the item has content, and the table bare no column content",
        "other": "no column named embedding",
    }.items():
        assert message in annex("import", "docs.db", item, "--table", name, code=1).stderr
        assert table(tmp_path / "docs.db", f"SELECT * FROM {name}") == []


def test_names_of_all_kinds__are_quoted(annex, tmp_path):
    name = "a \"b\" [c] 'd' %s; -- e"
    item = lines(tmp_path, "a.jsonl", {"id": "k", "embedding": [1, 2]})
    annex("import", "n.db", item, "--table", name, "--key", 'the "key', "--vector", name)
    annex("export", "n.db", "--table", name, "--key", 'the "key', "--vector", name, "-o", "o.jsonl")
    assert json.loads((tmp_path / "o.jsonl").read_text()) == {"id": "k", "embedding": [1, 2]}


# ---- wrong input ---------------------------------------------------------------------------------

GOOD = '{"id": "a", "embedding": [1, 2]}'


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"id": "b", "embedding": [1, 2, 3]}', "the vector has 3 elements, those before it 2"),
        ('{"id": "b", "embedding": [1, NaN]}', "element 1"),
        ('{"id": "b", "embedding": [1, null]}', "element 1"),
        ('{"id": "b", "embedding": [1, 1e39]}', "beyond the range of f32"),
        ('{"id": "b", "embedding": []}', "the embedding has 0 elements"),
        ('{"id": "b", "embedding": "AAAA"}', "expected"),
        ('{"id": "b"}', "llm embed-multi"),
        ('{"embedding": [1, 2]}', "there is no id"),
        ('{"id": null, "embedding": [1, 2]}', "the id is neither"),
        ('{"id": [], "embedding": [1, 2]}', "the id has 0 parts"),
        ('{"id": {"blob": "0"}, "embedding": [1, 2]}', "the id is neither"),
        ('{"id": 99999999999999999999, "embedding": [1, 2]}', "not JSON: too big integer"),
        ('{"id": "b", "id": "c", "embedding": [1, 2]}', '"id" is there twice'),
        ('{"id": "b", "embedding": [1, 2], "title": 1}', 'a member "title"'),
        ('{"id": "b", "embedding": [1, 2], "content": 5}', "the content is not a text"),
        ('{"id": "b", "embedding": [1, 2], "content_hash": "00"}', "32 hexadecimal digits"),
        ('{"id": "b", "embedding": [1, 2], "metadata": {a: 1}}', "the metadata is not JSON"),
        ('{"id": "b", "embedding": [1, 2]', "not a whole JSON object"),
        ('{"id": "b" "embedding": [1, 2]}', "not a whole JSON object"),
        ('{"id": "b", "embedding": [1, 2]} {}', "something behind"),
        ("[1, 2]", "not a JSON object"),
        ('"id": 1', "not a JSON object"),
    ],
)
def test_a_wrong_line__is_named_and_nothing_is_imported(annex, tmp_path, line, message):
    (tmp_path / "in.jsonl").write_text(f"{GOOD}\n\n{line}\n")
    done = annex("import", "new.db", "in.jsonl", "--table", "t", code=1)
    assert "in.jsonl, line 3: " in done.stderr and message in done.stderr, done.stderr
    assert not (tmp_path / "new.db").exists()


def test_lines_as_other_programs_write_them__are_read(annex, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(
        b'\xef\xbb\xbf{ "embedding" : [ 1 , 2.5e0 ] ,\t"id" : "a" , "metadata" : null}\r\n \r\n'
        b'{"\\u0069d":"b","content":null,"embedding":[-0.0,1]}'
    )
    annex("import", "new.db", "in.jsonl", "--table", "t")
    assert table(tmp_path / "new.db", "SELECT * FROM t ORDER BY id") == [
        ("a", np.array([1, 2.5], "<f4").tobytes(), None, None),
        ("b", np.array([-0.0, 1], "<f4").tobytes(), None, None),
    ]


def test_wrong_files__are_refused_with_what_is_wrong(annex, tmp_path):
    rows = vectors_of(4)
    np.save(tmp_path / "a.npy", rows)
    assert (
        "there are no keys for a.npy"
        in annex("import", "n.db", "a.npy", "--table", "t", code=3).stderr
    )
    np.save(tmp_path / "a.keys.npy", np.arange(3))
    assert (
        "4 vectors, and a.keys.npy 3 keys"
        in annex("import", "n.db", "a.npy", "--table", "t", code=1).stderr
    )
    for text, word in (('"a"\n"b"\n"c"\n', "fewer"), ('"a"\n"b"\n"c"\n"d"\n"e"\n', "more")):
        (tmp_path / "k.jsonl").write_text(text)
        done = annex("import", "n.db", "a.npy", "--table", "t", "--keys", "k.jsonl", code=1)
        assert f"4 vectors, and k.jsonl {word} keys" in done.stderr
    (tmp_path / "k.jsonl").write_text('"a"\nb\n"c"\n"d"\n')
    done = annex("import", "n.db", "a.npy", "--table", "t", "--keys", "k.jsonl", code=1)
    assert "k.jsonl, line 2: not JSON" in done.stderr
    np.save(tmp_path / "a.keys.npy", np.arange(4))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    assert "a.npy" in annex("import", "n.db", "a.npy", "--table", "t", code=4).stderr
    rows[2, 5] = np.nan
    np.save(tmp_path / "a.npy", rows)
    done = annex("import", "n.db", "a.npy", "--table", "t", code=1)
    assert "a.npy, row 3: element 5 of the vector is NaN" in done.stderr
    (tmp_path / "a.keys.jsonl").write_text("")
    assert "two files of keys" in annex("import", "n.db", "a.npy", "--table", "t", code=1).stderr
    assert not (tmp_path / "n.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "docs.db"],
        ["export", "docs.db", "i", "--table", "t", "--vector", "v", "--key", "k", "-o", "o"],
        ["export", "docs.db", "--table", "t", "-o", "o"],
        ["export", "docs.db", "i", "--key", "k", "-o", "o"],
        ["export", "docs.db", "i", "--vector-format", "f16", "-o", "o"],
        ["export", "my.annex", "--where", "1", "-o", "o"],
        ["export", "docs.db", "-o", "-", "--format", "npy"],
        ["import", "docs.db", "a.jsonl"],
        ["import", "docs.db", "a.jsonl", "--table", "t", "--llm-collection", "c"],
        ["import", "docs.db", "a.jsonl", "--table", "t", "--model", "m"],
        ["import", "docs.db", "a.jsonl", "--llm-collection", "t", "--key", "k"],
    ],
)
def test_options_that_exclude_each_other__are_usage_errors(annex, arguments):
    annex(*arguments, code=2)


def test_names_that_do_not_exist__are_said_and_not_taken_for_texts(annex, database, tmp_path):
    for wrong in (
        ["--table", "nothing"],
        ["--vector", "nothing"],
        ["--key", "id,nothing"],
        ["--content", "nothing"],
        ["--metadata", "nothing"],
        ["--where", "missing = 1"],
    ):
        options = {"--table": "things", "--vector": "e", "--key": "id", wrong[0]: wrong[1]}
        words = [word for pair in options.items() for word in pair]
        done = annex("export", "docs.db", *words, "-o", "o.jsonl", code=3)
        assert "no such" in done.stderr and wrong[1].split(",")[-1].split()[0] in done.stderr
    assert "unable to open" in annex("export", "no.db", "-o", "o", code=3).stderr
    assert not list(tmp_path.glob("o*")) and not (tmp_path / "no.db").exists()


def test_vectors_that_are_too_long__are_refused(annex, tmp_path):
    long = json.dumps([0] * 65536)
    (tmp_path / "in.jsonl").write_text(f'{{"id": 1, "embedding": {long}}}')
    done = annex("import", "n.db", "in.jsonl", "--table", "t", code=1)
    assert "the embedding has 65536 elements; a vector has 1 to 65535" in done.stderr
    with sqlite3.connect(tmp_path / "docs.db") as db:
        db.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, e)")
        db.execute("INSERT INTO things VALUES (1, ?)", (long,))
    assert "has 65536 elements" in annex(*THINGS, "--key", "id", "-o", "o", code=1).stderr
    with sqlite3.connect(tmp_path / "docs.db") as db:
        db.execute("UPDATE things SET e = zeroblob(65536 * 4)")
    assert "has 65536 elements" in annex(*THINGS, "--key", "id", "-o", "o", code=1).stderr


# ---- collections of llm --------------------------------------------------------------------------


def test_a_collection__comes_back_with_hashes_as_llm_computes_them(annex, tmp_path):
    texts = ["", "a", "ünï", "x" * 55, "x" * 56, "x" * 64, "x" * 200]
    items = [
        {"id": str(i), "embedding": [i, 1.5], "content": text, "metadata": {"n": i}}
        for i, text in enumerate(texts)
    ]
    bare = {
        "id": "bare",
        "embedding": [0, 1],
        "metadata": {},
        "content_hash": hashlib.md5(b"was embedded").hexdigest(),
    }
    number = {"id": 17, "embedding": [0, 2], "content": {"blob": "00ff"}}
    start = int(time.time())
    annex(
        "import",
        "e.db",
        lines(tmp_path, "in.jsonl", *items, bare, number),
        "--llm-collection",
        "posts",
        "--model",
        "demo",
    )
    rows = table(tmp_path / "e.db", "SELECT * FROM embeddings ORDER BY rowid")
    for text, row in zip(texts, rows):
        assert row[3] == text and row[5] == hashlib.md5(text.encode()).digest()
    assert rows[-2][5] == hashlib.md5(b"was embedded").digest() and rows[-2][6] is None
    assert (rows[-1][1], rows[-1][4]) == ("17", b"\x00\xff")
    assert all(start <= row[7] <= time.time() for row in rows)
    annex("export", "e.db", "--llm-collection", "posts", "-o", "out.jsonl")
    back = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    del bare["metadata"]
    wanted = [*items, bare, {**number, "id": "17"}]
    assert back == sorted(wanted, key=lambda item: item["id"])
    annex("create", "e.db", "i", "--llm-collection", "posts", "--metric", "cosine")
    annex("export", "e.db", "i", "-o", "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


def test_collections_of_another_model_or_dimension__are_refused(annex, tmp_path):
    item = lines(tmp_path, "a.jsonl", {"id": "a", "embedding": [1, 2]})
    longer = lines(tmp_path, "b.jsonl", {"id": "b", "embedding": [1, 2, 3]})
    to = ["--llm-collection", "posts"]
    assert "--model says" in annex("import", "e.db", item, *to, code=1).stderr
    assert not (tmp_path / "e.db").exists()
    annex("import", "e.db", item, *to, "--model", "demo")
    done = annex("import", "e.db", longer, *to, "--model", "other", code=1)
    assert "vectors of the model demo, not of other" in done.stderr
    assert "vectors of 2 elements" in annex("import", "e.db", longer, *to, code=1).stderr
    assert "is there already" in annex("import", "e.db", item, *to, code=1).stderr
    annex("import", "e.db", longer, "--llm-collection", "tils", "--model", "other")
    assert table(tmp_path / "e.db", "SELECT collection_id, id FROM embeddings") == [
        (1, "a"),
        (2, "b"),
    ]
    assert (
        "no collection"
        in annex("export", "e.db", "--llm-collection", "x", "-o", "o", code=3).stderr
    )


def test_the_format_of_embed_multi__is_ids_and_content(annex, tmp_path):
    lines(tmp_path, "a.jsonl", {"id": "a", "embedding": [1, 2], "content": "one\ntwo"})
    annex("import", "e.db", "a.jsonl", "--llm-collection", "posts", "--model", "demo")
    text = annex("export", "e.db", "--llm-collection", "posts", "--format", "llm", "-o", "-").stdout
    assert text == '{"id": "a", "content": "one\\ntwo"}\n'
    lines(tmp_path, "b.jsonl", {"id": "b", "embedding": [1, 2]})
    annex("import", "e.db", "b.jsonl", "--llm-collection", "posts")
    done = annex(
        "export", "e.db", "--llm-collection", "posts", "--format", "llm", "-o", "o.jsonl", code=1
    )
    assert 'key "b": there is no text for llm to embed' in done.stderr
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize("step", STEPS)
def test_collections_of_every_schema_that_llm_has_had__are_exported(annex, tmp_path, step):
    make(tmp_path / "e.db", step, "[]").close()
    text = annex("export", "e.db", "--llm-collection", COLLECTIONS[1], "-o", "-").stdout
    items = [json.loads(line) for line in text.splitlines()]
    assert [item["metadata"]["seed"] for item in items] == sorted(
        (1 + 3 * i for i in range(60)), key=lambda seed: f"item-{seed}"
    )
    for item in items:
        seed = item["metadata"]["seed"]
        assert (item["id"], item["content"]) == (f"item-{seed}", f"content {seed}")
        assert np.array(item["embedding"]).astype("<f4").tobytes() == embedding(seed).tobytes()
    lines(tmp_path, "a.jsonl", {"id": "a", "embedding": [0.5] * 6})
    old = step != "m005_add_content_blob"
    done = annex("import", "e.db", "a.jsonl", "--llm-collection", "posts", code=1 if old else 0)
    assert ("brings older ones up to date" in done.stderr) == old


# ---- size and time -------------------------------------------------------------------------------


def big_table(path, rows, dimension):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE big (id INTEGER PRIMARY KEY, e BLOB)")
        blob = np.ones(dimension, "<f4").tobytes()
        db.executemany("INSERT INTO big (e) VALUES (?)", ((blob,) for _ in range(rows)))


@pytest.mark.parametrize("kind", ["npy", "jsonl"])
def test_memory__does_not_grow_with_the_rows(tmp_path, kind):
    """64 MB of vectors, within 60 MB of addresses, of which the program itself takes half."""
    big_table(tmp_path / "big.db", 8000, 2048)

    def limited(*arguments):
        shell = f'ulimit -v 60000; exec {COMMAND} "$@"'
        return subprocess.run(
            ["bash", "-c", shell, "annex", *arguments], cwd=tmp_path, capture_output=True, text=True
        )

    if limited("help").returncode != 0:
        pytest.skip("a sanitizer needs the memory")
    done = limited(
        "export", "big.db", "--table", "big", "--vector", "e", "--key", "id", "-o", f"o.{kind}"
    )
    assert done.returncode == 0, done.stderr
    done = limited("import", "new.db", f"o.{kind}", "--table", "t")
    assert done.returncode == 0, done.stderr
    assert table(tmp_path / "new.db", "SELECT count(*) FROM t") == [(8000,)]


def test_an_interrupt__ends_both_and_leaves_nothing(annex, tmp_path):
    (tmp_path / "pipe.jsonl").symlink_to("/dev/stdin")
    process = subprocess.Popen(
        [COMMAND, "import", "new.db", "-", "--table", "t"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(GOOD + "\n")
    process.stdin.flush()
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "nothing was changed" in said
    assert not (tmp_path / "new.db").exists()

    big_table(tmp_path / "big.db", 40000, 768)
    process = subprocess.Popen(
        [
            COMMAND,
            "export",
            "big.db",
            "--table",
            "big",
            "--vector",
            "e",
            "--key",
            "id",
            "-o",
            "o.jsonl",
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("o.jsonl.tmp*")):
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert not list(tmp_path.glob("o.jsonl*"))
