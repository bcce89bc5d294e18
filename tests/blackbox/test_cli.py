"""The command: help, wrong command lines, index files and files of vectors."""

import csv
import io
import json
import os
import re
import subprocess

import numpy as np
import pytest

from exact import as_query, near, same_answer, write_hdf5

COMMANDS = (
    "create search sync optimize list info check rename drop build eval vectors help".split()
)
ROWS, DIMENSION = 2000, 24


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(5).standard_normal((ROWS, DIMENSION)).astype(np.float32)


@pytest.fixture
def index(annex, tmp_path, rows):
    """An index file my.annex over the rows, in tmp_path."""
    np.save(tmp_path / "rows.npy", rows)
    annex("build", "rows.npy", "-o", "my.annex")
    return tmp_path / "my.annex"


# ---- help and wrong command lines --------------------------------------------------------------


def test_no_arguments__short_help_with_examples(annex):
    done = annex()
    assert all(name in done.stdout for name in COMMANDS)
    assert "Examples" in done.stdout and done.stderr == ""
    assert annex("--help").stdout == annex("help").stdout == done.stdout


def test_version(annex):
    assert re.fullmatch(r"annex \d+\.\d+\.\d+\n", annex("--version").stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command__usage_options_examples(annex, command):
    text = annex(command, "--help").stdout
    assert text == annex("help", command).stdout
    assert f"annex {command}" in text and "Examples" in text and "--help" in text
    assert all(len(line) <= 100 and line == line.rstrip() for line in text.split("\n"))


def test_manual_page_and_completion__know_every_command_and_option(annex, tmp_path):
    page = annex("help", "--man").stdout
    assert page.startswith(".TH ANNEX 1")
    for shell in ("bash", "zsh", "fish"):
        text = annex("help", "--completion", shell).stdout
        for command in COMMANDS:
            assert command in text
            for option in re.findall(r"^ .*--([a-z-]+)", annex("help", command).stdout, re.M):
                assert (f"-l {option}" if shell == "fish" else f"--{option}") in text
                assert option.replace("-", r"\-") in page


def complete(annex, tmp_path, *words):
    """What bash offers after the words."""
    (tmp_path / "annex.bash").write_text(annex("help", "--completion", "bash").stdout)
    script = (
        f"source annex.bash; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _annex; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_bash_completion__offers_commands_options_choices_files(annex, tmp_path):
    (tmp_path / "vectors.npy").touch()
    assert complete(annex, tmp_path, "annex", "bu") == ["build"]
    assert complete(annex, tmp_path, "annex", "build", "--met") == ["--metric"]
    assert complete(annex, tmp_path, "annex", "build", "--metric", "c") == ["cosine"]
    assert complete(annex, tmp_path, "annex", "build", "vec") == ["vectors.npy"]
    assert complete(annex, tmp_path, "annex", "help", "se") == ["search"]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["serch"], "did you mean search?"),
        (["optimise", "x.db"], "did you mean optimize?"),
        (["xyzzy"], "annex help"),
        (["help", "buld"], "did you mean build?"),
        (["--json", "list"], "the command comes first"),
        (["build", "x.npy", "--metrc", "l2"], "did you mean --metric?"),
        (["build", "x.npy", "--query", "[1]"], "has no option --query"),
        (["build", "x.npy", "-Z"], "has no option -Z"),
        (["build", "x.npy", "--metric", "l3"], "l2|ip|cosine|l1"),
        (["build", "x.npy", "--metric"], "needs a value"),
        (["build", "x.npy", "-o", "--force"], "needs a value"),
        (["build", "x.npy", "--force=yes"], "takes no value"),
        (["build", "x.npy"], "needs -o"),
        (["build"], "needs VECTORS"),
        (["build", "a", "b", "-o", "c"], "one too many"),
        (["build", "a", "-o", "c", "--threads", "-1"], "whole number"),
        (["build", "a", "-o", "c", "--threads", "99999999999999999999"], "whole number"),
        (["build", "a", "-o", "c", "--max-memory", "4X"], "whole number"),
        (["build", "a", "-o", "c", "--max-memory", "99999999T"], "whole number"),
        (["build", "a", "-o", "c", "-o", "d"], "twice"),
        (["create", "a.db", "i"], "--table"),
        (["search", "a.db", "i"], "--query"),
        (["search", "a.db", "i", "--query", "[1]", "--like", "2"], "one of"),
        (["search", "a.db", "i", "--query", "[1]", "-k", "0"], "from 1"),
        (["search", "a.db", "i", "--query", "[1]", "--within", "x"], "is a number"),
        (["search", "a.db", "i", "--query", "[1]", "--within", "1", "-k", "2"], "-k"),
        (["search", "a.db", "i", "--query", "[1]", "--effort", "2", "--recall", "1"], "give one"),
        (["search", "a.db", "i", "--query", "[1]", "--effort", "all"], "exact"),
        (["search", "a.db", "i", "--query", "[1]", "--json", "--csv"], "choose one"),
        (["search", "a.annex", "i", "--query", "[1]"], "one too many"),
        (["search", "a.annex", "--query", "[1]", "--where", "x"], "--where needs a database"),
        (["rename", "a.db", "i"], "NEW_NAME"),
        (["eval", "a.annex"], "--queries"),
        (["info"], "--cpu"),
    ],
)
def test_wrong_command_line__one_sentence_and_2(annex, arguments, says):
    done = annex(*arguments, code=2)
    assert says in done.stderr and done.stdout == ""
    assert done.stderr.startswith("annex: ") and done.stderr.count("\n") == 1


