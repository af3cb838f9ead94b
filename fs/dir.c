/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/dir.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/name.h"
#include "conf/strbuf.h"
#include "fs/parked.h"
#include "fs/perm.h"
#include "fs/tree.h"

/* ---- listing ----------------------------------------------------------------- */

/* What an open directory held when it was read from its beginning: what comes
 * and goes in between neither repeats nor hides another entry. */
struct entry {
	size_t name; /* offset in names */
	struct node node;
};

struct dir {
	struct node node; /* fixed */

	pthread_mutex_t lock; /* of all below */
	bool was_listed;
	struct strbuf names; /* each with its NUL */
	struct entry *entries;
	size_t n, size;
	bool failed;
};

static struct dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct dir *)(uintptr_t)fi->fh;
}

static void dir_close(struct dir *d)
{
	pthread_mutex_lock(&d->lock); /* a read that was answered still unlocks */
	pthread_mutex_unlock(&d->lock);
	pthread_mutex_destroy(&d->lock);
	strbuf_done(&d->names);
	free(d->entries);
	free(d);
}

void dir_open(struct fs *fs, fuse_req_t req, const struct node *node,
	      struct fuse_file_info *fi)
{
	struct stat st;
	struct dir *d;
	int r;

	tree_mode(fs, node, &st);
	r = perm_check_req(req, &st, R_OK);
	if (!r && !node_is_static(node) &&
	    !engine_exists(fs->engine, node->class, node->id))
		r = -ESTALE;
	d = r ? NULL : calloc(1, sizeof(*d));
	if (!d) {
		fuse_reply_err(req, r ? -r : ENOMEM);
		return;
	}
	d->node = *node;
	d->names = STRBUF_INIT;
	pthread_mutex_init(&d->lock, NULL);
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi) < 0)
		dir_close(d);
}

void dir_release(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi)
{
	(void)fs;
	dir_close(dir_of(fi));
	fuse_reply_err(req, 0);
}

static void add_entry_locked(void *opaque, const char *name, const struct node *node)
{
	struct dir *d = opaque;

	if (d->n == d->size) {
		size_t size = d->size ? 2 * d->size : 64;
		struct entry *entries = realloc(d->entries, size * sizeof(*entries));

		if (!entries) {
			d->failed = true;
			return;
		}
		d->entries = entries;
		d->size = size;
	}
	d->entries[d->n++] = (struct entry){ .name = d->names.len, .node = *node };
	strbuf_add(&d->names, name, strlen(name) + 1);
}

/* A directory that has gone lists nothing. */
static int list_locked(struct fs *fs, struct dir *d)
{
	struct node parent = tree_parent(fs, &d->node);

	d->n = 0;
	d->failed = false;
	strbuf_reset(&d->names);
	add_entry_locked(d, ".", &d->node);
	add_entry_locked(d, "..", &parent);
	tree_list(fs, &d->node, add_entry_locked, d);
	d->was_listed = true;
	return d->failed || d->names.failed ? -ENOMEM : 0;
}

void dir_read(struct fs *fs, fuse_req_t req, size_t size, off_t offset,
	      struct fuse_file_info *fi)
{
	struct dir *d = dir_of(fi);
	CLEANUP_FREE char *buf = malloc(size);
	size_t used = 0;
	int r = 0;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	if (!offset || !d->was_listed)
		r = list_locked(fs, d);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	for (size_t i = offset < 0 ? d->n : (size_t)offset; i < d->n; i++) {
		const struct entry *entry = &d->entries[i];
		struct stat st;
		size_t n;

		tree_mode(fs, &entry->node, &st);
		n = fuse_add_direntry(req, buf + used, size - used,
				      d->names.s + entry->name, &st, (off_t)i + 1);
		if (n > size - used)
			break;
		used += n;
	}
	fuse_reply_buf(req, buf, used);
}

/* ---- mkdir and rmdir --------------------------------------------------------- */

/* The class of the objects that can be made and removed here; -EPERM. */
static int class_of_parent(const struct node *parent)
{
	enum engine_class class = node_container_class(parent);

	return class == ENGINE_ELEMENT || class == ENGINE_GROUP ? (int)class : -EPERM;
}

static int check_parent(struct fs *fs, fuse_req_t req, const struct node *parent)
{
	int class = class_of_parent(parent);
	struct stat st;
	int r;

	if (class < 0)
		return class;
	tree_mode(fs, parent, &st);
	r = perm_check_req(req, &st, W_OK | X_OK);
	return r < 0 ? r : class;
}

static void make_done(struct parked *p)
{
	struct node node = node_make(p->cmd.class, p->cmd.new_id, NODE_SELF);
	struct fuse_entry_param e;
	int r = -p->cmd.outcome.error;

	if (!r)
		r = tree_entry(p->fs, &node, false, &e);
	if (r < 0)
		fuse_reply_err(p->req, -r);
	else
		fuse_reply_entry(p->req, &e);
	free((char *)p->cmd.name);
	parked_free(p);
}

static int make(struct fs *fs, fuse_req_t req, enum engine_class class, const char *name)
{
	int r = name_check(name,
			   class == ENGINE_ELEMENT ? NAME_ELEMENT_MAX_LEN : NAME_MAX_LEN);
	struct parked *p;

	if (r < 0)
		return r;
	p = parked_new(fs, req);
	if (!p)
		return -ENOMEM;
	p->cmd.verb = ENGINE_CREATE;
	p->cmd.class = class;
	p->cmd.name = strdup(name);
	p->done = make_done;
	if (!p->cmd.name) {
		parked_free(p);
		return -ENOMEM;
	}
	parked_submit(p, false);
	return 0;
}

void dir_make(struct fs *fs, fuse_req_t req, const struct node *parent, const char *name)
{
	int r = check_parent(fs, req, parent);

	if (r > 0)
		r = make(fs, req, (enum engine_class)r, name);
	if (r < 0)
		fuse_reply_err(req, -r);
}

static void remove_done(struct parked *p)
{
	fuse_reply_err(p->req, p->cmd.outcome.error);
	parked_free(p);
}

static int remove_object(struct fs *fs, fuse_req_t req, enum engine_class class,
			 const char *name)
{
	uint64_t id = engine_find(fs->engine, class, 0, name);
	struct parked *p;

	if (!id)
		return -ENOENT;
	p = parked_new(fs, req);
	if (!p)
		return -ENOMEM;
	p->cmd.verb = ENGINE_REMOVE;
	p->cmd.class = class;
	p->cmd.id = id;
	p->done = remove_done;
	parked_submit(p, false);
	return 0;
}

void dir_remove(struct fs *fs, fuse_req_t req, const struct node *parent,
		const char *name)
{
	int r = check_parent(fs, req, parent);

	if (r > 0)
		r = remove_object(fs, req, (enum engine_class)r, name);
	if (r < 0)
		fuse_reply_err(req, -r);
}
