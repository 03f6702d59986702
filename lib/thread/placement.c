/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * placement.c: which CPU a worker wakes up on.
 *
 * The kernel likes to queue a woken thread behind its waker, on the waker's CPU, even when another CPU
 * is idle (in a virtual machine an idle CPU looks preempted). When the waker is about to sleep that is
 * the fastest hand-over there is. When it goes on running, both share one CPU for up to 200 ms while
 * another stands idle. So:
 *
 *  - a *worker* that wakes another goes on running: it takes its own CPU out of the wakee's mask before
 *    the wake, and the wakee puts the mask back. Moving itself would not do: it does not get to run.
 *  - an outside thread that wakes a worker is left alone, as it may sleep at once; but when work is
 *    left after the first batch, or it spins for the answer (base/spinning.h), the wakee moves off that
 *    CPU, by narrowing its mask for a moment.
 *
 * Masks are read before each change and put back only when nobody else has changed them meanwhile: they
 * are the user's to set, at any time.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cpu.h"
#include "thread/thread_pool.h"

/* One "3" or "0-3" at *text; moves *text behind it. */
static int parse_range(const char **text, cpu_set_t *ret)
{
	long first, last, known = sysconf(_SC_NPROCESSORS_CONF);
	char *end;

	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	first = last = strtol(*text, &end, 10);
	if (*end == '-') {
		if (!isdigit((unsigned char)end[1]))
			return -EINVAL;
		last = strtol(end + 1, &end, 10);
	}
	if (last < first || last >= known || last >= CPU_SETSIZE)
		return -EINVAL;
	for (long cpu = first; cpu <= last; cpu++)
		CPU_SET((size_t)cpu, ret);
	*text = end;
	return 0;
}

int crew__cpus_parse(const char *text, cpu_set_t *ret)
{
	CPU_ZERO(ret);
	for (;;) {
		if (parse_range(&text, ret))
			return -EINVAL;
		if (*text == '\0')
			return 0;
		if (*text++ != ',')
			return -EINVAL;
	}
}

int crew__cpus_usable(const struct thread_pool *pool)
{
	/* a quota is no limit to how many run at once, so it is not looked at here; and looking costs 50 µs */
	return pool->placed ? CPU_COUNT(&pool->cpus) : crew_cpu_count();
}

int crew__place_first(const struct thread_pool *pool)
{
	cpu_set_t now;

	if (!pool->placed || (sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &pool->cpus)))
		return 0;
	return sched_setaffinity(0, sizeof pool->cpus, &pool->cpus) ? -errno : 0;
}

void crew__place_away(struct thread_worker *w)
{
	if (w->pool->limit < 2 || pthread_getaffinity_np(w->thread, sizeof w->affinity, &w->affinity) ||
	    !crew__cpu_without(&w->affinity, sched_getcpu(), &w->narrowed))
		return;
	w->pushed = pthread_setaffinity_np(w->thread, sizeof w->narrowed, &w->narrowed) == 0;
}

void crew__place_restore(struct thread_worker *w)
{
	cpu_set_t now;

	if (!w->pushed)
		return;
	w->pushed = false;
	if (sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &w->narrowed))
		sched_setaffinity(0, sizeof w->affinity, &w->affinity);
}

void crew__leave_waker(const struct thread_worker *w, int cpu)
{
	if (w->pool->limit > 1)
		crew__cpu_leave(cpu);
}
