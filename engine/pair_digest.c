/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * pairs/N/digest: the SHA-256 of a target, computed when it is asked for (checksum.h), as a
 * line for sha256sum -c.
 *
 *   begun    the job is durable and running, p->digest set; the write is answered
 *   opened   by a worker: a handle of the target, which no user sees
 *   reading  from a count of the target's changes on
 *   ended    the digest counts if the count is still the same
 *
 * The digests of several pairs are of one job, which ends with the last; where that cannot
 * be recorded, the last one counts as under way until it can be.  Whatever gives
 * the relationship another job, or ends it, stops them first: they let go of the pair at
 * once, and are freed when nothing of them is under way any more.  A restart does not go
 * on with them, and forgets those that were there.
 *
 * A digest is of its content only: it is shown as long as the target had no change since,
 * is of the same instant, and is there at all.
 */

#include "engine/checksum.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/log.h"
#include "conf/strbuf.h"
#include "engine/model.h"
#include "engine/transition.h"
#include "engine/word.h"

struct pair_digest {
	struct message m;
	struct work work;
	struct engine *engine;
	struct pair *pair; /* NULL once it was stopped */
	uint64_t element;
	char name[NAME_ELEMENT_MAX_LEN + 1];
	struct volume *volumes[2]; /* with a reference; or NULL */
	uint64_t size;
	struct engine_handle *handle; /* until the digest has it */
	struct checksum *digest;	      /* with a reference; NULL: not begun */
	uint64_t change_count;	      /* of the target, and its instant: as it began */
	int64_t instant;
	int result; /* of the opening */
};

/* ---- what it says ---------------------------------------------------------------- */

static bool is_there(const struct pair *p)
{
	return TRANSITION_THERE & TRANSITION_IN(p->copy_state);
}

/* The lock is held. */
static bool is_valid(const struct pair *p)
{
	return *p->digest_hex && is_there(p) &&
	       p->digest_instant == p->rel->row.when_activated &&
	       p->digest_change_count == element_change_count(p->target);
}

void pair_describe_digest(const struct pair *p, struct strbuf *b)
{
	if (is_valid(p))
		strbuf_addf(b, "%s  %s\n", p->digest_hex, p->target->obj.name);
}

static void tell(struct engine *e, const struct pair *p)
{
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_PAIR, p->obj.id,
		     FILE_BIT(PAIR_DIGEST));
}

void pair_check_digest(struct engine *e, struct pair *p)
{
	bool gone;

	if (!*p->digest_hex)
		return;
	engine_lock(e);
	gone = !is_valid(p);
	if (gone)
		*p->digest_hex = '\0';
	engine_unlock(e);
	if (gone)
		tell(e, p);
}

void relation_digest_progress(const struct relationship *rel, struct image_progress *ret)
{
	*ret = (struct image_progress){ .bytes_total = rel->digests.bytes_total,
					.bytes_present = rel->digests.bytes_done };
	for (size_t i = 0; i < rel->n_pairs; i++) {
		const struct pair_digest *pd = rel->pairs[i]->digest;
		struct checksum_result res = { 0 };

		if (pd && pd->digest)
			checksum_get_result(pd->digest, &res);
		ret->bytes_present += res.bytes_done;
	}
	ret->bytes_copied = ret->bytes_present;
}

/* ---- the end --------------------------------------------------------------------- */

static void checksum_free(struct pair_digest *pd)
{
	struct engine *e = pd->engine;

	if (pd->handle)
		engine_data_close(pd->handle);
	for (int i = 0; i < 2; i++)
		volume_unref(pd->volumes[i]);
	checksum_unref(pd->digest);
	free(pd);
	engine_work_done(e);
}

/* Lets go of the pair; the lock is held. */
static void let_go_locked(struct pair_digest *pd)
{
	pd->pair->digest = NULL;
	pd->pair = NULL;
}

static void stop(struct engine *e, struct pair *p)
{
	struct pair_digest *pd = p->digest;

	engine_lock(e);
	let_go_locked(pd);
	engine_unlock(e);
	if (pd->digest)
		checksum_cancel(pd->digest);
}

void relation_stop_digests(struct relationship *rel)
{
	struct engine *e;

	if (!rel->digests.n)
		return;
	e = rel->pairs[0]->source->engine;
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->digest)
			stop(e, rel->pairs[i]);
	engine_lock(e);
	rel->digests.n = 0;
	engine_unlock(e);
}

/* One less is under way; with the last one the job ends, whose progress they are until
 * that is recorded: the end of the job stops all. */
