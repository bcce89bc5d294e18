"""annex export and annex import beside the real llm: what it wrote comes back as it wrote it, it
goes on with what was imported, and it reads the lines that are meant for it."""

import json
import sqlite3
import subprocess

import pytest

from conftest import find_program
from test_llm import LLM, Database, items, process  # noqa: F401: a fixture

# The model of LLM, and one command of llm on standard input's behalf.
COMMAND_OF_LLM = LLM.partition("clock = time.time")[0] + """
done = CliRunner().invoke(cli.cli, sys.argv[1:])
print(done.stdout)
sys.exit(done.exit_code)
"""
ROWS = ("SELECT name, model, e.id, embedding, content, content_blob, content_hash, metadata FROM "
        "embeddings e JOIN collections c ON c.id = collection_id ORDER BY name, e.id")


def run_llm(*arguments):
    done = subprocess.run([find_program("python"), "-c", COMMAND_OF_LLM, *map(str, arguments)],
                          text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def filled(tmp_path, process):  # noqa: F811
    database = Database(tmp_path / "embeddings.db", process)
    database.llm(["embed", "posts", "words", items("post", 60)],
                 ["embed", "tils", "others", items("til", 20)])
    # llm keeps no content unless it is told to.
    database.llm(["sql", "UPDATE embeddings SET content = NULL WHERE id LIKE '%/1%'"])
    return database


def carry(filled, tmp_path, kind="jsonl"):
    """A database with all of the collections, through files."""
    other = Database(tmp_path / "other.db", filled.process)
    for name, model in (("posts", "words"), ("tils", "others")):
        path = tmp_path / f"{name}.{kind}"
        assert filled.annex("export", filled.path, "--llm-collection", name, "-o", path)[2] == 0
        done = other.annex("import", other.path, path, "--llm-collection", name, "--model", model)
        assert done[2] == 0, done
    return other


def test_collections__come_back_as_llm_wrote_them(filled, tmp_path):
    other = carry(filled, tmp_path)
    assert other.rows(ROWS) == filled.rows(ROWS)
    schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
    assert other.rows(schema) == filled.rows(schema)
    migrations = "SELECT migration_set, name, length(applied_at) FROM _sqlite_migrations ORDER BY 2"
    assert other.rows(migrations) == filled.rows(migrations)


def test_llm__searches_and_goes_on_with_what_was_imported(filled, tmp_path):
    questions = [["similar", "posts", "post/3"], ["similar", "tils", "til/7", "-p", "-n", "3"]]
    answers = filled.llm(*questions)
    other = carry(filled, tmp_path)
    assert other.llm(*questions) == answers and answers[0][2] == 0
    # It knows by their hashes what it has embedded already: nothing of it is embedded again.
    other.llm(["sql", "UPDATE embeddings SET updated = 1"],
              ["embed", "posts", "words", [*items("post", 60), ["new", "text"]]])
    assert other.rows("SELECT id FROM embeddings WHERE updated > 1") == [("new",)]
    other.llm(["migrate"], ["delete", "tils"])
    assert other.rows("PRAGMA integrity_check") == [("ok",)]


def test_vectors_and_keys_alone__are_enough_for_llm_similar(filled, tmp_path):
    other = carry(filled, tmp_path, "npy")
    question = ["similar", "posts", "post/3", "-n", "5"]
    [(before, *_)], [(after, *_)] = filled.llm(question), other.llm(question)

    def scores(text):
        return [(row["id"], row["score"]) for row in map(json.loads, text.splitlines())]

    assert scores(after) == scores(before) and len(scores(after)) == 5
    other.llm(["embed", "posts", "words", [["post/3", "another text"]]])
    with sqlite3.connect(other.path) as db:
        assert db.execute("SELECT content FROM embeddings WHERE id = 'post/3'").fetchall() == \
            [("another text",)]


def test_embed_multi__reads_the_lines_that_are_meant_for_it(filled, tmp_path):
    path, other = tmp_path / "posts.nl", Database(tmp_path / "other.db", filled.process)
    where = "content IS NOT NULL"
    done = filled.annex("export", filled.path, "--llm-collection", "posts", "--format", "llm",
                        "--where", where, "-o", path)
    assert done[2] == 0, done
    run_llm("embed-multi", "posts", path, "--format", "nl", "-m", "words", "--store", "-d",
            other.path)
    columns = ("SELECT id, embedding, content, content_hash FROM embeddings "
               f"WHERE collection_id = 1 AND {where} ORDER BY id")
    assert other.rows(columns) == filled.rows(columns) != []
