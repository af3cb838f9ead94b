/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/watch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "fs/content.h"
#include "fs/ctl.h"
#include "fs/inval.h"
#include "fs/node.h"
#include "fs/touch.h"
#include "fs/wait.h"

/*
 * The engine's thread drops stale renderings at once, so that whoever it answers
 * next reads the new state, and notes the change: one entry an object, to which
 * later changes are added while it waits.  The notifier takes all there are, in
 * the order of their first change.
 *
 * The two status files change with everything, and are told of at most once a
 * second.
 */
enum {
	N_BUCKETS = 1024,
	STATUS_NS = 1000000000,
};

struct change {
	TAILQ_ENTRY(change) in_queue;
	LIST_ENTRY(change) in_bucket;
	enum engine_class class;
	uint64_t id, parent;
	uint64_t files;
	bool is_removed, by_command, has_content, is_news;
	char name[NAME_ELEMENT_MAX_LEN + 1];
};

TAILQ_HEAD(change_queue, change);

struct watch {
	struct fs *fs;
	pthread_t thread;
	bool was_started;

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	struct change_queue queue;
	LIST_HEAD(, change) buckets[N_BUCKETS];
	bool has_interrupted, is_stopping;

	/* The notifier's. */
	bool status_is_due;
	uint64_t status_told_ns;
};

struct watch *watch_new(struct fs *fs)
{
	struct watch *w = calloc(1, sizeof(*w));
	pthread_condattr_t attr;

	if (!w)
		return NULL;
	w->fs = fs;
	TAILQ_INIT(&w->queue);
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attr);
	pthread_condattr_destroy(&attr);
	return w;
}

/* ---- the engine's threads ---------------------------------------------------- */

static struct change *find_or_make_locked(struct watch *w, const struct engine_event *e)
{
	unsigned bucket = (unsigned)(e->id + e->class * 131) % N_BUCKETS;
	struct change *c;

	LIST_FOREACH(c, &w->buckets[bucket], in_bucket)
	if (c->id == e->id && c->class == e->class)
		return c;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->class = e->class;
	c->id = e->id;
	LIST_INSERT_HEAD(&w->buckets[bucket], c, in_bucket);
	TAILQ_INSERT_TAIL(&w->queue, c, in_queue);
	pthread_cond_signal(&w->changed);
	return c;
}

static uint64_t states_of(enum engine_class class)
{
	return node_files_of_kind(class, NODE_KIND_STATE);
}

static bool is_news(const struct engine_event *e)
{
	return e->kind == ENGINE_EVENT_CREATED || e->kind == ENGINE_EVENT_REMOVED ||
	       (e->kind == ENGINE_EVENT_CHANGED && e->files & states_of(e->class));
}

static void drop_renderings(struct fs *fs, const struct engine_event *e)
{
	uint64_t kept = node_files_of_kind(e->class, NODE_KIND_PROGRESS) |
			node_files_of_kind(e->class, NODE_KIND_COUNTER);
	struct node node;

	if (e->kind == ENGINE_EVENT_CHANGED)
		for (uint64_t files = e->files & kept; files; files &= files - 1) {
			node = node_make(e->class, e->id, __builtin_ctzll(files));
			content_drop(fs, &node);
		}
	if (is_news(e)) {
		node = node_top(TOP_STATUS);
		content_drop(fs, &node);
		node = node_top(TOP_STATUS_JSON);
		content_drop(fs, &node);
	}
}

static void note_locked(struct watch *w, const struct engine_event *e)
{
	struct change *c;

	if (w->is_stopping)
		return;
	c = find_or_make_locked(w, e);
	if (!c)
		return;
	c->parent = e->parent;
	c->is_news |= is_news(e);
	memcpy(c->name, e->name, sizeof(c->name));
	switch (e->kind) {
	case ENGINE_EVENT_CREATED:
		break;
	case ENGINE_EVENT_CHANGED:
		c->files |= e->files;
		break;
	case ENGINE_EVENT_REMOVED:
		c->is_removed = true;
		c->by_command = e->by_command;
		break;
	case ENGINE_EVENT_CONTENT:
		c->has_content = true;
		break;
	}
}

void watch_on_event(void *opaque, const struct engine_event *event)
{
	struct fs *fs = opaque;

	drop_renderings(fs, event);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&fs->watch->lock);
	note_locked(fs->watch, event);
}

