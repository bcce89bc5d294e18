"""Searching by SQL: annex_search, annex_within and annex_indexes against brute force in numpy, in
joins, with filters, LIMIT and OFFSET, many queries, views and plans. Indexes are in
test_sql_indexes.py, what goes wrong in test_sql_errors.py."""

import json

import pytest

from sql_model import SEARCH, Docs, fill, keys


@pytest.fixture
def db(connect):
    return connect("docs.db")


@pytest.fixture
def docs(db):
    return Docs(db).create_index()


@pytest.fixture
def query(docs):
    return docs.query(0)


def plan(db, sql, *arguments):
    return " / ".join(row[3] for row in db.execute("EXPLAIN QUERY PLAN " + sql, arguments))


# ---- The k nearest -------------------------------------------------------------------------------


@pytest.mark.isa
def test_search__gives_the_k_nearest_in_order_with_their_distances(db, docs):
    for seed in range(20):
        query = docs.query(seed)
        got = db.execute("SELECT key, distance FROM annex_search('docs_idx', ?, 25)",
                         [query.tobytes()]).fetchall()
        want = docs.distances(query)[:25]
        assert [key for key, _ in got] == [key for key, _ in want]
        assert [d for _, d in got] == pytest.approx([d for _, d in want], rel=1e-5)


def test_columns__are_the_keys_and_the_distance(db, docs, query):
    cursor = db.execute("SELECT * FROM annex_search('docs_idx', ?, 1)", [query.tobytes()])
    names = [column[0] for column in cursor.description]
    assert names == ["key", "key2", "key3", "key4", "distance"]
    row = cursor.fetchone()
    assert row[0] == docs.nearest(query, 1)[0] and row[1:4] == (None, None, None)


def test_query_as_json__is_the_same_as_a_blob(db, docs, query):
    assert keys(db, SEARCH + "10)", json.dumps(query.tolist())) == docs.nearest(query)


def test_arguments_left_out__are_all_rows_and_no_options(db, docs, query):
    sql = "SELECT key FROM annex_search('docs_idx', ?)"
    assert keys(db, sql, query.tobytes()) == docs.nearest(query, 588)
    assert keys(db, SEARCH + "NULL, NULL)", query.tobytes()) == docs.nearest(query, 588)
    assert keys(db, SEARCH + "7, NULL)", query.tobytes()) == docs.nearest(query, 7)


@pytest.mark.parametrize("k, rows", [("0", 0), ("1", 1), ("588", 588), ("589", 588),
                                     ("9223372036854775807", 588), ("'12'", 12), ("12.0", 12)])
def test_k__is_how_many_rows_come_if_there_are_so_many(db, docs, query, k, rows):
    assert len(docs.vectors) == 588
    assert keys(db, SEARCH + k + ")", query.tobytes()) == docs.nearest(query, rows)


@pytest.mark.parametrize("options", ['{"effort":"exact"}', '{"effort":64}', '{"recall":0.99}',
                                     '{"effort":"exact","threads":1}', "{}"])
def test_options_of_a_search__are_accepted(db, docs, query, options):
    sql = "SELECT key FROM annex_search('docs_idx', ?, 10, ?)"
    assert keys(db, sql, query.tobytes(), options) == docs.nearest(query)


def test_null_query__gives_no_rows(db, docs):
    assert keys(db, SEARCH + "10)", None) == []
    assert keys(db, "SELECT key FROM annex_within('docs_idx', ?, 1)", None) == []


def test_arguments__are_columns_too(db, docs, query):
    sql = ("SELECT \"index\", query, k, options, typeof(plan) FROM annex_search"
           " WHERE \"index\" = 'docs_idx' AND query = ? AND k = 1 AND options = '{}'")
    assert db.execute(sql, [query.tobytes()]).fetchall() == [
        ("docs_idx", query.tobytes(), 1, "{}", "text")]


def test_second_value_for_an_argument__must_be_equal(db, docs, query):
    assert len(keys(db, SEARCH + "10) WHERE k = 10", query.tobytes())) == 10
    assert keys(db, SEARCH + "10) WHERE k = 5", query.tobytes()) == []


# ---- Within a distance ---------------------------------------------------------------------------


@pytest.mark.isa
def test_within__gives_all_rows_up_to_the_distance(db, docs, query):
    want = docs.distances(query)
    middle = (want[40][1] + want[41][1]) / 2
    got = db.execute("SELECT key, distance FROM annex_within('docs_idx', ?, ?)",
                     [query.tobytes(), middle]).fetchall()
    assert [key for key, _ in got] == [key for key, _ in want[:41]]
    assert [d for _, d in got] == pytest.approx([d for _, d in want[:41]], rel=1e-5)


