/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The reaper is a timer on one loop, set while there is any read without an
 * answer, that looks at all of them every REAP_MS.  It answers what is late
 * with -EIO and tells the container, which forgets the op if it only waited; and
 * lets those try again that lost their connection.  The container tries again
 * also for one that was late: others may stand behind it.
 *
 * Locks: a container's lock may be held when readops.lock is taken, never the
 * other way round; users are called with neither.
 */

#include "engine/readop.h"

#include <errno.h>
#include <stdlib.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/engine.h"

enum {
	REAP_MS = 200,
	/* An answer is late only when it comes after the deadline: the reaper
	 * looks at what is this near to it. */
	REAP_EARLY_MS = 300,
};

static void reap(struct loop_timer *timer);

static void arm_on_loop(struct loop_call *call)
{
	struct readops *all =
		(struct readops *)((char *)call - offsetof(struct readops, arm));

	if (!all->attached)
		all->attached = loop_timer_attach(all->loop, &all->timer) >= 0;
	if (all->attached)
		loop_timer_set(all->loop, &all->timer,
			       loop_now(all->loop) + REAP_MS * UINT64_C(1000000));
}

/* The loop's last work for the reaper. */
static void disarm_on_loop(struct loop_call *call)
{
	struct readops *all =
		(struct readops *)((char *)call - offsetof(struct readops, disarm));

	if (all->attached)
		loop_timer_detach(all->loop, &all->timer);
	all->attached = false;
	sem_post(&all->quiet);
}

int readops_init(struct readops *all, struct bufpool *bufs, struct workers *workers,
		 struct loop *loop)
{
	*all = (struct readops){ .bufs = bufs, .workers = workers, .loop = loop };
	pthread_mutex_init(&all->lock, NULL);
	TAILQ_INIT(&all->pending);
	all->timer.fn = reap;
	all->arm.fn = arm_on_loop;
	all->disarm.fn = disarm_on_loop;
	sem_init(&all->quiet, 0, 0);
	return 0;
}

/* Takes the ops that are late (or all), each with a reference, off the list of
 * pending ones into `late`; their users are then the caller's to answer. */
struct late {
	struct readop *op;
	struct engine_read *user;
};

static size_t take_late(struct readops *all, uint64_t now, struct late *late, size_t max)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&all->lock);
	struct readop *op, *next;
	size_t n = 0;

	for (op = TAILQ_FIRST(&all->pending); op && n < max; op = next) {
		next = TAILQ_NEXT(op, pending);
		if (op->deadline_ns > now && !all->stopping)
			continue;
		TAILQ_REMOVE(&all->pending, op, pending);
		readop_ref(op);
		late[n++] = (struct late){ op, op->user };
		op->user = NULL;
	}
	return n;
}

static void answer_late(struct readops *all, int error)
{
	struct late late[64];
	size_t n;

	while ((n = take_late(all, timefmt_monotonic_ns(), late, 64)) > 0)
		for (size_t i = 0; i < n; i++) {
			late[i].user->done(late[i].user, error, NULL, 0);
			late[i].op->ops->cancel(late[i].op);
			if (__atomic_exchange_n(&late[i].op->stalled, false,
						__ATOMIC_ACQ_REL))
				late[i].op->ops->resume(late[i].op);
			readop_unref(late[i].op);
		}
}

static size_t take_stalled(struct readops *all, struct readop **stalled, size_t max)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&all->lock);
	struct readop *op;
	size_t n = 0;

	TAILQ_FOREACH (op, &all->pending, pending) {
		if (n == max)
			break;
		if (!__atomic_exchange_n(&op->stalled, false, __ATOMIC_ACQ_REL))
			continue;
		readop_ref(op);
		stalled[n++] = op;
	}
	return n;
}

static void resume_stalled(struct readops *all)
{
	struct readop *stalled[64];
	size_t n = take_stalled(all, stalled, 64);

	for (size_t i = 0; i < n; i++) {
		stalled[i]->ops->resume(stalled[i]);
		readop_unref(stalled[i]);
	}
}

