"""Engines as plug-ins: the sample of examples/engine in a database, by SQL and by the command, and
engines that are none, or that answer what they must not (tests/engines/wrong.c)."""

import json
import shutil
import sqlite3
import struct
import subprocess

import pytest
from conftest import BUILD, COMMAND, EXTENSION, ROOT

SCAN = BUILD / "examples" / "engine" / "engine-scan.so"
WRONG = BUILD / "tests" / "engines"

ROWS = 300


def vector(i):
    """Three numbers for a row; no two rows are equally far from any query used here."""
    return struct.pack("<3f", (i * 37 % 101) / 7, (i * 53 % 97) / 5, (i + 1) / 1000)


def write_table(path, key="id INTEGER PRIMARY KEY"):
    with sqlite3.connect(path) as db:
        db.execute(f"CREATE TABLE docs({key}, v BLOB)")
        ids = (f"doc {i}" if "TEXT" in key else i for i in range(1, ROWS + 1))
        db.executemany("INSERT INTO docs VALUES(?, ?)", ((k, vector(i)) for i, k in enumerate(ids)))
    db.close()
    return path


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "a.db")


@pytest.fixture
def load(connect):
    """A connection to a.db that has loaded an engine, or several."""

    def open_database(*engines):
        db = connect("a.db")
        db.enable_load_extension(True)
        for engine in engines:
            db.execute("SELECT annex_engine_load(?)", (str(engine),)).fetchone()
        db.enable_load_extension(False)
        return db

    return open_database


def create(db, engine="scan", **options):
    text = json.dumps({"engine": engine, **options})
    return json.loads(
        db.execute("SELECT annex_create('idx', 'docs', 'v', ?)", (text,)).fetchone()[0]
    )


def play(load, name, **options):
    db = load(WRONG / "engine-play.so")
    create(db, "wrong", engine_options={"play": name}, **options)
    return db


def search(db, k=10, options=None, where="", query=None):
    return db.execute(
        f"SELECT key, round(distance, 4) FROM annex_search('idx', ?, ?, ?) {where}",
        (query or vector(7), k, options),
    ).fetchall()


def truth(db, k=10, where="1", query=None):
    return db.execute(
        f"SELECT id, round(annex_distance('l2', v, ?1), 4) FROM docs WHERE {where} "
        "ORDER BY annex_distance('l2', v, ?1), id LIMIT ?2",
        (query or vector(7), k),
    ).fetchall()


def family(db):
    return db.execute("SELECT family FROM annex_indexes").fetchone()[0]


def state(db):
    return db.execute("SELECT annex_status('idx')").fetchone()[0]


# ---- the sample engine ---------------------------------------------------------------------------


def test_sample_engine_is_at_most_150_lines():
    source = (ROOT / "examples" / "engine" / "scan.c").read_text()
    assert len(source.splitlines()) <= 150


def test_its_makefile_builds_it(tmp_path):
    folder = shutil.copytree(ROOT / "examples" / "engine", tmp_path / "engine")
    subprocess.run(["make", "-C", folder, f"INCLUDE={ROOT}/include"], check=True)
    assert (folder / "engine-scan.so").exists()


@pytest.mark.parametrize("storage", ["database", "file"])
@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_an_index_by_the_sample_engine_answers_as_the_table_does(table, load, storage, metric):
    db = load(SCAN)
    create(db, metric=metric, storage=storage)
    expected = db.execute(
        "SELECT id FROM docs ORDER BY annex_distance(?1, v, ?2), id LIMIT 10", (metric, vector(7))
    ).fetchall()
    assert [row[:1] for row in search(db)] == expected
    assert family(db) == "scan"
    assert db.execute("SELECT annex_check('idx')").fetchone() == ("ok",)


def test_text_keys_filters_and_distances_work_as_with_any_engine(tmp_path, load):
    write_table(tmp_path / "a.db", "id TEXT PRIMARY KEY")
    db = load(SCAN)
    create(db)
    assert search(db) == truth(db)
    allowed = "id IN ('doc 3', 'doc 5', 'doc 290')"
    assert search(db, where="WHERE key IN ('doc 3', 'doc 5', 'doc 290')") == truth(db, 10, allowed)
    assert search(db, 10, json.dumps({"effort": "exact"})) == truth(db)
    within = db.execute("SELECT key FROM annex_within('idx', ?, 5.0)", (vector(7),)).fetchall()
    near = "annex_distance('l2', v, ?1) <= 5.0"
    assert within == [row[:1] for row in truth(db, ROWS, near)] and len(within) > 3


