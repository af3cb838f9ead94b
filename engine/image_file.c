/* SPDX-License-Identifier: BSD-2-Clause */

/* What an image does with its file and its map by calls that block. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "engine/image_int.h"

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
int image_write_file(struct image *img, const void *buf, size_t len, uint64_t offset,
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

		r = image_write_file(img, zeros, n, offset, false);
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
	return sync_file(sync->image);
}

int image_checkpoint(struct image *img)
{
	struct sync sync = { .image = img };

	return chunkmap_checkpoint(img->map, sync_data, &sync);
}

int image_flush(struct image *img)
{
	struct sync sync = { .image = img };
	int r = chunkmap_checkpoint(img->map, sync_data, &sync);

	return r < 0 || sync.done ? r : sync_file(img);
}

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
int image_seek(struct image *img, uint64_t offset, bool hole, uint64_t *ret_at)
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
