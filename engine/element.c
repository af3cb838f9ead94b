/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Elements: their devices, their identity, and what is written to their files.
 *
 * News of a device come in two steps.  On its own thread: the volume is kicked
 * (waiting requests go on at once), and a message is posted, one at a time an
 * element.  On the engine's thread: what the device says is copied into the
 * element, made durable where it is identity, and told.
 *
 * Identity (invariant I6).  The first login of an element records size, serial
 * number and WWN; each later login must bring the same, or the device is
 * refused.  Only where nothing depends on it (no group has it as a member, no
 * relationship, no open handle) is another identity taken as the new one.
 */

#include "engine/hold.h"
#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"

struct element_message {
	struct message m;
	struct element *element;
};

static char *copy_text(const char *text)
{
	return strdup(text ? text : "");
}

struct element *element_new(struct engine *e, const struct store_element *row)
{
	struct element *el = calloc(1, sizeof(*el));

	if (!el)
		return NULL;
	el->obj.class = ENGINE_ELEMENT;
	el->obj.id = row->id;
	strcpy(el->obj.name, row->name);
	el->engine = e;
	el->origin = row->origin;
	el->url = copy_text(row->url);
	el->access_point = copy_text(row->access_point);
	el->exclusive = row->exclusive;
	el->pr_key = row->pr_key;
	el->io_timeout_ms = e->config->daemon.io_timeout_ms;
	el->created_ms = row->created;
	el->modified_ms = row->modified;
	el->size = row->size;
	el->block_size = row->block_size;
	snprintf(el->serial, sizeof(el->serial), "%s", row->serial ? row->serial : "");
	snprintf(el->wwn, sizeof(el->wwn), "%s", row->wwn ? row->wwn : "");
	el->generation = row->generation;
	el->complete = row->complete;
	el->reserved = row->reserved;
	el->read_only = row->read_only;
	if (row->pool && *row->pool)
		el->pool = object_by_name(e, ENGINE_POOL, row->pool);
	TAILQ_INIT(&el->handles);
	TAILQ_INIT(&el->own_handles);
	TAILQ_INIT(&el->source_of);
	TAILQ_INIT(&el->points);
	if (!el->url || !el->access_point) {
		element_free(el);
		return NULL;
	}
	return el;
}

void element_free(void *element)
{
	struct element *el = element;

	free(el->url);
	free(el->access_point);
	free(el);
}

void element_row(const struct element *el, struct store_element *row)
{
	*row = (struct store_element){
		.id = el->obj.id,
		.origin = el->origin,
		.url = el->url,
		.access_point = el->access_point,
		.exclusive = el->exclusive,
		.pr_key = el->pr_key,
		.size = el->size,
		.block_size = el->block_size,
		.serial = el->serial,
		.wwn = el->wwn,
		.pool = el->pool ? el->pool->obj.name : "",
		.generation = el->generation,
		.complete = el->complete,
		.reserved = el->reserved,
		.read_only = el->read_only,
		.created = el->created_ms,
		.modified = el->modified_ms,
	};
	memcpy(row->name, el->obj.name, sizeof(row->name));
}

int element_save(struct element *el)
{
	struct engine *e = el->engine;
	struct store_element row;

	element_row(el, &row);
	store_begin(e->store);
	store_element_update(e->store, &row);
	return store_commit(e->store);
}

uint64_t element_new_key(void)
{
	uint64_t key = 0;

	while (!key)
		if (getrandom(&key, sizeof(key), 0) != sizeof(key))
			key = 0;
	return key;
}

bool element_in_relationship(const struct element *el)
{
	return el->n_source || el->target_of;
}

/* ---- identity -------------------------------------------------------------- */

static bool same_identity(const struct element *el, const struct bd_info *info)
{
	return el->size == info->size && !strcmp(el->serial, info->serial) &&
	       !strcmp(el->wwn, info->wwn);
}

