/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Reads and seeks of a volume's users.
 *
 * A read waits in `waiting` until the device is ready, fewer than
 * VOLUME_MAX_READS reads are under way and the pool has a buffer; then it is
 * cut into parts of the device's preferred size, which go out together (where
 * the device takes only little at a time, each answer sends the next part).
 * When the connection is lost before all parts are answered, the read gives its
 * buffer back and waits again: a volume whose LUN hangs holds no memory for
 * what is queued on it.
 *
 * A device may answer before its submit function returns, and an answer makes
 * room for another read: volume_reads_run(), called from within itself, leaves that
 * to the loop that it is within.  That loop ends when a connection was lost
 * meanwhile, or it would take the same read again and again until the device's state
 * is known to have changed.
 *
 * A seek asks which extents are mapped, answer after answer, until one is of the kind
 * that is looked for.  What a device does not tell is data, and so is all of a volume
 * that is being restored: the device does not know yet what it will have.
 */

#include <errno.h>
#include <stdlib.h>

#include "conf/cleanup.h"
#include "engine/chain.h"
#include "engine/restore.h"
#include "engine/volume_int.h"

enum { VOLUME_MAX_READS = 32 };
#define ASK_BYTES (UINT64_C(64) << 30)

/* The volume that this thread is in volume_reads_run() for. */
static _Thread_local const struct volume *running;

static void bufs_came(struct bufpool_waiter *waiter)
{
	volume_reads_run(
		(struct volume *)((char *)waiter - offsetof(struct volume, bufs)));
}

void volume_reads_init(struct volume *v)
{
	TAILQ_INIT(&v->waiting);
	v->bufs = (struct bufpool_waiter){ .fn = bufs_came, .class = BUFPOOL_REQUEST };
}

void volume_reads_done(struct volume *v)
{
	bufpool_cancel(v->all->bufs, &v->bufs);
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
		volume_reads_run(v);
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
	volume_reads_run(v);
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
static void send_parts(struct volume *v, struct dataop *op, const struct bd_geometry *g)
{
	unsigned n = 0;

	op->part = g->opt_transfer;
	while ((op->buf_size + op->part - 1) / op->part > DATAOP_MAX_PARTS &&
	       op->part * 2 <= g->max_transfer)
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
static size_t align(struct dataop *op, const struct bd_geometry *g)
{
	uint64_t bs = g->block_size;
	uint64_t end = (op->offset + op->len + bs - 1) / bs * bs;

	op->skip = op->offset % bs;
	return end - (op->offset - op->skip);
}

/* A read that waits for chunks to be copied back; its buffer and place are there. */
struct copy_back {
	struct chain_waiter waiter;
	struct dataop *op;
};

static void copied_back(struct chain_waiter *waiter);

/* Sends a read, once what it reads is restored. */
static void send_restored(struct volume *v, struct dataop *op, const struct bd_geometry *g,
			  struct copy_back *cb)
{
	struct restore *r = volume_get_restore(v);
	uint64_t begin = op->offset - op->skip, end = begin + op->buf_size;
	uint64_t chunk = begin / POOL_CHUNK_SIZE;
	bool ready = !r;

	if (r && !cb)
		cb = calloc(1, sizeof(*cb));
	if (r && cb) {
		cb->waiter.fn = copied_back;
		cb->op = op;
		ready = dataop_answered(op) ||
			restore_prepare(r, chunk, (end - 1) / POOL_CHUNK_SIZE - chunk + 1,
					&cb->waiter);
	}
	restore_unref(r);
	if (r && !cb) {
		op->error = -ENOMEM;
		finish(op);
	} else if (ready) {
		free(cb);
		send_parts(v, op, g);
	}
}

static void copied_back(struct chain_waiter *waiter)
{
	struct copy_back *cb =
		(struct copy_back *)((char *)waiter - offsetof(struct copy_back, waiter));
	struct volume *v = cb->op->container;
	struct bd_geometry g;

	volume_get_geometry(v, &g);
	if (!g.known || !g.ready) {
		/* The connection is lost, or the device was taken away: the read waits
		 * for it without its buffer. */
		cb->op->error = -ENOTCONN;
		finish(cb->op);
		free(cb);
		return;
	}
	send_restored(v, cb->op, &g, cb);
}

/* Takes the next read that can go, with its buffer; NULL if none can, or if more
 * than n_lost reads have lost their connection. */
static struct dataop *next_read(struct volume *v, struct bd_geometry *g, unsigned n_lost,
				bool *ret_wants_buffer)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);
	struct dataop *op = TAILQ_FIRST(&v->waiting);
	size_t size;

	if (!op || v->n_reads >= VOLUME_MAX_READS || v->n_lost != n_lost)
		return NULL;
	volume_get_geometry_locked(v, g);
	if (!g->ready || !g->known)
		return NULL;
	if (op->offset >= g->size)
		op->len = 0;
	else if (op->len > g->size - op->offset)
		op->len = g->size - op->offset;
	size = op->len ? align(op, g) : 1;
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
	struct bd_geometry g;
	struct dataop *op;

	while ((op = next_read(v, &g, n_lost, &wants_buffer))) {
		if (!op->buf || !op->len) {
			op->error = op->buf ? 0 : -ENOMEM;
			finish(op);
		} else {
			send_restored(v, op, &g, NULL);
		}
	}
	return wants_buffer;
}

