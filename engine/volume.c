/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A read waits in `waiting` until the device is ready, fewer than
 * VOLUME_MAX_READS reads are under way and the pool has a buffer; then it is
 * cut into parts of the device's preferred size, which go out together (where
 * the device takes only little at a time, each answer sends the next part).
 * When the connection is lost before all parts are answered, the read gives its
 * buffer back and waits again: a volume whose LUN hangs holds no memory for
 * what is queued on it.
 *
 * A device may answer before its submit function returns, and an answer makes
 * room for another read: run(), called from within run(), leaves that to the
 * loop that it is within.  That loop ends when a connection was lost meanwhile,
 * or it would take the same read again and again until the device's state is
 * known to have changed.
 *
 * `submitting` counts the calls that are inside the device's submit function;
 * volume_detach() waits for none, so that the device may be closed.
 *
 * Listeners are called by one thread at a time, with no lock held: what they
 * submit may lose the connection there and then, which is another kick, from
 * within or by another thread.  It makes the first one go round once more.
 * volume_unlisten() waits for the end of that.
 *
 * Locks: kick_lock and lock are never held together.
 */

#include "engine/volume.h"

#include <errno.h>
#include <stdlib.h>

#include "conf/cleanup.h"
#include "engine/engine.h"

enum { VOLUME_MAX_READS = 16 };

struct volume {
	struct dataops *all;
	int refs; /* atomic */

	pthread_mutex_t kick_lock; /* protects these four */
	pthread_cond_t kicked;     /* kicking became false */
	TAILQ_HEAD(, volume_listener) listeners;
	bool kicking, kick_again;

	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct blockdev *bd; /* NULL: none now */
	unsigned submitting;
	struct dataop_list waiting;
	unsigned n_reads;
	unsigned n_lost; /* reads that had to wait again; goes round */
	struct bufpool_waiter bufs; /* set up once; queued by the pool */
	struct work destroy;
};

/* The volume that this thread is in run() for. */
static _Thread_local const struct volume *running;

static void run(struct volume *v);

static void bufs_came(struct bufpool_waiter *waiter)
{
	run((struct volume *)((char *)waiter - offsetof(struct volume, bufs)));
}

int volume_new(struct dataops *dataops, struct volume **ret_volume)
{
	struct volume *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->all = dataops;
	v->refs = 1;
	pthread_mutex_init(&v->kick_lock, NULL);
	pthread_cond_init(&v->kicked, NULL);
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->idle, NULL);
	TAILQ_INIT(&v->listeners);
	TAILQ_INIT(&v->waiting);
	v->bufs = (struct bufpool_waiter){ .fn = bufs_came, .class = BUFPOOL_REQUEST };
	*ret_volume = v;
	return 0;
}

void volume_ref(struct volume *v)
{
	__atomic_add_fetch(&v->refs, 1, __ATOMIC_RELAXED);
}

/* By a worker: the last reference may be dropped inside the pool's call to
 * bufs_came(), for whose end bufpool_cancel() waits. */
static void destroy(struct work *work)
{
	struct volume *v = (struct volume *)((char *)work -
					     offsetof(struct volume, destroy));

	bufpool_cancel(v->all->bufs, &v->bufs);
	pthread_cond_destroy(&v->idle);
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->kicked);
	pthread_mutex_destroy(&v->kick_lock);
	free(v);
}

void volume_unref(struct volume *v)
{
	if (!v || __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL))
		return;
	v->destroy.fn = destroy;
	workers_submit(v->all->workers, &v->destroy);
}

/* The device, held against volume_detach() until put_device(); NULL if there
 * is none. */
static struct blockdev *get_device(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);

	if (v->bd)
		v->submitting++;
	return v->bd;
}

static void put_device(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);

	if (!--v->submitting)
		pthread_cond_broadcast(&v->idle);
}

void volume_attach(struct volume *v, struct blockdev *bd)
{
	pthread_mutex_lock(&v->lock);
	v->bd = bd;
	pthread_mutex_unlock(&v->lock);
	volume_kick(v);
}

struct blockdev *volume_detach(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);
	struct blockdev *bd = move_ptr(v->bd);

	while (v->submitting)
		pthread_cond_wait(&v->idle, &v->lock);
	return bd;
}

bool volume_is_ready(struct volume *v)
{
	struct blockdev *bd = get_device(v);
	struct bd_status status = { .state = BD_DORMANT };

	if (bd) {
		bd_get_status(bd, &status);
		put_device(v);
	}
	return status.state == BD_READY;
}

