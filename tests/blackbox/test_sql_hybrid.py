"""annex_hybrid: search by vector and by words, fused by reciprocal rank, against a model in Python
that takes both lists from SQL and numpy and fuses them by the formula."""

import json
import random
import sqlite3

import pytest

from sql_model import DIMENSION, Docs, fill, keys

WORDS = ("apple banana cherry date elder fig grape hazel iris jasmine kiwi lemon mango nectar olive"
         " peach quince rose sage thyme").split()
HYBRID = "SELECT key FROM annex_hybrid('docs_idx', ?, 'docs_fts', ?, "


class Library(Docs):
    """docs with a body of words each, and docs_fts over them."""

    def __init__(self, db, n=600, fts="fts5(body)", schema="main", **options):
        super().__init__(db, n, schema=schema, **options)
        rng = random.Random(5)
        self.bodies = {3 * i + 1: " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))
                       for i in range(n)}
        db.execute(f"ALTER TABLE {self.table} ADD COLUMN body TEXT")
        fill(db, f"UPDATE {self.table} SET body = ?2 WHERE id = ?1", self.bodies.items())
        db.execute(f"CREATE VIRTUAL TABLE {schema}.docs_fts USING {fts}")
        db.execute(f"INSERT INTO {schema}.docs_fts(rowid, body) SELECT id, body FROM {self.table}")

    def words(self, fts_query, keep=lambda key: True, table="docs_fts"):
        """[(key, bm25)] of all rows that match, best first."""
        found = self.db.execute(f"SELECT rowid, rank FROM {table}(?)", [fts_query]).fetchall()
        return sorted(((key, rank) for key, rank in found if keep(key)),
                      key=lambda pair: (pair[1], pair[0]))

    def hybrid(self, query, fts_query, k=10, weights=(1, 1), rrf_k=60, candidates=100,
               keep=lambda key: True):
        """[(key, score, distance, bm25, vector_rank, text_rank)], best first."""
        depth = max(k, candidates)
        distances = dict(self.distances(query, keep)) if query is not None else {}
        nearest = list(distances)[:depth] if weights[0] else []
        bm25 = dict(self.words(fts_query, keep)) if fts_query else {}
        matching = list(bm25)[:depth] if weights[1] else []
        rows = []
        for key in {*nearest, *matching}:
            score, ranks = 0, []
            for weight, ranking in zip(weights, (nearest, matching)):
                ranks.append(ranking.index(key) + 1 if key in ranking else None)
                score += weight / (rrf_k + ranks[-1]) if ranks[-1] else 0
            rows.append((key, score, distances.get(key),
                         bm25[key] if key in matching else None, *ranks))
        return sorted(rows, key=lambda row: (-row[1], row[0]))[:k]


@pytest.fixture
def db(connect):
    return connect()


@pytest.fixture
def docs(db):
    return Library(db).create_index()


@pytest.fixture
def query(docs):
    return docs.query(0)


ALL = ("SELECT key, score, distance, bm25, vector_rank, text_rank"
       " FROM annex_hybrid('docs_idx', ?, 'docs_fts', ?, ?, ?)")


def check(db, docs, query, fts_query, k=10, **options):
    blob = None if query is None else query.tobytes()
    given = {name: list(value) if isinstance(value, tuple) else value
             for name, value in options.items()}
    got = db.execute(ALL, [blob, fts_query, k, json.dumps(given)]).fetchall()
    want = docs.hybrid(query, fts_query, k, **options)
    assert [row[0] for row in got] == [row[0] for row in want]
    assert got == [pytest.approx(row, rel=1e-5) for row in want]


# ---- The answer ----------------------------------------------------------------------------------


@pytest.mark.isa
@pytest.mark.parametrize("seed, fts_query", enumerate(
    ["apple", "banana OR cherry", "kiwi AND lemon", "NEAR(rose sage)", "nothing", "a*"]))
def test_hybrid__is_the_fusion_of_both_lists(db, docs, seed, fts_query):
    check(db, docs, docs.query(seed), fts_query)


