"""Tables of the module vec0: their rows, their transactions, when their indexes are brought up to
date, and a model of all that."""

import random
import sqlite3
import threading

import numpy as np
import pytest

from conftest import VEC
from vec0_sql import MOVIES, db, f32, keys, movies, names, near, refusal  # noqa: F401


# ---- Rows ----------------------------------------------------------------------------------------


def test_rows_are_found_by_key_and_by_any_condition(movies):
    assert movies.execute("SELECT id, emb, genre FROM movies WHERE id = 7").fetchall() == [
        (7, f32(7, 0), "horror")
    ]
    assert keys(movies, "SELECT id FROM movies WHERE rowid = 7") == [7]
    assert keys(movies, "SELECT id FROM movies WHERE id IN (3, 99, 1)") == [1, 3]
    assert keys(movies, "SELECT id FROM movies WHERE id = 99") == []
    assert keys(movies, "SELECT id FROM movies WHERE id = NULL") == []
    assert keys(movies, "SELECT id FROM movies WHERE year > 2018 OR id = 2") == [2, 29, 30]
    assert keys(movies, "SELECT count(*) FROM movies") == [30]
    assert keys(movies, "SELECT id FROM movies") == list(range(1, 31))
    assert movies.execute(
        "SELECT distance, k, movies FROM movies WHERE id = 1"
    ).fetchall() == [(None, None, None)]


