"""The peers behind the two commands Annex has, so that one program can drive them all.

    peers.py build hnswlib M16 SET.hdf5 FOLDER --threads 2     index the set, write files
    peers.py eval  hnswlib M16 SET.hdf5 FOLDER --k 10,100      one thread; recall and speed
    peers.py version hnswlib                                   the package's version

They print one JSON object. `eval` tries the peer's efforts, one pass each: a batch of all queries,
which has no Python between queries. With --efforts it measures those given instead, PASSES times
as a batch and as often with a call for each query; the better counts. Each command is a process of
its own, so that its peak memory is the engine's and its caches are too. What libraries print goes
to standard error.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from dataset import Dataset
from engines import PEERS

ENOUGH = 0.995  # efforts beyond this recall tell nothing that is asked here
LEAST_GAIN = 0.0005  # of recall by three further efforts, else the chain of efforts has ended
SLOW_PASS_S = 6.0  # a pass that takes longer is the last of its chain
PASSES = 2  # of each kind, when efforts are given
EXACT_QUERIES = 100


def time_calls(search, queries):
    """Seconds of each call with one query."""
    calls = [queries[i : i + 1] for i in range(len(queries))]
    took = []
    for call in calls:
        start = time.perf_counter_ns()
        search(call)
        took.append(time.perf_counter_ns() - start)
    return np.array(took) / 1e9


def measure_batch(peer, queries, k, point):
    start = time.perf_counter()
    ids = peer.search(queries, k, point["effort"])
    point["qps_batch"] = max(point["qps_batch"], len(queries) / (time.perf_counter() - start))
    return ids


def measure_singles(peer, queries, k, point):
    found = []
    seconds = time_calls(lambda query: found.append(peer.search(query, k, point["effort"])),
                         queries)
    if 1 / seconds.mean() > point["qps_single"]:
        point["qps_single"] = float(1 / seconds.mean())
        for percent in (50, 99):
            point[f"p{percent}_us"] = float(np.percentile(seconds, percent)) * 1e6
    return np.concatenate(found)


def measure_effort(peer, data, queries, k, effort):
    """A point with its recall from one pass: a batch, which is the faster, if the peer has it."""
    point = {"effort": effort, "recall": 0.0, "qps_batch": 0.0, "qps_single": 0.0}
    peer.search(queries[:1], k, effort)
    measure = measure_batch if peer.native_batch else measure_singles
    ids = np.array(measure(peer, queries, k, point), np.int64)
    ids[(ids < 0) | (ids >= len(data.train))] = -1  # what some return when they found too few
    point["recall"] = data.recall(ids, k)
    point["qps"] = max(point["qps_batch"], point["qps_single"])
    return point


def sweep(peer, data, queries, k):
    """Every chain of efforts, until its recall is enough, no longer grows, or takes too long."""
    points = []
    for chain in peer.chains(k):
        recalls = []
        for effort in chain:
            point = measure_effort(peer, data, queries, k, effort)
            points.append(point)
            recalls.append(point["recall"])
            stalls = len(recalls) > 3 and recalls[-1] - recalls[-4] < LEAST_GAIN
            if recalls[-1] >= ENOUGH or stalls or len(queries) / point["qps"] > SLOW_PASS_S:
                break
    return points


def measure_listed(peer, data, queries, k, efforts):
    points = [measure_effort(peer, data, queries, k, effort) for effort in efforts]
    for _ in range(PASSES):  # the outer loop: a disturbance hits one pass of each
        for point in points:
            measure_singles(peer, queries, k, point)
            if peer.native_batch:
                measure_batch(peer, queries, k, point)
            point["qps"] = max(point["qps_batch"], point["qps_single"])
    return points


def build(peer, data, arguments):
    rows = data.rows()
    data.train = None  # the rows as stored are not the engine's memory
    folder = pathlib.Path(arguments.index)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    peer.build(rows, arguments.threads)
    peer.save(folder)
    return {"build_seconds": time.perf_counter() - start, "threads": arguments.threads}


def measure_exact(peer, data, setting):
    """Queries per second of the library's exact search, if it has one; one query per call."""
    if not hasattr(peer, "exact") or setting != peer.default[0]:
        return None
    search = peer.exact(data.rows())
    seconds = time_calls(lambda query: search(query, 10), data.queries()[:EXACT_QUERIES])
    return float(1 / seconds.mean())


def evaluate(peer, data, arguments):
    peer.load(arguments.index, data.rows())
    queries = data.queries()
    efforts = json.loads(arguments.efforts)
    points = {}
    for k in arguments.k.split(","):
        given = efforts.get(k)
        points[k] = (measure_listed(peer, data, queries, int(k), given) if given
                     else sweep(peer, data, queries, int(k)))
    exact = None if efforts else measure_exact(peer, data, arguments.setting)
    return {"threads": 1, "exact_qps": exact, "points": points}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("build", "eval"):
        action = actions.add_parser(name)
        action.add_argument("peer", choices=PEERS)
        action.add_argument("setting")
        action.add_argument("set")
        action.add_argument("index")
        action.add_argument("--threads", type=int, default=2, help="for the build")
        action.add_argument("--k", default="10")
        action.add_argument("--efforts", default="{}", help='JSON: {"10": [40, 80]}')
    actions.add_parser("version").add_argument("peer", choices=PEERS)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    answers = os.fdopen(os.dup(1), "w")  # this program's own
    os.dup2(2, 1)
    kind = PEERS[arguments.peer]
    if arguments.action == "version":
        answer = {"version": importlib.metadata.version(kind.package)}
    else:
        data = Dataset(arguments.set)
        peer = kind(data.metric, data.test.shape[1], arguments.setting)
        answer = (build if arguments.action == "build" else evaluate)(peer, data, arguments)
    print(json.dumps(answer), file=answers, flush=True)
    sys.stderr.flush()
    os._exit(0)  # some libraries crash while they are unloaded


if __name__ == "__main__":
    main()
