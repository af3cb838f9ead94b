/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/hold_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"

static void start(struct hold *h);
static void run_hook(struct hold *h, const char *command);

bool hold_is_shared(const struct element *el)
{
	return !el->exclusive && el->origin != STORE_ORIGIN_REPLICA;
}

bool hold_quiesces(const struct hold *h)
{
	return h->row.method == CONFIG_SHARED_QUIESCE;
}

static const char *word(const struct hold *h)
{
	return *h->row.source_group ? h->row.source_group : h->row.members;
}

const char *hold_owner(const struct hold *h)
{
	return h->rel ? h->rel->row.name : word(h);
}

/* ---- life ------------------------------------------------------------------------- */

void hold_free(struct hold *h)
{
	free((char *)h->row.source_group);
	free((char *)h->row.members);
	free((char *)h->row.elements);
	free((char *)h->row.thaw_command);
	free(h->quiesce_command);
	free(h->members);
	free(h);
}

/* The row's texts are copied. */
struct hold *hold_new(struct engine *e, const struct store_hold *row,
		      const char *quiesce_command, size_t n)
{
	struct hold *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->engine = e;
	h->row = *row;
	h->row.source_group = strdup(row->source_group);
	h->row.members = strdup(row->members);
	h->row.elements = strdup(row->elements);
	h->row.thaw_command = strdup(row->thaw_command);
	h->quiesce_command = strdup(quiesce_command);
	h->members = calloc(n + 1, sizeof(*h->members));
	if (h->row.source_group && h->row.members && h->row.elements &&
	    h->row.thaw_command && h->quiesce_command && h->members)
		return h;
	hold_free(h);
	return NULL;
}

void hold_add(struct hold *h)
{
	TAILQ_INSERT_TAIL(&h->engine->holds, h, link);
	h->counted = true;
	__atomic_add_fetch(&h->engine->n_holds, 1, __ATOMIC_ACQ_REL);
}

void hold_leave(struct hold *h)
{
	if (h->counted)
		__atomic_sub_fetch(&h->engine->n_holds, 1, __ATOMIC_ACQ_REL);
	h->counted = false;
}

static bool same_commands(const struct hold *h, const char *quiesce_command,
			  const char *thaw_command)
{
	return hold_quiesces(h) &&
	       ((*thaw_command && !strcmp(h->row.thaw_command, thaw_command)) ||
		!strcmp(h->quiesce_command, quiesce_command));
}

const struct hold *hold_find_same(struct engine *e, unsigned method,
				  const char *quiesce_command, const char *thaw_command)
{
	struct hold *h;

	TAILQ_FOREACH(h, &e->holds, link)
		if (method == CONFIG_SHARED_QUIESCE && h->state != HOLD_ENDING &&
		    same_commands(h, quiesce_command, thaw_command))
			return h;
	return NULL;
}

/* One whose thaw has to be over first. */
static bool has_to_wait(const struct hold *h)
{
	struct hold *other;

	TAILQ_FOREACH(other, &h->engine->holds, link)
		if (other != h && hold_quiesces(h) && other->state == HOLD_ENDING &&
		    same_commands(other, h->quiesce_command, h->row.thaw_command))
			return true;
	return false;
}

static void start_waiting(struct engine *e)
{
	struct hold *h;

	TAILQ_FOREACH(h, &e->holds, link)
		if (h->state == HOLD_WAITS && !has_to_wait(h))
			start(h);
}

/* How it ended: in the relationship too, if that has no other hold meanwhile. */
static int store_end(const struct hold *h, const struct store_relationship *rel_row)
{
	struct store *store = h->engine->store;

	store_begin(store);
	if (h->row.id)
		store_hold_delete(store, h->row.id);
	if (rel_row)
		store_relationship_update(store, rel_row);
	return store_commit(store);
}

static void record_end(struct hold *h, const char *thaw_error)
{
	struct relationship *rel =
		h->rel && !h->rel->hold && h->rel->row.when_held ? h->rel : NULL;
	struct engine *e = h->engine;
	struct store_relationship row;
	int r;

	if (rel) {
		row = rel->row;
		row.when_thawed = timefmt_now_ms();
		row.thaw_error = thaw_error;
	}
	r = store_end(h, rel ? &row : NULL);
	if (r < 0)
		log_error("%s: cannot record that its hold has ended: %s; it is ended "
			  "again at the next start",
			  word(h), strerror(-r));
	if (!rel)
		return;
	engine_lock(e);
	snprintf(rel->thaw_error, sizeof(rel->thaw_error), "%s", thaw_error);
	rel->row.when_thawed = row.when_thawed;
	rel->row.thaw_error = rel->thaw_error;
	relation_describe_consistency(rel);
	engine_unlock(e);
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP, rel->group->obj.id,
		     FILE_BIT(GROUP_CONSISTENCY_METHOD));
}

static void end(struct engine *e, struct message *m)
{
	struct hold *h = (struct hold *)((char *)m - offsetof(struct hold, message));

	record_end(h, h->thaw_error);
	TAILQ_REMOVE(&e->holds, h, link);
	hold_leave(h);
	if (h->taken)
		h->taken(h, h->error ? h->error : -ENOTCONN, h->sentence);
	hold_free(h);
	start_waiting(e);
}

