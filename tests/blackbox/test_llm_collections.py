"""Collections of llm on databases as each step of its migrations leaves them, written with both
ways of quoting names that sqlite-utils has had. tests/ecosystem/test_llm.py has the real llm."""

import json
import os
import sqlite3
import struct

import numpy as np
import pytest
from conftest import BUILD

DIMENSION = 6
STEPS = {
    "m001_create_tables": '"collection_id" INTEGER, "id" TEXT, "embedding" BLOB, "content" TEXT, '
                          '"metadata" TEXT',
    "m002_foreign_key": '"collection_id" INTEGER REFERENCES "collections"("id"), "id" TEXT, '
                        '"embedding" BLOB, "content" TEXT, "metadata" TEXT',
    "m003_add_updated": '"collection_id" INTEGER REFERENCES "collections"("id"), "id" TEXT, '
                        '"embedding" BLOB, "content" TEXT, "metadata" TEXT, "updated" INTEGER',
    "m004_store_content_hash": '"collection_id" INTEGER REFERENCES "collections"("id"), "id" TEXT, '
                               '"embedding" BLOB, "content" TEXT, "content_hash" BLOB, '
                               '"metadata" TEXT, "updated" INTEGER',
    "m005_add_content_blob": '"collection_id" INTEGER REFERENCES "collections"("id"), "id" TEXT, '
                             '"embedding" BLOB, "content" TEXT, "content_blob" BLOB, '
                             '"content_hash" BLOB, "metadata" TEXT, "updated" INTEGER',
}
COLLECTIONS = ["posts", "it's [odd]", "tils"]


def embedding(seed):
    return np.random.RandomState(seed).standard_normal(DIMENSION).astype("<f4")


def make(path, step="m005_add_content_blob", quotes='""'):
    db = sqlite3.connect(path, isolation_level=None)
    schema = ('CREATE TABLE "collections" ("id" INTEGER PRIMARY KEY, "name" TEXT, "model" TEXT);'
              'CREATE UNIQUE INDEX "idx_collections_name" ON "collections" ("name");'
              f'CREATE TABLE "embeddings" ({STEPS[step]}, PRIMARY KEY ("collection_id", "id"))')
    halves = iter(quotes * schema.count('"'))
    db.executescript("".join(next(halves) if c == '"' else c for c in schema))
    for number, name in enumerate(COLLECTIONS, 1):
        db.execute("INSERT INTO collections VALUES (?, ?, 'demo')", (number, name))
    db.execute("BEGIN")
    for i in range(180):
        put(db, 1 + i % 3, f"item-{i}", i)
    db.execute("COMMIT")
    return db


def put(db, collection, name, seed):
    db.execute("INSERT OR REPLACE INTO embeddings(collection_id, id, embedding, content, metadata) "
               "VALUES (?, ?, ?, ?, ?)", (collection, name, embedding(seed).tobytes(),
                                          f"content {seed}", json.dumps({"seed": seed})))


def scores(db, collection, query):
    """(id, score) of all items of a collection as llm computes them, best first."""
    query = list(map(float, query))
    found = []
    for name, blob in db.execute("SELECT id, embedding FROM embeddings WHERE collection_id = "
                                 "(SELECT id FROM collections WHERE name = ?)", (collection,)):
        other = struct.unpack(f"<{len(blob) // 4}f", blob)
        dot = lengths = rest = 0
        for x, y in zip(other, query):
            dot += x * y
        for x in other:
            lengths += x * x
        for y in query:
            rest += y * y
        found.append((-(dot / (lengths ** 0.5 * rest ** 0.5)), name))
    return [(name, -score) for score, name in sorted(found)]


@pytest.fixture
def database(tmp_path):
    db = make(tmp_path / "embeddings.db")
    yield db
    db.close()


def similar(annex, collection, *arguments, **options):
    done = annex("similar", collection, *arguments, "-d", "embeddings.db", **options)
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_right(annex, db, collection, item):
    blob, = db.execute("SELECT embedding FROM embeddings JOIN collections AS c "
                       "ON c.id = collection_id WHERE name = ? AND embeddings.id = ?",
                       (collection, item)).fetchone()
    truth = [x for x in scores(db, collection, np.frombuffer(blob, "<f4")) if x[0] != item]
    assert [(row["id"], row["score"]) for row in similar(annex, collection, item)] == truth[:10]


