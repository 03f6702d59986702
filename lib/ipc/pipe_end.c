/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipe_end.c: the ends that this process has.
 *
 *	handle ─> in the table? ─yes─> fd
 *	                └─no─> the object in the family's memory ─> its maker's lender ─> fd ─> into the table
 *
 * A forked child inherits table and descriptors; at its first use of an end it looks whether the descriptor is still that socket, as those
 * who fork like to close everything, and asks for a copy all the same, which it does not need, so that a gift is known to have arrived.
 */
#include "ipc/pipe_end.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"

enum { GIFT_MS = 60000 };

static struct {
	pthread_mutex_t mutex;
	pthread_once_t once;
	struct pipe_end *first; /* guarded by mutex */
	struct pipe_end *lost;	/* gifts of the parent of this forked process */
} table = { .mutex = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT };

/* ---- fork ---- */

static void before_fork(void)
{
	pthread_mutex_lock(&table.mutex);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&table.mutex);
}

static void after_fork_child(void)
{
	struct pipe_end **at = &table.first;

	pthread_mutex_init(&table.mutex, NULL);
	while (*at) {
		struct pipe_end *e = *at;

		e->refs = 1; /* calls of other threads went with them */
		e->made = false;
		e->inherited = true;
		pthread_mutex_init(&e->sending, NULL);
		pthread_mutex_init(&e->receiving, NULL);
		crew__parcel_drop(&e->waiting); /* the parent's */
		if (e->given) {
			*at = e->next;
			e->next = table.lost;
			table.lost = e;
			if (crew__fd_is(e->fd, &e->mark))
				close(e->fd);
		} else {
			at = &e->next;
		}
	}
	crew__lender_forked();
}