void volume_reads_run(struct volume *v)
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
	volume_reads_run(op->container);
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

void volume_read(struct volume *v, struct engine_io *io, unsigned timeout_ms)
{
	struct dataop *op = dataop_new(v->all, io, timeout_ms, v, &ops_of_volume);

	if (!op)
		return;
	dataop_ref(op);
	pthread_mutex_lock(&v->lock);
	dataop_queue(op, &v->waiting);
	pthread_mutex_unlock(&v->lock);
	/* The reaper may have answered before the op stood in the queue. */
	if (dataop_answered(op))
		forget(op);
	else
		volume_reads_run(v);
	dataop_unref(op);
}

/* ---- seeks ----------------------------------------------------------------------- */

static void do_not_resume(struct dataop *op)
{
	(void)op;
}

static const struct dataop_container seeks_of_volume = {
	.cancel = do_not_resume,
	.resume = do_not_resume,
	.ref = ref_container,
	.unref = unref_container,
};

static void seek_end(struct dataop *op, int error)
{
	dataop_answer(op, error);
	dataop_unref(op);
}

static void seek_ask(struct work *work);

/* What is unmapped is a hole; the end of the element is one too. */
static void seek_found(struct dataop *op)
{
	bool data = op->op == ENGINE_IO_SEEK_DATA;
	uint64_t size = op->offset + op->len;

	if (op->next_part < size)
		op->result = op->next_part > op->offset ? op->next_part : op->offset;
	else
		op->result = size;
	seek_end(op, data && op->next_part >= size ? -ENXIO : 0);
}

static void seek_answered(struct bd_req *req, int error)
{
	struct dataop *op = req->opaque;
	bool data = op->op == ENGINE_IO_SEEK_DATA;
	uint64_t size = op->offset + op->len;

	if (error || !req->n_extents) {
		if (!data)
			op->next_part = size;
		seek_found(op);
		return;
	}
	for (size_t i = 0; i < req->n_extents; i++) {
		const struct bd_extent *x = &req->extents[i];

		if (x->mapped == data && x->offset + x->length > op->offset) {
			op->next_part = x->offset;
			seek_found(op);
			return;
		}
		op->next_part = x->offset + x->length;
	}
	if (op->next_part >= size || dataop_answered(op)) {
		seek_found(op);
		return;
	}
	/* By a worker, so that answers that come at once do not nest. */
	op->work.fn = seek_ask;
	workers_submit(op->all->workers, &op->work);
}

static void seek_ask(struct work *work)
{
	struct dataop *op =
		(struct dataop *)((char *)work - offsetof(struct dataop, work));
	uint64_t rest = op->offset + op->len - op->next_part;

	op->parts[0] = (struct bd_req){
		.op = BD_EXTENTS,
		.offset = op->next_part,
		.length = rest < ASK_BYTES ? rest : ASK_BYTES,
		.extents = op->buf,
		.done = seek_answered,
		.opaque = op,
	};
	volume_submit(op->container, &op->parts[0]);
}

void volume_seek(struct volume *v, struct engine_io *io, unsigned timeout_ms)
{
	struct dataop *op = dataop_new(v->all, io, timeout_ms, v, &seeks_of_volume);
	struct bd_info info;

	if (!op)
		return;
	if (!volume_get_info(v, &info) || op->offset >= info.size) {
		seek_end(op, -ENXIO);
		return;
	}
	/* The size as of now: the device may go before it answers. */
	op->len = info.size - op->offset;
	op->big = true;
	op->buf = info.thin && !volume_is_restoring(v) ?
			  calloc(BD_MAX_EXTENTS, sizeof(struct bd_extent)) :
			  NULL;
	op->next_part = op->offset / info.block_size * info.block_size;
	if (op->buf) {
		seek_ask(&op->work);
		return;
	}
	if (op->op == ENGINE_IO_SEEK_HOLE)
		op->next_part = info.size;
	seek_found(op);
}
