/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The life of the engine, its thread and its queue.
 *
 * Threads: the engine's thread (this file) takes messages one after another:
 * commands of users, news of devices and images, and once a second a tick.
 * Loops (sessions) and workers (files) carry the data and post messages here;
 * they never wait for this thread.  Subscribers are called by it.
 *
 * The end: engine_stop() posts a message, behind which every waiting command
 * has been answered; waits until holds have ended; and posts another one, behind
 * which every image is cut off from its source and synced, and every device is
 * closing; the thread then goes on until all are closed.
 */

#include "engine/fence_set.h"
#include "engine/hold.h"
#include "engine/instant.h"
#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"

enum {
	TICK_MS = 1000,
	CLOSE_MS = 5000, /* the most a stop waits for devices */
};

void engine_lock(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
}

void engine_unlock(struct engine *e)
{
	pthread_mutex_unlock(&e->lock);
}

/* ---- objects ------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
	const struct object *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int compare_names(const void *a, const void *b)
{
	const struct object *x = a, *y = b;

	return strcmp(x->name, y->name);
}

int object_add(struct engine *e, struct object *obj)
{
	int r = index_add(&e->by_id[obj->class], obj);

	if (r < 0 || obj->class == ENGINE_PAIR)
		return r;
	r = index_add(&e->by_name[obj->class], obj);
	if (r < 0)
		index_remove(&e->by_id[obj->class], obj);
	return r;
}

void object_remove(struct engine *e, struct object *obj)
{
	index_remove(&e->by_id[obj->class], obj);
	if (obj->class != ENGINE_PAIR)
		index_remove(&e->by_name[obj->class], obj);
}

void *object_by_id(struct engine *e, enum engine_class class, uint64_t id)
{
	const struct object key = { .id = id };

	return id ? index_find(&e->by_id[class], &key) : NULL;
}

void *object_by_name(struct engine *e, enum engine_class class, const char *name)
{
	struct object key = { .class = class };

	if (strlen(name) >= sizeof(key.name))
		return NULL;
	strcpy(key.name, name);
	return index_find(&e->by_name[class], &key);
}

struct names {
	const struct object *except;
	char *buf;
	size_t size, len, n;
};

static void add_name(void *thing, void *opaque)
{
	const struct object *obj = thing;
	struct names *names = opaque;

	if (obj != names->except && names->n++ < 8 && names->len < names->size)
		names->len += (size_t)snprintf(names->buf + names->len,
					       names->size - names->len, "%s%s",
					       names->len ? ", " : "", obj->name);
}

void object_names(struct engine *e, enum engine_class class, const struct object *except,
		  char *buf, size_t size)
{
	struct names names = { except, buf, size, 0, 0 };

	*buf = '\0';
	index_each(&e->by_name[class], add_name, &names);
	if (!names.n)
		snprintf(buf, size, "none");
	if (names.n > 8 && names.len < size)
		snprintf(buf + names.len, size - names.len, ", …");
}

/* ---- events -------------------------------------------------------------- */

void engine_subscribe(struct engine *e,
		      void (*fn)(void *opaque, const struct engine_event *event),
		      void *opaque)
{
	e->subscriber = fn;
	e->subscriber_opaque = opaque;
}

void engine_event(struct engine *e, enum engine_event_kind kind, enum engine_class class,
		  uint64_t id, uint64_t files)
{
	const struct engine_event event = {
		.kind = kind, .class = class, .id = id, .files = files
	};

	if (e->subscriber)
		e->subscriber(e->subscriber_opaque, &event);
}

void engine_event_object(struct engine *e, enum engine_event_kind kind,
			 const struct object *obj, uint64_t parent, bool by_command)
{
	struct engine_event event = {
		.kind = kind,
		.class = obj->class,
		.id = obj->id,
		.parent = parent,
		.by_command = by_command,
	};

	strcpy(event.name, obj->name);
	if (e->subscriber)
		e->subscriber(e->subscriber_opaque, &event);
}

uint64_t engine_sequence(struct engine *e)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);

	return e->sequence;
}

/* ---- the queue ----------------------------------------------------------- */

void engine_post(struct engine *e, struct message *m)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->queue_lock);

	STAILQ_INSERT_TAIL(&e->queue, m, link);
	pthread_cond_signal(&e->queue_wakes);
}

