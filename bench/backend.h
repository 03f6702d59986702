/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backend.h: the executor that --backend names, and how figures on it are named.
 */
#ifndef CREW_BENCH_BACKEND_H
#define CREW_BENCH_BACKEND_H

#include <crew/crew.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"

static inline bool backend_is(const struct measure_options *o, const char *name)
{
	return strcmp(o->backend, name) == 0;
}

static inline crew_executor *backend_open(const struct measure_options *o)
{
	measure_require(backend_is(o, "inline") || backend_is(o, "threads") || backend_is(o, "processes"),
			"--backend is inline, threads or processes, not %s", o->backend);
	if (backend_is(o, "inline"))
		return crew_inline();
	if (backend_is(o, "threads"))
		return crew_threads(.workers = o->workers, .help = o->helping);
	return crew_processes(.workers = o->workers);
}

/* End the program with the library's own words unless the executor is well. */
static inline void backend_check(crew_executor *ex)
{
	crew_error error;

	measure_require(crew_executor_error(ex, &error) == 0, "the executor did not open: %s", error.message);
}

static inline const char *backend_peer(const struct measure_options *o)
{
	if (backend_is(o, "processes"))
		return "crew processes";
	if (backend_is(o, "inline"))
		return "crew inline";
	return o->helping ? "crew threads, helping" : "crew threads";
}

/* The name of a question on threads and on processes. */
static inline const char *backend_bench(const struct measure_options *o, const char *threads,
					const char *processes)
{
	return backend_is(o, "processes") ? processes : threads;
}

#endif
