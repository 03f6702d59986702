/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * copy.h: memcpy() for bytes that another process will read.
 */
#ifndef CREW_LIB_COPY_H
#define CREW_LIB_COPY_H

#include <stddef.h>
#include <string.h>

/* As memcpy(); n may be 0, and both pointers anything then. */
void crew__copy(void *to, const void *from, size_t n);

/* The same for what are one or two words as a rule, in line. Where gcc knows of a size that it is small, but not how small, it makes memcpy() a
   `rep movs`, which takes 20 ns to begin. */
static inline void copy_few(void *to, const void *from, size_t n)
{
	unsigned char *out = to;
	const unsigned char *in = from;

	if (n > 16) {
		crew__copy(to, from, n);
	} else if (n >= 8) {
		memcpy(out, in, 8);
		memcpy(out + n - 8, in + n - 8, 8);
	} else if (n >= 4) {
		memcpy(out, in, 4);
		memcpy(out + n - 4, in + n - 4, 4);
	} else if (n) {
		out[0] = in[0];
		out[n / 2] = in[n / 2];
		out[n - 1] = in[n - 1];
	}
}

/* Called once when all but the last quarter of a megabyte is copied; not at all for less, nor from 8 MiB on. */
struct herald {
	void (*announce)(void *arg);
	void *arg;
};

/* The same; who waits for large ones is told a little before they are there. NULL: nobody is. */
void crew__copy_announced(void *to, const void *from, size_t n, const struct herald *herald);

#endif
