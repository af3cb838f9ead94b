/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The store of an image that is a file in a pool, by calls that block, and so by
 * workers; and what an image does with its map by such calls.
 *
 * While the file is clean, each absent chunk of it is hole and is written once, so
 * that a run of zeros needs nothing at all.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/image_int.h"

/* ---- the file -------------------------------------------------------------------- */

/* tmpfs takes O_DIRECT and goes through its pages all the same. */
static bool is_memory(int fd)
{
	struct statfs st;

	return !fstatfs(fd, &st) && st.f_type == TMPFS_MAGIC;
}

int image_open_file(struct image *img, bool complete)
{
	img->fd = pool_open_image(img->pool, img->id, O_RDWR);
	if (img->fd < 0)
		return img->fd;
	/* A complete one takes no fills. */
	if (!complete && !is_memory(img->fd))
		img->direct_fd = pool_open_image(img->pool, img->id, O_RDWR | O_DIRECT);
	return 0;
}

static void file_close(struct image *img)
{
	if (img->fd >= 0)
		close(img->fd);
	if (img->direct_fd >= 0)
		close(img->direct_fd);
}

static void file_refresh_allocated(struct image *img)
{
	struct stat st;

	if (!fstat(img->fd, &st))
		__atomic_store_n(&img->allocated, (uint64_t)st.st_blocks * 512,
				 __ATOMIC_RELAXED);
}

/* What the page cache has. */
static ssize_t file_try_read(struct image *img, void *buf, size_t len, uint64_t offset)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	ssize_t n = preadv2(img->fd, &iov, 1, (off_t)offset, RWF_NOWAIT);

	return n == (ssize_t)len ? n : -EAGAIN;
}

