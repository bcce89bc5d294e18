"""Options of a search that cut it (max_scan, timeout_ms) or choose among what it finds (mmr,
group), in SQL and through the command, compared with brute force. How soon a search ends is in
test_sql_interrupts.py."""

import json
import sqlite3

import numpy
import pytest

from sql_model import DIMENSION, Docs, fill, keys


@pytest.fixture
def db(connect):
    return connect("docs.db")


@pytest.fixture
def docs(db):
    return Docs(db, n=2400).create_index()


@pytest.fixture
def query(docs):
    return docs.query(0)


def search(db, query, options, k=10, columns="key", table="docs_idx"):
    sql = f"SELECT {columns} FROM annex_search(?, ?, ?, ?)"
    return db.execute(sql, [table, query.tobytes(), k, json.dumps(options)]).fetchall()


def refusal(db, sql, *arguments):
    with pytest.raises(sqlite3.OperationalError) as raised:
        db.execute(sql, arguments).fetchall()
    return str(raised.value)


# ---- max_scan ------------------------------------------------------------------------------------


def test_max_scan__below_the_number_of_rows_is_told(db, docs, query):
    rows = search(db, query, {"max_scan": 500}, columns="key, distance, complete, plan")
    assert len(rows) == 10
    assert {row[2] for row in rows} == {0}
    assert rows[0][3].endswith(", cut at max_scan=500")
    distances = dict(docs.distances(query))
    assert [row[1] for row in rows] == pytest.approx([distances[row[0]] for row in rows], rel=1e-5)
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)


def test_max_scan__that_suffices_changes_nothing(db, docs, query):
    rows = search(db, query, {"max_scan": 2400}, columns="key, complete, plan")
    assert [row[0] for row in rows] == docs.nearest(query)
    assert {row[1] for row in rows} == {1} and "cut" not in rows[0][2]
    assert search(db, query, {}, columns="complete") == [(1,)] * 10


@pytest.mark.parametrize("most", [1, 2, 9])
def test_max_scan__of_few_rows_gives_so_many(db, docs, query, most):
    assert len(search(db, query, {"max_scan": most})) == most


def test_max_scan__finds_new_rows_first(db, docs, query):
    db.execute("INSERT INTO docs VALUES (9000, 'en', 2000, ?)", [query.tobytes()])
    assert search(db, query, {"max_scan": 5})[0] == (9000,)


def test_max_scan_of_a_graph__bounds_the_walk(db, docs, query):
    db.execute("SELECT annex_create('graph_idx', 'docs', 'embedding', '{\"index\":\"graph\"}')")
    wide = {"effort": 500, "max_scan": 200}
    rows = search(db, query, wide, columns="complete, plan", table="graph_idx")
    assert {row[0] for row in rows} == {0} and "max_scan=200" in rows[0][1]
    rows = search(db, query, {"effort": 20, "max_scan": 2000}, columns="complete",
                  table="graph_idx")
    assert rows == [(1,)] * 10


def test_max_scan_with_filters_and_stale_tables__bounds_what_is_read(db, docs, query):
    sql = ("SELECT key, complete FROM annex_search('docs_idx', ?, 10, '{\"max_scan\":50}')"
           " WHERE key IN (SELECT id FROM docs WHERE id % 3 = 1 AND id < ?)")
    for limit in (600, 6000):
        rows = db.execute(sql, [query.tobytes(), limit]).fetchall()
        assert len(rows) == 10 and {row[1] for row in rows} == {0}
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    rows = search(db, query, {"max_scan": 50}, columns="complete, plan")
    assert {row[0] for row in rows} == {0} and "max_scan=50" in rows[0][1]


def test_max_scan_without_k__is_for_the_whole_statement(db, docs, query):
    sql = "SELECT key, complete FROM annex_search('docs_idx', ?, NULL, '{\"max_scan\":6000}')"
    rows = db.execute(sql, [query.tobytes()]).fetchall()
    assert 0 < len(rows) < 2352
    assert rows[-1][1] == 0 and rows[0][1] == 1
    assert [key for key, _ in rows[:16]] == docs.nearest(query, 16)
    enough = sql.replace("6000", "1000000") + " LIMIT 2000"
    assert len(db.execute(enough, [query.tobytes()]).fetchall()) == 2000


