/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shareable_list.c: a table of slots and the room behind it, in one block, under one lock.
 *
 * A set says first that the slot is being written, then writes, then says by one word what it is now. So a kill in the middle leaves one slot that says so, and a
 * lock whose next taker has nothing to repair.
 */
#include <crew/shared.h>
#include <errno.h>
#include <string.h>

#include "core/context.h"
#include "ipc/lock_word.h"
#include "ipc/object.h"

struct slot {
	uint64_t offset, room; /* fixed: of its bytes, in the block */
	uint64_t word;	       /* guarded by the list's lock: length × 8 + kind, or WRITING; changed by one store */
	uint64_t scalar;       /* likewise, while it is WRITING */
};
#define WRITING UINT64_MAX

struct list {
	uint64_t stamp;
	struct lock_word lock;

	/* fixed */
	uint64_t count, place;
};

static struct list *list_at(crew_shareable_list list)
{
	return handle_at(list.handle, HANDLE_LIST);
}

static size_t room_for(const crew_item *item)
{
	return item->kind == CREW_ITEM_BYTES ? (item->is.bytes.len + 7) / 8 * 8 : 0;
}

static bool is_item(const crew_item *item)
{
	return item->kind <= CREW_ITEM_BYTES && (item->kind != CREW_ITEM_BYTES || item->is.bytes.data || item->is.bytes.len == 0);
}

static void store(unsigned char *base, struct slot *slot, const crew_item *item)
{
	uint64_t length = item->kind == CREW_ITEM_BYTES ? item->is.bytes.len : 0;

	ck_pr_store_64(&slot->word, WRITING);
	ck_pr_fence_store();
	if (length)
		memcpy(base + slot->offset, item->is.bytes.data, length);
	else if (item->kind == CREW_ITEM_BOOL)
		slot->scalar = item->is.boolean;
	else if (item->kind != CREW_ITEM_NONE && item->kind != CREW_ITEM_BYTES)
		memcpy(&slot->scalar, &item->is, sizeof slot->scalar);
	store_release_64(&slot->word, length * 8 + (uint64_t)item->kind); /* after the bytes: for who takes the lock after our death */
}

/* Bytes that the list needs; 0: some item is none, or they are too many. */
static size_t size_of(const crew_item *items, size_t n)
{
	size_t size = n * sizeof(struct slot);

	if ((!items && n) || n > PTRDIFF_MAX / sizeof(struct slot))
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (!is_item(&items[i]) || (items[i].kind == CREW_ITEM_BYTES && items[i].is.bytes.len > PTRDIFF_MAX - size))
			return 0;
		size += room_for(&items[i]);
	}
	return size ? size : 1;
}

crew_shareable_list crew_shareable_list_make(const crew_item *items, size_t n)
{
	size_t size = size_of(items, n), offset = n * sizeof(struct slot);
	crew_shareable_list ret;
	struct slot *slots;
	struct list *l;
	uint64_t place = 0;
	int rc = size ? crew__family_alloc(size, &place) : -EINVAL;

	if (rc)
		return (crew_shareable_list){ crew__handle_failed(rc) };
	ret.handle = crew__handle_make(HANDLE_LIST, sizeof *l, (void **)&l);
	if (!l) {
		crew__family_free(place);
		return ret;
	}
	slots = crew__family_at(place);
	for (size_t i = 0; i < n; i++) {
		slots[i].offset = offset;
		slots[i].room = room_for(&items[i]);
		store((unsigned char *)slots, &slots[i], &items[i]);
		offset += slots[i].room;
	}
	l->count = n;
	l->place = place;
	return ret;
}

int crew_shareable_list_drop(crew_shareable_list list)
{
	struct list *l = crew__handle_end(list.handle, HANDLE_LIST);

	if (!l)
		return crew__handle_reason(list.handle);
	crew__word_end(&l->lock);
	crew__family_free(l->place);
	crew__family_free(list.handle.place);
	return 0;
}

ssize_t crew_shareable_list_len(crew_shareable_list list)
{
	struct list *l = list_at(list);

	return l ? (ssize_t)l->count : crew__handle_reason(list.handle);
}

/* The list locked and the slot found. The lock of a dead owner needs no repair: if he was in the middle of a slot, that slot says so. */
static int enter(crew_shareable_list list, size_t i, struct list **ret, struct slot **ret_slot)
{
	struct list *l = list_at(list);
	int rc;

	if (!l)
		return crew__handle_reason(list.handle);
	if (i >= l->count)
		return -ERANGE;
	rc = lock_take(&l->lock, crew__mortal_id) ? 0 : crew__word_acquire(&(struct lock_place){ &l->lock, l, list.handle, true }, CREW_FOREVER);
	if (rc == -EOWNERDEAD)
		rc = crew__word_recover(&l->lock);
	*ret = l;
	*ret_slot = (struct slot *)crew__family_at(l->place) + i;
	return rc;
}

int crew_shareable_list_set(crew_shareable_list list, size_t i, crew_item item)
{
	struct slot *slot;
	struct list *l;
	int rc = is_item(&item) ? enter(list, i, &l, &slot) : -EINVAL;

	if (rc)
		return rc;
	if (item.kind == CREW_ITEM_BYTES && item.is.bytes.len > slot->room)
		rc = -EMSGSIZE;
	else
		store(crew__family_at(l->place), slot, &item);
	crew__word_release(&l->lock, true);
	return rc;
}

static int load(const unsigned char *base, const struct slot *slot, crew_item *ret)
{
	crew_item item = { .kind = (enum crew_item_kind)(slot->word % 8) };
	size_t length = (size_t)(slot->word / 8);

	if (slot->word == WRITING)
		return -EOWNERDEAD;
	if (item.kind == CREW_ITEM_BOOL) {
		item.is.boolean = slot->scalar != 0;
	} else if (item.kind != CREW_ITEM_BYTES) {
		memcpy(&item.is, &slot->scalar, sizeof slot->scalar);
	} else {
		struct block *block = crew__block_new(length);

		if (!block)
			return -ENOMEM;
		memcpy(block->data, base + slot->offset, length);
		item.is.bytes = (crew_bytes){ block->data, length };
	}
	*ret = item;
	return 0;
}

int crew_shareable_list_get(crew_shareable_list list, size_t i, crew_item *ret)
{
	struct slot *slot;
	struct list *l;
	int rc = ret ? enter(list, i, &l, &slot) : -EINVAL;

	if (rc)
		return rc;
	rc = load(crew__family_at(l->place), slot, ret);
	crew__word_release(&l->lock, true);
	return rc;
}
