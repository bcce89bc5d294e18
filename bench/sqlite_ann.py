"""Approximate and exact search in SQLite, end to end from Python: Annex beside sqlite-vec and vec1.

The same rows are held four ways: in a plain table with an Annex index; in vec0 tables of
sqlite-vec, the stable release for exact search and the newest alpha for its indexes; in a vec1
table of the SQLite project. Each is asked with one thread, under l2 on unit vectors.

An engine that approximates is first asked with each of its settings. Of those whose recall reaches
the target its fastest takes part in the measurement: rounds in which the engines take turns, each
with all queries. Recall counts a row as found that is as near as the true k-th, in double
precision, so that equal rows do not count against anyone.
"""

import argparse
import datetime
import json
import multiprocessing
import os
import pathlib
import sqlite3
import statistics
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
MORE = WORK / "more"
K = 10
BIG_CACHE_KB = 500_000  # holds all vectors
ENOUGH = 0.995  # no setting beyond this recall is tried
SAMPLE = 20_000  # rows that vec1 is trained with


# ---- Rows and truth ------------------------------------------------------------------------------


def load(arguments):
    """Rows and queries, of length one. Queries are rows held back unless they have a file."""
    vectors = np.load(arguments.vectors, mmap_mode="r")
    held_back = 0 if arguments.query_vectors else arguments.queries
    chosen = np.random.default_rng(1).permutation(len(vectors))[: arguments.rows + held_back]
    rows = unit(vectors[np.sort(chosen[held_back:])])
    if arguments.query_vectors:
        return rows, unit(np.load(arguments.query_vectors)[: arguments.queries])
    return rows, unit(vectors[chosen[:held_back]])


def unit(vectors):
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def distances(query, rows):
    return ((rows.astype(np.float64) - query.astype(np.float64)) ** 2).sum(axis=1)


class Truth:
    """The exact distance of each query's K-th neighbour, and how answers compare with it."""

    def __init__(self, rows, queries):
        self.rows = rows
        self.queries = queries
        norms = (rows * rows).sum(axis=1)
        self.limits = []
        for query in queries:
            near = np.argpartition(norms - 2 * (rows @ query), 10 * K)[: 10 * K]
            exact = distances(query, rows[near])
            self.limits.append(np.partition(exact, K - 1)[K - 1] * (1 + 1e-6) + 1e-12)

    def recall(self, answers):
        found = 0
        for keys, query, limit in zip(answers, self.queries, self.limits):
            different = np.unique(np.array(keys, dtype=np.int64))
            found += (distances(query, self.rows[different - 1]) <= limit).sum()
        return float(found / (K * len(answers)))


# ---- Engines -------------------------------------------------------------------------------------


class Engine:
    """A database file and the ways to ask it: name -> (SQL, what it gets behind the query, commands
    that come before). Works in a process of its own: see Worker."""

    extension = None
    is_beside = True  # the vectors are in a table of their own
    exact = None
    settings = {}

    def __init__(self, rows, queries):
        self.rows = rows
        self.queries = queries
        self.connections = {}

    def connect(self, cache_kb=None):
        connection = sqlite3.connect(self.file, isolation_level=None)
        connection.enable_load_extension(True)
        connection.load_extension(str(self.extension))
        connection.enable_load_extension(False)
        if cache_kb:
            connection.execute(f"PRAGMA cache_size = -{cache_kb}")
        return connection

    def make(self):
        """Fills the file and says what it took."""
        self.file.unlink(missing_ok=True)
        connection = self.connect()
        blobs = ((i + 1, row.tobytes()) for i, row in enumerate(self.rows))
        start = time.perf_counter()
        connection.execute("BEGIN")
        self.fill(connection, blobs, self.rows.shape[1])
        connection.execute("COMMIT")
        filled = time.perf_counter()
        before = self.file.stat().st_size if self.is_beside else self.rows.nbytes
        self.index(connection, len(self.rows))
        connection.close()
        size = self.file.stat().st_size
        return {
            "fill_seconds": filled - start,
            "index_seconds": time.perf_counter() - filled,
            "file_to_vectors": size / self.rows.nbytes,
            "index_to_vectors": (size - before) / self.rows.nbytes,
        }

    def index(self, connection, n):
        pass

    def ask(self, setting, n, cache_kb):
        """Milliseconds of each of the first n queries, and the keys that came."""
        if cache_kb not in self.connections:
            self.connections[cache_kb] = self.connect(cache_kb)
        connection = self.connections[cache_kb]
        sql, arguments, commands = self.exact if setting == "exact" else self.settings[setting]
        for command in commands:
            connection.execute(command)
        took, answers = [], []
        for query in self.queries[:n]:
            blob = query.tobytes()
            start = time.perf_counter()
            keys = [key for key, in connection.execute(sql, (blob, *arguments))]
            took.append((time.perf_counter() - start) * 1e3)
            answers.append(keys)
        return took, answers


