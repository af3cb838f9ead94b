/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_BUFPOOL_H
#define LUNFS_BUFPOOL_H

/*
 * The data buffers of the whole process, bounded by `copy_memory`.  Buffers
 * are aligned to 4096 bytes (O_DIRECT) and have one of three sizes, 64 KiB, 256
 * KiB and 1 MiB, which is what counts against the limit.  Copiers may take at most three
 * quarters of the pool, so that the users' requests always find some.
 *
 * Nobody blocks here: who finds nothing leaves a waiter, which is called once
 * when memory has come back.  Waiters of BUFPOOL_REQUEST go first, each class
 * in the order of arrival.  Thread safe.
 */

#include <stddef.h>
#include <stdint.h>

struct bufpool;

enum bufpool_class { BUFPOOL_COPY, BUFPOOL_REQUEST };

enum { BUFPOOL_MAX_BUFFER = 1 << 20 }; /* bytes */

struct bufpool_waiter {
	/* Called with no lock held, by a thread that gives memory back; must not
	 * block.  Try bufpool_get() again in it (it may fail again; its first
	 * bufpool_get() of this class goes before all other waiters). */
	void (*fn)(struct bufpool_waiter *waiter);
	enum bufpool_class class;
	size_t size; /* atomic: may change while it is queued */
	struct bufpool_waiter *next; /* the pool's */
	int queued;		     /* the pool's */
};

/* limit_bytes: at least 2 MiB, else -EINVAL; whole 64 KiB are used. */
int bufpool_new(uint64_t limit_bytes, struct bufpool **ret_pool);
void bufpool_free(struct bufpool *pool); /* every buffer given back; takes NULL */

/* A buffer of at least `size` (1..BUFPOOL_MAX_BUFFER) bytes, content undefined,
 * or NULL when the pool or the class has no room, or waiters stand before. */
void *bufpool_get(struct bufpool *pool, enum bufpool_class class, size_t size);
void bufpool_put(struct bufpool *pool, enum bufpool_class class, void *buf, size_t size);

/*
 * Queues waiter (fn, class, size set by the caller) unless it is queued
 * already.  Memory that came back between a failed get and this call is not
 * lost: fn is then called at once, from within bufpool_wait() unless another
 * call is under way, which then goes on with it.  The same holds for a waiter
 * that is queued already and whose size has become smaller.
 */
void bufpool_wait(struct bufpool *pool, struct bufpool_waiter *waiter);

/* Takes a waiter out.  After it, fn is not called and not running, unless this
 * is called from within it.  Waits for fn: hold no lock that fn takes. */
void bufpool_cancel(struct bufpool *pool, struct bufpool_waiter *waiter);

/* Bytes handed out now, and the most there were. */
uint64_t bufpool_used(struct bufpool *pool);
uint64_t bufpool_peak(struct bufpool *pool);

#endif
