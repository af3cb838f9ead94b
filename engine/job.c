/* SPDX-License-Identifier: BSD-2-Clause */

/* Jobs (CIM_ConcreteJob): requests of state changes, and their end. */

#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"
#include "conf/value.h"
#include "engine/transition.h"
#include "engine/word.h"

struct job *job_new(const struct store_job *row)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->obj.class = ENGINE_JOB;
	j->obj.id = row->id;
	snprintf(j->obj.name, sizeof(j->obj.name), "%" PRIu64, row->id);
	j->title = strdup(row->name ? row->name : "");
	j->error_description =
		strdup(row->error_description ? row->error_description : "");
	j->group_id = row->group_id;
	j->state = row->state;
	j->error_code = row->error_code;
	j->start_time = row->start_time;
	j->last_state_change = row->last_state_change;
	j->elapsed_ms = row->elapsed_ms;
	j->delete_on_completion = row->delete_on_completion;
	j->time_before_removal_ms = row->time_before_removal_ms;
	j->bytes_total = row->bytes_total;
	j->bytes_copied = row->bytes_copied;
	j->bytes_skipped = row->bytes_skipped;
	if (j->title && j->error_description)
		return j;
	job_free(j);
	return NULL;
}

void job_free(void *job)
{
	struct job *j = job;

	free(j->title);
	free(j->error_description);
	free(j);
}

void job_row(const struct job *j, struct store_job *row)
{
	*row = (struct store_job){
		.id = j->obj.id,
		.name = j->title,
		.group_id = j->group_id,
		.state = j->state,
		.error_code = j->error_code,
		.error_description = j->error_description,
		.start_time = j->start_time,
		.elapsed_ms = j->elapsed_ms,
		.last_state_change = j->last_state_change,
		.delete_on_completion = j->delete_on_completion,
		.time_before_removal_ms = j->time_before_removal_ms,
		.bytes_total = j->bytes_total,
		.bytes_copied = j->bytes_copied,
		.bytes_skipped = j->bytes_skipped,
	};
}

void job_apply(struct job *j, const struct store_job *row)
{
	char *text = strdup(row->error_description);

	j->state = row->state;
	j->last_state_change = row->last_state_change;
	j->elapsed_ms = row->elapsed_ms;
	j->error_code = row->error_code;
	j->bytes_total = row->bytes_total;
	j->bytes_copied = row->bytes_copied;
	j->bytes_skipped = row->bytes_skipped;
	if (text) {
		free(j->error_description);
		j->error_description = text;
	}
}

bool job_state_is_end(unsigned job_state)
{
	return job_state >= CIM_JOB_COMPLETED && job_state <= CIM_JOB_EXCEPTION;
}

bool job_is_over(const struct job *j)
{
	return job_state_is_end(j->state);
}

bool job_is_of(const struct job *j, const char *method)
{
	size_t len = strlen(method);

	return !strncmp(j->title, method, len) && j->title[len] == ' ';
}

/* CIM_ConcreteJob.TimeBeforeRemoval: what a client can count on after the end, also
 * with DeleteOnCompletion. */
enum { DELETED_AFTER_MS = 5 * 60 * 1000 };

int64_t job_time_before_removal(const struct engine *e, const struct job *j)
{
	int64_t ms = (int64_t)e->config->daemon.job_retention_s * 1000;

	if (j->time_before_removal_ms >= 0)
		return j->time_before_removal_ms;
	return j->delete_on_completion && ms > DELETED_AFTER_MS ? DELETED_AFTER_MS : ms;
}

void job_end_row(const struct relationship *rel, unsigned job_state, unsigned error_code,
		 const char *error, struct store_job *row)
{
	bool has_ended = rel->job_end.state;
	struct image_progress progress;

	relation_job_progress(rel, &progress);
	job_row(rel->job, row);
	row->state = has_ended ? rel->job_end.state : job_state;
	row->error_code = has_ended ? rel->job_end.error_code : error_code;
	row->error_description = has_ended ? rel->job_end.error : error;
	row->last_state_change = timefmt_now_ms();
	row->elapsed_ms = row->last_state_change - row->start_time;
	row->bytes_total = progress.bytes_total;
	row->bytes_copied = progress.bytes_copied;
	row->bytes_skipped = progress.bytes_skipped;
}

