"""annex_import: tables of sqlite-vec and sqlite-vss become ordinary ones. tests/fixtures holds what
the two extensions wrote and answered (tools/make_import_fixtures.py); neither is needed here."""

import json
import math
import shutil
import sqlite3
import struct

import pytest

from conftest import EXTENSION, ROOT
from sql_model import keys

FIXTURES = ROOT / "tests" / "fixtures"
VEC0 = ["everything", "plain", "named", 'odd "name', "empty"]
VSS0 = ["flat", "inner", "lists", "lists_unmapped", "few_in_lists", "graph", "none"]
# FAISS gives the square of the Euclidean distance, and the inner product with its own sign.
FROM_FAISS = {"flat": math.sqrt, "inner": lambda product: -product}


@pytest.fixture
def vec0(connect, tmp_path):
    shutil.copyfile(FIXTURES / "vec0.db", tmp_path / "vec0.db")
    return connect("vec0.db")


@pytest.fixture
def vss0(connect, tmp_path):
    shutil.copyfile(FIXTURES / "vss0.db", tmp_path / "vss0.db")
    return connect("vss0.db")


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def run_import(db, table, target="items", *options):
    marks = ", ".join(["?"] * (2 + len(options)))
    text = db.execute(f"SELECT annex_import({marks})", [table, target, *options]).fetchone()[0]
    return json.loads(text)


def fails(db, table, target="items", *options):
    with pytest.raises(sqlite3.Error) as raised:
        run_import(db, table, target, *options)
    return str(raised.value)


def tables(db):
    return keys(db, "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY 1")


def load_vec(db):
    db.enable_load_extension(True)
    db.execute("SELECT load_extension(?, 'sqlite3_annex_vec_init')", [str(EXTENSION)])


def rewrite_declaration(db, table, declaration):
    db.execute("PRAGMA writable_schema = 1")
    db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?",
               [f"CREATE VIRTUAL TABLE {table} USING {declaration}", table])


def dump(db, like):
    """All that lies in the tables whose name is like this."""
    names = keys(db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE ?"
                     " AND sql NOT LIKE '%VIRTUAL%' AND name NOT LIKE 'sqlite%'", like)
    return {name: db.execute(f"SELECT * FROM {quoted(name)}").fetchall() for name in names}


def nearest_by_column(db, table):
    """{column: {query: [(key, distance)]}}, as the extension answered."""
    answers = {}
    for column, query, key, distance in db.execute(
            f"SELECT \"column\", query, key, distance FROM {quoted(table + '_nearest')}"
            " ORDER BY \"column\", query, place"):
        answers.setdefault(column, {}).setdefault(query, []).append((key, distance))
    return answers


def check_search(db, column, query, want, distance=float):
    got = db.execute(f"SELECT key, distance FROM annex_search('items_{column}_idx', ?, ?)",
                     [query, len(want)]).fetchall()
    distances = [distance(d) for _, d in want]
    assert [d for _, d in got] == pytest.approx(distances, rel=1e-4, abs=1e-5)
    if len(set(distances)) == len(distances):
        assert [key for key, _ in got] == [key for key, _ in want]


# ---- sqlite-vec ----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", VEC0)
def test_vec0_table__has_the_same_rows_and_neighbours_afterwards(vec0, table):
    want = vec0.execute(f"SELECT * FROM {quoted(table + '_expected')} ORDER BY 1")
    names = [column[0] for column in want.description]
    report = run_import(vec0, table)
    got = vec0.execute(f"SELECT {', '.join(names)} FROM items ORDER BY 1").fetchall()
    assert got == want.fetchall()
    assert report["rows"] == len(got) and sorted(report["columns"]) == sorted(names)
    for column, answers in nearest_by_column(vec0, table).items():
        assert f"items_{column}_idx" in report["indexes"]
        for query, answer in answers.items():
            check_search(vec0, column, query, answer)
    for index in report["indexes"]:
        assert keys(vec0, "SELECT annex_check(?)", index) == ["ok"]
    assert keys(vec0, "PRAGMA integrity_check") == ["ok"]


