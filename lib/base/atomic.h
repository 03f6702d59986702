/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * atomic.h: Concurrency Kit's ck_pr, and the two orders it has no word for.
 *
 * ck_pr's read-modify-write is a full barrier on x86 and no barrier at all elsewhere; its loads and stores are relaxed. The
 * pairs below are what nearly every protocol here needs: publish by a release store, look by an acquire load. Builds for
 * ThreadSanitizer put their own ck_pr.h first, in which it can see all of this (test/tsan/).
 */
#ifndef CREW_LIB_ATOMIC_H
#define CREW_LIB_ATOMIC_H

#include <ck_cc.h>
#include <ck_pr.h>
#include <stdbool.h>
#include <stdint.h>

#define CREW__CACHELINE 64
#define CREW__ALIGNED __attribute__((__aligned__(CREW__CACHELINE)))
#define likely(x_) __builtin_expect(!!(x_), 1)
#define unlikely(x_) __builtin_expect(!!(x_), 0)

static inline uint32_t load_acquire_32(const uint32_t *p)
{
	uint32_t v = ck_pr_load_32(p);
	ck_pr_fence_acquire();
	return v;
}

static inline uint64_t load_acquire_64(const uint64_t *p)
{
	uint64_t v = ck_pr_load_64(p);
	ck_pr_fence_acquire();
	return v;
}

static inline void *load_acquire_ptr(void *const *p)
{
	void *v = ck_pr_load_ptr(p);
	ck_pr_fence_acquire();
	return v;
}

static inline void store_release_32(uint32_t *p, uint32_t v)
{
	ck_pr_fence_release();
	ck_pr_store_32(p, v);
}

static inline void store_release_64(uint64_t *p, uint64_t v)
{
	ck_pr_fence_release();
	ck_pr_store_64(p, v);
}

static inline void store_release_ptr(void **p, void *v)
{
	ck_pr_fence_release();
	ck_pr_store_ptr(p, v);
}

/* Have the line here when it is written soon. A plain prefetch would bring a copy to read, and the write would ask for it again. */
static inline void prefetch_to_write(const void *p)
{
#ifdef __x86_64__
	__asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)p)); /* nothing, where a processor lacks it; gcc needs -mprfchw to say so */
#else
	__builtin_prefetch(p, 1);
#endif
}

#endif
