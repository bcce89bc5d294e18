"""annex.Index: building, searching, changing, files. numpy is the oracle."""

import numpy
import pytest

import annex
from conftest import nearest


def test_one_query__gives_what_numpy_finds(rows):
    index = annex.Index.build(rows)
    keys, distances = index.search(rows[3] + 0.01, 5)
    expected, expected_distances = nearest(rows, rows[3] + 0.01, 5)
    assert keys.tolist() == expected
    assert keys.dtype == numpy.int64 and distances.dtype == numpy.float64
    numpy.testing.assert_allclose(distances, expected_distances, rtol=1e-5)


def test_many_queries__fill_one_row_each(rows):
    index = annex.Index.build(rows)
    keys, distances = index.search(rows[:50], 4)
    assert keys.shape == distances.shape == (50, 4)
    assert keys[:, 0].tolist() == list(range(50))
    assert keys[9].tolist() == nearest(rows, rows[9], 4)[0]


def test_k_beyond_the_rows__gives_all_of_them(rows):
    index = annex.Index.build(rows[:3])
    assert sorted(index.search(rows[0], 10)[0].tolist()) == [0, 1, 2]
    assert index.search(rows[:2], 10)[0].shape == (2, 3)
    assert index.search(rows[0], 0)[0].shape == (0,)
    assert index.search(rows[:2], 0)[0].shape == (2, 0)


def test_a_filter_that_few_rows_pass__leaves_the_rest_of_a_row_empty(rows):
    index = annex.Index.build(rows)
    keys, distances = index.search(rows[:2], 3, keys=[17])
    assert keys.tolist() == [[17, -1, -1]] * 2
    assert numpy.isinf(distances[:, 1:]).all() and numpy.isfinite(distances[:, 0]).all()
    assert index.search(rows[0], 3, keys=[17])[0].tolist() == [17]


@pytest.mark.parametrize("family", ["flat", "graph"])
def test_filters__find_the_nearest_rows_that_pass(rows, family):
    index = annex.Index.build(rows, family=family)
    allowed = numpy.arange(0, 600, 7)
    expected = [int(allowed[i]) for i in nearest(rows[allowed], rows[1], 8)[0]]
    mask = numpy.zeros(600, dtype=bool)
    mask[allowed] = True
    for given in ({"keys": allowed}, {"keys": allowed.tolist()}, {"keys": allowed.astype("i4")},
                  {"mask": mask}, {"mask": mask.tobytes()}, {"keys": allowed, "mask": mask}):
        assert index.search(rows[1], 8, effort=annex.EXACT, **given)[0].tolist() == expected
        assert set(index.search(rows[1], 8, **given)[0].tolist()) <= set(allowed.tolist())
    assert index.search(rows[1], 8, keys=[])[0].tolist() == []
    assert index.search(rows[1], 8, mask=mask[:1])[0].tolist() == [0]  # a short mask allows no more
    assert index.search(rows[1], 8, keys=[5, 10**9, -3])[0].tolist() == [5]


def test_within__gives_all_rows_up_to_the_distance(rows):
    index = annex.Index.build(rows)
    order, distances = nearest(rows, rows[2], 600)
    for n in (1, 40, 600):
        limit = (distances[n - 1] + distances[min(n, 599)]) / 2 + 1e-5
        keys, found = index.within(rows[2], limit)
        assert keys.tolist() == order[:n]
        assert (found <= limit).all() and len(found) == n
    assert index.within(rows[2], -1.0)[0].tolist() == []
    keys, _ = index.within(rows[2], 1e9, keys=[4, 2])
    assert keys.tolist() == [2, 4]


def test_integer_keys__name_the_rows(rows):
    keys = numpy.arange(600, dtype="i8") * -3 + 2**40
    index = annex.Index.build(rows, keys)
    assert index.search(rows[10], 1)[0].tolist() == [keys[10]]
    assert int(keys[10]) in index and keys[10] in index and 10 not in index
    assert index.search(rows[10], 2, keys=list(keys[8:12]))[0][0] == keys[10]
    with pytest.raises(TypeError):
        1.5 in index
    for given in (keys.tolist(), (keys.astype("f8")).astype("i8").tolist(), tuple(keys.tolist())):
        assert annex.Index.build(rows, given).search(rows[10], 1)[0].tolist() == [keys[10]]


