/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * RestoreFromReplica: the sources go back to what the images are now.  The image of a
 * Snapshot is read with its point; that of a Clone is complete, and held open meanwhile.
 *
 *   begun     the job is durable and running, rel->op set; the write is answered
 *   files     a map for each pair is made and opened                     (a worker)
 *   fence     over all sources
 *   plan      what differs is found out and made durable                 (a worker)
 *   commit    one transaction: the pairs have their restore_sequence; then the volumes
 *             read as the images, only then it is visible, and the fence opens
 *   restoring the copying back runs behind; everything else but looking is In Use
 *   done      all of it: one transaction, then the maps go
 *
 * The sequence of a restore is above those of all points that are armed at its commit,
 * and below those that come later: these see the restored content.  It is part of the
 * map, which is made before; if a point was armed between the two (others may close
 * their fence over the same source), the maps are made anew.
 *
 * Without Force, a source that was opened meanwhile ends it before the commit: In Use.
 * A failure before the commit leaves everything as it was, and stands in the job.  After
 * it the restore goes on until it is done, also over restarts, and when the replica has
 * broken meanwhile: a source is never shown half restored.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"
#include "engine/fence_set.h"
#include "engine/model.h"
#include "engine/restore.h"

/* Of a pair; what a worker needs, with references on point and image. */
struct member {
	struct restore_params params;
	struct restore *restore; /* with a reference */
};

struct operation_call {
	struct message m;
	struct work work;
	struct engine *engine;
	struct relationship *rel;
	struct fence_set *fence;
	bool force;
	int result;
	const char *what; /* failed */
	size_t n;
	struct member members[];
};

struct done_message {
	struct message m;
	uint64_t pair;
};

static void take_done(struct engine *e, struct message *m);

/* By any thread. */
static void done(void *opaque)
{
	struct pair *p = opaque;
	struct done_message *msg = calloc(1, sizeof(*msg));

	if (!msg)
		return; /* the next start finds it done */
	msg->m.fn = take_done;
	msg->pair = p->obj.id;
	engine_post(p->source->engine, &msg->m);
}

static void set_params(struct pair *p, uint64_t sequence, struct restore_params *ret)
{
	*ret = (struct restore_params){
		.volume = p->source->volume,
		.point = p->point ? p->point->point : NULL,
		.image = p->target->image,
		.pool = p->target->pool->pool,
		.sequence = sequence,
		.size = p->target->size,
		.priority = relation_priority(p->rel),
		.watcher = { done, p },
	};
}

/* ---- the images of Clones ---------------------------------------------------------- */

static void close_target(struct pair *p)
{
	struct engine_handle *h = move_ptr(p->restored_from);

	if (h)
		engine_data_close(h);
}

/* One that is complete is open only while somebody has it open. */
static int open_target(struct pair *p)
{
	if (!p->target->complete || p->restored_from)
		return 0;
	return element_open_data(p->target->engine, p->target->obj.id, &p->restored_from);
}

static void close_targets(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (!rel->pairs[i]->restore_sequence)
			close_target(rel->pairs[i]);
}

static int open_targets(const struct relationship *rel)
{
	int r = 0;

	for (size_t i = 0; i < rel->n_pairs && r >= 0; i++)
		r = open_target(rel->pairs[i]);
	if (r < 0)
		close_targets(rel);
	return r;
}

/* ---- what fails ------------------------------------------------------------------ */

/* Takes back what has come of it before its commit. */
static void undo(struct operation_call *call)
{
	for (size_t i = 0; i < call->n; i++) {
		struct restore *restore = move_ptr(call->members[i].restore);

		if (!restore)
			continue;
		restore_detach(restore);
		pool_remove_restore(call->members[i].params.pool,
				    restore_sequence(restore));
		restore_unref(restore);
	}
	if (call->fence)
		fence_set_open(move_ptr(call->fence));
}

static void call_free(struct operation_call *call)
{
	for (size_t i = 0; i < call->n; i++) {
		point_unref(call->members[i].params.point);
		image_unref(call->members[i].params.image);
	}
	close_targets(call->rel);
	relation_set_op(call->engine, call->rel, NULL);
	free(call);
}