static void reap(struct loop_timer *timer)
{
	struct readops *all =
		(struct readops *)((char *)timer - offsetof(struct readops, timer));
	bool more;

	answer_late(all, -EIO);
	resume_stalled(all);
	pthread_mutex_lock(&all->lock);
	more = !TAILQ_EMPTY(&all->pending);
	all->armed = more;
	pthread_mutex_unlock(&all->lock);
	if (more)
		loop_timer_set(all->loop, timer,
			       loop_now(all->loop) + REAP_MS * UINT64_C(1000000));
}

void readops_stop(struct readops *all)
{
	pthread_mutex_lock(&all->lock);
	all->stopping = true;
	pthread_mutex_unlock(&all->lock);
	answer_late(all, -ENOTCONN);
}

void readops_done(struct readops *all)
{
	loop_post(all->loop, &all->disarm);
	while (sem_wait(&all->quiet) < 0)
		;
	sem_destroy(&all->quiet);
	pthread_mutex_destroy(&all->lock);
}

struct readop *readop_new(struct readops *all, struct engine_read *user,
			  unsigned timeout_ms, void *container,
			  const struct readop_container *ops)
{
	struct readop *op = calloc(1, sizeof(*op));
	bool arm = false, stopping;

	if (!op) {
		user->done(user, -ENOMEM, NULL, 0);
		return NULL;
	}
	op->all = all;
	op->user = user;
	op->refs = 1;
	op->container = container;
	op->ops = ops;
	op->offset = user->offset;
	op->len = user->len;
	op->deadline_ns = timefmt_monotonic_ns() +
			  (timeout_ms - REAP_EARLY_MS) * UINT64_C(1000000);

	ops->ref(container);
	pthread_mutex_lock(&all->lock);
	stopping = all->stopping;
	if (!stopping) {
		TAILQ_INSERT_TAIL(&all->pending, op, pending);
		arm = !all->armed;
		all->armed = true;
	}
	pthread_mutex_unlock(&all->lock);
	if (stopping) {
		readop_unref(op);
		user->done(user, -ENOTCONN, NULL, 0);
		return NULL;
	}
	if (arm)
		loop_post(all->loop, &all->arm);
	return op;
}

void readop_ref(struct readop *op)
{
	__atomic_add_fetch(&op->refs, 1, __ATOMIC_RELAXED);
}

void readop_unref(struct readop *op)
{
	if (__atomic_sub_fetch(&op->refs, 1, __ATOMIC_ACQ_REL))
		return;
	readop_put_buffer(op);
	op->ops->unref(op->container);
	free(op);
}

void readop_stall(struct readop *op)
{
	__atomic_store_n(&op->stalled, true, __ATOMIC_RELEASE);
}

void readop_answer(struct readop *op, int error)
{
	struct engine_read *user;

	pthread_mutex_lock(&op->all->lock);
	user = move_ptr(op->user);
	if (user)
		TAILQ_REMOVE(&op->all->pending, op, pending);
	pthread_mutex_unlock(&op->all->lock);
	if (!user)
		return;
	if (error)
		user->done(user, error, NULL, 0);
	else
		user->done(user, 0, (char *)op->buf + op->skip, op->len);
}

bool readop_answered(struct readop *op)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&op->all->lock);

	return !op->user;
}

int readop_get_buffer(struct readop *op, size_t size)
{
	if (op->buf)
		return 0;
	op->big = size > BUFPOOL_MAX_BUFFER;
	op->buf = op->big ? aligned_alloc(4096, (size + 4095) & ~(size_t)4095) :
			    bufpool_get(op->all->bufs, BUFPOOL_REQUEST, size);
	if (!op->buf)
		return op->big ? -ENOMEM : -EAGAIN;
	op->buf_size = size;
	return 0;
}

void readop_put_buffer(struct readop *op)
{
	if (!op->buf)
		return;
	if (op->big)
		free(op->buf);
	else
		bufpool_put(op->all->bufs, BUFPOOL_REQUEST, op->buf, op->buf_size);
	op->buf = NULL;
}

void readop_queue(struct readop *op, struct readop_list *list)
{
	TAILQ_INSERT_TAIL(list, op, link);
	op->queue = list;
	op->queued = true;
}

void readop_unqueue(struct readop *op)
{
	TAILQ_REMOVE(op->queue, op, link);
	op->queued = false;
}
