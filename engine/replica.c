/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * CreateGroupReplica: the way of one spec from its text to a relationship.
 *
 *   CHECK      the text, the objects it names                (at once)
 *   LOGIN      every source has to be ready; waits LOGIN_MS  (parked)
 *   HOLD       with a shared_method, others are kept from writing (hold.h) (parked)
 *   INSTANT    ids are drawn, files made, the fence closed; one transaction:
 *              relationship, pairs, job, members (instant.h)  (parked)
 *   STATE      the write waits for WaitForCopyState           (parked)
 *
 * The rows of the images are durable before their files, so that a crash leaves rows
 * without a pair, which the next start deletes with their files.  Until the
 * transaction within the fence nothing can be seen of the call but an element that an
 * access point needs to log in (accesspoint.c), and a failure leaves nothing behind.
 *
 * While a call is under way its group has ->call set and its sources count it in
 * n_source: nothing that it was checked against can change.
 */

#include "engine/hold.h"
#include "engine/replica.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/setting.h"
#include "conf/timefmt.h"

enum { LOGIN_MS = 10000 };

static void hold_sources(struct replica_call *call, int by)
{
	struct engine *e = call->engine;

	engine_lock(e);
	for (size_t i = 0; i < call->n; i++)
		call->sources[i]->n_source += (unsigned)by;
	if (call->source_group)
		call->source_group->n_source += (unsigned)by;
	engine_unlock(e);
}

static void call_free(struct replica_call *call)
{
	spec_done(&call->spec);
	if (call->new_source)
		element_free(call->new_source);
	free(call->sources);
	free(call->target_ids);
	free(call->targets);
	free(call->members);
	free(call->setting);
	free(call->goal);
	free(call->quiesce_command);
	free(call->thaw_command);
	free(call);
}

/* Answers the write, if it still waits; the call goes on or not. */
static void answer(struct replica_call *call)
{
	struct engine_command *cmd = move_ptr(call->cmd);

	if (!cmd)
		return;
	cmd->priv = NULL;
	command_answer(call->engine, cmd);
}

/* The end of a call that made nothing; call->outcome says why. */
static void give_up(struct replica_call *call)
{
	struct group *group = call->group, *source_group = call->source_group;
	struct group *target_group = call->target_group;
	struct engine *e = call->engine;

	if (call->listed)
		TAILQ_REMOVE(&call->engine->calls, call, link);
	if (call->hold)
		hold_end(call->hold);
	TAILQ_REMOVE(&call->engine->claims, call, claim_link);
	hold_sources(call, -1);
	target_release(call);
	if (!source_group)
		accesspoint_release(e, call->sources[0]);
	call->group->call = NULL;
	if (call->cmd)
		call->cmd->outcome = call->outcome;
	answer(call);
	call_free(call);
	if (source_group)
		group_go_if_unused(e, source_group);
	if (target_group)
		group_go_if_unused(e, target_group);
	group_go_if_unused(e, group);
}

/* ---- INSTANT --------------------------------------------------------------------- */

static int delete_elements(struct engine *e, const uint64_t *ids, size_t n)
{
	store_begin(e->store);
	for (size_t i = 0; i < n; i++)
		store_element_delete(e->store, ids[i]);
	return store_commit(e->store);
}

int replica_delete_unmade(struct engine *e)
{
	int r = e->unmade.n ? delete_elements(e, e->unmade.ids, e->unmade.n) : 0;

	if (r >= 0)
		e->unmade.n = 0;
	return r;
}

static bool remember_unmade(struct engine *e, const uint64_t *ids, size_t n)
{
	uint64_t *all = realloc(e->unmade.ids, (e->unmade.n + n) * sizeof(*all));

	if (!all)
		return false;
	memcpy(all + e->unmade.n, ids, n * sizeof(*ids));
	e->unmade.ids = all;
	e->unmade.n += n;
	return true;
}

/* As long as they are there, so are their names. */
static void delete_rows(struct replica_call *call)
{
	struct engine *e = call->engine;
	bool later;

	if (call->targets || delete_elements(e, call->target_ids, call->n) >= 0)
		return;
	later = remember_unmade(e, call->target_ids, call->n);
	log_warn("%s: rows of images that were not made stay in the state store %s",
		 call->spec.relationship_name,
		 later ? "for now; it is tried again" : "until the next start");
}

static uint64_t source_size(const struct element *el)
{
	return el->have_info ? el->info.size : el->size;
}

