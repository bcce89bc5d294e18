"""The command on terminals, under signals, and before a full disk."""

import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import time

import numpy as np
import pytest

from conftest import COMMAND


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(5).standard_normal((2000, 24)).astype(np.float32)


@pytest.fixture
def index(annex, tmp_path, rows):
    """An index file my.annex over the rows, in tmp_path."""
    np.save(tmp_path / "rows.npy", rows)
    annex("build", "rows.npy", "-o", "my.annex")
    return tmp_path / "my.annex"


def on_terminal(arguments, cwd, environment=None, act=None):
    """Runs the command with all streams on a terminal: (exit code, what the terminal got)."""
    try:
        master, slave = pty.openpty()
    except OSError as error:
        pytest.skip(f"this machine gives no terminals: {error}")
    child = subprocess.Popen(
        [str(COMMAND), *map(str, arguments)], cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm", **(environment or {})},
    )
    os.close(slave)
    text = b""
    while True:
        ready, _, _ = select.select([master], [], [], 0.1)
        if ready:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            text += part
            if act is not None:
                act(child, text)
    os.close(master)
    return child.wait(), text.decode()


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory):
    """A file that takes some seconds to index."""
    path = tmp_path_factory.mktemp("many") / "many.npy"
    np.save(path, np.random.default_rng(1).standard_normal((120000, 96)).astype("f4"))
    return path


def test_terminal__progress_then_interrupt_leaves_the_old_file(tmp_path, annex, index, many_rows):
    before = index.read_bytes()
    files = sorted(path.name for path in tmp_path.iterdir())

    sent = []

    def interrupt(child, text):
        if b"/s" in text and not sent:
            sent.append(child.send_signal(signal.SIGINT))

    arguments = ["build", many_rows, "-o", "my.annex", "--force", "--threads", "1"]
    code, text = on_terminal(arguments, tmp_path, act=interrupt)
    assert code == 130 and "interrupted" in text
    assert re.search(r"\[[#-]+\] +\d+ %, [\d.]+[kM]?/s", text)
    assert index.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_interrupt__without_terminal_is_quiet_and_130(tmp_path, annex, many_rows):
    child = subprocess.Popen(
        [str(COMMAND), "build", str(many_rows), "-o", "new.annex", "--threads", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    interrupt_soon(child)
    assert not [path for path in tmp_path.iterdir() if "annex" in path.name]


def interrupt_soon(child):
    """Sends Ctrl-C to a command at work, which must say so and end."""
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "annex: interrupted; nothing was changed\n")


def test_interrupt__in_a_database_leaves_it_as_it_was(tmp_path, annex, many_rows):
    path = tmp_path / "many.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
        blobs = ((vector.tobytes(),) for vector in np.load(many_rows)[:60000])
        db.executemany("INSERT INTO t(v) VALUES(?)", blobs)
    before = path.read_bytes()
    child = subprocess.Popen(
        [str(COMMAND), "create", str(path), "i", "--table", "t", "--vector", "v", "-t", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    interrupt_soon(child)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]
        assert db.execute("SELECT count(*) FROM t").fetchone() == (60000,)
    assert len(path.read_bytes()) == len(before)


def test_interrupt__while_it_measures_or_waits_for_a_query(tmp_path, annex, index, many_rows):
    queries = tmp_path / "q.npy"
    np.save(queries, np.random.default_rng(3).standard_normal((50000, 24)).astype("f4"))
    for arguments in (["eval", "my.annex", "--queries", "q.npy"],
                      ["search", "my.annex", "--query", "-"]):
        child = subprocess.Popen(
            [str(COMMAND), *arguments], cwd=tmp_path, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        interrupt_soon(child)


def test_colour__only_on_terminals_without_no_color(tmp_path, annex):
    assert "\033[" in on_terminal(["help"], tmp_path)[1]
    assert "\033[" not in on_terminal(["help"], tmp_path, {"NO_COLOR": "1"})[1]
    assert "\033[" not in on_terminal(["help"], tmp_path, {"TERM": "dumb"})[1]
    assert "\033[" not in annex("help").stdout


def test_results_that_cannot_be_written__1(annex, index):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(COMMAND), "info", str(index)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and "No space left" in done.stderr


def test_output_folder_missing__old_error_sentence(annex, tmp_path, rows):
    np.save(tmp_path / "rows.npy", rows[:10])
    done = annex("build", "rows.npy", "-o", "no/such/folder.annex", code=None)
    assert done.returncode in (1, 3) and "folder.annex" in done.stderr
