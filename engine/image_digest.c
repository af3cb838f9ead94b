/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * What an image of a Clone has already, when a new instant is copied into it: digests
 * (digests.h) in two files, that of its own generation and that of the one before, its
 * base; and, where these do not say, what is read.
 *
 *   a fill      makes the digests of what came from the source, and looks chunk by chunk
 *               whether the store has that: by the digest of the base if there is one and
 *               the region is not void; else a file is read and compared, and a LUN is
 *               written.  Only what differs is written; then the bits are set, and the
 *               digests are noted
 *   checkpoint  what was noted before it gets into the file after it has synced the data
 *   a change    waits (image->unvoided) until its regions are void, durably, in the file
 *               of the own generation: only then it may reach the store
 *   complete    the file of digests is sealed with the time of change of the raw file, and
 *               again whenever no change is under way any more.  Whoever finds another
 *               time there (somebody wrote to `backing`) distrusts: all is compared
 *   resync      under the fence, when nothing is written any more: the own digests of the
 *               old image, if it can be trusted, are the base of the new one
 *
 * Why the base is right, also after a crash in the copy: chunks whose bit is clear were
 * not touched by users, or their region is void.  So they have what they had at the
 * resync, or what a fill of this generation has written over it, or some of either.  The
 * source's bytes at the point never change: had they been the same as those of the base,
 * no fill would have written, and as they are not, the digests differ again.  For that a
 * copy of a source without a point, which others write meanwhile, has no base.  And what a
 * copy that does not end has written over is unknown to the next one, whose base is what
 * this one has noted, and no more.
 *
 * A LUN has no time of change.  While it is a target nobody else writes it (exclusive),
 * as the copy's own map relies on, too; its digests are believed as that is.
 */

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "engine/image_int.h"
#include "engine/zeros.h"

/* ---- opening and closing ----------------------------------------------------------- */

static int64_t mtime_of(const struct image *img)
{
	struct stat st;

	/* A size that is not its own is nobody's time. */
	if (fstat(img->fd, &st) < 0 || (uint64_t)st.st_size != img->size)
		return 0;
	return st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
}

/* Those of a generation; NULL: there are none that can be used.  What is there but
 * cannot be had now must not be there again later, when changes have come in between. */
static int open_generation(struct image *img, uint64_t generation,
			   struct digests **ret_digests)
{
	const struct digests_params params = {
		.id = img->id,
		.generation = generation,
		.size = img->copy_size,
		.chunk_size = POOL_CHUNK_SIZE,
	};
	char file[64];
	int r;

	pool_digest_file(img->id, generation, file, sizeof(file));
	r = digests_open(pool_dirfd(img->pool), file, &params, ret_digests);
	return r == -ENOENT ? 0 : r;
}

/* Its file goes, durably: or it might be believed later, when changes were not noted in
 * it. */
static int remove_own(struct image *img, uint64_t generation)
{
	int r = pool_remove_digest(img->pool, img->id, generation);

	return r < 0 ? r : pool_sync(img->pool);
}

int image_open_digests(struct image *img, const struct image_params *params)
{
	uint64_t base;
	int r = open_generation(img, params->generation, &img->digests);

	/* The image does without, rather than not at all. */
	if (r < 0)
		return remove_own(img, params->generation);
	if (!img->digests)
		return 0;
	img->generation = params->generation;
	img->skipped_before = digests_skipped(img->digests);
	if (!img->target)
		img->own_mtime = mtime_of(img);
	if (params->complete) {
		img->sealing = !img->target;
		if (img->sealing && !digests_is_sealed(img->digests, img->own_mtime))
			digests_distrust(img->digests);
		return 0;
	}
	/* Without these more is read, or written, and no more. */
	base = digests_base(img->digests);
	if (base)
		open_generation(img, base, &img->base);
	else if (params->resync)
		open_generation(img, params->generation - 1, &img->offered);
	return 0;
}

void image_close_digests(struct image *img)
{
	digests_unref(img->digests);
	digests_unref(img->base);
	digests_unref(img->offered);
}

/* ---- whose file it is -------------------------------------------------------------- */

/* 0 is no time. */
static bool has_own_time(const struct image *img)
{
	return img->own_mtime && mtime_of(img) == img->own_mtime;
}

void image_look_at_file_locked(struct image *img)
{
	if (!img->digests || img->target || has_own_time(img))
		return;
	digests_distrust(img->digests);
	digests_set_base(img->digests, 0);
	if (img->base)
		digests_distrust(img->base);
}

bool image_note_file_locked(struct image *img)
{
	if (!img->digests || img->target)
		return false;
	img->own_mtime = mtime_of(img);
	return img->sealing;
}

void image_seal(struct image *img)
{
	int64_t mtime;
	bool quiet;

	pthread_mutex_lock(&img->lock);
	mtime = img->own_mtime;
	quiet = !img->n_calls;
	pthread_mutex_unlock(&img->lock);
	/* The last of those under way does it. */
	if (quiet && mtime)
		digests_seal(img->digests, mtime);
}

void image_finish_digests(struct image *img)
{
	if (!img->digests)
		return;
	pthread_mutex_lock(&img->lock);
	img->sealing = !img->target;
	pthread_mutex_unlock(&img->lock);
	if (img->sealing)
		image_seal(img);
	/* The kernel writes them when it likes: lost ones are only unknown. */
}

static bool is_own(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	return img->target || has_own_time(img);
}

void image_own_file(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	if (img->digests && !img->target)
		img->own_mtime = mtime_of(img);
}

