/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A comparison goes from stretch to stretch: a stretch is what lies between two holes
 * that both elements have, and at least MIN_STRETCH where there is that much left; of a
 * Snapshot, a run of chunks that its stores hold.  It is cut into slices, of which a few
 * are under way at once:
 *
 *   free -> wanted    it has its range; waits for a buffer
 *        -> reading   the source, then the target
 *        -> lost      a read failed: it is wanted again at the next retry
 *        -> ended     its bits say which blocks differ
 *        -> free      those before it have ended too: counted, in order
 *
 * Only walk(), a work of which one runs at a time, starts anything; answers change the
 * state of a slice and call for it.
 */

#include "engine/compare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/name.h"

enum {
	N_SLICES = 8,
	SLICE_BYTES = 1 << 20,
	SLICE_BLOCKS = SLICE_BYTES / COMPARE_BLOCK,
	MIN_STRETCH = 16 << 20,
	MAX_TRIES = 3, /* of a slice whose devices are there */
};

enum slice_state { SLICE_FREE, SLICE_WANTED, SLICE_READING, SLICE_LOST, SLICE_ENDED };

struct slice {
	struct compare *compare;
	enum slice_state state; /* c->lock */
	uint64_t offset, length;
	unsigned tries;
	void *buf; /* what the source has */
	struct engine_io io;
	uint64_t differs[SLICE_BLOCKS / 64];
};

/* Where data, and the hole after it, begin in one of the two. */
struct seek {
	struct compare *compare;
	struct engine_io io;
	uint64_t at;
	int error;
};

enum phase { PHASE_DATA, PHASE_HOLE, PHASE_SLICES };

struct compare {
	int refs; /* atomic */
	struct compare_params params;
	char names[2][NAME_ELEMENT_MAX_LEN + 1];
	struct dataop_retry retry;
	struct bufpool_waiter bufs;
	struct work work;

	pthread_mutex_t lock; /* protects what follows */
	bool working, again;  /* the work is queued or runs; something happened since */
	bool retried;	       /* retry has come, and nobody has looked yet */
	bool cancelled, finished;
	void *spare;	      /* a buffer that came; or NULL */
	unsigned n_under_way; /* requests without an answer */
	enum phase phase;
	bool seeking; /* seeks are under way */
	unsigned seek_tries;
	struct seek seeks[2];
	uint64_t next, end; /* of the stretch: what no slice has yet, and its end */
	uint64_t last_end;  /* of the range that was counted last; UINT64_MAX: none */
	unsigned head, n;   /* the ring of slices in use */
	struct slice slices[N_SLICES];
	struct compare_result result;
};

/* ---- life ------------------------------------------------------------------------ */

static void ref(struct compare *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
}

