"""annex_search without a k: a stream of rows that SQLite limits, filters and pages through.
Compared with brute force, over indexes that are exact, that miss rows (a graph at effort 1), that
wait for a sync, and that are stale. Joins and whole statements are in test_sql_statements.py, what
a k means in test_sql.py, options that choose or cut rows in test_sql_options.py."""

import numpy
import pytest

from sql_model import DIMENSION, Docs, fill, keys
from sql_states import N, any_docs, db, docs, graph, query  # noqa: F401

ALL = "SELECT key, distance FROM annex_search('docs_idx', ?)"


def in_order(rows):
    return all(a[::-1] < b[::-1] for a, b in zip(rows, rows[1:]))


# ---- A stream of all rows ------------------------------------------------------------------------


def test_search_without_k__gives_every_row_once(any_docs, db, query):
    got = db.execute(ALL, [query.tobytes()]).fetchall()
    want = any_docs.distances(query)
    assert sorted(got) == [(key, pytest.approx(d, rel=1e-5)) for key, d in sorted(want)]


def test_search_without_k_that_is_exact__is_in_order_to_the_end(any_docs, db, query):
    exact = ALL[:-1] + ", NULL, '{\"effort\":\"exact\"}')"
    for sql in (exact, exact + " ORDER BY distance", exact + " ORDER BY distance, key"):
        got = db.execute(sql, [query.tobytes()]).fetchall()
        assert [key for key, _ in got] == any_docs.nearest(query, N)


@pytest.mark.parametrize("effort", [1, 4, 40])
def test_rows_that_an_index_misses__come_last_and_all_come(graph, db, effort):
    late = 0
    for seed in range(10):
        query = graph.query(seed)
        got = db.execute(ALL[:-1] + f", NULL, '{{\"effort\":{effort}}}') ORDER BY distance",
                         [query.tobytes()]).fetchall()
        assert len(got) == len(graph.vectors) == len({key for key, _ in got})
        breaks = [i for i in range(1, len(got)) if got[i][::-1] < got[i - 1][::-1]]
        assert len(breaks) <= 1  # the rows that had been missed, in order themselves
        late += len(got) - breaks[0] if breaks else 0
        assert in_order(got[:breaks[0]] if breaks else got)
    assert effort > 1 or late > 0
    assert late < 100


@pytest.mark.parametrize("limit, offset", [(1, 0), (10, 0), (10, 1), (3, 40), (100, 0), (7, 2300),
                                           (50, 2340), (1, 5000), (3000, 0), (0, 0), (0, 7)])
def test_limit_and_offset__are_right_at_any_size(any_docs, db, query, limit, offset):
    want = any_docs.nearest(query, N)[offset:offset + limit]
    exact = "SELECT key FROM annex_search('docs_idx', ?, NULL, '{\"effort\":\"exact\"}')"
    tail = f" LIMIT {limit} OFFSET {offset}"
    for order in ("", " ORDER BY distance", " ORDER BY distance, key", " ORDER BY +distance",
                  " ORDER BY distance NULLS LAST"):
        assert keys(db, exact + order + tail, query.tobytes()) == want
        assert keys(db, exact + order + " LIMIT ? OFFSET ?", query.tobytes(), limit,
                    offset) == want
    joined = exact.replace("key FROM", "s.key FROM") + (
        " AS s JOIN docs AS d ON d.id = s.key ORDER BY s.distance" + tail)
    assert keys(db, joined, query.tobytes()) == want


