"""What the right answers are, computed with numpy in double precision."""

import json

import h5py
import numpy as np
import pytest


def near(rows, query, metric="l2"):
    """All rows by exact distance: (distance, key) ascending."""
    rows, query = rows.astype(np.float64), np.asarray(query, dtype=np.float64)
    if metric == "l2":
        distance = np.sqrt(((rows - query) ** 2).sum(axis=1))
    elif metric == "l1":
        distance = np.abs(rows - query).sum(axis=1)
    elif metric == "ip":
        distance = -(rows @ query)
    else:
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
        distance = 1 - (rows @ query) / lengths
    order = np.lexsort((np.arange(len(rows)), distance))
    return distance[order], order


def same_answer(hits, rows, query, k, metric="l2"):
    """Whether hits are k nearest: the right distances, each of its own key."""
    distances, order = near(rows, query, metric)
    by_key = dict(zip(order.tolist(), distances.tolist()))
    assert len(hits) == len({hit["key"] for hit in hits}) == min(k, len(rows))
    for hit, expected in zip(hits, distances):
        assert hit["distance"] == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert hit["distance"] == pytest.approx(by_key[hit["key"]], rel=1e-5, abs=1e-5)


def as_query(vector):
    return json.dumps([float(x) for x in vector])


def write_hdf5(path, rows, queries, metric="euclidean", k=20, neighbors=True):
    name = {"euclidean": "l2", "angular": "cosine"}[metric]
    with h5py.File(path, "w") as file:
        file["train"], file["test"] = rows, queries
        if neighbors:
            file["neighbors"] = np.array([near(rows, q, name)[1][:k] for q in queries], "i4")
        file.attrs["distance"] = metric
