/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * search.c: all schedules of a scenario, in a forked child, which says by its exit status how it went: so a crash is a finding like all others.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "interleaving/search.h"

enum { HANG_SECONDS = 1 /* of processor time */, HANG_SCHEDULES = 64 /* that it is for */ };

enum { EXIT_WELL = 0, EXIT_FOUND = 3, EXIT_UNREACHED = 4, EXIT_UNFIT = 5, EXIT_IMPOSSIBLE = 77 };

static const struct scenario *scenario;
static const struct fault *broken;
static bool running_schedules;
static long schedules, restarts;
static int bound; /* preemptions, for now */
static uint64_t all_steps;

bool schedule_runs(void)
{
	return running_schedules;
}

/* ---- what was found ---- */

static _Noreturn void stop(int status, const char *format, va_list list)
{
	char text[300];

	vsnprintf(text, sizeof text, format, list);
	fprintf(stderr, "\t%s: schedule %ld: %s\n", scenario->name, schedules, text);
	if (!broken || status != EXIT_FOUND || getenv("SCHEDULE")) {
		account_show();
		fprintf(stderr, "\tSCHEDULE='%d:", bound);
		choices_show();
	}
	_exit(status);
}

void schedule_failed(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	stop(EXIT_FOUND, format, list);
}

/* It is the scenario, or the scheduler, that is not as it must be: no finding. */
void schedule_unfit(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	stop(EXIT_UNFIT, format, list);
}

static void crashed(int signal)
{
	schedule_failed("%s", signal == SIGVTALRM ? "goes on for ever without a step" : strsignal(signal));
}

/* ---- one after the other ---- */

/* SCHEDULES_LOG: a file that gets a line for each scenario. */
static void log_search(bool all)
{
	const char *name = getenv("SCHEDULES_LOG");
	FILE *log = name ? fopen(name, "a") : NULL;

	if (!log)
		return;
	fprintf(log, "%-28s %9ld schedules%s of %.1f steps, begun anew %ld times\n", scenario->name, schedules, all ? ", all there are," : "",
		(double)all_steps / (double)schedules, restarts);
	fclose(log);
}

/* All schedules with so many preemptions. False: there were more than the scenario wants. */
static bool search_within_bound(void)
{
	const struct itimerval hang = { .it_value.tv_sec = HANG_SECONDS };
	bool more = true;

	choices_restart();
	while (more) {
		if (scenario->schedules && schedules >= (long)test_scaled((size_t)scenario->schedules))
			return false;
		if (schedules % HANG_SCHEDULES == 0)
			setitimer(ITIMER_VIRTUAL, &hang, NULL);
		schedules++;
		schedule_run(scenario, bound);
		all_steps += (uint64_t)account_count();
		if (places_grew()) {
			restarts++;
			choices_restart();
		} else {
			more = choices_next();
		}
	}
	return true;
}

/* What few preemptions show is found first. */
static void search(void)
{
	bool all = true;

	for (bound = 0; all && bound <= scenario->preemptions; bound++)
		all = search_within_bound();
	log_search(all);
}

static void repeat(const char *given)
{
	int used = 0;

	if (sscanf(given, "%d:%n", &bound, &used) != 1)
		schedule_unfit("this is no schedule");
	choices_read(given + used);
	schedule_run(scenario, bound);
	schedule_unfit("this is the schedule, nothing is wrong with it");
}

static void catch_crashes(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGVTALRM };
	stack_t stack = { .ss_size = 1 << 17 };
	struct sigaction action = { .sa_handler = crashed, .sa_flags = SA_ONSTACK };

	stack.ss_sp = malloc(stack.ss_size);
	sigaltstack(&stack, NULL);
	for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
		sigaction(signals[i], &action, NULL);
}

static _Noreturn void be_searched(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that takes too long leaves nothing behind */
	if (!fibers_open())
		_exit(EXIT_IMPOSSIBLE);
	catch_crashes();
	running_schedules = true;
	mallopt(M_MMAP_THRESHOLD, 1 << 17); /* slabs lie where they lay in the last schedule: no map of them grows */
	if (scenario->open)
		scenario->open();
	if (broken)
		fault_set(broken);
	if (getenv("SCHEDULE"))
		repeat(getenv("SCHEDULE"));
	search();
	_exit(broken && !fault_reached() ? EXIT_UNREACHED : EXIT_WELL);
}

static int searched(const struct scenario *s, const struct fault *fault)
{
	pid_t pid;
	int status = 0;

	scenario = s;
	broken = fault;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		be_searched();
	CHECK(pid > 0);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_IMPOSSIBLE)
		SKIP("needs instructions for the FS base (FSGSBASE)");
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void explore(const struct scenario *s)
{
	CHECK_EQ(searched(s, NULL), EXIT_WELL);
}

void find(const struct scenario *s, const struct fault *fault)
{
	CHECK_EQ(searched(s, fault), EXIT_FOUND);
}
