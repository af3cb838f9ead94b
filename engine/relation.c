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
 *   Fractured        the same, whether they have or not
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/setting.h"
#include "conf/strbuf.h"
#include "conf/timefmt.h"

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
	snprintf(p->error, sizeof(p->error), "%s", row->error ? row->error : "");
	return p;
}

void pair_free(struct pair *p)
{
	free(p->verified);
	free(p);
}

void pair_with_image(struct pair *p, void (*fn)(struct pair *p, struct image *image))
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

/* ---- what it is copied from ------------------------------------------------------ */

void pair_drop_direct(struct pair *p)
{
	const struct relationship *rel = p->rel;
	struct point *point = move_ptr(p->direct);
	bool shared = false; /* others of the relationship read it, too */

	if (!point)
		return;
	for (size_t i = 0; i < rel->n_pairs; i++)
		shared = shared || rel->pairs[i]->direct == point;
	if (!shared)
		point_remove(point);
	point_unref(point);
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

void pair_watch_complete(struct pair *p, struct image *image)
{
	const struct image_watcher watcher = pair_watcher(p);

	image_set_source(image, NULL, p->source->obj.name, true, &watcher);
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
	const struct image_watcher watcher = pair_watcher(p);

	if (!point)
		point = direct_point(p);
	if (!point || !set_priority(p, image))
		return;
	image_set_source(image, point, p->source->obj.name,
			 p->rel->row.sync_type != CIM_SYNC_SNAPSHOT ||
				 p->rel->row.detaching,
			 &watcher);
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
	if (element_check_file(p->target) < 0) {
		relation_break(e, p, -ENOENT, p->target->error);
		return;
	}
	if (p->target->complete)
		pair_with_image(p, pair_watch_complete);
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
	pair_with_image(p, cut_off);
	p->watched = false;
	p->epoch++;
	pair_drop_direct(p);
}
