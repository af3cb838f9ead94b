/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A `unit` is a run of chunks on its way back; while it is in restore->units nobody else
 * copies them, and who needs them waits in its waiters:
 *
 *   READ     from the image's private store, else from the stores of points   (a worker)
 *   PREPARE  what is replaced is preserved for points older than the restore
 *   WRITE    to the device
 *   SYNC     in to_sync; one group at a time: SYNCHRONIZE CACHE, then the bits are set
 *            and the map is made durable (a worker), so that a bit never speaks of what
 *            the target may lose
 *   end      the waiters look again; in the background the next unit is made
 *
 * A lost connection, or a device or store that fails, sends it back to READ at the next
 * kick, or a second later.  No change of a user can be under way to a chunk that was not
 * copied back, so a unit needs no place among the volume's changes.
 *
 * Locks: r->lock, then a chain's, then a map's.
 */

#include "engine/restore.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "engine/chunkmap.h"
#include "engine/volume_int.h"

enum {
	RUN_CHUNKS = (1 << 20) / POOL_CHUNK_SIZE,
	MAX_BACKGROUND = 4, /* units at once that nobody waits for */
	PARTS = 4,
	PAGE_CHUNKS = 32768,
};

TAILQ_HEAD(waiter_list, chain_waiter);

struct unit {
	struct restore *restore; /* with a reference */
	uint64_t chunk, n;
	char *buf;
	size_t size;
	bool background;
	struct work work;
	struct chain_waiter prepared;

	/* What is at the device. */
	uint64_t part, next_part; /* the second atomic */
	unsigned n_pending;       /* atomic */
	int error;                /* atomic */
	struct bd_req parts[PARTS];

	/* r->lock */
	TAILQ_ENTRY(unit) link;
	TAILQ_ENTRY(unit) sync_link;
	struct unit *next;
	bool lost;
	struct waiter_list waiters;
};

TAILQ_HEAD(unit_list, unit);

struct restore {
	int refs; /* atomic */
	struct restore_params params;
	struct dataops *all;
	struct chain *chain;
	struct chunkmap *map;
	uint64_t n_chunks, n_to_do; /* chunks, as of the opening or the plan */
	struct dataop_retry retry;

	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t quiet; /* in_watcher became false */
	struct unit_list units, to_sync, syncing;
	struct bd_req flush;
	struct work sync_work;
	unsigned n_background;
	uint64_t cursor;
	struct waiter_list unplanned; /* until the plan is made */
	bool planned, attached, loading, told, in_watcher;
	struct work load;
	char error[RESTORE_REASON_MAX];
};

static void background(struct restore *r);

/* ---- life ------------------------------------------------------------------------ */

static void retry(struct dataop_retry *retry)
{
	restore_kick((struct restore *)((char *)retry - offsetof(struct restore, retry)));
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
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->quiet, NULL);
	TAILQ_INIT(&r->units);
	TAILQ_INIT(&r->to_sync);
	TAILQ_INIT(&r->syncing);
	TAILQ_INIT(&r->unplanned);
	volume_ref(params->volume);
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
	struct restore *r = (struct restore *)((char *)work - offsetof(struct restore, load));

	dataop_retry_cancel(r->all, &r->retry);
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

static int checkpoint_map(struct chunkmap *map)
{
	return chunkmap_checkpoint(map, no_data_to_sync, NULL);
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
			rc = chunkmap_set(r->map, chunk, run);
		chunk += run;
	}
	return rc;
}

int restore_plan(struct restore *r)
{
	int rc = 0;

	image_set_restore(r->params.image, r);

	for (uint64_t at = 0; at < r->n_chunks && !rc; at += PAGE_CHUNKS) {
		uint64_t n = r->n_chunks - at < PAGE_CHUNKS ? r->n_chunks - at : PAGE_CHUNKS;

		rc = chunkmap_load(r->map, at, n);
		if (!rc)
			rc = plan_page(r, at, n);
	}
	if (!rc)
		rc = checkpoint_map(r->map);
	r->n_to_do = r->n_chunks - chunkmap_n_set(r->map);
	return rc;
}

/* ---- the end of a unit ----------------------------------------------------------- */

static void unit_end(struct unit *u)
{
	struct waiter_list waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct restore *r = u->restore;
	struct chain_waiter *w;

	pthread_mutex_lock(&r->lock);
	TAILQ_REMOVE(&r->units, u, link);
	r->n_background -= u->background;
	TAILQ_CONCAT(&waiters, &u->waiters, link);
	pthread_mutex_unlock(&r->lock);
	while ((w = TAILQ_FIRST(&waiters))) {
		TAILQ_REMOVE(&waiters, w, link);
		w->fn(w);
	}
	free(u->buf);
	free(u);
	background(r);
	restore_unref(r);
}

