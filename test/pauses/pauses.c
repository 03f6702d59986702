/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pauses.c: the library of the interleavings, with real operations under it: before and after each, now and then, somebody loses the processor.
 *
 *	lib/ ── operations.h ──> step_load, step_cas, … ──> a pause ──> the operation ──> a pause
 *
 * The objects are those of test/interleaving, to the byte: there a step is the scheduler's business, here threads and processes are real, and as many as
 * a program has. What a scheduler tries in order is tried by chance, but in whole programs: with the engine, the zygote, kills, and the kernel's own share.
 *
 * Two kinds of places: any, at one operation in a hundred or so; and hot ones, one in 16 of all places in the code, which the seed picks, at one time in
 * four: a window that nobody ever hits is hit all the time there. Half of the pauses let others go first, most others last up to 5 µs, one in
 * eight sleeps up to 2 ms. A pause empties the store buffer, so a missing fence is not what this finds.
 *
 * A thread is held up for a second in all, or as many as STRESS says, and then goes on undisturbed: on a busy machine to let others go first
 * takes as long as they like.
 *
 * All follows from a seed, which a process and a thread mix with their numbers. It is in the environment, for those who are executed: CREW_TEST_PAUSES
 * ("any": one is drawn, and printed).
 * CREW_TEST_FAULT="function kind" puts in one of the faults of the interleavings, in all processes. With CREW_TEST_CALM nobody pauses, for comparison.
 */
#include "pauses/pauses.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "interleaving/search.h"

enum { RARELY = 128, HOT_PLACES = 16, HOT_TIMES = 4 };
#define PATIENCE_NS 1000000000u
#define SEED "CREW_TEST_PAUSES"
#define FAULT "CREW_TEST_FAULT"
#define CALM "CREW_TEST_CALM"

extern const char __executable_start[];

static bool pausing;
static uint64_t seed, made, patience = PATIENCE_NS;
static uint32_t threads; /* that have paused, in this process */
static __thread struct pauser {
	uint64_t random;
	uint32_t left; /* operations until it pauses */
	pid_t pid;     /* a forked process draws its own */
	uint64_t spent; /* ns */
} pauser __attribute__((__tls_model__("initial-exec")));

/* ---- when, and for how long ---- */

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t draw(void)
{
	return mix(pauser.random += 0x9e3779b97f4a7c15u);
}

static uint64_t clock_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void spin_until(uint64_t end)
{
	while (clock_now() < end)
		;
}

static void pause_now(void)
{
	uint64_t random;
	int before = errno;
	uint64_t began = clock_now();
	pid_t pid = getpid();

	if (pauser.pid != pid) {
		pauser.pid = pid;
		pauser.spent = 0;
		pauser.random = seed ^ mix((uint64_t)pid) ^ mix(__atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED));
	}
	random = draw();
	pauser.left = 1 + (uint32_t)(random >> 32) % (2 * RARELY);
	__atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
	if (random % 8 == 0)
		syscall(SYS_nanosleep, &(struct timespec){ 0, (long)(draw() % 2000000) }, NULL);
	else if (random % 8 < 4)
		spin_until(began + draw() % 5000);
	else
		sched_yield();
	pauser.spent += clock_now() - began;
	errno = before;
}

/* By where it is in the program, which may lie anywhere. So that a fault is found in a few rounds instead of a few dozens its place is always hot. */
static bool is_hot(const void *site)
{
	uint64_t place = (uint64_t)((uintptr_t)site - (uintptr_t)__executable_start);

	return mix(place ^ seed) % HOT_PLACES == 0 || fault_covers(site);
}

static void may_pause(const void *site)
{
	if (!pausing || pauser.spent > patience)
		return;
	if (pauser.left == 0 || --pauser.left == 0 || (is_hot(site) && draw() % HOT_TIMES == 0))
		pause_now();
}

/* ---- from a seed ---- */

void pauses_begin(uint64_t of)
{
	char text[24];

	snprintf(text, sizeof text, "%llu", (unsigned long long)of);
	setenv(SEED, text, 1);
	seed = of;
	pausing = !getenv(CALM);
}

