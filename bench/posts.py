"""What an index does for those who filter and for those who add, beside what they have today.

1. The nearest posts of one category, in SQL: annex_search with `key IN (SELECT id FROM posts WHERE
   category = ?)`, categories having from 0.1 to 100 % of the posts. Beside it, in turns and in one
   process, faiss_agg of datasette-faiss over the same rows, as its plug-in registers it.
2. New items in a collection of llm, written by llm itself with a model that looks vectors up. Each
   has to be found before the sync; the processor time of `annex sync` counts beside that of
   `annex create`.

Every answer is compared with brute force; a wrong one fails the run. Vectors are made up of random
prototypes with noise; --vectors takes those of the collection from a file.
"""

import argparse
import json
import os
import pathlib
import resource
import sqlite3
import statistics
import subprocess
import time

import datasette_faiss
import llm
import numpy as np
import sqlite_utils

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
K = 10
POSTS, DIMENSION = 20_000, 1536
CATEGORIES = {"news": 0.001, "links": 0.01, "notes": 0.1, "essays": 0.5, "rest": 0.389}
SHARES = [("category", name) for name in ("news", "links", "notes", "essays")] + [("site", "blog")]
ITEMS, NEW = 100_000, 100


def made_up(n, dimension, rng):
    """Weighted sums of 50 random prototypes, with noise."""
    prototypes = rng.standard_normal((50, dimension), dtype=np.float32)
    rows = rng.standard_normal((n, 50), dtype=np.float32) @ prototypes
    return rows + 2 * rng.standard_normal((n, dimension), dtype=np.float32)


def connect(path, build):
    connection = sqlite3.connect(path)
    connection.enable_load_extension(True)
    connection.load_extension(str(build / "annex.so"))
    connection.enable_load_extension(False)
    return connection


# ---- The nearest of a category -------------------------------------------------------------------


def make_posts(path, build, rows, rng):
    connection = connect(path, build)
    connection.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, site, category, embedding)")
    sizes = [round(share * len(rows)) for share in CATEGORIES.values()]
    categories = rng.permutation(np.repeat(list(CATEGORIES), sizes)).tolist()
    connection.executemany("INSERT INTO posts VALUES (?, 'blog', ?, ?)", (
        (i, name, row.tobytes()) for i, (name, row) in enumerate(zip(categories, rows))))
    connection.execute("CREATE INDEX posts_site ON posts (site)")
    connection.execute("CREATE INDEX posts_category ON posts (category)")
    connection.execute("SELECT annex_create('posts_idx', 'posts', 'embedding')")
    connection.commit()
    datasette_faiss.prepare_connection(connection)
    return connection


def search(connection, column, name, query, options=None):
    sql = (f"SELECT s.key FROM annex_search('posts_idx', ?, {K}, ?) AS s"
           f" WHERE s.key IN (SELECT id FROM posts WHERE {column} = ?)")
    return [key for key, in connection.execute(sql, (query, options, name))]


def aggregate(connection, column, name, query):
    sql = f"SELECT faiss_agg(id, embedding, ?, {K}) FROM posts WHERE {column} = ?"
    return json.loads(connection.execute(sql, (query, name)).fetchone()[0])


def timed(function, *arguments):
    start = time.process_time()  # of all threads
    answer = function(*arguments)
    return (time.process_time() - start) * 1e3, answer


def measure_category(connection, rows, queries, column, name):
    ids = [i for i, in connection.execute(f"SELECT id FROM posts WHERE {column} = ?", (name,))]
    search(connection, column, name, queries[0].tobytes())  # maps the index
    took = {"annex": [], "annex_exact": [], "faiss_agg": []}
    right = 0
    for turn, query in enumerate(queries):
        distances = ((rows[ids].astype(np.float64) - query) ** 2).sum(axis=1)
        expected = [ids[i] for i in np.argsort(distances, kind="stable")[:K]]
        blob = query.tobytes()
        ways = {
            "annex": (search, blob),
            "annex_exact": (search, blob, '{"effort": "exact"}'),
            "faiss_agg": (aggregate, blob),
        }
        turns = list(ways.items())
        for way, (function, *arguments) in turns[turn % 3:] + turns[:turn % 3]:
            ms, answer = timed(function, connection, column, name, *arguments)
            took[way].append(ms)
            assert len(set(answer)) == min(K, len(ids)), f"{way}: {len(answer)} of {len(ids)} rows"
            if way == "annex":
                right += len(set(answer) & set(expected))
            else:
                assert answer == expected, f"{way} in {name}: {answer}, not {expected}"
    medians = {f"{way}_ms": statistics.median(times) for way, times in took.items()}
    recall = right / (len(queries) * min(K, len(ids)))
    assert recall >= 0.95, f"recall {recall} in {name}"
    return {"rows": len(ids), "share": len(ids) / len(rows), "recall": recall, **medians,
            "times": medians["faiss_agg_ms"] / medians["annex_ms"],
            "times_exact": medians["faiss_agg_ms"] / medians["annex_exact_ms"]}


