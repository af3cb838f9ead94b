/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A queue under one mutex and a set of threads that sleep on its condition.
 * The end: a thread leaves when the queue is empty, nobody runs anything (which
 * could submit more), and workers_free() was called.
 */

#include "engine/workers.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf/cleanup.h"

enum { WORKERS_MAX_THREADS = 64 };

struct workers {
	char name[13];

	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t wake;  /* work was queued, or the end was reached */
	struct work *first;
	struct work **last;
	unsigned n_sleeping;
	unsigned n_running;
	bool ending;

	unsigned n_threads; /* set before and used after the threads run */
	pthread_t threads[];
};

static struct work *workers_take_locked(struct workers *workers)
{
	struct work *work = workers->first;

	if (!work)
		return NULL;
	workers->first = work->next;
	if (!workers->first)
		workers->last = &workers->first;
	work->next = NULL;
	return work;
}

/* The next work, or NULL when the thread shall end. */
static struct work *workers_next_locked(struct workers *workers)
{
	for (;;) {
		struct work *work = workers_take_locked(workers);

		if (work || (workers->ending && workers->n_running == 0))
			return work;
		workers->n_sleeping++;
		pthread_cond_wait(&workers->wake, &workers->lock);
		workers->n_sleeping--;
	}
}

static void *workers_thread(void *opaque)
{
	struct workers *workers = opaque;
	struct work *work;

	pthread_mutex_lock(&workers->lock);
	while ((work = workers_next_locked(workers))) {
		workers->n_running++;
		pthread_mutex_unlock(&workers->lock);
		work->fn(work);
		pthread_mutex_lock(&workers->lock);
		workers->n_running--;
	}
	/* The others may sleep until the last one has stopped running. */
	pthread_cond_broadcast(&workers->wake);
	pthread_mutex_unlock(&workers->lock);
	return NULL;
}

/* Signals are for the thread that starts the workers. */
static int workers_start_thread(struct workers *workers, unsigned i)
{
	char name[16];
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&workers->threads[i], NULL, workers_thread, workers);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return -r;
	snprintf(name, sizeof(name), "%s-%u", workers->name, i % WORKERS_MAX_THREADS);
	pthread_setname_np(workers->threads[i], name);
	return 0;
}

int workers_new(const char *name, unsigned n_threads, struct workers **ret_workers)
{
	struct workers *workers;
	int r;

	if (n_threads < 1 || n_threads > WORKERS_MAX_THREADS)
		return -EINVAL;
	workers = calloc(1, sizeof(*workers) + n_threads * sizeof(workers->threads[0]));
	if (!workers)
		return -ENOMEM;
	snprintf(workers->name, sizeof(workers->name), "%s", name);
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->wake, NULL);
	workers->last = &workers->first;
	while (workers->n_threads < n_threads) {
		r = workers_start_thread(workers, workers->n_threads);
		if (r < 0) {
			workers_free(workers);
			return r;
		}
		workers->n_threads++;
	}
	*ret_workers = workers;
	return 0;
}

void workers_free(struct workers *workers)
{
	unsigned i;

	if (!workers)
		return;
	pthread_mutex_lock(&workers->lock);
	workers->ending = true;
	pthread_cond_broadcast(&workers->wake);
	pthread_mutex_unlock(&workers->lock);
	for (i = 0; i < workers->n_threads; i++)
		pthread_join(workers->threads[i], NULL);
	assert(!workers->first);
	pthread_cond_destroy(&workers->wake);
	pthread_mutex_destroy(&workers->lock);
	free(workers);
}

void workers_submit(struct workers *workers, struct work *work)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&workers->lock);

	work->next = NULL;
	*workers->last = work;
	workers->last = &work->next;
	if (workers->n_sleeping > 0)
		pthread_cond_signal(&workers->wake);
}
