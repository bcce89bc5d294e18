"""Which tables have vectors: those of the settings, and those that have an index.

The settings are a list of tables, in `plugins.annex.tables` and, for who comes from that plug-in,
in `plugins.datasette-faiss.tables`. For one of ours an index is made when the server starts, if
there is none and the database can be written; and an index that waits for a sync gets it. A table
of datasette-faiss is read only, as it was with that plug-in: its answers are exact.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from typing import Any, Dict, List, Optional, Tuple

from datasette.utils import escape_sqlite

try:
    from datasette.utils import StartupError
except ImportError:  # before 0.63
    StartupError = RuntimeError  # type: ignore[assignment,misc]

_MEMBERS = ("database", "table", "column", "key", "metric", "index", "where", "options", "similar")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the settings."""

    database: str
    table: str
    column: str = "embedding"
    keys: Tuple[str, ...] = ()
    metric: str = "l2"
    index: str = ""
    options: Dict[str, Any] = dataclasses.field(default_factory=dict)
    may_write: bool = True

    @property
    def name(self) -> str:
        return self.index or f"{self.table}_{self.column}_idx"


@dataclasses.dataclass(frozen=True)
class Vectors:
    """A column of vectors that can be asked: by an index, or where there is none by reading all."""

    index: Optional[str]
    column: str
    keys: Tuple[str, ...]
    metric: str


# ---- the settings --------------------------------------------------------------------------------


def _of_member(entry: Any) -> Table:
    """One member of plugins.annex.tables: an object, or a pair of database and table."""
    if isinstance(entry, (list, tuple)) and len(entry) == 2:
        return Table(*entry)
    if not isinstance(entry, dict) or not {"database", "table"} <= set(entry):
        raise StartupError(
            f"plugins.annex.tables: {json.dumps(entry)} names no database and table; give"
            ' {"database": "blog", "table": "entries", "column": "embedding", "metric": "cosine"}'
        )
    unknown = sorted(set(entry) - set(_MEMBERS))
    if unknown:
        raise StartupError(
            f"plugins.annex.tables: {unknown[0]} is not known; there are {', '.join(_MEMBERS)}"
        )
    key = entry.get("key", [])
    if not (isinstance(key, str) or isinstance(key, list) and all(isinstance(k, str) for k in key)):
        raise StartupError(
            f"plugins.annex.tables: key is {json.dumps(key)}; it is the name of a column, or an"
            " array of them"
        )
    if not isinstance(entry.get("options", {}), dict):
        raise StartupError(
            f"plugins.annex.tables: options is {json.dumps(entry['options'])}; it is an object"
        )
    options = dict(entry.get("options", {}))
    if "where" in entry:
        options["where"] = entry["where"]
    return Table(
        database=entry["database"],
        table=entry["table"],
        column=entry.get("column", "embedding"),
        keys=(key,) if isinstance(key, str) else tuple(key),
        metric=entry.get("metric", "l2"),
        index=entry.get("index", ""),
        options=options,
    )


def configured(datasette: Any) -> List[Table]:
    """The tables that the settings name."""
    ours = (datasette.plugin_config("annex") or {}).get("tables") or []
    if not isinstance(ours, list):
        raise StartupError("plugins.annex.tables is an array of tables")
    theirs = (datasette.plugin_config("datasette-faiss") or {}).get("tables") or []
    return [_of_member(entry) for entry in ours] + [
        Table(database, table, keys=("id",), may_write=False) for database, table in theirs
    ]


def engines(datasette: Any) -> List[str]:
    """The engines that the settings name: shared objects, which every connection loads."""
    paths = (datasette.plugin_config("annex") or {}).get("engines") or []
    if isinstance(paths, list) and all(isinstance(path, str) for path in paths):
        return paths
    raise StartupError("plugins.annex.engines is an array of paths, such as ./engine-scan.so")


# ---- what there is -------------------------------------------------------------------------------