def state(annex, name="idx"):
    rows = {row["name"]: row for row in json.loads(annex("list", "embeddings.db", "--json").stdout)}
    return rows[name]["state"]


@pytest.mark.parametrize("quotes", ['""', "[]"])
@pytest.mark.parametrize("step", STEPS)
def test_each_schema_of_llm__is_indexed_and_followed(annex, tmp_path, connect, step, quotes):
    db = make(tmp_path / "embeddings.db", step, quotes)
    made = json.loads(annex("create", "embeddings.db", "idx", "--llm-collection", "posts",
                            "--llm-collection", COLLECTIONS[1], "--default", "--json").stdout)
    assert (made["rows"], made["dimension"], made["model"]) == (120, DIMENSION, "demo")
    assert (made["metric"], made["keys"]) == ("cosine", "collection_id, id")
    for name in COLLECTIONS:  # the last one has no index
        is_right(annex, db, name, f"item-{COLLECTIONS.index(name)}")
    put(db, 1, "new", 500)
    db.execute("DELETE FROM embeddings WHERE id = 'item-3'")
    put(db, 2, "item-1", 501)
    is_right(annex, db, "posts", "item-0")
    is_right(annex, db, COLLECTIONS[1], "item-1")
    searching = connect("embeddings.db")
    answer = searching.execute("SELECT source, key, key2 FROM annex_search('idx', ?, 1)",
                               (embedding(501).tobytes(),)).fetchone()
    assert answer == (COLLECTIONS[1], 2, "item-1")
    annex("sync", "embeddings.db")
    assert state(annex) == "fresh"
    is_right(annex, db, "posts", "new")
    annex("check", "embeddings.db")
    db.close()


def test_other_collections__are_not_in_the_log(annex, database):
    annex("create", "embeddings.db", "idx", "--llm-collection", "posts")
    annex("create", "embeddings.db", "til", "--llm-collection", "tils")
    for i in range(50):
        put(database, 3, f"til {i}", 600 + i)
    database.execute("UPDATE embeddings SET id = id || ' of today' WHERE collection_id = 3")
    database.execute("DELETE FROM embeddings WHERE collection_id = 3 AND id LIKE 'item%'")
    assert state(annex) == "fresh" and state(annex, "til") == "delta"
    assert database.execute("SELECT count(*) FROM annex_log_1").fetchone() == (1,)
    database.execute("UPDATE embeddings SET collection_id = 1 WHERE id = 'til 7 of today'")
    database.execute("UPDATE embeddings SET collection_id = 3 WHERE id = 'item-6'")
    assert database.execute("SELECT count(*) FROM annex_log_1").fetchone() == (3,)
    for name in ("posts", "tils"):
        annex("default", "embeddings.db", "idx" if name == "posts" else "til")
        is_right(annex, database, name, "item-0" if name == "posts" else "til 9 of today")
    annex("sync", "embeddings.db")
    annex("check", "embeddings.db")


def test_the_number_of_a_collection__is_not_its_identity(annex, database):
    """llm gives the number of the newest collection to the next one when it was deleted."""
    annex("create", "embeddings.db", "idx", "--llm-collection", "tils", "--default")
    database.executescript("""
        DELETE FROM embeddings WHERE collection_id = 3; DELETE FROM collections WHERE id = 3;
        INSERT INTO collections VALUES (3, 'recipes', 'other')""")
    for i in range(20):
        put(database, 3, f"item-{i}", 700 + i)
    assert similar(annex, "tils", "item-2", code=1) == []
    listed, = json.loads(annex("list", "embeddings.db", "--json").stdout)
    assert listed["state"] == "stale" and "tils is not there any more" in listed["reason"]
    found = annex("search", "embeddings.db", "idx", "--query", json.dumps([1.0] * DIMENSION))
    assert "recipes" not in found.stdout and "item" not in found.stdout
    annex("sync", "embeddings.db")
    assert state(annex) == "fresh"
    database.execute("INSERT INTO collections VALUES (4, 'tils', 'demo')")
    put(database, 4, "again", 800)
    put(database, 4, "and again", 801)
    is_right(annex, database, "tils", "again")
    assert state(annex) == "stale"
    annex("sync", "embeddings.db")
    assert state(annex) == "fresh"
    put(database, 4, "noted", 802)
    assert state(annex) == "delta"
    is_right(annex, database, "tils", "noted")


