/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * successions.c: the processes that fork workers are killed: zygote, keeper, server. Their workers go with a zygote; then everything goes on under another, or
 * fails with a sentence when there can be none. And workers that are replaced by spares.
 */
#include <crew/crew.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mercy.h"
#include "process/process_executor.h"
#include "runner.h"
#include "vitals.h"

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

CREW_TASK(int, spin_for_ever)
{
	for (volatile unsigned i = 0;; i++)
		;
	return 0;
}

static void check_square(crew_executor *ex, long x)
{
	long y;

	CHECK_EQ(crew_run(ex, &y, square, x), 0);
	CHECK_EQ(y, x * x);
}

static pid_t parent_of(pid_t pid)
{
	char path[64], line[256];
	pid_t parent = 0;
	FILE *status;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof line, status))
		sscanf(line, "PPid: %d", &parent);
	if (status)
		fclose(status);
	return parent;
}

static bool is_named(pid_t pid, const char *name)
{
	char path[64], text[32] = "";
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (file && !fgets(text, sizeof text, file))
		text[0] = 0;
	if (file)
		fclose(file);
	text[strcspn(text, "\n")] = 0;
	return strcmp(text, name) == 0;
}

/* The pid of worker 0, when it is there and another than that. */
static pid_t await_worker(crew_executor *ex, pid_t other)
{
	pid_t pid;

	while ((pid = crew_executor_worker_pid(ex, 0)) == 0 || pid == other)
		sched_yield();
	return pid;
}

/* The zygote of worker 0, and the keeper, once the program knows of it: one that only its zygote has heard of replaces nobody. */
static void await_keeper(crew_executor *ex, pid_t *ret_zygote, pid_t *ret_keeper)
{
	struct process_executor *p = process_executor_of(ex);

	*ret_zygote = parent_of(await_worker(ex, 0));
	do {
		sched_yield();
		pthread_mutex_lock(&p->succession); /* under which it is given up … */
		latch_take(&p->lock); /* … and taken */
		*ret_keeper = p->keeper.pidfd >= 0 ? p->keeper.pid : 0;
		latch_release(&p->lock);
		pthread_mutex_unlock(&p->succession);
	} while (!*ret_keeper);
}

/* A zygote's workers go with it, but not at once: until then they may take a task along. */
static void kill_with_workers(crew_executor *ex, pid_t zygote)
{
	int workers[2];

	for (int i = 0; i < 2; i++)
		workers[i] = vitals_watch(crew_executor_worker_pid(ex, i));
	kill(zygote, SIGKILL);
	for (int i = 0; i < 2; i++)
		vitals_await_end(workers[i]);
}

static const enum crew_start starts[] = { CREW_START_SERVER, CREW_START_FORK, CREW_START_SPAWN };

/* What ran fails; what waited goes on under another zygote. */
static void kill_zygote_of(crew_executor *ex)
{
	crew_future *running[2], *waiting;
	pid_t pids[2];
	long y;

	for (int i = 0; i < 2; i++)
		running[i] = crew_submit(ex, spin_for_ever);
	while (!crew_future_running(running[0]) || !crew_future_running(running[1]))
		sched_yield();
	waiting = crew_submit(ex, square, 3);
	for (int i = 0; i < 2; i++)
		pids[i] = crew_executor_worker_pid(ex, i); /* both run, so they are there */
	CHECK(parent_of(pids[0]) != getpid());
	kill(parent_of(pids[0]), SIGKILL);
	CHECK_EQ(crew_result(waiting, &y), 0);
	CHECK_EQ(y, 9);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(crew_future_wait(running[i], CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(running[i])->code, CREW_EWORKER);
		CHECK(crew_executor_worker_pid(ex, i) != pids[i]);
	}
}

TEST(a_killed_zygote_has_a_successor)
{
	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = starts[i])) {
			for (int round = 0; round < 3; round++) {
				pid_t zygote, keeper;

				check_square(ex, round);
				if (starts[i] == CREW_START_FORK && round == 0)
					await_keeper(ex, &zygote, &keeper);
				kill_zygote_of(ex);
			}
			CHECK_EQ(crew_executor_error(ex, NULL), 0);
		}
}

