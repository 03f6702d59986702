/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * member.h: which process of the family, in a word, so that one compare-and-swap can say who has something; and does it live?
 *
 *	pid:22 | when it started:28 (clock ticks since boot, the low ones) | 14 bits for whoever keeps the word
 *
 * No table and no registration: nothing has to be written before a process can be named, nothing is left when it is gone. A number that was
 * used again belongs to a process that started at another time.
 */
#ifndef CREW_LIB_MEMBER_H
#define CREW_LIB_MEMBER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MEMBER_MASK (~(uint64_t)0x3fff)

static inline pid_t member_pid(uint64_t word)
{
	return (pid_t)(word >> 42);
}

static inline bool same_member(uint64_t a, uint64_t b)
{
	return ((a ^ b) & MEMBER_MASK) == 0;
}

/* The calling process; the low bits are 0. Any thread. */
uint64_t crew__member_self(void);

/* Is it there, and no zombie? True when that cannot be found out: better to wait than to take from the living. Reads /proc: some microseconds. */
bool crew__member_lives(uint64_t word);

#endif