void engine_start_work(struct engine *e, struct work *work)
{
	__atomic_add_fetch(&e->n_works, 1, __ATOMIC_ACQ_REL);
	workers_submit(e->workers, work);
}

void engine_work_done(struct engine *e)
{
	__atomic_sub_fetch(&e->n_works, 1, __ATOMIC_ACQ_REL);
}

bool engine_is_stopping(struct engine *e)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->queue_lock);

	return e->stopping;
}

/* The next message; NULL when a tick is due or the end has come. */
static struct message *next_message(struct engine *e, bool *ret_quit)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->queue_lock);
	uint64_t tick_ns = timefmt_monotonic_ns() + TICK_MS * UINT64_C(1000000);
	uint64_t fence_ns = fence_set_deadline_ns(e);
	uint64_t due = fence_ns < tick_ns ? fence_ns : tick_ns;
	const struct timespec until = { .tv_sec = (time_t)(due / 1000000000),
					.tv_nsec = (long)(due % 1000000000) };
	struct message *m;

	while (STAILQ_EMPTY(&e->queue) && !e->quit)
		if (pthread_cond_timedwait(&e->queue_wakes, &e->queue_lock, &until))
			break;
	m = STAILQ_FIRST(&e->queue);
	if (m)
		STAILQ_REMOVE_HEAD(&e->queue, link);
	*ret_quit = e->quit && !m;
	return m;
}

/* ---- the tick ------------------------------------------------------------ */

static void refresh_pool(struct work *work)
{
	struct pool_object *p =
		(struct pool_object *)((char *)work -
				       offsetof(struct pool_object, refresh));
	uint64_t total = 0, avail = 0;
	bool known = pool_space(p->pool, &total, &avail) >= 0;

	engine_lock(p->engine);
	if (known) {
		p->total = total;
		p->free_space = avail;
	}
	p->refreshing = false;
	engine_unlock(p->engine);
}

static void tick_pool(void *thing, void *opaque)
{
	struct pool_object *p = thing;
	bool *start = opaque;

	*start = !p->refreshing;
	p->refreshing = true;
	p->refresh.fn = refresh_pool;
	if (*start)
		workers_submit(p->engine->workers, &p->refresh);
}

struct tick {
	struct engine *e;
	int64_t now_ms;
};

static void tick_group(void *thing, void *opaque)
{
	struct group *g = thing;
	struct tick *tick = opaque;

	if (!g->rel)
		return;
	relation_tick(tick->e, g->rel, tick->now_ms);
	for (size_t i = 0; i < g->rel->n_pairs; i++)
		pair_reserve(g->rel->pairs[i]);
}

/* What was counted by pair_reserve() since the last time. */
static void show_reserved(void *thing, void *opaque)
{
	struct pool_object *p = thing;

	(void)opaque;
	p->reserved = p->reserving;
	p->reserving = 0;
}

static void tick(struct engine *e)
{
	struct tick t = { e, timefmt_now_ms() };
	bool start;

	if (t.now_ms >= e->last_tick_ms && t.now_ms < e->last_tick_ms + TICK_MS * 9 / 10)
		return;
	e->last_tick_ms = t.now_ms;
	engine_lock(e);
	index_each(&e->by_id[ENGINE_POOL], tick_pool, &start);
	engine_unlock(e);
	if (engine_is_stopping(e))
		return;
	index_each(&e->by_id[ENGINE_GROUP], tick_group, &t);
	engine_lock(e);
	index_each(&e->by_id[ENGINE_POOL], show_reserved, NULL);
	engine_unlock(e);
	points_tick(e);
	holds_tick(e);
	elements_save_changed(e);
	job_tick(e, t.now_ms);
	replica_run_calls(e);
	replica_delete_unmade(e);
	accesspoint_tick(e);
}

/* ---- the thread ---------------------------------------------------------- */

static void open_image(void *thing, void *opaque)
{
	struct element *el = thing;

	(void)opaque;
	if (el->origin == STORE_ORIGIN_REPLICA)
		element_open(el);
}

static void keep_for_restore(void *thing, void *opaque)
{
	(void)opaque;
	pair_keep_for_restore(thing);
}

