"""A table of documents with an index in each of the states there are: exact, missing rows, waiting
for a sync, stale. Made once, copied for each test."""

import shutil

import numpy
import pytest

from sql_model import DIMENSION, LANGS, Docs

N = 2400
MADE = {}  # what was made, by state


def make(db, state, n):
    """A table of documents with an index in one of the states there are."""
    docs = Docs(db, n=n)
    family = "graph" if state == "graph" else "flat"
    db.execute("SELECT annex_create('docs_idx', 'docs', 'embedding', ?)",
               ['{"metric":"l2","index":"%s"}' % family])
    db.execute("BEGIN")
    if state == "delta":
        for key in list(docs.vectors)[::7]:
            vector = docs.query(key)
            db.execute("UPDATE docs SET embedding = ? WHERE id = ?", [vector.tobytes(), key])
            docs.vectors[key] = vector
    elif state == "stale":
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"
                                  ).fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        victim = next(iter(docs.vectors))
        db.execute("DELETE FROM docs WHERE id = ?", [victim])
        del docs.vectors[victim]
    db.execute("COMMIT")
    return docs


@pytest.fixture
def db(connect):
    return connect("docs.db")


@pytest.fixture
def docs(db):
    return make(db, "flat", 600)


def copy_of(state, connect, tmp_path, tmp_path_factory):
    if state not in MADE:
        folder = tmp_path_factory.mktemp(state)
        db = connect("made.db")
        MADE[state] = (folder / "made.db", make(db, state, N).vectors)
        db.close()
        shutil.copyfile(tmp_path / "made.db", MADE[state][0])
    shutil.copyfile(MADE[state][0], tmp_path / "docs.db")
    docs = Docs.__new__(Docs)
    docs.vectors = dict(MADE[state][1])
    docs.rows = {key: (key, LANGS[key // 3 % 4], 1990 + key // 3 % 30) for key in docs.vectors}
    return docs


@pytest.fixture(params=["flat", "graph", "delta", "stale"])
def any_docs(request, connect, tmp_path, tmp_path_factory):
    return copy_of(request.param, connect, tmp_path, tmp_path_factory)


@pytest.fixture
def graph(connect, tmp_path, tmp_path_factory):
    return copy_of("graph", connect, tmp_path, tmp_path_factory)


@pytest.fixture
def query():
    return numpy.random.default_rng(1000).standard_normal(DIMENSION).astype("<f4")
