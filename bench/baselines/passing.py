#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""passing.py: Q1 and Q2 by CPython's multiprocessing: Queue and SimpleQueue, Pipe; a number to another process, or there and back.

    passing.py --bench Q1|Q2|Q1/echo|Q2/echo --rounds 1

Counts are smaller where an item is a hundred times dearer: the figures are per item.
"""

import argparse
import json
import multiprocessing
import sys
import time

ITEMS, ECHOES = 20000, 2000


def other_side(get, put, count, echo):
    for i in range(count):
        put(get() + 1 if echo else i)


def round_of(ways, count, echo):
    (their_get, their_put), (get, put) = ways
    process = multiprocessing.Process(target=other_side, args=(their_get, their_put, count, echo))
    process.start()
    begin = time.monotonic_ns()
    for i in range(count):
        if echo:
            put(i)
        if get() != i + echo:
            sys.exit("a wrong answer")
    took = time.monotonic_ns() - begin
    process.join()
    return took / count


def queue_ways(kind, echo):
    there, back = kind(), kind()
    return ((there.get, back.put), (back.get, there.put)) if echo else ((None, there.put), (there.get, None))


def pipe_ways(_, echo):
    a, b = multiprocessing.Pipe()
    return (b.recv, b.send), (a.recv, a.send)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    multiprocessing.set_start_method("fork")
    echo = options.bench.endswith("/echo")
    count = max(1, int((ECHOES if echo else ITEMS) * options.scale))
    kinds = [("multiprocessing.Pipe", pipe_ways, None)] if options.bench.startswith("Q2") else \
        [("multiprocessing.Queue", queue_ways, multiprocessing.Queue), ("multiprocessing.SimpleQueue", queue_ways, multiprocessing.SimpleQueue)]
    for name, ways, kind in kinds:
        for _ in range(options.rounds):
            ns = round_of(ways(kind, echo), count, echo)
            print(json.dumps({"bench": options.bench, "peer": name, "workers": 2, "unit": "us" if echo else "ns/item",
                              "value": ns / 1000 if echo else ns}), flush=True)


main()
