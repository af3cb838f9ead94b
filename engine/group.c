/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"
#include "engine/word.h"

struct group *group_new(const struct store_group *row)
{
	struct group *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->obj.class = ENGINE_GROUP;
	g->obj.id = row->id;
	strcpy(g->obj.name, row->name);
	g->persistent = row->persistent;
	g->delete_on_empty_element = row->delete_on_empty_element;
	g->delete_on_unassociated = row->delete_on_unassociated;
	g->created_ms = row->created;
	g->copy_state = CIM_COPY_NOT_APPLICABLE;
	g->progress_status = CIM_PROGRESS_NOT_APPLICABLE;
	return g;
}

void group_free(void *group)
{
	struct group *g = group;

	relation_free(g->rel);
	free(g->members);
	free(g);
}

void group_row(const struct group *g, struct store_group *row)
{
	*row = (struct store_group){
		.id = g->obj.id,
		.persistent = g->persistent,
		.delete_on_empty_element = g->delete_on_empty_element,
		.delete_on_unassociated = g->delete_on_unassociated,
		.created = g->created_ms,
	};
	memcpy(row->name, g->obj.name, sizeof(row->name));
}

int group_set_members(struct group *g, struct element **members, size_t n)
{
	struct element **copy = NULL;

	if (n) {
		copy = malloc(n * sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		memcpy(copy, members, n * sizeof(*copy));
	}
	for (size_t i = 0; i < g->n_members; i++)
		g->members[i]->n_members--;
	free(g->members);
	g->members = copy;
	g->n_members = n;
	for (size_t i = 0; i < n; i++)
		g->members[i]->n_members++;
	return 0;
}

void group_create(struct engine *e, struct engine_command *cmd)
{
	struct store_group row = { .persistent = GROUP_PERSISTENT_BY_DEFAULT,
				   .created = timefmt_now_ms() };
	struct group *g;
	int64_t id;
	int r = name_check(cmd->name, NAME_MAX_LEN);

	if (r < 0) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, -r,
			     "%s: not the name of a group", cmd->name);
		return;
	}
	if (object_by_name(e, ENGINE_GROUP, cmd->name)) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, EEXIST,
			     "there is a group \"%s\" already", cmd->name);
		return;
	}
	strcpy(row.name, cmd->name);
	store_begin(e->store);
	id = store_group_insert(e->store, &row);
	r = store_commit(e->store);
	if (r < 0) {
		command_store_failed(&cmd->outcome, r);
		return;
	}
	row.id = (uint64_t)id;
	g = group_new(&row);
	engine_lock(e);
	if (g)
		object_add(e, &g->obj);
	engine_unlock(e);
	if (!g) {
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, ENOMEM, "out of memory");
		return;
	}
	cmd->new_id = row.id;
	engine_event_object(e, ENGINE_EVENT_CREATED, &g->obj, 0, true);
}

void group_drop(struct engine *e, struct group *g, bool by_command)
{
	engine_lock(e);
	object_remove(e, &g->obj);
	for (size_t i = 0; i < g->n_members; i++)
		g->members[i]->n_members--;
	engine_unlock(e);
	engine_event_object(e, ENGINE_EVENT_REMOVED, &g->obj, 0, by_command);
	for (size_t i = 0; i < g->n_members; i++)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT,
			     g->members[i]->obj.id, FILE_BIT(ELEMENT_GROUPS));
	group_free(g);
}

/* ---- what it is used by ----------------------------------------------------- */

struct user_search {
	const struct group *used;
	const struct relationship *found;
};

static void find_user(void *thing, void *opaque)
{
	const struct group *g = thing;
	struct user_search *s = opaque;

	if (g->rel &&
	    (g->rel->source_group == s->used || g->rel->target_group == s->used))
		s->found = g->rel;
}

