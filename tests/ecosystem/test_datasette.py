"""Datasette, started for real and asked over HTTP, with Annex by --load-extension."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

from conftest import EXTENSION, find_program, judge, run, with_annex

SEARCH = """SELECT s.word, a.distance
  FROM annex_search(:index, (SELECT embedding FROM queries WHERE id = :id), 3) AS a
  JOIN synsets AS s ON s.id = a.key"""


class Server:
    def __init__(self, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [find_program("datasette"), "serve", *map(str, arguments), "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(400):
            try:
                self.get("/-/versions.json")
                return
            except urllib.error.URLError:
                assert self.process.poll() is None, self.process.stdout.read().decode()
                time.sleep(0.05)
        self.close()
        raise AssertionError("datasette does not answer")

    def get(self, path, **parameters):
        url = self.url + path + ("?" if "?" not in path else "&")
        with urllib.request.urlopen(url + urllib.parse.urlencode(parameters), timeout=60) as answer:
            return json.load(answer)

    def rows(self, sql, **parameters):
        return self.get("/wordnet.json", sql=sql, _shape="arrays", **parameters)["rows"]

    def error(self, sql, **parameters):
        try:
            return self.get("/wordnet.json", sql=sql, **parameters)["error"]
        except urllib.error.HTTPError as error:
            return json.load(error)["error"]

    def close(self):
        self.process.terminate()
        self.process.communicate(timeout=30)


@pytest.fixture
def serve():
    servers = []

    def start(*arguments):
        servers.append(Server("--load-extension", EXTENSION, *arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def nearest(server, query=30, index="flat_idx"):
    return [word for word, _ in server.rows(SEARCH, index=index, id=query)]


@pytest.mark.parametrize("options", [[], ["-i"]], ids=["mutable", "immutable"])
def test_searches_tables_and_indexes_as_json(serve, wordnet, options):
    server = serve(*options, wordnet)
    for index in ("flat_idx", "graph_idx"):
        assert nearest(server, index=index) == ["lake", "shore", "sea"]
    assert server.rows("SELECT name, state, rows FROM annex_indexes") == [
        ["flat_idx", "fresh", 3494], ["graph_idx", "fresh", 3494]]
    objects = server.get("/wordnet.json", sql=SEARCH, index="flat_idx", id=30, _shape="objects")
    assert objects["rows"][0]["word"] == "lake"
    within = "SELECT count(*) FROM annex_within('flat_idx', (SELECT embedding FROM queries " \
             "WHERE id = 30), 0.35)"
    assert server.rows(within) == [[3]]
    tables = {table["name"]: table for table in server.get("/wordnet.json")["tables"]}
    assert tables["synsets"]["count"] == 3494
    for name in tables:
        assert "rows" in server.get(f"/wordnet/{name}.json", _size=1)
    assert server.get("/wordnet/synsets/816.json")["rows"][0][1] == "guitar"
    assert server.get("/wordnet/synsets.json", _facet="pos", _sort="word")["facet_results"]
    server.close()
    judge(wordnet, "fresh")


def test_errors_are_sentences(serve, wordnet):
    server = serve(wordnet)
    assert "it has 2 dimensions, and the index has 384" in server.error(
        "SELECT key FROM annex_search('flat_idx', '[1, 2]')")
    assert "there is no index nothing" in server.error(
        "SELECT key FROM annex_search('nothing', '[1, 2]')")
    for change in ("annex_sync('flat_idx')", "annex_drop('flat_idx')",
                   "annex_create('i', 'synsets', 'embedding')"):
        assert "read" in server.error(f"SELECT {change}")
    server.close()
    judge(wordnet, "fresh")


def test_what_another_program_writes_is_in_the_next_answer(serve, wordnet):
    with_annex(wordnet, "PRAGMA journal_mode = WAL")
    server = serve(wordnet)
    assert nearest(server) == ["lake", "shore", "sea"]
    run(find_program("sqlite3"), wordnet, "DELETE FROM synsets WHERE word = 'lake'",
        "INSERT INTO synsets(word, embedding) SELECT 'new', embedding FROM queries WHERE id = 30")
    assert nearest(server) == nearest(server, index="graph_idx") == ["new", "shore", "sea"]
    assert server.rows("SELECT state, delta_rows FROM annex_indexes") == [["delta", 2]] * 2
    run(find_program("sqlite-utils"), "transform", wordnet, "synsets", "--drop", "gloss")
    run(find_program("sqlite3"), wordnet, "DELETE FROM synsets WHERE word = 'new'")
    assert nearest(server)[:2] == ["shore", "sea"]
    (state, reason), _ = server.rows("SELECT state, reason FROM annex_indexes")
    assert state == "stale" and "run annex_sync('flat_idx')" in reason
    with_annex(wordnet, "SELECT annex_sync('flat_idx')", "SELECT annex_sync('graph_idx')")
    assert nearest(server)[:2] == nearest(server, index="graph_idx")[:2] == ["shore", "sea"]
    server.close()
    judge(wordnet, "fresh")


def test_a_canned_query_searches(serve, wordnet, tmp_path):
    metadata = tmp_path / "metadata.json"
    metadata.write_text(json.dumps({"databases": {"wordnet": {"queries": {"like": {"sql": """
        SELECT n.word FROM synsets AS s, annex_search('graph_idx', s.embedding, 4) AS a
          JOIN synsets AS n ON n.id = a.key
         WHERE s.word = :word AND a.key <> s.id GROUP BY n.id ORDER BY min(a.distance)"""}}}}}))
    server = serve(wordnet, "--metadata", metadata)
    answer = server.get("/wordnet/like.json", word="violin", _shape="arrays")
    assert answer["rows"] == [["flute"], ["guitar"], ["weapon"]]


LONG = """SELECT count(*) FROM annex_search('i', zeroblob(768), 4000,
                                           '{"mmr": 0.5, "candidates": 10000}')"""
MANY = """SELECT sum(a.distance)
  FROM docs AS d, annex_search('i', d.v, 10, '{"effort": "exact"}') AS a"""


def test_the_time_limit_stops_searches_soon(serve, tmp_path):
    """Datasette stops queries from a progress handler, which a search has to ask, and knows by the
    word `interrupted` that it was its own limit. Either statement would take many seconds."""
    path = tmp_path / "wordnet.db"
    with_annex(path, "CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB)",
               """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                  INSERT INTO docs(v) SELECT randomblob(768) FROM n""",
               """SELECT annex_create('i', 'docs', 'v',
                                      '{"format": "i8", "dimension": 768, "index": "flat"}')""")
    server = serve(path, "--setting", "sql_time_limit_ms", "100")
    for statement in (LONG, MANY):
        start = time.monotonic()
        assert "SQL query took too long" in server.error(statement)
        assert time.monotonic() - start < 3
    assert server.rows("SELECT count(*) FROM annex_search('i', zeroblob(768), 7)") == [[7]]


WRITER_PLUGIN = """
from datasette import hookimpl, Response

