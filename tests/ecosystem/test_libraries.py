"""Libraries of Python and other languages that write without Annex: each inserts, changes, deletes
and rolls back the same rows; and what only one of them does."""

import shutil
import sqlite3
import subprocess
import sys

import pytest

from conftest import EXTENSION, find_program, judge, run, run_python, with_annex

# What every writer does: rows 9001 to 9010 come, 1 to 5 change, 6 to 8 go, and nothing else stays.
VECTOR = "(SELECT embedding FROM queries WHERE id = %s)"
INSERT = f"INSERT INTO synsets(id, word, embedding) VALUES (%s, 'new', {VECTOR})"
UPSERT = f"INSERT INTO synsets(id, embedding) VALUES (%s, {VECTOR}) " \
         "ON CONFLICT(id) DO UPDATE SET embedding = excluded.embedding"
DELETE = "DELETE FROM synsets WHERE id BETWEEN 6 AND 8"


def judge_changes(path):
    judge(path, "delta", delta_rows=18, rows=3494 + 10 - 3)


PYTHON = f"""
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
vectors = [row[0] for row in db.execute("SELECT embedding FROM queries ORDER BY id")]
with db:
    db.executemany("INSERT INTO synsets(id, embedding) VALUES (?, ?)",
                   zip(range(9001, 9011), vectors))
with db:
    db.executemany({UPSERT!r} % ("?", "?"), ((i, i) for i in range(1, 6)))
    db.execute({DELETE!r})
db.execute("DELETE FROM synsets")
db.rollback()
db.execute("DELETE FROM synsets WHERE id = 20")
db.close()
"""
PYTHONS = sorted({sys.executable, shutil.which("python3") or sys.executable})


@pytest.mark.parametrize("python", PYTHONS)
def test_sqlite3_of_python_without_annex_writes(wordnet, python):
    run(python, "-c", PYTHON, wordnet)
    judge_changes(wordnet)


SAVEPOINTS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("BEGIN")
for i in range(50):
    db.execute("SAVEPOINT s")
    db.execute("UPDATE synsets SET embedding = NULL WHERE id = ?", (i + 1,))
    db.execute("ROLLBACK TO s" if i % 2 else "RELEASE s")
db.execute("COMMIT")
copy = sqlite3.connect(sys.argv[2])
db.backup(copy, pages=100)
copy.close()
open(sys.argv[3], "wb").write(db.serialize())
script = chr(10).join(db.iterdump())
memory = sqlite3.connect(sys.argv[4])
memory.executescript(script)
memory.close()
"""


def test_savepoints_backups_serialize_and_iterdump_of_python(wordnet, tmp_path):
    """iterdump writes tables by name, so that the log is older than the table it belongs to."""
    copies = [tmp_path / "backup.db", tmp_path / "serialized.db", tmp_path / "dumped.db"]
    run_python(SAVEPOINTS, wordnet, *copies)
    for path in (wordnet, *copies[:2]):
        judge(path, "delta", delta_rows=25)
    judge(copies[2], "stale", reason="the table synsets was made anew")


IN_PLACE = """
import apsw, sys
db = apsw.Connection(sys.argv[1])
with db.blob_open("main", "synsets", "embedding", 100, True) as blob:
    blob.write(db.execute("SELECT embedding FROM queries WHERE id = 30").get)
db.close()
"""


def test_a_vector_that_was_changed_in_place_is_found_by_the_check(wordnet):
    """Incremental blob I/O fires no trigger: the one way to change a row that is not noticed."""
    run_python(IN_PLACE, wordnet)
    with pytest.raises(sqlite3.DatabaseError, match="run annex_optimize"):
        with_annex(wordnet, "SELECT annex_check('flat_idx')")
    with_annex(wordnet, "SELECT annex_optimize(name) FROM annex_indexes")
    judge(wordnet, "fresh")


APSW = f"""
import sys, apsw, apsw.bestpractice
copy = apsw.Connection(sys.argv[2])
apsw.bestpractice.apply(apsw.bestpractice.recommended)
db = apsw.Connection(sys.argv[1])
with db:
    for i in range(1, 11):
        db.execute({INSERT!r} % ("?", "?"), (9000 + i, i))
with db:
    db.executemany({UPSERT!r} % ("?", "?"), ((i, i) for i in range(1, 6)))
    db.execute({DELETE!r})
try:
    with db:
        db.execute("DELETE FROM synsets")
        raise KeyError
except KeyError:
    pass
db.execute("PRAGMA optimize; VACUUM; ANALYZE")
with copy.backup("main", db, "main") as backup:
    while not backup.done:
        backup.step(200)
"""


def test_apsw_with_the_newest_sqlite_writes_and_copies(wordnet, tmp_path):
    run_python(APSW, wordnet, tmp_path / "copy.db")
    judge_changes(wordnet)
    judge_changes(tmp_path / "copy.db")


READER = """
import sys, apsw
db = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READONLY)
db.enable_load_extension(True)
db.load_extension(sys.argv[2])
query = db.execute("SELECT embedding FROM queries WHERE id = 30").get
for index in ("flat_idx", "graph_idx"):
    print(db.execute("SELECT word FROM annex_search(?, ?, 1) JOIN synsets ON id = key",
                     (index, query)).get)
