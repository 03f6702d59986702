/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * family.h: memory that all processes of one program share: the one that called the library first, its servers, workers and children of every
 * start method, and theirs. Handles that travel by value (locks, queues, values, promises) name places in it by offset; see object.h.
 *
 * It is one sealed, sparse, anonymous memfd: no name, so nothing is left when the last of the family ends, however it ends. It is mapped whole, at an address
 * of each process's own. A plain fork inherits it, so children that the program forks by itself belong to the family. Nothing but a program that is
 * executed needs the descriptor: whoever closes all of his, as daemons do, stays in the family.
 *
 * Blocks are handed out under rules that hold when the taker dies at any instruction: there is no lock; what a dead process was about to take or
 * give back is lost until the family ends, and nobody else notices.
 */
#ifndef CREW_LIB_FAMILY_H
#define CREW_LIB_FAMILY_H

#include <stddef.h>
#include <stdint.h>

/* See that this process is in a family; makes one when it is in none. Any thread; idempotent; must have been called before anything forks on the library's
   behalf, so that the child is of the same one. -errno. */
int crew__family_join(void);

/* The descriptor of the memory (close-on-exec, the family's): to be passed to a program that is executed. -errno: there is no family, or (-EBADF) the
   program has closed it. */
int crew__family_fd(void);

/* In a program that was executed: be of the family whose memory this is; before any other call. fd is consumed. -errno; -EINVAL: no such memory. */
int crew__family_adopt(int fd);

/* Zeroed, aligned to a cache line, with pages behind it (no SIGBUS later). Any thread of any process; joins first. 0; -ENOMEM, -ENOSPC; -EINVAL: n is 0. */
int crew__family_alloc(size_t n, uint64_t *ret_offset);

/* Give a block back. What begins no block now is left alone. Blocks above CELL_MAX (cell.h) return their pages to the system. */
void crew__family_free(uint64_t offset);

/* Where it is in this process. offset comes from crew__family_alloc(); NULL: not a place in the family's memory. */
void *crew__family_at(uint64_t offset);

/* The size that was asked for at this offset; 0: no block begins there now. For checking what came from elsewhere. */
size_t crew__family_size(uint64_t offset);

/* What there is one of in a family: the block of n zeroed bytes that whoever asks first makes. Any thread of any process; joins first. 0, -errno. */
enum family_root { FAMILY_ROOT_OUTCOMES, FAMILY_ROOTS };
int crew__family_root(enum family_root which, size_t n, uint64_t *ret_offset);

/* Bytes in blocks that are handed out, rounded up as the allocator does. Walks all of them: for tests and diagnosis. */
size_t crew__family_used(void);

#endif
