/* SPDX-License-Identifier: BSD-2-Clause */

/* What is done to elements by mkdir, rmdir and writes. */

#include "engine/hold.h"
#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"
#include "engine/word.h"

void element_create(struct engine *e, struct engine_command *cmd)
{
	struct store_element row = { .origin = STORE_ORIGIN_USER,
				     .created = timefmt_now_ms() };
	const char *claimer;
	struct element *el;
	int64_t id;
	int r = name_check(cmd->name, NAME_ELEMENT_MAX_LEN);

	if (r < 0) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, -r,
			     "%s: not the name of an element", cmd->name);
		return;
	}
	if (object_by_name(e, ENGINE_ELEMENT, cmd->name)) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, EEXIST,
			     "there is an element \"%s\" already", cmd->name);
		return;
	}
	claimer = replica_claims_name(e, cmd->name);
	if (claimer) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, EEXIST,
			     "\"%s\" is to be an image of the spec of group \"%s\", "
			     "which is being carried out",
			     cmd->name, claimer);
		return;
	}
	strcpy(row.name, cmd->name);
	store_begin(e->store);
	id = store_element_insert(e->store, &row);
	r = store_commit(e->store);
	if (r < 0) {
		command_store_failed(&cmd->outcome, r);
		return;
	}
	row.id = (uint64_t)id;
	el = element_new(e, &row);
	if (!el) {
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, ENOMEM, "out of memory");
		return;
	}
	engine_lock(e);
	object_add(e, &el->obj);
	engine_unlock(e);
	element_open(el);
	cmd->new_id = row.id;
	engine_event_object(e, ENGINE_EVENT_CREATED, &el->obj, 0, true);
}

void element_describe_handles(const struct element *el, char *buf, size_t size)
{
	const struct engine_handle *h = TAILQ_FIRST(&el->handles);
	bool ended = h && kill(h->pid, 0) < 0 && errno == ESRCH;

	snprintf(buf, size, "%u open handle%s on \"%s\", one by pid %d%s", el->n_handles,
		 el->n_handles == 1 ? "" : "s", el->obj.name, h ? (int)h->pid : 0,
		 ended ? ", which has ended (a loop device? see losetup -l)" : "");
}

struct membership {
	const struct element *el;
	const char *group;
};

static void find_group_of(void *thing, void *opaque)
{
	const struct group *g = thing;
	struct membership *m = opaque;

	for (size_t i = 0; i < g->n_members; i++)
		if (g->members[i] == m->el)
			m->group = g->obj.name;
}

static int refuse_member(struct engine *e, const struct element *el, struct outcome *o)
{
	struct membership m = { el, "" };

	index_each(&e->by_id[ENGINE_GROUP], find_group_of, &m);
	return outcome_fail(
		o, CIM_RETURN_IN_USE, 0,
		"element \"%s\" is a member of group \"%s\"; take it out first "
		"(echo -%s > groups/%s/members)",
		el->obj.name, m.group, el->obj.name, m.group);
}

static int check_removable(struct engine *e, struct element *el, struct outcome *o)
{
	char handles[192];
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	if (el->configured)
		return outcome_fail(o, CIM_RETURN_NOT_SUPPORTED, EPERM,
				    "element \"%s\" is defined by the configuration; "
				    "take it out of %s",
				    el->obj.name, e->config->path);
	if (element_in_relationship(el))
		return outcome_fail(o, CIM_RETURN_IN_USE, 0,
				    "element \"%s\" is in a relationship; end that first",
				    el->obj.name);
	if (el->n_members)
		return refuse_member(e, el, o);
	if (el->n_handles) {
		element_describe_handles(el, handles, sizeof(handles));
		return outcome_fail(o, CIM_RETURN_IN_USE, 0, "%s; close it first",
				    handles);
	}
	return 0;
}

struct remove_image {
	struct work work;
	struct pool *pool;
	uint64_t id, generation;
};

static void remove_image_files(struct work *work)
{
	struct remove_image *rm = (struct remove_image *)work;
	int r = pool_remove_image(rm->pool, rm->id, rm->generation);

	if (r >= 0)
		r = pool_sync(rm->pool);
	if (r < 0)
		log_warn("pool %s: cannot delete the files of image %" PRIu64
			 ": %s; they go at the next start",
			 pool_name(rm->pool), rm->id, strerror(-r));
	free(rm);
}

static void drop_handles(struct element *el)
{
	struct engine_handle *h;

	TAILQ_FOREACH(h, &el->handles, link)
		h->element = NULL;
	TAILQ_FOREACH(h, &el->own_handles, link)
		h->element = NULL;
	el->engine->n_handles -= el->n_handles;
	el->n_handles = 0;
	TAILQ_INIT(&el->handles);
	TAILQ_INIT(&el->own_handles);
}

/* Frees an element that is out of the objects, after its device has closed. */
static void retire(struct element *el)
{
	el->removing = true;
	element_close(el, true);
	if (el->bd || el->closing)
		return;
	volume_unref(el->volume);
	element_free(el);
}

void element_drop_image(struct engine *e, struct element *el, bool by_command)
{
	struct remove_image *rm = calloc(1, sizeof(*rm));
	uint64_t pool = el->pool ? el->pool->obj.id : 0;

	engine_lock(e);
	object_remove(e, &el->obj);
	drop_handles(el);
	engine_unlock(e);
	engine_event_object(e, ENGINE_EVENT_REMOVED, &el->obj, 0, by_command);
	if (pool)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_POOL, pool,
			     FILE_BIT(POOL_IMAGES));
	image_unref(el->image);
	if (rm && el->pool) {
		rm->work.fn = remove_image_files;
		rm->pool = el->pool->pool;
		rm->id = el->obj.id;
		rm->generation = el->generation;
		workers_submit(e->workers, &rm->work);
	} else {
		free(rm);
	}
	retire(el);
}

