"""The SQL of Annex in small steps, for one SQLite; tools/sqlite_versions.py runs it in many.

Needs apsw and nothing else. Prints what passed and what failed as JSON. A step whose feature this
SQLite lacks (FTS5, json) is absent, not failed.
"""

import array
import json
import os
import random
import sys
import tempfile

import apsw

DIMENSION = 8
STEPS = []


class Absent(Exception):
    """This SQLite has no such feature."""


def step(function):
    STEPS.append(function)
    return function


def blob(vector):
    return array.array("f", vector).tobytes()


class Place:
    """docs(id, lang, body, v) in a file, an index on it, a second connection without Annex."""

    def __init__(self, extension):
        self.rng = random.Random(5)
        self.path = os.path.join(tempfile.mkdtemp(prefix="annex-surface-"), "docs.db")
        self.extension = extension
        self.db, self.plain = self.connect(), apsw.Connection(self.path)
        self.rows = {}
        self.query = self.vector()
        self.run("CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, body TEXT, v BLOB)")
        self.run("BEGIN")
        for key in range(1, 301):
            self.put(self.db, key, "INSERT INTO docs VALUES (?1, ?2, ?3, ?4)")
        self.run("COMMIT")

    def connect(self):
        db = apsw.Connection(self.path)
        db.enableloadextension(True)
        db.loadextension(self.extension)
        return db

    def vector(self):
        return [array.array("f", [self.rng.gauss(0, 1)])[0] for _ in range(DIMENSION)]

    def put(self, db, key, sql):
        vector, lang = self.vector(), self.rng.choice(["en", "de"])
        self.rows[key] = (vector, lang)
        db.cursor().execute(sql, (key, lang, f"word{key % 7} text", blob(vector)))

    def run(self, sql, values=()):
        return list(self.db.cursor().execute(sql, values))

    def keys(self, sql, values=()):
        return [row[0] for row in self.run(sql, values)]

    def distance(self, key):
        vector = self.rows[key][0]
        return sum((a - b) ** 2 for a, b in zip(vector, self.query)) ** 0.5

    def nearest(self, k=10, keep=lambda key: True):
        return sorted(filter(keep, self.rows), key=lambda key: (self.distance(key), key))[:k]

    def search(self, more="10", tail=""):
        return self.keys(f"SELECT key FROM annex_search('idx', ?1, {more}) AS s {tail}",
                         (blob(self.query),))


def same(found, expected):
    assert found == expected, f"{found[:6]} is not {expected[:6]}"


@step
def create(p):
    made = json.loads(p.keys("SELECT annex_create('idx', 'docs', 'v')")[0])
    same(made["rows"], 300)
    same(p.search(), p.nearest())


@step
def k_and_options(p):
    for k in (0, 1, 299, 5000):
        same(p.search(str(k)), p.nearest(k))
    same(p.search("5, '{\"effort\":\"exact\"}'"), p.nearest(5))


@step
def query_as_json(p):
    same(p.keys("SELECT key FROM annex_search('idx', ?1, 7)", (json.dumps(p.query),)), p.nearest(7))


@step
def named_arguments(p):
    same(p.keys("SELECT key FROM annex_search WHERE \"index\" = 'idx' AND query = ?1 AND k = 7",
                (blob(p.query),)), p.nearest(7))


@step
def join_in_either_order(p):
    for tables in ("annex_search('idx', ?1, 9) AS s JOIN docs AS d ON d.id = s.key",
                   "docs AS d JOIN annex_search('idx', ?1, 9) AS s ON d.id = s.key",
                   "docs AS d CROSS JOIN annex_search('idx', ?1, 9) AS s ON d.id = s.key"):
        same(p.keys(f"SELECT d.id FROM {tables} ORDER BY s.distance, d.id", (blob(p.query),)),
             p.nearest(9))


@step
def limit_and_offset(p):
    same(p.search("30", "LIMIT 4"), p.nearest(4))
    same(p.search("30", "LIMIT 4 OFFSET 3"), p.nearest(7)[3:])
    same(p.search("30", "ORDER BY distance LIMIT 4 OFFSET 3"), p.nearest(7)[3:])
    same(p.search("30", "ORDER BY distance DESC LIMIT 4"), p.nearest(30)[::-1][:4])
    same(p.search("6", "ORDER BY key LIMIT 2 OFFSET 1"), sorted(p.nearest(6))[1:3])


