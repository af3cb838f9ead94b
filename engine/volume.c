/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The life of a volume, its device, who listens to it, and fetches.
 *
 * `submitting` counts the calls that are inside the device's submit function;
 * volume_detach() waits for none, so that the device may be closed.
 *
 * Listeners are called by one thread at a time, with no lock held: what they
 * submit may lose the connection there and then, which is another kick, from
 * within or by another thread.  It makes the first one go round once more.
 * volume_unlisten() waits for the end of that.
 */

#include <errno.h>
#include <stdlib.h>

#include "conf/cleanup.h"
#include "engine/chain.h"
#include "engine/restore.h"
#include "engine/volume_int.h"

enum { FETCH_PART = 256 << 10 };

int volume_new(struct dataops *dataops, struct volume **ret_volume)
{
	struct volume *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	v->all = dataops;
	v->refs = 1;
	r = chain_new(dataops, v, &v->chain);
	if (r < 0) {
		free(v);
		return r;
	}
	pthread_mutex_init(&v->kick_lock, NULL);
	pthread_cond_init(&v->kicked, NULL);
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->idle, NULL);
	TAILQ_INIT(&v->listeners);
	volume_reads_init(v);
	volume_changes_init(v);
	*ret_volume = v;
	return 0;
}

void volume_ref(struct volume *v)
{
	__atomic_add_fetch(&v->refs, 1, __ATOMIC_RELAXED);
}

/* By a worker: the last reference may be dropped inside calls for whose end this
 * waits. */
static void destroy(struct work *work)
{
	struct volume *v =
		(struct volume *)((char *)work - offsetof(struct volume, destroy));

	volume_reads_done(v);
	volume_changes_done(v);
	chain_free(v->chain);
	pthread_cond_destroy(&v->idle);
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->kicked);
	pthread_mutex_destroy(&v->kick_lock);
	free(v);
}

void volume_unref(struct volume *v)
{
	if (!v || __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL))
		return;
	v->destroy.fn = destroy;
	workers_submit(v->all->workers, &v->destroy);
}

struct chain *volume_chain(struct volume *v)
{
	return v->chain;
}

struct dataops *volume_dataops(struct volume *v)
{
	return v->all;
}

struct restore *volume_get_restore(struct volume *v)
{
	if (!__atomic_load_n(&v->restore, __ATOMIC_ACQUIRE))
		return NULL;
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);
	if (v->restore)
		restore_ref(v->restore);
	return v->restore;
}

bool volume_is_restoring(const struct volume *v)
{
	return __atomic_load_n(&v->restore, __ATOMIC_ACQUIRE);
}

void volume_set_restore(struct volume *v, struct restore *restore)
{
	struct restore *before;

	if (restore)
		restore_ref(restore);
	pthread_mutex_lock(&v->lock);
	before = v->restore;
	__atomic_store_n(&v->restore, restore, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&v->lock);
	restore_unref(before);
}

uint64_t volume_changed_ms(struct volume *v)
{
	return __atomic_load_n(&v->changed_ms, __ATOMIC_RELAXED);
}

void volume_set_write_through(struct volume *v, bool through)
{
	__atomic_store_n(&v->write_through, through, __ATOMIC_RELAXED);
}

/* ---- the device ------------------------------------------------------------------ */

/* The device, held against volume_detach() until put_device(); NULL if there
 * is none. */
static struct blockdev *get_device(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);

	if (v->bd)
		v->submitting++;
	return v->bd;
}

static void put_device(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);

	if (!--v->submitting)
		pthread_cond_broadcast(&v->idle);
}

void volume_attach(struct volume *v, struct blockdev *bd)
{
	pthread_mutex_lock(&v->lock);
	v->bd = bd;
	pthread_mutex_unlock(&v->lock);
	volume_kick(v);
}

struct blockdev *volume_detach(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);
	struct blockdev *bd = move_ptr(v->bd);

	while (v->submitting)
		pthread_cond_wait(&v->idle, &v->lock);
	return bd;
}

void volume_get_geometry_locked(const struct volume *v, struct bd_geometry *ret)
{
	if (v->bd)
		bd_get_geometry(v->bd, ret);
	else
		*ret = (struct bd_geometry){ 0 };
}

void volume_get_geometry(struct volume *v, struct bd_geometry *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);

	volume_get_geometry_locked(v, ret);
}

bool volume_is_ready(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);

	return v->bd && bd_is_ready(v->bd);
}

bool volume_get_info(struct volume *v, struct bd_info *ret_info)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);

	return v->bd && bd_get_info(v->bd, ret_info);
}

