/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * steps.c: what each operation of lib/ does to memory, with the store buffers of x86 between.
 *
 * A store may be *delayed*: only its own thread sees it, and every store after it, until a full fence, a read-modify-write or a call into the
 * kernel empties the thread's buffer; or earlier, whenever the scheduler likes. Loads go on meanwhile: that is all that x86 reorders. Which stores are
 * delayed is one more choice of the schedule, and there are few of them (scenario.delays).
 *
 * Memory itself has the new value at once, for the thread may read it by a plain load that is no step; the buffer keeps what the others still see.
 */
#include <string.h>

#include "interleaving/search.h"

#define BUFFERED_MAX 64

/* Memory has what the storing thread sees; here is what the others still see. */
struct delayed {
	unsigned char *p;
	uint64_t others_see;
	unsigned int size;
};

static struct buffer {
	struct delayed store[BUFFERED_MAX];
	int count;
} buffers[FIBERS_MAX];
static int delays_left, delayed_stores;

static uint64_t read_memory(const void *p, unsigned int size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

/* ---- buffers ---- */

void buffer_reset(int delays)
{
	for (int i = 0; i < FIBERS_MAX; i++)
		buffers[i].count = 0;
	delayed_stores = 0;
	delays_left = delays;
}

bool buffer_holds(int thread)
{
	return buffers[thread].count;
}

bool buffer_any(void)
{
	return delayed_stores;
}

bool buffer_flush_one(int thread)
{
	struct buffer *b = &buffers[thread];

	if (!b->count)
		return false;
	b->count--;
	delayed_stores--;
	memmove(&b->store[0], &b->store[1], (size_t)b->count * sizeof b->store[0]);
	step_progress();
	return true;
}

void buffer_flush(int thread)
{
	while (buffer_flush_one(thread))
		;
}

/* The oldest store of somebody else that has not arrived at p; NULL: there is none. */
static struct delayed *others_delayed(const void *p, int *ret_thread)
{
	int me = schedule_thread();

	for (int i = 0; delayed_stores && i < FIBERS_MAX; i++)
		for (int k = 0; i != me && k < buffers[i].count; k++) {
			struct delayed *d = &buffers[i].store[k];

			if ((uintptr_t)p - (uintptr_t)d->p < d->size) {
				*ret_thread = i;
				return d;
			}
		}
	return NULL;
}

uint64_t memory_read(const void *p, unsigned int size)
{
	int thread;
	const struct delayed *d = others_delayed(p, &thread);

	if (!d)
		return read_memory(p, size);
	return read_memory((const unsigned char *)&d->others_see + ((uintptr_t)p - (uintptr_t)d->p), size);
}

static void write_memory(void *p, uint64_t v, unsigned int size)
{
	int thread;
	struct delayed *d = others_delayed(p, &thread);

	if (d && d->size == size) { /* it comes before the other's, which is still on its way */
		d->others_see = v;
		return;
	}
	while (d) {
		buffer_flush_one(thread);
		d = others_delayed(p, &thread);
	}
	memcpy(p, &v, size);
}

static void delay(struct buffer *b, void *p, uint64_t v, unsigned int size)
{
	int thread;

	while (others_delayed(p, &thread))
		buffer_flush_one(thread);
	b->store[b->count++] = (struct delayed){ p, read_memory(p, size), size };
	delayed_stores++;
	memcpy(p, &v, size);
}

/* ---- operations ---- */

uint64_t step_load(const void *p, unsigned int size)
{
	uint64_t v;

	step_begins(STEP_LOAD, p, CALL_SITE);
	v = fault_at(size == sizeof(uint64_t) ? BLIND_WIDE_LOAD : BLIND_LOAD, CALL_SITE) ? 0 : memory_read(p, size);
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
	} else if (b && delays_left > 0 && !schedule_is_quiet() && site_is_shared(CALL_SITE) && schedule_choose(2)) {
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
	*found = memory_read(p, size);
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

	if (fault_at(LATE, CALL_SITE)) {
		late_update(p, what, v, size);
		return memory_read(p, size);
	}
	if (step_begins(STEP_UPDATE, p, CALL_SITE) && !fault_at(NO_FENCE, CALL_SITE))
		buffer_flush(schedule_thread());
	old = memory_read(p, size);
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
