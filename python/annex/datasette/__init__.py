"""The plug-in for Datasette: `pip install 'annex[datasette]'` and it is there.

Every connection has the SQL functions of Annex. Row pages of a table with an index have the action
"Similar rows"; `/-/annex` lists the indexes and how fresh they are. The tables that the settings
name get their indexes when the server starts. docs/DATASETTE.md describes it for users.

Works with Datasette 0.64 and later, and with the alphas of 1.0: what differs between them is in
compat.py. Pages read through `Database.execute`, and so obey the time limit for SQL.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Tuple

from datasette import hookimpl

import annex
from annex.datasette import pages, tables
from annex.datasette.compat import HAS_ROW_ACTIONS, can_view_table, is_row_page


@hookimpl
def prepare_connection(conn: Any, datasette: Any) -> None:
    annex.load(conn, tables.engines(datasette))


@hookimpl
def startup(datasette: Any) -> Any:
    async def prepare() -> None:
        tables.engines(datasette)
        for table in tables.configured(datasette):
            await tables.prepare(datasette, table)

    return prepare


@hookimpl
def register_routes() -> List[Tuple[str, Any]]:
    row = r"/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<pks>[^/]+)/-/similar"
    return [
        (r"/-/annex$", pages.indexes),
        (r"/-/annex\.json$", pages.indexes_json),
        (r"/-/annex/sync$", pages.sync),
        (row + "$", pages.similar),
        (row + r"\.json$", pages.similar_json),
    ]


@hookimpl
def menu_links(datasette: Any) -> List[Dict[str, str]]:
    return [{"href": datasette.urls.path("/-/annex"), "label": "Vector indexes"}]


async def _similar_link(datasette: Any, actor: Any, request: Any, database: str, table: str) -> str:
    """Where the rows similar to the one of this page are; "" when the table has no index."""
    if not await can_view_table(datasette, actor, database, table):
        return ""
    if not await tables.indexes_of(datasette, database, table):
        return ""
    path, _, _ = request.full_path.partition("?")
    return f"{path}/-/similar"


@hookimpl(optionalhook=True)
def row_actions(datasette: Any, actor: Any, request: Any, database: str, table: str) -> Any:
    async def actions() -> List[Dict[str, str]]:
        link = await _similar_link(datasette, actor, request, database, table)
        description = "The rows whose vectors are nearest to this one's"
        return [{"href": link, "label": "Similar rows", "description": description}] if link else []

    return actions


_LINK = """
(function () {
  var heading = document.querySelector("h1"), line = document.createElement("p");
  var link = document.createElement("a");
  line.className = "annex-similar";
  link.href = %s;
  link.textContent = "Similar rows";
  line.appendChild(link);
  if (heading) heading.insertAdjacentElement("afterend", line);
})();
"""


@hookimpl
def extra_body_script(
    datasette: Any, view_name: str, request: Any, database: Optional[str], table: Optional[str]
) -> Any:
    """Before 1.0 rows have no menu of actions: the link goes below the heading."""

    async def script() -> str:
        if HAS_ROW_ACTIONS or not is_row_page(view_name, request) or not (database and table):
            return ""
        link = await _similar_link(datasette, request.actor, request, database, table)
        return _LINK % json.dumps(link).replace("<", "\\u003c") if link else ""

    return script
