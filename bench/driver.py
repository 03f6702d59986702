# SPDX-License-Identifier: BSD-2-Clause
"""driver.py: runs the benchmarks in turns and keeps every sample. bench/run calls it, after it has built them.

A round runs each program once, crew's and the peers' of one question next to each other, then the next question, then
the next round: A B C A B C. So whatever changes on the machine in half an hour changes for all. Beside each sample stands
which share of the machine's CPU time others took meanwhile; samples below QUIET are used where there are enough of them
(report.py). --patience repeats what was disturbed.

A run of everything takes seven rounds, or as many as end within FULL_S; the quick one three, or as many as end within QUICK_S.
Ctrl-C ends the measuring, not the run: the tables are made of what there is.

The programs check their own answers and say 77 when a question is not for them. A program that fails is recorded as
failed, and the run ends with status 1, after everything else was measured.
"""

import argparse
import datetime
import itertools
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # no __pycache__ in the tree
import page
import plan
import report
import targets

QUIET = 0.06
ROUND_LIMIT_S = 120
FULL_S, QUICK_S = 1780, 110
SKIP, ABSENT = 77, 127
WAIT_FOR_QUIET_S, WAIT_PATIENTLY_S = 0.5, 5  # in the rounds that all get; in those for want of quiet samples


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


def read_lines(out):
    """The records, and the first line that is none."""
    records = []
    for line in out.splitlines():
        try:
            record = json.loads(line)
            records.append({**record, "bench": record["bench"]})
        except (ValueError, TypeError, KeyError):
            return records, line
    return records, ""


def sample(program, number, write, patiently):
    """One round of one program; its lines go to write(). Returns a sentence if it failed."""
    begin = time.monotonic()
    wait_for_quiet(WAIT_PATIENTLY_S if patiently else WAIT_FOR_QUIET_S)
    before = busy_ticks()
    status, out, err, seconds, cpu = run_program(program.argv, ROUND_LIMIT_S)
    foreign = foreign_share(busy_ticks() - before, cpu, seconds)
    program.seconds = time.monotonic() - begin
    if status in (SKIP, ABSENT):
        program.skipped, program.absent = True, status == ABSENT
        return None
    records, strange = read_lines(out)
    for record in records:
        write({**record, "round": number, "foreign": foreign, "load": round(os.getloadavg()[0], 2),
               "seconds": round(seconds, 3), "quiet": foreign < QUIET})
    if status == 0 and not strange:
        program.quiet_samples += foreign < QUIET
        return None
    reason = "no end" if status == -signal.SIGALRM else f"status {status}" if status else "it printed what is no sample"
    last = strange or (err.strip().splitlines() or [""])[-1]
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
            "compiler": first_line(["gcc", "--version"]), "clang": first_line(["clang", "--version"]),
            "mpi": first_line(["mpirun", "--version"]).replace("mpirun (Open MPI)", "Open MPI"), "java": first_line(["java", "--version"]),
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
    """As many rounds as asked for and as there is time for, then, within --patience, more of what has too few quiet samples."""
    rounds = options.rounds or (3 if options.quick else 7)
    limit = math.inf if options.rounds else QUICK_S if options.quick else max(FULL_S, options.patience)
    begin = time.monotonic()
    for number in itertools.count():
        extra, elapsed = number >= rounds, time.monotonic() - begin
        due = [p for p in programs if p.due(number, rounds)]
        late = elapsed + sum(p.seconds for p in due) > limit if number else False
        if not due or late or (extra and elapsed > options.patience):
            write({"ended": datetime.datetime.now().isoformat(timespec="seconds"), "rounds": number, "seconds": round(elapsed)})
            return
        for i, program in enumerate(due):
            progress(f"round {number + 1} of {rounds}, {i + 1} of {len(due)}: {program.bench} {program.peer}")
            failure = sample(program, number, write, extra)
            if failure:
                failures.append(failure)
                program.skipped = True  # once is enough to tell


def measure(options, path):
    programs = [program for program in plan.programs(options.build) if wanted(program, options)]
    if options.scale:
        for program in programs:
            program.argv += ["--scale", options.scale]
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
    parser.add_argument("--scale", metavar="0.01", help="of the work: to try the suite, not to measure")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--patience", type=float, default=0, metavar="SECONDS",
                        help="from the start; quiet samples are collected until then")
    parser.add_argument("--only", default="", metavar="T1,P1")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--compare", metavar="OLD.jsonl")
    parser.add_argument("--page", metavar="REPORT.html", help="where to write the page, instead of build/bench/report.html")
    parser.add_argument("--report", metavar="NEW.jsonl")
    options = parser.parse_args()

    failures, path = [], options.report
    if not path:
        path = f"{options.build}/{datetime.datetime.now():%Y-%m-%d-%H%M%S}.jsonl"
        failures = measure(options, path)
    new = report.Run(path)
    old = report.Run(options.compare) if options.compare else None
    print(targets.table(new))
    if old:
        print(report.comparison(old, new))
    if options.write:
        report.write_tables("docs/performance.md", new, targets.table(new))
    html = options.page or f"{options.build}/report.html"
    os.makedirs(os.path.dirname(html) or ".", exist_ok=True)
    with open(html, "w", encoding="utf-8") as file:
        file.write(page.render(new, old))
    print(f"every sample: {path}\nthe page: {html}")
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
