#!/usr/bin/env python3
"""Run the SQL of Annex on old and new versions of SQLite, and print a table.

    tools/sqlite_versions.py [--build build] [VERSION ...]

Each wheel of `apsw` on PyPI carries the SQLite of its number. For each version this makes a virtual
environment below the build directory, with the first Python on this machine that has a wheel, and
runs tools/sqlite_surface.py in it: every form of query, changes, syncs, filters, hybrid search.
Answers are compared with plain Python. Versions that cannot be had are said to be missing; the exit
status is 0 when something ran and all of it passed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ["3.38.5.post1", "3.39.4.0", "3.40.1.0", "3.41.2.0", "3.42.0.1", "3.44.2.0", "3.46.1.0",
            "3.50.4.0", "newest"]


def pythons():
    """Interpreters to try, the usual one first; older wheels are for older Pythons."""
    found = [Path("/usr/bin/python3"), Path(sys.executable)]
    found += sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"), reverse=True)
    found += [Path(path) for path in (shutil.which(f"python3.{n}") for n in range(14, 6, -1))
              if path and ".pyenv" not in path]
    return [path for path in dict.fromkeys(found) if path.exists()]


def obtain(version, folder):
    """The Python of an environment that has this version, or None."""
    python = folder / "bin" / "python"
    requirement = "apsw" if version == "newest" else f"apsw=={version}"
    if version != "newest" and (folder / "ready").exists():
        return python
    for base in pythons():
        shutil.rmtree(folder, ignore_errors=True)
        made = subprocess.run([str(base), "-m", "venv", str(folder)], capture_output=True)
        if made.returncode != 0:
            continue
        installed = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check",
             "--only-binary", ":all:", requirement], capture_output=True, text=True)
        if installed.returncode == 0:
            (folder / "ready").touch()
            return python
    return None


def run(python, extension):
    """What sqlite_surface.py reports, or what it died of."""
    environment = dict(os.environ, XDG_CACHE_HOME=str(python.parent.parent / "cache"))
    done = subprocess.run([str(python), "-B", str(ROOT / "tools" / "sqlite_surface.py"),
                           str(extension)],
                          capture_output=True, text=True, env=environment, timeout=300)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        words = done.stderr.strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
        return {"sqlite": "?", "passed": [], "failed": {"the run itself": words[0]}, "absent": []}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", default="build", help="build directory (build)")
    parser.add_argument("versions", nargs="*", metavar="VERSION", default=VERSIONS)
    arguments = parser.parse_args()
    extension = (Path(arguments.build) / "annex.so").resolve()
    ran = failed = 0
    print(f"{'apsw':<16}{'SQLite':<10}{'passed':>7}{'failed':>8}  not in this SQLite")
    for version in arguments.versions:
        python = obtain(version, Path(arguments.build).resolve() / "sqlite-versions" / version)
        if python is None:
            print(f"{version:<16}no wheel for a Python of this machine")
            continue
        report = run(python, extension)
        ran += 1
        failed += len(report["failed"])
        print(f"{version:<16}{report['sqlite']:<10}{len(report['passed']):>7}"
              f"{len(report['failed']):>8}  {', '.join(report['absent'])}", flush=True)
        for name, why in report["failed"].items():
            print(f"    {name}: {why}", flush=True)
    print(f"{ran} versions of SQLite, {failed} failed")
    return 0 if ran and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
