/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Copy before write (invariant I1).  A `preserve` is a run of chunks on its way from
 * the volume into the store of a point; while it is in chain->preserves it is the only
 * filler of these chunks (I7), and changes of them wait in its waiters:
 *
 *   READ    from the volume; a lost connection: again at the next kick, or the end if
 *           nobody waits for it any more
 *   WRITE   into the file                                 (a worker)
 *   SYNC    in point->to_sync; one thread at a time makes all that is there durable:
 *           syncs the data, sets the bits, syncs the map (I2), so that a group of
 *           changes costs two syncs
 *   end     the waiters look again
 *
 *   FAILED  the volume or the store failed.  Every point that reads one of the chunks
 *           from the volume still is marked broken, durably, in its map file (I5); but
 *           only the point itself where its store failed before a bit was set: who looks
 *           again finds the next older point, whose store may be in a pool that has
 *           space.  Then the end.  A mark that cannot be written is tried again: until
 *           then the changes wait.
 *
 * The bit counts for readers as soon as it is set; for changes only at the end: look-ups
 * of changes ask the list of preserves first.  A point that leaves hands nothing on while
 * a preserve into it is under way.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "engine/chain_int.h"

enum {
	RUN_CHUNKS = (1 << 20) / POOL_CHUNK_SIZE, /* at most, of one preserve */
};
_Static_assert(RUN_CHUNKS <= 32, "a mask of chunks");

TAILQ_HEAD(waiter_list, chain_waiter);

enum preserve_state { PRESERVE_READ, PRESERVE_WRITE, PRESERVE_SYNC, PRESERVE_FAILED };

struct preserve {
	struct chain *chain;
	struct point *point; /* with a reference */
	uint64_t chunk, n;
	char *buf;
	size_t size;
	bool pooled; /* buf is of the buffer pool */
	struct volume_fetch fetch;
	struct work work;
	int error;
	bool own_fault; /* FAILED: of the point's store, and none of its bits is set */
	bool logged;	/* that it cannot be marked */
	char reason[POINT_REASON_MAX - 16];

	/* chain->lock */
	TAILQ_ENTRY(preserve) link;
	TAILQ_ENTRY(preserve) sync_link;
	struct preserve *next; /* of those their maker has still to start */
	enum preserve_state state;
	bool lost;     /* READ: waits for the next kick; FAILED: for the next try */
	bool unwanted; /* as of that try: nobody waits */
	struct waiter_list waiters;
};

/* ---- the end --------------------------------------------------------------------- */

static void free_buffer(struct preserve *p)
{
	if (p->pooled && p->buf)
		bufpool_put(p->chain->all->bufs, BUFPOOL_REQUEST, p->buf, p->size);
	else
		free(p->buf);
	p->buf = NULL;
}

static void end(struct preserve *p)
{
	struct waiter_list waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct chain *c = p->chain;
	struct point *point = p->point;
	struct chain_waiter *w;
	bool left;

	pthread_mutex_lock(&c->lock);
	left = !--point->n_preserves && point->leaving;
	TAILQ_REMOVE(&c->preserves, p, link);
	TAILQ_CONCAT(&waiters, &p->waiters, link);
	TAILQ_FOREACH(w, &waiters, link)
		w->preserve = NULL;
	pthread_mutex_unlock(&c->lock);
	free_buffer(p);
	free(p);
	while ((w = TAILQ_FIRST(&waiters))) {
		TAILQ_REMOVE(&waiters, w, link);
		w->fn(w);
	}
	if (left)
		handover_run(c);
	point_unref(point);
}

/* It waits to be tried again.  With a reference on its point: what it is tried with may
 * be the end of it, of its point and of the chain. */
