/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mappings.c: memory that is asked for by the gigabyte (lib/process/mapping.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../runner.h"
#include "process/mapping.h"

static size_t memory_of_this_machine(void)
{
	return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

/* What the machine does not have is refused before the first page of it is taken. */
TEST(more_memory_than_there_is_is_refused_at_once)
{
	enum { SOME = 1 << 20 };
	size_t n = memory_of_this_machine();
	struct mapping m;
	struct stat file;

	CHECK_EQ(crew__mapping_open(&m, "crew-test", n), 0);
	CHECK_EQ(crew__mapping_populate(&m, 0, n), -ENOMEM);
	CHECK_EQ(fstat(m.fd, &file), 0);
	CHECK_EQ(file.st_blocks, 0);
	CHECK_EQ(crew__mapping_populate(&m, 0, SOME), 0);
	CHECK_EQ(fstat(m.fd, &file), 0);
	CHECK_GE(file.st_blocks, SOME / 512);
	m.base[SOME - 1] = 1;
	crew__mapping_punch(&m, 0, n);
	CHECK_EQ(fstat(m.fd, &file), 0);
	CHECK_EQ(file.st_blocks, 0);
	crew__mapping_close(&m);
}

/* Whose descriptor was taken from it gets no memory, and touches no file of whoever has that number now. */
TEST(a_mapping_without_its_descriptor_grows_no_other_file)
{
	struct mapping m;
	struct stat file;
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), number;

	CHECK_GE(fd, 0);
	CHECK_EQ(crew__mapping_open(&m, "crew-test", 1 << 20), 0);
	number = m.fd;
	CHECK_EQ(dup3(fd, number, O_CLOEXEC), number);
	CHECK_EQ(crew__mapping_populate(&m, 0, 4096), -EBADF);
	crew__mapping_punch(&m, 0, 4096);
	CHECK_EQ(fstat(fd, &file), 0);
	CHECK(file.st_size == 0 && file.st_blocks == 0);
	crew__mapping_close(&m);
	CHECK_EQ(fcntl(number, F_GETFD), FD_CLOEXEC); /* the other file, and still open */
	CHECK_EQ(close(number), 0);
	CHECK_EQ(close(fd), 0);
}
