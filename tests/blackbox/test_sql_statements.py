"""Every form of statement that searches: joins in either order, subqueries, CTEs, compound selects,
many searches at once, views, triggers, and statements that write, also while rows are read."""

import itertools
import sqlite3

import pytest

from sql_model import fill, keys
from sql_states import N, any_docs, db, docs, graph, query  # noqa: F401

ALL = "SELECT key, distance FROM annex_search('docs_idx', ?)"


# ---- Joins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [
    "annex_search('docs_idx', ?) AS s JOIN docs AS d ON d.id = s.key",
    "docs AS d JOIN annex_search('docs_idx', ?) AS s ON d.id = s.key",
    "docs AS d, annex_search('docs_idx', ?) AS s WHERE d.id = s.key",
    "annex_search('docs_idx', ?) AS s CROSS JOIN docs AS d ON d.id = s.key",
    "docs AS d CROSS JOIN annex_search('docs_idx', ?) AS s ON d.id = s.key",
    "annex_search('docs_idx', ?) AS s LEFT JOIN docs AS d ON d.id = s.key",
    "docs AS d LEFT JOIN annex_search('docs_idx', ?) AS s ON d.id = s.key"
    " WHERE s.key IS NOT NULL",
    "annex_search('docs_idx', ?) AS s, docs AS d, docs AS e WHERE d.id = s.key AND e.id = d.id",
])
@pytest.mark.parametrize("limit", ["", " LIMIT 15 OFFSET 3"])
def test_join_in_any_order__gives_all_rows(any_docs, db, query, source, limit):
    sql = f"SELECT d.id, d.lang FROM {source} ORDER BY s.distance, s.key{limit}"
    got = db.execute(sql, [query.tobytes()]).fetchall()
    want = any_docs.nearest(query, N)
    if limit:
        assert len(got) == 15 and {key for key, _ in got} <= set(want[:30])
    else:
        assert sorted(key for key, _ in got) == sorted(want)
    assert all(lang == any_docs.lang(key) for key, lang in got)


def test_left_join_with_a_limit__keeps_rows_without_a_vector(any_docs, db, query):
    sql = ("SELECT d.id, s.distance FROM docs AS d LEFT JOIN annex_search('docs_idx', ?) AS s"
           " ON s.key = d.id ORDER BY s.distance NULLS LAST LIMIT 100000")
    got = db.execute(sql, [query.tobytes()]).fetchall()
    found = [key for key, d in got if d is not None]
    assert found == any_docs.nearest(query, N)
    assert len(got) - len(found) == N // 50


@pytest.mark.parametrize("join", ["RIGHT", "FULL"])
def test_outer_join__keeps_the_rows_of_the_other_side(any_docs, db, query, join):
    if sqlite3.sqlite_version_info < (3, 39):
        pytest.skip("SQLite has these joins since 3.39")
    sql = (f"SELECT s.key, d.id FROM annex_search('docs_idx', ?) AS s {join} JOIN"
           " (SELECT id FROM docs WHERE id % 2 UNION ALL SELECT -1) AS d ON d.id = s.key")
    got = set(db.execute(sql, [query.tobytes()]).fetchall())
    odd = {key for (key,) in db.execute("SELECT id FROM docs WHERE id % 2")}
    want = {(key if key in any_docs.vectors else None, key) for key in odd} | {(None, -1)}
    if join == "FULL":
        want |= {(key, None) for key in any_docs.vectors if key % 2 == 0}
    assert got == want


def test_join_of_two_searches__finds_what_is_near_to_both(any_docs, db):
    one, two = any_docs.query(1), any_docs.query(2)
    sql = ("SELECT a.key FROM annex_search('docs_idx', ?) AS a"
           " JOIN annex_search('docs_idx', ?) AS b ON a.key = b.key"
           " WHERE a.distance < ? AND b.distance < ?")
    near_one, near_two = any_docs.distances(one)[:501], any_docs.distances(two)[:801]
    want = {key for key, _ in near_one[:-1]} & {key for key, _ in near_two[:-1]}
    limits = [(near[-1][1] + near[-2][1]) / 2 for near in (near_one, near_two)]
    assert set(keys(db, sql, one.tobytes(), two.tobytes(), *limits)) == want


def test_join_without_order__finds_enough_rows(any_docs, db, query):
    sql = ("SELECT s.key FROM annex_search('docs_idx', ?) AS s, docs AS d"
           " WHERE d.id = s.key AND d.year = 2001 LIMIT 30")
    got = keys(db, sql, query.tobytes())
    assert len(got) == 30
    near = any_docs.nearest(query, 34, lambda key: any_docs.year(key) == 2001)
    assert set(got) <= set(near)


