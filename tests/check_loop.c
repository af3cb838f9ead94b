/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#include "conf/timefmt.h"
#include "tests/unit.h"

static struct loop *loop;
static atomic_int n_done;

static void start(void)
{
	ck_assert_int_eq(loop_new("check-loop", &loop), 0);
	atomic_store(&n_done, 0);
}

static void wait_done(int n)
{
	for (int i = 0; i < 10000 && atomic_load(&n_done) < n; i++)
		usleep(1000);
	ck_assert_int_eq(atomic_load(&n_done), n);
}

/* Runs fn on the loop and waits for it. */
struct waited_call {
	struct loop_call call;
	void (*fn)(void);
	atomic_bool done;
};

static void run_waited(struct loop_call *call)
{
	struct waited_call *w = (struct waited_call *)call;

	w->fn();
	atomic_store(&w->done, true);
}

static void on_loop(void (*fn)(void))
{
	struct waited_call w = { .call.fn = run_waited, .fn = fn };

	loop_post(loop, &w.call);
	while (!atomic_load(&w.done))
		usleep(100);
}

/* Calls. */

enum { POSTERS = 4, POSTS = 20000 };

struct numbered {
	struct loop_call call;
	unsigned poster, number;
};

static struct numbered posts[POSTERS][POSTS];
static unsigned next_of[POSTERS];

static void on_numbered(struct loop_call *call)
{
	struct numbered *n = (struct numbered *)call;

	ck_assert(loop_is_current(loop));
	ck_assert_uint_eq(n->number, next_of[n->poster]);
	next_of[n->poster]++;
	atomic_fetch_add(&n_done, 1);
}

static void *post_all(void *arg)
{
	unsigned poster = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < POSTS; i++) {
		posts[poster][i].call.fn = on_numbered;
		posts[poster][i].poster = poster;
		posts[poster][i].number = i;
		loop_post(loop, &posts[poster][i].call);
		if (i % 1000 == 0)
			usleep(100); /* so that the loop falls asleep between */
	}
	return NULL;
}

START_TEST(calls_of_one_thread_run_in_their_order)
{
	pthread_t threads[POSTERS];

	start();
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_create(&threads[i], NULL, post_all, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	wait_done(POSTERS * POSTS);
	ck_assert(!loop_is_current(loop));
	loop_free(loop);
}
END_TEST

static struct loop_call again;
static int n_again;

static void post_again(struct loop_call *call)
{
	atomic_fetch_add(&n_done, 1);
	if (++n_again < 1000)
		loop_post(loop, call);
}

START_TEST(a_call_may_be_posted_from_within_itself)
{
	n_again = 0;
	start();
	again.fn = post_again;
	loop_post(loop, &again);
	wait_done(1000);
	loop_free(loop);
}
END_TEST

START_TEST(free_runs_what_is_queued)
{
	n_again = 0;
	start();
	again.fn = post_again;
	loop_post(loop, &again);
	loop_free(loop);
	ck_assert_int_eq(atomic_load(&n_done), 1000);
	loop_free(NULL);
}
END_TEST

/* Timers. */

enum { TIMERS = 500 };

static struct loop_timer timers[TIMERS];
static uint64_t fired_last;

static void on_timer(struct loop_timer *timer)
{
	ck_assert_uint_eq(timer->index, 0);
	ck_assert_uint_ge(timer->when_ns, fired_last);
	ck_assert_uint_le(timer->when_ns, loop_now(loop));
	fired_last = timer->when_ns;
	atomic_fetch_add(&n_done, 1);
}

static void set_timers(void)
{
	struct unit_random random = unit_random_start("check_loop");

	for (unsigned i = 0; i < TIMERS; i++) {
		timers[i].fn = on_timer;
		ck_assert_int_eq(loop_timer_attach(loop, &timers[i]), 0);
	}
	/* Set, moved, cleared; every fifth stays cleared. */
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < TIMERS; i++)
			loop_timer_set(loop, &timers[i],
				       loop_now(loop) +
					       unit_random_below(&random, 300) * 1000000);
	}
	for (unsigned i = 0; i < TIMERS; i += 5) {
		loop_timer_clear(loop, &timers[i]);
		loop_timer_clear(loop, &timers[i]);
	}
}

static void detach_timers(void)
{
	for (unsigned i = 0; i < TIMERS; i++)
		loop_timer_detach(loop, &timers[i]);
}

START_TEST(timers_fire_once_in_the_order_of_their_time)
{
	uint64_t began = timefmt_monotonic_ns();

	fired_last = 0;
	start();
	on_loop(set_timers);
	wait_done(TIMERS - TIMERS / 5);
	ck_assert_uint_lt(timefmt_monotonic_ns() - began, 5000000000u);
	on_loop(detach_timers);
	loop_free(loop);
	ck_assert_int_eq(atomic_load(&n_done), TIMERS - TIMERS / 5);
}
END_TEST

