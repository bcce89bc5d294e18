"""annex eval: its report, and whether recall is what it says it is."""

import json
import re
import xml.etree.ElementTree as ElementTree

import h5py
import numpy as np
import pytest

from exact import near, write_hdf5

EVAL = """k threads rows dimension metric build_seconds index_bytes exact_qps
          open_cold_ms open_warm_ms cpu isa points""".split()
POINT = "effort recall qps batch_qps p50_us p99_us hops distances exact_distances bytes".split()


def evaluate(annex, *arguments):
    return json.loads(annex("eval", *arguments, "--json").stdout)


@pytest.fixture
def graph(annex, tmp_path):
    """A graph over 4,000 rows, data.hdf5 with 100 queries."""
    rng = np.random.default_rng(9)
    rows, queries = (rng.standard_normal((n, 20)).astype("f4") for n in (4000, 100))
    write_hdf5(tmp_path / "data.hdf5", rows, queries)
    annex("build", "data.hdf5", "-o", "my.annex", "--index", "graph")
    return rows, queries


def test_eval__reports_recall_and_speed_along_effort(annex, tmp_path, graph):
    report = evaluate(annex, "my.annex", "--queries", "data.hdf5", "--k", "10", "--threads", "1")
    assert list(report) == EVAL
    assert (report["k"], report["threads"], report["rows"]) == (10, 1, 4000)
    assert (report["dimension"], report["metric"]) == (20, "l2") and report["build_seconds"] is None
    assert report["index_bytes"] == (tmp_path / "my.annex").stat().st_size
    assert report["exact_qps"] > 0 and report["cpu"] and report["isa"]
    points = report["points"]
    assert len(points) >= 10 and all(list(point) == POINT for point in points)
    efforts = [point["effort"] for point in points]
    assert efforts == sorted(set(efforts)) and efforts[0] == 10
    assert max(point["recall"] for point in points) >= 0.99
    for point in points:
        assert 0 < point["recall"] <= 1 and point["qps"] > 0 and point["batch_qps"] > 0
        assert 0 < point["p50_us"] <= point["p99_us"]
        assert 0 < point["distances"] <= 8000
        assert 1 <= point["hops"] < point["distances"]
        assert 0 < point["exact_distances"] < point["distances"]
        least = point["hops"] * 4 + point["exact_distances"] * 20
        assert least < point["bytes"] < point["distances"] * 1000
    for growing in ("hops", "distances", "exact_distances", "bytes"):
        assert points[-1][growing] > points[0][growing]


@pytest.mark.parametrize("k, first", [(4, 4), (10, 10), (40, 10), (100, 25)])
def test_eval__efforts_begin_at_a_quarter_of_many_neighbours(annex, graph, k, first):
    report = evaluate(annex, "my.annex", "--queries", "data.hdf5", "-k", k)
    assert report["k"] == k and report["points"][0]["effort"] == first


def test_eval__of_many_neighbours_each_has_its_exact_distance(annex, graph):
    report = evaluate(annex, "my.annex", "--queries", "data.hdf5", "-k", "100")
    assert report["points"][-1]["recall"] > 0.99
    assert all(point["exact_distances"] >= 100 for point in report["points"])


def test_eval__opening_is_quick_cold_and_warm(annex, graph):
    report = evaluate(annex, "my.annex", "--queries", "data.hdf5", "--efforts", "10")
    assert 0 < report["open_warm_ms"] < 10
    assert 0 < report["open_cold_ms"] < 1000  # the disk may be slow, but nothing is read in full


def test_eval__the_table_for_people_fits_a_terminal(annex, graph):
    done = annex("eval", "my.annex", "--queries", "data.hdf5", "-k", "100", "--efforts", "9,999999")
    table = done.stdout.split("\n\n")[1].splitlines()
    assert table[0].split() == ("effort recall queries/s batch/s p50 us p99 us hops distances "
                                "exact KB read").split()
    assert len(table) == 3 and all(len(line) <= 100 for line in table)


def test_eval__truth_from_file_queries_or_exact_search_is_the_same(annex, tmp_path, graph):
    rows, queries = graph
    np.save(tmp_path / "q.npy", queries)
    truth = np.array([near(rows, q)[1][:12] for q in queries], "i4")
    np.save(tmp_path / "t.npy", truth)
    ivecs = np.hstack([np.full((len(truth), 1), 12, "i4"), truth])
    (tmp_path / "t.ivecs").write_bytes(ivecs.tobytes())
    recalls = []
    for arguments in (
        ["--queries", "data.hdf5"],
        ["--queries", "q.npy"],
        ["--queries", "q.npy", "--truth", "t.npy"],
        ["--queries", "q.npy", "--truth", "t.ivecs"],
    ):
        report = evaluate(annex, "my.annex", *arguments, "--efforts", "10,30,90")
        recalls.append([point["recall"] for point in report["points"]])
    assert all(recall == recalls[0] for recall in recalls)
    assert recalls[0] == sorted(recalls[0]) and recalls[0][-1] > 0.9


