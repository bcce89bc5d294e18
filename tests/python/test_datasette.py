"""The plug-in in a real Datasette, asked over HTTP while other processes change the rows."""

import asyncio
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

import annex
from annex.__main__ import find_command
from conftest import ROOT

pytest.importorskip("datasette")
from datasette.app import Datasette  # noqa: E402
from datasette.utils import StartupError  # noqa: E402

if not hasattr(sqlite3.Connection, "enable_load_extension"):
    pytest.skip("this sqlite3 cannot load extensions", allow_module_level=True)

ACTOR = """
from datasette import hookimpl

@hookimpl
def actor_from_request(request):
    name = request.headers.get("x-actor")
    return {"id": name} if name else None
"""


class Server:
    """Datasette in a process of its own."""

    def __init__(self, folder, *arguments, settings=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        (folder / "plugins").mkdir(exist_ok=True)
        (folder / "plugins" / "actor.py").write_text(ACTOR)
        (folder / "metadata.json").write_text(json.dumps(settings or {}))
        command = [sys.executable, "-m", "datasette", "serve", *map(str, arguments)]
        command += ["--port", str(port), "--plugins-dir", str(folder / "plugins")]
        command += ["--metadata", str(folder / "metadata.json")]
        log = folder / "datasette.log"  # a pipe that nobody reads fills up, and the server hangs
        with open(log, "w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        for _ in range(600):
            try:
                self.get("/-/versions.json")
                return
            except urllib.error.URLError:
                assert self.process.poll() is None, log.read_text()
                time.sleep(0.05)
        self.close()
        raise AssertionError("datasette does not answer")

    def text(self, path, actor=None, data=None, **parameters):
        url = self.url + path + ("?" if "?" not in path else "&")
        url += urllib.parse.urlencode(parameters)
        request = urllib.request.Request(url, data=data)
        if actor:
            request.add_header("x-actor", actor)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def get(self, path, **parameters):
        return json.loads(self.text(path, **parameters))

    def refusal(self, path, **parameters):
        """The status and the text of an answer that is an error."""
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.text(path, **parameters)
        return caught.value.code, caught.value.read().decode()

    def rows(self, sql, database="wordnet", **parameters):
        return self.get(f"/{database}.json", sql=sql, _shape="arrays", **parameters)["rows"]

    def similar(self, path, **parameters):
        """The words of the rows similar to one, and the first distance."""
        rows = self.get(f"{path}/-/similar.json", **parameters)["rows"]
        return [hit["row"]["word"] for hit in rows], rows[0]["distance"] if rows else None

    def close(self):
        self.process.terminate()
        self.process.communicate(timeout=30)


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(*arguments, **options):
        servers.append(Server(tmp_path, *arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def wordnet(tmp_path):
    return shutil.copyfile(ROOT / "examples" / "wordnet.db", tmp_path / "wordnet.db")


@pytest.fixture
def indexed(wordnet):
    subprocess.run([find_command(), "create", wordnet, "synsets_idx", "--table", "synsets",
                    "--vector", "embedding", "--metric", "cosine"], check=True,
                   stdout=subprocess.DEVNULL)
    return wordnet


def write(path, *statements):
    """Another process changes the database, without Annex."""
    script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1])\n"
    script += "for s in sys.argv[2:]: db.execute(s)\ndb.commit()"
    subprocess.run([sys.executable, "-c", script, str(path), *statements], check=True)


def settings(*tables, **more):
    return {"plugins": {"annex": {"tables": list(tables), **more}}}


SYNSETS = {"database": "wordnet", "table": "synsets", "metric": "cosine"}
GUITAR = "/wordnet/synsets/816"


@pytest.mark.parametrize("options", [[], ["-i"]], ids=["mutable", "immutable"])
def test_every_connection_has_the_functions(serve, indexed, options):
    server = serve(*options, indexed)
    assert server.rows("SELECT annex_version()") == [[annex.__version__]]
    assert server.rows("""SELECT word FROM annex_search('synsets_idx', (SELECT embedding
                          FROM queries WHERE id = 30), 2) JOIN synsets ON id = key
                       """) == [["lake"], ["shore"]]
    words, distance = server.similar(GUITAR)
    assert words[:3] == ["violin", "musician", "whip"] and 0.5 < distance < 0.6
    assert len(words) == 10 and "guitar" not in words
    assert server.get("/-/annex.json")["indexes"][0]["state"] == "fresh"


def test_answers_are_fresh_while_another_process_changes_rows(serve, indexed):
    write(indexed, "PRAGMA journal_mode = WAL")
    server = serve(indexed)
    assert server.similar(GUITAR)[0][0] == "violin"
    write(indexed, "DELETE FROM synsets WHERE word = 'violin'",
          "INSERT INTO synsets(word, embedding) SELECT 'new', embedding FROM synsets"
          " WHERE id = 816")
    words, distance = server.similar(GUITAR)
    assert words[0] == "new" and abs(distance) < 1e-6 and "violin" not in words
    index = server.get("/-/annex.json")["indexes"][0]
    assert (index["state"], index["delta_rows"]) == ("delta", 2)
    write(indexed, "UPDATE synsets SET embedding = (SELECT embedding FROM synsets"
                   " WHERE word = 'new') WHERE id = 1")
    assert server.similar(GUITAR)[1] == pytest.approx(0, abs=1e-6)
    first = server.rows("SELECT word FROM synsets WHERE id = 1")[0][0]
    assert set(server.similar(GUITAR)[0][:2]) == {"new", first}


def test_row_pages_lead_to_similar_rows_where_there_is_an_index(serve, indexed):
    server = serve(indexed)
    page = server.text(GUITAR)
    assert f'"{GUITAR}/-/similar"' in page and "Similar rows" in page
    assert "/-/similar" not in server.text("/wordnet/queries/1")
    assert "/-/similar" not in server.text("/wordnet/synsets")
    page = server.text(f"{GUITAR}/-/similar")
    assert 'href="/wordnet/synsets/727"' in page and "violin" in page and "synsets_idx" in page
    assert "embedding</th>" not in page
    assert 'href="/-/annex"' in page
    assert server.refusal("/wordnet/queries/1/-/similar.json")[0] == 404
    assert server.refusal("/wordnet/synsets/99999/-/similar")[0] == 404
    assert server.refusal("/wordnet/nothing/1/-/similar")[0] == 404
    assert server.refusal("/nothing/synsets/1/-/similar")[0] == 404
    code, text = server.refusal(f"{GUITAR}/-/similar", _size="many")
    assert code == 400 and "_size is many" in text
    assert len(server.similar(GUITAR, _size=3)[0]) == 3
    assert server.refusal(f"{GUITAR}/-/similar", _index="no")[0] == 404
    write(indexed, "UPDATE synsets SET embedding = NULL WHERE id = 816")
    code, text = server.refusal(f"{GUITAR}/-/similar")
    assert code == 404 and "no vector" in text


def test_the_settings_make_indexes_at_the_start_and_sync_them_at_the_next(serve, wordnet):
    server = serve(wordnet, settings=settings(SYNSETS, ["wordnet", "queries"]))
    found = {index["name"]: index for index in server.get("/-/annex.json")["indexes"]}
    assert found["synsets_embedding_idx"]["metric"] == "cosine"
    assert found["queries_embedding_idx"]["metric"] == "l2"
    assert server.similar(GUITAR)[0][0] == "violin"
    write(wordnet, "DELETE FROM synsets WHERE word = 'violin'")
    assert server.similar(GUITAR)[0][0] == "musician"
    server.close()
    server = serve(wordnet, settings=settings(SYNSETS))
    found = server.get("/-/annex.json")["indexes"]
    assert [index["state"] for index in found] == ["fresh"] * 2
    assert server.similar(GUITAR)[0][0] == "musician"


def test_the_settings_name_columns_keys_conditions_and_options(serve, wordnet):
    write(wordnet, "CREATE TABLE 'odd /%name'(a TEXT, b INTEGER, 'the vector' BLOB, word TEXT,"
                   " distance REAL, PRIMARY KEY (a, b))",
          "INSERT INTO 'odd /%name' SELECT pos || ',/', id, embedding, word, 7.5 FROM synsets")
    server = serve(wordnet, settings=settings(
        {"database": "wordnet", "table": "odd /%name", "column": "the vector", "key": ["a", "b"],
         "metric": "cosine", "index": "odd", "where": "b < 2000",
         "options": {"index": "graph", "recall": 0.99}}))
    index = server.get("/-/annex.json")["indexes"][0]
    assert (index["name"], index["keys"], index["family"]) == ("odd", "a, b", "graph")
    path = "/wordnet/odd+~2F~25name/noun~2C~2F,816"
    assert "/-/similar" in server.text(path)
    assert server.similar(path)[0][:2] == ["violin", "whip"]  # "musician" is row 2378
    hit = server.get(f"{path}/-/similar.json")["rows"][0]
    assert hit["row"]["distance"] == 7.5 and hit["distance"] < 1 and "the vector" not in hit["row"]
    page = server.text(f"{path}/-/similar")
    assert 'href="/wordnet/odd+~2F~25name/noun~2C~2F,727"' in page


def test_a_table_without_primary_key_has_similar_rows_by_rowid(serve, wordnet):
    write(wordnet, "CREATE TABLE plain(slug TEXT NOT NULL UNIQUE, word TEXT, embedding BLOB)",
          "INSERT INTO plain SELECT 's' || id, word, embedding FROM synsets WHERE id < 1000")
    server = serve(wordnet, settings=settings(
        {"database": "wordnet", "table": "plain", "metric": "cosine", "key": "slug"}))
    row = server.rows("SELECT rowid FROM plain WHERE word = 'guitar'")[0][0]
    assert server.similar(f"/wordnet/plain/{row}")[0][0] == "violin"
    hit = server.get(f"/wordnet/plain/{row}/-/similar.json")["rows"][0]
    page = server.text(f"/wordnet/plain/{row}/-/similar")
    assert f'href="/wordnet/plain/{hit["row"]["rowid"]}"' in page


def test_an_index_over_several_tables_serves_each(serve, wordnet):
    db = sqlite3.connect(wordnet)
    annex.load(db)
    db.execute("""SELECT annex_create('all', 'synsets', 'embedding', '{"metric": "cosine",
                  "where": "id < 2000", "sources": [{"table": "queries"}]}')""").fetchone()
    db.execute("SELECT annex_create('second', 'synsets', 'embedding')").fetchone()
    db.close()
    server = serve(wordnet)
    assert [index["name"] for index in server.get("/-/annex.json")["indexes"]] == [
        "all.queries", "all.synsets", "second"]
    answer = server.get(f"{GUITAR}/-/similar.json")
    assert answer["index"] == "all.synsets" and answer["indexes"] == ["all.synsets", "second"]
    assert [hit["row"]["word"] for hit in answer["rows"][:2]] == ["violin", "whip"]
    assert server.get("/wordnet/queries/30/-/similar.json")["index"] == "all.queries"
    # row 2378 is not in the first index
    assert server.get("/wordnet/synsets/2378/-/similar.json")["index"] == "second"
    assert server.get(f"{GUITAR}/-/similar.json", _index="second")["index"] == "second"
    assert "?_index=second" in server.text(f"{GUITAR}/-/similar")


def test_an_immutable_database_without_index_is_read_instead(serve, wordnet):
    before = wordnet.read_bytes()
    server = serve("-i", wordnet, settings=settings(SYNSETS))
    assert server.get("/-/annex.json")["indexes"] == []
    assert server.similar(GUITAR)[0][:3] == ["violin", "musician", "whip"]
    assert server.get(f"{GUITAR}/-/similar.json")["exact"] is True
    assert "reading all rows" in server.text(f"{GUITAR}/-/similar")
    assert wordnet.read_bytes() == before


def test_the_tables_of_datasette_faiss_are_honoured_and_not_written(serve, wordnet):
    tables = {"plugins": {"datasette-faiss": {"tables": [["wordnet", "synsets"]]}}}
    before = wordnet.read_bytes()
    server = serve(wordnet, settings=tables)
    ask = """SELECT faiss_search('wordnet', 'synsets',
                                 (SELECT embedding FROM synsets WHERE id = 816), 2)"""
    assert server.rows(ask) == [["[816, 727]"]]
    assert server.similar(GUITAR)[0][0] == "violin"
    assert wordnet.read_bytes() == before
    write(wordnet, "DELETE FROM synsets WHERE id = 727")
    assert server.rows(ask) == [["[816, 2378]"]]
    assert server.similar(GUITAR)[0][0] == "musician"


@pytest.mark.parametrize("tables, text", [
    ([["wordnet", "nothing"]], "annex: the database wordnet has no table nothing"),
    ([["other", "synsets"]], "annex: there is no database other"),
    ([{**SYNSETS, "column": "vector"}], "the table synsets of the database wordnet has no column"),
    ([{**SYNSETS, "colour": 1}], "colour is not known"),
    ([{"table": "synsets"}], "names no database and table"),
    ([{"database": "wordnet", "table": "plain"}], "the table plain has no key that stays the same"),
    ([{**SYNSETS, "metric": "l3"}], "l3"),
    ([{**SYNSETS, "column": "gloss"}], "gloss"),
    ([{**SYNSETS, "key": 5}], "key is 5; it is the name of a column"),
    ([{**SYNSETS, "options": [1]}], "options is [1]; it is an object"),
    (["synsets"], '"synsets" names no database and table'),
])
def test_settings_that_are_wrong_end_the_start_with_one_sentence(wordnet, tables, text):
    write(wordnet, "CREATE TABLE plain AS SELECT word, embedding FROM synsets LIMIT 9")
    server = Datasette([str(wordnet)], metadata=settings(*tables))
    with pytest.raises(StartupError, match=re.escape(text)):
        asyncio.run(server.invoke_startup())


@pytest.mark.parametrize("plugin, text", [
    ({"tables": SYNSETS}, "plugins.annex.tables is an array"),
    ({"engines": "./engine-scan.so"}, "plugins.annex.engines is an array"),
])
def test_settings_of_another_type_end_the_start_with_one_sentence(wordnet, plugin, text):
    server = Datasette([str(wordnet)], metadata={"plugins": {"annex": plugin}})
    with pytest.raises(StartupError, match=re.escape(text)):
        asyncio.run(server.invoke_startup())


def test_the_engines_of_the_settings_are_loaded_by_every_connection(serve, wordnet):
    build = Path(os.environ.get("ANNEX_BUILD", ROOT / "build"))
    engine = build / "examples" / "engine" / "engine-scan.so"
    if not engine.exists():
        pytest.skip("the sample engine is not built")
    table = {**SYNSETS, "options": {"engine": "scan"}}
    server = serve(wordnet, settings=settings(table, engines=[str(engine)]))
    rows = server.rows("SELECT family, state FROM annex_indexes")
    assert rows == [["scan", "fresh"]]
    assert server.similar(GUITAR)[0][:2] == ["violin", "musician"]


def test_an_empty_table_waits_for_its_vectors(serve, wordnet):
    write(wordnet, "CREATE TABLE later(id INTEGER PRIMARY KEY, word TEXT, embedding BLOB)")
    later = {"database": "wordnet", "table": "later"}
    server = serve(wordnet, settings=settings(later))
    assert server.get("/-/annex.json")["indexes"] == []
    write(wordnet, "INSERT INTO later SELECT id, word, embedding FROM synsets WHERE id > 700")
    assert server.similar("/wordnet/later/816")[0][0] == "violin"
    server.close()
    server = serve(wordnet, settings=settings(later))
    assert server.get("/-/annex.json")["indexes"][0]["rows"] > 2000


def test_the_page_of_indexes_shows_states_and_syncs_for_who_may(serve, indexed):
    server = serve(indexed)
    write(indexed, "DELETE FROM synsets WHERE id < 4")
    page = server.text("/-/annex")
    assert "synsets_idx" in page and "delta" in page and "/-/annex/sync" not in page
    body = urllib.parse.urlencode({"database": "wordnet", "index": "synsets_idx"}).encode()
    assert server.refusal("/-/annex/sync", data=body)[0] == 403
    assert server.refusal("/-/annex/sync", data=body, actor="somebody")[0] == 403
    assert 'value="Sync"' in server.text("/-/annex", actor="root")
    server.text("/-/annex/sync", data=body, actor="root")
    index = server.get("/-/annex.json")["indexes"][0]
    assert (index["state"], index["delta_rows"], index["rows"]) == ("fresh", 0, 3491)
    other = urllib.parse.urlencode({"database": "wordnet", "index": "no"}).encode()
    assert server.refusal("/-/annex/sync", data=other, actor="root")[0] == 404
    assert server.refusal("/-/annex/sync", actor="root")[0] == 405


def test_permissions_of_tables_hold(serve, indexed):
    hidden = {"databases": {"wordnet": {"tables": {"synsets": {"allow": {"id": "root"}}}}},
              "plugins": {"annex": {"allow_sync": {"id": "editor"}}}}
    server = serve(indexed, settings=hidden)
    assert server.refusal(f"{GUITAR}/-/similar")[0] == 403
    assert server.refusal(f"{GUITAR}/-/similar.json")[0] == 403
    assert server.get("/-/annex.json")["indexes"] == []
    assert "synsets" not in server.text("/-/annex")
    assert server.get(f"{GUITAR}/-/similar.json", actor="root")["rows"]
    body = urllib.parse.urlencode({"database": "wordnet", "index": "synsets_idx"}).encode()
    assert server.refusal("/-/annex/sync", data=body, actor="root")[0] == 403
    assert server.refusal("/-/annex/sync", data=body, actor="editor")[0] == 404


def test_the_time_limit_stops_the_search_for_similar_rows(serve, wordnet):
    write(wordnet, "CREATE TABLE long(id INTEGER PRIMARY KEY, embedding BLOB)",
          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
          " INSERT INTO long(embedding) SELECT zeroblob(6144) FROM n")
    server = serve("-i", wordnet, "--setting", "sql_time_limit_ms", "20",
                   settings=settings({"database": "wordnet", "table": "long"}))
    start = time.monotonic()
    code, text = server.refusal("/wordnet/long/7/-/similar.json")
    assert code == 400 and "SQL query took too long" in json.loads(text)["error"]
    assert time.monotonic() - start < 5
    code, text = server.refusal("/wordnet/long/7/-/similar")
    assert code == 400 and "SQL query took too long" in text


SHIM = """
from annex import decode, encode
"""


def test_the_tests_of_datasette_faiss_pass(tmp_path):
    """Its own test file, from its source distribution; only `import datasette_faiss` is a shim."""
    sdist = tmp_path / "sdist"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    got = subprocess.run([*pip, "--no-deps", "--no-binary", ":all:", "--dest", sdist,
                          "datasette-faiss==0.2.1"], capture_output=True, text=True)
    if got.returncode != 0:
        pytest.skip(f"the source distribution cannot be had: {got.stderr[-200:]}")
    shutil.unpack_archive(next(sdist.glob("*.tar.gz")), tmp_path)
    tests = tmp_path / "datasette_faiss-0.2.1" / "tests"
    (tests / "datasette_faiss.py").write_text(SHIM)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                           "test_faiss.py"], cwd=tests, capture_output=True, text=True, timeout=120)
    assert "8 passed" in done.stdout, done.stdout + done.stderr
