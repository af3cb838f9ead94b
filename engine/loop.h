/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_LOOP_H
#define LUNFS_LOOP_H

/*
 * An event loop: one thread, epoll, timers, and a queue by which other threads
 * hand it calls.  Everything that is attached to a loop (descriptors, timers,
 * iSCSI sessions) is touched by that thread only; loop_post() is the one
 * function any thread may call.
 */

#include <stdbool.h>
#include <stdint.h>

struct loop;

/* A call to be run once by the loop's thread.  Owned by the poster, who may
 * free or post it again from within fn. */
struct loop_call {
	void (*fn)(struct loop_call *call);
	struct loop_call *next; /* the queue's */
};

/* A descriptor that is watched.  `events` are EPOLLIN and EPOLLOUT; 0 takes it
 * out of the epoll set (a dead socket would report EPOLLHUP for ever). */
struct loop_fd {
	void (*fn)(struct loop_fd *fd, uint32_t revents);
	int fd;          /* the loop's: set by loop_fd_watch() */
	uint32_t events; /* the loop's */
};

struct loop_timer {
	void (*fn)(struct loop_timer *timer);
	uint64_t when_ns; /* CLOCK_MONOTONIC; the loop's */
	unsigned index;   /* the loop's: place in its heap, 0 = not set */
};

/* name: of the thread, at most 15 bytes.  The thread starts here: call it only
 * after the daemon has forked.  -errno on failure. */
int loop_new(const char *name, struct loop **ret_loop);

/* Runs what is queued, then stops and joins the thread.  Nothing may be
 * attached any more.  Takes NULL. */
void loop_free(struct loop *loop);

/* Any thread.  Calls posted by one thread run in their order. */
void loop_post(struct loop *loop, struct loop_call *call);

/* True when called by the loop's thread. */
bool loop_is_current(const struct loop *loop);

/* Any thread: notes that the calling thread, if it is another loop's, hands a request
 * over to this one; and how many there were, going round: who chooses the loop that
 * requests come in at wants the one that carries them out. */
void loop_note_handover(struct loop *loop);
unsigned loop_handed_over(const struct loop *loop);

/* The loop's thread only, from here on. */

/* Starts, changes (same descriptor) or, with events 0, ends a watch.  The
 * descriptor must be open at each change but may be closed after it was taken
 * out.  0 or -errno. */
int loop_fd_watch(struct loop *loop, struct loop_fd *watch, int fd, uint32_t events);

/* Sets or moves a timer; it fires once.  Never fails (its place in the heap
 * was reserved by loop_timer_attach()). */
int loop_timer_attach(struct loop *loop, struct loop_timer *timer); /* 0, -ENOMEM */
void loop_timer_detach(struct loop *loop, struct loop_timer *timer);
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t when_ns);
void loop_timer_clear(struct loop *loop, struct loop_timer *timer);

/* CLOCK_MONOTONIC as of this turn of the loop, in ns: cheap. */
uint64_t loop_now(const struct loop *loop);

#endif
