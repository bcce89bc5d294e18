"""The tables of the freshness model: ways to name a row, ways to store a vector, indexes over them.

Everything is drawn from one random.Random, so that a seed names a world. Nothing here opens a
database.
"""

import json
import re

import numpy

# Columns besides the key, by the names that statements are written with; see World.sql.
COLUMNS = ["other", "lang", "note", "vec"]
WHERES = ["lang = 'en'", "other % 3 <> 0 AND lang IS NOT NULL", "note IS NULL OR length(note) > 2"]
METRICS = ["l2", "ip", "cosine", "l1"]
NAMES = ["docs", "my papers", 'a "quoted" name', "Docs2", "order"]


def quote(name):
    return '"' + name.replace('"', '""') + '"'


class Kind:
    """One INTEGER PRIMARY KEY; `other` is unique, so that REPLACE removes rows no trigger sees."""

    columns = ["id"]
    declared = "id INTEGER PRIMARY KEY"
    end = ""
    tail = ""
    parents = False
    lengthen = "{} || '1'"  # makes another key of a key

    def key(self, rng, space):
        return (rng.randrange(space),)

    def create(self):
        """What stands behind CREATE TABLE and its name."""
        more = f", {self.tail}" if self.tail else ""
        return (f"({self.declared}, other INTEGER UNIQUE, lang TEXT, note, vec{more}){self.end}")


class Integer(Kind):
    pass


class Autoincrement(Kind):
    declared = "id INTEGER PRIMARY KEY AUTOINCREMENT"


