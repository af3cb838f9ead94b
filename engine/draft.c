/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The one door for CopyState and JobState: a draft of a relationship's states is
 * checked against the table of transition.c, written to the store, then to the
 * objects, then told.
 */

#include "engine/hold.h"
#include "engine/instant.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"
#include "engine/transition.h"

int draft_begin(struct draft *d, struct relationship *rel)
{
	*d = (struct draft){ .rel = rel, .row = rel->row };
	d->pairs = calloc(rel->n_pairs ? rel->n_pairs : 1, sizeof(*d->pairs));
	if (!d->pairs)
		return -ENOMEM;
	for (size_t i = 0; i < rel->n_pairs; i++)
		d->pairs[i] = (struct pair_draft){
			.copy_state = rel->pairs[i]->copy_state,
			.progress_status = rel->pairs[i]->progress_status,
			.when_synced = rel->pairs[i]->when_synced,
			.written = rel->pairs[i]->written,
			.restore_sequence = rel->pairs[i]->restore_sequence,
			.point = rel->pairs[i]->point,
		};
	return 0;
}

void draft_drop(struct draft *d)
{
	free(d->pairs);
	d->pairs = NULL;
}

/* Has no instant. */
static bool is_idle(unsigned copy_state)
{
	return copy_state == CIM_COPY_INITIALIZED || copy_state == CIM_COPY_INACTIVE ||
	       copy_state == CIM_COPY_PREPARED;
}

void relation_set_instant(struct draft *d, int64_t now_ms)
{
	bool consistent = d->row.consistency_state != CIM_CONSISTENCY_STATE_INCONSISTENT;

	/* The present instant's: a Clone gets its own when its copy is complete. */
	d->row.when_synchronized = d->row.sync_type == CIM_SYNC_SNAPSHOT ? now_ms : 0;
	d->row.when_activated = now_ms;
	d->row.when_held = d->rel->hold ? d->rel->hold->taken_ms : 0;
	d->row.when_thawed = 0;
	d->row.thaw_error = "";
	/* A copy of what others write meanwhile is of no instant. */
	d->row.when_synced = consistent ? now_ms : 0;
	for (size_t i = 0; i < d->rel->n_pairs; i++) {
		bool snapshot = d->row.sync_type == CIM_SYNC_SNAPSHOT;
		bool again = !is_idle(d->pairs[i].copy_state);

		d->pairs[i].copy_state =
			snapshot ? CIM_COPY_SYNCHRONIZED : CIM_COPY_UNSYNCHRONIZED;
		d->pairs[i].progress_status = snapshot ? CIM_PROGRESS_COMPLETED :
					      again    ? CIM_PROGRESS_RESYNCING :
							 CIM_PROGRESS_SYNCHRONIZING;
		d->pairs[i].written = false;
		d->pairs[i].error = "";
		d->pairs[i].when_synced = d->row.when_synced;
	}
}

static bool is_allowed(const struct draft *d)
{
	for (size_t i = 0; i < d->rel->n_pairs; i++)
		if (!transition_may_go(d->row.sync_type, d->rel->pairs[i]->copy_state,
				       d->pairs[i].copy_state)) {
			log_error("%s: pair %zu: no transition from %s to %s",
				  d->rel->row.name, i + 1,
				  cim_name(&cim_copy_state, d->rel->pairs[i]->copy_state),
				  cim_name(&cim_copy_state, d->pairs[i].copy_state));
			return false;
		}
	return true;
}

static bool pair_differs(const struct pair *p, const struct pair_draft *d)
{
	return p->copy_state != d->copy_state ||
	       p->progress_status != d->progress_status ||
	       p->when_synced != d->when_synced || p->written != d->written ||
	       p->restore_sequence != d->restore_sequence || p->point != d->point || d->generation || d->error || d->complete;
}

static void draft_job(const struct draft *d, struct store_job *row)
{
	if (job_state_is_end(d->job_state)) {
		job_end_row(d->rel, d->job_state, d->job_error_code,
			    d->job_error ? d->job_error : "", row);
		return;
	}
	job_row(d->rel->job, row);
	row->state = d->job_state;
	row->last_state_change = timefmt_now_ms();
}

