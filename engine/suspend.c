/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Suspend, Resume and Abort of what a relationship copies, for its job and for
 * `control`: a Clone, or a Snapshot that detaches.
 *
 *   Suspend   the pairs that are copied become Suspended, and the copiers stand still;
 *             the images can be used, and what a reader asks for still comes
 *             A copy of CopyRecoveryMode Manual is Suspended, too, when a device of it
 *             logs in anew after its connection was lost
 *   Resume    they go on; those of a Snapshot are Synchronized or Skewed again
 *   Abort     the copy ends for good, and a Detach with it.  The image of a Clone keeps
 *             what has come, that of a Snapshot its point too, until ResyncReplica takes
 *             another.  With Sequential Consistency the pairs have one fate: those that
 *             are complete are Aborted with the others, and stay complete
 *
 * The state of the pairs is what a restart goes by.
 */

#include "engine/model.h"

#include "conf/log.h"
#include "conf/timefmt.h"

bool relation_is_copying(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (pair_is_copying(rel->pairs[i]) ||
		    rel->pairs[i]->copy_state == CIM_COPY_SUSPENDED)
			return true;
	return false;
}

void relation_set_copiers(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->watched && pair_is_copying(rel->pairs[i]))
			image_will_copy(rel->pairs[i]->target->image);
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct pair *p = rel->pairs[i];

		if (p->watched && pair_is_copying(p))
			image_start_copy(p->target->image);
		else if (p->watched)
			image_pause_copy(p->target->image);
	}
}

int relation_suspend(struct engine *e, struct relationship *rel)
{
	struct draft d;
	int r = draft_begin(&d, rel);

	if (r < 0)
		return r;
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (pair_is_copying(rel->pairs[i]))
			d.pairs[i].copy_state = CIM_COPY_SUSPENDED;
	d.row.when_suspended = timefmt_now_ms();
	d.job_state = CIM_JOB_SUSPENDED;
	r = draft_commit(e, &d);
	if (r >= 0)
		relation_set_copiers(rel);
	return r;
}

bool relation_recovers_by_itself(const struct relationship *rel)
{
	return relation_setting(rel, "CopyRecoveryMode") != CIM_RECOVERY_MANUAL;
}

static void suspend_repaired(struct engine *e, struct pair *p, const struct element *el)
{
	struct relationship *rel = p->rel;

	if (!pair_is_copying(p) || rel->op || relation_recovers_by_itself(rel))
		return;
	log_info(
		"%s: %s has logged in anew: the copy is suspended (CopyRecoveryMode Manual)",
		rel->row.name, el->obj.name);
	if (relation_suspend(e, rel) < 0)
		log_error("%s: cannot record Suspended; the copy goes on", rel->row.name);
}

void relation_link_repaired(struct engine *e, struct element *el)
{
	struct pair *p;

	TAILQ_FOREACH (p, &el->source_of, link)
		suspend_repaired(e, p, el);
	if (el->target_of)
		suspend_repaired(e, el->target_of, el);
}

static unsigned resumed_state(const struct pair *p)
{
	if (p->rel->row.sync_type != CIM_SYNC_SNAPSHOT)
		return CIM_COPY_UNSYNCHRONIZED;
	return p->written ? CIM_COPY_SKEWED : CIM_COPY_SYNCHRONIZED;
}

int relation_resume(struct engine *e, struct relationship *rel)
{
	struct draft d;
	int r = draft_begin(&d, rel);

	if (r < 0)
		return r;
	for (size_t i = 0; i < rel->n_pairs; i++) {
		if (d.pairs[i].copy_state != CIM_COPY_SUSPENDED)
			continue;
		d.pairs[i].copy_state = resumed_state(rel->pairs[i]);
		/* As earlier versions left it. */
		if (d.pairs[i].progress_status == CIM_PROGRESS_DORMANT)
			d.pairs[i].progress_status = CIM_PROGRESS_SYNCHRONIZING;
	}
	d.job_state = CIM_JOB_RUNNING;
	r = draft_commit(e, &d);
	if (r >= 0)
		relation_set_copiers(rel);
	return r;
}

static bool shares_fate(const struct pair *p)
{
	return p->rel->row.consistency == CIM_CONSISTENCY_SEQUENTIAL ||
	       !p->target->complete;
}

int relation_abort(struct engine *e, struct relationship *rel, unsigned job_state,
		   const char *why)
{
	bool snapshot = rel->row.sync_type == CIM_SYNC_SNAPSHOT;
	struct draft d;
	int r;

	for (size_t i = 0; i < rel->n_pairs; i++)
		if (!snapshot && !rel->pairs[i]->target->complete)
			pair_detach(rel->pairs[i]);
	r = draft_begin(&d, rel);
	for (size_t i = 0; r >= 0 && i < rel->n_pairs; i++)
		if (shares_fate(rel->pairs[i]) &&
		    d.pairs[i].copy_state != CIM_COPY_BROKEN) {
			d.pairs[i].copy_state = CIM_COPY_ABORTED;
			d.pairs[i].progress_status = CIM_PROGRESS_DORMANT;
			if (!snapshot)
				d.pairs[i].point = NULL;
		}
	if (r >= 0) {
		d.row.detaching = false;
		d.job_state = job_state;
		d.job_error_code = CIM_RETURN_FAILED;
		d.job_error = why;
		r = draft_commit(e, &d);
	}
	for (size_t i = 0; r < 0 && i < rel->n_pairs; i++)
		if (!rel->pairs[i]->target->complete && !rel->pairs[i]->watched)
			pair_attach(rel->pairs[i]);
	relation_set_copiers(rel);
	return r;
}
