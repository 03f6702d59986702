/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * execution.c: crew_init(), and how the program is executed to end up there again.
 *
 * /proc/self/exe is executed, not argv[0]: it is the very file that runs, also when it was deleted or replaced meanwhile, and the image of whoever
 * executes, host, server or zygote, is always the same program. What the new one is to become waits in a socket, whose number it finds in its environment;
 * crew_init() takes both out of sight before any code of the program's sees them.
 *
 * A program that was executed in this way and comes to crew_init() late, or never, does what its main() does first. It cannot start further
 * ones: until crew_init() every opener fails. Who waits for it gives up after a while.
 */
#include "process/execution.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/atomic.h"
#include "ipc/family.h"
#include "process/parcel.h"

#define PROGRAM "/proc/self/exe"
#define CHANNEL "CREW_CHANNEL"

/* As crew_init() was told; written once, before `ready`. */
static struct {
	char **argv;
	uint32_t ready;
} program;

/* ---- executing ---- */

bool crew__execution_pending(void)
{
	return getenv(CHANNEL) != NULL;
}

int crew__execution_check(void)
{
	if (!load_acquire_32(&program.ready)) /* pairs with the release in note_program */
		return CREW_EINIT;
	if (crew__family_fd() == -EBADF)
		return -EBADF; /* the program has closed it, and what is executed could not be of the family */
	return access(PROGRAM, X_OK) ? -errno : 0;
}

/* This environment and the channel's number, which `text` holds. NULL: no memory. */
static char **environment_with(char *text)
{
	size_t n = 0, kept = 0;
	char **list;

	while (environ && environ[n])
		n++;
	list = malloc((n + 2) * sizeof *list);
	if (!list)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], CHANNEL "=", sizeof CHANNEL) != 0)
			list[kept++] = environ[i];
	list[kept++] = text;
	list[kept] = NULL;
	return list;
}

/* A socket in which the request waits, with the family's memory before its own descriptors. -errno. */
static int channel_with(const struct child_request *request, pid_t parent)
{
	struct request_head head = { request->kind, CREW_START_SPAWN, parent };
	struct iovec iov[] = { { &head, sizeof head }, { (void *)(uintptr_t)request->data, request->size } };
	int fds[SERVER_FDS_MAX + 1] = { crew__family_fd() }, pair[2], rc;

	if (fds[0] < 0 || request->fd_count > SERVER_FDS_MAX)
		return fds[0] < 0 ? fds[0] : -E2BIG;
	for (uint32_t i = 0; i < request->fd_count; i++)
		fds[i + 1] = request->fds[i];
	rc = crew__parcel_pair(pair);
	if (rc)
		return rc;
	rc = crew__parcel_send(pair[0], false, iov, 2, fds, request->fd_count + 1);
	close(pair[0]);
	if (rc == 0)
		return pair[1];
	close(pair[1]);
	return rc;
}

void crew__execution_become(const struct child_request *request)
{
	char text[sizeof CHANNEL + 16];
	int channel = channel_with(request, getppid());
	char **list;

	snprintf(text, sizeof text, CHANNEL "=%d", channel);
	list = environment_with(text);
	if (channel >= 0 && list && fcntl(channel, F_SETFD, 0) == 0)
		execve(PROGRAM, program.argv, list);
	_exit(127);
}

/* posix_spawn does not copy this process's memory and runs none of its handlers: it is safe whatever other threads do. */
static int spawn(int channel, char **list, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t all, none;
	int rc;

	sigfillset(&all);
	sigemptyset(&none);
	if (posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	rc = posix_spawnattr_init(&attributes);
	if (rc == 0) {
		posix_spawnattr_setsigmask(&attributes, &none);
		posix_spawnattr_setsigdefault(&attributes, &all);
		posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
		rc = posix_spawn_file_actions_adddup2(&actions, channel, channel); /* to itself: not close-on-exec there */
		if (rc == 0)
			rc = posix_spawn(ret, PROGRAM, &actions, &attributes, program.argv, list);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

int crew__execution_spawn(const struct child_request *request, pid_t *ret)
{
	char text[sizeof CHANNEL + 16];
	char **list;
	int channel = channel_with(request, getpid()), rc = -ENOMEM;

	if (channel < 0)
		return channel;
	snprintf(text, sizeof text, CHANNEL "=%d", channel);
	list = environment_with(text);
	if (list)
		rc = spawn(channel, list, ret);
	free(list);
	close(channel);
	return rc;
}

/* ---- arriving ---- */

/* A static program may have been linked without the part that runs it; the probe is a test's. */
#pragma weak crew__zygote_child
#pragma weak crew__worker_child
#pragma weak crew__process_child
#pragma weak crew__probe_child

void crew__child_main(enum child_kind kind, const void *data, size_t size, const int *fds, uint32_t fd_count)
{
	static void (*const mains[])(const void *, size_t, const int *, uint32_t) = {
		[CHILD_ZYGOTE] = crew__zygote_child, [CHILD_PROCESS] = crew__process_child, [CHILD_SERVER] = crew__server_child,
		[CHILD_WORKER] = crew__worker_child, [CHILD_PROBE] = crew__probe_child,
	};

	if (kind < sizeof mains / sizeof mains[0] && mains[kind])
		mains[kind](data, size, fds, fd_count);
	_exit(1);
}

/* We were executed to become something. Whoever did that may be gone by now. */
static _Noreturn void arrive(int channel)
{
	struct {
		struct request_head head;
		unsigned char data[SERVER_DATA_MAX];
	} *message = malloc(sizeof *message);
	int fds[SERVER_FDS_MAX + 1];
	uint32_t fd_count;
	long n;

	n = message && channel > 2 ? crew__parcel_receive(channel, false, message, sizeof *message, fds, SERVER_FDS_MAX + 1, &fd_count) : -1;
	if (n < (long)sizeof message->head || fd_count == 0 || crew__family_adopt(fds[0]))
		_exit(1);
	close(channel);
	if (message->head.kind != CHILD_SERVER && message->head.kind != CHILD_ZYGOTE)
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* those two watch the host instead */
	if (getppid() != message->head.parent)
		_exit(1);
	crew__child_main(message->head.kind, message->data, (size_t)n - sizeof message->head, fds + 1, fd_count - 1);
}

/* A copy: programs write into their argv. */
static int note_program(int argc, char **argv)
{
	char **copy = calloc((size_t)argc + 1, sizeof *copy);

	for (int i = 0; copy && i < argc; i++) {
		copy[i] = strdup(argv[i]);
		if (!copy[i])
			return -ENOMEM; /* the rest is lost, once */
	}
	if (!copy)
		return -ENOMEM;
	program.argv = copy;
	store_release_32(&program.ready, 1);
	return 0;
}

int crew_init(int argc, char **argv)
{
	const char *channel = getenv(CHANNEL);
	int rc;

	if (argc < 0 || (argc > 0 && !argv))
		return -EINVAL;
	if (load_acquire_32(&program.ready))
		return 0;
	rc = note_program(argc, argv);
	if (rc)
		return rc;
	if (channel) {
		int fd = atoi(channel);

		unsetenv(CHANNEL);
		arrive(fd);
	}
	return 0;
}