@pytest.mark.parametrize("distance, rows", [("0", 0), ("-1", 0), ("9e999", 588), ("'1e9'", 588),
                                            ("NULL", 0)])
def test_within_at_the_edges__gives_none_or_all(db, docs, query, distance, rows):
    sql = f"SELECT count(*) FROM annex_within('docs_idx', ?, {distance})"
    assert keys(db, sql, query.tobytes()) == [rows]


def test_within_with_filter_and_limit__filters_first(db, docs, query):
    sql = ("SELECT key FROM annex_within('docs_idx', ?, 100) WHERE key IN"
           " (SELECT id FROM docs WHERE lang = 'de') LIMIT 8 OFFSET 2")
    want = docs.nearest(query, 10, lambda key: docs.lang(key) == "de")[2:]
    assert keys(db, sql, query.tobytes()) == want


# ---- key IN (…): a filter before the search ------------------------------------------------------


def test_key_in_subquery__gives_k_rows_of_those(db, docs):
    sql = SEARCH + "12) WHERE key IN (SELECT id FROM docs WHERE lang = 'fr' AND year < 2000)"
    for seed in range(10):
        query = docs.query(seed)
        want = docs.nearest(query, 12, lambda k: docs.lang(k) == "fr" and docs.year(k) < 2000)
        assert len(want) == 12
        assert keys(db, sql, query.tobytes()) == want


def test_key_in_list__gives_the_keys_that_exist(db, docs, query):
    farthest = [key for key, _ in docs.distances(query)[-5:]]
    listed = ", ".join(map(str, [*farthest, 2, -1, 10**18]))
    assert keys(db, SEARCH + f"3) WHERE key IN ({listed}, NULL, 'x', x'00', 1.5)",
                query.tobytes()) == farthest[:3]
    marks = ", ".join("?" * len(farthest))
    assert keys(db, SEARCH + f"10) WHERE key IN ({marks})", query.tobytes(), *farthest) == farthest


def test_key_in_nothing__gives_no_rows(db, docs, query):
    nothing = SEARCH + "10) WHERE key IN (SELECT id FROM docs WHERE 0)"
    assert keys(db, nothing, query.tobytes()) == []
    assert keys(db, SEARCH + "10) WHERE key IN (2, 3)", query.tobytes()) == []


def test_key_in_values_or_json__filters_with_one_key_as_with_many(db, docs, query):
    farthest = docs.distances(query)[-1][0]
    for one in (f"(VALUES ({farthest}))", f"(SELECT value FROM json_each('[{farthest}]'))"):
        assert keys(db, SEARCH + f"10) WHERE key IN {one}", query.tobytes()) == [farthest]


def test_two_lists__allow_what_is_in_both(db, docs, query):
    sql = (SEARCH + "9) WHERE key IN (SELECT id FROM docs WHERE lang = 'en')"
           " AND key IN (SELECT id FROM docs WHERE year > 2005)"
           " AND key IN (SELECT id FROM docs WHERE id % 2 = 1)")
    want = docs.nearest(query, 9, lambda k: docs.lang(k) == "en" and docs.year(k) > 2005 and k % 2)
    assert len(want) == 9
    assert keys(db, sql, query.tobytes()) == want
    disjoint = " AND key IN (SELECT id FROM docs WHERE lang = 'de')"
    assert keys(db, sql + disjoint, query.tobytes()) == []


def test_filter_of_all_keys__changes_nothing(db, docs, query):
    sql = SEARCH + "10) WHERE key IN (SELECT id FROM docs)"
    assert keys(db, sql, query.tobytes()) == docs.nearest(query)


def test_list_from_the_outer_query__filters_each_search(db, docs, query):
    sql = ("SELECT l.lang, (SELECT group_concat(key) FROM annex_search('docs_idx', ?1, 3) AS s"
           "  WHERE s.key IN (SELECT id FROM docs WHERE lang = l.lang))"
           " FROM (SELECT DISTINCT lang FROM docs) AS l")
    got = dict(db.execute(sql, [query.tobytes()]).fetchall())
    assert len(got) == 4
    for lang, found in got.items():
        want = docs.nearest(query, 3, lambda k: docs.lang(k) == lang)
        assert sorted(map(int, found.split(","))) == sorted(want)
    # The same as a join, in which the list is not known before the outer row is.
    sql = ("SELECT l.lang, s.key FROM annex_search('docs_idx', ?1, 3) AS s,"
           " (SELECT DISTINCT lang FROM docs) AS l"
           " WHERE s.key IN (SELECT id FROM docs WHERE lang = l.lang)")
    joined = db.execute(sql, [query.tobytes()]).fetchall()
    assert len(joined) == 12
    for lang, key in joined:
        assert key in docs.nearest(query, 3, lambda k: docs.lang(k) == lang)


