/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host_calls.c: libc and the kernel, as lib/ meets them in a schedule.
 *
 * The linker sends these calls here (--wrap, see CMakeLists.txt). Mutexes, futexes and threads are the scheduler's then; membarrier(2) empties every store
 * buffer; the clock goes on by a little whenever somebody looks at it, and jumps to a deadline when nothing else can happen; the machine
 * has three CPUs. Freed memory is kept, and spoilt, until the schedule is over, so that whoever still uses it is found out. Outside of schedules
 * everything goes to libc.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "interleaving/search.h"

#define LOOK_NS 20000 /* what a look at the clock takes: longer than anybody spins */
#define MUTEXES_MAX 32
#define KEYS_MAX 8
#define FREED_MAX 1024
#define SPOILT 0xdd
#define CPUS 3

#define DECLARE(type_, name_, ...)              \
	extern type_ __real_##name_(__VA_ARGS__); \
	type_ __wrap_##name_(__VA_ARGS__)

/* ---- mutexes ---- */

static struct {
	const void *mutex;
	int owner;
} held[MUTEXES_MAX];
static int held_count;

static int find_held(const void *mutex)
{
	for (int i = 0; i < held_count; i++)
		if (held[i].mutex == mutex)
			return i;
	return -1;
}

static bool try_lock(const void *mutex)
{
	if (find_held(mutex) >= 0)
		return false;
	if (held_count == MUTEXES_MAX)
		schedule_unfit("more mutexes than are known");
	held[held_count].mutex = mutex;
	held[held_count++].owner = schedule_thread();
	return true;
}

DECLARE(int, pthread_mutex_lock, pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
	if (!schedule_runs())
		return __real_pthread_mutex_lock(mutex);
	if (fault_at(NO_LOCK, CALL_SITE) || !step_begins(STEP_LOCK, mutex, CALL_SITE))
		return 0;
	buffer_flush(schedule_thread());
	while (!try_lock(mutex))
		step_waits(FOR_MUTEX, mutex, FOR_EVER);
	return 0;
}

DECLARE(int, pthread_mutex_unlock, pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	int i;

	if (!schedule_runs())
		return __real_pthread_mutex_unlock(mutex);
	if (fault_at(NO_LOCK, CALL_SITE) || !step_begins(STEP_UNLOCK, mutex, CALL_SITE))
		return 0;
	buffer_flush(schedule_thread());
	i = find_held(mutex);
	if (i < 0 || held[i].owner != schedule_thread())
		schedule_failed("a mutex is unlocked that is another's");
	held[i] = held[--held_count];
	step_progress();
	step_wakes(FOR_MUTEX, mutex, INT_MAX);
	late_catch_up();
	return 0;
}

DECLARE(int, pthread_mutex_trylock, pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	if (!schedule_runs())
		return __real_pthread_mutex_trylock(mutex);
	if (!step_begins(STEP_LOCK, mutex, CALL_SITE))
		return 0;
	buffer_flush(schedule_thread());
	return try_lock(mutex) ? 0 : EBUSY;
}

DECLARE(int, pthread_mutex_clocklock, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until);
int __wrap_pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until)
{
	if (!schedule_runs())
		return __real_pthread_mutex_clocklock(mutex, clock, until);
	if (!step_begins(STEP_LOCK, mutex, CALL_SITE))
		return 0;
	buffer_flush(schedule_thread());
	while (!try_lock(mutex))
		if (step_waits(FOR_MUTEX, mutex, (uint64_t)until->tv_sec * 1000000000ull + (uint64_t)until->tv_nsec))
			return ETIMEDOUT;
	return 0;
}

/* ---- the kernel ---- */

static uint64_t deadline_of(const struct timespec *until)
{
	return until ? (uint64_t)until->tv_sec * 1000000000ull + (uint64_t)until->tv_nsec : FOR_EVER;
}

static long fail(int error)
{
	errno = error;
	return -1;
}

static long futex_wait(const uint32_t *word, uint32_t value, const struct timespec *until, const void *site)
{
	if (!step_begins(STEP_SLEEP, word, site))
		return fail(EAGAIN);
	buffer_flush(schedule_thread());
	host_check_memory(word, site);
	if ((uint32_t)memory_read(word, sizeof *word) != value)
		return fail(EAGAIN);
	return step_waits(FOR_WORD, word, deadline_of(until)) ? fail(ETIMEDOUT) : 0;
}

static long futex_wake(const uint32_t *word, int count, const void *site)
{
	if (fault_at(NO_WAKE, site))
		return 0;
	if (step_begins(STEP_WAKE, word, site))
		buffer_flush(schedule_thread());
	step_wakes(FOR_WORD, word, count);
	return 0;
}

