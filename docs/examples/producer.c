/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * producer.c: a queue between processes: two producers, three consumers, at most eight items waiting. Who has nothing more
 * to put says so, and every consumer's loop ends by itself: no item has to mean "the end".
 */
#include <crew/crew.h>
#include <stdio.h>

enum { EACH = 5000 };

CREW_TASK(int, produce, (crew_queue, q), (long, from))
{
	for (long i = from; i < from + EACH; i++)
		if (crew_put(q, &i))
			return 1;
	return 0;
}

CREW_TASK(long, consume, (crew_queue, q))
{
	long item, sum = 0;

	while (crew_get(q, &item) == 0)
		sum += item;
	return sum;
}

int main(void)
{
	crew_queue q = crew_queue_make(.item = sizeof(long), .capacity = 8);
	crew_process *producers[2], *consumers[3];
	long part, sum = 0;

	for (int i = 0; i < 2; i++)
		producers[i] = crew_start(produce, q, (long)i * EACH);
	for (int i = 0; i < 3; i++)
		consumers[i] = crew_start(consume, q);
	for (int i = 0; i < 2; i++)
		crew_process_close(producers[i]); /* waits */
	crew_queue_finish(q);
	for (int i = 0; i < 3; i++) {
		crew_must(crew_process_result(consumers[i], &part));
		sum += part;
		crew_process_close(consumers[i]);
	}
	crew_queue_drop(q);
	printf("the sum of %d numbers is %ld\n", 2 * EACH, sum);
}