# ---- Other conditions: on the k nearest ----------------------------------------------------------


def test_equal_key__applies_to_the_k_nearest(db, docs, query):
    nearest = docs.nearest(query, 10)
    outside = docs.distances(query)[100][0]
    assert keys(db, SEARCH + "10) WHERE key = ?", query.tobytes(), nearest[4]) == [nearest[4]]
    assert keys(db, SEARCH + "10) WHERE key = ?", query.tobytes(), outside) == []


def test_condition_on_distance_or_key__applies_to_the_k_nearest(db, docs, query):
    want = docs.distances(query)[:10]
    limit = (want[5][1] + want[6][1]) / 2
    assert keys(db, SEARCH + "10) WHERE distance < ?", query.tobytes(), limit) == [
        key for key, _ in want[:6]]
    odd = [key for key, _ in want if key % 2]
    assert keys(db, SEARCH + "10) WHERE key % 2", query.tobytes()) == odd
    either = SEARCH + "10) WHERE key = ? OR distance < ?"
    got = keys(db, either, query.tobytes(), want[8][0], limit)
    assert got == [key for key, _ in want[:6]] + [want[8][0]]


# ---- Joins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [
    "annex_search('docs_idx', ?, 10) AS s JOIN docs AS d ON d.id = s.key",
    "docs AS d JOIN annex_search('docs_idx', ?, 10) AS s ON d.id = s.key",
    "docs AS d, annex_search('docs_idx', ?, 10) AS s WHERE d.id = s.key",
    "annex_search('docs_idx', ?, 10) AS s CROSS JOIN docs AS d ON d.id = s.key",
    "(SELECT * FROM docs LIMIT 60) AS d CROSS JOIN annex_search('docs_idx', ?, 600) AS s"
    " ON d.id = s.key",
])
def test_join__gives_the_rows_of_the_nearest_in_any_order_of_tables(db, docs, query, source):
    sql = f"SELECT d.id, d.lang, s.distance FROM {source} ORDER BY s.distance"
    got = db.execute(sql, [query.tobytes()]).fetchall()
    if "LIMIT" in source:
        want = docs.nearest(query, 600, lambda key: key <= 178)
    else:
        want = docs.nearest(query, 10)
    assert [row[:2] for row in got] == [(key, docs.lang(key)) for key in want]


def test_condition_on_the_joined_table__applies_to_the_k_nearest(db, docs, query):
    sql = ("SELECT d.id FROM annex_search('docs_idx', ?, 20) AS s JOIN docs AS d ON d.id = s.key"
           " WHERE d.lang = 'de' ORDER BY s.distance")
    want = [key for key in docs.nearest(query, 20) if docs.lang(key) == "de"]
    assert 0 < len(want) < 20
    assert keys(db, sql, query.tobytes()) == want
    farthest = docs.distances(query)[-1][0]
    one = sql.replace("d.lang = 'de'", f"d.id = {farthest}")
    assert keys(db, one, query.tobytes()) == []


def test_left_join__keeps_the_rows_that_are_not_among_the_nearest(db, docs, query):
    sql = ("SELECT d.id, s.distance IS NOT NULL FROM docs AS d"
           " LEFT JOIN annex_search('docs_idx', ?, 10) AS s ON s.key = d.id WHERE d.id <= 300")
    nearest = set(docs.nearest(query, 10))
    got = db.execute(sql, [query.tobytes()]).fetchall()
    assert len(got) == 100
    assert {key for key, found in got if found} == {key for key in nearest if key <= 300}


def test_exists_with_equal_key__asks_whether_a_row_is_among_the_nearest(db, docs, query):
    sql = ("SELECT id FROM docs AS d WHERE id <= 240 AND EXISTS"
           " (SELECT 1 FROM annex_search('docs_idx', ?, 100) AS s WHERE s.key = d.id)")
    assert sorted(keys(db, sql, query.tobytes())) == sorted(
        key for key in docs.nearest(query, 100) if key <= 240)


