/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * task.h: what runs on an executor, and what it may call while it runs.
 *
 *	CREW_TASK(double, power, (double, base), (int, exp))
 *	{
 *		return exp == 0 ? 1 : base * power(base, exp - 1);
 *	}
 *
 * defines a static function `double power(double base, int exp)`, which may be called like any other, and beside it
 * what crew_submit(ex, power, 2.0, 8) needs. Results and parameters are any arithmetic type, structs by value,
 * const char * (copied as a string; NULL stays NULL), crew_bytes (copied with its bytes); pointers too, where the
 * worker shares our memory. 0 to 8 parameters; the result may be void. An array or function pointer parameter needs a
 * typedef. The name of a task is a name, not a value: CREW_TASK_OF(power) is.
 *
 * Arguments are copied when they are submitted, on every executor. A pointer inside a struct cannot be seen, hence not
 * refused: it is copied as it is.
 *
 * Results. A crew_bytes result must lie in memory of crew_result_alloc() and its kin, in the task's own arguments, or
 * in static storage. A const char * result is copied.
 *
 * C++ gets CREW_RAW_TASK, CREW_TASK_DECLARE and all functions; the typed macros are C only. An exception must not leave a task.
 */
#pragma GCC system_header
#ifndef CREW_TASK_H
#define CREW_TASK_H

#include <crew/base.h>
#include <crew/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crew_executor crew_executor;
typedef struct crew_call crew_call;

struct crew_parameter {
	int type;	 /* CREW_TYPE_OF it */
	uint32_t offset; /* in the struct of arguments */
	const char *name;
};

enum crew_task_flags {
	CREW_TASK_DEEP = 1,	/* has string or bytes parameters: copying it is more than a memcpy */
	CREW_TASK_POINTERS = 2, /* has pointer parameters: stays in this process */
	CREW_TASK_RAW_BYTES = 4 /* a raw task: `raw` is called, one crew_bytes in, crew_bytes out */
};

/* What an executor knows of a task. Made by the macros below, constant, one per task. */
typedef struct crew_task {
	uint32_t size; /* of this struct */
	uint32_t flags;
	int result;	    /* type of the result */
	uint32_t arguments; /* size of the struct of arguments, a multiple of 8 */
	uint32_t parameter_count;
	uint32_t reserved_;
	const struct crew_parameter *parameters;
	const char *name, *where;
	void (*run)(void *arguments, void *result); /* result may be where the arguments are */
	int (*raw)(crew_call *call);
	int (*feed)(void (*fn)(void), void *state, void *arguments); /* calls a typed feed of crew_imap() */
} crew_task;

/*
 * Raw tasks: bytes in, bytes out; for C++, other languages, generated code. `int fn(crew_call *)` returns 0, or a
 * negative code to fail with it.
 */
CREW_API crew_bytes crew_call_args(crew_call *call);
CREW_API int crew_call_return(crew_call *call, const void *data, size_t n); /* copies; -ENOMEM */
CREW_API int crew_call_raise(crew_call *call, int code, const char *format, ...) CREW_PRINTF(3, 4);

/*
 * Failing. crew_raise() marks the innermost submitted task as failed and evaluates to 0, so that a task of arithmetic type
 * says `return crew_raise(EDOM, "no root of %g", x);`. The first raise wins. The code is kept as given, but 0 becomes
 * CREW_ERAISED. crew_raise_as() evaluates to a zero of any type; a void task says `crew_raise(…); return;`.
 * Outside a task a raise is kept for crew_caught() on the same thread.
 */
#define crew_raise(code_, ...) crew_raise_at((code_), __FILE__, __LINE__, __VA_ARGS__)
#define crew_raise_as(type_, code_, ...) ((void)crew_raise((code_), __VA_ARGS__), (type_){ 0 })
CREW_API int crew_raise_at(int code, const char *file, int line, const char *format, ...) CREW_PRINTF(4, 5);

