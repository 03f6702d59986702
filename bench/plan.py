# SPDX-License-Identifier: BSD-2-Clause
"""plan.py: which programs run in a round, and in which order: question by question, crew first, then its peers.

Sweeps (more workers, more tasks, other sizes) and peers that take long have turns in three rounds of seven: as many
samples as are ENOUGH (report.py), and the whole ends within half an hour.
"""

SIZES = {"4 KiB": 1 << 12, "64 KiB": 1 << 16, "256 KiB": 1 << 18, "1 MiB": 1 << 20, "4 MiB": 1 << 22, "16 MiB": 1 << 24}
PROMISED_SIZES = ("64 KiB", "1 MiB", "16 MiB")
GROWTH = (1000, 10000, 100000, 10000000)  # a million is T1 itself
SELDOM, ONCE = (0, 2, 4), (0,)

THREADS = ["mutex_pool", "glib_pool", "libuv_work", "tbb_arena", "asio_pool", "java-fixed", "java-forkjoin"]
FORKJOIN = ["tbb_arena", "openmp_tasks", "openmp_clang", "java-forkjoin"]
PYTHON = ["python-executor", "python-executor-spawn", "python-executor-forkserver",
          "python-pool", "python-pool-spawn", "python-pool-forkserver"]
POOLS = ["socket_pool", "python-executor", "python-pool"]
SLOW = ("python-threads", *PYTHON)
SLOW_FORKJOIN = FORKJOIN[:-1]
PYTHON3 = "/usr/bin/python3"  # Debian's


class Program:
    """One command that answers one question. `quick`: in the short run too; `turns`: in these rounds, in all if not given."""

    def __init__(self, bench, peer, argv, quick=False, turns=None):
        self.bench, self.peer, self.argv, self.quick, self.turns = bench, peer, argv, quick, turns
        self.quiet_samples = 0
        self.seconds = 0.0  # of its last round, with the wait before it
        self.skipped = self.absent = False

    def due(self, number, rounds):
        """In this round? After the last regular one: where quiet samples are wanting."""
        turns = range(rounds) if self.turns is None else self.turns
        if self.skipped:
            return False
        return number in turns if number < rounds else self.quiet_samples < sum(turn < rounds for turn in turns)


