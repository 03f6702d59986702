/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * helping.c: threads that run what they wait for: outside the workers where that was asked for, inside them as far as the stack goes. And what goes between the
 * tasks that a worker has taken already.
 */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <crew/crew.h>

#include "../runner.h"
#include "gate.h"

#define HERE crew_task_executor()

static struct gate gate; /* of all tests here: their tasks run in threads of the program */

CREW_TASK(int, stands)
{
	gate_pass(&gate);
	return 0;
}
static void occupy(crew_executor *ex)
{
	crew_post(ex, stands);
	gate_await(&gate, 1);
}

CREW_TASK(int, worker_index)
{
	return crew_task_worker();
}
static crew_future *own;
CREW_TASK(int, waits_for_itself)
{
	return crew_future_wait(own, CREW_FOREVER);
}

/* help: a thread that is no worker runs what it waits for, as one worker more. It waits for itself no more than a worker does. */
TEST(a_thread_that_waits_may_help)
{
	CREW_SCOPE (ex, crew_threads(.workers = 1, .help = true)) {
		int y = -1;

		occupy(ex);
		CHECK_EQ(crew_run(ex, &y, worker_index), 0);
		CHECK_EQ(y, 1);
		own = crew_submit(ex, waits_for_itself);
		CHECK_EQ(crew_result(own, &y), 0);
		CHECK_EQ(y, -EDEADLK);
		gate_open(&gate);
	}
}

/* Also in a loop of its own: two hold one another up here until both are there. */
CREW_TASK(void, meets, (size_t, begin), (size_t, end), (struct gate *, door))
{
	CHECK_EQ(end - begin, 1u);
	gate_add(door, crew_task_worker());
	gate_arrive(door);
	gate_await(door, 2);
}
CREW_TASK(int, meets_by_number, (size_t, i))
{
	meets(i, i + 1, &gate);
	return (int)i + 5;
}
TEST(who_calls_for_a_loop_works_along)
{
	CREW_SCOPE (ex, crew_threads(.workers = 1, .help = true)) {
		struct gate door = { 0 };
		size_t in[] = { 0, 1 };
		int out[2] = { 0 };

		CHECK_EQ(crew_for(ex, 2, meets, .door = &door), 0);
		CHECK(gate_count(&door, 0) == 1 && gate_count(&door, 1) == 1);
		CHECK_EQ(crew_map_with(ex, (.chunk = 1), meets_by_number, in, out, 2), 0);
		CHECK(out[0] == 5 && out[1] == 6);
		CHECK(gate_count(&gate, 0) == 1 && gate_count(&gate, 1) == 1);
	}
}

/* As a worker of it does without being asked to. */
CREW_TASK(int, loops, (crew_executor *, ex), (struct gate *, door))
{
	return crew_for(ex, 2, meets, .door = door);
}
TEST(a_worker_that_calls_for_a_loop_works_along)
{
	CREW_SCOPE (ex, crew_threads(2)) {
		struct gate door = { 0 };
		int y = -1;

		CHECK_EQ(crew_run(ex, &y, loops, ex, &door), 0);
		CHECK_EQ(y, 0);
		CHECK_EQ(door.arrived, 2u);
	}
}

/* Also one that is another's worker. */
CREW_TASK(int, runs_in, (crew_executor *, other))
{
	int y = -1;

	return crew_run(other, &y, worker_index) ? -1 : y;
}
TEST(a_worker_of_another_pool_may_help)
{
	CREW_SCOPE (ex, crew_threads(.workers = 1, .help = true))
		CREW_SCOPE (other, crew_threads(1)) {
			int y = -1;

			occupy(ex);
			CHECK_EQ(crew_run(other, &y, runs_in, ex), 0);
			CHECK_EQ(y, 1);
			gate_open(&gate);
		}
}

/* Without it nobody helps but workers. */
CREW_TASK(int, waits_for_all_of, (crew_executor *, other))
{
	return crew_executor_wait(other, CREW_FOREVER);
}
TEST(a_worker_of_another_pool_waits)
{
	CREW_SCOPE (ex, crew_threads(1))
		CREW_SCOPE (other, crew_threads(1)) {
			int y = -1;

			CHECK_EQ(crew_run(other, &y, runs_in, ex), 0);
			CHECK_EQ(y, 0);
			CHECK_EQ(crew_run(other, &y, waits_for_all_of, ex), 0);
			CHECK_EQ(y, 0);
		}
}

/* What fails while its waiter runs it fails as ever. */
CREW_TASK(int, fails)
{
	return crew_raise(EIO, "it fails");
}
CREW_TASK(int, takes_what_fails)
{
	int y = 0;

	return crew_take(crew_submit(HERE, fails), &y, NULL);
}
TEST(a_task_may_take_what_fails_while_it_runs_it)
{
	CREW_SCOPE (ex, crew_threads(1)) {
		int y = 0;

		CHECK_EQ(crew_run(ex, &y, takes_what_fails), 0);
		CHECK_EQ(y, CREW_ERAISED);
	}
}

/* Tasks that wait for tasks, until no stack is left for the next: on one worker nobody else could run that. */
CREW_TASK(int, dives, (int, depth))
{
	crew_future *f = crew_submit(HERE, dives, depth + 1);
	int y = 0, rc = crew_result(f, &y);

	if (rc == -EDEADLK) {
		crew_future_cancel(f, NULL);
		return depth;
	}
	return rc ? -1 : y;
}
TEST(a_worker_helps_as_deep_as_its_stack)
{
	CREW_SCOPE (ex, crew_threads(.workers = 1, .stack_size = (size_t)1 << 20)) {
		int y = 0;

		CHECK_EQ(crew_run(ex, &y, dives, 0), 0);
		CHECK_GE(y, 10);
	}
}

