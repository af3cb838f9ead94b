/* SPDX-License-Identifier: BSD-2-Clause */

/* Looking at objects: copies made under the engine's lock, by any thread. */

#include "engine/hold.h"
#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/setting.h"
#include "conf/timefmt.h"
#include "engine/chunkmap_file.h"
#include "engine/mapfile.h"

/* Pairs and images have their parent's names; others their own. */
static struct pair *pair_by_name(struct engine *e, uint64_t group, const char *name)
{
	struct group *g = object_by_id(e, ENGINE_GROUP, group);
	char *end;
	unsigned long n = strtoul(name, &end, 10);

	if (!g || !g->rel || *end || !n || n > g->rel->n_pairs ||
	    strcmp(g->rel->pairs[n - 1]->obj.name, name))
		return NULL;
	return g->rel->pairs[n - 1];
}

uint64_t engine_find(struct engine *e, enum engine_class class, uint64_t parent,
		     const char *name)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct object *obj;
	const struct pair *p;

	if (class == ENGINE_PAIR) {
		p = pair_by_name(e, parent, name);
		return p ? p->obj.id : 0;
	}
	obj = object_by_name(e, class, name);
	return obj ? obj->id : 0;
}

bool engine_exists(struct engine *e, enum engine_class class, uint64_t id)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	return object_by_id(e, class, id);
}

struct lister {
	void (*fn)(void *opaque, const char *name, uint64_t id);
	void *opaque;
};

static void list_object(void *thing, void *opaque)
{
	const struct object *obj = thing;
	const struct lister *l = opaque;

	l->fn(l->opaque, obj->name, obj->id);
}

void engine_list(struct engine *e, enum engine_class class, uint64_t parent,
		 void (*fn)(void *opaque, const char *name, uint64_t id), void *opaque)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	struct lister l = { fn, opaque };
	const struct group *g;

	if (class != ENGINE_PAIR) {
		index_each(&e->by_id[class], list_object, &l);
		return;
	}
	g = object_by_id(e, ENGINE_GROUP, parent);
	for (size_t i = 0; g && g->rel && i < g->rel->n_pairs; i++)
		fn(opaque, g->rel->pairs[i]->obj.name, g->rel->pairs[i]->obj.id);
}

/* Whether a source's name may stand beside the images: not taken by one of
 * them, and the source of one pair only. */
static bool name_is_free(const struct relationship *rel, const struct pair *p)
{
	const struct pair *other;

	/* Elements' names are unique: the same name is the same element. */
	if (p->source->target_of && p->source->target_of->rel == rel)
		return false;
	TAILQ_FOREACH(other, &p->source->source_of, link)
		if (other != p && other->rel == rel)
			return false;
	return true;
}

void engine_list_images(struct engine *e, uint64_t group,
			void (*fn)(void *opaque, const char *name, uint64_t element,
				   const char *link_to),
			void *opaque)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct group *g = object_by_id(e, ENGINE_GROUP, group);

	if (!g || !g->rel)
		return;
	for (size_t i = 0; i < g->rel->n_pairs; i++) {
		const struct pair *p = g->rel->pairs[i];

		fn(opaque, p->target->obj.name, p->target->obj.id, NULL);
		if (name_is_free(g->rel, p))
			fn(opaque, p->source->obj.name, p->target->obj.id,
			   p->target->obj.name);
	}
}

/* ---- elements ------------------------------------------------------------------- */

static unsigned element_status(const struct element *el)
{
	if (*el->error)
		return CIM_STATUS_ERROR;
	if (el->origin == STORE_ORIGIN_REPLICA)
		return el->target_of && el->target_of->copy_state == CIM_COPY_BROKEN ?
			       CIM_STATUS_ERROR :
			       CIM_STATUS_OK;
	switch (el->status.state) {
	case BD_READY:
		return CIM_STATUS_OK;
	case BD_AWAY:
		return el->have_info ? CIM_STATUS_DEGRADED : CIM_STATUS_DORMANT;
	case BD_REFUSED:
		return CIM_STATUS_ERROR;
	case BD_DORMANT:
		break;
	}
	return CIM_STATUS_DORMANT;
}

