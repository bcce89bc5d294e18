"""The sqlite3 shell, without Annex unless it reads: copies, repairs, imports, VACUUM, schema.

Some tests also run in the newest shell, which the package apsw brings.
"""

import csv
import shutil

import pytest

from conftest import EXTENSION, WORDNET, find_program, judge, run, with_annex

CHANGES = """
UPDATE synsets SET embedding = (SELECT embedding FROM queries WHERE id = 1) WHERE id = 7;
DELETE FROM synsets WHERE id IN (8, 9);
INSERT INTO synsets(word, embedding) SELECT text, embedding FROM queries WHERE id = 17;
"""


@pytest.fixture
def program(request):
    return find_program(getattr(request, "param", "sqlite3"))


both_shells = pytest.mark.parametrize("program", ["sqlite3", "sqlite3_shell"], indirect=True)


@pytest.fixture
def shell(program):
    """Runs commands on a database, in the order given, until one fails."""

    def run_shell(path, *commands, stdin=None):
        return run(program, "-bail", "-batch", path, *commands, stdin=stdin)

    return run_shell


@both_shells
def test_statements_of_the_shell_are_found_at_once(shell, wordnet):
    shell(wordnet, CHANGES)
    judge(wordnet, "delta", delta_rows=4, rows=3493)


@pytest.mark.parametrize("changes", ["", CHANGES], ids=["fresh", "delta"])
@both_shells
def test_dump_and_reload_gives_a_database_that_is_as_fresh(shell, wordnet, tmp_path, changes):
    shell(wordnet, changes)
    shell(tmp_path / "reloaded.db", stdin=shell(wordnet, ".dump"))
    judge(tmp_path / "reloaded.db", "delta" if changes else "fresh")


@both_shells
def test_dump_of_one_table_leaves_an_index_that_is_stale(shell, wordnet, tmp_path):
    script = shell(wordnet, ".dump synsets")
    shell(wordnet, stdin="DROP TABLE synsets;\n" + script)
    judge(wordnet, "stale" if "CREATE TRIGGER" not in script else "delta")


@both_shells
@pytest.mark.parametrize("command", [".backup", ".clone", ".save", "VACUUM INTO"])
def test_copies_of_the_shell_are_as_fresh_as_the_original(shell, wordnet, tmp_path, command):
    shell(wordnet, f"{command} '{tmp_path}/fresh.db'")
    judge(tmp_path / "fresh.db", "fresh")
    shell(wordnet, CHANGES, f"{command} '{tmp_path}/changed.db'")
    judge(tmp_path / "changed.db", "delta", delta_rows=4)


@pytest.mark.parametrize("changes", ["", CHANGES], ids=["fresh", "delta"])
def test_recover_gives_a_database_that_is_as_fresh(shell, wordnet, tmp_path, changes):
    if "sqlite_dbpage" not in shell(wordnet, "SELECT name FROM pragma_module_list"):
        pytest.skip("this shell was built without .recover")
    shell(wordnet, changes)
    shell(tmp_path / "recovered.db", stdin=shell(wordnet, ".recover"))
    judge(tmp_path / "recovered.db", "delta" if changes else "fresh")


def test_restore_over_a_changed_database_is_noticed(shell, wordnet, tmp_path):
    shell(wordnet, f".backup '{tmp_path}/kept.db'")
    shell(wordnet, CHANGES)
    with_annex(wordnet, "SELECT annex_sync('flat_idx'), annex_sync('graph_idx')")
    shell(wordnet, f".restore '{tmp_path}/kept.db'", CHANGES)
    judge(wordnet, "delta", delta_rows=4)


def test_rows_of_an_older_backup_mixed_with_a_newer_index_are_found(shell, wordnet, tmp_path):
    """The copied file goes its own way: other changes get the same numbers in its log."""
    copy = shutil.copyfile(wordnet, tmp_path / "copy.db")
    shell(wordnet, "DELETE FROM synsets WHERE id < 100")
    with_annex(wordnet, "SELECT annex_sync('flat_idx'), annex_sync('graph_idx')")
    shell(copy, "DELETE FROM synsets WHERE id > 3400")
    judge(copy, "delta")
    judge(wordnet, "fresh")


@pytest.mark.parametrize("header", [True, False])
def test_import_of_csv_rows_is_found(shell, wordnet, tmp_path, header):
    """Blobs do not travel in CSV: rows come with an empty text, and get vectors later."""
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(["id", "word", "pos", "gloss", "embedding"])
        writer.writerows([9000 + i, f"word {i}", "noun", "by hand, or so", ""] for i in range(50))
    skip = "--skip 1 " if header else ""
    shell(wordnet, f".import --csv {skip}'{tmp_path}/rows.csv' synsets")
    shell(wordnet, "UPDATE synsets SET embedding = NULL WHERE embedding = ''")
    judge(wordnet, "delta", delta_rows=50, rows=3494)
    shell(wordnet, "UPDATE synsets SET embedding = (SELECT embedding FROM queries WHERE id = 30) "
                   "WHERE id BETWEEN 9000 AND 9009")
    judge(wordnet, "delta", delta_rows=10, rows=3504)


