"""Every way in which rows change, one test each: the answer is that of the table at once, and
annex_status says how the index is. Changes of tables and triggers are in test_sql_stale.py, many
random changes in test_freshness.py."""

import sqlite3

import pytest

from sql_changes import (fill, fresh_after_sync, make, mend, one, refused, right, state, status,
                         vector)


@pytest.fixture
def db(connect):
    return connect("a.db")


# ---- REPLACE, UPSERT, keys -----------------------------------------------------------------------


@pytest.mark.parametrize("recursive", [0, 1])
def test_insert_or_replace__of_the_same_key(db, recursive):
    make(db)
    db.execute(f"PRAGMA recursive_triggers = {recursive}")
    db.execute("REPLACE INTO docs(id, v) SELECT id, annex_encode(?) FROM docs WHERE id < 9",
               [vector("new")])
    assert "delta: 8 rows" in status(db)
    fresh_after_sync(db)


@pytest.mark.parametrize("recursive", [0, 1])
def test_insert_or_replace__removes_another_row_by_its_unique_column(db, recursive):
    make(db, declaration="id INTEGER PRIMARY KEY, v BLOB, w INTEGER UNIQUE")
    db.execute("UPDATE docs SET w = id")
    db.execute("SELECT annex_sync('idx')")
    db.execute(f"PRAGMA recursive_triggers = {recursive}")
    db.execute("REPLACE INTO docs(id, v, w) VALUES (1000, annex_encode(?), 7)", [vector("new")])
    assert one(db, "SELECT count(*) FROM docs WHERE id = 7") == 0
    assert f"delta: {1 + recursive} row" in status(db), "the removed row is logged or only missed"
    fresh_after_sync(db)
    db.execute("SELECT annex_optimize('idx')")
    assert one(db, "SELECT annex_check('idx')") == "ok"


def test_update_or_replace__removes_the_row_that_had_the_key(db):
    make(db)
    db.execute("UPDATE OR REPLACE docs SET id = 3 WHERE id = 30")
    fresh_after_sync(db)


def test_upsert__updates_and_inserts(db):
    make(db)
    db.execute("INSERT INTO docs(id, v) SELECT id + 20, v FROM docs WHERE 1 "
               "ON CONFLICT(id) DO UPDATE SET v = excluded.v")
    assert "delta: 40 rows" in status(db)
    fresh_after_sync(db)
    db.execute("INSERT INTO docs(id, v) SELECT id, zeroblob(16) FROM docs WHERE 1 "
               "ON CONFLICT DO NOTHING")
    assert state(db) == "fresh"


def test_keys_that_change__in_one_statement_and_exchanged(db):
    make(db)
    db.execute("UPDATE docs SET id = 1000 - id")
    right(db)
    db.execute("UPDATE docs SET id = -id WHERE id IN (990, 991);")
    db.execute("UPDATE docs SET id = 991 WHERE id = -990")
    db.execute("UPDATE docs SET id = 990 WHERE id = -991")
    fresh_after_sync(db)
    db.execute("UPDATE docs SET rowid = 5 WHERE id = 990")
    assert "delta: 2 rows" in status(db)
    fresh_after_sync(db)


def test_keys_exchanged_in_one_statement__which_sqlite_refuses_row_by_row(db):
    make(db)
    swap = "UPDATE {}docs SET id = 3 - id WHERE id IN (1, 2)"
    refused(db, swap.format(""), "UNIQUE")
    assert state(db) == "fresh"
    db.execute(swap.format("OR REPLACE "))
    assert "delta: 2 rows" in status(db)
    fresh_after_sync(db)


def test_vectors_exchanged_in_one_statement(db):
    make(db)
    before = right(db)
    db.execute("UPDATE docs SET v = o.v FROM docs AS o WHERE o.id = 3 - docs.id AND docs.id < 3")
    assert right(db) != before
    assert "delta: 2 rows" in status(db)
    fresh_after_sync(db)


