"""annex.chroma with the real Chroma: what goes there comes back."""

import json
import os
import sqlite3
import subprocess
import sys

import numpy
import pytest

os.environ["ANONYMIZED_TELEMETRY"] = "False"  # before chromadb
chromadb = pytest.importorskip("chromadb")
from annex import AnnexError, ExistsError, NotFoundError  # noqa: E402
from annex.__main__ import find_command  # noqa: E402
from annex.chroma import from_chroma, to_chroma  # noqa: E402

ITEMS = [
    {"id": "plain", "content": "words", "metadata": {"year": 2024, "pi": 3.14, "new": True}},
    {"id": "line\nfeed 😀", "content": "", "metadata": {"whole": 2.0, "annex": "mine"}},
    {"id": 7, "metadata": {"nested": {"a": [1, None]}, "kept": "here", "none": None}},
    {"id": "bare"},
    {"id": "hashed", "content_hash": "00112233445566778899aabbccddeeff", "metadata": {"list": []}},
    {"id": "bytes", "content": {"blob": "00ff"}, "metadata": [1, 2]},
    {"id": "large", "metadata": {"n": 2**63, "m": -(2**63), "tiny": 1e-300}},
]


def vectors_of(n, dimension=5):
    rows = numpy.random.default_rng(5).standard_normal((n, dimension), dtype=numpy.float32)
    rows[0, :3] = [-0.0, 1e-40, 1 / 3]
    return rows


def annex(*arguments, stdin=None):
    done = subprocess.run([find_command(), *map(str, arguments)], input=stdin, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def exported(path, *arguments):
    lines = annex("export", path, *arguments, "-o", "-").splitlines()
    return {json.dumps(item["id"]): item for item in map(json.loads, lines)}


@pytest.fixture
def table(tmp_path):
    """A table of any kind of key, content and metadata, and how to export it."""
    path = tmp_path / "docs.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE items (id PRIMARY KEY, embedding, content, metadata)")
    lines = [json.dumps({**item, "embedding": [float(x) for x in row]})
             for item, row in zip(ITEMS, vectors_of(len(ITEMS))) if "content_hash" not in item]
    annex("import", path, "-", "--table", "items", stdin="\n".join(lines))
    return path, {"table": "items", "vector": "embedding", "key": "id", "content": "content",
                  "metadata": "metadata"}


