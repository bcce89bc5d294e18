"""The commands that work on a database. How fresh and right answers are is tested with SQL."""

import csv
import io
import json
import sqlite3

import numpy as np
import pytest

from exact import as_query, near

LIST = (
    "name schema table column keys where metric family format storage state reason options "
    "dimension rows delta_rows dead_rows segments bytes recall source model is_default sources "
    "build_seconds"
).split()


@pytest.fixture
def database(annex, wordnet):
    """The example database with an index."""
    annex("create", wordnet, "synsets_idx", "--table", "synsets", "--vector", "embedding",
          "--metric", "cosine")
    return wordnet


def vector_of(path, key):
    with sqlite3.connect(path) as db:
        (blob,) = db.execute("SELECT embedding FROM synsets WHERE id = ?", (key,)).fetchone()
    return np.frombuffer(blob, "<f2" if len(blob) == 768 else "<f4").astype(np.float64)


def all_vectors(path):
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT id, embedding FROM synsets ORDER BY id").fetchall()
    return np.array([key for key, _ in found]), np.array(
        [np.frombuffer(blob, "<f2" if len(blob) == 768 else "<f4") for _, blob in found]
    )


def test_create_list_info(annex, wordnet):
    created = json.loads(
        annex("create", wordnet, "a_idx", "--table", "synsets", "--vector", "embedding", "--metric",
              "cosine", "--where", "pos = 'noun'", "--json").stdout
    )
    assert list(created) == LIST
    assert (created["name"], created["table"], created["keys"]) == ("a_idx", "synsets", "id")
    assert (created["metric"], created["dimension"]) == ("cosine", 384)
    assert created["options"] == {"where": "pos = 'noun'", "metric": "cosine"}
    with sqlite3.connect(wordnet) as db:
        (nouns,) = db.execute("SELECT count(*) FROM synsets WHERE pos = 'noun'").fetchone()
    assert created["rows"] == nouns and created["state"] == "fresh"
    (listed,) = json.loads(annex("list", wordnet, "--json").stdout)
    assert list(listed) == LIST and listed == created
    assert json.loads(annex("info", wordnet, "a_idx", "--json").stdout) == created
    assert json.loads(annex("info", wordnet, "--json").stdout) == created
    assert "a_idx" in annex("list", wordnet).stdout
    (row,) = csv.DictReader(io.StringIO(annex("list", wordnet, "--csv").stdout))
    assert row["where"] == "pos = 'noun'" and row["reason"] == ""


def test_list_of_a_database_without_indexes(annex, wordnet):
    assert json.loads(annex("list", wordnet, "--json").stdout) == []
    done = annex("list", wordnet)
    assert done.stdout == "" and "annex create" in done.stderr
    assert annex("list", wordnet, "-q").stderr == ""
    annex("search", wordnet, "--like", "1", code=3)


def test_search_in_a_database__equals_brute_force(annex, database, tmp_path):
    keys, vectors = all_vectors(database)
    query = vector_of(database, 1000)
    distances, order = near(vectors, query, "cosine")
    arguments = ["search", database, "synsets_idx", "--effort", "exact", "--json"]
    like = json.loads(annex(*arguments, "--like", "1000", "-k", "5").stdout)
    assert [hit["key"] for hit in like] == keys[order[1:6]].tolist()
    assert [hit["distance"] for hit in like] == pytest.approx(distances[1:6].tolist(), abs=1e-6)
    typed = json.loads(annex(*arguments, "--query", as_query(query), "-k", "6").stdout)
    assert [hit["key"] for hit in typed] == keys[order[:6]].tolist()
    np.save(tmp_path / "q.npy", query[None].astype("f4"))
    (group,) = json.loads(annex(*arguments, "--query-file", "q.npy", "-k", "6").stdout)
    assert group == typed
    limit = (distances[8] + distances[9]) / 2
    within = json.loads(annex(*arguments, "--like", "1000", "--within", limit).stdout)
    assert [hit["key"] for hit in within] == keys[order[1:9]].tolist()


def test_search_in_a_database__where_is_a_filter_before_the_search(annex, database):
    search = ["search", database, "--like", "1000", "-k", "7", "--json"]
    hits = json.loads(annex(*search, "--where", "pos = 'verb'").stdout)
    with sqlite3.connect(database) as db:
        verbs = {key for (key,) in db.execute("SELECT id FROM synsets WHERE pos = 'verb'")}
    assert len(hits) == 7 and {hit["key"] for hit in hits} <= verbs
    annex("search", database, "--like", "1000", "--where", "no_such_column = 1", code=1)