static void become_lost(struct preserve *p)
{
	struct chain *c = p->chain;
	struct point *point = p->point;
	bool stopping = dataops_is_stopping(c->all), unwanted;

	point_ref(point);
	pthread_mutex_lock(&c->lock);
	/* When the engine stops, those who wait look again, and see that. */
	unwanted = p->state == PRESERVE_READ && (TAILQ_EMPTY(&p->waiters) || stopping);
	p->lost = !unwanted;
	pthread_mutex_unlock(&c->lock);
	if (unwanted)
		end(p);
	else if (!stopping)
		dataop_retry(c->all, &c->retry);
	point_unref(point);
}

/* ---- what fails ------------------------------------------------------------------ */

/* The chunks of the run that a point's own store holds for certain; -ENOMEM. */
static int64_t mask_of(struct point *point, const struct preserve *p)
{
	int64_t mask = 0;

	for (unsigned i = 0; i < p->n; i++) {
		int r = point_test_bit(point, p->chunk + i);

		if (r == -ENOMEM)
			return r;
		mask |= (int64_t)(r > 0) << i;
	}
	return mask;
}

/* The next older point, with a reference, which takes the place of that of `point`. */
static struct point *older(struct chain *c, struct point *point)
{
	struct point *p, *prev = NULL;

	pthread_mutex_lock(&c->lock);
	/* That one may be out of the list by now. */
	TAILQ_FOREACH(p, &c->points, link)
		if (p->params.sequence < point->params.sequence)
			prev = p;
	if (prev)
		point_ref(prev);
	pthread_mutex_unlock(&c->lock);
	point_unref(point);
	return prev;
}

/* Marks one as broken, durably, then visibly. */
static int break_point(struct point *point, const struct preserve *p)
{
	struct chain *c = point->chain;
	char mark[POINT_REASON_MAX - 12];
	bool first;
	int r;

	snprintf(mark, sizeof(mark), "%d %.480s", -p->error, p->reason);
	r = chunkmap_write_mark(point->map, mark);
	if (r < 0)
		return r;
	pthread_mutex_lock(&c->lock);
	first = !point->broken;
	if (point_is_needed(point))
		__atomic_sub_fetch(&c->n_needed, 1, __ATOMIC_RELEASE);
	point->broken = true;
	if (first)
		snprintf(point->reason, sizeof(point->reason), "%s", p->reason);
	pthread_mutex_unlock(&c->lock);
	if (first && chain_enter_watcher(point)) {
		point->params.watcher.broken(point->params.watcher.opaque,
					     point->params.id, p->error, p->reason);
		chain_leave_watcher(point);
	}
	return 0;
}

static bool is_needed(struct point *point)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&point->chain->lock);

	return point_is_needed(point);
}

/* Breaks every point for which the volume itself holds one of the chunks; or the newest,
 * for which nobody holds them. */
static int break_points(struct preserve *p)
{
	int64_t full = ((int64_t)1 << p->n) - 1, have = 0, mask = 0;
	struct point *point = p->point;
	int r = 0;

	point_ref(point);
	while (point && have != full && r >= 0) {
		/* Its own bits may be set and not durable.  (Those of others are.) */
		mask = point == p->point ? 0 : mask_of(point, p);
		if (mask < 0)
			r = (int)mask;
		have |= mask;
		if (r >= 0 && have != full && is_needed(point))
			r = break_point(point, p);
		if (p->own_fault)
			break;
		if (r >= 0)
			point = older(p->chain, point);
	}
	point_unref(point);
	return r;
}

static void failed_work(struct work *work)
{
	struct preserve *p =
		(struct preserve *)((char *)work - offsetof(struct preserve, work));
	int r = break_points(p);

	if (r >= 0) {
		end(p);
		return;
	}
	if (!p->logged)
		log_error("%s: its replica cannot be marked broken (%s); writes of the "
			  "source wait",
			  p->point->params.source_name, strerror(-r));
	p->logged = true;
	become_lost(p);
}

static void to_worker(struct preserve *p, void (*fn)(struct work *work))
{
	p->work.fn = fn;
	workers_submit(p->chain->all->workers, &p->work);
}

