/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * jam.c: pools whose workers all wait for what only they could run.
 *
 * A worker process that waits for a shared future of a task runs nothing meanwhile. When that task stands in the queue of the worker's own executor, and
 * every other worker waits likewise, nothing moves any more. Only the process that submitted can see that: it knows the executor, and who waits
 * stands in its outcomes. It is seen twice, the very same words, before anybody is told; one is told, which lets the others go on.
 */
#include <string.h>

#include "base/futex.h"
#include "ipc/binding.h"

enum { JAM_EXECUTORS = 16, JAM_WORKERS = 1024, JAM_FUTURES = 1024 };

struct jam {
	crew_executor *ex;
	pid_t pid[JAM_WORKERS];
	bool waits[JAM_WORKERS];
	int workers, waiting;
	uint64_t print;
	uint64_t *place; /* of one of them */
	struct outcome *o, *here;
};

/* Its workers; false: it has none, or one is just being replaced. */
static bool describe(struct jam *jam, crew_executor *ex)
{
	jam->ex = ex;
	jam->workers = ex->ops->worker_pid ? ex->ops->workers(ex) : 0;
	jam->waiting = 0;
	jam->print = 0;
	memset(jam->waits, 0, sizeof jam->waits);
	if (jam->workers > JAM_WORKERS)
		return false;
	for (int i = 0; i < jam->workers; i++) {
		jam->pid[i] = ex->ops->worker_pid(ex, i);
		if (jam->pid[i] <= 0)
			return false;
	}
	return jam->workers > 0;
}

static bool note_waiter(uint64_t *place, uint64_t word, void *arg)
{
	struct jam *jam = arg;

	if ((word & STAKE_KIND) != STAKE_WAITING)
		return false;
	for (int i = 0; i < jam->workers; i++) {
		if (jam->pid[i] != member_pid(word) || jam->waits[i])
			continue;
		jam->waits[i] = true;
		jam->waiting++;
		jam->print = (jam->print ^ word) * 0x100000001b3ull;
		jam->place = place;
		jam->o = jam->here;
	}
	return false;
}

static bool is_queued(crew_future *f)
{
	return phase_of_word(ck_pr_load_64(&binding_of(f)->share.o->word)) == OUTCOME_PENDING && !crew_future_running(f) && !crew_future_done(f);
}

/* Every worker of the executor waits for one of these futures of it, all of which are queued there? */
static bool is_jammed(crew_executor *ex, crew_future **fs, int n, struct jam *jam)
{
	if (!describe(jam, ex))
		return false;
	for (int i = 0; i < n; i++) {
		if (!is_queued(fs[i]))
			continue;
		jam->here = binding_of(fs[i])->share.o;
		crew__any_stake(jam->here, note_waiter, jam);
	}
	return jam->waiting == jam->workers;
}

static void tell(const struct jam *jam)
{
	uint64_t word = ck_pr_load_64(jam->place);

	if ((word & STAKE_KIND) == STAKE_WAITING && ck_pr_cas_64(jam->place, word, word | STAKE_STUCK))
		crew__futex_wake(outcome_futex(jam->o), INT_MAX, true); /* pairs with the wait in sleep_on_outcome (shared_future.c) */
}

static bool was_seen(const crew_executor *ex, crew_executor *const *seen, int n)
{
	for (int i = 0; i < n; i++)
		if (seen[i] == ex)
			return true;
	return false;
}

/* The shared futures of one executor more, pinned; the executor stays as long as we are busy with it. NULL: that were all. */
static crew_executor *next_executor(struct sharing *here, crew_executor *const *seen, int count, crew_future **fs, int *ret_n)
{
	crew_executor *ex = NULL;

	*ret_n = 0;
	pthread_mutex_lock(&here->mutex);
	for (struct binding *b = here->first; b && *ret_n < JAM_FUTURES; b = b->next) {
		if (!b->leads || outcome_done(b->share.o) || was_seen(executor_of(b->f), seen, count) || (ex && executor_of(b->f) != ex))
			continue;
		if (!crew__pin(b->f))
			continue;
		ex = executor_of(b->f);
		fs[(*ret_n)++] = b->f;
	}
	here->busy = ex;
	pthread_mutex_unlock(&here->mutex);
	return ex;
}

void crew__find_jams(struct sharing *here)
{
	static struct jam jam; /* a process has one watcher */
	crew_executor *seen[JAM_EXECUTORS], *ex;
	crew_future *fs[JAM_FUTURES];
	uint64_t print = 0;
	int count = 0, n;

	while (count < JAM_EXECUTORS && (ex = next_executor(here, seen, count, fs, &n)) != NULL) {
		seen[count++] = ex;
		if (is_jammed(ex, fs, n, &jam)) {
			print ^= jam.print;
			if (here->jam_print == jam.print)
				tell(&jam);
		}
		for (int i = 0; i < n; i++)
			crew__release(fs[i]);
		pthread_mutex_lock(&here->mutex);
		here->busy = NULL;
		pthread_mutex_unlock(&here->mutex);
	}
	here->jam_print = print;
}