/* ---- between the tasks of a batch ---- */

static void note(unsigned what)
{
	gate_write(&gate, (int32_t)what);
	gate_arrive(&gate);
}
CREW_TASK(int, notes, (unsigned, what))
{
	note(what);
	return 0;
}
/* 20 urgent ones, of which two are cancelled at once, while the worker has others in its hands. */
CREW_TASK(int, submits_urgent, (unsigned, what))
{
	note(what);
	for (unsigned i = 0; i < 20; i++) {
		crew_future *f = crew_submit_with(HERE, (.priority = 1), notes, 100 + i);

		if (i == 3 || i == 19)
			crew_future_cancel(f, NULL);
	}
	return 0;
}
/* Behind the task that stands at the gate, until all have run: before the executor is closed, and takes no more from its tasks. */
static void run_urgent_and_others(crew_executor *ex)
{
	crew_submit(ex, submits_urgent, 0u);
	for (unsigned i = 1; i < 4; i++)
		crew_submit(ex, notes, i);
	gate_open(&gate);
	gate_await(&gate, 1 + 22);
}
TEST(urgent_tasks_go_between_those_of_a_batch)
{
	int32_t urgent = 0, next = 0;

	CREW_SCOPE (ex, crew_threads(1)) {
		occupy(ex);
		crew_future_cancel(crew_submit_with(ex, (.priority = 1), notes, 99u), NULL);
		crew_future_cancel(crew_submit_with(ex, (.priority = -1), notes, 99u), NULL);
		run_urgent_and_others(ex);
	}
	CHECK_EQ(gate.log_count, 22u);
	for (uint32_t i = 0; i < gate.log_count; i++)
		if (gate.log[i] >= 100) { /* each in the order of their submit */
			CHECK_EQ(gate.log[i], 100 + urgent + (urgent >= 3));
			urgent++;
		} else {
			CHECK_EQ(gate.log[i], next++);
		}
	CHECK_EQ(urgent, 18);
	CHECK_EQ(gate.log[1], 100);
}

/* As far as the thread's share of tasks goes: what it has in its hands comes first then. */
TEST(urgent_tasks_leave_a_thread_its_share)
{
	CREW_SCOPE (ex, crew_threads(.workers = 1, .max_tasks_per_child = 5)) {
		occupy(ex);
		run_urgent_and_others(ex);
	}
	CHECK_EQ(gate.log_count, 22u);
	for (int32_t i = 0; i < 4; i++)
		CHECK_EQ(gate.log[i], i);
}

/* Now and then a worker looks elsewhere first, so that nothing waits for ever behind what is urgent. */
TEST(many_urgent_tasks_and_others_are_all_run)
{
	CREW_SCOPE (ex, crew_threads(1)) {
		occupy(ex);
		for (unsigned i = 0; i < 150; i++)
			crew_submit_with(ex, (.priority = i % 3 ? 1 : -1), notes, i);
		gate_open(&gate);
	}
	CHECK_EQ(gate.log_count, 150u);
}

/* ---- before and after its tasks ---- */

static struct {
	crew_executor *ex;
	int map, loop;
} from_initializer;
CREW_TASK(int, twice, (int, n))
{
	return 2 * n;
}
CREW_TASK(void, adds, (size_t, begin), (size_t, end), (uint32_t *, sum))
{
	__atomic_add_fetch(sum, (uint32_t)(end - begin), __ATOMIC_SEQ_CST);
}
static int maps_and_loops(void *arg, int worker)
{
	int in[] = { 1, 2, 3 }, out[3] = { 0 };
	uint32_t sum = 0;

	(void)arg, (void)worker;
	from_initializer.map = crew_map(from_initializer.ex, twice, in, out, 3) ? -1 : out[0] + out[1] + out[2];
	from_initializer.loop = crew_for(from_initializer.ex, 10, adds, .sum = &sum) ? -1 : (int)sum;
	return 0;
}
TEST(an_initializer_may_map)
{
	CREW_SCOPE (ex, crew_threads(.workers = 1, .initializer = maps_and_loops)) {
		int y = 0;

		from_initializer.ex = ex; /* its thread begins with the first submit */
		CHECK_EQ(crew_run(ex, &y, twice, 4), 0);
		CHECK_EQ(y, 8);
		CHECK_EQ(from_initializer.map, 12);
		CHECK_EQ(from_initializer.loop, 10);
	}
}

/* As many workers as there may be, and a stack that cannot be. */
TEST(threads_have_their_limits)
{
	crew_executor *ex = crew_threads(4096);

	CHECK_EQ(crew_executor_error(ex, NULL), 0);
	CHECK_EQ(crew_executor_workers(ex), 4096);
	crew_executor_close(ex);
	ex = crew_threads(.workers = 1, .stack_size = SIZE_MAX);
	CHECK_EQ(crew_executor_error(ex, NULL), -EINVAL);
	crew_executor_close(ex);
}

/* A niceness that the program may not have breaks the executor, with a sentence. */
TEST(workers_that_may_not_be_less_nice_break_the_executor)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0, 0, 0 } };
	crew_error error;

	CHECK_EQ(setrlimit(RLIMIT_NICE, &(struct rlimit){ 0, 0 }), 0);
	CHECK_EQ(syscall(SYS_capset, &header, data), 0);
	CREW_SCOPE (ex, crew_threads(.workers = 1, .nice = -1)) {
		CHECK_EQ(crew_future_error(crew_submit(ex, worker_index))->code, CREW_EBROKEN);
		CHECK_EQ(crew_executor_error(ex, &error), -EACCES);
		CHECK_HAS(error.message, "nice -1");
	}
}
