/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inline_executor.c: runs each task in the thread that submits it, before the submit returns. It shows what an executor must do, and nothing else;
 * the others are measured by it.
 *
 * A chain of tasks that submit tasks is a chain of calls on one stack.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/context.h"
#include "core/executor_ops.h"

static int inline_submit(crew_executor *ex, struct port *port, crew_future *f, const void *arguments)
{
	(void)port, (void)arguments;
	if (crew__claim(f))
		crew__run_nested(ex, f, 0);
	return 0;
}

static int inline_workers(crew_executor *ex)
{
	(void)ex;
	return 1;
}

/* Is a task of ex on this stack? */
static bool inline_inside(crew_executor *ex)
{
	for (struct context *c = crew__context; c; c = c->outer)
		if (c->ex == ex && c->worker >= 0)
			return true;
	return false;
}

static void inline_shutdown(crew_executor *ex, uint64_t deadline, bool kill)
{
	(void)ex, (void)deadline, (void)kill;
}

static void inline_close(crew_executor *ex)
{
	(void)ex;
}

static const struct executor_ops inline_ops = {
	.kind = "inline",
	.shares_memory = true,
	.submit = inline_submit,
	.workers = inline_workers,
	.inside = inline_inside,
	.shutdown = inline_shutdown,
	.close = inline_close,
};

crew_executor *crew_inline_open(void)
{
	crew_executor *ex = calloc(1, sizeof *ex);
	int rc = ex ? crew__executor_init(ex, &inline_ops, "inline") : -ENOMEM;

	if (rc == 0)
		return ex;
	free(ex);
	return crew__executor_failed(&inline_ops, rc, "no memory for an inline executor");
}
