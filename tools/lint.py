#!/usr/bin/env python3
"""Check the rules of CONTRIBUTING.md that a program can check.

    tools/lint.py [FILE ...]      all files of the repository unless some are named

Prints one line for each finding, `file:line: what is wrong`, and fails when there is one. Asks
clang-format too. A rule that must be broken somewhere has an entry, with the reason, in EXEMPT.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 700

# Rooms below src/ and the rooms whose headers each may include, besides its own and annex.h.
CORE = ["base", "kernel", "quant", "segment", "index", "build"]
MAY_INCLUDE = {room: set(CORE[:place]) for place, room in enumerate(CORE)}
MAY_INCLUDE["file"] = {"base"}
MAY_INCLUDE["host"] = {"base"}
MAY_INCLUDE["engine"] = set(CORE)
MAY_INCLUDE["catalog"] = set(CORE) | {"engine", "file", "host"}
MAY_INCLUDE["cli"] = set()
MAY_INCLUDE["ext"] = set()

# Headers of libraries, and the rooms that may use them; the core has libc and threads only.
LIBRARIES = {
    "sqlite3.h": {"host", "cli"},  # cli: tables that export and import read and fill
    "sqlite3ext.h": {"host", "ext"},
    "jansson.h": {"host", "catalog", "cli", "ext"},
    "hdf5.h": {"file"},
    "xxhash.h": set(CORE),
    "omp.h": set(),
}

BANNED = "strcpy strcat sprintf vsprintf atoi atol atoll atof strtok gets alloca".split()
# Only src/base wraps these; everything else goes through annex_env, so that tests can break it.
WRAPPED = (
    "malloc calloc realloc reallocarray aligned_alloc posix_memalign strdup strndup free "
    "open openat creat read pread write pwrite fopen freopen fdopen mmap munmap fsync rename "
    "unlink pthread_create printf vprintf fprintf vfprintf puts fputs putchar perror getenv "
    "exit abort _exit signal sigaction setlocale"
).split()
ALLOWED_IN_CLI = (
    "malloc calloc realloc strdup strndup free open read write fopen fdopen printf vprintf fprintf "
    "vfprintf puts fputs putchar perror getenv exit _exit signal sigaction"
).split()

# (file, rule or banned function): reason
EXEMPT = {
    ("include/annex.h", "file-length"): "the whole reference of the library, two thirds prose",
    ("src/kernel/dispatch.c", "getenv"): "ANNEX_CPU, the one variable the core obeys",
    ("src/catalog/cache.c", "getenv"): "XDG_CACHE_HOME and HOME, where the cache lies",
}

NOT_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL
)


class Linter:
    def __init__(self):
        self.findings = []

    def report(self, path, line, rule, text):
        name = str(path.relative_to(ROOT))
        if (name, rule) not in EXEMPT:
            self.findings.append((name, line, f"{text} [{rule}]"))

    def check_text(self, path, text):
        lines = text.split("\n")
        for number, line in enumerate(lines, start=1):
            if len(line) > MAX_COLUMNS:
                self.report(path, number, "columns", f"{len(line)} columns, at most {MAX_COLUMNS}")
            if line.rstrip() != line:
                self.report(path, number, "space", "space at the end of the line")
            if "\t" in line and path.name != "Makefile":
                self.report(path, number, "tab", "tab character; use spaces")
        if text and not text.endswith("\n"):
            self.report(path, len(lines), "newline", "the last line has no end")
        if len(lines) - 1 > MAX_FILE_LINES:
            self.report(
                path, 1, "file-length", f"{len(lines) - 1} lines; does it still hold one idea?"
            )

    def check_c(self, path, text):
        code = blank_out(text)
        self.check_calls(path, code)
        self.check_functions(path, code)
        self.check_braces(path, code)
        for match in re.finditer(r'^[ ]*#[ ]*include\s+([<"])([^>"]+)[>"]', text, re.MULTILINE):
            self.check_include(path, line_of(text, match.start()), match.group(2))

    def check_calls(self, path, code):
        room = room_of(path)
        banned = set(BANNED)
        if room and room != "base":
            banned |= set(WRAPPED)
        if room == "cli":
            banned -= set(ALLOWED_IN_CLI)
        for match in re.finditer(r"(?<![\w.>])([a-z_]\w*)\s*\(", code):
            if match.group(1) in banned:
                line = line_of(code, match.start())
                self.report(path, line, match.group(1), "this function is not used here")

    def check_functions(self, path, code):
        start = None
        for number, line in enumerate(code.split("\n"), start=1):
            if line == "{":
                start = number
            elif line.startswith("}") and start is not None:
                length = number - start - 1
                if length > MAX_FUNCTION_LINES:
                    what = f"a function of {length} lines, at most {MAX_FUNCTION_LINES}"
                    self.report(path, start, "function-length", what)
                start = None

    def check_braces(self, path, code):
        for match in re.finditer(r"\b(if|for|while|else|do)\b", code):
            before = code[line_start(code, match.start()) : match.start()].strip()
            if before.startswith("#") or (before == "}" and match.group(1) == "while"):
                continue
            after = match.end()
            if match.group(1) in ("if", "for", "while"):
                after = end_of_parentheses(code, after)
            rest = code[after:].lstrip()
            is_else_if = match.group(1) == "else" and re.match(r"if\b", rest)
            if not rest.startswith("{") and not is_else_if:
                line = line_of(code, match.start())
                self.report(path, line, "braces", f"{match.group(1)} without braces")

    def check_include(self, path, line, header):
        room = room_of(path)
        if room is None:
            return
        if header in LIBRARIES:
            if room not in LIBRARIES[header]:
                self.report(path, line, "library", f"src/{room} does not use {header}")
            return
        target = resolve(path, header)
        other = room_of(target) if target else None
        if other and other != room and other not in MAY_INCLUDE[room]:
            text = f"{room} may not include {header}: data flows the other way"
            self.report(path, line, "rooms", text)

    def check_lists(self):
        """What meson.build files must name, and what must agree."""
        for folder, pattern, listed_in in (
            ("tests/unit", "test_*.c", "tests/meson.build"),
            ("fuzz", "fuzz_*.c", "fuzz/meson.build"),
        ):
            listed = (ROOT / listed_in).read_text()
            for path in sorted((ROOT / folder).glob(pattern)):
                if f"'{path.stem.partition('_')[2]}'" not in listed:
                    self.report(path, 1, "unlisted", f"not named in {listed_in}")
        for folder in [*(ROOT / "src").iterdir(), *(ROOT / "ext").iterdir()]:
            listed = (folder / "meson.build").read_text() if folder.is_dir() else ""
            for path in sorted(folder.glob("*.c")):
                if f"'{path.name}'" not in listed:
                    self.report(path, 1, "unlisted", "not named in its meson.build")
        version = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text()).group(1)
        header = ROOT / "include" / "annex.h"
        if f'#define ANNEX_VERSION_TEXT "{version}"' not in header.read_text():
            self.report(header, 1, "version", f"the version is not meson.build's {version}")


def blank_out(text):
    """The code with comments and literals replaced by spaces, line by line the same length."""
    return NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group(0)), text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def line_start(text, position):
    return text.rfind("\n", 0, position) + 1


def end_of_parentheses(code, position):
    depth = 0
    for place in range(position, len(code)):
        if code[place] == "(":
            depth += 1
        elif code[place] == ")":
            depth -= 1
            if depth == 0:
                return place + 1
    return len(code)


def room_of(path):
    """The room of a file below src/ or ext/, None for other files."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return "ext" if parts[0] == "ext" else None


