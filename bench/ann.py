"""Annex beside hnswlib and FAISS: recall, speed, build time and memory on HDF5 data sets.

Every build and every evaluation is a command in a process of its own: `annex build` and
`annex eval`, and the same two for the peers in peers.py. This program stays small (it loads no
vectors) because a child's peak memory never reads lower than its parent's. The engines take turns
in several rounds and keep their best of each point, so that a noisy minute hits all of them.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import time

import plot
import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = ROOT / "build" / "bench"
DEFAULT_SETS = ROOT.parent / "shared" / "data"
PEERS = {"hnswlib": ("hnswlib", "M 16"), "faiss": ("faiss-cpu", "HNSW32")}
BUILD_THREADS = 2
RECALL_SLACK = 2e-4  # what rounding may move between two computations of one recall


def run_measured(command):
    """Run a command to its end: what it printed as JSON, with its time and its peak memory."""
    start = time.perf_counter()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE)
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"bench: exit {child.returncode} from: {' '.join(map(str, command))}")
    answer = json.loads(printed) if printed.strip() else {}
    return answer, {
        "wall_seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_bytes": usage.ru_maxrss * 1024,
    }


class Annex:
    name = "annex"
    cached = False

    def __init__(self, binary):
        self.binary = binary
        version = subprocess.run([binary, "--version"], capture_output=True, text=True)
        self.label = (version.stdout.split("\n")[0] or "annex").strip()

    def build_command(self, source, index):
        return [self.binary, "build", source, "-o", index, "--threads", BUILD_THREADS, "--json"]

    def eval_command(self, source, index, k):
        return [self.binary, "eval", index, "--queries", source, "--k", k, "--threads", 1, "--json"]


class Peer:
    cached = True  # their files stay the same from run to run, and take minutes to build

    def __init__(self, name):
        package, parameters = PEERS[name]
        self.name = name
        self.label = f"{name} {importlib.metadata.version(package)} {parameters}"

    def build_command(self, source, index):
        return [sys.executable, HERE / "peers.py", "build", self.name, source, index,
                "--threads", BUILD_THREADS]

    def eval_command(self, source, index, k):
        return [sys.executable, HERE / "peers.py", "eval", self.name, source, index, "--k", k]


def obtain_index(engine, source, fresh):
    """The path of the engine's index over the set and what its build took, now or earlier."""
    stem = engine.label.replace(" ", "-")
    index = WORK / "cache" / f"{source.stem}-{stem}.{engine.name}"
    note = index.with_suffix(".json")
    identity = [source.stat().st_size, source.stat().st_mtime_ns]
    if engine.cached and not fresh and note.exists() and index.exists():
        known = json.loads(note.read_text())
        if known.pop("source") == identity:
            return index, {**known, "fresh": False}
    print(f"bench: {engine.label}: building {source.name}", file=sys.stderr)
    index.unlink(missing_ok=True)
    answer, took = run_measured(engine.build_command(source, index))
    took["index_bytes"] = index.stat().st_size
    took["build_seconds"] = answer.get("build_seconds")
    note.write_text(json.dumps({**took, "source": identity}))
    return index, {**took, "fresh": True}


def measure_engines(engines, source, k, rounds, fresh):
    """Build with all, then let them take turns; the engines' part of the result."""
    measured = {}
    for engine in engines:
        index, build = obtain_index(engine, source, fresh)
        measured[engine.name] = {"label": engine.label, "index": index, "build": build,
                                 "rounds": [], "core_share": 0, "exact_qps": None}
    for number in range(rounds):
        for engine in engines:
            mine = measured[engine.name]
            print(f"bench: {engine.label}: {source.name}, round {number + 1}", file=sys.stderr)
            answer, took = run_measured(engine.eval_command(source, mine["index"], k))
            mine["rounds"].append(answer["points"])
            share = took["cpu_seconds"] / took["wall_seconds"]
            mine["core_share"] = max(mine["core_share"], min(share, 1))
            mine["exact_qps"] = max(mine["exact_qps"] or 0, answer.get("exact_qps") or 0) or None
    for engine in engines:
        mine = measured[engine.name]
        mine["points"] = report.merge_points(mine.pop("rounds"))
        mine["index"] = mine["index"].name
        if engine.name == "annex":
            check_recall(engine, mine, source, k)
        mine["qps_at"] = {str(r): report.qps_at(mine["points"], r) for r in report.RECALLS}
    return measured


