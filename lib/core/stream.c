/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stream.c: crew_imap() and crew_next(): results pulled one by one over input that may never end.
 *
 *	feed → [chunk] → submit → window of futures → next → user
 *
 * Input is read in crew_next() only, in the caller's thread, just far enough to keep the window full. In order: the oldest future is
 * awaited. Unordered: whichever is done first; a callback of each future puts its place in the window on a list. With chunks a future carries
 * several items (chunk.h), which are handed out one by one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/arguments.h"
#include "core/chunk.h"
#include "core/context.h"
#include "core/group.h"
#include "core/waiting.h"

struct place {
	crew_future *f;	 /* NULL: free */
	int failed;	 /* an item that could not be submitted: its code */
	uint32_t count;	 /* items */
	bool used;
};

struct crew_stream {
	crew_executor *ex;
	const crew_task *task;
	void (*feed)(void);
	void *state;
	struct crew_imap_options options;
	int broken;	    /* it could not be opened, or cannot go on: told once, after what is on its way */
	int late;	    /* an item that failed when no place was free for it: its code */
	bool ended;	    /* feed said so */
	crew_error error;   /* of the last item */
	size_t window;	    /* places */
	size_t head, tail;  /* places in use, by count; ordered */
	struct place *place;
	crew_future **fs;   /* of the places, for waiting on any */
	void *arguments;
	struct chunk chunk;
	/* the chunk that is being handed out */
	crew_future *open;
	struct chunk_answer answer;
	uint32_t items_left;
	crew_error chunk_error; /* code not 0: each of its items failed with this */
};

static struct crew_stream no_memory_stream = { .broken = -ENOMEM };

static size_t default_window(crew_executor *ex)
{
	int workers = crew_executor_workers(ex);

	return workers > 16 ? 4 * (size_t)workers : 64;
}

crew_stream *crew_stream_open(crew_executor *ex, const crew_task *task, void (*feed)(void), void *state,
			      const struct crew_imap_options *options, size_t size)
{
	struct crew_stream *s = calloc(1, sizeof *s);
	int rc = crew__executor_check(ex);

	if (!s)
		return &no_memory_stream;
	s->ex = ex;
	s->task = task;
	s->feed = feed;
	s->state = state;
	if (rc == 0 && (!task || !task->feed))
		rc = CREW_ENOTASK;
	if (rc == 0 && !feed)
		rc = -EINVAL;
	if (rc == 0)
		rc = crew__options(&s->options, sizeof s->options, options, size);
	if (rc == 0)
		rc = crew__refuse(ex, task);
	if (rc == 0) {
		size_t window = s->options.window ? s->options.window : default_window(ex);

		s->options.chunk = s->options.chunk ? s->options.chunk : 1;
		s->window = window > s->options.chunk ? window / s->options.chunk : 1;
		s->place = calloc(s->window, sizeof *s->place);
		s->fs = calloc(s->window, sizeof *s->fs);
		s->arguments = calloc(1, task->arguments + 16);
		rc = s->place && s->fs && s->arguments ? 0 : -ENOMEM;
	}
	s->broken = rc;
	return s;
}

/* ---- filling the window ---- */

static void put(struct crew_stream *s, crew_future *f, int failed, uint32_t count)
{
	size_t i = s->tail % s->window;

	while (s->place[i].used) /* unordered: any free one */
		i = (i + 1) % s->window;
	s->place[i] = (struct place){ f, failed, count, true };
	s->fs[i] = f;
	s->tail++;
}

/* One more item from the feed: 1 it is in s->arguments; 0 the end; negative: an item that failed there. */
static int fetch(struct crew_stream *s)
{
	int rc;

	memset(s->arguments, 0, s->task->arguments);
	rc = s->task->feed(s->feed, s->state, s->arguments);
	if (rc == 0)
		s->ended = true;
	return rc;
}

static void send_chunk(struct crew_stream *s)
{
	uint32_t count = s->chunk.count;

	if (count)
		put(s, crew__chunk_submit(&s->chunk, s->ex), 0, count);
}

static void fill_chunk(struct crew_stream *s)
{
	int rc = 0;

	s->broken = crew__chunk_begin(&s->chunk, s->ex, s->task);
	while (!s->broken && rc == 0 && s->chunk.count < s->options.chunk) {
		rc = fetch(s);
		if (rc <= 0)
			break;
		rc = crew__chunk_add(&s->chunk, s->arguments);
	}
	send_chunk(s);
	if (rc < 0)
		s->late = rc;
}

static void fill_one(struct crew_stream *s)
{
	int rc = fetch(s);

	if (rc > 0)
		put(s, crew_executor_submit(s->ex, s->task, s->arguments, NULL, 0), 0, 1);
	else if (rc < 0)
		put(s, NULL, rc, 1);
}

static void fill(struct crew_stream *s)
{
	while (!s->ended && s->tail - s->head < s->window && !s->broken) {
		if (s->late) {
			put(s, NULL, s->late, 1);
			s->late = 0;
		} else if (s->options.chunk > 1) {
			fill_chunk(s);
		} else {
			fill_one(s);
		}
	}
}