def test_columns_that_the_index_does_not_read__log_nothing(db):
    make(db)
    db.execute("UPDATE docs SET w = id, v = v")
    assert state(db) == "fresh"


@pytest.mark.parametrize("declaration, keys", [
    ("id TEXT PRIMARY KEY, v BLOB", ["", "a", "A", "é", "a\u0000b", "a" * 300]),
    ("id TEXT PRIMARY KEY COLLATE NOCASE, v BLOB", ["a", "b", "C"]),
    ("id BLOB PRIMARY KEY, v BLOB", [b"", b"\0", b"\0\xff", b"abc"]),
    ("id REAL PRIMARY KEY, v BLOB", [-1.5, 0.0, 1e300, 2.0]),
    ("id PRIMARY KEY, v BLOB", [-(2 ** 63), 1, 1.5, "1", b"1", ""]),
    ("id INTEGER PRIMARY KEY, v BLOB", [-(2 ** 63), -1, 0, 2 ** 63 - 1]),
    ("id TEXT NOT NULL PRIMARY KEY, v BLOB, w) WITHOUT ROWID --", ["", "x", "y"]),
])
def test_keys_of_every_type(db, declaration, keys):
    db.execute(f"CREATE TABLE docs({declaration}\n)" if "--" not in declaration
               else f"CREATE TABLE docs({declaration}\n")
    fill(db, keys[:-1])
    db.execute("SELECT annex_create('idx', 'docs', 'v')")
    right(db)
    fill(db, keys[-1:])
    db.execute("UPDATE docs SET v = annex_encode(?) WHERE id = ?", [vector("new"), keys[0]])
    assert "delta: 2 rows" in status(db)
    fresh_after_sync(db)
    db.execute("DELETE FROM docs WHERE id = ?", [keys[1]])
    fresh_after_sync(db)


@pytest.mark.parametrize("tail", ["", " WITHOUT ROWID"])
def test_compound_keys(db, tail):
    db.execute(f"CREATE TABLE docs(a TEXT, b INTEGER, v BLOB, PRIMARY KEY(b, a)){tail}")
    db.executemany("INSERT INTO docs VALUES (?, ?, annex_encode(?))",
                   [(a, b, vector(f"{a}{b}")) for a in "xyz" for b in range(9)])
    db.execute("SELECT annex_create('idx', 'docs', 'v')")
    look = {"keys": "b, a", "columns": "key, key2"}
    db.execute("UPDATE docs SET a = 'w' WHERE a = 'x' AND b < 4")
    assert "delta: 8 rows" in status(db)
    fresh_after_sync(db, **look)
    db.execute("DELETE FROM docs WHERE b = 7")
    fresh_after_sync(db, **look)


def test_null_in_a_primary_key__is_not_in_the_index(db):
    make(db, declaration="id TEXT PRIMARY KEY, v BLOB")
    db.execute("INSERT INTO docs VALUES (NULL, annex_encode(?)), (NULL, annex_encode(?))",
               [vector(1), vector(2)])
    fresh_after_sync(db, where="id IS NOT NULL")
    db.execute("UPDATE docs SET id = 'named' WHERE rowid = (SELECT max(rowid) FROM docs)")
    fresh_after_sync(db, where="id IS NOT NULL")
    db.execute("UPDATE docs SET id = NULL WHERE id = 'named'")
    fresh_after_sync(db, where="id IS NOT NULL")


def test_rowid_that_vacuum_may_renumber__is_refused_as_a_key(db):
    db.execute("CREATE TABLE docs(v BLOB)")
    refused(db, "SELECT annex_create('idx', 'docs', 'v')", "VACUUM may renumber its rows")


def test_vacuum__may_renumber_rows_whose_key_is_a_text(db):
    make(db, declaration="id TEXT PRIMARY KEY, v BLOB")
    db.execute("DELETE FROM docs WHERE rowid % 3 = 0")
    db.execute("VACUUM")
    fresh_after_sync(db)


# ---- Statements with many rows, vectors that come and go -----------------------------------------


