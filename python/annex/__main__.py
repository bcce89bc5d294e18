"""`python -m annex`: runs the command `annex` that was installed with the package."""

from __future__ import annotations

import os
import pathlib
import sys
import sysconfig
from typing import Iterator, List


def _places() -> Iterator[pathlib.Path]:
    """Where installers put scripts: of this Python, of the user, beside a --target folder."""
    yield pathlib.Path(sysconfig.get_path("scripts"))
    yield pathlib.Path(sysconfig.get_path("scripts", f"{os.name}_user"))
    package = pathlib.Path(__file__).resolve().parent
    yield package.parent / "bin"
    for folder in package.parents:  # <prefix>/lib/python3.x/site-packages/annex
        if folder.name.startswith("lib"):
            yield folder.parent / "bin"


def find_command() -> str:
    """The path of the command. Raises FileNotFoundError when it was removed."""
    for place in _places():
        if (place / "annex").is_file():
            return str(place / "annex")
    raise FileNotFoundError(
        "the command annex is not where packages put their scripts: "
        + ", ".join(map(str, _places()))
        + "; install the package annex again"
    )


def main(arguments: List[str]) -> None:
    """Becomes the command; does not return."""
    command = find_command()
    sys.stdout.flush()
    os.execv(command, [command, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
