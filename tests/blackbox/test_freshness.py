"""Answers are those of the table at this moment, whoever writes to it.

A writer without Annex makes 2,000 random inserts, updates and deletes in batches. After each batch
two readers, one in this process and one in another, must answer at effort "exact" what a numpy
model answers that never looks at the database. In between: syncs from either side, rolled back
batches and savepoints, VACUUM, dropped triggers, a rebuilt table. ANNEX_SEED=n runs another
sequence.
"""

import json
import os
import random
import subprocess
import sys

import numpy
import pytest

from conftest import EXTENSION

DIMENSION = 16
CHANGES = 2000
BATCH = 50
SEED = int(os.environ.get("ANNEX_SEED", "20"))

READER = """
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.enable_load_extension(True)
db.load_extension(sys.argv[2])
columns = sys.argv[3]
for line in sys.stdin:
    ask = json.loads(line)
    if ask["do"] == "sync":
        rows = [db.execute("SELECT annex_sync('idx')").fetchone()]
    else:
        rows = db.execute(f"SELECT {columns}, distance FROM annex_search('idx', ?, ?, ?)",
                          (bytes.fromhex(ask["query"]), ask["k"], '{"effort":"exact"}')).fetchall()
    print(json.dumps(rows), flush=True)
"""


class OtherProcess:
    """A second process that searches and syncs."""

    def __init__(self, path, columns):
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER, str(path), str(EXTENSION), columns],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def search(self, query, k):
        return [tuple(row) for row in self.ask(do="search", query=query.tobytes().hex(), k=k)]

    def sync(self):
        self.ask(do="sync")

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0


class ThisProcess:
    def __init__(self, db, columns):
        self.db, self.columns = db, columns

    def search(self, query, k):
        return self.db.execute(
            f"SELECT {self.columns}, distance FROM annex_search('idx', ?, ?, ?)",
            (query.tobytes(), k, '{"effort":"exact"}')).fetchall()

    def sync(self):
        self.db.execute("SELECT annex_sync('idx')")


class Integer:
    """One INTEGER PRIMARY KEY; a unique column makes REPLACE remove rows that no trigger sees."""

    table = "docs(id INTEGER PRIMARY KEY, other INTEGER UNIQUE, vec BLOB)"
    keys = ["id"]
    columns = "key"
    options = None

    def key(self, rng):
        return (rng.randrange(600),)


class Text(Integer):
    table = "docs(id TEXT PRIMARY KEY, other INTEGER UNIQUE, vec BLOB)"

    def key(self, rng):
        return (rng.choice(["", "a", "A", "aa", "\u00e9", "b\u0000c"]) + str(rng.randrange(120)),)


class Compound(Integer):
    table = "docs(part TEXT, id INTEGER, other INTEGER UNIQUE, vec BLOB, PRIMARY KEY(part, id))"
    keys = ["part", "id"]
    columns = "key, key2"

    def key(self, rng):
        return (rng.choice("xyz"), rng.randrange(-100, 100))


class WithoutRowid(Compound):
    table = Compound.table + " WITHOUT ROWID"


class Unique(Integer):
    """No primary key, but a unique column that is not NULL; its name needs quotes."""

    table = 'docs("the ""key""" INTEGER NOT NULL UNIQUE, other INTEGER UNIQUE, vec BLOB)'
    keys = ['the "key"']