_INDEXES = """SELECT name, "table", "column", keys, "where", metric, family, dimension, rows,
  delta_rows, dead_rows, segments, bytes, recall, model, source, sources, is_default, state, reason
  FROM annex_indexes WHERE schema = 'main'"""


async def indexes(datasette: Any, database: str) -> List[Dict[str, Any]]:
    """The indexes of a database, as rows of annex_indexes."""
    found = await datasette.get_database(database).execute(_INDEXES)
    return [dict(zip(row.keys(), tuple(row))) for row in found.rows]


async def indexes_of(datasette: Any, database: str, table: str) -> List[Vectors]:
    """What can be asked of a table: its default index, other indexes, tables of the settings.

    Of an index over several tables it is the part of this one, which has a name of its own.
    """
    rows = sorted(await indexes(datasette, database), key=lambda row: not row["is_default"])
    found = [
        Vectors(row["name"], row["column"], tuple(row["keys"].split(", ")), row["metric"])
        for row in rows
        if row["table"].lower() == table.lower() and row["keys"] and row["sources"] <= 1
    ]
    columns = {vectors.column.lower() for vectors in found}
    for entry in configured(datasette):
        if (entry.database, entry.table) == (database, table):
            if entry.column.lower() not in columns:
                keys = entry.keys or await _primary_key(datasette, database, table)
                found.append(Vectors(None, entry.column, keys, entry.metric))
    return found


async def _primary_key(datasette: Any, database: str, table: str) -> Tuple[str, ...]:
    keys = await datasette.get_database(database).primary_keys(table)
    return tuple(keys) or ("rowid",)


# ---- at the start --------------------------------------------------------------------------------


async def prepare(datasette: Any, table: Table) -> None:
    """Sees to it that a table of the settings is there, and to its index."""
    try:
        database = datasette.get_database(table.database)
    except KeyError:
        raise StartupError(f"annex: there is no database {table.database}; its name is that of the"
                           " file without ending") from None
    if not await database.table_exists(table.table):
        raise StartupError(f"annex: the database {table.database} has no table {table.table}")
    columns = [column.lower() for column in await database.table_columns(table.table)]
    for column in (table.column, *table.keys):
        if column.lower() not in columns:
            raise StartupError(
                f"annex: the table {table.table} of the database {table.database} has no column"
                f" {column}; it has {', '.join(columns)}"
            )
    if table.may_write and database.is_mutable:
        await database.execute_write_fn(lambda connection: _refresh(connection, table))


def _has_vectors(connection: Any, table: Table) -> bool:
    """An empty table does not tell its dimension: the next start makes its index."""
    name, column = escape_sqlite(table.table), escape_sqlite(table.column)
    sql = f"SELECT 1 FROM {name} WHERE {column} IS NOT NULL LIMIT 1"
    return connection.execute(sql).fetchone() is not None


def _refresh(connection: Any, table: Table) -> None:
    """On a connection that can write: makes the index, or syncs it when it waits for that."""
    there = connection.execute(
        'SELECT name, state FROM annex_indexes WHERE schema = \'main\' AND lower("table") = ?'
        ' AND lower("column") = ? AND (name = ? OR ? = \'\')',
        [table.table.lower(), table.column.lower(), table.index, table.index],
    ).fetchone()
    options = {"metric": table.metric, **table.options}
    if table.keys:
        options["key"] = list(table.keys)
    try:
        if there is None and (_has_vectors(connection, table) or "dimension" in options):
            connection.execute(
                "SELECT annex_create(?, ?, ?, ?)",
                [table.name, table.table, table.column, json.dumps(options)],
            ).fetchone()
        elif there is not None and there[1] != "fresh":
            connection.execute("SELECT annex_sync(?)", [there[0]]).fetchone()
    except sqlite3.OperationalError as error:
        raise StartupError(f"annex: {table.database}.{table.table}: {error}") from error
