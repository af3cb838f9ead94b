/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_WAIT_H
#define LUNFS_WAIT_H

/*
 * wait/<CopyState>: a read that is answered when the group is, or since the open
 * has been, in that state.  Waiting reads take no thread, they stand in a table
 * by group.
 */

#include <fuse_lowlevel.h>

#include "fs/face.h"
#include "fs/node.h"

struct waits *wait_new(void); /* NULL: no memory */
void wait_free(struct waits *waits);

/* The handlers; fi->fh is a struct wait_file. */
void wait_open(struct fs *fs, fuse_req_t req, const struct node *node,
	       struct fuse_file_info *fi);
void wait_read(struct fs *fs, fuse_req_t req, size_t size, off_t offset,
	       struct fuse_file_info *fi);
void wait_poll(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi,
	       struct fuse_pollhandle *ph);
void wait_release(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi);

/* The notifier's: something about this group has changed; answer those whose
 * process had a signal (watch_wake() was called for them). */
void wait_check(struct fs *fs, uint64_t group);
void wait_answer_interrupted(struct fs *fs);

/* Answers all with ENOTCONN, and those that come from now on. */
void wait_shutdown(struct fs *fs);

#endif
