/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Operations that take a new instant for a relationship: Activate, ResyncReplica.
 *
 *   begun    the job is durable and running, rel->op set; the write is answered
 *   hold     with a shared_method, others are kept from writing (hold.h), unless they
 *            still are, for the instant before
 *   instant  instant.h: rows, files, fence
 *   commit   within the fence: one transaction gives the pairs their new points and
 *            the maps their new generation; then the images let go of their old
 *            points, and the images of the new generation, with the new points as
 *            their sources, take the place of the old ones, also in open handles;
 *            only then the new states are visible
 *   done     Clones are copied; of a ResyncReplica, only what differs (image_digest.c)
 *
 * A failure leaves everything as it was, and stands in the job.
 */

#include "engine/hold.h"
#include "engine/instant.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"

struct operation_call {
	struct message m;
	struct relationship *rel;
	struct instant instant;
	bool force;
	char sentence[512]; /* why there is none; "" = another reason */
	struct instant_member members[];
};

/* Waits for Synchronized and `control` depend on it. */
void relation_set_op(struct engine *e, struct relationship *rel,
		     struct operation_call *call)
{
	engine_lock(e);
	rel->op = call;
	engine_unlock(e);
	relation_tell(e, rel, FILE_BIT(GROUP_CONTROL));
}

static void call_free(struct operation_call *call)
{
	relation_set_op(call->instant.engine, call->rel, NULL);
	free(call);
}

/* The job ends with the error; the states stay. */
static void fail(struct operation_call *call, int error)
{
	struct relationship *rel = call->rel;
	struct engine *e = call->instant.engine;
	char text[512];

	if (*call->sentence)
		snprintf(text, sizeof(text), "%s", call->sentence);
	else if (error == -ETIMEDOUT)
		snprintf(text, sizeof(text),
			 "the fence over the members did not close within fence_timeout "
			 "(%u ms): writes under way did not end; try again",
			 e->config->daemon.fence_timeout_ms);
	else if (call->instant.what && !strcmp(call->instant.what, "files"))
		snprintf(text, sizeof(text),
			 "pool %s: the files of the images cannot be made or opened: %s",
			 call->instant.pool_name, strerror(-error));
	else
		snprintf(text, sizeof(text), "%s: %s",
			 call->instant.what ? call->instant.what : "instant",
			 strerror(-error));
	call_free(call);
	hold_after_change(rel);
	if (engine_is_stopping(e))
		return;
	job_finish(e, rel, CIM_JOB_EXCEPTION,
		   error == -ETIMEDOUT ? CIM_RETURN_TIMEOUT :
					 outcome_code_of_errno(-error),
		   text);
}

/* The images let go of their old points, and the new ones get theirs. */
static void durable(struct draft *d)
{
	struct relationship *rel = d->rel;
	struct instant *in = d->instant;

	instant_arm(in);
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct instant_member *m = &in->members[i];
		struct image *old;
		struct image *image;

		/* A handle's last close may take it away meanwhile. */
		engine_lock(in->engine);
		old = rel->pairs[i]->target->image;
		if (old)
			image_ref(old);
		engine_unlock(in->engine);
		image = m->image ? m->image : old;
		pair_detach(rel->pairs[i]);
		if (m->image && old)
			image_retire(old, true);
		if (m->image)
			image_own_file(m->image);
		if (m->image && m->resync && m->point)
			image_take_base(m->image, old);
		if (image)
			pair_connect(rel->pairs[i], image,
				     m->point ? m->point->point : NULL);
		image_unref(old);
	}
}

/* The image of the new generation takes the place of the old one, which is in
 * m->image then. */
static void visible(struct draft *d)
{
	for (size_t i = 0; i < d->rel->n_pairs; i++) {
		struct pair *p = d->rel->pairs[i];
		struct instant_member *m = &d->instant->members[i];
		struct element *el = p->target;
		struct image *old = el->image;

		if (!m->image)
			continue;
		el->image = m->image;
		m->image = old;
		element_switch_handles(el);
		p->bytes_copied = p->bytes_skipped = 0;
		el->modified_ms = timefmt_now_ms();
		el->unsaved = true;
	}
}

/* Somebody opened an image since the operation was begun. */
static bool is_open(struct operation_call *call)
{
	struct relationship *rel = call->rel;
	char handles[192];

	if (call->force ||
	    !relation_describe_open(call->instant.engine, rel, false, handles,
				    sizeof(handles)))
		return false;
	snprintf(call->sentence, sizeof(call->sentence),
		 "%s, since the operation began; nothing was changed: close it, or write "
		 "\"ResyncReplica Force\"",
		 handles);
	return true;
}

static int commit(struct instant *in)
{
	struct operation_call *call = in->opaque;
	struct relationship *rel = call->rel;
	struct draft d;
	int r = is_open(call) ? -EBUSY : draft_begin(&d, rel);

	if (r < 0)
		return r;
	relation_set_instant(&d, in->when_ms);
	for (size_t i = 0; i < rel->n_pairs; i++) {
		d.pairs[i].point = in->members[i].point;
		if (in->members[i].make == INSTANT_IMAGE_MAP)
			d.pairs[i].generation = in->members[i].generation;
	}
	if (rel->row.sync_type == CIM_SYNC_SNAPSHOT)
		d.job_state = CIM_JOB_COMPLETED;
	d.instant = in;
	d.durable = durable;
	d.visible = visible;
	return draft_commit(in->engine, &d);
}

