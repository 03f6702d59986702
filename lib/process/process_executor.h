/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process_executor.h: what the parent knows. Nothing here lies in shared memory: whatever workers write there, this is the truth.
 *
 *	submit ─> intake ─┬─> ring ────────> workers ──> answers ─> settle ─> futures
 *	                  └─> backlog ─pump─┘                        ↑
 *	                                           engine: collects, grants, buries, sweeps
 *
 * A future is in one of three places, all under `lock`: the backlog, an entry of the ring, or nowhere: then it is settled, and whoever took it out is
 * completing it. Taking it out is what "exactly once" means here. Completion itself (values copied, sleepers woken, callbacks) is done
 * without the lock, from a batch.
 *
 * Lock order: succession → lock; lock → an arena's mutex; lock → the callback queue's. Core's mutexes are never held around ours but the executor's own.
 */
#ifndef CREW_LIB_PROCESS_EXECUTOR_H
#define CREW_LIB_PROCESS_EXECUTOR_H

#include "base/latch.h"
#include "core/executor_ops.h"
#include "process/arena.h"
#include "process/result_store.h"
#include "process/zygote.h"

enum { WAITING_PAYLOAD = 32, BATCH_ITEMS = 64, EPOCHS = 8, STRIKES = 3, STRIKES_WITHOUT = 32 /* without an initializer: no code of the program's */,
       TICK_FAST_MS = 20, TICK_SLOW_MS = 250, ORPHANS_MAX = 16,
       COURTESY_MS = 20 /* for a task to see by itself that its time is up, before it is ended */ };
enum { STILL_MS = 1000, GRANT_SIZE = 64 << 10 };

/* What the parent knows of a slot. */
struct entry {
	crew_future *f;	  /* NULL: settled, or never used */
	uint64_t ticket;  /* the last that was placed here */
	union {
		uint64_t number;   /* of its submission */
		struct pins *pins; /* doomed: shared blocks that its worker may still use */
	};
	uint32_t waiters : 20; /* threads that sleep on its claim word, and one for a doomed worker: the slot is not used again while there are any */
	uint32_t epoch : 4;
	uint32_t suspect : 8; /* sweeps that found it taken from head and not begun */
	uint32_t errand : 17; /* which; 0: it was submitted here */
	uint32_t doomed : 11; /* the worker + 1 that may still be running what was doomed here; 0: none */
};
_Static_assert(sizeof(struct entry) == 32, "the pump goes over them one by one");

/* A future that is not in the ring yet, with all that its worker must know. */
struct waiting {
	crew_future *f;	 /* NULL: free, or cancelled */
	uint64_t number; /* of its submission */
	uint32_t next;	 /* list of free ones, or queue */
	uint32_t task, size; /* as in its job; so is the rest */
	uint8_t flags, epoch;
	bool apart; /* the payload has more bytes than there are here: it is in the heap */
	union {
		unsigned char payload[WAITING_PAYLOAD];
		void *heap;
		struct extent extent;
	};
};
_Static_assert(sizeof(struct waiting) == 64, "a million of these may wait");

/* Memory of rw that a worker may put answers in which are copied out. */
struct grant {
	struct extent extent;
	uint32_t worker, incarnation;
	uint32_t readers; /* answers in it that are being copied out */
	bool orphan;	  /* no worker has it any more: the last reader frees it */
};

#define NOBODY UINT32_MAX

enum seat_state { SEAT_EMPTY, SEAT_ASKED, SEAT_ALIVE, SEAT_DYING };

/* What a worker writes to stderr: see output.c. */
struct outlet {
	int fd; /* the reading end; -1: none. Engine only */
	uint32_t size;
	unsigned char tail[sizeof((crew_error *)0)->output - 1];
};

struct relay {
	/* engine only; the opener's before it runs */
	int epoll, target; /* of the reading ends; the program's stderr. -1: none */
	bool socket;	   /* the target is one */
	bool shared;	   /* … may block: its description is not our own */
	bool running;
	unsigned char *chunk; /* as it is read */
	unsigned char *held;  /* what the target has not taken yet */
	size_t held_size;
	int orphans[ORPHANS_MAX]; /* -1: none */
	uint32_t next_orphan;
};

