/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "fs/perm.h"
#include "fs/poller.h"
#include "fs/tree.h"
#include "fs/watch.h"

/*
 * A waiting read is in one of three places: parked with its open file, in the
 * list of the interrupted, or in the hands of one thread that answers it.  The
 * lock decides who takes it out; who has taken it out answers it.
 *
 * A signal calls interrupted() with the request's lock held, where no reply is
 * possible: the notifier answers.  fuse_req_interrupt_func(req, NULL, NULL)
 * waits for a running interrupted(), after it the read may be freed (as in
 * parked.c).
 */
enum {
	N_BUCKETS = 1024,
};

struct wait_read {
	LIST_ENTRY(wait_read) in_list;
	struct waits *waits;
	struct fs *fs;
	struct wait_file *file;
	fuse_req_t req;
	size_t size;
	off_t offset;
	bool is_parked, is_interrupted;
	int result;
};

LIST_HEAD(wait_reads, wait_read);

struct wait_file {
	/* Fixed. */
	uint64_t group;
	unsigned state;
	uint64_t since;

	/* The table's lock. */
	LIST_ENTRY(wait_file) in_bucket;
	struct wait_reads reads;
	struct poller *poller;
	bool was_answered;
};

struct waits {
	pthread_mutex_t lock;
	LIST_HEAD(, wait_file) buckets[N_BUCKETS];
	struct wait_reads interrupted;
	bool is_shut_down;
};

struct waits *wait_new(void)
{
	struct waits *w = calloc(1, sizeof(*w));

	if (w)
		pthread_mutex_init(&w->lock, NULL);
	return w;
}

static void free_reads(struct wait_reads *reads)
{
	while (!LIST_EMPTY(reads)) {
		struct wait_read *r = LIST_FIRST(reads);

		LIST_REMOVE(r, in_list);
		free(r);
	}
}

/* What is still there was open when the connection broke. */
void wait_free(struct waits *w)
{
	if (!w)
		return;
	for (unsigned i = 0; i < N_BUCKETS; i++)
		while (!LIST_EMPTY(&w->buckets[i])) {
			struct wait_file *f = LIST_FIRST(&w->buckets[i]);

			LIST_REMOVE(f, in_bucket);
			free_reads(&f->reads);
			poller_free(f->poller);
			free(f);
		}
	free_reads(&w->interrupted);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static unsigned bucket_of(uint64_t group)
{
	return (unsigned)(group % N_BUCKETS);
}

static struct wait_file *file_of(const struct fuse_file_info *fi)
{
	return (struct wait_file *)(uintptr_t)fi->fh;
}

/* ---- open and release -------------------------------------------------------- */

static void file_close(struct waits *w, struct wait_file *f)
{
	pthread_mutex_lock(&w->lock);
	LIST_REMOVE(f, in_bucket);
	pthread_mutex_unlock(&w->lock);
	poller_free(f->poller);
	free(f);
}

void wait_open(struct fs *fs, fuse_req_t req, const struct node *node,
	       struct fuse_file_info *fi)
{
	struct wait_file *f;
	struct stat st;
	int r;

	tree_mode(fs, node, &st);
	r = perm_check_req(req, &st, (fi->flags & O_ACCMODE) == O_RDONLY ? R_OK : W_OK);
	if (!r && !engine_exists(fs->engine, ENGINE_GROUP, node->id))
		r = -ESTALE;
	f = r ? NULL : calloc(1, sizeof(*f));
	if (!f) {
		fuse_reply_err(req, r ? -r : ENOMEM);
		return;
	}
	f->group = node->id;
	f->state = (unsigned)node->file;
	f->since = engine_sequence(fs->engine);
	pthread_mutex_lock(&fs->waits->lock);
	LIST_INSERT_HEAD(&fs->waits->buckets[bucket_of(f->group)], f, in_bucket);
	pthread_mutex_unlock(&fs->waits->lock);
	fi->fh = (uintptr_t)f;
	fi->direct_io = 1;
	if (fuse_reply_open(req, fi) < 0)
		file_close(fs->waits, f);
}

void wait_release(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi)
{
	file_close(fs->waits, file_of(fi));
	fuse_reply_err(req, 0);
}

/* ---- read -------------------------------------------------------------------- */

/* 1: to be answered with the state's name; 0: not yet; -errno. */
static int check_locked(struct fs *fs, const struct wait_file *f)
{
	int r;

	if (fs->waits->is_shut_down)
		return -ENOTCONN;
	r = engine_wait_check(fs->engine, f->group, f->state, f->since);
	return r == -ENODEV ? -EIO : r;
}

static void reply_state(fuse_req_t req, unsigned state, size_t size, off_t offset)
{
	char text[64];
	size_t len = (size_t)snprintf(text, sizeof(text), "%s\n",
				      cim_name(&cim_copy_state, state));

	if (offset < 0 || (size_t)offset >= len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, text + offset,
			       len - (size_t)offset < size ? len - (size_t)offset : size);
}

/* The read is in nobody's list; its file stays open until it is answered. */
static void answer(struct wait_read *r)
{
	unsigned state = r->file->state;

	fuse_req_interrupt_func(r->req, NULL, NULL);
	if (r->result < 0)
		fuse_reply_err(r->req, -r->result);
	else
		reply_state(r->req, state, r->size, r->offset);
	free(r);
}

static void answer_all(struct wait_reads *reads)
{
	while (!LIST_EMPTY(reads)) {
		struct wait_read *r = LIST_FIRST(reads);

		LIST_REMOVE(r, in_list);
		answer(r);
	}
}

static void interrupted(fuse_req_t req, void *opaque)
{
	struct wait_read *r = opaque;
	struct waits *w = r->waits;
	bool was_parked;

	(void)req;
	pthread_mutex_lock(&w->lock);
	r->is_interrupted = true;
	was_parked = r->is_parked;
	if (was_parked) {
		r->is_parked = false;
		r->result = -EINTR;
		LIST_REMOVE(r, in_list);
		LIST_INSERT_HEAD(&w->interrupted, r, in_list);
	}
	pthread_mutex_unlock(&w->lock);
	if (was_parked)
		watch_wake(r->fs->watch);
}

void wait_answer_interrupted(struct fs *fs)
{
	struct wait_reads reads = LIST_HEAD_INITIALIZER(reads);
	struct wait_read *r;

	pthread_mutex_lock(&fs->waits->lock);
	while ((r = LIST_FIRST(&fs->waits->interrupted))) {
		LIST_REMOVE(r, in_list);
		LIST_INSERT_HEAD(&reads, r, in_list);
	}
	pthread_mutex_unlock(&fs->waits->lock);
	answer_all(&reads);
}

/* Whether the read is parked now; else it is the caller's, with its result.
 * What changes after this check finds it in the table. */
static bool park(struct fs *fs, struct wait_read *r, bool may_wait)
{
	struct wait_file *f = r->file;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&fs->waits->lock);
	r->result = check_locked(fs, f);
	if (r->result > 0)
		f->was_answered = true;
	else if (!r->result && r->is_interrupted)
		r->result = -EINTR;
	else if (!r->result && !may_wait)
		r->result = -EAGAIN;
	if (r->result)
		return false;
	r->is_parked = true;
	LIST_INSERT_HEAD(&f->reads, r, in_list);
	return true;
}

