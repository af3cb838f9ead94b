/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/fs.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"
#include "fs/content.h"
#include "fs/ctl.h"
#include "fs/data.h"
#include "fs/dir.h"
#include "fs/face.h"
#include "fs/inval.h"
#include "fs/perm.h"
#include "fs/touch.h"
#include "fs/tree.h"
#include "fs/wait.h"
#include "fs/watch.h"
#include "fs/xattr.h"

/*
 * The table of operations: each handler turns the inode number into a node and
 * hands the request to the file of its kind.  There is no flush: nothing happens
 * at close.  There is no forget: inode numbers need no table.
 */
enum {
	MAX_BACKGROUND = 65535,
	CONGESTION_THRESHOLD = MAX_BACKGROUND / 4 * 3,
	MAX_WRITE = 1024 * 1024,
	SPACE_UNIT = 4096,
	JOIN_TIMEOUT_S = 5,
};

_Static_assert(MAX_WRITE <= (int)ENGINE_IO_MAX, "one request is one of the engine's");

/* ---- life -------------------------------------------------------------------- */

int fs_new(struct engine *engine, const struct config *config, const char *mountpoint,
	   struct fs **ret_fs)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	int r = data_init();

	if (!fs || r < 0) {
		free(fs);
		return r < 0 ? r : -ENOMEM;
	}
	fs->engine = engine;
	fs->config = config;
	fs->start_ms = timefmt_now_ms();
	fs->mountpoint = strdup(mountpoint);
	fs->content = content_new();
	fs->ctl = ctl_new();
	fs->data_files = data_files_new();
	fs->waits = wait_new();
	fs->inval = inval_new(fs);
	fs->watch = watch_new(fs);
	if (!fs->mountpoint || !fs->content || !fs->ctl || !fs->data_files ||
	    !fs->waits || !fs->inval || !fs->watch)
		r = -ENOMEM;
	if (!r)
		r = touch_new(fs, &fs->touch);
	if (r < 0) {
		fs_free(fs);
		return r;
	}
	engine_subscribe(engine, watch_on_event, fs);
	*ret_fs = fs;
	return 0;
}

void fs_set_session(struct fs *fs, struct fuse_session *se)
{
	fs->session = se;
}

void fs_set_daemon(struct fs *fs, const struct fs_daemon *daemon)
{
	fs->daemon = *daemon;
}

static int start_threads(struct fs *fs)
{
	int r = watch_start(fs->watch);

	if (!r)
		r = inval_start(fs->inval);
	if (!r)
		r = touch_start(fs->touch);
	return r;
}

void fs_shutdown(struct fs *fs)
{
	touch_stop(fs->touch);
	inval_stop(fs->inval);
	watch_stop(fs->watch);
	wait_shutdown(fs);
	ctl_shutdown(fs);
}

/* Ends the threads; false if one still sits in the kernel, on a request that
 * nobody will answer. */
static bool join_threads(struct fs *fs)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += JOIN_TIMEOUT_S;
	if (fs->watch) {
		watch_stop(fs->watch);
		if (watch_join(fs->watch, &deadline) < 0)
			return false;
	}
	if (fs->inval) {
		inval_stop(fs->inval);
		if (inval_join(fs->inval, &deadline) < 0)
			return false;
	}
	return true;
}

void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	/* What a thread may still use is left to the end of the process. */
	if (!join_threads(fs)) {
		log_warn("%s: a notification is stuck in the kernel", fs->mountpoint);
		return;
	}
	watch_free(fs->watch);
	inval_free(fs->inval);
	touch_free(fs->touch);
	wait_free(fs->waits);
	ctl_free(fs->ctl);
	data_files_free(fs->data_files);
	content_free(fs->content);
	free(fs->mountpoint);
	free(fs);
}

/*
 * max_background: with the default of 12, that many reads of one dead LUN would
 * hang those of all others.  ATOMIC_O_TRUNC off: truncation comes as a setattr,
 * which does nothing.  AUTO_INVAL_DATA off: pages are dropped by notification,
 * not by comparing times.  No writeback cache: one write() is one request.  No
 * readdirplus: attributes of control files may not be kept, so the stat of each
 * comes anyway (measured: ls -lR of 1,000 groups takes the same time).
 */
static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	const unsigned off = FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA |
			     FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ |
			     FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
			     FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS;
	const unsigned on =
		FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS;
	struct fs *fs = userdata;
	int r;

	conn->want &= ~off;
	conn->want |= conn->capable & on;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = CONGESTION_THRESHOLD;
	if (conn->max_write > MAX_WRITE)
		conn->max_write = MAX_WRITE;
	r = start_threads(fs);
	if (r < 0)
		log_warn("%s: starting the watchers: %s", fs->mountpoint, strerror(-r));
	fs->daemon.on_init(fs->daemon.opaque);
}

/* ---- names and attributes ---------------------------------------------------- */

static struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* The node of a request; false: it has been answered. */
static bool get_node(fuse_req_t req, fuse_ino_t ino, struct node *ret_node)
{
	int r = node_from_ino(ino, ret_node);

	if (r < 0)
		fuse_reply_err(req, -r);
	return !r;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	struct node dir, node;
	bool is_fixed;
	int r;

	if (!get_node(req, parent, &dir))
		return;
	r = tree_lookup(fs, &dir, name, &node, &is_fixed);
	if (!r)
		r = tree_entry(fs, &node, is_fixed, &e);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_entry(req, &e);
}

/* An inode whose object has gone is stale. */
static int get_attr(struct fs *fs, const struct node *node, struct stat *ret_st,
		    double *ret_timeout)
{
	int r = tree_attr(fs, node, ret_st, ret_timeout);

	return r == -ENOENT ? -ESTALE : r;
}

static void reply_attr(fuse_req_t req, const struct node *node)
{
	struct stat st;
	double timeout;
	int r = get_attr(fs_of(req), node, &st, &timeout);

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &st, timeout);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node node;

	(void)fi;
	if (get_node(req, ino, &node))
		reply_attr(req, &node);
}

/* A size: of data to 0 or what it is, of a control file to 0, and nothing happens. */
static int check_size(fuse_req_t req, const struct node *node, const struct stat *st,
		      off_t size, bool is_open)
{
	int r = is_open ? 0 : perm_check_req(req, st, W_OK);

	/* An image that is read-only, to all. */
	if (r < 0 && node_type(node) == NODE_TYPE_DATA && !(st->st_mode & 0222))
		return -EROFS;
	if (r < 0)
		return r;
	switch (node_type(node)) {
	case NODE_TYPE_DATA:
		return data_truncate(st, size);
	case NODE_TYPE_CTL:
		return size ? -EINVAL : 0;
	default:
		return -EINVAL;
	}
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node node;
	struct stat st;
	double timeout;
	int r;

	if (!get_node(req, ino, &node))
		return;
	r = get_attr(fs, &node, &st, &timeout);
	if (!r)
		r = perm_check_setattr_req(req, &st, attr,
					   to_set & FUSE_SET_ATTR_SIZE ? 0 : to_set);
	if (!r && to_set & FUSE_SET_ATTR_SIZE)
		r = check_size(req, &node, &st, attr->st_size, fi);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &st, timeout);
}

static void on_readlink(fuse_req_t req, fuse_ino_t ino)
{
	CLEANUP_STRBUF struct strbuf target = STRBUF_INIT;
	struct node node;
	int64_t time_ms;
	int r;

	if (!get_node(req, ino, &node))
		return;
	if (node_type(&node) != NODE_TYPE_LINK) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	r = content_link(fs_of(req), &node, &target, &time_ms);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_readlink(req, target.s);
}

/* As an open would answer. */
static bool is_read_only(struct fs *fs, const struct node *node)
{
	struct element_info info;

	return node_type(node) == NODE_TYPE_DATA &&
	       !engine_element_info(fs->engine, node->id, &info) && info.read_only;
}

static void on_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	struct node node;
	struct stat st;
	int r;

	if (!get_node(req, ino, &node))
		return;
	tree_mode(fs_of(req), &node, &st);
	r = perm_check_req(req, &st, mask);
	if (!r && mask & W_OK && is_read_only(fs_of(req), &node))
		r = -EROFS;
	fuse_reply_err(req, -r);
}

static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = {
		.f_bsize = SPACE_UNIT,
		.f_frsize = SPACE_UNIT,
		.f_namemax = NAME_ELEMENT_MAX_LEN,
	};
	uint64_t total, available;

	(void)ino;
	engine_space(fs_of(req)->engine, &total, &available);
	st.f_blocks = total / SPACE_UNIT;
	st.f_bfree = available / SPACE_UNIT;
	st.f_bavail = st.f_bfree;
	fuse_reply_statfs(req, &st);
}

/* ---- open files -------------------------------------------------------------- */

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node node;

	if (!get_node(req, ino, &node))
		return;
	switch (node_type(&node)) {
	case NODE_TYPE_CTL:
		return ctl_open(fs, req, &node, fi);
	case NODE_TYPE_WAIT:
		return wait_open(fs, req, &node, fi);
	case NODE_TYPE_DATA:
		return data_open(fs, req, &node, fi);
	default:
		fuse_reply_err(req, EINVAL);
	}
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node node;

	if (!get_node(req, ino, &node))
		return;
	switch (node_type(&node)) {
	case NODE_TYPE_CTL:
		return ctl_read(fs, req, size, offset, fi);
	case NODE_TYPE_WAIT:
		return wait_read(fs, req, size, offset, fi);
	case NODE_TYPE_DATA:
		return data_read(fs, req, size, offset, fi);
	default:
		fuse_reply_err(req, EINVAL);
	}
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
		     off_t offset, struct fuse_file_info *fi)
{
	struct node node;

	if (!get_node(req, ino, &node))
		return;
	switch (node_type(&node)) {
	case NODE_TYPE_CTL:
		return ctl_write(fs_of(req), req, buf, size, fi);
	case NODE_TYPE_DATA:
		return data_write(fs_of(req), req, buf, size, offset, fi);
	default:
		fuse_reply_err(req, EROFS);
	}
}

