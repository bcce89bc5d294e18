"""What differs between Datasette 0.6x and 1.0: permissions and the menu of a row."""

from __future__ import annotations

from typing import Any

from datasette import Forbidden, hookspecs

HAS_ROW_ACTIONS = hasattr(hookspecs, "row_actions")


def is_row_page(view_name: str, request: Any) -> bool:
    """Whether a template is that of a row's page."""
    return view_name == "row" and request is not None


async def can_view_table(datasette: Any, actor: Any, database: str, table: str) -> bool:
    """Whether the actor may see the rows of a table."""
    if hasattr(datasette, "allowed"):
        from datasette.resources import TableResource

        resource = TableResource(database=database, table=table)
        return bool(await datasette.allowed(action="view-table", resource=resource, actor=actor))
    visible, _ = await datasette.check_visibility(
        actor,
        permissions=[
            ("view-table", (database, table)),
            ("view-database", database),
            "view-instance",
        ],
    )
    return bool(visible)


async def ensure_table(datasette: Any, actor: Any, database: str, table: str) -> None:
    """Raises Forbidden unless the actor may see the rows of a table."""
    if not await can_view_table(datasette, actor, database, table):
        raise Forbidden("You do not have permission to view this table")