def test_many_queries_from_a_table__are_answered_in_one_statement(db, docs):
    db.execute("CREATE TABLE queries(id INTEGER PRIMARY KEY, k INTEGER, embedding BLOB)")
    vectors = {i: docs.query(i) for i in range(30)}
    fill(db, "INSERT INTO queries VALUES (?, ?, ?)",
         [(i, i % 5, vector.tobytes()) for i, vector in vectors.items()])
    db.execute("INSERT INTO queries VALUES (99, 10, NULL)")
    for source in ("queries AS q, annex_search('docs_idx', q.embedding, 10) AS s",
                   "annex_search('docs_idx', q.embedding, 10) AS s JOIN queries AS q",
                   "queries AS q, annex_search('docs_idx', q.embedding, q.k) AS s"):
        got = {i: [] for i in vectors}
        for i, key in db.execute(f"SELECT q.id, s.key FROM {source} ORDER BY q.id, s.distance"):
            got[i].append(key)
        for i, vector in vectors.items():
            assert got[i] == docs.nearest(vector, i % 5 if "q.k" in source else 10)


def test_all_queries_ordered_by_distance__are_merged(db, docs):
    db.execute("CREATE TABLE queries(embedding BLOB)")
    fill(db, "INSERT INTO queries VALUES (?)", [(docs.query(i).tobytes(),) for i in range(8)])
    sql = ("SELECT s.distance FROM queries AS q, annex_search('docs_idx', q.embedding, 5) AS s"
           " ORDER BY s.distance LIMIT 12")
    want = sorted(d for i in range(8) for _, d in docs.distances(docs.query(i))[:5])[:12]
    assert keys(db, sql) == pytest.approx(want, rel=1e-5)


def test_neighbours_of_each_row__leave_the_row_out_by_a_condition(db, docs):
    sql = ("SELECT d.id, s.key FROM docs AS d, annex_search('docs_idx', d.embedding, 4) AS s"
           " WHERE d.id < 60 AND s.key <> d.id ORDER BY d.id, s.distance")
    got = db.execute(sql).fetchall()
    assert len(got) == 60
    for key in (1, 28, 58):
        want = docs.nearest(docs.vectors[key], 4)[1:]
        assert [other for own, other in got if own == key] == want


def test_query_in_list__searches_for_each(db, docs):
    a, b = docs.query(1), docs.query(2)
    sql = "SELECT key FROM annex_search WHERE \"index\" = 'docs_idx' AND k = 3 AND query IN (?, ?)"
    assert sorted(keys(db, sql, a.tobytes(), b.tobytes())) == sorted(
        docs.nearest(a, 3) + docs.nearest(b, 3))


def test_two_searches_in_one_statement__do_not_disturb_each_other(db, docs):
    a, b = docs.query(1), docs.query(2)
    sql = ("SELECT x.key FROM annex_search('docs_idx', ?, 200) AS x"
           " JOIN annex_search('docs_idx', ?, 200) AS y ON x.key = y.key ORDER BY x.distance")
    both = set(docs.nearest(b, 200))
    assert keys(db, sql, a.tobytes(), b.tobytes()) == [
        key for key in docs.nearest(a, 200) if key in both]


# ---- ORDER BY, LIMIT, OFFSET, grouping -----------------------------------------------------------


@pytest.mark.parametrize("tail, pick", [
    ("LIMIT 5", lambda r: r[:5]),
    ("LIMIT 5 OFFSET 3", lambda r: r[3:8]),
    ("LIMIT 5 OFFSET 18", lambda r: r[18:]),
    ("LIMIT 0", lambda r: []),
    ("LIMIT -1", lambda r: r),
    ("LIMIT -1 OFFSET 15", lambda r: r[15:]),
    ("ORDER BY distance", lambda r: r),
    ("ORDER BY distance LIMIT 4 OFFSET 2", lambda r: r[2:6]),
    ("ORDER BY distance DESC LIMIT 4", lambda r: r[::-1][:4]),
    ("ORDER BY distance, key", lambda r: r),
    ("ORDER BY distance DESC, key", lambda r: r[::-1]),
    ("ORDER BY -distance", lambda r: r[::-1]),
    ("ORDER BY distance NULLS LAST", lambda r: r),
    ("ORDER BY key LIMIT 3", lambda r: sorted(r)[:3]),
    ("ORDER BY key DESC", lambda r: sorted(r)[::-1]),
    ("GROUP BY distance ORDER BY distance", lambda r: r),
])
def test_order_limit_and_offset__are_right(db, docs, query, tail, pick):
    assert keys(db, SEARCH + "20) " + tail, query.tobytes()) == pick(docs.nearest(query, 20))