/* Fail with the error of another future, its cause kept; waits for it. When f did not fail, nothing happens. */
struct crew_future;
#define crew_reraise(f_) crew_reraise_from(f_)
#define crew_reraise_as(type_, f_) ((void)crew_reraise_from(f_), (type_){ 0 })
CREW_API int crew_reraise_from(struct crew_future *f);

/* Take the pending error of a helper, a sync or a direct call, so that the task does not fail with it. False: none. */
CREW_API bool crew_caught(crew_error *ret);

/*
 * Asking. Inside a task: has somebody asked it to stop (cancel, a deadline that passed, a shutdown)? Milliseconds to its
 * deadline (CREW_FOREVER: none; 0: passed). The index of the worker that runs it, from 0. The executor it runs on,
 * for nested submits: on threads the very same; in a process worker one that stands for it there; outside a
 * task NULL (and -1, false, CREW_FOREVER).
 */
CREW_API bool crew_task_cancelled(void);
CREW_API int crew_task_time_left(void);
CREW_API int crew_task_worker(void);
CREW_API crew_executor *crew_task_executor(void);

/*
 * Memory for results: written straight where the result lives (in a worker process: where the caller sees it), freed by the library if the
 * task does not return it. On failure the task is failed with -ENOMEM and {NULL, 0} comes back. resize keeps the content, may move it. Called
 * outside a task the caller owns them: crew_bytes_free().
 */
CREW_API crew_bytes crew_result_alloc(size_t n);
CREW_API crew_bytes crew_result_copy(const void *data, size_t n);
CREW_API crew_bytes crew_result_printf(const char *format, ...) CREW_PRINTF(1, 2); /* also -EILSEQ, -EOVERFLOW: it cannot be printed */
CREW_API crew_bytes crew_result_resize(crew_bytes bytes, size_t n);

/* The descriptor of a task, for tables and for C++: crew_executor_submit(ex, CREW_TASK_OF(T), …). */
#define CREW_TASK_OF(T_) (&T_##_crew_task)

/*
 * CREW_TASK(R, T, (type, name)…) { body }	a static task
 * CREW_TASK_DECLARE(R, T, (type, name)…);	a task of several files: this in a header (C++ may include it) …
 * CREW_TASK_DEFINE(R, T, (type, name)…) { body }	… and this in one C file
 * CREW_RAW_TASK(T, fn);			a static raw task, C and C++
 * CREW_ARGS(T)					the struct of T's arguments, its members named as the parameters
 */
#ifdef __cplusplus
#define CREW_TASK_DECLARE(R_, ...) CREW__CXX_DECLARE(__VA_ARGS__, )
#define CREW__CXX_DECLARE(T_, ...) extern "C" const crew_task T_##_crew_task
#define CREW_RAW_TASK(T_, fn_) CREW__RAW(T_, fn_, 0)
#else
#define CREW_TASK(R_, ...) CREW__TASK_STATIC(R_, CREW__FIRST(__VA_ARGS__), __VA_ARGS__)
#define CREW_TASK_DECLARE(R_, ...) CREW__TASK_DECLARE(R_, CREW__FIRST(__VA_ARGS__), __VA_ARGS__)
#define CREW_TASK_DEFINE(R_, ...) CREW__TASK_DEFINE(R_, CREW__FIRST(__VA_ARGS__), __VA_ARGS__)
#define CREW_RAW_TASK(T_, fn_)                                     \
	CREW__ARGUMENTS(T_, T_, (crew_bytes, in))                  \
	CREW__FEED(T_)                                             \
	CREW__RAW(T_, fn_, T_##_crew_feed);                        \
	CREW__HELPERS(crew_bytes, T_, T_, (crew_bytes, in))        \
	struct T_##_crew_args
#define CREW_ARGS(T_) struct T_##_crew_args
#endif

/* ---- how they are made ---- */

#define CREW__WHERE __FILE__ ":" CREW__STRING(__LINE__)
#define CREW__STRING(x_) CREW__STRING_(x_)
#define CREW__STRING_(x_) #x_
#define CREW__UNUSED __attribute__((__unused__))

static const struct crew_parameter crew__raw_parameters[] CREW__UNUSED = {
	{ CREW_TYPE(CREW_BYTES, sizeof(crew_bytes)), 0, "in" },
};
#define CREW__RAW(T_, fn_, feed_)                                                                        \
	static const crew_task T_##_crew_task CREW__UNUSED = {                                    \
		sizeof(crew_task), CREW_TASK_DEEP | CREW_TASK_RAW_BYTES,                          \
		CREW_TYPE(CREW_BYTES, sizeof(crew_bytes)), sizeof(crew_bytes), 1, 0,              \
		crew__raw_parameters, #T_, CREW__WHERE, 0, fn_, feed_,                            \
	}

