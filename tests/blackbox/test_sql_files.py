"""Databases as files: copies and restored ones, journals, read-only places, several processes,
programs that are killed and disks that are full. The answer is right in each."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time

import pytest

from conftest import EXTENSION
from sql_changes import (QUERY, fill, fresh_after_sync, make, mend, one, right, stale, state,
                         status, truth, vector)


@pytest.fixture
def db(connect):
    return make(connect("a.db"))


# ---- VACUUM and copies ---------------------------------------------------------------------------


def test_vacuum__in_every_mode_of_auto_vacuum(connect):
    for mode in ("none", "full", "incremental"):
        db = connect(f"{mode}.db")
        db.execute(f"PRAGMA auto_vacuum = {mode}")
        make(db, n=200)
        db.execute("DELETE FROM docs WHERE id % 3 = 0")
        db.execute("PRAGMA incremental_vacuum(5)").fetchall()
        right(db)
        db.execute("VACUUM")
        assert "delta: 66 rows" in status(db)
        fresh_after_sync(db)
        db.execute("PRAGMA incremental_vacuum").fetchall()
        assert one(db, "SELECT annex_check('idx')") == "ok"
        assert one(db, "PRAGMA integrity_check") == "ok"


def copied_by_vacuum(db, path):
    db.execute("VACUUM INTO ?", [str(path)])


def copied_by_backup(db, path):
    with sqlite3.connect(path) as target:
        db.backup(target)
    target.close()


def copied_as_a_file(db, path):
    db.execute("PRAGMA wal_checkpoint(truncate)")
    shutil.copyfile(one(db, "SELECT file FROM pragma_database_list"), path)


def copied_by_dump(db, path):
    """Rows first, triggers last."""
    file = one(db, "SELECT file FROM pragma_database_list")
    dump = subprocess.run(["sqlite3", file, ".dump"], capture_output=True, check=True).stdout
    subprocess.run(["sqlite3", str(path)], input=dump, check=True)


COPIES = [copied_by_vacuum, copied_by_backup, copied_as_a_file, copied_by_dump]


@pytest.mark.parametrize("copy", COPIES)
def test_copies__that_go_their_own_ways(db, connect, tmp_path, copy):
    db.execute("DELETE FROM docs WHERE id < 3")
    copy(db, tmp_path / "b.db")
    other = connect("b.db")
    assert "delta: 2 rows" in status(other)
    other.execute("UPDATE docs SET id = id + 1000 WHERE id < 9")
    db.execute("DELETE FROM docs WHERE id > 35")
    right(other), right(db)
    other.execute("SELECT annex_sync('idx')")
    db.execute("UPDATE docs SET v = annex_encode(?) WHERE id = 20", [vector("here")])
    right(other), right(db)
    fresh_after_sync(db)
    assert one(db, "SELECT annex_check('idx')") == one(other, "SELECT annex_check('idx')") == "ok"


def test_copy_of_a_database_whose_segments_are_files__in_another_folder_and_in_the_same(
        connect, tmp_path):
    db = make(connect("a.db"), options='{"storage": "file"}')
    (tmp_path / "elsewhere").mkdir()
    copied_as_a_file(db, tmp_path / "elsewhere" / "a.db")
    copied_as_a_file(db, tmp_path / "b.db")
    elsewhere, beside = connect("elsewhere/a.db"), connect("b.db")
    assert stale(elsewhere, "is missing or is another one")["rebuilt"] is True
    assert state(beside) == "fresh", "it uses the same file"
    right(beside)
    db.execute("UPDATE docs SET id = id + 100")
    db.execute("SELECT annex_optimize('idx')")  # and removes it
    beside.close()
    beside = connect("b.db")
    stale(beside, "is missing or is another one")
    for mine in (db, elsewhere, beside):
        fresh_after_sync(mine)
    assert len(list(tmp_path.glob("a.db.annex-*"))) == len(list(tmp_path.glob("b.db.annex-*"))) == 1


def test_copy_in_memory_of_a_database_whose_segments_are_files__has_no_place_for_them(connect):
    db, memory = make(connect("a.db"), options='{"storage": "file"}'), connect()
    db.backup(memory)
    right(memory)
    for verb in ("annex_sync", "annex_optimize"):
        with pytest.raises(sqlite3.OperationalError, match='not in a file.* "database"'):
            memory.execute(f"SELECT {verb}('idx')")
    right(memory)
    memory.execute("SELECT annex_drop('idx')")
    memory.execute("SELECT annex_create('idx', 'docs', 'v')")
    fresh_after_sync(memory)
    fresh_after_sync(db)


def test_dump_by_python__which_sorts_tables_by_name_and_so_makes_the_log_first(db, connect):
    """It cannot be told from a table that was made anew; a sync finds nothing to do."""
    connect("b.db", extension=False).executescript("\n".join(db.iterdump()))
    report = stale(connect("b.db"), "the table docs was made anew")
    assert report == {"inserted": 0, "deleted": 0, "segments": 1, "rebuilt": False, "swept": True}


def test_both_copies_in_one_connection__indexes_of_the_same_name(db, tmp_path):
    copied_by_backup(db, tmp_path / "b.db")
    db.execute("ATTACH ? AS b", [str(tmp_path / "b.db")])
    db.execute("DELETE FROM b.docs WHERE id < 20")
    assert state(db) == "fresh" and "delta: 19 rows" in status(db, "b.idx")
    assert len(right(db)) == 40
    assert len(right(db, index="b.idx", table="b.docs")) == 21
    assert mend(db, "b.idx")["deleted"] == 19
    db.execute("DROP TRIGGER b.annex_log_1_insert")
    assert state(db, "idx") == "fresh"
    assert "run annex_sync('b.idx')" in status(db, "b.idx")
    assert mend(db, "b.idx")["swept"] is True
    right(db, index="b.idx", table="b.docs")


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_restored_older_copy__while_connections_stay_open(db, connect, tmp_path, journal):
    db.execute(f"PRAGMA journal_mode = {journal}")
    reader = connect("a.db")
    db.execute("DELETE FROM docs WHERE id = 1")
    right(reader)
    copied_by_backup(db, tmp_path / "old.db")
    for sync in (False, True):
        db.execute("DELETE FROM docs WHERE id BETWEEN 10 AND 20")
        if sync:
            db.execute("SELECT annex_sync('idx')")
        right(reader), right(db)
        old = sqlite3.connect(tmp_path / "old.db")
        old.backup(db)
        old.close()
        assert len(right(db)) == len(right(reader)) == 39
        db.execute("UPDATE docs SET id = id + 500 WHERE id BETWEEN 10 AND 20")
        right(reader), right(db)
    fresh_after_sync(db)
    right(reader)


def test_restored_file__copied_over_a_closed_database(connect, tmp_path):
    db = make(connect("a.db"))
    copied_as_a_file(db, tmp_path / "old.db")
    db.execute("DELETE FROM docs WHERE id < 30")
    db.execute("SELECT annex_sync('idx')")
    db.close()
    shutil.copyfile(tmp_path / "old.db", tmp_path / "a.db")
    db = connect("a.db")
    assert len(right(db)) == 40 and state(db) == "fresh"


def test_log_of_another_history_under_the_same_catalog__is_stale(db):
    """A tool that copies tables one by one may bring a log that the segments know nothing of."""
    db.execute("DELETE FROM docs WHERE id < 5")
    db.execute("DELETE FROM annex_log_1")
    db.execute("INSERT INTO annex_log_1(seq, nonce, k1) VALUES (5, 7, 7)")
    stale(db, "the change log annex_log_1 is not the one that the last sync left")


# ---- Journals ------------------------------------------------------------------------------------


def test_journal_modes__one_after_the_other(db, connect):
    for i, mode in enumerate(("wal", "delete", "truncate", "persist", "memory", "wal", "off")):
        other = connect("a.db")
        right(other)
        other.close()  # SQLite leaves WAL for the last connection only
        assert one(db, f"PRAGMA journal_mode = {mode}") == mode
        db.execute("UPDATE docs SET v = annex_encode(?) WHERE id = ?", [vector(mode), i + 1])
        assert "delta: 1 row" in status(db)
        fresh_after_sync(db)


def test_wal_that_is_checkpointed_while_a_reader_stays(db, connect):
    db.execute("PRAGMA journal_mode = wal")
    reader = connect("a.db")
    reader.execute("BEGIN")
    before = right(reader)
    for low in (1, 11, 21):
        db.execute("DELETE FROM docs WHERE id BETWEEN ? AND ?", [low, low + 4])
        db.execute("PRAGMA wal_checkpoint(passive)")
        fresh_after_sync(db)
        assert right(reader) == before
    reader.execute("COMMIT")
    assert len(right(reader)) == 25


# ---- Places that may only be read ----------------------------------------------------------------

ASK = """
    import json, os, sqlite3, sys
    path, extension, query, user = sys.argv[1:]
    if user != "0":
        os.setgid(int(user)); os.setuid(int(user))
    db = sqlite3.connect(path, isolation_level=None, uri=path.startswith("file:"))
    db.enable_load_extension(True)
    db.load_extension(extension)
    keys = [key for (key,) in db.execute("SELECT key FROM annex_search('idx', ?, 100)", [query])]
    text = db.execute("SELECT annex_status('idx')").fetchone()[0]
    try:
        db.execute("SELECT annex_sync('idx')").fetchone()
        sync = ""
    except sqlite3.Error as error:
        sync = str(error)
    print(json.dumps([keys, text, sync]))
