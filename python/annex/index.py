"""`Index`: an index of its own, in memory or in a file.

Results are written in place into arrays that are given to the caller; vectors that come as float32
or packed bits are read where they lie. Other threads of Python run while the library works.
"""

from __future__ import annotations

import dataclasses
import numbers
import operator
import time
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

from annex import _annex
from annex.vectors import (
    BIT_METRICS,
    Path,
    buffer_of,
    decoder_of,
    dimension_of,
    encode_key,
    is_single,
    keys_of,
    kind_of_keys,
    nested,
    path_of,
    rows_of,
    room_for,
    view_of,
)

EXACT = "exact"
_EFFORT_EXACT = 0xFFFFFFFF
_OPEN_VERIFY = 1
_OPEN_LOAD = 2
_EXAMPLES = {"metric": "cosine", "family": "graph", "codes": "q8", "raw": "keep"}

Key = Union[int, str, bytes]
Effort = Union[None, int, str]
Progress = Callable[[str, int, int], object]


@dataclasses.dataclass(frozen=True)
class IndexInfo:
    """What an index is. Sizes in bytes; `recall_points` are (effort, recall at k = 10), measured
    after the build with rows that were held back."""

    metric: str
    dimension: int
    family: str
    codes: str
    raw: str
    key_kind: str
    rows: int
    slots: int
    skipped: int
    bytes: int
    raw_bytes: int
    degree: int
    default_effort: int
    lossless: bool
    rotated: bool
    has_vectors: bool
    changed: bool
    recall_points: Tuple[Tuple[int, float], ...]