def test_plan_of_a_join_without_k__searches_once_and_takes_the_order_over(db, docs, query):
    for lang in ("", " WHERE d.lang = 'de'"):
        sql = ("EXPLAIN QUERY PLAN SELECT d.id FROM docs AS d JOIN"
               f" annex_search('docs_idx', ?) AS s ON d.id = s.key{lang}"
               " ORDER BY s.distance LIMIT 10")
        db.execute("CREATE INDEX IF NOT EXISTS by_lang ON docs(lang)")
        steps = " / ".join(row[3] for row in db.execute(sql, [query.tobytes()]))
        assert "annex_search as many as are read, in order" in steps
        assert steps.index("annex_search") < steps.index("SEARCH d USING INTEGER PRIMARY KEY")
        assert "TEMP B-TREE" not in steps


# ---- Many searches at once -----------------------------------------------------------------------


def many_queries(db, docs, n=12):
    db.execute("CREATE TABLE queries(id INTEGER PRIMARY KEY, embedding BLOB)")
    vectors = {i: docs.query(i) for i in range(n)}
    fill(db, "INSERT INTO queries VALUES (?, ?)", [(i, v.tobytes()) for i, v in vectors.items()])
    db.execute("INSERT INTO queries VALUES (99, NULL)")
    return vectors


def test_correlated_subqueries__stop_at_their_own_limit(db, docs):
    vectors = many_queries(db, docs)
    sql = ("SELECT q.id, (SELECT group_concat(key) FROM (SELECT key FROM"
           "  annex_search('docs_idx', q.embedding) ORDER BY distance LIMIT 4)) FROM queries AS q")
    for i, found in db.execute(sql).fetchall():
        want = docs.nearest(vectors[i], 4) if i in vectors else []
        assert (found or "") == ",".join(map(str, want))
    sql = ("SELECT id, (SELECT key FROM annex_search('docs_idx', embedding) WHERE key % 2 = 0"
           " ORDER BY distance, key LIMIT 1 OFFSET 2) FROM queries WHERE embedding IS NOT NULL")
    assert dict(db.execute(sql).fetchall()) == {
        i: docs.nearest(v, 3, lambda k: k % 2 == 0)[2] for i, v in vectors.items()}


def test_exists_in_and_case__ask_about_rows(db, docs, query):
    limit = docs.distances(query)[40][1] * 1.000001
    near = set(docs.nearest(query, 41))
    exists = ("SELECT id FROM docs AS d WHERE EXISTS (SELECT 1 FROM annex_search('docs_idx', ?)"
              " AS s WHERE s.key = d.id AND s.distance <= ?)")
    assert set(keys(db, exists, query.tobytes(), limit)) == near
    inside = ("SELECT id FROM docs WHERE id IN (SELECT key FROM annex_search('docs_idx', ?)"
              " ORDER BY distance LIMIT 41)")
    assert set(keys(db, inside, query.tobytes())) == near
    case = ("SELECT id, CASE WHEN (SELECT distance FROM annex_search('docs_idx', ?) WHERE key = id)"
            " <= ? THEN 'near' ELSE 'far' END FROM docs WHERE embedding IS NOT NULL")
    got = dict(db.execute(case, [query.tobytes(), limit]).fetchall())
    assert {key for key, word in got.items() if word == "near"} == near


def test_nested_searches__look_for_neighbours_of_neighbours(db, docs, query):
    sql = ("SELECT a.key, b.key FROM annex_search('docs_idx', ?, 3) AS a"
           " JOIN annex_search('docs_idx', annex_vector('docs_idx', a.key)) AS b"
           " WHERE b.distance > 0 AND b.distance <= (SELECT distance FROM annex_search('docs_idx',"
           "   annex_vector('docs_idx', a.key), 4) ORDER BY distance DESC LIMIT 1)"
           " ORDER BY a.distance, b.distance")
    want = [(a, b) for a in docs.nearest(query, 3) for b in docs.nearest(docs.vectors[a], 4)[1:]]
    assert db.execute(sql, [query.tobytes()]).fetchall() == want


def test_two_cursors_of_one_index__do_not_disturb_each_other(any_docs, db):
    one, two = any_docs.query(1), any_docs.query(2)
    exact = ALL[:-1] + ", NULL, '{\"effort\":\"exact\"}')"
    a, b = db.execute(exact, [one.tobytes()]), db.execute(exact, [two.tobytes()])
    got_a, got_b = [], []
    for x, y in zip(a, b):
        got_a.append(x[0])
        got_b.append(y[0])
    assert got_a == any_docs.nearest(one, N) and got_b == any_docs.nearest(two, N)