/* Whether it is in a relationship, or about to be; if so how, and what ends that. */
static bool is_used(struct engine *e, const struct group *g, char *buf, size_t size)
{
	struct user_search s = { .used = g, .found = g->rel };

	if (!g->rel && (g->n_source || g->n_target))
		index_each(&e->by_id[ENGINE_GROUP], find_user, &s);
	if (s.found)
		snprintf(buf, size,
			 "in a relationship, as the %s of \"%s\"; write Detach or "
			 "ReturnToResourcePool to groups/%s/control first",
			 s.found->source_group == g ? "source" : "target",
			 s.found->row.name, s.found->group->obj.name);
	else if (g->call || g->n_source || g->n_target)
		snprintf(buf, size,
			 "to be in a relationship: a spec that names it is being carried "
			 "out; wait for its end");
	return g->rel || g->call || g->n_source || g->n_target;
}

void group_remove(struct engine *e, struct engine_command *cmd)
{
	struct group *g = object_by_id(e, ENGINE_GROUP, cmd->id);
	char use[256];
	int r;

	if (!g) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, ENOENT,
			     "the group is gone");
		return;
	}
	if (is_used(e, g, use, sizeof(use))) {
		outcome_fail(&cmd->outcome, CIM_RETURN_IN_USE, EBUSY,
			     "group \"%s\" is %s", g->obj.name, use);
		return;
	}
	store_begin(e->store);
	store_group_delete(e->store, g->obj.id);
	r = store_commit(e->store);
	if (r < 0)
		command_store_failed(&cmd->outcome, r);
	else
		group_drop(e, g, true);
}

/* ---- its lifetime (CIM_ReplicationGroup) -------------------------------------- */

/* Whether its properties take it away when it is in no relationship any more. */
static bool goes_unassociated(const struct group *g, size_t n_members)
{
	return g->delete_on_unassociated || !g->persistent ||
	       (g->delete_on_empty_element && !n_members);
}

bool group_goes_with(struct group *g, const struct relationship *rel, size_t n_members)
{
	bool goes = goes_unassociated(g, n_members);
	unsigned n_source = g->n_source - (rel->source_group == g);
	unsigned n_target = g->n_target - (rel->target_group == g);
	bool is_used = (g->rel && g->rel != rel) || g->call || n_source || n_target;

	g->goes_when_unused = goes && is_used;
	return goes && !is_used;
}

void group_go_if_unused(struct engine *e, struct group *g)
{
	if (!g->goes_when_unused || g->rel || g->call || g->n_source || g->n_target)
		return;
	g->goes_when_unused = false;
	if (!goes_unassociated(g, g->n_members))
		return;
	store_begin(e->store);
	store_group_delete(e->store, g->obj.id);
	if (store_commit(e->store) >= 0)
		group_drop(e, g, false);
	else
		log_warn("group %s: cannot be removed, as its properties ask for: %s",
			 g->obj.name, store_error(e->store));
}

/* ---- members -------------------------------------------------------------- */

/* A list of members as a write builds it; the first n_kept were there before. */
struct list {
	struct element **items;
	size_t n, size, n_kept;
};

/* One that was a member before stays where it is (AddMembers). */
static int list_add(struct list *l, struct element *el)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->items[i] == el)
			return i < l->n_kept ? 0 : -EEXIST;
	if (l->n == l->size) {
		size_t size = l->size ? l->size * 2 : 16;
		struct element **items = realloc(l->items, size * sizeof(*items));

		if (!items)
			return -ENOMEM;
		l->items = items;
		l->size = size;
	}
	l->items[l->n++] = el;
	return 0;
}

static int list_remove(struct list *l, const struct element *el)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->items[i] == el) {
			memmove(l->items + i, l->items + i + 1,
				(--l->n - i) * sizeof(*l->items));
			l->n_kept -= i < l->n_kept;
			return 0;
		}
	return -ENOENT;
}

static int list_from_group(struct list *l, const struct group *g)
{
	int r = 0;

	for (size_t i = 0; i < g->n_members && !r; i++)
		r = list_add(l, g->members[i]);
	l->n_kept = l->n;
	return r;
}

