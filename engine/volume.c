/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A read waits in `waiting` until the device is ready, fewer than
 * VOLUME_MAX_READS reads are under way and the pool has a buffer; then it is
 * cut into parts of the device's preferred size, which go out together.  When
 * the connection is lost before all parts are answered, the read gives its
 * buffer back and waits again: a volume whose LUN hangs holds no memory for
 * what is queued on it.
 *
 * `submitting` counts the calls that are inside the device's submit function;
 * volume_detach() waits for none, so that the device may be closed.
 *
 * Locks: kick_lock, then lock.  Listeners are called with kick_lock held (which
 * is what volume_unlisten() waits for) and without lock.
 */

#include "engine/volume.h"

#include <errno.h>
#include <stdlib.h>

#include "conf/cleanup.h"
#include "engine/engine.h"

enum { VOLUME_MAX_READS = 16 };

struct volume {
	struct readops *all;
	int refs; /* atomic */

	pthread_mutex_t kick_lock;
	TAILQ_HEAD(, volume_listener) listeners; /* kick_lock */

	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct blockdev *bd; /* NULL: none now */
	unsigned submitting;
	struct readop_list waiting;
	unsigned n_reads;
	struct bufpool_waiter bufs; /* set up once; queued by the pool */
	struct work destroy;
};

static void run(struct volume *v);

static void bufs_came(struct bufpool_waiter *waiter)
{
	run((struct volume *)((char *)waiter - offsetof(struct volume, bufs)));
}

int volume_new(struct readops *readops, struct volume **ret_volume)
{
	struct volume *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->all = readops;
	v->refs = 1;
	pthread_mutex_init(&v->kick_lock, NULL);
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

	if (listener->listening)
		TAILQ_REMOVE(&v->listeners, listener, link);
	listener->listening = false;
}

void volume_kick(struct volume *v)
{
	struct volume_listener *listener;

	run(v);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->kick_lock);
	TAILQ_FOREACH (listener, &v->listeners, link)
		listener->fn(listener);
}

static void forget(struct readop *op)
{
	struct volume *v = op->container;
	bool was_queued;

	pthread_mutex_lock(&v->lock);
	was_queued = op->queued;
	if (was_queued)
		readop_unqueue(op);
	pthread_mutex_unlock(&v->lock);
	if (was_queued)
		readop_unref(op);
}

/* Back into the queue, in front, as it has waited longest; the device's next
 * state wakes it, or the reaper's next turn. */
static void wait_again(struct volume *v, struct readop *op)
{
	readop_put_buffer(op);
	readop_ref(op);
	pthread_mutex_lock(&v->lock);
	v->n_reads--;
	readop_queue(op, &v->waiting);
	TAILQ_REMOVE(&v->waiting, op, link);
	TAILQ_INSERT_HEAD(&v->waiting, op, link);
	pthread_mutex_unlock(&v->lock);
	readop_stall(op);
	if (readop_answered(op))
		forget(op);
	readop_unref(op);
}

/* The last part of a read was answered. */
static void finish(struct readop *op)
{
	struct volume *v = op->container;

	if (op->error == -ENOTCONN && !readop_answered(op)) {
		wait_again(v, op);
		return;
	}
	readop_answer(op, op->error == -ENODATA ? -EIO : op->error);
	volume_ref(v);
	pthread_mutex_lock(&v->lock);
	v->n_reads--;
	pthread_mutex_unlock(&v->lock);
	readop_unref(op);
	run(v);
	volume_unref(v);
}

static void part_done(struct bd_req *req, int error)
{
	struct readop *op = req->opaque;
	int none = 0;

	if (error)
		__atomic_compare_exchange_n(&op->error, &none, error, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	if (!__atomic_sub_fetch(&op->n_pending, 1, __ATOMIC_ACQ_REL))
		finish(op);
}

/* Sends a read whose buffer is there: the parts that cover it. */
static void send_parts(struct volume *v, struct readop *op, const struct bd_info *info)
{
	uint64_t offset = op->offset - op->skip, end = offset + op->buf_size;
	uint64_t part = info->opt_transfer;
	unsigned n = 0;

	while ((end - offset + part - 1) / part > READOP_MAX_PARTS &&
	       part * 2 <= info->max_transfer)
		part *= 2;
	op->error = 0;
	for (uint64_t at = offset; at < end && n < READOP_MAX_PARTS; at += part, n++)
		op->parts[n] = (struct bd_req){
			.op = BD_READ,
			.offset = at,
			.length = end - at < part ? end - at : part,
			.buf = (char *)op->buf + (at - offset),
			.done = part_done,
			.opaque = op,
		};
	if (n * part < end - offset) {
		op->n_pending = 1;
		part_done(&op->parts[0], -EIO);
		return;
	}
	op->n_pending = n;
	for (unsigned i = 0; i < n; i++)
		volume_submit(v, &op->parts[i]);
}

/* Where the blocks begin and end that hold what was asked. */
static size_t align(struct readop *op, const struct bd_info *info)
{
	uint64_t bs = info->block_size;
	uint64_t end = (op->offset + op->len + bs - 1) / bs * bs;

	op->skip = op->offset % bs;
	return end - (op->offset - op->skip);
}

/* Takes the next read that can go, with its buffer; NULL if none can. */
static struct readop *next_read(struct volume *v, const struct bd_info *info)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);
	struct readop *op = TAILQ_FIRST(&v->waiting);
	size_t size;

	if (!op || v->n_reads >= VOLUME_MAX_READS)
		return NULL;
	if (op->offset >= info->size)
		op->len = 0;
	else if (op->len > info->size - op->offset)
		op->len = info->size - op->offset;
	size = op->len ? align(op, info) : 1;
	if (readop_get_buffer(op, size) == -EAGAIN) {
		v->bufs.size = size;
		return NULL;
	}
	readop_unqueue(op);
	v->n_reads++;
	return op;
}

static bool wants_buffer(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);

	return !TAILQ_EMPTY(&v->waiting) && v->n_reads < VOLUME_MAX_READS &&
	       v->bufs.size;
}

/* Sends what can be sent. */
static void run(struct volume *v)
{
	struct bd_info info;
	struct readop *op;

	if (!volume_is_ready(v) || !volume_get_info(v, &info))
		return;
	while ((op = next_read(v, &info))) {
		if (!op->buf || !op->len) {
			op->error = op->buf ? 0 : -ENOMEM;
			finish(op);
		} else {
			send_parts(v, op, &info);
		}
	}
	if (wants_buffer(v))
		bufpool_wait(v->all->bufs, &v->bufs);
}

static void resume(struct readop *op)
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

static const struct readop_container reads_of_volume = {
	.cancel = forget,
	.resume = resume,
	.ref = ref_container,
	.unref = unref_container,
};

void volume_read(struct volume *v, struct engine_read *read, unsigned timeout_ms)
{
	struct readop *op = readop_new(v->all, read, timeout_ms, v, &reads_of_volume);

	if (!op)
		return;
	readop_ref(op);
	pthread_mutex_lock(&v->lock);
	readop_queue(op, &v->waiting);
	pthread_mutex_unlock(&v->lock);
	/* The reaper may have answered before the op stood in the queue. */
	if (readop_answered(op))
		forget(op);
	else
		run(v);
	readop_unref(op);
}