static void fail(struct preserve *p, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void fail(struct preserve *p, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->reason, sizeof(p->reason), fmt, ap);
	va_end(ap);
	p->error = error;
	free_buffer(p);
	pthread_mutex_lock(&p->chain->lock);
	p->state = PRESERVE_FAILED;
	pthread_mutex_unlock(&p->chain->lock);
	to_worker(p, failed_work);
}

static void fail_store(struct preserve *p, int error)
{
	const struct point_params *params = &p->point->params;

	if (error == -ENOSPC || error == -EDQUOT)
		fail(p, -ENOSPC,
		     "pool %s is full: what a write to %s replaced could not be kept; free "
		     "some space and make the replica again",
		     pool_name(params->pool), params->source_name);
	else
		fail(p, error,
		     "pool %s: what a write to %s replaced could not be kept: %s",
		     pool_name(params->pool), params->source_name, strerror(-error));
}

static void fail_volume(struct preserve *p, int error)
{
	const struct point_params *params = &p->point->params;

	if (error == -ENODATA)
		fail(p, error,
		     "%s: medium error: bytes %" PRIu64 " to %" PRIu64
		     " cannot be read, and were written",
		     params->source_name, p->fetch.bad_offset,
		     p->fetch.bad_offset + p->fetch.bad_length - 1);
	else
		fail(p, error, "%s: what a write replaced could not be read: %s",
		     params->source_name, strerror(-error));
}

/* ---- SYNC ------------------------------------------------------------------------ */

/* Each with its own error in p->error. */
static void make_durable(struct point *point, const struct preserve_list *group)
{
	int r = point_sync(point);
	struct preserve *p;

	TAILQ_FOREACH(p, group, sync_link) {
		p->own_fault = r < 0;
		p->error = r < 0 ? r : point_set_bits(point, p->chunk, p->n);
	}
	if (r < 0)
		return;
	r = point_checkpoint(point);
	TAILQ_FOREACH(p, group, sync_link)
		if (!p->error)
			p->error = r;
}

/* Makes all that is in the file durable, until there is no more. */
static void sync_all(struct point *point)
{
	struct chain *c = point->chain;
	struct preserve *p;

	pthread_mutex_lock(&c->lock);
	while (!TAILQ_EMPTY(&point->to_sync)) {
		struct preserve_list group = TAILQ_HEAD_INITIALIZER(group);

		TAILQ_CONCAT(&group, &point->to_sync, sync_link);
		pthread_mutex_unlock(&c->lock);
		make_durable(point, &group);
		while ((p = TAILQ_FIRST(&group))) {
			TAILQ_REMOVE(&group, p, sync_link);
			if (p->error)
				fail_store(p, p->error);
			else
				end(p);
		}
		pthread_mutex_lock(&c->lock);
	}
	point->syncing = false;
	pthread_mutex_unlock(&c->lock);
}

/* ---- WRITE ----------------------------------------------------------------------- */

static void write_work(struct work *work)
{
	struct preserve *p =
		(struct preserve *)((char *)work - offsetof(struct preserve, work));
	struct point *point = p->point;
	struct chain *c = p->chain;
	int r = point_write_store(point, p->buf, p->size, p->chunk * POOL_CHUNK_SIZE);
	bool sync;

	if (r < 0) {
		p->own_fault = true;
		fail_store(p, r);
		return;
	}
	free_buffer(p);
	point_ref(point);
	pthread_mutex_lock(&c->lock);
	p->state = PRESERVE_SYNC;
	TAILQ_INSERT_TAIL(&point->to_sync, p, sync_link);
	sync = !point->syncing;
	point->syncing = true;
	pthread_mutex_unlock(&c->lock);
	if (sync)
		sync_all(point);
	point_unref(point);
}

/* ---- READ ------------------------------------------------------------------------ */