static int no_such_element(struct engine *e, struct outcome *o, const char *word)
{
	char names[256];

	object_names(e, ENGINE_ELEMENT, NULL, names, sizeof(names));
	return outcome_fail(o, CIM_RETURN_INVALID_PARAMETER, ENOENT,
			    "members: there is no element \"%s\"; elements: %s", word,
			    names);
}

/* One item: `name`, `+name` or `-name`. */
static int apply_item(struct engine *e, struct list *l, char *word, size_t len,
		      struct outcome *o)
{
	char sign = *word == '+' || *word == '-' ? *word++ : '+';
	struct element *el;
	int r;

	if (len > NAME_ELEMENT_MAX_LEN + 1)
		return outcome_fail(o, CIM_RETURN_INVALID_PARAMETER, ENAMETOOLONG,
				    "members: \"%s…\" is longer than the name of an "
				    "element can be (%d)",
				    word, NAME_ELEMENT_MAX_LEN);
	el = object_by_name(e, ENGINE_ELEMENT, word);
	if (!el)
		return no_such_element(e, o, word);
	r = sign == '-' ? list_remove(l, el) : list_add(l, el);
	if (r == -EEXIST)
		return outcome_fail(o, CIM_RETURN_INVALID_PARAMETER, EINVAL,
				    "members: \"%s\" would be in the list twice", word);
	if (r == -ENOENT)
		return outcome_fail(o, CIM_RETURN_INVALID_PARAMETER, EINVAL,
				    "members: \"%s\" is not in the list", word);
	return r < 0 ? outcome_fail(o, CIM_RETURN_FAILED, ENOMEM, "out of memory") : 0;
}

/* Whether any item changes the list instead of replacing it. */
static bool has_sign(const char *text, size_t len)
{
	const char *end = text + len;
	char word[4];
	size_t n;

	while (word_next(&text, end, word, sizeof(word), &n))
		if (*word == '+' || *word == '-')
			return true;
	return false;
}

static int build_list(struct engine *e, const struct group *g,
		      const struct engine_command *cmd, struct list *l, struct outcome *o)
{
	const char *text = cmd->text, *end = text + cmd->len;
	char word[NAME_ELEMENT_MAX_LEN + 3];
	size_t len;
	int r = 0;

	if (cmd->append || has_sign(cmd->text, cmd->len))
		r = list_from_group(l, g);
	if (r < 0)
		return outcome_fail(o, CIM_RETURN_FAILED, ENOMEM, "out of memory");
	while (!r && word_next(&text, end, word, sizeof(word), &len))
		r = apply_item(e, l, word, len, o);
	return r;
}

/* goes: the group too, with its last member. */
static int save_members(struct engine *e, struct group *g, const struct list *l,
			bool goes)
{
	CLEANUP_FREE uint64_t *ids = calloc(l->n + 1, sizeof(*ids));

	if (!ids)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++)
		ids[i] = l->items[i]->obj.id;
	store_begin(e->store);
	store_members_set(e->store, g->obj.id, ids, l->n);
	if (goes)
		store_group_delete(e->store, g->obj.id);
	return store_commit(e->store);
}

static void tell_members(struct engine *e, struct group *g)
{
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP, g->obj.id,
		     FILE_BIT(GROUP_MEMBERS));
	for (size_t i = 0; i < g->n_members; i++)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT,
			     g->members[i]->obj.id, FILE_BIT(ELEMENT_GROUPS));
}

/* Whether the group went with its last member: its row is gone, and the object is to be
 * dropped when the command is answered. */