/* The row of the job that another one takes the place of. */
static void superseded_row(const struct relationship *rel, struct store_job *row)
{
	job_end_row(rel, CIM_JOB_TERMINATED, CIM_RETURN_FAILED,
		    "another operation on its group took its place", row);
}

int job_insert(struct engine *e, struct relationship *rel, const char *method,
	       struct store_relationship *row, struct job **ret_job,
	       struct store_job *ret_old)
{
	struct store_job job;
	char title[96];
	int64_t id;

	if (rel->job && !job_is_over(rel->job)) {
		superseded_row(rel, ret_old);
		store_job_update(e->store, ret_old);
	}
	job_describe_new(method, rel->row.name, title, sizeof(title), &job);
	job.group_id = rel->group->obj.id;
	id = store_job_insert(e->store, &job);
	if (id <= 0)
		return id < 0 ? (int)id : -EIO;
	job.id = row->job_id = (uint64_t)id;
	*ret_job = job_new(&job);
	return *ret_job ? 0 : -ENOMEM;
}

void job_link(struct engine *e, struct relationship *rel, struct job *j,
	      const struct store_job *old)
{
	if (rel->job && !job_is_over(rel->job))
		job_apply(rel->job, old);
	if (rel->job)
		rel->job->rel = NULL;
	rel->row.job_id = j->obj.id;
	rel->job = j;
	j->rel = rel;
	object_add(e, &j->obj);
}

int job_begin(struct engine *e, struct relationship *rel, const char *method)
{
	struct draft d;
	int r = draft_begin(&d, rel);

	if (r < 0)
		return r;
	d.new_job = method;
	return draft_commit(e, &d);
}

void job_describe_new(const char *method, const char *relationship, char *title,
		      size_t size, struct store_job *row)
{
	int64_t now = timefmt_now_ms();

	snprintf(title, size, "%s %s", method, relationship);
	*row = (struct store_job){
		.name = title,
		.state = CIM_JOB_RUNNING,
		.error_description = "",
		.start_time = now,
		.last_state_change = now,
		.time_before_removal_ms = -1,
	};
}

void job_drop(struct engine *e, struct job *j)
{
	struct store_relationship row;
	int r;

	store_begin(e->store);
	if (j->rel) {
		row = j->rel->row;
		row.job_id = 0;
		store_relationship_update(e->store, &row);
	}
	store_job_delete(e->store, j->obj.id);
	r = store_commit(e->store);
	if (r < 0)
		return; /* the next tick tries again */
	engine_lock(e);
	object_remove(e, &j->obj);
	if (j->rel) {
		j->rel->row.job_id = 0;
		j->rel->job = NULL;
	}
	engine_unlock(e);
	engine_event_object(e, ENGINE_EVENT_REMOVED, &j->obj, 0, false);
	job_free(j);
}

/* ---- an end that has to be recorded -------------------------------------------- */

void job_finish_again(struct engine *e, struct relationship *rel)
{
	struct draft d;
	int r;

	if (!rel->job_end.state)
		return;
	if (!rel->job || job_is_over(rel->job)) {
		rel->job_end.state = 0;
		return;
	}
	r = draft_begin(&d, rel);
	if (r >= 0) {
		d.job_state = rel->job_end.state;
		d.job_error_code = rel->job_end.error_code;
		d.job_error = rel->job_end.error;
		r = draft_commit(e, &d);
	}
	if (r < 0)
		log_error("%s: cannot record the end of job %s: %s; it is tried again",
			  rel->row.name, rel->job->obj.name, strerror(-r));
}

void job_finish(struct engine *e, struct relationship *rel, unsigned job_state,
		unsigned error_code, const char *error)
{
	rel->job_end.state = job_state;
	rel->job_end.error_code = error_code;
	snprintf(rel->job_end.error, sizeof(rel->job_end.error), "%s", error);
	job_finish_again(e, rel);
}