bool volume_get_info(struct volume *v, struct bd_info *ret_info)
{
	struct blockdev *bd = get_device(v);
	bool known = false;

	if (bd) {
		known = bd_get_info(bd, ret_info);
		put_device(v);
	}
	return known;
}

void volume_submit(struct volume *v, struct bd_req *req)
{
	struct blockdev *bd = get_device(v);

	if (!bd) {
		req->done(req, -ENOTCONN);
		return;
	}
	bd_submit(bd, req);
	put_device(v);
}

void volume_listen(struct volume *v, struct volume_listener *listener)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->kick_lock);

	if (!listener->listening)
		TAILQ_INSERT_TAIL(&v->listeners, listener, link);
	listener->listening = true;
}

void volume_unlisten(struct volume *v, struct volume_listener *listener)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->kick_lock);

	while (v->kicking)
		pthread_cond_wait(&v->kicked, &v->kick_lock);
	if (listener->listening)
		TAILQ_REMOVE(&v->listeners, listener, link);
	listener->listening = false;
}

/* None is taken off the list meanwhile. */
static void call_listeners_locked(struct volume *v)
{
	struct volume_listener *listener;

	TAILQ_FOREACH (listener, &v->listeners, link) {
		pthread_mutex_unlock(&v->kick_lock);
		listener->fn(listener);
		pthread_mutex_lock(&v->kick_lock);
	}
}

void volume_kick(struct volume *v)
{
	run(v);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->kick_lock);
	v->kick_again = true;
	if (v->kicking)
		return;
	v->kicking = true;
	while (v->kick_again) {
		v->kick_again = false;
		call_listeners_locked(v);
	}
	v->kicking = false;
	pthread_cond_broadcast(&v->kicked);
}

static void forget(struct dataop *op)
{
	struct volume *v = op->container;
	bool was_queued;

	pthread_mutex_lock(&v->lock);
	was_queued = op->queued;
	if (was_queued)
		dataop_unqueue(op);
	pthread_mutex_unlock(&v->lock);
	if (was_queued)
		dataop_unref(op);
}

/* Back into the queue, in front, as it has waited longest; the device's next
 * state wakes it, or the reaper's next turn. */
static void wait_again(struct volume *v, struct dataop *op)
{
	dataop_put_buffer(op);
	dataop_ref(op);
	pthread_mutex_lock(&v->lock);
	v->n_reads--;
	v->n_lost++;
	dataop_queue(op, &v->waiting);
	TAILQ_REMOVE(&v->waiting, op, link);
	TAILQ_INSERT_HEAD(&v->waiting, op, link);
	pthread_mutex_unlock(&v->lock);
	dataop_stall(op);
	/* The reaper may have answered meanwhile, and does not look at it again. */
	if (dataop_answered(op)) {
		forget(op);
		run(v);
	}
	dataop_unref(op);
}

/* The last part of a read was answered. */
static void finish(struct dataop *op)
{
	struct volume *v = op->container;

	if (op->error == -ENOTCONN && !dataop_answered(op)) {
		wait_again(v, op);
		return;
	}
	dataop_answer(op, op->error == -ENODATA ? -EIO : op->error);
	volume_ref(v);
	pthread_mutex_lock(&v->lock);
	v->n_reads--;
	pthread_mutex_unlock(&v->lock);
	dataop_unref(op);
	run(v);
	volume_unref(v);
}

static void part_done(struct bd_req *req, int error);

/* Makes the next part of a read; false if all are made. */
static bool next_part(struct dataop *op, struct bd_req *req)
{
	uint64_t begin = op->offset - op->skip, end = begin + op->buf_size;
	uint64_t at = __atomic_fetch_add(&op->next_part, op->part, __ATOMIC_RELAXED);

	if (at >= end)
		return false;
	*req = (struct bd_req){
		.op = BD_READ,
		.offset = at,
		.length = end - at < op->part ? end - at : op->part,
		.buf = (char *)op->buf + (at - begin),
		.done = part_done,
		.opaque = op,
	};
	return true;
}

static void part_done(struct bd_req *req, int error)
{
	struct dataop *op = req->opaque;
	int none = 0;

	if (error)
		__atomic_compare_exchange_n(&op->error, &none, error, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&op->error, __ATOMIC_RELAXED) && next_part(op, req)) {
		volume_submit(op->container, req);
		return;
	}
	if (!__atomic_sub_fetch(&op->n_pending, 1, __ATOMIC_ACQ_REL))
		finish(op);
}