@pytest.mark.parametrize("options", [
    {"weights": (1, 0.5)}, {"weights": (0.1, 3)}, {"rrf_k": 0}, {"rrf_k": 1000.5},
    {"candidates": 1}, {"candidates": 20}, {"candidates": 10000}, {"weights": (0, 1)},
    {"weights": (1, 0)}])
@pytest.mark.parametrize("k", [1, 10, 40, 1000])
def test_options__are_those_of_the_formula(db, docs, query, options, k):
    check(db, docs, query, "apple OR fig", k, **options)


def test_null_vector__leaves_the_words(db, docs):
    check(db, docs, None, "apple OR fig", 25)


@pytest.mark.parametrize("fts_query", [None, "", " \n "])
def test_no_words__leave_the_vector(db, docs, query, fts_query):
    rows = db.execute(ALL, [query.tobytes(), fts_query, 25, None]).fetchall()
    assert [row[0] for row in rows] == docs.nearest(query, 25)
    assert [row[4] for row in rows] == list(range(1, 26))
    assert {row[5] for row in rows} == {None} and {row[3] for row in rows} == {None}


def test_neither__gives_no_rows(db, docs):
    assert keys(db, HYBRID + "10)", None, None) == []


def test_query_as_json_and_words_as_a_number__are_understood(db, docs, query):
    db.execute("UPDATE docs_fts SET body = 'room 42' WHERE rowid = 1")
    found = keys(db, HYBRID + "1, '{\"weights\":[0,1]}')", json.dumps(query.tolist()), 42)
    assert found == [1]


def test_columns__are_the_keys_the_score_and_where_it_comes_from(db, docs, query):
    cursor = db.execute("SELECT * FROM annex_hybrid('docs_idx', ?, 'docs_fts', 'fig')",
                        [query.tobytes()])
    assert [column[0] for column in cursor.description] == [
        "key", "key2", "key3", "key4", "score", "distance", "bm25", "vector_rank", "text_rank"]
    assert len(cursor.fetchall()) == 10


def test_hidden_columns__are_the_arguments_and_the_plan(db, docs, query):
    sql = ("SELECT \"index\", query, fts_table, fts_query, k, options, plan FROM annex_hybrid("
           "'docs_idx', ?, 'docs_fts', 'fig', 1, '{\"candidates\":7}')")
    row = db.execute(sql, [query.tobytes()]).fetchone()
    assert row[:6] == ("docs_idx", query.tobytes(), "docs_fts", "fig", 1, '{"candidates":7}')
    assert row[6].startswith("vector: flat") and row[6].endswith("; 7 rows; words: 7 rows")


@pytest.mark.parametrize("k, rows", [("0", 0), ("'12'", 12), ("12.0", 12), ("NULL", 10),
                                     ("9223372036854775807", None)])
def test_k__is_how_many_rows_come_if_there_are_so_many(db, docs, query, k, rows):
    if rows is None:
        rows = len({*docs.vectors} | {key for key, _ in docs.words("apple")})
    assert len(keys(db, HYBRID + k + ")", query.tobytes(), "apple")) == rows


def test_ties__come_in_the_order_of_the_keys(db, docs):
    for key in (901, 31, 301, 4):
        db.execute("UPDATE docs SET embedding = NULL WHERE id = ?", [key])
    db.execute("DELETE FROM docs_fts")
    db.execute("INSERT INTO docs_fts(rowid, body) SELECT id, 'same' FROM docs"
               " WHERE id IN (901, 31, 301, 4)")
    rows = db.execute(ALL, [None, "same", 4, None]).fetchall()
    assert [row[0] for row in rows] == [4, 31, 301, 901]
    assert len({row[3] for row in rows}) == 1


def test_order_by_score__needs_no_sort(db, docs, query):
    sql = HYBRID + "10) ORDER BY score DESC"
    plan = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + sql, [None, None])]
    assert plan == ["SCAN annex_hybrid VIRTUAL TABLE INDEX 63:annex_hybrid k best"] or (
        len(plan) == 1 and "annex_hybrid k best" in plan[0])
    expected = [row[0] for row in docs.hybrid(query, "fig")]
    assert keys(db, sql, query.tobytes(), "fig") == expected
    ascending = keys(db, HYBRID + "10) ORDER BY score, key DESC", query.tobytes(), "fig")
    assert ascending == expected[::-1]


