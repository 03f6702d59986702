/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bad_input.c: every misuse is a documented code and a sentence, on every executor; never a crash, never a hang.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, answer)
{
	return 42;
}
CREW_TASK(int, reads, (int *, p))
{
	return *p;
}
CREW_TASK(int, named, (int, n), (const char *, text), (void *, where))
{
	return n + (text != NULL) + (where != NULL);
}
CREW_TASK(int *, points)
{
	static int n;

	return &n;
}
CREW_TASK(int, takes_executor, (crew_executor *, ex))
{
	return ex != NULL;
}

/* The executor still works. */
static void check_alive(crew_executor *ex)
{
	int y = 0;

	CHECK_EQ(crew_run(ex, &y, answer), 0);
	CHECK_EQ(y, 42);
}

/* ---- executors ---- */

TEST(a_null_executor_is_ehandle)
{
	int y = 3, in = 1, out = 2;
	crew_future *f = crew_submit(NULL, answer);
	struct crew_stats stats;
	crew_error e;

	CHECK(f != NULL && crew_future_done(f));
	CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, CREW_EHANDLE);
	CHECK(crew_future_free(f) == NULL);
	CHECK_EQ(crew_post(NULL, answer), CREW_EHANDLE);
	CHECK_EQ(crew_run(NULL, &y, answer), CREW_ERAISED);
	CHECK_EQ(crew_map(NULL, reads, (int *const *)&in, &out, 1), CREW_EHANDLE);
	CHECK_EQ(crew_executor_shutdown(NULL, 0, 0), CREW_EHANDLE);
	CHECK_EQ(crew_executor_unfinished(NULL, NULL, 0), CREW_EHANDLE);
	CHECK_EQ(crew_executor_wait(NULL, 0), CREW_EHANDLE);
	CHECK_EQ(crew_executor_cancel(NULL, NULL), CREW_EHANDLE);
	CHECK_EQ(crew_executor_error(NULL, &e), CREW_EHANDLE);
	CHECK_EQ(crew_executor_stats(NULL, &stats, sizeof stats), CREW_EHANDLE);
	CHECK_EQ(crew_executor_fd(NULL), CREW_EHANDLE);
	CHECK_EQ(crew_drain(NULL), CREW_EHANDLE);
	CHECK_EQ(crew_executor_workers(NULL), CREW_EHANDLE);
	CHECK(crew_executor_name(NULL) != NULL);
	CHECK(crew_executor_close(NULL) == NULL);
	CHECK(crew_shared_alloc(NULL, 10).data == NULL);
	crew_shared_free(NULL, crew_bytes_make(NULL, 0));
	CHECK(y == 3 && out == 2);
}

/* What opens over nothing has failed. */
TEST(a_group_and_a_stream_over_null_have_failed)
{
	int y;
	crew_stream *s;

	CREW_SCOPE (g, crew_group(NULL)) {
		CHECK_EQ(crew_executor_error(g, NULL), CREW_EHANDLE);
		CHECK_EQ(crew_future_wait(crew_submit(g, answer), CREW_FOREVER), CREW_ERAISED);
	}
	s = crew_stream_open(NULL, CREW_TASK_OF(answer), NULL, NULL, NULL, 0);
	CHECK(s != NULL);
	CHECK(crew_next(s, &y) < 0);
	CHECK(crew_stream_error(s)->code != 0);
	CHECK(crew_stream_close(s) == NULL);
}

/* Impossible numbers of workers are -EINVAL with a sentence; the executor is an object that has failed. */
TEST_KIND(impossible_options_are_einval)
{
	static const int workers[] = { -1, INT_MIN, INT_MAX, 100000 };
	crew_error e = { 0 };

	NOT_WHERE(IMMEDIATE | GROUPED, "it has no such options");
	for (int i = 0; i < 4; i++)
		CREW_SCOPE (ex, kind_open(.workers = workers[i])) {
			CHECK(ex != NULL);
			CHECK_EQ(crew_executor_error(ex, &e), -EINVAL);
			CHECK(e.code == -EINVAL && e.message[0] != 0);
			CHECK_EQ(crew_future_wait(crew_submit(ex, answer), CREW_FOREVER), CREW_ERAISED);
			CHECK(crew_post(ex, answer) < 0);
			CHECK_EQ(crew_executor_shutdown(ex, 0, CREW_FOREVER), 0);
		}
	CREW_SCOPE (ex, kind_open(.max_tasks_per_child = -1))
		CHECK_EQ(crew_executor_error(ex, NULL), -EINVAL);
}