def test_changes_are_found_before_the_sync_and_after_it(table, load):
    db = load(SCAN)
    create(db)
    query = struct.pack("<3f", 1, 2, 30)
    db.execute("INSERT INTO docs VALUES(1000, ?)", (query,))
    db.execute("DELETE FROM docs WHERE id = 8")
    db.execute("UPDATE docs SET v = ? WHERE id = 9", (struct.pack("<3f", 1, 2, 31),))
    for step in ("before", "after", "optimized"):
        assert search(db) == truth(db), step
        assert search(db, query=query) == truth(db, query=query), step
        assert search(db, query=query)[0] == (1000, 0)
        function = "annex_sync" if step == "before" else "annex_optimize"
        db.execute(f"SELECT {function}('idx')").fetchone()
    assert state(db).startswith("fresh")
    assert db.execute("SELECT annex_check('idx')").fetchone() == ("ok",)
    db.execute("SELECT annex_drop('idx')").fetchone()
    assert not db.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'annex%'").fetchall()


def test_a_table_that_was_changed_without_triggers_is_compared_row_by_row(table, load):
    db = load(SCAN)
    create(db)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    db.execute("UPDATE docs SET v = ? WHERE id = 9", (vector(7),))
    assert search(db) == truth(db)
    report = json.loads(db.execute("SELECT annex_sync('idx')").fetchone()[0])
    assert report["inserted"] == 1
    assert search(db) == truth(db)


def test_the_index_is_opened_again_by_another_connection_without_the_cache(table, load, tmp_path):
    create(load(SCAN))
    for path in (tmp_path / "cache" / "annex").glob("*"):
        path.unlink()
    db = load(SCAN)
    assert search(db) == truth(db)
    assert db.execute("SELECT plan FROM annex_search('idx', ?, 1)", (vector(7),)).fetchone()[
        0
    ].startswith("scan ")


@pytest.mark.parametrize("byte", [0, 30, 130, 3000, -1])
def test_a_damaged_segment_is_not_given_to_the_engine(table, load, tmp_path, byte):
    create(load(SCAN))
    shutil.rmtree(tmp_path / "cache")
    db = load(SCAN)
    data = bytearray(db.execute("SELECT data FROM annex_segment").fetchone()[0])
    data[byte] ^= 1
    db.execute("UPDATE annex_segment SET data = ?", (bytes(data),))
    assert search(db) == truth(db)
    assert "exact scan of the table (stale: " in db.execute(
        "SELECT plan FROM annex_search('idx', ?, 1)", (vector(7),)
    ).fetchone()[0]
    db.execute("SELECT annex_sync('idx')").fetchone()
    assert db.execute("SELECT annex_check('idx')").fetchone() == ("ok",)


def test_loading_one_engine_twice_is_loading_it_once(table, load):
    db = load(SCAN, SCAN)
    create(db)
    assert search(db) == truth(db)


# ---- without the engine --------------------------------------------------------------------------


def test_an_index_whose_engine_is_not_loaded_answers_from_the_table_and_says_what_to_load(
    table, load
):
    create(load(SCAN))
    db = load()
    assert search(db) == truth(db)
    needs = "index idx needs the engine scan, which is not loaded; run annex_engine_load("
    assert state(db).startswith("stale: " + needs)
    before = db.execute("SELECT * FROM annex_part").fetchall()
    db.execute("INSERT INTO docs VALUES(1000, ?)", (vector(7),))
    with pytest.raises(sqlite3.OperationalError, match="needs the engine scan"):
        db.execute("SELECT annex_sync('idx')").fetchone()
    assert db.execute("SELECT * FROM annex_part").fetchall() == before
    assert search(db) == truth(db)
    db = load(SCAN)
    db.execute("SELECT annex_sync('idx')").fetchone()
    assert search(db) == truth(db) and state(db).startswith("fresh")


def test_a_copy_may_have_another_engine(table, load):
    db = load(SCAN)
    create(db)
    db.execute("""SELECT annex_copy('idx', 'two', '{"engine": "annex"}')""").fetchone()
    assert db.execute("SELECT name, family FROM annex_indexes ORDER BY 1").fetchall() == [
        ("idx", "scan"),
        ("two", "flat"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "none"}, "needs the engine none, which is not loaded"),
        ({"engine": "No such!"}, 'option "engine" must be the name of an engine'),
        ({"engine": "scan", "index": "graph"}, "are options of the engine annex"),
        ({"engine": "scan", "metric": "l1"}, "the engine scan failed: it knows the metrics"),
        ({"engine_options": {"a": 1}}, '"engine_options" are for another engine'),
        ({"engine": "scan", "engine_options": 1}, "must be a JSON object"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_sentence(table, load, options, message):
    db = load(SCAN)
    with pytest.raises(sqlite3.OperationalError, match=message):
        create(db, **{"engine": "annex", **options})
    assert not db.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'annex%'").fetchall()


# ---- loading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("engine-no_entry.so", "is no engine: it does not export annex_engine_entry"),
        ("engine-old.so", "the engine has version 0 of the interface, and this Annex takes 1"),
        ("engine-new.so", "version 2 of the interface.*; install a newer Annex"),
        ("engine-refuses.so", "is an engine for another version of Annex"),
        ("engine-short.so", "the table of the engine has .* bytes, at least"),
        ("engine-missing.so", "there is no engine .*engine-missing.so"),
        ("../../annex", "cannot be loaded"),
    ],
)
def test_what_is_no_engine_is_not_loaded(table, connect, name, message):
    db = connect("a.db")
    db.enable_load_extension(True)
    with pytest.raises(sqlite3.OperationalError, match=message):
        db.execute("SELECT annex_engine_load(?)", (str(WRONG / name),))
    assert truth(db)


