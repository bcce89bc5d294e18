"""Tables of the module vec0: how they are declared, and searched for neighbours.

tools/vec_tests.py runs sqlite-vec's own tests; here is what they lack, and what is meant to differ:
OFFSET, any k, conditions of any kind."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from conftest import VEC
from vec0_sql import db, f32, keys, movies, names, near, refusal  # noqa: F401

HAS_LIMIT = pytest.mark.skipif(
    sqlite3.sqlite_version_info < (3, 41), reason="SQLite tells tables of LIMIT since 3.41"
)


# ---- Declaration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        "e float[3]",
        "e FLOAT [ 3 ] DISTANCE_METRIC = Cosine",
        "e f32[3] distance_metric=l1 indexed by flat()",
        "e float32[3] indexed by diskann(neighbor_quantizer=binary, n_neighbors=8)",
        "e int8[3], chunk_size=8",
        "e bit[16], +note text not null",
        "genre text, id text primary key, e float[3], owner int partition key",
        "-- what follows is a vector\n e float[3] /* of three */, a bool, b double, c integer64",
    ],
)
def test_declarations_of_sqlite_vec_are_accepted(db, arguments):
    db.execute(f"CREATE VIRTUAL TABLE v USING vec0({arguments})")
    assert keys(db, "SELECT count(*) FROM v") == [0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("", "At least one vector column is required"),
        ("a text", "At least one vector column is required"),
        ("e float[0]", "could not parse vector column 'e float[0]'"),
        ("e bit[7]", "could not parse vector column 'e bit[7]'"),
        ("e float[3] indexed by", "could not parse vector column 'e float[3] indexed by'"),
        ("e float[3] distance_metric=ip",
         "could not parse vector column 'e float[3] distance_metric=ip'"),
        ("e float[65536]",
         "Dimension on vector column too large, provided 65536, maximum 65535"),
        ("e float[3], a varchar", "Could not parse 'a varchar'"),
        ("e float[3], a blob primary key", "Could not parse 'a blob primary key'"),
        ("e float[3], 4", "Could not parse '4'"),
        ("e float[3], size=4", "Unknown table option: size"),
        ("e float[3], chunk_size=9", "chunk_size must be divisible by 8"),
        ("e float[3], v text",
         "column name 'v' conflicts with table name (reserved for command column)"),
        ("e float[3], distance text",
         "could not declare virtual table, 'duplicate column name: distance'"),
        (", ".join(f"e{i} float[3]" for i in range(17)),
         "Too many provided vector columns, maximum 16"),
        (", ".join(f"p{i} int partition key" for i in range(5)),
         "More than 4 partition key columns were provided"),
    ],
)
def test_declarations_are_refused_in_the_words_of_sqlite_vec(db, arguments, message):
    sql = f"CREATE VIRTUAL TABLE v USING vec0({arguments})"
    assert refusal(db, sql) == "vec0 constructor error: " + message
    assert names(db) == set()


def test_a_table_that_cannot_be_created_leaves_nothing_behind(db):
    db.execute("CREATE TABLE v_rows(x)")
    db.execute("BEGIN")
    assert "Could not create '_rows' shadow table" in refusal(
        db, "CREATE VIRTUAL TABLE v USING vec0(e float[2])"
    )
    db.execute("CREATE VIRTUAL TABLE w USING vec0(e float[2])")
    db.execute("DROP TABLE v_rows")
    db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, e BLOB)")
    db.execute("""SELECT annex_create('u_e', 'docs', 'e', '{"dimension": 2}')""")
    before = names(db)
    assert "there is an index u_e already" in refusal(
        db, "CREATE VIRTUAL TABLE u USING vec0(e float[2])"
    )
    assert names(db) == before
    db.execute("COMMIT")
    assert names(db) == before


def test_rows_lie_in_an_ordinary_table_with_an_index_for_each_vector(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(a float[2], b bit[8], +note text, tag text)")
    db.execute("INSERT INTO v(rowid, a, b, note, tag)"
               " VALUES (7, '[1, 2]', vec_bit(x'0f'), 'n', 't')")
    assert db.execute("SELECT rowid, tag, a, b, note FROM v_rows").fetchall() == [
        (7, "t", f32(1, 2), b"\x0f", "n")
    ]
    indexes = db.execute('SELECT name, "table", "column", metric, format FROM annex_indexes')
    assert indexes.fetchall() == [
        ("v_a", "v_rows", "a", "l2", "f32"), ("v_b", "v_rows", "b", "hamming", "bits")
    ]
    db.execute("DROP TABLE v")
    assert names(db) == set()


def test_a_table_of_sqlite_vec_itself_is_refused_with_the_way_out(connect):
    db = connect("a.db", extension=False)
    db.execute("CREATE TABLE v_chunks(x)")
    db.execute("CREATE TABLE v_rowids(x)")
    db.execute("PRAGMA writable_schema = on")
    db.execute("INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0,"
               " 'CREATE VIRTUAL TABLE v USING vec0(e float[2])')")
    db.close()
    db = connect("a.db", entry_point=VEC)
    message = refusal(db, "SELECT * FROM v")
    assert "made by sqlite-vec" in message and "annex_import" in message


def test_rows_of_another_table_are_not_taken_for_those_of_a_table_of_sqlite_vec(connect, tmp_path):
    """sqlite-vec has no t_rows: a table of this name beside its own is the user's."""
    shutil.copy(Path(__file__).parent.parent / "fixtures" / "vec0.db", tmp_path / "old.db")
    db = connect("old.db", entry_point=VEC)
    db.execute("CREATE TABLE plain_rows(rowid INTEGER PRIMARY KEY, emb BLOB)")
    db.execute("INSERT INTO plain_rows VALUES (1, zeroblob(24))")
    for sql in ("SELECT count(*) FROM plain", "DELETE FROM plain", "DROP TABLE plain"):
        with pytest.raises(sqlite3.OperationalError, match="made by sqlite-vec"):
            db.execute(sql).fetchall()
    assert db.execute("SELECT count(*) FROM plain_rows").fetchone() == (1,)