async def write(request, datasette):
    post = await request.post_vars()
    database = datasette.get_database("wordnet")
    await database.execute_write(post["sql"], block=True)
    return Response.json({"ok": True})

@hookimpl
def register_routes():
    return [("/-/write$", write)]

@hookimpl
def skip_csrf():
    return True
"""


def test_writes_through_datasette_are_found(serve, wordnet, tmp_path):
    """Datasette 0.65 writes through plugins, by Database.execute_write."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "writer.py").write_text(WRITER_PLUGIN)
    server = serve(wordnet, "--plugins-dir", tmp_path / "plugins")
    insert = "INSERT INTO synsets(word, embedding) SELECT 'new', embedding FROM queries " \
             "WHERE id = 30"
    for sql in (insert, "DELETE FROM synsets WHERE word = 'lake'"):
        data = urllib.parse.urlencode({"sql": sql}).encode()
        with urllib.request.urlopen(server.url + "/-/write", data, timeout=60) as answer:
            assert json.load(answer) == {"ok": True}
    assert nearest(server) == ["new", "shore", "sea"]
    server.close()
    judge(wordnet, "delta", delta_rows=2)


def test_inspect_package_and_read_without_annex_work(wordnet, tmp_path):
    counts = json.loads(run(find_program("datasette"), "inspect", wordnet))
    assert counts["wordnet"]["tables"]["synsets"]["count"] == 3494
    page = run(find_program("datasette"), wordnet, "--get", "/wordnet/synsets.json?_size=1")
    assert json.loads(page)["rows"]
    judge(wordnet, "fresh")