"""


@pytest.fixture
def place():
    """A folder that everybody may read; files in it are made read-only by the tests."""
    path = tempfile.mkdtemp(prefix="annex-test-")
    os.chmod(path, 0o755)
    yield path
    os.chmod(path, 0o755)
    shutil.rmtree(path)


def ask(path, cache=None):
    """Keys, status and the error of a sync, as seen by a user who is not root."""
    user = "65534" if os.geteuid() == 0 else "0"
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("HOME", "XDG_CACHE_HOME")}
    if cache:
        environment["XDG_CACHE_HOME"] = str(cache)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(ASK), str(path), str(EXTENSION),
                           QUERY, user], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def nearest(path):
    db = sqlite3.connect(path)
    db.enable_load_extension(True)
    db.load_extension(str(EXTENSION))
    keys = [key for (key,) in truth(db)]
    db.close()
    return keys


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("what", ["file", "folder", "immutable", "mode=ro"])
def test_read_only__searches_see_all_changes_and_a_sync_says_why_not(place, journal, what):
    path = f"{place}/a.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(str(EXTENSION))
    db.execute(f"PRAGMA journal_mode = {journal}")
    make(db)
    db.execute("DELETE FROM docs WHERE id < 4")
    if journal == "wal" and what != "immutable":
        db.execute("UPDATE docs SET v = v WHERE id = 5")  # leaves -wal and -shm there
        keep = db
    else:
        db.close()
        keep = None
    for name in os.listdir(place):
        os.chmod(f"{place}/{name}", 0o444)
    os.chmod(place, 0o755 if what == "file" else 0o555)
    expected = nearest(path)
    uri = {"immutable": f"file:{path}?immutable=1", "mode=ro": f"file:{path}?mode=ro"}
    keys, text, sync = ask(uri.get(what, path))
    assert keys == expected and len(keys) == 37
    assert text.startswith("delta: 3 rows of table docs")
    assert "read" in sync and "only" in sync or "readonly" in sync
    if keep:
        keep.close()


# ---- Several processes ---------------------------------------------------------------------------

WRITER = """
    import random, sqlite3, sys
    path, extension, seed, first = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    db = sqlite3.connect(path, isolation_level=None, timeout=60)
    if seed % 2:
        db.enable_load_extension(True)
        db.load_extension(extension)
    pack = __import__("struct").pack
    for i in range(60):
        db.execute("BEGIN IMMEDIATE")
        for _ in range(5):
            v = pack("<4f", *(rng.uniform(-1, 1) for _ in range(4)))
            db.execute("REPLACE INTO docs(id, v) VALUES (?, ?)", [first + rng.randrange(200), v])
        db.execute("DELETE FROM docs WHERE id = ?", [first + rng.randrange(200)])
        db.execute("COMMIT" if i % 5 else "ROLLBACK")
        if seed % 2 and i % 10 == 9:
            db.execute("SELECT annex_sync('idx')")
