/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "conf/cleanup.h"

enum { RESOLVER_STACK = 256 << 10 };

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_ENDED, JOB_CANCELLED };

struct resolver_job {
	struct loop_call call; /* first */
	struct resolver_job *next;
	struct loop *loop;
	void (*fn)(struct resolver_job *job, void *opaque);
	void *opaque;
	enum job_state state; /* under resolver_lock */
	char *host;
	int error; /* of getaddrinfo() */
	unsigned n;
	char addresses[RESOLVER_ADDRESSES][NI_MAXHOST];
};

static pthread_mutex_t resolver_lock = PTHREAD_MUTEX_INITIALIZER;
static struct resolver_job *queue_head, *queue_tail;
static unsigned n_threads;

static void free_job(struct resolver_job *job)
{
	free(job->host);
	free(job);
}

static void look_up(struct resolver_job *job)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM };
	struct addrinfo *list, *ai;

	job->error = getaddrinfo(job->host, NULL, &hints, &list);
	if (job->error != 0)
		return;
	for (ai = list; ai && job->n < RESOLVER_ADDRESSES; ai = ai->ai_next) {
		if (getnameinfo(ai->ai_addr, ai->ai_addrlen, job->addresses[job->n],
				NI_MAXHOST, NULL, 0, NI_NUMERICHOST) == 0)
			job->n++;
	}
	freeaddrinfo(list);
	if (job->n == 0)
		job->error = EAI_NONAME;
}

static void run_call(struct loop_call *call)
{
	struct resolver_job *job = (struct resolver_job *)call;

	job->fn(job, job->opaque);
	free_job(job);
}

static struct resolver_job *take_job_locked(void)
{
	struct resolver_job *job = queue_head;

	if (job) {
		queue_head = job->next;
		if (!queue_head)
			queue_tail = NULL;
		job->state = JOB_RUNNING;
	}
	return job;
}

static void *run(void *arg)
{
	struct resolver_job *job;

	(void)arg;
	pthread_mutex_lock(&resolver_lock);
	while ((job = take_job_locked())) {
		bool cancelled;

		pthread_mutex_unlock(&resolver_lock);
		look_up(job);
		pthread_mutex_lock(&resolver_lock);
		cancelled = job->state == JOB_CANCELLED;
		if (!cancelled)
			job->state = JOB_ENDED;
		pthread_mutex_unlock(&resolver_lock);
		if (cancelled)
			free_job(job);
		else
			loop_post(job->loop, &job->call);
		pthread_mutex_lock(&resolver_lock);
	}
	n_threads--;
	pthread_mutex_unlock(&resolver_lock);
	return NULL;
}

static int start_thread_locked(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, saved;
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, RESOLVER_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &saved);
	error = pthread_create(&thread, &attr, run, NULL);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	pthread_attr_destroy(&attr);
	if (error == 0)
		n_threads++;
	return -error;
}

int resolver_start(const char *host, struct loop *loop,
		   void (*fn)(struct resolver_job *job, void *opaque), void *opaque,
		   struct resolver_job **ret_job)
{
	struct resolver_job *job = calloc(1, sizeof(*job));

	if (!job)
		return -ENOMEM;
	job->host = strdup(host);
	if (!job->host) {
		free(job);
		return -ENOMEM;
	}
	job->call.fn = run_call;
	job->loop = loop;
	job->fn = fn;
	job->opaque = opaque;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&resolver_lock);
	if (n_threads < RESOLVER_THREADS) {
		int r = start_thread_locked();

		if (r < 0 && n_threads == 0) {
			free_job(job);
			return r;
		}
	}
	if (queue_tail)
		queue_tail->next = job;
	else
		queue_head = job;
	queue_tail = job;
	*ret_job = job;
	return 0;
}

static void unlink_job_locked(struct resolver_job *job)
{
	struct resolver_job *prev = NULL;

	for (struct resolver_job *at = queue_head; at != job; at = at->next)
		prev = at;
	if (prev)
		prev->next = job->next;
	else
		queue_head = job->next;
	if (queue_tail == job)
		queue_tail = prev;
}

bool resolver_cancel(struct resolver_job *job)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&resolver_lock);

	switch (job->state) {
	case JOB_QUEUED:
		unlink_job_locked(job);
		free_job(job);
		return true;
	case JOB_RUNNING:
		job->state = JOB_CANCELLED;
		return true;
	default:
		return false;
	}
}

const char *resolver_error(const struct resolver_job *job)
{
	return job->error == 0 ? NULL : gai_strerror(job->error);
}

unsigned resolver_count(const struct resolver_job *job)
{
	return job->n;
}

const char *resolver_address(const struct resolver_job *job, unsigned i)
{
	return job->addresses[i];
}
