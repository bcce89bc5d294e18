"""Annex as an extension of SQLite: `load` it into a connection of any of the modules there are."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Sequence, Union

from annex.errors import UnsupportedError

_NO_EXTENSIONS = (
    "this connection cannot load extensions, because {module} was built without them; use the"
    " modules apsw or sqlean, or a Python whose sqlite3 has enable_load_extension (python.org's and"
    " Debian's do, pyenv's need PYTHON_CONFIGURE_OPTS=--enable-loadable-sqlite-extensions)"
)


def loadable_path() -> str:
    """The path of the SQLite extension, annex.so, for programs that take one.

    For example `sqlite3 docs.db -cmd ".load $(python -c 'import annex;
    print(annex.loadable_path())')"` or `datasette --load-extension`.
    """
    return str(pathlib.Path(__file__).resolve().parent / "annex.so")


def _method(connection: Any, *names: str) -> Any:
    return next((getattr(connection, name) for name in names if hasattr(connection, name)), None)


def load(connection: Any, engines: Sequence[Union[str, "os.PathLike[str]"]] = ()) -> None:
    """Gives a connection the SQL functions of Annex; docs/SQL.md describes them.

    connection: of the modules sqlite3, apsw, sqlean, pysqlite3 or any like them, or a
    `sqlite_utils.Database`. Extensions are enabled for the moment of the call. Loading twice does
    nothing. Milliseconds.
    engines: shared objects of other engines (docs/ENGINES.md), whose code is run.
    Raises UnsupportedError where the module was built without extensions, and the module's own
    error when SQLite is older than 3.38 or a file is no engine.
    """
    if isinstance(engines, (str, os.PathLike)):
        raise TypeError(f"give engines as a list: [{engines!r}]")
    connection = getattr(connection, "conn", connection)  # of sqlite_utils.Database
    if not hasattr(connection, "execute"):
        raise TypeError(f"load takes a connection to SQLite, not {connection!r}")
    enable = _method(connection, "enable_load_extension", "enableloadextension")
    load_extension = _method(connection, "load_extension", "loadextension")
    if enable is None or load_extension is None:
        module = type(connection).__module__
        raise UnsupportedError(_NO_EXTENSIONS.format(module=module))
    enable(True)
    try:
        load_extension(loadable_path())
        for engine in engines:
            connection.execute("SELECT annex_engine_load(?)", [os.fspath(engine)]).fetchone()
    finally:
        enable(False)
