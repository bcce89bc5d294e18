"""Tools that copy, compare or measure databases: cp with a WAL, sqlite3_rsync, sqldiff, dbhash,
sqlite3_analyzer."""

import shutil
import sqlite3

from conftest import WORDNET, find_program, judge, run, with_annex

INSERT = "INSERT INTO synsets(word, embedding) SELECT 'new', embedding FROM queries WHERE id = 30"


def change(path):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("DELETE FROM synsets WHERE id < 11")
    db.execute(INSERT)
    return db


def test_a_file_that_is_copied_with_its_wal_is_as_fresh(wordnet, tmp_path):
    with_annex(wordnet, "PRAGMA journal_mode = WAL")
    db = change(wordnet)
    assert wordnet.with_name("wordnet.db-wal").stat().st_size > 0
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{wordnet}{suffix}", f"{tmp_path}/copy.db{suffix}")
    db.close()
    judge(tmp_path / "copy.db", "delta", delta_rows=11, rows=3485)


def test_a_file_that_is_copied_without_its_wal_is_older_and_right(wordnet, tmp_path):
    with_annex(wordnet, "PRAGMA journal_mode = WAL")
    db = change(wordnet)
    with_annex(wordnet, "SELECT annex_sync('flat_idx')", "SELECT annex_sync('graph_idx')")
    shutil.copyfile(wordnet, tmp_path / "copy.db")
    db.close()
    judge(tmp_path / "copy.db", None)
    judge(wordnet, "fresh")


def test_rsync_of_databases_carries_the_index(wordnet, tmp_path):
    """As when another machine is on one of the sides; here `ssh` runs the other side itself."""
    rsync = find_program("sqlite3_rsync")
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nwhile [ "$1" != "elsewhere" ]; do shift; done; shift; '
                   'exec sh -c "$*"\n')
    ssh.chmod(0o755)
    with_annex(wordnet, "PRAGMA journal_mode = WAL")
    command = [rsync, wordnet, f"elsewhere:{tmp_path}/replica.db", "--ssh", ssh, "--exe", rsync]
    run(*command)
    judge(tmp_path / "replica.db", "fresh")
    change(wordnet).close()
    run(*command)
    judge(tmp_path / "replica.db", "delta", delta_rows=11)


def test_difference_of_databases_can_be_applied(wordnet, tmp_path):
    """That of one table, and the whole, which holds the rows of the log too."""
    for option in (["--table", "synsets"], ["--transaction"]):
        copy = shutil.copyfile(wordnet, tmp_path / "copy.db")
        changed = shutil.copyfile(wordnet, tmp_path / "changed.db")
        change(changed).close()
        difference = run(find_program("sqldiff"), *option, copy, changed)
        run(find_program("sqlite3"), copy, stdin=difference)
        judge(copy, "delta", delta_rows=11, rows=3485)


def test_the_hash_of_the_users_tables_does_not_change(wordnet):
    hash_of = find_program("sqlite3_dbhash")
    for table in ("synsets", "queries", "about"):
        like = ["--like", table, "--without-schema"]
        assert run(hash_of, *like, wordnet).split()[0] == run(hash_of, *like, WORDNET).split()[0]


def test_analyzer_and_sizes_of_tables(wordnet):
    report = run(find_program("sqlite3_analyzer"), wordnet)
    assert "ANNEX_SEGMENT" in report and "SYNSETS" in report
    judge(wordnet, "fresh")