static void describe_change(const struct element *el, const struct bd_info *info,
			    char *error, size_t size)
{
	if (el->size != info->size)
		snprintf(error, size,
			 "its size is %" PRIu64 " bytes and was %" PRIu64
			 ": another LUN, or resized; nothing is read or written",
			 info->size, el->size);
	else if (strcmp(el->serial, info->serial))
		snprintf(error, size,
			 "its serial number is \"%.60s\" and was \"%.60s\": another "
			 "LUN; nothing is read or written",
			 info->serial, el->serial);
	else
		snprintf(error, size,
			 "its WWN is \"%.80s\" and was \"%.80s\": another LUN; "
			 "nothing is read or written",
			 info->wwn, el->wwn);
}

/* On the device's thread, before it is ready. */
static int identify(void *opaque, const struct bd_info *info, char *error, size_t size)
{
	struct element *el = opaque;
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&el->engine->lock);

	if (*el->error) {
		snprintf(error, size, "%s", el->error);
		return -EPERM;
	}
	if (!el->size || same_identity(el, info))
		return 0;
	/* An image was recorded with its size only. */
	if (el->origin == STORE_ORIGIN_REPLICA && el->size == info->size)
		return 0;
	if (!el->n_members && !element_in_relationship(el) && !el->n_handles)
		return 0;
	describe_change(el, info, error, size);
	return -ESTALE;
}

/* ---- news of the device ------------------------------------------------------ */

/* The files that a difference between two looks at a device touches. */
static uint64_t changed_files(const struct element *el, const struct bd_info *info,
			      const struct bd_status *status)
{
	uint64_t files = 0;

	if (el->status.state != status->state || strcmp(el->status.error, status->error))
		files |= FILE_BIT(ELEMENT_OPERATIONAL_STATUS) | FILE_BIT(ELEMENT_ERROR);
	if (el->status.reserved != status->reserved)
		files |= FILE_BIT(ELEMENT_ACCESS);
	if (info && (!el->have_info || memcmp(&el->info, info, sizeof(*info))))
		files |= FILE_BIT(ELEMENT_SIZE) | FILE_BIT(ELEMENT_BLOCK_SIZE) |
			 FILE_BIT(ELEMENT_VENDOR) | FILE_BIT(ELEMENT_PRODUCT) |
			 FILE_BIT(ELEMENT_REVISION) | FILE_BIT(ELEMENT_SERIAL) |
			 FILE_BIT(ELEMENT_WWN) | FILE_BIT(ELEMENT_THIN);
	return files;
}

/* Records the identity, durably; lock not held. */
static void record_identity(struct element *el, const struct bd_info *info)
{
	int r;

	if (same_identity(el, info) && el->block_size == info->block_size)
		return;
	engine_lock(el->engine);
	el->size = info->size;
	el->block_size = info->block_size;
	memcpy(el->serial, info->serial, sizeof(el->serial));
	memcpy(el->wwn, info->wwn, sizeof(el->wwn));
	engine_unlock(el->engine);
	r = element_save(el);
	if (r < 0)
		log_error("%s: cannot record its identity: %s", el->obj.name,
			  strerror(-r));
}

static void take_news(struct engine *e, struct message *m)
{
	struct element *el = ((struct element_message *)m)->element;
	struct bd_status status;
	struct bd_info info;
	bool known, new_size, login, repaired;
	uint64_t files;

	free(m);
	__atomic_store_n(&el->status_queued, false, __ATOMIC_RELEASE);
	if (!el->bd)
		return;
	memset(&info, 0, sizeof(info));
	known = bd_get_info(el->bd, &info);
	bd_get_status(el->bd, &status);
	files = changed_files(el, known ? &info : NULL, &status);
	new_size = known && (!el->have_info || el->info.size != info.size);
	if (known && status.state == BD_READY && el->origin != STORE_ORIGIN_REPLICA)
		record_identity(el, &info);
	login = status.state == BD_READY && el->status.state != BD_READY;
	repaired = el->status.logins && status.logins > el->status.logins;
	engine_lock(e);
	el->status = status;
	if (known) {
		el->info = info;
		el->have_info = true;
	}
	engine_unlock(e);
	if (files)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT, el->obj.id, files);
	if (new_size)
		engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT, el->obj.id, 0);
	relation_element_changed(e, el);
	if (repaired)
		relation_link_repaired(e, el);
	holds_take_news(e, el);
	if (login)
		mapped_count(el);
	/* Last: an element of an access point goes with its call. */
	replica_run_calls(e);
}

