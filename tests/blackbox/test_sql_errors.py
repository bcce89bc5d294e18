"""SQL that must be refused, and how: one sentence, the right result code, nothing changed. Also the
databases that cannot be written, locks, interrupts, and schemas that are not trusted."""

import json
import sqlite3
import time

import numpy
import pytest

from sql_ask import time_to_interrupt
from sql_model import DIMENSION, Docs, fill, keys


@pytest.fixture
def db(connect):
    return connect("docs.db")


@pytest.fixture
def docs(db):
    return Docs(db).create_index()


def refusal(db, sql, *arguments):
    """The error of a statement: its sentence and its primary result code."""
    with pytest.raises(sqlite3.Error) as caught:
        db.execute(sql, arguments).fetchall()
    sentence = str(caught.value)
    assert sentence and "\n" not in sentence
    return sentence, caught.value.sqlite_errorcode & 0xFF


def schema(db):
    return db.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()


SEARCH = "SELECT key FROM annex_search('docs_idx', ?, 10)"
ZEROS = json.dumps([0] * DIMENSION)


# ---- Arguments of a search -----------------------------------------------------------------------


@pytest.mark.parametrize("sql, sentence", [
    ("annex_search", "needs the name of an index and a query"),
    ("annex_search('docs_idx')", "needs the name of an index and a query"),
    ("annex_within", "needs the name of an index and a query"),
    (f"annex_within('docs_idx', '{ZEROS}')", "needs a distance"),
    (f"annex_search('nothing', '{ZEROS}')", "nothing"),
    (f"annex_search(NULL, '{ZEROS}')", "name of the index must be text, not NULL"),
    (f"annex_search(7, '{ZEROS}')", "name of the index must be text, not an integer"),
    (f"annex_search('docs_idx', '{ZEROS}', -1)", "k is -1"),
    (f"annex_search('docs_idx', '{ZEROS}', 1.5)", "k is 1.5"),
    (f"annex_search('docs_idx', '{ZEROS}', -9e999)", "k is -inf"),
    (f"annex_search('docs_idx', '{ZEROS}', 'ten')", "k is not a number"),
    (f"annex_search('docs_idx', '{ZEROS}', x'01')", "k is not a number"),
    (f"annex_within('docs_idx', '{ZEROS}', 'far')", "not a number"),
    (f"annex_search('docs_idx', '{ZEROS}', 10, 64)", "options must be text, not an integer"),
    (f"annex_search('docs_idx', '{ZEROS}', 10, 'exact')", "JSON"),
    (f"annex_search('docs_idx', '{ZEROS}', 10, '[]')", "JSON object"),
    (f"annex_search('docs_idx', '{ZEROS}', 10, '{{\"efort\":64}}')", "efort"),
    (f"annex_search('docs_idx', '{ZEROS}', 10, '{{\"effort\":\"much\"}}')", "effort"),
    (f"annex_search('docs_idx', '{ZEROS}', 10, '{{\"effort\":-1}}')", "effort"),
    (f"annex_search('docs_idx', '{ZEROS}', 10, '{{\"recall\":1.5}}')", "recall"),
    (f"annex_search('docs_idx', '{ZEROS}', 10, '{{\"effort\":9,\"recall\":0.9}}')", "effort"),
    ("annex_search('docs_idx', 5)", "query"),
    ("annex_search('docs_idx', 1.5)", "query"),
    ("annex_search('docs_idx', '[1,2]')", f"{DIMENSION}"),
    ("annex_search('docs_idx', x'0000803f')", f"{DIMENSION}"),
    ("annex_search('docs_idx', x'00008')", "unrecognized token"),
    ("annex_search('docs_idx', x'000080')", "3"),
    ("annex_search('docs_idx', x'')", f"{DIMENSION}"),
    ("annex_search('docs_idx', '')", "JSON array"),
    ("annex_search('docs_idx', '{}')", "JSON array"),
    ("annex_search('docs_idx', '[[1]]')", "element 0"),
    ("annex_search('docs_idx', '[1,NaN]')", "element 1"),
    ("annex_search('docs_idx', '[1,null]')", "element 1"),
])
def test_bad_argument_of_a_search__is_refused_in_one_sentence(db, docs, sql, sentence):
    text, code = refusal(db, "SELECT * FROM " + sql)
    assert sentence in text and code == sqlite3.SQLITE_ERROR
    assert len(keys(db, SEARCH, ZEROS)) == 10


