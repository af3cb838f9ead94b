/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "conf/value.h"

/*
 * An engine that copies nothing and stores nothing, for tests of the FUSE face:
 * tests/fake-lunfs is lunfs with this in place of libengine.
 *
 * Elements are `file:` URLs, read with pread.  A spec (`SourceGroup=… SyncType=…`
 * and WaitForCopyState) makes a relationship that moves only when it is told to,
 * by what the tests write to `control`:
 *
 *	CopyState NAME     the relationship's state
 *	Percent N          PercentSynced
 *	Waiting TEXT       waiting_for
 *	RemoveJob          the newest job, as at the end of its retention
 *	RemoveGroup        the group, as DeleteOnUnassociated does
 *	Content            the data of all images has changed
 *
 * One thread carries out commands.  One lock; events and done functions are
 * called without it, as the contract says.
 */

enum {
	N_BUCKETS = 4096,
	N_STATES = 32,
	MAX_EVENTS = 64,
};

struct object {
	struct object *next; /* in its bucket */
	enum engine_class class;
	uint64_t id, parent;
	char name[NAME_ELEMENT_MAX_LEN + 1];
	unsigned n_handles;
	pid_t handle_pid;

	/* Groups. */
	char *members; /* a line an item */
	char *spec;
	uint64_t entered[N_STATES]; /* sequence at which a CopyState began */

	union {
		struct element_info element;
		struct group_info group;
		struct pair_info pair;
		struct job_info job;
		struct pool_info pool;
	};
};

struct list {
	struct object **objects; /* by id - 1; NULL: gone */
	size_t n, size;
};

struct engine {
	const struct config *config;
	void (*fn)(void *opaque, const struct engine_event *event);
	void *opaque;
	pthread_t thread;
	bool is_running;

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	struct list lists[ENGINE_N_CLASSES];
	struct object *buckets[N_BUCKETS];
	uint64_t sequence;
	struct engine_command *queue, **queue_end;
	struct engine_command *waiting; /* for a CopyState */
	struct engine_io *reads;
	bool is_stopping;
	struct engine_event events[MAX_EVENTS];
	unsigned n_events;
};

struct engine_handle {
	struct engine *engine;
	uint64_t element;
	int fd;
};

/* ---- objects ------------------------------------------------------------------- */

static struct object **bucket_of(struct engine *e, enum engine_class class,
				 uint64_t parent, const char *name)
{
	uint64_t h = class * 31 + parent * 131;

	for (; *name; name++)
		h = h * 33 + (unsigned char)*name;
	return &e->buckets[h % N_BUCKETS];
}

static struct object *find(struct engine *e, enum engine_class class, uint64_t parent,
			   const char *name)
{
	struct object *o = *bucket_of(e, class, parent, name);

	while (o && (o->class != class || o->parent != parent || strcmp(o->name, name)))
		o = o->next;
	return o;
}

static struct object *get(struct engine *e, enum engine_class class, uint64_t id)
{
	struct list *l = &e->lists[class];

	return id && id <= l->n ? l->objects[id - 1] : NULL;
}

static struct engine_event *note(struct engine *e, enum engine_event_kind kind,
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

static void note_files(struct engine *e, const struct object *o, uint64_t files)
{
	note(e, ENGINE_EVENT_CHANGED, o)->files = files;
}

static struct object *add(struct engine *e, enum engine_class class, uint64_t parent,
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
	note(e, ENGINE_EVENT_CREATED, o);
	return o;
}

static void object_free(struct object *o)
{
	if (!o)
		return;
	free(o->members);
	free(o->spec);
	free(o);
}

static void drop(struct engine *e, struct object *o, bool by_command)
{
	struct object **p = bucket_of(e, o->class, o->parent, o->name);

	while (*p != o)
		p = &(*p)->next;
	*p = o->next;
	e->lists[o->class].objects[o->id - 1] = NULL;
	note(e, ENGINE_EVENT_REMOVED, o)->by_command = by_command;
	object_free(o);
}

static struct object *add_element(struct engine *e, const char *name, bool exclusive)
{
	struct object *o = add(e, ENGINE_ELEMENT, 0, name);

	o->element.id = o->id;
	memcpy(o->element.name, o->name, sizeof(o->name));
	o->element.exclusive = exclusive;
	o->element.operational_status = CIM_STATUS_DORMANT;
	o->element.created_ms = timefmt_now_ms();
	o->element.modified_ms = o->element.created_ms;
	return o;
}

/* A login: a regular file has a size. */
static void log_in(struct engine *e, struct object *o, const char *url)
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
	note_files(e, o,
		   UINT64_C(1) << ELEMENT_URL | UINT64_C(1) << ELEMENT_SIZE |
			   UINT64_C(1) << ELEMENT_OPERATIONAL_STATUS |
			   UINT64_C(1) << ELEMENT_ERROR);
}

