"""Searching by SQL: annex_search, annex_within and annex_indexes against brute force in numpy, in
joins, with filters, LIMIT and OFFSET, many queries, views and plans. What goes wrong is in
test_sql_errors.py, the vector functions in test_sql_vectors.py."""

import json
import os
import shutil
import sqlite3

import numpy
import pytest

from conftest import EXTENSION
from sql_model import DIMENSION, Docs


@pytest.fixture
def db(connect):
    return connect("docs.db")


@pytest.fixture
def docs(db):
    docs = Docs(db)
    db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding', '{\"metric\":\"l2\"}')")
    return docs


@pytest.fixture
def query(docs):
    return docs.query(0)


def keys(db, sql, *arguments):
    return [row[0] for row in db.execute(sql, arguments)]


def plan(db, sql, *arguments):
    return " / ".join(row[3] for row in db.execute("EXPLAIN QUERY PLAN " + sql, arguments))


SEARCH = "SELECT key FROM annex_search('docs_idx', ?, "


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
    assert [column[0] for column in cursor.description] == ["key", "key2", "key3", "key4", "distance"]
    row = cursor.fetchone()
    assert row[0] == docs.nearest(query, 1)[0] and row[1:4] == (None, None, None)


def test_query_as_json__is_the_same_as_a_blob(db, docs, query):
    assert keys(db, SEARCH + "10)", json.dumps(query.tolist())) == docs.nearest(query)


def test_arguments_left_out__are_ten_rows_and_no_options(db, docs, query):
    sql = "SELECT key FROM annex_search('docs_idx', ?)"
    assert keys(db, sql, query.tobytes()) == docs.nearest(query, 10)
    assert keys(db, SEARCH + "NULL, NULL)", query.tobytes()) == docs.nearest(query, 10)
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


# ---- key IN (…): a filter before the search ---------------------------------------------------------


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
    assert keys(db, SEARCH + "10) WHERE key IN (SELECT id FROM docs WHERE 0)", query.tobytes()) == []
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


# ---- Other conditions: on the k nearest -----------------------------------------------------------


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
    either = keys(db, SEARCH + "10) WHERE key = ? OR distance < ?", query.tobytes(), want[8][0], limit)
    assert either == [key for key, _ in want[:6]] + [want[8][0]]


