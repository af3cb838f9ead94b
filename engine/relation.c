/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Relationships (CIM_GroupSynchronized) and their pairs
 * (CIM_StorageSynchronized): what connects a source, an image and a state.
 *
 * What holds in each CopyState of a pair of a Clone:
 *
 *   Initialized, Inactive, Prepared  no instant; the image has no source, its
 *                    reads are EIO
 *   Unsynchronized   the image has its point as source and the copier runs
 *   Suspended        the image has its point, the copier stands still
 *   Synchronized     the image is complete and durable; no point
 *   Skewed           the same, and its users have written to it
 *   Broken, Aborted  no point; what has come stays
 *
 * and of a Snapshot: the image has its point in Synchronized and Skewed, in which the
 * copier runs while the relationship is detaching, in Suspended, which stops it, and in
 * Aborted, the end of a Detach that was not wanted after all; unless it is complete.
 *
 * transition.c has the table of who may go where.
 */

#include "engine/hold.h"
#include "engine/instant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/setting.h"
#include "conf/strbuf.h"
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

struct relationship *relation_new(const struct store_relationship *row)
{
	struct relationship *rel = calloc(1, sizeof(*rel));

	if (!rel)
		return NULL;
	rel->row = *row;
	rel->row.spec = strdup(row->spec ? row->spec : "");
	rel->row.pool = strdup(row->pool ? row->pool : "");
	rel->row.setting = strdup(row->setting ? row->setting : "");
	rel->row.quiesce_command =
		strdup(row->quiesce_command ? row->quiesce_command : "");
	rel->row.thaw_command = strdup(row->thaw_command ? row->thaw_command : "");
	snprintf(rel->thaw_error, sizeof(rel->thaw_error), "%s",
		 row->thaw_error ? row->thaw_error : "");
	rel->row.thaw_error = rel->thaw_error;
	if (!rel->row.spec || !rel->row.pool || !rel->row.setting ||
	    !rel->row.quiesce_command || !rel->row.thaw_command) {
		relation_free(rel);
		return NULL;
	}
	return rel;
}

void relation_free(struct relationship *rel)
{
	if (!rel)
		return;
	for (size_t i = 0; i < rel->n_pairs; i++)
		pair_free(rel->pairs[i]);
	free(rel->pairs);
	priority_group_unref(rel->priority);
	free((char *)rel->row.spec);
	free((char *)rel->row.pool);
	free((char *)rel->row.setting);
	free((char *)rel->row.quiesce_command);
	free((char *)rel->row.thaw_command);
	free(rel);
}

unsigned relation_setting(const struct relationship *rel, const char *property)
{
	return setting_value(rel->row.setting, property, rel->row.sync_type);
}

void relation_describe_consistency(struct relationship *rel)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	if (rel->row.shared_method) {
		hold_describe(rel, &b);
		snprintf(rel->consistency_method, sizeof(rel->consistency_method), "%s",
			 b.s);
		return;
	}
	if (rel->row.consistency_state == CIM_CONSISTENCY_STATE_INCONSISTENT)
		strbuf_adds(&b, "none: a member is shared; what others write to it while "
				"it is copied is in the copy or not");
	else if (rel->row.consistency == CIM_CONSISTENCY_SEQUENTIAL)
		strbuf_adds(&b, "exclusive: no other initiator writes to the members");
	else if (instant_is_one(rel->row.consistency, rel->row.setting))
		strbuf_adds(&b, "none asked for, but one instant for all members");
	else
		strbuf_adds(&b, "none asked for: each member is of its own instant");
	if (rel->row.when_synced) {
		strbuf_adds(&b, "\ninstant: ");
		timefmt_add(&b, rel->row.when_synced);
	}
	snprintf(rel->consistency_method, sizeof(rel->consistency_method), "%s", b.s);
}

