# SPDX-License-Identifier: BSD-2-Clause
"""targets.py: what was promised: for each question the figure that is to be reached, and whether this run reaches it.

Targets that are ratios are ratios to the peer's median in the same run; none is a figure of another machine, but where the peer is not in Debian
(Lace, libfork): there the ratio to plain calls, measured once elsewhere, stands for it.
"""

from typing import NamedTuple

from report import aligned, number, rate

JAVA, PLAIN = "Java ForkJoinPool", "limit"


class Answer(NamedTuple):
    """A row of the table, in words."""
    name: str
    what: str
    figure: str
    target: str
    met: str
    best: str
    ratio: str


class Row:
    """One promise: `bound` gives the limit in this run, or None if what it depends on was not measured. Peers are looked for
    among those with `beside` workers, as many as we have if it is not given."""

    def __init__(self, name, what, bench, workers, text, bound, peer="crew threads", beside=None):
        self.name, self.what, self.bench, self.workers, self.peer = name, what, bench, workers, peer
        self.text, self.bound, self.beside = text, bound, beside or (workers,)

    def verdict(self, figure, limit):
        if limit is None:
            return "?"
        sign = rate(figure.unit)
        return ("no" if sign * figure.median > sign * limit else "yes") + ("" if figure.all_quiet else "*")

    def answer(self, run):
        """None: not asked in this run."""
        figure = run.get(self.bench, self.workers, self.peer)
        if not figure:
            failed = [f for f in run.failures if f["failed"] == self.bench and self.ours(f["argv"])]
            return Answer(self.name, self.what, "failed: " + failed[0]["reason"], self.text, "no", "", "") if failed else None
        limit, peers = self.bound(run), run.peers(self.bench, *self.beside)
        text = self.text.replace(" = {}", "") if limit is None else self.text.replace("{}", number(limit))
        best = f"{peers[0][0]} {number(peers[0][1].median)}" if peers else "–"
        ratio = against(figure, peers[0][1]) if peers and peers[0][1].median else "–"
        return Answer(self.name, self.what, f"{figure} {figure.unit}", text, self.verdict(figure, limit), best, ratio)

    def ours(self, argv):
        return "--backend" in argv and argv[argv.index("--workers") + 1] == str(self.workers)


def ratio(ours, peer):
    return "–" if not peer else f"{ours / peer:.2g}" if ours < 99 * peer else number(ours / peer)


