# SPDX-License-Identifier: BSD-2-Clause
"""driver.py: runs the benchmarks in turns and keeps every sample. bench/run calls it, after it has built them.

A round runs each program once, crew's and the peers' of one question next to each other, then the next question, then
the next round: A B C A B C. So whatever changes on the machine in half an hour changes for all. Beside each sample stands
which share of the machine's CPU time others took meanwhile; samples below QUIET are used where there are enough of them
(report.py). --patience repeats what was disturbed.

Ctrl-C ends the measuring, not the run: the tables are made of what there is.

The programs check their own answers and say 77 when a question is not for them. A program that fails is recorded as
failed, and the run ends with status 1, after everything else was measured.
"""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # no __pycache__ in the tree
import report

QUIET = 0.06
ROUND_LIMIT_S = 120
QUICK_S = 100
SKIP, ABSENT = 77, 127
WAIT_FOR_QUIET_S, WAIT_PATIENTLY_S = 0.5, 5  # in the rounds that all get; in those for want of quiet samples


class Program:
    """One command that answers one question. `quick`: in the short run too."""

    def __init__(self, bench, peer, argv, quick=()):
        self.bench, self.peer, self.argv, self.quick = bench, peer, argv, quick
        self.quiet_samples = 0
        self.skipped = self.absent = False