def test_options__any_order_and_form(annex, index):
    expected = annex("search", "my.annex", "--like", "7", "-k", "3", "--json").stdout
    for arguments in (
        ["--like=7", "--json", "-k3", "my.annex"],
        ["--json", "my.annex", "--k", "3", "--like", "7"],
        ["--json", "--k=3", "--like", "7", "--", "my.annex"],
    ):
        assert annex("search", *arguments).stdout == expected


# ---- index files -------------------------------------------------------------------------------


def test_build__reports_what_it_made(annex, tmp_path, rows):
    np.save(tmp_path / "rows.npy", rows)
    done = annex("build", "rows.npy", "-o", "my.annex", "--metric", "ip", "--json")
    report = json.loads(done.stdout)
    assert list(report) == (
        "file rows skipped dimension metric family codes degree default_effort recall index_bytes "
        "raw_bytes build_seconds peak_memory_bytes"
    ).split()
    assert (report["rows"], report["dimension"], report["metric"]) == (ROWS, DIMENSION, "ip")
    assert report["index_bytes"] == (tmp_path / "my.annex").stat().st_size
    assert report["build_seconds"] > 0 and report["peak_memory_bytes"] > 0
    assert done.stderr == ""


def test_build__existing_file_needs_force(annex, tmp_path, rows, index):
    before = index.read_bytes()
    done = annex("build", "rows.npy", "-o", "my.annex", "--metric", "l1", code=1)
    assert "--force" in done.stderr and index.read_bytes() == before
    annex("build", "rows.npy", "-o", "my.annex", "--metric", "l1", "--force")
    assert json.loads(annex("info", "my.annex", "--json").stdout)["metric"] == "l1"


def test_build__same_bytes_for_any_threads(annex, tmp_path, rows):
    np.save(tmp_path / "rows.npy", rows)
    for family in ("flat", "graph"):
        for threads in ("1", "2"):
            annex("build", "rows.npy", "-o", f"{family}{threads}.annex", "--index", family,
                  "--threads", threads)
        one, two = ((tmp_path / f"{family}{t}.annex").read_bytes() for t in "12")
        assert one == two
        info = json.loads(annex("info", f"{family}1.annex", "--json").stdout)
        assert info["family"] == family


