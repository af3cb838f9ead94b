/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/inval.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "fs/node.h"

struct item {
	TAILQ_ENTRY(item) in_queue;
	bool is_data;
	enum engine_class class;
	uint64_t id, parent;
	char name[NAME_ELEMENT_MAX_LEN + 1];
};

struct inval {
	struct fs *fs;
	pthread_t thread;
	bool was_started;

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	TAILQ_HEAD(item_queue, item) queue;
	bool is_stopping;
};

struct inval *inval_new(struct fs *fs)
{
	struct inval *inval = calloc(1, sizeof(*inval));

	if (!inval)
		return NULL;
	inval->fs = fs;
	TAILQ_INIT(&inval->queue);
	pthread_mutex_init(&inval->lock, NULL);
	pthread_cond_init(&inval->changed, NULL);
	return inval;
}

static void add(struct inval *inval, struct item *item)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&inval->lock);

	if (inval->is_stopping) {
		free(item);
		return;
	}
	TAILQ_INSERT_TAIL(&inval->queue, item, in_queue);
	pthread_cond_signal(&inval->changed);
}

/* Without memory the kernel keeps what it has for the second it may. */
void inval_data(struct inval *inval, uint64_t element)
{
	struct item *item = calloc(1, sizeof(*item));

	if (!item)
		return;
	item->is_data = true;
	item->id = element;
	add(inval, item);
}

void inval_object(struct inval *inval, enum engine_class class, uint64_t id,
		  uint64_t parent, const char *name)
{
	struct item *item = calloc(1, sizeof(*item));

	if (!item)
		return;
	item->class = class;
	item->id = id;
	item->parent = parent;
	snprintf(item->name, sizeof(item->name), "%s", name);
	add(inval, item);
}

static int delete_name(struct fs *fs, const struct node *dir, const struct node *node,
		       const char *name)
{
	return fuse_lowlevel_notify_delete(fs->session, node_ino(dir), node_ino(node),
					   name, strlen(name));
}

/* A name that is in use keeps its directory from going: it has to go first.  An
 * attempt at the directory before that would not give it another. */
static void delete_files(struct fs *fs, const struct node *dir)
{
	unsigned n;
	const struct node_file *files = node_files(dir->class, &n);

	for (unsigned i = 0; i < n; i++) {
		struct node file = node_make(dir->class, dir->id, (int)i);

		if (files[i].kind != NODE_KIND_LINK)
			delete_name(fs, dir, &file, files[i].name);
	}
}

static void delete_waits(struct fs *fs, uint64_t group)
{
	struct node dir = node_make(ENGINE_GROUP, group, GROUP_WAIT);

	for (size_t i = 0; i < cim_copy_state.n_values; i++) {
		const struct cim_value *state = &cim_copy_state.values[i];
		struct node file = node_make(NODE_CLASS_WAIT, group, (int)state->number);

		delete_name(fs, &dir, &file, state->name);
	}
}

static void delete_object(struct fs *fs, const struct item *item)
{
	struct node node = node_make(item->class, item->id, NODE_SELF);
	struct node dir = item->class == ENGINE_PAIR ?
				  node_make(ENGINE_GROUP, item->parent, GROUP_PAIRS) :
				  node_container(item->class);

	if (item->class == ENGINE_GROUP)
		delete_waits(fs, item->id);
	delete_files(fs, &node);
	delete_name(fs, &dir, &node, item->name);
}

static void forget_data(struct fs *fs, uint64_t element)
{
	struct node node = node_make(ENGINE_ELEMENT, element, ELEMENT_DATA);

	fuse_lowlevel_notify_inval_inode(fs->session, node_ino(&node), 0, 0);
}

static struct item *next(struct inval *inval)
{
	struct item *item;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&inval->lock);
	while (!inval->is_stopping && TAILQ_EMPTY(&inval->queue))
		pthread_cond_wait(&inval->changed, &inval->lock);
	if (inval->is_stopping)
		return NULL;
	item = TAILQ_FIRST(&inval->queue);
	TAILQ_REMOVE(&inval->queue, item, in_queue);
	return item;
}

static void *inval_main(void *opaque)
{
	struct inval *inval = opaque;
	struct item *item;

	while ((item = next(inval))) {
		if (item->is_data)
			forget_data(inval->fs, item->id);
		else
			delete_object(inval->fs, item);
		free(item);
	}
	return NULL;
}

int inval_start(struct inval *inval)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&inval->thread, NULL, inval_main, inval);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	inval->was_started = !r;
	return -r;
}

void inval_stop(struct inval *inval)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&inval->lock);

	inval->is_stopping = true;
	pthread_cond_signal(&inval->changed);
}

int inval_join(struct inval *inval, const struct timespec *deadline)
{
	if (!inval->was_started)
		return 0;
	if (pthread_timedjoin_np(inval->thread, NULL, deadline))
		return -ETIMEDOUT;
	inval->was_started = false;
	return 0;
}

void inval_free(struct inval *inval)
{
	struct item *item;

	if (!inval)
		return;
	while ((item = TAILQ_FIRST(&inval->queue))) {
		TAILQ_REMOVE(&inval->queue, item, in_queue);
		free(item);
	}
	pthread_cond_destroy(&inval->changed);
	pthread_mutex_destroy(&inval->lock);
	free(inval);
}
