/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nested.pml: one errand, from its offer to its end: lib/process/errand.h, offer.c, worker_executor.c, errand.c.
 *
 * Worker A offers a task and waits for it. The engine may take it, or find no room and give it back. Worker B may run it, and may die on the way; with
 * -DSOLO there is no B. Every sleep is a futex: who sleeps with an outdated value does not sleep, who changes it wakes whom it sees waiting.
 *
 *	the task runs once, or not at all where B died with it · A always comes back
 */
mtype = { FREE, OFFERED, TAKEN, NONE, PLACED, DONE, QUEUED, RUNS_A, RUNS_B, FINISHED };

mtype word = FREE, reply = NONE, claim = NONE;
byte replied, runs;
bool waits, woken, b_dead, a_back;

inline once() { runs++; assert(runs <= 1) }

/* errand.c, tell() */
inline tell() { replied++; if :: waits -> woken = true :: else fi }

/* sleep_here(), await_reply(): `seen` was loaded before the last look */
inline sleep()
{
#ifdef BLIND_SLEEP
	if :: replied == seen -> waits = true; woken -> woken = false; waits = false :: else fi
#else
	waits = true; woken = false;
	if :: replied == seen -> (woken || replied != seen) :: else fi;
	waits = false
#endif
}

proctype a()
{
	byte seen;

	word = OFFERED;
	do
	:: seen = replied;
	   if
	   :: atomic { word == OFFERED -> word = FREE }; once(); break
	   :: else ->
		if
		:: reply == DONE -> break
		:: reply == PLACED ->
#ifndef NO_CLAIM
			if
			:: atomic { claim == QUEUED -> claim = RUNS_A }; once(); claim = FINISHED; break
			:: else -> sleep()
			fi
#else
			sleep()
#endif
		:: reply == NONE && word != OFFERED -> sleep()
		:: else
		fi
	   fi
	od;
	a_back = true
}

proctype engine()
{
	bool taken;
	byte back; /* more often tells nothing new */

	do
	:: taken = false;
end_idle:  (word == OFFERED);
#ifdef STORE_TAKEN
	   word = TAKEN; taken = true;
#else
	   if :: atomic { word == OFFERED -> word = TAKEN; taken = true } :: else -> break fi;
#endif
	   if
	   :: claim = QUEUED; reply = PLACED; tell(); break
	   :: back < 2 -> back++; word = OFFERED; /* no room */
#ifndef SILENT_BACK
	      tell();
#endif
	      if :: break /* nobody is idle any more */ :: skip fi
	   fi
	od;
end_done:
	if
	:: taken && reply == PLACED ->
end_wait:
		if
		:: claim == FINISHED -> reply = DONE; tell()
#ifndef NO_BURIAL
		:: b_dead && claim == RUNS_B -> reply = DONE; tell()
#endif
		fi
	:: else
	fi
}

proctype b()
{
	bool mine;

end_idle:
	atomic { claim == QUEUED -> claim = RUNS_B; mine = true };
	if
	:: b_dead = true
	:: once();
	   if :: b_dead = true :: claim = FINISHED fi
	fi
}

init
{
	atomic {
		run a();
		run engine();
#ifndef SOLO
		run b();
#endif
	}
	a_back
}