def test_build__every_kind_of_file_gives_the_same_index(annex, tmp_path, rows):
    whole = np.round(rows * 20).clip(-100, 100)
    np.save(tmp_path / "rows.npy", whole)
    np.save(tmp_path / "rows16.npy", whole.astype(np.float16))
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "a.npy", whole[:700])
    np.save(tmp_path / "folder" / "b.npy", whole[700:])
    write_hdf5(tmp_path / "rows.hdf5", whole, whole[:1])
    annex("vectors", "rows.npy", "-o", "rows.fvecs")
    annex("vectors", "rows.npy", "-o", "rows.fbin")
    annex("vectors", "rows.npy", "-o", "rows.i8bin")
    contents = set()
    for source in ("rows.npy", "rows16.npy", "folder", "rows.hdf5", "rows.fvecs", "rows.fbin",
                   "rows.i8bin"):
        annex("build", source, "-o", f"{source}.annex")
        contents.add((tmp_path / f"{source}.annex").read_bytes())
    assert len(contents) == 1


def test_build__metric_of_hdf5_is_taken(annex, tmp_path, rows):
    write_hdf5(tmp_path / "a.hdf5", rows, rows[:2], "angular")
    annex("build", "a.hdf5", "-o", "a.annex")
    annex("build", "a.hdf5", "-o", "b.annex", "--metric", "l2")
    for name, metric in (("a.annex", "cosine"), ("b.annex", "l2")):
        assert json.loads(annex("info", name, "--json").stdout)["metric"] == metric


@pytest.mark.parametrize("family", ["flat", "graph"])
def test_build__bad_rows_are_named_and_nothing_is_written(annex, tmp_path, rows, family):
    broken = rows.copy()
    broken[1234, 5] = np.nan
    np.save(tmp_path / "rows.npy", broken)
    done = annex("build", "rows.npy", "-o", "my.annex", "--index", family, code=1)
    assert "1234" in done.stderr and "5" in done.stderr and done.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["rows.npy"]


def test_build__zero_rows_under_cosine_are_left_out(annex, tmp_path, rows):
    some = rows[:50].copy()
    some[[3, 7]] = 0
    np.save(tmp_path / "rows.npy", some)
    done = annex("build", "rows.npy", "-o", "my.annex", "-m", "cosine", "--json")
    report = json.loads(done.stdout)
    assert (report["rows"], report["skipped"]) == (48, 2)
    assert "2 zero vectors" in done.stderr
    hits = json.loads(annex("search", "my.annex", "--like", "4", "-k", "60", "--json").stdout)
    assert {hit["key"] for hit in hits} == set(range(50)) - {3, 4, 7}


def test_build__no_rows_make_an_empty_index(annex, tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 8), "f4"))
    annex("build", "none.npy", "-o", "my.annex")
    query = as_query(np.ones(8))
    assert json.loads(annex("search", "my.annex", "--query", query, "--json").stdout) == []
    annex("search", "my.annex", "--like", "0", code=3)
    groups = annex("search", "my.annex", "--query-file", "none.npy", "--json").stdout
    assert json.loads(groups) == []
    assert json.loads(annex("info", "my.annex", "--json").stdout)["rows"] == 0
    annex("check", "my.annex")
    done = annex("eval", "my.annex", "--queries", "none.npy", code=1)
    assert "no rows" in done.stderr


def test_build__memory_that_cannot_suffice_is_refused(annex, tmp_path, index):
    before = index.read_bytes()
    done = annex("build", "rows.npy", "-o", "my.annex", "-f", "--max-memory", "4K", code=1)
    assert "limit" in done.stderr and index.read_bytes() == before


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine", "l1"])
def test_search__exact_answers_are_those_of_brute_force(annex, tmp_path, rows, metric):
    np.save(tmp_path / "rows.npy", rows)
    annex("build", "rows.npy", "-o", "my.annex", "--metric", metric)
    query = rows[:4].mean(axis=0)
    for extra in (["--effort", "exact"], []):
        done = annex("search", "my.annex", "--query", as_query(query), "--json", "-k", "7", *extra)
        same_answer(json.loads(done.stdout), rows, query, 7, metric)


