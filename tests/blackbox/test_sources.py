"""An index over several tables, several indexes over one, the default one, copies and models. What
SQL answers is compared with numpy over the rows of the tables."""

import json
import random
import sqlite3

import numpy as np
import pytest

DIMENSION = 8


def vector(seed):
    return np.random.RandomState(seed).standard_normal(DIMENSION).astype("f4")


@pytest.fixture
def db(connect):
    """Posts with integer keys and blobs, tils with text keys and JSON, notes with two columns."""
    db = connect("blog.db")
    db.executescript("""
        CREATE TABLE posts(id INTEGER PRIMARY KEY, lang TEXT, v BLOB);
        CREATE TABLE tils(slug TEXT PRIMARY KEY NOT NULL, lang TEXT, v TEXT);
        CREATE TABLE notes(book INTEGER, name TEXT, v BLOB, PRIMARY KEY(book, name))""")
    with_vectors = [(i, "de" if i % 3 else "en", vector(i)) for i in range(240)]
    db.execute("BEGIN")
    for i, lang, v in with_vectors[:120]:
        db.execute("INSERT INTO posts VALUES (?, ?, ?)", (i, lang, v.tobytes()))
    for i, lang, v in with_vectors[120:200]:
        text = json.dumps([float(x) for x in v])
        db.execute("INSERT INTO tils VALUES (?, ?, ?)", (f"til {i}", lang, text))
    for i, _, v in with_vectors[200:]:
        db.execute("INSERT INTO notes VALUES (?, ?, ?)", (i % 2, f"note {i}", v.tobytes()))
    db.execute("COMMIT")
    return db


def call(db, text, *arguments):
    return db.execute(text, arguments).fetchone()[0]


def create(db, name="mix", **options):
    options = {"metric": "cosine", "sources": [{"table": "tils"}, {"table": "notes"}], **options}
    return call(db, "SELECT annex_create(?, 'posts', 'v', ?)", name, json.dumps(options))


def true_rows(db, query, tables=("posts", "tils", "notes"), where="1"):
    """(distance, key, source) of all rows, in the order of answers."""
    keys = {"posts": "id, NULL", "tils": "slug, NULL", "notes": "book, name"}
    rows = []
    for source, table in enumerate(tables):
        for key, key2, blob in db.execute(f"SELECT {keys[table]}, v FROM {table} WHERE {where}"):
            v = np.array(json.loads(blob)) if isinstance(blob, str) else np.frombuffer(blob, "f4")
            v, q = v.astype("f8"), query.astype("f8")
            distance = 1 - v @ q / np.linalg.norm(v) / np.linalg.norm(q)
            rows.append((distance, isinstance(key, str), key, key2 or "", source, table))
    return [(row[-1], row[2], row[3] or None) for row in sorted(rows, key=lambda row: row[:5])]


def found(db, index, query, k=None, where=""):
    return db.execute(f"SELECT source, key, key2 FROM annex_search(?, ?, ?) {where}",
                      (index, query.tobytes(), k)).fetchall()


def refused(db, says, text, *arguments):
    with pytest.raises(sqlite3.Error) as caught:
        db.execute(text, arguments).fetchall()
    assert says in str(caught.value)


def names(db, column="name"):
    return [name for name, in db.execute(f"SELECT {column} FROM annex_indexes")]


# ---- several sources -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["flat", "graph"])
def test_several_tables__are_answered_as_one(db, family):
    made = json.loads(create(db, index=family))
    assert (made["rows"], made["dimension"], made["family"]) == (240, DIMENSION, family)
    for seed in range(1000, 1010):
        query = vector(seed)
        truth = true_rows(db, query)
        options = '{"effort": "exact"}'
        for k in (0, 1, 7, 240, 500):
            rows = db.execute("SELECT source, key, key2 FROM annex_search('mix', ?, ?, ?)",
                              (query.tobytes(), k, options)).fetchall()
            assert rows == truth[:k]
        assert found(db, "mix.tils", query, 5) == true_rows(db, query, ["tils"])[:5]


