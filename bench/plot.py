"""Recall against queries per second as an SVG, one line for each engine's Pareto front.

Recall runs on a logarithmic scale of what is missed (0.9, 0.99 and 0.999 lie equally far apart),
speed on a logarithmic one too: up and to the right is better.
"""

import math

from report import pareto_front

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 44, 50
RECALL_TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
COLOURS = {"annex": "#c0392b", "hnswlib": "#2471a3", "faiss": "#1e8449"}
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.title{font-size:15px;font-weight:600}"
    ".grid{stroke:#ddd}.line{fill:none;stroke-width:2}"
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
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{words}</text>'


def grid(x_scale, y_scale):
    bottom = HEIGHT - BOTTOM
    for recall in RECALL_TICKS:
        if x_scale.low <= missed(recall) <= x_scale.high:
            x = x_scale(missed(recall))
            yield f'<path d="M{x} {TOP}V{bottom}" class="grid"/>'
            yield text(x, bottom + 20, f"{recall:g}")
    for power in range(1, 7):
        for digit in (1, 2, 5):
            qps = digit * 10**power
            if y_scale.low <= math.log10(qps) <= y_scale.high:
                y = y_scale(math.log10(qps))
                yield f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" class="grid"/>'
                yield text(LEFT - 8, y + 4, f"{qps:,}", "end")


def draw(result):
    """The SVG of one set's result as a string."""
    engines = result["engines"]
    fronts = {name: pareto_front(engine["points"]) for name, engine in engines.items()}
    every = [point for front in fronts.values() for point in front]
    x_scale = Scale(min(missed(p["recall"]) for p in every) - 0.03,
                    max(missed(p["recall"]) for p in every) + 0.03, LEFT, WIDTH - RIGHT)
    y_scale = Scale(min(math.log10(p["qps"]) for p in every) - 0.05,
                    max(math.log10(p["qps"]) for p in every) + 0.05, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(LEFT, 24, f"{result['set']['name']}: queries per second on one thread "
             f"against recall at {result['k']}", "start", "title"),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "recall"),
        *grid(x_scale, y_scale),
    ]
    for line, (name, front) in enumerate(fronts.items()):
        colour = COLOURS.get(name, "#666")
        spots = [(x_scale(missed(p["recall"])), y_scale(math.log10(p["qps"]))) for p in front]
        path = "L".join(f"{x} {y}" for x, y in spots)
        parts.append(f'<path d="M{path}" class="line" stroke="{colour}"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in spots]
        y = HEIGHT - BOTTOM - 14 - 20 * line
        parts.append(f'<rect x="{LEFT + 12}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(text(LEFT + 32, y, engines[name]["label"], "start"))
    return "\n".join(parts) + "\n</svg>\n"
