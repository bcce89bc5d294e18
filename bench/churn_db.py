"""What changes through a database do to an index: rounds of plain SQL, beside an index made anew.

A table with an index gets rounds of UPDATE, DELETE and INSERT from a connection without Annex, each
followed by annex_sync. Half of the rows that a round replaces are updated, half deleted and others
inserted. Then three databases answer the same queries in turns: the one that was synced, a copy of
it after annex_optimize, and one whose index was made anew for the same rows. Recall is at 10 by
distance; times are of the processor, with what SQLite takes; `lost` counts rows that a search for
their own vector does not find.
"""

import argparse
import json
import pathlib
import shutil
import sqlite3
import tempfile
import time

import numpy as np

import sets
from dataset import Dataset

ROOT = pathlib.Path(__file__).resolve().parent.parent
K = 10
TIE = 1e-5  # relative: distances are computed from f32
EFFORTS = (10, 14, 20, 28, 40, 80)  # the default is one of such steps
TURNS = 5
OWN = 2000  # rows searched for by their own vector
ENGINES = ("synced", "optimized", "fresh")
SEARCH = "SELECT key FROM annex_search('items_idx', ?, ?, ?)"


class Database:
    def __init__(self, file, extension=None):
        self.db = sqlite3.connect(file, isolation_level=None)
        if extension:
            self.db.enable_load_extension(True)
            self.db.load_extension(str(extension))

    def one(self, sql, *arguments):
        return self.db.execute(sql, arguments).fetchone()[0]

    def fill(self, rows):
        """Makes the table of these (id, vector)."""
        self.db.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, embedding BLOB NOT NULL)")
        self.write("INSERT INTO items(id, embedding) VALUES (?, ?)", rows)

    def write(self, sql, rows):
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(sql, rows)
        self.db.execute("COMMIT")

    def index(self, options):
        return self.one("SELECT annex_create('items_idx', 'items', 'embedding', ?)",
                        json.dumps(options))

    def search(self, query, effort, k=K):
        options = json.dumps({"effort": effort} if effort else {})
        return [key for (key,) in self.db.execute(SEARCH, (query.tobytes(), k, options))]


class Table:
    """What the table holds: vectors of the set by id. Ids and vectors are never used twice."""

    def __init__(self, vectors, rows, seed=1):
        self.random = np.random.default_rng(seed)
        self.vectors = vectors[self.random.permutation(len(vectors))]
        self.rows = {i: i for i in range(rows)}
        self.next = rows

    def blob(self, number):
        return self.vectors[number].tobytes()

    def all(self):
        return [(key, self.blob(number)) for key, number in self.rows.items()]

    def change(self, writer, replaced):
        """Replaces so many rows: half by UPDATE, half by DELETE and INSERT."""
        keys = self.random.choice(list(self.rows), replaced, replace=False).tolist()
        fresh = list(range(self.next, self.next + replaced))
        self.next += replaced
        half = replaced // 2
        updated = list(zip(keys[:half], fresh[:half]))
        writer.write("UPDATE items SET embedding = ? WHERE id = ?",
                     [(self.blob(number), key) for key, number in updated])
        writer.write("DELETE FROM items WHERE id = ?", [(key,) for key in keys[half:]])
        writer.write("INSERT INTO items(id, embedding) VALUES (?, ?)",
                     [(number, self.blob(number)) for number in fresh[half:]])
        for key in keys[half:]:
            del self.rows[key]
        self.rows.update(updated)
        self.rows.update((number, number) for number in fresh[half:])

    def truth(self, queries, metric):
        """Distances of every query to every row, and where each id stands in them."""
        keys = list(self.rows)
        rows = self.vectors[[self.rows[key] for key in keys]]
        if metric == "cosine":
            distances = 1 - queries @ rows.T  # of length one
        else:
            squares = (rows.astype(np.float64) ** 2).sum(axis=1)
            distances = squares - 2.0 * (queries.astype(np.float64) @ rows.T.astype(np.float64))
            distances += (queries.astype(np.float64) ** 2).sum(axis=1)[:, None]
        return distances, {key: i for i, key in enumerate(keys)}


def compare(engines, queries, truth, effort):
    """Recall and the best processor time a query, in seconds, of each of the engines."""
    distances, place = truth
    limits = np.partition(distances, K - 1)[:, K - 1]
    seconds, recalls = [float("inf")] * len(engines), []
    for _ in range(TURNS):
        for i, engine in enumerate(engines):
            start = time.process_time()
            for query in queries:
                engine.search(query, effort)
            seconds[i] = min(seconds[i], (time.process_time() - start) / len(queries))
    for engine in engines:
        right = 0
        for q, query in enumerate(queries):
            near = distances[q, [place[key] for key in engine.search(query, effort)]]
            right += int((near <= limits[q] + TIE * abs(limits[q])).sum())
        recalls.append(right / (K * len(queries)))
    return recalls, seconds


def lost(engine, table):
    """How many of some rows a search for their own vector does not find."""
    keys = table.random.choice(list(table.rows), min(OWN, len(table.rows)), replace=False).tolist()
    return sum(key not in engine.search(table.vectors[table.rows[key]], None, 2 * K)
               for key in keys)


def measure(path, options, folder):
    data = Dataset(path)
    metric = "l2" if data.metric == "euclidean" else "cosine"
    queries = data.queries()[: options.queries]
    table = Table(data.rows(), options.rows)
    replaced = options.rows * options.percent // 100 // options.rounds
    if options.rows + replaced * options.rounds > len(data.train):
        raise SystemExit(f"{path.stem}: {len(data.train)} rows, more are needed; use fewer --rows")
    files = {name: folder / f"{path.stem}-{name}.db" for name in ENGINES}
    synced = Database(files["synced"], options.build / "annex.so")
    writer = Database(files["synced"])
    wanted = {"metric": metric, "index": "graph"}
    synced.fill(table.all())
    synced.index(wanted)
    for _ in range(options.rounds):
        table.change(writer, replaced)
        synced.one("SELECT annex_sync('items_idx')")
    shutil.copyfile(files["synced"], files["optimized"])
    optimized, fresh = (Database(files[name], options.build / "annex.so") for name in ENGINES[1:])
    optimized.one("SELECT annex_optimize('items_idx')")
    fresh.fill(sorted(table.all()))
    fresh.index(wanted)
    engines = (synced, optimized, fresh)
    states = [{"segments": engine.one("SELECT segments FROM annex_indexes"),
               "check": engine.one("SELECT annex_check('items_idx')"),
               "lost": lost(engine, table)} for engine in engines]
    print(f"\n### {path.stem}: {options.rows} rows, {replaced * options.rounds} replaced in "
          f"{options.rounds} rounds\n")
    for name, state in zip(ENGINES, states):
        print(f"- {name}: {json.dumps(state)}")
    print("\n| effort | recall synced | optimized | fresh | us synced | optimized | fresh |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    truth = table.truth(queries, metric)
    cells = []
    for effort in (None, *EFFORTS):
        recalls, seconds = compare(engines, queries, truth, effort)
        cells.append({"effort": effort, "recall": recalls, "seconds": seconds})
        words = [f"{recall:.4f}" for recall in recalls] + [f"{s * 1e6:.0f}" for s in seconds]
        print(f"| {effort or 'default'} | {' | '.join(words)} |", flush=True)
    return {"states": states, "cells": cells}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", type=pathlib.Path, help="HDF5 files")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--percent", type=int, default=50, help="rows replaced in all")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--json", type=pathlib.Path, help="also write the cells to this file")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in sets.need(options.sets):
            results[path.stem] = measure(path, options, pathlib.Path(folder))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