def test_max_scan_within_a_distance__gives_what_was_found(db, docs, query):
    sql = "SELECT key, complete FROM annex_within('docs_idx', ?, 1e9, '{\"max_scan\":100}')"
    rows = db.execute(sql, [query.tobytes()]).fetchall()
    assert len(rows) == 100 and {row[1] for row in rows} == {0}


# ---- mmr -----------------------------------------------------------------------------------------


def mmr(docs, query, weight, k, candidates):
    """Maximal marginal relevance, as it is written in the paper, over distances."""
    near = docs.distances(query)[:candidates]
    chosen = [near[0][0]]
    while len(chosen) < min(k, len(near)):
        def score(item):
            apart = min(float(numpy.linalg.norm(docs.vectors[item[0]] - docs.vectors[c]))
                        for c in chosen)
            return weight * item[1] - (1 - weight) * apart
        chosen.append(min((item for item in near if item[0] not in chosen), key=score)[0])
    return [key for key, _ in near if key in chosen]


@pytest.mark.parametrize("weight", [0, 0.3, 0.5, 0.9, 1])
@pytest.mark.parametrize("k, candidates", [(5, None), (10, 30), (10, 10), (10, 3), (1, 50)])
def test_mmr__chooses_as_the_formula_says(db, docs, weight, k, candidates):
    for seed in range(3):
        query = docs.query(seed)
        options = {"mmr": weight} | ({"candidates": candidates} if candidates else {})
        got = [key for (key,) in search(db, query, options, k)]
        assert got == mmr(docs, query, weight, k, max(candidates or 50, k))


def test_mmr__leaves_out_rows_like_those_that_were_chosen(db, docs, query):
    nearest = docs.nearest(query, 1)[0]
    fill(db, "INSERT INTO docs VALUES (?, 'en', 2000, ?)",
         [(9000 + i, docs.vectors[nearest].tobytes()) for i in range(20)])
    plain = [key for (key,) in search(db, query, {})]
    assert sum(key >= 9000 for key in plain) == 9
    rows = search(db, query, {"mmr": 0.5}, columns="key, plan")
    assert sum(key >= 9000 for key, _ in rows) == 0
    assert rows[0][1].endswith(" mmr=0.5 of 50")


def test_mmr_with_filter_and_cosine__chooses_among_what_passes(db, docs, query):
    db.execute("SELECT annex_create('c_idx', 'docs', 'embedding', '{\"metric\":\"cosine\"}')")
    sql = ("SELECT key FROM annex_search('c_idx', ?, 6, '{\"mmr\":0.4}') WHERE key IN"
           " (SELECT id FROM docs WHERE lang = 'de')")
    got = keys(db, sql, query.tobytes())
    assert len(got) == 6 and all(docs.lang(key) == "de" for key in got)


def test_mmr__of_no_rows_and_of_all_rows(db, docs, query):
    assert search(db, query, {"mmr": 0.5}, 0) == []
    assert len(search(db, query, {"mmr": 0.5}, 3000)) == 2352
    db.execute("DELETE FROM docs")
    assert search(db, query, {"mmr": 0.5}) == []


# ---- group ---------------------------------------------------------------------------------------


def grouped(db, docs, query, column, k):
    values = dict(db.execute(f"SELECT id, {column} FROM docs").fetchall())
    seen, best = set(), []
    for key in docs.nearest(query, len(docs.vectors)):
        if values[key] not in seen and len(best) < k:
            seen.add(values[key])
            best.append(key)
    return best