def test_keys_may_be_text(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(id text primary key, e float[1], tag text)")
    rows = [("b", "[1]", "x"), ("ä'\"", "[2]", "y"), ("", "[3]", "x"), ("a", "[4]", "y")]
    db.executemany("INSERT INTO v(id, e, tag) VALUES (?, ?, ?)", rows)
    assert keys(db, "SELECT id FROM v") == ["b", "ä'\"", "", "a"]
    assert keys(db, "SELECT id FROM v WHERE e MATCH '[3]' AND k = 1") == [""]
    search = "SELECT id FROM v WHERE e MATCH '[9]' AND k = 3"
    assert keys(db, search) == ["a", "", "ä'\""]
    assert keys(db, search + " AND id IN ('b', '')") == ["", "b"]
    assert keys(db, search + " AND tag = 'x'") == ["", "b"]
    assert keys(db, "SELECT tag FROM v WHERE id = 'a'") == ["y"]
    db.execute("UPDATE v SET e = '[8]', id = 'z' WHERE id = 'b'")
    db.execute("DELETE FROM v WHERE id = 'a'")
    assert keys(db, "SELECT id FROM v WHERE e MATCH '[9]' AND k = 9") == ["z", "", "ä'\""]
    assert refusal(db, "INSERT INTO v(id, e) VALUES (1, '[1]')") == (
        "The v virtual table was declared with a TEXT primary key, but a non-TEXT value was "
        "provided in an INSERT."
    )
    assert refusal(db, "INSERT INTO v(id, e) VALUES ('z', '[1]')") == (
        "UNIQUE constraint failed on v primary key"
    )


def test_inserted_rows_get_the_next_key_unless_they_bring_one(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[1])")
    db.execute("INSERT INTO v(e) VALUES ('[1]'), ('[2]')")
    assert db.execute("SELECT last_insert_rowid(), changes()").fetchone()[0] == 2
    db.execute("INSERT INTO v(rowid, e) VALUES (-5, '[3]')")
    db.execute("INSERT INTO v VALUES (70, '[4]')")
    db.execute("INSERT INTO v(_rowid_, e) VALUES (60, '[5]')")
    db.execute("INSERT INTO v(rowid, e) VALUES (NULL, '[6]')")
    assert keys(db, "SELECT rowid FROM v") == [-5, 1, 2, 60, 70, 71]


def test_the_key_of_a_deleted_row_is_never_given_to_another(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[1])")
    db.execute("INSERT INTO v(e) VALUES ('[1]'), ('[2]'), ('[3]')")
    db.execute("DELETE FROM v WHERE rowid > 1")
    db.execute("INSERT INTO v(e) VALUES ('[4]')")
    assert keys(db, "SELECT rowid FROM v") == [1, 4]


@pytest.mark.parametrize(
    "column, value, message",
    [
        ("emb", "[1]", 'Dimension mismatch for inserted vector for the "emb" column. Expected 2 '
                       'dimensions but received 1.'),
        ("emb", None, 'Inserted vector for the "emb" column is invalid: Input must have type BLOB '
                      '(compact format) or TEXT (JSON), found NULL'),
        ("emb", f32(1, float("nan")), 'Inserted vector for the "emb" column is invalid: invalid '
                                      'float32 vector: element 1 is NaN'),
        ("id", 1.5, "Only integers are allows for primary key values on movies"),
        ("studio", "x", "Parition key type mismatch: The partition key column studio has type "
                        "INTEGER, but TEXT was provided."),
        ("genre", 1, "Expected text for TEXT metadata column genre, received INTEGER"),
        ("year", "x", "Expected integer for INTEGER metadata column year, received TEXT"),
        ("score", b"x", "Expected float for FLOAT metadata column score, received BLOB"),
        ("seen", 2, "Expected 0 or 1 for BOOLEAN metadata column seen"),
        ("title", 1, "Auxiliary column type mismatch: The auxiliary column title has type TEXT, "
                     "but INTEGER was provided."),
        ("distance", 1, 'A value was provided for the hidden "distance" column.'),
        ("k", 1, 'A value was provided for the hidden "k" column.'),
        ("movies", "defragment", "unknown vec0 command: 'defragment'"),
    ],
)
def test_values_are_refused_in_the_words_of_sqlite_vec(movies, column, value, message):
    row = {"id": 99, "emb": "[1, 2]", column: value}
    sql = f"INSERT INTO movies({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
    assert refusal(movies, sql, *row.values()) == message
    assert keys(movies, "SELECT count(*) FROM movies") == [30]


def test_an_update_changes_any_column(movies):
    movies.execute("UPDATE movies SET emb = '[0.5, 0]' WHERE id = 30")
    assert near(movies) == [30, 1, 2]
    movies.execute("UPDATE movies SET studio = 9, genre = 'new', title = title || '!'"
                   " WHERE id = 30")
    assert near(movies, "studio = 9 AND genre = 'new' AND title = 'film 30!'") == [30]
    movies.execute("UPDATE movies SET id = 300 WHERE id = 30")
    assert near(movies) == [300, 1, 2]
    movies.execute("UPDATE movies SET id = id + 1000 WHERE year < 1993")
    assert near(movies, k=4) == [300, 1001, 1002, 3]
    movies.execute("UPDATE movies SET year = NULL, seen = 1 - seen")
    assert keys(movies, "SELECT count(*) FROM movies WHERE year IS NULL AND seen = 1") == [15]


def test_an_update_that_is_refused_changes_nothing(movies):
    before = movies.execute("SELECT * FROM movies").fetchall()
    assert refusal(movies, "UPDATE movies SET year = 1, emb = '[1]' WHERE id = 4") == (
        'Dimension mismatch for new updated vector for the "emb" column. Expected 2 dimensions but '
        "received 1."
    )
    assert refusal(movies, "UPDATE movies SET genre = 'x', id = 5 WHERE id = 4") == (
        "UNIQUE constraint failed on movies primary key"
    )
    refusal(movies, "UPDATE movies SET id = 50 WHERE id > 3")
    assert movies.execute("SELECT * FROM movies").fetchall() == before
    assert near(movies) == [1, 2, 3]


def test_vectors_keep_their_type_through_updates_and_copies(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e int8[3], b bit[8], tag text)")
    db.execute("INSERT INTO v(e, b, tag) VALUES (vec_int8('[1, 2, 3]'), vec_bit(x'ff'), 'a')")
    db.execute("UPDATE v SET e = vec_int8('[4, 5, 6]')")
    db.execute("UPDATE v SET tag = 'b'")
    db.execute("INSERT INTO v(e, b) SELECT e, b FROM (SELECT e, b FROM v ORDER BY rowid LIMIT 1)")
    assert db.execute("SELECT vec_to_json(e), vec_type(b), tag FROM v").fetchall() == [
        ("[4,5,6]", "bit", "b"), ("[4,5,6]", "bit", None)
    ]
    assert 'expected to be of type int8' in refusal(db, "UPDATE v SET e = '[1, 2, 3]'")


def test_conflicts_are_settled_as_the_statement_says(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[1], +note text)")
    db.execute("INSERT INTO v(rowid, e, note) VALUES (1, '[1]', 'a'), (2, '[2]', 'b')")
    with pytest.raises(sqlite3.OperationalError, match="UNIQUE constraint failed on v primary key"):
        db.execute("INSERT INTO v(rowid, e) VALUES (3, '[3]'), (1, '[9]')")
    assert keys(db, "SELECT count(*) FROM v") == [2]
    db.execute("INSERT OR IGNORE INTO v(rowid, e) VALUES (3, '[3]'), (1, '[9]'), (4, '[4]')")
    db.execute("INSERT OR REPLACE INTO v(rowid, e, note) VALUES (2, '[20]', 'c'), (5, '[5]', 'd')")
    db.execute("REPLACE INTO v(rowid, e) VALUES (4, '[40]')")
    assert db.execute("SELECT rowid, vec_to_json(e), note FROM v").fetchall() == [
        (1, "[1.000000]", "a"), (2, "[20.000000]", "c"), (3, "[3.000000]", None),
        (4, "[40.000000]", None), (5, "[5.000000]", "d"),
    ]
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[50]' AND k = 9") == [4, 2, 5, 3, 1]
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT OR FAIL INTO v(rowid, e) VALUES (6, '[6]'), (1, '[9]')")
    assert keys(db, "SELECT rowid FROM v WHERE rowid > 4") == [5, 6]
    db.execute("BEGIN")
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT OR ROLLBACK INTO v(rowid, e) VALUES (7, '[7]'), (1, '[9]')")
    assert not db.in_transaction
    db.execute("UPDATE OR IGNORE v SET rowid = 6 WHERE rowid = 5")
    db.execute("UPDATE OR REPLACE v SET rowid = 6 WHERE rowid = 1")
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[0]' AND k = 9") == [6, 3, 5, 2, 4]


def test_triggers_of_the_user_on_the_rows_speak_for_themselves(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[1], tag text)")
    db.execute("CREATE TRIGGER short_tags BEFORE INSERT ON v_rows WHEN length(new.tag) > 3"
               " BEGIN SELECT RAISE(ABORT, 'a tag has three letters'); END")
    assert refusal(db, "INSERT INTO v(e, tag) VALUES ('[1]', 'long')") == "a tag has three letters"
    db.execute("INSERT INTO v(e, tag) VALUES ('[1]', 'abc')")
    assert keys(db, "SELECT tag FROM v") == ["abc"]


def test_a_table_that_is_renamed_keeps_working(movies, connect):
    movies.execute("ALTER TABLE movies RENAME TO films")
    movies.execute("INSERT INTO films(id, emb) VALUES (99, '[0, 0]')")
    sql = "SELECT id FROM films WHERE emb MATCH '[0, 0]' AND k = 2"
    assert keys(movies, sql) == [99, 1]
    assert {"films_rows"} <= names(movies) and "movies_rows" not in names(movies)
    assert keys(movies, "SELECT name FROM annex_indexes") == ["films_emb"]
    movies.execute(MOVIES)
    movies.execute("INSERT INTO movies(id, emb) VALUES (7, '[7, 0]')")
    assert near(movies) == [7]
    movies.execute("DROP TABLE movies")
    assert keys(movies, sql) == [99, 1]
    assert "conflicts with table name" in refusal(movies, "ALTER TABLE films RENAME TO emb")
    assert keys(movies, sql) == [99, 1]


# ---- Transactions --------------------------------------------------------------------------------


def test_what_is_rolled_back_is_not_found(movies):
    movies.execute("BEGIN")
    movies.execute("INSERT INTO movies(id, emb) VALUES (99, '[0, 0]')")
    movies.execute("SAVEPOINT one")
    movies.execute("DELETE FROM movies WHERE id = 1")
    movies.execute("UPDATE movies SET emb = '[0.5, 0]' WHERE id = 20")
    assert near(movies) == [99, 20, 2]
    movies.execute("ROLLBACK TO one")
    assert near(movies) == [99, 1, 2]
    movies.execute("ROLLBACK")
    assert near(movies) == [1, 2, 3]
    movies.execute("BEGIN")
    movies.execute("DROP TABLE movies")
    movies.execute("ROLLBACK")
    assert near(movies) == [1, 2, 3]
    movies.execute("BEGIN")
    movies.execute("ALTER TABLE movies RENAME TO films")
    movies.execute("ROLLBACK")
    assert near(movies) == [1, 2, 3]


def test_a_table_created_in_a_transaction_that_is_rolled_back_is_gone(db):
    db.execute("BEGIN")
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[1])")
    db.execute("INSERT INTO v(e) VALUES ('[1]')")
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[1]' AND k = 1") == [1]
    db.execute("ROLLBACK")
    assert names(db) == set()


