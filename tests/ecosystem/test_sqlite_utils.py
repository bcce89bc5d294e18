"""sqlite-utils, its command and its Python library, without Annex unless it reads."""

import json
import sqlite3

import pytest

from conftest import EXTENSION, find_program, judge, run, run_python, with_annex


COMMANDS = """
import json, sys
from sqlite_utils.cli import cli
for arguments in json.load(sys.stdin):
    cli.main(arguments, standalone_mode=False)
"""


def utils(*commands):
    """Runs commands, each a list of the words after `sqlite-utils`, one after the other."""
    words = [[str(word) for word in command] for command in commands]
    return run(find_program("python"), "-c", COMMANDS, stdin=json.dumps(words))


@pytest.fixture
def rows_file(wordnet):
    """Makes a file of rows with these keys, whose blobs are written as sqlite-utils does."""
    vectors = json.loads(utils(["query", wordnet, "SELECT embedding FROM queries"]))

    def make(*keys):
        path = wordnet.with_name("rows.json")
        path.write_text(json.dumps([
            {"id": key, "word": f"word {key}", **vectors[key % len(vectors)]} for key in keys
        ]))
        return path

    return make


def test_the_command_inserts_and_upserts(wordnet, rows_file):
    insert = ["insert", wordnet, "synsets", rows_file(5, 6, 7001, 7002), "--pk", "id"]
    run(find_program("sqlite-utils"), *insert, "--ignore")
    judge(wordnet, "delta", delta_rows=2, rows=3496)
    utils([*insert, "--replace", "--alter"])
    judge(wordnet, "delta", delta_rows=4, rows=3496)
    (wordnet.with_name("ids.json")).write_text('[{"id": 20}, {"id": 21}]')
    utils(["upsert", wordnet, "synsets", rows_file(8, 7003), "--pk", "id"],
          ["query", wordnet, "UPDATE synsets SET embedding = :e WHERE id = 9", "-p", "e", ""],
          ["query", wordnet, "DELETE FROM synsets WHERE id IN (10, 9)"],
          ["bulk", wordnet, "UPDATE synsets SET embedding = NULL WHERE id = :id",
           wordnet.with_name("ids.json")])
    judge(wordnet, "delta", delta_rows=6, rows=3493)


@pytest.mark.parametrize("arguments", [
    ["--drop", "gloss", "--rename", "word", "lemma"],
    ["--not-null", "word", "--default", "pos", "noun", "--strict"],
], ids=" ".join)
def test_transform_drops_the_triggers_and_the_index_says_so(wordnet, arguments):
    utils(["transform", wordnet, "synsets", *arguments],
          ["query", wordnet, "DELETE FROM synsets WHERE id < 11"])
    judge(wordnet, "stale", rows=3484)
    utils(["query", wordnet, "DELETE FROM synsets WHERE id < 21"])
    judge(wordnet, "delta", delta_rows=10)


def test_transform_to_a_table_without_key_says_what_the_index_needs(wordnet):
    """The column id is ordinary now, and could name several rows."""
    utils(["transform", wordnet, "synsets", "--pk-none"])
    judge(wordnet, "stale", reason="run CREATE UNIQUE INDEX")


def test_columns_are_added_converted_and_extracted(wordnet):
    utils(["add-column", wordnet, "synsets", "lang", "text", "--not-null-default", "en"],
          ["convert", wordnet, "synsets", "word", "value.upper()"],
          ["convert", wordnet, "synsets", "word", "value[::-1]", "--output", "reversed"],
          ["create-index", wordnet, "synsets", "word"])
    judge(wordnet, "fresh")
    utils(["convert", wordnet, "synsets", "embedding", "value[:-4] + bytes(4)",
           "--where", "id % 10 = 0"])
    judge(wordnet, "delta", delta_rows=349)
    utils(["extract", wordnet, "synsets", "pos", "--table", "parts"],
          ["add-foreign-key", wordnet, "synsets", "lang", "parts", "id"],
          ["index-foreign-keys", wordnet])
    judge(wordnet, "stale")


def test_tables_are_renamed_and_duplicated(wordnet):
    utils(["rename-table", wordnet, "synsets", "words"], ["duplicate", wordnet, "words", "copy"])
    judge(wordnet, "fresh", table="words")
    utils(["query", wordnet, "DELETE FROM words WHERE id < 11"],
          ["query", wordnet, "DELETE FROM copy"])
    judge(wordnet, "delta", table="words", delta_rows=10)


def test_a_table_that_is_dropped_and_inserted_anew_is_stale(wordnet, rows_file):
    rows = rows_file(*range(1, 500))
    utils(["drop-table", wordnet, "synsets"],
          ["insert", wordnet, "synsets", rows, "--pk", "id"])
    judge(wordnet, "stale", rows=499)
    utils(["insert", wordnet, "synsets", rows, "--pk", "id", "--truncate"])
    judge(wordnet, "delta", delta_rows=499, rows=499)


def test_full_text_search_lives_on_the_same_table(wordnet, rows_file):
    found = utils(["enable-fts", wordnet, "synsets", "word", "gloss", "--create-triggers"],
                  ["insert", wordnet, "synsets", rows_file(5, 7001), "--pk", "id", "--replace"],
                  ["search", wordnet, "synsets", "word 7001", "-c", "id"])
    assert json.loads(found) == [{"id": 7001}]
    judge(wordnet, "delta", delta_rows=2, rows=3495)
    utils(["rebuild-fts", wordnet], ["optimize", wordnet], ["disable-fts", wordnet, "synsets"])
    judge(wordnet, "fresh")


