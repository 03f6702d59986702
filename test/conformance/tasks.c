/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tasks.c: see tasks.h.
 */
#include "tasks.h"

#include <errno.h>
#include <pthread.h>

#include "../runner.h"

CREW_TASK_DEFINE(const char *, no_text)
{
	return NULL;
}

CREW_TASK_DEFINE(crew_bytes, no_bytes)
{
	return crew_bytes_make(NULL, 0);
}

CREW_TASK_DEFINE(long, stack_size)
{
	pthread_attr_t attributes;
	size_t size = 0;

	if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
		pthread_attr_getstacksize(&attributes, &size);
		pthread_attr_destroy(&attributes);
	}
	return (long)size;
}

int raw_reverse(crew_call *call)
{
	crew_bytes in = crew_call_args(call);
	char out[64];

	if (in.len > sizeof out)
		return crew_call_raise(call, E2BIG, "%zu bytes", in.len);
	for (size_t i = 0; i < in.len; i++)
		out[i] = ((const char *)in.data)[in.len - 1 - i];
	return crew_call_return(call, out, in.len);
}
