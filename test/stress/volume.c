/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * volume.c: a great many of everything. STRESS=1000 is ten times as many.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <crew/crew.h>

#include "../runner.h"

CREW_TASK(size_t, echo, (size_t, i))
{
	return i;
}
CREW_TASK(size_t, mark, (unsigned char *, marks), (size_t, i))
{
	__atomic_add_fetch(&marks[i], 1, __ATOMIC_RELAXED);
	return i;
}
CREW_TASK(crew_bytes, reflect, (crew_bytes, in), (size_t, n))
{
	crew_bytes out = crew_result_alloc(n);

	for (size_t i = 0; i < n; i++)
		((char *)out.data)[i] = ((const char *)in.data)[i % in.len];
	return out;
}
CREW_TASK(long, fib_by_submit, (int, n))
{
	long a = 0, b;
	crew_future *f;

	if (n < 2)
		return n;
	f = crew_submit(crew_task_executor(), fib_by_submit, n - 1);
	b = fib_by_submit(n - 2);
	return crew_take(f, &a, NULL) == 0 ? a + b : -1000000000;
}
CREW_TASK(long, fib_by_spawn, (int, n))
{
	if (n < 2)
		return n;
	crew_spawn(fib_by_spawn, a, n - 1);
	long b = fib_by_spawn(n - 2);
	return crew_sync(fib_by_spawn, a) + b;
}

static void check_all_once(const unsigned char *marks, size_t n)
{
	for (size_t i = 0; i < n; i++)
		CHECK_EQ(marks[i], 1);
}

/* A million futures at once on 16 workers: each task runs once, each result is its own. */
TEST_WITHIN(a_million_futures_run_once_each, 120)
{
	size_t n = test_scaled(1000000), y;
	crew_future **fs = malloc(n * sizeof *fs);
	unsigned char *marks = calloc(n, 1);

	CREW_SCOPE (ex, crew_threads(16)) {
		for (size_t i = 0; i < n; i++)
			fs[i] = crew_submit(ex, mark, marks, i);
		for (size_t i = 0; i < n; i++) {
			CHECK_EQ(crew_result(fs[i], &y), 0);
			CHECK_EQ(y, i);
		}
	}
	check_all_once(marks, n);
	free(marks);
	free(fs);
}

/* A million detached: posted by several threads. */
struct share {
	crew_executor *ex;
	unsigned char *marks;
	size_t begin, end;
};
static void *posts_share(void *argument)
{
	struct share *s = argument;

	for (size_t i = s->begin; i < s->end; i++)
		CHECK_EQ(crew_post(s->ex, mark, s->marks, i), 0);
	return NULL;
}
TEST_WITHIN(a_million_posts_of_four_threads_run_once_each, 120)
{
	size_t n = test_scaled(1000000);
	unsigned char *marks = calloc(n, 1);
	struct share shares[4];
	pthread_t threads[4];

	CREW_SCOPE (ex, crew_threads(16)) {
		for (size_t i = 0; i < 4; i++) {
			shares[i] = (struct share){ ex, marks, n * i / 4, n * (i + 1) / 4 };
			CHECK_EQ(pthread_create(&threads[i], NULL, posts_share, &shares[i]), 0);
		}
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
	}
	check_all_once(marks, n);
	free(marks);
}

/* A thousand rounds of open, submit, close. */
TEST_WITHIN(a_thousand_pools_come_and_go, 120)
{
	size_t rounds = test_scaled(1000), y;

	for (size_t i = 0; i < rounds; i++)
		CREW_SCOPE (ex, crew_threads(1 + (int)(i % 4))) {
			for (size_t k = 0; k < 1 + i % 10; k++)
				crew_submit(ex, echo, k);
			CHECK_EQ(crew_run(ex, &y, echo, i), 0);
			CHECK_EQ(y, i);
		}
}

/* STRESS=5000 is 10,000 rounds of each. What is left behind the runner finds; what only grows, these do. */
static int count_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void check_pools(enum crew_start start)
{
	size_t rounds = test_scaled(200), y;
	int before = 0;

	for (size_t i = 0; i < rounds; i++) {
		CREW_SCOPE (ex, crew_processes(.workers = 1 + (int)(i % 3), .start = start)) {
			CHECK_EQ(crew_run(ex, &y, echo, i), 0);
			CHECK_EQ(y, i);
		}
		if (i == 0)
			before = count_descriptors(); /* with the server's */
		CHECK_EQ(count_descriptors(), before);
	}
}

