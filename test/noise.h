/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noise.h: processes that want the CPUs as well, so that everybody under test is held up anywhere, for as long as a scheduler likes.
 */
#ifndef CREW_TEST_NOISE_H
#define CREW_TEST_NOISE_H

/* So many that never sleep, and as many that do nothing but wake each other. They run until noise_stop(), or the end of who started them. */
void noise_start(int n);
void noise_stop(void);

#endif
