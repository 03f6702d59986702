/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host_killer.c: kill -9 a program in the middle of what it does with the library, and look at who is left.
 *
 *	test, to whom orphans fall (subreaper)
 *	  └─ host: prepares at its usual pace, then acts step by step, until it is killed
 *	       ├─ bystander: forked by the host, has a copy of every descriptor that was open then, lives on
 *	       └─ server, zygote, keeper, workers, a child, a tracker: whatever the library has started
 *
 * Short acts (submit, result, cancel) are interrupted after each single instruction. Long ones (open, close, starting a child, naming a block) at
 * each of their system calls: before it, in it, after it, and some instructions further on; what happens in between stays in the host's own memory, which
 * goes with it. Its other threads run as they like meanwhile.
 *
 * For each: every process that the library has started is gone, in half a second as a rule, and no name is left. Who is not gone has become the test's child,
 * whatever it calls itself and whoever forked it: none can be overlooked. The bystander keeps sockets open, so that nobody sees them end: those who
 * are to go must have seen the host's death itself.
 *
 * Built with a fault put in on purpose, the very same killer must find it:
 *
 *	CREW_FAULT_UNWATCHED    server and zygote look at their sockets only
 *	CREW_FAULT_LATE_WATCH   a child asks who its creator is when it begins to watch it, not before it was forked
 *	CREW_FAULT_NAME_FIRST   a block gets its name before the tracker hears of it
 */
#include <crew/crew.h>
#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"
#include "stepper.h"

#if defined(CREW_FAULT_UNWATCHED) || defined(CREW_FAULT_LATE_WATCH) || defined(CREW_FAULT_NAME_FIRST)
#define FAULTY 1
#else
#define FAULTY 0
#endif

enum { PATIENCE_MS = FAULTY ? 1000 : 30000, PROMISED_MS = 500, CHILDREN_MAX = 64, FURTHER = 200, WORKERS = 2, QUEUED = 3 };

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

/* Deaf to everything that can be refused. */
CREW_TASK(void, spin_for_ever)
{
	signal(SIGTERM, SIG_IGN);
	for (volatile unsigned i = 0;; i++)
		;
}

/* ---- the host ---- */

struct board {
	pid_t bystander; /* 0: there is none yet */
};

struct host {
	enum crew_start start;
	void (*prepare)(struct host *h);
	void (*act)(struct host *h);
	struct board *board; /* the test's, too */
	char name[64];
	crew_executor *ex;
	crew_future *f[QUEUED];
};

/* It ends with the test at last. */
static void leave_a_bystander(struct host *h)
{
	struct pollfd test = { (int)syscall(SYS_pidfd_open, getppid(), 0), POLLIN, 0 };
	pid_t pid = fork();

	CHECK(test.fd >= 0 && pid >= 0);
	if (pid == 0) {
		poll(&test, 1, -1);
		_exit(0);
	}
	close(test.fd);
	h->board->bystander = pid;
}

static void open_executor(struct host *h)
{
	h->ex = crew_processes_open(&(struct crew_processes_options){ .workers = WORKERS, .start = h->start }, sizeof(struct crew_processes_options));
}

/* Everything was done once. */
static void warm_up(struct host *h)
{
	long y;

	open_executor(h);
	for (long i = 0; i < 3; i++) {
		crew_future *f = crew_submit(h->ex, square, i);

		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, i * i);
		crew_future_cancel(f, NULL);
		crew_future_free(f);
	}
}

static void before_submit(struct host *h)
{
	warm_up(h);
	leave_a_bystander(h);
}

/* The first finds the workers asleep, the others perhaps not. */
static void submit(struct host *h)
{
	for (long i = 0; i < QUEUED; i++)
		h->f[i] = crew_submit(h->ex, square, i);
}

static void before_result(struct host *h)
{
	warm_up(h);
	submit(h);
	leave_a_bystander(h);
}

static void take_results(struct host *h)
{
	long y;

	for (int i = 0; i < QUEUED; i++)
		(void)crew_take(h->f[i], &y, NULL);
}

/* All workers are busy for ever, and deaf. */
static void before_cancel(struct host *h)
{
	struct crew_stats stats;

	warm_up(h);
	for (int i = 0; i < WORKERS; i++)
		crew_post(h->ex, spin_for_ever);
	while (crew_executor_stats(h->ex, &stats, sizeof stats) == 0 && stats.running < WORKERS)
		sched_yield();
	submit(h);
	leave_a_bystander(h);
}

