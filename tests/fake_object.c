/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/fake_engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "conf/timefmt.h"

/* ---- objects ------------------------------------------------------------------- */

static struct object **bucket_of(struct engine *e, enum engine_class class,
				 uint64_t parent, const char *name)
{
	uint64_t h = class * 31 + parent * 131;

	for (; *name; name++)
		h = h * 33 + (unsigned char)*name;
	return &e->buckets[h % N_BUCKETS];
}

struct object *fake_find(struct engine *e, enum engine_class class, uint64_t parent,
			 const char *name)
{
	struct object *o = *bucket_of(e, class, parent, name);

	while (o && (o->class != class || o->parent != parent || strcmp(o->name, name)))
		o = o->next;
	return o;
}

struct object *fake_get(struct engine *e, enum engine_class class, uint64_t id)
{
	struct list *l = &e->lists[class];

	return id && id <= l->n ? l->objects[id - 1] : NULL;
}

struct engine_event *fake_note(struct engine *e, enum engine_event_kind kind,
			       const struct object *o)
{
	static struct engine_event spare;
	struct engine_event *event =
		e->n_events < MAX_EVENTS ? &e->events[e->n_events++] : &spare;

	*event = (struct engine_event){
		.kind = kind,
		.class = o->class,
		.id = o->id,
		.parent = o->parent,
	};
	memcpy(event->name, o->name, sizeof(event->name));
	return event;
}

void fake_note_files(struct engine *e, const struct object *o, uint64_t files)
{
	fake_note(e, ENGINE_EVENT_CHANGED, o)->files = files;
}

struct object *fake_add(struct engine *e, enum engine_class class, uint64_t parent,
			const char *name)
{
	struct list *l = &e->lists[class];
	struct object *o = calloc(1, sizeof(*o));
	struct object **bucket = bucket_of(e, class, parent, name);

	if (l->n == l->size) {
		l->size = l->size ? 2 * l->size : 64;
		l->objects = realloc(l->objects, l->size * sizeof(struct object *));
	}
	l->objects[l->n++] = o;
	o->class = class;
	o->id = l->n;
	o->parent = parent;
	snprintf(o->name, sizeof(o->name), "%s", name);
	o->members = strdup("");
	o->spec = strdup("");
	o->next = *bucket;
	*bucket = o;
	fake_note(e, ENGINE_EVENT_CREATED, o);
	return o;
}

void fake_object_free(struct object *o)
{
	if (!o)
		return;
	free(o->members);
	free(o->spec);
	free(o);
}

void fake_drop(struct engine *e, struct object *o, bool by_command)
{
	struct object **p = bucket_of(e, o->class, o->parent, o->name);

	while (*p != o)
		p = &(*p)->next;
	*p = o->next;
	e->lists[o->class].objects[o->id - 1] = NULL;
	fake_note(e, ENGINE_EVENT_REMOVED, o)->by_command = by_command;
	fake_object_free(o);
}

struct object *fake_add_element(struct engine *e, const char *name, bool exclusive)
{
	struct object *o = fake_add(e, ENGINE_ELEMENT, 0, name);

	o->element.id = o->id;
	memcpy(o->element.name, o->name, sizeof(o->name));
	o->element.exclusive = exclusive;
	o->element.operational_status = CIM_STATUS_DORMANT;
	o->element.created_ms = timefmt_now_ms();
	o->element.modified_ms = o->element.created_ms;
	return o;
}

/* A login: a regular file has a size. */
void fake_log_in(struct engine *e, struct object *o, const char *url)
{
	struct element_info *info = &o->element;
	struct stat st;

	snprintf(info->url, sizeof(info->url), "%s", url);
	if (strncmp(url, "file://", 7) || stat(url + 7, &st)) {
		info->operational_status = CIM_STATUS_ERROR;
		snprintf(info->error, sizeof(info->error), "%s: no such file", o->name);
	} else {
		info->known = true;
		info->size = (uint64_t)st.st_size;
		info->allocated = (uint64_t)st.st_blocks * 512;
		info->block_size = 512;
		info->operational_status = CIM_STATUS_OK;
	}
	fake_note_files(e, o,
			UINT64_C(1) << ELEMENT_URL | UINT64_C(1) << ELEMENT_SIZE |
				UINT64_C(1) << ELEMENT_OPERATIONAL_STATUS |
				UINT64_C(1) << ELEMENT_ERROR);
}

struct object *fake_add_group(struct engine *e, const char *name)
{
	struct object *o = fake_add(e, ENGINE_GROUP, 0, name);

