"""The nearest posts of one category, as users of datasette-faiss ask for them: right at any share
of the posts, k of them whenever there are k, and the same as `faiss_agg` gives."""

import json

import numpy as np
import pytest

POSTS, DIMENSION, K = 4000, 16, 10
SIZES = {"one": 1, "few": 4, "tenth of a percent": 10, "percent": 40, "tenth": 400, "half": 2000}
IN_CATEGORY = "SELECT id FROM posts WHERE category = ?"
SEARCH = f"SELECT s.key FROM annex_search('posts_idx', ?, ?, ?) AS s WHERE s.key IN ({IN_CATEGORY})"


def make_posts(db, options):
    rng = np.random.default_rng(11)
    centres = rng.standard_normal((30, DIMENSION))
    rows = centres[rng.integers(30, size=POSTS)] + 0.3 * rng.standard_normal((POSTS, DIMENSION))
    rows = rows.astype(np.float32)
    categories = np.full(POSTS, "rest", dtype=object)
    shuffled = rng.permutation(POSTS)
    for name, size in SIZES.items():
        categories[shuffled[:size]], shuffled = name, shuffled[size:]
    db.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, site, category, embedding)")
    db.executemany("INSERT INTO posts VALUES (?, 'blog', ?, ?)",
                   ((i, categories[i], rows[i].tobytes()) for i in range(POSTS)))
    db.execute("SELECT annex_create('posts_idx', 'posts', 'embedding', ?)", (json.dumps(options),))
    return rows, categories, rng.integers(POSTS, size=10)


def nearest(rows, members, query):
    distances = ((rows[members].astype(np.float64) - query) ** 2).sum(axis=1)
    return members[np.argsort(distances, kind="stable")[:K]].tolist()


@pytest.mark.parametrize("index", ["flat", "graph", "ivf"])
def test_the_nearest_of_a_category_come_whatever_its_share(connect, index):
    db = connect()
    rows, categories, queries = make_posts(db, {"index": index})
    for name in [*SIZES, "rest"]:
        members = np.flatnonzero(categories == name)
        right = wanted = 0
        for query in rows[queries] + np.float32(0.01):
            expected = nearest(rows, members, query)
            blob = query.tobytes()
            exact, found = ([key for key, in db.execute(SEARCH, (blob, K, options, name))]
                            for options in ('{"effort": "exact"}', None))
            assert exact == expected, name
            assert len(found) == len(set(found)) == len(expected) and set(found) <= set(members)
            right += len(set(found) & set(expected))
            wanted += len(expected)
        assert right >= 0.95 * wanted, f"{name}: {right} of {wanted} found"


def test_the_condition_that_all_posts_meet_leaves_the_answer_of_a_search_without(connect):
    db = connect()
    rows, _, queries = make_posts(db, {"index": "graph"})
    members = np.arange(POSTS)
    sql = SEARCH.replace("category", "site")
    for query in rows[queries]:
        exact = db.execute(sql, (query.tobytes(), K, '{"effort": "exact"}', "blog")).fetchall()
        assert [key for key, in exact] == nearest(rows, members, query)
        assert len(db.execute(sql, (query.tobytes(), K, None, "blog")).fetchall()) == K


def test_posts_that_change_category_are_nearest_there_at_once(connect):
    db = connect()
    rows, categories, _ = make_posts(db, {"index": "graph"})
    moved = int(np.flatnonzero(categories == "half")[0])
    blob = rows[moved].tobytes()
    assert db.execute(SEARCH, (blob, 1, None, "few")).fetchone() != (moved,)
    db.execute("UPDATE posts SET category = 'few' WHERE id = ?", (moved,))
    assert db.execute(SEARCH, (blob, 1, None, "few")).fetchone() == (moved,)
    assert db.execute(SEARCH, (blob, 1, None, "half")).fetchone() != (moved,)
    db.execute("UPDATE posts SET category = 'empty' WHERE category = 'few'")
    assert db.execute(SEARCH, (blob, K, None, "few")).fetchall() == []
    assert len(db.execute(SEARCH, (blob, K, None, "empty")).fetchall()) == SIZES["few"] + 1


def test_a_search_of_a_category_gives_what_faiss_agg_gives(connect):
    db = connect()
    rows, _, queries = make_posts(db, {"index": "flat"})
    for name in ("tenth of a percent", "tenth", "half"):
        for query in rows[queries]:
            blob = query.tobytes()
            agg, = db.execute("SELECT faiss_agg(id, embedding, ?, ?) FROM posts WHERE category = ?",
                              (blob, K, name)).fetchone()
            found = db.execute(SEARCH, (blob, K, '{"effort": "exact"}', name)).fetchall()
            assert [key for key, in found] == json.loads(agg)
