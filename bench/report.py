# SPDX-License-Identifier: BSD-2-Clause
"""report.py: from samples to figures, and the tables of figures in Markdown. What was promised is targets.py, the page is page.py.

A figure is the median of its quiet samples if there are at least ENOUGH of them, else of all, marked with a star. Spread
is the quartiles; the best sample stands beside a starred median, since it tells most about what was disturbed.
"""

import json
import re
import statistics

ENOUGH = 3
ENOUGH_WORK = 90
MARKS = ("<!-- figures: bench/run --write -->", "<!-- end of figures -->")
NO_PEERS = ("limit", "serial loop")  # and what begins like them


class Figure:
    """Median, quartiles and count of one peer's samples of one question."""

    def __init__(self, records):
        quiet = [r["value"] for r in records if r["quiet"]]
        self.all_quiet = len(quiet) >= ENOUGH
        self.values = sorted(quiet if self.all_quiet else [r["value"] for r in records])
        self.unit = records[0]["unit"]
        self.median = statistics.median(self.values)
        self.best = (min if rate(self.unit) > 0 else max)(self.values)
        quartiles = statistics.quantiles(self.values, n=4, method="inclusive") if len(self.values) > 1 else [self.median] * 3
        self.low, self.high = quartiles[0], quartiles[2]
        self.foreign = statistics.median(r["foreign"] for r in records)

    def __str__(self):
        spread = f"{number(self.low)}–{number(self.high)}, {len(self.values)}"
        return f"{number(self.median)} ({spread})" if self.all_quiet else \
            f"{number(self.median)}* ({spread}, best {number(self.best)})"


class Grain(Figure):
    """T5: the smallest grain from which on ENOUGH_WORK % of the CPUs' time is work. Found in the medians of the rounds: in a single one, the one grain of twelve that
    somebody disturbed would decide."""

    def __init__(self, ladder):  # {grain in us: figure of its efficiency}
        def from_on(quantity):
            return crossing(sorted((grain, quantity(figure)) for grain, figure in ladder.items()))
        figures = ladder.values()
        self.unit, self.all_quiet = "us", all(f.all_quiet for f in figures)
        self.median, self.best = from_on(lambda f: f.median), from_on(lambda f: f.best)
        self.low, self.high = from_on(lambda f: f.high), from_on(lambda f: f.low)
        self.values = [self.median] * min(len(f.values) for f in figures)
        self.foreign = statistics.median(f.foreign for f in figures)


def crossing(steps):
    """Of (grain, share), smallest first: where the last step up to ENOUGH_WORK is crossed, on a straight line over the logarithm of the grain. The smallest grain if
    all have as much, twice the largest if it has not."""
    if steps[-1][1] < ENOUGH_WORK:
        return 2 * steps[-1][0]
    for (below, less), (above, more) in zip(reversed(steps[:-1]), reversed(steps)):
        if less < ENOUGH_WORK:
            return below * (above / below) ** ((ENOUGH_WORK - less) / (more - less))
    return steps[0][0]


class Curve:
    """A distribution of latencies: (latency, share of the pings that took no longer), in each point the median of the rounds."""

    SHARES = [i / 100 for i in range(101)] + [0.995, 0.999]  # as measure_latencies() prints them

    def __init__(self, records):
        quiet = [r for r in records if r["quiet"]]
        chosen = quiet if len(quiet) >= ENOUGH else records
        medians = [statistics.median(column) for column in zip(*(r["quantiles"] for r in chosen))]
        self.unit = records[0]["unit"]
        self.points = sorted(zip(medians, self.SHARES), key=lambda point: point[1])


def number(x):
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.3g}" if x >= 0.001 or x == 0 else f"{x:.2g}"


