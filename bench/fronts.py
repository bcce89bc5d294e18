"""Pareto fronts: the settings of an engine that no other beats in recall and speed at once.

A point is a dict with at least `effort`, `recall` and `qps`; how it was measured does not matter.
"""

import json
import math

RECALLS = (0.90, 0.95, 0.99)
BESIDE = 2  # points of the front on each side of a recall that are measured again


def merge_points(rounds):
    """One list of points from several rounds: for each effort the best speed, the worst recall."""
    merged = {}
    for points in rounds:
        for point in points:
            known = merged.setdefault(json.dumps(point["effort"]), dict(point))
            known["recall"] = min(known["recall"], point["recall"])
            for key in ("qps", "qps_batch", "qps_single"):
                if key in point:
                    known[key] = max(known.get(key, 0), point[key])
            for key in ("p50_us", "p99_us"):
                if key in point:
                    known[key] = min(known.get(key, point[key]), point[key])
    return list(merged.values())


def pareto_front(points):
    """The points that no other beats in recall and speed at once, by rising recall."""
    front = []
    for point in sorted(points, key=lambda p: (-p["recall"], -p["qps"])):
        if not front or point["qps"] > front[-1]["qps"]:
            front.append(point)
    return front[::-1]


def deciding_efforts(points, recalls=RECALLS):
    """The efforts of the front near the recalls reported: what further rounds need to repeat."""
    front = pareto_front(points)
    chosen = []
    for recall in recalls:
        above = next((i for i, point in enumerate(front) if point["recall"] >= recall), len(front))
        near = front[max(0, above - BESIDE) : above + BESIDE]
        chosen += [point["effort"] for point in near if point["effort"] not in chosen]
    return chosen


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
