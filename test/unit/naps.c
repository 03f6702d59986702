/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * naps.c: who sleeps, who is woken, and whose threads come and go (lib/thread/parking.c,
 * thread_worker.c, placement.c).
 */
#include <crew/crew.h>
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>

#include "../runner.h"
#include "base/futex.h"
#include "thread/thread_pool.h"

/* pthread_create, of which only so many may succeed. The runtime of clang's ThreadSanitizer must keep its own. */
#if !(TEST_TSAN && defined(__clang__))
#define HAVE_FEW_THREADS 1
static int threads_left = -1; /* any number */

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg)
{
	static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (!real)
		real = (__typeof__(real))(uintptr_t)dlsym(RTLD_NEXT, "pthread_create");
	if (ck_pr_load_int(&threads_left) == 0)
		return EAGAIN;
	if (ck_pr_load_int(&threads_left) > 0)
		ck_pr_dec_int(&threads_left);
	return real(thread, attributes, fn, arg);
}
#endif

/* All who come are let through once `n` have come. */
static uint32_t arrived, wanted;

static void meet(void)
{
	uint32_t now = ck_pr_faa_32(&arrived, 1) + 1;

	if (now == wanted)
		crew__futex_wake(&arrived, INT_MAX, false);
	while ((now = load_acquire_32(&arrived)) < wanted)
		crew__futex_wait(&arrived, now, NEVER, false);
}

CREW_TASK(int, meets)
{
	meet();
	return crew_task_worker();
}
CREW_TASK(int, nothing)
{
	return 0;
}

/* Tasks that block without telling anybody are run all the same, as many at a time as there are workers: more
   than CPUs, more than one word of bits. The submitter sleeps meanwhile, so only the sentinel can see to it. */
static void all_meet(int workers)
{
	crew_future *fs[200];

	ck_pr_store_32(&arrived, 0);
	wanted = (uint32_t)workers;
	CREW_SCOPE (ex, crew_threads(workers)) {
		for (int i = 0; i < workers; i++)
			fs[i] = crew_submit(ex, meets);
		CHECK_EQ(crew_wait(fs, (size_t)workers, CREW_ALL_COMPLETED, CREW_FOREVER), workers);
	}
}
TEST(workers_that_block_are_replaced_by_others)
{
	for (int i = 0; i < 5; i++)
		all_meet(8);
}
TEST(more_than_two_words_of_workers_can_block_at_once)
{
	all_meet(150);
}

CREW_TASK(int, meets_at, (int, i))
{
	meet();
	return i;
}

/* A map has a hand for each worker, not for each CPU: items that sleep do so side by side. Cold, then warm. */
TEST(items_of_a_map_that_block_for_each_other_all_get_a_worker)
{
	int in[8], out[8];

	wanted = 8;
	CREW_SCOPE (ex, crew_threads(8)) {
		for (int i = 0; i < 8; i++)
			in[i] = i;
		for (int round = 0; round < 5; round++) {
			ck_pr_store_32(&arrived, 0);
			CHECK_EQ(crew_map(ex, meets_at, in, out, 8), 0);
			CHECK_EQ(out[7], 7);
		}
	}
}

/* How many links of the chain ran, or -EDEADLK. */
CREW_TASK(long, waits_for_next, (long, left))
{
	crew_executor *ex = crew_task_executor();
	long y = 0;
	int rc = left ? crew_take(crew_submit(ex, waits_for_next, left - 1), &y, NULL) : 0;

	return rc ? rc : y < 0 ? y : y + 1;
}

/* Each link runs on top of the one that waits for it until a stack is full; then on other workers' stacks, while they
   last. So a chain longer than one stack ends, well or with a clear error, but never in a wait that nobody ends. */
TEST(a_chain_of_waits_deeper_than_a_stack_ends)
{
	long depth = TEST_ASAN || TEST_TSAN ? 1000 : 20000, y;

	CREW_SCOPE (ex, crew_threads(3)) {
		CHECK_EQ(crew_run(ex, &y, waits_for_next, depth), 0);
		CHECK(y == depth + 1 || y == -EDEADLK);
	}
	CREW_SCOPE (ex, crew_threads(1)) {
		CHECK_EQ(crew_run(ex, &y, waits_for_next, depth), 0);
		CHECK(y == depth + 1 || y == -EDEADLK);
	}
}