print(db.execute("SELECT group_concat(state) FROM annex_indexes").get)
db.close()
"""


def test_apsw_with_the_newest_sqlite_reads(wordnet):
    answer = run_python(READER, wordnet, EXTENSION)
    assert answer == "lake\nlake\nfresh,fresh\n"


PERL = f"""
use DBI;
my $db = DBI->connect("dbi:SQLite:$ARGV[0]", "", "", {{RaiseError => 1, PrintError => 0}});
my $insert = $db->prepare("{INSERT % ("?", "?")}");
$insert->execute(9000 + $_, $_) for 1 .. 10;
my $upsert = $db->prepare("{UPSERT % ("?", "?")}");
$upsert->execute($_, $_) for 1 .. 5;
$db->do("{DELETE}");
$db->begin_work;
$db->do("DELETE FROM synsets");
$db->rollback;
$db->disconnect;
"""

RUBY = f"""
require "sqlite3"
db = SQLite3::Database.new(ARGV[0])
(1..10).each {{ |i| db.execute("{INSERT % ("?", "?")}", [9000 + i, i]) }}
db.transaction {{ (1..5).each {{ |i| db.execute("{UPSERT % ("?", "?")}", [i, i]) }} }}
db.execute("{DELETE}")
begin
  db.transaction {{ db.execute("DELETE FROM synsets"); raise KeyError }}
rescue KeyError
end
db.close
"""

PHP = f"""
$db = new PDO("sqlite:" . $argv[1]);
$db->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$insert = $db->prepare("{INSERT % ("?", "?")}");
for ($i = 1; $i <= 10; $i++) {{ $insert->execute([9000 + $i, $i]); }}
$upsert = $db->prepare("{UPSERT % ("?", "?")}");
for ($i = 1; $i <= 5; $i++) {{ $upsert->execute([$i, $i]); }}
$db->exec("{DELETE}");
$db->beginTransaction();
$db->exec("DELETE FROM synsets");
$db->rollBack();
"""


@pytest.mark.parametrize("program, option, script", [
    ("perl", "-e", PERL), ("ruby", "-e", RUBY), ("php", "-r", PHP)], ids=["perl", "ruby", "php"])
def test_other_languages_write(wordnet, program, option, script):
    run(find_program(program), option, script, wordnet)
    judge_changes(wordnet)


PANDAS = """
import sys, sqlite3, pandas
db = sqlite3.connect(sys.argv[1])
rows = pandas.read_sql("SELECT * FROM synsets WHERE id > 100", db)
rows.head(50).assign(id=range(9001, 9051)).to_sql("synsets", db, if_exists="append", index=False)
if sys.argv[2] == "replace":
    rows.to_sql("synsets", db, if_exists="replace", index=False)
db.commit()
db.close()
"""


def test_rows_that_pandas_appends_are_found(wordnet):
    run_python(PANDAS, wordnet, "append")
    judge(wordnet, "delta", delta_rows=50, rows=3544)


def test_a_table_that_pandas_replaces_is_stale(wordnet):
    """The new table has no primary key any more; its column id is still there."""
    run_python(PANDAS, wordnet, "replace")
    judge(wordnet, "stale", reason="run CREATE UNIQUE INDEX", rows=3394)


PEEWEE = """
import sys, peewee
from playhouse.migrate import SqliteMigrator, migrate
db = peewee.SqliteDatabase(sys.argv[1], pragmas={"journal_mode": "wal", "foreign_keys": 1})
class Synset(peewee.Model):
    word = peewee.TextField(null=True)
    embedding = peewee.BlobField(null=True)
    class Meta:
        database = db
        table_name = "synsets"
if sys.argv[2] == "write":
    vectors = [row.embedding for row in Synset.select().limit(20)]
    with db.atomic():
        Synset.insert_many([{"id": 9001 + i, "embedding": vectors[i]} for i in range(10)]).execute()
    Synset.replace(id=1, word="a", embedding=vectors[5]).execute()
    Synset.insert(id=2, embedding=vectors[6]).on_conflict("update", conflict_target=[Synset.id],
        update={Synset.embedding: vectors[6]}).execute()
    row = Synset.get_by_id(3)
    row.embedding = vectors[7]
    row.save()
    Synset.delete_by_id(4)
else:
    migrator = SqliteMigrator(db)
    migrate(migrator.add_column("synsets", "lang", peewee.TextField(default="en")),
            migrator.add_not_null("synsets", "lang"), migrator.drop_column("synsets", "gloss"),
            migrator.alter_column_type("synsets", "pos", peewee.CharField(null=True)))
db.close()
"""


def test_rows_that_peewee_writes_are_found(wordnet):
    run_python(PEEWEE, wordnet, "write")
    judge(wordnet, "delta", delta_rows=14, rows=3503)


def test_a_table_that_peewee_migrates_is_noticed(wordnet):
    run_python(PEEWEE, wordnet, "migrate")
    judge(wordnet, "stale")


TWO_WRITERS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
for i in range(100):
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO synsets(embedding) SELECT embedding FROM queries WHERE id = ?",
               (i % 40,))
    db.execute("DELETE FROM synsets WHERE id = ?", (int(sys.argv[2]) + i,))
    db.execute("COMMIT")
"""


def test_writers_and_a_syncing_annex_at_the_same_time(wordnet):
    with_annex(wordnet, "PRAGMA journal_mode = WAL")
    writers = [subprocess.Popen([sys.executable, "-c", TWO_WRITERS, wordnet, str(start)])
               for start in (100, 300)]
    sync = ["PRAGMA busy_timeout = 60000", "SELECT annex_sync('flat_idx')"]
    while any(writer.poll() is None for writer in writers):
        with_annex(wordnet, *sync)
    assert [writer.returncode for writer in writers] == [0, 0]
    judge(wordnet, None)