void watch_wake(struct watch *w)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&w->lock);

	w->has_interrupted = true;
	pthread_cond_signal(&w->changed);
}

/* ---- the notifier ------------------------------------------------------------ */

static void tell_files(struct fs *fs, const struct change *c)
{
	uint64_t states = states_of(c->class);
	uint64_t told = states | node_files_of_kind(c->class, NODE_KIND_PROGRESS);

	for (uint64_t files = c->files & told; files; files &= files - 1) {
		int file = __builtin_ctzll(files);
		struct node node = node_make(c->class, c->id, file);

		ctl_changed(fs, &node);
		touch_add(fs->touch, &node, states >> file & 1);
	}
}

static void tell(struct fs *fs, const struct change *c)
{
	const uint64_t attr_files =
		UINT64_C(1) << ELEMENT_SIZE | UINT64_C(1) << ELEMENT_ACCESS;

	if (c->is_removed)
		ctl_gone(fs, c->class, c->id);
	else
		tell_files(fs, c);
	if (c->class == ENGINE_GROUP)
		wait_check(fs, c->id);
	if (c->class == ENGINE_ELEMENT &&
	    (c->has_content || c->is_removed || c->files & attr_files))
		inval_data(fs->inval, c->id);
	if (c->is_removed && !c->by_command)
		inval_object(fs->inval, c->class, c->id, c->parent, c->name);
}

static void tell_status(struct watch *w)
{
	static const enum top_file files[] = { TOP_STATUS, TOP_STATUS_JSON };
	uint64_t now = timefmt_monotonic_ns();

	if (!w->status_is_due || now < w->status_told_ns + STATUS_NS)
		return;
	w->status_is_due = false;
	w->status_told_ns = now;
	for (unsigned i = 0; i < 2; i++) {
		struct node node = node_top(files[i]);

		ctl_changed(w->fs, &node);
		touch_add(w->fs->touch, &node, true);
	}
}

/* Until there is something to do, or the status files may be told of. */
static void sleep_locked(struct watch *w)
{
	uint64_t until = w->status_told_ns + STATUS_NS;
	struct timespec ts = {
		.tv_sec = (time_t)(until / 1000000000),
		.tv_nsec = (long)(until % 1000000000),
	};

	if (!w->status_is_due)
		pthread_cond_wait(&w->changed, &w->lock);
	else if (timefmt_monotonic_ns() < until)
		pthread_cond_timedwait(&w->changed, &w->lock, &ts);
}

/* Takes all changes; false: the end. */
static bool take(struct watch *w, struct change_queue *ret_queue)
{
	struct change *c;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&w->lock);
	if (!w->is_stopping && TAILQ_EMPTY(&w->queue) && !w->has_interrupted)
		sleep_locked(w);
	w->has_interrupted = false;
	TAILQ_FOREACH(c, &w->queue, in_queue)
		LIST_REMOVE(c, in_bucket);
	TAILQ_CONCAT(ret_queue, &w->queue, in_queue);
	return !w->is_stopping;
}

static void *watch_main(void *opaque)
{
	struct watch *w = opaque;
	struct change_queue queue = TAILQ_HEAD_INITIALIZER(queue);
	bool is_on = true;

	while (is_on) {
		struct change *c;

		is_on = take(w, &queue);
		wait_answer_interrupted(w->fs);
		while ((c = TAILQ_FIRST(&queue))) {
			TAILQ_REMOVE(&queue, c, in_queue);
			w->status_is_due |= c->is_news;
			if (is_on)
				tell(w->fs, c);
			free(c);
		}
		if (is_on)
			tell_status(w);
	}
	return NULL;
}

int watch_start(struct watch *w)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&w->thread, NULL, watch_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	w->was_started = !r;
	return -r;
}

void watch_stop(struct watch *w)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&w->lock);

	w->is_stopping = true;
	pthread_cond_signal(&w->changed);
}

int watch_join(struct watch *w, const struct timespec *deadline)
{
	if (!w->was_started)
		return 0;
	if (pthread_timedjoin_np(w->thread, NULL, deadline))
		return -ETIMEDOUT;
	w->was_started = false;
	return 0;
}

void watch_free(struct watch *w)
{
	struct change *c;

	if (!w)
		return;
	while ((c = TAILQ_FIRST(&w->queue))) {
		TAILQ_REMOVE(&w->queue, c, in_queue);
		free(c);
	}
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
