/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The state at start: the rows of the store become objects, and the elements of
 * the configuration are matched with them.  In the foreground, without threads.
 *
 * What a crash may have left is taken away: images that no pair speaks of and
 * that were never completed (a CreateGroupReplica that did not come to its
 * transaction), and files in a pool that no row names.  A complete image whose
 * map is still there is published.
 */

#include "engine/hold.h"
#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/spec.h"
#include "conf/timefmt.h"

static int load_element(void *opaque, const struct store_element *row)
{
	struct engine *e = opaque;
	struct element *el = element_new(e, row);

	return el ? object_add(e, &el->obj) : -ENOMEM;
}

/* One of sequence 0 is the rest of a crash before its instant: it goes. */
static int load_point(void *opaque, const struct store_point *row)
{
	struct engine *e = opaque;
	struct point_object *po = point_object_new(e, row);

	if (!po)
		return -ENOMEM;
	if (!po->source) {
		point_object_free(po);
		return -EUCLEAN;
	}
	point_object_link(po);
	if (row->sequence > e->point_sequence)
		e->point_sequence = row->sequence;
	return 0;
}

static int load_group(void *opaque, const struct store_group *row)
{
	struct engine *e = opaque;
	struct group *g = group_new(row);

	return g ? object_add(e, &g->obj) : -ENOMEM;
}

static int load_member(void *opaque, uint64_t group_id, uint64_t element_id)
{
	struct engine *e = opaque;
	struct group *g = object_by_id(e, ENGINE_GROUP, group_id);
	struct element *el = object_by_id(e, ENGINE_ELEMENT, element_id);
	struct element **members;

	if (!g || !el)
		return -EUCLEAN;
	members = realloc(g->members, (g->n_members + 1) * sizeof(*members));
	if (!members)
		return -ENOMEM;
	g->members = members;
	g->members[g->n_members++] = el;
	el->n_members++;
	return 0;
}

/* The spec names it; NULL: the group itself. */
static struct group *target_group_of(struct engine *e, const struct relationship *rel)
{
	struct outcome outcome;
	struct group *g = NULL;
	struct spec spec;

	if (spec_parse(rel->row.spec, strlen(rel->row.spec), &spec, &outcome) < 0)
		return NULL;
	if (*spec.target_group)
		g = object_by_name(e, ENGINE_GROUP, spec.target_group);
	spec_done(&spec);
	return g == rel->group ? NULL : g;
}

static int load_relationship(void *opaque, const struct store_relationship *row)
{
	struct engine *e = opaque;
	struct group *g = object_by_id(e, ENGINE_GROUP, row->group_id);
	struct relationship *rel;

	if (!g || g->rel)
		return -EUCLEAN;
	rel = relation_new(row);
	if (!rel)
		return -ENOMEM;
	g->rel = rel;
	rel->group = g;
	rel->source_group = object_by_id(e, ENGINE_GROUP, row->source_group_id);
	rel->source_element = object_by_id(e, ENGINE_ELEMENT, row->source_element_id);
	if (rel->source_group)
		rel->source_group->n_source++;
	rel->target_group = target_group_of(e, rel);
	if (rel->target_group)
		rel->target_group->n_target++;
	relation_describe_consistency(rel);
	return rel->source_group || rel->source_element ? 0 : -EUCLEAN;
}

static void count_relationship(void *thing, void *opaque)
{
	const struct group *g = thing;

	*(size_t *)opaque += g->rel != NULL;
}

/* Relationships by id, for the pairs, which come in that order. */
struct loader {
	struct engine *e;
	struct relationship **rels;
	size_t n, at;
};

static void note_relationship(void *thing, void *opaque)
{
	const struct group *g = thing;
	struct loader *l = opaque;

	if (g->rel)
		l->rels[l->n++] = g->rel;
}

static int compare_relationships(const void *a, const void *b)
{
	const struct relationship *x = *(struct relationship *const *)a;
	const struct relationship *y = *(struct relationship *const *)b;

	return x->row.id < y->row.id ? -1 : x->row.id > y->row.id;
}

