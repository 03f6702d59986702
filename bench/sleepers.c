/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sleepers.c: P8, when does a task end that never would? Tasks that sleep for ever, each with a time limit of
 * 50 ms, three at a time on four process workers, and a hundred honest tasks for each of them on what is left.
 * The time is that from the submit of a sleeper to the end of its future: the limit, the grace in which its
 * worker is only asked (20 ms), the kill, and the burial. P8 is the slowest of a round.
 *
 * Each sleeper has to fail with CREW_EDEADLINE, and each honest task to be right: no worker that was to be
 * killed may be at another task by then. --tasks says how many sleepers, 100 if nothing.
 */
#include <stdlib.h>
#include <unistd.h>

#include "backend.h"

enum { SLEEPERS = 100, AT_ONCE = 3, HONEST = 100, LIMIT_MS = 50 };

CREW_TASK(long, sleep_for_ever, (long, x))
{
	for (;;)
		pause();
	return x;
}

CREW_TASK(long, increment, (long, x))
{
	return x + 1;
}

static void note_the_end(crew_future *f, void *arg)
{
	(void)f;
	*(int64_t *)arg = measure_now();
}

static void submit_honest(crew_executor *ex, crew_future **futures)
{
	for (long i = 0; i < HONEST; i++)
		futures[i] = crew_submit(ex, increment, i);
}

static void check_honest(crew_future **futures)
{
	long y;

	for (long i = 0; i < HONEST; i++)
		measure_require(crew_take(futures[i], &y, NULL) == 0 && y == i + 1, "an honest task is wrong");
}

static void check_sleeper(crew_future *f)
{
	crew_error error;
	long y;

	crew_take(f, &y, &error);
	measure_require(error.code == CREW_EDEADLINE, "a sleeper ended as %s", crew_errname(error.code));
}

/* So many sleepers at once, each behind its own honest tasks: how long each took. */
static void few(crew_executor *ex, int n, double *ms)
{
	crew_future *sleeper[AT_ONCE], *honest[AT_ONCE][HONEST];
	int64_t begin[AT_ONCE], end[AT_ONCE];

	for (int i = 0; i < n; i++) {
		submit_honest(ex, honest[i]);
		begin[i] = measure_now();
		sleeper[i] = crew_submit_with(ex, (.timeout_ms = LIMIT_MS), sleep_for_ever, i);
		measure_require(crew_future_on_done(sleeper[i], note_the_end, &end[i]) == 0, "no callback");
	}
	for (int i = 0; i < n; i++)
		check_honest(honest[i]);
	crew_executor_wait(ex, CREW_FOREVER);
	for (int i = 0; i < n; i++) {
		check_sleeper(sleeper[i]);
		ms[i] = (double)(end[i] - begin[i]) / 1e6;
	}
}

static void round_of(crew_executor *ex, double *ms, long n)
{
	for (long i = 0; i < n; i += AT_ONCE)
		few(ex, (int)(n - i < AT_ONCE ? n - i : AT_ONCE), ms + i);
}

int main(int argc, char **argv)
{
	struct measure_options o;
	double *ms;
	long n;

	measure_options(&o, argc, argv);
	if (!backend_is(&o, "processes"))
		return MEASURE_SKIP;
	n = o.tasks ? o.tasks : measure_scaled(&o, SLEEPERS);
	ms = calloc((size_t)n, sizeof(*ms));
	measure_require(ms != NULL, "out of memory");
	CREW_SCOPE (ex, backend_open(&o)) {
		backend_check(ex);
		round_of(ex, ms, 1);
		for (int round = 0; round < o.rounds; round++) {
			round_of(ex, ms, n);
			measure_print("P8/median", backend_peer(&o), o.workers, "ms", measure_quantile(ms, (size_t)n, 0.5));
			measure_print("P8", backend_peer(&o), o.workers, "ms", ms[n - 1]);
		}
	}
	free(ms);
	return 0;
}