int image_read_file(struct image *img, void *buf, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pread(img->fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf = (char *)buf + n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* With its space allocated first, a direct write is no allocating one, of which
 * file systems let only one at a time into a file. */
static int write_file(struct image *img, const void *buf, size_t len, uint64_t offset,
		      bool direct)
{
	direct = direct && !((len | offset) % 4096);
	if (direct &&
	    fallocate(img->direct_fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) <
		    0 &&
	    errno != EOPNOTSUPP && errno != EINTR)
		return -errno;
	while (len) {
		ssize_t n = pwrite(direct ? img->direct_fd : img->fd, buf, len,
				   (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf = (const char *)buf + n;
		offset += (uint64_t)n;
		len -= (size_t)n;
		direct = direct && !((size_t)n % 4096);
	}
	return 0;
}

/* For file systems that cannot do better. */
static int write_zeros(struct image *img, uint64_t offset, uint64_t len)
{
	static const char zeros[65536];
	int r = 0;

	while (len && !r) {
		size_t n = len < sizeof(zeros) ? len : sizeof(zeros);

		r = write_file(img, zeros, n, offset, false);
		offset += n;
		len -= n;
	}
	return r;
}

int image_zero_file(struct image *img, uint64_t offset, uint64_t len)
{
	int mode = FALLOC_FL_KEEP_SIZE |
		   (img->reserved ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
	off_t data = lseek(img->fd, (off_t)offset, SEEK_DATA);
	int r;

	if (data < 0 && errno != ENXIO)
		return -errno;
	if (data < 0 || (uint64_t)data >= offset + len)
		return 0;
	do
		r = fallocate(img->fd, mode, (off_t)offset, (off_t)len);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EOPNOTSUPP)
		return write_zeros(img, offset, len);
	return r < 0 ? -errno : 0;
}

int image_has_private(struct image *img, uint64_t chunk, uint64_t *run, bool *ret_has)
{
	int64_t n;

	while ((n = chunkmap_run(img->map, chunk, *run, ret_has)) == -EAGAIN) {
		int r = chunkmap_load(img->map, chunk, 1);

		if (r < 0)
			return r;
	}
	if (n > 0)
		*run = (uint64_t)n;
	return n < 0 ? (int)n : 0;
}

int64_t image_peek_private(struct image *img, uint64_t chunk, uint64_t max, bool *ret_has)
{
	return chunkmap_run(img->map, chunk, max, ret_has);
}

int image_read_private(struct image *img, uint64_t chunk, char *buf)
{
	uint64_t one = 1;
	bool has = false;
	int r = image_has_private(img, chunk, &one, &has);

	if (r < 0 || !has)
		return r;
	r = image_read_file(img, buf, image_chunk_bytes(img, chunk, 1),
			    chunk * img->chunk_size);
	return r < 0 ? r : 1;
}

int image_set_bits(struct image *img, uint64_t chunk, uint64_t n)
{
	int r = chunkmap_set(img->map, chunk, n);

	while (r == -EAGAIN) {
		r = chunkmap_load(img->map, chunk, n);
		if (r >= 0)
			r = chunkmap_set(img->map, chunk, n);
	}
	return r;
}

/* The kernel tells of a write that failed once, and forgets it: no later sync is
 * believed (invariant I2).  Nor one that runs beside it: so one at a time. */
static int sync_file(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->sync_lock);

	if (!img->sync_error && fdatasync(img->fd) < 0)
		img->sync_error = -errno;
	return img->sync_error;
}

struct sync {
	struct image *image;
	bool done;
};

static int sync_data(void *opaque)
{
	struct sync *sync = opaque;

	sync->done = true;
	return sync->image->store->sync(sync->image);
}

/* The bits of what was noted before are set: once all bits are durable, its data is. */
static int checkpoint(struct image *img, struct sync *sync)
{
	struct digests_batch *noted = img->digests ? digests_take(img->digests) : NULL;
	uint64_t skipped = image_all_skipped(img);
	int r = chunkmap_checkpoint(img->map, sync_data, sync);

	if (r < 0)
		digests_drop(noted);
	else
		digests_write(img->digests, noted);
	if (img->digests && r >= 0)
		digests_set_skipped(img->digests, skipped);
	return r;
}

int image_checkpoint(struct image *img)
{
	struct sync sync = { .image = img };

	return checkpoint(img, &sync);
}

int image_flush(struct image *img)
{
	struct sync sync = { .image = img };
	int r = checkpoint(img, &sync);

	return r < 0 || sync.done ? r : img->store->sync(img);
}

/* ---- the store's works ------------------------------------------------------------ */

/* The file within the present chunks from *at on, up to `end`: true if it was
 * found. */
static bool seek_present(struct image *img, uint64_t *at, uint64_t end, bool hole,
			 int *ret_error)
{
	off_t found = lseek(img->fd, (off_t)*at, hole ? SEEK_HOLE : SEEK_DATA);

	if (found < 0 && errno != ENXIO)
		*ret_error = -errno;
	else if (found < 0 || (uint64_t)found >= end)
		*at = end;
	else
		*at = (uint64_t)found;
	return *ret_error || *at < end;
}

/* Absent chunks are data, and so is what many runs of chunks have to be looked at
 * for. */
static int find(struct image *img, uint64_t offset, bool hole, uint64_t *ret_at)
{
	enum { MAX_RUNS = 4096 };
	uint64_t at = offset;
	int r = 0;

	for (unsigned i = 0; at < img->size; i++) {
		uint64_t chunk = at / img->chunk_size, end;
		bool set;
		int64_t run = chunkmap_run(img->map, chunk, UINT64_MAX, &set);

		if (run < 0)
			r = chunkmap_load(img->map, chunk, 1);
		if (r < 0)
			return r;
		if (run < 0)
			continue;
		if (i > MAX_RUNS || (!set && !hole)) {
			*ret_at = hole ? img->size : at;
			return 0;
		}
		end = chunk * img->chunk_size +
		      image_chunk_bytes(img, chunk, (uint64_t)run);
		if (!set)
			at = end;
		else if (seek_present(img, &at, end, hole, &r))
			break;
	}
	if (!r && at >= img->size && !hole)
		r = -ENXIO;
	*ret_at = at;
	return r;
}

static void seek_work(struct work *work)
{
	struct dataop *op =
		(struct dataop *)((char *)work - offsetof(struct dataop, work));
	int r = find(op->container, op->offset, op->op == ENGINE_IO_SEEK_HOLE,
		     &op->result);

	dataop_answer(op, r < 0 && r != -ENXIO ? -EIO : r);
	dataop_unref(op);
}

static void read_work(struct work *work)
{
	struct dataop *op =
		(struct dataop *)((char *)work - offsetof(struct dataop, work));
	int r = image_read_file(op->container, op->buf, op->len, op->offset);

	dataop_answer(op, r < 0 ? -EIO : 0);
	dataop_unref(op);
}

static void change_work(struct work *work)
{
	struct dataop *op =
		(struct dataop *)((char *)work - offsetof(struct dataop, work));
	struct image *img = op->container;
	struct change *c = op->holder;
	int r;

	if (op->op == ENGINE_IO_ZERO)
		r = image_zero_file(img, c->at, c->len);
	else
		r = write_file(img, op->buf, c->len, c->at, false);
	if (!r && c->filler.n)
		r = image_set_bits(img, c->filler.chunk, c->filler.n);
	image_leave_file(img);
	image_change_done(c, r);
}

static int make_hole(struct image *img, uint64_t offset, uint64_t len)
{
	if (!len || __atomic_load_n(&img->clean, __ATOMIC_RELAXED))
		return 0;
	return image_zero_file(img, offset, len);
}

/* A run of it, [at, end). */
static int write_run(struct fill *f, size_t at, size_t end)
{
	const char *buf = f->buf;
	size_t n;
	int r = 0;

	while (at < end && !r) {
		n = fill_zeros(buf + at, end - at);
		r = make_hole(f->image, f->offset + at, n);
		at += n;
		n = fill_data(buf + at, end - at);
		if (n && !r)
			r = write_file(f->image, buf + at, n, f->offset + at, f->direct);
		at += n;
	}
	return r;
}

static int write_data(struct fill *f)
{
	uint64_t at = 0, end;
	int r = 0;

	image_find_same(f);
	for (; !r && image_next_differing(f, &at, &end); at = end)
		r = write_run(f, at, end);
	return r;
}

static void report_write(struct image *img, int error)
{
	if (image_is_full(error))
		image_report_broken(img, -ENOSPC,
				    "pool %s is full: no space for the image of %s; "
				    "free some and copy again",
				    pool_name(img->pool), img->source_name);
	else
		image_report_broken(
			img, error, "pool %s: cannot write the image of %s: %s",
			pool_name(img->pool), img->source_name, strerror(-error));
}

static void fill_work(struct work *work)
{
	struct fill *f = (struct fill *)((char *)work - offsetof(struct fill, work));
	struct image *img = f->image;
	int r = f->zero ? make_hole(img, f->offset, f->length) : write_data(f);

	if (!r)
		r = image_set_bits(img, f->filler.chunk, f->filler.n);
	if (!r)
		image_note_digests(f);
	image_leave_file(img);
	/* A user's change that finds the pool full breaks nothing. */
	if (r && !(image_is_full(r) && f->why == FILL_FOR_CHANGE))
		report_write(img, r);
	fill_end(f, r);
}

static void flush_work(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, flush_work));
	struct dataop_list ops = TAILQ_HEAD_INITIALIZER(ops);
	int r;

	image_take_flushes(img, &ops);
	r = image_flush(img);
	if (r < 0)
		image_report_checkpoint(img, r);
	if (image_flushed(img, &ops, image_is_full(r) ? -ENOSPC : r < 0 ? -EIO : 0))
		workers_submit(img->all->workers, work);
	else
		image_unref(img);
}

/* ---- the store --------------------------------------------------------------------- */

static bool file_pass(struct image *img, struct engine_io *io, unsigned timeout_ms)
{
	(void)img;
	(void)io;
	(void)timeout_ms;
	return false;
}

static bool file_is_ready(struct image *img)
{
	(void)img;
	return true;
}

/* Nothing is written that does not end by itself. */
static void file_drain(struct image *img)
{
	(void)img;
}

static void op_by_worker(struct dataop *op, void (*fn)(struct work *work))
{
	op->work.fn = fn;
	workers_submit(op->all->workers, &op->work);
}

static void file_read(struct dataop *op)
{
	op_by_worker(op, read_work);
}

static void file_change(struct change *c)
{
	op_by_worker(c->op, change_work);
}

static void file_seek(struct dataop *op)
{
	op_by_worker(op, seek_work);
}

static void file_fill(struct fill *f)
{
	f->work.fn = fill_work;
	workers_submit(f->image->all->workers, &f->work);
}

static void file_flush(struct image *img)
{
	image_ref(img);
	img->flush_work.fn = flush_work;
	workers_submit(img->all->workers, &img->flush_work);
}

const struct image_store image_file_store = {
	.name = "file",
	.pass = file_pass,
	.is_ready = file_is_ready,
	.try_read = file_try_read,
	.read = file_read,
	.reads_into_buffer = true,
	.change = file_change,
	.fill = file_fill,
	.drain = file_drain,
	.window = 12,
	.flush = file_flush,
	.seek = file_seek,
	.sync = sync_file,
	.refresh_allocated = file_refresh_allocated,
	.close = file_close,
};
