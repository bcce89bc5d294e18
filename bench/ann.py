"""Annex beside its peers: recall, speed, build time, memory and bytes on HDF5 data sets.

Every build and every evaluation is a command in a process of its own: `annex build` and
`annex eval`, and the same two for the peers in peers.py. This program stays small (it loads no
vectors) because a child's peak memory never reads lower than its parent's. The engines take turns
in several rounds and keep their best of each point, so that a noisy minute hits all of them. The
first round tries all efforts; the others repeat those that decide at the recalls reported.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import fronts
import plot
import report
import sets

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = ROOT / "build" / "bench"
BUILD_THREADS = 2
RECALL_SLACK = 2e-4  # what rounding may move between two computations of one recall


class Failed(Exception):
    """What a command that did not do its work left as its last words."""


def run_measured(command, limit_s=None):
    """Run a command to its end: what it printed as JSON, with its time and its peak memory."""
    start = time.perf_counter()
    words = [str(word) for word in command]
    with open(WORK / "last-messages.txt", "w+", errors="replace") as messages:
        child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=messages,
                                 start_new_session=True)
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGKILL))
        signal.alarm(math.ceil(limit_s) if limit_s else 0)
        printed = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        signal.alarm(0)
        child.returncode = os.waitstatus_to_exitcode(status)
        took = time.perf_counter() - start
        if child.returncode:
            messages.seek(0)
            last = messages.read().strip().splitlines()[-1:] or ["no message"]
            late = limit_s and took >= limit_s
            raise Failed(f"not done in {limit_s:g} s" if late else
                         f"exit {child.returncode}: {last[0]}")
    answer = json.loads(printed) if printed.strip() else {}
    return answer, {
        "wall_seconds": round(took, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def bytes_on_disk(path):
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


class Annex:
    """`annex` as it comes, or with options of `annex build`: then its name has them."""

    peer = "annex"
    cached = False
    note = ""

    def __init__(self, binary, options=""):
        self.binary, self.options = binary, options.split()
        version = subprocess.run([binary, "--version"], capture_output=True, text=True)
        given = " ".join(option.removeprefix("--") for option in self.options)
        self.name = f"annex {given}".strip()
        self.label = f"{version.stdout.splitlines()[0].strip()} {given}".strip()

    def build_command(self, source, index):
        return [self.binary, "build", source, "-o", index, "--threads", BUILD_THREADS, "--json",
                "--force", *self.options]

    def evaluate(self, source, index, ks, efforts):
        """The points by k, and what `annex eval` says of the whole file."""
        points, about = {}, {}
        for k in ks:
            command = [self.binary, "eval", index, "--queries", source, "--k", k, "--threads", 1,
                       "--json"]
            if efforts.get(k):
                command += ["--efforts", ",".join(str(effort) for effort in efforts[k])]
            answer, took = run_measured(command)
            points[k] = [{**point, "qps_single": point["qps"], "qps_batch": point["batch_qps"],
                          "qps": max(point["qps"], point["batch_qps"])}
                         for point in answer.pop("points")]
            about = about or answer
            share = took["cpu_seconds"] / took["wall_seconds"]
        return points, about.get("exact_qps"), share, about


class Peer:
    cached = True  # their files stay the same from run to run, and take minutes to build

    def __init__(self, peer, setting, kind):
        self.peer, self.setting, self.note = peer, setting, kind.note
        self.name = f"{peer} {setting}"
        self.python = WORK / {"base": "venv"}.get(kind.environment, f"venv-{kind.environment}")
        self.python = self.python / "bin" / "python"
        if not self.python.exists():
            raise Failed(f"its environment {self.python.parent.parent} could not be made")
        self.label = f"{self.name} ({self.command('version', peer, run=True)['version']})"

    def command(self, *words, run=False):
        command = [self.python, HERE / "peers.py", *words]
        return run_measured(command)[0] if run else command

    def build_command(self, source, index):
        return self.command("build", self.peer, self.setting, source, index,
                            "--threads", BUILD_THREADS)

    def evaluate(self, source, index, ks, efforts):
        words = ["eval", self.peer, self.setting, source, index, "--k", ",".join(map(str, ks)),
                 "--efforts", json.dumps(efforts)]
        answer, took = run_measured(self.command(*words))
        points = {int(k): found for k, found in answer["points"].items()}
        return points, answer["exact_qps"], took["cpu_seconds"] / took["wall_seconds"], None


def obtain_index(engine, source, arguments):
    """The path of the engine's index over the set and what its build took, now or earlier."""
    stem = engine.label.replace(" ", "-").replace(",", "-").replace("(", "").replace(")", "")
    index = WORK / "cache" / f"{source.stem}-{stem}"
    note = index.with_name(index.name + ".json")
    identity = [source.stat().st_size, source.stat().st_mtime_ns]
    fresh = arguments.fresh and (arguments.fresh == "all"
                                 or engine.peer in arguments.fresh.split(","))
    if engine.cached and not fresh and note.exists() and index.exists():
        known = json.loads(note.read_text())
        if known.pop("source") == identity:
            return index, {**known, "fresh": False}
    print(f"bench: {engine.label}: building {source.name}", file=sys.stderr)
    note.unlink(missing_ok=True)
    if index.is_dir():
        shutil.rmtree(index)
    answer, took = run_measured(engine.build_command(source, index), arguments.build_limit)
    took["index_bytes"] = bytes_on_disk(index)
    took["build_seconds"] = answer.get("build_seconds")
    note.write_text(json.dumps({**took, "source": identity}))
    return index, {**took, "fresh": True}


