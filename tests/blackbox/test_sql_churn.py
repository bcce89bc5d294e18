"""A table half of whose rows are replaced, round by round, by a program without Annex: after
annex_sync and annex_optimize a graph finds what one made anew finds, at equal effort."""

import json

import numpy as np
import pytest

ROWS, ROUNDS, REPLACED, D, K, EFFORT = 4000, 10, 200, 32, 10, 16
SEARCH = "SELECT key, distance FROM annex_search('idx', ?, ?, ?)"
OPTIONS = '{"metric": "l2", "index": "graph", "threads": 1}'


@pytest.fixture
def vectors():
    """Rows around centers, and queries of the same kind."""
    random = np.random.default_rng(7)
    centers = random.normal(size=(100, D))
    n = ROWS + ROUNDS * REPLACED + 200
    return (centers[random.integers(0, 100, n)] + 0.6 * random.normal(size=(n, D))).astype("f4")


def change(program, vectors, numbers, random):
    """Half of what is replaced is updated, half deleted and inserted; numbers are never reused."""
    keys = random.choice(program.execute("SELECT id FROM docs ORDER BY id").fetchall(), REPLACED,
                         replace=False).ravel().tolist()
    half = REPLACED // 2
    program.execute("BEGIN")
    program.executemany("UPDATE docs SET v = ? WHERE id = ?",
                        [(vectors[next(numbers)].tobytes(), key) for key in keys[:half]])
    program.executemany("DELETE FROM docs WHERE id = ?", [(key,) for key in keys[half:]])
    program.executemany("INSERT INTO docs VALUES (?, ?)",
                        [(n, vectors[n].tobytes()) for _, n in zip(range(half), numbers)])
    program.execute("COMMIT")


def recall(db, queries):
    """The share of the nearest rows that a search finds, by distance."""
    rows = db.execute("SELECT v FROM docs").fetchall()
    table = np.array([np.frombuffer(v, "f4") for (v,) in rows], "f8")
    right = 0
    for query in queries:
        limit = np.sort(np.linalg.norm(table - query, axis=1))[K - 1] * (1 + 1e-6)
        hits = db.execute(SEARCH, [query.tobytes(), K, f'{{"effort": {EFFORT}}}']).fetchall()
        assert len(hits) == K
        right += sum(distance <= limit for _, distance in hits)
    return right / (K * len(queries))


def unfound(db):
    """Rows that a search for their own vector does not find."""
    return [key for key, v in db.execute("SELECT id, v FROM docs").fetchall()
            if key not in [k for k, _ in db.execute(SEARCH, [v, K, "{}"])]]


def test_half_of_the_rows_replaced__the_graph_finds_what_a_new_one_finds(connect, vectors):
    db, program, new = connect("a.db"), connect("a.db", extension=False), connect("new.db")
    random, queries = np.random.default_rng(1), vectors[-200:]
    numbers = iter(range(len(vectors) - 200))
    for other in (db, new):
        other.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB)")
    program.execute("BEGIN")
    program.executemany("INSERT INTO docs VALUES (?, ?)",
                        [(n, vectors[n].tobytes()) for _, n in zip(range(ROWS), numbers)])
    program.execute("COMMIT")
    db.execute("SELECT annex_create('idx', 'docs', 'v', ?)", [OPTIONS])
    for _ in range(ROUNDS):
        change(program, vectors, numbers, random)
        report = json.loads(db.execute("SELECT annex_sync('idx')").fetchone()[0])
        assert (report["segments"], report["inserted"], report["deleted"]) == (1, 200, 200)
    after_sync = recall(db, queries)
    db.execute("SELECT annex_optimize('idx')")
    new.execute("BEGIN")
    new.executemany("INSERT INTO docs VALUES (?, ?)", db.execute("SELECT id, v FROM docs"))
    new.execute("COMMIT")
    new.execute("SELECT annex_create('idx', 'docs', 'v', ?)", [OPTIONS])
    expected = recall(new, queries)
    assert expected > 0.9, "or the comparison says nothing"
    assert after_sync >= expected - 0.01
    assert recall(db, queries) >= expected - 0.01
    assert unfound(db) == []
    assert db.execute("SELECT annex_check('idx')").fetchone() == ("ok",)


def test_changes_that_are_few__make_a_small_segment_until_the_large_one_takes_it_in(connect,
                                                                                   vectors):
    db = connect("a.db")
    db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB)")
    db.executemany("INSERT INTO docs VALUES (?, ?)",
                   [(n, vectors[n].tobytes()) for n in range(ROWS)])
    db.execute("SELECT annex_create('idx', 'docs', 'v', ?)", [OPTIONS])
    segments = []
    for first in range(ROWS, ROWS + 200, 20):
        db.executemany("INSERT INTO docs VALUES (?, ?)",
                       [(n, vectors[n].tobytes()) for n in range(first, first + 20)])
        report = json.loads(db.execute("SELECT annex_sync('idx')").fetchone()[0])
        segments.append(report["segments"])
    assert segments == [2, 2, 2, 1, 2, 2, 2, 3, 1, 2], "a fiftieth is some 80 rows"
    assert unfound(db) == []