static struct object *add_group(struct engine *e, const char *name)
{
	struct object *o = add(e, ENGINE_GROUP, 0, name);

	o->group.id = o->id;
	memcpy(o->group.name, o->name, sizeof(o->group.name));
	o->group.persistent = true;
	o->group.copy_state = CIM_COPY_NOT_APPLICABLE;
	o->group.created_ms = timefmt_now_ms();
	o->group.seconds_left = -1;
	return o;
}

/* ---- life ---------------------------------------------------------------------- */

int engine_new(const struct config *config, struct engine **ret_engine, char **ret_error)
{
	struct engine *e = calloc(1, sizeof(*e));
	struct object *o;

	(void)ret_error;
	if (!e)
		return -ENOMEM;
	e->config = config;
	e->queue_end = &e->queue;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	for (size_t i = 0; i < config->n_pools; i++) {
		o = add(e, ENGINE_POOL, 0, config->pools[i].name);
		o->pool = (struct pool_info){ .id = o->id,
					      .path = config->pools[i].path,
					      .total = 1 << 30,
					      .remaining = 1 << 29 };
		memcpy(o->pool.name, o->name, sizeof(o->pool.name));
	}
	for (size_t i = 0; i < config->n_elements; i++) {
		const struct config_element *c = &config->elements[i];

		o = add_element(e, c->name, c->access == CONFIG_ACCESS_EXCLUSIVE);
		o->element.configured = true;
		log_in(e, o, c->url);
	}
	e->n_events = 0;
	*ret_engine = e;
	return 0;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	for (unsigned c = 0; c < ENGINE_N_CLASSES; c++) {
		for (size_t i = 0; i < e->lists[c].n; i++)
			object_free(e->lists[c].objects[i]);
		free(e->lists[c].objects);
	}
	pthread_cond_destroy(&e->changed);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

void engine_subscribe(struct engine *e,
		      void (*fn)(void *opaque, const struct engine_event *event),
		      void *opaque)
{
	e->fn = fn;
	e->opaque = opaque;
}

/* ---- looking ------------------------------------------------------------------- */

uint64_t engine_find(struct engine *e, enum engine_class class, uint64_t parent,
		     const char *name)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	struct object *o = find(e, class, parent, name);

	return o ? o->id : 0;
}

bool engine_exists(struct engine *e, enum engine_class class, uint64_t id)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	return get(e, class, id);
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
		image = find(e, ENGINE_ELEMENT, 0, o->pair.target);
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
		const struct object *o = get(e, class, id);           \
                                                                      \
		if (!o)                                               \
			return -ENOENT;                               \
		*ret = o->field;                                      \
		return 0;                                             \
	}

GETTER(engine_element_info, element_info, ENGINE_ELEMENT, element)
GETTER(engine_group_info, group_info, ENGINE_GROUP, group)
GETTER(engine_pair_info, pair_info, ENGINE_PAIR, pair)
GETTER(engine_job_info, job_info, ENGINE_JOB, job)
GETTER(engine_pool_info, pool_info, ENGINE_POOL, pool)

int engine_list_text(struct engine *e, enum engine_class class, uint64_t id,
		     unsigned file, struct strbuf *b)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct object *o = get(e, class, id);

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

static int check_state(const struct object *o, unsigned state, uint64_t since)
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
	const struct object *o = get(e, ENGINE_GROUP, group);

	return o ? check_state(o, state, since) : -ENODEV;
}

/* ---- commands ------------------------------------------------------------------ */

static void set_state(struct engine *e, struct object *o, unsigned state)
{
	o->group.copy_state = state;
	o->entered[state] = ++e->sequence;
	note_files(e, o, UINT64_C(1) << GROUP_COPY_STATE);
}

