#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""locks.py: L1-L3 put to CPython's multiprocessing.Lock, RLock and Value, with the work and checks of exclusion.c.

    locks.py --bench L1 --rounds 1
"""

import argparse
import json
import multiprocessing
import time

TAKES, TURNS, COUNTS = 200000, 1000, 50000


def alone(lock, n):
    begin = time.monotonic_ns()
    for _ in range(n):
        lock.acquire()
        lock.release()
    return (time.monotonic_ns() - begin) / n


def play(lock, turn, me, end):
    more = True
    while more:
        with lock:
            if turn.value % 2 == me and turn.value < end:
                turn.value += 1
            more = turn.value < end


def count(lock, total, _, end):
    for _ in range(end // 2):
        with lock:
            total.value += 1


def together(lock, body, n):
    shared = multiprocessing.RawValue("l", 0)
    begin = time.monotonic_ns()
    other = multiprocessing.Process(target=body, args=(lock, shared, 1, n))
    other.start()
    body(lock, shared, 0, n)
    other.join()
    spent = time.monotonic_ns() - begin
    assert shared.value == n // 2 * 2, f"counted {shared.value} of {n}"
    return spent / n


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", default="L1")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1)
    o = parser.parse_args()
    multiprocessing.set_start_method("fork")
    locks = {"multiprocessing.Lock": multiprocessing.Lock(), "multiprocessing.RLock": multiprocessing.RLock(),
             "multiprocessing.Value": multiprocessing.Value("l", 0).get_lock()}
    for peer, lock in locks.items():
        for _ in range(o.rounds):
            if o.bench == "L1":
                unit, workers, value = "ns", 1, alone(lock, max(2, int(TAKES * o.scale)))
            elif o.bench == "L2":
                unit, workers, value = "ns/turn", 2, together(lock, play, max(2, int(TURNS * o.scale) // 2 * 2))
            else:
                unit, workers, value = "ns/count", 2, together(lock, count, max(2, int(COUNTS * o.scale) // 2 * 2))
            print(json.dumps({"bench": o.bench, "peer": peer, "workers": workers, "unit": unit, "value": round(value, 1)}))


main()
