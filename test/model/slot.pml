/* SPDX-License-Identifier: BSD-2-Clause
 *
 * slot.pml: one slot that several tickets use one after the other, as all tickets do whose numbers are equal modulo the size of the ring. Two tasks; a thread
 * waits for the first, or with -DSECOND for the second; workers claim what anybody may claim: journals, peers and offers come to the same. What lib/process/ does, step for step:
 *
 *	claim    read the word, look at the cell's ticket, CAS the word: an older ticket's or open -> RUNNING by me, flags of its own ticket kept   (crew__claim_ticket)
 *	finish   answered; word: RUNNING by me -> FINISHED; a later ticket's: leave it alone               (finish, set_finished)
 *	wait     under the lock: is it here? count; then word |= WAIT; sleep on its lower half, which has no ticket; count down   (process_wait.c)
 *	settle   answered, under the lock: the slot is free, but for who is counted; they are woken        (settle.c)
 *	place    the next ticket, if its slot is free; a ticket whose slot is taken becomes a hole         (intake.c, find_room)
 *
 * No task runs twice, what a worker reads is its own task's, both tasks are answered in the end, and who waits comes back.
 *
 * Variants that must be caught: -DNO_COUNT  the slot is used again while somebody is about to sleep on it	-DFINISH_ANY  FINISHED is stored, whoever has the word
 *	-DBLIND_CLAIM  nobody looks whether the cell carries the ticket      -DSTORE_WAIT  WAIT is stored, not by compare-and-swap
 */
#define TICKETS 3
#define NONE 7

#define OPEN 0
#define RUNNING 1
#define FINISHED 2

/* The claim word. */
byte ticket = NONE, status, owner;
bool wait_flag;

byte cell = NONE, answered = NONE, tail;
byte task_in = NONE, ticket_in = NONE, counted; /* the parent's */
byte runs[2];
bool settled[2], asleep, back, locked;

inline lock() { atomic { !locked -> locked = true } }
inline unlock() { locked = false }

proctype worker(byte me)
{
	byte t, seen_ticket, seen_status, seen_owner, k;
	bool seen_wait, w;

end_idle:
	do
	:: atomic {
		tail > 0 -> t = 0
	   };
	   if :: t + 1 < tail -> t++ :: true fi;
	   if :: t + 1 < tail -> t++ :: true fi;
	   d_step { seen_ticket = ticket; seen_status = status; seen_owner = owner; seen_wait = wait_flag };
	   if
	   :: seen_ticket == t && seen_status != OPEN
#ifndef BLIND_CLAIM
	   :: !(seen_ticket == t && seen_status != OPEN) && cell != t
#endif
	   :: else ->
		if
		:: atomic {
			ticket == seen_ticket && status == seen_status && owner == seen_owner && wait_flag == seen_wait ->
			wait_flag = (ticket == t -> wait_flag : false);
			ticket = t;
			status = RUNNING;
			owner = me
		   };
			k = task_in; /* what the cell holds */
			assert(k != NONE && ticket_in == t);
			runs[k]++;
			assert(runs[k] == 1);
			assert(task_in == k && ticket_in == t); /* it goes on reading */
			answered = t;
#ifdef FINISH_ANY
			atomic { status = FINISHED; w = wait_flag };
#else
			atomic {
				if
				:: ticket == t -> assert(status == RUNNING && owner == me); status = FINISHED; w = wait_flag
				:: else -> w = false
				fi
			};
#endif
			if :: w -> asleep = false :: else fi
		:: else
		fi
	   fi;
	   d_step { t = 0; seen_ticket = 0; seen_status = 0; seen_owner = 0; seen_wait = false; k = 0; w = false }
	od
}

/* The lock is held. */
inline settle()
{
	d_step {
		assert(!settled[task_in]);
		settled[task_in] = true;
		task_in = NONE;
		if :: counted -> asleep = false :: else fi
	}
}

/* Two tasks; the second has to find room. */
proctype parent()
{
	byte k;

	do
	:: k < 2 ->
		lock();
		if
		:: task_in != NONE && answered == ticket_in -> settle()
		:: else
		fi;
		if
#ifdef NO_COUNT
		:: task_in == NONE ->
#else
		:: task_in == NONE && !counted ->
#endif
			atomic { task_in = k; ticket_in = tail };
			cell = tail;
			tail++;
			k++
		:: task_in != NONE && answered != ticket_in && (ticket != ticket_in || status == OPEN) /* it has not been begun: wait */
		:: (task_in != NONE || counted) && !(task_in != NONE && answered == ticket_in) && !(task_in != NONE && (ticket != ticket_in || status == OPEN)) &&
		   tail < TICKETS - 1 -> tail++ /* a hole */
		:: else
		fi;
		unlock();
		if /* nothing is gained by looking again before something has changed */
		:: k == 2
		:: k < 2 -> (task_in == NONE && !counted) || (task_in != NONE && answered == ticket_in) || tail < TICKETS - 1
		fi
	:: else -> break
	od
}

proctype waiter(byte me)
{
	byte t, value_status, value_owner;
	bool waits;

	do
	:: atomic { !locked && (settled[me] || task_in == me) -> locked = true };
	   if
	   :: !settled[me] && answered == ticket_in -> settle()
	   :: else
	   fi;
	   if
	   :: settled[me] -> unlock(); break
	   :: else -> t = ticket_in; counted++
	   fi;
#ifdef NO_COUNT
	   counted--;
#endif
	   unlock();
#ifdef STORE_WAIT
	   if
	   :: ticket == t && status == FINISHED -> waits = false
	   :: else ->
		d_step { value_status = (ticket == t -> status : OPEN); value_owner = (ticket == t -> owner : 0) };
		atomic { ticket = t; status = value_status; owner = value_owner; wait_flag = true; waits = true }
	   fi;
#else
	   atomic {
		if
		:: ticket != t -> ticket = t; status = OPEN; owner = 0; wait_flag = true; waits = true
		:: ticket == t && status != FINISHED -> wait_flag = true; waits = true
		:: else -> assert(answered == t); waits = false /* whoever sees FINISHED finds the answer */
		fi;
		value_status = status;
		value_owner = owner
	   };
#endif
	   if
	   :: waits ->
		atomic { if :: status == value_status && owner == value_owner && wait_flag -> asleep = true :: else fi };
		!asleep
	   :: else
	   fi;
#ifndef NO_COUNT
	   lock();
	   counted--;
	   unlock()
#endif
	od;
	back = true
}

/* When nothing moves any more. */
proctype end_of_all()
{
	timeout;
	assert(back);
	assert(settled[0] || (task_in == 0 && answered == ticket_in));
	assert(settled[1] || (task_in == 1 && answered == ticket_in))
}

init
{
	atomic {
		run worker(1);
		run worker(2);
		run parent();
#ifdef SECOND
		run waiter(1);
#else
		run waiter(0);
#endif
		run end_of_all()
	}
}