def test_rows_without_a_k__come_once_each_whatever_their_source(db):
    create(db)
    query = vector(1)
    assert found(db, "mix", query) == true_rows(db, query)
    everywhere = [x for x in true_rows(db, query) if x[0] == "notes"][:3]
    assert found(db, "mix", query, where="WHERE source = 'notes' LIMIT 3") == everywhere


def test_equal_distances__are_ordered_by_key_then_source(db):
    """The same vectors in all tables: an answer in many parts must lose and repeat none."""
    db.executescript("UPDATE posts SET v = (SELECT v FROM posts WHERE id = 3);"
                     "UPDATE notes SET v = (SELECT v FROM posts WHERE id = 3)")
    call(db, "SELECT annex_create('mix', 'posts', 'v', ?)",
         '{"sources": [{"table": "notes"}, {"table": "posts", "name": "again"}]}')
    query = vector(77)
    rows = db.execute("SELECT key, key2, source FROM annex_search('mix', ?)",
                      (query.tobytes(),)).fetchall()
    assert len(rows) == len(set(rows)) == 120 + 40 + 120
    order = {"posts": 0, "notes": 1, "again": 2}
    assert rows == sorted(rows, key=lambda row: (row[0], row[1] or "", order[row[2]]))


def test_changes_of_any_table__are_in_the_next_answer(db, connect):
    create(db)
    writer = connect("blog.db", extension=False)
    query = vector(5000)
    near = (query * 2).astype("f4")
    writer.execute("INSERT INTO posts VALUES (1000, 'en', ?)", (near.tobytes(),))
    writer.execute("UPDATE tils SET slug = 'renamed' WHERE slug = 'til 130'")
    writer.execute("DELETE FROM notes WHERE name = 'note 210'")
    assert found(db, "mix", query) == true_rows(db, query)
    assert found(db, "mix", query, 1) == [("posts", 1000, None)]
    report = json.loads(call(db, "SELECT annex_sync('mix')"))
    assert (report["inserted"], report["deleted"]) == (2, 2)
    assert call(db, "SELECT annex_check('mix')") == "ok"
    assert set(names(db, "state")) == {"fresh"}
    assert found(db, "mix", query) == true_rows(db, query)


def test_one_stale_source__is_scanned_and_the_others_are_not(db, connect):
    create(db)
    writer = connect("blog.db", extension=False)
    writer.executescript("""
        CREATE TABLE new(slug TEXT PRIMARY KEY NOT NULL, lang TEXT, v TEXT);
        INSERT INTO new SELECT * FROM tils WHERE slug > 'til 125';
        DROP TABLE tils; ALTER TABLE new RENAME TO tils""")
    query = vector(6000)
    assert found(db, "mix", query) == true_rows(db, query)
    states = dict(db.execute("SELECT name, state FROM annex_indexes"))
    assert states == {"mix": "stale", "mix.posts": "fresh", "mix.tils": "stale",
                      "mix.notes": "fresh"}
    assert call(db, "SELECT annex_status('mix')").endswith("run annex_sync('mix')")
    report = json.loads(call(db, "SELECT annex_sync('mix')"))
    assert report["swept"] and not report["rebuilt"]
    assert set(names(db, "state")) == {"fresh"}
    assert found(db, "mix", query) == true_rows(db, query)


def test_a_source_has_its_own_key_and_condition(db):
    db.execute("CREATE UNIQUE INDEX by_name ON notes(name)")
    call(db, "SELECT annex_create('mix', 'posts', 'v', ?)", json.dumps(
        {"metric": "cosine", "where": "lang = 'en'",
         "sources": [{"table": "tils", "name": "german", "where": "lang = 'de'"},
                     {"table": "tils", "name": "english", "where": "lang = 'en'"}]}))
    query = vector(9)
    labels = {"posts": "posts", "tils": "german"}
    german = true_rows(db, query, ["tils"], "lang = 'de'")
    assert found(db, "mix.german", query) == [("german", *row[1:]) for row in german]
    rows = found(db, "mix", query)
    assert len(rows) == 40 + 80
    assert {row[0] for row in rows} == {"posts", "german", "english"}
    assert labels["posts"] in names(db, "source")