# ---- Neighbours ----------------------------------------------------------------------------------


def test_neighbours_come_nearest_first_with_their_distance(movies):
    rows = movies.execute(
        "SELECT id, distance, title, k FROM movies WHERE emb MATCH '[4.25, 0]' AND k = 3"
    ).fetchall()
    assert rows == [(4, 0.25, "film 4", None), (5, 0.75, "film 5", None), (3, 1.25, "film 3", None)]


def test_k_may_be_zero_and_as_large_as_one_likes(movies):
    assert near(movies, k=0) == []
    assert near(movies, k=5000) == list(range(1, 31))
    assert near(movies, k=2**62) == list(range(1, 31))
    assert near(movies, k="2") == [1, 2]
    assert refusal(movies, "SELECT id FROM movies WHERE emb MATCH '[0, 0]' AND k = -1") == (
        "k value in knn queries must be greater than or equal to 0."
    )


@pytest.mark.parametrize(
    "condition, expected",
    [
        ("studio = 2", [2, 5, 8]),
        ("studio <> 0", [1, 2, 4]),
        ("studio IN (0, 1)", [1, 3, 4]),
        ("genre = 'scifi'", [3, 6, 9]),
        ("genre != 'scifi'", [1, 4, 7]),
        ("genre > 'i'", [3, 6, 9]),
        ("genre IS NULL", [2, 5, 8]),
        ("genre IS NOT NULL", [1, 3, 4]),
        ("genre IS NOT 'scifi'", [1, 2, 4]),
        ("genre LIKE 'S%'", [3, 6, 9]),
        ("genre GLOB 'h*r'", [1, 4, 7]),
        ("genre = 'SciFi' COLLATE NOCASE", [3, 6, 9]),
        ("genre COLLATE NOCASE IN ('SCIFI', 'x')", [3, 6, 9]),
        ("(genre = 'scifi' OR genre = 'none')", [3, 6, 9]),
        ("year BETWEEN 2000 AND 2002", [10, 11, 12]),
        ("year = '2001'", [11]),
        ("score >= 2.9", [29, 30]),
        ("score = 0.7", [7]),
        ("score IN (1.1, 0.3)", [3, 11]),
        ("seen = TRUE AND year > 2010", [21, 23, 25]),
        ("title = 'film 17'", [17]),
        ("title LIKE '%9' AND studio = 1", [19]),
        ("id IN (30, 20, 10, 77)", [10, 20, 30]),
        ("id IN (SELECT value FROM json_each('[5, 6, 25]')) AND seen = 1", [5, 25]),
        ("id IN (1, 2, 3, 4, 5, 6) AND id IN (4, 5, 6, 7)", [4, 5, 6]),
        ("genre IN (SELECT 'x' WHERE 0)", []),
        ("year > NULL", []),
        ("distance > 27.5", [28, 29, 30]),
        ("distance >= 5 AND distance <= 6", [5, 6]),
        ("distance BETWEEN 5 AND 6 AND studio = 0", [6]),
        ("distance < 2", [1]),
        ("distance > NULL", []),
        ("distance > 4 AND distance > 14", [15, 16, 17]),
    ],
)
def test_conditions_choose_rows_before_the_search(movies, condition, expected):
    assert near(movies, condition) == expected