def test_columns__keep_their_order_and_have_ordinary_types(vec0):
    assert run_import(vec0, "everything")["columns"] == [
        "id", "emb", "user_id", "genre", "score", "ok", "n", "contents", "extra", "bits"]
    info = vec0.execute("SELECT name, type, pk FROM pragma_table_info('items')").fetchall()
    assert info == [("id", "INTEGER", 1), ("emb", "BLOB", 0), ("user_id", "INTEGER", 0),
                    ("genre", "TEXT", 0), ("score", "FLOAT", 0), ("ok", "BOOLEAN", 0),
                    ("n", "INTEGER", 0), ("contents", "TEXT", 0), ("extra", "BLOB", 0),
                    ("bits", "BLOB", 0)]


def test_indexes__have_the_metric_and_format_that_were_declared(vec0):
    run_import(vec0, "everything")
    run_import(vec0, "named", "named_items")
    run_import(vec0, "empty", "nothing")
    found = vec0.execute("SELECT name, metric, format, dimension, rows FROM annex_indexes")
    assert found.fetchall() == [
        ("items_bits_idx", "hamming", "bits", 16, 35), ("items_emb_idx", "cosine", "f32", 4, 35),
        ("named_items_emb_idx", "l1", "i8", 8, 26), ("nothing_emb_idx", "cosine", "f32", 3, 0)]


def test_text_key__stays_the_primary_key(vec0):
    run_import(vec0, "named")
    with pytest.raises(sqlite3.IntegrityError):
        vec0.execute("INSERT INTO items(name) SELECT name FROM items LIMIT 1")


def test_rows_added_to_the_new_table__are_found(vec0):
    run_import(vec0, "plain")
    vector = struct.pack("<6f", 9, 9, 9, 9, 9, 9)
    vec0.execute("INSERT INTO items(rowid, emb) VALUES (5000, ?)", [vector])
    assert keys(vec0, "SELECT key FROM annex_search('items_emb_idx', ?, 1)", vector) == [5000]


def test_old_table__is_left_as_it_is(vec0):
    before = dump(vec0, "everything%")
    run_import(vec0, "everything")
    assert dump(vec0, "everything%") == before and len(before) > 8


def test_options__are_those_of_the_indexes(vec0):
    run_import(vec0, "plain", "items", '{"metric":"cosine","recall":0.99,"model":"mine"}')
    row = vec0.execute("SELECT metric, format, options FROM annex_indexes").fetchone()
    assert row[:2] == ("cosine", "f32") and json.loads(row[2])["model"] == "mine"


def test_null_options__are_none(vec0):
    assert run_import(vec0, "plain", "items", None)["indexes"] == ["items_emb_idx"]


def test_names_with_a_schema__are_understood(connect, vec0, tmp_path):
    shutil.copyfile(FIXTURES / "vss0.db", tmp_path / "old.db")
    vec0.execute("ATTACH ? AS old", [str(tmp_path / "old.db")])
    assert run_import(vec0, "OLD.flat")["indexes"] == ["items_a_idx", "items_b_idx"]
    assert keys(vec0, "SELECT schema FROM annex_indexes") == ["old", "old"]
    run_import(vec0, "old.flat", "main.here")
    assert keys(vec0, "SELECT count(*) FROM main.here") == keys(
        vec0, "SELECT count(*) FROM old.items")
    run_import(vec0, "PLAIN", "temp.mine")
    assert keys(vec0, "SELECT count(*) FROM temp.mine") == keys(
        vec0, "SELECT count(*) FROM plain_expected")


def test_import_in_a_transaction__is_part_of_it(vec0):
    before = tables(vec0)
    vec0.execute("BEGIN")
    run_import(vec0, "plain")
    vec0.execute("ROLLBACK")
    assert tables(vec0) == before
    assert run_import(vec0, "plain")["rows"] == keys(vec0, "SELECT count(*) FROM plain_expected")[0]


def test_target_with_a_dot_in_its_name__has_indexes_without_one(vec0):
    assert run_import(vec0, "plain", "my.items")["indexes"] == ["my_items_emb_idx"]
    assert keys(vec0, "SELECT annex_check('my_items_emb_idx')") == ["ok"]