/* What an event of the engine's is about; a seat is its index. */
enum { FROM_BELL = WORKERS_MAX, FROM_WORKERS, FROM_TIMER, FROM_ALARM, FROM_ZYGOTE, FROM_KEEPER, FROM_OUTPUT };

/* The place of one worker, which several have one after the other. */
struct seat {
	pid_t pid; /* 0 while it is being replaced; atomic */
	int pidfd;
	enum seat_state state;
	uint32_t incarnation;
	uint64_t since;	 /* when it was asked for, or born */
	uint32_t number; /* of the worker that it is to the program; NOBODY: a spare, or dead */
	uint32_t logged; /* of its log, read so far */
	uint32_t strange; /* sweeps that found it parked while it owned a task */
	bool counted;	 /* its getting ready has ended a row of strikes */
	int condemned;	 /* why we killed it, or 0 */
	uint32_t doomed; /* its slots that stay reserved until it is buried */
	uint64_t kill_at; /* when it is killed if it does not go by itself; 0: it was not told to go */
	uint64_t dying_until; /* when we stop waiting for its obituary */
	struct outlet output; /* guarded by lock, but the descriptor */
	struct grant *grant;
	struct stock *stock[STOCKS];
};

/* Settled futures on their way to completion. */
struct settled {
	crew_future *f;
	uint32_t add;	     /* to its state word; 0: see `kind` */
	uint32_t kind;	     /* ANSWER_LARGE, ANSWER_ERROR, ANSWER_BLOCK: bytes are copied first. 0: it fails with error */
	struct grant *grant; /* where they are */
	unsigned char *bytes;
	size_t n;
	crew_error *error;
	uint8_t epoch;
};

struct batch {
	uint32_t n;
	struct settled item[BATCH_ITEMS];
};

/* Something to do at a time: see timetable.c. `what` is a future or the index of a seat, with the kind in its lowest bits. */
struct appointment {
	uint64_t at;
	uintptr_t what;
};
enum { DUE_DEADLINE, DUE_KILL, DUE_SEAT, DUE_MASK = 3 };

struct timetable {
	struct appointment *heap;
	size_t count, capacity;
	uint64_t armed; /* when the alarm will wake the engine; NEVER */
};

static inline uint32_t appointment_kind(uintptr_t what)
{
	return what & DUE_MASK;
}

static inline uintptr_t appointment_of(crew_future *f, uint32_t kind)
{
	return (uintptr_t)f | kind;
}

static inline crew_future *appointment_future(uintptr_t what)
{
	return (crew_future *)(what & ~(uintptr_t)DUE_MASK);
}

static inline uintptr_t appointment_of_seat(uint32_t seat)
{
	return (uintptr_t)seat << 2 | DUE_SEAT;
}

static inline uint32_t appointment_seat(uintptr_t what)
{
	return (uint32_t)(what >> 2);
}

/* Completed futures whose callbacks are due. */
struct callback_queue {
	pthread_mutex_t mutex;
	pthread_t thread;
	bool started, stop; /* guarded by mutex, as the rest */
	uint32_t signal;
	struct due {
		crew_future *f;
		uint32_t state;
	} *due;
	size_t count, capacity;
};

/* What tasks are called in shared memory. */
struct task_book {
	struct task_slot {
		const crew_task *task; /* NULL: free */
		uint32_t number;
	} *slots; /* open addressing by descriptor address */
	const crew_task **by_number;
	uint32_t count;
	struct task_module {
		struct task_module *next;
		struct extent path; /* in the arena of pub */
		void *hold;	    /* keeps it loaded, so that its addresses stay its own */
		uint64_t id;
	} *modules;
};

struct backlog {
	struct waiting **chunks;
	uint32_t chunk_count, total; /* nodes that exist */
	uint32_t free;		     /* first free node + 1 */
	uint32_t first, last;	     /* queue of plain ones, + 1; 0: empty */
	struct ranked {
		int64_t key; /* the larger goes first */
		uint32_t index;
	} *heap; /* once there are priorities */
	size_t heap_count, heap_capacity;
	size_t count;	      /* live ones in both */
	uint64_t numbered;
	bool prioritised; /* since some task had a priority */
};