static int list_relationships(struct engine *e, struct loader *l)
{
	size_t n = 0;

	*l = (struct loader){ .e = e };
	index_each(&e->by_id[ENGINE_GROUP], count_relationship, &n);
	l->rels = calloc(n + 1, sizeof(*l->rels));
	if (!l->rels)
		return -ENOMEM;
	index_each(&e->by_id[ENGINE_GROUP], note_relationship, l);
	qsort(l->rels, n, sizeof(*l->rels), compare_relationships);
	return 0;
}

static struct pair *add_pair(struct relationship *rel, const struct store_pair *row)
{
	struct pair **pairs =
		realloc(rel->pairs, (rel->n_pairs + 1) * sizeof(*rel->pairs));
	struct pair *p;

	if (!pairs)
		return NULL;
	rel->pairs = pairs;
	p = pair_new(row);
	if (p) {
		p->rel = rel;
		pairs[rel->n_pairs++] = p;
	}
	return p;
}

static int load_pair(void *opaque, const struct store_pair *row)
{
	struct loader *l = opaque;
	struct relationship *rel;
	struct pair *p;

	while (l->at < l->n && l->rels[l->at]->row.id < row->relationship_id)
		l->at++;
	rel = l->at < l->n ? l->rels[l->at] : NULL;
	if (!rel || rel->row.id != row->relationship_id)
		return -EUCLEAN;
	p = add_pair(rel, row);
	if (!p)
		return -ENOMEM;
	p->source = object_by_id(l->e, ENGINE_ELEMENT, row->source_id);
	p->target = object_by_id(l->e, ENGINE_ELEMENT, row->target_id);
	if (!p->source || !p->target || p->n != rel->n_pairs)
		return -EUCLEAN;
	p->source->n_source++;
	TAILQ_INSERT_TAIL(&p->source->source_of, p, link);
	p->target->target_of = p;
	if (row->restore_sequence > l->e->point_sequence)
		l->e->point_sequence = row->restore_sequence;
	p->point = point_object_by_id(l->e, row->point_id);
	if (p->point)
		p->point->n_pairs++;
	else if (row->point_id)
		return -EUCLEAN;
	return object_add(l->e, &p->obj);
}

static int load_job(void *opaque, const struct store_job *row)
{
	struct engine *e = opaque;
	struct job *j = job_new(row);
	struct group *g;

	if (!j)
		return -ENOMEM;
	g = object_by_id(e, ENGINE_GROUP, row->group_id);
	if (g && g->rel && g->rel->row.job_id == row->id) {
		g->rel->job = j;
		j->rel = g->rel;
	}
	return object_add(e, &j->obj);
}

static void derive_states(void *thing, void *opaque)
{
	struct group *g = thing;

	(void)opaque;
	if (!g->rel)
		return;
	g->copy_state = relation_copy_state(g->rel);
	g->progress_status = relation_progress_status(g->rel);
}

static int load_rows(struct engine *e)
{
	struct loader pairs = { .e = e };
	int r = store_each_element(e->store, load_element, e);

	if (!r)
		r = store_each_point(e->store, load_point, e);
	if (!r)
		r = store_each_group(e->store, load_group, e);
	if (!r)
		r = store_each_member(e->store, load_member, e);
	if (!r)
		r = store_each_relationship(e->store, load_relationship, e);
	if (!r)
		r = list_relationships(e, &pairs);
	if (!r)
		r = store_each_pair(e->store, load_pair, &pairs);
	free(pairs.rels);
	if (!r)
		r = store_each_job(e->store, load_job, e);
	if (!r)
		r = holds_load(e);
	if (!r)
		index_each(&e->by_id[ENGINE_GROUP], derive_states, NULL);
	return r;
}

/* ---- the configuration's elements ---------------------------------------------------- */

void load_update_io(struct element *el, const struct config_element *conf)
{
	el->io_timeout_ms = conf->io_timeout_ms;
	el->write_through = conf->write_cache == CONFIG_WRITE_THROUGH;
	if (el->volume)
		volume_set_write_through(el->volume, el->write_through);
}

