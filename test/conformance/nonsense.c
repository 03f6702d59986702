/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nonsense.c: executors, tasks, streams, groups and ranges that are none, or not as the macros make them: each call answers with a code, none crashes or waits.
 */
#include <crew/crew.h>
#include <errno.h>
#include <stddef.h>

#include "../runner.h"

CREW_TASK(int, seven)
{
	return 7;
}
CREW_TASK(int, add, (int, a), (int, b))
{
	return a + b;
}
CREW_TASK(long, span, (size_t, begin), (size_t, end))
{
	return (long)(end - begin);
}

static void check_closed(crew_executor *ex, int code)
{
	CHECK_EQ(crew_executor_error(ex, NULL), code);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

/* An executor that could not be opened has no workers. */
TEST(a_failed_executor_has_no_workers)
{
	crew_executor *ex = crew_threads(-1);

	CHECK_EQ(crew_executor_workers(ex), 0);
	check_closed(ex, -EINVAL);
}

/* Nor is memory that never was one an executor. */
TEST(what_is_no_executor_is_ehandle)
{
	static uint64_t zeroes[1024];
	crew_executor *ex = (crew_executor *)(void *)zeroes;

	CHECK_EQ(crew_future_error(crew_submit(ex, seven))->code, CREW_EHANDLE);
	CHECK_EQ(crew_executor_shutdown(ex, 0, 0), CREW_EHANDLE);
	CHECK_EQ(crew_executor_worker_pid(NULL, 0), CREW_EHANDLE);
	CHECK_EQ(crew_executor_close(ex), NULL);
	crew_shared_free(NULL, crew_bytes_str("not ours"));
}

/* Options of an earlier version: what it did not have is 0. A struct of figures of an earlier version: the figures it has. */
TEST(callers_of_an_earlier_version_have_what_that_had)
{
	struct crew_submit_options options = { .timeout_ms = 600000, .retries = -1 };
	struct crew_stats stats = { .workers = 0, .submitted = 77 };
	int y = 0;

	CREW_SCOPE (ex, crew_inline()) {
		crew_future *f = crew_executor_submit(ex, CREW_TASK_OF(seven), &(CREW_ARGS(seven)){ 0 }, &options,
						      offsetof(struct crew_submit_options, retries));

		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, 7);
		CHECK_EQ(crew_executor_stats(ex, &stats, offsetof(struct crew_stats, submitted)), 0);
		CHECK(stats.workers == 1 && stats.submitted == 77);
	}
}