/* All is undone.  The hold goes with a message of its own: nobody up the stack finds
 * it gone. */
void hold_finish(struct hold *h, const char *thaw_error)
{
	if (h->finished)
		return;
	h->finished = true;
	snprintf(h->thaw_error, sizeof(h->thaw_error), "%s", thaw_error);
	h->message.fn = end;
	engine_post(h->engine, &h->message);
}

void hold_begin_ending(struct hold *h)
{
	h->state = HOLD_ENDING;
	if (h->rel && h->rel->hold == h)
		h->rel->hold = NULL;
	for (size_t i = 0; i < h->n; i++)
		h->members[i].done = !h->members[i].element;
	if (!hold_quiesces(h))
		hold_pump(h);
	else if (*h->row.thaw_command)
		run_hook(h, h->row.thaw_command);
	else
		hold_finish(h, "");
}

void hold_end(struct hold *h)
{
	if (h->state == HOLD_HELD)
		hold_begin_ending(h);
	else
		h->end_wanted = true;
}

/* ---- taking ------------------------------------------------------------------------- */

void hold_fail(struct hold *h, int error, const char *fmt, ...)
{
	va_list ap;

	if (h->error)
		return;
	h->error = error;
	va_start(ap, fmt);
	vsnprintf(h->sentence, sizeof(h->sentence), fmt, ap);
	va_end(ap);
}

/* It is HELD, or what was done of it is undone. */
void hold_taken(struct hold *h)
{
	void (*fn)(struct hold *, int, const char *) = h->taken;

	if (h->end_wanted || engine_is_stopping(h->engine))
		hold_fail(h, -ENOTCONN, "LunFS is stopping");
	if (h->error) {
		hold_begin_ending(h);
		return;
	}
	h->state = HOLD_HELD;
	h->taken_ms = timefmt_now_ms();
	h->taken = NULL;
	if (h->rel)
		h->rel->hold = h;
	fn(h, 0, "");
}

static int store_row(struct hold *h)
{
	struct store *store = h->engine->store;
	int64_t id;
	int r;

	store_begin(store);
	id = store_hold_insert(store, &h->row);
	r = store_commit(store);
	if (r >= 0)
		h->row.id = (uint64_t)id;
	return r;
}

/* From here on something is owed. */
static void start(struct hold *h)
{
	int r = h->end_wanted ? -ENOTCONN : store_row(h);

	h->state = HOLD_TAKING;
	if (r < 0) {
		hold_fail(h, r, "the state store cannot be written: %s", strerror(-r));
		h->state = HOLD_ENDING;
		hold_finish(h, "");
	} else if (hold_quiesces(h)) {
		run_hook(h, h->quiesce_command);
	} else {
		hold_pump(h);
	}
}

static void start_later(struct engine *e, struct message *m)
{
	struct hold *h = (struct hold *)((char *)m - offsetof(struct hold, message));

	(void)e;
	if (!has_to_wait(h))
		start(h);
}

/* One source may have several targets. */
static bool is_listed(const struct hold_params *p, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (p->sources[k] == p->sources[i])
			return true;
	return false;
}

static void list_sources(const struct hold_params *p, struct strbuf *names,
			 struct strbuf *ids)
{
	for (size_t i = 0; i < p->n; i++) {
		if (is_listed(p, i))
			continue;
		strbuf_addf(names, "%s%s", names->len ? " " : "",
			    p->sources[i]->obj.name);
		if (p->method == CONFIG_SHARED_RESERVE && hold_is_shared(p->sources[i]))
			strbuf_addf(ids, "%s%" PRIu64, ids->len ? " " : "",
				    p->sources[i]->obj.id);
	}
}

int hold_begin(const struct hold_params *p,
	       void (*taken)(struct hold *hold, int error, const char *sentence),
	       void *opaque, struct hold **ret_hold)
{
	CLEANUP_STRBUF struct strbuf names = STRBUF_INIT;
	CLEANUP_STRBUF struct strbuf ids = STRBUF_INIT;
	struct store_hold row = {
		.relationship_id = p->rel ? p->rel->row.id : 0,
		.method = p->method,
		.source_group = p->source_group ? p->source_group->obj.name : "",
		.thaw_command = p->thaw_command,
		.began = timefmt_now_ms(),
	};
	struct hold *h;

	list_sources(p, &names, &ids);
	if (names.failed || ids.failed)
		return -ENOMEM;
	row.members = names.s;
	row.elements = ids.s;
	h = hold_new(p->engine, &row, p->quiesce_command, p->n);
	if (!h)
		return -ENOMEM;
	for (size_t i = 0; i < p->n; i++)
		if (p->method == CONFIG_SHARED_RESERVE &&
		    hold_is_shared(p->sources[i]) && !is_listed(p, i))
			h->members[h->n++].element = p->sources[i];
	h->rel = p->rel;
	h->taken = taken;
	h->opaque = opaque;
	h->state = HOLD_WAITS;
	hold_add(h);
	h->message.fn = start_later;
	engine_post(p->engine, &h->message);
	*ret_hold = h;
	return 0;
}

