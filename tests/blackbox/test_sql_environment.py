"""Wherever SQLite works, so does Annex: kinds of databases, settings, limits, authorizers.

Most tests live the same life (sql_life.py) in another place.
"""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import pytest

from conftest import EXTENSION
from sql_life import NEAREST, answers, change, end, live
from sql_model import Docs, fill, keys


# ---- Journals, settings --------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "memory", "off", "wal"])
def test_every_journal_mode__is_lived_in(connect, journal):
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    for each in (db, plain):
        each.execute(f"PRAGMA journal_mode = {journal}")
    docs = live(db, plain, undo=journal != "off")
    reopened = connect("docs.db")
    answers(reopened, docs)
    end(reopened, docs)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_exclusive_locking_mode__is_lived_in(connect, journal):
    db = connect("docs.db")
    db.execute("PRAGMA locking_mode = exclusive")
    db.execute(f"PRAGMA journal_mode = {journal}")
    end(db, live(db))


@pytest.mark.parametrize("pragma", [
    "trusted_schema = 0", "temp_store = 1", "temp_store = 2", "mmap_size = 0",
    "mmap_size = 268435456", "cache_spill = 0", "cache_size = 1", "secure_delete = 1",
    "secure_delete = fast", "cell_size_check = 1", "reverse_unordered_selects = 1",
    "full_column_names = 1", "short_column_names = 0", "foreign_keys = 1", "recursive_triggers = 1",
    "legacy_alter_table = 1", "defer_foreign_keys = 1", "ignore_check_constraints = 1",
    "automatic_index = 0", "case_sensitive_like = 1", "synchronous = 3", "checkpoint_fullfsync = 1",
    "journal_size_limit = 0", "wal_autocheckpoint = 1", "read_uncommitted = 1", "threads = 4",
    "busy_timeout = 0", "analysis_limit = 10", "count_changes = 1", "empty_result_callbacks = 1",
])
def test_settings_of_a_connection__change_no_answer(connect, pragma):
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    for each in (db, plain):
        each.execute("PRAGMA journal_mode = wal")
        each.execute(f"PRAGMA {pragma}")
    end(db, live(db, plain))


@pytest.mark.parametrize("page_bytes", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
def test_every_page_size__is_lived_in(connect, page_bytes):
    db = connect("docs.db")
    db.execute(f"PRAGMA page_size = {page_bytes}")
    docs = live(db, connect("docs.db", extension=False))
    other = 512 if page_bytes > 512 else 65536
    db.execute(f"PRAGMA page_size = {other}")
    db.execute("VACUUM")
    answers(db, docs)
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]


@pytest.mark.parametrize("vacuum", ["full", "incremental"])
def test_auto_vacuum__moves_pages_under_an_index(connect, vacuum):
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    db.execute(f"PRAGMA auto_vacuum = {vacuum}")
    docs = live(db, plain)
    plain.execute("CREATE TABLE filler AS SELECT randomblob(100000) AS x")
    plain.execute("DROP TABLE filler")
    plain.execute("PRAGMA incremental_vacuum").fetchall()
    answers(db, docs)
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_every_text_encoding__is_lived_in(connect, encoding):
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    db.execute(f"PRAGMA encoding = '{encoding}'")
    live(db, plain)
    names = ["", "a", "\u00e9t\u00e9", "\u4e2d\u6587", "\U0001f600", "e\u0301", "z" * 300]
    db.execute('CREATE TABLE "t\u00fcr"("n\u00e4me" TEXT PRIMARY KEY, "v\u00e9c" TEXT)')
    options = {"dimension": 2, "format": "json", "where": "\"n\u00e4me\" <> 'zzz'"}
    db.execute("SELECT annex_create('\u00efdx', 't\u00fcr', 'v\u00e9c', ?)", (json.dumps(options),))
    fill(plain, 'INSERT INTO "t\u00fcr" VALUES (?, ?)',
         [(name, f"[{i}, 0]") for i, name in enumerate(names)])
    for _ in range(2):
        found = keys(db, "SELECT key FROM annex_search('\u00efdx', '[0, 0]', 20)")
        assert found == names
        some = keys(db, "SELECT key FROM annex_search('\u00efdx', '[0, 0]', 20) WHERE key IN "
                        "('\u4e2d\u6587', '\U0001f600')")
        assert some == ["\u4e2d\u6587", "\U0001f600"]
        db.execute("SELECT annex_sync('\u00efdx')")


