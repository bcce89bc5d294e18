"""What the freshness model (tests/model) found: each difference, made small."""

import numpy

DIMENSION = 4


def vector(*numbers):
    return numpy.array(numbers, "<f4").tobytes()


def fill(db, rows):
    db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, other INTEGER UNIQUE, vec)")
    db.executemany("INSERT INTO docs VALUES (?, ?, ?)", rows)
    db.execute("SELECT annex_create('idx', 'docs', 'vec')")


def found(db, k=10):
    return [key for (key,) in db.execute(
        "SELECT key FROM annex_search('idx', '[0,0,0,0]', ?, '{\"effort\":\"exact\"}')", (k,))]


def test_first_row_becomes_no_vector__sync_leaves_it_out(connect):
    db = connect()
    fill(db, [(i, i, vector(i, 0, 0, 0)) for i in range(1, 6)])
    for bad in (12, "text", b"\x00"):
        db.execute("UPDATE docs SET vec = ? WHERE id = 1", (bad,))
        assert found(db) == [2, 3, 4, 5]
        for verb in ("annex_sync", "annex_optimize"):
            db.execute(f"SELECT {verb}('idx')")
            assert found(db) == [2, 3, 4, 5]


def test_rows_removed_by_replace_in_a_transaction__are_back_after_its_rollback(connect):
    """UPDATE OR REPLACE of another unique column removes a row that no trigger tells of."""
    db = connect()
    fill(db, [(1, 1, vector(9, 0, 0, 0))])
    db.execute("INSERT INTO docs VALUES (2, 2, ?)", (vector(1, 0, 0, 0),))
    db.execute("INSERT INTO docs VALUES (3, 3, ?)", (vector(2, 0, 0, 0),))
    assert found(db) == [2, 3, 1]
    db.execute("BEGIN")
    db.execute("UPDATE OR REPLACE docs SET other = 2 WHERE id = 3")
    assert found(db) == [3, 1]
    db.execute("ROLLBACK")
    assert found(db) == [2, 3, 1]
