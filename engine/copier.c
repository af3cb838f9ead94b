/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The background copy of one image: a cursor that walks over the chunk map and
 * keeps some fills under way, as many as the store says.
 *
 * copier_step() does all that can be done now and returns; it is called when
 * anything has changed: copy started, fill ended, source ready, buffer free,
 * page of the map loaded, extents known.  One thread at a time steps; a call
 * that comes meanwhile makes it step once more.
 *
 * Chunks that a reader's fill holds are passed over; a fill that lost its
 * connection puts the cursor back, and nothing more is tried before the next
 * call of copier_step() (of the source's next state, or of the owner, who calls
 * image_start_copy() once a second).  At the end of the map, when nothing is
 * under way and a chunk is still absent, the walk begins anew (uniform pages of
 * the map are skipped in one step); when none is, a last checkpoint makes all
 * durable and the owner is told.
 *
 * A thin source is asked which extents are mapped, up to ASK_BYTES ahead; what
 * is unmapped reads as zeros for certain.  The answer speaks of the volume at a time
 * after the point.  A chunk that is in no store of the chain when the answer is used
 * was not changed from the point to then, so that its part of the answer is true of
 * the point, and it is set in the map without being read.  While the volume is restored
 * to what the point is newer than, the device is not asked: nothing of that holds then.
 */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/image_int.h"

enum {
	MAP_PAGE_CHUNKS = 32768, /* chunks that one page of the map speaks of */
};
/* Unmapped runs shorter than this are read with what lies around them. */
enum { SKIP_MIN = 256 << 10 };
#define ASK_BYTES (UINT64_C(64) << 30)

/* What the cursor stands before. */
enum next {
	NEXT_NOTHING, /* wait for something to happen */
	NEXT_ON,      /* the cursor has moved: look again */
	NEXT_READ,    /* the chunks under the cursor */
	NEXT_FILL,    /* which is made */
	NEXT_LOAD,
	NEXT_LOAD_POINT,
	NEXT_ASK,
	NEXT_BUFFER,
	NEXT_DRAIN, /* fills that are written only */
	NEXT_FINISH,
};

static void bufs_came(struct bufpool_waiter *waiter)
{
	struct image *img =
		(struct image *)((char *)waiter - offsetof(struct image, copier.bufs));

	if (!image_try_ref(img))
		return;
	pthread_mutex_lock(&img->lock);
	img->copier.no_buffer = false;
	pthread_mutex_unlock(&img->lock);
	copier_step(img);
	image_unref(img);
}

static void turn_came(struct priority_flow *flow)
{
	struct image *img =
		(struct image *)((char *)flow - offsetof(struct image, copier.flow));

	if (!image_try_ref(img))
		return;
	copier_step(img);
	image_unref(img);
}

void copier_init(struct image *img)
{
	img->copier.flow.fn = turn_came;
	img->copier.bufs = (struct bufpool_waiter){ .fn = bufs_came,
						    .class = BUFPOOL_COPY,
						    .size = FILL_BYTES };
}

/* The extent that a byte lies in; NULL if the answer does not speak of it. */
static const struct bd_extent *extent_at(const struct copier *c, uint64_t offset)
{
	size_t low = 0, high = c->n_extents;

	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct bd_extent *e = &c->extents[mid];

		if (offset < e->offset)
			high = mid;
		else if (offset >= e->offset + e->length)
			low = mid + 1;
		else
			return e;
	}
	return NULL;
}

/* The number of whole chunks from the cursor on that lie in an unmapped
 * extent, at most max. */
static uint64_t unmapped_run(struct image *img, uint64_t max)
{
	struct copier *c = &img->copier;
	uint64_t offset = c->cursor * img->chunk_size;
	const struct bd_extent *e = extent_at(c, offset);
	uint64_t end, n;

	if (!e || e->mapped)
		return 0;
	end = e->offset + e->length;
	n = end >= img->copy_size ? max : (end - offset) / img->chunk_size;
	/* Within one page of the map, which load_work() can bring. */
	if (max > MAP_PAGE_CHUNKS - c->cursor % MAP_PAGE_CHUNKS)
		max = MAP_PAGE_CHUNKS - c->cursor % MAP_PAGE_CHUNKS;
	return n < max ? n : max;
}

/* The number of chunks from the cursor on, at most max, before an unmapped run
 * that is worth a fill's end. */