static void fill_image(const struct element *el, struct element_info *ret)
{
	char file[64];

	ret->known = true;
	ret->block_size = el->block_size ? el->block_size : 512;
	ret->exclusive = true;
	ret->thin = !el->reserved;
	ret->allocated = el->image ? image_allocated(el->image) : el->allocated;
	/* What its point keeps of the source; its part of that, where others read it too. */
	if (el->target_of && el->target_of->point && el->target_of->point->point)
		ret->allocated += point_allocated(el->target_of->point->point) /
				  el->target_of->point->n_pairs;
	ret->self_contained = el->complete;
	if (el->complete && el->pool) {
		pool_image_file(el->obj.id, file, sizeof(file));
		snprintf(ret->backing, sizeof(ret->backing), "%s/%s",
			 pool_path(el->pool->pool), file);
	}
}

int engine_element_info(struct engine *e, uint64_t id, struct element_info *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct element *el = object_by_id(e, ENGINE_ELEMENT, id);

	if (!el)
		return -ENOENT;
	memset(ret, 0, sizeof(*ret));
	ret->id = id;
	strcpy(ret->name, el->obj.name);
	ret->configured = el->configured;
	ret->is_image = el->origin == STORE_ORIGIN_REPLICA;
	ret->exclusive = el->exclusive;
	ret->read_only = element_is_read_only(el);
	ret->reserved = el->status.reserved;
	ret->size = el->size;
	ret->operational_status = element_status(el);
	snprintf(ret->error, sizeof(ret->error), "%s",
		 *el->error				? el->error :
		 el->target_of && *el->target_of->error ? el->target_of->error :
							  el->status.error);
	snprintf(ret->url, sizeof(ret->url), "%s", el->url);
	ret->created_ms = el->created_ms;
	ret->modified_ms = element_modified_ms(el);
	ret->io_timeout_ms = el->io_timeout_ms;
	ret->result = el->obj.result;
	if (ret->is_image) {
		fill_image(el, ret);
		return 0;
	}
	ret->known = el->have_info;
	if (!el->have_info)
		return 0;
	ret->block_size = el->info.block_size;
	ret->size = el->info.size;
	ret->thin = el->info.thin;
	ret->allocated = el->mapped_known ? el->mapped : el->info.size;
	memcpy(ret->vendor, el->info.vendor, sizeof(ret->vendor));
	memcpy(ret->product, el->info.product, sizeof(ret->product));
	memcpy(ret->revision, el->info.revision, sizeof(ret->revision));
	memcpy(ret->serial, el->info.serial, sizeof(ret->serial));
	memcpy(ret->wwn, el->info.wwn, sizeof(ret->wwn));
	return 0;
}

/* ---- groups, pairs, jobs, pools ---------------------------------------------------- */

static int64_t seconds_left(const struct image_progress *p, uint64_t rate)
{
	uint64_t left = p->bytes_total - p->bytes_present;

	return rate ? (int64_t)((left + rate - 1) / rate) : -1;
}

static unsigned consistency_status(const struct relationship *rel, unsigned copy_state)
{
	if (rel->row.consistency != CIM_CONSISTENCY_SEQUENTIAL)
		return CIM_CONSISTENCY_STATUS_DISABLED;
	if (copy_state == CIM_COPY_BROKEN)
		return CIM_CONSISTENCY_STATUS_ERROR;
	return hold_is_needed(rel) ? CIM_CONSISTENCY_STATUS_IN_PROGRESS :
				     CIM_CONSISTENCY_STATUS_COMPLETED;
}

static unsigned consistency_state(const struct relationship *rel, unsigned copy_state)
{
	if (!rel->row.when_activated)
		return CIM_CONSISTENCY_STATE_NOT_APPLICABLE;
	/* A Snapshot that is Aborted still shows its instant. */
	if (copy_state == CIM_COPY_BROKEN ||
	    (copy_state == CIM_COPY_ABORTED && rel->row.sync_type != CIM_SYNC_SNAPSHOT))
		return CIM_CONSISTENCY_STATE_INCONSISTENT;
	/* Whether nobody wrote while it was copied is known at the end. */
	if (hold_is_needed(rel) && rel->row.consistency == CIM_CONSISTENCY_SEQUENTIAL)
		return CIM_CONSISTENCY_STATE_INCONSISTENT;
	return rel->row.consistency_state;
}

