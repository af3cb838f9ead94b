/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The life of a restore, the plan, who needs what, and the walk in the background.  How a
 * run of chunks is copied back: restore_unit.c.
 *
 *   opened     the map is there; nothing is known
 *   planned    restore_plan() has set the bits of what does not differ; changes of the
 *              image wait in `unplanned`
 *   attached   who needs a chunk whose bit is clear waits for its unit, and a cursor goes
 *              round until all bits are set: then the owner is told
 *   abandoned  it was detached before it was attached: nothing is copied any more
 *
 * What the image's users have written is made durable by the plan: it has to be there
 * still when the process that goes on comes after a loss of power.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "engine/restore_int.h"

enum {
	MAX_BACKGROUND = 4, /* units at once that nobody waits for */
	MAX_MADE = 4,	    /* units that one look makes: the waiter looks again */
	PAGE_CHUNKS = 32768,
	CHECKPOINT_PAGES = 1024, /* of the plan: what may be dirty in memory */
};

/* ---- life ------------------------------------------------------------------------ */

/* False: there is no reference any more, and destroy() waits for the retry. */
static bool try_ref(struct restore *r)
{
	int refs = __atomic_load_n(&r->refs, __ATOMIC_RELAXED);

	while (refs && !__atomic_compare_exchange_n(&r->refs, &refs, refs + 1, true,
						    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		;
	return refs;
}

static void retry(struct dataop_retry *retry)
{
	struct restore *r =
		(struct restore *)((char *)retry - offsetof(struct restore, retry));

	if (!try_ref(r))
		return;
	restore_kick(r);
	restore_unref(r);
}

static void turn_came(struct priority_flow *flow)
{
	struct restore *r =
		(struct restore *)((char *)flow - offsetof(struct restore, flow));

	if (!try_ref(r))
		return;
	restore_background(r);
	restore_unref(r);
}

int restore_open(const struct restore_params *params, struct restore **ret_restore)
{
	const struct chunkmap_params map = {
		.id = params->sequence,
		.generation = 1,
		.size = params->size,
		.chunk_size = POOL_CHUNK_SIZE,
	};
	struct restore *r = calloc(1, sizeof(*r));
	char file[64];
	int rc;

	if (!r)
		return -ENOMEM;
	pool_restore_file(params->sequence, file, sizeof(file));
	rc = chunkmap_open(pool_dirfd(params->pool), file, &map, &r->map);
	if (rc < 0) {
		free(r);
		return rc;
	}
	r->refs = 1;
	r->params = *params;
	r->all = volume_dataops(params->volume);
	r->chain = volume_chain(params->volume);
	r->n_chunks = chunkmap_n_chunks(r->map);
	r->n_to_do = r->n_chunks - chunkmap_n_set(r->map);
	r->retry.fn = retry;
	r->flow.fn = turn_came;
	priority_set_flow(&r->all->priority, &r->flow, params->priority);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->quiet, NULL);
	TAILQ_INIT(&r->units);
	TAILQ_INIT(&r->to_sync);
	TAILQ_INIT(&r->syncing);
	TAILQ_INIT(&r->unplanned);
	TAILQ_INIT(&r->stalled);
	volume_ref(params->volume);
	if (params->point)
		point_ref(params->point);
	image_ref(params->image);
	*ret_restore = r;
	return 0;
}

void restore_ref(struct restore *r)
{
	__atomic_add_fetch(&r->refs, 1, __ATOMIC_RELAXED);
}

/* By a worker: it may take volume and image with it, and waits for a retry. */
static void destroy(struct work *work)
{
	struct restore *r =
		(struct restore *)((char *)work - offsetof(struct restore, load));

	dataop_retry_cancel(r->all, &r->retry);
	priority_cancel_flow(&r->all->priority, &r->flow);
	chunkmap_close(r->map);
	pthread_cond_destroy(&r->quiet);
	pthread_mutex_destroy(&r->lock);
	image_unref(r->params.image);
	point_unref(r->params.point);
	volume_unref(r->params.volume);
	free(r);
}

void restore_unref(struct restore *r)
{
	if (!r || __atomic_sub_fetch(&r->refs, 1, __ATOMIC_ACQ_REL))
		return;
	r->load.fn = destroy;
	workers_submit(r->all->workers, &r->load);
}

uint64_t restore_sequence(const struct restore *r)
{
	return r->params.sequence;
}

/* ---- the plan -------------------------------------------------------------------- */

static int no_data_to_sync(void *opaque)
{
	(void)opaque;
	return 0;
}

int restore_checkpoint(struct restore *r)
{
	return chunkmap_checkpoint(r->map, no_data_to_sync, NULL);
}

int restore_set_bits(struct restore *r, uint64_t chunk, uint64_t n)
{
	int rc = chunkmap_set(r->map, chunk, n);

	while (rc == -EAGAIN) {
		rc = chunkmap_load(r->map, chunk, n);
		if (!rc)
			rc = chunkmap_set(r->map, chunk, n);
	}
	return rc;
}

/* Sets the bits of what does not differ in [chunk, chunk + n), of one page. */
static int plan_page(struct restore *r, uint64_t chunk, uint64_t n)
{
	uint64_t end = chunk + n;
	int rc = 0;

	while (chunk < end && !rc) {
		uint64_t run = end - chunk;
		bool differs = false;

		rc = image_has_private(r->params.image, chunk, &run, &differs);
		if (!rc && !differs)
			rc = point_has_store(r->params.point, chunk, &run, &differs);
		if (!rc && !differs)
			rc = restore_set_bits(r, chunk, run);
		chunk += run;
	}
	return rc;
}

int restore_plan(struct restore *r)
{
	uint64_t n_pages = (r->n_chunks + PAGE_CHUNKS - 1) / PAGE_CHUNKS;
	int rc;

	image_set_restore(r->params.image, r);
	if (r->params.point)
		chain_keep(r->chain, point_sequence(r->params.point), r->params.sequence);
	else
		n_pages = 0; /* all of it may differ */
	rc = image_flush(r->params.image);
	for (uint64_t page = 0; page < n_pages && !rc; page++) {
		uint64_t at = page * PAGE_CHUNKS, left = r->n_chunks - at;

		rc = plan_page(r, at, left < PAGE_CHUNKS ? left : PAGE_CHUNKS);
		if (!rc && page % CHECKPOINT_PAGES == CHECKPOINT_PAGES - 1)
			rc = restore_checkpoint(r);
	}
	if (!rc)
		rc = restore_checkpoint(r);
	r->n_to_do = r->n_chunks - chunkmap_n_set(r->map);
	return rc;
}

/* ---- who waits -------------------------------------------------------------------- */

void restore_take_waiters(struct chain_waiters *from, struct chain_waiters *to)
{
	struct chain_waiter *w;

	TAILQ_FOREACH(w, from, link)
		w->queue = NULL;
	TAILQ_CONCAT(to, from, link);
}

void restore_wake(struct chain_waiters *waiters)
{
	struct chain_waiter *w;

	while ((w = TAILQ_FIRST(waiters))) {
		TAILQ_REMOVE(waiters, w, link);
		w->fn(w);
	}
}

static void queue_locked(struct chain_waiter *w, struct chain_waiters *queue)
{
	TAILQ_INSERT_TAIL(queue, w, link);
	w->queue = queue;
}

bool restore_cancel(struct restore *r, struct chain_waiter *w)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
	struct chain_waiters *queue = move_ptr(w->queue);

	if (queue)
		TAILQ_REMOVE(queue, w, link);
	return queue;
}

