/* SPDX-License-Identifier: BSD-2-Clause */

/* ModifyReplicaSynchronization: what is written to a group's `control`. */

#include "engine/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/word.h"

/* Ends the relationship at once, or when the copy that still runs has ended. */
static void detach(struct engine *e, struct relationship *rel, bool force,
		   struct outcome *o)
{
	struct draft d;
	int r;

	(void)force;
	if (relation_copy_state(rel) == CIM_COPY_SYNCHRONIZED) {
		r = relation_end(e, rel, false, 0);
		if (r < 0)
			command_store_failed(o, r);
		return;
	}
	r = draft_begin(&d, rel);
	if (r >= 0) {
		d.row.detaching = true;
		r = draft_commit(e, &d);
	}
	if (r < 0)
		command_store_failed(o, r);
	else
		outcome_job_started(o);
}

/* The images that are open, for a sentence; false if none is. */
static bool describe_open_images(struct engine *e, const struct relationship *rel,
				 char *buf, size_t size)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->target->n_handles) {
			element_describe_handles(rel->pairs[i]->target, buf, size);
			return true;
		}
	return false;
}

/* An image that this would delete, but that others depend on. */
static const struct element *used_elsewhere(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		const struct element *el = rel->pairs[i]->target;

		if (el->n_source || el->n_members > 1)
			return el;
	}
	return NULL;
}

static void return_to_pool(struct engine *e, struct relationship *rel, bool force,
			   struct outcome *o)
{
	const struct element *used = used_elsewhere(rel);
	char handles[128];
	int r;

	if (used) {
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "ReturnToResourcePool: \"%s\" is a member of another group; "
			     "take it out first",
			     used->obj.name);
		return;
	}
	if (!force && describe_open_images(e, rel, handles, sizeof(handles))) {
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

/* Takes the instant of a relationship that was only established. */
static void activate(struct engine *e, struct relationship *rel, bool force,
		     struct outcome *o)
{
	int64_t now = timefmt_now_ms();
	struct draft d;
	int r;

	(void)force;
	/* One that runs already was begun when the process ended, or the store
	 * failed, before the instant was there. */
	r = rel->job && !job_is_over(rel->job) ? 0 : job_begin(e, rel);
	if (r < 0) {
		command_store_failed(o, r);
		return;
	}
	r = draft_begin(&d, rel);
	if (r >= 0) {
		relation_set_instant(&d, now);
		r = draft_commit(e, &d);
	}
	if (r < 0) {
		job_drop(e, rel->job);
		command_store_failed(o, r);
		return;
	}
	for (size_t i = 0; i < rel->n_pairs; i++)
		pair_attach(rel->pairs[i]);
	outcome_job_started(o);
}

#define IN(state) (1u << (state))

/* Which CopyStates of a Clone allow which operation, and what carries it out.
 * An operation without a row is not supported. */
static const struct operation {
	unsigned number;
	unsigned states; /* IN(state) */
	void (*run)(struct engine *e, struct relationship *rel, bool force,
		    struct outcome *o);
} operations[] = {
	{ CIM_OP_ACTIVATE,
	  IN(CIM_COPY_INITIALIZED) | IN(CIM_COPY_INACTIVE) | IN(CIM_COPY_PREPARED),
	  activate },
	{ CIM_OP_DETACH,
	  IN(CIM_COPY_SYNCHRONIZED) | IN(CIM_COPY_UNSYNCHRONIZED) | IN(CIM_COPY_MIXED),
	  detach },
	{ CIM_OP_DISSOLVE,
	  IN(CIM_COPY_SYNCHRONIZED) | IN(CIM_COPY_UNSYNCHRONIZED) | IN(CIM_COPY_MIXED),
	  detach },
	{ CIM_OP_RETURN_TO_RESOURCE_POOL, ~0u, return_to_pool },
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

/* Mixed allows Detach only while every pair is copied or being copied. */
static bool is_allowed(const struct operation *op, const struct relationship *rel)
{
	unsigned state = relation_copy_state(rel);

	if (!(op->states & IN(state)))
		return false;
	if (state != CIM_COPY_MIXED || op->states == ~0u)
		return true;
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (!(op->states & IN(rel->pairs[i]->copy_state)))
			return false;
	return true;
}

void operation_allowed(const struct relationship *rel, struct strbuf *b)
{
	for (size_t i = 0; i < N_OPERATIONS; i++)
		if (is_allowed(&operations[i], rel))
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
	for (size_t i = 0; i < N_OPERATIONS; i++) {
		if (operations[i].number != number)
			continue;
		if (is_allowed(&operations[i], rel))
			operations[i].run(e, rel, force, o);
		else
			wrong_state(&operations[i], rel, o);
		return;
	}
	outcome_fail(o, CIM_RETURN_NOT_SUPPORTED, 0,
		     "%s is not supported for a Clone; read control for what is",
		     cim_name(&cim_operation, number));
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