def test_a_collection_of_another_model__is_refused(annex, database):
    annex("create", "embeddings.db", "idx", "--llm-collection", "posts", "--default")
    database.execute("UPDATE collections SET model = 'other' WHERE name = 'posts'")
    query = json.dumps([1.0] * DIMENSION)
    says = annex("search", "embeddings.db", "idx", "--query", query, code=1).stderr
    assert "collection posts is embedded with the model other now" in says
    assert "run annex_drop('idx')" in says
    assert "model other" in annex("sync", "embeddings.db", code=1).stderr
    annex("drop", "embeddings.db", "idx")
    says = annex("create", "embeddings.db", "both", "--llm-collection", "posts",
                 "--llm-collection", "tils", code=1).stderr
    assert 'posts holds vectors of the model "other" and tils those of "demo"' in says
    assert "make an index for each" in says


@pytest.mark.parametrize("arguments, code, says", [
    (["--llm-collection", "nope"], 3, "there is no collection nope"),
    (["--llm-collection", "posts", "--model", "x"], 1, "embedded with the model demo, not with x"),
    (["--llm-collection", "posts", "--table", "collections", "--vector", "name"], 1,
     "whose key is (collection_id, id)"),
    (["--llm-collection", "posts", "--table", "a", "--table", "b"], 2, "leave out --table"),
    (["--llm-collection", "posts", "--llm-collection", "posts"], 1, "are called posts"),
    (["--llm-collection", ""], 1, "the name of a collection"),
])
def test_what_is_no_collection__is_refused(annex, database, arguments, code, says):
    before = database.execute("SELECT * FROM sqlite_schema").fetchall()
    assert says in annex("create", "embeddings.db", "idx", *arguments, code=code).stderr
    assert database.execute("SELECT * FROM sqlite_schema").fetchall() == before


def test_similar__takes_the_index_that_is_named(annex, database):
    annex("create", "embeddings.db", "one", "--llm-collection", "posts")
    annex("create", "embeddings.db", "two", "--llm-collection", "posts", "--llm-collection", "tils",
          "--index", "graph")
    expected = similar(annex, "posts", "item-0")
    for name in ("one", "two", "two.posts"):
        assert similar(annex, "posts", "item-0", "--index", name) == expected
    assert len(similar(annex, "posts", "item-0", "--index", "two", "--recall", "0.5")) == 10
    refused = annex("similar", "tils", "item-2", "--index", "one", "-d", "embeddings.db", code=1)
    assert refused.stderr == "Error: index one is not over collection tils\n"
    assert "no index" in annex("similar", "tils", "item-2", "--index", "x", "-d", "embeddings.db",
                               code=1).stderr


def test_a_table_of_the_same_name__has_a_default_index_of_its_own(annex, database, connect):
    database.execute("CREATE TABLE posts(id INTEGER PRIMARY KEY, v BLOB)")
    database.execute("INSERT INTO posts VALUES (1, ?)", (embedding(1).tobytes(),))
    annex("create", "embeddings.db", "of-table", "--table", "posts", "--vector", "v", "--default")
    is_right(annex, database, "posts", "item-0")
    annex("create", "embeddings.db", "of-llm", "--llm-collection", "posts", "--default")
    defaults = json.loads(annex("default", "embeddings.db", "--json").stdout)
    assert {row["index"] for row in defaults} == {"of-table", "of-llm"}
    is_right(annex, database, "posts", "item-0")
    annex("drop", "embeddings.db", "of-table")
    assert connect("embeddings.db").execute(
        "SELECT key2 FROM annex_search('posts', ?, 1)", (embedding(3).tobytes(),)
    ).fetchone() == ("item-3",)


@pytest.mark.parametrize("indexed", [True, False])
def test_similar__compares_with_a_vector_of_any_length(annex, database, indexed):
    """llm compares as many elements as both have."""
    if indexed:
        annex("create", "embeddings.db", "idx", "--llm-collection", "posts", "--default")
    for n in (DIMENSION, 3, 9):
        query = [0.1 * i + 0.05 for i in range(n)]
        rows = similar(annex, "posts", "--vector", json.dumps(query), "-n", "4")
        assert [(row["id"], row["score"]) for row in rows] == scores(database, "posts", query)[:4]
        assert similar(annex, "posts", "--vector", "-", "-n", "4", stdin=json.dumps(query)) == rows


