"""llm, its command and its Python library, beside an index over its collections: what `annex
similar` prints is compared byte for byte with what `llm similar` prints, after everything that llm
and sqlite-utils do to a database without telling anybody."""

import json
import os
import sqlite3
import subprocess

import pytest

from conftest import BUILD, find_program, with_annex

COMMAND = BUILD / "annex"

# Runs operations: each line of standard input is JSON, the path of a database and an array of them.
# The model makes vectors from a text alone; --content can be embedded by the command, too.
LLM = """
import json, random, sqlite3, sys, time
import llm, sqlite_utils
from click.testing import CliRunner
from llm import cli, hookimpl
from llm.embeddings import Collection
from llm.embeddings_migrations import embeddings_migrations
from llm.plugins import pm

class Words(llm.EmbeddingModel):
    dimension = 24
    batch_size = 50
    def __init__(self, model_id):
        self.model_id = model_id
    def embed_batch(self, items):
        for item in items:
            numbers = random.Random(self.model_id + repr(item))
            yield [numbers.gauss(0, 1) for _ in range(self.dimension)]

class Plugin:
    @hookimpl
    def register_embedding_models(self, register):
        register(Words("words"))
        register(Words("others"))

llm.get_plugins()
pm.register(Plugin(), name="words")
clock = time.time

def run(path, operations):
    for operation, *arguments in operations:
        db = sqlite_utils.Database(path)
        if operation == "embed":  # collection, model, [[id, text], ...]
            name, model, items = arguments
            Collection(name, db, model=Words(model)).embed_multi_with_metadata(
                ((key, text, {"text": text, "n": len(text) / 7} if len(text) % 2 else None)
                 for key, text in items), store=True)
        elif operation == "similar":
            done = CliRunner().invoke(cli.cli, ["similar", *arguments, "-d", path])
            yield [done.stdout, done.stderr, done.exit_code]
        elif operation == "delete":
            done = CliRunner().invoke(cli.cli, ["collections", "delete", arguments[0], "-d", path])
            assert done.exit_code == 0, done.output
        elif operation == "migrate":  # up to a step, or all
            embeddings_migrations.apply(db, **({"stop_before": arguments[0]} if arguments else {}))
        elif operation == "transform":
            db["embeddings"].transform(**arguments[0])
        elif operation == "clock":  # what llm sees
            time.time = lambda moment=arguments[0]: moment
        elif operation == "vector":
            yield list(Words("words").embed_multi(arguments))[0]
        else:
            db.execute(arguments[0])
            db.conn.commit()
        db.close()

for line in sys.stdin:
    time.time = clock
    print(json.dumps(list(run(*json.loads(line)))), flush=True)
"""
# Operations of llm that answer, and how `annex` is asked the same.
QUESTIONS = [
    ["posts", "post/3"], ["posts", "post/4", "-n", "3"], ["posts", "Post/5", "-p", "-n", "4"],
    ["posts", "post/3", "--prefix", "POST/1"],
    ["posts", "post/3", "--prefix", "_ost%2", "-n", "50"],
    ["posts", "post/6", "-n", "-1"], ["posts", "post/6", "-n", "0"], ["tils", "til/7", "-p"],
    ["posts", "missing"], ["nobody", "x"], ["posts"], ["posts", "post/4", "-n", "3", "-c", "both"],
    ["posts", "post/4", "--binary", "--number=2", "--plain"],
]


