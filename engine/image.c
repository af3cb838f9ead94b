/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * An image is two bits of truth for each chunk: the file, which has its bytes if
 * the map's bit is set, and the point, which has them else.  A bit is only ever set.
 *
 *   absent   a read that is kept, a change of a part   -> a fill brings it
 *            a read that is not kept                   reads the point
 *            a change of the whole                     -> its change brings it
 *            the copier                                -> a fill brings it
 *   coming   in a filler of image->fillers, of a fill or of a change; all others
 *            that need it to be present wait for the end of that one (I7)
 *   present  read and changed in the file, by a worker, for good
 *
 * The source: none -> image_set_source() -> image_cut_off().  Only with one can an
 * absent chunk become present, or be read.  Each use has a reference on the point,
 * and what came from it counts only if it is the source still: after
 * image_cut_off() the point may be out of the chain, and read newer bytes.
 *
 * The first change by a user waits until the fills that write directly have ended
 * (from then on all writes of the file go through the page cache, whose folios may
 * span chunks), and until the owner knows of it durably, which also ends what
 * image_params.clean promised: a change that a crash cuts off leaves bytes under a
 * clear bit.  One that fails in this process does, too.
 *
 * Durable: what was answered before a FLUSH, or before a checkpoint, is so after
 * it: the file is synced, then the bits set before are written and synced (I2, I4).
 * An error of a sync stays: no later one is believed.
 *
 * Life of a request: image_io.c.  Changes that overlap: image_write.c.
 *
 * Locks: image->lock, then those of volume, chain, map and buffer pool.  The
 * watcher is called with none; image_cut_off() waits until it is not running
 * (in_watcher).
 */

#include "engine/image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "engine/image_int.h"
#include "engine/restore.h"

static void bufs_came(struct bufpool_waiter *waiter)
{
	struct image *img =
		(struct image *)((char *)waiter - offsetof(struct image, bufs));

	if (!image_try_ref(img))
		return;
	image_run_parked(img);
	image_unref(img);
}

static void source_ready(struct volume_listener *listener)
{
	struct image *img =
		(struct image *)((char *)listener - offsetof(struct image, listener));

	image_ref(img);
	copier_step(img);
	image_run_parked(img);
	image_unref(img);
}

static int open_files(struct image *img, const struct image_params *params)
{
	const struct chunkmap_params map = {
		.id = params->id,
		.generation = params->generation,
		.size = img->copy_size,
		.chunk_size = POOL_CHUNK_SIZE,
	};
	char file[64];
	int r = 0;

	if (params->target)
		image_open_lun(img, params->target);
	else
		r = image_open_file(img, params->complete);
	if (!r && params->digests)
		r = image_open_digests(img, params);
	if (r < 0)
		return r;
	if (params->complete)
		return chunkmap_new_full(&map, &img->map);
	pool_map_file(params->id, params->generation, file, sizeof(file));
	r = chunkmap_open(pool_dirfd(img->pool), file, &map, &img->map);
	/* For those who look at it and must not wait; others load what they need. */
	if (r >= 0)
		chunkmap_load(img->map, 0, chunkmap_n_chunks(img->map));
	return r;
}