void restore_set_error(struct restore *r, const char *fmt, ...)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->error, sizeof(r->error), fmt, ap);
	va_end(ap);
}

/* It looks again at the reaper's next turn. */
static void stall(struct restore *r, struct chain_waiter *w)
{
	pthread_mutex_lock(&r->lock);
	queue_locked(w, &r->stalled);
	pthread_mutex_unlock(&r->lock);
	dataop_retry(r->all, &r->retry);
}

static int load_page(struct restore *r, uint64_t chunk, uint64_t n)
{
	int rc = chunkmap_load(r->map, chunk, n);

	if (rc < 0)
		restore_set_error(r, "the map of the restore cannot be read: %s",
				  strerror(-rc));
	return rc;
}

static void load_for_waiter(struct work *work)
{
	struct chain_waiter *w =
		(struct chain_waiter *)((char *)work -
					offsetof(struct chain_waiter, load));
	struct restore *r = w->restore;

	if (load_page(r, w->chunk, w->n) < 0)
		stall(r, w);
	else
		w->fn(w);
	restore_unref(r);
}

/* ---- who needs what -------------------------------------------------------------- */

static struct unit *of_chunk_locked(struct restore *r, uint64_t chunk, uint64_t *ret_next)
{
	struct unit *u;

	TAILQ_FOREACH(u, &r->units, link) {
		if (u->chunk <= chunk && chunk < u->chunk + u->n)
			return u;
		if (u->chunk > chunk && u->chunk < *ret_next)
			*ret_next = u->chunk;
	}
	return NULL;
}

/* What one look finds. */
struct found {
	struct unit *wait; /* the first that is to be waited for */
	struct unit *made; /* to be started */
	unsigned n_made;
	bool load, no_memory;
};

