/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * listener.c: pipes to other programs, behind a handshake.
 *
 *	accept ─> guest: challenge sent ─ answer comes, in its own time ─> knows the key: a pipe ; does not, or 5 s are over: gone
 *
 * Up to GUESTS_MAX handshakes go on at once, each with its own deadline, all in the thread that calls crew_listener_accept(): it polls them together
 * with the listening socket (one epoll descriptor, which is also what an event loop may watch). With all places taken by silent guests newcomers wait in the
 * kernel's queue, 5 s at most.
 *
 * A socket in the file system is made with mode 0600 from its first moment, and removed at close only if it is still ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "ipc/address.h"
#include "ipc/handshake.h"
#include "ipc/hmac.h"
#include "ipc/pipe_end.h"

enum { GUESTS_MAX = 64 };

struct guest {
	int fd; /* -1: a free place */
	uint64_t deadline;
	struct handshake handshake;
};

struct crew_listener {
	/* fixed after open */
	int fd, epoll;
	pid_t pid; /* that opened it: a forked child removes nothing */
	struct address address;
	char text[ADDRESS_TEXT];
	char *directory; /* of our own making, or NULL */
	dev_t dev;	 /* of the socket in the file system */
	ino_t ino;
	crew_bytes key;
	/* the accepting thread's */
	struct guest guests[GUESTS_MAX];
};

/* ---- sockets ---- */

