"""DB Browser for SQLite, whose engine is SQLCipher, and litecli, without Annex."""

import sqlite3
import subprocess
import time

from conftest import find_program, judge, run

CHANGES = """
UPDATE synsets SET embedding = (SELECT embedding FROM queries WHERE id = 1) WHERE id = 7;
DELETE FROM synsets WHERE id IN (8, 9);
INSERT INTO synsets(word, embedding) SELECT text, embedding FROM queries WHERE id = 17;
"""


def browse(path, script, done):
    """Opens the database in DB Browser without a screen, which runs the script and goes on showing
    the database; ends it when the statement `done` gives a true value."""
    path.with_name("script.sql").write_text(script)
    command = [find_program("sqlitebrowser"), str(path), "-s", str(path.with_name("script.sql"))]
    runtime = path.with_name("runtime")
    runtime.mkdir(mode=0o700, exist_ok=True)
    environment = {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(runtime),
                   "HOME": str(runtime), "PATH": "/usr/bin:/bin"}
    browser = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    watcher = sqlite3.connect(path, timeout=10)
    try:
        for _ in range(200):
            assert browser.poll() is None, browser.stdout.read().decode()
            if watcher.execute(done).fetchone()[0]:
                return
            time.sleep(0.05)
        raise AssertionError("DB Browser did not run the script")
    finally:
        watcher.close()
        browser.terminate()
        browser.communicate(timeout=30)


def test_statements_of_db_browser_are_found(wordnet):
    browse(wordnet, CHANGES, "SELECT count(*) = 3493 FROM synsets")
    judge(wordnet, "delta", delta_rows=4, rows=3493)


def test_a_table_that_db_browser_modifies_is_noticed(wordnet):
    """What its dialogue for tables does: a copy takes the place of the table."""
    browse(wordnet, """
        PRAGMA defer_foreign_keys = '1';
        CREATE TABLE "sqlb_temp_table_1" ("id" INTEGER, "word" TEXT NOT NULL DEFAULT '',
            "pos" TEXT, "gloss" TEXT, "embedding" BLOB, PRIMARY KEY("id" AUTOINCREMENT));
        INSERT INTO "main"."sqlb_temp_table_1" SELECT * FROM "main"."synsets";
        DROP TABLE "main"."synsets";
        ALTER TABLE "main"."sqlb_temp_table_1" RENAME TO "synsets";
        DELETE FROM synsets WHERE id > 3000;""", """
        SELECT count(*) FROM sqlite_schema AS s JOIN pragma_table_info('synsets') AS c
         WHERE s.name = 'sqlite_sequence' AND c.name = 'word' AND c."notnull"
           AND (SELECT max(id) FROM synsets) = 3000""")
    judge(wordnet, "stale", rows=3000)


def test_statements_of_litecli_are_found(wordnet):
    for statement in CHANGES.strip().split(";\n"):
        run(find_program("litecli"), "--no-warn", "-e", statement.rstrip(";"), wordnet)
    tables = run(find_program("litecli"), "--csv", "-e", ".tables", wordnet)
    assert "synsets" in tables and "annex_index" in tables
    judge(wordnet, "delta", delta_rows=4, rows=3493)
