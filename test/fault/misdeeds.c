/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * misdeeds.c: tasks that turn on their own process, and so on what a worker is made of: its descriptors, its mappings, its signals, its limits, its parent.
 * scribbles.c has what they may write into shared memory; here are the system calls.
 *
 *	for each start method, in random order:  honest tasks · a misdeed · honest tasks → all honest ones are right, the misdeed's future ends as the
 *	                                         table (misdeed_acts.c) says, and two tasks that wait for each other show that two workers work
 *	at last one that never ends, and a close → it ends, no worker is left; descriptors, children, mappings are counted by the runner
 *
 * What a misdeed does to its process stays done for the tasks that this worker runs later, which is what happens to programs, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "misdeeds.h"

enum { DEADLINE_MS = 60, PATIENCE_MS = 20000, HONEST = 16 };

static const enum crew_start starts[] = { CREW_START_SERVER, CREW_START_FORK, CREW_START_SPAWN };

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

/* Two of these end when both have begun: in two workers. */
CREW_TASK(int, meet, (crew_bytes, at), (uint32_t, all))
{
	__atomic_add_fetch((uint32_t *)at.data, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n((uint32_t *)at.data, __ATOMIC_ACQUIRE) < all)
		sched_yield();
	return 0;
}

CREW_TASK(int, misbehave, (int, which), (pid_t, opener))
{
	misdeed_program = opener;
	signal(SIGSEGV, SIG_DFL); /* no report of a sanitizer's */
	signal(SIGXFSZ, SIG_IGN);
	misdeeds[which].act();
	return which;
}

/* ---- judging ---- */

static void check_honest(crew_future *f, long x, bool may_be_lost)
{
	long y = 0;

	CHECK_NE(crew_future_wait(f, PATIENCE_MS), -ETIMEDOUT);
	if (crew_result(f, &y) == 0)
		CHECK_EQ(y, x * x);
	else
		CHECK(may_be_lost && crew_future_error(f)->code == CREW_EWORKER);
	crew_future_free(f);
}

static void check_end(crew_future *f, int which)
{
	int y = -1;

	CHECK_NE(crew_future_wait(f, PATIENCE_MS), -ETIMEDOUT);
	switch (misdeeds[which].end) {
	case RETURNS:
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, which);
		break;
	case MAY_DIE:
		if (crew_result(f, &y) == 0) {
			CHECK_EQ(y, which);
			break;
		}
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		break;
	case GOES_AWAY:
		if (crew_future_error(f)->code == CREW_EWORKER)
			break;
		/* fall through */
	case NEVER_ENDS:
		CHECK_EQ(crew_future_error(f)->code, CREW_EDEADLINE);
		break;
	default:
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
	}
	crew_future_free(f);
}

static void check_strength(crew_executor *ex, crew_bytes at)
{
	crew_future *fs[WORKERS];

	__atomic_store_n((uint32_t *)at.data, 0, __ATOMIC_RELEASE);
	for (int i = 0; i < WORKERS; i++)
		fs[i] = crew_submit(ex, meet, at, WORKERS);
	for (int i = 0; i < WORKERS; i++) {
		CHECK_EQ(crew_future_wait(fs[i], PATIENCE_MS), 0);
		crew_future_free(fs[i]);
	}
}

static void commit(crew_executor *ex, crew_bytes at, int which)
{
	int deadline = misdeeds[which].end >= NEVER_ENDS ? DEADLINE_MS : 0;
	crew_future *honest[HONEST], *f = NULL;

	printf("%s\n", misdeeds[which].name);
	fflush(stdout); /* shown when it fails */
	for (int i = 0; i < HONEST; i++) {
		if (i == HONEST / 2)
			f = crew_submit_with(ex, (.timeout_ms = deadline), misbehave, which, getpid());
		honest[i] = crew_submit(ex, square, i);
	}
	for (int i = 0; i < HONEST; i++)
		check_honest(honest[i], i, misdeeds[which].end == TAKES_OTHERS_ALONG);
	check_end(f, which);
	check_strength(ex, at);
}

