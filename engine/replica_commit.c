/* SPDX-License-Identifier: BSD-2-Clause */

/* CreateGroupReplica, the second half: the relationship is made, and the write
 * waits for its CopyState. */

#include "engine/hold.h"
#include "engine/replica.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"

/* Everything that the transaction makes, before it is visible. */
struct replica_made {
	struct relationship *rel;
	struct element **targets;
	bool luns;	 /* are objects already */
	struct job *job; /* NULL: nothing to do until Activate */
	size_t n;
};

static void made_free(struct replica_made *m)
{
	relation_free(m->rel);
	if (m->job)
		job_free(m->job);
	for (size_t i = 0; m->targets && i < m->n; i++)
		if (m->targets[i] && !m->luns)
			element_free(m->targets[i]);
	free(m->targets);
	free(m);
}

static bool is_snapshot(const struct replica_call *call)
{
	return call->spec.sync_type == CIM_SYNC_SNAPSHOT;
}

unsigned replica_idle_state(const struct replica_call *call)
{
	unsigned s = call->spec.wait_for_copy_state;

	return s == CIM_COPY_INITIALIZED || s == CIM_COPY_INACTIVE ||
			       s == CIM_COPY_PREPARED ?
		       s :
		       0;
}

static void relationship_row(const struct replica_call *call, const char *spec,
			     struct store_relationship *row)
{
	bool instant = !replica_idle_state(call);
	bool consistent = call->consistency_state != CIM_CONSISTENCY_STATE_INCONSISTENT;

	*row = (struct store_relationship){
		.group_id = call->group->obj.id,
		.sync_type = call->spec.sync_type,
		.mode = call->spec.mode ? call->spec.mode : CIM_MODE_ASYNCHRONOUS,
		.source_group_id = call->source_group ? call->source_group->obj.id : 0,
		.source_element_id = call->source_group ? 0 : call->sources[0]->obj.id,
		.consistency = call->consistency,
		.consistency_state = call->consistency_state,
		.copy_priority = replica_setting(call, "CopyPriority"),
		.setting = call->setting,
		.max_bytes_per_second = call->max_bytes_per_second,
		.digest = call->digest,
		.spec = spec,
		.pool = call->pool->obj.name,
		.when_established = call->now_ms,
		.when_activated = instant ? call->now_ms : 0,
		.when_synced = instant && consistent ? call->now_ms : 0,
		.when_synchronized = instant && is_snapshot(call) ? call->now_ms : 0,
		.shared_method = call->shared_method,
		.quiesce_command = call->quiesce_command,
		.thaw_command = call->thaw_command,
		.when_held = call->hold ? call->hold->taken_ms : 0,
		.thaw_error = "",
	};
	memcpy(row->name, call->spec.relationship_name, sizeof(row->name));
}

static int add_job(struct replica_call *call, struct replica_made *m,
		   struct store_relationship *row)
{
	struct store_job job;
	char title[96];
	int64_t id;

	if (replica_idle_state(call) || is_snapshot(call))
		return 0;
	job_describe_new("CreateGroupReplica", row->name, title, sizeof(title), &job);
	job.group_id = row->group_id;
	id = store_job_insert(call->engine->store, &job);
	if (id <= 0)
		return id < 0 ? (int)id : -EIO;
	job.id = (uint64_t)id;
	row->job_id = job.id;
	m->job = job_new(&job);
	return m->job ? 0 : -ENOMEM;
}

/* What becomes of the row of a LUN. */
static void lun_row(const struct replica_call *call, size_t i, struct store_element *row)
{
	element_row(call->targets[i], row);
	row->complete = false;
	if (call->members[i].make)
		row->generation = call->members[i].generation;
}

