/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * letter.c: the memfd that a creator and its child have in common: the task and its arguments on the way there, the answer on the way back.
 *
 *	[ head: task, size of the arguments | answer | arguments … later the value ]
 *
 * Only reads and writes at offsets, no mapping: a child that shortens the file or fills it with nonsense can spoil its own answer, and its creator sees
 * that as no answer. The answer's state is written last and by itself, so a child that dies on the way has not answered.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "core/packing.h"
#include "process/kin.h"

struct head {
	uint64_t magic, size;
	struct task_identity task;
	struct module_file file; /* where the child may load it from */
};

/* The child writes all but state, then state; the creator reads them when the child is gone. */
struct answer {
	uint32_t state;
	int32_t status;
	uint64_t size;
	crew_error error;
};

#define LETTER_MAGIC 0x6c65747465723031ull
#define AT_ANSWER sizeof(struct head)
#define AT_DATA (sizeof(struct head) + sizeof(struct answer))

int crew__letter_open(void)
{
	return crew__fd_keep(memfd_create("crew-letter", MFD_CLOEXEC));
}

static int write_all(int fd, const void *data, size_t n, off_t at)
{
	const char *p = data;

	while (n) {
		ssize_t done = pwrite(fd, p, n, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -ENOSPC;
		p += done, at += done, n -= (size_t)done;
	}
	return 0;
}

static int read_all(int fd, void *data, size_t n, off_t at)
{
	char *p = data;

	while (n) {
		ssize_t done = pread(fd, p, n, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : CREW_EPROTO;
		p += done, at += done, n -= (size_t)done;
	}
	return 0;
}

/* ---- there ---- */

int crew__letter_write(int fd, const crew_task *task, const void *arguments)
{
	struct head head = { .magic = LETTER_MAGIC };
	size_t size;
	void *run;
	int rc = crew__identify(task, &head.task, &head.file);

	if (rc == 0)
		rc = crew__packed_size(task, arguments, NULL, &size);
	if (rc)
		return rc;
	run = malloc(size); /* of arguments, which are something always */
	if (!run)
		return -ENOMEM;
	crew__pack(task, arguments, NULL, run);
	head.size = size;
	rc = write_all(fd, run, size, AT_DATA);
	if (rc == 0)
		rc = write_all(fd, &head, sizeof head, 0);
	free(run);
	return rc;
}

int crew__letter_read(int fd, const crew_task **ret_task, void **ret_arguments)
{
	struct head head;
	const crew_task *task;
	void *run;
	int rc = read_all(fd, &head, sizeof head, 0);

	if (rc)
		return rc;
	if (head.magic != LETTER_MAGIC || head.size > INT64_MAX)
		return CREW_EPROTO;
	head.file.path[sizeof head.file.path - 1] = 0;
	task = crew__identified(&head.task);
	if (!task && !crew__identity_load(&head.task, head.file.path))
		task = crew__identified(&head.task);
	if (!task)
		return CREW_ENOTASK;
	run = malloc(head.size + 16);
	if (!run)
		return -ENOMEM;
	rc = read_all(fd, run, head.size, AT_DATA);
	if (rc == 0 && crew__unpack(task, run, run, head.size, NULL))
		rc = CREW_EPROTO;
	if (rc) {
		free(run);
		return rc;
	}
	*ret_task = task;
	*ret_arguments = run;
	return 0;
}

/* ---- and back ---- */

static int commit(int fd, struct answer *answer, uint32_t state)
{
	int rc = write_all(fd, answer, sizeof *answer, AT_ANSWER);

	return rc ? rc : write_all(fd, &state, sizeof state, AT_ANSWER + offsetof(struct answer, state));
}

/* What a value consists of besides itself: the text or bytes it points to. */
static crew_bytes behind(const crew_task *task, const void *value)
{
	enum crew_class class = CREW_TYPE_CLASS(task->result);
	const char *text;

	if (class == CREW_BYTES)
		return *(const crew_bytes *)value;
	if (class != CREW_STRING)
		return (crew_bytes){ NULL, 0 };
	text = *(const char *const *)value;
	return (crew_bytes){ (void *)(uintptr_t)text, text ? strlen(text) + 1 : 0 };
}

int crew__letter_answer(int fd, const crew_task *task, const void *value)
{
	size_t size = CREW_TYPE_SIZE(task->result);
	crew_bytes run = behind(task, value);
	struct answer answer = { .size = run.len };
	int rc = write_all(fd, value, size, AT_DATA);

	if (rc == 0)
		rc = write_all(fd, run.data, run.data ? run.len : 0, (off_t)(AT_DATA + size));
	return rc ? rc : commit(fd, &answer, ANSWER_VALUE);
}

void crew__letter_raise(int fd, const crew_error *error)
{
	struct answer answer = { .error = *error };

	(void)commit(fd, &answer, ANSWER_RAISED);
}

void crew__letter_exit(int fd, int status)
{
	struct answer answer = { .status = status };

	(void)commit(fd, &answer, ANSWER_EXIT);
}

void *crew__value_keep(const crew_task *task, const void *value)
{
	size_t size = CREW_TYPE_SIZE(task->result);
	crew_bytes run = behind(task, value);
	char *kept = malloc(size + run.len + 16);

	if (!kept)
		return NULL;
	memcpy(kept, value, size);
	if (run.data) {
		void *at = kept + size;

		memcpy(at, run.data, run.len);
		memcpy(kept, &at, sizeof at); /* crew_bytes begins with its pointer */
	}
	return kept;
}

/* The value, its pointer turned to where the text or bytes are now. Nothing that was read is believed but its length. */
static int read_value(int fd, const crew_task *task, uint64_t run, void **ret)
{
	enum crew_class class = CREW_TYPE_CLASS(task->result);
	size_t size = CREW_TYPE_SIZE(task->result);
	char *value;
	int rc;

	if (run > INT64_MAX - size - AT_DATA || lseek(fd, 0, SEEK_END) < (off_t)(AT_DATA + size + run))
		return CREW_EPROTO;
	value = malloc(size + run + 16);
	if (!value)
		return -ENOMEM;
	rc = read_all(fd, value, size + run, AT_DATA);
	if (rc) {
		free(value);
		return rc;
	}
	if (class == CREW_BYTES && ((crew_bytes *)(void *)value)->data)
		*(crew_bytes *)(void *)value = (crew_bytes){ value + size, run };
	if (class == CREW_STRING) {
		value[size + run] = '\0';
		*(char **)(void *)value = run ? value + size : NULL;
	}
	*ret = value;
	return 0;
}

int crew__letter_open_answer(int fd, const crew_task *task, void **ret_value, crew_error *ret_error, int *ret_status)
{
	struct answer answer;
	int rc = read_all(fd, &answer, sizeof answer, AT_ANSWER);

	if (rc)
		return ANSWER_NONE;
	if (answer.state == ANSWER_VALUE) {
		rc = read_value(fd, task, answer.size, ret_value);
		if (rc == 0)
			return ANSWER_VALUE;
		memset(&answer.error, 0, sizeof answer.error);
		answer.error.code = rc;
		answer.state = ANSWER_RAISED;
	}
	if (answer.state == ANSWER_RAISED) {
		*ret_error = answer.error;
		ret_error->where[sizeof ret_error->where - 1] = ret_error->task[sizeof ret_error->task - 1] = '\0';
		ret_error->message[sizeof ret_error->message - 1] = ret_error->output[sizeof ret_error->output - 1] = '\0';
	}
	*ret_status = answer.status & 255;
	return answer.state <= ANSWER_EXIT ? (int)answer.state : ANSWER_NONE;
}
