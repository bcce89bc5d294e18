"""Builds in a process whose address space is bounded, as by ulimit -v: each either works, or says
in one sentence that memory ran out and leaves everything as it was."""

import json
import os
import re
import resource
import subprocess
import sys

import numpy as np
import pytest

from conftest import COMMAND, EXTENSION

ROWS, DIMENSION = 8000, 64
MEGABYTE = 1 << 20
SANITIZED = b"__asan_init" in COMMAND.read_bytes() or b"__tsan_init" in COMMAND.read_bytes()

pytestmark = pytest.mark.skipif(SANITIZED, reason="sanitizers reserve the whole address space")


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(5).standard_normal((ROWS, DIMENSION)).astype("f4")


def bounded(command, most_bytes, folder):
    """Runs a command under a limit."""
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))

    return subprocess.run([str(word) for word in command], preexec_fn=limit, cwd=folder,
                          capture_output=True, text=True, timeout=120)


def least_to_start(folder):
    """Bytes in which the command can tell its version."""
    most = 8 * MEGABYTE
    while bounded([COMMAND, "--version"], most, folder).returncode:
        most += MEGABYTE
    return most


def test_build__any_limit_of_the_process__works_or_leaves_the_old_file(annex, tmp_path, vectors):
    np.save(tmp_path / "rows.npy", vectors)
    np.save(tmp_path / "old.npy", vectors[:50])
    annex("build", "old.npy", "-o", "my.annex")
    old = (tmp_path / "my.annex").read_bytes()
    command = [COMMAND, "build", "rows.npy", "-o", "my.annex", "--force", "--threads", "2",
               "--build-effort", "16", "--degree", "32"]
    start, codes, failures = least_to_start(tmp_path), [], set()
    for more in (0, 1, 2, 3, 4, 6, 8, 10, 14, 200):
        done = bounded(command, start + more * MEGABYTE, tmp_path)
        codes.append(done.returncode)
        if done.returncode:
            assert done.returncode == 1 and done.stderr.count("\n") == 1
            assert re.search("memory.*; free memory or raise the limit", done.stderr)
            assert (tmp_path / "my.annex").read_bytes() == old
        else:
            (tmp_path / "my.annex").write_bytes(old)
        assert sorted(os.listdir(tmp_path)) == ["my.annex", "old.npy", "rows.npy"]
    assert codes[0] == 1 and codes[-1] == 0


def test_build__more_than_max_memory__says_what_to_do_and_leaves_the_old_file(annex, tmp_path,
                                                                            vectors):
    np.save(tmp_path / "rows.npy", vectors)
    annex("build", "rows.npy", "-o", "my.annex", "--index", "flat")
    old = (tmp_path / "my.annex").read_bytes()
    done = annex("build", "rows.npy", "-o", "my.annex", "--force", "--max-memory", "10M", code=1)
    assert done.stderr == (
        "annex: 8000 rows need about 19 MB to build and the limit is 10 MB; raise it, lower the "
        "degree, or use a flat index\n")
    assert (tmp_path / "my.annex").read_bytes() == old
    assert sorted(os.listdir(tmp_path)) == ["my.annex", "rows.npy"]


# What runs in a process of its own: a limit cannot be lifted by those who are not root, but the
# soft one can. Says how the statement went.
BOUNDED_SQL = """
import json, re, resource, sqlite3, sys
extension, path, more, sql = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None)
db.enable_load_extension(True)
db.load_extension(extension)
held = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) << 10
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (held + int(more), hard))
try:
    db.execute(sql).fetchall()
    why = None
except (sqlite3.Error, MemoryError) as error:
    why = str(error) or type(error).__name__
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
print(json.dumps(why))
"""


def test_create__any_limit_of_the_process__works_or_leaves_the_database(connect, tmp_path, vectors):
    cache = tmp_path / "cache"
    db = connect("a.db")
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO t(v) VALUES (?)", [(row.tobytes(),) for row in vectors])
    db.execute("COMMIT")
    db.execute("SELECT annex_create('first', 't', 'v', '{\"index\": \"flat\"}')")

    def state():
        schema = db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
        rows = db.execute("SELECT * FROM annex_index").fetchall()
        files = sorted(str(file) for file in cache.rglob("*") if file.is_file())
        return schema, rows, files

    before, whys = state(), []
    create = "SELECT annex_create('second', 't', 'v', '{\"degree\": 32, \"threads\": 2}')"
    for more in (256 << 10, MEGABYTE, 2 * MEGABYTE, 3 * MEGABYTE, 5 * MEGABYTE, 400 * MEGABYTE):
        done = subprocess.run(
            [sys.executable, "-c", BOUNDED_SQL, str(EXTENSION), str(tmp_path / "a.db"), str(more),
             create], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        whys.append(json.loads(done.stdout))
        if whys[-1]:
            assert "emory" in whys[-1] and "\n" not in whys[-1]
            assert state() == before
        else:
            db.execute("SELECT annex_drop('second')")
            before = state()
    assert whys[0] and not whys[-1]
    found = db.execute("SELECT count(*) FROM annex_search('first', ?, 5)", (vectors[7].tobytes(),))
    assert found.fetchone() == (5,)
