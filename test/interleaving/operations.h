/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * operations.h: Concurrency Kit's ck_pr, each operation of which is a step that the scheduler sees.
 *
 * Every source of lib/ that is put to the test is compiled with -include of this file. It takes the guard of <ck_pr.h>, so that lib/base/atomic.h and the
 * other headers of Concurrency Kit get these functions: the same names and types, over four calls into steps.c. Which thread goes on
 * there is the scheduler's business; which of two stores is seen first, the store buffer's.
 *
 * The fences are x86's: what ck_pr compiles to nothing there is nothing here, a full fence empties the store buffer, so does every read-modify-write.
 */
#ifndef CK_PR_H
#define CK_PR_H

#include <ck_cc.h>
#include <ck_md.h>
#include <ck_stdbool.h>
#include <ck_stdint.h>

#define CK_F_PR
#define CK_F_PR_LOAD_64
#define CK_F_PR_STORE_64
#define CK_F_PR_CAS_64
#define CK_F_PR_CAS_64_VALUE
#define CK_F_PR_FAA_64

#define INTERLEAVING 1

enum step_update { UPDATE_ADD, UPDATE_AND, UPDATE_OR, UPDATE_XOR, UPDATE_EXCHANGE };

/* ---- steps.c ---- */
uint64_t step_load(const void *p, unsigned int size);
void step_store(void *p, uint64_t v, unsigned int size);
bool step_cas(void *p, uint64_t from, uint64_t to, uint64_t *found, unsigned int size);
uint64_t step_update(void *p, enum step_update what, uint64_t v, unsigned int size); /* what was there */
void step_fence(void);
void step_stall(void);

#define OPERATION __attribute__((__always_inline__, __unused__)) static inline

OPERATION void ck_pr_barrier(void)
{
	__asm__ __volatile__("" ::: "memory");
}

OPERATION void ck_pr_stall(void)
{
	step_stall();
}

OPERATION void ck_pr_rfo(const void *m)
{
	(void)m;
}

#define OPERATION_FENCE(name_, body_)                        \
	OPERATION void ck_pr_fence_##name_(void)             \
	{                                                    \
		body_;                                       \
	}                                                    \
	OPERATION void ck_pr_fence_strict_##name_(void)      \
	{                                                    \
		body_;                                       \
	}
OPERATION_FENCE(memory, step_fence())
OPERATION_FENCE(store_load, step_fence())
OPERATION_FENCE(atomic, ck_pr_barrier())
OPERATION_FENCE(atomic_load, ck_pr_barrier())
OPERATION_FENCE(atomic_store, ck_pr_barrier())
OPERATION_FENCE(store_atomic, ck_pr_barrier())
OPERATION_FENCE(load_atomic, ck_pr_barrier())
OPERATION_FENCE(load_store, ck_pr_barrier())
OPERATION_FENCE(load, ck_pr_barrier())
OPERATION_FENCE(store, ck_pr_barrier())
OPERATION_FENCE(acquire, ck_pr_barrier())
OPERATION_FENCE(release, ck_pr_barrier())
OPERATION_FENCE(acqrel, ck_pr_barrier())
OPERATION_FENCE(lock, ck_pr_barrier())
OPERATION_FENCE(unlock, ck_pr_barrier())
#undef OPERATION_FENCE

#define OPERATION_UPDATE(verb_, what_, name_, type_)                         \
	OPERATION void ck_pr_##verb_##_##name_(type_ *p, type_ v)            \
	{                                                                    \
		step_update(p, what_, (uint64_t)v, sizeof *p);               \
	}
#define OPERATION_COUNT(verb_, by_, name_, type_)                                      \
	OPERATION void ck_pr_##verb_##_##name_(type_ *p)                               \
	{                                                                              \
		step_update(p, UPDATE_ADD, (uint64_t)(by_), sizeof *p);                \
	}                                                                              \
	OPERATION bool ck_pr_##verb_##_##name_##_is_zero(type_ *p)                     \
	{                                                                              \
		return (type_)(step_update(p, UPDATE_ADD, (uint64_t)(by_), sizeof *p) + (uint64_t)(by_)) == 0; \
	}

