/* SPDX-License-Identifier: BSD-2-Clause
 *
 * park.pml: the threads of lib/thread/: who sleeps, who is woken, who watches, who leaves. Submitters, W workers of which LIMIT may be awake, and the stores of
 * each that are still on their way: a store may pass later loads until its thread executes a locked instruction, a fence or a call, or any thread a membarrier.
 *
 *	submit   slot := f · (light fence) · parked? no -> done · watched? -> done · fence · search? -> done · wake one           (thread_executor.c, parking.c)
 *	wake     enough awake? -> a sentinel · search := 1 by CAS · take a bit, parked-- · role, bell · nobody: give back, look again
 *	look     a queue, or what others have in their batches · search := 0 · claim · look again, wake the next               (thread_worker.c)
 *	park     parked++ · bit · search := 0 · HEAVY FENCE · look everywhere · something: take back the bit · nothing: sleep on the bell
 *	watch    stuck and work -> replace them; all asleep and no work -> go too; sentinel := 0 · HEAVY FENCE · look everywhere
 *	wait     pending -> run it here; else blocked++ · fence · look, wake one · sleep · blocked--                              (waiting.c)
 *	close    light := 0 · fence everywhere · stop := 1 · wake all · the last who leaves wakes · work left: wake one
 *	retire   after QUOTA tasks a successor takes the place
 *
 * Task 0 ends only when task 1 has ended, and does not tell the pool that it waits; or (NEST) it submits task 1, and waits for it. So neither may stay behind the other.
 * When nothing moves any more both have ended, all workers are parked and counted, and nobody holds the token or watches.
 *
 * A look sees all places at once: one that goes from place to place sees at least what was there when it began. The sentinel's timeout comes when it would make a
 * difference. Threads can always be had. Frames and the lane are left out, they are one more place to look at.
 *
 * Runs: two submitters · -DONE  one, both in one queue · -DLIMIT=1  two workers on one CPU · -DNEST · -DNEST -DW=1 · -DCLOSE  a closer, too · -DQUOTA=1
 *
 * Variants that must be caught: -DNO_LOOK  park does not look after its bit         -DNO_HEAVY  … looks without its fence
 *	-DNO_FENCE  a submit trusts the searcher without a fence                  -DTOKEN_LATE  a finder gives the token back after its look
 *	-DTOKEN_KEPT  who searches goes to sleep with the token                   -DTOKEN_RETIRES  … or hands its place over with it
 *	-DWRONG_BELL  one's bit is taken, another's bell rings                    -DGIVE_UP  who found nobody to wake does not look for a bit again
 *	-DNO_PASS  a finder does not look for more                                -DFORGETFUL  … nor does who gave up its search before it found something
 *	-DUNCOUNTED  a bit without parked++                                       -DBATCH_UNSEEN  what is in batches is not looked at
 *	-DWATCH_NONE  no sentinel where enough are awake                          -DWATCH_LEAVES  the sentinel does not look again
 *	-DNO_HELP  who waits does not run it itself                               -DLEAVE_BLIND  who leaves does not look again
 *	-DSTOP_UNSEEN  … nor, for `stop`, who parks
 */
#ifndef W
#define W 2
#endif
#ifndef LIMIT
#define LIMIT 2
#endif
#ifndef STUCK
#define STUCK 0 /* one more worker, that never comes back */
#endif
#ifndef QUOTA
#define QUOTA 200
#endif
#define NOBODY 255
#define THREADS (W + 2) /* workers, then who is outside */
#define ALL (2 * W - 1) /* bits of one worker, or of two */

#define PENDING 1
#define RUNNING 2
#define ENDED 3

#define SEARCHER 0
#define WORKER 1
#define SENTINEL 2

/* tasks; sets of them have bits 1 and 2 */
#ifdef THREE
byte state[3];
#else
byte state[2];
#endif
byte hints;	/* in queues, for all to see */
byte batch[W];	/* in a worker's batch, not begun */

/* what is still on its way: slots, and search := 0 */
byte slots[THREADS];
bool free_token[W];

/* the pool's words */
byte parked = W, bits = ALL, blocked, alive, alive_bits;
bool search, sentinel, light = true, stop;
byte role[W];
bool bell[W];