/* With it goes the server: another is made, for the program has no threads of its own. */
TEST(a_killed_zygote_has_a_successor_from_another_server)
{
	CREW_SCOPE (ex, crew_processes(2))
		for (int i = 0, worker = 0; i < 3; i++) {
			pid_t zygote, server;

			worker = await_worker(ex, worker);
			zygote = parent_of(worker);
			server = parent_of(zygote);
			CHECK(is_named(server, "crew-server"));
			kill(server, SIGKILL);
			kill_with_workers(ex, zygote);
			check_square(ex, i);
		}
}

/* The keeper of a forked zygote replaces it, and the zygote the keeper. Without both there can be no more workers: everything fails, with a sentence, and
   nothing hangs. */
TEST(zygote_and_keeper_killed_at_once_break_the_executor)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .start = CREW_START_FORK)) {
		crew_future *fs[3];
		pid_t zygote, keeper;

		for (int i = 0; i < 3; i++)
			fs[i] = crew_submit(ex, spin_for_ever);
		await_keeper(ex, &zygote, &keeper);
		kill(zygote, SIGSTOP); /* or it might have forked another before it dies */
		kill(keeper, SIGKILL);
		kill(zygote, SIGKILL);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(crew_future_wait(fs[i], CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(fs[2])->code, CREW_EBROKEN);
		CHECK_HAS(crew_future_error(fs[2])->message, "forks the workers");
		CHECK_EQ(crew_future_error(crew_submit(ex, square, 4))->code, CREW_EBROKEN);
		CHECK_EQ(crew_executor_error(ex, NULL), CREW_EBROKEN);
	}
}

TEST(a_killed_keeper_has_a_successor)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .start = CREW_START_FORK)) {
		pid_t zygote, keeper, next;

		await_keeper(ex, &zygote, &keeper);
		kill(keeper, SIGKILL);
		do
			await_keeper(ex, &zygote, &next);
		while (next == keeper);
		check_square(ex, 5);
		kill_with_workers(ex, zygote);
		check_square(ex, 6);
	}
}

CREW_TASK(long, slow_square, (long, x))
{
	for (volatile int i = 0; i < 200000; i++)
		;
	return x * x;
}

/* A spare is initialized before it is needed: the dead worker's number is another's at once, and a fresh one is forked to be the next. */
static int count_starts(void *arg, int worker)
{
	__atomic_add_fetch((uint32_t *)arg, 1, __ATOMIC_SEQ_CST);
	return worker < 0;
}

CREW_TASK(pid_t, which_worker)
{
	return getpid();
}

TEST(a_spare_takes_the_place_of_a_dead_worker)
{
	uint32_t *starts_seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CREW_SCOPE (ex, crew_processes(.workers = 1, .spares = 2, .start = CREW_START_FORK, .initializer = count_starts, .arg = starts_seen)) {
		pid_t old = await_worker(ex, 0), now, ran;

		CHECK_EQ(crew_executor_workers(ex), 1);
		CHECK_EQ(crew_executor_worker_pid(ex, 1), -EINVAL);
		for (uint32_t round = 0; round < 5; round++) {
			while (__atomic_load_n(starts_seen, __ATOMIC_SEQ_CST) < 3 + round)
				sched_yield();
			kill(old, SIGKILL);
			now = await_worker(ex, old);
			CHECK_EQ(crew_run(ex, &ran, which_worker), 0);
			CHECK_EQ(ran, now);
			old = now;
		}
	}
	munmap(starts_seen, 4096);
}

TEST(a_spare_takes_the_place_of_a_worker_that_retires)
{
	pid_t last = 0, ran;

	CREW_SCOPE (ex, crew_processes(.workers = 1, .spares = 1, .max_tasks_per_child = 1))
		for (int i = 0; i < 20; i++) {
			CHECK_EQ(crew_run(ex, &ran, which_worker), 0);
			CHECK(ran != last);
			last = ran;
		}
}

