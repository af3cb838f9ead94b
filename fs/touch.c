/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/touch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <time.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "fs/toucher.h"
#include "fs/tree.h"

/*
 * Files to be touched wait in two lists, state before progress, each at most
 * once: a file that changes faster than it can be touched is touched less
 * often.  A token bucket lets through at most TOUCHES_PER_SECOND.  Each helper
 * has a thread, which takes the next file and waits for the helper's answer.
 *
 * The write of a touch takes the file's lock in the kernel, which a user's
 * parked write holds.  A file with a parked write is left for the answer.  A
 * user's write may still come between that look and the touch: then one helper
 * sleeps until that write is answered, and the other goes on.
 */
enum {
	N_BUCKETS = 1024,
	N_TOUCHERS = 2,
	TOUCHES_PER_SECOND = 500,
	BURST = 50,
	STACK_SIZE = 256 * 1024,
};

static const uint64_t TOUCH_NS = 1000000000 / TOUCHES_PER_SECOND;

struct pending {
	TAILQ_ENTRY(pending) in_list;
	LIST_ENTRY(pending) in_bucket;
	struct node node;
	uint64_t ino;
	bool is_queued; /* in one of the lists */
	bool is_state;
	unsigned n_parked; /* writes */
	bool is_put_off;   /* to be queued when the last of them is answered */
};

TAILQ_HEAD(pending_list, pending);

struct touch {
	struct fs *fs;

	/* Fixed. */
	struct toucher *touchers[N_TOUCHERS];
	pid_t pids[N_TOUCHERS];
	pthread_t threads[N_TOUCHERS];
	unsigned n_threads, n_started; /* n_started: threads take numbers, lock */

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	LIST_HEAD(, pending) buckets[N_BUCKETS];
	struct pending_list states, progress;
	bool is_stopping;
	uint64_t tokens_ns; /* nanoseconds of allowance */
	uint64_t refilled_ns;
};

int touch_new(struct fs *fs, struct touch **ret_touch)
{
	struct touch *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;
	int r = 0;

	if (!t)
		return -ENOMEM;
	t->fs = fs;
	TAILQ_INIT(&t->states);
	TAILQ_INIT(&t->progress);
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->changed, &attr);
	pthread_condattr_destroy(&attr);
	for (unsigned i = 0; !r && i < N_TOUCHERS; i++) {
		r = toucher_new(&t->touchers[i]);
		if (!r)
			t->pids[i] = toucher_pid(t->touchers[i]);
	}
	if (r < 0) {
		touch_free(t);
		return r;
	}
	*ret_touch = t;
	return 0;
}

/* ---- what waits -------------------------------------------------------------- */

static unsigned bucket_of(uint64_t ino)
{
	return (unsigned)((ino * UINT64_C(0x9E3779B97F4A7C15)) >> 54);
}

_Static_assert(N_BUCKETS == 1 << (64 - 54), "bucket_of() takes the upper bits");

static struct pending *find_locked(struct touch *t, uint64_t ino)
{
	struct pending *p;

	LIST_FOREACH(p, &t->buckets[bucket_of(ino)], in_bucket)
	if (p->ino == ino)
		return p;
	return NULL;
}

static struct pending *find_or_make_locked(struct touch *t, uint64_t ino)
{
	struct pending *p = find_locked(t, ino);

	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->ino = ino;
	LIST_INSERT_HEAD(&t->buckets[bucket_of(ino)], p, in_bucket);
	return p;
}

static struct pending_list *list_of(struct touch *t, const struct pending *p)
{
	return p->is_state ? &t->states : &t->progress;
}

static void dequeue_locked(struct touch *t, struct pending *p)
{
	if (!p->is_queued)
		return;
	TAILQ_REMOVE(list_of(t, p), p, in_list);
	p->is_queued = false;
}

static void queue_locked(struct touch *t, struct pending *p, bool is_state)
{
	if (p->is_queued && (p->is_state || !is_state))
		return;
	dequeue_locked(t, p);
	p->is_state = is_state;
	p->is_queued = true;
	TAILQ_INSERT_TAIL(list_of(t, p), p, in_list);
	pthread_cond_signal(&t->changed);
}

static void drop_locked(struct touch *t, struct pending *p)
{
	dequeue_locked(t, p);
	LIST_REMOVE(p, in_bucket);
	free(p);
}