static void take_config(struct element *el, const struct config_element *conf)
{
	char *access_point = strdup(conf->access_point);

	el->configured = true;
	load_update_io(el, conf);
	if (access_point) {
		free(el->access_point);
		el->access_point = access_point;
	}
}

static bool is_used(const struct element *el)
{
	return el->n_members || element_in_relationship(el);
}

int load_update_configured(struct element *el, const struct config_element *conf)
{
	bool exclusive = conf->access == CONFIG_ACCESS_EXCLUSIVE;
	char *url;

	take_config(el, conf);
	if (strcmp(el->url, conf->url)) {
		url = strdup(conf->url);
		if (!url)
			return -ENOMEM;
		free(el->url);
		el->url = url;
		el->size = 0;
		*el->serial = *el->wwn = '\0';
	}
	el->exclusive = exclusive;
	if (!el->pr_key)
		el->pr_key = element_new_key();
	return 0;
}

static int update_configured(struct element *el, const struct config_element *conf)
{
	bool exclusive = conf->access == CONFIG_ACCESS_EXCLUSIVE;
	bool same = !strcmp(el->url, conf->url) && el->exclusive == exclusive;
	int r;

	if (strcmp(el->url, conf->url) && element_in_relationship(el)) {
		snprintf(el->error, sizeof(el->error),
			 "no longer configured: its URL in the configuration is now "
			 "%.300s; end its relationships, or put the URL back",
			 conf->url);
		return 0;
	}
	if (el->exclusive != exclusive && element_in_relationship(el)) {
		log_warn("element %s: its access cannot change while it is in a "
			 "relationship; it stays %s until a start after that has ended",
			 el->obj.name, el->exclusive ? "exclusive" : "shared");
		take_config(el, conf);
		return 0;
	}
	r = load_update_configured(el, conf);
	return r < 0 || same ? r : element_save(el);
}

int load_add_configured(struct engine *e, const struct config_element *conf,
			struct element **ret_element)
{
	struct store_element row = {
		.origin = STORE_ORIGIN_CONFIG,
		.url = conf->url,
		.exclusive = conf->access == CONFIG_ACCESS_EXCLUSIVE,
		.pr_key = element_new_key(),
		.created = timefmt_now_ms(),
	};
	struct element *el;
	int64_t id;
	int r;

	memcpy(row.name, conf->name, sizeof(row.name));
	store_begin(e->store);
	id = store_element_insert(e->store, &row);
	r = store_commit(e->store);
	if (r < 0)
		return r;
	row.id = (uint64_t)id;
	el = element_new(e, &row);
	if (!el)
		return -ENOMEM;
	take_config(el, conf);
	*ret_element = el;
	return 0;
}

static int add_configured(struct engine *e, const struct config_element *conf)
{
	struct element *el;
	int r = load_add_configured(e, conf, &el);

	return r < 0 ? r : object_add(e, &el->obj);
}

static int match_configured(struct engine *e, const struct config_element *conf,
			    struct strbuf *errors)
{
	struct element *el = object_by_name(e, ENGINE_ELEMENT, conf->name);

	if (!el)
		return add_configured(e, conf);
	if (el->origin == STORE_ORIGIN_CONFIG)
		return update_configured(el, conf);
	strbuf_addf(errors,
		    "%s:%u: element \"%s\" exists already: it was made %s; give one of "
		    "the two another name\n",
		    e->config->path, conf->line, conf->name,
		    el->origin == STORE_ORIGIN_USER ? "by mkdir elements/ and is in the "
						      "state store" :
		    el->origin == STORE_ORIGIN_SPEC ? "by a spec, at an access point" :
						      "as an image of a relationship");
	return -EEXIST;
}

/* One that a spec made, of whose access point the configuration may say something else
 * now. */
static void match_access_point(void *thing, void *opaque)
{
	struct element *el = thing;
	struct engine *e = opaque;

	if (el->origin != STORE_ORIGIN_SPEC || accesspoint_is_same(el, e->config))
		return;
	if (element_in_relationship(el) || accesspoint_follow(el, e->config) < 0)
		accesspoint_explain(el, e->config, el->error, sizeof(el->error));
	else if (element_save(el) < 0)
		log_warn("element %s: its new URL cannot be recorded: %s", el->obj.name,
			 store_error(e->store));
}