/* On the device's thread. */
static void changed(void *opaque)
{
	struct element *el = opaque;
	struct element_message *m;

	volume_kick(el->volume);
	if (__atomic_exchange_n(&el->status_queued, true, __ATOMIC_ACQ_REL))
		return;
	m = calloc(1, sizeof(*m));
	if (!m) {
		__atomic_store_n(&el->status_queued, false, __ATOMIC_RELEASE);
		return;
	}
	m->m.fn = take_news;
	m->element = el;
	engine_post(el->engine, &m->m);
}

/* ---- opening and closing ------------------------------------------------------ */

static uint64_t isid_seed(const struct element *el)
{
	/* FNV-1a over the store's id, then the element's. */
	uint64_t h = UINT64_C(14695981039346656037);

	for (const char *c = store_id(el->engine->store); *c; c++)
		h = (h ^ (unsigned char)*c) * UINT64_C(1099511628211);
	for (int i = 0; i < 64; i += 8)
		h = (h ^ ((el->obj.id >> i) & 255)) * UINT64_C(1099511628211);
	return h;
}

void element_set_error(struct element *el, const char *text)
{
	engine_lock(el->engine);
	snprintf(el->error, sizeof(el->error), "%s", text);
	engine_unlock(el->engine);
	engine_event(el->engine, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT, el->obj.id,
		     FILE_BIT(ELEMENT_OPERATIONAL_STATUS) | FILE_BIT(ELEMENT_ERROR));
}

/* Opens the device of a URL; a failure stands in the element's error. */
static int open_url(struct element *el, const char *text)
{
	struct engine *e = el->engine;
	struct config_url url;
	char error[BD_ERROR_MAX];
	struct blockdev *bd;
	struct bd_params params = {
		.name = el->obj.name,
		.url = &url,
		.initiator_name = e->config->daemon.initiator_name,
		.isid_seed = isid_seed(el),
		.pr_key = el->exclusive ? el->pr_key : 0,
		.read_only = !el->exclusive && el->origin != STORE_ORIGIN_REPLICA,
		.reserved = el->reserved,
		.loops = e->loops,
		.n_loops = e->n_loops,
		.workers = e->workers,
		.watcher = { identify, changed, el },
	};
	int r = config_parse_url(text, &url, error, sizeof(error));

	if (r >= 0 && url.scheme == CONFIG_URL_FILE)
		r = pool_refuse_own_mount(el->obj.name, url.path, error, sizeof(error));
	if (*el->access_point)
		params.access_point =
			config_find_access_point(e->sections, el->access_point);
	if (r >= 0)
		r = bd_open(&params, &bd, error, sizeof(error));
	if (r < 0) {
		element_set_error(el, error);
		return r;
	}
	engine_lock(e);
	el->bd = bd;
	engine_unlock(e);
	volume_attach(el->volume, bd);
	/* The device may have become ready before it had a place. */
	changed(el);
	return 0;
}

int element_open_device(struct element *el)
{
	return *el->url && !*el->error ? open_url(el, el->url) : 0;
}

/* Those of its chunks are kept for the next ResyncReplica. */
static bool has_digests(const struct element *el)
{
	return el->target_of && el->target_of->rel->row.sync_type == CIM_SYNC_CLONE;
}

void element_image_params(const struct element *el, struct image_params *ret)
{
	*ret = (struct image_params){
		.id = el->obj.id,
		.size = el->size,
		.generation = el->generation,
		.complete = el->complete,
		.clean = el->generation == 1,
		.reserved = el->reserved,
		.written = el->target_of && el->target_of->written,
		.digests = has_digests(el),
	};
}