# ---- Joins -----------------------------------------------------------------------------------------


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
    db.executemany("INSERT INTO queries VALUES (?, ?, ?)",
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
    db.executemany("INSERT INTO queries VALUES (?)", [(docs.query(i).tobytes(),) for i in range(8)])
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


# ---- ORDER BY, LIMIT, OFFSET, grouping ---------------------------------------------------------------


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
    db.executemany("INSERT INTO docs VALUES (?, 'en', 2000, ?)", [(key, twin) for key in (5000, 2, 800)])
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


# ---- Views, CTEs, writing statements ---------------------------------------------------------------


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
    assert sorted(keys(db, "SELECT id FROM docs WHERE lang = 'xx'")) == sorted(docs.nearest(query, 5))
    db.execute("DELETE FROM docs WHERE id IN (SELECT key FROM annex_search('docs_idx', ?, 5))",
               [query.tobytes()])
    assert keys(db, SEARCH + "5)", query.tobytes()) == docs.nearest(query, 10)[5:]


# ---- Plans -----------------------------------------------------------------------------------------


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
    (text,) = db.execute("SELECT plan FROM annex_search('docs_idx', ?, 1)", [query.tobytes()]).fetchone()
    assert text


# ---- Keys of every kind ------------------------------------------------------------------------------


def test_text_keys__come_back_and_filter(db):
    rng = numpy.random.default_rng(4)
    rows = [(f"k{i:03d}é", rng.standard_normal(DIMENSION).astype("<f4").tobytes()) for i in range(60)]
    db.execute("CREATE TABLE notes(name TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID")
    db.executemany("INSERT INTO notes VALUES (?, ?)", rows)
    db.execute("SELECT annex_create('notes_idx', 'notes', 'v')")
    sql = "SELECT key FROM annex_search('notes_idx', ?, 1)"
    for name, vector in rows[:10]:
        assert keys(db, sql, vector) == [name]
    some = keys(db, "SELECT key FROM annex_search('notes_idx', ?, 50) WHERE key IN"
                    " ('k003é', 'k051é', 'nothing', 7)", rows[0][1])
    assert sorted(some) == ["k003é", "k051é"]
    joined = ("SELECT n.name FROM annex_search('notes_idx', ?, 3) AS s JOIN notes AS n"
              " ON n.name = s.key ORDER BY distance LIMIT 1")
    assert keys(db, joined, rows[7][1]) == [rows[7][0]]
    assert keys(db, "SELECT annex_vector('notes_idx', 'k007é')") == [rows[7][1]]


def test_compound_keys__come_back_as_key_and_key2(db):
    rng = numpy.random.default_rng(5)
    vectors = {(c, f"doc-{i}"): rng.standard_normal(DIMENSION).astype("<f4")
               for c in range(4) for i in range(15)}
    db.execute("CREATE TABLE chunks(collection INTEGER, id TEXT, v BLOB, PRIMARY KEY(collection, id))")
    db.executemany("INSERT INTO chunks VALUES (?, ?, ?)",
                   [(c, i, v.tobytes()) for (c, i), v in vectors.items()])
    db.execute("SELECT annex_create('chunks_idx', 'chunks', 'v', '{\"key\":[\"collection\",\"id\"]}')")
    query = rng.standard_normal(DIMENSION).astype("<f4")
    order = sorted(vectors, key=lambda key: float(((vectors[key] - query) ** 2).sum()))
    sql = "SELECT key, key2, key3 FROM annex_search('chunks_idx', ?, 20)"
    assert db.execute(sql, [query.tobytes()]).fetchall() == [(*key, None) for key in order[:20]]
    got = db.execute(sql + " WHERE key IN (1, 3)", [query.tobytes()]).fetchall()
    assert got == [(*key, None) for key in order if key[0] in (1, 3)][:20]
    joined = ("SELECT c.collection, c.id FROM annex_search('chunks_idx', ?, 20) AS s JOIN chunks AS c"
              " ON c.collection = s.key AND c.id = s.key2 ORDER BY s.distance")
    assert db.execute(joined, [query.tobytes()]).fetchall() == order[:20]
    assert keys(db, "SELECT annex_vector('chunks_idx', 2, 'doc-3')") == [vectors[2, "doc-3"].tobytes()]


# ---- Managing indexes --------------------------------------------------------------------------------


def test_create__says_what_was_made(db):
    Docs(db)
    (text,) = db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding',"
                         " '{\"metric\":\"cosine\"}')").fetchone()
    made = json.loads(text)
    assert made["rows"] == 588 and made["dimension"] == DIMENSION and made["metric"] == "cosine"
    assert made["index"] == "flat" and made["recall"] == 1
    (text,) = db.execute("SELECT annex_create('graph_idx', 'docs', 'embedding',"
                         " '{\"index\":\"graph\",\"recall\":0.9}')").fetchone()
    made = json.loads(text)
    assert made["rows"] == 588 and made["index"] == "graph" and 0.9 <= made["recall"] <= 1


def test_renamed_table__keeps_its_index_under_the_new_name(db, docs, query):
    assert keys(db, "SELECT name FROM annex_indexes") == ["docs_idx"]
    db.execute("ALTER TABLE docs RENAME TO papers")
    assert keys(db, "SELECT \"table\" FROM annex_indexes") == ["papers"]
    assert keys(db, SEARCH + "10)", query.tobytes()) == docs.nearest(query)


