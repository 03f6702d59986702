/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * held_up.c: all that may happen to a task (test/fault/fates.c), while anybody may be held up at any atomic operation (pauses.c), and the same with a fault in
 * the library, which must be found.
 *
 * A fault is looked for by this program, executed with the fault in its environment and one seed after the other, until one of these tests fails there: a wrong
 * end, a second run, a hang when its time is up; and does not fail with the same seed and no fault: a machine may be slow. Of five seeds four or five find each
 * of these; with CREW_TEST_CALM none has found any.
 */
#include <crew/crew.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/fates.h"
#include "interleaving/scheduler.h"
#include "pauses/pauses.h"

static void meet(crew_executor *ex, bool processes)
{
	fates_meet(ex, processes, test_scaled(1000));
	printf("%llu pauses here\n", (unsigned long long)pauses_made());
}

TEST_WITHIN(threads_may_be_held_up_anywhere, 120)
{
	pauses_begin(test_random());
	CREW_SCOPE (ex, crew_threads(FATES_WORKERS))
		meet(ex, false);
}

TEST_WITHIN(a_server_and_its_workers_may_be_held_up_anywhere, 120)
{
	pauses_begin(test_random());
	CREW_SCOPE (ex, crew_processes(FATES_WORKERS))
		meet(ex, true);
}

TEST_WITHIN(forked_workers_may_be_held_up_anywhere, 120)
{
	pauses_begin(test_random());
	CREW_SCOPE (ex, crew_processes(.workers = FATES_WORKERS, .start = CREW_START_FORK, .spares = 1))
		meet(ex, true);
}

TEST_WITHIN(spawned_workers_may_be_held_up_anywhere, 120)
{
	pauses_begin(test_random());
	CREW_SCOPE (ex, crew_processes(.workers = FATES_WORKERS, .start = CREW_START_SPAWN))
		meet(ex, true);
}

/* ---- faults ---- */

enum { SEEDS = 40 };
enum end { WELL, WRONG, OUT_OF_TIME }; /* OUT_OF_TIME: a hang, or a slow machine */

/* Of the two minutes that a test has. A run takes a second or less, one that hangs as long as it may. */
#define PATIENCE 0.04
#define CONTROL 0.5 /* of what was too little */

/* With no fault if it is NULL. */
static _Noreturn void execute(const char *test, const struct fault *fault, int seed, double patience, int output)
{
	char fault_text[96], seed_text[16], limit[32];

	if (fault)
		snprintf(fault_text, sizeof fault_text, "%s %d", fault->function, (int)fault->kind);
	snprintf(seed_text, sizeof seed_text, "%d", seed);
	snprintf(limit, sizeof limit, "%g", patience);
	if (fault ? setenv("CREW_TEST_FAULT", fault_text, 1) : unsetenv("CREW_TEST_FAULT"))
		_exit(2);
	setenv("TEST_LIMIT", limit, 1);
	setenv("STRESS", "100", 1);
	if (dup2(output, 1) == 1 && dup2(output, 2) == 2)
		execl("/proc/self/exe", "pauses", "--jobs", "1", "--seed", seed_text, test, NULL);
	_exit(2);
}

/* What the runner says first tells. */
static enum end end_of(int status, int output)
{
	char text[2048];
	ssize_t n = pread(output, text, sizeof text - 1, 0);

	CHECK(n >= 0);
	text[n] = '\0';
	CHECK(WIFEXITED(status));
	if (WEXITSTATUS(status) == 0) {
		CHECK_HAS(text, "1 passed, 0 failed, 0 skipped");
		return WELL;
	}
	CHECK_HAS(text, "FAILED: ");
	return strstr(text, "no end within") ? OUT_OF_TIME : WRONG;
}

static enum end run(const char *test, const struct fault *fault, int seed, double patience)
{
	int output = memfd_create("output", MFD_CLOEXEC), status;
	enum end end;
	pid_t pid = fork();

	CHECK(pid >= 0 && output >= 0);
	if (pid == 0)
		execute(test, fault, seed, patience, output);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	end = end_of(status, output);
	close(output);
	return end;
}

/* Is it the fault? Without it nothing may be wrong; and what took too long with it must take less than half of that without it: or it is the machine. */
static bool is_of_the_fault(const char *test, enum end end, int seed, double patience)
{
	enum end without = run(test, NULL, seed, end == OUT_OF_TIME ? patience * CONTROL : 1);

	if (without == WRONG)
		test_fail(__FILE__, __LINE__, "%s fails with seed %d, without a fault, too", test, seed);
	return without == WELL;
}

static void must_find(const char *test, const struct fault *fault)
{
	double patience = PATIENCE;

	for (int seed = 1; seed <= SEEDS; seed++) {
		enum end end = run(test, fault, seed, patience);

		if (end == WELL)
			continue;
		if (is_of_the_fault(test, end, seed, patience)) {
			printf("with seed %d: %s\n", seed, end == OUT_OF_TIME ? "a hang" : "a wrong end");
			return;
		}
		patience *= 2;
	}
	test_fail(__FILE__, __LINE__, "%s: not found with %d seeds", fault->function, SEEDS);
}

TEST_WITHIN(finds_a_claim_that_two_workers_make, 300)
{
	must_find("forked_workers_may_be_held_up_anywhere", &(struct fault){ "crew__claim_ticket", BLIND_CAS });
}

TEST_WITHIN(finds_a_request_to_stop_that_forgets_the_end, 300)
{
	must_find("forked_workers_may_be_held_up_anywhere", &(struct fault){ "ask_to_stop", BLIND_CAS });
}

TEST_WITHIN(finds_a_callback_that_forgets_the_end, 300)
{
	must_find("threads_may_be_held_up_anywhere", &(struct fault){ "crew__notify", BLIND_CAS });
}
