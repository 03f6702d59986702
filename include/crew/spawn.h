/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spawn.h: fork and join inside a task, in Cilk's words (no process is involved; CREW_START_SPAWN is
 * another thing).
 *
 *	crew_spawn(fib, a, n - 1);	a may run elsewhere from here on; its frame lives on this stack
 *	long b = fib(n - 2);
 *	return crew_sync(fib, a) + b;
 *
 * crew_spawn is a declaration: it belongs in a block, not behind an `if (…)` alone, and must not be
 * jumped over by goto or case. In a loop's block it is joined at the end of each turn, that is,
 * serially: use crew_for(). `name` lives in a namespace of its own. Syncs may come in any order; the
 * last spawned first is the fastest. A second sync of one name gives the same value again. What is not
 * synced is joined at the end of its block, on every way out of it but longjmp and pthread_exit, which
 * are forbidden across it. A raise in a spawned call marks the enclosing task.
 *
 * On a worker thread a spawn is a push on the worker's own stack of frames, with no fence and no
 * atomic: the owner tells the frames it keeps private (from `split` up) from those thieves may take
 * (below). `limit` is the one word that others write: a thief that wants work sets it to 0, which sends
 * the next spawn down the slow path, where some frames are made public. Anywhere else all words are 0,
 * and both are plain calls. After Lace (van Dijk, van de Pol, 2014).
 */
#pragma GCC system_header
#ifndef CREW_SPAWN_H
#define CREW_SPAWN_H

#include <crew/task.h>

struct crew_frame {
	void (*run)(struct crew_frame *); /* owner writes before the push */
	void *task;			  /* the future of the enclosing task; owner writes before it shares the frame */
	void *raised, *blocks;		  /* what the call left behind; the thief's, read by the owner once state says done */
	uint32_t state;			  /* 0 shared, 1 done, 2 its owner sleeps; thief and owner */
	uint32_t thief;			  /* who took it, and how high its own frames stood then; thief writes, owner reads */
};

/* This thread's frames. All but `limit` are the owner's alone. */
struct crew_frames {
	struct crew_frame **head, **limit, **split;
	void *worker;
};
CREW_API extern __thread struct crew_frames crew_frames __attribute__((__tls_model__("initial-exec")));

CREW_API struct crew_frame **crew_spawn_slow(struct crew_frame *frame);		  /* where it was put; NULL: nowhere */
CREW_API int crew_sync_slow(struct crew_frame *frame, struct crew_frame **slot); /* 1: it ran elsewhere */

#define CREW__INLINE static inline __attribute__((__always_inline__, __unused__))

CREW__INLINE struct crew_frame **crew__push(struct crew_frame *frame)
{
	struct crew_frame **slot = crew_frames.head;

	if (__builtin_expect(slot < __atomic_load_n(&crew_frames.limit, __ATOMIC_RELAXED), 1)) {
		*slot = frame;
		crew_frames.head = slot + 1;
	} else {
		slot = crew_spawn_slow(frame);
	}
	return slot;
}

/* True: the frame is ours again and its function is to be called here. */
CREW__INLINE bool crew__pop(struct crew_frame *frame, struct crew_frame **slot)
{
	bool top = (uintptr_t)slot + sizeof slot == (uintptr_t)crew_frames.head;

	if (__builtin_expect(slot >= crew_frames.split && top, 1)) {
		crew_frames.head = slot;
		return true;
	}
	return !crew_sync_slow(frame, slot);
}

/* The frame is shared and lies in memory; the joint is the spawner's alone, lives in registers and remembers
   what is still to be done. */
#define CREW__SPAWNABLE(R_, T_, ...)                                                                           \
	struct T_##_crew_frame {                                                                               \
		struct crew_frame head;                                                                        \
		struct T_##_crew_args args;                                                                    \
		CREW__VALUE(R_) result;                                                                        \
	};                                                                                                     \
	struct T_##_crew_joint {                                                                               \
		struct T_##_crew_frame *frame;                                                                 \
		struct crew_frame **slot;                                                                      \
		bool open; /* not synced yet */                                                                \
		CREW__VALUE(R_) value;                                                                         \
	};                                                                                                     \
	static CREW__UNUSED void T_##_crew_stolen(struct crew_frame *crew_f_)                                  \
	{                                                                                                      \
		struct T_##_crew_frame *crew_t_ = (struct T_##_crew_frame *)crew_f_;                           \
		T_##_crew_task.run(&crew_t_->args, &crew_t_->result);                                          \
	}                                                                                                      \
	CREW__INLINE void T_##_crew_spawn(struct T_##_crew_joint *crew_j_, struct T_##_crew_frame *crew_t_,    \
					  const struct T_##_crew_args *crew_a_)                                \
	{                                                                                                      \
		crew_t_->head.run = T_##_crew_stolen;                                                          \
		__builtin_memcpy((void *)&crew_t_->args, crew_a_, sizeof crew_t_->args);                       \
		crew_j_->frame = crew_t_;                                                                      \
		crew_j_->open = true;                                                                          \
		crew_j_->slot = crew__push(&crew_t_->head);                                                    \
	}                                                                                                      \
	CREW__INLINE CREW__VALUE(R_) T_##_crew_sync(struct T_##_crew_joint *crew_j_,                           \
						    struct T_##_crew_args *crew_a_)                            \
	{                                                                                                      \
		(void)crew_a_;                                                                                 \
		if (crew_j_->open) {                                                                           \
			crew_j_->open = false;                                                                 \
			if (crew__pop(&crew_j_->frame->head, crew_j_->slot))                                   \
				crew_j_->value = CREW__INVOKE(R_, T_, crew_a_, __VA_ARGS__);                   \
			else                                                                                   \
				crew_j_->value = crew_j_->frame->result;                                       \
		}                                                                                              \
		return crew_j_->value;                                                                         \
	}                                                                                                      \
	CREW__INLINE void T_##_crew_join(struct T_##_crew_joint *crew_j_)                                      \
	{                                                                                                      \
		if (crew_j_->open && crew__pop(&crew_j_->frame->head, crew_j_->slot))                          \
			T_##_crew_stolen(&crew_j_->frame->head);                                               \
	}

#define crew_spawn(T_, ...) \
	CREW__PASTE(CREW__SPAWN_, CREW__MANY(__VA_ARGS__))(T_, __VA_ARGS__)
#define CREW__SPAWN_1(T_, name_) CREW__SPAWN(T_, name_, CREW__FILL(T_))
#define CREW__SPAWN_M(T_, name_, ...) CREW__SPAWN(T_, name_, CREW__FILL(T_, __VA_ARGS__))
#define CREW__SPAWN(T_, name_, arguments_)                                                          \
	struct T_##_crew_args crew_with_##name_ = *arguments_;                                      \
	struct T_##_crew_frame crew_frame_##name_;                                                  \
	struct T_##_crew_joint crew_open_##name_ __attribute__((__cleanup__(T_##_crew_join)));      \
	T_##_crew_spawn(&crew_open_##name_, &crew_frame_##name_, &crew_with_##name_)
#define crew_sync(T_, name_) T_##_crew_sync(&crew_open_##name_, &crew_with_##name_)

#endif
