/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ticket.pml: one ring of tickets, two workers of which one may be killed anywhere, its successor, a thread that waits for the first ticket, one that may
 * cancel it, and the parent that buries. What lib/process/ does to the shared words, step for step:
 *
 *	take     journal := head; head CAS                         (process_worker.c, take)
 *	claim    word: open -> RUNNING by me                       (claim)
 *	finish   answer; answered; word: RUNNING by me -> FINISHED, flags kept; wake if WAIT     (finish)
 *	wait     count; word |= WAIT; sleep on the word            (process_wait.c)
 *	bury     answered -> settle; RUNNING by the dead -> fail; open, in its journal, below head -> MOVED, a new ticket; ring every bell
 *	park     bit; look again; sleep on the bell                (park)
 *
 * Tickets 0 .. T-1 are submitted; a moved one becomes the next free number. Each task is settled once, none runs twice, none is forgotten, nobody sleeps for
 * ever: an invalid end state is a hang.
 *
 * The space is kept small by two runs: one task with everybody who may want something of it, and two (-DT=2 -DQUIET) with nobody but the workers.
 *
 * Variants that must be caught: -DNO_REOFFER  bury does not look at the journal
 *	-DJOURNAL_LATE  the journal is stored after the CAS on head      -DDONE_FIRST  answered before the answer is there
 *	-DFINISH_STORE  FINISHED is stored, flags lost                   -DNO_SETTLE_WAKE  settling does not wake who sleeps on the word
 *	-DCLAIM_DROPS   a claim forgets the WAIT that was set before it   -DNO_DONE_SCAN  bury does not look at what the dead had answered
 *	-DNO_BELLS      bury rings nobody, and nobody takes the place    -DNO_RECHECK  park does not look again
 */
#ifndef T
#define T 1
#endif
#define N (T + 2) /* tickets that there can ever be: each burial moves at most one here */
#define NOWHERE (N + 1)

#define OPEN 0
#define RUNNING 1
#define FINISHED 2
#define CANCELLED 3
#define MOVED 4

byte status[N];		/* of each ticket's claim word … */
byte owner[N];		/* … and who has it, + 1 */
bool wait_flag[N];
bool asleep_on[N];	/* the waiter sleeps on this word */
bool answer[N], answered[N];
byte task_of[N];	/* which task a ticket carries */
byte tail, head;
byte journal[2];	/* ticket + 1; batches of one */
bool parked[2], bell[2], sleeping[2];
byte runs[T], settled[T], failed;
byte ticket_of[T];	/* where the parent has each task; N: settled; NOWHERE: not submitted yet */
bool kill_wanted, dead, buried;
bool waiter_done;

inline ring(w) { bell[w] = true; sleeping[w] = false }

/* What every submitter and the parent do after moving tail. */
inline wake_one() {
	if
	:: atomic { parked[0] -> parked[0] = false }; ring(0)
	:: atomic { !parked[0] && parked[1] -> parked[1] = false }; ring(1)
	:: else
	fi
}

proctype worker(byte me; bool mortal) {
	byte t; bool mine, w;
	{
end_loop:
	do
	:: atomic { head < tail -> t = head };
#ifdef JOURNAL_LATE
		if
		:: atomic { head == t -> head = t + 1; mine = true }
		:: else
		fi;
		journal[me] = t + 1;
#else
		journal[me] = t + 1;
		if
		:: atomic { head == t -> head = t + 1; mine = true }
		:: else
		fi;
#endif
		if
		:: mine && head < tail -> wake_one()
		:: else
		fi;
		if
		:: mine ->
			if
			:: atomic {
				status[t] == OPEN -> status[t] = RUNNING;
				owner[t] = me + 1;
#ifdef CLAIM_DROPS
				wait_flag[t] = false;
#endif
				runs[task_of[t]]++;
				assert(runs[task_of[t]] <= 1)
			   };
#ifdef DONE_FIRST
				answered[t] = true;
				answer[t] = true;
#else
				answer[t] = true;
				answered[t] = true;
#endif
#ifdef FINISH_STORE
				w = wait_flag[t];
				atomic { status[t] = FINISHED; wait_flag[t] = w };
#else
				atomic { status[t] = FINISHED; w = wait_flag[t] };
#endif
				if
				:: w -> asleep_on[t] = false
				:: else
				fi
			:: else
			fi
		:: else
		fi;
		d_step { journal[me] = 0; mine = false; w = false; t = 0 }
	:: else ->
		bell[me] = false;
		parked[me] = true;
#ifndef NO_RECHECK
		if
		:: head < tail -> parked[me] = false
		:: else ->
#else
		if
		:: true ->
#endif
			if
			:: atomic { !bell[me] -> sleeping[me] = true }
			:: else
			fi;
end_park:		!sleeping[me];
			parked[me] = false
		fi
	od
	} unless { atomic { mortal && kill_wanted && !dead -> dead = true } }
}

