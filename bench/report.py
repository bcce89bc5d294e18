"""What the measurements say: speed at a recall, ratios, tables.

A result is what bench/ann.py writes for one set. As a program it sums results up:

    report.py RESULT.json... --save docs/bench      tables, drawings and one small JSON
"""

import argparse
import json
import math
import pathlib

import plot
from fronts import RECALLS, pareto_front, qps_at

AT_MANY = 0.95  # the recall that is reported for more than ten neighbours
BUSY = 0.95  # an engine on one thread that had less of a core than this was held up by others


# ---- speeds --------------------------------------------------------------------------------------


def ratio(mine, other):
    return mine / other if mine and other else None


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def recalls_of(k, ks):
    """The recalls reported for k neighbours: all for the first k of a run, one for the others."""
    return RECALLS if k == ks[0] else (AT_MANY,)


def targets(result):
    """The (k, recall) pairs reported for a set."""
    return [(k, recall) for k in result["ks"] for recall in recalls_of(k, result["ks"])]


def speeds(result):
    """Queries per second of each engine at each target."""
    return {name: [qps_at(engine["points"][str(k)], recall) for k, recall in targets(result)]
            for name, engine in result["engines"].items()}


def ratios(result):
    """Annex divided by each peer setting at each target, and how many times faster it builds."""
    found, engines = speeds(result), result["engines"]
    answer = {}
    for name in found:
        if name == "annex":
            continue
        mine, peer = engines["annex"]["build"], engines[name]["build"]
        answer[name] = {
            "qps": [ratio(a, b) for a, b in zip(found["annex"], found[name])],
            "build_cpu": ratio(peer["cpu_seconds"], mine["cpu_seconds"]),
            "build_wall": ratio(peer["wall_seconds"], mine["wall_seconds"])
            if peer["fresh"] and mine["fresh"] else None,
        }
    return answer


def peer_speeds(result):
    """`speeds` of all that is not Annex, however built."""
    return {name: line for name, line in speeds(result).items()
            if result["engines"][name]["peer"] != "annex"}


def best_peers(result):
    """At each target the fastest peer setting and its speed."""
    found = peer_speeds(result)
    best = []
    for i in range(len(targets(result))):
        reached = [(line[i], name) for name, line in found.items() if line[i]]
        best.append(max(reached) if reached else (None, None))
    return best


# ---- one set -------------------------------------------------------------------------------------


def cell(value, form, width):
    return format("-" if value is None else format(value, form), f">{width}")


def times(value):
    """How many times, in at most five characters with the space before them."""
    return cell(value, ".2f" if (value or 0) < 9.995 else ".1f" if value < 99.95 else ".0f", 5)


def header(result):
    data, machine = result["set"], result["machine"]
    wanted = targets(result)
    n = len(wanted)
    return [
        f"{data['name']}: {data['rows']:,} x {data['dimension']}, {data['metric']}, "
        f"{data['queries']:,} queries, one thread, best of {result['rounds']} rounds",
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']:.1f} before, "
        f"peers {'with' if result['peers_with_huge_pages'] else 'without'} 2 MB pages",
        "",
        f"{'':<22}{'queries/s at recall@k':>{7 * n}}{'build':>14}{'peak':>7}{'files':>6}"
        f"{'annex / it':>{5 * n + 2}}",
        f"{'':<22}" + "".join(f"{recall:.2f}@{k}"[1:].rjust(7) for k, recall in wanted)
        + f"{'wall s':>8}{'cpu s':>6}{'MB':>7}{'MB':>6}"
        + "  " + "".join(f"{recall:.2f}"[1:].rjust(5) for _, recall in wanted),
    ]


def engine_line(label, qps, build, divided):
    note = "" if build["fresh"] else "*"
    return (f"{label[:22]:<22}"
            + "".join(cell(value, ",.0f", 7) for value in qps)
            + cell(build["wall_seconds"], ".0f", 8 - len(note)) + note
            + cell(build["cpu_seconds"], ".0f", 6)
            + cell(build["peak_bytes"] / 1e6, ",.0f", 7)
            + cell(build["index_bytes"] / 1e6, ",.0f", 6)
            + "  " + "".join(map(times, divided)))


def table(result):
    """The result of one set as text, 100 columns for k = 10 and 100."""
    found, divided = speeds(result), ratios(result)
    lines = header(result)
    for name, engine in result["engines"].items():
        mine = name == "annex"
        lines.append(engine_line(engine["label"] if mine else name, found[name], engine["build"],
                                 [] if mine else divided[name]["qps"]))
    best = best_peers(result)
    names = ", ".join(dict.fromkeys(name for _, name in best if name))
    width = 22 + 7 * len(best) + 27
    lines.append(f"best peers: {names}"[: width - 1].ljust(width)
                 + "  " + "".join(times(ratio(a, b)) for a, (b, _) in zip(found["annex"], best)))
    lines += remarks(result)
    return "\n".join(line.rstrip() for line in lines)