@step
def stream_without_k(p):
    sql = "SELECT key FROM annex_search('idx', ?1) "
    for tail, part in (("", slice(None)), ("LIMIT 40", slice(40)),
                       ("LIMIT 7 OFFSET 90", slice(90, 97)),
                       ("ORDER BY distance LIMIT 3 OFFSET 2", slice(2, 5)),
                       ("ORDER BY distance, key LIMIT 3 OFFSET 2", slice(2, 5))):
        same(p.keys(sql + tail, (blob(p.query),)), p.nearest(5000)[part])
    german = [key for key in p.nearest(5000) if p.rows[key][1] == "de"]
    same(p.keys("SELECT s.key FROM annex_search('idx', ?1) AS s JOIN docs AS d ON d.id = s.key"
                " WHERE d.lang = 'de' LIMIT 12", (blob(p.query),)), german[:12])
    last = p.nearest(10)[9]
    same(p.keys(sql + "WHERE distance > ?2 LIMIT 5", (blob(p.query), p.keys(
        "SELECT distance FROM annex_search('idx', ?1) WHERE key = ?2",
        (blob(p.query), last))[0])), p.nearest(15)[10:])


@step
def options_of_a_search(p):
    same(p.run("SELECT count(*), min(complete) FROM annex_search('idx', ?1, 5,"
               " '{\"max_scan\":1000000,\"timeout_ms\":60000}')", (blob(p.query),)), [(5, 1)])
    found = p.search("6, '{\"mmr\":0.5}'")
    same(found[0], p.nearest(1)[0])
    same(len(set(found)), 6)
    groups = p.search("5, '{\"group\":\"lang\"}'")
    same(sorted(p.rows[key][1] for key in groups), ["de", "en"])


@step
def status_and_faiss_functions(p):
    same(p.keys("SELECT annex_status('idx')")[0][:5], "fresh")
    same(p.keys("SELECT faiss_decode(faiss_encode('[1.5, 2]'))"), ["[1.5, 2.0]"])
    found = json.loads(p.keys("SELECT faiss_agg(id, v, ?1, 3) FROM docs", (blob(p.query),))[0])
    same([int(key) for key in found], p.nearest(3))


@step
def filter_in_list_and_subquery(p):
    german = lambda key: p.rows[key][1] == "de"  # noqa: E731
    same(p.search("10", "WHERE key IN (SELECT id FROM docs WHERE lang = 'de')"),
         p.nearest(10, german))
    same(p.search("10", "WHERE s.key IN (3, 5, 7, 400)"),
         p.nearest(10, lambda key: key in (3, 5, 7)))
    same(p.search("10", "WHERE key IN (VALUES (3))"), [3])
    same(p.search("10", "WHERE key IN (3, 5) AND key IN (5, 7)"), [5])
    same(p.search("10", "WHERE key IN (SELECT value FROM json_each('[3,5]'))"),
         p.nearest(10, lambda key: key in (3, 5)))


@step
def conditions_after_the_search(p):
    few = p.nearest(10)
    same(p.search("10", "JOIN docs AS d ON d.id = s.key WHERE d.lang = 'de'"),
         [key for key in few if p.rows[key][1] == "de"])
    same(p.search("10", f"WHERE key = {few[3]}"), [few[3]])
    same(sorted(p.search("10", f"WHERE key = {few[3]} OR key = {few[1]}")),
         sorted([few[3], few[1]]))
    limit = p.distance(few[4])
    same(p.search("10", f"WHERE distance > {limit!r} + 1e-6"), few[5:])


@step
def within(p):
    limit = (p.distance(p.nearest(20)[18]) + p.distance(p.nearest(20)[19])) / 2
    same(p.keys("SELECT key FROM annex_within('idx', ?1, ?2)", (blob(p.query), limit)),
         p.nearest(19))


@step
def many_queries_in_one_statement(p):
    found = p.run("SELECT d.id, s.key FROM docs AS d, annex_search('idx', d.v, 1) AS s"
                  " WHERE d.id < 20 ORDER BY d.id")
    same(found, [(key, key) for key in range(1, 20)])


