"""Brute force: what a search must answer, computed by numpy from a plain SELECT."""

import json

import numpy

from tables import ELEMENTS, quote


def rank(part):
    """Keys order as values of SQLite do under BINARY: numbers, text, blobs."""
    if isinstance(part, (int, float)):
        return 0, part
    return (1, part.encode()) if isinstance(part, str) else (2, bytes(part))


def order(key):
    return tuple(rank(part) for part in key)


def numbers_of(value, form, dimension):
    """The elements, or None for what is no vector."""
    if form == "json":
        try:
            numbers = json.loads(value) if isinstance(value, str) else None
        except ValueError:
            return None
        return numbers if isinstance(numbers, list) and len(numbers) == dimension else None
    if not isinstance(value, bytes):
        return None
    if form == "bits":
        if len(value) != (dimension + 7) // 8:
            return None
        return numpy.unpackbits(numpy.frombuffer(value, "u1"), bitorder="little")[:dimension]
    if len(value) != dimension * numpy.dtype(ELEMENTS[form]).itemsize:
        return None
    return numpy.frombuffer(value, ELEMENTS[form])


def is_vector(value, index):
    """Whether a value belongs into the index: a vector, finite, under cosine not zero."""
    numbers = numbers_of(value, index["form"], index["dimension"])
    if numbers is None:
        return False
    numbers = numpy.asarray(numbers, "<f4")
    return bool(numpy.isfinite(numbers).all() and (index["metric"] != "cosine" or numbers.any()))


def distances_to(matrix, query, metric):
    matrix, query = matrix.astype(numpy.float64), query.astype(numpy.float64)
    if metric == "l2":
        return numpy.sqrt(((matrix - query) ** 2).sum(axis=1))
    if metric == "l1":
        return numpy.abs(matrix - query).sum(axis=1)
    if metric == "ip":
        return -(matrix @ query)
    if metric == "cosine":
        return 1 - matrix @ query / (numpy.linalg.norm(matrix, axis=1) * numpy.linalg.norm(query))
    differ = (matrix != query).sum(axis=1)
    if metric == "hamming":
        return differ.astype(float)
    either = numpy.maximum(((matrix + query) > 0).sum(axis=1), 1)
    return differ / either


class Truth:
    """The rows of one index in one snapshot."""

    def __init__(self, db, index):
        self.index = index
        table = quote(index["table"])
        columns = ", ".join(f"{table}.{quote(key)}" for key in index["keys"])
        found = db.execute(f"SELECT {columns}, {table}.{quote(index['column'])} FROM {table} "
                           f"WHERE ({index['where']})").fetchall()
        n = len(index["keys"])
        self.all_rows = found
        rows = [(row[:n], row[n]) for row in found
                if None not in row[:n] and is_vector(row[n], index)]
        self.keys = [key for key, _ in rows]
        numbers = [numbers_of(value, index["form"], index["dimension"]) for _, value in rows]
        self.matrix = numpy.array(numbers, "<f4").reshape(len(rows), index["dimension"])

    def query(self, rng):
        """A vector that is near the rows, or one of them; as the value a search is given."""
        if self.keys and rng.random() < 0.4:
            numbers = self.matrix[rng.randrange(len(self.keys))]
        elif self.index["form"] == "bits":
            numbers = numpy.array([rng.randrange(2) for _ in range(self.index["dimension"])])
        else:
            numbers = numpy.array([rng.gauss(0, 1) for _ in range(self.index["dimension"])], "<f4")
        if self.index["form"] == "bits":
            packed = numpy.packbits(numbers.astype("u1"), bitorder="little").tobytes()
            return numbers.astype("<f4"), packed
        return numbers, json.dumps([float(x) for x in numbers])

    def distances(self, query):
        """{key: distance}"""
        if not self.keys:
            return {}
        return dict(zip(self.keys, distances_to(self.matrix, query, self.index["metric"]).tolist()))


def slack(expected):
    """How far rounding may take a distance: large terms of an inner product may cancel out."""
    return 2e-5 + 1e-6 * max(map(abs, expected.values()), default=0)


def difference(answer, expected, k):
    """None when `answer` ([(key, distance)]) is the k nearest of `expected`, otherwise why not.

    Rows come by (distance, key). Where two distances differ by rounding only, either may be first.
    """
    n = min(k, len(expected))
    keys = [key for key, _ in answer]
    unknown = [key for key in keys if key not in expected]
    if unknown:
        return f"answers {unknown[:3]}, which should not be found (of {len(answer)} rows)"
    if len(set(keys)) != len(keys):
        return "answers a key twice"
    if len(answer) != n:
        missing = sorted(set(expected) - set(keys), key=lambda key: (expected[key], order(key)))
        return f"answers {len(answer)} rows, not {n}; missing {missing[:3]}"
    most = slack(expected)
    for (key, distance), right in zip(answer, sorted(expected.values())):
        if abs(distance - expected[key]) > most:
            return f"says {key} is {distance} away, which is {expected[key]}"
        if abs(distance - right) > most:
            return f"answers {key} at {distance} where one at {right} is next"
    sequence = [(distance, order(key)) for key, distance in answer]
    if sequence != sorted(sequence):
        return "answers in another order than (distance, key)"
    return None