struct process_executor {
	crew_executor base;
	/* fixed after open */
	struct ring ring;
	struct worker_plan plan;
	struct mapping mappings[3];
	struct arena in, blocks;
	struct result_store *store; /* owns mappings[1] from its opening on */
	int bell; /* rung by the program; workers have one of their own, and may do to it what they like: plan.bell */
	int timer, alarm, epoll;
	uint64_t grace;
	uint64_t silence; /* ns; nothing heard for so long from what should speak, or should have died, counts as death: on a busy
			   machine a zygote may not run for a while, and only it knows how a worker died. Tests shorten it */
	uint32_t retries; /* of tasks that do not say how many */
	pthread_t engine;
	bool engine_started; /* opener, closer */
	/* opener, engine; once it is `closing` the closer, who takes `succession` first */
	pthread_mutex_t succession;
	struct zygote_link zygote;
	struct server keeper; /* of FORK: where another zygote comes from */
	uint32_t zygotes_lost; /* since a worker last got ready */
	uint32_t silent;       /* workers in a row that did not come as far as crew_init() */
	/* guarded by lock */
	struct latch lock CREW__ALIGNED;
	uint64_t tail;	    /* the next ticket */
	uint64_t head_seen; /* rw->head as last read and believed */
	struct entry *entries;
	struct seat *seats;
	uint32_t *seat_of; /* by number of the worker; NOBODY: it is being replaced */
	struct backlog backlog;
	struct timetable timetable;
	struct task_book tasks;
	struct errand_cell *errand_cells;
	struct errand *dead_errands; /* their workers are dead, they run on */
	uint32_t errand_turn;	     /* the engine's: whose offer was taken last */
	size_t outstanding;	      /* not completed */
	size_t of_epoch[EPOCHS];
	uint64_t epoch;
	uint32_t drainers;
	bool ticking, closing, failed; /* failed: nothing runs any more */
	bool abandoned;		       /* likewise, and nobody is known any more: loss.c */
	uint32_t strikes;	       /* workers in a row that did not get ready */
	uint32_t scribbles;	       /* times that head was not to be believed */
	uint64_t swept_head;
	uint64_t lost, workers_lost;
	/* private futex: bumped when drainers may find what they wait for */
	uint32_t settled_signal CREW__ALIGNED;
	uint32_t stop_engine; /* atomic */
	uint64_t relied;      /* atomic; the latest journal of a worker that a waiter has relied on, see made_way (process_wait.c) */
	uint32_t deprived;    /* atomic; once it is set none of our descriptors is used again, see loss.c */
	/* engine only: */
	int patience;		 /* ms that it sleeps at most */
	uint64_t turns, trimmed; /* of the arenas: as last seen; when they were last trimmed */
	uint64_t still_from;	 /* when they were seen to change last */
	struct relay relay;
	struct callback_queue callbacks;
};

static inline struct process_executor *process_executor_of(crew_executor *ex)
{
	return (struct process_executor *)ex;
}

struct process_port {
	struct port base;
	/* owner thread only */
	const crew_task *task;
	uint32_t number;
	uint32_t backlogged; /* submits that did not find room since it last pumped */
};

/* ---- backlog.c; the lock is held ---- */
/* Put f in line where its number belongs; the job is copied. False: no memory. */
bool crew__backlog_push(struct backlog *b, crew_future *f, const struct job *job, uint8_t epoch, uint64_t number, int priority);
int64_t crew__backlog_key(int priority, uint64_t number);
struct waiting *crew__backlog_first(struct backlog *b);	  /* who is next; NULL: nobody */
void crew__backlog_pop(struct backlog *b);		  /* that one leaves */
struct waiting *crew__backlog_find(struct backlog *b, const crew_future *f); /* by f's mark; NULL: not here */
void crew__backlog_drop(struct backlog *b, struct waiting *w); /* cancelled */
const unsigned char *crew__backlog_payload(const struct waiting *w);
void crew__backlog_fini(struct backlog *b);

