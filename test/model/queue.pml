/* SPDX-License-Identifier: BSD-2-Clause
 *
 * queue.pml: one end of a queue: putters who count an item and wake, getters who sleep until there is one; any of whom may be killed anywhere, once. What
 * lib/ipc/robust.[ch] and queue.c do, step for step, with the sides named as for gets of items (the wait for room is the same thing, mirrored):
 *
 *	put	enter `put` (the kernel hands on a dead owner's: then bell := 1) ; bell? no: count ; yes: bell := 0, news + 1, { count; wake } ; leave
 *	sleep	turn ; bell := 1 inside `put`, or outside if it is taken, then for a nap only ; look ; sleep while news is what it was
 *	take	enter `get`, count, leave (one step here: that it is killed within changes nothing that others look at)
 *
 * Each putter puts one item, each getter takes one; who is killed leaves his undone. Nobody who lives sleeps for ever while there is an item: that would be an
 * invalid end state. An item is not there twice, and those of the living are all there.
 *
 * Variants that must be caught: -DTWO_STEPS  count, then wake, in two system calls	-DNO_MEND  the next owner does not set the bell again
 *	-DNO_NEWS  the wake is all there is to notice		-DNO_NAP  who found the mutex taken sleeps for long
 *	-DNO_TURN_ON  the kernel does not hand on a dead sleeper's turn, which is what a mutex would be that is not robust
 */
#define PUTTERS 2
#define GETTERS 2
#define FREE 255

byte put_owner = FREE, turn = FREE; /* a mutex: who has it */
bool put_died;		    /* its owner died: the next is told */
bool bell;
byte news;
byte put_count, got_count;
bool asleep[GETTERS], napping[GETTERS]; /* in the kernel, on news; for a nap */
byte killed, died_put, died_got; /* at most one is killed; it had put, or taken, its item already or not */
byte ended;

inline wake_all() {
	d_step { asleep[0] = false; asleep[1] = false }
}

/* Anything may be the last step of one of us. A dead owner's mutexes are the kernel's business. */
#define MAY_DIE(me_) if :: atomic { killed == 0 -> killed = 1 }; goto dead :: true fi

proctype putter(byte me) {
	bool rung, counted;

	atomic { put_owner == FREE -> put_owner = me; if :: put_died -> put_died = false; rung = true :: else fi };
#ifndef NO_MEND
	if :: rung -> bell = true :: else fi;
#endif
	MAY_DIE(me);
	rung = bell;
	MAY_DIE(me);
	if
	:: !rung -> put_count++; counted = true
	:: else ->
		bell = false;
		MAY_DIE(me);
#ifndef NO_NEWS
		news++;
		MAY_DIE(me);
#endif
#ifdef TWO_STEPS
		put_count++;
		counted = true;
		MAY_DIE(me);
		wake_all();
#else
		atomic { put_count++; counted = true; wake_all() };
#endif
	fi;
	MAY_DIE(me);
	put_owner = FREE;
	goto done;
dead:	skip;
	d_step {
		if :: !counted -> died_put++ :: else fi;
		if :: put_owner == me -> put_owner = FREE; put_died = true :: else fi
	};
done:	ended++
}

proctype getter(byte me) {
	byte seen; bool inside, took;

	atomic { turn == FREE -> turn = me };
	do
	:: MAY_DIE(me);
	   atomic {
		if
		:: put_owner == FREE -> put_owner = PUTTERS + me; inside = true; put_died = false /* the bell is set anyway */
		:: else -> inside = false
		fi
	   };
	   bell = true;
	   seen = news;
	   MAY_DIE(me);
	   if :: inside -> put_owner = FREE :: else fi;
	   MAY_DIE(me);
	   if
	   :: atomic { put_count > got_count -> got_count++; took = true }; break
	   :: else
	   fi;
	   /* the kernel compares and queues in one step */
#ifdef NO_NAP
	   atomic { if :: news == seen -> asleep[me] = true :: else fi };
#else
	   atomic { if :: news == seen -> asleep[me] = true; napping[me] = !inside :: else fi };
#endif
	   if
	   :: !asleep[me]
	   :: asleep[me] && napping[me] -> asleep[me] = false /* its time is up */
	   :: atomic { asleep[me] && killed == 0 -> killed = 1; asleep[me] = false }; goto dead
	   fi;
	   napping[me] = false
	od;
	MAY_DIE(me);
	turn = FREE;
	goto done;
dead:	skip;
	d_step {
		if :: !took -> died_got++ :: else fi;
		if :: put_owner == PUTTERS + me -> put_owner = FREE; put_died = true :: else fi;
#ifndef NO_TURN_ON
		if :: turn == me -> turn = FREE :: else fi
#endif
	};
done:	ended++
}

/* With a putter dead before his put, one getter has nothing to get: another puts for him, late, so that "nobody sleeps for ever" can be asked of all. */
proctype late_putter() {
	if
	:: died_put > 0 -> run putter(1)
	:: died_put == 0 && ended == PUTTERS + GETTERS -> skip
	fi
}

init {
	atomic {
		run putter(0);
		run putter(1);
		run getter(0);
		run getter(1);
		run late_putter()
	};
	(ended == PUTTERS + GETTERS + died_put);
	assert(put_count == PUTTERS);
	assert(got_count + died_got == GETTERS);
	assert(put_count - got_count == died_got)
}
