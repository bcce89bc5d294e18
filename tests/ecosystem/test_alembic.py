"""SQLAlchemy and Alembic: batch migrations, which make the table anew, and the ORM."""

import pytest

from conftest import judge, run_python, with_annex

BATCH = """
import sys
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

engine = sa.create_engine("sqlite:///" + sys.argv[1])
with engine.begin() as connection:
    op = Operations(MigrationContext.configure(connection))
    exec(sys.argv[2])
engine.dispose()
"""


def migrate(path, operations):
    run_python(BATCH, path, operations)


@pytest.mark.parametrize("operations", [
    'batch.add_column(sa.Column("lang", sa.String(2), server_default="en"))',
    'batch.alter_column("word", new_column_name="lemma", type_=sa.String(50))',
    'batch.drop_column("gloss")',
    'batch.create_check_constraint("some", sa.text("id > 0")); batch.create_index("by", ["word"])',
], ids=["add_column", "alter_column", "drop_column", "constraint"])
def test_batch_migrations_make_the_index_stale(wordnet, operations):
    migrate(wordnet, 'with op.batch_alter_table("synsets", recreate="always") as batch:\n    '
            + operations)
    with_annex(wordnet, "DELETE FROM synsets WHERE id < 11")
    judge(wordnet, "stale", rows=3484)
    with_annex(wordnet, "DELETE FROM synsets WHERE id < 21")
    judge(wordnet, "delta", delta_rows=10)


def test_migrations_that_alter_the_table_in_place_are_followed(wordnet):
    migrate(wordnet, """
op.add_column("synsets", sa.Column("lang", sa.String(2)))
op.create_index("by_word", "synsets", ["word"])
op.execute("UPDATE synsets SET lang = 'en'")
op.rename_table("synsets", "words")
""")
    judge(wordnet, "fresh", table="words")


def test_a_batch_that_renames_the_column_of_vectors_says_what_to_do(wordnet):
    migrate(wordnet, """
with op.batch_alter_table("synsets", recreate="always") as batch:
    batch.alter_column("embedding", new_column_name="vector")
""")
    for state, reason in with_annex(wordnet, "SELECT state, reason FROM annex_indexes"):
        assert state == "stale"
        assert "does not have all of its columns" in reason and "run annex_drop('" in reason


REFLECT = """
import sys
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

engine = sa.create_engine("sqlite:///" + sys.argv[1])
metadata = sa.MetaData()
metadata.reflect(engine)
assert {"synsets", "annex_index"} <= set(metadata.tables)
with engine.connect() as connection:
    print(compare_metadata(MigrationContext.configure(connection), metadata))
"""


def test_reflection_and_autogenerate_see_ordinary_tables(wordnet):
    assert run_python(REFLECT, wordnet) == "[]\n"


ORM = """
import sys
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects.sqlite import insert

class Base(orm.DeclarativeBase):
    pass

class Synset(Base):
    __tablename__ = "synsets"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    word: orm.Mapped[str | None]
    embedding: orm.Mapped[bytes | None]

engine = sa.create_engine("sqlite:///" + sys.argv[1])
with orm.Session(engine) as session:
    vectors = list(session.scalars(sa.select(Synset.embedding).order_by(Synset.id).limit(100)))
    session.add_all(Synset(id=9001 + i, word="new", embedding=vectors[i]) for i in range(20))
    session.get(Synset, 1).embedding = vectors[30]
    session.delete(session.get(Synset, 2))
    session.merge(Synset(id=3, embedding=vectors[31]))
    session.flush()
    with session.begin_nested() as savepoint:
        session.execute(sa.delete(Synset).where(Synset.id < 100))
        savepoint.rollback()
    session.commit()
    session.execute(insert(Synset).values(id=4, embedding=vectors[32]).on_conflict_do_update(
        index_elements=["id"], set_={"embedding": vectors[32]}))
    session.execute(sa.insert(Synset).prefix_with("OR REPLACE"), [
        {"id": 5, "word": None, "embedding": vectors[33]},
        {"id": 9100, "word": "b", "embedding": None}])
    session.execute(sa.update(Synset).where(Synset.id.between(11, 20)).values(embedding=None))
    session.commit()
    session.execute(sa.delete(Synset))
    session.rollback()
engine.dispose()
"""


def test_rows_that_the_orm_writes_are_found(wordnet):
    run_python(ORM, wordnet)
    judge(wordnet, "delta", delta_rows=20 + 3 + 1 + 2 + 10, rows=3494 + 20 - 1 - 10)
