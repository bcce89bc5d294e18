#!/usr/bin/env python3
"""Make tests/fixtures/vec0.db and vss0.db: tables as sqlite-vec and sqlite-vss write them, for the
tests of annex_import, with what the two extensions themselves answer.

    /usr/bin/python3 -m venv venv && venv/bin/pip install numpy sqlite-vec==0.1.9 sqlite-vss==0.1.2
    venv/bin/python tools/make_import_fixtures.py tests/fixtures

For each virtual table T there are ordinary tables: T_expected holds what SELECT * gave, key first,
and T_nearest(column, query, place, key, distance) what searches gave.
"""

import random
import re
import sqlite3
import sys
from pathlib import Path

import numpy

import sqlite_vec
import sqlite_vss

VEC0 = {
    # name: (key, declaration, rows)
    "everything": ("id", "id integer primary key, emb float[4] distance_metric=cosine,"
                         " user_id integer partition key, genre text, score float, ok boolean,"
                         " n integer, +contents text, +extra blob, bits bit[16], chunk_size=8", 40),
    "plain": ("rowid", "emb float[6], chunk_size=16", 100),
    "named": ("name", "name text primary key, emb int8[8] distance_metric=l1, title text,"
                      " chunk_size=8", 30),
    "odd \"name": ("rowid", "e float[2] distance_metric=l2, lang text partition key, chunk_size=8",
                   20),
    "empty": ("rowid", "emb float[3] distance_metric=cosine", 0),
}
VSS0 = {
    "flat": ("a(4), b(3)", 40),
    "inner": ('a(4) factory="Flat,IDMap2" metric_type=INNER_PRODUCT', 30),
    "lists": ('a(4) factory="IVF4,Flat,IDMap2"', 200),
    "lists_unmapped": ('a(4) factory="IVF4,Flat"', 200),
    "few_in_lists": ('a(4) factory="IVF64,Flat,IDMap2"', 10),
    "graph": ('a(4) factory="HNSW4,IDMap2"', 30),
    "codes": ('a(4) factory="SQ8,IDMap2"', 40),
    "none": ("a(4)", 0),
}

rng = numpy.random.default_rng(7)
words = random.Random(7)


