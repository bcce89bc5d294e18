"""What the library raises: one class for each status of annex.h, all of them `AnnexError`.

The text of an error is one sentence: what happened, the values involved, what to do next. Each
class is also the exception of Python that comes nearest, so that `except ValueError` works.
"""

from __future__ import annotations

import typing


class AnnexError(Exception):
    """An error of Annex. `status` is the number that annex.h gives it."""

    status = 0


class NoMemoryError(AnnexError, MemoryError):
    """Memory could not be allocated, or a budget does not allow it."""

    status = 1


class IOFailedError(AnnexError, OSError):
    """The operating system failed to read, write or map."""

    status = 2


class DamagedError(AnnexError):
    """The content of a file contradicts itself or its checksum."""

    status = 3


class TooNewError(AnnexError):
    """The file needs a newer Annex."""

    status = 4


class BusyError(AnnexError):
    """Somebody else holds a lock; try again."""

    status = 5


class InvalidError(AnnexError, ValueError):
    """An argument or the data given are wrong: dimension, NaN, option …"""

    status = 6


class NotFoundError(AnnexError, LookupError):
    """The named index, file or key does not exist."""

    status = 7


class ExistsError(AnnexError, ValueError):
    """The name or key is already taken."""

    status = 8


class UnsupportedError(AnnexError):
    """A feature this build or this index does not have."""

    status = 9


class CancelledError(AnnexError):
    """The work was cancelled."""

    status = 10


class ReadOnlyError(AnnexError):
    """The database, file or index cannot be written."""

    status = 11


class FullError(AnnexError):
    """A limit of the format or the disk was reached."""

    status = 12


class HostError(AnnexError):
    """The database answered with an error; its text is in the message."""

    status = 13


class InternalError(AnnexError, RuntimeError):
    """A defect of Annex; the index refuses further work."""

    status = 14


CLASSES: typing.Dict[int, typing.Type[AnnexError]] = {
    kind.status: kind for kind in AnnexError.__subclasses__()
}


def of_status(status: int, message: str) -> AnnexError:
    """The exception for a status of annex.h."""
    return CLASSES.get(status, InternalError)(message)
