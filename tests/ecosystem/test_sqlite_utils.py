"""sqlite-utils, its command and its Python library, without Annex unless it reads."""

import json
import sqlite3

import pytest

from conftest import EXTENSION, find_program, judge, run, run_python, with_annex


def utils(*arguments, stdin=None):
    return run(find_program("sqlite-utils"), *arguments, stdin=stdin)


def blob_json(path, query):
    """The embedding of a query as sqlite-utils writes blobs in JSON."""
    sql = f"SELECT embedding FROM queries WHERE id = {query}"
    return json.loads(utils("query", path, sql))[0]["embedding"]


def rows_json(path, *keys):
    return json.dumps([
        {"id": key, "word": f"word {key}", "embedding": blob_json(path, 1 + key % 40)}
        for key in keys
    ])


@pytest.mark.parametrize("option", ["--replace", "--ignore", "--alter"])
def test_inserted_rows_are_found(wordnet, option):
    utils("insert", wordnet, "synsets", "-", "--pk", "id", option,
          stdin=rows_json(wordnet, *((5, 6) if option != "--alter" else ()), 7001, 7002))
    judge(wordnet, "delta", delta_rows=4 if option == "--replace" else 2, rows=3496)


def test_upserted_and_updated_rows_are_found(wordnet):
    utils("upsert", wordnet, "synsets", "-", "--pk", "id", stdin=rows_json(wordnet, 5, 7001))
    utils("query", wordnet, "UPDATE synsets SET embedding = :e WHERE id = 9", "-p", "e", "")
    utils("query", wordnet, "DELETE FROM synsets WHERE id IN (10, 9)")
    utils("bulk", wordnet, "UPDATE synsets SET embedding = NULL WHERE id = :id", "-",
          stdin='[{"id": 20}, {"id": 21}]')
    judge(wordnet, "delta", delta_rows=6, rows=3491)


TRANSFORMS = [
    ["--drop", "gloss", "--rename", "word", "lemma"],
    ["--not-null", "word", "--default", "pos", "noun", "--strict"],
    ["-o", "embedding", "-o", "id"],
]


@pytest.mark.parametrize("arguments", TRANSFORMS, ids=" ".join)
def test_transform_drops_the_triggers_and_the_index_says_so(wordnet, arguments):
    utils("transform", wordnet, "synsets", *arguments)
    utils("query", wordnet, "DELETE FROM synsets WHERE id < 11")
    judge(wordnet, "stale", reason="are gone; run annex_sync", rows=3484)
    utils("query", wordnet, "DELETE FROM synsets WHERE id < 21")
    judge(wordnet, "delta", delta_rows=10)


def test_transform_to_another_key_is_a_stale_index_that_follows(wordnet):
    """The key column of the index stays `id`, which is now an ordinary column."""
    utils("transform", wordnet, "synsets", "--pk-none")
    judge(wordnet, "stale", reason="are gone; run annex_sync")


def test_columns_are_added_converted_and_extracted(wordnet):
    utils("add-column", wordnet, "synsets", "lang", "text", "--not-null-default", "en")
    utils("convert", wordnet, "synsets", "word", "value.upper()")
    utils("create-index", wordnet, "synsets", "word")
    judge(wordnet, "fresh")
    utils("convert", wordnet, "synsets", "word", "value[::-1]", "--output", "reversed")
    utils("extract", wordnet, "synsets", "pos", "--table", "parts")
    judge(wordnet, "stale", reason="are gone; run annex_sync")
    utils("add-foreign-key", wordnet, "synsets", "lang", "parts", "id")
    utils("index-foreign-keys", wordnet)
    judge(wordnet, "stale", reason="are gone; run annex_sync")


def test_converted_vectors_are_found(wordnet):
    utils("convert", wordnet, "synsets", "embedding", "value[:-4] + bytes(4)",
          "--where", "id % 10 = 0")
    judge(wordnet, "delta")


