/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * submit.c: from a call to a record in the backend's hands.
 *
 *	crew_submit → checks → record from this thread's port → options to its annex → (group) → arguments → ops->submit
 *
 * A check that fails becomes a future that has failed: the caller looks in one place. The slots of ops see only what passed.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arguments.h"
#include "core/chunk.h"
#include "core/group.h"
#include "core/inbox.h"
#include "core/shared_block.h"

static crew_executor *base_of(crew_executor *ex)
{
	return is_group(ex) ? crew__group_base(ex) : ex;
}

/* Why this task cannot be submitted here, with a sentence; 0: it can. */
static int refuse(crew_executor *ex, const crew_task *task, const void *arguments, char *text, size_t size)
{
	int code;

	if (!task || task->size < sizeof *task || (!task->run && !task->raw)) {
		snprintf(text, size, "no task was given");
		return CREW_ENOTASK;
	}
	code = crew__executor_broken(ex);
	if (code) {
		snprintf(text, size, "%s", ex->error.message);
		return code == -ENOMEM ? code : CREW_EBROKEN;
	}
	if (ck_pr_load_32(&ex->closed)) {
		snprintf(text, size, "%s", crew_strerror(CREW_ESHUTDOWN));
		return CREW_ESHUTDOWN;
	}
	if (!crew__arguments(task, arguments)) {
		snprintf(text, size, "no arguments were given to '%s'", task->name);
		return -EINVAL;
	}
	if ((task->flags & CREW_TASK_POINTERS) && !base_of(ex)->ops->shares_memory) {
		uint32_t i = 0;

		while (CREW_TYPE_CLASS(task->parameters[i].type) != CREW_POINTER)
			i++;
		snprintf(text, size, "argument %u of '%s' is a pointer; another process cannot follow it", i + 1, task->name);
		return CREW_EPOINTER;
	}
	if (CREW_TYPE_CLASS(task->result) == CREW_POINTER && !base_of(ex)->ops->shares_memory) {
		snprintf(text, size, "the result of '%s' is a pointer; it means nothing outside its process", task->name);
		return CREW_EPOINTER;
	}
	return 0;
}

int crew__refuse(crew_executor *ex, const crew_task *task)
{
	char text[sizeof ((crew_error *)0)->message];

	return refuse(ex, task, task, text, sizeof text);
}

/* What the options ask for goes to the annex, if they ask for anything. */
static int annotate(crew_executor *ex, crew_future *f, const struct crew_submit_options *options)
{
	crew_inbox *inbox = NULL;
	struct annex *a;

	if (!options->timeout_ms && !options->retries && !options->priority && !options->data && !options->on_done)
		return 0;
	if (options->timeout_ms < 0 || options->retries < 0)
		return -EINVAL;
	a = crew__annex(f);
	if (!a)
		return -ENOMEM;
	if (options->on_done) {
		inbox = options->inbox ? options->inbox : crew__inbox_of(ex);
		if (!inbox)
			return -ENOMEM;
		crew__inbox_expect(inbox);
	}
	if (options->timeout_ms)
		a->deadline = crew__deadline(options->timeout_ms);
	a->retries = (uint32_t)options->retries;
	a->priority = options->priority;
	a->data = options->data;
	a->on_done = options->on_done;
	a->on_done_arg = options->on_done_arg;
	a->inbox = inbox;
	return 0;
}

/* There is no memory, or no executor, by which to deliver it later. */
static crew_future *deliver_at_once(const struct crew_submit_options *options, int fixed)
{
	if (options && options->on_done)
		options->on_done(&crew__fixed[fixed], options->on_done_arg);
	return &crew__fixed[fixed];
}

/* f, which is to fail, will be delivered if somebody is waiting for that. False: it cannot be. */
static bool will_be_told(crew_executor *base, crew_future *f, const struct crew_submit_options *options)
{
	struct annex *a = annex_of(f);
	struct crew_submit_options told;

	if (!options || !options->on_done || (a && a->inbox))
		return true;
	told = (struct crew_submit_options){ .data = options->data, .on_done = options->on_done, .on_done_arg = options->on_done_arg,
					     .inbox = options->inbox };
	if (annotate(base, f, &told))
		return false;
	crew__notify(f);
	return true;
}

