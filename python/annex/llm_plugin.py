"""The plug-in for llm: `llm index …` makes and looks after indexes over collections, `llm similar`
and the methods of `llm.Collection` use them. docs/LLM.md is its manual.

Importing it is what gives the methods their index; llm does so when it loads its plug-ins.
"""

from __future__ import annotations

import pathlib
import sqlite3
import subprocess
import sys
from typing import Any, Callable, List, Optional, Tuple

import click
import llm
from click_default_group import DefaultGroup  # type: ignore[import-untyped,unused-ignore]

import annex
from annex import llm_similar
from annex.__main__ import find_command

llm_similar.install()


def _run(command: str, database: Optional[str], *arguments: Any) -> None:
    """Runs the command annex on a database of llm, and ends as it ends."""
    if database is None:
        folder: pathlib.Path = llm.user_dir()  # type: ignore[no-untyped-call]
        database = str(folder / "embeddings.db")
    words = [find_command(), command, database, *map(str, arguments)]
    sys.exit(subprocess.run(words).returncode)


def _given(**options: Any) -> List[str]:
    """The options of a command that were given, as it takes them."""
    words: List[str] = []
    for name, value in options.items():
        word = "--" + name.replace("_", "-")
        if value is True:
            words.append(word)
        elif value is not None and value is not False:
            for each in value if isinstance(value, tuple) else (value,):
                words += [word, str(each)]
    return words


_database = click.option(
    "-d",
    "--database",
    type=click.Path(file_okay=True, allow_dash=False, dir_okay=False),
    envvar="LLM_EMBEDDINGS_DB",
    help="The database of embeddings, that of llm unless given",
)
_share = click.FloatRange(0, 1, min_open=True)
_load_engine = click.option(
    "--load-engine",
    type=click.Path(exists=True, dir_okay=False),
    multiple=True,
    help="Load an engine from this shared object, which runs its code",
)
_json = click.option("--json", "as_json", is_flag=True, help="Output JSON")


def _definition(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what an index is like."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="No progress, and only errors"),
        click.option("--threads", type=int, help="Threads that build it, all unless given"),
        click.option(
            "--storage",
            type=click.Choice(["database", "file"]),
            help="Where it lives: inside the database, or in a file beside it",
        ),
        click.option(
            "--codes",
            type=click.Choice(["auto", "q8", "q4", "f16", "bf16", "f32"]),
            help="How rows are coded",
        ),
        click.option("--recall", type=_share, help="What searches with less effort aim at"),
        click.option(
            "--kind",
            type=click.Choice(["auto", "flat", "graph", "ivf"]),
            help="auto takes flat for few items and graph for many; ivf is the smallest",
        ),
        _load_engine,
        click.option("--engine-options", help="JSON object for the engine"),
        click.option("--engine", help="What searches it, unless annex itself"),
    ):
        command = option(command)
    return command


def _define(kind: Optional[str], quiet: bool, **options: Any) -> List[str]:
    return [*_given(index=kind, quiet=quiet, **options)]


index_group: click.Group = DefaultGroup(
    name="index",
    default="list",
    default_if_no_args=True,
    help="Manage vector indexes over collections of embeddings",
)


@index_group.command(name="create")
@click.argument("name")
@click.argument("collections", nargs=-1, required=True)
@click.option("--default", is_flag=True, help="llm similar on these collections uses it")
@_definition
@_database
def index_create(
    name: str, collections: Tuple[str, ...], default: bool, database: Optional[str], **options: Any
) -> None:
    """
    Index one or more collections of one embedding model

    Example usage:

    \b
        llm index create writing posts tils --default
    """
    sources = [word for collection in collections for word in ("--llm-collection", collection)]
    _run("create", database, name, *sources, *_given(default=default), *_define(**options))