void image_take_base(struct image *img, struct image *before)
{
	struct digests *base = move_ptr(img->offered);
	bool trusted;

	if (before) {
		digests_unref(base);
		base = before->digests;
		if (base)
			digests_ref(base);
		trusted = base && !digests_is_distrusted(base) && is_own(before);
	} else {
		trusted = base && !img->target && digests_is_sealed(base, mtime_of(img));
	}
	if (!trusted || !img->digests) {
		digests_unref(base);
		return;
	}
	img->base = base;
	digests_set_base(img->digests, img->generation - 1);
}

/* ---- fills ------------------------------------------------------------------------- */

static uint64_t chunk_at(const struct fill *f, unsigned i)
{
	return f->filler.chunk + i;
}

static const char *bytes_at(const struct fill *f, unsigned i)
{
	return (const char *)f->buf + (size_t)i * f->image->chunk_size;
}

/* Past the page cache: what a failed write has left there is not what the disk has. */
static int read_store(struct image *img, char *buf, size_t len, uint64_t offset)
{
	ssize_t n;

	if (img->direct_fd < 0 || len % 4096)
		return image_read_file(img, buf, len, offset);
	do
		n = pread(img->direct_fd, buf, len, (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

/* Whether the file has these bytes; what cannot be found out is written. */
static bool has_bytes(struct image *img, const char *bytes, size_t len, uint64_t offset,
		      char **buf)
{
	off_t data = lseek(img->fd, (off_t)offset, SEEK_DATA);

	if ((data < 0 && errno == ENXIO) || data >= (off_t)(offset + len))
		return zeros_only(bytes, len);
	if (!*buf)
		*buf = aligned_alloc(4096, img->chunk_size);
	return *buf && !read_store(img, *buf, len, offset) && !memcmp(*buf, bytes, len);
}

static void find_same(struct fill *f)
{
	CLEANUP_FREE char *buf = NULL;
	struct image *img = f->image;
	struct digest base[FILL_CHUNKS] = { 0 };

	if (img->base)
		digests_get(img->base, f->filler.chunk, f->filler.n, base);
	for (unsigned i = 0; i < f->filler.n; i++) {
		uint64_t chunk = chunk_at(f, i);
		size_t len = image_chunk_bytes(img, chunk, 1);
		bool same = false;

		if (digest_is_known(&base[i]) && !digests_is_void(img->digests, chunk, 1))
			same = digest_is_same(&base[i], &f->digests[i]);
		else if (!img->target)
			same = has_bytes(img, bytes_at(f, i), len,
					 chunk * img->chunk_size, &buf);
		f->same |= (uint32_t)same << i;
		f->skipped += same ? len : 0;
	}
}

void image_find_same(struct fill *f)
{
	struct image *img = f->image;

	f->same = 0;
	f->skipped = 0;
	if (!img->digests || f->zero)
		return;
	for (unsigned i = 0; i < f->filler.n; i++)
		digest_make(bytes_at(f, i), image_chunk_bytes(img, chunk_at(f, i), 1),
			    &f->digests[i]);
	if (!__atomic_load_n(&img->clean, __ATOMIC_RELAXED))
		find_same(f);
}

bool image_next_differing(const struct fill *f, uint64_t *at, uint64_t *ret_end)
{
	uint64_t cs = f->image->chunk_size, end;

	if (!f->same) {
		*ret_end = f->length;
		return *at < f->length;
	}
	while (*at < f->length && f->same >> (*at / cs) & 1)
		*at = (*at / cs + 1) * cs;
	if (*at >= f->length)
		return false;
	for (end = (*at / cs + 1) * cs; end < f->length; end += cs)
		if (f->same >> (end / cs) & 1)
			break;
	*ret_end = end < f->length ? end : f->length;
	return true;
}

void image_note_digests(struct fill *f)
{
	if (f->image->digests && !f->zero)
		digests_note(f->image->digests, f->filler.chunk, (unsigned)f->filler.n,
			     f->digests);
}

/* ---- changes ----------------------------------------------------------------------- */

/* Takes those that wait; false: there are none any more. */
static bool take_unvoided(struct image *img, struct dataop_list *ops)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	struct dataop *op;

	TAILQ_FOREACH(op, &img->unvoided, link)
		op->queued = false;
	TAILQ_CONCAT(ops, &img->unvoided, link);
	img->voiding = !TAILQ_EMPTY(ops);
	return img->voiding;
}

/* They cannot be kept: users write on without. */
static int abandon(struct image *img)
{
	int r = remove_own(img, img->generation);

	if (!r)
		digests_abandon(img->digests);
	return r;
}

static void void_work(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, void_work));
	struct dataop_list ops = TAILQ_HEAD_INITIALIZER(ops);
	struct dataop *op;

	while (take_unvoided(img, &ops)) {
		int r = digests_void(img->digests);

		if (r < 0)
			r = abandon(img);
		while ((op = TAILQ_FIRST(&ops))) {
			TAILQ_REMOVE(&ops, op, link);
			if (r < 0)
				image_drop_change(op);
			else
				image_step_change(op);
		}
	}
	image_unref(img);
}

bool image_is_void(struct image *img, struct dataop *op, uint64_t offset, uint64_t len)
{
	uint64_t chunk = offset / img->chunk_size;
	uint64_t n = (offset + len - 1) / img->chunk_size - chunk + 1;
	bool start;

	if (!img->digests || offset >= img->copy_size ||
	    digests_is_void(img->digests, chunk, n))
		return true;
	dataop_ref(op);
	pthread_mutex_lock(&img->lock);
	digests_want_void(img->digests, chunk, n);
	dataop_queue(op, &img->unvoided);
	start = !img->voiding;
	img->voiding = true;
	if (start)
		image_ref(img);
	pthread_mutex_unlock(&img->lock);
	if (start) {
		img->void_work.fn = void_work;
		workers_submit(img->all->workers, &img->void_work);
	}
	image_check_queued(op);
	dataop_unref(op);
	return false;
}
