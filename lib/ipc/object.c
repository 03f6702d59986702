/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * object.c: making and ending what handles name; see object.h. Finding is inline there, it is all that the fast paths need.
 */
#include "ipc/object.h"

#include <errno.h>

#include "ipc/cell.h"

crew_handle crew__handle_failed(int code)
{
	return (crew_handle){ 0, (uint64_t)(int64_t)code };
}

crew_handle crew__handle_make(enum handle_kind kind, size_t size, void **ret)
{
	crew_handle handle;
	int rc = size > CELL_MAX ? -E2BIG : crew__family_alloc(size, &handle.place);

	*ret = NULL;
	if (rc)
		return crew__handle_failed(rc);
	*ret = crew__family_at(handle.place);
	handle.stamp = ck_pr_faa_64(&head_of(family_here())->next_stamp, 1) << 8 | (uint64_t)kind;
	ck_pr_store_64((uint64_t *)*ret, handle.stamp);
	return handle;
}

void *crew__handle_end(crew_handle handle, enum handle_kind kind)
{
	void *object = handle_at(handle, kind);

	/* whoever sleeps there is woken after this, and looks; pairs with handle_alive() */
	return object && ck_pr_cas_64(object, handle.stamp, 0) ? object : NULL;
}

int crew__handle_reason(crew_handle handle)
{
	int64_t code = (int64_t)handle.stamp;

	return handle.place == 0 && code < 0 && code > INT32_MIN ? (int)code : CREW_EHANDLE;
}

int crew_handle_check(crew_handle handle)
{
	return handle_at(handle, handle_kind(handle)) ? 0 : crew__handle_reason(handle);
}