static bool is_moving(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (pair_is_copying(rel->pairs[i]))
			return true;
	return false;
}

static const char *describe_doing(const struct relationship *rel)
{
	return relation_is_restoring(rel) ? "Restoring" :
	       rel->verify		  ? "Verifying" :
	       rel->digests.n		  ? "Hashing" :
	       rel->row.detaching	  ? "Detaching" :
					    "";
}

static void fill_relationship(const struct relationship *rel, struct group_info *ret)
{
	const struct store_relationship *row = &rel->row;
	const char *doing = describe_doing(rel);
	bool moving = is_moving(rel);
	bool copying = moving || relation_is_restoring(rel) || relation_is_read(rel);
	struct image_progress p;

	ret->has_relationship = true;
	memcpy(ret->relationship_name, row->name, sizeof(ret->relationship_name));
	ret->sync_type = row->sync_type;
	ret->mode = row->mode;
	ret->copy_state = relation_copy_state(rel);
	ret->requested_copy_state = moving && row->sync_type != CIM_SYNC_SNAPSHOT ?
					    CIM_COPY_SYNCHRONIZED :
					    CIM_COPY_NOT_APPLICABLE;
	ret->progress_status = relation_progress_status(rel);
	ret->percent_synced = relation_percent(rel);
	ret->consistency = row->consistency;
	ret->consistency_enabled = row->consistency == CIM_CONSISTENCY_SEQUENTIAL;
	ret->consistency_state = consistency_state(rel, ret->copy_state);
	ret->consistency_status = consistency_status(rel, ret->copy_state);
	ret->copy_priority = row->copy_priority;
	ret->copy_recovery_mode = relation_recovers_by_itself(rel) ?
					  CIM_RECOVERY_AUTOMATIC :
					  CIM_RECOVERY_MANUAL;
	ret->failed_copy_stops_host_io = relation_setting(rel, "FailedCopyStopsHostIO");
	ret->when_established = row->when_established;
	ret->when_synced = row->when_synced;
	ret->when_synchronized = row->when_synchronized;
	ret->when_activated = row->when_activated;
	ret->when_deactivated = row->when_deactivated;
	ret->when_suspended = row->when_suspended;
	memcpy(ret->consistency_method, rel->consistency_method,
	       sizeof(ret->consistency_method));
	memcpy(ret->waiting_for, rel->waiting_for, sizeof(ret->waiting_for));
	ret->last_progress = rel->last_progress_ms;
	if (rel->source_group)
		snprintf(ret->source, sizeof(ret->source), "../%s",
			 rel->source_group->obj.name);
	else
		snprintf(ret->source, sizeof(ret->source), "../../elements/%s",
			 rel->source_element->obj.name);
	snprintf(ret->doing, sizeof(ret->doing), "%s", doing);
	ret->doing_percent = *doing ? relation_job_percent(rel) : 0;
	relation_job_progress(rel, &p);
	ret->bytes_total = p.bytes_total;
	ret->bytes_copied = p.bytes_copied;
	ret->bytes_skipped = p.bytes_skipped;
	ret->bytes_per_second = copying ? rel->rate : 0;
	ret->seconds_left = copying ? seconds_left(&p, rel->rate) : -1;
	ret->job = rel->job ? rel->job->obj.id : 0;
}

int engine_group_info(struct engine *e, uint64_t id, struct group_info *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct group *g = object_by_id(e, ENGINE_GROUP, id);

	if (!g)
		return -ENOENT;
	memset(ret, 0, sizeof(*ret));
	ret->id = id;
	memcpy(ret->name, g->obj.name, sizeof(ret->name));
	ret->persistent = g->persistent;
	ret->delete_on_empty_element = g->delete_on_empty_element;
	ret->delete_on_unassociated = g->delete_on_unassociated;
	ret->created_ms = g->created_ms;
	ret->result = g->obj.result;
	ret->copy_state = CIM_COPY_NOT_APPLICABLE;
	ret->seconds_left = -1;
	if (g->rel)
		fill_relationship(g->rel, ret);
	return 0;
}

