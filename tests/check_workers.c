/* SPDX-License-Identifier: BSD-2-Clause */

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "conf/cleanup.h"
#include "engine/workers.h"

/* A number that threads count up and the test waits for. */
struct counter {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned n;
};

#define COUNTER_INIT                                                   \
	{                                                              \
		PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 \
	}

static void counter_add(struct counter *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	c->n++;
	pthread_cond_broadcast(&c->changed);
}

/* False after 20 s. */
static bool counter_wait(struct counter *c, unsigned n)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += 20;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	while (c->n < n) {
		if (pthread_cond_timedwait(&c->changed, &c->lock, &deadline))
			return false;
	}
	return true;
}

struct job {
	struct work work;
	struct counter *counter;
	struct workers *workers;
	unsigned again;
	unsigned order;
};

static void job_run(struct work *work)
{
	struct job *job = (struct job *)work;

	if (job->again > 0) {
		job->again--;
		workers_submit(job->workers, work);
		return;
	}
	counter_add(job->counter);
	free(job);
}

static void submit_job(struct workers *workers, struct counter *counter, unsigned again)
{
	struct job *job = calloc(1, sizeof(*job));

	ck_assert_ptr_nonnull(job);
	job->work.fn = job_run;
	job->counter = counter;
	job->workers = workers;
	job->again = again;
	workers_submit(workers, &job->work);
}

START_TEST(refuses_no_thread_and_too_many)
{
	struct workers *workers;

	ck_assert_int_eq(workers_new("w", 0, &workers), -EINVAL);
	ck_assert_int_eq(workers_new("w", 65, &workers), -EINVAL);
	workers_free(NULL);
}
END_TEST

START_TEST(work_runs_and_may_submit_itself_again)
{
	struct counter counter = COUNTER_INIT;
	struct workers *workers;
	unsigned i;

	ck_assert_int_eq(workers_new("w", 4, &workers), 0);
	for (i = 0; i < 1000; i++)
		submit_job(workers, &counter, i % 5);
	ck_assert(counter_wait(&counter, 1000));
	workers_free(workers);
}
END_TEST

START_TEST(free_finishes_what_was_submitted_and_what_that_submits)
{
	struct counter counter = COUNTER_INIT;
	struct workers *workers;
	unsigned i;

	ck_assert_int_eq(workers_new("w", 3, &workers), 0);
	for (i = 0; i < 500; i++)
		submit_job(workers, &counter, 7);
	workers_free(workers);
	ck_assert_uint_eq(counter.n, 500);
}
END_TEST

static unsigned next_order;

static void job_note_order(struct work *work)
{
	struct job *job = (struct job *)work;

	job->order = next_order++; /* one thread */
	counter_add(job->counter);
}

START_TEST(one_thread_runs_in_order)
{
	struct counter counter = COUNTER_INIT;
	struct job jobs[100] = { 0 };
	struct workers *workers;
	unsigned i;

	ck_assert_int_eq(workers_new("w", 1, &workers), 0);
	for (i = 0; i < 100; i++) {
		jobs[i].work.fn = job_note_order;
		jobs[i].counter = &counter;
		workers_submit(workers, &jobs[i].work);
	}
	ck_assert(counter_wait(&counter, 100));
	workers_free(workers);
	for (i = 0; i < 100; i++)
		ck_assert_uint_eq(jobs[i].order, i);
}
END_TEST

/* Each of these blocks until all of them run. */
static void job_meet(struct work *work)
{
	struct job *job = (struct job *)work;

	counter_add(job->counter);
	if (counter_wait(job->counter, 64))
		job->order = 1;
}

START_TEST(all_threads_run_at_once)
{
	struct counter counter = COUNTER_INIT;
	struct job jobs[64] = { 0 };
	struct workers *workers;
	unsigned i;

	ck_assert_int_eq(workers_new("a-long-thread-name", 64, &workers), 0);
	for (i = 0; i < 64; i++) {
		jobs[i].work.fn = job_meet;
		jobs[i].counter = &counter;
		workers_submit(workers, &jobs[i].work);
	}
	workers_free(workers);
	for (i = 0; i < 64; i++)
		ck_assert_uint_eq(jobs[i].order, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("workers");
	TCase *tc = tcase_create("workers");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, refuses_no_thread_and_too_many);
	tcase_add_test(tc, work_runs_and_may_submit_itself_again);
	tcase_add_test(tc, free_finishes_what_was_submitted_and_what_that_submits);
	tcase_add_test(tc, one_thread_runs_in_order);
	tcase_add_test(tc, all_threads_run_at_once);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
