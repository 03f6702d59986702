/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * step_killer.c: kill -9 a worker after each single instruction of its real loop, and look at what becomes of the tasks.
 *
 * A real executor runs, engine and all. Its worker 0 is parked; we attach to it (ptrace), submit a few tasks, let it make k steps and kill it. Worker 1
 * is stopped meanwhile, so that it is always the victim who has taken what there is; then it may go on, and must find everything. For
 * each k, until the victim would park again:
 *
 *	every future completes · at most one failed, with CREW_EWORKER, signal 9 and the victim's pid · nothing ran twice
 *	every result is right · who waited was woken · who asked to be told was told once
 *
 * The same with one task that is killed by crew_future_kill() after k steps: then the victim may go on for some more before it dies, and if it was in that
 * task, nobody else may fail: a doomed worker has nothing else.
 *
 * The sweep is off, and nobody who sleeps looks up by himself (CREW_WITHOUT_NET): both would repair what these tests are to find. Built with a
 * fault put in on purpose (CREW_FAULT_…), the very same killer must find it: that is what makes its silence worth something.
 */
#include <crew/crew.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pair.h"

#if defined(CREW_FAULT_NO_REOFFER) || defined(CREW_FAULT_RESULT_AFTER_DONE) || defined(CREW_FAULT_LOST_WAKE) || defined(CREW_FAULT_DEAF)
#define FAULTY 1
#else
#define FAULTY 0
#endif
#ifdef CREW_FAULT_LOST_WAKE /* it shows after hundreds of steps in a row; the others after a few */
#define USUAL_STRIDE 20
#elif FAULTY
#define USUAL_STRIDE 3
#else
#define USUAL_STRIDE 100
#endif

enum { TASKS = 8, DOOMED = 0, PATIENCE_MS = FAULTY ? 700 : 4000 };

/* Counts its run where it survives, and answers what only a whole run can. */
CREW_TASK(long, count_run, (crew_bytes, runs), (int, i))
{
	__atomic_add_fetch((unsigned char *)runs.data + i, 1, __ATOMIC_SEQ_CST);
	return (long)i * 1000 + 77;
}

/* Larger than a slot: the worker asks the engine for memory. */
CREW_TASK(crew_bytes, count_large, (crew_bytes, runs), (int, i))
{
	crew_bytes out = crew_result_alloc(300);

	__atomic_add_fetch((unsigned char *)runs.data + i, 1, __ATOMIC_SEQ_CST);
	memset(out.data, i + 1, out.len);
	return out;
}

struct round {
	crew_future *f[TASKS];
	uint32_t told;	/* callbacks of f[2] */
	uint32_t woken; /* the waiter of f[1] came back */
};

struct bench {
	crew_executor *ex;
	struct process_executor *p;
	crew_bytes runs;
	bool large;
	bool doom;  /* one of them is killed */
	uint32_t average;
	unsigned long failed, doomed, violations;
};

/* ---- the victim ---- */

/* k steps of the victim; the first ones lead out of its sleep, if it is asleep. False: it came to its sleep before. A request for memory sleeps too, but is
   answered: such a sleep is stepped over. */
static bool steps(struct bench *b, pid_t pid, long k, bool asleep)
{
	bool taken = false;

	for (long i = 0; i < k; i++) {
		taken |= ck_pr_load_64(&b->p->ring.rw->head) == ck_pr_load_64(&b->p->ring.pub->tail);
		if ((i > 50 || !asleep) && taken && (ck_pr_load_64(&b->p->ring.rw->parked[0]) & 1) && stepper_would_sleep(pid))
			return false;
		if (!stepper_step(pid, NULL, NULL))
			return false;
	}
	return true;
}

/* ---- a round ---- */

static void tell(crew_future *f, void *arg)
{
	struct round *r = arg;

	(void)f;
	__atomic_add_fetch(&r->told, 1, __ATOMIC_SEQ_CST);
}

static void *wait_for_one(void *arg)
{
	struct round *r = arg;

	(void)crew_future_wait(r->f[1], CREW_FOREVER);
	__atomic_store_n(&r->woken, 1, __ATOMIC_RELEASE);
	return NULL;
}

static bool right(struct bench *b, crew_future *f, int i)
{
	crew_bytes bytes;
	long y;

	if (!b->large)
		return crew_result(f, &y) == 0 && y == (long)i * 1000 + 77;
	if (crew_result(f, &bytes) || bytes.len != 300)
		return false;
	for (size_t k = 0; k < bytes.len; k++)
		if (((unsigned char *)bytes.data)[k] != (unsigned char)(i + 1))
			return false;
	return true;
}

static void complain(struct bench *b, long k, const char *what, int i)
{
	b->violations++;
	printf("after %ld steps: %s (task %d)\n", k, what, i);
}

