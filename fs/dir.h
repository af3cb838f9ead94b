/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_DIR_H
#define LUNFS_DIR_H

/*
 * Directories: listing them, and mkdir and rmdir, which are commands of the
 * engine.
 */

#include <fuse_lowlevel.h>

#include "fs/face.h"
#include "fs/node.h"

/* The handlers; fi->fh is a struct dir. */
void dir_open(struct fs *fs, fuse_req_t req, const struct node *node,
	      struct fuse_file_info *fi);
void dir_read(struct fs *fs, fuse_req_t req, size_t size, off_t offset,
	      struct fuse_file_info *fi);
void dir_release(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi);

/* `parent`: the directory in which. */
void dir_make(struct fs *fs, fuse_req_t req, const struct node *parent, const char *name);
void dir_remove(struct fs *fs, fuse_req_t req, const struct node *parent,
		const char *name);

#endif