def test_filters__hold_for_every_source(db):
    create(db, sources=[{"table": "tils"}])
    query = vector(10)
    keys = [3, 5, 7, "til 133", "til 150"]
    marks = ", ".join("?" * len(keys))
    rows = db.execute(f"SELECT source, key, key2 FROM annex_search('mix', ?, 10) AS s "
                      f"WHERE s.key IN ({marks})", (query.tobytes(), *keys)).fetchall()
    truth = [row for row in true_rows(db, query, ["posts", "tils"]) if row[1] in keys]
    assert rows == truth


def test_limits__hold_for_all_sources_together(db):
    create(db, index="flat")
    query = vector(11).tobytes()
    complete, = db.execute("SELECT complete FROM annex_search('mix', ?, 240, '{\"max_scan\": 50}') "
                           "LIMIT 1", (query,)).fetchone()
    assert complete == 0
    refused(db, "'mix.<source>'", "SELECT * FROM annex_search('mix', ?, 3, ?)", query,
            '{"mmr": 0.5}')
    refused(db, "'mix.<source>'", "SELECT annex_vector('mix', 3)")
    assert call(db, "SELECT annex_vector('mix.posts', 3)") == vector(3).tobytes()


def test_list__has_the_whole_and_its_sources(db):
    create(db, model="m1")
    whole = db.execute("SELECT \"table\", keys, source, rows, sources, state, model, dimension, "
                       "metric FROM annex_indexes WHERE name = 'mix'").fetchone()
    assert whole == ("notes, posts, tils", "book, name, id, slug", "notes, posts, tils", 240, 3,
                     "fresh", "m1", DIMENSION, "cosine")
    assert names(db) == ["mix", "mix.notes", "mix.posts", "mix.tils"]
    assert call(db, "SELECT annex_status('mix')").startswith("fresh: index mix holds all 240 rows")


def test_an_empty_source__takes_the_dimension_of_the_others(db):
    db.execute("CREATE TABLE later(id INTEGER PRIMARY KEY, v BLOB)")
    create(db, sources=[{"table": "later"}])
    query = vector(12)
    assert found(db, "mix", query, 3) == true_rows(db, query, ["posts"])[:3]
    db.execute("INSERT INTO later VALUES (1, ?)", (query.tobytes(),))
    assert found(db, "mix", query, 1) == [("later", 1, None)]
    call(db, "SELECT annex_sync('mix')")
    assert found(db, "mix", query, 1) == [("later", 1, None)]


@pytest.mark.parametrize("sources, says", [
    ([{"table": "odd"}], "odd those of 3, which cannot be compared; make an index for each"),
    ([{"table": "posts"}], "two sources of index bad are called posts"),
    ([{"table": "nowhere"}], "there is no table nowhere"),
    ([{"table": "tils", "column": "w"}], "has no column w"),
    ([{"tabel": "tils"}], 'did you mean "table"'),
    ([{"column": "v"}], 'a source needs a "table"'),
    ([{"table": "tils", "metric": "l2"}], 'there is no option "metric"'),
    ([{"table": 3}], 'the option "table" of a source must be a text'),
    (["tils"], "a source must be an object"),
    ({"table": "tils"}, "an array of objects"),
    ([{"table": "tils", "name": f"t{i}"} for i in range(64)], "at most 64 sources"),
])
def test_sources_that_do_not_fit__leave_nothing_behind(db, sources, says):
    db.execute("CREATE TABLE odd(id INTEGER PRIMARY KEY, v BLOB)")
    db.execute("INSERT INTO odd VALUES (1, ?)", (np.ones(3, "f4").tobytes(),))
    before = db.execute("SELECT * FROM sqlite_schema").fetchall()
    refused(db, says, "SELECT annex_create('bad', 'posts', 'v', ?)",
            json.dumps({"sources": sources}))
    assert db.execute("SELECT * FROM sqlite_schema").fetchall() == before


