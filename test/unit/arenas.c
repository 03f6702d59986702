/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arenas.c: extents of a mapping (lib/process/arena.c): no two overlap, all have pages, and what was given back is had again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../runner.h"
#include "process/arena.h"

enum { SIZE = 32 << 20, EXTENTS = 1500 };

struct extent {
	uint64_t offset;
	size_t size; /* 0: none */
	unsigned char mark;
};

struct yard {
	struct mapping mapping;
	struct arena arena;
	struct extent extents[EXTENTS];
};

static void yard_open(struct yard *y)
{
	CHECK_EQ(crew__mapping_open(&y->mapping, "crew-test", SIZE), 0);
	CHECK_EQ(crew__arena_init(&y->arena, &y->mapping, 0, SIZE), 0);
}

static void yard_close(struct yard *y)
{
	crew__arena_fini(&y->arena);
	crew__mapping_close(&y->mapping);
}

static unsigned char *at(struct yard *y, uint64_t offset)
{
	return y->mapping.base + offset;
}

static void give_back(struct yard *y, struct extent *e)
{
	CHECK(at(y, e->offset)[0] == e->mark && at(y, e->offset)[e->size / 2] == e->mark && at(y, e->offset)[e->size - 1] == e->mark);
	crew__arena_free(&y->arena, e->offset, e->size);
	e->size = 0;
}

/* Mostly small, of every class; some of many chunks. */
static size_t any_size(uint64_t random)
{
	size_t most = (size_t)1 << (random % 64 == 0 ? 20 : 4 + random % 13);

	return 1 + (random >> 8) % most;
}

static bool take(struct yard *y, struct extent *e, uint64_t random)
{
	size_t n = any_size(random);
	int rc = crew__arena_alloc(&y->arena, n, &e->offset);

	if (rc) {
		CHECK_EQ(rc, -ENOMEM);
		return false;
	}
	CHECK_EQ(e->offset % 64, 0);
	CHECK(e->offset + n <= SIZE);
	e->size = n;
	e->mark = (unsigned char)(random >> 40);
	memset(at(y, e->offset), e->mark, n);
	return true;
}

static void give_all_back(struct yard *y)
{
	for (int i = 0; i < EXTENTS; i++)
		if (y->extents[i].size)
			give_back(y, &y->extents[i]);
}

/* In any order, and past the point where there is no more. */
TEST(extents_never_overlap)
{
	static struct yard y;
	struct stat file;
	uint64_t offset;
	int refused = 0;

	yard_open(&y);
	for (size_t i = 0, n = 20 * test_scaled(1000); i < n; i++) {
		uint64_t random = test_random();
		struct extent *e = &y.extents[random % EXTENTS];

		if (e->size)
			give_back(&y, e);
		else if (!take(&y, e, random >> 11) && refused++ % 8 == 7)
			give_all_back(&y);
	}
	give_all_back(&y);
	CHECK_EQ(crew__arena_alloc(&y.arena, SIZE / 4, &offset), 0); /* together again, but for a few */
	crew__arena_free(&y.arena, offset, SIZE / 4);
	CHECK_EQ(crew__arena_alloc(&y.arena, SIZE + 1, &offset), -ENOMEM);
	CHECK_EQ(crew__arena_alloc_run(&y.arena, (size_t)SIZE + ARENA_CHUNK, &offset), -ENOMEM);
	CHECK_EQ(crew__arena_alloc(&y.arena, SIZE_MAX, &offset), -ENOMEM);
	crew__arena_trim(&y.arena);
	CHECK_EQ(fstat(y.mapping.fd, &file), 0);
	CHECK_LE(file.st_blocks, SIZE / 512 / 4); /* spans of blocks that stay for next time */
	yard_close(&y);
}

/* A run may come back in parts, in any order, and is one again. */
TEST(a_run_comes_back_in_parts)
{
	static struct yard y;
	enum { PARTS = 64 };
	static const int order[] = { 7, 3, 5, 1, 0, 2, 4, 6 };
	uint64_t run, again;

	yard_open(&y);
	for (int round = 0; round < 3; round++) {
		CHECK_EQ(crew__arena_alloc_run(&y.arena, PARTS * ARENA_CHUNK, &run), 0);
		memset(at(&y, run), 9, PARTS * ARENA_CHUNK);
		for (int i = 0; i < PARTS; i++)
			crew__arena_free_run(&y.arena, run + (uint64_t)(i / 8 * 8 + order[i % 8]) * ARENA_CHUNK, ARENA_CHUNK);
		CHECK_EQ(crew__arena_alloc_run(&y.arena, SIZE, &again), 0);
		CHECK_EQ(again, 0);
		crew__arena_free_run(&y.arena, again, SIZE);
		crew__arena_trim(&y.arena);
	}
	yard_close(&y);
}
