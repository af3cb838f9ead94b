/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Points in time as objects: a row in the state store, a struct point (chain.h) with
 * its files, and the pairs that read it.
 *
 *   made      instant.c: a row of sequence 0, files; in no list
 *   linked    committed; n_pairs > 0: needed; or armed on its own, before the instant
 *             of its group is committed (instant.c): a row with a sequence, no pair yet
 *   leaving   n_pairs is 0, in the store too (the transaction that took the last pair
 *             away): it is handed over in the background
 *   gone      handed over: row, point, files go, in this order
 *
 * At start a row of sequence 0 is the rest of a crash and goes with its files; one
 * that no pair names is leaving.
 */

#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"

struct point_object *point_object_new(struct engine *e, const struct store_point *row)
{
	struct point_object *po = calloc(1, sizeof(*po));

	if (!po)
		return NULL;
	po->obj.class = ENGINE_NONE;
	po->obj.id = row->id;
	po->engine = e;
	po->source = object_by_id(e, ENGINE_ELEMENT, row->source_id);
	po->pool = object_by_name(e, ENGINE_POOL, row->pool);
	po->size = row->size;
	po->sequence = row->sequence;
	po->created_ms = row->created;
	snprintf(po->pool_name, sizeof(po->pool_name), "%s", row->pool);
	return po;
}

void point_object_free(struct point_object *po)
{
	if (!po)
		return;
	point_object_close(po);
	free(po);
}

void point_object_row(const struct point_object *po, struct store_point *row)
{
	*row = (struct store_point){
		.id = po->obj.id,
		.source_id = po->source->obj.id,
		.pool = po->pool_name,
		.size = po->size,
		.sequence = po->sequence,
		.created = po->created_ms,
	};
}

struct point_object *point_object_by_id(struct engine *e, uint64_t id)
{
	const struct object key = { .id = id };

	return id ? index_find(&e->points, &key) : NULL;
}

/* ---- news of the chain ------------------------------------------------------------ */

struct point_message {
	struct message m;
	uint64_t point;
	int error;
	char reason[POINT_REASON_MAX];
};

static void post(struct engine *e, uint64_t point, int error, const char *reason,
		 void (*fn)(struct engine *e, struct message *m))
{
	struct point_message *msg = calloc(1, sizeof(*msg));

	if (!msg) {
		log_error("point %" PRIu64 ": out of memory; its news is lost until the "
			  "next start",
			  point);
		return;
	}
	msg->m.fn = fn;
	msg->point = point;
	msg->error = error;
	snprintf(msg->reason, sizeof(msg->reason), "%s", reason);
	engine_post(e, &msg->m);
}

/* older: those of the points before it as well, which read what it holds. */
static void break_pairs(struct engine *e, struct point_object *po, bool older, int error,
			const char *reason)
{
	struct pair *p, *next;

	for (p = TAILQ_FIRST(&po->source->source_of); p; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->point == po ||
		    (older && p->point && p->point->sequence < po->sequence))
			relation_break(e, p, error, reason);
	}
}

static void take_broken(struct engine *e, struct message *m)
{
	struct point_message *msg = (struct point_message *)m;
	struct point_object *po = point_object_by_id(e, msg->point);

	if (po)
		break_pairs(e, po, false, msg->error, msg->reason);
	free(msg);
}

struct remove_point {
	struct work work;
	struct pool *pool;
	uint64_t id;
};

static void remove_files(struct work *work)
{
	struct remove_point *rm = (struct remove_point *)work;
	int r = pool_remove_point(rm->pool, rm->id);

	if (r >= 0)
		r = pool_sync(rm->pool);
	if (r < 0)
		log_warn("pool %s: cannot delete the files of point %" PRIu64
			 ": %s; they go at the next start",
			 pool_name(rm->pool), rm->id, strerror(-r));
	free(rm);
}

/* Its row is gone: so do the objects and the files. */
static void drop(struct engine *e, struct point_object *po)
{
	struct remove_point *rm = calloc(1, sizeof(*rm));

	engine_lock(e);
	index_remove(&e->points, &po->obj);
	TAILQ_REMOVE(&po->source->points, po, link);
	engine_unlock(e);
	if (rm && po->pool) {
		rm->work.fn = remove_files;
		rm->pool = po->pool->pool;
		rm->id = po->obj.id;
		point_object_close(po);
		workers_submit(e->workers, &rm->work);
	} else {
		free(rm);
	}
	point_object_free(po);
}