static bool was_answered(struct waits *w, const struct wait_file *f)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&w->lock);

	return f->was_answered;
}

void wait_read(struct fs *fs, fuse_req_t req, size_t size, off_t offset,
	       struct fuse_file_info *fi)
{
	struct wait_file *f = file_of(fi);
	struct wait_read *r;

	/* The rest of an answer, and its end. */
	if (offset > 0 && was_answered(fs->waits, f)) {
		reply_state(req, f->state, size, offset);
		return;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	r->waits = fs->waits;
	r->fs = fs;
	r->file = f;
	r->req = req;
	r->size = size;
	r->offset = offset;
	fuse_req_interrupt_func(req, interrupted, r);
	if (!park(fs, r, !(fi->flags & O_NONBLOCK)))
		answer(r);
}

/* ---- poll -------------------------------------------------------------------- */

/* Readable when a read would not wait. */
void wait_poll(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi,
	       struct fuse_pollhandle *ph)
{
	struct wait_file *f = file_of(fi);
	unsigned events = 0;
	int r = 0, state;

	pthread_mutex_lock(&fs->waits->lock);
	if (ph)
		r = poller_add(&f->poller, ph);
	state = check_locked(fs, f);
	pthread_mutex_unlock(&fs->waits->lock);
	if (state)
		events = POLLIN | POLLRDNORM;
	if (state < 0)
		events |= POLLERR | POLLHUP;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_poll(req, events);
}

/* ---- what wakes -------------------------------------------------------------- */

static void check_file_locked(struct fs *fs, struct wait_file *f,
			      struct wait_reads *reads, struct poller **pollers)
{
	int result;
	struct wait_read *r;

	if (LIST_EMPTY(&f->reads) && !f->poller)
		return;
	result = check_locked(fs, f);
	if (!result)
		return;
	poller_take(&f->poller, pollers);
	f->was_answered |= result > 0 && !LIST_EMPTY(&f->reads);
	while ((r = LIST_FIRST(&f->reads))) {
		LIST_REMOVE(r, in_list);
		r->is_parked = false;
		r->result = result;
		LIST_INSERT_HEAD(reads, r, in_list);
	}
}

static void check_bucket(struct fs *fs, unsigned bucket, uint64_t group)
{
	struct wait_reads reads = LIST_HEAD_INITIALIZER(reads);
	struct poller *pollers = NULL;
	struct wait_file *f;

	pthread_mutex_lock(&fs->waits->lock);
	LIST_FOREACH(f, &fs->waits->buckets[bucket], in_bucket)
	if (!group || f->group == group)
		check_file_locked(fs, f, &reads, &pollers);
	pthread_mutex_unlock(&fs->waits->lock);
	answer_all(&reads);
	poller_wake(pollers);
}

void wait_check(struct fs *fs, uint64_t group)
{
	check_bucket(fs, bucket_of(group), group);
}

void wait_shutdown(struct fs *fs)
{
	pthread_mutex_lock(&fs->waits->lock);
	fs->waits->is_shut_down = true;
	pthread_mutex_unlock(&fs->waits->lock);
	for (unsigned i = 0; i < N_BUCKETS; i++)
		check_bucket(fs, i, 0);
	wait_answer_interrupted(fs);
}