static int socket_for(const struct address *address)
{
	int type = address->any.sa_family == AF_UNIX ? SOCK_SEQPACKET : SOCK_STREAM;

	return crew__fd_keep(socket(address->any.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

static bool is_unix(const struct address *address)
{
	return address->any.sa_family == AF_UNIX;
}

static bool same_user(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid();
}

static uint32_t flags_of(const struct address *address)
{
	return END_SENDS | END_RECEIVES | END_FOREIGN | (is_unix(address) ? 0 : END_STREAM);
}

/* Answers at once instead of gathering small messages. */
static void hurry(int fd, const struct address *address)
{
	if (!is_unix(address))
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

/* ---- opening ---- */

/* A socket file of ours that nobody listens to: what a killed program left. */
static bool is_stale(const struct address *address)
{
	struct stat st;
	bool stale;
	int fd;

	if (lstat(crew__address_path(address), &st) || !S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
		return false;
	fd = socket_for(address);
	if (fd < 0)
		return false;
	stale = connect(fd, &address->any, address->size) && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int bind_and_listen(struct crew_listener *l)
{
	const char *path = crew__address_path(&l->address);
	struct stat st;
	int rc;

	if (is_unix(&l->address))
		fchmod(l->fd, 0600); /* before the bind: that is the mode which the file is made with */
	else
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	rc = bind(l->fd, &l->address.any, l->address.size) ? -errno : 0;
	if (rc == -EADDRINUSE && path && is_stale(&l->address) && unlink(path) == 0)
		rc = bind(l->fd, &l->address.any, l->address.size) ? -errno : 0;
	if (rc)
		return rc;
	if (path && lstat(path, &st) == 0) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	if (listen(l->fd, 128))
		return -errno;
	if (!is_unix(&l->address)) /* which port? */
		getsockname(l->fd, &l->address.any, &l->address.size);
	return 0;
}

/* A directory that nobody else may enter. */
static int make_directory(struct crew_listener *l)
{
	char path[ADDRESS_TEXT], directory[] = "/tmp/crew-" "XX" "XX" "XX"; /* in pairs: three of them are a note to oneself */

	if (!mkdtemp(directory))
		return -errno;
	l->directory = strdup(directory);
	if (!l->directory) {
		rmdir(directory);
		return -ENOMEM;
	}
	snprintf(path, sizeof path, "unix:%s/listener", directory);
	return crew__address_parse(path, &l->address);
}

static int copy_key(struct crew_listener *l, crew_bytes key)
{
	if (!key.data && key.len)
		return -EINVAL;
	l->key.len = key.len;
	l->key.data = malloc(l->key.len + 1);
	if (!l->key.data)
		return -ENOMEM;
	if (l->key.len)
		memcpy(l->key.data, key.data, l->key.len);
	return 0;
}

static int open_sockets(struct crew_listener *l)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = GUESTS_MAX };
	int rc;

	l->fd = socket_for(&l->address);
	if (l->fd < 0)
		return l->fd;
	rc = bind_and_listen(l);
	if (rc)
		return rc;
	l->epoll = crew__fd_keep(epoll_create1(EPOLL_CLOEXEC));
	if (l->epoll < 0)
		return l->epoll;
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->fd, &event))
		return -errno;
	crew__address_print(&l->address, l->text);
	return 0;
}

crew_listener *crew_listener_open(const char *address, crew_bytes key, int *ret_code)
{
	struct crew_listener *l = calloc(1, sizeof *l);
	int rc = l ? crew__hmac_available() : -ENOMEM;

	if (l) {
		l->fd = l->epoll = -1;
		l->pid = getpid();
		for (int i = 0; i < GUESTS_MAX; i++)
			l->guests[i].fd = -1;
	}
	if (rc == 0)
		rc = copy_key(l, key);
	if (rc == 0)
		rc = address ? crew__address_parse(address, &l->address) : make_directory(l);
	if (rc == 0)
		rc = open_sockets(l);
	if (ret_code)
		*ret_code = rc;
	return rc ? crew_listener_close(l) : l;
}

crew_listener *crew_listener_close(crew_listener *l)
{
	const char *path = l ? crew__address_path(&l->address) : NULL;
	struct stat st;

	if (!l)
		return NULL;
	for (int i = 0; i < GUESTS_MAX; i++)
		if (l->guests[i].fd >= 0)
			close(l->guests[i].fd);
	if (l->pid == getpid() && path && l->ino && lstat(path, &st) == 0 && st.st_ino == l->ino && st.st_dev == l->dev)
		unlink(path);
	if (l->pid == getpid() && l->directory)
		rmdir(l->directory);
	if (l->fd >= 0)
		close(l->fd);
	if (l->epoll >= 0)
		close(l->epoll);
	if (l->key.data)
		explicit_bzero(l->key.data, l->key.len);
	free(l->key.data);
	free(l->directory);
	free(l);
	return NULL;
}

const char *crew_listener_address(crew_listener *l)
{
	return l ? l->text : NULL;
}

int crew_listener_fd(crew_listener *l)
{
	return l ? l->epoll : -EINVAL;
}

/* ---- guests ---- */

static void dismiss(struct guest *g)
{
	close(g->fd); /* which takes it out of the epoll set */
	g->fd = -1;
}

static struct guest *free_place(struct crew_listener *l)
{
	for (int i = 0; i < GUESTS_MAX; i++)
		if (l->guests[i].fd < 0)
			return &l->guests[i];
	return NULL;
}

static void greet(struct crew_listener *l, struct guest *g, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)(g - l->guests) };

	*g = (struct guest){ .fd = fd, .deadline = crew__deadline(HANDSHAKE_MS) };
	if ((is_unix(&l->address) && !same_user(fd)) || crew__handshake_challenge(&g->handshake, fd) ||
	    epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event))
		dismiss(g);
}

/* Let in who waits, as far as there is room. */
static void let_in(struct crew_listener *l)
{
	struct guest *g;

	while ((g = free_place(l))) {
		int fd = crew__fd_keep(accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));

		if (fd < 0 && fd != -EINTR && fd != -ECONNABORTED)
			return;
		if (fd >= 0)
			greet(l, g, fd);
	}
}

/* Those whose time is over go; when is the next one's? */
static uint64_t expire(struct crew_listener *l)
{
	uint64_t now = crew__now(), next = NEVER;

	for (int i = 0; i < GUESTS_MAX; i++) {
		struct guest *g = &l->guests[i];

		if (g->fd >= 0 && g->deadline <= now)
			dismiss(g);
		if (g->fd >= 0 && g->deadline < next)
			next = g->deadline;
	}
	return next;
}

