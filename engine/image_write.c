/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Changes: WRITE and ZERO.  A change is carried out in pieces, a WRITE in one, a
 * ZERO in as many as keep a worker from being held for long:
 *
 *   ordered    behind earlier changes that it overlaps        (image->order)
 *   look       waits until its regions have no digests any more (image_digest.c)
 *              the first of all waits in image->unwritten
 *              a chunk is in a filler           -> waits for that one
 *              a chunk is absent, and changed in part -> a fill brings it first
 *              chunks are absent, and changed whole -> the change is their filler,
 *                                                  all of them at once
 *   store      writes, or makes a hole; then sets the bits
 *   end        lets go those behind it, answers
 *
 * A change that has registered its filler waits for nothing but the store, so that
 * changes and fills never wait for each other in a circle.  One that was answered
 * by the reaper stays in its place until what it has at the store or a fill ends.
 */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/image_int.h"
#include "engine/restore.h"

/* The most that is zeroed by one call: a multiple of the chunk size. */
#define ZERO_PIECE (UINT64_C(256) << 20)

/* ---- coming and going ------------------------------------------------------------ */

/* The right to change the file, until leave(): false when others write it now. */
static bool enter(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	if (img->redirect)
		return false;
	img->n_changes++;
	img->change_count++;
	return true;
}

static void leave(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	img->change_count++;
	if (!--img->n_changes)
		pthread_cond_broadcast(&img->quiet);
}

/* Lets those go on that wait for the chunks of the piece. */
static void end_filler(struct change *c)
{
	struct dataop_list waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct image *img = c->op->container;

	if (!c->filler.n)
		return;
	pthread_mutex_lock(&img->lock);
	filler_leave_locked(img, &c->filler, &waiters);
	pthread_mutex_unlock(&img->lock);
	c->filler.n = 0;
	filler_wake(&waiters);
	copier_step(img);
}

/* Takes a change out of the order; true if the caller is to start what that lets
 * go. */
static bool leave_order(struct image *img, struct range *range)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	struct range **last = &img->freed;

	while (*last)
		last = &(*last)->next;
	*last = ranges_leave(&img->order, range);
	if (img->starting || !img->freed)
		return false;
	img->starting = true;
	return true;
}

static struct change *take_freed(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	struct range *r = img->freed;

	img->starting = r;
	if (!r)
		return NULL;
	img->freed = r->next;
	return (struct change *)((char *)r - offsetof(struct change, range));
}

/* The change is in no queue and has no filler.  Those that it lets go may end there
 * and then, by the thousand: one thread at a time starts them, not nested. */
static void end(struct change *c, int error)
{
	struct dataop *op = c->op;
	struct image *img = op->container;
	bool frees = leave_order(img, &c->range);

	free(c);
	image_ref(img);
	dataop_answer(op, error);
	dataop_unref(op);
	while (frees && (c = take_freed(img)))
		image_step_change(c->op);
	leave(img);
	image_unref(img);
}

void image_drop_change(struct dataop *op)
{
	end(op->holder, -EIO);
}

bool image_change_needs_fill(struct dataop *op)
{
	const struct change *c = op->holder;

	return c->needs_fill;
}

void image_change_piece(struct dataop *op, uint64_t *ret_offset, uint64_t *ret_len)
{
	const struct change *c = op->holder;

	*ret_offset = c->at;
	*ret_len = c->len;
}

/* ---- at the store ------------------------------------------------------------------ */

static int error_of(int r)
{
	switch (r) {
	case 0:
		return 0;
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
		return -ENOSPC;
	}
	return -EIO;
}

void image_change_done(struct change *c, int error)
{
	struct dataop *op = c->op;
	struct image *img = op->container;

	/* Part of it may be under a clear bit. */
	if (error && c->filler.n)
		__atomic_store_n(&img->clean, false, __ATOMIC_RELAXED);
	__atomic_store_n(&img->changed_ms, (uint64_t)timefmt_now_ms(), __ATOMIC_RELAXED);
	end_filler(c);
	c->at += c->len;
	if (error || c->at >= op->offset + op->len)
		end(c, error_of(error));
	else
		image_step_change(op);
}

void image_change_lost(struct change *c)
{
	end_filler(c);
	image_park_lost(c->op);
}