def against(ours, peer):
    """The ratio of medians; where either is disturbed also that of the best samples."""
    text = ratio(ours.median, peer.median)
    return text if ours.all_quiet and peer.all_quiet else f"{text} (best {ratio(ours.best, peer.best)})"


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
    yield Row("T2", "100 us apart", "T2/paced", 2, "≤ a mutex pool = {}", times(1, "T2/paced", 2, "mutex pool"))
    yield Row("T2", "the same beside two busy programs", "T2/busy", 2, "≤ {}: no slice of theirs", fixed(100))
    yield Row("T2", "on one CPU", "T2/one-cpu", 2, "≤ bare futex = {}", times(1, "T2/one-cpu", 1, PLAIN))
    yield Row("T3", "fib(30), spawn/sync, 1 worker", "T3", 1, "≤ 1.2 × Lace: 1.63 × plain call = {}", times(1.63, "T3", 1, PLAIN))
    yield Row("T3", "fib(30), spawn/sync, 2 workers", "T3", 2, "≤ 1.2 × Lace: 0.83 × plain call = {}", times(0.83, "T3", 1, PLAIN))
    yield Row("T3", "through futures, 1 worker", "T3/futures", 1, "≤ libfork: 19.1 × plain call = {}", times(19.1, "T3", 1, PLAIN))
    yield Row("T3", "through futures, 2 workers", "T3/futures", 2, "≤ libfork: 9.7 × plain call = {}", times(9.7, "T3", 1, PLAIN))
    yield Row("T4", "four producers × 250,000", "T4", 2, "≤ 0.2 × Java's ForkJoin = {}", times(0.2, "T4", 2, JAVA))
    yield Row("T5", "smallest grain with 90 % efficiency", "T5", 2, "≤ {}", fixed(0.5))
    yield Row("T6", "map over 10 M doubles", "T6", 2, "≤ 1.02 × the best peer = {}", best_peer(1.02, "T6", 2))
    yield Row("T6", "the same, the caller works along", "T6", 2, "≤ 1.02 × the best peer = {}", best_peer(1.02, "T6", 2), helping)
    yield Row("T7", "memory of a pending task", "T7", 2, "≤ {}", fixed(48))
    yield Row("T8", "CPU time of 2 s idle, 4 workers", "T8", 4, "≤ {}", fixed(0.05))
    yield Row("T9", "open, 4 tasks, close, 4 workers", "T9", 4, "≤ {}", fixed(85))
    yield Row("T9", "open and close, never used", "T9/unused", 4, "≤ {}", fixed(10))
    yield Row("T10", "idle 5 ms, then submit to start", "T10", 2, "≤ {}", fixed(2.4))

    def process(name, what, bench, workers, text, bound, beside=None):
        return Row(name, what, bench, workers, text, bound, processes, beside)
    yield process("P1", "200,000 tasks, a future each, 2 workers", "P1", 2, "≤ {}", fixed(150))
    yield process("P1", "beside a socketpair pool, one by one", "P1", 2, "≤ ⅛ of it = {}", times(1 / 8, "P1", 2, "socketpair pool"))
    yield process("P1", "beside multiprocessing.Pool", "P1", 2, "≤ 1/100 of it = {}", times(1 / 100, "P1", 2, "multiprocessing.Pool"))
    yield process("P1", "beside ProcessPoolExecutor", "P1", 2, "≤ 1/400 of it = {}", times(1 / 400, "P1", 2, "ProcessPoolExecutor"))
    yield process("P2", "ping-pong, hot", "P2", 2, "≤ {}", fixed(0.5), (1, 2))
    yield process("P2", "parked, on one CPU", "P2/one-cpu", 2, "≤ {}", fixed(3.5))
    yield process("P2", "cold (2 ms apart)", "P2/cold", 2, "≤ 1.1 × bare futex = {}", times(1.1, "P2/cold", 1, PLAIN), (1, 2))
    yield process("P2", "100 us apart", "P2/paced", 2, "≤ a socketpair pool = {}", times(1, "P2/paced", 2, "socketpair pool"))
    yield process("P2", "the same beside two busy programs", "P2/busy", 2, "≤ {}: no slice of theirs", fixed(100))
    for size, least in (("64 KiB", 6.6), ("1 MiB", 10), ("16 MiB", 10)):
        yield process("P3", f"{size} in and out, by copy", f"P3/{size}", 2, "≥ {}", fixed(least), (1, 2))
    yield process("P3", "1 MiB, shared: no copy", "P3/shared/1 MiB", 2, "≤ 1.2 × that of 64 KiB = {}",
                  times(1.2, "P3/shared/64 KiB", 2, processes))
    yield process("P3", "16 MiB, shared: no copy", "P3/shared/16 MiB", 2, "≤ 1.2 × that of 64 KiB = {}",
                  times(1.2, "P3/shared/64 KiB", 2, processes))
    yield process("P4", "open, 4 tasks, close, 4 workers (fork)", "P4", 4, "≤ {}", fixed(0.6))
    yield process("P4", "the same (server)", "P4/server", 4, "≤ {}", fixed(1.5))
    yield process("P4", "the same (spawn)", "P4/spawn", 4, "≤ {}", fixed(2))
    yield process("P4", "a spare replaces a dead worker", "P4/spare", 4, "< {}", fixed(1))
    yield process("P5", "kill -9 one of two: one fails, 99 right", "P5", 2, "≤ {}", fixed(2))
    yield process("P8", "end of a task limited to 50 ms, slowest of 100", "P8", 4, "≤ {}", fixed(100))
    yield process("P6", "private memory of an idle worker", "P6", 2, "≤ {}", fixed(64))
    yield Row("Q1", "a queue, 8 bytes to another process", "Q1", 2, "≤ 1/20 of multiprocessing.Queue = {}",
              times(1 / 20, "Q1", 2, "multiprocessing.Queue"), "crew queue")
    yield Row("Q1", "beside a socketpair", "Q1", 2, "≤ it = {}", times(1, "Q2", 2, "socketpair"), "crew queue")
    yield Row("Q1", "there and back, beside a socketpair", "Q1/echo", 2, "≤ it = {}", times(1, "Q2/echo", 2, "socketpair"), "crew queue")
    yield Row("Q2", "a pipe, 8 bytes to another process", "Q2", 2, "≤ multiprocessing.Pipe = {}",
              times(1, "Q2", 2, "multiprocessing.Pipe"), "crew pipe")

    yield Row("Q2", "there and back, beside a pipe of Python's", "Q2/echo", 2, "≤ multiprocessing.Pipe = {}",
              times(1, "Q2/echo", 2, "multiprocessing.Pipe"), "crew pipe")
    yield Row("L1", "take and give back a lock, alone", "L1", 1, "≤ 1.2 × a plain mutex = {}", times(1.2, "L1", 1, "pthread mutex"), "crew lock")
    yield Row("L2", "hand a lock over, two processes in turn", "L2", 2, "≤ multiprocessing.Lock = {}",
              times(1, "L2", 2, "multiprocessing.Lock"), "crew lock")
    yield Row("L3", "count under a value's lock, two processes", "L3", 2, "≤ multiprocessing.Value = {}",
              times(1, "L3", 2, "multiprocessing.Value"), "crew value")
    yield process("M1", "start a process, join it (fork)", "M1", 1, "≤ multiprocessing = {}", times(1, "M1", 1, "multiprocessing"))
    yield process("M1", "the same by the server", "M1/server", 1, "≤ multiprocessing's = {}", times(1, "M1/server", 1, "multiprocessing"))
    yield process("M2", "Pool.map, 100,000 items, 2 workers", "M2", 2, "≤ multiprocessing = {}", times(1, "M2", 2, "multiprocessing"))
    for kind in (threads, processes):
        for bench, what in (("Z/allocations", "allocations"), ("Z/locks", "mutexes taken"), ("Z/system calls", "system calls")):
            yield Row("Z", f"{what}, {kind[5:]}, while busy", bench, 2, "≤ {} a task", fixed(0.02), kind)

    for bench, peer in (("T1", threads), ("T2", threads), ("T3", threads), ("T4", threads), ("P1", processes), ("P2", processes)):
        yield Row("P7", f"{bench} with 16 workers", bench, 16, "≤ 1.5 × 2 workers = {}", times(1.5, bench, 2, peer), peer)


ROWS = list(rows())


def table(run):
    head = ["", "what", "crew: median (quartiles, n)", "target", "met", "best peer, same run", "crew / peer"]
    return aligned([head] + [list(answer) for answer in answers(run)])


def answers(run):
    return [answer for answer in (row.answer(run) for row in ROWS) if answer]