static void close_files(struct image *img)
{
	chunkmap_close(img->map);
	image_close_digests(img);
	img->store->close(img);
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
	img->copy_size = params->target ? params->copy_size : params->size;
	img->chunk_size = POOL_CHUNK_SIZE;
	img->reserved = params->reserved;
	img->written = params->written;
	img->clean = params->clean && !params->written && !params->target;
	img->store = params->target ? &image_lun_store : &image_file_store;
	snprintf(img->target_name, sizeof(img->target_name), "%s",
		 params->target_name ? params->target_name : "");
	img->pool = pool;
	img->fd = img->direct_fd = -1;
	r = open_files(img, params);
	if (r < 0) {
		close_files(img);
		return r;
	}
	pthread_mutex_init(&img->sync_lock, NULL);
	pthread_mutex_init(&img->lock, NULL);
	pthread_cond_init(&img->quiet, NULL);
	TAILQ_INIT(&img->order);
	TAILQ_INIT(&img->fillers);
	TAILQ_INIT(&img->parked);
	TAILQ_INIT(&img->for_place);
	TAILQ_INIT(&img->unwritten);
	TAILQ_INIT(&img->unvoided);
	TAILQ_INIT(&img->flushes);
	img->bufs = (struct bufpool_waiter){ .fn = bufs_came,
					     .class = BUFPOOL_REQUEST,
					     .size = FILL_BYTES };
	img->listener.fn = source_ready;
	copier_init(img);
	if (img->target)
		image_listen_lun(img);
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

	bufpool_cancel(img->all->bufs, &img->bufs);
	bufpool_cancel(img->all->bufs, &img->copier.bufs);
	priority_cancel_flow(&img->all->priority, &img->copier.flow);
	pthread_cond_destroy(&img->quiet);
	pthread_mutex_destroy(&img->lock);
	pthread_mutex_destroy(&img->sync_lock);
	volume_unref(img->redirect);
	close_files(img);
}

void image_unref(struct image *img)
{
	if (!img || __atomic_sub_fetch(&img->refs, 1, __ATOMIC_ACQ_REL))
		return;
	img->destroy.fn = destroy;
	workers_submit(img->all->workers, &img->destroy);
}

void image_set_source(struct image *img, struct point *source, const char *source_name,
		      bool keep, const struct image_watcher *watcher)
{
	pthread_mutex_lock(&img->lock);
	if (source)
		point_ref(source);
	img->source = source;
	img->keep = keep;
	snprintf(img->source_name, sizeof(img->source_name), "%s", source_name);
	img->watcher = *watcher;
	img->attached = img->watched = true;
	img->told = false;
	pthread_mutex_unlock(&img->lock);
	if (source) {
		share_join(source, img);
		volume_listen(point_volume(source), &img->listener);
	}
	/* It may have become ready in between. */
	image_run_parked(img);
}

void image_set_priority(struct image *img, struct priority_group *group)
{
	priority_set_flow(&img->all->priority, &img->copier.flow, group);
}

void image_keep_reads(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	img->keep = true;
}

void image_set_written(struct image *img)
{
	pthread_mutex_lock(&img->lock);
	img->written = true;
	pthread_mutex_unlock(&img->lock);
	image_run_unwritten(img);
}

static void let_go(struct image *img, struct point *source)
{
	if (!source)
		return;
	volume_unlisten(point_volume(source), &img->listener);
	share_leave(source, img);
	point_unref(source);
}

void image_drop_source(struct image *img)
{
	struct point *source;

	pthread_mutex_lock(&img->lock);
	source = move_ptr(img->source);
	img->watched = false;
	img->copier.running = false;
	pthread_mutex_unlock(&img->lock);
	let_go(img, source);
	image_run_parked(img);
}

void image_cut_off(struct image *img)
{
	struct point *source;

	pthread_mutex_lock(&img->lock);
	source = move_ptr(img->source);
	img->attached = img->watched = false;
	img->copier.running = false;
	while (img->in_watcher)
		pthread_cond_wait(&img->quiet, &img->lock);
	pthread_mutex_unlock(&img->lock);
	let_go(img, source);
	image_run_unwritten(img);
	image_run_parked(img);
	img->store->drain(img);
}

void image_redirect(struct image *img, struct volume *volume)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	volume_ref(volume);
	__atomic_store_n(&img->redirect, volume, __ATOMIC_RELEASE);
	while (img->n_changes)
		pthread_cond_wait(&img->quiet, &img->lock);
}

void image_retire(struct image *img, bool retired)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	img->retired = retired;
	while (retired && img->n_calls)
		pthread_cond_wait(&img->quiet, &img->lock);
}