/* A kill at any step, or none. */
proctype killer() { if :: kill_wanted = true :: skip fi }

/* The lock is a step: the parent's own truth is not looked at from outside. k: the task. */
inline settle(k, bad) {
	settled[k]++;
	assert(settled[k] == 1);
	if
	:: bad -> failed++; assert(failed <= 1)
	:: else -> assert(answer[ticket_of[k]] || status[ticket_of[k]] == CANCELLED)
	fi;
#ifndef NO_SETTLE_WAKE
	asleep_on[ticket_of[k]] = false;
#endif
	ticket_of[k] = N
}

proctype parent() {
	byte k, t;
end_wait:
	dead;
	k = 0;
	atomic {
	do /* under the lock; workers go on, but each entry is decided by one compare-and-swap */
	:: k < T ->
			t = ticket_of[k];
			if
			:: t >= N
#ifndef NO_DONE_SCAN
			:: t < N && answered[t] && owner[t] == 1 -> settle(k, false)
#endif
			:: t < N && !answered[t] && status[t] == RUNNING && owner[t] == 1 -> settle(k, true)
#ifndef NO_REOFFER
			:: t < N && status[t] == OPEN && journal[0] == t + 1 && t < head ->
				status[t] = MOVED;
				asleep_on[t] = false;
				ticket_of[k] = tail;
				task_of[tail] = k;
				tail++
#endif
			:: else
			fi;
		k++
	:: else -> break
	od
	};
	d_step { parked[0] = false; journal[0] = 0; k = 0; t = 0 };
#ifndef NO_BELLS
	ring(1);
	run worker(0, false);
#endif
	buried = true
}

/* Waits for task 0; looks where it is, each time. */
proctype waiter() {
	byte t;
	ticket_of[0] != NOWHERE;
	do
	:: atomic {
		t = ticket_of[0];
		if
		:: t < N && answered[t] -> settle(0, false)
		:: else
		fi;
		t = ticket_of[0]
	   };
	   if
	   :: t == N -> break
	   :: else
	   fi;
	   if
	   :: atomic { ticket_of[0] == t && (status[t] == OPEN || status[t] == RUNNING) -> wait_flag[t] = true };
		if
		:: atomic { ticket_of[0] == t && (status[t] == OPEN || status[t] == RUNNING) && wait_flag[t] -> asleep_on[t] = true };
			!asleep_on[t]
		:: else
		fi
	   :: else
	   fi
	od;
	waiter_done = true
}

proctype canceller() {
	byte t;
	if
	:: atomic {
		t = ticket_of[0];
		if
		:: t < N && status[t] == OPEN -> status[t] = CANCELLED; settle(0, false)
		:: else
		fi
	   }
	:: skip
	fi
}

/* When nothing moves any more: every task was settled or waits, answered, for whoever wants it. */
proctype end_of_all() {
	timeout;
	d_step {
		byte k;
		for (k : 0 .. T - 1) {
			assert(ticket_of[k] == N || answered[ticket_of[k]])
		}
	}
}

init {
	byte k;
	atomic {
		for (k : 0 .. T - 1) {
			ticket_of[k] = NOWHERE
		}
		run worker(0, true);
		run worker(1, false);
		run killer();
		run parent();
#ifndef QUIET
		run waiter();
		run canceller();
#endif
		run end_of_all()
	};
	for (k : 0 .. T - 1) {
		atomic { /* under the lock, as burying is */
			ticket_of[k] = tail;
			task_of[tail] = k;
			tail++
		}
		wake_one()
	}
}