def measure_posts(path, build, n_queries):
    rng = np.random.default_rng(1)
    every = made_up(POSTS + n_queries, DIMENSION, rng)
    rows, queries = every[:POSTS], every[POSTS:]
    connection = make_posts(path, build, rows, rng)
    print(f"nearest {K} of a category, {POSTS} posts of {DIMENSION} dimensions: processor time, ms")
    print("    rows    share  recall   annex   exact  faiss_agg   times faster (exact)")
    results = []
    for column, name in SHARES:
        result = measure_category(connection, rows, queries, column, name)
        results.append(result)
        print("{rows:8} {share:8.1%} {recall:7.3f} {annex_ms:7.2f} {annex_exact_ms:7.2f} "
              "{faiss_agg_ms:10.1f} {times:8.0f} ({times_exact:.0f})".format(**result), flush=True)
    connection.close()
    return results


# ---- New items in a collection of llm ------------------------------------------------------------


class LookedUp(llm.EmbeddingModel):
    """A model of vectors that are there: the text of an item is its number."""

    model_id = "looked-up"

    def __init__(self, vectors):
        self.vectors = vectors

    def embed_batch(self, items):
        return (self.vectors[int(item)].tolist() for item in items)


def processor_seconds(*command):
    """What a command costs in all its threads, in user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def check_found(path, build, vectors, new, waiting):
    """Searches for the new items' own vectors give them, `waiting` of them not being synced."""
    connection = connect(path, build)
    sql = f"SELECT key2, plan FROM annex_search('items-idx', ?, {K})"
    for i in new:
        keys, plans = zip(*connection.execute(sql, (vectors[i].tobytes(),)))
        assert f"item-{i}" in keys, f"item-{i} is not found, {waiting} items wait for the sync"
        assert plans[0].endswith(f"delta={waiting}"), plans[0]
    connection.close()


def measure_items(path, build, vectors, rounds):
    db = sqlite_utils.Database(path)
    collection = llm.Collection("items", db, model=LookedUp(vectors))

    def embed(numbers):
        collection.embed_multi(((f"item-{i}", str(i)) for i in numbers), batch_size=1000)

    embed(range(ITEMS))
    create = processor_seconds(build / "annex", "create", path, "items-idx", "--llm-collection",
                               "items", "--quiet")
    syncs = []
    for start in range(ITEMS, ITEMS + rounds * NEW, NEW):
        new = range(start, start + NEW)
        embed(new)
        check_found(path, build, vectors, new, waiting=NEW)
        syncs.append(processor_seconds(build / "annex", "sync", path, "items-idx"))
        check_found(path, build, vectors, new, waiting=0)
    db.close()
    sync = statistics.median(syncs)
    print(f"{NEW} new items in {ITEMS} x {vectors.shape[1]}: all found; create {create:.2f} s, "
          f"sync {sync:.3f} s of processor time, {sync / create:.2%}", flush=True)
    return {"items": ITEMS, "dimension": vectors.shape[1], "new": NEW, "create_seconds": create,
            "sync_seconds": syncs, "share": sync / create}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--vectors", type=pathlib.Path, help="a .npy file for the collection")
    parser.add_argument("--queries", type=int, default=30, help="for each category (30)")
    parser.add_argument("--rounds", type=int, default=5, help="of new items (5)")
    parser.add_argument("--only", choices=("posts", "items"))
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    os.environ["LLM_USER_PATH"] = str(WORK)
    report = {}
    for part in ("posts", "items"):
        if arguments.only not in (None, part):
            continue
        path = WORK / f"{part}.db"
        path.unlink(missing_ok=True)
        if part == "posts":
            report[part] = measure_posts(path, arguments.build, arguments.queries)
        else:
            n = ITEMS + arguments.rounds * NEW
            vectors = (np.load(arguments.vectors, mmap_mode="r")[:n] if arguments.vectors
                       else made_up(n, 384, np.random.default_rng(1)))
            report[part] = measure_items(path, arguments.build, vectors.astype("f4"),
                                         arguments.rounds)
        path.unlink()
    (WORK / "results").mkdir(exist_ok=True)
    (WORK / "results" / "posts.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
