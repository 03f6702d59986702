/* SPDX-License-Identifier: BSD-2-Clause
 *
 * note.pml: one task whose end somebody wants to be told of, while others wait for it, or give up waiting. The engine sleeps, and logs are hints that it reads
 * once. What lib/process/ does to the shared words, step for step:
 *
 *	finish     answered; word: RUNNING -> FINISHED, flags kept; wake if WAIT; log; ring if NOTE and the engine is parked     (process_worker.c)
 *	subscribe  NOTIFY, or it is done: told at once; word: NOTE unless FINISHED; answered -> settle        (completion.c, process_wait.c: watch)
 *	wait       answered -> settle; word |= WAIT; sleep on it; a time limit may end that, and the flag stays     (process_wait.c)
 *	engine     parked; read the log: answered and wanted -> settle, else never looked at again; nothing: sleep for a bell or a death    (engine.c)
 *	bury       answered -> settle, else it has failed                                                             (burial.c)
 *
 * The worker may be killed anywhere. Whoever settles tells. He who asked is told, once; who waits for ever, with -DPATIENT, comes back. Without him nobody
 * but those told settles.
 *
 * Variants that must be caught: -DNO_LATE_LOOK  subscribing does not look at the answer once more      -DLOG_FIRST  logged before it is answered
 *	-DRING_BLIND  looks whether the engine is parked before it logs       -DNO_RECHECK  the engine says that it is parked after it looked
 *	-DWAIT_SILENCES  a worker that wakes a waiter rings nobody: he may have left      -DNO_BURIAL  what a dead worker finished is not looked at
 */
bool running = true, note, wait_flag; /* the claim word */
bool answered, notify, settled;
byte told, logged;
bool parked, bell, dead, kill_wanted;
bool asleep[2], left[2];

inline settle()
{
	d_step {
		assert(!settled);
		settled = true;
		asleep[0] = false; /* vacate() wakes who is counted at the slot */
		asleep[1] = false;
		if :: notify -> told++ :: else fi
	}
}

proctype worker()
{
	bool n, w, p;
	{
#ifdef LOG_FIRST
	logged++;
#endif
	answered = true;
	atomic { running = false; n = note; w = wait_flag };
	if :: w -> atomic { asleep[0] = false; asleep[1] = false } :: else fi;
#ifdef RING_BLIND
	p = parked;
#endif
#ifndef LOG_FIRST
	logged++;
#endif
#ifndef RING_BLIND
	p = parked;
#endif
#ifdef WAIT_SILENCES
	if :: n && !w && p -> bell = true :: else fi
#else
	if :: n && p -> bell = true :: else fi
#endif
	} unless { atomic { kill_wanted && !dead -> dead = true } }
}

proctype killer() { if :: kill_wanted = true :: skip fi }

/* The lock makes one step of each look of the parent's. */
proctype subscriber()
{
	atomic { if :: settled -> told++ :: else -> notify = true fi };
	atomic {
		if
		:: !settled ->
			if :: running -> note = true :: else fi;
#ifndef NO_LATE_LOOK
			if :: answered -> settle() :: else fi
#endif
		:: else
		fi
	}
}

/* May give up, if he is `hasty`. */
proctype waiter(byte me; bool hasty)
{
	do
	:: atomic { if :: !settled && answered -> settle() :: else fi };
	   if
	   :: settled -> break
	   :: else ->
		atomic { if :: running -> wait_flag = true :: else fi };
		atomic { if :: running && wait_flag && !settled -> asleep[me] = true :: else fi };
		if
		:: !asleep[me]
		:: hasty -> asleep[me] = false; break /* its time is up */
		fi
	   fi
	od;
	left[me] = true
}

proctype engine()
{
	byte read;

	do
	::
#ifndef NO_RECHECK
	   parked = true;
#endif
	   if
	   :: logged != read ->
		read = logged;
		atomic { if :: !settled && answered && notify -> settle() :: else fi };
		parked = false
	   :: else ->
#ifdef NO_RECHECK
		parked = true;
#endif
end_sleep:	if
		:: bell -> bell = false; parked = false
		:: dead && !settled ->
			parked = false;
#ifndef NO_BURIAL
			atomic { if :: !settled -> settle() :: else fi }
#else
			atomic { if :: !settled && !answered -> settle() :: else fi };
			break
#endif
		fi
	   fi
	od
}

/* When nothing moves any more. */
proctype end_of_all()
{
	timeout;
	assert(told == 1);
#ifdef PATIENT
	assert(left[0]);
#endif
	assert(left[1])
}

init
{
	atomic {
		run worker();
		run killer();
		run subscriber();
#ifdef PATIENT
		run waiter(0, false);
#endif
		run waiter(1, true);
		run engine();
		run end_of_all()
	}
}