@pytest.mark.parametrize("pragma", ["PRAGMA page_size = 8192", "PRAGMA auto_vacuum = FULL",
                                    "PRAGMA journal_mode = WAL"])
def test_vacuum_changes_nothing(shell, wordnet, pragma):
    shell(wordnet, "VACUUM", CHANGES, pragma, "VACUUM")
    judge(wordnet, "delta", delta_rows=4)


@both_shells
def test_maintenance_of_the_shell_changes_nothing(shell, wordnet):
    assert shell(wordnet, "PRAGMA integrity_check", "PRAGMA quick_check",
                 "PRAGMA foreign_key_check", "REINDEX", "ANALYZE", "PRAGMA optimize") == "ok\nok\n"
    shell(wordnet, ".lint fkey-indexes", ".sha3sum", ".stats on", ".selftest --init")
    judge(wordnet, "fresh")


def test_schema_shows_ordinary_tables_and_triggers_only(shell, wordnet):
    schema = shell(wordnet, ".schema --nosys")
    assert "VIRTUAL" not in schema
    assert "CREATE TABLE synsets" in schema
    shell(":memory:", stdin=schema)  # and may be run anywhere
    tables = shell(wordnet, ".tables").split()
    assert all(name.startswith("annex_") or name in ("about", "queries", "synsets")
               for name in tables)


@both_shells
def test_alter_table_is_followed(shell, wordnet):
    shell(wordnet, "ALTER TABLE synsets ADD COLUMN lang TEXT DEFAULT 'en'",
          "ALTER TABLE synsets DROP COLUMN gloss", "ALTER TABLE synsets RENAME TO words",
          "ALTER TABLE words RENAME COLUMN word TO lemma",
          "DELETE FROM words WHERE lemma = 'lake'")
    judge(wordnet, "delta", table="words", delta_rows=1)


@both_shells
def test_the_twelve_steps_of_a_table_rebuild_leave_an_index_that_is_stale(shell, wordnet):
    """The procedure of lang_altertable.html §7."""
    shell(wordnet, """
        PRAGMA foreign_keys = OFF;
        BEGIN;
        CREATE TABLE new_synsets(id INTEGER PRIMARY KEY, word TEXT NOT NULL, embedding BLOB);
        INSERT INTO new_synsets SELECT id, word, embedding FROM synsets WHERE id % 5;
        DROP TABLE synsets;
        ALTER TABLE new_synsets RENAME TO synsets;
        PRAGMA foreign_key_check;
        COMMIT;""")
    judge(wordnet, "stale")
    shell(wordnet, "DELETE FROM synsets WHERE id < 11")
    judge(wordnet, "delta", delta_rows=8)


def test_every_mode_shows_what_annex_finds(shell, wordnet):
    query = """
        SELECT s.word, a.distance
          FROM annex_search('flat_idx', (SELECT embedding FROM queries WHERE id = 30), 1) AS a
          JOIN synsets AS s ON s.id = a.key"""
    modes = ["box", "column", "csv", "html", "insert", "json", "line", "list", "markdown", "quote",
             "table", "tabs", "tcl"]
    commands = [word for mode in modes for word in (f".mode {mode}", query)]
    assert shell(wordnet, f".load {EXTENSION}", *commands).count("lake") == len(modes)


def test_shell_reads_indexes_of_databases_it_attaches(shell, wordnet):
    answer = shell(":memory:", f".load {EXTENSION}", f"ATTACH '{wordnet}' AS w",
                   f"ATTACH '{WORDNET}' AS original", """
        SELECT s.word FROM original.queries AS q, annex_search('w.graph_idx', q.embedding, 1) AS a
          JOIN w.synsets AS s ON s.id = a.key WHERE q.id = 30""")
    assert answer == "lake\n"


def test_safe_mode_and_read_only_shells_read_and_break_nothing(shell, program, wordnet):
    count = "SELECT count(*) FROM synsets"
    for option in ("-safe", "-readonly"):
        assert run(program, option, wordnet, count) == "3494\n"
    assert shell(f"file:{wordnet}?immutable=1", f".load {EXTENSION}", """
        SELECT count(*) FROM annex_search('graph_idx', (SELECT embedding FROM queries), 7)
        """) == "7\n"
    judge(wordnet, "fresh")


@both_shells
def test_defensive_shell_without_trusted_schema_writes(shell, wordnet):
    shell(wordnet, ".dbconfig defensive on", ".dbconfig trusted_schema off",
          ".dbconfig legacy_alter_table on", CHANGES)
    judge(wordnet, "delta", delta_rows=4)


def test_archive_of_files_lies_beside_the_index(program, wordnet, tmp_path):
    (tmp_path / "note.txt").write_text("kept in the same database")
    run(program, wordnet, "-A", "--create", "--directory", tmp_path, "note.txt")
    judge(wordnet, "fresh")
