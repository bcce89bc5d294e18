"""The Annex indexes of a database: what annex_indexes says of them, which answers are wrong, and
whether what the reason of a stale one says to run makes it whole.

What is right is computed here with numpy in double precision from the rows of the table.
"""

import sqlite3

import numpy

K = 10
GRAPH_SHARE = 0.9  # of the true neighbours, over all queries, at the default effort of a graph


def distances(metric, rows, queries):
    """[query][row]"""
    rows, queries = rows.astype(numpy.float64), queries.astype(numpy.float64)
    products = queries @ rows.T
    of_rows, of_queries = (rows * rows).sum(axis=1), (queries * queries).sum(axis=1)[:, None]
    if metric == "cosine":
        return 1 - products / numpy.sqrt(of_rows * of_queries)
    return numpy.sqrt(numpy.maximum(of_rows + of_queries - 2 * products, 0))


def read_table(db, index):
    """{key: vector} of the rows that have one; the key is a tuple."""
    columns = ", ".join(f'"{name}"' for name in index["keys"].split(", ") + [index["column"]])
    rows = db.execute(f'SELECT {columns} FROM "{index["table"]}"').fetchall()
    return {row[:-1]: numpy.frombuffer(row[-1], "<f4") for row in rows
            if isinstance(row[-1], bytes) and len(row[-1]) == 4 * index["dimension"]}


def wrong_answers(db, index, queries):
    rows = read_table(db, index)
    keys, vectors = list(rows), numpy.array(list(rows.values()))
    columns = ", ".join(["key", "key2", "key3"][: index["keys"].count(",") + 1])
    wrong, found, wanted = [], 0, 0
    all_true = distances(index["metric"], vectors, queries)
    for number, (query, true) in enumerate(zip(queries, all_true)):
        of_key = dict(zip(keys, true))
        nearest = numpy.sort(true)[:K]
        for options in ('{"effort":"exact"}', None):
            hits = db.execute(f"SELECT {columns}, distance FROM annex_search(?, ?, ?, ?)",
                              (index["name"], query.tobytes(), K, options)).fetchall()
            exact = options is not None or index["family"] == "flat"
            own = [of_key.get(hit[:-1], -1.0) for hit in hits]
            if len(set(hits)) != len(nearest) or not numpy.allclose(
                    [hit[-1] for hit in hits], own, rtol=1e-4, atol=1e-5):
                wrong.append(f"query {number}, options {options}: {hits}")
            elif exact and not numpy.allclose(own, nearest, rtol=1e-4, atol=1e-5):
                wrong.append(f"query {number}, options {options}: {own} instead of {nearest}")
            elif not exact:
                found += sum(distance <= nearest[-1] * (1 + 1e-6) for distance in own)
                wanted += len(nearest)
    if found < GRAPH_SHARE * wanted:
        wrong.append(f"default effort found {found} of {wanted} neighbours")
    return wrong


def look(db, queries, check):
    """What annex_indexes says of each index, its wrong answers and, if asked, what a check says."""
    names = [row[1] for row in db.execute("PRAGMA table_info(annex_indexes)")]
    indexes = {}
    for row in db.execute("SELECT * FROM annex_indexes").fetchall():
        index = dict(zip(names, row))
        try:
            index["wrong"] = wrong_answers(db, index, queries)
            if check:
                check = db.execute("SELECT annex_check(?)", (index["name"],)).fetchone()[0]
                index["check"] = check
        except sqlite3.Error as error:
            index["wrong"] = [str(error)]
        indexes[index["name"]] = index
    return indexes


def repair(db, index):
    """Runs what the reason of a stale index says, `...; run A, then B`; else syncs."""
    if index["state"] == "stale":
        steps = index["reason"].rpartition("; run ")[2].split(", then ")
    else:
        steps = [f"annex_sync('{index['name']}')"]
    for step in steps:
        db.execute(f"SELECT {step}" if step.startswith("annex_") else step).fetchall()


def report(extension, queries, database):
    """What PRAGMA integrity_check says, and the indexes before and after they were repaired."""
    with sqlite3.connect(f"file:{queries}?mode=ro", uri=True) as source:
        rows = source.execute("SELECT embedding FROM queries WHERE id IN (1, 17, 25, 30, 38)")
        queries = numpy.array([numpy.frombuffer(row[0], "<f4") for row in rows])
    db = sqlite3.connect(database, isolation_level=None)
    integrity = db.execute("PRAGMA integrity_check").fetchone()[0]
    db.enable_load_extension(True)
    db.load_extension(str(extension))
    before = look(db, queries, False)
    for index in before.values():
        if not index["wrong"]:
            repair(db, index)
    return {"integrity": integrity, "before": before, "after": look(db, queries, True)}
