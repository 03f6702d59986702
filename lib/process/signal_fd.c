/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signal_fd.c: signals as something to read, for programs whose processes talk by them. No handler is involved, so nothing is interrupted and nothing has
 * to be async-signal-safe.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "process/kin.h"

int crew_signal_fd(const int *signals, size_t n)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < n; i++)
		if (!signals || signals[i] == SIGKILL || signals[i] == SIGSTOP || sigaddset(&set, signals[i]))
			return -EINVAL;
	if (pthread_sigmask(SIG_BLOCK, &set, NULL))
		return -EINVAL;
	return crew__fd_keep(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

int crew_signal_read(int fd, int ms)
{
	uint64_t deadline = crew__deadline(ms);
	struct signalfd_siginfo info;

	for (;;) {
		struct pollfd there = { fd, POLLIN, 0 };
		ssize_t n = read(fd, &info, sizeof info);

		if (n == sizeof info)
			return (int)info.ssi_signo;
		if (n >= 0 || (errno != EAGAIN && errno != EINTR))
			return n >= 0 ? -EINVAL : -errno;
		if (poll(&there, 1, crew__ms_left(deadline)) == 0)
			return -ETIMEDOUT;
	}
}