static int set_members(struct engine *e, struct object *o, struct engine_command *cmd)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	CLEANUP_FREE char *text = strndup(cmd->text, cmd->len);
	char *save, *name = strtok_r(text, " \t\n", &save);

	if (o->group.has_relationship)
		return outcome_fail(&cmd->outcome, CIM_RETURN_IN_USE, 0,
				    "members: the group is in a relationship");
	if (cmd->append || (name && strchr("+-", *name)))
		strbuf_adds(&b, o->members);
	for (; name; name = strtok_r(NULL, " \t\n", &save)) {
		name += *name == '+';
		if (!find(e, ENGINE_ELEMENT, 0, name))
			return outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER,
					    ENOENT, "members: there is no element \"%s\"",
					    name);
		strbuf_addf(&b, "%s\n", name);
	}
	free(o->members);
	o->members = strbuf_steal(&b);
	note_files(e, o, UINT64_C(1) << GROUP_MEMBERS);
	outcome_ok(&cmd->outcome);
	return 0;
}

static void add_pairs(struct engine *e, struct object *o, const struct object *source)
{
	CLEANUP_FREE char *text = strdup(source->members);
	unsigned n = 0;
	char *save;

	for (char *name = strtok_r(text, "\n", &save); name;
	     name = strtok_r(NULL, "\n", &save)) {
		struct object *image, *pair;
		char number[12], image_name[NAME_ELEMENT_MAX_LEN + 1];

		snprintf(number, sizeof(number), "%u", ++n);
		snprintf(image_name, sizeof(image_name), "%.32s_%u", o->name, n & 0xffff);
		image = add_element(e, image_name, true);
		image->element.is_image = true;
		log_in(e, image, find(e, ENGINE_ELEMENT, 0, name)->element.url);
		pair = add(e, ENGINE_PAIR, o->id, number);
		pair->pair = (struct pair_info){ .id = pair->id,
						 .group = o->id,
						 .n = n,
						 .copy_state = CIM_COPY_UNSYNCHRONIZED };
		snprintf(pair->pair.source, sizeof(pair->pair.source), "%s", name);
		snprintf(pair->pair.target, sizeof(pair->pair.target), "%s", image_name);
	}
}

/* The value of NAME= in a line, into buf; "" if it is not there. */
static const char *value_of(const char *text, const char *name, char *buf, size_t size)
{
	const char *p = strstr(text, name);

	*buf = '\0';
	if (p) {
		p += strlen(name);
		snprintf(buf, size, "%.*s", (int)strcspn(p, " \n"), p);
	}
	return buf;
}

static int make_relationship(struct engine *e, struct object *o,
			     struct engine_command *cmd)
{
	char source_name[64], number[24];
	struct object *source, *job;

	value_of(cmd->text, "SourceGroup=", source_name, sizeof(source_name));
	source = find(e, ENGINE_GROUP, 0, source_name);
	if (!strchr(cmd->text, '\n'))
		return outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
				    "spec: the text does not end with a newline");
	if (o->group.has_relationship)
		return outcome_fail(&cmd->outcome, CIM_RETURN_IN_USE, 0,
				    "spec: the group has a relationship");
	if (!source)
		return outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, ENOENT,
				    "SourceGroup: there is no group \"%s\"", source_name);
	snprintf(number, sizeof(number), "%zu", e->lists[ENGINE_JOB].n + 1);
	job = add(e, ENGINE_JOB, 0, number);
	job->job = (struct job_info){ .id = job->id,
				      .state = CIM_JOB_RUNNING,
				      .start_time = timefmt_now_ms(),
				      .last_state_change = timefmt_now_ms(),
				      .seconds_left = -1 };
	snprintf(job->job.group, sizeof(job->job.group), "%.32s", o->name);
	add_pairs(e, o, source);
	o->group.has_relationship = true;
	o->group.job = job->id;
	o->group.sync_type = CIM_SYNC_CLONE;
	snprintf(o->group.relationship_name, sizeof(o->group.relationship_name), "%.32s",
		 o->name);
	snprintf(o->group.source, sizeof(o->group.source), "../%.32s", source_name);
	free(o->spec);
	o->spec = strndup(cmd->text, cmd->len);
	note_files(e, o, UINT64_C(1) << GROUP_SPEC | UINT64_C(1) << GROUP_SYNC_TYPE);
	set_state(e, o, CIM_COPY_UNSYNCHRONIZED);
	outcome_job_started(&cmd->outcome);
	return 0;
}

