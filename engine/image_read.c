/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Reads.  When all chunks are present the store reads them.  Else, if what is
 * read is kept, the absent ones are filled first, as many at once as there are
 * places; if it is not kept, the read goes through (struct through): run by run,
 * of present chunks from the file by a worker, of absent ones from the point, into
 * the op's buffer, which holds whole blocks.  Each run is what the map says of it
 * when it comes to its turn.
 *
 * One that loses its connection gives its buffer back, waits, and begins anew.
 */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "conf/cleanup.h"
#include "engine/image_int.h"

/* The least that points are read in units of; more, if the source's blocks are. */
enum { READ_ALIGN = 4096 };

struct through {
	struct dataop *op;
	uint64_t begin, end;  /* bytes: what buf has room for */
	uint64_t at;	      /* what lies before is read */
	uint64_t len;	      /* of the run under way */
	struct point_req req; /* its point with a reference */
};

/* ---- kept ------------------------------------------------------------------ */

/* A fill of the first chunks of a run, at most n; NULL for want of memory, of the
 * pool's if *ret_wants_buffer is set. */
static struct fill *new_fetch_locked(struct image *img, uint64_t chunk, uint64_t n,
				     bool *ret_wants_buffer)
{
	struct fill *f;
	size_t size;
	void *buf;

	if (n > FILL_BYTES / img->chunk_size)
		n = FILL_BYTES / img->chunk_size;
	size = image_chunk_bytes(img, chunk, n);
	buf = bufpool_get(img->all->bufs, BUFPOOL_REQUEST, size);
	*ret_wants_buffer = !buf;
	if (!buf)
		return NULL;
	f = fill_new_locked(img, chunk, n, FILL_FOR_READ);
	if (f)
		f->buf = buf;
	else
		bufpool_put(img->all->bufs, BUFPOOL_REQUEST, buf, size);
	return f;
}

/*
 * Makes the fills that a read needs from chunk on and has places for; the op
 * waits in the first of them.  The fills made are handed to the caller to start.
 */
static enum step fetch_locked(struct image *img, struct dataop *op, uint64_t chunk,
			      uint64_t end, struct fill **ret_fills)
{
	bool wants_buffer = false;

	while (chunk < end && img->n_fetches < IMAGE_MAX_FETCHES) {
		struct fill *f;
		bool set;
		int64_t r = image_run(img, chunk, end - chunk, &set);
		uint64_t run = r < 0 ? 0 : (uint64_t)r;

		if (r < 0)
			break;
		run = filler_free_run_locked(img, chunk, run);
		if (set || !run) {
			chunk += run ? run : 1;
			continue;
		}
		if (!image_source_gives_locked(img, chunk, &run))
			break;
		f = new_fetch_locked(img, chunk, run, &wants_buffer);
		if (!f)
			break;
		if (!op->queued)
			dataop_queue(op, &f->filler.waiters);
		f->next = *ret_fills;
		*ret_fills = f;
		chunk += f->filler.n;
	}
	if (!op->queued && img->n_fetches >= IMAGE_MAX_FETCHES)
		dataop_queue(op, &img->for_place);
	return wants_buffer ? STEP_WANTS_BUFFER : STEP_WAITS;
}

/* ---- through ---------------------------------------------------------------- */

static void through_next(struct through *t);

/* What the op's buffer has to hold: whole blocks. */
static size_t align(struct image *img, struct dataop *op)
{
	struct bd_geometry geometry;
	uint64_t unit = READ_ALIGN, end;

	volume_get_geometry(point_volume(img->source), &geometry);
	if (geometry.block_size > unit)
		unit = geometry.block_size;
	op->skip = op->offset % unit;
	end = (op->offset + op->len + unit - 1) / unit * unit;
	return (end < img->size ? end : img->size) - (op->offset - op->skip);
}

static enum step through_locked(struct image *img, struct dataop *op, uint64_t chunk)
{
	uint64_t one = 1;

