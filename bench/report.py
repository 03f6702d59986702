# SPDX-License-Identifier: BSD-2-Clause
"""report.py: from samples to the table: crew's figure, the target, the best peer of the same run.

A figure is the median of its quiet samples if there are at least ENOUGH of them, else of all, marked with a star. Spread
is the quartiles; the best sample stands beside a starred median, since it tells most about what was disturbed. Targets that are ratios are ratios to the peer's median in the same run; none is a figure of another
machine, but where the peer is not in Debian (Lace, libfork): there the ratio to plain calls, measured once elsewhere,
stands for it.
"""

import json
import re
import statistics

ENOUGH = 3
MARKS = ("<!-- figures: bench/run --write -->", "<!-- end of figures -->")
JAVA, PLAIN = "Java ForkJoinPool", "limit"
NO_PEERS = ("limit", "serial loop")


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


def number(x):
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.3g}" if x >= 0.001 or x == 0 else f"{x:.2g}"


class Run:
    """All samples of one file."""

    def __init__(self, path):
        self.machine, self.failures, samples = {}, [], {}
        with open(path, encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                if "machine" in record:
                    self.machine = record
                elif "failed" in record:
                    self.failures.append(record)
                else:
                    samples.setdefault((record["bench"], record["workers"], record["peer"]), []).append(record)
        self.figures = {key: Figure(records) for key, records in samples.items()}

    def get(self, bench, workers, peer):
        return self.figures.get((bench, workers, peer))

    def peers(self, bench, workers):
        """Other people's pools with as many workers, the best first."""
        found = [(p, figure) for (b, w, p), figure in self.figures.items()
                 if (b, w) == (bench, workers) and p not in NO_PEERS and not p.startswith("crew")]
        return sorted(found, key=lambda pair: (rate(pair[1].unit) * pair[1].median, pair[0]))

    def table(self):
        head = ["", "what", "crew: median (quartiles, n)", "target", "met", "best peer, same run", "crew / peer"]
        rows = [row.cells(self) for row in ROWS]
        return aligned([head] + [row for row in rows if row])


def rate(unit):
    """-1 for units of which more is better."""
    return -1 if unit in ("GB/s", "%") else 1


class Row:
    """One promise: `bound` gives the limit in this run, or None if what it depends on was not measured."""

    def __init__(self, name, what, bench, workers, text, bound, peer="crew threads"):
        self.name, self.what, self.bench, self.workers, self.peer = name, what, bench, workers, peer
        self.text, self.bound = text, bound

    def verdict(self, figure, limit):
        if limit is None:
            return "?"
        sign = rate(figure.unit)
        if sign * figure.median > sign * limit:
            return "no"
        return "yes" if figure.all_quiet else "yes*"

    def cells(self, run):
        failed = [f for f in run.failures if f["failed"] == self.bench and self.ours(f["argv"])]
        figure = run.get(self.bench, self.workers, self.peer)
        if not figure:
            return [self.name, self.what, "failed: " + failed[0]["reason"], self.text, "no", "", ""] if failed else None
        limit, peers = self.bound(run), run.peers(self.bench, self.workers)
        text = self.text.replace(" = {}", "") if limit is None else self.text.replace("{}", number(limit))
        best = f"{peers[0][0]} {number(peers[0][1].median)}" if peers else "–"
        ratio = against(figure, peers[0][1]) if peers and peers[0][1].median else "–"
        return [self.name, self.what, f"{figure} {figure.unit}", text, self.verdict(figure, limit), best, ratio]

    def ours(self, argv):
        return "--backend" in argv and argv[argv.index("--workers") + 1] == str(self.workers)


def against(ours, peer):
    """The ratio of medians; where either is disturbed also that of the best samples."""
    text = f"{ours.median / peer.median:.2g}"
    return text if ours.all_quiet and peer.all_quiet else f"{text} (best {ours.best / peer.best:.2g})"


def fixed(limit):
    return lambda run: limit


def times(factor, bench, workers, peer):
    """factor × the median of a peer in the same run."""
    def bound(run):
        figure = run.get(bench, workers, peer)
        return figure and factor * figure.median
    return bound


def best_peer(factor, bench, workers):
    def bound(run):
        peers = run.peers(bench, workers)
        return factor * peers[0][1].median if peers else None
    return bound


def rows():
    """The promises of issue and design, in their order."""
    threads, processes, helping = "crew threads", "crew processes", "crew threads, helping"
    for w in (1, 2, 4, 16):
        yield Row("T1", f"one producer, 1 M tasks, a future each, {w} workers", "T1", w, "≤ 0.3 × Java's ForkJoin = {}",
                  times(0.3, "T1", w, JAVA))
    for w in (1, 2):
        yield Row("T2", f"ping-pong, hot, {w} workers", "T2", w, "≤ {}", fixed(0.45))
    yield Row("T2", "the waiter may help", "T2", 2, "≤ {}", fixed(0.1), helping)
    yield Row("T2", "cold (2 ms apart)", "T2/cold", 2, "≤ bare futex = {}", times(1, "T2/cold", 1, PLAIN))
    yield Row("T2", "on one CPU", "T2/one-cpu", 2, "≤ bare futex = {}", times(1, "T2/one-cpu", 1, PLAIN))
    yield Row("T3", "fib(30), spawn/sync, 1 worker", "T3", 1, "≤ 1.2 × Lace: 1.63 × plain call = {}", times(1.63, "T3", 1, PLAIN))
    yield Row("T3", "2 workers", "T3", 2, "≤ 1.2 × Lace: 0.83 × plain call = {}", times(0.83, "T3", 1, PLAIN))
    yield Row("T3", "through futures, 1 worker", "T3/futures", 1, "≤ libfork: 19.1 × plain call = {}", times(19.1, "T3", 1, PLAIN))
    yield Row("T3", "through futures, 2 workers", "T3/futures", 2, "≤ libfork: 9.7 × plain call = {}", times(9.7, "T3", 1, PLAIN))
    yield Row("T4", "four producers × 250,000", "T4", 2, "≤ 0.2 × Java's ForkJoin = {}", times(0.2, "T4", 2, JAVA))
    yield Row("T5", "smallest grain with 90 % efficiency", "T5", 2, "≤ {}", fixed(0.5))
    yield Row("T6", "map over 10 M doubles", "T6", 2, "≤ 1.02 × the best peer = {}", best_peer(1.02, "T6", 2))
    yield Row("T7", "memory of a pending task", "T7", 2, "≤ {}", fixed(48))
    yield Row("T8", "CPU time of 2 s idle, 4 workers", "T8", 4, "≤ {}", fixed(0.05))
    yield Row("T9", "open, 4 tasks, close, 4 workers", "T9", 4, "≤ {}", fixed(85))
    yield Row("T9", "open and close, never used", "T9/unused", 4, "≤ {}", fixed(10))
    yield Row("T10", "idle 5 ms, then submit to start", "T10", 2, "≤ {}", fixed(2.4))

    def process(name, what, bench, workers, text, bound):
        return Row(name, what, bench, workers, text, bound, processes)
    yield process("P1", "200,000 tasks, a future each, 2 workers", "P1", 2, "≤ {}", fixed(150))
    yield process("P1", "beside a socketpair pool, one by one", "P1", 2, "≤ ⅛ of it = {}", times(1 / 8, "P1", 2, "socketpair pool"))
    yield process("P1", "beside multiprocessing.Pool", "P1", 2, "≤ 1/100 of it = {}", times(1 / 100, "P1", 2, "multiprocessing.Pool"))
    yield process("P1", "beside ProcessPoolExecutor", "P1", 2, "≤ 1/400 of it = {}", times(1 / 400, "P1", 2, "ProcessPoolExecutor"))
    yield process("P2", "ping-pong, hot", "P2", 2, "≤ {}", fixed(0.5))
    yield process("P2", "parked, on one CPU", "P2/one-cpu", 2, "≤ {}", fixed(3.5))
    yield process("P2", "cold (2 ms apart)", "P2/cold", 2, "≤ 1.1 × bare futex = {}", times(1.1, "P2/cold", 1, PLAIN))
    for size, least in (("64 KiB", 6.6), ("1 MiB", 10), ("16 MiB", 10)):
        yield process("P3", f"{size} in and out, by copy", f"P3/{size}", 2, "≥ {}", fixed(least))
    yield process("P3", "1 MiB, shared: no copy", "P3/shared/1 MiB", 2, "≤ 1.2 × that of 64 KiB = {}",
                  times(1.2, "P3/shared/64 KiB", 2, processes))
    yield process("P3", "16 MiB, shared: no copy", "P3/shared/16 MiB", 2, "≤ 1.2 × that of 64 KiB = {}",
                  times(1.2, "P3/shared/64 KiB", 2, processes))
    yield process("P4", "open, 4 tasks, close, 4 workers (fork)", "P4", 4, "≤ {}", fixed(0.6))
    yield process("P4", "a spare replaces a dead worker", "P4/spare", 4, "< {}", fixed(1))
    yield process("P5", "kill -9 one of two: one fails, 99 right", "P5", 2, "≤ {}", fixed(2))
    yield process("P6", "private memory of an idle worker", "P6", 2, "≤ {}", fixed(64))
    yield Row("Q1", "a queue, 8 bytes to another process", "Q1", 2, "≤ 1/20 of multiprocessing.Queue = {}",
              times(1 / 20, "Q1", 2, "multiprocessing.Queue"), "crew queue")
    yield Row("Q1", "beside a socketpair", "Q1", 2, "≤ it = {}", times(1, "Q2", 2, "socketpair"), "crew queue")
    yield Row("Q1", "there and back, beside a socketpair", "Q1/echo", 2, "≤ it = {}", times(1, "Q2/echo", 2, "socketpair"), "crew queue")
    yield Row("Q2", "a pipe, 8 bytes to another process", "Q2", 2, "≤ multiprocessing.Pipe = {}",
              times(1, "Q2", 2, "multiprocessing.Pipe"), "crew pipe")

    yield Row("L1", "take and give back a lock, alone", "L1", 1, "≤ 1.2 × a plain mutex = {}", times(1.2, "L1", 1, "pthread mutex"), "crew lock")

    for bench, peer in (("T1", threads), ("T2", threads), ("T3", threads), ("T4", threads), ("P1", processes), ("P2", processes)):
        yield Row("P7", f"{bench} with 16 workers", bench, 16, "≤ 1.5 × 2 workers = {}", times(1.5, bench, 2, peer), peer)


ROWS = list(rows())


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


def comparison(old, new):
    """What changed; a difference counts when the quartiles do not touch."""
    rows_ = [["question", "workers", "peer", "unit", "old", "new", "new / old", ""]]
    for key in sorted(set(old.figures) & set(new.figures), key=natural):
        a, b = old.figures[key], new.figures[key]
        apart = a.high < b.low or b.high < a.low
        better = rate(a.unit) * b.median < rate(a.unit) * a.median
        rows_.append([key[0], str(key[1]), key[2], a.unit, number(a.median), number(b.median),
                      f"{b.median / a.median:.2f}" if a.median else "–", ("better" if better else "worse") if apart else ""])
    return aligned(rows_)


def write_page(path, run):
    """Put this run's tables between the marks of the page."""
    with open(path, encoding="utf-8") as page:
        text = page.read()
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    m = run.machine
    foreign = statistics.median(f.foreign for f in run.figures.values())
    quiet = sum(f.all_quiet for f in run.figures.values())
    lines = [MARKS[0], "",
             f"{m['date']}, commit {m['commit']}. {m['machine']}" + (f", {m['virtual']}" if m["virtual"] != "?" else "") + ".",
             f"{m['compiler']}; {m['java']}; CPython {m['python']}.",
             f"{quiet} of {len(run.figures)} figures are of quiet samples; others took {100 * foreign:.0f} % of the CPUs in the median sample.",
             "", run.table(), ""]
    lines += [f"Failed: {f['failed']}, `{' '.join(f['argv']).split('/')[-1]}`: {f['reason']}. {f['text']}" for f in run.failures]
    lines += ["", "### Every figure", "", everything(run), "", MARKS[1]]
    with open(path, "w", encoding="utf-8") as page:
        page.write(before + "\n".join(lines) + after)
