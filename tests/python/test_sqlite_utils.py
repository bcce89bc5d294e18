"""The plug-in for sqlite-utils: its command and its Python library."""

import json
import shutil
import sqlite3
import subprocess
import sys

import pytest

import annex
from conftest import ROOT

sqlite_utils = pytest.importorskip("sqlite_utils")

if not hasattr(sqlite3.Connection, "enable_load_extension"):
    pytest.skip("this sqlite3 cannot load extensions", allow_module_level=True)


@pytest.fixture
def wordnet(tmp_path):
    return shutil.copyfile(ROOT / "examples" / "wordnet.db", tmp_path / "wordnet.db")


def utils(*arguments, code=0):
    done = subprocess.run([sys.executable, "-m", "sqlite_utils", *map(str, arguments)],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_annex__is_a_command_of_sqlite_utils(wordnet):
    utils("annex", "create", wordnet, "i", "--table", "synsets", "--vector", "embedding",
          "--metric", "cosine")
    found = utils("annex", "search", wordnet, "i", "--like", 816, "-k", 2, "--json")
    assert [hit["key"] for hit in json.loads(found)] == [727, 2378]
    assert "create" in utils("annex", "help") and "annex" in utils("--help")
    assert "--vector" in utils("annex", "create", "--help")
    assert "no index" in utils("annex", "search", wordnet, "nothing", "--like", 1, code=3)


def test_queries__have_the_functions(wordnet):
    utils("query", wordnet, "SELECT annex_create('i', 'synsets', 'embedding')")
    rows = utils("query", wordnet, "SELECT key FROM annex_search('i', annex_vector('i', 816), 2)")
    assert json.loads(rows) == [{"key": 816}, {"key": 727}]
    answer = utils("memory", "SELECT annex_distance('l2', '[0, 0]', '[3, 4]') AS d")
    assert json.loads(answer) == [{"d": 5.0}]


def test_the_library__has_the_functions_and_its_writes_are_found(wordnet):
    db = sqlite_utils.Database(wordnet)
    db.execute("SELECT annex_create('i', 'synsets', 'embedding')").fetchone()
    vector = db["queries"].get(30)["embedding"]
    db["synsets"].insert({"id": 9000, "word": "new", "embedding": vector})
    found = db.execute("SELECT key, distance FROM annex_search('i', ?, 1)", [vector]).fetchone()
    assert found == (9000, 0.0)
    assert annex.decode(vector).shape == (384,)
