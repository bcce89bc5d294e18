"""The life of an index, to be lived in many places: a table, an index, changes by a program without
Annex, answers compared with numpy, a sync, changes that are undone, checks, and the end."""

import numpy

from sql_model import DIMENSION, Docs, keys

NEAREST = "SELECT key FROM annex_search('docs_idx', ?, 10)"
CHECKS = ("integrity_check", "quick_check", "foreign_key_check")


def answers(db, docs, index="docs_idx"):
    """The index, asked in four ways, answers what numpy computes from `docs`."""
    for seed in range(3):
        query = docs.query(seed)
        sql = f"SELECT key FROM annex_search('{index}', ?, "
        assert keys(db, sql + "10)", query.tobytes()) == docs.nearest(query)
        everything = keys(db, sql + "5000, '{\"effort\":\"exact\"}')", query.tobytes())
        assert everything == docs.nearest(query, 5000)
        filtered = (sql + f"5) WHERE key IN (SELECT id FROM {docs.table} WHERE lang = 'de')")
        assert keys(db, filtered, query.tobytes()) == docs.nearest(
            query, 5, lambda key: docs.lang(key) == "de")
        limit = (docs.distances(query)[20][1] + docs.distances(query)[21][1]) / 2
        within = f"SELECT key FROM annex_within('{index}', ?, ?)"
        assert keys(db, within, query.tobytes(), limit) == docs.nearest(query, 21)


def change(docs, writer, seed):
    """A row of each kind of change, in `writer` and in the model."""
    table, rng = docs.table, numpy.random.default_rng(seed)
    gone, moved, emptied = rng.choice(sorted(docs.vectors), 3, replace=False).tolist()
    vector, other = rng.standard_normal((2, DIMENSION)).astype("<f4")
    new = max(docs.rows) + 5
    for sql, values in (
            (f"DELETE FROM {table} WHERE id = ?", (gone,)),
            (f"UPDATE {table} SET embedding = ? WHERE id = ?", (vector.tobytes(), moved)),
            (f"UPDATE {table} SET embedding = NULL WHERE id = ?", (emptied,)),
            (f"INSERT OR REPLACE INTO {table} VALUES (?, 'de', 2001, ?)",
             (new, other.tobytes()))):
        writer.execute(sql, values)
    for key in (gone, emptied):
        del docs.vectors[key]
    docs.vectors[moved], docs.vectors[new] = vector, other
    docs.rows[new] = (new, "de", 2001)


def live(db, writer=None, index="docs_idx", schema="main", undo=True, n=150):
    """A whole life of an index. `writer` is another connection, perhaps without Annex."""
    writer = writer or db
    docs = Docs(db, n=n, schema=schema)
    qualified = index if schema == "main" else f"{schema}.{index}"
    db.execute("SELECT annex_create(?, ?, 'embedding')", (qualified, docs.table))
    answers(db, docs, qualified)
    change(docs, writer, 1)
    answers(db, docs, qualified)
    db.execute("SELECT annex_sync(?)", (qualified,))
    change(docs, writer, 2)
    answers(db, docs, qualified)
    if undo:
        kept = dict(docs.vectors), dict(docs.rows)
        db.execute("BEGIN")
        change(docs, db, 3)
        answers(db, docs, qualified)
        db.execute("SELECT annex_sync(?)", (qualified,))
        answers(db, docs, qualified)
        db.execute("ROLLBACK")
        docs.vectors, docs.rows = kept
        answers(db, docs, qualified)
    db.execute("SELECT annex_optimize(?)", (qualified,))
    answers(db, docs, qualified)
    assert keys(db, "SELECT annex_check(?)", qualified) == ["ok"]
    for pragma in CHECKS:
        found = keys(writer, f"PRAGMA {pragma}")
        assert found in ([], ["ok"]), (pragma, found)
    return docs


def end(db, docs, index="docs_idx"):
    """After annex_drop nothing of Annex is left."""
    db.execute("SELECT annex_drop(?)", (index,))
    schema = index.partition(".")[0] if "." in index else "main"
    assert keys(db, f"SELECT name FROM {schema}.sqlite_schema WHERE instr(name, 'annex')") == []
