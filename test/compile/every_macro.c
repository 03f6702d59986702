/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * every_macro.c: each macro of the public headers in each form it may be used in. It must compile without a warning in every
 * dialect of C, at every level of optimisation, with both compilers; it is never run. What the macros do is conformance's business.
 *
 * test/compile/check compiles it. Functions have external linkage and are declared here, so that none is "unused".
 */
#include <crew/crew.h>
#include <crew/spawn.h>
#include <complex.h>
#include <errno.h>

typedef double row[4];
typedef int compare_fn(const void *, const void *);
struct point {
	double x, y;
};
enum colour { RED, GREEN };

/* ---- tasks ---- */

CREW_TASK(int, nothing_in)
{
	return 1;
}
CREW_TASK(void, nothing_out, (int, x))
{
	if (x < 0) {
		crew_raise(EINVAL, "%d", x);
		return;
	}
}
CREW_TASK(void, nothing)
{
}
CREW_TASK(long, constant, (const int, x), (const struct point, p))
{
	return x + (long)p.x;
}
CREW_TASK(double, array, (row, r), (int, i))
{
	return r[i];
}
CREW_TASK(int, eight, (int, a), (long, b), (char, c), (float, d), (double, e), (bool, f), (enum colour, g), (unsigned short, h))
{
	return (int)(a + b + c + (long)d + (long)e) + f + (g == GREEN) + h;
}
CREW_TASK(struct point, moved, (struct point, p), (double, by))
{
	if (by < 0)
		return crew_raise_as(struct point, ERANGE, "by %g", by);
	return (struct point){ p.x + by, p.y + by };
}
CREW_TASK(double complex, turned, (double complex, z))
{
	return z * I;
}
CREW_TASK(const char *, named, (const char *, s))
{
	return s ? s : crew_raise_as(const char *, EINVAL, "no name");
}
CREW_TASK(crew_bytes, copied, (crew_bytes, in))
{
	crew_bytes out = crew_result_alloc(in.len);

	if (in.len == 0)
		return crew_raise_as(crew_bytes, ENODATA, "nothing to copy");
	return crew_result_resize(out, 1);
}
CREW_TASK(crew_bytes, printed, (int, x))
{
	return x ? crew_result_printf("%d", x) : crew_result_copy("0", 1);
}
CREW_TASK(enum colour, other, (enum colour, c))
{
	return c == RED ? GREEN : RED;
}
CREW_TASK(unsigned char, called, (compare_fn *, compare), (void *, p))
{
	return compare(p, p) == 0;
}
CREW_TASK(int *, address, (int *, p))
{
	return p ? p : crew_raise_as(int *, EFAULT, "no address");
}
CREW_TASK(void, filled, (size_t, begin), (size_t, end), (double *, out), (double, value))
{
	for (size_t i = begin; i < end; i++)
		out[i] = value;
}
CREW_TASK(double, summed, (size_t, begin), (size_t, end), (const double *, in))
{
	double sum = 0;

	for (size_t i = begin; i < end; i++)
		sum += in[i];
	return sum;
}
CREW_TASK(int, counted, (size_t, begin), (size_t, end))
{
	return (int)(end - begin);
}
CREW_TASK(int, asked)
{
	crew_error error;

	if (crew_task_cancelled() || crew_task_time_left() == 0 || crew_task_worker() < 0)
		return crew_raise(ECANCELED, "too late");
	return crew_caught(&error) ? error.code : 0;
}
CREW_TASK(int, passed_on, (int, x))
{
	int y = 0;

	CREW_SCOPE (ex, crew_group(crew_task_executor(), .max_running = 2)) {
		crew_future *f = crew_submit(ex, passed_on, x - 1);

		if (crew_result(f, &y) == CREW_ERAISED)
			return crew_reraise(f);
	}
	return y;
}
CREW_TASK(struct point, passed_on_as, (crew_future *, f))
{
	return crew_reraise_as(struct point, f);
}

static int raw(crew_call *call)
{
	crew_bytes in = crew_call_args(call);

	return in.len ? crew_call_return(call, in.data, in.len) : crew_call_raise(call, EINVAL, "%s", "empty");
}
CREW_RAW_TASK(uncooked, raw);