/* Options of a later version: the part we know counts; a field that we do not know and that is set is refused. */
TEST(options_of_a_later_version_are_refused_when_they_ask_for_what_we_lack)
{
	struct {
		struct crew_threads_options known;
		long unknown;
	} later = { .known = { .workers = 2 }, .unknown = 0 };
	crew_executor *ex = crew_threads_open(&later.known, sizeof later);

	CHECK_EQ(crew_executor_error(ex, NULL), 0);
	CHECK_EQ(crew_executor_workers(ex), 2);
	crew_executor_close(ex);
	later.unknown = 1;
	ex = crew_threads_open(&later.known, sizeof later);
	CHECK_EQ(crew_executor_error(ex, NULL), -EINVAL);
	crew_executor_close(ex);
	ex = crew_threads_open(NULL, 0);
	CHECK_EQ(crew_executor_error(ex, NULL), 0);
	crew_executor_close(ex);
}

/* ---- tasks ---- */

/* No task, or half a task, is CREW_ENOTASK. */
TEST_EACH(a_missing_task_is_enotask, ex)
{
	crew_future *f = crew_executor_submit(ex, NULL, NULL, NULL, 0);
	crew_task half = *CREW_TASK_OF(answer);
	int out;

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, CREW_ENOTASK);
	CHECK(crew_future_error(f)->message[0] != 0);
	CHECK_EQ(crew_executor_post(ex, NULL, NULL), CREW_ENOTASK);
	CHECK_EQ(crew_executor_map(ex, NULL, NULL, &out, 1, NULL, 0), CREW_ENOTASK);
	half.run = NULL;
	f = crew_executor_submit(ex, &half, NULL, NULL, 0);
	CHECK_EQ(crew_future_error(f)->code, CREW_ENOTASK);
	check_alive(ex);
}

/* A task without parameters needs none. */
TEST_EACH(no_arguments_are_enough_for_a_task_without_parameters, ex)
{
	crew_future *f = crew_executor_submit(ex, CREW_TASK_OF(answer), NULL, NULL, 0);
	crew_task hollow = *CREW_TASK_OF(answer);
	int y = 0;

	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 42);
	f = crew_executor_submit(ex, CREW_TASK_OF(answer), NULL, &(struct crew_submit_options){ .timeout_ms = 600000 }, sizeof(struct crew_submit_options));
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(crew_executor_post(ex, CREW_TASK_OF(answer), NULL), 0);
	CHECK_EQ(crew_future_error(crew_executor_submit(ex, CREW_TASK_OF(reads), NULL, NULL, 0))->code, -EINVAL);
	CHECK_EQ(crew_executor_post(ex, CREW_TASK_OF(reads), NULL), -EINVAL);
	hollow.arguments = 64; /* of which nobody says what they are */
	CHECK_EQ(crew_future_error(crew_executor_submit(ex, &hollow, NULL, NULL, 0))->code, -EINVAL);
	check_alive(ex);
}

/* A descriptor copied to the heap has no name in another process. */
TEST_EACH(a_descriptor_on_the_heap_is_no_task_for_processes, ex)
{
	crew_task *copy = malloc(sizeof *copy);
	CREW_ARGS(answer) none = { 0 };
	int y = 0, rc;
	crew_future *f;

	memcpy(copy, CREW_TASK_OF(answer), sizeof *copy);
	f = crew_executor_submit(ex, copy, &none, NULL, 0);
	rc = crew_result(f, &y);
	if (kind->traits & SEPARATE) {
		CHECK_EQ(rc, CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_ENOTASK);
	} else {
		CHECK(rc == 0 && y == 42);
	}
	crew_future_free(f);
	check_alive(ex);
	free(copy);
}

