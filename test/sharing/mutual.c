/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mutual.c: lock and rlock: who has them, who may release them, what an owner leaves who dies.
 */
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "ipc/mortal.h"
#include "sharers.h"

struct account {
	crew_lock lock;
	crew_rlock rlock;
	crew_value total; /* long */
	crew_event event, other;
	size_t times;
	pid_t maker;
};

static struct account open_account(void)
{
	struct account a = { crew_lock_make(), crew_rlock_make(), crew_value_make(long, 0), crew_event_make(), crew_event_make(), test_scaled(20000), getpid() };

	CHECK_EQ(crew_handle_error(a.lock), 0);
	CHECK_EQ(crew_handle_error(a.rlock), 0);
	CHECK_EQ(crew_handle_error(a.total), 0);
	return a;
}

static void close_account(struct account *a)
{
	CHECK_EQ(crew_drop(a->lock), 0);
	CHECK_EQ(crew_drop(a->rlock), 0);
	CHECK_EQ(crew_drop(a->total), 0);
	CHECK_EQ(crew_drop(a->event), 0);
	CHECK_EQ(crew_drop(a->other), 0);
}

/* ---- whose it is ---- */

TEST(an_owner_is_known_of_all_that_has_one)
{
	crew_condition condition = crew_condition_make((crew_rlock){ { 0, 0 } });
	crew_value value = crew_value_make(int, 0);
	crew_array array = crew_array_make(int, 3);
	crew_rwlock rwlock = crew_rwlock_make();

#define OWNED(h_)                                                       \
	do {                                                            \
		CHECK_EQ(crew_owner_of(h_).whose, CREW_NOBODYS);        \
		CREW_WITH (h_) {                                        \
			CHECK_EQ(crew_owner_of(h_).whose, CREW_MINE);   \
			CHECK_EQ(crew_owner_of(h_).pid, getpid());      \
		}                                                       \
		CHECK_EQ(crew_owner_of(h_).whose, CREW_NOBODYS);        \
		CHECK_EQ(crew_drop(h_), 0);                             \
		CHECK_EQ(crew_owner_of(h_).whose, CREW_NOBODYS);        \
	} while (0)
	CREW_WITH (crew_reading(rwlock))
		CHECK_EQ(crew_owner_of(rwlock).whose, CREW_NOBODYS); /* nobody writes */
	OWNED(condition);
	OWNED(value);
	OWNED(array);
	OWNED(rwlock);
}

/* ---- excluding ---- */

static void deposit(int i, void *arg)
{
	struct account *a = arg;
	long *total = crew_value_at(a->total);

	(void)i;
	for (size_t k = 0; k < a->times; k++) {
		if (k % 2) {
			CREW_WITH (a->lock)
				CREW_WITH (a->rlock)
					*total += 1;
		} else {
			CHECK_EQ(crew_acquire(a->lock), 0);
			*total += 1;
			CHECK_EQ(crew_release(a->lock), 0);
		}
	}
}
TEST_CARRIED(no_deposit_under_a_lock_is_lost)
{
	struct account a = open_account();

	crowd_start(4, deposit, &a);
	crowd_join();
	CHECK_EQ(crew_value_as(long, a.total), 4 * (long)a.times);
	close_account(&a);
}

static void deposit_deep(int i, void *arg)
{
	struct account *a = arg;

	(void)i;
	for (size_t k = 0; k < a->times / 2; k++)
		CREW_WITH (a->rlock) {
			CHECK_EQ(crew_try_acquire(a->rlock), 0);
			crew_value_as(long, a->total) += 1;
			CHECK_EQ(crew_release(a->rlock), 0);
			crew_value_as(long, a->total) += 1;
		}
}
TEST_CARRIED(no_deposit_under_a_recursive_lock_is_lost)
{
	struct account a = open_account();

	crowd_start(4, deposit_deep, &a);
	crowd_join();
	CHECK_EQ(crew_value_as(long, a.total), 8 * (long)(a.times / 2));
	close_account(&a);
}

