#!/usr/bin/env python3
"""Run the tests of sqlite-vec itself against the compatibility entry point of annex.so.

    tools/vec_tests.py [--build build] [--source DIR] [--sqlite newest|system] [FILE ...]

DIR is a checkout of sqlite-vec's repository; without one the tool clones the version it was written
for (no package registry carries the tests). Nothing of it is kept, and its files run as they are.
What they call is replaced:
  - sqlite3.connect gives a connection with Annex, and load_extension("dist/vec0") loads
    sqlite3_annex_vec_init;
  - the helpers that tests use to compare what tables hold leave out the tables in which sqlite-vec
    keeps its data; the snapshots are made anew without them, by sqlite-vec itself.

FILEs choose test files; `scalar` means the tests of the functions, which need no table.
`--sqlite newest` (the default) runs under the SQLite of PyPI's pysqlite3-binary, `system` under
that of /usr/bin/python3. `--peer` runs sqlite-vec instead, to see how that fares. It and what the
tests import come from PyPI into a virtual environment in the build directory.

Prints how many tests passed, each that failed, and of those that are expected to fail (EXCEPTIONS)
the reason; what sqlite-vec itself fails, for want of a newer SQLite or of its tables, is left out.
Fails when a test fails that is not expected to, or when none ran.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = "https://github.com/asg017/sqlite-vec"
VERSION = "v0.1.10-alpha.3"
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
PACKAGES = ("pytest", "numpy", "syrupy", "pysqlite3-binary", "sqlite-vec==0.1.10a3")
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
OWN_TABLES = "reads, damages or denies the tables in which sqlite-vec keeps its data"
EXCEPTIONS = {
    "test-loadable.py": {
        "test_vec_distance_cosine":
            "compares to the last bit: sqlite-vec says 0.0011318983, the true distance is "
            "0.0011318628, and so says Annex",
        "test_vec0_distance_metric":
            "compares to the last bit: sqlite-vec says 1.9838699, Annex 1.9838700",
        "test_vec0_stress_small_chunks": "rows of one distance come by rowid here",
        "test_limits": "expects that a k or chunk_size above 4,096 is refused; there is no limit",
        "test_vec0_best_index": "expects that two `rowid IN` are refused; they are answered",
        "test_vec0_updates":
            "expects that an UPDATE takes bits for f32, because the type is lost; here it is not",
        **dict.fromkeys((
            "test_smoke", "test_vec0_create_errors", "test_vec0_delete", "test_vec0_delete_errors",
            "test_vec0_drops", "test_vec0_insert_errors2", "test_vec0_inserts", "test_vec0_knn",
            "test_vec0_text_pk",
        ), OWN_TABLES),
    },
    "test-insert-delete.py": dict.fromkeys((
        "test_delete_all_rows_deletes_chunk", "test_delete_bit_vectors",
        "test_delete_chunk_multiple_chunks", "test_delete_chunk_shrinks_pages",
        "test_delete_clears_validity", "test_delete_int8_vectors",
        "test_delete_one_chunk_of_two_shrinks_pages", "test_delete_with_auxiliary_columns",
        "test_delete_with_metadata_columns", "test_delete_with_partition_keys",
        "test_delete_with_text_primary_key", "test_delete_zeroes_rowid_blob",
        "test_delete_zeroes_vector_blob",
    ), OWN_TABLES),
    "test-auxiliary.py": {
        "test_knn": "expects that conditions on auxiliary columns are refused; they are answered",
    },
    "test-metadata.py": {
        "test_knn": "expects that LIKE on metadata is refused; it is answered",
        "test_vtab_in": "expects that IN on a boolean is refused; it is answered",
        "test_stress": "expects that >= on a boolean is refused; it is answered",
        "test_idxstr": "compares the plan, which is in other words here",
        "test_errors": OWN_TABLES,
    },
    "test-partition-keys.py": {
        "test_updates": "expects that an UPDATE of a partition key is refused; it is made",
    },
    "test-rename.py": dict.fromkeys((
        "test_rename_basic", "test_rename_with_auxiliary", "test_rename_with_metadata",
    ), OWN_TABLES),
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


STORAGE = re.compile(r"sqlite_master|pragma_table_list|from \w+_"
                     r"(rowids|chunks|info|auxiliary|vector_chunks\d*|metadata\w*)\b", re.I)


def leave_out_storage():
    """Makes the helpers of the tests blind to the tables in which sqlite-vec keeps its data."""
    sys.path.insert(0, "tests")
    import helpers

    look = helpers.exec

    def look_elsewhere(db, sql, parameters=()):
        return {"sql": sql, "rows": []} if STORAGE.search(sql) else look(db, sql, parameters)

    helpers.exec = look_elsewhere
    helpers.vec0_shadow_table_contents = lambda *arguments, **named: {}


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        line = str(report.longrepr.reprcrash.message) if hasattr(
            report.longrepr, "reprcrash") else str(report.longrepr or "")
        with open(os.environ["VEC_TESTS_RESULTS"], "a") as results:
            record = (report.nodeid, report.outcome, line.strip().split("\n")[0])
            results.write(json.dumps(record) + "\n")


if "VEC_TESTS" in os.environ:
    replace_sqlite(json.loads(os.environ["VEC_TESTS"]))
    leave_out_storage()


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


def run_file(python, folder, name, settings, *options):
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
    command += [f"tests/{file}", "-k", keyword, *options]
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


def report(records, beyond):
    """Prints what came of the tests but for those `beyond` sqlite-vec itself; the exit status."""
    outcomes = {test: (outcome, line) for test, outcome, line in records if test not in beyond}
    failed = {test: line for test, (outcome, line) in outcomes.items() if outcome == "failed"}
    passed = sum(outcome == "passed" for outcome, _ in outcomes.values())
    skipped = len(outcomes) - passed - len(failed)
    reasons = {f"{file}::{test}": why for file in EXCEPTIONS
               for test, why in EXCEPTIONS[file].items()}
    explained = sorted(failed.keys() & reasons.keys())
    unexplained = sorted(failed.keys() - reasons.keys())
    for test in unexplained:
        print(f"failed: {test}\n    {failed[test]}")
    for test in explained:
        print(f"failed as expected: {test}\n    {reasons[test]}")
    for test in sorted(reasons.keys() & outcomes.keys() - failed.keys()):
        print(f"passed, though it is among EXCEPTIONS: {test}")
    print(f"{passed} passed, {len(explained)} failed as expected, {len(unexplained)} failed, "
          f"{skipped} skipped by their authors, {len(beyond)} that sqlite-vec fails too")
    return 0 if passed and not unexplained else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", default="build", help="build directory (build)")
    parser.add_argument("--source", help="a checkout of sqlite-vec")
    parser.add_argument("--sqlite", choices=("newest", "system"), default="newest")
    parser.add_argument("--peer", action="store_true", help="run sqlite-vec itself")
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"{SCALAR}, {', '.join(FILES)}")
    arguments = parser.parse_args()
    build = Path(arguments.build).resolve()
    library = build / "annex.so"
    if not library.exists():
        parser.error(f"{library} does not exist; run `make` first")
    python = make_environment(build / "vec-tests")
    peer = next((build / "vec-tests").glob("lib/*/site-packages/sqlite_vec/vec0.so"))
    # The lists of what an entry point adds leave out what was there before.
    annex = {"library": str(library), "entry_point": ENTRY_POINT, "preload": True}
    peer = {"library": str(peer), "entry_point": "sqlite3_vec_init", "preload": False}
    annex["sqlite"] = peer["sqlite"] = arguments.sqlite
    records, beyond = [], set()
    with tempfile.TemporaryDirectory() as folder:
        fetch_tests(arguments.source, Path(folder))
        for name in arguments.files or FILES:
            own = run_file(python, Path(folder), name, peer, "--snapshot-update")
            beyond |= {test for test, outcome, _ in own if outcome == "failed"}
            settings = peer if arguments.peer else annex
            records += run_file(python, Path(folder), name, settings)
    return report(records, beyond)


if __name__ == "__main__":
    sys.exit(main())