def test_row_without_a_vector__is_found_by_its_words(db, docs, query):
    key = next(key for key in docs.bodies if key not in docs.vectors)
    db.execute("UPDATE docs_fts SET body = 'unicorn' WHERE rowid = ?", [key])
    rows = db.execute(ALL, [query.tobytes(), "unicorn", 1, '{"weights":[1,2]}']).fetchall()
    assert rows[0][0] == key and rows[0][2] is None and rows[0][5] == 1


def test_distance_of_a_row_found_by_words_alone__is_filled_in(db, docs, query):
    far = docs.nearest(query, 1000)[-150:]
    db.execute("DELETE FROM docs_fts")
    fill(db, "INSERT INTO docs_fts(rowid, body) VALUES (?, 'far')", [(key,) for key in far])
    rows = db.execute(ALL, [query.tobytes(), "far", 150, '{"weights":[0,1]}']).fetchall()
    distances = dict(docs.distances(query))
    assert sorted(row[0] for row in rows) == sorted(far)
    assert {row[0]: row[2] for row in rows} == pytest.approx(
        {key: distances[key] for key in far}, rel=1e-5)


def test_search_options__reach_the_search_by_vector(db, docs, query):
    plan = db.execute("SELECT plan FROM annex_hybrid('docs_idx', ?, 'docs_fts', 'fig', 1, ?)",
                      [query.tobytes(), '{"effort":"exact","weights":[1,2]}']).fetchone()[0]
    assert "effort=exact" in plan


def test_search_that_was_cut__says_so(db, docs, query):
    sql = "SELECT DISTINCT complete FROM annex_hybrid('docs_idx', ?, 'docs_fts', 'fig', 5, ?)"
    assert keys(db, sql, query.tobytes(), None) == [1]
    assert keys(db, sql, query.tobytes(), '{"max_scan":10,"weights":[1,1]}') == [0]
    assert keys(db, sql, None, None) == [1]


# ---- Filters, joins, many queries ----------------------------------------------------------------


