"""Many threads: one connection for all of them, a connection each, connections that come and go.

SQLite lets one thread at a time into a connection, and Annex relies on that. What threads share
across connections are the library itself, the files and the cache of segments.
"""

import queue
import random
import sqlite3
import threading
import time

import numpy
import pytest

from conftest import EXTENSION
from sql_model import DIMENSION, Docs, keys

NEAREST = "SELECT key FROM annex_search('docs_idx', ?, ?, '{\"effort\":\"exact\"}')"


def open_it(path, extension=True, wait_s=20.0):
    db = sqlite3.connect(path, isolation_level=None, timeout=wait_s, check_same_thread=False)
    if extension:
        db.enable_load_extension(True)
        db.load_extension(str(EXTENSION))
    db.execute("PRAGMA synchronous = OFF")
    return db


def together(actions, deadline_s=100):
    """Runs each in a thread; raises the first error of any."""
    errors = queue.Queue()

    def guarded(action):
        try:
            action()
        except BaseException as error:  # to be raised where pytest sees it
            errors.put(error)

    threads = [threading.Thread(target=guarded, args=(action,), daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    end = time.monotonic() + deadline_s
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    if not errors.empty():
        raise errors.get()
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


def right_in_one_snapshot(db, seed):
    """What the connection answers is what numpy makes of what it selects, in one transaction."""
    query = numpy.random.default_rng(seed).standard_normal(DIMENSION).astype("<f4")
    db.execute("BEGIN")
    try:
        rows = db.execute("SELECT id, embedding FROM docs WHERE embedding IS NOT NULL").fetchall()
        found = keys(db, NEAREST, query.tobytes(), 20)
    finally:
        db.execute("COMMIT")
    matrix = numpy.array([numpy.frombuffer(vector, "<f4") for _, vector in rows], numpy.float64)
    distances = numpy.sqrt(((matrix - query) ** 2).sum(axis=1))
    nearest = numpy.lexsort(([key for key, _ in rows], distances))[:20]
    assert found == [rows[at][0] for at in nearest]


def change_at_random(db, rng):
    vector = numpy.array([rng.gauss(0, 1) for _ in range(DIMENSION)], "<f4").tobytes()
    key = rng.randrange(3000)
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT OR REPLACE INTO docs VALUES (?, 'en', 1, ?)", (key, vector))
    db.execute("DELETE FROM docs WHERE id = ?", (rng.randrange(3000),))
    db.execute(rng.choice(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]))


@pytest.fixture
def path(tmp_path):
    db = open_it(tmp_path / "docs.db")
    db.execute("PRAGMA journal_mode = wal")
    Docs(db, n=400).create_index()
    db.close()
    return tmp_path / "docs.db"


def test_one_connection__is_used_by_all_threads(path):
    db = open_it(path)
    query = numpy.ones(DIMENSION, "<f4").tobytes()
    everything = keys(db, NEAREST, query, 400)

    def search(number):
        for i in range(40):
            assert keys(db, NEAREST, query, number + i) == everything[:number + i]
        assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]

    def note():
        for i in range(40):
            db.execute("UPDATE docs SET year = ? WHERE id = 1", (i,))
            if i % 10 == 0:
                db.execute("SELECT annex_sync('docs_idx')")

    together([lambda number=number: search(number) for number in range(1, 9)] + [note, note])
    db.close()


def test_one_connection__is_interrupted_while_others_wait(path):
    db = open_it(path)
    stop = threading.Event()
    interrupted = []

    def search():
        while not stop.is_set():
            try:
                keys(db, "SELECT count(*) FROM docs AS d, annex_search('docs_idx', d.embedding, 5)")
            except sqlite3.Error:  # Python asks for the code when it is that of another thread
                interrupted.append(1)

    def interrupt():
        for _ in range(100):
            time.sleep(0.005)
            db.interrupt()
        stop.set()

    together([search, search, search, interrupt])
    assert interrupted
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]
    db.close()


def test_sixteen_threads_read__while_others_write_and_sync(path):
    stop = threading.Event()
    checked = []

    def read(number):
        db = open_it(path)
        while number not in checked or not stop.is_set():
            right_in_one_snapshot(db, number + len(checked))
            checked.append(number)
        db.close()

    def write(number, tends):
        db, rng = open_it(path, extension=tends), random.Random(number)
        for i in range(120):
            change_at_random(db, rng)
            if tends and i % 10 == 0:
                db.execute("SELECT annex_sync('docs_idx')")
            if tends and i % 50 == 25:
                db.execute("SELECT annex_optimize('docs_idx')")
        db.close()

    def write_all():
        try:
            together([lambda: write(1, False), lambda: write(2, True)])
        finally:
            stop.set()

    together([lambda number=number: read(number) for number in range(16)] + [write_all])
    assert len(set(checked)) == 16
    db = open_it(path)
    right_in_one_snapshot(db, 1)
    db.close()


def test_connections__come_and_go_in_eight_threads(path):
    """The extension is loaded and unloaded by some while others are in the middle of a search."""
    query = numpy.ones(DIMENSION, "<f4").tobytes()
    db = open_it(path)
    expected = keys(db, NEAREST, query, 10)
    db.close()

    def visit(number):
        rng = random.Random(number)
        for _ in range(25):
            own = open_it(path)
            cursor = own.execute(NEAREST, (query, 10))
            assert cursor.fetchone() == (expected[0],)
            if rng.random() < 0.5:  # otherwise closed with the cursor open
                assert [key for (key,) in cursor] == expected[1:]
            own.close()

    together([lambda number=number: visit(number) for number in range(8)])


def test_shared_cache__is_used_by_a_connection_in_each_thread(tmp_path):
    uri = f"file:{tmp_path}/shared.db?cache=shared"

    def connect():
        db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        db.enable_load_extension(True)
        db.load_extension(str(EXTENSION))
        db.execute("PRAGMA synchronous = OFF")
        return db

    first = connect()
    Docs(first, n=200).create_index()

    def patiently(db, action):
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if "lock" not in str(error):
                    raise
                if db.in_transaction:
                    db.execute("ROLLBACK")
                time.sleep(0.001)  # a shared cache has no busy time-out

    def work(number):
        db, rng = connect(), random.Random(number)
        for i in range(20):
            patiently(db, lambda: right_in_one_snapshot(db, number * 100 + i))
            patiently(db, lambda: change_at_random(db, rng))
        db.close()

    together([lambda number=number: work(number) for number in range(4)])
    right_in_one_snapshot(first, 1)
    first.close()


def test_threads_make_and_drop_indexes_of_their_own__in_one_database(path):
    def own(number):
        db = open_it(path)
        name = f"idx{number}"
        for i in range(4):
            db.execute("SELECT annex_create(?, 'docs', 'embedding', ?)",
                       (name, '{"storage":"%s"}' % ("file" if i % 2 else "database")))
            assert len(keys(db, f"SELECT key FROM annex_search('{name}', ?, 30)",
                            numpy.ones(DIMENSION, "<f4").tobytes())) == 30
            db.execute("SELECT annex_drop(?)", (name,))
        db.close()

    together([lambda number=number: own(number) for number in range(6)])
    db = open_it(path)
    assert keys(db, "SELECT name FROM annex_indexes") == ["docs_idx"]
    right_in_one_snapshot(db, 1)
    db.close()