void compare_unref(struct compare *c)
{
	if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (int i = 0; i < 2; i++)
		volume_unref(c->params.volumes[i]);
	image_unref(c->params.image);
	point_unref(c->params.point);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Something has happened: the work looks at it. */
static void wake(struct compare *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	c->again = true;
	if (c->finished || c->working)
		return;
	c->working = true;
	ref(c);
	workers_submit(c->params.dataops->workers, &c->work);
}

static void retry_came(struct dataop_retry *retry)
{
	struct compare *c =
		(struct compare *)((char *)retry - offsetof(struct compare, retry));

	pthread_mutex_lock(&c->lock);
	c->retried = true;
	pthread_mutex_unlock(&c->lock);
	wake(c);
}

static void put_buffer(struct compare *c, void *buf)
{
	if (buf)
		bufpool_put(c->params.dataops->bufs, BUFPOOL_COPY, buf, SLICE_BYTES);
}

/* Only here it is this waiter's turn. */
static void bufs_came(struct bufpool_waiter *waiter)
{
	struct compare *c =
		(struct compare *)((char *)waiter - offsetof(struct compare, bufs));
	void *buf = bufpool_get(c->params.dataops->bufs, BUFPOOL_COPY, SLICE_BYTES);

	pthread_mutex_lock(&c->lock);
	if (!c->spare)
		c->spare = move_ptr(buf);
	pthread_mutex_unlock(&c->lock);
	put_buffer(c, buf);
	wake(c);
}

void compare_cancel(struct compare *c)
{
	pthread_mutex_lock(&c->lock);
	c->cancelled = true;
	pthread_mutex_unlock(&c->lock);
	wake(c);
}

void compare_get_result(struct compare *c, struct compare_result *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	*ret = c->result;
}

/* The first error; the lock is held. */
static void fail_locked(struct compare *c, int error, const char *reason)
{
	if (c->result.error)
		return;
	c->result.error = error;
	snprintf(c->result.reason, sizeof(c->result.reason), "%s", reason);
}

/* By the work, when nothing is under way. */
static void finish(struct compare *c)
{
	pthread_mutex_lock(&c->lock);
	c->finished = true;
	pthread_mutex_unlock(&c->lock);
	dataop_retry_cancel(c->params.dataops, &c->retry);
	bufpool_cancel(c->params.dataops->bufs, &c->bufs);
	put_buffer(c, c->spare);
	for (unsigned i = 0; i < N_SLICES; i++)
		put_buffer(c, c->slices[i].buf);
	for (int i = 0; i < 2; i++)
		engine_data_close(c->params.handles[i]);
	c->params.done(c->params.opaque);
	compare_unref(c);
}

/* ---- counting -------------------------------------------------------------------- */

static void count_different(struct compare *c, uint64_t offset, uint64_t length)
{
	struct compare_result *res = &c->result;

	res->bytes_different += length;
	if (offset != c->last_end) {
		if (res->n_ranges < COMPARE_MAX_RANGES)
			res->ranges[res->n_ranges].offset = offset;
		res->n_ranges++;
	}
	c->last_end = offset + length;
	if (res->n_ranges <= COMPARE_MAX_RANGES) {
		struct compare_range *range = &res->ranges[res->n_ranges - 1];

		range->length = c->last_end - range->offset;
	}
}

static void count_slice(struct compare *c, const struct slice *s)
{
	for (uint64_t b = 0; b * COMPARE_BLOCK < s->length; b++) {
		uint64_t at = b * COMPARE_BLOCK, left = s->length - at;

		if (s->differs[b / 64] >> (b % 64) & 1)
			count_different(c, s->offset + at,
					left < COMPARE_BLOCK ? left : COMPARE_BLOCK);
	}
	c->result.bytes_compared = s->offset + s->length;
}

static void count_ended_locked(struct compare *c)
{
	while (c->n && c->slices[c->head].state == SLICE_ENDED) {
		count_slice(c, &c->slices[c->head]);
		c->slices[c->head].state = SLICE_FREE;
		c->head = (c->head + 1) % N_SLICES;
		c->n--;
	}
}

/* ---- slices ---------------------------------------------------------------------- */

static bool is_away(const struct compare *c)
{
	for (int i = 0; i < 2; i++)
		if (c->params.volumes[i] && !volume_is_ready(c->params.volumes[i]))
			return true;
	return false;
}

/* Nothing of a slice is under way any more. */
static void leave(struct slice *s, enum slice_state state)
{
	struct compare *c = s->compare;

	pthread_mutex_lock(&c->lock);
	c->n_under_way--;
	s->state = state;
	pthread_mutex_unlock(&c->lock);
	wake(c);
	compare_unref(c);
}

/* A read of a slice failed: it is tried again, or that is the end.  The lock is not
 * held. */
static void read_failed(struct slice *s, int error, int side)
{
	struct compare *c = s->compare;
	bool away = is_away(c);
	char reason[COMPARE_REASON_MAX];

	snprintf(reason, sizeof(reason),
		 "%s: bytes %" PRIu64 " to %" PRIu64 " cannot be read: %s", c->names[side],
		 s->offset, s->offset + s->length - 1, strerror(-error));
	/* While it counts as under way: finish() cancels it. */
	dataop_retry(c->params.dataops, &c->retry);
	pthread_mutex_lock(&c->lock);
	if (error != -EIO || (!away && ++s->tries == MAX_TRIES))
		fail_locked(c, error, reason);
	pthread_mutex_unlock(&c->lock);
	leave(s, SLICE_LOST);
}

static void target_read(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct slice *s = io->opaque;
	bool differs;

	if (error || n != s->length) {
		read_failed(s, error ? error : -EIO, 1);
		return;
	}
	memset(s->differs, 0, sizeof(s->differs));
	differs = memcmp(s->buf, buf, n);
	for (size_t b = 0; b * COMPARE_BLOCK < n && differs; b++) {
		size_t at = b * COMPARE_BLOCK;
		size_t len = n - at < COMPARE_BLOCK ? n - at : COMPARE_BLOCK;

		if (memcmp((const char *)s->buf + at, (const char *)buf + at, len))
			s->differs[b / 64] |= UINT64_C(1) << (b % 64);
	}
	leave(s, SLICE_ENDED);
}

static void submit(struct slice *s, int side,
		   void (*done)(struct engine_io *io, int error, const void *buf, size_t n))
{
	s->io = (struct engine_io){
		.op = ENGINE_IO_READ,
		.handle = s->compare->params.handles[side],
		.offset = s->offset,
		.len = s->length,
		.done = done,
		.opaque = s,
	};
	engine_data_submit(&s->io);
}

static bool is_over(struct compare *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	return c->cancelled || c->result.error;
}

static void source_read(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct slice *s = io->opaque;

	if (error || n != s->length) {
		read_failed(s, error ? error : -EIO, 0);
		return;
	}
	if (is_over(s->compare)) {
		leave(s, SLICE_LOST);
		return;
	}
	memcpy(s->buf, buf, n);
	submit(s, 1, target_read);
}

/* A buffer that nothing is read into, nor was; NULL: there is none. */
static void *take_idle_locked(struct compare *c)
{
	for (unsigned i = 0; i < N_SLICES; i++) {
		struct slice *s = &c->slices[i];

		if ((s->state == SLICE_FREE || s->state == SLICE_LOST) && s->buf)
			return move_ptr(s->buf);
	}
	return move_ptr(c->spare);
}

static void *take_idle(struct compare *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	return take_idle_locked(c);
}

/* The same; NULL also while a slice wants one. */
static void *take_unwanted(struct compare *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	for (unsigned i = 0; i < N_SLICES; i++)
		if (c->slices[i].state == SLICE_WANTED)
			return NULL;
	return take_idle_locked(c);
}

/* Others may wait for what this one needs no more. */
static void put_idle(struct compare *c)
{
	void *buf;

	while ((buf = take_unwanted(c)))
		put_buffer(c, buf);
}

/* A buffer, if it has none; false: it will be called for. */
static bool get_buffer(struct slice *s)
{
	struct compare *c = s->compare;

	if (!s->buf)
		s->buf = take_idle(c);
	if (!s->buf)
		s->buf = bufpool_get(c->params.dataops->bufs, BUFPOOL_COPY, SLICE_BYTES);
	if (!s->buf)
		bufpool_wait(c->params.dataops->bufs, &c->bufs);
	return s->buf;
}

/* The next slice to be started, marked as such; NULL: none. */
static struct slice *next_slice(struct compare *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
	struct slice *s;

	count_ended_locked(c);
	if (c->phase != PHASE_SLICES || c->result.error || c->cancelled)
		return NULL;
	for (unsigned i = 0; i < c->n; i++) {
		s = &c->slices[(c->head + i) % N_SLICES];
		if (s->state == SLICE_WANTED)
			return s;
	}
	if (c->n == N_SLICES || c->next >= c->end)
		return NULL;
	s = &c->slices[(c->head + c->n++) % N_SLICES];
	s->state = SLICE_WANTED;
	s->offset = c->next;
	s->length = c->end - c->next < SLICE_BYTES ? c->end - c->next : SLICE_BYTES;
	s->tries = 0;
	c->next += s->length;
	return s;
}

/* Not by the wake of their own failure: the tries would be used up in no time. */
static void retry_lost(struct compare *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	for (unsigned i = 0; i < N_SLICES; i++)
		if (c->slices[i].state == SLICE_LOST)
			c->slices[i].state = SLICE_WANTED;
}

static void start_slices(struct compare *c)
{
	struct slice *s;

	while ((s = next_slice(c)) && get_buffer(s)) {
		pthread_mutex_lock(&c->lock);
		s->state = SLICE_READING;
		c->n_under_way++;
		pthread_mutex_unlock(&c->lock);
		ref(c);
		submit(s, 0, source_read);
	}
}

/* ---- stretches ------------------------------------------------------------------- */

static void seek_done(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct seek *seek = io->opaque;
	struct compare *c = seek->compare;

	(void)buf;
	(void)n;
	seek->error = error == -ENXIO ? 0 : error;
	seek->at = error ? c->params.size : io->result;
	pthread_mutex_lock(&c->lock);
	c->n_under_way--;
	pthread_mutex_unlock(&c->lock);
	wake(c);
	compare_unref(c);
}

static void start_seeks(struct compare *c)
{
	pthread_mutex_lock(&c->lock);
	c->seeking = true;
	c->n_under_way += 2;
	pthread_mutex_unlock(&c->lock);
	for (int i = 0; i < 2; i++) {
		struct seek *seek = &c->seeks[i];

		ref(c);
		seek->io = (struct engine_io){
			.op = c->phase == PHASE_DATA ? ENGINE_IO_SEEK_DATA :
						       ENGINE_IO_SEEK_HOLE,
			.handle = c->params.handles[i],
			.offset = c->next,
			.done = seek_done,
			.opaque = seek,
		};
		engine_data_submit(&seek->io);
	}
}

/* Both have a hole up to here. */
static void take_data_locked(struct compare *c, uint64_t data)
{
	if (data < c->params.size)
		data -= data % COMPARE_BLOCK;
	else
		data = c->params.size;
	if (data > c->next) {
		c->result.bytes_skipped += data - c->next;
		c->result.bytes_compared = c->next = data;
	}
	c->phase = PHASE_HOLE;
}

/* One of the two has data up to here. */
static void take_hole_locked(struct compare *c, uint64_t hole)
{
	if (hole - c->next < MIN_STRETCH)
		hole = c->next + MIN_STRETCH;
	hole = (hole + COMPARE_BLOCK - 1) / COMPARE_BLOCK * COMPARE_BLOCK;
	c->end = hole < c->params.size ? hole : c->params.size;
	c->phase = PHASE_SLICES;
}

/* Both answers are there: 0, or the seeks are to be tried again. */
static int take_seeks_locked(struct compare *c, bool away)
{
	uint64_t a = c->seeks[0].at, b = c->seeks[1].at;
	char reason[COMPARE_REASON_MAX];
	int side = c->seeks[0].error ? 0 : 1, error = c->seeks[side].error;

	c->seeking = false;
	if (error) {
		snprintf(reason, sizeof(reason), "%s: its holes cannot be found: %s",
			 c->names[side], strerror(-error));
		if (error != -EIO || (!away && ++c->seek_tries == MAX_TRIES))
			fail_locked(c, error, reason);
		return -EAGAIN;
	}
	c->seek_tries = 0;
	if (c->phase == PHASE_DATA)
		take_data_locked(c, a < b ? a : b);
	else
		take_hole_locked(c, a > b ? a : b);
	return 0;
}

/* A Snapshot has bytes of its own, or that were kept for it, for *run chunks from `chunk`
 * on, or none.  Blocks. */
static int has_own(const struct compare *c, uint64_t chunk, uint64_t *run, bool *ret_has)
{
	int r = image_has_private(c->params.image, chunk, run, ret_has);

	if (!r && !*ret_has)
		r = point_has_store(c->params.point, chunk, run, ret_has);
	/* The source reads as what it is being restored from, also where that is not
	 * copied back yet, and nothing is kept for this one. */
	if (!r && volume_is_restoring(c->params.volumes[0]))
		*ret_has = true;
	return r;
}

/* Finds the next stretch of a Snapshot; by the work. */
static void find_own(struct compare *c)
{
	uint64_t n_chunks = (c->params.size + POOL_CHUNK_SIZE - 1) / POOL_CHUNK_SIZE;
	uint64_t chunk = c->next / POOL_CHUNK_SIZE, run = 0;
	char reason[COMPARE_REASON_MAX];
	bool has = false;
	int r = 0;

	while (chunk < n_chunks && !r && !has) {
		chunk += run;
		run = n_chunks - chunk;
		if (run)
			r = has_own(c, chunk, &run, &has);
	}
	if (r < 0)
		snprintf(reason, sizeof(reason), "%s: its map cannot be read: %s",
			 c->names[1], strerror(-r));
	/* What was kept since is not all. */
	else if (point_is_broken(c->params.point, reason, sizeof(reason)))
		r = -EIO;
	pthread_mutex_lock(&c->lock);
	if (r < 0)
		fail_locked(c, r, reason);
	take_data_locked(c, chunk * POOL_CHUNK_SIZE);
	c->end = (chunk + run) * POOL_CHUNK_SIZE;
	if (c->end > c->params.size)
		c->end = c->params.size;
	c->phase = PHASE_SLICES;
	pthread_mutex_unlock(&c->lock);
	wake(c);
}

enum next { NEXT_WAIT, NEXT_SEEK, NEXT_LATER, NEXT_SLICES, NEXT_END };

static enum next look(struct compare *c, bool away)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	count_ended_locked(c);
	if (c->cancelled)
		fail_locked(c, -ECANCELED, "cancelled");
	if (c->result.error)
		return c->n_under_way ? NEXT_WAIT : NEXT_END;
	if (c->seeking) {
		if (c->n_under_way)
			return NEXT_WAIT;
		if (take_seeks_locked(c, away) < 0)
			return c->result.error ? NEXT_END : NEXT_LATER;
	}
	if (c->phase == PHASE_SLICES && (c->n || c->next < c->end))
		return NEXT_SLICES;
	if (c->phase != PHASE_DATA && c->next >= c->params.size)
		return NEXT_END;
	if (c->phase == PHASE_SLICES)
		c->phase = PHASE_DATA;
	return NEXT_SEEK;
}