uint64_t pauses_made(void)
{
	return __atomic_load_n(&made, __ATOMIC_RELAXED);
}

static void inherit_fault(void)
{
	const char *text = getenv(FAULT);
	static char function[64];
	int kind;

	if (!text || sscanf(text, "%63s %d", function, &kind) != 2)
		return;
	fault_set(&(struct fault){ function, (enum fault_kind)kind });
}

__attribute__((__constructor__)) static void inherit(void)
{
	const char *text = getenv(SEED);
	struct timespec now;

	inherit_fault();
	patience = test_scaled(PATIENCE_NS);
	if (!text)
		return;
	seed = strtoull(text, NULL, 10);
	if (seed == 0) { /* "any": those who are executed from here on have the same */
		clock_gettime(CLOCK_REALTIME, &now);
		seed = mix((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec) | 1;
		fprintf(stderr, "%s=%llu\n", SEED, (unsigned long long)seed);
		pauses_begin(seed);
	}
	pausing = !getenv(CALM);
}

/* ---- operations ---- */

static uint64_t load(const void *p, unsigned int size)
{
	switch (size) {
	case 1: return __atomic_load_n((const uint8_t *)p, __ATOMIC_RELAXED);
	case 2: return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);
	case 4: return __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
	default: return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
	}
}

static void store(void *p, uint64_t v, unsigned int size)
{
	switch (size) {
	case 1: __atomic_store_n((uint8_t *)p, (uint8_t)v, __ATOMIC_RELAXED); break;
	case 2: __atomic_store_n((uint16_t *)p, (uint16_t)v, __ATOMIC_RELAXED); break;
	case 4: __atomic_store_n((uint32_t *)p, (uint32_t)v, __ATOMIC_RELAXED); break;
	default: __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELAXED);
	}
}

#define CAS(type_)                                                                                                                   \
	{                                                                                                                            \
		type_ there = (type_)*found;                                                                                         \
		bool won = __atomic_compare_exchange_n((type_ *)p, &there, (type_)to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
		*found = there;                                                                                                      \
		return won;                                                                                                          \
	}

static bool cas(void *p, uint64_t *found, uint64_t to, unsigned int size)
{
	switch (size) {
	case 1: CAS(uint8_t)
	case 2: CAS(uint16_t)
	case 4: CAS(uint32_t)
	default: CAS(uint64_t)
	}
}

uint64_t step_load(const void *p, unsigned int size)
{
	uint64_t v;

	may_pause(CALL_SITE);
	v = fault_at(size == sizeof(uint64_t) ? BLIND_WIDE_LOAD : BLIND_LOAD, CALL_SITE) ? 0 : load(p, size);
	may_pause(CALL_SITE);
	return v;
}

void step_store(void *p, uint64_t v, unsigned int size)
{
	may_pause(CALL_SITE);
	if (!fault_at(NO_STORE, CALL_SITE))
		store(p, v, size);
	may_pause(CALL_SITE);
}

bool step_cas(void *p, uint64_t from, uint64_t to, uint64_t *found, unsigned int size)
{
	bool won = true;

	may_pause(CALL_SITE);
	*found = from;
	if (fault_at(BLIND_CAS, CALL_SITE))
		store(p, to, size);
	else if (!fault_at(DEAF_CAS, CALL_SITE))
		won = cas(p, found, to, size);
	may_pause(CALL_SITE);
	return won;
}

uint64_t step_update(void *p, enum step_update what, uint64_t v, unsigned int size)
{
	uint64_t old, new;

	may_pause(CALL_SITE);
	old = load(p, size);
	do {
		new = what == UPDATE_ADD ? old + v : what == UPDATE_AND ? old & v : what == UPDATE_OR ? old | v : what == UPDATE_XOR ? old ^ v : v;
	} while (!fault_at(NO_UPDATE, CALL_SITE) && !cas(p, &old, new, size));
	may_pause(CALL_SITE);
	return old;
}

void step_fence(void)
{
	may_pause(CALL_SITE);
	if (!fault_at(NO_FENCE, CALL_SITE))
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	may_pause(CALL_SITE);
}

void step_stall(void)
{
	__builtin_ia32_pause();
}
