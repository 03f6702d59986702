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

#ifdef __cplusplus
}
#endif
#endif