def test_statements_with_many_rows(db):
    make(db)
    db.execute("INSERT INTO docs(id, v) SELECT id + 100, v FROM docs")
    right(db)
    db.execute("UPDATE docs SET v = (SELECT v FROM docs AS o WHERE o.id = docs.id % 7 + 1)")
    right(db)
    db.execute("DELETE FROM docs WHERE id IN (SELECT id FROM docs WHERE id % 2)")
    assert "delta: 80 rows" in status(db)
    fresh_after_sync(db)


def test_delete_without_where__is_logged_although_sqlite_could_truncate(db):
    make(db)
    assert db.execute("DELETE FROM docs").rowcount == 40
    assert "delta: 40 rows" in status(db)
    fresh_after_sync(db)
    fill(db, [5, 6])
    fresh_after_sync(db)


def test_vectors_that_become_null_and_come_back(db):
    make(db)
    db.execute("UPDATE docs SET w = 1, v = NULL WHERE id <= 10")
    assert len(right(db)) == 30
    fresh_after_sync(db)
    db.execute("UPDATE docs SET v = annex_encode(?) WHERE v IS NULL", [vector("back")])
    assert len(right(db)) == 40
    fresh_after_sync(db)


def test_vectors_of_another_dimension__are_not_found_and_named_by_check(db):
    make(db)
    db.execute("UPDATE docs SET v = annex_encode('[1, 2, 3]') WHERE id = 7")
    db.execute("INSERT INTO docs(id, v) VALUES (1000, 'no vector'), (1001, 17)")
    assert len(right(db, where="id NOT IN (7, 1000, 1001)")) == 39
    refused(db, "SELECT annex_check('idx')", "row 7 of docs cannot be indexed: .* dimension")
    db.execute("SELECT annex_sync('idx')")
    assert state(db) == "fresh"
    assert len(right(db, where="id NOT IN (7, 1000, 1001)")) == 39
    refused(db, "SELECT annex_check('idx')", r"correct or delete the row \(3 such rows\)")
    db.execute("DELETE FROM docs WHERE id >= 1000")
    db.execute("UPDATE docs SET v = annex_encode(?) WHERE id = 7", [vector(7)])
    fresh_after_sync(db)
    assert one(db, "SELECT annex_check('idx')") == "ok"


# ---- What SQLite changes by itself: cascades, triggers, generated columns ------------------------


@pytest.mark.parametrize("action, left", [("CASCADE", 30), ("SET NULL", 40)])
def test_foreign_keys__that_delete_or_change_rows(db, action, left):
    db.execute("PRAGMA foreign_keys = 1")
    db.execute("CREATE TABLE parents(p INTEGER PRIMARY KEY)")
    db.executemany("INSERT INTO parents VALUES (?)", [(p,) for p in range(4)])
    make(db, declaration=f"id INTEGER PRIMARY KEY, v BLOB, w INTEGER REFERENCES parents "
                         f"ON DELETE {action} ON UPDATE {action}",
         options='{"where": "w IS NULL OR w < 100"}')
    db.execute("UPDATE docs SET w = id % 4")
    db.execute("SELECT annex_sync('idx')")
    where = "(w IS NULL OR w < 100)"
    db.execute("DELETE FROM parents WHERE p = 3")
    assert "delta: 10 rows" in status(db)
    assert len(right(db, where=where)) == left
    fresh_after_sync(db, where=where)
    db.execute("UPDATE parents SET p = 200 WHERE p = 2")
    assert "delta: 10 rows" in status(db), "ON UPDATE changes a column of the condition"
    fresh_after_sync(db, where=where)


def test_key_that_is_a_foreign_key__cascades(db):
    db.execute("PRAGMA foreign_keys = 1")
    db.execute("CREATE TABLE parents(p TEXT PRIMARY KEY)")
    db.executemany("INSERT INTO parents VALUES (?)", [(str(p),) for p in range(1, 41)])
    make(db, declaration="id TEXT PRIMARY KEY REFERENCES parents ON UPDATE CASCADE, v BLOB")
    db.execute("UPDATE parents SET p = 'renamed' WHERE p = '7'")
    assert "delta: 2 rows" in status(db)
    fresh_after_sync(db)


