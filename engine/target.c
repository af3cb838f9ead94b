/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * LUNs (and `file:` elements) as the targets of a Clone: the members of a TargetGroup.
 *
 * What may become one is checked twice: what the objects say, before the call holds
 * anything; and what the devices say (sizes, identity), when all have logged in.  From
 * the first on the call holds them: no other relationship takes them, and nobody opens
 * their data for writing.
 *
 * From the instant to the end of its relationship a target's data is an image over its
 * volume (image_lun.c), of which element->image is the one; its map lies in the pool that
 * the points lie in, until it is complete.  Then the element is what it was.
 */

#include "engine/replica.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/setting.h"
#include "engine/hold.h"

static int invalid(struct replica_call *call, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* 5, of the parameter TargetGroup. */
static int invalid(struct replica_call *call, int error, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, error,
			    "TargetGroup: %s", text);
}

static uint64_t size_of(const struct element *el)
{
	return el->have_info ? el->info.size : el->size;
}

/* ---- the group ------------------------------------------------------------------- */

static int check_group(struct replica_call *call, const struct group *g)
{
	if (g == call->source_group)
		return invalid(call, 0,
			       "\"%s\" is the source group itself; name another group",
			       g->obj.name);
	if (g != call->group && (g->rel || g->call || g->n_target || g->n_source))
		return outcome_fail(&call->outcome, CIM_RETURN_IN_USE, 0,
				    "TargetGroup: group \"%s\" is in a relationship; end "
				    "that first, or name another group",
				    g->obj.name);
	if (g == call->group && g->n_source)
		return outcome_fail(&call->outcome, CIM_RETURN_IN_USE, 0,
				    "TargetGroup: group \"%s\" is the source of a "
				    "relationship; end that first",
				    g->obj.name);
	return 0;
}

/* With members, what says where new elements come from has no sense. */
static int check_exclusions(struct replica_call *call, const struct group *g)
{
	if (*call->spec.target_pool)
		return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
				    "TargetPool=%s excludes TargetGroup=%s, which has "
				    "members: they are the targets; leave TargetPool out",
				    call->spec.target_pool, g->obj.name);
	if (call->spec.target_setting_goal)
		return outcome_fail(
			&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			"TargetSettingGoal excludes TargetGroup=%s, which has members: "
			"they are the targets, as they are; leave TargetSettingGoal out",
			g->obj.name);
	if (replica_setting(call, "TargetElementSupplier") == SETTING_SUPPLIER_NEW)
		return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
				    "TargetElementSupplier: Create new excludes "
				    "TargetGroup=%s, which has members; take an empty "
				    "group, or leave one of the two out",
				    g->obj.name);
	if (call->spec.sync_type != CIM_SYNC_CLONE)
		return outcome_fail(
			&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			"TargetGroup: group \"%s\" has members, and a %s onto "
			"existing elements is not supported; take "
			"SyncType=Clone, or an empty group",
			g->obj.name, cim_name(&cim_sync_type, call->spec.sync_type));
	return 0;
}

/* UnequalGroupsAction; the members that have no partner are left alone. */
static int check_counts(struct replica_call *call, const struct group *g)
{
	unsigned action = replica_setting(call, "UnequalGroupsAction");
	bool less = g->n_members < call->n;

	if (less && action == SETTING_UNEQUAL_GROUPS_SOURCE)
		call->n = g->n_members;
	else if (g->n_members != call->n &&
		 (less || action != SETTING_UNEQUAL_GROUPS_TARGET))
		return invalid(call, 0,
			       "group \"%s\" has %zu member%s and the source has %zu; "
			       "write as many to its members, or set UnequalGroupsAction "
			       "to \"Allow %s group to be larger\"",
			       g->obj.name, g->n_members, g->n_members == 1 ? "" : "s",
			       call->n, less ? "source" : "target");
	return 0;
}

/* All may be taken, or those at the places of the sources. */
static int take_targets(struct replica_call *call, const struct group *g)
{
	bool optimum = replica_setting(call, "Pairing") == SETTING_PAIRING_OPTIMUM;

	call->n_targets = optimum ? g->n_members : call->n;
	call->targets = calloc(call->n_targets, sizeof(*call->targets));
	if (!call->targets)
		return outcome_fail(&call->outcome, CIM_RETURN_FAILED, ENOMEM,
				    "out of memory");
	memcpy(call->targets, g->members, call->n_targets * sizeof(*call->targets));
	return 0;
}

