"""A table of documents with vectors, and what a search over it must answer, computed by numpy."""

import numpy

DIMENSION = 16
LANGS = ["en", "de", "fr", "pt"]
SEARCH = "SELECT key FROM annex_search('docs_idx', ?, "


def keys(db, sql, *arguments):
    """The first column of what a statement gives."""
    return [row[0] for row in db.execute(sql, arguments)]


def fill(db, sql, rows):
    """executemany in one transaction: a commit waits for the disk."""
    db.execute("BEGIN")
    db.executemany(sql, rows)
    db.execute("COMMIT")


class Docs:
    """docs(id, lang, year, embedding): `n` rows with seeded vectors and gaps between their ids."""

    def __init__(self, db, n=600, seed=1, schema="main"):
        rng = numpy.random.default_rng(seed)
        self.db = db
        self.table = f"{schema}.docs"
        self.vectors = {}
        self.rows = {}
        rows = []
        for i in range(n):
            key = 3 * i + 1
            vector = rng.standard_normal(DIMENSION).astype("<f4")
            row = (key, LANGS[i % 4], 1990 + i % 30)
            missing = i % 50 == 49
            rows.append((*row, None if missing else vector.tobytes()))
            if not missing:
                self.vectors[key] = vector
                self.rows[key] = row
        db.execute(f"CREATE TABLE {self.table}"
                   "(id INTEGER PRIMARY KEY, lang TEXT, year INTEGER, embedding BLOB)")
        fill(db, f"INSERT INTO {self.table} VALUES (?,?,?,?)", rows)

    def create_index(self):
        options = '{"metric":"l2"}'
        self.db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding', ?)", [options])
        return self

    def query(self, seed):
        return numpy.random.default_rng(1000 + seed).standard_normal(DIMENSION).astype("<f4")

    def distances(self, query, keep=lambda key: True):
        """[(key, distance)] of all rows that `keep` keeps, nearest first, by l2."""
        keys = [key for key in self.vectors if keep(key)]
        if not keys:
            return []
        matrix = numpy.array([self.vectors[key] for key in keys], numpy.float64)
        found = numpy.sqrt(((matrix - query.astype(numpy.float64)) ** 2).sum(axis=1))
        return sorted(zip(keys, found.tolist()), key=lambda pair: (pair[1], pair[0]))

    def nearest(self, query, k=10, keep=lambda key: True):
        return [key for key, _ in self.distances(query, keep)[:k]]

    def lang(self, key):
        return self.rows[key][1]

    def year(self, key):
        return self.rows[key][2]
