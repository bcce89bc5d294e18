"""bench/: what the report says of given measurements, its drawings, the neighbours of sets."""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

import h5py
import numpy as np
import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_modules(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    for name in ("report", "plot", "dataset", "make_sets"):
        sys.modules.pop(name, None)


def point(effort, recall, qps):
    return {"effort": effort, "recall": recall, "qps": qps, "qps_single": qps, "p50_us": 1e6 / qps,
            "p99_us": 2e6 / qps}


def engine(peer, speed, fresh=True):
    points = [point(10 * i, 1 - 0.4 / 2**i, speed / 1.5**i) for i in range(1, 9)]
    return {"label": f"{peer} 1.0", "peer": peer, "note": "", "core_share": 1.0, "exact_qps": None,
            "build": {"wall_seconds": 10.0, "cpu_seconds": 20000.0 / speed, "peak_bytes": 2e8,
                      "index_bytes": 1e8, "fresh": fresh},
            "points": {"10": points, "100": points}}


@pytest.fixture
def result():
    return {"date": "2026-11-20T12:00:00", "ks": [10, 100], "rounds": 3, "missing": {},
            "set": {"name": "some-set", "rows": 1000, "dimension": 8, "metric": "angular",
                    "queries": 50, "raw_bytes": 32000, "stored_bytes": 32000},
            "machine": {"cpu": "a processor", "cores": 2, "load_before": 0.1},
            "peers_with_huge_pages": False,
            "engines": {"annex": engine("annex", 9000), "slow M16": engine("slow", 3000),
                        "fast <8>": engine("fast", 18000, fresh=False)}}


def test_fronts__speed_at_a_recall_lies_between_the_points_of_the_front():
    import fronts

    points = [point(1, 0.90, 1000), point(2, 0.94, 50), point(3, 0.98, 250), point(4, 0.97, 40)]
    assert fronts.pareto_front(points) == [points[0], points[2]]
    assert fronts.qps_at(points, 0.94) == pytest.approx(500)  # halfway: the geometric mean
    assert fronts.qps_at(points, 0.5) == 1000
    assert fronts.qps_at(points, 0.98) == pytest.approx(250)
    assert fronts.qps_at(points, 0.99) is None and fronts.qps_at([], 0.9) is None


def test_fronts__rounds_keep_the_best_speed_and_the_worst_recall():
    import fronts

    first = [point([4, 2], 0.91, 100), point(8, 0.95, 50)]
    merged = fronts.merge_points([first, [point([4, 2], 0.90, 120)]])
    assert [(p["effort"], p["recall"], p["qps"]) for p in merged] == [([4, 2], 0.90, 120),
                                                                      (8, 0.95, 50)]
    assert merged[0]["p50_us"] == pytest.approx(1e6 / 120)
    sweep = [{"effort": 8, "recall": 0.95, "qps": 70}]  # batches alone have no latencies
    assert fronts.merge_points([sweep, first])[0]["p50_us"] == pytest.approx(1e6 / 50)


def test_fronts__further_rounds_repeat_what_lies_around_the_recalls_reported():
    import fronts

    points = [point(i, i / 100, 10000 / i) for i in range(50, 100)]
    assert set(fronts.deciding_efforts(points)) == {88, 89, 90, 91, 93, 94, 95, 96, 97, 98, 99}
    assert fronts.deciding_efforts([point(7, 0.3, 10)]) == [7]


def test_report__ratios_are_of_speeds_and_name_the_best_peer(result):
    import report

    divided = report.ratios(result)
    assert divided["slow M16"]["qps"] == pytest.approx([3] * 4)
    assert divided["fast <8>"]["qps"] == pytest.approx([0.5] * 4)
    assert divided["slow M16"]["build_cpu"] == pytest.approx(3)
    assert divided["slow M16"]["build_wall"] == 1 and divided["fast <8>"]["build_wall"] is None
    assert {name for _, name in report.best_peers(result)} == {"fast <8>"}
    assert "| **best peer** | 0.50 / 0.50 (1) |" in report.summary([result])
    assert report.losses([result]).count("fast <8>") == 4


def test_report__the_table_fits_and_says_what_is_missing(result):
    import report

    result["missing"]["gone X"] = "not done in 900 s"
    result["engines"]["slow M16"]["core_share"] = 0.5
    result["engines"]["annex"]["opens_ms"] = {"cold": 3.25, "warm": 0.01}
    text = report.table(result)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "ratio 2.0" in text and "opens in 3.25 ms cold, 0.01 ms warm" in text
    assert "left out: gone X: not done in 900 s" in text
    assert "NOT COMPARABLE" in text and "* built in an earlier run" in text


def test_report__the_folder_of_results_has_tables_drawings_and_json(result, tmp_path):
    import report

    report.write_report([result], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "RESULTS.md", "results.json", "some-set-k10.svg", "some-set-k100.svg"}
    (read,) = json.loads((tmp_path / "results.json").read_text())
    assert read["engines"]["slow M16"]["points"]["10"][0]["recall"] == 0.8
    drawing = ElementTree.parse(tmp_path / "some-set-k100.svg").getroot()
    words = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"annex", "slow M16", "fast <8>"} <= set(words)


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
def test_sets__neighbours_are_exact(tmp_path, metric, monkeypatch):
    import make_sets

    monkeypatch.setattr(make_sets, "BLOCK", 300)
    rng = np.random.default_rng(3)
    rows, queries = (rng.standard_normal((n, 6)).astype("f4") for n in (1000, 20))
    if metric == "angular":
        rows, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, queries))
    make_sets.write_set(tmp_path / "set.hdf5", rows, queries, metric)
    exact = np.linalg.norm(rows[None].astype(float) - queries[:, None].astype(float), axis=2)
    with h5py.File(tmp_path / "set.hdf5") as file:
        assert file.attrs["distance"] == metric
        assert (file["neighbors"][:] == np.argsort(exact, axis=1)[:, :100]).all()
        near = np.sort(exact, axis=1)[:, :100]
        expected = near if metric == "euclidean" else near**2 / 2
        assert file["distances"][:] == pytest.approx(expected, abs=1e-6)


def test_sets__a_sample_has_neighbours_of_its_own(tmp_path):
    import dataset
    import make_sets

    rows = np.random.default_rng(4).integers(0, 256, (900, 16)).astype(np.uint8)
    make_sets.write_set(tmp_path / "set.hdf5", rows[:800], rows[800:], "euclidean")
    dataset.write_sample(dataset.Dataset(tmp_path / "set.hdf5"), 200, str(tmp_path / "few.hdf5"))
    few = dataset.Dataset(tmp_path / "few.hdf5")
    assert few.train.shape == (200, 16) and few.neighbors.max() < 200
    assert few.recall(few.neighbors[:, :10], 10) == 1


def test_sets__recall_counts_ties_once_and_no_answer_never(tmp_path):
    import dataset
    import make_sets

    rows = np.repeat(np.arange(200, dtype="f4"), 2)[:, None] * np.ones((1, 4), "f4")
    make_sets.write_set(tmp_path / "set.hdf5", rows, rows[:3] - 1, "euclidean")
    data = dataset.Dataset(tmp_path / "set.hdf5")
    data.neighbors = np.array([[0], [1], [2]])  # each row has a twin
    assert data.recall(np.array([[0], [0], [3]]), 1) == 1
    assert data.recall(np.array([[1, 0], [0, 0], [-1, -1]]), 1) == pytest.approx(2 / 3)
    data.neighbors = np.array([[0, 1]] * 3)
    assert data.recall(np.array([[0, 0], [1, 0], [-1, 9]]), 2) == 0.5
