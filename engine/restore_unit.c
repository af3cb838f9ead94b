/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A `unit` is a run of chunks on its way back; while it is in restore->units nobody else
 * copies them, and who needs them waits in its waiters:
 *
 *   READ     from the image's private store, else from the stores of points   (a worker)
 *   COMPARE  without a point: with what the volume has; what is the same is neither
 *            preserved nor written, but synced as what is written: the volume's device may
 *            have it in its cache only                                         (a worker)
 *   PREPARE  what is replaced is preserved for points older than the restore
 *   WRITE    to the device
 *   SYNC     in to_sync; one group at a time: SYNCHRONIZE CACHE, then the bits are set
 *            and the map is made durable (a worker), so that a bit never speaks of what
 *            the target may lose
 *   end      the waiters look again; in the background the next unit is made
 *
 * A lost connection, or a device or store that fails, sends it back to READ at the next
 * kick, or at the reaper's next turn; its waiters look again there and then, so that who
 * can wait in a better place does.  A login between its writes and the end of its sync
 * does the same: the target may have lost its cache.
 *
 * No change of a user can be under way to a chunk that was not copied back, so a unit
 * needs no place among the volume's changes.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "engine/restore_int.h"

/* ---- its beginning and end ------------------------------------------------------- */

struct unit *unit_new_locked(struct restore *r, uint64_t chunk, uint64_t n)
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
	TAILQ_INIT(&u->waiters);
	TAILQ_INSERT_TAIL(&r->units, u, link);
	return u;
}

void unit_end(struct unit *u)
{
	struct chain_waiters waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct restore *r = u->restore;

	priority_end(&u->ticket);
	pthread_mutex_lock(&r->lock);
	TAILQ_REMOVE(&r->units, u, link);
	r->n_background -= u->background;
	restore_take_waiters(&u->waiters, &waiters);
	pthread_mutex_unlock(&r->lock);
	free(u->buf);
	free(u->old);
	free(u);
	restore_wake(&waiters);
	restore_background(r);
	restore_unref(r);
}

/* It is tried again, from the start, and may be gone at once. */
static void unit_lost(struct unit *u, int error, const char *what)
{
	struct chain_waiters waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct restore *r = u->restore;

	restore_ref(r);
	if (error != -ENOTCONN)
		restore_set_error(r, "%s: bytes from %" PRIu64 " on: %s", what,
				  u->chunk * POOL_CHUNK_SIZE, strerror(-error));
	priority_end(&u->ticket);
	pthread_mutex_lock(&r->lock);
	u->lost = true;
	restore_take_waiters(&u->waiters, &waiters);
	pthread_mutex_unlock(&r->lock);
	if (dataops_is_stopping(r->all))
		restore_kick(r);
	else
		dataop_retry(r->all, &r->retry);
	restore_wake(&waiters);
	restore_unref(r);
}

/* ---- SYNC ------------------------------------------------------------------------ */

static void sync_next(struct restore *r);

static void count_same(struct unit *u)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&u->restore->lock);

	u->restore->n_same += (unsigned)__builtin_popcount(u->same);
}

