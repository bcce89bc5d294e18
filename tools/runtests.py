#!/usr/bin/env python3
"""Run the tests of a build directory and print `N passed, N failed` as the last line.

    tools/runtests.py [--build build] [--isa all|default] [--ecosystem]
                      [--only unit|blackbox|ecosystem|python] [NAME ...]

The unit tests and the replays of kept fuzz inputs are programs that print TAP; each runs once under
every instruction set this machine has (ANNEX_CPU). The black-box tests run with pytest: all of them
once, those marked `isa` under every instruction set. A slice of the freshness model (`make model`
runs all of it) comes last. With --ecosystem the programs of other people have their turn, and the
Python package as pip builds and installs it, for which packages of PyPI go into the build folder.
NAMEs choose unit tests by name and the others by keyword; `model` is the slice. A program that
crashes, stops early or runs out of time counts as one failure. Exits with 0 only when something ran
and nothing failed.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
TIMEOUT_S = 900
MODEL_OPERATIONS = 10000


class Tally:
    """What ran so far."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0

    def add(self, what, passed, failed, skipped, output):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        if not passed + failed + skipped:
            return
        notes = f", {skipped} skipped" if skipped else ""
        print(f"{what:<44} {passed:>5} passed, {failed} failed{notes}", flush=True)
        if failed:
            print(output.rstrip(), flush=True)


