/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * value.c: values and arrays: things in the family's memory, with their type and a lock beside them.
 *
 * Both are one struct; a value is an array of one. Things that fit lie behind it in the same cell, others in a block of their own. Places and sizes are checked
 * against nothing that another process could have changed but the struct itself: who writes past an array harms whoever lies behind, as in one process.
 */
#include <crew/shared.h>
#include <errno.h>
#include <string.h>

#include "ipc/cell.h"
#include "ipc/object.h"
#include "ipc/lock_word.h"

#define VALUE_MOST ((size_t)64 << 10)

struct things {
	uint64_t stamp;
	struct lock_word lock;

	/* fixed */
	int type;
	uint64_t count, size; /* of one */
	uint64_t place;	      /* of the first, in the family's memory */
} CREW__ALIGNED;

/* What crew_value_as() of no value refers to: the raise has failed whoever did that. */
static unsigned char nowhere[VALUE_MOST] CREW__ALIGNED;

static struct things *value_at(crew_value value)
{
	return handle_at(value.handle, HANDLE_VALUE);
}

static struct things *array_at(crew_array array)
{
	return handle_at(array.handle, HANDLE_ARRAY);
}

/* ---- life cycle ---- */

static crew_handle make(enum handle_kind kind, const void *from, size_t n, size_t size, int type)
{
	bool inside = n <= (CELL_MAX - sizeof(struct things)) / (size ? size : 1);
	struct things *t;
	crew_handle handle;
	uint64_t place = 0;
	int rc = 0;

	if (size == 0)
		return crew__handle_failed(-EINVAL);
	if (n > (size_t)PTRDIFF_MAX / size)
		return crew__handle_failed(-E2BIG);
	if (!inside)
		rc = crew__family_alloc(n * size, &place);
	if (rc)
		return crew__handle_failed(rc);
	handle = crew__handle_make(kind, sizeof *t + (inside ? n * size : 0), (void **)&t);
	if (!t) {
		crew__family_free(place);
		return handle;
	}
	t->type = type;
	t->count = n;
	t->size = size;
	t->place = inside ? handle.place + sizeof *t : place;
	if (from && n)
		memcpy(crew__family_at(t->place), from, n * size);
	return handle;
}

static int drop(crew_handle handle, enum handle_kind kind)
{
	struct things *t = crew__handle_end(handle, kind);

	if (!t)
		return crew__handle_reason(handle);
	crew__word_end(&t->lock);
	if (t->place != handle.place + sizeof *t)
		crew__family_free(t->place);
	crew__family_free(handle.place);
	return 0;
}

crew_value crew_value_new(const void *initial, size_t size, int type)
{
	return (crew_value){ size > VALUE_MOST ? crew__handle_failed(-E2BIG) : make(HANDLE_VALUE, initial, 1, size, type) };
}

int crew_value_drop(crew_value value)
{
	return drop(value.handle, HANDLE_VALUE);
}

crew_array crew_array_new(const void *from, size_t n, size_t size, int type)
{
	return (crew_array){ make(HANDLE_ARRAY, from, n, size, type) };
}

int crew_array_drop(crew_array array)
{
	return drop(array.handle, HANDLE_ARRAY);
}

/* ---- looking ---- */

/* Why it cannot be had as `type`; 0: it can. Raises. */
static int refused(const struct things *t, crew_handle handle, int type, const char *file, int line)
{
	int code = !t ? crew__handle_reason(handle) : t->type != type ? CREW_ETYPE : 0;

	if (code)
		crew_raise_at(code, file, line, "not a shared value of this type: %s", crew_strerror(code));
	return code;
}

void *crew_value_at(crew_value value)
{
	struct things *t = value_at(value);

	return t ? crew__family_at(t->place) : NULL;
}

void *crew_value_cast(crew_value value, int type, const char *file, int line)
{
	struct things *t = value_at(value);

	if (likely(t && t->type == type))
		return crew__family_at(t->place);
	refused(t, value.handle, type, file, line);
	memset(nowhere, 0, CREW_TYPE_SIZE(type) < sizeof nowhere ? CREW_TYPE_SIZE(type) : sizeof nowhere);
	return nowhere;
}

void *crew_array_at(crew_array array, size_t *ret_n)
{
	struct things *t = array_at(array);

	if (ret_n)
		*ret_n = t ? t->count : 0;
	return t ? crew__family_at(t->place) : NULL;
}

