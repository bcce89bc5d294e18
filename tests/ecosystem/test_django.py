"""Django: migrations, most of which rebuild the table, and the writes of its ORM."""

from pathlib import Path

import pytest

from conftest import WORDNET, find_program, judge, make_indexes, run, with_annex

SITE = Path(__file__).with_name("django_site")
FILL = "INSERT INTO library_book(id, title, embedding) SELECT id, word, embedding FROM w.synsets"


def django(database, *arguments, stdin=None):
    return run(find_program("python"), "-B", "-m", "django", *arguments, stdin=stdin,
               DATABASE=str(database), DJANGO_SETTINGS_MODULE="settings", PYTHONPATH=str(SITE))


@pytest.fixture(scope="module")
def first_migration(tmp_path_factory):
    """The database of a site in its first version, with indexes on the table of books."""
    path = tmp_path_factory.mktemp("django") / "site.db"
    django(path, "migrate", "library", "0001", "--verbosity", "0")
    with_annex(path, f"ATTACH '{WORDNET}' AS w", FILL)
    make_indexes(path, "library_book")
    return path


@pytest.fixture
def site(tmp_path, first_migration):
    path = tmp_path / "site.db"
    path.write_bytes(first_migration.read_bytes())
    return path


def migrate(site, number):
    django(site, "migrate", "library", number, "--verbosity", "0")


# What each migration does to the indexes. Django rebuilds the table in some, and uses ALTER TABLE
# in others.
STEPS = [
    ("0002", "stale", "library_book"),  # AddField with a default
    ("0003", "stale", "library_book"),  # AlterField
    ("0004", "fresh", "library_book"),  # RenameField of another column
    ("0005", "stale", "library_book"),  # AddConstraint
    ("0006", "fresh", "library_book"),  # RemoveField
    ("0007", "fresh", "library_volume"),  # RenameModel
    ("0008", "stale", "library_volume"),  # RenameModel of the one a foreign key refers to
    ("0009", "fresh", "library_volume"),  # RenameField of the column of vectors
]


def test_migrations_one_after_the_other_and_back(site):
    for number, state, table in STEPS:
        migrate(site, number)
        judge(site, state, table=table, rows=3494)
    migrate(site, "0008")
    judge(site, "fresh", table="library_volume", rows=3494)
    migrate(site, "0007")
    judge(site, "stale", table="library_volume", rows=3494)


def test_migrations_at_once(site):
    migrate(site, "0006")
    with_annex(site, "DELETE FROM library_book WHERE id < 11")
    judge(site, "stale", table="library_book", rows=3484)
    migrate(site, "0001")
    judge(site, "stale", table="library_book", rows=3484)


def test_a_table_that_is_rebuilt_and_then_renamed_is_gone_for_its_indexes(site):
    """Nothing ties the new name to the old one: the triggers went before the name did."""
    migrate(site, "0009")
    for state, reason in with_annex(site, "SELECT state, reason FROM annex_indexes"):
        assert state == "stale"
        assert "the table library_book of index" in reason and "is gone; run annex_drop(" in reason
    with_annex(site, "SELECT annex_drop(name) FROM annex_indexes")
    make_indexes(site, "library_volume", "vector")
    judge(site, "fresh", table="library_volume", rows=3494)


ORM = """
from django.db import connection, transaction
from library.models import Book, Shelf

vectors = list(Book.objects.order_by("id").values_list("embedding", flat=True)[:100])
shelf = Shelf.objects.create(name="new")
one = Book.objects.create(name="one", shelf=shelf, embedding=vectors[0])
Book.objects.bulk_create(Book(name=f"b{i}", embedding=vectors[i], shelf=shelf) for i in range(50))
Book.objects.bulk_create([Book(id=11, name="upsert", embedding=vectors[50])],
    update_conflicts=True, unique_fields=["id"], update_fields=["name", "embedding"])
Book.objects.bulk_create([Book(id=12, name="ignored", embedding=vectors[51])],
    ignore_conflicts=True)
Book.objects.update_or_create(id=13, defaults={"embedding": vectors[52]})
Book.objects.update_or_create(id=9001, defaults={"embedding": vectors[53]})
books = list(Book.objects.filter(id__in=range(21, 31)))
for book, vector in zip(books, vectors):
    book.embedding = vector
Book.objects.bulk_update(books, ["embedding"])
Book.objects.filter(id__in=range(41, 51)).update(embedding=None)
Book.objects.filter(id__in=range(51, 61)).update(pages=7)
Book.objects.get(id=61).delete()
Book.objects.filter(id__in=range(62, 71)).delete()
try:
    with transaction.atomic():
        Book.objects.all().delete()
        raise KeyError
except KeyError:
    pass
with transaction.atomic():
    outer = Book.objects.create(name="outer", embedding=vectors[60])
    try:
        with transaction.atomic():
            Book.objects.filter(id__lt=5).delete()
            raise KeyError
    except KeyError:
        pass
with connection.cursor() as cursor:
    cursor.execute("DELETE FROM library_book WHERE id = %s", [80])
    cursor.execute("VACUUM")
print(Book.objects.count())
"""


def test_rows_that_the_orm_writes_are_found(site):
    migrate(site, "0006")
    with_annex(site, "SELECT annex_sync(name) FROM annex_indexes")
    count = int(django(site, "shell", "--no-imports", stdin=ORM))
    assert count == 3494 + 1 + 50 + 1 + 1 - 10 - 1
    judge(site, "delta", table="library_book", rows=count - 10,
          delta_rows=1 + 50 + 1 + 1 + 1 + 10 + 10 + 10 + 1 + 1)


def test_commands_of_django_see_a_database_in_order(site):
    migrate(site, "0006")
    assert "no issues" in django(site, "check", "--database", "default")
    models = django(site, "inspectdb")
    assert "class AnnexIndex(" in models and "class LibraryBook(" in models
    assert 'DELETE FROM "library_book"' in django(site, "sqlflush")


def test_dumpdata_flush_and_loaddata_are_found(site, tmp_path):
    migrate(site, "0006")
    with_annex(site, "DELETE FROM library_book WHERE id > 500")
    django(site, "dumpdata", "library", "-o", tmp_path / "books.json")
    django(site, "flush", "--no-input")
    django(site, "loaddata", tmp_path / "books.json")
    judge(site, "stale", table="library_book", rows=500)