def test_triggers_of_the_user__that_change_ignore_and_abort(db):
    make(db)
    db.executescript("""
        CREATE TRIGGER ignores BEFORE INSERT ON docs WHEN new.id = 500
          BEGIN SELECT raise(IGNORE); END;
        CREATE TRIGGER aborts AFTER UPDATE OF v ON docs WHEN new.id = 5
          BEGIN SELECT raise(ABORT, 'not this one'); END;
        CREATE TRIGGER moves BEFORE DELETE ON docs WHEN old.id < 5
          BEGIN UPDATE docs SET v = old.v WHERE id = old.id + 10; END;
        CREATE TRIGGER copies AFTER INSERT ON docs WHEN new.id BETWEEN 600 AND 700
          BEGIN INSERT INTO docs(id, v) VALUES (new.id + 100, new.v); END;""")
    db.execute("INSERT INTO docs(id, v) VALUES (500, annex_encode(?))", [vector("new")])
    assert state(db) == "fresh"
    refused(db, "UPDATE docs SET v = ? WHERE id IN (4, 5)", "not this one", b"\0" * 16)
    assert state(db) == "fresh"
    db.execute("DELETE FROM docs WHERE id < 3")
    assert "delta: 4 rows" in status(db)
    db.execute("INSERT INTO docs(id, v) VALUES (600, annex_encode(?))", [vector("new")])
    fresh_after_sync(db)


def test_temp_triggers__may_write_the_table_too(db):
    make(db)
    db.execute("CREATE TABLE words(w)")
    db.execute("CREATE TEMP TRIGGER adds AFTER INSERT ON words BEGIN "
               "DELETE FROM docs WHERE id = new.w; END")
    db.execute("INSERT INTO words VALUES (3), (4)")
    assert "delta: 2 rows" in status(db)
    fresh_after_sync(db)


@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
def test_generated_vectors__follow_the_columns_they_are_made_of(db, kind):
    db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, x REAL, "
               f"v TEXT AS ('[' || x || ', 0.5, 0.5, 1.0]') {kind})")
    db.executemany("INSERT INTO docs(id, x) VALUES (?, ?)", [(i, i / 10) for i in range(40)])
    db.execute("SELECT annex_create('idx', 'docs', 'v')")
    look = {"column": "annex_encode(v)"}
    right(db, **look)
    db.execute("UPDATE docs SET x = -x WHERE id < 7")
    assert "delta: 6 rows" in status(db)
    fresh_after_sync(db, **look)


def test_conditions_with_expressions__rows_enter_and_leave(db):
    condition = "w % 3 = 0 AND coalesce(id, 0) < 1000"
    make(db, options='{"where": "%s"}' % condition)
    db.execute("UPDATE docs SET w = id")
    assert len(right(db, where=condition)) == 13
    fresh_after_sync(db, where=condition)
    db.execute("UPDATE docs SET w = w + 1 WHERE id < 20")
    db.execute("UPDATE docs SET w = NULL WHERE id = 30")
    fresh_after_sync(db, where=condition)
    assert one(db, "SELECT rows FROM annex_indexes") == len(right(db, where=condition))


def test_condition_that_reads_other_rows__is_refused(db):
    make(db)
    refused(db, "SELECT annex_create('b', 'docs', 'v', '{\"where\": \"id IN (SELECT 1)\"}')",
            "columns of one row only")
    refused(db, "SELECT annex_create('b', 'docs', 'v', '{\"where\": \"id < random()\"}')",
            "columns of one row only")


# ---- Transactions --------------------------------------------------------------------------------


