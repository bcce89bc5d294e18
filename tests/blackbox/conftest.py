"""What the black-box tests share: where the build is, a way to run the command, a way to load the
extension. They see Annex as its users do: the command, SQL, the files."""

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("ANNEX_BUILD", ROOT / "build")).resolve()
COMMAND = BUILD / "annex"
EXTENSION = BUILD / "annex.so"
VEC = "sqlite3_annex_vec_init"


def pytest_configure(config):
    config.addinivalue_line("markers", "isa: quick, and runs under every instruction set")


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Keeps the tests out of the user's cache folder, and out of each other's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def annex(tmp_path):
    """Runs the command in tmp_path: annex("list", path) gives a CompletedProcess with text.

    It must exit with `code`, 0 unless told; None accepts any."""

    def run(*arguments, code=0, stdin=None):
        done = subprocess.run(
            [str(COMMAND), *map(str, arguments)],
            cwd=tmp_path, input=stdin, capture_output=True, text=True, timeout=300,
        )
        if code is not None:
            assert done.returncode == code, f"{done.args} exited {done.returncode}: {done.stderr}"
        return done

    return run


@pytest.fixture
def connect(tmp_path):
    """Opens a database with the extension loaded; extension=False gives a program without Annex.

    connect() is in memory, connect("a.db") a file in tmp_path. entry_point=VEC also gives
    what sqlite-vec has. Closed after the test."""
    connections = []

    def open_database(name=":memory:", extension=True, entry_point=None, **options):
        path = name if name == ":memory:" or "uri" in options else str(tmp_path / name)
        db = sqlite3.connect(path, isolation_level=None, **options)
        connections.append(db)
        if extension:
            db.enable_load_extension(True)
            db.load_extension(str(EXTENSION))
            if entry_point:
                db.execute("SELECT load_extension(?, ?)", (str(EXTENSION), entry_point)).fetchone()
            db.enable_load_extension(False)
        return db

    yield open_database
    for db in connections:
        db.close()


@pytest.fixture
def wordnet(tmp_path):
    """The path of a copy of the example database that the test may change."""
    path = tmp_path / "wordnet.db"
    shutil.copyfile(ROOT / "examples" / "wordnet.db", path)
    return path