/* There are none. */
static int check_supplier(struct replica_call *call)
{
	unsigned supplier = replica_setting(call, "TargetElementSupplier");

	if (supplier != SETTING_SUPPLIER_EXISTING && supplier != SETTING_SUPPLIER_CLIENT)
		return 0;
	return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			    "TargetElementSupplier: %s needs a TargetGroup whose members "
			    "are the targets; give one, or let images be made",
			    supplier == SETTING_SUPPLIER_CLIENT ? "Client must supply" :
								  "Use existing");
}

int target_find(struct replica_call *call)
{
	struct group *g = call->group;
	int r;

	if (!*call->spec.target_group && g->n_members)
		return invalid(
			call, 0,
			"this group has members; write TargetGroup=%s to overwrite "
			"them, or empty the list (echo > groups/%s/members), or use "
			"another group",
			g->obj.name, g->obj.name);
	if (!*call->spec.target_group)
		return check_supplier(call);
	g = object_by_name(call->engine, ENGINE_GROUP, call->spec.target_group);
	if (!g)
		return replica_fail_missing(call, "TargetGroup", "group",
					    call->spec.target_group, ENGINE_GROUP);
	r = check_group(call, g);
	if (r < 0)
		return r;
	call->target_group = g == call->group ? NULL : g;
	if (!g->n_members)
		return check_supplier(call);
	r = check_exclusions(call, g);
	if (!r)
		r = check_counts(call, g);
	return r < 0 ? r : take_targets(call, g);
}

/* ---- the members ----------------------------------------------------------------- */

/* By any name: a LUN by what it says of itself, an element by itself. */
static bool is_same(const struct element *a, const struct element *b)
{
	const char *wwn_a = a->have_info ? a->info.wwn : a->wwn;
	const char *wwn_b = b->have_info ? b->info.wwn : b->wwn;
	const char *serial_a = a->have_info ? a->info.serial : a->serial;
	const char *serial_b = b->have_info ? b->info.serial : b->serial;

	if (a == b)
		return true;
	if (*a->url && !strcmp(a->url, b->url) &&
	    !strcmp(a->access_point, b->access_point))
		return true;
	if (*wwn_a || *wwn_b)
		return !strcmp(wwn_a, wwn_b) && !strcmp(serial_a, serial_b);
	return *serial_a && !strcmp(serial_a, serial_b) && a->have_info && b->have_info &&
	       !strcmp(a->info.vendor, b->info.vendor) &&
	       !strcmp(a->info.product, b->info.product);
}

static bool is_in(struct element *const *list, size_t n, const struct element *el)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == el)
			return true;
	return false;
}

struct search {
	const struct replica_call *call;
	const struct element *target, *found;
};

/* Another name of the target that something uses. */
static void find_used(void *thing, void *opaque)
{
	const struct element *el = thing;
	struct search *s = opaque;

	if (el == s->target || s->found || !is_same(el, s->target))
		return;
	if (element_in_relationship(el) || el->n_handles ||
	    is_in(s->call->targets, s->call->n_targets, el))
		s->found = el;
}

static int in_use(struct replica_call *call, const struct element *el, const char *fmt,
		  ...) __attribute__((format(printf, 3, 4)));

static int in_use(struct replica_call *call, const struct element *el, const char *fmt,
		  ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return outcome_fail(&call->outcome, CIM_RETURN_IN_USE, 0,
			    "TargetGroup: member \"%s\" %s", el->obj.name, text);
}

/* The lock is held. */
static int check_closed_locked(struct replica_call *call, const struct element *el)
{
	char handles[192];

	if (!el->n_handles)
		return 0;
	element_describe_handles(el, handles, sizeof(handles));
	return in_use(call, el, "would be overwritten: %s; close it first", handles);
}

static int check_unused(struct replica_call *call, const struct element *el)
{
	struct engine *e = call->engine;
	int r;

	if (el->target_of)
		return in_use(
			call, el,
			"is a target of relationship \"%s\" already; end that first",
			el->target_of->rel->row.name);
	if (!TAILQ_EMPTY(&el->source_of))
		return in_use(call, el,
			      "is a source of relationship \"%s\"; end that first",
			      TAILQ_FIRST(&el->source_of)->rel->row.name);
	if (el->n_source)
		return in_use(call, el,
			      "is taken by another spec, which is being "
			      "carried out");
	engine_lock(e);
	r = check_closed_locked(call, el);
	engine_unlock(e);
	return r;
}

