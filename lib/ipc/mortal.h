/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mortal.h: who is in the family, thread by thread, and whether he still lives: for whatever has an owner that must not be waited for in vain.
 *
 * A thread that first takes something gets a seat in a table in the family's memory, and an id, which is never another's. The seat has a robust
 * pthread mutex that the thread holds for as long as it lives: it is the kernel that sees every death, of whatever kind, by whomever; nobody has to be the
 * parent of anybody, no pid is looked at that may be a stranger's by now. Asking after somebody is a pthread_mutex_trylock(): EBUSY, he lives.
 *
 * Taking a seat is taking its mutex, be it free or its holder's who died; so there is no moment at which a death loses a seat.
 */
#ifndef CREW_LIB_MORTAL_H
#define CREW_LIB_MORTAL_H

#include <crew/handle.h>
#include <pthread.h>

#include "ipc/family_memory.h"

/* An id fits where flags are wanted beside it: the two low bits are 0. Low half: seat; high half: its generation. 0 is nobody. */
#define MORTAL_FLAGS 3u

enum mortal_state {
	MORTAL_LIVES,
	MORTAL_LEFT, /* the thread has ended in order, while it held something; its process goes on */
	MORTAL_GONE
};

struct mortal {
	pthread_mutex_t life; /* robust, process-shared; initialised with the table, held by who sits here */

	/* written by who holds `life`; read by all */
	uint32_t generation; /* of the id; grows when a holder goes and when one comes */
	uint32_t left;	     /* the holder ended with so many things that have his id in them, but his process goes on: */
	pid_t pid, tid;
	uint64_t born; /* of that process, as /proc says */

	/* by others, atomically: how many of those things are another's or free by now. A death on the way to it keeps a seat for its process's life */
	uint32_t relieved;

	/* What the thread sleeps in: the object's stamp and place. Written by the thread; the stamp is set to 0 by whoever wakes it */
	uint64_t sleeps_on;
	uint64_t sleeps_at;
	uint64_t turn; /* what it means is the object's affair */
} CREW__ALIGNED;

/* This thread's, cleared in a child that was forked. */
extern __thread uint64_t crew__mortal_id __attribute__((__tls_model__("initial-exec")));
extern __thread uint32_t crew__mortal_holds __attribute__((__tls_model__("initial-exec"))); /* how many things with his id in them */
extern __thread struct mortal *crew__mortal_seat __attribute__((__tls_model__("initial-exec")));

/* Take a seat. 0; -EAGAIN: there are as many threads as seats (65536); -ENOMEM. */
int crew__mortal_join(void);

/* This thread's id; 0: it can have none. */
static inline uint64_t mortal_here(void)
{
	if (unlikely(crew__mortal_id == 0) && crew__mortal_join())
		return 0;
	return crew__mortal_id;
}

/* What has become of him. Flags in id are ignored. Whoever finds a death does what is to be done about it, see crew__mortal_sleeps(). */
enum mortal_state crew__mortal_state(uint64_t id);
enum mortal_state crew__mortal_state_at(uint32_t index); /* of who sits there now */

/* Something that had his id in it has not any more, by another's hand: when nothing has, his seat is free. */
void crew__mortal_relieve(uint64_t id);

/* pid and thread id of a member, for people; 0: not known any more. */
void crew__mortal_name(uint64_t id, pid_t *ret_pid, pid_t *ret_tid);

/*
 * Sleeping in an object: says so in the seat, so that others can see who sleeps where, and who died there. `deaths` lies 8 bytes
 * behind the stamp in every object that lets members sleep like this: it counts those who died asleep.
 */
struct sleeping_object {
	uint64_t stamp;
	uint32_t deaths;
	uint32_t reserved;
};
void crew__mortal_sleeps(crew_handle handle);
void crew__mortal_awakes(void);

/* Seats in use have indices below this; for walks over all sleepers. The seat at an index; NULL: not there. */
uint32_t crew__mortal_seats(void);
struct mortal *crew__mortal_at(uint32_t index);

/* See to those who died asleep in the object of this stamp: each adds one to its deaths. */
void crew__mortal_bury_sleepers(uint64_t stamp);

#endif
