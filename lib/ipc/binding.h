/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * binding.h: what ties a future of this process to an outcome that other processes see.
 *
 *	promise, or a future that stands for one elsewhere (STATE_SHARED):  outcome ─bring home→ future
 *	any other future that was shared:                                   future ─publish→ outcome
 */
#ifndef CREW_LIB_BINDING_H
#define CREW_LIB_BINDING_H

#include <pthread.h>

#include "core/executor_ops.h"
#include "ipc/outcome.h"

enum { HANDED_MAX = 32, LOOK_NS = 1000000, SLICE_FIRST_NS = 10000000, SLICE_LAST_NS = 500000000 };

struct binding {
	/* fixed */
	crew_future *f;
	struct share share;
	bool leads; /* the outcome follows this future */
	struct callback told; /* leads: at its completion */
	/* guarded by the mutex of struct sharing */
	uint32_t waits;		/* threads that wait for f */
	bool given_back;	/* no user has a reference any more */
	bool listed;		/* among those that the watcher looks at */
	struct binding *prev, *next;
	uint32_t handed_count;	/* handles that were not opened yet, as far as we know */
	struct handed {
		uint32_t slot;
		uint64_t word;
	} handed[HANDED_MAX];
	/* any thread, atomic */
	uint64_t looked_at; /* when its owner was last asked whether it runs */
};

/* What a process has, once it shares anything. One for each fork generation: a child begins with its own. */
struct sharing {
	uint32_t generation; /* fixed */
	pthread_mutex_t mutex;
	/* guarded by mutex */
	struct binding *first; /* that somebody wants to be told of, or that others may ask about */
	bool watching;	       /* there is a watcher */
	crew_executor *busy;   /* whose futures it looks at right now: not to be taken down */
	/* the watcher's */
	uint64_t jam_print; /* what crew__find_jams saw last */
};

/* This process's; NULL: no memory. */
struct sharing *crew__sharing_here(void);

static inline struct binding *binding_of(const crew_future *f)
{
	struct annex *a = annex_of(f);

	return a ? load_acquire_ptr((void *const *)&a->binding) : NULL;
}

/* If the outcome is there and nobody was faster: complete f with it, callbacks and all. The caller keeps f alive. */
void crew__bring_home(struct binding *b);

/* Publish how f, which is done, ended. Once. */
void crew__publish_future(struct binding *b);

/* Who may keep it here? Write that into its stake. The mutex is held. */
void crew__binding_weigh(struct binding *b);

/* ---- share_watcher.c ---- */
/* Look after b from now on. The mutex is not held. -EAGAIN: there can be no thread for it. */
int crew__watch_binding(struct sharing *here, struct binding *b);
void crew__unwatch_binding(struct sharing *here, struct binding *b); /* the mutex is held */

/* ---- jam.c ---- */
/* Tell one of the waiters of each pool whose workers all wait for what only they can run. The watcher; the mutex is not held. */
void crew__find_jams(struct sharing *here);

#endif
