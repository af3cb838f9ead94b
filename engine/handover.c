/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * What a leaving point hands on: the chunks that only it holds for the next older
 * needed point are copied into that one's store, some at a time by a worker: copied,
 * synced, and then their bits are set.  At the end the map is made durable, and only
 * then the owner is told that the leaving point can go.
 *
 * One point of a chain at a time, the oldest leaving one first, so that between it and
 * the one it hands to there is none that leaves (but for those that a restore keeps:
 * what these hold, the older one does not miss); and not before every preserve into it
 * has ended, or it would go with what the cursor has passed by.  A leaving point without
 * an older needed one can go at once.
 *
 * While it works, readers find a chunk in either store, with the same bytes; and no
 * change copies it, as the leaving point holds it.  A failure (no space) loses nothing:
 * the point stays, and point_tick() tries again.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "engine/chain_int.h"

enum {
	PIECE_CHUNKS = (1 << 20) / POOL_CHUNK_SIZE,
	WORK_CHUNKS = 16 * PIECE_CHUNKS, /* then others have their turn */
};

static bool is_kept(const struct chain *c, const struct point *p)
{
	return c->keep_from <= p->params.sequence && p->params.sequence < c->keep_until;
}

/* The oldest leaving point that was not told yet and is not kept, if it can hand over
 * now; *ret_to the next older needed one. */
static struct point *choose_locked(struct chain *c, struct point **ret_to)
{
	struct point *p, *needed = NULL;

	TAILQ_FOREACH(p, &c->points, link) {
		if (point_is_needed(p))
			needed = p;
		if (p->leaving && !p->told && !is_kept(c, p)) {
			*ret_to = needed;
			return p->n_preserves ? NULL : p;
		}
	}
	return NULL;
}

static void tell(struct point *p)
{
	if (!chain_enter_watcher(p))
		return;
	p->params.watcher.handed_over(p->params.watcher.opaque, p->params.id);
	chain_leave_watcher(p);
}

static void finish(struct chain *c, bool failed)
{
	struct point *from = move_ptr(c->from), *to = move_ptr(c->to);

	pthread_mutex_lock(&c->lock);
	c->handing = false;
	c->failed = c->failed || failed;
	from->told = !failed;
	pthread_mutex_unlock(&c->lock);
	if (!failed) {
		tell(from);
		handover_run(c);
	}
	point_unref(to);
	point_unref(from);
}

static int copy_run(struct point *from, struct point *to, uint64_t chunk, uint64_t n)
{
	size_t size = point_bytes(from, chunk, n);
	uint64_t offset = chunk * POOL_CHUNK_SIZE;
	CLEANUP_FREE char *buf = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
	int r = buf ? point_read_store(from, buf, size, offset) : -ENOMEM;

	return r >= 0 ? point_write_store(to, buf, size, offset) : r;
}

static int set_run(struct point *from, struct point *to, uint64_t chunk, uint64_t n)
{
	(void)from;
	return point_set_bits(to, chunk, n);
}

/* The run from `chunk` on: its length (at most max), and whether `from` has to hand it
 * on.  -EAGAIN; -ECANCELED. */
static int64_t next_run(struct chain *c, uint64_t chunk, uint64_t max, bool *ret_mine)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
	struct point *holder = NULL;
	int64_t n, held;
	bool set;

	*ret_mine = false;
	if (!point_is_needed(c->to))
		return -ECANCELED;
	n = chunkmap_run(c->from->map, chunk, max, &set);
	if (n < 0 || !set)
		return n;
	held = chain_holder_locked(c, c->to, chunk, (uint64_t)n, &holder);
	*ret_mine = holder == c->from;
	return held < PIECE_CHUNKS || !*ret_mine ? held : PIECE_CHUNKS;
}

static bool still_wanted(struct chain *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	return point_is_needed(c->to) && !c->from->removed;
}

/* Does fn for the runs of [*at, end) that `from` has to hand on, until it is done for
 * max chunks or so; *at moves on.  -errno. */
static int each_run(struct chain *c, uint64_t *at, uint64_t end, uint64_t max,
		    int (*fn)(struct point *from, struct point *to, uint64_t chunk,
			      uint64_t n))
{
	uint64_t done = 0;

	while (*at < end && done < max) {
		uint64_t rest = end - *at;
		bool mine;
		int64_t n = next_run(c, *at, rest, &mine);
		int r = n < 0 ? (int)n : 0;

		if (r == -EAGAIN) {
			r = chain_load(c, c->to, *at,
				       rest < WORK_CHUNKS ? rest : WORK_CHUNKS);
			n = 0;
		} else if (mine) {
			r = fn(c->from, c->to, *at, (uint64_t)n);
			done += (uint64_t)n;
		}
		if (r < 0)
			return r;
		*at += (uint64_t)n;
	}
	return 0;
}

/* Copies up to WORK_CHUNKS; 1: more is to be done; 0: the end; -errno. */
static int copy_some(struct chain *c)
{
	uint64_t end = point_n_chunks(c->from), begin = c->cursor;
	int r = each_run(c, &c->cursor, end, WORK_CHUNKS, copy_run);

	if (r >= 0)
		r = point_sync(c->to);
	if (r >= 0)
		r = each_run(c, &begin, c->cursor, UINT64_MAX, set_run);
	return r < 0 ? r : c->cursor < end;
}

static void handover_work(struct work *work)
{
	struct chain *c =
		(struct chain *)((char *)work - offsetof(struct chain, handover));
	int r = 0;

	if (c->to && still_wanted(c)) {
		r = copy_some(c);
		if (r > 0) {
			workers_submit(c->all->workers, &c->handover);
			return;
		}
		if (!r)
			r = point_checkpoint(c->to);
	} else if (c->to) {
		/* It left, or broke: perhaps another needs it. */
		r = -ECANCELED;
	}
	if (r < 0 && r != -ECANCELED)
		log_warn("pool %s: what a deleted replica of %s holds for an older one "
			 "cannot be handed to it (%s); it is tried again",
			 pool_name(c->from->params.pool), c->from->params.source_name,
			 strerror(-r));
	if (r == -ECANCELED) {
		struct point *from = move_ptr(c->from), *to = move_ptr(c->to);

		pthread_mutex_lock(&c->lock);
		c->handing = false;
		pthread_mutex_unlock(&c->lock);
		handover_run(c);
		point_unref(to);
		point_unref(from);
		return;
	}
	finish(c, r < 0);
}

void handover_run(struct chain *c)
{
	struct point *from = NULL, *to = NULL;

	pthread_mutex_lock(&c->lock);
	if (!c->handing && !c->failed)
		from = choose_locked(c, &to);
	if (from) {
		point_ref(from);
		if (to)
			point_ref(to);
		c->from = from;
		c->to = to;
		c->cursor = 0;
		c->handing = true;
	}
	pthread_mutex_unlock(&c->lock);
	if (!from)
		return;
	c->handover.fn = handover_work;
	workers_submit(c->all->workers, &c->handover);
}

void chain_keep(struct chain *c, uint64_t from, uint64_t until)
{
	pthread_mutex_lock(&c->lock);
	c->keep_from = from;
	c->keep_until = until;
	pthread_mutex_unlock(&c->lock);
	if (!until)
		handover_run(c);
}
