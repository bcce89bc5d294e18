#!/usr/bin/env python3
"""Compare the vec0 tables of sqlite3_annex_vec_init with those of sqlite-vec, by random statements.

    tools/vec_compare_tables.py [--build build] [--tables 200] [--statements 60] [--seed 1]

Each table is declared at random (keys, partition keys, metadata, auxiliary columns, vectors of each
type and metric) and made in both; then both are told the same: rows are inserted, replaced, updated
and deleted, within transactions, savepoints and outside, and read by every kind of query that
sqlite-vec answers. Both must give the same rows, the same errors, and distances that agree to a few
units of f32; rows of one distance may come in any order. What sqlite-vec refuses and Annex answers
is counted apart. Runs in the environment that tools/vec_tests.py makes; fails on a difference.
"""

import argparse
import json
import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

METADATA = ("integer", "text", "float", "boolean")
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
WORDS = ("", "a", "b", "twelve bytes", "thirteen byte", "a text that is rather long", "zz")


class Schema:
    """A random declaration, and the random values that fit it."""

    def __init__(self, rng):
        self.rng = rng
        self.key = rng.choice((None, "integer", "text"))
        self.vectors = {
            f"v{i}": (rng.choice(("float", "float", "int8", "bit")), rng.choice((1, 3, 8)) * 8)
            for i in range(rng.choice((1, 1, 2)))
        }
        self.metrics = {
            name: rng.choice(("l2", "l1", "cosine")) if kind != "bit" else None
            for name, (kind, _) in self.vectors.items()
        }
        self.partitions = self.columns("p", ("integer", "text"), (0, 0, 1, 2))
        self.metadata = self.columns("m", METADATA, (0, 1, 2, 4))
        self.auxiliary = self.columns("x", ("integer", "text", "float", "blob"), (0, 0, 1, 2))

    def columns(self, letter, kinds, counts):
        return {f"{letter}{i}": self.rng.choice(kinds) for i in range(self.rng.choice(counts))}

    def declaration(self):
        parts = [f"id {self.key} primary key"] if self.key else []
        rest = [f"{name} {kind}[{n}]" + (f" distance_metric={self.metrics[name]}"
                                         if self.metrics[name] else "")
                for name, (kind, n) in self.vectors.items()]
        rest += [f"{name} {kind} partition key" for name, kind in self.partitions.items()]
        rest += [f"{name} {kind}" for name, kind in self.metadata.items()]
        rest += [f"+{name} {kind}" for name, kind in self.auxiliary.items()]
        self.rng.shuffle(rest)
        return f"CREATE VIRTUAL TABLE t USING vec0({', '.join(parts + rest)}, chunk_size=8)"

    def key_name(self):
        return "id" if self.key else "rowid"

    def key_value(self):
        number = self.rng.randint(1, 40)
        return f"k{number}" if self.key == "text" else number

    def value(self, kind):
        if kind == "text":
            return self.rng.choice(WORDS)
        if kind == "float":
            return self.rng.choice((0.0, -1.5, 2.25, 1e6))
        if kind == "boolean":
            return self.rng.randint(0, 1)
        return self.rng.randbytes(3) if kind == "blob" else self.rng.randint(-3, 3)

    def vector(self, name):
        """(expression, value) of a random vector that fits the column; seldom one that does not."""
        kind, n = self.vectors[name]
        if self.rng.random() < 0.02:
            n += 8
        if self.rng.random() < 0.02:
            return "?", self.rng.choice((None, b"123", "no", 7))
        if kind == "float":
            return "?", json.dumps([self.rng.choice((self.rng.gauss(0, 1), 1)) for _ in range(n)])
        if kind == "int8":
            return "vec_int8(?)", json.dumps([self.rng.randint(-128, 127) for _ in range(n)])
        return "vec_bit(?)", self.rng.randbytes(n // 8)

    def others(self):
        return {**self.partitions, **self.metadata, **self.auxiliary}


def insert(rng, schema):
    columns, expressions, values = [], [], []
    if schema.key == "text" or rng.random() < 0.6:
        columns.append(schema.key_name())
        expressions.append("?")
        values.append(schema.key_value())
    for name in schema.vectors:
        expression, value = schema.vector(name)
        columns.append(name)
        expressions.append(expression)
        values.append(value)
    for name, kind in schema.others().items():
        columns.append(name)
        expressions.append("?")
        values.append(schema.value(kind if rng.random() < 0.98 else rng.choice(METADATA)))
    verb = rng.choice(("INSERT", "INSERT", "INSERT OR REPLACE"))
    return f"{verb} INTO t({', '.join(columns)}) VALUES ({', '.join(expressions)})", values


def update(rng, schema):
    name = rng.choice([*(n for n, (kind, _) in schema.vectors.items() if kind == "float"),
                       *schema.metadata, *schema.auxiliary] or [None])
    if name is None:
        return "SELECT 1", []
    if name in schema.vectors:
        expression, value = schema.vector(name)
    else:
        expression, value = "?", schema.value(schema.others()[name])
    return f"UPDATE t SET {name} = {expression} WHERE {schema.key_name()} = ?", [
        value, schema.key_value()]


def delete(rng, schema):
    if rng.random() < 0.7 or not schema.metadata:
        return f"DELETE FROM t WHERE {schema.key_name()} = ?", [schema.key_value()]
    name, kind = rng.choice([*schema.metadata.items()])
    return f"DELETE FROM t WHERE {name} = ? AND {schema.key_name()} < ?", [
        schema.value(kind), schema.key_value()]


def condition(rng, schema):
    """A condition of a search that sqlite-vec answers, mostly."""
    kinds = [("key", None), ("distance", None)]
    kinds += [("partition", item) for item in schema.partitions.items()]
    kinds += 2 * [("metadata", item) for item in schema.metadata.items()]
    what, item = rng.choice(kinds)
    if what == "key":
        keys = [schema.key_value() for _ in range(rng.choice((0, 1, 9)))]
        return f"{schema.key_name()} IN ({', '.join('?' * len(keys))})", keys
    if what == "distance":
        return f"distance {rng.choice(COMPARISONS[2:])} ?", [rng.choice((0.5, 1.0, 5.0, 60.0))]
    name, kind = item
    if what == "metadata" and kind in ("integer", "text") and rng.random() < 0.3:
        values = [schema.value(kind) for _ in range(3)]
        return f"{name} IN (?, ?, ?)", values
    return f"{name} {rng.choice(COMPARISONS)} ?", [schema.value(kind)]


def search(rng, schema):
    name = rng.choice([*schema.vectors])
    expression, value = schema.vector(name)
    sql, values = f"{name} MATCH {expression}", [value]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        more, its = condition(rng, schema)
        if not ("IN (" in more and "IN (" in sql):
            sql, values = f"{sql} AND {more}", values + its
    k = rng.choice((0, 1, 3, 10, 100))
    tail = f"AND k = {k}" if rng.random() < 0.7 else f"ORDER BY distance LIMIT {k}"
    return f"SELECT distance, {schema.key_name()} FROM t WHERE {sql} {tail}", values


def read(rng, schema):
    columns = ", ".join([schema.key_name(), *schema.vectors, *schema.others()])
    if rng.random() < 0.5:
        return f"SELECT {columns} FROM t WHERE {schema.key_name()} = ?", [schema.key_value()]
    return f"SELECT {columns} FROM t ORDER BY {schema.key_name()}", []


def statement(rng, schema):
    kind = rng.random()
    if kind < 0.45:
        return insert(rng, schema)
    if kind < 0.55:
        return update(rng, schema)
    if kind < 0.62:
        return delete(rng, schema)
    if kind < 0.7:
        return rng.choice(("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s",
                           "RELEASE s")), []
    return (search if kind < 0.92 else read)(rng, schema)


def outcome(db, sql, values):
    """The rows, or the words of the error."""
    changes = sql.startswith(("INSERT", "UPDATE", "DELETE"))
    if changes:  # sqlite-vec keeps a half of some rows that it refuses
        db.execute("SAVEPOINT statement")
    try:
        return [tuple(row) for row in db.execute(sql, values).fetchall()]
    except Exception as error:
        if changes:
            db.execute("ROLLBACK TO statement")
        return f"{error}"
    finally:
        if changes:
            db.execute("RELEASE statement")


def close(a, b):
    """Whether two distances, or NULLs, agree to a few units of f32."""
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=2e-6)