def test_a_table_of_any_schema_belongs_to_that_schema(db, tmp_path):
    db.execute("ATTACH ? AS aux", (str(tmp_path / "aux.db"),))
    for schema in ("main", "aux", "temp"):
        db.execute(f"CREATE VIRTUAL TABLE {schema}.v USING vec0(e float[1], tag text)")
        db.execute(f"INSERT INTO {schema}.v(e, tag) VALUES ('[1]', ?)", (schema,))
    for schema in ("main", "aux", "temp"):
        sql = f"SELECT tag FROM {schema}.v WHERE e MATCH '[1]' AND k = 1"
        assert keys(db, sql) == [schema]
        assert keys(db, sql + " AND tag > ''") == [schema]
    db.execute("DROP TABLE aux.v")
    assert names(db, "aux") == set()
    assert keys(db, "SELECT tag FROM main.v WHERE e MATCH '[1]' AND k = 1") == ["main"]


@pytest.mark.parametrize("attached", ["aux.db", "file:aux.db?mode=ro"])
def test_other_databases_are_left_alone(connect, tmp_path, monkeypatch, attached):
    monkeypatch.chdir(tmp_path)
    other = connect("aux.db", entry_point=VEC)
    other.execute("CREATE VIRTUAL TABLE w USING vec0(e float[1])")
    uri = f"file:{tmp_path / 'a.db'}"
    db = connect(uri, uri=True, entry_point=VEC, timeout=0)
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[1], tag text)")
    db.execute("INSERT INTO v(e) VALUES ('[1]'), ('[2]')")
    db.execute("ATTACH ? AS aux", (attached,))
    other.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE v SET tag = 'x' WHERE rowid = 1")
    db.execute("DELETE FROM v WHERE tag = 'x'")
    db.execute("INSERT INTO v(e) SELECT e FROM v WHERE e MATCH '[1]' AND k = 1")
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[1]' AND k = 9") == [2, 3]
    other.execute("ROLLBACK")


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_connections_see_what_others_have_committed(connect, journal):
    writer = connect("a.db", entry_point=VEC)
    writer.execute(f"PRAGMA journal_mode = {journal}")
    writer.execute("CREATE VIRTUAL TABLE v USING vec0(e float[1])")
    writer.execute("INSERT INTO v(e) VALUES ('[1]')")
    reader = connect("a.db", entry_point=VEC)
    sql = "SELECT rowid FROM v WHERE e MATCH '[9]' AND k = 3"
    assert keys(reader, sql) == [1]
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO v(e) VALUES ('[2]')")
    assert keys(reader, sql) == [1]
    writer.execute("COMMIT")
    assert keys(reader, sql) == [2, 1]
    stranger = connect("a.db", extension=False)
    stranger.execute("INSERT INTO v_rows(e) VALUES (?)", (f32(3),))
    stranger.execute("DELETE FROM v_rows WHERE rowid = 1")
    assert keys(reader, sql) == [3, 2]
    assert keys(writer, sql) == [3, 2]
    writer.execute("ALTER TABLE v RENAME TO w")
    assert keys(reader, sql.replace("FROM v", "FROM w")) == [3, 2]


