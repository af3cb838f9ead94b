/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The way of a run of chunks from the source into the file:
 *
 *   fill_new_locked  in image->fills: nobody else fills these chunks
 *   fill_start       READs at the source, in parts  (any thread)
 *   part_done        by the device's thread; sends the next part, if the source
 *                    takes only little at a time; the last one hands on
 *   write_chunks     runs that are not zero go to the file, zero runs stay
 *                    holes; then the bits are set   (a worker)
 *   end              out of image->fills; those who waited look again
 *
 * The file is new and all hole, and each chunk of it is written once, so that
 * a run of zeros needs nothing at all.  Bits get durable with the next
 * checkpoint, after the data (invariant I2).
 */

#include "engine/image_int.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"

enum {
	ZERO_UNIT = 4096,          /* zeros are looked for in units of this */
	ZERO_RUN_MIN = 32 * 1024, /* shorter runs of zeros are written */
};

struct fill *fill_new_locked(struct image *img, uint64_t chunk, uint64_t n, bool fetch)
{
	struct fill *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	image_ref(img);
	f->image = img;
	f->chunk = chunk;
	f->n = n;
	f->offset = chunk * img->chunk_size;
	f->length = image_chunk_bytes(img, chunk, n);
	f->fetch = fetch;
	f->class = fetch ? BUFPOOL_REQUEST : BUFPOOL_COPY;
	TAILQ_INIT(&f->waiters);
	TAILQ_INSERT_TAIL(&img->fills, f, link);
	if (fetch)
		img->n_fetches++;
	else {
		img->copier.n_fills++;
		img->copier.n_reading++;
		f->reading = true;
	}
	return f;
}

struct fill *fill_of_chunk_locked(struct image *img, uint64_t chunk)
{
	struct fill *f;

	TAILQ_FOREACH (f, &img->fills, link)
		if (f->chunk <= chunk && chunk < f->chunk + f->n)
			return f;
	return NULL;
}

uint64_t fill_free_run_locked(struct image *img, uint64_t chunk, uint64_t n)
{
	struct fill *f;

	TAILQ_FOREACH (f, &img->fills, link) {
		if (f->chunk <= chunk && chunk < f->chunk + f->n)
			return 0;
		if (f->chunk > chunk && f->chunk - chunk < n)
			n = f->chunk - chunk;
	}
	return n;
}

size_t fill_bytes(const struct fill *f)
{
	return (size_t)f->length;
}

/* Those who waited for the fill go on: look again, wait for the source, or
 * fail. */
static void wake(struct image *img, struct dataop_list *waiters, int error)
{
	struct dataop *op;

	while ((op = TAILQ_FIRST(waiters))) {
		TAILQ_REMOVE(waiters, op, link);
		if (error == -ENOTCONN) {
			dataop_ref(op);
			pthread_mutex_lock(&img->lock);
			dataop_queue(op, &img->parked);
			pthread_mutex_unlock(&img->lock);
			dataop_stall(op);
			if (dataop_answered(op))
				op->ops->cancel(op);
			dataop_unref(op);
		} else if (error) {
			dataop_answer(op, -EIO);
			dataop_unref(op);
		} else {
			image_step_read(op);
		}
	}
}

static void end(struct fill *f, int error)
{
	struct dataop_list waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct image *img = f->image;
	bool fetch = f->fetch;
	struct dataop *op;

	pthread_mutex_lock(&img->lock);
	TAILQ_REMOVE(&img->fills, f, link);
	TAILQ_CONCAT(&waiters, &f->waiters, link);
	TAILQ_FOREACH (op, &waiters, link)
		op->queued = false;
	if (fetch)
		img->n_fetches--;
	else
		img->copier.n_fills--;
	if (f->reading)
		img->copier.n_reading--;
	if (error && img->copier.cursor > f->chunk)
		img->copier.cursor = f->chunk;
	if (error == -ENOTCONN && !fetch)
		img->copier.lost = true;
	/* Those that wait for its place: the reaper lets them look again. */
	if (error == -ENOTCONN && fetch)
		TAILQ_FOREACH (op, &img->parked, link)
			dataop_stall(op);
	pthread_mutex_unlock(&img->lock);

	if (f->buf)
		bufpool_put(img->all->bufs, f->class, f->buf, fill_bytes(f));
	volume_unref(f->source);
	free(f);
	wake(img, &waiters, error);
	if (error != -ENOTCONN) {
		copier_step(img);
		if (fetch)
			image_run_parked(img);
	}
	image_unref(img);
}

void fill_abandon(struct fill *f)
{
	end(f, -ENOTCONN);
}

static bool is_zero(const char *p, size_t len)
{
	static const char zeros[16];

	/* The first bytes decide nearly always; the rest is compared with
	 * itself, 16 bytes on. */
	return !memcmp(p, zeros, 16) && !memcmp(p, p + 16, len - 16);
}

/* With its space allocated first, a direct write is no allocating one, of which
 * file systems let only one at a time into a file. */
