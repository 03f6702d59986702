#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""pools.py: CPython's executors and multiprocessing.Pool, asked T1, T2 and P1-P6 with the work and checks of the C programs.

    pools.py --pool threads|executor|pool [--start fork|forkserver|spawn] --bench P1 --workers 2 --rounds 1

Counts are smaller where a task is a thousand times dearer: the figures are per task.
"""

import argparse
import concurrent.futures
import ctypes
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time

SKIP = 77
NAMES = {"threads": "ThreadPoolExecutor", "executor": "ProcessPoolExecutor", "pool": "multiprocessing.Pool"}


def increment(x):
    return x + 1


def last_20_ms(x):
    end = time.monotonic() + 0.02
    ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK
    time.sleep(0.0195)
    while time.monotonic() < end:  # a sleep to the end would be late
        pass
    return x + 1


def pid_of_worker(_):
    time.sleep(0.01)  # so that every worker gets one
    return os.getpid()


def echo(data):
    return data


def require(ok, sentence):
    if not ok:
        sys.exit(sentence)


class ExecutorPool:
    """Both concurrent.futures executors: submit() and result()."""

    def __init__(self, kind, workers, start):
        if kind == "threads":
            self.pool = concurrent.futures.ThreadPoolExecutor(workers)
        else:
            self.pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context(start))
        self.submit = self.pool.submit

    def take(self, future, timeout=None):
        return future.result(timeout)

    def pids(self):
        return list(self.pool._processes)

    def close(self):
        self.pool.shutdown()

    abandon = close


class MultiprocessingPool:
    """multiprocessing.Pool: apply_async() and get()."""

    def __init__(self, _, workers, start):
        self.pool = multiprocessing.get_context(start).Pool(workers)

    def submit(self, function, x):
        return self.pool.apply_async(function, (x,))

    def take(self, result, timeout=None):
        return result.get(timeout)

    def pids(self):
        return [process.pid for process in self.pool._pool]

    def close(self):
        self.pool.close()
        self.pool.join()

    def abandon(self):
        self.pool.terminate()


def quantile(values, q):
    values.sort()
    position = q * (len(values) - 1)
    below = int(position)
    if below + 1 >= len(values):
        return values[-1]
    return values[below] + (position - below) * (values[below + 1] - values[below])


def growth_round(pool, tasks, scale):
    """The median of as many rounds as it takes to time them; see measure_repeats() in measure.h."""
    rounds = max(1, int(10000 / tasks * scale))
    costs = [value for _ in range(rounds) for _, _, value in submit_round(pool, max(1, int(tasks * scale)))]
    yield f"/at {tasks} tasks", "ns/task", statistics.median(costs)


def submit_round(pool, n):
    begin = time.perf_counter_ns()
    futures = [pool.submit(increment, i) for i in range(n)]
    results = [pool.take(future) for future in futures]
    elapsed = time.perf_counter_ns() - begin
    require(results == list(range(1, n + 1)), "a result is wrong")
    yield "", "ns/task", elapsed / n


def ping_round(pool, n, idle_us):
    times = []
    for i in range(n):
        if idle_us:
            time.sleep(idle_us / 1e6)
        begin = time.perf_counter_ns()
        y = pool.take(pool.submit(increment, i))
        times.append((time.perf_counter_ns() - begin) / 1000)
        require(y == i + 1, "a ping is wrong")
    yield "", "us", statistics.median(times)
    yield "/p99", "us", quantile(times, 0.99)
    yield "", "us", [quantile(times, q) for q in [i / 100 for i in range(101)] + [0.995, 0.999]]


def payload_round(pool, n, size):
    times = []
    data = bytes(i * 7 % 256 for i in range(4096)) * (size // 4096)
    for _ in range(n):
        begin = time.perf_counter_ns()
        back = pool.take(pool.submit(echo, data))
        times.append(time.perf_counter_ns() - begin)
        require(back == data, "an echo is wrong")
    yield "", "GB/s", 2 * size / statistics.median(times)


def life_round(options, n):
    times = []
    for _ in range(n):
        begin = time.perf_counter_ns()
        pool = open_pool(options)
        results = [pool.take(f) for f in [pool.submit(increment, i) for i in range(4)]]
        pool.close()
        times.append((time.perf_counter_ns() - begin) / 1e6)
        require(results == [1, 2, 3, 4], "a result is wrong")
    yield "", "ms", statistics.median(times)


def crash_round(options, n):
    """Counts what fails; what does not end within two seconds after its time counts as hanging."""
    pool = open_pool(options)
    pool.take(pool.submit(increment, 1))
    begin = time.perf_counter()
    futures = [pool.submit(last_20_ms, i) for i in range(n)]
    time.sleep(max(0, begin + 0.19 - time.perf_counter()))
    os.kill(pool.pids()[0], signal.SIGKILL)
    failed = hanging = 0
    end = begin + n * 0.01 + 2
    for i, future in enumerate(futures):
        try:
            require(pool.take(future, max(0.001, end - time.perf_counter())) == i + 1, "a result is wrong")
        except (TimeoutError, multiprocessing.TimeoutError):
            hanging += 1
        except concurrent.futures.process.BrokenProcessPool:
            failed += 1
    late = (time.perf_counter() - begin) * 1000 - n * 10
    pool.abandon()
    yield "/failed", "tasks", failed
    yield "/hanging", "tasks", hanging
    if failed + hanging == 1 and not hanging:
        yield "", "ms over the ideal", late


def footprint_round(pool, workers):
    for future in [pool.submit(pid_of_worker, i) for i in range(10 * workers)]:
        pool.take(future)
    yield "", "KiB/worker", statistics.median(private_kib(pid) for pid in pool.pids())


def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def open_pool(options):
    kind = MultiprocessingPool if options.pool == "pool" else ExecutorPool
    return kind(options.pool, options.workers, options.start)


def rounds_of(options):
    """The generator of one round of the question, given the pool; None: not for this peer."""
    question, scale = options.bench.split("/")[0], options.scale
    threads = options.pool == "threads"
    if question in ("T1", "P1") and threads == (question == "T1") and options.tasks:
        return lambda pool: growth_round(pool, options.tasks, scale)
    if question in ("T1", "P1") and threads == (question == "T1"):
        return lambda pool: submit_round(pool, max(1, int((100000 if threads else 20000) * scale)))
    if question in ("T2", "P2") and threads == (question == "T2"):
        return lambda pool: ping_round(pool, max(1, int((300 if options.idle_us else 3000) * scale)), options.idle_us)
    if threads:
        return None
    if question == "P3":
        return lambda pool: payload_round(pool, max(3, int(min(300, (64 << 20) // options.size) * scale)), options.size)
    if question == "P6":
        return lambda pool: footprint_round(pool, options.workers)
    return None


def report(options, tail, unit, value):
    name = NAMES[options.pool]
    if options.start != "fork":
        name += f" ({options.start})"
    record = {"bench": options.bench + tail, "peer": name, "workers": options.workers, "unit": unit}
    if isinstance(value, list):
        record["quantiles"] = [round(v, 3) for v in value]
    else:
        record["value"] = round(value, 6)
    print(json.dumps(record), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--pool", choices=NAMES, required=True)
    parser.add_argument("--start", choices=("fork", "forkserver", "spawn"), default="fork")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--tasks", type=int, default=0)
    parser.add_argument("--size", type=int, default=65536)
    parser.add_argument("--idle-us", type=int, default=0)
    parser.add_argument("--one-cpu", action="store_true")
    options = parser.parse_args()

    if options.one_cpu:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    if options.bench in ("P4", "P5") and options.pool != "threads":
        for _ in range(options.rounds):
            turns = life_round(options, max(1, int(10 * options.scale))) if options.bench == "P4" else \
                crash_round(options, 30 if options.scale < 1 else 100)
            for line in turns:
                report(options, *line)
        return 0
    one_round = rounds_of(options)
    if one_round is None:
        return SKIP
    pool = open_pool(options)
    for _ in one_round(pool):
        pass
    for _ in range(options.rounds):
        for line in one_round(pool):
            report(options, *line)
    pool.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