static void count_ended(struct engine *e, struct relationship *rel, unsigned job_state,
			unsigned code, const char *reason)
{
	if (rel->digests.n == 1) {
		job_finish(e, rel, job_state, code, reason);
		relation_tell(e, rel, FILE_BIT(GROUP_CONTROL));
		return;
	}
	engine_lock(e);
	rel->digests.n--;
	engine_unlock(e);
}

/* 0: the target is what was read. */
static int judge(const struct pair_digest *pd, struct checksum_result *res)
{
	const struct pair *p = pd->pair;

	memset(res, 0, sizeof(*res));
	if (pd->result < 0)
		snprintf(res->reason, sizeof(res->reason),
			 "%s: its data cannot be opened: %s", pd->name,
			 strerror(-pd->result));
	else
		checksum_get_result(pd->digest, res);
	if (pd->result < 0 || res->error)
		return pd->result < 0 ? pd->result : res->error;
	if (is_there(p) && pd->instant == p->rel->row.when_activated &&
	    pd->change_count == element_change_count(p->target))
		return 0;
	snprintf(res->reason, sizeof(res->reason),
		 "%s was written while its digest was computed; write sha256 to digest "
		 "again when nobody writes it",
		 pd->name);
	return -EBUSY;
}

static void finish(struct engine *e, struct pair_digest *pd)
{
	struct pair *p = pd->pair;
	struct relationship *rel = p->rel;
	struct checksum_result res;
	int error;

	engine_lock(e);
	error = judge(pd, &res);
	if (!error) {
		memcpy(p->digest_hex, res.hex, sizeof(p->digest_hex));
		p->digest_instant = pd->instant;
		p->digest_change_count = pd->change_count;
	} else if (!rel->digests.error) {
		rel->digests.error = error;
		snprintf(rel->digests.reason, sizeof(rel->digests.reason), "%s",
			 res.reason);
	}
	rel->digests.bytes_done += res.bytes_done;
	let_go_locked(pd);
	engine_unlock(e);
	if (!error)
		tell(e, p);
	error = rel->digests.error;
	count_ended(e, rel, error ? CIM_JOB_EXCEPTION : CIM_JOB_COMPLETED,
		    error ? outcome_code_of_errno(-error) : 0, rel->digests.reason);
}

static void take_end(struct engine *e, struct message *m)
{
	struct pair_digest *pd = (struct pair_digest *)m;

	if (pd->pair && !engine_is_stopping(e))
		finish(e, pd);
	else if (pd->pair)
		relation_stop_digests(pd->pair->rel);
	checksum_free(pd);
}

/* By any thread. */
static void ended(void *opaque)
{
	struct pair_digest *pd = opaque;

	pd->m.fn = take_end;
	engine_post(pd->engine, &pd->m);
}

/* ---- the beginning --------------------------------------------------------------- */

static void take_open(struct engine *e, struct message *m)
{
	struct pair_digest *pd = (struct pair_digest *)m;
	struct checksum_params params = {
		.dataops = &e->dataops,
		.handle = pd->handle,
		.name = pd->name,
		.volumes = { pd->volumes[0], pd->volumes[1] },
		.size = pd->size,
		.done = ended,
		.opaque = pd,
	};
	struct checksum *digest;

	if (!pd->pair || pd->result < 0) {
		take_end(e, m);
		return;
	}
	engine_lock(e);
	pd->change_count = element_change_count(pd->pair->target);
	pd->instant = pd->pair->rel->row.when_activated;
	engine_unlock(e);
	pd->handle = NULL;
	pd->result = checksum_start(&params, &digest);
	if (pd->result < 0) {
		pd->handle = params.handle;
		take_end(e, m);
		return;
	}
	engine_lock(e);
	pd->digest = digest;
	engine_unlock(e);
}

/* By a worker. */
static void open_work(struct work *work)
{
	struct pair_digest *pd =
		(struct pair_digest *)((char *)work - offsetof(struct pair_digest, work));

	pd->result = element_open_data(pd->engine, pd->element, &pd->handle);
	pd->m.fn = take_open;
	engine_post(pd->engine, &pd->m);
}

static struct pair_digest *new_digest(struct engine *e, struct pair *p)
{
	const struct element *both[2] = { p->source, p->target };
	struct pair_digest *pd = calloc(1, sizeof(*pd));

	if (!pd)
		return NULL;
	pd->engine = e;
	pd->pair = p;
	pd->element = p->target->obj.id;
	pd->size = p->target->size;
	snprintf(pd->name, sizeof(pd->name), "%s", p->target->obj.name);
	for (int i = 0; i < 2; i++) {
		/* What a Snapshot has not kept is read from the source. */
		bool reads = i == 1 || !p->target->complete;

		pd->volumes[i] = reads ? both[i]->volume : NULL;
		if (pd->volumes[i])
			volume_ref(pd->volumes[i]);
	}
	return pd;
}

