/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The store of an image that is a LUN (or a `file:` element): the target of a copy,
 * behind its volume.  Nothing here waits: a target that hangs holds no worker.
 *
 * A bit is set only when the bytes are durable at the target (invariant I2), so that
 * bits need not be taken back when it loses its cache:
 *
 *   a fill     is put to the volume run by run; then it is "written": still a filler of
 *              its chunks, which readers take from the target already, and changes wait
 *              for.  A sync (SYNCHRONIZE CACHE) takes all that are written; when it has
 *              ended well, and nobody has logged in anew since the fill began, the bits
 *              are set, and the fill ends; else it is lost, and its chunks are absent.
 *              Written fills are synced when there are many, when a change waits for
 *              one, at the copier's end, and once a second.
 *   a change   that sets bits is durable when it is answered (FUA).  It is never lost:
 *              what users were told is written, a new login does not take back.
 *
 * All that is put goes through the volume's order of changes: what is still on its way
 * when its image is retired or its user was answered comes before what is put later.
 *
 * A READ goes to the volume as one of its own.  It counts if nobody has logged in
 * since its chunks were looked at: written fills may be lost by that.
 *
 * The image may be smaller than the target: what lies behind copy_size is present
 * from the beginning, and only users change it.
 */

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/image_int.h"

enum {
	ZERO_MIN = 64 << 10,	/* shorter runs of zeros are written: a command each */
	SYNC_BYTES = 128 << 20, /* written, and not synced yet */
};

/* ---- the sync ---------------------------------------------------------------------- */

static void sync_answered(struct bd_req *req, int error);

static void lun_drain(struct image *img)
{
	struct lun_store *lun = &img->lun;
	bool start;

	pthread_mutex_lock(&img->lock);
	start = !lun->syncing && !TAILQ_EMPTY(&lun->written);
	lun->again = lun->syncing;
	if (start) {
		lun->syncing = true;
		lun->bytes = 0;
		TAILQ_CONCAT(&lun->synced, &lun->written, store_link);
	}
	pthread_mutex_unlock(&img->lock);
	if (!start)
		return;
	image_ref(img);
	lun->sync =
		(struct bd_req){ .op = BD_FLUSH, .done = sync_answered, .opaque = img };
	volume_submit(img->target, &lun->sync);
}

static struct fill *take_synced(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	struct fill *f = TAILQ_FIRST(&img->lun.synced);

	if (f)
		TAILQ_REMOVE(&img->lun.synced, f, store_link);
	return f;
}

/* By a worker: a page of the map may have to be read. */
static void end_sync(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, lun.sync_work));
	struct lun_store *lun = &img->lun;
	struct fill *f;
	bool again;

	if (lun->sync_error && lun->sync_error != -ENOTCONN)
		image_report_broken(img, lun->sync_error,
				    "target %s: its cache cannot be synced: %s",
				    img->target_name, strerror(-lun->sync_error));
	while ((f = take_synced(img))) {
		int r = lun->sync_error;

		if (!r && f->filler.logins != lun->sync_logins)
			r = -ENOTCONN;
		if (!r)
			r = image_set_bits(img, f->filler.chunk, f->filler.n);
		if (!r)
			image_note_digests(f);
		if (r && r != -ENOTCONN && !lun->sync_error)
			image_report_broken(
				img, r, "pool %s: the chunk map of target %s: %s",
				pool_name(img->pool), img->target_name, strerror(-r));
		fill_end(f, r);
	}
	pthread_mutex_lock(&img->lock);
	lun->syncing = false;
	again = lun->again || lun->bytes >= SYNC_BYTES;
	pthread_mutex_unlock(&img->lock);
	if (again)
		lun_drain(img);
	copier_step(img);
	image_unref(img);
}

static void sync_answered(struct bd_req *req, int error)
{
	struct image *img = req->opaque;

	/* Sessions count before they are used: the same number as before a write says
	 * that the write was in the one that has synced. */
	img->lun.sync_logins = volume_logins(img->target);
	img->lun.sync_error = error;
	img->lun.sync_work.fn = end_sync;
	workers_submit(img->all->workers, &img->lun.sync_work);
}

