/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kinds.c: the table of executors that every conformance test is stamped over.
 */
#include "kinds.h"

#include <stdio.h>

enum { BASES_MAX = 256 };

const struct kind *kind;
static crew_executor *bases[BASES_MAX];
static int base_count;

static crew_executor *open_inline(const struct kind_options *o)
{
	(void)o;
	return crew_inline();
}

static crew_executor *open_threads(const struct kind_options *o)
{
	return crew_threads(.workers = o->workers, .name = o->name, .initializer = o->initializer,
			    .finalizer = o->finalizer, .arg = o->arg, .max_tasks_per_child = o->max_tasks_per_child,
			    .nice = o->nice, .cpus = o->cpus, .stack_size = o->stack_size);
}

static crew_executor *open_by(enum crew_start start, const struct kind_options *o)
{
	return crew_processes(.workers = o->workers, .name = o->name, .initializer = o->initializer,
			      .finalizer = o->finalizer, .arg = o->arg, .arg_size = o->arg_size,
			      .max_tasks_per_child = o->max_tasks_per_child, .nice = o->nice, .cpus = o->cpus,
			      .stack_size = o->stack_size, .start = start, .grace_ms = o->grace_ms);
}

static crew_executor *open_server(const struct kind_options *o)
{
	return open_by(CREW_START_DEFAULT, o);
}

static crew_executor *open_fork(const struct kind_options *o)
{
	return open_by(CREW_START_FORK, o);
}

static crew_executor *open_spawn(const struct kind_options *o)
{
	return open_by(CREW_START_SPAWN, o);
}

static const struct kind kinds[] = {
	{ "inline", IMMEDIATE | SINGLE, 1, open_inline },
	{ "threads", 0, 3, open_threads },
	{ "threads_of_one", SINGLE, 1, open_threads },
	{ "processes", SEPARATE, 3, open_server },
	{ "processes_fork", SEPARATE | INHERITS, 3, open_fork },
	{ "processes_spawn", SEPARATE | FRESH, 3, open_spawn },
	{ "processes_of_one", SEPARATE | SINGLE, 1, open_server },
	{ "group_over_threads", GROUPED, 3, open_threads },
	{ "group_over_processes", GROUPED | SEPARATE, 3, open_server },
};

crew_executor *kind_open_with(const struct kind_options *options)
{
	struct kind_options o = *options;
	crew_executor *ex;

	if (o.workers == 0)
		o.workers = kind->workers;
	ex = kind->open(&o);
	if (!(kind->traits & GROUPED))
		return ex;
	CHECK(base_count < BASES_MAX);
	bases[base_count++] = ex;
	return crew_group(ex);
}

void kind_register(const char *name, const char *file, int line, int seconds, void (*run)(const void *kind))
{
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		test_register(&(struct test){ name, kinds[i].name, file, line, seconds, run, &kinds[i] });
}

void kind_run(const void *which, void (*body)(void))
{
	kind = which;
	body();
	while (base_count > 0)
		crew_executor_close(bases[--base_count]);
}

static void (*open_body)(crew_executor *ex);

static void run_open(void)
{
	crew_executor *ex = kind_open();

	CHECK_EQ(crew_executor_error(ex, NULL), 0);
	open_body(ex);
	CHECK(crew_executor_close(ex) == NULL);
}

void kind_run_open(const void *which, void (*body)(crew_executor *ex))
{
	open_body = body;
	kind_run(which, run_open);
}

/* A result larger than memory is an error for us, not the end, also where a sanitizer's allocator stands in for libc's. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* A program that exits in the middle of its work joins no thread; runner.c counts those that are left otherwise. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "allocator_may_return_null=1:report_thread_leaks=0:die_after_fork=0";
}
