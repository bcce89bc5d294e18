"""annex.load with the modules there are, annex.loadable_path, and the command of the wheel."""

import json
import shutil
import sqlite3
import subprocess
import sys
import sysconfig

import pytest

import annex
from annex.__main__ import find_command
from conftest import ROOT

WORDNET = ROOT / "examples" / "wordnet.db"
VERSION = "SELECT annex_version()"


@pytest.fixture
def wordnet(tmp_path):
    return shutil.copyfile(WORDNET, tmp_path / "wordnet.db")


loads_extensions = pytest.mark.skipif(
    not hasattr(sqlite3.Connection, "enable_load_extension"),
    reason="this sqlite3 cannot load extensions",
)


@loads_extensions
def test_sqlite3__has_the_functions_and_extensions_are_off_again(wordnet):
    db = sqlite3.connect(wordnet)
    annex.load(db)
    annex.load(db)
    assert db.execute(VERSION).fetchone() == (annex.__version__,)
    db.execute("SELECT annex_create('i', 'synsets', 'embedding', '{\"metric\": \"cosine\"}')")
    found = db.execute("""SELECT word FROM annex_search('i', (SELECT embedding FROM queries
                          WHERE id = 30), 2) JOIN synsets ON id = key""").fetchall()
    assert found == [("lake",), ("shore",)]
    with pytest.raises(sqlite3.OperationalError, match="not authorized"):
        db.execute("SELECT load_extension(?)", (annex.loadable_path(),))
    db.close()


def test_apsw__has_the_functions(wordnet):
    apsw = pytest.importorskip("apsw")
    db = apsw.Connection(str(wordnet))
    annex.load(db)
    assert db.execute(VERSION).fetchone() == (annex.__version__,)


def test_sqlean__has_the_functions():
    sqlean = pytest.importorskip("sqlean")
    db = sqlean.connect(":memory:")
    annex.load(db)
    assert db.execute(VERSION).fetchone() == (annex.__version__,)


@loads_extensions
def test_sqlite_utils__has_the_functions(wordnet):
    sqlite_utils = pytest.importorskip("sqlite_utils")
    db = sqlite_utils.Database(wordnet, execute_plugins=False)
    annex.load(db)
    assert db.execute(VERSION).fetchone() == (annex.__version__,)


def test_a_module_without_extensions__is_named():
    class Connection:
        execute = None

    with pytest.raises(annex.UnsupportedError, match="built without them; use the modules apsw"):
        annex.load(Connection())
    with pytest.raises(TypeError, match="takes a connection to SQLite, not 'docs.db'"):
        annex.load("docs.db")


def test_numpy_arrays__are_blobs_both_ways(wordnet):
    apsw = pytest.importorskip("apsw")
    db = apsw.Connection(str(wordnet))
    annex.load(db)
    blob = db.execute("SELECT embedding FROM queries WHERE id = 30").fetchone()[0]
    assert annex.encode(annex.decode(blob)) == blob
    assert annex.decode(blob).shape == (384,)


def test_the_command__is_installed_and_is_python_m_annex(wordnet):
    assert find_command() == sysconfig.get_path("scripts") + "/annex"
    made = subprocess.run([find_command(), "create", wordnet, "i", "--table", "synsets", "--vector",
                           "embedding", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(made.stdout)["rows"] == 3494
    run = [sys.executable, "-m", "annex"]
    listed = subprocess.run([*run, "list", wordnet, "--json"], capture_output=True, text=True)
    assert json.loads(listed.stdout)[0]["name"] == "i"
    wrong = subprocess.run([*run, "nonsense"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "nonsense" in wrong.stderr


def test_errors__are_the_nearest_of_python_too():
    kinds = {annex.InvalidError: ValueError, annex.NotFoundError: LookupError,
             annex.IOFailedError: OSError, annex.NoMemoryError: MemoryError}
    for kind, near in kinds.items():
        assert issubclass(kind, annex.AnnexError) and issubclass(kind, near)
    assert str(annex.NotFoundError("no row")) == "no row"
    assert {e.status for e in annex.AnnexError.__subclasses__()} == set(range(1, 15))