@pytest.mark.parametrize("kind", [str, bytes])
def test_text_and_byte_keys__come_back_as_they_were_given(rows, kind, tmp_path):
    keys = [f"clé {i}" for i in range(600)]
    keys = keys if kind is str else [key.encode("latin-1") for key in keys]
    index = annex.Index.build(rows, keys, family="graph")
    assert index.search(rows[10], 2)[0] == [keys[i] for i in nearest(rows, rows[10], 2)[0]]
    assert index.search(rows[:2], 1)[0] == [[keys[0]], [keys[1]]]
    assert index.search(rows[0], 3, keys=[keys[5], keys[0], "no"])[0] == [keys[0], keys[5]]
    assert index.search(rows[:1], 3, keys=[keys[5]])[0] == [[keys[5], None, None]]
    assert index.search(rows[0], 3, keys=[])[0] == []
    assert index.within(rows[4], 0.01)[0] == [keys[4]]
    assert index.within(rows[4] + 1e6, 0.01)[0] == []
    assert keys[4] in index and "no" not in index
    numpy.testing.assert_allclose(index.vector(keys[4]), rows[4])
    index.insert(rows[:1] + 5, ["new" if kind is str else b"new"])
    index.delete([keys[0]])
    index.save(tmp_path / "text.annex")
    opened = annex.Index.open(tmp_path / "text.annex", key_type=kind)
    assert opened.search(rows[0] + 5, 1)[0] == (["new"] if kind is str else [b"new"])
    assert keys[0] not in opened


def test_numpy_text_keys__are_text(rows):
    index = annex.Index.build(rows, numpy.array([f"k{i}" for i in range(600)]))
    assert index.search(rows[7], 1)[0] == ["k7"]
    assert annex.Index.build(rows[:2], numpy.array(["a", "b"], dtype=object)).search(
        rows[1], 1)[0] == ["b"]


def test_changes__are_found_at_once_and_kept_by_save(rows, tmp_path):
    index = annex.Index.build(rows[:500])
    index.insert(rows[500:], range(500, 600))
    assert len(index) == 600 and index.info.changed
    assert index.search(rows[555], 1)[0].tolist() == [555]
    index.update(rows[:1] + 100, [555])
    assert index.search(rows[0] + 100, 1)[0].tolist() == [555]
    index.delete([0, 1, 2])
    assert 0 not in index and len(index) == 597
    assert index.search(rows[0], 1, effort=annex.EXACT)[0].tolist() != [0]
    path = tmp_path / "changed.annex"
    index.save(path)
    assert not index.info.changed
    opened = annex.Index.open(path, verify=True)
    opened.check()
    assert len(opened) == 597 and 3 in opened and 0 not in opened
    opened.insert(numpy.zeros((0, 24), "f4"), [])
    opened.delete([])
    assert len(opened) == 597


def test_a_change_that_fails__changes_nothing(rows):
    index = annex.Index.build(rows[:500])
    with pytest.raises(annex.ExistsError, match="key 499"):
        index.insert(rows[498:502], [600, 499, 601, 602])
    with pytest.raises(annex.NotFoundError, match="700"):
        index.delete([1, 700])
    with pytest.raises(ValueError, match="4 vectors and 3 keys"):
        index.insert(rows[:4], [1000, 1001, 1002])
    assert len(index) == 500 and 600 not in index and 1 in index


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine", "l1"])
def test_every_metric__ranks_by_its_exact_distance(rows, metric):
    index = annex.Index.build(rows, metric=metric)
    exact = annex.distances(metric, rows[3], rows)
    keys, distances = index.search(rows[3], 10, effort=annex.EXACT)
    assert keys.tolist() == numpy.argsort(exact, kind="stable")[:10].tolist()
    numpy.testing.assert_allclose(distances, numpy.sort(exact)[:10], atol=1e-6)


@pytest.mark.parametrize("metric", ["hamming", "jaccard"])
def test_bits__packed_or_as_bool(metric):
    bits = numpy.random.default_rng(1).random((200, 100)) < 0.3
    packed = numpy.packbits(bits, axis=1, bitorder="little")
    whole = annex.Index.build(bits, metric=metric)
    half = annex.Index.build(packed, metric=metric, dimension=100)
    assert whole.dimension == half.dimension == 100
    for query in (bits[5], packed[5]):
        assert whole.search(query, 9)[0].tolist() == half.search(query, 9)[0].tolist()
    distances = whole.search(bits[5], 200)[1]
    both, either = (bits & bits[5]).sum(1), (bits | bits[5]).sum(1)
    expected = (bits ^ bits[5]).sum(1) if metric == "hamming" else 1 - both / either
    numpy.testing.assert_allclose(distances, numpy.sort(expected))
    assert whole.vector(5).tolist() == packed[5].tolist()
    assert annex.Index.build(packed, metric=metric).dimension == 104


