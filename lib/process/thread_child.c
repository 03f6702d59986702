/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thread_child.c: crew_thread_start(): a thread behind the face of a process.
 *
 * Object and thread hold a reference each, since a daemonic thread may outlive its object. The thread says all about its end under the object's mutex, then
 * that it has, and makes the descriptor readable, if the program has left us that. Nobody here waits by the descriptor, so whoever closes it loses that alone.
 *
 * The descriptor is a socket that nobody is connected to: unlike an eventfd's its inode is nobody else's, and it is readable once no more can come.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/futex.h"
#include "base/niceness.h"
#include "base/signals.h"
#include "core/packing.h"
#include "process/kin.h"
#include "thread/thread_pool.h"

struct thread_start {
	crew_process *p;
	int nice;
	bool placed;
	cpu_set_t cpus;
	max_align_t arguments[]; /* packed, and its pointers turned to where it lies */
};

static void settle_down(const struct thread_start *s)
{
	char name[16];

	snprintf(name, sizeof name, "%.15s", s->p->name);
	pthread_setname_np(pthread_self(), name);
	niceness_add(s->nice);
	if (s->placed)
		sched_setaffinity(0, sizeof s->cpus, &s->cpus);
}

static void run(crew_process *p, void *arguments)
{
	size_t size = CREW_TYPE_SIZE(p->task->result);
	void *result = calloc(1, size < 16 ? 16 : size), *value = NULL;
	struct context context;
	struct block *block;
	crew_error *error = NULL;

	crew__context_init(&context, NULL, -1);
	if (result)
		error = crew__call(&context, p->task, arguments, result, &block);
	if (result && !error)
		value = crew__value_keep(p->task, result);
	pthread_mutex_lock(&p->mutex);
	p->value = value;
	p->answered = value != NULL;
	p->end.exit_code = p->answered ? 0 : 1;
	if (value && p->task->result == CREW_TYPE_OF(int))
		p->end.exit_code = *(int *)value & 255;
	if (!p->answered)
		p->error = error ? *error : *crew__error_no_memory();
	p->error.exit_status = p->end.exit_code;
	p->end.state = CREW_PROCESS_ENDED;
	p->ended = true;
	pthread_mutex_unlock(&p->mutex);
	crew__error_free(error);
	crew__context_fini(&context);
	free(result);
}

static void announce(crew_process *p)
{
	store_release_32(&p->over, 1);
	crew__futex_wake(&p->over, INT_MAX, false);
	if (crew__process_owns(p))
		shutdown(p->fd, SHUT_RD);
}

static void *thread(void *arg)
{
	struct thread_start *s = arg;
	crew_process *p = s->p;
	bool daemon = p->daemon;

	settle_down(s);
	crew__kin_enter_thread(p);
	run(p, s->arguments);
	free(s);
	announce(p);
	crew__process_unref(p);
	if (!daemon)
		crew__kin_thread_ends();
	return NULL;
}

/* ---- starting ---- */

static int check(const crew_task *task, const void *arguments, const struct crew_start_options *o)
{
	if (!task || task->size < sizeof *task || (!task->run && !task->raw))
		return CREW_ENOTASK;
	if (!crew__arguments(task, arguments) || o->reserved_ || o->stdin_fd || o->stdout_fd || o->stderr_fd || o->detach || o->max_memory ||
	    o->max_cpu_s || o->max_files || !niceness_is_possible(o->nice))
		return -EINVAL;
	return 0;
}

static struct thread_start *prepare(const crew_task *task, const void *arguments, const struct crew_start_options *o, int *ret)
{
	struct thread_start *s;
	size_t size;

	*ret = crew__packed_size(task, arguments, NULL, &size);
	if (*ret)
		return NULL;
	s = malloc(sizeof *s + size);
	*ret = s ? 0 : -ENOMEM;
	if (!s)
		return NULL;
	memset(s, 0, sizeof *s);
	crew__pack(task, arguments, NULL, s->arguments);
	*ret = crew__unpack(task, s->arguments, s->arguments, size, NULL);
	s->nice = o->nice;
	s->placed = o->cpus != NULL;
	if (o->cpus && crew__cpus_parse(o->cpus, &s->cpus))
		*ret = -EINVAL;
	return s;
}

static int start(struct thread_start *s, size_t stack_size)
{
	pthread_attr_t attributes;
	sigset_t before;
	pthread_t id;
	int rc = pthread_attr_init(&attributes);

	if (rc)
		return -rc;
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (stack_size)
		rc = pthread_attr_setstacksize(&attributes, stack_size);
	before = signals_block();
	if (rc == 0)
		rc = pthread_create(&id, &attributes, thread, s);
	signals_restore(&before);
	pthread_attr_destroy(&attributes);
	return -rc;
}

static int begin(crew_process *p, struct thread_start *s, size_t stack_size)
{
	int rc;

	p->fd = crew__fd_keep(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (p->fd < 0 || crew__fd_mark(p->fd, &p->mark))
		return p->fd < 0 ? p->fd : -EBADF;
	s->p = p;
	p->refs = 2;
	p->pid = getpid();
	if (!p->daemon)
		crew__kin_thread_begins();
	rc = start(s, stack_size);
	if (rc && !p->daemon)
		crew__kin_thread_ends();
	return rc;
}

crew_process *crew_process_start_thread(const crew_task *task, const void *arguments, const struct crew_start_options *options, size_t size)
{
	struct crew_start_options o;
	struct thread_start *s = NULL;
	char name[NAME_ROOM], path[PATH_ROOM];
	crew_process *p;
	int rc = crew__kin_install();

	crew__kin_path(name, path, "Thread", true);
	p = crew__process_new(KIN_THREAD, name);
	if (rc || !p)
		return crew__process_failed(p, -ENOMEM, "no memory for a thread");
	rc = crew__options(&o, sizeof o, options, size);
	if (rc == 0)
		rc = check(task, arguments, &o);
	if (rc == 0)
		s = prepare(task, crew__arguments(task, arguments), &o, &rc);
	if (rc == 0) {
		if (o.name)
			snprintf(p->name, sizeof p->name, "%s", o.name);
		p->task = task;
		p->daemon = o.daemon;
		rc = begin(p, s, o.stack_size);
	}
	if (rc == 0)
		return p;
	free(s);
	p->refs = 1;
	return crew__process_failed(p, rc, "'%s' could not be started as a thread: %s", task ? task->name : "?", crew_strerror(rc));
}
