/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A configuration that was read again, while the engine runs.  New sections are
 * added; a changed element is closed and opened anew if nobody depends on it (no
 * relationship, no open handle); what cannot be applied is reported and stays
 * as it was.  [daemon] is not looked at: it needs a restart.
 */

#include "engine/model.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"

struct reload {
	struct message m;
	struct config *config;	     /* the new one */
	const struct config *before; /* what it replaces */
	struct strbuf *report;
	sem_t done;
};

static bool same_access_point(const struct config *a, const struct config *b,
			      const char *name)
{
	const struct config_access_point *x = config_find_access_point(a, name);
	const struct config_access_point *y = config_find_access_point(b, name);

	if (!x || !y)
		return !x && !y;
	return !strcmp(x->portal, y->portal) && !strcmp(x->user, y->user) &&
	       !strcmp(x->password, y->password) &&
	       !strcmp(x->target_user, y->target_user) &&
	       !strcmp(x->target_password, y->target_password) &&
	       x->header_digest == y->header_digest;
}

/* Whether the device of an element has to be opened anew. */
static bool device_differs(const struct reload *rl, const struct element *el,
			   const struct config_element *conf)
{
	return strcmp(el->url, conf->url) || *el->error || el->outdated ||
	       el->exclusive != (conf->access == CONFIG_ACCESS_EXCLUSIVE) ||
	       strcmp(el->access_point, conf->access_point) ||
	       !same_access_point(rl->before, rl->config, el->access_point);
}

static bool is_busy(struct element *el, const char **ret_why)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&el->engine->lock);

	*ret_why = element_in_relationship(el) ? "it is in a relationship" :
		   el->n_handles	       ? "its data is open" :
						 NULL;
	return *ret_why;
}

static void reopen(struct element *el)
{
	el->reopen = el->bd || el->closing;
	element_close(el, !element_in_relationship(el));
	if (!el->reopen)
		element_open_device(el);
}

/* One that had vanished and is back as it was: its relationships go on. */
static bool is_back(const struct element *el, const struct config_element *conf)
{
	return !el->configured && !strcmp(el->url, conf->url) &&
	       el->exclusive == (conf->access == CONFIG_ACCESS_EXCLUSIVE);
}

/* The same LUN, which refuses the login: another try disturbs nobody. */
static bool may_log_in_anew(const struct element *el, const struct config_element *conf)
{
	return el->configured && el->status.state == BD_REFUSED &&
	       !strcmp(el->url, conf->url) &&
	       el->exclusive == (conf->access == CONFIG_ACCESS_EXCLUSIVE);
}

/* What a device that is open, and a relationship, take over too. */
static void change_io(struct reload *rl, struct element *el,
		      const struct config_element *conf)
{
	if (el->io_timeout_ms == conf->io_timeout_ms &&
	    el->write_through == (conf->write_cache == CONFIG_WRITE_THROUGH))
		return;
	engine_lock(el->engine);
	load_update_io(el, conf);
	engine_unlock(el->engine);
	strbuf_addf(rl->report, "[element %s] taken over\n", el->obj.name);
}

static void change_element(struct reload *rl, struct element *el,
			   const struct config_element *conf)
{
	struct engine *e = el->engine;
	const char *why;
	int r;

	if (!device_differs(rl, el, conf)) {
		change_io(rl, el, conf);
		return;
	}
	if (!is_back(el, conf) && !may_log_in_anew(el, conf) && is_busy(el, &why)) {
		el->outdated = true;
		strbuf_addf(rl->report,
			    "[element %s] has changed and is left as it was, as %s; "
			    "it is taken over by the next SIGHUP or start after that\n",
			    el->obj.name, why);
		return;
	}
	engine_lock(e);
	*el->error = '\0';
	el->outdated = false;
	r = load_update_configured(el, conf);
	engine_unlock(e);
	if (r >= 0)
		r = element_save(el);
	if (r < 0) {
		strbuf_addf(rl->report, "[element %s] cannot be taken over: %s\n",
			    el->obj.name, strerror(-r));
		return;
	}
	reopen(el);
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT, el->obj.id,
		     FILE_BIT(ELEMENT_N_FILES) - 1);
	engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT, el->obj.id, 0);
	strbuf_addf(rl->report, "[element %s] taken over\n", el->obj.name);
}