static int add_pair(struct replica_call *call, struct replica_made *m, size_t i)
{
	const struct store_relationship *rel = &m->rel->row;
	unsigned idle = replica_idle_state(call);
	struct store_pair row = {
		.relationship_id = rel->id,
		.n = (unsigned)i + 1,
		.source_id = call->sources[i]->obj.id,
		.target_id = call->target_ids[i],
		.copy_state = idle		? idle :
			      is_snapshot(call) ? CIM_COPY_SYNCHRONIZED :
						  CIM_COPY_UNSYNCHRONIZED,
		.progress_status = idle		     ? CIM_PROGRESS_REQUIRES_ACTIVATE :
				   is_snapshot(call) ? CIM_PROGRESS_COMPLETED :
						       CIM_PROGRESS_SYNCHRONIZING,
		.when_synced = rel->when_synced,
		.point_id = call->members[i].point ? call->members[i].point->obj.id : 0,
		.error = "",
	};
	struct store_element target;
	int64_t id = store_pair_insert(call->engine->store, &row);

	if (id <= 0)
		return id < 0 ? (int)id : -EIO;
	row.id = (uint64_t)id;
	m->rel->pairs[i] = pair_new(&row);
	if (!m->rel->pairs[i])
		return -ENOMEM;
	m->rel->n_pairs = i + 1;
	if (call->targets) {
		m->targets[i] = call->targets[i];
		lun_row(call, i, &target);
		return store_element_update(call->engine->store, &target);
	}
	replica_target_row(call, i, &target);
	m->targets[i] = element_new(call->engine, &target);
	return m->targets[i] ? 0 : -ENOMEM;
}

/* Whose members the targets are, or become. */
static struct group *member_group(const struct replica_call *call)
{
	return call->target_group ? call->target_group : call->group;
}

static int write_all(struct replica_call *call, struct replica_made *m)
{
	CLEANUP_STRBUF struct strbuf spec = STRBUF_INIT;
	struct store *store = call->engine->store;
	struct store_relationship row;
	int64_t id;
	int r;

	spec_format(&call->spec, &spec);
	relationship_row(call, spec.s, &row);
	r = add_job(call, m, &row);
	if (r < 0)
		return r;
	id = store_relationship_insert(store, &row);
	if (id <= 0)
		return id < 0 ? (int)id : -EIO;
	row.id = (uint64_t)id;
	m->rel = relation_new(&row);
	if (!m->rel)
		return -ENOMEM;
	m->rel->pairs = calloc(call->n, sizeof(*m->rel->pairs));
	m->targets = calloc(call->n, sizeof(*m->targets));
	m->n = call->n;
	m->luns = call->targets;
	if (!m->rel->pairs || !m->targets)
		return -ENOMEM;
	for (size_t i = 0; i < call->n && r >= 0; i++)
		r = add_pair(call, m, i);
	if (r >= 0 && !call->targets)
		r = store_members_set(store, member_group(call)->obj.id, call->target_ids,
				      call->n);
	if (call->hold)
		hold_store_relationship(call->hold, row.id);
	return r;
}

/* The target's data is the image from here on. */
static void connect_lun(struct replica_call *call, size_t i)
{
	struct instant_member *m = &call->members[i];
	struct element *el = call->targets[i];

	engine_lock(call->engine);
	el->complete = false;
	if (m->make)
		el->generation = m->generation;
	el->image = move_ptr(m->image);
	element_switch_handles(el);
	engine_unlock(call->engine);
}

/* A new image is opened as that of its pair. */
static void connect_image(struct pair *p)
{
	p->target->target_of = p;
	element_open(p->target);
}

/* Not visible yet: images get their sources, so that nobody sees one without. */
static void connect(struct replica_call *call, struct replica_made *m)
{
	struct relationship *rel = m->rel;

	rel->group = call->group;
	rel->target_group = call->target_group;
	rel->source_group = call->source_group;
	rel->source_element = call->source_group ? NULL : call->sources[0];
	for (size_t i = 0; i < call->n; i++) {
		struct pair *p = rel->pairs[i];

		p->rel = rel;
		p->source = call->sources[i];
		p->target = m->targets[i];
		p->point = call->members[i].point;
		if (call->targets)
			connect_lun(call, i);
		else
			connect_image(p);
		if (p->target->image && pair_reads_point(p))
			pair_connect(p, p->target->image,
				     p->point ? p->point->point : NULL);
	}
}

