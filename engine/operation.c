/* SPDX-License-Identifier: BSD-2-Clause */

/* ModifyReplicaSynchronization: what is written to a group's `control`. */

#include "engine/hold.h"
#include "engine/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/transition.h"
#include "engine/word.h"

static bool all_complete(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (!rel->pairs[i]->target->complete)
			return false;
	return true;
}

/* A Snapshot fills itself from now on. */
static void start_filling(struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct pair *p = rel->pairs[i];

		if (!p->watched || rel->row.sync_type != CIM_SYNC_SNAPSHOT)
			continue;
		image_keep_reads(p->target->image);
		image_will_copy(p->target->image);
	}
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->watched && rel->row.sync_type == CIM_SYNC_SNAPSHOT)
			image_start_copy(rel->pairs[i]->target->image);
}

/* Ends the relationship at once, or when its images are self-contained. */
static void detach(struct engine *e, struct relationship *rel, bool force,
		   struct outcome *o)
{
	struct draft d;
	int r;

	(void)force;
	if (all_complete(rel)) {
		r = relation_end(e, rel, false, CIM_JOB_TERMINATED);
		if (r < 0)
			command_store_failed(o, r);
		return;
	}
	r = draft_begin(&d, rel);
	if (r >= 0) {
		if (!rel->job || job_is_over(rel->job) || rel->job_end.state ||
		    relation_is_read(rel))
			d.new_job = "Detach";
		d.row.detaching = true;
		r = draft_commit(e, &d);
	}
	if (r < 0) {
		command_store_failed(o, r);
		return;
	}
	start_filling(rel);
	outcome_job_started(o);
}

bool relation_describe_open(struct engine *e, const struct relationship *rel,
			    bool of_sources, char *buf, size_t size)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	for (size_t i = 0; i < rel->n_pairs; i++) {
		const struct element *el =
			of_sources ? rel->pairs[i]->source : rel->pairs[i]->target;

		if (el->n_handles) {
			element_describe_handles(el, buf, size);
			return true;
		}
	}
	return false;
}

/* An image that this would delete, but that others depend on. */
static const struct element *used_elsewhere(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		const struct element *el = rel->pairs[i]->target;

		if (!element_is_lun(el) && (el->n_source || el->n_members > 1))
			return el;
	}
	return NULL;
}

static void return_to_pool(struct engine *e, struct relationship *rel, bool force,
			   struct outcome *o)
{
	const struct element *used = used_elsewhere(rel);
	char handles[192];
	int r;

	if (used) {
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "ReturnToResourcePool: \"%s\" is a member of another group; "
			     "take it out first",
			     used->obj.name);
		return;
	}
	if (!force && relation_describe_open(e, rel, false, handles, sizeof(handles))) {
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "ReturnToResourcePool: %s; close it, or write "
			     "\"ReturnToResourcePool Force\"",
			     handles);
		return;
	}
	r = relation_end(e, rel, true, CIM_JOB_TERMINATED);
	if (r < 0)
		command_store_failed(o, r);
}

/* Refuses what replaces bytes while they are open. */
static bool is_open(struct engine *e, const struct relationship *rel, const char *name,
		    bool force, struct outcome *o)
{
	char handles[192];

	if (force || !relation_describe_open(e, rel, false, handles, sizeof(handles)))
		return false;
	outcome_fail(o, CIM_RETURN_IN_USE, 0, "%s: %s; close it, or write \"%s Force\"",
		     name, handles, name);
	return true;
}

/* A source of which no instant can be taken. */
static bool lacks_source(struct relationship *rel, const char *name, struct outcome *o)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct element *el = rel->pairs[i]->source;

		if (element_open_as_source(el) >= 0 && !*el->error && el->volume &&
		    el->status.state != BD_REFUSED)
			continue;
		outcome_fail(o, CIM_RETURN_FAILED, 0, "%s: member %s: %.500s", name,
			     el->obj.name,
			     *el->error ? el->error : element_device_error(el));
		return true;
	}
	return false;
}

/* A target without the pool for its map, and the point's. */
static bool lacks_pool(const struct relationship *rel, const char *name,
		       struct outcome *o)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		if (pair_pool(rel->pairs[i]))
			continue;
		outcome_fail(o, CIM_RETURN_FAILED, 0,
			     "%s: target %s: pool %s is no longer configured", name,
			     rel->pairs[i]->target->obj.name, rel->row.pool);
		return true;
	}
	return false;
}