@pytest.mark.parametrize("tail, pick", [
    ("LIMIT -1", lambda r: r),
    ("LIMIT -5 OFFSET 2395", lambda r: r[2395:]),
    ("LIMIT 5 OFFSET -3", lambda r: r[:5]),
    ("LIMIT 9223372036854775807", lambda r: r),
    ("LIMIT 3 OFFSET 9223372036854775807", lambda r: []),
    ("LIMIT (SELECT 4)", lambda r: r[:4]),
    ("LIMIT 2 + 2 OFFSET (SELECT 1)", lambda r: r[1:5]),
    ("ORDER BY distance DESC LIMIT 4", lambda r: r[::-1][:4]),
    ("ORDER BY distance DESC, key LIMIT 4 OFFSET 2", lambda r: r[::-1][2:6]),
    ("ORDER BY distance, key DESC LIMIT 4", lambda r: r[:4]),
    ("ORDER BY key LIMIT 3", lambda r: sorted(r)[:3]),
    ("ORDER BY key DESC LIMIT 3", lambda r: sorted(r)[::-1][:3]),
    ("ORDER BY key, distance LIMIT 3", lambda r: sorted(r)[:3]),
    ("GROUP BY key ORDER BY distance LIMIT 4", lambda r: r[:4]),
    ("GROUP BY distance, key ORDER BY distance LIMIT 4", lambda r: r[:4]),
    ("WHERE key % 2 ORDER BY distance LIMIT 5", lambda r: [k for k in r if k % 2][:5]),
    ("WHERE key > 7000 LIMIT 5", lambda r: [k for k in r if k > 7000][:5]),
    ("WHERE key + 0 = 2500 LIMIT 5", lambda r: [2500]),
    ("WHERE key BETWEEN 100 AND 160 LIMIT 3 OFFSET 2", lambda r: [
        k for k in r if 100 <= k <= 160][2:5]),
    ("WHERE key IN (100, 103, 106, 109) LIMIT 3", lambda r: [
        k for k in r if k in (100, 103, 106, 109)][:3]),
    ("WHERE key IN (100, 103, 106) AND distance > 0 ORDER BY distance LIMIT 2 OFFSET 1",
     lambda r: [k for k in r if k in (100, 103, 106)][1:3]),
    ("WHERE key = 100 LIMIT 1", lambda r: [100]),
    ("WHERE key = '100'", lambda r: []),
    ("WHERE key = 100.0", lambda r: [100]),
    ("WHERE key = 101", lambda r: []),
    ("WHERE key IS NULL", lambda r: []),
    ("WHERE key = NULL", lambda r: []),
    ("WHERE key = 100 AND key IN (100, 103)", lambda r: [100]),
    ("WHERE key = 100 OR key = 7003 ORDER BY distance", lambda r: [
        k for k in r if k in (100, 7003)]),
    ("WHERE key < 100 OR key > 7150 ORDER BY distance LIMIT 9", lambda r: [
        k for k in r if k < 100 or k > 7150][:9]),
])
def test_order_limit_and_conditions__are_those_of_any_table(any_docs, db, query, tail, pick):
    sql = "SELECT key FROM annex_search('docs_idx', ?, NULL, '{\"effort\":\"exact\"}') " + tail
    assert keys(db, sql, query.tobytes()) == pick(any_docs.nearest(query, N))


def test_approximate_search_with_limit__is_the_search_with_that_k(graph, db):
    for seed in range(10):
        blob = graph.query(seed).tobytes()
        for k in (10, 25):
            for effort in (4, 60):
                options = '{"effort":%d}' % effort
                asked = keys(db, "SELECT key FROM annex_search('docs_idx', ?, ?, ?)", blob, k,
                             options)
                assert asked == keys(db, "SELECT key FROM annex_search('docs_idx', ?, NULL, ?)"
                                         " ORDER BY distance LIMIT ?", blob, options, k)


def test_distinct_and_min__see_rows_in_order(any_docs, db, query):
    blob = query.tobytes()
    want = any_docs.distances(query)
    assert keys(db, "SELECT min(distance) FROM annex_search('docs_idx', ?)", blob)[0] == (
        pytest.approx(want[0][1], rel=1e-5))
    assert keys(db, "SELECT max(distance) FROM annex_search('docs_idx', ?)", blob)[0] == (
        pytest.approx(want[-1][1], rel=1e-5))
    exact = "annex_search('docs_idx', ?, NULL, '{\"effort\":\"exact\"}')"
    assert keys(db, f"SELECT DISTINCT key FROM {exact} ORDER BY distance LIMIT 4", blob) == [
        key for key, _ in want[:4]]
    assert keys(db, f"SELECT DISTINCT distance FROM {exact} LIMIT 4", blob) == pytest.approx(
        [d for _, d in want[:4]], rel=1e-5)
    (count,) = keys(db, "SELECT count(*) FROM annex_search('docs_idx', ?)", blob)
    assert count == len(want)