CREW_TASK_DECLARE(long, elsewhere, (long, a), (const char *, b));
CREW_TASK_DECLARE(void, elsewhere_nothing);
CREW_TASK_DEFINE(long, elsewhere, (long, a), (const char *, b))
{
	return b ? a : 0;
}
CREW_TASK_DEFINE(void, elsewhere_nothing)
{
}

/* ---- spawn ---- */

CREW_TASK(long, fib, (int, n))
{
	if (n < 2)
		return n;
	crew_spawn(fib, a, n - 1);
	long b = fib(n - 2);
	return crew_sync(fib, a) + b;
}
CREW_TASK(long, spawned, (int, n))
{
	long sum = 0;

	for (int i = 0; i < n; i++) {
		crew_spawn(fib, a, i);
		crew_spawn(nothing, left_open);
		crew_spawn(nothing_out, b, i);
		if (i == 7)
			continue;
		if (i == 9)
			return crew_raise(EDOM, "left with %d open", 3);
		sum += crew_sync(fib, a);
		crew_sync(nothing_out, b);
	}
	while (n-- > 0) {
		crew_spawn(nothing_in, a);
		if (n == 3)
			break;
		sum += crew_sync(nothing_in, a);
	}
	return sum;
}

/* ---- scopes ---- */

int left_by_return(int x);
int left_by_return(int x)
{
	CREW_SCOPE (ex, crew_inline()) {
		if (x)
			return crew_executor_workers(ex);
	}
	return 0;
}

int left_by_break(int n);
int left_by_break(int n)
{
	int rounds = 0;

	for (int i = 0; i < n; i++) {
		CREW_SCOPE (ex, crew_threads(2)) {
			if (crew_executor_error(ex, NULL))
				break;
			if (i == 3)
				continue;
			rounds++;
		}
		if (i == 5)
			break;
	}
	return rounds;
}

int left_by_goto(int x);
int left_by_goto(int x)
{
	CREW_SCOPE (outer, crew_processes(.workers = 3, .name = "outer"))
		CREW_SCOPE (inner, crew_threads(.name = "inner", .workers = 1)) {
			if (x)
				goto out;
			crew_post(inner, nothing);
			crew_post(outer, nothing_out, x);
		}
	return 0;
out:
	return 1;
}

int many_ways(int x);
int many_ways(int x)
{
	CREW_AUTO (first, crew_threads());
	CREW_AUTO (second, crew_processes());
	CREW_AUTO (third, crew_processes(4));

	switch (x) {
	case 1:
		CREW_SCOPE (ex, first ? crew_group(first) : crew_inline())
			return crew_executor_error(ex, NULL);
		return 0;
	case 2:
		CREW_SCOPE (ex, crew_group(second, .on_error = CREW_CANCEL_SIBLINGS, .timeout_ms = 5))
			crew_post(ex, nothing);
		break;
	default:
		if (x > 3)
			CREW_SCOPE (ex, crew_group(third))
				crew_post(ex, nothing);
		else
			return 7;
	}
	return crew_executor_shutdown(third, CREW_CANCEL_PENDING | CREW_KILL_RUNNING, 10);
}

/* ---- submit and result ---- */

static void on_done(crew_future *f, void *arg)
{
	*(int *)arg = crew_future_wait(f, 0);
}

