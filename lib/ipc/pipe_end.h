/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipe_end.h: ends of pipes: as all processes know them, and as this one has them.
 *
 * The object in the family's memory says which way an end goes and where to ask for a copy; it is the maker's, and goes with his copy. What a process has
 * is its own: a descriptor, found by the handle.
 */
#ifndef CREW_LIB_PIPE_END_H
#define CREW_LIB_PIPE_END_H

#include <crew/pipe.h>
#include <pthread.h>

#include "base/descriptor.h"
#include "ipc/frame.h"
#include "ipc/object.h"

#define FRAME_MOST ((uint64_t)1 << 30) /* of a message of another program */

enum end_flags { END_SENDS = 1, END_RECEIVES = 2, END_STREAM = 4, END_FOREIGN = 8 };

/* In the family's memory; fixed after make. */
struct end_object {
	uint64_t stamp;
	uint64_t lender[2]; /* the name of its socket */
	uint32_t flags;
};

/* A message that has come. */
struct parcel {
	bool there;
	struct frame frame;
	unsigned char *data; /* of FRAME_DATA */
	int fd;		     /* of the others */
};

/* In this process. */
struct pipe_end {
	crew_handle handle;
	int fd;
	uint32_t flags;
	struct fd_mark mark; /* is fd still what it was, after a fork that closed everything? */
	struct pipe_end *next;
	/* guarded by the table */
	uint32_t refs; /* of the table, and of calls that go on */
	bool inherited; /* by a fork, and not used here since: nobody has looked at mark */
	bool made;     /* here: we lend it */
	bool lent;     /* somebody has a copy */
	uint64_t given; /* until when it may still be fetched; 0: it was not given away */
	uint32_t patience; /* ns that a receiver looks again and again before it sleeps; learnt. Any thread, a guess */
	/* one at a time */
	pthread_mutex_t sending, receiving;
	bool broken; /* a stream's frame was cut: nothing can be sent any more; guarded by sending */
	/* guarded by receiving: */
	struct parcel waiting; /* taken from the socket, not yet by the user */
	unsigned char *body;   /* of what comes in: what is too long for the user's buffer; of a stream, everything */
	size_t capacity;
	unsigned char head[FRAME_HEAD]; /* of a stream */
	size_t have;			/* bytes of it, then of the body too */
	bool spoilt;			/* nonsense came over a stream: nothing behind it can be read */
	struct frame frame;
};

/* Make an end of this process of fd, which is consumed. *ret is a failed handle when it cannot be. */
crew_pipe crew__end_make(int fd, uint32_t flags);

/* This process's end, fetched if need be; until put. NULL: *ret says why. */
struct pipe_end *crew__end_get(crew_pipe p, int *ret);
void crew__end_put(struct pipe_end *e);

/* Streams, stream.c; e->sending, e->receiving are held by the caller. recv: 0: e->waiting is there; -EAGAIN; CREW_ECLOSED, CREW_EPROTO, -ENOMEM. */
int crew__stream_send(struct pipe_end *e, const void *data, size_t n, uint64_t deadline);
int crew__stream_recv(struct pipe_end *e);

/* Throw away what waits. */
void crew__parcel_drop(struct parcel *parcel);

/* poll() until a deadline, whatever signals come: 0; -EAGAIN: it was 0, and -ETIMEDOUT; -errno. */
int crew__fd_await(int fd, short events, uint64_t deadline);

/* The lender: pipe_lender.c. Count one more or one less end that others may ask for; it runs while there are any. */
int crew__lender_open(uint64_t ret_name[2]); /* -errno */
void crew__lender_close(void);
void crew__lender_look(void); /* at the gifts anew */
void crew__lender_forked(void); /* in a forked child: it is the parent's */
int crew__lender_fetch(const struct end_object *object, crew_handle handle); /* a descriptor; -ETIMEDOUT, CREW_ECLOSED, -errno */

/* What the lender asks of the table: a duplicate of the descriptor for whoever asks; CREW_ECLOSED. And when the next gift expires. */
int crew__end_lend(crew_handle handle);
uint64_t crew__end_expire(void);

#endif