/* Its last instant was given up, and none has taken its place. */
static bool is_empty(const struct element *el)
{
	return el->target_of && el->target_of->copy_state == CIM_COPY_INACTIVE &&
	       el->target_of->rel->row.when_activated;
}

void element_empty_image(struct element *el)
{
	struct engine *e = el->engine;
	struct image *image;
	int r;

	engine_lock(e);
	image = move_ptr(el->image);
	element_switch_handles(el);
	el->modified_ms = timefmt_now_ms();
	el->unsaved = true;
	engine_unlock(e);
	if (image)
		image_retire(image, true);
	image_unref(image);
	/* What has come to a LUN stays there. */
	r = el->pool ?
		    pool_empty_image(el->pool->pool, el->obj.id, el->size, el->reserved) :
		    0;
	if (r < 0)
		log_warn(
			"%s: what was written to it cannot be given back to the pool: %s",
			el->obj.name, strerror(-r));
	el->allocated = 0;
	engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT, el->obj.id, 0);
}

int element_check_file(struct element *el)
{
	char file[64], error[320];

	if (!el->complete || el->origin != STORE_ORIGIN_REPLICA || !el->pool ||
	    !pool_has_lost_image(el->pool->pool, el->obj.id))
		return 0;
	pool_image_file(el->obj.id, file, sizeof(file));
	snprintf(error, sizeof(error),
		 "pool %s: the file of the image, %s, is gone; put it back and start "
		 "LunFS anew, or give the image up",
		 el->pool->obj.name, file);
	element_set_error(el, error);
	return -ENOENT;
}

static int open_image(struct element *el)
{
	struct image_params params;
	struct image *image;
	char error[320];
	int r;

	if (!el->pool) {
		element_set_error(el, "its pool is no longer configured");
		return -ENOENT;
	}
	if (el->complete)
		return element_check_file(el); /* opened with the first handle */
	if (is_empty(el))
		return 0; /* opened with its next instant */
	element_image_params(el, &params);
	r = image_open(&el->engine->dataops, el->pool->pool, &params, &image);
	if (r < 0) {
		snprintf(error, sizeof(error),
			 "pool %s: the files of the image cannot be used: %s",
			 el->pool->obj.name, strerror(-r));
		element_set_error(el, error);
		return r;
	}
	engine_lock(el->engine);
	el->image = image;
	engine_unlock(el->engine);
	if (el->generation > 1)
		image_trim(image);
	return 0;
}

int element_make_volume(struct element *el)
{
	struct volume *volume;
	int r;

	if (el->volume)
		return 0;
	r = volume_new(&el->engine->dataops, &volume);
	if (r < 0)
		return r;
	volume_set_write_through(volume, el->write_through);
	engine_lock(el->engine);
	el->volume = volume;
	engine_unlock(el->engine);
	return 0;
}

int element_open(struct element *el)
{
	int r;

	if (el->origin == STORE_ORIGIN_REPLICA)
		return open_image(el);
	r = element_make_volume(el);
	return r < 0 ? r : element_open_device(el);
}

int element_open_as_source(struct element *el)
{
	char file[64], url[4400];
	struct image *image;
	int r;

	if (el->origin != STORE_ORIGIN_REPLICA || el->bd || *el->error)
		return *el->error ? -EIO : 0;
	pool_image_file(el->obj.id, file, sizeof(file));
	snprintf(url, sizeof(url), "file://%s/%s", pool_path(el->pool->pool), file);
	r = element_make_volume(el);
	if (r >= 0)
		r = open_url(el, url);
	/* What is open keeps its image, whose requests go through the volume. */
	if (r < 0)
		return r;
	engine_lock(el->engine);
	image = el->image;
	if (image)
		image_ref(image);
	engine_unlock(el->engine);
	if (image)
		image_redirect(image, el->volume);
	image_unref(image);
	return r;
}

