"""The six functions of datasette-faiss: the same text, and what it got wrong put right.

The cases of its own test file are here as SQL, with everything else that its code defines. How
faiss_search stays fresh is in test_faiss_fresh.py."""

import base64
import json
import math
import random
import sqlite3
import struct
import subprocess
import sys

import numpy
import pytest
from conftest import EXTENSION
from faiss_reference import encode, expected, fill, whole_rows
from sql_ask import refusal, value


@pytest.fixture
def db(connect):
    return connect()


# ---- datasette-faiss's own tests -----------------------------------------------------------------


@pytest.fixture
def demo(connect):
    db = connect("demo.db")
    db.executescript("""
        CREATE TABLE documents (id integer primary key, title text);
        CREATE TABLE embeddings (id integer primary key, embedding blob);
        INSERT INTO documents (id, title) VALUES (1, 'First document'), (2, 'Second document');
    """)
    db.execute("INSERT INTO embeddings VALUES (1, ?), (2, ?)",
               (encode([1, 2.5, 3]), encode([4, 5.5, 6])))
    return db


@pytest.mark.parametrize("sql, result", [
    ("faiss_search('demo', 'embeddings', faiss_encode('[1, 2, 3]'), 2)", "[1, 2]"),
    ("faiss_search_with_scores('demo', 'embeddings', faiss_encode('[1, 2, 3]'), 2)",
     "[[1, 0.25], [2, 30.25]]"),
    ("faiss_encode('[1, 2, 3]')", base64.b64decode("AACAPwAAAEAAAEBA")),
    ("faiss_decode(faiss_encode('[1, 2, 3]'))", "[1.0, 2.0, 3.0]"),
])
def test_published_case_of_a_function__gives_the_same(demo, sql, result):
    assert value(demo, sql) == result


@pytest.mark.parametrize("function, embedding, result", [
    ("faiss_agg", "[1, 2, 3]", "[1, 2]"),
    ("faiss_agg", "[4, 5, 6]", "[2, 1]"),
    ("faiss_agg_with_scores", "[1, 2, 3]", "[[1, 0.25], [2, 30.25]]"),
    ("faiss_agg_with_scores", "[4, 5, 6]", "[[2, 0.25], [1, 24.25]]"),
])
def test_published_case_of_an_aggregate__gives_the_same(demo, function, embedding, result):
    sql = f"{function}(id, embedding, faiss_encode(?), 2) FROM embeddings"
    assert value(demo, sql, embedding) == result


def test_examples_of_its_readme__give_what_it_says(db):
    assert value(db, "hex(faiss_encode('[2.4, 4.1, 1.8]'))") == "9A991940333383406666E63F"
    assert value(db, "faiss_decode(X'9A991940333383406666E63F')") == (
        "[2.4000000953674316, 4.099999904632568, 1.7999999523162842]")


def test_readme_query_with_json_each__joins_the_found_rows(demo):
    rows = demo.execute("""
        WITH related AS (
          SELECT value FROM json_each(
            faiss_search('demo', 'embeddings', (SELECT embedding FROM embeddings LIMIT 1), 5)
          )
        )
        SELECT documents.id, title FROM documents, related WHERE id = value
    """).fetchall()
    assert sorted(rows) == [(1, "First document"), (2, "Second document")]


def test_readme_query_with_the_aggregate_over_some_rows__joins_the_found_rows(demo):
    rows = demo.execute("""
        WITH last_rows AS (SELECT id, embedding FROM embeddings ORDER BY id DESC LIMIT 500),
        ids_and_scores AS (
          SELECT faiss_agg_with_scores(
            id, embedding, (SELECT embedding FROM embeddings WHERE id = :id), 10) AS s
          FROM last_rows
        ),
        results AS (
          SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS score
            FROM json_each(ids_and_scores.s), ids_and_scores
        )
        SELECT results.score, documents.id, title FROM results JOIN documents
            ON results.id = documents.id ORDER BY score
    """, {"id": 2}).fetchall()
    assert rows == [(0.0, 2, "Second document"), (27.0, 1, "First document")]