def available_isas(build):
    """The sets of kernels this machine can run, as the command that was built names them."""
    done = subprocess.run(
        [build / "annex", "info", "--cpu", "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)["available"]


def sanitizer_of(build):
    options = json.loads((build / "meson-info" / "intro-buildoptions.json").read_text())
    return next(o["value"] for o in options if o["name"] == "b_sanitize")


def test_environment(build, isa):
    environment = dict(os.environ, ANNEX_BUILD=str(build), CMOCKA_MESSAGE_OUTPUT="TAP")
    environment.pop("ANNEX_CPU", None)
    if isa:
        environment["ANNEX_CPU"] = isa
    environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
    environment.setdefault("TSAN_OPTIONS", "halt_on_error=1:second_deadlock_stack=1")
    return environment


def run_program(name, command, environment, tally):
    try:
        result = subprocess.run(
            command, env=environment, cwd=ROOT, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )
        output, code = result.stdout, result.returncode
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode(errors="replace")
        output += f"\n{name} ran for more than {TIMEOUT_S} s"
        code = None
    passed = skipped = failed = 0
    for match in re.finditer(r"^(not ok|ok) \d+(.*)$", output, re.MULTILINE):
        if re.search(r"#\s*skip", match.group(2), re.IGNORECASE):
            skipped += 1
        elif match.group(1) == "ok":
            passed += 1
        else:
            failed += 1
    planned = sum(int(n) for n in re.findall(r"^1\.\.(\d+)", output, re.MULTILINE))
    if (code != 0 or planned != passed + failed + skipped) and failed == 0:
        failed = 1
        ending = f"ended with {code}"
        if code is not None and code < 0:
            ending = f"was ended by {signal.Signals(-code).name}"
        output += f"\n{name} {ending} after {passed + skipped} of {planned} tests"
    tally.add(name, passed, failed, skipped, output)


def unit_programs(build, names):
    introspected = subprocess.run(
        ["meson", "introspect", "--tests", str(build)],
        stdout=subprocess.PIPE, text=True, check=True,
    )
    tests = json.loads(introspected.stdout)
    return [(t["name"], t["cmd"]) for t in tests if not names or t["name"] in names]


def python_environment(build, isa, sanitizer):
    environment = test_environment(build, isa)
    if "address" in sanitizer:
        # Python is not instrumented: the runtime must come first, and its own leaks are not ours.
        library = subprocess.run(
            ["gcc", "-print-file-name=libasan.so"], stdout=subprocess.PIPE, text=True, check=True
        )
        environment["LD_PRELOAD"] = library.stdout.strip()
        environment["ASAN_OPTIONS"] = "detect_leaks=0:" + environment.get("ASAN_OPTIONS", "")
    return environment


def run_pytest(label, folder, arguments, environment, tally, python=PYTHON):
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [str(python), "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
        command += [f"--junitxml={report}", *arguments, str(ROOT / "tests" / folder)]
        result = subprocess.run(
            command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )
        if result.returncode == 5:  # pytest collected nothing
            tally.add(label, 0, 0, 0, "")
            return
        try:
            suite = ElementTree.parse(report).getroot().find("testsuite")
            counts = {k: int(suite.get(k)) for k in ("tests", "failures", "errors", "skipped")}
        except (OSError, ElementTree.ParseError, AttributeError):
            tally.add(label, 0, 1, 0, result.stdout)
            return
    failed = counts["failures"] + counts["errors"]
    if result.returncode != 0 and failed == 0:
        failed = 1
    passed = max(counts["tests"] - failed - counts["skipped"], 0)
    tally.add(label, passed, failed, counts["skipped"], result.stdout)


def make_venv(build, name):
    """A virtual environment in the build directory with the packages of PyPI that the tests in
    tests/<name> name in requirements.txt. Gives its folder, None when they cannot be had."""
    requirements = ROOT / "tests" / name / "requirements.txt"
    venv = build / name / "venv"
    installed = build / name / "installed.txt"
    if installed.exists() and installed.read_bytes() == requirements.read_bytes():
        return venv
    shutil.rmtree(venv, ignore_errors=True)
    install = [*pip_of(venv), "install", "-r", str(requirements)]
    for command in ([PYTHON, "-m", "venv", str(venv)], install):
        done = run_quietly(command)
        if done.returncode != 0:
            shutil.rmtree(venv, ignore_errors=True)
            why = (done.stdout.strip().splitlines() or ["no reason given"])[-1]
            print(f"{name}: packages of PyPI cannot be had, their tests are skipped: {why}")
            return None
    shutil.copyfile(requirements, installed)
    return venv


def pip_of(venv):
    return [str(venv / "bin" / "pip"), "--disable-pip-version-check", "--retries", "1"]


def run_quietly(command, **more):
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", **more,
    )


def run_package(build, keyword, tally):
    """Builds the Python package as pip does, installs it, and runs tests/python with it."""
    venv = make_venv(build, "python")
    if venv is None:
        return
    path = f"{venv / 'bin'}:{os.environ['PATH']}"  # meson and ninja of the environment
    folder = build / "python" / "wheel"
    command = [*pip_of(venv), "install", "--no-build-isolation", "--no-deps", "--no-index"]
    command += ["--force-reinstall", f"--config-settings=build-dir={folder}", str(ROOT)]
    done = run_quietly(command, env=dict(os.environ, PATH=path))
    if done.returncode != 0:
        tally.add("python package", 0, 1, 0, done.stdout)
        return
    environment = dict(test_environment(build, None), PATH=path)
    run_pytest("python", "python", keyword, environment, tally, venv / "bin" / "python")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", default="build", help="build directory (build)")
    parser.add_argument("--isa", choices=("all", "default"), default="all")
    parser.add_argument("--only", choices=("unit", "blackbox", "ecosystem", "python"))
    parser.add_argument("--ecosystem", action="store_true", help="also other people's programs")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    build = Path(arguments.build).resolve()
    if not (build / "build.ninja").exists():
        parser.error(f"{build} is not a build directory; run `make test` first")
    sanitizer = sanitizer_of(build)
    isas = available_isas(build) if arguments.isa == "all" else [None]
    keyword = ["-k", " or ".join(arguments.names)] if arguments.names else []
    tally = Tally()

    if arguments.only in (None, "unit"):
        programs = unit_programs(build, arguments.names)
        for isa in isas:
            for name, command in programs:
                label = f"{name} ({isa})" if isa else name
                run_program(label, command, test_environment(build, isa), tally)
    # A host that is not instrumented cannot load a module that the thread sanitizer instruments.
    if arguments.only in (None, "blackbox") and "thread" not in sanitizer:
        environment = python_environment(build, None, sanitizer)
        run_pytest("blackbox", "blackbox", keyword, environment, tally)
        for isa in isas if arguments.isa == "all" else []:
            run_pytest(
                f"blackbox ({isa})", "blackbox", ["-m", "isa", *keyword],
                python_environment(build, isa, sanitizer), tally,
            )
        if not arguments.names or "model" in arguments.names:
            model = [PYTHON, "-B", str(ROOT / "tests" / "model" / "freshness.py")]
            model += ["--operations", str(MODEL_OPERATIONS)]
            run_program("model", model, environment, tally)
    if arguments.ecosystem or arguments.only == "ecosystem":
        make_venv(build, "ecosystem")
        environment = test_environment(build, None)
        run_pytest("ecosystem", "ecosystem", keyword, environment, tally)
    if arguments.ecosystem or arguments.only == "python":
        run_package(build, keyword, tally)

    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    return 0 if tally.passed and not tally.failed else 1


if __name__ == "__main__":
    sys.exit(main())