/* ---- retention ---------------------------------------------------------------- */

struct overdue {
	struct engine *e;
	int64_t now_ms;
	struct job *job;
};

static void find_overdue(void *thing, void *opaque)
{
	struct job *j = thing;
	struct overdue *o = opaque;

	if (job_is_over(j) && !o->job &&
	    o->now_ms >= j->last_state_change + job_time_before_removal(o->e, j))
		o->job = j;
}

void job_tick(struct engine *e, int64_t now_ms)
{
	/* A few each second: each costs a sync. */
	for (int i = 0; i < 16; i++) {
		struct overdue o = { e, now_ms, NULL };

		index_each(&e->by_id[ENGINE_JOB], find_overdue, &o);
		if (!o.job)
			return;
		job_drop(e, o.job);
	}
}

/* ---- RequestStateChange ---------------------------------------------------------- */

static int suspend(struct engine *e, struct job *j)
{
	return relation_suspend(e, j->rel);
}

static int start(struct engine *e, struct job *j)
{
	return relation_resume(e, j->rel);
}

/* What only reads leaves all states but the job's as they are. */
static int end_reading(struct engine *e, struct job *j, unsigned job_state,
		       const char *why)
{
	struct draft d;
	int r = draft_begin(&d, j->rel);

	if (r < 0)
		return r;
	d.job_state = job_state;
	d.job_error_code = CIM_RETURN_FAILED;
	d.job_error = why;
	return draft_commit(e, &d);
}

static int end(struct engine *e, struct job *j, unsigned job_state, const char *why)
{
	return relation_is_read(j->rel) ? end_reading(e, j, job_state, why) :
					  relation_abort(e, j->rel, job_state, why);
}

static int terminate(struct engine *e, struct job *j)
{
	return end(e, j, CIM_JOB_TERMINATED,
		   "Terminate was written to control of this job");
}

static int kill_job(struct engine *e, struct job *j)
{
	return end(e, j, CIM_JOB_KILLED, "Kill was written to control of this job");
}

/* Of a job that copies; transition.c says from which JobState. */
static int (*const requests[])(struct engine *e, struct job *j) = {
	[CIM_JOB_REQUEST_START] = start,
	[CIM_JOB_REQUEST_SUSPEND] = suspend,
	[CIM_JOB_REQUEST_TERMINATE] = terminate,
	[CIM_JOB_REQUEST_KILL] = kill_job,
};

static int invalid_transition(const struct job *j, unsigned requested, struct outcome *o)
{
	const struct transition_job *t;
	char states[64] = "";
	size_t len = 0;

	for (size_t i = 0; (t = transition_job_row(i)) && len < sizeof(states); i++)
		if (t->request == requested)
			len += (size_t)snprintf(states + len, sizeof(states) - len,
						"%s%s", len ? ", " : "",
						cim_name(&cim_job_state, t->from));
	return outcome_fail(o, CIM_RETURN_INVALID_STATE_TRANSITION, 0,
			    "%s: not from JobState %s; it would do from %s",
			    cim_name(&cim_job_request, requested),
			    cim_name(&cim_job_state, j->state), states);
}

/* A job that runs, but does not copy into images. */
static int check_work(const struct job *j, unsigned requested, struct outcome *o)
{
	const char *name = cim_name(&cim_job_request, requested);

	if (j->rel->op)
		return outcome_fail(o, CIM_RETURN_BUSY, 0,
				    "%s: an instant is being taken; try again when it "
				    "is there",
				    name);
	if (relation_is_restoring(j->rel))
		return outcome_fail(o, CIM_RETURN_BUSY, 0,
				    "%s: half a restore would leave neither the old "
				    "content nor the restored one; it ends by itself",
				    name);
	if (relation_is_read(j->rel) && requested == CIM_JOB_REQUEST_SUSPEND)
		return outcome_fail(o, CIM_RETURN_NOT_SUPPORTED, 0,
				    "Suspend: a %s cannot stand still; Terminate it, and "
				    "begin it again later",
				    j->rel->verify ? "Verify" : "digest");
	if (!relation_is_read(j->rel) && !relation_is_copying(j->rel))
		return outcome_fail(o, CIM_RETURN_NOT_SUPPORTED, 0,
				    "%s: \"%s\" does not copy, and ends by itself", name,
				    j->title);
	return 0;
}