def read_set(source, *words):
    """What dataset.py says, in a process of its own: this one must not grow."""
    return run_measured([sys.executable, HERE / "dataset.py", source, *words])[0]


def check_recall(engine, mine, source, k):
    """Compute one of Annex's recalls again, from the answers of `annex search`."""
    good = [point for point in mine["points"] if point["recall"] >= 0.95]
    point = good[0] if good else mine["points"][-1]
    answers = WORK / "answers.json"
    command = [engine.binary, "search", WORK / "cache" / mine["index"], "--query-file", source,
               "-k", k, "--effort", point["effort"], "--json"]
    with open(answers, "wb") as file:
        subprocess.run([str(word) for word in command], stdout=file, check=True)
    recall = read_set(source, answers, k)["recall"]
    if abs(recall - point["recall"]) > RECALL_SLACK:
        raise SystemExit(
            f"bench: at effort {point['effort']} annex eval says recall {point['recall']:.5f}, "
            f"but the answers of annex search have {recall:.5f}")


def describe_machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    pages = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpu": names[0] if names else "unknown",
        "cores": os.cpu_count(),
        "huge_pages": pages.read_text().strip() if pages.exists() else "unknown",
        "load_before": os.getloadavg()[0],
    }


def write_result(result, folder):
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{result['date'][:10]}-{result['set']['name']}"
    pathlib.Path(f"{base}.json").write_text(json.dumps(result, indent=1) + "\n")
    pathlib.Path(f"{base}.svg").write_text(plot.draw(result))
    return base


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="bench/run ann", description="Annex beside hnswlib and FAISS, in one run.")
    parser.add_argument("sets", nargs="*", type=pathlib.Path,
                        help="HDF5 files in the ann-benchmarks layout (../shared/data/*.hdf5)")
    parser.add_argument("--engines", default="hnswlib,faiss,annex", help="which, in their order")
    parser.add_argument("--annex", default=ROOT / "build" / "annex", help="the command to measure")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true",
                        help="build the peers' indexes again: build times of one run, to compare")
    parser.add_argument("--huge-pages", action="store_true",
                        help="2 MB pages for the peers' memory too (Annex asks for its own)")
    parser.add_argument("--save", type=pathlib.Path, default=WORK / "results",
                        help="folder for the JSON and the SVG (build/bench/results)")
    arguments = parser.parse_args()
    arguments.sets = arguments.sets or sorted(DEFAULT_SETS.glob("*.hdf5"))
    if not arguments.sets:
        print(f"bench: no nearest neighbours measured: name HDF5 files, or put some into "
              f"{DEFAULT_SETS}", file=sys.stderr)
    for source in arguments.sets:
        if not source.is_file():
            parser.error(f"there is no file {source}")
    for name in arguments.engines.split(","):
        if name != "annex" and name not in PEERS:
            parser.error(f"engine '{name}'; known: annex, {', '.join(PEERS)}")
        if name == "annex" and not pathlib.Path(arguments.annex).is_file():
            parser.error(f"there is no {arguments.annex}: run make first, or measure the peers "
                         "alone with --engines hnswlib,faiss")
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.huge_pages:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    engines = [Annex(arguments.annex) if name == "annex" else Peer(name)
               for name in arguments.engines.split(",")]
    (WORK / "cache").mkdir(parents=True, exist_ok=True)
    for source in arguments.sets:
        machine = describe_machine()
        result = {
            "date": datetime.datetime.now().isoformat(timespec="seconds"),
            "set": {"name": source.stem, **read_set(source)},
            "machine": machine,
            "peers_with_huge_pages": arguments.huge_pages,
            "k": arguments.k,
            "rounds": arguments.rounds,
            "engines": measure_engines(engines, source, arguments.k, arguments.rounds,
                                       arguments.fresh),
        }
        result["ratios"] = report.ratios(result["engines"])
        base = write_result(result, arguments.save)
        print(f"\n{report.table(result)}\nwritten: {base}.json and .svg\n", flush=True)


if __name__ == "__main__":
    main()