class Annex(Engine):
    def __init__(self, extension, folder, *data):
        super().__init__(*data)
        self.extension = extension
        self.file = folder / "annex.db"
        self.label = "Annex"
        sql = "SELECT key FROM annex_search('items_idx', ?1, 10, ?2)"
        options = [None] + [json.dumps({"effort": n}) for n in (24, 32, 40, 48, 56, 64, 96, 128)]
        self.settings = {option or "as it comes": (sql, (option,), ()) for option in options}
        self.exact = (sql, ('{"effort": "exact"}',), ())

    def fill(self, connection, blobs, dimension):
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, embedding BLOB NOT NULL)")
        connection.executemany("INSERT INTO items VALUES (?, ?)", blobs)

    def index(self, connection, n):
        connection.execute("SELECT annex_create('items_idx', 'items', 'embedding')").fetchone()


class SqliteVec(Engine):
    is_beside = False

    def __init__(self, extension, version, kind, folder, *data):
        super().__init__(*data)
        self.extension = extension
        self.kind = kind
        self.file = folder / f"sqlite-vec-{kind or 'exact'}.db"
        self.label = f"sqlite-vec {version} {kind}".strip()
        self.exact = (
            "SELECT rowid FROM items WHERE embedding MATCH ?1 AND k = 10 ORDER BY distance", (), ())
        commands = []
        if kind.startswith("rescore"):
            commands = [f"oversample={n}" for n in (2, 4, 8, 16, 32, 64, 128)]
        elif kind.startswith("diskann"):
            commands = [f"search_list_size_search={n}" for n in (64, 128, 256, 512)]
        self.settings = {
            command: (self.exact[0], (), (f"INSERT INTO items(items) VALUES ('{command}')",))
            for command in commands
        }

    def fill(self, connection, blobs, dimension):
        indexed = f" indexed by {self.kind}" if self.kind else ""
        connection.execute(
            f"CREATE VIRTUAL TABLE items USING vec0(embedding float[{dimension}]{indexed})")
        connection.executemany("INSERT INTO items(rowid, embedding) VALUES (?, ?)", blobs)