/* f->value.word[0] while it is ours: where to look for it. Whatever it says is checked against the place it names. */
static inline uint64_t mark_ticket(uint64_t ticket)
{
	return ticket << 1;
}

/* Is its value a mark? The lock is held, under which alone it may stop being one: it is neither free, nor another's to complete, nor held back. */
static inline bool has_mark(const crew_future *f)
{
	uint32_t s = ck_pr_load_32(&f->state);

	return (phase_of(s) == PHASE_PENDING || phase_of(s) == PHASE_RUNNING) && !(s & (STATE_TAKEN | STATE_HELD));
}

static inline uint64_t mark_waiting(uint32_t index)
{
	return (uint64_t)index << 1 | 1;
}

/* ---- task_book.c ---- */
int crew__task_book_init(struct task_book *book); /* -ENOMEM */
void crew__task_book_fini(struct task_book *book); /* may unload modules, whose destructors run */
/* The number of a task; not under the lock. -errno, CREW_ENOTASK. */
int crew__task_number(struct process_executor *p, const crew_task *task, uint32_t *ret);
/* Put the path of a module where workers can read it; ret->size is 0 for the program itself. While nobody else has the executor. -ENOMEM. */
int crew__module_publish(struct process_executor *p, uint64_t module, const struct module_file *file, struct extent *ret);

/* ---- worker_plan.c ---- */
/* Put what the plan's pointers mean where workers can find it. CREW_EPOINTER: a function that is in no module. -errno. */
int crew__plan_publish(struct process_executor *p, size_t argument_size);

/* ---- intake.c ---- */
int crew__process_submit(crew_executor *ex, struct port *port, crew_future *f, const void *arguments);
/* Move up to `most` from the backlog into the ring; the lock is held. Answers found on the way go to the batch. True: tickets were published. */
bool crew__pump(struct process_executor *p, struct batch *batch, uint32_t most);
/* Nobody is to run this entry's ticket any more: its word gets that status. False: somebody has begun it. */
bool crew__withdraw(struct process_executor *p, const struct entry *e, uint32_t status);
/* An entry that was withdrawn goes to the backlog, where its number belongs; the lock is held. False: no memory. */
bool crew__offer_again(struct process_executor *p, struct entry *e);
void crew__free_extent(struct process_executor *p, const unsigned char *payload); /* the payload is an extent */
void crew__tell_hunger(struct process_executor *p); /* bring pub->hungry up to date; the lock is held */
/* The number of a task for the workers. -errno, CREW_ENOTASK. */
int crew__task_number(struct process_executor *p, const crew_task *task, uint32_t *ret);
/* A held future for an errand goes to the ring, never to the backlog. Its ticket; 0: there is no room, or it was claimed. The lock is held. */
uint64_t crew__take_in_errand(struct process_executor *p, crew_future *f, const struct job *job, uint32_t errand, struct batch *batch);
/* An errand's ticket that nobody begins is exchanged for a new one, if there is room and nobody was faster. The lock is held. */
void crew__move_errand(struct process_executor *p, struct entry *e, struct batch *batch);

/* ---- settle.c ---- */
/* The entry that f is in; NULL: none. The lock is held. */
struct entry *crew__entry_of(struct process_executor *p, const crew_future *f);
/* Take out an entry whose answer is there. The lock is held, the batch has room. */
void crew__settle_answer(struct process_executor *p, struct entry *e, struct batch *batch);
/* Take it out to fail. */
void crew__settle_failed(struct process_executor *p, struct entry *e, crew_error *error, struct batch *batch);
/* The same of one that may still be running: its slot is kept. An error of -ECANCELED makes it a cancelled one. */
void crew__settle_doomed(struct process_executor *p, struct entry *e, crew_error *error, struct batch *batch);
/* One in the backlog is to fail. */
void crew__settle_waiting(struct process_executor *p, struct waiting *w, crew_error *error, struct batch *batch);
/* Its future leaves the backlog or an entry without coming to a batch: it was cancelled. */
void crew__settle_gone(struct process_executor *p, uint8_t epoch);
/* Every answered entry; at most a batch full. True: there may be more. */
bool crew__settle_all(struct process_executor *p, struct batch *batch);
/* Complete them; not under the lock. Empties the batch. */
void crew__deliver(struct process_executor *p, struct batch *batch);