@pytest.mark.parametrize("damage", ["triggers", "table made anew", "segment", "segments gone"])
def test_index_that_cannot_be_trusted__answers_from_the_table_until_a_sync(db, docs, query, connect,
                                                                           tmp_path, damage):
    gone = docs.nearest(query, 1)[0]
    if damage == "triggers":
        for name in keys(db, "SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
            db.execute(f'DROP TRIGGER "{name}"')
    elif damage == "table made anew":
        db.execute("CREATE TABLE made(id INTEGER PRIMARY KEY, lang TEXT, year INTEGER, embedding BLOB)")
        db.execute("INSERT INTO made SELECT * FROM docs")
        db.execute("DROP TABLE docs")
        db.execute("ALTER TABLE made RENAME TO docs")
    elif damage == "segment":
        db.execute("UPDATE annex_segment SET data = zeroblob(length(data))")
    else:
        db.execute("DELETE FROM annex_segment")
    db.execute("DELETE FROM docs WHERE id = ?", [gone])
    db.close()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    again = connect("docs.db")
    assert keys(again, SEARCH + "10)", query.tobytes()) == docs.nearest(query, 11)[1:]
    with pytest.raises(sqlite3.DatabaseError) as caught:
        again.execute("SELECT annex_check('docs_idx')")
    assert caught.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT
    assert "annex_sync" in str(caught.value)
    assert json.loads(keys(again, "SELECT annex_sync('docs_idx')")[0])["rebuilt"] is True
    assert keys(again, "SELECT annex_check('docs_idx')") == ["ok"]
    assert keys(again, "SELECT state FROM annex_indexes") == ["fresh"]
    assert keys(again, SEARCH + "10)", query.tobytes()) == docs.nearest(query, 11)[1:]


def test_storage_in_a_file__lies_beside_the_database_until_dropped(db, docs, query, tmp_path):
    db.execute("SELECT annex_create('beside', 'docs', 'embedding', '{\"storage\":\"file\"}')")
    assert [path for path in tmp_path.iterdir() if path.name.startswith("docs.db.annex-beside")]
    assert keys(db, "SELECT key FROM annex_search('beside', ?)", query.tobytes()) == docs.nearest(query)
    assert keys(db, "SELECT annex_check('beside')") == ["ok"]
    db.execute("SELECT annex_drop('beside')")
    assert not [path for path in tmp_path.iterdir() if "annex-beside" in path.name]


@pytest.mark.parametrize("format, metric", [("f16", "l2"), ("i8", "ip"), ("u8", "l1"), ("json", "l2"),
                                            ("bits", "hamming"), ("bits", "jaccard")])
def test_columns_of_every_format__are_searched_by_blob_and_by_json(db, format, metric):
    rng = numpy.random.default_rng(8)
    top = 2 if format == "bits" else 100
    rows = [json.dumps(row) for row in rng.integers(0, top, (80, DIMENSION)).tolist()]
    blob = "?2" if format == "json" else f"annex_encode(?2, '{format}')"
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    db.executemany(f"INSERT INTO t VALUES (?1, {blob})", list(enumerate(rows)))
    db.execute("SELECT annex_create('t_idx', 't', 'v', ?)",
               [json.dumps({"metric": metric, "format": format})])
    assert keys(db, "SELECT format FROM annex_indexes") == [format]
    as_blob = "annex_encode(?2)" if format == "json" else blob
    distance = "annex_distance(?1, annex_vector('t_idx', id), annex_vector('t_idx', 5))"
    want = db.execute(f"SELECT id, {distance} FROM t ORDER BY 2, 1 LIMIT 9", [metric]).fetchall()
    for query in (as_blob, "?2", "annex_vector('t_idx', 5)"):
        got = db.execute(f"SELECT key, distance FROM annex_search('t_idx', {query}, 9) WHERE ?1 = ?1"
                         " AND ?2 = ?2", [metric, rows[5]]).fetchall()
        assert got == want


def test_life_of_an_index__from_create_to_drop(db, docs, query):
    insert = "INSERT INTO docs VALUES (100000, 'en', 2020, ?)"
    db.execute(insert, [query.tobytes()])
    assert keys(db, SEARCH + "1)", query.tobytes()) == [100000]
    assert keys(db, "SELECT delta_rows FROM annex_indexes") == [1]
    report = json.loads(keys(db, "SELECT annex_sync('docs_idx')")[0])
    assert report["inserted"] == 1 and report["deleted"] == 0 and report["rebuilt"] is False
    assert keys(db, "SELECT delta_rows FROM annex_indexes") == [0]
    assert keys(db, SEARCH + "1)", query.tobytes()) == [100000]
    db.execute("DELETE FROM docs WHERE id = 100000")
    report = json.loads(keys(db, "SELECT annex_optimize('docs_idx')")[0])
    assert report["segments"] == 1
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]
    assert keys(db, "SELECT annex_rename('docs_idx', 'papers')") == ["papers"]
    assert keys(db, "SELECT key FROM annex_search('papers', ?)", query.tobytes()) == docs.nearest(query)
    assert keys(db, "SELECT annex_drop('papers')") == ["papers"]
    assert keys(db, "SELECT name FROM annex_indexes") == []


