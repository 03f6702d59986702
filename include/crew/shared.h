/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared.h: values, arrays and blocks of memory that all threads and processes of the program share.
 *
 *	crew_value counter = crew_value_make(long, 0);
 *	crew_array grid = crew_array_make(double, 1000);
 *
 *	crew_value_add(counter, 1);			atomic
 *	CREW_WITH (counter)
 *		crew_value_as(long, counter) *= 2;	under the value's own lock
 *	crew_array_as(double, grid)[7] = 0.5;		neither: for who knows that nobody else does
 *
 * They are handles (handle.h) and pass as arguments of tasks, through queues and to children of every start method. Memory is zero-filled, also on reuse, and there
 * when make returns: too little of it is -ENOMEM or -ENOSPC then, not a SIGBUS later. What lies in it stays as it is when a process dies.
 *
 * Every value and array has an rlock (lock.h): crew_acquire(v), CREW_WITH (v), and -EOWNERDEAD after an owner who died. Nobody has to take it.
 */
#pragma GCC system_header
#ifndef CREW_SHARED_H
#define CREW_SHARED_H

#include <crew/handle.h>
#include <crew/lock.h>
#include <crew/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- values: one thing of any type without pointers, up to 64 KiB ---- */

/*
 * crew_value_make(type, initial)	crew_value_make(long, 0), crew_value_make(struct point, { 1, 2 })
 * crew_value_as(type, v)		the thing itself, as an lvalue. A handle that is no value, or one of another type (crew_types are compared:
 *					class and size), raises CREW_EHANDLE or CREW_ETYPE as crew_raise() does, and gives zeroes to nobody's harm
 * crew_value_at(v)			where it is in this process; NULL: no such value
 */
#ifndef __cplusplus
#define crew_value_make(type_, ...) \
	crew_value_new((const void *)&(struct { type_ value; }){ __VA_ARGS__ }, sizeof(type_), CREW_TYPE_OF(type_))
#define crew_value_as(type_, v_) (*(type_ *)crew_value_cast((v_), CREW_TYPE_OF(type_), __FILE__, __LINE__))
#endif
CREW_API crew_value crew_value_new(const void *initial, size_t size, int type); /* -E2BIG */
CREW_API void *crew_value_at(crew_value value);
CREW_API void *crew_value_cast(crew_value value, int type, const char *file, int line);

/*
 * Atomic, without the lock: for integers of 1, 2, 4 or 8 bytes. What is shorter than 64 bits comes sign-extended: cast it to its type. add, exchange: what it was
 * before. cas: it was `old`, and is `now`; else false. Each is seen by all in one order, together with what was written before it.
 * No such value, or one of another type, raises and gives 0.
 */
CREW_API int64_t crew_value_add(crew_value value, int64_t by);
CREW_API int64_t crew_value_exchange(crew_value value, int64_t now);
CREW_API bool crew_value_cas(crew_value value, int64_t old, int64_t now);
CREW_API int64_t crew_value_load(crew_value value);
CREW_API void crew_value_store(crew_value value, int64_t now);

/* ---- arrays: n things of one type ---- */

/*
 * crew_array_make(type, n)		zeroes; n may be 0. -EINVAL, -E2BIG: more than can be addressed
 * crew_array_of(type, n, from)		a copy of from[0 … n)
 * crew_array_as(type, a)		the first of them; raises and gives NULL where crew_value_as() does
 * crew_array_at(a, &n)			likewise, untyped, with their number (&n may be NULL); NULL: no such array
 */
#ifndef __cplusplus
#define crew_array_make(type_, n_) crew_array_new(NULL, (n_), sizeof(type_), CREW_TYPE_OF(type_))
#define crew_array_of(type_, n_, from_) \
	crew_array_new((const void *)(1 ? (from_) : (const type_ *)0), (n_), sizeof(type_), CREW_TYPE_OF(type_))