/* ---- fills ------------------------------------------------------------------------- */

static bool enter(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	return image_enter_file_locked(img);
}

/* All of it is at the target. */
static void fill_is_written(struct fill *f)
{
	struct dataop_list readers = TAILQ_HEAD_INITIALIZER(readers);
	struct image *img = f->image;
	struct dataop *op, *next;
	bool drain;

	fill_give_back(f);
	image_ref(img);
	pthread_mutex_lock(&img->lock);
	f->filler.written = true;
	TAILQ_INSERT_TAIL(&img->lun.written, f, store_link);
	img->lun.bytes += f->length;
	for (op = TAILQ_FIRST(&f->filler.waiters); op; op = next) {
		next = TAILQ_NEXT(op, link);
		if (op->op != ENGINE_IO_READ)
			continue;
		dataop_unqueue(op);
		TAILQ_INSERT_TAIL(&readers, op, link);
	}
	/* After image_cut_off() nobody else would. */
	drain = img->lun.bytes >= SYNC_BYTES || !TAILQ_EMPTY(&f->filler.waiters) ||
		!img->attached;
	pthread_mutex_unlock(&img->lock);
	filler_wake(&readers);
	if (drain)
		lun_drain(img);
	copier_step(img);
	image_unref(img);
}

static void report_put(struct fill *f, int error)
{
	struct image *img = f->image;
	uint64_t from = f->put.offset, to = from + f->put.length - 1;

	/* A user's change that finds the target full breaks nothing. */
	if (error == -ENOTCONN || (image_is_full(error) && f->why == FILL_FOR_CHANGE))
		return;
	image_report_broken(img, error,
			    "target %s: writing bytes %" PRIu64 " to %" PRIu64
			    " failed: %s",
			    img->target_name, from, to,
			    error == -EACCES ? "another initiator has reserved it" :
					       strerror(-error));
}

/* Puts the next run of data or zeros before `end`; it has the right to change the store. */
static void put_run(struct fill *f, uint64_t end)
{
	struct image *img = f->image;
	const uint64_t at = f->put_at, left = end - at;
	char *p = f->zero ? NULL : (char *)f->buf + at;
	uint64_t n = f->zero ? left : fill_zeros(p, left);
	bool zero = f->zero || n >= ZERO_MIN;

	if (!zero)
		n += fill_data(p + n, left - n);
	f->put.zero = zero;
	f->put.offset = f->offset + at;
	f->put.length = n;
	f->put.buf = p;
	image_ref(img);
	volume_put(img->target, &f->put);
	image_leave_file(img);
	image_unref(img);
}

static void run_was_put(struct volume_put *put, int error)
{
	struct fill *f = put->opaque;

	uint64_t end;

	if (!error)
		f->put_at += put->length;
	if (!error && image_next_differing(f, &f->put_at, &end)) {
		if (enter(f->image)) {
			put_run(f, end);
			return;
		}
		error = -ENOTCONN;
	}
	if (error) {
		report_put(f, error);
		fill_end(f, error);
	} else {
		fill_is_written(f);
	}
}

/* What it has already is durable: its digest would not be known else. */
static void find_work(struct work *work)
{
	struct fill *f = (struct fill *)((char *)work - offsetof(struct fill, work));
	struct image *img = f->image;
	uint64_t end;

	image_find_same(f);
	if (image_next_differing(f, &f->put_at, &end)) {
		put_run(f, end);
		return;
	}
	image_leave_file(img);
	fill_is_written(f);
}

static void lun_fill(struct fill *f)
{
	f->filler.logins = volume_logins(f->image->target);
	f->put_at = 0;
	f->put.copies = true;
	f->put.done = run_was_put;
	f->put.opaque = f;
	if (!f->image->digests || f->zero) {
		put_run(f, f->length);
		return;
	}
	f->work.fn = find_work;
	workers_submit(f->image->all->workers, &f->work);
}

