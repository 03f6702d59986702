/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * types.h: how the library tells one C type from another, at compile time.
 *
 * A type is one int: its class and its size. That is what results are checked by: it is stricter than void *
 * and laxer than the compiler, for which long and long long are different even where they are the same.
 */
#pragma GCC system_header
#ifndef CREW_TYPES_H
#define CREW_TYPES_H

#include <crew/base.h>

enum crew_class {
	CREW_VOID,
	CREW_INTEGER, /* integers, enums, bool; of either sign */
	CREW_REAL,
	CREW_COMPLEX,
	CREW_STRING, /* const char *: copied with its text. char * is a POINTER */
	CREW_BYTES,  /* crew_bytes: copied with what it points to */
	CREW_POINTER,
	CREW_STRUCT /* structs, unions and arrays, by value; pointers inside are not seen */
};

#define CREW_TYPE(class_, size_) ((int)((unsigned)(class_) << 24 | (unsigned)(size_)))
#define CREW_TYPE_CLASS(type_) ((enum crew_class)((unsigned)(type_) >> 24))
#define CREW_TYPE_SIZE(type_) ((size_t)((unsigned)(type_) & 0xffffff))

#ifndef __cplusplus
/* The type code of a C type: CREW_TYPE_OF(double), CREW_TYPE_OF(struct point), CREW_TYPE_OF(crew_bytes). */
#define CREW_TYPE_OF(type_) CREW_TYPE(CREW__CLASS(type_), CREW__IS(type_, void) ? 0 : sizeof(CREW__VALUE(type_)))

#define CREW__IS(type_, other_) __builtin_types_compatible_p(type_, other_)

/* The type itself, but char for void: what can be declared, stored and measured for every result type. */
#define CREW__VALUE(type_) \
	__typeof__(*__builtin_choose_expr(CREW__IS(type_, void), (char *)0, (__typeof__(type_) *)0))

/* An array decays in a comma expression, nothing else changes. */
#define CREW__IS_ARRAY(type_) \
	(!CREW__IS(CREW__VALUE(type_), __typeof__(((void)0, *(CREW__VALUE(type_) *)0))))

/* 5 pointer, 8 real, 9 complex, from 12 on records and unions: gcc's typeclass.h, clang agrees. */
#define CREW__KIND(type_) __builtin_classify_type(*(CREW__VALUE(type_) *)0)
#define CREW__CLASS(type_)                             \
	(CREW__IS(type_, void)	       ? CREW_VOID     \
	 : CREW__IS(type_, const char *) ? CREW_STRING \
	 : CREW__IS(type_, crew_bytes)	 ? CREW_BYTES  \
	 : CREW__IS_ARRAY(type_)	 ? CREW_STRUCT \
	 : CREW__KIND(type_) == 5	 ? CREW_POINTER \
	 : CREW__KIND(type_) == 8	 ? CREW_REAL   \
	 : CREW__KIND(type_) == 9	 ? CREW_COMPLEX \
	 : CREW__KIND(type_) >= 12	 ? CREW_STRUCT \
					 : CREW_INTEGER)

#define CREW__SIZE_AT(p_) sizeof(CREW__VALUE(__typeof__(*(p_))))
#define CREW__TYPE_AT(p_) CREW_TYPE_OF(__typeof__(*(p_)))
#endif
#endif
