"""Annex adds a vector index to the data you already have.

Three ways to use it from Python:

* `Index`: an index of its own, in memory or in a file, over NumPy arrays or any other buffers;
* `load(connection)`: the SQL functions of Annex on a connection to SQLite, for indexes that live
  beside the rows they index and are always fresh;
* the command `annex`, or `python -m annex`.

NumPy is used where it is installed and never needed. `help(annex.Index)` is the reference, and
docs/PYTHON.md of the repository the manual.
"""

from annex._annex import isa, version
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
from annex.index import EXACT, Evaluation, Index, IndexInfo, SearchStats
from annex.sqlite import load, loadable_path
from annex.vectors import decode, distance, distances, encode

__version__ = version()

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
