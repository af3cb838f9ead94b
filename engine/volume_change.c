/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Changes of a volume (WRITE, ZERO), flushes, and fences.
 *
 * The life of a change:
 *
 *   queued    in order of submission; waits until the device is ready, no fence is
 *             closed, and no active change holds a byte of its blocks.  The first
 *             one that cannot begin holds up those behind it.
 *   active    holds its blocks until it ends, so that overlapping changes are carried
 *             out one after another, also when the connection is lost and they are
 *             sent again (a new login ends the old session's commands).
 *
 * An active change goes through its range in segments, one after another; for each:
 *
 *   PREPARE   what a restore brings there is there; then what points in time need of
 *             these chunks is preserved (invariant I1)
 *   READ      blocks that it covers in part are read
 *   EDGES     they came
 *   SEND      parts go to the device, several at once
 *   SENT      all are answered
 *
 * A lost connection (-ENOTCONN) puts it into `stuck`, from where it does the same step
 * again when the device is ready.  One thing is under way for a change at a time, and
 * whoever completes that calls change_go_on(); calls that come from within are taken
 * in a loop (turns), so that answers that come at once do not nest.
 *
 * A change whose user was answered by the reaper is given up where nothing of it is at
 * the device: queued, stuck, parked, waiting for a restore or the chain, or else before its
 * next step.  What is at the device ends by itself, and holds its blocks until then.
 *
 * A put (volume_put()) is a change that waits for no connection: it ends with -ENOTCONN
 * instead, and is queued only while the device is ready.
 *
 * A flush is a change without blocks: it is sent at once, through fences too, and
 * covers what was answered before it.
 *
 * A fence that is closed keeps new changes queued; when none is active it is drained.
 *
 * Locks: v->lock.  The chain and the device are called without it, but for
 * chain_cancel() and restore_cancel().
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/chain.h"
#include "engine/restore.h"
#include "engine/volume_int.h"

enum {
	MAX_ACTIVE = 64,
	PARTS = 4,		  /* at the device at once, of one change */
	WRITE_ZEROS = 1 << 20,	  /* at once, where the device cannot zero */
	PRESERVED_ZERO = 4 << 20, /* a segment while points need what is there */
};
#define ZERO_SEGMENT (UINT64_C(1) << 30)

enum step { STEP_SEGMENT, STEP_PREPARE, STEP_READ, STEP_EDGES, STEP_SEND, STEP_SENT };

struct change {
	struct volume *volume;	  /* with a reference */
	struct dataop *op;	  /* with a reference; NULL: put is what it is for */
	struct volume_put *put;	  /* its owner's, until its done() is called */
	TAILQ_ENTRY(change) link; /* queued or active */
	TAILQ_ENTRY(change) stuck_link;
	enum engine_io_op kind;
	uint64_t begin, end;				 /* bytes that change */
	uint64_t lock_begin, lock_end;			 /* whole blocks */
	uint32_t block_size, max_transfer, opt_transfer; /* as of its beginning */
	int turns;						 /* atomic */

	/* v->lock */
	bool given_up;			     /* the user has been answered */
	bool is_queued, is_stuck, is_parked; /* in the list of that name */

	enum step step;
	uint64_t at, seg_end; /* the segment, whole blocks */
	bool zeroing;	      /* it is sent as BD_ZERO; else the bytes in buf */
	bool cannot_zero;     /* the device said so */
	char *buf;	      /* of the segment */
	char *own;	      /* buf, where it is this struct's */
	char *edges;	      /* two blocks, read */
	struct chain_waiter waiter;

	/* What is at the device. */
	uint64_t part, next_part; /* the second atomic */
	unsigned n_pending;	  /* atomic */
	int error;		  /* atomic: the first */
	struct bd_req parts[PARTS];
};

/* The volume that this thread begins changes of. */
static _Thread_local const struct volume *beginning;

static void change_go_on(struct change *c);
static void begin_queued(struct volume *v);

/* ---- the end --------------------------------------------------------------------- */

/* Tells the fences that are drained now. */
static void tell_drained(struct volume *v)
{
	struct volume_fence *f;

	pthread_mutex_lock(&v->lock);
	do {
		TAILQ_FOREACH(f, &v->fences, link)
			if (!f->told)
				break;
		if (!f || v->n_active || v->telling)
			break;
		f->told = true;
		v->telling = f;
		pthread_mutex_unlock(&v->lock);
		f->drained(f);
		pthread_mutex_lock(&v->lock);
		v->telling = NULL;
		pthread_cond_broadcast(&v->idle);
	} while (true);
	pthread_mutex_unlock(&v->lock);
}

static void change_free(struct change *c)
{
	struct volume *v = c->volume;

	free(c->own);
	free(c->edges);
	if (c->op)
		dataop_unref(c->op);
	free(c);
	volume_unref(v);
}

static int users_error(int error)
{
	return error == 0 || error == -ENOSPC || error == -EROFS ? error : -EIO;
}

/* Answers, and lets go what the change held. */
static void change_end(struct change *c, int error)
{
	struct volume_put *put = c->put;
	struct volume *v = c->volume;

	if (c->kind != ENGINE_IO_FLUSH && !put)
		__atomic_store_n(&v->changed_ms, (uint64_t)timefmt_now_ms(),
				 __ATOMIC_RELAXED);
	volume_ref(v);
	pthread_mutex_lock(&v->lock);
	if (c->op)
		c->op->holder = NULL;
	if (c->kind != ENGINE_IO_FLUSH) {
		TAILQ_REMOVE(&v->active, c, link);
		v->n_active--;
	}
	pthread_mutex_unlock(&v->lock);
	if (c->op)
		dataop_answer(c->op, users_error(error));
	change_free(c);
	if (put)
		put->done(put, error);
	if (__atomic_load_n(&v->n_fences, __ATOMIC_ACQUIRE))
		tell_drained(v);
	begin_queued(v);
	volume_unref(v);
}

/* ---- lost connections ------------------------------------------------------------- */

/* False: it was given up, nobody would take it out again while the device is away; or
 * it does not wait. */
static bool become_stuck(struct change *c)
{
	struct volume *v = c->volume;
	bool stuck;

	if (c->put)
		return false;
	pthread_mutex_lock(&v->lock);
	stuck = !c->given_up;
	if (stuck) {
		c->is_stuck = true;
		TAILQ_INSERT_TAIL(&v->stuck, c, stuck_link);
	}
	pthread_mutex_unlock(&v->lock);
	if (stuck)
		dataop_retry(v->all, &v->retry);
	return stuck;
}

/* Those that are stuck now go on; a change that is stuck anew waits for the next
 * turn. */
static void resume_stuck(struct volume *v)
{
	struct change_list now = TAILQ_HEAD_INITIALIZER(now);
	struct bd_geometry g;
	struct change *c;

	pthread_mutex_lock(&v->lock);
	volume_get_geometry_locked(v, &g);
	if (g.ready)
		TAILQ_CONCAT(&now, &v->stuck, stuck_link);
	TAILQ_FOREACH(c, &now, stuck_link)
		c->is_stuck = false;
	pthread_mutex_unlock(&v->lock);
	while ((c = TAILQ_FIRST(&now))) {
		TAILQ_REMOVE(&now, c, stuck_link);
		change_go_on(c);
	}
}

/* A device that is not ready is waited for: its owner kicks.  The last reference may
 * be gone already: volume_changes_done() waits for the end of this. */
static void retry(struct dataop_retry *r)
{
	volume_changes_kick((struct volume *)((char *)r - offsetof(struct volume, retry)));
}

void volume_changes_kick(struct volume *v)
{
	resume_stuck(v);
	begin_queued(v);
}

/* A long change lets a fence through between two segments: the instant is in the
 * middle of what nobody has been told is done.  True: it is parked. */
static bool park_for_fence(struct change *c)
{
	struct volume *v = c->volume;
	bool parked;

	if (c->at == c->lock_begin || !__atomic_load_n(&v->n_fences, __ATOMIC_ACQUIRE))
		return false;
	pthread_mutex_lock(&v->lock);
	parked = !TAILQ_EMPTY(&v->fences) && !c->given_up;
	if (parked) {
		v->n_active--;
		c->is_parked = true;
		TAILQ_INSERT_TAIL(&v->parked, c, stuck_link);
	}
	pthread_mutex_unlock(&v->lock);
	if (parked)
		tell_drained(v);
	return parked;
}

static void go_on_parked(struct volume *v)
{
	struct change_list now = TAILQ_HEAD_INITIALIZER(now);
	struct change *c;

	pthread_mutex_lock(&v->lock);
	if (TAILQ_EMPTY(&v->fences))
		TAILQ_CONCAT(&now, &v->parked, stuck_link);
	TAILQ_FOREACH(c, &now, stuck_link) {
		c->is_parked = false;
		v->n_active++;
	}
	pthread_mutex_unlock(&v->lock);
	while ((c = TAILQ_FIRST(&now))) {
		TAILQ_REMOVE(&now, c, stuck_link);
		change_go_on(c);
	}
}

/* ---- the device ------------------------------------------------------------------ */

static void part_done(struct bd_req *req, int error);

static enum bd_op bd_op_of(const struct change *c)
{
	return c->kind == ENGINE_IO_FLUSH ? BD_FLUSH : c->zeroing ? BD_ZERO : BD_WRITE;
}

/* Makes the next part of the segment; false if all are made. */
static bool next_part(struct change *c, struct bd_req *req)
{
	uint64_t at = __atomic_fetch_add(&c->next_part, c->part, __ATOMIC_RELAXED);
	bool through = __atomic_load_n(&c->volume->write_through, __ATOMIC_RELAXED);

	if (at >= c->seg_end)
		return false;
	*req = (struct bd_req){
		.op = bd_op_of(c),
		.flags = through || (c->put && c->put->durable) ? BD_FUA : 0,
		.offset = at,
		.length = c->seg_end - at < c->part ? c->seg_end - at : c->part,
		.buf = c->zeroing ? NULL : c->buf + (at - c->at),
		.done = part_done,
		.opaque = c,
	};
	return true;
}

static void part_done(struct bd_req *req, int error)
{
	struct change *c = req->opaque;
	int none = 0;

	if (error)
		__atomic_compare_exchange_n(&c->error, &none, error, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	if (c->step == STEP_SENT && c->kind != ENGINE_IO_FLUSH &&
	    !__atomic_load_n(&c->error, __ATOMIC_RELAXED) && next_part(c, req))
		volume_submit(c->volume, req);
	else if (!__atomic_sub_fetch(&c->n_pending, 1, __ATOMIC_ACQ_REL))
		change_go_on(c);
}

/* Submits the first n requests of c->parts, all made. */
static void submit_parts(struct change *c, unsigned n)
{
	struct volume *v = c->volume;

	c->error = 0;
	/* One more, for this function: the change stays until all were submitted. */
	c->n_pending = n + 1;
	for (unsigned i = 0; i < n; i++)
		volume_submit(v, &c->parts[i]);
	if (!__atomic_sub_fetch(&c->n_pending, 1, __ATOMIC_ACQ_REL))
		change_go_on(c);
}

static void send_segment(struct change *c)
{
	unsigned n = 0;

	c->step = STEP_SENT;
	if (c->kind == ENGINE_IO_FLUSH) {
		c->parts[0] =
			(struct bd_req){ .op = BD_FLUSH, .done = part_done, .opaque = c };
		submit_parts(c, 1);
		return;
	}
	c->part = c->zeroing ? ZERO_SEGMENT : c->opt_transfer;
	while (!c->zeroing && (c->seg_end - c->at + c->part - 1) / c->part > PARTS &&
	       c->part * 2 <= c->max_transfer)
		c->part *= 2;
	c->next_part = c->at;
	while (n < PARTS && next_part(c, &c->parts[n]))
		n++;
	submit_parts(c, n);
}

/* ---- segments -------------------------------------------------------------------- */

static uint64_t down(uint64_t n, uint32_t unit)
{
	return n / unit * unit;
}

static uint64_t up(uint64_t n, uint32_t unit)
{
	return down(n + unit - 1, unit);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A ZERO: the block at its begin or end that it covers in part is written, what lies
 * between is zeroed. */
static void make_zero_segment(struct change *c)
{
	uint64_t max = c->cannot_zero			       ? WRITE_ZEROS :
		       chain_is_empty(volume_chain(c->volume)) ? ZERO_SEGMENT :
								 PRESERVED_ZERO;
	uint64_t middle_end = down(c->end, c->block_size);

	c->zeroing = c->at >= c->begin && c->at < middle_end;
	if (c->zeroing)
		c->seg_end = least(middle_end, up(c->at + 1, POOL_CHUNK_SIZE) + max -
						       POOL_CHUNK_SIZE);
	else
		c->seg_end = c->at + c->block_size;
	c->buf = NULL;
	if (c->zeroing && !c->cannot_zero)
		return;
	c->zeroing = false;
	free(c->own);
	c->own = c->buf = calloc(1, c->seg_end - c->at);
}

/* A WRITE is one segment; its blocks are made of the user's bytes where it does not
 * consist of whole ones. */
static void make_write_segment(struct change *c)
{
	size_t size = c->lock_end - c->lock_begin;
	char *bytes = c->put ? c->put->buf : c->op->buf;

	c->seg_end = c->lock_end;
	if (c->lock_begin == c->begin && c->lock_end == c->end) {
		c->buf = bytes;
		return;
	}
	c->own = c->buf = aligned_alloc(4096, up(size, 4096));
	if (c->buf)
		memcpy(c->buf + (c->begin - c->lock_begin), bytes, c->end - c->begin);
}

/* False: no memory. */
static bool make_segment(struct change *c)
{
	if (c->kind == ENGINE_IO_ZERO)
		make_zero_segment(c);
	else
		make_write_segment(c);
	if (c->block_size > 1 && !c->edges && (c->at < c->begin || c->seg_end > c->end)) {
		c->edges = malloc(2 * c->block_size);
		if (!c->edges)
			return false;
	}
	c->step = STEP_PREPARE;
	return c->buf || c->zeroing;
}

/* The blocks of the segment that are to be read first: the first and the last, if they
 * are covered in part; in buf they have their place. */
static bool read_edges(struct change *c)
{
	bool head = c->at<c->begin, tail = c->seg_end> c->end;
	uint64_t last = c->seg_end - c->block_size;
	unsigned n = 0;

	if (head || (tail && last == c->at))
		c->parts[n++].offset = c->at;
	if (tail && last != c->at)
		c->parts[n++].offset = last;
	if (!n)
		return false;
	for (unsigned i = 0; i < n; i++)
		c->parts[i] = (struct bd_req){
			.op = BD_READ,
			.offset = c->parts[i].offset,
			.length = c->block_size,
			.buf = c->edges + i * c->block_size,
			.done = part_done,
			.opaque = c,
		};
	c->step = STEP_EDGES;
	submit_parts(c, n);
	return true;
}

/* Puts what was read beside what changes. */
static void merge_edges(struct change *c)
{
	uint64_t last = c->seg_end - c->block_size;
	const char *edge = c->edges;

	if (c->at < c->begin) {
		memcpy(c->buf, edge, c->begin - c->at);
		if (last != c->at)
			edge += c->block_size;
	}
	if (c->seg_end > c->end)
		memcpy(c->buf + (c->end - c->at), edge + (c->end - last),
		       c->seg_end - c->end);
}

/* ---- the steps ------------------------------------------------------------------- */

static bool is_given_up(struct change *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->volume->lock);

	return c->given_up;
}

static void prepared(struct chain_waiter *waiter)
{
	change_go_on((struct change *)((char *)waiter - offsetof(struct change, waiter)));
}

/* True: its segment may be sent, or it was given up; false: it waits. */
static bool prepare(struct change *c)
{
	struct chain *chain = volume_chain(c->volume);
	struct restore *restore = volume_get_restore(c->volume);
	uint64_t chunk = c->at / POOL_CHUNK_SIZE;
	uint64_t n = (c->seg_end - 1) / POOL_CHUNK_SIZE - chunk + 1;
	bool ready = !restore || restore_prepare(restore, chunk, n, &c->waiter);

	/* The reaper may have come before it waited. */
	if (!ready && is_given_up(c))
		ready = restore_cancel(restore, &c->waiter);
	restore_unref(restore);
	if (!ready)
		return false;
	if (is_given_up(c))
		return true;
	if (chain_prepare(chain, chunk, n, UINT64_MAX, &c->waiter))
		return true;
	/* The reaper may have come before it waited. */
	if (!is_given_up(c) || !chain_cancel(chain, &c->waiter))
		return false;
	chain_kick(chain);
	return true;
}

/* The device does not zero: zeros are written. */
static bool zero_refused(struct change *c)
{
	if (!c->zeroing || c->error != -EOPNOTSUPP)
		return false;
	c->cannot_zero = true;
	c->step = STEP_SEGMENT;
	return true;
}

/* Does what can be done now.  False: the change has ended and is freed. */
static bool change_step(struct change *c)
{
	for (;;) {
		if (c->step == STEP_EDGES || c->step == STEP_SENT) {
			if (zero_refused(c))
				continue;
			if (c->error == -ENOTCONN) {
				c->step =
					c->step == STEP_EDGES ? STEP_PREPARE : STEP_SEND;
				if (become_stuck(c))
					return true;
			}
			if (c->error) {
				change_end(c, c->error);
				return false;
			}
		}
		if (c->step == STEP_SEGMENT && park_for_fence(c))
			return true;
		if (c->step != STEP_SENT && is_given_up(c)) {
			change_end(c, -EIO);
			return false;
		}
		switch (c->step) {
		case STEP_SEGMENT:
			if (!make_segment(c)) {
				change_end(c, -EIO);
				return false;
			}
			break;
		case STEP_PREPARE:
			if (!prepare(c))
				return true;
			c->step = STEP_READ;
			break;
		case STEP_READ:
			if (!c->zeroing && read_edges(c))
				return true;
			c->step = STEP_SEND;
			break;
		case STEP_EDGES:
			merge_edges(c);
			c->step = STEP_SEND;
			break;
		case STEP_SEND:
			send_segment(c);
			return true;
		case STEP_SENT:
			c->at = c->seg_end;
			if (c->kind == ENGINE_IO_FLUSH || c->at >= c->lock_end) {
				change_end(c, 0);
				return false;
			}
			c->step = STEP_SEGMENT;
			break;
		}
	}
}

static void change_go_on(struct change *c)
{
	if (__atomic_fetch_add(&c->turns, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	do {
		if (!change_step(c))
			return;
	} while (__atomic_sub_fetch(&c->turns, 1, __ATOMIC_ACQ_REL) > 0);
}

/* ---- the beginning --------------------------------------------------------------- */

static bool overlaps_locked(const struct volume *v, const struct change *c)
{
	const struct change *a;

	TAILQ_FOREACH(a, &v->active, link)
		if (a->lock_begin < c->lock_end && c->lock_begin < a->lock_end)
			return true;
	return false;
}

/* Cuts it at the end of the element, and finds the blocks it holds; false: nothing
 * is left. */
static bool fit(struct change *c, const struct bd_geometry *g)
{
	c->block_size = g->block_size;
	c->max_transfer = g->max_transfer;
	c->opt_transfer = c->put && c->put->copies ? g->opt_copy : g->opt_transfer;
	if (c->begin >= g->size)
		return false;
	if (c->end > g->size || c->end < c->begin)
		c->end = g->size;
	if (c->op)
		c->op->len = c->end - c->begin;
	c->lock_begin = c->at = down(c->begin, g->block_size);
	c->lock_end = up(c->end, g->block_size);
	return true;
}

/* The next one that can begin, active now; NULL: none can. */
static struct change *take_queued(struct volume *v, bool *ret_fits)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);
	struct change *c = TAILQ_FIRST(&v->queued);
	struct bd_geometry g;

	if (!c || !TAILQ_EMPTY(&v->fences) || v->n_active >= MAX_ACTIVE)
		return NULL;
	volume_get_geometry_locked(v, &g);
	if (!g.ready || !g.known)
		return NULL;
	*ret_fits = fit(c, &g);
	if (*ret_fits && overlaps_locked(v, c))
		return NULL;
	c->is_queued = false;
	TAILQ_REMOVE(&v->queued, c, link);
	TAILQ_INSERT_TAIL(&v->active, c, link);
	v->n_active++;
	return c;
}

/* A put that is queued ends, as the device is away; false: there is none. */
static bool drop_put(struct volume *v)
{
	struct change *c = NULL;
	struct volume_put *put;

	pthread_mutex_lock(&v->lock);
	if (!v->bd || !bd_is_ready(v->bd))
		TAILQ_FOREACH(c, &v->queued, link)
			if (c->put)
				break;
	if (c)
		TAILQ_REMOVE(&v->queued, c, link);
	pthread_mutex_unlock(&v->lock);
	if (!c)
		return false;
	put = c->put;
	change_free(c);
	put->done(put, -ENOTCONN);
	return true;
}

static void begin_queued(struct volume *v)
{
	const struct volume *outer = beginning;
	struct change *c;
	bool fits;

	if (outer == v)
		return;
	beginning = v;
	do {
		while ((c = take_queued(v, &fits))) {
			if (!fits)
				change_end(c, -ENOSPC);
			else if (c->begin == c->end)
				change_end(c, 0);
			else
				change_go_on(c);
		}
	} while (drop_put(v));
	beginning = outer;
}

/* ---- users ----------------------------------------------------------------------- */

/* The reaper has answered. */
static void give_up(struct dataop *op)
{
	struct volume *v = op->container;
	struct change *c, *idle = NULL, *queued = NULL;
	bool waited = false;

	pthread_mutex_lock(&v->lock);
	c = op->holder;
	if (c)
		c->given_up = true;
	if (c && c->is_queued) {
		queued = c;
		op->holder = NULL;
		TAILQ_REMOVE(&v->queued, c, link);
	} else if (c && c->is_stuck) {
		idle = c;
		c->is_stuck = false;
		TAILQ_REMOVE(&v->stuck, c, stuck_link);
	} else if (c && c->is_parked) {
		idle = c;
		c->is_parked = false;
		TAILQ_REMOVE(&v->parked, c, stuck_link);
		v->n_active++;
	} else if (c && v->restore && restore_cancel(v->restore, &c->waiter)) {
		idle = c;
	} else if (c && chain_cancel(v->chain, &c->waiter)) {
		idle = c;
		waited = true;
	}
	pthread_mutex_unlock(&v->lock);
	if (idle)
		change_go_on(idle);
	/* Nobody may need what it waited for. */
	if (waited)
		chain_kick(v->chain);
	if (queued) {
		change_free(queued);
		begin_queued(v);
	}
}

static void resume(struct dataop *op)
{
	begin_queued(op->container);
}

static void ref_container(void *container)
{
	volume_ref(container);
}

static void unref_container(void *container)
{
	volume_unref(container);
}

static const struct dataop_container changes_of_volume = {
	.cancel = give_up,
	.resume = resume,
	.ref = ref_container,
	.unref = unref_container,
};

static struct change *change_new(struct volume *v, struct dataop *op)
{
	struct change *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	volume_ref(v);
	dataop_ref(op);
	c->volume = v;
	c->op = op;
	c->waiter.fn = prepared;
	c->kind = op->op;
	c->begin = op->offset;
	c->end = op->offset + op->len;
	c->step = c->kind == ENGINE_IO_FLUSH ? STEP_SEND : STEP_SEGMENT;
	return c;
}

void volume_change(struct volume *v, struct engine_io *io, unsigned timeout_ms)
{
	struct dataop *op = dataop_new(v->all, io, timeout_ms, v, &changes_of_volume);
	struct change *c = op ? change_new(v, op) : NULL;
	bool flush;

	if (!c) {
		if (op) {
			dataop_answer(op, -EIO);
			dataop_unref(op);
		}
		return;
	}
	flush = c->kind == ENGINE_IO_FLUSH;
	pthread_mutex_lock(&v->lock);
	op->holder = c;
	c->is_queued = !flush;
	if (!flush)
		TAILQ_INSERT_TAIL(&v->queued, c, link);
	pthread_mutex_unlock(&v->lock);
	/* The reaper may have answered before the op had its holder. */
	if (dataop_answered(op))
		give_up(op);
	if (flush)
		change_go_on(c);
	else
		begin_queued(v);
	dataop_unref(op);
}

void volume_put(struct volume *v, struct volume_put *put)
{
	struct change *c = calloc(1, sizeof(*c));

	if (!c) {
		put->done(put, -ENOMEM);
		return;
	}
	volume_ref(v);
	c->volume = v;
	c->put = put;
	c->waiter.fn = prepared;
	c->kind = put->zero ? ENGINE_IO_ZERO : ENGINE_IO_WRITE;
	c->begin = put->offset;
	c->end = put->offset + put->length;
	c->step = STEP_SEGMENT;
	pthread_mutex_lock(&v->lock);
	c->is_queued = true;
	TAILQ_INSERT_TAIL(&v->queued, c, link);
	pthread_mutex_unlock(&v->lock);
	begin_queued(v);
}

/* ---- fences ---------------------------------------------------------------------- */

void volume_close_fence(struct volume *v, struct volume_fence *fence)
{
	fence->told = false;
	pthread_mutex_lock(&v->lock);
	TAILQ_INSERT_TAIL(&v->fences, fence, link);
	__atomic_add_fetch(&v->n_fences, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&v->lock);
	tell_drained(v);
}

void volume_open_fence(struct volume *v, struct volume_fence *fence)
{
	pthread_mutex_lock(&v->lock);
	while (v->telling == fence)
		pthread_cond_wait(&v->idle, &v->lock);
	TAILQ_REMOVE(&v->fences, fence, link);
	__atomic_sub_fetch(&v->n_fences, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&v->lock);
	go_on_parked(v);
	begin_queued(v);
}

/* ---- life ------------------------------------------------------------------------ */

void volume_changes_init(struct volume *v)
{
	TAILQ_INIT(&v->queued);
	TAILQ_INIT(&v->active);
	TAILQ_INIT(&v->stuck);
	TAILQ_INIT(&v->parked);
	TAILQ_INIT(&v->fences);
	v->retry.fn = retry;
}

void volume_changes_done(struct volume *v)
{
	dataop_retry_cancel(v->all, &v->retry);
}
