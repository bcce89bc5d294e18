"""Searches with filters of every share and place on HDF5 data sets: bench/filters.c as a table.

Each cell says what part of the true neighbours came back at the default effort, the time beside the
same search without a filter and beside the exact search with it, and the ways that were taken: how
many of the queries walked the graph / scanned the rows that pass / did both.
"""

import argparse
import json
import pathlib
import subprocess

import sets

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"


def run(*command):
    answer = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
    return answer.stdout


def measure(build, source, queries):
    """The grid of one data set, over an index that is built when it is older than the command."""
    index = WORK / f"filters-{source.stem}.annex"
    if not index.exists() or index.stat().st_mtime < (build / "annex").stat().st_mtime:
        run(build / "annex", "build", source, "-o", index, "--threads", 2, "--json", "--force")
    return json.loads(run(build / "bench" / "bench_filters", index, source, queries))


def verdict(cell):
    """Whether the cell keeps what is promised of filters."""
    allowed = max(4 * cell["unfiltered_us"], 1.2 * cell["exact_us"])
    kept = cell["recall"] >= 0.95 and cell["missing"] == 0 and cell["us"] <= allowed
    return "" if kept else "**no**"


def print_table(name, cells):
    print(f"\n### {name}: {cells[0]['unfiltered_us']:.0f} us without a filter\n")
    print("| passing | rows | recall | missing | us | × unfiltered | × exact | ways | |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |")
    for cell in cells:
        ways = " / ".join(str(cell[way]) for way in ("walked", "scanned", "both"))
        print(f"| {cell['share']:.2%} | {cell['place']} | {cell['recall']:.3f}"
              f" | {cell['missing']:.0f} | {cell['us']:.0f}"
              f" | {cell['us'] / cell['unfiltered_us']:.2f} | {cell['us'] / cell['exact_us']:.2f}"
              f" | {ways} | {verdict(cell)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", type=pathlib.Path, help="HDF5 files")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--json", type=pathlib.Path, help="also write the cells to this file")
    options = parser.parse_args()
    run("ninja", "-C", options.build, "annex", "bench/bench_filters")
    WORK.mkdir(parents=True, exist_ok=True)
    grids = {}
    for source in sets.need(options.sets):
        grids[source.stem] = measure(options.build, source, options.queries)
        print_table(source.stem, grids[source.stem])
    if options.json:
        options.json.write_text(json.dumps(grids, indent=1) + "\n")


if __name__ == "__main__":
    main()