def build_all(engines, source, arguments):
    """The engines that have an index now, by name, and why the others have none."""
    measured, missing = {}, {}
    for engine in engines:
        try:
            index, build = obtain_index(engine, source, arguments)
        except Failed as reason:
            print(f"bench: {engine.label}: {reason}", file=sys.stderr)
            missing[engine.name] = str(reason)
            if engine.name == "annex":
                raise SystemExit(f"bench: annex build failed: {reason}")
            continue
        measured[engine.name] = {"label": engine.label, "peer": engine.peer, "note": engine.note,
                                 "index": index, "build": build, "core_share": 0,
                                 "exact_qps": None, "rounds": {k: [] for k in arguments.ks}}
    return measured, missing


def take_turn(engine, mine, source, ks, first):
    efforts = {} if first else {
        k: fronts.deciding_efforts(fronts.merge_points(mine["rounds"][k]),
                                   report.recalls_of(k, ks)) for k in ks}
    points, exact_qps, share, about = engine.evaluate(source, mine["index"], ks, efforts)
    for k in ks:
        mine["rounds"][k].append(points[k])
    mine["core_share"] = max(mine["core_share"], min(share, 1))
    mine["exact_qps"] = max(mine["exact_qps"] or 0, exact_qps or 0) or None
    if about:
        mine["opens_ms"] = {key: about.get(f"open_{key}_ms") for key in ("cold", "warm")}


def measure_engines(engines, source, arguments):
    """Build with all, then let them take turns; the engines' part of the result."""
    measured, missing = build_all(engines, source, arguments)
    for number in range(arguments.rounds):
        for engine in engines:
            if engine.name not in measured:
                continue
            print(f"bench: {engine.label}: {source.name}, round {number + 1}", file=sys.stderr)
            try:
                take_turn(engine, measured[engine.name], source, arguments.ks, number == 0)
            except Failed as reason:
                print(f"bench: {engine.label}: {reason}", file=sys.stderr)
                missing[engine.name] = f"search: {reason}"
                del measured[engine.name]
    for engine in engines:
        if engine.name in measured:
            mine = measured[engine.name]
            mine["points"] = {str(k): fronts.merge_points(mine["rounds"][k]) for k in arguments.ks}
            del mine["rounds"]
            mine["index"] = mine["index"].name
            if engine.name == "annex":
                check_recall(engine, mine, source, arguments.ks[0])
    return measured, missing


def read_set(source, *words):
    """What dataset.py says, in a process of its own: this one must not grow."""
    return run_measured([sys.executable, HERE / "dataset.py", source, *words])[0]


def check_recall(engine, mine, source, k):
    """Compute one of Annex's recalls again, from the answers of `annex search`."""
    points = mine["points"][str(k)]
    good = [point for point in points if point["recall"] >= 0.95]
    point = good[0] if good else points[-1]
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


def take_sample(source, rows):
    """The first rows of a set with their own exact neighbours and fewer queries, for a trial."""
    sample = WORK / "cache" / f"{source.stem}-first-{rows}.hdf5"
    if not sample.exists():
        run_measured([sys.executable, HERE / "dataset.py", source, "--first", rows, sample])
    return sample