static void shuffle(int order[MISDEEDS])
{
	for (int i = 0; i < MISDEEDS; i++) {
		int k = (int)(test_random() % (uint64_t)(i + 1));

		order[i] = order[k];
		order[k] = i;
	}
}

/* The last one never ends, and the executor is closed. */
static void close_over_one(crew_executor *ex)
{
	int which = 0, fds[WORKERS];

	while (misdeeds[which].end != NEVER_ENDS)
		which = (int)(test_random() % MISDEEDS);
	for (int i = 0; i < WORKERS; i++)
		fds[i] = (int)syscall(SYS_pidfd_open, crew_executor_worker_pid(ex, i), 0);
	crew_submit(ex, misbehave, which, getpid());
	CHECK_NE(crew_executor_shutdown(ex, CREW_KILL_RUNNING, DEADLINE_MS), -ETIMEDOUT);
	CHECK_EQ(crew_executor_close(ex), NULL);
	for (int i = 0; i < WORKERS; i++) {
		if (fds[i] < 0)
			continue; /* it was being replaced */
		CHECK_EQ(poll(&(struct pollfd){ fds[i], POLLIN, 0 }, 1, PATIENCE_MS), 1);
		close(fds[i]);
	}
}

static void misbehave_in_a_row(enum crew_start start)
{
	crew_executor *ex = crew_processes(.workers = WORKERS, .start = start, .initializer = look_around, .grace_ms = 20);
	crew_bytes at = crew_shared_alloc(ex, sizeof(uint32_t));
	int order[MISDEEDS];

	CHECK_EQ(crew_executor_error(ex, NULL), 0);
	shuffle(order);
	for (int i = 0; i < MISDEEDS; i++)
		if (misdeeds[order[i]].end != SPOILS && (misdeeds[order[i]].end != TAKES_OTHERS_ALONG || start != CREW_START_FORK)) /* which needs its keeper first */
			commit(ex, at, order[i]);
	CHECK_EQ(crew_executor_error(ex, NULL), 0);
	close_over_one(ex);
}

TEST_WITHIN(misdeeds_hurt_nobody_in_an_executor_from_the_server, 120)
{
	for (size_t i = 0; i < test_scaled(1); i++)
		misbehave_in_a_row(starts[0]);
}

TEST_WITHIN(misdeeds_hurt_nobody_in_an_executor_forked_from_here, 120)
{
	for (size_t i = 0; i < test_scaled(1); i++)
		misbehave_in_a_row(starts[1]);
}

TEST_WITHIN(misdeeds_hurt_nobody_in_an_executor_of_executed_workers, 120)
{
	for (size_t i = 0; i < test_scaled(1); i++)
		misbehave_in_a_row(starts[2]);
}

/* ---- one by one ---- */

/* What a task opens where its worker's descriptors were is the task's: nobody rings there. */
CREW_TASK(crew_bytes, open_files_there)
{
	crew_bytes bytes;
	struct stat st;
	int fds[8];

	close_range(3, ~0u, 0);
	for (int i = 0; i < 8; i++)
		fds[i] = memfd_create("mine", MFD_CLOEXEC);
	bytes = crew_result_alloc(1 << 20); /* the engine is rung for that */
	memset(bytes.data, 1, bytes.len);
	for (int i = 0; i < 8; i++)
		if (fds[i] < 0 || fstat(fds[i], &st) || st.st_size != 0)
			memset(bytes.data, 0, bytes.len);
	return bytes;
}

TEST(files_that_get_the_numbers_are_the_tasks_alone)
{
	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(.workers = 1, .start = starts[i])) {
			crew_bytes bytes;
			long y;

			CHECK_EQ(crew_run(ex, &bytes, open_files_there), 0);
			CHECK_EQ(bytes.len, (size_t)1 << 20);
			CHECK_EQ(*(char *)bytes.data, 1);
			crew_bytes_free(bytes);
			CHECK_EQ(crew_run(ex, &y, square, i), 0);
			CHECK_EQ(y, (long)i * i);
		}
}

