"""The pages of the plug-in: the rows similar to a row, and the indexes; each as JSON, too."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

from datasette import Forbidden, NotFound, Response
from datasette.database import QueryInterrupted
from datasette.utils import (
    actor_matches_allow,
    escape_sqlite,
    path_from_row_pks,
    tilde_decode,
    urlsafe_components,
)

from annex.datasette import tables
from annex.datasette.compat import can_view_table, ensure_table

DEFAULT_SIZE = 10
MAX_SIZE = 1000
TOO_LONG = (
    "SQL query took too long: the search was stopped at the time limit. An index makes it quicker;"
    " so does a sync of one that has a delta, or a higher sql_time_limit_ms."
)


class _Refused(Exception):
    """A request that is wrong: one sentence, and the status of HTTP."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


# ---- similar rows --------------------------------------------------------------------------------


async def similar(request: Any, datasette: Any) -> Response:
    """/database/table/key/-/similar: a page."""
    try:
        found = await _find_similar(request, datasette)
    except _Refused as refused:
        return await _page(datasette, request, "annex_error.html", {"message": str(refused)},
                           refused.status)
    database, table, key = found["database"], found["table"], found["primary_keys"]
    for hit in found["rows"]:
        path = path_from_row_pks(hit["row"], key, use_rowid=False)
        hit["link"] = datasette.urls.row(database, table, path)
        hit["name"] = ", ".join(str(hit["row"][column]) for column in key)
        hit["cells"] = [_cell(datasette, hit["row"][column]) for column in found["columns"]]
    found["table_url"] = datasette.urls.table(database, table)
    found["row_url"] = datasette.urls.row(database, table, request.url_vars["pks"])
    return await _page(datasette, request, "annex_similar.html", found)


async def similar_json(request: Any, datasette: Any) -> Response:
    """The same as JSON."""
    try:
        found = await _find_similar(request, datasette)
    except _Refused as refused:
        return Response.json({"ok": False, "error": str(refused)}, status=refused.status)
    for hit in found["rows"]:
        for column, value in hit["row"].items():
            if isinstance(value, bytes):
                hit["row"][column] = f"<Binary: {len(value):,} bytes>"
    return Response.json({"ok": True, **found})


def _cell(datasette: Any, value: Any) -> str:
    if isinstance(value, bytes):
        return f"<Binary: {len(value):,} bytes>"
    text = "" if value is None else str(value)
    limit = datasette.setting("truncate_cells_html")
    return text if not limit or len(text) <= limit else text[:limit] + "…"


async def _find_similar(request: Any, datasette: Any) -> Dict[str, Any]:
    try:
        database = datasette.get_database(route=tilde_decode(request.url_vars["database"]))
    except KeyError:
        raise NotFound("Database not found") from None
    table = tilde_decode(request.url_vars["table"])
    await ensure_table(datasette, request.actor, database.name, table)
    if not await database.table_exists(table):
        raise NotFound(f"Table not found: {table}")
    offered = await tables.indexes_of(datasette, database.name, table)
    if not offered:
        raise _Refused(f"the table {table} has no vectors: no index, and it is not in the settings",
                       404)
    keys = await database.primary_keys(table) or ["rowid"]
    values = urlsafe_components(request.url_vars["pks"])
    if len(values) != len(keys):
        raise NotFound("Record not found")
    size = _size(request.args.get("_size"))
    asked = [v for v in offered if request.args.get("_index") in (None, v.index)]
    try:
        query = await _choose(database, table, dict(zip(keys, values)), asked)
        rows, columns = await _nearest(database, table, keys, query, size)
    except QueryInterrupted:
        raise _Refused(TOO_LONG) from None
    return {
        "database": database.name,
        "table": table,
        "index": query.vectors.index,
        "column": query.vectors.column,
        "metric": query.vectors.metric,
        "exact": query.vectors.index is None,
        "primary_keys": keys,
        "query": dict(zip(keys, values)),
        "columns": columns,
        "rows": rows,
        "indexes": [other.index for other in offered if other.index],
    }


@dataclasses.dataclass(frozen=True)
class _Query:
    """A row, as the vectors know it: its key, and the vector that others are compared with."""

    vectors: tables.Vectors
    key: Tuple[Any, ...]
    vector: Any


async def _choose(
    database: Any, table: str, row: Dict[str, str], asked: Sequence[tables.Vectors]
) -> _Query:
    """The first vectors that have the row: an index may be over a part of the table."""
    if not asked:
        raise _Refused("the table has no index of this name", 404)
    given = {f"key{i}": value for i, value in enumerate(row.values())}
    where = " AND ".join(f"{escape_sqlite(name)} = :key{i}" for i, name in enumerate(row))
    for vectors in asked:
        key = ", ".join(map(escape_sqlite, vectors.keys))
        column = escape_sqlite(vectors.column)
        vector = column if vectors.index is None else f"annex_vector(:index, {key})"
        sql = f"SELECT {vector}, {key} FROM {escape_sqlite(table)} WHERE {where}"
        found = (await database.execute(sql, {**given, "index": vectors.index})).first()
        if found is None:
            raise NotFound("Record not found")
        if found[0] is not None:
            return _Query(vectors, tuple(found)[1:], found[0])
    raise _Refused(
        f"this row has no vector: its {asked[0].column} is NULL, or no index has the row", 404
    )


