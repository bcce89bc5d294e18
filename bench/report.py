"""What the measurements say: Pareto fronts, speed at a recall, ratios, the table.

Knows nothing of how points were measured; a point is a dict with at least `recall` and `qps`.
"""

import math

RECALLS = (0.90, 0.95, 0.99)
BUSY = 0.95  # an engine on one thread that had less of a core than this was held up by others


def merge_points(rounds):
    """One list of points from several rounds: for each effort the best speed, the worst recall."""
    merged = {}
    for points in rounds:
        for point in points:
            known = merged.setdefault(point["effort"], dict(point))
            known["recall"] = min(known["recall"], point["recall"])
            for key in ("qps", "qps_batch", "qps_single"):
                if key in point:
                    known[key] = max(known[key], point[key])
            for key in ("p50_us", "p99_us"):
                known[key] = min(known[key], point[key])
    return [merged[effort] for effort in sorted(merged)]


def pareto_front(points):
    """The points that no other beats in recall and speed at once, by rising recall."""
    front = []
    for point in sorted(points, key=lambda p: (-p["recall"], -p["qps"])):
        if not front or point["qps"] > front[-1]["qps"]:
            front.append(point)
    return front[::-1]


def qps_at(points, recall):
    """Speed at a recall: between neighbours on the front log(qps) is taken as linear in recall.

    Below the front its first point counts, which is better than asked; above it there is None.
    """
    front = pareto_front(points)
    if not front or front[-1]["recall"] < recall:
        return None
    if front[0]["recall"] >= recall:
        return front[0]["qps"]
    for low, high in zip(front, front[1:]):
        if high["recall"] >= recall:
            share = (recall - low["recall"]) / (high["recall"] - low["recall"])
            return math.exp((1 - share) * math.log(low["qps"]) + share * math.log(high["qps"]))
    raise AssertionError("a front that reaches the recall has a point beyond it")


def ratio(mine, other):
    return mine / other if mine and other else None


def ratios(engines, recalls=RECALLS):
    """Annex divided by each peer: speed at the recalls, and how many times faster it builds."""
    mine = engines.get("annex")
    if not mine:
        return {}
    answer = {}
    for name, peer in engines.items():
        if name == "annex":
            continue
        answer[name] = {str(r): ratio(qps_at(mine["points"], r), qps_at(peer["points"], r))
                        for r in recalls}
        if mine["build"]["fresh"] and peer["build"]["fresh"]:
            for key in ("wall_seconds", "cpu_seconds"):
                answer[name][f"build_{key}"] = ratio(peer["build"][key], mine["build"][key])
    return answer


def cell(value, form, width):
    return format("-" if value is None else format(value, form), f">{width}")


def table(result):
    """The result of one set as text that fits 100 columns."""
    data = result["set"]
    engines = result["engines"]
    lines = [
        f"{data['name']}: {data['rows']:,} x {data['dimension']}, {data['metric']}, "
        f"{data['queries']:,} queries, k {result['k']}, one thread, "
        f"best of {result['rounds']} rounds",
        f"{result['machine']['cpu']}, {result['machine']['cores']} cores, "
        f"load {result['machine']['load_before']:.1f} before, peers "
        f"{'with' if result['peers_with_huge_pages'] else 'without'} 2 MB pages",
        "",
        f"{'':<20}{'queries per second at recall':>30}{'build':>9}{'':>9}"
        f"{'peak memory':>14}{'index':>8}{'exact':>9}",
        f"{'':<20}" + "".join(f"{r:>10.2f}" for r in RECALLS)
        + f"{'wall s':>9}{'cpu s':>9}{'MB':>8}{'/raw':>6}{'MB':>8}{'q/s':>9}",
    ]
    for engine in engines.values():
        build = engine["build"]
        lines.append(
            f"{engine['label'][:20]:<20}"
            + "".join(cell(qps_at(engine["points"], r), ",.0f", 10) for r in RECALLS)
            + cell(build["wall_seconds"], ".1f", 9)
            + cell(build["cpu_seconds"], ".1f", 9)
            + cell(build["peak_bytes"] / 1e6, ",.0f", 8)
            + cell(build["peak_bytes"] / data["raw_bytes"], ".1f", 6)
            + cell(build["index_bytes"] / 1e6, ",.0f", 8)
            + cell(engine["exact_qps"], ",.0f", 9)
        )
    for name, ratio_of in ratios(engines).items():
        lines.append(
            f"{'annex / ' + name:<20}"
            + "".join(cell(ratio_of[str(r)], ".2f", 10) for r in RECALLS)
            + cell(ratio_of.get("build_wall_seconds"), ".2f", 9)
            + cell(ratio_of.get("build_cpu_seconds"), ".2f", 9)
        )
    if not all(engine["build"]["fresh"] for engine in engines.values()):
        lines.append("Some builds were measured in an earlier run; their ratio needs --fresh.")
    starved = [name for name, engine in engines.items() if engine["core_share"] < BUSY]
    if starved:
        lines.append(f"NOT COMPARABLE: the machine was busy; {', '.join(starved)} had a core for "
                     f"less than {BUSY:.0%} of the time in every round.")
    return "\n".join(lines)