	o->group.id = o->id;
	memcpy(o->group.name, o->name, sizeof(o->group.name));
	o->group.persistent = true;
	o->group.copy_state = CIM_COPY_NOT_APPLICABLE;
	o->group.created_ms = timefmt_now_ms();
	o->group.seconds_left = -1;
	return o;
}

/* ---- looking ------------------------------------------------------------------- */

uint64_t engine_find(struct engine *e, enum engine_class class, uint64_t parent,
		     const char *name)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	struct object *o = fake_find(e, class, parent, name);

	return o ? o->id : 0;
}

bool engine_exists(struct engine *e, enum engine_class class, uint64_t id)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	return fake_get(e, class, id);
}

void engine_list(struct engine *e, enum engine_class class, uint64_t parent,
		 void (*fn)(void *opaque, const char *name, uint64_t id), void *opaque)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct list *l = &e->lists[class];

	for (size_t i = 0; i < l->n; i++)
		if (l->objects[i] && (!parent || l->objects[i]->parent == parent))
			fn(opaque, l->objects[i]->name, l->objects[i]->id);
}

void engine_list_images(struct engine *e, uint64_t group,
			void (*fn)(void *opaque, const char *name, uint64_t element,
				   const char *link_to),
			void *opaque)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct list *l = &e->lists[ENGINE_PAIR];

	for (size_t i = 0; i < l->n; i++) {
		const struct object *o = l->objects[i];
		const struct object *image;

		if (!o || o->parent != group)
			continue;
		image = fake_find(e, ENGINE_ELEMENT, 0, o->pair.target);
		if (!image)
			continue;
		fn(opaque, image->name, image->id, NULL);
		fn(opaque, o->pair.source, image->id, image->name);
	}
}

#define GETTER(function, type, class, field)                          \
	int function(struct engine *e, uint64_t id, struct type *ret) \
	{                                                             \
		ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);             \
		const struct object *o = fake_get(e, class, id);      \
                                                                      \
		if (!o)                                               \
			return -ENOENT;                               \
		*ret = o->field;                                      \
		return 0;                                             \
	}

GETTER(engine_group_info, group_info, ENGINE_GROUP, group)
GETTER(engine_pair_info, pair_info, ENGINE_PAIR, pair)
GETTER(engine_job_info, job_info, ENGINE_JOB, job)
GETTER(engine_pool_info, pool_info, ENGINE_POOL, pool)

int engine_element_info(struct engine *e, uint64_t id, struct element_info *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	struct object *o = fake_get(e, ENGINE_ELEMENT, id);
	struct stat st;

	if (!o)
		return -ENOENT;
	if (o->element.known && !stat(o->element.url + 7, &st))
		o->element.allocated = (uint64_t)st.st_blocks * 512;
	*ret = o->element;
	return 0;
}

int engine_list_text(struct engine *e, enum engine_class class, uint64_t id,
		     unsigned file, struct strbuf *b)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct object *o = fake_get(e, class, id);

	if (!o)
		return -ENOENT;
	if (class == ENGINE_GROUP && file == GROUP_MEMBERS)
		strbuf_adds(b, o->members);
	else if (class == ENGINE_GROUP && file == GROUP_SPEC)
		strbuf_adds(b, o->spec);
	else if (class == ENGINE_GROUP && file == GROUP_CONTROL)
		strbuf_adds(b, o->group.has_relationship ? "Detach\n" : "");
	else if (class == ENGINE_ELEMENT && file == ELEMENT_SESSIONS)
		strbuf_adds(b, "none\n");
	return 0;
}

void engine_capability_text(enum capability_file file, struct strbuf *b)
{
	if (file == CAP_TYPES)
		strbuf_adds(b, "11 Asynchronous Clone Local\n");
}

void engine_space(struct engine *e, uint64_t *ret_total, uint64_t *ret_free)
{
	(void)e;
	*ret_total = 1 << 30;
	*ret_free = 1 << 29;
}

uint64_t engine_sequence(struct engine *e)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	return e->sequence;
}

int fake_check_state(const struct object *o, unsigned state, uint64_t since)
{
	if (o->group.copy_state == state || o->entered[state] > since)
		return 1;
	return o->group.copy_state == CIM_COPY_BROKEN ||
			       o->group.copy_state == CIM_COPY_ABORTED ?
		       -EIO :
		       0;
}

int engine_wait_check(struct engine *e, uint64_t group, unsigned state, uint64_t since)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct object *o = fake_get(e, ENGINE_GROUP, group);

	return o ? fake_check_state(o, state, since) : -ENODEV;
}