/* It is tried again, from the start. */
static void unit_lost(struct unit *u, int error, const char *what)
{
	struct restore *r = u->restore;

	pthread_mutex_lock(&r->lock);
	u->lost = true;
	if (error != -ENOTCONN)
		snprintf(r->error, sizeof(r->error), "%s: bytes from %" PRIu64 " on: %s",
			 what, u->chunk * POOL_CHUNK_SIZE, strerror(-error));
	pthread_mutex_unlock(&r->lock);
	/* Those who wait have been answered, and do not look again. */
	if (dataops_is_stopping(r->all))
		restore_kick(r);
	else
		dataop_retry(r->all, &r->retry);
}

/* ---- SYNC ------------------------------------------------------------------------ */

static void sync_next(struct restore *r);

static int set_bits(struct restore *r, const struct unit *u)
{
	int rc = chunkmap_set(r->map, u->chunk, u->n);

	while (rc == -EAGAIN) {
		rc = chunkmap_load(r->map, u->chunk, u->n);
		if (!rc)
			rc = chunkmap_set(r->map, u->chunk, u->n);
	}
	return rc;
}

/* The group that was synced ends, or begins anew. */
static void end_group(struct restore *r, int error, const char *what)
{
	struct unit_list group = TAILQ_HEAD_INITIALIZER(group);
	struct unit *u;

	pthread_mutex_lock(&r->lock);
	TAILQ_CONCAT(&group, &r->syncing, sync_link);
	if (!error)
		*r->error = '\0';
	pthread_mutex_unlock(&r->lock);
	while ((u = TAILQ_FIRST(&group))) {
		TAILQ_REMOVE(&group, u, sync_link);
		if (error)
			unit_lost(u, error, what);
		else
			unit_end(u);
	}
	sync_next(r);
	restore_unref(r);
}

static void sync_work(struct work *work)
{
	struct restore *r =
		(struct restore *)((char *)work - offsetof(struct restore, sync_work));
	struct unit *u;
	int rc = 0;

	/* Nobody else touches the group. */
	TAILQ_FOREACH (u, &r->syncing, sync_link)
		if (!rc)
			rc = set_bits(r, u);
	if (!rc)
		rc = checkpoint_map(r->map);
	end_group(r, rc, "the map of the restore");
}

static void flushed(struct bd_req *req, int error)
{
	struct restore *r = req->opaque;

	if (error) {
		end_group(r, error, "the source's cache");
		return;
	}
	r->sync_work.fn = sync_work;
	workers_submit(r->all->workers, &r->sync_work);
}

/* Starts with what is there, unless a group is under way. */
static void sync_next(struct restore *r)
{
	bool start;

	pthread_mutex_lock(&r->lock);
	start = TAILQ_EMPTY(&r->syncing) && !TAILQ_EMPTY(&r->to_sync);
	if (start)
		TAILQ_CONCAT(&r->syncing, &r->to_sync, sync_link);
	pthread_mutex_unlock(&r->lock);
	if (!start)
		return;
	restore_ref(r);
	r->flush = (struct bd_req){ .op = BD_FLUSH, .done = flushed, .opaque = r };
	volume_submit(r->params.volume, &r->flush);
}

/* ---- WRITE ----------------------------------------------------------------------- */

static void part_done(struct bd_req *req, int error);

static bool next_part(struct unit *u, struct bd_req *req)
{
	uint64_t at = __atomic_fetch_add(&u->next_part, u->part, __ATOMIC_RELAXED);

	if (at >= u->size)
		return false;
	*req = (struct bd_req){
		.op = BD_WRITE,
		.offset = u->chunk * POOL_CHUNK_SIZE + at,
		.length = u->size - at < u->part ? u->size - at : u->part,
		.buf = u->buf + at,
		.done = part_done,
		.opaque = u,
	};
	return true;
}

static void part_ended(struct unit *u)
{
	struct restore *r = u->restore;

	if (__atomic_sub_fetch(&u->n_pending, 1, __ATOMIC_ACQ_REL))
		return;
	if (u->error) {
		unit_lost(u, u->error, "the source");
		return;
	}
	pthread_mutex_lock(&r->lock);
	TAILQ_INSERT_TAIL(&r->to_sync, u, sync_link);
	pthread_mutex_unlock(&r->lock);
	sync_next(r);
}

static void part_done(struct bd_req *req, int error)
{
	struct unit *u = req->opaque;
	int none = 0;

	if (error)
		__atomic_compare_exchange_n(&u->error, &none, error, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&u->error, __ATOMIC_RELAXED) && next_part(u, req))
		volume_submit(u->restore->params.volume, req);
	else
		part_ended(u);
}