def test_a_connection_that_may_not_load_extensions_may_not_load_engines(table, connect):
    db = connect("a.db")
    with pytest.raises(sqlite3.OperationalError, match="loading an engine is not allowed here"):
        db.execute("SELECT annex_engine_load(?)", (str(SCAN),))


def test_a_name_without_a_slash_is_a_file_of_the_current_folder_only(
    table, connect, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    db = connect("a.db")
    db.enable_load_extension(True)
    for name in ("libm.so.6", "engine-scan.so"):
        with pytest.raises(sqlite3.OperationalError, match="there is no engine"):
            db.execute("SELECT annex_engine_load(?)", (name,))
    shutil.copy(SCAN, tmp_path)
    loaded = db.execute("SELECT annex_engine_load('engine-scan.so')").fetchone()
    assert loaded == ("scan",)


# ---- engines that do what they must not ----------------------------------------------------------


@pytest.mark.parametrize("name", ["nothing", "too-few"])
def test_rows_that_an_engine_does_not_find_are_found_in_the_table(table, load, name):
    db = play(load, name)
    for k in (1, 10, ROWS, 1000):
        rows = search(db, k)
        assert len(rows) == min(k, ROWS)
    assert search(db, ROWS) == truth(db, ROWS)
    some = "WHERE key IN (3, 5, 290)"
    assert search(db, where=some) == truth(db, where="id IN (3, 5, 290)")


def test_distances_that_an_engine_tells_are_not_believed(table, load):
    db = play(load, "any-rows")
    rows = search(db)
    exact = dict(truth(db, ROWS))
    assert rows == sorted(rows, key=lambda row: row[1])
    assert all(exact[key] == distance for key, distance in rows)
    assert search(db, 10, '{"effort": "exact"}') == truth(db)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows-beyond", "the engine wrong gave row 300 of 300; it cannot be used"),
        ("rows-twice", "the engine wrong gave row 0 of 300 twice; it cannot be used"),
        ("too-many", "the engine wrong gave 11 rows when asked for 10; it cannot be used"),
        ("no-search", "the engine wrong failed: it has no mind to"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(table, load, name, message):
    db = play(load, name)
    with pytest.raises(sqlite3.OperationalError, match=message):
        search(db)
    assert search(db, 10, '{"effort": "exact"}') == truth(db)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-build", "the engine wrong failed: xxx"),
        ("no-open", "the engine wrong failed: damaged"),
        ("no-save", "the engine wrong failed: it does not save"),
        ("row-lost", "the engine wrong took 299 of 300 rows; it cannot be used"),
    ],
)
def test_an_index_that_cannot_be_built_leaves_nothing_behind(table, load, tmp_path, name, message):
    with pytest.raises(sqlite3.DatabaseError, match=message):
        play(load, name)
    with sqlite3.connect(table) as db:
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'annex%'").fetchall()
    assert not list((tmp_path / "cache" / "annex").glob("*"))


# ---- by the command ------------------------------------------------------------------------------


def test_create_search_sync_and_drop_by_the_command(table, annex):
    load = ("--load-engine", SCAN)
    made = annex("create", "a.db", "idx", "--table", "docs", "--vector", "v", "--engine", "scan",
                 *load, "--json")
    assert json.loads(made.stdout)["family"] == "scan"
    query = ("--query", "[1, 2, 3]", "-k", "5", "--jsonl")
    found = annex("search", "a.db", "idx", *query, *load).stdout
    assert len(found.splitlines()) == 5
    without = annex("search", "a.db", "idx", *query)
    assert without.stdout == found
    assert "needs the engine scan, which is not loaded" in without.stderr
    with sqlite3.connect(table) as db:
        db.execute("DELETE FROM docs WHERE id < 10")
    failed = annex("sync", "a.db", "idx", code=None)
    assert failed.returncode != 0 and "--load-engine" in failed.stderr
    annex("sync", "a.db", "idx", *load)
    annex("check", "a.db", "idx", *load)
    annex("drop", "a.db", "idx")


def test_the_command_passes_options_to_the_engine(table, annex):
    failed = annex("create", "a.db", "idx", "--table", "docs", "--vector", "v", "--engine", "wrong",
                   "--engine-options", '{"play": "row-lost"}', "--load-engine",
                   WRONG / "engine-play.so", code=None)
    assert failed.returncode == 1 and "took 299 of 300 rows" in failed.stderr
    failed = annex("list", "a.db", "--load-engine", WRONG / "engine-old.so", code=None)
    assert failed.returncode == 1 and "version 0 of the interface" in failed.stderr