static void record_failure(struct engine *e, struct relationship *rel, int error,
			   const char *what)
{
	char text[384];

	if (error == -ETIMEDOUT)
		snprintf(
			text, sizeof(text),
			"the fence over the sources did not close within fence_timeout "
			"(%u ms): writes under way did not end; nothing was restored, try "
			"again",
			e->config->daemon.fence_timeout_ms);
	else if (error == -EBUSY)
		snprintf(text, sizeof(text),
			 "%s, since the restore was begun; nothing was restored: close it, "
			 "or write \"RestoreFromReplica Force\"",
			 what);
	else
		snprintf(text, sizeof(text), "%s: %s; nothing was restored", what,
			 strerror(-error));
	if (engine_is_stopping(e))
		return;
	job_finish(e, rel, CIM_JOB_EXCEPTION,
		   error == -ETIMEDOUT ? CIM_RETURN_TIMEOUT :
					 outcome_code_of_errno(-error),
		   text);
}

static void fail(struct operation_call *call, int error, const char *what)
{
	struct relationship *rel = call->rel;
	struct engine *e = call->engine;

	undo(call);
	call_free(call);
	record_failure(e, rel, error, what);
}

/* ---- commit ---------------------------------------------------------------------- */

/* The volumes read as the images; whoever has pages of them drops these. */
static void durable(struct draft *d)
{
	struct relationship *rel = d->rel;

	for (size_t i = 0; i < rel->n_pairs; i++)
		restore_attach(rel->op->members[i].restore);
	for (size_t i = 0; i < rel->n_pairs; i++)
		engine_event(rel->op->engine, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT,
			     rel->pairs[i]->source->obj.id, 0);
}

static void visible(struct draft *d)
{
	struct relationship *rel = d->rel;

	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct pair *p = rel->pairs[i];

		p->restore = move_ptr(rel->op->members[i].restore);
		p->restored_bytes = p->restored_same = 0;
		p->source->modified_ms = timefmt_now_ms();
		p->source->unsaved = true;
	}
}

static int record_begin(struct operation_call *call)
{
	struct relationship *rel = call->rel;
	struct draft d;
	int r = draft_begin(&d, rel);

	if (r < 0)
		return r;
	for (size_t i = 0; i < call->n; i++) {
		d.pairs[i].restore_sequence = call->members[i].params.sequence;
		d.pairs[i].progress_status = CIM_PROGRESS_RESTORING;
	}
	d.durable = durable;
	d.visible = visible;
	return draft_commit(call->engine, &d);
}

/* Attributes that were asked for in between are dropped, too. */
static void tell_sources(struct engine *e, const struct relationship *rel)
{
	elements_save_changed(e);
	for (size_t i = 0; i < rel->n_pairs; i++)
		engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT,
			     rel->pairs[i]->source->obj.id, 0);
}

/* A point was armed since the sequences were taken. */
static bool is_overtaken(const struct operation_call *call)
{
	for (size_t i = 0; i < call->n; i++) {
		const struct restore_params *p = &call->members[i].params;

		if (chain_newest_sequence(volume_chain(p->volume)) > p->sequence)
			return true;
	}
	return false;
}

/* A pair broke since the operation began: its point is gone. */
static bool has_broken(const struct operation_call *call)
{
	const struct relationship *rel = call->rel;

	for (size_t i = 0; i < call->n; i++) {
		const struct pair *p = rel->pairs[i];

		if (p->copy_state == CIM_COPY_BROKEN || !p->target->image ||
		    (!p->target->complete && (!pair_reads_point(p) || !p->point)))
			return true;
	}
	return false;
}

static void begin_files(struct operation_call *call);

static void take_plan(struct engine *e, struct message *m)
{
	struct operation_call *call = (struct operation_call *)m;
	struct relationship *rel = call->rel;
	int r = engine_is_stopping(e) ? -ENOTCONN : call->result;
	char handles[192];

	engine_work_done(e);
	if (r >= 0 && has_broken(call)) {
		fail(call, -EIO, "the replica broke");
		return;
	}
	if (r >= 0 && is_overtaken(call)) {
		undo(call);
		begin_files(call);
		return;
	}
	if (r >= 0 && !call->force &&
	    relation_describe_open(e, rel, true, handles, sizeof(handles))) {
		fail(call, -EBUSY, handles);
		return;
	}
	if (r >= 0) {
		call->what = "state store";
		r = record_begin(call);
	}
	if (r < 0) {
		fail(call, r, call->what);
		return;
	}
	fence_set_open(move_ptr(call->fence));
	call_free(call);
	tell_sources(e, rel);
}