static void resume_restore(void *thing, void *opaque)
{
	(void)opaque;
	pair_resume_restore(thing);
}

static void open_element(void *thing, void *opaque)
{
	struct element *el = thing;

	(void)opaque;
	if (el->origin != STORE_ORIGIN_REPLICA)
		element_open(el);
}

/* Points stand before their volume takes its first change. */
static void make_volume(void *thing, void *opaque)
{
	struct element *el = thing;

	(void)opaque;
	if (el->origin != STORE_ORIGIN_REPLICA || !TAILQ_EMPTY(&el->points))
		element_make_volume(el);
}

static void attach_pairs(void *thing, void *opaque)
{
	struct group *g = thing;

	for (size_t i = 0; g->rel && i < g->rel->n_pairs; i++) {
		pair_attach(g->rel->pairs[i]);
		/* The process may have ended between the two states. */
		pair_show_written(opaque, g->rel->pairs[i]);
	}
}

static void find_detached(void *thing, void *opaque)
{
	const struct group *g = thing;
	struct relationship **found = opaque;

	if (!g->rel || !g->rel->row.detaching)
		return;
	for (size_t i = 0; i < g->rel->n_pairs; i++)
		if (!g->rel->pairs[i]->target->complete)
			return;
	*found = g->rel;
}

/* What was to end with its copy, and the process ended between the two. */
static void end_detached(struct engine *e)
{
	struct relationship *found;
	int r;

	do {
		found = NULL;
		index_each(&e->by_id[ENGINE_GROUP], find_detached, &found);
		r = found ? relation_end(e, found, false, 0) : 0;
	} while (found && r >= 0);
}

static void *run(void *opaque)
{
	struct engine *e = opaque;
	bool quit = false;

	index_each(&e->by_id[ENGINE_ELEMENT], make_volume, NULL);
	index_each(&e->by_id[ENGINE_PAIR], keep_for_restore, NULL);
	points_open_all(e);
	index_each(&e->by_id[ENGINE_ELEMENT], open_image, NULL);
	index_each(&e->by_id[ENGINE_PAIR], resume_restore, NULL);
	index_each(&e->by_id[ENGINE_ELEMENT], open_element, NULL);
	holds_start_all(e);
	index_each(&e->by_id[ENGINE_GROUP], attach_pairs, e);
	end_detached(e);
	while (!quit) {
		struct message *m = next_message(e, &quit);

		if (m)
			m->fn(e, m);
		fence_set_tick(e);
		tick(e);
	}
	return NULL;
}

/* ---- life ---------------------------------------------------------------- */

static void init_indexes(struct engine *e)
{
	for (int class = 0; class < ENGINE_N_CLASSES; class ++) {
		e->by_id[class] = INDEX_INIT(compare_ids);
		e->by_name[class] = INDEX_INIT(compare_names);
	}
	e->points = INDEX_INIT(compare_ids);
}

static void init_locks(struct engine *e)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&e->lock, NULL);
	pthread_mutex_init(&e->queue_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->queue_wakes, &attr);
	pthread_condattr_destroy(&attr);
	STAILQ_INIT(&e->queue);
	TAILQ_INIT(&e->calls);
	TAILQ_INIT(&e->claims);
	TAILQ_INIT(&e->holds);
	TAILQ_INIT(&e->instants);
	TAILQ_INIT(&e->fence_sets);
}

/* Where its file system is not mounted, all that lies in a pool would be taken for lost,
 * and what the store gives up meanwhile for left-over when it comes back. */
static int check_pool_is_there(struct engine *e, const struct config_pool *conf,
			       char *error, size_t size)
{
	int64_t n = store_pool_count(e->store, conf->name);

	if (n < 0)
		snprintf(error, size, "pool %s: the state store cannot be read: %s",
			 conf->name, strerror((int)-n));
	if (n <= 0 || pool_exists(conf->path))
		return n < 0 ? (int)n : 0;
	snprintf(error, size,
		 "pool %s: %s has no lunfs.pool, but by the state store %" PRId64
		 " images and points in time lie there; mount its file system, or, if "
		 "they are lost, make an empty file lunfs.pool there",
		 conf->name, conf->path, n);
	return -ENOENT;
}