def test_savepoints__and_what_was_rolled_back_to_them(db):
    make(db)
    db.execute("BEGIN")
    db.execute("DELETE FROM docs WHERE id < 5")
    db.execute("SAVEPOINT a")
    db.execute("DELETE FROM docs WHERE id < 9")
    right(db)
    db.execute("SELECT annex_sync('idx')")
    right(db)
    db.execute("ROLLBACK TO a")
    assert "delta: 4 rows" in status(db)
    right(db)
    db.execute("UPDATE docs SET id = id + 500 WHERE id > 35")
    db.execute("RELEASE a")
    right(db)
    db.execute("COMMIT")
    fresh_after_sync(db)


def test_rollback__whose_numbers_in_the_log_are_used_again(db):
    make(db)
    for low in (1, 11, 21):
        db.execute("BEGIN")
        db.execute("DELETE FROM docs WHERE id BETWEEN ? AND ?", [low, low + 3])
        right(db)  # the numbers and what they mean are known now
        last = one(db, "SELECT max(seq) FROM annex_log_1")
        db.execute("ROLLBACK")
        db.execute("DELETE FROM docs WHERE id BETWEEN ? AND ?", [low + 5, low + 8])
        assert one(db, "SELECT max(seq) FROM annex_log_1") == last
        right(db)
    fresh_after_sync(db)


def test_statement_that_fails_half_way__leaves_no_trace(db):
    make(db, declaration="id INTEGER PRIMARY KEY, v BLOB, w INTEGER CHECK(w IS NOT 30)")
    refused(db, "UPDATE docs SET w = id, v = NULL", "CHECK")
    assert state(db) == "fresh"
    right(db)
    db.execute("BEGIN")
    refused(db, "UPDATE OR FAIL docs SET w = id, v = NULL", "CHECK")
    assert "delta: 29 rows" in status(db)
    right(db)
    db.execute("COMMIT")
    fresh_after_sync(db)


def test_old_snapshot__is_answered_as_it_was_while_others_sync_and_optimize(db, connect):
    db.execute("PRAGMA journal_mode = wal")
    make(db)
    reader = connect("a.db")
    reader.execute("BEGIN")
    before = right(reader)
    for step in ("DELETE FROM docs WHERE id % 2", "SELECT annex_sync('idx')",
                 "UPDATE docs SET id = id + 1000", "SELECT annex_optimize('idx')",
                 "ALTER TABLE docs RENAME COLUMN v TO w2", "ALTER TABLE docs RENAME TO papers",
                 "SELECT annex_drop('idx')"):
        db.execute(step)
        assert right(reader) == before
        assert state(reader) == "fresh"
    reader.execute("COMMIT")
    assert one(reader, "SELECT count(*) FROM annex_indexes") == 0


def test_side_effects__are_those_that_are_documented(db):
    make(db)
    before = db.total_changes
    cursor = db.execute("INSERT INTO docs(v) VALUES (annex_encode(?)), (NULL)", [vector("new")])
    assert cursor.rowcount == 2 and one(db, "SELECT changes()") == 2
    assert cursor.lastrowid == one(db, "SELECT last_insert_rowid()") == 42
    assert db.total_changes - before == 4, "total_changes counts the rows of the log too"


def test_authorizer__hears_the_name_of_the_trigger(db):
    make(db)
    heard = []
    db.set_authorizer(lambda action, first, second, schema, trigger:
                      heard.append((action, first, trigger)) or sqlite3.SQLITE_OK)
    db.execute("DELETE FROM docs WHERE id = 1")
    db.set_authorizer(None)
    assert (sqlite3.SQLITE_INSERT, "annex_log_1", "annex_log_1_delete") in heard


def test_sync_of_an_index_that_is_fresh__writes_nothing(db):
    make(db)
    version, total = one(db, "SELECT version FROM annex_index"), db.total_changes
    db.execute("SELECT annex_sync('idx')")
    assert (one(db, "SELECT version FROM annex_index"), db.total_changes) == (version, total)
    db.execute("DELETE FROM docs WHERE id = 1")
    assert mend(db) == {"inserted": 0, "deleted": 1, "segments": 1, "rebuilt": False,
                        "swept": False}