/* ---- who may what ---- */

static void try_them(int i, void *arg)
{
	struct account *a = arg;
	int64_t start = test_now_ms();

	(void)i;
	CHECK(crew_lock_locked(a->lock) && crew_rlock_locked(a->rlock));
	CHECK_EQ(crew_try_acquire(a->lock), -EBUSY);
	CHECK_EQ(crew_try_acquire(a->rlock), -EBUSY);
	CHECK_EQ(crew_acquire_within(a->lock, 30), -ETIMEDOUT);
	CHECK_EQ(crew_acquire_within(a->rlock, 30), -ETIMEDOUT);
	CHECK_GE(test_now_ms() - start, 60);
	CHECK_EQ(crew_release(a->rlock), -EPERM);
	CHECK_EQ(crew_handle_recover(a->rlock), -EPERM);
	CHECK_EQ(crew_lock_owner(a->lock).whose, a->maker == getpid() ? CREW_THIS_PROCESS : CREW_ANOTHER_PROCESS);
	CHECK_EQ(crew_owner_of(a->rlock).whose, a->maker == getpid() ? CREW_THIS_PROCESS : CREW_ANOTHER_PROCESS);
	CHECK_EQ(crew_lock_owner(a->lock).pid, a->maker);
	CHECK_EQ(crew_release(a->lock), 0); /* anybody may */
}
/* Only an rlock's owner may release it; a lock anybody. */
TEST_CARRIED(anybody_may_release_a_lock_but_only_its_owner_an_rlock)
{
	struct account a = open_account();

	CHECK_EQ(crew_lock_owner(a.lock).whose, CREW_NOBODYS);
	CHECK_EQ(crew_acquire(a.lock), 0);
	CHECK_EQ(crew_acquire(a.rlock), 0);
	CHECK_EQ(crew_lock_owner(a.lock).whose, CREW_MINE);
	crowd_start(1, try_them, &a);
	crowd_join();
	CHECK(!crew_lock_locked(a.lock));
	CHECK_EQ(crew_release(a.lock), -EPERM);
	CHECK_EQ(crew_release(a.rlock), 0);
	CHECK_EQ(crew_release(a.rlock), -EPERM);
	close_account(&a);
}

/* Taking a lock twice would be for ever: it is an error. With a time limit it is a wait. */
TEST(a_lock_that_one_holds_is_edeadlk_or_times_out)
{
	struct account a = open_account();

	CHECK_EQ(crew_acquire(a.lock), 0);
	CHECK_EQ(crew_acquire(a.lock), -EDEADLK);
	CHECK_EQ(crew_try_acquire(a.lock), -EBUSY);
	CHECK_EQ(crew_acquire_within(a.lock, 10), -ETIMEDOUT);
	CHECK_EQ(crew_release(a.lock), 0);
	close_account(&a);
}

/* Dropped, zero, of another kind: every call says so. */
TEST(a_lock_that_is_none_is_ehandle)
{
	struct account a = open_account();
	crew_lock wrong = { a.rlock.handle }, none = { { 0, 0 } };

	CHECK_EQ(crew_acquire(wrong), CREW_EHANDLE);
	CHECK_EQ(crew_drop(wrong), CREW_EHANDLE);
	CHECK_EQ(crew_release(none), CREW_EHANDLE);
	CHECK_EQ(crew_try_acquire(none), CREW_EHANDLE);
	CHECK(!crew_lock_locked(none));
	close_account(&a);
	CHECK_EQ(crew_acquire(a.lock), CREW_EHANDLE);
	CHECK_EQ(crew_release(a.rlock), CREW_EHANDLE);
	CHECK_EQ(crew_handle_recover(a.rlock), CREW_EHANDLE);
	CHECK_EQ(crew_drop(a.lock), CREW_EHANDLE);
	CHECK_EQ(crew_handle_error(a.lock), CREW_EHANDLE);
}