int engine_open_pool(struct engine *e, const struct config_pool *conf,
		     struct strbuf *errors)
{
	struct pool_object *p = calloc(1, sizeof(*p));
	char error[512];
	int64_t id;
	int r;

	if (!p)
		return -ENOMEM;
	r = check_pool_is_there(e, conf, error, sizeof(error));
	if (r >= 0)
		r = pool_open(conf->name, conf->path, store_id(e->store), &p->pool, error,
			      sizeof(error));
	if (r < 0) {
		strbuf_addf(errors, "%s\n", error);
		free(p);
		return r;
	}
	store_begin(e->store);
	id = store_pool_id(e->store, conf->name);
	r = store_commit(e->store);
	p->obj.class = ENGINE_POOL;
	p->obj.id = id > 0 ? (uint64_t)id : 0;
	strcpy(p->obj.name, conf->name);
	p->engine = e;
	pool_space(p->pool, &p->total, &p->free_space);
	if (r >= 0) {
		engine_lock(e);
		r = object_add(e, &p->obj);
		engine_unlock(e);
	}
	if (r < 0) {
		strbuf_addf(errors, "pool %s: %s\n", conf->name, strerror(-r));
		pool_close(p->pool);
		free(p);
	}
	return r;
}

static int open_all(struct engine *e, struct strbuf *errors)
{
	char error[512];
	int r;

	r = pool_refuse_own_mount("state_dir", e->config->daemon.state_dir, error,
				  sizeof(error));
	if (r >= 0)
		r = store_open(e->config->daemon.state_dir, &e->store, error,
			       sizeof(error));
	if (r < 0) {
		strbuf_addf(errors, "%s\n", error);
		return r;
	}
	for (size_t i = 0; i < e->config->n_pools; i++) {
		int r1 = engine_open_pool(e, &e->config->pools[i], errors);

		if (r1 < 0)
			r = r1;
	}
	return r < 0 ? r : load_state(e, errors);
}

int engine_new(const struct config *config, struct engine **ret_engine, char **ret_error)
{
	struct engine *e = calloc(1, sizeof(*e));
	CLEANUP_STRBUF struct strbuf errors = STRBUF_INIT;
	int r;

	if (!e)
		return -ENOMEM;
	e->config = e->sections = config;
	init_indexes(e);
	init_locks(e);
	r = open_all(e, &errors);
	if (r < 0) {
		if (!errors.len)
			strbuf_addf(&errors, "%s: %s\n", config->daemon.state_dir,
				    strerror(-r));
		*ret_error = strbuf_steal(&errors);
		engine_free(e);
		return r;
	}
	*ret_engine = e;
	return 0;
}

static int start_threads(struct engine *e)
{
	unsigned n = e->config->daemon.io_threads;
	int r = bufpool_new(e->config->daemon.copy_memory, &e->bufs);

	if (r >= 0)
		r = workers_new("lunfs-disk",
				n < 4  ? 8 :
				n > 32 ? 64 :
					 2 * n,
				&e->workers);
	e->loops = calloc(n, sizeof(struct loop *));
	if (!e->loops)
		return -ENOMEM;
	for (unsigned i = 0; i < n && r >= 0; i++) {
		char name[16];

		snprintf(name, sizeof(name), "lunfs-loop%u", i % 100);
		r = loop_new(name, &e->loops[i]);
		e->n_loops += r >= 0;
	}
	if (r < 0)
		return r;
	return dataops_init(&e->dataops, e->bufs, e->workers, e->loops[0]);
}

struct marker {
	struct message m;
	bool done; /* atomic */
};

static void mark(struct engine *e, struct message *m)
{
	(void)e;
	__atomic_store_n(&((struct marker *)m)->done, true, __ATOMIC_RELEASE);
}

/* Waits until the thread has taken all messages posted before. */
static void drain(struct engine *e)
{
	struct marker marker = { .m.fn = mark };
	const struct timespec moment = { .tv_nsec = 1000000 };

	engine_post(e, &marker.m);
	while (!__atomic_load_n(&marker.done, __ATOMIC_ACQUIRE))
		nanosleep(&moment, NULL);
}

struct loop *const *engine_loops(const struct engine *e, unsigned *ret_n)
{
	*ret_n = e->n_loops;
	return e->loops;
}