@pytest.mark.parametrize("declaration, key, wrapped, vector", [
    ("emb float[2], other text", 7, "?", struct.pack("<2f", 1, 2)),
    ("emb float[2] indexed by rescore(quantizer=bit), other text", 7, "?",
     struct.pack("<2f", 1, 2)),
    ("+other text, emb int8[2], rowid text primary key", "seven", "vec_int8(?)", b"\1\2")])
def test_vec0_table_that_annex_made__is_imported_too(connect, declaration, key, wrapped, vector):
    db = connect("own.db")
    load_vec(db)
    db.execute(f"CREATE VIRTUAL TABLE v USING vec0({declaration})")
    db.execute(f"INSERT INTO v(rowid, emb, other) VALUES (?, {wrapped}, 'x')", [key, vector])
    assert run_import(db, "v")["rows"] == 1
    assert db.execute("SELECT rowid, emb, other FROM items").fetchall() == [(key, vector, "x")]
    assert keys(db, "SELECT key FROM annex_search('items_emb_idx', ?, 1)", vector) == [key]


# ---- sqlite-vss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", VSS0)
def test_vss0_table__has_the_same_vectors_and_neighbours_afterwards(vss0, table):
    report = run_import(vss0, table)
    want = vss0.execute(f"SELECT * FROM {table}_expected ORDER BY 1").fetchall()
    columns = report["columns"]
    assert columns == ["rowid", "a", "b"] if table == "flat" else ["rowid", "a"]
    got = vss0.execute(f"SELECT {', '.join(columns)} FROM items ORDER BY 1").fetchall()
    assert got == want and report["rows"] == len(want)
    assert report["indexes"] == [f"items_{column}_idx" for column in columns[1:]]
    for query, answer in nearest_by_column(vss0, table).get("a", {}).items():
        check_search(vss0, "a", query, answer, FROM_FAISS[table])
    for index in report["indexes"]:
        assert keys(vss0, "SELECT annex_check(?)", index) == ["ok"]


def test_metric_of_a_vss0_table__is_that_of_its_index(vss0):
    run_import(vss0, "flat", "one")
    run_import(vss0, "inner", "two")
    assert keys(vss0, "SELECT metric FROM annex_indexes ORDER BY name") == ["l2", "l2", "ip"]


def test_vectors_of_rows_that_are_gone__are_counted_and_left_out(vss0):
    vss0.execute("DELETE FROM flat_data WHERE rowid IN (SELECT rowid FROM flat_data LIMIT 2)")
    report = run_import(vss0, "flat")
    assert report["skipped"] == 4 and report["rows"] == 31


def test_row_without_a_vector__has_none(vss0):
    vss0.execute("INSERT INTO flat_data(rowid) VALUES (999)")
    run_import(vss0, "flat")
    assert vss0.execute("SELECT a, b FROM items WHERE rowid = 999").fetchall() == [(None, None)]
    assert keys(vss0, "SELECT annex_check('items_a_idx')") == ["ok"]


def test_codes__are_refused_in_a_sentence(vss0):
    before = tables(vss0)
    assert "index of codes.a is of a kind that does not keep the vectors" in fails(vss0, "codes")
    assert tables(vss0) == before


@pytest.mark.parametrize("change, sentence", [
    ("UPDATE flat_index SET idx = substr(idx, 1, length(idx) - 1)", "cut short or damaged"),
    ("UPDATE flat_index SET idx = x''", "cut short or damaged"),
    ("UPDATE flat_index SET idx = NULL", "not in the database"),
    ("DELETE FROM flat_index", "not in the database"),
    ("UPDATE flat_index SET idx = (SELECT idx FROM flat_index ORDER BY rowid DESC)",
     "of another dimension than the table"),
    ("DROP TABLE flat_data", "its content is missing")])
def test_damaged_vss0_table__is_refused_and_nothing_is_left_behind(vss0, change, sentence):
    vss0.execute(change)
    before = tables(vss0)
    assert sentence in fails(vss0, "flat")
    assert tables(vss0) == before