def plan(build):
    """All programs, in the order of a round: crew first, then its peers, question by question."""
    native, java = f"{build}/tree/bench", ["java", "-cp", f"{build}/java", "Pools"]
    programs = []

    def crew(bench, program, *options, workers=(2,), backend="threads", quick=(2, 4)):
        for w in workers:
            argv = [f"{native}/{program}", "--backend", backend, "--workers", str(w), *options]
            programs.append(Program(bench, "crew", argv, w in quick))

    def peers(bench, names, *options, workers=(2,), quick=()):
        for name in names:
            for w in workers:
                common = ["--bench", bench, "--workers", str(w), *options]
                if name.startswith("java-"):
                    argv = [*java, "--pool", name[5:], *common]
                elif name.startswith("python-"):
                    pool, _, start = name[7:].partition("-")
                    argv = ["/usr/bin/python3", "bench/baselines/pools.py", "--pool", pool, "--start", start or "fork", *common]
                else:
                    argv = [f"{native}/{name}", *common]
                programs.append(Program(bench, name, argv, name in quick and w in (2, 4)))

    sizes = ((1 << 16, "64 KiB"), (1 << 20, "1 MiB"), (1 << 24, "16 MiB"))
    threads = ["mutex_pool", "glib_pool", "libuv_work", "tbb_arena", "java-fixed", "java-forkjoin"]
    python = ["python-executor", "python-executor-spawn", "python-executor-forkserver", "python-pool"]
    cold, one_cpu = ["--idle-us", "2000"], ["--one-cpu"]

    crew("T1", "throughput", workers=(1, 2, 4, 16), quick=(2, 16))
    peers("T1", ["java-forkjoin"], workers=(1, 2, 4, 16), quick=["java-forkjoin"])
    peers("T1", threads[:-1] + ["python-threads"], quick=["mutex_pool"])
    crew("T4", "throughput", "--producers", "4", workers=(2, 16), quick=(2,))
    peers("T4", threads, quick=["java-forkjoin", "mutex_pool"])
    crew("T2", "pingpong", workers=(1, 2, 16))
    crew("T2", "pingpong", "--helping", workers=(2,))
    peers("T2", ["limits", *threads, "python-threads"], quick=["limits", "mutex_pool", "tbb_arena"])
    peers("T2/line", ["limits"])
    crew("T2/cold", "pingpong", *cold, quick=())
    peers("T2/cold", ["limits", *threads], *cold)
    crew("T2/one-cpu", "pingpong", *one_cpu, quick=())
    peers("T2/one-cpu", ["limits", "mutex_pool"], *one_cpu)
    crew("T3", "forkjoin", workers=(1, 2, 16))
    peers("T3", ["limits"], quick=["limits"])
    peers("T3", ["tbb_arena", "openmp_tasks", "java-forkjoin"], workers=(1, 2), quick=["java-forkjoin"])
    crew("T3/futures", "forkjoin", "--futures", workers=(1, 2), quick=())
    crew("T5", "grain")
    peers("T5", ["mutex_pool", "tbb_arena", "openmp_tasks", "java-forkjoin", "glib_pool", "libuv_work"],
          quick=["java-forkjoin"])
    crew("T6", "doubles")
    peers("T6", ["tbb_arena", "openmp_tasks", "java-forkjoin"], quick=["openmp_tasks"])
    crew("T7", "footprint")
    peers("T7", threads, quick=["java-forkjoin", "mutex_pool"])
    crew("T8", "idle", workers=(4,))
    peers("T8", threads[:4], workers=(4,))
    crew("T9", "life", workers=(4,))
    peers("T9", ["limits", "mutex_pool", "glib_pool", "java-fixed", "java-forkjoin"], workers=(4,),
          quick=["mutex_pool", "glib_pool"])
    crew("T9/unused", "life", "--idle-workers", workers=(4,))
    peers("T9/unused", ["mutex_pool", "glib_pool"], "--idle-workers", workers=(4,))
    crew("T10", "wakeup", quick=())
    peers("T10", ["limits", *threads])

    crew("P1", "throughput", backend="processes", workers=(1, 2, 4, 16), quick=(2, 16))
    peers("P1", ["socket_pool", *python], quick=["socket_pool", "python-executor", "python-pool"])
    crew("P2", "pingpong", backend="processes", workers=(1, 2, 16))
    peers("P2", ["limits", "socket_pool", "python-executor", "python-pool"], quick=["limits", "socket_pool"])
    peers("P2/line", ["limits"])
    crew("P2/cold", "pingpong", *cold, backend="processes", quick=())
    peers("P2/cold", ["limits", "socket_pool"], *cold)
    crew("P2/one-cpu", "pingpong", *one_cpu, backend="processes", quick=())
    peers("P2/one-cpu", ["limits", "socket_pool"], *one_cpu)
    for size, name in sizes:
        crew(f"P3/{name}", "payload", "--size", str(size), backend="processes")
        peers(f"P3/{name}", ["limits", "socket_pool", "python-executor", "python-pool"], "--size", str(size),
              quick=["socket_pool"])
    crew("P4", "life", backend="processes", workers=(4,))
    peers("P4", ["limits", "socket_pool", *python], workers=(4,), quick=["limits", "socket_pool", "python-executor"])
    crew("P4/unused", "life", "--idle-workers", backend="processes", workers=(4,), quick=())
    crew("P5", "casualty", backend="processes")
    peers("P5", ["socket_pool", "python-executor", "python-pool"], quick=["socket_pool"])
    crew("P6", "footprint", backend="processes")
    peers("P6", ["socket_pool", "python-executor", "python-pool"], quick=["socket_pool"])
    for question in ("L1", "L2", "L3"):
        programs.append(Program(question, "crew", [f"{native}/locking", "--bench", question], True))
        programs.append(Program(question, "posix_locks", [f"{native}/posix_locks", "--bench", question], True))
        programs.append(Program(question, "python-locks", ["/usr/bin/python3", "bench/baselines/locks.py", "--bench", question]))
    crew("T8/processes", "idle", backend="processes", workers=(4,), quick=())
    for bench in ("Q1", "Q2", "Q1/echo", "Q2/echo"):
        programs.append(Program(bench, "crew", [f"{native}/passing", "--bench", bench], True))
        programs.append(Program(bench, "by hand", [f"{native}/passing_by_hand", "--bench", bench], True))
        programs.append(Program(bench, "python", ["/usr/bin/python3", "bench/baselines/passing.py", "--bench", bench]))
    crew("M1", "kids", backend="processes", quick=())  # M2 too
    programs.append(Program("M1", "python-kids", ["/usr/bin/python3", "bench/baselines/kids.py"]))
    return programs


# ---- one run of one program ----

def busy_ticks():
    """Ticks that all CPUs together spent on anything, stolen ones included."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    return sum(fields) - fields[3] - fields[4]


def wait_for_quiet(seconds):
    """Until the machine has done little for a twentieth of a second, but no longer. It only makes good samples likelier."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = busy_ticks()
        time.sleep(0.05)
        if busy_ticks() - before <= 1:
            return