/* By a worker. */
static void plan_work(struct work *work)
{
	struct operation_call *call =
		(struct operation_call *)((char *)work -
					  offsetof(struct operation_call, work));
	int r = 0;

	call->what = "what differs cannot be found out";
	for (size_t i = 0; i < call->n && r >= 0; i++)
		r = restore_plan(call->members[i].restore);
	call->result = r;
	call->m.fn = take_plan;
	engine_post(call->engine, &call->m);
}

static void fenced(struct fence_set *set, void *opaque, int error)
{
	struct operation_call *call = opaque;

	(void)set;
	if (!error && engine_is_stopping(call->engine))
		error = -ENOTCONN;
	if (error) {
		fail(call, error, "fence");
		return;
	}
	call->work.fn = plan_work;
	engine_start_work(call->engine, &call->work);
}

/* ---- files ----------------------------------------------------------------------- */

static int close_fence(struct operation_call *call)
{
	CLEANUP_FREE struct volume **volumes = calloc(call->n, sizeof(*volumes));

	if (!volumes)
		return -ENOMEM;
	for (size_t i = 0; i < call->n; i++)
		volumes[i] = call->members[i].params.volume;
	return fence_set_close(call->engine, volumes, call->n,
			       call->engine->config->daemon.fence_timeout_ms, fenced,
			       call, &call->fence);
}

static void take_files(struct engine *e, struct message *m)
{
	struct operation_call *call = (struct operation_call *)m;
	int r = engine_is_stopping(e) ? -ENOTCONN : call->result;

	engine_work_done(e);
	if (r >= 0)
		r = close_fence(call);
	if (r < 0)
		fail(call, r, call->what);
}

static int make_files(struct member *m)
{
	struct pool *pool = m->params.pool;
	/* What is left for the plan, under the fence, is little then. */
	int r = image_flush(m->params.image);

	if (r >= 0)
		r = pool_create_restore(pool, m->params.sequence, m->params.size);
	if (r >= 0)
		r = pool_sync(pool);
	if (r >= 0)
		r = restore_open(&m->params, &m->restore);
	if (r < 0)
		pool_remove_restore(pool, m->params.sequence);
	return r;
}

/* By a worker. */
static void files_work(struct work *work)
{
	struct operation_call *call =
		(struct operation_call *)((char *)work -
					  offsetof(struct operation_call, work));
	int r = 0;

	call->what = "the files of the restore cannot be made";
	for (size_t i = 0; i < call->n && r >= 0; i++)
		r = make_files(&call->members[i]);
	call->result = r;
	call->m.fn = take_files;
	engine_post(call->engine, &call->m);
}

static void begin_files(struct operation_call *call)
{
	for (size_t i = 0; i < call->n; i++)
		call->members[i].params.sequence = ++call->engine->point_sequence;
	call->work.fn = files_work;
	engine_start_work(call->engine, &call->work);
}

int operation_start_restore(struct engine *e, struct relationship *rel, bool force)
{
	struct operation_call *call =
		calloc(1, sizeof(*call) + rel->n_pairs * sizeof(call->members[0]));
	int r = call ? open_targets(rel) : -ENOMEM;

	if (r >= 0)
		r = job_begin(e, rel, "RestoreFromReplica");
	if (r < 0) {
		close_targets(rel);
		free(call);
		return r;
	}
	call->engine = e;
	call->rel = rel;
	call->n = rel->n_pairs;
	call->force = force;
	for (size_t i = 0; i < rel->n_pairs; i++) {
		set_params(rel->pairs[i], 0, &call->members[i].params);
		if (call->members[i].params.point)
			point_ref(call->members[i].params.point);
		image_ref(call->members[i].params.image);
	}
	relation_set_op(e, rel, call);
	begin_files(call);
	return 0;
}

/* ---- done ------------------------------------------------------------------------ */

bool relation_is_restoring(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->restore_sequence)
			return true;
	return false;
}

void relation_restore_progress(const struct relationship *rel, struct image_progress *ret)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		const struct pair *p = rel->pairs[i];
		struct restore_progress progress = {
			.bytes_total = p->restored_bytes + p->restored_same,
			.bytes_copied = p->restored_bytes,
			.bytes_skipped = p->restored_same,
		};

		if (p->restore)
			restore_progress(p->restore, &progress);
		ret->bytes_total += progress.bytes_total;
		ret->bytes_copied += progress.bytes_copied;
		ret->bytes_skipped += progress.bytes_skipped;
		ret->bytes_present += progress.bytes_copied + progress.bytes_skipped;
	}
}

