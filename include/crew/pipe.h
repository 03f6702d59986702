/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipe.h: messages between two ends, in this program or, over a socket, with another; and waiting for several things at once.
 *
 *	crew_pipe end[2];
 *	crew_must(crew_pipe_make(end, 0));
 *	crew_future *f = crew_submit(ex, talk, end[1]);		the handle is a value: it may go to any process of the program
 *	crew_must(crew_pipe_give(end[1]));			that end is theirs now
 *	crew_must(crew_pipe_send(end[0], "hello", 5, CREW_FOREVER));
 *	n = crew_pipe_recv(end[0], buffer, sizeof buffer, CREW_FOREVER);
 *	crew_pipe_drop(end[0]);
 *
 * Messages keep their boundaries and have any size, 0 included. A message is sent whole or not at all, whoever is killed when; several threads and processes
 * may send into, and receive from, the same end: each message goes to one of them. (Over TCP: several threads of one process.)
 *
 * An end is a socket, and each process that uses a handle has a copy of it: by inheritance in a forked child, else it gets one at its first use, from the
 * process that made the end. So that process must still be there and have the end then, or have given it away: else CREW_ECLOSED. When all
 * copies of an end are closed, be it by crew_pipe_drop() or because the processes that had them are dead, the other end has what was sent and then
 * is at its end: CREW_ECLOSED for a receive, -EPIPE for a send, never a signal. A handle that nobody has used yet holds nothing open.
 *
 * Every call: any thread; after a fork too. CREW_EHANDLE: not an end, or given back where it was made. `ms` as everywhere, with -EAGAIN for 0
 * and -ETIMEDOUT else. -EMFILE: no descriptor for a copy.
 */
#pragma GCC system_header
#ifndef CREW_PIPE_H
#define CREW_PIPE_H

#include <crew/future.h>
#include <crew/handle.h>
#include <crew/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crew_pipe {
	crew_handle handle;
} crew_pipe;

enum crew_pipe_flags { CREW_PIPE_ONEWAY = 1 /* [0] receives, [1] sends; the wrong direction is -EBADF */ };

/* Two ends. 0, or why not: then both are failed handles. The process gets a thread of the library's own that hands out copies, while it has ends. */
CREW_API CREW_MUST_CHECK int crew_pipe_make(crew_pipe ret[2], unsigned flags);

/* Close this process's copy. In the process that made the end nobody can get a copy after that. */
CREW_API void crew_pipe_drop(crew_pipe p);

/* For the process that made the end and has passed the handle on: its copy is closed as soon as another process has one, by using it. Nobody came within a
   minute: it is closed, too. (A forked child that was forked to have it has it already: there crew_pipe_drop() will do, as it does for the end that the child
   inherited and has no use for.) 0; CREW_EHANDLE: not made here, or given away before. */
CREW_API int crew_pipe_give(crew_pipe p);

/* Send n bytes. May block until the other side has read. 0; -EPIPE: the other end is closed; -ENOMEM; over TCP a send that times out in the middle of a
   message closes the connection. */
CREW_API CREW_MUST_CHECK int crew_pipe_send(crew_pipe p, const void *data, size_t n, int ms);

/* The next message into a buffer of n bytes: its length. -EMSGSIZE: it is longer, and this process has it still (the buffer holds nothing of
   use): crew_pipe_next_size() says how long, crew_pipe_skip() goes past it.
   CREW_ECLOSED: the end. CREW_ETYPE: it is a descriptor. */
CREW_API CREW_MUST_CHECK ssize_t crew_pipe_recv(crew_pipe p, void *data, size_t n, int ms);

/* The same in memory that is yours: crew_bytes_free(). -ENOMEM takes nothing. */
CREW_API CREW_MUST_CHECK int crew_pipe_recv_bytes(crew_pipe p, crew_bytes *ret, int ms);

/* Wait for a message, or the end, without taking it: 0; -EAGAIN, -ETIMEDOUT. The end is something to receive. */
CREW_API int crew_pipe_poll(crew_pipe p, int ms);

/* The length of the next message, which must have come; or throw it away. -EAGAIN: there is none; CREW_ECLOSED. */
CREW_API ssize_t crew_pipe_next_size(crew_pipe p);
CREW_API int crew_pipe_skip(crew_pipe p);