static long membarrier(const void *site)
{
	if (fault_at(NO_FENCE, site))
		return 0;
	step_begins(STEP_CALL, NULL, site);
	for (int i = 0; i < FIBERS_MAX; i++)
		buffer_flush(i);
	return 0;
}

static long send_signal(int pidfd, int signal, const void *site)
{
	if (step_begins(STEP_CALL, NULL, site))
		buffer_flush(schedule_thread());
	schedule_signal(pidfd, signal);
	return 0;
}

DECLARE(long, syscall, long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	const uint32_t *word = (const uint32_t *)a;

	if (!schedule_runs())
		return __real_syscall(number, a, b, c, d, e, f);
	if (number == SYS_membarrier)
		return membarrier(CALL_SITE);
	if (number == SYS_pidfd_send_signal)
		return send_signal((int)a, (int)b, CALL_SITE);
	if (number != SYS_futex)
		return number == SYS_gettid ? schedule_thread() + 1 : __real_syscall(number, a, b, c, d, e, f);
	if ((b & FUTEX_CMD_MASK) == FUTEX_WAKE)
		return futex_wake(word, (int)c, CALL_SITE);
	return futex_wait(word, (uint32_t)c, (const struct timespec *)d, CALL_SITE);
}

DECLARE(int, clock_gettime, clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	uint64_t *now = schedule_clock();

	if (!schedule_runs())
		return __real_clock_gettime(clock, ret);
	*now += LOOK_NS;
	ret->tv_sec = (time_t)(*now / 1000000000ull);
	ret->tv_nsec = (long)(*now % 1000000000ull);
	return 0;
}

DECLARE(int, sched_yield, void);
int __wrap_sched_yield(void)
{
	if (!schedule_runs())
		return __real_sched_yield();
	if (schedule_thread() >= 0)
		step_waits(FOR_OTHERS, NULL, FOR_EVER);
	return 0;
}

/* A descriptor is shared memory too: what it says depends on who comes first. */
DECLARE(ssize_t, read, int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n)
{
	if (schedule_runs() && step_begins(STEP_CALL, NULL, CALL_SITE)) {
		buffer_flush(schedule_thread());
		if (fault_at(LATE, CALL_SITE)) {
			late_read(fd);
			return (ssize_t)n;
		}
	}
	return __real_read(fd, p, n);
}

DECLARE(ssize_t, write, int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n)
{
	if (schedule_runs() && step_begins(STEP_CALL, NULL, CALL_SITE)) {
		buffer_flush(schedule_thread());
		if (fault_at(NO_WAKE, CALL_SITE))
			return (ssize_t)n;
		schedule_written(fd);
	}
	return __real_write(fd, p, n);
}

/* ---- threads ---- */

static void (*key_destructors[KEYS_MAX])(void *);
static void *key_values[FIBERS_MAX + 1][KEYS_MAX];

DECLARE(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg)
{
	int i;

	if (!schedule_runs())
		return __real_pthread_create(thread, attributes, start, arg);
	if (step_begins(STEP_CALL, NULL, CALL_SITE))
		buffer_flush(schedule_thread());
	i = step_thread_start(start, arg);
	if (i < 0)
		schedule_unfit("more than %d threads", FIBERS_MAX);
	*thread = (pthread_t)(i + 1);
	return 0;
}

DECLARE(int, pthread_join, pthread_t thread, void **ret);
int __wrap_pthread_join(pthread_t thread, void **ret)
{
	if (!schedule_runs())
		return __real_pthread_join(thread, ret);
	if (step_begins(STEP_CALL, NULL, CALL_SITE)) {
		while (!schedule_ended((int)thread - 1))
			step_waits(FOR_OTHERS, NULL, FOR_EVER);
	} else if (!schedule_ended((int)thread - 1)) {
		schedule_failed("a thread is joined after the schedule that has not ended");
	}
	return 0;
}

DECLARE(pthread_t, pthread_self, void);
pthread_t __wrap_pthread_self(void)
{
	return schedule_runs() ? (pthread_t)(schedule_thread() + 1) : __real_pthread_self();
}

DECLARE(int, pthread_key_create, pthread_key_t *key, void (*destructor)(void *));
int __wrap_pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
	static unsigned int keys;

	if (!schedule_runs())
		return __real_pthread_key_create(key, destructor);
	if (keys == KEYS_MAX)
		return EAGAIN;
	key_destructors[keys] = destructor;
	*key = keys++;
	return 0;
}