static bool write_members(struct engine *e, struct group *g, struct engine_command *cmd)
{
	struct list l = { 0 };
	bool goes = false;
	char use[256];
	int r;

	if (is_used(e, g, use, sizeof(use))) {
		outcome_fail(&cmd->outcome, CIM_RETURN_IN_USE, 0,
			     "members: the list cannot change, as group \"%s\" is %s",
			     g->obj.name, use);
		return false;
	}
	r = build_list(e, g, cmd, &l, &cmd->outcome);
	if (!r) {
		goes = g->delete_on_empty_element && g->n_members && !l.n;
		r = save_members(e, g, &l, goes);
		if (r < 0)
			command_store_failed(&cmd->outcome, r);
	}
	if (!r) {
		/* Those that leave hear of it as those that stay do. */
		tell_members(e, g);
		engine_lock(e);
		group_set_members(g, l.items, l.n);
		engine_unlock(e);
		tell_members(e, g);
	}
	free(l.items);
	return !r && goes;
}

/* ---- properties ------------------------------------------------------------ */

#define NAME_(symbol, name, kind, mode) [symbol] = name,
static const char *const property_names[] = { GROUP_FILES(NAME_) };

static bool *property(struct group *g, unsigned file)
{
	switch (file) {
	case GROUP_PERSISTENT:
		return &g->persistent;
	case GROUP_DELETE_ON_EMPTY:
		return &g->delete_on_empty_element;
	default:
		return &g->delete_on_unassociated;
	}
}

static void write_property(struct engine *e, struct group *g, struct engine_command *cmd)
{
	struct group changed = *g;
	struct store_group row;
	char text[32];
	bool value;
	int r;

	if (word_bool(cmd->text, cmd->len, &value) < 0) {
		if (!word_line(cmd->text, cmd->len, text, sizeof(text)))
			strcpy(text, "…");
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			     "%s: \"%s\" is no boolean; write true or false",
			     property_names[cmd->file], text);
		return;
	}
	*property(&changed, cmd->file) = value;
	group_row(&changed, &row);
	store_begin(e->store);
	store_group_update(e->store, &row);
	r = store_commit(e->store);
	if (r < 0) {
		command_store_failed(&cmd->outcome, r);
		return;
	}
	engine_lock(e);
	*property(g, cmd->file) = value;
	engine_unlock(e);
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP, g->obj.id,
		     FILE_BIT(cmd->file));
}

static void write_priority(struct engine *e, struct group *g, struct engine_command *cmd)
{
	struct store_relationship row;
	char text[32];
	unsigned value;
	int r;

	if (!g->rel) {
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, 0,
			     "CopyPriority: group \"%s\" has no relationship; write its "
			     "spec first",
			     g->obj.name);
		return;
	}
	if (!word_line(cmd->text, cmd->len, text, sizeof(text)) ||
	    cim_parse(&cim_copy_priority, text, &value) < 0 || value > CIM_PRIORITY_URGENT) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			     "CopyPriority: write Not Managed, Low, Same, High or Urgent");
		return;
	}
	row = g->rel->row;
	row.copy_priority = value;
	store_begin(e->store);
	store_relationship_update(e->store, &row);
	r = store_commit(e->store);
	if (r < 0) {
		command_store_failed(&cmd->outcome, r);
		return;
	}
	engine_lock(e);
	g->rel->row.copy_priority = value;
	engine_unlock(e);
	if (g->rel->priority)
		priority_group_set(g->rel->priority, value);
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP, g->obj.id,
		     FILE_BIT(GROUP_COPY_PRIORITY));
}

void group_write(struct engine *e, struct engine_command *cmd)
{
	struct group *g = object_by_id(e, ENGINE_GROUP, cmd->id);
	bool goes = false;

	if (!g) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, ENODEV,
			     "the group is gone");
		command_answer(e, cmd);
		return;
	}
	switch (cmd->file) {
	case GROUP_SPEC:
		replica_write_spec(e, cmd); /* answers by itself */
		return;
	case GROUP_CONTROL:
		operation_write(e, cmd); /* answers by itself */
		return;
	case GROUP_MEMBERS:
		goes = write_members(e, g, cmd);
		break;
	case GROUP_COPY_PRIORITY:
		write_priority(e, g, cmd);
		break;
	default:
		write_property(e, g, cmd);
	}
	command_answer(e, cmd);
	/* Last.  The command is its caller's again. */
	if (goes)
		group_drop(e, g, false);
}