#define awake (W + STUCK - parked - blocked - sentinel)
#define crowded (sentinel && awake >= LIMIT)
#define want_wake (parked != 0 && !search && !crowded)
#ifdef THREE
#define pending ((state[0] == PENDING) + 2 * (state[1] == PENDING) + 4 * (state[2] == PENDING))
#else
#define pending ((state[0] == PENDING) + 2 * (state[1] == PENDING))
#endif
#ifdef BATCH_UNSEEN
#define work hints
#elif W == 1
#define work (hints || (batch[0] & pending))
#else
#define work (hints || ((batch[0] | batch[1]) & pending))
#endif

/* ---- fences ---- */

/* In a step of x: all that it has stored is there. */
inline drain(x)
{
	hints = hints | slots[x];
	slots[x] = 0;
	if
	:: x < W && free_token[x] -> search = false; free_token[x] = false
	:: else
	fi
}

inline drain_all()
{
	drain(0);
	drain(1);
	drain(2);
#if W > 1
	drain(3)
#endif
}

inline heavy_fence(x)
{
	d_step {
		if
		:: light -> drain_all()
		:: else -> drain(x)
		fi
	}
}

/* What is stored arrives when it likes, in order. */
#define arrives(x) d_step { slots[x] -> \
	if \
	:: slots[x] & 4 -> slots[x] = slots[x] - 4; hints = hints | 4 \
	:: (slots[x] & 5) == 1 -> slots[x] = slots[x] - 1; hints = hints | 1 \
	:: else -> slots[x] = 0; hints = hints | 2 \
	fi }

proctype memory()
{
end_memory:
	do
#if defined(NEST)
	:: arrives(0)
#if W > 1
	:: arrives(1)
#endif
#endif
	:: arrives(W)
	:: arrives(W + 1)
	:: d_step { free_token[0] -> free_token[0] = false; search = false }
#if W > 1
	:: d_step { free_token[1] -> free_token[1] = false; search = false }
#endif
	od
}

/* ---- wakes ---- */

/* v: whose bit was taken. */
inline take_any(among)
{
	d_step {
		if
		:: bits & (among) & 1 -> bits = bits & ~1; v = 0
		:: else ->
			if
			:: bits & (among) & 2 -> bits = bits & ~2; v = 1
			:: else -> v = NOBODY
			fi
		fi
	};
	if
	:: v != NOBODY -> parked--
	:: v == NOBODY
	fi
}

/* The caller holds v's place. A wake is a call: what x has stored is there. */
inline ring(x, r)
{
	d_step {
		drain(x);
		role[v] = r;
		if
		:: alive_bits & (1 << v)
		:: else -> alive_bits = alive_bits | (1 << v); alive++
		fi;
#ifdef WRONG_BELL
		bell[(v + 1) % W] = true;
#else
		bell[v] = true;
#endif
		v = 0
	}
}

inline wake_one(x)
{
	do
	:: parked == 0 -> break
	:: atomic { parked != 0 && awake >= LIMIT ->
		if
#ifndef WATCH_NONE
		:: !sentinel -> sentinel = true; drain(x)
		:: else -> break
#else
		:: true -> break
#endif
		fi };
		take_any(ALL);
		if
		:: v != NOBODY -> ring(x, SENTINEL); break
		:: v == NOBODY -> d_step { sentinel = false; v = 0 }
		fi;
		nobody_there()
	:: atomic { parked != 0 && awake < LIMIT ->
		if
		:: !search -> search = true; drain(x)
		:: else -> break
		fi };
		take_any(ALL);
		if
		:: v != NOBODY -> ring(x, SEARCHER); break
		:: v == NOBODY -> d_step { search = false; v = 0 }
		fi;
		nobody_there()
	od;
	skip
}

/* Who relied on what was given back must be seen: here, or by those who were not to be had because they are on their way to look. */
inline nobody_there()
{
#ifdef GIVE_UP
	break
#else
	if
	:: work && bits
	:: !(work && bits) -> break
	fi
#endif
}

/* Who relied on us? */
inline look_and_wake(x)
{
	if
	:: want_wake && work -> wake_one(x)
	:: !(want_wake && work)
	fi
}

inline submit(x, t)
{
	d_step {
		state[t] = PENDING;
		slots[x] = slots[x] | (1 << t);
		if
		:: light
		:: else -> drain(x)
		fi
	};
	if
	:: parked == 0 || crowded
	:: !(parked == 0 || crowded) ->
#ifndef NO_FENCE
		d_step { drain(x) };
#endif
		if
		:: want_wake -> wake_one(x)
		:: !want_wake
		fi
	fi
}