static unsigned sync_state(unsigned copy_state)
{
	switch (copy_state) {
	case CIM_COPY_INITIALIZED:
		return CIM_SYNC_STATE_INITIALIZED;
	case CIM_COPY_PREPARED:
		return CIM_SYNC_STATE_PREPARED;
	case CIM_COPY_INACTIVE:
		return CIM_SYNC_STATE_IDLE;
	case CIM_COPY_UNSYNCHRONIZED:
		return CIM_SYNC_STATE_COPY_IN_PROGRESS;
	case CIM_COPY_SUSPENDED:
		return CIM_SYNC_STATE_QUIESCED;
	case CIM_COPY_FRACTURED:
		return CIM_SYNC_STATE_FRACTURED;
	case CIM_COPY_BROKEN:
	case CIM_COPY_ABORTED:
		return CIM_SYNC_STATE_BROKEN;
	default:
		return CIM_SYNC_STATE_FROZEN;
	}
}

/* What the implementation decides is what it does without a setting. */
static unsigned methodology(const struct relationship *rel)
{
	unsigned desired = relation_setting(rel, "DesiredCopyMethodology");

	return desired == CIM_METHODOLOGY_IMPLEMENTATION ?
		       setting_default("DesiredCopyMethodology", rel->row.sync_type) :
		       desired;
}

int engine_pair_info(struct engine *e, uint64_t id, struct pair_info *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct pair *p = object_by_id(e, ENGINE_PAIR, id);
	struct image_progress progress;
	bool snapshot, filling;

	if (!p)
		return -ENOENT;
	snapshot = p->rel->row.sync_type == CIM_SYNC_SNAPSHOT;
	filling = snapshot && pair_is_copying(p);
	pair_progress(p, &progress);
	*ret = (struct pair_info){
		.id = id,
		.group = p->rel->group->obj.id,
		.n = p->n,
		.copy_state = p->copy_state,
		.progress_status = pair_progress_status(p),
		.percent_synced = pair_percent(p),
		.sync_state = filling ? CIM_SYNC_STATE_COPY_IN_PROGRESS :
					sync_state(p->copy_state),
		.copy_type = CIM_COPY_TYPE_UNSYNC_ASSOC,
		.replica_type =
			snapshot ? CIM_REPLICA_AFTER_DELTA : CIM_REPLICA_FULL_COPY,
		.copy_methodology = methodology(p->rel),
		.when_synced = p->when_synced,
		.result = p->obj.result,
		.bytes_total = progress.bytes_total,
		.bytes_copied = progress.bytes_copied,
		.bytes_skipped = progress.bytes_skipped,
	};
	strcpy(ret->source, p->source->obj.name);
	strcpy(ret->target, p->target->obj.name);
	memcpy(ret->error, p->error, sizeof(ret->error));
	return 0;
}

/* What clients go by: OK alone while it lasts; Completed at its end, with OK or with
 * Error. */
static void job_statuses(const struct job *j, unsigned ret[2])
{
	bool over = job_is_over(j);

	ret[0] = over && j->state != CIM_JOB_COMPLETED ? CIM_STATUS_ERROR : CIM_STATUS_OK;
	ret[1] = over ? CIM_STATUS_COMPLETED : 0;
}

/* How far a job came that has ended; 100 only for one that did its work. */
static unsigned percent_at_end(const struct job *j)
{
	uint64_t done = j->bytes_copied + j->bytes_skipped;

	if (j->state == CIM_JOB_COMPLETED)
		return 100;
	if (done >= j->bytes_total)
		return j->bytes_total ? 99 : 0;
	return (unsigned)((__uint128_t)done * 100 / j->bytes_total);
}