int element_delete(struct engine *e, struct element *el, bool by_command)
{
	int r;

	store_begin(e->store);
	store_element_delete(e->store, el->obj.id);
	r = store_commit(e->store);
	if (r < 0)
		return r;
	hold_forget_element(el);
	/* Those that were leaving; their rows have gone with the element's. */
	points_drop_of(e, el);
	if (el->origin == STORE_ORIGIN_REPLICA) {
		element_drop_image(e, el, by_command);
		return 0;
	}
	engine_lock(e);
	object_remove(e, &el->obj);
	drop_handles(el);
	engine_unlock(e);
	engine_event_object(e, ENGINE_EVENT_REMOVED, &el->obj, 0, by_command);
	retire(el);
	return 0;
}

void element_remove(struct engine *e, struct engine_command *cmd)
{
	struct element *el = object_by_id(e, ENGINE_ELEMENT, cmd->id);
	int r;

	if (!el) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, ENOENT,
			     "the element is gone");
		return;
	}
	if (check_removable(e, el, &cmd->outcome) < 0)
		return;
	r = element_delete(e, el, true);
	if (r < 0)
		command_store_failed(&cmd->outcome, r);
}

static void write_url(struct engine *e, struct element *el, struct engine_command *cmd)
{
	char text[1024], error[320], canonical[4200];
	struct store_element row;
	struct config_url url;
	char *old, *copy;
	int r;

	if (el->configured || el->origin == STORE_ORIGIN_REPLICA || *el->url) {
		outcome_fail(&cmd->outcome, CIM_RETURN_IN_USE, 0,
			     "url: element \"%s\" has one already; it is written once. "
			     "For another LUN make another element",
			     el->obj.name);
		return;
	}
	if (!word_line(cmd->text, cmd->len, text, sizeof(text))) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			     "url: write one line of at most %zu bytes: "
			     "iscsi://portal/iqn/lun or file:///path",
			     sizeof(text) - 1);
		return;
	}
	r = config_parse_url(text, &url, error, sizeof(error));
	if (r >= 0)
		r = config_format_url(&url, canonical, sizeof(canonical));
	if (r >= 0 && url.scheme == CONFIG_URL_FILE)
		r = pool_refuse_own_mount("url", url.path, error, sizeof(error));
	if (r < 0) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0, "%s", error);
		return;
	}
	copy = strdup(canonical);
	if (!copy) {
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, ENOMEM, "out of memory");
		return;
	}
	element_row(el, &row);
	row.url = copy;
	store_begin(e->store);
	store_element_update(e->store, &row);
	r = store_commit(e->store);
	if (r < 0) {
		free(copy);
		command_store_failed(&cmd->outcome, r);
		return;
	}
	old = el->url;
	engine_lock(e);
	el->url = copy;
	engine_unlock(e);
	free(old);
	element_open_device(el);
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT, el->obj.id,
		     FILE_BIT(ELEMENT_URL));
}

static void write_access(struct engine *e, struct element *el, struct engine_command *cmd)
{
	bool was = el->exclusive, exclusive;
	char text[32];
	int r;

	if (!word_line(cmd->text, cmd->len, text, sizeof(text)))
		*text = '\0';
	exclusive = cim_same_name(text, "exclusive");
	if (!exclusive && !cim_same_name(text, "shared")) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			     "access: \"%s\" is neither shared nor exclusive", text);
		return;
	}
	if (exclusive == was)
		return;
	if (el->origin == STORE_ORIGIN_REPLICA || el->configured) {
		outcome_fail(&cmd->outcome, CIM_RETURN_NOT_SUPPORTED, EPERM,
			     el->configured ?
				     "access of \"%s\" is set by the "
				     "configuration; change it there" :
				     "\"%s\" is an image, and exclusive by nature",
			     el->obj.name);
		return;
	}
	if (element_in_relationship(el)) {
		outcome_fail(
			&cmd->outcome, CIM_RETURN_IN_USE, 0,
			"access: element \"%s\" is in a relationship; end that first",
			el->obj.name);
		return;
	}
	engine_lock(e);
	el->exclusive = exclusive;
	if (!el->pr_key)
		el->pr_key = element_new_key();
	engine_unlock(e);
	r = element_save(el);
	if (r < 0) {
		engine_lock(e);
		el->exclusive = was;
		engine_unlock(e);
		command_store_failed(&cmd->outcome, r);
		return;
	}
	if (el->bd) {
		el->reopen = true;
		element_close(el, true);
	}
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT, el->obj.id,
		     FILE_BIT(ELEMENT_ACCESS) | FILE_BIT(ELEMENT_OPERATIONAL_STATUS));
	engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT, el->obj.id, 0);
}

void element_write(struct engine *e, struct engine_command *cmd)
{
	struct element *el = object_by_id(e, ENGINE_ELEMENT, cmd->id);

	if (!el)
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, ENODEV,
			     "the element is gone");
	else if (cmd->file == ELEMENT_URL)
		write_url(e, el, cmd);
	else
		write_access(e, el, cmd);
	command_answer(e, cmd);
}