	if (!image_source_gives_locked(img, chunk, &one))
		return STEP_WAITS;
	if (img->n_reads >= IMAGE_MAX_READS) {
		dataop_queue(op, &img->for_place);
		return STEP_WAITS;
	}
	if (dataop_get_buffer(op, align(img, op)) == -EAGAIN)
		return STEP_WANTS_BUFFER;
	img->n_reads++;
	return STEP_THROUGH;
}

static void through_free(struct through *t)
{
	point_unref(t->req.point);
	free(t);
}

/* Gives the place back, and what waits for it has it. */
static void through_end(struct dataop *op, struct through *t, int error)
{
	struct image *img = op->container;

	image_ref(img);
	if (t)
		through_free(t);
	pthread_mutex_lock(&img->lock);
	img->n_reads--;
	pthread_mutex_unlock(&img->lock);
	if (error == -ENOTCONN) {
		dataop_put_buffer(op);
		image_park_lost(op);
	} else {
		dataop_answer(op, error ? -EIO : 0);
		dataop_unref(op);
	}
	image_serve(img);
	image_unref(img);
}

static void *through_place(struct through *t)
{
	return (char *)t->op->buf + (t->at - t->begin);
}

static bool is_source(struct image *img, const struct point *point)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	return img->source == point;
}

static void run_ended(struct through *t, int error)
{
	if (error) {
		through_end(t->op, t, error);
		return;
	}
	t->at += t->len;
	through_next(t);
}

static void point_was_read(struct point_req *req, int error)
{
	struct through *t = req->opaque;

	if (!error && !is_source(t->op->container, req->point))
		error = -EIO;
	run_ended(t, error);
}

static void read_run(struct work *work)
{
	struct dataop *op =
		(struct dataop *)((char *)work - offsetof(struct dataop, work));
	struct through *t = op->holder;
	int r = image_read_file(op->container, through_place(t), t->len, t->at);

	run_ended(t, r < 0 ? -EIO : 0);
}

static void load_run(struct work *work)
{
	struct dataop *op =
		(struct dataop *)((char *)work - offsetof(struct dataop, work));
	struct image *img = op->container;
	struct through *t = op->holder;

	t->len = 0;
	run_ended(t, chunkmap_load(img->map, t->at / img->chunk_size, 1) < 0 ? -EIO : 0);
}

static void to_worker(struct dataop *op, void (*fn)(struct work *work))
{
	op->work.fn = fn;
	workers_submit(op->all->workers, &op->work);
}

/* The length of the run of bytes that are all present, or all absent; or -EAGAIN. */
static int64_t run_bytes(const struct through *t, bool *ret_set)
{
	struct image *img = t->op->container;
	uint64_t chunk = t->at / img->chunk_size;
	uint64_t n = (t->end - 1) / img->chunk_size - chunk + 1;
	int64_t run = chunkmap_run(img->map, chunk, n, ret_set);
	uint64_t end;

	if (run < 0)
		return run;
	end = chunk * img->chunk_size + image_chunk_bytes(img, chunk, (uint64_t)run);
	end = end < t->end ? end : t->end;
	return (int64_t)(end - t->at < FILL_BYTES ? end - t->at : FILL_BYTES);
}

static void through_next(struct through *t)
{
	struct dataop *op = t->op;
	bool set = true;
	int64_t len;

	if (t->at >= t->end || dataop_answered(op)) {
		through_end(op, t, 0);
		return;
	}
	len = run_bytes(t, &set);
	t->len = len < 0 ? 0 : (uint64_t)len;
	if (len < 0) {
		to_worker(op, load_run);
		return;
	}
	if (set) {
		to_worker(op, read_run);
		return;
	}
	t->req = (struct point_req){
		.point = t->req.point,
		.offset = t->at,
		.length = t->len,
		.buf = through_place(t),
		.done = point_was_read,
		.opaque = t,
	};
	point_read(&t->req);
}