static void fetched(struct volume_fetch *f, int error)
{
	struct preserve *p = f->opaque;
	struct chain *c = p->chain;

	if (error == -ENOTCONN) {
		become_lost(p);
	} else if (error) {
		fail_volume(p, error);
	} else {
		pthread_mutex_lock(&c->lock);
		p->state = PRESERVE_WRITE;
		pthread_mutex_unlock(&c->lock);
		to_worker(p, write_work);
	}
}

static void start(struct preserve *p)
{
	struct volume_fetch *f = &p->fetch;

	f->opaque = p;
	if (!p->buf) {
		p->buf = bufpool_get(p->chain->all->bufs, BUFPOOL_REQUEST, p->size);
		p->pooled = p->buf;
	}
	/* The pool's memory may all be in the hands of those who wait for this. */
	if (!p->buf)
		p->buf = aligned_alloc(4096, (p->size + 4095) & ~(size_t)4095);
	if (!p->buf) {
		fetched(f, -ENOTCONN);
		return;
	}
	f->volume = p->chain->volume;
	f->offset = p->chunk * POOL_CHUNK_SIZE;
	f->length = p->size;
	f->buf = p->buf;
	f->done = fetched;
	volume_fetch(f);
}

/* ---- who waits ------------------------------------------------------------------- */

/* The preserve that holds a chunk; or NULL, and from *ret_next on one holds more. */
static struct preserve *of_chunk_locked(struct chain *c, uint64_t chunk,
					uint64_t *ret_next)
{
	struct preserve *p;

	TAILQ_FOREACH(p, &c->preserves, link) {
		if (p->chunk <= chunk && chunk < p->chunk + p->n)
			return p;
		if (p->chunk > chunk && p->chunk < *ret_next)
			*ret_next = p->chunk;
	}
	return NULL;
}

static struct preserve *new_locked(struct chain *c, struct point *point, uint64_t chunk,
				   uint64_t n)
{
	struct preserve *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	point_ref(point);
	point->n_preserves++;
	p->chain = c;
	p->point = point;
	p->chunk = chunk;
	p->n = n;
	p->size = point_bytes(point, chunk, n);
	TAILQ_INIT(&p->waiters);
	TAILQ_INSERT_TAIL(&c->preserves, p, link);
	return p;
}

/* What cannot be read cannot be kept either (I5): the waiter waits for the end of a
 * preserve that has failed.  False: another is under way there, or no memory. */
static bool fail_load(struct chain_waiter *w, int error)
{
	struct chain *c = w->point->chain;
	uint64_t next = w->chunk + w->n;
	struct preserve *p = NULL;

	pthread_mutex_lock(&c->lock);
	if (!of_chunk_locked(c, w->chunk, &next))
		p = new_locked(c, w->point, w->chunk,
			       next - w->chunk < RUN_CHUNKS ? next - w->chunk :
							      RUN_CHUNKS);
	if (p) {
		TAILQ_INSERT_TAIL(&p->waiters, w, link);
		w->preserve = p;
	}
	pthread_mutex_unlock(&c->lock);
	if (p)
		fail_store(p, error);
	return p;
}

static void load_work(struct work *work)
{
	struct chain_waiter *w =
		(struct chain_waiter *)((char *)work -
					offsetof(struct chain_waiter, load));
	struct point *point = w->point;
	int r = chain_load(point->chain, point, w->chunk, w->n);

	if (r >= 0 || r == -ENOMEM || !fail_load(w, r))
		w->fn(w);
	point_unref(point);
}

/* What one look has found to do. */
struct found {
	struct preserve *wait_for; /* the first that is under way */
	struct preserve *made;
	bool load, no_memory;
	uint64_t chunk; /* where */
};