"""

READER = """
    import os, sqlite3, sys, time
    sys.path.insert(0, sys.argv[3])
    from sql_changes import right
    db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
    db.enable_load_extension(True)
    db.load_extension(sys.argv[2])
    n = 0
    while n < 20 or not os.path.exists(sys.argv[1] + ".done"):
        db.execute("BEGIN")
        right(db)
        db.execute("COMMIT")
        n += 1
"""


def start(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)])


def test_two_writers_and_four_readers(connect, tmp_path):
    db = connect("a.db")
    db.execute("PRAGMA journal_mode = wal")
    db.execute("PRAGMA synchronous = off")
    make(db)
    path, here = tmp_path / "a.db", os.path.dirname(__file__)
    readers = [start(READER, path, EXTENSION, here) for _ in range(4)]
    writers = [start(WRITER, path, EXTENSION, seed, 100 * seed) for seed in (1, 2)]
    assert [writer.wait(timeout=100) for writer in writers] == [0, 0]
    (tmp_path / "a.db.done").touch()
    assert [reader.wait(timeout=100) for reader in readers] == [0, 0, 0, 0]
    fresh_after_sync(db)
    assert one(db, "SELECT annex_check('idx')") == "ok"


SYNC = """
    import sqlite3, sys
    db = sqlite3.connect(sys.argv[1], isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(sys.argv[2])
    print("begun", flush=True)
    for _ in range(1000):
        db.execute("UPDATE docs SET v = annex_encode(annex_decode(v)), w = 1 WHERE id % 2")
        db.execute("SELECT annex_optimize('idx')")
"""


@pytest.mark.parametrize("storage", ["database", "file"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_program_killed_while_it_syncs__the_next_one_finds_all_in_order(connect, tmp_path, journal,
                                                                        storage):
    db = connect("a.db")
    db.execute(f"PRAGMA journal_mode = {journal}")
    make(db, n=1000, options='{"storage": "%s"}' % storage)
    db.close()
    for delay in (0.0, 0.013, 0.029, 0.041, 0.053):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SYNC), str(tmp_path / "a.db"), str(EXTENSION)],
            stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begun\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        db = connect("a.db")
        assert state(db) in ("fresh", "delta")
        right(db)
        assert one(db, "SELECT annex_check('idx')") == "ok"
        db.execute("DELETE FROM docs WHERE id = (SELECT max(id) FROM docs)")
        fresh_after_sync(db)
        db.close()
    if storage == "file":
        assert len(list(tmp_path.glob("a.db.annex-*"))) == 1, "what was left behind is swept"


# ---- Disks that are full -------------------------------------------------------------------------


def test_database_that_may_not_grow__undoes_the_sync_and_stays_right(connect):
    db = make(connect("a.db"), n=2000)
    fill(db, range(10000, 10900))
    db.execute(f"PRAGMA max_page_count = {one(db, 'PRAGMA page_count') + 1}")
    with pytest.raises(sqlite3.Error, match="full"):
        db.execute("SELECT annex_sync('idx')")
    assert state(db) == "delta"
    right(db)
    db.execute("PRAGMA max_page_count = 1000000")
    fresh_after_sync(db)


FULL = """
    import json, resource, signal, sqlite3, sys
    sys.path.insert(0, sys.argv[3])
    from sql_changes import found, one, right, state
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    db = sqlite3.connect(sys.argv[1], isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
    for verb in ("annex_sync", "annex_optimize"):
        try:
            db.execute(f"SELECT {verb}('idx')").fetchall()
            print("done")
        except sqlite3.Error as error:
            print(error)
    right(db)
"""


@pytest.mark.parametrize("storage", ["database", "file"])
def test_disk_that_is_full__undoes_the_sync_and_stays_right(connect, tmp_path, storage):
    db = make(connect("a.db"), n=3000, options='{"storage": "%s"}' % storage)
    db.execute("UPDATE docs SET id = id + 10000")
    right(db)
    db.close()
    limit = 4096
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "a.db"),
                           str(EXTENSION), os.path.dirname(__file__), str(limit)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "done" not in done.stdout
    db = connect("a.db")
    assert state(db) == "delta"
    fresh_after_sync(db)
    assert one(db, "SELECT annex_check('idx')") == "ok"


# ---- The cache of segments -----------------------------------------------------------------------

DAY = 86400


def aged(path, days, size=None):
    """Makes a file of the cache that was used so many days ago."""
    if size is not None:
        with open(path, "wb") as file:
            file.truncate(size)
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def test_cache__forgets_what_was_not_used_for_thirty_days(connect, tmp_path):
    cache = tmp_path / "cache" / "annex"
    db = make(connect("a.db"))
    (mine,) = cache.glob("*.annex")
    aged(mine, 40)
    right(connect("a.db"))
    assert mine.stat().st_mtime > time.time() - DAY, "a search is a use"
    gone = [aged(cache / name, days, 100) for name, days in [
        ("0" * 31 + "1.annex", 31), ("build-0123456789abcdef.annex", 2),
        ("0" * 31 + "2.annex.tmp-0123456789abcdef", 2),
        ("build-0123456789abcdee.annex.tmp-0123456789abcdef", 2)]]
    kept = [aged(cache / name, days, 100) for name, days in [
        ("0" * 31 + "3.annex", 29), ("build-0123456789abcdff.annex", 0.1), ("notes.txt", 100),
        ("0" * 31 + "4.annex.tmp-0123456789abcdef", 0.1)]]
    aged(mine, 40)
    db.execute("SELECT annex_optimize('idx')")  # writes a file, which is when others go
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)
    right(db)
    right(connect("a.db"))


def test_cache__of_more_than_16_gib_forgets_the_oldest_but_nothing_of_today(connect, tmp_path):
    cache = tmp_path / "cache" / "annex"
    db = make(connect("a.db"))
    files = {days: aged(cache / f"{i:032x}.annex", days, 7 << 30)
             for i, days in enumerate((20, 10, 0.5, 0.1))}
    db.execute("UPDATE docs SET id = id + 100")
    db.execute("SELECT annex_optimize('idx')")
    assert [days for days, path in files.items() if path.exists()] == [0.5, 0.1]
    right(db)


def test_cache_emptied_under_open_connections__nobody_notices(db, connect, tmp_path):
    other = connect("a.db")
    right(other)
    for path in (tmp_path / "cache" / "annex").iterdir():
        path.unlink()
    right(other), right(db), right(connect("a.db"))