#ifdef __cplusplus
}
#else

/*
 * The list of parameters is never taken apart: T and the parameters stay one list `T, (type, name)…`, so that it is never empty
 * (an empty variadic argument is no C11), and CREW__EACH writes it out in whatever form is needed: m_(x_, (type, name)) for each,
 * with `sep_()` between them.
 */
#define CREW__FIRST(...) CREW__FIRST_(__VA_ARGS__, )
#define CREW__FIRST_(first_, ...) first_
#define CREW__PASTE(a_, b_) CREW__PASTE_(a_, b_)
#define CREW__PASTE_(a_, b_) a_##b_
#define CREW__COUNT(...) CREW__COUNT_(__VA_ARGS__, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, )
#define CREW__MANY(...) CREW__COUNT_(__VA_ARGS__, M, M, M, M, M, M, M, M, 1, 0, )
#define CREW__COUNT_(a_, b_, c_, d_, e_, f_, g_, h_, i_, n_, ...) n_
#define CREW__COMMA() ,
#define CREW__NOTHING()
#define CREW__TYPE_IN(parameter_) CREW__TYPE_IN_ parameter_
#define CREW__TYPE_IN_(type_, name_) type_
#define CREW__NAME_IN(parameter_) CREW__NAME_IN_ parameter_
#define CREW__NAME_IN_(type_, name_) name_
#define CREW__TEXT_IN(parameter_) CREW__TEXT_IN_ parameter_
#define CREW__TEXT_IN_(type_, name_) #name_

#define CREW__EACH(m_, sep_, x_, ...) \
	CREW__PASTE(CREW__EACH_, CREW__COUNT(__VA_ARGS__))(m_, sep_, x_, __VA_ARGS__)
#define CREW__EACH_1(m_, sep_, x_, T_)
#define CREW__EACH_2(m_, sep_, x_, T_, a_) m_(x_, a_)
#define CREW__EACH_3(m_, sep_, x_, T_, a_, b_) \
	m_(x_, a_) sep_() CREW__EACH_2(m_, sep_, x_, T_, b_)
#define CREW__EACH_4(m_, sep_, x_, T_, a_, b_, c_) \
	m_(x_, a_) sep_() CREW__EACH_3(m_, sep_, x_, T_, b_, c_)
#define CREW__EACH_5(m_, sep_, x_, T_, a_, b_, c_, d_) \
	m_(x_, a_) sep_() CREW__EACH_4(m_, sep_, x_, T_, b_, c_, d_)
#define CREW__EACH_6(m_, sep_, x_, T_, a_, b_, c_, d_, e_) \
	m_(x_, a_) sep_() CREW__EACH_5(m_, sep_, x_, T_, b_, c_, d_, e_)
#define CREW__EACH_7(m_, sep_, x_, T_, a_, b_, c_, d_, e_, f_) \
	m_(x_, a_) sep_() CREW__EACH_6(m_, sep_, x_, T_, b_, c_, d_, e_, f_)