/* After the stop's message nothing is written any more: it is leaving still at the
 * next start. */
static void delete_handed(struct engine *e, struct point_object *po)
{
	int r;

	if (po->n_pairs || engine_is_stopping(e))
		return;
	store_begin(e->store);
	store_point_delete(e->store, po->obj.id);
	r = store_commit(e->store);
	if (r >= 0)
		drop(e, po);
	else
		log_warn("point %" PRIu64 ": its row cannot be deleted: %s", po->obj.id,
			 strerror(-r));
}

static void take_handed_over(struct engine *e, struct message *m)
{
	struct point_message *msg = (struct point_message *)m;
	struct point_object *po = point_object_by_id(e, msg->point);

	free(msg);
	if (!po)
		return;
	po->handed = true;
	delete_handed(e, po);
}

static void broken(void *opaque, uint64_t point, int error, const char *reason)
{
	post(opaque, point, error, reason, take_broken);
}

static void handed_over(void *opaque, uint64_t point)
{
	post(opaque, point, 0, "", take_handed_over);
}

/* ---- life ------------------------------------------------------------------------ */

int point_object_open(struct point_object *po)
{
	struct point_params params = {
		.id = po->obj.id,
		.sequence = po->sequence,
		.size = po->size,
		.watcher = { broken, handed_over, po->engine },
	};

	if (!po->pool)
		return -ENOENT;
	params.pool = po->pool->pool;
	snprintf(params.source_name, sizeof(params.source_name), "%s",
		 po->source->obj.name);
	return point_open(po->source->volume, &params, &po->point);
}

void point_object_close(struct point_object *po)
{
	struct point *point = move_ptr(po->point);

	if (!point)
		return;
	point_remove(point);
	point_unref(point);
}

void point_object_link(struct point_object *po)
{
	if (po->linked)
		return;
	po->linked = true;
	index_add(&po->engine->points, &po->obj);
	TAILQ_INSERT_TAIL(&po->source->points, po, link);
}

void point_object_arm(struct point_object *po)
{
	if (po->armed)
		return;
	po->armed = true;
	point_set_sequence(po->point, po->sequence);
	point_arm(po->point, true);
}

void point_object_release(struct point_object *po)
{
	engine_lock(po->engine);
	po->n_pairs--;
	engine_unlock(po->engine);
	if (!po->n_pairs && po->point)
		point_leave(po->point);
}

/* ---- start ----------------------------------------------------------------------- */

static void open_at_start(void *thing, void *opaque)
{
	struct point_object *po = thing;
	struct engine *e = opaque;
	char reason[POINT_REASON_MAX];
	int r;

	r = po->source->volume ? point_object_open(po) : -ENOENT;
	if (r >= 0) {
		po->armed = true;
		point_arm(po->point, po->n_pairs > 0);
		if (point_is_broken(po->point, reason, sizeof(reason)))
			break_pairs(e, po, false, -EIO, reason);
		return;
	}
	snprintf(reason, sizeof(reason),
		 "pool %s: what was kept of %s cannot be used: %s", po->pool_name,
		 po->source->obj.name,
		 po->pool ? strerror(-r) : "the pool is no longer configured");
	break_pairs(e, po, true, r, reason);
	/* Nobody reads it any more, and it has nothing to hand over. */
	if (po->pool && !restore_needs_point(po))
		po->handed = true;
}

void points_open_all(struct engine *e)
{
	index_each(&e->points, open_at_start, e);
}

static void tick_one(void *thing, void *opaque)
{
	struct point_object *po = thing, **handed = opaque;

	if (po->point)
		point_tick(po->point);
	if (po->handed && !po->n_pairs)
		*handed = po;
}

void points_tick(struct engine *e)
{
	struct point_object *handed = NULL;

	index_each(&e->points, tick_one, &handed);
	/* One whose row could not be deleted at once. */
	if (handed)
		delete_handed(e, handed);
}

void points_drop_of(struct engine *e, struct element *el)
{
	struct point_object *po;

	while ((po = TAILQ_FIRST(&el->points)))
		drop(e, po);
}
