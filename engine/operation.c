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
		if (!rel->job || job_is_over(rel->job) || rel->verify)
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
		const struct element *el = of_sources ? rel->pairs[i]->source :
							rel->pairs[i]->target;

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

		TAILQ_FOREACH (other, &source->source_of, link)
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
				outcome_fail(o, CIM_RETURN_NOT_SUPPORTED, 0,
					     "RestoreFromReplica: relationship \"%s\" has "
					     "several replicas of \"%s\"; make one of its "
					     "own for each that is to be restored from",
					     rel->row.name, source->obj.name);
				return true;
			}
		if (source->have_info && source->info.read_only) {
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
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
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

#define IN(state) (1u << (state))

#define ESTABLISHED \
	(IN(CIM_COPY_INITIALIZED) | IN(CIM_COPY_INACTIVE) | IN(CIM_COPY_PREPARED))
#define THERE (IN(CIM_COPY_SYNCHRONIZED) | IN(CIM_COPY_SKEWED))
#define COPYING (IN(CIM_COPY_UNSYNCHRONIZED) | IN(CIM_COPY_SUSPENDED))
#define ENDED (IN(CIM_COPY_BROKEN) | IN(CIM_COPY_ABORTED))

/* What a relationship that detaches has to do with it. */
enum detaching { NOT_THEN, ALSO_THEN, ONLY_THEN };

/* Which CopyStates of a SyncType allow which operation, and what carries it out.  An
 * operation without a row is not supported. */
static const struct operation {
	unsigned number;
	unsigned sync_type;
	unsigned states; /* IN(state) */
	void (*run)(struct engine *e, struct relationship *rel, bool force,
		    struct outcome *o);
	enum detaching detaching;
	unsigned beside; /* other pairs may be in these, as long as one is in `states` */
} operations[] = {
	{ CIM_OP_ACTIVATE, CIM_SYNC_SNAPSHOT, ESTABLISHED, activate },
	{ CIM_OP_DEACTIVATE, CIM_SYNC_SNAPSHOT, THERE, deactivate },
	{ CIM_OP_DETACH, CIM_SYNC_SNAPSHOT, THERE, detach, ALSO_THEN },
	{ CIM_OP_DISSOLVE, CIM_SYNC_SNAPSHOT, THERE, detach, ALSO_THEN },
	{ CIM_OP_SUSPEND, CIM_SYNC_SNAPSHOT, THERE, suspend, ONLY_THEN },
	{ CIM_OP_RESUME, CIM_SYNC_SNAPSHOT, IN(CIM_COPY_SUSPENDED), resume, ONLY_THEN,
	  THERE },
	{ CIM_OP_ABORT, CIM_SYNC_SNAPSHOT, THERE | IN(CIM_COPY_SUSPENDED), give_up,
	  ONLY_THEN },
	{ CIM_OP_RESYNC_REPLICA, CIM_SYNC_SNAPSHOT, THERE | ENDED, resync },
	{ CIM_OP_RESTORE_FROM_REPLICA, CIM_SYNC_SNAPSHOT, THERE, restore },
	{ CIM_OP_RETURN_TO_RESOURCE_POOL, CIM_SYNC_SNAPSHOT, ~0u, return_to_pool,
	  ALSO_THEN },
	{ CIM_OP_VERIFY, CIM_SYNC_SNAPSHOT, THERE, verify },
	{ CIM_OP_ACTIVATE, CIM_SYNC_CLONE, ESTABLISHED, activate },
	{ CIM_OP_DEACTIVATE, CIM_SYNC_CLONE, COPYING, deactivate },
	{ CIM_OP_DETACH, CIM_SYNC_CLONE, THERE | IN(CIM_COPY_UNSYNCHRONIZED), detach,
	  ALSO_THEN },
	{ CIM_OP_DISSOLVE, CIM_SYNC_CLONE, THERE | IN(CIM_COPY_UNSYNCHRONIZED), detach,
	  ALSO_THEN },
	{ CIM_OP_SUSPEND, CIM_SYNC_CLONE, IN(CIM_COPY_UNSYNCHRONIZED), suspend, ALSO_THEN,
	  THERE },
	{ CIM_OP_RESUME, CIM_SYNC_CLONE, IN(CIM_COPY_SUSPENDED), resume, ALSO_THEN,
	  THERE },
	{ CIM_OP_ABORT, CIM_SYNC_CLONE, COPYING, give_up, ALSO_THEN, THERE },
	{ CIM_OP_RESYNC_REPLICA, CIM_SYNC_CLONE, COPYING | THERE | ENDED, resync },
	{ CIM_OP_RETURN_TO_RESOURCE_POOL, CIM_SYNC_CLONE, ~0u, return_to_pool,
	  ALSO_THEN },
	{ CIM_OP_VERIFY, CIM_SYNC_CLONE, THERE, verify },
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

bool operation_support(size_t i, struct operation_support *ret)
{
	if (i >= N_OPERATIONS)
		return false;
	*ret = (struct operation_support){
		.number = operations[i].number,
		.sync_type = operations[i].sync_type,
		.states = operations[i].states,
		.only_detaching = operations[i].detaching == ONLY_THEN,
	};
	return true;
}

/* In Mixed every pair has to be in a state that would do, or beside one that is. */
static bool is_allowed(const struct operation *op, const struct relationship *rel)
{
	bool any = op->states == ~0u;

	for (size_t i = 0; i < rel->n_pairs && op->states != ~0u; i++) {
		unsigned state = IN(rel->pairs[i]->copy_state);

		if (!((op->states | op->beside) & state))
			return false;
		any = any || op->states & state;
	}
	return any;
}

/* What has no sense any more, as the relationship is detaching. */
static bool ends_anyway(const struct operation *op, const struct relationship *rel)
{
	return rel->row.detaching && op->detaching == NOT_THEN;
}

/* What would have sense only if it were detaching. */
static bool lacks_detach(const struct operation *op, const struct relationship *rel)
{
	return !rel->row.detaching && op->detaching == ONLY_THEN;
}

/* The row of an operation, or NULL. */
static const struct operation *find(const struct relationship *rel, unsigned number)
{
	for (size_t i = 0; i < N_OPERATIONS; i++)
		if (operations[i].number == number &&
		    operations[i].sync_type == rel->row.sync_type)
			return &operations[i];
	return NULL;
}

void operation_allowed(const struct relationship *rel, struct strbuf *b)
{
	for (size_t i = 0; i < N_OPERATIONS; i++)
		if (operations[i].sync_type == rel->row.sync_type && !rel->op &&
		    !relation_is_restoring(rel) &&
		    !(rel->verify && operations[i].run == verify) &&
		    !ends_anyway(&operations[i], rel) &&
		    !lacks_detach(&operations[i], rel) && is_allowed(&operations[i], rel))
			strbuf_addf(b, "%s\n",
				    cim_name(&cim_operation, operations[i].number));
}

static void wrong_state(const struct operation *op, const struct relationship *rel,
			struct outcome *o)
{
	char states[200] = "";
	size_t len = 0;

	for (unsigned s = CIM_COPY_INITIALIZED; s <= CIM_COPY_RESTORED; s++)
		if ((op->states & IN(s)) && s != CIM_COPY_MIXED && len < sizeof(states))
			len += (size_t)snprintf(states + len, sizeof(states) - len,
						"%s%s", len ? ", " : "",
						cim_name(&cim_copy_state, s));
	outcome_fail(o, CIM_RETURN_FAILED, 0,
		     "%s: not from CopyState %s; it would do from %s",
		     cim_name(&cim_operation, op->number),
		     cim_name(&cim_copy_state, relation_copy_state(rel)), states);
}

static void run(struct engine *e, struct relationship *rel, unsigned number, bool force,
		struct outcome *o)
{
	const struct operation *op = find(rel, number);

	if (!op)
		outcome_fail(o, CIM_RETURN_NOT_SUPPORTED, 0,
			     "%s is not supported for a %s; read control for what is",
			     cim_name(&cim_operation, number),
			     cim_name(&cim_sync_type, rel->row.sync_type));
	else if (rel->op)
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "%s: job %s is about to take an instant; wait for its end",
			     cim_name(&cim_operation, number), rel->job->obj.name);
	else if (relation_is_restoring(rel))
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "%s: the source is being restored from this replica; wait for "
			     "the end of job %s",
			     cim_name(&cim_operation, number),
			     rel->job ? rel->job->obj.name : "");
	else if (rel->verify && op->run == verify)
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "Verify: job %s compares already; wait for its end",
			     rel->job ? rel->job->obj.name : "");
	else if (ends_anyway(op, rel))
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "%s: relationship \"%s\" is detaching; its images end up on "
			     "their own",
			     cim_name(&cim_operation, number), rel->row.name);
	else if (lacks_detach(op, rel))
		outcome_fail(o, CIM_RETURN_FAILED, 0,
			     "%s: a %s copies nothing in the background, unless it "
			     "detaches; write Detach first",
			     cim_name(&cim_operation, number),
			     cim_name(&cim_sync_type, rel->row.sync_type));
	else if (!is_allowed(op, rel))
		wrong_state(op, rel, o);
	else
		op->run(e, rel, force, o);
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