#define CREW__EACH_8(m_, sep_, x_, T_, a_, b_, c_, d_, e_, f_, g_) \
	m_(x_, a_) sep_() CREW__EACH_7(m_, sep_, x_, T_, b_, c_, d_, e_, f_, g_)
#define CREW__EACH_9(m_, sep_, x_, T_, a_, b_, c_, d_, e_, f_, g_, h_) \
	m_(x_, a_) sep_() CREW__EACH_8(m_, sep_, x_, T_, b_, c_, d_, e_, f_, g_, h_)

/* The parameters of the function; void when there are none. */
#define CREW__SIGNATURE(...) CREW__PASTE(CREW__SIGNATURE_, CREW__MANY(__VA_ARGS__))(__VA_ARGS__)
#define CREW__SIGNATURE_1(T_) void
#define CREW__SIGNATURE_M(...) CREW__EACH(CREW__AS_PARAMETER, CREW__COMMA, , __VA_ARGS__)
#define CREW__AS_PARAMETER(d_, p_) CREW__TYPE_IN(p_) CREW__NAME_IN(p_)
#define CREW__AS_NEXT_PARAMETER(d_, p_) , CREW__TYPE_IN(p_) CREW__NAME_IN(p_)

/* The struct of arguments: zeroed, then filled by memcpy (members may be const or arrays), so its padding is zero. */
#define CREW__ARGUMENTS(T_, ...)                                                 \
	struct T_##_crew_args {                                                  \
		CREW__EACH(CREW__AS_MEMBER, CREW__NOTHING, , __VA_ARGS__)        \
		CREW__PASTE(CREW__NO_MEMBER_, CREW__MANY(__VA_ARGS__))           \
	} __attribute__((__aligned__(8)));                                       \
	static inline CREW__UNUSED struct T_##_crew_args *T_##_crew_fill(        \
		struct T_##_crew_args *crew_a_ CREW__EACH(CREW__AS_NEXT_PARAMETER, CREW__NOTHING, , __VA_ARGS__)) \
	{                                                                        \
		CREW__EACH(CREW__AS_COPY, CREW__NOTHING, , __VA_ARGS__)          \
		return crew_a_;                                                  \
	}
#define CREW__AS_MEMBER(d_, p_) CREW__TYPE_IN(p_) CREW__NAME_IN(p_);
#define CREW__NO_MEMBER_1 char crew_none_;
#define CREW__NO_MEMBER_M
#define CREW__AS_COPY(d_, p_)                                                                          \
	__builtin_memcpy((void *)&crew_a_->CREW__NAME_IN(p_),                                          \
			 __builtin_choose_expr(CREW__IS_ARRAY(CREW__TYPE_IN(p_)), CREW__NAME_IN(p_),   \
					       &CREW__NAME_IN(p_)),                                    \
			 sizeof crew_a_->CREW__NAME_IN(p_));

/* Call T with the arguments at a_; the value, or a 0 for a void task. */
#define CREW__INVOKE(R_, T_, a_, ...)                                                                         \
	__builtin_choose_expr(CREW__IS(R_, void),                                                             \
			      (T_(CREW__EACH(CREW__AS_ARGUMENT, CREW__COMMA, a_, __VA_ARGS__)), (char)0),     \
			      T_(CREW__EACH(CREW__AS_ARGUMENT, CREW__COMMA, a_, __VA_ARGS__)))
#define CREW__AS_ARGUMENT(a_, p_) (a_)->CREW__NAME_IN(p_)

/* Described in executor.h; the typed faces below call them. */
struct crew_map_options;
struct crew_submit_options;
CREW_API int crew_executor_map(crew_executor *ex, const crew_task *task, const void *const *columns, void *out, size_t n,
			       const struct crew_map_options *options, size_t size);
CREW_API int crew_executor_submit_each(crew_executor *ex, const crew_task *task, const void *const *columns,
				       struct crew_future **fs, size_t n, const struct crew_submit_options *options,
				       size_t size);