def test_text_in_conditions_may_hold_anything(movies):
    for text in ["it's", 'a"b', "a\0b", "?", "list", "x' OR 1 --", ""]:
        movies.execute("UPDATE movies SET genre = ? WHERE id = 9", (text,))
        sql = "SELECT id FROM movies WHERE emb MATCH '[0, 0]' AND k = 5 AND genre"
        assert keys(movies, sql + " = ?", text) == [9]
        assert keys(movies, sql + " IN (?, 'none')", text) == [9]


def test_names_that_are_words_of_sql_are_names(db):
    db.execute('CREATE VIRTUAL TABLE "select ""x" USING vec0('
               "order float[1], group text, +from text)")
    db.execute("""INSERT INTO "select ""x"(rowid, "order", "group", "from")
                  VALUES (1, '[1]', 'a', 'b'), (2, '[2]', 'b', 'c')""")
    sql = """SELECT rowid, "from" FROM "select ""x" WHERE "order" MATCH '[9]' AND k = 2"""
    assert db.execute(sql).fetchall() == [(2, "c"), (1, "b")]
    assert db.execute(sql + """ AND "group" < 'b'""").fetchall() == [(1, "b")]
    db.execute("""INSERT INTO "select ""x"("select ""x") VALUES ('optimize')""")
    db.execute("""DROP TABLE "select ""x" """)
    assert names(db) == set()


def test_every_vector_column_is_searched_by_its_own_metric(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(a float[2], b float[2] distance_metric=l1,"
               " c int8[2] distance_metric=cosine, d bit[8])")
    db.execute("INSERT INTO v(a, b, c, d) VALUES ('[0, 0]', '[1, 1]', vec_int8('[1, 0]'),"
               " vec_bit(x'00')), ('[3, 4]', '[0, 3]', vec_int8('[0, 5]'), vec_bit(x'0f'))")

    def search(column, query):
        sql = f"SELECT rowid, distance FROM v WHERE {column} MATCH {query} AND k = 2"
        return db.execute(sql).fetchall()

    assert search("a", "'[3, 4]'") == [(2, 0), (1, 5)]
    assert search("b", "'[0, 0]'") == [(1, 2), (2, 3)]
    assert search("c", "vec_int8('[0, 9]')") == [(2, 0), (1, 1)]
    assert search("d", "vec_bit(x'07')") == [(2, 1), (1, 3)]
    types = "SELECT vec_type(a), vec_type(c), vec_type(d) FROM v WHERE a MATCH '[3, 4]' AND k = 1"
    assert db.execute(types).fetchone() == ("float32", "int8", "bit")
    assert db.execute("SELECT vec_to_json(c) FROM v WHERE rowid = 2").fetchone() == ("[0,5]",)


def test_zero_vectors_have_no_cosine_distance_and_are_not_found(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2] distance_metric=cosine)")
    db.execute("INSERT INTO v(e) VALUES ('[0, 0]'), ('[1, 0]')")
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[1, 1]' AND k = 5") == [2]
    assert keys(db, "SELECT rowid FROM v WHERE e MATCH '[0, 0]' AND k = 5") == []
    assert keys(db, "SELECT count(*) FROM v") == [2]