def test_indexes__lists_what_is_there(db, docs):
    cursor = db.execute("SELECT * FROM annex_indexes")
    names = [column[0] for column in cursor.description]
    assert names == ["name", "schema", "table", "column", "keys", "where", "metric", "family",
                     "format", "storage", "state", "reason", "options", "dimension", "rows",
                     "delta_rows", "dead_rows", "segments", "bytes", "recall"]
    row = dict(zip(names, cursor.fetchone()))
    assert row["name"] == "docs_idx" and row["schema"] == "main" and row["table"] == "docs"
    assert row["column"] == "embedding" and row["keys"] == "id" and row["where"] == ""
    assert row["metric"] == "l2" and row["format"] == "f32" and row["state"] == "fresh"
    assert row["storage"] == "database" and row["reason"] == ""
    assert json.loads(row["options"]) == {"metric": "l2"}
    assert row["dimension"] == DIMENSION and row["rows"] == 588 and row["delta_rows"] == 0
    assert row["segments"] == 1 and row["bytes"] > 588 * DIMENSION
    assert cursor.fetchone() is None


def test_several_indexes__are_told_apart(db, docs, query):
    db.execute("SELECT annex_create('english', 'docs', 'embedding',"
               " '{\"metric\":\"l2\",\"where\":\"lang = ''en''\"}')")
    assert keys(db, "SELECT name FROM annex_indexes ORDER BY name") == ["docs_idx", "english"]
    want = docs.nearest(query, 10, lambda key: docs.lang(key) == "en")
    assert keys(db, "SELECT key FROM annex_search('english', ?)", query.tobytes()) == want
    sql = ("SELECT i.name, s.key FROM annex_indexes AS i, annex_search(i.name, ?, 1) AS s"
           " ORDER BY i.name")
    assert db.execute(sql, [query.tobytes()]).fetchall() == [
        ("docs_idx", docs.nearest(query, 1)[0]), ("english", want[0])]


def test_vector__is_the_one_in_the_table_now(db, docs):
    blob = docs.vectors[4].tobytes()
    assert keys(db, "SELECT annex_vector('docs_idx', 4)") == [blob]
    assert keys(db, "SELECT annex_vector('docs_idx', 5)") == [None]
    missing = 3 * 49 + 1
    assert keys(db, "SELECT annex_vector('docs_idx', ?)", missing) == [None]
    assert keys(db, "SELECT annex_vector('docs_idx', NULL)") == [None]
    assert keys(db, SEARCH.replace("?", "annex_vector('docs_idx', 4)") + "1)") == [4]


def test_empty_table__is_searched_and_filled(db):
    db.execute("CREATE TABLE empty(id INTEGER PRIMARY KEY, v BLOB)")
    db.execute("SELECT annex_create('empty_idx', 'empty', 'v', '{\"dimension\":2}')")
    sql = "SELECT key FROM annex_search('empty_idx', '[1,2]', 5)"
    assert keys(db, sql) == []
    assert keys(db, "SELECT annex_check('empty_idx')") == ["ok"]
    db.execute("INSERT INTO empty VALUES (9, annex_encode('[1,1]')), (8, NULL)")
    assert keys(db, sql) == [9]


# ---- Several databases and connections ---------------------------------------------------------------


def test_attached_database__has_indexes_of_its_own(db, docs, query, tmp_path):
    db.execute("ATTACH ? AS other", [str(tmp_path / "other.db")])
    other = Docs(db, n=100, seed=2, schema="other")
    db.execute("SELECT annex_create('other.other_idx', 'other.docs', 'embedding', '{\"metric\":\"l2\"}')")
    assert keys(db, "SELECT schema || '.' || name FROM annex_indexes ORDER BY 1") == [
        "main.docs_idx", "other.other_idx"]
    assert keys(db, "SELECT key FROM annex_search('other.other_idx', ?)", query.tobytes()) == (
        other.nearest(query))
    assert keys(db, "SELECT key FROM annex_search('other_idx', ?)", query.tobytes()) == (
        other.nearest(query))
    assert keys(db, SEARCH + "10)", query.tobytes()) == docs.nearest(query)


