/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * worker_plan.c: what every worker is, on its way from the options of the opener to the worker.
 *
 *	options → plan (bytes; functions by name, the argument in shared memory) → zygote → worker: addresses of its own
 *
 * Only a worker that was forked from the opener itself shares its addresses. The others find a function in the module that it is named by, which they load if they
 * must. The argument is copied out of shared memory, so that each worker has its own and may write to it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process/process_executor.h"
#include "process/process_worker.h"

/* ---- in the host ---- */

static int name_function(struct process_executor *p, void (*function)(void), struct named_function *ret)
{
	struct module_file file;
	int rc = function ? crew__identify_function(function, &ret->id, &file) : 0;

	return rc || !function ? rc : crew__module_publish(p, ret->id.module, &file, &ret->path);
}

int crew__plan_publish(struct process_executor *p, size_t argument_size)
{
	struct worker_plan *plan = &p->plan;
	int rc;

	plan->has_initializer = plan->initializer != NULL;
	plan->has_finalizer = plan->finalizer != NULL;
	plan->argument = (struct extent){ 0, 0 };
	if (plan->arg && argument_size) {
		rc = crew__arena_alloc(&p->in, argument_size, &plan->argument.offset);
		if (rc)
			return rc;
		plan->argument.size = argument_size;
		memcpy(p->ring.in + plan->argument.offset, plan->arg, argument_size);
	}
	if (plan->start == CREW_START_FORK)
		return 0;
	rc = name_function(p, (void (*)(void))plan->initializer, &plan->initializer_named);
	return rc ? rc : name_function(p, (void (*)(void))plan->finalizer, &plan->finalizer_named);
}

/* ---- in zygote and workers ---- */

void crew__plan_mappings(const struct worker_plan *plan, const int *fds, struct mapping ret[3])
{
	const struct ring *r = &plan->ring;

	ret[0] = (struct mapping){ .fd = fds[0], .base = (unsigned char *)r->pub, .size = r->geometry.pub_size };
	ret[1] = (struct mapping){ .fd = fds[1], .base = (unsigned char *)r->rw, .size = r->geometry.rw_size };
	ret[2] = (struct mapping){ .fd = fds[2], .base = r->blocks, .size = r->geometry.blocks_size };
}

static void (*find_function(const struct worker_plan *plan, const struct named_function *named))(void)
{
	void (*function)(void) = crew__identified_function(&named->id);

	if (!function && !crew__identity_load(&named->id, named->path.size ? (const char *)plan->ring.in + named->path.offset : ""))
		function = crew__identified_function(&named->id);
	return function;
}

int crew__plan_settle(struct worker_plan *plan)
{
	if (plan->argument.size) {
		plan->arg = malloc(plan->argument.size);
		if (!plan->arg)
			return -ENOMEM;
		memcpy(plan->arg, plan->ring.in + plan->argument.offset, plan->argument.size);
	}
	if (plan->start == CREW_START_FORK)
		return 0;
	plan->initializer = plan->has_initializer ? (crew_initializer_fn *)find_function(plan, &plan->initializer_named) : NULL;
	plan->finalizer = plan->has_finalizer ? (crew_finalizer_fn *)find_function(plan, &plan->finalizer_named) : NULL;
	return (plan->has_initializer && !plan->initializer) || (plan->has_finalizer && !plan->finalizer) ? CREW_ENOTASK : 0;
}

/* A worker that was executed. */
void crew__worker_child(const void *data, size_t size, const int *fds, uint32_t fd_count)
{
	struct worker_call *call = malloc(sizeof *call);
	struct mapping mappings[3];
	struct geometry geometry;
	void *bases[3];

	if (!call || size != sizeof *call || fd_count != 4)
		_exit(1);
	memcpy(call, data, sizeof *call);
	crew__plan_mappings(&call->plan, fds, mappings);
	for (int i = 0; i < 3; i++)
		bases[i] = crew__mapping_adopt(&mappings[i], i > 0);
	if (!bases[0] || !bases[1] || !bases[2])
		_exit(1);
	call->plan.bell = fds[3];
	geometry = call->plan.ring.geometry;
	crew__ring_attach(&call->plan.ring, &geometry, bases[0], bases[1], bases[2]);
	crew__worker_main(&call->plan, call->index, call->incarnation);
}
