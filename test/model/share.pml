/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share.pml: a shared outcome, as lib/ipc/outcome.c has it, in two parts.
 *
 * -DLIFE: three processes have it, one from the start, two by its handle, and leave. Nobody who was let in finds it freed under him; when all have left
 * it is free.
 *
 *	open    stake := mine; look at life: ALIVE -> in; DYING -> CAS to ALIVE; FREE -> stake := 0
 *	leave   stake := 0; retire
 *	retire  life ALIVE -> DYING; no stakes -> CAS to FREE, of the very version that was DYING when the look began
 *
 * Else: two setters of which each may be killed at any step, two that hold it and wait now and then, and one who waits and looks. The outcome is
 * written once; he who waits comes to an end; it is broken for want of a keeper only if there was a moment without one.
 *
 *	set     word: PENDING -> CLAIMED by me; the outcome; -> DONE
 *	look    word CLAIMED by a dead one -> CLAIMED by me, broken; two looks at all stakes, the same words both times, no keeper -> claim, broken
 *
 * Variants that must be caught. -DLIFE: -DNO_LOOK  who opens does not look at life again    -DNO_VERSION  FREE by CAS on the state alone
 *	-DNO_REVIVE  who opens takes DYING for ALIVE    -DONE_LOOK_FREE  FREE without a look after DYING
 * Else: -DNO_TAKEOVER  nobody takes over from a dead claimer    -DONE_LOOK  one look at the stakes is enough
 *	-DNO_COUNT  changes of a stake leave its counter    -DLATE_CLAIM  the outcome is written before the claim
 */
#ifdef LIFE

#define FREE 0
#define ALIVE 1
#define DYING 2
#define N 3

byte state = ALIVE, version = 0;
bool stake[N];
bool inside[N];
byte freed;

inline look_at_stakes(found) {
	found = false;
	i = 0;
	do
	:: i < N -> if :: stake[i] -> found = true :: else fi; i++
	:: else -> break
	od
}

inline retire() {
	do
	:: atomic { s = state; v = version };
		if
		:: s == FREE -> break
		:: else
		fi;
#ifdef ONE_LOOK_FREE
		if
		:: s == ALIVE -> look_at_stakes(found); if :: found -> break :: else fi
		:: else
		fi;
#else
		look_at_stakes(found);
		if
		:: found -> break
		:: else
		fi;
#endif
		if
		:: s == ALIVE ->
			atomic { if :: state == s && version == v -> state = DYING; version++ :: else fi }
		:: s == DYING ->
#ifdef NO_VERSION
			atomic { if :: state == s -> ok = true; state = FREE :: else -> ok = false fi };
#else
			atomic { if :: state == s && version == v -> ok = true; state = FREE; version++ :: else -> ok = false fi };
#endif
			if
			:: ok ->
				freed++;
				assert(freed == 1);
				i = 0;
				do
				:: i < N -> assert(!inside[i]); i++
				:: else -> break
				od;
				break
			:: else
			fi
		fi
	od
}

proctype holder(byte me; bool first) {
	byte s, v, i; bool found, ok, in;

	if
	:: first -> in = true
	:: else ->
		atomic { if :: state == FREE -> in = false :: else -> in = true fi };
		if
		:: in ->
			stake[me] = true;
#ifndef NO_LOOK
			do
			:: atomic { s = state; v = version };
				if
				:: s == FREE -> in = false; break
				:: s == ALIVE -> atomic { if :: state == ALIVE && version == v -> inside[me] = true :: else fi }; if :: inside[me] -> break :: else fi
				:: s == DYING ->
#ifdef NO_REVIVE
					inside[me] = true; break;
#endif
					atomic { if :: state == s && version == v -> state = ALIVE; version++; inside[me] = true :: else fi };
					if :: inside[me] -> break :: else fi
				fi
			od;
#else
			inside[me] = true;
#endif
			if
			:: !in -> /* where the place may have been used again there would be a retire() here */
				stake[me] = false
			:: else
			fi
		:: else
		fi
	fi;
	if
	:: in ->
		assert(state != FREE);
		inside[me] = false;
		stake[me] = false;
		retire()
	:: else
	fi
}

