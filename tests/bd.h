/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_BD_H
#define LUNFS_TESTS_BD_H

/* What the tests of back ends share: a device with an owner that counts and can
 * refuse, and requests that are waited for. */

#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/cleanup.h"
#include "conf/config.h"
#include "engine/blockdev.h"

enum { BD_TEST_DEADLINE_S = 20 };

struct owner {
	struct blockdev *bd;
	pthread_mutex_t lock;
	pthread_cond_t cond; /* anything below has changed */
	unsigned n_identified;
	unsigned n_changed;
	uint64_t size_wanted; /* another one is refused; 0 = any */
	bool closed;
};

struct call {
	struct bd_req req;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int error;
	unsigned n_done;
};

static inline struct timespec bd_test_deadline(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += BD_TEST_DEADLINE_S;
	return t;
}

static inline int owner_identify(void *opaque, const struct bd_info *info, char *error,
				 size_t error_size)
{
	struct owner *o = opaque;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&o->lock);

	o->n_identified++;
	if (!o->size_wanted || o->size_wanted == info->size)
		return 0;
	snprintf(error, error_size, "size changed to %llu",
		 (unsigned long long)info->size);
	return -EINVAL;
}

static inline void owner_changed(void *opaque)
{
	struct owner *o = opaque;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&o->lock);

	o->n_changed++;
	pthread_cond_broadcast(&o->cond);
}

static inline void owner_closed(void *opaque)
{
	struct owner *o = opaque;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&o->lock);

	o->closed = true;
	pthread_cond_broadcast(&o->cond);
}

static inline void owner_init(struct owner *o)
{
	memset(o, 0, sizeof(*o));
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->cond, NULL);
}

/* p: what differs from a device of that URL with this owner. */
static inline int owner_open(struct owner *o, struct bd_params p, const char *text,
			     char *error, size_t error_size)
{
	struct config_url *url = calloc(1, sizeof(*url));
	int r;

	setenv("LUNFS_TEST_BACKENDS", "1", 1);
	ck_assert_int_eq(config_parse_url(text, url, error, error_size), 0);
	p.name = "db0";
	p.url = url;
	p.watcher = (struct bd_watcher){ owner_identify, owner_changed, o };
	r = bd_open(&p, &o->bd, error, error_size);
	free(url);
	return r;
}

/* Waits for a state; false after the deadline. */
static inline bool owner_wait_state(struct owner *o, enum bd_state state)
{
	struct timespec deadline = bd_test_deadline();
	struct bd_status status;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&o->lock);

	for (;;) {
		bd_get_status(o->bd, &status);
		if (status.state == state)
			return true;
		if (pthread_cond_timedwait(&o->cond, &o->lock, &deadline))
			return false;
	}
}

static inline void owner_close(struct owner *o)
{
	struct timespec deadline = bd_test_deadline();

	bd_close(o->bd, true, owner_closed, o);

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&o->lock);

	while (!o->closed)
		ck_assert_int_eq(pthread_cond_timedwait(&o->cond, &o->lock, &deadline),
				 0);
	o->bd = NULL;
}

static inline void call_done(struct bd_req *req, int error)
{
	struct call *c = req->opaque;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	c->done = true;
	c->n_done++;
	c->error = error;
	pthread_cond_broadcast(&c->cond);
}

static inline void call_start(struct call *c, struct blockdev *bd, enum bd_op op,
			      unsigned flags, uint64_t offset, uint64_t length, void *buf)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->cond, NULL);
	c->req = (struct bd_req){ .op = op,
				  .flags = flags,
				  .offset = offset,
				  .length = length,
				  .buf = op == BD_EXTENTS ? NULL : buf,
				  .extents = op == BD_EXTENTS ? buf : NULL,
				  .done = call_done,
				  .opaque = c };
	bd_submit(bd, &c->req);
}

static inline bool call_is_done(struct call *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	return c->done;
}

static inline int call_wait(struct call *c)
{
	struct timespec deadline = bd_test_deadline();

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	while (!c->done)
		ck_assert_int_eq(pthread_cond_timedwait(&c->cond, &c->lock, &deadline),
				 0);
	ck_assert_uint_eq(c->n_done, 1);
	return c->error;
}

static inline int call(struct blockdev *bd, enum bd_op op, uint64_t offset,
		       uint64_t length, void *buf)
{
	struct call c;

	call_start(&c, bd, op, 0, offset, length, buf);
	return call_wait(&c);
}

#endif