static void store_pairs(struct engine *e, const struct draft *d)
{
	for (size_t i = 0; i < d->rel->n_pairs; i++) {
		struct pair *p = d->rel->pairs[i];
		struct image_progress progress = { 0 };
		struct store_element el;

		if (!pair_differs(p, &d->pairs[i]))
			continue;
		/* A new generation has nothing yet. */
		if (!d->pairs[i].generation)
			pair_progress(p, &progress);
		store_pair_update(
			e->store,
			&(struct store_pair){
				.id = p->obj.id,
				.relationship_id = d->rel->row.id,
				.n = p->n,
				.source_id = p->source->obj.id,
				.target_id = p->target->obj.id,
				.copy_state = d->pairs[i].copy_state,
				.progress_status = d->pairs[i].progress_status,
				.when_synced = d->pairs[i].when_synced,
				.point_id =
					d->pairs[i].point ? d->pairs[i].point->obj.id : 0,
				.written = d->pairs[i].written,
				.restore_sequence = d->pairs[i].restore_sequence,
				.bytes_copied = progress.bytes_copied,
				.bytes_skipped = progress.bytes_skipped,
				.error = d->pairs[i].error ? d->pairs[i].error : p->error,
			});
		if (d->pairs[i].complete || d->pairs[i].generation) {
			element_row(p->target, &el);
			el.complete = d->pairs[i].complete;
			if (d->pairs[i].generation)
				el.generation = d->pairs[i].generation;
			store_element_update(e->store, &el);
		}
	}
}

/* *ret_left: the point it reads no longer. */
static void apply_pair(struct pair *p, const struct pair_draft *d,
		       struct point_object **ret_left)
{
	p->copy_state = d->copy_state;
	p->progress_status = d->progress_status;
	p->when_synced = d->when_synced;
	if (d->error)
		snprintf(p->error, sizeof(p->error), "%s", d->error);
	p->written = d->written;
	p->restore_sequence = d->restore_sequence;
	if (d->complete && !p->target->complete) {
		struct image_progress progress;

		/* From here on the pair's own counts are all there is. */
		pair_progress(p, &progress);
		p->bytes_copied = progress.bytes_copied;
		p->bytes_skipped = progress.bytes_skipped;
		p->target->complete = true;
	}
	if (d->generation) {
		p->target->complete = false;
		p->target->generation = d->generation;
	}
	if (p->point == d->point)
		return;
	*ret_left = p->point;
	p->point = d->point;
	if (p->point)
		p->point->n_pairs++;
}

static void tell_pairs(struct engine *e, const struct draft *d, const bool *changed)
{
	for (size_t i = 0; i < d->rel->n_pairs; i++) {
		struct pair *p = d->rel->pairs[i];

		if (!changed[i])
			continue;
		pair_check_digest(e, p);
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_PAIR, p->obj.id,
			     FILE_BIT(PAIR_COPY_STATE) | FILE_BIT(PAIR_PROGRESS_STATUS) |
				     FILE_BIT(PAIR_PERCENT_SYNCED) |
				     FILE_BIT(PAIR_SYNC_STATE) |
				     FILE_BIT(PAIR_WHEN_SYNCED) | FILE_BIT(PAIR_ERROR) |
				     FILE_BIT(PAIR_MAP));
		if (d->pairs[i].complete || d->pairs[i].generation)
			engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT,
				     p->target->obj.id, FILE_BIT(ELEMENT_BACKING));
		if (d->pairs[i].error)
			engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT,
				     p->target->obj.id,
				     FILE_BIT(ELEMENT_OPERATIONAL_STATUS) |
					     FILE_BIT(ELEMENT_ERROR));
	}
}

static uint64_t changed_times(const struct store_relationship *a,
			      const struct store_relationship *b)
{
	uint64_t files = 0;

#define DIFFERS_(field, file)     \
	if (a->field != b->field) \
		files |= FILE_BIT(file);
	DIFFERS_(when_established, GROUP_WHEN_ESTABLISHED)
	DIFFERS_(when_synced, GROUP_WHEN_SYNCED)
	DIFFERS_(when_synchronized, GROUP_WHEN_SYNCHRONIZED)
	DIFFERS_(when_activated, GROUP_WHEN_ACTIVATED)
	DIFFERS_(when_deactivated, GROUP_WHEN_DEACTIVATED)
	DIFFERS_(when_suspended, GROUP_WHEN_SUSPENDED)
	DIFFERS_(consistency_state, GROUP_CONSISTENCY_STATE)
#undef DIFFERS_
	if (files & (FILE_BIT(GROUP_WHEN_SYNCED) | FILE_BIT(GROUP_CONSISTENCY_STATE)))
		files |= FILE_BIT(GROUP_CONSISTENCY_METHOD);
	return files;
}