/* ---- workers ---- */

/* In a step of ours. */
inline give_back_token()
{
	if
	:: searching -> searching = false; free_token[me] = true; searched = true
	:: else
	fi
}

#define may_search (W > 1 && LIMIT > 1 && !search && awake <= LIMIT)

/* Its end. */
inline run_task(t)
{
	quota--;
	if
	:: t == 0 ->
#ifdef NEST
		submit(me, 1);
		if
#ifndef NO_HELP
		:: atomic { state[1] == PENDING -> state[1] = RUNNING; drain(me) };
			state[1] = ENDED
		:: state[1] != PENDING ->
#else
		:: true ->
#endif
			d_step { blocked++; drain(me) };
			look_and_wake(me);
			state[1] == ENDED;
			blocked--
		fi;
		state[0] = ENDED
#else
		atomic { state[1] == ENDED -> state[0] = ENDED }
#endif
	:: t != 0 -> state[t] = ENDED
	fi
}

#ifdef FORGETFUL
#define owes_a_look had
#else
#define owes_a_look searched
#endif
#ifdef NO_PASS
#define must_look false
#else
#define must_look (got || left || owes_a_look)
#endif

/* Out of one queue; or one of another's batch, with its claim; or nothing. `left`: there is more in the queue. */
inline look()
{
	atomic {
		if
#if defined(ONE) && LIMIT == 1
		:: hints -> got = hints
#elif defined(ONE)
		:: hints -> got = (hints & 1 -> 1 : 2); left = hints == 3
#elif defined(THREE)
		:: hints & 4 -> got = 4; left = hints & 1
		:: (hints & 5) == 1 -> got = 1
		:: hints & 2 -> got = 2
#else
		:: hints & 1 -> got = 1
		:: hints & 2 -> got = 2
#endif
		:: else
		fi;
		if
		:: got -> hints = hints - got; drain(me)
#if W > 1 && !defined(BATCH_UNSEEN)
		:: !got && (batch[1 - me] & pending) ->
			t = (batch[1 - me] & pending & 2 -> 1 : (batch[1 - me] & pending & 1 -> 0 : 2));
			state[t] = RUNNING;
			mine = true;
			drain(me)
#endif
		:: else
		fi
	}
}