@pytest.mark.parametrize("element", [numpy.nan, numpy.inf, -numpy.inf])
def test_query_that_is_not_finite__is_refused_with_the_element(db, docs, element):
    query = docs.query(0)
    query[5] = element
    text, _ = refusal(db, SEARCH, query.tobytes())
    assert "element 5" in text or "5" in text.split()


def test_zero_query_under_cosine__is_refused(db, docs):
    db.execute("SELECT annex_create('angles', 'docs', 'embedding', '{\"metric\":\"cosine\"}')")
    text, _ = refusal(db, "SELECT * FROM annex_search('angles', ?)", ZEROS)
    assert "zero" in text


def test_error_in_the_middle_of_a_statement__names_the_query_and_spares_the_connection(db, docs):
    db.execute("CREATE TABLE queries(v)")
    fill(db, "INSERT INTO queries VALUES (?)", [(ZEROS,), ("[1,2]",), (ZEROS,)])
    sql = "SELECT key FROM queries AS q, annex_search('docs_idx', q.v, 2)"
    text, _ = refusal(db, sql)
    assert str(DIMENSION) in text
    db.execute("DELETE FROM queries WHERE v = '[1,2]'")
    assert len(keys(db, sql)) == 4


# ---- Arguments of the functions ------------------------------------------------------------------


@pytest.mark.parametrize("sql, sentence", [
    ("annex_create('docs_idx', 'docs', 'embedding')", "docs_idx"),
    ("annex_create('x', 'nothing', 'embedding')", "nothing"),
    ("annex_create('x', 'docs', 'nothing')", "nothing"),
    ("annex_create('x', 'docs', 'lang')", "lang"),
    ("annex_create('x', 'docs', 'year')", "year"),
    ("annex_create('', 'docs', 'embedding')", "name"),
    ("annex_create(NULL, 'docs', 'embedding')", "name of the index must be text"),
    ("annex_create('x', 'docs', NULL)", "name of the column must be text"),
    ("annex_create('x', 1.5, 'embedding')", "name of the table must be text, not a number"),
    ("annex_create(x'78', 'docs', 'embedding')", "must be text, not a blob"),
    ("annex_create('x', 'docs', 'embedding', 5)", "options must be text"),
    ("annex_create('x' || char(0) || 'y', 'docs', 'embedding')", "zero byte"),
    ("annex_create('x', 'docs', 'embedding', '{')", "JSON"),
    ("annex_create('x', 'docs', 'embedding', '[]')", "JSON object"),
    ("annex_create('x', 'docs', 'embedding', '{\"metrik\":\"l2\"}')", "metric"),
    ("annex_create('x', 'docs', 'embedding', '{\"metric\":\"l5\"}')", "l5"),
    ("annex_create('x', 'docs', 'embedding', '{\"metric\":[\"l2\"]}')", "metric"),
    ("annex_create('x', 'docs', 'embedding', '{\"recall\":2}')", "recall"),
    ("annex_create('x', 'docs', 'embedding', '{\"index\":\"tree\"}')", "index"),
    ("annex_create('x', 'docs', 'embedding', '{\"storage\":\"tape\"}')", "storage"),
    ("annex_create('x', 'docs', 'embedding', '{\"format\":\"f8\"}')", "f8"),
    ("annex_create('x', 'docs', 'embedding', '{\"key\":\"nothing\"}')", "nothing"),
    ("annex_create('x', 'docs', 'embedding', '{\"key\":\"lang\"}')", "lang"),
    ("annex_create('x', 'docs', 'embedding', '{\"where\":\"no such syntax\"}')",
     "the condition (no such syntax) does not work"),
    ("annex_create('x', 'docs', 'embedding', '{\"where\":\"colour = 1\"}')",
     "the condition (colour = 1) does not work: SQLite: no such column: colour"),
    ("annex_create('x', 'docs', 'embedding', '{\"where\":\"1); DROP TABLE docs --\"}')", "one SQL"),
    ("annex_create('x', 'docs', 'embedding', '{\"where\":\"1) --\"}')", ""),
    ("annex_create('x', 'docs', 'embedding', '{\"dimension\":17}')", "17"),
    ("annex_create('x', 'sqlite_schema', 'sql')", ""),
    ("annex_create('x', 'lively', 'embedding')", ""),
    ("annex_sync('nothing')", "nothing"),
    ("annex_optimize('nothing')", "nothing"),
    ("annex_check('nothing')", "nothing"),
    ("annex_drop('nothing')", "nothing"),
    ("annex_drop(NULL)", "name of the index must be text, not NULL"),
    ("annex_rename('nothing', 'x')", "nothing"),
    ("annex_rename('docs_idx', 'taken')", "taken"),
    ("annex_rename('docs_idx', '')", "name"),
    ("annex_vector('nothing', 1)", "nothing"),
    ("annex_vector('docs_idx', 1, 2)", "key"),
    ("annex_vector('docs_idx')", "wrong number of arguments"),
    ("annex_sync()", "wrong number of arguments"),
])
def test_bad_argument_of_a_function__is_refused_and_changes_nothing(db, docs, sql, sentence):
    db.execute("SELECT annex_create('taken', 'docs', 'embedding')")
    db.execute("CREATE VIEW lively AS SELECT * FROM docs")
    before = schema(db), db.execute("SELECT * FROM annex_indexes").fetchall()
    text, code = refusal(db, "SELECT " + sql)
    assert sentence in text and code == sqlite3.SQLITE_ERROR
    assert (schema(db), db.execute("SELECT * FROM annex_indexes").fetchall()) == before
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]


