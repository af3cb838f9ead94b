/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/share.h"

#include <stddef.h>
#include <stdlib.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/image_int.h"

void share_init(struct share *s)
{
	pthread_mutex_init(&s->lock, NULL);
	TAILQ_INIT(&s->images);
}

void share_done(struct share *s)
{
	pthread_mutex_destroy(&s->lock);
}

void share_join(struct point *point, struct image *img)
{
	struct share *s = point_share(point);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);

	TAILQ_INSERT_TAIL(&s->images, img, share_link);
	if (__atomic_add_fetch(&s->n, 1, __ATOMIC_RELAXED) > 1)
		__atomic_store_n(&s->is_shared, true, __ATOMIC_RELAXED);
}

static void kick(struct point *point);

void share_leave(struct point *point, struct image *img)
{
	struct share *s = point_share(point);

	pthread_mutex_lock(&s->lock);
	TAILQ_REMOVE(&s->images, img, share_link);
	__atomic_sub_fetch(&s->n, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&s->lock);
	/* Not by this thread: it has more to do than to copy. */
	kick(point);
}

/* ---- counting ---------------------------------------------------------------------- */

void share_count_read_locked(struct fill *f)
{
	if (!f->reading)
		return;
	f->reading = false;
	f->image->copier.n_reading--;
	__atomic_sub_fetch(&point_share(f->req.point)->n_reading, 1, __ATOMIC_RELAXED);
}

void share_count_locked(struct fill *f, int by)
{
	struct share *s = point_share(f->req.point);
	struct copier *c = &f->image->copier;

	if (by > 0 && !c->n_fills)
		c->moved_ns = timefmt_monotonic_ns();
	c->n_fills += (unsigned)by;
	__atomic_add_fetch(&s->n_fills, (unsigned)by, __ATOMIC_RELAXED);
	if (by < 0) {
		share_count_read_locked(f);
		return;
	}
	c->n_reading++;
	__atomic_add_fetch(&s->n_reading, 1, __ATOMIC_RELAXED);
}

void share_note_moved_locked(const struct fill *f)
{
	struct share *s = point_share(f->req.point);
	uint64_t now = timefmt_monotonic_ns(), gap = now - f->image->copier.moved_ns;

	if (f->why != FILL_FOR_COPIER)
		return;
	f->image->copier.moved_ns = now;
	__atomic_store_n(&s->moved_ns, now, __ATOMIC_RELAXED);
	if (gap > __atomic_load_n(&s->gap_ns, __ATOMIC_RELAXED))
		__atomic_store_n(&s->gap_ns, gap, __ATOMIC_RELAXED);
}

/* For how long it counts as slow; then as silent. */
static uint64_t patience(const struct share *s)
{
	uint64_t ns = 2 * __atomic_load_n(&s->gap_ns, __ATOMIC_RELAXED);

	return ns < SHARE_PATIENCE_NS	  ? SHARE_PATIENCE_NS :
	       ns < SHARE_PATIENCE_MAX_NS ? ns :
					    SHARE_PATIENCE_MAX_NS;
}

/* All together have as much under way as is good - unless nothing moves at all. */
static bool is_at_limit(const struct share *s)
{
	uint64_t moved = __atomic_load_n(&s->moved_ns, __ATOMIC_RELAXED);

	if (__atomic_load_n(&s->n_reading, __ATOMIC_RELAXED) >= COPIER_READS)
		return true;
	return __atomic_load_n(&s->n_fills, __ATOMIC_RELAXED) >= SHARE_FILLS &&
	       (!moved || timefmt_monotonic_ns() - moved < patience(s));
}

uint64_t share_lead_bytes(struct point *point)
{
	unsigned n = __atomic_load_n(&point_share(point)->n, __ATOMIC_RELAXED);
	uint64_t bytes = SHARE_BYTES / (n ? n : 1);

	return bytes < FILL_BYTES ? bytes : FILL_BYTES;
}

/* ---- those that wait --------------------------------------------------------------- */

/* Those that wait, each with a reference; at most max. */
static size_t take_waiting_locked(struct share *s, struct image **images, size_t max)
{
	struct image *img;
	size_t n = 0;

	TAILQ_FOREACH(img, &s->images, share_link)
		if (n < max && __atomic_load_n(&img->copier.waits, __ATOMIC_RELAXED) &&
		    image_try_ref(img))
			images[n++] = img;
	return n;
}

/* What they would only find out again is left: what ends next steps them. */
static void step_waiting(struct share *s)
{
	size_t max = __atomic_load_n(&s->n, __ATOMIC_RELAXED), n;
	CLEANUP_FREE struct image **images = NULL;

	if (is_at_limit(s))
		return;
	images = calloc(max + 1, sizeof(struct image *));
	if (!images)
		return; /* their owner lets them step once a second */
	pthread_mutex_lock(&s->lock);
	n = take_waiting_locked(s, images, max);
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < n; i++) {
		if (!is_at_limit(s))
			copier_step(images[i]);
		image_unref(images[i]);
	}
}

