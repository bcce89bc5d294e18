"""Annex adds a vector index to the data you already have.

Three ways to use it from Python:

* `Index`: an index of its own, in memory or in a file, over NumPy arrays or any other buffers;
* `load(connection)`: the SQL functions of Annex on a connection to SQLite, for indexes that live
  beside the rows they index and are always fresh;
* the command `annex`, or `python -m annex`.

NumPy is used where it is installed and never needed. `help(annex.Index)` is the reference, and
docs/PYTHON.md of the repository the manual.

Importing it is quick: the C library and NumPy are loaded when something that stands on them is
first used. A program with a plug-in of ours, such as llm, does not wait for them.
"""

from typing import TYPE_CHECKING, Any, List

from annex.errors import (
    AnnexError,
    BusyError,
    CancelledError,
    DamagedError,
    ExistsError,
    FullError,
    HostError,
    InternalError,
    InvalidError,
    IOFailedError,
    NoMemoryError,
    NotFoundError,
    ReadOnlyError,
    TooNewError,
    UnsupportedError,
)
from annex.sqlite import load, loadable_path

if TYPE_CHECKING:
    from annex._annex import isa, version
    from annex.index import EXACT, Evaluation, Index, IndexInfo, SearchStats
    from annex.vectors import decode, distance, distances, encode

    __version__: str

__all__ = [
    "EXACT",
    "AnnexError",
    "BusyError",
    "CancelledError",
    "DamagedError",
    "Evaluation",
    "ExistsError",
    "FullError",
    "HostError",
    "IOFailedError",
    "Index",
    "IndexInfo",
    "InternalError",
    "InvalidError",
    "NoMemoryError",
    "NotFoundError",
    "ReadOnlyError",
    "SearchStats",
    "TooNewError",
    "UnsupportedError",
    "decode",
    "distance",
    "distances",
    "encode",
    "isa",
    "load",
    "loadable_path",
    "version",
]

if not TYPE_CHECKING:  # to which every name would be one of the package

    def __getattr__(name: str) -> Any:
        if name not in __all__ and name != "__version__":
            raise AttributeError(f"module 'annex' has no attribute {name!r}")
        from annex import _annex, index, vectors

        if name == "__version__":
            return _annex.version()
        modules = (index, vectors, _annex)  # the last has an Index, too, below that of index
        value = next(getattr(module, name) for module in modules if hasattr(module, name))
        globals()[name] = value
        return value


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
