"""Every way in which table, triggers, log or catalog change under an index: followed, or stale with
a sentence whose last words mend it when they are run. The answer is right before and after."""

import pytest

from sql_changes import (fill, found, fresh_after_sync, make, mend, one, refused, right, stale,
                         state, status, vector)


@pytest.fixture
def db(connect):
    return connect("a.db")


def write_schema(db, sql, *arguments):
    """Edits sqlite_schema as no program should."""
    db.execute("PRAGMA writable_schema = 1")
    db.execute(sql, arguments)
    db.execute("PRAGMA writable_schema = RESET")


# ---- ALTER TABLE ---------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [0, 1])
def test_renamed_table__is_followed(db, legacy):
    make(db)
    db.execute(f"PRAGMA legacy_alter_table = {legacy}")
    db.execute('ALTER TABLE docs RENAME TO "my ""papers"""')
    look = {"table": '"my ""papers"""'}
    assert status(db).endswith('of table my "papers"')
    fill(db, [100], table=look["table"])
    assert "delta: 1 row" in status(db)
    fresh_after_sync(db, **look)
    db.execute("ALTER TABLE \"my \"\"papers\"\"\" RENAME TO docs")
    fresh_after_sync(db)


def test_renamed_table_and_column__are_written_down_by_a_sync(db, connect):
    """The triggers tell new names only as long as they are there."""
    make(db)
    db.execute("ALTER TABLE docs RENAME TO papers")
    db.execute("ALTER TABLE papers RENAME COLUMN v TO embedding")
    fresh_after_sync(db, table="papers", column="embedding")
    for name, in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    look = {"table": "papers", "column": "embedding"}
    stale(connect("a.db"), "is gone", **look)


@pytest.mark.parametrize("legacy", [0, 1])
def test_renamed_columns__are_followed(db, legacy):
    make(db, options='{"where": "w IS NULL OR \\"w\\" + id > 0"}')
    db.execute(f"PRAGMA legacy_alter_table = {legacy}")
    db.execute('ALTER TABLE docs RENAME COLUMN v TO "v e"')
    db.execute("ALTER TABLE docs RENAME COLUMN id TO number")
    db.execute("ALTER TABLE docs RENAME COLUMN w TO weight")
    look = {"column": '"v e"', "keys": "number", "where": "(weight IS NULL OR weight > -number)"}
    assert status(db).startswith("fresh: ")
    assert db.execute('SELECT "column", keys FROM annex_indexes').fetchone() == ("v e", "number")
    db.execute("UPDATE docs SET weight = -1000 WHERE number < 9")
    db.execute("UPDATE docs SET number = 999 WHERE number = 10")
    assert len(right(db, **look)) == 32
    fresh_after_sync(db, **look)
    assert one(db, "SELECT annex_check('idx')") == "ok"


def test_renamed_columns__other_connections_old_snapshots_and_rollbacks(db, connect):
    db.execute("PRAGMA journal_mode = wal")
    make(db)
    other = connect("a.db")
    other.execute("BEGIN")
    before = right(other)
    db.execute("BEGIN")
    db.execute("ALTER TABLE docs RENAME COLUMN v TO u")
    right(db, column="u")
    db.execute("ROLLBACK")
    right(db)
    db.execute("ALTER TABLE docs RENAME COLUMN v TO u")
    db.execute("ALTER TABLE docs ADD COLUMN v")
    right(db, column="u")
    assert right(other) == before
    other.execute("COMMIT")
    assert right(other, column="u") == before


def test_columns_that_come_and_go__are_no_concern(db):
    make(db)
    db.execute("ALTER TABLE docs ADD COLUMN extra TEXT DEFAULT 'x'")
    db.execute("ALTER TABLE docs DROP COLUMN w")
    assert status(db).startswith("fresh: ")
    fill(db, [100])
    fresh_after_sync(db)


def test_dropped_vector_column__is_refused_by_sqlite_as_long_as_the_index_is_there(db):
    make(db)
    refused(db, "ALTER TABLE docs DROP COLUMN v", "annex_log_1_update")
    assert state(db) == "fresh"
    db.execute("SELECT annex_drop('idx')")
    db.execute("ALTER TABLE docs DROP COLUMN v")


