/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The way of a run of chunks from the source into the store:
 *
 *   fill_new_locked  in image->fillers: nobody else fills these chunks
 *   fill_start       the point is read                  (any thread)
 *   point_was_read   by the source's thread; hands on
 *   store->fill      runs that are not zero are written, zero runs become or
 *                    stay holes; then the bits are set
 *   fill_end         out of image->fillers; those who waited look again
 *
 * A rider (share.h) begins with point_was_read of its lead.
 *
 * Bits get durable with the next checkpoint, after the data (invariant I2).
 */

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/image_int.h"
#include "engine/mapfile.h"
#include "engine/zeros.h"

enum {
	ZERO_UNIT = 4096,	  /* zeros are looked for in units of this */
	ZERO_RUN_MIN = 32 * 1024, /* shorter runs of zeros are written */
};

/* ---- fillers ----------------------------------------------------------------- */

void filler_enter_locked(struct image *img, struct filler *filler, uint64_t chunk,
			 uint64_t n)
{
	filler->chunk = chunk;
	filler->n = n;
	filler->written = false;
	TAILQ_INIT(&filler->waiters);
	TAILQ_INSERT_TAIL(&img->fillers, filler, link);
}

void filler_leave_locked(struct image *img, struct filler *filler,
			 struct dataop_list *ret_waiters)
{
	struct dataop *op;

	TAILQ_REMOVE(&img->fillers, filler, link);
	TAILQ_FOREACH(op, &filler->waiters, link)
		op->queued = false;
	TAILQ_CONCAT(ret_waiters, &filler->waiters, link);
}

struct filler *filler_of_run_locked(struct image *img, uint64_t chunk, uint64_t n)
{
	struct filler *filler;

	TAILQ_FOREACH(filler, &img->fillers, link)
		if (filler->chunk < chunk + n && chunk < filler->chunk + filler->n)
			return filler;
	return NULL;
}

uint64_t filler_free_run_locked(struct image *img, uint64_t chunk, uint64_t n)
{
	struct filler *filler;

	TAILQ_FOREACH(filler, &img->fillers, link) {
		if (filler->chunk <= chunk && chunk < filler->chunk + filler->n)
			return 0;
		if (filler->chunk > chunk && filler->chunk - chunk < n)
			n = filler->chunk - chunk;
	}
	return n;
}

void filler_wake(struct dataop_list *waiters)
{
	struct dataop *op;

	while ((op = TAILQ_FIRST(waiters))) {
		TAILQ_REMOVE(waiters, op, link);
		image_step(op);
	}
}

/* ---- fills --------------------------------------------------------------------- */

struct fill *fill_new_locked(struct image *img, uint64_t chunk, uint64_t n,
			     enum fill_for why)
{
	struct fill *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	image_ref(img);
	point_ref(img->source);
	f->image = img;
	f->req.point = img->source;
	f->offset = chunk * img->chunk_size;
	f->length = image_chunk_bytes(img, chunk, n);
	f->why = why;
	filler_enter_locked(img, &f->filler, chunk, n);
	if (why != FILL_FOR_COPIER) {
		img->n_fetches++;
	} else {
		f->reading = true;
		share_count_locked(f, 1);
	}
	return f;
}

/* One who waited for a fill that failed: waits for the source, fails, or looks for
 * another way. */
static void wake_failed(struct dataop *op, const struct fill *f, int error)
{
	bool is_change = op->op != ENGINE_IO_READ;

	if (error == -ENOTCONN) {
		image_park_lost(op);
	} else if (is_change ? !image_change_needs_fill(op) :
			       image_is_full(error) && f->why == FILL_FOR_CHANGE) {
		image_step(op);
	} else {
		dataop_answer(op, is_change && image_is_full(error) ? -ENOSPC : -EIO);
		if (is_change)
			image_drop_change(op);
		else
			dataop_unref(op);
	}
}

static void wake(struct dataop_list *waiters, const struct fill *f, int error)
{
	struct dataop *op;

	if (!error)
		filler_wake(waiters);
	while ((op = TAILQ_FIRST(waiters))) {
		TAILQ_REMOVE(waiters, op, link);
		wake_failed(op, f, error);
	}
}

/* The places that a fill has had; true if it was the last direct write. */
static bool give_back_locked(struct image *img, struct fill *f)
{
	bool last_direct;

	if (f->released)
		return false;
	f->released = true;
	last_direct = f->direct && !--img->n_direct && img->changed;
	if (f->why != FILL_FOR_COPIER)
		img->n_fetches--;
	else
		share_count_locked(f, -1);
	priority_end(&f->ticket);
	return last_direct;
}

/* The copier comes back to what failed. */
static void note_error_locked(struct image *img, const struct fill *f, int error)
{
	if (error && img->copier.cursor > f->filler.chunk)
		img->copier.cursor = f->filler.chunk;
	if (error == -ENOTCONN && f->why == FILL_FOR_COPIER)
		img->copier.lost = true;
}

/* The last of those that share it puts it back. */
static void put_shared(struct fill *f)
{
	struct fill_buf *b = move_ptr(f->shared);

	if (__atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL))
		return;
	bufpool_put(f->image->all->bufs, BUFPOOL_COPY, b->buf, b->length);
	free(b);
}

static void put_buffer(struct fill *f)
{
	if (f->shared)
		put_shared(f);
	else if (f->own_buf)
		free(f->buf);
	else if (f->buf)
		bufpool_put(f->image->all->bufs,
			    f->why == FILL_FOR_COPIER ? BUFPOOL_COPY : BUFPOOL_REQUEST,
			    f->buf, f->length);
}