/* Send a duplicate of a descriptor, and receive one: close-on-exec, above 2, yours. Not over TCP: -ENOTSUP. recv_fd of a message of bytes is CREW_ETYPE; the message
   is still there. */
CREW_API CREW_MUST_CHECK int crew_pipe_send_fd(crew_pipe p, int fd, int ms);
CREW_API CREW_MUST_CHECK int crew_pipe_recv_fd(crew_pipe p, int ms);

/* This process's descriptor of the end, for poll and epoll: readable when there is a message or the end; one that was too long, and is kept here, does not show.
   The library's: not to be read, written or closed. */
CREW_API int crew_pipe_fd(crew_pipe p);

/*
 * Listener and client: pipes to other programs.
 *
 * Addresses: "unix:/run/me/socket", "unix:@name" (Linux's abstract names, which have no owner: whoever is first), "tcp:127.0.0.1:4711", "tcp:[::1]:0" (any port).
 * NULL: a Unix socket in a new directory of its own that only this user may enter; crew_listener_address() tells.
 *
 * Both sides show that they know the key, by HMAC-SHA256 over what both have made up for the occasion, before anything else is sent; an empty key is a key like any
 * other, if a bad one. What is sent then is neither encrypted nor signed: over TCP that is for trusted networks. Over Unix sockets the
 * other side must moreover belong to the same user. The handshake takes at most 5 s, else it has failed; up to 64 may go on at once, so a client that is
 * slow, or silent, delays nobody else. A message over TCP, or from a peer over a Unix socket, has at most 1 GiB.
 * What comes and is no message is CREW_EPROTO; over TCP nothing behind it can be read, and the connection is closed.
 *
 * The HMAC is libcrypto's (OpenSSL 1.1 or 3), which is loaded at the first use: -ENOSYS where it is not installed.
 */
typedef struct crew_listener crew_listener;

/* NULL, and *ret_code, which may be NULL, says why: -EADDRINUSE, -EACCES, -ENAMETOOLONG, -EINVAL: not an address, -ENOENT: host unknown,
   -ENOSYS, …. key is copied. A socket file that nobody listens to any more, of this user, is replaced. */
CREW_API crew_listener *crew_listener_open(const char *address, crew_bytes key, int *ret_code);
CREW_API const char *crew_listener_address(crew_listener *l); /* as crew_connect() takes it; the listener's */
CREW_API int crew_listener_fd(crew_listener *l);	      /* readable when accept has something to do, which need not end in a pipe */

/* The next client that knows the key; crew_handle_error(): -EAGAIN, -ETIMEDOUT. A client that does not is told CREW_EAUTH and never seen. One thread at a time. */
CREW_API crew_pipe crew_listener_accept(crew_listener *l, int ms);
CREW_API crew_listener *crew_listener_close(crew_listener *l); /* NULL; pipes that were accepted live on */

/* crew_handle_error(): CREW_EAUTH: one of the two does not know the key; -ECONNREFUSED, -ENOENT, -ETIMEDOUT, …. A handshake never takes more than 5 s. */
CREW_API crew_pipe crew_connect(const char *address, crew_bytes key, int ms);

/*
 * Wait for several things at once: pipes, queues, futures, processes (crew_on_process(), process.h), any descriptors: sockets, crew_listener_fd().
 *
 *	crew_waitable things[] = { crew_on_pipe(p), crew_on_future(f), crew_on_fd(socket) };
 *	n = crew_wait_ready(things, 3, 1000);		how many .ready are true now; 0: time is up
 *
 * Ready: a receive, a get, a read would not wait (the end is something, too); the future is done. -EINVAL, -ENOMEM; what is wrong with one of them,
 * a handle that is none, a negative descriptor or a future of another process, makes it ready.
 */
typedef struct crew_waitable {
	int kind, fd;
	crew_handle handle;
	crew_future *future;
	bool ready;
} crew_waitable;

CREW_API crew_waitable crew_on_fd(int fd);
CREW_API crew_waitable crew_on_pipe(crew_pipe p);
CREW_API crew_waitable crew_on_queue(crew_queue q);
CREW_API crew_waitable crew_on_future(crew_future *f);
CREW_API int crew_wait_ready(crew_waitable *things, size_t n, int ms);

#ifdef __cplusplus
}
#endif
#endif
