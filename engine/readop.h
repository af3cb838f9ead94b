/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_READOP_H
#define LUNFS_READOP_H

/*
 * A user's read under way, and the promise that it is answered by its
 * deadline.  The request of the user (struct engine_read) is answered exactly
 * once, by whoever comes first: the data path with the bytes, or the reaper
 * with -EIO.  What the data path still has under way for a read that was given
 * up (a LUN that hangs) goes on in the struct read_op, which owns its buffer.
 */

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "engine/blockdev.h"
#include "engine/bufpool.h"
#include "engine/loop.h"
#include "engine/workers.h"

struct engine_read;
struct readop;

TAILQ_HEAD(readop_list, readop);

/* The reads of the whole process that have no answer yet. */
struct readops {
	struct bufpool *bufs;
	struct workers *workers;
	struct loop *loop; /* whose timer looks at the deadlines */
	pthread_mutex_t lock;
	struct readop_list pending; /* not in order of their deadlines */
	bool stopping;              /* new ones are -ENOTCONN */
	bool armed;
	struct loop_timer timer;
	struct loop_call arm, disarm;
	bool attached; /* the loop's thread only */
	sem_t quiet;   /* posted when the loop has let go */
};

enum { READOP_MAX_PARTS = 6 };

/* What a volume or an image does for the reads in its hands. */
struct readop_container {
	/* The reaper has answered: take the op out of the queue it waits in, if
	 * it waits. */
	void (*cancel)(struct readop *op);
	/* Asked for by readop_stall(): try again. */
	void (*resume)(struct readop *op);
	/* An op holds a reference on its container as long as it lives. */
	void (*ref)(void *container);
	void (*unref)(void *container);
};

struct readop {
	struct readops *all;
	struct engine_read *user; /* all->lock; NULL once answered */
	uint64_t deadline_ns;
	int refs;                    /* atomic */
	TAILQ_ENTRY(readop) pending; /* all->lock; linked while user is set */

	const struct readop_container *ops;
	bool stalled; /* atomic: the reaper calls ops->resume at its next turn */

	/* The container's (volume, image), under its lock. */
	void *container;
	bool queued;
	TAILQ_ENTRY(readop) link;
	struct readop_list *queue; /* the list it is linked in while queued */

	uint64_t offset; /* what was asked, cut at the end of the element */
	size_t len;
	void *buf; /* of buf_size bytes; from the pool unless big */
	size_t buf_size;
	bool big; /* larger than the pool's buffers: from malloc */
	size_t skip; /* bytes of buf before the first one asked for */
	unsigned n_pending; /* atomic: parts without an answer */
	int error;          /* atomic: the first error */
	uint64_t part;      /* bytes of a part */
	uint64_t next_part; /* atomic: offset of the first one not made */
	struct bd_req parts[READOP_MAX_PARTS];
	struct work work;
};

int readops_init(struct readops *all, struct bufpool *bufs, struct workers *workers,
		 struct loop *loop);
/* Answers everything with -ENOTCONN, now and from now on. */
void readops_stop(struct readops *all);
/* After readops_stop(), while the loop still runs; waits until it has let go. */
void readops_done(struct readops *all);

/* A new op for a user's read, with one reference for the container; or NULL
 * (the user has then been answered). */
struct readop *readop_new(struct readops *all, struct engine_read *user,
			  unsigned timeout_ms, void *container,
			  const struct readop_container *ops);
void readop_ref(struct readop *op);
void readop_unref(struct readop *op);

/* Asks for resume() at the reaper's next turn (within 0.2 s). */
void readop_stall(struct readop *op);

/* Answers the user unless that was done; the bytes are at buf + skip. */
void readop_answer(struct readop *op, int error);
bool readop_answered(struct readop *op);

/* The buffer: 0; -EAGAIN when the pool has none now. */
int readop_get_buffer(struct readop *op, size_t size);
void readop_put_buffer(struct readop *op);

/* Under the container's lock. */
void readop_queue(struct readop *op, struct readop_list *list);
void readop_unqueue(struct readop *op);

#endif