/* ---- changes ----------------------------------------------------------------------- */

static void set_bits(struct work *work)
{
	struct dataop *op =
		(struct dataop *)((char *)work - offsetof(struct dataop, work));
	struct change *c = op->holder;

	image_change_done(c, image_set_bits(op->container, c->filler.chunk, c->filler.n));
}

static void change_was_put(struct volume_put *put, int error)
{
	struct change *c = put->opaque;
	struct dataop *op = c->op;
	struct image *img = op->container;

	if (error == -ENOTCONN) {
		image_change_lost(c);
		return;
	}
	if (!error && c->filler.n)
		error = chunkmap_set(img->map, c->filler.chunk, c->filler.n);
	if (error == -EAGAIN) {
		op->work.fn = set_bits;
		workers_submit(img->all->workers, &op->work);
		return;
	}
	image_change_done(c, error);
}

static void lun_change(struct change *c)
{
	struct image *img = c->op->container;

	c->put = (struct volume_put){
		.zero = c->op->op == ENGINE_IO_ZERO,
		.durable = c->filler.n,
		.offset = c->at,
		.length = c->len,
		.buf = c->op->buf,
		.done = change_was_put,
		.opaque = c,
	};
	image_ref(img);
	volume_put(img->target, &c->put);
	image_leave_file(img);
	image_unref(img);
}

/* ---- reads and flushes ------------------------------------------------------------- */

/* What the volume does for an op. */
struct lun_io {
	struct engine_io io;
	struct dataop *op;
	unsigned logins;
	struct work work;
};

static void answer(struct dataop *op, int error)
{
	dataop_answer(op, error);
	dataop_unref(op);
}

/* A moment longer than the op has: who waits is answered as the op's. */
static unsigned time_left_ms(const struct dataop *op)
{
	enum { MORE_MS = 1500 };
	uint64_t now = timefmt_monotonic_ns();
	uint64_t ns = op->deadline_ns > now ? op->deadline_ns - now : 0;

	return (unsigned)(ns / 1000000) + MORE_MS;
}

static void submit(struct dataop *op,
		   void (*done)(struct engine_io *io, int error, const void *buf,
				size_t n),
		   enum engine_io_op kind, unsigned logins)
{
	struct image *img = op->container;
	struct lun_io *l = calloc(1, sizeof(*l));

	if (!l) {
		answer(op, -EIO);
		return;
	}
	/* The op that it is for counts as a user's, or not. */
	*l = (struct lun_io){
		{ .op = kind, .offset = op->offset, .done = done, .own = true },
		op,
		logins
	};
	if (kind == ENGINE_IO_READ)
		l->io.len = op->len;
	volume_io(img->target, &l->io, time_left_ms(op));
}

static void was_read(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct lun_io *l = (struct lun_io *)io;
	struct dataop *op = l->op;
	struct image *img = op->container;
	bool again = !error && volume_logins(img->target) != l->logins;

	free(l);
	if (again) {
		image_step_read(op);
		return;
	}
	if (!error && n < op->len)
		error = -EIO;
	/* The bytes are the volume's, until this returns. */
	op->buf = (void *)buf;
	op->skip = 0;
	dataop_answer(op, error ? -EIO : 0);
	op->buf = NULL;
	dataop_unref(op);
}

/* Whether all that was written of the range was so in the sessions of now. */
static bool is_of(struct image *img, const struct dataop *op, unsigned logins)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	uint64_t chunk = op->offset / img->chunk_size;
	uint64_t n = (op->offset + op->len - 1) / img->chunk_size - chunk + 1;
	const struct filler *filler;

	TAILQ_FOREACH(filler, &img->fillers, link)
		if (filler->chunk < chunk + n && chunk < filler->chunk + filler->n &&
		    filler->written && filler->logins != logins)
			return false;
	return true;
}

