/* SPDX-License-Identifier: BSD-2-Clause
 *
 * doom.pml: a task is ended by force, for two reasons at once, while its worker may be finishing it, has taken another with it, and would go on to the next; the
 * slot is wanted by a later ticket. What lib/process/ does to the shared words, step for step:
 *
 *	take     journal := {first, n}; head CAS                                (process_worker.c, take)
 *	claim    word: an older ticket's or open -> RUNNING by me               (claim)
 *	finish   answered; word: RUNNING by me -> FINISHED; a later ticket's: all was said; anything else: end     (finish, set_finished)
 *	doom     answered -> settle; open -> CANCELLED, fail; RUNNING by w -> DOOMED, fail, keep the slot, SIGTERM w      (doom.c)
 *	collect  answered -> settle                                             (settle.c)
 *	place    a waiting task gets the next ticket, when its slot is free: no future in it, nobody doomed in it       (intake.c, find_room)
 *	bury     answered -> settle; RUNNING by the dead -> fail; open, in its journal -> MOVED, waits again; doomed by the dead -> free   (burial.c)
 *
 * Only task 0 is ever to be ended, so it alone may fail, and it alone may be cancelled. Nobody dies but by that, so the death of a worker that runs anything else is the
 * error that all this is there to avoid. Each task is settled once and none runs twice; what a worker reads is its own task's for as long as it runs,
 * doomed or not; when nothing moves any more all are settled.
 *
 * Variants that must be caught: -DNO_DOOM  look who runs it, and kill that one       -DDOOM_STORE  DOOMED is stored, not by compare-and-swap
 *	-DFINISH_BLIND  FINISHED is stored, whatever the word says               -DREUSE  the slot is free as soon as its task has failed
 *	-DLATE_ANSWER  the answer of a doomed task settles it, too               -DNO_REOFFER  bury does not look at the journal
 *	-DFREE_NEVER  bury forgets what was doomed
 */
#define T 3 /* tasks */
#define S 2 /* slots */
#define NONE 255

#define OPEN 0
#define RUNNING 1
#define FINISHED 2
#define CANCELLED 3
#define MOVED 4
#define DOOMED 5

/* shared; tickets are counted from 1, 0: none yet */
byte word_ticket[S], status[S], owner[S];
byte cell[S], answered[S];
byte tail = 1, head = 1;
byte first[2], taken[2]; /* journals */

/* the parent's */
byte task_in[S];   /* task + 1; 0: none */
byte ticket_in[S];
byte doomed_in[S]; /* worker + 1 */
bool waiting[T], settled[T];
bool locked;
bool told[2], killed[2], dead[2]; /* SIGTERM was sent, has arrived, the pidfd says so */
byte runs[T];

byte task_of[16]; /* which task a ticket carries: for the model only */

inline lock() { atomic { !locked -> locked = true } }
inline unlock() { locked = false }

proctype worker(byte me) {
	byte t, n, s;
	{
end_loop:
	do
	:: atomic {
		head < tail -> t = head;
		if
		:: n = 1
		:: head + 2 <= tail -> n = 2
		fi
	   };
	   d_step { first[me] = t; taken[me] = n };
	   if
	   :: atomic { head == t -> head = t + n };
		do
		:: n > 0 ->
			s = t % S;
			if
			:: atomic {
				cell[s] == t && !(word_ticket[s] == t && status[s] != OPEN) ->
				word_ticket[s] = t;
				status[s] = RUNNING;
				owner[s] = me + 1;
				runs[task_of[t]]++;
				assert(runs[task_of[t]] == 1)
			   };
				assert(cell[s] == t);
				assert(cell[s] == t); /* it goes on reading */
				answered[s] = t;
#ifdef FINISH_BLIND
				status[s] = FINISHED
#else
				if
				:: atomic { word_ticket[s] == t && status[s] == RUNNING && owner[s] == me + 1 -> status[s] = FINISHED }
				:: atomic { word_ticket[s] != t -> skip }
				:: atomic { word_ticket[s] == t && !(status[s] == RUNNING && owner[s] == me + 1) -> goto gone }
				fi
#endif
			:: else
			fi;
			t++;
			n--
		:: n == 0 -> break
		od;
		taken[me] = 0
	   :: else
	   fi;
	   d_step { t = 0; n = 0; s = 0 }
	od;
gone:	skip
	} unless { killed[me] };
	dead[me] = true
}

/* SIGTERM, or SIGKILL after the grace: it comes when it comes. */
proctype signals(byte w) {
end_wait:
	do
	:: atomic { told[w] && !killed[w] && !dead[w] -> killed[w] = true }
	od
}

/* The lock is held. */
inline settle(k, bad) {
	assert(!settled[k]);
	assert(!(bad) || k == 0);
	settled[k] = true
}