def test_a_read_only_database_is_searched(connect, tmp_path):
    db = connect("a.db", entry_point=VEC)
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[1], tag text)")
    db.execute("INSERT INTO v(e, tag) VALUES ('[1]', 'a'), ('[2]', 'b')")
    db.close()
    uri = f"file:{tmp_path / 'a.db'}?mode=ro&immutable=1"
    db = connect(uri, uri=True, entry_point=VEC)
    sql = "SELECT rowid FROM v WHERE e MATCH '[9]' AND k = 3"
    assert keys(db, sql) == [2, 1]
    assert keys(db, sql + " AND tag = 'a'") == [1]
    assert "readonly" in refusal(db, "INSERT INTO v(e) VALUES ('[3]')")


def index(db, name):
    sql = 'SELECT "rows", delta_rows, state FROM annex_indexes WHERE name = ?'
    return db.execute(sql, (name,)).fetchone()


def test_many_changes_go_into_the_index_when_they_are_committed(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2], f float[2])")
    db.execute("BEGIN")
    for i in range(3000):
        db.execute("INSERT INTO v(e, f) VALUES (?, ?)", (f32(i, 0), f32(0, i)))
    assert index(db, "v_e") == (0, 3000, "delta")
    db.execute("COMMIT")
    assert index(db, "v_e") == index(db, "v_f") == (3000, 0, "fresh")
    db.execute("DELETE FROM v WHERE rowid <= 1500")
    assert index(db, "v_e") == (1500, 0, "fresh")
    for i in range(999):
        db.execute("INSERT INTO v(e, f) VALUES (?, ?)", (f32(-i, 0), f32(0, -i)))
    assert index(db, "v_e")[1] == 999
    db.execute("UPDATE v SET e = e WHERE rowid = 1501")
    db.execute("INSERT INTO v(e, f) VALUES ('[7000, 0]', '[0, 7000]')")
    assert index(db, "v_e") == (2500, 0, "fresh")
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[9999, 0]' AND k = 1") == [4000]
    assert keys(db, "SELECT annex_check('v_e')") == ["ok"]