def test_dropped_vector_column_with_legacy_alter_table__stops_writers_until_annex_drop(db):
    make(db)
    db.execute("PRAGMA legacy_alter_table = 1")
    db.execute("ALTER TABLE docs DROP COLUMN v")
    assert "does not fit its table any more" in status(db)
    refused(db, "SELECT * FROM annex_search('idx', '[1,2,3,4]')", r"run annex_drop\('idx'\)")
    refused(db, "UPDATE docs SET w = 1", "no such column: old.v")
    mend(db)
    db.execute("UPDATE docs SET w = 1")
    assert one(db, "SELECT count(*) FROM annex_indexes") == 0


# ---- Tables made anew ----------------------------------------------------------------------------


def rebuild(db, declaration, select, legacy=0, table="docs"):
    """The twelve steps of sqlite.org/lang_altertable.html, as Django and Alembic take them."""
    db.execute(f"PRAGMA legacy_alter_table = {legacy}")
    db.executescript(f"BEGIN; CREATE TABLE new_{table}({declaration});"
                     f"INSERT INTO new_{table} {select}; DROP TABLE {table};"
                     f"ALTER TABLE new_{table} RENAME TO {table}; COMMIT")


@pytest.mark.parametrize("legacy", [0, 1])
def test_rebuilt_table__whose_rows_are_the_same_keeps_its_segments(db, legacy):
    make(db)
    rebuild(db, "extra TEXT, v BLOB NOT NULL, id INTEGER PRIMARY KEY",
            "SELECT 'x', v, id FROM docs", legacy)
    report = stale(db, "the trigger annex_log_1_insert is gone")
    assert report == {"inserted": 0, "deleted": 0, "segments": 1, "rebuilt": False, "swept": True}


def test_rebuilt_table__of_which_rows_were_left_out_changed_and_added(db):
    make(db, n=100)
    rebuild(db, "id INTEGER PRIMARY KEY, v BLOB",
            "SELECT id, CASE id WHEN 7 THEN annex_encode('[1,2,3,4]') ELSE v END FROM docs "
            "WHERE id > 3")
    fill(db, [1000, 1001])
    report = stale(db, "is gone")
    assert report == {"inserted": 3, "deleted": 4, "segments": 2, "rebuilt": False, "swept": True}


def test_transform_as_sqlite_utils_does_it__with_other_connections_open(db, connect):
    make(db)
    other = connect("a.db")
    right(other)
    db.executescript("PRAGMA foreign_keys = off; BEGIN;"
                     "CREATE TABLE docs_new_abc(id INTEGER PRIMARY KEY, w TEXT, v BLOB);"
                     "INSERT INTO docs_new_abc(rowid, id, w, v) SELECT rowid, id, w, v FROM docs;"
                     "DROP TABLE docs; ALTER TABLE docs_new_abc RENAME TO docs; COMMIT")
    db.execute("DELETE FROM docs WHERE id = 5")
    right(other)
    assert state(other) == "stale"
    assert stale(db, "is gone")["swept"] is True
    right(other)
    assert state(other) == "fresh"


def test_table_rebuilt_by_a_program_that_puts_the_triggers_back__is_compared_with_it(db):
    """As DB Browser for SQLite does it: whether the rows were copied as they are, nobody knows."""
    make(db)
    triggers = [sql for (sql,) in
                db.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()]
    rebuild(db, "id INTEGER PRIMARY KEY, v BLOB, w TEXT", "SELECT id, v, w FROM docs")
    for sql in triggers:
        db.execute(sql)
    db.execute("DELETE FROM docs WHERE id = 5")
    report = stale(db, "the table docs was made anew")
    assert report["swept"] is True and report["deleted"] == 1
    fresh_after_sync(db)


def test_rebuilt_table__with_a_key_of_another_type(db):
    make(db)
    rebuild(db, "id TEXT PRIMARY KEY, v BLOB, w", "SELECT 'k' || id, v, w FROM docs")
    report = stale(db, "the key id of table docs has another type")
    assert report["rebuilt"] is True
    fill(db, ["new"])
    fresh_after_sync(db)
    rebuild(db, "id INTEGER PRIMARY KEY, v BLOB, w",
            "SELECT CAST(substr(id, 2) AS INTEGER), v, w FROM docs WHERE id <> 'new'")
    assert stale(db, "the key id of table docs has another type")["rebuilt"] is True