static void cancel(struct host *h)
{
	for (int i = 0; i < QUEUED; i++)
		crew_future_cancel(h->f[i], NULL);
	for (int i = 0; i < QUEUED; i++)
		crew_future_free(h->f[i]);
}

static void before_close(struct host *h)
{
	warm_up(h);
	submit(h);
	leave_a_bystander(h);
}

static void close_executor(struct host *h)
{
	crew_executor_close(h->ex);
}

static void start_child(struct host *h)
{
	(void)crew_start_with((.start = h->start, .daemon = true), spin_for_ever);
}

static void name_block(struct host *h)
{
	crew_block block = crew_block_make(h->name, 1000);

	crew_block_drop(block);
	crew_block_unlink(h->name);
}

static void prepare(void *arg)
{
	struct host *h = arg;

	h->prepare(h);
}

static void act(void *arg)
{
	struct host *h = arg;

	h->act(h);
}

/* ---- who and what is left ---- */

/* Our children but for the bystander, dead or alive. How many; the first of them are in pids. */
static int children(pid_t bystander, pid_t pids[CHILDREN_MAX])
{
	char path[64];
	int count = 0, pid;
	FILE *file;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
	file = fopen(path, "re");
	CHECK(file != NULL);
	while (count < CHILDREN_MAX && fscanf(file, "%d", &pid) == 1)
		if (pid != bystander)
			pids[count++] = pid;
	fclose(file);
	return count;
}

/* Has everybody gone whom the host has left, but for the bystander? Those that have are reaped. */
static bool all_gone(pid_t bystander)
{
	pid_t pids[CHILDREN_MAX];

	while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
		;
	return children(bystander, pids) == 0;
}

/* Whoever is left, and all that he leaves. */
static void end_all(void)
{
	pid_t pids[CHILDREN_MAX];
	int count;

	while ((count = children(0, pids)) > 0) {
		for (int i = 0; i < count; i++)
			kill(pids[i], SIGKILL);
		while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
			;
	}
}

/* A /dev/shm of our own. False: nobody may have that here, and there may be other programs' names in it. */
static bool hide_names(void)
{
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("none", "/dev/shm", "tmpfs", 0, "mode=1777") == 0;
}

static bool is_left(const struct host *h, bool alone)
{
	DIR *directory = opendir("/dev/shm");
	struct dirent *entry;
	bool left = false;

	CHECK(directory != NULL);
	while ((entry = readdir(directory)))
		left |= alone ? entry->d_name[0] != '.' : strcmp(entry->d_name, h->name) == 0;
	closedir(directory);
	return left;
}

/* ---- a round ---- */

struct bench {
	struct host host;
	bool private_names;
	long late, slowest, violations;
};

static void complain(struct bench *b, const char *what, long k)
{
	b->violations++;
	printf("killed at %ld: left is %s\n", k, what);
}

static const char *name_of(pid_t pid, char text[32])
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%31s", text) != 1)
		snprintf(text, 32, "?");
	if (file)
		fclose(file);
	return text;
}

static void complain_of_those_left(struct bench *b, pid_t bystander, long k)
{
	pid_t pids[CHILDREN_MAX];
	int count = children(bystander, pids);
	char text[32];

	for (int i = 0; i < count; i++)
		complain(b, name_of(pids[i], text), k);
}

/* The host is dead. */
static void judge(struct bench *b, long k)
{
	pid_t bystander = b->host.board->bystander;
	int64_t start = test_now_ms(), took;
	bool gone;

	while (!(gone = all_gone(bystander)) && test_now_ms() - start < PATIENCE_MS)
		sched_yield();
	took = test_now_ms() - start;
	b->late += took > PROMISED_MS;
	b->slowest = took > b->slowest ? took : b->slowest;
	if (!gone)
		complain_of_those_left(b, bystander, k);
	else if (is_left(&b->host, b->private_names))
		complain(b, "a name", k);
	end_all();
	b->host.board->bystander = 0;
}

