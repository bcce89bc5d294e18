"""What an Annex index costs the programs that write, and the queries right after they wrote.

Commit: two copies of one database, a plain table and the same table with an Annex index, get the
same rows in turns, one transaction here and one there, from connections without Annex. The order
within a turn alternates. For each journal mode, with one row and with 1,000 rows per transaction.

Query: a reader with Annex searches until it is warm, and once more after another process that wrote
nothing (`idle`: what the pause alone costs). Then another process without Annex inserts 1,000 rows
in one transaction, and the reader searches again: the first query has to read the changes, the
second has them. Every trial starts from the same files. Then annex_sync is timed, and the queries
after it.
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

from sqlite_exact import connect as connect_with
from sqlite_exact import load_vectors

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
FOLDER = WORK / "sqlite-write"
FOREIGN_ROWS = 1000
K = 10
JOURNALS = {  # name: journal_mode, synchronous
    "WAL, synchronous NORMAL": ("WAL", "NORMAL"),
    "WAL, synchronous FULL": ("WAL", "FULL"),
    "DELETE, synchronous FULL": ("DELETE", "FULL"),
}
EFFORTS = {"default": None, "exact": '{"effort":"exact"}'}
SEARCH = "SELECT key FROM annex_search('items_idx', ?, 10, ?)"
INSERT = "INSERT INTO items(embedding) VALUES (?)"

WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
rows = [(bytes.fromhex(line),) for line in sys.stdin]
db.execute("BEGIN IMMEDIATE")
db.executemany("INSERT INTO items(embedding) VALUES (?)", rows)
db.execute("COMMIT")
"""