def test_compound_selects__combine_searches(db, docs):
    one, two = docs.query(1), docs.query(2)
    near = {1: docs.nearest(one, 30), 2: docs.nearest(two, 30)}
    part = ("SELECT key FROM (SELECT key FROM annex_search('docs_idx', ?{})"
            " ORDER BY distance LIMIT 30)")
    for operator, want in (("UNION", set(near[1]) | set(near[2])),
                           ("INTERSECT", set(near[1]) & set(near[2])),
                           ("EXCEPT", set(near[1]) - set(near[2]))):
        sql = f"{part.format(1)} {operator} {part.format(2)} ORDER BY key LIMIT 40 OFFSET 1"
        assert keys(db, sql, one.tobytes(), two.tobytes()) == sorted(want)[1:41]
    sql = (f"{part.format(1)} UNION ALL {part.format(2)}")
    assert keys(db, sql, one.tobytes(), two.tobytes()) == near[1] + near[2]
    merged = ("SELECT key, distance FROM annex_search('docs_idx', ?1) UNION ALL"
              " SELECT key, distance FROM annex_search('docs_idx', ?2) ORDER BY distance LIMIT 25")
    both = sorted(docs.distances(one)[:25] + docs.distances(two)[:25], key=lambda row: row[1])
    assert keys(db, merged, one.tobytes(), two.tobytes()) == [key for key, _ in both[:25]]
    direct = ("SELECT key FROM annex_search('docs_idx', ?1) UNION ALL"
              " SELECT key FROM annex_search('docs_idx', ?2) LIMIT 10 OFFSET 583")
    assert keys(db, direct, one.tobytes(), two.tobytes()) == (
        docs.nearest(one, 588)[583:] + docs.nearest(two, 5))


def test_ctes__search_materialized_inlined_and_recursively(db, docs, query):
    for hint in ("", "MATERIALIZED", "NOT MATERIALIZED"):
        sql = (f"WITH near AS {hint} (SELECT key, distance FROM annex_search('docs_idx', ?))"
               " SELECT key FROM near WHERE key % 2 ORDER BY distance LIMIT 6")
        assert keys(db, sql, query.tobytes()) == docs.nearest(query, 6, lambda k: k % 2)
    walk = ("WITH RECURSIVE walk(step, at) AS (SELECT 0, 1 UNION ALL SELECT step + 1,"
            "  (SELECT key FROM annex_search('docs_idx', annex_vector('docs_idx', at))"
            "   WHERE key > at ORDER BY distance LIMIT 1) FROM walk WHERE step < 6)"
            " SELECT at FROM walk")
    want = [1]
    for _ in range(6):
        want += docs.nearest(docs.vectors[want[-1]], 1, lambda k: k > want[-1])
    assert keys(db, walk) == want


def test_window_functions__rank_the_rows(db, docs, query):
    sql = ("SELECT key, rank FROM (SELECT s.key, s.distance, d.lang,"
           " row_number() OVER (PARTITION BY d.lang ORDER BY s.distance) AS rank"
           " FROM annex_search('docs_idx', ?) AS s JOIN docs AS d ON d.id = s.key)"
           " WHERE rank <= 3 ORDER BY lang, rank")
    want = [(key, rank + 1) for lang in ("de", "en", "fr", "pt") for rank, key in
            enumerate(docs.nearest(query, 3, lambda k: docs.lang(k) == lang))]
    assert db.execute(sql, [query.tobytes()]).fetchall() == want


# ---- Statements that write -----------------------------------------------------------------------


def test_statements_that_write__take_what_they_need(db, docs, query):
    blob = query.tobytes()
    db.execute("CREATE TABLE hits AS SELECT key, distance FROM annex_search('docs_idx', ?)"
               " ORDER BY distance LIMIT 50", [blob])
    assert keys(db, "SELECT key FROM hits ORDER BY rowid") == docs.nearest(query, 50)
    db.execute("INSERT INTO hits SELECT key, distance FROM annex_search('docs_idx', ?)"
               " LIMIT 10 OFFSET 50", [blob])
    assert keys(db, "SELECT key FROM hits ORDER BY rowid") == docs.nearest(query, 60)
    db.execute("UPDATE docs SET year = 1 FROM (SELECT key FROM annex_search('docs_idx', ?)"
               " ORDER BY distance LIMIT 7) AS s WHERE s.key = docs.id", [blob])
    assert sorted(keys(db, "SELECT id FROM docs WHERE year = 1")) == sorted(
        docs.nearest(query, 7))
    db.execute("DELETE FROM docs WHERE id IN (SELECT key FROM annex_search('docs_idx', ?)"
               " LIMIT 7)", [blob])
    assert keys(db, "SELECT key FROM annex_search('docs_idx', ?) LIMIT 5", blob) == (
        docs.nearest(query, 12)[7:])