def _size(text: Optional[str]) -> int:
    if text is None:
        return DEFAULT_SIZE
    if not text.isdigit() or not 0 < int(text) <= MAX_SIZE:
        raise _Refused(f"_size is {text}; it is a number from 1 to {MAX_SIZE}")
    return int(text)


async def _nearest(
    database: Any, table: str, primary: Sequence[str], query: _Query, size: int
) -> Tuple[List[Dict[str, Any]], List[str]]:
    """The rows nearest to one, without it, each with its distance; and the columns shown."""
    vectors = query.vectors
    columns = [c for c in await database.table_columns(table) if c != vectors.column]
    columns = list(dict.fromkeys([*primary, *columns]))
    shown = ", ".join("t." + escape_sqlite(c) for c in columns)
    names = ["t." + escape_sqlite(key) for key in vectors.keys]
    same = " AND ".join(f"{name} IS :same{i}" for i, name in enumerate(names))
    given: Dict[str, Any] = {f"same{i}": value for i, value in enumerate(query.key)}
    given.update(vector=query.vector, size=size)
    if vectors.index is None:
        column = "t." + escape_sqlite(vectors.column)
        sql = f"""SELECT annex_distance(:metric, {column}, :vector), {shown}
  FROM {escape_sqlite(table)} AS t WHERE NOT ({same}) AND typeof({column}) = typeof(:vector)
  AND (typeof({column}) = 'text' OR length({column}) = length(:vector)) ORDER BY 1 LIMIT :size"""
        given["metric"] = vectors.metric
    else:
        places = ["a.key", *(f"a.key{i}" for i in range(2, 9))]
        join = " AND ".join(f"{name} = {place}" for name, place in zip(names, places))
        sql = f"""SELECT a.distance, {shown} FROM annex_search(:index, :vector, :k) AS a
  JOIN {escape_sqlite(table)} AS t ON {join} WHERE NOT ({same}) ORDER BY a.distance LIMIT :size"""
        given.update(index=vectors.index, k=size + 1)
    found = await database.execute(sql, given)
    rows = [{"distance": row[0], "row": dict(zip(columns, tuple(row)[1:]))} for row in found.rows]
    return rows, columns


# ---- indexes -------------------------------------------------------------------------------------


async def _visible_indexes(request: Any, datasette: Any) -> List[Dict[str, Any]]:
    """The indexes of all databases whose tables the actor may see."""
    found = []
    for name, database in datasette.databases.items():
        if name.startswith("_"):
            continue
        for index in await tables.indexes(datasette, name):
            if index["sources"] > 1:
                continue  # of an index over several tables the parts stand for the whole
            if await can_view_table(datasette, request.actor, name, index["table"]):
                found.append({"database": name, "mutable": database.is_mutable, **index})
    return found


def _may_sync(datasette: Any, actor: Any) -> bool:
    """plugins.annex.allow_sync is a block of `allow`; without it the actor root may."""
    allow = (datasette.plugin_config("annex") or {}).get("allow_sync", {"id": "root"})
    return bool(actor_matches_allow(actor, allow))


async def indexes_json(request: Any, datasette: Any) -> Response:
    """/-/annex.json: the indexes and how they are."""
    return Response.json({"ok": True, "indexes": await _visible_indexes(request, datasette)})


async def indexes(request: Any, datasette: Any) -> Response:
    """/-/annex: the same as a page, with a button that syncs."""
    found = await _visible_indexes(request, datasette)
    for index in found:
        index["url"] = datasette.urls.table(index["database"], index["table"])
    return await _page(
        datasette, request, "annex_indexes.html",
        {"indexes": found, "may_sync": _may_sync(datasette, request.actor)},
    )


async def sync(request: Any, datasette: Any) -> Response:
    """POST /-/annex/sync with database and index: moves the delta of an index into it."""
    if request.method != "POST":
        return Response.json({"ok": False, "error": "POST database and index"}, status=405)
    if not _may_sync(datasette, request.actor):
        raise Forbidden("plugins.annex.allow_sync does not allow you to sync indexes")
    post = await request.post_vars()
    wanted = (post.get("database"), post.get("index"))
    for index in await _visible_indexes(request, datasette):
        if (index["database"], index["name"]) == wanted and index["mutable"]:
            database = datasette.get_database(wanted[0])
            report = await database.execute_write_fn(
                lambda db: db.execute("SELECT annex_sync(?)", [wanted[1]]).fetchone()[0]
            )
            done = json.loads(report)
            datasette.add_message(
                request, f"{wanted[1]}: {done['inserted']} rows in, {done['deleted']} out"
            )
            return Response.redirect(datasette.urls.path("/-/annex"))
    raise NotFound(f"There is no index {wanted[1]} in a database {wanted[0]} that can be written")


async def _page(
    datasette: Any, request: Any, template: str, context: Dict[str, Any], status: int = 200
) -> Response:
    html = await datasette.render_template(template, context, request=request)
    return Response.html(html, status=status)