/* What one commit has on its way. */
struct committing {
	bool *changed;              /* one for each pair */
	struct point_object **left; /* the points that they let go of */
	bool with_job;              /* job is the new row of rel->job */
	struct store_job job;
	struct job *new_job, *changed_job;
	struct store_job old; /* the row of the job that new_job takes the place of */
	uint64_t files; /* of the group */
};

static int write_store(struct engine *e, struct draft *d, struct committing *c)
{
	struct relationship *rel = d->rel;
	int r = 0;

	store_begin(e->store);
	if (d->instant)
		instant_store(d->instant);
	if (d->new_job)
		r = job_insert(e, rel, d->new_job, &d->row, &c->new_job, &c->old);
	store_relationship_update(e->store, &d->row);
	store_pairs(e, d);
	if (c->with_job) {
		draft_job(d, &c->job);
		store_job_update(e->store, &c->job);
	}
	if (r < 0)
		store_rollback(e->store);
	else
		r = store_commit(e->store);
	if (r < 0 && c->new_job)
		job_free(c->new_job);
	return r;
}

/* Durable already: now visible. */
static void show(struct engine *e, struct draft *d, struct committing *c)
{
	struct relationship *rel = d->rel;
	bool detaching = d->row.detaching != rel->row.detaching;

	c->files = changed_times(&rel->row, &d->row);
	if (d->durable)
		d->durable(d);
	engine_lock(e);
	rel->row = d->row;
	relation_describe_consistency(rel);
	for (size_t i = 0; i < rel->n_pairs; i++) {
		c->changed[i] = pair_differs(rel->pairs[i], &d->pairs[i]) || detaching;
		apply_pair(rel->pairs[i], &d->pairs[i], &c->left[i]);
	}
	if (d->visible)
		d->visible(d);
	if (c->with_job)
		job_apply(rel->job, &c->job);
	if (c->new_job)
		job_link(e, rel, c->new_job, &c->old);
	c->files |= relation_note_locked(e, rel);
	engine_unlock(e);
}

static void tell(struct engine *e, struct draft *d, const struct committing *c)
{
	struct relationship *rel = d->rel;

	if (c->new_job)
		engine_event_object(e, ENGINE_EVENT_CREATED, &c->new_job->obj, 0, false);
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (d->pairs[i].generation)
			engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT,
				     rel->pairs[i]->target->obj.id, 0);
	tell_pairs(e, d, c->changed);
	if (c->changed_job)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_JOB, c->changed_job->obj.id,
			     JOB_STATE_FILES);
	relation_tell(e, rel, c->files);
}

int draft_commit(struct engine *e, struct draft *d)
{
	struct relationship *rel = d->rel;
	CLEANUP_FREE bool *changed = calloc(rel->n_pairs + 1, sizeof(*changed));
	CLEANUP_FREE struct point_object **left = calloc(rel->n_pairs + 1, sizeof(*left));
	bool runs = rel->job && !job_is_over(rel->job);
	struct committing c = {
		.changed = changed,
		.left = left,
		.with_job = d->job_state && runs,
		.changed_job = runs && (d->job_state || d->new_job) ? rel->job : NULL,
	};
	int r = !changed || !left ? -ENOMEM : is_allowed(d) ? 0 : -EINVAL;

	if (!r)
		r = write_store(e, d, &c);
	if (r < 0) {
		draft_drop(d);
		return r;
	}
	show(e, d, &c);
	/* Another job took the place of its, or that has ended. */
	if (c.changed_job && (d->new_job || job_state_is_end(d->job_state))) {
		rel->job_end.state = 0;
		relation_stop_reading(rel);
	}
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (left[i])
			point_object_release(left[i]);
	tell(e, d, &c);
	draft_drop(d);
	hold_after_change(rel);
	replica_check_waiter(e, rel);
	return 0;
}