void replica_target_row(const struct replica_call *call, size_t i,
			struct store_element *row)
{
	const struct element *source = call->sources[i];
	char name[REPLICA_TARGET_NAME_SIZE];

	*row = (struct store_element){
		.id = call->target_ids[i],
		.origin = STORE_ORIGIN_REPLICA,
		.url = "",
		.exclusive = true,
		.size = source_size(source),
		.block_size =
			source->have_info ? source->info.block_size : source->block_size,
		.serial = "",
		.wwn = "",
		.pool = call->pool->obj.name,
		.generation = 1,
		.reserved = replica_is_thick(call, source),
		.read_only = replica_is_read_only(call, source),
		.created = call->begun_ms,
		.modified = call->now_ms,
	};
	replica_target_name(call, i, name);
	memcpy(row->name, name, sizeof(row->name));
}

void replica_call_done(struct replica_call *call)
{
	TAILQ_REMOVE(&call->engine->claims, call, claim_link);
	hold_sources(call, -1);
	target_release(call);
	call_free(call);
}

/* The sentence of an instant that was not taken. */
static void describe_failure(struct replica_call *call, int error)
{
	const struct instant *in = &call->instant;
	int own;
	uint32_t code = outcome_code_of_failure(-error, &own);

	if (error == -ETIMEDOUT)
		outcome_fail(
			&call->outcome, CIM_RETURN_TIMEOUT, 0,
			"the fence over the members did not close within "
			"fence_timeout (%u ms): writes under way did not end; nothing "
			"was made, try again",
			call->engine->config->daemon.fence_timeout_ms);
	else if (error == -ENOTCONN)
		outcome_fail(&call->outcome, CIM_RETURN_FAILED, ENOTCONN,
			     "LunFS is stopping");
	else if (!strcmp(in->what, "files"))
		outcome_fail(&call->outcome, code, own,
			     "pool %s: the files of the images cannot be made: %s",
			     in->pool_name, strerror(-error));
	else if (!strcmp(in->what, "state store"))
		command_store_failed(&call->outcome, error);
	else
		outcome_fail(&call->outcome, code, own, "%s: %s", in->what,
			     strerror(-error));
}

static void instant_taken(struct instant *in, int error)
{
	struct replica_call *call = in->opaque;

	if (!error) {
		replica_start(call);
		return;
	}
	/* What was made goes at the next start. */
	if (!engine_is_stopping(call->engine))
		delete_rows(call);
	describe_failure(call, error);
	give_up(call);
}

/* A new image: its row. */
static void make_image_row(struct replica_call *call, size_t i)
{
	struct store_element row;
	int64_t id;

	replica_target_row(call, i, &row);
	row.id = 0;
	id = store_element_insert(call->engine->store, &row);
	call->target_ids[i] = id > 0 ? (uint64_t)id : 0;
	call->members[i].make = INSTANT_IMAGE_NEW;
	call->members[i].digests = call->spec.sync_type == CIM_SYNC_CLONE;
	call->members[i].target = call->target_ids[i];
	call->members[i].generation = 1;
	call->members[i].reserve = row.reserved;
}

/* A LUN: without an instant nothing is made for it. */
static void take_lun(struct replica_call *call, size_t i)
{
	const struct element *el = call->targets[i];

	call->target_ids[i] = el->obj.id;
	if (!replica_idle_state(call))
		target_set_member(&call->members[i], el, source_size(call->sources[i]),
				  el->generation + 1);
}

/* Draws the ids: rows of images and points. */
static int make_rows(struct replica_call *call)
{
	struct engine *e = call->engine;
	int r;

	store_begin(e->store);
	for (size_t i = 0; i < call->n; i++) {
		call->members[i] = (struct instant_member){
			.source = call->sources[i],
			.pool = call->pool,
			.size = source_size(call->sources[i]),
		};
		if (call->targets)
			take_lun(call, i);
		else
			make_image_row(call, i);
	}
	r = instant_add_rows(&call->instant);
	if (r < 0)
		store_rollback(e->store);
	else
		r = store_commit(e->store);
	if (r < 0)
		instant_drop_rows(&call->instant);
	return r;
}

static void start_instant(struct replica_call *call)
{
	int r;

	call->phase = REPLICA_INSTANT;
	call->now_ms = call->begun_ms = timefmt_now_ms();
	call->instant = (struct instant){
		.engine = call->engine,
		.members = call->members,
		.n = call->n,
		.no_points = replica_idle_state(call),
		.one_instant = instant_is_one(call->consistency, call->setting),
		.commit = replica_commit,
		.done = instant_taken,
		.opaque = call,
	};
	/* They may have the same names. */
	r = replica_delete_unmade(call->engine);
	if (r >= 0)
		r = make_rows(call);
	if (r < 0) {
		command_store_failed(&call->outcome, r);
		give_up(call);
		return;
	}
	instant_run(&call->instant);
}

