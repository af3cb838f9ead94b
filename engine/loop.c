/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * One thread a loop.  A turn: run the calls that others posted, run the timers
 * that are due, ask epoll, run what it reports.
 *
 * Posted calls stand on a lock-free stack (a compare-and-swap pushes, the loop
 * takes all of it and turns it round, so that the order of each poster is
 * kept).  Waking costs a system call, so it is done only when the loop sleeps:
 * the loop says that it will sleep and then looks at the stack, a poster
 * pushes and then looks whether the loop sleeps; both orders are sequentially
 * consistent, so one of the two sees the other.  Of several posters only the
 * one that found the stack empty wakes it.  The eventfd is edge-triggered and
 * never read.
 *
 * Timers are a binary heap over the time.  A handler may end the watch of any
 * descriptor: events of it that epoll has already reported in this turn are
 * struck out, so the struct may be freed at once.
 */

#include "engine/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"

enum { LOOP_EVENTS = 64 };

struct loop {
	pthread_t thread;
	int epoll_fd;
	int wake_fd;
	_Atomic(struct loop_call *) posted; /* newest first */
	atomic_uint posting;		    /* threads inside loop_post() */
	atomic_bool sleeping;
	atomic_bool stop;
	atomic_uint handed_over; /* by other loops */

	/* The loop's thread only. */
	uint64_t now_ns;
	struct epoll_event events[LOOP_EVENTS];
	int n_events;
	int event;		  /* the one being handled */
	struct loop_timer **heap; /* [1..n_set]; [0] is not used */
	unsigned n_set;
	unsigned n_attached;
	unsigned heap_size;
};

static _Thread_local const struct loop *current_loop;

bool loop_is_current(const struct loop *loop)
{
	return current_loop == loop;
}

void loop_note_handover(struct loop *loop)
{
	if (current_loop && current_loop != loop)
		atomic_fetch_add_explicit(&loop->handed_over, 1, memory_order_relaxed);
}

unsigned loop_handed_over(const struct loop *loop)
{
	return atomic_load_explicit(&loop->handed_over, memory_order_relaxed);
}

uint64_t loop_now(const struct loop *loop)
{
	return loop->now_ns;
}

static void wake(struct loop *loop)
{
	uint64_t one = 1;

	while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void loop_post(struct loop *loop, struct loop_call *call)
{
	struct loop_call *head;

	/* The call may have run, and the loop may be in loop_free(), before this
	 * function has returned. */
	atomic_fetch_add_explicit(&loop->posting, 1, memory_order_relaxed);
	head = atomic_load_explicit(&loop->posted, memory_order_relaxed);
	do {
		call->next = head;
	} while (!atomic_compare_exchange_weak(&loop->posted, &head, call));
	if (!head && atomic_load(&loop->sleeping))
		wake(loop);
	atomic_fetch_sub_explicit(&loop->posting, 1, memory_order_release);
}

static void run_posted(struct loop *loop)
{
	struct loop_call *stack, *queue = NULL, *call;

	if (!atomic_load_explicit(&loop->posted, memory_order_relaxed))
		return;
	stack = atomic_exchange(&loop->posted, NULL);
	while ((call = stack)) {
		stack = call->next;
		call->next = queue;
		queue = call;
	}
	while ((call = queue)) {
		queue = call->next;
		call->fn(call);
	}
}

/* Timers. */

static void heap_place(struct loop *loop, unsigned i, struct loop_timer *timer)
{
	loop->heap[i] = timer;
	timer->index = i;
}

static void heap_up(struct loop *loop, unsigned i, struct loop_timer *timer)
{
	for (; i > 1 && loop->heap[i / 2]->when_ns > timer->when_ns; i /= 2)
		heap_place(loop, i, loop->heap[i / 2]);
	heap_place(loop, i, timer);
}

static void heap_down(struct loop *loop, unsigned i, struct loop_timer *timer)
{
	unsigned child;

	for (; (child = 2 * i) <= loop->n_set; i = child) {
		if (child < loop->n_set &&
		    loop->heap[child + 1]->when_ns < loop->heap[child]->when_ns)
			child++;
		if (loop->heap[child]->when_ns >= timer->when_ns)
			break;
		heap_place(loop, i, loop->heap[child]);
	}
	heap_place(loop, i, timer);
}

int loop_timer_attach(struct loop *loop, struct loop_timer *timer)
{
	if (loop->n_attached + 2 > loop->heap_size) {
		unsigned size = loop->heap_size ? 2 * loop->heap_size : 16;
		struct loop_timer **heap =
			realloc(loop->heap, size * sizeof(struct loop_timer *));

		if (!heap)
			return -ENOMEM;
		loop->heap = heap;
		loop->heap_size = size;
	}
	loop->n_attached++;
	timer->index = 0;
	return 0;
}

void loop_timer_detach(struct loop *loop, struct loop_timer *timer)
{
	loop_timer_clear(loop, timer);
	loop->n_attached--;
}

void loop_timer_clear(struct loop *loop, struct loop_timer *timer)
{
	unsigned i = timer->index;
	struct loop_timer *last;

	if (i == 0)
		return;
	timer->index = 0;
	last = loop->heap[loop->n_set--];
	if (last == timer)
		return;
	if (i > 1 && loop->heap[i / 2]->when_ns > last->when_ns)
		heap_up(loop, i, last);
	else
		heap_down(loop, i, last);
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t when_ns)
{
	loop_timer_clear(loop, timer);
	timer->when_ns = when_ns;
	assert(loop->n_set < loop->n_attached);
	heap_up(loop, ++loop->n_set, timer);
}

static void run_timers(struct loop *loop)
{
	while (loop->n_set > 0 && loop->heap[1]->when_ns <= loop->now_ns) {
		struct loop_timer *timer = loop->heap[1];

		loop_timer_clear(loop, timer);
		timer->fn(timer);
	}
}

/* Milliseconds until the next timer, rounded up, for epoll_wait(). */
static int next_timeout(const struct loop *loop)
{
	uint64_t when, ms;

	if (loop->n_set == 0)
		return -1;
	when = loop->heap[1]->when_ns;
	if (when <= loop->now_ns)
		return 0;
	ms = (when - loop->now_ns + 999999) / 1000000;
	return ms < 60000 ? (int)ms : 60000;
}

/* Descriptors. */

int loop_fd_watch(struct loop *loop, struct loop_fd *watch, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };
	int op;

	if (events == watch->events)
		return 0;
	if (watch->events == 0)
		op = EPOLL_CTL_ADD;
	else if (events == 0)
		op = EPOLL_CTL_DEL;
	else
		op = EPOLL_CTL_MOD;
	if (epoll_ctl(loop->epoll_fd, op, fd, &event) < 0)
		return -errno;
	watch->fd = fd;
	watch->events = events;
	if (events == 0) {
		for (int i = loop->event + 1; i < loop->n_events; i++) {
			if (loop->events[i].data.ptr == watch)
				loop->events[i].data.ptr = NULL;
		}
	}
	return 0;
}