@pytest.mark.isa
def test_search__forms_of_output_agree(annex, tmp_path, rows, index):
    queries = rows[:3] + np.float32(0.25)
    np.save(tmp_path / "q.npy", queries)
    arguments = ["search", "my.annex", "--query-file", "q.npy", "-k", "4", "--effort", "exact"]
    groups = json.loads(annex(*arguments, "--json").stdout)
    assert [len(group) for group in groups] == [4, 4, 4]
    for group, query in zip(groups, queries):
        same_answer(group, rows, query, 4)
    flat = [dict(query=q, **hit) for q, group in enumerate(groups) for hit in group]
    lines = annex(*arguments, "--jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == flat
    table = list(csv.DictReader(io.StringIO(annex(*arguments, "--csv").stdout)))
    assert [
        dict(query=int(r["query"]), key=int(r["key"]), distance=float(r["distance"])) for r in table
    ] == flat
    people = annex(*arguments).stdout.split("\n")
    assert people[0].split() == ["query", "key", "distance"]
    assert [line.split()[:2] for line in people[1:-1]] == [
        [str(h["query"]), str(h["key"])] for h in flat
    ]


def test_search__query_from_standard_input(annex, index, rows):
    text = as_query(rows[5])
    expected = annex("search", "my.annex", "--query", text, "--json").stdout
    read = annex("search", "my.annex", "--query", "-", "--json", stdin=text + "\n").stdout
    assert read == expected
    assert json.loads(expected)[0]["key"] == 5


def test_search__like_leaves_the_row_out(annex, index, rows):
    hits = json.loads(annex("search", "my.annex", "--like", "11", "-k", "5", "--json").stdout)
    assert [hit["key"] for hit in hits] == near(rows, rows[11])[1][1:6].tolist()


def test_search__within_finds_all_that_are_near_enough(annex, index, rows):
    distances, order = near(rows, rows[3])
    limit = (distances[40] + distances[41]) / 2
    done = annex("search", "my.annex", "--query", as_query(rows[3]), "--within", limit, "--json")
    assert [hit["key"] for hit in json.loads(done.stdout)] == order[:41].tolist()
    done = annex("search", "my.annex", "--query", as_query(rows[3]), "--within", "-1", "--json")
    assert json.loads(done.stdout) == []


def test_search__k_beyond_the_rows_gives_all(annex, index, rows):
    hits = json.loads(annex("search", "my.annex", "--like", "0", "-k", "5000", "--json").stdout)
    assert len({hit["key"] for hit in hits}) == ROWS - 1


@pytest.mark.parametrize(
    "query, says",
    [
        ("[1, 2]", "24"),
        ("[]", ""),
        ("1, 2", ""),
        ("[1, NaN]", ""),
        ("[1, [2]]", ""),
        ("", ""),
    ],
)
def test_search__wrong_query__one_sentence_and_1(annex, index, query, says):
    done = annex("search", "my.annex", f"--query={query}", code=1)
    assert says in done.stderr and done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_search__query_longer_than_any_vector(annex, index):
    text = "[" + "1," * 70000 + "1]"
    assert annex("search", "my.annex", "--query", "-", code=1, stdin=text).stderr.count("\n") == 1
    text = " " * (1 << 25)
    assert annex("search", "my.annex", "--query", "-", code=1, stdin=text).stderr.count("\n") == 1


def test_search__unknown_key_is_3(annex, index):
    assert annex("search", "my.annex", "--like", "99999", code=3).stdout == ""
    annex("search", "my.annex", "--like", "abc", code=1)


def test_search__recall_and_effort(annex, tmp_path, rows, index):
    for extra in (["--recall", "0.99"], ["--effort", "200"]):
        annex("search", "my.annex", "--like", "3", *extra)
    annex("search", "my.annex", "--like", "3", "--recall", "1.5", code=1)


def test_info_of_a_file(annex, index):
    info = json.loads(annex("info", "my.annex", "--json").stdout)
    assert list(info) == (
        "file metric dimension family codes rotated keys rows skipped bytes raw raw_bytes has_raw "
        "lossless degree default_effort content recall_points"
    ).split()
    assert info["rows"] == ROWS and info["bytes"] == index.stat().st_size
    assert all(set(point) == {"effort", "recall"} for point in info["recall_points"])
    people = annex("info", "my.annex").stdout
    assert re.search(r"^rows +2000$", people, re.M)


@pytest.mark.isa
def test_info_cpu(annex):
    cpu = json.loads(annex("info", "--cpu", "--json").stdout)
    assert list(cpu) == ["isa", "available"]
    assert cpu["isa"] in cpu["available"] and cpu["available"][0] == "ref"
    assert cpu["isa"] == os.environ.get("ANNEX_CPU", cpu["available"][-1])
    assert cpu["isa"] in annex("info", "--cpu").stdout


def test_check_of_a_file__sound_0_damaged_4(annex, tmp_path, index):
    assert json.loads(annex("check", "my.annex", "--json").stdout) == [
        {"index": "my.annex", "ok": True, "problem": ""}
    ]
    image = bytearray(index.read_bytes())
    image[len(image) // 2] ^= 0x10
    (tmp_path / "bad.annex").write_bytes(image)
    done = annex("check", "bad.annex", "--json", code=4)
    (line,) = json.loads(done.stdout)
    assert line["ok"] is False and line["problem"] in done.stderr


@pytest.mark.parametrize("command", ["info", "check", "search", "eval"])
def test_files_that_are_no_index__4_and_missing_ones_3(annex, tmp_path, index, command):
    extra = {"search": ["--like", "1"], "eval": ["--queries", "rows.npy"]}.get(command, [])
    image = index.read_bytes()
    contents = {"empty": b"", "text": b"hello " * 3000, "stub": image[:8],
                "cut": image[: len(image) // 2]}
    for name, content in contents.items():
        (tmp_path / f"{name}.annex").write_bytes(content)
        done = annex(command, f"{name}.annex", *extra, code=4)
        assert done.stderr.count("\n") == 1 and f"{name}.annex" in done.stderr
    annex(command, "missing.annex", *extra, code=3)


def test_database_commands_refuse_index_files(annex, index):
    for command in ("list", "sync", "optimize"):
        assert "index file" in annex(command, "my.annex", code=1).stderr


# ---- vectors -----------------------------------------------------------------------------------


def test_vectors__describes(annex, tmp_path):
    some = np.array([[3, 4], [0, 0], [3, 4], [6, 8], [np.nan, 1], [np.inf, 1]], "f4")
    np.save(tmp_path / "a.npy", some)
    done = annex("vectors", "a.npy", "--json")
    assert json.loads(done.stdout) == {
        "file": "a.npy", "kind": "npy", "rows": 6, "dimension": 2, "format": "f32",
        "norm_min": 0.0, "norm_mean": 5.0, "norm_max": 10.0,
        "not_finite": 2, "zero": 1, "duplicates": 1,
    }
    assert "cannot be indexed" in done.stderr
    assert re.search(r"^not finite +2$", annex("vectors", "a.npy").stdout, re.M)


def test_vectors__converts_and_prints(annex, tmp_path, rows):
    np.save(tmp_path / "rows.npy", rows)
    annex("vectors", "rows.npy", "-o", "half.npy", "--format", "f16")
    assert np.array_equal(np.load(tmp_path / "half.npy"), rows.astype(np.float16))
    annex("vectors", "rows.npy", "--head", "5", "-o", "five.npy")
    assert np.array_equal(np.load(tmp_path / "five.npy"), rows[:5])
    assert "--force" in annex("vectors", "rows.npy", "-o", "five.npy", code=1).stderr
    lines = annex("vectors", "five.npy", "--head", "9").stdout.splitlines()
    printed = np.array([json.loads(line) for line in lines], "f4")
    assert np.array_equal(printed, rows[:5])
    document = json.loads(annex("vectors", "five.npy", "--head", "2", "--json").stdout)
    assert np.array_equal(np.array(document, "f4"), rows[:2])


def test_vectors__missing_or_damaged_file(annex, tmp_path):
    annex("vectors", "missing.npy", code=3)
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff" + b"x" * 40)
    assert annex("vectors", "bad.npy", code=4).stderr.count("\n") == 1
    (tmp_path / "rows.xyz").write_bytes(b"")
    annex("vectors", "rows.xyz", code=1)