TEST(a_shutdown_has_no_other_flags)
{
	crew_executor *ex = crew_inline();
	int y = 0;

	CHECK_EQ(crew_executor_shutdown(ex, 4, 0), -EINVAL);
	CHECK_EQ(crew_run(ex, &y, seven), 0); /* nor was it shut down */
	CHECK_EQ(y, 7);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

TEST(many_submits_at_once_need_a_task_and_places)
{
	const void *columns[] = { NULL };
	crew_executor *ex = crew_inline();
	crew_future *fs[2];

	CHECK_EQ(crew_executor_submit_each(ex, NULL, columns, fs, 2, NULL, 0), CREW_ENOTASK);
	CHECK_EQ(crew_executor_submit_each(ex, CREW_TASK_OF(seven), columns, NULL, 2, NULL, 0), -EINVAL);
	CHECK_EQ(crew_executor_submit_each(ex, CREW_TASK_OF(seven), NULL, fs, 2, NULL, 0), -EINVAL);
	CHECK_EQ(crew_executor_submit_each(ex, CREW_TASK_OF(seven), columns, fs, SIZE_MAX, NULL, 0), -EINVAL);
	CHECK_EQ(crew_executor_submit_each(ex, CREW_TASK_OF(seven), NULL, NULL, 0, NULL, 0), 0);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

/* After a good one, too, when a submit takes its shortest way. */
TEST(what_is_no_task_is_none_to_an_executor_in_use)
{
	crew_task small = *CREW_TASK_OF(seven), half = small;
	int y = 0;

	small.size = sizeof small - 1;
	half.run = NULL;
	CREW_SCOPE (ex, crew_inline()) {
		CHECK_EQ(crew_run(ex, &y, seven), 0);
		CHECK_EQ(crew_future_error(crew_executor_submit(ex, NULL, NULL, NULL, 0))->code, CREW_ENOTASK);
		CHECK_EQ(crew_future_error(crew_executor_submit(ex, &small, NULL, NULL, 0))->code, CREW_ENOTASK);
		CHECK_EQ(crew_future_error(crew_executor_submit(ex, &half, NULL, NULL, 0))->code, CREW_ENOTASK);
		CHECK_EQ(crew_future_error(crew_executor_submit(ex, CREW_TASK_OF(add), NULL, NULL, 0))->code, -EINVAL);
		CHECK_EQ(crew_executor_post(ex, CREW_TASK_OF(add), NULL), -EINVAL);
		y = 0;
		CHECK_EQ(crew_result(crew_executor_submit(ex, CREW_TASK_OF(seven), NULL, NULL, 0), &y), 0); /* it has no parameters */
		CHECK_EQ(y, 7);
		CHECK_EQ(crew_executor_post(ex, CREW_TASK_OF(seven), NULL), 0);
	}
}

TEST(no_future_is_no_harm)
{
	CHECK_EQ(crew_future_ref(NULL), NULL);
	CHECK_EQ(crew_future_unref(NULL), NULL);
	CHECK_EQ(crew_cancel(NULL, 0), 0);
	CREW_SCOPE (ex, crew_inline()) {
		crew_future *fs[] = { crew_submit(ex, seven), NULL };

		CHECK_EQ(crew_cancel(fs, 2), 0); /* it is done: nothing is left that never starts */
	}
}

/* A promise of a value needs one; that of a string may have none. */
TEST(a_promise_is_kept_with_a_value)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(int)), *g = crew_future_new(CREW_TYPE_OF(const char *));
	const char *none = NULL, *text = "untouched";
	int seven_ = 7;

	CHECK_EQ(crew_future_set_result(f, NULL, CREW_TYPE_OF(int)), -EINVAL);
	CHECK_EQ(crew_future_set_result(f, &seven_, CREW_TYPE_OF(int)), 0);
	CHECK_EQ(crew_future_set_result(g, &none, CREW_TYPE_OF(const char *)), 0);
	CHECK_EQ(crew_result(g, &text), 0);
	CHECK_EQ(text, NULL);
	crew_future_free(f);
	crew_future_free(g);
}