proctype worker(byte me)
{
	byte t, got, v, quota = QUOTA;
	bool searching, searched, had, left, mine, first, batched;

end_dead:
	atomic { bell[me] && (alive_bits & (1 << me)) -> bell[me] = false };
woken:	/* by who held the place */
	if
	:: role[me] == SENTINEL -> goto watch
	:: role[me] != SENTINEL -> searching = role[me] == SEARCHER
	fi;
loop:
	if
	:: quota == 0 -> d_step { quota = QUOTA; searching = false; role[me] = WORKER } /* a successor knows nothing of what this thread owed */
	:: quota != 0
	fi;
	look();
	if
	:: got ->
		d_step {
			had = searching;
#ifndef TOKEN_LATE
			give_back_token();
#endif
			batch[me] = got;
			first = true;
			batched = true
		}
	:: mine ->
		d_step { give_back_token(); searched = false; drain(me) };
		goto wake
	:: !got && !mine -> goto nothing
	fi;
batch_next:
	atomic {
		t = (got & 1 -> 0 : (got & 2 -> 1 : 2));
		got = got - (1 << t);
		batch[me] = got;
		if
		:: state[t] == PENDING -> state[t] = RUNNING; mine = true
		:: else
		fi;
		drain(me)
	};
	if
	:: first && must_look -> goto wake
	:: !(first && must_look) -> goto passed_on
	fi;
wake:	look_and_wake(me);
passed_on:
	atomic {
#ifdef TOKEN_LATE
		give_back_token();
#endif
		first = false;
		searched = false;
		had = false
	};
	if
	:: mine -> mine = false; run_task(t)
	:: !mine
	fi;
	if
	:: got -> goto batch_next
	:: !got
	fi;
	atomic {
		t = 0;
		if
#ifdef TOKEN_RETIRES
		:: batched && !left && may_search && !searching -> search = true; searching = true; drain(me)
#else
		:: batched && !left && may_search && !searching && quota != 0 -> search = true; searching = true; drain(me)
#endif
		:: else
		fi;
		batched = false;
		left = false
	};
	goto loop;

nothing: /* spin: once more, with the token */
	atomic {
		if
		:: !searching && !stop && may_search -> search = true; searching = true; drain(me); goto loop
		:: else
		fi
	};
	if
	:: stop ->
		d_step { give_back_token(); drain(me) };
		if
		:: work -> goto loop
		:: !work -> goto leave
		fi
	:: !stop
	fi;
	/* park */
	d_step {
#ifndef UNCOUNTED
		parked++;
#endif
		drain(me)
	};
	d_step {
		bits = bits | (1 << me);
		drain(me);
#ifndef TOKEN_KEPT
		give_back_token()
#endif
	};
#ifndef NO_HEAVY
	heavy_fence(me);
#endif
#ifndef NO_LOOK
	if
#ifdef STOP_UNSEEN
	:: work -> goto take_back
	:: !work
#else
	:: stop || work -> goto take_back
	:: !(stop || work)
#endif
	fi;
#endif
	searched = false;
asleep:	atomic { drain(me) }; /* a sleep is a call */
end_parked:
	atomic { bell[me] -> bell[me] = false };
	goto woken;
take_back:
	atomic {
		if
		:: bits & (1 << me) -> bits = bits - (1 << me); drain(me)
		:: else -> goto asleep
		fi
	};
	parked--;
	goto loop;

watch:	/* the sentinel's sleep ends when its look would let it go on */
end_watch:
	if
	:: stop
	:: work && W + STUCK - 1 - (parked + blocked) > 0
	:: !work && parked + blocked >= W + STUCK - 1
	fi;
	d_step { sentinel = false; role[me] = WORKER };
#ifdef WATCH_LEAVES
	goto loop;
#else
	heavy_fence(me);
	goto wake; /* and then it searches as everybody does */
#endif

leave:	skip;
	d_step { alive_bits = alive_bits - (1 << me); parked++; drain(me) };
	d_step { bits = bits | (1 << me); drain(me) };
#ifndef LEAVE_BLIND
	heavy_fence(me);
	atomic {
		if
		:: work && (bits & (1 << me)) -> bits = bits - (1 << me); drain(me); mine = true
		:: else
		fi
	};
	if
	:: mine -> d_step { mine = false; parked--; alive_bits = alive_bits | (1 << me) }; goto loop
	:: !mine
	fi;
#endif
	d_step { searched = false; alive-- };
	goto end_dead
}

/* ---- outside ---- */

proctype submitter(byte me; byte t; byte then)
{
	byte v;

#ifdef THREE
	if
	:: me == W + 1 -> state[0] == RUNNING
	:: me == W
	fi;
#endif
	do
	:: t == NOBODY -> break
	:: t != NOBODY -> submit(me, t); d_step { t = then; then = NOBODY }
	od
}

proctype closer()
{
	byte v;

	d_step { light = false; drain_all() };
	stop = true;
	do /* wake all */
	:: take_any(alive_bits);
		if
		:: v != NOBODY -> d_step { role[v] = WORKER; bell[v] = true; v = 0 }
		::	v == NOBODY -> v = 0; break
		fi
	od;
	do
	:: atomic { alive == 0 ->
		if
		:: work
		:: else -> break
		fi };
		wake_one(W + 1);
		alive != 0 || !work /* it gives way, and looks again */
	od
}

/* When nothing moves any more. */
proctype end_of_all()
{
	timeout;
	d_step {
		assert(state[0] == ENDED && state[1] == ENDED);
		assert(parked == W - (STUCK && sentinel) && blocked == 0);
		assert(!search && (STUCK || !sentinel && bits == ALL))
	}
}

init {
	atomic {
		run memory();
		run worker(0);
#if W > 1
		run worker(1);
#endif
#ifndef IDLE /* they were at work until now */
		parked = 0;
		bits = 0;
		alive_bits = ALL;
		alive = W;
		role[0] = WORKER;
		bell[0] = true;
#if W > 1
		role[1] = WORKER;
		bell[1] = true;
#endif
#endif
#if defined(NEST)
		run submitter(W, 0, NOBODY);
#elif defined(ONE)
		run submitter(W, 0, 1);
#elif defined(THREE)
		run submitter(W, 2, 0);
		run submitter(W + 1, 1, NOBODY);
#else
		run submitter(W, 0, NOBODY);
		run submitter(W + 1, 1, NOBODY);
#endif
#ifdef CLOSE
		run closer();
#endif
		run end_of_all()
	}
}
