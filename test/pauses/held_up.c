/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * held_up.c: all that may happen to a task (test/fault/fates.c), while anybody may be held up at any atomic operation (pauses.c), and the same with a fault in
 * the library, which must be found.
 *
 * A fault is looked for by this program, executed with the fault in its environment and one seed after the other, until one of these tests fails there: a wrong
 * end, a second run, a hang when its time is up. Of five seeds four or five find each of these; with CREW_TEST_CALM none has found any.
 */
#include <crew/crew.h>
#include <stdio.h>
#include <stdlib.h>
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
#define PATIENCE "0.04" /* of the two minutes that a test has */

static _Noreturn void execute(const char *test, const struct fault *fault, int seed)
{
	char fault_text[96], seed_text[16];

	snprintf(fault_text, sizeof fault_text, "%s %d", fault->function, (int)fault->kind);
	snprintf(seed_text, sizeof seed_text, "%d", seed);
	setenv("CREW_TEST_FAULT", fault_text, 1);
	setenv("TEST_LIMIT", PATIENCE, 1);
	setenv("STRESS", "100", 1);
	if (freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr))
		execl("/proc/self/exe", "pauses", "--jobs", "1", "--seed", seed_text, test, NULL);
	_exit(0);
}

static void must_find(const char *test, const struct fault *fault)
{
	for (int seed = 1; seed <= SEEDS; seed++) {
		pid_t pid = fork();
		int status;

		CHECK(pid >= 0);
		if (pid == 0)
			execute(test, fault, seed);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status));
		if (WEXITSTATUS(status)) {
			printf("with seed %d\n", seed);
			return;
		}
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
