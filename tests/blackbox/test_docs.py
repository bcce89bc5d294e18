"""Runs what README.md and docs/*.md show.

A document is run from top to bottom in a folder of its own that holds wordnet.db, a copy of the
example database. Of its fenced blocks

    ```sql   goes to the sqlite3 shell on wordnet.db, with annex.so loaded
    ```sh    goes to bash, with the command `annex` on PATH

and must succeed. A ```text block directly below is the output that must come, without regard to
trailing spaces; `…` in it stands for any characters, a line of only `…` for any lines. Written on
the line above a block,

    <!-- fails -->     it must fail, and the text below is its error
    <!-- not run -->   it is left out: what follows the words says why

and anywhere in the document, for all of it,

    <!-- entry point: NAME -->   annex.so is loaded by this entry point
"""

import os
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, EXTENSION, ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
ENTRY_POINT = re.compile(r"<!--\s*entry point:\s*(\w+)\s*-->")
REMARK = re.compile(r"<!--\s*(fails|not run)\b[^>]*-->\s*$")


class Block:
    """One example: where it stands, what it says, what must come of it."""

    def __init__(self, document, match, expected):
        before = document[: match.start()]
        remark = REMARK.search(before)
        self.line = before.count("\n") + 1
        self.language = match.group(1)
        self.text = match.group(2)
        self.fails = bool(remark) and remark.group(1) == "fails"
        self.runs = not (remark and remark.group(1) == "not run")
        self.expected = expected


def blocks_of(document):
    matches = list(FENCE.finditer(document))
    for match, following in zip(matches, [*matches[1:], None]):
        if match.group(1) not in ("sql", "sh"):
            continue
        below = following and not document[match.end() : following.start()].strip()
        expected = following.group(2) if below and following.group(1) == "text" else None
        block = Block(document, match, expected)
        if block.runs:
            yield block


def pattern_of(expected):
    """The expected output as a regular expression over lines without trailing spaces."""
    parts = []
    for line in expected.rstrip("\n").split("\n"):
        if line.strip() == "…":
            parts.append(r"(?:[^\n]*\n)*")
        else:
            parts.append(r"[^\n]*".join(map(re.escape, line.rstrip().split("…"))) + r"\n")
    return re.compile("".join(parts))


def lines_of(output):
    return "".join(line.rstrip() + "\n" for line in output.rstrip("\n").split("\n"))


def run_block(block, folder, environment, entry_point):
    if block.language == "sql":
        load = f".load {EXTENSION} {entry_point}"
        arguments = ["sqlite3", "-bail", "-batch", "-box", "-cmd", load, "wordnet.db"]
    else:
        arguments = ["bash", "-euo", "pipefail"]
    return subprocess.run(arguments, input=block.text, cwd=folder, env=environment, text=True,
                          capture_output=True, timeout=300)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_examples__do_what_the_document_says(path, tmp_path):
    shutil.copyfile(ROOT / "examples" / "wordnet.db", tmp_path / "wordnet.db")
    environment = dict(os.environ, PATH=f"{BUILD}:{os.environ['PATH']}", LC_ALL="C.UTF-8")
    document = path.read_text()
    named = ENTRY_POINT.search(document)
    for block in blocks_of(document):
        where = f"{path.name}:{block.line}"
        done = run_block(block, tmp_path, environment, named.group(1) if named else "")
        output = lines_of(done.stderr if block.fails else done.stdout)
        if (done.returncode != 0) != block.fails:
            pytest.fail(f"{where} exits with {done.returncode}: {done.stderr}", pytrace=False)
        if block.expected is not None and not pattern_of(block.expected).fullmatch(output):
            pytest.fail(f"{where} says\n{block.expected}\nand gives\n{output}", pytrace=False)
