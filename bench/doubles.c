/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doubles.c: T6, how near to the memory's speed is a map over ten million doubles? By crew_for(): the task
 * gets ranges. With --helping the caller works along, as it does in OpenMP and oneTBB: it is one of the
 * --workers. The serial loop is measured as a peer of its own. Every value is checked, outside the time.
 *
 * Not on processes: their memory is not ours. There the question is payload.c's.
 */
#include "backend.h"

enum { N = 10000000, RUNS = 5 };

typedef const double *doubles_in;
typedef double *doubles_out;

CREW_TASK(void, scale, (size_t, begin), (size_t, end), (doubles_in, in), (doubles_out, out))
{
	for (size_t i = begin; i < end; i++)
		out[i] = in[i] * 1.5 + 2;
}

static void check(const double *in, double *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		measure_require(out[i] == in[i] * 1.5 + 2, "value %zu is wrong", i);
		out[i] = 0;
	}
}

static double run(crew_executor *ex, const double *in, double *out, size_t n)
{
	int64_t begin = measure_now(), time;
	int code = 0;

	if (ex)
		code = crew_for(ex, n, scale, .in = in, .out = out);
	else
		scale(0, n, in, out);
	time = measure_now() - begin;
	measure_require(code == 0, "crew_for() failed with %s", crew_errname(code));
	check(in, out, n);
	return (double)time / 1e6;
}

static double round_of(crew_executor *ex, const double *in, double *out, size_t n)
{
	double ms[RUNS];

	for (int i = 0; i < RUNS; i++)
		ms[i] = run(ex, in, out, n);
	return measure_quantile(ms, RUNS, 0.5);
}

/* As many threads as the others have, two at least. */
static crew_executor *open_with_caller(const struct measure_options *o)
{
	return o->helping ? crew_threads(.workers = o->workers > 1 ? o->workers - 1 : 1, .help = true) : backend_open(o);
}

int main(int argc, char **argv)
{
	struct measure_options o;
	double *in, *out;
	size_t n;

	measure_options(&o, argc, argv);
	if (backend_is(&o, "processes"))
		return MEASURE_SKIP;
	n = (size_t)measure_scaled(&o, N);
	in = malloc(n * sizeof(*in));
	out = malloc(n * sizeof(*out));
	measure_require(in && out, "out of memory");
	for (size_t i = 0; i < n; i++) {
		in[i] = (double)i;
		out[i] = 0;
	}
	CREW_SCOPE (ex, open_with_caller(&o)) {
		backend_check(ex);
		round_of(ex, in, out, n);
		for (int round = 0; round < o.rounds; round++) {
			measure_print("T6", "serial loop", 1, "ms", round_of(NULL, in, out, n));
			measure_print("T6", backend_peer(&o), o.workers, "ms", round_of(ex, in, out, n));
		}
	}
	free(in);
	free(out);
	return 0;
}