/* Nor has one that the program has put together when the workers were there already. */
TEST_EACH(a_descriptor_made_later_is_no_task_for_processes, ex)
{
	static crew_task made;
	int y = 0, out[2], rc;
	crew_future *f;

	check_alive(ex);
	made = *CREW_TASK_OF(answer);
	f = crew_executor_submit(ex, &made, NULL, NULL, 0);
	rc = crew_result(f, &y);
	if (kind->traits & SEPARATE) {
		CHECK_EQ(rc, CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_ENOTASK);
		CHECK_EQ(crew_executor_map(ex, &made, NULL, out, 2, NULL, 0), CREW_ENOTASK);
	} else {
		CHECK(rc == 0 && y == 42);
	}
	check_alive(ex);
}

/* A pointer stays here: processes refuse it and name the argument. */
TEST_EACH(a_pointer_argument_is_refused_by_processes, ex)
{
	int n = 5, y = 0;
	crew_future *f;

	if (!(kind->traits & SEPARATE))
		SKIP("the worker shares our memory; submitting.c shows that it works");
	f = crew_submit(ex, reads, &n);
	CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, CREW_EPOINTER);
	CHECK_STR(crew_future_error(f)->message, "argument 1 of 'reads' is a pointer; another process cannot follow it");
	f = crew_submit(ex, named, 1, "x", NULL);
	CHECK_STR(crew_future_error(f)->message, "argument 3 of 'named' is a pointer; another process cannot follow it");
	CHECK_EQ(crew_future_error(crew_submit(ex, takes_executor, ex))->code, CREW_EPOINTER);
	CHECK_EQ(crew_post(ex, reads, &n), CREW_EPOINTER);
	CHECK(crew_map(ex, reads, (int *[]){ &n }, &y, 1) < 0);
	check_alive(ex);
}

/* A pointer result could not be followed either. */
TEST_EACH(a_pointer_result_is_refused_by_processes, ex)
{
	crew_future *f;
	int *y = NULL;

	if (!(kind->traits & SEPARATE))
		SKIP("the worker shares our memory");
	for (int i = 0; i < 2; i++) { /* at first, and of an executor that is in use */
		f = crew_submit(ex, points);
		CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EPOINTER);
		CHECK(y == NULL);
		check_alive(ex);
	}
}
TEST_EACH(a_pointer_result_is_had_where_memory_is_shared, ex)
{
	int *y = NULL;

	if (kind->traits & SEPARATE)
		SKIP("another process has memory of its own");
	CHECK_EQ(crew_result(crew_submit(ex, points), &y), 0);
	CHECK(y != NULL);
	y = NULL;
	CHECK_EQ(crew_result(crew_submit_with(ex, (.timeout_ms = 600000), points), &y), 0);
	CHECK(y != NULL);
}

/* ---- futures ---- */

static void check_no_future(crew_future *f)
{
	int y = 3;

	CHECK_EQ(crew_result(f, &y), CREW_EHANDLE);
	CHECK_EQ(crew_result_within(f, &y, 0), CREW_EHANDLE);
	CHECK_EQ(crew_take(f, &y, NULL), CREW_EHANDLE);
	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_EHANDLE);
	CHECK_EQ(crew_future_cancel(f, NULL), CREW_EHANDLE);
	CHECK_EQ(crew_future_on_done(f, (crew_done_fn *)(void (*)(void))abort, NULL), CREW_EHANDLE);
	CHECK_EQ(crew_future_set_data(f, &y), CREW_EHANDLE);
	CHECK_EQ(crew_future_set_result(f, &y, CREW_TYPE_OF(int)), CREW_EHANDLE);
	CHECK_EQ(crew_future_set_error(f, 1, "x"), CREW_EHANDLE);
	CHECK_EQ(crew_future_set_running(f), CREW_EHANDLE);
	CHECK(crew_future_error(f) != NULL);
	CHECK_EQ(crew_future_error(f)->code, CREW_EHANDLE);
	CHECK(!crew_future_done(f) && !crew_future_running(f) && !crew_future_cancelled(f));
	CHECK(crew_future_data(f) == NULL);
	CHECK(crew_future_task(f) != NULL);
	CHECK(crew_future_free(f) == NULL);
	CHECK_EQ(y, 3);
}