static uint64_t mapped_run(struct image *img, uint64_t max)
{
	struct copier *c = &img->copier;
	uint64_t offset = c->cursor * img->chunk_size;
	const struct bd_extent *e = extent_at(c, offset),
			       *end = c->extents + c->n_extents;
	uint64_t n;

	for (; e && e < end && e->offset < offset + max * img->chunk_size; e++) {
		if (e->mapped || e->length < SKIP_MIN || e->offset < offset)
			continue;
		n = (e->offset - offset + img->chunk_size - 1) / img->chunk_size;
		return n && n < max ? n : max;
	}
	return max;
}

static void asked(struct bd_req *req, int error)
{
	struct image *img = req->opaque;
	struct copier *c = &img->copier;

	pthread_mutex_lock(&img->lock);
	c->asking = false;
	c->n_extents = 0;
	if (!error && req->n_extents) {
		c->n_extents = req->n_extents;
		c->known_end = c->extents[c->n_extents - 1].offset +
			       c->extents[c->n_extents - 1].length;
	} else if (error != -ENOTCONN) {
		c->no_extents = true;
	}
	pthread_mutex_unlock(&img->lock);
	if (error != -ENOTCONN)
		copier_step(img);
	image_unref(img);
}

static void ask(struct image *img, struct volume *volume)
{
	struct copier *c = &img->copier;
	uint64_t offset = c->cursor * img->chunk_size;
	uint64_t len = img->copy_size - offset;

	image_ref(img);
	c->ask = (struct bd_req){
		.op = BD_EXTENTS,
		.offset = offset,
		.length = len < ASK_BYTES ? len : ASK_BYTES,
		.extents = c->extents,
		.done = asked,
		.opaque = img,
	};
	volume_submit(volume, &c->ask);
}

/* Whether the source has to be asked for extents before the cursor goes on. */
static bool must_ask(struct image *img)
{
	struct copier *c = &img->copier;
	struct bd_info info;

	if (c->no_extents)
		return false;
	if (point_awaits_restore(img->source)) {
		c->n_extents = 0;
		return false;
	}
	if (!c->extents) {
		c->no_extents =
			!volume_get_info(point_volume(img->source), &info) || !info.thin;
		if (c->no_extents)
			return false;
		c->extents = calloc(BD_MAX_EXTENTS, sizeof(*c->extents));
		if (!c->extents) {
			c->no_extents = true;
			return false;
		}
	}
	return !extent_at(c, c->cursor * img->chunk_size);
}

/* The unmapped chunks under the cursor are there without being read. */
static enum next set_unmapped(struct image *img, uint64_t n)
{
	struct copier *c = &img->copier;
	int r = chunkmap_set(img->map, c->cursor, n);

	if (r == -EAGAIN)
		return NEXT_LOAD;
	if (r < 0)
		return NEXT_NOTHING;
	__atomic_add_fetch(&img->bytes_skipped, image_chunk_bytes(img, c->cursor, n),
			   __ATOMIC_RELAXED);
	__atomic_store_n(&img->last_progress_ms, (uint64_t)timefmt_now_ms(),
			 __ATOMIC_RELAXED);
	c->cursor += n;
	return NEXT_ON;
}

static struct fill *new_fill(struct image *img, uint64_t n)
{
	struct fill *f = fill_new_locked(img, img->copier.cursor, n, FILL_FOR_COPIER);

	if (f)
		img->copier.cursor += n;
	return f;
}

/* The same in a file that may have something there. */
static enum next zero_unmapped(struct image *img, uint64_t n, struct fill **ret_fill)
{
	*ret_fill = new_fill(img, n);
	if (!*ret_fill)
		return NEXT_NOTHING;
	(*ret_fill)->zero = true;
	return NEXT_FILL;
}

/* The unmapped chunks that the chain's stores hold have to be read: *n of them, then
 * NEXT_READ. */
static enum next skip_unmapped(struct image *img, uint64_t skip, uint64_t *n,
			       struct fill **ret_fill)
{
	bool preserved;
	int64_t run = point_run(img->source, img->copier.cursor, skip, &preserved);

	if (run < 0)
		return NEXT_LOAD_POINT;
	*n = (uint64_t)run;
	if (preserved)
		return NEXT_READ;
	if (__atomic_load_n(&img->clean, __ATOMIC_RELAXED))
		return set_unmapped(img, *n);
	return zero_unmapped(img, *n, ret_fill);
}

/* A fill of the chunks under the cursor, at most n, with its buffer. */
static enum next read_run(struct image *img, uint64_t n, struct fill **ret_fill)
{
	struct priority *priority = &img->all->priority;
	struct priority_ticket ticket;
	struct fill *f;