static void add_element(struct engine *e, struct reload *rl,
			const struct config_element *conf)
{
	const char *claimer = replica_claims_name(e, conf->name);
	struct element *el;
	int r;

	if (claimer) {
		strbuf_addf(
			rl->report,
			"[element %s] is not added: the spec of group \"%s\", which is "
			"being carried out, makes an image of that name; give one of "
			"the two another name\n",
			conf->name, claimer);
		return;
	}
	r = load_add_configured(e, conf, &el);
	if (r < 0) {
		strbuf_addf(rl->report, "[element %s] cannot be added: %s\n", conf->name,
			    strerror(-r));
		return;
	}
	engine_lock(e);
	object_add(e, &el->obj);
	engine_unlock(e);
	element_open(el);
	engine_event_object(e, ENGINE_EVENT_CREATED, &el->obj, 0, false);
	strbuf_addf(rl->report, "[element %s] added\n", conf->name);
}

static void take_element(struct engine *e, struct reload *rl,
			 const struct config_element *conf)
{
	struct element *el = object_by_name(e, ENGINE_ELEMENT, conf->name);

	if (!el)
		add_element(e, rl, conf);
	else if (el->origin == STORE_ORIGIN_CONFIG)
		change_element(rl, el, conf);
	else
		strbuf_addf(rl->report,
			    "[element %s] is not taken over: an element of that name was "
			    "made through the tree; give one of the two another name\n",
			    conf->name);
}

struct gone {
	const struct config *config;
	uint64_t after; /* the id */
	struct element *found;
};

static bool is_idle(struct element *el)
{
	const char *why;

	return !el->n_members && !is_busy(el, &why);
}

/* The next one that goes: also what was in use when it left the configuration. */
static void find_gone(void *thing, void *opaque)
{
	struct element *el = thing;
	struct gone *g = opaque;

	if (el->origin == STORE_ORIGIN_CONFIG && el->obj.id > g->after &&
	    (!g->found || el->obj.id < g->found->obj.id) &&
	    !config_find_element(g->config, el->obj.name) &&
	    (el->configured || is_idle(el)))
		g->found = el;
}

/* An element that is in the configuration no longer: goes if it is idle, else
 * stands still with an error. */
static void retire_element(struct engine *e, struct reload *rl, struct element *el)
{
	engine_lock(e);
	el->configured = false;
	engine_unlock(e);
	if (is_idle(el) && element_delete(e, el, false) >= 0) {
		strbuf_addf(rl->report, "[element] one that is no longer configured was "
					"removed\n");
		return;
	}
	element_set_error(el, "no longer configured: put it back into the "
			      "configuration, or take it out of its groups and "
			      "relationships, and remove it (rmdir, or the next SIGHUP)");
	strbuf_addf(rl->report,
		    "[element %s] is no longer configured but in use: it "
		    "stays, in Error\n",
		    el->obj.name);
	element_close(el, !element_in_relationship(el));
}

/* ---- elements that specs made at access points ------------------------------------- */

/* Stays, in Error, and nothing goes to its LUN any more. */
static void lose_access_point(struct reload *rl, struct element *el)
{
	char why[sizeof(el->error)];

	accesspoint_explain(el, rl->config, why, sizeof(why));
	if (!strcmp(el->error, why))
		return;
	element_set_error(el, why);
	strbuf_addf(rl->report, "element %s stays, in Error: %s\n", el->obj.name, why);
	element_close(el, !element_in_relationship(el));
}

static void open_anew(struct reload *rl, struct element *el, bool is_same)
{
	struct engine *e = el->engine;
	int r = 0;

	engine_lock(e);
	*el->error = '\0';
	el->outdated = false;
	if (!is_same)
		r = accesspoint_follow(el, rl->config);
	engine_unlock(e);
	if (r >= 0 && !is_same)
		r = element_save(el);
	if (r < 0)
		strbuf_addf(rl->report,
			    "element %s: its new URL cannot be recorded: %s\n",
			    el->obj.name, strerror(-r));
	reopen(el);
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT, el->obj.id,
		     FILE_BIT(ELEMENT_N_FILES) - 1);
	engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT, el->obj.id, 0);
	strbuf_addf(rl->report, "element %s logs in as access point %s is now\n",
		    el->obj.name, el->access_point);
}