TEST(spares_do_not_run_tasks)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .spares = 3)) {
		pid_t first = await_worker(ex, 0), second, ran;

		while ((second = crew_executor_worker_pid(ex, 1)) == 0)
			sched_yield();
		for (int i = 0; i < 200; i++) {
			CHECK_EQ(crew_run(ex, &ran, which_worker), 0);
			CHECK(ran == first || ran == second);
		}
	}
}

/* ---- silence ---- */

/* Only a zygote knows how a worker died. One that is held up on a busy machine tells it later; here it is so for a time that once was too long. */
TEST(a_zygote_that_is_held_up_tells_of_a_death_later)
{
	const struct timespec a_while = { 2, 300000000 };

	CREW_SCOPE (ex, crew_processes(1)) {
		crew_future *f = crew_submit(ex, spin_for_ever);
		pid_t worker = await_worker(ex, 0), zygote = parent_of(worker);

		while (!crew_future_running(f))
			sched_yield();
		kill(zygote, SIGSTOP);
		kill(worker, SIGKILL);
		nanosleep(&a_while, NULL);
		kill(zygote, SIGCONT);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		CHECK_EQ(crew_future_error(f)->signal, SIGKILL);
	}
}

/* What is not heard of for ten seconds counts as dead; for so long no test waits. But those that come after it get their ten seconds. */
static void wait_no_longer_than(crew_executor *ex, int ms)
{
	ck_pr_store_64(&process_executor_of(ex)->silence, (uint64_t)ms * MS_TO_NS);
}

/* A zygote that does not answer is killed, and has a successor: what waits for its workers goes on. */
TEST_WITHIN(a_zygote_that_falls_silent_has_a_successor, 60)
{
	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = starts[i])) {
			pid_t workers[2] = { await_worker(ex, 0) }, zygote, keeper;
			crew_future *waits;
			int watched;
			long y;

			check_square(ex, 1);
			while ((workers[1] = crew_executor_worker_pid(ex, 1)) == 0)
				sched_yield();
			zygote = parent_of(workers[0]);
			if (starts[i] == CREW_START_FORK)
				await_keeper(ex, &zygote, &keeper);
			watched = vitals_watch(zygote);
			CHECK(watched >= 0);
			kill(zygote, SIGSTOP);
			wait_no_longer_than(ex, 1000);
			for (int k = 0; k < 2; k++)
				kill(workers[k], SIGKILL);
			waits = crew_submit(ex, square, 2);
			vitals_await_end(watched);
			wait_no_longer_than(ex, SILENCE_MS);
			CHECK_EQ(crew_result(waits, &y), 0);
			CHECK_EQ(y, 4);
			CHECK(parent_of(await_worker(ex, workers[0])) != zygote);
			CHECK_EQ(crew_executor_error(ex, NULL), 0);
		}
}

/* A program may do something else first, or instead, when it is executed to be a worker: as this one, if it is asked to. */
__attribute__((__constructor__)) static void never_come_to_main(void)
{
	while (getenv("CREW_TEST_SILENT"))
		pause();
}

TEST_WITHIN(workers_that_do_not_come_to_crew_init_break_the_executor, 60)
{
	setenv("CREW_TEST_SILENT", "1", 1);
	CREW_SCOPE (ex, crew_processes(.workers = 2, .start = CREW_START_SPAWN)) {
		crew_future *f = crew_submit(ex, square, 3);

		wait_no_longer_than(ex, 300);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
		CHECK_HAS(crew_future_error(f)->message, "did not come to crew_init()");
		CHECK_EQ(crew_executor_error(ex, NULL), CREW_EBROKEN);
	}
	unsetenv("CREW_TEST_SILENT");
}