@pytest.mark.parametrize(
    "query, message",
    [
        ("NULL", 'Query vector on the "emb" column is invalid: Input must have type BLOB (compact '
                 'format) or TEXT (JSON), found NULL'),
        ("x'00'", 'Query vector on the "emb" column is invalid: invalid float32 vector BLOB '
                  'length. Must be divisible by 4, found 1'),
        ("vec_bit(x'00')", 'Query vector for the "emb" column is expected to be of type float32, '
                           'but a bit vector was provided.'),
        ("'[1, 2, 3]'", 'Dimension mismatch for query vector for the "emb" column. Expected 2 '
                        'dimensions but received 3.'),
    ],
)
def test_queries_are_refused_in_the_words_of_sqlite_vec(movies, query, message):
    sql = f"SELECT id FROM movies WHERE emb MATCH {query} AND k = 1"
    assert refusal(movies, sql) == message


@pytest.mark.parametrize(
    "condition, message",
    [
        ("", "A LIMIT or 'k = ?' constraint is required on vec0 knn queries."),
        ("AND k = 3 AND distance = 1",
         "Illegal WHERE constraint on distance column in a KNN query. "
         "Only one of GT, GE, LT, LE constraints are allowed."),
        ("AND k = 3 ORDER BY distance DESC",
         "Only ascending in ORDER BY distance clause is supported, DESC is not supported yet."),
    ],
)
def test_searches_without_a_good_meaning_are_refused(movies, condition, message):
    sql = f"SELECT id FROM movies WHERE emb MATCH '[1, 2]' {condition}"
    assert refusal(movies, sql) == message


def test_the_nearest_rows_can_be_ordered_and_grouped_by_anything(movies):
    sql = "SELECT id FROM movies WHERE emb MATCH '[0, 0]' AND k = 4"
    assert keys(movies, sql + " ORDER BY distance") == [1, 2, 3, 4]
    assert keys(movies, sql + " ORDER BY distance, id DESC") == [1, 2, 3, 4]
    assert keys(movies, sql + " ORDER BY id DESC") == [4, 3, 2, 1]
    assert keys(movies, sql + " ORDER BY studio, id") == [3, 1, 4, 2]
    assert movies.execute(
        "SELECT studio, count(*) FROM movies WHERE emb MATCH '[0, 0]' AND k = 4 GROUP BY studio"
    ).fetchall() == [(0, 1), (1, 2), (2, 1)]
    assert keys(
        movies, "SELECT DISTINCT studio FROM movies WHERE emb MATCH '[0, 0]' AND k = 5"
    ) == [1, 2, 0]


@HAS_LIMIT
def test_limit_and_offset_say_how_many(movies):
    sql = "SELECT id FROM movies WHERE emb MATCH '[0, 0]'"
    assert keys(movies, sql + " LIMIT 3") == [1, 2, 3]
    assert keys(movies, sql + " ORDER BY distance LIMIT 3 OFFSET 4") == [5, 6, 7]
    assert keys(movies, sql + " AND studio = 1 ORDER BY distance LIMIT 2 OFFSET 1") == [4, 7]
    assert keys(movies, sql + " AND distance > 9 ORDER BY distance LIMIT 2 OFFSET 1") == [11, 12]
    assert keys(movies, sql + " AND id IN (5, 6, 7) ORDER BY distance LIMIT 2 OFFSET 1") == [6, 7]
    assert keys(movies, sql + " LIMIT 2 OFFSET 29") == [30]
    assert keys(movies, sql + " LIMIT -1") == list(range(1, 31))
    assert keys(movies, sql + " LIMIT 0") == []
    page = []
    for offset in range(0, 40, 7):
        page += keys(movies, sql + f" ORDER BY distance LIMIT 7 OFFSET {offset}")
    assert page == list(range(1, 31))


@HAS_LIMIT
def test_limit_applies_behind_conditions_that_sqlite_checks_itself(movies):
    sql = "SELECT id FROM movies WHERE emb MATCH '[0, 0]' AND id = 9 LIMIT 1"
    assert keys(movies, sql) == [9]