/* From the transaction into the objects; the lock is held. */
static void link_locked(struct replica_call *call, struct replica_made *m)
{
	struct engine *e = call->engine;
	struct relationship *rel = m->rel;
	struct group *g = call->group;

	g->goes_when_unused = false;
	if (rel->source_group) {
		rel->source_group->n_source++;
		rel->source_group->goes_when_unused = false;
	}
	if (rel->target_group) {
		rel->target_group->n_target++;
		rel->target_group->goes_when_unused = false;
	}
	for (size_t i = 0; i < call->n; i++) {
		struct pair *p = rel->pairs[i];

		if (p->point)
			p->point->n_pairs++;
		p->source->n_source++;
		TAILQ_INSERT_TAIL(&p->source->source_of, p, link);
		p->target->target_of = p;
		if (!m->luns)
			object_add(e, &p->target->obj);
		else
			element_switch_handles(p->target);
		object_add(e, &p->obj);
	}
	if (m->job) {
		rel->job = m->job;
		m->job->rel = rel;
		object_add(e, &m->job->obj);
	}
	if (!m->luns)
		group_set_members(member_group(call), m->targets, call->n);
	g->rel = rel;
	g->call = NULL;
	if (call->hold)
		hold_link(call->hold, rel);
	g->entered[CIM_COPY_INITIALIZED] = ++e->sequence;
	relation_describe_consistency(rel);
}

static void tell_made(struct engine *e, struct relationship *rel)
{
	struct group *g = rel->group;

	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct pair *p = rel->pairs[i];

		if (element_is_lun(p->target)) {
			engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT,
				     p->target->obj.id, 0);
			engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT,
				     p->target->obj.id, FILE_BIT(ELEMENT_RELATIONSHIPS));
		} else {
			engine_event_object(e, ENGINE_EVENT_CREATED, &p->target->obj, 0,
					    false);
		}
		engine_event_object(e, ENGINE_EVENT_CREATED, &p->obj, g->obj.id, false);
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT, p->source->obj.id,
			     FILE_BIT(ELEMENT_RELATIONSHIPS));
	}
	if (rel->job)
		engine_event_object(e, ENGINE_EVENT_CREATED, &rel->job->obj, 0, false);
	if (rel->source_group)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP,
			     rel->source_group->obj.id, FILE_BIT(GROUP_RELATIONSHIPS));
	if (rel->target_group)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP,
			     rel->target_group->obj.id,
			     FILE_BIT(GROUP_RELATIONSHIPS) | FILE_BIT(GROUP_MEMBERS));
	if (rel->pairs[0]->target->pool)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_POOL,
			     rel->pairs[0]->target->pool->obj.id, FILE_BIT(POOL_IMAGES));
	relation_tell(e, rel, FILE_BIT(GROUP_N_FILES) - 1);
}

int replica_commit(struct instant *in)
{
	struct replica_call *call = in->opaque;
	struct store *store = call->engine->store;
	struct replica_made *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	call->now_ms = in->when_ms;
	store_begin(store);
	instant_store(in);
	r = write_all(call, m);
	if (r < 0)
		store_rollback(store);
	else
		r = store_commit(store);
	if (r < 0) {
		made_free(m);
		return r;
	}
	call->made = m;
	return 0;
}

void replica_start(struct replica_call *call)
{
	struct replica_made *m = call->made;
	struct relationship *rel = m->rel;
	struct engine *e = call->engine;
	struct engine_command *cmd = call->cmd;
	unsigned wait = call->spec.wait_for_copy_state;
	bool interrupted = call->interrupted;

	connect(call, m);
	engine_lock(e);
	link_locked(call, m);
	engine_unlock(e);
	tell_made(e, rel);
	relation_start_pairs(rel);
	free(m->targets);
	free(m);
	hold_after_change(rel);
	if (cmd && replica_idle_state(call)) {
		outcome_ok(&cmd->outcome);
		command_answer(e, cmd);
	} else if (cmd) {
		replica_wait(e, rel, is_snapshot(call) ? CIM_COPY_SYNCHRONIZED : wait,
			     cmd);
		if (interrupted)
			replica_interrupt_waiter(e, cmd);
	}
	replica_call_done(call);
}