static void wait_for_dropped(int i, void *arg)
{
	struct account *a = arg;

	(void)i;
	CHECK_EQ(crew_event_set(a->event), 0);
	CHECK_EQ(crew_acquire(a->lock), CREW_EHANDLE);
}
/* Whoever sleeps for it when it is dropped does not sleep on. */
TEST_CARRIED(a_drop_wakes_those_who_wait)
{
	struct account a = open_account();

	CHECK_EQ(crew_acquire(a.lock), 0);
	crowd_start(1, wait_for_dropped, &a);
	CHECK_EQ(crew_event_wait(a.event, CREW_FOREVER), 0);
	CHECK_EQ(crew_drop(a.lock), 0);
	crowd_join();
}

/* ---- dying ---- */

static void take_and_stay(void *arg)
{
	struct account *a = arg;

	CHECK_EQ(crew_acquire(a->lock), 0);
	CHECK_EQ(crew_acquire(a->rlock), 0);
	CHECK_EQ(crew_acquire(a->rlock), 0);
	crew_event_set(a->event);
	pause();
}
/* The next taker is told, and holds it; so is the next, until one repairs. */
TEST(a_dead_owners_lock_is_eownerdead_until_it_is_repaired)
{
	struct account a = open_account();
	pid_t pid = child_start(take_and_stay, &a);

	CHECK_EQ(crew_event_wait(a.event, CREW_FOREVER), 0);
	CHECK_EQ(crew_lock_owner(a.lock).whose, CREW_ANOTHER_PROCESS);
	child_kill(pid);
	CHECK_EQ(crew_lock_owner(a.lock).whose, CREW_DEAD);
	CHECK_EQ(crew_try_acquire(a.lock), -EOWNERDEAD);
	CHECK_EQ(crew_try_acquire(a.lock), -EBUSY);
	CHECK_EQ(crew_release(a.lock), 0);
	CHECK_EQ(crew_acquire(a.lock), -EOWNERDEAD);
	CHECK_EQ(crew_handle_recover(a.lock), 0);
	CHECK_EQ(crew_release(a.lock), 0);
	CHECK_EQ(crew_acquire(a.lock), 0);
	CHECK_EQ(crew_release(a.lock), 0);
	CHECK_EQ(crew_acquire_within(a.rlock, 5000), -EOWNERDEAD);
	CHECK_EQ(crew_acquire(a.rlock), 0);
	CHECK_EQ(crew_handle_recover(a.rlock), 0);
	CHECK_EQ(crew_release(a.rlock), 0);
	CHECK_EQ(crew_release(a.rlock), 0);
	CHECK(!crew_rlock_locked(a.rlock));
	close_account(&a);
}

static void inherit(int i, void *arg)
{
	struct account *a = arg;
	int rc = crew_acquire(a->lock);

	(void)i;
	CHECK(rc == 0 || rc == -EOWNERDEAD);
	if (rc)
		crew_value_add(a->total, 1);
	CHECK_EQ(crew_handle_recover(a->lock), 0);
	CHECK_EQ(crew_release(a->lock), 0);
}
/* Of many who sleep for it, one inherits, and all get it in the end. */
TEST_CARRIED(one_of_those_who_wait_inherits_the_lock_of_the_dead)
{
	struct account a = open_account();
	pid_t pid = child_start(take_and_stay, &a);

	CHECK_EQ(crew_event_wait(a.event, CREW_FOREVER), 0);
	crowd_start(5, inherit, &a);
	child_kill(pid);
	crowd_join();
	CHECK_EQ(crew_value_load(a.total), 1);
	close_account(&a);
}

