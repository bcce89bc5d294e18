"""Runs what README.md, docs/PYTHON.md, docs/DATASETTE.md and docs/LLM.md show of Python.

A document is run from top to bottom in a folder that holds wordnet.db, a copy of the example
database. Blocks of python run in one process; blocks of sh below a remark `tests/python runs it` go
to bash, with the commands of this environment, and where the first json block is settings a
Datasette with them answers at localhost:8001. A block of text below is what comes; `…` stands for
any characters. Other blocks marked `not run` are left out.
"""

import contextlib
import io
import os
import re
import shutil
import sqlite3
import subprocess
import sysconfig

import numpy
import pytest

from conftest import ROOT

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
REMARK = re.compile(r"<!--\s*not run: ([^>]*?)\s*-->\s*$")

if not hasattr(sqlite3.Connection, "enable_load_extension"):
    pytest.skip("this sqlite3 cannot load extensions", allow_module_level=True)


def blocks(name):
    """(line, language, code, expected output or None) of the blocks to run."""
    document = (ROOT / name).read_text()
    matches = list(FENCE.finditer(document))
    for match, below in zip(matches, [*matches[1:], None]):
        remark = REMARK.search(document[: match.start()])
        if remark and "tests/python" not in remark.group(1):
            continue
        if match.group(1) == "sh" and not remark:
            continue
        adjacent = below and not document[match.end() : below.start()].strip()
        expected = below.group(2) if adjacent and below.group(1) == "text" else None
        yield document[: match.start()].count("\n") + 1, match.group(1), match.group(2), expected


def check(where, output, expected):
    pattern = ".*".join(map(re.escape, expected.strip().split("…")))
    lines = "\n".join(line.rstrip() for line in output.strip().splitlines())
    if not re.fullmatch(pattern, lines, re.DOTALL):
        pytest.fail(f"{where} says\n{expected}\nand gives\n{output}", pytrace=False)


def run_sh(code, folder):
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-euo", "pipefail"], input=code, cwd=folder, text=True,
                          capture_output=True, env=dict(os.environ, PATH=path), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python__does_what_the_document_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "examples" / "wordnet.db", "wordnet.db")
    names = {}
    for line, language, code, expected in blocks("docs/PYTHON.md"):
        where = f"PYTHON.md:{line}"
        if language == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(code, where, "exec"), names)
            output = output.getvalue()
            if "db" in names:
                names["db"].commit()
        elif language == "sh":
            output = run_sh(code, tmp_path)
        else:
            continue
        if expected is not None:
            check(where, output, expected)
    names["db"].close()


def test_readme__does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "examples" / "wordnet.db", "wordnet.db")
    run_sh("annex create wordnet.db synsets_idx --table synsets --vector embedding", tmp_path)
    numpy.save("rows.npy", numpy.random.default_rng(1).standard_normal((3000, 32), dtype="f4"))
    names = {}
    for line, language, code, expected in blocks("README.md"):
        output = io.StringIO()
        if language == "python":
            with contextlib.redirect_stdout(output):
                exec(compile(code, f"README.md:{line}", "exec"), names)
            check(f"README.md:{line}", output.getvalue(), expected)
    names["db"].close()


def test_datasette__does_what_the_document_says(tmp_path):
    datasette = pytest.importorskip("test_datasette")
    json = pytest.importorskip("json")
    shutil.copyfile(ROOT / "examples" / "wordnet.db", tmp_path / "wordnet.db")
    server = None
    try:
        for line, language, code, expected in blocks("docs/DATASETTE.md"):
            if language == "json":
                settings = json.loads(code)
                server = datasette.Server(tmp_path, tmp_path / "wordnet.db", settings=settings)
            elif language == "sh":
                output = run_sh(code.replace("http://localhost:8001", server.url), tmp_path)
                check(f"DATASETTE.md:{line}", output, expected)
    finally:
        if server:
            server.close()


def database_of_llm(path, code):
    """The database that the code makes; all migrations have been applied to it."""
    llm = pytest.importorskip("llm")
    sqlite_utils = pytest.importorskip("sqlite_utils")
    run_sh(code, path.parent)
    new = path.parent / "new.db"
    with pytest.raises(llm.Collection.DoesNotExist):
        llm.Collection("none", sqlite_utils.Database(new), create=False)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ATTACH ? AS new", (str(new),))
        db.execute("CREATE TABLE _sqlite_migrations AS SELECT * FROM new._sqlite_migrations")
        db.commit()


def test_llm__does_what_the_document_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = (ROOT / "docs" / "LLM.md").read_text()
    made = next(match.group(2) for match in FENCE.finditer(document)).partition("annex create")[0]
    database_of_llm(tmp_path / "embeddings.db", made)
    for line, language, code, expected in blocks("docs/LLM.md"):
        output = io.StringIO()
        if language == "python":
            with contextlib.redirect_stdout(output):
                exec(compile(code, f"LLM.md:{line}", "exec"), {})
        elif language == "sh":
            output.write(run_sh(code, tmp_path))
        if expected is not None:
            check(f"LLM.md:{line}", output.getvalue(), expected)
