#!/usr/bin/env python3
"""Run the tests of sqlite-vec itself against the compatibility entry point of annex.so.

    tools/vec_tests.py [--build build] [--source DIR] [--sqlite newest|system] [FILE ...]

DIR is a checkout of sqlite-vec's repository; without one the tool clones the version it was written
for (no package registry carries the tests). Nothing of it is kept, and its files run as they are:
only sqlite3.connect and load_extension("dist/vec0") are replaced, so that the first gives a
connection with Annex and the second loads sqlite3_annex_vec_init. FILEs choose test files; `scalar`
means the tests of the functions, which need no table.

`--sqlite newest` (the default) runs under the SQLite of PyPI's pysqlite3-binary, `system` under
that of /usr/bin/python3. `--library PATH` runs another library instead, for example a build of
sqlite-vec, to see how that fares. What the tests import comes from PyPI into a virtual environment
in the build directory.

Prints how many tests passed, each that failed, and of those that are expected to fail (EXCEPTIONS)
the reason. Fails when a test fails that is not expected to, or when none ran.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = "https://github.com/asg017/sqlite-vec"
VERSION = "v0.1.10-alpha.3"
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
PACKAGES = ("pytest", "numpy", "syrupy", "pysqlite3-binary")
FILE_TIMEOUT_S = 300
ENTRY_POINT = "sqlite3_annex_vec_init"

SCALAR = "scalar"
FILES = (
    "test-loadable.py", "test-general.py", "test-insert-delete.py", "test-auxiliary.py",
    "test-metadata.py", "test-partition-keys.py", "test-knn-distance-constraints.py",
    "test-rename.py",
)
IN_FILE = {  # which tests of test-loadable.py are about functions
    SCALAR: ("test-loadable.py", "(vec_ or funcs or modules or coverage) and not vec0"),
}

# Why a test that sqlite-vec passes is not expected to pass here. The names are those of pytest.
EXCEPTIONS = {
    "test-loadable.py::test_vec_distance_cosine":
        "compares a distance to the last bit: sqlite-vec says 0.0011318983, the true value is "
        "0.0011318628, and so says Annex",
}


# ---- Inside pytest ------------------------------------------------------------------------------
# This file is also the plugin that runs there; VEC_TESTS holds what main tells it.


def replace_sqlite(settings):
    """Puts our connect in place of sqlite3.connect, before any test is imported."""
    if settings["sqlite"] == "newest":
        import pysqlite3.dbapi2

        sys.modules["sqlite3"] = pysqlite3.dbapi2
    import sqlite3

    class Connection(sqlite3.Connection):
        def load_extension(self, path, *arguments, **named):
            if Path(path).name != "vec0":
                return super().load_extension(path, *arguments, **named)
            load = "SELECT load_extension(?, ?)"
            self.execute(load, (settings["library"], settings["entry_point"])).fetchone()

    plain_connect = sqlite3.connect

    def connect(*arguments, **named):
        db = plain_connect(*arguments, **{"factory": Connection, **named})
        if settings["preload"]:
            db.enable_load_extension(True)
            sqlite3.Connection.load_extension(db, settings["library"])
            db.enable_load_extension(False)
        return db

    sqlite3.connect = connect


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        line = str(report.longrepr.reprcrash.message) if hasattr(
            report.longrepr, "reprcrash") else str(report.longrepr or "")
        with open(os.environ["VEC_TESTS_RESULTS"], "a") as results:
            record = (report.nodeid, report.outcome, line.strip().split("\n")[0])
            results.write(json.dumps(record) + "\n")


if "VEC_TESTS" in os.environ:
    replace_sqlite(json.loads(os.environ["VEC_TESTS"]))


# ---- Outside ------------------------------------------------------------------------------------


def make_environment(folder):
    """A Python with the packages that the tests import; made once."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([PYTHON, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (folder / "complete").touch()
    return python


def fetch_tests(source, to):
    """The folder tests/ of sqlite-vec as a copy, because running them writes files beside them."""
    if not source:
        source = to / "clone"
        subprocess.run(
            ["git", "-c", "advice.detachedHead=false", "clone", "--quiet", "--depth", "1",
             "--branch", VERSION, REPOSITORY, source], check=True,
        )
    shutil.copytree(Path(source) / "tests", to / "tests")


def run_file(python, folder, name, settings):
    """[(test, outcome, first line of the error)] of one file; a crash is one more failure."""
    file, keyword = IN_FILE.get(name, (name, ""))
    results = folder / "results"
    results.write_text("")
    environment = dict(
        os.environ, VEC_TESTS=json.dumps(settings), VEC_TESTS_RESULTS=str(results),
        PYTHONPATH=str(Path(__file__).resolve().parent), XDG_CACHE_HOME=str(folder / "cache"),
        PYTHONDONTWRITEBYTECODE="1",
    )
    command = [python, "-m", "pytest", "-q", "-p", "vec_tests", "-p", "no:cacheprovider"]
    command += [f"tests/{file}", "-k", keyword]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, timeout=FILE_TIMEOUT_S, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        code, output = None, f"ran for more than {FILE_TIMEOUT_S} s"
    records = [json.loads(line) for line in results.read_text().splitlines()]
    records = [(test.removeprefix("tests/"), outcome, line) for test, outcome, line in records]
    if code not in (0, 1):
        last = output.strip().split("\n")[-1]
        records.append((f"{file} (exit {code})", "failed", last))
    return records


def report(records):
    """Prints what came of the tests; the exit status."""
    outcomes = {test: (outcome, line) for test, outcome, line in records}
    failed = {test: line for test, (outcome, line) in outcomes.items() if outcome == "failed"}
    passed = sum(outcome == "passed" for outcome, _ in outcomes.values())
    skipped = len(outcomes) - passed - len(failed)
    explained = sorted(failed.keys() & EXCEPTIONS.keys())
    unexplained = sorted(failed.keys() - EXCEPTIONS.keys())
    for test in unexplained:
        print(f"failed: {test}\n    {failed[test]}")
    for test in explained:
        print(f"failed as expected: {test}\n    {EXCEPTIONS[test]}")
    for test in sorted(EXCEPTIONS.keys() & outcomes.keys() - failed.keys()):
        print(f"passed, though it is among EXCEPTIONS: {test}")
    print(f"{passed} passed, {len(explained)} failed as expected, {len(unexplained)} failed, "
          f"{skipped} skipped by their authors")
    return 0 if passed and not unexplained else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", default="build", help="build directory (build)")
    parser.add_argument("--source", help="a checkout of sqlite-vec")
    parser.add_argument("--sqlite", choices=("newest", "system"), default="newest")
    parser.add_argument("--library", help="run another library than the build's annex.so")
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"{SCALAR}, {', '.join(FILES)}")
    arguments = parser.parse_args()
    build = Path(arguments.build).resolve()
    library = Path(arguments.library or build / "annex.so").resolve()
    if not library.exists():
        parser.error(f"{library} does not exist; run `make` first")
    settings = {
        "sqlite": arguments.sqlite, "library": str(library),
        "entry_point": "sqlite3_vec_init" if arguments.library else ENTRY_POINT,
        # The lists of what an entry point adds leave out what was there before.
        "preload": not arguments.library,
    }
    python = make_environment(build / "vec-tests")
    records = []
    with tempfile.TemporaryDirectory() as folder:
        fetch_tests(arguments.source, Path(folder))
        for name in arguments.files or FILES:
            records += run_file(python, Path(folder), name, settings)
    return report(records)


if __name__ == "__main__":
    sys.exit(main())
