"""What the tests of the module vec0 share: a table of films, and short ways to ask."""

import sqlite3
import struct

import pytest

from conftest import VEC

MOVIES = """CREATE VIRTUAL TABLE movies USING vec0(
    id INTEGER PRIMARY KEY, emb FLOAT[2], studio INTEGER PARTITION KEY,
    genre TEXT, year INT, score FLOAT, seen BOOLEAN, +title TEXT)"""


def f32(*elements):
    return struct.pack(f"<{len(elements)}f", *elements)


@pytest.fixture
def db(connect):
    return connect(entry_point=VEC)


@pytest.fixture
def movies(db):
    """Row i lies at (i, 0)."""
    db.execute(MOVIES)
    genres = ["scifi", "horror", None]
    for i in range(1, 31):
        row = (i, f32(i, 0), i % 3, genres[i % 3], 1990 + i, i / 10, i % 2, f"film {i}")
        db.execute("INSERT INTO movies VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    return db


def keys(db, sql, *arguments):
    return [row[0] for row in db.execute(sql, arguments)]


def near(db, condition="1", k=3, query="[0, 0]"):
    """Keys of the movies nearest to the origin that fulfil a condition."""
    return keys(
        db, f"SELECT id FROM movies WHERE emb MATCH ? AND k = ? AND {condition}", query, k
    )


def refusal(db, sql, *arguments):
    with pytest.raises(sqlite3.Error) as caught:
        db.execute(sql, arguments).fetchall()
    return str(caught.value)


def names(db, schema="main"):
    """What is in a database, but for the table in which SQLite counts keys, which always stays."""
    sql = f"SELECT name FROM {schema}.sqlite_schema WHERE name <> 'sqlite_sequence'"
    return {row[0] for row in db.execute(sql)}