def agree(sql, ours, theirs):
    """Whether two outcomes are the same, but for last digits and the order of equal distances."""
    if ours == theirs:
        return True
    if isinstance(ours, str) or isinstance(theirs, str) or len(ours) != len(theirs):
        return False
    if " MATCH " not in sql:
        return False
    if not all(close(a[0], b[0]) for a, b in zip(ours, theirs)):
        return False
    # Those at the greatest distance may be others: k cut off some of them.
    last = ours[-1][0]
    before = [{row[1] for row in rows if not close(row[0], last)} for rows in (ours, theirs)]
    return before[0] == before[1]


def explanation(schema, sql, ours, theirs):
    """Why two outcomes may differ, or None."""
    if isinstance(theirs, str) and not isinstance(ours, str):
        return "refused there, answered here: " + theirs[:60]
    if sql.startswith("UPDATE") and theirs == [] and "found NULL" in ours:
        return "vectors set to NULL, which sqlite-vec passes over"
    if isinstance(theirs, str):
        return "two things are wrong, and another one is named"
    if schema.key == "text" and " id IN (" in sql and theirs == []:
        return "text keys IN (…), of which sqlite-vec finds none"
    return None


def brief(rows, others):
    """What is only in `rows`."""
    return rows if isinstance(rows, str) else [row for row in rows if row not in others]


