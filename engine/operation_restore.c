/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * RestoreFromReplica of a Snapshot: the sources go back to what the images are now.
 *
 *   begun     the job is durable and running, rel->op set; the write is answered
 *   files     a map for each pair is made and opened                     (a worker)
 *   fence     over all sources
 *   plan      what differs is found out and made durable                 (a worker)
 *   commit    one transaction: the pairs have their restore_sequence; then the volumes
 *             read as the images, and the fence opens
 *   restoring the copying back runs behind; everything else but looking is In Use
 *   done      all of it: one transaction, then the maps go
 *
 * A failure before the commit leaves everything as it was, and stands in the job.  After
 * it the restore goes on until it is done, also over restarts: a source is never shown
 * half restored.
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

struct operation_call {
	struct message m;
	struct work work;
	struct engine *engine;
	struct relationship *rel;
	struct fence_set *fence;
	int result;
	const char *what; /* failed */
	size_t n;
	struct restore *restores[]; /* one for each pair, with a reference */
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

static int open_restore(struct pair *p, uint64_t sequence, struct restore **ret_restore)
{
	const struct restore_params params = {
		.volume = p->source->volume,
		.point = p->point->point,
		.image = p->target->image,
		.pool = p->target->pool->pool,
		.sequence = sequence,
		.size = p->target->size,
		.watcher = { done, p },
	};

	return restore_open(&params, ret_restore);
}

/* ---- what fails ------------------------------------------------------------------ */

static void call_free(struct operation_call *call)
{
	call->rel->op = NULL;
	free(call);
}

static void record_failure(struct engine *e, struct relationship *rel, int error,
			   const char *what)
{
	char text[256];
	struct draft d;

	if (error == -ETIMEDOUT)
		snprintf(text, sizeof(text),
			 "the fence over the sources did not close within fence_timeout "
			 "(%u ms): writes under way did not end; nothing was restored, try "
			 "again",
			 e->config->daemon.fence_timeout_ms);
	else
		snprintf(text, sizeof(text), "%s: %s; nothing was restored", what,
			 strerror(-error));
	if (engine_is_stopping(e) || draft_begin(&d, rel) < 0)
		return;
	d.job_state = CIM_JOB_EXCEPTION;
	d.job_error_code = error == -ETIMEDOUT ? CIM_RETURN_TIMEOUT :
						 outcome_code_of_errno(-error);
	d.job_error = text;
	if (draft_commit(e, &d) < 0)
		log_error("%s: cannot record that the restore failed", rel->row.name);
}

static void fail(struct operation_call *call, int error, const char *what)
{
	struct relationship *rel = call->rel;
	struct engine *e = call->engine;

	for (size_t i = 0; i < call->n; i++) {
		struct pair *p = rel->pairs[i];

		if (!call->restores[i])
			continue;
		restore_detach(call->restores[i]);
		pool_remove_restore(p->target->pool->pool,
				    restore_sequence(call->restores[i]));
		restore_unref(call->restores[i]);
	}
	if (call->fence)
		fence_set_open(call->fence);
	call_free(call);
	record_failure(e, rel, error, what);
}

/* ---- commit ---------------------------------------------------------------------- */

static void tell_sources(struct engine *e, const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct element *source = rel->pairs[i]->source;

		engine_lock(e);
		source->modified_ms = timefmt_now_ms();
		source->unsaved = true;
		engine_unlock(e);
		engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT, source->obj.id, 0);
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
		d.pairs[i].restore_sequence = restore_sequence(call->restores[i]);
		d.pairs[i].progress_status = CIM_PROGRESS_RESTORING;
	}
	return draft_commit(call->engine, &d);
}

static void take_plan(struct engine *e, struct message *m)
{
	struct operation_call *call = (struct operation_call *)m;
	struct relationship *rel = call->rel;
	int r = engine_is_stopping(e) ? -ENOTCONN : call->result;

	if (r >= 0)
		r = record_begin(call);
	if (r < 0) {
		fail(call, r, call->what);
		return;
	}
	for (size_t i = 0; i < call->n; i++) {
		engine_lock(e);
		rel->pairs[i]->restore = call->restores[i];
		engine_unlock(e);
		restore_attach(call->restores[i]);
	}
	fence_set_open(call->fence);
	call_free(call);
	tell_sources(e, rel);
}

/* By a worker. */
static void plan_work(struct work *work)
{
	struct operation_call *call =
		(struct operation_call *)((char *)work - offsetof(struct operation_call,
								  work));
	int r = 0;

	call->what = "what differs cannot be found out";
	for (size_t i = 0; i < call->n && r >= 0; i++)
		r = restore_plan(call->restores[i]);
	call->result = r;
	call->m.fn = take_plan;
	engine_post(call->engine, &call->m);
}

