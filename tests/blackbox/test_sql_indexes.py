"""Indexes by SQL: keys and vectors of every kind, the life of an index, what is lost and repaired,
attached databases and other connections. Searching is in test_sql.py."""

import json
import os
import shutil
import sqlite3

import numpy
import pytest

from conftest import EXTENSION
from sql_model import DIMENSION, SEARCH, Docs, fill, keys


@pytest.fixture
def db(connect):
    return connect("docs.db")


@pytest.fixture
def docs(db):
    return Docs(db).create_index()


@pytest.fixture
def query(docs):
    return docs.query(0)


# ---- Keys of every kind --------------------------------------------------------------------------


def test_text_keys__come_back_and_filter(db):
    rng = numpy.random.default_rng(4)
    rows = [(f"k{i:03d}é", vector.tobytes())
            for i, vector in enumerate(rng.standard_normal((60, DIMENSION)).astype("<f4"))]
    db.execute("CREATE TABLE notes(name TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID")
    fill(db, "INSERT INTO notes VALUES (?, ?)", rows)
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
    db.execute("CREATE TABLE chunks(collection INTEGER, id TEXT, v BLOB,"
               " PRIMARY KEY(collection, id))")
    fill(db, "INSERT INTO chunks VALUES (?, ?, ?)",
         [(c, i, v.tobytes()) for (c, i), v in vectors.items()])
    db.execute("SELECT annex_create('chunks_idx', 'chunks', 'v', ?)",
               [json.dumps({"key": ["collection", "id"]})])
    query = rng.standard_normal(DIMENSION).astype("<f4")
    order = sorted(vectors, key=lambda key: float(((vectors[key] - query) ** 2).sum()))
    sql = "SELECT key, key2, key3 FROM annex_search('chunks_idx', ?, 20)"
    assert db.execute(sql, [query.tobytes()]).fetchall() == [(*key, None) for key in order[:20]]
    got = db.execute(sql + " WHERE key IN (1, 3)", [query.tobytes()]).fetchall()
    assert got == [(*key, None) for key in order if key[0] in (1, 3)][:20]
    joined = ("SELECT c.collection, c.id FROM annex_search('chunks_idx', ?, 20) AS s"
              " JOIN chunks AS c ON c.collection = s.key AND c.id = s.key2 ORDER BY s.distance")
    assert db.execute(joined, [query.tobytes()]).fetchall() == order[:20]
    vector = keys(db, "SELECT annex_vector('chunks_idx', 2, 'doc-3')")
    assert vector == [vectors[2, "doc-3"].tobytes()]


def test_key_of_many_columns_and_types__comes_back_column_by_column(db):
    columns = ["a", "b", "c", "d", "e", "f"]
    rows = [(i, f"t{i}", bytes([i, 0, 255]), i + 0.5, -i, "x" * i) for i in range(12)]
    vectors = numpy.random.default_rng(6).standard_normal((12, DIMENSION)).astype("<f4")
    db.execute("CREATE TABLE t(a INTEGER, b TEXT, c BLOB, d REAL, e INTEGER, f TEXT, v BLOB,"
               " UNIQUE(a, b, c, d, e, f))")
    fill(db, "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)",
         [(*row, vector.tobytes()) for row, vector in zip(rows, vectors)])
    db.execute("SELECT annex_create('t_idx', 't', 'v', ?)", [json.dumps({"key": columns})])
    sql = "SELECT key, key2, key3, key4, key5, key6, key7 FROM annex_search('t_idx', ?, 1)"
    for row, vector in zip(rows, vectors):
        assert db.execute(sql, [vector.tobytes()]).fetchall() == [(*row, None)]
        marks = ", ".join("?" * 6)
        assert keys(db, f"SELECT annex_vector('t_idx', {marks})", *row) == [vector.tobytes()]


def test_keys_of_mixed_types__are_filtered_by_two_lists_as_sqlite_compares(db):
    mixed = [1, 2.5, "1", "a", "ab", b"a", b"ab", 2**53 + 1, -7]
    vectors = numpy.random.default_rng(7).standard_normal((len(mixed), DIMENSION)).astype("<f4")
    db.execute("CREATE TABLE t(k PRIMARY KEY, v BLOB)")
    fill(db, "INSERT INTO t VALUES (?, ?)",
         [(key, vector.tobytes()) for key, vector in zip(mixed, vectors)])
    db.execute("SELECT annex_create('t_idx', 't', 'v')")
    sql = ("SELECT key FROM annex_search('t_idx', ?, 50) WHERE key IN"
           " (1.0, 2.5, 'a', x'6162', 9007199254740993, 'zz', NULL) AND key IN"
           " (2.5, 'a', 'b', x'61', x'6162', 1, 9007199254740992.0, 9007199254740993, -8)")
    assert sorted(keys(db, sql, vectors[0].tobytes()), key=str) == sorted(
        [1, 2.5, "a", b"ab", 2**53 + 1], key=str)


