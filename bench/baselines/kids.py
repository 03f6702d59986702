#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""kids.py: multiprocessing.Process and Pool.map, asked M1 and M2 as kids.c is."""

import argparse
import json
import multiprocessing
import statistics
import time

STARTS, ITEMS = 30, 100000


def do_nothing():
    pass


def increment(x):
    return x + 1


def start_and_join(method, n):
    context, times = multiprocessing.get_context(method), []
    for _ in range(n):
        begin = time.perf_counter_ns()
        process = context.Process(target=do_nothing)
        process.start()
        process.join()
        times.append((time.perf_counter_ns() - begin) / 1e3)
        assert process.exitcode == 0
    return statistics.median(times)


def map_items(pool, n):
    begin = time.perf_counter_ns()
    assert pool.map(increment, range(n)) == list(range(1, n + 1))
    return (time.perf_counter_ns() - begin) / n


def report(bench, workers, unit, value):
    print(json.dumps({"bench": bench, "peer": "multiprocessing", "workers": workers, "unit": unit, "value": round(value, 3)}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1)
    options = parser.parse_args()
    starts = max(1, int(STARTS * options.scale))
    for number in range(options.rounds + 1):
        forked, served = start_and_join("fork", starts), start_and_join("forkserver", starts)
        with multiprocessing.get_context("fork").Pool(options.workers) as pool:
            map_items(pool, 1000)
            mapped = map_items(pool, max(1, int(ITEMS * options.scale)))
        if number == 0:
            continue
        report("M1", 1, "us", forked)
        report("M1/server", 1, "us", served)
        report("M2", options.workers, "ns/item", mapped)


if __name__ == "__main__":
    main()