/* When all is done every worker is parked, nobody searches and nobody watches. */
static bool all_asleep(struct thread_pool *pool)
{
	uint64_t bits = 0;

	for (int i = 0; i < WORKER_WORDS; i++)
		bits += (uint64_t)__builtin_popcountll(ck_pr_load_64(&pool->parked_bits[i]));
	return bits == (uint64_t)pool->count && ck_pr_load_32(&pool->parked) == bits && !ck_pr_load_32(&pool->search) &&
	       !ck_pr_load_32(&pool->sentinel) && !ck_pr_load_32(&pool->blocked);
}
TEST(an_idle_pool_is_wholly_asleep)
{
	CREW_SCOPE (ex, crew_threads(70)) {
		for (int i = 0; i < 1000; i++)
			CHECK_EQ(crew_post(ex, nothing), 0);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
		while (!all_asleep(pool_of(ex)))
			sched_yield();
	}
}

/* Each submit finds the pool at another step of falling asleep. On a busy machine each sleep takes milliseconds: then as many as there is time for, so
   that what hits the limit is a submit that was lost. */
TEST(no_submit_is_lost_while_workers_fall_asleep)
{
	size_t rounds = test_scaled(20000);
	int64_t patience = 2000 + (int64_t)test_scaled(2000);

	for (int workers = 1; workers <= 3; workers++)
		CREW_SCOPE (ex, crew_threads(workers)) {
			int64_t until = test_now_ms() + patience;

			for (size_t i = 0; i < rounds && test_now_ms() < until; i++) {
				int y;

				CHECK_EQ(crew_run(ex, &y, nothing), 0);
				for (uint64_t n = test_random() % 2000; n > 0; n--)
					ck_pr_stall();
			}
		}
}

/* Of each pair the first blocks, unknown to the pool, until the second has run; several threads submit pairs. One
   wake that is left to somebody who then blocks, and this hangs. */
CREW_TASK(void, blocks_until, (uint32_t *, word))
{
	while (!load_acquire_32(word))
		crew__futex_wait(word, 0, NEVER, false);
}
CREW_TASK(void, lets_go, (uint32_t *, word))
{
	store_release_32(word, 1);
	crew__futex_wake(word, INT_MAX, false);
}
static void *submits_pairs(void *ex)
{
	size_t rounds = test_scaled(3000);
	int64_t until = test_now_ms() + 10000 + (int64_t)test_scaled(5000);

	for (size_t i = 0; i < rounds && test_now_ms() < until; i++) {
		uint32_t word = 0;
		crew_future *first = crew_submit((crew_executor *)ex, blocks_until, &word);

		for (int n = (int)(i % 7) * 40; n > 0; n--)
			ck_pr_stall();
		CHECK_EQ(crew_post((crew_executor *)ex, lets_go, &word), 0);
		CHECK_EQ(crew_future_wait(first, CREW_FOREVER), 0);
		crew_future_free(first);
	}
	return NULL;
}
TEST_WITHIN(tasks_that_block_for_each_other_all_get_a_worker, 60)
{
	for (int workers = 4; workers <= 9; workers += 5)
		CREW_SCOPE (ex, crew_threads(workers)) {
			pthread_t submitter[3];

			for (int i = 0; i < 3; i++)
				CHECK_EQ(pthread_create(&submitter[i], NULL, submits_pairs, ex), 0);
			for (int i = 0; i < 3; i++)
				pthread_join(submitter[i], NULL);
			CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
		}
}

/* ---- threads ---- */

static uint32_t begun, ended;

static int begins(void *arg, int worker)
{
	(void)arg, (void)worker;
	ck_pr_inc_32(&begun);
	return 0;
}
static void ends(void *arg, int worker)
{
	(void)arg, (void)worker;
	ck_pr_inc_32(&ended);
}

