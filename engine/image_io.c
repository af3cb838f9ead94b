/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The life of a request (struct dataop) of an image; the op has one holder at a
 * time, who owns the container's reference:
 *
 *   image_step      looks at the map: what is missing?
 *     page of the map not in memory   -> a worker loads it, then steps again
 *     chunk in a filler               -> waits in filler->waiters
 *     source away, no buffer          -> waits in image->parked
 *     too many fetches or reads       -> waits in image->for_place
 *     no source (broken, cut off, not yet activated) -> -EIO
 *   and so on in image_read.c and image_write.c.  A FLUSH waits in image->flushes
 *   for a worker that syncs for all of them.
 *
 * Parked ones step again when the source becomes ready or a buffer comes back; and,
 * when their connection was lost, at the reaper's next turn.  A place that has come
 * free goes to the first that waits for one: image_serve(), one thread at a time,
 * not nested, since a source may answer from within.
 */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "engine/image_int.h"

static bool is_change(enum engine_io_op op)
{
	return op == ENGINE_IO_WRITE || op == ENGINE_IO_ZERO;
}

void image_step(struct dataop *op)
{
	if (is_change(op->op))
		image_step_change(op);
	else
		image_step_read(op);
}

/* The op leaves the queue it is in, for its end: the reaper has answered. */
static void forget(struct dataop *op)
{
	struct image *img = op->container;
	bool was_queued;

	pthread_mutex_lock(&img->lock);
	was_queued = op->queued;
	if (was_queued)
		dataop_unqueue(op);
	pthread_mutex_unlock(&img->lock);
	if (was_queued && is_change(op->op))
		image_drop_change(op);
	else if (was_queued)
		dataop_unref(op);
}

void image_check_queued(struct dataop *op)
{
	if (dataop_answered(op))
		forget(op);
}

void image_park_lost(struct dataop *op)
{
	struct image *img = op->container;

	dataop_ref(op);
	pthread_mutex_lock(&img->lock);
	dataop_queue(op, &img->parked);
	pthread_mutex_unlock(&img->lock);
	dataop_stall(op);
	image_check_queued(op);
	dataop_unref(op);
}

static void load_page(struct work *work)
{
	struct dataop *op =
		(struct dataop *)((char *)work - offsetof(struct dataop, work));
	struct image *img = op->container;
	uint64_t offset = op->offset, len = op->len, chunk, end;

	if (is_change(op->op))
		image_change_piece(op, &offset, &len);
	chunk = offset / img->chunk_size;
	end = (offset + len - 1) / img->chunk_size + 1;
	if (end > chunkmap_n_chunks(img->map))
		end = chunkmap_n_chunks(img->map);
	if (chunk >= end || chunkmap_load(img->map, chunk, end - chunk) >= 0) {
		image_step(op);
		return;
	}
	dataop_answer(op, -EIO);
	if (is_change(op->op))
		image_drop_change(op);
	else
		dataop_unref(op);
}

void image_load_for(struct dataop *op)
{
	struct image *img = op->container;

	op->work.fn = load_page;
	workers_submit(img->all->workers, &op->work);
}

/* ---- queues -------------------------------------------------------------- */

static void take_all_locked(struct dataop_list *from, struct dataop_list *to)
{
	struct dataop *op;

	TAILQ_FOREACH(op, from, link)
		op->queued = false;
	TAILQ_CONCAT(to, from, link);
}

static void step_all(struct dataop_list *ops)
{
	struct dataop *op;

	while ((op = TAILQ_FIRST(ops))) {
		TAILQ_REMOVE(ops, op, link);
		image_step(op);
	}
}

void image_run_parked(struct image *img)
{
	struct dataop_list ops = TAILQ_HEAD_INITIALIZER(ops);

	image_ref(img);
	pthread_mutex_lock(&img->lock);
	take_all_locked(&img->parked, &ops);
	take_all_locked(&img->for_place, &ops);
	pthread_mutex_unlock(&img->lock);
	step_all(&ops);
	image_unref(img);
}

void image_run_unwritten(struct image *img)
{
	struct dataop_list ops = TAILQ_HEAD_INITIALIZER(ops);

	image_ref(img);
	pthread_mutex_lock(&img->lock);
	take_all_locked(&img->unwritten, &ops);
	pthread_mutex_unlock(&img->lock);
	step_all(&ops);
	image_unref(img);
}

static bool place_is_free_locked(const struct image *img, const struct dataop *op)
{
	return img->keep || is_change(op->op) ? img->n_fetches < IMAGE_MAX_FETCHES :
						img->n_reads < IMAGE_MAX_READS;
}

/* The first op that a place is free for. */
static struct dataop *take_served(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	struct dataop *op;

	TAILQ_FOREACH(op, &img->for_place, link)
		if (place_is_free_locked(img, op))
			break;
	if (op)
		dataop_unqueue(op);
	img->serving = op;
	return op;
}

static bool begin_serving(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	if (img->serving)
		return false;
	img->serving = true;
	return true;
}

