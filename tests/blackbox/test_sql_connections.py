"""Lives of connections: statements kept, connections closed in any order, libraries unloaded,
forks; and how long Annex lets a program wait that wants to stop it."""

import os
import sqlite3
import subprocess
import sys
import threading
import time

import numpy
import pytest

from conftest import EXTENSION
from sql_life import NEAREST, answers, live
from sql_model import Docs, fill, keys


# ---- Lives of connections ------------------------------------------------------------------------


def test_statements_cached_by_the_program__follow_a_new_index_of_the_name(connect):
    db = connect("docs.db")
    db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, v)")
    fill(db, "INSERT INTO docs VALUES (?, ?)", [(i, f"[{i}, {9 - i}]") for i in range(10)])
    sql = "SELECT key, distance FROM annex_search('idx', '[1, 2]', 3)"  # one statement, kept
    for metric in ("l2", "ip", "l1", "cosine"):
        db.execute("SELECT annex_create('idx', 'docs', 'v', ?)", (f'{{"metric":"{metric}"}}',))
        found = db.execute(sql).fetchall()
        again = db.execute("SELECT id, annex_distance(?, v, '[1, 2]') FROM docs ORDER BY 2, 1"
                           " LIMIT 3", (metric,)).fetchall()
        assert found == again, metric
        db.execute("SELECT annex_drop('idx')")
        with pytest.raises(sqlite3.OperationalError, match="idx"):
            db.execute(sql)


def test_hundred_connections__leave_no_files_and_no_memory_behind(connect, tmp_path):
    db = connect("docs.db")
    docs = live(db)
    query = docs.query(0).tobytes()

    def visit():
        other = sqlite3.connect(tmp_path / "docs.db")
        other.enable_load_extension(True)
        other.load_extension(str(EXTENSION))
        found = keys(other, NEAREST, query)
        other.close()
        return found

    def resident():
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * 4096

    first = [visit() for _ in range(30)][0]
    files, memory = len(os.listdir("/proc/self/fd")), resident()
    for _ in range(100):
        assert visit() == first
    assert len(os.listdir("/proc/self/fd")) == files
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        assert resident() - memory < 4 << 20


def test_connections_closed_in_any_order__do_not_disturb_each_other(connect):
    one, two, three = (connect("docs.db") for _ in range(3))
    docs = live(one)
    cursors = [each.execute(NEAREST, (docs.query(0).tobytes(),)) for each in (one, two, three)]
    for cursor in cursors:
        cursor.fetchone()
    two.close()
    answers(one, docs)
    one.close()
    answers(three, docs)
    three.close()


