#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""zero.py: what a task takes from the system in the steady state: allocations, mutexes, system calls, instructions.

    zero.py build/tree/bench/zero --backend threads|processes

The program counts allocations and mutexes itself. System calls are counted by strace, instructions by valgrind's callgrind, on one
CPU, where nobody spins for want of work; both in a run with FEW rounds and in one with MANY: the difference, by the tasks that were more, is a task's share. What is not installed is left out.
"""

import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

SKIP = 77
FEW, MANY = 2, 12


class Unable(Exception):
    """A tool cannot run this program here."""


def run(argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unable(f"{argv[0]}: status {done.returncode}. {(done.stderr.strip().splitlines() or [''])[-1]}")
    return done.stdout


def report(bench, peer, unit, value):
    print(json.dumps({"bench": bench, "peer": peer, "workers": 2, "unit": unit, "value": round(max(0, value), 6)}), flush=True)


def system_calls(program, rounds, directory):
    """All of them, of all threads and processes. The total is the last line of the summary: "100.00 seconds usecs/call calls errors total"."""
    summary = f"{directory}/strace"
    run(["strace", "-f", "-c", "-o", summary, *program, "--rounds", str(rounds)])
    with open(summary, encoding="ascii") as lines:
        total = next(line.split() for line in lines if line.rstrip().endswith("total"))
    return int(total[3])


def instructions(program, rounds, directory):
    """The sum over all processes: each that ends writes a file."""
    for old in glob.glob(f"{directory}/callgrind.*"):
        os.unlink(old)
    run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={directory}/callgrind.%p", *program, "--rounds", str(rounds)])
    total = 0
    for path in glob.glob(f"{directory}/callgrind.*"):
        with open(path, encoding="utf-8") as lines:
            total += sum(int(found.group(1)) for found in (re.match(r"(?:totals|summary): (\d+)", line) for line in lines) if found)
    return total


def per_task(counter, program, tasks):
    with tempfile.TemporaryDirectory() as directory:
        few, many = (counter(program, rounds, directory) for rounds in (FEW, MANY))
    return (many - few) / ((MANY - FEW) * tasks)


def measure(tool, bench, peer, counter, program, tasks):
    """A tool that is not there, or may not trace here, is left out with a word."""
    if not shutil.which(tool):
        sys.stderr.write(f"{bench} left out: no {tool}\n")
        return
    try:
        report(bench, peer, "per task", per_task(counter, program, tasks))
    except Unable as error:
        sys.stderr.write(f"{bench} left out: {error}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--backend", default="threads")
    parser.add_argument("--tasks", type=int, default=100000)
    parser.add_argument("--scale", type=float, default=1)
    options = parser.parse_args()
    options.tasks = max(10, int(options.tasks * options.scale))

    peer = f"crew {options.backend}"
    program = [options.program, "--backend", options.backend, "--workers", "2", "--tasks", str(options.tasks)]
    try:
        sys.stdout.write(run([*program, "--rounds", str(MANY)]))
    except Unable as error:
        sys.exit(str(error))
    sys.stdout.flush()
    measure("strace", "Z/system calls", peer, system_calls, program, options.tasks)
    if options.backend == "threads":  # Debian 12's valgrind knows no pidfd_open()
        few = max(1, options.tasks // 10)
        measure("valgrind", "Z/instructions", peer, instructions, [*program[:-1], str(few), "--one-cpu"], few)
    return 0


if __name__ == "__main__":
    sys.exit(main())