def test_second_connection__sees_what_is_committed_and_not_more(db, docs, query, connect):
    other = connect("docs.db")
    nearest = docs.nearest(query, 2)
    db.execute("BEGIN")
    db.execute("DELETE FROM docs WHERE id = ?", [nearest[0]])
    assert keys(db, SEARCH + "1)", query.tobytes()) == [nearest[1]]
    assert keys(other, SEARCH + "1)", query.tobytes()) == [nearest[0]]
    db.execute("COMMIT")
    assert keys(other, SEARCH + "1)", query.tobytes()) == [nearest[1]]


def test_wal_reader_in_a_transaction__keeps_its_snapshot(db, connect):
    db.execute("PRAGMA journal_mode = wal")
    docs = Docs(db)
    db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding', '{\"metric\":\"l2\"}')")
    query = docs.query(0)
    nearest = docs.nearest(query, 2)
    reader = connect("docs.db")
    reader.execute("BEGIN")
    assert keys(reader, SEARCH + "1)", query.tobytes()) == [nearest[0]]
    db.execute("DELETE FROM docs WHERE id = ?", [nearest[0]])
    db.execute("SELECT annex_sync('docs_idx')")
    db.execute("SELECT annex_optimize('docs_idx')")
    assert keys(db, SEARCH + "1)", query.tobytes()) == [nearest[1]]
    assert keys(reader, SEARCH + "1)", query.tobytes()) == [nearest[0]]
    reader.execute("COMMIT")
    assert keys(reader, SEARCH + "1)", query.tobytes()) == [nearest[1]]


def test_rollback__takes_an_index_back_too(db, docs):
    db.execute("BEGIN")
    db.execute("SELECT annex_create('again', 'docs', 'embedding')")
    assert keys(db, "SELECT count(*) FROM annex_indexes") == [2]
    db.execute("ROLLBACK")
    assert keys(db, "SELECT name FROM annex_indexes") == ["docs_idx"]
    db.execute("BEGIN")
    db.execute("SELECT annex_drop('docs_idx')")
    db.execute("ROLLBACK")
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]


def test_program_without_annex__reads_and_writes_the_database(db, docs, query, connect):
    plain = connect("docs.db", extension=False)
    plain.execute("PRAGMA trusted_schema = 0")
    plain.execute("INSERT INTO docs VALUES (7000, 'en', 2000, ?)", [query.tobytes()])
    assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert keys(db, SEARCH + "1)", query.tobytes()) == [7000]
    plain.execute("VACUUM")
    plain.execute("DELETE FROM docs WHERE id = 7000")
    assert keys(db, SEARCH + "10)", query.tobytes()) == docs.nearest(query)


def test_connection_closed_with_open_cursors__lets_go_of_every_file(connect, tmp_path):
    """What Annex keeps open in a connection must not keep it alive: its file would stay locked."""
    db = connect("docs.db")
    docs = Docs(db)
    db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding')")
    hits = db.execute(SEARCH + "10)", [docs.query(0).tobytes()])
    indexes = db.execute("SELECT * FROM annex_indexes")
    assert hits.fetchone() is not None and indexes.fetchone() is not None
    db.close()
    del hits, indexes
    for folder in ("/proc/self/fd", "/proc/self/map_files"):
        links = [os.path.join(folder, name) for name in os.listdir(folder)]
        held = [os.readlink(link) for link in links if os.path.lexists(link)]
        assert [path for path in held if path.startswith(str(tmp_path))] == []


def test_extension_loaded_twice__works_as_once(db, docs, query):
    db.enable_load_extension(True)
    db.load_extension(str(EXTENSION))
    db.load_extension(str(EXTENSION))
    assert keys(db, SEARCH + "10)", query.tobytes()) == docs.nearest(query)
