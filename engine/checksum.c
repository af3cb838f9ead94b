/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The element is cut into slices, of which a few are read at once, in a ring:
 *
 *   free -> wanted    it has its range; waits for a buffer
 *        -> reading
 *        -> lost      a device is away: it is read again at the next retry
 *        -> read
 *        -> free      those before it went too: it was taken in, in order
 *
 * Only walk(), a work of which one runs at a time, takes in and starts anything; answers
 * change the state of a slice and call for it.
 */

#include "engine/checksum.h"

#include <errno.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/name.h"

enum {
	N_SLICES = 4,
	SLICE_BYTES = 1 << 20,
	MAX_TRIES = 3, /* of a slice whose devices are there */
};

enum slice_state { SLICE_FREE, SLICE_WANTED, SLICE_READING, SLICE_LOST, SLICE_READ };

struct slice {
	struct checksum *digest;
	enum slice_state state; /* d->lock */
	uint64_t offset, length;
	unsigned tries;
	void *buf;
	struct engine_io io;
};

struct checksum {
	int refs; /* atomic */
	struct checksum_params params;
	char name[NAME_ELEMENT_MAX_LEN + 1];
	struct dataop_retry retry;
	struct bufpool_waiter bufs;
	struct work work;
	struct sha256_ctx sha; /* walk()'s */

	pthread_mutex_t lock; /* protects what follows */
	bool working, again;  /* the work is queued or runs; something happened since */
	bool cancelled, finished;
	void *spare;	      /* a buffer that came; or NULL */
	unsigned n_under_way; /* requests without an answer */
	uint64_t next;	      /* what no slice has yet */
	unsigned head, n;     /* the ring of slices in use */
	struct slice slices[N_SLICES];
	struct checksum_result result;
};

/* ---- life ------------------------------------------------------------------------ */

static void ref(struct checksum *d)
{
	__atomic_add_fetch(&d->refs, 1, __ATOMIC_RELAXED);
}