def test_search_in_a_database__is_fresh(annex, database):
    with sqlite3.connect(database) as db:
        db.execute("INSERT INTO synsets SELECT 900001, 'twin', pos, gloss, embedding FROM synsets "
                   "WHERE id = 1000")
    nearest = json.loads(annex("search", database, "--like", "1000", "-k", "1", "--json").stdout)
    assert nearest[0]["key"] == 900001
    (listed,) = json.loads(annex("list", database, "--json").stdout)
    assert (listed["state"], listed["delta_rows"]) == ("delta", 1)
    (synced,) = json.loads(annex("sync", database, "--json").stdout)
    assert list(synced) == "index inserted deleted segments rebuilt swept".split()
    assert (synced["inserted"], synced["deleted"], synced["rebuilt"]) == (1, 0, False)
    (merged,) = json.loads(annex("optimize", database, "synsets_idx", "--json").stdout)
    assert merged["segments"] == 1
    again = json.loads(annex("search", database, "--like", "1000", "-k", "1", "--json").stdout)
    assert again[0]["key"] == 900001


def test_compound_and_text_keys(annex, tmp_path):
    path = tmp_path / "k.db"
    rng = np.random.default_rng(4)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t(a INTEGER, b TEXT, v BLOB, PRIMARY KEY(a, b)) WITHOUT ROWID")
        for i in range(60):
            vector = rng.standard_normal(6).astype("<f4").tobytes()
            db.execute("INSERT INTO t VALUES(?, ?, ?)", (i // 10, f"x,{i % 10}", vector))
    annex("create", path, "i", "--table", "t", "--vector", "v", "--key", "a, b")
    like = ["search", path, "i", "--like", '[3, "x,4"]']
    hits = json.loads(annex(*like, "-k", "60", "--json").stdout)
    assert len(hits) == 59 and list(hits[0]) == ["key", "key2", "distance"]
    assert (3, "x,4") not in {(hit["key"], hit["key2"]) for hit in hits}
    assert "2 values" in annex("search", path, "i", "--like", "3", code=1).stderr
    annex("search", path, "i", "--like", '[3, "none"]', code=3)
    annex("search", path, "i", "--like", "[3, {}]", code=1)
    header = annex(*like, "--csv").stdout.splitlines()
    assert header[0] == "key,key2,distance" and header[1].count('"') == 2
    with sqlite3.connect(path) as db:
        db.execute('ALTER TABLE t RENAME COLUMN a TO "a, c"')
    assert json.loads(annex(*like, "-k", "60", "--json").stdout) == hits


def test_keys_and_vectors_that_are_bytes(annex, tmp_path):
    """Blob keys, text that is not UTF-8, vectors of bits, an index in a file of its own."""
    rng = np.random.default_rng(8)
    bits = rng.integers(0, 256, (50, 4), dtype=np.uint8)
    with sqlite3.connect(tmp_path / "k.db") as db:
        db.execute("CREATE TABLE blobs(k BLOB PRIMARY KEY, v BLOB)")
        one = np.ones(4, "<f4").tobytes()
        db.execute("INSERT INTO blobs VALUES(x'0aff', ?)", (one,))
        db.execute("INSERT INTO blobs VALUES(CAST(x'61ff62' AS TEXT), ?)", (one,))
        db.execute("CREATE TABLE bits(k INTEGER PRIMARY KEY, v BLOB)")
        db.executemany("INSERT INTO bits(v) VALUES(?)", [(row.tobytes(),) for row in bits])
    annex("create", "k.db", "blobs_idx", "--table", "blobs", "--vector", "v", "--key", "k")
    hits = json.loads(annex("search", "k.db", "--query", "[1, 1, 1, 1]", "--json").stdout)
    assert {hit["key"] for hit in hits} == {"x'0aff'", "a\ufffdb"}
    annex("create", "k.db", "bits_idx", "--table", "bits", "--vector", "v", "--metric", "hamming",
          "--format", "bits", "--storage", "file", "--dimension", "32")
    (name,) = [path.name for path in tmp_path.glob("k.db.annex-*")]
    info = json.loads(annex("info", name, "--json").stdout)
    assert (info["metric"], info["dimension"], info["rows"]) == ("hamming", 32, 50)
    assert name.endswith(info["content"])
    annex("check", name)
    query = rng.integers(0, 2, 32)
    distances = (np.unpackbits(bits, axis=1, bitorder="little") != query).sum(axis=1)
    order = np.lexsort((np.arange(50), distances))[:5]
    for target in (["k.db", "bits_idx"], [name]):
        done = annex("search", *target, "--query", str(query.tolist()), "-k", "5", "--json", "-v")
        assert json.loads(done.stdout) == [
            {"key": int(i) + 1, "distance": int(distances[i])} for i in order
        ]
        assert done.stderr.startswith("annex: ")
    done = annex("search", name, "--query", str([0.5] * 32), code=1)
    assert "0.5" in done.stderr


def test_search_in_a_database__effort_recall_threads(annex, database):
    first = annex("search", database, "--like", "7", "--json").stdout
    for extra in (["--recall", "0.9"], ["--effort", "500"], ["--effort", "exact", "-t", "1"]):
        assert annex("search", database, "--like", "7", "--json", *extra).stdout == first
    annex("search", database, "--like", "7", "--recall", "2", code=1)


def test_several_indexes__must_be_named(annex, database):
    annex("create", database, "second", "--table", "synsets", "--vector", "embedding")
    done = annex("search", database, "--like", "1", code=1)
    assert "second" in done.stderr and "synsets_idx" in done.stderr
    names = [line["index"] for line in json.loads(annex("check", database, "--json").stdout)]
    assert sorted(names) == ["second", "synsets_idx"]


def test_rename_and_drop(annex, database):
    assert "words" in annex("rename", database, "synsets_idx", "words").stderr
    assert [i["name"] for i in json.loads(annex("list", database, "--json").stdout)] == ["words"]
    with sqlite3.connect(database) as db:
        before = db.execute("SELECT count(*) FROM synsets").fetchone()
    annex("drop", database, "words", "--quiet")
    assert json.loads(annex("list", database, "--json").stdout) == []
    with sqlite3.connect(database) as db:
        assert db.execute("SELECT count(*) FROM synsets").fetchone() == before
        assert not db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "missing.db"],
        ["create", "missing.db", "i", "--table", "t", "--vector", "v"],
        ["create", "wordnet.db", "i", "--table", "nope", "--vector", "v"],
        ["create", "wordnet.db", "i", "--table", "synsets", "--vector", "nope"],
        ["search", "wordnet.db", "nope", "--like", "1"],
        ["search", "wordnet.db", "synsets_idx", "--like", "12345678"],
        ["info", "wordnet.db", "nope"],
        ["check", "wordnet.db", "nope"],
        ["sync", "wordnet.db", "nope"],
        ["optimize", "wordnet.db", "nope"],
        ["rename", "wordnet.db", "nope", "other"],
        ["drop", "wordnet.db", "nope"],
    ],
)
def test_what_does_not_exist__3(annex, database, tmp_path, arguments):
    done = annex(*arguments, code=3)
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert not (tmp_path / "missing.db").exists()


