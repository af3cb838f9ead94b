/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TREE_H
#define LUNFS_TREE_H

/*
 * The shape of the tree: what a directory holds, what a name in it means, what
 * stat shows.  Everything is asked of the engine at the time; any thread.
 */

#include <fuse_lowlevel.h>

#include "conf/strbuf.h"
#include "fs/face.h"
#include "fs/node.h"

/* The node of a name in a directory: 0, -ENOENT, -ENOTDIR.  *ret_is_fixed: the
 * name means this for as long as the directory lives. */
int tree_lookup(struct fs *fs, const struct node *dir, const char *name,
		struct node *ret_node, bool *ret_is_fixed);

/* What stat shows, and for how many seconds that may be kept.  -ENOENT: the
 * object is gone. */
int tree_attr(struct fs *fs, const struct node *node, struct stat *ret_st,
	      double *ret_timeout);

/* Only type, mode and owner, and without asking whether it still exists: what
 * permissions are checked against. */
void tree_mode(const struct fs *fs, const struct node *node, struct stat *ret_st);

/* Attributes and timeouts of a node as the answer to a lookup. */
int tree_entry(struct fs *fs, const struct node *node, bool is_fixed,
	       struct fuse_entry_param *ret_entry);

/* Calls fn for each name that readdir shows, "." and ".." excepted.  fn may be
 * called with the engine's lock held.  -ENOENT. */
int tree_list(struct fs *fs, const struct node *dir,
	      void (*fn)(void *opaque, const char *name, const struct node *node),
	      void *opaque);

/* The directory that a directory is in. */
struct node tree_parent(struct fs *fs, const struct node *dir);

/* The absolute path of a control file, through the mount.  -ENOENT. */
int tree_path(struct fs *fs, const struct node *node, struct strbuf *b);

#endif