# ---- Kinds of databases --------------------------------------------------------------------------


def test_memory_database__is_lived_in(connect):
    db = connect()
    end(db, live(db))


def test_temporary_table__is_lived_in(connect):
    db = connect("docs.db")
    docs = live(db, schema="temp")
    assert keys(db, "SELECT count(*) FROM main.sqlite_schema") == [0]
    assert keys(db, "SELECT schema FROM annex_indexes") == ["temp"]
    end(db, docs, "temp.docs_idx")


def test_attached_database__may_have_the_same_names(connect, tmp_path):
    db, plain = connect("docs.db"), connect("other.db", extension=False)
    db.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
    here = live(db)
    there = Docs(db, n=100, seed=9, schema="other")
    db.execute("SELECT annex_create('other.docs_idx', 'other.docs', 'embedding')")
    there.table = "docs"
    change(there, plain, 5)
    there.table = "other.docs"
    answers(db, there, "other.docs_idx")
    answers(db, here)
    answers(db, here, "main.docs_idx")
    db.execute("DROP TABLE main.docs")
    db.execute("SELECT annex_drop('main.docs_idx')")
    answers(db, there, "docs_idx")  # the only one of this name now
    db.execute("DETACH other")
    with pytest.raises(sqlite3.OperationalError, match="docs_idx"):
        db.execute("SELECT * FROM annex_search('docs_idx', '[1]')")


def test_attached_database__rows_read_in_parts_come_from_one_snapshot(connect, tmp_path):
    db, plain = connect("docs.db"), connect("other.db", extension=False)
    plain.execute("PRAGMA journal_mode = wal")
    db.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
    Docs(db, n=300, seed=9, schema="other")
    db.execute("SELECT annex_create('other.idx', 'other.docs', 'embedding')")
    query = db.execute("SELECT embedding FROM other.docs WHERE id = 1").fetchone()[0]
    sql = "SELECT key FROM annex_search('other.idx', ?)"
    expected = keys(db, sql, query)
    rows = db.execute(sql, (query,))
    first = [rows.fetchone()[0] for _ in range(3)]
    plain.execute("DELETE FROM docs WHERE id % 2 = 0")
    plain.execute("INSERT INTO docs(embedding) SELECT embedding FROM docs")
    assert first + [key for key, in rows] == expected
    assert keys(db, sql, query) != expected


def test_attached_read_only_database__is_searched_by_statements_that_write(connect, tmp_path):
    db = connect("docs.db")
    docs = live(db)
    db.close()
    other = connect(f"file:{tmp_path / 'else.db'}", uri=True)
    other.execute("ATTACH ? AS archive", (f"file:{tmp_path / 'docs.db'}?mode=ro",))
    query = docs.query(1)
    for k in ("", ", 5"):
        sql = f"SELECT key, distance FROM annex_search('docs_idx', ?{k})"
        other.execute(f"CREATE TABLE found AS {sql}", (query,))
        found = other.execute("SELECT * FROM found").fetchall()
        assert found == other.execute(sql, (query,)).fetchall()
        other.execute("DROP TABLE found")


def test_database_attached_under_another_name__is_the_same_index(connect, tmp_path):
    db = connect("docs.db")
    docs = live(db)
    other = connect("else.db")
    for name in ("a", "the other one"):
        other.execute(f'ATTACH ? AS "{name}"', (str(tmp_path / "docs.db"),))
        docs.table = f'"{name}".docs'
        answers(other, docs, "docs_idx")
        answers(other, docs, f"{name}.docs_idx")
        other.execute(f'DETACH "{name}"')


