/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ck_pr.h: Concurrency Kit's primitives, as ThreadSanitizer can see them.
 *
 * ck_pr is inline assembly, of which ThreadSanitizer knows nothing: it would report every protocol built on it. -DCREW_SANITIZE=thread puts this
 * directory first on the include path, so that everything that says #include <ck_pr.h>, the other headers of Concurrency Kit too, gets
 * these functions: the same names and types over the compiler's atomics.
 *
 * ThreadSanitizer does not model fences either. What a fence orders is therefore folded into its neighbours: loads acquire, stores release,
 * read-modify-writes are sequentially consistent; a fence keeps its instruction and says nothing to the tool. So a race on plain
 * data that is published by a flag is found; a missing fence between two atomics is not: the models and the killers look for those.
 *
 * Here is what lib/ uses and the headers it includes need. Another function is one line in SANE_INTEGER.
 */
#ifndef CK_PR_H
#define CK_PR_H

#include <ck_cc.h>
#include <ck_md.h>
#include <ck_stdbool.h>
#include <ck_stdint.h>

#define CK_F_PR
#define CK_F_PR_RFO
#define CK_F_PR_LOAD_64
#define CK_F_PR_STORE_64
#define CK_F_PR_CAS_64
#define CK_F_PR_CAS_64_VALUE
#define CK_F_PR_FAA_64
#define CK_F_PR_FAA_32
#define CK_F_PR_CAS_32
#define CK_F_PR_INC_32
#define CK_F_PR_INC_16
#define CK_F_PR_LOAD_UINT
#define CK_F_PR_STORE_UINT
#define CK_F_PR_AND_UINT
#define CK_F_PR_OR_UINT

CK_CC_INLINE static void ck_pr_barrier(void)
{
	__asm__ __volatile__("" ::: "memory");
}

/* Not __sync_synchronize(): gcc hands that to the tool, which refuses it (-Wtsan). */
CK_CC_INLINE static void sane_fence(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__asm__ __volatile__("mfence" ::: "memory");
#elif defined(__aarch64__)
	__asm__ __volatile__("dmb ish" ::: "memory");
#else
#error "which instruction is a full fence here?"
#endif
}

CK_CC_INLINE static void ck_pr_stall(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__asm__ __volatile__("pause" ::: "memory");
#else
	__asm__ __volatile__("yield" ::: "memory");
#endif
}

CK_CC_INLINE static void ck_pr_rfo(const void *m)
{
	(void)m;
}

#define SANE_FENCE(name_)                                       \
	CK_CC_INLINE static void ck_pr_fence_##name_(void)      \
	{                                                       \
		sane_fence();                                  \
	}                                                       \
	CK_CC_INLINE static void ck_pr_fence_strict_##name_(void) \
	{                                                       \
		sane_fence();                                  \
	}
SANE_FENCE(atomic)
SANE_FENCE(atomic_load)
SANE_FENCE(atomic_store)
SANE_FENCE(store_atomic)
SANE_FENCE(load_atomic)
SANE_FENCE(load_store)
SANE_FENCE(store_load)
SANE_FENCE(load)
SANE_FENCE(store)
SANE_FENCE(memory)
SANE_FENCE(acquire)
SANE_FENCE(release)
SANE_FENCE(acqrel)
SANE_FENCE(lock)
SANE_FENCE(unlock)
#undef SANE_FENCE

/* void verb(target, value) by a builtin that fetches, and the tests that CK makes of inc and dec. */
#define SANE_VERB(verb_, name_, type_)                                         \
	CK_CC_INLINE static void ck_pr_##verb_##_##name_(type_ *p, type_ v)    \
	{                                                                      \
		(void)__atomic_fetch_##verb_(p, v, __ATOMIC_SEQ_CST);          \
	}
#define SANE_COUNT(verb_, by_, name_, type_)                                           \
	CK_CC_INLINE static void ck_pr_##verb_##_##name_(type_ *p)                     \
	{                                                                              \
		(void)__atomic_fetch_##by_(p, 1, __ATOMIC_SEQ_CST);                    \
	}                                                                              \
	CK_CC_INLINE static bool ck_pr_##verb_##_##name_##_is_zero(type_ *p)           \
	{                                                                              \
		return __atomic_##by_##_fetch(p, 1, __ATOMIC_SEQ_CST) == 0;            \
	}                                                                              \
	CK_CC_INLINE static void ck_pr_##verb_##_##name_##_zero(type_ *p, bool *zero)  \
	{                                                                              \
		*zero = ck_pr_##verb_##_##name_##_is_zero(p);                          \
	}