MEANWHILE = {
    "deletes rows": "DELETE FROM docs WHERE id % 2",
    "undoes deletes": "SAVEPOINT a; DELETE FROM docs WHERE id % 2; ROLLBACK TO a",
    "rolls all back": "DELETE FROM docs WHERE id % 2; ROLLBACK; BEGIN",
    "syncs": "DELETE FROM docs WHERE id % 2; SELECT annex_sync('docs_idx')",
    "syncs and rolls back": "SELECT annex_optimize('docs_idx'); ROLLBACK; BEGIN",
    "renames the table": "ALTER TABLE docs RENAME TO papers; ALTER TABLE papers RENAME TO docs",
    "renames a column": "ALTER TABLE docs RENAME COLUMN embedding TO v",
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_stream_that_is_read_on__while_its_connection(connect, what):
    """Rows that are written meanwhile may be found or not; all others are, and none twice."""
    db = connect("docs.db")
    docs = Docs(db, n=600).create_index()
    db.execute("BEGIN")
    stream = db.execute("SELECT key FROM annex_search('docs_idx', ?)",
                        (docs.query(0).tobytes(),))
    first = [stream.fetchone()[0] for _ in range(20)]
    for sql in MEANWHILE[what].split("; "):
        db.execute(sql).fetchall()
    rest = keys_of(stream)
    left = set(keys(db, "SELECT id FROM docs")) & set(docs.vectors)
    assert first == docs.nearest(docs.query(0), 20)
    assert len(set(first + rest)) == len(first + rest)
    assert left <= set(first + rest) <= set(docs.vectors)
    db.execute("COMMIT")
    found = keys(db, "SELECT key FROM annex_search('docs_idx', ?)", docs.query(0).tobytes())
    assert set(found) == left


def keys_of(cursor):
    return [row[0] for row in cursor]


def test_stream_of_an_index_that_is_dropped__ends_with_a_sentence(connect):
    db = connect("docs.db")
    docs = Docs(db, n=600).create_index()
    stream = db.execute("SELECT key FROM annex_search('docs_idx', ?)",
                        (docs.query(0).tobytes(),))
    stream.fetchone()
    db.execute("SELECT annex_drop('docs_idx')")
    with pytest.raises(sqlite3.OperationalError, match="no index docs_idx"):
        keys_of(stream)


@pytest.mark.parametrize("sql", ["DROP TABLE docs", "VACUUM"])
def test_table_with_an_open_stream__is_not_pulled_away(connect, sql):
    db = connect("docs.db")
    docs = Docs(db, n=600).create_index()
    stream = db.execute("SELECT key FROM annex_search('docs_idx', ?)",
                        (docs.query(0).tobytes(),))
    first = stream.fetchone()
    with pytest.raises(sqlite3.OperationalError, match="locked|in progress"):
        db.execute(sql).fetchall()
    assert [first[0], *keys_of(stream)] == docs.nearest(docs.query(0), 1000)
    db.execute(sql)


LIBRARY = """
import ctypes, sys
lib = ctypes.CDLL("libsqlite3.so.0")
lib.sqlite3_column_int64.restype = ctypes.c_int64
db, stmt, rest = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_char_p()
def must(code, *good):
    assert code in (good or (0,)), (code, ctypes.string_at(lib.sqlite3_errmsg(db)))
lib.sqlite3_errmsg.restype = ctypes.c_void_p
def open_it():
    must(lib.sqlite3_open(sys.argv[1].encode(), ctypes.byref(db)))
    must(lib.sqlite3_enable_load_extension(db, 1))
    must(lib.sqlite3_load_extension(db, sys.argv[2].encode(), None, None))
def prepare(sql):
    must(lib.sqlite3_prepare_v2(db, sql.encode(), -1, ctypes.byref(stmt), None))
def mapped():
    return "annex.so" in open("/proc/self/maps").read()
SEARCH = "SELECT key FROM annex_search('docs_idx', annex_vector('docs_idx', 4), 5)"
"""


def library(tmp_path, code):
    """Runs code against the C interface of SQLite, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", LIBRARY + code, str(tmp_path / "docs.db"),
                           str(EXTENSION)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_statement_open_across_close__is_busy_then_closes(connect, tmp_path):
    live(connect("docs.db"))
    found = library(tmp_path, """
for close, busy in ((lib.sqlite3_close, True), (lib.sqlite3_close_v2, False)):
    open_it()
    prepare(SEARCH)
    must(lib.sqlite3_step(stmt), 100)
    first = lib.sqlite3_column_int64(stmt, 0)
    must(close(db), 5 if busy else 0)  # otherwise it lives on until its last statement ends
    must(lib.sqlite3_step(stmt), 100)
    assert lib.sqlite3_column_int64(stmt, 0) != first
    must(lib.sqlite3_reset(stmt))
    if busy:
        must(lib.sqlite3_step(stmt), 100)
        assert lib.sqlite3_column_int64(stmt, 0) == first
    must(lib.sqlite3_finalize(stmt))
    if busy:
        prepare(SEARCH)
        must(lib.sqlite3_step(stmt), 100)
        must(lib.sqlite3_finalize(stmt))
        must(close(db))
print("done")
""")
    assert found == ["done"]


def test_extension_is_unloaded_with_its_last_connection__and_loads_again(connect, tmp_path):
    live(connect("docs.db"))
    found = library(tmp_path, """
for _ in range(30):
    open_it()
    assert mapped()
    prepare(SEARCH)
    must(lib.sqlite3_step(stmt), 100)
    must(lib.sqlite3_finalize(stmt))
    must(lib.sqlite3_close(db))
print(mapped())
""")
    assert found in (["False"], ["True"])  # both are fine; a crash is not


def test_failed_load__leaves_a_connection_that_works(connect, tmp_path):
    """An authorizer that refuses functions is asked while they are looked for."""
    Docs(connect("docs.db"), n=60)
    db = connect("docs.db", extension=False)
    db.set_authorizer(lambda action, *_: (
        sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_FUNCTION else sqlite3.SQLITE_OK))
    db.enable_load_extension(True)
    try:
        db.load_extension(str(EXTENSION))
    except sqlite3.Error:
        pass
    db.set_authorizer(None)
    db.load_extension(str(EXTENSION))
    assert len(keys(db, "SELECT annex_version()")) == 1


def test_child_of_a_fork__opens_the_database_for_itself(connect, tmp_path):
    db = connect("docs.db")
    docs = live(db)
    expected = docs.nearest(docs.query(0))
    child = os.fork()
    if child == 0:
        try:
            own = sqlite3.connect(tmp_path / "docs.db", isolation_level=None)
            own.enable_load_extension(True)
            own.load_extension(str(EXTENSION))
            own.execute("DELETE FROM docs WHERE id = ?", (expected[0],))
            right = keys(own, NEAREST, docs.query(0).tobytes())[:9] == expected[1:]
            own.execute("SELECT annex_optimize('docs_idx')")
            right = right and keys(own, NEAREST, docs.query(0).tobytes())[:9] == expected[1:]
            own.close()
            os._exit(0 if right else 3)
        except BaseException:  # a child must not run the rest of pytest
            os._exit(4)
    deadline = time.monotonic() + 30
    pid, status = os.waitpid(child, os.WNOHANG)
    while pid == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
        pid, status = os.waitpid(child, os.WNOHANG)
    assert pid == child and os.waitstatus_to_exitcode(status) == 0
    assert keys(db, NEAREST, docs.query(0).tobytes())[:9] == expected[1:]


# ---- Waiting and stopping ------------------------------------------------------------------------


def test_busy_timeout__waits_for_the_other_writer(connect):
    db, plain = connect("docs.db", timeout=20), connect("docs.db", extension=False)
    docs = live(db)
    db.execute("DELETE FROM docs WHERE id = 1")
    plain = connect("docs.db", extension=False, check_same_thread=False)
    plain.execute("BEGIN IMMEDIATE")
    plain.execute("UPDATE docs SET lang = 'xx' WHERE id = 4")
    timer = threading.Timer(0.3, plain.execute, ("COMMIT",))
    timer.start()
    start = time.monotonic()
    db.execute("SELECT annex_sync('docs_idx')")
    assert 0.1 < time.monotonic() - start < 15
    timer.join()
    assert len(docs.rows) > 100
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A connection, to be used from two threads, to a table of 40,000 rows with an index."""
    path = tmp_path_factory.mktemp("large") / "large.db"
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.enable_load_extension(True)
    db.load_extension(str(EXTENSION))
    matrix = numpy.random.default_rng(6).standard_normal((40000, 64)).astype("<f4")
    db.execute("CREATE TABLE large(id INTEGER PRIMARY KEY, v BLOB)")
    fill(db, "INSERT INTO large(v) VALUES (?)", ((row.tobytes(),) for row in matrix))
    db.execute("SELECT annex_create('large_idx', 'large', 'v', '{\"index\":\"flat\"}')")
    yield db
    db.close()


LONG = {
    "create": "SELECT annex_create('other', 'large', 'v', '{\"index\":\"graph\"}')",
    "optimize": "SELECT annex_optimize('graph_idx')",
    "search": "SELECT count(*) FROM large AS l, annex_search('large_idx', l.v, 10,"
              " '{\"effort\":\"exact\"}') AS s",
    "filter": "SELECT count(*) FROM large AS l, annex_search('large_idx', l.v, 10) AS s"
              " WHERE s.key IN (SELECT id FROM large WHERE id % 2)",
    "within": "SELECT count(*) FROM large AS l, annex_within('large_idx', l.v, 9) AS s",
    "check": "SELECT annex_check('large_idx') FROM large",
    "stale": "SELECT count(*) FROM large AS l, annex_search('stale_idx', l.v, 10) AS s",
}


def prepare_long(db, what):
    if what == "stale":
        db.execute("SELECT annex_create('stale_idx', 'large', 'v', '{\"index\":\"flat\"}')")
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name "
                                  "LIKE 'annex_log_2%'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
    if what == "optimize":
        db.execute("SELECT annex_create('graph_idx', 'large', 'v', "
                   "'{\"index\":\"graph\",\"where\":\"id <= 4000\"}')")


@pytest.mark.parametrize("by", ["interrupt", "progress handler"])
@pytest.mark.parametrize("what", LONG)
def test_long_work__stops_within_50_ms(large, what, by):
    large.execute("BEGIN")
    try:
        prepare_long(large, what)
        waits = [stop(large, LONG[what], by, after) for after in (0.03, 0.08, 0.15)]
        waits = [wait for wait in waits if wait is not None]
        assert waits, "done before it could be stopped"
        # The middle one: the machine has other things to do while it tests.
        assert sorted(waits)[len(waits) // 2] < 0.05 and max(waits) < 0.3, waits
    finally:
        large.execute("ROLLBACK")
    assert keys(large, "SELECT count(*) FROM annex_indexes") == [1]


def stop(db, sql, by, after_s):
    """Seconds from the wish to stop to the error; None when the work was done before."""
    wished = []
    deadline = time.monotonic() + after_s

    def interrupt():
        time.sleep(after_s)
        wished.append(time.monotonic())
        db.interrupt()

    def handler():
        if time.monotonic() < deadline:
            return 0
        wished.append(time.monotonic())
        return 1

    thread = threading.Thread(target=interrupt)
    if by == "interrupt":
        thread.start()
    else:
        db.set_progress_handler(handler, 500)
    try:
        db.execute(sql).fetchall()
        return None
    except sqlite3.OperationalError as error:
        assert error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT, error
        assert str(error) == "interrupted"  # Datasette and others know it by SQLite's word
        # A handler is late when it is asked late: count from when it would have said stop.
        return time.monotonic() - (wished[0] if by == "interrupt" else deadline)
    finally:
        db.set_progress_handler(None, 0)
        if thread.ident is not None:
            thread.join()