def test_limit_and_offset_apply_to_the_k_rows(movies):
    sql = "SELECT id FROM movies WHERE emb MATCH '[0, 0]' AND k = 5"
    assert keys(movies, sql + " LIMIT 2") == [1, 2]
    assert keys(movies, sql + " ORDER BY distance LIMIT 9 OFFSET 3") == [4, 5]
    assert keys(movies, sql + " ORDER BY id DESC LIMIT 2 OFFSET 1") == [4, 3]
    movies.execute("CREATE VIEW nearest AS SELECT id, seen FROM movies"
                   " WHERE emb MATCH '[0, 0]' AND k = 5")
    assert keys(movies, "SELECT id FROM nearest LIMIT 1 OFFSET 2") == [3]
    assert keys(movies, "SELECT id FROM nearest WHERE seen LIMIT 2") == [1, 3]
    assert keys(movies, "SELECT EXISTS(SELECT 1 FROM nearest WHERE id = 5)") == [1]
    assert keys(movies, f"WITH q AS ({sql}) SELECT id FROM q ORDER BY id DESC LIMIT 1") == [5]


@HAS_LIMIT
def test_limit_without_k_needs_the_order_of_distance(movies):
    sql = "SELECT id FROM movies WHERE emb MATCH '[0, 0]'"
    assert refusal(movies, sql + " ORDER BY year LIMIT 2") == (
        "Only a single 'ORDER BY distance' clause is allowed on vec0 KNN queries, "
        "not on other columns"
    )


def test_one_match_for_each_query(db):
    db.execute("CREATE VIRTUAL TABLE v USING vec0(a float[1], b float[1])")
    assert refusal(db, "SELECT * FROM v WHERE a MATCH '[1]' AND b MATCH '[1]' AND k = 1") == (
        "only 1 MATCH operator is allowed in a single vec0 query"
    )


def test_a_join_on_the_key_finds_the_rows_among_the_nearest(movies):
    movies.execute("CREATE TABLE owned(movie INTEGER PRIMARY KEY, price)")
    movies.execute("INSERT INTO owned VALUES (1, 10), (3, 30), (20, 200)")
    for order in ("movies JOIN owned", "owned CROSS JOIN movies", "owned JOIN movies"):
        sql = f"""SELECT id, price FROM {order} ON owned.movie = movies.id
                  WHERE emb MATCH '[0, 0]' AND k = 5 ORDER BY distance"""
        assert movies.execute(sql).fetchall() == [(1, 10), (3, 30)]
    sql = """SELECT id, price FROM movies LEFT JOIN owned ON movie = id AND price > studio
             WHERE emb MATCH '[0, 0]' AND k = 3"""
    assert movies.execute(sql).fetchall() == [(1, 10), (2, None), (3, 30)]


def test_many_queries_are_one_statement(movies):
    movies.execute("CREATE TABLE queries(q, n)")
    movies.execute("INSERT INTO queries VALUES ('[3.2, 0]', 1), ('[8.8, 0]', 2)")
    sql = "SELECT n, id FROM queries, movies WHERE emb MATCH q AND k = n ORDER BY n, distance"
    assert movies.execute(sql).fetchall() == [(1, 3), (2, 9), (2, 8)]
    nested = """SELECT n, (SELECT group_concat(id) FROM movies WHERE emb MATCH q AND k = 2)
                FROM queries"""
    assert movies.execute(nested).fetchall() == [(1, "3,4"), (2, "9,8")]


def test_the_plan_says_how_a_query_is_answered(movies):
    def plan(sql):
        return movies.execute("EXPLAIN QUERY PLAN " + sql).fetchone()[3].split(":", 1)[1]

    assert plan("SELECT * FROM movies") == "all rows"
    assert plan("SELECT * FROM movies WHERE id = 3") == "row by key"
    assert plan(
        "SELECT id FROM movies WHERE emb MATCH '' AND k = 3 AND distance > 1 AND id IN (1, 2)"
        " AND genre = 'x' AND year IN (1, 2)"
    ) == 'nearest emb k=? distance>? key in list where "genre" = ? and "year" IN list'