static int check_member(struct replica_call *call, const struct element *el)
{
	if (is_in(call->sources, call->n, el))
		return invalid(call, 0, "member \"%s\" is a source of the same call",
			       el->obj.name);
	if (!element_is_lun(el))
		return outcome_fail(
			&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			"TargetGroup: member \"%s\" is an image in a pool; only "
			"LUNs and files can be copied onto, new images are "
			"made by an empty group",
			el->obj.name);
	if (!el->exclusive)
		return invalid(call, 0,
			       "member \"%s\" is shared: others may write it while it is "
			       "copied onto; make it exclusive (elements/%s/access)",
			       el->obj.name, el->obj.name);
	return check_unused(call, el);
}

int target_check(struct replica_call *call)
{
	int r = 0;

	for (size_t i = 0; i < call->n_targets && !r; i++)
		r = check_member(call, call->targets[i]);
	return r;
}

/* ---- what the devices say -------------------------------------------------------- */

bool target_fits(const struct element *target, const struct element *source)
{
	return !target->info.read_only && target->info.size >= size_of(source) &&
	       !(size_of(source) % target->info.block_size);
}

static int check_fit(struct replica_call *call, const struct element *el,
		     const struct element *source)
{
	if (el->info.read_only)
		return outcome_fail(&call->outcome, CIM_RETURN_FAILED, EROFS,
				    "TargetGroup: member \"%s\" is read-only",
				    el->obj.name);
	if (el->info.size < size_of(source))
		return invalid(call, 0,
			       "member \"%s\" has %" PRIu64
			       " bytes and its source \"%s\" has %" PRIu64
			       "; a target is at least as large as its source",
			       el->obj.name, el->info.size, source->obj.name,
			       size_of(source));
	if (size_of(source) % el->info.block_size)
		return outcome_fail(
			&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			"TargetGroup: member \"%s\" has blocks of %u bytes, and "
			"the %" PRIu64 " bytes of its source \"%s\" are not a "
			"whole number of them; take a target of smaller blocks",
			el->obj.name, el->info.block_size, size_of(source),
			source->obj.name);
	return 0;
}

static int check_aliases(struct replica_call *call, const struct element *el)
{
	struct search s = { .call = call, .target = el };

	for (size_t i = 0; i < call->n; i++)
		if (is_same(el, call->sources[i]))
			return invalid(
				call, 0,
				"member \"%s\" is the same LUN as the source \"%s\" (WWN "
				"%.80s); if they are two, give one another serial number at "
				"its target",
				el->obj.name, call->sources[i]->obj.name, el->info.wwn);
	engine_lock(call->engine);
	index_each(&call->engine->by_id[ENGINE_ELEMENT], find_used, &s);
	engine_unlock(call->engine);
	if (!s.found)
		return 0;
	return in_use(
		call, el,
		"is the same LUN as \"%s\" (WWN %.80s), which is in use; if they are "
		"two, give one another serial number at its target",
		s.found->obj.name, el->info.wwn);
}

static void hold(struct replica_call *call, size_t from, int by)
{
	for (size_t i = from; i < call->n_targets; i++) {
		call->targets[i]->n_source += (unsigned)by;
		call->targets[i]->target_call = by > 0 ? call : NULL;
	}
}

/* Those that were not taken are free again. */
static void choose_targets(struct replica_call *call)
{
	struct engine *e = call->engine;

	if (replica_setting(call, "Pairing") != SETTING_PAIRING_OPTIMUM)
		return;
	pairing_choose(call);
	engine_lock(e);
	hold(call, call->n, -1);
	call->n_targets = call->n;
	engine_unlock(e);
}

int target_check_ready(struct replica_call *call)
{
	int r = 0;

	if (call->targets)
		choose_targets(call);
	for (size_t i = 0; call->targets && i < call->n && !r; i++) {
		r = check_fit(call, call->targets[i], call->sources[i]);
		if (!r)
			r = check_aliases(call, call->targets[i]);
	}
	return r;
}

/* ---- the call -------------------------------------------------------------------- */

static void hold_all_locked(struct replica_call *call, int by)
{
	hold(call, 0, by);
	if (call->target_group)
		call->target_group->n_target += (unsigned)by;
}

int target_hold(struct replica_call *call)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&call->engine->lock);
	int r = 0;

	/* By any thread they may have been opened until here. */
	for (size_t i = 0; i < call->n_targets && !r; i++)
		r = check_closed_locked(call, call->targets[i]);
	if (!r)
		hold_all_locked(call, 1);
	return r;
}