def words(options):
    return [word for name, value in options.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize("space", ["l2", "ip"])
def test_a_table__comes_back_exactly(table, tmp_path, space):
    path, options = table
    assert to_chroma(path, tmp_path / "chroma", "items", space=space, **options) == len(ITEMS) - 1
    with sqlite3.connect(tmp_path / "back.db") as db:
        db.execute("CREATE TABLE items (id PRIMARY KEY, embedding, content, metadata)")
    back = tmp_path / "back.db"
    assert from_chroma(tmp_path / "chroma", "items", back, table="items") == len(ITEMS) - 1
    assert exported(back, *words(options)) == exported(path, *words(options))
    blobs = "SELECT hex(embedding) FROM items ORDER BY typeof(id), id"
    with sqlite3.connect(path) as db, sqlite3.connect(back) as other:
        assert db.execute(blobs).fetchall() == other.execute(blobs).fetchall()


def test_chroma__searches_what_it_was_given(table, tmp_path):
    path, options = table
    to_chroma(path, tmp_path / "chroma", "items", space="l2", **options)
    client = chromadb.PersistentClient(str(tmp_path / "chroma"))
    collection = client.get_collection("items", embedding_function=None)
    found = collection.query(query_embeddings=[vectors_of(len(ITEMS))[1].tolist()], n_results=1)
    assert found["ids"] == [["line\nfeed 😀"]] and found["distances"][0][0] < 1e-6
    found = collection.get(where={"year": 2024})
    assert (found["ids"], found["documents"]) == (["plain"], ["words"])
    assert to_chroma(path, client, "again", **options) == collection.count()


def test_a_collection_of_llm__comes_back_and_an_index_gives_its_metric(tmp_path):
    """More items than a batch, and than Chroma keeps outside its index."""
    rows = vectors_of(2300, 8)
    lines = [json.dumps({"id": f"item-{i}", "embedding": [float(x) for x in row],
                         "content": f"text {i}", "metadata": {"n": i}})
             for i, row in enumerate(rows)]
    path, chroma = tmp_path / "embeddings.db", tmp_path / "chroma"
    annex("import", path, "-", "--llm-collection", "posts", "--model", "m", stdin="\n".join(lines))
    to_chroma(path, chroma, "posts", llm_collection="posts", space="l2")
    back = tmp_path / "back.db"
    assert from_chroma(chroma, "posts", back, llm_collection="posts", model="m") == 2300
    posts = ["--llm-collection", "posts"]
    assert exported(back, *posts) == exported(path, *posts)

    annex("create", path, "idx", "--llm-collection", "posts", "--metric", "cosine")
    to_chroma(path, chroma, "cosine", index="idx")
    from_chroma(chroma, "cosine", tmp_path / "scaled.db", table="t")
    with sqlite3.connect(tmp_path / "scaled.db") as db:
        for key, blob in db.execute("SELECT id, embedding FROM t"):
            row = rows[int(key[5:])]
            assert numpy.allclose(numpy.frombuffer(blob, "<f4"), row, rtol=1e-6, atol=1e-7)


def test_an_index_file__goes_with_its_metric(tmp_path):
    rows = vectors_of(300)
    numpy.save(tmp_path / "rows.npy", rows)
    annex("build", tmp_path / "rows.npy", "-o", tmp_path / "my.annex", "--metric", "ip")
    assert to_chroma(tmp_path / "my.annex", tmp_path / "chroma", "mine") == 300
    client = chromadb.PersistentClient(str(tmp_path / "chroma"))
    collection = client.get_collection("mine", embedding_function=None)
    assert collection.configuration["hnsw"]["space"] == "ip"
    from_chroma(client, "mine", tmp_path / "back.db", table="t")
    with sqlite3.connect(tmp_path / "back.db") as db:
        back = dict(db.execute("SELECT id, embedding FROM t"))
    assert back == {i: row.tobytes() for i, row in enumerate(rows)}


def test_failures__leave_both_sides_as_they_were(table, tmp_path):
    path, options = table
    chroma = tmp_path / "chroma"
    to_chroma(path, chroma, "items", **options)
    with pytest.raises(ExistsError):
        to_chroma(path, chroma, "items", **options)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE items SET embedding = x'00' WHERE id = 'large'")
    with pytest.raises(AnnexError, match="a blob of 1 bytes is no vector"):
        to_chroma(path, chroma, "items", replace=True, **options)
    with pytest.raises(NotFoundError):
        to_chroma(path, chroma, "others", index="nothing")
    with pytest.raises(NotFoundError, match="no collection others"):
        from_chroma(chroma, "others", tmp_path / "a.db", table="t")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE items SET embedding = zeroblob(20) WHERE id = 'large'")
    with pytest.raises(AnnexError, match="is there already"):
        from_chroma(chroma, "items", path, table="items")
    assert to_chroma(path, chroma, "items", replace=True, **options) == len(ITEMS) - 1
    assert from_chroma(chroma, "items", path, table="items", existing="ignore") == len(ITEMS) - 1

    names = [c.name for c in chromadb.PersistentClient(str(chroma)).list_collections()]
    assert names == ["items"]


def test_the_command_line__does_the_same(table, tmp_path):
    path, options = table
    command = [sys.executable, "-m", "annex.chroma"]
    there = [path, tmp_path / "chroma", "items"]
    done = subprocess.run([*command, "export", *there, *words(options)], capture_output=True,
                          text=True)
    assert done.stdout == f"{len(ITEMS) - 1} items\n", done.stderr
    done = subprocess.run([*command, "import", *there, "--table", "items"], capture_output=True,
                          text=True)
    assert done.returncode == 1 and "is there already" in done.stderr