# ---- faiss_encode and faiss_decode ---------------------------------------------------------------


@pytest.mark.parametrize("text, numbers", [
    ("[]", []), (" [ 1 ,\t2 ]\n", [1, 2]), ("[1e39, -1e400]", [math.inf, -math.inf]),
    ("[NaN]", [math.nan]), ("[Infinity, -Infinity]", [math.inf, -math.inf]),
    ("[true, false]", [1, 0]), ("[-0.0, 1E+2, 1e-50]", [-0.0, 100, 0]),
])
def test_encode_of_what_python_reads__is_its_f32(db, text, numbers):
    assert value(db, "faiss_encode(?)", text) == encode(numbers)
    assert value(db, "faiss_encode(?)", text.encode()) == encode(numbers)


def test_encode_of_minus_zero__is_zero_when_it_is_a_whole_number(db):
    assert value(db, "hex(faiss_encode('[-0, -0.0, -0e1]'))") == "000000000000008000000080"


def test_encode__rounds_to_a_double_first_as_python_does(db):
    above_the_middle = "[1.00000005960464477539062500000000001]"
    assert value(db, "faiss_encode(?)", above_the_middle) == encode(json.loads(above_the_middle))


def test_encode_of_many_numbers__is_that_of_python(db):
    rng = random.Random(1)
    for _ in range(50):
        numbers = [f"{rng.choice(['', '-'])}{rng.randrange(10 ** rng.randrange(1, 20))}"
                   f".{rng.randrange(10 ** rng.randrange(1, 20))}e{rng.randrange(-60, 18)}"
                   for _ in range(100)]
        text = "[" + ",".join(numbers) + "]"
        assert value(db, "faiss_encode(?)", text) == encode(json.loads(text))


@pytest.mark.parametrize("text", [
    "", "1", "null", '"ab"', "{}", "[null]", '["1"]', "[[1]]", "[1,]", "[1 2]", "[1]]", "[1", "[",
    "[01]", "[1.]", "[.5]", "[+1]", "[1e]", "[-]", "[-NaN]", "[nan]", "[0x10]", "[1e5.5]", "[tru]",
    "[" + "9" * 400 + "]",
])
def test_encode_of_anything_else__is_refused(db, text):
    assert "faiss_encode: expected" in refusal(db, "faiss_encode(?)", text)
    assert "faiss_encode: expected" in refusal(db, "faiss_encode(?)", text.encode())


def test_encode_of_no_text__is_refused(db):
    for argument in (None, 1, 1.5):
        assert "takes a JSON array" in refusal(db, "faiss_encode(?)", argument)


def test_encode_under_any_locale__reads_a_point(connect):
    script = ("import locale, sqlite3, sys\n"
              "locale.setlocale(locale.LC_ALL, sys.argv[2])\n"
              "db = sqlite3.connect(':memory:')\ndb.enable_load_extension(True)\n"
              "db.load_extension(sys.argv[1])\n"
              "print(db.execute(\"SELECT faiss_decode(faiss_encode('[1.5, 1e-30]'))\")"
              ".fetchone()[0])\n")
    for locale in ("de_DE.UTF-8", "fr_FR.UTF-8", "C"):
        done = subprocess.run([sys.executable, "-c", script, str(EXTENSION), locale],
                              capture_output=True, text=True)
        if "unsupported locale" not in done.stderr:
            assert done.stdout == "[1.5, 1.0000000031710769e-30]\n", done.stderr


def test_decode__writes_floats_as_python_does(db):
    rng = numpy.random.default_rng(2)
    vectors = [rng.integers(0, 2 ** 32, 500, dtype="u4").view("f4") for _ in range(20)]
    vectors += [rng.standard_normal(500).astype("f4"), 2.0 ** numpy.arange(-149, 128)]
    for vector in vectors:
        blob = vector.astype("<f4").tobytes()
        numbers = struct.unpack(f"<{len(vector)}f", blob)
        assert value(db, "faiss_decode(?)", blob) == json.dumps(numbers)