/* ---- STATE ------------------------------------------------------------------------ */

static void answer_waiter(struct engine *e, struct relationship *rel)
{
	struct engine_command *cmd = move_ptr(rel->waiter);

	command_answer(e, cmd);
}

void replica_wait(struct engine *e, struct relationship *rel, unsigned copy_state,
		  struct engine_command *cmd)
{
	if (!copy_state || rel->waiter) {
		outcome_job_started(&cmd->outcome);
		command_answer(e, cmd);
		return;
	}
	rel->waiter = cmd;
	rel->waits_for = copy_state;
	replica_check_waiter(e, rel);
}

static const char *first_error(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (*rel->pairs[i]->error && strncmp(rel->pairs[i]->error, "member ", 7))
			return rel->pairs[i]->error;
	return "the copy was stopped";
}

static bool any_pair_is(const struct relationship *rel, unsigned copy_state)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->copy_state == copy_state)
			return true;
	return false;
}

void replica_check_waiter(struct engine *e, struct relationship *rel)
{
	unsigned state = relation_copy_state(rel);
	struct engine_command *cmd = rel->waiter;
	bool runs = rel->job && !job_is_over(rel->job);

	if (!cmd)
		return;
	if (state == CIM_COPY_SYNCHRONIZED && !runs) {
		/* Done, and no job is left of it; one of another operation stays. */
		outcome_ok(&cmd->outcome);
		if (rel->job && job_is_of(rel->job, "CreateGroupReplica"))
			job_drop(e, rel->job);
	} else if (state == rel->waits_for || state == CIM_COPY_SYNCHRONIZED) {
		outcome_job_started(&cmd->outcome);
	} else if (any_pair_is(rel, CIM_COPY_BROKEN) ||
		   any_pair_is(rel, CIM_COPY_ABORTED)) {
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, 0,
			     "WaitForCopyState: %s: CopyState is %s: %.450s",
			     rel->row.name, cim_name(&cim_copy_state, state),
			     first_error(rel));
	} else if (rel->ended) {
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, 0,
			     "WaitForCopyState: relationship \"%s\" has ended",
			     rel->row.name);
	} else {
		return;
	}
	answer_waiter(e, rel);
}

/* The write ends; what it started goes on. */
static void leave(struct engine *e, struct relationship *rel, int error, const char *why)
{
	struct engine_command *cmd = rel->waiter;

	outcome_job_started(&cmd->outcome);
	cmd->outcome.error = error;
	snprintf(cmd->outcome.sentence, sizeof(cmd->outcome.sentence),
		 "WaitForCopyState: %s while waiting for %s; the copy goes on", why,
		 cim_name(&cim_copy_state, rel->waits_for));
	answer_waiter(e, rel);
}

struct search {
	struct engine *e;
	struct engine_command *cmd;
};

static void interrupt_group(void *thing, void *opaque)
{
	struct search *s = opaque;
	struct group *g = thing;

	if (g->call && g->call->cmd == s->cmd)
		g->call->interrupted = true;
	if (g->rel && g->rel->waiter && g->rel->waiter == s->cmd)
		leave(s->e, g->rel, EINTR, "interrupted");
}

void replica_interrupt_waiter(struct engine *e, struct engine_command *cmd)
{
	struct search s = { e, cmd };

	index_each(&e->by_id[ENGINE_GROUP], interrupt_group, &s);
}

static void stop_group(void *thing, void *opaque)
{
	struct engine *e = opaque;
	struct group *g = thing;
	struct engine_command *cmd;

	if (g->rel && g->rel->waiter)
		leave(e, g->rel, ENOTCONN, "LunFS stopped");
	if (!g->call || !g->call->cmd)
		return;
	cmd = move_ptr(g->call->cmd);
	outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, ENOTCONN, "LunFS is stopping");
	command_answer(e, cmd);
}

void replica_answer_waiters(struct engine *e)
{
	index_each(&e->by_id[ENGINE_GROUP], stop_group, e);
}
