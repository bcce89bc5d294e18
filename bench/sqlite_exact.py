"""Exact search in SQLite, end to end from Python: Annex beside sqlite-vec.

Annex indexes a plain table and searches at effort "exact"; sqlite-vec holds the same vectors in
its own vec0 table and answers MATCH. Both run in one process with one thread, query about query,
and both answers are compared with a brute-force search in numpy. Then each opens the database in
new processes for the time to the first answer with a warm file cache.

The metric is l2 on unit vectors, which orders like the cosine and is the faster of the two in
sqlite-vec.
"""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
DIMENSION = 384
K = 10
STARTS = 7  # new processes for each time to the first answer
BIG_CACHE_KB = 400_000  # holds all of the vec0 table


def make_vectors(count, seed=1):
    """Unit vectors with some structure: weighted sums of 50 prototypes, and noise."""
    rng = np.random.default_rng(seed)
    prototypes = rng.standard_normal((50, DIMENSION), dtype=np.float32)
    weights = rng.gamma(0.3, size=(count, 50)).astype(np.float32)
    vectors = weights @ prototypes
    vectors += 0.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def load_vectors(path, count):
    """`count` rows of the file in random order, of length one."""
    vectors = np.load(path).astype(np.float32)
    if len(vectors) < count:
        raise SystemExit(f"{path}: {len(vectors)} rows, {count} needed; use fewer --rows")
    vectors = vectors[np.random.default_rng(1).permutation(len(vectors))[:count]]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(base, queries):
    """Distances to every row of the base in double precision, and the K-th smallest."""
    base = base.astype(np.float64)
    for query in queries.astype(np.float64):
        distances = ((base - query) ** 2).sum(axis=1)
        yield distances, np.partition(distances, K - 1)[K - 1]


class Annex:
    name = "annex"
    sql = """SELECT key FROM annex_search('items_idx', ?, 10, '{"effort":"exact"}')"""

    def __init__(self, extension):
        self.extension = extension
        self.label = "annex, plain table"
        self.file = WORK / "sqlite" / "annex.db"

    def load_into(self, connection):
        connection.load_extension(str(self.extension))

    def fill(self, connection, rows):
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, embedding BLOB NOT NULL)")
        connection.executemany("INSERT INTO items VALUES (?, ?)", rows)
        connection.commit()
        connection.execute(
            """SELECT annex_create('items_idx', 'items', 'embedding', '{"metric":"l2"}')""")


class SqliteVec:
    name = "sqlite_vec"
    sql = "SELECT rowid FROM items WHERE embedding MATCH ? AND k = 10 ORDER BY distance"

    def __init__(self):
        import sqlite_vec

        self.extension = sqlite_vec.loadable_path()
        self.label = f"sqlite-vec {sqlite_vec.__version__}, vec0"
        self.file = WORK / "sqlite" / "sqlite-vec.db"

    def load_into(self, connection):
        connection.load_extension(str(self.extension))

    def fill(self, connection, rows):
        connection.execute(f"CREATE VIRTUAL TABLE items USING vec0(embedding float[{DIMENSION}])")
        connection.executemany("INSERT INTO items(rowid, embedding) VALUES (?, ?)", rows)


def connect(engine):
    connection = sqlite3.connect(engine.file)
    connection.enable_load_extension(True)
    engine.load_into(connection)
    connection.enable_load_extension(False)
    return connection


def prepare(engine, base):
    """Write the engine's database; seconds until it can be searched."""
    engine.file.unlink(missing_ok=True)
    start = time.perf_counter()
    connection = connect(engine)
    engine.fill(connection, ((i + 1, row.tobytes()) for i, row in enumerate(base)))
    connection.commit()
    connection.close()
    return time.perf_counter() - start


def timed_answer(connection, sql, blob):
    start = time.perf_counter()
    keys = [row[0] for row in connection.execute(sql, (blob,))]
    return (time.perf_counter() - start) * 1e3, keys


def alternate(contestants, queries, truth):
    """Ask all in turn, query by query: milliseconds of each, and answers that were wrong."""
    took = {name: [] for name in contestants}
    wrong = dict.fromkeys(contestants, 0)
    for query, (distances, limit) in zip(queries, truth):
        for name, (connection, sql) in contestants.items():
            milliseconds, keys = timed_answer(connection, sql, query.tobytes())
            took[name].append(milliseconds)
            found = set(keys)
            near = all(distances[key - 1] <= limit * (1 + 1e-5) + 1e-7 for key in found)
            wrong[name] += not (near and len(found) == K)
    return took, wrong


def first_answer(engine, query, environment):
    """Milliseconds in a new process from opening the database to the first answer."""
    script = (
        "import sqlite3,sys,time\nfile,extension,sql,query=sys.argv[1:]\nt=time.perf_counter()\n"
        "c=sqlite3.connect(file)\nc.enable_load_extension(True)\nc.load_extension(extension)\n"
        "n=len(c.execute(sql,(bytes.fromhex(query),)).fetchall())\n"
        "print((time.perf_counter()-t)*1e3 if n==10 else 'wrong')")
    command = [sys.executable, "-c", script, str(engine.file), str(engine.extension), engine.sql,
               query.tobytes().hex()]
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(answer.stdout)