@pytest.mark.parametrize("uri", ["file:shared?mode=memory&cache=shared", "file:{}?cache=shared"])
def test_shared_cache__is_lived_in(connect, tmp_path, uri):
    name = uri.format(tmp_path / "docs.db")
    db, other = connect(name, uri=True), connect(name, uri=True)
    plain = connect(name, extension=False, uri=True)
    docs = live(db, plain)
    change(docs, other, 7)
    for each in (db, other):
        answers(each, docs)
    plain.execute("BEGIN IMMEDIATE")
    plain.execute("DELETE FROM docs WHERE id = 1")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        keys(other, NEAREST, docs.query(0).tobytes())
    plain.execute("ROLLBACK")
    answers(other, docs)
    other.execute("SELECT annex_sync('docs_idx')")
    answers(db, docs)


def test_serialized_database__takes_its_index_along(connect):
    db = connect()
    docs = live(db)
    image = db.serialize()
    copy = connect()
    copy.deserialize(image)
    answers(copy, docs)
    change(docs, copy, 8)
    answers(copy, docs)
    copy.execute("SELECT annex_sync('docs_idx')")
    answers(copy, docs)


def test_database_replaced_under_a_connection__is_searched_as_it_is_now(connect):
    """A backup puts other bytes under a connection that has an index open."""
    db, other = connect(), connect()
    live(db)
    docs = Docs(other, n=90, seed=4).create_index()
    for seed in range(3):
        change(docs, other, seed)
        other.backup(db)
        answers(db, docs)
    db.execute("SELECT annex_sync('docs_idx')")
    answers(db, docs)