void touch_add(struct touch *t, const struct node *node, bool is_state)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&t->lock);
	struct pending *p;

	if (t->is_stopping)
		return;
	p = find_or_make_locked(t, node_ino(node));
	if (!p)
		return;
	p->node = *node;
	if (p->n_parked)
		p->is_put_off = true;
	else
		queue_locked(t, p, is_state);
}

void touch_park(struct touch *t, uint64_t ino)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&t->lock);
	struct pending *p = find_or_make_locked(t, ino);

	if (!p)
		return;
	p->n_parked++;
	p->is_put_off |= p->is_queued;
	dequeue_locked(t, p);
}

void touch_unpark(struct touch *t, uint64_t ino)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&t->lock);
	struct pending *p = find_locked(t, ino);

	if (!p || !p->n_parked || --p->n_parked)
		return;
	if (p->is_put_off && !t->is_stopping) {
		p->is_put_off = false;
		queue_locked(t, p, true);
	} else {
		drop_locked(t, p);
	}
}

bool touch_is_own(struct touch *t, pid_t pid)
{
	for (unsigned i = 0; i < N_TOUCHERS; i++)
		if (t->pids[i] == pid) {
			toucher_was_opened(t->touchers[i]);
			return true;
		}
	return false;
}

/* ---- the threads ------------------------------------------------------------- */

/* Whether there is allowance for a touch now; else sleeps for a while. */
static bool may_touch_locked(struct touch *t)
{
	const uint64_t most = BURST * TOUCH_NS;
	uint64_t now = timefmt_monotonic_ns();
	uint64_t until;
	struct timespec ts;

	t->tokens_ns += now - t->refilled_ns;
	t->refilled_ns = now;
	if (t->tokens_ns > most)
		t->tokens_ns = most;
	if (t->tokens_ns >= TOUCH_NS) {
		t->tokens_ns -= TOUCH_NS;
		return true;
	}
	until = now + TOUCH_NS - t->tokens_ns;
	ts.tv_sec = (time_t)(until / 1000000000);
	ts.tv_nsec = (long)(until % 1000000000);
	pthread_cond_timedwait(&t->changed, &t->lock, &ts);
	return false;
}

/* Takes the next file, once there is one and it may be touched; false: the end. */
static bool next(struct touch *t, struct node *ret_node)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&t->lock);

	while (!t->is_stopping) {
		struct pending *p = TAILQ_FIRST(&t->states);

		if (!p)
			p = TAILQ_FIRST(&t->progress);
		if (!p) {
			pthread_cond_wait(&t->changed, &t->lock);
			continue;
		}
		if (!may_touch_locked(t))
			continue;
		*ret_node = p->node;
		drop_locked(t, p);
		return true;
	}
	return false;
}

static struct toucher *take_toucher(struct touch *t)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&t->lock);

	return t->touchers[t->n_started++];
}

static void *touch_main(void *opaque)
{
	struct touch *t = opaque;
	struct toucher *toucher = take_toucher(t);
	struct node node;
	int r = 0;

	while (r != -EPIPE && next(t, &node)) {
		CLEANUP_STRBUF struct strbuf path = STRBUF_INIT;

		if (tree_path(t->fs, &node, &path) >= 0) /* else it has gone */
			r = toucher_touch(toucher, path.s);
	}
	return NULL;
}

/* All signals are for other threads. */
int touch_start(struct touch *t)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r = 0;

	t->refilled_ns = timefmt_monotonic_ns();
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (!r && t->n_threads < N_TOUCHERS) {
		r = pthread_create(&t->threads[t->n_threads], &attr, touch_main, t);
		t->n_threads += !r;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

void touch_stop(struct touch *t)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&t->lock);

	t->is_stopping = true;
	pthread_cond_broadcast(&t->changed);
	for (unsigned i = 0; i < N_TOUCHERS; i++)
		if (t->touchers[i])
			toucher_stop(t->touchers[i]);
}

void touch_free(struct touch *t)
{
	if (!t)
		return;
	touch_stop(t);
	for (unsigned i = 0; i < t->n_threads; i++)
		pthread_join(t->threads[i], NULL);
	for (unsigned i = 0; i < N_TOUCHERS; i++)
		toucher_free(t->touchers[i]);
	for (unsigned i = 0; i < N_BUCKETS; i++)
		while (!LIST_EMPTY(&t->buckets[i]))
			drop_locked(t, LIST_FIRST(&t->buckets[i]));
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
