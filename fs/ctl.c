/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "fs/content.h"
#include "fs/ctltext.h"
#include "fs/parked.h"
#include "fs/perm.h"
#include "fs/poller.h"
#include "fs/render.h"
#include "fs/touch.h"
#include "fs/tree.h"

/*
 * Open control files stand in a hash by inode number, so that a change finds
 * those it concerns.  The kernel lets one write at a time into a file, but reads
 * of the same open run beside it.
 *
 * poll, as kernfs has it: a change since this open's last read (or the open) is
 * POLLPRI|POLLERR; reading and writing are always possible.
 */
enum {
	N_BUCKETS = 1024,
	WRITE_MAX = 65536,
};

/* What the writes to `spec` through one open have led to. */
enum spec_state {
	SPEC_NONE,
	SPEC_INTERRUPTED, /* the wait was; the same text goes on waiting */
	SPEC_ACCEPTED,
};

struct ctl_file {
	/* Fixed. */
	struct node node;
	uint64_t ino;
	int flags; /* of open(2) */

	pthread_mutex_t lock; /* up to the next blank line */
	struct ctltext text;
	bool was_written; /* a write has succeeded */
	enum spec_state spec_state;

	/* The table's lock. */
	LIST_ENTRY(ctl_file) in_bucket;
	bool is_changed, is_gone;
	struct poller *poller;
};

struct ctl {
	pthread_mutex_t lock;
	LIST_HEAD(, ctl_file) buckets[N_BUCKETS];
	bool is_shut_down;
};

struct ctl *ctl_new(void)
{
	struct ctl *ctl = calloc(1, sizeof(*ctl));

	if (ctl)
		pthread_mutex_init(&ctl->lock, NULL);
	return ctl;
}

static void file_free(struct ctl_file *f)
{
	poller_free(f->poller);
	ctltext_done(&f->text);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* Files that are still in it were open when the connection broke. */
void ctl_free(struct ctl *ctl)
{
	if (!ctl)
		return;
	for (unsigned i = 0; i < N_BUCKETS; i++)
		while (!LIST_EMPTY(&ctl->buckets[i])) {
			struct ctl_file *f = LIST_FIRST(&ctl->buckets[i]);

			LIST_REMOVE(f, in_bucket);
			file_free(f);
		}
	pthread_mutex_destroy(&ctl->lock);
	free(ctl);
}

static unsigned bucket_of(uint64_t ino)
{
	return (unsigned)((ino * UINT64_C(0x9E3779B97F4A7C15)) >> 54);
}

_Static_assert(N_BUCKETS == 1 << (64 - 54), "bucket_of() takes the upper bits");

static struct ctl_file *file_of(const struct fuse_file_info *fi)
{
	return (struct ctl_file *)(uintptr_t)fi->fh;
}

static bool node_exists(struct fs *fs, const struct node *node)
{
	return node_is_static(node) || engine_exists(fs->engine, node->class, node->id);
}

/* ---- open and release -------------------------------------------------------- */

static struct ctl_file *file_new(struct fs *fs, const struct node *node, int flags)
{
	struct ctl_file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->node = *node;
	f->ino = node_ino(node);
	f->flags = flags;
	pthread_mutex_init(&f->lock, NULL);

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&fs->ctl->lock);
	LIST_INSERT_HEAD(&fs->ctl->buckets[bucket_of(f->ino)], f, in_bucket);
	return f;
}

static void file_close(struct fs *fs, struct ctl_file *f)
{
	pthread_mutex_lock(&fs->ctl->lock);
	LIST_REMOVE(f, in_bucket);
	pthread_mutex_unlock(&fs->ctl->lock);
	/* The read that was just answered may still be about to unlock. */
	pthread_mutex_lock(&f->lock);
	pthread_mutex_unlock(&f->lock);
	file_free(f);
}

static int render_locked(struct fs *fs, struct ctl_file *f)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	int64_t time_ms;
	size_t len;
	char *text;
	int r;

	/* A change after this point is one since the last read. */
	pthread_mutex_lock(&fs->ctl->lock);
	f->is_changed = false;
	pthread_mutex_unlock(&fs->ctl->lock);
	r = content_get(fs, &f->node, &b, &time_ms);
	if (r < 0)
		return r;
	len = b.len;
	text = strbuf_steal(&b);
	if (!text)
		return -ENOMEM;
	ctltext_set_snapshot(&f->text, text, len);
	return 0;
}

static int wanted_access(int flags)
{
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		return R_OK;
	case O_WRONLY:
		return W_OK;
	default:
		return R_OK | W_OK;
	}
}

/* ESTALE makes the kernel look the name up again, which gives ENOENT. */
static int open_file(struct fs *fs, const struct node *node, int flags,
		     struct ctl_file **ret_file)
{
	struct ctl_file *f = file_new(fs, node, flags);
	int r = 0;