/* With a reference on the point, and a place. */
static void through_start(struct dataop *op, struct point *point)
{
	struct through *t = op->buf ? calloc(1, sizeof(*t)) : NULL;

	if (!t) {
		point_unref(point);
		through_end(op, NULL, -ENOMEM);
		return;
	}
	t->op = op;
	t->req.point = point;
	t->at = t->begin = op->offset - op->skip;
	t->end = t->begin + op->buf_size;
	op->holder = t;
	through_next(t);
}

/* ---- both ------------------------------------------------------------------- */

/* The first chunk of [chunk, end) that cannot be read from the store, or end;
 * -EAGAIN. */
static int64_t first_absent(struct image *img, uint64_t chunk, uint64_t end)
{
	while (chunk < end) {
		const struct filler *filler;
		bool set;
		int64_t run = image_run(img, chunk, end - chunk, &set);

		if (run < 0)
			return run;
		filler = set ? NULL : filler_of_run_locked(img, chunk, 1);
		if (!set && (!filler || !filler->written))
			break;
		chunk = set ? chunk + (uint64_t)run : filler->chunk + filler->n;
	}
	return (int64_t)chunk;
}

static enum step go_locked(struct dataop *op)
{
	struct image *img = op->container;

	op->skip = 0;
	if (!img->store->reads_into_buffer)
		return STEP_GO;
	return dataop_get_buffer(op, op->len) == -EAGAIN ? STEP_WANTS_BUFFER : STEP_GO;
}

static enum step look_locked(struct image *img, struct dataop *op,
			     struct fill **ret_fills)
{
	uint64_t end = (op->offset + op->len - 1) / img->chunk_size + 1;
	int64_t chunk = first_absent(img, image_chunk_of(img, op->offset), end);
	struct filler *filler;

	if (chunk < 0)
		return STEP_LOAD;
	if ((uint64_t)chunk >= end)
		return go_locked(op);
	if (!img->source)
		return STEP_ABSENT;
	if (!img->keep)
		return through_locked(img, op, (uint64_t)chunk);
	filler = filler_of_run_locked(img, (uint64_t)chunk, 1);
	if (!filler)
		return fetch_locked(img, op, (uint64_t)chunk, end, ret_fills);
	dataop_queue(op, &filler->waiters);
	return STEP_WAITS;
}

/* The op is cut at the end of the image; true if nothing is left of it. */
static bool is_past_end(struct image *img, struct dataop *op)
{
	if (op->offset >= img->size)
		op->len = 0;
	else if (op->len > img->size - op->offset)
		op->len = img->size - op->offset;
	return !op->len;
}

static void answer(struct dataop *op, int error)
{
	dataop_answer(op, error);
	dataop_unref(op);
}

/* The op's next holder, as look_locked() has decided. */
static void take_step(struct image *img, struct dataop *op, enum step step,
		      struct point *source)
{
	switch (step) {
	case STEP_GO:
		if (op->buf || !img->store->reads_into_buffer)
			img->store->read(op);
		else
			answer(op, -EIO);
		break;
	case STEP_LOAD:
		image_load_for(op);
		break;
	case STEP_ABSENT:
		answer(op, -EIO);
		break;
	case STEP_THROUGH:
		through_start(op, source);
		break;
	case STEP_WAITS:
		image_check_queued(op);
		break;
	case STEP_WANTS_BUFFER:
		image_check_queued(op);
		image_want_buffer(img);
		break;
	}
}

void image_step_read(struct dataop *op)
{
	struct image *img = op->container;
	struct fill *fills = NULL, *f;
	struct point *source = NULL;
	enum step step;

	if (is_past_end(img, op)) {
		answer(op, 0);
		return;
	}
	dataop_ref(op);
	pthread_mutex_lock(&img->lock);
	step = look_locked(img, op, &fills);
	if ((step == STEP_WAITS || step == STEP_WANTS_BUFFER) && !op->queued)
		dataop_queue(op, &img->parked);
	if (step == STEP_THROUGH) {
		source = img->source;
		point_ref(source);
	}
	pthread_mutex_unlock(&img->lock);
	while ((f = fills)) {
		fills = f->next;
		fill_start(f);
	}
	take_step(img, op, step, source);
	dataop_unref(op);
}
