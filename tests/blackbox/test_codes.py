"""How rows are coded is a choice, in the command and in SQL; answers stay right under any."""

import json
import os
import sqlite3

import numpy as np
import pytest

from conftest import COMMAND
from exact import as_query, near, same_answer

CODES = ["auto", "q8", "q4", "f16", "bf16", "f32"]
METRICS = ["l2", "ip", "cosine", "l1"]


def allowed(codes, metric):
    return codes != "q4" or metric != "l1"


def info(annex, path):
    return json.loads(annex("info", path, "--json").stdout)


def search(annex, path, queries, *arguments):
    np.save(path.with_suffix(".queries.npy"), queries)
    done = annex("search", path, "--query-file", path.with_suffix(".queries.npy"), "--json",
                 *arguments)
    return json.loads(done.stdout)


@pytest.fixture
def words(wordnet):
    """Rows and queries of the example database: text embeddings, 384 dimensions."""
    db = sqlite3.connect(wordnet)
    read = "SELECT embedding FROM {} ORDER BY id"
    rows, queries = (np.array([np.frombuffer(v, "f4") for v, in db.execute(read.format(t))])
                     for t in ("synsets", "queries"))
    db.close()
    return rows, queries


@pytest.mark.parametrize("codes", CODES)
def test_build__text_embeddings_under_any_codes__are_found(annex, tmp_path, words, codes):
    rows, queries = words
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "queries.npy", np.concatenate([queries, rows[:60] + 0.01]))
    report = json.loads(annex("build", "rows.npy", "-o", "my.annex", "--codes", codes, "--metric",
                              "cosine", "--index", "graph", "--json").stdout)
    expected = "q8" if codes == "auto" else codes
    assert report["codes"] == info(annex, "my.annex")["codes"] == expected
    measured = json.loads(annex("eval", "my.annex", "--queries", "queries.npy", "--efforts", "64",
                                "--json").stdout)
    assert measured["points"][0]["recall"] >= 0.95


@pytest.mark.isa
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("codes", CODES)
def test_search__exact__is_exact_under_any_codes(annex, tmp_path, codes, metric):
    if not allowed(codes, metric):
        return
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((400, 45)).astype("f4")
    rows[:, 7] *= 30  # an element that is much larger than the others
    rows[200:220] = rows[:20]  # twins
    np.save(tmp_path / "rows.npy", rows)
    queries = np.concatenate([rows[3:5], rng.standard_normal((6, 45)).astype("f4")])
    for family in ("flat", "graph"):
        path = tmp_path / f"{family}.annex"
        annex("build", "rows.npy", "-o", path, "--codes", codes, "--metric", metric, "--index",
              family)
        for query, hits in zip(queries, search(annex, path, queries, "-k", "12", "--effort",
                                               "exact")):
            same_answer(hits, rows, query, 12, metric)


@pytest.mark.parametrize("codes", ["q8", "q4", "bf16"])
def test_build__any_threads_and_processor__same_bytes(annex, tmp_path, monkeypatch, codes):
    rows = np.random.default_rng(6).standard_normal((700, 70)).astype("f4")
    rows[:, 3] *= 50
    np.save(tmp_path / "rows.npy", rows)
    seen = set()
    for isa in json.loads(annex("info", "--cpu", "--json").stdout)["available"]:
        for threads in ("1", "2"):
            monkeypatch.setitem(os.environ, "ANNEX_CPU", isa)
            annex("build", "rows.npy", "-o", "my.annex", "--force", "--codes", codes, "--index",
                  "graph", "--threads", threads)
            seen.add((tmp_path / "my.annex").read_bytes())
    assert len(seen) == 1 and COMMAND.exists()