init {
	atomic { stake[0] = true; inside[0] = true; run holder(0, true); run holder(1, false); run holder(2, false) };
	_nr_pr == 1;
	assert(state == FREE && freed == 1)
}

#else /* how it ends */

#define PENDING 0
#define CLAIMED 1
#define DONE 2

byte word, claimer;	/* 0, 1: setters; 2: he who looks */
byte written;
bool dead[2];
bool keeper[4];		/* setters, then those who hold it and wait now and then */
byte count[4];
bool nobody;		/* there was a moment without a keeper */
bool ended;

inline weigh() {
	if
	:: !keeper[0] && !keeper[1] && !keeper[2] && !keeper[3] -> nobody = true
	:: else
	fi
}

#ifdef NO_COUNT
#define CHANGE(i_)
#else
#define CHANGE(i_) count[i_]++
#endif

inline set_stake(i_, k_) {
	atomic { keeper[i_] = k_; CHANGE(i_); weigh() }
}

/* Killed at any step: what it had stays as it was, until somebody takes it out. */
inline step() {
	if
	:: true
	:: !dead[me] -> atomic { dead[me] = true; goto killed }
	fi
}

proctype setter(byte me) {
	bool mine;

	step();
#ifdef LATE_CLAIM
	written++;
	assert(written == 1);
#endif
	atomic { if :: word == PENDING -> word = CLAIMED; claimer = me; mine = true :: else fi };
	step();
	if
	:: mine ->
#ifndef LATE_CLAIM
		assert(word == CLAIMED && claimer == me);
		step();
		written++; /* as the last of several stores */
#endif
		atomic { assert(word == CLAIMED && claimer == me && written == 1); word = DONE }
	:: else
	fi;
	step();
	set_stake(me, false); /* given back */
	goto out;
killed:
	if
	:: word == CLAIMED && claimer == me && written == 1 -> written = 0 /* half-written: does not count */
	:: else
	fi;
out:	skip
}

proctype fickle(byte me; bool k) {
	set_stake(me, !k);
	set_stake(me, k);
	set_stake(me, !k);
	set_stake(me, k);
	if :: k -> set_stake(me, false) :: else fi
}

inline look(found, print) {
	found = false;
	print = 0;
	i = 0;
	do
	:: i < 4 ->
		atomic {
			if
			:: i < 2 && dead[i] && keeper[i] -> keeper[i] = false; weigh() /* taken out */
			:: else
			fi;
			if
			:: keeper[i] -> found = true
			:: else
			fi;
			print = print + (count[i] << (3 * i)) /* its counter stands for the word: nobody has two stakes here */
		};
		i++
	:: else -> break
	od
}

inline break_it() {
	assert(word == CLAIMED && claimer == 2);
	written++;
	assert(written == 1);
	word = DONE
}

proctype waiter() {
	byte i; short first, second; bool found;

	do
	:: word == DONE -> break
#ifndef NO_TAKEOVER
	:: atomic { word == CLAIMED && claimer < 2 && dead[claimer] -> claimer = 2 };
		break_it()
#endif
	:: word == PENDING ->
		look(found, first);
		if
		:: !found ->
#ifdef ONE_LOOK
			second = first;
#else
			look(found, second);
#endif
			if
			:: !found && first == second ->
				if
				:: atomic { word == PENDING -> word = CLAIMED; claimer = 2 }; assert(nobody); break_it()
				:: word != PENDING
				fi
			:: else
			fi
		:: else
		fi
	od;
	assert(written == 1);
	ended = true
}

init {
	atomic {
		keeper[0] = true; keeper[1] = true;
#ifdef TWO
		run setter(0);
		run setter(1);
#else
		keeper[0] = false; keeper[1] = false; keeper[2] = true; count[2] = 1;
		run fickle(2, true);
		run fickle(3, false);
#endif
		run waiter()
	};
	_nr_pr == 1;
	assert(ended)
}
#endif