/* Described in pool.h. */
struct crew_pool;
struct crew_pool_call;
CREW_API struct crew_future *crew_pool_start_map(struct crew_pool *pool, const crew_task *task, const void *const *columns, void *out, size_t n,
						 const struct crew_pool_call *options, size_t size);

/* The typed faces of the long names: arguments are checked by the compiler, then travel as bytes. */
#define CREW__HELPERS(R_, T_, ...)                                                                            \
	static inline CREW__UNUSED int T_##_crew_map(                                                         \
		crew_executor *crew_ex_, const struct crew_map_options *crew_o_, size_t crew_size_            \
			CREW__EACH(CREW__AS_COLUMN, CREW__NOTHING, , __VA_ARGS__),                            \
		CREW__VALUE(R_) * crew_out_, size_t crew_n_)                                                  \
	{                                                                                                     \
		const void *const crew_c_[] = { CREW__EACH(CREW__AS_NAME, CREW__NOTHING, , __VA_ARGS__) 0 };  \
		return crew_executor_map(crew_ex_, &T_##_crew_task, crew_c_, crew_out_, crew_n_, crew_o_,     \
					 crew_size_);                                                         \
	}                                                                                                     \
	static inline CREW__UNUSED int T_##_crew_each(                                                        \
		crew_executor *crew_ex_ CREW__EACH(CREW__AS_COLUMN, CREW__NOTHING, , __VA_ARGS__),            \
		struct crew_future **crew_fs_, size_t crew_n_)                                                \
	{                                                                                                     \
		const void *const crew_c_[] = { CREW__EACH(CREW__AS_NAME, CREW__NOTHING, , __VA_ARGS__) 0 };  \
		return crew_executor_submit_each(crew_ex_, &T_##_crew_task, crew_c_, crew_fs_, crew_n_, 0, 0); \
	}                                                                                                     \
	static inline CREW__UNUSED struct crew_future *T_##_crew_map_async(                                   \
		struct crew_pool *crew_pool_, const struct crew_pool_call *crew_o_, size_t crew_size_         \
			CREW__EACH(CREW__AS_COLUMN, CREW__NOTHING, , __VA_ARGS__),                            \
		CREW__VALUE(R_) * crew_out_, size_t crew_n_)                                                  \
	{                                                                                                     \
		const void *const crew_c_[] = { CREW__EACH(CREW__AS_NAME, CREW__NOTHING, , __VA_ARGS__) 0 };  \
		return crew_pool_start_map(crew_pool_, &T_##_crew_task, crew_c_, crew_out_, crew_n_, crew_o_, \
					   crew_size_);                                                       \
	}
/* `char **` is no `const char *const *`: columns of strings are taken untyped. */
#define CREW__AS_COLUMN(d_, p_)                                                                     \
	, __typeof__(__builtin_choose_expr(CREW__IS(CREW__TYPE_IN(p_), const char *), (const void *)0, \
					   (__typeof__(CREW__TYPE_IN(p_)) const *)0)) CREW__NAME_IN(p_)
#define CREW__AS_NAME(d_, p_) CREW__NAME_IN(p_),

#define CREW__DESCRIPTOR(storage_, R_, T_, ...)                                                               \
	static void T_##_crew_run(void *crew_p_, void *crew_r_)                                         \
	{                                                                                                     \
		struct T_##_crew_args *crew_a_ CREW__UNUSED = (struct T_##_crew_args *)crew_p_;   \
		*(CREW__VALUE(R_) *)crew_r_ = CREW__INVOKE(R_, T_, crew_a_, __VA_ARGS__);                     \
	}                                                                                                     \
	CREW__FEED(T_)                                                                                        \
	static const struct crew_parameter T_##_crew_parameters[] = {                                         \
		CREW__EACH(CREW__AS_DESCRIPTION, CREW__NOTHING, T_, __VA_ARGS__){ 0, 0, 0 },                  \
	};                                                                                                    \
	storage_ const crew_task T_##_crew_task CREW__UNUSED = {                                              \
		sizeof(crew_task),                                                                            \
		0 CREW__EACH(CREW__AS_FLAGS, CREW__NOTHING, , __VA_ARGS__),                                   \
		CREW_TYPE_OF(R_),                                                                             \
		sizeof(struct T_##_crew_args),                                                                \
		sizeof T_##_crew_parameters / sizeof T_##_crew_parameters[0] - 1,                             \
		0,                                                                                            \
		T_##_crew_parameters,                                                                         \
		#T_,                                                                                          \
		CREW__WHERE,                                                                                  \
		T_##_crew_run,                                                                                \
		0,                                                                                            \
		T_##_crew_feed,                                                                               \
	};
