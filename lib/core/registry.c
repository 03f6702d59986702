/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * registry.c: the open executors of this process, and the hooks that need to know them.
 *
 * fork: the child keeps copies of everything and owns none of it. Its generation is bumped, so that each handle of the parent answers
 * CREW_EFORKED; the list starts empty. The parent's other threads are gone and with them whoever may have held the mutex, which
 * is therefore held by the forking thread across the fork and made anew in the child.
 *
 * End of a thread: its ports go back to their executors, for the next thread that submits there. An executor may have been
 * closed meanwhile, so ports are remembered by the executor's id, which is never used twice, and looked up under the mutex.
 *
 * End of the program: executors that are still open are told to kill and reap; nothing is waited for that may not end.
 */
#include "core/registry.h"

#include <errno.h>
#include <stdlib.h>

#include "core/identity.h"
#include "core/region.h"
#include "core/service.h"

uint32_t crew__fork_generation;

static struct {
	pthread_mutex_t mutex;
	pthread_once_t once;
	int installed; /* 0 or -errno; written once */
	pthread_key_t key;
	crew_executor *first; /* guarded by mutex */
	uint64_t next_id;     /* guarded by mutex */
} registry = { .mutex = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT };

struct kept_port {
	uint64_t id;
	struct port *port;
};

/* What one thread has: its own alone. */
struct thread_state {
	size_t count, capacity;
	struct kept_port *ports;
	crew_error *raised;
};
static __thread struct thread_state *thread_state __attribute__((__tls_model__("initial-exec")));

static crew_executor *find(uint64_t id)
{
	crew_executor *ex = registry.first;

	while (ex && ex->id != id)
		ex = ex->registry_next;
	return ex;
}

static void thread_ended(void *p)
{
	struct thread_state *state = p;

	pthread_mutex_lock(&registry.mutex);
	for (size_t i = 0; i < state->count; i++) {
		crew_executor *ex = find(state->ports[i].id);

		if (!ex)
			continue;
		pthread_mutex_lock(&ex->mutex);
		state->ports[i].port->taken = 0;
		pthread_mutex_unlock(&ex->mutex);
	}
	pthread_mutex_unlock(&registry.mutex);
	crew__last_id = 0;
	thread_state = NULL;
	crew__error_free(state->raised);
	free(state->ports);
	free(state);
}

static void before_fork(void)
{
	pthread_mutex_lock(&registry.mutex);
	crew__callbacks_before_fork();
	crew__regions_before_fork();
	crew__identity_before_fork();
}

static void after_fork_parent(void)
{
	crew__identity_after_fork();
	crew__regions_after_fork(false);
	crew__callbacks_after_fork();
	pthread_mutex_unlock(&registry.mutex);
}

static void after_fork_child(void)
{
	crew__identity_after_fork();
	crew__regions_after_fork(true);
	crew__callbacks_after_fork();
	pthread_mutex_init(&registry.mutex, NULL);
	registry.first = NULL;
	crew__fork_generation++;
	crew__service_threads = 0;
	crew__last_id = 0;
	if (thread_state)
		thread_state->count = 0;
}

static void program_ended(void)
{
	pthread_mutex_lock(&registry.mutex);
	for (crew_executor *ex = registry.first; ex; ex = ex->registry_next)
		if (ex->ops->exit)
			ex->ops->exit(ex);
	pthread_mutex_unlock(&registry.mutex);
}

static void install(void)
{
	registry.installed = -pthread_key_create(&registry.key, thread_ended);
	if (registry.installed == 0 &&
	    (pthread_atfork(before_fork, after_fork_parent, after_fork_child) || atexit(program_ended)))
		registry.installed = -ENOMEM;
}

int crew__registry_install(void)
{
	pthread_once(&registry.once, install);
	return registry.installed;
}

int crew__registry_add(crew_executor *ex)
{
	if (crew__registry_install())
		return registry.installed;
	pthread_mutex_lock(&registry.mutex);
	ex->id = ++registry.next_id;
	ex->generation = crew__fork_generation;
	ex->registry_prev = NULL;
	ex->registry_next = registry.first;
	if (registry.first)
		registry.first->registry_prev = ex;
	registry.first = ex;
	pthread_mutex_unlock(&registry.mutex);
	return 0;
}

void crew__registry_remove(crew_executor *ex)
{
	pthread_mutex_lock(&registry.mutex);
	if (ex->registry_next)
		ex->registry_next->registry_prev = ex->registry_prev;
	if (ex->registry_prev)
		ex->registry_prev->registry_next = ex->registry_next;
	else
		registry.first = ex->registry_next;
	pthread_mutex_unlock(&registry.mutex);
}

static struct thread_state *this_thread(void)
{
	if (thread_state)
		return thread_state;
	pthread_once(&registry.once, install);
	thread_state = calloc(1, sizeof *thread_state);
	if (thread_state && (registry.installed || pthread_setspecific(registry.key, thread_state))) {
		free(thread_state);
		thread_state = NULL;
	}
	return thread_state;
}

/* Forget the ports of executors that were closed. */
static void prune(struct thread_state *state)
{
	size_t kept = 0;

	pthread_mutex_lock(&registry.mutex);
	for (size_t i = 0; i < state->count; i++)
		if (find(state->ports[i].id))
			state->ports[kept++] = state->ports[i];
	pthread_mutex_unlock(&registry.mutex);
	state->count = kept;
}

int crew__thread_keep(crew_executor *ex, struct port *port)
{
	struct thread_state *state = this_thread();

	if (!state)
		return -ENOMEM;
	if (state->count == state->capacity)
		prune(state);
	if (state->count == state->capacity) {
		size_t capacity = state->capacity ? 2 * state->capacity : 8;
		struct kept_port *ports = realloc(state->ports, capacity * sizeof *ports);

		if (!ports)
			return -ENOMEM;
		state->ports = ports;
		state->capacity = capacity;
	}
	state->ports[state->count++] = (struct kept_port){ ex->id, port };
	return 0;
}

struct port *crew__thread_port(crew_executor *ex)
{
	struct thread_state *state = thread_state;

	for (size_t i = state ? state->count : 0; i-- > 0;)
		if (state->ports[i].id == ex->id)
			return state->ports[i].port;
	return NULL;
}

crew_error *crew__thread_swap_error(crew_error *error)
{
	struct thread_state *state = this_thread();
	crew_error *old;

	if (!state) {
		crew__error_free(error);
		return NULL;
	}
	old = state->raised;
	state->raised = error;
	return old;
}