class Text(Kind):
    declared = "id TEXT PRIMARY KEY"

    def key(self, rng, space):
        if rng.random() < 0.01:
            return (None,)  # allowed by SQLite; names no row
        start = rng.choice(["", "a", "A", "aa", "\u00e9", "b\u0000c", "\U0001f600"])
        return (start + str(rng.randrange(space // 6 + 1)),)


class NoCase(Text):
    declared = "id TEXT PRIMARY KEY COLLATE NOCASE NOT NULL"


class Blob(Kind):
    declared = "id BLOB PRIMARY KEY"
    lengthen = "CAST({} || '1' AS BLOB)"

    def key(self, rng, space):
        start = rng.choice([b"", b"\x00", b"\x00\xff", b"\xff"])
        return (start + rng.randrange(space // 4 + 1).to_bytes(2, "big"),)


class Mixed(Kind):
    """A key column without a type holds integers, reals, text and blobs side by side."""

    declared = "id PRIMARY KEY"

    def key(self, rng, space):
        number = rng.randrange(space // 5 + 1)
        big = 2 ** 53 + number
        return (rng.choice([number, -number, number + 0.5, str(number), b"%d" % number, big]),)


class Compound(Kind):
    columns = ["part", "id"]
    declared = "part TEXT, id INTEGER"
    tail = "PRIMARY KEY(part, id)"

    def key(self, rng, space):
        return (rng.choice("xyz"), rng.randrange(-space // 6, space // 6))


class WithoutRowid(Compound):
    end = " WITHOUT ROWID"


class TextWithoutRowid(NoCase):
    end = " WITHOUT ROWID"


class Unique(Kind):
    """No primary key; VACUUM gives its rows other rowids. The name needs quotes."""

    columns = ['the "key"']
    declared = 'junk, "the ""key""" INTEGER NOT NULL UNIQUE'


class Child(Compound):
    """Like llm's embeddings: (collection, id), deleted and renumbered with the collection."""

    columns = ["collection", "id"]
    declared = ("collection INTEGER REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE, "
                "id TEXT")
    tail = "PRIMARY KEY(collection, id)"
    parents = True

    def key(self, rng, space):
        return (rng.randrange(8), str(rng.randrange(space // 8 + 1)))


KINDS = [Integer, Autoincrement, Text, NoCase, Blob, Mixed, Compound, WithoutRowid,
         TextWithoutRowid, Unique, Child]


class Vectors:
    """Values for the vector column. A fifth repeat one another, so that distances are equal."""

    def __init__(self, rng, form, dimension):
        self.rng, self.form, self.dimension = rng, form, dimension
        self.kept = []

    def numbers(self):
        draw = self.rng.random()
        if self.kept and draw < 0.2:
            return self.rng.choice(self.kept)
        if draw < 0.5 or self.form == "bits":  # whole numbers: distances that are exactly equal
            low = 0 if self.form in ("u8", "bits") else -2
            high = 1 if self.form == "bits" else 2
            numbers = [float(self.rng.randint(low, high)) for _ in range(self.dimension)]
        elif self.form in ("i8", "u8"):
            low, high = (-128, 127) if self.form == "i8" else (0, 255)
            numbers = [float(self.rng.randint(low, high)) for _ in range(self.dimension)]
        else:
            numbers = [self.rng.gauss(0, 1) for _ in range(self.dimension)]
        if len(self.kept) < 50:
            self.kept.append(numbers)
        return numbers

    def good(self):
        return encode(self.form, self.numbers())

    def zero(self):
        return encode(self.form, [0.0] * self.dimension)

    def bad(self):
        """What is no vector of this column. (i8 and bits have only wrong sizes and types.)"""
        values = [12, 1.5, b"", self.good()[:-1], "not a vector"]
        if self.form == "json":
            values += ["[1]", "[", b"[1,2]"]
        elif self.form in ("f32", "f16"):
            for wrong in (numpy.nan, numpy.inf):
                values.append(encode(self.form, [wrong] + [1.0] * (self.dimension - 1)))
        return self.rng.choice(values)


ELEMENTS = {"f32": "<f4", "f16": "<f2", "i8": "i1", "u8": "u1"}


def encode(form, numbers):
    if form == "json":
        return json.dumps(numbers)
    if form == "bits":
        return numpy.packbits(numpy.array(numbers, "u1"), bitorder="little").tobytes()
    return numpy.array(numbers, ELEMENTS[form]).tobytes()


class World:
    """What one database of the model is like; `state` is what changes while it lives."""

    def __init__(self, rng):
        self.kind = rng.choice(KINDS)()
        self.form = rng.choice(["f32"] * 5 + ["json", "f16", "i8", "bits"])
        self.dimension = rng.choice([3, 8, 16, 33])
        self.journal = rng.choice(["wal", "wal", "wal", "delete", "truncate", "persist"])
        self.page_bytes = rng.choice([512, 1024, 4096, 4096, 65536])
        self.encoding = rng.choice(["UTF-8", "UTF-8", "UTF-8", "UTF-16le"])
        self.vacuum = rng.choice(["NONE", "NONE", "FULL", "INCREMENTAL"])
        self.space = rng.choice([60] * 4 + [400] * 11 + [3000] * 2 + [6000])
        self.recursive = rng.randrange(2)
        self.next_index = 0
        self.table = "docs"
        self.names = {column: column for column in COLUMNS + self.kind.columns}
        n = 1 if self.space > 400 else rng.choice([1, 1, 2, 3])
        self.indexes = [self.index(rng) for _ in range(n)]

    def index(self, rng):
        """A new index: what annex_create is told, and what the model needs to know of it."""
        self.next_index += 1
        metric = rng.choice(["hamming", "jaccard"] if self.form == "bits" else METRICS)
        options = {"metric": metric, "format": self.form, "dimension": self.dimension,
                   "index": rng.choice(["auto", "flat", "graph"]), "threads": 1,
                   "storage": rng.choice(["database", "database", "file"])}
        if rng.random() < 0.3:
            options["where"] = rng.choice(WHERES)
        if len(self.kind.columns) == 1 and rng.random() < 0.2:
            options["key"] = self.names[self.kind.columns[0]]
        where = options.get("where", "1")
        if where != "1":
            options["where"] = self.sql(where)
        return {"name": f"idx{self.next_index}", "metric": metric, "form": self.form,
                "dimension": self.dimension, "where": where, "options": json.dumps(options)}

    def sql(self, text):
        """A statement, written with the first names of the columns, with those of today."""
        for column, name in self.names.items():
            if name != column:
                text = re.sub(rf"(?<![\w\"]){column}(?![\w\"])", lambda _: quote(name), text)
                text = text.replace(quote(column), quote(name))
        return text

    def rebuild(self, rng):
        """Arguments of Worker.rebuild: the same table made anew, now and then with fewer rows."""
        columns = ", ".join([quote(column) for column in self.kind.columns] + COLUMNS)
        where = rng.choice(["1", "1", f"other % 9 <> {rng.randrange(9)}"])
        return (self.table, self.sql(self.kind.create()), self.sql(columns), self.sql(where),
                rng.random() < 0.4)

    def spec(self):
        """What a reader has to know to check this moment."""
        return [dict(index, table=self.table, column=self.names["vec"],
                     keys=[self.names[column] for column in self.kind.columns],
                     where=self.sql(index["where"])) for index in self.indexes]

    def __str__(self):
        indexes = ", ".join(
            "/".join(json.loads(i["options"])[what] for what in ("metric", "index", "storage"))
            for i in self.indexes)
        return (f"{type(self.kind).__name__}, {self.form} x {self.dimension}, {self.journal}, "
                f"{self.space} keys, {indexes}")