struct pair *pair_new(const struct store_pair *row)
{
	struct pair *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->obj.class = ENGINE_PAIR;
	p->obj.id = row->id;
	snprintf(p->obj.name, sizeof(p->obj.name), "%u", row->n);
	p->n = row->n;
	p->copy_state = row->copy_state;
	p->progress_status = row->progress_status;
	p->when_synced = row->when_synced;
	p->written = row->written;
	p->restore_sequence = row->restore_sequence;
	p->bytes_copied = row->bytes_copied;
	p->bytes_skipped = row->bytes_skipped;
	p->written = row->written;
	snprintf(p->error, sizeof(p->error), "%s", row->error ? row->error : "");
	return p;
}

void pair_free(struct pair *p)
{
	free(p->verified);
	free(p);
}

/* The image of a complete target is opened and closed with its handles, by their
 * threads. */
static void with_image(struct pair *p, void (*fn)(struct pair *p, struct image *image))
{
	struct engine *e = p->source->engine;
	struct image *image;

	engine_lock(e);
	image = p->target->image;
	if (image)
		image_ref(image);
	engine_unlock(e);
	if (image)
		fn(p, image);
	image_unref(image);
}

/* ---- news of images ----------------------------------------------------------- */

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
	/* The job is that of what takes a new instant, or would have. */
	if (d->rel->op || d->rel->job_end.state)
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

/* Others of the relationship may read it, too. */
static void drop_direct(struct pair *p)
{
	const struct relationship *rel = p->rel;
	struct point *point = move_ptr(p->direct);
	bool shared = false;

	if (!point)
		return;
	for (size_t i = 0; i < rel->n_pairs; i++)
		shared = shared || rel->pairs[i]->direct == point;
	if (!shared)
		point_remove(point);
	point_unref(point);
}

