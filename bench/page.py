# SPDX-License-Identifier: BSD-2-Clause
"""page.py: the report of a run as one HTML page that needs nothing else: the table of promises, the charts, every figure.

Charts show what is there: one whose question was not asked in this run is not drawn.
"""

import html
import re

import targets
from plan import SIZES
from plot import Axis, Series, chart, legend
from report import NO_PEERS, natural, number, rate, comparison_rows

MOST = 7  # lines in one chart; who is not drawn is in the tables
SECTIONS = (("T", "Threads"), ("P", "Processes"), ("Q", "Queues and pipes"), ("L", "Locks and values"), ("M", "Single processes, Pool.map"),
            ("Z", "What a task takes from the system"))

STYLE = """
:root { --paper: #fff; --ink: #1a1d21; --soft: #5c6570; --rule: #dfe3e8; --grid: #e9ecf0; --tint: #f5f7f9;
  --yes: #00694c; --no: #b3400a; --blue: #0067ab; --orange: #d98c00; --green: #008a66; --purple: #b85c96; --sky: #2f9bd6; --red: #c94f00;
  --black: #333a42; --grey: #7d8791; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e6e9ed; --soft: #a0a9b4; --rule: #363d45; --grid: #2a3037; --tint: #1d2126;
  --yes: #4fd0a5; --no: #ff9a5c; --blue: #5cb3f2; --orange: #f0b541; --green: #3cc79d; --purple: #e09cc6; --sky: #86cdf5; --red: #ff8f4d;
  --black: #cdd3da; --grey: #8b95a0; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1240px; padding: 28px 28px 60px; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 26px; margin: 0 0 6px } h2 { font-size: 19px; margin: 44px 0 4px } h3 { font-size: 15px; margin: 0 0 2px }
p { margin: 4px 0; max-width: 92ch } .soft, figcaption { color: var(--soft); font-size: 13.5px }
ul.tally { list-style: none; display: flex; gap: 28px; padding: 0; margin: 14px 0 } ul.tally b { font-size: 22px; margin-right: 5px }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--soft); white-space: nowrap }
th, td { padding: 4px 14px 4px 0; vertical-align: top } td { border-bottom: 1px solid var(--rule) }
tr.section th { padding-top: 20px; color: var(--ink); border-bottom-color: var(--rule); font-size: 15px }
td.value { font-weight: 600 } td.value b { white-space: nowrap } td:nth-child(2) { min-width: 190px } td .spread { font-weight: 400; color: var(--soft) } .yes { color: var(--yes) } .no { color: var(--no) }
td.met { white-space: nowrap; font-weight: 600 } td.ratio { white-space: nowrap }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(470px, 1fr)); gap: 30px 34px; margin-top: 16px }
figure { margin: 0; min-width: 0 } figure svg { width: 100%; height: auto; display: block } figcaption { margin-bottom: 6px; min-height: 3em }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 3px 18px; margin: 6px 0 0; padding: 0 0 0 8px; font-size: 13px }
.legend li { display: flex; align-items: center; gap: 6px; white-space: nowrap } .legend svg.key { width: 34px; height: 14px }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft) } svg text.title { fill: var(--ink); font-size: 12.5px }
svg path, svg polyline, svg circle { fill: none; stroke-width: 1.6; stroke-linejoin: round } svg .thick { stroke-width: 2.8 }
svg .grid { stroke: var(--grid); stroke-width: 1 } svg .axis { stroke: var(--soft); stroke-width: 1 }
svg .level { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3 } svg .paper { fill: var(--paper) }
details summary { cursor: pointer; margin-top: 44px; font-size: 19px; font-weight: 600 }
"""
COLOURS = ("blue", "orange", "green", "purple", "sky", "red", "black", "grey")


def style():
    strokes = "".join(f"svg .s-{c} {{ stroke: var(--{c}) }} svg path.f-{c}, svg circle.f-{c} {{ fill: var(--{c}); stroke: none }}\n" for c in COLOURS)
    return STYLE + strokes


# ---- the table ----

def row_class(answer):
    return "yes" if answer.met.startswith("yes") else "no" if answer.met.startswith("no") else ""


def verdict(answer):
    words = {"yes": "✓ met", "no": "✗ missed"}
    return words.get(answer.met.rstrip("*"), "? unknown") + ("*" if answer.met.endswith("*") else "")


def value(figure):
    """412 (403–420, 7) ns: the spread is for the second look."""
    median, opening, rest = figure.partition(" (")
    if not opening:
        return html.escape(figure)
    spread, _, unit = rest.rpartition(") ")
    return f'<b>{html.escape(median)} {html.escape(micro(unit))}</b> <span class="spread">({html.escape(spread)})</span>'


def micro(unit):
    return "µs" if unit == "us" else unit


