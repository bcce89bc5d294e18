"""Exact search beside FAISS IndexFlat: the same rows, queries, batches and threads, by turns.

    flat.py [SET.hdf5 | ROWS.npy]...

Next to ROWS.npy its queries are ROWS-queries.npy and its metric is the angle. FAISS gets f32 rows,
of length one under angles (IndexFlatIP), and answers each batch by its BLAS and without: where it
changes from one to the other is set differently from wheel to wheel. Each cell is the best of the
rounds, and of FAISS of both ways, for seconds and for seconds of processors alike. Engines take
turns, so that what else the machine does hits both. On a busy machine --threads 1 and the seconds
of processors are what can be compared; threads of FAISS that wait sleep, or they would count.
"""

import argparse
import json
import os
import pathlib
import subprocess
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when FAISS is loaded

import faiss
import numpy as np

import sets
from dataset import Dataset

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCHES = (1, 16, 100, 2000)
BLAS_FROM = (1, 1 << 30)  # queries: always, never
TRIALS = 2
TRIAL_QUERIES = 100  # as many tell which way is the quicker
HOPELESS = 1.5  # times slower at trial
SLACK = 2e-3  # of the sum of distances: BLAS computes squares by subtraction


class Annex:
    def __init__(self, build, rows, queries, metric):
        command = [build / "bench" / "bench_flat", rows, queries, metric]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        if not self.process.stdout.readline().startswith("ready"):
            raise SystemExit("bench_flat failed")

    def search(self, batch, k, threads, searches):
        self.process.stdin.write(f"{batch} {k} {threads} {searches}\n")
        self.process.stdin.flush()
        seconds, processor, total = map(float, self.process.stdout.readline().split())
        return (seconds / searches, processor / searches), total

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Faiss:
    def __init__(self, rows, queries, metric):
        kind = faiss.IndexFlatL2 if metric == "l2" else faiss.IndexFlatIP
        self.metric, self.queries = metric, queries
        self.index = kind(rows.shape[1])
        self.index.add(rows)

    def choose(self, batch, k, threads):
        """The ways that may be the quicker for such batches, and seconds that a search takes."""
        taken = {}
        for blas_from in BLAS_FROM:
            seconds = [self.search(batch, k, threads, 1, blas_from)[0] for _ in range(TRIALS)]
            taken[blas_from] = [min(kind) for kind in zip(*seconds)]
        least = [min(kind) for kind in zip(*taken.values())]
        ways = [way for way, seconds in taken.items()
                if any(s < HOPELESS * best for s, best in zip(seconds, least))]
        return ways, least[0]

    def search(self, batch, k, threads, searches, blas_from):
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_threshold = blas_from
        seconds = processor = total = 0
        for i in range(searches):
            first = i * batch % (len(self.queries) - batch + 1)
            start, used = time.perf_counter(), time.process_time()
            found = self.index.search(self.queries[first : first + batch], k)[0]
            seconds += time.perf_counter() - start
            processor += time.process_time() - used
            found = found.astype(np.float64)
            total += (np.sqrt(np.maximum(found, 0)) if self.metric == "l2" else 1 - found).sum()
        return (seconds / searches, processor / searches), float(total)


def load(path):
    """(rows, queries) prepared for FAISS, the metric, and where bench_flat finds the queries."""
    if path.suffix == ".hdf5":
        data = Dataset(path)
        metric = "l2" if data.metric == "euclidean" else "cosine"
        return data.rows(), data.queries(), metric, path
    queries = path.with_name(path.stem + "-queries.npy")
    pair = [np.load(name).astype(np.float32) for name in (path, queries)]
    unit = [v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30) for v in pair]
    return unit[0], unit[1], "cosine", queries


def compare(engines, batch, k, threads, rounds, least_seconds):
    """The best seconds for a search, and those of processors, of each engine."""
    annex, peer = engines
    trial = min(batch, TRIAL_QUERIES)
    ways, once = peer.choose(trial, k, threads)
    searches = max(1, min(100, int(least_seconds * trial / (once * batch))))
    turns = [(0, annex, ())] + [(1, peer, (way,)) for way in ways]
    best = [(float("inf"),) * 2, (float("inf"),) * 2]
    for _ in range(rounds):
        sums = []
        for i, engine, way in turns:
            seconds, total = engine.search(batch, k, threads, searches, *way)
            best[i] = tuple(map(min, best[i], seconds))
            sums.append(total)
        if max(sums) - min(sums) > SLACK * abs(sums[0]):
            raise SystemExit(f"batch {batch}, k {k}: distances differ: {sums}")
    return best


def measure(path, options):
    rows, queries, metric, query_path = load(path)
    peer = Faiss(rows, queries, metric)
    annex = Annex(options.build, path, query_path, metric)
    cells = []
    shape = f"{len(rows)} x {rows.shape[1]}"
    print(f"\n### {path.stem}: {shape}, {metric}, {options.threads} threads\n")
    print("| batch | k | Annex ms | FAISS ms | FAISS / Annex | of processors |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for batch in options.batches:
        for k in options.k:
            batch = min(batch, len(queries))
            seconds = compare((annex, peer), batch, k, options.threads, options.rounds,
                              options.seconds)
            ratio, used = (theirs / ours for ours, theirs in zip(*seconds))
            cells.append({"batch": batch, "k": k, "annex_seconds": seconds[0],
                          "faiss_seconds": seconds[1], "ratio": ratio, "processor_ratio": used})
            print(f"| {batch} | {k} | {seconds[0][0] * 1e3:.2f} | {seconds[1][0] * 1e3:.2f}"
                  f" | {ratio:.2f} | {used:.2f} |", flush=True)
    annex.close()
    return {"rows": len(rows), "dimension": rows.shape[1], "metric": metric,
            "threads": options.threads, "cells": cells}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--k", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn, at least")
    parser.add_argument("--json", type=pathlib.Path, help="also write the cells to this file")
    options = parser.parse_args()
    subprocess.run(["ninja", "-C", str(options.build), "bench/bench_flat"],
                   stdout=subprocess.DEVNULL, check=True)
    results = {path.stem: measure(path.resolve(), options)
               for path in sets.need(options.sets)}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