@pytest.mark.parametrize("argument", [None, 5, "abcd", b"abc"])
def test_decode_of_no_blob_of_f32__is_refused(db, argument):
    assert "the argument of faiss_decode" in refusal(db, "faiss_decode(?)", argument)


def test_decode_of_the_empty_blob__is_the_empty_array(db):
    assert value(db, "faiss_decode(x'')") == "[]"


def test_encode_and_decode__may_be_used_in_indexes_and_untrusted_schemas(db):
    fill(db, [(1, [1, 2])])
    db.execute("CREATE INDEX i ON t(faiss_decode(embedding))")
    db.execute("CREATE VIEW v AS SELECT faiss_agg(id, embedding, x'0000803f00000040', 1) FROM t")
    db.execute("PRAGMA trusted_schema = OFF")
    assert value(db, "* FROM v") == "[1]"


# ---- Ids -----------------------------------------------------------------------------------------


def nearest_ids(db, ids):
    """faiss_agg over rows with these ids, which are all as near."""
    db.execute("CREATE TEMP TABLE IF NOT EXISTS ids(n INTEGER PRIMARY KEY, id)")
    db.execute("DELETE FROM ids")
    db.executemany("INSERT INTO ids(id) VALUES (?)", [(i,) for i in ids])
    return value(db, "faiss_agg(id, x'0000803f', x'0000803f', 100000) FROM ids")


def test_ids__keep_their_type(db):
    ids = [1, -2 ** 63, 2 ** 63 - 1, 1.5, "1", "", None]
    assert nearest_ids(db, ids) == json.dumps(ids)


def test_ids_of_text__are_escaped_as_in_python(db):
    ids = ["a\"b\\c/d", "\b\t\n\f\r\x00\x1b\x7f", "\xe9\u20ac\ud7ff\ue000\uffff",
           "\U00010000\U0010ffff"]
    assert nearest_ids(db, ids) == json.dumps(ids)


def test_ids_of_text_in_a_utf16_database__are_the_same(connect):
    db = connect()
    db.execute("PRAGMA encoding = 'UTF-16'")
    fill(db, [("\xe9\U0001f600", [1])], id_type="TEXT")
    for sql in ("faiss_agg(id, embedding, embedding, 1)",
                "faiss_search('main', 't', embedding, 1)"):
        assert value(db, sql + " FROM t") == json.dumps(["\xe9\U0001f600"])


def test_ids_of_doubles__are_the_shortest_text_as_in_python(db):
    rng = random.Random(3)
    ids = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(2000)]
    ids += [2.0 ** k for k in range(-1074, 1024, 3)] + [5e-324 * k for k in range(1, 100)]
    ids += [rng.randrange(10 ** 9) / 10 ** rng.randrange(1, 12) for _ in range(1000)]
    ids += [float(f"1e{k}") for k in range(-12, 24)] + [math.inf, -math.inf, -0.0, 0.1, 2 / 3]
    ids = [i for i in ids if not math.isnan(i)]
    assert nearest_ids(db, ids) == json.dumps(ids)


@pytest.mark.parametrize("id, reason", [
    (b"x", "a blob as id"), ("CAST(x'ff' AS TEXT)", "not valid UTF-8"),
    ("CAST(x'eda080' AS TEXT)", "not valid UTF-8"), ("CAST(x'c080' AS TEXT)", "not valid UTF-8"),
    ("CAST(x'f4908080' AS TEXT)", "not valid UTF-8"), ("CAST(x'e282' AS TEXT)", "not valid UTF-8"),
])
def test_id_that_json_cannot_say__is_refused_when_it_is_found(db, id, reason):
    sql = "?" if isinstance(id, bytes) else id
    arguments = [id] if isinstance(id, bytes) else []
    assert reason in refusal(db, f"faiss_agg({sql}, x'0000803f', x'0000803f', 1)", *arguments)


# ---- The aggregates ------------------------------------------------------------------------------


