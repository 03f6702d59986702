/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * compress.c: bytes of any size in and out of a task. The codec is the simplest there is, run lengths: a
 * count and a byte. crew_result_alloc() gives memory where the result lives, so that what the task writes
 * is never copied again.
 */
#include <crew/crew.h>
#include <stdio.h>
#include <string.h>

CREW_TASK(crew_bytes, compress, (crew_bytes, in))
{
	crew_bytes out = crew_result_alloc(2 * in.len); /* the worst case */
	const unsigned char *from = in.data, *end = from + in.len;
	unsigned char *to = out.data;

	if (!to) /* the task has failed with -ENOMEM */
		return out;
	while (from < end) {
		unsigned char count = 0, byte = *from;
		for (; from < end && *from == byte && count < 255; from++)
			count++;
		*to++ = count;
		*to++ = byte;
	}
	out.len = (size_t)(to - (unsigned char *)out.data); /* less may be returned than was asked for */
	return out;
}

CREW_TASK(crew_bytes, expand, (crew_bytes, in))
{
	const unsigned char *runs = in.data;
	size_t len = 0;

	for (size_t i = 0; i < in.len; i += 2)
		len += runs[i];
	crew_bytes out = crew_result_alloc(len);
	for (size_t i = 0, at = 0; out.data && i < in.len; at += runs[i], i += 2)
		memset((unsigned char *)out.data + at, runs[i + 1], runs[i]);
	return out;
}

int main(void)
{
	static char text[100000];
	crew_bytes packed, unpacked;

	memset(text, '-', sizeof text);
	memset(text + 40000, '=', 20000);
	CREW_SCOPE (ex, crew_processes(2)) {
		/* crew_run() is submit and result in one; the bytes it gives are ours. */
		crew_must(crew_run(ex, &packed, compress, crew_bytes_make(text, sizeof text)));
		crew_must(crew_run(ex, &unpacked, expand, packed));
		bool same = unpacked.len == sizeof text && memcmp(unpacked.data, text, sizeof text) == 0;
		printf("%zu bytes, %zu packed, %s\n", sizeof text, packed.len,
		       same ? "the same again" : "broken");
		crew_bytes_free(packed);
		crew_bytes_free(unpacked);
	}
}
