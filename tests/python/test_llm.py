"""The plug-in for llm: what `llm similar` and `Collection.similar*` answer by an index is compared
with what llm answers itself, to the last digit; and `llm index` from beginning to end."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import annex

llm = pytest.importorskip("llm")
sqlite_utils = pytest.importorskip("sqlite_utils")
from click.testing import CliRunner  # noqa: E402

from annex import llm_similar  # noqa: E402
from annex.__main__ import find_command  # noqa: E402
from conftest import ROOT  # noqa: E402

DIMENSION = 12
OWN = llm.Collection.similar_by_vector  # llm's, unless the plug-in has been there
llm_similar.install()
OWN = getattr(OWN.__wrapped__, "__wrapped__", OWN) if hasattr(OWN, "__wrapped__") else OWN

# Runs commands of llm, a JSON array of argument lists on standard input; prints for each what it
# said, and how many questions an index has answered.
DRIVER = """
import json, random, sys
import llm
from click.testing import CliRunner
from llm.plugins import pm

class Words(llm.EmbeddingModel):
    def __init__(self, model_id):
        self.model_id = model_id
    def embed_batch(self, items):
        for item in items:
            numbers = random.Random(self.model_id + repr(item))
            yield [numbers.gauss(0, 1) for _ in range(%d)]

class Plugin:
    @llm.hookimpl
    def register_embedding_models(self, register):
        register(Words("words"))
        register(Words("others"))

pm.register(Plugin(), name="words")
from llm import cli
answered = []
if "annex.llm_similar" in sys.modules:
    from annex import llm_similar
    by_index = llm_similar._by_index
    def counted(question):
        found = by_index(question)
        answered.append(found is not None)
        return found
    llm_similar._by_index = counted
    if sys.argv[1] == "command":
        llm_similar._has_functions = lambda connection: False
said = []
for arguments in json.load(sys.stdin):
    done = CliRunner().invoke(cli.cli, arguments)
    said.append([done.stdout, done.stderr, done.exit_code])