def test_small_writers_bring_the_index_up_to_date_together(connect):
    first = connect("a.db", entry_point=VEC)
    first.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2])")
    for start in range(0, 1200, 400):
        db = connect("a.db", entry_point=VEC)
        db.execute("BEGIN")
        for i in range(400):
            db.execute("INSERT INTO v(e) VALUES (?)", (f32(start + i, 0),))
        db.execute("COMMIT")
        db.close()
    assert index(first, "v_e") == (1200, 0, "fresh")


def test_a_savepoint_that_is_released_is_a_commit(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2])")
    db.execute("SAVEPOINT outer_one")
    db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)"
               " INSERT INTO v(e) SELECT json_array(i, 0) FROM n")
    assert index(db, "v_e") == (0, 2000, "delta")
    db.execute("RELEASE outer_one")
    assert index(db, "v_e") == (2000, 0, "fresh")
    assert not db.in_transaction
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[700, 0]' AND k = 1") == [700]


def test_a_commit_goes_on_when_the_index_cannot_be_brought_up_to_date(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2])")
    db.execute("BEGIN")
    for i in range(2000):
        db.execute("INSERT INTO v(e) VALUES (?)", (f32(i, 0),))

    def deny(action, table, *rest):
        refused = action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE)
        return sqlite3.SQLITE_DENY if refused and table.startswith("annex_") else sqlite3.SQLITE_OK

    db.set_authorizer(deny)
    db.execute("COMMIT")
    db.set_authorizer(None)
    assert keys(db, "SELECT count(*) FROM v") == [2000]
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[1500, 0]' AND k = 1") == [1501]
    db.execute("INSERT INTO v(v) VALUES ('optimize')")
    assert index(db, "v_e") == (2000, 0, "fresh")