def test_similar__leaves_out_what_has_no_direction(annex, database):
    annex("create", "embeddings.db", "idx", "--llm-collection", "posts", "--default")
    zero = b"\0" * 4 * DIMENSION
    database.execute("INSERT INTO embeddings(collection_id, id, embedding) VALUES (1, 'zero', ?), "
                     "(1, 'none', NULL)", (zero,))
    everything = similar(annex, "posts", "item-0", "-n", "-1")
    assert len(everything) == 59 and "zero" not in {row["id"] for row in everything}
    assert "is zero" in annex("similar", "posts", "zero", "-d", "embeddings.db", code=1).stderr


@pytest.mark.parametrize("arguments, code, says", [
    (["posts"], 1, "Must provide content or an ID for the comparison"),
    (["posts", ""], 1, "Must provide content or an ID for the comparison"),
    (["nope", "x"], 1, "Collection does not exist"),
    (["posts", "nope"], 1, "ID not found in collection"),
    (["posts", "-c", "some text"], 1, "annex has no embedding model"),
    (["posts", "-i", "file.txt"], 1, "the plug-in annex[llm]"),
    (["posts", "--vector", "[1, two]"], 1, ""),
])
def test_errors_of_similar__are_those_of_llm(annex, database, arguments, code, says):
    done = annex("similar", *arguments, "-d", "embeddings.db", code=code)
    assert done.stderr.startswith("Error: ") and says in done.stderr and done.stdout == ""


def test_similar__asks_an_index_of_another_engine_and_is_right_without_it(annex, database):
    expected = similar(annex, "posts", "item-0")
    scan = ("--load-engine", BUILD / "examples" / "engine" / "engine-scan.so")
    annex("create", "embeddings.db", "idx", "--llm-collection", "posts", "--llm-collection", "tils",
          "--default", "--engine", "scan", *scan)
    question = ("similar", "posts", "item-0", "-d", "embeddings.db")
    for more in ((), ("--index", "idx"), ("--recall", "0.5")):
        without, by_it = annex(*question, *more), annex(*question, *more, *scan)
        assert [json.loads(line) for line in without.stdout.splitlines()] == expected
        assert (by_it.stdout, by_it.stderr) == (without.stdout, "")
        assert without.stderr.count("\n") == 1 and "give --load-engine" in without.stderr
    wrong = annex(*question, "--load-engine", "./embeddings.db", code=1)
    assert wrong.stdout == "" and wrong.stderr.startswith("Error: ")
    assert wrong.stderr.count("\n") == 1


def test_usage_errors_of_similar__exit_with_2(annex, database):
    annex("similar", code=2)
    annex("similar", "posts", "item-0", "-n", "many", "-d", "embeddings.db", code=2)


def test_similar__finds_the_database_where_llm_has_it(annex, database, tmp_path, monkeypatch):
    missing = annex("similar", "posts", "item-0", "-d", "nowhere.db", code=1)
    assert missing.stderr == "Error: No embeddings table found in database\n"
    assert not os.path.exists(tmp_path / "nowhere.db")
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    found = annex("similar", "posts", "item-0").stdout
    monkeypatch.setenv("LLM_EMBEDDINGS_DB", str(tmp_path / "empty.db"))
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE t(x)")
    assert annex("similar", "posts", "item-0", code=1).stderr == missing.stderr
    assert annex("similar", "posts", "item-0", "-d", "embeddings.db").stdout == found != ""


def test_compare__measures_the_indexes_of_a_collection(annex, database):
    annex("create", "embeddings.db", "one", "--llm-collection", "posts", "--index", "flat")
    annex("create", "embeddings.db", "two", "--llm-collection", "posts", "--llm-collection", "tils",
          "--index", "graph")
    rows = json.loads(annex("compare", "embeddings.db", "--collection", "posts", "--json",
                            "--queries", "20").stdout)
    assert [(row["index"], row["family"], row["model"], row["questions"]) for row in rows] == [
        ("one", "flat", "demo", 20), ("two.posts", "graph", "demo", 20)]
    assert rows[0]["recall"] == 1 and rows[1]["recall"] > 0.8
    annex("compare", "embeddings.db", "--table", "embeddings", code=3)
