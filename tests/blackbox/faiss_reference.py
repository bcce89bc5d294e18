"""What the tests of datasette-faiss's functions share: rows, and what IndexFlatL2 says of them.

Vectors have whole numbers where text is compared, so that scores are the same however they are
summed."""

import json
import math
import struct

import numpy


def encode(vector):
    return struct.pack(f"<{len(vector)}f", *vector)


def fill(db, rows, table="t", id_type="INTEGER PRIMARY KEY"):
    db.execute(f"CREATE TABLE {table}(id {id_type}, embedding BLOB)")
    insert(db, table, rows)
    return db


def insert(db, table, rows):
    db.execute("SAVEPOINT filling")
    db.executemany(f"INSERT INTO {table}(id, embedding) VALUES (?, ?)",
                   [(i, encode(v)) for i, v in rows])
    db.execute("RELEASE filling")


def expected(rows, query, k, scores=True):
    """What IndexFlatL2 says of (id, vector) rows in the order of the table, as json.dumps."""
    found = []
    for position, (key, vector) in enumerate(rows):
        difference = numpy.subtract(vector, query, dtype=numpy.float64)
        score = float(numpy.float32((difference * difference).sum()))
        if math.isfinite(score):
            found.append((score, position, key))
    found = sorted(found)[:k]
    return json.dumps([[key, score] if scores else key for score, _, key in found])


def whole_rows(rng, n, dimension, largest=2):
    return [(i + 1, rng.integers(-largest, largest + 1, dimension)) for i in range(n)]
