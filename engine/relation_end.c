/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The end of a relationship: in the store with one transaction, with the groups that go
 * with it and, if they are to be deleted, its images; then here, and last the files.
 */

#include "engine/hold.h"
#include "engine/model.h"

#include <errno.h>
#include <stdlib.h>

#include "conf/setting.h"

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
