/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spinning.c: what a spin teaches, who gives way while he waits, and how a thread leaves a CPU (lib/base/spinning.h, cpu.c).
 */
#include <crew/crew.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../runner.h"
#include "base/atomic.h"
#include "base/cpu.h"
#include "base/spinning.h"

/* In place of libc's, for all of the library in this program. */
static uint32_t yields;

int sched_yield(void)
{
	ck_pr_inc_32(&yields);
	return (int)syscall(SYS_sched_yield);
}

/* ---- what it teaches ---- */

TEST(a_spin_in_vain_is_repeated_now_and_then)
{
	struct spin_memory memory = { 0 };
	int spins = 0;

	for (int i = 0; i < 100; i++)
		CHECK(spin_is_worth(&memory));
	spin_ended(&memory, false);
	for (int i = 0; i < 10 * SPIN_AGAIN; i++)
		spins += spin_is_worth(&memory);
	CHECK_EQ(spins, 10);
	spin_ended(&memory, true);
	for (int i = 0; i < 100; i++)
		CHECK(spin_is_worth(&memory));
}

TEST(a_question_right_after_an_answer_is_a_conversation)
{
	uint64_t now = crew__now();

	CHECK(!is_conversation(now)); /* nothing was answered yet */
	crew__answered = now;
	CHECK(is_conversation(now));
	CHECK(is_conversation(now + SPIN_NS - 1));
	CHECK(!is_conversation(now + SPIN_NS));
}

/* ---- giving way ---- */

CREW_TASK(int, add_one, (int, x))
{
	return x + 1;
}

/* Some programs want the CPU more than this one: what it gives away comes back after milliseconds. It did so several times for each question. */
static void converse(crew_executor *ex, long pause_ns)
{
	const int questions = 300;
	uint32_t before = 0;

	for (int i = 0; i < questions + 20; i++) {
		int y = 0;

		if (i == 20)
			before = ck_pr_load_32(&yields); /* all threads have been started by now */
		nanosleep(&(struct timespec){ 0, pause_ns }, NULL);
		CHECK_EQ(crew_run(ex, &y, add_one, i), 0);
		CHECK_EQ(y, i + 1);
	}
	CHECK_LE(ck_pr_load_32(&yields) - before, (uint32_t)questions / 10);
}
TEST(a_conversation_gives_no_slices_away)
{
	static const long pauses[] = { 0, 30000, 100000, 1000000 };

	if (crew_cpu_count() < 2)
		SKIP("on one CPU everybody makes way");
	for (int i = 0; i < 4; i++) {
		CREW_SCOPE (ex, crew_threads(2))
			converse(ex, pauses[i]);
		CREW_SCOPE (ex, crew_processes(2))
			converse(ex, pauses[i]);
	}
}

/* ---- leaving ---- */

static cpu_set_t my_cpus(void)
{
	cpu_set_t set;

	CHECK_EQ(sched_getaffinity(0, sizeof set, &set), 0);
	return set;
}

/* It is moved at once; that it comes back at once, because somebody else moves there, is not likely every time. */
TEST(a_thread_leaves_a_cpu_and_may_come_back)
{
	cpu_set_t before = my_cpus(), after;
	bool moved = false;

	if (CPU_COUNT(&before) < 2)
		SKIP("one CPU");
	for (int i = 0; i < 1000 && !moved; i++) {
		int cpu = sched_getcpu();

		crew__cpu_leave(cpu);
		moved = sched_getcpu() != cpu;
		after = my_cpus();
		CHECK(CPU_EQUAL(&before, &after));
	}
	CHECK(moved);
}

TEST(nobody_leaves_the_only_cpu_or_one_that_he_is_not_on)
{
	cpu_set_t before = my_cpus(), one, after;
	int cpu = sched_getcpu();

	crew__cpu_leave(-1);
	crew__cpu_leave(CPU_SETSIZE);
	crew__cpu_leave(INT32_MAX);
	after = my_cpus();
	CHECK(CPU_EQUAL(&before, &after));
	CPU_ZERO(&one);
	CPU_SET((size_t)cpu, &one);
	if (sched_setaffinity(0, sizeof one, &one))
		SKIP("affinity cannot be set here");
	crew__cpu_leave(cpu);
	CHECK_EQ(sched_getcpu(), cpu);
	after = my_cpus();
	CHECK(CPU_EQUAL(&one, &after));
}

TEST(a_set_without_a_cpu)
{
	cpu_set_t set, rest;

	CPU_ZERO(&set);
	CPU_SET(3, &set);
	CHECK(!crew__cpu_without(&set, 3, &rest)); /* nothing would be left */
	CPU_SET(5, &set);
	CHECK(!crew__cpu_without(&set, 4, &rest)); /* it is not in */
	CHECK(!crew__cpu_without(&set, -1, &rest));
	CHECK(!crew__cpu_without(&set, CPU_SETSIZE, &rest));
	CHECK(crew__cpu_without(&set, 3, &rest));
	CHECK(!CPU_ISSET(3, &rest) && CPU_ISSET(5, &rest));
	CHECK_EQ(CPU_COUNT(&rest), 1);
}