/* NULL, stack, heap, misaligned, code, small numbers, the top of the address space: CREW_EHANDLE, none is touched. */
TEST(what_is_no_future_is_ehandle)
{
	static char fixed[128];
	char local[128];
	char *heap = malloc(128);

	memset(fixed, 0xff, sizeof fixed);
	memset(local, 0xff, sizeof local);
	memset(heap, 0xff, 128);
	check_no_future(NULL);
	check_no_future((crew_future *)(void *)local);
	check_no_future((crew_future *)(void *)(local + 1));
	check_no_future((crew_future *)(void *)heap);
	check_no_future((crew_future *)(void *)fixed);
	check_no_future((crew_future *)(uintptr_t)check_no_future);
	check_no_future((crew_future *)(uintptr_t)1);
	check_no_future((crew_future *)(uintptr_t)4096);
	check_no_future((crew_future *)(uintptr_t)0x7fffffffffe0);
	check_no_future((crew_future *)UINTPTR_MAX);
	check_no_future((crew_future *)(UINTPTR_MAX - 31));
	free(heap);
}

/* Nor is an address beside a live one. */
TEST_EACH(addresses_beside_a_future_are_ehandle, ex)
{
	crew_future *f = crew_submit(ex, answer);
	int y = 0;

	CHECK_EQ(crew_result(f, &y), 0);
	for (int i = 1; i < 32; i++)
		check_no_future((crew_future *)(void *)((char *)f + i));
	check_no_future((crew_future *)(void *)((char *)f + 32 * 1000));
	check_no_future((crew_future *)((uintptr_t)f & ~(uintptr_t)4095));
	CHECK_EQ(crew_result(f, &y), 0);
}

/* Given back twice: the second is ignored. Used after it was given back: CREW_EHANDLE, once the thread that completed it has let go too. */
TEST_EACH(a_future_given_back_is_ehandle, ex)
{
	crew_future *f = crew_submit(ex, answer);
	int y = 0;

	CHECK_EQ(crew_take(f, &y, NULL), 0);
	CHECK(crew_future_free(f) == NULL);
	CHECK(crew_future_free(f) == NULL);
	while (crew_future_wait(f, 0) != CREW_EHANDLE)
		sched_yield();
	check_no_future(f);
	CHECK_EQ(crew_wait(&f, 1, CREW_ALL_COMPLETED, CREW_FOREVER), CREW_EHANDLE);
	check_alive(ex);
}

/* After its executor is closed. */
TEST_KIND(a_future_of_a_closed_executor_is_ehandle)
{
	crew_future *f = NULL;

	CREW_SCOPE (ex, kind_open()) {
		f = crew_submit(ex, answer);
		crew_future_wait(f, CREW_FOREVER);
	}
	if (!(kind->traits & GROUPED)) /* a group's futures lie in the executor below, which is open */
		check_no_future(f);
}

/* One of many. */
TEST_EACH(a_foreign_pointer_among_futures_is_ehandle, ex)
{
	char local[64] = { 0 };
	crew_future *fs[] = { crew_submit(ex, answer), (crew_future *)(void *)local, crew_submit(ex, answer) };
	int turns = 0;

	CHECK_EQ(crew_wait(fs, 3, CREW_ALL_COMPLETED, CREW_FOREVER), CREW_EHANDLE);
	CHECK_EQ(crew_wait_any(fs + 1, 1, CREW_FOREVER), CREW_EHANDLE);
	CREW_AS_COMPLETED (f, fs, 3)
		turns += f != NULL;
	CHECK_LE(turns, 3);
	check_alive(ex);
}

/* ---- the rest ---- */

TEST_EACH(missing_places_are_einval, ex)
{
	crew_future *f = crew_submit(ex, answer);
	int in = 1;

	CHECK(crew_future_result(f, NULL, sizeof(int), CREW_TYPE_OF(int), CREW_FOREVER) < 0);
	CHECK_EQ(crew_future_on_done(f, NULL, NULL), -EINVAL);
	CHECK_EQ(crew_wait(NULL, 3, CREW_ALL_COMPLETED, 0), -EINVAL);
	CHECK_EQ(crew_cancel(NULL, 3), -EINVAL);
	CHECK(crew_map(ex, held, NULL, &in, NULL, 5) < 0);
	CHECK(crew_executor_stats(ex, NULL, 0) <= 0);
	check_alive(ex);
}