/* ---- looking --------------------------------------------------------------------- */

/* Of a ZERO: what lies before the first whole chunk, or whole chunks, or the rest. */
static uint64_t piece(const struct change *c)
{
	const struct dataop *op = c->op;
	const struct image *img = op->container;
	uint64_t cs = img->chunk_size, end = op->offset + op->len, len = end - c->at;
	uint64_t skip = c->at % cs;

	if (op->op == ENGINE_IO_WRITE)
		return len;
	if (skip)
		return len < cs - skip ? len : cs - skip;
	if (len > ZERO_PIECE)
		return ZERO_PIECE;
	return len > cs && end < img->copy_size ? len - len % cs : len;
}

/* The first chunk of a run that the piece covers in part only; UINT64_MAX: none. */
static uint64_t covered_in_part(const struct change *c, uint64_t chunk, uint64_t n)
{
	const struct image *img = c->op->container;
	uint64_t cs = img->chunk_size, end = c->at + c->len;
	uint64_t first = c->at / cs, last = (end - 1) / cs;

	if (c->at % cs && chunk == first)
		return first;
	if (end % cs && end < img->copy_size && chunk <= last && last < chunk + n)
		return last;
	return UINT64_MAX;
}

/* Requests that wait for a place in the pool's memory hold some of it: the few
 * fetches that changes need do not wait for it. */
static void *fetch_buffer(struct image *img, size_t size, bool *ret_own)
{
	void *buf = bufpool_get(img->all->bufs, BUFPOOL_REQUEST, size);

	*ret_own = !buf;
	return buf ? buf : aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
}

/* A fill that brings a chunk; the op waits for it. */
static enum step fetch_locked(struct image *img, struct change *c, uint64_t chunk,
			      struct fill **ret_fill)
{
	uint64_t n = 1;
	struct fill *f;

	c->needs_fill = true;
	if (img->n_fetches >= IMAGE_MAX_FETCHES) {
		dataop_queue(c->op, &img->for_place);
		return STEP_WAITS;
	}
	f = image_source_gives_locked(img, chunk, &n) ?
		    fill_new_locked(img, chunk, 1, FILL_FOR_CHANGE) :
		    NULL;
	if (!f) {
		dataop_queue(c->op, &img->parked);
		return STEP_WAITS;
	}
	f->buf = fetch_buffer(img, f->length, &f->own_buf);
	dataop_queue(c->op, &f->filler.waiters);
	*ret_fill = f;
	return STEP_WAITS;
}

/* The first change waits for the end of direct writes, and for the owner. */
static bool must_wait_locked(struct image *img, struct change *c)
{
	img->changed = true;
	if (!img->n_direct && (img->written || !img->attached))
		return false;
	dataop_queue(c->op, &img->unwritten);
	return true;
}

/* Looks at a run of absent chunks; STEP_GO: the change may be their filler. */
static enum step absent_locked(struct image *img, struct change *c, uint64_t chunk,
			       uint64_t n, struct fill **ret_fill)
{
	struct filler *filler;
	uint64_t part;

	if (!img->source)
		return STEP_ABSENT;
	filler = filler_of_run_locked(img, chunk, n);
	if (filler) {
		dataop_queue(c->op, &filler->waiters);
		c->needs_sync = filler->written;
		return STEP_WAITS;
	}
	part = covered_in_part(c, chunk, n);
	if (part != UINT64_MAX)
		return fetch_locked(img, c, part, ret_fill);
	return STEP_GO;
}

static enum step look_locked(struct image *img, struct change *c, struct fill **ret_fill)
{
	uint64_t chunk = image_chunk_of(img, c->at);
	uint64_t end = (c->at + c->len - 1) / img->chunk_size + 1;
	uint64_t first = end, last = 0;
	enum step step = STEP_GO;

