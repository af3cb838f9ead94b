/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_DATAOP_H
#define LUNFS_DATAOP_H

/*
 * A user's request for data under way, and the promise that it is answered by its
 * deadline.  The request of the user (struct engine_io) is answered exactly once,
 * by whoever comes first: the data path, or the reaper with -EIO.  What the data
 * path still has under way for a request that was given up (a LUN that hangs) goes
 * on in the struct dataop, which owns its buffer: what is read, or a copy of what is
 * to be written.
 */

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "engine/blockdev.h"
#include "engine/bufpool.h"
#include "engine/engine.h"
#include "engine/loop.h"
#include "engine/priority.h"
#include "engine/workers.h"

struct dataop;

TAILQ_HEAD(dataop_list, dataop);

/* Something to be tried again at the reaper's next turn (within 0.2 s). */
struct dataop_retry {
	/* Called once by a loop's thread, with no lock held. */
	void (*fn)(struct dataop_retry *retry);
	TAILQ_ENTRY(dataop_retry) link;
	bool queued; /* the three: dataops.lock */
};

/* The requests of the whole process that have no answer yet. */
struct dataops {
	struct bufpool *bufs;
	struct workers *workers;
	struct loop *loop; /* whose timer looks at the deadlines */
	struct priority priority; /* of background copies beside them */
	pthread_mutex_t lock;
	struct dataop_list pending; /* not in order of their deadlines */
	TAILQ_HEAD(, dataop_retry) retries;
	struct dataop_retry *retrying; /* its fn is running */
	pthread_cond_t retried;     /* retrying became NULL */
	bool stopping;              /* new ones are -ENOTCONN */
	bool armed;
	struct loop_timer timer;
	struct loop_call arm, disarm;
	bool attached; /* the loop's thread only */
	sem_t quiet;   /* posted when the loop has let go */
};

enum { DATAOP_MAX_PARTS = 6 };

/* What a volume or an image does for the requests in its hands. */
struct dataop_container {
	/* The reaper has answered: take the op out of the queue it waits in, if
	 * it waits. */
	void (*cancel)(struct dataop *op);
	/* Asked for by dataop_stall(): try again. */
	void (*resume)(struct dataop *op);
	/* An op holds a reference on its container as long as it lives. */
	void (*ref)(void *container);
	void (*unref)(void *container);
};

struct dataop {
	struct dataops *all;
	struct engine_io *user; /* all->lock; NULL once answered */
	bool is_users; /* not the engine's own: background copies make way for it */
	uint64_t deadline_ns;
	int refs;                    /* atomic */
	TAILQ_ENTRY(dataop) pending; /* all->lock; linked while user is set */

	const struct dataop_container *ops;
	bool stalled; /* atomic: the reaper calls ops->resume at its next turn */

	/* The container's (volume, image), under its lock. */
	void *container;
	void *holder; /* what of the container carries it out; NULL: nothing now */
	bool queued;
	TAILQ_ENTRY(dataop) link;
	struct dataop_list *queue; /* the list it is linked in while queued */

	enum engine_io_op op;
	uint64_t offset; /* what was asked, cut at the end of the element */
	uint64_t len;	 /* of a seek: all up to that end */
	uint64_t result; /* of a seek */
	void *buf; /* of buf_size bytes; from the pool unless big */
	size_t buf_size;
	bool big; /* larger than the pool's buffers, or it had none: from malloc */
	size_t skip; /* bytes of buf before the first one asked for */
	unsigned n_pending; /* atomic: parts without an answer */
	int error;          /* atomic: the first error */
	uint64_t part;      /* bytes of a part */
	uint64_t next_part; /* atomic: offset of the first one not made */
	struct bd_req parts[DATAOP_MAX_PARTS];
	struct work work;
};

int dataops_init(struct dataops *all, struct bufpool *bufs, struct workers *workers,
		 struct loop *loop);
/* Answers everything with -ENOTCONN, now and from now on. */
void dataops_stop(struct dataops *all);
/* After dataops_stop(), while the loop still runs; waits until it has let go. */
void dataops_done(struct dataops *all);

bool dataops_is_stopping(struct dataops *all);

/* A new op for a user's request, with one reference for the container; of a write
 * it has the bytes, at buf.  Or NULL (the user has then been answered). */
struct dataop *dataop_new(struct dataops *all, struct engine_io *user,
			  unsigned timeout_ms, void *container,
			  const struct dataop_container *ops);
void dataop_ref(struct dataop *op);
void dataop_unref(struct dataop *op);

/* Asks for resume() at the reaper's next turn (within 0.2 s). */
void dataop_stall(struct dataop *op);

/* Asks for retry->fn at the reaper's next turn, unless that is asked for already. */
void dataop_retry(struct dataops *all, struct dataop_retry *retry);
/* After it, fn is not called and not running.  Not from within fn. */
void dataop_retry_cancel(struct dataops *all, struct dataop_retry *retry);

/* Answers the user unless that was done; the bytes read are at buf + skip. */
void dataop_answer(struct dataop *op, int error);
bool dataop_answered(struct dataop *op);

/* The buffer: 0; -EAGAIN when the pool has none now. */
int dataop_get_buffer(struct dataop *op, size_t size);
void dataop_put_buffer(struct dataop *op);

/* Under the container's lock. */
void dataop_queue(struct dataop *op, struct dataop_list *list);
void dataop_unqueue(struct dataop *op);

#endif