/* A worker that a device keeps from dying is waited for a while, by who buries it and by who closes. Here it is a tracer that keeps it. */
TEST_WITHIN(a_worker_that_cannot_die_holds_nobody_up, 60)
{
	struct pollfd end = { .events = POLLIN };
	pid_t worker;
	int status;

	CREW_SCOPE (ex, crew_processes(.workers = 2)) {
		check_square(ex, 1);
		worker = await_worker(ex, 0);
		end.fd = (int)syscall(SYS_pidfd_open, worker, 0);
		if (ptrace(PTRACE_SEIZE, worker, 0, PTRACE_O_TRACEEXIT))
			SKIP("nobody may be traced here");
		wait_no_longer_than(ex, 1000);
		kill(parent_of(worker), SIGKILL);
		while (crew_executor_worker_pid(ex, 0) == worker)
			sched_yield();
		wait_no_longer_than(ex, SILENCE_MS);
		for (int i = 0; i < 10; i++)
			check_square(ex, i);
		CHECK(await_worker(ex, worker) != worker);
		CHECK_EQ(poll(&end, 1, 0), 0); /* it has not ended yet */
		ptrace(PTRACE_DETACH, worker, 0, 0);
		close(end.fd);
		worker = await_worker(ex, worker);
		CHECK_EQ(ptrace(PTRACE_SEIZE, worker, 0, PTRACE_O_TRACEEXIT), 0L); /* and once more, for the close */
		wait_no_longer_than(ex, 1000);
	}
	while (waitpid(worker, &status, __WALL) == worker && WIFSTOPPED(status))
		ptrace(PTRACE_CONT, worker, 0, 0);
}

/* ---- storms ---- */

struct storm {
	crew_executor *ex;
	pthread_t thread;
	uint32_t stop;
	unsigned long kills;
};

/* A zygote, its server or keeper, or a worker; whichever is found, and not to be spared. */
static pid_t victim(crew_executor *ex)
{
	int number = (int)(test_random() % 2);
	pid_t worker = crew_executor_worker_pid(ex, number), zygote = worker > 0 ? parent_of(worker) : 0;
	pid_t server = zygote > 1 ? parent_of(zygote) : 0;

	switch (test_random() % 3) {
	case 0:
		return mercy_for_worker(ex, number) ? 0 : worker;
	case 1:
		return is_named(zygote, "crew-zygote") && !mercy_for_zygote(ex) ? zygote : 0;
	default:
		return is_named(server, "crew-server") || is_named(server, "crew-keeper") ? server : 0;
	}
}

static void *kill_any(void *arg)
{
	struct storm *storm = arg;
	const struct timespec pause = { 0, 5000000 };

	while (!__atomic_load_n(&storm->stop, __ATOMIC_ACQUIRE)) {
		pid_t pid = victim(storm->ex);

		nanosleep(&pause, NULL);
		if (pid > 1 && kill(pid, SIGKILL) == 0)
			storm->kills++;
	}
	return NULL;
}

/* Each future ends once, right or with the death that ended it. An executor of FORK may lose zygote and keeper at once, and says so. */
static void run_storm(enum crew_start start, int n)
{
	struct storm storm = { .stop = 0 };
	crew_future **fs = calloc((size_t)n, sizeof *fs);
	int right = 0, lost = 0, broken = 0;

	CREW_SCOPE (ex, crew_processes(.workers = 2, .start = start)) {
		storm.ex = ex;
		CHECK_EQ(pthread_create(&storm.thread, NULL, kill_any, &storm), 0);
		for (int i = 0; i < n; i++)
			fs[i] = crew_submit(ex, slow_square, i);
		for (int i = 0; i < n; i++) {
			long y;
			int rc = crew_result(fs[i], &y), code = rc ? crew_future_error(fs[i])->code : 0;

			right += rc == 0 && y == (long)i * i;
			lost += code == CREW_EWORKER;
			broken += code == CREW_EBROKEN;
			crew_future_free(fs[i]);
		}
		__atomic_store_n(&storm.stop, 1, __ATOMIC_RELEASE);
		pthread_join(storm.thread, NULL);
	}
	printf("%d right, %d lost, %d broken, %lu kills\n", right, lost, broken, storm.kills);
	CHECK_EQ(right + lost + broken, n);
	CHECK(broken == 0 || start == CREW_START_FORK);
	free(fs);
}

TEST_WITHIN(tasks_survive_what_forks_their_workers_being_killed, 120)
{
	for (int i = 0; i < 3; i++)
		run_storm(starts[i], (int)test_scaled(2000));
}