/* Elements that the configuration had and has no longer. */
struct vanished {
	struct engine *e;
	struct element *found;
};

static void find_vanished(void *thing, void *opaque)
{
	struct element *el = thing;
	struct vanished *v = opaque;

	if (el->origin != STORE_ORIGIN_CONFIG || el->configured || *el->error)
		return;
	if (!is_used(el))
		v->found = el;
	else
		snprintf(el->error, sizeof(el->error),
			 "no longer configured: put it back into the configuration, or "
			 "take it out of its groups and relationships");
}

/* Rows of images that never became targets. */
static void find_orphan(void *thing, void *opaque)
{
	struct element *el = thing;
	struct vanished *v = opaque;

	if (el->origin == STORE_ORIGIN_REPLICA && !el->complete && !is_used(el))
		v->found = el;
}

static void find_untaken(void *thing, void *opaque)
{
	struct point_object *po = thing, **found = opaque;

	if (!po->sequence)
		*found = po;
}

/* Rows of points whose instant was never there. */
static int drop_untaken(struct engine *e)
{
	for (;;) {
		struct point_object *found = NULL;
		int r;

		index_each(&e->points, find_untaken, &found);
		if (!found)
			return 0;
		store_begin(e->store);
		store_point_delete(e->store, found->obj.id);
		r = store_commit(e->store);
		if (r < 0)
			return r;
		index_remove(&e->points, &found->obj);
		TAILQ_REMOVE(&found->source->points, found, link);
		point_object_free(found);
	}
}

static bool is_moving(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->copy_state == CIM_COPY_UNSYNCHRONIZED ||
		    rel->pairs[i]->copy_state == CIM_COPY_SUSPENDED ||
		    rel->pairs[i]->restore_sequence)
			return true;
	return rel->row.detaching;
}

/* A ResyncReplica whose instant is not there; what goes on is the copy of before. */
static bool lacks_instant(const struct job *j)
{
	return job_is_of(j, "ResyncReplica") &&
	       j->start_time > j->rel->row.when_activated;
}

static void find_lost(void *thing, void *opaque)
{
	struct job *j = thing, **found = opaque;

	if (!job_is_over(j) && (!j->rel || !is_moving(j->rel) || lacks_instant(j)))
		*found = j;
}

/* Jobs that were to take an instant, or to compare, when the process ended: the states
 * are what they were before. */
static int end_lost_jobs(struct engine *e)
{
	for (;;) {
		struct job *found = NULL;
		struct store_job row;
		int r;

		index_each(&e->by_id[ENGINE_JOB], find_lost, &found);
		if (!found)
			return 0;
		job_row(found, &row);
		row.state = CIM_JOB_EXCEPTION;
		row.error_code = CIM_RETURN_FAILED;
		row.error_description = "LunFS ended before the operation was done; write "
					"it to control again";
		row.last_state_change = timefmt_now_ms();
		row.elapsed_ms = row.last_state_change - row.start_time;
		store_begin(e->store);
		store_job_update(e->store, &row);
		r = store_commit(e->store);
		if (r < 0)
			return r;
		job_apply(found, &row);
	}
}

static int drop_all(struct engine *e, void (*find)(void *thing, void *opaque))
{
	struct vanished v = { e, NULL };

	for (;;) {
		int r;

		v.found = NULL;
		index_each(&e->by_id[ENGINE_ELEMENT], find, &v);
		if (!v.found)
			return 0;
		store_begin(e->store);
		store_element_delete(e->store, v.found->obj.id);
		r = store_commit(e->store);
		if (r < 0)
			return r;
		object_remove(e, &v.found->obj);
		hold_forget_element(v.found);
		element_free(v.found);
	}
}

/* ---- the pools --------------------------------------------------------------------- */

struct restore_search {
	uint64_t sequence;
	bool found;
};