#define CREW__FEED(T_)                                                                  \
	static int T_##_crew_feed(void (*crew_fn_)(void), void *crew_s_, void *crew_a_) \
	{                                                                               \
		return ((int (*)(void *, struct T_##_crew_args *))crew_fn_)(            \
			crew_s_, (struct T_##_crew_args *)crew_a_);                     \
	}
#define CREW__AS_DESCRIPTION(T_, p_)                                                              \
	{ CREW_TYPE_OF(CREW__TYPE_IN(p_)), __builtin_offsetof(struct T_##_crew_args, CREW__NAME_IN(p_)), \
	  CREW__TEXT_IN(p_) },
#define CREW__AS_FLAGS(d_, p_)                                                                     \
	| (CREW__CLASS(CREW__TYPE_IN(p_)) == CREW_STRING || CREW__CLASS(CREW__TYPE_IN(p_)) == CREW_BYTES ? \
		   CREW_TASK_DEEP : CREW__CLASS(CREW__TYPE_IN(p_)) == CREW_POINTER ? CREW_TASK_POINTERS : 0)

#define CREW__TASK_STATIC(R_, T_, ...)                        \
	static inline R_ T_(CREW__SIGNATURE(__VA_ARGS__));    \
	CREW__ARGUMENTS(T_, __VA_ARGS__)                      \
	CREW__DESCRIPTOR(static, R_, T_, __VA_ARGS__)         \
	CREW__HELPERS(R_, T_, __VA_ARGS__)                    \
	CREW__SPAWNABLE(R_, T_, __VA_ARGS__)                  \
	static inline R_ T_(CREW__SIGNATURE(__VA_ARGS__))
#define CREW__TASK_DECLARE(R_, T_, ...)                       \
	R_ T_(CREW__SIGNATURE(__VA_ARGS__));                  \
	CREW__EXTERN(T_);                                     \
	CREW__ARGUMENTS(T_, __VA_ARGS__)                      \
	CREW__HELPERS(R_, T_, __VA_ARGS__)                    \
	CREW__SPAWNABLE(R_, T_, __VA_ARGS__)                  \
	CREW__EXTERN(T_)
#define CREW__EXTERN(T_) extern const crew_task T_##_crew_task
#define CREW__TASK_DEFINE(R_, T_, ...)                        \
	CREW__DESCRIPTOR(, R_, T_, __VA_ARGS__)               \
	R_ T_(CREW__SIGNATURE(__VA_ARGS__))

/* T's arguments, from a call's `T, A…`: a pointer to a filled struct that lives as long as the enclosing block. */
#define CREW__FILL(...) CREW__PASTE(CREW__FILL_, CREW__MANY(__VA_ARGS__))(__VA_ARGS__)
#define CREW__FILL_1(T_) T_##_crew_fill(&(struct T_##_crew_args){ 0 })
#define CREW__FILL_M(T_, ...) T_##_crew_fill(&(struct T_##_crew_args){ 0 }, __VA_ARGS__)
#define CREW__TASK_IN(...) CREW__TASK_IN_(__VA_ARGS__, )
#define CREW__TASK_IN_(T_, ...) (&T_##_crew_task)

#include <crew/spawn.h>
#endif
#endif