static void look_locked(struct chain *c, struct point *point, uint64_t chunk,
			uint64_t end, struct found *f)
{
	while (chunk < end) {
		uint64_t next = end;
		struct preserve *p = of_chunk_locked(c, chunk, &next);
		struct point *holder;
		int64_t n;

		if (p) {
			f->wait_for = f->wait_for ? f->wait_for : p;
			chunk = p->chunk + p->n;
			continue;
		}
		n = chain_holder_locked(c, point, chunk, next - chunk, &holder);
		f->chunk = chunk;
		if (n < 0) {
			f->load = true;
			return;
		}
		if (!holder) {
			n = n < RUN_CHUNKS ? n : RUN_CHUNKS;
			p = new_locked(c, point, chunk, (uint64_t)n);
			if (!p) {
				f->no_memory = true;
				return;
			}
			p->next = f->made;
			f->made = p;
			f->wait_for = f->wait_for ? f->wait_for : p;
		}
		chunk += (uint64_t)n;
	}
}

bool chain_prepare(struct chain *c, uint64_t chunk, uint64_t n, uint64_t before,
		   struct chain_waiter *waiter)
{
	struct found f = { 0 };
	struct point *point;
	struct preserve *p;
	uint64_t end;
	bool load;

	if (chain_is_empty(c))
		return true;
	pthread_mutex_lock(&c->lock);
	point = chain_newest_needed_locked(c, before);
	end = point ? point_n_chunks(point) : 0;
	end = chunk + n < end ? chunk + n : end;
	if (point)
		look_locked(c, point, chunk, end, &f);
	load = !f.wait_for && (f.load || f.no_memory);
	waiter->preserve = f.wait_for;
	if (f.wait_for)
		TAILQ_INSERT_TAIL(&f.wait_for->waiters, waiter, link);
	if (load) {
		point_ref(point);
		waiter->load.fn = load_work;
		waiter->point = point;
		waiter->chunk = f.chunk;
		waiter->n = end - f.chunk;
	}
	pthread_mutex_unlock(&c->lock);
	while ((p = f.made)) {
		f.made = p->next;
		start(p);
	}
	if (load)
		workers_submit(c->all->workers, &waiter->load);
	return !f.wait_for && !load;
}

bool chain_cancel(struct chain *c, struct chain_waiter *waiter)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
	struct preserve *p = move_ptr(waiter->preserve);

	if (p)
		TAILQ_REMOVE(&p->waiters, waiter, link);
	return p;
}

/* ---- again ----------------------------------------------------------------------- */

/* What lost its connection (if the volume is back, or nobody waits for it any more) or
 * failed to be marked. */
static struct preserve *take_lost(struct chain *c, bool ready)
{
	bool stopping = dataops_is_stopping(c->all);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
	struct preserve *p, *list = NULL;

	TAILQ_FOREACH(p, &c->preserves, link) {
		if (!p->lost || (p->state == PRESERVE_READ && !ready && !stopping &&
				 !TAILQ_EMPTY(&p->waiters)))
			continue;
		/* The process ends with it. */
		if (p->state == PRESERVE_FAILED && stopping)
			continue;
		p->lost = false;
		p->unwanted = TAILQ_EMPTY(&p->waiters) || stopping;
		p->next = list;
		list = p;
	}
	return list;
}

static bool has_preserves(struct chain *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	return !TAILQ_EMPTY(&c->preserves);
}

void preserve_kick(struct chain *c)
{
	struct preserve *p, *next;

	p = has_preserves(c) ? take_lost(c, volume_is_ready(c->volume)) : NULL;
	for (; p; p = next) {
		next = p->next;
		if (p->state == PRESERVE_FAILED)
			to_worker(p, failed_work);
		else if (p->unwanted)
			end(p);
		else
			start(p);
	}
}

void chain_kick(struct chain *c)
{
	preserve_kick(c);
}

static void retry(struct dataop_retry *r)
{
	preserve_kick((struct chain *)((char *)r - offsetof(struct chain, retry)));
}

void preserve_init(struct chain *c)
{
	TAILQ_INIT(&c->preserves);
	c->retry.fn = retry;
}

void preserve_done(struct chain *c)
{
	dataop_retry_cancel(c->all, &c->retry);
}