/* ---- times ----------------------------------------------------------------------- */

int64_t element_modified_ms(const struct element *el)
{
	uint64_t by_volume = el->volume ? volume_changed_ms(el->volume) : 0;
	uint64_t by_image = el->image ? image_changed_ms(el->image) : 0;
	uint64_t last = by_volume > by_image ? by_volume : by_image;

	return (int64_t)last > el->modified_ms ? (int64_t)last : el->modified_ms;
}

uint64_t element_change_count(const struct element *el)
{
	return el->change_count + (el->image ? image_change_count(el->image) : 0);
}

void element_count_changes(struct element *el)
{
	el->change_count = element_change_count(el);
}

void element_note_changed(struct element *el)
{
	int64_t last = element_modified_ms(el);

	if (last == el->modified_ms)
		return;
	el->modified_ms = last;
	el->unsaved = true;
}

static void note_unsaved(void *thing, void *opaque)
{
	struct element *el = thing, **unsaved = opaque;

	element_note_changed(el);
	if (!el->unsaved)
		return;
	el->next_unsaved = *unsaved;
	*unsaved = el;
}

void elements_save_changed(struct engine *e)
{
	struct element *unsaved = NULL, *el;
	int r;

	engine_lock(e);
	index_each(&e->by_id[ENGINE_ELEMENT], note_unsaved, &unsaved);
	engine_unlock(e);
	if (!unsaved)
		return;
	store_begin(e->store);
	for (el = unsaved; el; el = el->next_unsaved) {
		struct store_element row;

		element_row(el, &row);
		store_element_update(e->store, &row);
	}
	r = store_commit(e->store);
	for (el = unsaved; el && r >= 0; el = el->next_unsaved)
		el->unsaved = false;
}

static void take_closed(struct engine *e, struct message *m)
{
	struct element *el = ((struct element_message *)m)->element;

	free(m);
	el->closing = false;
	if (el->removing) {
		volume_unref(el->volume);
		element_free(el);
	} else if (el->reopen && !engine_is_stopping(e)) {
		el->reopen = false;
		element_open_device(el);
	}
	__atomic_sub_fetch(&e->n_closing, 1, __ATOMIC_ACQ_REL);
}

/* The device is closed; by a thread of it. */
static void closed(void *opaque)
{
	struct element_message *m = opaque;

	engine_post(m->element->engine, &m->m);
}

void element_close(struct element *el, bool release)
{
	struct element_message *m;
	struct blockdev *bd;

	if (!el->bd)
		return;
	m = calloc(1, sizeof(*m));
	if (!m)
		return;
	m->m.fn = take_closed;
	m->element = el;
	bd = volume_detach(el->volume);
	engine_lock(el->engine);
	el->bd = NULL;
	el->status = (struct bd_status){ .state = BD_DORMANT };
	engine_unlock(el->engine);
	el->closing = true;
	__atomic_add_fetch(&el->engine->n_closing, 1, __ATOMIC_ACQ_REL);
	bd_close(bd, release, closed, m);
}

const char *element_device_error(const struct element *el)
{
	size_t len = strlen(el->obj.name);
	const char *error = el->status.error;

	if (!strncmp(error, el->obj.name, len) && !strncmp(error + len, ": ", 2))
		return error + len + 2;
	return error;
}

bool element_is_ready(const struct element *el, char *why, size_t size)
{
	if (*el->error)
		snprintf(why, size, "%s: %s", el->obj.name, el->error);
	else if (!*el->url && el->origin != STORE_ORIGIN_REPLICA)
		snprintf(why, size, "%s has no url; write it to elements/%s/url",
			 el->obj.name, el->obj.name);
	else if (el->status.state == BD_READY && el->have_info)
		return true;
	else if (*el->status.error)
		snprintf(why, size, "%s: %s", el->obj.name, element_device_error(el));
	else
		snprintf(why, size, "%s: no login yet", el->obj.name);
	return false;
}