@pytest.mark.parametrize("condition, keep", [
    ("key IN (SELECT id FROM docs WHERE lang = 'de')", lambda key: (key // 3) % 4 == 1),
    ("key IN (4, 7, 10, 13, 601)", lambda key: key in (4, 7, 10, 13, 601)),
    ("key IN (SELECT 0 WHERE 0)", lambda key: False),
    ("key IN (SELECT id FROM docs WHERE id < 900) AND key IN (SELECT id FROM docs WHERE id > 300)",
     lambda key: 300 < key < 900)])
def test_key_in__filters_both_lists_before_they_rank(db, docs, query, condition, keep):
    want = docs.hybrid(query, "apple OR fig", 30, candidates=40, keep=keep)
    got = db.execute(ALL + " WHERE " + condition,
                     [query.tobytes(), "apple OR fig", 30, '{"candidates":40}']).fetchall()
    assert got == [pytest.approx(row, rel=1e-5) for row in want]


def test_other_conditions__apply_to_the_k_rows(db, docs, query):
    want = [row[0] for row in docs.hybrid(query, "fig", 20) if docs.lang(row[0]) == "de"]
    sql = (HYBRID + "20) AS h JOIN docs AS d ON d.id = h.key WHERE d.lang = 'de'"
           " ORDER BY h.score DESC")
    assert keys(db, sql, query.tobytes(), "fig") == want


def test_many_queries__are_one_statement(db, docs):
    db.execute("CREATE TABLE ask(id INTEGER PRIMARY KEY, vector BLOB, words TEXT)")
    asked = [(i, docs.query(i).tobytes() if i % 5 else None, WORDS[i] if i % 4 else None)
             for i in range(20)]
    db.executemany("INSERT INTO ask VALUES (?, ?, ?)", asked)
    got = db.execute("SELECT ask.id, h.key FROM ask, annex_hybrid("
                     "'docs_idx', ask.vector, 'docs_fts', ask.words, 6) AS h").fetchall()
    want = [(i, row[0]) for i, vector, words in asked
            for row in docs.hybrid(docs.query(i) if vector else None, words, 6)]
    assert got == want


def test_view__keeps_a_hybrid_search(db, docs, query):
    db.execute("CREATE VIEW v AS SELECT h.key, h.score FROM docs AS d, annex_hybrid("
               "'docs_idx', d.embedding, 'docs_fts', d.lang || ' OR apple', 3) AS h"
               " WHERE d.id = 4")
    want = docs.hybrid(docs.vectors[4], "de OR apple", 3)
    assert keys(db, "SELECT key FROM v") == [row[0] for row in want]


def test_rows_changed_in_this_transaction__are_seen_by_both_halves(db, docs, query):
    db.execute("BEGIN")
    db.execute("INSERT INTO docs(id, embedding, body) VALUES (5000, ?, 'unicorn')",
               [query.tobytes()])
    db.execute("INSERT INTO docs_fts(rowid, body) VALUES (5000, 'unicorn')")
    row = db.execute(ALL, [query.tobytes(), "unicorn", 1, None]).fetchone()
    assert row == (5000, pytest.approx(2 / 61), 0, row[3], 1, 1)
    db.execute("ROLLBACK")
    assert keys(db, HYBRID + "1)", None, "unicorn") == []


def test_another_connection_writing_in_between__is_not_seen_by_one_half(connect):
    db = connect("docs.db")
    db.execute("PRAGMA journal_mode = wal")
    docs = Library(db).create_index()
    writer = connect("docs.db")
    sql = ("WITH q(i, v) AS (SELECT id, embedding FROM docs WHERE id IN (4, 7))"
           " SELECT q.i, h.key, (SELECT count(*) FROM docs WHERE id = 6000), h.text_rank FROM q,"
           " annex_hybrid('docs_idx', q.v, 'docs_fts', 'unicorn', 3) AS h")
    cursor = db.execute(sql)
    first = cursor.fetchone()
    writer.execute("INSERT INTO docs(id, embedding) VALUES (6000, ?)", [docs.vectors[7].tobytes()])
    writer.execute("INSERT INTO docs_fts(rowid, body) VALUES (6000, 'unicorn')")
    rows = [first, *cursor]
    assert all(row[1] != 6000 and row[2] == 0 and row[3] is None for row in rows)
    assert {row[1] for row in db.execute(sql)} >= {6000}


# ---- Kinds of FTS5 tables and of keys ------------------------------------------------------------


@pytest.mark.parametrize("fts", [
    "fts5(body, content='docs', content_rowid='id')", "fts5(body, content='')",
    "fts5(body, detail=none)", "fts5(body, content='docs', content_rowid=id, prefix='2 3')",
    "\"fts5\"(body)", "FTS5(body, other UNINDEXED, tokenize='porter ascii')"])
def test_fts5_tables_of_every_kind__are_searched(db, fts):
    docs = Library(db, fts=fts).create_index()
    check(db, docs, docs.query(3), "apple OR fig", 25)


def test_rank_function_of_the_table__ranks(db, query=None):
    docs = Library(db, fts="fts5(title, body)").create_index()
    db.execute("UPDATE docs_fts SET title = 'apple' WHERE rowid % 7 = 0")
    db.execute("INSERT INTO docs_fts(docs_fts, rank) VALUES ('rank', 'bm25(10.0, 0.1)')")
    check(db, docs, docs.query(3), "apple", 25)


def test_external_content_behind_its_table__gives_no_rows_that_are_gone(db):
    docs = Library(db, fts="fts5(body, content='docs', content_rowid='id')").create_index()
    gone = [key for key, _ in docs.words("apple")[:3]]
    fill(db, "DELETE FROM docs WHERE id = ?", [(key,) for key in gone])
    rows = db.execute(ALL, [None, "apple", 5, None]).fetchall()
    assert not {row[0] for row in rows} & set(gone)
    assert [row[5] for row in rows] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("index, fts", [
    ("aux.docs_idx", "docs_fts"), ("docs_idx", "aux.docs_fts"), ("AUX.docs_idx", "AUX.Docs_FTS")])
def test_schema__may_be_named_and_is_that_of_the_index_otherwise(db, tmp_path, index, fts):
    db.execute("ATTACH ? AS aux", [str(tmp_path / "aux.db")])
    docs = Library(db, 100, schema="aux")
    db.execute("SELECT annex_create('aux.docs_idx', 'aux.docs', 'embedding')")
    sql = f"SELECT key FROM annex_hybrid('{index}', ?, '{fts}', 'apple OR fig', 5)"
    want = [row[0] for row in docs.hybrid(docs.query(1), "apple OR fig", 5)]
    assert keys(db, sql, docs.query(1).tobytes()) == want


def test_fts5_table_in_temp__goes_with_an_index_in_main(db, docs, query):
    db.execute("CREATE VIRTUAL TABLE temp.mine USING fts5(body)")
    db.execute("INSERT INTO temp.mine(rowid, body) VALUES (40, 'unicorn')")
    sql = "SELECT key, distance FROM annex_hybrid('docs_idx', ?, 'temp.mine', 'unicorn', 1)"
    want = dict(docs.distances(query))[40]
    options = " '{\"weights\":[0,1]}')"
    row = db.execute(sql[:-1] + "," + options, [query.tobytes()]).fetchone()
    assert row == (40, pytest.approx(want, rel=1e-5))


def vector(*elements):
    return json.dumps([*elements] + [0] * (DIMENSION - len(elements)))


def small(db, table, key=None, **options):
    """A table with six rows (a, b, place, body), vectors that point along place, and notes_fts."""
    db.execute(f"CREATE TABLE notes({table})")
    rows = [("x", i % 3, i, word) for i, word in enumerate("red green blue red red pink".split())]
    for a, b, place, body in rows:
        db.execute("INSERT INTO notes(a, b, body, embedding) VALUES (?, ?, ?, ?)",
                   [f"{a}{place}", b, body, vector(place)])
    options = {**options, **({"key": key} if key else {})}
    db.execute("SELECT annex_create('notes_idx', 'notes', 'embedding', ?)", [json.dumps(options)])


def make_fts(db):
    db.execute("CREATE VIRTUAL TABLE notes_fts USING fts5(body)")
    db.execute("INSERT INTO notes_fts(rowid, body) SELECT rowid, body FROM notes")


def test_text_keys__are_reached_through_the_rowid(db):
    small(db, "a TEXT PRIMARY KEY, b INTEGER, body TEXT, embedding")
    make_fts(db)
    rows = db.execute("SELECT key, distance, text_rank FROM annex_hybrid("
                      "'notes_idx', ?, 'notes_fts', 'pink', 3, '{\"candidates\":1}')",
                      [vector(0)]).fetchall()
    assert rows == [("x0", 0, None), ("x5", 5, 1), ("x1", 1, None)]


def test_compound_keys__are_reached_through_the_rowid(db):
    small(db, "a TEXT, b INTEGER, body TEXT, embedding, PRIMARY KEY (b, a)")
    make_fts(db)
    rows = db.execute("SELECT key, key2, distance, text_rank FROM annex_hybrid("
                      "'notes_idx', ?, 'notes_fts', 'pink OR blue', 3, '{\"weights\":[0,1]}')",
                      [vector(0)]).fetchall()
    assert rows == [(2, "x2", 2, 1), (2, "x5", 5, 2)]


def test_key_columns_with_commas_in_their_names__are_told_apart(db):
    small(db, 'a TEXT, b INTEGER, body TEXT, embedding, PRIMARY KEY (b, a)')
    make_fts(db)
    db.execute('ALTER TABLE notes RENAME COLUMN a TO "a, b"')
    rows = db.execute("SELECT key, key2, distance, text_rank FROM annex_hybrid("
                      "'main.notes_idx', ?, 'notes_fts', 'pink', 3, '{\"weights\":[0,1]}')",
                      [vector(0)]).fetchall()
    assert rows == [(2, "x5", 5, 1)]


def test_columns_that_take_the_names_of_the_rowid__do_not_confuse(db):
    small(db, "rowid TEXT, _rowid_ TEXT, a TEXT PRIMARY KEY, b, body TEXT, embedding")
    db.execute("CREATE VIRTUAL TABLE notes_fts USING fts5(body)")
    db.execute("INSERT INTO notes_fts(rowid, body) SELECT oid, body FROM notes")
    sql = "SELECT key FROM annex_hybrid('notes_idx', NULL, 'notes_fts', 'pink')"
    assert keys(db, sql) == ["x5"]


def test_key_in_a_column_of_the_fts5_table__needs_no_rowid(db):
    small(db, "a TEXT PRIMARY KEY, b, body TEXT, embedding) WITHOUT ROWID --")
    db.execute("CREATE VIRTUAL TABLE notes_fts USING fts5(name UNINDEXED, body)")
    db.execute("INSERT INTO notes_fts(name, body) SELECT a, body FROM notes ORDER BY a DESC")
    sql = ("SELECT key, distance FROM annex_hybrid('notes_idx', ?, 'notes_fts', 'pink', 1,"
           " '{\"fts_key\":\"name\",\"weights\":[0,1]}')")
    assert db.execute(sql, [vector(0)]).fetchall() == [("x5", 5)]


def test_many_texts_of_one_key__count_once_by_the_best(db):
    small(db, "a TEXT, b INTEGER, body TEXT, embedding, PRIMARY KEY (b, a)) WITHOUT ROWID --")
    db.execute("CREATE VIRTUAL TABLE notes_fts USING fts5(body, n UNINDEXED, name UNINDEXED)")
    db.executemany("INSERT INTO notes_fts VALUES (?, ?, ?)", [
        ("pink and much else", 2, "x5"), ("pink", 2, "x5"), ("a pink one", 0, "x3"),
        ("so pink it is", 2, "x5"), ("pink of nobody", 9, "x9")])
    rows = db.execute("SELECT key, key2, text_rank, distance FROM annex_hybrid('notes_idx', ?,"
                      " 'notes_fts', 'pink', 5, '{\"fts_key\":[\"n\",\"name\"],\"weights\":[0,1]}'"
                      ")", [vector(0)]).fetchall()
    assert rows == [(2, "x5", 1, 5), (0, "x3", 2, 3)]


def test_condition_of_the_index__holds_for_the_words_too(db):
    small(db, "a TEXT PRIMARY KEY, b INTEGER, body TEXT, embedding",
          where="b < 2 AND body <> 'pink' -- a comment")
    make_fts(db)
    sql = "SELECT key, distance FROM annex_hybrid('notes_idx', ?, 'notes_fts', 'red OR pink')"
    found = dict(db.execute(sql, [vector(0)]).fetchall())
    assert found == {"x0": 0, "x1": 1, "x3": 3, "x4": 4}


# ---- What goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, sentence", [
    ("'docs_idx', '[1]', 'docs_fts'", "needs an index, a vector, an FTS5 table and words"),
    ("'docs_idx', ?, 'docs', 'fig'", "docs is not an FTS5 table; make one over the rows of docs"),
    ("'docs_idx', ?, 'old_fts', 'fig'", "old_fts is not an FTS5 table"),
    ("'docs_idx', ?, 'no_fts', 'fig'", "there is no table no_fts in schema main"),
    ("'docs_idx', ?, 'temp.no_fts', 'fig'", "there is no table no_fts in schema temp"),
    ("'no_idx', ?, 'docs_fts', 'fig'", "there is no index no_idx; annex_indexes lists"),
    ("'docs_idx', ?, NULL, 'fig'", "name of the FTS5 table must be text, not NULL"),
    ("'docs_idx', ?, 'docs_fts', x'66'", "the full-text query must be text, not a blob"),
    ("'docs_idx', ?, 'docs_fts', 'fig*)'",
     "FTS5 cannot search docs_fts: fts5: syntax error near \")\"; words in double quotes"),
    ("'docs_idx', ?, 'docs_fts', 'nocolumn:fig'",
     "FTS5 cannot search docs_fts: no such column: nocolumn"),
    ("'docs_idx', '[1,2]', 'docs_fts', 'fig'", "the query does not fit the index"),
    ("'docs_idx', ?, 'docs_fts', 'fig', -1", "k is -1; it is the number of rows wanted"),
    ("'docs_idx', ?, 'docs_fts', 'fig', 1.5", "k is 1.5; it is the number of rows wanted"),
    ("'docs_idx', ?, 'docs_fts', 'fig', 'many'", "k is not a number"),
    ("'docs_idx', ?, 'docs_fts', 'fig', 5, 7", "the options must be text, not an integer"),
    ("'docs_idx', ?, 'docs_fts', 'fig', 5, '[]'", "options of annex_hybrid are not a JSON object"),
    ("'docs_idx', ?, 'docs_fts', 'fig', 5, '{'", "options of annex_hybrid are not a JSON object"),
    *(("'docs_idx', ?, 'docs_fts', 'fig', 5, '" + options + "'", sentence)
      for options, sentence in [
          ('{"weights":[1]}', "weights of annex_hybrid must be two numbers"),
          ('{"weights":[1,2,3]}', "weights of annex_hybrid must be two numbers"),
          ('{"weights":[1,-1]}', "weights of annex_hybrid must be two numbers"),
          ('{"weights":[0,0]}', "weights of annex_hybrid must be two numbers"),
          ('{"weights":["a",1]}', "weights of annex_hybrid must be two numbers"),
          ('{"weights":null}', "weights of annex_hybrid must be two numbers"),
          ('{"rrf_k":-1}', "rrf_k must be a number, 0 or more"),
          ('{"rrf_k":"60"}', "rrf_k must be a number, 0 or more"),
          ('{"candidates":0}', "candidates must be an integer, 1 or more"),
          ('{"candidates":1.5}', "candidates must be an integer, 1 or more"),
          ('{"fts_key":1}', "fts_key must be the name of a column"),
          ('{"fts_key":["a","b"]}', "fts_key names 2 columns, and the key of the index has 1"),
          ('{"fts_key":"nope"}', "docs and docs_fts cannot be searched together: no such column"),
          ('{"group":"lang"}', "annex_hybrid has no option group"),
          ('{"mmr":0.5}', "annex_hybrid has no option mmr"),
          ('{"nonsense":1}', "nonsense")])])
