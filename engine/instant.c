/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/instant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/setting.h"
#include "conf/timefmt.h"
#include "engine/fence_set.h"

bool instant_is_one(unsigned consistency, const char *setting)
{
	return consistency == CIM_CONSISTENCY_SEQUENTIAL ||
	       setting_value(setting, "ConsistentPointInTime", CIM_SYNC_CLONE);
}

/* ---- rows ------------------------------------------------------------------------ */

/* Others write a shared element unseen: a point of it would not hold. */
static bool needs_point(const struct instant_member *m)
{
	return m->source->exclusive || m->source->origin == STORE_ORIGIN_REPLICA;
}

/* Its point, but for one that is a member's before. */
static struct point_object *own_point(const struct instant_member *m)
{
	return m->shares_point ? NULL : m->point;
}

/* Takes the point of a member before that has the same source; false: there is none. */
static bool share_point(struct instant *in, size_t i)
{
	struct instant_member *m = &in->members[i];

	for (size_t k = 0; k < i && !m->shares_point; k++)
		if (in->members[k].source == m->source &&
		    in->members[k].pool == m->pool && in->members[k].point) {
			m->point = in->members[k].point;
			m->shares_point = true;
		}
	return m->shares_point;
}

int instant_add_rows(struct instant *in)
{
	for (size_t i = 0; i < in->n && !in->no_points; i++) {
		struct instant_member *m = &in->members[i];
		struct store_point row = {
			.source_id = m->source->obj.id,
			.pool = m->pool->obj.name,
			.size = m->size,
			.created = timefmt_now_ms(),
		};
		int64_t id;

		if (!needs_point(m) || share_point(in, i))
			continue;
		id = store_point_insert(in->engine->store, &row);
		row.id = id > 0 ? (uint64_t)id : 0;
		m->point = point_object_new(in->engine, &row);
		if (!m->point)
			return -ENOMEM;
	}
	return 0;
}

void instant_drop_rows(struct instant *in)
{
	for (size_t i = 0; i < in->n; i++) {
		struct point_object *point = own_point(&in->members[i]);

		in->members[i].point = NULL;
		point_object_free(point);
	}
}

/* ---- FILES ----------------------------------------------------------------------- */

static int open_image(struct instant *in, struct instant_member *m)
{
	const struct image_params params = {
		.id = m->target,
		.size = m->lun ? m->lun_size : m->size,
		.generation = m->generation,
		.target = m->lun,
		.target_name = m->lun_name,
		.copy_size = m->size,
		.digests = m->digests,
		.resync = m->resync,
		.reserved = m->reserve,
	};

	return image_open(&in->engine->dataops, m->pool->pool, &params, &m->image);
}

static int make_member(struct instant_member *m)
{
	struct pool *pool = m->pool->pool;
	int r = 0;

	if (m->make == INSTANT_IMAGE_NEW)
		r = pool_create_image(pool, m->target, m->size, 1, m->reserve);
	else if (m->make == INSTANT_IMAGE_MAP)
		r = pool_create_map(pool, m->target, m->size, m->generation);
	if (r >= 0 && m->make != INSTANT_IMAGE_NONE && m->digests)
		r = pool_create_digest(pool, m->target, m->size,
				       m->make == INSTANT_IMAGE_NEW ? 1 : m->generation);
	if (r >= 0 && own_point(m))
		r = pool_create_point(pool, m->point->obj.id, m->size);
	return r;
}

/* One sync of the directory for all members of a pool. */
static int sync_pools(struct instant *in)
{
	int r = 0;

	for (size_t i = 0; i < in->n && r >= 0; i++) {
		bool seen = false;

		for (size_t k = 0; k < i && !seen; k++)
			seen = in->members[k].pool == in->members[i].pool;
		if (!seen)
			r = pool_sync(in->members[i].pool->pool);
	}
	return r;
}

static int open_member(struct instant *in, struct instant_member *m)
{
	int r = own_point(m) ? point_object_open(m->point) : 0;

	return r >= 0 && m->make == INSTANT_IMAGE_MAP ? open_image(in, m) : r;
}

static void take_files(struct engine *e, struct message *m);

/* By a worker. */
static void make_files(struct work *work)
{
	struct instant *in =
		(struct instant *)((char *)work - offsetof(struct instant, work));
	int r = 0;

	for (size_t i = 0; i < in->n && r >= 0; i++) {
		in->pool_name = in->members[i].pool->obj.name;
		r = make_member(&in->members[i]);
	}
	if (r >= 0)
		r = sync_pools(in);
	for (size_t i = 0; i < in->n && r >= 0; i++)
		r = open_member(in, &in->members[i]);
	in->files_result = r;
	engine_post(in->engine, &in->m);
}

void instant_run(struct instant *in)
{
	in->work.fn = make_files;
	in->m.fn = take_files;
	engine_start_work(in->engine, &in->work);
}

/* ---- undo ------------------------------------------------------------------------ */

static void undo_member(struct instant_member *m)
{
	struct pool *pool = m->pool->pool;

	if (own_point(m) && m->point->armed) {
		/* Armed on its own: what it has kept since, older points need. */
		point_leave(move_ptr(m->point)->point);
	} else if (own_point(m)) {
		point_object_close(m->point);
		pool_remove_point(pool, m->point->obj.id);
	}
	image_unref(move_ptr(m->image));
	if (m->make == INSTANT_IMAGE_NEW)
		pool_remove_image(pool, m->target, 1);
	if (m->make == INSTANT_IMAGE_MAP) {
		pool_remove_map(pool, m->target, m->generation);
		pool_remove_digest(pool, m->target, m->generation);
	}
}