def test_rebuilt_table__with_a_column_renamed_on_the_way(db):
    make(db)
    rebuild(db, "id INTEGER PRIMARY KEY, vector BLOB", "SELECT id, v FROM docs")
    assert "does not have all of its columns" in status(db)
    refused(db, "SELECT annex_sync('idx')", "and create it again")
    mend(db)
    db.execute("SELECT annex_create('idx', 'docs', 'vector')")
    right(db, column="vector")


@pytest.mark.parametrize("rebuilt", [True, False], ids=["table rebuilt", "index dropped"])
def test_key_that_is_not_unique_any_more(db, rebuilt):
    db.execute(f"CREATE TABLE docs(id INTEGER NOT NULL{' UNIQUE' if rebuilt else ''}, v BLOB)")
    if not rebuilt:
        db.execute("CREATE UNIQUE INDEX by_id ON docs(id)")
    fill(db, range(30))
    db.execute("SELECT annex_create('idx', 'docs', 'v')")
    right(db)
    if rebuilt:
        rebuild(db, "id INTEGER NOT NULL, v BLOB", "SELECT id, v FROM docs")
    else:
        db.execute("DROP INDEX by_id")
    db.execute("INSERT INTO docs VALUES (7, annex_encode(?))", [vector("another")])
    text = status(db)
    assert text.startswith("stale: the key (\"id\") of table docs is not declared unique any more")
    assert len(right(db)) == 31, "both rows of the key"
    refused(db, "SELECT annex_sync('idx')", "CREATE UNIQUE INDEX")
    db.execute("DELETE FROM docs WHERE rowid = (SELECT max(rowid) FROM docs)")
    stale(db, "not declared unique any more")


def test_table_that_was_dropped(db):
    make(db)
    db.execute("DROP TABLE docs")
    assert status(db) == "stale: the table docs of index idx is gone; run annex_drop('idx')"
    refused(db, "SELECT * FROM annex_search('idx', '[1,2,3,4]')", "is gone; run annex_drop")
    refused(db, "SELECT annex_sync('idx')", "is gone; run annex_drop")
    refused(db, "SELECT annex_check('idx')", "is gone; run annex_drop")
    mend(db)
    assert db.execute("SELECT name FROM sqlite_schema").fetchall() == []


def test_table_that_was_dropped__and_made_again_under_its_name(db):
    make(db)
    db.execute("DROP TABLE docs")
    db.execute("CREATE TABLE docs(v BLOB, id INTEGER PRIMARY KEY)")
    fill(db, range(30, 90))
    assert stale(db, "is gone")["inserted"] == 60


def test_view_in_place_of_the_table(db):
    make(db)
    db.executescript("ALTER TABLE docs RENAME TO base; DROP TRIGGER annex_log_1_insert;"
                     "DROP TRIGGER annex_log_1_update; DROP TRIGGER annex_log_1_delete;"
                     "CREATE VIEW docs AS SELECT * FROM base WHERE id < 20")
    assert status(db) == ("stale: docs is not the table that was indexed but a view or virtual "
                          "table, whose changes SQLite cannot log; run annex_drop('idx')")
    assert len(right(db)) == 19
    refused(db, "SELECT annex_sync('idx')", r"run annex_drop\('idx'\)")
    mend(db)
    db.execute("SELECT annex_create('idx', 'base', 'v')")
    right(db, table="base")


