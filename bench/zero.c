/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zero.c: Z, what does a task take from the system in the steady state? T1's work (P1's with --backend processes) again and again, with --rounds as
 * told, after a warm-up that made what is kept.
 *
 * Allocations are counted here, by a malloc of our own that stands in front of libc's, in memory that workers share. System calls and instructions
 * are counted by zero.py around this program, which runs it twice, with few rounds and with many: start, warm-up and end are the same in both.
 */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "backend.h"

enum { TASKS = 100000, WARM_UP = 3 };

/* Written by every thread of every process, relaxed: it is a sum. NULL before main() and after the last round. */
static _Atomic long *_Atomic allocations;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTING 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTING 0
#endif
#endif
#ifndef COUNTING
#define COUNTING 1

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static void count(void)
{
	_Atomic long *counter = atomic_load_explicit(&allocations, memory_order_relaxed);

	if (counter)
		atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void *malloc(size_t size)
{
	count();
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	count();
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	count();
	return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	count();
	return __libc_memalign(alignment, size);
}

void *memalign(size_t alignment, size_t size)
{
	count();
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
	count();
	*ret = __libc_memalign(alignment, size);
	return *ret ? 0 : ENOMEM;
}
#endif

CREW_TASK(long, increment, (long, x))
{
	return x + 1;
}

static void round_of(crew_executor *ex, crew_future **futures, long n)
{
	long y, wrong = 0;

	for (long i = 0; i < n; i++)
		futures[i] = crew_submit(ex, increment, i);
	for (long i = 0; i < n; i++)
		wrong += crew_take(futures[i], &y, NULL) != 0 || y != i + 1;
	measure_require(wrong == 0, "%ld of %ld results are wrong", wrong, n);
}

int main(int argc, char **argv)
{
	struct measure_options o;
	_Atomic long *counter = mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	crew_future **futures;
	long n;

	measure_options(&o, argc, argv);
	if (!COUNTING)
		return MEASURE_SKIP;
	n = measure_tasks(&o, TASKS);
	futures = calloc((size_t)n, sizeof(*futures));
	measure_require(futures && counter != MAP_FAILED, "out of memory");
	atomic_store(&allocations, counter); /* before the fork: workers have it too */
	CREW_SCOPE (ex, backend_open(&o)) {
		long before;

		backend_check(ex);
		for (int i = 0; i < WARM_UP; i++)
			round_of(ex, futures, n);
		before = atomic_load(counter);
		for (int i = 0; i < o.rounds; i++)
			round_of(ex, futures, n);
		measure_print("Z/allocations", backend_peer(&o), o.workers, "per task",
			      (double)(atomic_load(counter) - before) / ((double)n * o.rounds));
	}
	atomic_store(&allocations, NULL);
	free(futures);
	return 0;
}
