/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The reaper is a timer on one loop, set while there is any read without an
 * answer, that looks at all of them every REAP_MS.  It answers what is late
 * with -EIO and tells the container, which forgets the op if it only waited; and
 * lets those try again that lost their connection.  The container tries again
 * also for one that was late: others may stand behind it.
 *
 * Locks: a container's lock may be held when dataops.lock is taken, never the
 * other way round; users are called with neither.
 */

#include "engine/dataop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
	struct dataops *all =
		(struct dataops *)((char *)call - offsetof(struct dataops, arm));

	if (!all->attached)
		all->attached = loop_timer_attach(all->loop, &all->timer) >= 0;
	if (all->attached)
		loop_timer_set(all->loop, &all->timer,
			       loop_now(all->loop) + REAP_MS * UINT64_C(1000000));
}

/* The loop's last work for the reaper. */
static void disarm_on_loop(struct loop_call *call)
{
	struct dataops *all =
		(struct dataops *)((char *)call - offsetof(struct dataops, disarm));

	if (all->attached)
		loop_timer_detach(all->loop, &all->timer);
	all->attached = false;
	sem_post(&all->quiet);
}

int dataops_init(struct dataops *all, struct bufpool *bufs, struct workers *workers,
		 struct loop *loop)
{
	*all = (struct dataops){ .bufs = bufs, .workers = workers, .loop = loop };
	priority_init(&all->priority, loop, timefmt_monotonic_ns);
	pthread_mutex_init(&all->lock, NULL);
	TAILQ_INIT(&all->pending);
	TAILQ_INIT(&all->retries);
	pthread_cond_init(&all->retried, NULL);
	all->timer.fn = reap;
	all->arm.fn = arm_on_loop;
	all->disarm.fn = disarm_on_loop;
	sem_init(&all->quiet, 0, 0);
	return 0;
}

/* The op is answered, by who took its user. */
static void note_answer(const struct dataop *op)
{
	if (op->is_users)
		priority_user_ends(&op->all->priority, timefmt_monotonic_ns());
}

/* Takes the ops that are late (or all), each with a reference, off the list of
 * pending ones into `late`; their users are then the caller's to answer. */
struct late {
	struct dataop *op;
	struct engine_io *user;
};

static size_t take_late(struct dataops *all, uint64_t now, struct late *late, size_t max)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&all->lock);
	struct dataop *op, *next;
	size_t n = 0;

	for (op = TAILQ_FIRST(&all->pending); op && n < max; op = next) {
		next = TAILQ_NEXT(op, pending);
		if (op->deadline_ns > now && !all->stopping)
			continue;
		TAILQ_REMOVE(&all->pending, op, pending);
		dataop_ref(op);
		late[n++] = (struct late){ op, op->user };
		op->user = NULL;
		note_answer(op);
	}
	return n;
}

static void answer_late(struct dataops *all, int error)
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
			dataop_unref(late[i].op);
		}
}

static size_t take_stalled(struct dataops *all, struct dataop **stalled, size_t max)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&all->lock);
	struct dataop *op;
	size_t n = 0;

	TAILQ_FOREACH (op, &all->pending, pending) {
		if (n == max)
			break;
		if (!__atomic_exchange_n(&op->stalled, false, __ATOMIC_ACQ_REL))
			continue;
		dataop_ref(op);
		stalled[n++] = op;
	}
	return n;
}

static void resume_stalled(struct dataops *all)
{
	struct dataop *stalled[64];
	size_t n = take_stalled(all, stalled, 64);

	for (size_t i = 0; i < n; i++) {
		stalled[i]->ops->resume(stalled[i]);
		dataop_unref(stalled[i]);
	}
}

/* As many as are queued now: what they queue anew has its turn the next time. */
static void run_retries(struct dataops *all)
{
	struct dataop_retry *retry;
	unsigned n = 0;

	pthread_mutex_lock(&all->lock);
	TAILQ_FOREACH (retry, &all->retries, link)
		n++;
	while (n-- > 0 && (retry = TAILQ_FIRST(&all->retries))) {
		TAILQ_REMOVE(&all->retries, retry, link);
		retry->queued = false;
		all->retrying = retry;
		pthread_mutex_unlock(&all->lock);
		retry->fn(retry);
		pthread_mutex_lock(&all->lock);
		all->retrying = NULL;
		pthread_cond_broadcast(&all->retried);
	}
	pthread_mutex_unlock(&all->lock);
}

void dataop_retry(struct dataops *all, struct dataop_retry *retry)
{
	bool arm;

	pthread_mutex_lock(&all->lock);
	if (!retry->queued)
		TAILQ_INSERT_TAIL(&all->retries, retry, link);
	retry->queued = true;
	arm = !all->armed;
	all->armed = true;
	pthread_mutex_unlock(&all->lock);
	if (arm)
		loop_post(all->loop, &all->arm);
}

void dataop_retry_cancel(struct dataops *all, struct dataop_retry *retry)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&all->lock);

	/* It may queue itself again. */
	while (all->retrying == retry)
		pthread_cond_wait(&all->retried, &all->lock);
	if (retry->queued)
		TAILQ_REMOVE(&all->retries, retry, link);
	retry->queued = false;
}