def test_group_by_distance__makes_one_group_of_rows_as_far_as_each_other(graph, db, query):
    twins = [7500 + i for i in range(40)]
    fill(db, "INSERT INTO docs VALUES (?, 'en', 2000, ?)",
         [(key, graph.vectors[1 + 3 * (i % 4)].tobytes()) for i, key in enumerate(twins)])
    sql = ("SELECT distance, count(*) FROM annex_search('docs_idx', ?, NULL, '{\"effort\":1}')"
           " GROUP BY distance")
    got = db.execute(sql, [query.tobytes()]).fetchall()
    assert len(got) == len({d for d, _ in got})
    assert sum(n for _, n in got) == len(graph.vectors) + 40
    assert sorted(n for _, n in got)[-4:] == [11] * 4


# ---- Pages by (distance, key) --------------------------------------------------------------------


@pytest.mark.parametrize("condition", [
    "(distance, key) > (?2, ?3)",
    "(distance > ?2 OR (distance = ?2 AND key > ?3))",
    "distance >= ?2 AND (distance > ?2 OR key > ?3)",
])
def test_pages_by_distance_and_key__have_neither_gaps_nor_doubles(any_docs, db, query, condition):
    twins = list(range(9000, 9060))
    middle = any_docs.nearest(query, 100)[60]
    fill(db, "INSERT INTO docs VALUES (?, 'en', 2000, ?)",
         [(key, any_docs.vectors[middle].tobytes()) for key in twins])
    any_docs.vectors.update({key: any_docs.vectors[middle] for key in twins})
    sql = ("SELECT key, distance FROM annex_search('docs_idx', ?1, NULL,"
           f" '{{\"effort\":\"exact\"}}') WHERE {condition} ORDER BY distance, key LIMIT 37")
    place, read = (-1.0, 0), []
    for _ in range(12):
        page = db.execute(sql, [query.tobytes(), *place]).fetchall()
        read += [key for key, _ in page]
        place = page[-1][::-1]
    assert read == any_docs.nearest(query, 12 * 37)


def test_pages_of_an_index_that_misses_rows__are_exact_after_the_first(graph, db, query):
    sql = ("SELECT key, distance FROM annex_search('docs_idx', ?1, NULL, '{\"effort\":1}')"
           " WHERE (distance, key) > (?2, ?3) ORDER BY distance, key LIMIT 20")
    want = graph.nearest(query, N)
    place = db.execute(ALL + " ORDER BY distance LIMIT 1", [query.tobytes()]).fetchone()[::-1]
    start = want.index(place[1])
    for page in range(5):
        got = db.execute(sql, [query.tobytes(), *place]).fetchall()
        begin = start + 1 + 20 * page
        assert [key for key, _ in got] == want[begin:begin + 20]
        place = got[-1][::-1]


def test_pages_deep_in_the_table_and_in_joins__go_on_where_they_were(any_docs, db, query):
    want = any_docs.distances(query)
    sql = ("SELECT s.key FROM annex_search('docs_idx', ?1) AS s JOIN docs AS d ON d.id = s.key"
           " WHERE (s.distance, s.key) > (?2, ?3) AND d.lang = 'de'"
           " ORDER BY s.distance, s.key LIMIT 10")
    rows = db.execute(ALL[:-1] + ", NULL, '{\"effort\":\"exact\"}')", [query.tobytes()]).fetchall()
    for depth in (0, 500, 1500, 2290, len(want) - 1):
        got = keys(db, sql, query.tobytes(), rows[depth][1], rows[depth][0])
        assert got == [k for k, _ in want[depth + 1:] if any_docs.lang(k) == "de"][:10]