class Vec1(Engine):
    def __init__(self, extension, version, model, folder, *data):
        super().__init__(*data)
        self.extension = extension
        self.model = model
        self.file = folder / "vec1.db"
        self.label = f"vec1 of apsw {version}, {model['quantizer']} of {model['codesize']} bytes"
        sql = "SELECT rowid FROM items(?1, ?2) ORDER BY vec1_l2_distance(?1, vector) LIMIT 10"
        asked = [{"k": k, "nprobe": probe} for probe in (0.1, 0.2, 0.4, 0.8)
                 for k in (20, 50, 100)]
        self.settings = {json.dumps(each): (sql, (json.dumps(each),), ()) for each in asked}

    def fill(self, connection, blobs, dimension):
        connection.execute("CREATE VIRTUAL TABLE items USING vec1(vector)")
        connection.executemany("INSERT INTO items(rowid, vector) VALUES (?, ?)", blobs)

    def index(self, connection, n):
        model = {**self.model, "nbucket": int(n ** 0.5), "distance": "l2"}
        trained, = connection.execute(
            "SELECT vec1_train(vector, ?) FROM items WHERE rowid % ? = 0",
            (json.dumps(model), max(n // SAMPLE, 1))).fetchone()
        connection.execute("INSERT INTO items(cmd, arg) VALUES ('rebuild', ?)", (trained,))


def version_of(package):
    return next(MORE.glob(f"{package}-*.dist-info")).stem.rpartition("-")[2]


def engines_of(arguments, folder, *data):
    """Those whose extension is there, and a sentence for each that is not."""
    import sqlite_vec

    engines = [Annex(arguments.extension, folder, *data),
               SqliteVec(sqlite_vec.loadable_path(), sqlite_vec.__version__, "", folder, *data)]
    missing = []
    alpha = MORE / "sqlite_vec" / "vec0.so"
    vec1 = MORE / "apsw" / "sqlite_extra_binaries" / "vec1.so"
    kinds = ["rescore(quantizer=bit)", "rescore(quantizer=int8)"]
    if arguments.diskann:
        kinds.append("diskann(neighbor_quantizer=binary)")
    else:
        missing.append("DiskANN of sqlite-vec, whose table is filled with some 100 rows a second: "
                       "--diskann")
    if alpha.is_file():
        version = version_of("sqlite_vec")
        engines += [SqliteVec(alpha, version, kind, folder, *data) for kind in kinds]
    else:
        missing.append(f"the indexes of sqlite-vec: there is no {alpha}")
    if vec1.is_file():
        model = {"quantizer": "pq", "codesize": 96, "nthread": 2}
        engines.append(Vec1(vec1, version_of("apsw"), model, folder, *data))
    else:
        missing.append(f"vec1: there is no {vec1}")
    return engines, missing


# ---- Measuring -----------------------------------------------------------------------------------


class Worker:
    """An engine in a child process. Two versions of sqlite-vec in one process call each other's
    functions, because SQLite loads extensions with their symbols visible to all."""

    def __init__(self, engine):
        self.label = engine.label
        self.settings = list(engine.settings)
        self.pipe, other = multiprocessing.Pipe()
        multiprocessing.get_context("fork").Process(
            target=self.serve, args=(engine, other), daemon=True).start()
        other.close()

    @staticmethod
    def serve(engine, pipe):
        while True:
            name, arguments = pipe.recv()
            pipe.send(getattr(engine, name)(*arguments))

    def call(self, name, *arguments):
        self.pipe.send((name, arguments))
        try:
            return self.pipe.recv()
        except EOFError:
            raise SystemExit(f"bench: {self.label} failed, see above") from None


class Contestant:
    """One way to ask one engine, and what came of it."""

    def __init__(self, worker, setting, n, cache_kb=BIG_CACHE_KB):
        self.worker = worker
        self.setting = setting
        self.asked = (setting, n, cache_kb)
        self.took = []
        self.recall = None
        worker.call("ask", setting, min(n, 5), cache_kb)  # warm

    def run(self, truth):
        took, answers = self.worker.call("ask", *self.asked)
        self.took += took
        self.recall = truth.recall(answers)

    def result(self):
        cache = "" if self.asked[2] or self.setting != "exact" else ", page cache as it comes"
        return {"engine": self.worker.label, "setting": self.setting + cache,
                "recall": self.recall, "median_ms": statistics.median(self.took),
                "fastest_ms": min(self.took), "mean_ms": statistics.fmean(self.took),
                "queries": self.asked[1]}


def explore(worker, truth, n, target):
    """Asks with each setting once: all points, and the name of the fastest that reaches the target,
    or else of the one that comes nearest."""
    points = []
    for setting in worker.settings:
        worker.call("ask", setting, min(n, 5), BIG_CACHE_KB)  # warm
        took, answers = worker.call("ask", setting, n, BIG_CACHE_KB)
        points.append({"setting": setting, "ms": statistics.median(took),
                       "recall": truth.recall(answers)})
        print(f"bench: {worker.label}, {setting}: recall {points[-1]['recall']:.4f}, "
              f"{points[-1]['ms']:.2f} ms", file=sys.stderr)
        if points[-1]["recall"] >= ENOUGH:
            break  # what follows works harder
    enough = [point for point in points if point["recall"] >= target]
    if enough:
        return points, min(enough, key=lambda point: point["ms"])["setting"]
    return points, max(points, key=lambda point: point["recall"])["setting"]


def contestants_of(workers, truth, arguments):
    """The exact searches with few queries, and the chosen setting of each engine with all."""
    annex, vec = workers[:2]
    few = min(arguments.exact_queries, arguments.queries)
    contestants = [Contestant(annex, "exact", few), Contestant(vec, "exact", few, None),
                   Contestant(vec, "exact", few)]
    explored = {}
    for worker in workers:
        if worker.settings:
            explored[worker.label], chosen = explore(worker, truth, arguments.queries,
                                                     arguments.recall)
            contestants.append(Contestant(worker, chosen, arguments.queries))
    return contestants, explored


def print_table(result):
    print(f"\nSQLite {sqlite3.sqlite_version}: {result['rows']:,} x {result['dimension']} f32 "
          f"({result['vectors']}), l2, k {K}, one thread, {result['rounds']} rounds in turns")
    print(f"{'':<46}{'recall':>8}{'median ms':>11}{'fastest ms':>12}{'Annex is':>11}")
    exact, found = result["measured"][0], result["measured"][3]
    for point in result["measured"]:
        annex = exact if point["setting"].startswith("exact") else found
        times = f"{point['median_ms'] / annex['median_ms']:.1f} x" if point is not annex else ""
        print(f"{point['engine']:<46}{point['recall']:>8.4f}{point['median_ms']:>11.3f}"
              f"{point['fastest_ms']:>12.3f}{times:>11}  {point['setting']}")
    for point in result["measured"][1:3]:
        times = point["median_ms"] / found["median_ms"]
        print(f"Annex at recall {found['recall']:.3f} is {times:.1f} x as fast as "
              f"{point['engine']} {point['setting']}")
    print(f"\n{'':<46}{'fill s':>8}{'index s':>9}{'index / vectors':>17}{'file / vectors':>16}")
    for label, made in result["made"].items():
        print(f"{label:<46}{made['fill_seconds']:>8.1f}{made['index_seconds']:>9.1f}"
              f"{made['index_to_vectors']:>17.3f}{made['file_to_vectors']:>16.3f}")
    for sentence in result["missing"]:
        print(f"left out: {sentence}")


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="bench/run sqlite-ann",
        description="Search in SQLite, exact and not: Annex beside sqlite-vec and vec1.")
    parser.add_argument("--vectors", type=pathlib.Path, required=True,
                        help="a .npy file of rows; their length does not matter")
    parser.add_argument("--query-vectors", type=pathlib.Path,
                        help="a .npy file of queries (else rows are held back)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--exact-queries", type=int, default=20,
                        help="of them, for searches that take long (20)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recall", type=float, default=0.95, help="to be reached (0.95)")
    parser.add_argument("--diskann", action="store_true",
                        help="sqlite-vec's DiskANN too, whose table takes a quarter of an hour")
    parser.add_argument("--extension", type=pathlib.Path, default=ROOT / "build" / "annex.so")
    parser.add_argument("--save", type=pathlib.Path, default=WORK / "results",
                        help="folder for the JSON (build/bench/results)")
    arguments = parser.parse_args()
    if not arguments.extension.is_file():
        parser.error(f"there is no {arguments.extension}: run make first")
    return arguments


def main():
    arguments = parse_arguments()
    folder = WORK / "sqlite"
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(cache)  # not the user's own
    rows, queries = load(arguments)
    arguments.queries = len(queries)
    truth = Truth(rows, queries)
    engines, missing = engines_of(arguments, folder, rows, queries)
    workers = [Worker(engine) for engine in engines]
    made = {}
    for worker in workers:
        print(f"bench: {worker.label}: {len(rows):,} rows", file=sys.stderr)
        made[worker.label] = worker.call("make")
    contestants, explored = contestants_of(workers, truth, arguments)
    for _ in range(arguments.rounds):
        for contestant in contestants:
            contestant.run(truth)
    result = {
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "rows": len(rows),
        "dimension": rows.shape[1],
        "vectors": arguments.vectors.stem,
        "rounds": arguments.rounds,
        "made": made,
        "explored": explored,
        "measured": [contestant.result() for contestant in contestants],
        "missing": missing,
    }
    arguments.save.mkdir(parents=True, exist_ok=True)
    file = arguments.save / f"{result['date'][:10]}-sqlite-ann.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print_table(result)
    print(f"written: {file}")
    if result["measured"][0]["recall"] < 1:
        sys.exit("bench: Annex gave wrong answers at effort exact")


if __name__ == "__main__":
    main()
