/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * SourceAccessPoint and TargetAccessPoint of a spec, and elements made on the fly.
 *
 * An access point beside a group or the name of an element only states where its
 * elements are, and has to be right.  Beside a SourceElement `<iqn>/<lun>` it says where
 * that LUN is: an element of it that is there already is taken, however it came to be;
 * else one is made (STORE_ORIGIN_SPEC), which differs from one made by mkdir in this:
 *
 *   its URL is that of a portal, so it is checked, at each start and SIGHUP, against what
 *   the configuration says of its access point (load.c, reload.c);
 *   it goes when nothing uses it any more: with the call if that fails, else with its last
 *   relationship, membership or open handle, at the next tick.
 *
 * It is made durable before it logs in, so that its sessions have an identity that is
 * never used again; a crash before the relationship is there leaves one that nothing
 * uses, which the first tick of the next start takes away.
 */

#include "engine/hold.h"
#include "engine/replica.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"

enum { URL_SIZE = 640 }; /* iscsi://PORTAL/IQN/LUN */

static int invalid(struct replica_call *call, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int invalid(struct replica_call *call, int error, const char *fmt, ...)
{
	char text[OUTCOME_SENTENCE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, error, "%s",
			    text);
}

/* ---- the names ------------------------------------------------------------------- */

static int find_one(struct replica_call *call, const char *parameter, const char *name)
{
	const struct config *c = call->engine->sections;
	char names[256];
	size_t len = 0;

	if (!*name || config_find_access_point(c, name))
		return 0;
	snprintf(names, sizeof(names), "none; add the section to %.200s", c->path);
	for (size_t i = 0; i < c->n_access_points && len < sizeof(names); i++)
		len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s",
					len ? ", " : "", c->access_points[i].name);
	return invalid(call, ENOENT,
		       "%s: there is no [access_point %s]; access points: %s", parameter,
		       name, names);
}

int accesspoint_find(struct replica_call *call)
{
	int r = find_one(call, "SourceAccessPoint", call->spec.source_access_point);

	return r < 0 ? r :
		       find_one(call, "TargetAccessPoint",
				call->spec.target_access_point);
}

/* ---- whether the elements agree --------------------------------------------------- */

static int check_element(struct replica_call *call, const char *parameter,
			 const char *name, const struct element *el)
{
	if (!strcmp(el->access_point, name))
		return 0;
	if (!*el->access_point)
		return invalid(call, 0, "%s=%s: element \"%s\" is %s; leave %s out",
			       parameter, name, el->obj.name,
			       element_is_lun(el) ? "reached without an access point" :
						    "an image in a pool",
			       parameter);
	return invalid(call, 0,
		       "%s=%s: element \"%s\" is at access point \"%s\"; write that, or "
		       "leave %s out",
		       parameter, name, el->obj.name, el->access_point, parameter);
}

static int check_targets(struct replica_call *call)
{
	const char *name = call->spec.target_access_point;
	int r = 0;

	if (!call->targets)
		return outcome_fail(
			&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			"TargetAccessPoint=%s: LunFS makes no LUNs at a target, new "
			"elements are images in a pool; name a TargetGroup whose members "
			"are at that access point, or leave TargetAccessPoint out",
			name);
	for (size_t i = 0; i < call->n && !r; i++)
		r = check_element(call, "TargetAccessPoint", name, call->targets[i]);
	return r;
}

int accesspoint_check(struct replica_call *call)
{
	const char *name = call->spec.source_access_point;
	int r = 0;

	for (size_t i = 0; *name && i < call->n && !r; i++)
		r = check_element(call, "SourceAccessPoint", name, call->sources[i]);
	return !r && *call->spec.target_access_point ? check_targets(call) : r;
}

/* ---- <iqn>/<lun> ------------------------------------------------------------------ */

/* The URL of a LUN at an access point. */
static void make_url(const struct config_access_point *ap, const char *target,
		     unsigned lun, char url[static URL_SIZE])
{
	snprintf(url, URL_SIZE, "iscsi://%s/%s/%u", ap->portal, target, lun);
}

struct search {
	const char *url, *access_point;
	struct element *found; /* at that access point */
	struct element *other; /* the same LUN, reached in another way */
};

static void find_url(void *thing, void *opaque)
{
	struct element *el = thing;
	struct search *s = opaque;

	if (strcmp(el->url, s->url))
		return;
	if (strcmp(el->access_point, s->access_point))
		s->other = el;
	else if (!s->found || el->configured)
		s->found = el;
}

static int refuse_other(struct replica_call *call, const struct element *el)
{
	bool has_one = *el->access_point;

	return invalid(call, 0,
		       "SourceElement: %.100s at access point \"%s\" is element \"%s\" "
		       "already, which is reached %s%s%s; write SourceElement=%s without "
		       "SourceAccessPoint",
		       call->spec.source_element, call->spec.source_access_point,
		       el->obj.name, has_one ? "by access point \"" : "without one",
		       el->access_point, has_one ? "\"" : "", el->obj.name);
}