static void install(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static void lock(void)
{
	pthread_once(&table.once, install);
	pthread_mutex_lock(&table.mutex);
}

static void unlock(void)
{
	pthread_mutex_unlock(&table.mutex);
}

/* ---- the table ---- */

static struct pipe_end **find(crew_handle handle)
{
	struct pipe_end **at = &table.first;

	while (*at && ((*at)->handle.stamp != handle.stamp || (*at)->handle.place != handle.place))
		at = &(*at)->next;
	return at;
}

static void end_free(struct pipe_end *e)
{
	if (crew__fd_is(e->fd, &e->mark))
		close(e->fd);
	pthread_mutex_destroy(&e->sending);
	pthread_mutex_destroy(&e->receiving);
	crew__parcel_drop(&e->waiting);
	free(e->body);
	free(e);
}

/* Consumes fd. */
static struct pipe_end *end_new(int fd, crew_handle handle, uint32_t flags)
{
	struct pipe_end *e = calloc(1, sizeof *e);

	fd = crew__fd_keep(fd);
	if (!e || crew__fd_mark(fd, &e->mark)) {
		free(e);
		close(fd);
		return NULL;
	}
	e->handle = handle;
	e->fd = fd;
	e->flags = flags;
	e->refs = 1;
	pthread_mutex_init(&e->sending, NULL);
	pthread_mutex_init(&e->receiving, NULL);
	return e;
}

static void insert(struct pipe_end *e)
{
	e->next = table.first;
	table.first = e;
}

/* The last one out closes. */
static void unref(struct pipe_end *e)
{
	if (--e->refs == 0)
		end_free(e);
}

static void take_out(struct pipe_end **at)
{
	struct pipe_end *e = *at;
	bool made = e->made;

	*at = e->next;
	if (made && crew__handle_end(e->handle, HANDLE_PIPE))
		crew__family_free(e->handle.place);
	e->made = false;
	unref(e);
}

/* Is its descriptor what it was? Looked at once in each process. */
static bool still_there(struct pipe_end *e)
{
	if (!e->inherited)
		return true;
	if (!crew__fd_is(e->fd, &e->mark))
		return false;
	e->inherited = false;
	return true;
}

/* *ret_inherited: for the first time in this process. */
static struct pipe_end *get_from_table(crew_handle handle, bool *ret_inherited)
{
	struct pipe_end **at, *e;

	lock();
	at = find(handle);
	e = *at;
	*ret_inherited = e && e->inherited;
	if (e && !still_there(e)) {
		e->fd = -1; /* somebody else's by now */
		take_out(at);
		e = NULL;
	}
	if (e)
		e->refs++;
	unlock();
	return e;
}

/* Tell the maker that there is one more who has it. */
static void announce(crew_handle handle)
{
	const struct end_object *shared = handle_at(handle, HANDLE_PIPE);
	struct end_object object;
	int fd;

	if (!shared)
		return;
	object = *shared;
	fd = crew__lender_fetch(&object, handle);
	if (fd >= 0)
		close(fd);
}

/* Put a copy in that was fetched; another thread may have been faster. */
static struct pipe_end *add(struct pipe_end *e)
{
	struct pipe_end *there;

	lock();
	there = *find(e->handle);
	if (there)
		end_free(e);
	else
		insert(e);
	there = there ? there : e;
	there->refs++;
	unlock();
	return there;
}

static struct pipe_end *fetch(crew_pipe p, int *ret)
{
	struct end_object *shared = handle_at(p.handle, HANDLE_PIPE), object;
	struct pipe_end *e;
	int fd;

	if (!shared) {
		*ret = crew__handle_reason(p.handle);
		return NULL;
	}
	object = *shared;
	fd = crew__lender_fetch(&object, p.handle);
	if (fd < 0) {
		*ret = fd;
		return NULL;
	}
	e = end_new(fd, p.handle, object.flags);
	*ret = e ? 0 : -ENOMEM;
	return e ? add(e) : NULL;
}

struct pipe_end *crew__end_get(crew_pipe p, int *ret)
{
	bool inherited;
	struct pipe_end *e = get_from_table(p.handle, &inherited);

	*ret = 0;
	if (unlikely(e && inherited))
		announce(p.handle);
	if (likely(e && !e->given))
		return e;
	if (!e)
		return fetch(p, ret);
	crew__end_put(e);
	*ret = CREW_EHANDLE;
	return NULL;
}

void crew__end_put(struct pipe_end *e)
{
	lock();
	unref(e);
	unlock();
}

crew_pipe crew__end_make(int fd, uint32_t flags)
{
	struct end_object *object;
	struct pipe_end *e;
	crew_pipe made = { crew__handle_make(HANDLE_PIPE, sizeof *object, (void **)&object) };
	int rc;

	if (!object) {
		close(fd);
		return made;
	}
	object->flags = flags;
	rc = crew__lender_open(object->lender);
	e = rc ? NULL : end_new(fd, made.handle, flags);
	if (!e) {
		if (rc)
			close(fd);
		else
			crew__lender_close();
		crew__handle_end(made.handle, HANDLE_PIPE);
		crew__family_free(made.handle.place);
		return (crew_pipe){ crew__handle_failed(rc ? rc : -ENOMEM) };
	}
	e->made = true;
	lock();
	insert(e);
	unlock();
	return made;
}

void crew_pipe_drop(crew_pipe p)
{
	struct pipe_end **at;
	bool made = false;

	lock();
	at = find(p.handle);
	if (*at) {
		made = (*at)->made;
		if (!still_there(*at))
			(*at)->fd = -1;
		take_out(at);
	}
	unlock();
	if (made)
		crew__lender_close();
}

int crew_pipe_give(crew_pipe p)
{
	struct pipe_end **at, *e;
	bool gone = false;
	int rc = CREW_EHANDLE;

	lock();
	at = find(p.handle);
	e = *at;
	if (e && e->made && !e->given) {
		rc = 0;
		gone = e->lent;
		if (gone)
			take_out(at);
		else
			e->given = crew__deadline(GIFT_MS);
	}
	unlock();
	if (gone)
		crew__lender_close();
	else if (rc == 0)
		crew__lender_look(); /* when does it expire? */
	return rc;
}

/* ---- for the lender ---- */

int crew__end_lend(crew_handle handle)
{
	struct pipe_end **at;
	int fd = CREW_ECLOSED;

	lock();
	at = find(handle);
	if (*at && (*at)->made && crew__fd_is((*at)->fd, &(*at)->mark)) {
		fd = fcntl((*at)->fd, F_DUPFD_CLOEXEC, 3);
		fd = fd < 0 ? -errno : fd;
		if (fd >= 0)
			(*at)->lent = true;
		if (fd >= 0 && (*at)->given)
			(*at)->given = 1; /* it is theirs: expires as soon as they have it */
	}
	unlock();
	return fd;
}

uint64_t crew__end_expire(void)
{
	uint64_t now = crew__now(), next = NEVER;
	struct pipe_end **at = &table.first;

	lock();
	while (*at) {
		struct pipe_end *e = *at;

		if (e->given && e->given <= now) {
			take_out(at);
			crew__lender_close();
			continue;
		}
		if (e->given && e->given < next)
			next = e->given;
		at = &e->next;
	}
	unlock();
	return next;
}