int engine_start(struct engine *e)
{
	int r = start_threads(e);

	if (r >= 0)
		r = -pthread_create(&e->thread, NULL, run, e);
	if (r < 0)
		return r;
	pthread_setname_np(e->thread, "lunfs-engine");
	e->started = true;
	/* Images and elements can be read from now on. */
	drain(e);
	return 0;
}

struct stop_message {
	struct message m;
	struct strbuf *still_reserved;
};

static void stop_element(void *thing, void *opaque)
{
	struct element *el = thing;
	struct stop_message *stop = opaque;
	bool keep = element_in_relationship(el);
	struct image *image;
	int r;

	if (el->target_of)
		pair_detach(el->target_of);
	engine_lock(el->engine);
	image = el->image;
	if (image)
		image_ref(image);
	engine_unlock(el->engine);
	if (image) {
		r = image_checkpoint(image);
		image_unref(image);
		if (r < 0)
			log_error("%s: cannot sync the image: %s", el->obj.name,
				  strerror(-r));
	}
	if (keep && el->status.reserved && stop->still_reserved)
		strbuf_addf(stop->still_reserved, "%s\n", el->obj.name);
	/* A reservation for a copy does not outlive it. */
	element_close(el, !keep || hold_is_shared(el));
	/* What waits for the device ends. */
	if (el->volume)
		volume_kick(el->volume);
}

static void stop_restore(void *thing, void *opaque)
{
	(void)opaque;
	pair_stop_restore(thing);
}

static void stop_reading(void *thing, void *opaque)
{
	struct group *g = thing;

	(void)opaque;
	if (g->rel)
		relation_stop_reading(g->rel);
}

static void end_calls(struct engine *e, struct message *m)
{
	(void)m;
	index_each(&e->by_id[ENGINE_GROUP], stop_reading, NULL);
	instant_stop_all(e);
	holds_stop_all(e);
	replica_run_calls(e);
}

static void close_elements(struct engine *e, struct message *m)
{
	struct stop_message *stop = (struct stop_message *)m;

	index_each(&e->by_id[ENGINE_ELEMENT], stop_element, stop);
	/* Nothing reaches a source any more that was not restored. */
	index_each(&e->by_id[ENGINE_PAIR], stop_restore, NULL);
	elements_save_changed(e);
	if (store_end_run(e->store) < 0)
		log_warn("the state store cannot be written: the next start takes this for "
			 "a crash");
}

static bool nothing_held(struct engine *e)
{
	return !__atomic_load_n(&e->n_holds, __ATOMIC_ACQUIRE);
}

static bool all_closed(struct engine *e)
{
	return !__atomic_load_n(&e->n_closing, __ATOMIC_ACQUIRE) &&
	       !__atomic_load_n(&e->n_works, __ATOMIC_ACQUIRE) && nothing_held(e);
}

/* Messages are taken meanwhile. */
static void wait_for(struct engine *e, bool (*is_done)(struct engine *e), uint64_t ms)
{
	uint64_t until = timefmt_monotonic_ns() + ms * UINT64_C(1000000);
	const struct timespec moment = { .tv_nsec = 5000000 };

	while (!is_done(e) && timefmt_monotonic_ns() < until)
		nanosleep(&moment, NULL);
}

void engine_stop(struct engine *e, struct strbuf *still_reserved)
{
	struct stop_message stop = { .m.fn = close_elements,
				     .still_reserved = still_reserved };
	struct message end = { .fn = end_calls };
	struct message *m;
	bool quit;

	if (!e->started)
		return;
	pthread_mutex_lock(&e->queue_lock);
	e->stopping = true;
	pthread_mutex_unlock(&e->queue_lock);
	dataops_stop(&e->dataops);
	engine_post(e, &end);
	drain(e);
	/* A command that quiesces may be running, and its thaw be owed. */
	wait_for(e, nothing_held,
		 CLOSE_MS + UINT64_C(2) * e->config->daemon.fence_timeout_ms);
	engine_post(e, &stop.m);
	drain(e);
	wait_for(e, all_closed, CLOSE_MS);
	pthread_mutex_lock(&e->queue_lock);
	e->quit = true;
	pthread_cond_signal(&e->queue_wakes);
	pthread_mutex_unlock(&e->queue_lock);
	pthread_join(e->thread, NULL);
	e->started = false;
	/* What was posted after the last look. */
	while ((m = next_message(e, &quit)))
		m->fn(e, m);
	store_close(move_ptr(e->store));
}