void *crew_array_cast(crew_array array, int type, const char *file, int line)
{
	struct things *t = array_at(array);

	return refused(t, array.handle, type, file, line) ? NULL : crew__family_at(t->place);
}

/* ---- atomic ---- */

/* The place of an integer, and its size; NULL after a raise. */
static void *integer_at(crew_value value, size_t *ret_size)
{
	struct things *t = value_at(value);

	if (unlikely(!t || CREW_TYPE_CLASS(t->type) != CREW_INTEGER || t->size > 8 || (t->size & (t->size - 1)))) {
		refused(t, value.handle, t ? ~t->type : 0, __FILE__, __LINE__);
		return NULL;
	}
	*ret_size = t->size;
	return crew__family_at(t->place);
}

/* One operation over the four sizes: what was there, or a truth. ck_pr is no barrier off x86, hence the fences on both sides. */
#define EACH_SIZE(value_, operation_)                               \
	size_t size;                                                \
	void *p = integer_at(value_, &size);                        \
	int64_t was = 0;                                            \
                                                                    \
	if (!p)                                                     \
		return 0;                                           \
	ck_pr_fence_release();                                      \
	if (size == 1)                                              \
		was = (int64_t)(int8_t)operation_(8, uint8_t);      \
	else if (size == 2)                                         \
		was = (int64_t)(int16_t)operation_(16, uint16_t);   \
	else if (size == 4)                                         \
		was = (int64_t)(int32_t)operation_(32, uint32_t);   \
	else                                                        \
		was = (int64_t)operation_(64, uint64_t);            \
	ck_pr_fence_acquire();                                      \
	return was

int64_t crew_value_add(crew_value value, int64_t by)
{
#define ADD(bits_, type_) ck_pr_faa_##bits_((type_ *)p, (type_)by)
	EACH_SIZE(value, ADD);
}

int64_t crew_value_exchange(crew_value value, int64_t now)
{
#define EXCHANGE(bits_, type_) ck_pr_fas_##bits_((type_ *)p, (type_)now)
	EACH_SIZE(value, EXCHANGE);
}

bool crew_value_cas(crew_value value, int64_t old, int64_t now)
{
#define CAS(bits_, type_) ck_pr_cas_##bits_((type_ *)p, (type_)old, (type_)now)
	EACH_SIZE(value, CAS);
}

int64_t crew_value_load(crew_value value)
{
#define LOAD(bits_, type_) ck_pr_load_##bits_((type_ *)p)
	EACH_SIZE(value, LOAD);
}

void crew_value_store(crew_value value, int64_t now)
{
	(void)crew_value_exchange(value, now);
}

/* ---- locked ---- */

static int acquire(struct things *t, crew_handle handle, int ms)
{
	if (unlikely(!t))
		return crew__handle_reason(handle);
	if (likely(lock_take(&t->lock, crew__mortal_id)))
		return 0;
	return crew__word_acquire(&(struct lock_place){ &t->lock, t, handle, true }, ms);
}

int crew_value_acquire(crew_value value, int ms)
{
	return acquire(value_at(value), value.handle, ms);
}

int crew_value_release(crew_value value)
{
	struct things *t = value_at(value);

	if (likely(t && lock_is_shallow(&t->lock) && lock_give(&t->lock, crew__mortal_id)))
		return 0;
	return t ? crew__word_release(&t->lock, true) : crew__handle_reason(value.handle);
}

int crew_value_recover(crew_value value)
{
	struct things *t = value_at(value);

	return t ? crew__word_recover(&t->lock) : crew__handle_reason(value.handle);
}

int crew_array_acquire(crew_array array, int ms)
{
	return acquire(array_at(array), array.handle, ms);
}

int crew_array_release(crew_array array)
{
	struct things *t = array_at(array);

	return t ? crew__word_release(&t->lock, true) : crew__handle_reason(array.handle);
}

int crew_array_recover(crew_array array)
{
	struct things *t = array_at(array);

	return t ? crew__word_recover(&t->lock) : crew__handle_reason(array.handle);
}

struct crew_owner crew_value_owner(crew_value value)
{
	struct things *t = value_at(value);

	return crew__word_owner(t ? &t->lock : NULL);
}

struct crew_owner crew_array_owner(crew_array array)
{
	struct things *t = array_at(array);

	return crew__word_owner(t ? &t->lock : NULL);
}