@pytest.mark.parametrize("reader", ["annex_indexes", "docs WHERE id = 9"])
def test_verbs_called_by_a_statement_that_reads__also_after_a_table_was_made_anew(db, reader):
    """SQLite drops no table while a statement reads."""
    make(db)
    for i in range(3):
        rebuild(db, "id INTEGER PRIMARY KEY, v BLOB", f"SELECT id, v FROM docs WHERE id <> {i + 1}")
        assert "swept" in one(db, f"SELECT annex_sync('idx') FROM {reader}")
        assert status(db).startswith("fresh: ")
        fill(db, [100 + i])
        right(db)
    left = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'annex_log_1_left%'"
    assert one(db, left) == 3
    db.execute("DROP TRIGGER annex_log_1_insert")
    stale(db, "is gone")
    assert one(db, left) == 0, "the next one that can drops them"
    assert one(db, f"SELECT annex_drop('idx') FROM {reader}") == "idx"
    assert one(db, "SELECT count(*) FROM annex_indexes") == 0
    assert db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall() == []
    db.execute("SELECT annex_create('idx', 'docs', 'v')")
    fresh_after_sync(db)
    db.execute("SELECT annex_drop('idx')")
    assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("docs",)]


# ---- Vectors of another kind ---------------------------------------------------------------------


@pytest.mark.parametrize("new, kind", [
    ("annex_encode('[1, 2, 3, 4, 5, 6]')", "6 dimensions as f32"),
    ("'[1, 2, 3, 4]'", "4 dimensions as json"),
])
def test_all_vectors_replaced_by_those_of_another_model(db, new, kind):
    make(db)
    db.execute(f"UPDATE docs SET v = {new}")
    assert f"holds vectors of {kind} now" in status(db)
    assert found(db) == [], "none fits a query of today"
    report = mend(db)
    assert (report["rebuilt"], report["inserted"]) == (True, 40)
    assert status(db).startswith("fresh: ")
    query = "[1, 2, 3, 4, 5, 6]" if "6" in kind else "[1, 2, 3, 4]"
    assert [key for (key,) in found(db, query=query)] == list(range(1, 41))
    assert one(db, "SELECT annex_check('idx')") == "ok"


def test_vectors_of_another_kind_than_the_user_asked_for__stay_out(db):
    make(db, options='{"format": "f32", "dimension": 4}')
    db.execute("UPDATE docs SET v = '[1, 2, 3, 4]'")
    assert "delta: 40 rows" in status(db)
    db.execute("SELECT annex_sync('idx')")
    assert found(db) == []
    refused(db, "SELECT annex_check('idx')", r"\(40 such rows\)")


# ---- Triggers and log ----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["insert", "update", "delete"])
def test_dropped_trigger(db, which):
    make(db)
    db.execute(f"DROP TRIGGER annex_log_1_{which}")
    db.execute("UPDATE docs SET id = id + 100 WHERE id < 4")
    db.execute("DELETE FROM docs WHERE id = 7")
    fill(db, [500])
    report = stale(db, f"the trigger annex_log_1_{which} is gone")
    assert (report["inserted"], report["deleted"]) == (4, 4)


def test_trigger_with_another_text(db):
    make(db)
    db.executescript("DROP TRIGGER annex_log_1_delete; CREATE TRIGGER annex_log_1_delete "
                     "AFTER DELETE ON docs BEGIN SELECT 1; END; DELETE FROM docs WHERE id = 3")
    assert stale(db, "the trigger annex_log_1_delete was changed")["deleted"] == 1


def test_schema_edited_by_hand__triggers_removed_and_changed(db, connect):
    make(db)
    other = connect("a.db")
    right(other)
    write_schema(db, "DELETE FROM sqlite_schema WHERE name = 'annex_log_1_insert'")
    db.execute("PRAGMA schema_version = 1000")
    fill(db, [100])
    right(other)
    stale(db, "the trigger annex_log_1_insert is gone")
    write_schema(db, "UPDATE sqlite_schema SET sql = replace(sql, 'old.\"id\");', '1);') "
                     "WHERE name = 'annex_log_1_delete'")
    stale(db, "the trigger annex_log_1_delete was changed")


@pytest.mark.parametrize("cut", ["DELETE FROM annex_log_1", "UPDATE annex_log_1 SET nonce = 1",
                                 "DELETE FROM annex_log_1 WHERE seq = 3",
                                 "UPDATE annex_log_1 SET seq = seq + 10"])
def test_log_that_was_cut(db, cut):
    make(db)
    db.execute("DELETE FROM docs WHERE id < 6")
    db.execute(cut)
    if "seq = 3" in cut:  # a gap is seen when the log is read
        right(db)
        assert db.execute("SELECT annex_sync('idx')").fetchone()[0].endswith('"swept":true}')
        return
    stale(db, "the change log annex_log_1 is not the one that the last sync left")