static void take_instant(struct engine *e, struct relationship *rel, const char *name,
			 bool force, struct outcome *o)
{
	const struct hold *same =
		hold_find_same(e, rel->row.shared_method, rel->row.quiesce_command,
			       rel->row.thaw_command);
	int r;

	if (lacks_source(rel, name, o) || lacks_pool(rel, name, o))
		return;
	if (same && same != rel->hold) {
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "%s: its commands quiesce for \"%s\" now, whose thaw would "
			     "end this too; wait for the end of that copy",
			     name, hold_owner(same));
		return;
	}
	r = operation_take_instant(e, rel, name, force);
	if (r < 0)
		command_store_failed(o, r);
	else
		outcome_job_started(o);
}

/* Takes the instant of a relationship that has none. */
static void activate(struct engine *e, struct relationship *rel, bool force,
		     struct outcome *o)
{
	/* An image that is open without an instant has nothing to lose. */
	(void)force;
	take_instant(e, rel, "Activate", true, o);
}

static void resync(struct engine *e, struct relationship *rel, bool force,
		   struct outcome *o)
{
	if (!is_open(e, rel, "ResyncReplica", force, o))
		take_instant(e, rel, "ResyncReplica", force, o);
}

/* Another restore of a source, for a sentence; NULL if there is none. */
static const struct element *restored_already(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct element *source = rel->pairs[i]->source;
		const struct pair *other;

		TAILQ_FOREACH(other, &source->source_of, link)
			if (other->restore_sequence || other->rel->op)
				return source;
	}
	return NULL;
}

/* A source that cannot be restored from these replicas. */
static bool cannot_restore(const struct relationship *rel, struct outcome *o)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		const struct element *source = rel->pairs[i]->source;

		for (size_t k = 0; k < i; k++)
			if (rel->pairs[k]->source == source) {
				outcome_fail(
					o, CIM_RETURN_NOT_SUPPORTED, 0,
					"RestoreFromReplica: relationship \"%s\" has "
					"several replicas of \"%s\"; make one of its "
					"own for each that is to be restored from",
					rel->row.name, source->obj.name);
				return true;
			}
		if (element_is_lun(rel->pairs[i]->target)) {
			outcome_fail(o, CIM_RETURN_NOT_SUPPORTED, 0,
				     "RestoreFromReplica: \"%s\" is a LUN, not an image; "
				     "write Detach, and clone it onto \"%s\"",
				     rel->pairs[i]->target->obj.name, source->obj.name);
			return true;
		}
		if (!source->exclusive && source->origin != STORE_ORIGIN_REPLICA) {
			outcome_fail(o, CIM_RETURN_FAILED, EROFS,
				     "RestoreFromReplica: \"%s\" is shared: others may "
				     "write it meanwhile; make it exclusive "
				     "(elements/%s/access) and clone it anew",
				     source->obj.name, source->obj.name);
			return true;
		}
		if ((source->have_info && source->info.read_only) ||
		    element_is_read_only(source)) {
			outcome_fail(o, CIM_RETURN_FAILED, EROFS,
				     "RestoreFromReplica: \"%s\" is read-only",
				     source->obj.name);
			return true;
		}
	}
	return false;
}

static void restore(struct engine *e, struct relationship *rel, bool force,
		    struct outcome *o)
{
	const struct element *busy = restored_already(rel);
	char handles[192];
	int r;

	if (cannot_restore(rel, o) || lacks_source(rel, "RestoreFromReplica", o))
		return;
	if (busy) {
		outcome_fail(
			o, CIM_RETURN_IN_USE, 0,
			"RestoreFromReplica: another operation on \"%s\" is under way; "
			"wait for the end of its job",
			busy->obj.name);
		return;
	}
	if (!force && relation_describe_open(e, rel, true, handles, sizeof(handles))) {
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "RestoreFromReplica: %s; close it, or write "
			     "\"RestoreFromReplica Force\"",
			     handles);
		return;
	}
	r = operation_start_restore(e, rel, force);
	if (r < 0)
		command_store_failed(o, r);
	else
		outcome_job_started(o);
}

static void verify(struct engine *e, struct relationship *rel, bool force,
		   struct outcome *o)
{
	int r;

	(void)force;
	if (lacks_source(rel, "Verify", o))
		return;
	r = operation_start_verify(e, rel);
	if (r < 0)
		command_store_failed(o, r);
	else
		outcome_job_started(o);
}

