/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * late_steps.c: a kind of fault that moves something to where it is too late: what a function updates, or reads from a descriptor, under a mutex comes
 * behind the mutex's unlocking.
 */
#include <unistd.h>

#include "interleaving/search.h"

static struct late {
	void *p; /* NULL: no update */
	enum step_update what;
	uint64_t v;
	unsigned int size;
	int fd; /* negative: no read */
} late[FIBERS_MAX];

void late_reset(void)
{
	for (int i = 0; i < FIBERS_MAX; i++)
		late[i] = (struct late){ .fd = -1 };
}

void late_update(void *p, enum step_update what, uint64_t v, unsigned int size)
{
	struct late *l = &late[schedule_thread()];

	l->p = p;
	l->what = what;
	l->v = v;
	l->size = size;
}

void late_read(int fd)
{
	late[schedule_thread()].fd = fd;
}

void late_catch_up(void)
{
	struct late now = late[schedule_thread()];
	uint64_t value;

	late[schedule_thread()] = (struct late){ .fd = -1 };
	if (now.p)
		step_update(now.p, now.what, now.v, now.size);
	if (now.fd >= 0)
		(void)!read(now.fd, &value, sizeof value);
}