def write_result(result, folder):
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{result['date'][:10]}-{result['set']['name']}"
    pathlib.Path(f"{base}.json").write_text(json.dumps(result, indent=1) + "\n")
    for k in result["ks"]:
        pathlib.Path(f"{base}-k{k}.svg").write_text(plot.draw(result, k))
    return base


def choose_engines(arguments):
    """Annex first, then each peer in its settings; and why some cannot be had."""
    from engines import DEFAULT, PEERS

    names = list(PEERS) if arguments.all_peers else list(DEFAULT)
    if arguments.peers is not None:
        names = [name for name in arguments.peers.split(",") if name]
    engines, missing = [Annex(arguments.annex)], {}
    engines += [Annex(arguments.annex, options) for options in arguments.annex_build]
    for name in names:
        if name not in PEERS:
            raise SystemExit(f"bench: no peer '{name}'; known: {', '.join(PEERS)}")
        kind = PEERS[name]
        for setting in kind.settings if arguments.all_settings else kind.default:
            try:
                engines.append(Peer(name, setting, kind))
            except Failed as reason:
                missing[f"{name} {setting}"] = str(reason)
                print(f"bench: {name} is left out: {reason}", file=sys.stderr)
    return engines, missing


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="bench/run ann", description="Annex beside its peers, in one run.")
    parser.add_argument("sets", nargs="*", type=pathlib.Path,
                        help="HDF5 files in the ann-benchmarks layout (../shared/data/*.hdf5)")
    parser.add_argument("--peers", help="which, with commas between (see bench/README.md)")
    parser.add_argument("--all-peers", action="store_true", help="the slow ones too")
    parser.add_argument("--all-settings", action="store_true", help="every build setting of each")
    parser.add_argument("--annex", default=ROOT / "build" / "annex", help="the command to measure")
    parser.add_argument("--annex-build", action="append", default=[], metavar="OPTIONS",
                        help="measure Annex built with these options too, such as "
                        "'--build-effort 16 --degree 32'")
    parser.add_argument("--k", default="10,100", help="neighbours, one run for each (10,100)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fresh", nargs="?", const="all",
                        help="build the indexes of these peers again, or all: build times of one "
                        "run, to compare")
    parser.add_argument("--build-limit", type=float, default=900, metavar="SECONDS",
                        help="a peer that builds longer is left out (900)")
    parser.add_argument("--rows", type=int,
                        help="for a trial: the first rows of each set only, and 300 queries")
    parser.add_argument("--build-only", action="store_true", help="fill the cache of indexes")
    parser.add_argument("--huge-pages", action="store_true",
                        help="2 MB pages for the peers' memory too (Annex asks for its own)")
    parser.add_argument("--save", type=pathlib.Path, default=WORK / "results",
                        help="folder for the JSON and the SVGs (build/bench/results)")
    arguments = parser.parse_args()
    arguments.ks = [int(k) for k in arguments.k.split(",")]
    arguments.sets = sets.find(arguments.sets)
    if not arguments.sets:
        print(f"bench: no nearest neighbours measured: {sets.NONE}", file=sys.stderr)
    if not pathlib.Path(arguments.annex).is_file():
        parser.error(f"there is no {arguments.annex}: run make first")
    return arguments


def main():
    arguments = parse_arguments()
    (WORK / "cache").mkdir(parents=True, exist_ok=True)
    if arguments.huge_pages:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    engines, absent = choose_engines(arguments)
    for source in arguments.sets:
        if arguments.rows:
            source = take_sample(source, arguments.rows)
        if arguments.build_only:
            build_all(engines, source, arguments)
            continue
        machine = describe_machine()
        about = read_set(source)
        measured, missing = measure_engines(engines, source, arguments)
        result = {
            "date": datetime.datetime.now().isoformat(timespec="seconds"),
            "set": {"name": source.stem, **about},
            "machine": machine,
            "peers_with_huge_pages": arguments.huge_pages,
            "ks": arguments.ks,
            "rounds": arguments.rounds,
            "engines": measured,
            "missing": {**absent, **missing},
        }
        base = write_result(result, arguments.save)
        print(f"\n{report.table(result)}\nwritten: {base}.json and .svg\n", flush=True)


if __name__ == "__main__":
    main()