@step
def correlated_subquery(p):
    found = p.run("SELECT d.id, (SELECT max(s.key) FROM annex_search('idx', d.v, 1) AS s)"
                  " FROM docs AS d WHERE d.id IN (4, 9)")
    same(found, [(4, 4), (9, 9)])
    same(p.keys("SELECT id FROM docs WHERE id IN (SELECT key FROM annex_search('idx', ?1, 5))",
                (blob(p.query),)), sorted(p.nearest(5)))


@step
def cte_view_union_and_exists(p):
    same(p.keys("WITH n AS (SELECT key FROM annex_search('idx', ?1, 5)) SELECT key FROM n",
                (blob(p.query),)), p.nearest(5))
    same(sorted(p.keys("SELECT key FROM annex_search('idx', ?1, 2) UNION"
                       " SELECT key FROM annex_search('idx', ?1, 5)", (blob(p.query),))),
         sorted(p.nearest(5)))
    p.run("CREATE VIEW near4 AS SELECT s.key AS key FROM docs AS d,"
          " annex_search('idx', d.v, 1) AS s WHERE d.id = 4")
    same(p.keys("SELECT key FROM near4"), [4])
    p.run("DROP VIEW near4")
    same(p.keys("SELECT d.id FROM docs AS d WHERE EXISTS (SELECT 1 FROM annex_search('idx', ?1, 5)"
                " AS s WHERE s.key = d.id)", (blob(p.query),)), sorted(p.nearest(5)))
    same(p.keys("SELECT count(*) FROM annex_search('idx', ?1, 5)", (blob(p.query),)), [5])


@step
def explain_query_plan(p):
    plan = " ".join(row[3] for row in p.run(
        "EXPLAIN QUERY PLAN SELECT key FROM annex_search('idx', '[1]', 3) WHERE key IN (1, 2)"))
    assert "key filter" in plan, plan


@step
def changes_by_a_program_without_annex(p):
    plain = p.plain.cursor()
    for key in p.nearest(3):
        plain.execute("DELETE FROM docs WHERE id = ?1", (key,))
        del p.rows[key]
    p.put(p.plain, 7, "UPDATE docs SET v = ?4, lang = ?2, body = ?3 WHERE id = ?1")
    p.put(p.plain, 500, "INSERT INTO docs VALUES (?1, ?2, ?3, ?4)")
    p.put(p.plain, 9, "INSERT INTO docs VALUES (?1, ?2, ?3, ?4) ON CONFLICT(id) DO UPDATE"
                      " SET v = excluded.v, lang = excluded.lang, body = excluded.body")
    p.put(p.plain, 11, "INSERT OR REPLACE INTO docs VALUES (?1, ?2, ?3, ?4)")
    plain.execute("UPDATE docs SET v = NULL WHERE id = 13")
    del p.rows[13]
    same(p.search("5000"), p.nearest(5000))


@step
def returning_and_triggers(p):
    found = p.run("INSERT INTO docs VALUES (600, 'en', 'x', ?1) RETURNING id", (blob(p.query),))
    same(found, [(600,)])
    p.rows[600] = (p.query, "en")
    same(p.search("1"), [600])


@step
def sync_check_optimize_and_list(p):
    assert json.loads(p.keys("SELECT annex_sync('idx')")[0])["inserted"] > 0
    same(p.search("5000"), p.nearest(5000))
    p.keys("SELECT annex_optimize('idx')")
    same(p.keys("SELECT annex_check('idx')"), ["ok"])
    same(p.keys("SELECT state FROM annex_indexes"), ["fresh"])


@step
def transaction_that_is_undone(p):
    p.run("BEGIN")
    p.run("SAVEPOINT a")
    p.run("DELETE FROM docs WHERE id < 100")
    p.keys("SELECT annex_sync('idx')")
    assert min(p.search("5000")) == 100
    p.run("ROLLBACK TO a")
    same(p.search("5000"), p.nearest(5000))
    p.run("COMMIT")


@step
def rename_vacuum_and_integrity(p):
    p.run("ALTER TABLE docs RENAME TO papers")
    same(p.search(), p.nearest())
    p.run("ALTER TABLE papers RENAME TO docs")
    p.run("VACUUM")
    same(p.search(), p.nearest())
    same(p.keys("PRAGMA integrity_check"), ["ok"])