class Writer:
    """Changes the table with SQLite alone, and a model of it in memory alike."""

    def __init__(self, db, kind, seed):
        self.db, self.kind = db, kind
        self.rng, self.numbers = random.Random(seed), numpy.random.default_rng(seed)
        self.rows = {}  # key -> (other, vector)
        self.quoted = ['"' + key.replace('"', '""') + '"' for key in kind.keys]
        self.match = " AND ".join(f"{key} = ?" for key in self.quoted)

    def vector(self):
        vectors = [vector for _, vector in self.rows.values() if vector is not None]
        if vectors and self.rng.random() < 0.1:
            return self.rng.choice(vectors)  # equal distances, ordered by key
        return self.numbers.standard_normal(DIMENSION).astype("<f4")

    def insert(self):
        key, other, vector = self.kind.key(self.rng), self.rng.randrange(400), self.vector()
        if self.rng.random() < 0.05:
            vector = None
        taken = any(other == row[0] for at, row in self.rows.items() if at != key)
        values = (*key, other, None if vector is None else vector.tobytes())
        places = ", ".join("?" * len(values))
        if self.rng.random() < 0.5:
            self.rows = {at: row for at, row in self.rows.items() if row[0] != other}
            self.rows[key] = (other, vector)
            self.db.execute(f"INSERT OR REPLACE INTO docs VALUES ({places})", values)
        elif not taken:
            self.rows[key] = (other, vector)
            self.db.execute(
                f"INSERT INTO docs VALUES ({places}) ON CONFLICT({', '.join(self.quoted)}) "
                "DO UPDATE SET other = excluded.other, vec = excluded.vec", values)

    def update(self):
        key = self.rng.choice(list(self.rows))
        vector = self.vector()
        self.rows[key] = (self.rows[key][0], vector)
        self.db.execute(f"UPDATE docs SET vec = ? WHERE {self.match}", (vector.tobytes(), *key))

    def rekey(self):
        old, new = self.rng.choice(list(self.rows)), self.kind.key(self.rng)
        row = self.rows.pop(old)
        self.rows[new] = row
        places = ", ".join(f"{key} = ?" for key in self.quoted)
        self.db.execute(f"UPDATE OR REPLACE docs SET {places} WHERE {self.match}", (*new, *old))

    def delete(self):
        key = self.rng.choice(list(self.rows))
        del self.rows[key]
        self.db.execute(f"DELETE FROM docs WHERE {self.match}", key)

    def change(self):
        kinds = [self.insert] * 5 + [self.update] * 2 + [self.rekey] + [self.delete] * 2
        (self.rng.choice(kinds) if len(self.rows) > 50 else self.insert)()

    def batch(self):
        before = dict(self.rows)
        self.db.execute("BEGIN")
        for _ in range(BATCH // 2):
            self.change()
        half = dict(self.rows)
        self.db.execute("SAVEPOINT half")
        for _ in range(BATCH // 2):
            self.change()
        end = self.rng.random()
        if end < 0.1:
            self.rows = half
            self.db.execute("ROLLBACK TO half")
        self.db.execute("ROLLBACK" if end > 0.9 else "COMMIT")
        if end > 0.9:
            self.rows = before

    def nearest(self, query, k):
        rows = [(key, row[1]) for key, row in self.rows.items() if row[1] is not None]
        matrix = numpy.array([vector for _, vector in rows], numpy.float64)
        distances = numpy.sqrt(((matrix - query.astype(numpy.float64)) ** 2).sum(axis=1))

        pairs = [(key, distance) for (key, _), distance in zip(rows, distances.tolist())]
        return sorted(pairs, key=lambda pair: (pair[1], by_bytes(pair[0])))[:k]


def by_bytes(key):
    return tuple(part.encode() if isinstance(part, str) else part for part in key)


def agree(writer, readers, seed):
    """Same rows, same order. Distances are f32 sums: those that round alike are ordered by key."""
    for reader in readers:
        query = writer.numbers.standard_normal(DIMENSION).astype("<f4")
        everything = writer.nearest(query, len(writer.rows))
        distance_of = dict(everything)
        for k in (10, 5000):
            answer = [(row[:-1], row[-1]) for row in reader.search(query, k)]
            where = f"seed {seed}, {type(reader).__name__}, {type(writer.kind).__name__}, k {k}"
            assert len(answer) == len(dict(answer)) == min(k, len(everything)), where
            for (key, distance), (_, expected) in zip(answer, everything):
                assert distance == pytest.approx(expected, rel=1e-6, abs=1e-7), where
                assert distance_of[key] == pytest.approx(expected, rel=1e-6, abs=1e-7), where
            order = [(distance, by_bytes(key)) for key, distance in answer]
            assert order == sorted(order), where


@pytest.fixture
def scene(connect, tmp_path):
    """scene(kind, seed) gives a writer and two readers over an index on its table."""
    others = []

    def make(kind, seed, journal="delete"):
        print("seed", seed)
        plain, loaded = connect("docs.db", extension=False), connect("docs.db")
        plain.execute(f"PRAGMA journal_mode = {journal}")
        plain.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here
        loaded.execute("PRAGMA synchronous = OFF")
        plain.execute(f"CREATE TABLE {kind.table}")
        writer = Writer(plain, kind, seed)
        for _ in range(300):
            writer.insert()
        loaded.execute("SELECT annex_create('idx', 'docs', 'vec')")
        other = OtherProcess(tmp_path / "docs.db", kind.columns)
        others.append(other)
        return writer, [ThisProcess(loaded, kind.columns), other]

    yield make
    for other in others:
        other.close()


@pytest.mark.parametrize("kind", [Integer, Text, Compound, WithoutRowid, Unique])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_random_changes__both_processes_agree_with_the_model(scene, kind, journal):
    writer, readers = scene(kind(), SEED, journal)
    for batch in range(CHANGES // BATCH):
        writer.batch()
        agree(writer, readers, SEED)
        if batch % 7 == 3:
            writer.rng.choice(readers).sync()
            agree(writer, readers, SEED)
        if batch % 15 == 9:
            writer.db.execute("VACUUM")
            agree(writer, readers, SEED)
    readers[0].db.execute("SELECT annex_optimize('idx')")
    agree(writer, readers, SEED)
    readers[0].db.execute("SELECT annex_check('idx')")


def test_lost_triggers__answers_stay_right_and_sync_mends(scene):
    writer, readers = scene(Integer(), SEED + 1)
    writer.batch()
    for trigger in ("insert", "update", "delete"):
        writer.db.execute(f"DROP TRIGGER annex_log_1_{trigger}")
        writer.batch()
        agree(writer, readers, SEED + 1)
        readers[0].sync()
        writer.batch()
        agree(writer, readers, SEED + 1)
    assert readers[0].db.execute("SELECT state FROM annex_indexes").fetchone() != ("stale",)


def test_rebuilt_table__answers_stay_right_and_sync_mends(scene):
    writer, readers = scene(Text(), SEED + 2)
    writer.db.executescript(
        "BEGIN; CREATE TABLE copy(vec BLOB, id TEXT PRIMARY KEY, other INTEGER UNIQUE);"
        "INSERT INTO copy SELECT vec, id, other FROM docs; DROP TABLE docs;"
        "ALTER TABLE copy RENAME TO docs; COMMIT;")
    for key in list(writer.rows)[:20]:
        writer.db.execute("DELETE FROM docs WHERE id = ?", key)
        del writer.rows[key]
    agree(writer, readers, SEED + 2)
    readers[1].sync()
    agree(writer, readers, SEED + 2)
    readers[0].db.execute("SELECT annex_check('idx')")


def test_own_transaction__sees_its_own_changes_and_their_end(scene):
    writer, readers = scene(Integer(), SEED + 3)
    writer.db = readers[0].db  # the program that searches also writes
    for undo in (False, True, False):
        before = dict(writer.rows)
        writer.db.execute("BEGIN")
        for _ in range(5):
            writer.change()
            agree(writer, readers[:1], SEED + 3)
        writer.db.execute("SAVEPOINT inner")
        inner = dict(writer.rows)
        for _ in range(5):
            writer.change()
        readers[0].sync()
        agree(writer, readers[:1], SEED + 3)
        writer.db.execute("ROLLBACK TO inner")
        writer.rows = inner
        agree(writer, readers[:1], SEED + 3)
        writer.db.execute("ROLLBACK" if undo else "COMMIT")
        writer.rows = before if undo else writer.rows
        agree(writer, readers, SEED + 3)


def test_untrusted_schema__writers_are_not_disturbed(scene):
    writer, readers = scene(WithoutRowid(), SEED + 4)
    writer.db.execute("PRAGMA trusted_schema = 0")
    for recursive in (0, 1):
        writer.db.execute(f"PRAGMA recursive_triggers = {recursive}")
        writer.batch()
        agree(writer, readers, SEED + 4)


def test_copy_of_the_database__goes_its_own_way(scene, connect, tmp_path):
    writer, readers = scene(Integer(), SEED + 5)
    writer.db.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    copy = ThisProcess(connect("copy.db"), Integer.columns)
    here = dict(writer.rows)
    writer.batch()
    agree(writer, readers, SEED + 5)
    original, writer.db = writer.db, copy.db
    there, writer.rows = writer.rows, here
    writer.batch()
    agree(writer, [copy], SEED + 5)
    copy.sync()
    agree(writer, [copy], SEED + 5)
    writer.db, writer.rows = original, there
    agree(writer, readers, SEED + 5)