/* The instant is given up; what was written to the images goes with it. */
static void deactivate(struct engine *e, struct relationship *rel, bool force,
		       struct outcome *o)
{
	struct draft d;
	int r;

	if (is_open(e, rel, "Deactivate", force, o))
		return;
	for (size_t i = 0; i < rel->n_pairs; i++)
		pair_detach(rel->pairs[i]);
	r = draft_begin(&d, rel);
	if (r >= 0) {
		d.row.when_deactivated = timefmt_now_ms();
		d.row.when_synced = d.row.when_synchronized = 0;
		d.row.detaching = false;
		d.job_state = CIM_JOB_TERMINATED;
		d.job_error_code = CIM_RETURN_FAILED;
		d.job_error = "Deactivate was written to control of its group";
		for (size_t i = 0; i < rel->n_pairs; i++) {
			d.pairs[i].copy_state = CIM_COPY_INACTIVE;
			d.pairs[i].progress_status = CIM_PROGRESS_REQUIRES_ACTIVATE;
			d.pairs[i].when_synced = 0;
			d.pairs[i].written = false;
			d.pairs[i].point = NULL;
		}
		r = draft_commit(e, &d);
	}
	if (r < 0) {
		for (size_t i = 0; i < rel->n_pairs; i++)
			pair_attach(rel->pairs[i]);
		command_store_failed(o, r);
		return;
	}
	for (size_t i = 0; i < rel->n_pairs; i++)
		element_empty_image(rel->pairs[i]->target);
}

static void carry_out(int r, struct outcome *o)
{
	if (r < 0)
		command_store_failed(o, r);
}

static void suspend(struct engine *e, struct relationship *rel, bool force,
		    struct outcome *o)
{
	(void)force;
	carry_out(relation_suspend(e, rel), o);
}

static void resume(struct engine *e, struct relationship *rel, bool force,
		   struct outcome *o)
{
	(void)force;
	carry_out(relation_resume(e, rel), o);
}

/* The copy ends for good. */
static void give_up(struct engine *e, struct relationship *rel, bool force,
		    struct outcome *o)
{
	(void)force;
	carry_out(relation_abort(e, rel, CIM_JOB_TERMINATED,
				 "Abort was written to control of its group"),
		  o);
}

/* The copies are there for good; what is written to them changes no CopyState any more. */
static void fracture(struct engine *e, struct relationship *rel, bool force,
		     struct outcome *o)
{
	struct draft d;
	int r = draft_begin(&d, rel);

	(void)force;
	if (r >= 0) {
		for (size_t i = 0; i < rel->n_pairs; i++)
			d.pairs[i].copy_state = CIM_COPY_FRACTURED;
		r = draft_commit(e, &d);
	}
	carry_out(r, o);
}