def test_tables_are_renamed_and_duplicated(wordnet):
    utils("rename-table", wordnet, "synsets", "words")
    utils("duplicate", wordnet, "words", "copy")
    judge(wordnet, "fresh", table="words")
    utils("query", wordnet, "DELETE FROM words WHERE id < 11")
    utils("query", wordnet, "DELETE FROM copy")
    judge(wordnet, "delta", table="words", delta_rows=10)


def test_a_table_that_is_dropped_and_inserted_anew_is_stale(wordnet):
    rows = utils("query", wordnet, "SELECT id, word, embedding FROM synsets WHERE id < 500")
    utils("drop-table", wordnet, "synsets")
    utils("insert", wordnet, "synsets", "-", "--pk", "id", stdin=rows)
    judge(wordnet, "stale", reason="are gone; run annex_sync", rows=499)


def test_truncate_and_refill_is_found(wordnet):
    rows = utils("query", wordnet, "SELECT id, word, embedding FROM synsets WHERE id < 500")
    utils("insert", wordnet, "synsets", "-", "--pk", "id", "--truncate", stdin=rows)
    judge(wordnet, "delta", rows=499)


def test_full_text_search_lives_on_the_same_table(wordnet):
    utils("enable-fts", wordnet, "synsets", "word", "gloss", "--create-triggers")
    utils("insert", wordnet, "synsets", "-", "--pk", "id", "--replace",
          stdin=rows_json(wordnet, 5, 7001))
    judge(wordnet, "delta", delta_rows=2, rows=3495)
    assert json.loads(utils("search", wordnet, "synsets", "word 7001"))[0]["id"] == 7001
    utils("rebuild-fts", wordnet)
    utils("optimize", wordnet)
    utils("disable-fts", wordnet, "synsets")
    judge(wordnet, "fresh")


def test_maintenance_changes_nothing(wordnet, tmp_path):
    utils("enable-wal", wordnet)
    utils("enable-counts", wordnet, "synsets")
    utils("query", wordnet, "DELETE FROM synsets WHERE id = 1")
    for command in ("vacuum", "analyze", "optimize", "reset-counts", "disable-wal"):
        utils(command, wordnet)
    utils("analyze-tables", wordnet, "--save")
    utils("schema", wordnet)
    assert len(json.loads(utils("triggers", wordnet))) == 6 + 2  # of Annex, and of _counts
    judge(wordnet, "delta", delta_rows=1)
    run(find_program("sqlite3"), tmp_path / "loaded.db", stdin=utils("dump", wordnet))
    judge(tmp_path / "loaded.db", "fresh")


def test_memory_reads_the_tables_and_leaves_the_file_alone(wordnet, tmp_path):
    (tmp_path / "ids.csv").write_text("id,note\n30,x\n")
    answer = utils("memory", tmp_path / "ids.csv", "--attach", "w", wordnet,
                   "--load-extension", EXTENSION, """
        SELECT s.word FROM ids, w.queries AS q ON q.id = ids.id,
               annex_search('w.flat_idx', q.embedding, 1) AS a
          JOIN w.synsets AS s ON s.id = a.key""")
    assert json.loads(answer) == [{"word": "lake"}]
    judge(wordnet, "fresh")


def test_command_with_annex_loaded_reads_and_syncs(wordnet):
    load = ["--load-extension", EXTENSION]
    utils("query", wordnet, "DELETE FROM synsets WHERE id < 4")
    rows = utils("query", wordnet, "SELECT name, state, delta_rows FROM annex_indexes", *load)
    assert json.loads(rows) == [{"name": name, "state": "delta", "delta_rows": 3}
                                for name in ("flat_idx", "graph_idx")]
    utils("query", wordnet, "SELECT annex_sync(name) FROM annex_indexes", *load)
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
    judge(wordnet, None, repair="annex_optimize", rows=3494)
