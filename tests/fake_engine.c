/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/fake_engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "conf/value.h"

/*
 * An engine that copies nothing and stores nothing, for tests of the FUSE face:
 * tests/fake-lunfs is lunfs with this in place of libengine.
 *
 * Elements are `file:` URLs.  Images are the files of their sources, too: what is
 * written to one has changed the other other than by a write through it.  A spec
 * (`SourceGroup=… SyncType=…` and WaitForCopyState) makes a relationship that moves
 * only when it is told to, by what the tests write to `control` (of any group for
 * those with the NAME of an element):
 *
 *	CopyState NAME     the relationship's state
 *	Percent N          PercentSynced
 *	Waiting TEXT       waiting_for
 *	RemoveJob          the newest job, as at the end of its retention
 *	RemoveGroup        the group, as DeleteOnUnassociated does
 *	Content            the data of all images has changed
 *	Hold NAME          data requests of an element are not answered
 *	Release NAME       now they are
 *
 * One thread carries out commands and data requests.  One lock; events and done functions are
 * called without it, as the contract says.
 */

/* ---- life ---------------------------------------------------------------------- */

int engine_new(const struct config *config, struct engine **ret_engine, char **ret_error)
{
	struct engine *e = calloc(1, sizeof(*e));
	const char *log = getenv("FAKE_ENGINE_LOG");
	struct object *o;

	(void)ret_error;
	if (!e)
		return -ENOMEM;
	e->config = config;
	e->queue_end = &e->queue;
	e->ios_end = &e->ios;
	e->log = log ? fopen(log, "ae") : NULL;
	if (e->log)
		setvbuf(e->log, NULL, _IOLBF, 0);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	for (size_t i = 0; i < config->n_pools; i++) {
		o = fake_add(e, ENGINE_POOL, 0, config->pools[i].name);
		o->pool = (struct pool_info){ .id = o->id,
					      .path = config->pools[i].path,
					      .total = 1 << 30,
					      .remaining = 1 << 29 };
		memcpy(o->pool.name, o->name, sizeof(o->pool.name));
	}
	for (size_t i = 0; i < config->n_elements; i++) {
		const struct config_element *c = &config->elements[i];

		o = fake_add_element(e, c->name, c->access == CONFIG_ACCESS_EXCLUSIVE);
		o->element.configured = true;
		fake_log_in(e, o, c->url);
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
			fake_object_free(e->lists[c].objects[i]);
		free(e->lists[c].objects);
	}
	if (e->log)
		fclose(e->log);
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

/* ---- commands ------------------------------------------------------------------ */

static void set_state(struct engine *e, struct object *o, unsigned state)
{
	o->group.copy_state = state;
	o->entered[state] = ++e->sequence;
	fake_note_files(e, o, UINT64_C(1) << GROUP_COPY_STATE);
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
		if (!fake_find(e, ENGINE_ELEMENT, 0, name))
			return outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER,
					    ENOENT, "members: there is no element \"%s\"",
					    name);
		strbuf_addf(&b, "%s\n", name);
	}
	free(o->members);
	o->members = strbuf_steal(&b);
	fake_note_files(e, o, UINT64_C(1) << GROUP_MEMBERS);
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
		image = fake_add_element(e, image_name, true);
		image->element.is_image = true;
		fake_log_in(e, image, fake_find(e, ENGINE_ELEMENT, 0, name)->element.url);
		pair = fake_add(e, ENGINE_PAIR, o->id, number);
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
	source = fake_find(e, ENGINE_GROUP, 0, source_name);
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
	job = fake_add(e, ENGINE_JOB, 0, number);
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
	fake_note_files(e, o, UINT64_C(1) << GROUP_SPEC | UINT64_C(1) << GROUP_SYNC_TYPE);
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
			struct object *image = fake_find(e, ENGINE_ELEMENT, 0,
							 l->objects[i]->pair.target);

			fake_note(e, ENGINE_EVENT_CONTENT, image);
		}
}

static bool hold_or_release(struct engine *e, const char *text)
{
	struct object *o;
	char word[64];
	bool hold = sscanf(text, "Hold %63s", word) == 1;

	if (!hold && sscanf(text, "Release %63s", word) != 1)
		return false;
	o = fake_find(e, ENGINE_ELEMENT, 0, word);
	if (!o)
		return false;
	o->is_held = hold;
	fake_release(e);
	return true;
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
		fake_note_files(e, o, UINT64_C(1) << GROUP_PERCENT_SYNCED);
	} else if (sscanf(cmd->text, "Waiting %127[^\n]", word) == 1) {
		snprintf(o->group.waiting_for, sizeof(o->group.waiting_for), "%s", word);
	} else if (!strcmp(cmd->text, "RemoveJob\n")) {
		fake_drop(e, fake_get(e, ENGINE_JOB, o->group.job), false);
		o->group.job = 0;
	} else if (!strcmp(cmd->text, "RemoveGroup\n")) {
		fake_drop(e, o, false);
	} else if (!strcmp(cmd->text, "Content\n")) {
		content_changed(e, o);
	} else if (!hold_or_release(e, cmd->text)) {
		return outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
				    "control: there is no such operation");
	}
	outcome_ok(&cmd->outcome);
	return 0;
}