def test_rename_and_drop__take_the_sources_along(db):
    schema = db.execute("SELECT sql FROM sqlite_schema").fetchall()
    create(db)
    call(db, "SELECT annex_rename('mix', 'all')")
    assert names(db) == ["all", "all.notes", "all.posts", "all.tils"]
    query = vector(13)
    assert found(db, "all", query, 9) == true_rows(db, query)[:9]
    refused(db, "is a source of index all and cannot be dropped", "SELECT annex_drop('all.tils')")
    refused(db, "cannot be renamed", "SELECT annex_rename('all.tils', 'x')")
    refused(db, "cannot be the name", "SELECT annex_rename('all', 'x.y')")
    db.execute("ALTER TABLE tils RENAME TO learned")
    assert found(db, "all.tils", query, 1)[0][0] == "tils"
    call(db, "SELECT annex_drop('all')")
    assert db.execute("SELECT replace(sql, 'learned', 'tils') FROM sqlite_schema").fetchall() == [
        (text and text.replace("CREATE TABLE tils", 'CREATE TABLE "tils"'),) for text, in schema]


def test_a_source_that_was_deleted_from_the_catalog__is_told(db):
    create(db)
    db.execute("DELETE FROM annex_index WHERE name = 'mix.tils'")
    refused(db, "has 2 of its 3 sources", "SELECT * FROM annex_search('mix', ?, 1)", b"\0" * 32)
    assert call(db, "SELECT state FROM annex_indexes WHERE name = 'mix'") == "stale"
    assert call(db, "SELECT annex_drop('mix')") == "mix"


def test_random_changes_of_all_tables__equal_brute_force(db):
    create(db, index="graph", recall=0.99)
    choose = random.Random(7)
    for step in range(60):
        v = vector(10_000 + step)
        key = choose.randrange(130)
        statement, arguments = choose.choice([
            ("INSERT OR REPLACE INTO posts VALUES (?, 'en', ?)", (key, v.tobytes())),
            ("DELETE FROM posts WHERE id = ?", (key,)),
            ("INSERT OR REPLACE INTO tils VALUES (?, 'de', ?)",
             (f"til {key + 100}", json.dumps([float(x) for x in v]))),
            ("UPDATE notes SET v = NULL WHERE name = ?", (f"note {200 + key % 40}",)),
            ("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)",
             (key % 2, f"note {200 + key % 40}", v.tobytes())),
        ])
        db.execute(statement, arguments)
        if step % 17 == 16:
            call(db, "SELECT annex_sync('mix')")
        query = vector(20_000 + step)
        rows = db.execute("SELECT source, key, key2 FROM annex_search('mix', ?, 8, ?)",
                          (query.tobytes(), '{"effort": "exact"}')).fetchall()
        assert rows == true_rows(db, query, where="v IS NOT NULL")[:8]
    assert call(db, "SELECT annex_sync('mix')") and call(db, "SELECT annex_check('mix')") == "ok"


