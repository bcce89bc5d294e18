"""`Collection.similar` of llm, answered by an index over the collection.

An index proposes candidates, some more than are wanted; their scores are computed by llm's own
`cosine_similarity`, so that answers are those of llm to the last digit: items of one score come in
the order of their ids, as llm reads them. Where no index can answer, llm does it by itself.

`install` replaces the three methods of `llm.Collection` by ones that take the same arguments, and
`index`, `where` and `recall` beyond them.

How the index is asked: by SQL on the connection of the collection, which sees what that connection
has not committed; or, where this Python's sqlite3 loads no extensions, by the command `annex
similar`, which sees what is committed.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import math
import sqlite3
import struct
import subprocess
import sys
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import llm
from llm.embeddings import Collection, Entry

import annex
from annex.__main__ import find_command

# Candidates beyond those that are wanted, and how far the distances of an index, which are those of
# f32, may be from those of llm. Further candidates are asked for while the last one is that near.
_SPARE_ROWS = 16
_SLACK = 1e-5
# A condition is tried on so many of the nearest items before the items that fulfil it are read.
_FILTERED_ROWS = 1000
_MOST_BY_INDEX = 1 << 20
_EXIT_NOT_FOUND = 3  # of the command annex

# id, embedding, content, metadata and the distance that an index gave
_Row = Tuple[str, bytes, Optional[str], Optional[str], float]


class _Wish(NamedTuple):
    """What a question wants beyond the arguments that llm knows."""

    index_name: Optional[str] = None
    where: Optional[str] = None
    recall: Optional[float] = None
    engines: Sequence[str] = ()


_wish: contextvars.ContextVar[_Wish] = contextvars.ContextVar("annex_wish", default=_Wish())


class _Index(NamedTuple):
    name: str
    dimension: int
    metric: str
    format: str
    where: Optional[str]


class _Question(NamedTuple):
    collection: Collection
    vector: Sequence[float]
    number: int
    conditions: str  # SQL, on the columns of embeddings; "1" for none
    parameters: Dict[str, Any]
    wish: _Wish


@contextlib.contextmanager
def wishing(
    index: Optional[str] = None,
    where: Optional[str] = None,
    recall: Optional[float] = None,
    engines: Sequence[str] = (),
) -> Iterator[None]:
    """Within it all questions to collections are asked of that index and under that condition, on
    connections that have loaded those engines."""
    if recall is not None and not 0 < recall <= 1:
        raise ValueError(f"the recall is {recall}; it lies above 0 and up to 1")
    token = _wish.set(_Wish(index, where, recall, engines))
    try:
        yield
    finally:
        _wish.reset(token)


@functools.lru_cache(maxsize=None)
def _say_once(sentence: str) -> None:
    print(f"annex: {sentence}; llm compares with every item itself", file=sys.stderr)


# ---- the answer ----------------------------------------------------------------------------------


def _score(embedding: bytes, vector: Sequence[float]) -> float:
    """As llm computes it, with the sums of this Python."""
    other = llm.decode(embedding)  # type: ignore[no-untyped-call]
    score: float = llm.cosine_similarity(other, vector)  # type: ignore[no-untyped-call]
    return score


def _entries(question: _Question, rows: List[_Row]) -> List[Entry]:
    """The best of the candidates, by the scores of llm."""
    if len(rows) > question.number > 0:
        last = sorted(row[4] for row in rows)[question.number - 1]
        rows = [row for row in rows if row[4] <= last + _SLACK]
    scored = [(_score(row[1], question.vector), row) for row in rows]
    scored.sort(key=lambda pair: (-pair[0], pair[1][0].encode("utf-8", "surrogatepass")))
    return [
        Entry(
            id=row[0],
            score=score,
            content=row[2],
            metadata=json.loads(row[3]) if row[3] else None,
        )
        for score, row in scored[: question.number]
    ]


# ---- by SQL --------------------------------------------------------------------------------------


def _has_functions(connection: sqlite3.Connection) -> bool:
    """Whether the connection has the functions of Annex, now."""
    try:
        connection.execute("SELECT annex_version()")
        return True
    except sqlite3.OperationalError:
        pass
    try:
        annex.load(connection)
    except annex.UnsupportedError:
        return False
    return True


def _find_index(question: _Question) -> Optional[_Index]:
    """The index that is named, or the default one. Raises NotFoundError for a wrong name."""
    name = question.wish.index_name
    sql = """
        SELECT name, dimension, metric, format, "where" FROM annex_indexes
         WHERE schema = 'main' AND "table" = 'embeddings' AND source = :source AND """
    sql += "is_default" if name is None else "name IN (:name, :name || '.' || :source)"
    row = question.collection.db.conn.execute(
        sql, {"source": question.collection.name, "name": name}
    ).fetchone()
    if row is None and name is not None:
        raise annex.NotFoundError(
            f"collection {question.collection.name} has no index {name};"
            " llm index list shows the indexes there are"
        )
    return _Index(*row) if row else None


def _nearest(question: _Question, index: _Index, k: int, limit: int) -> List[_Row]:
    """Of the k nearest items those that fulfil the conditions, nearest first."""
    recall = question.wish.recall
    options = {"effort": "exact"} if recall is None else {"recall": recall}
    # CROSS JOIN: the index is asked first, and its items looked up
    sql = f"""
        SELECT embeddings.id, embedding, content, metadata, distance
          FROM annex_search(:annex_index, :annex_query, :annex_k, :annex_options)
         CROSS JOIN embeddings ON collection_id = :annex_collection AND embeddings.id = key2
         WHERE ({question.conditions}
               )
         ORDER BY distance LIMIT :annex_limit"""
    parameters = {
        **question.parameters,
        "annex_index": index.name,
        "annex_k": k,
        "annex_options": json.dumps(options),
        "annex_limit": limit,
    }
    return question.collection.db.conn.execute(sql, parameters).fetchall()


def _nearest_of_few(question: _Question, limit: int) -> List[_Row]:
    """The same of all items: reads the vectors of those that fulfil the conditions."""
    sql = f"""
        SELECT id, embedding, content, metadata,
               annex_distance('cosine', embedding, :annex_query) AS annex_d
          FROM embeddings
         WHERE collection_id = :annex_collection AND ({question.conditions}
               ) AND annex_d IS NOT NULL
         ORDER BY annex_d LIMIT :annex_limit"""
    parameters = {**question.parameters, "annex_limit": limit}
    return question.collection.db.conn.execute(sql, parameters).fetchall()


def _candidates(question: _Question, index: _Index) -> List[_Row]:
    """Items enough to know the best for sure: the last one is clearly further than those wanted."""
    limit = question.number + _SPARE_ROWS
    filtered = "annex_prefix" in question.parameters or question.wish.where is not None
    while True:
        k = max(_FILTERED_ROWS, 4 * limit) if filtered else limit + 1  # one may be left out by id
        rows = _nearest(question, index, k, limit)
        if filtered and len(rows) < limit:
            rows = _nearest_of_few(question, limit)
        if len(rows) < limit or rows[-1][4] > rows[question.number - 1][4] + _SLACK:
            return rows
        limit *= 4


def _by_sql(question: _Question) -> Optional[List[Entry]]:
    if question.wish.engines:
        annex.load(question.collection.db.conn, question.wish.engines)
    index = _find_index(question)
    if index is None:
        return None
    if (index.metric, index.format) != ("cosine", "f32") or index.where:
        raise annex.UnsupportedError(
            f"index {index.name} is not of the kind that llm index create makes"
        )
    if index.dimension != len(question.vector):
        raise annex.InvalidError(
            f"the vector to compare with has {len(question.vector)} dimensions, and index"
            f" {index.name} has {index.dimension}"
        )
    return _entries(question, _candidates(question, index))


# ---- by the command ------------------------------------------------------------------------------


def _file_of(connection: sqlite3.Connection) -> Optional[str]:
    """The file of the database when other processes see in it what the connection sees."""
    path = next(row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main")
    return path if path and not connection.in_transaction else None


def _require_index(path: str, name: str) -> None:
    """Raises NotFoundError when there is no index of the name."""
    command = [find_command(), "info", path, name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == _EXIT_NOT_FOUND:
        raise annex.NotFoundError(done.stderr.strip().partition("annex: ")[2])


def _by_command(question: _Question) -> Optional[List[Entry]]:
    connection = question.collection.db.conn
    path = _file_of(connection)
    if path is None:
        raise annex.UnsupportedError("this sqlite3 loads no extensions, and others see no index")
    if question.wish.where is not None:
        raise annex.UnsupportedError("a condition needs a sqlite3 that loads extensions")
    prefix, skip = question.parameters.get("annex_prefix"), question.parameters.get("annex_skip")
    command = [find_command(), "similar", question.collection.name, "--vector", "-", "-d", path]
    command += ["-n", str(question.number + _SPARE_ROWS)]
    command += ["--prefix", prefix] if prefix else []
    command += ["--index", question.wish.index_name] if question.wish.index_name else []
    command += ["--recall", str(question.wish.recall)] if question.wish.recall else []
    command += [word for engine in question.wish.engines for word in ("--load-engine", engine)]
    vector = json.dumps([float(element) for element in question.vector])
    done = subprocess.run(command, input=vector, capture_output=True, text=True)
    if done.returncode != 0:
        if question.wish.index_name:
            _require_index(path, question.wish.index_name)
        raise annex.HostError(done.stderr.strip().partition("Error: ")[2])
    found = (json.loads(line) for line in done.stdout.splitlines())
    sql = """SELECT id, embedding, content, metadata, ? FROM embeddings
              WHERE collection_id = ? AND id = ?"""
    rows: List[_Row] = []
    for item in found:
        if item["id"] != skip:
            key = (1 - item["score"], question.collection.id, item["id"])
            rows += connection.execute(sql, key).fetchall()
    return _entries(question, rows)


# ---- the question --------------------------------------------------------------------------------


def _question(
    collection: Collection,
    vector: Sequence[float],
    number: int,
    skip_id: Optional[str],
    prefix: Optional[str],
) -> _Question:
    wish = _wish.get()
    conditions = []
    parameters: Dict[str, Any] = {"annex_collection": collection.id}
    if prefix:
        conditions.append("embeddings.id LIKE :annex_prefix || '%'")
        parameters["annex_prefix"] = prefix
    if skip_id:
        conditions.append("embeddings.id <> :annex_skip")
        parameters["annex_skip"] = skip_id
    if wish.where is not None:
        conditions.append(f"({wish.where}\n)")  # which may end in a comment
    return _Question(collection, vector, number, " AND ".join(conditions) or "1", parameters, wish)


def _has_indexes(connection: sqlite3.Connection) -> bool:
    sql = "SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = 'annex_index'"
    return connection.execute(sql).fetchone() is not None


def _by_index(question: _Question) -> Optional[List[Entry]]:
    """The answer of an index, None when there is none that can give it."""
    asked = question.wish.index_name is not None or bool(question.wish.engines)
    connection = question.collection.db.conn
    vector = question.vector
    if not 0 < question.number < _MOST_BY_INDEX or not any(vector):
        return None
    if not asked and not _has_indexes(connection):
        return None
    try:
        packed = struct.pack(f"<{len(vector)}f", *vector)
        if not all(map(math.isfinite, vector)):
            return None
        question.parameters["annex_query"] = packed
        return (_by_sql if _has_functions(connection) else _by_command)(question)
    except annex.NotFoundError:
        raise
    except (annex.AnnexError, sqlite3.Error, struct.error, OverflowError, OSError) as error:
        if asked:
            _say_once(str(error))
        return None


def _scan(question: _Question) -> List[Entry]:
    """What llm does, under a condition, which llm has not."""

    def annex_score(embedding: bytes) -> float:
        return _score(embedding, question.vector)

    question.collection.db.register_function(annex_score, replace=True)
    sql = f"""
        SELECT id, content, metadata, annex_score(embedding) AS annex_s
          FROM embeddings
         WHERE collection_id = :annex_collection AND ({question.conditions}
               )
         ORDER BY annex_s DESC LIMIT {int(question.number)}"""
    rows = question.collection.db.conn.execute(sql, question.parameters)
    return [
        Entry(id=id, score=score, content=content, metadata=json.loads(text) if text else None)
        for id, content, text, score in rows
    ]


# ---- the methods of llm --------------------------------------------------------------------------


def _with_wishes(method: Callable[..., List[Entry]]) -> Callable[..., List[Entry]]:
    """The method, with the keyword arguments index, where and recall."""

    @functools.wraps(method)
    def similar(
        self: Collection,
        *arguments: Any,
        index: Optional[str] = None,
        where: Optional[str] = None,
        recall: Optional[float] = None,
        **more: Any,
    ) -> List[Entry]:
        if index is None and where is None and recall is None:
            return method(self, *arguments, **more)
        with wishing(index, where, recall):
            return method(self, *arguments, **more)

    similar.__doc__ = f"""{method.__doc__ or ""}
        With annex: index names the index that is asked instead of the default one of the
        collection; where is a condition in SQL on the columns of the table embeddings; recall,
        such as 0.95, lets the index find only that share of the true answer, faster.
        """
    return similar


def _by_vector(own: Callable[..., List[Entry]]) -> Callable[..., List[Entry]]:
    @functools.wraps(own)
    def similar_by_vector(
        self: Collection,
        vector: Sequence[float],
        number: int = 10,
        skip_id: Optional[str] = None,
        prefix: Optional[str] = None,
    ) -> List[Entry]:
        question = _question(self, vector, number, skip_id, prefix)
        found = _by_index(question)
        if found is not None:
            return found
        if question.wish.where is not None:
            return _scan(question)
        return own(self, vector, number, skip_id=skip_id, prefix=prefix)

    return similar_by_vector


def install() -> None:
    """Gives `llm.Collection` the methods of this file, once."""
    if hasattr(Collection.similar_by_vector, "__wrapped__"):
        return
    methods = {
        "similar_by_vector": _by_vector(Collection.similar_by_vector),
        "similar_by_id": Collection.similar_by_id,
        "similar": Collection.similar,
    }
    for name, method in methods.items():
        setattr(Collection, name, _with_wishes(method))