@pytest.mark.parametrize("value, what", [
    ("x'0000803f'", "another dimension"),
    ("x'000080'", "a truncated blob"),
    ("'[1,2'", "broken JSON"),
    ("5", "a number"),
    ("annex_encode('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]') || x'0000c07f'", "a NaN"),
])
def test_row_that_holds_no_vector__is_named_by_create(db, docs, value, what):
    db.execute(f"INSERT INTO docs VALUES (4242, 'en', 2000, CAST({value} AS BLOB))"
               if "||" in value else f"INSERT INTO docs VALUES (4242, 'en', 2000, {value})")
    text, _ = refusal(db, "SELECT annex_create('x', 'docs', 'embedding')")
    assert "4242" in text, what


def test_row_that_stops_being_a_vector__leaves_the_answers(db, docs):
    """A change by another program must not make searches fail: the row cannot be found, no more."""
    query = docs.query(0)
    nearest = docs.nearest(query, 11)
    db.execute("UPDATE docs SET embedding = 'oops' WHERE id = ?", [nearest[0]])
    assert keys(db, SEARCH, query.tobytes()) == nearest[1:]
    db.execute("UPDATE docs SET embedding = x'00' WHERE id = ?", [nearest[1]])
    db.execute("UPDATE docs SET embedding = NULL WHERE id = ?", [nearest[2]])
    assert keys(db, SEARCH, query.tobytes())[:8] == nearest[3:]


def test_refused_call__leaves_the_transaction_of_the_user_alone(db, docs):
    db.execute("BEGIN")
    db.execute("INSERT INTO docs VALUES (7001, 'en', 2000, NULL)")
    for sql in ("annex_create('x', 'docs', 'lang')", "annex_sync('nothing')",
                "annex_create('docs_idx', 'docs', 'embedding')"):
        refusal(db, "SELECT " + sql)
    assert db.in_transaction
    db.execute("COMMIT")
    assert keys(db, "SELECT count(*) FROM docs WHERE id = 7001") == [1]