static int set_access(struct engine *e, struct object *o, struct engine_command *cmd)
{
	o->element.exclusive = !strcmp(cmd->text, "exclusive\n");
	fake_note_files(e, o, UINT64_C(1) << ELEMENT_ACCESS);
	fake_note(e, ENGINE_EVENT_CONTENT, o);
	outcome_ok(&cmd->outcome);
	return 0;
}

static int set_flag(struct engine *e, struct object *o, struct engine_command *cmd)
{
	CLEANUP_FREE char *text = strndup(cmd->text, cmd->len);
	bool value;

	if (cmd->class == ENGINE_ELEMENT && cmd->file == ELEMENT_URL) {
		text[strcspn(text, "\n")] = '\0';
		fake_log_in(e, o, text);
		outcome_ok(&cmd->outcome);
		return 0;
	}
	text[strcspn(text, "\n")] = '\0';
	if (cmd->class != ENGINE_GROUP || cmd->file != GROUP_PERSISTENT ||
	    value_bool(text, &value))
		return outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
				    "\"%s\": not true or false", text);
	o->group.persistent = value;
	fake_note_files(e, o, UINT64_C(1) << GROUP_PERSISTENT);
	outcome_ok(&cmd->outcome);
	return 0;
}

static void note_result(struct engine *e, enum engine_class class, uint64_t id,
			const struct outcome *outcome, pid_t pid)
{
	struct engine_result result = { *outcome, timefmt_now_ms(), pid };
	struct object *o = fake_get(e, class, id);

	if (o && class == ENGINE_GROUP) {
		o->group.result = result;
		fake_note_files(e, o, UINT64_C(1) << GROUP_RESULT);
	} else if (o && class == ENGINE_ELEMENT) {
		o->element.result = result;
		fake_note_files(e, o, UINT64_C(1) << ELEMENT_RESULT);
	}
}

static void execute(struct engine *e, struct engine_command *cmd)
{
	struct object *o = fake_get(e, cmd->class, cmd->id);

	if (cmd->verb == ENGINE_CREATE) {
		if (fake_find(e, cmd->class, 0, cmd->name)) {
			outcome_fail(&cmd->outcome, CIM_RETURN_IN_USE, EEXIST, "exists");
			return;
		}
		o = cmd->class == ENGINE_GROUP ? fake_add_group(e, cmd->name) :
						 fake_add_element(e, cmd->name, false);
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
		fake_drop(e, o, true);
		outcome_ok(&cmd->outcome);
		return;
	}
	if (cmd->class == ENGINE_GROUP && cmd->file == GROUP_MEMBERS)
		set_members(e, o, cmd);
	else if (cmd->class == ENGINE_GROUP && cmd->file == GROUP_SPEC)
		set_spec(e, o, cmd);
	else if (cmd->class == ENGINE_GROUP && cmd->file == GROUP_CONTROL)
		control(e, o, cmd);
	else if (cmd->class == ENGINE_ELEMENT && cmd->file == ELEMENT_ACCESS)
		set_access(e, o, cmd);
	else
		set_flag(e, o, cmd);
	note_result(e, cmd->class, cmd->id, &cmd->outcome, cmd->pid);
}

/* Whether a command has to wait on; one that is interrupted does not. */
static bool must_wait(struct engine *e, struct engine_command *cmd)
{
	const struct object *o = fake_get(e, cmd->class, cmd->id);
	unsigned state = awaited(cmd);

	if (!state || cmd->outcome.error || !o || fake_check_state(o, state, e->sequence))
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
	while (!e->is_stopping || e->queue || e->ios || e->waiting) {
		struct engine_command *ended = end_of_wait(e);

		if (ended)
			answer(e, ended);
		else if (e->queue)
			do_command(e);
		else if (e->ios)
			fake_do_io(e);
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

struct loop *const *engine_loops(const struct engine *e, unsigned *ret_n)
{
	(void)e;
	*ret_n = 0;
	return NULL;
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
	fake_release(e);
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
