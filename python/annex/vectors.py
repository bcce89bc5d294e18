"""Vectors and keys, from what Python programs have to what the C module takes, and back.

A buffer passes as it is: NumPy arrays, `array.array`, `memoryview`, `mmap`, tensors that give a
NumPy array without copying. Lists of numbers are copied. Results are NumPy arrays, or where NumPy
is not installed `memoryview`s of the same shape and type.
"""

from __future__ import annotations

import array
import itertools
import numbers
import os
import struct
import sys
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

from annex import _annex

if sys.platform == "win32" or sys.byteorder != "little":
    raise ImportError("Annex needs Linux or another Unix on a little-endian machine")

try:
    import numpy
except ImportError:  # everything works without it
    numpy: Any = None  # type: ignore[no-redef]

BIT_METRICS = ("hamming", "jaccard")
Path = Union[str, "os.PathLike[str]"]


def path_of(path: Path) -> str:
    """A path as the library takes it."""
    return os.fspath(path)


# ---- in ------------------------------------------------------------------------------------------


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _is_row(value: Any) -> bool:
    """Whether an element of a list is a vector itself: a list, an array, a tensor."""
    return isinstance(value, (list, tuple, array.array)) or getattr(value, "ndim", 0) == 1


def _flatten(rows: Sequence[Any]) -> Any:
    """A list of numbers, or a list of such lists or of arrays, as float32."""
    try:
        if not rows or not _is_row(rows[0]):
            return memoryview(array.array("f", rows))
        lists = [row.tolist() if hasattr(row, "tolist") else row for row in rows]
        width = len(lists[0])
        if not width:
            raise ValueError("row 0 has no elements; a vector has 1 to 65535 elements")
        for i, row in enumerate(lists):
            if len(row) != width:
                raise ValueError(f"row {i} has {len(row)} elements and row 0 has {width}")
        flat: Any = memoryview(array.array("f", itertools.chain.from_iterable(lists)))
    except TypeError as error:
        raise TypeError(f"vectors are an array, or lists of numbers: {error}") from None
    return flat.cast("B").cast("f", [len(lists), width])


def _pack_bits(value: Any) -> Any:
    """An array of bool as packed bits, in the order of annex.h."""
    return numpy.packbits(value, axis=-1, bitorder="little")


def buffer_of(value: Any, metric: str) -> Any:
    """Vectors as a buffer. Copies lists, and arrays of bool under hamming and jaccard."""
    if not _is_buffer(value):
        if hasattr(value, "__array__") and numpy is not None:
            value = numpy.asarray(value)
        elif metric in BIT_METRICS:
            raise TypeError(f"vectors of {metric} are packed bits: a buffer of uint8")
        else:
            value = _flatten(value)
    if metric in BIT_METRICS and numpy is not None and getattr(value, "dtype", None) == bool:
        return _pack_bits(value)
    return value


def dimension_of(value: Any, metric: str, dimension: Optional[int]) -> int:
    """The dimension to hand on: 0 where the shape says it."""
    if dimension is not None:
        return dimension
    if metric in BIT_METRICS and getattr(value, "dtype", None) == bool:
        return int(value.shape[-1])
    return 0