@pytest.mark.isa
@pytest.mark.parametrize("dimension", [0, 1, 3, 31, 32, 100, 768, 9000])
@pytest.mark.parametrize("n", [1, 2, 300])
def test_aggregate__finds_the_nearest_in_the_order_of_faiss(db, n, dimension):
    rng = numpy.random.default_rng(dimension + n)
    rows = whole_rows(rng, n, dimension)
    fill(db, rows)
    query = rng.integers(-2, 3, dimension)
    for k in {1, 2, 7, n}:
        for function, scores in (("faiss_agg", False), ("faiss_agg_with_scores", True)):
            got = value(db, f"{function}(id, embedding, ?, ?) FROM t", encode(query), k)
            assert got == expected(rows, query, k, scores)


def test_scores_of_any_numbers__are_the_squared_distance_to_the_last_bit(db):
    rng = numpy.random.default_rng(4)
    rows = [(i, v) for i, v in enumerate(rng.standard_normal((200, 384)).astype("f4"))]
    fill(db, rows)
    got = value(db, "faiss_agg_with_scores(id, embedding, ?, 200) FROM t", encode(rows[3][1]))
    assert got == expected(rows, rows[3][1], 200)


def test_aggregate_with_more_k_than_rows__gives_the_rows_there_are(db):
    fill(db, [(1, [1, 2]), (2, [3, 4])])
    for k in (3, 2 ** 40, 2 ** 63 - 1):
        got = value(db, "faiss_agg_with_scores(id, embedding, ?, ?) FROM t", encode([1, 2]), k)
        assert got == "[[1, 0.0], [2, 8.0]]"


@pytest.mark.parametrize("k", [0, -1, "2", 2.0, None, b"2"])
def test_k_that_is_no_integer_from_1_on__is_refused(db, k):
    fill(db, [(1, [1, 2])])
    for sql in ("faiss_agg(id, embedding, ?, ?) FROM t", "faiss_search('main', 't', ?, ?)"):
        assert "k must be an integer from 1 on, not" in refusal(db, sql, encode([1, 2]), k)


def test_aggregate_over_no_rows__is_null(db):
    fill(db, [])
    assert value(db, "faiss_agg(id, embedding, NULL, 0) FROM t") is None
    assert value(db, "faiss_agg_with_scores(id, embedding, x'', 1) FROM t") is None


def test_aggregate_in_groups__answers_for_each(db):
    fill(db, [(i, [i]) for i in range(1000)])
    rows = db.execute("SELECT id % 3 AS part, faiss_agg(id, embedding, ?, 3) FROM t GROUP BY part",
                      (encode([500]),)).fetchall()
    assert rows == [(0, "[501, 498, 504]"), (1, "[499, 502, 496]"), (2, "[500, 497, 503]")]


def test_query_and_k__are_those_of_the_first_row(db):
    fill(db, [(1, [1]), (2, [2]), (3, [3])])
    got = value(db, "faiss_agg(id, embedding, CASE id WHEN 1 THEN embedding END,"
                    " CASE id WHEN 1 THEN 2 ELSE 'x' END) FROM t")
    assert got == "[1, 2]"


@pytest.mark.parametrize("bad, reason", [
    (None, "the embedding of id 7 must be a blob of f32, as faiss_encode makes it, not NULL"),
    ("[1]", "the embedding of id 7 must be a blob of f32"),
    (encode([1]), "the embedding of id 7 has 1 dimensions, and the one to compare with has 2"),
    (b"12345", "the embedding of id 7 has 5 bytes"),
])
def test_aggregated_row_that_is_no_vector__is_an_error_that_names_it(db, bad, reason):
    fill(db, [(i, [i, i]) for i in range(600)])
    db.execute("UPDATE t SET embedding = ? WHERE id = 7", (bad,))
    assert reason in refusal(db, "faiss_agg(id, embedding, ?, 1) FROM t", encode([1, 2]))


