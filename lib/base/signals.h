/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signals.h: every signal held back for a moment in the calling thread. What is started meanwhile, a thread or a forked child, starts with all of
 * them blocked: no handler of the host program's ever runs in a thread or a process of ours.
 */
#ifndef CREW_LIB_SIGNALS_H
#define CREW_LIB_SIGNALS_H

#include <signal.h>

/* The mask as it was. */
static inline sigset_t signals_block(void)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	return before;
}

static inline void signals_restore(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* Every disposition as after exec, and everything blocked: for a forked child that runs code of ours only. */
static inline void signals_reset(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };

	signals_block();
	for (int i = 1; i < NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP)
			sigaction(i, &action, NULL);
}

#endif
