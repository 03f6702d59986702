/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zero.c: Z, what does a task take from the system in the steady state? T1's work (P1's with --backend processes) again and again, with --rounds as
 * told, after a warm-up that made what is kept.
 *
 * Allocations and taken mutexes are counted here, by a malloc and a pthread_mutex_lock of our own that stand in front of libc's, in memory that workers
 * share. System calls and instructions
 * are counted by zero.py around this program, which runs it twice, with few rounds and with many: start, warm-up and end are the same in both.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "backend.h"

enum { TASKS = 100000, WARM_UP = 3 };

enum counted { ALLOCATIONS, LOCKS, COUNTED };

/* Written by every thread of every process, relaxed: they are sums. NULL before main() and after the last round. */
static _Atomic long *_Atomic counters;

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

static void count(enum counted what)
{
	_Atomic long *of_all = atomic_load_explicit(&counters, memory_order_relaxed);

	if (of_all)
		atomic_fetch_add_explicit(&of_all[what], 1, memory_order_relaxed);
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	static int (*_Atomic real)(pthread_mutex_t *); /* looked up by whoever comes first, always the same */

	if (!atomic_load_explicit(&real, memory_order_relaxed))
		atomic_store_explicit(&real, (int (*)(pthread_mutex_t *))(intptr_t)dlsym(RTLD_NEXT, "pthread_mutex_lock"), memory_order_relaxed);
	count(LOCKS);
	return atomic_load_explicit(&real, memory_order_relaxed)(mutex);
}

void *malloc(size_t size)
{
	count(ALLOCATIONS);
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	count(ALLOCATIONS);
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	count(ALLOCATIONS);
	return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	count(ALLOCATIONS);
	return __libc_memalign(alignment, size);
}

void *memalign(size_t alignment, size_t size)
{
	count(ALLOCATIONS);
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
	count(ALLOCATIONS);
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

static void print_sums(const struct measure_options *o, const long *before, _Atomic long *now, double tasks)
{
	measure_print("Z/allocations", backend_peer(o), o->workers, "per task", (double)(atomic_load(&now[ALLOCATIONS]) - before[ALLOCATIONS]) / tasks);
	measure_print("Z/locks", backend_peer(o), o->workers, "per task", (double)(atomic_load(&now[LOCKS]) - before[LOCKS]) / tasks);
}

int main(int argc, char **argv)
{
	struct measure_options o;
	_Atomic long *sums = mmap(NULL, COUNTED * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	crew_future **futures;
	long n;

	measure_options(&o, argc, argv);
	if (!COUNTING)
		return MEASURE_SKIP;
	n = measure_tasks(&o, TASKS);
	futures = calloc((size_t)n, sizeof(*futures));
	measure_require(futures && sums != MAP_FAILED, "out of memory");
	atomic_store(&counters, sums); /* before the fork: workers have them too */
	CREW_SCOPE (ex, backend_open(&o)) {
		long before[COUNTED];

		backend_check(ex);
		for (int i = 0; i < WARM_UP; i++)
			round_of(ex, futures, n);
		for (int i = 0; i < COUNTED; i++)
			before[i] = atomic_load(&sums[i]);
		for (int i = 0; i < o.rounds; i++)
			round_of(ex, futures, n);
		print_sums(&o, before, sums, (double)n * o.rounds);
	}
	atomic_store(&counters, NULL);
	free(futures);
	return 0;
}