/* False: another thread does, and will once more. */
static bool begin_stepping(struct share *s)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);

	s->again = s->stepping;
	if (s->stepping)
		return false;
	s->stepping = true;
	return true;
}

/* False: something has happened meanwhile. */
static bool end_stepping(struct share *s)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);

	s->stepping = s->again;
	s->again = false;
	return !s->stepping;
}

static void step_work(struct work *work);

/* It has begun to step, and a worker goes on. */
static void step_later(struct point *point)
{
	struct share *s = point_share(point);

	point_ref(point);
	s->point = point;
	s->work.fn = step_work;
	workers_submit(volume_dataops(point_volume(point))->workers, &s->work);
}

static void step_work(struct work *work)
{
	struct share *s = (struct share *)((char *)work - offsetof(struct share, work));
	struct point *point = s->point;

	step_waiting(s);
	if (!end_stepping(s))
		step_later(point);
	point_unref(point);
}

static bool is_shared(const struct share *s)
{
	/* With one left it may have waited for those that went. */
	return __atomic_load_n(&s->is_shared, __ATOMIC_RELAXED);
}

static void kick(struct point *point)
{
	struct share *s = point_share(point);

	if (is_shared(s) && begin_stepping(s))
		step_later(point);
}

/* Who calls has other things to do, too: what happens meanwhile is a worker's. */
void share_step(struct point *point)
{
	struct share *s = point_share(point);

	if (!is_shared(s) || !begin_stepping(s))
		return;
	step_waiting(s);
	if (!end_stepping(s))
		step_later(point);
}

/* ---- one look ---------------------------------------------------------------------- */

struct point *share_enter(struct image *img)
{
	struct point *point;

	pthread_mutex_lock(&img->lock);
	point = img->source;
	if (point)
		point_ref(point);
	pthread_mutex_unlock(&img->lock);
	if (point && __atomic_load_n(&point_share(point)->n, __ATOMIC_RELAXED) > 1) {
		pthread_mutex_lock(&point_share(point)->lock);
		return point;
	}
	point_unref(point);
	return NULL;
}

void share_exit(struct point *point)
{
	if (!point)
		return;
	pthread_mutex_unlock(&point_share(point)->lock);
	point_unref(point);
}

/* Whether an image takes what is read of the point now, or would with a place free. */
static bool takes_locked(struct image *img, const struct point *point)
{
	const struct copier *c = &img->copier;

	return c->running && !c->finishing && img->source == point &&
	       img->store->is_ready(img);
}

static bool is_full_locked(const struct image *img)
{
	return img->copier.n_fills >= img->store->window;
}

bool share_is_busy(struct point *point, const struct image *image)
{
	struct share *s = point_share(point);
	uint64_t now = timefmt_monotonic_ns(), most = patience(s);
	struct image *img;

	if (is_at_limit(s))
		return true;
	TAILQ_FOREACH(img, &s->images, share_link) {
		ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

		if (img != image && takes_locked(img, point) && is_full_locked(img) &&
		    now - img->copier.moved_ns < most)
			return true;
	}
	return false;
}

/* A fill of what the lead brings, as far as the image lacks it; NULL: it has it, or
 * cannot take it. */
static struct fill *new_rider(struct image *img, struct point *point,
			      const struct fill *lead)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);
	uint64_t chunk = lead->filler.chunk;
	bool set = true;
	int64_t run;
	uint64_t n;
	struct fill *f;

	if (!takes_locked(img, point) || is_full_locked(img))
		return NULL;
	run = chunkmap_run(img->map, chunk, lead->filler.n, &set);
	n = run > 0 && !set ? filler_free_run_locked(img, chunk, (uint64_t)run) : 0;
	f = n ? fill_new_locked(img, chunk, n, FILL_FOR_COPIER) : NULL;
	if (!f)
		return NULL;
	/* Its lead counts as the one that reads. */
	share_count_read_locked(f);
	return f;
}

void share_add_riders(struct point *point, struct fill *lead)
{
	struct share *s = point_share(point);
	struct image *img;

	if (lead->zero)
		return;
	lead->shared = calloc(1, sizeof(*lead->shared));
	if (!lead->shared)
		return; /* they read it themselves */
	*lead->shared = (struct fill_buf){ 1, lead->buf, lead->length };
	TAILQ_FOREACH(img, &s->images, share_link) {
		struct fill *f = NULL;

		if (img != lead->image && image_try_ref(img)) {
			f = new_rider(img, point, lead);
			image_unref(img);
		}
		if (!f)
			continue;
		lead->shared->refs++;
		f->shared = lead->shared;
		f->buf = lead->buf;
		f->next = lead->riders;
		lead->riders = f;
	}
}
