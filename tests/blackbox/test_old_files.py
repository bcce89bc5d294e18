"""What earlier versions wrote stays readable: it opens, checks and answers as on the day it was
written. tests/fixtures/README.md says how the files came about."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from exact import near, same_answer

FIXTURES = Path(__file__).parent.parent / "fixtures"
ROWS = np.random.RandomState(10).randint(-100, 100, (300, 16)).astype("f4")
BITS = np.packbits(ROWS > 0, axis=1, bitorder="little")
QUERIES = ROWS[:40] + np.float32(0.25)


@pytest.fixture
def old(tmp_path):
    """Puts a file of an earlier version into tmp_path, where it may be changed."""

    def unpack(name):
        path = tmp_path / name
        path.write_bytes(gzip.decompress((FIXTURES / (name + ".gz")).read_bytes()))
        return path

    return unpack


@pytest.mark.isa
@pytest.mark.parametrize("family, metric", [("flat", "l2"), ("graph", "cosine")])
def test_index_file__of_format_1_0__is_sound_and_answers(annex, tmp_path, old, family, metric):
    path = old(f"index-1.0-{family}.annex")
    np.save(tmp_path / "queries.npy", QUERIES)
    annex("check", path)
    about = json.loads(annex("info", path, "--json").stdout)
    assert (about["family"], about["metric"], about["codes"]) == (family, metric, "q8")
    for effort in ([], ["--effort", "exact"]):
        answers = json.loads(annex("search", path, "--query-file", "queries.npy", "--json",
                                   *effort).stdout)
        first = [hits[0]["key"] for hits in answers]
        assert first == list(range(len(QUERIES)))
    if family == "graph":  # it keeps the vectors: distances are exact
        for query, hits in zip(QUERIES, answers):
            same_answer(hits, ROWS, query, 10, metric)


def found(db, index, query, k=10):
    return db.execute("SELECT key, distance FROM annex_search(?, ?, ?)",
                      (index, query.tobytes(), k)).fetchall()


def answers_are_true(db):
    """Both indexes against the rows of the table as they are now; gives the recall of the graph."""
    keys = [key for key, in db.execute("SELECT id FROM docs ORDER BY id")]
    rows = np.array([ROWS[key] for key in keys])
    hits = 0
    for query in QUERIES:
        distances, order = near(rows, query)
        true = {keys[i]: d for i, d in zip(order, distances)}
        answer = found(db, "vectors", query)
        assert len(answer) == 10
        assert all(d == pytest.approx(true[key], rel=1e-5) for key, d in answer)
        hits += len({key for key, _ in answer} & set(list(true)[:10]))
    for query in BITS[:10]:
        differ = np.unpackbits(BITS[keys] ^ query, axis=1).sum(axis=1)
        assert [d for _, d in found(db, "bits", query)] == sorted(differ)[:10]
    return hits / len(QUERIES) / 10


def test_database__of_format_1_0_with_changes_pending__answers_syncs_and_optimizes(
        annex, connect, old):
    path = old("index-1.0.db")
    db = connect(path.name)
    assert answers_are_true(db) >= 0.95
    for command in ("annex_sync", "annex_optimize"):
        for index in ("vectors", "bits"):
            db.execute(f"SELECT {command}(?)", (index,)).fetchone()
        assert answers_are_true(db) >= 0.95
        annex("check", path)


def test_catalog__of_format_1__is_read_changed_and_written_anew(annex, connect, old):
    """Triggers keep their text, so that a program with the older Annex goes on logging."""
    rows = np.random.RandomState(11).randint(-100, 100, (200, 8)).astype("f4")
    path = old("catalog-1.db")
    db = connect(path.name)
    triggers = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name"
    before = db.execute(triggers).fetchall()

    def answers_are_true():
        for query in rows[:20]:
            live = [i for i, in db.execute("SELECT id FROM docs ORDER BY id")]
            distances, order = near(rows[live], query)
            found = db.execute("SELECT key, distance, source FROM annex_search('docs_idx', ?, 5, "
                               "'{\"effort\": \"exact\", \"model\": \"some-model\"}')",
                               (query.tobytes(),)).fetchall()
            assert [(key, source) for key, _, source in found] == [
                (live[i], "docs") for i in order[:5]]
            named = db.execute("SELECT key2, source FROM annex_search('notes_idx', ?, 1)",
                               (query.tobytes(),)).fetchone()
            assert named[1] == "remarks" and named[0].startswith(("note", "renamed"))

    states = db.execute("SELECT name, state, \"table\", model, is_default FROM annex_indexes")
    assert states.fetchall() == [
        ("docs_idx", "delta", "docs", "some-model", 0), ("german", "delta", "docs", "", 0),
        ("notes_idx", "delta", "remarks", "", 0)]
    answers_are_true()
    for index in ("docs_idx", "german", "notes_idx"):
        assert json.loads(db.execute("SELECT annex_sync(?)", (index,)).fetchone()[0])["deleted"] > 0
        db.execute("SELECT annex_default(?)", (index,)).fetchone()
    answers_are_true()
    assert db.execute(triggers).fetchall() == before
    made = db.execute("SELECT annex_copy('german', 'english', '{\"where\": \"lang <> ''de''\"}')")
    assert json.loads(made.fetchone()[0])["rows"] == 142
    annex("check", path)