static void unit_write(struct unit *u)
{
	struct restore *r = u->restore;
	struct volume *v = r->params.volume;
	struct bd_geometry g;
	unsigned n = 0;

	volume_get_geometry(v, &g);
	u->part = g.known ? g.opt_transfer : POOL_CHUNK_SIZE;
	u->next_part = 0;
	u->error = 0;
	while (n < PARTS && next_part(u, &u->parts[n]))
		n++;
	restore_ref(r);
	/* One more, for this function: the unit stays until all were submitted. */
	u->n_pending = n + 1;
	for (unsigned i = 0; i < n; i++)
		volume_submit(v, &u->parts[i]);
	part_ended(u);
	restore_unref(r);
}

/* ---- PREPARE --------------------------------------------------------------------- */

static void unit_prepare(struct unit *u)
{
	struct restore *r = u->restore;

	/* What is to be preserved may be lost by now, and is not tried again. */
	if (dataops_is_stopping(r->all))
		unit_lost(u, -ENOTCONN, "the source");
	else if (chain_prepare(r->chain, u->chunk, u->n, r->params.sequence,
			       &u->prepared))
		unit_write(u);
}

static void prepared(struct chain_waiter *w)
{
	unit_prepare((struct unit *)((char *)w - offsetof(struct unit, prepared)));
}

/* ---- READ ------------------------------------------------------------------------ */

static void read_work(struct work *work)
{
	struct unit *u = (struct unit *)((char *)work - offsetof(struct unit, work));
	struct restore *r = u->restore;
	int rc = 0;

	if (!u->buf)
		u->buf = aligned_alloc(4096, (u->size + 4095) & ~(size_t)4095);
	if (!u->buf)
		rc = -ENOMEM;
	for (uint64_t i = 0; i < u->n && !rc; i++) {
		char *to = u->buf + i * POOL_CHUNK_SIZE;

		rc = image_read_private(r->params.image, u->chunk + i, to);
		if (!rc)
			rc = point_read_held(r->params.point, u->chunk + i,
					     r->params.sequence, to);
		else if (rc > 0)
			rc = 0;
	}
	if (rc)
		unit_lost(u, rc, "the image");
	else
		unit_prepare(u);
}

static void unit_start(struct unit *u)
{
	u->work.fn = read_work;
	workers_submit(u->restore->all->workers, &u->work);
}

/* ---- who needs what -------------------------------------------------------------- */

static struct unit *of_chunk_locked(struct restore *r, uint64_t chunk, uint64_t *ret_next)
{
	struct unit *u;

	TAILQ_FOREACH (u, &r->units, link) {
		if (u->chunk <= chunk && chunk < u->chunk + u->n)
			return u;
		if (u->chunk > chunk && u->chunk < *ret_next)
			*ret_next = u->chunk;
	}
	return NULL;
}

static struct unit *new_locked(struct restore *r, uint64_t chunk, uint64_t n)
{
	uint64_t from = chunk * POOL_CHUNK_SIZE, to = (chunk + n) * POOL_CHUNK_SIZE;
	struct unit *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	restore_ref(r);
	u->restore = r;
	u->chunk = chunk;
	u->n = n;
	u->size = (to < r->params.size ? to : r->params.size) - from;
	u->prepared.fn = prepared;
	TAILQ_INIT(&u->waiters);
	TAILQ_INSERT_TAIL(&r->units, u, link);
	return u;
}

static void load_for_waiter(struct work *work)
{
	struct chain_waiter *w =
		(struct chain_waiter *)((char *)work - offsetof(struct chain_waiter, load));
	struct restore *r = w->restore;

	if (chunkmap_load(r->map, w->chunk, w->n) < 0)
		log_error("the map of a restore cannot be read");
	w->fn(w);
	restore_unref(r);
}

/* What one look finds: units to wait for and to start; false: a page is missing. */
static bool look_locked(struct restore *r, uint64_t chunk, uint64_t end,
			struct unit **ret_wait, struct unit **ret_made)
{
	while (chunk < end) {
		uint64_t next = end;
		struct unit *u = of_chunk_locked(r, chunk, &next);
		int64_t n;
		bool set;

		if (u) {
			*ret_wait = *ret_wait ? *ret_wait : u;
			chunk = u->chunk + u->n;
			continue;
		}
		n = chunkmap_run(r->map, chunk, next - chunk, &set);
		if (n < 0)
			return false;
		if (!set) {
			n = n < RUN_CHUNKS ? n : RUN_CHUNKS;
			u = new_locked(r, chunk, (uint64_t)n);
			if (!u)
				return false;
			u->next = *ret_made;
			*ret_made = u;
			*ret_wait = *ret_wait ? *ret_wait : u;
		}
		chunk += (uint64_t)n;
	}
	return true;
}