static void undo(struct instant *in)
{
	struct store *store = in->engine->store;

	for (size_t i = 0; i < in->n; i++)
		undo_member(&in->members[i]);
	store_begin(store);
	for (size_t i = 0; i < in->n; i++)
		if (own_point(&in->members[i]))
			store_point_delete(store, in->members[i].point->obj.id);
	if (store_commit(store) < 0)
		log_warn("rows of points that were not taken stay in the state store "
			 "until the next start");
	instant_drop_rows(in);
}

static void end(struct instant *in, int error, const char *what)
{
	if (in->fence) {
		fence_set_open(move_ptr(in->fence));
		TAILQ_REMOVE(&in->engine->instants, in, link);
	}
	free(in->volumes);
	in->volumes = NULL;
	in->what = what;
	if (error)
		undo(in);
	in->done(in, error);
}

/* ---- COMMIT ---------------------------------------------------------------------- */

static void next_sequence(struct instant *in, struct instant_member *m)
{
	if (m->point && !m->point->sequence)
		m->point->sequence = ++in->engine->point_sequence;
}

void instant_store(struct instant *in)
{
	for (size_t i = 0; i < in->n; i++) {
		struct store_point row;

		if (!own_point(&in->members[i]))
			continue;
		next_sequence(in, &in->members[i]);
		point_object_row(in->members[i].point, &row);
		store_point_update(in->engine->store, &row);
	}
}

void instant_arm(struct instant *in)
{
	struct engine *e = in->engine;

	engine_lock(e);
	for (size_t i = 0; i < in->n; i++)
		if (own_point(&in->members[i]))
			point_object_link(in->members[i].point);
	engine_unlock(e);
	for (size_t i = 0; i < in->n; i++)
		if (own_point(&in->members[i]))
			point_object_arm(in->members[i].point);
}

static void commit(struct instant *in)
{
	int r;

	in->when_ms = timefmt_now_ms();
	r = in->commit(in);
	if (r < 0) {
		end(in, r, "state store");
		return;
	}
	instant_arm(in);
	end(in, 0, NULL);
}

/* ---- FENCE ----------------------------------------------------------------------- */

static void fenced(struct fence_set *set, void *opaque, int error);
static void fence_next(struct instant *in);

static int close_fence(struct instant *in, size_t n)
{
	int r = fence_set_close(in->engine, in->volumes, n,
				in->engine->config->daemon.fence_timeout_ms, fenced, in,
				&in->fence);

	if (r >= 0)
		TAILQ_INSERT_TAIL(&in->engine->instants, in, link);
	return r;
}

/* What it keeps from now on is lost to nobody: with a sequence in the store, and no pair,
 * it is a leaving one at the next start. */
static int store_alone(struct instant *in, struct instant_member *m)
{
	struct store *store = in->engine->store;
	struct store_point row;

	next_sequence(in, m);
	point_object_row(m->point, &row);
	store_begin(store);
	store_point_update(store, &row);
	return store_commit(store);
}

/* Each on its own: the member is armed, and the next one's turn comes. */
static void armed_alone(struct instant *in)
{
	struct instant_member *m = &in->members[in->next++];
	int r = store_alone(in, m);

	if (r < 0) {
		end(in, r, "state store");
		return;
	}
	engine_lock(in->engine);
	point_object_link(m->point);
	engine_unlock(in->engine);
	point_object_arm(m->point);
	fence_set_open(move_ptr(in->fence));
	TAILQ_REMOVE(&in->engine->instants, in, link);
	fence_next(in);
}

static void fenced(struct fence_set *set, void *opaque, int error)
{
	struct instant *in = opaque;

	(void)set;
	if (error)
		end(in, error, "fence");
	else if (in->one_instant)
		commit(in);
	else
		armed_alone(in);
}

static void fence_next(struct instant *in)
{
	int r = 0;

	while (in->next < in->n && !own_point(&in->members[in->next]))
		in->next++;
	if (in->next == in->n) {
		commit(in);
		return;
	}
	in->volumes[0] = in->members[in->next].source->volume;
	r = close_fence(in, 1);
	if (r < 0)
		end(in, r, "fence");
}

static void fence_all(struct instant *in)
{
	size_t n = 0;
	int r;

	for (size_t i = 0; i < in->n; i++)
		if (own_point(&in->members[i]))
			in->volumes[n++] = in->members[i].source->volume;
	if (!n) {
		commit(in);
		return;
	}
	r = close_fence(in, n);
	if (r < 0)
		end(in, r, "fence");
}

static void take_files(struct engine *e, struct message *m)
{
	struct instant *in = (struct instant *)((char *)m - offsetof(struct instant, m));

	engine_work_done(e);
	if (engine_is_stopping(e)) {
		end(in, -ENOTCONN, "stop");
		return;
	}
	if (in->files_result < 0) {
		end(in, in->files_result, "files");
		return;
	}
	in->volumes = calloc(in->n + 1, sizeof(struct volume *));
	if (!in->volumes)
		end(in, -ENOMEM, "fence");
	else if (in->one_instant)
		fence_all(in);
	else
		fence_next(in);
}

void instant_stop_all(struct engine *e)
{
	struct instant *in;

	while ((in = TAILQ_FIRST(&e->instants)))
		end(in, -ENOTCONN, "stop");
}