def test_sources_of_an_attached_database__lie_in_it_together(db, connect):
    other = connect("other.db")
    other.execute("CREATE TABLE posts(id INTEGER PRIMARY KEY, v BLOB)")  # comes first by its name
    file, = db.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    other.execute("ATTACH ? AS blog", (file,))
    refused(other, "are in different schemas",
            "SELECT annex_create('blog.mix', 'blog.posts', 'v', ?)",
            '{"sources": [{"table": "main.posts", "name": "b"}]}')
    call(other, "SELECT annex_create('blog.mix', 'blog.posts', 'v', ?)",
         '{"metric": "cosine", "default": true, "sources": [{"table": "tils"}]}')
    query = vector(18)
    truth = true_rows(db, query, ["posts", "tils"])
    for name in ("mix", "blog.mix"):
        assert found(other, name, query, 9) == truth[:9]
    assert found(other, "blog.posts", query, 3) == true_rows(db, query, ["posts"])[:3]
    assert found(other, "blog.mix.tils", query, 3) == true_rows(db, query, ["tils"])[:3]
    db.execute("DELETE FROM tils WHERE slug < 'til 140'")
    assert "run annex_sync('blog.mix')" in call(other, "SELECT annex_status('blog.mix')")
    call(other, "SELECT annex_sync('blog.mix')")
    assert call(other, "SELECT annex_check('blog.mix')") == "ok"
    call(other, "SELECT annex_copy('blog.mix', 'second')")
    assert set(names(other, "schema")) == {"blog"} and len(names(other)) == 6


def test_sources_in_files__and_read_only(db, connect, tmp_path):
    create(db, storage="file")
    query = vector(19)
    assert len(list(tmp_path.glob("blog.db.annex-mix_*"))) == 3
    db.execute("INSERT INTO posts VALUES (500, 'en', ?)", (query.tobytes(),))
    reader = connect(f"file:{tmp_path}/blog.db?mode=ro", uri=True)
    assert found(reader, "mix", query) == true_rows(db, query)
    for statement in ("annex_sync('mix')", "annex_default('mix')", "annex_copy('mix', 'b')"):
        refused(reader, "reading only", f"SELECT {statement}")
    call(db, "SELECT annex_optimize('mix')")
    assert len(list(tmp_path.glob("blog.db.annex-mix_*"))) == 3
    assert found(reader, "mix", query) == true_rows(db, query)
    call(db, "SELECT annex_drop('mix')")
    assert list(tmp_path.glob("blog.db.annex*")) == []


# ---- the default index ---------------------------------------------------------------------------


def plan(db, name):
    return db.execute("SELECT plan, source FROM annex_search(?, ?, 1)",
                      (name, vector(14).tobytes())).fetchone()


def test_the_name_of_a_table__stands_for_its_default_index(db):
    call(db, "SELECT annex_create('one', 'posts', 'v', '{\"index\": \"flat\"}')")
    refused(db, "there is no index posts", "SELECT * FROM annex_search('posts', ?, 1)", b"")
    assert call(db, "SELECT annex_default('one')") == "one"
    assert plan(db, "posts") == ("flat recall=0.95 segments=1 delta=0", "posts")
    call(db, "SELECT annex_create('two', 'posts', 'v', ?)", '{"index": "graph", "default": true}')
    assert plan(db, "posts")[0].startswith("graph")
    assert dict(db.execute("SELECT name, is_default FROM annex_indexes")) == {"one": 0, "two": 1}
    call(db, "SELECT annex_default('one')")
    assert plan(db, "posts")[0].startswith("flat")
    call(db, "SELECT annex_rename('one', 'first')")
    assert plan(db, "posts")[0].startswith("flat")
    assert call(db, "SELECT annex_vector('posts', 3)") == vector(3).tobytes()
    assert call(db, "SELECT annex_vector('posts', 999)") is None
    assert call(db, "SELECT annex_status('posts')").startswith("fresh: index first holds")
    call(db, "SELECT annex_default('first', 0)")
    refused(db, "there is no index posts", "SELECT * FROM annex_search('posts', ?, 1)", b"")