def test_a_file__is_written_whole_and_opens_the_same(rows, tmp_path):
    path = tmp_path / "rows.annex"
    built = annex.Index.build(rows, path=path, family="graph", degree=16, seed=3)
    for options in ({}, {"verify": True}, {"load": True}):
        with annex.Index.open(path, **options) as index:
            assert index.info.rows == 600 and index.info.family == "graph"
            assert index.search(rows[:9], 5)[0].tolist() == built.search(rows[:9], 5)[0].tolist()
    again = tmp_path / "again.annex"
    annex.Index.build(rows, path=str(again), family="graph", degree=16, seed=3, threads=1)
    assert again.read_bytes() == path.read_bytes()


def test_a_damaged_file__is_refused(rows, tmp_path):
    path = tmp_path / "rows.annex"
    annex.Index.build(rows, path=path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(annex.DamagedError):
        annex.Index.open(path, verify=True)
    path.write_bytes(b"no index")
    with pytest.raises(annex.AnnexError):
        annex.Index.open(path)


def test_info_and_stats__say_what_is_there_and_what_it_cost(rows):
    index = annex.Index.build(rows, family="graph", metric="cosine", degree=24)
    info = index.info
    assert (info.metric, info.dimension, info.rows, info.degree) == ("cosine", 24, 600, 24)
    assert info.recall_points and 0 < info.recall_points[0][1] <= 1
    assert repr(index) == "<annex.Index of 600 rows, 24 x cosine, graph>"
    stats = annex.SearchStats()
    index.search(rows[:4], 5, stats=stats)
    once = stats.distances
    index.search(rows[:4], 5, stats=stats)
    assert once > 0 and stats.distances == 2 * once and stats.cut == 0
    index.search(rows[:4], 5, effort=annex.EXACT, max_scan=10, stats=stats)
    assert stats.cut == 4


def test_evaluate__measures_recall_along_effort(rows):
    index = annex.Index.build(rows, family="graph")
    points = index.evaluate(rows[:30] + 0.01, 5, efforts=[8, 64, annex.EXACT])
    assert [p.effort for p in points] == [8, 64, annex.EXACT]
    assert points[-1].recall == 1 and points[0].recall > 0.5
    assert all(p.queries_per_second > 0 and p.p50_ms <= p.p99_ms for p in points)
    assert index.evaluate(rows[:3])[0].k == 10
    assert annex.Index.build(rows[:9]).evaluate(rows[:3].astype("f2"))[0].recall == 1


def test_recall_and_timeout__are_obeyed(rows):
    index = annex.Index.build(rows, family="graph")
    assert index.search(rows[5], 1, recall=0.9)[0].tolist() == [5]
    stats = annex.SearchStats()
    index.search(rows, 600, effort=annex.EXACT, timeout=1e-9, threads=1, stats=stats)
    assert stats.cut > 0
    assert len(index.search(rows[5], 3, timeout=60)[0]) == 3
    for wrong in ({"recall": 1.5}, {"recall": 0.5, "effort": 4}, {"effort": 0}, {"effort": "much"},
                  {"effort": 2**32}, {"timeout": -1}, {"threads": -1}, {"max_scan": 2**64}):
        with pytest.raises(ValueError):
            index.search(rows[0], **wrong)


def test_a_closed_index__says_so(rows):
    with annex.Index.build(rows) as index:
        pass
    for call in (lambda: index.search(rows[0]), lambda: index.within(rows[0], 1),
                 lambda: len(index), lambda: index.insert(rows[:1], [900]),
                 lambda: index.save("x"), index.check, lambda: 3 in index):
        with pytest.raises(ValueError, match="the index is closed"):
            call()
    index.close()
    assert repr(index) == "<annex.Index, closed>"


def test_an_empty_index__finds_nothing_until_rows_come():
    index = annex.Index.build(numpy.zeros((0, 4), "f4"))
    assert index.search([1, 2, 3, 4])[0].tolist() == []
    index.insert([[1, 2, 3, 4]], [7])
    assert index.search([1, 2, 3, 4])[0].tolist() == [7]


def test_names_that_do_not_exist__are_errors(rows):
    for wrong in ({"metric": "l3"}, {"family": "tree"}, {"codes": "q9"}, {"raw": "some"},
                  {"degree": 7}, {"degree": 2**31}, {"path": "/no/such/folder/a.annex"}):
        with pytest.raises(annex.AnnexError):
            annex.Index.build(rows, **wrong)
    for wrong in ({"degree": -8}, {"threads": 2**32}, {"seed": -1}, {"dimension": -1}):
        with pytest.raises(ValueError, match="it is a number from 0"):
            annex.Index.build(rows, **wrong)
    with pytest.raises(annex.NoMemoryError):
        annex.Index.build(rows, max_memory_bytes=10)
    with pytest.raises(TypeError, match="use Index.build or Index.open"):
        annex.Index()
    with pytest.raises(annex.NotFoundError, match="nothing.annex"):
        annex.Index.open("nothing.annex")