def test_view_and_trigger__search(db, docs, query):
    db.execute("CREATE TABLE current(query BLOB)")
    db.execute("CREATE TABLE answers(key, rank)")
    db.execute("CREATE VIEW similar AS SELECT s.key, s.distance FROM current AS c,"
               " annex_search('docs_idx', c.query) AS s")
    db.execute("CREATE TRIGGER ask AFTER INSERT ON current BEGIN INSERT INTO answers"
               " SELECT key, row_number() OVER () FROM (SELECT key FROM similar"
               " ORDER BY distance LIMIT 4); END")
    db.execute("INSERT INTO current VALUES (?)", [query.tobytes()])
    assert keys(db, "SELECT key FROM answers ORDER BY rank") == docs.nearest(query, 4)
    assert keys(db, "SELECT key FROM similar ORDER BY distance LIMIT 3 OFFSET 2") == (
        docs.nearest(query, 5)[2:])


def test_prepared_statement__answers_for_new_values_and_new_rows(db, docs):
    sql = "SELECT key FROM annex_search('docs_idx', ?) ORDER BY distance LIMIT ?"
    for seed, limit in itertools.product(range(4), (3, 40)):
        query = docs.query(seed)
        assert keys(db, sql, query.tobytes(), limit) == docs.nearest(query, limit)
        key = docs.nearest(query, 1)[0]
        db.execute("DELETE FROM docs WHERE id = ?", [key])
        del docs.vectors[key]
        assert keys(db, sql, query.tobytes(), limit) == docs.nearest(query, limit)


@pytest.mark.parametrize("write", [
    "DELETE FROM docs WHERE id = :key",
    "UPDATE docs SET embedding = NULL WHERE id = :key",
    "UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 1) WHERE id = :key",
    "INSERT INTO docs SELECT id + 100000, lang, year, embedding FROM docs WHERE id = :key",
    "UPDATE docs SET id = id + 100000 WHERE id = :key",
])
def test_rows_written_while_rows_are_read__end_the_statement_in_peace(any_docs, db, query, write):
    seen = []
    for key, _ in db.execute(ALL, [query.tobytes()]):
        seen.append(key)
        if len(seen) in (3, 17, 100, 1200):
            db.execute(write, {"key": key})
        assert len(seen) < 3 * N
    untouched = set(any_docs.vectors) - {seen[i] for i in (2, 16, 99, 1199)}
    assert untouched <= set(seen)
    after = keys(db, "SELECT key FROM annex_search('docs_idx', ?)", query.tobytes())
    want = keys(db, "SELECT id FROM docs WHERE embedding IS NOT NULL")
    assert sorted(after) == sorted(want)


def test_sync_while_rows_are_read__loses_none(graph, db, query):
    fill(db, "UPDATE docs SET year = 5, embedding = embedding WHERE id = ?",
         [(key,) for key in list(graph.vectors)[::5]])
    seen = []
    for key, _ in db.execute(ALL, [query.tobytes()]):
        seen.append(key)
        if len(seen) == 30:
            try:
                db.execute("SELECT annex_sync('docs_idx')")
            except Exception as error:
                assert "lock" in str(error) or "busy" in str(error)
    assert sorted(seen) == sorted(graph.vectors)


def test_rollback_while_rows_are_read__ends_or_goes_on(any_docs, db, query):
    db.execute("BEGIN")
    db.execute("DELETE FROM docs WHERE id % 2")
    cursor = db.execute(ALL, [query.tobytes()])
    first = [row for _, row in zip(range(20), cursor)]
    assert all(key % 2 == 0 for key, _ in first)
    db.execute("ROLLBACK")
    try:
        rest = cursor.fetchall()
        assert len(rest) <= N
    except Exception as error:
        assert "abort" in str(error) or "rollback" in str(error)
    got = keys(db, "SELECT key FROM annex_search('docs_idx', ?)", query.tobytes())
    assert sorted(got) == sorted(any_docs.vectors)