# ---- What goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("change, sentence", [
    ("UPDATE {}_chunks SET size = 16", "the list of rows of chunk 1"),
    ("UPDATE {}_chunks SET size = -8", "the size of chunk 1"),
    ("UPDATE {}_chunks SET size = 1 << 40", "the size of chunk 1"),
    ("UPDATE {}_chunks SET validity = zeroblob(1)", "the list of rows of chunk 1"),
    ("UPDATE {}_chunks SET rowids = zeroblob(64)", "the list of rows of chunk 1"),
    ("DELETE FROM {}_chunks WHERE chunk_id = 2", "there is no row of chunk 2"),
    ("UPDATE {}_rowids SET chunk_offset = 9", "the list of rows of chunk 1"),
    ("UPDATE {}_rowids SET chunk_offset = -1", "the list of rows of chunk 1"),
    ("UPDATE {}_vector_chunks00 SET vectors = x'00'", "the vectors of chunk 1"),
    ("UPDATE {}_vector_chunks01 SET vectors = 'text'", "the vectors of chunk 1"),
    ("DELETE FROM {}_vector_chunks00 WHERE rowid = 2", "the vectors of chunk 2"),
    ("UPDATE {}_metadatachunks02 SET data = x''", "the metadata of chunk 1"),
    ("DELETE FROM {}_metadatatext00", "the text of chunk"),
    ("DELETE FROM {}_auxiliary", "the auxiliary columns of chunk 1"),
    ("DROP TABLE {}_auxiliary", "its content is missing or of another version"),
    ("DROP TABLE {}_rowids", "its content is missing or of another version")])
def test_damaged_vec0_table__is_refused_and_nothing_is_left_behind(vec0, change, sentence):
    vec0.execute(change.format("everything"))
    before = tables(vec0)
    assert sentence in fails(vec0, "everything")
    assert tables(vec0) == before and not vec0.in_transaction


@pytest.mark.parametrize("declaration, sentence", [
    ("vec0(e float[4], x date)", "Could not parse 'x date'"),
    ("vec0(e float[0])", "could not parse vector column 'e float[0]'"),
    ("vec0(e float[4] distance_metric=dot)", "vector column 'e float[4] distance_metric=dot'"),
    ("vec0(e float[4], a integer primary key, b integer primary key)",
     "More than one primary key"),
    ("vec0(e bit[12])", "could not parse vector column 'e bit[12]'"),
    ("vec0(x text)", "At least one vector column"),
    ("vss0(a(4), b)", "'b' is not name(dimension)")])
def test_declaration_of_another_version__is_shown(connect, declaration, sentence):
    db = connect("other.db")
    db.execute("PRAGMA writable_schema = 1")
    db.execute("INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, ?)",
               [f"CREATE VIRTUAL TABLE v USING {declaration}"])
    said = fails(db, "v")
    assert "the declaration of v is not that of sqlite-vec" in said and sentence in said


def test_vectors_kept_in_another_way__are_refused_in_a_sentence(vec0):
    rewrite_declaration(vec0, "plain", "vec0(emb float[6] indexed by rescore(quantizer=bit))")
    before = tables(vec0)
    assert "plain.emb is INDEXED BY something else than flat()" in fails(vec0, "plain")
    assert tables(vec0) == before


def test_words_of_a_declaration__may_be_shortened_as_in_sqlite_vec(vec0):
    want = vec0.execute("SELECT name, emb, title FROM named_expected ORDER BY 1").fetchall()
    rewrite_declaration(vec0, "named", "vec0(name t prim k, emb int8[8] dist=l1, title te, ch=8)")
    run_import(vec0, "named")
    assert vec0.execute("SELECT name, emb, title FROM items ORDER BY 1").fetchall() == want


# ---- Vectors that no index takes -----------------------------------------------------------------


def spoil_first(db, table, vector):
    """The first vector of the first chunk becomes this one; whose rowid is the answer."""
    chunk, vectors = db.execute(
        f"SELECT rowid, vectors FROM {table}_vector_chunks00 ORDER BY rowid").fetchone()
    db.execute(f"UPDATE {table}_vector_chunks00 SET vectors = ? WHERE rowid = ?",
               [vector + vectors[len(vector):], chunk])
    return keys(db, f"SELECT rowid FROM {table}_rowids WHERE chunk_id = ? AND chunk_offset = 0",
                chunk)[0]


