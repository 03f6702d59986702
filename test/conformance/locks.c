/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locks.c: CREW_WITH and CREW_GUARD over pthread mutexes.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long balance;

static bool is_free(pthread_mutex_t *m)
{
	int rc = crew_try_acquire(m);

	if (rc == 0)
		CHECK_EQ(crew_release(m), 0);
	return rc == 0;
}

/* The mutex as the start of shared memory. */
CREW_TASK(int, deposit, (crew_bytes, at), (int, times))
{
	pthread_mutex_t *m = at.data;
	long *total = (long *)(void *)((char *)at.data + sizeof *m);

	for (int i = 0; i < times; i++)
		CREW_WITH (m)
			*total += 1;
	return 0;
}
CREW_TASK(int, locks_twice, (crew_bytes, at))
{
	int inside = 0;

	CREW_WITH ((pthread_mutex_t *)at.data)
		CREW_WITH ((pthread_mutex_t *)at.data)
			inside = 1;
	return inside;
}

static crew_bytes shared_mutex(crew_executor *ex, int type)
{
	crew_bytes at = crew_shared_alloc(ex, sizeof(pthread_mutex_t) + sizeof(long));
	pthread_mutexattr_t a;

	memset(at.data, 0, at.len);
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_settype(&a, type);
	pthread_mutex_init(at.data, &a);
	pthread_mutexattr_destroy(&a);
	return at;
}

/* api.md's bank: no deposit is lost, on any executor. */
TEST_EACH(no_deposit_is_lost_under_the_lock, ex)
{
	crew_bytes at = shared_mutex(ex, PTHREAD_MUTEX_NORMAL);

	for (int i = 0; i < 8; i++)
		crew_submit(ex, deposit, at, 1000);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	CHECK_EQ(*(long *)(void *)((char *)at.data + sizeof(pthread_mutex_t)), 8000);
	crew_shared_free(ex, at);
}

/* A lock that cannot be had skips the block and fails the task: it cannot go unseen. */
TEST_EACH(a_lock_that_cannot_be_had_fails_the_task, ex)
{
	crew_bytes at = shared_mutex(ex, PTHREAD_MUTEX_ERRORCHECK);
	crew_future *f = crew_submit(ex, locks_twice, at);

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
	CHECK(crew_future_error(f)->code == -EDEADLK || crew_future_error(f)->code == EDEADLK);
	CHECK_HAS(crew_future_error(f)->where, "locks.c:");
	CHECK(is_free(at.data));
	crew_shared_free(ex, at);
}

static int leaves_by_return(void)
{
	CREW_WITH (&mutex)
		return 5;
	return 6;
}
/* Every way out gives the lock back. */
TEST(every_way_out_gives_the_lock_back)
{
	CREW_WITH (&mutex) {
		balance++;
		CHECK_EQ(crew_try_acquire(&mutex), -EBUSY);
	}
	CHECK(is_free(&mutex));
	for (int i = 0; i < 2; i++)
		CREW_WITH (&mutex) {
			if (i == 0)
				break;
			continue;
		}
	CHECK(is_free(&mutex));
	CHECK_EQ(leaves_by_return(), 5);
	CHECK(is_free(&mutex));
	CREW_WITH (&mutex)
		goto out;
	CHECK(0);
out:
	CHECK(is_free(&mutex));
}

static int guarded(int n)
{
	for (int i = 0; i < n; i++) {
		CREW_GUARD (&mutex, return -1);
		if (i == 3)
			break; /* means the loop */
		balance++;
	}
	return is_free(&mutex);
}
/* CREW_GUARD: the rest of the block; break and continue mean the loop. */
TEST(guard_holds_for_the_rest_of_the_block)
{
	CHECK_EQ(guarded(10), 1);
	CHECK_EQ(balance, 3);
}

/* Time. */
static void *tries_within_50(void *argument)
{
	int64_t start = test_now_ms();

	CHECK_EQ(crew_acquire_within(&mutex, 50), -ETIMEDOUT);
	CHECK_GE(test_now_ms() - start, 50);
	CHECK_EQ(crew_try_acquire(&mutex), -EBUSY);
	return argument;
}
TEST(acquire_within_runs_out_of_time)
{
	pthread_t thread;

	CHECK_EQ(crew_acquire(&mutex), 0);
	CHECK_EQ(pthread_create(&thread, NULL, tries_within_50, NULL), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(crew_release(&mutex), 0);
}

/* A robust mutex whose owner died is not repaired by taking it: that takes pthread_mutex_lock(). */
static void *takes_and_ends(void *m)
{
	CHECK_EQ(crew_acquire((pthread_mutex_t *)m), 0);
	return NULL;
}
TEST(a_robust_mutex_of_the_dead_is_not_held)
{
	pthread_mutexattr_t a;
	pthread_mutex_t robust;
	pthread_t thread;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &a);
	pthread_mutexattr_destroy(&a);
	CHECK_EQ(pthread_create(&thread, NULL, takes_and_ends, &robust), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(crew_acquire(&robust), -EOWNERDEAD);
	CHECK_EQ(crew_acquire(&robust), -ENOTRECOVERABLE);
	pthread_mutex_destroy(&robust);
}
