/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The life of a read (struct dataop) of an image; the op has one holder at a
 * time, who owns the container's reference:
 *
 *   image_step_read   looks at the map: what is missing?
 *     page of the map not in memory -> a worker loads it, then steps again
 *     chunk in a fill               -> waits in fill->waiters
 *     chunk absent                  -> a fill is made, waits in its waiters
 *     source away, no buffer, too many fetches -> waits in image->parked
 *     no source (broken, aborted, not yet activated) -> -EIO
 *     all there                     -> a worker reads the file, answers
 *
 * Parked reads step again when the source becomes ready, a buffer comes back or
 * a fetch ends.
 *
 * Locks: image->lock, then the locks of volume, map and buffer pool.  The
 * watcher is called with none; image_cut_off() waits until it
 * is not running (in_watcher).
 */

#include "engine/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/engine.h"
#include "engine/image_int.h"

static void fetch_bufs_came(struct bufpool_waiter *waiter)
{
	struct image *img = (struct image *)((char *)waiter -
					     offsetof(struct image, fetch_bufs));

	if (!image_try_ref(img))
		return;
	image_run_parked(img);
	image_unref(img);
}

static void source_ready(struct volume_listener *listener)
{
	struct image *img = (struct image *)((char *)listener -
					     offsetof(struct image, listener));

	image_ref(img);
	copier_step(img);
	image_run_parked(img);
	image_unref(img);
}

/* tmpfs takes O_DIRECT and goes through its pages all the same. */
static bool is_memory(int fd)
{
	struct statfs st;

	return !fstatfs(fd, &st) && st.f_type == TMPFS_MAGIC;
}

static int open_files(struct image *img, const struct image_params *params)
{
	const struct chunkmap_params map = {
		.id = params->id,
		.generation = params->generation,
		.size = params->size,
		.chunk_size = POOL_CHUNK_SIZE,
	};
	char file[64];

	img->fd = pool_open_image(img->pool, params->id, O_RDWR);
	if (img->fd < 0)
		return img->fd;
	if (params->complete)
		return chunkmap_new_full(&map, &img->map);
	if (!is_memory(img->fd))
		img->direct_fd =
			pool_open_image(img->pool, params->id, O_RDWR | O_DIRECT);
	pool_map_file(params->id, params->generation, file, sizeof(file));
	return chunkmap_open(pool_dirfd(img->pool), file, &map, &img->map);
}

static void close_files(struct image *img)
{
	chunkmap_close(img->map);
	if (img->fd >= 0)
		close(img->fd);
	if (img->direct_fd >= 0)
		close(img->direct_fd);
	free(img->copier.extents);
	free(img);
}

int image_open(struct dataops *dataops, struct pool *pool,
	       const struct image_params *params, struct image **ret_image)
{
	struct image *img = calloc(1, sizeof(*img));
	int r;

	if (!img)
		return -ENOMEM;
	img->all = dataops;
	img->refs = 1;
	img->id = params->id;
	img->size = params->size;
	img->chunk_size = POOL_CHUNK_SIZE;
	img->pool = pool;
	img->fd = img->direct_fd = -1;
	r = open_files(img, params);
	if (r < 0) {
		close_files(img);
		return r;
	}
	pthread_mutex_init(&img->lock, NULL);
	pthread_cond_init(&img->quiet, NULL);
	TAILQ_INIT(&img->fills);
	TAILQ_INIT(&img->parked);
	img->fetch_bufs = (struct bufpool_waiter){ .fn = fetch_bufs_came,
						   .class = BUFPOOL_REQUEST,
						   .size = FILL_BYTES };
	img->listener.fn = source_ready;
	copier_init(img);
	image_refresh_allocated(img);
	*ret_image = img;
	return 0;
}

void image_ref(struct image *img)
{
	__atomic_add_fetch(&img->refs, 1, __ATOMIC_RELAXED);
}

bool image_try_ref(struct image *img)
{
	int refs = __atomic_load_n(&img->refs, __ATOMIC_RELAXED);

	while (refs && !__atomic_compare_exchange_n(&img->refs, &refs, refs + 1, true,
						    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		;
	return refs;
}

/* By a worker: the last reference may be dropped inside a call whose end
 * bufpool_cancel() would wait for. */
static void destroy(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, destroy));

	bufpool_cancel(img->all->bufs, &img->fetch_bufs);
	bufpool_cancel(img->all->bufs, &img->copier.bufs);
	pthread_cond_destroy(&img->quiet);
	pthread_mutex_destroy(&img->lock);
	close_files(img);
}

