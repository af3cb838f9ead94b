/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * What becomes of the pairs of a relationship: what their images tell, from whatever
 * thread, is taken by the engine's, by its order: a copy that is complete, the first write
 * of a user, a fault.  A message of what a pair was before (its epoch) is dropped.
 *
 * A fault of one member breaks them all, unless breaks_alone().
 */

#include "engine/hold.h"
#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/setting.h"
#include "conf/timefmt.h"

enum pair_news { PAIR_COMPLETE, PAIR_BROKEN, PAIR_WRITTEN };

struct pair_message {
	struct message m;
	uint64_t pair;
	unsigned epoch;
	enum pair_news news;
	int error;
	char reason[IMAGE_REASON_MAX];
};

/* ---- complete, written ----------------------------------------------------------- */

struct finish_files {
	struct work work;
	struct pool *pool;
	uint64_t id, generation;
	unsigned uid, gid;
};

/* The map is needed no more, nor the digests that were the base of the copy, and the raw
 * file may be read by its owner. */
static void finish_files(struct work *work)
{
	struct finish_files *f = (struct finish_files *)work;
	int r = pool_publish_image(f->pool, f->id, f->uid, f->gid);

	if (r >= 0)
		r = pool_remove_map(f->pool, f->id, f->generation);
	if (r >= 0)
		r = pool_remove_digest(f->pool, f->id, f->generation - 1);
	if (r < 0)
		log_warn("pool %s: image %" PRIu64 " cannot be published: %s",
			 pool_name(f->pool), f->id, strerror(-r));
	free(f);
}

static void publish(struct engine *e, struct pair *p)
{
	struct element *target = p->target;
	struct finish_files *f;

	if (element_is_lun(target)) {
		pair_remove_map(p);
		return;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return;
	f->work.fn = finish_files;
	f->pool = target->pool->pool;
	f->id = target->obj.id;
	f->generation = target->generation;
	f->uid = e->config->daemon.user;
	f->gid = e->config->daemon.group;
	workers_submit(e->workers, &f->work);
}

/* A complete image needs no open files until somebody opens it; the pair keeps
 * the count of what was copied. */
static void close_image(struct engine *e, struct pair *p)
{
	struct element *target = p->target;
	struct image *image = NULL;

	engine_lock(e);
	/* The last handle closes it, or has. */
	if (target->image)
		target->allocated = image_allocated(target->image);
	if (!element_needs_image(target) && !element_is_lun(target)) {
		element_count_changes(target);
		image = move_ptr(target->image);
	}
	engine_unlock(e);
	image_unref(image);
}

/* No Consistency and OnGroupOrListError Continue: a pair that breaks breaks no other. */
static bool breaks_alone(const struct relationship *rel)
{
	return rel->row.consistency != CIM_CONSISTENCY_SEQUENTIAL &&
	       relation_setting(rel, "OnGroupOrListError") == SETTING_ON_ERROR_CONTINUE;
}

/* Whether there is nothing to copy but for p. */
static bool others_are_done(const struct pair *p)
{
	for (size_t i = 0; i < p->rel->n_pairs; i++) {
		const struct pair *other = p->rel->pairs[i];

		if (other != p && !other->target->complete &&
		    other->copy_state != CIM_COPY_BROKEN)
			return false;
	}
	return true;
}

/* The first member that has broken; NULL: none has. */
static const struct pair *broken_pair(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->copy_state == CIM_COPY_BROKEN)
			return rel->pairs[i];
	return NULL;
}

/* The end of the copy of a relationship of which members may have broken. */
static void draft_last(struct draft *d, char *text, size_t size)
{
	const struct pair *broken = broken_pair(d->rel);

	if (!broken && d->row.sync_type == CIM_SYNC_CLONE)
		d->row.when_synchronized = timefmt_now_ms();
	/* The job is that of what takes a new instant. */
	if (d->rel->op)
		return;
	if (!broken) {
		d->job_state = CIM_JOB_COMPLETED;
		return;
	}
	snprintf(text, size, "member %s broke: %.500s", broken->source->obj.name,
		 broken->error);
	d->job_state = CIM_JOB_EXCEPTION;
	d->job_error_code = CIM_RETURN_FAILED;
	d->job_error = text;
}

/* Of a pair of a Snapshot whose copy is not suspended any more. */
static unsigned there_state(const struct pair *p)
{
	return p->written ? CIM_COPY_SKEWED : CIM_COPY_SYNCHRONIZED;
}