# ---- Managing indexes ----------------------------------------------------------------------------


def test_create__says_what_was_made(db):
    Docs(db)
    (text,) = db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding',"
                         " '{\"metric\":\"cosine\"}')").fetchone()
    made = json.loads(text)
    assert made["rows"] == 588 and made["dimension"] == DIMENSION and made["metric"] == "cosine"
    assert made["family"] == "flat" and made["recall"] == 1
    (text,) = db.execute("SELECT annex_create('graph_idx', 'docs', 'embedding',"
                         " '{\"index\":\"graph\",\"recall\":0.9}')").fetchone()
    made = json.loads(text)
    assert made["rows"] == 588 and made["family"] == "graph" and 0.9 <= made["recall"] <= 1


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
        db.execute("CREATE TABLE made(id INTEGER PRIMARY KEY, lang, year, embedding BLOB)")
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
    assert ("annex_optimize" if "segment" in damage else "annex_sync") in str(caught.value)
    report = json.loads(keys(again, "SELECT annex_sync('docs_idx')")[0])
    assert (report["rebuilt"], report["swept"]) == ("segment" in damage, "segment" not in damage)
    assert keys(again, "SELECT annex_check('docs_idx')") == ["ok"]
    assert keys(again, "SELECT state FROM annex_indexes") == ["fresh"]
    assert keys(again, SEARCH + "10)", query.tobytes()) == docs.nearest(query, 11)[1:]


@pytest.mark.parametrize("storage", ["database", "file"])
@pytest.mark.parametrize("damage", ["segment", "part", "cache"])
def test_damage_that_check_finds__is_mended_by_what_it_advises(db, tmp_path, damage, storage):
    docs = Docs(db)
    query = docs.query(0)
    db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding', ?)",
               [json.dumps({"storage": storage})])
    db.execute("SELECT annex_check('docs_idx')")
    if damage == "part":
        db.execute("DELETE FROM annex_part")
        db.execute("UPDATE annex_index SET version = version + 1")
    elif damage == "segment" and storage == "database":
        db.execute("UPDATE annex_segment SET data = zeroblob(length(data))")
    else:
        (path,) = tmp_path.glob("docs.db.annex-*" if storage == "file" else "cache/annex/*.annex")
        with open(path, "r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(bytes(64))
    if damage == "cache" and storage == "database":
        assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]
    else:
        with pytest.raises(sqlite3.DatabaseError, match="; run annex_(optimize|sync)") as caught:
            db.execute("SELECT annex_check('docs_idx')")
        assert str(caught.value).count(";") == 1, "one advice, not two"
        db.execute("SELECT " + str(caught.value).split("; run ")[1])
        assert keys(db, "SELECT annex_check('docs_idx')") == ["ok"]
    assert keys(db, SEARCH + "10)", query.tobytes()) == docs.nearest(query)


def test_segments_that_somebody_deleted__are_missed_and_the_table_answers(db):
    docs = Docs(db)
    query = docs.query(0)
    db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding')")
    db.execute("DELETE FROM annex_part")
    db.execute("UPDATE annex_index SET version = version + 1")
    assert keys(db, SEARCH + "10)", query.tobytes()) == docs.nearest(query)
    assert keys(db, "SELECT state FROM annex_indexes") == ["stale"]
    db.execute("SELECT annex_rename('docs_idx', 'docs_2'), annex_rename('docs_2', 'docs_idx')")
    assert keys(db, "SELECT state FROM annex_indexes") == ["stale"]
    db.execute("SELECT annex_sync('docs_idx')")
    assert keys(db, "SELECT state FROM annex_indexes") == ["fresh"]
    assert keys(db, SEARCH + "10)", query.tobytes()) == docs.nearest(query)


def test_renamed_index_in_a_file__leaves_no_file_behind(db, docs, tmp_path):
    db.execute("SELECT annex_create('in_file', 'docs', 'embedding', '{\"storage\":\"file\"}')")
    db.execute("SELECT annex_rename('in_file', 'other')")
    db.execute("SELECT annex_optimize('other')")
    db.execute("SELECT annex_drop('other')")
    assert list(tmp_path.glob("docs.db.annex-*")) == []


def test_storage_in_a_file__lies_beside_the_database_until_dropped(db, docs, query, tmp_path):
    db.execute("SELECT annex_create('beside', 'docs', 'embedding', '{\"storage\":\"file\"}')")
    assert [path for path in tmp_path.iterdir() if path.name.startswith("docs.db.annex-beside")]
    found = keys(db, "SELECT key FROM annex_search('beside', ?, 10)", query.tobytes())
    assert found == docs.nearest(query)
    assert keys(db, "SELECT annex_check('beside')") == ["ok"]
    db.execute("SELECT annex_drop('beside')")
    assert not [path for path in tmp_path.iterdir() if "annex-beside" in path.name]