	if (!f)
		return -ENOMEM;
	pthread_mutex_lock(&f->lock);
	if (wanted_access(flags) & R_OK)
		r = render_locked(fs, f);
	else if (!node_exists(fs, node))
		r = -ENOENT;
	pthread_mutex_unlock(&f->lock);
	if (r < 0) {
		file_close(fs, f);
		return r == -ENOENT ? -ESTALE : r;
	}
	*ret_file = f;
	return 0;
}

void ctl_open(struct fs *fs, fuse_req_t req, const struct node *node,
	      struct fuse_file_info *fi)
{
	struct ctl_file *f = NULL;
	struct stat st;
	int r = 0;

	if (!touch_is_own(fs->touch, fuse_req_ctx(req)->pid)) {
		tree_mode(fs, node, &st);
		r = perm_check_req(req, &st, wanted_access(fi->flags));
		if (!r)
			r = open_file(fs, node, fi->flags, &f);
	}
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = (uintptr_t)f;
	fi->direct_io = 1;
	if (fuse_reply_open(req, fi) < 0 && f) /* interrupted: no release follows */
		file_close(fs, f);
}

void ctl_release(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi)
{
	if (fi->fh)
		file_close(fs, file_of(fi));
	fuse_reply_err(req, 0);
}

/* ---- read -------------------------------------------------------------------- */

/* What a removed object's file held is gone too, but a write's own result is the
 * answer to the write. */
static int prepare_locked(struct fs *fs, struct ctl_file *f, off_t offset)
{
	int r = 0;

	if (ctltext_wants_snapshot(&f->text, (uint64_t)offset))
		r = render_locked(fs, f);
	else if (!f->text.own && !node_exists(fs, &f->node))
		r = -ENOENT;
	return r == -ENOENT ? -ENODEV : r;
}

void ctl_read(struct fs *fs, fuse_req_t req, size_t size, off_t offset,
	      struct fuse_file_info *fi)
{
	struct ctl_file *f = file_of(fi);
	const char *bytes;
	size_t n;
	int r;

	if (!f || offset < 0) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
	r = prepare_locked(fs, f, offset);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	n = ctltext_read(&f->text, (uint64_t)offset, size, &bytes);
	fuse_reply_buf(req, bytes, n);
}

/* ---- write ------------------------------------------------------------------- */

static bool is_spec(const struct node *node)
{
	return node->class == ENGINE_GROUP && node->file == GROUP_SPEC;
}

static void set_own_locked(struct ctl_file *f, const struct outcome *outcome, pid_t pid)
{
	struct engine_result result = {
		.outcome = *outcome,
		.when_ms = timefmt_now_ms(),
		.pid = pid,
	};
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	size_t len;
	char *text;

	if ((f->flags & O_ACCMODE) != O_RDWR)
		return;
	render_result(&b, &result);
	len = b.len;
	text = strbuf_steal(&b);
	if (text)
		ctltext_set_own(&f->text, text, len);
}

/* A write that the engine need not see. */
static void refuse(struct fs *fs, fuse_req_t req, struct ctl_file *f,
		   const struct outcome *outcome)
{
	pid_t pid = fuse_req_ctx(req)->pid;

	pthread_mutex_lock(&f->lock);
	set_own_locked(f, outcome, pid);
	pthread_mutex_unlock(&f->lock);
	engine_note_result(fs->engine, f->node.class, f->node.id, outcome, pid);
	fuse_reply_err(req, outcome->error);
}

static void note_outcome_locked(struct ctl_file *f, const struct outcome *outcome,
				bool was_submitted)
{
	if (outcome_is_success(outcome))
		f->was_written = true;
	if (!is_spec(&f->node) || !was_submitted)
		return;
	/* An interrupted call is this open's one call, whatever is refused after
	 * it; one that was interrupted before it made anything is none. */
	if (outcome_is_success(outcome))
		f->spec_state = SPEC_ACCEPTED;
	else if (outcome->code == CIM_RETURN_JOB_STARTED)
		f->spec_state = SPEC_INTERRUPTED;
}

static void write_done(struct parked *p)
{
	struct ctl_file *f = p->opaque;
	const struct outcome *outcome = &p->cmd.outcome;
	uint64_t ino = f->ino;
	struct fs *fs = p->fs;

	pthread_mutex_lock(&f->lock);
	set_own_locked(f, outcome, p->cmd.pid);
	note_outcome_locked(f, outcome, p->was_submitted);
	pthread_mutex_unlock(&f->lock);
	/* From the reply on, f may be released. */
	if (outcome_is_success(outcome))
		fuse_reply_write(p->req, p->cmd.len);
	else
		fuse_reply_err(p->req, outcome->error);
	touch_unpark(fs->touch, ino);
	free((char *)p->cmd.text);
	parked_free(p);
}