TEST(groups_with_impossible_options_are_not_opened)
{
	struct {
		struct crew_group_options known;
		long unknown;
	} later = { .unknown = 1 };
	crew_executor *ex = crew_inline();

	check_closed(crew_group(ex, .max_queued = 3), -EINVAL);
	check_closed(crew_group(ex, .max_running = 1, .max_queued = -1), -EINVAL);
	check_closed(crew_group(ex, .timeout_ms = -1), -EINVAL);
	check_closed(crew_group(ex, .on_error = (enum crew_on_error)9), -EINVAL);
	check_closed(crew_group_open(ex, &later.known, sizeof later), -EINVAL);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

TEST(what_cannot_be_mapped_is_not)
{
	crew_executor *ex = crew_inline();
	crew_task half = *CREW_TASK_OF(seven);
	int out[3];

	half.run = NULL;
	CHECK_EQ(crew_executor_map(ex, &half, NULL, out, 3, NULL, 0), CREW_ENOTASK);
	CHECK_EQ(crew_executor_map(ex, CREW_TASK_OF(add), NULL, out, 3, NULL, 0), -EINVAL);
	CHECK_EQ(crew_map_with(ex, (.timeout_ms = -1), seven, out, 3), -EINVAL);
	CHECK_EQ(crew_map(ex, seven, out, 3), 0); /* no parameters, no columns */
	CHECK(out[0] == 7 && out[1] == 7 && out[2] == 7);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

static void feeds(void)
{
}
TEST(what_is_no_stream_says_so)
{
	crew_task unfed = *CREW_TASK_OF(seven);
	crew_executor *ex = crew_inline();
	int y;

	unfed.feed = NULL;
	for (int i = 0; i < 3; i++) {
		crew_stream *s = crew_stream_open(ex, i == 0 ? NULL : i == 1 ? &unfed : CREW_TASK_OF(seven), i == 2 ? NULL : feeds, NULL, NULL, 0);

		CHECK_EQ(crew_next(s, &y), i == 2 ? -EINVAL : CREW_ENOTASK); /* told once */
		CHECK_EQ(crew_next(s, &y), 0);
		CHECK_EQ(crew_stream_close(s), NULL);
	}
	CHECK_EQ(crew_next((crew_stream *)NULL, &y), CREW_EHANDLE);
	CHECK_EQ(crew_stream_error(NULL)->code, CREW_EHANDLE);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

CREW_TASK(long, span_by_int, (int, begin), (size_t, end))
{
	return (long)end - begin;
}
CREW_TASK(long, span_to_int, (size_t, begin), (int, end))
{
	return end - (long)begin;
}
CREW_TASK(crew_bytes, bytes_of_span, (size_t, begin), (size_t, end))
{
	return crew_result_alloc(end - begin);
}
CREW_TASK(const char *, text_of_span, (size_t, begin), (size_t, end))
{
	return begin < end ? "some" : "none";
}
CREW_TASK(void, nothing_of_span, (size_t, begin), (size_t, end))
{
	(void)begin, (void)end;
}
static int runs_raw(crew_call *call)
{
	return crew_call_return(call, "raw", 3);
}
CREW_RAW_TASK(raw, runs_raw);

static int gives_up(crew_call *call)
{
	(void)call;
	return -EDOM;
}
CREW_RAW_TASK(hopeless, gives_up);
/* A task that says of itself only what it must. */
TEST(an_error_of_a_task_from_nowhere_has_no_place)
{
	crew_task task = *CREW_TASK_OF(hopeless);
	crew_bytes in = { NULL, 0 };
	const crew_error *e;

	task.where = NULL;
	CREW_SCOPE (ex, crew_inline()) {
		e = crew_future_error(crew_executor_submit(ex, &task, &in, NULL, 0));
		CHECK_EQ(e->code, -EDOM);
		CHECK_STR(e->where, "");
		CHECK_STR(e->task, "hopeless");
	}
}

/* The first two parameters are the range, and what is to be combined has to have a size, and nothing to be freed. */
TEST(a_task_that_takes_no_range_is_etype)
{
	static const struct {
		const crew_task *task;
		int type;
	} unreduced[] = { { CREW_TASK_OF(bytes_of_span), CREW_TYPE_OF(crew_bytes) },
			  { CREW_TASK_OF(text_of_span), CREW_TYPE_OF(const char *) },
			  { CREW_TASK_OF(nothing_of_span), CREW_TYPE_OF(void) } };
	crew_task odd = *CREW_TASK_OF(span);
	crew_executor *ex = crew_inline();
	struct span_crew_args none = { 0, 0 };
	void *parts = NULL;
	size_t count = 0;

	odd.flags |= CREW_TASK_RAW_BYTES;
	CHECK_EQ(crew_executor_for(ex, 10, &odd, &none, NULL, 0), CREW_ETYPE);
	CHECK_EQ(crew_executor_for(ex, 10, CREW_TASK_OF(raw), &none, NULL, 0), CREW_ENOTASK);
	CHECK_EQ(crew_executor_for(ex, 10, CREW_TASK_OF(span_by_int), &none, NULL, 0), CREW_ETYPE);
	CHECK_EQ(crew_executor_for(ex, 10, CREW_TASK_OF(span_to_int), &none, NULL, 0), CREW_ETYPE);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(crew_executor_reduce(ex, 10, unreduced[i].task, &none, unreduced[i].type, &parts, &count), CREW_ETYPE);
	CHECK_EQ(crew_executor_close(ex), NULL);
}
