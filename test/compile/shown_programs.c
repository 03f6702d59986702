/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shown_programs.c: the short programs by which crew introduces itself, one function each. They are the promise that the vocabulary does
 * not change: this file compiles as it stands with every later version. The first program is test/install/first_program.c.
 */
#include <crew/crew.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void one_future_and_an_error(void);
void bytes_of_any_size(crew_bytes text);
void spawn_and_sync(void);
int a_server(int (*next_event)(int fd), crew_bytes bytes);

CREW_TASK(double, root, (double, x))
{
	return x < 0 ? crew_raise(EDOM, "no real root of %g", x) : sqrt(x);
}

void one_future_and_an_error(void)
{
	CREW_SCOPE (ex, crew_threads(4)) {
		crew_future *good = crew_submit(ex, root, 16.0), *bad = crew_submit(ex, root, -1.0);
		double y;

		if (crew_result(good, &y) == 0)
			printf("%g\n", y);
		if (crew_result(bad, &y) == CREW_ERAISED)
			printf("%s\n", crew_future_error(bad)->message);
	}
}

static size_t bound(size_t n)
{
	return n + n / 2;
}

CREW_TASK(crew_bytes, compress, (crew_bytes, in))
{
	crew_bytes out = crew_result_alloc(bound(in.len));

	if (out.data)
		memcpy(out.data, in.data, in.len);
	return crew_result_resize(out, in.len);
}

void bytes_of_any_size(crew_bytes text)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2)) {
		crew_bytes shared = crew_shared_alloc(ex, text.len), packed;

		memcpy(shared.data, text.data, text.len);
		if (crew_run(ex, &packed, compress, shared) == 0)
			crew_bytes_free(packed);
		crew_shared_free(ex, shared);
	}
}

CREW_TASK(long, fib, (int, n))
{
	if (n < 2)
		return n;
	crew_spawn(fib, a, n - 1);
	long b = fib(n - 2);
	return crew_sync(fib, a) + b;
}

void spawn_and_sync(void)
{
	long y;

	CREW_SCOPE (ex, crew_threads())
		if (crew_run(ex, &y, fib, 35) == 0)
			printf("%ld\n", y);
}

CREW_TASK(int, parse, (crew_bytes, request))
{
	return (int)request.len;
}

static void on_done(crew_future *f, void *request)
{
	int y;

	if (crew_result(f, &y) == 0)
		*(int *)request = y;
}

int a_server(int (*next_event)(int fd), crew_bytes bytes)
{
	int request;

	CREW_SCOPE (ex, crew_processes(4)) {
		while (next_event(crew_executor_fd(ex))) {
			crew_submit_to(ex, on_done, &request, parse, bytes);
			crew_drain(ex);
		}
	}
	return 0;
}