/* CREW_WITH and CREW_GUARD do not run what may stand on broken ground, and leave the lock as they found it. */
static int guarded(crew_lock lock)
{
	CREW_GUARD (lock, return -1);
	return 1;
}
TEST(a_block_with_a_dead_owners_lock_is_skipped_and_raises)
{
	struct account a = open_account();
	pid_t pid = child_start(take_and_stay, &a);
	crew_error error;
	bool ran = false;

	CHECK_EQ(crew_event_wait(a.event, CREW_FOREVER), 0);
	child_kill(pid);
	CREW_WITH (a.lock)
		ran = true;
	CHECK(!ran && crew_caught(&error));
	CHECK_EQ(error.code, -EOWNERDEAD);
	CHECK_EQ(guarded(a.lock), -1);
	CHECK(crew_caught(&error));
	CHECK_EQ(crew_acquire(a.lock), -EOWNERDEAD);
	CHECK_EQ(crew_handle_recover(a.lock), 0);
	CHECK_EQ(crew_release(a.lock), 0);
	CREW_WITH (a.lock)
		ran = true;
	CHECK(ran);
	CHECK_EQ(guarded(a.lock), 1);
	CHECK_EQ(crew_try_acquire(a.lock), 0);
	close_account(&a);
}

static void *take_and_end(void *arg)
{
	struct account *a = arg;

	CHECK_EQ(crew_acquire(a->lock), 0);
	CHECK_EQ(crew_acquire(a->rlock), 0);
	return NULL;
}
static void take_in_a_thread_and_stay(void *arg)
{
	struct account *a = arg;
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, take_and_end, a), 0);
	pthread_join(thread, NULL);
	crew_event_set(a->event);
	pause();
}
/* A thread that ends: its lock is still its process's, which may release it; its rlock is nobody's any more. */
TEST(a_thread_that_ends_leaves_an_rlock_but_not_a_lock)
{
	struct account a = open_account();
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, take_and_end, &a), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(crew_acquire_within(a.lock, 50), -ETIMEDOUT);
	CHECK_EQ(crew_acquire(a.rlock), -EOWNERDEAD);
	CHECK_EQ(crew_release(a.lock), 0);
	CHECK_EQ(crew_acquire(a.lock), 0);
	CHECK_EQ(crew_release(a.lock), 0);
	close_account(&a);
}

