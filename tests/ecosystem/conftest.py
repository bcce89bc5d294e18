"""What the ecosystem tests share: a database with Annex indexes, other people's programs, and a
judge that looks at the database afterwards from a new process with Annex.

The programs come from Debian packages and from a virtual environment that tools/runtests.py makes
of requirements.txt; a test whose program is missing is skipped.
"""

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: more cost more than they give
import judge as judging  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("ANNEX_BUILD", ROOT / "build")).resolve()
EXTENSION = BUILD / "annex.so"
WORDNET = ROOT / "examples" / "wordnet.db"
VENV = BUILD / "ecosystem" / "venv"


@pytest.fixture(autouse=True)
def private_home(tmp_path, monkeypatch):
    """Keeps caches and settings of all programs out of the user's folders."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))


# ---- programs ------------------------------------------------------------------------------------


def find_program(name):
    """The path of a program of the virtual environment or of the system; skips the test if none."""
    places = [VENV / "bin" / name, *VENV.glob(f"lib/*/site-packages/apsw/*_binaries/{name}")]
    found = next((str(path) for path in places if path.exists()), None)
    if found is None and name != "python":
        found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command, stdin=None, code=0, **environment):
    """Runs a program to its end; gives what it printed on stdout."""
    done = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, text=True, timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_python(script, *arguments):
    """Runs a script in the virtual environment, in which Annex is not loaded."""
    return run(find_program("python"), "-c", script, *arguments)


# ---- databases with indexes ----------------------------------------------------------------------


def in_new_process(function, *arguments):
    """The process of the tests never loads Annex: each use of it begins afresh."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()


def run_statements(path, statements):
    db = sqlite3.connect(path, isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(str(EXTENSION))
    for statement in statements:
        rows = db.execute(statement).fetchall()
    db.close()
    return rows


def with_annex(path, *statements):
    """Runs statements in a process with Annex; gives the rows of the last one."""
    return in_new_process(run_statements, path, statements)


def make_indexes(path, table="synsets", column="embedding"):
    """A flat index and a graph on the table."""
    create = f"SELECT annex_create('%s', '{table}', '{column}', '%s')"
    with_annex(path, create % ("flat_idx", '{"metric":"cosine","index":"flat"}'),
               create % ("graph_idx", '{"metric":"l2","index":"graph"}'))


@pytest.fixture(scope="session")
def wordnet_with_indexes(tmp_path_factory):
    path = tmp_path_factory.mktemp("wordnet") / "wordnet.db"
    shutil.copyfile(WORDNET, path)
    os.environ["XDG_CACHE_HOME"] = str(path.parent / "cache")
    make_indexes(path)
    return path


@pytest.fixture
def wordnet(tmp_path, wordnet_with_indexes):
    """A copy of the example database with flat_idx and graph_idx on the table synsets."""
    return Path(shutil.copyfile(wordnet_with_indexes, tmp_path / "wordnet.db"))


# ---- the judge -----------------------------------------------------------------------------------


def judge(path, state, table="synsets", reason="", delta_rows=None, rows=None):
    """The database is sound, its indexes are in this state and their answers are right. Then they
    are synced, or repaired as the reason says, and are fresh, right and sound."""
    report = in_new_process(judging.report, EXTENSION, WORDNET, path)
    assert report["integrity"] == "ok"
    assert report["before"] and len(report["before"]) == len(report["after"])
    for index in report["before"].values():
        assert index["wrong"] == [], index
        assert index["state"] == state or state is None, index["reason"]
        assert index["table"] == table
        assert reason in index["reason"]
        if delta_rows is not None:
            assert index["delta_rows"] == delta_rows
    for index in report["after"].values():
        assert (index["wrong"], index["state"], index["check"]) == ([], "fresh", "ok")
        if rows is not None:
            assert index["rows"] == rows
