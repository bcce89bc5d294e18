"""Every way to ask: annex_search without a k, as a stream of rows that SQLite limits, filters, joins
and pages through. Compared with brute force, over indexes that are exact, that miss rows (a graph at
effort 1), that wait for a sync, and that are stale. What a k means is in test_sql.py, the options
that choose or cut rows in test_sql_options.py."""

import itertools
import shutil

import numpy
import pytest

from sql_model import DIMENSION, LANGS, Docs, fill, keys

ALL = "SELECT key, distance FROM annex_search('docs_idx', ?)"
N = 2400


def make(db, state, n):
    """A table of documents with an index in one of the states there are."""
    docs = Docs(db, n=n)
    family = "graph" if state == "graph" else "flat"
    db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding', ?)",
               ['{"metric":"l2","index":"%s"}' % family])
    db.execute("BEGIN")
    if state == "delta":
        for key in list(docs.vectors)[::7]:
            vector = docs.query(key)
            db.execute("UPDATE docs SET embedding = ? WHERE id = ?", [vector.tobytes(), key])
            docs.vectors[key] = vector
    elif state == "stale":
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"
                                  ).fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        victim = next(iter(docs.vectors))
        db.execute("DELETE FROM docs WHERE id = ?", [victim])
        del docs.vectors[victim]
    db.execute("COMMIT")
    return docs


@pytest.fixture
def db(connect):
    return connect("docs.db")


@pytest.fixture
def docs(db):
    return make(db, "flat", 600)


MADE = {}  # what was made once, by state


def copy_of(state, connect, tmp_path, tmp_path_factory):
    if state not in MADE:
        folder = tmp_path_factory.mktemp(state)
        db = connect("made.db")
        MADE[state] = (folder / "made.db", make(db, state, N).vectors)
        db.close()
        shutil.copyfile(tmp_path / "made.db", MADE[state][0])
    shutil.copyfile(MADE[state][0], tmp_path / "docs.db")
    docs = Docs.__new__(Docs)
    docs.vectors = dict(MADE[state][1])
    docs.rows = {key: (key, LANGS[key // 3 % 4], 1990 + key // 3 % 30) for key in docs.vectors}
    return docs


@pytest.fixture(params=["flat", "graph", "delta", "stale"])
def any_docs(request, connect, tmp_path, tmp_path_factory):
    return copy_of(request.param, connect, tmp_path, tmp_path_factory)


@pytest.fixture
def graph(connect, tmp_path, tmp_path_factory):
    return copy_of("graph", connect, tmp_path, tmp_path_factory)


@pytest.fixture
def query():
    return numpy.random.default_rng(1000).standard_normal(DIMENSION).astype("<f4")


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
    part = "SELECT key FROM (SELECT key FROM annex_search('docs_idx', ?{}) ORDER BY distance LIMIT 30)"
    for operator, want in (("UNION", set(near[1]) | set(near[2])),
                           ("INTERSECT", set(near[1]) & set(near[2])),
                           ("EXCEPT", set(near[1]) - set(near[2]))):
        sql = f"{part.format(1)} {operator} {part.format(2)} ORDER BY key LIMIT 40 OFFSET 1"
        assert keys(db, sql, one.tobytes(), two.tobytes()) == sorted(want)[1:41]
    sql = (f"{part.format(1)} UNION ALL {part.format(2)}")
    assert keys(db, sql, one.tobytes(), two.tobytes()) == near[1] + near[2]
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
    db.execute("CREATE TABLE parts(doc TEXT, n INTEGER, v BLOB, PRIMARY KEY (doc, n)) WITHOUT ROWID")
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
    chosen = "SELECT key2 FROM annex_search('parts_idx', ?) WHERE key = 'd7' ORDER BY distance, key2"
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
