# SPDX-License-Identifier: BSD-2-Clause
"""plot.py: line charts as inline SVG, for page.py. No libraries.

A chart is axes and series. Colours are named, not given: the page's style sheet says what they are by day and by night.
A peer looks the same in every chart, and no two differ by colour alone: each has a dash and a marker as well.
"""

import html
import math
import re
from typing import NamedTuple

WIDTH, HEIGHT = 560, 330
LEFT, RIGHT, TOP, BOTTOM = 64, 26, 14, 48
STEPS = (1, 2, 5)

# Who, colour (Okabe and Ito's, which the colour-blind can tell apart), dash, marker. The first that matches.
LOOKS = [(re.compile(pattern), colour, dash, marker) for pattern, colour, dash, marker in (
    ("^crew .*helping", "blue", "7 3", "disc"), ("^crew", "blue", "", "disc"),
    ("^limit: pipe", "grey", "5 3", "none"), ("^limit: eventfd", "grey", "1 5", "none"), ("^limit|^serial", "grey", "2 3", "none"),
    ("ForkJoin", "orange", "", "square"), ("^Java", "orange", "7 3", "square"),
    ("^mutex pool|^socketpair pool$|^socketpair$", "green", "", "triangle"), ("^socketpair pool, batched|^pipe", "green", "7 3", "triangle"),
    ("TBB|^Open MPI", "purple", "", "diamond"), ("^OpenMP .gcc", "purple", "7 3", "diamond"), ("^OpenMP", "purple", "2 3", "diamond"),
    ("Asio", "sky", "", "cross"),
    ("^ProcessPool|^libuv", "red", "7 3", "ring"), ("^multiprocessing|Executor", "red", "", "ring"), ("GLib", "black", "", "plus"))]
ANYBODY = ("black", "1 3", "plus")


class Series(NamedTuple):
    name: str
    points: list  # of (x, y), in the order of x
    marked: bool = True


class Axis:
    """One direction: its title, its range (from the points, if not given), its ticks, and where on it a value lies."""

    def __init__(self, title, log=True, low=None, high=None, ticks=None, text=None):
        self.title, self.log, self.low, self.high, self.ticks, self.text = title, log, low, high, ticks, text or short

    def fit(self, values):
        """Take in all values, and end at a tick."""
        low = min(values) if self.low is None else self.low
        high = max(values) if self.high is None else self.high
        if self.ticks is None:
            self.ticks = log_ticks(low, high) if self.log else linear_ticks(low, high)
            low, high = self.ticks[0], self.ticks[-1]
        else:
            self.ticks = [tick for tick in self.ticks if low <= tick <= high]
        self.low, self.high = low, high
        return self

    def share(self, value):
        """0 at the low end, 1 at the high one."""
        if self.high == self.low:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def log_ticks(low, high):
    """1, 2, 5, 10 … around the values, of many decades only the powers of ten."""
    decades = range(math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9) + 1)
    if len(decades) > 4:
        return [10.0 ** d for d in decades]
    ticks = [step * 10.0 ** d for d in decades for step in STEPS]
    first = max((i for i, tick in enumerate(ticks) if tick <= low * 1.000001), default=0)
    last = min((i for i, tick in enumerate(ticks) if tick >= high * 0.999999), default=len(ticks) - 1)
    return ticks[first:max(last, first + 1) + 1]


def linear_ticks(low, high):
    span = (high - low) or 1
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(unit * s for s in (0.2, 0.5, 1, 2) if span / (unit * s) <= 6)
    return [step * i for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def short(x):
    """1200000 as 1.2 M: a label has little room."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(x) >= size:
            return f"{x / size:.3g}{letter}"
    return f"{x:.3g}"


def look(name):
    return next(((colour, dash, marker) for pattern, colour, dash, marker in LOOKS if pattern.search(name)), ANYBODY)


def marker(kind, x, y, colour):
    def path(d, fill):
        return f'<path class="{"f" if fill else "s"}-{colour}" d="{d}"/>'

    shapes = {"disc": f'<circle class="f-{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>',
              "ring": f'<circle class="s-{colour} paper" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>',
              "square": path(f"M{x - 3.2:.1f} {y - 3.2:.1f}h6.4v6.4h-6.4z", True),
              "triangle": path(f"M{x:.1f} {y - 4:.1f}l4 7h-8z", True),
              "diamond": path(f"M{x:.1f} {y - 4.4:.1f}l4.4 4.4l-4.4 4.4l-4.4 -4.4z", True),
              "cross": path(f"M{x - 3.3:.1f} {y - 3.3:.1f}l6.6 6.6m0 -6.6l-6.6 6.6", False),
              "plus": path(f"M{x - 4:.1f} {y:.1f}h8m-4 -4v8", False), "none": ""}
    return shapes[kind]


def line(points, name):
    colour, dash, _ = look(name)
    thick = " thick" if name.startswith("crew") else ""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline class="s-{colour}{thick}"{dashes} points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def draw(series, place):
    """The peers first, so that crew lies on top."""
    out = []
    for one in sorted(series, key=lambda s: s.name.startswith("crew")):
        points = [place(x, y) for x, y in one.points]
        colour, _, kind = look(one.name)
        out.append(f"<g><title>{html.escape(one.name)}</title>{line(points, one.name)}")
        out += [marker(kind, x, y, colour) for x, y in points] if one.marked else [marker(kind, *points[len(points) // 2], colour)]
        out.append("</g>")
    return out


def frame(x_axis, y_axis, place):
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    out = []
    for tick in y_axis.ticks:
        y = place(x_axis.low, tick)[1]
        out.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/><text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{y_axis.text(tick)}</text>')
    for tick in x_axis.ticks:
        x = place(tick, y_axis.low)[0]
        out.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/><text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{x_axis.text(tick)}</text>')
    middle = (TOP + bottom) / 2
    out.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    out.append(f'<text class="title" x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x_axis.title)}</text>')
    out.append(f'<text class="title" x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{html.escape(y_axis.title)}</text>')
    return out


def chart(label, x_axis, y_axis, series, levels=()):
    """The SVG. `levels`: (y, words) of horizontal lines, such as a target."""
    x_axis.fit([x for s in series for x, _ in s.points])
    y_axis.fit([y for s in series for _, y in s.points] + [y for y, _ in levels])

    def place(x, y):
        return LEFT + x_axis.share(x) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y_axis.share(y) * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label, quote=True)}">', *frame(x_axis, y_axis, place)]
    for value, words in levels:
        y = place(x_axis.low, value)[1]
        out.append(f'<path class="level" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                   f'<text class="tick" x="{WIDTH - RIGHT - 4}" y="{y - 5:.1f}" text-anchor="end">{html.escape(words)}</text>')
    return "\n".join([*out, *draw(series, place), "</svg>"])


def legend(series):
    entries = []
    for one in series:
        colour, _, kind = look(one.name)
        sample = line([(1, 7), (33, 7)], one.name) + marker(kind, 17, 7, colour)
        entries.append(f'<li><svg class="key" viewBox="0 0 34 14" aria-hidden="true">{sample}</svg>{html.escape(one.name)}</li>')
    return f'<ul class="legend">{"".join(entries)}</ul>'