def test_build__without_vectors__distances_are_those_of_the_codes(annex, tmp_path):
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((300, 24)).astype("f2").astype("f4")  # numbers that f16 has
    np.save(tmp_path / "rows.npy", rows)
    queries = rng.standard_normal((4, 24)).astype("f4")
    for codes, off in (("f32", 0), ("f16", 0), ("bf16", 0.02), ("q8", 0.05), ("q4", 0.6)):
        path = tmp_path / f"{codes}.annex"
        annex("build", "rows.npy", "-o", path, "--codes", codes, "--raw", "none")
        told = info(annex, path)
        assert told["raw_bytes"] == 0 and told["lossless"] == (off == 0)
        for query, hits in zip(queries, search(annex, path, queries, "-k", "5")):
            if off == 0:
                same_answer(hits, rows, query, 5)
            for hit in hits:
                true = np.linalg.norm(rows[hit["key"]] - query)
                assert abs(hit["distance"] - true) <= off + 1e-5


def test_build__a_few_huge_elements__auto_rotates(annex, tmp_path):
    rng = np.random.default_rng(8)
    rows = rng.standard_normal((2000, 128)).astype("f4")
    np.save(tmp_path / "even.npy", rows)
    rows[:, [5, 77]] *= 60
    np.save(tmp_path / "uneven.npy", rows)
    np.save(tmp_path / "bytes.npy", np.rint(rows).clip(-100, 100))
    for name, rotated in (("even", False), ("uneven", True), ("bytes", False)):
        annex("build", f"{name}.npy", "-o", f"{name}.annex")
        told = info(annex, f"{name}.annex")
        assert (told["codes"], told["rotated"]) == ("q8", rotated)
        assert told["lossless"] == (name == "bytes")


def test_build__rows_too_near_for_bytes__auto_takes_floats(annex, tmp_path):
    rng = np.random.default_rng(8)
    near_zero = rng.standard_normal((40, 1, 20)) + 1e-3 * rng.standard_normal((40, 100, 20))
    for name, rows, codes in (("f16", near_zero, "f16"), ("f32", near_zero + 30, "f32")):
        rows = rows.reshape(-1, 20).astype("f4")
        np.save(tmp_path / "rows.npy", rows)
        np.save(tmp_path / "queries.npy", rows[::40] + np.float32(3e-4))
        annex("build", "rows.npy", "-o", f"{name}.annex", "--index", "graph")
        assert info(annex, f"{name}.annex")["codes"] == codes
        points = json.loads(annex("eval", f"{name}.annex", "--queries", "queries.npy", "--efforts",
                                  "40,200", "--json").stdout)["points"]
        assert points[1]["recall"] >= 0.95


def test_build__little_memory__auto_takes_half_bytes(annex, tmp_path):
    rng = np.random.default_rng(8)
    np.save(tmp_path / "rows.npy", rng.standard_normal((6000, 1024)).astype("f4"))
    for limit, codes in (("24M", "q8"), ("22M", "q4")):
        annex("build", "rows.npy", "-o", "my.annex", "--force", "--max-memory", limit,
              "--build-effort", "8", "--degree", "8", "--threads", "2")
        assert info(annex, "my.annex")["codes"] == codes
    annex("build", "rows.npy", "-o", "my.annex", "--force", "--max-memory", "18M", code=1)


def test_build__codes_that_do_not_exist_or_fit__are_refused(annex, tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((3, 4), "f4"))
    done = annex("build", "rows.npy", "-o", "my.annex", "--codes", "q5", code=2)
    assert "--codes" in done.stderr and "auto|q8|q4|f16|bf16|f32" in done.stderr.replace(", ", "|")
    arguments = ("build", "rows.npy", "-o", "my.annex", "--codes", "q4", "--metric", "l1")
    done = annex(*arguments, code=1)
    assert "codes q4 are not for the metric l1; use q8" in done.stderr
    done = annex("build", "rows.npy", "-o", "my.annex", "--codes", "q4", "--index", "ivf", code=1)
    assert "one bit a dimension and takes no codes q4" in done.stderr
    assert not (tmp_path / "my.annex").exists()


# In a database


