/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * steps.c: what each operation of lib/ does to memory, with the store buffers of x86 between.
 *
 * A store may be *delayed*: it, and every store after it, goes to its thread's buffer, where only that thread sees it, until a full fence, a
 * read-modify-write or a call into the kernel empties it; or earlier, whenever the scheduler likes. Loads go on meanwhile: that is all that x86
 * reorders. Which stores are delayed is one more choice of the schedule, and there are few of them (scenario.delays).
 */
#include <string.h>

#include "interleaving/search.h"

#define BUFFERED_MAX 64

struct buffered {
	void *p;
	uint64_t v;
	unsigned int size;
};

static struct buffer {
	struct buffered store[BUFFERED_MAX];
	int count;
} buffers[FIBERS_MAX];
static int delays_left;

static uint64_t read_memory(const void *p, unsigned int size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

static void write_memory(void *p, uint64_t v, unsigned int size)
{
	memcpy(p, &v, size);
}

/* ---- buffers ---- */

void buffer_reset(int delays)
{
	for (int i = 0; i < FIBERS_MAX; i++)
		buffers[i].count = 0;
	delays_left = delays;
}

bool buffer_holds(int thread)
{
	return buffers[thread].count;
}

bool buffer_flush_one(int thread)
{
	struct buffer *b = &buffers[thread];

	if (!b->count)
		return false;
	write_memory(b->store[0].p, b->store[0].v, b->store[0].size);
	b->count--;
	memmove(&b->store[0], &b->store[1], (size_t)b->count * sizeof b->store[0]);
	step_progress();
	return true;
}

void buffer_flush(int thread)
{
	while (buffer_flush_one(thread))
		;
}

static uint64_t look(const void *p, unsigned int size)
{
	int thread = schedule_thread();
	const struct buffer *b = thread < 0 ? NULL : &buffers[thread];

	for (int i = b ? b->count : 0; i-- > 0;)
		if (b->store[i].p == p && b->store[i].size == size)
			return b->store[i].v;
	return read_memory(p, size);
}

static void delay(struct buffer *b, void *p, uint64_t v, unsigned int size)
{
	b->store[b->count++] = (struct buffered){ p, v, size };
}

/* ---- operations ---- */

uint64_t step_load(const void *p, unsigned int size)
{
	uint64_t v;

	step_begins(STEP_LOAD, p, CALL_SITE);
	v = look(p, size);
	step_was(v);
	return v;
}

void step_store(void *p, uint64_t v, unsigned int size)
{
	bool ours = step_begins(STEP_STORE, p, CALL_SITE);
	struct buffer *b = ours ? &buffers[schedule_thread()] : NULL;

	step_was(v);
	if (fault_at(NO_STORE, CALL_SITE))
		return;
	if (b && b->count == BUFFERED_MAX)
		buffer_flush(schedule_thread());
	if (b && b->count) {
		delay(b, p, v, size);
	} else if (b && delays_left > 0 && schedule_choose(2)) {
		delays_left--;
		delay(b, p, v, size);
	} else {
		write_memory(p, v, size);
		step_progress();
	}
}

bool step_cas(void *p, uint64_t from, uint64_t to, uint64_t *found, unsigned int size)
{
	if (step_begins(STEP_CAS, p, CALL_SITE))
		buffer_flush(schedule_thread());
	*found = read_memory(p, size);
	step_was(*found);
	if (fault_at(BLIND_CAS, CALL_SITE))
		*found = from;
	if (*found != from) {
		step_lost();
		return false;
	}
	step_was(to);
	if (fault_at(DEAF_CAS, CALL_SITE))
		return true;
	write_memory(p, to, size);
	step_progress();
	return true;
}

uint64_t step_update(void *p, enum step_update what, uint64_t v, unsigned int size)
{
	uint64_t old;

	if (step_begins(STEP_UPDATE, p, CALL_SITE))
		buffer_flush(schedule_thread());
	old = read_memory(p, size);
	switch (what) {
	case UPDATE_ADD: v += old; break;
	case UPDATE_AND: v &= old; break;
	case UPDATE_OR: v |= old; break;
	case UPDATE_XOR: v ^= old; break;
	case UPDATE_EXCHANGE: break;
	}
	step_was(v);
	if (fault_at(NO_UPDATE, CALL_SITE))
		return old;
	write_memory(p, v, size);
	if (v != old)
		step_progress();
	return old;
}

void step_fence(void)
{
	if (fault_at(NO_FENCE, CALL_SITE))
		return;
	if (step_begins(STEP_FENCE, NULL, CALL_SITE))
		buffer_flush(schedule_thread());
}
