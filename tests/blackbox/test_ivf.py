"""An index of lists, in the command and in SQL: small, fresh, ranked by distances of the table."""

import json
import os

import numpy as np
import pytest

from exact import same_answer

D = 64


def clustered(n, seed):
    random = np.random.default_rng(seed)
    centers = random.normal(size=(40, D))
    return (centers[random.integers(0, 40, n)] + 0.5 * random.normal(size=(n, D))).astype("f4")


def table(db, rows):
    db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, e BLOB)")
    db.executemany("INSERT INTO docs VALUES (?, ?)",
                   [(i, row.tobytes()) for i, row in enumerate(rows)])


def compare(db, query, k=10):
    """The share of the true rows that a search finds; its distances are those of the table."""
    found = db.execute("SELECT key, distance FROM annex_search('v', ?, ?)",
                       (query.tobytes(), k)).fetchall()
    rows = db.execute("SELECT id, e FROM docs").fetchall()
    vectors = np.array([np.frombuffer(e, "f4") for _, e in rows], "f8")
    q = query.astype("f8")
    distances = 1 - vectors @ q / np.linalg.norm(vectors, axis=1) / np.linalg.norm(q)
    true = {rows[i][0]: distances[i] for i in np.argsort(distances)[:k]}
    of = dict(zip((r[0] for r in rows), distances))
    assert len(found) == k and [d for _, d in found] == sorted(d for _, d in found)
    assert all(abs(of[key] - distance) < 1e-5 for key, distance in found)
    return len(true.keys() & dict(found).keys()) / k


def test_sql__changed_synced_swept_and_optimized__stays_right(connect):
    db = connect()
    rows = clustered(6000, 1)
    table(db, rows)
    made = db.execute("SELECT annex_create('v', 'docs', 'e', ?)",
                      ('{"metric":"cosine","index":"ivf"}',)).fetchone()[0]
    assert json.loads(made)["family"] == "ivf" and json.loads(made)["recall"] >= 0.95
    ask = lambda: np.mean([compare(db, rows[i] + np.float32(0.1)) for i in range(0, 200, 20)])
    assert ask() >= 0.9
    db.execute("DELETE FROM docs WHERE id % 7 = 0")
    db.executemany("INSERT INTO docs VALUES (?, ?)",
                   [(6000 + i, (rows[i] + np.float32(0.3)).tobytes()) for i in range(200)])
    assert ask() >= 0.9
    db.execute("SELECT annex_sync('v')")
    assert ask() >= 0.9
    for name, in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    db.execute("DELETE FROM docs WHERE id = 5")
    db.execute("INSERT INTO docs VALUES (99999, ?)", (rows[7].tobytes(),))
    swept = json.loads(db.execute("SELECT annex_sync('v')").fetchone()[0])
    assert swept["swept"] and not swept["rebuilt"]  # equal rows have equal codes
    assert (swept["inserted"], swept["deleted"]) == (1, 1)
    db.execute("SELECT annex_optimize('v')")
    assert db.execute("SELECT annex_check('v')").fetchone() == ("ok",)
    assert db.execute("SELECT family, segments FROM annex_indexes").fetchone() == ("ivf", 1)
    assert ask() >= 0.9


def test_sql__filters__give_k_rows(connect):
    db = connect()
    rows = clustered(6000, 2)
    table(db, rows)
    db.execute("SELECT annex_create('v', 'docs', 'e', '{\"index\":\"ivf\"}')")
    for share in (2, 50, 1000, 3000):
        found = db.execute("SELECT key FROM annex_search('v', ?, 10) WHERE key IN "
                           "(SELECT id FROM docs WHERE id % ? = 1)",
                           (rows[0].tobytes(), share)).fetchall()
        assert len(found) == min(10, 6000 // share)
        assert all(key % share == 1 for key, in found)


def test_sql__metric_without_lists__is_refused(connect):
    db = connect()
    table(db, clustered(10, 3))
    with pytest.raises(Exception, match="ivf index has no metric l1"):
        db.execute("SELECT annex_create('v', 'docs', 'e', '{\"index\":\"ivf\",\"metric\":\"l1\"}')")


@pytest.mark.isa
def test_command__build_info_check_search__tell_of_lists(annex, tmp_path):
    rows = clustered(5000, 4)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "q.npy", rows[:20])
    annex("build", "rows.npy", "-o", "a.annex", "--index", "ivf", "--raw", "none")
    annex("build", "rows.npy", "-o", "b.annex", "--index", "ivf", "--threads", "1")
    told = json.loads(annex("info", "a.annex", "--json").stdout)
    assert told["family"] == "ivf" and told["has_raw"] is False
    assert os.path.getsize(tmp_path / "a.annex") < 0.25 * rows.nbytes
    annex("check", "b.annex")
    exact = annex("search", "b.annex", "--query-file", "q.npy", "--effort", "exact", "--json")
    for row, hits in zip(rows, json.loads(exact.stdout)):
        same_answer(hits, rows, row, 10)