void image_unref(struct image *img)
{
	if (!img || __atomic_sub_fetch(&img->refs, 1, __ATOMIC_ACQ_REL))
		return;
	img->destroy.fn = destroy;
	workers_submit(img->all->workers, &img->destroy);
}

void image_set_source(struct image *img, struct volume *source, const char *source_name,
		      const struct image_watcher *watcher)
{
	pthread_mutex_lock(&img->lock);
	volume_ref(source);
	img->source = source;
	snprintf(img->source_name, sizeof(img->source_name), "%s", source_name);
	img->watcher = *watcher;
	img->watched = true;
	pthread_mutex_unlock(&img->lock);
	volume_listen(source, &img->listener);
	/* It may have become ready in between. */
	image_run_parked(img);
}

void image_cut_off(struct image *img)
{
	struct volume *source;

	pthread_mutex_lock(&img->lock);
	source = move_ptr(img->source);
	img->watched = false;
	img->copier.running = false;
	while (img->in_watcher)
		pthread_cond_wait(&img->quiet, &img->lock);
	pthread_mutex_unlock(&img->lock);
	if (source) {
		volume_unlisten(source, &img->listener);
		volume_unref(source);
	}
	image_run_parked(img);
}

/* Takes the right to call the watcher for the last time; false if it is not to
 * be called. */
static bool enter_watcher(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	if (!img->watched)
		return false;
	img->watched = false;
	img->copier.running = false;
	img->in_watcher++;
	return true;
}

static void leave_watcher(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	if (!--img->in_watcher)
		pthread_cond_broadcast(&img->quiet);
}

void image_report_broken(struct image *img, int error, const char *fmt, ...)
{
	char reason[IMAGE_REASON_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	if (!enter_watcher(img))
		return;
	img->watcher.broken(img->watcher.opaque, error, reason);
	leave_watcher(img);
}

void image_report_complete(struct image *img)
{
	if (!enter_watcher(img))
		return;
	img->watcher.complete(img->watcher.opaque);
	leave_watcher(img);
}

uint64_t image_chunk_bytes(const struct image *img, uint64_t chunk, uint64_t n)
{
	uint64_t from = chunk * img->chunk_size, to = (chunk + n) * img->chunk_size;

	return (to < img->size ? to : img->size) - from;
}

/* The kernel tells of a write that failed once, and forgets it: no later sync is
 * believed (invariant I2). */
int image_sync_data(void *image)
{
	struct image *img = image;

	if (!img->sync_error && fdatasync(img->fd) < 0)
		img->sync_error = -errno;
	return img->sync_error;
}

int image_checkpoint(struct image *img)
{
	return chunkmap_checkpoint(img->map, image_sync_data, img);
}

static void checkpoint_work(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, checkpoint_work));
	int r = image_checkpoint(img);

	if (r < 0)
		image_report_broken(img, r, "pool %s: cannot sync the image: %s",
				    pool_name(img->pool), strerror(-r));
	image_refresh_allocated(img);
	pthread_mutex_lock(&img->lock);
	img->checkpointing = false;
	pthread_mutex_unlock(&img->lock);
	image_unref(img);
}

void image_checkpoint_soon(struct image *img)
{
	bool start;

	pthread_mutex_lock(&img->lock);
	start = !img->checkpointing;
	img->checkpointing = true;
	pthread_mutex_unlock(&img->lock);
	if (!start)
		return;
	image_ref(img);
	img->checkpoint_work.fn = checkpoint_work;
	workers_submit(img->all->workers, &img->checkpoint_work);
}

void image_progress(struct image *img, struct image_progress *ret_progress)
{
	uint64_t present = chunkmap_n_set(img->map) * img->chunk_size;

	*ret_progress = (struct image_progress){
		.bytes_total = img->size,
		.bytes_present = present < img->size ? present : img->size,
		.bytes_copied = __atomic_load_n(&img->bytes_copied, __ATOMIC_RELAXED),
		.bytes_skipped = __atomic_load_n(&img->bytes_skipped, __ATOMIC_RELAXED),
		.last_progress_ms =
			__atomic_load_n(&img->last_progress_ms, __ATOMIC_RELAXED),
	};
}

bool image_is_complete(struct image *img)
{
	return chunkmap_n_set(img->map) == chunkmap_n_chunks(img->map);
}

uint64_t image_allocated(struct image *img)
{
	return __atomic_load_n(&img->allocated, __ATOMIC_RELAXED);
}

void image_refresh_allocated(struct image *img)
{
	struct stat st;

	if (!fstat(img->fd, &st))
		__atomic_store_n(&img->allocated, (uint64_t)st.st_blocks * 512,
				 __ATOMIC_RELAXED);
}

