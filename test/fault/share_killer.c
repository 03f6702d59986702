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
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/family.h"
#include "ipc/outcome.h"
#include "runner.h"
#include "stepper.h"

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

struct victim {
	crew_promise p, before;
	void (*act)(crew_future *f);
};

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

/* What is done once in a process is not what we look at. */
static void warm_up(void *arg)
{
	crew_future_free(crew_promise_future(((struct victim *)arg)->before));
}

static void have_it(void *arg)
{
	struct victim *victim = arg;
	crew_future *f = crew_promise_future(victim->p);

	victim->act(f);
	crew_future_free(f);
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
	struct victim victim = { crew_future_share(f), crew_future_share(before), act };
	crew_promise q = crew_future_share(f);
	struct outcome *o = crew__outcome_at((uint32_t)victim.p.id_ - 1);
	pid_t other = fork_waiter(q);
	bool more = stepper_kill_after(stepper_fork(warm_up, have_it, &victim), k, false);
	int end, status, theirs;

	end = end_of(f, 50);
	while (end == 255 && !on_its_way(o) && (end = end_of(f, PATIENCE_MS)) == 255)
		break;
	if (end == 255 && on_its_way(o)) { /* the victim has not opened it: somebody else may */
		crew_future *g = crew_promise_future(victim.p);

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

/* Every 100th step, from a random first one. */
static void kill_each_step(void (*act)(crew_future *f))
{
	long stride = FAULTY ? 3 : stepper_stride(100), k, points = 0;
	int violations = 0;

	for (k = stepper_first(stride); round_of(act, k, &violations) && !violations; k += stride)
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