def test_maintenance_changes_nothing(wordnet, tmp_path):
    utils(["enable-wal", wordnet], ["enable-counts", wordnet, "synsets"],
          ["query", wordnet, "DELETE FROM synsets WHERE id = 1"], ["vacuum", wordnet],
          ["analyze", wordnet], ["optimize", wordnet], ["reset-counts", wordnet],
          ["analyze-tables", wordnet, "synsets", "--save"], ["schema", wordnet])
    triggers = json.loads(utils(["triggers", wordnet]))
    assert len(triggers) == 6 + 2  # of Annex, and of _counts
    dump = utils(["disable-wal", wordnet], ["dump", wordnet])
    judge(wordnet, "delta", delta_rows=1)
    run(find_program("sqlite3"), tmp_path / "loaded.db", stdin=dump[dump.index("BEGIN") :])
    judge(tmp_path / "loaded.db", "stale", reason="the table synsets was made anew")


def test_memory_reads_the_tables_and_leaves_the_file_alone(wordnet, tmp_path):
    (tmp_path / "ids.csv").write_text("id,note\n30,x\n")
    answer = utils(["memory", tmp_path / "ids.csv", "--attach", "w", wordnet,
                    "--load-extension", EXTENSION, """
        SELECT s.word FROM ids, w.queries AS q ON q.id = ids.id,
               annex_search('w.flat_idx', q.embedding, 1) AS a
          JOIN w.synsets AS s ON s.id = a.key"""])
    assert json.loads(answer) == [{"word": "lake"}]
    judge(wordnet, "fresh")


def test_command_with_annex_loaded_reads_and_syncs(wordnet):
    load = ["--load-extension", EXTENSION]
    rows = utils(["query", wordnet, "SELECT state, reason FROM annex_indexes LIMIT 1", *load])
    assert json.loads(rows) == [{"state": "fresh", "reason": ""}]
    utils(["query", wordnet, "DELETE FROM synsets WHERE id < 4"],
          ["query", wordnet, "SELECT annex_sync(name) FROM annex_indexes", *load])
    judge(wordnet, "fresh", rows=3491)


LIBRARY = """
import sys, sqlite_utils
db = sqlite_utils.Database(sys.argv[1])
assert db.execute("PRAGMA recursive_triggers").fetchone()[0] == 1
vector = [row["embedding"] for row in db["queries"].rows]
docs = db["synsets"]
docs.insert({"id": 8001, "word": "one", "embedding": vector[0]})
docs.insert({"id": 8002, "word": "two", "embedding": vector[1], "new": 1}, alter=True)
docs.insert({"id": 1, "word": "replaced", "embedding": vector[2]}, replace=True)
docs.insert({"id": 2, "word": "ignored", "embedding": vector[2]}, ignore=True)
docs.upsert({"id": 3, "embedding": vector[3]}, pk="id")
docs.upsert_all([{"id": 8003 + i, "embedding": vector[i]} for i in range(10)], pk="id")
docs.update(4, {"embedding": vector[4]})
docs.delete(5)
docs.delete_where("id BETWEEN ? AND ?", [10, 19])
with db.atomic():
    docs.insert_all({"id": 8100 + i, "embedding": vector[i % 40]} for i in range(200))
try:
    with db.atomic():
        db.execute("DELETE FROM synsets")
        raise KeyError
except KeyError:
    pass
docs.create_index(["word"], unique=False)
docs.enable_fts(["word"], create_triggers=True)
docs.convert("word", lambda value: (value or "").title())
db.close()
"""


def test_rows_written_by_the_library_are_found(wordnet):
    run_python(LIBRARY, wordnet)
    judge(wordnet, "delta", delta_rows=2 + 1 + 1 + 10 + 1 + 1 + 10 + 200, rows=3494 + 212 - 11)


REPLACE = """
import sys, sqlite_utils
db = sqlite_utils.Database(sys.argv[1], recursive_triggers=sys.argv[2] == "on")
db["synsets"].update(1, {"code": "a"}, alter=True)
db["synsets"].create_index(["code"], unique=True)
vector = db.execute("SELECT embedding FROM queries WHERE id = 7").fetchone()[0]
db["synsets"].insert({"id": 9001, "code": "a", "embedding": vector}, replace=True)
assert db["synsets"].count_where("id = 1") == 0
db.close()
"""


def test_rows_that_replace_removes_are_not_found(wordnet):
    """sqlite-utils turns recursive triggers on, and then the log knows that row 1 went."""
    run_python(REPLACE, wordnet, "on")
    judge(wordnet, "delta", rows=3494)


def test_rows_that_replace_removes_unseen_are_not_found(wordnet):
    """Without recursive triggers nobody is told; the check finds the row that answers leave out."""
    run_python(REPLACE, wordnet, "off")
    with pytest.raises(sqlite3.DatabaseError, match="never answered.*run annex_optimize"):
        with_annex(wordnet, "SELECT annex_sync('flat_idx')", "SELECT annex_check('flat_idx')")
    with_annex(wordnet, "SELECT annex_optimize(name) FROM annex_indexes")
    judge(wordnet, "fresh", rows=3494)