def test_conditions_on_the_distance__bound_the_search(any_docs, db, query):
    want = any_docs.distances(query)
    rows = db.execute(ALL[:-1] + ", NULL, '{\"effort\":\"exact\"}')", [query.tobytes()]).fetchall()
    low, high = rows[30][1], rows[700][1]
    blob = query.tobytes()

    def sorted_keys(condition, *values):
        return sorted(keys(db, "SELECT key FROM annex_search('docs_idx', ?) WHERE " + condition,
                           blob, *values))

    index = [key for key, _ in want]
    assert sorted_keys("distance < ?", high) == sorted(index[:700])
    assert sorted_keys("distance <= ?", high) == sorted(index[:701])
    assert sorted_keys("distance > ?", low) == sorted(index[31:])
    assert sorted_keys("distance >= ?", low) == sorted(index[30:])
    assert sorted_keys("distance BETWEEN ? AND ?", low, high) == sorted(index[30:701])
    assert sorted_keys("distance = ?", low) == [index[30]]
    assert sorted_keys("distance IN (?, ?)", low, high) == sorted([index[30], index[700]])
    assert sorted_keys("distance IS ?", low) == [index[30]]
    assert sorted_keys("distance < ? AND distance < ?", high, low) == sorted(index[:30])
    assert sorted_keys("distance > ? AND distance < ?", high, low) == []
    assert sorted_keys("distance < ?", None) == []
    assert sorted_keys("distance < 'x'") == sorted(index)
    assert sorted_keys("distance > 'x'") == []
    assert sorted_keys("distance < ?", str(high)) == sorted(index[:700])
    assert sorted_keys("distance < x'00'") == sorted(index)
    assert sorted_keys("distance > -1e308") == sorted(index)
    assert sorted_keys("distance < 9e999") == sorted(index)
    assert sorted_keys("distance > 9e999") == []
    assert sorted_keys("distance < 0") == []
    assert sorted_keys("(distance, key) < (?, ?)", low, index[30]) == sorted(index[:30])
    assert sorted_keys("(distance, key) <= (?, ?)", low, index[30]) == sorted(index[:31])
    assert sorted_keys("? < distance", low) == sorted(index[31:])


def test_conditions_on_the_distance_with_k__apply_to_the_k_nearest(any_docs, db, query):
    index = any_docs.nearest(query, 100)
    rows = db.execute("SELECT key, distance FROM annex_search('docs_idx', ?, 100,"
                      " '{\"effort\":\"exact\"}')", [query.tobytes()]).fetchall()
    sql = ("SELECT key FROM annex_search('docs_idx', ?, 100, '{\"effort\":\"exact\"}')"
           " WHERE (distance, key) > (?, ?) ORDER BY distance, key LIMIT 30")
    assert keys(db, sql, query.tobytes(), rows[89][1], rows[89][0]) == index[90:]
    assert keys(db, sql, query.tobytes(), rows[9][1], rows[9][0]) == index[10:40]


@pytest.mark.parametrize("metric", ["ip", "cosine", "l1"])
def test_pages_under_other_metrics__have_neither_gaps_nor_doubles(db, query, metric):
    docs = Docs(db, n=500)
    db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding', ?)",
               ['{"metric":"%s"}' % metric])
    whole = db.execute(ALL, [query.tobytes()]).fetchall()
    assert len(whole) == len(docs.vectors) and in_order(whole)
    sql = ALL + " WHERE (distance, key) > (?, ?) ORDER BY distance, key LIMIT 30"
    place, read = (-9e999, 0), []
    while page := db.execute(sql, [query.tobytes(), *place]).fetchall():
        read += page
        place = page[-1][::-1]
    assert read == whole


# ---- Filters -------------------------------------------------------------------------------------


def test_filtering_join__finds_as_many_rows_as_there_are(any_docs, db, query):
    rare = [key for key in any_docs.vectors if key % 399 == 1]
    assert 10 < len(rare) < 20
    sql = ("SELECT s.key FROM annex_search('docs_idx', ?) AS s JOIN docs AS d ON d.id = s.key"
           " WHERE d.id % 399 = 1 ORDER BY s.distance LIMIT {}")
    want = any_docs.nearest(query, 20, lambda key: key in rare)
    assert sorted(keys(db, sql.format(20), query.tobytes())) == sorted(want)
    assert len(keys(db, sql.format(3), query.tobytes())) == 3
    exact = sql.replace("?)", "?, NULL, '{{\"effort\":\"exact\"}}')")
    assert keys(db, exact.format(20), query.tobytes()) == want
    assert keys(db, exact.format(3), query.tobytes()) == want[:3]
    assert keys(db, exact.format("3 OFFSET 2"), query.tobytes()) == want[2:5]