static int check_name(struct replica_call *call, const char *name)
{
	const struct element *el = object_by_name(call->engine, ENGINE_ELEMENT, name);
	const char *claimer = replica_claims_name(call->engine, name);

	if (claimer)
		return outcome_fail(&call->outcome, CIM_RETURN_IN_USE, 0,
				    "SourceElement: %.100s would be element \"%s\", and "
				    "that is to be an image of the spec of group \"%s\", "
				    "which is being carried out; try again with another "
				    "RelationshipName there",
				    call->spec.source_element, name, claimer);
	if (!el)
		return 0;
	return outcome_fail(&call->outcome, CIM_RETURN_IN_USE, 0,
			    "SourceElement: %.100s would be element \"%s\", and there is "
			    "one already, whose url is \"%.200s\"; end what uses that, "
			    "or remove it",
			    call->spec.source_element, name, el->url);
}

static int make_source(struct replica_call *call, const char *name, const char *url)
{
	struct store_element row = {
		.origin = STORE_ORIGIN_SPEC,
		.url = url,
		.access_point = call->spec.source_access_point,
		.created = timefmt_now_ms(),
	};

	strcpy(row.name, name);
	call->new_source = element_new(call->engine, &row);
	return call->new_source ? 0 :
				  outcome_fail(&call->outcome, CIM_RETURN_FAILED, ENOMEM,
					       "out of memory");
}

int accesspoint_find_source(struct replica_call *call, struct element **ret_element)
{
	const struct config_access_point *ap = config_find_access_point(
		call->engine->sections, call->spec.source_access_point);
	char target[ISCSINAME_MAX_LEN + 1], url[URL_SIZE];
	char name[NAME_ELEMENT_MAX_LEN + 1];
	struct search s = { url, ap->name, NULL, NULL };
	unsigned lun;
	int r;

	spec_source_lun(&call->spec, target, &lun);
	make_url(ap, target, lun, url);
	index_each(&call->engine->by_id[ENGINE_ELEMENT], find_url, &s);
	if (s.found) {
		*ret_element = s.found;
		return 0;
	}
	if (s.other)
		return refuse_other(call, s.other);
	iscsiname_element(target, lun, name);
	r = check_name(call, name);
	if (!r)
		r = make_source(call, name, url);
	if (!r)
		*ret_element = call->new_source;
	return r;
}

int accesspoint_add_source(struct replica_call *call)
{
	struct element *el = call->new_source;
	struct engine *e = call->engine;
	struct store_element row;
	int64_t id;
	int r;

	if (!el)
		return 0;
	element_row(el, &row);
	store_begin(e->store);
	id = store_element_insert(e->store, &row);
	r = store_commit(e->store);
	if (r < 0)
		return command_store_failed(&call->outcome, r);
	call->new_source = NULL;
	el->obj.id = (uint64_t)id;
	engine_lock(e);
	object_add(e, &el->obj);
	engine_unlock(e);
	element_open(el);
	engine_event_object(e, ENGINE_EVENT_CREATED, &el->obj, 0, false);
	return 0;
}

/* ---- the end ---------------------------------------------------------------------- */

/* The lock is held. */
static bool is_left(const struct element *el)
{
	return el->origin == STORE_ORIGIN_SPEC && !el->n_members &&
	       !element_in_relationship(el) && !el->n_handles &&
	       TAILQ_EMPTY(&el->own_handles) && !hold_has_element(el);
}

static void find_left(void *thing, void *opaque)
{
	struct element *el = thing, **found = opaque;

	if (is_left(el))
		*found = el;
}

void accesspoint_tick(struct engine *e)
{
	struct element *found;

	do {
		found = NULL;
		engine_lock(e);
		index_each(&e->by_id[ENGINE_ELEMENT], find_left, &found);
		engine_unlock(e);
	} while (found && element_delete(e, found, false) >= 0);
}

void accesspoint_release(struct engine *e, struct element *el)
{
	bool goes;

	engine_lock(e);
	goes = is_left(el);
	engine_unlock(e);
	/* If that fails, the next tick tries again. */
	if (goes)
		element_delete(e, el, false);
}

/* ---- what the configuration says now ------------------------------------------------ */

/* False: there is no such access point. */
static bool url_now(const struct element *el, const struct config *c,
		    char url[static URL_SIZE])
{
	const struct config_access_point *ap =
		config_find_access_point(c, el->access_point);
	struct config_url parts;
	char error[320];

	if (!ap || config_parse_url(el->url, &parts, error, sizeof(error)) < 0)
		return false;
	make_url(ap, parts.target, parts.lun, url);
	return true;
}

bool accesspoint_is_same(const struct element *el, const struct config *c)
{
	char url[URL_SIZE];

	return url_now(el, c, url) && !strcmp(url, el->url);
}

void accesspoint_explain(const struct element *el, const struct config *c, char *buf,
			 size_t size)
{
	const struct config_access_point *ap =
		config_find_access_point(c, el->access_point);

	if (ap)
		snprintf(buf, size,
			 "no longer configured: the portal of [access_point %s] is now "
			 "%s; put it back, or end the relationships",
			 ap->name, ap->portal);
	else
		snprintf(buf, size,
			 "no longer configured: there is no [access_point %s]; put it "
			 "back into the configuration, or end the relationships",
			 el->access_point);
}

int accesspoint_follow(struct element *el, const struct config *c)
{
	char url[URL_SIZE], *copy;

	if (!url_now(el, c, url))
		return -ENOENT;
	copy = strdup(url);
	if (!copy)
		return -ENOMEM;
	free(el->url);
	el->url = copy;
	el->size = 0;
	*el->serial = *el->wwn = '\0';
	return 0;
}