#define crew_array_as(type_, a_) ((type_ *)crew_array_cast((a_), CREW_TYPE_OF(type_), __FILE__, __LINE__))
#endif
CREW_API crew_array crew_array_new(const void *from, size_t n, size_t size, int type);
CREW_API void *crew_array_at(crew_array array, size_t *ret_n);
CREW_API void *crew_array_cast(crew_array array, int type, const char *file, int line);

/*
 * ---- blocks: memory of any size, with a name or without ----
 *
 * Without a name (NULL) a block is for the family alone, and is there in every process of it at once. With one it is a POSIX shared memory object, /dev/shm/NAME,
 * which unrelated programs may attach too; "" asks for a name that nobody else has. Names have 1 to 250 bytes, none of them a '/' (-EINVAL, -ENAMETOOLONG),
 * and are neither "." nor "..".
 *
 * A name is there from the moment at which the block has its size and its zeroes. It goes by crew_block_unlink(), or when the process that made it has ended, by
 * whatever: a small process of the library's own, the tracker, sees to that; it outlives Ctrl-C and is started anew when it was killed. CREW_UNTRACKED: the name
 * stays until somebody unlinks it. What is mapped stays mapped after an unlink.
 */
enum crew_block_flags { CREW_UNTRACKED = 1 };

/* -EEXIST; -EINVAL: size is 0; -ENOSPC, -ENOMEM, -EFBIG (RLIMIT_FSIZE); -EAGAIN: no tracker could be started. */
CREW_API crew_block crew_block_make(const char *name, size_t size);
CREW_API crew_block crew_block_make_with(const char *name, size_t size, unsigned flags);

/* A block by its name, whoever made it. Its size is what it really is. -ENOENT, -EACCES; -EINVAL: it has none. */
CREW_API crew_block crew_block_attach(const char *name);

/* Where it is in this process, and how long. A named block is mapped here at its first use; { NULL, 0 }: no such block, or its name has gone before that. */
CREW_API crew_bytes crew_block_at(crew_block block);

/* The name into buf, as strings are; "" for one without. Its length; -ERANGE: buf is too short. */
CREW_API int crew_block_name(crew_block block, char *buf, size_t size);

/* Take the name away. 0, once; -ENOENT after that. */
CREW_API int crew_block_unlink(const char *name);

/*
 * ---- shareable lists: n items of their own types, in place ----
 *
 * The number of items and the room of each are fixed when the list is made; strings and bytes have as much as they began with, rounded up to 8. A set that does
 * not fit is -EMSGSIZE and changes nothing. Sets and gets are atomic with each other. A get of an item that a process was killed in the
 * middle of setting is -EOWNERDEAD, until somebody sets it.
 */
enum crew_item_kind { CREW_ITEM_NONE, CREW_ITEM_BOOL, CREW_ITEM_INTEGER, CREW_ITEM_REAL, CREW_ITEM_BYTES };
typedef struct crew_item {
	enum crew_item_kind kind;
	union {
		bool boolean;
		int64_t integer;
		double real;
		crew_bytes bytes;
	} is;
} crew_item;
static inline crew_item crew_item_integer(int64_t x)
{
	crew_item item;

	item.kind = CREW_ITEM_INTEGER;
	item.is.integer = x;
	return item;
}
static inline crew_item crew_item_real(double x)
{
	crew_item item;

	item.kind = CREW_ITEM_REAL;
	item.is.real = x;
	return item;
}
static inline crew_item crew_item_string(const char *text)
{
	crew_item item;

	item.kind = CREW_ITEM_BYTES;
	item.is.bytes = crew_bytes_str(text);
	return item;
}

CREW_API crew_shareable_list crew_shareable_list_make(const crew_item *items, size_t n);
CREW_API ssize_t crew_shareable_list_len(crew_shareable_list list);
CREW_API int crew_shareable_list_set(crew_shareable_list list, size_t i, crew_item item); /* -EMSGSIZE; -ERANGE: no such item */

/* Bytes are a copy and yours: crew_bytes_free(). */
CREW_API int crew_shareable_list_get(crew_shareable_list list, size_t i, crew_item *ret);

#ifdef __cplusplus
}
#endif
#endif