/* The state that a spec waits for; 0: none. */
static unsigned awaited(const struct engine_command *cmd)
{
	unsigned state = 0;
	char name[64];

	if (cmd->verb != ENGINE_WRITE || cmd->class != ENGINE_GROUP ||
	    cmd->file != GROUP_SPEC)
		return 0;
	cim_parse(&cim_copy_state,
		  value_of(cmd->text, "WaitForCopyState=", name, sizeof(name)), &state);
	return state;
}

static int set_spec(struct engine *e, struct object *o, struct engine_command *cmd)
{
	if (!cmd->again)
		return make_relationship(e, o, cmd);
	if (strcmp(cmd->text, o->spec))
		return outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
				    "spec: another text than the one that was accepted");
	outcome_job_started(&cmd->outcome);
	return 0;
}

static void content_changed(struct engine *e, const struct object *o)
{
	const struct list *l = &e->lists[ENGINE_PAIR];

	for (size_t i = 0; i < l->n; i++)
		if (l->objects[i] && l->objects[i]->parent == o->id) {
			struct object *image =
				find(e, ENGINE_ELEMENT, 0, l->objects[i]->pair.target);

			note(e, ENGINE_EVENT_CONTENT, image);
		}
}

static int control(struct engine *e, struct object *o, struct engine_command *cmd)
{
	unsigned number;
	char word[128];

	if (sscanf(cmd->text, "CopyState %127[^\n]", word) == 1 &&
	    !cim_parse(&cim_copy_state, word, &number)) {
		set_state(e, o, number);
	} else if (sscanf(cmd->text, "Percent %u", &number) == 1) {
		o->group.percent_synced = number;
		note_files(e, o, UINT64_C(1) << GROUP_PERCENT_SYNCED);
	} else if (sscanf(cmd->text, "Waiting %127[^\n]", word) == 1) {
		snprintf(o->group.waiting_for, sizeof(o->group.waiting_for), "%s", word);
	} else if (!strcmp(cmd->text, "RemoveJob\n")) {
		drop(e, get(e, ENGINE_JOB, o->group.job), false);
		o->group.job = 0;
	} else if (!strcmp(cmd->text, "RemoveGroup\n")) {
		drop(e, o, false);
	} else if (!strcmp(cmd->text, "Content\n")) {
		content_changed(e, o);
	} else {
		return outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
				    "control: there is no such operation");
	}
	outcome_ok(&cmd->outcome);
	return 0;
}

static int set_flag(struct engine *e, struct object *o, struct engine_command *cmd)
{
	CLEANUP_FREE char *text = strndup(cmd->text, cmd->len);
	bool value;

	if (cmd->class == ENGINE_ELEMENT && cmd->file == ELEMENT_URL) {
		text[strcspn(text, "\n")] = '\0';
		log_in(e, o, text);
		outcome_ok(&cmd->outcome);
		return 0;
	}
	text[strcspn(text, "\n")] = '\0';
	if (cmd->class != ENGINE_GROUP || cmd->file != GROUP_PERSISTENT ||
	    value_bool(text, &value))
		return outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
				    "\"%s\": not true or false", text);
	o->group.persistent = value;
	note_files(e, o, UINT64_C(1) << GROUP_PERSISTENT);
	outcome_ok(&cmd->outcome);
	return 0;
}

static void note_result(struct engine *e, enum engine_class class, uint64_t id,
			const struct outcome *outcome, pid_t pid)
{
	struct engine_result result = { *outcome, timefmt_now_ms(), pid };
	struct object *o = get(e, class, id);

	if (o && class == ENGINE_GROUP) {
		o->group.result = result;
		note_files(e, o, UINT64_C(1) << GROUP_RESULT);
	} else if (o && class == ENGINE_ELEMENT) {
		o->element.result = result;
		note_files(e, o, UINT64_C(1) << ELEMENT_RESULT);
	}
}