def test_a_commit_goes_on_when_somebody_asks_to_stop(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2])")
    db.execute("BEGIN")
    for i in range(2000):
        db.execute("INSERT INTO v(e) VALUES (?)", (f32(i, 0),))
    db.set_progress_handler(lambda: 1, 1000)
    db.execute("COMMIT")
    db.set_progress_handler(None, 0)
    assert index(db, "v_e") == (0, 2000, "delta")
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[1500, 0]' AND k = 1") == [1501]


def test_optimize_merges_within_a_transaction_and_without(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2])")
    for i in range(20):
        db.execute("INSERT INTO v(e) VALUES (?)", (f32(i, 0),))
    db.execute("INSERT INTO v(v) VALUES ('optimize')")
    assert index(db, "v_e") == (20, 0, "fresh")
    db.execute("BEGIN")
    db.execute("DELETE FROM v WHERE rowid = 1")
    db.execute("INSERT INTO v(v) VALUES ('optimize')")
    assert index(db, "v_e") == (19, 0, "fresh")
    db.execute("ROLLBACK")
    assert index(db, "v_e") == (20, 0, "fresh")
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[0, 0]' AND k = 1") == [1]
    assert keys(db, "SELECT annex_check('v_e')") == ["ok"]


def test_an_optimize_that_fails_half_way_makes_no_answer_wrong(db):
    """A statement with one row is not undone by SQLite when its table fails."""
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2])")
    db.execute("BEGIN")
    for i in range(30):
        db.execute("INSERT INTO v(e) VALUES (?)", (f32(i, 0),))

    def deny(action, table, *rest):
        denied = (action, table) == (sqlite3.SQLITE_UPDATE, "annex_index")
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK

    db.set_authorizer(deny)
    assert "not authorized" in refusal(db, "INSERT INTO v(v) VALUES ('optimize')")
    db.set_authorizer(None)
    db.execute("DELETE FROM v WHERE rowid = 1")
    sql = "SELECT rowid FROM v WHERE e MATCH '[0, 0]' AND k = 99"
    assert keys(db, sql) == list(range(2, 31))
    db.execute("INSERT INTO v(v) VALUES ('optimize')")
    db.execute("COMMIT")
    assert index(db, "v_e") == (29, 0, "fresh")
    assert keys(db, sql) == list(range(2, 31))


def test_optimize_makes_an_index_that_was_dropped_again(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(a float[2] distance_metric=l1, b float[1])")
    db.execute("INSERT INTO v(a, b) VALUES ('[1, 1]', '[1]')")
    db.execute("SELECT annex_drop('v_a')").fetchone()
    sql = "SELECT distance FROM v WHERE a MATCH '[0, 0]' AND k = 1"
    assert refusal(db, sql) == (
        'the index main.v_a is gone; INSERT INTO "v"("v") VALUES (\'optimize\') makes it again'
    )
    db.execute("INSERT INTO v(a, b) VALUES ('[0, 1]', '[1]')")
    db.execute('INSERT INTO "v"("v") VALUES (\'optimize\')')
    assert keys(db, sql) == [1]
    db.execute("SELECT annex_drop('v_b')").fetchone()
    db.execute("DROP TABLE v")
    assert names(db) == set()


def test_a_sync_within_a_statement_that_writes_is_part_of_it(db):
    """SQLite sets no savepoint there, and commits when the statement ends."""
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2])")
    db.execute("INSERT INTO v(e) VALUES ('[1, 2]')")
    db.execute("CREATE TABLE reports(report)")
    db.execute("INSERT INTO reports SELECT annex_sync('v_e')")
    assert index(db, "v_e") == (1, 0, "fresh")
    db.execute("BEGIN")
    db.execute("INSERT INTO v(e) VALUES ('[3, 4]')")
    db.execute("INSERT INTO reports SELECT annex_sync('v_e')")
    assert index(db, "v_e") == (2, 0, "fresh")
    db.execute("ROLLBACK")
    assert index(db, "v_e") == (1, 0, "fresh")
    assert keys(db, "SELECT count(*) FROM reports") == [1]