@pytest.mark.parametrize("id, shown", [
    ("NULL", "id NULL must"), ("-1.5", "id -1.5 must"), ("'it''s'", "id 'it's' must"),
    ("x'4142'", "id (a blob) must"), ("CAST(x'41ff42' AS TEXT)", "id 'A...' must"),
    ("printf('%.*c', 100, 'x')", "id '" + "x" * 40 + "...' must"),
    ("'\U0001f600' || printf('%.*c', 39, '\u20ac')",
     "id '\U0001f600" + "\u20ac" * 12 + "...' must"),
])
def test_id_of_any_kind__is_named_in_a_short_sentence(db, id, shown):
    assert shown in refusal(db, f"faiss_agg({id}, NULL, x'00000000', 1)")


@pytest.mark.parametrize("bad", [None, "[1, 2]", 5, b"12345"])
def test_embedding_to_compare_with_that_is_no_vector__is_refused(db, bad):
    fill(db, [(1, [1, 2])])
    assert "the embedding to compare with" in refusal(
        db, "faiss_agg(id, embedding, ?, 1) FROM t", bad)
    assert "the embedding to search for" in refusal(db, "faiss_search('main', 't', ?, 1)", bad)


@pytest.mark.parametrize("sql", [
    "faiss_agg_with_scores(id, embedding, ?, 10) FROM t",
    "faiss_search_with_scores('main', 't', ?, 10)",
])
def test_rows_without_a_finite_distance__are_not_found(db, sql):
    rows = [(1, [math.nan, 2]), (2, [1, 2]), (3, [math.inf, 2]), (4, [3e38, 2]), (5, [1e18, 2]),
            (6, [1e19, 1])]
    fill(db, rows)
    with numpy.errstate(all="ignore"):
        assert value(db, sql, encode([1, 2])) == expected(
            [(i, numpy.array(v, "f4")) for i, v in rows], [1, 2], 10)
    for query in ([math.nan, 2], [math.inf, 2]):
        assert value(db, sql, encode(query)) == "[]"
    assert value(db, sql, encode([1e19, 1])).startswith("[[6, 0.0]")


def test_tiny_distances__are_told_apart(db):
    rows = [(i, numpy.array([i * 1e-22, 0], "f4")) for i in range(600)]
    fill(db, rows)
    for sql in ("faiss_agg_with_scores(id, embedding, ?, 9) FROM t",
                "faiss_search_with_scores('main', 't', ?, 9)"):
        assert value(db, sql, encode(rows[99][1])) == expected(rows, rows[99][1], 9)


def test_aggregate__can_be_interrupted(db):
    fill(db, [(i, [i]) for i in range(2000)])
    db.set_progress_handler(lambda: 1, 1000)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        db.execute("SELECT faiss_agg(a.id, a.embedding, a.embedding, 1) FROM t a, t b").fetchone()


# ---- faiss_search: which database, which table ---------------------------------------------------


def test_database__is_found_by_schema_or_by_the_name_of_its_file(connect, tmp_path):
    db = fill(connect("demo.db"), [(1, [1])])
    db.execute("ATTACH ? AS other", (str(tmp_path / "second.file.sqlite"),))
    fill(db, [(2, [1])], "other.t")
    fill(db, [(3, [1])], "temp.u")
    for name, table, result in [("main", "t", "[1]"), ("MAIN", "T", "[1]"), ("demo", "t", "[1]"),
                                ("other", "t", "[2]"), ("second.file", "t", "[2]"),
                                ("temp", "u", "[3]")]:
        assert value(db, "faiss_search(?, ?, ?, 5)", name, table, encode([1])) == result


@pytest.mark.parametrize("name", ["Demo", "demo.db", "dem", "", "second", "a'b\"c"])
def test_database_of_another_name__is_not_found(connect, name):
    db = fill(connect("demo.db"), [(1, [1])])
    message = refusal(db, "faiss_search(?, 't', ?, 5)", name, encode([1]))
    assert f"there is no database {name}" in message