bool restore_prepare(struct restore *r, uint64_t chunk, uint64_t n,
		     struct chain_waiter *waiter)
{
	uint64_t end = chunk + n < r->n_chunks ? chunk + n : r->n_chunks;
	struct unit *wait = NULL, *made = NULL, *u;
	bool load;

	pthread_mutex_lock(&r->lock);
	if (!r->planned) {
		TAILQ_INSERT_TAIL(&r->unplanned, waiter, link);
		pthread_mutex_unlock(&r->lock);
		return false;
	}
	load = !look_locked(r, chunk, end, &wait, &made) && !wait;
	if (wait)
		TAILQ_INSERT_TAIL(&wait->waiters, waiter, link);
	if (load) {
		restore_ref(r);
		waiter->restore = r;
		waiter->chunk = chunk;
		waiter->n = end - chunk;
		waiter->load.fn = load_for_waiter;
	}
	pthread_mutex_unlock(&r->lock);
	while ((u = made)) {
		made = u->next;
		unit_start(u);
	}
	if (load)
		workers_submit(r->all->workers, &waiter->load);
	return !wait && !load;
}

/* ---- in the background ----------------------------------------------------------- */

enum next { NEXT_NOTHING, NEXT_UNIT, NEXT_LOAD, NEXT_DONE };

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
			n = n < RUN_CHUNKS ? n : RUN_CHUNKS;
			*ret_unit = new_locked(r, r->cursor, (uint64_t)n);
			if (!*ret_unit)
				return NEXT_NOTHING;
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
	struct restore *r = (struct restore *)((char *)work - offsetof(struct restore, load));
	uint64_t rest = r->n_chunks - r->cursor;

	if (chunkmap_load(r->map, r->cursor, rest < PAGE_CHUNKS ? rest : PAGE_CHUNKS) < 0)
		log_error("the map of a restore cannot be read");
	pthread_mutex_lock(&r->lock);
	r->loading = false;
	pthread_mutex_unlock(&r->lock);
	background(r);
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

/* Makes the units that there is room for. */
static void background(struct restore *r)
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
		} else if (next == NEXT_DONE) {
			tell_done(r);
		}
	} while (next == NEXT_UNIT);
}

void restore_resume(struct restore *r)
{
	image_set_restore(r->params.image, r);
}

/* What waits for the plan goes on. */
static void release_unplanned(struct restore *r)
{
	struct waiter_list waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct chain_waiter *w;

	pthread_mutex_lock(&r->lock);
	r->planned = true;
	TAILQ_CONCAT(&waiters, &r->unplanned, link);
	pthread_mutex_unlock(&r->lock);
	while ((w = TAILQ_FIRST(&waiters))) {
		TAILQ_REMOVE(&waiters, w, link);
		w->fn(w);
	}
}

void restore_attach(struct restore *r)
{
	pthread_mutex_lock(&r->lock);
	r->attached = true;
	pthread_mutex_unlock(&r->lock);
	volume_set_restore(r->params.volume, r);
	image_set_restore(r->params.image, r);
	release_unplanned(r);
	background(r);
}

void restore_detach(struct restore *r)
{
	bool was_attached;

	pthread_mutex_lock(&r->lock);
	was_attached = r->attached;
	r->attached = false;
	while (r->in_watcher)
		pthread_cond_wait(&r->quiet, &r->lock);
	pthread_mutex_unlock(&r->lock);
	image_set_restore(r->params.image, NULL);
	if (was_attached)
		volume_set_restore(r->params.volume, NULL);
	release_unplanned(r);
}

/* ---- again ----------------------------------------------------------------------- */

static struct unit *take_lost(struct restore *r)
{
	bool ready = volume_is_ready(r->params.volume), stopping = dataops_is_stopping(r->all);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
	struct unit *u, *list = NULL;

	TAILQ_FOREACH (u, &r->units, link) {
		if (!u->lost || (!ready && !stopping))
			continue;
		u->lost = false;
		u->next = list;
		list = u;
	}
	return list;
}

void restore_kick(struct restore *r)
{
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
	background(r);
	restore_unref(r);
}

void restore_progress(struct restore *r, struct restore_progress *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
	uint64_t left = r->n_chunks - chunkmap_n_set(r->map);

	*ret = (struct restore_progress){
		.bytes_total = r->n_to_do * POOL_CHUNK_SIZE,
		.bytes_copied = (r->n_to_do - left) * POOL_CHUNK_SIZE,
	};
	memcpy(ret->error, r->error, sizeof(ret->error));
}