@pytest.mark.parametrize("element", [math.nan, math.inf, -math.inf])
def test_vector_that_is_not_finite__is_left_out_and_counted_but_not_its_row(vec0, element):
    spoiled = spoil_first(vec0, "plain", struct.pack("<6f", 1, 2, 3, 4, 5, element))
    count = keys(vec0, "SELECT count(*) FROM plain_expected")[0]
    report = run_import(vec0, "plain")
    assert (report["rows"], report["skipped"]) == (count, 1)
    assert keys(vec0, "SELECT rowid FROM items WHERE emb IS NULL") == [spoiled]
    assert keys(vec0, "SELECT rows FROM annex_indexes") == [count - 1]
    assert keys(vec0, "SELECT annex_check('items_emb_idx')") == ["ok"]


def test_zero_vector_under_cosine__is_kept_and_not_found(vec0):
    zeros = struct.pack("<4f", 0, 0, 0, 0)
    spoiled = spoil_first(vec0, "everything", zeros)
    assert "skipped" not in run_import(vec0, "everything")
    assert keys(vec0, "SELECT id FROM items WHERE emb = ?", zeros) == [spoiled]
    query = struct.pack("<4f", 1, 1, 1, 1)
    assert spoiled not in keys(vec0, "SELECT key FROM annex_search('items_emb_idx', ?)", query)


def test_vector_of_a_vss0_table_that_is_not_finite__is_left_out_and_counted(vss0):
    blob = keys(vss0, "SELECT idx FROM flat_index ORDER BY rowid")[0]
    vector = keys(vss0, "SELECT a FROM flat_expected")[0]
    at = blob.index(vector)
    vss0.execute("UPDATE flat_index SET idx = ? WHERE rowid = 0",
                 [blob[:at] + struct.pack("<f", math.nan) + blob[at + 4:]])
    assert run_import(vss0, "flat")["skipped"] == 1
    assert keys(vss0, "SELECT e.a FROM items JOIN flat_expected AS e ON e.rowid_ = items.rowid"
                      " WHERE items.a IS NULL") == [vector]


def test_vector_that_a_table_of_annex_has_and_no_index_takes__is_named(connect):
    db = connect("own.db")
    load_vec(db)
    db.execute("CREATE VIRTUAL TABLE v USING vec0(emb float[2])")
    db.execute("INSERT INTO v_rows(rowid, emb) VALUES (7, x'00')")
    before = tables(db)
    sentence = fails(db, "v")
    assert "nothing of v was imported: row 7 of items cannot be indexed" in sentence
    assert tables(db) == before


@pytest.mark.parametrize("arguments, sentence", [
    (["nothing_here", "items"], "there is no table nothing_here in schema main"),
    (["plain_expected", "items"], "plain_expected is not a vec0 or vss0 table"),
    (["plain", "flat"], 'flat cannot be made: table "flat" already exists'),
    (["plain", "plain"], 'plain cannot be made: table "plain" already exists'),
    (["plain", "items", "{"], "options of annex_import are not a JSON object"),
    (["plain", "items", '{"metric":"far"}'], "far"),
    (["plain", "items", 7], "the options must be text, not an integer"),
    ([7, "items"], "the name of the old table must be text, not an integer"),
    (["plain", None], "the name of the new table must be text, not NULL")])
def test_mistake__is_named_in_a_sentence_and_nothing_is_made(vec0, arguments, sentence):
    vec0.execute("CREATE TABLE flat(a)")
    before = tables(vec0)
    assert sentence in fails(vec0, *arguments)
    assert tables(vec0) == before


def test_read_only_database__is_refused(connect, tmp_path):
    shutil.copyfile(FIXTURES / "vec0.db", tmp_path / "vec0.db")
    db = connect(f"file:{tmp_path}/vec0.db?mode=ro", uri=True)
    assert "readonly" in fails(db, "plain")


def test_interrupt__undoes_the_import(vec0):
    before = tables(vec0)
    vec0.set_progress_handler(lambda: 1, 300)
    assert "interrupted" in fails(vec0, "everything")
    vec0.set_progress_handler(None, 0)
    assert tables(vec0) == before


def test_view__cannot_import(vec0):
    vec0.execute("CREATE VIEW v AS SELECT annex_import('plain', 'items')")
    with pytest.raises(sqlite3.OperationalError, match="unsafe use of annex_import"):
        vec0.execute("SELECT * FROM v").fetchall()