def connect(path, load):
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA page_size = 1024")
    db.enable_load_extension(True)
    load(db)
    db.execute("BEGIN")
    return db


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def value(declared, i):
    """A value for a column of this type, and the SQL that makes it one."""
    vector = re.match(r"(float|int8|bit)\[(\d+)\]", declared)
    if vector:
        kind, n = vector.group(1), int(vector.group(2))
        if kind == "float":
            return rng.standard_normal(n).astype("<f4").tobytes(), "?"
        if kind == "int8":
            return rng.integers(-128, 128, n).astype("i1").tobytes(), "vec_int8(?)"
        return rng.integers(0, 256, n // 8).astype("u1").tobytes(), "vec_bit(?)"
    if "primary key" in declared:
        return (f"key-{i:03}" if declared.startswith("text") else 3 * i + 1), "?"
    if "partition" in declared:
        return (i % 3 if declared.startswith("integer") else "deft"[i % 4]), "?"
    if declared.startswith("text"):
        return words.choice(["", "short", "twelve bytes", f"more than twelve bytes {i}",
                             "zwölf Bytes ü"]), "?"
    return {"integer": words.choice([0, 1, -5, 2**40]), "float": i / 7, "boolean": i % 2,
            "blob": words.choice([b"xyz", b"", None])}[declared], "?"


def columns_of(declaration):
    found = (re.match(r"\+?(\w+) (.*)", part) for part in re.split(r",\s*", declaration))
    return {match.group(1): match.group(2) for match in found if match}


def keep_answers(db, table, column, key, searches):
    """Both are remembered under the name of the table."""
    rows, nearest = quoted(table + "_expected"), quoted(table + "_nearest")
    db.execute(f"CREATE TABLE IF NOT EXISTS {nearest}(\"column\", query, place, key, distance)")
    for query, answer in searches:
        for place, (found, distance) in enumerate(answer):
            db.execute(f"INSERT INTO {nearest} VALUES (?, ?, ?, ?, ?)",
                       [column, query, place, found, distance])


def make_vec0(path):
    db = connect(path, sqlite_vec.load)
    for table, (key, declaration, n) in VEC0.items():
        name, columns = quoted(table), columns_of(declaration)
        db.execute(f"CREATE VIRTUAL TABLE {name} USING vec0({declaration})")

        def insert(i):
            values = [value(declared, i) for declared in columns.values()]
            db.execute(f"INSERT INTO {name}({', '.join(columns)})"
                       f" VALUES ({', '.join(sql for _, sql in values)})", [v for v, _ in values])

        for i in range(n):
            insert(i)
        keys = [row[0] for row in db.execute(f"SELECT {key} FROM {name}")]
        for gone in words.sample(keys, n // 4):
            db.execute(f"DELETE FROM {name} WHERE {key} = ?", [gone])
        for i in range(n, n + n // 8):
            insert(i)
        shown = ", ".join([key, *(c for c in columns if c != key)])
        db.execute(f"CREATE TABLE {quoted(table + '_expected')} AS SELECT {shown} FROM {name}")
        for column, declared in columns.items():
            if "[" in declared:
                searches = []
                for _ in range(3 if n else 0):
                    query, sql = value(declared, 0)
                    found = db.execute(f"SELECT {key}, distance FROM {name} WHERE {column} MATCH"
                                       f" {sql} AND k = 40", [query]).fetchall()
                    searches.append((query, sorted(found, key=lambda row: row[1])[:5]))
                keep_answers(db, table, column, key, searches)
    db.execute("COMMIT")
    db.close()


def make_vss0(path):
    db = connect(path, sqlite_vss.load)
    for table, (declaration, n) in VSS0.items():
        columns = {name: int(size) for name, size in re.findall(r"(\w)\((\d)\)", declaration)}
        db.execute(f"CREATE VIRTUAL TABLE {table} USING vss0({declaration})")
        db.execute("COMMIT")
        if "IVF" in declaration or "SQ8" in declaration:
            db.execute("CREATE TEMP TABLE IF NOT EXISTS training(v)")
            db.executemany("INSERT INTO training VALUES (?)",
                           [[rng.standard_normal(4).astype("<f4").tobytes()] for _ in range(3000)])
            db.execute(f"INSERT INTO {table}(operation, a) SELECT 'training', v FROM training")
        db.execute("BEGIN")
        rows = [(2 * i + 5, *(rng.standard_normal(size).astype("<f4").tobytes()
                              for size in columns.values())) for i in range(n)]
        marks = ", ".join("?" * (1 + len(columns)))
        db.executemany(f"INSERT INTO {table}(rowid, {', '.join(columns)}) VALUES ({marks})", rows)
        db.execute("COMMIT")
        db.execute("BEGIN")
        if "factory" not in declaration or "Flat,IDMap2\" m" in declaration:
            for row in rows[::6]:
                db.execute(f"DELETE FROM {table} WHERE rowid = ?", [row[0]])
            rows = [row for i, row in enumerate(rows) if i % 6]
        db.execute(f"CREATE TABLE {table}_expected(rowid_, {', '.join(columns)})")
        db.executemany(f"INSERT INTO {table}_expected VALUES ({marks})", rows)
        db.execute("COMMIT")
        db.execute("BEGIN")
        searches = []
        exact = "IVF" not in declaration and "HNSW" not in declaration
        for _ in range(3 if n and exact else 0):
            query = rng.standard_normal(4).astype("<f4").tobytes()
            searches.append((query, db.execute(
                f"SELECT rowid, distance FROM {table} WHERE vss_search(a, vss_search_params(?, 5))",
                [query]).fetchall()))
        keep_answers(db, table, "a", "rowid", searches)
    db.execute("COMMIT")
    db.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    make_vec0(folder / "vec0.db")
    make_vss0(folder / "vss0.db")
