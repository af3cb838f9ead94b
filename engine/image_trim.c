/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * What a file holds under clear bits, as an earlier generation of the image had it, is
 * given back to the pool: in the background, a run of absent chunks at a time, with the
 * work as the filler of these chunks, so that nobody writes them meanwhile.
 */

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "engine/image_int.h"

enum {
	RUN_CHUNKS = 1024, /* at once */
	RUNS = 64,         /* then others have their turn */
};

/* The absent chunks from *chunk on that nobody fills: their number, 0 if the first is
 * no such (*chunk moves over it), -EAGAIN, or -ECANCELED. */
static int64_t enter_run(struct image *img, uint64_t *chunk, struct filler *filler)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	bool set;
	int64_t n = chunkmap_run(img->map, *chunk, RUN_CHUNKS, &set);
	uint64_t free_run;

	if (n < 0)
		return n;
	free_run = set ? 0 : filler_free_run_locked(img, *chunk, (uint64_t)n);
	if (!free_run) {
		*chunk += set ? (uint64_t)n : 1;
		return 0;
	}
	if (!image_enter_file_locked(img))
		return -ECANCELED;
	filler_enter_locked(img, filler, *chunk, free_run);
	return (int64_t)free_run;
}

static void leave_run(struct image *img, struct filler *filler)
{
	struct dataop_list waiters = TAILQ_HEAD_INITIALIZER(waiters);

	pthread_mutex_lock(&img->lock);
	filler_leave_locked(img, filler, &waiters);
	pthread_mutex_unlock(&img->lock);
	image_leave_file(img);
	filler_wake(&waiters);
	copier_step(img);
}

/* One run; 1: there may be more; 0: the end; -errno. */
static int trim_run(struct image *img)
{
	off_t data = lseek(img->fd, (off_t)(img->trim_at * img->chunk_size), SEEK_DATA);
	struct filler filler;
	uint64_t chunk;
	int64_t n;
	int r;

	if (data < 0)
		return errno == ENXIO ? 0 : -errno;
	chunk = (uint64_t)data / img->chunk_size;
	n = enter_run(img, &chunk, &filler);
	img->trim_at = chunk;
	if (n == -EAGAIN) {
		r = chunkmap_load(img->map, chunk, 1);
		return r < 0 ? r : 1;
	}
	if (n <= 0)
		return n < 0 ? (int)n : 1;
	r = image_zero_file(img, chunk * img->chunk_size,
			    image_chunk_bytes(img, chunk, (uint64_t)n));
	leave_run(img, &filler);
	img->trim_at = chunk + (uint64_t)n;
	return r < 0 ? r : 1;
}

static void trim_work(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, trim_work));
	int r = 1;

	for (unsigned i = 0; i < RUNS && r > 0; i++)
		r = img->trim_at * img->chunk_size < img->size ? trim_run(img) : 0;
	if (r > 0) {
		workers_submit(img->all->workers, work);
		return;
	}
	image_refresh_allocated(img);
	image_unref(img);
}

void image_trim(struct image *img)
{
	if (img->target || img->digests || __atomic_load_n(&img->clean, __ATOMIC_RELAXED))
		return;
	image_ref(img);
	img->trim_at = 0;
	img->trim_work.fn = trim_work;
	workers_submit(img->all->workers, &img->trim_work);
}