def annex_remarks(result):
    """What else is promised of Annex: even latencies, and opening at once."""
    annex, k = result["engines"]["annex"], str(result["ks"][0])
    good = [point for point in pareto_front(annex["points"][k]) if point["recall"] >= AT_MANY]
    lines = []
    if good:
        point = good[0]
        lines.append(f"annex: single calls at recall {point['recall']:.3f}: "
                     f"p50 {point['p50_us']:.0f} us, p99 {point['p99_us']:.0f} us, "
                     f"ratio {point['p99_us'] / point['p50_us']:.1f}")
    opens = annex.get("opens_ms") or {}
    if opens.get("cold") is not None:
        lines.append(f"annex: opens in {opens['cold']:.2f} ms cold, {opens['warm']:.2f} ms warm")
    return lines


def remarks(result):
    engines = result["engines"]
    lines = annex_remarks(result)
    for name, engine in engines.items():
        if engine.get("exact_qps"):
            lines.append(f"{name}: exact search, one query per call: {engine['exact_qps']:,.0f}/s")
    if not all(engine["build"]["fresh"] for engine in engines.values()):
        lines.append("* built in an earlier run: no ratio of times; --fresh builds again")
    for name, reason in result["missing"].items():
        lines.append(f"left out: {name}: {reason}"[:100])
    starved = [name for name, engine in engines.items() if engine["core_share"] < BUSY]
    if starved:
        who = "every engine" if len(starved) == len(engines) else ", ".join(starved)
        lines.append(f"NOT COMPARABLE: other programs took the processor from {who}"[:100])
    return lines


# ---- all sets ------------------------------------------------------------------------------------


def summary(results):
    """Annex divided by each peer over all sets: worst and geometric mean, as Markdown."""
    wanted = targets(results[0])
    by_peer, won = {}, {}
    for result in results:
        for name, line in ratios(result).items():
            for i, value in enumerate(line["qps"]):
                by_peer.setdefault(name, [[] for _ in wanted])[i] += [value] if value else []
        found = speeds(result)
        for i, (qps, _) in enumerate(best_peers(result)):
            value = ratio(found["annex"][i], qps)
            won.setdefault("**best peer**", [[] for _ in wanted])[i] += [value] if value else []
    titles = [f"{recall:.2f}, k {k}" for k, recall in wanted]
    lines = ["| annex / peer | " + " | ".join(titles) + " |", "| --- |" + " --- |" * len(wanted)]
    for name, columns in {**won, **by_peer}.items():
        cells = [f"{min(c):.2f} / {geometric_mean(c):.2f} ({len(c)})" if c else "–"
                 for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def losses(results):
    """Every place where a peer is faster than Annex, or reaches a recall that Annex does not."""
    lines = []
    for result in results:
        annex = speeds(result)["annex"]
        for i, (k, recall) in enumerate(targets(result)):
            mine = annex[i]
            for name, line in peer_speeds(result).items():
                if line[i] and line[i] > (mine or 0):
                    lines.append(f"- {result['set']['name']}, recall {recall:.2f}, k {k}: {name} "
                                 f"{line[i]:,.0f}/s, annex {f'{mine:,.0f}/s' if mine else 'never'}")
    return "\n".join(lines) or "Nowhere in this run."


def shortened(result):
    """A result without what a reader of the repository does not need: the fronts stay."""
    engines = {}
    for name, engine in result["engines"].items():
        fronts = {}
        for k, points in engine["points"].items():
            fronts[k] = [{key: round(value, 4) if isinstance(value, float) else value
                          for key, value in point.items()
                          if key in ("effort", "recall", "qps", "p50_us", "p99_us")}
                         for point in pareto_front(points)]
        engines[name] = {**engine, "points": fronts}
    return {**result, "engines": engines}


def write_report(results, folder):
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["# Results", "", f"Measured {results[0]['date'][:10]}; `README.md` tells how.", "",
             "## All sets", "",
             "How many times as many queries per second as a peer Annex answers, at a recall: "
             "worst set / geometric mean (sets where both reach it).", "", summary(results), "",
             "## Where a peer is ahead", "", losses(results), ""]
    for result in results:
        name = result["set"]["name"]
        parts += [f"## {name}", "", "```text", table(result), "```", ""]
        for k in result["ks"]:
            (folder / f"{name}-k{k}.svg").write_text(plot.draw(result, k))
            parts += [f"![{name}, k = {k}]({name}-k{k}.svg)", ""]
    (folder / "RESULTS.md").write_text("\n".join(parts))
    packed = json.dumps([shortened(result) for result in results], separators=(",", ":"))
    (folder / "results.json").write_text(packed.replace('{"label"', '\n{"label"') + "\n")


def main():
    parser = argparse.ArgumentParser(prog="bench/run report", description="Sum up results.")
    parser.add_argument("results", nargs="+", type=pathlib.Path)
    parser.add_argument("--save", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    results = [json.loads(path.read_text()) for path in arguments.results]
    write_report(results, arguments.save)
    print(summary(results))


if __name__ == "__main__":
    main()