def as_nobody(folder, code):
    """Runs Python as a user who owns nothing; root would write to everything."""

    def drop():
        os.setgid(65534)
        os.setuid(65534)

    environment = dict(os.environ, XDG_CACHE_HOME="/nonexistent", HOME="/nonexistent",
                       PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run([sys.executable, "-c", code, str(folder)], preexec_fn=drop, text=True,
                          env=environment, cwd="/", capture_output=True, timeout=60)


READ_ALONE = """
import sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}/docs.db?%s", uri=True)
db.enable_load_extension(True)
db.load_extension(sys.argv[1] + "/annex.so")
vector = db.execute("SELECT annex_vector('docs_idx', 4)").fetchone()[0]
print([key for (key,) in db.execute("SELECT key FROM annex_search('docs_idx', ?, 5)", (vector,))])
print(db.execute("SELECT count(*) FROM annex_indexes").fetchone()[0])
try:
    db.execute("SELECT annex_sync('docs_idx')")
except sqlite3.Error as error:
    print("refused", "read" in str(error))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("journal,mode", [
    ("delete", "mode=rw"), ("delete", "mode=ro"), ("delete", "immutable=1"),
    ("wal", "immutable=1")])
def test_file_and_folder_of_somebody_else__are_searched_without_a_cache(connect, journal, mode):
    folder = Path(tempfile.mkdtemp(prefix="annex-readonly-"))
    try:
        db = connect(f"{folder}/docs.db")
        db.execute(f"PRAGMA journal_mode = {journal}")
        docs = Docs(db, n=150).create_index()
        change(docs, db, 1)
        nearest = docs.nearest(docs.vectors[4], 5)
        db.close()
        shutil.copy(EXTENSION, folder / "annex.so")
        before = (folder / "docs.db").read_bytes()
        (folder / "docs.db").chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        folder.chmod(0o555)
        done = as_nobody(folder, READ_ALONE % mode)
        assert done.stdout.splitlines() == [str(nearest), "1", "refused True"], done.stderr
        assert sorted(os.listdir(folder)) == ["annex.so", "docs.db"]
        assert (folder / "docs.db").read_bytes() == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


# ---- Protection ----------------------------------------------------------------------------------


def test_defensive_mode__is_lived_in(connect, tmp_path):
    """The shell can set SQLITE_DBCONFIG_DEFENSIVE; Python learns it with 3.12."""
    docs = Docs(connect("docs.db"), n=150)
    script = f"""
.load {EXTENSION}
.dbconfig defensive on
.dbconfig trusted_schema off
SELECT annex_create('docs_idx', 'docs', 'embedding');
DELETE FROM docs WHERE id = 1;
SELECT annex_sync('docs_idx');
SELECT annex_optimize('docs_idx');
SELECT annex_check('docs_idx');
SELECT count(*) FROM annex_search('docs_idx', (SELECT embedding FROM docs WHERE id = 4), 7);
SELECT annex_rename('docs_idx', 'other_idx');
SELECT annex_drop('other_idx');
"""
    done = subprocess.run(["sqlite3", "-bail", str(tmp_path / "docs.db")], input=script, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.splitlines()[-4:] == ["ok", "7", "other_idx", "other_idx"]
    assert len(docs.rows) == 147


def test_authorizer_that_allows__sees_the_triggers_by_their_names(connect):
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    docs = live(db)
    seen = set()

    def allow(action, one, two, schema, trigger):
        seen.add((action, one, trigger))
        return sqlite3.SQLITE_OK

    plain.set_authorizer(allow)
    change(docs, plain, 9)
    inserts = {(table, trigger) for action, table, trigger in seen
               if action == sqlite3.SQLITE_INSERT and table.startswith("annex")}
    assert inserts == {("annex_log_1", f"annex_log_1_{event}")
                       for event in ("insert", "update", "delete")}
    answers(db, docs)


READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION,
           sqlite3.SQLITE_PRAGMA}


def test_authorizer_that_allows_reading_only__lets_searches_through(connect):
    """No recursion, no transaction, nothing that writes."""
    db = connect("docs.db")
    docs = live(db)
    for recursion in (True, False):
        allowed = READING | ({sqlite3.SQLITE_RECURSIVE} if recursion else set())
        db.set_authorizer(lambda action, *_, allowed=allowed: (
            sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY))
        answers(db, docs)
        with pytest.raises(sqlite3.DatabaseError):
            db.execute("SELECT annex_drop('docs_idx')")
        db.set_authorizer(None)
        answers(db, docs)
        assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]


@pytest.mark.parametrize("action", [sqlite3.SQLITE_PRAGMA, sqlite3.SQLITE_READ])
def test_authorizer_that_forbids_what_a_search_needs__refuses_it_in_words(connect, action):
    db = connect("docs.db")
    docs = live(db)
    for each in (db, connect("docs.db")):
        each.set_authorizer(lambda asked, *_: (
            sqlite3.SQLITE_DENY if asked == action else sqlite3.SQLITE_OK))
        with pytest.raises(sqlite3.DatabaseError, match="not authorized|prohibited|constructor"):
            keys(each, NEAREST, docs.query(0).tobytes())
        each.set_authorizer(None)
        answers(each, docs)


def test_authorizer_that_hides_the_table__hides_its_vectors(connect):
    db = connect("docs.db")
    docs = live(db)
    fresh = connect("docs.db")
    for each in (db, fresh):
        each.set_authorizer(lambda action, table, *_: (
            sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_READ and table == "docs"
            else sqlite3.SQLITE_OK))
        with pytest.raises(sqlite3.DatabaseError, match="docs"):
            keys(each, NEAREST, docs.query(0).tobytes())
        each.set_authorizer(None)
        answers(each, docs)


LIMITS = [
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 3000), (sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 10),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0), (sqlite3.SQLITE_LIMIT_COLUMN, 25),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 20), (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 3),
    (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1), (sqlite3.SQLITE_LIMIT_FUNCTION_ARG, 8),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 5), (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    (sqlite3.SQLITE_LIMIT_LENGTH, 200000), (sqlite3.SQLITE_LIMIT_VDBE_OP, 2000),
]


@pytest.mark.parametrize("limit,value", LIMITS)
def test_lowered_limits__leave_room_for_annex(connect, limit, value):
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    for each in (db, plain):
        each.setlimit(limit, value)
    end(db, live(db, plain))


def test_limit_below_a_segment__is_an_error_and_nothing_else(connect):
    db = connect("docs.db")
    docs = Docs(db, n=150)
    before = db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2000)
    with pytest.raises(sqlite3.Error):
        docs.create_index()
    assert keys(db, "SELECT count(*) FROM docs") == [150]
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
    answers(db, docs.create_index())


# ---- Changes that SQLite makes by itself ---------------------------------------------------------


def test_foreign_keys__delete_and_renumber_indexed_rows(connect):
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    plain.execute("PRAGMA foreign_keys = 1")
    plain.execute("CREATE TABLE parents(id INTEGER PRIMARY KEY)")
    plain.execute("CREATE TABLE docs(parent REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE,"
                  " id INTEGER, v, PRIMARY KEY(parent, id))")
    fill(plain, "INSERT INTO parents VALUES (?)", [(i,) for i in range(4)])
    fill(plain, "INSERT INTO docs VALUES (?, ?, ?)",
         [(i % 4, i, numpy.array([i, 1], "<f4").tobytes()) for i in range(12)])
    db.execute("SELECT annex_create('idx', 'docs', 'v')")
    sql = "SELECT key, key2 FROM annex_search('idx', '[0, 1]', 20)"
    for change_sql in ("DELETE FROM parents WHERE id = 1", "UPDATE parents SET id = 9 WHERE id = 2",
                       "REPLACE INTO parents VALUES (3)"):
        plain.execute(change_sql)
        expected = plain.execute("SELECT parent, id FROM docs ORDER BY id").fetchall()
        assert db.execute(sql).fetchall() == expected
    db.execute("SELECT annex_sync('idx')")
    assert db.execute(sql).fetchall() == expected


def test_triggers_and_generated_columns_of_the_user__are_followed(connect):
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    plain.executescript(
        "CREATE TABLE docs(id INTEGER PRIMARY KEY, raw TEXT, lang TEXT,"
        " v TEXT GENERATED ALWAYS AS (raw) VIRTUAL, good AS (lang = 'en') STORED);"
        "CREATE TRIGGER fill AFTER INSERT ON docs WHEN new.raw IS NULL BEGIN"
        " UPDATE docs SET raw = '[9, 9]' WHERE id = new.id; END;"
        "CREATE TRIGGER twin AFTER DELETE ON docs WHEN old.id < 100 BEGIN"
        " INSERT INTO docs(id, raw, lang) VALUES (old.id + 100, old.raw, old.lang); END;")
    for i in range(5):
        plain.execute("INSERT INTO docs(id, raw, lang) VALUES (?, ?, 'en')", (i, f"[{i}, 0]"))
    db.execute("SELECT annex_create('idx', 'docs', 'v', '{\"where\":\"good\"}')")
    sql = "SELECT key FROM annex_search('idx', '[0, 0]', 20)"
    assert keys(db, sql) == [0, 1, 2, 3, 4]
    plain.execute("INSERT INTO docs(id, lang) VALUES (7, 'en')")
    assert keys(db, sql) == [0, 1, 2, 3, 4, 7]
    plain.execute("DELETE FROM docs WHERE id = 1")
    assert keys(db, sql) == [0, 101, 2, 3, 4, 7]
    plain.execute("UPDATE docs SET raw = '[50, 0]' WHERE id = 0")
    plain.execute("UPDATE docs SET lang = 'de' WHERE id = 2")
    assert keys(db, sql) == [101, 3, 4, 7, 0]
    db.execute("SELECT annex_sync('idx')")
    assert keys(db, sql) == [101, 3, 4, 7, 0]


def test_legacy_alter_table__is_followed_or_noticed(connect):
    db, plain = connect("docs.db"), connect("docs.db", extension=False)
    docs = live(db)
    plain.execute("PRAGMA legacy_alter_table = 1")
    plain.execute("ALTER TABLE docs RENAME TO papers")
    docs.table = "papers"
    change(docs, plain, 4)
    answers(db, docs)
    db.execute("SELECT annex_sync('docs_idx')")
    change(docs, plain, 5)
    answers(db, docs)
