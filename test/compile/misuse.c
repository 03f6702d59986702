/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * misuse.c: what must not compile. By itself it does; with one of the names below defined, each of them a mistake, the compiler must
 * object. test/compile/check finds the names here by their #ifdef.
 */
#include <crew/crew.h>

struct point {
	double x, y;
};
CREW_TASK(double, power, (double, base), (int, exp))
{
	return exp ? base : 1;
}
CREW_TASK(struct point, moved, (struct point, p))
{
	return p;
}
CREW_TASK(void, quiet)
{
}
CREW_TASK(double, summed, (size_t, begin), (size_t, end), (double, from))
{
	return from + (double)(end - begin);
}

int misused(crew_executor *ex, double *x, int *n, struct point *p, crew_future **fs);
int misused(crew_executor *ex, double *x, int *n, struct point *p, crew_future **fs)
{
	crew_submit(ex, power, 2.0, 3);
	crew_map(ex, power, x, n, x, 3);
	crew_for(ex, 9, summed, .from = 1);
	crew_run(ex, p, moved, *p);
	crew_submit(ex, quiet);
	crew_submit_each(ex, moved, p, fs, 3);

#ifdef too_few_arguments
	crew_submit(ex, power, 2.0);
#endif
#ifdef too_many_arguments
	crew_submit(ex, power, 2.0, 3, 4);
#endif
#ifdef arguments_for_a_task_without_any
	crew_submit(ex, quiet, 1);
#endif
#ifdef a_struct_where_a_number_goes
	crew_submit(ex, power, *p, 3);
#endif
#ifdef a_number_where_a_struct_goes
	crew_submit(ex, moved, 3);
#endif
#ifdef a_pointer_where_a_number_goes
	crew_post(ex, power, x, 3);
#endif
#ifdef a_column_too_few
	crew_map(ex, power, x, x, 3);
#endif
#ifdef a_column_of_the_wrong_type
	crew_map(ex, power, n, n, x, 3);
#endif
#ifdef results_of_the_wrong_type
	crew_map(ex, power, x, n, p, 3);
#endif
#ifdef futures_of_the_wrong_type
	crew_submit_each(ex, moved, p, p, 3);
#endif
#ifdef a_name_that_is_no_parameter
	crew_for(ex, 9, summed, .until = 1);
#endif
#ifdef an_option_that_does_not_exist
	crew_executor_close(crew_threads(.works = 4));
#endif
#ifdef a_task_that_is_none
	crew_submit(ex, misused, 3);
#endif
#ifdef a_task_as_a_value
	const crew_task *task = CREW_TASK_OF(power);
	crew_submit(ex, task, 2.0, 3);
#endif
#ifdef sync_of_what_was_not_spawned
	crew_sync(power, a);
#endif
#ifdef spawn_with_too_few_arguments
	crew_spawn(power, a, 2.0);
	crew_sync(power, a);
#endif
#ifdef spawn_without_a_block
	if (n)
		crew_spawn(power, a, 2.0, 3);
#endif
	return 0;
}