class Run:
    """All samples of one file."""

    def __init__(self, path):
        self.machine, self.failures, self.ended, samples, curves = {}, [], {}, {}, {}
        with open(path, encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                if "machine" in record:
                    self.machine = record
                elif "failed" in record:
                    self.failures.append(record)
                elif "ended" in record:
                    self.ended = record
                else:
                    kind = curves if "quantiles" in record else samples
                    kind.setdefault((record["bench"], record["workers"], record["peer"]), []).append(record)
        self.figures = {key: Figure(records) for key, records in samples.items()}
        self.figures.update(self.grains())
        self.curves = {key: Curve(records) for key, records in curves.items()}

    def grains(self):
        """{("T5", workers, peer): figure}, of T5/at 0.2 us and so on."""
        ladders = {}
        for (bench, workers, peer), figure in self.figures.items():
            found = re.fullmatch(r"(T5.*)/at ([\d.]+) us", bench)
            if found:
                ladders.setdefault((found[1], workers, peer), {})[float(found[2])] = figure
        return {key: Grain(ladder) for key, ladder in ladders.items()}

    def get(self, bench, workers, peer):
        return self.figures.get((bench, workers, peer))

    def peers(self, bench, *workers):
        """Other people's pools with as many workers, the best first."""
        found = [(p, figure) for (b, w, p), figure in self.figures.items()
                 if b == bench and w in workers and not p.startswith((*NO_PEERS, "crew"))]
        return sorted(found, key=lambda pair: (rate(pair[1].unit) * pair[1].median, pair[0]))

    def words(self):
        """When, where, by what, how quietly: sentences for the head of a page."""
        m = self.machine
        foreign = statistics.median(f.foreign for f in self.figures.values())
        quiet = sum(f.all_quiet for f in self.figures.values())
        virtual = f", {m['virtual']}" if m["virtual"] not in ("?", "none") else ""
        rounds = f" {self.ended['rounds']} round{'s' * (self.ended['rounds'] != 1)} in {self.ended['seconds'] / 60:.0f} minutes." if self.ended else ""
        return [f"{m['date']}, commit {m['commit']}. {m['machine']}{virtual}.{rounds}",
                "; ".join(m[key] for key in ("compiler", "clang", "java", "mpi") if m.get(key, "?") != "?") + f"; CPython {m['python']}.",
                f"{quiet} of {len(self.figures)} figures are of quiet samples; others took {100 * foreign:.0f} % of the CPUs in the median sample."]

    def failed(self):
        return [f"{f['failed']}, {' '.join(f['argv']).split('/')[-1]}: {f['reason']}. {f['text']}" for f in self.failures]


def rate(unit):
    """-1 for units of which more is better."""
    return -1 if unit in ("GB/s", "%") else 1


# ---- tables ----

def aligned(rows):
    """Markdown that is also readable as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|"] + lines[1:])


def everything(run):
    """A line for each question and number of workers: every peer's median, best first."""
    lines = [["question", "workers", "unit", "medians, best first"]]
    groups = {}
    for (bench, workers, peer), figure in run.figures.items():
        groups.setdefault((bench, workers, figure.unit), []).append((peer, figure))
    for (bench, workers, unit), found in sorted(groups.items(), key=lambda group: natural(group[0])):
        found.sort(key=lambda pair: rate(unit) * pair[1].median)
        lines.append([bench, str(workers), unit, " · ".join(
            f"{peer} {number(f.median)}{'' if f.all_quiet else '*'}" for peer, f in found)])
    return aligned(lines)


def natural(key):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", f"{key[0]} {key[1]}")]


def comparison_rows(old, new):
    """What changed; a difference counts when the quartiles do not touch."""
    rows = [["question", "workers", "peer", "unit", "old", "new", "new / old", ""]]
    for key in sorted(set(old.figures) & set(new.figures), key=natural):
        a, b = old.figures[key], new.figures[key]
        apart = a.high < b.low or b.high < a.low
        better = rate(a.unit) * b.median < rate(a.unit) * a.median
        rows.append([key[0], str(key[1]), key[2], a.unit, number(a.median), number(b.median),
                     f"{b.median / a.median:.2f}" if a.median else "–", ("better" if better else "worse") if apart else ""])
    return rows


def comparison(old, new):
    return aligned(comparison_rows(old, new))


def write_tables(path, run, table):
    """Put this run's tables between the marks of a Markdown page."""
    with open(path, encoding="utf-8") as page:
        text = page.read()
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    lines = [MARKS[0], "", *run.words(), "", table, ""]
    lines += [f"Failed: {text}" for text in run.failed()]
    lines += ["", "### Every figure", "", everything(run), "", MARKS[1]]
    with open(path, "w", encoding="utf-8") as page:
        page.write(before + "\n".join(lines) + after)
