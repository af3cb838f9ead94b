/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_FAKE_ENGINE_H
#define LUNFS_FAKE_ENGINE_H

/*
 * What the files of the fake engine share: fake_engine.c (life, commands, the
 * thread), fake_object.c (objects, looking) and fake_data.c (data).
 */

#include <pthread.h>
#include <stdio.h>

#include "engine/engine.h"

enum {
	N_BUCKETS = 4096,
	N_STATES = 32,
	MAX_EVENTS = 64,
};

struct object {
	struct object *next; /* in its bucket */
	enum engine_class class;
	uint64_t id, parent;
	char name[NAME_ELEMENT_MAX_LEN + 1];
	unsigned n_handles;
	pid_t handle_pid;
	bool is_held; /* answers no data requests */

	/* Groups. */
	char *members; /* a line an item */
	char *spec;
	uint64_t entered[N_STATES]; /* sequence at which a CopyState began */

	union {
		struct element_info element;
		struct group_info group;
		struct pair_info pair;
		struct job_info job;
		struct pool_info pool;
	};
};

struct list {
	struct object **objects; /* by id - 1; NULL: gone */
	size_t n, size;
};

struct engine {
	const struct config *config;
	void (*fn)(void *opaque, const struct engine_event *event);
	void *opaque;
	pthread_t thread;
	bool is_running;
	FILE *log; /* of data requests; NULL: none */

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	struct list lists[ENGINE_N_CLASSES];
	struct object *buckets[N_BUCKETS];
	uint64_t sequence;
	struct engine_command *queue, **queue_end;
	struct engine_command *waiting; /* for a CopyState */
	struct engine_io *ios, **ios_end;
	struct engine_io *held; /* of elements that are held, the newest first */
	bool is_stopping;
	struct engine_event events[MAX_EVENTS];
	unsigned n_events;
};

struct engine_handle {
	struct engine *engine;
	uint64_t element;
	int fd;
};

/* With the engine's lock held, as all below. */
struct object *fake_find(struct engine *e, enum engine_class class, uint64_t parent,
			 const char *name);
struct object *fake_get(struct engine *e, enum engine_class class, uint64_t id);

struct object *fake_add(struct engine *e, enum engine_class class, uint64_t parent,
			const char *name);
struct object *fake_add_element(struct engine *e, const char *name, bool exclusive);
struct object *fake_add_group(struct engine *e, const char *name);
void fake_drop(struct engine *e, struct object *o, bool by_command);
void fake_object_free(struct object *o); /* takes NULL */

/* A login: a regular file has a size. */
void fake_log_in(struct engine *e, struct object *o, const char *url);

/* Events, for when the lock is free. */
struct engine_event *fake_note(struct engine *e, enum engine_event_kind kind,
			       const struct object *o);
void fake_note_files(struct engine *e, const struct object *o, uint64_t files);

int fake_check_state(const struct object *o, unsigned state, uint64_t since);

/* Carries out the first data request that is queued; the lock is free meanwhile. */
void fake_do_io(struct engine *e);

/* Queues the held data requests again that need not wait any longer. */
void fake_release(struct engine *e);

#endif
