"""faiss_search remembers vectors and indexes, and answers as if it did not: whoever changes the
table, in whatever way."""

import json
import random
import sqlite3
import struct
import subprocess
import sys

import numpy
import pytest
from conftest import EXTENSION
from faiss_reference import encode, expected, fill, insert, whole_rows
from sql_ask import refusal, value


@pytest.fixture
def db(connect):
    return connect()


SCAN = 'SELECT id, embedding FROM "main"."t"'


class Watch:
    """The statements that a connection runs."""

    def __init__(self, db):
        self.seen = []
        db.set_trace_callback(self.seen.append)

    def scans(self):
        n = sum(sql.strip("- ") == SCAN for sql in self.seen)
        self.seen.clear()
        return n


def found(db, query=(0,), k=3, database="main", table="t"):
    return json.loads(value(db, "faiss_search(?, ?, ?, ?)", database, table, encode(query), k))


@pytest.fixture(params=["delete", "wal"])
def pair(request, connect):
    """Two connections to one file."""
    first, second = connect("demo.db"), connect("demo.db")
    first.execute(f"PRAGMA journal_mode = {request.param}")
    for db in (first, second):
        db.execute("PRAGMA synchronous = OFF")
    fill(first, [(i, [i]) for i in range(1, 600)])
    second.execute("SELECT 1 FROM t").fetchone()
    return first, second


def test_second_search__does_not_read_the_table(pair):
    db = pair[0]
    watch = Watch(db)
    assert found(db) == [1, 2, 3] and watch.scans() == 1
    assert found(db, [9]) == [9, 8, 10] and watch.scans() == 0
    db.execute("CREATE TABLE unrelated(x)")
    assert found(db) == [1, 2, 3] and watch.scans() == 1
    db.execute("BEGIN")
    assert found(db) == [1, 2, 3] and watch.scans() == 0


def test_committed_changes__are_found_by_all_connections(pair):
    first, second = pair
    for db in pair:
        assert found(db) == [1, 2, 3]
    first.execute("DELETE FROM t WHERE id = 1")
    for db in pair:
        assert found(db) == [2, 3, 4]
    second.execute("INSERT INTO t VALUES (1000, ?)", (encode([0.5]),))
    for db in pair:
        assert found(db) == [1000, 2, 3]
    second.execute("UPDATE t SET embedding = ? WHERE id = 7", (encode([0]),))
    for db in pair:
        assert found(db) == [7, 1000, 2]


def test_changes_of_another_process__are_found(pair, tmp_path):
    assert found(pair[0]) == [1, 2, 3]
    subprocess.run([sys.executable, "-c", "import sqlite3, sys\n"
                    "db = sqlite3.connect(sys.argv[1])\n"
                    "db.execute('DELETE FROM t WHERE id < 100')\ndb.commit()",
                    str(tmp_path / "demo.db")], check=True)
    assert found(pair[0]) == [100, 101, 102]


def test_uncommitted_changes__are_found_by_their_own_connection_only(pair):
    first, second = pair
    assert found(first) == found(second) == [1, 2, 3]
    first.execute("BEGIN")
    first.execute("DELETE FROM t WHERE id = 1")
    assert found(first) == [2, 3, 4]
    assert found(second) == [1, 2, 3]
    first.execute("SAVEPOINT s")
    first.execute("DELETE FROM t WHERE id = 2")
    assert found(first) == [3, 4, 5]
    first.execute("ROLLBACK TO s")
    assert found(first) == [2, 3, 4]
    first.execute("DROP TABLE t")
    assert "there is no table t" in refusal(first, "faiss_search('main', 't', x'', 1)")
    fill(first, [(5, [5])])
    assert found(first) == [5]
    first.execute("ROLLBACK")
    assert found(first) == found(second) == [1, 2, 3]


def test_changes_that_are_rolled_back__leave_the_vectors_kept(pair):
    db = pair[0]
    assert found(db) == [1, 2, 3]
    watch = Watch(db)
    db.execute("BEGIN")
    db.execute("DELETE FROM t")
    assert found(db) == [] and watch.scans() == 1
    db.execute("ROLLBACK")
    assert found(db) == [1, 2, 3] and watch.scans() <= 1