#define OPERATION_INTEGER(name_, type_)                                                                \
	OPERATION type_ ck_pr_md_load_##name_(const type_ *p)                                          \
	{                                                                                              \
		return (type_)step_load(p, sizeof *p);                                                 \
	}                                                                                              \
	OPERATION void ck_pr_md_store_##name_(type_ *p, type_ v)                                       \
	{                                                                                              \
		step_store(p, (uint64_t)v, sizeof *p);                                                 \
	}                                                                                              \
	OPERATION bool ck_pr_cas_##name_##_value(type_ *p, type_ from, type_ to, type_ *found)         \
	{                                                                                              \
		uint64_t there;                                                                        \
		bool won = step_cas(p, (uint64_t)from, (uint64_t)to, &there, sizeof *p);               \
		*found = (type_)there;                                                                 \
		return won;                                                                            \
	}                                                                                              \
	OPERATION bool ck_pr_cas_##name_(type_ *p, type_ from, type_ to)                               \
	{                                                                                              \
		uint64_t there;                                                                        \
		return step_cas(p, (uint64_t)from, (uint64_t)to, &there, sizeof *p);                   \
	}                                                                                              \
	OPERATION type_ ck_pr_fas_##name_(type_ *p, type_ v)                                           \
	{                                                                                              \
		return (type_)step_update(p, UPDATE_EXCHANGE, (uint64_t)v, sizeof *p);                 \
	}                                                                                              \
	OPERATION type_ ck_pr_faa_##name_(type_ *p, type_ v)                                           \
	{                                                                                              \
		return (type_)step_update(p, UPDATE_ADD, (uint64_t)v, sizeof *p);                      \
	}                                                                                              \
	OPERATION_UPDATE(add, UPDATE_ADD, name_, type_)                                                \
	OPERATION_UPDATE(and, UPDATE_AND, name_, type_)                                                \
	OPERATION_UPDATE(or, UPDATE_OR, name_, type_)                                                  \
	OPERATION_UPDATE(xor, UPDATE_XOR, name_, type_)                                                \
	OPERATION_COUNT(inc, 1, name_, type_)                                                          \
	OPERATION_COUNT(dec, -1, name_, type_)
OPERATION_INTEGER(8, uint8_t)
OPERATION_INTEGER(16, uint16_t)
OPERATION_INTEGER(32, uint32_t)
OPERATION_INTEGER(64, uint64_t)
OPERATION_INTEGER(int, int)
OPERATION_INTEGER(uint, unsigned int)
#undef OPERATION_INTEGER
#undef OPERATION_COUNT
#undef OPERATION_UPDATE

/* Pointers to anything come as void *, as CK takes them. */
OPERATION void *ck_pr_md_load_ptr(const void *p)
{
	return (void *)(uintptr_t)step_load(p, sizeof(void *));
}

OPERATION void ck_pr_md_store_ptr(void *p, const void *v)
{
	step_store(p, (uint64_t)(uintptr_t)v, sizeof(void *));
}

OPERATION bool ck_pr_cas_ptr_value(void *p, void *from, void *to, void *found)
{
	uint64_t there;
	bool won = step_cas(p, (uint64_t)(uintptr_t)from, (uint64_t)(uintptr_t)to, &there, sizeof(void *));

	*(void **)found = (void *)(uintptr_t)there;
	return won;
}

OPERATION bool ck_pr_cas_ptr(void *p, void *from, void *to)
{
	uint64_t there;

	return step_cas(p, (uint64_t)(uintptr_t)from, (uint64_t)(uintptr_t)to, &there, sizeof(void *));
}

OPERATION void *ck_pr_fas_ptr(void *p, void *v)
{
	return (void *)(uintptr_t)step_update(p, UPDATE_EXCHANGE, (uint64_t)(uintptr_t)v, sizeof(void *));
}

/* The faces: a store is of the target's type, a load of a pointer has the type of what it was loaded from. */
#define OPERATION_STORE(p_, v_, name_) ck_pr_md_store_##name_(((void)sizeof(*(p_) = (v_)), (p_)), (v_))
#define ck_pr_store_ptr(p_, v_) OPERATION_STORE((p_), (v_), ptr)
#define ck_pr_store_8(p_, v_) OPERATION_STORE((p_), (v_), 8)
#define ck_pr_store_16(p_, v_) OPERATION_STORE((p_), (v_), 16)
#define ck_pr_store_32(p_, v_) OPERATION_STORE((p_), (v_), 32)
#define ck_pr_store_64(p_, v_) OPERATION_STORE((p_), (v_), 64)
#define ck_pr_store_int(p_, v_) OPERATION_STORE((p_), (v_), int)
#define ck_pr_store_uint(p_, v_) OPERATION_STORE((p_), (v_), uint)
#define ck_pr_store_ptr_unsafe(p_, v_) ck_pr_md_store_ptr((p_), (v_))

#define ck_pr_load_ptr(p_) ((CK_CC_TYPEOF(*(p_), (void *)))ck_pr_md_load_ptr((p_)))
#define ck_pr_load_8(p_) ck_pr_md_load_8((p_))
#define ck_pr_load_16(p_) ck_pr_md_load_16((p_))
#define ck_pr_load_32(p_) ck_pr_md_load_32((p_))
#define ck_pr_load_64(p_) ck_pr_md_load_64((p_))
#define ck_pr_load_int(p_) ck_pr_md_load_int((p_))
#define ck_pr_load_uint(p_) ck_pr_md_load_uint((p_))

#endif