static void execute(struct engine *e, struct engine_command *cmd)
{
	struct object *o = get(e, cmd->class, cmd->id);

	if (cmd->verb == ENGINE_CREATE) {
		if (find(e, cmd->class, 0, cmd->name)) {
			outcome_fail(&cmd->outcome, CIM_RETURN_IN_USE, EEXIST, "exists");
			return;
		}
		o = cmd->class == ENGINE_GROUP ? add_group(e, cmd->name) :
						 add_element(e, cmd->name, false);
		cmd->new_id = o->id;
		outcome_ok(&cmd->outcome);
		return;
	}
	if (!o) {
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, ENODEV, "gone");
		return;
	}
	if (cmd->verb == ENGINE_REMOVE) {
		if ((cmd->class == ENGINE_GROUP && o->group.has_relationship) ||
		    o->n_handles) {
			outcome_fail(&cmd->outcome, CIM_RETURN_IN_USE, 0, "in use");
			return;
		}
		drop(e, o, true);
		outcome_ok(&cmd->outcome);
		return;
	}
	if (cmd->class == ENGINE_GROUP && cmd->file == GROUP_MEMBERS)
		set_members(e, o, cmd);
	else if (cmd->class == ENGINE_GROUP && cmd->file == GROUP_SPEC)
		set_spec(e, o, cmd);
	else if (cmd->class == ENGINE_GROUP && cmd->file == GROUP_CONTROL)
		control(e, o, cmd);
	else
		set_flag(e, o, cmd);
	note_result(e, cmd->class, cmd->id, &cmd->outcome, cmd->pid);
}

/* Whether a command has to wait on; one that is interrupted does not. */
static bool must_wait(struct engine *e, struct engine_command *cmd)
{
	const struct object *o = get(e, cmd->class, cmd->id);
	unsigned state = awaited(cmd);

	if (!state || cmd->outcome.error || !o || check_state(o, state, e->sequence))
		return false;
	if (e->is_stopping)
		cmd->outcome.error = ENOTCONN;
	else if (cmd->priv)
		cmd->outcome.error = EINTR;
	return !cmd->outcome.error;
}

/* Takes out of the waiting what need not wait. */
static struct engine_command *end_of_wait(struct engine *e)
{
	struct engine_command *ended = NULL, **p = &e->waiting;

	while (*p) {
		struct engine_command *cmd = *p;

		if (must_wait(e, cmd)) {
			p = &cmd->next;
			continue;
		}
		*p = cmd->next;
		cmd->next = ended;
		ended = cmd;
	}
	return ended;
}

static void fire(struct engine *e)
{
	struct engine_event events[MAX_EVENTS];
	unsigned n = e->n_events;

	memcpy(events, e->events, n * sizeof(events[0]));
	e->n_events = 0;
	pthread_mutex_unlock(&e->lock);
	for (unsigned i = 0; e->fn && i < n; i++)
		e->fn(e->opaque, &events[i]);
	pthread_mutex_lock(&e->lock);
}

static void answer(struct engine *e, struct engine_command *list)
{
	pthread_mutex_unlock(&e->lock);
	while (list) {
		struct engine_command *cmd = list;

		list = cmd->next;
		cmd->done(cmd);
	}
	pthread_mutex_lock(&e->lock);
}

static void finish_read(struct engine_io *read)
{
	CLEANUP_FREE char *buf = malloc(read->len);
	ssize_t n;

	if (read->op == ENGINE_IO_SEEK_DATA || read->op == ENGINE_IO_SEEK_HOLE) {
		off_t at = lseek(read->handle->fd, (off_t)read->offset,
				 read->op == ENGINE_IO_SEEK_DATA ? SEEK_DATA : SEEK_HOLE);

		read->result = (uint64_t)at;
		read->done(read, at < 0 ? -errno : 0, NULL, 0);
		return;
	}
	n = pread(read->handle->fd, buf, read->len, (off_t)read->offset);

	read->done(read, n < 0 ? -EIO : 0, buf, n < 0 ? 0 : (size_t)n);
}

static void do_reads(struct engine *e)
{
	struct engine_io *list = e->reads;

	e->reads = NULL;
	pthread_mutex_unlock(&e->lock);
	while (list) {
		struct engine_io *read = list;

		list = read->next;
		finish_read(read);
	}
	pthread_mutex_lock(&e->lock);
}

