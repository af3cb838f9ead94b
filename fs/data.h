/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_DATA_H
#define LUNFS_DATA_H

/*
 * elements/<E>/data and images/<name>: the bytes of an element as a regular
 * file.  What is at hand is answered by the thread that reads requests, all else by
 * whichever thread the engine finishes the request in.
 */

#include <fuse_lowlevel.h>

#include "fs/face.h"
#include "fs/node.h"

/* Is this the fh of an open data file?  Its reads and writes hand on what they cannot
 * do at once. */
bool data_is_file(uint64_t fh);

/* The handlers; fi->fh is a struct data_file, marked. */
void data_open(struct fs *fs, fuse_req_t req, const struct node *node,
	       struct fuse_file_info *fi);
void data_read(struct fs *fs, fuse_req_t req, size_t size, off_t offset,
	       struct fuse_file_info *fi);
/* buf is free again on return. */
void data_write(struct fs *fs, fuse_req_t req, const char *buf, size_t size, off_t offset,
		struct fuse_file_info *fi);
void data_fsync(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi);
/* mode: FALLOC_FL_… of fallocate(2). */
void data_fallocate(struct fs *fs, fuse_req_t req, const struct node *node, int mode,
		    off_t offset, off_t length, struct fuse_file_info *fi);
void data_seek(struct fs *fs, fuse_req_t req, off_t offset, int whence,
	       struct fuse_file_info *fi);
void data_release(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi);

/* truncate(2), and O_TRUNC: to 0 and to the present size (0 as long as there is
 * none) it does nothing, else it is EINVAL.  0 or -errno. */
int data_truncate(const struct stat *st, off_t size);

/* The open files.  free closes those that are left, with no request under way
 * and the engine still there; takes NULL. */
struct data_files *data_files_new(void);
void data_files_free(struct data_files *files);

/* Each thread that reads has a buffer, which goes with the thread. */
int data_init(void); /* once a process; -errno */

#endif