static void look_locked(struct restore *r, uint64_t chunk, uint64_t end, struct found *f)
{
	while (chunk < end && f->n_made < MAX_MADE) {
		uint64_t next = end;
		struct unit *u = of_chunk_locked(r, chunk, &next);
		int64_t n;
		bool set;

		if (u) {
			f->wait = f->wait ? f->wait : u;
			chunk = u->chunk + u->n;
			continue;
		}
		n = chunkmap_run(r->map, chunk, next - chunk, &set);
		f->load = n < 0;
		if (n < 0)
			return;
		if (!set) {
			n = n < RESTORE_RUN_CHUNKS ? n : RESTORE_RUN_CHUNKS;
			u = unit_new_locked(r, chunk, (uint64_t)n);
			f->no_memory = !u;
			if (!u)
				return;
			u->next = f->made;
			f->made = u;
			f->n_made++;
			f->wait = f->wait ? f->wait : u;
		}
		chunk += (uint64_t)n;
	}
}

/* True: there is nothing to wait for. */
static bool find_or_wait(struct restore *r, uint64_t chunk, uint64_t end,
			 struct chain_waiter *w, struct found *f)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);

	w->queue = NULL;
	if (r->abandoned)
		return true;
	if (!r->planned) {
		queue_locked(w, &r->unplanned);
		return false;
	}
	look_locked(r, chunk, end, f);
	if (f->wait) {
		f->load = f->no_memory = false;
		queue_locked(w, &f->wait->waiters);
	}
	return !f->wait && !f->load && !f->no_memory;
}

bool restore_prepare(struct restore *r, uint64_t chunk, uint64_t n,
		     struct chain_waiter *waiter)
{
	uint64_t end = chunk + n < r->n_chunks ? chunk + n : r->n_chunks;
	struct found f = { 0 };
	struct unit *u;
	bool ready = find_or_wait(r, chunk, end, waiter, &f);

	while ((u = f.made)) {
		f.made = u->next;
		unit_start(u);
	}
	if (f.load) {
		restore_ref(r);
		waiter->restore = r;
		waiter->chunk = chunk;
		waiter->n = end - chunk;
		waiter->load.fn = load_for_waiter;
		workers_submit(r->all->workers, &waiter->load);
	} else if (f.no_memory) {
		stall(r, waiter);
	}
	return ready;
}

/* ---- in the background ----------------------------------------------------------- */

enum next { NEXT_NOTHING, NEXT_UNIT, NEXT_LOAD, NEXT_LATER, NEXT_DONE };

static enum next next_locked(struct restore *r, struct unit **ret_unit)
{
	if (!r->attached || r->loading || r->told || dataops_is_stopping(r->all))
		return NEXT_NOTHING;
	while (r->cursor < r->n_chunks && r->n_background < MAX_BACKGROUND) {
		uint64_t next = r->n_chunks;
		struct unit *u = of_chunk_locked(r, r->cursor, &next);
		int64_t n;
		bool set;

		if (u) {
			r->cursor = u->chunk + u->n;
			continue;
		}
		n = chunkmap_run(r->map, r->cursor, next - r->cursor, &set);
		if (n < 0)
			return NEXT_LOAD;
		if (!set) {
			struct priority_ticket ticket;
			uint64_t bytes;

			n = n < RESTORE_RUN_CHUNKS ? n : RESTORE_RUN_CHUNKS;
			bytes = (uint64_t)n * POOL_CHUNK_SIZE;
			if (!priority_begin(&r->all->priority, &r->flow, bytes, &ticket))
				return NEXT_NOTHING;
			*ret_unit = unit_new_locked(r, r->cursor, (uint64_t)n);
			if (!*ret_unit)
				priority_give_up(&ticket, bytes);
			if (!*ret_unit)
				return NEXT_LATER;
			(*ret_unit)->ticket = ticket;
			(*ret_unit)->background = true;
			r->n_background++;
			r->cursor += (uint64_t)n;
			return NEXT_UNIT;
		}
		r->cursor += (uint64_t)n;
	}
	if (r->cursor < r->n_chunks || !TAILQ_EMPTY(&r->units))
		return NEXT_NOTHING;
	if (chunkmap_n_set(r->map) < r->n_chunks) {
		r->cursor = 0;
		return next_locked(r, ret_unit);
	}
	r->told = r->in_watcher = true;
	return NEXT_DONE;
}

static void load_work(struct work *work)
{
	struct restore *r =
		(struct restore *)((char *)work - offsetof(struct restore, load));
	uint64_t rest = r->n_chunks - r->cursor;
	int rc = load_page(r, r->cursor, rest < PAGE_CHUNKS ? rest : PAGE_CHUNKS);

	pthread_mutex_lock(&r->lock);
	r->loading = false;
	pthread_mutex_unlock(&r->lock);
	if (rc < 0)
		dataop_retry(r->all, &r->retry);
	else
		restore_background(r);
	restore_unref(r);
}