static void do_command(struct engine *e)
{
	struct engine_command *cmd = e->queue;

	e->queue = cmd->next;
	if (!e->queue)
		e->queue_end = &e->queue;
	cmd->next = NULL;
	execute(e, cmd);
	fire(e);
	if (must_wait(e, cmd)) {
		cmd->next = e->waiting;
		e->waiting = cmd;
	} else {
		answer(e, cmd);
	}
}

static void *engine_main(void *opaque)
{
	struct engine *e = opaque;

	pthread_mutex_lock(&e->lock);
	while (!e->is_stopping || e->queue || e->reads || e->waiting) {
		struct engine_command *ended = end_of_wait(e);

		if (ended)
			answer(e, ended);
		else if (e->queue)
			do_command(e);
		else if (e->reads)
			do_reads(e);
		else
			pthread_cond_wait(&e->changed, &e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

int engine_start(struct engine *e)
{
	int r = pthread_create(&e->thread, NULL, engine_main, e);

	e->is_running = !r;
	return -r;
}

int engine_reload(struct engine *e, struct config *config, struct strbuf *report)
{
	(void)e;
	(void)report;
	config_free(config);
	return 0;
}

void engine_stop(struct engine *e, struct strbuf *still_reserved)
{
	(void)still_reserved;
	pthread_mutex_lock(&e->lock);
	e->is_stopping = true;
	pthread_cond_signal(&e->changed);
	pthread_mutex_unlock(&e->lock);
	if (e->is_running)
		pthread_join(e->thread, NULL);
	e->is_running = false;
}

void engine_submit(struct engine *e, struct engine_command *cmd)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	cmd->next = NULL;
	*e->queue_end = cmd;
	e->queue_end = &cmd->next;
	pthread_cond_signal(&e->changed);
}

void engine_interrupt(struct engine *e, struct engine_command *cmd)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	cmd->priv = cmd;
	pthread_cond_signal(&e->changed);
}

void engine_note_result(struct engine *e, enum engine_class class, uint64_t id,
			const struct outcome *outcome, pid_t pid)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	note_result(e, class, id, outcome, pid);
	fire(e);
}

/* ---- data ---------------------------------------------------------------------- */

int engine_data_open(struct engine *e, uint64_t element, bool write, pid_t pid,
		     struct engine_handle **ret_handle)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	struct object *o = get(e, ENGINE_ELEMENT, element);
	struct engine_handle *h;

	if (!o)
		return -ENOENT;
	if (write)
		return -EROFS;
	h = calloc(1, sizeof(*h));
	h->engine = e;
	h->element = element;
	h->fd = open(strncmp(o->element.url, "file://", 7) ? "/dev/null" :
							     o->element.url + 7,
		     O_RDONLY | O_CLOEXEC);
	o->n_handles++;
	o->handle_pid = pid;
	*ret_handle = h;
	return 0;
}

void engine_data_close(struct engine_handle *h)
{
	struct engine *e = h->engine;
	struct object *o;

	pthread_mutex_lock(&e->lock);
	o = get(e, ENGINE_ELEMENT, h->element);
	if (o)
		o->n_handles--;
	pthread_mutex_unlock(&e->lock);
	close(h->fd);
	free(h);
}

unsigned engine_open_handles(struct engine *e, struct strbuf *b)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct list *l = &e->lists[ENGINE_ELEMENT];
	unsigned lines = 0;

	for (size_t i = 0; i < l->n; i++)
		if (l->objects[i] && l->objects[i]->n_handles) {
			strbuf_addf(b, "%s: %u, pid %d\n", l->objects[i]->name,
				    l->objects[i]->n_handles,
				    (int)l->objects[i]->handle_pid);
			lines++;
		}
	return lines;
}

/* Images are at hand, elements are not: both ways of reading are used. */
ssize_t engine_data_try_read(struct engine_handle *h, void *buf, size_t len,
			     uint64_t offset)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->engine->lock);
	const struct object *o = get(h->engine, ENGINE_ELEMENT, h->element);

	if (!o || !o->element.is_image)
		return -EAGAIN;
	return pread(h->fd, buf, len, (off_t)offset);
}

void engine_data_submit(struct engine_io *read)
{
	struct engine *e = read->handle->engine;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	read->next = e->reads;
	e->reads = read;
	pthread_cond_signal(&e->changed);
}