TEST_WITHIN(pools_of_processes_from_the_server_come_and_go, 1200)
{
	check_pools(CREW_START_SERVER);
}

TEST_WITHIN(pools_of_processes_forked_from_here_come_and_go, 1200)
{
	check_pools(CREW_START_FORK);
}

TEST_WITHIN(pools_of_processes_that_are_executed_come_and_go, 1200)
{
	check_pools(CREW_START_SPAWN);
}

/* Many futures on processes. */
TEST_WITHIN(many_futures_on_processes_have_their_own_results, 120)
{
	size_t n = test_scaled(200000), y;
	crew_future **fs = malloc(n * sizeof *fs);

	CREW_SCOPE (ex, crew_processes(4)) {
		for (size_t i = 0; i < n; i++)
			fs[i] = crew_submit(ex, echo, i);
		for (size_t i = 0; i < n; i++) {
			CHECK_EQ(crew_result(fs[i], &y), 0);
			CHECK_EQ(y, i);
		}
	}
	free(fs);
}

/* Bytes of random sizes, back and forth, on threads and processes. */
static void reflect_many(crew_executor *ex, size_t n)
{
	enum { WINDOW = 32 };
	crew_future *fs[WINDOW] = { NULL };
	size_t sizes[WINDOW] = { 0 };
	char in[5000];
	crew_bytes y;

	memset(in, 'r', sizeof in);
	for (size_t i = 0; i < n + WINDOW; i++) {
		size_t k = i % WINDOW;

		if (fs[k]) {
			CHECK_EQ(crew_take(fs[k], &y, NULL), 0);
			CHECK_EQ(y.len, sizes[k]);
			CHECK(y.len == 0 || (((char *)y.data)[0] == 'r' && ((char *)y.data)[y.len - 1] == 'r'));
			crew_bytes_free(y);
			fs[k] = NULL;
		}
		if (i < n) {
			sizes[k] = (size_t)(test_random() % (i % 50 == 0 ? 1000000 : 3000));
			fs[k] = crew_submit(ex, reflect, crew_bytes_make(in, 1 + (size_t)(test_random() % sizeof in)), sizes[k]);
		}
	}
}
TEST_WITHIN(bytes_of_random_sizes_come_back_whole, 120)
{
	CREW_SCOPE (ex, crew_threads(4))
		reflect_many(ex, test_scaled(50000));
	CREW_SCOPE (ex, crew_processes(3))
		reflect_many(ex, test_scaled(20000));
}

/* Nested submits and spawns, deep and wide, on one worker and on many. */
TEST_WITHIN(nested_work_ends_on_any_number_of_workers, 120)
{
	static const int workers[] = { 1, 2, 16 };
	int n = TEST_TSAN ? 14 : 20;
	long y, expected = TEST_TSAN ? 377 : 6765;

	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_threads(workers[i])) {
			crew_future *fs[8];

			for (int k = 0; k < 8; k++)
				fs[k] = k % 2 ? crew_submit(ex, fib_by_submit, n) : crew_submit(ex, fib_by_spawn, n);
			for (int k = 0; k < 8; k++) {
				CHECK_EQ(crew_result(fs[k], &y), 0);
				CHECK_EQ(y, expected);
			}
		}
}

/* A map over a million items. */
TEST_WITHIN(a_map_of_a_million_items_is_right, 120)
{
	size_t n = test_scaled(1000000), *in = malloc(n * sizeof *in), *out = malloc(n * sizeof *out);

	for (size_t i = 0; i < n; i++)
		in[i] = i;
	for (int round = 0; round < 2; round++)
		CREW_SCOPE (ex, round ? crew_processes(3) : crew_threads(3)) {
			memset(out, 0xff, n * sizeof *out);
			CHECK_EQ(crew_map(ex, echo, in, out, n), 0);
			for (size_t i = 0; i < n; i++)
				CHECK_EQ(out[i], i);
		}
	free(in);
	free(out);
}

/* As-completed over many futures is linear: a hundred thousand do not take for ever. */
TEST_WITHIN(as_completed_over_many_futures_is_linear, 60)
{
	size_t n = test_scaled(100000), turns = 0;
	crew_future **fs = malloc(n * sizeof *fs);

	CREW_SCOPE (ex, crew_threads(4)) {
		for (size_t i = 0; i < n; i++)
			fs[i] = crew_submit(ex, echo, i);
		CREW_AS_COMPLETED (f, fs, n) {
			crew_future_free(f);
			turns++;
		}
	}
	CHECK_EQ(turns, n);
	free(fs);
}
