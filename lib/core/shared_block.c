/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared_block.c: the list of an executor's shared blocks, under its mutex. There are few of them, and only tasks with bytes among their arguments
 * look here, once the executor has any.
 *
 * A future that outlives its executor outlives the blocks too: its pins then name blocks that were freed. So a pin holds the block's small
 * description, which is counted, and not its memory.
 */
#include "core/shared_block.h"

#include <errno.h>
#include <stdlib.h>

#include "core/group.h"

struct shared_block {
	struct shared_block *next; /* guarded by the executor's mutex, as all below */
	crew_executor *ex;	   /* NULL: the executor and with it the memory are gone */
	crew_bytes run;
	bool freed; /* by the user */
};

struct pins {
	crew_executor *ex; /* valid as long as the blocks are: unpin takes its mutex only then */
	size_t count;
	struct counted *block[];
};

/* What pins refer to: outlives the block's memory. */
struct counted {
	struct shared_block block;
	uint32_t references; /* 1 for the list, 1 for each pin; by faa */
};

static struct counted *counted_of(struct shared_block *block)
{
	return (struct counted *)block;
}

static void drop(struct counted *c)
{
	if (ck_pr_faa_32(&c->references, (uint32_t)-1) == 1)
		free(c);
}

static crew_executor *base_of(crew_executor *ex)
{
	return is_group(ex) ? crew__group_base(ex) : ex;
}

static void free_memory(crew_executor *ex, crew_bytes run)
{
	if (ex->ops->shared_free)
		ex->ops->shared_free(ex, run.data, run.len);
	else
		free(run.data);
}

crew_bytes crew_shared_alloc(crew_executor *ex, size_t n)
{
	crew_bytes none = { NULL, 0 };
	struct counted *c;
	int rc = crew_executor_error(ex, NULL);

	if (rc || n == 0) {
		errno = rc == CREW_EFORKED || rc == CREW_EHANDLE || n == 0 ? EINVAL : ENOMEM;
		return none;
	}
	ex = base_of(ex);
	c = calloc(1, sizeof *c);
	if (!c)
		return none;
	c->block.run.data = ex->ops->shared_alloc ? ex->ops->shared_alloc(ex, n) : calloc(1, n);
	if (!c->block.run.data) {
		free(c);
		return none;
	}
	c->block.run.len = n;
	c->block.ex = ex;
	c->references = 1;
	pthread_mutex_lock(&ex->mutex);
	c->block.next = ex->blocks;
	ex->blocks = &c->block;
	ck_pr_store_32(&ex->has_blocks, 1);
	pthread_mutex_unlock(&ex->mutex);
	return c->block.run;
}

static bool contains(const struct shared_block *b, crew_bytes bytes)
{
	size_t offset = (size_t)((uintptr_t)bytes.data - (uintptr_t)b->run.data);

	return bytes.data && offset < b->run.len && bytes.len <= b->run.len - offset;
}

/* The block that holds the run; the mutex is held. */
static struct shared_block *find(crew_executor *ex, crew_bytes bytes)
{
	struct shared_block *b = ex->blocks;

	while (b && !contains(b, bytes))
		b = b->next;
	return b;
}

bool crew__shared_find(crew_executor *ex, crew_bytes bytes)
{
	bool found;

	pthread_mutex_lock(&ex->mutex);
	found = find(ex, bytes) != NULL;
	pthread_mutex_unlock(&ex->mutex);
	return found;
}

/* Take a freed block nobody pins out of the list; the mutex is held. True: its memory is the caller's to free. */
static bool unlist(crew_executor *ex, struct shared_block *block)
{
	struct shared_block **place = &ex->blocks;

	if (!block->freed || ck_pr_load_32(&counted_of(block)->references) != 1)
		return false;
	while (*place != block)
		place = &(*place)->next;
	*place = block->next;
	return true;
}

void crew_shared_free(crew_executor *ex, crew_bytes bytes)
{
	struct shared_block *block;
	bool gone = false;

	if (!bytes.data || crew_executor_error(ex, NULL) == CREW_EHANDLE || crew_executor_error(ex, NULL) == CREW_EFORKED)
		return;
	ex = base_of(ex);
	pthread_mutex_lock(&ex->mutex);
	block = find(ex, (crew_bytes){ bytes.data, 1 });
	if (block && !block->freed) {
		block->freed = true;
		gone = unlist(ex, block);
	}
	pthread_mutex_unlock(&ex->mutex);
	if (gone) {
		free_memory(ex, block->run);
		drop(counted_of(block));
	}
}

int crew__shared_pin(crew_executor *ex, crew_future *f, const void *arguments)
{
	const crew_task *task = task_of(f);
	struct pins *pins = calloc(1, sizeof *pins + task->parameter_count * sizeof pins->block[0]);
	struct annex *a;

	if (!pins)
		return -ENOMEM;
	pins->ex = ex;
	pthread_mutex_lock(&ex->mutex);
	for (uint32_t i = 0; i < task->parameter_count; i++) {
		struct shared_block *block = NULL;

		if (CREW_TYPE_CLASS(task->parameters[i].type) == CREW_BYTES)
			block = find(ex, *(const crew_bytes *)((const unsigned char *)arguments + task->parameters[i].offset));
		if (block) {
			ck_pr_faa_32(&counted_of(block)->references, 1);
			pins->block[pins->count++] = counted_of(block);
		}
	}
	pthread_mutex_unlock(&ex->mutex);
	if (pins->count == 0) {
		free(pins);
		return 0;
	}
	a = crew__annex(f);
	if (!a) {
		crew__shared_unpin(pins);
		return -ENOMEM;
	}
	a->pins = pins;
	return 0;
}

bool crew__shared_pinned(const struct pins *pins, crew_bytes bytes)
{
	for (size_t i = 0; i < pins->count; i++)
		if (contains(&pins->block[i]->block, bytes)) /* where it is never changes */
			return true;
	return false;
}

static void unpin(crew_executor *ex, struct counted *c)
{
	bool gone;

	pthread_mutex_lock(&ex->mutex);
	gone = ck_pr_faa_32(&c->references, (uint32_t)-1) == 2 && unlist(ex, &c->block);
	pthread_mutex_unlock(&ex->mutex);
	if (gone) {
		free_memory(ex, c->block.run);
		drop(c);
	}
}

void crew__shared_unpin(struct pins *pins)
{
	for (size_t i = 0; i < pins->count; i++) {
		if (ck_pr_load_ptr(&pins->block[i]->block.ex))
			unpin(pins->ex, pins->block[i]);
		else
			drop(pins->block[i]);
	}
	free(pins);
}

void crew__shared_fini(crew_executor *ex)
{
	while (ex->blocks) {
		struct shared_block *block = ex->blocks;

		ex->blocks = block->next;
		if (!ex->ops->shared_alloc)
			free(block->run.data); /* a backend's went with its mapping */
		ck_pr_store_ptr(&block->ex, NULL);
		drop(counted_of(block));
	}
}
