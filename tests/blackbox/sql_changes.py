"""What the tests of changes share: a small table, the truth computed without an index, and the
sentences of annex_status, which end in what to run."""

import json
import random
import re

import pytest

RUN = re.compile(r"run (?P<first>CREATE UNIQUE INDEX .+?|annex_\w+\('.+?'\))"
                 r"(?:, then (?P<then>annex_\w+\('.+?'\))| and create it again)?$")


def one(db, sql, *arguments):
    return db.execute(sql, arguments).fetchone()[0]


def vector(seed):
    rng = random.Random(seed)
    return json.dumps([round(rng.uniform(-1, 1), 4) for _ in range(4)])


def fill(db, keys, table="docs", key="id", column="v"):
    db.executemany(f'INSERT INTO {table}("{key}", "{column}") VALUES (?, annex_encode(?))',
                   [(k, vector(str(k))) for k in keys])


def make(db, n=40, declaration="id INTEGER PRIMARY KEY, v BLOB, w INTEGER", options="{}"):
    """docs with `n` rows and the index idx on them."""
    db.execute("BEGIN")
    db.execute(f"CREATE TABLE docs({declaration})")
    fill(db, range(1, n + 1))
    db.execute("SELECT annex_create('idx', 'docs', 'v', ?)", [options])
    db.execute("COMMIT")
    return db


QUERY = vector("query")


def truth(db, table="docs", keys="id", column="v", query=QUERY, where="1"):
    """All rows with a vector of the dimension of the query, nearest first, without the index."""
    return db.execute(
        f"SELECT {keys} FROM {table} WHERE {where} AND json_array_length(annex_decode({column})) "
        f"= json_array_length(?1) ORDER BY annex_distance('l2', {column}, annex_encode(?1)), "
        f"{keys}", [query]).fetchall()


def found(db, index="idx", columns="key", query=QUERY, k=10 ** 6):
    sql = f"SELECT {columns} FROM annex_search(?, ?, ?, '{{\"effort\":\"exact\"}}')"
    return db.execute(sql, [index, query, k]).fetchall()


def right(db, **where_to_look):
    """The index answers what the table holds: all rows, and the first few of them."""
    index = where_to_look.pop("index", "idx")
    columns = where_to_look.pop("columns", "key")
    expected = truth(db, **where_to_look)
    query = where_to_look.get("query", QUERY)
    assert found(db, index, columns, query) == expected
    assert found(db, index, columns, query, k=7) == expected[:7]
    return expected


def state(db, name="idx"):
    return one(db, "SELECT state FROM annex_indexes WHERE name = ?", name)


def status(db, name="idx"):
    """The sentence of annex_status; the columns of annex_indexes must agree with it."""
    text = one(db, "SELECT annex_status(?)", name)
    of_list = db.execute("SELECT state, reason FROM annex_indexes WHERE name = ? OR "
                         "schema || '.' || name = ?", [name, name]).fetchone()
    assert text.startswith(of_list[0] + ": ")
    assert of_list[1] == (text.removeprefix("stale: ") if of_list[0] == "stale" else "")
    return text


def mend(db, name="idx"):
    """Runs what annex_status says to run, as it stands there. The last report, as an object."""
    advice = RUN.search(status(db, name))
    assert advice, status(db, name)
    answer = None
    for sql in advice.groups():
        if sql is not None:
            answer = db.execute(sql if sql.startswith("CREATE") else f"SELECT {sql}").fetchone()
    return json.loads(answer[0]) if answer and answer[0].startswith("{") else answer


def stale(db, reason, name="idx", **where_to_look):
    """Stale for this reason, yet right; what the sentence says to run mends it."""
    text = status(db, name)
    assert text.startswith("stale: ") and reason in text, text
    where_to_look.setdefault("index", name)
    right(db, **where_to_look)
    report = mend(db, name)
    assert status(db, name).startswith("fresh: ")
    right(db, **where_to_look)
    assert one(db, "SELECT annex_check(?)", name) == "ok"
    return report


def fresh_after_sync(db, name="idx", **where_to_look):
    where_to_look.setdefault("index", name)
    right(db, **where_to_look)
    db.execute("SELECT annex_sync(?)", [name])
    assert status(db, name).startswith("fresh: ")
    right(db, **where_to_look)


def refused(db, sql, message, *arguments):
    with pytest.raises(Exception, match=message):
        db.execute(sql, arguments).fetchall()