void checksum_unref(struct checksum *d)
{
	if (!d || __atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (int i = 0; i < 2; i++)
		volume_unref(d->params.volumes[i]);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* Something has happened: the work looks at it. */
static void wake(struct checksum *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	d->again = true;
	if (d->finished || d->working)
		return;
	d->working = true;
	ref(d);
	workers_submit(d->params.dataops->workers, &d->work);
}

static void retry_came(struct dataop_retry *retry)
{
	wake((struct checksum *)((char *)retry - offsetof(struct checksum, retry)));
}

static void put_buffer(struct checksum *d, void *buf)
{
	if (buf)
		bufpool_put(d->params.dataops->bufs, BUFPOOL_COPY, buf, SLICE_BYTES);
}

/* Only here it is this waiter's turn. */
static void bufs_came(struct bufpool_waiter *waiter)
{
	struct checksum *d =
		(struct checksum *)((char *)waiter - offsetof(struct checksum, bufs));
	void *buf = bufpool_get(d->params.dataops->bufs, BUFPOOL_COPY, SLICE_BYTES);

	pthread_mutex_lock(&d->lock);
	if (!d->spare)
		d->spare = move_ptr(buf);
	pthread_mutex_unlock(&d->lock);
	put_buffer(d, buf);
	wake(d);
}

void checksum_cancel(struct checksum *d)
{
	pthread_mutex_lock(&d->lock);
	d->cancelled = true;
	pthread_mutex_unlock(&d->lock);
	wake(d);
}

void checksum_get_result(struct checksum *d, struct checksum_result *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	*ret = d->result;
}

static void fail_locked(struct checksum *d, int error, const char *reason)
{
	if (d->result.error)
		return;
	d->result.error = error;
	snprintf(d->result.reason, sizeof(d->result.reason), "%s", reason);
}

static void tell_hex(struct checksum *d)
{
	uint8_t sum[SHA256_DIGEST_SIZE];
	char hex[CHECKSUM_HEX_SIZE];

	sha256_digest(&d->sha, sizeof(sum), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		snprintf(hex + 2 * i, sizeof(hex) - 2 * i, "%02x", sum[i]);
	pthread_mutex_lock(&d->lock);
	memcpy(d->result.hex, hex, sizeof(hex));
	pthread_mutex_unlock(&d->lock);
}

/* By the work, when nothing is under way. */
static void finish(struct checksum *d)
{
	pthread_mutex_lock(&d->lock);
	d->finished = true;
	pthread_mutex_unlock(&d->lock);
	if (!d->result.error)
		tell_hex(d);
	dataop_retry_cancel(d->params.dataops, &d->retry);
	bufpool_cancel(d->params.dataops->bufs, &d->bufs);
	put_buffer(d, d->spare);
	for (unsigned i = 0; i < N_SLICES; i++)
		put_buffer(d, d->slices[i].buf);
	engine_data_close(d->params.handle);
	d->params.done(d->params.opaque);
	checksum_unref(d);
}

/* ---- reading --------------------------------------------------------------------- */

static bool is_away(const struct checksum *d)
{
	for (int i = 0; i < 2; i++)
		if (d->params.volumes[i] && !volume_is_ready(d->params.volumes[i]))
			return true;
	return false;
}

/* It is tried again, or that is the end.  The lock is not held. */
static void read_failed(struct slice *s, int error)
{
	struct checksum *d = s->digest;
	bool away = is_away(d);
	char reason[CHECKSUM_REASON_MAX];

	snprintf(reason, sizeof(reason),
		 "%s: bytes %" PRIu64 " to %" PRIu64 " cannot be read: %s", d->name,
		 s->offset, s->offset + s->length - 1, strerror(-error));
	/* While it counts as under way: finish() cancels it. */
	dataop_retry(d->params.dataops, &d->retry);
	pthread_mutex_lock(&d->lock);
	d->n_under_way--;
	s->state = SLICE_LOST;
	if (error != -EIO || (!away && ++s->tries == MAX_TRIES))
		fail_locked(d, error, reason);
	pthread_mutex_unlock(&d->lock);
}

static void slice_read(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct slice *s = io->opaque;
	struct checksum *d = s->digest;

	if (error || n != s->length) {
		read_failed(s, error ? error : -EIO);
	} else {
		memcpy(s->buf, buf, n);
		pthread_mutex_lock(&d->lock);
		d->n_under_way--;
		s->state = SLICE_READ;
		pthread_mutex_unlock(&d->lock);
	}
	wake(d);
	checksum_unref(d);
}

/* A buffer that nothing is read into, nor was; NULL: there is none. */
static void *take_idle(struct checksum *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	for (unsigned i = 0; i < N_SLICES; i++) {
		struct slice *s = &d->slices[i];

		if ((s->state == SLICE_FREE || s->state == SLICE_LOST) && s->buf)
			return move_ptr(s->buf);
	}
	return move_ptr(d->spare);
}

/* Others may wait for what this one needs no more. */
static void put_idle(struct checksum *d)
{
	void *buf;

	while ((buf = take_idle(d)))
		put_buffer(d, buf);
}

/* A buffer, if it has none; false: it will be called for. */
static bool get_buffer(struct slice *s)
{
	struct checksum *d = s->digest;

	if (!s->buf)
		s->buf = take_idle(d);
	if (!s->buf)
		s->buf = bufpool_get(d->params.dataops->bufs, BUFPOOL_COPY, SLICE_BYTES);
	if (!s->buf)
		bufpool_wait(d->params.dataops->bufs, &d->bufs);
	return s->buf;
}

/* The next slice to be read; NULL: none. */
static struct slice *next_slice(struct checksum *d, bool retried)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	uint64_t left = d->params.size - d->next;
	struct slice *s;

	if (d->result.error)
		return NULL;
	for (unsigned i = 0; i < d->n; i++) {
		s = &d->slices[(d->head + i) % N_SLICES];
		if (s->state == SLICE_WANTED || (s->state == SLICE_LOST && retried))
			return s;
	}
	if (d->n == N_SLICES || !left)
		return NULL;
	s = &d->slices[(d->head + d->n++) % N_SLICES];
	s->state = SLICE_WANTED;
	s->offset = d->next;
	s->length = left < SLICE_BYTES ? left : SLICE_BYTES;
	s->tries = 0;
	d->next += s->length;
	return s;
}

static void start_slices(struct checksum *d, bool retried)
{
	struct slice *s;

	while ((s = next_slice(d, retried)) && get_buffer(s)) {
		pthread_mutex_lock(&d->lock);
		s->state = SLICE_READING;
		d->n_under_way++;
		pthread_mutex_unlock(&d->lock);
		ref(d);
		s->io = (struct engine_io){
			.op = ENGINE_IO_READ,
			.handle = d->params.handle,
			.offset = s->offset,
			.len = s->length,
			.done = slice_read,
			.opaque = s,
		};
		engine_data_submit(&s->io);
	}
}

/* ---- taking in ------------------------------------------------------------------- */

/* The first slice, if it was read. */
static struct slice *first_read(struct checksum *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	struct slice *s = &d->slices[d->head];

	return d->n && s->state == SLICE_READ && !d->result.error ? s : NULL;
}

/* A few, then others have the worker. */
static void take_in(struct checksum *d)
{
	struct slice *s;

	for (unsigned i = 0; i < N_SLICES && (s = first_read(d)); i++) {
		sha256_update(&d->sha, s->length, s->buf);
		pthread_mutex_lock(&d->lock);
		s->state = SLICE_FREE;
		d->head = (d->head + 1) % N_SLICES;
		d->n--;
		d->result.bytes_done = s->offset + s->length;
		d->again = true;
		pthread_mutex_unlock(&d->lock);
		/* The next is read while this goes on. */
		start_slices(d, false);
	}
}

/* Whether it has ended, and nothing is under way. */
static bool is_over(struct checksum *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	if (d->cancelled)
		fail_locked(d, -ECANCELED, "cancelled");
	if (d->result.error)
		return !d->n_under_way;
	return d->result.bytes_done == d->params.size;
}

static void walk(struct work *work)
{
	struct checksum *d =
		(struct checksum *)((char *)work - offsetof(struct checksum, work));
	bool away = is_away(d), again;

	pthread_mutex_lock(&d->lock);
	d->again = false;
	pthread_mutex_unlock(&d->lock);
	if (is_over(d)) {
		finish(d);
		checksum_unref(d);
		return;
	}
	start_slices(d, !away);
	take_in(d);
	put_idle(d);
	if (away)
		dataop_retry(d->params.dataops, &d->retry);
	pthread_mutex_lock(&d->lock);
	d->working = again = d->again;
	if (again)
		workers_submit(d->params.dataops->workers, &d->work);
	pthread_mutex_unlock(&d->lock);
	if (!again)
		checksum_unref(d);
}

int checksum_start(const struct checksum_params *params, struct checksum **ret_digest)
{
	struct checksum *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->refs = 2; /* the caller's, and that of what runs */
	d->params = *params;
	d->work.fn = walk;
	d->retry.fn = retry_came;
	d->bufs = (struct bufpool_waiter){ .fn = bufs_came,
					   .class = BUFPOOL_COPY,
					   .size = SLICE_BYTES };
	d->result.bytes_total = params->size;
	snprintf(d->name, sizeof(d->name), "%s", params->name);
	for (int i = 0; i < 2; i++)
		if (params->volumes[i])
			volume_ref(params->volumes[i]);
	for (unsigned i = 0; i < N_SLICES; i++)
		d->slices[i].digest = d;
	sha256_init(&d->sha);
	pthread_mutex_init(&d->lock, NULL);
	*ret_digest = d;
	wake(d);
	return 0;
}
