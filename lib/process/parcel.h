/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * parcel.h: one message with bytes and descriptors over a socket that keeps messages apart (SOCK_SEQPACKET).
 */
#ifndef CREW_LIB_PARCEL_H
#define CREW_LIB_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { PARCEL_FDS_MAX = 24 };

/* Two ends, close-on-exec, neither of them 0, 1 or 2. -errno. */
int crew__parcel_pair(int ret[2]);

/* -errno; -EAGAIN when there is no room and not `wait`. The descriptors stay the caller's. */
int crew__parcel_send(int socket, bool wait, const struct iovec *iov, size_t iov_count, const int *fds, uint32_t fd_count);

/* One message; its descriptors are close-on-exec and not 0, 1 or 2. How many bytes; -EPIPE: the other end is closed; -EAGAIN: none is there and not
   `wait`; -EMSGSIZE: it is longer than `size` or had more than `fds_room` descriptors (they are closed, as in every failure). */
long crew__parcel_receive(int socket, bool wait, void *data, size_t size, int *fds, uint32_t fds_room, uint32_t *ret_fd_count);

/* Until something can be read from `fd`: 0; -ETIMEDOUT. ms: CREW_FOREVER or a limit. */
int crew__parcel_await(int fd, int ms);

#endif
