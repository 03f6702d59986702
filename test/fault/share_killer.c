/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * share_killer.c: kill -9 a process after each single instruction of what it does with a shared promise, and look what becomes of the promise.
 *
 * The victim is a forked child under ptrace. It opens a handle, keeps the promise (or waits a moment, or cancels), gives it back. After k steps it is killed.
 * Two others share the promise, this process and a second child that waits. For each k, until the victim comes to its end:
 *
 *	both see the same end, once: the victim's value, or CREW_EBROKEN · nobody waits for ever · a handle that was not opened may still be kept
 *	when all have given it back, nothing is left of it
 *
 * Built with a fault put in on purpose (CREW_FAULT_NO_TAKEOVER: nobody looks whether a claimer died) it must find it.
 */
#include <crew/crew.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/family.h"
#include "ipc/outcome.h"
#include "runner.h"

#ifdef CREW_FAULT_NO_TAKEOVER
#define FAULTY 1
#else
#define FAULTY 0
#endif

enum { PATIENCE_MS = FAULTY ? 1500 : 20000, VALUE_SIZE = 100 };

struct value {
	unsigned char bytes[VALUE_SIZE];
};

static struct value value_of(int seed)
{
	struct value value;

	memset(&value, seed, sizeof value);
	return value;
}

static int keep(crew_future *f, int seed)
{
	struct value value = value_of(seed);

	return crew_future_set_result(f, &value, CREW_TYPE_OF(struct value));
}

/* How f ended, in a word that another process can say by its exit status: the seed, 200 broken, 201 cancelled, 255 not at all. */
static int end_of(crew_future *f, int ms)
{
	struct value y, right;
	int rc = crew_result_within(f, &y, ms);

	if (rc == -ETIMEDOUT)
		return 255;
	if (rc == -ECANCELED)
		return 201;
	if (rc)
		return crew_future_error(f)->code == CREW_EBROKEN ? 200 : 254;
	right = value_of(y.bytes[0]);
	return memcmp(&y, &right, sizeof y) ? 253 : y.bytes[0];
}

/* ---- the victim ---- */

static void keep_it(crew_future *f)
{
	(void)keep(f, 7);
}

static void wait_a_moment(crew_future *f)
{
	(void)crew_future_wait(f, 1);
}

static void cancel_it(crew_future *f)
{
	(void)crew_future_cancel(f, "by the victim");
}

static _Noreturn void victim(crew_promise p, crew_promise before, void (*act)(crew_future *f))
{
	crew_future *f;

	crew_future_free(crew_promise_future(before)); /* what is done once in a process is not what we look at */
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	raise(SIGSTOP);
	f = crew_promise_future(p);
	act(f);
	crew_future_free(f);
	_exit(0);
}

/* k steps, then kill. False: it had come to its end before. */
static bool steps(pid_t pid, long k)
{
	int status;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSTOPPED(status));
	for (long i = 0; i < k; i++) {
		CHECK_EQ(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), 0L);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status))
			return false;
	}
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) == pid && !WIFSIGNALED(status))
		;
	return true;
}

/* ---- judging ---- */

static bool on_its_way(struct outcome *o)
{
	for (int i = 0; i < STAKES_INLINE; i++)
		if ((ck_pr_load_64(&o->stake[i]) & STAKE_KIND) == STAKE_HANDLE)
			return true;
	return false;
}

static uint32_t alive(void)
{
	struct outcome *o;
	uint32_t n = 0;

	for (uint32_t i = 0; (o = crew__outcome_at(i)) != NULL; i++) {
		crew__outcome_sweep(o);
		n += (ck_pr_load_64(&o->life) & LIFE_STATE) != LIFE_FREE;
	}
	return n;
}

static pid_t fork_waiter(crew_promise p)
{
	pid_t pid = fork();

	if (pid == 0) {
		crew_future *f = crew_promise_future(p);
		int end = end_of(f, PATIENCE_MS);

		crew_future_free(f);
		_exit(end);
	}
	return pid;
}

/* False: the victim had come to its end. */
static bool round_of(void (*act)(crew_future *f), long k, int *violations)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(struct value)), *before = crew_future_new(0);
	crew_promise p = crew_future_share(f), q = crew_future_share(f), warm = crew_future_share(before);
	struct outcome *o = crew__outcome_at((uint32_t)p.id_ - 1);
	pid_t other = fork_waiter(q), pid = fork();
	bool more;
	int end, status, theirs;

	if (pid == 0)
		victim(p, warm, act);
	more = steps(pid, k);
	end = end_of(f, 50);
	while (end == 255 && !on_its_way(o) && (end = end_of(f, PATIENCE_MS)) == 255)
		break;
	if (end == 255 && on_its_way(o)) { /* the victim has not opened it: somebody else may */
		crew_future *g = crew_promise_future(p);

		CHECK_EQ(keep(g, 9), 0);
		crew_future_free(g);
		end = end_of(f, PATIENCE_MS);
	}
	CHECK_EQ(waitpid(other, &status, 0), other);
	theirs = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	if (theirs != end || (end != 7 && end != 9 && end != 200 && end != 201)) {
		printf("after %ld steps: it ended as %d here and as %d there\n", k, end, theirs);
		++*violations;
	}
	crew_future_free(f);
	crew_future_free(before);
	if (alive()) {
		printf("after %ld steps: %u outcomes are left\n", k, alive());
		++*violations;
	}
	return more;
}

/* Every 100th step, from a random first one; STRESS=10000: every one. */
static void kill_each_step(void (*act)(crew_future *f))
{
	size_t scaled = test_scaled(2);
	long stride = FAULTY ? 3 : scaled >= 200 ? 1 : (long)(200 / scaled), k, points = 0;
	int violations = 0;

	for (k = (long)(test_random() % (uint64_t)stride); round_of(act, k, &violations) && !violations; k += stride)
		points++;
	printf("%ld points killed at, of %ld steps; %d violations\n", points, k, violations);
	if (FAULTY && violations)
		_exit(0);
	CHECK_EQ(violations, 0);
	CHECK(!FAULTY);
}

TEST_WITHIN(who_keeps_a_promise_may_die_after_any_instruction, 600)
{
	kill_each_step(keep_it);
}

#if !FAULTY
TEST_WITHIN(who_waits_for_a_promise_may_die_after_any_instruction, 600)
{
	kill_each_step(wait_a_moment);
}

TEST_WITHIN(who_cancels_a_promise_may_die_after_any_instruction, 600)
{
	kill_each_step(cancel_it);
}
#endif