static void take_access_point(void *thing, void *opaque)
{
	struct element *el = thing;
	struct reload *rl = opaque;
	const char *why;
	bool is_same;

	if (el->origin != STORE_ORIGIN_SPEC)
		return;
	is_same = accesspoint_is_same(el, rl->config);
	if (!is_same && (!config_find_access_point(rl->config, el->access_point) ||
			 is_busy(el, &why))) {
		lose_access_point(rl, el);
	} else if (is_same && !*el->error && !el->outdated &&
		   same_access_point(rl->before, rl->config, el->access_point)) {
		return;
	} else if (!*el->error && el->status.state != BD_REFUSED && is_busy(el, &why)) {
		el->outdated = true;
		strbuf_addf(
			rl->report,
			"element %s goes on as access point %s was, as %s; the change "
			"is taken over by the next SIGHUP or start after that\n",
			el->obj.name, el->access_point, why);
	} else {
		open_anew(rl, el, is_same);
	}
}

/* They count for what is opened from now on. */
static void tell_access_points(struct reload *rl)
{
	for (size_t i = 0; i < rl->config->n_access_points; i++) {
		const char *name = rl->config->access_points[i].name;

		if (!config_find_access_point(rl->before, name))
			strbuf_addf(rl->report, "[access_point %s] added\n", name);
		else if (!same_access_point(rl->before, rl->config, name))
			strbuf_addf(rl->report, "[access_point %s] has changed\n", name);
	}
	for (size_t i = 0; i < rl->before->n_access_points; i++) {
		const char *name = rl->before->access_points[i].name;

		if (!config_find_access_point(rl->config, name))
			strbuf_addf(rl->report, "[access_point %s] removed\n", name);
	}
}

static void take_pools(struct engine *e, struct reload *rl)
{
	for (size_t i = 0; i < rl->config->n_pools; i++) {
		const struct config_pool *conf = &rl->config->pools[i];
		const struct pool_object *p = object_by_name(e, ENGINE_POOL, conf->name);

		if (!p) {
			if (engine_open_pool(e, conf, rl->report) >= 0)
				strbuf_addf(rl->report, "[pool %s] added\n", conf->name);
		} else if (strcmp(pool_path(p->pool), conf->path)) {
			strbuf_addf(rl->report,
				    "[pool %s] has another path: that needs a restart\n",
				    conf->name);
		}
	}
}

static void run(struct engine *e, struct message *m)
{
	struct reload *rl = (struct reload *)m;
	struct gone gone = { .config = rl->config };

	/* From here on devices are opened with the new access points. */
	rl->before = e->sections;
	e->sections = rl->config;
	tell_access_points(rl);
	take_pools(e, rl);
	for (size_t i = 0; i < rl->config->n_elements; i++)
		take_element(e, rl, &rl->config->elements[i]);
	for (;;) {
		gone.found = NULL;
		index_each(&e->by_id[ENGINE_ELEMENT], find_gone, &gone);
		if (!gone.found)
			break;
		gone.after = gone.found->obj.id;
		retire_element(e, rl, gone.found);
	}
	index_each(&e->by_id[ENGINE_ELEMENT], take_access_point, rl);
	if (rl->before != e->config)
		config_free((struct config *)rl->before);
	sem_post(&rl->done);
}

int engine_reload(struct engine *e, struct config *config, struct strbuf *report)
{
	struct reload rl = { .m.fn = run, .config = config, .report = report };

	if (!e->started || engine_is_stopping(e)) {
		config_free(config);
		return -ENOTCONN;
	}
	sem_init(&rl.done, 0, 0);
	engine_post(e, &rl.m);
	while (sem_wait(&rl.done) < 0)
		;
	sem_destroy(&rl.done);
	return 0;
}