def promises(answers):
    out = ['<div class="wide"><table><thead><tr><th></th><th>question</th><th>crew: median (quartiles, samples)</th><th>target</th><th>best peer, same run</th>'
           "<th>crew / peer</th><th></th></tr></thead><tbody>"]
    for letter, title in SECTIONS:
        rows = [a for a in answers if a.name.startswith(letter)]
        if rows:
            out.append(f'<tr class="section"><th colspan="7">{title}</th></tr>')
        for a in rows:
            cells = [html.escape(a.name), html.escape(a.what)]
            out.append(f'<tr><td>{cells[0]}</td><td>{cells[1]}</td><td class="value">{value(a.figure)}</td><td>{html.escape(a.target)}</td>'
                       f'<td>{html.escape(a.best)}</td><td class="ratio">{html.escape(a.ratio)}</td><td class="met {row_class(a)}">{verdict(a)}</td></tr>')
    return "\n".join([*out, "</tbody></table></div>"])


def tally(answers):
    met = sum(a.met.startswith("yes") for a in answers)
    missed = sum(a.met.startswith("no") for a in answers)
    disturbed = sum(a.met.endswith("*") for a in answers)
    return (f'<ul class="tally"><li><b class="yes">{met}</b>targets met</li><li><b class="no">{missed}</b>missed</li>'
            f"<li><b>{disturbed}</b>of disturbed samples (*)</li></ul>")


# ---- the charts ----

def figure(title, caption, x_axis, y_axis, series, rank, levels=()):
    """Crew, the limit, and the best of the others by `rank`, as many as there is room for. Nothing without crew."""
    if not any(s.name.startswith("crew") for s in series):
        return ""
    first = sorted((s for s in series if s.name.startswith(("crew", *NO_PEERS))), key=lambda s: not s.name.startswith("crew"))
    others = sorted((s for s in series if s not in first), key=rank)
    room = max(0, MOST - len(first))
    if others[room:]:
        caption += f" Not drawn: {', '.join(s.name for s in others[room:])}."
    drawn = first + others[:room]
    return (f"<figure><h3>{html.escape(title)}</h3><figcaption>{html.escape(caption)}</figcaption>"
            f"{chart(title, x_axis, y_axis, drawn, levels)}{legend(drawn)}</figure>")


def least(series):
    return series.points[-1][1]


def most(series):
    return -series.points[-1][1]