static void judge(struct bench *b, struct round *r, pid_t victim, long k)
{
	int64_t limit = test_now_ms() + PATIENCE_MS;
	int failed = 0, spared = 0;

	/* first, while nobody else looks at anything */
	while ((!__atomic_load_n(&r->woken, __ATOMIC_ACQUIRE) || __atomic_load_n(&r->told, __ATOMIC_ACQUIRE) != 1) && test_now_ms() < limit)
		sched_yield();
	if (!__atomic_load_n(&r->woken, __ATOMIC_ACQUIRE))
		complain(b, k, "was waited for in vain", 1);
	if (__atomic_load_n(&r->told, __ATOMIC_ACQUIRE) != 1)
		complain(b, k, "was not told about once", 2);
	for (int i = 0; i < TASKS; i++) {
		unsigned char count;
		const crew_error *e;
		int left = (int)(limit - test_now_ms());

		if (crew_future_wait(r->f[i], left > 0 ? left : 0) == -ETIMEDOUT) {
			complain(b, k, "never completed", i);
			continue;
		}
		e = crew_future_error(r->f[i]);
		count = ((unsigned char *)b->runs.data)[i];
		if (count > 1)
			complain(b, k, "ran twice", i);
		if (e->code == 0 && (!right(b, r->f[i], i) || count != 1))
			complain(b, k, "has a wrong result", i);
		if (b->doom && i == DOOMED && e->code == -ECANCELED) {
			spared = e->worker > 0; /* it was running: the victim has no other */
			b->doomed += e->worker > 0;
			continue;
		}
		if (e->code && (e->code != CREW_EWORKER || e->signal != SIGKILL || e->worker != victim))
			complain(b, k, "failed with a wrong error", i);
		failed += e->code != 0;
	}
	if (failed > 1 - spared)
		complain(b, k, "is not the only one that failed", -1);
	b->failed += (unsigned long)failed;
}

/* One task is to be ended, whatever has become of it; then the victim goes on. Its SIGTERM is withheld: a doomed worker ends by itself, too. */
static void doom(struct bench *b, struct round *r, pid_t victim)
{
	int64_t limit = test_now_ms() + PATIENCE_MS;

	if (crew_future_kill(r->f[DOOMED], NULL, 0) == 0)
		while (!crew_future_done(r->f[DOOMED]) && test_now_ms() < limit)
			sched_yield();
	steps(b, victim, (long)(test_random() % 2000), false);
}

/* Submit, step, kill, judge. False: the victim had nothing left to do before k. */
static bool round_of(struct bench *b, pid_t victim, long k)
{
	struct round r = { 0 };
	pthread_t waiter;
	pid_t peer = crew_executor_worker_pid(b->ex, 1);
	bool more;

	memset(b->runs.data, 0, TASKS);
	kill(peer, SIGSTOP);
	stepper_seize(victim);
	ck_pr_store_32(&b->p->ring.rw->average, b->average);
	for (int i = 0; i < TASKS; i++)
		r.f[i] = b->large ? crew_submit(b->ex, count_large, b->runs, i) : crew_submit(b->ex, count_run, b->runs, i);
	CHECK_EQ(crew_future_on_done(r.f[2], tell, &r), 0);
	CHECK_EQ(pthread_create(&waiter, NULL, wait_for_one, &r), 0);
	while (ck_pr_load_32(&b->p->ring.pub->sleepers) == 0 && !__atomic_load_n(&r.woken, __ATOMIC_ACQUIRE))
		sched_yield();
	more = steps(b, victim, k, true);
	if (b->doom && more)
		doom(b, &r, victim);
	stepper_kill(victim);
	kill(peer, SIGCONT);
	judge(b, &r, victim, k);
	if (!b->violations)
		pthread_join(waiter, NULL);
	for (int i = 0; i < TASKS; i++)
		crew_future_free(r.f[i]);
	return more;
}

/* Every so manyth step, from a random first one. */
static void kill_each_step(struct bench b)
{
	long stride = FAULTY ? USUAL_STRIDE : stepper_stride(USUAL_STRIDE), k, points = 0;
	pid_t victim = 0;

	CREW_SCOPE (ex, crew_processes(2)) {
		b.ex = ex;
		b.p = process_executor_of(ex);
		b.runs = crew_shared_alloc(ex, TASKS);
		pair_stop_sweeping(ex);
		ck_pr_store_32(&b.p->ring.rw->average, b.average);
		for (k = stepper_first(stride);; k += stride, points++) {
			victim = pair_settle(ex, victim);
			if (!round_of(&b, victim, k) || b.violations)
				break;
		}
		printf("%ld points killed at, of %ld steps; %lu tasks failed with their worker, %lu doomed; %lu violations\n", points, k, b.failed,
		       b.doomed, b.violations);
		if (FAULTY && b.violations)
			_exit(0); /* found: but who waits for what is lost would wait for ever */
		CHECK_EQ(b.violations, 0u);
		CHECK(!FAULTY);
	}
}

#ifndef CREW_FAULT_DEAF /* which shows only where something is doomed */
TEST_WITHIN(a_worker_may_die_after_any_instruction_between_small_tasks, 600)
{
	kill_each_step((struct bench){ .average = 50 });
}

TEST_WITHIN(a_worker_may_die_after_any_instruction_between_long_tasks, 600)
{
	kill_each_step((struct bench){ .average = 1000000 });
}
#endif

#if !FAULTY
TEST_WITHIN(a_worker_may_die_after_any_instruction_of_a_large_answer, 600)
{
	kill_each_step((struct bench){ .large = true, .average = 50 });
}
#endif

#if !FAULTY || defined(CREW_FAULT_DEAF)
TEST_WITHIN(a_doomed_worker_may_die_after_any_instruction, 600)
{
	kill_each_step((struct bench){ .doom = true, .average = 50 });
}
#endif