def test_a_default_over_several_tables__is_that_of_each(db):
    create(db)
    call(db, "SELECT annex_create('solo', 'tils', 'v', '{\"metric\": \"cosine\"}')")
    call(db, "SELECT annex_default('mix')")
    query = vector(15)
    assert found(db, "tils", query, 4) == true_rows(db, query, ["tils"])[:4]
    call(db, "SELECT annex_default('solo')")
    assert dict(db.execute("SELECT name, is_default FROM annex_indexes")) == {
        "mix": 0, "mix.notes": 1, "mix.posts": 1, "mix.tils": 0, "solo": 1}


def test_a_renamed_table__keeps_its_default_index(db):
    call(db, "SELECT annex_create('one', 'posts', 'v', '{\"default\": true}')")
    db.execute("ALTER TABLE posts RENAME TO articles")
    assert plan(db, "articles")[1] == "articles"


def test_a_switch__is_seen_by_others_only_when_it_is_committed(db, connect):
    call(db, "SELECT annex_create('one', 'posts', 'v', '{\"index\": \"flat\", \"default\": true}')")
    call(db, "SELECT annex_create('two', 'posts', 'v', '{\"index\": \"graph\"}')")
    other = connect("blog.db")
    assert plan(other, "posts")[0].startswith("flat")
    db.execute("BEGIN")
    call(db, "SELECT annex_default('two')")
    assert plan(db, "posts")[0].startswith("graph")
    assert plan(other, "posts")[0].startswith("flat")
    db.execute("ROLLBACK")
    assert plan(db, "posts")[0].startswith("flat")
    call(db, "SELECT annex_default('two')")
    assert plan(other, "posts")[0].startswith("graph")


def test_an_index_that_has_the_name_of_a_table__comes_first(db):
    call(db, "SELECT annex_create('posts', 'tils', 'v')")
    call(db, "SELECT annex_create('one', 'posts', 'v', '{\"default\": true}')")
    assert plan(db, "posts")[1] == "tils"


# ---- copies and models ---------------------------------------------------------------------------


def test_a_copy__is_of_the_rows_of_today_with_what_was_changed(db):
    call(db, "SELECT annex_create('one', 'posts', 'v', ?)",
         '{"metric": "cosine", "where": "lang = \'en\'", "default": true, "recall": 0.9}')
    db.execute("ALTER TABLE posts RENAME COLUMN lang TO language")
    db.execute("DELETE FROM posts WHERE id = 3")
    made = json.loads(call(db, "SELECT annex_copy('one', 'two', '{\"index\": \"graph\"}')"))
    assert (made["rows"], made["family"], made["metric"]) == (39, "graph", "cosine")
    where, options, default = db.execute(
        "SELECT \"where\", options, is_default FROM annex_indexes WHERE name = 'two'").fetchone()
    assert where == "\"language\" = 'en'" or where == "language = 'en'"
    assert json.loads(options)["recall"] == 0.9 and not default
    refused(db, "there is an index two already", "SELECT annex_copy('one', 'two')")
    refused(db, "there is no index nope", "SELECT annex_copy('nope', 'three')")
    refused(db, "did you mean \"recall\"", "SELECT annex_copy('one', 'x', '{\"recal\": 1}')")


def test_two_models_side_by_side__and_the_switch(db):
    """The second model has another dimension, in another column."""
    db.execute("ALTER TABLE posts ADD COLUMN w BLOB")
    db.execute("UPDATE posts SET w = substr(v, 1, 16)")
    call(db, "SELECT annex_create('old', 'posts', 'v', '{\"model\": \"A\", \"default\": true}')")
    call(db, "SELECT annex_copy('old', 'new', '{\"model\": \"B\", \"column\": \"w\"}')")
    assert db.execute("SELECT name, model, dimension FROM annex_indexes").fetchall() == [
        ("new", "B", 4), ("old", "A", 8)]
    query, short = vector(16).tobytes(), vector(16)[:4].tobytes()
    asked = '{"model": "A"}'
    assert db.execute("SELECT count(*) FROM annex_search('posts', ?, 3, ?)",
                      (query, asked)).fetchone() == (3,)
    call(db, "SELECT annex_default('new')")
    refused(db, "index new holds vectors of the model B, and the query is of A; embed the query "
                "with B", "SELECT * FROM annex_search('posts', ?, 3, ?)", short, asked)
    assert db.execute("SELECT count(*) FROM annex_search('posts', ?, 3)",
                      (short,)).fetchone() == (3,)