static void match_restore(void *thing, void *opaque)
{
	const struct pair *p = thing;
	struct restore_search *s = opaque;

	s->found = s->found || p->restore_sequence == s->sequence;
}

static bool restore_is_known(struct engine *e, uint64_t sequence)
{
	struct restore_search s = { sequence, false };

	index_each(&e->by_id[ENGINE_PAIR], match_restore, &s);
	return s.found;
}

/* Of a copy, and of the one before while that is its base. */
static bool digest_is_wanted(const struct element *el, uint64_t generation)
{
	if (!el || !el->target_of || el->target_of->rel->row.sync_type != CIM_SYNC_CLONE)
		return false;
	return generation == el->generation ||
	       (!el->complete && generation == el->generation - 1);
}

static bool is_known(void *opaque, const struct pool_entry *file)
{
	struct engine *e = opaque;
	const struct element *el = object_by_id(e, ENGINE_ELEMENT, file->id);

	if (file->is_digest)
		return digest_is_wanted(el, file->generation);
	if (file->is_point)
		return point_object_by_id(e, file->id);
	if (file->is_restore)
		return restore_is_known(e, file->id);
	/* Of a LUN that is a target. */
	if (el && element_is_lun(el))
		return file->generation && el->target_of && !el->complete &&
		       file->generation == el->generation;
	/* Of whatever pool: one that was renamed loses nothing. */
	return el && (!file->generation || file->generation == el->generation);
}

static void sweep(void *thing, void *opaque)
{
	struct pool_object *p = thing;
	int r = pool_sweep(p->pool, is_known, opaque);

	if (r < 0)
		log_warn("pool %s: cannot look for left-over files: %s", p->obj.name,
			 strerror(-r));
	else if (r > 0)
		log_info("pool %s: %d left-over file%s deleted", p->obj.name, r,
			 r == 1 ? "" : "s");
}

/* A complete image that has a map still was not published to the end. */
static void finish_publication(const struct engine *e, const struct element *el)
{
	struct pool *pool = el->pool->pool;
	char file[64];
	struct stat st;
	int r;

	pool_map_file(el->obj.id, el->generation, file, sizeof(file));
	if (fstatat(pool_dirfd(pool), file, &st, 0) < 0)
		return;
	r = pool_publish_image(pool, el->obj.id, e->config->daemon.user,
			       e->config->daemon.group);
	if (r >= 0)
		r = pool_remove_map(pool, el->obj.id, el->generation);
	if (r < 0)
		log_warn("pool %s: image \"%s\" cannot be published: %s",
			 el->pool->obj.name, el->obj.name, strerror(-r));
}

static void look_at_files(void *thing, void *opaque)
{
	struct element *el = thing;
	char file[64];
	struct stat st;

	if (!el->pool)
		return;
	if (el->complete)
		finish_publication(opaque, el);
	pool_image_file(el->obj.id, file, sizeof(file));
	if (!fstatat(pool_dirfd(el->pool->pool), file, &st, 0))
		el->allocated = (uint64_t)st.st_blocks * 512;
}

int load_state(struct engine *e, struct strbuf *errors)
{
	int r = store_begin_run(e->store, timefmt_now_ms());

	if (r >= 0)
		r = load_rows(e);

	if (r < 0) {
		strbuf_addf(errors, "%s/lunfs.db: cannot be read: %s\n",
			    e->config->daemon.state_dir, strerror(-r));
		return r;
	}
	for (size_t i = 0; i < e->config->n_elements; i++) {
		int r1 = match_configured(e, &e->config->elements[i], errors);

		if (r1 < 0)
			r = r1;
	}
	index_each(&e->by_id[ENGINE_ELEMENT], match_access_point, e);
	if (r >= 0)
		r = drop_untaken(e);
	if (r >= 0)
		r = end_lost_jobs(e);
	if (r >= 0)
		r = drop_all(e, find_vanished);
	if (r >= 0)
		r = drop_all(e, find_orphan);
	if (r < 0)
		return r;
	index_each(&e->by_id[ENGINE_POOL], sweep, e);
	index_each(&e->by_id[ENGINE_ELEMENT], look_at_files, e);
	return 0;
}
