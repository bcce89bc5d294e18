#!/usr/bin/env python3
"""Compare the functions of datasette-faiss in annex.so with datasette-faiss itself.

    tools/faiss_compare.py [--build build] [--rounds 20] [--seed 1] [--bench]

Both get the same calls: JSON of every kind, blobs of random bits, ids of every type, tables of
whole numbers, whose scores must be the same text, and of any numbers, whose ids must be the same
and scores within a millionth. What one refuses the other must refuse, but for what docs/FAISS.md
explains. The tables are indexed by the real plugin, started by the real Datasette. --bench compares
speed as well. Both come from PyPI into a virtual environment in the build directory. Fails when
there is any other difference.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

PACKAGES = ("datasette-faiss==0.2.1", "faiss-cpu==1.15.1", "numpy<2")
PYTHON = "/usr/bin/python3"  # some others are built without extensions for SQLite
TEXTS = (
    "[1, 2]", " [ 1 ,\t2 ]\n", "[]", "[-0, -0.0, -0e1]", "[true, false]",
    "[NaN, Infinity, -Infinity]", "[1e39, -1e39, 1e400, 1e-50]",
    "[1.00000005960464477539062500000000001]", "[0.1, 1E+5, 1.5e-3]",
    "", "1", "null", '"ab"', "[null]", '["1"]', "[[1]]", "[1,]", "[1 2]", "[1]]", "[1", "[", "[01]",
    "[1.]", "[.5]", "[+1]", "[1e]", "[-]", "[-NaN]", "[nan]", "[0x10]", "[1\0]",
    "[" + "9" * 400 + "]", "[" + "1" * 400 + "e-400]",
)


class Both:
    """The two connections, and how often they agreed."""

    def __init__(self, real, annex):
        self.real = real
        self.annex = annex
        self.counts = Counter()

    def ask(self, connection, sql, arguments):
        try:
            return connection.execute("SELECT " + sql, arguments).fetchone()[0]
        except (sqlite3.Error, OverflowError):
            return sqlite3.Error

    def compare(self, what, sql, *arguments):
        real, annex = (self.ask(db, sql, arguments) for db in (self.real, self.annex))
        self.counts["same" if real == annex else "different"] += 1
        if real != annex:
            print(f"{what}: {sql} of {arguments!r:.200}\n  datasette-faiss {real!r:.300}\n"
                  f"  annex           {annex!r:.300}")
        return real, annex

    def fill(self, rows):
        for db in (self.real, self.annex):
            db.execute("DELETE FROM t")
            db.executemany("INSERT INTO t(id, embedding) VALUES (?, ?)", rows)


# ---- Random values -------------------------------------------------------------------------------


def random_json(rng):
    numbers = []
    for _ in range(rng.randrange(100)):
        sign, whole = rng.choice(("", "-")), rng.randrange(10 ** rng.randrange(1, 22))
        fraction = f".{rng.randrange(10 ** rng.randrange(1, 22))}" if rng.random() < 0.7 else ""
        exponent = f"e{rng.randrange(-60, 40)}" if rng.random() < 0.5 else ""
        numbers.append(f"{sign}{whole}{fraction}{exponent}")
    return "[" + ",".join(numbers) + "]"


def random_double(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return 2.0 ** rng.randrange(-1074, 1024)
    if kind == 1:
        return rng.randrange(10 ** rng.randrange(1, 20)) / 10.0 ** rng.randrange(12)
    number, = struct.unpack("<d", rng.randbytes(8))
    return 0.5 if number != number else number


def random_id(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice((None, 0, -1, 2 ** 63 - 1, -2 ** 63, rng.randrange(10 ** 6)))
    if kind == 1:
        return random_double(rng)
    characters = [*range(300), 0x7FF, 0x800, 0x20AC, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
    return "".join(chr(rng.choice(characters)) for _ in range(rng.randrange(20)))


# ---- What is compared ----------------------------------------------------------------------------


def compare_texts(both, rng, rounds):
    for text in TEXTS:
        both.compare("JSON", "faiss_encode(?)", text)
        both.compare("JSON as a blob", "faiss_encode(?)", text.encode())
    for argument in (None, 5, 1.5, b"", b"abc", "abcd"):
        both.compare("no blob", "faiss_decode(?)", argument)
    for _ in range(10 * rounds):
        both.compare("JSON", "faiss_encode(?)", random_json(rng))
        both.compare("bits", "faiss_decode(?)", rng.randbytes(4 * rng.randrange(300)))


def compare_ids(both, rng, rounds):
    for _ in range(rounds):
        ids = [random_id(rng) for _ in range(300)]
        both.fill([(i, struct.pack("<f", n)) for n, i in enumerate(ids)])
        for function in ("faiss_agg", "faiss_agg_with_scores"):
            both.compare("ids", f"{function}(id, embedding, x'00000000', 300) FROM t")


def compare_whole_numbers(both, numpy, rng, rounds):
    for _ in range(rounds):
        n, dimension = rng.choice((1, 2, 30, 500)), rng.choice((1, 2, 8, 31, 100, 768))
        generator = numpy.random.default_rng(rng.randrange(2 ** 32))
        rows = generator.integers(-3, 4, (n + 1, dimension)).astype("<f4")
        both.fill([(3 * i, row.tobytes()) for i, row in enumerate(rows[1:])])
        for k in {1, min(5, n), min(99, n)}:
            for function in ("faiss_agg", "faiss_agg_with_scores"):
                both.compare("whole numbers", f"{function}(id, embedding, ?, ?) FROM t",
                             rows[0].tobytes(), k)
        for k in (0, -1, "2", 2.0, None):
            both.compare("k", "faiss_agg(id, embedding, ?, ?) FROM t", rows[0].tobytes(), k)


def compare_search(both, numpy, table, queries):
    """Ids as text, scores within a millionth; the greatest difference."""
    worst = 0
    for query in queries:
        blob = query.astype("<f4").tobytes()
        both.compare("search", f"faiss_search('demo', '{table}', ?, 20)", blob)
        sql = f"SELECT faiss_search_with_scores('demo', '{table}', ?, 20)"
        real, annex = (json.loads(db.execute(sql, (blob,)).fetchone()[0])
                       for db in (both.real, both.annex))
        for (real_id, real_score), (annex_id, annex_score) in zip(real, annex):
            difference = abs(real_score - annex_score) / max(real_score, 1e-30)
            both.counts["same" if real_id == annex_id and difference < 1e-6 else "different"] += 1
            worst = max(worst, difference)
    return worst


# ---- Speed ---------------------------------------------------------------------------------------


def milliseconds(connection, sql, *arguments):
    start = time.perf_counter()
    connection.execute(sql, arguments).fetchone()
    return (time.perf_counter() - start) * 1e3


def measure(both, table, queries):
    for name, sql in (
            ("faiss_agg", f"SELECT faiss_agg(id, embedding, ?, 10) FROM {table}"),
            ("faiss_search", f"SELECT faiss_search('demo', '{table}', ?, 10)")):
        took = {"datasette-faiss": [], "annex": []}
        for query in queries[: 5 if name == "faiss_agg" else 40]:
            blob = query.astype("<f4").tobytes()
            took["datasette-faiss"].append(milliseconds(both.real, sql, blob))
            took["annex"].append(milliseconds(both.annex, sql, blob))
        real, annex = (statistics.median(times) for times in took.values())
        print(f"{name}, {table}: datasette-faiss {real:.2f} ms, annex {annex:.2f} ms, "
              f"{real / annex:.1f} x")


# ---- The run -------------------------------------------------------------------------------------


def connect(path, build=None):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA cache_size = -400000")
    db.execute("CREATE TEMP TABLE t(n INTEGER PRIMARY KEY, id, embedding)")
    if build:
        db.enable_load_extension(True)
        db.load_extension(str(build / "annex.so"))
    return db


def start_plugin(path, tables):
    """The real Datasette makes the plugin read the tables; what it read serves any connection."""
    from datasette.app import Datasette

    sqlite3.enable_callback_tracebacks(False)
    start = time.perf_counter()
    datasette = Datasette([str(path)], metadata={
        "plugins": {"datasette-faiss": {"tables": [["demo", table] for table in tables]}}})
    asyncio.run(datasette.invoke_startup())
    return time.perf_counter() - start


def run(arguments, folder):
    import datasette_faiss
    import faiss
    import numpy

    faiss.omp_set_num_threads(1)
    rng = random.Random(arguments.seed)
    generator = numpy.random.default_rng(arguments.seed)
    shapes = [(1000, 1536), (10_000, 1536)] if arguments.bench else [(1000, 384)]
    path = folder / "demo.db"
    filler = sqlite3.connect(path)
    for n, dimension in shapes:
        rows = generator.standard_normal((n, dimension), dtype="f4")
        filler.execute(f"CREATE TABLE v{n}x{dimension}(id INTEGER PRIMARY KEY, embedding BLOB)")
        filler.executemany(f"INSERT INTO v{n}x{dimension} VALUES (?, ?)",
                           ((i, row.tobytes()) for i, row in enumerate(rows)))
    filler.commit()
    tables = [f"v{n}x{dimension}" for n, dimension in shapes]
    seconds = start_plugin(path, tables)
    both = Both(connect(path), connect(path, arguments.build.resolve()))
    datasette_faiss.prepare_connection(both.real)
    compare_texts(both, rng, arguments.rounds)
    compare_ids(both, rng, arguments.rounds)
    compare_whole_numbers(both, numpy, rng, arguments.rounds)
    worst = 0
    for table, (_, dimension) in zip(tables, shapes):
        queries = generator.standard_normal((40, dimension), dtype="f4")
        worst = max(worst, compare_search(both, numpy, table, queries[: arguments.rounds]))
        if arguments.bench:
            measure(both, table, queries)
    if arguments.bench:
        print(f"start of datasette-faiss: {seconds:.1f} s; annex needs none")
    print(f"{both.counts['same']} the same, {both.counts['different']} different; scores differ by "
          f"{worst:.1e} at most")
    return 1 if both.counts["different"] or not both.counts["same"] else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", type=Path, default=Path("build"), help="build directory (build)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bench", action="store_true", help="compare speed too")
    arguments = parser.parse_args()
    venv = arguments.build.resolve() / "faiss-venv"
    if Path(sys.prefix) != venv:
        if not (venv / "ready").exists():
            subprocess.run([PYTHON, "-m", "venv", "--clear", venv], check=True)
            subprocess.run([venv / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True)
            (venv / "ready").touch()
        return subprocess.run([venv / "bin" / "python", *sys.argv]).returncode
    with tempfile.TemporaryDirectory() as folder:
        return run(arguments, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