static void reap(struct loop_timer *timer)
{
	struct dataops *all =
		(struct dataops *)((char *)timer - offsetof(struct dataops, timer));
	bool more;

	answer_late(all, -EIO);
	resume_stalled(all);
	run_retries(all);
	pthread_mutex_lock(&all->lock);
	more = !TAILQ_EMPTY(&all->pending) || !TAILQ_EMPTY(&all->retries);
	all->armed = more;
	pthread_mutex_unlock(&all->lock);
	if (more)
		loop_timer_set(all->loop, timer,
			       loop_now(all->loop) + REAP_MS * UINT64_C(1000000));
}

void dataops_stop(struct dataops *all)
{
	pthread_mutex_lock(&all->lock);
	all->stopping = true;
	pthread_mutex_unlock(&all->lock);
	answer_late(all, -ENOTCONN);
}

bool dataops_is_stopping(struct dataops *all)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&all->lock);

	return all->stopping;
}

void dataops_done(struct dataops *all)
{
	loop_post(all->loop, &all->disarm);
	while (sem_wait(&all->quiet) < 0)
		;
	priority_done(&all->priority);
	sem_destroy(&all->quiet);
	pthread_cond_destroy(&all->retried);
	pthread_mutex_destroy(&all->lock);
}

/* A copy of what is to be written. */
static bool take_data(struct dataop *op, const struct engine_io *user)
{
	if (!user->len)
		return true;
	op->buf = bufpool_get(op->all->bufs, BUFPOOL_REQUEST, user->len);
	op->big = !op->buf;
	if (op->big)
		op->buf = aligned_alloc(4096, (user->len + 4095) & ~(size_t)4095);
	op->buf_size = user->len;
	if (op->buf)
		memcpy(op->buf, user->data, user->len);
	return op->buf;
}

struct dataop *dataop_new(struct dataops *all, struct engine_io *user,
			  unsigned timeout_ms, void *container,
			  const struct dataop_container *ops)
{
	struct dataop *op = calloc(1, sizeof(*op));
	uint64_t now_ns = timefmt_monotonic_ns();
	bool arm = false, stopping;

	if (!op || (op->all = all, user->op == ENGINE_IO_WRITE && !take_data(op, user))) {
		free(op);
		user->done(user, -ENOMEM, NULL, 0);
		return NULL;
	}
	op->op = user->op;
	op->user = user;
	op->is_users = !user->own;
	op->refs = 1;
	op->container = container;
	op->ops = ops;
	op->offset = user->offset;
	op->len = user->len;
	op->deadline_ns = now_ns + (timeout_ms - REAP_EARLY_MS) * UINT64_C(1000000);

	ops->ref(container);
	pthread_mutex_lock(&all->lock);
	stopping = all->stopping;
	if (!stopping) {
		if (op->is_users)
			priority_user_begins(&all->priority);
		TAILQ_INSERT_TAIL(&all->pending, op, pending);
		arm = !all->armed;
		all->armed = true;
	}
	pthread_mutex_unlock(&all->lock);
	if (stopping) {
		dataop_unref(op);
		user->done(user, -ENOTCONN, NULL, 0);
		return NULL;
	}
	if (arm)
		loop_post(all->loop, &all->arm);
	return op;
}

void dataop_ref(struct dataop *op)
{
	__atomic_add_fetch(&op->refs, 1, __ATOMIC_RELAXED);
}

void dataop_unref(struct dataop *op)
{
	if (__atomic_sub_fetch(&op->refs, 1, __ATOMIC_ACQ_REL))
		return;
	dataop_put_buffer(op);
	op->ops->unref(op->container);
	free(op);
}

void dataop_stall(struct dataop *op)
{
	__atomic_store_n(&op->stalled, true, __ATOMIC_RELEASE);
}

void dataop_answer(struct dataop *op, int error)
{
	struct engine_io *user;

	pthread_mutex_lock(&op->all->lock);
	user = move_ptr(op->user);
	if (user)
		TAILQ_REMOVE(&op->all->pending, op, pending);
	pthread_mutex_unlock(&op->all->lock);
	if (!user)
		return;
	note_answer(op);
	user->result = op->result;
	if (error)
		user->done(user, error, NULL, 0);
	else if (op->op == ENGINE_IO_READ)
		user->done(user, 0, (char *)op->buf + op->skip, op->len);
	else
		user->done(user, 0, NULL, op->op == ENGINE_IO_WRITE ? op->len : 0);
}

bool dataop_answered(struct dataop *op)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&op->all->lock);

	return !op->user;
}

int dataop_get_buffer(struct dataop *op, size_t size)
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

void dataop_put_buffer(struct dataop *op)
{
	if (!op->buf)
		return;
	if (op->big)
		free(op->buf);
	else
		bufpool_put(op->all->bufs, BUFPOOL_REQUEST, op->buf, op->buf_size);
	op->buf = NULL;
}

void dataop_queue(struct dataop *op, struct dataop_list *list)
{
	TAILQ_INSERT_TAIL(list, op, link);
	op->queue = list;
	op->queued = true;
}

void dataop_unqueue(struct dataop *op)
{
	TAILQ_REMOVE(op->queue, op, link);
	op->queued = false;
}
