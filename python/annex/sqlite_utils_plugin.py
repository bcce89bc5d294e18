"""The plug-in for sqlite-utils: `sqlite-utils annex …` is the command annex, and every connection
that sqlite-utils opens has the SQL functions of Annex."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Tuple

import click
from sqlite_utils import hookimpl

import annex
from annex.__main__ import find_command


@hookimpl
def prepare_connection(conn: Any) -> None:
    try:
        annex.load(conn)
    except annex.UnsupportedError:
        pass  # this Python loads no extensions; sqlite-utils does all the rest


@hookimpl
def register_commands(cli: Any) -> None:
    @cli.command(
        name="annex",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: Tuple[str, ...]) -> None:
        """Vector indexes: create, search, sync … See: sqlite-utils annex help"""
        sys.exit(subprocess.run([find_command(), *arguments]).returncode)