static void walk(struct work *work)
{
	struct compare *c =
		(struct compare *)((char *)work - offsetof(struct compare, work));
	bool away = is_away(c), again, retried;
	enum next next;

	pthread_mutex_lock(&c->lock);
	c->again = false;
	retried = c->retried;
	c->retried = false;
	pthread_mutex_unlock(&c->lock);
	if (retried && !away)
		retry_lost(c);
	next = look(c, away);
	/* A device that was never there would say that all of it is a hole. */
	if (next == NEXT_SEEK && away && !c->params.point)
		next = NEXT_LATER;
	if (next == NEXT_END) {
		finish(c);
		compare_unref(c);
		return;
	}
	if (next == NEXT_SEEK && c->params.point)
		find_own(c);
	else if (next == NEXT_SEEK)
		start_seeks(c);
	else if (next == NEXT_SLICES)
		start_slices(c);
	put_idle(c);
	if (next == NEXT_LATER || away)
		dataop_retry(c->params.dataops, &c->retry);
	pthread_mutex_lock(&c->lock);
	c->working = again = c->again;
	if (again)
		workers_submit(c->params.dataops->workers, &c->work);
	pthread_mutex_unlock(&c->lock);
	if (!again)
		compare_unref(c);
}

int compare_start(const struct compare_params *params, struct compare **ret_compare)
{
	struct compare *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->refs = 2; /* the caller's, and that of what runs */
	c->params = *params;
	c->work.fn = walk;
	c->retry.fn = retry_came;
	c->bufs = (struct bufpool_waiter){ .fn = bufs_came,
					   .class = BUFPOOL_COPY,
					   .size = SLICE_BYTES };
	c->last_end = UINT64_MAX;
	c->result.bytes_total = params->size;
	for (int i = 0; i < 2; i++) {
		snprintf(c->names[i], sizeof(c->names[i]), "%s", params->names[i]);
		if (params->volumes[i])
			volume_ref(params->volumes[i]);
		c->seeks[i].compare = c;
	}
	if (params->point) {
		image_ref(params->image);
		point_ref(params->point);
	}
	for (unsigned i = 0; i < N_SLICES; i++)
		c->slices[i].compare = c;
	pthread_mutex_init(&c->lock, NULL);
	*ret_compare = c;
	wake(c);
	return 0;
}