TEST(a_thread_is_replaced_after_its_share_of_tasks)
{
	CREW_SCOPE (ex, crew_threads(.workers = 1, .max_tasks_per_child = 10, .initializer = begins,
				     .finalizer = ends)) {
		for (int i = 0; i < 100; i++)
			crew_post(ex, nothing);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
		CHECK_GE(ck_pr_load_32(&begun), 10u);
		CHECK_LE(ck_pr_load_32(&begun), 11u);
	}
	CHECK_EQ(begun, ended);
}

#ifdef HAVE_FEW_THREADS
TEST(a_pool_goes_on_with_the_threads_it_can_have)
{
	CREW_SCOPE (ex, crew_threads(8)) {
		crew_future *fs[100];

		ck_pr_store_int(&threads_left, 2);
		for (int i = 0; i < 100; i++)
			fs[i] = crew_submit(ex, nothing);
		CHECK_EQ(crew_wait(fs, 100, CREW_ALL_COMPLETED, CREW_FOREVER), 100);
		CHECK_EQ(crew_executor_error(ex, NULL), 0);
	}
}

/* Not one: everything fails with a sentence, nothing hangs. */
TEST(a_pool_that_can_have_no_thread_is_broken)
{
	ck_pr_store_int(&threads_left, 0);
	CREW_SCOPE (ex, crew_threads(2)) {
		crew_future *f = crew_submit(ex, nothing), *late = crew_submit(ex, nothing);

		CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
		CHECK_HAS(crew_future_error(f)->message, "not one worker thread");
		CHECK_EQ(crew_future_error(late)->code, CREW_EBROKEN);
		CHECK_EQ(crew_executor_error(ex, NULL), CREW_EBROKEN);
	}
}

/* A worker whose successor cannot be had goes on itself, with a finalizer and an initializer in between. */
TEST(a_worker_without_a_successor_goes_on)
{
	CREW_SCOPE (ex, crew_threads(.workers = 1, .max_tasks_per_child = 5, .initializer = begins,
				     .finalizer = ends)) {
		CHECK_EQ(crew_future_wait(crew_submit(ex, nothing), CREW_FOREVER), 0);
		ck_pr_store_int(&threads_left, 0);
		for (int i = 0; i < 49; i++)
			CHECK_EQ(crew_future_wait(crew_submit(ex, nothing), CREW_FOREVER), 0);
		CHECK_GE(ck_pr_load_32(&begun), 10u);
		ck_pr_store_int(&threads_left, -1);
	}
	CHECK_EQ(begun, ended);
}
#endif

/* ---- placement ---- */

CREW_TASK(int, stays_on, (int, cpu))
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	return pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}
CREW_TASK(int, is_on, (int, cpu))
{
	cpu_set_t set;

	pthread_getaffinity_np(pthread_self(), sizeof set, &set);
	return CPU_COUNT(&set) == 1 && CPU_ISSET((size_t)cpu, &set);
}

/* An affinity that the program gave a worker later is never put back to an older one. */
TEST(a_workers_affinity_is_the_programs_to_change)
{
	int cpu = sched_getcpu(), y;

	CREW_SCOPE (ex, crew_threads(1)) {
		CHECK_EQ(crew_run(ex, &y, stays_on, cpu), 0);
		for (int i = 0; i < 200; i++) {
			for (int n = 0; n < 20; n++)
				crew_post(ex, nothing);
			CHECK_EQ(crew_run(ex, &y, is_on, cpu), 0);
			CHECK_EQ(y, 1);
		}
	}
}

TEST(a_list_of_cpus_is_read_strictly)
{
	static const char *const bad[] = { "", "x", "0-", "-1", "1-0", "0,", ",0", "0-1-2", "0 ", "99999" };
	cpu_set_t set;

	CHECK_EQ(crew__cpus_parse("0", &set), 0);
	CHECK_EQ(CPU_COUNT(&set), 1);
	CHECK_EQ(crew__cpus_parse("0-0,0", &set), 0);
	CHECK_EQ(CPU_COUNT(&set), 1);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK_EQ(crew__cpus_parse(bad[i], &set), -EINVAL);
}