static void tell_done(struct restore *r)
{
	r->params.watcher.done(r->params.watcher.opaque);
	pthread_mutex_lock(&r->lock);
	r->in_watcher = false;
	pthread_cond_broadcast(&r->quiet);
	pthread_mutex_unlock(&r->lock);
}

void restore_background(struct restore *r)
{
	enum next next;

	do {
		struct unit *u = NULL;

		pthread_mutex_lock(&r->lock);
		next = next_locked(r, &u);
		if (next == NEXT_LOAD)
			r->loading = true;
		pthread_mutex_unlock(&r->lock);
		if (next == NEXT_UNIT) {
			unit_start(u);
		} else if (next == NEXT_LOAD) {
			restore_ref(r);
			r->load.fn = load_work;
			workers_submit(r->all->workers, &r->load);
		} else if (next == NEXT_LATER) {
			dataop_retry(r->all, &r->retry);
		} else if (next == NEXT_DONE) {
			tell_done(r);
		}
	} while (next == NEXT_UNIT);
}

void restore_resume(struct restore *r)
{
	image_set_restore(r->params.image, r);
}

/* What waits for the plan, or for better times, looks again. */
static void release(struct restore *r)
{
	struct chain_waiters waiters = TAILQ_HEAD_INITIALIZER(waiters);

	pthread_mutex_lock(&r->lock);
	r->planned = true;
	restore_take_waiters(&r->unplanned, &waiters);
	restore_take_waiters(&r->stalled, &waiters);
	pthread_mutex_unlock(&r->lock);
	restore_wake(&waiters);
}

void restore_attach(struct restore *r)
{
	pthread_mutex_lock(&r->lock);
	r->attached = true;
	pthread_mutex_unlock(&r->lock);
	volume_set_restore(r->params.volume, r);
	release(r);
	restore_background(r);
}

void restore_detach(struct restore *r)
{
	bool was_attached;

	pthread_mutex_lock(&r->lock);
	was_attached = r->attached;
	r->attached = false;
	r->abandoned = !was_attached;
	while (r->in_watcher)
		pthread_cond_wait(&r->quiet, &r->lock);
	pthread_mutex_unlock(&r->lock);
	image_set_restore(r->params.image, NULL);
	if (was_attached)
		volume_set_restore(r->params.volume, NULL);
	release(r);
	/* One that goes on after the next start reads what is kept. */
	if (r->params.point && (!was_attached || chunkmap_n_set(r->map) == r->n_chunks))
		chain_keep(r->chain, 0, 0);
}

/* ---- again ----------------------------------------------------------------------- */

static struct unit *take_lost(struct restore *r)
{
	bool ready = volume_is_ready(r->params.volume),
	     stopping = dataops_is_stopping(r->all);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
	struct unit *u, *list = NULL;

	TAILQ_FOREACH(u, &r->units, link) {
		if (!u->lost || (!ready && !stopping))
			continue;
		u->lost = false;
		u->next = list;
		list = u;
	}
	return list;
}

/* Who is to look again: who can wait for the device in a better place, too. */
static void take_waiters(struct restore *r, struct chain_waiters *ret_waiters)
{
	bool ready = volume_is_ready(r->params.volume);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
	struct unit *u;

	restore_take_waiters(&r->stalled, ret_waiters);
	TAILQ_FOREACH(u, &r->units, link)
		if (!ready)
			restore_take_waiters(&u->waiters, ret_waiters);
}

void restore_kick(struct restore *r)
{
	struct chain_waiters waiters = TAILQ_HEAD_INITIALIZER(waiters);
	bool stopping = dataops_is_stopping(r->all);
	struct unit *u, *next;

	restore_ref(r);
	for (u = take_lost(r); u; u = next) {
		next = u->next;
		/* Those who wait have been answered, and do not look again. */
		if (stopping)
			unit_end(u);
		else
			unit_start(u);
	}
	take_waiters(r, &waiters);
	restore_wake(&waiters);
	restore_background(r);
	restore_unref(r);
}

void restore_progress(struct restore *r, struct restore_progress *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
	uint64_t left = r->n_chunks - chunkmap_n_set(r->map);

	*ret = (struct restore_progress){
		.bytes_total = r->n_to_do * POOL_CHUNK_SIZE,
		.bytes_copied = (r->n_to_do - left - r->n_same) * POOL_CHUNK_SIZE,
		.bytes_skipped = r->n_same * POOL_CHUNK_SIZE,
	};
	memcpy(ret->error, r->error, sizeof(ret->error));
}