def test_database_of_two_files_of_one_name__is_ambiguous(connect, tmp_path):
    (tmp_path / "other").mkdir()
    db = fill(connect("demo.db"), [(1, [1])])
    db.execute("ATTACH ? AS b", (str(tmp_path / "other" / "demo.sqlite"),))
    fill(db, [(2, [1])], "b.t")
    message = refusal(db, "faiss_search('demo', 't', ?, 5)", encode([1]))
    assert "ambiguous: the files of main and of b" in message
    assert value(db, "faiss_search('b', 't', ?, 5)", encode([1])) == "[2]"


def test_name_of_a_schema__goes_before_the_name_of_a_file(connect, tmp_path):
    db = fill(connect("demo.db"), [(1, [1])])
    db.execute("ATTACH ? AS demo", (str(tmp_path / "second.db"),))
    fill(db, [(2, [1])], "demo.t")
    assert value(db, "faiss_search('demo', 't', ?, 5)", encode([1])) == "[2]"


def test_unknown_table_or_column__is_refused(db):
    assert "there is no table t in database main" in refusal(
        db, "faiss_search('main', 't', ?, 5)", encode([1]))
    db.execute("CREATE TABLE t(key, embedding)")
    assert "table t cannot be searched: no such column: id; faiss_search reads its columns" in (
        refusal(db, "faiss_search('main', 't', ?, 5)", encode([1])))


@pytest.mark.parametrize("argument", [None, 1, b"t"])
def test_name_that_is_no_text__is_refused(db, argument):
    assert "the name of the table must be text" in refusal(
        db, "faiss_search('main', ?, x'', 5)", argument)


def test_names_with_quotes__are_found(connect, tmp_path):
    db = connect("a'b\"c.db")
    db.execute('ATTACH ? AS "x""y"', (str(tmp_path / "e.db"),))
    fill(db, [(1, [1])], "\"odd'\"\"name\"")
    fill(db, [(2, [1])], '"x""y"."odd\'""name"')
    for database, result in (("a'b\"c", "[1]"), ('x"y', "[2]")):
        assert value(db, "faiss_search(?, ?, ?, 5)", database, "odd'\"name", encode([1])) == result


@pytest.mark.parametrize("declaration", [
    "id INTEGER PRIMARY KEY, embedding", "id TEXT PRIMARY KEY, embedding",
    "n INTEGER PRIMARY KEY DESC, id, embedding", "id PRIMARY KEY, embedding) WITHOUT ROWID",
    "embedding, other, ID",
    "id, source, embedding GENERATED ALWAYS AS (faiss_encode(source)) VIRTUAL",
])
def test_any_kind_of_table__is_searched(db, declaration):
    db.execute("CREATE TABLE t(" + declaration + ("" if "WITHOUT" in declaration else ")"))
    column, wrap = ("source", "faiss_decode(?)") if "source" in declaration else ("embedding", "?")
    for i in (3, 1, 2):
        db.execute(f"INSERT INTO t(id, {column}) VALUES (?, {wrap})", (i, encode([i])))
    for _ in range(2):
        got = json.loads(value(db, "faiss_search('main', 't', ?, 5)", encode([1])))
        assert [int(i) for i in got] == [1, 2, 3]


def test_view_and_virtual_table__are_searched_as_they_are_now(db):
    fill(db, [(i, [i]) for i in range(5)])
    db.execute("CREATE TABLE bound(least)")
    db.execute("INSERT INTO bound VALUES (0)")
    db.execute("CREATE VIEW v AS SELECT * FROM t WHERE id >= (SELECT least FROM bound)")
    db.execute("CREATE TEMP VIEW w AS SELECT * FROM main.t")
    db.execute("CREATE VIRTUAL TABLE f USING fts5(id, embedding, content='t', content_rowid='id')")
    assert value(db, "faiss_search('main', 'v', ?, 2)", encode([0])) == "[0, 1]"
    assert value(db, "faiss_search('temp', 'w', ?, 2)", encode([0])) == "[0, 1]"
    assert value(db, "faiss_search('main', 'f', ?, 2)", encode([0])) == "[0, 1]"
    db.execute("UPDATE bound SET least = 3")
    assert value(db, "faiss_search('main', 'v', ?, 2)", encode([0])) == "[3, 4]"
    db.execute("DELETE FROM t WHERE id = 0")
    assert value(db, "faiss_search('temp', 'w', ?, 2)", encode([0])) == "[1, 2]"
    assert value(db, "faiss_search('main', 'f', ?, 2)", encode([0])) == "[1, 2]"