@dataclasses.dataclass
class SearchStats:
    """What searches cost, summed over all that it is given to.

    hops: rows whose neighbours were looked at; distances: approximate distances computed; reranked:
    exact ones; cut: queries that `max_scan` or `timeout` ended early; bytes read.
    """

    hops: int = 0
    distances: int = 0
    reranked: int = 0
    cut: int = 0
    bytes: int = 0

    def _add(self, counts: Tuple[int, int, int, int, int]) -> None:
        for field, count in zip(dataclasses.fields(self), counts):
            setattr(self, field.name, getattr(self, field.name) + count)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One point of `Index.evaluate`: recall from 0 to 1, latencies in milliseconds, one thread."""

    effort: Union[int, str]
    k: int
    recall: float
    queries_per_second: float
    mean_ms: float
    p50_ms: float
    p99_ms: float


class Index:
    """An index over vectors, made by `Index.build` or `Index.open`. A context manager.

    Any number of threads may search at once, while one changes the index: changes wait for each
    other. Closing while others search is allowed; the memory goes with the last of them.
    """

    _index: _annex.Index
    _metric: str
    _dimension: int
    _kind: type
    _decode: Callable[[Optional[bytes]], Any]

    def __init__(self) -> None:
        raise TypeError("use Index.build or Index.open")

    @classmethod
    def _adopt(cls, index: _annex.Index, kind: type) -> Index:
        self = cls.__new__(cls)
        self._index = index
        info = index.info()
        self._metric = info["metric"]
        self._dimension = info["dimension"]
        text = bytes if kind is bytes else str
        self._kind = int if info["key_kind"] == "integer" else text
        self._decode = decoder_of(self._kind)
        return self

    # ---- birth -----------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        vectors: Any,
        keys: Optional[Sequence[Any]] = None,
        *,
        metric: str = "l2",
        path: Optional[Path] = None,
        dimension: Optional[int] = None,
        family: str = "auto",
        codes: str = "auto",
        raw: str = "auto",
        degree: int = 0,
        effort: int = 0,
        threads: int = 0,
        max_memory_bytes: int = 0,
        seed: int = 0,
        progress: Optional[Progress] = None,
    ) -> Index:
        """Builds an index over vectors and opens it.

        vectors: [n, dimension], C-contiguous: float32, which is read where it lies (also a
          numpy.memmap larger than memory), or float16, float64, int8 or uint8, widened piece by
          piece. For "hamming" and "jaccard" packed bits, [n, (dimension + 7) // 8] uint8 in little
          bit order, or an array of bool. A flat buffer needs `dimension`. Lists are copied.
        keys: [n] integers of 64 bits, or str, or bytes (up to 65535 bytes each): what names a row
          in answers. None numbers the rows from 0.
        metric: "l2", "ip", "cosine", "l1", "hamming" or "jaccard".
        path: the file to write, whole or not at all; None builds in memory.
        dimension: elements a vector, where the shape does not say it; bits for bit metrics.
        family: "flat" (scans, exact), "graph", "ivf", or "auto": flat below some thousand rows.
        codes: how rows are coded for search: "q8", "q4", "f16", "bf16", "f32", "bits", "auto".
        raw: whether vectors are stored for exact distances: "keep", "none", "f16", "bf16", "auto".
        degree, effort: of a graph: neighbours a row (8 to 128), candidates while linking. 0: chosen
        threads: 0 for all; the result does not depend on it.
        max_memory_bytes: refuses before the work begins when that cannot suffice; 0: no bound.
        progress: called with (phase, done, total) up to 20 times a second; what it raises ends the
          build. It must not use the index. Ctrl-C ends a build too.

        Cost: about 100 us a row and thread at 384 dimensions; memory about dimension + 5 * degree +
        8 bytes a row besides the vectors. The same rows, options and seed give the same bytes on
        every machine. Raises InvalidError for NaN and infinities (with the row's number), for two
        rows of one key, for unknown names; TypeError and ValueError for buffers of another type or
        shape; NoMemoryError, IOFailedError, FullError.
        """
        for name, value in {"metric": metric, "family": family, "codes": codes, "raw": raw}.items():
            if not isinstance(value, str):
                raise TypeError(f"{name} is {value!r}; it is a name, such as {_EXAMPLES[name]!r}")
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is {progress!r}; it is called with (phase, done, total)")
        size = dimension_of(vectors, metric, dimension)
        given, ends = keys_of(keys)
        index = _annex.Index.build(
            buffer_of(vectors, metric), given, ends, _count("dimension", size, 32), metric,
            None if path is None else path_of(path), family, raw, codes,
            _count("degree", degree, 32), _count("effort", effort, 32),
            _count("threads", threads, 32), _count("max_memory_bytes", max_memory_bytes, 64),
            _count("seed", seed, 64), progress,
        )
        return cls._adopt(index, kind_of_keys(keys))

    @classmethod
    def open(
        cls, path: Path, *, verify: bool = False, load: bool = False, key_type: type = str
    ) -> Index:
        """Opens an index file. Milliseconds at any size; the memory is shared between processes.

        verify: reads the whole file and compares every checksum.
        load: reads the file into memory instead of mapping it: searches are some 10 % faster.
        key_type: str or bytes, for an index whose keys are no integers.
        Raises NotFoundError, DamagedError, TooNewError, IOFailedError.
        """
        if key_type not in (str, bytes, int):
            raise TypeError(f"key_type is {key_type!r}; it is str or bytes")
        flags = (_OPEN_VERIFY if verify else 0) | (_OPEN_LOAD if load else 0)
        return cls._adopt(_annex.Index.open(path_of(path), flags), key_type)

    # ---- searching -------------------------------------------------------------------------------

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        effort: Effort = None,
        recall: Optional[float] = None,
        keys: Optional[Sequence[Any]] = None,
        mask: Any = None,
        threads: int = 0,
        max_scan: int = 0,
        timeout: float = 0.0,
        stats: Optional[SearchStats] = None,
    ) -> Tuple[Any, Any]:
        """The k nearest rows of each query, nearest first, rows of equal distance by key.

        queries: [dimension] for one query or [n, dimension] for n, of any type `build` takes.
        Gives (keys, distances). For one query both are [found], found = min(k, rows that pass);
          for n queries [n, k], where a row that was not found has the key -1 (None) and the
          distance infinity. Distances are float64; keys int64, or lists of str or bytes. With k
          beyond the number of rows, k is that number.
        effort: candidates a graph keeps or lists an ivf looks at, or annex.EXACT for every row.
        recall: instead of an effort: the least that measured at least this, from 0 to 1.
        keys: only these rows may be found; keys that are not there are passed over.
        mask: instead, for integer keys: mask[key] says whether a row may be found; bool or uint8.
          With a filter min(k, rows that pass) rows are always found.
        threads: for several queries; 0 for all, 1 for this one only.
        max_scan, timeout: end a query early, after so many rows or seconds, with what was found;
          `stats.cut` counts the queries that were.
        stats: gets the costs added.

        Cost: some 100 us a query in a graph of a million rows; flat and exact searches read all
        codes. Ctrl-C ends it. Raises InvalidError for NaN, a zero query under cosine, or an effort
        and a recall at once; TypeError and ValueError for buffers that do not fit.
        """
        single = is_single(queries)
        queries = buffer_of(queries, self._metric)
        n = self._rows_of(queries)
        if not isinstance(k, numbers.Integral):
            raise TypeError(f"k is {k!r}; it is a number of rows")
        if k < 0:
            raise ValueError(f"k is {k}; it cannot be negative")
        k = min(int(k), self._index.info()["rows"])
        found = room_for("Q", [n])
        near = room_for("d", [n, k])
        integers = room_for("q", [n, k]) if self._kind is int else None
        request = self._request(effort, recall, threads, max_scan, timeout, keys, mask)
        names, counts = self._index.search(queries, k, integers, near, found, request)
        if stats is not None:
            stats._add(counts)
        if names is not None:
            named = list(map(self._decode, names))
            if single:
                return named[: found[0]], _first(near, found)
            return nested(named, n, k), near
        return (_first(integers, found), _first(near, found)) if single else (integers, near)

    def within(
        self,
        query: Any,
        distance: float,
        *,
        effort: Effort = None,
        recall: Optional[float] = None,
        keys: Optional[Sequence[Any]] = None,
        mask: Any = None,
        max_scan: int = 0,
        timeout: float = 0.0,
        stats: Optional[SearchStats] = None,
    ) -> Tuple[Any, Any]:
        """All rows at most `distance` from one query [dimension], nearest first.

        Gives (keys, distances), each [found]. Looks at every row unless an effort or a recall is
        given; the other parameters, costs and errors are those of `search`.
        """
        request = self._request(effort, recall, 0, max_scan, timeout, keys, mask)
        query = buffer_of(query, self._metric)
        found, near, counts = self._index.within(query, float(distance), request)
        if stats is not None:
            stats._add(counts)
        distances = view_of(near, "d", [len(near) // 8])
        if isinstance(found, bytearray):
            return view_of(found, "q", [len(found) // 8]), distances
        return list(map(self._decode, found or [])), distances

    def _rows_of(self, queries: Any) -> int:
        view = memoryview(queries)
        return len(view) if view.ndim == 2 else 1

    def _request(
        self, effort: Effort, recall: Optional[float], threads: int, max_scan: int, timeout: float,
        keys: Optional[Sequence[Any]], mask: Any,
    ) -> Tuple[int, float, int, int, float, Any, Any, Any]:
        if effort == EXACT:
            effort = _EFFORT_EXACT
        whole = isinstance(effort, numbers.Integral)
        if effort is not None and not (whole and 0 < int(effort) <= _EFFORT_EXACT):
            raise ValueError(f"the effort is {effort!r}; it is a number from 1 or annex.EXACT")
        if recall is not None and not (isinstance(recall, numbers.Real) and 0 < recall <= 1):
            raise ValueError(f"the recall is {recall!r}; it lies above 0 and up to 1")
        if not (isinstance(timeout, numbers.Real) and timeout >= 0):
            raise ValueError(f"the timeout is {timeout!r}; it is a number of seconds, 0 for none")
        if isinstance(mask, (list, tuple)):
            raise TypeError("a mask is an array of bool: pass numpy.asarray(mask)")
        given, ends = (None, None) if keys is None else self._keys(keys)
        threads, max_scan = _count("threads", threads, 32), _count("max_scan", max_scan, 64)
        return (effort or 0, recall or 0.0, threads, max_scan, timeout, given, ends, mask)

    def evaluate(
        self,
        queries: Any,
        k: int = 10,
        efforts: Optional[Sequence[Effort]] = None,
    ) -> List[Evaluation]:
        """Recall and speed of searches along effort, measured here and now against exact search.

        queries: [n, dimension], better not rows of the index. efforts: what to measure; None takes
        the efforts of `info.recall_points`, or the default. Each query runs alone on one thread.
        """
        queries = buffer_of(queries, self._metric)
        single = rows_of(queries)
        if not single:
            raise ValueError("evaluate needs queries as [n, dimension], at least one")
        truth = [set(_listed(self.search(q, k, effort=EXACT)[0])) for q in single]
        if efforts is None:
            efforts = [effort for effort, _ in self.info.recall_points] or [None]
        return [self._measure(single, truth, k, effort) for effort in efforts]

    def _measure(self, queries: List[Any], truth: List[Any], k: int, effort: Effort) -> Evaluation:
        times, hits = [], 0
        for query, true in zip(queries, truth):
            start = time.perf_counter()
            found, _ = self.search(query, k, effort=effort, threads=1)
            times.append(1e3 * (time.perf_counter() - start))
            hits += len(true.intersection(_listed(found)))
        times.sort()
        mean = sum(times) / len(times)
        named = self.info.default_effort or EXACT if effort is None else effort
        return Evaluation(
            effort=named,
            k=k,
            recall=hits / max(1, sum(map(len, truth))),
            queries_per_second=1e3 / mean,
            mean_ms=mean,
            p50_ms=times[len(times) // 2],
            p99_ms=times[len(times) * 99 // 100],
        )

    # ---- rows ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self._index.info()["rows"])

    def __contains__(self, key: Key) -> bool:
        return self._index.contains(self._encode(key))

    def vector(self, key: Key) -> Any:
        """The vector of a row: [dimension] float32 or packed bits; under cosine the unit vector.

        Without stored vectors it is the one that the codes stand for. Raises NotFoundError.
        """
        if self._metric in BIT_METRICS:
            room = room_for("B", [(self._dimension + 7) // 8])
        else:
            room = room_for("f", [self._dimension])
        self._index.vector(self._encode(key), room)
        return room

    def _encode(self, key: Any) -> Union[int, bytes]:
        if self._kind is int:
            return operator.index(key)
        return encode_key(key)

    def insert(self, vectors: Any, keys: Sequence[Any]) -> None:
        """Adds rows, all of them or none: vectors [n, dimension], keys [n].

        Searches find them at once; `save` keeps them. Cost: a search of the build effort for each
        row. As it is one change, Ctrl-C waits for its end: give many rows in several calls, some
        thousand each, and it ends between two. Raises ExistsError for a key that is there;
        InvalidError for NaN, with the row's key.
        """
        self._index.insert(buffer_of(vectors, self._metric), *self._keys(keys))

    def update(self, vectors: Any, keys: Sequence[Any]) -> None:
        """As `insert`, but a row whose key is there is replaced."""
        self._index.update(buffer_of(vectors, self._metric), *self._keys(keys))

    def delete(self, keys: Sequence[Any]) -> None:
        """Removes the rows with these keys, all or none; one change, as `insert`. Raises
        NotFoundError for a key that is not there."""
        self._index.delete(*self._keys(keys))

    def _keys(self, keys: Sequence[Any]) -> Tuple[Any, Any]:
        if keys is None:
            raise TypeError("give the keys of the rows")
        given, ends = keys_of(keys)
        if not len(keys) and self._kind is not int:
            return b"", memoryview(b"").cast("Q")
        return given, ends

    # ---- files and life --------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Writes the index to a file, whole or not at all, without the rows that were deleted."""
        self._index.save(path_of(path))

    def check(self) -> None:
        """Reads everything: checksums, keys, and whether a walk can reach every row. DamagedError
        says what was found."""
        self._index.check()

    @property
    def info(self) -> IndexInfo:
        """What the index is, now."""
        return IndexInfo(**self._index.info())

    @property
    def metric(self) -> str:
        return self._metric

    @property
    def dimension(self) -> int:
        return self._dimension

    def close(self) -> None:
        """Closes the index; searches that run in other threads come to their end first."""
        self._index.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            info = self.info
        except ValueError:
            return "<annex.Index, closed>"
        return f"<annex.Index of {info.rows} rows, {info.dimension} x {info.metric}, {info.family}>"


def _count(name: str, value: int, bits: int) -> int:
    """A number that C takes as one without sign."""
    if not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r}; it is a whole number")
    if not 0 <= operator.index(value) < 1 << bits:
        raise ValueError(f"{name} is {value}; it is a number from 0 to {(1 << bits) - 1}")
    return value


def _first(rows: Any, found: Any) -> Any:
    """The one row of a result, without what was not found."""
    if not isinstance(rows, memoryview):
        return rows[0, : found[0]]
    flat: Any = rows.cast("B")
    return flat.cast(rows.format)[: found[0]]


def _listed(keys: Any) -> List[Any]:
    return list(keys) if isinstance(keys, list) else list(keys.tolist())