def test_function_of_annex_inside_an_index__is_refused(db, docs):
    where = "id IN (SELECT key FROM annex_search('docs_idx', (SELECT embedding FROM docs LIMIT 1)))"
    text, _ = refusal(db, "SELECT annex_create('x', 'docs', 'embedding', ?)",
                      json.dumps({"where": where}))
    assert text
    assert len(keys(db, SEARCH, ZEROS)) == 10


def test_call_of_annex_from_inside_annex__is_refused(db, docs):
    """A trigger on a table of the catalog is the only way in; nothing is half done then."""
    db.execute("DELETE FROM docs WHERE id = 1")
    db.execute("CREATE TRIGGER inside AFTER DELETE ON annex_log_1 BEGIN"
               " SELECT key FROM annex_search('docs_idx', '%s'); END" % ZEROS)
    text, code = refusal(db, "SELECT annex_sync('docs_idx')")
    assert "from inside a call of Annex" in text and code == sqlite3.SQLITE_ERROR
    assert keys(db, "SELECT delta_rows FROM annex_indexes") == [1]
    db.execute("DROP TRIGGER inside")
    assert json.loads(keys(db, "SELECT annex_sync('docs_idx')")[0])["deleted"] == 1
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]


# ---- Schemas that are not trusted ----------------------------------------------------------------


def test_functions_that_change_something__cannot_be_called_from_a_view_or_trigger(db, docs):
    for i, call in enumerate(["annex_create('x', 'docs', 'embedding')", "annex_sync('docs_idx')",
                              "annex_optimize('docs_idx')", "annex_check('docs_idx')",
                              "annex_drop('docs_idx')", "annex_rename('docs_idx', 'y')"]):
        db.execute(f"CREATE VIEW v{i} AS SELECT {call} AS r")
        assert "unsafe use of annex_" in refusal(db, f"SELECT * FROM v{i}")[0]
        db.execute(f"DROP VIEW v{i}")
    db.execute("CREATE TABLE t(x)")
    db.execute("CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT annex_drop('docs_idx'); END")
    assert "unsafe use of annex_drop" in refusal(db, "INSERT INTO t VALUES (1)")[0]
    assert keys(db, "SELECT name FROM annex_indexes") == ["docs_idx"]


def test_untrusted_schema__may_not_search_but_the_user_may(db, docs):
    db.execute("CREATE VIEW near AS SELECT * FROM annex_search('docs_idx', '%s', 10)" % ZEROS)
    db.execute("CREATE VIEW vec AS SELECT annex_vector('docs_idx', 1) AS v")
    assert len(keys(db, "SELECT key FROM near")) == 10
    db.execute("PRAGMA trusted_schema = 0")
    assert "unsafe use of virtual table" in refusal(db, "SELECT key FROM near")[0]
    assert "unsafe use of annex_vector" in refusal(db, "SELECT v FROM vec")[0]
    assert len(keys(db, SEARCH, ZEROS)) == 10
    db.execute("INSERT INTO docs SELECT 9000, 'en', 1, embedding FROM docs WHERE id = 1")
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]
    json.loads(keys(db, "SELECT annex_sync('docs_idx')")[0])


# ---- Databases that cannot be written ------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mode=ro", "immutable=1"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_read_only_database__is_searched_and_not_changed(db, connect, tmp_path, mode, journal):
    db.execute(f"PRAGMA journal_mode = {journal}")
    docs = Docs(db).create_index()
    query = docs.query(0)
    nearest = docs.nearest(query, 12)
    db.execute("DELETE FROM docs WHERE id = ?", [nearest[0]])
    db.execute("PRAGMA wal_checkpoint(truncate)")
    path = tmp_path / "docs.db"
    before = path.read_bytes()
    reader = connect(f"file:{path}?{mode}", uri=True)
    assert keys(reader, SEARCH, query.tobytes()) == nearest[1:11]
    filtered = SEARCH + " WHERE key IN (SELECT id FROM docs WHERE lang = 'de')"
    assert keys(reader, filtered, query.tobytes()) == docs.nearest(
        query, 10, lambda key: docs.lang(key) == "de" and key != nearest[0])
    assert keys(reader, "SELECT state FROM annex_indexes") == ["delta"]
    assert keys(reader, "SELECT annex_check('docs_idx')") == ["ok"]
    for call in ("annex_sync('docs_idx')", "annex_optimize('docs_idx')", "annex_drop('docs_idx')",
                 "annex_rename('docs_idx', 'x')", "annex_create('x', 'docs', 'embedding')"):
        text, code = refusal(reader, "SELECT " + call)
        assert code == sqlite3.SQLITE_READONLY, (call, text)
        assert "open for reading only" in text
    assert path.read_bytes() == before