int engine_job_info(struct engine *e, uint64_t id, struct job_info *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct job *j = object_by_id(e, ENGINE_JOB, id);
	const struct group *g;
	struct image_progress p;

	if (!j)
		return -ENOENT;
	memset(ret, 0, sizeof(*ret));
	ret->id = id;
	snprintf(ret->name, sizeof(ret->name), "%s", j->title);
	ret->state = j->state;
	job_statuses(j, ret->operational_status);
	ret->error_code = j->error_code;
	snprintf(ret->error_description, sizeof(ret->error_description), "%s",
		 j->error_description);
	ret->start_time = j->start_time;
	ret->last_state_change = j->last_state_change;
	ret->time_before_removal_ms = job_time_before_removal(e, j);
	ret->delete_on_completion = j->delete_on_completion;
	ret->result = j->obj.result;
	ret->seconds_left = -1;
	g = object_by_id(e, ENGINE_GROUP, j->group_id);
	if (g)
		memcpy(ret->group, g->obj.name, sizeof(ret->group));
	if (job_is_over(j) || !j->rel) {
		ret->elapsed_ms = j->elapsed_ms;
		ret->bytes_total = j->bytes_total;
		ret->bytes_copied = j->bytes_copied;
		ret->bytes_skipped = j->bytes_skipped;
		ret->percent_complete = percent_at_end(j);
		return 0;
	}
	relation_job_progress(j->rel, &p);
	ret->elapsed_ms = timefmt_now_ms() - j->start_time;
	ret->bytes_total = p.bytes_total;
	ret->bytes_copied = p.bytes_copied;
	ret->bytes_skipped = p.bytes_skipped;
	ret->percent_complete = relation_job_percent(j->rel);
	if (j->state == CIM_JOB_SUSPENDED)
		return 0;
	ret->bytes_per_second = j->rel->rate;
	ret->seconds_left = seconds_left(&p, j->rel->rate);
	return 0;
}

int engine_pool_info(struct engine *e, uint64_t id, struct pool_info *ret)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct pool_object *p = object_by_id(e, ENGINE_POOL, id);

	if (!p)
		return -ENOENT;
	*ret = (struct pool_info){ .id = id,
				   .path = pool_path(p->pool),
				   .total = p->total,
				   .reserved = p->reserved,
				   .remaining = p->free_space > p->reserved ?
							p->free_space - p->reserved :
							0 };
	memcpy(ret->name, p->obj.name, sizeof(ret->name));
	return 0;
}

void engine_space(struct engine *e, uint64_t *ret_total, uint64_t *ret_free)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct pool_object *p =
		object_by_name(e, ENGINE_POOL, e->config->daemon.default_pool);

	*ret_total = p ? p->total : 0;
	*ret_free = p ? p->free_space : 0;
}

/* ---- lists ------------------------------------------------------------------------- */

struct text {
	struct strbuf *b;
	const void *of;
};

static void add_group_of(void *thing, void *opaque)
{
	const struct group *g = thing;
	struct text *t = opaque;

	for (size_t i = 0; i < g->n_members; i++)
		if (g->members[i] == t->of) {
			strbuf_addf(t->b, "%s\n", g->obj.name);
			return;
		}
}

static void add_used_by(void *thing, void *opaque)
{
	const struct group *g = thing;
	struct text *t = opaque;

	if (g->rel && g->rel->source_group == t->of)
		strbuf_addf(t->b, "%s source\n", g->rel->row.name);
	if (g->rel && g->rel->target_group == t->of)
		strbuf_addf(t->b, "%s target\n", g->rel->row.name);
}

static void add_image_of(void *thing, void *opaque)
{
	const struct element *el = thing;
	struct text *t = opaque;

	if (el->pool == t->of)
		strbuf_addf(t->b, "%s\n", el->obj.name);
}

static void element_text(struct engine *e, const struct element *el, unsigned file,
			 struct strbuf *b)
{
	struct text t = { b, el };
	const struct pair *p;

	if (file == ELEMENT_SESSIONS && el->bd)
		bd_sessions(el->bd, b);
	else if (file == ELEMENT_GROUPS && el->n_members)
		index_each(&e->by_id[ENGINE_GROUP], add_group_of, &t);
	if (file != ELEMENT_RELATIONSHIPS)
		return;
	TAILQ_FOREACH(p, &el->source_of, link)
		strbuf_addf(b, "%s source\n", p->rel->row.name);
	if (el->target_of)
		strbuf_addf(b, "%s target\n", el->target_of->rel->row.name);
}

static void group_text(struct engine *e, const struct group *g, unsigned file,
		       struct strbuf *b)
{
	struct text t = { b, g };

	if (file == GROUP_SPEC && g->rel)
		strbuf_adds(b, g->rel->row.spec);
	else if (file == GROUP_CONTROL && g->rel)
		operation_allowed(g->rel, b);
	else if (file == GROUP_MEMBERS)
		for (size_t i = 0; i < g->n_members; i++)
			strbuf_addf(b, "%s\n", g->members[i]->obj.name);
	if (file != GROUP_RELATIONSHIPS)
		return;
	if (g->rel)
		strbuf_addf(b, "%s target\n", g->rel->row.name);
	if (g->n_source || g->n_target)
		index_each(&e->by_id[ENGINE_GROUP], add_used_by, &t);
}