int submitted(crew_executor *ex, row r, int *p);
int submitted(crew_executor *ex, row r, int *p)
{
	struct point at = { 1, 2 };
	crew_inbox *inbox = crew_inbox_open();
	crew_error error;
	crew_future *fs[] = {
		crew_submit(ex, nothing_in),
		crew_submit(ex, nothing_out, 3),
		crew_submit(ex, nothing),
		crew_submit(ex, constant, 3, at),
		crew_submit(ex, array, r, 2),
		crew_submit(ex, eight, 1, 2L, 'c', 4.f, 5., true, GREEN, 8),
		crew_submit(ex, moved, ((struct point){ 3, 4 }), 1.5),
		crew_submit(ex, named, "a name"),
		crew_submit(ex, copied, crew_bytes_str("bytes")),
		crew_submit(ex, uncooked, crew_bytes_make(p, sizeof *p)),
		crew_submit(ex, elsewhere, 1, NULL),
		crew_submit(ex, elsewhere_nothing),
		crew_submit_with(ex, (.timeout_ms = 500, .retries = 2), nothing_in),
		crew_submit_with(ex, (.data = p, .inbox = inbox), moved, at, 1),
		crew_submit_to(ex, on_done, p, nothing),
		crew_submit_to(ex, on_done, p, printed, 3),
	};
	const crew_task *table[] = { CREW_TASK_OF(fib), CREW_TASK_OF(uncooked), CREW_TASK_OF(elsewhere) };
	CREW_ARGS(eight) arguments = { .a = 1, .h = 8 };
	double complex z;
	const char *s;
	crew_bytes bytes;
	size_t left;
	int x, done = 0;

	if (crew_result(fs[0], &x) || crew_result(fs[3], &(long){ 0 }) || crew_result_within(fs[6], &at, 20))
		done++;
	if (crew_take(fs[7], &s, NULL) == 0 && crew_take(fs[8], &bytes, &error) == 0)
		crew_bytes_free(bytes);
	if (crew_run(ex, &z, turned, 1 + 2 * I) || crew_run(ex, &x, asked) || crew_run(ex, &p, address, p))
		done++;
	crew_must(crew_post(ex, eight, 1, 2, 3, 4, 5, 0, RED, 8));
	fs[0] = crew_executor_submit(ex, table[0], &arguments, NULL, 0);
	CREW_AS_COMPLETED (f, fs, sizeof fs / sizeof fs[0])
		done += crew_future_done(f);
	CREW_AS_COMPLETED_WITHIN (f, fs, 3, 100, &left) {
		CREW_AS_COMPLETED (g, &f, 1) {
			if (f == g)
				break;
			if (crew_future_cancel(g, NULL) < 0)
				return -1;
		}
		if (left)
			continue;
	}
	return done + crew_wait(fs, 2, CREW_FIRST_EXCEPTION, CREW_FOREVER);
}

/* ---- many at once ---- */

static int feed(void *state, CREW_ARGS(moved) * args)
{
	args->by = *(double *)state;
	return args->by > 0;
}
static int feed_nothing(void *state, CREW_ARGS(nothing_in) * args)
{
	(void)args;
	return --*(int *)state;
}
static double larger(double a, double b)
{
	return a > b ? a : b;
}
#define ADD(a_, b_) ((a_) + (b_))

int mapped(crew_executor *ex, char **words, double *x, size_t n);
int mapped(crew_executor *ex, char **words, double *x, size_t n)
{
	struct point from[3] = { { 0, 0 } }, to[3];
	const char *names[3];
	const int numbers[] = { 1, 2, 3 };
	const double by[] = { 1, 2, 3 };
	crew_future *fs[3];
	crew_error error;
	int codes[3], count = 0, failed = 0;
	double sum = 0;

	failed |= crew_map(ex, moved, from, by, to, 3);
	failed |= crew_map(ex, named, words, names, 3);
	failed |= crew_map(ex, nothing_in, codes, 3);
	failed |= crew_map(ex, nothing_out, numbers, NULL, 3);
	failed |= crew_map_with(ex, (.errors = codes, .chunk = 2, .error = &error), moved, from, by, to, 3);
	failed |= crew_submit_each(ex, moved, from, by, fs, 3);
	failed |= crew_submit_each(ex, nothing, fs, 3);
	failed |= crew_for(ex, n, filled, .out = x, .value = 1);
	failed |= crew_for(ex, n, counted);
	failed |= crew_reduce(ex, n, &sum, ADD, summed, .in = x);
	failed |= crew_reduce(ex, n, &sum, larger, summed, .in = x);
	failed |= crew_reduce(ex, n, &count, ADD, counted);

	crew_stream *s = crew_imap(ex, moved, feed, &sum, .window = 8, .unordered = true);
	while (crew_next(s, &to[0]) > 0)
		failed |= crew_stream_error(s)->code;
	crew_stream_close(s);
	s = crew_imap(ex, nothing_in, feed_nothing, &count);
	while (crew_next(s, &codes[0]) != 0)
		;
	crew_stream_close(s);
	return failed;
}

