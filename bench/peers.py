"""The peers, each behind the two commands Annex has, so that one program can drive them all.

    peers.py build hnswlib SET.hdf5 INDEX --threads 2      index the set, write the file
    peers.py eval  hnswlib SET.hdf5 INDEX --k 10           one thread; recall and speed along effort

Both print one JSON object with the keys of `annex build --json` and `annex eval --json`. Each
command is a process of its own, so that its peak memory is the engine's and its caches are too.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from dataset import Dataset

EFFORTS = (10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 256, 320)
EFFORTS += (384, 512, 640, 768, 1024, 1536, 2048)
ENOUGH = 0.995  # efforts beyond this recall tell nothing that is asked here
EF_CONSTRUCTION = 200
PASSES = 3  # as many as annex eval makes


class Hnswlib:
    """hnswlib, M 16. Inner product on unit vectors for angles: its cosine space would normalise
    every query again."""

    def __init__(self, metric, dimension):
        import hnswlib

        space = "l2" if metric == "euclidean" else "ip"
        self.index = hnswlib.Index(space=space, dim=dimension)

    def build(self, vectors, threads):
        self.index.init_index(len(vectors), M=16, ef_construction=EF_CONSTRUCTION, random_seed=1)
        self.index.add_items(vectors, num_threads=threads)

    def save(self, path):
        self.index.save_index(path)

    def load(self, path):
        self.index.load_index(path)

    def set_effort(self, effort):
        self.index.set_ef(effort)

    def search(self, queries, k):
        return self.index.knn_query(queries, k, num_threads=1)[0]

    def evaluations(self):
        return None  # its Python module does not count them


class Faiss:
    """FAISS IndexHNSWFlat with 32 links (64 at the bottom). The wheel picks its widest kernels."""

    def __init__(self, metric, dimension):
        import faiss

        self.faiss = faiss
        kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.IndexHNSWFlat(dimension, 32, kind)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION

    def build(self, vectors, threads):
        self.faiss.omp_set_num_threads(threads)
        self.index.add(vectors)

    def save(self, path):
        self.faiss.write_index(self.index, path)

    def load(self, path):
        self.faiss.omp_set_num_threads(1)
        self.index = self.faiss.read_index(path)

    def set_effort(self, effort):
        self.index.hnsw.efSearch = effort
        self.faiss.cvar.hnsw_stats.reset()

    def search(self, queries, k):
        return self.index.search(queries, k)[1]

    def evaluations(self):
        return self.faiss.cvar.hnsw_stats.ndis

    def exact_qps(self, queries, k):
        """The flat index over the same rows, one query per call: what exact search costs there."""
        flat = self.faiss.downcast_index(self.index.storage)
        return 1 / time_calls(lambda q: flat.search(q, k), queries[:100])[1]


ENGINES = {"hnswlib": Hnswlib, "faiss": Faiss}


def time_calls(search, queries):
    """Seconds for each call with one query, sorted, and their mean."""
    calls = [queries[i : i + 1] for i in range(len(queries))]
    took = []
    for call in calls:
        start = time.perf_counter_ns()
        search(call)
        took.append(time.perf_counter_ns() - start)
    seconds = np.sort(took) / 1e9
    return seconds, float(seconds.mean())


def measure_recall(engine, data, queries, effort, k):
    """A point without its speed; the pass warms the engine up."""
    engine.set_effort(effort)
    recall = data.recall(engine.search(queries, k), k)
    evaluations = engine.evaluations()
    return {
        "effort": effort,
        "recall": recall,
        "qps_batch": 0.0,
        "qps_single": 0.0,
        "distances": evaluations / len(queries) if evaluations else None,
    }


def measure_speed(engine, queries, point, k):
    """One pass over the queries as one batch and one call by call, both on one thread.

    The batch has no Python between queries and so is the faster in general; the better counts.
    Percentiles can only come from single calls.
    """
    engine.set_effort(point["effort"])
    start = time.perf_counter()
    engine.search(queries, k)
    batch = len(queries) / (time.perf_counter() - start)
    point["qps_batch"] = max(point["qps_batch"], batch)
    seconds, mean = time_calls(lambda query: engine.search(query, k), queries)
    if 1 / mean > point["qps_single"]:
        point["qps_single"] = 1 / mean
        for percent in (50, 99):
            point[f"p{percent}_us"] = float(np.percentile(seconds, percent)) * 1e6
    point["qps"] = max(point["qps_batch"], point["qps_single"])


def build(engine, data, arguments):
    vectors = data.rows()
    data.train = None  # the rows as stored are not the engine's memory
    start = time.perf_counter()
    engine.build(vectors, arguments.threads)
    seconds = time.perf_counter() - start
    engine.save(arguments.index)
    return {"build_seconds": seconds, "threads": arguments.threads}


def evaluate(engine, data, arguments):
    engine.load(arguments.index)
    queries = data.queries()
    points = []
    for effort in EFFORTS:
        points.append(measure_recall(engine, data, queries, effort, arguments.k))
        if points[-1]["recall"] >= ENOUGH:
            break
    for _ in range(PASSES):  # the outer loop, as in annex eval: a disturbance hits one pass of each
        for point in points:
            measure_speed(engine, queries, point, arguments.k)
    exact = engine.exact_qps(queries, arguments.k) if hasattr(engine, "exact_qps") else None
    return {"k": arguments.k, "threads": 1, "exact_qps": exact, "points": points}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("build", "eval"))
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("set")
    parser.add_argument("index")
    parser.add_argument("--threads", type=int, default=2, help="for the build")
    parser.add_argument("--k", type=int, default=10)
    arguments = parser.parse_args()
    data = Dataset(arguments.set)
    engine = ENGINES[arguments.engine](data.metric, data.test.shape[1])
    action = build if arguments.action == "build" else evaluate
    print(json.dumps(action(engine, data, arguments)))


if __name__ == "__main__":
    main()