@pytest.mark.parametrize("keys_of", [
    "SELECT id FROM docs WHERE lang = 'de'",
    "SELECT id FROM docs WHERE lang = 'de' ORDER BY year LIMIT 9999",
    "SELECT DISTINCT id FROM docs WHERE lang IN ('de')",
    "WITH g AS (SELECT id FROM docs WHERE lang = 'de') SELECT * FROM g",
    "SELECT value FROM json_each((SELECT json_group_array(id) FROM docs WHERE lang = 'de'))",
    "SELECT d.id FROM docs AS d JOIN docs AS e ON e.id = d.id WHERE e.lang = 'de'",
    "SELECT id FROM docs EXCEPT SELECT id FROM docs WHERE lang <> 'de'",
    "SELECT id FROM docs WHERE lang = 'de' UNION ALL SELECT NULL",
])
def test_list_of_keys_in_any_form__filters_with_and_without_k(any_docs, db, query, keys_of):
    want = any_docs.nearest(query, N, lambda key: any_docs.lang(key) == "de")
    exact = "annex_search('docs_idx', ?, {}, '{{\"effort\":\"exact\"}}')"
    sql = f"SELECT key FROM {exact} WHERE key IN ({keys_of})"
    blob = query.tobytes()
    assert keys(db, sql.format("NULL"), blob) == want
    assert keys(db, sql.format("NULL") + " ORDER BY distance LIMIT 30 OFFSET 5", blob) == want[5:35]
    assert keys(db, sql.format(25), blob) == want[:25]
    assert keys(db, sql.format(N), blob) == want


def test_lists_of_one_key__filter_before_a_search_without_k(any_docs, db, query):
    far = any_docs.distances(query)[-1][0]
    blob = query.tobytes()
    for one in (f"({far})", "(?)", "(VALUES (?))", "(SELECT value FROM json_each(json_array(?)))"):
        values = [blob, far] if "?" in one else [blob]
        assert keys(db, f"SELECT key FROM annex_search('docs_idx', ?) WHERE key IN {one}"
                        " LIMIT 5", *values) == [far]


def test_many_lists__allow_what_is_in_all_of_them(db, docs, query):
    lists = " AND ".join(f"key IN (SELECT id FROM docs WHERE id % {p})" for p in
                         (2, 3, 5, 7, 11, 13, 17, 19, 23))
    want = docs.nearest(query, 600, lambda k: all(k % p for p in (2, 3, 5, 7, 11, 13, 17, 19, 23)))
    for k in ("", ", 600"):
        sql = f"SELECT key FROM annex_search('docs_idx', ?{k}) WHERE {lists}"
        assert keys(db, sql, query.tobytes()) == want


def test_not_in__is_a_condition_like_others(db, docs, query):
    sql = ("SELECT key FROM annex_search('docs_idx', ?) WHERE key NOT IN"
           " (SELECT id FROM docs WHERE lang = 'de') ORDER BY distance LIMIT 20")
    want = docs.nearest(query, 20, lambda key: docs.lang(key) != "de")
    assert keys(db, sql, query.tobytes()) == want


# ---- Keys of other kinds -------------------------------------------------------------------------


def test_text_keys__stream_and_page_in_order(db, query):
    rng = numpy.random.default_rng(4)
    db.execute("CREATE TABLE notes(name TEXT PRIMARY KEY, v BLOB)")
    vectors = {f"n{'é' * (i % 3)}{i}": rng.integers(-2, 3, DIMENSION).astype("<f4")
               for i in range(700)}
    fill(db, "INSERT INTO notes VALUES (?, ?)", [(k, v.tobytes()) for k, v in vectors.items()])
    db.execute("SELECT annex_create('notes_idx', 'notes', 'v')")
    whole = db.execute("SELECT key, distance FROM annex_search('notes_idx', ?)",
                       [query.tobytes()]).fetchall()
    assert {key for key, _ in whole} == set(vectors) and len(whole) == 700
    assert whole == sorted(whole, key=lambda row: (row[1], row[0].encode()))
    sql = ("SELECT key, distance FROM annex_search('notes_idx', ?) WHERE (distance, key) > (?, ?)"
           " ORDER BY distance, key LIMIT 90")
    place, read = (-1, ""), []
    while page := db.execute(sql, [query.tobytes(), *place]).fetchall():
        read += page
        place = page[-1][::-1]
    assert read == whole
    one = "SELECT key FROM annex_search('notes_idx', ?) WHERE key = ?"
    assert keys(db, one, query.tobytes(), whole[-1][0]) == [whole[-1][0]]