def cdf(run, bench, title, caption):
    """Of those with two workers, and of who has no more than one to ask. Without the slowest of all: it would set the scale."""
    curves = [Series(peer, [(max(latency, 0.001), 100 * share) for latency, share in curve.points if share < 1], marked=False)
              for (b, workers, peer), curve in sorted(run.curves.items())
              if b == bench and (workers == 2 or not peer.startswith("crew"))]
    return figure(title, caption, Axis("latency, µs"), Axis("share of the round trips, %", log=False, low=0, high=100, ticks=[0, 25, 50, 75, 100]),
                  curves, lambda s: s.points[len(s.points) // 2][0])


def by(run, matches, minimum=2):
    """A series for each peer: `matches` gives the x of (bench, workers), or None. Lines need two points."""
    lines = {}
    for (bench, workers, peer), figure_ in run.figures.items():
        x = matches(bench, workers)
        if x is not None and figure_.median > 0:
            lines.setdefault(peer, []).append((x, figure_.median))
    return [Series(peer, sorted(points)) for peer, points in sorted(lines.items()) if len(points) >= minimum]


def by_workers(run, bench):
    return by(run, lambda b, w: w if b == bench else None)


def by_name(run, pattern, scale=float, workers=(1, 2)):
    """By what the name of the question says, as T5/at 0.2 us does."""
    def matches(bench, w):
        found = re.fullmatch(pattern, bench)
        return scale(found.group(1)) if found and w in workers else None
    return by(run, matches)


def growth(run, bench, whole):
    """The question itself is the point of `whole` tasks."""
    def matches(b, w):
        found = re.fullmatch(rf"{bench}/at (\d+) tasks", b)
        return int(found.group(1)) if found and w == 2 else whole if b == bench and w == 2 else None
    return by(run, matches, minimum=3)


def powers(x):
    exponent = {10 ** i: "³⁴⁵⁶⁷"[i - 3] for i in range(3, 8)}.get(round(x), "")
    return "10" + exponent


def size_text(size):
    return next((name for name, n in SIZES.items() if n == size), str(size))


def latency_charts(run):
    hot = "One after the other; everybody is awake. The limit spins briefly, then sleeps in a futex."
    cold = "2 ms between them: the worker sleeps when the ping comes. The limit is a bare futex."
    one = "Caller and worker share one CPU: each has to make way for the other. The limit is a bare futex."
    return [cdf(run, "T2", "T2: to a thread and back, hot", hot + " Left is better."),
            cdf(run, "P2", "P2: to a process and back, hot", hot),
            cdf(run, "T2/cold", "T2: to a thread and back, cold", cold),
            cdf(run, "P2/cold", "P2: to a process and back, cold", cold),
            cdf(run, "T2/one-cpu", "T2: to a thread and back, one CPU", one),
            cdf(run, "P2/one-cpu", "P2: to a process and back, one CPU", one),
            cdf(run, "T10", "T10: from the submit to the start", "After 5 ms of quiet. The limit is a bare futex.")]


def cost_charts(run):
    def workers():
        return Axis("workers", ticks=[1, 2, 4, 8, 16, 32], text=str)

    def tasks():
        return Axis("tasks in one go", ticks=[10 ** i for i in range(3, 8)], text=powers)

    def cost():
        return Axis("ns for each task")

    return [figure("T1: cost by number of threads", "A million tasks from one producer, a future each. Lower is better.", workers(), cost(), by_workers(run, "T1"), least),
            figure("P1: cost by number of processes", "200,000 tasks from one producer, a future each.", workers(), cost(), by_workers(run, "P1"), least),
            figure("T1: cost as work grows", "Two workers.", tasks(), cost(), growth(run, "T1", 10 ** 6), least),
            figure("P1: cost as work grows", "Two workers.", tasks(), cost(), by_name(run, r"P1/at (\d+) tasks", int), least)]


def other_charts(run):
    def sizes():
        return Axis("bytes each way", ticks=list(SIZES.values()), text=size_text)

    grains = Axis("work in each task, µs", ticks=[0.2, 0.5, 1, 2, 5, 10, 20], text=short_number)
    return [figure("T5: efficiency by grain", "Share of two CPUs' time that is work. Higher is better.", grains,
                   Axis("efficiency, %", log=False, low=0, high=100, ticks=[0, 25, 50, 75, 100]), capped(by_name(run, r"T5/at ([\d.]+) us")), most,
                   levels=[(90, "90 %")]),
            figure("P3: throughput by payload", "To a worker and back by copy, both ways counted. Higher is better.", sizes(), Axis("GB/s"),
                   by_name(run, r"P3/(\d+ [KM]iB)", SIZES.get), most),
            figure("P3: a call on shared memory", "No byte moves, so the time should not depend on the size.", sizes(), Axis("µs for a call"),
                   by_name(run, r"P3/shared/(\d+ [KM]iB)", SIZES.get), least)]


def capped(series):
    """Noise can lift an efficiency above all there is."""
    return [Series(s.name, [(x, min(y, 100)) for x, y in s.points]) for s in series]


def short_number(x):
    return f"{x:g}"


def group(title, text, figures):
    figures = [f for f in figures if f]
    return f'<h2>{title}</h2><p class="soft">{text}</p><div class="charts">{"".join(figures)}</div>' if figures else ""


# ---- every figure, what changed ----

def every_figure(run):
    out = ["<details><summary>Every figure</summary>"
           '<div class="wide"><table><thead><tr><th>question</th><th>workers</th><th>peer</th><th>median</th><th>quartiles</th><th>best</th><th>samples</th><th>unit</th></tr>'
           "</thead><tbody>"]
    order = sorted(run.figures.items(), key=lambda item: (natural(item[0]), rate(item[1].unit) * item[1].median))
    for (bench, workers, peer), f in order:
        star = "" if f.all_quiet else "*"
        out.append(f"<tr><td>{html.escape(bench)}</td><td>{workers}</td><td>{html.escape(peer)}</td><td>{number(f.median)}{star}</td>"
                   f"<td>{number(f.low)}–{number(f.high)}</td><td>{number(f.best)}</td><td>{len(f.values)}</td><td>{html.escape(micro(f.unit))}</td></tr>")
    return "\n".join([*out, "</tbody></table></div></details>"])


def changes(old, run):
    """Only what the quartiles tell apart."""
    if not old:
        return ""
    head, *rows = comparison_rows(old, run)
    rows = [row for row in rows if row[-1]]
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    return (f"<h2>What changed</h2><p class=\"soft\">Since {html.escape(old.machine.get('date', '?'))}, commit {html.escape(old.machine.get('commit', '?'))}: "
            f"{len(rows)} figures whose quartiles do not touch.</p><div class=\"wide\"><table><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table></div>")


def render(run, old=None):
    answers = targets.answers(run)
    facts = "".join(f"<p>{html.escape(words)}</p>" for words in run.words())
    failed = "".join(f'<p class="no">Failed: {html.escape(words)}</p>' for words in run.failed())
    return "\n".join([
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>crew: benchmarks</title><style>{style()}</style></head><body>",
        f"<h1>crew: benchmarks</h1>{facts}",
        '<p class="soft">Each figure is the median of its rounds, in which crew and its peers take turns at the same work and every answer is checked; a star '
        "marks one that other programs disturbed. What the questions are: docs/performance.md.</p>",
        tally(answers), failed, promises(answers), changes(old, run),
        group("Latency", "How many of the round trips took no longer than so long, up to 99.9 %. The figures of p99 are in the list at the end.", latency_charts(run)),
        group("Cost of a task", "From the first submit to the last result, for each task.", cost_charts(run)),
        group("Grain and payload", "How small tasks may be, and how fast bytes travel.", other_charts(run)),
        every_figure(run), "</body></html>", ""])