DECLARE(int, pthread_setspecific, pthread_key_t key, const void *value);
int __wrap_pthread_setspecific(pthread_key_t key, const void *value)
{
	if (!schedule_runs())
		return __real_pthread_setspecific(key, value);
	key_values[schedule_thread() + 1][key] = (void *)(uintptr_t)value;
	return 0;
}

void host_thread_ends(void)
{
	for (int key = 0; key < KEYS_MAX; key++) {
		void *value = key_values[schedule_thread() + 1][key];

		if (value && key_destructors[key])
			key_destructors[key](value);
	}
}

/* Only under the deepest nesting: "I do not know". */
DECLARE(int, pthread_getattr_np, pthread_t thread, pthread_attr_t *ret);
int __wrap_pthread_getattr_np(pthread_t thread, pthread_attr_t *ret)
{
	return schedule_runs() ? ENOSYS : __real_pthread_getattr_np(thread, ret);
}

/* ---- where threads run ---- */

DECLARE(int, sched_getcpu, void);
int __wrap_sched_getcpu(void)
{
	return schedule_runs() ? -1 : __real_sched_getcpu();
}

static int all_cpus(size_t size, cpu_set_t *ret)
{
	memset(ret, 0, size);
	for (int i = 0; i < CPUS; i++)
		CPU_SET_S((size_t)i, size, ret);
	return 0;
}

DECLARE(int, sched_getaffinity, pid_t pid, size_t size, cpu_set_t *ret);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *ret)
{
	return schedule_runs() ? all_cpus(size, ret) : __real_sched_getaffinity(pid, size, ret);
}

DECLARE(int, pthread_getaffinity_np, pthread_t thread, size_t size, cpu_set_t *ret);
int __wrap_pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *ret)
{
	return schedule_runs() ? all_cpus(size, ret) : __real_pthread_getaffinity_np(thread, size, ret);
}

DECLARE(int, pthread_setaffinity_np, pthread_t thread, size_t size, const cpu_set_t *set);
int __wrap_pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
{
	return schedule_runs() ? 0 : __real_pthread_setaffinity_np(thread, size, set);
}

DECLARE(int, pthread_sigmask, int how, const sigset_t *set, sigset_t *old);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	return schedule_runs() ? 0 : __real_pthread_sigmask(how, set, old);
}

DECLARE(int, pthread_setname_np, pthread_t thread, const char *name);
int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
	return schedule_runs() ? 0 : __real_pthread_setname_np(thread, name);
}

/* ---- memory ---- */

static struct {
	unsigned char *p;
	size_t size;
} freed[FREED_MAX];
static int freed_count;
static long blocks;

DECLARE(void *, malloc, size_t n);
void *__wrap_malloc(size_t n)
{
	blocks++;
	return __real_malloc(n);
}

DECLARE(void *, calloc, size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	blocks++;
	return __real_calloc(n, size);
}

DECLARE(void *, aligned_alloc, size_t alignment, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
	blocks++;
	return __real_aligned_alloc(alignment, n);
}

DECLARE(char *, strdup, const char *text);
char *__wrap_strdup(const char *text)
{
	blocks++;
	return __real_strdup(text);
}

DECLARE(void, free, void *p);
void __wrap_free(void *p)
{
	size_t size;

	if (!p)
		return;
	blocks--;
	if (!schedule_runs() || freed_count == FREED_MAX) {
		__real_free(p);
		return;
	}
	host_check_memory(p, CALL_SITE);
	size = malloc_usable_size(p);
	memset(p, SPOILT, size);
	freed[freed_count].p = p;
	freed[freed_count++].size = size;
}

DECLARE(void *, realloc, void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
	void *new = __wrap_malloc(n);

	if (new && p) {
		size_t old = malloc_usable_size(p);

		memcpy(new, p, old < n ? old : n);
		__wrap_free(p);
	}
	return new;
}

void host_check_memory(const void *p, const void *site)
{
	for (int i = 0; i < freed_count; i++)
		if ((uintptr_t)p - (uintptr_t)freed[i].p < freed[i].size) {
			char name[128];

			site_name(name, sizeof name, site);
			schedule_failed("%s uses memory that was freed", name);
		}
}

/* Plain writes are no steps: they show in what they leave behind. */
void host_free_all(void)
{
	while (freed_count > 0) {
		const unsigned char *p = freed[--freed_count].p;
		size_t size = freed[freed_count].size;

		if (size && (p[0] != SPOILT || memcmp(p, p + 1, size - 1) != 0))
			schedule_failed("memory was written to that was freed");
		__real_free(freed[freed_count].p);
	}
}

long host_blocks(void)
{
	return blocks;
}

void host_reset(void)
{
	held_count = 0;
	late_reset();
	memset(key_values[1], 0, sizeof key_values - sizeof key_values[0]);
}
