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


def test_row_removed_by_replace__is_back_when_an_older_copy_is_restored(connect):
    """The log of the copy ends with the same row: only its table is another one."""
    db, copy = connect("docs.db"), connect("copy.db", extension=False)
    fill(db, [(1, 1, vector(9, 0, 0, 0))])
    db.execute("INSERT INTO docs VALUES (2, 2, ?)", (vector(1, 0, 0, 0),))
    db.execute("INSERT INTO docs VALUES (3, 3, ?)", (vector(2, 0, 0, 0),))
    db.backup(copy)
    db.execute("UPDATE OR REPLACE docs SET other = 2 WHERE id = 3")
    assert found(db) == [3, 1]
    copy.backup(db)
    assert found(db) == [2, 3, 1]


def rebuild(db, copy, create="docs(id INTEGER PRIMARY KEY, other INTEGER UNIQUE, vec)"):
    """As SQLite's documentation has it: the triggers are remembered, and made again at the end."""
    triggers = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    db.execute("BEGIN")
    db.execute("CREATE TABLE " + create.replace("docs", "fresh", 1))
    db.execute(f"INSERT INTO fresh SELECT {copy} FROM docs")
    db.execute("DROP TABLE docs")
    db.execute("ALTER TABLE fresh RENAME TO docs")
    for (sql,) in triggers:
        db.execute(sql)
    db.execute("COMMIT")


def test_table_made_anew_with_the_same_triggers__is_noticed(connect):
    """The triggers are as they were left, and yet no log row tells of what the copy changed."""
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    fill(db, [(i, i, vector(i, 0, 0, 0)) for i in range(1, 6)])
    for add in (10, 100):
        before = found(db)
        rebuild(plain, f"id + {add}, other, vec")
        assert found(db) == [key + add for key in before]
        (reason,) = db.execute("SELECT reason FROM annex_indexes WHERE state = 'stale'").fetchone()
        assert "the table docs was made anew" in reason and "annex_sync" in reason
        db.execute("SELECT annex_sync('idx')")
        assert db.execute("SELECT state FROM annex_indexes").fetchone() == ("fresh",)
        assert found(db) == [key + add for key in before]
        plain.execute("INSERT INTO docs VALUES (1, 77, ?)", (vector(0, 0, 0, 0),))
        assert found(db)[0] == 1
        plain.execute("DELETE FROM docs WHERE id = 1")
        plain.execute("VACUUM")
        assert found(db) == [key + add for key in before]
        assert db.execute("SELECT state FROM annex_indexes").fetchone()[0] in ("fresh", "delta")


def test_table_made_anew_without_triggers__is_not_stale_after_one_sync(connect):
    db = connect()
    fill(db, [(i, i, vector(i, 0, 0, 0)) for i in range(1, 6)])
    for name in ("insert", "update", "delete"):
        db.execute(f"DROP TRIGGER annex_log_1_{name}")
    rebuild(db, "id, other, vec")
    db.execute("SELECT annex_sync('idx')")
    assert db.execute("SELECT state FROM annex_indexes").fetchone() == ("fresh",)


def test_vacuum_and_renaming__do_not_look_like_a_table_made_anew(connect, tmp_path):
    db = connect("docs.db")
    fill(db, [(i, i, vector(i, 0, 0, 0)) for i in range(1, 6)])
    state = "SELECT state, reason FROM annex_indexes"
    for sql in ("CREATE TABLE a(x)", "DROP TABLE a", "VACUUM", "ALTER TABLE docs RENAME TO papers",
                "ALTER TABLE papers ADD COLUMN more", "VACUUM",
                "ALTER TABLE papers DROP COLUMN more", "ALTER TABLE papers RENAME TO docs",
                "SELECT annex_sync('idx')", "SELECT annex_optimize('idx')"):
        db.execute(sql)
        assert db.execute(state).fetchone() == ("fresh", ""), sql
    db.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    assert connect("copy.db").execute(state).fetchone() == ("fresh", "")