/* ---- grants.c ---- */
/* Give the grant up: its memory is freed when nobody copies from it any more. The lock is held. */
void crew__grant_drop(struct process_executor *p, struct grant *grant);
/* All that a seat has, when its worker is gone. The lock is held. */
void crew__grants_drop(struct process_executor *p, uint32_t worker);
/* The bytes of an answer have been copied; not under the lock. */
void crew__grant_let_go(struct process_executor *p, struct grant *grant);
/* What workers ask for. True: there was something. Engine only, as the next. */
bool crew__answer_requests(struct process_executor *p);
/* Memory that was kept for next time goes back when there is no next time. True: it has. */
bool crew__memory_settled(struct process_executor *p);

/* ---- process_wait.c: slots of the ops table ---- */
int crew__process_cancel(crew_executor *ex, crew_future *f);
void crew__process_refresh(crew_executor *ex, crew_future *f);
int crew__process_wait(crew_executor *ex, crew_future *f, uint64_t deadline);
void crew__process_watch(crew_executor *ex, crew_future *f);
int crew__process_drain(crew_executor *ex, uint64_t deadline);
/* Until nothing is outstanding. False: the deadline came first. */
bool crew__await_empty(struct process_executor *p, uint64_t deadline);
/* What this thread has published up to `tail` has woken a worker, where nobody was awake. */
void crew__roused(const struct process_executor *p, uint64_t tail);

/* ---- timetable.c; the lock is held but for run ---- */
bool crew__timetable_push(struct process_executor *p, uint64_t at, uintptr_t what); /* false: no memory */
void crew__timetable_run(struct process_executor *p); /* the engine: do what is due */
void crew__timetable_fini(struct process_executor *p);

/* ---- doom.c ---- */
/* End the task of e, which runs: its future fails with code and text, its worker is killed. False: it does not run. The lock is held, the batch has
   room. */
bool crew__doom(struct process_executor *p, struct entry *e, int code, const char *text, struct batch *batch);
/* The worker is reaped: what was reserved for it is free again. Not under the lock. */
void crew__doom_end(struct process_executor *p, uint32_t worker);
/* f's deadline has passed; a kill of f is due. The lock is held, the batch has room. */
void crew__expire(struct process_executor *p, crew_future *f, struct batch *batch);
void crew__carry_out_kill(struct process_executor *p, crew_future *f, struct batch *batch);
void crew__kill_running(struct process_executor *p); /* all that runs; returns when the workers are buried */
int crew__process_kill(crew_executor *ex, crew_future *f, const char *reason, uint64_t at);
int crew__process_signal(crew_executor *ex, int signal);

/* ---- output.c: the engine's, and the opener's and closer's when there is none ---- */
void crew__output_init(struct relay *r);
int crew__output_open(struct process_executor *p); /* after p->epoll. -errno */
void crew__output_begin(struct process_executor *p); /* the engine runs … */
void crew__output_run(struct process_executor *p);
void crew__output_end(struct process_executor *p); /* … and ends: everything that is there is passed on */
void crew__output_fini(struct process_executor *p);
void crew__output_attach(struct process_executor *p, uint32_t worker, int fd); /* the lock is held */
void crew__output_detach(struct process_executor *p, uint32_t worker); /* it is dead; its tail stays until the next. Not under the lock */
void crew__output_copy(const struct outlet *outlet, char *to, size_t size); /* the tail, as a string. The lock is held */

/* ---- callback_thread.c ---- */
int crew__callbacks_init(struct callback_queue *q);
void crew__callbacks_push(struct callback_queue *q, crew_future *f, uint32_t state); /* runs them here when there can be no thread */
void crew__callbacks_fini(struct callback_queue *q);				      /* runs what is due, joins */