@pytest.mark.parametrize("codes", CODES)
def test_create__any_codes__answers_follow_the_table(connect, codes):
    rng = np.random.default_rng(9)
    rows = rng.standard_normal((300, 33)).astype("f4")
    db = connect("a.db")
    db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB)")
    db.executemany("INSERT INTO docs VALUES(?, ?)",
                   [(i, rows[i].tobytes()) for i in range(200)])
    options = json.dumps({"metric": "cosine", "index": "graph", "codes": codes})
    db.execute("SELECT annex_create('i', 'docs', 'v', ?)", (options,))
    db.executemany("INSERT INTO docs VALUES(?, ?)",
                   [(i, rows[i].tobytes()) for i in range(200, 300)])
    for step in ("SELECT 1", "SELECT annex_sync('i')", "SELECT annex_optimize('i')",
                 "SELECT annex_check('i')"):
        db.execute(step).fetchone()
        for query in rows[::70] + np.float32(0.1):
            found = db.execute("SELECT key, distance FROM annex_search('i', ?, 10)",
                               (as_query(query),)).fetchall()
            distances, order = near(rows, query, "cosine")
            assert [key for key, _ in found] == order[:10].tolist()
            assert [d for _, d in found] == pytest.approx(distances[:10].tolist(), rel=1e-5)
    kept = db.execute("SELECT definition FROM annex_index").fetchone()[0]
    assert json.loads(kept).get("codes", "auto") == codes


@pytest.mark.parametrize("options, says", [
    ({"codes": "q5"}, 'there are no codes "q5"; they are one of auto, q8, q4, f16, bf16 and f32'),
    ({"codes": 8}, 'the option "codes" must be a string'),
    ({"codes": "q4", "metric": "l1"}, "the codes q4 are not for the metric l1; use q8"),
    ({"codes": "q8", "metric": "hamming"}, "the codes q8 are not for the metric hamming; use bits"),
])
def test_create__codes_that_do_not_exist_or_fit__are_refused(connect, options, says):
    db = connect("a.db")
    db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB)")
    with pytest.raises(sqlite3.OperationalError, match=says):
        db.execute("SELECT annex_create('i', 'docs', 'v', ?)", (json.dumps(options),))


@pytest.mark.parametrize("raw, off", [("f16", 1e-4), ("bf16", 1e-3)])
def test_build__vectors_in_half_the_bytes__cost_no_recall(annex, tmp_path, words, raw, off):
    rows, queries = words
    np.save(tmp_path / "rows.npy", rows)
    build = ("build", "rows.npy", "--metric", "cosine", "--index", "graph", "--raw")
    annex(*build, "keep", "-o", "whole.annex")
    annex(*build, raw, "-o", "half.annex")
    annex("check", "half.annex")
    whole, half = info(annex, "whole.annex"), info(annex, "half.annex")
    assert (whole["raw"], half["raw"]) == ("keep", raw)
    assert half["raw_bytes"] * 2 == whole["raw_bytes"] == rows.nbytes
    lengths = np.linalg.norm(rows, axis=1)
    exact = np.load(tmp_path / "rows.npy").astype("f8") / lengths[:, None]
    for effort, least in (("exact", 0.97), ("80", 0.93)):
        found = []
        for query, hits in zip(queries, search(annex, tmp_path / "half.annex", queries, "-k", "10",
                                               "--effort", effort)):
            distances = 1 - exact @ query / np.linalg.norm(query)
            for hit in hits:
                assert abs(hit["distance"] - distances[hit["key"]]) <= off
            found.append(len({h["key"] for h in hits} & set(np.argsort(distances)[:10])) / 10)
        assert np.mean(found) >= least


def test_build__vectors_that_f16_has_not__are_refused(annex, tmp_path):
    rows = np.random.default_rng(9).standard_normal((50, 8)).astype("f4")
    rows[11, 2] = 1e5
    np.save(tmp_path / "rows.npy", rows)
    done = annex("build", "rows.npy", "-o", "my.annex", "--raw", "f16", code=None)
    assert done.returncode != 0 and "key 11 has an element beyond 65504" in done.stderr
    assert not (tmp_path / "my.annex").exists()
    annex("build", "rows.npy", "-o", "my.annex", "--raw", "bf16")
    done = annex("build", "rows.npy", "-o", "other.annex", "--raw", "f8", code=None)
    assert done.returncode != 0 and "bf16" in done.stderr