	c->needs_fill = c->needs_sync = false;
	if (must_wait_locked(img, c))
		return STEP_WAITS;
	while (chunk < end && step == STEP_GO) {
		bool set;
		int64_t run = image_run(img, chunk, end - chunk, &set);

		if (run < 0)
			return STEP_LOAD;
		if (!set) {
			step = absent_locked(img, c, chunk, (uint64_t)run, ret_fill);
			first = chunk < first ? chunk : first;
			last = chunk + (uint64_t)run;
		}
		chunk += (uint64_t)run;
	}
	if (step == STEP_GO &&
	    (img->restore ? restore_sequence(img->restore) : 0) != c->restored)
		return STEP_LOAD; /* one has begun meanwhile: look again, from a worker */
	if (step == STEP_GO && !img->store->is_ready(img)) {
		dataop_queue(c->op, &img->parked);
		return STEP_WAITS;
	}
	if (step == STEP_GO && !image_enter_file_locked(img))
		step = STEP_ABSENT;
	/* Present ones between them do no harm. */
	if (step == STEP_GO && last)
		filler_enter_locked(img, &c->filler, first, last - first);
	return step;
}

static void copied_back(struct chain_waiter *waiter)
{
	struct change *c =
		(struct change *)((char *)waiter - offsetof(struct change, copy_back));

	image_step_change(c->op);
}

/* While the source is restored from the image, what is changed is copied back first.
 * False: it waits. */
static bool is_copied_back(struct change *c)
{
	struct image *img = c->op->container;
	struct restore *r = image_get_restore(img);
	uint64_t chunk = c->at / img->chunk_size;
	bool ready;

	c->restored = r ? restore_sequence(r) : 0;
	c->copy_back.fn = copied_back;
	ready = !r || restore_prepare(r, chunk,
				      (c->at + c->len - 1) / img->chunk_size - chunk + 1,
				      &c->copy_back);
	restore_unref(r);
	return ready;
}

static void look(struct change *c)
{
	struct dataop *op = c->op;
	struct image *img = op->container;
	struct fill *fill = NULL;
	enum step step;
	bool first, drain;

	c->len = piece(c);
	if (!is_copied_back(c) || !image_is_void(img, op, c->at, c->len))
		return;
	dataop_ref(op);
	pthread_mutex_lock(&img->lock);
	step = look_locked(img, c, &fill);
	first = !img->written;
	drain = c->needs_sync;
	pthread_mutex_unlock(&img->lock);
	switch (step) {
	case STEP_GO:
		img->store->change(c);
		break;
	case STEP_LOAD:
		image_load_for(op);
		break;
	case STEP_ABSENT:
		end(c, -EIO);
		break;
	default:
		if (first)
			image_report_written(img);
		image_check_queued(op);
	}
	if (drain)
		img->store->drain(img);
	if (fill)
		fill_start(fill);
	dataop_unref(op);
}

void image_step_change(struct dataop *op)
{
	if (dataop_answered(op))
		end(op->holder, -EIO);
	else
		look(op->holder);
}

/* ---- submission ------------------------------------------------------------------ */

/* Cut at the end of the image: 0, or 1 if nothing is to be done; -ENOSPC. */
static int cut(struct image *img, struct dataop *op)
{
	if (!op->len)
		return 1;
	if (op->offset >= img->size)
		return -ENOSPC;
	if (op->len > img->size - op->offset)
		op->len = img->size - op->offset;
	return 0;
}

static void refuse(struct image *img, struct dataop *op, int error)
{
	image_ref(img);
	dataop_answer(op, error);
	dataop_unref(op);
	leave(img);
	image_unref(img);
}

static void submit(struct image *img, struct dataop *op)
{
	struct change *c;
	int r = cut(img, op);
	bool now;

	if (r) {
		refuse(img, op, r < 0 ? r : 0);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		refuse(img, op, -EIO);
		return;
	}
	c->op = op;
	c->at = op->offset;
	op->holder = c;
	pthread_mutex_lock(&img->lock);
	now = ranges_enter(&img->order, &c->range, op->offset, op->offset + op->len);
	pthread_mutex_unlock(&img->lock);
	if (now)
		look(c);
}

void image_submit_change(struct image *img, struct engine_io *io, unsigned timeout_ms)
{
	struct dataop *op;

	if (!enter(img)) {
		volume_io(img->redirect, io, timeout_ms);
		return;
	}
	image_ref(img);
	op = dataop_new(img->all, io, timeout_ms, img, &image_ops);
	if (op)
		submit(img, op);
	else
		leave(img);
	image_unref(img);
}