def test_name_taken__1(annex, database):
    done = annex("create", database, "synsets_idx", "--table", "synsets", "--vector", "embedding",
                 code=1)
    assert "synsets_idx" in done.stderr


def test_locked_database__5(annex, database):
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    done = annex("optimize", database, "synsets_idx", code=5)
    assert done.stdout.count("\n") <= 1 and done.stderr.count("\n") == 1
    db.execute("ROLLBACK")
    db.close()
    annex("optimize", database, "synsets_idx")


def test_lost_trigger__answers_stay_right_and_sync_compares(annex, database):
    search = ["search", database, "--like", "5", "--effort", "exact", "--json"]
    before = annex(*search).stdout
    with sqlite3.connect(database) as db:
        (name,) = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchone()
        db.execute(f"DROP TRIGGER {name}")
    done = annex(*search)
    assert done.stdout == before and "stale" in done.stderr
    assert annex(*search, "--quiet").stderr == ""
    info = json.loads(annex("info", database, "--json").stdout)
    assert info["state"] == "stale" and "trigger" in info["reason"]
    listed = annex("list", database)
    assert info["reason"] in listed.stderr and listed.stderr.count("\n") == 1
    assert info["reason"].endswith("; run annex_sync('synsets_idx')")
    annex("check", database, code=4)
    (synced,) = json.loads(annex("sync", database, "--json").stdout)
    assert (synced["rebuilt"], synced["swept"], synced["inserted"]) == (False, True, 0)
    annex("check", database)
    assert annex(*search).stderr == ""


def test_damaged_index_in_a_database__check_says_4(annex, database):
    with sqlite3.connect(database) as db:
        db.execute("UPDATE annex_segment SET data = zeroblob(length(data))")
    done = annex("check", database, "synsets_idx", "--json", code=4)
    (line,) = json.loads(done.stdout)
    assert line["ok"] is False and line["problem"]
    annex("optimize", database, "synsets_idx")
    annex("check", database)


def test_a_file_that_is_no_database(annex, tmp_path):
    (tmp_path / "x.db").write_bytes(b"hello world, " * 300)
    done = annex("list", "x.db", code=None)
    assert done.returncode in (1, 4) and done.stderr.count("\n") == 1


def test_control_characters_in_keys__cannot_steer_the_terminal(annex, tmp_path):
    with sqlite3.connect(tmp_path / "k.db") as db:
        db.execute("CREATE TABLE t(k TEXT PRIMARY KEY, v BLOB)")
        for key in ("a", "b\033[2Jc", "d\ne", 'f"g', "ü"):
            db.execute("INSERT INTO t VALUES(?, ?)", (key, np.ones(4, "<f4").tobytes()))
    annex("create", "k.db", "i", "--table", "t", "--vector", "v", "--key", "k")
    search = ["search", "k.db", "i", "--query", "[1, 1, 1, 1]"]
    people = annex(*search).stdout
    assert "\033" not in people and "b?[2Jc" in people and people.count("\n") == 6
    keys = {hit["key"] for hit in json.loads(annex(*search, "--json").stdout)}
    assert keys == {"a", "b\033[2Jc", "d\ne", 'f"g', "ü"}
    table = csv.DictReader(io.StringIO(annex(*search, "--csv").stdout, newline=""))
    assert {row["key"] for row in table} == keys