/* There is a job of digests, and it goes on. */
static bool is_under_way(const struct relationship *rel)
{
	return rel->digests.n && !rel->job_end.state;
}

/* In the job of those that are under way already, if there are any. */
static int start(struct engine *e, struct pair *p)
{
	struct relationship *rel = p->rel;
	struct pair_digest *pd = new_digest(e, p);
	int r = !pd ? -ENOMEM : is_under_way(rel) ? 0 : job_begin(e, rel, "Digest");

	if (r < 0) {
		for (int i = 0; pd && i < 2; i++)
			volume_unref(pd->volumes[i]);
		free(pd);
		return r;
	}
	engine_lock(e);
	if (!rel->digests.n)
		memset(&rel->digests, 0, sizeof(rel->digests));
	rel->digests.n++;
	rel->digests.bytes_total += pd->size;
	p->digest = pd;
	*p->digest_hex = '\0';
	engine_unlock(e);
	pd->work.fn = open_work;
	engine_start_work(e, &pd->work);
	relation_tell(e, rel, FILE_BIT(GROUP_CONTROL));
	return 0;
}

/* ---- what is written ------------------------------------------------------------- */

/* A job that copies, takes an instant or restores has to end first. */
static const struct job *busy_job(const struct relationship *rel)
{
	const struct job *j = rel->job;

	return j && !job_is_over(j) && !relation_is_read(rel) ? j : NULL;
}

static void write_start(struct engine *e, struct pair *p, struct outcome *o)
{
	const struct job *busy = busy_job(p->rel);
	char states[64];
	int r;

	transition_describe_states(TRANSITION_THERE &
					   transition_states(p->rel->row.sync_type),
				   states, sizeof(states));
	if (busy) {
		outcome_fail(o, CIM_RETURN_IN_USE, 0,
			     "digest: job %s works on \"%s\"; wait for its end",
			     busy->obj.name, p->rel->row.name);
		return;
	}
	if (!is_there(p)) {
		outcome_fail(o, CIM_RETURN_FAILED, 0,
			     "digest: not in CopyState %s; it would do in %s",
			     cim_name(&cim_copy_state, p->copy_state), states);
		return;
	}
	pair_check_digest(e, p);
	if (*p->digest_hex)
		return;
	r = p->digest ? 0 : start(e, p);
	if (r < 0)
		command_store_failed(o, r);
	else
		outcome_job_started(o);
}

void relation_start_digests(struct engine *e, struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct pair *p = rel->pairs[i];
		int r = is_there(p) && !p->digest ? start(e, p) : 0;

		if (r < 0)
			log_error("%s: pair %u: its digest cannot be begun: %s",
				  rel->row.name, p->n, strerror(-r));
	}
}

static void write_drop(struct engine *e, struct pair *p)
{
	bool had = *p->digest_hex, ran = p->digest;

	if (ran)
		stop(e, p);
	engine_lock(e);
	*p->digest_hex = '\0';
	engine_unlock(e);
	if (had)
		tell(e, p);
	if (ran)
		count_ended(e, p->rel, CIM_JOB_TERMINATED, CIM_RETURN_FAILED,
			    "it was taken back: no was written to digest");
}

static void write_digest(struct engine *e, struct pair *p, struct engine_command *cmd)
{
	char text[64];
	bool value;

	if (!word_line(cmd->text, cmd->len, text, sizeof(text)))
		*text = '\0';
	if (cim_same_name(text, "sha256"))
		write_start(e, p, &cmd->outcome);
	else if (word_bool(cmd->text, cmd->len, &value) < 0)
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			     "digest: there is no \"%s\"; write sha256 to have it "
			     "computed, no to drop it",
			     text);
	else if (value)
		write_start(e, p, &cmd->outcome);
	else
		write_drop(e, p);
}

void pair_write(struct engine *e, struct engine_command *cmd)
{
	struct pair *p = object_by_id(e, ENGINE_PAIR, cmd->id);

	if (!p)
		outcome_fail(&cmd->outcome, CIM_RETURN_INVALID_PARAMETER, ENODEV,
			     "the pair is gone");
	else if (cmd->file != PAIR_DIGEST)
		outcome_fail(&cmd->outcome, CIM_RETURN_NOT_SUPPORTED, EPERM,
			     "this file cannot be written");
	else
		write_digest(e, p, cmd);
	command_answer(e, cmd);
}
