/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hmac.h: HMAC-SHA256 of libcrypto, found at run time.
 *
 * Linked in the ordinary way it would be loaded and relocated in every process of every program that uses crew, for what few of them do. The two functions and
 * their signatures are those of OpenSSL 1.1 and 3.
 */
#ifndef CREW_LIB_HMAC_H
#define CREW_LIB_HMAC_H

#include <stdbool.h>
#include <stddef.h>

enum { HMAC_SIZE = 32 };

int crew__hmac_available(void); /* 0; -ENOSYS */
int crew__hmac(const void *key, size_t key_size, const void *data, size_t n, unsigned char ret[HMAC_SIZE]);

/* Takes as long whatever they are. */
bool crew__same_mac(const unsigned char a[HMAC_SIZE], const unsigned char b[HMAC_SIZE]);

#endif