/* A result that is taken to nowhere is lost, and its future is given back. */
TEST_EACH(a_take_to_nowhere_gives_the_future_back, ex)
{
	crew_future *f = crew_submit(ex, answer);

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
	CHECK_EQ(crew_future_take(f, NULL, sizeof(int), CREW_TYPE_OF(int), NULL), -EINVAL);
	while (crew_future_wait(f, 0) != CREW_EHANDLE)
		sched_yield();
	check_alive(ex);
}

/* A place that is too small for the type, or of no type. */
TEST_EACH(a_place_too_small_for_its_type_is_etype, ex)
{
	crew_future *f = crew_submit(ex, answer);
	long y = 7;

	CHECK_EQ(crew_future_result(f, &y, 2, CREW_TYPE_OF(int), CREW_FOREVER), CREW_ETYPE);
	CHECK_EQ(crew_future_result(f, &y, 0, 0, CREW_FOREVER), CREW_ETYPE);
	CHECK_EQ(y, 7);
}

/* Submit options that make no sense fail that submit only. */
TEST_EACH(bad_submit_options_fail_that_submit, ex)
{
	crew_future *f = crew_submit_with(ex, (.timeout_ms = -5), answer), *g = crew_submit_with(ex, (.retries = -1), answer);

	CHECK_EQ(crew_future_error(f)->code, -EINVAL);
	CHECK_EQ(crew_future_error(g)->code, -EINVAL);
	check_alive(ex);
}

TEST_EACH(bad_group_options_are_einval, ex)
{
	CREW_SCOPE (g, crew_group(ex, .max_running = -1)) {
		CHECK_EQ(crew_executor_error(g, NULL), -EINVAL);
		CHECK_EQ(crew_future_wait(crew_submit(g, answer), CREW_FOREVER), CREW_ERAISED);
	}
	CREW_SCOPE (g, crew_group(ex, .when_full = (enum crew_when_full)9))
		CHECK_EQ(crew_executor_error(g, NULL), -EINVAL);
	check_alive(ex);
}

/* Submit options of a later version, to an executor and to none. */
TEST(submit_options_of_a_later_version_fail_that_submit)
{
	struct {
		struct crew_submit_options known;
		long unknown;
	} later = { .unknown = 1 };
	CREW_ARGS(answer) none = { 0 };
	crew_future *f;

	f = crew_executor_submit(NULL, CREW_TASK_OF(answer), &none, &later.known, sizeof later);
	CHECK_EQ(crew_future_error(f)->code, CREW_EHANDLE);
	CREW_SCOPE (ex, crew_inline()) {
		f = crew_executor_submit(ex, CREW_TASK_OF(answer), &none, &later.known, sizeof later);
		CHECK_EQ(crew_future_error(f)->code, -EINVAL);
		check_alive(ex);
	}
}

/* Inboxes. */
TEST(a_null_inbox_is_ehandle)
{
	CHECK_EQ(crew_inbox_fd(NULL), CREW_EHANDLE);
	CHECK_EQ(crew_inbox_drain(NULL), CREW_EHANDLE);
	CHECK(crew_inbox_close(NULL) == NULL);
}

/* A worker's pid: of processes only. */
TEST_EACH(only_processes_have_worker_pids, ex)
{
	crew_future_wait(crew_submit(ex, answer), CREW_FOREVER);
	if ((kind->traits & (SEPARATE | GROUPED)) == SEPARATE)
		CHECK_GE(crew_executor_worker_pid(ex, 0), 0);
	else if (!(kind->traits & GROUPED))
		CHECK_EQ(crew_executor_worker_pid(ex, 0), -EINVAL);
	CHECK_EQ(crew_executor_worker_pid(ex, -1), -EINVAL);
	CHECK_EQ(crew_executor_worker_pid(ex, 1000000), -EINVAL);
}