print(json.dumps([said, sum(answered)]))
""" % DIMENSION

loads_extensions = pytest.mark.skipif(
    not hasattr(sqlite3.Connection, "enable_load_extension"),
    reason="this sqlite3 cannot load extensions",
)
ROUTES = [pytest.param("sql", marks=loads_extensions), "command"]

QUESTIONS = [
    ["posts", "post/3"], ["posts", "post/4", "-n", "3"], ["posts", "Post/5", "-p", "-n", "4"],
    ["posts", "post/3", "--prefix", "POST/1"], ["posts", "post/3", "--prefix", "_ost%2"],
    ["posts", "post/6", "-n", "500"], ["tils", "til/7", "-p"], ["posts", "-c", "a question"],
    ["posts", "-c", "a question", "--prefix", "post/11", "-n", "50"],
]
NOT_BY_INDEX = [
    ["posts", "post/6", "-n", "-1"], ["posts", "post/6", "-n", "0"], ["odd", "odd/1"],
    ["posts", "missing"], ["nobody", "x"], ["posts"],
]


def vector_of(numbers):
    return [numbers.gauss(0, 1) for _ in range(DIMENSION)]


def fill(db, name, n, model="words", twins=False):
    """A collection as llm would write it: ids in two cases, metadata, every third with content."""
    numbers = random.Random(name)
    db["collections"].insert({"name": name, "model": model})
    number = db.execute("SELECT id FROM collections WHERE name = ?", [name]).fetchone()[0]
    same = vector_of(numbers)
    word = name.rstrip("s")
    db["embeddings"].insert_all(
        {
            "collection_id": number,
            "id": f"{word.capitalize() if i % 5 == 0 else word}/{i}",
            "embedding": llm.encode(same if twins and i % 2 else vector_of(numbers)),
            "content": f"text {i} \u00e9 \u2028" if i % 3 == 0 else None,
            "metadata": json.dumps({"n": i, "kind": "ab"[i % 2]}) if i % 4 else None,
            "updated": 0,
        }
        for i in range(n)
    )


@pytest.fixture
def path(tmp_path):
    """A database of llm with two collections of one model and one of another."""
    path = tmp_path / "embeddings.db"
    db = sqlite_utils.Database(path)
    from llm.embeddings_migrations import embeddings_migrations

    embeddings_migrations.apply(db)
    fill(db, "posts", 150)
    fill(db, "tils", 60)
    fill(db, "odd", 20, "others")
    db.close()
    return path


@pytest.fixture
def indexed(path):
    make(path, "idx", "posts", "tils", default=True)
    return path


def make(path, name, *collections, default=False, **options):
    sources = [word for collection in collections for word in ("--llm-collection", collection)]
    extra = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    run = ["create", path, name, *sources, *extra, "--quiet", *(["--default"] if default else [])]
    done = subprocess.run([find_command(), *map(str, run)], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr


def ask(path, questions, route="sql", plugins="annex", command="similar"):
    """What `llm similar` says to each question, and how many were answered by an index."""
    words = [[command, *question, "-d", str(path)] for question in questions]
    done = subprocess.run([sys.executable, "-c", DRIVER, route], text=True, capture_output=True,
                          input=json.dumps(words), timeout=120,
                          env=dict(os.environ, LLM_LOAD_PLUGINS=plugins))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def collection(path, name="posts"):
    return llm.Collection(name, sqlite_utils.Database(path), create=False)


def own(posts, vector, number=10, **more):
    return OWN(posts, vector, number, **more)


@pytest.fixture
def answered(monkeypatch):
    """A list that tells for each question whether an index answered it."""
    by_index, log = llm_similar._by_index, []

    def counted(question):
        found = by_index(question)
        log.append(found is not None)
        return found

    monkeypatch.setattr(llm_similar, "_by_index", counted)
    return log


def use(route, monkeypatch):
    if route == "command":
        monkeypatch.setattr(llm_similar, "_has_functions", lambda connection: False)


# ---- the same as llm -----------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
def test_the_command_says_what_llm_says__fresh_changed_and_stale(indexed, route):
    questions = QUESTIONS + NOT_BY_INDEX
    n = len(QUESTIONS) + (route == "command")  # which compares the items of odd, too
    expected, _ = ask(indexed, questions, plugins="")
    assert ask(indexed, questions, route) == [expected, n]

    db = sqlite_utils.Database(indexed)
    with db.conn:
        db.execute("DELETE FROM embeddings WHERE id LIKE 'post/1_' AND id <> 'post/14'")
        db.execute("INSERT OR REPLACE INTO embeddings(collection_id, id, embedding) "
                   "SELECT 1, 'post/3', embedding FROM embeddings WHERE id = 'til/9'")
    changed, _ = ask(indexed, questions, plugins="")
    assert changed != expected
    assert ask(indexed, questions, route) == [changed, n]

    db["embeddings"].transform()  # drops the triggers
    db.execute("DELETE FROM embeddings WHERE id = 'post/14'")
    db.conn.commit()
    stale, _ = ask(indexed, questions, plugins="")
    assert ask(indexed, questions, route) == [stale, n]


def test_the_command_says_what_llm_says__without_an_index(path):
    questions = QUESTIONS + NOT_BY_INDEX
    expected, _ = ask(path, questions, plugins="")
    assert ask(path, questions) == [expected, 0]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", ["flat", "graph"])
def test_vectors_are_answered_as_llm_does(path, route, kind, answered, monkeypatch):
    use(route, monkeypatch)
    make(path, "idx", "posts", default=True, index=kind)
    posts, numbers = collection(path), random.Random(5)
    for i in range(10):
        vector = vector_of(numbers)
        more = [{}, {"skip_id": "post/3"}, {"prefix": "post/1"}][i % 3]
        expected = own(posts, vector, 1 + 7 * i, **more)
        assert posts.similar_by_vector(vector, 1 + 7 * i, **more) == expected
    assert all(answered) and len(answered) == 10


@loads_extensions
def test_items_of_one_score_come_in_the_order_of_llm__however_many(path, answered):
    db = sqlite_utils.Database(path)
    fill(db, "twins", 400, twins=True)
    make(path, "twins-idx", "twins", default=True)
    twins = collection(path, "twins")
    vector = llm.decode(db.execute("SELECT embedding FROM embeddings WHERE id = 'twin/1'")
                        .fetchone()[0])
    for number in (1, 10, 199, 200, 201, 399, 400, 500):
        assert twins.similar_by_vector(vector, number) == own(twins, vector, number)
        assert twins.similar_by_id("twin/1", number) == own(twins, vector, number, skip_id="twin/1")
    assert all(answered)


@loads_extensions
def test_what_is_not_committed_is_found_on_its_connection(indexed, answered):
    posts = collection(indexed)
    vector = vector_of(random.Random(1))
    posts.db.conn.execute("INSERT INTO embeddings(collection_id, id, embedding) VALUES (1, ?, ?)",
                          ("new", llm.encode(vector)))
    assert posts.similar_by_vector(vector, 1)[0].id == "new"
    assert answered == [True]


def test_without_extensions_what_is_not_committed_is_left_to_llm(indexed, answered, monkeypatch):
    use("command", monkeypatch)
    posts = collection(indexed)
    vector = vector_of(random.Random(1))
    posts.db.conn.execute("INSERT INTO embeddings(collection_id, id, embedding) VALUES (1, ?, ?)",
                          ("new", llm.encode(vector)))
    assert posts.similar_by_vector(vector, 1)[0].id == "new"
    assert answered == [False]


@loads_extensions
def test_databases_in_memory_have_indexes_too(answered):
    db = sqlite_utils.Database(memory=True)
    with pytest.raises(llm.Collection.DoesNotExist):
        llm.Collection("none", db, create=False)
    fill(db, "posts", 50)
    annex.load(db)
    db.execute("""SELECT annex_create('idx', 'embeddings', 'embedding',
                  '{"llm_collection": "posts", "default": true}')""").fetchone()
    posts = llm.Collection("posts", db, create=False)
    assert posts.similar_by_id("post/3") == own(
        posts, llm.decode(db.execute("SELECT embedding FROM embeddings WHERE id = 'post/3'")
                          .fetchone()[0]), skip_id="post/3")
    assert answered == [True]


# ---- conditions ----------------------------------------------------------------------------------

WHERES = {
    "1": lambda i: True,
    "json_extract(metadata, '$.kind') = 'a'": lambda i: i % 4 and i % 2 == 0,
    "metadata IS NULL -- none": lambda i: i % 4 == 0,
    "json_extract(metadata, '$.n') < 10 OR id = 'post/77'": lambda i: i % 4 and (i < 10 or i == 77),
    "content LIKE '%text 3%' AND embeddings.updated = 0":
        lambda i: i % 3 == 0 and str(i).startswith("3"),
    "id = 'post/149'": lambda i: i == 149,
    "0": lambda i: False,
}


@pytest.mark.parametrize("route", [*ROUTES, "no index"])
@pytest.mark.parametrize("where", WHERES, ids=range(len(WHERES)))
def test_only_items_under_the_condition_are_found(path, where, route, answered, monkeypatch):
    if route != "no index":
        make(path, "idx", "posts", default=True)
        use(route, monkeypatch)
    monkeypatch.setattr(llm_similar, "_FILTERED_ROWS", 20)
    posts = collection(path)
    vector = vector_of(random.Random(8))
    everything = own(posts, vector, -1)
    fulfils = WHERES[where]
    for number in (1, 5, 200, -1):
        right = [entry for entry in everything if fulfils(int(entry.id[5:]))]
        right = right[:number] if number >= 0 else right
        assert posts.similar_by_vector(vector, number, where=where) == right
    assert answered[:3] == [route == "sql"] * 3


@loads_extensions
def test_conditions_and_prefixes_go_together(indexed, answered):
    posts = collection(indexed)
    where = "json_extract(metadata, '$.n') % 2 = 1"
    found = posts.similar_by_id("post/3", 7, "post/1", where=where)
    entries = posts.similar_by_id("post/3", 500)
    assert found == [entry for entry in entries if entry.id.lower().startswith("post/1")
                     and entry.metadata and entry.metadata["n"] % 2][:7]


# ---- which index ---------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
def test_an_index_is_chosen_for_a_question(path, route, capfd, answered, monkeypatch):
    use(route, monkeypatch)
    llm_similar._say_once.cache_clear()
    make(path, "first", "posts")
    make(path, "both", "posts", "tils")
    posts = collection(path)
    vector = vector_of(random.Random(2))
    expected = own(posts, vector)
    assert posts.similar_by_vector(vector) == expected  # no default
    for name in ("first", "both"):
        assert posts.similar_by_vector(vector, index=name) == expected
    assert posts.similar_by_vector(vector, index="first", recall=0.5) == expected  # flat: exact
    assert answered[1:] == [True] * 3
    with pytest.raises(annex.NotFoundError, match="no index"):
        posts.similar_by_vector(vector, index="third")
    with pytest.raises(ValueError, match="the recall is 7"):
        posts.similar_by_vector(vector, recall=7)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("route", ROUTES)
def test_an_index_that_cannot_answer_is_said_once_where_it_was_asked_for(
    indexed, route, capfd, answered, monkeypatch
):
    use(route, monkeypatch)
    llm_similar._say_once.cache_clear()
    posts = collection(indexed)
    short = [1.0, 2.0, 3.0]
    expected = own(posts, short)
    assert posts.similar_by_vector(short) == expected
    silent = capfd.readouterr().err
    assert silent == ""
    for _ in range(2):
        assert posts.similar_by_vector(short, index="idx") == expected
    said = capfd.readouterr().err
    if not all(answered):  # the command compares vectors of any length, as llm does
        assert answered == [False] * 3
        assert said == ("annex: the vector to compare with has 3 dimensions, and index idx.posts "
                        "has 12; llm compares with every item itself\n")


def test_vectors_that_have_no_score_are_left_to_llm(indexed, answered):
    posts = collection(indexed)
    with pytest.raises(sqlite3.OperationalError, match="raised exception"):  # as llm divides by 0
        posts.similar_by_vector([0.0] * DIMENSION)
    far = [1e300] + [0.0] * (DIMENSION - 1)
    assert posts.similar_by_vector(far) == own(posts, far)
    assert answered == [False, False]


@loads_extensions
def test_the_options_of_similar(indexed):
    said, answered = ask(indexed, [
        ["posts", "post/3", "--where", "json_extract(metadata, '$.n') = 9", "--index", "idx"],
        ["posts", "post/3", "--where", "no_such_column = 9"],
        ["posts", "post/3", "--index", "nothing"],
        ["posts", "post/3", "-n", "2", "--recall", "0.9"],
        ["posts", "post/3", "--recall", "7"],
        ["posts", "post/3", "--recall", "0"],
    ])
    assert [json.loads(line)["id"] for line in said[0][0].splitlines()] == ["post/9"]
    assert said[1] == ["", "Error: no such column: no_such_column\n", 1]
    assert said[2] == ["", "Error: collection posts has no index nothing; llm index list shows"
                       " the indexes there are\n", 1]
    assert said[3][2] == 0 and said[3][0].count("\n") == 2
    for usage in said[4:]:
        assert usage[2] == 2 and "Invalid value for '--recall'" in usage[1]
    assert answered == 2


# ---- llm index -----------------------------------------------------------------------------------


@pytest.fixture
def llm_index(path, capfd, monkeypatch):
    """Runs `llm index` on the database; gives what it printed."""
    from llm.cli import cli

    def run(*arguments, code=0, path=path):
        monkeypatch.setenv("LLM_EMBEDDINGS_DB", str(path))
        capfd.readouterr()
        done = CliRunner().invoke(cli, ["index", *map(str, arguments)])
        said = "".join(capfd.readouterr())
        assert done.exit_code == code, done.output + said
        return done.output + said

    return run


def states(llm_index):
    return {index["name"]: index["state"] for index in json.loads(llm_index("list", "--json"))}


def test_indexes_are_made_kept_and_deleted(path, llm_index):
    llm_index("create", "writing", "posts", "tils", "--default", "--quiet")
    llm_index("copy", "writing", "trial", "--kind", "graph", "--quiet")
    listed = {index["name"]: index for index in json.loads(llm_index("list", "--json"))}
    assert listed["writing"]["rows"] == 210 and listed["trial"]["family"] == "graph"
    assert "writing" in llm_index("default")
    llm_index("default", "trial")
    assert "writing" not in llm_index("default")
    compared = json.loads(llm_index("compare", "posts", "--queries", 5, "--json"))
    assert {row["index"] for row in compared} == {"writing.posts", "trial.posts"}

    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM embeddings WHERE id LIKE 'post/1%'")
    assert states(llm_index)["writing.posts"] == "delta"
    llm_index("build", "writing")
    assert states(llm_index)["writing.posts"] == "fresh"
    assert states(llm_index)["trial.posts"] == "delta"
    llm_index("build", "--merge")
    assert set(states(llm_index).values()) == {"fresh"}
    llm_index("check")
    llm_index("rename", "trial", "graph")
    llm_index("delete", "graph")
    llm_index("drop", "writing")
    assert states(llm_index) == {}


def test_what_cannot_be_done_is_said_with_the_exit_code_of_the_command(path, llm_index):
    for wrong in ("--kind", "--recall", "--codes", "--storage"):
        said = llm_index("create", "a", "posts", wrong, "9", code=2)
        assert f"Invalid value for '{wrong}'" in said
    assert "odd" in llm_index("create", "all", "posts", "odd", code=1)
    assert "no index" in llm_index("delete", "missing", code=3)
    llm_index("create", "all", code=2)
    missing = Path(str(path) + "2")
    llm_index("list", path=missing, code=3)
    assert not missing.exists()


def test_a_new_default_is_used_at_once(path, llm_index, answered, monkeypatch):
    asked = []
    find = llm_similar._find_index
    monkeypatch.setattr(llm_similar, "_find_index", lambda question: asked.append(find(question))
                        or asked[-1])
    llm_index("create", "first", "posts", "--default", "--quiet")
    llm_index("create", "second", "posts", "tils", "--kind", "graph", "--quiet")
    posts = collection(path)
    expected = posts.similar_by_id("post/3")
    llm_index("default", "second")
    assert posts.similar_by_id("post/3") == expected
    llm_index("default", "second", "--off")
    assert posts.similar_by_id("post/3") == expected
    if answered[:2] == [True, True] and asked:
        assert [index and index.name for index in asked] == ["first", "second.posts", None]


# ---- indexes of other engines --------------------------------------------------------------------


@pytest.fixture
def engine():
    """The sample of examples/engine, which the build has made."""
    build = Path(os.environ.get("ANNEX_BUILD", ROOT / "build"))
    path = build / "examples" / "engine" / "engine-scan.so"
    if not path.exists():
        pytest.skip("the sample engine is not built")
    return path


@pytest.mark.parametrize("route", ROUTES)
def test_an_index_of_another_engine_answers_with_it_and_without_it(path, engine, route, llm_index):
    llm_index("create", "idx", "posts", "tils", "--default", "--quiet", "--engine", "scan",
              "--load-engine", engine)
    assert states(llm_index)["idx.posts"] == "stale"  # without it
    assert "needs the engine scan" in llm_index("build", code=1)
    with_it = ["--load-engine", str(engine)]
    listed = json.loads(llm_index("list", "--json", *with_it))
    assert {(index["family"], index["state"]) for index in listed} == {("scan", "fresh")}
    llm_index("check", *with_it)
    llm_index("build", *with_it)
    assert "scan" in llm_index("compare", "posts", "--queries", 5, *with_it)

    expected, _ = ask(path, QUESTIONS, plugins="")
    assert ask(path, QUESTIONS, route) == [expected, len(QUESTIONS)]
    loading = [[*question, *with_it] for question in QUESTIONS]
    assert ask(path, loading, route) == [expected, len(QUESTIONS)]
    no_engine = ask(path, [["posts", "post/3", "--load-engine", __file__]], route)
    assert no_engine[0][0][::2] == [expected[0][0], 0] and "cannot be loaded" in no_engine[0][0][1]


@loads_extensions
def test_engines_are_loaded_with_the_functions(path, engine, llm_index):
    llm_index("create", "idx", "posts", "--engine", "scan", "--load-engine", engine, "--quiet")
    db = sqlite3.connect(path)
    annex.load(db)
    state = "SELECT state FROM annex_indexes"
    assert db.execute(state).fetchone() == ("stale",)
    annex.load(db, [engine])
    annex.load(db, engines=[str(engine)])
    assert db.execute(state).fetchone() == ("fresh",)
    with pytest.raises(TypeError, match="as a list"):
        annex.load(db, engine)
    with pytest.raises(sqlite3.OperationalError, match="no engine"):
        annex.load(db, ["./nothing.so"])
    with pytest.raises(sqlite3.OperationalError, match="not authorized"):
        db.load_extension("nothing")  # it is off again
    db.close()


# ---- the tests of llm ----------------------------------------------------------------------------


@loads_extensions
def test_the_tests_of_llm_pass_with_a_default_index():
    """ANNEX_LLM_TESTS is the folder tests/ of llm's repository: its source distributions have
    none. Its conftest.py needs pytest-httpx and llm-echo."""
    folder = os.environ.get("ANNEX_LLM_TESTS")
    if not folder:
        pytest.skip("ANNEX_LLM_TESTS does not name the tests of llm")
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider",
         "-p", "llm_indexed", "test_embed.py", "test_embed_cli.py"],
        cwd=folder, capture_output=True, text=True, timeout=300,
        env=dict(os.environ, PYTHONPATH=here, LLM_LOAD_PLUGINS="annex"))
    assert done.returncode == 0, done.stdout