/* ---- roster.c; the lock is held ---- */
int crew__roster_init(struct process_executor *p); /* not 0: no memory */
void crew__roster_enter(struct process_executor *p, uint32_t worker); /* born: it gets a number, or is a spare */
void crew__roster_leave(struct process_executor *p, uint32_t worker); /* dead: a spare gets its number */
void crew__roster_dismiss(struct process_executor *p);		      /* spares end; once `stop` is set */

/* ---- engine.c ---- */
int crew__engine_start(struct process_executor *p);
void crew__engine_stop(struct process_executor *p);
void crew__ring_engine(struct process_executor *p);
/* Something is outstanding: see that the sweep runs. The lock is held. */
void crew__keep_ticking(struct process_executor *p);
/* Whatever the zygote says. The birth's descriptors are taken over. */
void crew__news(struct process_executor *p, const struct news *news, struct birth *birth);

int crew__engine_watch_zygote(struct process_executor *p); /* -errno */
void crew__engine_watch_keeper(struct process_executor *p);

/* ---- succession.c: engine only, but for the opener's first calls ---- */
/* Read what the zygote says. False: it is dead. */
bool crew__hear(struct process_executor *p);
/* It is dead: bury it and its workers, get another one, or give up. */
void crew__succeed_zygote(struct process_executor *p);
/* See that the engine ticks, if the start method needs a keeper. */
void crew__keeper_soon(struct process_executor *p);
/* The engine ticks: ask for a keeper, if the start method needs one and it is not there. */
void crew__keeper_check(struct process_executor *p);
void crew__keeper_born(struct process_executor *p, const struct news *news, struct birth *birth);
void crew__keeper_died(struct process_executor *p);
/* What was asked for and does not come; while anything is outstanding, now and then. Not under the lock. */
void crew__check_births(struct process_executor *p);
/* It is `closing`: from now on zygote and keeper are the closer's alone. */
void crew__succession_close(struct process_executor *p);

/* ---- errand.c ---- */
int crew__errands_init(struct process_executor *p);
void crew__errands_fini(struct process_executor *p);
/* What workers offer goes to the ring, as much as there are idle workers for. The engine only. True: something was taken. */
bool crew__errands_take(struct process_executor *p);
/* A worker's request for room for arguments is answered, results that it has read are freed. The engine only. */
void crew__errands_room(struct process_executor *p, uint32_t worker);
/* Its worker has died, in order or not: what its tasks submitted and nobody began is cancelled, unless in_order. The engine only. */
void crew__errands_bury(struct process_executor *p, uint32_t worker, bool in_order);
void crew__errand_moved(struct process_executor *p, uint32_t errand, uint64_t ticket); /* the lock is held */
bool crew__errand_is_of(uint32_t errand, uint32_t worker);

/* ---- burial.c ---- */
struct cause {
	int code, status; /* as waitid's; code 0: unknown */
	int user_ms, system_ms; /* what it had used */
	long max_rss_kib;
};
void crew__bury(struct process_executor *p, uint32_t worker, struct cause cause);
bool crew__is_ready(const struct process_executor *p, uint32_t worker); /* it has been initialized */
bool crew__has_begun(const struct process_executor *p, uint32_t worker); /* its own code runs, or has run */
void crew__sweep(struct process_executor *p);
/* Nothing can run any more: every future fails with `code`; not under the lock. output: what was said last, or NULL. */
void crew__give_up(struct process_executor *p, int code, const char *output, const char *format, ...) CREW_PRINTF(4, 5);
/* Kill a worker that wrote what it may not; its task fails with `code`. The lock is held. */
void crew__condemn(struct process_executor *p, uint32_t worker, int code);
void crew__wake_workers(struct process_executor *p);
int crew__seat_kill(struct process_executor *p, const struct seat *seat, int signal);

/* ---- loss.c ---- */
/* Has the program closed our descriptors? Then none of their numbers may be used. Any thread; the lock may be held. */
bool crew__deprived(struct process_executor *p);
/* Then: the executor is broken, every future fails. Any thread; not under the lock. */
void crew__abandon(struct process_executor *p);
void crew__zygote_lose(struct zygote_link *link); /* instead of crew__zygote_bury() */

#endif