@pytest.mark.parametrize("column", ["lang", "year", "id", "length(lang)"])
@pytest.mark.parametrize("k", [1, 4, 10, 30, 5000])
def test_group__gives_the_best_row_of_k_groups(db, docs, column, k):
    if column.startswith("length"):
        db.execute("ALTER TABLE docs ADD COLUMN n GENERATED ALWAYS AS (length(lang)) VIRTUAL")
        column = "n"
    for seed in range(3):
        query = docs.query(seed)
        got = [key for (key,) in search(db, query, {"group": column}, k)]
        assert got == grouped(db, docs, query, column, k)


def test_group_of_rows_far_away__is_found_by_wider_searches(db, docs, query):
    far = [key for key, _ in docs.distances(query)[-3:]]
    db.execute("UPDATE docs SET lang = 'far' WHERE id IN (?, ?, ?)", far)
    rows = search(db, query, {"group": "lang"}, 10, "key, plan")
    assert [key for key, _ in rows] == grouped(db, docs, query, "lang", 10)
    assert rows[-1][0] == far[0] and rows[0][1].endswith(" group=lang")


def test_group_of_nulls_and_numbers__is_that_of_group_by(db, docs, query):
    db.execute("ALTER TABLE docs ADD COLUMN g")
    db.execute("UPDATE docs SET g = CASE id % 5 WHEN 0 THEN 1 WHEN 1 THEN 1.0 WHEN 2 THEN '1'"
               " WHEN 3 THEN x'31' END")
    (groups,) = keys(db, "SELECT count(*) FROM (SELECT 1 FROM docs GROUP BY g)")
    assert groups == 4
    assert len(search(db, query, {"group": "g"}, 10)) == 4
    want = keys(db, "SELECT key FROM (SELECT s.key, s.distance, row_number() OVER"
                    " (PARTITION BY d.g ORDER BY s.distance, s.key) AS n FROM"
                    " annex_search('docs_idx', ?) AS s JOIN docs AS d ON d.id = s.key)"
                    " WHERE n = 1 ORDER BY distance", query.tobytes())
    assert [key for (key,) in search(db, query, {"group": "g"}, 10)] == want


def test_group_with_filter_delta_and_distance__keeps_the_best(db, docs, query):
    for key in docs.nearest(query, 30)[::2]:
        db.execute("UPDATE docs SET lang = 'new', embedding = embedding WHERE id = ?", [key])
    sql = ("SELECT key FROM annex_search('docs_idx', ?, 3, '{\"group\":\"lang\"}') WHERE key IN"
           " (SELECT id FROM docs WHERE year % 2)")
    langs = dict(db.execute("SELECT id, lang FROM docs").fetchall())
    seen, want = set(), []
    for key in docs.nearest(query, 2400, lambda k: docs.year(k) % 2):
        if langs[key] not in seen:
            seen.add(langs[key])
            want.append(key)
    assert keys(db, sql, query.tobytes()) == want[:3]
    within = "SELECT key FROM annex_within('docs_idx', ?, 1e9, '{\"group\":\"lang\"}')"
    assert keys(db, within, query.tobytes()) == grouped(db, docs, query, "lang", 10)


def test_group_and_mmr__choose_among_the_best_of_groups(db, docs, query):
    rows = search(db, query, {"group": "year", "mmr": 0.3}, 8)
    best = grouped(db, docs, query, "year", 30)
    assert len(rows) == 8 and {key for (key,) in rows} <= set(best) and rows[0][0] == best[0]


def test_group_of_compound_keys__reads_each_row(db, query):
    db.execute("CREATE TABLE parts(doc TEXT, n INTEGER, v BLOB, PRIMARY KEY (doc, n))")
    rng = numpy.random.default_rng(3)
    rows = [(f"d{i // 7}", i % 7, rng.standard_normal(DIMENSION).astype("<f4").tobytes())
            for i in range(350)]
    fill(db, "INSERT INTO parts VALUES (?, ?, ?)", rows)
    db.execute("SELECT annex_create('parts_idx', 'parts', 'v')")
    got = search(db, query, {"group": "doc"}, 20, "key, key2", table="parts_idx")
    whole = search(db, query, {}, 350, "key, key2", table="parts_idx")
    best = {}
    for doc, n in whole:
        best.setdefault(doc, n)
    assert got == list(best.items())[:20]