static void count(const struct fill *f)
{
	uint64_t skipped = f->zero ? f->length : f->skipped;

	__atomic_add_fetch(&f->image->bytes_skipped, skipped, __ATOMIC_RELAXED);
	__atomic_add_fetch(&f->image->bytes_copied, f->length - skipped,
			   __ATOMIC_RELAXED);
}

void fill_end(struct fill *f, int error)
{
	struct dataop_list waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct image *img = f->image;
	bool last_direct;

	if (!error)
		__atomic_store_n(&img->last_progress_ms, (uint64_t)timefmt_now_ms(),
				 __ATOMIC_RELAXED);
	if (!error)
		count(f);
	pthread_mutex_lock(&img->lock);
	filler_leave_locked(img, &f->filler, &waiters);
	if (!error && !f->released)
		share_note_moved_locked(f);
	last_direct = give_back_locked(img, f);
	note_error_locked(img, f, error);
	pthread_mutex_unlock(&img->lock);

	put_buffer(f);
	share_step(f->req.point);
	point_unref(f->req.point);
	wake(&waiters, f, error);
	if (last_direct)
		image_run_unwritten(img);
	if (f->why != FILL_FOR_COPIER)
		image_serve(img);
	if (error != -ENOTCONN)
		copier_step(img);
	free(f);
	image_unref(img);
}

void fill_give_back(struct fill *f)
{
	struct image *img = f->image;
	bool last_direct;

	put_buffer(f);
	f->buf = NULL;
	pthread_mutex_lock(&img->lock);
	share_note_moved_locked(f);
	last_direct = give_back_locked(img, f);
	pthread_mutex_unlock(&img->lock);
	share_step(f->req.point);
	if (last_direct)
		image_run_unwritten(img);
	if (f->why != FILL_FOR_COPIER)
		image_serve(img);
}

void fill_abandon(struct fill *f)
{
	fill_end(f, -ENOTCONN);
}

/* ---- what is zero ---------------------------------------------------------------- */

/* The length of the run of zeros (or, with zero false, of data) at p. */
static size_t run_length(const char *p, size_t len, bool zero)
{
	size_t at = 0;

	while (at < len) {
		size_t unit = len - at < ZERO_UNIT ? len - at : ZERO_UNIT;
		bool z = zeros_only(p + at, unit);

		if (z != zero)
			break;
		at += unit;
	}
	return at;
}

size_t fill_zeros(const char *p, size_t len)
{
	return run_length(p, len, true);
}

size_t fill_data(const char *p, size_t len)
{
	size_t at = 0, zeros;

	while (at < len) {
		at += run_length(p + at, len - at, false);
		zeros = run_length(p + at, len - at, true);
		if (zeros >= ZERO_RUN_MIN || at + zeros == len)
			break;
		at += zeros;
	}
	return at;
}

/* ---- from the source ------------------------------------------------------------- */

static void report_read(struct fill *f, int error)
{
	const struct point_req *req = &f->req;
	struct image *img = f->image;
	char reason[POINT_REASON_MAX];

	if (point_is_broken(req->point, reason, sizeof(reason)))
		image_report_broken(img, error, "%s", reason);
	else if (error == -ENODATA)
		image_report_broken(img, error, "%s" MAPFILE_MEDIUM_ERROR,
				    img->source_name, req->bad_offset,
				    req->bad_offset + req->bad_length - 1);
	else
		image_report_broken(img, error,
				    "%s: reading bytes %" PRIu64 " to %" PRIu64
				    " failed: %s",
				    img->source_name, req->offset,
				    req->offset + req->length - 1, strerror(-error));
}

/* Whether the answer counts: it came, and from what is the source still. */
static bool accept(struct fill *f, int error)
{
	struct image *img = f->image;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	if (error == -ENOTCONN || img->source != f->req.point)
		return false;
	if (error)
		return true;
	if (!image_enter_file_locked(img))
		return false;
	share_count_read_locked(f);
	f->direct = img->direct_fd >= 0 && !img->changed;
	img->n_direct += f->direct;
	return true;
}

static void to_store(struct fill *f)
{
	struct image *img = f->image;
	bool copier = f->why == FILL_FOR_COPIER;

	image_ref(img);
	img->store->fill(f);
	if (copier)
		copier_step(img);
	image_unref(img);
}

static void arrived(struct fill *f, int error)
{
	if (!accept(f, error)) {
		fill_end(f, -ENOTCONN);
	} else if (error) {
		report_read(f, error);
		fill_end(f, error);
	} else {
		to_store(f);
	}
}

/* They find out for themselves what was wrong. */
static void riders_arrived(struct fill *riders, int error)
{
	struct fill *f;

	while ((f = riders)) {
		riders = f->next;
		if (error)
			fill_end(f, -ENOTCONN);
		else
			arrived(f, 0);
	}
}

static void point_was_read(struct point_req *req, int error)
{
	struct fill *f = req->opaque;
	struct point *point = req->point;

	point_ref(point);
	riders_arrived(move_ptr(f->riders), error);
	arrived(f, error);
	share_step(point);
	point_unref(point);
}

void fill_start(struct fill *f)
{
	struct image *img = f->image;
	bool is_cut_off;

	pthread_mutex_lock(&img->lock);
	is_cut_off = img->source != f->req.point;
	pthread_mutex_unlock(&img->lock);
	f->req = (struct point_req){
		.point = f->req.point,
		.offset = f->offset,
		.length = f->length,
		.buf = f->buf,
		.done = point_was_read,
		.opaque = f,
	};
	if (is_cut_off)
		point_was_read(&f->req, -ENOTCONN);
	else if (!f->zero)
		point_read(&f->req);
	else if (accept(f, 0))
		to_store(f);
	else
		fill_end(f, -ENOTCONN);
}