static int write_run(struct image *img, const char *buf, size_t len, uint64_t offset)
{
	bool direct = img->direct_fd >= 0 && !((len | offset) % 4096);

	if (direct && fallocate(img->direct_fd, FALLOC_FL_KEEP_SIZE, (off_t)offset,
				(off_t)len) < 0 &&
	    errno != EOPNOTSUPP && errno != EINTR)
		return -errno;
	while (len) {
		ssize_t n = pwrite(direct ? img->direct_fd : img->fd, buf, len,
				   (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
		direct = direct && !((size_t)n % 4096);
	}
	return 0;
}

/* The length of the run of zeros (or, with zero false, of data) at p. */
static size_t run_length(const char *p, size_t len, bool zero)
{
	size_t at = 0;

	while (at < len) {
		size_t unit = len - at < ZERO_UNIT ? len - at : ZERO_UNIT;
		bool z = unit >= 16 && is_zero(p + at, unit);

		if (z != zero)
			break;
		at += unit;
	}
	return at;
}

/* Writes what is not zero: data runs, joined over short runs of zeros. */
static int write_data(struct image *img, const char *buf, size_t len, uint64_t offset)
{
	size_t at = 0;
	int r = 0;

	while (at < len && !r) {
		size_t from, zeros;

		at += run_length(buf + at, len - at, true);
		from = at;
		while (at < len) {
			at += run_length(buf + at, len - at, false);
			zeros = run_length(buf + at, len - at, true);
			if (zeros >= ZERO_RUN_MIN || at + zeros == len)
				break;
			at += zeros;
		}
		if (at > from)
			r = write_run(img, buf + from, at - from, offset + from);
	}
	return r;
}

static int set_bits(struct fill *f)
{
	struct image *img = f->image;
	int r = chunkmap_set(img->map, f->chunk, f->n);

	while (r == -EAGAIN) {
		r = chunkmap_load(img->map, f->chunk, f->n);
		if (r >= 0)
			r = chunkmap_set(img->map, f->chunk, f->n);
	}
	return r;
}

static void report_write(struct image *img, int error)
{
	if (error == -ENOSPC || error == -EDQUOT)
		image_report_broken(img, -ENOSPC,
				    "pool %s is full: no space for the image of %s; "
				    "free some and copy again",
				    pool_name(img->pool), img->source_name);
	else
		image_report_broken(img, error,
				    "pool %s: cannot write the image of %s: %s",
				    pool_name(img->pool), img->source_name,
				    strerror(-error));
}

static void write_chunks(struct work *work)
{
	struct fill *f = (struct fill *)((char *)work - offsetof(struct fill, work));
	struct image *img = f->image;
	int r = write_data(img, f->buf, fill_bytes(f), f->offset);

	if (!r)
		r = set_bits(f);
	if (r)
		report_write(img, r);
	else
		__atomic_store_n(&img->last_progress_ms, (uint64_t)timefmt_now_ms(),
				 __ATOMIC_RELAXED);
	end(f, r);
}

static void report_read(struct fill *f)
{
	const struct bd_req *req = f->failed;
	struct image *img = f->image;

	if (f->error == -ENODATA)
		image_report_broken(img, f->error,
				    "%s: medium error: bytes %" PRIu64 " to %" PRIu64
				    " cannot be read",
				    img->source_name, req->bad_offset,
				    req->bad_offset + req->bad_length - 1);
	else
		image_report_broken(img, f->error,
				    "%s: reading bytes %" PRIu64 " to %" PRIu64
				    " failed: %s",
				    img->source_name, req->offset,
				    req->offset + req->length - 1, strerror(-f->error));
}

/* The source has answered all parts. */
static void read_ended(struct fill *f)
{
	struct image *img = f->image;
	bool was_reading, cut_off;

	if (f->error) {
		if (f->error != -ENOTCONN)
			report_read(f);
		end(f, f->error);
		return;
	}
	pthread_mutex_lock(&img->lock);
	was_reading = f->reading;
	if (was_reading)
		img->copier.n_reading--;
	f->reading = false;
	cut_off = !img->source;
	pthread_mutex_unlock(&img->lock);
	if (cut_off) {
		end(f, -ENOTCONN);
		return;
	}
	__atomic_add_fetch(&img->bytes_copied, f->length, __ATOMIC_RELAXED);
	image_ref(img);
	f->work.fn = write_chunks;
	workers_submit(img->all->workers, &f->work);
	if (was_reading)
		copier_step(img);
	image_unref(img);
}

static void part_ended(struct fill *f)
{
	if (!__atomic_sub_fetch(&f->n_pending, 1, __ATOMIC_ACQ_REL))
		read_ended(f);
}

static void part_done(struct bd_req *req, int error);

/* Makes the next part; false if all are made. */
static bool next_part(struct fill *f, struct bd_req *req)
{
	uint64_t at = __atomic_fetch_add(&f->next_part, f->part, __ATOMIC_RELAXED);

	if (at >= f->length)
		return false;
	*req = (struct bd_req){
		.op = BD_READ,
		.offset = f->offset + at,
		.length = f->length - at < f->part ? f->length - at : f->part,
		.buf = (char *)f->buf + at,
		.done = part_done,
		.opaque = f,
	};
	return true;
}

static void part_done(struct bd_req *req, int error)
{
	struct fill *f = req->opaque;
	int none = 0;

	if (error &&
	    __atomic_compare_exchange_n(&f->error, &none, error, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		f->failed = req;
	if (!__atomic_load_n(&f->error, __ATOMIC_RELAXED) && next_part(f, req))
		volume_submit(f->source, req);
	else
		part_ended(f);
}

static uint64_t part_size(struct volume *source)
{
	struct bd_info info;

	return volume_get_info(source, &info) && info.max_transfer < FILL_PART ?
		       info.max_transfer :
		       FILL_PART;
}

void fill_start(struct fill *f)
{
	struct image *img = f->image;
	unsigned n = 0;

	pthread_mutex_lock(&img->lock);
	f->source = img->source;
	if (f->source)
		volume_ref(f->source);
	pthread_mutex_unlock(&img->lock);
	if (!f->source) {
		end(f, -ENOTCONN);
		return;
	}
	f->part = part_size(f->source);
	while (n < FILL_MAX_PARTS && next_part(f, &f->parts[n]))
		n++;
	/* One more, for this function: the fill stays until all were submitted. */
	f->n_pending = n + 1;
	for (unsigned i = 0; i < n; i++)
		volume_submit(f->source, &f->parts[i]);
	part_ended(f);
}