void image_serve(struct image *img)
{
	struct dataop *op;

	image_ref(img);
	if (begin_serving(img))
		while ((op = take_served(img)))
			image_step(op);
	image_unref(img);
}

void image_want_buffer(struct image *img)
{
	bufpool_wait(img->all->bufs, &img->bufs);
}

bool image_source_gives_locked(struct image *img, uint64_t chunk, uint64_t *n)
{
	bool preserved;
	int64_t run;

	if (!img->store->is_ready(img))
		return false;
	if (volume_is_ready(point_volume(img->source)))
		return true;
	run = point_run(img->source, chunk, *n, &preserved);
	if (run > 0 && !preserved)
		return false;
	if (run > 0)
		*n = (uint64_t)run;
	/* -EAGAIN: a read loads the page, and may lose. */
	return true;
}

static void resume(struct dataop *op)
{
	struct image *img = op->container;
	bool take;

	pthread_mutex_lock(&img->lock);
	take = op->queued && (op->queue == &img->parked || op->queue == &img->for_place);
	if (take)
		dataop_unqueue(op);
	pthread_mutex_unlock(&img->lock);
	if (take)
		image_step(op);
	image_serve(img);
}

static void ref_container(void *container)
{
	image_ref(container);
}

static void unref_container(void *container)
{
	image_unref(container);
}

const struct dataop_container image_ops = {
	.cancel = forget,
	.resume = resume,
	.ref = ref_container,
	.unref = unref_container,
};

/* ---- flushes and seeks ------------------------------------------------------- */

void image_take_flushes(struct image *img, struct dataop_list *ret_ops)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	take_all_locked(&img->flushes, ret_ops);
}

bool image_flushed(struct image *img, struct dataop_list *ops, int error)
{
	struct dataop *op;

	while ((op = TAILQ_FIRST(ops))) {
		TAILQ_REMOVE(ops, op, link);
		dataop_answer(op, error);
		dataop_unref(op);
	}
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	img->flushing = !TAILQ_EMPTY(&img->flushes);
	return img->flushing;
}

static void flush(struct image *img, struct dataop *op)
{
	bool start;

	dataop_ref(op);
	pthread_mutex_lock(&img->lock);
	start = !img->flushing;
	img->flushing = true;
	dataop_queue(op, &img->flushes);
	pthread_mutex_unlock(&img->lock);
	if (start)
		img->store->flush(img);
	image_check_queued(op);
	dataop_unref(op);
}

static void seek(struct image *img, struct dataop *op)
{
	if (op->offset >= img->size) {
		dataop_answer(op, -ENXIO);
		dataop_unref(op);
		return;
	}
	img->store->seek(op);
}

/* ---- the entries ----------------------------------------------------------- */

uint64_t image_chunk_of(const struct image *img, uint64_t offset)
{
	uint64_t chunk = offset / img->chunk_size;
	uint64_t n_chunks = chunkmap_n_chunks(img->map);

	return offset < img->copy_size || chunk >= n_chunks ? chunk : n_chunks;
}

int64_t image_run(struct image *img, uint64_t chunk, uint64_t max, bool *ret_set)
{
	if (chunk < chunkmap_n_chunks(img->map))
		return chunkmap_run(img->map, chunk, max, ret_set);
	*ret_set = true;
	return (int64_t)max;
}

bool image_range_is_set(struct image *img, uint64_t offset, size_t len)
{
	uint64_t chunk = image_chunk_of(img, offset);
	uint64_t end = (offset + len - 1) / img->chunk_size + 1;
	bool set = true;

	while (chunk < end && set) {
		int64_t run = image_run(img, chunk, end - chunk, &set);

		if (run < 0)
			return false;
		chunk += (uint64_t)run;
	}
	return set;
}

ssize_t image_try_read(struct image *img, void *buf, size_t len, uint64_t offset)
{
	struct volume *redirect = __atomic_load_n(&img->redirect, __ATOMIC_ACQUIRE);

	/* The file does not have yet what the volume reads as. */
	if (redirect && volume_is_restoring(redirect))
		return -EAGAIN;
	if (offset >= img->size || !len)
		return 0;
	if (len > img->size - offset)
		len = img->size - offset;
	if (!image_range_is_set(img, offset, len))
		return -EAGAIN;
	return img->store->try_read(img, buf, len, offset);
}

void image_io(struct image *img, struct engine_io *io, unsigned timeout_ms)
{
	struct volume *redirect = __atomic_load_n(&img->redirect, __ATOMIC_ACQUIRE);
	struct dataop *op;

	if (redirect) {
		volume_io(redirect, io, timeout_ms);
		return;
	}
	if (is_change(io->op)) {
		image_submit_change(img, io, timeout_ms);
		return;
	}
	if (img->store->pass(img, io, timeout_ms))
		return;
	op = dataop_new(img->all, io, timeout_ms, img, &image_ops);
	if (!op)
		return;
	switch (op->op) {
	case ENGINE_IO_READ:
		image_step_read(op);
		break;
	case ENGINE_IO_FLUSH:
		flush(img, op);
		break;
	default:
		seek(img, op);
	}
}
