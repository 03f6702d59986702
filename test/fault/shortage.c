/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shortage.c: the calls that a shortage makes fail, and the count of them (shortage.h).
 *
 * The linker puts the functions below between what is linked with them and libc (-Wl,--wrap). All of them count on one counter, which processes that
 * are forked meanwhile have a copy of.
 */
#include "shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

static const struct {
	const char *name;
	int error;
} calls[CALLS] = {
	[MEMORY] = { "malloc", ENOMEM },	  [MAP] = { "mmap", ENOMEM },
	[ADVISE] = { "madvise", ENOMEM },	  [MEMFD] = { "memfd_create", EMFILE },
	[GROW] = { "posix_fallocate", ENOSPC },	  [EVENTFD] = { "eventfd", EMFILE },
	[TIMERFD] = { "timerfd_create", EMFILE }, [SIGNALFD] = { "signalfd", EMFILE },
	[EPOLL] = { "epoll_create1", EMFILE },	  [WATCH] = { "epoll_ctl", ENOSPC },
	[DUP] = { "fcntl", EMFILE },		  [SOCKETS] = { "socketpair", EMFILE },
	[PIPE] = { "pipe2", EMFILE },		  [PROCESS] = { "fork", EAGAIN },
	[PIDFD] = { "pidfd_open", EMFILE },	  [THREAD] = { "pthread_create", EAGAIN },
	[OPENING] = { "open", EMFILE },		  [STATUS] = { "stat", ENOMEM },
	[NAMING] = { "bind", ENOBUFS },		  [RANDOM] = { "getrandom", ENOSYS },
	[KEY] = { "pthread_key_create", EAGAIN }, [SEND] = { "sendmsg", ENOBUFS },
};

static enum call none = CALLS, *armed = &none; /* from shortage_prepare() on in memory that forked processes share: it ends in all of them */
static bool lasts;
static long countdown; /* calls until the one that fails; 0 or less: it has come */
static long live;      /* blocks of memory, of this process */

void *__real_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);

static bool fails(enum call call)
{
	long left;

	if (__atomic_load_n(armed, __ATOMIC_RELAXED) != call)
		return false;
	left = __atomic_sub_fetch(&countdown, 1, __ATOMIC_RELAXED);
	if (left != 0 && (left > 0 || !lasts))
		return false;
	errno = calls[call].error;
	return true;
}

void shortage_prepare(void)
{
	enum call *shared = __real_mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		abort();
	*shared = CALLS;
	armed = shared;
}

void shortage_finish(void)
{
	munmap(armed, sizeof *armed);
	armed = &none;
}

const char *shortage_of(enum call call)
{
	return calls[call].name;
}

void shortage_begin(enum call call, long k, bool for_ever)
{
	countdown = k;
	lasts = for_ever;
	__atomic_store_n(armed, call, __ATOMIC_SEQ_CST);
}

void shortage_end(void)
{
	__atomic_store_n(armed, CALLS, __ATOMIC_SEQ_CST);
}

bool shortage_came(void)
{
	return __atomic_load_n(&countdown, __ATOMIC_RELAXED) <= 0;
}

long shortage_live(void)
{
	return __atomic_load_n(&live, __ATOMIC_RELAXED);
}

#define REAL(type_, name_, ...) \
	type_ __real_##name_(__VA_ARGS__); \
	type_ __wrap_##name_(__VA_ARGS__); \
	type_ __wrap_##name_(__VA_ARGS__)

static void *counted(void *p)
{
	if (p)
		__atomic_add_fetch(&live, 1, __ATOMIC_RELAXED);
	return p;
}

REAL(void *, malloc, size_t n)
{
	return fails(MEMORY) ? NULL : counted(__real_malloc(n));
}

REAL(void *, calloc, size_t n, size_t size)
{
	return fails(MEMORY) ? NULL : counted(__real_calloc(n, size));
}

REAL(void *, aligned_alloc, size_t alignment, size_t n)
{
	return fails(MEMORY) ? NULL : counted(__real_aligned_alloc(alignment, n));
}

REAL(void *, realloc, void *p, size_t n)
{
	if (fails(MEMORY))
		return NULL;
	return p ? __real_realloc(p, n) : counted(__real_realloc(p, n));
}

REAL(char *, strdup, const char *text)
{
	return fails(MEMORY) ? NULL : counted(__real_strdup(text));
}

REAL(void, free, void *p)
{
	if (p)
		__atomic_sub_fetch(&live, 1, __ATOMIC_RELAXED);
	__real_free(p);
}

REAL(void *, mmap, void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
	return fails(MAP) ? MAP_FAILED : __real_mmap(at, n, protection, flags, fd, offset);
}

REAL(int, madvise, void *at, size_t n, int advice)
{
	return fails(ADVISE) ? -1 : __real_madvise(at, n, advice);
}