def test_eval__recall_is_that_of_the_answers_of_search(annex, tmp_path, graph):
    rows, queries = graph
    np.save(tmp_path / "q.npy", queries)
    for effort in (10, 25):
        (point,) = evaluate(annex, "my.annex", "--queries", "data.hdf5", "-k", "5",
                            "--efforts", effort)["points"]
        groups = json.loads(annex("search", "my.annex", "--query-file", "q.npy", "-k", "5",
                                  "--effort", effort, "--json").stdout)
        found = sum(
            len({hit["key"] for hit in group} & set(near(rows, query)[1][:5].tolist()))
            for group, query in zip(groups, queries)
        )
        assert point["recall"] == pytest.approx(found / 500)


def test_eval__wrong_truth_shows(annex, tmp_path, graph):
    rows, queries = graph
    np.save(tmp_path / "q.npy", queries)
    far = np.array([near(rows, q)[1][-10:] for q in queries], "i4")
    far[:, :5] = [near(rows, q)[1][:5] for q in queries]
    np.save(tmp_path / "t.npy", far)
    arguments = ["my.annex", "--queries", "q.npy", "--truth", "t.npy"]
    # The tenth "nearest" is far away, so that all answers are at least as near: ties count.
    assert evaluate(annex, *arguments, "--efforts", "90")["points"][0]["recall"] == 1
    np.save(tmp_path / "t.npy", np.full((100, 10), 4000, "i4"))
    assert "4000" in annex("eval", *arguments, code=1).stderr
    np.save(tmp_path / "t.npy", np.zeros((99, 10), "i4"))
    annex("eval", *arguments, code=1)


def test_eval__equal_rows_are_ties(annex, tmp_path):
    rows = np.repeat(np.random.default_rng(2).standard_normal((40, 8)).astype("f4"), 25, axis=0)
    queries = rows[::100] + np.float32(0.01)
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        file["train"], file["test"] = rows, queries
        # Of 25 equal rows the file names the last ones, an answer the first.
        file["neighbors"] = np.array([near(rows, q)[1][15:25] for q in queries], "i4")
    annex("build", "data.hdf5", "-o", "my.annex")
    report = evaluate(annex, "my.annex", "--queries", "data.hdf5")
    assert len(report["points"]) >= 10
    assert [point["recall"] for point in report["points"]][-1] == 1


def test_eval__neighbours_under_another_metric_are_not_believed(annex, tmp_path, graph):
    annex("build", "data.hdf5", "-o", "ip.annex", "--metric", "ip", "--index", "flat")
    done = annex("eval", "ip.annex", "--queries", "data.hdf5", "--efforts", "exact", code=1)
    assert "--efforts" in done.stderr
    done = annex("eval", "ip.annex", "--queries", "data.hdf5", "--efforts", "100", "--json")
    assert "exact search" in done.stderr
    assert json.loads(done.stdout)["points"][0]["recall"] > 0.99


def test_eval__several_threads_have_no_latencies(annex, graph):
    report = evaluate(annex, "my.annex", "--queries", "data.hdf5", "-t", "2", "--efforts", "20",
                      "--build-seconds", "1.5")
    (point,) = report["points"]
    assert report["threads"] == 2 and report["build_seconds"] == 1.5
    assert point["p50_us"] is None and point["p99_us"] is None and point["qps"] > 0


def test_eval__table_and_plot(annex, tmp_path, graph):
    done = annex("eval", "my.annex", "--queries", "data.hdf5", "--efforts", "10,20,40",
                 "--plot", "a.svg")
    assert re.search(r"^ *20 +[01][\d.]* +\d+", done.stdout, re.M)
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3
    for circle in circles:
        assert 0 < float(circle.get("cx")) < 720 and 0 < float(circle.get("cy")) < 440


def test_eval__wrong_or_missing_queries(annex, tmp_path, graph):
    np.save(tmp_path / "q.npy", np.ones((3, 7), "f4"))
    assert "7" in annex("eval", "my.annex", "--queries", "q.npy", code=1).stderr
    annex("eval", "my.annex", "--queries", "missing.npy", code=3)