/* A worker whose parent became its tracer stands still, which is neither alive nor dead. */
CREW_TASK(int, stand_still)
{
	be_traced();
	return 0;
}

static void check_gone(int pidfd)
{
	CHECK_EQ(poll(&(struct pollfd){ pidfd, POLLIN, 0 }, 1, PATIENCE_MS), 1);
	close(pidfd);
}

TEST(a_worker_that_has_itself_traced_is_ended)
{
	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(.workers = 1, .start = starts[i])) {
			int worker = (int)syscall(SYS_pidfd_open, crew_executor_worker_pid(ex, 0), 0);
			crew_future *f = crew_submit(ex, stand_still);

			CHECK_EQ(crew_future_wait(f, PATIENCE_MS), CREW_ERAISED);
			CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
			check_gone(worker);
		}
}

TEST(a_child_of_the_server_that_has_itself_traced_is_ended)
{
	for (int i = 0; i < 3; i += 2) {
		crew_process *p = crew_start_with((.start = starts[i]), stand_still);

		CHECK_EQ(crew_process_join(p, PATIENCE_MS), 0);
		CHECK_EQ(crew_process_error(p)->code, CREW_EWORKER);
		crew_process_close(p);
	}
}

/* No death signal comes to this one: it is ended all the same when the program is killed. */
CREW_TASK(pid_t, cut_ties_here)
{
	cut_ties();
	turn_deaf();
	return getpid();
}

static void host(enum crew_start start, pid_t *worker)
{
	crew_executor *ex = crew_processes(.workers = 1, .start = start);
	pid_t pid = 0;

	CHECK_EQ(crew_run(ex, &pid, cut_ties_here), 0);
	__atomic_store_n(worker, pid, __ATOMIC_RELEASE);
	sleep_for_ever();
}

TEST(a_worker_without_a_death_signal_dies_with_a_host_that_is_killed)
{
	pid_t *worker = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), pid;
	int fd;

	for (size_t i = 0; i < 3 * test_scaled(3); i++) {
		*worker = 0;
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0)
			host(starts[i % 3], worker);
		while (!__atomic_load_n(worker, __ATOMIC_ACQUIRE))
			sched_yield();
		fd = (int)syscall(SYS_pidfd_open, *worker, 0);
		CHECK(fd >= 0);
		kill(pid, SIGKILL);
		CHECK_EQ(waitpid(pid, NULL, 0), pid);
		check_gone(fd);
	}
	munmap(worker, 4096);
}

/* Whatever becomes of the tasks of such an executor, they end, it is closed, and another one has nothing of it. */
static void spoil(enum crew_start start, int which, crew_executor *other)
{
	long y = 0;

	CREW_SCOPE (ex, crew_processes(.workers = WORKERS, .start = start, .initializer = look_around, .grace_ms = 20, .task_timeout_ms = 500)) {
		crew_future *fs[HONEST];

		for (int i = 0; i < HONEST; i++)
			fs[i] = i == 5 ? crew_submit(ex, misbehave, which, getpid()) : crew_submit(ex, square, i);
		for (int i = 0; i < HONEST; i++)
			CHECK_NE(crew_future_wait(fs[i], PATIENCE_MS), -ETIMEDOUT);
	}
	CHECK_EQ(crew_run(other, &y, square, which), 0);
	CHECK_EQ(y, (long)which * which);
}

TEST_WITHIN(an_executor_whose_memory_is_taken_away_can_be_closed, 120)
{
	CREW_SCOPE (other, crew_processes(1))
		for (int which = 0; which < MISDEEDS; which++)
			for (int i = 0; i < 3 && misdeeds[which].end == SPOILS; i++)
				spoil(starts[i], which, other);
}