/* A complete image needs its source no more, but is watched while it is open. */
static void drop_source(struct pair *p)
{
	image_drop_source(p->target->image);
	p->watched = false;
	drop_direct(p);
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
		with_image(p, set_written);
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

/* What came after the last state change, before the process that did it ended, was
 * not counted in the row, but the map knows of it, and the digests how much of that was
 * there already. */
static void count_what_came(struct pair *p)
{
	struct image_progress progress;
	uint64_t counted, came, skipped;

	if (p->rel->row.sync_type == CIM_SYNC_SNAPSHOT)
		return;
	pair_progress(p, &progress);
	counted = progress.bytes_copied + progress.bytes_skipped;
	if (progress.bytes_present <= counted)
		return;
	came = progress.bytes_present - counted;
	skipped = image_all_skipped(p->target->image);
	skipped = skipped > progress.bytes_skipped ? skipped - progress.bytes_skipped : 0;
	skipped = skipped < came ? skipped : came;
	engine_lock(p->source->engine);
	p->bytes_copied += came - skipped;
	p->bytes_skipped += skipped;
	engine_unlock(p->source->engine);
}

bool pair_state_reads_point(unsigned sync_type, unsigned copy_state)
{
	if (copy_state == CIM_COPY_SUSPENDED)
		return true;
	if (sync_type == CIM_SYNC_SNAPSHOT)
		return copy_state == CIM_COPY_SYNCHRONIZED ||
		       copy_state == CIM_COPY_SKEWED || copy_state == CIM_COPY_ABORTED;
	return copy_state == CIM_COPY_UNSYNCHRONIZED;
}

bool pair_reads_point(const struct pair *p)
{
	return !p->target->complete &&
	       pair_state_reads_point(p->rel->row.sync_type, p->copy_state);
}

bool pair_is_copying(const struct pair *p)
{
	if (p->target->complete || p->copy_state == CIM_COPY_SUSPENDED)
		return false;
	return p->rel->row.sync_type == CIM_SYNC_SNAPSHOT ?
		       p->rel->row.detaching :
		       p->copy_state == CIM_COPY_UNSYNCHRONIZED;
}

/* Of a source that others write unseen: as it is; one for all its targets. */
static struct point *direct_point(struct pair *p)
{
	const struct point_params params = { .size = p->target->size };
	const struct relationship *rel = p->rel;

	for (size_t i = 0; i < rel->n_pairs && !p->direct; i++)
		if (rel->pairs[i] && rel->pairs[i]->source == p->source &&
		    rel->pairs[i]->direct) {
			p->direct = rel->pairs[i]->direct;
			point_ref(p->direct);
		}
	if (!p->direct && point_open(p->source->volume, &params, &p->direct) < 0)
		return NULL;
	return p->direct;
}

/* Its point in time, or, of a source that others write unseen, the source as it is.
 * NULL: none, with the reason. */
static struct point *source_point(struct pair *p, char *reason, size_t size)
{
	if (p->point) {
		if (!p->point->point)
			snprintf(reason, size,
				 "pool %s: what was kept of %s cannot be used",
				 p->point->pool_name, p->source->obj.name);
		else if (!point_is_broken(p->point->point, reason, size))
			return p->point->point;
		return NULL;
	}
	if (p->source->exclusive || p->source->origin == STORE_ORIGIN_REPLICA) {
		snprintf(
			reason, size,
			"it was begun by a version of LunFS that kept no points in time; "
			"copy again");
		return NULL;
	}
	if (!direct_point(p))
		snprintf(reason, size, "out of memory");
	return p->direct;
}

static const struct image_watcher *watcher_of(struct pair *p, struct image_watcher *w)
{
	*w = (struct image_watcher){ .complete = image_completed,
				     .broken = image_broke,
				     .written = image_written,
				     .opaque = p };
	return w;
}

void pair_watch_complete(struct pair *p, struct image *image)
{
	struct image_watcher w;

	image_set_source(image, NULL, p->source->obj.name, true, watcher_of(p, &w));
}

struct priority_group *relation_priority(struct relationship *rel)
{
	struct priority *p = &rel->pairs[0]->source->engine->dataops.priority;

	if (!rel->priority)
		priority_group_new(p, rel->row.copy_priority,
				   rel->row.max_bytes_per_second, &rel->priority);
	return rel->priority;
}

/* Its copy gets its priority and limit; false: out of memory. */
static bool set_priority(const struct pair *p, struct image *image)
{
	struct priority_group *priority = relation_priority(p->rel);

	if (priority)
		image_set_priority(image, priority);
	return priority;
}

void pair_connect(struct pair *p, struct image *image, struct point *point)
{
	struct image_watcher w;

	if (!point)
		point = direct_point(p);
	if (!point || !set_priority(p, image))
		return;
	image_set_source(image, point, p->source->obj.name,
			 p->rel->row.sync_type != CIM_SYNC_SNAPSHOT ||
				 p->rel->row.detaching,
			 watcher_of(p, &w));
	p->watched = true;
}

void pair_start(struct pair *p)
{
	char reason[POINT_REASON_MAX];

	snprintf(reason, sizeof(reason), "%.500s",
		 *p->target->error ? p->target->error : "out of memory");
	if (!p->watched || !source_point(p, reason, sizeof(reason))) {
		relation_break(p->source->engine, p, -EIO, reason);
		return;
	}
	if (pair_is_copying(p))
		image_start_copy(p->target->image);
	/* The device may have been refused before it had this pair. */
	relation_element_changed(p->source->engine, p->source);
}

void relation_start_pairs(struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct pair *p = rel->pairs[i];

		if (pair_reads_point(p) && p->watched && pair_is_copying(p))
			image_will_copy(p->target->image);
	}
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (pair_reads_point(rel->pairs[i]))
			pair_start(rel->pairs[i]);
}