static void free_pool(void *thing)
{
	struct pool_object *p = thing;

	pool_close(p->pool);
	free(p);
}

static void release_element(void *thing, void *opaque)
{
	struct element *el = thing;
	struct engine_handle *h;

	(void)opaque;
	while ((h = TAILQ_FIRST(&el->handles)))
		engine_data_close(h);
	image_unref(move_ptr(el->image));
	volume_unref(move_ptr(el->volume));
}

static void close_point(void *thing, void *opaque)
{
	(void)opaque;
	point_object_close(thing);
}

static void free_point(void *thing)
{
	point_object_free(thing);
}

void engine_free(struct engine *e)
{
	/* A device that did not close in time goes on using all of it: the process
	 * ends with it. */
	if (!e || !all_closed(e))
		return;
	holds_free_all(e);
	index_each(&e->points, close_point, NULL);
	index_each(&e->by_id[ENGINE_ELEMENT], release_element, NULL);
	workers_free(e->workers);
	if (e->dataops.loop)
		dataops_done(&e->dataops);
	for (unsigned i = 0; i < e->n_loops; i++)
		loop_free(e->loops[i]);
	bufpool_free(e->bufs);
	free(e->loops);
	free(e->unmade.ids);
	index_clear(&e->by_name[ENGINE_ELEMENT], NULL);
	index_clear(&e->by_name[ENGINE_GROUP], NULL);
	index_clear(&e->by_name[ENGINE_JOB], NULL);
	index_clear(&e->by_name[ENGINE_POOL], NULL);
	index_clear(&e->points, free_point);
	index_clear(&e->by_id[ENGINE_PAIR], NULL);
	index_clear(&e->by_id[ENGINE_GROUP], group_free);
	index_clear(&e->by_id[ENGINE_JOB], job_free);
	index_clear(&e->by_id[ENGINE_ELEMENT], element_free);
	index_clear(&e->by_id[ENGINE_POOL], free_pool);
	if (e->sections != e->config)
		config_free((struct config *)e->sections);
	store_close(e->store);
	pthread_cond_destroy(&e->queue_wakes);
	pthread_mutex_destroy(&e->queue_lock);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* ---- commands ------------------------------------------------------------ */

struct command_message {
	struct message m;
	struct engine_command *cmd;
};

static void run_command(struct engine *e, struct message *m)
{
	struct engine_command *cmd = ((struct command_message *)m)->cmd;

	free(m);
	command_run(e, cmd);
}

static void refuse(struct engine_command *cmd, int error, const char *why)
{
	outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, error, "%s", why);
	cmd->done(cmd);
}

/* False once the engine stops: behind the stop's message nothing is answered. */
static bool post_command(struct engine *e, struct message *m)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->queue_lock);

	if (e->stopping)
		return false;
	STAILQ_INSERT_TAIL(&e->queue, m, link);
	pthread_cond_signal(&e->queue_wakes);
	return true;
}

void engine_submit(struct engine *e, struct engine_command *cmd)
{
	struct command_message *m = calloc(1, sizeof(*m));

	cmd->engine = e;
	cmd->priv = NULL;
	outcome_ok(&cmd->outcome);
	if (!m) {
		refuse(cmd, ENOMEM, "out of memory; try again");
		return;
	}
	m->m.fn = run_command;
	m->cmd = cmd;
	if (!e->started || !post_command(e, &m->m)) {
		free(m);
		refuse(cmd, ENOTCONN, "LunFS is stopping");
	}
}

static void run_interrupt(struct engine *e, struct message *m)
{
	struct engine_command *cmd = ((struct command_message *)m)->cmd;

	free(m);
	replica_interrupt(e, cmd);
}

void engine_interrupt(struct engine *e, struct engine_command *cmd)
{
	struct command_message *m = calloc(1, sizeof(*m));

	if (!m)
		return;
	m->m.fn = run_interrupt;
	m->cmd = cmd;
	engine_post(e, &m->m);
}
