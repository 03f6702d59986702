/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kept_promise.c: a future that is kept by hand. Whoever produces the value, a thread of the program's own
 * here, sets it; whoever wants it waits for it, or has a callback called, as with any other future.
 */
#include <crew/crew.h>
#include <pthread.h>
#include <stdio.h>

static void *measure(void *arg)
{
	crew_future *temperature = arg;
	double celsius = 21.5;

	crew_must(crew_future_set_result(temperature, &celsius, CREW_TYPE_OF(double)));
	return NULL;
}

static void note(crew_future *f, void *arg)
{
	double *fahrenheit = arg, celsius;

	if (crew_result(f, &celsius) == 0)
		*fahrenheit = celsius * 9 / 5 + 32;
}

int main(void)
{
	/* It belongs to no scope: we give it back ourselves. */
	crew_future *temperature = crew_future_new(CREW_TYPE_OF(double));
	double celsius = 0, fahrenheit = 0;
	pthread_t thread;

	crew_must(crew_future_on_done(temperature, note, &fahrenheit));
	crew_must(-pthread_create(&thread, NULL, measure, temperature));
	crew_must(crew_result(temperature, &celsius));
	pthread_join(thread, NULL); /* the callback runs in that thread, after those who wait were woken */
	printf("%g °C, %g °F\n", celsius, fahrenheit);
	printf("kept twice: %s\n", crew_errname(crew_future_set_error(temperature, -1, "too late")));
	crew_future_free(temperature);
}