def test_mistake__is_named_in_a_sentence(db, docs, query, arguments, sentence):
    db.execute("CREATE VIRTUAL TABLE old_fts USING fts4(body)")
    values = [query.tobytes()] if "?" in arguments else []
    with pytest.raises(sqlite3.OperationalError) as raised:
        db.execute(f"SELECT key FROM annex_hybrid({arguments})", values).fetchall()
    assert sentence in str(raised.value)


def test_table_without_rowid__is_told_about_fts_key(db):
    small(db, "a TEXT PRIMARY KEY, b, body TEXT, embedding) WITHOUT ROWID --")
    db.execute("CREATE VIRTUAL TABLE notes_fts USING fts5(body)")
    with pytest.raises(sqlite3.OperationalError) as raised:
        db.execute("SELECT key FROM annex_hybrid('notes_idx', NULL, 'notes_fts', 'red')")
    assert 'table notes has no rowid' in str(raised.value)
    assert '{"fts_key": "a"}' in str(raised.value)


def test_interrupt__ends_the_search_by_words(db):
    docs = Library(db, 3000).create_index()
    db.set_progress_handler(lambda: 1, 20000)
    with pytest.raises(sqlite3.OperationalError, match="interrupt"):
        sql = "SELECT count(*) FROM docs AS d, annex_hybrid('docs_idx', d.embedding, ?, ?, 5)"
        db.execute(sql, ["docs_fts", " OR ".join(WORDS)]).fetchall()
    db.set_progress_handler(None, 0)
    check(db, docs, docs.query(1), "fig")
