/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_XATTR_H
#define LUNFS_XATTR_H

/*
 * Extended attributes of the root: what lunfs --stop speaks with the daemon by
 * (fs/stop.h has their list).  Nothing else has any.
 */

#include <fuse_lowlevel.h>

#include "fs/face.h"
#include "fs/node.h"

void xattr_get(struct fs *fs, fuse_req_t req, const struct node *node, const char *name,
	       size_t size);
void xattr_set(struct fs *fs, fuse_req_t req, const struct node *node, const char *name,
	       const char *value, size_t size);

#endif