/* The group that was synced ends, or begins anew. */
static void end_group(struct restore *r, int error, const char *what)
{
	struct unit_list group = TAILQ_HEAD_INITIALIZER(group);
	struct unit *u;

	pthread_mutex_lock(&r->lock);
	TAILQ_CONCAT(&group, &r->syncing, sync_link);
	r->is_syncing = false;
	if (!error)
		*r->error = '\0';
	pthread_mutex_unlock(&r->lock);
	while ((u = TAILQ_FIRST(&group))) {
		TAILQ_REMOVE(&group, u, sync_link);
		if (!error)
			count_same(u);
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

	TAILQ_FOREACH(u, &r->syncing, sync_link)
		if (!rc)
			rc = restore_set_bits(r, u->chunk, u->n);
	if (!rc)
		rc = restore_checkpoint(r);
	end_group(r, rc, "the map of the restore");
}

/* Those that were sent before the device's last login. */
static void drop_stale(struct restore *r)
{
	unsigned logins = volume_logins(r->params.volume);
	struct unit *u, *next;

	for (u = TAILQ_FIRST(&r->syncing); u; u = next) {
		next = TAILQ_NEXT(u, sync_link);
		if (u->logins == logins)
			continue;
		TAILQ_REMOVE(&r->syncing, u, sync_link);
		unit_lost(u, -ENOTCONN, "");
	}
}

static void flushed(struct bd_req *req, int error)
{
	struct restore *r = req->opaque;

	if (error) {
		end_group(r, error, "the source's cache");
		return;
	}
	drop_stale(r);
	r->sync_work.fn = sync_work;
	workers_submit(r->all->workers, &r->sync_work);
}

/* Starts with what is there, unless a group is under way. */
static void sync_next(struct restore *r)
{
	bool start;

	pthread_mutex_lock(&r->lock);
	start = !r->is_syncing && !TAILQ_EMPTY(&r->to_sync);
	if (start) {
		TAILQ_CONCAT(&r->syncing, &r->to_sync, sync_link);
		r->is_syncing = true;
	}
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
	uint64_t at;

	/* With chunks that are the same, no part is of two chunks. */
	do
		at = __atomic_fetch_add(&u->next_part, u->part, __ATOMIC_RELAXED);
	while (at < u->size && u->same >> (at / POOL_CHUNK_SIZE) & 1);
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
	restore_ref(r);
	pthread_mutex_lock(&r->lock);
	TAILQ_INSERT_TAIL(&r->to_sync, u, sync_link);
	pthread_mutex_unlock(&r->lock);
	sync_next(r);
	restore_unref(r);
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

static uint64_t part_of(const struct unit *u, uint64_t preferred)
{
	uint64_t part = POOL_CHUNK_SIZE;

	if (!u->same)
		return preferred;
	while (part > preferred)
		part /= 2;
	return part;
}

static void unit_write(struct unit *u)
{
	struct restore *r = u->restore;
	struct volume *v = r->params.volume;
	struct bd_geometry g;
	unsigned n = 0;

	volume_get_geometry(v, &g);
	/* What was compared counts of that session only. */
	if (r->params.point)
		u->logins = volume_logins(v);
	u->part = part_of(u, g.known ? g.opt_transfer : POOL_CHUNK_SIZE);
	u->next_part = 0;
	u->error = 0;
	while (n < RESTORE_PARTS && next_part(u, &u->parts[n]))
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

static bool is_same(const struct unit *u, uint64_t chunk)
{
	return u->same >> (chunk - u->chunk) & 1;
}

static void unit_prepared(struct unit *u)
{
	if (__atomic_sub_fetch(&u->n_preparing, 1, __ATOMIC_ACQ_REL))
		return;
	if (__atomic_load_n(&u->cut, __ATOMIC_RELAXED))
		unit_lost(u, -ENOTCONN, "the source");
	else
		unit_write(u);
}

static void run_prepare(struct unit_run *run)
{
	struct unit *u = run->unit;
	struct restore *r = u->restore;

	/* What is to be preserved may be lost by now, and is not tried again. */
	if (dataops_is_stopping(r->all))
		__atomic_store_n(&u->cut, true, __ATOMIC_RELAXED);
	else if (!chain_prepare(r->chain, run->chunk, run->n, r->params.sequence,
				&run->waiter))
		return;
	unit_prepared(u);
}

static void prepared(struct chain_waiter *w)
{
	run_prepare((struct unit_run *)((char *)w - offsetof(struct unit_run, waiter)));
}

/* The runs of what is not the same. */
static unsigned find_runs(struct unit *u)
{
	uint64_t chunk = u->chunk, end = u->chunk + u->n;
	unsigned n = 0;

	for (; chunk < end; chunk++) {
		struct unit_run *run = &u->runs[n];

		if (is_same(u, chunk))
			continue;
		*run = (struct unit_run){ .unit = u, .chunk = chunk };
		run->waiter.fn = prepared;
		while (chunk < end && !is_same(u, chunk))
			chunk++;
		run->n = chunk - run->chunk;
		n++;
	}
	return n;
}

static void unit_prepare(struct unit *u)
{
	unsigned n = find_runs(u);

	u->cut = false;
	/* One more, for this function. */
	u->n_preparing = n + 1;
	for (unsigned i = 0; i < n; i++)
		run_prepare(&u->runs[i]);
	unit_prepared(u);
}

/* ---- COMPARE --------------------------------------------------------------------- */

static void compare_work(struct work *work)
{
	struct unit *u = (struct unit *)((char *)work - offsetof(struct unit, work));

	for (uint64_t i = 0; i < u->n; i++) {
		size_t at = i * POOL_CHUNK_SIZE, left = u->size - at;
		size_t len = left < POOL_CHUNK_SIZE ? left : POOL_CHUNK_SIZE;

		if (!memcmp(u->old + at, u->buf + at, len))
			u->same |= UINT32_C(1) << i;
	}
	free(u->old);
	u->old = NULL;
	unit_prepare(u);
}

static void fetched(struct volume_fetch *fetch, int error)
{
	struct unit *u = fetch->opaque;

	if (error == -ENOTCONN) {
		unit_lost(u, error, "the source");
		return;
	}
	/* What cannot be read is written. */
	if (error) {
		unit_prepare(u);
		return;
	}
	u->work.fn = compare_work;
	workers_submit(u->restore->all->workers, &u->work);
}

static void unit_compare(struct unit *u)
{
	struct restore *r = u->restore;

	if (!u->old)
		u->old = aligned_alloc(4096, (u->size + 4095) & ~(size_t)4095);
	if (!u->old) {
		unit_lost(u, -ENOMEM, "the source");
		return;
	}
	u->logins = volume_logins(r->params.volume);
	u->fetch = (struct volume_fetch){
		.volume = r->params.volume,
		.offset = u->chunk * POOL_CHUNK_SIZE,
		.length = u->size,
		.buf = u->old,
		.done = fetched,
		.opaque = u,
	};
	volume_fetch(&u->fetch);
}

/* ---- READ ------------------------------------------------------------------------ */

static int read_chunk(struct unit *u, uint64_t chunk)
{
	const struct restore_params *p = &u->restore->params;
	char *to = u->buf + (chunk - u->chunk) * POOL_CHUNK_SIZE;
	int rc = image_read_private(p->image, chunk, to);

	if (!rc)
		rc = !p->point ? -ENODATA :
				 point_read_held(p->point, chunk, p->sequence, to);
	return rc < 0 ? rc : 0;
}

static void read_work(struct work *work)
{
	struct unit *u = (struct unit *)((char *)work - offsetof(struct unit, work));
	int rc = 0;

	if (!u->buf)
		u->buf = aligned_alloc(4096, (u->size + 4095) & ~(size_t)4095);
	if (!u->buf)
		rc = -ENOMEM;
	for (uint64_t i = 0; i < u->n && !rc; i++)
		rc = read_chunk(u, u->chunk + i);
	if (rc)
		unit_lost(u, rc, "the image");
	else if (u->restore->params.point)
		unit_prepare(u);
	else
		unit_compare(u);
}

void unit_start(struct unit *u)
{
	u->same = 0;
	u->work.fn = read_work;
	workers_submit(u->restore->all->workers, &u->work);
}