/* The command of a write; NULL: no memory. */
static struct parked *write_command(struct fs *fs, fuse_req_t req, struct ctl_file *f,
				    const char *buf, size_t size)
{
	CLEANUP_FREE char *text = malloc(size + 1);
	struct parked *p;

	if (!text)
		return NULL;
	memcpy(text, buf, size);
	text[size] = '\0';
	p = parked_new(fs, req);
	if (!p)
		return NULL;
	p->cmd.verb = ENGINE_WRITE;
	p->cmd.class = f->node.class;
	p->cmd.id = f->node.id;
	p->cmd.file = (unsigned)f->node.file;
	p->cmd.text = move_ptr(text);
	p->cmd.len = size;
	p->done = write_done;
	p->opaque = f;
	return p;
}

/* What has to be refused before the engine is asked; 0 with the two flags. */
static int check_write(struct ctl_file *f, size_t size, struct outcome *outcome,
		       bool *ret_append, bool *ret_again)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);

	if (size > WRITE_MAX)
		return outcome_fail(outcome, CIM_RETURN_INVALID_PARAMETER, E2BIG,
				    "a write of %zu bytes: one takes at most %d", size,
				    WRITE_MAX);
	if (f->spec_state == SPEC_ACCEPTED)
		return outcome_fail(
			outcome, CIM_RETURN_INVALID_PARAMETER, EINVAL,
			"a second write after the accepted call, which stands: one "
			"write is one call, and echo and printf of bash send several "
			"lines one by one; open spec again for another, or end this "
			"one by control");
	*ret_append = f->flags & O_APPEND || f->was_written;
	*ret_again = f->spec_state == SPEC_INTERRUPTED;
	return 0;
}

void ctl_write(struct fs *fs, fuse_req_t req, const char *buf, size_t size,
	       struct fuse_file_info *fi)
{
	struct ctl_file *f = file_of(fi);
	struct outcome outcome;
	bool append = false, again = false;
	struct parked *p;

	if (!f) { /* a toucher's byte */
		fuse_reply_write(req, size);
		return;
	}
	if (!node_exists(fs, &f->node)) {
		fuse_reply_err(req, ENODEV);
		return;
	}
	if (check_write(f, size, &outcome, &append, &again)) {
		refuse(fs, req, f, &outcome);
		return;
	}
	p = write_command(fs, req, f, buf, size);
	if (!p) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	p->cmd.append = append;
	p->cmd.again = again;
	touch_park(fs->touch, f->ino);
	parked_submit(p, is_spec(&f->node));
}

/* ---- poll -------------------------------------------------------------------- */

static unsigned poll_events_locked(const struct ctl *ctl, const struct ctl_file *f)
{
	unsigned events = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

	if (f->is_changed)
		events |= POLLPRI | POLLERR;
	if (f->is_gone || ctl->is_shut_down)
		events |= POLLERR | POLLHUP;
	return events;
}

void ctl_poll(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi,
	      struct fuse_pollhandle *ph)
{
	struct ctl_file *f = file_of(fi);
	unsigned events = POLLOUT;
	int r = 0;

	if (f) {
		ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&fs->ctl->lock);
		if (ph)
			r = poller_add(&f->poller, ph);
		events = poll_events_locked(fs->ctl, f);
	} else if (ph) {
		fuse_pollhandle_destroy(ph);
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_poll(req, events);
}

static void changed_locked(struct ctl *ctl, uint64_t ino, bool is_gone,
			   struct poller **list)
{
	struct ctl_file *f;

	LIST_FOREACH(f, &ctl->buckets[bucket_of(ino)], in_bucket)
	{
		if (f->ino != ino)
			continue;
		f->is_changed = true;
		f->is_gone |= is_gone;
		poller_take(&f->poller, list);
	}
}

void ctl_changed(struct fs *fs, const struct node *node)
{
	struct poller *list = NULL;

	pthread_mutex_lock(&fs->ctl->lock);
	changed_locked(fs->ctl, node_ino(node), false, &list);
	pthread_mutex_unlock(&fs->ctl->lock);
	poller_wake(list);
}

void ctl_gone(struct fs *fs, enum engine_class class, uint64_t id)
{
	struct poller *list = NULL;
	unsigned n;

	node_files(class, &n);
	pthread_mutex_lock(&fs->ctl->lock);
	for (unsigned i = 0; i < n; i++) {
		struct node node = node_make(class, id, (int)i);

		changed_locked(fs->ctl, node_ino(&node), true, &list);
	}
	pthread_mutex_unlock(&fs->ctl->lock);
	poller_wake(list);
}

void ctl_shutdown(struct fs *fs)
{
	struct poller *list = NULL;
	struct ctl_file *f;

	pthread_mutex_lock(&fs->ctl->lock);
	fs->ctl->is_shut_down = true;
	for (unsigned i = 0; i < N_BUCKETS; i++)
		LIST_FOREACH(f, &fs->ctl->buckets[i], in_bucket)
	poller_take(&f->poller, &list);
	pthread_mutex_unlock(&fs->ctl->lock);
	poller_wake(list);
}