static int commit_completed(struct engine *e, struct pair *p, bool last)
{
	struct relationship *rel = p->rel;
	char text[640];
	struct draft d;
	int r = draft_begin(&d, rel);

	if (r < 0)
		return r;
	if (rel->row.sync_type == CIM_SYNC_CLONE) {
		d.pairs[p->n - 1].copy_state = CIM_COPY_SYNCHRONIZED;
		d.pairs[p->n - 1].progress_status = CIM_PROGRESS_COMPLETED;
	}
	if (rel->row.sync_type == CIM_SYNC_SNAPSHOT &&
	    p->copy_state == CIM_COPY_SUSPENDED)
		d.pairs[p->n - 1].copy_state = there_state(p);
	d.pairs[p->n - 1].complete = true;
	d.pairs[p->n - 1].point = NULL;
	if (last)
		draft_last(&d, text, sizeof(text));
	return draft_commit(e, &d);
}

void pair_show_written(struct engine *e, struct pair *p)
{
	struct draft d;

	if (!p->written || p->copy_state != CIM_COPY_SYNCHRONIZED ||
	    draft_begin(&d, p->rel) < 0)
		return;
	d.pairs[p->n - 1].copy_state = CIM_COPY_SKEWED;
	if (draft_commit(e, &d) < 0)
		log_error("%s: pair %u: cannot record Skewed", p->rel->row.name, p->n);
}

/* A complete image needs its source no more, but is watched while it is open. */
static void drop_source(struct pair *p)
{
	image_drop_source(p->target->image);
	p->watched = false;
	pair_drop_direct(p);
}

static void pair_completed(struct engine *e, struct pair *p)
{
	struct relationship *rel = p->rel;
	bool last = others_are_done(p);
	int r;

	if (!pair_reads_point(p) || !hold_may_complete(e, p))
		return;
	drop_source(p);
	engine_lock(e);
	rel->last_progress_ms = timefmt_now_ms();
	engine_unlock(e);
	r = commit_completed(e, p, last);
	if (r < 0) {
		relation_break(e, p, r, "the state store cannot be written");
		return;
	}
	publish(e, p);
	close_image(e, p);
	pair_show_written(e, p);
	if (last && rel->row.detaching)
		relation_end(e, rel, false, 0);
	else if (last && rel->row.digest && !rel->op)
		relation_start_digests(e, rel);
}

void relation_complete(struct engine *e, struct pair *p)
{
	pair_completed(e, p);
}

static void set_written(struct pair *p, struct image *image)
{
	(void)p;
	image_set_written(image);
}

void pair_written(struct engine *e, struct pair *p)
{
	struct draft d;
	int r = p->written ? 0 : draft_begin(&d, p->rel);

	if (r >= 0 && !p->written) {
		d.pairs[p->n - 1].written = true;
		if (p->copy_state == CIM_COPY_SYNCHRONIZED)
			d.pairs[p->n - 1].copy_state = CIM_COPY_SKEWED;
		r = draft_commit(e, &d);
	}
	/* The next tick tries again; the write waits. */
	p->written_wanted = r < 0;
	if (r >= 0)
		pair_with_image(p, set_written);
}

static void take_news(struct engine *e, struct message *m)
{
	struct pair_message *msg = (struct pair_message *)m;
	struct pair *p = object_by_id(e, ENGINE_PAIR, msg->pair);

	if (p && p->epoch != msg->epoch)
		p = NULL;
	if (p && msg->news == PAIR_COMPLETE)
		pair_completed(e, p);
	else if (p && msg->news == PAIR_WRITTEN)
		pair_written(e, p);
	else if (p)
		relation_break(e, p, msg->error, msg->reason);
	free(msg);
}

static void post_news(struct pair *p, enum pair_news news, int error, const char *reason)
{
	struct pair_message *msg = calloc(1, sizeof(*msg));

	if (!msg)
		return;
	msg->m.fn = take_news;
	msg->pair = p->obj.id;
	msg->epoch = p->epoch;
	msg->news = news;
	msg->error = error;
	snprintf(msg->reason, sizeof(msg->reason), "%s", reason);
	engine_post(p->source->engine, &msg->m);
}

static void image_completed(void *opaque)
{
	post_news(opaque, PAIR_COMPLETE, 0, "");
}