void pair_attach(struct pair *p)
{
	struct engine *e = p->source->engine;
	char reason[POINT_REASON_MAX] = "";
	struct point *point;

	pair_open_target(p, reason, sizeof(reason));
	if (p->target->complete)
		with_image(p, pair_watch_complete);
	if (!pair_reads_point(p))
		return;
	if (!p->target->image) {
		relation_break(e, p, -EIO, *reason ? reason : p->target->error);
		return;
	}
	/* A LUN or file that cannot be opened ("no longer configured") is waited
	 * for until the start that can. */
	if ((element_open_as_source(p->source) < 0 &&
	     p->source->origin == STORE_ORIGIN_REPLICA) ||
	    !p->source->volume) {
		relation_break(e, p, -EIO, p->source->error);
		return;
	}
	point = source_point(p, reason, sizeof(reason));
	if (!point) {
		relation_break(e, p, -EIO, reason);
		return;
	}
	count_what_came(p);
	pair_connect(p, p->target->image, point);
	pair_start(p);
}

static void cut_off(struct pair *p, struct image *image)
{
	(void)p;
	image_cut_off(image);
}

void pair_detach(struct pair *p)
{
	with_image(p, cut_off);
	p->watched = false;
	p->epoch++;
	drop_direct(p);
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

/* ---- the end --------------------------------------------------------------------- */

/* Which of its groups go with a relationship. */
struct leaving {
	bool source_group, target_group, group;
};

/* Whose members the targets are. */
static struct group *member_group(const struct relationship *rel)
{
	return rel->target_group ? rel->target_group : rel->group;
}

static struct leaving groups_that_go(const struct relationship *rel, bool delete_images)
{
	struct group *const groups[] = { rel->source_group, rel->target_group,
					 rel->group };
	bool goes[3];

	for (unsigned i = 0; i < 3; i++) {
		struct group *g = groups[i];
		bool empties = delete_images && g == member_group(rel);

		goes[i] = g && group_goes_with(g, rel, empties ? 0 : g->n_members);
	}
	return (struct leaving){ goes[0], goes[1], goes[2] };
}

/* job: NULL = stays as it is. */
static int end_in_store(struct engine *e, struct relationship *rel, bool delete_images,
			const struct store_job *job, const struct leaving *goes)
{
	store_begin(e->store);
	store_relationship_delete(e->store, rel->row.id);
	for (size_t i = 0; i < rel->n_pairs && relation_has_luns(rel); i++) {
		struct store_element row;

		element_row(rel->pairs[i]->target, &row);
		row.complete = false;
		store_element_update(e->store, &row);
	}
	if (delete_images) {
		store_members_set(e->store, member_group(rel)->obj.id, NULL, 0);
		for (size_t i = 0; i < rel->n_pairs; i++)
			store_element_delete(e->store, rel->pairs[i]->target->obj.id);
	}
	if (job)
		store_job_update(e->store, job);
	if (goes->source_group)
		store_group_delete(e->store, rel->source_group->obj.id);
	if (goes->target_group)
		store_group_delete(e->store, rel->target_group->obj.id);
	if (goes->group)
		store_group_delete(e->store, rel->group->obj.id);
	return store_commit(e->store);
}

/* Takes the relationship out of the objects; the lock is held.  Its points are the
 * caller's to release. */
static void unlink_locked(struct engine *e, struct relationship *rel, bool delete_images,
			  const struct store_job *job)
{
	struct group *g = rel->group;

	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct pair *p = rel->pairs[i];

		object_remove(e, &p->obj);
		TAILQ_REMOVE(&p->source->source_of, p, link);
		p->source->n_source--;
		p->target->target_of = NULL;
	}
	if (rel->source_group)
		rel->source_group->n_source--;
	if (rel->target_group)
		rel->target_group->n_target--;
	if (job)
		job_apply(rel->job, job);
	if (rel->job)
		rel->job->rel = NULL;
	if (delete_images)
		group_set_members(member_group(rel), NULL, 0);
	g->rel = NULL;
	g->ended = ++e->sequence;
	g->copy_state = CIM_COPY_NOT_APPLICABLE;
	g->progress_status = CIM_PROGRESS_NOT_APPLICABLE;
	g->percent = 0;
}