static void *take_and_leave(void *arg)
{
	struct account *a = arg;
	int rc = crew_acquire(a->rlock);

	CHECK_EQ(crew_acquire(a->lock), 0);
	CHECK(rc == 0 || rc == -EOWNERDEAD);
	return NULL;
}
/* Threads that come and go, and leave what they took to others: their seats are taken again. */
TEST(what_another_gave_back_keeps_no_seat)
{
	struct account a = open_account();
	pthread_t thread;

	for (int i = 0; i < 100; i++) {
		CHECK_EQ(pthread_create(&thread, NULL, take_and_leave, &a), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		CHECK_EQ(crew_release(a.lock), 0);
	}
	CHECK_LE(crew__mortal_seats(), 4u);
	close_account(&a);
}
/* When that process dies too, so does the lock's owner. */
TEST(the_process_of_a_thread_that_ended_is_watched_too)
{
	struct account a = open_account();
	pid_t pid = child_start(take_in_a_thread_and_stay, &a);

	CHECK_EQ(crew_event_wait(a.event, CREW_FOREVER), 0);
	CHECK_EQ(crew_acquire_within(a.lock, 50), -ETIMEDOUT);
	child_kill(pid);
	CHECK_EQ(crew_acquire_within(a.lock, 10000), -EOWNERDEAD);
	CHECK_EQ(crew_acquire_within(a.rlock, 10000), -EOWNERDEAD);
	close_account(&a);
}

/* Somebody else's release does not make good what the dead left. */
TEST(a_release_by_another_does_not_hide_a_death)
{
	struct account a = open_account();
	pid_t pid = child_start(take_and_stay, &a);

	CHECK_EQ(crew_event_wait(a.event, CREW_FOREVER), 0);
	child_kill(pid);
	CHECK_EQ(crew_release(a.lock), 0);
	CHECK_EQ(crew_acquire(a.lock), -EOWNERDEAD);
	close_account(&a);
}

static void not_mine(void *arg)
{
	struct account *a = arg;

	CHECK_EQ(crew_lock_owner(a->lock).whose, CREW_ANOTHER_PROCESS);
	CHECK_EQ(crew_release(a->rlock), -EPERM);
	CHECK_EQ(crew_try_acquire(a->rlock), -EBUSY);
	CHECK_EQ(crew_release(a->lock), 0);
	CHECK_EQ(crew_acquire(a->lock), 0);
}
/* A forked child is somebody else, though it is a copy of one who holds them. */
TEST(a_forked_child_does_not_hold_its_parents_locks)
{
	struct account a = open_account();

	CHECK_EQ(crew_acquire(a.lock), 0);
	CHECK_EQ(crew_acquire(a.rlock), 0);
	child_join(child_start(not_mine, &a));
	CHECK_EQ(crew_acquire(a.lock), -EOWNERDEAD);
	CHECK_EQ(crew_release(a.rlock), 0);
	close_account(&a);
}

/* ---- signals ---- */

static void nothing(int signal)
{
	(void)signal;
}
static void storm(void)
{
	struct itimerval timer = { { 0, 200 }, { 0, 200 } };
	struct sigaction sa = { .sa_handler = nothing };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}
static void wait_in_a_storm(void *arg)
{
	struct account *a = arg;

	storm();
	CHECK_EQ(crew_acquire_within(a->lock, 60), -ETIMEDOUT);
	CHECK_EQ(crew_event_wait(a->other, 60), -ETIMEDOUT);
	crew_event_set(a->event);
	CHECK_EQ(crew_acquire(a->lock), 0);
	CHECK_EQ(crew_release(a->lock), 0);
}
/* Five thousand signals a second: neither an early end nor none. */
TEST(a_storm_of_signals_ends_no_wait_and_delays_none)
{
	struct account a = open_account();
	pid_t pid;

	CHECK_EQ(crew_acquire(a.lock), 0);
	pid = child_start(wait_in_a_storm, &a);
	CHECK_EQ(crew_event_wait(a.event, CREW_FOREVER), 0);
	CHECK_EQ(crew_release(a.lock), 0);
	child_join(pid);
	close_account(&a);
}

/* ---- executors ---- */

CREW_TASK(long, deposit_task, (crew_lock, lock), (crew_value, total), (long, times))
{
	for (long i = 0; i < times; i++)
		CREW_WITH (lock)
			crew_value_as(long, total) += 1;
	return times;
}
static void deposits_through(crew_executor *ex)
{
	struct account a = open_account();

	for (int i = 0; i < 8; i++)
		crew_submit(ex, deposit_task, a.lock, a.total, 500);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	CHECK_EQ(crew_value_load(a.total), 4000);
	close_account(&a);
}
/* As arguments of tasks, on every executor; made after it was opened. */
TEST(locks_pass_as_arguments_on_every_executor)
{
	CREW_SCOPE (ex, crew_threads(3))
		deposits_through(ex);
	CREW_SCOPE (ex, crew_processes(3))
		deposits_through(ex);
	CREW_SCOPE (ex, crew_inline())
		deposits_through(ex);
}

CREW_TASK(int, die_holding, (crew_lock, lock))
{
	CHECK_EQ(crew_acquire(lock), 0);
	raise(SIGKILL);
	return 0;
}
CREW_TASK(int, is_told, (crew_lock, lock))
{
	int rc = crew_acquire_within(lock, 10000);

	crew_handle_recover(lock);
	crew_release(lock);
	return rc;
}
TEST(a_worker_that_dies_with_a_lock_is_noticed_by_another)
{
	struct account a = open_account();
	int rc = 0;

	CREW_SCOPE (ex, crew_processes(2)) {
		CHECK_EQ(crew_future_wait(crew_submit(ex, die_holding, a.lock), CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_run(ex, &rc, is_told, a.lock), 0);
		CHECK_EQ(rc, -EOWNERDEAD);
		CHECK_EQ(crew_run(ex, &rc, is_told, a.lock), 0);
		CHECK_EQ(rc, 0);
	}
	close_account(&a);
}