static void image_broke(void *opaque, int error, const char *reason)
{
	post_news(opaque, PAIR_BROKEN, error, reason);
}

static void image_written(void *opaque)
{
	post_news(opaque, PAIR_WRITTEN, 0, "");
}

struct image_watcher pair_watcher(struct pair *p)
{
	return (struct image_watcher){ .complete = image_completed,
				       .broken = image_broke,
				       .written = image_written,
				       .opaque = p };
}

/* ---- what fails ------------------------------------------------------------------ */

/* p: the member whose fault it is, or NULL.  alone: the others go on. */
static int record_broken(struct engine *e, struct relationship *rel, const struct pair *p,
			 bool alone, int error, const char *reason)
{
	/* Of a Snapshot nothing is copied any more: its Detach ends. */
	bool snapshot = rel->row.sync_type == CIM_SYNC_SNAPSHOT;
	bool goes_on = alone && !snapshot && !others_are_done(p);
	char others[128] = "";
	struct draft d;
	int r = draft_begin(&d, rel);

	if (r < 0)
		return r;
	if (p)
		snprintf(others, sizeof(others), "member %s broke", p->source->obj.name);
	for (size_t i = 0; i < rel->n_pairs; i++) {
		/* Resume is of a Detach only. */
		if (snapshot && d.pairs[i].copy_state == CIM_COPY_SUSPENDED)
			d.pairs[i].copy_state = there_state(rel->pairs[i]);
		if (d.pairs[i].copy_state == CIM_COPY_BROKEN ||
		    (alone && rel->pairs[i] != p))
			continue;
		d.pairs[i].copy_state = CIM_COPY_BROKEN;
		d.pairs[i].when_synced = 0;
		/* A restore goes on, and reads it. */
		if (!d.pairs[i].restore_sequence) {
			d.pairs[i].progress_status = CIM_PROGRESS_NOT_APPLICABLE;
			d.pairs[i].point = NULL;
		}
		d.pairs[i].error = !p || rel->pairs[i] == p ? reason : others;
	}
	d.row.when_synced = 0;
	d.row.detaching = false;
	/* The job of one that takes a new instant goes on, and that of a restore. */
	if (!rel->op && !relation_is_restoring(rel) && !goes_on)
		d.job_state = CIM_JOB_EXCEPTION;
	d.job_error_code = outcome_code_of_errno(-error);
	d.job_error = reason;
	return draft_commit(e, &d);
}

static void break_relation(struct engine *e, struct relationship *rel,
			   const struct pair *p, int error, const char *reason)
{
	bool alone = p && breaks_alone(rel);
	int r;

	for (size_t i = 0; i < rel->n_pairs; i++)
		if (!alone || rel->pairs[i] == p)
			pair_detach(rel->pairs[i]);
	r = record_broken(e, rel, p, alone, error, reason);
	if (r == -ENOSPC) {
		/* This must be written (invariant I5). */
		store_use_reserve(e->store);
		r = record_broken(e, rel, p, alone, error, reason);
	}
	/* A Detach ends with it. */
	if (alone)
		relation_set_copiers(rel);
	if (r < 0)
		log_error("%s: cannot record that it broke: %s", rel->row.name,
			  strerror(-r));
}

void relation_break(struct engine *e, struct pair *p, int error, const char *reason)
{
	if (p->copy_state == CIM_COPY_BROKEN ||
	    (p->copy_state == CIM_COPY_ABORTED && !pair_reads_point(p)))
		return;
	log_error("%s: pair %u (%s) broke: %s", p->rel->row.name, p->n,
		  p->source->obj.name, reason);
	break_relation(e, p->rel, p, error, reason);
}

void relation_break_all(struct engine *e, struct relationship *rel, int error,
			const char *reason)
{
	log_error("%s broke: %s", rel->row.name, reason);
	break_relation(e, rel, NULL, error, reason);
}

void relation_element_changed(struct engine *e, struct element *el)
{
	char reason[BD_ERROR_MAX];
	struct pair *p;

	if (el->status.state != BD_REFUSED)
		return;
	snprintf(reason, sizeof(reason), "%s", el->status.error);
	TAILQ_FOREACH(p, &el->source_of, link)
		if (pair_reads_point(p))
			relation_break(e, p, -EIO, reason);
	if (el->target_of && pair_reads_point(el->target_of))
		relation_break(e, el->target_of, -EIO, reason);
}