/* A future that failed before it was anything else, told to whoever was to be told. base is alive, if not well; never NULL. */
static crew_future *failed_future(crew_executor *base, const struct crew_submit_options *options, int code, const char *text)
{
	struct port *port = base->id ? crew__port(base) : NULL /* the executor there was no memory for has none */;
	crew_future *f = port ? crew__record_new(port) : NULL;
	bool told;

	if (!f)
		return deliver_at_once(options, FIXED_NO_MEMORY);
	crew__record_init(f, NULL, PHASE_PENDING | STATE_HELD | STATE_OWNED);
	told = will_be_told(base, f, options);
	if (crew__claim_as(f, STATE_HELD))
		crew__fail_code(f, code, "%s", text);
	if (told)
		return f;
	crew_future_free(f);
	return deliver_at_once(options, FIXED_NO_MEMORY);
}

/* The executor's own limit, for tasks that have none. */
static int limit(crew_executor *base, crew_future *f)
{
	struct annex *a = crew__annex(f);

	if (!a)
		return -ENOMEM;
	if (a->deadline == NEVER)
		a->deadline = crew__deadline(base->task_timeout_ms);
	return 0;
}

/* The long way: a record that nobody may start until it is complete; then its group, if any, then the backend. */
static int submit_with(crew_executor *ex, crew_executor *base, struct port *port, crew_future *f, const void *arguments,
		       const struct crew_submit_options *options)
{
	bool grouped = ex != base;
	struct annex *a;
	int rc = 0;

	if (keeps_arguments(base->ops) || grouped)
		rc = crew__store_arguments(base, f, arguments, grouped);
	if (rc == 0 && ck_pr_load_32(&base->has_blocks) && (task_of(f)->flags & CREW_TASK_DEEP))
		rc = crew__shared_pin(base, f, arguments);
	if (rc == 0 && options)
		rc = annotate(base, f, options);
	if (rc == 0 && base->task_timeout_ms && task_of(f) != &crew__chunk_task)
		rc = limit(base, f);
	if (rc)
		return rc;
	a = annex_of(f);
	if (grouped) {
		a->group = ex;
		arguments = a->arguments;
	}
	if (a && (a->inbox || grouped))
		crew__notify(f);
	if (grouped) {
		rc = crew__group_enter(ex, f);
		if (rc != 1)
			return rc;
	}
	if (!crew__unhold(f))
		return 0;
	return base->ops->submit(base, port, f, keeps_arguments(base->ops) ? NULL : arguments);
}

/* The backend could not have f: it fails with code, unless it was cancelled meanwhile. The future to give to the user. */
static crew_future *not_taken(crew_executor *base, crew_future *f, const struct crew_submit_options *options, int code)
{
	bool told;

	if (!crew__claim_as(f, STATE_HELD))
		return f;
	told = will_be_told(base, f, options);
	crew__fail_code(f, code, "%s", code == CREW_EBROKEN && crew__executor_broken(base) ? base->error.message : crew_strerror(code)); /* it broke just now */
	if (told)
		return f;
	crew_future_free(f);
	return deliver_at_once(options, FIXED_NO_MEMORY);
}

/* Make and submit one, with one reference: the executor's if flags is STATE_OWNED, else the caller's to drop. The port is base's. */
static int submit(crew_executor *ex, crew_executor *base, struct port *port, const crew_task *task, const void *arguments,
			 const struct crew_submit_options *options, uint32_t flags, crew_future **ret)
{
	crew_future *f = crew__record_new(port);
	int rc;

	if (unlikely(!f)) {
		*ret = deliver_at_once(options, FIXED_NO_MEMORY);
		return -ENOMEM;
	}
	*ret = f;
	ck_pr_store_64(&port->submitted, port->submitted + 1);
	if (likely(ex == base && !options && crew__fits(task) && !base->task_timeout_ms)) {
		if (keeps_arguments(base->ops))
			crew__copy_small(f->value.word, arguments, task);
		crew__record_init(f, task, PHASE_PENDING | flags);
		rc = base->ops->submit(base, port, f, keeps_arguments(base->ops) ? NULL : arguments);
	} else {
		crew__record_init(f, task, PHASE_PENDING | STATE_HELD | flags);
		rc = submit_with(ex, base, port, f, arguments, options);
	}
	if (unlikely(rc))
		*ret = not_taken(base, f, options, rc);
	return rc;
}

/*
 * The common case, in which nothing is refused: an executor that is well, and no group, to which this thread was the last
 * to submit (so it is not that of a parent either); a task with few plain arguments.
 */
static inline bool is_common(const crew_executor *ex, const crew_task *task, const void *arguments)
{
	return ex && ex->magic == EXECUTOR_MAGIC && ex->id == crew__last_id && !(ck_pr_load_32(&ex->closed) | (uint32_t)ck_pr_load_int(&ex->broken)) &&
	       !ex->task_timeout_ms && task && task->size >= sizeof *task && (task->run || task->raw) && crew__fits(task) &&
	       arguments &&
	       (ex->ops->shares_memory ||
		!((task->flags & CREW_TASK_POINTERS) || CREW_TYPE_CLASS(task->result) == CREW_POINTER));
}