def run_program(argv, limit_s):
    """Status, output, error text, seconds, CPU seconds of the program and all it waited for."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begin = time.monotonic()
        before = os.times()
        try:
            process = subprocess.Popen(argv, stdout=out, stderr=err, start_new_session=True)
        except FileNotFoundError:
            return ABSENT, "", "", 0, 0
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = -signal.SIGALRM
        finally:
            if process.returncode is None:  # also after Ctrl-C
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        seconds = time.monotonic() - begin
        after = os.times()
        out.seek(0)
        err.seek(0)
        cpu = after.children_user - before.children_user + after.children_system - before.children_system
        return status, out.read(), err.read(), seconds, cpu


def foreign_share(ticks, own_seconds, seconds):
    cpus = os.cpu_count() or 1
    foreign = ticks / os.sysconf("SC_CLK_TCK") - own_seconds
    return round(min(1, max(0, foreign / (max(seconds, 0.01) * cpus))), 3)


def sample(program, number, write, patiently):
    """One round of one program; its lines go to write(). Returns a sentence if it failed."""
    wait_for_quiet(WAIT_PATIENTLY_S if patiently else WAIT_FOR_QUIET_S)
    before = busy_ticks()
    status, out, err, seconds, cpu = run_program(program.argv, ROUND_LIMIT_S)
    foreign = foreign_share(busy_ticks() - before, cpu, seconds)
    if status in (SKIP, ABSENT):
        program.skipped, program.absent = True, status == ABSENT
        return None
    for line in out.splitlines():
        write({**json.loads(line), "round": number, "foreign": foreign, "load": round(os.getloadavg()[0], 2),
               "seconds": round(seconds, 3), "quiet": foreign < QUIET})
    if status == 0:
        program.quiet_samples += foreign < QUIET
        return None
    reason = "no end" if status == -signal.SIGALRM else f"status {status}"
    last = (err.strip().splitlines() or [""])[-1]
    write({"failed": program.bench, "argv": program.argv, "reason": reason, "text": last, "round": number})
    return f"{program.bench}, {' '.join(program.argv)}: {reason}. {last}"


# ---- the whole run ----

def first_line(argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()[0]
    except (OSError, IndexError):
        return "?"


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        models = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
    dirty = first_line(["git", "status", "--porcelain", "--untracked-files=no", "lib", "include"]) != "?"
    return {"machine": f"{len(os.sched_getaffinity(0))} CPUs, {(models or [platform.machine()])[0]}, Linux {platform.release()}",
            "virtual": first_line(["systemd-detect-virt"]),
            "compiler": first_line(["gcc", "--version"]), "java": first_line(["java", "--version"]),
            "python": platform.python_version(), "date": datetime.date.today().isoformat(),
            "commit": first_line(["git", "rev-parse", "--short=10", "HEAD"]) + (" and changes" if dirty else "")}


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text[:100]}")
        sys.stderr.flush()


def wanted(program, options):
    if options.quick and not program.quick:
        return False
    questions = options.only.split(",")
    return not options.only or any(f"{program.bench}/".startswith(f"{question}/") for question in questions)


def run_rounds(options, programs, write, failures):
    """As many rounds as asked for, then, within --patience, more of what has too few quiet samples."""
    rounds = options.rounds or (3 if options.quick else 7)
    begin = time.monotonic()
    for number in range(10000):
        # When time is up the quick run ends after the round it is in, the long one when it has all its rounds.
        late = time.monotonic() - begin > (QUICK_S if options.quick else options.patience)
        extra = number >= rounds
        due = [p for p in programs if not p.skipped and (not extra or p.quiet_samples < rounds)]
        if not due or (late and (extra or (options.quick and number))):
            return
        for i, program in enumerate(due):
            progress(f"round {number + 1} of {rounds}, {i + 1} of {len(due)}: {program.bench} {program.peer}")
            failure = sample(program, number, write, extra)
            if failure:
                failures.append(failure)
                program.skipped = True  # once is enough to tell


def measure(options, path):
    programs = [program for program in plan(options.build) if wanted(program, options)]
    failures = []

    with open(path, "w", encoding="utf-8") as file:
        def write(record):
            file.write(json.dumps(record) + "\n")
            file.flush()

        write(machine())
        try:
            run_rounds(options, programs, write, failures)
        except KeyboardInterrupt:
            pass
    progress("")
    absent = sorted({program.peer for program in programs if program.absent})
    if absent:
        print(f"left out, not on this machine: {', '.join(absent)}")
    return failures


def main():
    parser = argparse.ArgumentParser(prog="bench/run", description="Measure crew and its peers.")
    parser.add_argument("--build", default="build/bench", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--patience", type=float, default=0, metavar="SECONDS",
                        help="from the start; quiet samples are collected until then")
    parser.add_argument("--only", default="", metavar="T1,P1")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--compare", metavar="OLD.jsonl")
    parser.add_argument("--report", metavar="NEW.jsonl")
    options = parser.parse_args()

    failures, path = [], options.report
    if not path:
        path = f"{options.build}/{datetime.datetime.now():%Y-%m-%d-%H%M%S}.jsonl"
        failures = measure(options, path)
    new = report.Run(path)
    print(new.table())
    if options.compare:
        print(report.comparison(report.Run(options.compare), new))
    if options.write:
        report.write_page("docs/performance.md", new)
    print(f"every sample: {path}")
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