void target_release(struct replica_call *call)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&call->engine->lock);

	hold_all_locked(call, -1);
}

void target_set_member(struct instant_member *m, const struct element *el,
		       uint64_t copy_size, uint64_t generation)
{
	m->make = INSTANT_IMAGE_MAP;
	m->target = el->obj.id;
	m->generation = generation;
	m->size = copy_size;
	m->lun = el->volume;
	m->lun_name = el->obj.name;
	m->lun_size = size_of(el);
	m->digests = true;
}

/* ---- the relationship ------------------------------------------------------------ */

struct pool_object *pair_pool(const struct pair *p)
{
	if (p->target->pool)
		return p->target->pool;
	return object_by_name(p->source->engine, ENGINE_POOL, p->rel->row.pool);
}

uint64_t pair_size(const struct pair *p)
{
	return element_is_lun(p->target) ? size_of(p->source) : p->target->size;
}

static bool is_idle(const struct pair *p)
{
	return p->copy_state == CIM_COPY_INITIALIZED ||
	       p->copy_state == CIM_COPY_INACTIVE || p->copy_state == CIM_COPY_PREPARED;
}

static int open_image(struct pair *p, char *error, size_t size, struct image **ret_image)
{
	struct pool_object *pool = pair_pool(p);
	struct element *el = p->target;
	const struct image_params params = {
		.id = el->obj.id,
		.size = size_of(el),
		.generation = el->generation,
		.complete = el->complete,
		.written = p->written,
		.target = el->volume,
		.target_name = el->obj.name,
		.copy_size = pair_size(p),
		.digests = true,
	};
	int r = !pool ? -ENOENT :
		!el->volume ?
			-ENOMEM :
			image_open(&el->engine->dataops, pool->pool, &params, ret_image);

	if (!pool)
		snprintf(error, size, "pool %s is no longer configured",
			 p->rel->row.pool);
	else if (r < 0)
		snprintf(error, size,
			 "pool %s: the chunk map of target %s cannot be used: %s",
			 pool->obj.name, el->obj.name, strerror(-r));
	return r;
}

int pair_open_target(struct pair *p, char *error, size_t size)
{
	struct element *el = p->target;
	struct image *image;
	int r;

	*error = '\0';
	/* Without an instant there is nothing to read. */
	if (!element_is_lun(el) || el->image || is_idle(p))
		return 0;
	r = open_image(p, error, size, &image);
	if (r < 0)
		return r;
	engine_lock(el->engine);
	el->image = image;
	element_switch_handles(el);
	engine_unlock(el->engine);
	return 0;
}

struct remove_map {
	struct work work;
	struct pool *pool;
	uint64_t id, generation;
};

static void remove_map(struct work *work)
{
	struct remove_map *rm = (struct remove_map *)work;

	pool_remove_map(rm->pool, rm->id, rm->generation);
	pool_remove_digest(rm->pool, rm->id, rm->generation - 1);
	free(rm);
}

/* By a worker. */
static void remove_files(const struct pair *p, void (*fn)(struct work *work))
{
	struct pool_object *pool = pair_pool(p);
	struct remove_map *rm = pool ? calloc(1, sizeof(*rm)) : NULL;

	if (!rm)
		return; /* the next start deletes them */
	*rm = (struct remove_map){
		{ .fn = fn }, pool->pool, p->target->obj.id, p->target->generation
	};
	workers_submit(p->target->engine->workers, &rm->work);
}

static void remove_digests(struct work *work)
{
	struct remove_map *rm = (struct remove_map *)work;

	pool_remove_digest(rm->pool, rm->id, rm->generation);
	pool_remove_digest(rm->pool, rm->id, rm->generation - 1);
	free(rm);
}

void pair_remove_digests(const struct pair *p)
{
	if (p->rel->row.sync_type == CIM_SYNC_CLONE)
		remove_files(p, remove_digests);
}

void pair_remove_map(const struct pair *p)
{
	remove_files(p, remove_map);
}

bool relation_has_luns(const struct relationship *rel)
{
	return rel->n_pairs && element_is_lun(rel->pairs[0]->target);
}

struct image *target_release_locked(struct element *el)
{
	struct image *image = move_ptr(el->image);

	if (image)
		el->modified_ms = element_modified_ms(el);
	el->complete = false;
	element_switch_handles(el);
	return image;
}