def test_old_snapshot__is_searched_as_it_was(pair):
    first, second = pair
    if value(first, "* FROM pragma_journal_mode") != "wal":
        return  # a reader keeps writers out
    for warm in (True, False):
        if warm:
            assert found(first)[0] == 1
        first.execute("BEGIN")
        assert value(first, "count(*) FROM t") == 599
        second.execute("UPDATE t SET id = -id WHERE id = 1")
        assert found(second) == [-1, 2, 3]
        assert found(first) == [1, 2, 3]
        first.execute("COMMIT")
        assert found(first) == [-1, 2, 3]
        second.execute("UPDATE t SET id = -id WHERE id = -1")


def test_table_that_is_made_anew__is_searched_anew(pair):
    first, second = pair
    assert found(first) == found(second) == [1, 2, 3]
    first.execute("DROP TABLE t")
    assert "there is no table t" in refusal(second, "faiss_search('main', 't', x'', 1)")
    fill(first, [("a", [5, 5])], id_type="TEXT")
    for db in pair:
        assert found(db, [1, 1]) == ["a"]
    second.execute("ALTER TABLE t RENAME TO u")
    fill(second, [("b", [5, 5])], id_type="TEXT")
    for db in pair:
        assert found(db, [1, 1]) == ["b"]
        assert found(db, [1, 1], table="u") == ["a"]


@pytest.mark.parametrize("change", [
    "ALTER TABLE t DROP COLUMN embedding; ALTER TABLE t ADD COLUMN embedding",
    "DELETE FROM t", "UPDATE t SET embedding = NULL", "PRAGMA user_version = 5; DELETE FROM t",
    "CREATE TABLE n(id INTEGER PRIMARY KEY, embedding); DROP TABLE t; ALTER TABLE n RENAME TO t",
])
def test_change_of_all_rows__is_seen(pair, change):
    first, second = pair
    assert found(first) == found(second) == [1, 2, 3]
    first.executescript(change)
    assert found(first) == found(second) == []


def test_vacuum_checkpoints_and_journal_modes__change_nothing(pair):
    first, second = pair
    for change in ("VACUUM", "DELETE FROM t WHERE id = 1", "PRAGMA wal_checkpoint(TRUNCATE)",
                   "VACUUM"):
        assert found(first) == found(second)
        second.execute(change).fetchall()
    assert found(first) == found(second) == [2, 3, 4]
    second.close()
    for mode in ("delete", "wal", "memory", "wal", "persist", "off"):
        first.execute(f"PRAGMA journal_mode = {mode}")
        assert found(first) == [2, 3, 4]
        first.execute("UPDATE t SET id = 1 WHERE id = 2")
        assert found(first) == [1, 3, 4]
        first.execute("UPDATE t SET id = 2 WHERE id = 1")


def test_write_through_a_blob_handle__is_found(pair):
    first, second = pair
    if not hasattr(first, "blobopen"):
        pytest.skip("Python 3.11 has it")
    assert found(first) == found(second) == [1, 2, 3]
    with first.blobopen("t", "embedding", 500) as blob:
        blob.write(encode([0]))
        assert found(first) == [500, 1, 2]
    for db in pair:
        assert found(db) == [500, 1, 2]