static bool others_are_restored(const struct pair *p)
{
	for (size_t i = 0; i < p->rel->n_pairs; i++)
		if (p->rel->pairs[i] != p && p->rel->pairs[i]->restore_sequence)
			return false;
	return true;
}

/* One that broke meanwhile has kept its point for the restore only. */
static int record_done(struct engine *e, struct pair *p)
{
	struct draft d;
	int r = draft_begin(&d, p->rel);

	if (r < 0)
		return r;
	d.pairs[p->n - 1].restore_sequence = 0;
	if (p->copy_state == CIM_COPY_BROKEN) {
		d.pairs[p->n - 1].progress_status = CIM_PROGRESS_NOT_APPLICABLE;
		d.pairs[p->n - 1].point = NULL;
	} else {
		d.pairs[p->n - 1].progress_status = CIM_PROGRESS_COMPLETED;
	}
	if (others_are_restored(p))
		d.job_state = CIM_JOB_COMPLETED;
	return draft_commit(e, &d);
}

void pair_record_restored(struct engine *e, struct pair *p)
{
	uint64_t sequence = p->restore_sequence;
	struct restore_progress progress;
	struct restore *restore;

	if (record_done(e, p) < 0) {
		log_error(
			"%s: pair %u: cannot record the end of its restore; it is tried "
			"again",
			p->rel->row.name, p->n);
		return;
	}
	restore_progress(p->restore, &progress);
	engine_lock(e);
	p->restored = false;
	p->restored_bytes = progress.bytes_copied;
	p->restored_same = progress.bytes_skipped;
	restore = move_ptr(p->restore);
	engine_unlock(e);
	restore_detach(restore);
	restore_unref(restore);
	close_target(p);
	pool_remove_restore(p->target->pool->pool, sequence);
	relation_tell(e, p->rel, FILE_BIT(GROUP_CONTROL));
}

static void take_done(struct engine *e, struct message *m)
{
	struct done_message *msg = (struct done_message *)m;
	struct pair *p = object_by_id(e, ENGINE_PAIR, msg->pair);

	free(msg);
	if (!p || !p->restore || engine_is_stopping(e))
		return;
	p->restored = true;
	pair_record_restored(e, p);
}

/* ---- start and stop -------------------------------------------------------------- */

static bool needs(const struct pair *p, const struct point_object *po)
{
	return p->restore_sequence && p->point && p->source == po->source &&
	       p->point->sequence <= po->sequence && po->sequence < p->restore_sequence;
}

bool restore_needs_point(const struct point_object *po)
{
	const struct pair *p;

	TAILQ_FOREACH(p, &po->source->source_of, link)
		if (needs(p, po))
			return true;
	return false;
}

void pair_keep_for_restore(struct pair *p)
{
	if (p->restore_sequence && p->point && p->source->volume)
		chain_keep(volume_chain(p->source->volume), p->point->sequence,
			   p->restore_sequence);
}

/* All that it reads is there. */
static bool can_resume(const struct pair *p)
{
	const struct point_object *po;

	if (!p->target->image || !p->source->volume)
		return false;
	if (p->target->complete)
		return true;
	if (!p->point)
		return false;
	TAILQ_FOREACH(po, &p->source->points, link)
		if (needs(p, po) && !po->point)
			return false;
	return p->point->point;
}

void pair_resume_restore(struct pair *p)
{
	struct element *source = p->source;
	struct restore_params params;
	struct restore *restore;
	char error[256];
	int r = -EIO;

	if (!p->restore_sequence)
		return;
	if (p->target->pool && open_target(p) >= 0 && can_resume(p)) {
		set_params(p, p->restore_sequence, &params);
		r = restore_open(&params, &restore);
	}
	if (r < 0) {
		snprintf(
			error, sizeof(error),
			"its restore from \"%s\" cannot go on (%s), and half of it would "
			"be wrong; bring the pool back and start again",
			p->target->obj.name, strerror(-r));
		element_set_error(source, error);
		close_target(p);
		return;
	}
	engine_lock(source->engine);
	p->restore = restore;
	engine_unlock(source->engine);
	restore_resume(restore);
	restore_attach(restore);
	/* Nobody else may need the device of one that is an image itself. */
	element_open_as_source(source);
}

void pair_stop_restore(struct pair *p)
{
	struct restore *restore;

	engine_lock(p->source->engine);
	restore = move_ptr(p->restore);
	engine_unlock(p->source->engine);
	if (!restore)
		return;
	restore_detach(restore);
	/* What waits for the device ends. */
	restore_kick(restore);
	restore_unref(restore);
	close_target(p);
}