def resolve(path, header):
    for folder in (path.parent, ROOT / "src", ROOT / "include"):
        if (folder / header).is_file():
            return (folder / header).resolve()
    return None


def files_to_check(names):
    if names:
        return [Path(name).resolve() for name in names]
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )
    return [ROOT / name for name in sorted(set(listed.stdout.split("\n"))) if name]


def check_format(paths):
    """clang-format's findings, one line each."""
    if not paths:
        return []
    done = subprocess.run(
        ["clang-format", "--dry-run", *map(str, paths)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    found = re.findall(r"^(\S+?):(\d+):\d+: warning:", done.stdout, re.MULTILINE)
    return [
        (str(Path(name).resolve().relative_to(ROOT)), int(line), "run `make format` [format]")
        for name, line in found
    ]


def main():
    linter = Linter()
    c_files = []
    for path in files_to_check(sys.argv[1:]):
        data = path.suffix in (".db", ".svg", ".md", ".json") or "corpus" in path.parts
        if not path.is_file() or data:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path.name.endswith("LICENSE"):
            continue
        linter.check_text(path, text)
        if path.suffix in (".c", ".h"):
            c_files.append(path)
            linter.check_c(path, text)
    linter.check_lists()
    findings = sorted(set(linter.findings + check_format(c_files)))
    for name, line, text in findings:
        print(f"{name}:{line}: {text}")
    print(f"{len(findings)} findings in {len(c_files)} C files" if findings else "lint: clean")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