/* ---- taking from it ---- */

/* The place of the next result; it is done. Something is on its way. */
static struct place *next_place(struct crew_stream *s)
{
	if (!s->options.unordered)
		return &s->place[s->head % s->window];
	for (size_t i = 0; i < s->window; i++)
		if (s->place[i].used && !s->place[i].f)
			return &s->place[i];
	return &s->place[crew_wait_any(s->fs, s->window, CREW_FOREVER)];
}

static struct place leave(struct crew_stream *s, struct place *place)
{
	struct place was = *place;

	s->fs[place - s->place] = NULL;
	*place = (struct place){ NULL, 0, 0, false };
	s->head++;
	return was;
}

static int failed_with(struct crew_stream *s, int code)
{
	crew__error_fill(&s->error, s->task, code);
	return code;
}

/* One item's future: its value, or its error. f is given back. */
static int take_one(struct crew_stream *s, crew_future *f, void *y, size_t size, int type)
{
	int rc = crew_future_take(f, y, size, type, &s->error);

	if (rc == 0)
		return 1;
	if (s->error.code == 0)
		crew__error_fill(&s->error, s->task, rc);
	return rc == CREW_ERAISED ? crew__as_result(s->error.code) : rc;
}

static void open_chunk(struct crew_stream *s, crew_future *f, uint32_t count)
{
	crew_bytes data;
	int rc = crew_future_result(f, &data, sizeof data, CREW_TYPE(CREW_BYTES, sizeof data), CREW_FOREVER);

	s->open = f;
	s->chunk_error.code = 0;
	if (rc == 0)
		rc = crew__chunk_open(&s->answer, s->task, data);
	if (rc == 0 && s->answer.count != count)
		rc = CREW_EPROTO;
	s->items_left = count;
	if (rc == CREW_ERAISED)
		s->chunk_error = *crew_future_error(f);
	else if (rc)
		crew__error_fill(&s->chunk_error, s->task, rc);
}

static int take_from_chunk(struct crew_stream *s, void *y, size_t size, int type)
{
	bool fits = type == s->task->result && size >= CREW_TYPE_SIZE(type);
	int rc;

	if (s->chunk_error.code)
		s->error = s->chunk_error, rc = s->error.code;
	else
		rc = crew__chunk_next(&s->answer, fits ? y : NULL, &s->error);
	if (rc == 0 && !fits)
		rc = failed_with(s, CREW_ETYPE); /* it is lost, as one that is alone in its task: the next is the next */
	if (--s->items_left == 0)
		s->open = crew_future_free(s->open);
	if (rc == 0)
		s->error.code = 0;
	return rc == 0 ? 1 : crew__as_result(rc);
}

/* Something is on its way: has its future come? */
static bool arrives(struct crew_stream *s, int ms)
{
	const struct place *oldest = &s->place[s->head % s->window];

	if (!s->options.unordered)
		return !oldest->f || crew_future_wait(oldest->f, ms) != -ETIMEDOUT;
	for (size_t i = 0; i < s->window; i++)
		if (s->place[i].used && !s->place[i].f)
			return true;
	return crew_wait_any(s->fs, s->window, ms) != -ETIMEDOUT;
}

int crew_stream_next_within(crew_stream *s, void *y, size_t size, int type, int ms)
{
	struct place place;
	int rc;

	if (!s)
		return CREW_EHANDLE;
	if (s->open)
		return take_from_chunk(s, y, size, type);
	if (s->place)
		fill(s);
	if (s->tail == s->head) {
		rc = s->broken;
		if (s != &no_memory_stream) {
			s->broken = 0;
			s->ended = true;
		}
		if (rc && s->task)
			failed_with(s, rc);
		return rc;
	}
	if (ms >= 0 && !arrives(s, ms))
		return -ETIMEDOUT;
	place = leave(s, next_place(s));
	if (!place.f)
		return failed_with(s, place.failed);
	if (s->options.chunk == 1)
		return take_one(s, place.f, y, size, type);
	open_chunk(s, place.f, place.count);
	return take_from_chunk(s, y, size, type);
}

int crew_stream_next(crew_stream *s, void *y, size_t size, int type)
{
	return crew_stream_next_within(s, y, size, type, CREW_FOREVER);
}

const crew_error *crew_stream_error(crew_stream *s)
{
	static const crew_error no_stream = { .code = CREW_EHANDLE, .exit_status = -1, .message = "no stream" };

	return s ? &s->error : &no_stream;
}

crew_stream *crew_stream_close(crew_stream *s)
{
	if (!s || s == &no_memory_stream)
		return NULL;
	for (size_t i = 0; i < s->window && s->fs; i++)
		if (s->fs[i])
			crew__cancel(s->fs[i], "its stream was closed");
	for (size_t i = 0; i < s->window && s->fs; i++)
		if (s->fs[i]) {
			crew__await(s->fs[i], NEVER);
			crew_future_free(s->fs[i]);
		}
	crew_future_free(s->open);
	crew__chunk_fini(&s->chunk);
	free(s->arguments);
	free(s->place);
	free(s->fs);
	free(s);
	return NULL;
}