# ---- What is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("options, says", [
    ('{"max_scan":0}', 'the option "max_scan" must be an integer from 1 to 1099511627776'),
    ('{"max_scan":"all"}', 'the option "max_scan" must be an integer'),
    ('{"timeout_ms":0}', 'the option "timeout_ms" must be an integer from 1 to 2147483647'),
    ('{"timeout_ms":1.5}', 'the option "timeout_ms" must be an integer'),
    ('{"mmr":2}', 'the option "mmr" must be a number from 0 to 1'),
    ('{"mmr":-0.1}', 'the option "mmr" must be a number from 0 to 1'),
    ('{"mmr":true}', 'the option "mmr" must be a number from 0 to 1'),
    ('{"mmr":0.5,"candidates":0}', 'the option "candidates" must be an integer from 1 to 10000'),
    ('{"candidates":20}', 'give "mmr" as well'),
    ('{"group":""}', 'the option "group" must be the name of a column of the table'),
    ('{"group":3}', 'the option "group" must be the name of a column of the table'),
    ('{"group":"nope"}', "the rows cannot be grouped by nope: SQLite: no such column"),
    ('{"group":"lang\\"; DROP TABLE docs; --"}', "the rows cannot be grouped by"),
    ('{"max_scn":5}', 'there is no option "max_scn"; did you mean "max_scan"?'),
    ('{"diversity":5}', "there are: effort, recall, threads, max_scan, timeout_ms, mmr,"),
])
def test_wrong_option__is_refused_in_one_sentence(db, docs, query, options, says):
    text = refusal(db, "SELECT * FROM annex_search('docs_idx', ?, 5, ?)", query.tobytes(), options)
    assert says in text and "\n" not in text


@pytest.mark.parametrize("call, says", [
    ("annex_search('docs_idx', ?, NULL, '{\"mmr\":0.5}')", 'the option "mmr" chooses k rows'),
    ("annex_search('docs_idx', ?, NULL, '{\"group\":\"lang\"}')",
     'the option "group" gives the best rows of k groups'),
    ("annex_within('docs_idx', ?, 1, '{\"mmr\":0.5}')", 'the option "mmr" chooses k rows'),
    ("annex_search('docs_idx', ?, 20000, '{\"mmr\":0.5}')", "it is at most 10000"),
])
def test_option_that_needs_a_k__says_so(db, docs, query, call, says):
    assert says in refusal(db, f"SELECT * FROM {call}", query.tobytes())


# ---- The command ---------------------------------------------------------------------------------


def test_command__has_the_options_too(annex, db, docs, query, tmp_path):
    text = json.dumps(query.tolist())

    def ask(*options):
        done = annex("search", "docs.db", "docs_idx", "--query", text, "-k", "6", "--json",
                     *options)
        return [hit["key"] for hit in json.loads(done.stdout)], done.stderr

    assert ask("--mmr", "0.3") == (mmr(docs, query, 0.3, 6, 50), "")
    assert ask("--mmr", "0.3", "--candidates", "20")[0] == mmr(docs, query, 0.3, 6, 20)
    assert ask("--group", "lang")[0] == grouped(db, docs, query, "lang", 6)
    found, remark = ask("--max-scan", "100")
    assert len(found) == 6 and "cut at max_scan=100" in remark
    assert ask("--timeout-ms", "60000")[0] == docs.nearest(query, 6)
    annex("search", "docs.db", "--query", text, "--mmr", "3", code=1)
    done = annex("search", "docs.db", "--query", text, "--group", "\udcff", code=1)
    assert "UTF-8" in done.stderr
    annex("search", "docs.db", "--query", text, "--candidates", "3", code=1)
    annex("search", "docs.db", "--query", text, "--within", "1", "--mmr", "0.5", code=1)
    numpy.save(tmp_path / "q.npy", query[None])
    annex("build", "q.npy", "-o", "q.annex")
    annex("search", "q.annex", "--query", text, "--group", "lang", code=2)
