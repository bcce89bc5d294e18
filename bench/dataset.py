"""A data set in the ann-benchmarks HDF5 layout, and recall against its exact neighbours.

`train` holds the rows, `test` the queries, `neighbors` the ids of each query's nearest rows, the
attribute `distance` the metric. Distances are recomputed here in double precision from the vectors
as stored, so that no engine's arithmetic, nor the file's own, decides what counts as a hit.

    dataset.py SET.hdf5                     describe the set, as JSON
    dataset.py SET.hdf5 ANSWERS.json K      recall of what `annex search --query-file --json` said
    dataset.py SET.hdf5 --first N OUT.hdf5  a set of its first N rows and some queries, for trials
"""

import json
import pathlib
import sys

import h5py
import numpy as np

TIE = 1e-6  # relative slack: a row as near as the k-th true neighbour is a hit whatever its id
SAMPLE_QUERIES = 300
CHUNK = 500  # queries at a time, to bound the gathered doubles


class Dataset:
    def __init__(self, path):
        with h5py.File(path, "r") as file:
            self.metric = str(file.attrs.get("distance", "euclidean"))
            if self.metric not in ("euclidean", "angular"):
                raise SystemExit(f"{path}: distance '{self.metric}'; euclidean or angular expected")
            self.train = file["train"][:]
            self.test = file["test"][:]
            self.neighbors = file["neighbors"][:]

    def describe(self):
        return {
            "rows": len(self.train),
            "dimension": self.train.shape[1],
            "metric": self.metric,
            "queries": len(self.test),
            "raw_bytes": self.train.size * 4,
            "stored_bytes": self.train.nbytes,
        }

    def rows(self):
        """The rows as the peers want them: f32, of length one when the metric is an angle."""
        return self._prepare(self.train)

    def queries(self):
        return self._prepare(self.test)

    def _prepare(self, vectors):
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if self.metric == "angular":
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(norms > 0, norms, 1)
        return vectors

    def _distances(self, first, ids):
        rows = self.train[ids].astype(np.float64)
        queries = self.test[first : first + len(ids)].astype(np.float64)[:, None, :]
        if self.metric == "euclidean":
            return np.sqrt(((rows - queries) ** 2).sum(axis=2))
        lengths = np.linalg.norm(rows, axis=2) * np.linalg.norm(queries, axis=2)
        return 1 - (rows * queries).sum(axis=2) / np.where(lengths > 0, lengths, 1)

    def recall(self, ids, k):
        """Mean share of the k nearest among `ids` (one line per query; -1 is no answer).

        Ties with the k-th distance are hits; an id given twice counts once.
        """
        hits = 0
        for first in range(0, len(ids), CHUNK):
            part = np.sort(ids[first : first + CHUNK].astype(np.int64), axis=1)
            usable = part >= 0
            usable[:, 1:] &= part[:, 1:] != part[:, :-1]
            true = self.neighbors[first : first + len(part), :k].astype(np.int64)
            line = np.arange(len(part))[:, None] * len(self.train)
            near = usable & np.isin(part + line, true + line)
            self._find_ties(first, part, usable & ~near, true, near)
            hits += np.minimum(near.sum(axis=1), k).sum()
        return float(hits) / (len(ids) * k)

    def _find_ties(self, first, ids, open_ones, true, near):
        """Marks in `near` those of the open ones that are as near as the k-th true neighbour."""
        for q in np.flatnonzero(open_ones.any(axis=1)):
            others = open_ones[q]
            limit = self._distances(first + q, true[q : q + 1]).max() * (1 + TIE)
            near[q, others] = self._distances(first + q, ids[q : q + 1, others])[0] <= limit


def read_answers(path, k):
    """The first k ids of each query's list of answers, as an array filled up with -1."""
    with open(path) as file:
        answers = [[hit["key"] for hit in hits] for hits in json.load(file)]
    ids = np.full((len(answers), k), -1)
    for row, keys in zip(ids, answers):
        row[: len(keys)] = keys[:k]
    return ids


def write_sample(data, rows, path):
    from make_sets import write_set

    write_set(pathlib.Path(path), data.train[:rows], data.test[:SAMPLE_QUERIES], data.metric)


def main():
    data = Dataset(sys.argv[1])
    if len(sys.argv) == 2:
        print(json.dumps(data.describe()))
    elif sys.argv[2] == "--first":
        write_sample(data, int(sys.argv[3]), sys.argv[4])
    else:
        k = int(sys.argv[3])
        print(json.dumps({"recall": data.recall(read_answers(sys.argv[2], k), k)}))


if __name__ == "__main__":
    main()
