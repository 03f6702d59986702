/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * payload.c: P3, how fast do bytes travel? --size bytes to a worker and as many back, one at a time; GB/s of
 * both ways together.
 *
 *	P3/64 KiB …		by copy: the task returns a copy of its argument
 *	P3/shared/64 KiB …	crew_shared_alloc(): the worker adds one to the first and the last byte; µs, since no byte moves
 *
 * What came back is compared with what was sent, outside the time. A stamp in front differs from turn to
 * turn.
 */
#include <stdio.h>

#include "backend.h"

enum { WARM_UP = 3 };
static const long volume = 256l << 20;

CREW_TASK(crew_bytes, echo, (crew_bytes, in))
{
	return crew_result_copy(in.data, in.len);
}

CREW_TASK(long, tick, (crew_bytes, in))
{
	unsigned char *p = in.data;

	return ++p[0] + ++p[in.len - 1];
}

static double copy_turn(crew_executor *ex, unsigned char *data, size_t n, long turn)
{
	crew_bytes out = { NULL, 0 };
	int64_t begin, time;
	int code;

	memcpy(data, &turn, sizeof(turn) < n ? sizeof(turn) : n);
	begin = measure_now();
	code = crew_run(ex, &out, echo, crew_bytes_make(data, n));
	time = measure_now() - begin;
	measure_require(code == 0 && out.len == n && memcmp(out.data, data, n) == 0,
			"turn %ld came back wrong, code %s", turn, crew_errname(code));
	crew_bytes_free(out);
	return (double)time;
}

static double shared_turn(crew_executor *ex, crew_bytes shared, long turn)
{
	unsigned char *p = shared.data, first = p[0], last = p[shared.len - 1];
	int64_t begin = measure_now(), time;
	long y = 0;
	int code = crew_run(ex, &y, tick, shared);

	time = measure_now() - begin;
	measure_require(code == 0 && p[0] == (unsigned char)(first + 1) &&
				p[shared.len - 1] == (unsigned char)(last + 1),
			"turn %ld was not seen", turn);
	return (double)time;
}

static void name_of(char *name, size_t size, const char *kind, long bytes)
{
	if (bytes >= 1 << 20)
		snprintf(name, size, "P3%s/%ld MiB", kind, bytes >> 20);
	else
		snprintf(name, size, "P3%s/%ld KiB", kind, bytes >> 10);
}

/* Medians over the turns: the total would be that of the worst. */
static void copy_round(crew_executor *ex, const struct measure_options *o, unsigned char *data, double *ns,
		       long turns)
{
	char name[64];

	for (long i = 0; i < turns; i++)
		ns[i] = copy_turn(ex, data, (size_t)o->size, i);
	name_of(name, sizeof(name), "", o->size);
	measure_print(name, backend_peer(o), o->workers, "GB/s",
		      2 * (double)o->size / measure_quantile(ns, (size_t)turns, 0.5));
}

static void shared_round(crew_executor *ex, const struct measure_options *o, double *ns, long turns)
{
	crew_bytes shared = crew_shared_alloc(ex, (size_t)o->size);
	char name[64];

	measure_require(shared.data != NULL, "no shared memory");
	memset(shared.data, 0, shared.len);
	for (long i = 0; i < turns; i++)
		ns[i] = shared_turn(ex, shared, i);
	crew_shared_free(ex, shared);
	name_of(name, sizeof(name), "/shared", o->size);
	measure_print(name, backend_peer(o), o->workers, "us",
		      measure_quantile(ns, (size_t)turns, 0.5) / 1e3);
}

int main(int argc, char **argv)
{
	struct measure_options o;
	unsigned char *data;
	double *ns;
	long turns;

	measure_options(&o, argc, argv);
	turns = measure_scaled(&o, volume / o.size > 2000 ? 2000 : volume / o.size) + 4;
	data = malloc((size_t)o.size);
	ns = malloc((size_t)turns * sizeof(*ns));
	measure_require(data && ns && o.size > 1, "out of memory");
	for (long i = 0; i < o.size; i++)
		data[i] = (unsigned char)(i * 7);
	CREW_SCOPE (ex, backend_open(&o)) {
		backend_check(ex);
		for (long i = 0; i < WARM_UP; i++)
			copy_turn(ex, data, (size_t)o.size, i);
		for (int round = 0; round < o.rounds; round++) {
			copy_round(ex, &o, data, ns, turns);
			shared_round(ex, &o, ns, turns);
		}
	}
	free(data);
	free(ns);
	return 0;
}