@step
def rebuilt_table(p):
    p.plain.cursor().execute(
        "BEGIN; CREATE TABLE new(id INTEGER PRIMARY KEY, lang TEXT, body TEXT, v BLOB);"
        "INSERT INTO new SELECT * FROM docs WHERE id <> 20; DROP TABLE docs;"
        "ALTER TABLE new RENAME TO docs; COMMIT")
    p.rows.pop(20, None)
    same(p.search(), p.nearest())
    p.keys("SELECT annex_sync('idx')")
    same(p.search(), p.nearest())


@step
def vectors_and_distances(p):
    same(p.keys("SELECT annex_vector('idx', 7)"), [blob(p.rows[7][0])])
    same(p.keys("SELECT annex_distance('l2', '[0,0]', '[3,4]')"), [5.0])
    same(p.keys("SELECT annex_decode(annex_encode('[1,-2]'))"), ["[1,-2]"])


@step
def untrusted_schema(p):
    p.run("PRAGMA trusted_schema = 0")
    same(p.search(), p.nearest())
    p.run("PRAGMA trusted_schema = 1")


@step
def attached_and_text_keys(p):
    p.run("ATTACH ':memory:' AS aux")
    p.run("CREATE TABLE aux.words(word TEXT PRIMARY KEY, v) WITHOUT ROWID")
    for i, word in enumerate(("b", "a", "c")):
        p.run("INSERT INTO aux.words VALUES (?1, ?2)", (word, f"[{i},0]"))
    p.run("SELECT annex_create('aux.words_idx', 'aux.words', 'v')")
    sql = "SELECT key FROM annex_search('words_idx', '[0,0]', 3)"
    same(p.keys(sql), ["b", "a", "c"])
    same(p.keys(sql + " WHERE key IN ('c', 'a')"), ["a", "c"])
    p.run("SELECT annex_drop('words_idx')")
    p.run("DETACH aux")


@step
def hybrid(p):
    try:
        p.run("CREATE VIRTUAL TABLE docs_fts USING fts5(body, content='docs', content_rowid='id')")
    except apsw.SQLError as error:
        raise Absent("FTS5") from error
    p.run("INSERT INTO docs_fts(docs_fts) VALUES ('rebuild')")
    found = p.run("SELECT key, vector_rank, text_rank FROM annex_hybrid('idx', ?1, 'docs_fts',"
                  " 'word3', 10)", (blob(p.query),))
    same(len(found), 10)
    assert any(text is not None for _, _, text in found), found
    near = p.nearest(100)
    for key, vector_rank, _ in found:
        assert vector_rank is None or near[vector_rank - 1] == key, (key, vector_rank)
    p.run("DROP TABLE docs_fts")


@step
def interrupt(p):
    handler = getattr(p.db, "set_progress_handler", None) or p.db.setprogresshandler  # renamed
    handler(lambda: True, 100)
    try:
        p.run("SELECT count(*) FROM docs AS d, annex_search('idx', d.v, 5)")
        raise AssertionError("a progress handler was not asked")
    except apsw.InterruptError:
        pass
    finally:
        handler(None)
    same(p.search(), p.nearest())


@step
def drop_and_close(p):
    other = p.connect()
    list(other.cursor().execute("SELECT key FROM annex_search('idx', ?1, 3)", (blob(p.query),)))
    other.close()
    same(p.keys("SELECT annex_rename('idx', 'idx2')"), ["idx2"])
    same(p.keys("SELECT annex_drop('idx2')"), ["idx2"])
    same(p.keys("SELECT name FROM sqlite_master WHERE name LIKE '%annex%'"), [])
    p.db.close()


def main():
    place = Place(sys.argv[1])
    report = {"sqlite": apsw.sqlitelibversion(), "passed": [], "failed": {}, "absent": []}
    for function in STEPS:
        name = function.__name__.replace("_", " ")
        try:
            function(place)
            report["passed"].append(name)
        except Absent as absent:
            report["absent"].append(str(absent))
        except Exception as error:  # each step is told apart, whatever it died of
            report["failed"][name] = f"{type(error).__name__}: {error}"
    print(json.dumps(report))


if __name__ == "__main__":
    main()