/* ---- children and pools ---- */

int children(char *const *argv);
int children(char *const *argv)
{
	crew_process *p = crew_start(nothing_in), *q = crew_start_with((.name = "q", .daemon = true), moved, (struct point){ 1, 2 }, 3.0);
	struct point to;
	int y;

	crew_process_close(crew_thread_start(nothing));
	crew_process_close(crew_thread_start_with((.nice = 1), constant, 1, (struct point){ 0, 0 }));
	crew_process_close(crew_process_exec(argv));
	crew_process_close(crew_process_exec_with((.stdout_fd = CREW_PIPE, .stdin_fd = CREW_DEVNULL), argv));
	y = crew_process_result(p, &y) + crew_process_result_within(q, &to, 5);
	crew_process_close(p);
	crew_process_close(q);
	return y;
}

int pooled(void);
int pooled(void)
{
	struct point from[2] = { { 1, 2 }, { 3, 4 } }, to[2];
	double by[2] = { 1, 2 }, state = 0;
	int y = 0;

	CREW_POOL_SCOPE (pool, crew_pool(2, .maxtasksperchild = 3))
		y = crew_pool_apply(pool, &y, nothing_in);
	CREW_POOL_SCOPE (pool, crew_threadpool()) {
		crew_pool_apply_async(pool, nothing);
		crew_pool_apply_async_with(pool, (.callback = NULL), moved, from[0], 1.0);
		y += crew_pool_map(pool, moved, from, by, to, 2) + crew_pool_starmap(pool, moved, from, by, to, 2);
		y += crew_pool_map_with(pool, (.chunk = 1), moved, from, by, to, 2);
		crew_pool_map_async(pool, moved, from, by, to, 2);
		crew_pool_starmap_async(pool, moved, from, by, to, 2);
		crew_pool_map_async_with(pool, (.chunksize = 1), nothing_in, &y, 1);
		crew_stream_close(crew_pool_imap(pool, moved, feed, &state));
		crew_stream_close(crew_pool_imap(pool, moved, feed, &state, .chunk = 2));
		crew_stream_close(crew_pool_imap_unordered(pool, moved, feed, &state));
		crew_stream *s = crew_pool_imap_unordered(pool, moved, feed, &state, .window = 2);
		y += crew_next_within(s, &to[0], 1);
		crew_stream_close(s);
	}
	return y;
}

/* ---- types and promises ---- */

int typed(void);
int typed(void)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(struct point));
	int types[] = { CREW_TYPE_OF(void), CREW_TYPE_OF(row), CREW_TYPE_OF(double complex), CREW_TYPE_OF(const char *),
			CREW_TYPE_OF(compare_fn *), CREW_TYPE_OF(enum colour), CREW_TYPE_OF(void *) };

	if (CREW_TYPE_CLASS(types[1]) == CREW_STRUCT && CREW_TYPE_SIZE(types[1]) == sizeof(row))
		crew_future_set_result(f, &(struct point){ 1, 2 }, CREW_TYPE_OF(struct point));
	crew_future_free(f);
	return called(NULL, NULL) + (int)spawned(1) + other(RED) + passed_on(0) + (int)passed_on_as(NULL).x + CREW_VERSION_MAJOR;
}

/* ---- queues ---- */

int queued(void);
int queued(void)
{
	crew_queue q = crew_queue_make(.item = sizeof(struct point), .capacity = 8), none = crew_queue_make(.item = 0);
	struct point p = { 1, 2 }, two[2] = { { 0, 0 }, { 1, 1 } }, *at = &p;
	const char text[] = "text";

	return crew_put(q, &p) + crew_get(q, at) + crew_put_within(q, at, 10) + crew_get_within(q, two, 0) + crew_put(none, "literal") +
	       crew_put(none, text) + crew_handle_error(q);
}