unsigned volume_logins(struct volume *v)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->lock);
	struct bd_status status = { 0 };

	if (v->bd)
		bd_get_status(v->bd, &status);
	return status.logins;
}

void volume_submit(struct volume *v, struct bd_req *req)
{
	struct blockdev *bd = get_device(v);

	if (!bd) {
		req->done(req, -ENOTCONN);
		return;
	}
	bd_submit(bd, req);
	put_device(v);
}

/* ---- listeners ------------------------------------------------------------------- */

void volume_listen(struct volume *v, struct volume_listener *listener)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->kick_lock);

	if (!listener->listening)
		TAILQ_INSERT_TAIL(&v->listeners, listener, link);
	listener->listening = true;
}

void volume_unlisten(struct volume *v, struct volume_listener *listener)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->kick_lock);

	while (v->kicking)
		pthread_cond_wait(&v->kicked, &v->kick_lock);
	if (listener->listening)
		TAILQ_REMOVE(&v->listeners, listener, link);
	listener->listening = false;
}

/* None is taken off the list meanwhile. */
static void call_listeners_locked(struct volume *v)
{
	struct volume_listener *listener;

	TAILQ_FOREACH(listener, &v->listeners, link) {
		pthread_mutex_unlock(&v->kick_lock);
		listener->fn(listener);
		pthread_mutex_lock(&v->kick_lock);
	}
}

void volume_kick(struct volume *v)
{
	struct restore *restore = volume_get_restore(v);

	if (restore)
		restore_kick(restore);
	restore_unref(restore);
	volume_reads_run(v);
	chain_kick(v->chain);
	volume_changes_kick(v);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&v->kick_lock);
	v->kick_again = true;
	if (v->kicking)
		return;
	v->kicking = true;
	while (v->kick_again) {
		v->kick_again = false;
		call_listeners_locked(v);
	}
	v->kicking = false;
	pthread_cond_broadcast(&v->kicked);
}

/* ---- fetches --------------------------------------------------------------------- */

static void fetch_part_done(struct bd_req *req, int error);

/* Makes the next part; false if all are made. */
static bool next_part(struct volume_fetch *f, struct bd_req *req)
{
	uint64_t at = __atomic_fetch_add(&f->next_part, f->part, __ATOMIC_RELAXED);

	if (at >= f->length)
		return false;
	*req = (struct bd_req){
		.op = BD_READ,
		.offset = f->offset + at,
		.length = f->length - at < f->part ? f->length - at : f->part,
		.buf = (char *)f->buf + at,
		.done = fetch_part_done,
		.opaque = f,
	};
	return true;
}

static void fetch_part_ended(struct volume_fetch *f)
{
	if (!__atomic_sub_fetch(&f->n_pending, 1, __ATOMIC_ACQ_REL))
		f->done(f, f->error);
}

static void fetch_part_done(struct bd_req *req, int error)
{
	struct volume_fetch *f = req->opaque;
	int none = 0;

	if (error && __atomic_compare_exchange_n(&f->error, &none, error, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		f->bad_offset = error == -ENODATA ? req->bad_offset : req->offset;
		f->bad_length = error == -ENODATA ? req->bad_length : req->length;
	}
	if (!__atomic_load_n(&f->error, __ATOMIC_RELAXED) && next_part(f, req))
		volume_submit(f->volume, req);
	else
		fetch_part_ended(f);
}

static uint64_t part_size(struct volume *v)
{
	struct bd_geometry g;

	volume_get_geometry(v, &g);
	return g.known && g.max_transfer < FETCH_PART ? g.max_transfer : FETCH_PART;
}

void volume_fetch(struct volume_fetch *f)
{
	unsigned n = 0;

	f->part = part_size(f->volume);
	f->next_part = 0;
	f->error = 0;
	while (n < VOLUME_FETCH_PARTS && next_part(f, &f->parts[n]))
		n++;
	/* One more, for this function: the fetch stays until all were submitted. */
	f->n_pending = n + 1;
	for (unsigned i = 0; i < n; i++)
		volume_submit(f->volume, &f->parts[i]);
	fetch_part_ended(f);
}

/* ---- users ----------------------------------------------------------------------- */

void volume_io(struct volume *v, struct engine_io *io, unsigned timeout_ms)
{
	switch (io->op) {
	case ENGINE_IO_READ:
		volume_read(v, io, timeout_ms);
		break;
	case ENGINE_IO_WRITE:
	case ENGINE_IO_ZERO:
	case ENGINE_IO_FLUSH:
		volume_change(v, io, timeout_ms);
		break;
	case ENGINE_IO_SEEK_DATA:
	case ENGINE_IO_SEEK_HOLE:
		volume_seek(v, io, timeout_ms);
		break;
	}
}