class Database:
    """One of the two tables; `connect` of sqlite_exact wants file, extension, load_into."""

    def __init__(self, name, extension):
        self.file = FOLDER / f"{name}.db"
        self.extension = extension

    def load_into(self, connection):
        connection.load_extension(str(self.extension))

    def copy_to(self, name):
        copy = Database(name, self.extension)
        for suffix in ("-wal", "-shm", "-journal"):
            copy.file.with_name(copy.file.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(self.file, copy.file)
        return copy


def made_up_vectors(count, dimension, seed=1):
    """Unit vectors with some structure: weighted sums of 50 prototypes, and noise."""
    rng = np.random.default_rng(seed)
    prototypes = rng.standard_normal((50, dimension), dtype=np.float32)
    vectors = rng.gamma(0.3, size=(count, 50)).astype(np.float32) @ prototypes
    vectors += 0.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def prepare(base, extension):
    """The two databases, and what annex_create said and took."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    plain = Database("plain", extension)
    plain.file.unlink(missing_ok=True)
    connection = sqlite3.connect(plain.file)
    connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, embedding BLOB NOT NULL)")
    connection.executemany(INSERT, ((row.tobytes(),) for row in base))
    connection.commit()
    connection.close()
    indexed = plain.copy_to("indexed")
    connection = connect_with(indexed)
    start = time.perf_counter()
    made, = connection.execute(
        """SELECT annex_create('items_idx', 'items', 'embedding', '{"metric":"l2"}')""").fetchone()
    took = time.perf_counter() - start
    connection.close()
    return plain, indexed, {**json.loads(made), "create_seconds": took}


# ---- what a commit costs -------------------------------------------------------------------------


def open_writer(database, journal):
    connection = sqlite3.connect(database.file, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {JOURNALS[journal][0]}")
    connection.execute(f"PRAGMA synchronous = {JOURNALS[journal][1]}")
    return connection


def timed_transaction(connection, rows):
    start = time.perf_counter()
    if len(rows) == 1:
        connection.execute(INSERT, rows[0])
    else:
        connection.execute("BEGIN")
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")
    return time.perf_counter() - start


def commit_cost(pair, journal, size, turns, blobs):
    """Seconds of each transaction: {"plain": [...], "indexed": [...]}, one of both in each turn."""
    copies = {name: database.copy_to(f"{name}-writer") for name, database in pair.items()}
    writers = {name: open_writer(copy, journal) for name, copy in copies.items()}
    took = {name: [] for name in writers}
    for turn in range(-3, turns):  # the first three warm the caches
        rows = [(blobs[(turn * size + i) % len(blobs)],) for i in range(size)]
        order = list(writers) if turn % 2 else list(writers)[::-1]
        for name in order:
            seconds = timed_transaction(writers[name], rows)
            if turn >= 0:
                took[name].append(seconds)
    for name, writer in writers.items():
        writer.close()
        copies[name].file.unlink()
    return took


def summarize_commit(took):
    """Medians, and means, which have the checkpoints in them, in microseconds."""
    plain, indexed = took["plain"], took["indexed"]
    return {
        "plain_median_us": statistics.median(plain) * 1e6,
        "indexed_median_us": statistics.median(indexed) * 1e6,
        "ratio_of_medians": statistics.median(indexed) / statistics.median(plain),
        "median_of_ratios": statistics.median(i / p for i, p in zip(indexed, plain)),
        "plain_mean_us": statistics.mean(plain) * 1e6,
        "indexed_mean_us": statistics.mean(indexed) * 1e6,
        "ratio_of_means": statistics.mean(indexed) / statistics.mean(plain),
    }


def measure_commits(pair, blobs, arguments):
    sizes = {1: arguments.single_commits, FOREIGN_ROWS: arguments.bulk_commits}
    answer = []
    for journal in JOURNALS:
        for size, turns in sizes.items():
            print(f"bench: commits, {journal}, {size} rows each", file=sys.stderr)
            took = commit_cost(pair, journal, size, turns, blobs)
            answer.append({"journal": journal, "rows_per_transaction": size, "turns": turns,
                           **summarize_commit(took)})
    return answer


# ---- what a query costs after others wrote -------------------------------------------------------


def insert_elsewhere(file, blobs):
    subprocess.run([sys.executable, "-c", WRITER, str(file)], check=True, text=True,
                   input="".join(blob.hex() + "\n" for blob in blobs))


def timed_search(connection, blob, options):
    start = time.perf_counter()
    rows = connection.execute(SEARCH, (blob, options)).fetchall()
    took = time.perf_counter() - start
    if len(rows) != K:
        raise SystemExit(f"bench: a search gave {len(rows)} rows instead of {K}")
    return took * 1e3


def query_trial(indexed, options, foreign, queries):
    """Milliseconds before, after a process that wrote nothing, after one that wrote; of sync."""
    copy = indexed.copy_to("reader")
    connection = connect_with(copy)
    connection.execute("PRAGMA journal_mode = WAL")
    searched = [timed_search(connection, blob, options) for blob in queries]
    before = searched[len(searched) // 2 :]
    insert_elsewhere(copy.file, [])
    idle, *_ = [timed_search(connection, blob, options) for blob in queries]
    insert_elsewhere(copy.file, foreign)
    first, second, *later = [timed_search(connection, blob, options) for blob in queries]
    start = time.perf_counter()
    report, = connection.execute("SELECT annex_sync('items_idx')").fetchone()
    sync = (time.perf_counter() - start) * 1e3
    if json.loads(report)["inserted"] != len(foreign):
        raise SystemExit(f"bench: {len(foreign)} rows were inserted, annex_sync says {report}")
    after_first, *after = [timed_search(connection, blob, options) for blob in queries]
    connection.close()
    copy.file.unlink()
    return {
        "before_ms": statistics.median(before), "idle_ms": idle, "first_ms": first,
        "second_ms": second, "later_ms": statistics.median(later), "sync_ms": sync,
        "first_after_sync_ms": after_first, "after_sync_ms": statistics.median(after),
    }


def measure_queries(indexed, blobs, queries, arguments):
    answer = {}
    for name, options in EFFORTS.items():
        print(f"bench: queries around foreign inserts, effort {name}", file=sys.stderr)
        trials = []
        for trial in range(arguments.trials):
            start = trial * FOREIGN_ROWS % len(blobs)
            foreign = (blobs[start:] + blobs)[:FOREIGN_ROWS]
            trials.append(query_trial(indexed, options, foreign, queries))
        median = {key: statistics.median(t[key] for t in trials) for key in trials[0]}
        answer[name] = {
            "median": median, "trials": trials,
            **{f"{what}_to_{base}": statistics.median(
                t[f"{what}_ms"] / t[f"{base}_ms"] for t in trials)
               for what, base in (("first", "before"), ("first", "idle"), ("second", "before"))},
        }
    return answer


# ---- the report ----------------------------------------------------------------------------------


def print_table(result):
    print(f"\nSQLite {sqlite3.sqlite_version}, {result['rows']:,} x {result['dimension']} f32 "
          f"({result['vectors']}), index: {result['index']['family']}")
    if result["commits"]:
        print_commits(result["commits"])
    if result["queries"]:
        print_queries(result["queries"])


def print_commits(commits):
    print(f"\n{'commit, microseconds':<28}{'rows':>6}{'plain':>10}{'indexed':>10}{'ratio':>7}"
          f"{'plain mean':>12}{'indexed':>10}{'ratio':>7}")
    for row in commits:
        print(f"{row['journal']:<28}{row['rows_per_transaction']:>6,}"
              f"{row['plain_median_us']:>10.1f}{row['indexed_median_us']:>10.1f}"
              f"{row['ratio_of_medians']:>7.2f}{row['plain_mean_us']:>12.1f}"
              f"{row['indexed_mean_us']:>10.1f}{row['ratio_of_means']:>7.2f}")


def print_queries(queries):
    print(f"\n{'query, milliseconds':<20}{'before':>8}{'idle':>8}{'first':>8}{'second':>8}"
          f"{'later':>8}{'first/before':>14}{'first/idle':>12}{'second/before':>15}{'sync':>8}"
          f"{'after sync':>12}")
    for name, row in queries.items():
        m = row["median"]
        print(f"{'effort ' + name:<20}{m['before_ms']:>8.2f}{m['idle_ms']:>8.2f}"
              f"{m['first_ms']:>8.2f}{m['second_ms']:>8.2f}{m['later_ms']:>8.2f}"
              f"{row['first_to_before']:>14.2f}{row['first_to_idle']:>12.2f}"
              f"{row['second_to_before']:>15.2f}{m['sync_ms']:>8.1f}{m['after_sync_ms']:>12.2f}")


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="bench/run write", description="What an index costs writers and the query after them.")
    parser.add_argument("--vectors", type=pathlib.Path, help="a .npy file of rows (else made up)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=768, help="of made-up vectors")
    parser.add_argument("--single-commits", type=int, default=1000, metavar="N",
                        help="transactions of one row in each journal mode")
    parser.add_argument("--bulk-commits", type=int, default=15, metavar="N",
                        help=f"transactions of {FOREIGN_ROWS} rows in each journal mode")
    parser.add_argument("--trials", type=int, default=7, help="of the queries around inserts")
    parser.add_argument("--only", choices=("commits", "queries"))
    parser.add_argument("--extension", type=pathlib.Path, default=ROOT / "build" / "annex.so")
    parser.add_argument("--save", type=pathlib.Path, default=WORK / "results",
                        help="folder for the JSON (build/bench/results)")
    arguments = parser.parse_args()
    if not arguments.extension.is_file():
        parser.error(f"there is no {arguments.extension}: run make first")
    return arguments


def main():
    arguments = parse_arguments()
    cache = FOLDER / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(cache)  # not the user's own
    count = arguments.rows + FOREIGN_ROWS + 20
    vectors = (load_vectors(arguments.vectors, count) if arguments.vectors
               else made_up_vectors(count, arguments.dimension))
    queries = [row.tobytes() for row in vectors[:20]]
    blobs = [row.tobytes() for row in vectors[20 : 20 + FOREIGN_ROWS]]
    base = vectors[20 + FOREIGN_ROWS :]
    print(f"bench: {len(base):,} rows into the databases", file=sys.stderr)
    plain, indexed, made = prepare(base, arguments.extension)
    result = {
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "rows": len(base), "dimension": base.shape[1], "index": made,
        "vectors": arguments.vectors.stem if arguments.vectors else "made-up vectors",
        "commits": [], "queries": {},
    }
    if arguments.only != "queries":
        result["commits"] = measure_commits({"plain": plain, "indexed": indexed}, blobs, arguments)
    if arguments.only != "commits":
        result["queries"] = measure_queries(indexed, blobs, queries, arguments)
    arguments.save.mkdir(parents=True, exist_ok=True)
    file = arguments.save / f"{result['date'][:10]}-sqlite-write.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print_table(result)
    print(f"written: {file}")
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