@pytest.mark.parametrize("format, metric", [
    ("f16", "l2"), ("i8", "ip"), ("u8", "l1"), ("json", "l2"), ("bits", "hamming"),
    ("bits", "jaccard"),
])
def test_columns_of_every_format__are_searched_by_blob_and_by_json(db, format, metric):
    rng = numpy.random.default_rng(8)
    top = 2 if format == "bits" else 100
    rows = [json.dumps(row) for row in rng.integers(0, top, (80, DIMENSION)).tolist()]
    blob = "?2" if format == "json" else f"annex_encode(?2, '{format}')"
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    fill(db, f"INSERT INTO t VALUES (?1, {blob})", list(enumerate(rows)))
    db.execute("SELECT annex_create('t_idx', 't', 'v', ?)",
               [json.dumps({"metric": metric, "format": format})])
    assert keys(db, "SELECT format FROM annex_indexes") == [format]
    as_blob = "annex_encode(?2)" if format == "json" else blob
    distance = "annex_distance(?1, annex_vector('t_idx', id), annex_vector('t_idx', 5))"
    want = db.execute(f"SELECT id, {distance} FROM t ORDER BY 2, 1 LIMIT 9", [metric]).fetchall()
    for query in (as_blob, "?2", "annex_vector('t_idx', 5)"):
        sql = f"SELECT key, distance FROM annex_search('t_idx', {query}, 9) WHERE ?1 <> ?2"
        assert db.execute(sql, [metric, rows[5]]).fetchall() == want


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
    found = keys(db, "SELECT key FROM annex_search('papers', ?, 10)", query.tobytes())
    assert found == docs.nearest(query)
    assert keys(db, "SELECT annex_drop('papers')") == ["papers"]
    assert keys(db, "SELECT name FROM annex_indexes") == []


def test_indexes__lists_what_is_there(db, docs):
    cursor = db.execute("SELECT * FROM annex_indexes")
    names = [column[0] for column in cursor.description]
    assert names == ["name", "schema", "table", "column", "keys", "where", "metric", "family",
                     "format", "storage", "state", "reason", "options", "dimension", "rows",
                     "delta_rows", "dead_rows", "segments", "bytes", "recall", "source", "model",
                     "is_default", "sources", "build_seconds"]
    row = dict(zip(names, cursor.fetchone()))
    assert row["name"] == "docs_idx" and row["schema"] == "main" and row["table"] == "docs"
    assert row["column"] == "embedding" and row["keys"] == "id" and row["where"] == ""
    assert row["metric"] == "l2" and row["format"] == "f32" and row["state"] == "fresh"
    assert row["storage"] == "database" and row["reason"] == ""
    assert json.loads(row["options"]) == {"metric": "l2"}
    assert row["dimension"] == DIMENSION and row["rows"] == 588 and row["delta_rows"] == 0
    assert row["segments"] == 1 and row["bytes"] > 588 * DIMENSION
    assert (row["source"], row["model"], row["is_default"], row["sources"]) == ("docs", "", 0, 1)
    assert row["build_seconds"] >= 0
    assert cursor.fetchone() is None


def test_several_indexes__are_told_apart(db, docs, query):
    db.execute("SELECT annex_create('english', 'docs', 'embedding',"
               " '{\"metric\":\"l2\",\"where\":\"lang = ''en''\"}')")
    assert keys(db, "SELECT name FROM annex_indexes ORDER BY name") == ["docs_idx", "english"]
    want = docs.nearest(query, 10, lambda key: docs.lang(key) == "en")
    assert keys(db, "SELECT key FROM annex_search('english', ?, 10)", query.tobytes()) == want
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


# ---- Several databases and connections -----------------------------------------------------------


def test_attached_database__has_indexes_of_its_own(db, docs, query, tmp_path):
    db.execute("ATTACH ? AS other", [str(tmp_path / "other.db")])
    other = Docs(db, n=100, seed=2, schema="other")
    db.execute("SELECT annex_create('other.other_idx', 'other.docs', 'embedding')")
    assert keys(db, "SELECT schema || '.' || name FROM annex_indexes ORDER BY 1") == [
        "main.docs_idx", "other.other_idx"]
    assert keys(db, "SELECT key FROM annex_search('other.other_idx', ?, 10)", query.tobytes()) == (
        other.nearest(query))
    assert keys(db, "SELECT key FROM annex_search('other_idx', ?, 10)", query.tobytes()) == (
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
    docs = Docs(db).create_index()
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
    assert keys(db, SEARCH + "10)", query.tobytes()) == docs.nearest(query)
    db.execute("SELECT load_extension(?)", [str(EXTENSION)])
    assert keys(db, SEARCH + "10)", query.tobytes()) == docs.nearest(query)