/* After k instructions. */
static bool round_of_steps(long k, void *arg)
{
	struct bench *b = arg;
	pid_t pid = stepper_fork(prepare, act, &b->host);
	bool more = stepper_kill_after(pid, k, false);

	judge(b, k);
	return more && !b->violations;
}

/* At a border of a system call, k / 2; or, if k is odd, in it, or some instructions later. */
static bool round_of_calls(long k, void *arg)
{
	struct bench *b = arg;
	pid_t pid = stepper_fork(prepare, act, &b->host);
	bool more = true, inside = k / 2 % 2 == 0;

	for (long i = 0; i <= k / 2 && more; i++)
		more = stepper_call(pid);
	if (more && k % 2 && inside)
		stepper_kill_running(pid);
	else
		stepper_kill_after(pid, more && k % 2 ? (long)(test_random() % FURTHER) : 0, false);
	judge(b, k);
	return more && !b->violations;
}

/* With a fault in the library it must be found, without one nothing may be. */
static void kill_hosts(enum crew_start start, void (*before)(struct host *h), void (*what)(struct host *h), bool (*round)(long k, void *arg), long kills)
{
	struct bench b = { .host = { .start = start, .prepare = before, .act = what } };
	struct sweep sweep;

	snprintf(b.host.name, sizeof b.host.name, "crew-killed-%d", (int)getpid());
	b.host.board = mmap(NULL, sizeof *b.host.board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(b.host.board != MAP_FAILED);
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	b.private_names = hide_names();
	sweep = stepper_sweep(round, &b, kills);
	munmap(b.host.board, sizeof *b.host.board);
	printf("%ld kills, of %ld %s; the last was gone after %ld ms at most, after more than %d ms %ld times; %ld violations\n", sweep.kills, sweep.steps,
	       round == round_of_steps ? "steps" : "borders of system calls", b.slowest, PROMISED_MS, b.late, b.violations);
	fflush(stdout); /* the next hosts are forked from here */
	CHECK((b.violations > 0) == FAULTY);
}

/* ---- tests ---- */

static const enum crew_start starts[] = { CREW_START_SERVER, CREW_START_FORK, CREW_START_SPAWN };

static void kill_for_each_start(void (*before)(struct host *h), void (*what)(struct host *h), bool (*round)(long k, void *arg), long kills)
{
	for (int i = 0; i < (FAULTY ? 2 : 3); i++) /* SPAWN has the same helpers as SERVER */
		kill_hosts(starts[i], before, what, round, kills);
}

#if !FAULTY || defined(CREW_FAULT_UNWATCHED)
TEST_WITHIN(a_program_may_die_after_any_instruction_of_submit, 600)
{
	kill_for_each_start(before_submit, submit, round_of_steps, 10);
}
#endif

#if !FAULTY
TEST_WITHIN(a_program_may_die_after_any_instruction_of_taking_a_result, 600)
{
	kill_for_each_start(before_result, take_results, round_of_steps, 12);
}

TEST_WITHIN(a_program_may_die_after_any_instruction_of_cancel, 600)
{
	kill_for_each_start(before_cancel, cancel, round_of_steps, 6);
}

TEST_WITHIN(a_program_may_die_at_any_system_call_of_an_open, 600)
{
	kill_for_each_start(leave_a_bystander, open_executor, round_of_calls, 6);
}

TEST_WITHIN(a_program_may_die_at_any_system_call_of_a_close, 600)
{
	kill_for_each_start(before_close, close_executor, round_of_calls, 6);
}
#endif

#if !FAULTY
TEST_WITHIN(a_program_may_die_at_any_system_call_of_starting_a_child, 600)
{
	kill_for_each_start(leave_a_bystander, start_child, round_of_calls, 6);
}
#endif

#ifdef CREW_FAULT_LATE_WATCH /* which matters only to children that the program itself forks */
TEST_WITHIN(a_program_may_die_at_any_system_call_of_forking_a_child, 600)
{
	kill_hosts(CREW_START_FORK, leave_a_bystander, start_child, round_of_calls, EVERY_STEP);
}
#endif

#if !FAULTY || defined(CREW_FAULT_NAME_FIRST)
TEST_WITHIN(a_program_may_die_at_any_system_call_of_naming_a_block, 600)
{
	kill_hosts(CREW_START_DEFAULT, leave_a_bystander, name_block, round_of_calls, EVERY_STEP);
}
#endif