REAL(int, memfd_create, const char *name, unsigned flags)
{
	return fails(MEMFD) ? -1 : __real_memfd_create(name, flags);
}

REAL(int, posix_fallocate, int fd, off_t offset, off_t n)
{
	return fails(GROW) ? ENOSPC : __real_posix_fallocate(fd, offset, n);
}

REAL(int, fallocate, int fd, int mode, off_t offset, off_t n)
{
	return mode == 0 && fails(GROW) ? -1 : __real_fallocate(fd, mode, offset, n);
}

REAL(int, ftruncate, int fd, off_t n)
{
	return fails(GROW) ? -1 : __real_ftruncate(fd, n);
}

REAL(int, eventfd, unsigned count, int flags)
{
	return fails(EVENTFD) ? -1 : __real_eventfd(count, flags);
}

REAL(int, timerfd_create, int clock, int flags)
{
	return fails(TIMERFD) ? -1 : __real_timerfd_create(clock, flags);
}

REAL(int, signalfd, int fd, const sigset_t *set, int flags)
{
	return fails(SIGNALFD) ? -1 : __real_signalfd(fd, set, flags);
}

REAL(int, epoll_create1, int flags)
{
	return fails(EPOLL) ? -1 : __real_epoll_create1(flags);
}

REAL(int, epoll_ctl, int epoll, int operation, int fd, struct epoll_event *event)
{
	return operation != EPOLL_CTL_DEL && fails(WATCH) ? -1 : __real_epoll_ctl(epoll, operation, fd, event);
}

REAL(int, fcntl, int fd, int command, ...)
{
	va_list list;
	long argument;

	va_start(list, command);
	argument = va_arg(list, long);
	va_end(list);
	return (command == F_DUPFD_CLOEXEC || command == F_DUPFD || command == F_ADD_SEALS) && fails(DUP) ? -1 : __real_fcntl(fd, command, argument);
}

REAL(int, socket, int domain, int type, int protocol)
{
	return fails(SOCKETS) ? -1 : __real_socket(domain, type, protocol);
}

REAL(int, socketpair, int domain, int type, int protocol, int pair[2])
{
	return fails(SOCKETS) ? -1 : __real_socketpair(domain, type, protocol, pair);
}

REAL(int, pipe2, int pair[2], int flags)
{
	return fails(PIPE) ? -1 : __real_pipe2(pair, flags);
}

REAL(pid_t, fork, void)
{
	return fails(PROCESS) ? -1 : __real_fork();
}

REAL(int, open, const char *path, int flags, ...)
{
	va_list list;
	int mode;

	va_start(list, flags);
	mode = va_arg(list, int);
	va_end(list);
	return fails(OPENING) ? -1 : __real_open(path, flags, mode);
}

REAL(FILE *, fopen, const char *path, const char *mode)
{
	return fails(OPENING) ? NULL : __real_fopen(path, mode);
}

REAL(int, stat, const char *path, struct stat *ret)
{
	return fails(STATUS) ? -1 : __real_stat(path, ret);
}

REAL(int, lstat, const char *path, struct stat *ret)
{
	return fails(STATUS) ? -1 : __real_lstat(path, ret);
}

REAL(int, bind, int fd, const struct sockaddr *address, socklen_t n)
{
	return fails(NAMING) ? -1 : __real_bind(fd, address, n);
}

REAL(int, listen, int fd, int most)
{
	return fails(NAMING) ? -1 : __real_listen(fd, most);
}

REAL(char *, mkdtemp, char *name)
{
	return fails(NAMING) ? NULL : __real_mkdtemp(name);
}

REAL(ssize_t, getrandom, void *to, size_t n, unsigned flags)
{
	return fails(RANDOM) ? -1 : __real_getrandom(to, n, flags);
}

REAL(int, pthread_key_create, pthread_key_t *key, void (*end)(void *))
{
	return fails(KEY) ? EAGAIN : __real_pthread_key_create(key, end);
}

REAL(int, pthread_setspecific, pthread_key_t key, const void *value)
{
	return value && fails(KEY) ? ENOMEM : __real_pthread_setspecific(key, value);
}

REAL(int, pthread_atfork, void (*before)(void), void (*parent)(void), void (*child)(void))
{
	return fails(KEY) ? ENOMEM : __real_pthread_atfork(before, parent, child);
}

REAL(int, atexit, void (*fn)(void))
{
	return fails(KEY) ? ENOMEM : __real_atexit(fn);
}

REAL(ssize_t, sendmsg, int fd, const struct msghdr *message, int flags)
{
	return fails(SEND) ? -1 : __real_sendmsg(fd, message, flags);
}

REAL(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg)
{
	return fails(THREAD) ? EAGAIN : __real_pthread_create(thread, attributes, run, arg);
}

REAL(long, syscall, long number, ...)
{
	va_list list;
	long a[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_pidfd_open && fails(PIDFD))
		return -1;
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
