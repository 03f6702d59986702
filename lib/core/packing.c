/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * packing.c: arguments that hold strings and bytes, made one run of bytes and back.
 *
 *	struct, as declared | "text\0" | pad | bytes | pad
 *	   └ pointers are now offsets + 1 into the run, or PACKED_SHARED | offset of a mapping both sides have
 *
 * Which members point somewhere is read from the task's parameters; what a struct by value points to is nobody's business here. Packing
 * trusts its input, which is the caller's own memory. Unpacking does not: each offset and length is checked against the run before it becomes a
 * pointer, because a run may come out of memory that a worker gone mad could write.
 */
#include "core/packing.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/copy.h"

/* Larger bytes are laid out as malloc would, so that a task may cast them. */
#define ROUND_UP(n_, to_) (((n_) + ((to_)-1)) & ~(size_t)((to_)-1))

static size_t alignment_of(size_t len)
{
	return len < 16 ? 8 : 16;
}

static enum crew_class class_of(const struct crew_parameter *parameter)
{
	return CREW_TYPE_CLASS(parameter->type);
}

struct shared_range crew__shared_here;

static bool is_shared(const struct shared_range *shared, crew_bytes bytes)
{
	size_t offset;

	if (!shared || (uintptr_t)bytes.data < (uintptr_t)shared->base)
		return false;
	offset = (uintptr_t)bytes.data - (uintptr_t)shared->base;
	return offset < shared->size && bytes.len <= shared->size - offset;
}

/* ---- packing ---- */

/* Where a run of n bytes goes in one that is *size long already. False: too long. */
static bool place(size_t *size, size_t n, size_t alignment, size_t *ret_offset)
{
	size_t offset = ROUND_UP(*size, alignment);

	if (n > (size_t)INT64_MAX - 64 - offset)
		return false;
	*size = offset + n;
	*ret_offset = offset;
	return true;
}

static const char *string_at(const void *arguments, const struct crew_parameter *parameter)
{
	const char *string;

	memcpy(&string, (const unsigned char *)arguments + parameter->offset, sizeof string);
	return string;
}

static crew_bytes bytes_at(const void *arguments, const struct crew_parameter *parameter)
{
	crew_bytes bytes;

	memcpy(&bytes, (const unsigned char *)arguments + parameter->offset, sizeof bytes);
	return bytes;
}

const void *crew__arguments(const crew_task *task, const void *arguments)
{
	static const uint64_t nothing;

	return arguments || task->parameter_count || task->arguments > sizeof nothing ? arguments : &nothing;
}

int crew__packed_size(const crew_task *task, const void *arguments, const struct shared_range *shared, size_t *ret)
{
	size_t size = task->arguments, offset;

	for (uint32_t i = 0; (task->flags & CREW_TASK_DEEP) && i < task->parameter_count; i++) {
		const struct crew_parameter *p = &task->parameters[i];
		bool fits = true;

		if (class_of(p) == CREW_STRING) {
			const char *string = string_at(arguments, p);

			fits = !string || place(&size, strlen(string) + 1, 1, &offset);
		} else if (class_of(p) == CREW_BYTES) {
			crew_bytes bytes = bytes_at(arguments, p);

			fits = !bytes.data || is_shared(shared, bytes) ||
			       place(&size, bytes.len, alignment_of(bytes.len), &offset);
		}
		if (!fits)
			return -E2BIG;
	}
	*ret = ROUND_UP(size, 8);
	return 0;
}

/* Copy n bytes behind what the run has so far; the offset + 1 that stands for them. */
static uint64_t append(unsigned char *buf, size_t *size, const void *data, size_t n, size_t alignment, const struct herald *herald)
{
	size_t end = *size, offset = 0;

	(void)place(size, n, alignment, &offset);
	memset(buf + end, 0, offset - end); /* no byte of an older task travels along */
	crew__copy_announced(buf + offset, data, n, herald);
	return (uint64_t)offset + 1;
}

static void pack_bytes(unsigned char *buf, size_t *size, const struct crew_parameter *p, crew_bytes bytes,
		       const struct shared_range *shared, const struct herald *herald)
{
	uint64_t word[2] = { 0, bytes.data ? bytes.len : 0 };

	if (bytes.data && is_shared(shared, bytes))
		word[0] = PACKED_SHARED | (uint64_t)((const unsigned char *)bytes.data - shared->base);
	else if (bytes.data)
		word[0] = append(buf, size, bytes.data, bytes.len, alignment_of(bytes.len), herald);
	memcpy(buf + p->offset, word, sizeof word);
}

static void pack_string(unsigned char *buf, size_t *size, const struct crew_parameter *p, const char *string)
{
	uint64_t word = string ? append(buf, size, string, strlen(string) + 1, 1, NULL) : 0;

	memcpy(buf + p->offset, &word, sizeof word);
}

void crew__pack(const crew_task *task, const void *arguments, const struct shared_range *shared, void *buf)
{
	crew__pack_announced(task, arguments, shared, buf, NULL);
}

void crew__pack_announced(const crew_task *task, const void *arguments, const struct shared_range *shared, void *buf, const struct herald *herald)
{
	size_t size = task->arguments;

	memcpy(buf, arguments, size);
	if (!(task->flags & CREW_TASK_DEEP))
		return;
	for (uint32_t i = 0; i < task->parameter_count; i++) {
		const struct crew_parameter *p = &task->parameters[i];

		if (class_of(p) == CREW_STRING)
			pack_string(buf, &size, p, string_at(arguments, p));
		else if (class_of(p) == CREW_BYTES)
			pack_bytes(buf, &size, p, bytes_at(arguments, p), shared, herald);
	}
	memset((unsigned char *)buf + size, 0, ROUND_UP(size, 8) - size);
}

/* ---- unpacking ---- */

static int unpack_string(void *member, const unsigned char *buf, size_t size)
{
	const char *string = NULL;
	uint64_t word;

	memcpy(&word, member, sizeof word);
	if (word) {
		if (word - 1 >= size || !memchr(buf + (word - 1), 0, size - (word - 1)))
			return -EINVAL;
		string = (const char *)buf + (word - 1);
	}
	memcpy(member, &string, sizeof string);
	return 0;
}

static int unpack_bytes(void *member, const unsigned char *buf, size_t size, const struct shared_range *shared)
{
	crew_bytes bytes = { NULL, 0 };
	uint64_t word[2], offset;

	memcpy(word, member, sizeof word);
	offset = word[0] & PACKED_SHARED ? word[0] & ~PACKED_SHARED : word[0] - 1;
	if (word[0] & PACKED_SHARED) {
		buf = shared ? shared->base : NULL;
		size = shared ? shared->size : 0;
	}
	if (word[0]) {
		if (!buf || offset > size || word[1] > size - offset)
			return -EINVAL;
		bytes = (crew_bytes){ (void *)(uintptr_t)(buf + offset), word[1] };
	}
	memcpy(member, &bytes, sizeof bytes);
	return 0;
}

int crew__unpack(const crew_task *task, void *arguments, const void *buf, size_t size, const struct shared_range *shared)
{
	int rc = size < task->arguments ? -EINVAL : 0;

	for (uint32_t i = 0; rc == 0 && (task->flags & CREW_TASK_DEEP) && i < task->parameter_count; i++) {
		const struct crew_parameter *p = &task->parameters[i];
		unsigned char *member = (unsigned char *)arguments + p->offset;

		if (class_of(p) == CREW_STRING)
			rc = unpack_string(member, buf, size);
		else if (class_of(p) == CREW_BYTES)
			rc = unpack_bytes(member, buf, size, shared);
	}
	return rc;
}
