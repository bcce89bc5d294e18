"""`key IN (SELECT ...)` filters before the search, whatever part of the rows it lets through."""

import random
import struct

ROWS, DIMENSION, K = 6000, 8, 10
SEARCH = ("SELECT key FROM annex_search('docs_v', ?, ?)"
          " WHERE key IN (SELECT id FROM docs WHERE label < ?)")


def clustered_vectors():
    rng = random.Random(5)
    centres = [[rng.gauss(0, 1) for _ in range(DIMENSION)] for _ in range(20)]
    return [[x + rng.gauss(0, 0.3) for x in rng.choice(centres)] for _ in range(ROWS)]


def nearest(vectors, query, allowed):
    def distance(row):
        return sum((a - b) ** 2 for a, b in zip(vectors[row], query))
    return sorted(allowed, key=distance)[:K]


def test_any_share_of_the_rows_the_nearest_of_them_come(connect):
    vectors = clustered_vectors()
    packed = [struct.pack(f"{DIMENSION}f", *vector) for vector in vectors]
    connection = connect()
    connection.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, label INTEGER, v BLOB)")
    connection.executemany("INSERT INTO docs VALUES (?, ?, ?)",
                           ((row, row % 1000, blob) for row, blob in enumerate(packed)))
    connection.execute("SELECT annex_create('docs_v', 'docs', 'v', '{\"index\": \"graph\"}')")
    # 0, 6, 60, 102, 120 ... rows pass: few are read from the table, more become a bitmap
    for labels in (0, 1, 10, 17, 20, 100, 500, 999, 1000):
        allowed = [row for row in range(ROWS) if row % 1000 < labels]
        right = wanted = 0
        for query in range(0, 200, 20):
            answer = connection.execute(SEARCH, (packed[query], K, labels)).fetchall()
            keys = {key for key, in answer}
            expected = nearest(vectors, vectors[query], allowed)
            assert len(answer) == len(expected) and keys <= set(allowed)
            right += len(keys & set(expected))
            wanted += len(expected)
        assert right >= 0.95 * wanted, f"{len(allowed)} rows pass: {right} of {wanted} found"
