/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bytes.c: views of memory. What owns bytes is in core/task.c, with the blocks that results lie in.
 */
#include <crew/base.h>
#include <string.h>

crew_bytes crew_bytes_make(const void *p, size_t n)
{
	return (crew_bytes){ (void *)(uintptr_t)p, p ? n : 0 };
}

crew_bytes crew_bytes_str(const char *s)
{
	return crew_bytes_make(s, s ? strlen(s) : 0);
}
