"""Similar items of a collection of llm: by an index of Annex beside llm itself, on one database.

In one process `Collection.similar_by_vector` is asked with the plug-in and without it, in turns.
Then the whole commands are: `annex similar` and `llm similar`, each a new process with a warm file
cache, llm without plug-ins. All answers are compared: ids, order, scores to the last digit.

Collections are of random normal vectors; --vectors takes the first of them from a file.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import llm
import numpy as np
import sqlite_utils
from llm.embeddings_migrations import embeddings_migrations

from annex import llm_similar
from annex.__main__ import find_command

WORK = pathlib.Path(__file__).resolve().parent.parent / "build" / "bench"
SIZES = ((10_000, 1536), (100_000, 384))
OWN = llm.Collection.similar_by_vector
llm_similar.install()


def make_database(path, vectors):
    """A collection `items` as llm writes it, and a default index; seconds of its build."""
    path.unlink(missing_ok=True)
    db = sqlite_utils.Database(path)
    embeddings_migrations.apply(db)
    db["collections"].insert({"id": 1, "name": "items", "model": "measured"})
    rows = ((1, f"item-{i}", row.tobytes(), f"the content of {i}", '{"n": %d}' % i, 0)
            for i, row in enumerate(vectors))
    with db.conn:
        db.conn.executemany("INSERT INTO embeddings(collection_id, id, embedding, content, "
                            "metadata, updated) VALUES (?, ?, ?, ?, ?, ?)", rows)
    db.close()
    start = time.perf_counter()
    subprocess.run([find_command(), "create", path, "items-idx", "--llm-collection", "items",
                    "--default", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def timed(function, *arguments):
    start = time.perf_counter()
    answer = function(*arguments)
    return time.perf_counter() - start, answer


def in_one_process(path, queries, repeat):
    """Median seconds of a question with the plug-in and without, and whether answers are equal."""
    items = llm.Collection("items", sqlite_utils.Database(path), create=False)
    items.similar_by_vector(queries[0])
    by_index, by_llm, equal = [], [], True
    for query in queries:
        for _ in range(repeat):
            seconds, found = timed(items.similar_by_vector, query)
            by_index.append(seconds)
        seconds, expected = timed(OWN, items, query)
        by_llm.append(seconds)
        equal = equal and found == expected
    return statistics.median(by_index), statistics.median(by_llm), equal


def whole_commands(path, ids, repeat):
    """The same of `annex similar` and `llm similar`."""
    by_annex, by_llm, equal = [], [], True
    environment = dict(os.environ, LLM_LOAD_PLUGINS="", LLM_USER_PATH=str(path.parent))

    def run(*command):
        done = subprocess.run([*command, "-d", str(path)], env=environment, check=True,
                              stdout=subprocess.PIPE)
        return done.stdout

    for item in ids:
        for _ in range(repeat):
            seconds, found = timed(run, find_command(), "similar", "items", item)
            by_annex.append(seconds)
        command = (sys.executable, "-m", "llm", "similar", "items", item)
        seconds, expected = timed(run, *command)
        by_llm.append(seconds)
        equal = equal and found == expected
    return statistics.median(by_annex), statistics.median(by_llm), equal


def measure(vectors, name, queries, repeat):
    path = WORK / "llm-embeddings.db"
    build = make_database(path, vectors)
    rng = np.random.default_rng(2)
    asked = [vectors[i] + 0.1 * rng.standard_normal(vectors.shape[1], dtype=np.float32)
             for i in rng.integers(len(vectors), size=queries)]
    results = {}
    for what, (fast, slow, equal) in {
        "process": in_one_process(path, [row.tolist() for row in asked], repeat),
        "command": whole_commands(path, [f"item-{i}" for i in range(queries)], repeat),
    }.items():
        results[what] = {"annex_ms": fast * 1e3, "llm_ms": slow * 1e3, "times": slow / fast,
                         "same_answers": equal}
        print(f"{name:>16}  {what:7}  annex {fast * 1e3:8.2f} ms  llm {slow * 1e3:9.1f} ms  "
              f"{slow / fast:7.0f} x  {'same answers' if equal else 'ANSWERS DIFFER'}", flush=True)
    path.unlink()
    return {"set": name, "rows": len(vectors), "dimension": vectors.shape[1],
            "build_seconds": build, **results}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=pathlib.Path, help="a .npy file, beside random ones")
    parser.add_argument("--queries", type=int, default=5, help="questions for each (5)")
    parser.add_argument("--repeat", type=int, default=5, help="how often Annex answers each (5)")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    sets = []
    for rows, dimension in SIZES:
        rng = np.random.default_rng(1)
        sets.append((f"{rows} x {dimension}",
                     lambda rng=rng, shape=(rows, dimension): rng.standard_normal(shape, "f4")))
    if arguments.vectors:
        sets.append((arguments.vectors.stem, lambda: np.load(arguments.vectors).astype("f4")))
    report = [measure(make(), name, arguments.queries, arguments.repeat) for name, make in sets]
    (WORK / "results").mkdir(exist_ok=True)
    (WORK / "results" / "llm.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
