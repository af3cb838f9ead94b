/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/share.h"

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

void share_leave(struct point *point, struct image *img)
{
	struct share *s = point_share(point);

	pthread_mutex_lock(&s->lock);
	TAILQ_REMOVE(&s->images, img, share_link);
	__atomic_sub_fetch(&s->n, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&s->lock);
	share_step(point);
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

static void step_waiting(struct share *s)
{
	size_t max = __atomic_load_n(&s->n, __ATOMIC_RELAXED), n;
	CLEANUP_FREE struct image **images = calloc(max + 1, sizeof(struct image *));

	if (!images)
		return; /* their owner lets them step once a second */
	pthread_mutex_lock(&s->lock);
	n = take_waiting_locked(s, images, max);
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < n; i++) {
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

void share_step(struct point *point)
{
	struct share *s = point_share(point);

	/* With one left it may have waited for those that went. */
	if (!__atomic_load_n(&s->is_shared, __ATOMIC_RELAXED) || !begin_stepping(s))
		return;
	do
		step_waiting(s);
	while (!end_stepping(s));
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

static bool is_patient_locked(const struct image *img)
{
	return timefmt_monotonic_ns() - img->copier.moved_ns < SHARE_PATIENCE_NS;
}

bool share_is_busy(struct point *point, const struct image *image)
{
	struct share *s = point_share(point);
	unsigned n_reading = 0;
	struct image *img;
	bool busy = false;

	TAILQ_FOREACH(img, &s->images, share_link) {
		ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&img->lock);

		n_reading += img->copier.n_reading;
		if (img != image && takes_locked(img, point) && is_full_locked(img) &&
		    is_patient_locked(img))
			busy = true;
	}
	return busy || n_reading >= COPIER_READS;
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
	f->reading = false;
	img->copier.n_reading--;
	point_ref(point);
	f->req.point = point;
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
