/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hmac.c: see hmac.h.
 */
#include "ipc/hmac.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>

typedef const void *sha256_fn(void);
typedef unsigned char *hmac_fn(const void *type, const void *key, int key_size, const unsigned char *data, size_t n, unsigned char *ret,
			       unsigned int *ret_size);

static struct {
	pthread_once_t once;
	sha256_fn *sha256; /* written once */
	hmac_fn *hmac;
} crypto = { .once = PTHREAD_ONCE_INIT };

/* Stays loaded: it may have registered hooks for threads and the end of the program. */
static void load(void)
{
	static const char *const names[] = { "libcrypto.so.3", "libcrypto.so.1.1" };
	void *library = NULL;

	for (size_t i = 0; i < sizeof names / sizeof names[0] && !library; i++)
		library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return;
	*(void **)&crypto.sha256 = dlsym(library, "EVP_sha256");
	*(void **)&crypto.hmac = dlsym(library, "HMAC");
}

int crew__hmac_available(void)
{
	pthread_once(&crypto.once, load);
	return crypto.sha256 && crypto.hmac ? 0 : -ENOSYS;
}

int crew__hmac(const void *key, size_t key_size, const void *data, size_t n, unsigned char ret[HMAC_SIZE])
{
	unsigned int size = 0;
	int rc = crew__hmac_available();

	if (rc)
		return rc;
	if (key_size > INT_MAX)
		return -EINVAL;
	if (!crypto.hmac(crypto.sha256(), key_size ? key : "", (int)key_size, data, n, ret, &size) || size != HMAC_SIZE)
		return -EIO;
	return 0;
}

bool crew__same_mac(const unsigned char a[HMAC_SIZE], const unsigned char b[HMAC_SIZE])
{
	unsigned difference = 0;

	for (int i = 0; i < HMAC_SIZE; i++)
		difference |= (unsigned)(a[i] ^ b[i]);
	return difference == 0;
}
