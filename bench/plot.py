"""Recall against queries per second as an SVG, one line for each engine's Pareto front.

Recall runs on a logarithmic scale of what is missed (0.9, 0.99 and 0.999 lie equally far apart),
speed on a logarithmic one too: up and to the right is better. A peer's settings share a colour and
differ in dashes; the legend lists engines from the fastest at recall 0.95 down.
"""

import math
from xml.sax.saxutils import escape

from fronts import pareto_front, qps_at

WIDTH, HEIGHT = 960, 520
LEFT, RIGHT, TOP, BOTTOM = 70, 250, 44, 50
LEGEND_ROW = 19
RECALL_TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
LEAST_RECALL, MOST_RECALL = 0.7, 0.9995  # what lies outside is not drawn
COLOURS = {
    "annex": "#d62728", "hnswlib": "#1f77b4", "faiss": "#2ca02c", "usearch": "#ff7f0e",
    "scann": "#9467bd", "svs": "#17becf", "glass": "#8c564b", "diskann": "#e377c2",
    "voyager": "#7f7f7f", "nmslib": "#bcbd22", "pynndescent": "#393b79", "vsag": "#637939",
    "ngt": "#843c39", "annoy": "#7b4173",
}
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.title{font-size:15px;font-weight:600}"
    ".grid{stroke:#ddd}.line{fill:none;stroke-width:1.6}.annex{stroke-width:3.2}"
)


def missed(recall):
    return -math.log10(max(1 - recall, 1e-4))


class Scale:
    def __init__(self, low, high, start, end):
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value):
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def text(x, y, words, anchor="middle", kind=""):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def grid(x_scale, y_scale):
    bottom = HEIGHT - BOTTOM
    for recall in RECALL_TICKS:
        if x_scale.low <= missed(recall) <= x_scale.high:
            x = x_scale(missed(recall))
            yield f'<path d="M{x} {TOP}V{bottom}" class="grid"/>'
            yield text(x, bottom + 20, f"{recall:g}")
    for power in range(0, 7):
        for digit in (1, 2, 5):
            qps = digit * 10**power
            if y_scale.low <= math.log10(qps) <= y_scale.high:
                y = y_scale(math.log10(qps))
                yield f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" class="grid"/>'
                yield text(LEFT - 8, y + 4, f"{qps:,}", "end")


def visible_fronts(result, k):
    """What is drawn of each engine, those that are fastest at recall 0.95 first."""
    fronts = {}
    for name, engine in result["engines"].items():
        points = engine["points"][str(k)]
        front = [p for p in pareto_front(points) if LEAST_RECALL <= p["recall"] <= MOST_RECALL]
        if front:
            fronts[name] = (qps_at(points, 0.95) or 0, front)
    return {name: front for name, (_, front) in
            sorted(fronts.items(), key=lambda item: -item[1][0])}


def style_of(result):
    """Colour and dashes of each engine: they stay the same from drawing to drawing."""
    seen, styles = {}, {}
    for name, engine in result["engines"].items():
        order = seen[engine["peer"]] = seen.get(engine["peer"], -1) + 1
        styles[name] = (COLOURS.get(engine["peer"], "#666"), DASHES[order % len(DASHES)])
    return styles


def draw(result, k):
    """The SVG of one set's result for k neighbours as a string."""
    fronts, styles = visible_fronts(result, k), style_of(result)
    every = [point for front in fronts.values() for point in front]
    title = f"{result['set']['name']}: queries per second on one thread against recall at {k}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(LEFT, 24, title, "start", "title"),
    ]
    if not every:
        return "\n".join(parts) + "\n</svg>\n"
    x_scale = Scale(min(missed(p["recall"]) for p in every) - 0.03,
                    max(missed(p["recall"]) for p in every) + 0.03, LEFT, WIDTH - RIGHT)
    y_scale = Scale(min(math.log10(p["qps"]) for p in every) - 0.05,
                    max(math.log10(p["qps"]) for p in every) + 0.05, HEIGHT - BOTTOM, TOP)
    parts += [text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "recall"), *grid(x_scale, y_scale)]
    for row, (name, front) in enumerate(fronts.items()):
        (colour, dash), kind = styles[name], "line annex" if name == "annex" else "line"
        stroke = f'class="{kind}" stroke="{colour}" stroke-dasharray="{dash}"'
        spots = [(x_scale(missed(p["recall"])), y_scale(math.log10(p["qps"]))) for p in front]
        path = "L".join(f"{x} {y}" for x, y in spots)
        parts.append(f'<path d="M{path}" {stroke}/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="2.2" fill="{colour}"/>' for x, y in spots]
        y = TOP + 12 + LEGEND_ROW * row
        x = WIDTH - RIGHT + 14
        parts.append(f'<path d="M{x} {y - 4}h30" {stroke}/>')
        parts.append(text(x + 38, y, name, "start"))
    return "\n".join(parts) + "\n</svg>\n"