class Plan:
    """The list, and how each kind of program is called."""

    def __init__(self, build):
        self.native, self.java = f"{build}/tree/bench", ["java", "-cp", f"{build}/java", "Pools"]
        self.programs = []

    def add(self, bench, peer, argv, quick=False, turns=None):
        self.programs.append(Program(bench, peer, argv, quick, turns))

    def crew(self, bench, program, *options, workers=(2,), backend="threads", quick=(2, 4), seldom=()):
        for w in workers:
            argv = [f"{self.native}/{program}", "--backend", backend, "--workers", str(w), *options]
            self.add(bench, "crew", argv, w in quick, SELDOM if w in seldom else None)

    def peers(self, bench, names, *options, workers=(2,), quick=(), seldom=(), ask=None):
        """`ask`: what --bench says, if it is not the question's own name."""
        for name in names:
            for w in workers:
                argv = self.command(name, ["--bench", ask or bench, "--workers", str(w), *options], w)
                self.add(bench, name, argv, name in quick and w == (2 if 2 in workers else workers[0]), SELDOM if w in seldom or name in SLOW else None)

    def command(self, name, options, workers):
        if name.startswith("java-"):
            return [*self.java, "--pool", name[5:], *options]
        if name.startswith("python-"):
            pool, _, start = name[7:].partition("-")
            return [PYTHON3, "bench/baselines/pools.py", "--pool", pool, "--start", start or "fork", *options]
        if name == "mpi_ranks":
            return ["bench/baselines/mpirun", str(workers + 1), f"{self.native}/{name}", *options]
        return [f"{self.native}/{name}", *options]

    def busy(self, bench, backend, names):
        """Pings beside two others who want the CPUs."""
        others, paced = [PYTHON3, "bench/beside.py", "2"], ["--bench", bench, "--workers", "2", "--idle-us", "100"]
        self.add(bench, "crew", [*others, f"{self.native}/pingpong", "--backend", backend, *paced])
        for name in names:
            self.add(bench, name, [*others, *self.command(name, paced, 2)])

    def threads(self):
        cold, paced, one_cpu = ["--idle-us", "2000"], ["--idle-us", "100"], ["--one-cpu"]
        self.crew("T1", "throughput", workers=(1, 2, 4, 16, 32), quick=(2, 16), seldom=(32,))
        self.peers("T1", ["java-forkjoin"], workers=(1, 2, 4, 16, 32), quick=["java-forkjoin"], seldom=(32,))
        self.peers("T1", ["mutex_pool"], workers=(1, 4, 16, 32), seldom=(1, 4, 16, 32))
        self.peers("T1", THREADS[:-1] + ["python-threads"], quick=["mutex_pool"])
        for n in GROWTH:
            tasks = ["--tasks", str(n)]
            self.crew(f"T1/at {n} tasks", "throughput", *tasks, quick=(), seldom=(2,))
            self.peers(f"T1/at {n} tasks", ["mutex_pool", "java-forkjoin"], *tasks, seldom=(2,), ask="T1")
        self.crew("T4", "throughput", "--producers", "4", workers=(2, 16), quick=(2,))
        self.peers("T4", ["mutex_pool", "libuv_work", "java-forkjoin"], quick=["java-forkjoin", "mutex_pool"])
        self.peers("T4", ["glib_pool", "tbb_arena", "asio_pool", "java-fixed"], seldom=(2,))
        self.crew("T2", "pingpong", workers=(1, 2, 16))
        self.crew("T2", "pingpong", "--helping")
        self.peers("T2", ["limits", *THREADS, "python-threads"], quick=["limits", "mutex_pool", "tbb_arena"])
        self.peers("T2/line", ["limits"])
        self.crew("T2/cold", "pingpong", *cold, quick=())
        self.peers("T2/cold", ["limits", *THREADS], *cold)
        self.crew("T2/paced", "pingpong", *paced, quick=())
        self.peers("T2/paced", ["limits", *THREADS], *paced)
        self.busy("T2/busy", "threads", ["mutex_pool", "glib_pool", "tbb_arena", "asio_pool", "java-forkjoin"])
        self.crew("T2/one-cpu", "pingpong", *one_cpu, quick=())
        self.peers("T2/one-cpu", ["limits", "mutex_pool"], *one_cpu)
        self.crew("T3", "forkjoin", workers=(1, 2, 16))
        self.peers("T3", ["limits"], quick=["limits"])
        self.peers("T3", SLOW_FORKJOIN, workers=(1, 2), seldom=(1, 2))
        self.peers("T3", ["java-forkjoin"], workers=(1, 2))
        self.crew("T3/futures", "forkjoin", "--futures", workers=(1, 2), quick=())
        self.crew("T5", "grain")
        self.peers("T5", ["mutex_pool", "java-forkjoin"], quick=["java-forkjoin"])
        self.peers("T5", [*SLOW_FORKJOIN, "asio_pool", "glib_pool", "libuv_work"], seldom=(2,))
        self.crew("T6", "doubles")
        self.crew("T6", "doubles", "--helping")
        self.peers("T6", FORKJOIN, quick=["openmp_tasks"])
        self.crew("T7", "footprint")
        self.peers("T7", THREADS, quick=["java-forkjoin", "mutex_pool"])
        self.crew("T8", "idle", workers=(4,))
        self.peers("T8", THREADS[:5], workers=(4,))
        self.crew("T9", "life", workers=(4,))
        self.peers("T9", ["limits", "mutex_pool", "glib_pool", "asio_pool", "java-fixed", "java-forkjoin"], workers=(4,),
                   quick=["mutex_pool", "glib_pool"])
        self.crew("T9/unused", "life", "--idle-workers", workers=(4,))
        self.peers("T9/unused", ["mutex_pool", "glib_pool", "asio_pool"], "--idle-workers", workers=(4,))
        self.crew("T10", "wakeup", quick=())
        self.peers("T10", ["limits", *THREADS])

    def processes(self):
        on, cold, paced, one_cpu = {"backend": "processes"}, ["--idle-us", "2000"], ["--idle-us", "100"], ["--one-cpu"]
        self.crew("P1", "throughput", **on, workers=(1, 2, 4, 16, 32), quick=(2, 16), seldom=(32,))
        self.peers("P1", ["socket_pool"], workers=(1, 4, 16, 32), seldom=(1, 4, 16, 32))
        self.peers("P1", ["socket_pool", "mpi_ranks", *PYTHON], quick=["socket_pool", "python-executor", "python-pool"])
        for n in sorted((*GROWTH, 1000000)):
            bench, tasks = f"P1/at {n} tasks", ["--tasks", str(n)]
            self.crew(bench, "throughput", *tasks, **on, quick=(), seldom=(2,))
            self.peers(bench, ["socket_pool"] if n <= 1000000 else [], *tasks, seldom=(2,), ask="P1")
            self.peers(bench, ["python-pool"] if n <= 10000 else [], *tasks, ask="P1")
        self.crew("P2", "pingpong", **on, workers=(1, 2, 16))
        self.peers("P2", ["limits", "socket_pool", "python-executor", "python-pool"], quick=["limits", "socket_pool"])
        self.peers("P2", ["mpi_ranks"], workers=(1,))
        self.peers("P2/line", ["limits"])
        self.crew("P2/cold", "pingpong", *cold, **on, quick=())
        self.peers("P2/cold", ["limits", "socket_pool"], *cold)
        self.peers("P2/cold", ["mpi_ranks"], *cold, workers=(1,))
        self.crew("P2/paced", "pingpong", *paced, **on, quick=())
        self.peers("P2/paced", ["limits", "socket_pool"], *paced)
        self.busy("P2/busy", "processes", ["socket_pool"])
        self.crew("P2/one-cpu", "pingpong", *one_cpu, **on, quick=())
        self.peers("P2/one-cpu", ["limits", "socket_pool"], *one_cpu)
        for name, size in SIZES.items():
            promised, option = name in PROMISED_SIZES, ["--size", str(size)]
            self.crew(f"P3/{name}", "payload", *option, **on, quick=(2,) if promised else (), seldom=() if promised else (2,))
            self.peers(f"P3/{name}", ["limits", *POOLS], *option, quick=["socket_pool"] if promised else (), seldom=() if promised else (2,))
            self.peers(f"P3/{name}", ["mpi_ranks"], *option, workers=(1,), seldom=() if promised else (1,))
        self.crew("P4", "life", **on, workers=(4,))
        self.peers("P4", ["limits", "socket_pool", *PYTHON], workers=(4,), quick=["limits", "socket_pool", "python-executor"])
        self.crew("P4/unused", "life", "--idle-workers", **on, workers=(4,), quick=())
        self.crew("P5", "casualty", **on)
        self.peers("P5", POOLS, quick=["socket_pool"])
        self.crew("P8", "sleepers", **on, workers=(4,), quick=())
        self.crew("P6", "footprint", **on)
        self.peers("P6", POOLS, quick=["socket_pool"])
        self.crew("T8/processes", "idle", **on, workers=(4,), quick=())

    def vocabulary(self):
        """Locks, queues and pipes, single processes and Pool.map."""
        def script(name, *options):
            return [PYTHON3, f"bench/baselines/{name}", *options]

        for bench in ("L1", "L2", "L3"):
            self.add(bench, "crew", [f"{self.native}/locking", "--bench", bench], quick=True)
            self.add(bench, "posix_locks", [f"{self.native}/posix_locks", "--bench", bench], quick=True)
            self.add(bench, "python-locks", script("locks.py", "--bench", bench))
        for bench in ("Q1", "Q2", "Q1/echo", "Q2/echo"):
            self.add(bench, "crew", [f"{self.native}/passing", "--bench", bench], quick=True)
            self.add(bench, "passing_by_hand", [f"{self.native}/passing_by_hand", "--bench", bench], quick=True)
            self.add(bench, "python-passing", script("passing.py", "--bench", bench))
        for bench in ("Q2", "Q2/echo"):
            self.add(bench, "mpi_ranks", self.command("mpi_ranks", ["--bench", bench], 1))
        self.crew("M1", "kids", backend="processes", quick=())  # M2 too
        self.peers("M1", ["limits"])
        self.add("M1", "python-kids", script("kids.py"), turns=SELDOM)

    def counts(self):
        """Not times: they come out the same in every round."""
        for backend in ("threads", "processes"):
            self.add("Z", "crew", [PYTHON3, "bench/zero.py", f"{self.native}/zero", "--backend", backend], turns=ONCE)


def programs(build):
    """All programs, in the order of a round."""
    plan = Plan(build)
    plan.threads()
    plan.processes()
    plan.vocabulary()
    plan.counts()
    return plan.programs