static void request(struct engine *e, struct job *j, unsigned requested,
		    struct outcome *o)
{
	const struct transition_job *t;
	int r;

	for (size_t i = 0; (t = transition_job_row(i)); i++) {
		if (t->request != requested || t->from != j->state || !j->rel)
			continue;
		if (check_work(j, requested, o) < 0)
			return;
		r = requests[requested](e, j);
		if (r < 0)
			command_store_failed(o, r);
		return;
	}
	invalid_transition(j, requested, o);
}

/* TimeoutPeriod, the second word of a text: cut off.  Whether it asks for a limit. */
static bool take_timeout(char *text, bool *ret_is_time)
{
	char *word = strpbrk(text, " \t");
	uint64_t ms = 0;
	bool interval;

	*ret_is_time = true;
	if (!word)
		return false;
	*word++ = '\0';
	word += strspn(word, " \t");
	/* A CIM interval, or a duration. */
	interval = strlen(word) == 25 && !strcmp(word + 21, ":000") &&
		   strspn(word, "0123456789.") == 21;
	*ret_is_time = interval || !value_duration(word, &ms);
	return interval ? strpbrk(word, "123456789") != NULL : ms > 0;
}

static void write_control(struct engine *e, struct job *j, struct engine_command *cmd)
{
	struct outcome *o = &cmd->outcome;
	unsigned requested;
	char text[64], all[64];
	bool limit, is_time;

	if (!word_line(cmd->text, cmd->len, text, sizeof(text)))
		*text = '\0';
	strcpy(all, text);
	limit = take_timeout(text, &is_time);
	if (cim_parse(&cim_job_request, text, &requested) < 0 ||
	    !*cim_name(&cim_job_request, requested) || !is_time)
		outcome_fail(o, CIM_RETURN_INVALID_PARAMETER, 0,
			     "control: \"%s\" is no state that can be requested; write "
			     "Start, Suspend, Terminate or Kill",
			     all);
	else if (limit)
		outcome_fail(o, CIM_RETURN_TIMEOUT_PARAMETER_NOT_SUPPORTED, 0,
			     "control: %s is carried out at once, and has no time limit; "
			     "write it without one",
			     cim_name(&cim_job_request, requested));
	else if (requested == CIM_JOB_REQUEST_SERVICE)
		outcome_fail(o, CIM_RETURN_NOT_SUPPORTED, 0,
			     "Service is not supported; write Start, Suspend, Terminate "
			     "or Kill");
	else
		request(e, j, requested, o);
}

static void write_delete(struct engine *e, struct job *j, struct engine_command *cmd)
{
	struct store_job row;
	bool value;
	int r;

	if (word_bool(cmd->text, cmd->len, &value) < 0) {
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			     "DeleteOnCompletion is a boolean; write true or false");
		return;
	}
	job_row(j, &row);
	if (!object_by_id(e, ENGINE_GROUP, j->group_id))
		row.group_id = 0; /* as the store has it since the group is gone */
	row.delete_on_completion = value;
	store_begin(e->store);
	store_job_update(e->store, &row);
	r = store_commit(e->store);
	if (r < 0) {
		command_store_failed(&cmd->outcome, r);
		return;
	}
	engine_lock(e);
	j->delete_on_completion = value;
	engine_unlock(e);
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_JOB, j->obj.id,
		     FILE_BIT(JOB_DELETE_ON_COMPLETION) |
			     FILE_BIT(JOB_TIME_BEFORE_REMOVAL));
}

void job_write(struct engine *e, struct engine_command *cmd)
{
	struct job *j = object_by_id(e, ENGINE_JOB, cmd->id);

	if (!j)
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, ENODEV,
			     "the job is gone");
	else if (cmd->file == JOB_CONTROL)
		write_control(e, j, cmd);
	else
		write_delete(e, j, cmd);
	command_answer(e, cmd);
}
