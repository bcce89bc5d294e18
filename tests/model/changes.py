"""Random changes of a table, as SQL: each is (what it is called, [(statement, parameters), ...]).

They are drawn without a look at the table: keys come from a small space, so that they meet rows
often enough. Whoever runs them takes refusals by a constraint as part of the game.
"""

from tables import Vectors, quote

LANGS = ["en", "de", "fr", None]
NOTES = [None, "", "ab", "abc", "a longer note", 7]


class Changes:
    def __init__(self, world, rng):
        self.world, self.rng, self.kind = world, rng, world.kind
        self.vectors = Vectors(rng, world.form, world.dimension)
        self.weighted = [
            (12, self.insert), (6, self.insert_many), (12, self.replace), (4, self.ignore),
            (8, self.upsert), (3, self.insert_or), (3, self.copy_rows), (12, self.update_vector),
            (3, self.update_vectors), (4, self.update_language), (2, self.update_note),
            (3, self.update_other), (3, self.replace_other), (5, self.update_key),
            (2, self.swap_keys), (8, self.delete), (2, self.delete_some), (4, self.make_null),
            (3, self.make_bad), (2, self.make_zero), (2, self.swap_vectors), (1, self.update_row),
        ]
        if self.kind.parents:
            self.weighted += [(1, self.delete_parent), (1, self.update_parent)]
        self.total = sum(weight for weight, _ in self.weighted)

    # ---- pieces

    @property
    def table(self):
        return quote(self.world.table)

    def key(self):
        return self.kind.key(self.rng, self.world.space)

    def keys(self):
        return ", ".join(map(quote, self.kind.columns))

    def match(self):
        return " AND ".join(f"{quote(column)} = ?" for column in self.kind.columns)

    def value(self):
        draw = self.rng.random()
        if draw < 0.05:
            return None
        return self.vectors.bad() if draw < 0.07 else self.vectors.good()

    def row(self):
        return (*self.key(), self.rng.randrange(2 * self.world.space), self.rng.choice(LANGS),
                self.rng.choice(NOTES), self.value())

    def insert_sql(self, verb="INSERT", rows=1):
        places = "(" + ", ".join("?" * (len(self.kind.columns) + 4)) + ")"
        return (f"{verb} INTO {self.table}({self.keys()}, other, lang, note, vec) VALUES "
                + ", ".join([places] * rows))

    def some(self):
        """A condition that a few rows fulfil."""
        return f"other % 40 = {self.rng.randrange(40)}"

    # ---- changes

    def insert(self):
        return "insert", [(self.insert_sql(), self.row())]

    def insert_many(self):
        rows = [self.row() for _ in range(self.rng.randint(2, 5))]
        verb = self.rng.choice(["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE"])
        return "multi-row insert", [(self.insert_sql(verb, len(rows)), sum(rows, ()))]

    def replace(self):
        return "insert or replace", [(self.insert_sql("INSERT OR REPLACE"), self.row())]

    def ignore(self):
        return "insert or ignore", [(self.insert_sql("INSERT OR IGNORE"), self.row())]

    def insert_or(self):
        verb = self.rng.choice(["FAIL", "ABORT", "ROLLBACK"])
        rows = [self.row() for _ in range(3)]
        return f"insert or {verb.lower()}", [
            (self.insert_sql(f"INSERT OR {verb}", 3), sum(rows, ()))]

    def upsert(self):
        if self.rng.random() < 0.2:
            return "upsert, do nothing", [(self.insert_sql() + " ON CONFLICT DO NOTHING",
                                           self.row())]
        target = self.rng.choice([f"({self.keys()})", "(other)"])
        then = self.rng.choice(["vec = excluded.vec", "vec = excluded.vec, lang = excluded.lang",
                                "lang = excluded.lang", "note = 'met again'"])
        return "upsert", [(f"{self.insert_sql()} ON CONFLICT{target} DO UPDATE SET {then}",
                           self.row())]

    def copy_rows(self):
        columns = ["other", "lang", "note", "vec"]
        columns[0] = f"other + {self.rng.randrange(1, 9)}"
        keys = [quote(column) for column in self.kind.columns]
        keys[-1] = self.kind.lengthen.format(keys[-1])
        return "insert select", [(
            f"INSERT OR IGNORE INTO {self.table}({self.keys()}, other, lang, note, vec) SELECT "
            f"{', '.join(keys + columns)} FROM {self.table} WHERE {self.some()}", ())]

    def update_vector(self):
        return "update vector", [(f"UPDATE {self.table} SET vec = ? WHERE {self.match()}",
                                  (self.value(), *self.key()))]

    def update_vectors(self):
        return "update of many vectors", [(f"UPDATE {self.table} SET vec = ? WHERE {self.some()}",
                                           (self.value(),))]

    def update_row(self):
        places = ", ".join(f"{quote(column)} = ?" for column in self.kind.columns)
        return "update of everything", [(
            f"UPDATE OR REPLACE {self.table} SET {places}, other = ?, lang = ?, note = ?, vec = ? "
            f"WHERE {self.match()}", (*self.row(), *self.key()))]

    def update_language(self):
        return "update other column", [(f"UPDATE {self.table} SET lang = ? WHERE {self.some()}",
                                        (self.rng.choice(LANGS),))]

    def update_note(self):
        return "update other column", [(f"UPDATE {self.table} SET note = ? WHERE {self.match()}",
                                        (self.rng.choice(NOTES), *self.key()))]

    def update_other(self):
        return "update unique column", [(
            f"UPDATE OR IGNORE {self.table} SET other = other + 1 WHERE {self.some()}", ())]

    def replace_other(self):
        """Removes the row that has the value already: no trigger tells of it."""
        return "update or replace unique", [(
            f"UPDATE OR REPLACE {self.table} SET other = ? WHERE {self.match()}",
            (self.rng.randrange(2 * self.world.space), *self.key()))]

    def update_key(self):
        verb = self.rng.choice(["OR REPLACE", "OR IGNORE", ""])
        places = ", ".join(f"{quote(column)} = ?" for column in self.kind.columns)
        return "update key", [(f"UPDATE {verb} {self.table} SET {places} WHERE {self.match()}",
                               (*self.key(), *self.key()))]

    def swap_keys(self):
        places = ", ".join(f"{quote(column)} = ?" for column in self.kind.columns)
        sql = f"UPDATE OR REPLACE {self.table} SET {places} WHERE {self.match()}"
        one, other, free = self.key(), self.key(), self.key()
        return "key swap", [(sql, (*free, *one)), (sql, (*one, *other)), (sql, (*other, *free))]

    def swap_vectors(self):
        """Two rows exchange their vectors in one statement."""
        table, one, other = self.table, self.rng.randrange(40), self.rng.randrange(40)
        return "vector swap", [(
            f"UPDATE {table} SET vec = (SELECT o.vec FROM {table} AS o WHERE o.other % 40 = "
            f"CASE {table}.other % 40 WHEN {one} THEN {other} ELSE {one} END "
            f"ORDER BY o.other LIMIT 1) WHERE other % 40 IN ({one}, {other})", ())]

    def delete(self):
        return "delete", [(f"DELETE FROM {self.table} WHERE {self.match()}", self.key())]

    def delete_some(self):
        return "delete many", [(f"DELETE FROM {self.table} WHERE {self.some()}", ())]

    def delete_all(self):
        return "delete all", [(f"DELETE FROM {self.table}", ())]

    def make_null(self):
        return "vector to NULL", [(f"UPDATE {self.table} SET vec = NULL WHERE {self.match()}",
                                   self.key())]

    def make_bad(self):
        return "bad vector", [(f"UPDATE {self.table} SET vec = ? WHERE {self.match()}",
                               (self.vectors.bad(), *self.key()))]

    def make_zero(self):
        return "zero vector", [(f"UPDATE {self.table} SET vec = ? WHERE {self.match()}",
                                (self.vectors.zero(), *self.key()))]

    def delete_parent(self):
        key = (self.rng.randrange(8),)
        return "foreign key cascade", [("DELETE FROM parents WHERE id = ?", key),
                                       ("INSERT INTO parents VALUES (?)", key)]

    def update_parent(self):
        key = (self.rng.randrange(8),)
        return "foreign key cascade", [("UPDATE parents SET id = id + 100 WHERE id = ?", key),
                                       ("INSERT OR IGNORE INTO parents VALUES (?)", key)]

    # ---- sequences

    def one(self):
        at = self.rng.random() * self.total
        for weight, change in self.weighted:
            at -= weight
            if at < 0:
                break
        what, statements = change()
        if what != "foreign key cascade":
            statements = [(self.world.sql(sql), values) for sql, values in statements]
        return what, statements

    def batch(self, n, searches=False):
        """n changes in one transaction or several, with savepoints, some of it undone.

        With `searches` the program that writes also looks, in the middle of its transactions."""
        batch, depth, inside = [], 0, False
        for _ in range(n):
            draw = self.rng.random()
            if not inside and draw < 0.3:
                batch.append(("begin", [(self.rng.choice(["BEGIN", "BEGIN IMMEDIATE"]), ())]))
                inside = True
            elif inside and draw < 0.08:
                batch.append(("savepoint", [(f"SAVEPOINT s{depth}", ())]))
                depth += 1
            elif depth and draw < 0.14:
                depth = self.rng.randrange(depth)
                batch.append(("rollback to", [(f"ROLLBACK TO s{depth}", ()),
                                              (f"RELEASE s{depth}", ())]))
            elif depth and draw < 0.18:
                depth = self.rng.randrange(depth)
                batch.append(("release", [(f"RELEASE s{depth}", ())]))
            elif inside and draw < 0.24:
                end = self.rng.choice(["COMMIT", "COMMIT", "ROLLBACK"])
                batch.append((end.lower(), [(end, ())]))
                inside, depth = False, 0
            if searches and inside and self.rng.random() < 0.1:
                batch.append(("search inside", self.rng.randrange(2 ** 32)))
            if searches and self.rng.random() < 0.01:
                batch.append(("sync inside", self.rng.choice(["annex_sync", "annex_optimize"])))
            batch.append(self.delete_all() if self.rng.random() < 0.001 else self.one())
        if inside:
            end = self.rng.choice(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"])
            batch.append((end.lower(), [(end, ())]))
        return batch