/* For two reasons: a deadline, and a user. */
proctype ender() {
	byte s, who;
	if
	:: skip
	:: lock();
		if
		:: settled[0]
		:: !settled[0] && waiting[0] -> d_step { waiting[0] = false; settle(0, true) }
		:: else ->
			if
			:: task_in[0] == 1 -> s = 0
			:: else -> assert(task_in[1] == 1); s = 1
			fi;
			if
			:: answered[s] == ticket_in[s] -> d_step { settle(0, false); task_in[s] = 0 }
			:: else ->
				if
				:: atomic { !(word_ticket[s] == ticket_in[s] && status[s] != OPEN) ->
					word_ticket[s] = ticket_in[s]; status[s] = CANCELLED; owner[s] = 0 };
					d_step { settle(0, true); task_in[s] = 0 }
#ifdef NO_DOOM
				:: word_ticket[s] == ticket_in[s] && status[s] == RUNNING ->
					told[owner[s] - 1] = true
				:: word_ticket[s] == ticket_in[s] && status[s] == FINISHED
#else
#ifdef DOOM_STORE
				:: word_ticket[s] == ticket_in[s] && status[s] == RUNNING ->
					who = owner[s];
					status[s] = DOOMED;
#else
				:: atomic { word_ticket[s] == ticket_in[s] && status[s] == RUNNING ->
					status[s] = DOOMED; who = owner[s] };
#endif
					d_step {
						settle(0, true);
#ifndef LATE_ANSWER
						task_in[s] = 0;
#endif
#ifndef REUSE
						doomed_in[s] = who;
#endif
						told[who - 1] = true
					}
				:: word_ticket[s] == ticket_in[s] && status[s] == FINISHED /* a moment ago: collect settles it */
#endif
				fi
			fi
		fi;
		unlock()
	fi
}

inline collect(s) {
	if
	:: task_in[s] && answered[s] == ticket_in[s] -> d_step { settle(task_in[s] - 1, false); task_in[s] = 0 }
	:: else
	fi
}

inline bury(w, s) {
	if
	:: task_in[s] == 0
	:: task_in[s] && word_ticket[s] == ticket_in[s] && owner[s] == w + 1 ->
		if
		:: answered[s] == ticket_in[s] -> d_step { settle(task_in[s] - 1, false); task_in[s] = 0 }
		:: else -> d_step { settle(task_in[s] - 1, true); task_in[s] = 0 }
		fi
#ifndef NO_REOFFER
	:: task_in[s] && !(word_ticket[s] == ticket_in[s] && owner[s] == w + 1) &&
	   ticket_in[s] >= first[w] && ticket_in[s] < first[w] + taken[w] && ticket_in[s] < head ->
		if
		:: atomic { !(word_ticket[s] == ticket_in[s] && status[s] != OPEN) ->
			word_ticket[s] = ticket_in[s]; status[s] = MOVED; owner[s] = 0;
			waiting[task_in[s] - 1] = true; task_in[s] = 0 }
		:: else
		fi
#endif
	:: else
	fi;
#ifndef FREE_NEVER
	if
	:: doomed_in[s] == w + 1 -> doomed_in[s] = 0
	:: else
	fi
#endif
}

/* A task waits, and the next ticket's slot is free. */
#define room ((waiting[0] || waiting[1] || waiting[2]) && tail < head + S && task_in[tail % S] == 0 && doomed_in[tail % S] == 0)

proctype parent() {
	byte s, k;
end_wait:
	do
	:: atomic { !locked && (dead[0] || dead[1]) -> locked = true; k = (dead[0] -> 0 : 1) };
		bury(k, 0);
		bury(k, 1);
		d_step { taken[k] = 0; told[k] = false; killed[k] = false; dead[k] = false };
		run worker(k);
		d_step { k = 0; unlock() }
	:: atomic { !locked && task_in[0] && answered[0] == ticket_in[0] -> collect(0) }
	:: atomic { !locked && task_in[1] && answered[1] == ticket_in[1] -> collect(1) }
	:: atomic { !locked && room -> locked = true;
		s = tail % S;
		k = (waiting[0] -> 0 : (waiting[1] -> 1 : 2));
		waiting[k] = false;
		task_in[s] = k + 1;
		ticket_in[s] = tail;
		task_of[tail] = k };
		cell[s] = tail;
		tail++;
		d_step { k = 0; s = 0; unlock() }
	od
}

/* When nothing moves any more. */
proctype end_of_all() {
	timeout;
	d_step {
		byte k;
		for (k : 0 .. T - 1) {
			assert(settled[k])
		}
	}
}

init {
	atomic {
		waiting[0] = true;
		waiting[1] = true;
		waiting[2] = true;
		run worker(0);
		run worker(1);
		run signals(0);
		run signals(1);
		run parent();
		run ender();
		run ender();
		run end_of_all()
	}
}
