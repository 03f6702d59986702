/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hands.c: see hands.h. A submit leaves a hint and rouses all workers; each goes through all hints in order, and the claim decides.
 */
#include "interleaving/hands.h"

#include <stdlib.h>

#include "core/context.h"
#include "interleaving/scheduler.h"

enum { HINTS = 8 };

struct hands {
	crew_executor base;
	unsigned workers;
	/* any thread, atomic */
	uint32_t put, stop;
	crew_future *hint[HINTS]; /* NULL: not yet */
};

/* As a call into the kernel: what was stored before it can be seen. */
static void rouse_all(const struct hands *h)
{
	ck_pr_fence_memory();
	for (int thread = 0; thread < SCENARIO_THREADS; thread++)
		if (h->workers >> thread & 1)
			schedule_rouse(thread);
}

static int hands_submit(crew_executor *ex, struct port *port, crew_future *f, const void *arguments)
{
	struct hands *h = (struct hands *)ex;
	uint32_t i = ck_pr_faa_32(&h->put, 1);

	(void)port, (void)arguments;
	if (i >= HINTS)
		schedule_unfit("more than %d hints", HINTS);
	store_release_ptr((void **)&h->hint[i], f); /* pairs with the load in hands_work */
	rouse_all(h);
	return 0;
}

static int hands_workers(crew_executor *ex)
{
	(void)ex;
	return 1;
}

static void hands_shutdown(crew_executor *ex, uint64_t deadline, bool kill)
{
	(void)ex, (void)deadline, (void)kill;
}

static void hands_close(crew_executor *ex)
{
	(void)ex;
}

static const struct executor_ops hands_ops = {
	.kind = "hands", .shares_memory = true, .submit = hands_submit, .workers = hands_workers, .shutdown = hands_shutdown, .close = hands_close
};

crew_executor *hands_open(unsigned workers)
{
	struct hands *h = calloc(1, sizeof *h);

	EXPECT(h && crew__executor_init(&h->base, &hands_ops, "hands") == 0);
	h->workers = workers;
	return &h->base;
}

void hands_stop(crew_executor *ex)
{
	struct hands *h = (struct hands *)ex;

	ck_pr_store_32(&h->stop, 1);
	rouse_all(h);
}

void hands_work(crew_executor *ex)
{
	struct hands *h = (struct hands *)ex;
	uint32_t next = 0;

	for (;;) {
		bool stop = load_acquire_32(&h->stop);
		crew_future *f = next < HINTS ? load_acquire_ptr((void *const *)&h->hint[next]) : NULL;

		if (!f && stop)
			return;
		if (!f) {
			schedule_sleep();
			continue;
		}
		next++;
		if (crew__claim(f))
			crew__run_nested(ex, f, schedule_thread());
	}
}