struct remove_map {
	struct work work;
	struct pool *pool;
	uint64_t id, generation;
};

static void remove_map(struct work *work)
{
	struct remove_map *rm = (struct remove_map *)work;

	pool_remove_map(rm->pool, rm->id, rm->generation);
	pool_remove_digest(rm->pool, rm->id, rm->generation - 1);
	free(rm);
}

/* What was the image before, its map, and the digests that were the base of its copy. */
static void drop_old(struct engine *e, const struct pair *p, struct instant_member *m)
{
	struct remove_map *rm = calloc(1, sizeof(*rm));

	image_unref(move_ptr(m->image));
	if (!rm)
		return; /* the next start deletes it */
	*rm = (struct remove_map){
		{ .fn = remove_map }, m->pool->pool, p->target->obj.id, m->generation - 1
	};
	workers_submit(e->workers, &rm->work);
}

static void done(struct instant *in, int error)
{
	struct operation_call *call = in->opaque;
	struct relationship *rel = call->rel;
	struct engine *e = in->engine;

	if (error) {
		fail(call, error);
		return;
	}
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (in->members[i].make == INSTANT_IMAGE_MAP) {
			drop_old(e, rel->pairs[i], &in->members[i]);
			image_trim(rel->pairs[i]->target->image);
		}
	call_free(call);
	relation_start_pairs(rel);
	hold_after_change(rel);
}

/* The rows of the points; then on to the instant. */
static void begin_instant(struct operation_call *call)
{
	struct engine *e = call->instant.engine;
	int r;

	store_begin(e->store);
	r = instant_add_rows(&call->instant);
	if (r < 0)
		store_rollback(e->store);
	else
		r = store_commit(e->store);
	if (r < 0) {
		instant_drop_rows(&call->instant);
		fail(call, r);
		return;
	}
	instant_run(&call->instant);
}

static void held(struct hold *hold, int error, const char *sentence)
{
	struct operation_call *call = hold->opaque;

	if (!error) {
		begin_instant(call);
		return;
	}
	snprintf(call->sentence, sizeof(call->sentence), "%s", sentence);
	fail(call, error);
}

static int begin_hold(struct engine *e, struct operation_call *call)
{
	struct relationship *rel = call->rel;
	CLEANUP_FREE struct element **sources = calloc(rel->n_pairs, sizeof(*sources));
	struct hold_params params = {
		.engine = e,
		.method = rel->row.shared_method,
		.quiesce_command = rel->row.quiesce_command,
		.thaw_command = rel->row.thaw_command,
		.source_group = rel->source_group,
		.sources = sources,
		.n = rel->n_pairs,
		.rel = rel,
	};
	struct hold *hold;

	if (!sources)
		return -ENOMEM;
	for (size_t i = 0; i < rel->n_pairs; i++)
		sources[i] = rel->pairs[i]->source;
	return hold_begin(&params, held, call, &hold);
}

static void begin(struct engine *e, struct message *m)
{
	struct operation_call *call = (struct operation_call *)m;
	int r = 0;

	if (engine_is_stopping(e))
		r = -ENOTCONN;
	else if (!call->rel->row.shared_method || call->rel->hold)
		begin_instant(call);
	else
		r = begin_hold(e, call);
	if (r < 0)
		fail(call, r);
}

static void set_member(struct instant_member *m, const struct pair *p, bool resync)
{
	const struct element *target = p->target;

	*m = (struct instant_member){
		.source = p->source,
		.pool = pair_pool(p),
		.size = pair_size(p),
		.target = target->obj.id,
		.reserve = target->reserved,
	};
	m->digests = p->rel->row.sync_type == CIM_SYNC_CLONE;
	m->resync = m->digests && resync;
	if (element_is_lun(target)) {
		target_set_member(m, target, pair_size(p), target->generation + 1);
		return;
	}
	/* An image that never had an instant is empty and can take one. */
	if (p->rel->row.when_activated) {
		m->make = INSTANT_IMAGE_MAP;
		m->generation = target->generation + 1;
	}
}

int operation_take_instant(struct engine *e, struct relationship *rel, const char *method,
			   bool force)
{
	struct operation_call *call =
		calloc(1, sizeof(*call) + rel->n_pairs * sizeof(call->members[0]));
	int r;

	if (!call)
		return -ENOMEM;
	r = job_begin(e, rel, method);
	if (r < 0) {
		free(call);
		return r;
	}
	call->m.fn = begin;
	call->rel = rel;
	call->force = force;
	for (size_t i = 0; i < rel->n_pairs; i++)
		set_member(&call->members[i], rel->pairs[i],
			   job_is_of(rel->job, "ResyncReplica"));
	call->instant = (struct instant){
		.engine = e,
		.members = call->members,
		.n = rel->n_pairs,
		.one_instant = instant_is_one(rel->row.consistency, rel->row.setting),
		.commit = commit,
		.done = done,
		.opaque = call,
	};
	relation_set_op(e, rel, call);
	engine_post(e, &call->m);
	return 0;
}