def test_rows_of_equal_distance__come_in_the_order_of_their_keys(db, docs, query):
    twin = docs.vectors[docs.nearest(query, 1)[0]].tobytes()
    fill(db, "INSERT INTO docs VALUES (?, 'en', 2000, ?)",
         [(key, twin) for key in (5000, 2, 800)])
    got = keys(db, SEARCH + "4)", query.tobytes())
    assert got == sorted(got) and {2, 800, 5000} < set(got)
    assert keys(db, "SELECT count(*) FROM (SELECT DISTINCT distance FROM"
                    " annex_search('docs_idx', ?, 4))", query.tobytes()) == [1]


def test_aggregates_and_compound_selects__see_all_rows(db, docs, query):
    assert keys(db, "SELECT count(*) FROM annex_search('docs_idx', ?, 20)", query.tobytes()) == [20]
    groups = dict(db.execute(
        "SELECT d.lang, count(*) FROM annex_search('docs_idx', ?, 40) AS s JOIN docs AS d"
        " ON d.id = s.key GROUP BY d.lang", [query.tobytes()]).fetchall())
    want = [docs.lang(key) for key in docs.nearest(query, 40)]
    assert groups == {lang: want.count(lang) for lang in set(want)}
    sql = (f"SELECT key FROM annex_search('docs_idx', ?1, 5) UNION"
           f" SELECT key FROM annex_search('docs_idx', ?1, 8) LIMIT 100 OFFSET 1")
    assert keys(db, sql, query.tobytes()) == sorted(docs.nearest(query, 8))[1:]


# ---- Views, CTEs, writing statements -------------------------------------------------------------


def test_view_and_cte__can_search(db, docs, query):
    db.execute("CREATE TABLE current(query BLOB)")
    db.execute("INSERT INTO current VALUES (?)", [query.tobytes()])
    db.execute("CREATE VIEW similar AS SELECT s.key, s.distance, d.lang FROM current AS c,"
               " annex_search('docs_idx', c.query, 6) AS s JOIN docs AS d ON d.id = s.key")
    assert keys(db, "SELECT key FROM similar ORDER BY distance") == docs.nearest(query, 6)
    sql = ("WITH near AS MATERIALIZED (SELECT key, distance FROM annex_search('docs_idx', ?, 6))"
           " SELECT key FROM near WHERE distance > 0 ORDER BY distance")
    assert keys(db, sql, query.tobytes()) == docs.nearest(query, 6)


def test_statement_that_writes__may_search(db, docs, query):
    db.execute("CREATE TABLE hits(id INTEGER PRIMARY KEY, distance REAL)")
    db.execute("INSERT INTO hits SELECT key, distance FROM annex_search('docs_idx', ?, 5)",
               [query.tobytes()])
    assert keys(db, "SELECT id FROM hits ORDER BY distance") == docs.nearest(query, 5)
    db.execute("UPDATE docs SET lang = 'xx' WHERE id IN"
               " (SELECT key FROM annex_search('docs_idx', ?, 5))", [query.tobytes()])
    changed = keys(db, "SELECT id FROM docs WHERE lang = 'xx'")
    assert sorted(changed) == sorted(docs.nearest(query, 5))
    db.execute("DELETE FROM docs WHERE id IN (SELECT key FROM annex_search('docs_idx', ?, 5))",
               [query.tobytes()])
    assert keys(db, SEARCH + "5)", query.tobytes()) == docs.nearest(query, 10)[5:]


# ---- Plans ---------------------------------------------------------------------------------------


def test_plan__says_what_the_search_does(db, docs, query):
    blob = query.tobytes()
    assert "annex_search k nearest" in plan(db, SEARCH + "10)", blob)
    assert "key filter" not in plan(db, SEARCH + "10) WHERE key = 5", blob)
    filtered = SEARCH + "10) WHERE key IN (SELECT id FROM docs)"
    assert "annex_search k nearest, key filter" in plan(db, filtered, blob)
    within = "SELECT key FROM annex_within('docs_idx', ?, 1) WHERE key IN (1, 2)"
    assert "annex_within distance, key filter" in plan(db, within, blob)


def test_plan_of_a_join__searches_once_and_looks_rows_up(db, docs, query):
    sql = ("SELECT d.id FROM docs AS d JOIN annex_search('docs_idx', ?, 10) AS s ON d.id = s.key"
           " ORDER BY s.distance")
    steps = plan(db, sql, query.tobytes())
    assert steps.index("annex_search") < steps.index("SEARCH d USING INTEGER PRIMARY KEY")
    assert "TEMP B-TREE" not in steps


def test_plan_column__says_how_the_answer_was_found(db, docs, query):
    (text,) = keys(db, "SELECT plan FROM annex_search('docs_idx', ?, 1)", query.tobytes())
    assert text.startswith("flat")