	if (img->copier.busy) {
		__atomic_store_n(&img->copier.waits, true, __ATOMIC_RELAXED);
		return NEXT_NOTHING;
	}
	if (n > img->copier.lead_max)
		n = img->copier.lead_max;
	if (!priority_begin(priority, &img->copier.flow, n * img->chunk_size, &ticket))
		return NEXT_NOTHING;
	f = *ret_fill = new_fill(img, n);
	if (f)
		f->buf = bufpool_get(img->all->bufs, BUFPOOL_COPY, f->length);
	if (f && f->buf) {
		f->ticket = ticket;
		return NEXT_FILL;
	}
	priority_give_up(&ticket, n * img->chunk_size);
	if (!f)
		return NEXT_NOTHING;
	img->copier.no_buffer = true;
	return NEXT_BUFFER;
}

static enum next at_the_end(struct image *img)
{
	struct copier *c = &img->copier;

	if (!TAILQ_EMPTY(&img->fillers))
		return NEXT_DRAIN;
	if (!image_is_complete(img)) {
		c->cursor = 0;
		return NEXT_ON;
	}
	c->finishing = true;
	return NEXT_FINISH;
}

static bool is_idle(const struct image *img)
{
	const struct copier *c = &img->copier;

	return !c->running || c->finishing || c->loading || c->asking || c->no_buffer ||
	       c->lost || !img->source;
}

/* The absent chunks under the cursor, which nobody fills. */
static enum next look_at_absent(struct image *img, uint64_t run, struct fill **ret_fill)
{
	struct copier *c = &img->copier;
	uint64_t skip;
	enum next next;

	if (must_ask(img)) {
		c->asking = true;
		return NEXT_ASK;
	}
	skip = unmapped_run(img, run);
	if (skip) {
		next = skip_unmapped(img, skip, &run, ret_fill);
		return next == NEXT_READ ? read_run(img, run, ret_fill) : next;
	}
	if (run > FILL_BYTES / img->chunk_size)
		run = FILL_BYTES / img->chunk_size;
	return read_run(img, mapped_run(img, run), ret_fill);
}

/* Looks at the cursor; image->lock is held.  NEXT_FILL, NEXT_BUFFER: *ret_fill is
 * made. */
static enum next look_locked(struct image *img, struct fill **ret_fill)
{
	struct copier *c = &img->copier;
	uint64_t n_chunks = chunkmap_n_chunks(img->map), free_run;
	bool set;
	int64_t run;

	if (is_idle(img))
		return NEXT_NOTHING;
	if (c->cursor >= n_chunks)
		return at_the_end(img);
	if (c->n_fills >= img->store->window || c->n_reading >= COPIER_READS ||
	    !volume_is_ready(point_volume(img->source)) || !img->store->is_ready(img))
		return NEXT_NOTHING;
	run = chunkmap_run(img->map, c->cursor, n_chunks - c->cursor, &set);
	if (run < 0)
		return NEXT_LOAD;
	if (set) {
		c->cursor += (uint64_t)run;
		return NEXT_ON;
	}
	free_run = filler_free_run_locked(img, c->cursor, (uint64_t)run);
	if (free_run)
		return look_at_absent(img, free_run, ret_fill);
	c->cursor++;
	return NEXT_ON;
}

/* Where the cursor stands, and its way to the end of the page of the map. */
static void cursor_page(struct image *img, uint64_t *ret_chunk, uint64_t *ret_n)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	uint64_t cursor = img->copier.cursor;
	uint64_t left = chunkmap_n_chunks(img->map) - cursor;
	uint64_t n = MAP_PAGE_CHUNKS - cursor % MAP_PAGE_CHUNKS;

	*ret_chunk = cursor;
	*ret_n = n < left ? n : left;
}

static void loaded(struct image *img, int r)
{
	pthread_mutex_lock(&img->lock);
	img->copier.loading = false;
	pthread_mutex_unlock(&img->lock);
	if (r < 0)
		image_report_broken(img, r, "pool %s: cannot read the chunk map: %s",
				    pool_name(img->pool), strerror(-r));
	copier_step(img);
	image_unref(img);
}

static void load_work(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, copier.load));
	uint64_t chunk, n;

	cursor_page(img, &chunk, &n);
	loaded(img, chunkmap_load(img->map, chunk, n));
}

