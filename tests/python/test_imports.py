"""Who only imports the package, or runs a program that has one of its plug-ins, waits for neither
NumPy nor the C library; who uses a function gets both then.

sqlite-utils and Datasette, and with it llm, import NumPy themselves where it is installed. So in
them it is looked at who did: of the package only annex.vectors does.
"""

import subprocess
import sys

import pytest

LOADED = """
import sys
print(*(name for name in ("numpy", "annex.vectors", "annex._annex") if name in sys.modules))
"""
COMMAND = """
from click.testing import CliRunner
import {module}
done = CliRunner().invoke({module}.cli, {words})
assert done.exit_code == 0 and {text!r} in done.output, done.output
"""
WITHOUT = {
    "import": "import annex; assert 'Index' in dir(annex) and not hasattr(annex, 'numpy')",
    "load": """
import sqlite3, annex
db = sqlite3.connect(":memory:")
if hasattr(db, "enable_load_extension"):
    annex.load(db)
""",
    "llm": COMMAND.format(module="llm.cli", words=["--help"], text="Manage vector indexes"),
    "sqlite_utils": COMMAND.format(module="sqlite_utils.cli", words=["--help"], text="annex"),
    "datasette": """
import annex.datasette
from datasette.plugins import pm
assert "annex" in [name for name, plugin in pm.list_name_plugin()]
""",
}


def loaded_by(code):
    done = subprocess.run([sys.executable, "-c", code + LOADED], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("what", WITHOUT)
def test_who_uses_no_vectors__waits_for_neither_numpy_nor_the_library(what):
    loads_numpy = what not in ("import", "load")
    if loads_numpy:
        pytest.importorskip(what)
    assert loaded_by(WITHOUT[what]) in ([], ["numpy"] if loads_numpy else [])


def test_every_name_of_the_package__is_there_when_it_is_asked_for():
    all_of_it = ["numpy", "annex.vectors", "annex._annex"]
    assert loaded_by("import annex; annex.version()") == all_of_it
    assert loaded_by("from annex import *; Index, load, AnnexError") == all_of_it
    loaded_by("import annex; assert annex.__version__ == annex.version()")
    loaded_by("import annex; assert all(hasattr(annex, name) for name in annex.__all__)")
    loaded_by("import annex, annex.index as of; assert annex.Index is of.Index is annex.Index")