static void set_again(struct loop_timer *timer)
{
	if (atomic_fetch_add(&n_done, 1) < 9)
		loop_timer_set(loop, timer, loop_now(loop) + 1000000);
}

static void set_first(void)
{
	timers[0].fn = set_again;
	ck_assert_int_eq(loop_timer_attach(loop, &timers[0]), 0);
	loop_timer_set(loop, &timers[0], 0);
}

static void detach_first(void)
{
	loop_timer_detach(loop, &timers[0]);
}

START_TEST(a_timer_may_be_set_in_its_function)
{
	start();
	on_loop(set_first);
	wait_done(10);
	on_loop(detach_first);
	loop_free(loop);
}
END_TEST

/* Descriptors. */

static int pipes[2][2];
static struct loop_fd watches[2];

static void on_readable(struct loop_fd *watch, uint32_t revents)
{
	char byte;

	ck_assert(revents & EPOLLIN);
	ck_assert_int_eq(read(watch->fd, &byte, 1), 1);
	atomic_fetch_add(&n_done, 1);
}

static void watch_pipe(void)
{
	watches[0].fn = on_readable;
	ck_assert_int_eq(loop_fd_watch(loop, &watches[0], pipes[0][0], EPOLLIN), 0);
	ck_assert_int_eq(loop_fd_watch(loop, &watches[0], pipes[0][0], EPOLLIN), 0);
}

static void end_watch(void)
{
	ck_assert_int_eq(loop_fd_watch(loop, &watches[0], pipes[0][0], 0), 0);
}

START_TEST(a_watch_reports_until_it_ends)
{
	start();
	ck_assert_int_eq(pipe2(pipes[0], O_CLOEXEC), 0);
	on_loop(watch_pipe);
	for (int i = 1; i <= 100; i++) {
		ck_assert_int_eq(write(pipes[0][1], "x", 1), 1);
		wait_done(i);
	}
	on_loop(end_watch);
	ck_assert_int_eq(write(pipes[0][1], "x", 1), 1);
	usleep(20000);
	wait_done(100);
	close(pipes[0][0]);
	close(pipes[0][1]);
	loop_free(loop);
}
END_TEST

/* Both are readable at once; the first to run ends the other, which must not
 * run any more though epoll has already reported it. */
static void end_the_other(struct loop_fd *watch, uint32_t revents)
{
	int other = watch == &watches[0];

	(void)revents;
	ck_assert_int_eq(loop_fd_watch(loop, &watches[other], pipes[other][0], 0), 0);
	ck_assert_int_eq(loop_fd_watch(loop, watch, watch->fd, 0), 0);
	atomic_fetch_add(&n_done, 1);
}

static void watch_both(void)
{
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(write(pipes[i][1], "x", 1), 1);
		watches[i].fn = end_the_other;
		ck_assert_int_eq(loop_fd_watch(loop, &watches[i], pipes[i][0], EPOLLIN),
				 0);
	}
}

START_TEST(a_watch_that_ended_in_the_same_turn_does_not_run)
{
	start();
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pipe2(pipes[i], O_CLOEXEC), 0);
	on_loop(watch_both);
	wait_done(1);
	usleep(20000);
	wait_done(1);
	loop_free(loop);
	for (int i = 0; i < 2; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
}
END_TEST

static void watch_nothing(void)
{
	ck_assert_int_eq(loop_fd_watch(loop, &watches[0], 1000000, EPOLLIN), -EBADF);
	ck_assert_uint_eq(watches[0].events, 0);
}

START_TEST(a_watch_that_cannot_be_made_says_so)
{
	start();
	memset(watches, 0, sizeof(watches));
	on_loop(watch_nothing);
	loop_free(loop);
}
END_TEST

static struct loop *other;

static void hand_over(void)
{
	loop_note_handover(other);
	loop_note_handover(loop);
}

START_TEST(what_one_loop_hands_to_another_is_counted)
{
	start();
	ck_assert_int_eq(loop_new("check-other", &other), 0);
	loop_note_handover(other);
	ck_assert_uint_eq(loop_handed_over(other), 0);
	on_loop(hand_over);
	ck_assert_uint_eq(loop_handed_over(other), 1);
	ck_assert_uint_eq(loop_handed_over(loop), 0);
	loop_free(loop);
	loop_free(other);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		calls_of_one_thread_run_in_their_order,
		a_call_may_be_posted_from_within_itself,
		free_runs_what_is_queued,
		timers_fire_once_in_the_order_of_their_time,
		a_timer_may_be_set_in_its_function,
		a_watch_reports_until_it_ends,
		a_watch_that_ended_in_the_same_turn_does_not_run,
		a_watch_that_cannot_be_made_says_so,
		what_one_loop_hands_to_another_is_counted,
	};

	return unit_main("loop", tests, ROWS(tests));
}