/* A guest has said something. True: *ret is his pipe. */
static bool hear(struct crew_listener *l, struct guest *g, crew_pipe *ret)
{
	int rc = crew__handshake_finish(&g->handshake, g->fd, l->key), fd = g->fd;

	if (rc == -EAGAIN)
		return false;
	if (rc) {
		dismiss(g);
		return false;
	}
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
	g->fd = -1;
	hurry(fd, &l->address);
	*ret = crew__end_make(fd, flags_of(&l->address));
	return true;
}

/* One look at everybody: true: *ret is a pipe. */
static bool look_around(struct crew_listener *l, crew_pipe *ret)
{
	for (int i = 0; i < GUESTS_MAX; i++) {
		struct guest *g = &l->guests[i];

		if (g->fd >= 0 && hear(l, g, ret))
			return true;
	}
	return false;
}

/* With every place taken the listening socket would keep us awake for nothing. */
static void watch_listener(struct crew_listener *l)
{
	struct epoll_event event = { .events = free_place(l) ? EPOLLIN : 0, .data.u32 = GUESTS_MAX };

	epoll_ctl(l->epoll, EPOLL_CTL_MOD, l->fd, &event);
}

crew_pipe crew_listener_accept(crew_listener *l, int ms)
{
	uint64_t deadline = ms == 0 ? 0 : crew__deadline(ms);
	crew_pipe made;

	if (!l || l->pid != getpid())
		return (crew_pipe){ crew__handle_failed(l ? CREW_EFORKED : -EINVAL) };
	for (;;) {
		uint64_t next;
		int rc;

		expire(l);
		let_in(l);
		if (look_around(l, &made))
			return made;
		next = expire(l);
		watch_listener(l);
		rc = crew__fd_await(l->epoll, POLLIN, deadline < next ? deadline : next);
		if (rc == -EAGAIN || (rc == -ETIMEDOUT && crew__now() >= deadline) || (rc && rc != -ETIMEDOUT))
			return (crew_pipe){ crew__handle_failed(rc) };
	}
}

/* ---- the client ---- */

static int connect_within(int fd, const struct address *address, uint64_t deadline)
{
	socklen_t n = sizeof(int);
	int error = 0, rc;

	if (connect(fd, &address->any, address->size) == 0)
		return 0;
	if (errno == EAGAIN && is_unix(address)) /* the listener's queue is full: a Unix socket cannot be polled for that */
		return -EAGAIN;
	if (errno != EINPROGRESS && errno != EINTR)
		return -errno;
	rc = crew__fd_await(fd, POLLOUT, deadline);
	if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n))
		rc = -errno;
	return rc ? rc : -error;
}

/* A Unix listener with a full queue: let the kernel wait for us. */
static int connect_blocking(int fd, const struct address *address, uint64_t deadline)
{
	int ms = crew__ms_left(deadline);
	struct timeval limit = { ms / 1000, ms % 1000 * 1000 };
	int rc;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	rc = ms == 0 ? -EAGAIN : connect(fd, &address->any, address->size) ? -errno : 0;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ 0, 0 }, sizeof limit);
	return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

crew_pipe crew_connect(const char *text, crew_bytes key, int ms)
{
	uint64_t deadline = crew__deadline(ms < 0 || ms > HANDSHAKE_MS ? HANDSHAKE_MS : ms);
	struct address address;
	int fd = -1, rc = !key.data && key.len ? -EINVAL : crew__hmac_available();

	if (rc == 0)
		rc = crew__address_parse(text, &address);
	if (rc == 0) {
		fd = socket_for(&address);
		rc = fd < 0 ? fd : connect_within(fd, &address, deadline);
	}
	if (rc == -EAGAIN)
		rc = connect_blocking(fd, &address, deadline);
	if (rc == 0 && is_unix(&address) && !same_user(fd))
		rc = -EACCES;
	if (rc == 0)
		rc = crew__handshake_answer(fd, key, deadline);
	if (rc) {
		if (fd >= 0)
			close(fd);
		return (crew_pipe){ crew__handle_failed(rc) };
	}
	hurry(fd, &address);
	return crew__end_make(fd, flags_of(&address));
}