void hold_store_relationship(struct hold *h, uint64_t relationship_id)
{
	struct store_hold row = h->row;

	row.relationship_id = relationship_id;
	store_hold_update(h->engine->store, &row);
}

void hold_link(struct hold *h, struct relationship *rel)
{
	h->row.relationship_id = rel->row.id;
	h->rel = rel;
	rel->hold = h;
}

/* ---- commands ------------------------------------------------------------------------ */

static void take_hook(struct engine *e, struct message *m)
{
	struct hold *h = (struct hold *)((char *)m - offsetof(struct hold, message));
	const char *failure = h->hook.failure;

	(void)e;
	if (h->state == HOLD_TAKING) {
		if (h->hook.error)
			hold_fail(h, -EIO, "quiesce_command: %s", failure);
		hold_taken(h);
		return;
	}
	if (h->hook.error)
		log_error("%s: thaw_command failed: %s: %s", word(h), h->row.thaw_command,
			  failure);
	hold_finish(h, failure);
}

/* By the thread that waited. */
static void hook_done(struct hook *hook)
{
	struct hold *h = hook->opaque;

	engine_post(h->engine, &h->message);
}

static void run_hook(struct hold *h, const char *command)
{
	int r;

	h->hook = (struct hook){
		.command = command,
		.group = h->row.source_group,
		.members = h->row.members,
		.timeout_ms = h->engine->config->daemon.fence_timeout_ms,
		.done = hook_done,
		.opaque = h,
	};
	h->message.fn = take_hook;
	r = hook_start(&h->hook);
	if (r >= 0)
		return;
	h->hook.error = -EIO;
	snprintf(h->hook.failure, sizeof(h->hook.failure), "it cannot be run: %s",
		 strerror(-r));
	engine_post(h->engine, &h->message);
}

/* ---- the copy -------------------------------------------------------------------------- */

static bool is_copying(const struct pair *p)
{
	return hold_is_shared(p->source) && (p->copy_state == CIM_COPY_UNSYNCHRONIZED ||
					     p->copy_state == CIM_COPY_SUSPENDED);
}

bool hold_is_needed(const struct relationship *rel)
{
	for (size_t i = 0; rel->row.shared_method && i < rel->n_pairs; i++)
		if (is_copying(rel->pairs[i]))
			return true;
	return false;
}

void hold_after_change(struct relationship *rel)
{
	if (rel->hold && !rel->op && !hold_is_needed(rel))
		hold_end(rel->hold);
}

static bool is_last(const struct pair *p)
{
	const struct relationship *rel = p->rel;

	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i] != p && is_copying(rel->pairs[i]))
			return false;
	return true;
}

bool hold_may_complete(struct engine *e, struct pair *p)
{
	struct relationship *rel = p->rel;
	struct hold *h = rel->hold;

	if (!rel->row.shared_method || !is_copying(p) || !is_last(p))
		return true;
	if (!h) {
		relation_break_all(e, rel, -EIO,
				   "nothing kept others from writing to the members "
				   "while they were copied; ResyncReplica copies again");
		return false;
	}
	if (hold_quiesces(h) || h->verified)
		return true;
	h->completes = p->obj.id;
	h->epoch = p->epoch;
	hold_check(h);
	return false;
}

void hold_forget_relation(struct relationship *rel)
{
	struct engine *e = rel->pairs[0]->source->engine;
	struct hold *h;

	TAILQ_FOREACH(h, &e->holds, link)
		if (h->rel == rel)
			h->rel = NULL;
	if (rel->hold)
		hold_end(move_ptr(rel->hold));
}

static void add_time(struct strbuf *b, const char *what, int64_t ms)
{
	strbuf_addf(b, "\n%s: ", what);
	timefmt_add(b, ms);
}

void hold_describe(const struct relationship *rel, struct strbuf *b)
{
	bool quiesced = rel->row.shared_method == CONFIG_SHARED_QUIESCE;

	if (quiesced)
		strbuf_addf(b,
			    "quiesce: the source's users do not write from the end of "
			    "\"%.300s\" to its thaw",
			    rel->row.quiesce_command);
	else
		strbuf_adds(b, "reserve: a reservation (Write Exclusive) of the shared "
			       "members keeps other initiators from writing");
	if (!rel->row.when_held)
		return;
	add_time(b, quiesced ? "quiesced" : "reserved", rel->row.when_held);
	if (rel->row.when_synced)
		add_time(b, "instant", rel->row.when_synced);
	if (!rel->row.when_thawed)
		strbuf_addf(b, "\n%s: not yet", quiesced ? "thawed" : "released");
	else
		add_time(b,
			 *rel->row.thaw_error ? "thaw failed" :
			 quiesced	      ? "thawed" :
						"released",
			 rel->row.when_thawed);
	if (quiesced)
		strbuf_addf(b, ", \"%.300s\"", rel->row.thaw_command);
	if (*rel->row.thaw_error)
		strbuf_addf(b, ": %s", rel->row.thaw_error);
}