def test_query_only_connection__is_searched_and_not_changed(db, docs):
    db.execute("PRAGMA query_only = 1")
    assert len(keys(db, SEARCH, ZEROS)) == 10
    refusal(db, "SELECT annex_drop('docs_idx')")
    db.execute("PRAGMA query_only = 0")
    assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]


# ---- Locks and interrupts ------------------------------------------------------------------------


def test_database_locked_by_somebody_else__is_busy_and_still_searched(db, docs, connect):
    other = connect("docs.db", timeout=0)
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM docs WHERE id = 1")
    for call in ("annex_sync('docs_idx')", "annex_drop('docs_idx')",
                 "annex_create('x', 'docs', 'embedding')"):
        text, code = refusal(other, "SELECT " + call)
        assert code == sqlite3.SQLITE_BUSY, (call, text)
    assert len(keys(other, SEARCH, ZEROS)) == 10
    db.execute("COMMIT")
    json.loads(keys(other, "SELECT annex_sync('docs_idx')")[0])


@pytest.fixture
def large(connect):
    """A connection to a table that takes seconds to index."""
    db = connect("large.db", check_same_thread=False)
    rng = numpy.random.default_rng(6)
    matrix = rng.standard_normal((30000, 64)).astype("<f4")
    db.execute("CREATE TABLE large(id INTEGER PRIMARY KEY, v BLOB)")
    fill(db, "INSERT INTO large(v) VALUES (?)", ((row.tobytes(),) for row in matrix))
    return db


CREATE_LARGE = "SELECT annex_create('large_idx', 'large', 'v', '{\"index\":\"graph\"}')"


def test_interrupt_from_another_thread__stops_a_build_within_50_ms(large):
    waits = [time_to_interrupt(large, CREATE_LARGE, after_s) for after_s in (0.05, 0.3, 0.6)]
    assert None not in waits
    # More for the slowest: the machine has other things to do while it tests.
    assert sorted(waits)[1] < 0.05 and max(waits) < 0.2, waits
    assert keys(large, "SELECT count(*) FROM annex_indexes") == [0]
    assert keys(large, "SELECT count(*) FROM large") == [30000]


def test_interrupted_search__leaves_the_connection_usable(large):
    large.execute("SELECT annex_create('large_idx', 'large', 'v', '{\"index\":\"flat\"}')")
    sql = ("SELECT count(*) FROM large AS l, annex_search('large_idx', l.v, 10,"
           " '{\"effort\":\"exact\"}') AS s")
    wait = min(time_to_interrupt(large, sql, 0.2) for _ in range(2))
    assert wait < 0.05
    one = "SELECT count(*) FROM annex_search('large_idx', annex_vector('large_idx', 7), 10)"
    assert keys(large, one) == [10]


def test_progress_handler__stops_a_build(large):
    deadline = time.monotonic() + 0.3
    large.set_progress_handler(lambda: time.monotonic() > deadline, 1000)
    _, code = refusal(large, CREATE_LARGE)
    assert code == sqlite3.SQLITE_INTERRUPT
    assert time.monotonic() - deadline < 0.2
    large.set_progress_handler(None, 0)
    assert keys(large, "SELECT count(*) FROM annex_indexes") == [0]


def test_interrupt_inside_a_transaction__keeps_what_was_done_before(large):
    large.execute("BEGIN")
    large.execute("DELETE FROM large WHERE id > 29000")
    assert time_to_interrupt(large, CREATE_LARGE, 0.2) is not None
    assert large.in_transaction
    large.execute("COMMIT")
    assert keys(large, "SELECT count(*) FROM large") == [29000]
