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

static void prepared(struct chain_waiter *waiter);

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
	u->prepared.fn = prepared;
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

static void unit_write(struct unit *u)
{
	struct restore *r = u->restore;
	struct volume *v = r->params.volume;
	struct bd_geometry g;
	unsigned n = 0;

	volume_get_geometry(v, &g);
	u->logins = volume_logins(v);
	u->part = g.known ? g.opt_transfer : POOL_CHUNK_SIZE;
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

static int read_chunk(struct unit *u, uint64_t chunk)
{
	const struct restore_params *p = &u->restore->params;
	char *to = u->buf + (chunk - u->chunk) * POOL_CHUNK_SIZE;
	int rc = image_read_private(p->image, chunk, to);

	if (!rc)
		rc = point_read_held(p->point, chunk, p->sequence, to);
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
	else
		unit_prepare(u);
}

void unit_start(struct unit *u)
{
	u->work.fn = read_work;
	workers_submit(u->restore->all->workers, &u->work);
}