static inline crew_future *submit_common(crew_executor *ex, const crew_task *task, const void *arguments, uint32_t flags)
{
	struct port *port = crew__last_port;
	crew_future *f = crew__record_new(port);
	int rc;

	if (unlikely(!f))
		return deliver_at_once(NULL, FIXED_NO_MEMORY);
	ck_pr_store_64(&port->submitted, port->submitted + 1);
	if (keeps_arguments(ex->ops)) {
		crew__copy_small(f->value.word, arguments, task);
		arguments = NULL;
	}
	crew__record_init(f, task, PHASE_PENDING | flags);
	rc = ex->ops->submit(ex, port, f, arguments);
	return likely(rc == 0) ? f : not_taken(ex, f, NULL, rc);
}

static __attribute__((__noinline__)) crew_future *submit_any(crew_executor *ex, const crew_task *task, const void *arguments,
							     const struct crew_submit_options *options, size_t size)
{
	struct crew_submit_options o;
	struct port *port;
	crew_future *f;
	char text[sizeof ((crew_error *)0)->message];
	int rc = crew__executor_check(ex);

	if (unlikely(rc))
		return deliver_at_once(size >= sizeof o ? options : NULL, rc == CREW_EFORKED ? FIXED_FORKED : FIXED_HANDLE);
	if (options) {
		if (crew__options(&o, sizeof o, options, size))
			return failed_future(base_of(ex), NULL, -EINVAL, "a submit option that this version does not know");
		options = &o;
	}
	rc = refuse(ex, task, arguments, text, sizeof text);
	if (unlikely(rc))
		return failed_future(base_of(ex), options, rc, text);
	port = crew__port(base_of(ex));
	if (unlikely(!port))
		return deliver_at_once(options, FIXED_NO_MEMORY);
	submit(ex, base_of(ex), port, task, crew__arguments(task, arguments), options, STATE_OWNED, &f);
	return f;
}

crew_future *crew_executor_submit(crew_executor *ex, const crew_task *task, const void *arguments,
				  const struct crew_submit_options *options, size_t size)
{
	if (likely(!options && is_common(ex, task, arguments)))
		return submit_common(ex, task, arguments, STATE_OWNED);
	return submit_any(ex, task, arguments, options, size);
}

int crew_executor_post(crew_executor *ex, const crew_task *task, const void *arguments)
{
	struct port *port;
	crew_future *f;
	char text[sizeof ((crew_error *)0)->message];
	int rc = crew__executor_check(ex);

	if (rc == 0)
		rc = refuse(ex, task, arguments, text, sizeof text);
	if (rc)
		return rc;
	port = crew__port(base_of(ex));
	if (!port)
		return -ENOMEM;
	rc = submit(ex, base_of(ex), port, task, crew__arguments(task, arguments), NULL, 0, &f);
	if (!is_fixed(f))
		crew__detach(f); /* only now: a stale hint may have run it before it was submitted */
	return rc;
}

int crew_executor_run(crew_executor *ex, const crew_task *task, const void *arguments, void *y, size_t y_size, int y_type,
		      crew_error *err)
{
	return crew_future_take(crew_executor_submit(ex, task, arguments, NULL, 0), y, y_size, y_type, err);
}

int crew_executor_submit_each(crew_executor *ex, const crew_task *task, const void *const *columns, crew_future **fs, size_t n,
			      const struct crew_submit_options *options, size_t size)
{
	unsigned char *arguments;
	struct port *port;
	int count = 0, rc = crew__executor_check(ex);

	if (rc)
		return rc;
	if (!task)
		return CREW_ENOTASK;
	if (n && (!fs || !columns || n > INT_MAX))
		return -EINVAL;
	arguments = calloc(1, task->arguments);
	if (!arguments)
		return -ENOMEM;
	port = base_of(ex)->ops->batch_begin && !is_group(ex) ? crew__port(ex) : NULL;
	if (port)
		ex->ops->batch_begin(ex, port);
	for (size_t i = 0; i < n; i++) {
		crew__gather(task, columns, i, arguments);
		fs[i] = crew_executor_submit(ex, task, arguments, options, size);
		count += !(load_acquire_32(&fs[i]->state) & STATE_FAILED) || task_of(fs[i]);
	}
	if (port)
		ex->ops->batch_end(ex, port);
	free(arguments);
	return count;
}