def test_compound_keys__stream_page_and_join(db, query):
    rng = numpy.random.default_rng(4)
    db.execute("CREATE TABLE parts(doc TEXT, n INTEGER, v BLOB, PRIMARY KEY (doc, n))"
               " WITHOUT ROWID")
    rows = [(f"d{i // 9}", i % 9, rng.integers(-1, 2, DIMENSION).astype("<f4").tobytes())
            for i in range(450)]
    fill(db, "INSERT INTO parts VALUES (?, ?, ?)", rows)
    db.execute("SELECT annex_create('parts_idx', 'parts', 'v')")
    whole = db.execute("SELECT key, key2, distance FROM annex_search('parts_idx', ?)",
                       [query.tobytes()]).fetchall()
    assert sorted(row[:2] for row in whole) == sorted(row[:2] for row in rows)
    assert whole == sorted(whole, key=lambda row: (row[2], row[0], row[1]))
    sql = ("SELECT key, key2, distance FROM annex_search('parts_idx', ?1)"
           " WHERE (distance, key, key2) > (?2, ?3, ?4) ORDER BY distance, key, key2 LIMIT 70")
    place, read = (-1, "", 0), []
    while page := db.execute(sql, [query.tobytes(), *place]).fetchall():
        read += page
        place = (page[-1][2], *page[-1][:2])
    assert read == whole
    plan = db.execute("EXPLAIN QUERY PLAN " + sql, [query.tobytes(), 0, "", 0]).fetchall()
    assert "in order" in plan[0][3]
    sql = ("SELECT p.doc, p.n FROM annex_search('parts_idx', ?) AS s JOIN parts AS p"
           " ON p.doc = s.key AND p.n = s.key2 WHERE p.n = 4 ORDER BY s.distance LIMIT 10")
    got = db.execute(sql, [query.tobytes()]).fetchall()
    assert got == [row[:2] for row in whole if row[1] == 4][:10]
    chosen = ("SELECT key2 FROM annex_search('parts_idx', ?) WHERE key = 'd7'"
              " ORDER BY distance, key2")
    assert keys(db, chosen, query.tobytes()) == [r[1] for r in whole if r[0] == "d7"]


# ---- Edges ---------------------------------------------------------------------------------------


def test_empty_table__streams_nothing_and_then_what_is_inserted(db, query):
    docs = Docs(db, n=0)
    db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding', '{\"dimension\":16}')")
    for tail in ("", " LIMIT 5", " WHERE distance > 1 ORDER BY distance, key"):
        assert keys(db, ALL + tail, query.tobytes()) == []
    fill(db, "INSERT INTO docs VALUES (?, 'en', 2000, ?)",
         [(i, docs.query(i).tobytes()) for i in range(100)])
    assert len(keys(db, ALL, query.tobytes())) == 100


def test_null_arguments__give_no_rows(db, docs, query):
    assert keys(db, ALL, None) == []
    assert keys(db, ALL + " LIMIT 5", None) == []
    assert keys(db, ALL + " WHERE key IN (1, 2)", None) == []


@pytest.mark.parametrize("tail, says", [
    ("", "annex_search as many as are read"),
    (" LIMIT 5", "as many as are read, limit known"),
    (" ORDER BY distance LIMIT 5", "as many as are read, limit known, in order"),
    (" ORDER BY distance, key", "as many as are read, in order"),
    (" WHERE key IN (1, 2, 3)", "as many as are read, key filter"),
    (" WHERE key = 1", "as many as are read, one key"),
    (" WHERE distance > 1", "as many as are read, from a distance"),
    (" WHERE distance < 1", "as many as are read, up to a distance"),
    (" WHERE (distance, key) > (1, 2) ORDER BY distance, key LIMIT 9",
     "from a distance, limit known, in order"),
])
def test_plan__says_what_the_search_makes_use_of(db, docs, query, tail, says):
    steps = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + ALL + tail, [query.tobytes()])]
    assert says in steps[0]


@pytest.mark.parametrize("order", ["distance DESC", "key", "distance, key DESC", "distance, key2",
                                   "-distance", "distance, key, distance", "key, distance"])
def test_plan_with_another_order__leaves_sorting_to_sqlite(db, docs, query, order):
    steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {ALL} ORDER BY {order}",
                                          [query.tobytes()])]
    assert "in order" not in steps[0]


def test_plan_column_while_reading__tells_of_wider_searches(graph, db, query):
    plans = keys(db, "SELECT DISTINCT plan FROM annex_search('docs_idx', ?)", query.tobytes())
    assert any(plan.startswith("graph recall=") for plan in plans)
    assert any(plan.startswith("graph effort=exact") for plan in plans)