def load(sqlite3, path, entry_point):
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.enable_load_extension(True)
    db.execute("SELECT load_extension(?, ?)", (str(path), entry_point)).fetchone()
    return db


def compare_table(sqlite3, paths, statements, seed, counts):
    """True when both behave the same."""
    rng = random.Random(seed)
    ours, theirs = (load(sqlite3, *path) for path in paths)
    schema = Schema(rng)
    told = [(schema.declaration(), [])]
    columns = ", ".join([schema.key_name(), *schema.vectors, *schema.others()])
    for _ in range(statements):
        told.append(statement(rng, schema))
        if not told[-1][0].startswith("SELECT"):  # what is in the table now?
            told.append((f"SELECT {columns} FROM t ORDER BY {schema.key_name()}", []))
    for i, (sql, values) in enumerate(told):
        a, b = outcome(ours, sql, values), outcome(theirs, sql, values)
        counts["refused" if isinstance(a, str) else "done"] += 1
        if agree(sql, a, b):
            continue
        why = explanation(schema, sql, a, b)
        counts[why or "DIFFERENT"] += 1
        if why is None:
            print(f"seed {seed}, statement {i}: {told[0][0]}\n{told[i - 1]}\n{sql}\n"
                  f"    {values}\n    Annex      {brief(a, b)}\n    sqlite-vec {brief(b, a)}")
            return False
        if not sql.startswith("SELECT"):
            return True  # from here on the tables differ
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", default="build", help="build directory (build)")
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--statements", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    build = Path(arguments.build).resolve()
    python = build / "vec-tests" / "bin" / "python"
    if Path(sys.prefix).resolve() != (build / "vec-tests").resolve():
        return subprocess.run([python, *sys.argv]).returncode
    import pysqlite3
    import sqlite_vec

    paths = ((build / "annex.so", "sqlite3_annex_vec_init"),
             (sqlite_vec.loadable_path(), "sqlite3_vec_init"))
    counts = Counter()
    same = [compare_table(pysqlite3, paths, arguments.statements, seed, counts)
            for seed in range(arguments.seed, arguments.seed + arguments.tables)]
    for what, n in sorted(counts.items()):
        print(f"{n:7} {what}")
    print(f"{sum(same)} tables behave as in sqlite-vec, {len(same) - sum(same)} do not")
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
