/* SPDX-License-Identifier: BSD-2-Clause */

/* Holds at the start and the end of the process. */

#include "engine/hold_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cim.h"

static int load_hold(void *opaque, const struct store_hold *row)
{
	struct engine *e = opaque;
	size_t n = strlen(row->elements) / 2 + 1;
	struct hold *h = hold_new(e, row, "", n);
	const char *at = row->elements;
	struct element *el;
	char *next;

	if (!h)
		return -ENOMEM;
	for (; *at; at = next) {
		el = object_by_id(e, ENGINE_ELEMENT, strtoull(at, &next, 10));
		if (next == at)
			break;
		if (el)
			h->members[h->n++].element = el;
	}
	h->state = HOLD_HELD;
	hold_add(h);
	return 0;
}

int holds_load(struct engine *e)
{
	return store_each_hold(e->store, load_hold, e);
}

struct search {
	uint64_t id;
	struct relationship *found;
};

static void find_relationship(void *thing, void *opaque)
{
	const struct group *g = thing;
	struct search *s = opaque;

	if (g->rel && g->rel->row.id == s->id)
		s->found = g->rel;
}

/* The users of the source may have been let write while nobody was there to know. */
static void break_unwatched(struct hold *h, const char *how)
{
	char reason[256];

	snprintf(reason, sizeof(reason),
		 "LunFS %s while the members were kept from being written and copied; "
		 "the copy is of no instant; ResyncReplica copies again",
		 how);
	relation_break_all(h->engine, h->rel, -EIO, reason);
}

static void start_loaded(struct hold *h)
{
	struct search s = { .id = h->row.relationship_id };

	index_each(&h->engine->by_id[ENGINE_GROUP], find_relationship, &s);
	h->rel = s.id ? s.found : NULL;
	if (!h->rel || !hold_is_needed(h->rel)) {
		hold_begin_ending(h);
		return;
	}
	h->rel->hold = h;
	if (hold_quiesces(h))
		break_unwatched(h, "ended without notice");
	else
		hold_check(h);
}

void holds_start_all(struct engine *e)
{
	struct hold *h;

	TAILQ_FOREACH(h, &e->holds, link)
		start_loaded(h);
}

void holds_stop_all(struct engine *e)
{
	struct hold *h;

	TAILQ_FOREACH(h, &e->holds, link) {
		if (h->state == HOLD_ENDING)
			hold_pump(h); /* once more */
		else if (h->state != HOLD_HELD)
			h->end_wanted = true;
		else if (h->rel && hold_is_needed(h->rel))
			break_unwatched(h, "was stopped");
	}
}

void holds_free_all(struct engine *e)
{
	struct hold *h;

	while ((h = TAILQ_FIRST(&e->holds))) {
		TAILQ_REMOVE(&e->holds, h, link);
		hold_free(h);
	}
}