/* ---- HOLD ------------------------------------------------------------------------- */

static void held(struct hold *hold, int error, const char *sentence)
{
	struct replica_call *call = hold->opaque;

	if (!error) {
		start_instant(call);
		return;
	}
	call->hold = NULL;
	outcome_fail(&call->outcome, CIM_RETURN_FAILED, error == -ENOTCONN ? ENOTCONN : 0,
		     "%s%s", sentence, error == -ENOTCONN ? "" : "; nothing was made");
	give_up(call);
}

static void start_hold(struct replica_call *call)
{
	const struct hold_params params = {
		.engine = call->engine,
		.method = call->shared_method,
		.quiesce_command = call->quiesce_command,
		.thaw_command = call->thaw_command,
		.source_group = call->source_group,
		.sources = call->sources,
		.n = call->n,
	};
	int r;

	if (!call->shared_method || replica_idle_state(call)) {
		start_instant(call);
		return;
	}
	call->phase = REPLICA_HOLD;
	r = hold_begin(&params, held, call, &call->hold);
	if (r < 0) {
		outcome_fail(&call->outcome, CIM_RETURN_FAILED, -r, "out of memory");
		give_up(call);
	}
}

/* ---- LOGIN ----------------------------------------------------------------------- */

/* A source or target that is not ready; NULL if all are.  With news on their way, that
 * are taken next, it may be another device than the one known here (invariant I6). */
static const struct element *not_ready(const struct replica_call *call, char *why,
				       size_t size)
{
	for (size_t i = 0; i < call->n + call->n_targets; i++) {
		struct element *el =
			i < call->n ? call->sources[i] : call->targets[i - call->n];

		if (!element_is_ready(el, why, size))
			return el;
		if (__atomic_load_n(&el->status_queued, __ATOMIC_ACQUIRE)) {
			snprintf(why, size, "%s: its state is changing", el->obj.name);
			return el;
		}
	}
	return NULL;
}

/* Goes on if it can; true if the call has left this phase. */
static bool try_login(struct replica_call *call)
{
	const struct element *el;
	bool refused, late = timefmt_monotonic_ns() >= call->deadline_ns;
	char why[800] = "";

	el = not_ready(call, why, sizeof(why));
	if (!el && target_check_ready(call) < 0) {
		give_up(call);
		return true;
	}
	if (!el) {
		if (call->listed)
			TAILQ_REMOVE(&call->engine->calls, call, link);
		call->listed = false;
		start_hold(call);
		return true;
	}
	refused = *el->error || el->status.state == BD_REFUSED ||
		  (!*el->url && el->origin != STORE_ORIGIN_REPLICA);
	if (!late && !refused && !engine_is_stopping(call->engine))
		return false;
	outcome_fail(&call->outcome, CIM_RETURN_FAILED, 0,
		     "member %s%s%s is not ready: %.500s", el->obj.name,
		     *el->access_point ? " at access point " : "", el->access_point, why);
	give_up(call);
	return true;
}

void replica_run_calls(struct engine *e)
{
	struct replica_call *call, *next;

	for (call = TAILQ_FIRST(&e->calls); call; call = next) {
		next = TAILQ_NEXT(call, link);
		try_login(call);
	}
	if (engine_is_stopping(e))
		replica_answer_waiters(e);
}

/* ---- CHECK ----------------------------------------------------------------------- */

struct alike {
	const char *name;
	const struct object *except;
	const char *found;
};

static void find_alike(void *thing, void *opaque)
{
	const struct object *obj = thing;
	struct alike *a = opaque;

	if (obj != a->except && !strcasecmp(obj->name, a->name))
		a->found = obj->name;
}

int replica_fail_missing(struct replica_call *call, const char *parameter,
			 const char *kind, const char *name, enum engine_class class)
{
	struct alike alike = { name, &call->group->obj, NULL };
	char names[256], hint[NAME_ELEMENT_MAX_LEN + 32] = "";

	object_names(call->engine, class, &call->group->obj, names, sizeof(names));
	index_each(&call->engine->by_id[class], find_alike, &alike);
	if (alike.found)
		snprintf(hint, sizeof(hint), "did you mean \"%s\"? ", alike.found);
	return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, ENOENT,
			    "%s: there is no %s \"%s\"; %s%ss: %s", parameter, kind, name,
			    hint, kind, names);
}