def measure_starts(engines, query):
    """Median time to the first answer in new processes; for Annex also with its cache removed."""
    environment = dict(os.environ)
    starts = {engine.name: [] for engine in engines}
    for _ in range(STARTS):
        for engine in engines:
            starts[engine.name].append(first_answer(engine, query, environment))
    answer = {name: statistics.median(times) for name, times in starts.items()}
    if any(engine.name == "annex" for engine in engines):
        shutil.rmtree(environment["XDG_CACHE_HOME"], ignore_errors=True)
        os.makedirs(environment["XDG_CACHE_HOME"])
        annex = next(engine for engine in engines if engine.name == "annex")
        answer["annex_without_cache"] = first_answer(annex, query, environment)
    return answer


def measure(engines, base, queries):
    prepared = {}
    for engine in engines:
        print(f"bench: {engine.label}: {len(base):,} rows", file=sys.stderr)
        prepared[engine.name] = prepare(engine, base)
    contestants = {engine.name: (connect(engine), engine.sql) for engine in engines}
    vec = next(engine for engine in engines if engine.name == "sqlite_vec")
    roomy = connect(vec)
    roomy.execute(f"PRAGMA cache_size = -{BIG_CACHE_KB}")
    contestants["sqlite_vec_big_cache"] = (roomy, vec.sql)
    truth = list(brute_force(base, queries))
    alternate(contestants, queries[:2], truth)  # warm: maps, page caches, first-use work
    took, wrong = alternate(contestants, queries, truth)
    return {
        "prepare_seconds": prepared,
        "median_ms": {name: statistics.median(times) for name, times in took.items()},
        "fastest_ms": {name: min(times) for name, times in took.items()},
        "wrong_answers": wrong,
        "first_answer_ms": measure_starts(engines, queries[0]),
    }


def print_table(result, engines):
    labels = {engine.name: engine.label for engine in engines}
    labels["sqlite_vec_big_cache"] = "sqlite-vec, 400 MB page cache"
    print(f"\nexact search in SQLite {sqlite3.sqlite_version}: {result['rows']:,} x {DIMENSION} "
          f"f32 ({result['vectors']}), k {K}, {result['queries']} queries in turn")
    print(f"{'':<32}{'median ms':>10}{'fastest ms':>12}{'GB/s':>7}{'wrong':>7}"
          f"{'new process ms':>16}{'set-up s':>10}")
    for name, median in result["median_ms"].items():
        first = result["first_answer_ms"].get(name)
        prepared = result["prepare_seconds"].get(name)
        print(f"{labels[name]:<32}{median:>10.2f}{result['fastest_ms'][name]:>12.2f}"
              f"{result['rows'] * DIMENSION * 4 / median / 1e6:>7.1f}"
              f"{result['wrong_answers'][name]:>7}"
              f"{'' if first is None else format(first, '.1f'):>16}"
              f"{'' if prepared is None else format(prepared, '.1f'):>10}")
    for name, times in result["ratios"].items():
        print(f"annex is {times:.1f} x as fast as {labels[name]}")
    if "annex_without_cache" in result["first_answer_ms"]:
        print(f"first answer in a new process with Annex's cache file removed: "
              f"{result['first_answer_ms']['annex_without_cache']:.0f} ms")


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="bench/run sqlite", description="Exact search in SQLite: Annex beside sqlite-vec.")
    parser.add_argument("--vectors", type=pathlib.Path,
                        help=f"a .npy file of {DIMENSION}-dimensional rows (else made up)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--extension", type=pathlib.Path, default=ROOT / "build" / "annex.so")
    parser.add_argument("--peers-only", action="store_true", help="sqlite-vec alone")
    parser.add_argument("--save", type=pathlib.Path, default=WORK / "results",
                        help="folder for the JSON (build/bench/results)")
    arguments = parser.parse_args()
    if not arguments.peers_only and not arguments.extension.is_file():
        parser.error(f"there is no {arguments.extension}: run make first, or --peers-only")
    return arguments


def main():
    arguments = parse_arguments()
    (WORK / "sqlite").mkdir(parents=True, exist_ok=True)
    cache = WORK / "sqlite" / "cache"
    cache.mkdir(exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(cache)  # not the user's own
    count = arguments.rows + arguments.queries
    vectors = (load_vectors(arguments.vectors, count) if arguments.vectors else make_vectors(count))
    queries, base = vectors[: arguments.queries], vectors[arguments.queries :]
    engines = [SqliteVec()] if arguments.peers_only else [Annex(arguments.extension), SqliteVec()]
    result = {
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "rows": len(base),
        "queries": len(queries),
        "vectors": arguments.vectors.stem if arguments.vectors else "made-up vectors",
        **measure(engines, base, queries),
    }
    medians = result["median_ms"]
    result["ratios"] = {name: medians[name] / medians["annex"] for name in medians
                        if name != "annex" and "annex" in medians}
    arguments.save.mkdir(parents=True, exist_ok=True)
    file = arguments.save / f"{result['date'][:10]}-sqlite-exact.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print_table(result, engines)
    print(f"written: {file}")
    if result["wrong_answers"].get("annex"):
        sys.exit("bench: Annex gave wrong answers at effort exact")


if __name__ == "__main__":
    main()