/* What carries an operation out; where that is allowed says transition.c. */
static const struct {
	unsigned number;
	void (*run)(struct engine *e, struct relationship *rel, bool force,
		    struct outcome *o);
} operations[] = {
	{ CIM_OP_ACTIVATE, activate },
	{ CIM_OP_DEACTIVATE, deactivate },
	{ CIM_OP_DETACH, detach },
	{ CIM_OP_DISSOLVE, detach },
	{ CIM_OP_SUSPEND, suspend },
	{ CIM_OP_RESUME, resume },
	{ CIM_OP_ABORT, give_up },
	{ CIM_OP_FRACTURE, fracture },
	{ CIM_OP_RESYNC_REPLICA, resync },
	{ CIM_OP_RESTORE_FROM_REPLICA, restore },
	{ CIM_OP_RETURN_TO_RESOURCE_POOL, return_to_pool },
	{ CIM_OP_VERIFY, verify },
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static enum transition_refusal check(const struct relationship *rel, unsigned number)
{
	unsigned states = 0;
	enum transition_refusal refusal;

	for (size_t i = 0; i < rel->n_pairs; i++)
		states |= TRANSITION_IN(rel->pairs[i]->copy_state);
	refusal =
		transition_check(number, rel->row.sync_type, states, rel->row.detaching);
	if (refusal == TRANSITION_NOT_SUPPORTED)
		return refusal;
	if (rel->op)
		return TRANSITION_IN_INSTANT;
	if (relation_is_restoring(rel))
		return TRANSITION_RESTORING;
	if (rel->verify && number == CIM_OP_VERIFY)
		return TRANSITION_VERIFYING;
	return refusal;
}

void operation_allowed(const struct relationship *rel, struct strbuf *b)
{
	struct outcome o;

	for (size_t i = 0; i < N_OPERATIONS; i++)
		if (check(rel, operations[i].number) == TRANSITION_ALLOWED &&
		    (operations[i].number != CIM_OP_RESTORE_FROM_REPLICA ||
		     !cannot_restore(rel, &o)))
			strbuf_addf(b, "%s\n",
				    cim_name(&cim_operation, operations[i].number));
}

static void not_supported(const char *name, unsigned number, unsigned sync_type,
			  struct outcome *o)
{
	const char *why = transition_why_not(number, sync_type);

	outcome_fail(o, CIM_RETURN_NOT_SUPPORTED, 0,
		     "%s is not supported for a %s%s%s; read control for what is", name,
		     cim_name(&cim_sync_type, sync_type), why ? ": " : "",
		     why ? why : "");
}

static void refuse(const struct relationship *rel, unsigned number,
		   enum transition_refusal refusal, struct outcome *o)
{
	const char *name = cim_name(&cim_operation, number);
	const char *job = rel->job ? rel->job->obj.name : "";
	unsigned code = transition_code(refusal);
	char states[200];

	transition_describe_states(transition_from(number, rel->row.sync_type), states,
				   sizeof(states));
	switch (refusal) {
	case TRANSITION_NOT_SUPPORTED:
		not_supported(name, number, rel->row.sync_type, o);
		break;
	case TRANSITION_IN_INSTANT:
		outcome_fail(o, code, 0,
			     "%s: job %s is about to take an instant; wait for its end",
			     name, job);
		break;
	case TRANSITION_RESTORING:
		outcome_fail(
			o, code, 0,
			"%s: the source is being restored from this replica; wait for "
			"the end of job %s",
			name, job);
		break;
	case TRANSITION_VERIFYING:
		outcome_fail(o, code, 0, "%s: job %s compares already; wait for its end",
			     name, job);
		break;
	case TRANSITION_DETACHING:
		outcome_fail(
			o, code, 0,
			"%s: relationship \"%s\" is detaching; its images end up on "
			"their own, unless you write Abort first; it would do from %s",
			name, rel->row.name, states);
		break;
	case TRANSITION_NOT_DETACHING:
		outcome_fail(o, code, 0,
			     "%s: a %s copies nothing in the background, unless it "
			     "detaches; write Detach first; it would do from %s then",
			     name, cim_name(&cim_sync_type, rel->row.sync_type), states);
		break;
	default:
		outcome_fail(o, code, 0, "%s: not from CopyState %s; it would do from %s",
			     name, cim_name(&cim_copy_state, relation_copy_state(rel)),
			     states);
	}
}

static void run(struct engine *e, struct relationship *rel, unsigned number, bool force,
		struct outcome *o)
{
	enum transition_refusal refusal = check(rel, number);

	for (size_t i = 0; i < N_OPERATIONS && refusal == TRANSITION_ALLOWED; i++)
		if (operations[i].number == number) {
			operations[i].run(e, rel, force, o);
			return;
		}
	refuse(rel, number, refusal, o);
}

/* Cuts " Force" off the end of a text. */
static bool take_force(char *text)
{
	char *blank = strrchr(text, ' ');

	if (!blank || !cim_same_name(blank, "Force"))
		return false;
	*blank = '\0';
	return true;
}

void operation_write(struct engine *e, struct engine_command *cmd)
{
	struct group *g = object_by_id(e, ENGINE_GROUP, cmd->id);
	unsigned number;
	char text[64];
	bool force;

	if (!word_line(cmd->text, cmd->len, text, sizeof(text)))
		*text = '\0';
	force = take_force(text);
	if (cim_parse(&cim_operation, text, &number) < 0 ||
	    !*cim_name(&cim_operation, number))
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			     "control: \"%s\" is no operation of "
			     "ModifyReplicaSynchronization; read control for those "
			     "allowed now",
			     text);
	else if (g->call)
		outcome_fail(&cmd->outcome, CIM_RETURN_IN_USE, 0,
			     "control: a spec of group \"%s\" is being carried out",
			     g->obj.name);
	else if (!g->rel)
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, 0,
			     "control: group \"%s\" has no relationship; write its spec "
			     "first",
			     g->obj.name);
	else
		run(e, g->rel, number, force, &cmd->outcome);
	command_answer(e, cmd);
}
