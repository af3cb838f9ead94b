/* SPDX-License-Identifier: BSD-2-Clause */

/* The reservations of a hold: taken, looked at and given up, each member on its
 * own; what could not be given up is tried again. */

#include "engine/hold_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/log.h"

struct reserve_message {
	struct message m;
	struct bd_reserve reserve;
	struct hold *hold;
	struct hold_member *member;
	int error;
};

static bool all_done(const struct hold *h)
{
	for (size_t i = 0; i < h->n; i++)
		if (!h->members[i].done)
			return false;
	return true;
}

static bool any_busy(const struct hold *h)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->members[i].busy)
			return true;
	return false;
}

static void break_relation(struct hold *h, const char *member, const char *why)
{
	char reason[BD_ERROR_MAX + 80];

	if (!h->rel)
		return; /* the look at the end finds it */
	snprintf(reason, sizeof(reason), "member %s: %s", member, why);
	relation_break_all(h->engine, h->rel, -EIO, reason);
}

/* What the answer of a member means. */
static void take_answer(struct hold *h, struct hold_member *m, const char *error_text,
			int error)
{
	const char *name = m->element ? m->element->obj.name : "";

	if (h->state == HOLD_TAKING) {
		m->done = true;
		if (error)
			hold_fail(h, -EIO, "member %s cannot be reserved: %s", name,
				  error_text);
	} else if (h->state == HOLD_HELD) {
		m->done = !error;
		if (error && error != -ENOTCONN)
			break_relation(h, name, error_text);
	} else {
		m->done = !error || error == -EOPNOTSUPP;
		if (!m->done && error != -ENOTCONN)
			log_warn("%s: its reservation cannot be given up: %s; tried "
				 "again",
				 name, error_text);
	}
}

static void complete(struct hold *h)
{
	struct pair *p = object_by_id(h->engine, ENGINE_PAIR, h->completes);

	h->completes = 0;
	if (!p || p->epoch != h->epoch)
		return;
	h->verified = true;
	relation_complete(h->engine, p);
}

/* Every member has answered. */
static void settle(struct hold *h)
{
	if (any_busy(h))
		return;
	if (h->state == HOLD_TAKING && (all_done(h) || h->error)) {
		hold_taken(h);
	} else if (h->state == HOLD_ENDING && all_done(h)) {
		hold_finish(h, "");
	} else if (h->state == HOLD_ENDING && engine_is_stopping(h->engine)) {
		hold_leave(h);
	} else if (h->state == HOLD_HELD && h->checking && all_done(h)) {
		h->checking = false;
		if (h->check_again) {
			h->check_again = false;
			h->checking = true;
			for (size_t i = 0; i < h->n; i++)
				h->members[i].done = false;
			hold_pump(h);
		} else if (h->completes) {
			complete(h);
		}
	}
}

static enum bd_reserve_op op_of(enum hold_state state)
{
	return state == HOLD_TAKING ? BD_RESERVE_TAKE :
	       state == HOLD_HELD   ? BD_RESERVE_CHECK :
				      BD_RESERVE_RELEASE;
}

static void take_reserved(struct engine *e, struct message *m)
{
	struct reserve_message *msg = (struct reserve_message *)m;
	struct hold *h = msg->hold;

	(void)e;
	msg->member->busy = false;
	if (msg->reserve.op == op_of(h->state)) {
		take_answer(h, msg->member, msg->reserve.error, msg->error);
		settle(h);
	} else {
		/* It was asked for in another state. */
		hold_pump(h);
	}
	free(msg);
}

/* By a thread of the device. */
static void reserved(struct bd_reserve *reserve, int error)
{
	struct reserve_message *msg = reserve->opaque;

	msg->error = error;
	engine_post(msg->hold->engine, &msg->m);
}

static bool held_by_another(const struct hold *h, const struct element *el)
{
	const struct hold *other;

	TAILQ_FOREACH(other, &h->engine->holds, link) {
		if (other == h || hold_quiesces(other) ||
		    (other->state != HOLD_TAKING && other->state != HOLD_HELD))
			continue;
		for (size_t i = 0; i < other->n; i++)
			if (other->members[i].element == el)
				return true;
	}
	return false;
}

static void ask(struct hold *h, struct hold_member *m, enum bd_reserve_op op)
{
	struct reserve_message *msg = calloc(1, sizeof(*msg));
	struct element *el = m->element;

	if (!msg)
		return;
	msg->m.fn = take_reserved;
	msg->hold = h;
	msg->member = m;
	msg->reserve = (struct bd_reserve){
		.op = op,
		.key = el->pr_key,
		.done = reserved,
		.opaque = msg,
	};
	m->busy = true;
	if (el->bd) {
		bd_reserve(el->bd, &msg->reserve);
	} else {
		snprintf(msg->reserve.error, sizeof(msg->reserve.error), "no connection");
		reserved(&msg->reserve, -ENOTCONN);
	}
}

static int make_key(struct element *el)
{
	if (el->pr_key)
		return 0;
	el->pr_key = element_new_key();
	return element_save(el);
}

static void pump_member(struct hold *h, struct hold_member *m)
{
	if (m->busy || m->done)
		return;
	if (h->state == HOLD_TAKING && make_key(m->element) < 0) {
		m->done = true;
		hold_fail(h, -EIO, "the state store cannot be written");
	} else if (h->state == HOLD_ENDING && held_by_another(h, m->element)) {
		m->done = true;
	} else {
		ask(h, m, op_of(h->state));
	}
}

void hold_pump(struct hold *h)
{
	if (hold_quiesces(h) || h->state == HOLD_WAITS ||
	    (h->state == HOLD_HELD && !h->checking))
		return;
	for (size_t i = 0; i < h->n; i++)
		pump_member(h, &h->members[i]);
	settle(h);
}

void hold_check(struct hold *h)
{
	if (h->checking) {
		h->check_again = true;
		return;
	}
	h->checking = true;
	for (size_t i = 0; i < h->n; i++)
		h->members[i].done = false;
	hold_pump(h);
}

void hold_forget_element(struct element *el)
{
	struct hold *h;

	TAILQ_FOREACH(h, &el->engine->holds, link) {
		for (size_t i = 0; i < h->n; i++) {
			if (h->members[i].element != el)
				continue;
			log_warn("%s: removed while its reservation could not be given "
				 "up: clear the key 0x%016" PRIx64 " at its target",
				 el->obj.name, el->pr_key);
			h->members[i].element = NULL;
			h->members[i].done = true;
		}
		settle(h);
	}
}

static bool has_member(const struct hold *h, const struct element *el)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->members[i].element == el)
			return true;
	return false;
}

bool hold_has_element(const struct element *el)
{
	const struct hold *h;

	TAILQ_FOREACH(h, &el->engine->holds, link)
		if (has_member(h, el))
			return true;
	return false;
}

/* ---- news -------------------------------------------------------------------------- */

void holds_take_news(struct engine *e, struct element *el)
{
	struct hold *h;

	TAILQ_FOREACH(h, &e->holds, link) {
		if (!has_member(h, el))
			continue;
		if (h->state == HOLD_HELD && el->status.hold_lost)
			break_relation(
				h, el->obj.name,
				"its reservation is gone: the target has forgotten "
				"it, or another host has taken it away");
		if (el->status.state == BD_READY && h->state != HOLD_TAKING)
			hold_pump(h);
	}
}

void holds_tick(struct engine *e)
{
	struct hold *h;

	TAILQ_FOREACH(h, &e->holds, link)
		if (h->state != HOLD_TAKING)
			hold_pump(h);
}