def test_an_approximate_index_is_made_where_one_is_asked_for(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(a float[8], b float[8] indexed by diskann())")
    rows = np.random.default_rng(5).normal(size=(6000, 8)).astype("f4")
    db.execute("BEGIN")
    db.executemany("INSERT INTO v(a, b) VALUES (?1, ?1)", [(row.tobytes(),) for row in rows])
    db.execute("COMMIT")
    families = dict(db.execute("SELECT name, family FROM annex_indexes"))
    assert families == {"v_a": "flat", "v_b": "graph"}
    db.execute("BEGIN")
    db.execute("INSERT INTO v(a, b) SELECT a, b FROM v WHERE rowid <= 1500")
    db.execute("COMMIT")
    assert index(db, "v_a") == (7500, 0, "fresh")
    assert index(db, "v_b") == (6000, 1500, "delta")  # building a graph takes long
    db.execute("DELETE FROM v WHERE rowid > 6000")
    found = 0
    for query in rows[:40] + np.float32(0.01):
        exact, near = (
            keys(db, f"SELECT rowid FROM v WHERE {c} MATCH ? AND k = 10", query.tobytes())
            for c in "ab"
        )
        order = np.argsort(((rows - query) ** 2).sum(axis=1))[:10] + 1
        assert exact == order.tolist()
        found += len(set(exact) & set(near))
    assert found >= 0.9 * 400


def test_a_connection_that_is_closed_leaves_nothing_open(connect):
    for _ in range(3):
        db = connect("a.db", entry_point=VEC)
        db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS v USING vec0(e float[1], tag text)")
        db.execute("INSERT INTO v(e, tag) VALUES ('[1]', 'x')")
        db.execute("UPDATE v SET tag = 'y'")
        db.execute("SELECT * FROM v WHERE e MATCH '[1]' AND k = 1 AND tag = 'y'").fetchone()
        db.close()
    db = connect("a.db", extension=False)
    db.execute("PRAGMA journal_mode = wal")
    assert keys(db, "PRAGMA integrity_check") == ["ok"]


def test_threads_with_connections_of_their_own_search_and_write(connect, tmp_path):
    connect("a.db", entry_point=VEC).execute("PRAGMA journal_mode = wal")
    connect("a.db", entry_point=VEC).execute("CREATE VIRTUAL TABLE v USING vec0(e float[1])")
    databases = [connect("a.db", entry_point=VEC, check_same_thread=False) for _ in range(4)]
    wrong = []

    def work(db, number):
        for i in range(60):
            if number == 0:
                db.execute("INSERT INTO v(rowid, e) VALUES (?, ?)", (i, f32(i)))
            else:
                count, = keys(db, "SELECT count(*) FROM v")
                found = keys(db, "SELECT rowid FROM v WHERE e MATCH '[0]' AND k = 100")
                if len(found) < count or found != list(range(len(found))):
                    wrong.append((count, found))

    threads = [threading.Thread(target=work, args=(db, n)) for n, db in enumerate(databases)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- A model -------------------------------------------------------------------------------------


class Model:
    """Random changes of a table and of a dictionary, and searches in both."""

    def __init__(self, db, seed):
        self.db, self.random = db, random.Random(seed)
        self.rows, self.saved = {}, []
        db.execute("CREATE VIRTUAL TABLE v USING vec0("
                   "e float[3], part int partition key, tag text)")

    def vector(self):
        return [self.random.randint(-9, 9) / 4 for _ in range(3)]

    def change(self):
        key = self.random.randint(1, 60)
        row = (self.vector(), self.random.randint(0, 2), self.random.choice(["a", "b", None]))
        values = (key, f32(*row[0]), row[1], row[2])
        kind = self.random.choice(["insert", "replace", "ignore", "update", "move", "delete"])
        into = "INTO v(rowid, e, part, tag) VALUES (?, ?, ?, ?)"
        if kind == "insert" and key not in self.rows:
            self.db.execute("INSERT " + into, values)
            self.rows[key] = row
        elif kind == "replace":
            self.db.execute("REPLACE " + into, values)
            self.rows[key] = row
        elif kind == "ignore":
            self.db.execute("INSERT OR IGNORE " + into, values)
            self.rows.setdefault(key, row)
        elif kind == "update":
            self.db.execute("UPDATE v SET e = ?2, part = ?3, tag = ?4 WHERE rowid = ?1", values)
            if key in self.rows:
                self.rows[key] = row
        elif kind == "move" and key + 100 not in self.rows:
            self.db.execute("UPDATE v SET rowid = rowid + 100 WHERE rowid = ?", (key,))
            if key in self.rows:
                self.rows[key + 100] = self.rows.pop(key)
        elif kind == "delete":
            self.db.execute("DELETE FROM v WHERE rowid = ?", (key,))
            self.rows.pop(key, None)

    def transact(self):
        kinds = ["begin", "save", "release", "back", "commit", "rollback", "optimize"]
        kind = self.random.choice(kinds)
        inside = self.db.in_transaction
        if kind == "begin" and not inside:
            self.db.execute("BEGIN")
            self.saved = [dict(self.rows)]
        elif kind == "save" and inside:
            self.db.execute(f"SAVEPOINT s{len(self.saved)}")
            self.saved.append(dict(self.rows))
        elif kind == "back" and len(self.saved) > 1:
            self.db.execute(f"ROLLBACK TO s{len(self.saved) - 1}")
            self.rows = dict(self.saved[-1])
        elif kind == "release" and len(self.saved) > 1:
            self.db.execute(f"RELEASE s{len(self.saved) - 1}")
            self.saved.pop()
        elif kind in ("commit", "rollback") and inside:
            self.db.execute(kind)
            self.rows = self.rows if kind == "commit" else self.saved[0]
            self.saved = []
        elif kind == "optimize":
            self.db.execute("INSERT INTO v(v) VALUES ('optimize')")

    def check(self):
        query, k = self.vector(), self.random.randint(1, 9)
        sql, test = self.random.choice([
            ("", lambda key, row: True),
            (" AND part = 1", lambda key, row: row[1] == 1),
            (" AND tag <> 'a'", lambda key, row: row[2] == "b"),
            (" AND part IN (0, 2) AND tag IS NULL",
             lambda key, row: row[1] != 1 and row[2] is None),
            (" AND rowid IN (SELECT value FROM even)", lambda key, row: key % 2 == 0),
            (" AND distance > 1.5", lambda key, row: self.distance(row[0], query) > 1.5),
            (" AND distance <= 2 AND part < 2",
             lambda key, row: self.distance(row[0], query) <= 2 and row[1] < 2),
        ])
        wanted = sorted(
            (self.distance(row[0], query), key) for key, row in self.rows.items() if test(key, row)
        )[:k]
        found = self.db.execute(
            f"SELECT distance, rowid FROM v WHERE e MATCH ? AND k = ?{sql}", (f32(*query), k)
        ).fetchall()
        assert found == wanted
        assert keys(self.db, "SELECT rowid FROM v") == sorted(self.rows)

    @staticmethod
    def distance(a, b):
        squares = sum((np.float32(x) - np.float32(y)) ** 2 for x, y in zip(a, b))
        return float(np.sqrt(np.float32(squares)))


@pytest.mark.parametrize("seed", range(4))
def test_random_changes_are_always_seen(db, seed):
    model = Model(db, seed)
    db.execute("CREATE TEMP VIEW even AS WITH RECURSIVE n(value) AS"
               " (SELECT 0 UNION ALL SELECT value + 2 FROM n LIMIT 100) SELECT value FROM n")
    for _ in range(700):
        model.random.choice([model.change, model.change, model.check, model.transact])()