def test_view_that_searches_itself__is_refused(db):
    db.execute("CREATE VIEW v AS SELECT 1 AS id, faiss_search('main', 'v', x'', 1) AS embedding")
    assert "from inside a call of Annex" in refusal(db, "faiss_search('main', 'v', x'', 1)")


def test_search_in_a_view__needs_a_trusted_schema(db):
    fill(db, [(1, [1])])
    db.execute("CREATE VIEW v AS SELECT faiss_search('main', 't', x'0000803f', 1)")
    assert value(db, "* FROM v") == "[1]"
    db.execute("PRAGMA trusted_schema = OFF")
    assert "unsafe use of faiss_search" in refusal(db, "* FROM v")


# ---- faiss_search: answers -----------------------------------------------------------------------


@pytest.mark.isa
@pytest.mark.parametrize("dimension", [0, 1, 31, 768])
def test_search__finds_the_nearest_in_the_order_of_faiss(db, dimension):
    rng = numpy.random.default_rng(dimension)
    rows = whole_rows(rng, 700, dimension)
    fill(db, rows)
    for k in (1, 5, 700, 2 ** 63 - 1):
        query = rng.integers(-2, 3, dimension)
        for function, scores in (("faiss_search", False), ("faiss_search_with_scores", True)):
            got = value(db, f"{function}('main', 't', ?, ?)", encode(query), k)
            assert got == expected(rows, query, k, scores)


def test_search_in_an_empty_table__finds_nothing(db):
    fill(db, [])
    assert value(db, "faiss_search('main', 't', ?, 5)", encode([1])) == "[]"
    db.execute("INSERT INTO t VALUES (1, NULL)")
    assert value(db, "faiss_search_with_scores('main', 't', ?, 5)", encode([1])) == "[]"


def test_search__passes_over_rows_without_embedding(db):
    fill(db, [(i, [i]) for i in range(5)])
    db.execute("UPDATE t SET embedding = NULL WHERE id % 2 = 0")
    for _ in range(2):
        assert value(db, "faiss_search('main', 't', ?, 5)", encode([0])) == "[1, 3]"


@pytest.mark.parametrize("bad, reason", [
    ("[1]", "the embedding of id 7 must be a blob of f32"),
    (encode([1]), "the embedding of id 7 has 1 dimensions, and those of the rows before have 2"),
    (b"12345", "the embedding of id 7 has 5 bytes"),
])
def test_row_that_is_no_vector__is_an_error_that_names_it(db, bad, reason):
    fill(db, [(i, [i, i]) for i in range(600)])
    db.execute("UPDATE t SET embedding = ? WHERE id = 7", (bad,))
    for _ in range(2):
        assert reason in refusal(db, "faiss_search('main', 't', ?, 1)", encode([1, 2]))
    db.execute("DELETE FROM t WHERE id = 7")
    assert value(db, "faiss_search('main', 't', ?, 1)", encode([1, 2])) == "[1]"


def test_query_of_another_dimension__is_refused(db):
    fill(db, [(1, [1, 2])])
    for _ in range(2):
        assert ("the embedding to search for has 1 dimensions, and those of table t have 2" in
                refusal(db, "faiss_search('main', 't', ?, 1)", encode([1])))
        assert value(db, "faiss_search('main', 't', ?, 1)", encode([1, 2])) == "[1]"


def test_many_searches_in_one_statement__answer_each(db):
    rng = numpy.random.default_rng(6)
    rows = whole_rows(rng, 200, 8)
    fill(db, rows)
    got = db.execute("SELECT id, faiss_search_with_scores('main', 't', embedding, 4) FROM t")
    for (key, text), (_, vector) in zip(got.fetchall(), rows):
        assert text == expected(rows, vector, 4), key