static void fenced(struct fence_set *set, void *opaque, int error)
{
	struct operation_call *call = opaque;

	(void)set;
	if (error) {
		fail(call, error, "fence");
		return;
	}
	call->work.fn = plan_work;
	workers_submit(call->engine->workers, &call->work);
}

/* ---- files ----------------------------------------------------------------------- */

static int close_fence(struct operation_call *call)
{
	CLEANUP_FREE struct volume **volumes = calloc(call->n, sizeof(*volumes));

	if (!volumes)
		return -ENOMEM;
	for (size_t i = 0; i < call->n; i++)
		volumes[i] = call->rel->pairs[i]->source->volume;
	return fence_set_close(call->engine, volumes, call->n,
			       call->engine->config->daemon.fence_timeout_ms, fenced, call,
			       &call->fence);
}

static void take_files(struct engine *e, struct message *m)
{
	struct operation_call *call = (struct operation_call *)m;
	int r = engine_is_stopping(e) ? -ENOTCONN : call->result;

	if (r >= 0)
		r = close_fence(call);
	if (r < 0)
		fail(call, r, call->what);
}

/* By a worker. */
static void files_work(struct work *work)
{
	struct operation_call *call =
		(struct operation_call *)((char *)work - offsetof(struct operation_call,
								  work));
	int r = 0;

	call->what = "the files of the restore cannot be made";
	for (size_t i = 0; i < call->n && r >= 0; i++) {
		struct pair *p = call->rel->pairs[i];
		struct pool *pool = p->target->pool->pool;
		uint64_t sequence = p->wanted_sequence;

		r = pool_create_restore(pool, sequence, p->target->size);
		if (r >= 0)
			r = pool_sync(pool);
		if (r >= 0)
			r = open_restore(p, sequence, &call->restores[i]);
		if (r < 0)
			pool_remove_restore(pool, sequence);
	}
	call->result = r;
	call->m.fn = take_files;
	engine_post(call->engine, &call->m);
}

int operation_start_restore(struct engine *e, struct relationship *rel)
{
	struct operation_call *call =
		calloc(1, sizeof(*call) + rel->n_pairs * sizeof(call->restores[0]));
	int r = call ? job_begin(e, rel, "RestoreFromReplica") : -ENOMEM;

	if (r < 0) {
		free(call);
		return r;
	}
	call->engine = e;
	call->rel = rel;
	call->n = rel->n_pairs;
	for (size_t i = 0; i < rel->n_pairs; i++)
		rel->pairs[i]->wanted_sequence = ++e->point_sequence;
	rel->op = call;
	call->work.fn = files_work;
	workers_submit(e->workers, &call->work);
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
	if (p->copy_state == CIM_COPY_BROKEN)
		d.pairs[p->n - 1].point = NULL;
	else
		d.pairs[p->n - 1].progress_status = CIM_PROGRESS_COMPLETED;
	if (others_are_restored(p) && p->rel->job && !job_is_over(p->rel->job))
		d.job_state = CIM_JOB_COMPLETED;
	return draft_commit(e, &d);
}

static void take_done(struct engine *e, struct message *m)
{
	struct done_message *msg = (struct done_message *)m;
	struct pair *p = object_by_id(e, ENGINE_PAIR, msg->pair);
	struct restore *restore;
	uint64_t sequence;

	free(msg);
	if (!p || !p->restore || engine_is_stopping(e))
		return;
	sequence = p->restore_sequence;
	if (record_done(e, p) < 0) {
		log_error("%s: pair %u: cannot record the end of its restore; it ends with "
			  "the next start",
			  p->rel->row.name, p->n);
		return;
	}
	engine_lock(e);
	restore = move_ptr(p->restore);
	engine_unlock(e);
	restore_detach(restore);
	restore_unref(restore);
	pool_remove_restore(p->target->pool->pool, sequence);
}

void pair_resume_restore(struct pair *p)
{
	struct element *source = p->source;
	char error[256];
	int r = -EIO;

	if (!p->restore_sequence)
		return;
	if (p->point && p->point->point && p->target->image && source->volume)
		r = open_restore(p, p->restore_sequence, &p->restore);
	if (r >= 0) {
		restore_resume(p->restore);
		restore_attach(p->restore);
		return;
	}
	snprintf(error, sizeof(error),
		 "its restore from \"%s\" cannot go on (%s), and half of it would be "
		 "wrong; bring the pool back and start again",
		 p->target->obj.name, strerror(-r));
	element_set_error(source, error);
}

void pair_stop_restore(struct pair *p)
{
	if (p->restore)
		restore_detach(p->restore);
	restore_unref(move_ptr(p->restore));
}