static void load_point_work(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, copier.load));
	struct point *source;
	uint64_t chunk, n;
	int r = 0;

	cursor_page(img, &chunk, &n);
	pthread_mutex_lock(&img->lock);
	source = img->source;
	if (source)
		point_ref(source);
	pthread_mutex_unlock(&img->lock);
	if (source)
		r = point_load(source, chunk, n);
	point_unref(source);
	loaded(img, r);
}

static void finish_work(struct work *work)
{
	struct image *img =
		(struct image *)((char *)work - offsetof(struct image, copier.finish));
	int r = image_checkpoint(img);

	image_refresh_allocated(img);
	if (r < 0)
		image_report_broken(img, r, "pool %s: cannot sync the image: %s",
				    pool_name(img->pool), strerror(-r));
	else
		image_report_complete(img);
	/* Nobody was told if the image was cut off meanwhile; it may go on. */
	pthread_mutex_lock(&img->lock);
	img->copier.finishing = false;
	pthread_mutex_unlock(&img->lock);
	copier_step(img);
	image_unref(img);
}

static void to_worker(struct image *img, struct work *work, void (*fn)(struct work *))
{
	image_ref(img);
	work->fn = fn;
	workers_submit(img->all->workers, work);
}

/* Looks; of NEXT_ASK with a reference on the source's volume. */
static enum next look(struct image *img, bool busy, uint64_t lead_bytes,
		      struct fill **ret_fill, struct volume **ret_volume)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	enum next next;

	img->copier.busy = busy;
	img->copier.lead_max =
		lead_bytes > img->chunk_size ? lead_bytes / img->chunk_size : 1;
	__atomic_store_n(&img->copier.waits, false, __ATOMIC_RELAXED);
	do
		next = look_locked(img, ret_fill);
	while (next == NEXT_ON);
	if (next == NEXT_LOAD || next == NEXT_LOAD_POINT)
		img->copier.loading = true;
	if (next == NEXT_ASK) {
		*ret_volume = point_volume(img->source);
		volume_ref(*ret_volume);
	}
	return next;
}

/* The same, with those that copy from the same point. */
static enum next look_with_others(struct image *img, struct fill **ret_fill,
				  struct volume **ret_volume)
{
	struct point *point = share_enter(img);
	bool busy = point && share_is_busy(point, img);
	uint64_t lead_bytes = point ? share_lead_bytes(point) : FILL_BYTES;
	enum next next = look(img, busy, lead_bytes, ret_fill, ret_volume);

	if (point && next == NEXT_FILL)
		share_add_riders(point, *ret_fill);
	share_exit(point);
	return next;
}

/* One thing that can be done now; false when there is none. */
static bool step_once(struct image *img)
{
	struct copier *c = &img->copier;
	struct volume *volume = NULL;
	struct fill *f = NULL;

	switch (look_with_others(img, &f, &volume)) {
	case NEXT_FILL:
		fill_start(f);
		return true;
	case NEXT_LOAD:
		to_worker(img, &c->load, load_work);
		break;
	case NEXT_LOAD_POINT:
		to_worker(img, &c->load, load_point_work);
		break;
	case NEXT_ASK:
		ask(img, volume);
		volume_unref(volume);
		break;
	case NEXT_BUFFER:
		fill_abandon(f);
		bufpool_wait(img->all->bufs, &c->bufs);
		break;
	case NEXT_DRAIN:
		img->store->drain(img);
		break;
	case NEXT_FINISH:
		to_worker(img, &c->finish, finish_work);
		break;
	case NEXT_NOTHING:
	case NEXT_ON:
	case NEXT_READ:
		break;
	}
	return false;
}

static bool begin_stepping(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	struct copier *c = &img->copier;

	c->lost = false;
	c->again = c->stepping;
	if (c->stepping)
		return false;
	c->stepping = true;
	return true;
}

/* False: something happened meanwhile, the stepper goes on. */
static bool end_stepping(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	struct copier *c = &img->copier;

	if (c->again) {
		c->again = false;
		return false;
	}
	c->stepping = false;
	return true;
}

void copier_step(struct image *img)
{
	image_ref(img);
	if (begin_stepping(img))
		do
			while (step_once(img))
				;
		while (!end_stepping(img));
	image_unref(img);
}

void image_will_copy(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	img->copier.running = img->source && img->watched;
}

void image_start_copy(struct image *img)
{
	image_will_copy(img);
	copier_step(img);
}

void image_pause_copy(struct image *img)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

	img->copier.running = false;
}