#define SANE_INTEGER(name_, type_)                                                                            \
	CK_CC_INLINE static type_ ck_pr_md_load_##name_(const type_ *p)                                       \
	{                                                                                                     \
		return __atomic_load_n(p, __ATOMIC_ACQUIRE);                                                  \
	}                                                                                                     \
	CK_CC_INLINE static void ck_pr_md_store_##name_(type_ *p, type_ v)                                    \
	{                                                                                                     \
		__atomic_store_n(p, v, __ATOMIC_RELEASE);                                                     \
	}                                                                                                     \
	CK_CC_INLINE static bool ck_pr_cas_##name_##_value(type_ *p, type_ from, type_ to, type_ *found)      \
	{                                                                                                     \
		*found = from;                                                                                \
		return __atomic_compare_exchange_n(p, found, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);      \
	}                                                                                                     \
	CK_CC_INLINE static bool ck_pr_cas_##name_(type_ *p, type_ from, type_ to)                            \
	{                                                                                                     \
		return __atomic_compare_exchange_n(p, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);      \
	}                                                                                                     \
	CK_CC_INLINE static type_ ck_pr_fas_##name_(type_ *p, type_ v)                                        \
	{                                                                                                     \
		return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                           \
	}                                                                                                     \
	CK_CC_INLINE static type_ ck_pr_faa_##name_(type_ *p, type_ v)                                        \
	{                                                                                                     \
		return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                            \
	}                                                                                                     \
	SANE_VERB(add, name_, type_)                                                                          \
	SANE_VERB(sub, name_, type_)                                                                          \
	SANE_VERB(and, name_, type_)                                                                          \
	SANE_VERB(or, name_, type_)                                                                           \
	SANE_VERB(xor, name_, type_)                                                                          \
	SANE_COUNT(inc, add, name_, type_)                                                                    \
	SANE_COUNT(dec, sub, name_, type_)
SANE_INTEGER(8, uint8_t)
SANE_INTEGER(16, uint16_t)
SANE_INTEGER(32, uint32_t)
SANE_INTEGER(64, uint64_t)
SANE_INTEGER(char, char)
SANE_INTEGER(int, int)
SANE_INTEGER(uint, unsigned int)
#undef SANE_INTEGER
#undef SANE_COUNT
#undef SANE_VERB

/* Test and set, clear or flip a bit; what the bit was. */
#define SANE_BIT(verb_, by_, mask_, name_, type_)                                         \
	CK_CC_INLINE static bool ck_pr_##verb_##_##name_(type_ *p, unsigned int bit)      \
	{                                                                                 \
		type_ one = (type_)((type_)1 << bit);                                     \
		return __atomic_fetch_##by_(p, mask_, __ATOMIC_SEQ_CST) & one;            \
	}
#define SANE_BITS(name_, type_)                            \
	SANE_BIT(bts, or, one, name_, type_)               \
	SANE_BIT(btr, and, (type_)~one, name_, type_)      \
	SANE_BIT(btc, xor, one, name_, type_)
SANE_BITS(16, uint16_t)
SANE_BITS(32, uint32_t)
SANE_BITS(64, uint64_t)
SANE_BITS(int, int)
SANE_BITS(uint, unsigned int)
#undef SANE_BITS
#undef SANE_BIT

/* Pointers to anything come as void *, as CK takes them. */
CK_CC_INLINE static void *ck_pr_md_load_ptr(const void *p)
{
	return __atomic_load_n((void *const *)p, __ATOMIC_ACQUIRE);
}

CK_CC_INLINE static void ck_pr_md_store_ptr(void *p, const void *v)
{
	__atomic_store_n((void **)p, (void *)(uintptr_t)v, __ATOMIC_RELEASE);
}

CK_CC_INLINE static bool ck_pr_cas_ptr_value(void *p, void *from, void *to, void *found)
{
	void **was = (void **)found;

	*was = from;
	return __atomic_compare_exchange_n((void **)p, was, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

CK_CC_INLINE static bool ck_pr_cas_ptr(void *p, void *from, void *to)
{
	return __atomic_compare_exchange_n((void **)p, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

CK_CC_INLINE static void *ck_pr_fas_ptr(void *p, void *v)
{
	return __atomic_exchange_n((void **)p, v, __ATOMIC_SEQ_CST);
}

CK_CC_INLINE static uintptr_t ck_pr_faa_ptr(void *p, uintptr_t v)
{
	return __atomic_fetch_add((uintptr_t *)p, v, __ATOMIC_SEQ_CST);
}

/* The faces: a store is of the target's type, a load of a pointer has the type of what it was loaded from. */
#define SANE_STORE(p_, v_, name_) ck_pr_md_store_##name_(((void)sizeof(*(p_) = (v_)), (p_)), (v_))
#define ck_pr_store_ptr(p_, v_) SANE_STORE((p_), (v_), ptr)
#define ck_pr_store_8(p_, v_) SANE_STORE((p_), (v_), 8)
#define ck_pr_store_16(p_, v_) SANE_STORE((p_), (v_), 16)
#define ck_pr_store_32(p_, v_) SANE_STORE((p_), (v_), 32)
#define ck_pr_store_64(p_, v_) SANE_STORE((p_), (v_), 64)
#define ck_pr_store_char(p_, v_) SANE_STORE((p_), (v_), char)
#define ck_pr_store_int(p_, v_) SANE_STORE((p_), (v_), int)
#define ck_pr_store_uint(p_, v_) SANE_STORE((p_), (v_), uint)
#define ck_pr_store_ptr_unsafe(p_, v_) ck_pr_md_store_ptr((p_), (v_))

#define ck_pr_load_ptr(p_) ((CK_CC_TYPEOF(*(p_), (void *)))ck_pr_md_load_ptr((p_)))
#define ck_pr_load_8(p_) ck_pr_md_load_8((p_))
#define ck_pr_load_16(p_) ck_pr_md_load_16((p_))
#define ck_pr_load_32(p_) ck_pr_md_load_32((p_))
#define ck_pr_load_64(p_) ck_pr_md_load_64((p_))
#define ck_pr_load_char(p_) ck_pr_md_load_char((p_))
#define ck_pr_load_int(p_) ck_pr_md_load_int((p_))
#define ck_pr_load_uint(p_) ck_pr_md_load_uint((p_))

#endif