def test_attached_file_that_was_changed_while_detached__is_read_anew(connect, tmp_path):
    db = connect()
    paths = [str(tmp_path / name) for name in ("a.db", "b.db")]
    for n, path in enumerate(paths):
        other = connect(path, extension=False)
        fill(other, [(i + 100 * n, [i]) for i in range(5)])
        other.close()
    for turn in range(12):
        path = paths[turn // 2 % 2]
        db.execute("ATTACH ? AS x", (path,))
        first = 100 * (turn // 2 % 2)
        assert found(db, database="x")[0] == first + turn // 4 % 5 if turn % 4 == 0 else True
        got = found(db, database="x")
        assert got == [i for i, in db.execute("SELECT id FROM x.t ORDER BY id LIMIT 3")]
        db.execute("DETACH x")
        if turn % 4 == 3:
            for each in paths:
                other = connect(each, extension=False)
                other.execute("DELETE FROM t WHERE id = (SELECT min(id) FROM t)")
                other.close()


def test_database_that_is_replaced__is_read_anew(db):
    if not hasattr(db, "deserialize"):
        pytest.skip("Python 3.11 has it")
    images = []
    for n in range(4):
        image = sqlite3.connect(":memory:")
        fill(image, [(10 * n + i, [i]) for i in range(5)])
        images.append(image.serialize())
    for turn in range(16):
        db.deserialize(images[turn % 4])
        assert found(db) == [10 * (turn % 4) + i for i in range(3)]


def test_temporary_and_in_memory_tables__are_fresh(db):
    fill(db, [(i, [i]) for i in range(5)])
    fill(db, [(i, [i]) for i in range(5)], "temp.u")
    for database, table in (("main", "t"), ("temp", "u")):
        assert found(db, database=database, table=table) == [0, 1, 2]
        db.execute(f"DELETE FROM {table} WHERE id = 0")
        assert found(db, database=database, table=table) == [1, 2, 3]
        db.execute("BEGIN")
        db.execute(f"DELETE FROM {table} WHERE id = 1")
        assert found(db, database=database, table=table) == [2, 3, 4]
        db.execute("ROLLBACK")
        assert found(db, database=database, table=table) == [1, 2, 3]


def test_shared_cache__is_searched_with_and_without_what_others_have_not_committed(connect):
    first, second = (connect("file:shared?mode=memory&cache=shared", uri=True) for _ in range(2))
    fill(first, [(i, [i]) for i in range(5)])
    second.execute("PRAGMA read_uncommitted = ON")
    for end, result in (("ROLLBACK", [0, 1, 2]), ("COMMIT", [1, 2, 3])):
        assert found(first) == found(second) == [0, 1, 2]
        first.execute("BEGIN")
        first.execute("DELETE FROM t WHERE id = 0")
        assert found(first) == found(second) == [1, 2, 3]
        first.execute(end)
        assert found(first) == found(second) == result
    second.execute("PRAGMA read_uncommitted = OFF")
    first.execute("BEGIN")
    first.execute("DELETE FROM t WHERE id = 1")
    message = refusal(second, "faiss_search('main', 't', ?, 3)", encode([0]))
    assert "locked" in message
    first.execute("ROLLBACK")
    assert found(first) == found(second) == [1, 2, 3]


def test_search_while_a_statement_writes__sees_what_it_wrote(db):
    fill(db, [(i, [i]) for i in range(5)])
    assert found(db) == [0, 1, 2]
    db.execute("CREATE TABLE log(text)")
    db.execute("""CREATE TRIGGER t_delete AFTER DELETE ON t BEGIN
        INSERT INTO log VALUES (faiss_search('main', 't', x'00000000', 2)); END""")
    db.execute("DELETE FROM t WHERE id < 3")
    assert [text for text, in db.execute("SELECT text FROM log")] == ["[1, 2]", "[2, 3]", "[3, 4]"]


def test_without_memory_to_keep_vectors__the_table_is_read_each_time():
    script = """if True:
        import sqlite3, sys
        db = sqlite3.connect(":memory:")
        db.enable_load_extension(True)
        db.load_extension(sys.argv[1])
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, embedding)")
        db.executemany("INSERT INTO t VALUES (?, faiss_encode(?))",
                       [(i, str([i] * 256)) for i in range(4000)])
        limit, = db.execute("PRAGMA hard_heap_limit = 7000000").fetchone()  # cannot be undone
        scans = []
        db.set_trace_callback(scans.append)
        for _ in range(3):
            print(db.execute("SELECT faiss_search('main', 't', faiss_encode(?), 3)",
                             (str([7] * 256),)).fetchone()[0])
        print(sum("SELECT id, embedding" in sql for sql in scans))
    """
    done = subprocess.run([sys.executable, "-c", script, str(EXTENSION)], capture_output=True,
                          text=True)
    assert done.stdout.split("\n")[:4] == 3 * ["[7, 6, 8]"] + ["3"], done.stderr


def test_many_tables__are_all_fresh(db):
    for n in range(100):
        fill(db, [(n, [1])], f"t{n}")
    for _ in range(2):
        for n in range(100):
            assert found(db, [1], table=f"t{n}") == [n]
    db.execute("DROP TABLE t99")
    assert "there is no table t99" in refusal(db, "faiss_search('main', 't99', x'', 1)")


def test_search_from_memory__can_be_interrupted(db):
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, embedding)")
    db.execute("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 6000)"
               " INSERT INTO t SELECT i, zeroblob(4096) FROM n")
    query = bytes(4096)
    assert value(db, "faiss_search('main', 't', ?, 1)", query) == "[1]"
    db.set_progress_handler(lambda: 1, 300)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        value(db, "faiss_search('main', 't', ?, 1)", query)
    db.set_progress_handler(None, 0)
    assert value(db, "faiss_search('main', 't', ?, 1)", query) == "[1]"


def test_database_that_cannot_be_written__is_searched_and_nothing_is_written(connect, tmp_path):
    writer = fill(connect("demo.db"), [(i, [i]) for i in range(5)])
    writer.close()
    before = (tmp_path / "demo.db").read_bytes()
    for options in ("mode=ro", "immutable=1", "mode=rw"):
        db = connect(f"file:{tmp_path}/demo.db?{options}", uri=True)
        for _ in range(2):
            assert found(db, database="demo") == [0, 1, 2]
        assert db.total_changes == 0
        db.close()
    assert (tmp_path / "demo.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["demo.db"]


# ---- With an index -------------------------------------------------------------------------------


@pytest.mark.isa
@pytest.mark.parametrize("declaration", [
    "id INTEGER PRIMARY KEY, embedding)", "id TEXT PRIMARY KEY, embedding)",
    "id TEXT PRIMARY KEY, embedding) WITHOUT ROWID",
])
@pytest.mark.parametrize("family", ["flat", "graph"])
def test_index__gives_the_text_of_the_scan_without_one(connect, family, declaration):
    db = connect("demo.db")
    rng = numpy.random.default_rng(8)
    rows = whole_rows(rng, 1500, 12, largest=1)  # many are equal
    if "TEXT" in declaration:
        rows = [(f"{i * 7919 % 2003}", vector) for i, vector in rows]
    db.execute("CREATE TABLE t(" + declaration)
    insert(db, "t", rows)
    queries = [(encode(rng.integers(-1, 2, 12)), k) for k in (1, 3, 10, 100, 1500, 10 ** 9)]
    sql = "faiss_search_with_scores('demo', 't', ?, ?)"
    plain = [value(db, sql, *query) for query in queries]
    value(db, "annex_create('t_idx', 't', 'embedding', ?)", json.dumps({"index": family}))
    watch = Watch(db)
    assert [value(db, sql, *query) for query in queries] == plain
    assert watch.scans() == 0
    db.execute("DELETE FROM t WHERE id = ?", (json.loads(plain[0])[0][0],))
    indexed = [value(db, sql, *query) for query in queries]
    value(db, "annex_drop('t_idx')")
    watch.scans()
    assert indexed == [value(db, sql, *query) for query in queries]
    assert watch.scans() == 1


@pytest.mark.parametrize("options", [
    {"metric": "cosine"}, {"metric": "ip"}, {"where": "id < 500"}, {"key": ["other"]},
])
def test_index_that_answers_another_question__is_not_used(connect, options):
    db = connect()
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, embedding, other INTEGER NOT NULL UNIQUE)")
    db.executemany("INSERT INTO t VALUES (?, ?, ?)",
                   [(i, encode([i, 1]), 1000 - i) for i in range(1, 600)])
    value(db, "annex_create('t_idx', 't', 'embedding', ?)", json.dumps(options))
    assert found(db, [599, 1]) == [599, 598, 597]


def test_index_that_is_made_renamed_and_dropped__is_followed(pair):
    first, second = pair
    fill(first, [(i, [1000 - i]) for i in range(1, 600)], "u")
    value(first, "annex_create('a', 't', 'embedding')")
    value(first, "annex_create('b', 'u', 'embedding')")
    watch = Watch(second)
    for change in (None, "annex_rename('a', 'c')", "annex_rename('b', 'a')", "annex_sync('a')",
                   "annex_optimize('c')"):
        if change:
            value(first, change)
        assert found(second) == [1, 2, 3]
        assert found(second, table="u") == [599, 598, 597]
        assert watch.scans() == 0
    first.execute("BEGIN")
    value(first, "annex_drop('c')")
    assert found(first) == [1, 2, 3]
    first.execute("ROLLBACK")
    value(first, "annex_drop('c')")
    assert found(first) == found(second) == [1, 2, 3]
    assert watch.scans() == 1


def test_index_with_uncommitted_changes__is_fresh(pair):
    first, second = pair
    value(first, "annex_create('a', 't', 'embedding')")
    first.execute("BEGIN")
    first.execute("DELETE FROM t WHERE id = 1")
    assert found(first) == [2, 3, 4]
    assert found(second) == [1, 2, 3]
    first.execute("SAVEPOINT s")
    first.execute("INSERT INTO t VALUES (0, ?)", (encode([0]),))
    assert found(first) == [0, 2, 3]
    first.execute("ROLLBACK TO s")
    assert found(first) == [2, 3, 4]
    first.execute("COMMIT")
    assert found(first) == found(second) == [2, 3, 4]


def test_stale_index__is_passed_over(connect):
    db = fill(connect("demo.db"), [(i, [i]) for i in range(1, 600)])
    value(db, "annex_create('a', 't', 'embedding')")
    db.execute("CREATE TABLE n(id INTEGER PRIMARY KEY, embedding)")
    db.execute("INSERT INTO n SELECT id + 1, embedding FROM t")
    db.execute("DROP TABLE t")
    db.execute("ALTER TABLE n RENAME TO t")
    watch = Watch(db)
    for _ in range(2):
        assert found(db) == [2, 3, 4]
    assert watch.scans() == 1


# ---- A model -------------------------------------------------------------------------------------


class Model:
    """Connections that change one table at random; each search is compared with the table."""

    def __init__(self, connections, seed):
        self.rng = random.Random(seed)
        self.connections = connections
        self.searches = 0

    def statement(self, db):
        key, blob = self.rng.randrange(60), encode([self.rng.randrange(-2, 3) for _ in range(4)])
        choice = self.rng.randrange(20)
        if choice < 6:
            return "INSERT OR REPLACE INTO t VALUES (?, ?)", (key, blob)
        if choice < 9:
            return "DELETE FROM t WHERE id = ?", (key,)
        if choice < 12:
            return "UPDATE t SET embedding = ? WHERE id = ?", (blob, key)
        if choice < 13:
            return "UPDATE t SET embedding = NULL WHERE id = ?", (key,)
        if choice < 14:
            return "UPDATE OR REPLACE t SET id = id + 1 WHERE id % 7 = 3", ()
        if choice < 15 and not db.in_transaction:
            return "VACUUM", ()
        if choice < 16:
            return "DELETE FROM t WHERE id > 50", ()
        if not db.in_transaction:
            return self.rng.choice(["BEGIN", "BEGIN", "BEGIN IMMEDIATE"]), ()
        return self.rng.choice(["COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s",
                                "RELEASE s"]), ()

    def search(self, db):
        query, k = [self.rng.randrange(-2, 3) for _ in range(4)], self.rng.choice([1, 3, 20, 1000])
        own = not db.in_transaction
        if own:
            db.execute("BEGIN")
        got = value(db, "faiss_search_with_scores('main', 't', ?, ?)", encode(query), k)
        rows = [(i, struct.unpack("<4f", blob)) for i, blob in
                db.execute("SELECT id, embedding FROM t WHERE embedding NOT NULL ORDER BY id")]
        if own:
            db.execute("COMMIT")
        assert got == expected(rows, query, k)
        self.searches += 1

    def recreate(self, db):
        db.execute("BEGIN IMMEDIATE")
        rows = db.execute("SELECT * FROM t").fetchall()
        db.execute("DROP TABLE t")
        fill(db, [])
        db.executemany("INSERT INTO t VALUES (?, ?)", rows[::2])
        db.execute(self.rng.choice(["COMMIT", "ROLLBACK"]))

    def step(self):
        db = self.rng.choice(self.connections)
        try:
            if self.rng.random() < 0.4:
                self.search(db)
            elif self.rng.random() < 0.01 and not db.in_transaction:
                self.recreate(db)
            else:
                db.execute(*self.statement(db))
        except sqlite3.OperationalError as error:
            assert any(word in str(error) for word in ("locked", "no such savepoint")), error
            if "locked" in str(error) and db.in_transaction:
                db.execute("ROLLBACK")


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_random_changes_by_three_connections__are_found_as_brute_force_finds_them(
        connect, mode, index):
    connections = [connect("demo.db", timeout=0) for _ in range(3)]
    connections[0].execute("PRAGMA synchronous = OFF")
    connections[0].execute(f"PRAGMA journal_mode = {mode}")
    fill(connections[0], whole_rows(numpy.random.default_rng(1), 40, 4))
    if index:
        value(connections[0], "annex_create('t_idx', 't', 'embedding')")
    for db in connections:
        db.execute("PRAGMA synchronous = OFF")
    model = Model(connections, seed=mode + str(index))
    for _ in range(3000 if not index else 1500):
        model.step()
    assert model.searches > 300