static void run_events(struct loop *loop)
{
	for (loop->event = 0; loop->event < loop->n_events; loop->event++) {
		const struct epoll_event *event = &loop->events[loop->event];
		struct loop_fd *watch = event->data.ptr;

		if (watch)
			watch->fn(watch, event->events);
	}
	loop->n_events = 0;
}

static void wait_for_events(struct loop *loop)
{
	int timeout = next_timeout(loop);
	int n;

	atomic_store(&loop->sleeping, true);
	if (atomic_load(&loop->posted) || atomic_load(&loop->stop))
		timeout = 0;
	n = epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS, timeout);
	atomic_store_explicit(&loop->sleeping, false, memory_order_relaxed);
	loop->n_events = n > 0 ? n : 0;
	loop->event = -1;
}

static void *run(void *arg)
{
	struct loop *loop = arg;

	current_loop = loop;
	for (;;) {
		loop->now_ns = timefmt_monotonic_ns();
		run_posted(loop);
		run_timers(loop);
		if (atomic_load(&loop->stop) && !atomic_load(&loop->posted))
			return NULL;
		wait_for_events(loop);
		loop->now_ns = timefmt_monotonic_ns();
		run_events(loop);
	}
}

/* The thread takes no signal: a SIGPIPE of a socket must not end the process,
 * and the others are for the main thread. */
static int start_thread(struct loop *loop, const char *name)
{
	sigset_t all, saved;
	int error;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	pthread_sigmask(SIG_BLOCK, &all, &saved);
	error = pthread_create(&loop->thread, NULL, run, loop);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (error == 0)
		pthread_setname_np(loop->thread, name);
	return -error;
}

static void destroy(struct loop *loop)
{
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	free(loop->heap);
	free(loop);
}

int loop_new(const char *name, struct loop **ret_loop)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	loop->event = -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0)
		r = -errno;
	else
		r = start_thread(loop, name);
	if (r < 0) {
		destroy(loop);
		return r;
	}
	*ret_loop = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	atomic_store(&loop->stop, true);
	wake(loop);
	pthread_join(loop->thread, NULL);
	while (atomic_load_explicit(&loop->posting, memory_order_acquire) > 0)
		sched_yield();
	destroy(loop);
}