/* ---- reads --------------------------------------------------------------- */

/* Whether all chunks of a range are there, as far as memory knows. */
static bool range_is_present(struct image *img, uint64_t offset, size_t len)
{
	uint64_t chunk = offset / img->chunk_size;
	uint64_t n = (offset + len - 1) / img->chunk_size - chunk + 1;
	bool set;

	return chunkmap_run(img->map, chunk, n, &set) == (int64_t)n && set;
}

ssize_t image_try_read(struct image *img, void *buf, size_t len, uint64_t offset)
{
	struct iovec iov = { .iov_base = buf };
	ssize_t n;

	if (offset >= img->size)
		return 0;
	if (len > img->size - offset)
		len = img->size - offset;
	if (!range_is_present(img, offset, len))
		return -EAGAIN;
	iov.iov_len = len;
	n = preadv2(img->fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
	return n == (ssize_t)len ? n : -EAGAIN;
}

static void read_file(struct work *work)
{
	struct dataop *op = (struct dataop *)((char *)work -
					      offsetof(struct dataop, work));
	struct image *img = op->container;
	size_t have = 0;
	ssize_t n = 1;

	while (have < op->len && n > 0) {
		n = pread(img->fd, (char *)op->buf + have, op->len - have,
			  (off_t)(op->offset + have));
		if (n > 0)
			have += (size_t)n;
	}
	dataop_answer(op, have == op->len ? 0 : -EIO);
	dataop_unref(op);
}

static void load_page(struct work *work)
{
	struct dataop *op = (struct dataop *)((char *)work -
					      offsetof(struct dataop, work));
	struct image *img = op->container;
	uint64_t chunk = op->offset / img->chunk_size;
	uint64_t n = (op->offset + op->len - 1) / img->chunk_size - chunk + 1;

	if (chunkmap_load(img->map, chunk, n) < 0) {
		dataop_answer(op, -EIO);
		dataop_unref(op);
		return;
	}
	image_step_read(op);
}

/* The op leaves the queue it is in, for a holder that answers or frees it. */
static void forget(struct dataop *op)
{
	struct image *img = op->container;
	bool was_queued;

	pthread_mutex_lock(&img->lock);
	was_queued = op->queued;
	if (was_queued)
		dataop_unqueue(op);
	pthread_mutex_unlock(&img->lock);
	if (was_queued)
		dataop_unref(op);
}

enum step {
	STEP_PRESENT,
	STEP_LOAD,
	STEP_ABSENT, /* and cannot be fetched */
	STEP_WAITS,  /* queued */
	STEP_WANTS_BUFFER, /* queued, and a buffer is wanted */
};

/*
 * Makes the fills that a read needs from chunk on and has places for; the op
 * waits in the first of them.  image->lock is held.  The fills made are handed
 * to the caller to start.
 */
static enum step fetch_locked(struct image *img, struct dataop *op, uint64_t chunk,
			      uint64_t end, struct fill **ret_fills)
{
	enum step step = STEP_WAITS;

	while (chunk < end && img->n_fetches < IMAGE_MAX_FETCHES) {
		bool set;
		int64_t run = chunkmap_run(img->map, chunk, end - chunk, &set);
		struct fill *f;
		void *buf;

		if (run < 0)
			break;
		run = (int64_t)fill_free_run_locked(img, chunk, (uint64_t)run);
		if (set || !run) {
			chunk += run ? (uint64_t)run : 1;
			continue;
		}
		if (run > FILL_BYTES / img->chunk_size)
			run = FILL_BYTES / img->chunk_size;
		buf = bufpool_get(img->all->bufs, BUFPOOL_REQUEST,
				  image_chunk_bytes(img, chunk, (uint64_t)run));
		if (!buf) {
			step = STEP_WANTS_BUFFER;
			break;
		}
		f = fill_new_locked(img, chunk, (uint64_t)run, true);
		if (!f) {
			bufpool_put(img->all->bufs, BUFPOOL_REQUEST, buf,
				    image_chunk_bytes(img, chunk, (uint64_t)run));
			break;
		}
		f->buf = buf;
		if (!op->queued)
			dataop_queue(op, &f->waiters);
		f->next = *ret_fills;
		*ret_fills = f;
		chunk += (uint64_t)run;
	}
	return step;
}

static enum step look_locked(struct image *img, struct dataop *op,
			     struct fill **ret_fills)
{
	uint64_t chunk = op->offset / img->chunk_size;
	uint64_t end = (op->offset + op->len - 1) / img->chunk_size + 1;
	struct fill *f;
	bool set = true;
	int64_t run;
	enum step step;

	for (; chunk < end; chunk += (uint64_t)run) {
		run = chunkmap_run(img->map, chunk, end - chunk, &set);
		if (run < 0)
			return STEP_LOAD;
		if (!set)
			break;
	}
	if (chunk >= end)
		return STEP_PRESENT;
	if (!img->source)
		return STEP_ABSENT;
	f = fill_of_chunk_locked(img, chunk);
	if (f) {
		dataop_queue(op, &f->waiters);
		return STEP_WAITS;
	}
	step = volume_is_ready(img->source) ?
		       fetch_locked(img, op, chunk, end, ret_fills) :
		       STEP_WAITS;
	if (!op->queued)
		dataop_queue(op, &img->parked);
	return step;
}

void image_step_read(struct dataop *op)
{
	struct image *img = op->container;
	struct fill *fills = NULL, *f;
	enum step step;

	if (op->offset >= img->size)
		op->len = 0;
	else if (op->len > img->size - op->offset)
		op->len = img->size - op->offset;
	if (!op->len) {
		dataop_answer(op, 0);
		dataop_unref(op);
		return;
	}
	dataop_ref(op);
	pthread_mutex_lock(&img->lock);
	step = look_locked(img, op, &fills);
	if (step == STEP_PRESENT &&
	    dataop_get_buffer(op, op->len) == -EAGAIN) {
		dataop_queue(op, &img->parked);
		step = STEP_WANTS_BUFFER;
	}
	pthread_mutex_unlock(&img->lock);

	switch (step) {
	case STEP_PRESENT:
		op->work.fn = read_file;
		workers_submit(img->all->workers, &op->work);
		break;
	case STEP_LOAD:
		op->work.fn = load_page;
		workers_submit(img->all->workers, &op->work);
		break;
	case STEP_ABSENT:
		dataop_answer(op, -EIO);
		dataop_unref(op);
		break;
	case STEP_WANTS_BUFFER:
	case STEP_WAITS:
		/* The reaper may have answered before the op was queued. */
		if (dataop_answered(op))
			forget(op);
		break;
	}
	while ((f = fills)) {
		fills = f->next;
		fill_start(f);
	}
	if (step == STEP_WANTS_BUFFER)
		bufpool_wait(img->all->bufs, &img->fetch_bufs);
	dataop_unref(op);
}

/* Lets every parked read look again. */
void image_run_parked(struct image *img)
{
	struct dataop_list ops = TAILQ_HEAD_INITIALIZER(ops);
	struct dataop *op;

	image_ref(img);
	pthread_mutex_lock(&img->lock);
	TAILQ_CONCAT(&ops, &img->parked, link);
	TAILQ_FOREACH (op, &ops, link)
		op->queued = false;
	pthread_mutex_unlock(&img->lock);
	while ((op = TAILQ_FIRST(&ops))) {
		TAILQ_REMOVE(&ops, op, link);
		image_step_read(op);
	}
	image_unref(img);
}

static void resume(struct dataop *op)
{
	image_run_parked(op->container);
}

static void ref_container(void *container)
{
	image_ref(container);
}

static void unref_container(void *container)
{
	image_unref(container);
}

static const struct dataop_container ops_of_image = {
	.cancel = forget,
	.resume = resume,
	.ref = ref_container,
	.unref = unref_container,
};

static void seek(struct image *img, struct dataop *op)
{
	off_t at = (off_t)op->offset;

	if (op->offset >= img->size) {
		dataop_answer(op, -ENXIO);
		return;
	}
	if (image_is_complete(img))
		at = lseek(img->fd, at,
			   op->op == ENGINE_IO_SEEK_DATA ? SEEK_DATA : SEEK_HOLE);
	else if (op->op == ENGINE_IO_SEEK_HOLE)
		at = (off_t)img->size;
	op->result = (uint64_t)at;
	dataop_answer(op, at < 0 ? -errno : 0);
}

void image_io(struct image *img, struct engine_io *io, unsigned timeout_ms)
{
	struct dataop *op = dataop_new(img->all, io, timeout_ms, img, &ops_of_image);

	if (!op)
		return;
	if (op->op == ENGINE_IO_READ) {
		image_step_read(op);
		return;
	}
	if (op->op == ENGINE_IO_SEEK_DATA || op->op == ENGINE_IO_SEEK_HOLE)
		seek(img, op);
	else
		dataop_answer(op, op->op == ENGINE_IO_FLUSH ? 0 : -EROFS);
	dataop_unref(op);
}