static void lun_read(struct dataop *op)
{
	struct image *img = op->container;
	unsigned logins = volume_logins(img->target);

	if (is_of(img, op, logins)) {
		submit(op, was_read, ENGINE_IO_READ, logins);
		return;
	}
	/* They are lost, as the sync finds. */
	image_park_lost(op);
	lun_drain(img);
}

static bool lun_pass(struct image *img, struct engine_io *io, unsigned timeout_ms)
{
	if (io->op != ENGINE_IO_READ || io->offset >= img->size || !io->len ||
	    !image_range_is_set(img, io->offset, io->len))
		return false;
	volume_io(img->target, io, timeout_ms);
	return true;
}

/* The target has synced; the bits are to be durable, too. */
static void flush_bits(struct work *work)
{
	struct lun_io *l =
		(struct lun_io *)((char *)work - offsetof(struct lun_io, work));
	struct dataop *op = l->op;
	struct image *img = op->container;
	int r = image_checkpoint(img);

	free(l);
	if (r < 0)
		image_report_checkpoint(img, r);
	answer(op, image_is_full(r) ? -ENOSPC : r < 0 ? -EIO : 0);
}

static void was_flushed(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct lun_io *l = (struct lun_io *)io;

	(void)buf;
	(void)n;
	if (error) {
		answer(l->op, -EIO);
		free(l);
		return;
	}
	l->work.fn = flush_bits;
	workers_submit(l->op->all->workers, &l->work);
}

static void lun_flush(struct image *img)
{
	struct dataop_list ops = TAILQ_HEAD_INITIALIZER(ops);
	struct dataop_list none = TAILQ_HEAD_INITIALIZER(none);
	struct dataop *op;

	image_ref(img);
	do {
		image_take_flushes(img, &ops);
		while ((op = TAILQ_FIRST(&ops))) {
			TAILQ_REMOVE(&ops, op, link);
			submit(op, was_flushed, ENGINE_IO_FLUSH, 0);
		}
	} while (image_flushed(img, &none, 0));
	image_unref(img);
}

/* ---- the store --------------------------------------------------------------------- */

static ssize_t lun_try_read(struct image *img, void *buf, size_t len, uint64_t offset)
{
	(void)img;
	(void)buf;
	(void)len;
	(void)offset;
	return -EAGAIN;
}

/* All of it is data while it is a target. */
static void lun_seek(struct dataop *op)
{
	const struct image *img = op->container;

	op->result = op->op == ENGINE_IO_SEEK_HOLE ? img->size : op->offset;
	answer(op, 0);
}

/* What bits speak of was synced before they were set. */
static int lun_sync(struct image *img)
{
	(void)img;
	return 0;
}

static bool lun_is_ready(struct image *img)
{
	return volume_is_ready(img->target);
}

static void lun_refresh_allocated(struct image *img)
{
	(void)img;
}

static void target_ready(struct volume_listener *listener)
{
	struct image *img =
		(struct image *)((char *)listener - offsetof(struct image, lun.listener));

	if (!image_try_ref(img))
		return;
	lun_drain(img);
	copier_step(img);
	image_run_parked(img);
	image_unref(img);
}

static void lun_close(struct image *img)
{
	volume_unlisten(img->target, &img->lun.listener);
	volume_unref(img->target);
}

void image_open_lun(struct image *img, struct volume *target)
{
	volume_ref(target);
	img->target = target;
	TAILQ_INIT(&img->lun.written);
	TAILQ_INIT(&img->lun.synced);
	img->lun.listener.fn = target_ready;
}

void image_listen_lun(struct image *img)
{
	volume_listen(img->target, &img->lun.listener);
}

const struct image_store image_lun_store = {
	.name = "lun",
	.pass = lun_pass,
	.is_ready = lun_is_ready,
	.try_read = lun_try_read,
	.read = lun_read,
	.change = lun_change,
	.fill = lun_fill,
	.drain = lun_drain,
	.window = 8, /* what it holds of the memory while the target hangs */
	.flush = lun_flush,
	.seek = lun_seek,
	.sync = lun_sync,
	.refresh_allocated = lun_refresh_allocated,
	.close = lun_close,
};