static int64_t run_of_image(void *opaque, uint64_t chunk, uint64_t max, bool *ret_set)
{
	return image_peek_private(opaque, chunk, max, ret_set);
}

/* Of what is complete, and of what has no image at all. */
static int64_t run_of_all(void *opaque, uint64_t chunk, uint64_t max, bool *ret_set)
{
	const bool *complete = opaque;

	(void)chunk;
	*ret_set = *complete;
	return (int64_t)max;
}

/* Not with the lock held: it may have many lines. */
static int pair_map_text(struct engine *e, uint64_t id, struct strbuf *b)
{
	struct mapfile_params params = { .chunk_size = POOL_CHUNK_SIZE,
					 .run = run_of_all,
					 .unknown_chunks = CHUNKMAP_PAGE_CHUNKS };
	struct image *image = NULL;
	const struct pair *p;
	bool complete;

	engine_lock(e);
	p = object_by_id(e, ENGINE_PAIR, id);
	if (!p) {
		engine_unlock(e);
		return -ENOENT;
	}
	params.size = pair_size(p);
	params.opaque = &complete;
	complete = p->target->complete;
	mapfile_parse_error(p->error, &params.bad_offset, &params.bad_length);
	if (p->target->image && !complete) {
		image = p->target->image;
		image_ref(image);
		params.run = run_of_image;
		params.opaque = image;
	}
	engine_unlock(e);
	mapfile_render(&params, b);
	image_unref(image);
	return 0;
}

static int list_text(struct engine *e, enum engine_class class, uint64_t id,
		     unsigned file, struct strbuf *b)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	struct object *obj = object_by_id(e, class, id);
	struct text t = { b, obj };

	if (!obj)
		return -ENOENT;
	if (class == ENGINE_ELEMENT)
		element_text(e, (struct element *)obj, file, b);
	else if (class == ENGINE_GROUP)
		group_text(e, (struct group *)obj, file, b);
	else if (class == ENGINE_PAIR && file == PAIR_VERIFIED)
		pair_describe_verified((struct pair *)obj, b);
	else if (class == ENGINE_PAIR && file == PAIR_DIGEST)
		pair_describe_digest((struct pair *)obj, b);
	else if (class == ENGINE_POOL && file == POOL_IMAGES)
		index_each(&e->by_id[ENGINE_ELEMENT], add_image_of, &t);
	return 0;
}

int engine_list_text(struct engine *e, enum engine_class class, uint64_t id,
		     unsigned file, struct strbuf *b)
{
	if (class == ENGINE_PAIR && file == PAIR_MAP)
		return pair_map_text(e, id, b);
	return list_text(e, class, id, file, b);
}

/* ---- wait/ -------------------------------------------------------------------------- */

int engine_wait_check(struct engine *e, uint64_t group, unsigned state, uint64_t since)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct group *g = object_by_id(e, ENGINE_GROUP, group);
	unsigned now;

	if (!g)
		return -ENODEV;
	if (state >= sizeof(g->entered) / sizeof(g->entered[0]))
		return -EIO;
	now = g->rel ? g->copy_state : CIM_COPY_NOT_APPLICABLE;
	/* What was Synchronized is about to get a new instant. */
	if (state == CIM_COPY_SYNCHRONIZED && g->rel && g->rel->op)
		return 0;
	if (now == state || g->entered[state] > since)
		return 1;
	if (state == CIM_COPY_SYNCHRONIZED && g->rel && g->rel->row.when_synchronized &&
	    now != CIM_COPY_BROKEN)
		return 1;
	if (now == CIM_COPY_BROKEN || now == CIM_COPY_ABORTED || g->ended > since)
		return -EIO;
	if (now == CIM_COPY_MIXED)
		for (size_t i = 0; i < g->rel->n_pairs; i++)
			if (g->rel->pairs[i]->copy_state == CIM_COPY_BROKEN ||
			    g->rel->pairs[i]->copy_state == CIM_COPY_ABORTED)
				return -EIO;
	return 0;
}