def test_a_copy_of_several_sources__has_them_all(db):
    create(db)
    made = json.loads(call(db, "SELECT annex_copy('mix', 'mix2', '{\"metric\": \"l2\"}')"))
    assert (made["rows"], made["metric"]) == (240, "l2")
    assert names(db)[4:] == ["mix2", "mix2.notes", "mix2.posts", "mix2.tils"]
    call(db, "SELECT annex_drop('mix')")
    assert call(db, "SELECT annex_check('mix2')") == "ok"


# ---- the command ---------------------------------------------------------------------------------


def test_the_command__makes_copies_compares_and_searches_them(db, annex):
    path = "blog.db"
    made = json.loads(annex("create", path, "mix", "--table", "posts", "--table", "tils",
                            "--vector", "v", "--metric", "cosine", "--model", "m", "--default",
                            "--where", "lang = 'en'", "--where", "", "--json").stdout)
    assert (made["rows"], made["sources"], made["is_default"], made["model"]) == (120, 2, True, "m")
    query = json.dumps([float(x) for x in vector(17)])
    rows = json.loads(annex("search", path, "mix", "--query", query, "-k", "5", "--json").stdout)
    truth = (true_rows(db, vector(17), ["posts"], "lang = 'en'")
             + true_rows(db, vector(17), ["tils"]))
    assert {(row["source"], row["key"]) for row in rows} <= {row[:2] for row in truth}
    assert json.loads(annex("search", path, "--query", query, "-k", "5", "--json").stdout) == rows
    assert json.loads(annex("search", path, "mix", "--query", query, "-k", "5", "--json", "--model",
                            "m").stdout) == rows
    assert "embed the query with m" in annex("search", path, "mix", "--query", query, "--model",
                                             "n", code=1).stderr
    alone = json.loads(annex("search", path, "tils", "--query", query, "-k", "1", "--json").stdout)
    assert alone[0]["key"] == true_rows(db, vector(17), ["tils"])[0][1]
    assert "search mix.<source>" in annex("search", path, "mix", "--like", "3", code=1).stderr
    annex("copy", path, "mix", "trial", "--index", "graph")
    compared = json.loads(annex("compare", path, "--table", "tils", "--json", "-k", "5").stdout)
    assert [row["index"] for row in compared] == ["mix.tils", "trial.tils"]
    assert [row["family"] for row in compared] == ["flat", "graph"]
    for row in compared:
        assert row["questions"] == 80 and row["recall"] > 0.9 and 0 < row["p50_us"] <= row["p99_us"]
        assert row["bytes"] > 0 and row["build_seconds"] >= 0
    assert "recall" in annex("compare", path, "--table", "posts").stdout
    annex("default", path, "trial")
    defaults = json.loads(annex("default", path, "--json").stdout)
    assert defaults == [{"source": "posts", "index": "trial.posts"},
                        {"source": "tils", "index": "trial.tils"}]
    annex("default", path, "trial", "--off")
    assert json.loads(annex("default", path, "--json").stdout) == []
    synced = json.loads(annex("sync", path, "--json").stdout)
    assert [row["index"] for row in synced] == ["mix", "trial"]
    assert all(row["ok"] for row in json.loads(annex("check", path, "--json").stdout))
    assert "no index over it" in annex("compare", path, "--table", "notes", code=3).stderr
    assert "--table or --collection" in annex("compare", path, code=2).stderr
    assert "once for each --table" in annex(
        "create", path, "x", "--table", "posts", "--table", "tils", "--table", "notes",
        "--vector", "v", "--key", "a", "--key", "b", code=2).stderr