@index_group.command(name="build")
@click.argument("name", required=False)
@click.option("--merge", is_flag=True, help="Also merge what earlier builds have left")
@_load_engine
@_database
def index_build(
    name: Optional[str], merge: bool, load_engine: Tuple[str, ...], database: Optional[str]
) -> None:
    """
    Take in the items that changed since the last build

    Of all indexes unless one is named. Answers are right before it, too; it makes them fast.
    """
    named = [name] if name else []
    _run("optimize" if merge else "sync", database, *named, *_given(load_engine=load_engine))


@index_group.command(name="list")
@_json
@_load_engine
@_database
def index_list(as_json: bool, load_engine: Tuple[str, ...], database: Optional[str]) -> None:
    """List the indexes and how they are"""
    _run("list", database, *_given(json=as_json, load_engine=load_engine))


@index_group.command(name="compare")
@click.argument("collection")
@click.option("-n", "--number", type=int, default=10, help="Number of results of a question")
@click.option("--queries", type=int, help="Items that are asked about, 100 unless given")
@_json
@_load_engine
@_database
def index_compare(
    collection: str, number: int, as_json: bool, database: Optional[str], **options: Any
) -> None:
    """Measure all indexes of a collection: recall, speed, size"""
    words = _given(collection=collection, json=as_json, **options)
    _run("compare", database, *words, "-k", number)


@index_group.command(name="default")
@click.argument("name", required=False)
@click.option("--off", is_flag=True, help="It is no longer the default")
@_database
def index_default(name: Optional[str], off: bool, database: Optional[str]) -> None:
    """Make an index the one its collections use; without a name, list these"""
    _run("default", database, *([name] if name else []), *_given(off=off))


@index_group.command(name="rename")
@click.argument("name")
@click.argument("new_name")
@_database
def index_rename(name: str, new_name: str, database: Optional[str]) -> None:
    """Give an index another name"""
    _run("rename", database, name, new_name)


@index_group.command(name="copy")
@click.argument("name")
@click.argument("new_name")
@_definition
@_database
def index_copy(name: str, new_name: str, database: Optional[str], **options: Any) -> None:
    """Build another index of the same collections, with other options"""
    _run("copy", database, name, new_name, *_define(**options))


@index_group.command(name="check")
@click.argument("name", required=False)
@_load_engine
@_database
def index_check(
    name: Optional[str], load_engine: Tuple[str, ...], database: Optional[str]
) -> None:
    """Compare an index with the collections, item by item"""
    _run("check", database, *([name] if name else []), *_given(load_engine=load_engine))


@index_group.command(name="delete")
@click.argument("name")
@_database
def index_delete(name: str, database: Optional[str]) -> None:
    """Delete an index; the collections stay"""
    _run("drop", database, name)


index_group.add_command(index_delete, "drop")


def _extend_similar(command: click.Command) -> None:
    """`llm similar` as it is, with four options more."""
    own = command.callback
    assert own is not None

    def similar(
        index: Optional[str],
        where: Optional[str],
        recall: Optional[float],
        load_engine: Tuple[str, ...],
        **arguments: Any,
    ) -> Any:
        try:
            with llm_similar.wishing(index, where, recall, load_engine):
                return own(**arguments)
        except (annex.AnnexError, sqlite3.Error) as error:
            raise click.ClickException(str(error)) from error

    command.callback = similar
    command.params += [
        click.Option(["--index"], help="Ask this index, not the default one of the collection"),
        click.Option(["--where"], help="Just items under this SQL condition on their columns"),
        click.Option(["--recall"], type=_share, help="Find this share of the answer, faster"),
        click.Option(
            ["--load-engine"],
            type=click.Path(exists=True, dir_okay=False),
            multiple=True,
            help="Load the engine of an index from this shared object, which runs its code",
        ),
    ]


@llm.hookimpl
def register_commands(cli: click.Group) -> None:
    """Adds `llm index` and the options of `llm similar`."""
    cli.add_command(index_group)
    _extend_similar(cli.commands["similar"])