def test_log_of_another_shape(db):
    make(db)
    db.execute("ALTER TABLE annex_log_1 ADD COLUMN when_ DEFAULT 0")
    stale(db, "the table annex_log_1 was changed")
    db.execute("ALTER TABLE annex_log_1 RENAME TO renamed")
    fill(db, [100])
    stale(db, "the table annex_log_1 is gone")
    db.execute("DROP TABLE annex_log_1")
    refused(db, "DELETE FROM docs WHERE id = 3", "no such table: main.annex_log_1")
    stale(db, "the table annex_log_1 is gone")
    db.execute("DELETE FROM docs WHERE id = 3")


# ---- Tables of the catalog -----------------------------------------------------------------------


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("loss, reason", [
    ("DROP TABLE annex_segment", "the table annex_segment is gone"),
    ("DROP TABLE annex_part", "the table annex_part is gone"),
    ("DELETE FROM annex_segment", "chunks in annex_segment are missing"),
    ("DELETE FROM annex_part", "annex_part has 0 of its 1 segments"),
])
def test_lost_segments(connect, tmp_path, loss, reason, cached):
    db = make(connect("a.db"))
    db.execute(loss)
    db.execute("DELETE FROM docs WHERE id = 3")
    db.close()
    if not cached:
        for path in tmp_path.glob("cache/annex/*"):
            path.unlink()
    db = connect("a.db")
    refused(db, "SELECT annex_check('idx')", "run annex_")
    stale(db, reason)


@pytest.mark.parametrize("verb", ["annex_sync", "annex_optimize", "annex_drop"])
@pytest.mark.parametrize("lost", ["annex_segment", "annex_part", "both"])
def test_lost_tables_of_the_catalog__stop_no_verb(db, verb, lost):
    make(db)
    for table in ("annex_segment", "annex_part"):
        if lost in (table, "both"):
            db.execute(f"DROP TABLE {table}")
    db.execute(f"SELECT {verb}('idx')")
    if verb == "annex_drop":
        assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("docs",)]
    else:
        assert status(db).startswith("fresh: ")
        assert one(db, "SELECT annex_check('idx')") == "ok"


def test_one_of_two_segments_lost__the_other_is_kept(db):
    make(db, n=1000)
    fill(db, range(2000, 2010))
    db.execute("SELECT annex_sync('idx')")
    db.execute("DELETE FROM annex_part WHERE slots = 10")
    db.execute("UPDATE annex_index SET version = version + 1")
    report = stale(db, "annex_part has 1 of its 2 segments")
    assert (report["inserted"], report["rebuilt"], report["swept"]) == (10, False, True)


def test_catalog_dropped_by_hand__and_an_index_made_again(db):
    make(db)
    db.execute("DROP TABLE annex_index")
    refused(db, "SELECT annex_status('idx')", "there is no index idx")
    fill(db, [100])
    db.execute("SELECT annex_create('idx', 'docs', 'v')")
    assert status(db).startswith("fresh: ")
    right(db)
    assert one(db, "SELECT annex_check('idx')") == "ok"


def test_definition_that_cannot_be_read(db):
    make(db)
    db.execute("UPDATE annex_index SET definition = '{}', version = 1")
    assert "the definition in annex_index is damaged" in status(db)
    mend(db)
    assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("docs",)]


def test_names_that_need_quotes__in_the_sentence(db):
    db.execute("ATTACH ':memory:' AS \"o'r\"")
    db.execute("CREATE TABLE \"o'r\".docs(id INTEGER PRIMARY KEY, v BLOB)")
    fill(db, range(20), table="\"o'r\".docs")
    db.execute("SELECT annex_create('o''r.it''s', 'docs', 'v')")
    db.execute("DROP TRIGGER \"o'r\".annex_log_1_insert")
    stale(db, "run annex_sync('o''r.it''s')", name="o'r.it's", table="\"o'r\".docs")


def test_status_of_an_index_that_is_not_there(db):
    refused(db, "SELECT annex_status('nothing')", "there is no index nothing; annex_indexes lists")