class Database:
    """A database of llm, with both programs to write and ask it."""

    def __init__(self, path, process):
        self.path = path
        self.process = process

    def llm(self, *operations):
        """Runs operations in a process that has started llm once, which takes a second."""
        self.process.stdin.write(json.dumps([str(self.path), operations]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def annex(self, *arguments):
        done = subprocess.run([COMMAND, *map(str, arguments)], text=True, capture_output=True,
                              timeout=60)
        return [done.stdout, done.stderr, done.returncode]

    def similar(self, *arguments):
        """What the command says but for its remark that an index is stale, which llm has not."""
        stdout, stderr, code = self.annex("similar", *arguments, "-d", self.path)
        said = [line for line in stderr.splitlines(True) if not line.startswith("annex: index")]
        return [stdout, "".join(said), code]

    def agrees(self, *questions):
        """Both programs say the same, and so do they after a sync, which leaves a sound index."""
        questions = questions or QUESTIONS
        expected = self.llm(*(["similar", *question] for question in questions))
        for when in ("before", "after"):
            for question, answer in zip(questions, expected):
                assert self.similar(*question) == answer, (when, question)
            if when == "before":
                state = self.state()
                assert self.annex("sync", self.path)[2] == 0
        assert self.state() == "fresh"
        assert self.annex("check", self.path)[2] == 0
        with sqlite3.connect(self.path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return state

    def state(self):
        stdout, _, code = self.annex("list", self.path, "--json")
        assert code == 0
        return json.loads(stdout)[0]["state"]

    def rows(self, sql):
        with sqlite3.connect(self.path) as db:
            return db.execute(sql).fetchall()


def items(name, n, text="text"):
    return [[f"{name[0].upper() if i % 5 == 0 else name[0]}{name[1:]}/{i}",
             f"{text} {i}\n\n \u2028 \u00e9 \U0001f600 \"{i}\""] for i in range(n)]


@pytest.fixture(scope="session")
def process():
    """llm, waiting for operations."""
    python = find_program("python")
    if subprocess.run([python, "-c", "import llm"], capture_output=True).returncode != 0:
        pytest.skip("llm is not installed")
    process = subprocess.Popen([python, "-c", LLM], text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    yield process
    process.stdin.close()
    assert process.wait(timeout=60) == 0


@pytest.fixture(scope="session")
def filled(tmp_path_factory, process):
    """Two collections of one model and one of another, written by llm."""
    database = Database(tmp_path_factory.mktemp("llm") / "embeddings.db", process)
    database.llm(["embed", "posts", "words", items("post", 120)],
                 ["embed", "tils", "words", items("til", 60)],
                 ["embed", "odd", "others", items("odd", 20)])
    return database


@pytest.fixture
def database(tmp_path, filled):
    path = tmp_path / "embeddings.db"
    path.write_bytes(filled.path.read_bytes())
    database = Database(path, filled.process)
    created = database.annex("create", path, "idx", "--llm-collection", "posts", "--llm-collection",
                             "tils", "--default")
    assert created[2] == 0, created
    return database


def test_similar_prints_what_llm_prints(database):
    assert database.agrees() == "fresh"


def test_similar_prints_what_llm_prints_without_an_index(database):
    assert database.annex("drop", database.path, "idx")[2] == 0
    expected = database.llm(*(["similar", *question] for question in QUESTIONS))
    assert [database.similar(*question) for question in QUESTIONS] == expected


def test_similar_takes_the_vector_that_llm_would_embed(database):
    vector, expected = database.llm(["vector", "a question"],
                                    ["similar", "posts", "-c", "a question"])
    assert database.similar("posts", "--vector", json.dumps(vector)) == expected


def test_similar_writes_metadata_as_python_does(database):
    values = ['{"a": 1.0, "b": [1e5, 1e16, 1E-7, -0.0, 0.1, 123456789012345678901234567890, -0]}',
              '  {"x" :"\\u00e9\\ud83d\\ude00\\/\\b\\f\\n", "\\u007f": [ ] , "y":{ } }', "[1,2]",
              '"text \u00e9"', "3", "0", "0.5", "null", "false", "{}", "[]", '""', ""]
    with sqlite3.connect(database.path) as db:
        for i, value in enumerate(values):
            db.execute("UPDATE embeddings SET metadata = ?, content = ? WHERE id = ?",
                       (value, ["", " \n", "a\r\nb\x0b\x1c \u2028\u00a0\nc", "\t"][i % 4],
                        f"{'P' if i % 5 == 0 else 'p'}ost/{i}"))
    database.agrees(["posts", "post/101", "-n", "-1"], ["posts", "post/101", "-n", "-1", "-p"])


# ---- what happens without a word -----------------------------------------------------------------


def test_an_item_that_is_embedded_again_is_found_where_it_is_now(database):
    """INSERT OR REPLACE: the row gets another rowid."""
    before = database.rows("SELECT rowid FROM embeddings WHERE id = 'post/3'")
    database.llm(["embed", "posts", "words", [["post/3", "something else"], ["post/9", "new"]]])
    assert database.rows("SELECT rowid FROM embeddings WHERE id = 'post/3'") != before
    assert database.agrees() == "delta"


def test_a_replace_without_recursive_triggers_is_seen(database):
    """sqlite-utils turns them on; other programs do not, and no delete is logged for them."""
    with sqlite3.connect(database.path) as db:
        assert db.execute("PRAGMA recursive_triggers").fetchone() == (0,)
        db.execute("INSERT OR REPLACE INTO embeddings(collection_id, id, embedding) "
                   "SELECT collection_id, id, (SELECT embedding FROM embeddings "
                   " WHERE id = 'til/9') "
                   "FROM embeddings WHERE id IN ('post/3', 'post/4')")
    assert database.agrees() == "delta"


def test_deleted_items_and_collections_leave_no_trace_but_in_the_log(database):
    database.llm(["sql", "DELETE FROM embeddings WHERE id LIKE 'post/1%' AND collection_id = 1"])
    assert database.agrees() == "delta"
    database.llm(["delete", "tils"])
    assert database.agrees() == "stale"
    assert database.similar("tils", "til/7") == ["", "Error: Collection does not exist\n", 1]


def test_changes_within_one_second_are_all_seen(database):
    """`updated` has seconds: it is the same for all of these."""
    database.llm(["clock", 1_700_000_000], ["embed", "posts", "words", [["post/3", "first"]]])
    assert database.agrees() == "delta"
    database.llm(["clock", 1_700_000_000], ["embed", "posts", "words", [["post/3", "second"]]])
    assert database.rows("SELECT updated FROM embeddings WHERE id = 'post/3'") == [(1700000000,)]
    assert database.agrees() == "delta"


def test_a_clock_that_goes_back_hides_nothing(database):
    database.llm(["clock", 1], ["embed", "posts", "words", [["post/3", "long ago"], ["z", "z"]]])
    assert database.agrees() == "delta"


def test_a_number_that_is_used_again_is_another_collection(database):
    """The number of the newest collection goes to the next one after it was deleted."""
    number = "SELECT id FROM collections WHERE name = '%s'"
    database.llm(["delete", "odd"], ["embed", "last", "words", items("post", 30, "of last")])
    assert database.annex("create", database.path, "last-idx", "--llm-collection", "last",
                          "--default")[2] == 0
    before = database.rows(number % "last")
    database.llm(["delete", "last"], ["embed", "next", "words", items("post", 30, "of next")])
    assert database.rows(number % "next") == before
    questions = [["last", "post/3"], ["next", "post/3"], *QUESTIONS]
    database.agrees(*questions)
    database.llm(["embed", "last", "words", items("post", 20, "of last again")])
    assert database.rows(number % "last") != before
    database.agrees(*questions)


def test_a_collection_of_another_model_is_not_mixed_in(database):
    database.llm(["delete", "tils"], ["embed", "tils", "others", items("til", 60)])
    refused = database.annex("sync", database.path, "idx.tils")
    assert refused[2] == 1 and "embedded with the model others now" in refused[1]
    assert database.annex("create", database.path, "bad", "--llm-collection", "posts",
                          "--llm-collection", "tils")[2] == 1


@pytest.mark.parametrize("change", [{}, {"drop": ["content_blob"]}, {"column_order": ["id"]}],
                         ids=str)
def test_a_transform_drops_the_triggers_and_the_index_says_so(database, change):
    triggers = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'"
    assert database.rows(triggers) == [(6,)]
    database.llm(["transform", change],
                 ["sql", "DELETE FROM embeddings WHERE id IN ('post/8', 'til/8')"])
    assert database.rows(triggers) == [(0,)]
    if change.get("drop") != ["content_blob"]:  # llm adds it again when it is asked
        assert database.agrees() == "stale"
    database.annex("sync", database.path)
    assert database.rows(triggers) == [(6,)]
    assert database.agrees() == "fresh"


@pytest.mark.parametrize("step", ["m002_foreign_key", "m003_add_updated", "m004_store_content_hash",
                                  "m005_add_content_blob"])
def test_a_database_of_an_older_llm_is_indexed_and_migrated(tmp_path, filled, step):
    """The migrations transform the table, which drops triggers; the next llm runs them."""
    database = Database(tmp_path / "embeddings.db", filled.process)
    database.llm(["migrate", step])
    with sqlite3.connect(database.path) as db:
        db.execute("ATTACH ? AS new", (str(filled.path),))
        db.execute("INSERT INTO collections SELECT * FROM new.collections")
        db.execute("INSERT INTO embeddings(collection_id, id, embedding, content, metadata) "
                   "SELECT collection_id, id, embedding, content, metadata FROM new.embeddings")
    database.annex("create", database.path, "idx", "--llm-collection", "posts", "--llm-collection",
                   "tils", "--default")
    before = [database.similar(*question) for question in QUESTIONS]
    database.llm(["embed", "odd", "others", [["x", "y"]]])  # and with it the migrations
    assert [database.similar(*question) for question in QUESTIONS] == before
    assert database.agrees() in ("stale", "fresh")
    database.llm(["embed", "posts", "words", [["post/3", "after the migration"]]])
    assert database.agrees() == "delta"


def test_vacuum_changes_nothing(database):
    """The table has no integer key of its own: rowids may be renumbered."""
    database.llm(["sql", "DELETE FROM embeddings WHERE id LIKE 'post/2%'"])
    with sqlite3.connect(database.path, isolation_level=None) as db:
        db.execute("VACUUM")
    assert database.agrees() == "delta"


def test_other_collections_are_written_to_without_a_note(database):
    database.llm(["embed", "odd", "others", items("odd", 40, "new")], ["delete", "odd"],
                 ["embed", "more", "words", items("post", 40, "more")])
    assert database.agrees() == "fresh"


def test_new_items_are_found_by_sql_before_the_sync(database):
    database.llm(["embed", "posts", "words", [["the new one", "never seen"]]])
    rows = with_annex(database.path, """
        SELECT source, key2 FROM annex_search('idx', (SELECT embedding FROM embeddings
                                                       WHERE id = 'the new one'), 1)""")
    assert rows == [("posts", "the new one")]
    assert os.path.exists(database.path)