static void on_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
		    struct fuse_pollhandle *ph)
{
	struct fs *fs = fs_of(req);
	struct node node;

	if (!get_node(req, ino, &node)) {
		if (ph)
			fuse_pollhandle_destroy(ph);
		return;
	}
	switch (node_type(&node)) {
	case NODE_TYPE_CTL:
		return ctl_poll(fs, req, fi, ph);
	case NODE_TYPE_WAIT:
		return wait_poll(fs, req, fi, ph);
	default:
		if (ph)
			fuse_pollhandle_destroy(ph);
		fuse_reply_poll(req, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
	}
}

/* The text of a control file has no holes. */
static void seek_in_text(fuse_req_t req, const struct node *node, off_t offset,
			 int whence)
{
	struct stat st;
	double timeout;
	int r = get_attr(fs_of(req), node, &st, &timeout);

	if (!r && (offset < 0 || offset >= st.st_size))
		r = -ENXIO;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? offset : st.st_size);
}

static void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		     struct fuse_file_info *fi)
{
	struct node node;

	if (!get_node(req, ino, &node))
		return;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		fuse_reply_err(req, EINVAL);
	else if (node_type(&node) == NODE_TYPE_DATA)
		data_seek(fs_of(req), req, offset, whence, fi);
	else
		seek_in_text(req, &node, offset, whence);
}

/* A write to a control file has taken effect, durably, when it was answered. */
static void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	struct node node;

	(void)datasync;
	if (!get_node(req, ino, &node))
		return;
	if (node_type(&node) == NODE_TYPE_DATA)
		data_fsync(fs_of(req), req, fi);
	else
		fuse_reply_err(req, 0);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
			 off_t length, struct fuse_file_info *fi)
{
	struct node node;

	if (!get_node(req, ino, &node))
		return;
	if (node_type(&node) == NODE_TYPE_DATA)
		data_fallocate(fs_of(req), req, &node, mode, offset, length, fi);
	else
		fuse_reply_err(req, EOPNOTSUPP);
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node node;

	if (!get_node(req, ino, &node))
		return;
	switch (node_type(&node)) {
	case NODE_TYPE_CTL:
		return ctl_release(fs, req, fi);
	case NODE_TYPE_WAIT:
		return wait_release(fs, req, fi);
	case NODE_TYPE_DATA:
		return data_release(fs, req, fi);
	default:
		fuse_reply_err(req, 0);
	}
}

/* ---- directories ------------------------------------------------------------- */

static void on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node node;

	if (get_node(req, ino, &node))
		dir_open(fs_of(req), req, &node, fi);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	(void)ino;
	dir_read(fs_of(req), req, size, offset, fi);
}

static void on_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	dir_release(fs_of(req), req, fi);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node node;

	(void)mode;
	if (get_node(req, parent, &node))
		dir_make(fs_of(req), req, &node, name);
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node node;

	if (get_node(req, parent, &node))
		dir_remove(fs_of(req), req, &node, name);
}

/* What the tree has no use for. */
static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	(void)parent;
	(void)name;
	(void)mode;
	(void)fi;
	fuse_reply_err(req, EPERM);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		     dev_t rdev)
{
	(void)parent;
	(void)name;
	(void)mode;
	(void)rdev;
	fuse_reply_err(req, EPERM);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		      fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
	(void)parent;
	(void)name;
	(void)new_parent;
	(void)new_name;
	(void)flags;
	fuse_reply_err(req, EPERM);
}

static void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent,
		    const char *new_name)
{
	(void)ino;
	(void)new_parent;
	(void)new_name;
	fuse_reply_err(req, EPERM);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		       const char *name)
{
	(void)target;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

/* ---- extended attributes ----------------------------------------------------- */

static void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct node node;

	if (get_node(req, ino, &node))
		xattr_get(fs_of(req), req, &node, name, size);
}

static void on_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			const char *value, size_t size, int flags)
{
	struct node node;

	(void)flags;
	if (get_node(req, ino, &node))
		xattr_set(fs_of(req), req, &node, name, value, size);
}

const struct fuse_lowlevel_ops fs_ops = {
	.init = on_init,
	.lookup = on_lookup,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.readlink = on_readlink,
	.access = on_access,
	.statfs = on_statfs,
	.open = on_open,
	.read = on_read,
	.write = on_write,
	.poll = on_poll,
	.lseek = on_lseek,
	.fsync = on_fsync,
	.fallocate = on_fallocate,
	.release = on_release,
	.opendir = on_opendir,
	.readdir = on_readdir,
	.releasedir = on_releasedir,
	.fsyncdir = on_fsync,
	.mkdir = on_mkdir,
	.rmdir = on_rmdir,
	.create = on_create,
	.mknod = on_mknod,
	.unlink = on_unlink,
	.rename = on_rename,
	.link = on_link,
	.symlink = on_symlink,
	.getxattr = on_getxattr,
	.setxattr = on_setxattr,
};