static void tell_end(struct engine *e, struct relationship *rel, bool delete_images)
{
	struct group *g = rel->group;
	uint64_t element_files =
		FILE_BIT(ELEMENT_RELATIONSHIPS) | FILE_BIT(ELEMENT_GROUPS);

	for (size_t i = 0; i < rel->n_pairs; i++) {
		engine_event_object(e, ENGINE_EVENT_REMOVED, &rel->pairs[i]->obj,
				    g->obj.id, false);
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT,
			     rel->pairs[i]->source->obj.id, element_files);
		if (!delete_images)
			engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_ELEMENT,
				     rel->pairs[i]->target->obj.id, element_files);
		/* It may be written again, which its attributes are to show. */
		if (!delete_images &&
		    relation_setting(rel, "ReadOnly") == SETTING_READ_ONLY_TARGET)
			engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT,
				     rel->pairs[i]->target->obj.id, 0);
	}
	if (rel->source_group)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP,
			     rel->source_group->obj.id, FILE_BIT(GROUP_RELATIONSHIPS));
	if (rel->target_group)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP,
			     rel->target_group->obj.id,
			     FILE_BIT(GROUP_RELATIONSHIPS) | FILE_BIT(GROUP_MEMBERS));
	if (rel->job)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_JOB, rel->job->obj.id,
			     JOB_STATE_FILES);
	engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP, g->obj.id,
		     FILE_BIT(GROUP_N_FILES) - 1);
}

/* A LUN is an element like others again: its data is what it holds itself. */
static void release_lun(struct engine *e, struct pair *p)
{
	struct element *el = p->target;
	struct image *image;
	bool complete;

	if (!element_is_lun(el))
		return;
	complete = el->complete;
	engine_lock(e);
	image = target_release_locked(el);
	engine_unlock(e);
	if (image && !complete)
		image_retire(image, true);
	image_unref(image);
	if (complete)
		return;
	pair_remove_map(p);
	engine_event(e, ENGINE_EVENT_CONTENT, ENGINE_ELEMENT, el->obj.id, 0);
}

int relation_end(struct engine *e, struct relationship *rel, bool delete_images,
		 unsigned job_state)
{
	struct group *g = rel->group, *source_group = rel->source_group;
	struct group *target_group = rel->target_group;
	struct element **images = calloc(rel->n_pairs + 1, sizeof(*images));
	bool ends_job = job_state && rel->job && !job_is_over(rel->job);
	struct store_job job;
	struct leaving goes;
	size_t n = rel->n_pairs;
	int r;

	/* LUNs stay as they are. */
	delete_images = delete_images && !relation_has_luns(rel);
	goes = groups_that_go(rel, delete_images);
	if (ends_job)
		job_end_row(rel, job_state, CIM_RETURN_FAILED,
			    "its relationship was ended", &job);
	r = images ? end_in_store(e, rel, delete_images, ends_job ? &job : NULL, &goes) :
		     -ENOMEM;
	if (r < 0) {
		free(images);
		return r;
	}
	relation_stop_reading(rel);
	engine_lock(e);
	unlink_locked(e, rel, delete_images, ends_job ? &job : NULL);
	engine_unlock(e);
	/* From here on nobody who opens an image finds its pair. */
	for (size_t i = 0; i < n; i++) {
		pair_detach(rel->pairs[i]);
		images[i] = rel->pairs[i]->target;
		release_lun(e, rel->pairs[i]);
		pair_remove_digests(rel->pairs[i]);
	}
	for (size_t i = 0; i < n; i++)
		if (rel->pairs[i]->point)
			point_object_release(rel->pairs[i]->point);
	tell_end(e, rel, delete_images);
	rel->ended = true;
	replica_check_waiter(e, rel);
	for (size_t i = 0; i < n && delete_images; i++)
		element_drop_image(e, images[i], false);
	free(images);
	hold_forget_relation(rel);
	relation_free(rel);
	if (goes.source_group)
		group_drop(e, source_group, false);
	if (goes.target_group)
		group_drop(e, target_group, false);
	if (goes.group)
		group_drop(e, g, false);
	return 0;
}