void image_set_restore(struct image *img, struct restore *restore)
{
	struct restore *before;

	if (restore)
		restore_ref(restore);
	pthread_mutex_lock(&img->lock);
	before = img->restore;
	__atomic_store_n(&img->restore, restore, __ATOMIC_RELEASE);
	while (restore && img->n_calls)
		pthread_cond_wait(&img->quiet, &img->lock);
	pthread_mutex_unlock(&img->lock);
	restore_unref(before);
}

struct restore *image_get_restore(struct image *img)
{
	if (!__atomic_load_n(&img->restore, __ATOMIC_ACQUIRE))
		return NULL;
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	if (img->restore)
		restore_ref(img->restore);
	return img->restore;
}

bool image_enter_file_locked(struct image *img)
{
	if (img->retired)
		return false;
	if (!img->n_calls++)
		image_look_at_file_locked(img);
	return true;
}

void image_leave_file(struct image *img)
{
	bool seal = false;

	pthread_mutex_lock(&img->lock);
	if (!--img->n_calls) {
		seal = image_note_file_locked(img);
		pthread_cond_broadcast(&img->quiet);
	}
	pthread_mutex_unlock(&img->lock);
	if (seal)
		image_seal(img);
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

bool image_is_full(int error)
{
	return error == -ENOSPC || error == -EDQUOT;
}

static bool has_lost_data(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->sync_lock);

	return img->sync_error;
}

void image_report_checkpoint(struct image *img, int error)
{
	if (!image_is_full(error) || has_lost_data(img))
		image_report_broken(img, error, "pool %s: cannot sync the image: %s",
				    pool_name(img->pool), strerror(-error));
}

void image_report_complete(struct image *img)
{
	image_finish_digests(img);
	if (!enter_watcher(img))
		return;
	img->watcher.complete(img->watcher.opaque);
	leave_watcher(img);
}

void image_report_written(struct image *img)
{
	bool tell;

	pthread_mutex_lock(&img->lock);
	tell = img->attached && !img->written && !img->told;
	img->told = img->told || tell;
	img->in_watcher += tell;
	pthread_mutex_unlock(&img->lock);
	if (!tell)
		return;
	img->watcher.written(img->watcher.opaque);
	leave_watcher(img);
}

uint64_t image_chunk_bytes(const struct image *img, uint64_t chunk, uint64_t n)
{
	uint64_t from = chunk * img->chunk_size, to = (chunk + n) * img->chunk_size;

	return (to < img->copy_size ? to : img->copy_size) - from;
}

static void checkpoint_work(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, checkpoint_work));
	int r = image_checkpoint(img);

	if (r < 0)
		image_report_checkpoint(img, r);
	image_refresh_allocated(img);
	pthread_mutex_lock(&img->lock);
	img->checkpointing = false;
	pthread_mutex_unlock(&img->lock);
	image_unref(img);
}

void image_checkpoint_soon(struct image *img)
{
	bool start;

	img->store->drain(img);
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
		.bytes_total = img->copy_size,
		.bytes_present = present < img->copy_size ? present : img->copy_size,
		.bytes_copied = __atomic_load_n(&img->bytes_copied, __ATOMIC_RELAXED),
		.bytes_skipped = __atomic_load_n(&img->bytes_skipped, __ATOMIC_RELAXED),
		.last_progress_ms =
			__atomic_load_n(&img->last_progress_ms, __ATOMIC_RELAXED),
	};
}

uint64_t image_all_skipped(struct image *img)
{
	if (!img->digests)
		return 0;
	return img->skipped_before +
	       __atomic_load_n(&img->bytes_skipped, __ATOMIC_RELAXED);
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
	img->store->refresh_allocated(img);
}

uint64_t image_change_count(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	return img->change_count;
}

uint64_t image_changed_ms(struct image *img)
{
	return __atomic_load_n(&img->changed_ms, __ATOMIC_RELAXED);
}
