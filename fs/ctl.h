/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CTL_H
#define LUNFS_CTL_H

/*
 * Control files: a read is a snapshot, a write is a command (interface section
 * 2), a poll tells of changes as kernfs does.
 */

#include <fuse_lowlevel.h>

#include "fs/face.h"
#include "fs/node.h"

struct ctl *ctl_new(void); /* NULL: no memory */
void ctl_free(struct ctl *ctl);

/* The handlers; fi->fh is a struct ctl_file, or 0 for a toucher's open. */
void ctl_open(struct fs *fs, fuse_req_t req, const struct node *node,
	      struct fuse_file_info *fi);
void ctl_read(struct fs *fs, fuse_req_t req, size_t size, off_t offset,
	      struct fuse_file_info *fi);
void ctl_write(struct fs *fs, fuse_req_t req, const char *buf, size_t size,
	       struct fuse_file_info *fi);
void ctl_poll(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi,
	      struct fuse_pollhandle *ph);
void ctl_release(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi);

/* The notifier's: the text of a file has changed; an object has gone. */
void ctl_changed(struct fs *fs, const struct node *node);
void ctl_gone(struct fs *fs, enum engine_class class, uint64_t id);

/* Every poll answers POLLERR and POLLHUP from now on. */
void ctl_shutdown(struct fs *fs);

#endif