static int find_sources(struct replica_call *call)
{
	struct engine *e = call->engine;
	struct element *one = NULL;
	struct group *g = NULL;
	int r;

	if (*call->spec.source_group) {
		g = object_by_name(e, ENGINE_GROUP, call->spec.source_group);
		if (!g)
			return replica_fail_missing(call, "SourceGroup", "group",
						    call->spec.source_group,
						    ENGINE_GROUP);
		if (g == call->group)
			return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER,
					    0,
					    "SourceGroup: \"%s\" cannot be its own "
					    "replica; write the spec in another group",
					    g->obj.name);
		if (!g->n_members)
			return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER,
					    0,
					    "SourceGroup: group \"%s\" is empty; write "
					    "its members first",
					    g->obj.name);
	} else if (strchr(call->spec.source_element, '/')) {
		r = accesspoint_find_source(call, &one);
		if (r < 0)
			return r;
	} else {
		one = object_by_name(e, ENGINE_ELEMENT, call->spec.source_element);
		if (!one)
			return replica_fail_missing(call, "SourceElement", "element",
						    call->spec.source_element,
						    ENGINE_ELEMENT);
	}
	call->n = g			       ? g->n_members :
		  call->spec.target_element_count ? call->spec.target_element_count :
						    1;
	call->sources = calloc(call->n, sizeof(*call->sources));
	call->target_ids = calloc(call->n, sizeof(*call->target_ids));
	call->members = calloc(call->n, sizeof(*call->members));
	if (!call->sources || !call->target_ids || !call->members)
		return outcome_fail(&call->outcome, CIM_RETURN_FAILED, ENOMEM,
				    "out of memory");
	for (size_t i = 0; i < call->n; i++)
		call->sources[i] = g ? g->members[i] : one;
	call->source_group = g;
	return 0;
}

static int refuse_source(struct replica_call *call, const struct element *el,
			 uint32_t code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Names the parameter that it came by. */
static int refuse_source(struct replica_call *call, const struct element *el,
			 uint32_t code, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return outcome_fail(&call->outcome, code, 0, "%s\"%s\" %s",
			    call->source_group ? "SourceGroup: member " :
						 "SourceElement: ",
			    el->obj.name, text);
}

static int check_sources(struct replica_call *call)
{
	for (size_t i = 0; i < call->n; i++) {
		struct element *el = call->sources[i];

		if (el->target_of)
			return refuse_source(call, el, CIM_RETURN_IN_USE,
					     "is a target of relationship \"%s\"; it can "
					     "be a source once it is detached",
					     el->target_of->rel->row.name);
		if (el->target_call)
			return refuse_source(
				call, el, CIM_RETURN_IN_USE,
				"is about to be a target, of the spec of "
				"group \"%s\"; try again when that has ended",
				el->target_call->group->obj.name);
		if (el->origin == STORE_ORIGIN_REPLICA && !el->complete)
			return refuse_source(call, el, CIM_RETURN_FAILED,
					     "is an image that was never completed; take "
					     "another, or remove it (rmdir elements/%s)",
					     el->obj.name);
		if (el->origin == STORE_ORIGIN_REPLICA)
			element_open_as_source(el);
	}
	return 0;
}

/* The one that all sources are in (TargetElementResourcePool); NULL: there is none. */
static struct pool_object *pool_of_sources(const struct replica_call *call)
{
	struct pool_object *pool = call->sources[0]->pool;

	for (size_t i = 1; i < call->n; i++)
		if (call->sources[i]->pool != pool)
			return NULL;
	return pool;
}

static int find_pool(struct replica_call *call)
{
	struct engine *e = call->engine;
	const char *name = *call->spec.target_pool ? call->spec.target_pool :
						     e->config->daemon.default_pool;

	if (!*call->spec.target_pool && !call->targets &&
	    replica_setting(call, "TargetElementResourcePool") ==
		    SETTING_TARGET_POOL_AS_SOURCE) {
		call->pool = pool_of_sources(call);
		if (call->pool)
			return 0;
		return outcome_fail(
			&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			"TargetElementResourcePool: the sources are not in "
			"one pool of LunFS, as images are; name a TargetPool");
	}
	if (!*name)
		return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
				    "TargetPool: no pool is configured; add a [pool "
				    "NAME] to %s",
				    e->config->path);
	call->pool = object_by_name(e, ENGINE_POOL, name);
	return call->pool ? 0 :
			    replica_fail_missing(call, "TargetPool", "pool", name,
						 ENGINE_POOL);
}