def is_single(value: Any) -> bool:
    """Whether the value is one vector, not rows of vectors."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return len(shape) == 1
    if _is_buffer(value):
        return memoryview(value).ndim == 1
    return not (isinstance(value, (list, tuple)) and value and _is_row(value[0]))


def rows_of(value: Any) -> List[Any]:
    """The rows of a buffer of two axes, one by one; none of a buffer of another shape."""
    view: Any = memoryview(value)
    if view.ndim != 2 or not view.nbytes:
        return []
    if hasattr(value, "dtype"):
        return list(value)
    data, width = view.cast("B"), view.nbytes // len(view)
    return [data[i : i + width].cast(view.format) for i in range(0, view.nbytes, width)]


def encode_key(key: Any) -> bytes:
    """A key that is text or bytes, as bytes."""
    if isinstance(key, str):
        return key.encode("utf-8", "surrogateescape")
    if isinstance(key, (bytes, bytearray)):
        return bytes(key)
    raise TypeError(f"a key is {key!r}; keys are all integers, all text or all bytes")


def keys_of(keys: Any) -> Tuple[Any, Any]:
    """Keys as the C module takes them: int64, or bytes and where each ends."""
    if keys is None:
        return None, None
    if numpy is not None and isinstance(keys, numpy.ndarray):
        if keys.dtype.kind == "u" and keys.size and int(keys.max()) >= 2**63:
            raise ValueError(f"the key {int(keys.max())} does not fit into 64 bits with a sign")
        if keys.dtype.kind in "iu":
            return numpy.ascontiguousarray(keys, dtype=numpy.int64), None
        if keys.dtype.kind == "b" or keys.dtype.kind == "f":
            raise TypeError(f"keys are integers, text or bytes, not {keys.dtype}")
        keys = keys.tolist()
    elif isinstance(keys, (str, bytes, numbers.Integral)):
        raise TypeError(f"give keys as a list: [{keys!r}]")
    elif _is_buffer(keys):
        return keys, None
    keys = list(keys)
    if all(isinstance(key, numbers.Integral) for key in keys):
        for key in (min(keys, default=0), max(keys, default=0)):
            if not -(2**63) <= key < 2**63:
                raise ValueError(f"the key {key} does not fit into 64 bits with a sign")
        return array.array("q", keys), None
    encoded = [encode_key(key) for key in keys]
    ends = array.array("Q", itertools.accumulate(map(len, encoded)))
    return b"".join(encoded), ends


def kind_of_keys(keys: Any) -> type:
    """int, str or bytes: what keys of these are given back as."""
    if keys is None or _is_buffer(keys) and getattr(keys, "dtype", None) is None:
        return int
    first = next(iter(keys), 0)
    return bytes if isinstance(first, bytes) else str if isinstance(first, str) else int


def decoder_of(kind: type) -> Callable[[Optional[bytes]], Any]:
    """What makes a key of the index one of the caller."""
    if kind is bytes:
        return lambda key: key
    return lambda key: None if key is None else key.decode("utf-8", "surrogateescape")


# ---- out -----------------------------------------------------------------------------------------

_DTYPES = {"q": "int64", "d": "float64", "f": "float32", "B": "uint8", "Q": "uint64"}


def room_for(letter: str, shape: Sequence[int]) -> Any:
    """Zeroed room for results: a NumPy array, or a memoryview of that shape and type."""
    if numpy is not None:
        return numpy.zeros(tuple(shape), dtype=_DTYPES[letter])
    return view_of(bytearray(struct.calcsize(letter) * _product(shape)), letter, shape)


def _product(shape: Sequence[int]) -> int:
    product = 1
    for n in shape:
        product *= n
    return product


def view_of(data: bytearray, letter: str, shape: Sequence[int]) -> Any:
    """Bytes as an array, without copying."""
    if numpy is not None:
        return numpy.frombuffer(data, dtype=_DTYPES[letter]).reshape(tuple(shape))
    flat: Any = memoryview(data)
    if not _product(shape):  # a memoryview cannot have an axis of length 0
        return flat.cast(letter)
    return flat.cast(letter, list(shape))


def nested(flat: List[Any], n: int, k: int) -> List[List[Any]]:
    """A flat list of n * k items as n lists."""
    return [flat[i * k : (i + 1) * k] for i in range(n)]


# ---- functions of vectors ------------------------------------------------------------------------


def distances(metric: str, query: Any, rows: Any, *, dimension: Optional[int] = None) -> Any:
    """The exact distances from one query to n rows.

    query: [dimension]; rows: [n, dimension], float32, float16, float64, int8 or uint8, or for
    "hamming" and "jaccard" packed bits (uint8, little bit order) or bool. Gives [n] float64;
    NaN for a row that has no distance, such as a zero vector under "cosine". Costs little more than
    reading the rows. The metrics: "l2", "ip" (minus the inner product), "cosine" (1 - cos), "l1",
    "hamming", "jaccard".
    """
    size = dimension_of(query, metric, dimension)
    query, rows = buffer_of(query, metric), buffer_of(rows, metric)
    view = memoryview(rows)
    if view.ndim == 2:
        n = len(view)
    else:
        width = memoryview(query).nbytes
        n = view.nbytes // width if width else 0
    room = room_for("d", [n])
    _annex.distances(metric, size, query, rows, room)
    return room


def distance(metric: str, a: Any, b: Any, *, dimension: Optional[int] = None) -> float:
    """The exact distance of two vectors; see `distances`."""
    return float(distances(metric, a, b, dimension=dimension)[0])


def encode(vector: Any) -> bytes:
    """A vector [dimension] as a blob of little-endian float32, as Annex, llm and datasette-faiss
    store it."""
    if numpy is None:
        return array.array("f", vector).tobytes()
    elements = numpy.asarray(vector, dtype="<f4")
    if elements.ndim != 1:
        raise ValueError(f"encode takes one vector, [dimension]; this has {elements.ndim} axes")
    return bytes(elements.tobytes())


def decode(blob: Any) -> Any:
    """The vector of such a blob: a read-only view of float32, without copying."""
    data = memoryview(blob).cast("B")
    if data.nbytes % 4:
        raise ValueError(f"a blob of {data.nbytes} bytes is no vector of float32")
    if numpy is not None:
        return numpy.frombuffer(data, dtype="<f4")
    return data.cast("f")