/* Sends a read whose buffer is there: the parts that cover it. */
static void send_parts(struct volume *v, struct dataop *op, const struct bd_info *info)
{
	unsigned n = 0;

	op->part = info->opt_transfer;
	while ((op->buf_size + op->part - 1) / op->part > DATAOP_MAX_PARTS &&
	       op->part * 2 <= info->max_transfer)
		op->part *= 2;
	op->error = 0;
	op->next_part = op->offset - op->skip;
	while (n < DATAOP_MAX_PARTS && next_part(op, &op->parts[n]))
		n++;
	op->n_pending = n;
	for (unsigned i = 0; i < n; i++)
		volume_submit(v, &op->parts[i]);
}

/* Where the blocks begin and end that hold what was asked. */
static size_t align(struct dataop *op, const struct bd_info *info)
{
	uint64_t bs = info->block_size;
	uint64_t end = (op->offset + op->len + bs - 1) / bs * bs;

	op->skip = op->offset % bs;
	return end - (op->offset - op->skip);
}

/* Takes the next read that can go, with its buffer; NULL if none can, or if more
 * than n_lost reads have lost their connection. */
static struct dataop *next_read(struct volume *v, const struct bd_info *info,
				unsigned n_lost, bool *ret_wants_buffer)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);
	struct dataop *op = TAILQ_FIRST(&v->waiting);
	size_t size;

	if (!op || v->n_reads >= VOLUME_MAX_READS || v->n_lost != n_lost)
		return NULL;
	if (op->offset >= info->size)
		op->len = 0;
	else if (op->len > info->size - op->offset)
		op->len = info->size - op->offset;
	size = op->len ? align(op, info) : 1;
	if (dataop_get_buffer(op, size) == -EAGAIN) {
		__atomic_store_n(&v->bufs.size, size, __ATOMIC_RELAXED);
		*ret_wants_buffer = true;
		return NULL;
	}
	dataop_unqueue(op);
	v->n_reads++;
	return op;
}

static unsigned count_lost(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);

	return v->n_lost;
}

/* True if it ended for want of a buffer. */
static bool send_waiting(struct volume *v)
{
	unsigned n_lost = count_lost(v);
	bool wants_buffer = false;
	struct bd_info info;
	struct dataop *op;

	if (!volume_is_ready(v) || !volume_get_info(v, &info))
		return false;
	while ((op = next_read(v, &info, n_lost, &wants_buffer))) {
		if (!op->buf || !op->len) {
			op->error = op->buf ? 0 : -ENOMEM;
			finish(op);
		} else {
			send_parts(v, op, &info);
		}
	}
	return wants_buffer;
}

/* Sends what can be sent. */
static void run(struct volume *v)
{
	const struct volume *outer = running;
	bool wants_buffer;

	if (outer == v)
		return;
	running = v;
	wants_buffer = send_waiting(v);
	running = outer;
	/* This may be a call of bufs_came(). */
	if (wants_buffer)
		bufpool_wait(v->all->bufs, &v->bufs);
}

static void resume(struct dataop *op)
{
	run(op->container);
}

static void ref_container(void *container)
{
	volume_ref(container);
}

static void unref_container(void *container)
{
	volume_unref(container);
}

static const struct dataop_container ops_of_volume = {
	.cancel = forget,
	.resume = resume,
	.ref = ref_container,
	.unref = unref_container,
};

/* What is not known is data. */
static void seek(struct volume *v, struct dataop *op)
{
	struct bd_info info;

	op->result = op->offset;
	if (!volume_get_info(v, &info) || op->offset >= info.size)
		dataop_answer(op, -ENXIO);
	else if (op->op == ENGINE_IO_SEEK_HOLE)
		op->result = info.size;
	dataop_answer(op, 0);
	dataop_unref(op);
}

void volume_io(struct volume *v, struct engine_io *io, unsigned timeout_ms)
{
	struct dataop *op = dataop_new(v->all, io, timeout_ms, v, &ops_of_volume);

	if (!op)
		return;
	if (op->op == ENGINE_IO_SEEK_DATA || op->op == ENGINE_IO_SEEK_HOLE) {
		seek(v, op);
		return;
	}
	if (op->op != ENGINE_IO_READ) {
		dataop_answer(op, op->op == ENGINE_IO_FLUSH ? 0 : -EROFS);
		dataop_unref(op);
		return;
	}
	dataop_ref(op);
	pthread_mutex_lock(&v->lock);
	dataop_queue(op, &v->waiting);
	pthread_mutex_unlock(&v->lock);
	/* The reaper may have answered before the op stood in the queue. */
	if (dataop_answered(op))
		forget(op);
	else
		run(v);
	dataop_unref(op);
}