static int check_group(struct replica_call *call)
{
	struct group *g = call->group;

	if (g->rel || g->call)
		return outcome_fail(
			&call->outcome, CIM_RETURN_IN_USE, 0,
			"spec: group \"%s\" has a relationship already; write "
			"Detach or ReturnToResourcePool to its control first",
			g->obj.name);
	if (g->n_target)
		return outcome_fail(&call->outcome, CIM_RETURN_IN_USE, 0,
				    "spec: group \"%s\" is the TargetGroup of another "
				    "group's relationship; end that first",
				    g->obj.name);
	return 0;
}

/* Before anything else, and before the call holds anything. */
static int check(struct replica_call *call, const char *text, size_t len)
{
	int r = check_group(call);

	if (!r)
		r = spec_parse(text, len, &call->spec, &call->outcome);
	if (!r)
		r = replica_take_setting(call);
	if (!r)
		r = accesspoint_find(call);
	if (!r)
		r = find_sources(call);
	if (!r)
		r = target_find(call);
	if (!r)
		r = find_pool(call);
	if (!r)
		r = replica_check_names(call);
	if (!r)
		r = check_sources(call);
	if (!r)
		r = target_check(call);
	if (!r)
		r = accesspoint_check(call);
	if (!r)
		r = replica_decide_consistency(call);
	if (!r)
		r = replica_check_setting(call);
	if (!r)
		r = accesspoint_add_source(call);
	return r;
}

/* A further write on an open whose call was accepted: only to go on waiting. */
static void write_again(struct engine *e, struct group *g, struct engine_command *cmd)
{
	CLEANUP_STRBUF struct strbuf canonical = STRBUF_INIT;
	struct spec spec;

	if (spec_parse(cmd->text, cmd->len, &spec, &cmd->outcome) < 0) {
		command_answer(e, cmd);
		return;
	}
	if (!*spec.relationship_name)
		memcpy(spec.relationship_name, g->obj.name,
		       sizeof(spec.relationship_name));
	spec_format(&spec, &canonical);
	if (g->rel && !strcmp(canonical.s, g->rel->row.spec)) {
		replica_wait(e, g->rel, spec.wait_for_copy_state, cmd);
	} else {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			     "spec: this open has made its call; open the file again "
			     "for another");
		command_answer(e, cmd);
	}
	spec_done(&spec);
}

/* Of a call that holds nothing. */
static void refuse(struct replica_call *call, struct engine_command *cmd)
{
	cmd->outcome = call->outcome;
	command_answer(call->engine, cmd);
	call_free(call);
}

void replica_write_spec(struct engine *e, struct engine_command *cmd)
{
	struct group *g = object_by_id(e, ENGINE_GROUP, cmd->id);
	struct replica_call *call;

	if (cmd->again) {
		write_again(e, g, cmd);
		return;
	}
	call = calloc(1, sizeof(*call));
	if (!call) {
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, ENOMEM, "out of memory");
		command_answer(e, cmd);
		return;
	}
	call->engine = e;
	call->group = g;
	if (check(call, cmd->text, cmd->len) < 0) {
		refuse(call, cmd);
		return;
	}
	if (target_hold(call) < 0) {
		if (!call->source_group)
			accesspoint_release(e, call->sources[0]);
		refuse(call, cmd);
		return;
	}
	call->cmd = cmd;
	cmd->priv = call;
	hold_sources(call, 1);
	TAILQ_INSERT_TAIL(&e->claims, call, claim_link);
	g->call = call;
	call->phase = REPLICA_LOGIN;
	call->deadline_ns = timefmt_monotonic_ns() + LOGIN_MS * UINT64_C(1000000);
	if (try_login(call))
		return;
	TAILQ_INSERT_TAIL(&e->calls, call, link);
	call->listed = true;
}

void replica_interrupt(struct engine *e, struct engine_command *cmd)
{
	struct replica_call *call, *next;

	for (call = TAILQ_FIRST(&e->calls); call; call = next) {
		next = TAILQ_NEXT(call, link);
		if (call->cmd != cmd)
			continue;
		outcome_fail(&call->outcome, CIM_RETURN_FAILED, EINTR,
			     "interrupted while waiting for a login; nothing was made");
		give_up(call);
		return;
	}
	replica_interrupt_waiter(e, cmd);
}
