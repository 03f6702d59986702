/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * latch.h: a lock in one word, among threads of one process, for what every submit takes.
 *
 * Free, it costs a compare-and-swap and an exchange, in line. Taken, a short look, since those who have it give it back within a microsecond, and then a
 * nap. It knows no owner and no fairness; the child of a fork must not touch it, as it must not touch anything else of the executor it lies in.
 *
 *	FREE ─take→ TAKEN ─release→ FREE
 *	              └──whoever is about to sleep→ AWAITED ─release→ FREE, one woken, who takes it as AWAITED: there may be more
 *
 * ThreadSanitizer is told that this is a mutex, so it finds wrong orders of locking as it does with others.
 */
#ifndef CREW_LIB_LATCH_H
#define CREW_LIB_LATCH_H

#include "base/atomic.h"
#include "base/futex.h"

#if defined(__SANITIZE_THREAD__)
#define CREW__LATCH_TOLD
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CREW__LATCH_TOLD
#endif
#endif
#ifdef CREW__LATCH_TOLD
#include <sanitizer/tsan_interface.h>
#else
#define __tsan_mutex_pre_lock(latch_, flags_) ((void)0)
#define __tsan_mutex_post_lock(latch_, flags_, depth_) ((void)0)
#define __tsan_mutex_pre_unlock(latch_, flags_) ((void)0)
#define __tsan_mutex_post_unlock(latch_, flags_) ((void)0)
#endif

struct latch {
	uint32_t word; /* as below; futex. Zeroed memory is a free one */
};

enum { LATCH_FREE, LATCH_TAKEN, LATCH_AWAITED };
#ifndef LATCH_LOOKS
#define LATCH_LOOKS 64 /* before a nap */
#endif

__attribute__((__noinline__, __cold__, __unused__)) static void latch_wait(struct latch *l)
{
	for (int i = 0; i < LATCH_LOOKS; i++) {
		if (ck_pr_load_32(&l->word) == LATCH_FREE && ck_pr_cas_32(&l->word, LATCH_FREE, LATCH_TAKEN))
			return;
		ck_pr_stall();
	}
	while (ck_pr_fas_32(&l->word, LATCH_AWAITED) != LATCH_FREE)
		crew__futex_wait(&l->word, LATCH_AWAITED, NEVER, false); /* woken by latch_release */
}

static inline void latch_take(struct latch *l)
{
	__tsan_mutex_pre_lock(l, 0);
	if (unlikely(!ck_pr_cas_32(&l->word, LATCH_FREE, LATCH_TAKEN)))
		latch_wait(l);
	ck_pr_fence_acquire(); /* pairs with the release in latch_release */
	__tsan_mutex_post_lock(l, 0, 0);
}

static inline void latch_release(struct latch *l)
{
	__tsan_mutex_pre_unlock(l, 0);
	ck_pr_fence_release(); /* pairs with the acquire in latch_take */
	if (unlikely(ck_pr_fas_32(&l->word, LATCH_FREE) == LATCH_AWAITED))
		crew__futex_wake(&l->word, 1, false);
	__tsan_mutex_post_unlock(l, 0);
}

#endif
